//! The Postgres edge.

mod connect;
pub mod fault;

pub use connect::{connect, create_database};
pub use fault::Fault;
