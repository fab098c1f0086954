//! Every kind of collection that the application's releases left behind, brought to the head by `migrations/` itself: with
//! every point, and a size that no copy can have refused with its points untouched.

mod common;

use common::World;
use common::points::{create, info, names, points, put, rest};
use local_servers::{Qdrant, QdrantVersion};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Of every vector of the application.
const SIZE: usize = 384;

type Points = BTreeMap<String, Value>;

/// One kind, and what becomes of it.
struct Kind {
    name: &'static str,
    /// Of the named vectors; one of `""` is the unnamed one.
    vectors: &'static [&'static str],
    distance: &'static str,
    indexes: &'static [(&'static str, &'static str)],
    /// It is a collection of another name, to which an alias leads.
    alias: bool,
    points: u32,
    /// Of another form than declared, so that its points are copied.
    rebuilt: bool,
}

const SIX: &[(&str, &str)] = &[
    ("user_id", "keyword"),
    ("memory_type", "keyword"),
    ("timestamp_unix", "float"),
    ("semantic_key", "keyword"),
    ("emotional_context", "keyword"),
    ("content_hash", "integer"),
];
const WITH_BOT_NAME: &[(&str, &str)] = &[
    ("user_id", "keyword"),
    ("memory_type", "keyword"),
    ("timestamp_unix", "float"),
    ("semantic_key", "keyword"),
    ("emotional_context", "keyword"),
    ("content_hash", "integer"),
    ("bot_name", "keyword"),
];
const THREE: &[&str] = &["content", "emotion", "semantic"];
const SIX_VECTORS: &[&str] = &["content", "emotion", "semantic", "relationship", "personality", "context"];
const SEVEN_VECTORS: &[&str] =
    &["content", "emotion", "semantic", "relationship", "personality", "interaction", "temporal"];

const PLAIN: Kind = Kind {
    name: "three",
    vectors: THREE,
    distance: "Cosine",
    indexes: SIX,
    alias: false,
    points: 24,
    rebuilt: false,
};

const KINDS: &[Kind] = &[
    PLAIN,
    Kind { name: "unnamed", vectors: &[""], indexes: &[], rebuilt: true, ..PLAIN },
    Kind { name: "bot_name", indexes: WITH_BOT_NAME, ..PLAIN },
    Kind { name: "six", vectors: SIX_VECTORS, indexes: WITH_BOT_NAME, ..PLAIN },
    Kind { name: "seven", vectors: SEVEN_VECTORS, indexes: WITH_BOT_NAME, ..PLAIN },
    Kind { name: "no_semantic", vectors: &["content", "emotion"], rebuilt: true, ..PLAIN },
    Kind { name: "no_content", vectors: &["emotion", "semantic"], rebuilt: true, ..PLAIN },
    Kind { name: "dot", distance: "Dot", rebuilt: true, ..PLAIN },
    Kind { name: "to_7d", vectors: SEVEN_VECTORS, indexes: WITH_BOT_NAME, alias: true, ..PLAIN },
    Kind { name: "to_unnamed", vectors: &[""], indexes: &[], alias: true, rebuilt: true, ..PLAIN },
    Kind { name: "app_made", points: 0, ..PLAIN },
    Kind { name: "app_made_unnamed", vectors: &[""], indexes: &[], points: 0, rebuilt: true, ..PLAIN },
    Kind { name: "no_index", indexes: &[], ..PLAIN },
    Kind {
        name: "other_indexes",
        indexes: &[("user_id", "integer"), ("timestamp_unix", "keyword"), ("own", "keyword")],
        ..PLAIN
    },
];

/// A vector with a value of its own everywhere.
fn vector(seed: u32) -> Value {
    let mut x = seed.wrapping_mul(2_654_435_761) | 1;
    let next = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        f64::from(x % 2000) / 1000.0 - 1.0
    };
    Value::Array(std::iter::repeat_with(next).take(SIZE).map(Value::from).collect())
}

/// Points with the payload keys that the application writes; some have no vector, or not all.
fn some_points(vectors: &[&str], count: u32) -> Vec<Value> {
    (0..count)
        .map(|n| {
            let id = match n % 3 {
                0 => json!(format!("00000000-0000-4000-8000-{n:012}")),
                _ => json!(n),
            };
            let payload = json!({
                "user_id": format!("{n}"), "content": format!("memory {n} – ünïcode"), "timestamp_unix": 1_760_000_000.5 + f64::from(n),
                "memory_type": "conversation", "content_hash": i64::from(n) - 9_000_000_000_000_000_000, "all_emotions": { "joy": 0.5, "fear": null },
                "tags": ["a", n, null], "bot_name": "Elena",
            });
            let given = |i: &usize| n % 7 != 5 || *i == 0;
            let vector = match vectors {
                [""] => vector(n + 1),
                named => named
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| n % 11 != 9 && given(i))
                    .map(|(i, name)| ((*name).to_owned(), vector(n * 10 + i as u32 + 1)))
                    .collect::<serde_json::Map<_, _>>()
                    .into(),
            };
            json!({ "id": id, "vector": vector, "payload": payload })
        })
        .collect()
}

