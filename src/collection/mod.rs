//! A Qdrant collection's configuration and payload indexes as plain data, and what it takes to change one into another.

mod schema;

pub use schema::*;
