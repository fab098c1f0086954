//! What the fence around a collection refuses on each server, who is found writing when, and what becomes of it.

mod common;

use common::World;
use common::points::{create, info, names, points, put, rest};
use local_servers::proxy::{Action, Chunk, Direction, Proxy};
use local_servers::{Qdrant, QdrantVersion};
use qdrant_client::qdrant as pb;
use qdrant_client::qdrant::points_client::PointsClient;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tandem::collection::{Fence, Schema};

/// One version that adds a second vector to the test's collection, recorded.
fn world(version: QdrantVersion) -> World {
    static RECORDED: OnceLock<World> = OnceLock::new();
    let recorded = RECORDED.get_or_init(|| {
        World::declaring(
            "vectors.content = { size = 2, distance = 'Dot' }\nvectors.emotion = { size = 2, distance = 'Dot' }\n",
        )
    });
    recorded.sibling_on(Qdrant::shared(version).unwrap())
}

fn both(test: impl Fn(QdrantVersion)) {
    QdrantVersion::ALL.into_iter().for_each(test);
}

/// A collection of the old form with 40 points, under the world's name or behind it as an alias; its real name.
fn old(world: &World, aliased: bool, strict: &Value) -> String {
    let real = if aliased { format!("{}_7d", world.collection) } else { world.collection.clone() };
    let vectors = json!({ "content": { "size": 2, "distance": "Dot" } });
    create(world, &real, &json!({ "vectors": vectors, "strict_mode_config": strict }));
    let all: Vec<Value> = (1..=40).map(|n| point(n, 0)).collect();
    put(world, &real, &all);
    if aliased {
        let lead = json!({ "create_alias": { "collection_name": real, "alias_name": world.collection } });
        rest(world, "POST", "/collections/aliases", &json!({ "actions": [lead] }));
    }
    real
}

fn point(id: u64, at: u64) -> Value {
    json!({ "id": id, "vector": { "content": [id, at] }, "payload": { "at": at } })
}

/// One write over REST: its status.
fn write(qdrant: &Qdrant, collection: &str, (method, path, body): (&str, &str, &Value)) -> u16 {
    let path = format!("/collections/{collection}/points{path}?wait=true");
    qdrant.rest(method, &path, &body.to_string()).unwrap().0
}

/// Every kind of write that points know, each of which would change something in [`old`].
fn kinds() -> Vec<(&'static str, &'static str, &'static str, Value)> {
    let some = json!({ "must": [{ "key": "at", "match": { "value": 0 } }] });
    let one = json!({ "must": [{ "has_id": [9] }] });
    vec![
        ("upsert", "PUT", "", json!({ "points": [point(1, 7), point(99, 7)] })),
        (
            "update vectors",
            "PUT",
            "/vectors",
            json!({ "points": [{ "id": 2, "vector": { "content": [7, 7] } }] }),
        ),
        ("delete vectors", "POST", "/vectors/delete", json!({ "points": [3], "vector": ["content"] })),
        (
            "delete vectors by filter",
            "POST",
            "/vectors/delete",
            json!({ "filter": some, "vector": ["content"] }),
        ),
        ("set payload", "POST", "/payload", json!({ "points": [4], "payload": { "at": 7 } })),
        ("set payload by filter", "POST", "/payload", json!({ "filter": one, "payload": { "at": 7 } })),
        ("overwrite payload", "PUT", "/payload", json!({ "points": [5], "payload": { "at": 7 } })),
        ("delete payload", "POST", "/payload/delete", json!({ "points": [6], "keys": ["at"] })),
        ("clear payload", "POST", "/payload/clear", json!({ "points": [7] })),
        ("delete", "POST", "/delete", json!({ "points": [8] })),
        ("delete by filter", "POST", "/delete", json!({ "filter": some })),
        ("delete one by filter", "POST", "/delete", json!({ "filter": one })),
        ("a batch", "POST", "/batch", json!({ "operations": [{ "delete": { "points": [10] } }] })),
    ]
}

/// The kinds that a server refuses now.
fn refused(qdrant: &Qdrant, collection: &str) -> Vec<&'static str> {
    let refuses = |(_, method, path, body): &(&str, &'static str, &'static str, Value)| {
        let status = write(qdrant, collection, (method, path, body));
        assert!([200, 400, 429].contains(&status), "{path}: {status}");
        status != 200
    };
    kinds().into_iter().filter(refuses).map(|(name, ..)| name).collect()
}

