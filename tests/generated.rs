//! Generated collections, brought to generated declarations by the real binary on real servers: every point is what it was,
//! or what was declared is refused and nothing was touched. `TANDEM_TEST_CASES` is how many a server.

mod common;

use common::World;
use common::points::{create, names, points, put, rest};
use local_servers::{Qdrant, QdrantVersion};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

/// A server, where nothing else is said.
const CASES: u32 = 10;

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Dense(Dense),
    /// Of this datatype in its index.
    Sparse(&'static str),
}

#[derive(Debug, Clone, PartialEq)]
struct Dense {
    size: usize,
    distance: &'static str,
    datatype: &'static str,
    list: bool,
}

/// What is declared of a vector that the collection has.
#[derive(Debug, Clone, PartialEq)]
enum Declared {
    Nothing,
    Same,
    Size(usize),
    Distance(&'static str),
    Datatype(&'static str),
    List,
    /// Of the one without a name: it gets this one by a fill.
    Named,
    /// And this one without.
    NamedWithoutRule,
}

#[derive(Debug, Clone)]
struct Case {
    /// What the collection has; the one without a name is the only dense one.
    vectors: BTreeMap<String, (Kind, Declared)>,
    /// What is declared besides.
    added: BTreeMap<String, Kind>,
    /// Payload indexes by key: before, and declared.
    indexed: Vec<&'static str>,
    declared_indexes: Vec<&'static str>,
    /// A payload value that every point gets.
    marked: bool,
    /// What is not declared goes, if anything is.
    drop: bool,
    alias: bool,
    points: Vec<Value>,
}

const DISTANCES: [&str; 4] = ["Cosine", "Dot", "Euclid", "Manhattan"];
const DATATYPES: [&str; 3] = ["float32", "float16", "uint8"];
const NAMES: [&str; 4] = ["content", "b", "é ü", "words"];
const INDEXES: [(&str, &str); 9] = [
    ("user_id", "keyword"),
    ("at", "float"),
    ("n", "integer"),
    ("place", "geo"),
    ("text", "text"),
    ("when", "datetime"),
    ("ok", "bool"),
    ("key", "uuid"),
    ("deep.in", "keyword"),
];
/// The name that a vector without one gets.
const NAMED: &str = "named";

fn dense() -> impl Strategy<Value = Dense> {
    (1..4usize, select(&DISTANCES[..]), select(&DATATYPES[..]), prop::bool::weighted(0.25))
        .prop_map(|(size, distance, datatype, list)| Dense { size, distance, datatype, list })
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![4 => dense().prop_map(Kind::Dense), 1 => select(&DATATYPES[..]).prop_map(Kind::Sparse)]
}

fn declared() -> impl Strategy<Value = Declared> {
    prop_oneof![
        2 => Just(Declared::Nothing),
        4 => Just(Declared::Same),
        1 => (4..6usize).prop_map(Declared::Size),
        3 => select(&DISTANCES[..]).prop_map(Declared::Distance),
        3 => select(&DATATYPES[..]).prop_map(Declared::Datatype),
        1 => Just(Declared::List),
    ]
}

fn vectors() -> BoxedStrategy<BTreeMap<String, (Kind, Declared)>> {
    let named = |names: Vec<&'static str>| {
        let many = names.len();
        (Just(names), vec((kind(), declared()), many))
            .prop_map(|(names, all)| names.into_iter().map(String::from).zip(all).collect())
    };
    let unnamed = prop_oneof![
        2 => declared(),
        3 => Just(Declared::Named),
        1 => Just(Declared::NamedWithoutRule),
    ];
    let unnamed = (dense(), unnamed, any::<bool>()).prop_map(|(dense, declared, sparse)| {
        let mut all = BTreeMap::from([(String::new(), (Kind::Dense(dense), declared))]);
        if sparse {
            all.insert("words".into(), (Kind::Sparse("float32"), Declared::Nothing));
        }
        all
    });
    prop_oneof![3 => subsequence(&NAMES[..], 1..4).prop_flat_map(named), 1 => unnamed].boxed()
}

/// As it is stored without loss.
fn number(datatype: &'static str) -> BoxedStrategy<f32> {
    match datatype {
        "uint8" => (0..=255u8).prop_map(f32::from).boxed(),
        _ => prop_oneof![
            6 => -100f32..100.0,
            2 => (-5..5i8).prop_map(f32::from),
            1 => -1e-6f32..1e-6,
            1 => -6e4f32..6e4,
        ]
        .boxed(),
    }
}

fn value(kind: &Kind) -> BoxedStrategy<Value> {
    match kind {
        Kind::Dense(Dense { size, datatype, list, .. }) => {
            let row = prop_oneof![9 => vec(number(datatype), *size), 1 => Just(std::vec![0.0; *size])];
            match list {
                false => row.prop_map(|row| json!(row)).boxed(),
                true => vec(row, 1..4).prop_map(|rows| json!(rows)).boxed(),
            }
        }
        Kind::Sparse(_) => btree_map(any::<u32>(), number("float32"), 0..4)
            .prop_map(|pairs| {
                json!({ "indices": pairs.keys().collect::<Vec<_>>(), "values": pairs.values().collect::<Vec<_>>() })
            })
            .boxed(),
    }
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e300f64..1e300).prop_map(Value::from),
        (-1e3f64..1e3).prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("\\PC{0,5}", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn payload() -> impl Strategy<Value = Map<String, Value>> {
    let geo = || (-180f64..180.0, -90f64..90.0).prop_map(|(lon, lat)| json!({ "lon": lon, "lat": lat }));
    let fitting = prop_oneof![
        "[a-z]{1,3}".prop_map(|text| ("user_id", json!(text))),
        vec("[a-z]{1,3}", 0..3).prop_map(|texts| ("user_id", json!(texts))),
        any::<f32>().prop_filter("JSON", |n| n.is_finite()).prop_map(|n| ("at", json!(n))),
        any::<i64>().prop_map(|n| ("n", json!(n))),
        geo().prop_map(|place| ("place", place)),
        vec(geo(), 0..3).prop_map(|places| ("place", json!(places))),
        "\\PC{0,20}".prop_map(|text| ("text", json!(text))),
        Just(("when", json!("2026-11-25T12:00:00.5Z"))),
        any::<bool>().prop_map(|ok| ("ok", json!(ok))),
        Just(("key", json!("550e8400-e29b-41d4-a716-446655440000"))),
        "[a-z]{0,2}".prop_map(|text| ("deep", json!({ "in": text, "other": null }))),
    ];
    let fitting = fitting.prop_map(|(key, value)| (key.to_owned(), value));
    let indexed = select(INDEXES.map(|(key, _)| key).to_vec()).prop_map(str::to_owned);
    let misfit = (indexed, anything());
    let other = ("\\PC{1,6}", anything());
    vec(prop_oneof![3 => fitting, 1 => misfit, 2 => other], 0..6).prop_map(|all| all.into_iter().collect())
}

fn id() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..50u64).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<u128>().prop_map(|n| {
            let hex = format!("{n:032x}");
            let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
            Value::from(parts.join("-"))
        }),
    ]
}

