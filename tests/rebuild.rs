//! Rebuilds on real servers: every kind of collection that a release left behind reaches the declared schema with every
//! point, and what cannot is refused with its points untouched.

mod common;

use common::World;
use common::points::{create, info, names, points, put, rest};
use local_servers::proxy::{Action, Direction, Proxy};
use local_servers::{Qdrant, QdrantOptions, QdrantVersion};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

/// One version whose declaration is the test's, recorded; Postgres is the same in all of them.
fn world(version: QdrantVersion, collection: &str) -> World {
    world_on(Qdrant::shared(version).unwrap(), collection)
}

fn world_on(qdrant: Qdrant, collection: &str) -> World {
    static RECORDED: OnceLock<World> = OnceLock::new();
    let recorded = RECORDED.get_or_init(|| {
        let world = World::empty();
        world.version("0001_users", "create table users (id bigint primary key);\n", "compatible_from = 1\n");
        world.record();
        world
    });
    let world = recorded.sibling_on(qdrant);
    let toml = format!(
        "compatible_from = 1\n[[collection]]\nmatch = \"${{QDRANT_COLLECTION_NAME}}\"\nensure = [\"${{QDRANT_COLLECTION_NAME}}\"]\n{collection}"
    );
    world.migrations.write("0001_users.toml", &toml);
    world.pretend_recorded();
    world
}

fn both(test: impl Fn(QdrantVersion)) {
    QdrantVersion::ALL.into_iter().for_each(test);
}

const NAMED: &str = "vectors.content = { size = 4, distance = 'Cosine' }\nvectors.emotion = { size = 3, distance = 'Dot' }\n\
                     payload_indexes = { user_id = 'keyword', at = 'float' }\n";

const FROM_UNNAMED: &str = "[[fill]]\nvector = 'content'\nfrom = { vector = '' }\n";

#[test]
fn one_unnamed_vector_becomes_a_named_one_under_the_same_name() {
    both(|version| {
        let world = world(version, &format!("{NAMED}{FROM_UNNAMED}"));
        let name = world.collection.clone();
        create(&world, &name, &json!({ "vectors": { "size": 4, "distance": "Cosine" } }));
        let ids = (0..300).map(|n| json!({ "id": n, "vector": [n + 1, 1, 2, 3], "payload": { "user_id": format!("u{n}"), "n": n } }));
        put(&world, &name, &ids.collect::<Vec<_>>());
        let before = points(&world, &name);
        world.start(&["true"]).expect(0);
        let after = points(&world, &name);
        assert_eq!(after.len(), 300);
        for (id, point) in &before {
            assert_eq!(after[id]["payload"], point["payload"]);
            assert_eq!(after[id]["vector"], json!({ "content": point["vector"] }));
        }
        let found = info(&world, &name);
        assert_eq!(found["config"]["params"]["vectors"]["content"]["size"], 4);
        assert_eq!(found["config"]["params"]["vectors"]["emotion"]["distance"], "Dot");
        assert_eq!(found["payload_schema"]["at"]["data_type"], "float");
        assert_eq!(found["config"]["metadata"]["tandem"]["role"], "live");
        // The verified copy is kept by its exact name, and goes on request only.
        let kept = format!("_tandem_shadow_{name}_1");
        assert_eq!(names(&world), [kept.clone(), name.clone()]);
        world.start(&["true"]).expect(0);
        world.output(["retained", "drop", &kept]).expect(0);
        assert_eq!(names(&world), [name]);
        world.start(&["true"]).expect(0);
    });
}