/// A deletion of nothing, which takes the one write of a minute.
fn take(qdrant: &Qdrant, collection: &str) -> u16 {
    let id = "00000000-0000-4000-8000-000000000000";
    write(qdrant, collection, ("POST", "/delete", &json!({ "points": [id] })))
}

fn limits(world: &World, real: &str, strict: &Value) {
    rest(world, "PATCH", &format!("/collections/{real}"), &json!({ "strict_mode_config": strict }));
}

#[test]
fn each_limit_refuses_these_kinds_of_writes() {
    let all: Vec<&str> = kinds().into_iter().map(|(name, ..)| name).collect();
    let payloads = ["upsert", "update vectors", "set payload", "set payload by filter", "overwrite payload"];
    let by_filter = ["delete vectors by filter", "delete by filter"];
    let indexed = json!({ "enabled": true, "unindexed_filtering_update": false });
    both(|version| {
        let world = world(version);
        let refused_by = |limit: &Value, taken: bool| {
            let real = old(&world, false, &Value::Null);
            limits(&world, &real, limit);
            if taken {
                assert_eq!(take(&world.qdrant, &real), 200);
            }
            let refused = refused(&world.qdrant, &real);
            rest(&world, "DELETE", &format!("/collections/{real}"), &Value::Null);
            refused
        };
        let limit = |name: &str, value: u64| json!({ "enabled": true, name: value });
        assert_eq!(refused_by(&limit("upsert_max_batchsize", 0), false), ["upsert", "update vectors"]);
        let vectors = refused_by(&limit("max_collection_vector_size_bytes", 0), false);
        assert_eq!(vectors, ["upsert", "update vectors"]);
        assert_eq!(refused_by(&limit("max_collection_payload_size_bytes", 0), false), payloads);
        // What the server counts now and then holds nobody.
        assert_eq!(refused_by(&limit("max_points_count", 1), false), [""; 0]);
        assert_eq!(refused_by(&indexed, false), by_filter);
        // The one write of the minute is somebody's; a second one is nobody's.
        assert_eq!(refused_by(&limit("write_rate_limit", 1), true), all);
    });
}

#[test]
fn the_fence_refuses_every_kind_of_write_and_no_reader() {
    let all: Vec<&str> = kinds().into_iter().map(|(name, ..)| name).collect();
    both(|version| {
        let world = world(version);
        // What was written down and is not in force would refuse this reader.
        let real = old(&world, false, &json!({ "enabled": false, "max_query_limit": 1 }));
        let before = points(&world, &real);
        let schema: Schema = serde_json::from_value(
            json!({ "strict_mode_config": { "enabled": false, "max_query_limit": 1 } }),
        )
        .unwrap();
        let fence = Fence::around(&schema);
        limits(&world, &real, &serde_json::to_value(fence.up()).unwrap());
        assert_eq!(take(&world.qdrant, &real), 200);
        assert_eq!(refused(&world.qdrant, &real), all);
        assert_eq!(allowed_over_grpc(&world.qdrant, &real), [""; 0]);
        assert_eq!(points(&world, &real), before);
        let query = json!({ "query": [1, 1], "using": "content", "limit": 5, "filter": { "must": [{ "key": "at", "match": { "value": 0 } }] } });
        rest(&world, "POST", &format!("/collections/{real}/points/query"), &query);
        // Setting it again gives one write, as tandem does before it takes it.
        limits(&world, &real, &serde_json::to_value(fence.up()).unwrap());
        assert_eq!([take(&world.qdrant, &real), take(&world.qdrant, &real)], [200, 429]);
        limits(&world, &real, &serde_json::to_value(fence.down()).unwrap());
        let there = info(&world, &real)["config"]["strict_mode_config"].clone();
        assert_eq!((&there["enabled"], &there["max_query_limit"]), (&json!(false), &json!(1)));
        assert_eq!(refused(&world.qdrant, &real), [""; 0]);
        assert!(!allowed_over_grpc(&world.qdrant, &real).is_empty());
    });
}