fn point(vectors: &BTreeMap<String, (Kind, Declared)>) -> impl Strategy<Value = Value> + use<> {
    let each: Vec<_> = vectors
        .iter()
        .map(|(name, (kind, _))| (Just(name.clone()), option::weighted(0.8, value(kind))))
        .collect();
    (id(), each, payload()).prop_map(|(id, vectors, payload)| {
        let there = vectors.into_iter().filter_map(|(name, value)| Some((name, value?)));
        json!({ "id": id, "vector": there.collect::<Map<_, _>>(), "payload": payload })
    })
}

fn case() -> impl Strategy<Value = Case> {
    let indexes = || subsequence(INDEXES.map(|(key, _)| key).to_vec(), 0..5);
    let rest = (
        btree_map(select(std::vec!["new", "n2"]).prop_map(str::to_owned), kind(), 0..3),
        indexes(),
        indexes(),
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.2),
        any::<bool>(),
    );
    (vectors(), rest).prop_flat_map(|(vectors, (added, indexed, declared_indexes, marked, drop, alias))| {
        vec(point(&vectors), 0..30).prop_map(move |points| Case {
            vectors: vectors.clone(),
            added: added.clone(),
            indexed: indexed.clone(),
            declared_indexes: declared_indexes.clone(),
            marked,
            drop,
            alias,
            points,
        })
    })
}

