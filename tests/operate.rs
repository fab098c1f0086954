//! The operator's commands by the real binary on real servers: snapshots, validate, and the plan of a rebuild.

mod common;

use common::{Dir, Outcome, World};
use local_servers::proxy::{Action, Direction, Proxy};
use local_servers::{Qdrant, QdrantOptions, QdrantVersion, tls};
use serde_json::{Value, json};

fn world(version: QdrantVersion) -> World {
    World::on(local_servers::postgres().create_database("operate"), Qdrant::shared(version).unwrap())
}

/// A collection with this many points, of its own name or another.
fn fill(world: &World, name: &str, points: u64) {
    let collection =
        json!({ "vectors": { "a": { "size": 4, "distance": "Dot" } }, "metadata": { "owner": "bot" } });
    call(world, "PUT", &format!("/collections/{name}"), &collection);
    let index = json!({ "field_name": "k", "field_schema": "keyword" });
    call(world, "PUT", &format!("/collections/{name}/index?wait=true"), &index);
    let all: Vec<Value> = (0..points)
        .map(|id| json!({ "id": id, "vector": { "a": [id, 1, 2, 3] }, "payload": { "k": id.to_string() } }))
        .collect();
    for batch in all.chunks(500) {
        call(world, "PUT", &format!("/collections/{name}/points?wait=true"), &json!({ "points": batch }));
    }
}

fn call(world: &World, method: &str, path: &str, body: &Value) -> Value {
    let (status, text) = world.qdrant.rest(method, path, &body.to_string()).unwrap();
    assert_eq!(status, 200, "{method} {path}: {text}");
    serde_json::from_str::<Value>(&text).unwrap()["result"].take()
}

fn count(world: &World, name: &str) -> u64 {
    call(world, "POST", &format!("/collections/{name}/points/count"), &json!({ "exact": true }))["count"]
        .as_u64()
        .unwrap()
}

fn drop_collection(world: &World, name: &str) {
    call(world, "DELETE", &format!("/collections/{name}"), &json!({}));
}

fn alias(world: &World, alias: &str, to: &str) {
    let action = json!({ "create_alias": { "collection_name": to, "alias_name": alias } });
    call(world, "POST", "/collections/aliases", &json!({ "actions": [action] }));
}

fn json_of(outcome: Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {}", outcome.stdout))
}

#[test]
fn a_snapshot_is_taken_listed_downloaded_and_restored_beside_the_original() {
    for version in QdrantVersion::ALL {
        let world = world(version);
        let (name, copy, dir) = (&world.collection, format!("{}_copy", world.collection), Dir::new());
        fill(&world, name, 300);
        let taken = json_of(world.output(["snapshot", "create", name, "--json"]).expect(0));
        let snapshot = taken["name"].as_str().unwrap();
        assert_eq!(json_of(world.output(["snapshot", "list", name, "--json"]).expect(0)), json!([taken]));
        let listed = world.output(["snapshot", "list", name]).expect(0).stdout;
        assert!(
            listed.contains(snapshot) && listed.contains(taken["checksum"].as_str().unwrap()),
            "{listed}"
        );

        let to = dir.path().to_str().unwrap();
        let down = json_of(world.output(["snapshot", "download", name, "--to", to, "--json"]).expect(0));
        assert_eq!(down["checksum"], taken["checksum"]);
        let file = dir.path().join(snapshot);
        assert_eq!(std::fs::metadata(&file).unwrap().len(), taken["size"].as_u64().unwrap());
        world.output(["snapshot", "download", name, snapshot, "--to", to]).expect(1).says(&["exists"]);

        let restored =
            json_of(world.output(["snapshot", "restore", name, "--into", &copy, "--json"]).expect(0));
        assert_eq!((restored["collection"].as_str(), restored["points"].as_u64()), (Some(&*copy), Some(300)));
        let info = call(&world, "GET", &format!("/collections/{copy}"), &json!({}));
        assert_eq!(info["config"]["metadata"]["owner"], "bot");
        assert_eq!(info["payload_schema"]["k"]["points"], 300);

        // Never over what is there, by whatever name.
        let refused = ["snapshot", "restore", name, "--into", &copy];
        world.output(refused).expect(76).says(&["is a collection already"]);
        world.output(["snapshot", "restore", name]).expect(76).says(&["would destroy it", "--into"]);
        drop_collection(&world, &copy);

        // After the collection is gone the file brings it back.
        drop_collection(&world, name);
        let file = file.to_str().unwrap();
        let wrong = "0".repeat(64);
        world.output(["snapshot", "restore", name, "--file", file, "--checksum", &wrong]).expect(1);
        assert!(world.collection_info().is_none());
        let checksum = taken["checksum"].as_str().unwrap();
        world.output(["snapshot", "restore", name, "--file", file, "--checksum", checksum]).expect(0);
        assert_eq!(count(&world, name), 300);
    }
}

