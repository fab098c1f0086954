//! What is wrong with a declared schema before any server is asked.

use super::{COMPARED_KEY, Datatype, FENCE_KEY, STAMP_KEY, Schema, Shape, UNNAMED};
use crate::timeline::{CollectionDeclaration, Fill, FillSource, FillWhat};
use serde_json::Value;
use std::collections::BTreeSet;

/// Bytes of a vector's name, as servers from 1.18 on check it; those before fail half-way where a file system's own limit is.
const LONGEST_NAME: usize = 200;

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
    for name in schema.vectors.keys().chain(schema.sparse_vectors.keys()) {
        if name.contains('\0') || name.len() > LONGEST_NAME {
            add(
                format!("{name:?} is no name for a vector"),
                "use at most 200 bytes, and none of them zero: servers make file names of it",
            );
        }
    }
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
    if let Some(alias) = schema.aliases.first()
        && declaration.is_pattern()
    {
        add(
            format!("the alias `{alias}` can lead to one collection, and the pattern matches any number"),
            "declare it where `match` is one name",
        );
    }
    for alias in &schema.aliases {
        if *alias == declaration.matching || declaration.ensure.contains(alias) {
            add(format!("`{alias}` is the name of the collection itself"), "remove it from `aliases`");
        }
        if alias.is_empty() || alias.contains('*') {
            add(format!("`{alias}` is no name for an alias"), "name one alias");
        }
    }
    if schema.metadata.contains_key(STAMP_KEY) {
        add(format!("the metadata key `{STAMP_KEY}` holds the stamp"), "use another key");
    }
    if schema.metadata.contains_key(COMPARED_KEY) {
        add(format!("the metadata key `{COMPARED_KEY}` holds a mark of tandem's"), "use another key");
    }
    if schema.metadata.contains_key(FENCE_KEY) {
        add(format!("the metadata key `{FENCE_KEY}` holds what a fence replaced"), "use another key");
    }
    for (key, value) in &schema.metadata {
        if has_datetime(value) {
            add(format!("metadata `{key}` holds a TOML date or time, which JSON lacks"), "quote it");
        }
    }
    found
}

/// Aliases that two declarations want to lead to their collections: each start would take them from the other.
pub fn shared_aliases(declared: &[CollectionDeclaration]) -> Vec<Contradiction> {
    let all = declared.iter().flat_map(|declaration| &declaration.schema.aliases);
    let mut seen = BTreeSet::new();
    all.filter(|alias| !seen.insert(*alias))
        .map(|alias| Contradiction {
            message: format!("the alias `{alias}` is declared of two collections"),
            remedy: "declare it of one",
        })
        .collect()
}

/// The contradictions in a version's fills: among themselves, and with what is declared at that version and was before.
pub fn fill_contradictions(
    fills: &[Fill],
    declared: &[CollectionDeclaration],
    earlier: &[&CollectionDeclaration],
) -> Vec<Contradiction> {
    let mut found = Vec::new();
    let mut add = |message: String, remedy| found.push(Contradiction { message, remedy });
    let mut written: Vec<(&Option<String>, &str, &str)> = Vec::new();
    for fill in fills {
        let (kind, name) = match &fill.what {
            FillWhat::Vector { name, .. } => ("vector", name),
            FillWhat::Set { key, .. }
            | FillWhat::Default { key, .. }
            | FillWhat::Rename { key, .. }
            | FillWhat::Remove { key } => ("payload", key),
        };
        let clashes = |(matching, k, n): &&(&Option<String>, &str, &str)| {
            (*k, *n) == (kind, name)
                && (matching.is_none() || fill.matching.is_none() || **matching == fill.matching)
        };
        if written.iter().any(|other| clashes(&other)) {
            add(format!("{kind} `{name}` is filled twice"), "fill it once, or in two versions");
        }
        written.push((&fill.matching, kind, name));
        if let Some(matching) = &fill.matching
            && !declared.iter().any(|declaration| declaration.matching == *matching)
        {
            add(
                format!("no [[collection]] has `match = {matching:?}`"),
                "write the `match` of the declaration whose collections are meant, or leave it out",
            );
        }
        let meant = declared.iter().filter(|declaration| {
            fill.matching.as_ref().is_none_or(|matching| *matching == declaration.matching)
        });
        match &fill.what {
            FillWhat::Vector { name, from } => {
                let before = earlier.iter().copied();
                vector_fill(name, from, &meant.collect::<Vec<_>>(), before, &mut add);
            }
            FillWhat::Set { value, .. } | FillWhat::Default { value, .. } if has_datetime(value) => {
                add(format!("the value of `{name}` holds a TOML date or time, which JSON lacks"), "quote it");
            }
            FillWhat::Rename { from, .. } if from == name => {
                add(format!("payload `{name}` is renamed to itself"), "remove the fill");
            }
            _ => {}
        }
        let keys: &[&String] = match &fill.what {
            FillWhat::Vector { from: FillSource::Payload(key), .. } => &[key],
            FillWhat::Vector { .. } => &[],
            FillWhat::Rename { from, .. } => &[name, from],
            _ => &[name],
        };
        for key in keys.iter().filter(|key| key.is_empty() || key.contains(['.', '[', ']', '"', '\\'])) {
            add(
                format!("`{key}` is no top-level payload key"),
                "name a top-level key, without . [ ] \" and \\",
            );
        }
    }
    found
}

