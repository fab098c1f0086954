//! What is wrong with a declared schema before any server is asked.

use super::{STAMP_KEY, UNNAMED};
use crate::timeline::CollectionDeclaration;
use serde_json::Value;

/// One thing that no collection can be, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    pub message: String,
    pub remedy: &'static str,
}

/// The contradictions in one declaration, in the order of its sections.
pub fn contradictions(declaration: &CollectionDeclaration) -> Vec<Contradiction> {
    let schema = &declaration.schema;
    let mut found = Vec::new();
    let mut add = |message: String, remedy| found.push(Contradiction { message, remedy });
    for (name, params) in &schema.vectors {
        if params.size == Some(0) {
            add(format!("the vector `{name}` has size 0"), "declare the number of dimensions");
        }
        if !declaration.ensure.is_empty() && (params.size.is_none() || params.distance.is_none()) {
            add(
                format!("`ensure` would create the vector `{name}`, whose size or distance is not declared"),
                "declare size and distance of every vector, or remove `ensure`",
            );
        }
        if schema.sparse_vectors.contains_key(name) {
            add(
                format!("the vector `{name}` is declared dense and sparse"),
                "give the sparse vector another name",
            );
        }
    }
    if schema.vectors.contains_key(UNNAMED) && schema.vectors.len() > 1 {
        add(
            "named vectors are declared beside one without a name".into(),
            "name every vector; a collection with one unnamed vector is rebuilt",
        );
    }
    for (key, index) in &schema.payload_indexes {
        if index.lookup == Some(false) && index.range == Some(false) {
            add(
                format!("the integer index `{key}` has neither lookup nor range"),
                "leave one of them on, or remove the index",
            );
        }
    }
    if let Some(limit) = schema.strict_mode_config.as_ref().and_then(|mode| mode.max_payload_index_count)
        && limit < schema.payload_indexes.len() as u64
    {
        let declared = schema.payload_indexes.len();
        add(
            format!("max_payload_index_count is {limit}, and {declared} payload indexes are declared"),
            "raise the limit",
        );
    }
    if schema.metadata.contains_key(STAMP_KEY) {
        add(format!("the metadata key `{STAMP_KEY}` holds the stamp"), "use another key");
    }
    for (key, value) in &schema.metadata {
        if has_datetime(value) {
            add(format!("metadata `{key}` holds a TOML date or time, which JSON lacks"), "quote it");
        }
    }
    found
}

/// Whether a date or time is somewhere in a value. The toml crate hands one to other formats as a table with this key.
fn has_datetime(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.contains_key("$__toml_private_datetime") || map.values().any(has_datetime),
        Value::Array(values) => values.iter().any(has_datetime),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::Schema;
    use crate::timeline::Undeclared;

    fn messages(toml: &str, ensure: &[&str]) -> Vec<String> {
        let schema: Schema = toml::from_str(toml).unwrap();
        let ensure = ensure.iter().map(ToString::to_string).collect();
        let undeclared = Undeclared::default();
        let declaration = CollectionDeclaration { matching: "m".into(), ensure, schema, undeclared };
        contradictions(&declaration).into_iter().map(|found| found.message).collect()
    }

    #[test]
    fn each_contradiction_is_named() {
        for (toml, words) in [
            ("vectors = { a = { size = 0 } }", "size 0"),
            ("vectors = { a = { size = 1 } }\nsparse_vectors = { a = {} }", "dense and sparse"),
            ("vectors = { '' = { size = 1 }, a = { size = 1 } }", "without a name"),
            ("payload_indexes = { n = { type = 'integer', lookup = false, range = false } }", "neither"),
            (
                "strict_mode_config = { max_payload_index_count = 0 }\npayload_indexes = { n = 'geo' }",
                "is 0, and 1",
            ),
            ("metadata = { tandem = 1 }", "the stamp"),
            ("metadata = { a = [{ b = 2026-01-01 }] }", "date or time"),
        ] {
            let found = messages(toml, &[]);
            assert!(found.len() == 1 && found[0].contains(words), "{toml}: {found:?}");
        }
        let incomplete = "vectors = { a = { size = 1 }, b = { size = 1, distance = 'Dot' } }";
        assert_eq!(messages(incomplete, &[]), [""; 0]);
        let found = messages(incomplete, &["m"]);
        assert!(found.len() == 1 && found[0].contains("`a`"), "{found:?}");
    }
}