/// The kinds of writes that a server lets in over gRPC.
fn allowed_over_grpc(qdrant: &Qdrant, collection: &str) -> Vec<&'static str> {
    use pb::points_selector::PointsSelectorOneOf;
    let ids = |id: u64| {
        let ids = vec![id.into()];
        let one_of = Some(PointsSelectorOneOf::Points(pb::PointsIdsList { ids }));
        Some(pb::PointsSelector { points_selector_one_of: one_of })
    };
    let vectors = || {
        tandem::qdrant::points::pb_vectors([(
            "content".to_owned(),
            tandem::collection::Vector::Dense(vec![7.0, 7.0]),
        )])
    };
    let (name, wait) = (collection.to_owned(), Some(true));
    let payload: std::collections::HashMap<_, _> = [("at".to_owned(), 7i64.into())].into();
    let (url, mut allowed) = (qdrant.grpc_url(), Vec::new());
    let calls = async {
        let mut client = PointsClient::connect(url).await.unwrap();
        macro_rules! allows {
            ($kind:literal, $call:ident, $request:expr) => {
                match client.$call($request).await {
                    Ok(_) => allowed.push($kind),
                    // It was let in, and the point is gone.
                    Err(status) if status.code() == tonic::Code::NotFound => allowed.push($kind),
                    Err(status) => {
                        let limited = [tonic::Code::InvalidArgument, tonic::Code::ResourceExhausted];
                        assert!(limited.contains(&status.code()), "{}: {status}", $kind);
                    }
                }
            };
        }
        let points =
            vec![pb::PointStruct { id: Some(1.into()), vectors: Some(vectors()), ..Default::default() }];
        let upsert = pb::UpsertPoints { collection_name: name.clone(), wait, points, ..Default::default() };
        allows!("upsert", upsert, upsert);
        let points = vec![pb::PointVectors { id: Some(2.into()), vectors: Some(vectors()) }];
        let update =
            pb::UpdatePointVectors { collection_name: name.clone(), wait, points, ..Default::default() };
        allows!("update vectors", update_vectors, update);
        let names = Some(pb::VectorsSelector { names: vec!["content".into()] });
        let vectors = pb::DeletePointVectors {
            collection_name: name.clone(),
            wait,
            points_selector: ids(11),
            vectors: names,
            ..Default::default()
        };
        allows!("delete vectors", delete_vectors, vectors);
        let set = pb::SetPayloadPoints {
            collection_name: name.clone(),
            wait,
            payload,
            points_selector: ids(12),
            ..Default::default()
        };
        allows!("set payload", set_payload, set.clone());
        allows!("overwrite payload", overwrite_payload, set);
        let keys = vec!["at".into()];
        let delete = pb::DeletePayloadPoints {
            collection_name: name.clone(),
            wait,
            keys,
            points_selector: ids(13),
            ..Default::default()
        };
        allows!("delete payload", delete_payload, delete);
        let clear = pb::ClearPayloadPoints {
            collection_name: name.clone(),
            wait,
            points: ids(14),
            ..Default::default()
        };
        allows!("clear payload", clear_payload, clear);
        let delete =
            pb::DeletePoints { collection_name: name.clone(), wait, points: ids(15), ..Default::default() };
        allows!("delete", delete, delete);
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(calls);
    allowed
}