#[test]
fn a_name_that_is_an_alias_is_led_to_the_rebuilt_collection_in_one_call() {
    both(|version| {
        let world = world(version, NAMED);
        let (alias, old) = (world.collection.clone(), format!("{}_7d", world.collection));
        create(&world, &old, &json!({ "vectors": { "content": { "size": 4, "distance": "Cosine" } } }));
        let other = format!("{alias}_other");
        let lead = |alias: &str| json!({ "create_alias": { "collection_name": old, "alias_name": alias } });
        rest(&world, "POST", "/collections/aliases", &json!({ "actions": [lead(&alias), lead(&other)] }));
        put(
            &world,
            &old,
            &[json!({ "id": 7, "vector": { "content": [1, 2, 3, 4] }, "payload": { "user_id": "a" } })],
        );
        let before = points(&world, &old);
        world.start(&["true"]).expect(0);
        assert_eq!(points(&world, &alias), before);
        assert_eq!(points(&world, &other), before);
        assert_eq!(points(&world, &old), before, "what it replaced is as it was");
        assert!(info(&world, &alias)["config"]["params"]["vectors"]["emotion"].is_object());
        assert_eq!(names(&world), [format!("_tandem_shadow_{old}_1"), old.clone()]);
        world.start(&["true"]).expect(0);
        world.output(["rollback", &alias]).expect(0);
        assert!(info(&world, &alias)["config"]["params"]["vectors"]["emotion"].is_null());
    });
}

#[test]
fn a_distance_a_datatype_a_list_and_the_write_ahead_log_are_changed_by_a_copy() {
    both(|version| {
        let declared = "vectors.a = { size = 3, distance = 'Cosine' }\nvectors.b = { size = 2, distance = 'Dot', datatype = 'float16' }\n\
                        vectors.c = { size = 2, distance = 'Dot', multivector_config = { comparator = 'max_sim' } }\nwal_config = { wal_capacity_mb = 8 }\n";
        let world = world(version, declared);
        let name = world.collection.clone();
        let vectors = json!({
            "a": { "size": 3, "distance": "Euclid" },
            "b": { "size": 2, "distance": "Dot" },
            "c": { "size": 2, "distance": "Dot" },
            "own": { "size": 1, "distance": "Manhattan" },
        });
        create(&world, &name, &json!({ "vectors": vectors, "sparse_vectors": { "words": {} } }));
        let all: Vec<Value> = (0..40)
            .map(|n| {
                let mut vector = json!({ "a": [n, 4, 3], "b": [0.1 * f64::from(n), -7.25], "own": [n] });
                if n % 2 == 0 {
                    vector["c"] = json!([n, 1]);
                    vector["words"] = json!({ "indices": [9, n + 10], "values": [0.5, 1.5] });
                }
                json!({ "id": n, "vector": vector, "payload": { "deep": { "ü": [n, null, { "lat": 1.5, "lon": -2.0 }] } } })
            })
            .collect();
        put(&world, &name, &all);
        let before = points(&world, &name);
        world.start(&["true"]).expect(0);
        let after = points(&world, &name);
        assert_eq!(before.len(), after.len());
        let number = |value: &Value| value.as_f64().unwrap();
        for (id, old) in &before {
            let new = &after[id];
            assert_eq!(new["payload"], old["payload"]);
            let (old, new) = (&old["vector"], &new["vector"]);
            assert_eq!(new["own"], old["own"]);
            assert_eq!(new["words"], old["words"]);
            let row = old["a"].as_array().unwrap();
            let norm = row.iter().map(|x| number(x).powi(2)).sum::<f64>().sqrt();
            for (old, new) in row.iter().zip(new["a"].as_array().unwrap()) {
                assert!((number(old) / norm - number(new)).abs() < 1e-6);
            }
            for (old, new) in old["b"].as_array().unwrap().iter().zip(new["b"].as_array().unwrap()) {
                assert!((number(old) - number(new)).abs() <= 1e-3 * number(old).abs(), "{old} {new}");
            }
            let list = if old["c"].is_null() { Value::Null } else { json!([old["c"]]) };
            assert_eq!(new["c"], list);
        }
        assert_eq!(info(&world, &name)["config"]["wal_config"]["wal_capacity_mb"], 8);
    });
}

#[test]
fn a_vector_that_no_rule_takes_along_is_refused_and_its_points_stay() {
    let world = world(QdrantVersion::default(), NAMED);
    let name = world.collection.clone();
    create(&world, &name, &json!({ "vectors": { "size": 4, "distance": "Cosine" } }));
    put(&world, &name, &[json!({ "id": 1, "vector": [1, 2, 3, 4] })]);
    let before = points(&world, &name);
    world.start(&["true"]).expect(76).says(&["one unnamed vector", "[[fill]]", &name]);
    assert_eq!(points(&world, &name), before);
    assert_eq!(names(&world), [name]);
}