#[test]
fn a_restore_under_an_alias_switches_it_in_one_call_and_keeps_the_old_collection() {
    for version in QdrantVersion::ALL {
        let world = world(version);
        world.version("0001_users", "create table users (id bigint primary key);", "");
        let real = format!("{}_7d", world.collection);
        fill(&world, &real, 20);
        alias(&world, &world.collection, &real);
        let taken = json_of(world.output(["snapshot", "create", &world.collection, "--json"]).expect(0));
        call(
            &world,
            "POST",
            &format!("/collections/{real}/points/delete?wait=true"),
            &json!({ "points": [1, 2, 3] }),
        );
        let snapshot = taken["name"].as_str().unwrap();
        let restored =
            json_of(world.output(["snapshot", "restore", &world.collection, snapshot, "--json"]).expect(0));
        assert_eq!((restored["points"].as_u64(), restored["replaced"].as_str()), (Some(20), Some(&*real)));
        assert_eq!((count(&world, &world.collection), count(&world, &real)), (20, 17));
        let fresh = restored["collection"].as_str().unwrap();
        // Once more: the name before is taken.
        let taken = json_of(world.output(["snapshot", "create", &world.collection, "--json"]).expect(0));
        assert!(taken["name"].as_str().unwrap().starts_with(fresh), "{taken}");
        let again = json_of(world.output(["snapshot", "restore", &world.collection, "--json"]).expect(0));
        assert_ne!(again["collection"], restored["collection"]);
        for name in [again["collection"].as_str().unwrap(), fresh, &real] {
            drop_collection(&world, name);
        }
    }
}