/// Runs tandem with a proxy before Qdrant that `hook` watches; its exit code and output.
fn through(
    world: &World,
    args: &[&str],
    hook: impl Fn(&Chunk<'_>) -> Action + Send + Sync + 'static,
) -> (Option<i32>, String) {
    let proxy = Proxy::start((world.qdrant.host(), world.qdrant.grpc_port())).unwrap();
    proxy.on_chunk(hook);
    let mut command = world.tandem(args);
    command.env("QDRANT_URL", proxy.url(&world.qdrant.grpc_url()));
    let output = command.output().unwrap();
    (output.status.code(), common::text(&output))
}

fn contains(chunk: &Chunk<'_>, part: &[u8]) -> bool {
    chunk.direction == Direction::ToServer && chunk.bytes.windows(part.len()).any(|window| window == part)
}

/// The request that announces the fence around the source: a shadow has one too while its snapshot is taken.
fn fences_off(chunk: &Chunk<'_>) -> bool {
    contains(chunk, b"tandem_fence") && !contains(chunk, b"_tandem_shadow_")
}

/// The request that leads an alias elsewhere.
fn leads(chunk: &Chunk<'_>, alias: &str, to: &str) -> bool {
    let field = |tag: u8, text: &str| [&[tag, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    contains(chunk, &[field(0x0a, to), field(0x12, alias)].concat())
}

/// Does once what is to be done when `place` is seen.
fn once(
    place: impl Fn(&Chunk<'_>) -> bool + Send + Sync + 'static,
    then: impl Fn() + Send + Sync + 'static,
) -> impl Fn(&Chunk<'_>) -> Action + Send + Sync + 'static {
    let done = AtomicBool::new(false);
    move |chunk| {
        if place(chunk) && !done.swap(true, SeqCst) {
            then();
        }
        Action::Forward
    }
}

/// By id, what applications see.
fn ats(world: &World, name: &str) -> BTreeMap<String, Value> {
    points(world, name).into_iter().map(|(id, point)| (id, point["payload"]["at"].clone())).collect()
}

#[test]
fn what_an_idle_writer_wrote_before_the_fence_is_brought_over() {
    for aliased in [true, false] {
        both(|version| {
            let world = world(version);
            let real = old(&world, aliased, &Value::Null);
            let (server, source) = (world.qdrant.clone(), real.clone());
            let late = move || {
                let new = json!({ "points": [point(3, 5), point(500, 5)] });
                assert_eq!(write(&server, &source, ("PUT", "", &new)), 200);
                assert_eq!(write(&server, &source, ("POST", "/delete", &json!({ "points": [4] }))), 200);
            };
            // All points have been compared when the fence goes up.
            let hook = once(fences_off, late);
            let (code, text) = through(&world, &["run", "--", "true"], hook);
            assert_eq!(code, Some(0), "{text}");
            assert!(text.contains("1 missing, 1 different and 1 more"), "{text}");
            let after = ats(&world, &world.collection);
            assert_eq!(
                (&after["3"], &after["500"], after.get("4"), after.len()),
                (&json!(5), &json!(5), None, 40)
            );
        });
    }
}

/// A run says this where it compared once only.
const STANDS: &str = "since it was compared";

#[test]
fn a_source_that_nobody_writes_to_is_compared_once() {
    for aliased in [true, false] {
        both(|version| {
            let world = world(version);
            let real = old(&world, aliased, &json!({ "enabled": true, "max_query_limit": 200 }));
            let before = points(&world, &real);
            let (code, text) = through(&world, &["run", "--", "true"], |_| Action::Forward);
            assert_eq!(code, Some(0), "{text}");
            assert!(text.contains(STANDS), "{text}");
            // Under its own name it comes back from a snapshot, which alone is read then.
            assert_eq!(text.matches(" compared ").count(), 1, "{text}");
            assert_eq!(text.contains(" read back "), !aliased, "{text}");
            assert_eq!(points(&world, &world.collection), before);
            // The mark that told it is gone.
            for name in names(&world) {
                let config = info(&world, &name)["config"].clone();
                assert!(config["metadata"]["tandem_compared"].is_null(), "{config}");
            }
        });
    }
}

#[test]
fn whatever_is_written_between_the_comparison_and_the_fence_has_the_source_compared_again() {
    let kinds = || {
        let vectors = json!({ "points": [{ "id": 2, "vector": { "content": [7, 7] } }] });
        [
            ("PUT", "/points", json!({ "points": [point(3, 5)] })),
            ("POST", "/points/delete", json!({ "points": [4] })),
            ("POST", "/points/payload", json!({ "points": [5], "payload": { "at": 7 } })),
            ("PUT", "/points/vectors", vectors),
            ("PUT", "/index", json!({ "field_name": "at", "field_schema": "integer" })),
        ]
    };
    both(|version| {
        for (method, path, body) in kinds() {
            let world = world(version);
            let real = old(&world, true, &Value::Null);
            let (server, to, text_of) =
                (world.qdrant.clone(), format!("/collections/{real}{path}?wait=true"), body.to_string());
            let late = move || assert_eq!(server.rest(method, &to, &text_of).unwrap().0, 200);
            let hook = once(fences_off, late);
            let (code, text) = through(&world, &["run", "--", "true"], hook);
            assert_eq!(code, Some(0), "{path}: {text}");
            assert!(!text.contains(STANDS), "{path}: {text}");
            assert_eq!(points(&world, &world.collection), points(&world, &real), "{path}");
        }
    });
}

#[test]
fn a_source_of_several_shards_is_compared_again_behind_its_fence() {
    let world = world(QdrantVersion::default());
    let body = json!({ "vectors": { "content": { "size": 2, "distance": "Dot" } }, "shard_number": 2 });
    create(&world, &world.collection, &body);
    put(&world, &world.collection, &(1..=40).map(|n| point(n, 0)).collect::<Vec<_>>());
    let (code, text) = through(&world, &["run", "--", "true"], |_| Action::Forward);
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains(STANDS), "{text}");
}

#[test]
fn a_source_that_was_made_anew_after_its_comparison_is_found_although_its_operations_have_the_same_numbers() {
    both(|version| {
        let world = world(version);
        let real = old(&world, true, &Value::Null);
        let (server, source, alias) = (world.qdrant.clone(), real.clone(), world.collection.clone());
        let anew = move || {
            let call = |method: &str, path: &str, body: Value| {
                let (status, answer) = server.rest(method, path, &body.to_string()).unwrap();
                assert_eq!(status, 200, "{path}: {answer}");
            };
            let path = format!("/collections/{source}");
            let seen = numbered(&server, &source) - 1;
            call("DELETE", &path, Value::Null);
            call("PUT", &path, json!({ "vectors": { "content": { "size": 2, "distance": "Dot" } } }));
            let lead = json!({ "create_alias": { "collection_name": source, "alias_name": alias } });
            call("POST", "/collections/aliases", json!({ "actions": [lead] }));
            let all: Vec<Value> = (1..=40).map(|n| point(n, 9)).collect();
            call("PUT", &format!("{path}/points?wait=true"), json!({ "points": all }));
            while numbered(&server, &source) < seen {}
        };
        let hook = once(fences_off, anew);
        let (code, text) = through(&world, &["run", "--", "true"], hook);
        assert_eq!(code, Some(0), "{text}");
        assert!(!text.contains(STANDS), "{text}");
        let after = ats(&world, &world.collection);
        assert_eq!((after.len(), after.values().all(|at| at == 9)), (40, true), "{after:?}");
    });
}

#[test]
fn what_a_writer_who_never_stops_gets_accepted_is_there_in_the_end_under_the_own_name_too() {
    both(|version| {
        let world = world(version);
        let real = old(&world, false, &Value::Null);
        let (server, path) = (world.qdrant.clone(), format!("/collections/{real}/points?wait=true"));
        let (stop, began) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (ended, begun) = (stop.clone(), began.clone());
        let writer = std::thread::spawn(move || {
            let (mut accepted, mut refused) = (Vec::new(), 0);
            for id in 1000.. {
                if ended.load(SeqCst) {
                    break;
                }
                if !begun.load(SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                let body = json!({ "points": [point(id, 1)] });
                match server.rest("PUT", &path, &body.to_string()) {
                    Ok((200, _)) => accepted.push(id.to_string()),
                    _ => refused += 1,
                }
            }
            (accepted, refused)
        });
        // Right before the fence goes up.
        let hook = once(fences_off, move || began.store(true, SeqCst));
        let (code, text) = through(&world, &["run", "--", "true"], hook);
        stop.store(true, SeqCst);
        let (accepted, refused) = writer.join().unwrap();
        assert_eq!(code, Some(0), "{text}");
        assert!(refused > 0 && accepted.len() > 1, "{refused} {accepted:?}");
        let after = points(&world, &world.collection);
        let lost: Vec<_> = accepted.iter().filter(|id| !after.contains_key(*id)).collect();
        assert_eq!(lost, [""; 0], "{text}");
    });
}

/// The number of an operation that changes nothing.
fn numbered(qdrant: &Qdrant, collection: &str) -> u64 {
    let path = format!("/collections/{collection}/points/delete?wait=true");
    let id = "00000000-0000-4000-8000-000000000000";
    let (status, answer) = qdrant.rest("POST", &path, &json!({ "points": [id] }).to_string()).unwrap();
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str::<Value>(&answer).unwrap()["result"]["operation_id"].as_u64().unwrap()
}

#[test]
fn a_writer_between_the_last_comparison_and_the_switch_is_refused_and_told_so() {
    both(|version| {
        let world = world(version);
        let strict = json!({ "enabled": true, "max_query_limit": 200 });
        let real = old(&world, true, &strict);
        let before = points(&world, &real);
        let shadow = format!("_tandem_shadow_{real}_1");
        let (alias, server) = (world.collection.clone(), world.qdrant.clone());
        let found = Arc::new(Mutex::new(Vec::new()));
        let seen = found.clone();
        let target = alias.clone();
        let hook = once(
            move |chunk| leads(chunk, &alias, &shadow),
            move || seen.lock().unwrap().extend(refused(&server, &target)),
        );
        let (code, text) = through(&world, &["run", "--", "true"], hook);
        assert_eq!(code, Some(0), "{text}");
        let all: Vec<&str> = kinds().into_iter().map(|(name, ..)| name).collect();
        assert_eq!(*found.lock().unwrap(), all);
        assert_eq!(points(&world, &world.collection), before);
        // Then both let writers in, with the limits of before.
        for name in [&world.collection, &real] {
            let config = info(&world, name)["config"].clone();
            assert_eq!(config["strict_mode_config"]["enabled"], true, "{name}");
            assert_eq!(config["strict_mode_config"]["max_query_limit"], 200, "{name}");
            assert!(config["metadata"]["tandem_fence"].is_null(), "{config}");
            assert_eq!(refused(&world.qdrant, name), [""; 0]);
        }
    });
}

/// As an operator does, or a run that was paused right before it opened a fence.
#[test]
fn a_fence_that_somebody_else_opens_behind_the_last_comparison_stops_the_run() {
    both(|version| {
        let world = world(version);
        let real = old(&world, true, &Value::Null);
        let (server, name, ups) = (world.qdrant.clone(), real.clone(), AtomicUsize::new(0));
        let hook = once(
            // The second time it is up the comparison begins, and what is asked of the shadow then is the last that is compared.
            move |chunk| {
                ups.fetch_add(usize::from(contains(chunk, &[0x48, 0, 0x60, 1, 0x68, 0])), SeqCst);
                ups.load(SeqCst) >= 2 && contains(chunk, b"_tandem_shadow_")
            },
            move || {
                let open = json!({ "strict_mode_config": { "enabled": false } });
                let path = format!("/collections/{name}");
                assert_eq!(server.rest("PATCH", &path, &open.to_string()).unwrap().0, 200);
                let put = ("PUT", "", &json!({ "points": [point(5, 7)] }));
                assert_eq!(write(&server, &name, put), 200);
            },
        );
        let (code, text) = through(&world, &["run", "--", "true"], hook);
        if code != Some(0) {
            assert!(text.contains("was written to while it was copied"), "{text}");
            world.start(&["true"]).expect(0);
        }
        assert_eq!(ats(&world, &world.collection)["5"], 7, "{text}");
    });
}

#[test]
fn a_collection_of_several_shards_is_fenced_off_as_a_whole() {
    both(|version| {
        let world = world(version);
        let real = format!("{}_7d", world.collection);
        let body = json!({ "vectors": { "content": { "size": 2, "distance": "Dot" } }, "shard_number": 3 });
        create(&world, &real, &body);
        put(&world, &real, &(1..=40).map(|n| point(n, 0)).collect::<Vec<_>>());
        let lead = json!({ "create_alias": { "collection_name": real, "alias_name": world.collection } });
        rest(&world, "POST", "/collections/aliases", &json!({ "actions": [lead] }));
        let (alias, shadow) = (world.collection.clone(), format!("_tandem_shadow_{real}_1"));
        let (server, source, deleted) = (world.qdrant.clone(), real.clone(), Arc::new(AtomicUsize::new(0)));
        let count = deleted.clone();
        let hook = once(
            move |chunk| leads(chunk, &alias, &shadow),
            move || {
                let each = |id| write(&server, &source, ("POST", "/delete", &json!({ "points": [id] })));
                count.fetch_add((1..=40).filter(|id| each(*id) == 200).count(), SeqCst);
            },
        );
        let (code, text) = through(&world, &["run", "--", "true"], hook);
        assert_eq!((code, deleted.load(SeqCst)), (Some(0), 0), "{text}");
        assert_eq!(points(&world, &world.collection).len(), 40);
    });
}

/// Kills tandem right before the alias is led elsewhere: the fence is up.
fn killed_behind_its_fence(world: &World, real: &str) {
    let proxy = Proxy::start((world.qdrant.host(), world.qdrant.grpc_port())).unwrap();
    let (pid, seen) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let (alias, shadow, victim, was) =
        (world.collection.clone(), format!("_tandem_shadow_{real}_1"), pid.clone(), seen.clone());
    proxy.on_chunk(move |chunk| {
        if !leads(chunk, &alias, &shadow) {
            return Action::Forward;
        }
        was.store(true, SeqCst);
        signal(&victim, "-KILL");
        Action::CutBefore
    });
    let mut command = world.tandem(["run", "--", "true"]);
    command.env("QDRANT_URL", proxy.url(&world.qdrant.grpc_url()));
    let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    pid.store(child.id(), SeqCst);
    let output = child.wait_with_output().unwrap();
    assert!(seen.load(SeqCst), "{}", common::text(&output));
    let config = info(world, real)["config"].clone();
    assert_eq!(config["strict_mode_config"]["upsert_max_batchsize"], 0, "{config}");
    assert_eq!(config["metadata"]["tandem_fence"]["strict_mode_config"]["max_query_limit"], 20, "{config}");
}

fn signal(pid: &AtomicU32, signal: &str) {
    let pid = loop {
        match pid.load(SeqCst) {
            0 => std::thread::yield_now(),
            pid => break pid,
        }
    };
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

/// A second version whose declaration of the collection is this.
fn declare(world: &World, collection: &str) {
    let toml = format!(
        "compatible_from = 1\n[[collection]]\nmatch = \"${{QDRANT_COLLECTION_NAME}}\"\n{collection}\n"
    );
    world.migrations.write("0002_collection.toml", &toml);
    world.record();
}

#[test]
fn a_fence_that_a_crash_left_is_opened_by_the_next_start_that_goes_on_or_refuses() {
    let strict = json!({ "enabled": true, "max_query_limit": 20 });
    let fenced = || {
        let world = world(QdrantVersion::default());
        let real = old(&world, true, &strict);
        killed_behind_its_fence(&world, &real);
        (world, real)
    };
    let open = |world: &World, name: &str| {
        let config = info(world, name)["config"].clone();
        assert!(config["metadata"]["tandem_fence"].is_null(), "{config}");
        assert_eq!(config["strict_mode_config"]["max_query_limit"], 20, "{config}");
        assert_eq!(refused(&world.qdrant, name), [""; 0]);
    };
    // It goes on. What the fence was is no part of the new collection.
    let (world, real) = fenced();
    let validated = world.output(["validate", &world.collection]).expect(2);
    assert!(validated.stdout.contains("fenced off"), "{}", validated.stdout);
    world.start(&["true"]).expect(0);
    open(&world, &real);
    open(&world, &world.collection);

    // It refuses: no copy of the points has another size.
    let (world, real) = fenced();
    declare(&world, "vectors.content = { size = 3, distance = 'Dot' }");
    world.output(["plan"]).expect(76);
    assert!(!info(&world, &real)["config"]["metadata"]["tandem_fence"].is_null(), "a reader changes nothing");
    world.start(&["true"]).expect(76);
    open(&world, &real);

    // Nothing is left to do: the rebuild is not wanted any more.
    let (world, real) = fenced();
    declare(&world, "vectors.content = { size = 2, distance = 'Dot' }");
    world.start(&["true"]).expect(0).says(&["let writers in again"]);
    open(&world, &real);

    // Postgres is foreign.
    let (world, real) = fenced();
    world
        .db
        .execute("drop schema tandem cascade; drop table users; create table strangers (id int primary key)");
    world.start(&["true"]).expect(76);
    open(&world, &real);
}

#[test]
fn a_busy_writer_is_found_before_postgres_is_changed() {
    both(|version| {
        let world = world(version);
        let real = old(&world, false, &Value::Null);
        let (server, source) = (world.qdrant.clone(), real.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let writer = std::thread::spawn(move || {
            // It replaces one point by itself: no count shows it.
            while !stopped.load(SeqCst) {
                assert_eq!(write(&server, &source, ("PUT", "", &json!({ "points": [point(1, 0)] }))), 200);
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let outcome = world.start(&["true"]);
        stop.store(true, SeqCst);
        writer.join().unwrap();
        outcome.expect(76).says(&["is being written to", "--allow-writers", &real]);
        assert_eq!(
            world.query("select count(*)::text from pg_tables where schemaname in ('public', 'tandem')"),
            "0"
        );
        assert_eq!(names(&world), [real]);
    });
}

#[test]
fn writers_that_are_allowed_go_on_and_what_they_wrote_last_is_swept_up() {
    both(|version| {
        let mut world = world(version);
        let real = old(&world, true, &Value::Null);
        let (alias, shadow) = (world.collection.clone(), format!("_tandem_shadow_{real}_1"));
        let (server, source) = (world.qdrant.clone(), real.clone());
        let copied = AtomicBool::new(false);
        let hook = move |chunk: &Chunk<'_>| {
            // While it is copied: an answer of this size is a page of points.
            if chunk.direction == Direction::ToClient
                && chunk.bytes.len() > 1000
                && !copied.swap(true, SeqCst)
            {
                assert_eq!(
                    write(&server, &source, ("PUT", "", &json!({ "points": [point(20, 1), point(600, 1)] }))),
                    200
                );
            }
            if leads(chunk, &alias, &shadow) {
                assert_eq!(
                    write(
                        &server,
                        &alias,
                        ("PUT", "", &json!({ "points": [point(1, 2), point(700, 2), point(701, 2)] }))
                    ),
                    200
                );
                assert_eq!(write(&server, &alias, ("POST", "/delete", &json!({ "points": [2] }))), 200);
            }
            Action::Forward
        };
        world.set("TANDEM_ALLOW_WRITERS", "true");
        let (code, text) = through(&world, &["run", "--", "true"], hook);
        assert_eq!(code, Some(0), "{text}");
        for part in ["2 (700, 701) inserted", "1 (1) different", "1 (2) only in", "is kept"] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains("fence"), "{text}");
        let after = ats(&world, &world.collection);
        let at = |id: &str| after[id].clone();
        assert_eq!([at("20"), at("600"), at("700"), at("701")], [1, 1, 2, 2].map(Value::from));
        // Not decided: as they were copied.
        assert_eq!([at("1"), at("2")], [0, 0].map(Value::from));
        assert_eq!(after.len(), 43);
        world.start(&["true"]).expect(0);
    });
}

#[test]
fn a_sweep_that_was_interrupted_is_done_by_the_next_start_whatever_it_allows() {
    let mut world = world(QdrantVersion::default());
    let real = old(&world, true, &Value::Null);
    let (alias, shadow) = (world.collection.clone(), format!("_tandem_shadow_{real}_1"));
    let (server, pid, led) = (world.qdrant.clone(), Arc::new(AtomicU32::new(0)), AtomicBool::new(false));
    let (victim, killed) = (pid.clone(), AtomicBool::new(false));
    let proxy = Proxy::start((world.qdrant.host(), world.qdrant.grpc_port())).unwrap();
    proxy.on_chunk(move |chunk| {
        if leads(chunk, &alias, &shadow) {
            assert_eq!(write(&server, &alias, ("PUT", "", &json!({ "points": [point(700, 2)] }))), 200);
            led.store(true, SeqCst);
        } else if led.load(SeqCst) && chunk.direction == Direction::ToClient {
            if !killed.swap(true, SeqCst) {
                signal(&victim, "-KILL");
            }
            return Action::CutBefore;
        }
        Action::Forward
    });
    let mut command = world.tandem(["run", "--allow-writers", "--", "true"]);
    command.env("QDRANT_URL", proxy.url(&world.qdrant.grpc_url()));
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    pid.store(child.id(), SeqCst);
    child.wait().unwrap();
    assert_eq!(ats(&world, &world.collection).get("700"), None);
    world.set("TANDEM_ALLOW_WRITERS", "false");
    world.start(&["true"]).expect(0).says(&["1 (700) inserted"]);
    assert_eq!(ats(&world, &world.collection)["700"], 2);
}

#[test]
fn writers_are_not_allowed_where_the_collection_is_absent_for_a_moment() {
    let world = world(QdrantVersion::default());
    let real = old(&world, false, &Value::Null);
    world
        .output(["migrate", "--allow-writers"])
        .expect(76)
        .says(&["by its own name", "without --allow-writers"]);
    assert_eq!(names(&world), [real]);
    assert_eq!(
        world.query("select count(*)::text from pg_tables where schemaname in ('public', 'tandem')"),
        "0"
    );
}