#[test]
fn a_collection_that_an_application_made_empty_is_rebuilt_too() {
    let world = world(QdrantVersion::default(), NAMED);
    create(&world, &world.collection, &json!({ "vectors": { "size": 9, "distance": "Dot" } }));
    world.start(&["true"]).expect(0);
    assert_eq!(info(&world, &world.collection)["config"]["params"]["vectors"]["content"]["size"], 4);
}

#[test]
fn an_absent_collection_whose_copy_is_another_ledgers_is_never_created_empty() {
    let world = world(QdrantVersion::default(), NAMED);
    let copy = format!("_tandem_shadow_{}_1", world.collection);
    let stamp = json!({ "tandem": { "lineage": "b6f8a0aa-0000-4000-8000-000000000000", "timeline": "demo", "version": 1, "epoch": 3,
        "role": { "shadow": { "source": world.collection, "phase": "verified" } } } });
    create(
        &world,
        &copy,
        &json!({ "vectors": { "content": { "size": 4, "distance": "Cosine" } }, "metadata": stamp }),
    );
    world.start(&["true"]).expect(76).says(&[&copy, "absent", "verified"]);
    assert_eq!(names(&world), [copy]);
}

/// A collection that a copy reads in several pages.
fn several_pages(version: QdrantVersion) -> World {
    let world = world(version, NAMED);
    create(
        &world,
        &world.collection,
        &json!({ "vectors": { "content": { "size": 4, "distance": "Cosine" } } }),
    );
    let all: Vec<Value> =
        (0..600).map(|n| json!({ "id": n, "vector": { "content": [n + 1, 2, 3, 4] } })).collect();
    put(&world, &world.collection, &all);
    world
}

#[test]
fn a_writer_during_the_copy_is_detected_and_the_source_stays() {
    both(|version| {
        let world = several_pages(version);
        let name = world.collection.clone();
        let proxy = Proxy::start((world.qdrant.host(), world.qdrant.grpc_port())).unwrap();
        let (server, source) = (world.qdrant.clone(), name.clone());
        let written = Arc::new(AtomicUsize::new(0));
        let count = written.clone();
        proxy.on_chunk(move |chunk| {
            // An answer of this size is a page of points.
            if chunk.direction == Direction::ToClient && chunk.bytes.len() > 4000 {
                let id = count.fetch_add(1, SeqCst);
                let body = json!({ "points": [{ "id": id, "vector": { "content": [0, 0, 0, id + 1] }, "payload": { "new": id } }] });
                server.rest("PUT", &format!("/collections/{source}/points?wait=true"), &body.to_string()).unwrap();
            }
            Action::Forward
        });
        let mut command = world.tandem(["run", "--", "true"]);
        command.env("QDRANT_URL", proxy.url(&world.qdrant.grpc_url()));
        let output = command.output().unwrap();
        assert!(written.load(SeqCst) > 0);
        assert_eq!(output.status.code(), Some(76), "{}", common::text(&output));
        assert!(
            common::text(&output).contains("was written to while it was copied"),
            "{}",
            common::text(&output)
        );
        let before = points(&world, &name);
        assert_eq!(before.len(), 600);
        world.start(&["true"]).expect(0);
        assert_eq!(points(&world, &name), before);
    });
}

/// A comparison holds the vectors against what was copied: one that changes behind that is noticed by the number of the operation.
#[test]
fn a_vector_that_changes_behind_its_copy_is_brought_over() {
    both(|version| {
        let world = several_pages(version);
        let name = world.collection.clone();
        let mut expected = points(&world, &name);
        let proxy = Proxy::start((world.qdrant.host(), world.qdrant.grpc_port())).unwrap();
        let (server, source, written) =
            (world.qdrant.clone(), name.clone(), Arc::new(AtomicBool::new(false)));
        let once = written.clone();
        proxy.on_chunk(move |chunk| {
            // An answer of this size is a page behind the first one.
            let page = chunk.direction == Direction::ToClient && chunk.bytes.len() > 4000;
            if page && !once.swap(true, SeqCst) {
                let body = json!({ "points": [{ "id": 0, "vector": { "content": [0, 0, 0, 1] } }] });
                let path = format!("/collections/{source}/points/vectors?wait=true");
                assert_eq!(server.rest("PUT", &path, &body.to_string()).unwrap().0, 200);
            }
            Action::Forward
        });
        let mut command = world.tandem(["run", "--", "true"]);
        command.env("QDRANT_URL", proxy.url(&world.qdrant.grpc_url()));
        let output = command.output().unwrap();
        assert!(written.load(SeqCst));
        assert!(output.status.success(), "{}", common::text(&output));
        let found = points(&world, &name);
        expected.get_mut("0").unwrap()["vector"]["content"] = json!([0.0, 0.0, 0.0, 1.0]);
        assert_eq!(found, expected);
    });
}

