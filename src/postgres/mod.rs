//! The Postgres edge: logging in, sessions, the ledger, the lock, reading the catalog, and applying versions.

pub mod adoption;
pub mod again;
pub mod apply;
pub mod archive;
pub mod bodies;
pub mod bystanders;
mod connect;
pub mod detector;
pub mod fault;
pub mod guard;
pub mod introspect;
pub mod lock;
pub mod putback;
pub mod repair;
pub mod session;
pub mod store;
pub mod strays;

pub use connect::{connect, create_database};
pub use fault::Fault;
