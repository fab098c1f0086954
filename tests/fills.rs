//! `[[fill]]` in place, by the real binary on real servers: every point gets what it lacks, once, or nothing is changed.

mod common;

use common::World;
use local_servers::{Qdrant, QdrantOptions, QdrantVersion};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const SERVERS: [QdrantVersion; 2] = QdrantVersion::ALL;

fn world(version: QdrantVersion) -> World {
    World::on(local_servers::postgres().create_database("fills"), Qdrant::shared(version).unwrap())
}

/// A timeline of two versions; the second declares the same collection and has these fills.
fn timeline(world: &World, settings: &str, fills: &str) {
    let collection = format!(
        "[[collection]]\nmatch = \"${{QDRANT_COLLECTION_NAME}}\"\nensure = [\"${{QDRANT_COLLECTION_NAME}}\"]\n{settings}\n\
         [collection.vectors]\na = {{ size = 2, distance = 'Dot' }}\nb = {{ size = 2, distance = 'Dot' }}\n\
         c = {{ size = 2, distance = 'Dot' }}\n[collection.sparse_vectors]\ns = {{}}\n"
    );
    world.version("0001_users", "create table users (id bigint primary key);", &collection);
    world.migrations.write("0002_fill.toml", &format!("compatible_from = 1\n{fills}"));
}

/// Brings a fresh pair of stores to version 1 and gives it points.
fn start_at_one(world: &World, points: &[Value]) {
    let fill = world.migrations.path().join("0002_fill.toml");
    let text = std::fs::read_to_string(&fill).unwrap();
    std::fs::remove_file(&fill).unwrap();
    world.record();
    world.output(["migrate"]).expect(0);
    upsert(world, points);
    std::fs::write(fill, text).unwrap();
    world.record();
}

fn call(world: &World, method: &str, path: &str, body: &Value) -> Value {
    let path = format!("/collections/{}{path}", world.collection);
    let (status, text) = world.qdrant.rest(method, &path, &body.to_string()).unwrap();
    assert_eq!(status, 200, "{method} {path}: {text}");
    serde_json::from_str::<Value>(&text).unwrap()["result"].take()
}

fn upsert(world: &World, points: &[Value]) {
    for batch in points.chunks(500) {
        call(world, "PUT", "/points?wait=true", &json!({ "points": batch }));
    }
}

fn points(world: &World) -> Vec<Value> {
    let all = json!({ "limit": 100_000, "with_payload": true, "with_vector": true });
    let mut result = call(world, "POST", "/points/scroll", &all);
    serde_json::from_value(result["points"].take()).unwrap()
}

const FILLS: &str = "
[[fill]]
vector = 'b'
from = { vector = 'a' }
[[fill]]
vector = 'c'
from = { payload = 'embedding' }
[[fill]]
vector = 's'
from = { payload = 'words' }
[[fill]]
payload = 'source'
set = { kind = 'import', n = [1, 2.5, true] }
[[fill]]
payload = 'lang'
default = 'en'
[[fill]]
payload = 'user id'
renamed_from = 'uid'
[[fill]]
payload = 'é'
remove = true
";

fn mixed() -> Vec<Value> {
    vec![
        json!({ "id": 1, "vector": { "a": [1, 2] }, "payload": { "embedding": [3, 4], "uid": 7, "é": 1, "keep": null } }),
        json!({ "id": 2, "vector": { "a": [1, 2], "b": [5, 6] }, "payload": { "lang": "de", "words": { "indices": [3], "values": [0.5] } } }),
        json!({ "id": 3, "vector": {}, "payload": { "embedding": null } }),
        json!({ "id": "550e8400-e29b-41d4-a716-446655440000", "vector": { "c": [8, 9] }, "payload": { "embedding": [1, 1], "uid": [1], "user id": [1] } }),
    ]
}