/// The collection as a release left it, under its real name.
fn left_behind(world: &World, kind: &Kind) -> String {
    let real = match kind.alias {
        true => format!("{}_7d", world.collection),
        false => world.collection.clone(),
    };
    let params = json!({ "size": SIZE, "distance": kind.distance });
    let vectors = match kind.vectors {
        [""] => params,
        named => named
            .iter()
            .map(|name| ((*name).to_owned(), params.clone()))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    };
    create(world, &real, &json!({ "vectors": vectors }));
    for (field, schema) in kind.indexes {
        let body = json!({ "field_name": field, "field_schema": schema });
        rest(world, "PUT", &format!("/collections/{real}/index?wait=true"), &body);
    }
    put(world, &real, &some_points(kind.vectors, kind.points));
    if kind.alias {
        let lead = json!({ "create_alias": { "collection_name": real, "alias_name": world.collection } });
        rest(world, "POST", "/collections/aliases", &json!({ "actions": [lead] }));
    }
    real
}

/// What a point is to be in the end: a vector without a name has one, and Cosine stores what is normalised.
fn wanted(kind: &Kind, mut before: Points) -> Points {
    for point in before.values_mut() {
        if kind.vectors == [""] {
            point["vector"] = json!({ "content": point["vector"].take() });
        }
        if kind.distance != "Cosine" {
            for name in THREE {
                let Some(row) = point["vector"].get_mut(*name).and_then(Value::as_array_mut) else {
                    continue;
                };
                let norm = row.iter().filter_map(Value::as_f64).map(|x| x * x).sum::<f64>().sqrt();
                row.iter_mut().for_each(|x| *x = json!(x.as_f64().unwrap() / norm));
            }
        }
    }
    before
}

/// Payload and the presence of vectors exactly, their numbers within the rounding of a 32-bit float.
fn same(wanted: &Value, actual: &Value) -> bool {
    match (wanted, actual) {
        (Value::Number(a), Value::Number(b)) => {
            a == b || (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-6
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => wanted == actual,
    }
}

/// As a bot of its own: the same Postgres, another collection.
fn bot(world: &mut World, name: &str) {
    world.drop_collections();
    world.collection = local_servers::unique_name(name);
    let collection = world.collection.clone();
    world.set("QDRANT_COLLECTION_NAME", collection);
}

fn every_kind_reaches_the_head(version: QdrantVersion) {
    let mut world = World::whisperengine_beside(Qdrant::shared(version).unwrap());
    for kind in KINDS {
        bot(&mut world, kind.name);
        let (name, real) = (world.collection.clone(), left_behind(&world, kind));
        let before = points(&world, &real);
        assert_eq!(before.len(), kind.points as usize);
        world.start(&["true"]).expect(0);
        let (wanted, after) = (wanted(kind, before.clone()), points(&world, &name));
        assert_eq!(after.len(), wanted.len(), "{}", kind.name);
        for (id, wanted) in &wanted {
            let actual = &after[id];
            assert_eq!(actual["payload"], wanted["payload"], "{} {id}", kind.name);
            assert!(same(&wanted["vector"], &actual["vector"]), "{} {id}: {wanted} {actual}", kind.name);
        }
        let found = info(&world, &name);
        for vector in THREE {
            let params = &found["config"]["params"]["vectors"][vector];
            assert_eq!(params["size"], SIZE, "{}", kind.name);
            assert_eq!(params["distance"], "Cosine", "{}", kind.name);
        }
        assert_eq!(found["config"]["params"]["vectors"]["content"]["hnsw_config"]["m"], 32, "{}", kind.name);
        for (field, schema) in SIX.iter().chain(&[("channel_id", "keyword"), ("channel_type", "keyword")]) {
            assert_eq!(found["payload_schema"][field]["data_type"], *schema, "{} {field}", kind.name);
        }
        for own in kind.vectors.iter().filter(|vector| !vector.is_empty()) {
            assert!(found["config"]["params"]["vectors"][own].is_object(), "{} lost {own}", kind.name);
        }
        for (own, _) in kind.indexes {
            assert!(found["payload_schema"][own].is_object(), "{} lost the index {own}", kind.name);
        }
        assert_eq!(
            names(&world).iter().any(|n| n.starts_with("_tandem_shadow_")),
            kind.rebuilt,
            "{}",
            kind.name
        );
        if kind.alias {
            assert_eq!(points(&world, &real), before, "what the alias led to is as it was");
        }
        world.output(["plan", "--exit-code"]).expect(0);
    }
}

#[test]
fn every_kind_reaches_the_head_on_1_16_3() {
    every_kind_reaches_the_head(QdrantVersion::V1_16_3);
}

#[test]
fn every_kind_reaches_the_head_on_1_17_0() {
    every_kind_reaches_the_head(QdrantVersion::V1_17_0);
}

#[test]
fn a_wrong_size_is_refused_with_the_choices_and_its_points_stay() {
    let mut world = World::whisperengine();
    for vectors in [
        json!({ "size": 768, "distance": "Cosine" }),
        json!({ "content": { "size": 768, "distance": "Cosine" } }),
    ] {
        bot(&mut world, "wide");
        let name = world.collection.clone();
        create(&world, &name, &json!({ "vectors": vectors }));
        let wide = json!(vec![0.25; 768]);
        let vector = if vectors["size"].is_null() { json!({ "content": wide }) } else { wide };
        put(&world, &name, &[json!({ "id": 1, "vector": vector, "payload": { "user_id": "a" } })]);
        let (before, form) = (points(&world, &name), info(&world, &name)["config"].clone());
        world.start(&["true"]).expect(76).says(&["768", "384", &name]);
        assert_eq!(points(&world, &name), before);
        assert_eq!(info(&world, &name)["config"], form);
        assert_eq!(names(&world), [name]);
    }
}