impl Kind {
    /// As REST and a declaration have it.
    fn params(&self) -> Value {
        match self {
            Self::Sparse(datatype) => json!({ "index": { "datatype": datatype } }),
            Self::Dense(Dense { size, distance, datatype, list }) => {
                let mut params = json!({ "size": size, "distance": distance, "datatype": datatype });
                if *list {
                    params["multivector_config"] = json!({ "comparator": "max_sim" });
                }
                params
            }
        }
    }

    fn declared(&self, declared: &Declared) -> Self {
        let mut dense = match (self, declared) {
            (Self::Sparse(_), Declared::Datatype(datatype)) => return Self::Sparse(datatype),
            (Self::Sparse(_), _) => return self.clone(),
            (Self::Dense(dense), _) => dense.clone(),
        };
        match declared {
            Declared::Size(size) => dense.size = *size,
            Declared::Distance(distance) => dense.distance = distance,
            Declared::Datatype(datatype) => dense.datatype = datatype,
            Declared::List => dense.list = true,
            _ => {}
        }
        Self::Dense(dense)
    }

    /// Whether points of the one can become points of the other.
    fn becomes(&self, other: &Self) -> bool {
        // A sparse vector is stored as it is, whatever its index has of it.
        let (Self::Dense(this), Self::Dense(other)) = (self, other) else { return true };
        this.size == other.size
            && (this.distance == other.distance || this.distance != "Cosine")
            && (this.datatype == other.datatype || other.datatype != "uint8")
    }
}

impl Case {
    /// The name and the form that a vector has in the end.
    fn target(&self, name: &str) -> (String, Kind) {
        let (kind, declared) = &self.vectors[name];
        match declared {
            Declared::Named | Declared::NamedWithoutRule => (NAMED.into(), kind.clone()),
            declared => (name.into(), kind.declared(declared)),
        }
    }

    fn drops(&self, name: &str) -> bool {
        let gone = |declared: &Declared| matches!(declared, Declared::Nothing | Declared::NamedWithoutRule);
        self.drop
            && gone(&self.vectors[name].1)
            && self.vectors.values().any(|(_, declared)| *declared != Declared::Nothing)
    }

    fn is_unnamed(&self) -> bool {
        self.vectors.contains_key("")
    }

    /// The dense vectors of a new name that there can be.
    fn additions(&self) -> BTreeMap<&String, &Kind> {
        let unnamed = self.is_unnamed() && self.target("").0.is_empty();
        self.added.iter().filter(|(_, kind)| !unnamed || matches!(kind, Kind::Sparse(_))).collect()
    }

    fn is_possible(&self) -> bool {
        let possible = |(name, (kind, declared)): (&String, &(Kind, Declared))| {
            self.drops(name)
                || (*declared != Declared::NamedWithoutRule && kind.becomes(&self.target(name).1))
        };
        self.points.is_empty() || self.vectors.iter().all(possible)
    }

    fn creation(&self) -> Value {
        let mut body = json!({ "vectors": {}, "sparse_vectors": {} });
        for (name, (kind, _)) in &self.vectors {
            match (kind, name.as_str()) {
                (Kind::Sparse(_), _) => body["sparse_vectors"][name] = kind.params(),
                (_, "") => body["vectors"] = kind.params(),
                _ => body["vectors"][name] = kind.params(),
            }
        }
        body
    }