#[test]
fn every_point_gets_what_it_lacks_and_keeps_the_rest() {
    for server in SERVERS {
        let world = world(server);
        timeline(&world, "", FILLS);
        start_at_one(&world, &mixed());
        world.output(["plan", "--exit-code"]).expect(2);
        let planned = world.output(["plan"]).expect(0).stdout;
        assert!(planned.contains("fill vector b from vector a (version 2)"), "{planned}");
        world.output(["migrate"]).expect(0).says(&["rename payload uid to user id (version 2)"]);
        let source = json!({ "kind": "import", "n": [1, 2.5, true] });
        let wanted = [
            json!({ "id": 1, "vector": { "a": [1.0, 2.0], "b": [1.0, 2.0], "c": [3.0, 4.0] },
                "payload": { "embedding": [3, 4], "user id": 7, "keep": null, "source": source, "lang": "en" } }),
            json!({ "id": 2, "vector": { "a": [1.0, 2.0], "b": [5.0, 6.0], "s": { "indices": [3], "values": [0.5] } },
                "payload": { "lang": "de", "words": { "indices": [3], "values": [0.5] }, "source": source } }),
            json!({ "id": 3, "vector": {}, "payload": { "embedding": null, "source": source, "lang": "en" } }),
            json!({ "id": "550e8400-e29b-41d4-a716-446655440000", "vector": { "c": [8.0, 9.0] },
                "payload": { "embedding": [1, 1], "user id": [1], "source": source, "lang": "en" } }),
        ];
        assert_eq!(points(&world), wanted);
        assert_eq!(world.stamp()["version"], 2);
        world.output(["verify"]).expect(0);
        // A later point is not filled again: the stamp says that the version is there.
        upsert(&world, &[json!({ "id": 9, "vector": { "a": [1, 1] }, "payload": {} })]);
        world.output(["migrate"]).expect(0);
        assert_eq!(points(&world)[3]["vector"], json!({ "a": [1.0, 1.0] }));
    }
}

#[test]
fn a_payload_value_that_is_no_vector_stops_the_run_before_anything_is_changed() {
    for server in SERVERS {
        let world = world(server);
        timeline(&world, "", FILLS);
        let mut all = mixed();
        all.extend((100..113).map(|id| json!({ "id": id, "vector": {}, "payload": { "embedding": [id] } })));
        start_at_one(&world, &all);
        let (before, state) = (points(&world), world.state());
        world.output(["migrate"]).expect(76).says(&[
            "13 points of collection",
            "100, 101, 102, 103, 104, 105, 106, 107, 108, 109 and 3 more",
            "payload embedding is not a vector of size 2: it has size 1",
        ]);
        assert_eq!(points(&world), before);
        assert_eq!(world.state(), state, "Postgres went on without Qdrant");
        let ids: Vec<u64> = (100..113).collect();
        call(
            &world,
            "POST",
            "/points/payload/delete?wait=true",
            &json!({ "keys": ["embedding"], "points": ids }),
        );
        world.output(["migrate"]).expect(0);
        assert_eq!(world.stamp()["version"], 2);
    }
}

#[test]
fn values_under_both_names_are_not_guessed() {
    let world = world(QdrantVersion::V1_17_0);
    timeline(&world, "", "[[fill]]\npayload = 'new'\nrenamed_from = 'old'\n");
    start_at_one(&world, &[json!({ "id": 5, "vector": {}, "payload": { "old": 1, "new": 2 } })]);
    world
        .output(["migrate"])
        .expect(76)
        .says(&["1 point of collection", "old and new with different values"]);
    assert_eq!(points(&world)[0]["payload"], json!({ "old": 1, "new": 2 }));
}

#[test]
fn a_killed_fill_is_taken_up_and_every_point_is_filled_once() {
    const POINTS: u64 = 12_000;
    for server in SERVERS {
        let world = world(server);
        timeline(
            &world,
            "",
            "[[fill]]\nvector = 'b'\nfrom = { vector = 'a' }\n[[fill]]\npayload = 'k'\nset = 'x'\n",
        );
        let all: Vec<Value> = (0..POINTS)
            .map(|id| json!({ "id": id, "vector": { "a": [id, 1] }, "payload": { "n": id } }))
            .collect();
        start_at_one(&world, &all);
        let filled = || {
            let has =
                json!({ "filter": { "must": [{ "key": "k", "match": { "value": "x" } }] }, "exact": true });
            call(&world, "POST", "/points/count", &has)["count"].as_u64().unwrap()
        };
        for _ in 0..2 {
            let before = filled();
            let mut child = world.tandem(["migrate"]).stderr(std::process::Stdio::null()).spawn().unwrap();
            while child.try_wait().unwrap().is_none() && filled() <= before {}
            let _ = child.kill();
            child.wait().unwrap();
        }
        world.output(["migrate"]).expect(0);
        let points = points(&world);
        assert_eq!(points.len() as u64, POINTS);
        for point in points {
            assert_eq!(point["vector"]["b"], point["vector"]["a"]);
            assert_eq!(point["payload"], json!({ "n": point["id"], "k": "x" }));
        }
    }
}