#[test]
fn what_was_replaced_is_kept_led_back_to_and_removed_by_name_only() {
    for version in QdrantVersion::ALL {
        let world = world(version);
        let toml = "[[collection]]\nmatch = \"${QDRANT_COLLECTION_NAME}\"\n[collection.payload_indexes]\nk = \"keyword\"\n";
        world.version("0001_users", "create table users (id bigint primary key);", toml);
        world.record();
        let (name, real) = (&world.collection, format!("{}_7d", world.collection));
        fill(&world, &real, 20);
        alias(&world, name, &real);
        assert_eq!(json_of(world.output(["retained", "list", "--json"]).expect(0)), json!([]));
        world.output(["migrate"]).expect(0);
        world.output(["snapshot", "create", name]).expect(0);
        call(
            &world,
            "POST",
            &format!("/collections/{real}/points/delete?wait=true"),
            &json!({ "points": [1, 2, 3] }),
        );
        world.output(["rollback", name]).expect(76).says(&["nothing is kept"]);
        let restored = json_of(world.output(["snapshot", "restore", name, "--json"]).expect(0));
        let fresh = restored["collection"].as_str().unwrap();
        assert_eq!(restored["version"], 1);

        let states = || -> Vec<(String, Value, Value)> {
            let list = json_of(world.output(["retained", "list", "--json"]).expect(0));
            let entries = list.as_array().unwrap().iter();
            entries
                .map(|e| (e["name"].as_str().unwrap().into(), e["state"].clone(), e["points"].clone()))
                .collect()
        };
        let live = json!({ "live": { "aliases": [name] } });
        assert_eq!(
            states(),
            [(fresh.into(), live.clone(), Value::Null), (real.clone(), json!("kept"), json!(17))]
        );
        // The next start finds everything in order.
        world.output(["migrate"]).expect(0);

        world.output(["retained", "drop", fresh]).expect(76).says(&["is live", name]);
        world
            .output(["retained", "drop", &format!("{name}_other")])
            .expect(76)
            .says(&["the journal does not have"]);
        let back = json_of(world.output(["rollback", name, "--json"]).expect(0));
        assert_eq!((back["to"].as_str(), back["points_to"].as_u64()), (Some(&*real), Some(17)));
        assert_eq!(count(&world, name), 17);
        assert_eq!(states(), [(real.clone(), live, json!(17)), (fresh.into(), json!("kept"), json!(20))]);

        // Three points are only in the one that is kept.
        world.output(["retained", "drop", fresh]).expect(76).says(&["20 points", "it has 17", "--fewer"]);
        world.output(["rollback", name]).expect(0);
        assert_eq!(count(&world, name), 20);
        world.output(["retained", "drop", &real]).expect(0);
        assert_eq!(states().len(), 1);
        let (status, _) = world.qdrant.rest("GET", &format!("/collections/{real}"), "").unwrap();
        assert_eq!(status, 404);
        world.output(["verify"]).expect(0);
        drop_collection(&world, fresh);
        let text = world.output(["retained", "list"]).expect(0).stdout;
        assert_eq!(text, "Nothing is kept\n");
    }
}

#[test]
fn only_an_alias_leads_back_and_only_to_what_is_as_it_was() {
    let world = world(QdrantVersion::V1_17_0);
    world.version("0001_users", "create table users (id bigint primary key);", "");
    world.record();
    world.output(["migrate"]).expect(0);
    let (name, real) = (&world.collection, format!("{}_7d", world.collection));
    fill(&world, &real, 5);
    world.output(["rollback", &real]).expect(76).says(&["only an alias can lead back"]);
    alias(&world, name, &real);
    world.output(["snapshot", "create", name]).expect(0);
    let restored = json_of(world.output(["snapshot", "restore", name, "--json"]).expect(0));
    call(&world, "POST", &format!("/collections/{real}/points/delete?wait=true"), &json!({ "points": [1] }));
    world.output(["rollback", name]).expect(76).says(&["has 4 points, and had 5"]);
    drop_collection(&world, restored["collection"].as_str().unwrap());
    drop_collection(&world, &real);
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let world = world(QdrantVersion::V1_17_0);
    world.output(["snapshot", "create", "nowhere"]).expect(1).says(&["no collection and no alias `nowhere`"]);
    fill(&world, &world.collection, 1);
    let name = &world.collection;
    world
        .output(["snapshot", "restore", name, "--into", "x"])
        .expect(1)
        .says(&["does not have any snapshot"]);
    let taken = json_of(world.output(["snapshot", "create", name, "--json"]).expect(0));
    world
        .output(["snapshot", "download", name, "nothing"])
        .expect(1)
        .says(&["the snapshot nothing", taken["name"].as_str().unwrap()]);
    world.output(["snapshot", "restore", name, "--checksum", "x"]).expect(64);
}

