//! A Qdrant collection's configuration and payload indexes as plain data, and what it takes to change one into another.

use std::collections::BTreeMap;

/// A collection schema, declared or observed, in Qdrant's REST vocabulary. An absent field is not declared.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Schema {
    pub payload_indexes: BTreeMap<String, String>,
}