/// A write that was answered is on disk, and the journalled cursor never runs ahead of one.
#[test]
fn a_server_that_is_killed_during_a_fill_loses_no_point_and_no_fill() {
    for version in SERVERS {
        let mut own = Qdrant::start(QdrantOptions { version, ..Default::default() }).unwrap();
        let db = local_servers::postgres().create_database("fills");
        let mut world = World::on(db, own.with_api_key(None));
        world.set("TANDEM_TIMEOUT", "2s");
        timeline(
            &world,
            "",
            "[[fill]]\nvector = 'b'\nfrom = { vector = 'a' }\n[[fill]]\npayload = 'k'\nset = 'x'\n",
        );
        let all: Vec<Value> = (0..6000)
            .map(|id| json!({ "id": id, "vector": { "a": [id, 1] }, "payload": { "n": id } }))
            .collect();
        start_at_one(&world, &all);
        let mut child = world.tandem(["migrate"]).stderr(std::process::Stdio::null()).spawn().unwrap();
        let has = json!({ "filter": { "must": [{ "key": "k", "match": { "value": "x" } }] }, "exact": true });
        while child.try_wait().unwrap().is_none()
            && call(&world, "POST", "/points/count", &has)["count"].as_u64().unwrap() < 1000
        {}
        own.kill9().unwrap();
        child.wait().unwrap();
        own.restart().unwrap();
        world.output(["migrate"]).expect(0);
        let points = points(&world);
        assert_eq!(points.len(), 6000);
        for point in points {
            assert_eq!(point["vector"]["b"], point["vector"]["a"]);
            assert_eq!(point["payload"], json!({ "n": point["id"], "k": "x" }));
        }
    }
}

#[test]
fn a_strict_mode_is_kept_to_and_one_that_forbids_everything_is_named() {
    for server in SERVERS {
        let world = world(server);
        let strict = "strict_mode_config = { enabled = true, max_query_limit = 7, upsert_max_batchsize = 3, search_allow_exact = false }";
        timeline(&world, strict, "[[fill]]\nvector = 'b'\nfrom = { vector = 'a' }\n");
        start_at_one(&world, &[]);
        for id in 0..20 {
            upsert(&world, &[json!({ "id": id, "vector": { "a": [id, 1] } })]);
        }
        world.output(["migrate"]).expect(0);
        let strict = json!({ "strict_mode_config": { "max_query_limit": 100_000 } });
        call(&world, "PATCH", "", &strict);
        assert!(points(&world).iter().all(|point| point["vector"]["b"] == point["vector"]["a"]));

        let world = self::world(server);
        timeline(&world, "", "[[fill]]\nvector = 'b'\nfrom = { vector = 'a' }\n");
        start_at_one(&world, &[json!({ "id": 1, "vector": { "a": [1, 1] } })]);
        call(
            &world,
            "PATCH",
            "",
            &json!({ "strict_mode_config": { "enabled": true, "upsert_max_batchsize": 0 } }),
        );
        world.output(["migrate"]).expect(76).says(&["strict mode", "upsert_max_batchsize"]);
    }
}

/// What is deferred would be taken for filled.
#[test]
fn a_collection_that_may_hide_points_is_not_filled() {
    let world = world(QdrantVersion::V1_17_0);
    timeline(&world, "", "[[fill]]\nvector = 'b'\nfrom = { vector = 'a' }\n");
    start_at_one(&world, &[json!({ "id": 1, "vector": { "a": [1, 1] } })]);
    let hide = |on: bool| {
        call(&world, "PATCH", "", &json!({ "optimizers_config": { "prevent_unoptimized": on } }));
    };
    hide(true);
    let state = world.state();
    world.output(["migrate"]).expect(76).says(&["hides points", "prevent_unoptimized = false"]);
    assert_eq!(world.state(), state);
    hide(false);
    world.output(["migrate"]).expect(0);
    assert_eq!(points(&world)[0]["vector"]["b"], points(&world)[0]["vector"]["a"]);
}

#[test]
fn a_fill_of_what_the_collection_lacks_is_refused_by_name() {
    let world = world(QdrantVersion::V1_17_0);
    timeline(&world, "", "[[fill]]\nvector = 'b'\nfrom = { vector = 'a' }\n");
    // The same declaration as the application made it: without `a` and `b`.
    world.record();
    let made = json!({ "vectors": { "c": { "size": 2, "distance": "Dot" } }, "sparse_vectors": { "s": {} } });
    call(&world, "PUT", "", &made);
    upsert(&world, &[json!({ "id": 1, "vector": { "c": [1, 1] } })]);
    world.output(["migrate"]).expect(76).says(&["has no vector `a`"]);
}

