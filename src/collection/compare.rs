//! The difference between a declared schema and a collection, and what each part of it takes.

use super::version::rules;
use super::{Datatype, Distance, MINIMUM, Observed, Schema, ServerVersion, Status, UNNAMED, VectorParams};
use crate::timeline::{CollectionDeclaration, Undeclared};
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// Servers from this one on add a vector to a collection while it serves. A collection with one unnamed vector would turn
/// into one with an empty name beside the new one, which breaks its readers: that one is rebuilt. Not proven by the suite
/// yet, like all that only newer servers know.
pub const CREATE_VECTOR_NAME: ServerVersion = ServerVersion::new(1, 18, 0);

/// Servers from this one on delete a vector without losing points at their next restart (qdrant#9105).
pub const DELETE_VECTOR_NAME: ServerVersion = ServerVersion::new(1, 19, 0);

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where: names as in the TOML, the section first.
    pub path: Vec<String>,
    /// What, in words: `16, declared 32`.
    pub difference: String,
    pub kind: Kind,
}

/// What a difference takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The server changes it while it serves.
    InPlace,
    /// A new collection with a copy of all points; why.
    Rebuild(String),
    /// No copy of the points can have it.
    Impossible { reason: String, remedy: String },
    /// The server would refuse it, or drop it without an error.
    NeedsServer { since: ServerVersion, server: ServerVersion },
}

/// The part of a schema that a change belongs to; a server changes one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    // In the order in which they are changed: limits first, so that a wider one lets the rest pass; payload indexes
    // before what makes the server build graphs; what makes it optimize last.
    StrictMode,
    PayloadIndexes,
    Params,
    Quantization,
    Hnsw,
    Vectors,
    SparseVectors,
    Wal,
    Optimizers,
    Metadata,
    Aliases,
}

impl Change {
    pub fn section(&self) -> Section {
        match self.path.first().map(String::as_str) {
            Some("strict_mode_config") => Section::StrictMode,
            Some("payload_indexes") => Section::PayloadIndexes,
            Some("quantization_config") => Section::Quantization,
            Some("hnsw_config") => Section::Hnsw,
            Some("vectors") => Section::Vectors,
            Some("sparse_vectors") => Section::SparseVectors,
            Some("wal_config") => Section::Wal,
            Some("optimizers_config") => Section::Optimizers,
            Some("metadata") => Section::Metadata,
            Some("aliases") => Section::Aliases,
            _ => Section::Params,
        }
    }
}

/// `vectors.content.hnsw_config.m: 16, declared 32`, and what it takes if that is more than a request.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.path.iter().enumerate() {
            let bare =
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
            let dot = if i == 0 { "" } else { "." };
            if bare { write!(f, "{dot}{name}")? } else { write!(f, "{dot}{name:?}")? }
        }
        write!(f, ": {}", self.difference)?;
        match &self.kind {
            Kind::InPlace => Ok(()),
            Kind::Rebuild(reason) => write!(f, " (needs a rebuild: {reason})"),
            Kind::Impossible { reason, .. } => write!(f, " (impossible: {reason})"),
            Kind::NeedsServer { since, server } => write!(f, " (needs server {since}; this one is {server})"),
        }
    }
}