    fn toml(&self, name: &str) -> String {
        let mut collection = json!({ "match": name, "ensure": [name], "vectors": {}, "sparse_vectors": {}, "payload_indexes": {} });
        let mut declare = |name: &str, kind: &Kind| match (kind, name) {
            (Kind::Sparse(_), _) => collection["sparse_vectors"][name] = kind.params(),
            (_, "") => collection["vectors"] = kind.params(),
            _ => collection["vectors"][name] = kind.params(),
        };
        for (name, (_, declared)) in &self.vectors {
            if *declared != Declared::Nothing {
                let (name, kind) = self.target(name);
                declare(&name, &kind);
            }
        }
        self.additions().into_iter().for_each(|(name, kind)| declare(name, kind));
        for (key, kind) in INDEXES.iter().filter(|(key, _)| self.declared_indexes.contains(key)) {
            collection["payload_indexes"][key] = json!(kind);
        }
        if self.vectors.keys().any(|name| self.drops(name)) {
            collection["undeclared"] = json!({ "vectors": "drop" });
        }
        let mut fills = Vec::new();
        if self.vectors.get("").is_some_and(|(_, declared)| *declared == Declared::Named) {
            fills.push(json!({ "vector": NAMED, "from": { "vector": "" } }));
        }
        if self.marked {
            fills.push(json!({ "payload": "marked", "set": { "by": ["us", 1, 2.5] } }));
        }
        format!(
            "compatible_from = 1\ncollection = {}\nfill = {}\n",
            toml(&json!([collection])),
            toml(&json!(fills))
        )
    }
}

/// A value as inline TOML.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{} = {}", json!(name), toml(value)));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(toml).collect::<Vec<_>>().join(", ")),
        leaf => leaf.to_string(),
    }
}

/// Is a point what it was, but for what was declared?
fn same(case: &Case, before: &Value, after: &Value) -> Result<(), String> {
    let mut payload = before["payload"].clone();
    if case.marked {
        payload["marked"] = json!({ "by": ["us", 1, 2.5] });
    }
    if !alike(&after["payload"], &payload) {
        return Err(format!("payload {payload} became {}", after["payload"]));
    }
    let named = |point: &Value| match &point["vector"] {
        Value::Object(all) => all.clone().into_iter().collect(),
        unnamed => BTreeMap::from([(String::new(), unnamed.clone())]),
    };
    let (before, mut after) = (named(before), named(after));
    for (name, value) in before.into_iter().filter(|(name, _)| !case.drops(name)) {
        let (name, kind) = case.target(&name);
        let Some(actual) = after.remove(&name) else { return Err(format!("the vector {name:?} is gone")) };
        let wanted = match &kind {
            Kind::Dense(Dense { list: true, .. }) if !value[0].is_array() => json!([value]),
            _ => value,
        };
        if !vectors_equal(&kind, &wanted, &actual) {
            return Err(format!("the vector {name:?} {wanted} became {actual}"));
        }
    }
    match after.is_empty() {
        true => Ok(()),
        false => Err(format!("it has {after:?} besides")),
    }
}

/// Equal but for the last digits of doubles: Qdrant reads its own text of them back a little off, each time.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 4e-15 * a.abs()
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b)))
        }
        _ => a == b,
    }
}

fn vectors_equal(kind: &Kind, wanted: &Value, actual: &Value) -> bool {
    let numbers =
        |value: &Value| value.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect::<Vec<_>>();
    match kind {
        Kind::Sparse(_) => {
            let pairs = |sparse: &Value| {
                let indices = sparse["indices"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap());
                let values = numbers(&sparse["values"]).into_iter().map(f64::to_bits);
                indices.zip(values).collect::<BTreeSet<_>>()
            };
            pairs(wanted) == pairs(actual)
        }
        Kind::Dense(dense) if dense.list => {
            let (wanted, actual) = (wanted.as_array().unwrap(), actual.as_array().unwrap());
            wanted.len() == actual.len()
                && wanted.iter().zip(actual).all(|(w, a)| rows_equal(dense, &numbers(w), &numbers(a)))
        }
        Kind::Dense(dense) => rows_equal(dense, &numbers(wanted), &numbers(actual)),
    }
}

