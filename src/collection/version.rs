//! Server versions, and which of them know what.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The oldest server that tandem works with: the first with collection metadata, where the stamp is kept.
pub const MINIMUM: ServerVersion = ServerVersion::new(1, 15, 4);

/// A Qdrant server's version. A pre-release counts as its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerVersion {
    major: u16,
    minor: u16,
    patch: u16,
}

impl ServerVersion {
    /// `major.minor.patch`.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The text is not a version; it names the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a server version such as 1.17.0")]
pub struct NotAVersion(String);

impl FromStr for ServerVersion {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let release = text.trim().trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
        let numbers: Vec<u16> = release
            .split('.')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| NotAVersion(text.to_string()))?;
        match numbers[..] {
            [major, minor, patch] => Ok(Self { major, minor, patch }),
            [major, minor] => Ok(Self { major, minor, patch: 0 }),
            _ => Err(NotAVersion(text.to_string())),
        }
    }
}

impl TryFrom<String> for ServerVersion {
    type Error = NotAVersion;

    fn try_from(text: String) -> Result<Self, NotAVersion> {
        text.parse()
    }
}

impl From<ServerVersion> for String {
    fn from(version: ServerVersion) -> Self {
        version.to_string()
    }
}

/// What a server does with a field that is not set, and since when it knows the field.
pub(super) struct Field {
    /// Path in the schema; `*` stands for one name.
    path: &'static [&'static str],
    /// Only this value of the field; any if `None`.
    value: Option<&'static str>,
    /// Servers before this one drop the field without an error, or refuse it.
    pub since: ServerVersion,
    /// The value that an unset field has the effect of, as JSON.
    pub default: Option<&'static str>,
}

impl Field {
    const fn new(path: &'static [&'static str]) -> Self {
        Self { path, value: None, since: MINIMUM, default: None }
    }

    const fn value(mut self, value: &'static str) -> Self {
        self.value = Some(value);
        self
    }

    const fn since(mut self, minor: u16, patch: u16) -> Self {
        self.since = ServerVersion::new(1, minor, patch);
        self
    }

    const fn unset_is(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    fn covers(&self, path: &[&str], value: &serde_json::Value) -> bool {
        self.path.len() == path.len()
            && self.path.iter().zip(path).all(|(pattern, name)| *pattern == "*" || pattern == name)
            && self.value.is_none_or(|wanted| value.as_str() == Some(wanted))
    }
}

/// The rules of one value of one field, those of the value before those of the field.
pub(super) fn rules<'a>(
    path: &'a [&'a str],
    value: &'a serde_json::Value,
) -> impl Iterator<Item = &'static Field> + 'a {
    FIELDS.iter().filter(move |field| field.covers(path, value))
}