/// Everything declared that the collection does not have, and, as far as `undeclared` says so, what it has beyond
/// that. Only declared fields are compared. Empty means: nothing to do.
pub fn compare(
    declared: &Schema,
    observed: &Observed,
    undeclared: Undeclared,
    server: ServerVersion,
) -> Vec<Change> {
    let mut found = Differences { server, empty: observed.points == 0, changes: Vec::new() };
    let actual = &observed.schema;

    for (name, declared) in &declared.vectors {
        match actual.vectors.get(name) {
            Some(actual) => found.vector(name, declared, actual),
            None => {
                found.missing_vector("vectors", name, actual);
                found.gates(vec!["vectors", name], &json(declared));
            }
        }
    }
    for (name, declared) in &declared.sparse_vectors {
        match actual.sparse_vectors.get(name) {
            Some(actual) => found.fields(vec!["sparse_vectors", name], json(declared), json(actual)),
            None => {
                found.missing_vector("sparse_vectors", name, actual);
                found.gates(vec!["sparse_vectors", name], &json(declared));
            }
        }
    }
    if undeclared.drop_vectors {
        let dense = actual.vectors.keys().filter(|name| !declared.vectors.contains_key(*name));
        let sparse = actual.sparse_vectors.keys().filter(|name| !declared.sparse_vectors.contains_key(*name));
        let extra = dense.map(|name| ("vectors", name)).chain(sparse.map(|name| ("sparse_vectors", name)));
        for (section, name) in extra {
            let kind = match name != UNNAMED && server >= DELETE_VECTOR_NAME {
                true => Kind::InPlace,
                false => Kind::Rebuild("the copy leaves the vector out".into()),
            };
            found.add(vec![section, name], "there, not declared".into(), kind);
        }
    }

    for (key, declared) in &declared.payload_indexes {
        let path = vec!["payload_indexes", key];
        match actual.payload_indexes.get(key) {
            None => {
                let difference = format!("missing, declared {}", declared.r#type.name());
                found.add(path.clone(), difference, Kind::InPlace);
                found.gates(path, &json(declared));
            }
            Some(actual) if actual.r#type != declared.r#type => {
                let difference = format!("{}, declared {}", actual.r#type.name(), declared.r#type.name());
                found.add(path.clone(), difference, Kind::InPlace);
                found.gates(path, &json(declared));
            }
            Some(actual) => found.fields(path, json(declared), json(actual)),
        }
    }
    if undeclared.drop_payload_indexes {
        for (key, index) in &actual.payload_indexes {
            if !declared.payload_indexes.contains_key(key) {
                let difference = format!("{}, not declared", index.r#type.name());
                found.add(vec!["payload_indexes", key], difference, Kind::InPlace);
            }
        }
    }

    for (key, declared) in &declared.metadata {
        let actual = actual.metadata.get(key).unwrap_or(&Value::Null);
        if !equal(declared, actual) {
            let difference = format!("{}, declared {declared}", shown(actual));
            found.add(vec!["metadata", key], difference, Kind::InPlace);
        }
    }

    found.fields(Vec::new(), json(&settings(declared)), json(&settings(actual)));

    // Readers are not led to what a rebuild fills.
    for alias in
        declared.aliases.iter().filter(|alias| !observed.is_shadow() && !observed.aliases.contains(alias))
    {
        found.add(vec!["aliases", alias], "does not lead here".into(), Kind::InPlace);
    }
    found.changes
}

/// What a collection with points that is as one declaration says needs to be as another one says, on the oldest server that
/// is supported.
pub fn between(then: &CollectionDeclaration, now: &CollectionDeclaration) -> Vec<Change> {
    let observed = Observed {
        name: now.matching.clone(),
        schema: then.schema.clone(),
        stamp: None,
        fence: None,
        aliases: then.schema.aliases.iter().cloned().collect(),
        points: 1,
        status: Status::Green,
        optimizer_error: None,
        queued_updates: None,
        deferred_points: None,
    };
    compare(&now.schema, &observed, now.undeclared, MINIMUM)
}

/// What of a declaration a server of this version would refuse, or drop without an error.
pub fn gates(declared: &Schema, server: ServerVersion) -> Vec<Change> {
    let mut found = Differences { server, empty: true, changes: Vec::new() };
    let gated = Schema { metadata: Default::default(), aliases: Default::default(), ..declared.clone() };
    found.gates(Vec::new(), &json(&gated));
    found.changes
}

/// The schema without what has names of the user's own.
fn settings(schema: &Schema) -> Schema {
    Schema {
        vectors: Default::default(),
        sparse_vectors: Default::default(),
        payload_indexes: Default::default(),
        metadata: Default::default(),
        aliases: Default::default(),
        ..schema.clone()
    }
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value)
        .expect("a schema is text keys, text, numbers and flags, which are always JSON")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "not set".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Equal, numbers within the rounding of a 32-bit float: that is what some fields have on the wire.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if !(a.is_f64() || b.is_f64()) => a == b,
        (Value::Number(a), Value::Number(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= f64::from(f32::EPSILON) * a.abs().max(b.abs()),
            _ => false,
        },
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

/// Why a missing vector is one of another name, if a collection has one unnamed vector where named ones are declared or
/// the other way round.
fn unnamed_reason(name: &str, actual: &Schema) -> Option<String> {
    if name == UNNAMED {
        let has = if actual.vectors.is_empty() { "no dense vector" } else { "named vectors" };
        return Some(format!("the collection has {has}"));
    }
    let unnamed = actual.vectors.get(UNNAMED)?;
    let (size, distance) = (unnamed.size.unwrap_or_default(), unnamed.distance);
    let distance = distance.map(|d| format!(" with {d:?}")).unwrap_or_default();
    Some(format!("the collection has one unnamed vector of size {size}{distance}"))
}

struct Differences {
    server: ServerVersion,
    /// No points: nothing is lost, whatever changes.
    empty: bool,
    changes: Vec<Change>,
}

impl Differences {
    fn add(&mut self, path: Vec<&str>, difference: String, kind: Kind) {
        let kind = match kind {
            Kind::Impossible { .. } if self.empty => Kind::Rebuild("the collection has no points".into()),
            kind => kind,
        };
        self.changes.push(Change { path: path.into_iter().map(String::from).collect(), difference, kind });
    }

    fn missing_vector(&mut self, section: &'static str, name: &str, actual: &Schema) {
        let kind = match unnamed_reason(name, actual) {
            Some(reason) => Kind::Rebuild(reason),
            None if self.server >= CREATE_VECTOR_NAME => Kind::InPlace,
            None => Kind::Rebuild(format!(
                "server {} cannot add a vector to an existing collection; from {CREATE_VECTOR_NAME} on one can",
                self.server
            )),
        };
        self.add(vec![section, name], "missing".into(), kind);
    }

    fn vector(&mut self, name: &str, declared: &VectorParams, actual: &VectorParams) {
        // `multivector_config = {}` has no field of its own that could differ.
        if declared.multivector_config.is_some() && actual.multivector_config.is_none() {
            let reason = "each vector becomes a list of one".to_string();
            let path = vec!["vectors", name, "multivector_config"];
            self.add(path, "not set, declared max_sim".into(), Kind::Rebuild(reason));
        }
        let without =
            |params: &VectorParams| json(&VectorParams { multivector_config: None, ..params.clone() });
        self.fields(vec!["vectors", name], without(declared), without(actual));
    }

    /// Walks the declared tree down to its leaves.
    fn fields(&mut self, path: Vec<&str>, declared: Value, actual: Value) {
        self.walk(&path, &declared, &actual);
    }

    fn walk(&mut self, path: &[&str], declared: &Value, actual: &Value) {
        if is_quantization(path) {
            return self.quantization(path, declared, actual);
        }
        match declared {
            // Lists of words are replaced whole.
            Value::Object(fields) if !matches!(path, ["payload_indexes", _, "stopwords"]) => {
                for (name, declared) in fields {
                    let path = [path, &[name.as_str()]].concat();
                    self.walk(&path, declared, actual.get(name).unwrap_or(&Value::Null));
                }
            }
            _ => self.leaf(path, declared, actual),
        }
    }

    /// A kind of quantization with its parameters; kinds are exchanged, parameters of one kind are compared.
    fn quantization(&mut self, path: &[&str], declared: &Value, actual: &Value) {
        match (tag(declared), tag(actual)) {
            ((declared, Some(parameters)), (actual, Some(actuals))) if declared == actual => {
                self.walk(&[path, &[declared]].concat(), parameters, actuals);
            }
            (("Disabled", _), ("not set", _)) => {}
            ((kind, parameters), (actual, _)) => {
                self.leaf(path, &kind.into(), &actual.into());
                if let Some(parameters) = parameters {
                    self.gates([path, &[kind]].concat(), parameters);
                }
            }
        }
    }

    fn leaf(&mut self, path: &[&str], declared: &Value, actual: &Value) {
        if equal(declared, actual) || (actual.is_null() && is_default(path, declared)) {
            return;
        }
        let kind = match self.gate(path, declared) {
            Some(kind) => kind,
            None => kind(path, declared, actual),
        };
        self.add(path.to_vec(), format!("{}, declared {}", shown(actual), shown(declared)), kind);
    }

    /// Adds what the server does not know of a tree that it does not have.
    fn gates(&mut self, path: Vec<&str>, declared: &Value) {
        if is_quantization(&path) {
            let (kind, parameters) = tag(declared);
            self.gated_leaf(&path, &kind.into());
            if let Some(parameters) = parameters {
                self.gates([path.as_slice(), &[kind]].concat(), parameters);
            }
            return;
        }
        match declared {
            Value::Object(fields) => {
                for (name, declared) in fields {
                    self.gates([path.as_slice(), &[name.as_str()]].concat(), declared);
                }
            }
            leaf => self.gated_leaf(&path, leaf),
        }
    }

    fn gated_leaf(&mut self, path: &[&str], declared: &Value) {
        if !is_default(path, declared)
            && let Some(kind) = self.gate(path, declared)
        {
            self.add(path.to_vec(), format!("declared {}", shown(declared)), kind);
        }
    }

    fn gate(&self, path: &[&str], declared: &Value) -> Option<Kind> {
        let since = rules(path, declared).map(|field| field.since).max()?;
        (self.server < since).then_some(Kind::NeedsServer { since, server: self.server })
    }
}

fn is_quantization(path: &[&str]) -> bool {
    matches!(path, ["quantization_config"] | ["vectors", _, "quantization_config"])
}

/// `{"scalar": {…}}` or `"Disabled"` or nothing.
fn tag(quantization: &Value) -> (&str, Option<&Value>) {
    match quantization {
        Value::Object(fields) => {
            fields.iter().next().map_or(("not set", None), |(kind, parameters)| (kind, Some(parameters)))
        }
        Value::String(kind) => (kind, None),
        _ => ("not set", None),
    }
}

fn is_default(path: &[&str], declared: &Value) -> bool {
    rules(path, declared)
        .filter_map(|field| field.default)
        .any(|default| serde_json::from_str(default).is_ok_and(|default: Value| equal(&default, declared)))
}

/// What a differing field takes, from the server's rules for updating a collection.
fn kind(path: &[&str], declared: &Value, actual: &Value) -> Kind {
    let rebuild = |reason: &str| Kind::Rebuild(reason.into());
    let impossible =
        |reason: &str, remedy: &str| Kind::Impossible { reason: reason.into(), remedy: remedy.into() };
    match path {
        ["vectors", name, "size"] => impossible(
            "vectors of another size have to be computed anew",
            &format!(
                "declare size = {} for {}, or embed the texts again into a new collection and set its name",
                shown(actual),
                if name.is_empty() { "the unnamed vector" } else { name },
            ),
        ),
        ["vectors", _, "distance"] => match serde_json::from_value(actual.clone()) {
            Ok(Distance::Cosine) => impossible(
                "Cosine stores normalised vectors, so their lengths are lost",
                "declare distance = \"Cosine\", or embed the texts again into a new collection and set its name",
            ),
            _ => rebuild("vectors are stored and indexed for one distance"),
        },
        ["vectors", _, "datatype"] => datatype(declared, actual),
        ["vectors", _, "multivector_config", ..] => rebuild("multivectors are stored in another form"),
        ["sparse_vectors", _, "index", "datatype"] => rebuild("the weights are stored in another datatype"),
        ["shard_number" | "sharding_method"] => rebuild("points are placed in shards when they are written"),
        ["wal_config", ..] => rebuild("the write-ahead log keeps the sizes that it was created with"),
        _ => Kind::InPlace,
    }
}

fn datatype(declared: &Value, actual: &Value) -> Kind {
    let read = |value: &Value| serde_json::from_value(value.clone()).unwrap_or(Datatype::Float32);
    match (read(declared), read(actual)) {
        (Datatype::Uint8, from) => Kind::Impossible {
            reason: "uint8 keeps whole numbers from 0 to 255 and would cut off the rest".into(),
            remedy: format!(
                "declare datatype = {:?} with a quantization_config, or embed the texts again into a new collection",
                json(&from).as_str().unwrap_or_default()
            ),
        },
        (Datatype::Float32, _) => Kind::Rebuild("vectors are stored in another datatype".into()),
        (to, _) => Kind::Rebuild(format!("vectors are stored rounded to {}", shown(&json(&to)))),
    }
}

/// The declared fields over the actual ones. Several of a server's updates replace an object whole.
pub(super) fn overlay<T: Serialize + serde::de::DeserializeOwned>(declared: &T, actual: &T) -> T {
    let mut merged = json(actual);
    lay(&mut merged, json(declared));
    serde_json::from_value(merged).expect("two values of one type, field by field, are one of that type")
}

fn lay(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                let same_kind = match under.get(&name) {
                    Some(old) if name == "quantization_config" => tag(old).0 == tag(&value).0,
                    Some(_) => name != "stopwords" && name != "stemmer",
                    None => false,
                };
                if same_kind {
                    lay(&mut under[&name], value);
                } else {
                    under.insert(name, value);
                }
            }
        }
        (under, over) => *under = over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::{Stamp, Status};

    const SERVER: ServerVersion = ServerVersion::new(1, 17, 0);
    const KEEP: Undeclared = Undeclared { drop_vectors: false, drop_payload_indexes: false };
    const DROP: Undeclared = Undeclared { drop_vectors: true, drop_payload_indexes: true };

    fn schema(toml: &str) -> Schema {
        toml::from_str(toml).unwrap_or_else(|e| panic!("{toml}: {e}"))
    }

    fn observed(toml: &str, points: u64) -> Observed {
        Observed {
            name: "memory".into(),
            schema: schema(toml),
            stamp: None::<Stamp>,
            aliases: Vec::new(),
            points,
            status: Status::Green,
            optimizer_error: None,
            queued_updates: None,
            fence: None,
            deferred_points: None,
        }
    }

    /// Each change in words, with the first letter of its kind before it.
    fn changes(declared: &str, actual: &str, undeclared: Undeclared) -> Vec<String> {
        compare(&schema(declared), &observed(actual, 10), undeclared, SERVER)
            .iter()
            .map(|change| format!("{:?} {change}", change.kind)[..1].to_string() + " " + &change.to_string())
            .collect()
    }

    /// What the application of the facts makes, as a server reports it.
    const MEMORY: &str = r#"
        shard_number = 1
        replication_factor = 1
        write_consistency_factor = 1
        on_disk_payload = true
        hnsw_config = { m = 16, ef_construct = 100, full_scan_threshold = 10000, max_indexing_threads = 0, on_disk = false }
        wal_config = { wal_capacity_mb = 32, wal_segments_ahead = 0, wal_retain_closed = 1 }
        [optimizers_config]
        deleted_threshold = 0.2
        vacuum_min_vector_number = 1000
        default_segment_number = 2
        indexing_threshold = 20000
        flush_interval_sec = 5
        [vectors.content]
        size = 384
        distance = "Cosine"
        hnsw_config = { m = 32, ef_construct = 256 }
        [vectors.emotion]
        size = 384
        distance = "Cosine"
        [payload_indexes]
        user_id = "keyword"
        timestamp_unix = "float"
        bot_name = "keyword"
        "#;

    #[test]
    fn what_is_there_is_no_change() {
        assert_eq!(changes(MEMORY, MEMORY, DROP), [""; 0]);
        assert_eq!(changes("", MEMORY, KEEP), [""; 0]);
        assert_eq!(changes("vectors = { content = { size = 384 } }", MEMORY, KEEP), [""; 0]);
    }

    #[test]
    fn an_unset_field_equals_the_default_it_stands_for() {
        for declared in [
            "vectors = { content = { datatype = 'float32', quantization_config = 'Disabled' } }",
            "hnsw_config = { inline_storage = false, on_disk = false }",
            "quantization_config = 'Disabled'",
            "optimizers_config = { max_optimization_threads = 'auto', prevent_unoptimized = false }",
            "strict_mode_config = { enabled = false }",
            "sharding_method = 'auto'\nread_fan_out_factor = 0",
            "payload_indexes = { user_id = { type = 'keyword', is_tenant = false, on_disk = false, enable_hnsw = true } }",
        ] {
            assert_eq!(changes(declared, MEMORY, KEEP), [""; 0], "{declared}");
        }
        assert_eq!(
            changes("hnsw_config = { payload_m = 0 }", MEMORY, KEEP),
            ["I hnsw_config.payload_m: not set, declared 0"]
        );
    }

    #[test]
    fn floats_are_equal_within_the_rounding_of_32_bits() {
        let with = |quantile: &str| {
            format!("quantization_config = {{ scalar = {{ type = 'int8', quantile = {quantile} }} }}")
        };
        assert_eq!(changes(&with("0.99"), &with("0.9900000095367432"), KEEP), [""; 0]);
        assert_eq!(changes(&with("0.99"), &with("0.9901"), KEEP).len(), 1);
        assert_eq!(changes("metadata = { n = 1 }", "metadata = { n = 1.0 }", KEEP), [""; 0]);
        assert_eq!(changes("metadata = { n = 16777217 }", "metadata = { n = 16777216 }", KEEP).len(), 1);
    }

    #[test]
    fn what_a_server_changes_is_in_place() {
        for (declared, words) in [
            (
                "vectors = { content = { hnsw_config = { m = 64 } } }",
                "vectors.content.hnsw_config.m: 32, declared 64",
            ),
            (
                "vectors = { emotion = { hnsw_config = { m = 64 } } }",
                "vectors.emotion.hnsw_config.m: not set, declared 64",
            ),
            ("vectors = { content = { on_disk = true } }", "vectors.content.on_disk: not set, declared true"),
            (
                "vectors = { content = { quantization_config = { binary = {} } } }",
                "vectors.content.quantization_config: not set, declared binary",
            ),
            ("hnsw_config = { m = 8 }", "hnsw_config.m: 16, declared 8"),
            (
                "optimizers_config = { deleted_threshold = 0.3 }",
                "optimizers_config.deleted_threshold: 0.2, declared 0.3",
            ),
            (
                "strict_mode_config = { max_query_limit = 5 }",
                "strict_mode_config.max_query_limit: not set, declared 5",
            ),
            ("on_disk_payload = false", "on_disk_payload: true, declared false"),
            ("metadata = { owner = 'x' }", "metadata.owner: not set, declared \"x\""),
            (
                "payload_indexes = { channel_id = 'keyword' }",
                "payload_indexes.channel_id: missing, declared keyword",
            ),
            (
                "payload_indexes = { user_id = 'integer' }",
                "payload_indexes.user_id: keyword, declared integer",
            ),
            ("payload_indexes = { 'a.b[]' = 'geo' }", "payload_indexes.\"a.b[]\": missing, declared geo"),
            (
                "payload_indexes = { user_id = { type = 'keyword', is_tenant = true } }",
                "payload_indexes.user_id.is_tenant: not set, declared true",
            ),
        ] {
            assert_eq!(changes(declared, MEMORY, KEEP), [format!("I {words}")], "{declared}");
        }
    }

    #[test]
    fn what_no_server_changes_needs_a_rebuild() {
        let dot = "vectors = { a = { size = 2, distance = 'Dot', datatype = 'float32' } }\nsparse_vectors = { s = {} }";
        for (declared, actual, path) in [
            ("vectors = { semantic = { size = 384 } }", MEMORY, "vectors.semantic"),
            ("sparse_vectors = { words = {} }", MEMORY, "sparse_vectors.words"),
            ("vectors = { a = { distance = 'Cosine' } }", dot, "vectors.a.distance"),
            ("vectors = { a = { distance = 'Manhattan' } }", dot, "vectors.a.distance"),
            ("vectors = { a = { datatype = 'float16' } }", dot, "vectors.a.datatype"),
            ("vectors = { a = { multivector_config = {} } }", dot, "vectors.a.multivector_config"),
            (
                "sparse_vectors = { s = { index = { datatype = 'float16' } } }",
                dot,
                "sparse_vectors.s.index.datatype",
            ),
            ("shard_number = 2", MEMORY, "shard_number"),
            ("sharding_method = 'custom'", MEMORY, "sharding_method"),
            ("wal_config = { wal_capacity_mb = 64 }", MEMORY, "wal_config.wal_capacity_mb"),
        ] {
            let found = changes(declared, actual, KEEP);
            assert_eq!(found.len(), 1, "{declared}: {found:?}");
            assert!(
                found[0].starts_with(&format!("R {path}: ")) && found[0].contains("rebuild"),
                "{found:?}"
            );
        }
    }

    #[test]
    fn what_no_copy_can_have_is_impossible_while_there_are_points() {
        for (declared, actual, words) in [
            ("vectors = { content = { size = 768 } }", MEMORY, "vectors.content.size: 384, declared 768"),
            ("vectors = { content = { distance = 'Dot' } }", MEMORY, "Cosine stores normalised vectors"),
            ("vectors = { content = { datatype = 'uint8' } }", MEMORY, "from 0 to 255"),
        ] {
            let found = changes(declared, actual, KEEP);
            assert!(found.len() == 1 && found[0].starts_with('I') && found[0].contains(words), "{found:?}");
            let kinds = |points| {
                let observed = observed(actual, points);
                let changes = compare(&schema(declared), &observed, KEEP, SERVER);
                changes.into_iter().map(|change| change.kind).collect::<Vec<_>>()
            };
            assert!(matches!(&kinds(1)[..], [Kind::Impossible { remedy, .. }] if remedy.contains("declare")));
            assert!(matches!(&kinds(0)[..], [Kind::Rebuild(reason)] if reason.contains("no points")));
        }
    }

    #[test]
    fn newer_servers_add_and_delete_vectors_in_place() {
        let unnamed = "vectors = { size = 384, distance = 'Cosine' }";
        let two = "vectors = { a = { size = 1 }, b = { size = 1 } }\nsparse_vectors = { s = {}, t = {} }";
        for (declared, actual, server, kinds) in [
            ("vectors = { n = { size = 1 } }", MEMORY, (1, 17, 1), "R"),
            ("vectors = { n = { size = 1 } }", MEMORY, (1, 18, 0), "I"),
            ("sparse_vectors = { n = {} }", MEMORY, (1, 18, 0), "I"),
            ("vectors = { n = { size = 1 } }", unnamed, (1, 20, 0), "RR"),
            ("sparse_vectors = { n = {} }", unnamed, (1, 20, 0), "RR"),
            (unnamed, "sparse_vectors = { n = {} }", (1, 20, 0), "RI"),
            ("vectors = { a = { size = 1 } }\nsparse_vectors = { s = {} }", two, (1, 18, 3), "RR"),
            ("vectors = { a = { size = 1 } }\nsparse_vectors = { s = {} }", two, (1, 19, 0), "II"),
        ] {
            let server = ServerVersion::new(server.0, server.1, server.2);
            let changes = compare(&schema(declared), &observed(actual, 10), DROP, server);
            let vectors = changes.iter().filter(|change| change.path[0].ends_with("vectors"));
            let found: String = vectors
                .filter(|change| change.path[1] != "content" && change.path[1] != "emotion")
                .map(|change| &format!("{:?}", change.kind)[..1] == "I")
                .map(|in_place| if in_place { 'I' } else { 'R' })
                .collect();
            assert_eq!(found, kinds, "{declared} on {server}: {changes:?}");
        }
    }

    #[test]
    fn one_unnamed_vector_is_told_from_named_ones() {
        let unnamed = "vectors = { size = 384, distance = 'Cosine' }";
        assert_eq!(
            changes("vectors = { content = { size = 384 } }", unnamed, KEEP),
            [
                "R vectors.content: missing (needs a rebuild: the collection has one unnamed vector of size 384 with Cosine)"
            ]
        );
        assert_eq!(
            changes(unnamed, MEMORY, KEEP),
            ["R vectors.\"\": missing (needs a rebuild: the collection has named vectors)"]
        );
        assert_eq!(changes(unnamed, unnamed, DROP), [""; 0]);
    }

    #[test]
    fn what_is_not_declared_is_kept_or_dropped() {
        let declared = "vectors = { content = { size = 384 } }\npayload_indexes = { user_id = 'keyword' }";
        assert_eq!(changes(declared, MEMORY, KEEP), [""; 0]);
        assert_eq!(
            changes(declared, MEMORY, DROP),
            [
                "R vectors.emotion: there, not declared (needs a rebuild: the copy leaves the vector out)",
                "I payload_indexes.bot_name: keyword, not declared",
                "I payload_indexes.timestamp_unix: float, not declared",
            ]
        );
    }

    #[test]
    fn a_field_is_refused_on_a_server_that_would_drop_it() {
        let declared = "payload_indexes = { user_id = { type = 'keyword', prefix = true } }\nquantization_config = { turbo = {} }";
        let found = changes(declared, MEMORY, KEEP);
        assert_eq!(
            found,
            [
                "N payload_indexes.user_id.prefix: not set, declared true (needs server 1.19.0; this one is 1.17.0)",
                "N quantization_config: not set, declared turbo (needs server 1.18.0; this one is 1.17.0)",
            ]
        );
        let newer = ServerVersion::new(1, 19, 0);
        let kinds = compare(&schema(declared), &observed(MEMORY, 1), KEEP, newer);
        assert!(kinds.iter().all(|change| change.kind == Kind::InPlace), "{kinds:?}");
        // The same for a new collection, below a missing vector and below a missing index.
        let declared = schema(
            "vectors = { v = { size = 1, memory = 'cold', quantization_config = { scalar = { type = 'int8', memory = 'pinned' } } } }\n\
             payload_indexes = { k = { type = 'text', tokenizer = 'code' } }",
        );
        let words = |changes: Vec<Change>| changes.into_iter().map(|c| c.path.join(".")).collect::<Vec<_>>();
        let paths = [
            "payload_indexes.k.tokenizer",
            "vectors.v.memory",
            "vectors.v.quantization_config.scalar.memory",
        ];
        assert_eq!(words(gates(&declared, SERVER)), paths);
        let missing = words(compare(&declared, &observed(MEMORY, 1), KEEP, SERVER));
        assert!(paths.iter().all(|path| missing.contains(&path.to_string())), "{missing:?}");
        assert_eq!(gates(&declared, ServerVersion::new(1, 20, 0)), []);
    }

    #[test]
    fn names_like_fields_are_names() {
        let actual = "[vectors.quantization_config]\nsize = 4\ndistance = 'Dot'\n[payload_indexes]\nstopwords = 'text'";
        assert_eq!(changes(actual, actual, DROP), [""; 0]);
        let found = changes("[vectors.quantization_config]\nsize = 4\non_disk = true", actual, KEEP);
        assert_eq!(found, ["I vectors.quantization_config.on_disk: not set, declared true"]);
    }

    #[test]
    fn an_overlay_keeps_what_is_not_declared_and_exchanges_kinds() {
        for (declared, actual, merged) in [
            (
                "hnsw_config = { m = 1 }",
                "hnsw_config = { m = 2, ef_construct = 3 }",
                "hnsw_config = { m = 1, ef_construct = 3 }",
            ),
            (
                "quantization_config = { scalar = { type = 'int8', always_ram = true } }",
                "quantization_config = { scalar = { type = 'int8', quantile = 0.5 } }",
                "quantization_config = { scalar = { type = 'int8', quantile = 0.5, always_ram = true } }",
            ),
            (
                "quantization_config = { binary = {} }",
                "quantization_config = { scalar = { type = 'int8', always_ram = true } }",
                "quantization_config = { binary = {} }",
            ),
            (
                "quantization_config = 'Disabled'",
                "quantization_config = { binary = {} }",
                "quantization_config = 'Disabled'",
            ),
            (
                "payload_indexes = { t = { type = 'text', stopwords = 'english', lowercase = true } }",
                "payload_indexes = { t = { type = 'text', stopwords = 'german', on_disk = true } }",
                "payload_indexes = { t = { type = 'text', stopwords = 'english', lowercase = true, on_disk = true } }",
            ),
        ] {
            assert_eq!(overlay(&schema(declared), &schema(actual)), schema(merged), "{declared}");
        }
    }
}