#[test]
fn a_download_that_breaks_leaves_nothing_behind() {
    let mut world = world(QdrantVersion::V1_17_0);
    fill(&world, &world.collection, 500);
    let name = world.collection.clone();
    world.output(["snapshot", "create", &name]).expect(0);
    let proxy = Proxy::start((world.qdrant.host(), world.qdrant.http_port())).unwrap();
    proxy.on_chunk(|chunk| match chunk.direction {
        Direction::ToClient if chunk.number >= 3 => Action::CutBefore,
        _ => Action::Forward,
    });
    world.set("QDRANT_PORT", proxy.port().to_string());
    let dir = Dir::new();
    let to = dir.path().to_str().unwrap();
    world.output(["snapshot", "download", &name, "--to", to]).expect(69);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let copy = format!("{name}_copy");
    world.output(["snapshot", "restore", &name, "--into", &copy]).expect(69);
    let (status, _) = world.qdrant.rest("GET", &format!("/collections/{copy}"), "").unwrap();
    assert_eq!(status, 404);
}

#[test]
fn snapshots_travel_over_tls_with_the_api_key() {
    let server = Qdrant::start(QdrantOptions {
        api_key: Some("sesame".into()),
        tls: Some(tls::CERTIFICATE),
        ..Default::default()
    })
    .unwrap();
    let db = local_servers::postgres().create_database("operate");
    let mut world = World::on(db, server.with_api_key(server.api_key()));
    let dir = Dir::new();
    let authority = dir.write("ca.crt", tls::AUTHORITY);
    world.set("QDRANT_URL", format!("https://localhost:{}", server.grpc_port()));
    world.set("SSL_CERT_FILE", authority.display().to_string());
    let toml = common::collection_toml("1", "k = \"keyword\"");
    world.version("0001_users", "create table users (id bigint primary key);", &toml);
    world.record();
    world.output(["migrate"]).expect(0);
    let name = world.collection.clone();
    world.output(["snapshot", "create", &name]).expect(0);
    let to = dir.path().to_str().unwrap().to_owned();
    world.output(["snapshot", "download", &name, "--to", &to]).expect(0);
    world.output(["snapshot", "restore", &name, "--into", "copy"]).expect(0);
}

#[test]
fn validate_tells_by_its_exit_code_whether_a_collection_is_as_declared() {
    for version in QdrantVersion::ALL {
        let world =
            World::on(local_servers::postgres().create_database("operate"), Qdrant::shared(version).unwrap());
        let declared = common::collection_toml("1", "user_id = \"keyword\"");
        world.version("0001_users", "create table users (id bigint primary key);", &declared);
        world
            .migrations
            .write("0002_fill.toml", "compatible_from = 1\n[[fill]]\npayload = 'k'\ndefault = 1\n");
        world.record();
        let name = &world.collection;
        // Absent.
        let absent = json_of(world.output(["validate", name, "--json"]).expect(2));
        assert_eq!((absent["valid"].as_bool(), absent.get("found")), (Some(false), None));
        // As an application makes it.
        let other = json!({ "vectors": { "content": { "size": 8, "distance": "Cosine" }, "more": { "size": 2, "distance": "Dot" } } });
        call(&world, "PUT", &format!("/collections/{name}"), &other);
        let point = json!({ "points": [{ "id": 1, "vector": {}, "payload": {} }] });
        call(&world, "PUT", &format!("/collections/{name}/points?wait=true"), &point);
        let found = json_of(world.output(["validate", name, "--json"]).expect(2));
        let takes: Vec<(&str, &str)> = found["differences"]
            .as_array()
            .unwrap()
            .iter()
            .map(|d| (d["path"].as_str().unwrap(), d["takes"].as_str().unwrap()))
            .collect();
        assert_eq!(
            takes,
            [
                ("vectors.content.hnsw_config.m", "in_place"),
                ("vectors.content.size", "new_vectors"),
                ("payload_indexes.user_id", "in_place"),
            ]
        );
        assert_eq!(found["found"]["points"], 1);
        assert_eq!(found["found"]["undeclared"], json!(["vectors.more"]));
        assert_eq!(found["fills"].as_array().unwrap().len(), 1);
        let text = world.output(["validate", name]).expect(2).stdout;
        assert!(text.contains("needs new vectors") && text.contains("It is not as declared"), "{text}");
        let plan = json_of(world.output(["rebuild", name, "--dry-run", "--json"]).expect(0));
        assert_eq!(plan["obstacles"].as_array().unwrap().len(), 1);
        drop_collection(&world, name);

        world.output(["migrate"]).expect(0);
        world.output(["validate", name]).expect(0);
        let alias_name = format!("{name}_alias");
        alias(&world, &alias_name, name);
        let by_alias = json_of(world.output(["validate", &alias_name, "--json"]).expect(0));
        assert_eq!((by_alias["real"].as_str(), by_alias["valid"].as_bool()), (Some(&**name), Some(true)));
        world.output(["validate", "elsewhere"]).expect(1).says(&["no [[collection]] of version 2 matches"]);
    }
}

