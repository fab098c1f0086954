//! A point as plain data.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// In the order in which a server scrolls: numbers before UUIDs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PointId {
    Number(u64),
    Uuid(String),
}

/// One vector of a point.
#[derive(Debug, Clone, PartialEq)]
pub enum Vector {
    Dense(Vec<f32>),
    Sparse {
        indices: Vec<u32>,
        values: Vec<f32>,
    },
    /// A list of dense vectors of one size.
    Multi(Vec<Vec<f32>>),
}

/// A point with those vectors that it has, by name, and its payload.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub id: PointId,
    pub vectors: BTreeMap<String, Vector>,
    pub payload: Map<String, Value>,
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Uuid(uuid) => f.write_str(uuid),
        }
    }
}

impl Point {
    /// About how much of a message the point is, in bytes.
    pub fn bytes(&self) -> usize {
        let vectors = self.vectors.iter().map(|(name, vector)| name.len() + vector.bytes());
        vectors.sum::<usize>()
            + self.payload.iter().map(|(key, value)| key.len() + size(value)).sum::<usize>()
    }
}

impl Vector {
    fn bytes(&self) -> usize {
        4 * match self {
            Self::Dense(values) => values.len(),
            Self::Sparse { indices, values } => indices.len() + values.len(),
            Self::Multi(rows) => rows.iter().map(Vec::len).sum(),
        }
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 4,
        Value::Number(_) => 12,
        Value::String(text) => text.len() + 4,
        Value::Array(values) => values.iter().map(size).sum::<usize>() + 4,
        Value::Object(fields) => fields.iter().map(|(key, value)| key.len() + size(value) + 4).sum(),
    }
}