/// A collection of 40 points that needs one more vector: the world, the collection's name and its points.
fn forty_points(version: QdrantVersion) -> (World, String, std::collections::BTreeMap<String, Value>) {
    let world = world(version, NAMED);
    let name = world.collection.clone();
    create(&world, &name, &json!({ "vectors": { "content": { "size": 4, "distance": "Cosine" } } }));
    put(&world, &name, &some(40));
    let before = points(&world, &name);
    (world, name, before)
}

/// What comes back from a snapshot is held against what is known of the verified copy, and against that copy itself if it differs.
#[test]
fn a_collection_that_comes_back_otherwise_than_it_was_verified_is_copied_again() {
    both(|version| {
        let (world, name, before) = forty_points(version);
        let proxy = Proxy::start((world.qdrant.host(), world.qdrant.grpc_port())).unwrap();
        let (server, path, done) =
            (world.qdrant.clone(), format!("/collections/{name}"), AtomicBool::new(false));
        proxy.on_chunk(move |_| {
            let (status, info) = server.rest("GET", &path, "").unwrap();
            if status == 200 && info.contains("shadow") && !done.swap(true, SeqCst) {
                // A deletion right behind the recovery is let through, and undone. Whoever puts a point is refused.
                let write = |method: &str, to: &str, body: &Value| {
                    server.rest(method, &format!("{path}/points{to}?wait=true"), &body.to_string()).unwrap()
                };
                let (status, answer) = write("POST", "/delete", &json!({ "points": [7] }));
                assert_eq!(status, 200, "{answer}");
                let new = json!({ "points": [{ "id": 7000, "vector": { "content": [1, 2, 3, 4] } }] });
                let (status, answer) = write("PUT", "", &new);
                assert!((400..500).contains(&status), "{status} {answer}");
            }
            Action::Forward
        });
        let mut command = world.tandem(["run", "--", "true"]);
        command.env("QDRANT_URL", proxy.url(&world.qdrant.grpc_url()));
        let output = common::text(&command.output().unwrap());
        let copied = format!("copied 40 points of _tandem_shadow_{name}_1");
        assert!(output.contains("read back ") && output.contains(&copied), "{output}");
        assert_eq!(points(&world, &name), before);
    });
}

/// No server compares the checksum of what comes back (docs/decisions/0032-the-way-back-without-a-checksum.md).
#[test]
fn a_bit_of_a_vector_that_flips_on_the_way_back_is_found_by_reading_back() {
    both(|version| {
        let (world, name, before) = forty_points(version);
        let numbers = before["7"]["vector"]["content"].as_array().unwrap().iter();
        // Numbers of a vector storage are four bytes, the lowest first; the third one's last bit is far more than any rounding.
        let stored: Vec<u8> = numbers.flat_map(|n| (n.as_f64().unwrap() as f32).to_le_bytes()).collect();
        let proxy = Proxy::start((world.qdrant.host(), world.qdrant.http_port())).unwrap();
        let flipped = Arc::new(AtomicU32::new(0));
        let flips = flipped.clone();
        proxy.on_chunk(move |chunk| {
            let at = chunk.bytes.windows(stored.len()).position(|window| window == stored);
            match at.filter(|_| chunk.direction == Direction::ToServer) {
                Some(at) => {
                    flips.fetch_add(1, SeqCst);
                    Action::Flip(at + 2)
                }
                None => Action::Forward,
            }
        });
        let mut command = world.tandem(["run", "--", "true"]);
        command.env("QDRANT_PORT", proxy.port().to_string());
        let output = command.output().unwrap();
        let text = common::text(&output);
        assert_ne!(flipped.load(SeqCst), 0, "the vector was not seen on its way");
        let copied = format!("copied 40 points of _tandem_shadow_{name}_1");
        assert!(output.status.success() && text.contains(&copied), "{text}");
        assert_eq!(points(&world, &name), before);
    });
}