#[test]
fn the_plan_of_a_rebuild_has_its_reasons_and_sizes() {
    let world = world(QdrantVersion::V1_17_0);
    let declared = "[[collection]]\nmatch = \"${QDRANT_COLLECTION_NAME}\"\n[collection.vectors]\n\
                    a = { size = 4, distance = 'Cosine' }\nb = { size = 4, distance = 'Dot' }\n";
    world.version("0001_users", "create table users (id bigint primary key);", declared);
    world.record();
    fill(&world, &world.collection, 10);
    let plan = json_of(world.output(["rebuild", &world.collection, "--dry-run", "--json"]).expect(0));
    assert_eq!((plan["points"].as_u64(), plan["vector_bytes"].as_u64()), (Some(10), Some(10 * (16 + 32))));
    let reasons: Vec<&str> =
        plan["reasons"].as_array().unwrap().iter().map(|r| r.as_str().unwrap()).collect();
    assert!(reasons[0].contains("distance") && reasons[1].contains("vectors.b: missing"), "{reasons:?}");
    let text = world.output(["rebuild", &world.collection, "--dry-run"]).expect(0).stdout;
    assert!(text.contains("snapshot → shadow") && text.contains("takes the name"), "{text}");
    assert_eq!(count(&world, &world.collection), 10);
    world.output(["rebuild", &world.collection]).expect(64);
    // What a start would refuse stands in the way.
    let lost = format!("{}_unnamed", world.collection);
    call(
        &world,
        "PUT",
        &format!("/collections/{lost}"),
        &json!({ "vectors": { "size": 4, "distance": "Dot" } }),
    );
    call(
        &world,
        "PUT",
        &format!("/collections/{lost}/points?wait=true"),
        &json!({ "points": [{ "id": 1, "vector": [1, 2, 3, 4] }] }),
    );
    alias(&world, &format!("{lost}_alias"), &lost);
    world
        .migrations
        .write("0001_users.toml", &declared.replace("${QDRANT_COLLECTION_NAME}", &format!("{lost}_alias")));
    let plan = json_of(world.output(["rebuild", &format!("{lost}_alias"), "--dry-run", "--json"]).expect(0));
    assert!(
        plan["obstacles"][0]
            .as_str()
            .unwrap()
            .contains("one unnamed vector, which the declared schema has no place for"),
        "{plan}"
    );
    assert!(plan["switch"].as_str().unwrap().contains("in one call"), "{plan}");
    drop_collection(&world, &lost);
}

#[test]
fn every_command_explains_itself() {
    let world = world(QdrantVersion::V1_17_0);
    for (command, words) in [
        (&["snapshot", "--help"][..], "Restore one as a new collection, never over one that exists"),
        (&["snapshot", "restore", "--help"], "the old one is kept"),
        (&["snapshot", "download", "--help"], "compare its checksum"),
        (&["validate", "--help"], "exit 0 if it is as declared at the head, 2 if not"),
        (&["rebuild", "--help"], "--dry-run"),
    ] {
        let help = world.output(command).expect(0).stdout;
        assert!(help.contains(words), "{command:?}: {help}");
    }
}