fn rows_equal(dense: &Dense, wanted: &[f64], actual: &[f64]) -> bool {
    let square: f64 = wanted.iter().map(|x| x * x).sum();
    // Qdrant leaves whole numbers and what is next to nothing as they are.
    let normalises = dense.distance == "Cosine" && dense.datatype != "uint8" && square > 1e-7;
    let norm = if normalises { square.sqrt() } else { 1.0 };
    let rounding = |x: f64| match dense.datatype {
        "float16" => x.abs() / 2000.0 + 3.1e-8,
        "float32" if normalises => x.abs() * 1e-6,
        _ => 0.0,
    };
    wanted.len() == actual.len()
        && wanted.iter().zip(actual).all(|(w, a)| (w / norm - a).abs() <= rounding(w / norm))
}

/// One version, recorded; Postgres is the same in all cases.
fn world(version: QdrantVersion) -> World {
    static RECORDED: OnceLock<World> = OnceLock::new();
    let recorded = RECORDED.get_or_init(|| {
        let world = World::empty();
        world.version("0001_users", "create table users (id bigint primary key);\n", "compatible_from = 1\n");
        world.record();
        world
    });
    recorded.sibling_on(Qdrant::shared(version).unwrap())
}

fn hold(version: QdrantVersion, case: &Case) -> Result<(), TestCaseError> {
    let world = world(version);
    let name = world.collection.clone();
    world.migrations.write("0001_users.toml", &case.toml(&name));
    world.pretend_recorded();
    let real = if case.alias { format!("{name}_7d") } else { name.clone() };
    create(&world, &real, &case.creation());
    for (key, kind) in INDEXES.iter().filter(|(key, _)| case.indexed.contains(key)) {
        let index = json!({ "field_name": key, "field_schema": kind });
        rest(&world, "PUT", &format!("/collections/{real}/index?wait=true"), &index);
    }
    if case.alias {
        let lead = json!({ "create_alias": { "collection_name": real, "alias_name": name } });
        rest(&world, "POST", "/collections/aliases", &json!({ "actions": [lead] }));
    }
    put(&world, &real, &case.points);
    let before = points(&world, &real);
    let ran = world.output(["migrate"]);
    let said = format!("\n{}", ran.stderr);
    if case.is_possible() {
        prop_assert_eq!(ran.code, 0, "{}", said);
        let after = points(&world, &name);
        prop_assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        for (id, point) in &before {
            if let Err(reason) = same(case, point, &after[id]) {
                return Err(TestCaseError::fail(format!("point {id}: {reason}{said}")));
            }
        }
        let valid = world.output(["validate", &name]);
        prop_assert_eq!(valid.code, 0, "{}", valid.stdout);
        if case.alias && ran.stderr.contains("lead the aliases to the shadow") {
            prop_assert_eq!(points(&world, &real), before);
        }
    } else {
        prop_assert_eq!(ran.code, 76, "{}", said);
        prop_assert_eq!(points(&world, &real), before);
        prop_assert_eq!(names(&world), [real]);
        let ledger = world.query("select count(*)::text from pg_class where relname = 'ledger'");
        prop_assert_eq!(ledger, "0", "Postgres was changed before Qdrant was refused");
    }
    for name in names(&world) {
        rest(&world, "DELETE", &format!("/collections/{name}"), &Value::Null);
    }
    Ok(())
}

fn every_point_is_kept(version: QdrantVersion) {
    let said = std::env::var("TANDEM_TEST_CASES").ok();
    let cases = said.map_or(CASES, |text| text.parse().expect("TANDEM_TEST_CASES is a number"));
    let config = Config { cases, max_shrink_iters: 20, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&case(), |case| hold(version, &case))
        .unwrap_or_else(|error| panic!("{}: {error}", version.as_str()));
}

#[test]
fn every_point_of_any_collection_is_kept_on_1_16_3() {
    every_point_is_kept(QdrantVersion::V1_16_3);
}

#[test]
fn every_point_of_any_collection_is_kept_on_1_17_0() {
    every_point_is_kept(QdrantVersion::V1_17_0);
}