/// The copy's snapshot is on its way before the source goes. If that breaks off, the source is still there, and another one is sent.
#[test]
fn a_snapshot_that_breaks_off_on_its_way_is_sent_once_more() {
    both(|version| {
        let (world, name, before) = forty_points(version);
        let proxy = Proxy::start((world.qdrant.host(), world.qdrant.http_port())).unwrap();
        let (sent, there) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, was_there) = (sent.clone(), there.clone());
        let (server, path) = (world.qdrant.clone(), format!("/collections/{name}"));
        proxy.on_chunk(move |chunk| {
            if !chunk.bytes.windows(16).any(|w| w == b"snapshots/upload") || seen.fetch_add(1, SeqCst) > 0 {
                return Action::Forward;
            }
            was_there.store(server.rest("GET", &path, "").unwrap().0 == 200, SeqCst);
            Action::CutBefore
        });
        let mut command = world.tandem(["run", "--", "true"]);
        command.env("QDRANT_PORT", proxy.port().to_string());
        let output = command.output().unwrap();
        let text = common::text(&output);
        assert!(output.status.success() && text.contains("is sent once more"), "{text}");
        assert!(!text.contains("copying the points back"), "{text}");
        assert!(there.load(SeqCst), "the source was gone before its successor was on its way");
        assert_eq!(sent.load(SeqCst), 2);
        assert_eq!(points(&world, &name), before);
    });
}

/// A run whose connection to Qdrant breaks at the message that has these bytes.
fn interrupted(world: &World, at: &'static [u8]) {
    let proxy = Proxy::start((world.qdrant.host(), world.qdrant.grpc_port())).unwrap();
    proxy.on_chunk(move |chunk| {
        let here = chunk.direction == Direction::ToServer && chunk.bytes.windows(at.len()).any(|w| w == at);
        if here { Action::CutBefore } else { Action::Forward }
    });
    let mut command = world.tandem(["run", "--", "true"]);
    command.env("QDRANT_URL", proxy.url(&world.qdrant.grpc_url()));
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{}", common::text(&output));
}

/// The place between a copy that is whole and the stamp that says so.
const BEFORE_VERIFIED: &[u8] = b"verified";

fn lead(world: &World, alias: &str, to: &str) {
    let lead = json!({ "create_alias": { "collection_name": to, "alias_name": alias } });
    rest(world, "POST", "/collections/aliases", &json!({ "actions": [lead] }));
}

fn some(count: u32) -> Vec<Value> {
    let point = |n| json!({ "id": n, "vector": { "content": [n + 1, 1, 2, 3] }, "payload": { "user_id": format!("u{n}") } });
    (0..count).map(point).collect()
}

#[test]
fn a_strict_mode_on_the_source_is_kept_to_and_kept() {
    both(|version| {
        for alias in [false, true] {
            let world = world(version, NAMED);
            let name = world.collection.clone();
            let real = if alias { format!("{name}_7d") } else { name.clone() };
            create(&world, &real, &json!({ "vectors": { "content": { "size": 4, "distance": "Dot" } } }));
            if alias {
                lead(&world, &name, &real);
            }
            put(&world, &real, &some(20));
            let before = points(&world, &real);
            let strict = json!({ "enabled": true, "max_query_limit": 7, "upsert_max_batchsize": 0, "search_allow_exact": false,
                "read_rate_limit": 1200, "write_rate_limit": 1, "max_points_count": 3, "max_timeout": 1,
                "unindexed_filtering_retrieve": false, "unindexed_filtering_update": false });
            rest(&world, "PATCH", &format!("/collections/{real}"), &json!({ "strict_mode_config": strict }));
            // The run begins with nothing left of what it may read in this minute.
            let scroll =
                || world.qdrant.rest("POST", &format!("/collections/{real}/points/scroll"), "{\"limit\": 1}");
            while scroll().unwrap().0 == 200 {}
            world.start(&["true"]).expect(0);
            let mut after = info(&world, &name)["config"]["strict_mode_config"].take();
            // A server cannot unset a limit: one that was put there for a while limits nothing afterwards.
            let own = |field: &String, limit: &mut Value| {
                !strict[field].is_null() || limit.as_u64() < Some(1 << 32)
            };
            after.as_object_mut().unwrap().retain(own);
            assert_eq!(after, strict);
            rest(
                &world,
                "PATCH",
                &format!("/collections/{name}"),
                &json!({ "strict_mode_config": { "enabled": false } }),
            );
            let after = points(&world, &name);
            assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
            assert!(before.iter().all(|(id, point)| after[id]["payload"] == point["payload"]));
        }
    });
}