#[test]
fn fills_that_cannot_be_are_found_without_a_store() {
    let world = world(QdrantVersion::V1_17_0);
    for (fill, words) in [
        ("vector = 'b'\nfrom = { vector = 'x' }", "reads the vector `x`, which neither"),
        ("vector = 'x'\nfrom = { vector = 'a' }", "the vector `x`, which no collection declares"),
        ("vector = 's'\nfrom = { vector = 'a' }", "a sparse vector"),
        ("vector = 'b'\nfrom = { vectr = 'a' }", "did you mean `vector`?"),
        ("vector = 'b'\nfrm = { vector = 'a' }", "did you mean `from`?"),
        ("payload = 'k'\nset = 1\nremove = true", "exactly one of"),
        ("payload = 'k.l'\nset = 1", "top-level"),
        ("payload = 'k'\nset = 1\n[[fill]]\npayload = 'k'\nremove = true", "filled twice"),
    ] {
        timeline(&world, "", &format!("[[fill]]\n{fill}\n"));
        let outcome = world.output(["lint"]).expect(65);
        let text = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(text.contains(words) && text.contains("0002_fill.toml"), "{fill}: {text}");
    }
}

#[test]
fn a_key_that_may_only_read_fills_nothing() {
    for version in SERVERS {
        let own = Qdrant::start(QdrantOptions {
            version,
            api_key: Some("sesame".into()),
            env: vec![("QDRANT__SERVICE__READ_ONLY_API_KEY".into(), "canary".into())],
            ..Default::default()
        })
        .unwrap();
        let db = local_servers::postgres().create_database("fills");
        let mut world = World::on(db, own.with_api_key(own.api_key()));
        timeline(&world, "", FILLS);
        start_at_one(&world, &mixed());
        let (before, state) = (points(&world), world.state());
        world.set("QDRANT_API_KEY", "canary");
        // Reading needs no more than it has.
        world.output(["plan", "--exit-code"]).expect(2);
        let name = world.collection.clone();
        world.output(["validate", &name]).expect(2);
        world.output(["rebuild", &name, "--dry-run"]).expect(0);
        world.output(["retained", "list"]).expect(0);
        world.output(["snapshot", "create", &name]).expect(77);
        let outcome = world.output(["migrate"]).expect(77);
        assert!(!outcome.stderr.contains("canary"), "{}", outcome.stderr);
        assert_eq!((points(&world), world.state()), (before, state));
    }
}

/// Qdrant's gRPC answers round them.
#[test]
fn whole_numbers_that_no_double_holds_are_renamed_to_the_last_digit() {
    for version in SERVERS {
        let world = world(version);
        timeline(&world, "", "[[fill]]\npayload = 'hash'\nrenamed_from = 'h'\n");
        let payload = |key: &str| json!({ key: { "é": [u64::MAX, 1e19, 1] }, "keep": u64::MAX - 1 });
        start_at_one(&world, &[json!({ "id": 1, "vector": {}, "payload": payload("h") })]);
        world.output(["migrate"]).expect(0);
        assert_eq!(points(&world)[0]["payload"], payload("hash"));
    }
}

/// Both servers read this number back with another last digit.
#[test]
fn a_number_that_the_server_itself_changes_is_set_once() {
    for version in SERVERS {
        let world = world(version);
        timeline(&world, "", "[[fill]]\npayload = 'at'\nset = 1700084802.6246367\n");
        start_at_one(&world, &[json!({ "id": 1, "vector": {} })]);
        world.output(["migrate"]).expect(0);
        let at = points(&world)[0]["payload"]["at"].as_f64().unwrap();
        assert!((at - 1_700_084_802.624_636_7).abs() < 1e-6);
    }
}

#[test]
fn a_new_collection_and_an_empty_one_have_nothing_to_fill() {
    for server in SERVERS {
        let world = world(server);
        timeline(&world, "", FILLS);
        world.record();
        let outcome = world.output(["migrate"]).expect(0);
        assert!(!outcome.stderr.contains("fill vector"), "{}", outcome.stderr);
        let names: BTreeSet<String> = world.collection_info().unwrap()["config"]["params"]["vectors"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        assert_eq!(names, ["a", "b", "c"].map(str::to_owned).into());
    }
}