/// A world whose collection has a snapshot behind a slow network: its download stops for this long.
fn slow(seconds: u64) -> (World, Proxy) {
    let mut world = world(QdrantVersion::V1_17_0);
    fill(&world, &world.collection, 500);
    world.output(["snapshot", "create", &world.collection]).expect(0);
    let proxy = Proxy::start((world.qdrant.host(), world.qdrant.http_port())).unwrap();
    proxy.on_chunk(move |chunk| {
        if chunk.direction == Direction::ToClient && chunk.number == 2 {
            std::thread::sleep(std::time::Duration::from_secs(seconds));
        }
        Action::Forward
    });
    world.set("QDRANT_PORT", proxy.port().to_string());
    (world, proxy)
}

#[test]
fn progress_is_a_bar_on_a_terminal_which_is_gone_at_the_end() {
    use std::io::Read as _;
    use std::os::fd::{FromRawFd as _, OwnedFd};
    let (world, _proxy) = slow(2);
    let dir = Dir::new();
    let (mut master, mut slave) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: both out-pointers are valid for the call; a name, settings and a size may be left out.
    let opened = unsafe { libc::openpty(&raw mut master, &raw mut slave, none, none.cast(), none.cast()) };
    assert_eq!(opened, 0);
    // SAFETY: the call has just opened both, and nobody else has them.
    let (master, slave) = unsafe { (std::fs::File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
    let mut child = {
        let to = dir.path().to_str().unwrap();
        let mut command = world.tandem(["snapshot", "download", &world.collection, "--to", to]);
        command.stdout(std::process::Stdio::null()).stderr(slave).spawn().unwrap()
    };
    // Ends with an error once the last process has closed the other side.
    let seen: Vec<u8> = std::io::BufReader::new(master).bytes().map_while(Result::ok).collect();
    assert!(child.wait().unwrap().success());
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(seen.contains("\r\u{1b}[2Kdownload ["), "{seen:?}");
    // What is left on the last line: nothing.
    assert_eq!(seen.rsplit("\u{1b}[2K").next().unwrap().trim(), "", "{seen:?}");
}

#[test]
fn progress_is_a_line_every_few_seconds_where_there_is_no_terminal() {
    let (world, _proxy) = slow(7);
    let dir = Dir::new();
    let to = dir.path().to_str().unwrap();
    let outcome = world.output(["snapshot", "download", &world.collection, "--to", to]).expect(0);
    let progress = format!("download {}: ", world.collection);
    let line = outcome.stderr.lines().find(|line| line.contains(&progress)).expect("a line");
    assert!(line.contains(" of ") && line.contains(" a second"), "{line}");
    assert!(!outcome.stderr.contains("\u{1b}[2K"), "{}", outcome.stderr);
}

#[test]
fn progress_is_json_where_the_log_is() {
    let (world, _proxy) = slow(7);
    let name = world.collection.clone();
    let dir = Dir::new();
    let to = dir.path().to_str().unwrap();
    let outcome = world.output(["snapshot", "download", &name, "--to", to, "--log-format", "json"]).expect(0);
    let line: Value = outcome
        .stderr
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|line| line["phase"] == "download")
        .expect("a progress event");
    assert_eq!((line["unit"].as_str(), line["collection"].as_str()), (Some("bytes"), Some(&*name)));
    assert!(line["done"].as_u64() < line["total"].as_u64() && line["rate"].is_number(), "{line}");
}

/// Its copy may have been half-way when the snapshot was taken.
#[test]
fn the_snapshot_of_a_shadow_is_never_restored_as_live() {
    for version in QdrantVersion::ALL {
        let world = world(version);
        let (name, into) = (world.collection.clone(), format!("{}_again", world.collection));
        fill(&world, &name, 10);
        let stamp = json!({ "lineage": "l", "timeline": "demo", "version": 2, "epoch": 1,
            "role": { "shadow": { "source": "memory", "phase": "copy" } } });
        call(&world, "PATCH", &format!("/collections/{name}"), &json!({ "metadata": { "tandem": stamp } }));
        world.output(["snapshot", "create", &name]).expect(0);
        world
            .output(["snapshot", "restore", &name, "--into", &into])
            .expect(76)
            .says(&["is no collection to use", "shadow of `memory`"]);
        let restored = call(&world, "GET", &format!("/collections/{into}"), &json!({}));
        assert_eq!(restored["config"]["metadata"]["tandem"], stamp);
        drop_collection(&world, &into);
    }
}

/// A snapshot has the points of one node.
#[test]
fn on_one_node_of_several_what_is_node_local_is_refused() {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for version in QdrantVersion::ALL {
        let ports = [free(), free()];
        let node = |i: usize| {
            let mut env = vec![
                ("QDRANT__CLUSTER__ENABLED".to_owned(), "true".to_owned()),
                ("QDRANT__CLUSTER__P2P__PORT".to_owned(), ports[i].to_string()),
                ("QDRANT_URI".to_owned(), format!("http://127.0.0.1:{}", ports[i])),
            ];
            if i > 0 {
                env.push(("QDRANT_BOOTSTRAP".to_owned(), format!("http://127.0.0.1:{}", ports[0])));
            }
            Qdrant::start(QdrantOptions { version, env, ..Default::default() }).unwrap()
        };
        let first = node(0);
        let world = World::on(local_servers::postgres().create_database("operate"), first.with_api_key(None));
        // The only node of a cluster has everything.
        let (whole, dir) = ("whole".to_owned(), Dir::new());
        fill(&world, &whole, 10);
        let taken = json_of(world.output(["snapshot", "create", &whole, "--json"]).expect(0));
        world.output(["snapshot", "restore", &whole, "--into", "copy"]).expect(0);
        let file = dir.path().join("snapshot").display().to_string();
        world.output(["snapshot", "download", &whole, "--to", &file]).expect(0);
        // Shards by key are lost under another name.
        let by_key =
            json!({ "vectors": { "a": { "size": 4, "distance": "Dot" } }, "sharding_method": "custom" });
        call(&world, "PUT", "/collections/keyed", &by_key);
        call(&world, "PUT", "/collections/keyed/shards", &json!({ "shard_key": "k" }));
        world.output(["snapshot", "create", "keyed"]).expect(76).says(&["custom sharding"]);

        let second = node(1);
        let nodes = || {
            call(&world, "GET", "/cluster", &json!({}))["peers"].as_object().map_or(0, serde_json::Map::len)
        };
        while nodes() < 2 {}
        let split = json!({ "vectors": { "a": { "size": 4, "distance": "Dot" } }, "shard_number": 2 });
        let mut tries = 0;
        // Consensus may still be busy with the new node.
        while world.qdrant.rest("PUT", "/collections/split", &split.to_string()).unwrap().0 != 200 {
            tries += 1;
            assert!(tries < 20, "no distributed collection");
        }
        world.output(["snapshot", "create", "split"]).expect(76).says(&["is distributed"]);
        world
            .output(["snapshot", "restore", &whole, taken["name"].as_str().unwrap(), "--into", "again"])
            .expect(76)
            .says(&["one of 2 nodes"]);
        world.output(["snapshot", "restore", "again", "--file", &file]).expect(76).says(&["one of 2 nodes"]);
        // A rebuild needs a snapshot, and is refused before Postgres is changed.
        let declared = "[[collection]]\nmatch = \"whole\"\n[collection.vectors]\na = { size = 4, distance = 'Dot' }\nb = { size = 4, distance = 'Dot' }\n";
        world.version("0001_users", "create table users (id bigint primary key);", declared);
        world.record();
        let state = world.state();
        world.output(["migrate"]).expect(76).says(&["one of 2 nodes"]);
        assert_eq!(world.state(), state);
        drop(second);
    }
}