#[test]
fn a_copy_that_has_its_final_limits_already_is_finished() {
    both(|version| {
        for alias in [false, true] {
            let limits = "strict_mode_config = { enabled = true, upsert_max_batchsize = 2, max_points_count = 5, write_rate_limit = 1 }\n";
            let world = world(version, &format!("{NAMED}{limits}"));
            let name = world.collection.clone();
            let real = if alias { format!("{name}_7d") } else { name.clone() };
            create(&world, &real, &json!({ "vectors": { "content": { "size": 4, "distance": "Dot" } } }));
            if alias {
                lead(&world, &name, &real);
            }
            put(&world, &real, &some(40));
            interrupted(&world, BEFORE_VERIFIED);
            assert_eq!(
                info(&world, &format!("_tandem_shadow_{real}_1"))["config"]["strict_mode_config"]["enabled"],
                true
            );
            // The application went on meanwhile.
            put(&world, &real, &some(60)[30..]);
            let before = points(&world, &real);
            world.start(&["true"]).expect(0);
            let after = points(&world, &name);
            assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
            assert_eq!(info(&world, &name)["config"]["strict_mode_config"]["upsert_max_batchsize"], 2);
        }
    });
}

/// A newer image, with another vector.
fn newer_image(world: &World) {
    let toml = std::fs::read_to_string(world.migrations.path().join("0001_users.toml")).unwrap();
    let toml = toml
        .replace(FROM_UNNAMED, "")
        .replace("vectors.content", "vectors.more = { size = 2, distance = 'Dot' }\nvectors.content");
    world.migrations.write("0002_more.toml", &toml);
    world.record();
}

#[test]
fn a_shadow_that_an_older_image_began_ends_at_the_head() {
    both(|version| {
        for deleted in [false, true] {
            let world = world(version, &format!("{NAMED}{FROM_UNNAMED}"));
            let name = world.collection.clone();
            create(&world, &name, &json!({ "vectors": { "size": 4, "distance": "Cosine" } }));
            let ids = (0..40).map(
                |n| json!({ "id": n, "vector": [n + 1, 1, 2, 3], "payload": { "user_id": format!("u{n}") } }),
            );
            put(&world, &name, &ids.collect::<Vec<_>>());
            let before = points(&world, &name);
            interrupted(&world, BEFORE_VERIFIED);
            let shadow = format!("_tandem_shadow_{name}_1");
            if deleted {
                // It went on as far as its point of no return.
                let mut stamp = info(&world, &shadow)["config"]["metadata"]["tandem"].take();
                stamp["role"]["shadow"]["phase"] = json!("verified");
                rest(
                    &world,
                    "PATCH",
                    &format!("/collections/{shadow}"),
                    &json!({ "metadata": { "tandem": stamp } }),
                );
                rest(&world, "DELETE", &format!("/collections/{name}"), &Value::Null);
            }
            newer_image(&world);
            world.start(&["true"]).expect(0);
            let after = points(&world, &name);
            assert_eq!(after.len(), before.len());
            for (id, point) in &before {
                assert_eq!(after[id]["payload"], point["payload"]);
                assert_eq!(after[id]["vector"], json!({ "content": point["vector"] }));
            }
            let found = info(&world, &name);
            assert_eq!(found["config"]["params"]["vectors"]["more"]["size"], 2);
            assert_eq!(
                (
                    found["config"]["metadata"]["tandem"]["version"].as_i64(),
                    &found["config"]["metadata"]["tandem"]["role"]
                ),
                (Some(2), &json!("live"))
            );
            // What the older image had begun is in the journal, and goes on request.
            assert_eq!(names(&world), [shadow.clone(), format!("_tandem_shadow_{name}_2"), name.clone()]);
            world.output(["retained", "drop", &shadow]).expect(0);
            world.start(&["true"]).expect(0);
        }
    });
}