fn vector_fill<'a>(
    name: &str,
    from: &FillSource,
    meant: &[&'a CollectionDeclaration],
    earlier: impl Iterator<Item = &'a CollectionDeclaration>,
    add: &mut impl FnMut(String, &'static str),
) {
    let targets: Vec<&Schema> = meant
        .iter()
        .map(|declaration| &declaration.schema)
        .filter(|schema| Shape::of(schema, name).is_some())
        .collect();
    if targets.is_empty() {
        add(
            format!("it names the vector `{name}`, which no collection declares"),
            "declare it in [collection.vectors], or remove the fill",
        );
        return;
    }
    let FillSource::Vector(from) = from else { return };
    if from == name {
        add(format!("the vector `{name}` is filled from itself"), "name another vector in `from`");
        return;
    }
    // The one unnamed vector is what applications make that declare nothing.
    let was = earlier.filter(|declaration| Shape::of(&declaration.schema, from).is_some());
    if from != UNNAMED
        && was.count() == 0
        && !meant.iter().any(|declaration| Shape::of(&declaration.schema, from).is_some())
    {
        add(
            format!("it reads the vector `{from}`, which neither this version nor an earlier one declares"),
            "correct `from`, or declare the vector in the version that has it",
        );
    }
    for target in targets {
        let (Some(to), Some(source)) = (Shape::of(target, name), Shape::of(target, from)) else { continue };
        let fits = match (source, to) {
            (Shape::Dense(a), Shape::Dense(b) | Shape::Multi(b)) | (Shape::Multi(a), Shape::Multi(b)) => {
                a.is_none() || b.is_none() || a == b
            }
            (Shape::Sparse, Shape::Sparse) => true,
            _ => false,
        };
        if !fits {
            add(
                format!("the vector `{name}` is {to} and is filled from `{from}`, which is {source}"),
                "fill it from a vector of the same kind and size, or embed the texts again",
            );
        }
        let datatype = |vector: &str| target.vectors.get(vector).and_then(|params| params.datatype);
        if datatype(name) == Some(Datatype::Uint8) && datatype(from) != Some(Datatype::Uint8) {
            add(
                format!(
                    "the vector `{name}` keeps whole numbers from 0 to 255 and would cut off those of `{from}`"
                ),
                "declare another datatype with a quantization_config",
            );
        }
    }
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
            (r#"vectors = { "a\u0000b" = { size = 1 } }"#, r#""a\0b" is no name"#),
            (&format!("sparse_vectors = {{ {} = {{}} }}", "a".repeat(201)), "is no name for a vector"),
            ("payload_indexes = { n = { type = 'integer', lookup = false, range = false } }", "neither"),
            (
                "strict_mode_config = { max_payload_index_count = 0 }\npayload_indexes = { n = 'geo' }",
                "is 0, and 1",
            ),
            ("metadata = { tandem = 1 }", "the stamp"),
            ("aliases = ['m']", "the collection itself"),
            ("aliases = ['a*']", "no name for an alias"),
            ("metadata = { a = [{ b = 2026-01-01 }] }", "date or time"),
        ] {
            let found = messages(toml, &[]);
            assert!(found.len() == 1 && found[0].contains(words), "{toml}: {found:?}");
        }
        assert_eq!(messages(&format!("vectors = {{ {} = {{ size = 1 }} }}", "a".repeat(200)), &[]), [""; 0]);
        let incomplete = "vectors = { a = { size = 1 }, b = { size = 1, distance = 'Dot' } }";
        assert_eq!(messages(incomplete, &[]), [""; 0]);
        let found = messages(incomplete, &["m"]);
        assert!(found.len() == 1 && found[0].contains("`a`"), "{found:?}");
    }

    #[test]
    fn an_alias_leads_to_one_collection() {
        let declared = |matching: &str, toml: &str| CollectionDeclaration {
            matching: matching.into(),
            ensure: Vec::new(),
            schema: toml::from_str(toml).unwrap(),
            undeclared: Undeclared::default(),
        };
        let found = contradictions(&declared("m*", "aliases = ['a']"));
        assert!(found.len() == 1 && found[0].message.contains("pattern"), "{found:?}");
        assert_eq!(contradictions(&declared("m", "aliases = ['a', 'b']")), []);
        let two = [declared("m", "aliases = ['a', 'b']"), declared("n", "aliases = ['b']")];
        let found = shared_aliases(&two);
        assert!(found.len() == 1 && found[0].message.contains("`b`"), "{found:?}");
        assert_eq!(shared_aliases(&two[..1]), []);
    }

    #[test]
    fn fills_contradict_themselves_or_what_is_declared() {
        let declared = |toml: &str, matching: &str| CollectionDeclaration {
            matching: matching.into(),
            ensure: Vec::new(),
            schema: toml::from_str(toml).unwrap(),
            undeclared: Undeclared::default(),
        };
        let before = declared("vectors = { old = { size = 2 } }", "m");
        let now = [
            declared(
                "vectors = { a = { size = 2 }, b = { size = 2 }, c = { size = 3 }, u = { size = 2, datatype = 'uint8' }, \
                 l = { size = 2, multivector_config = {} } }\nsparse_vectors = { s = {} }",
                "m",
            ),
            declared("vectors = { other = { size = 2 } }", "o"),
        ];
        let messages = |fills: &[&str]| {
            let fills: Vec<Fill> = fills.iter().map(|fill| toml::from_str(fill).unwrap()).collect();
            let found = fill_contradictions(&fills, &now, &[&before]);
            found.into_iter().map(|found| found.message).collect::<Vec<_>>()
        };
        for fine in [
            &["vector = 'b'\nfrom = { vector = 'a' }"][..],
            &["vector = 'a'\nfrom = { vector = '' }"],
            &["vector = 'a'\nfrom = { vector = 'old' }"],
            &["vector = 'l'\nfrom = { vector = 'a' }"],
            &["vector = 's'\nfrom = { payload = 'words' }"],
            &["match = 'm'\npayload = 'k'\nset = 1", "match = 'o'\npayload = 'k'\nset = 2"],
            &["payload = 'k é'\nrenamed_from = 'o'", "payload = 'l'\nremove = true"],
        ] {
            assert_eq!(messages(fine), [""; 0], "{fine:?}");
        }
        for (wrong, words) in [
            (&["vector = 'x'\nfrom = { vector = 'a' }"][..], "`x`, which no collection declares"),
            (&["match = 'o'\nvector = 'b'\nfrom = { vector = 'a' }"], "`b`, which no collection declares"),
            (&["vector = 'b'\nfrom = { vector = 'x' }"], "neither this version nor an earlier one"),
            (&["vector = 'b'\nfrom = { vector = 'b' }"], "from itself"),
            (&["vector = 'c'\nfrom = { vector = 'a' }"], "size 3"),
            (&["vector = 's'\nfrom = { vector = 'a' }"], "a sparse vector"),
            (&["vector = 'a'\nfrom = { vector = 'l' }"], "a list of vectors of size 2"),
            (&["vector = 'u'\nfrom = { vector = 'a' }"], "from 0 to 255"),
            (&["payload = 'k'\nset = 1", "payload = 'k'\nremove = true"], "filled twice"),
            (&["payload = 'k'\nset = 1", "match = 'm'\npayload = 'k'\nset = 2"], "filled twice"),
            (&["match = 'm*'\npayload = 'k'\nset = 1"], "no [[collection]] has"),
            (&["payload = 'k'\nrenamed_from = 'k'"], "to itself"),
            (&["payload = 'a.b'\nremove = true"], "top-level"),
            (&["vector = 'a'\nfrom = { payload = 'a[]' }"], "top-level"),
            (&["payload = 'k'\nset = 2026-01-01"], "date or time"),
        ] {
            let found = messages(wrong);
            assert!(found.iter().any(|message| message.contains(words)), "{wrong:?}: {found:?}");
        }
    }
}
