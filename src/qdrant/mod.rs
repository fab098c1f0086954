//! The edge to Qdrant: one HTTP/2 connection, the collections on it as plain data, and the steps that change them.

mod claim;
mod client;
mod cluster;
mod convert;
mod copy;
pub mod fault;
mod fence;
mod fill;
mod licence;
mod perform;
pub mod points;
mod rebuild;
mod rest;
mod snapshot;
mod sweep;
mod verify;
mod wide;
mod wire;

pub use client::{Client, Survey, attempt};
pub use fault::Fault;
pub use licence::GIVEN_UP;
pub use rebuild::Comparison;
pub use snapshot::Snapshot;