#[test]
fn a_key_that_may_only_read_rebuilds_nothing_and_leaves_postgres_alone() {
    both(|version| {
        let own = Qdrant::start(QdrantOptions {
            version,
            api_key: Some("sesame".into()),
            env: vec![("QDRANT__SERVICE__READ_ONLY_API_KEY".into(), "canary".into())],
            ..Default::default()
        })
        .unwrap();
        let mut world = world_on(own.with_api_key(own.api_key()), NAMED);
        let name = world.collection.clone();
        create(&world, &name, &json!({ "vectors": { "content": { "size": 4, "distance": "Dot" } } }));
        put(&world, &name, &some(5));
        let before = (points(&world, &name), world.state());
        world.set("QDRANT_API_KEY", "canary");
        world.start(&["true"]).expect(77).says(&["an API key that may manage collections"]);
        assert_eq!((points(&world, &name), world.state()), before);
        assert_eq!(names(&world), [name]);
    });
}

/// Qdrant's gRPC answers round them.
#[test]
fn whole_numbers_that_no_double_holds_are_copied_to_the_last_digit() {
    both(|version| {
        for (alias, fill) in
            [(false, ""), (true, ""), (true, "[[fill]]\npayload = 'hash'\nrenamed_from = 'h'\n")]
        {
            let world = world(version, &format!("{NAMED}{fill}"));
            let name = world.collection.clone();
            let real = if alias { format!("{name}_7d") } else { name.clone() };
            create(&world, &real, &json!({ "vectors": { "content": { "size": 4, "distance": "Dot" } } }));
            if alias {
                lead(&world, &name, &real);
            }
            let key = if fill.is_empty() { "hash" } else { "h" };
            let payload = |n: u64| json!({ "user_id": "a", key: u64::MAX - n, "all": [{ "é": (1u64 << 63) + n }, 1e19, null, -1] });
            let all = (0..300).map(|n| json!({ "id": n, "vector": {}, "payload": if n % 3 == 0 { json!({}) } else { payload(n) } }));
            put(&world, &real, &all.collect::<Vec<_>>());
            let before = points(&world, &real);
            world.start(&["true"]).expect(0);
            let after = points(&world, &name);
            assert_eq!(after.len(), before.len());
            for (id, point) in &before {
                let text = point["payload"].to_string().replace("\"h\":", "\"hash\":");
                assert_eq!(after[id]["payload"], serde_json::from_str::<Value>(&text).unwrap());
            }
        }
    });
}

#[test]
fn a_sparse_vector_beside_one_without_a_name_is_copied_with_it() {
    both(|version| {
        let unnamed = "vectors = { size = 4, distance = 'Euclid' }\n".to_owned();
        for (declared, key) in [(format!("{NAMED}{FROM_UNNAMED}"), "content"), (unnamed, "")] {
            let world = world(version, &declared);
            let name = world.collection.clone();
            let vectors = json!({ "size": 4, "distance": "Dot" });
            create(&world, &name, &json!({ "vectors": vectors, "sparse_vectors": { "words": {} } }));
            let words = json!({ "indices": [3, 70], "values": [0.5, 1.5] });
            let row = json!([0.0, 1.0, 0.0, 0.0]);
            put(
                &world,
                &name,
                &[
                    json!({ "id": 1, "vector": { "": row, "words": words } }),
                    json!({ "id": 2, "vector": { "words": words } }),
                    json!({ "id": 3, "vector": row }),
                ],
            );
            world.start(&["true"]).expect(0);
            let after = points(&world, &name);
            assert_eq!(after["1"]["vector"], json!({ key: row, "words": words }));
            assert_eq!(after["2"]["vector"], json!({ "words": words }));
            assert_eq!(after["3"]["vector"], if key.is_empty() { row } else { json!({ key: row }) });
        }
    });
}

