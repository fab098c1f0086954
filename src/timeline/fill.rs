//! `[[fill]]`: data work of a version on its collections.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// One `[[fill]]`. Done twice it ends the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FillToml", into = "FillToml")]
pub struct Fill {
    /// The `match` of the declaration whose collections it is for; all that it can be for if not given.
    pub matching: Option<String>,
    pub what: FillWhat,
}

/// What a fill does to each point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FillWhat {
    /// Makes a vector where it is missing.
    Vector { name: String, from: FillSource },
    /// Gives every point this payload value.
    Set { key: String, value: Value },
    /// Gives the points without this payload key the value.
    Default { key: String, value: Value },
    /// Moves a payload value to another key.
    Rename { key: String, from: String },
    /// Takes a payload key away.
    Remove { key: String },
}

/// Where a fill takes the values of a vector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FillSource {
    /// Another vector of the same point; the empty name is the one unnamed vector.
    Vector(String),
    /// A payload value: an array of numbers, a list of such, or indices and values.
    Payload(String),
}

/// The keys of a fill as they are written.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FillToml {
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    matching: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<FillSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<Value>,
    #[serde(rename = "default", skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renamed_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remove: Option<bool>,
}

impl TryFrom<FillToml> for Fill {
    type Error = &'static str;

    fn try_from(toml: FillToml) -> Result<Self, &'static str> {
        const ONE: &str =
            "a [[fill]] of a payload key has exactly one of set, default, renamed_from and remove = true";
        let FillToml { matching, vector, from, payload, set, value, renamed_from, remove } = toml;
        let what = match (vector, payload) {
            (Some(_), Some(_)) | (None, None) => {
                return Err("a [[fill]] has either vector or payload: what it fills");
            }
            (Some(name), None) => match (from, set, value, renamed_from, remove) {
                (Some(from), None, None, None, None) => FillWhat::Vector { name, from },
                (None, ..) => return Err("missing field `from`"),
                _ => return Err("a [[fill]] of a vector has vector and from, and nothing of a payload"),
            },
            (None, Some(key)) => match (from, set, value, renamed_from, remove) {
                (Some(_), ..) => return Err("`from` is for vectors; a payload key has renamed_from"),
                (None, Some(value), None, None, None) => FillWhat::Set { key, value },
                (None, None, Some(value), None, None) => FillWhat::Default { key, value },
                (None, None, None, Some(from), None) => FillWhat::Rename { key, from },
                (None, None, None, None, Some(true)) => FillWhat::Remove { key },
                _ => return Err(ONE),
            },
        };
        Ok(Self { matching, what })
    }
}

impl From<Fill> for FillToml {
    fn from(fill: Fill) -> Self {
        let toml = Self { matching: fill.matching, ..Self::default() };
        match fill.what {
            FillWhat::Vector { name, from } => Self { vector: Some(name), from: Some(from), ..toml },
            FillWhat::Set { key, value } => Self { payload: Some(key), set: Some(value), ..toml },
            FillWhat::Default { key, value } => Self { payload: Some(key), value: Some(value), ..toml },
            FillWhat::Rename { key, from } => Self { payload: Some(key), renamed_from: Some(from), ..toml },
            FillWhat::Remove { key } => Self { payload: Some(key), remove: Some(true), ..toml },
        }
    }
}

/// `vector content`, `payload embedding`.
impl fmt::Display for FillSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vector(name) if name.is_empty() => f.write_str("the unnamed vector"),
            Self::Vector(name) => write!(f, "vector {name}"),
            Self::Payload(key) => write!(f, "payload {key}"),
        }
    }
}

/// `fill vector semantic from vector content`.
impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            FillWhat::Vector { name, from } => write!(f, "fill vector {name} from {from}"),
            FillWhat::Set { key, .. } => write!(f, "set payload {key}"),
            FillWhat::Default { key, .. } => write!(f, "set payload {key} where it is missing"),
            FillWhat::Rename { key, from } => write!(f, "rename payload {from} to {key}"),
            FillWhat::Remove { key } => write!(f, "remove payload {key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fill_is_read_and_written_again() {
        for (toml, words) in [
            ("vector = 'b'\nfrom = { vector = 'a' }", "fill vector b from vector a"),
            ("vector = 'b'\nfrom = { vector = '' }", "fill vector b from the unnamed vector"),
            ("match = 'm*'\nvector = 'b'\nfrom = { payload = 'e' }", "fill vector b from payload e"),
            ("payload = 'k'\nset = { a = [1, 'x'] }", "set payload k"),
            ("payload = 'k'\ndefault = false", "set payload k where it is missing"),
            ("payload = 'k'\nrenamed_from = 'o'", "rename payload o to k"),
            ("payload = 'k'\nremove = true", "remove payload k"),
        ] {
            let fill: Fill = toml::from_str(toml).unwrap();
            assert_eq!(fill.to_string(), words);
            let json = serde_json::to_string(&fill).unwrap();
            assert_eq!(serde_json::from_str::<Fill>(&json).unwrap(), fill);
        }
    }

    #[test]
    fn contradictory_fills_are_refused() {
        for (toml, words) in [
            ("", "either vector or payload"),
            ("vector = 'a'\npayload = 'b'\nset = 1", "either vector or payload"),
            ("vector = 'a'", "missing field `from`"),
            ("vector = 'a'\nfrom = { vector = 'b' }\nset = 1", "nothing of a payload"),
            ("payload = 'a'", "exactly one of"),
            ("payload = 'a'\nremove = false", "exactly one of"),
            ("payload = 'a'\nset = 1\ndefault = 1", "exactly one of"),
            ("payload = 'a'\nset = 1\nremove = true", "exactly one of"),
            ("payload = 'a'\nfrom = { payload = 'b' }", "renamed_from"),
            ("payload = 'a'\nsett = 1", "unknown field `sett`"),
        ] {
            let error = toml::from_str::<Fill>(toml).unwrap_err().to_string();
            assert!(error.contains(words), "{toml}: {error}");
        }
    }
}
