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

/// Equal as a server stores it: it keeps payloads as text, and reads a number back within three units in the last place
/// of a double.
pub(super) fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) else { return false };
            (a - b).abs() <= 1e-15 * a.abs().max(b.abs())
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => same_payload(a, b),
        _ => a == b,
    }
}

/// The same of a payload.
pub(super) fn same_payload(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_alike_within_what_a_server_makes_of_them() {
        for (a, b, same) in [
            (json!(0.3), json!(0.1 + 0.2), true),
            (json!([{ "x": 4.246_935_327_394_735e299 }]), json!([{ "x": 4.246_935_327_394_736e299 }]), true),
            (json!(0.0), json!(-0.0), true),
            (json!(0.1), json!(0.100_000_000_000_01), false),
            (json!(1), json!(1.0), false),
            (json!(u64::MAX), json!(18_446_744_073_709_551_615.0), false),
            (json!({ "a": null }), json!({}), false),
            (json!([1, 2]), json!([1]), false),
        ] {
            assert_eq!(alike(&a, &b), same, "{a} {b}");
        }
    }
}