#[test]
fn numbers_that_a_datatype_has_no_room_for_are_refused_before_anything_is_changed() {
    both(|version| {
        let half = "vectors.content = { size = 2, distance = 'Dot', datatype = 'float16' }\n";
        let bytes = "vectors.content = { size = 2, distance = 'Dot' }\nvectors.small = { size = 2, distance = 'Dot', datatype = 'uint8' }\n\
                     [[fill]]\nvector = 'small'\nfrom = { payload = 'embedding' }\n";
        for (declared, says) in [
            (half, ["point 7 ", "it has 70000, for which float16 has no room"]),
            (bytes, ["cannot be filled: 7", "it has 0.5, for which uint8 has no room"]),
        ] {
            let world = world(version, declared);
            let name = world.collection.clone();
            create(&world, &name, &json!({ "vectors": { "content": { "size": 2, "distance": "Dot" } } }));
            put(
                &world,
                &name,
                &[
                    json!({ "id": 3, "vector": { "content": [6e4, 1] }, "payload": { "embedding": [0, 255] } }),
                    json!({ "id": 7, "vector": { "content": [1, 7e4] }, "payload": { "embedding": [0.5, 255] } }),
                ],
            );
            let before = (points(&world, &name), world.state());
            world.start(&["true"]).expect(76).says(&says);
            assert_eq!((points(&world, &name), world.state()), before);
            assert_eq!(names(&world), [name]);
        }
    });
}

/// A real name cannot lead back in one call: the snapshot of before is restored beside it.
#[test]
fn what_a_rebuild_under_its_own_name_replaced_can_be_had_again() {
    both(|version| {
        let world = world(version, &format!("{NAMED}{FROM_UNNAMED}"));
        let name = world.collection.clone();
        create(&world, &name, &json!({ "vectors": { "size": 4, "distance": "Dot" } }));
        put(&world, &name, &[json!({ "id": 1, "vector": [1, 2, 3, 4], "payload": { "user_id": "a" } })]);
        let before = points(&world, &name);
        world.start(&["true"]).expect(0);
        world
            .output(["rollback", &name])
            .expect(76)
            .says(&["only an alias can lead back", "tandem snapshot restore"]);
        let kept = world.output(["retained", "list", "--json"]).expect(0).stdout;
        let kept: Value = serde_json::from_str(&kept).unwrap();
        let snapshot =
            kept.as_array().unwrap().iter().find(|one| one["kind"]["snapshot"]["collection"] == json!(name));
        let snapshot = snapshot.unwrap_or_else(|| panic!("{kept}"))["name"].as_str().unwrap();
        let again = format!("{name}_again");
        world.output(["snapshot", "restore", &name, snapshot, "--into", &again]).expect(0);
        assert_eq!(points(&world, &again), before);
        // The snapshot was taken beside a comparison, which marks what it is of.
        assert_eq!(info(&world, &again)["config"]["metadata"]["tandem_compared"], Value::Null);
    });
}

/// Qdrant deletes the aliases of a collection with it.
#[test]
fn aliases_that_nobody_declares_lead_to_a_rebuilt_collection_whenever_it_was_interrupted() {
    both(|version| {
        for returned in [false, true] {
            let mut world = world(version, NAMED);
            let (name, reader) = (world.collection.clone(), format!("{}_reader", world.collection));
            create(&world, &name, &json!({ "vectors": { "content": { "size": 4, "distance": "Cosine" } } }));
            put(&world, &name, &some(20));
            lead(&world, &reader, &name);
            let before = points(&world, &name);
            // The snapshot cannot be restored, so that the collection comes back point by point.
            let broken = Proxy::start((world.qdrant.host(), world.qdrant.http_port())).unwrap();
            broken.on_chunk(|chunk| {
                let upload = chunk.bytes.windows(16).any(|w| w == b"snapshots/upload");
                if upload { Action::CutBefore } else { Action::Forward }
            });
            world.set("QDRANT_PORT", broken.port().to_string());
            // Between its deletion and its return, or before the aliases are led to it.
            interrupted(&world, if returned { b"_reader" } else { b"\"\x04back" });
            assert_eq!(names(&world).contains(&name), returned);
            world.set("QDRANT_PORT", world.qdrant.http_port().to_string());
            world.start(&["true"]).expect(0);
            assert_eq!(points(&world, &name), before);
            assert_eq!(points(&world, &reader), before);
        }
    });
}
