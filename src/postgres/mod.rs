//! The Postgres edge.

mod connect;
pub mod detector;
pub mod fault;
pub mod introspect;

pub use connect::{connect, create_database};
pub use fault::Fault;