/// The fields that not every server since [`MINIMUM`] knows, or whose absence has a meaning. From the protocol files
/// of the server's tags 1.15.4 to 1.19.0, and of the 1.20 client for what came after; the suite has run on 1.16.3 and
/// 1.17.0 only.
static FIELDS: &[Field] = &[
    Field::new(&["vectors", "*", "datatype"]).unset_is("\"float32\""),
    Field::new(&["vectors", "*", "datatype"]).value("turbo4").since(18, 2),
    Field::new(&["vectors", "*", "datatype"]).value("turbo8").since(20, 0),
    Field::new(&["vectors", "*", "datatype"]).value("turbo16").since(20, 0),
    Field::new(&["vectors", "*", "memory"]).since(19, 0),
    Field::new(&["vectors", "*", "hnsw_config", "inline_storage"]).since(16, 0).unset_is("false"),
    Field::new(&["vectors", "*", "hnsw_config", "memory"]).since(19, 0),
    Field::new(&["vectors", "*", "quantization_config"]).value("turbo").since(18, 0),
    Field::new(&["vectors", "*", "quantization_config", "*", "always_ram"]).unset_is("false"),
    Field::new(&["vectors", "*", "quantization_config", "*", "memory"]).since(19, 0),
    Field::new(&["vectors", "*", "quantization_config", "*", "bits"]).value("bits8").since(20, 0),
    Field::new(&["vectors", "*", "quantization_config", "*", "encoding"]).unset_is("\"one_bit\""),
    Field::new(&["vectors", "*", "quantization_config", "*", "query_encoding"]).unset_is("\"default\""),
    Field::new(&["sparse_vectors", "*", "modifier"]).unset_is("\"none\""),
    Field::new(&["sparse_vectors", "*", "index", "datatype"]).unset_is("\"float32\""),
    Field::new(&["sparse_vectors", "*", "index", "on_disk"]).unset_is("false"),
    Field::new(&["sparse_vectors", "*", "index", "memory"]).since(19, 0),
    Field::new(&["hnsw_config", "on_disk"]).unset_is("false"),
    Field::new(&["hnsw_config", "inline_storage"]).since(16, 0).unset_is("false"),
    Field::new(&["hnsw_config", "memory"]).since(19, 0),
    Field::new(&["quantization_config"]).value("turbo").since(18, 0),
    Field::new(&["quantization_config", "*", "always_ram"]).unset_is("false"),
    Field::new(&["quantization_config", "*", "memory"]).since(19, 0),
    Field::new(&["quantization_config", "*", "bits"]).value("bits8").since(20, 0),
    Field::new(&["quantization_config", "*", "encoding"]).unset_is("\"one_bit\""),
    Field::new(&["quantization_config", "*", "query_encoding"]).unset_is("\"default\""),
    Field::new(&["optimizers_config", "max_optimization_threads"]).unset_is("\"auto\""),
    Field::new(&["optimizers_config", "prevent_unoptimized"]).since(17, 0).unset_is("false"),
    Field::new(&["strict_mode_config", "enabled"]).unset_is("false"),
    Field::new(&["strict_mode_config", "search_max_batchsize"]).since(17, 1),
    Field::new(&["strict_mode_config", "max_resident_memory_percent"]).since(18, 0),
    Field::new(&["sharding_method"]).unset_is("\"auto\""),
    Field::new(&["read_fan_out_factor"]).unset_is("0"),
    Field::new(&["read_fan_out_delay_ms"]).since(17, 0).unset_is("0"),
    Field::new(&["payload", "memory"]).since(19, 0),
    Field::new(&["id_tracker", "memory"]).since(20, 0),
    Field::new(&["payload_indexes", "*", "on_disk"]).unset_is("false"),
    Field::new(&["payload_indexes", "*", "memory"]).since(19, 0),
    Field::new(&["payload_indexes", "*", "enable_hnsw"]).since(17, 0).unset_is("true"),
    Field::new(&["payload_indexes", "*", "nested"]).since(20, 0),
    Field::new(&["payload_indexes", "*", "is_tenant"]).unset_is("false"),
    Field::new(&["payload_indexes", "*", "prefix"]).since(19, 0).unset_is("false"),
    Field::new(&["payload_indexes", "*", "is_principal"]).unset_is("false"),
    Field::new(&["payload_indexes", "*", "lookup"]).unset_is("true"),
    Field::new(&["payload_indexes", "*", "range"]).unset_is("true"),
    Field::new(&["payload_indexes", "*", "tokenizer"]).unset_is("\"word\""),
    Field::new(&["payload_indexes", "*", "tokenizer"]).value("code").since(20, 0),
    Field::new(&["payload_indexes", "*", "lowercase"]).unset_is("true"),
    Field::new(&["payload_indexes", "*", "ascii_folding"]).since(16, 0).unset_is("false"),
    Field::new(&["payload_indexes", "*", "phrase_matching"]).unset_is("false"),
    Field::new(&["payload_indexes", "*", "stemmer", "type"]).value("none").since(19, 0),
    Field::new(&["payload_indexes", "*", "scoring", "type"]).since(20, 0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        let read = |text: &str| text.parse::<ServerVersion>();
        assert_eq!(read("1.17.0"), Ok(ServerVersion::new(1, 17, 0)));
        assert_eq!(read("v1.18.1-dev"), Ok(ServerVersion::new(1, 18, 1)));
        assert_eq!(read(" 1.16 "), Ok(ServerVersion::new(1, 16, 0)));
        for text in ["", "1", "1.x.0", "1.2.3.4", "latest"] {
            assert_eq!(
                read(text).unwrap_err().to_string(),
                format!("`{text}` is not a server version such as 1.17.0")
            );
        }
        let ordered = ["1.9.0", "1.15.4", "1.16.0", "2.0.0"].map(|text| read(text).unwrap());
        assert!(ordered.is_sorted());
    }

    #[test]
    fn every_default_is_json() {
        for default in FIELDS.iter().filter_map(|field| field.default) {
            assert!(serde_json::from_str::<serde_json::Value>(default).is_ok(), "{default}");
        }
    }
}
