//! A rebuild that is killed while the shadow is the only copy, or right after its snapshot came back under the real name, and
//! then finds Postgres as it was before: it goes on or refuses, and creates nothing empty.

mod common;

use common::World;
use common::points::{create, info, names, points, put};
use local_servers::proxy::{Action, Chunk, Direction, Proxy};
use local_servers::{Qdrant, QdrantVersion};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

fn world(version: QdrantVersion) -> World {
    static RECORDED: OnceLock<World> = OnceLock::new();
    let recorded = RECORDED.get_or_init(|| {
        World::declaring(
            "vectors.content = { size = 2, distance = 'Dot' }\nvectors.emotion = { size = 2, distance = 'Dot' }\n",
        )
    });
    let world = recorded.sibling_on(Qdrant::shared(version).unwrap());
    create(&world, &world.collection, &json!({ "vectors": { "content": { "size": 2, "distance": "Dot" } } }));
    let point = |id: u64| json!({ "id": id, "vector": { "content": [id, 1] }, "payload": { "n": id } });
    put(&world, &world.collection, &(1..=40).map(point).collect::<Vec<_>>());
    world
}

/// The stamp's role under the application's name; `None` without a collection.
fn role(qdrant: &Qdrant, collection: &str) -> Option<Value> {
    let (status, body) = qdrant.rest("GET", &format!("/collections/{collection}"), "").unwrap();
    let info = || serde_json::from_str::<Value>(&body).unwrap();
    (status == 200).then(|| info()["result"]["config"]["metadata"]["tandem"]["role"].clone())
}

fn contains(chunk: &Chunk<'_>, part: &[u8]) -> bool {
    chunk.direction == Direction::ToServer && chunk.bytes.windows(part.len()).any(|window| window == part)
}

/// Kills a run, when it next calls Qdrant, once its collection is as `place` says behind the fence.
fn killed(world: &World, place: impl Fn(Option<Value>) -> bool + Send + Sync + 'static) {
    let proxy = Proxy::start((world.qdrant.host(), world.qdrant.grpc_port())).unwrap();
    let (pid, fenced, was) =
        (Arc::new(AtomicU32::new(0)), AtomicBool::new(false), Arc::new(AtomicBool::new(false)));
    let (server, name, victim, done) =
        (world.qdrant.clone(), world.collection.clone(), pid.clone(), was.clone());
    proxy.on_chunk(move |chunk| {
        // A shadow has a fence too while its snapshot is taken.
        if contains(chunk, b"tandem_fence") && !contains(chunk, b"_tandem_shadow_") {
            fenced.store(true, SeqCst);
        }
        let calls = chunk.direction == Direction::ToServer && fenced.load(SeqCst);
        if !calls || !place(role(&server, &name)) {
            return Action::Forward;
        }
        if !done.swap(true, SeqCst) {
            let victim = victim.load(SeqCst).to_string();
            assert!(Command::new("kill").args(["-KILL", &victim]).status().unwrap().success());
        }
        Action::CutBefore
    });
    let mut command = world.tandem(["run", "--", "true"]);
    command.env("QDRANT_URL", proxy.url(&world.qdrant.grpc_url()));
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    pid.store(child.id(), SeqCst);
    child.wait().unwrap();
    assert!(was.load(SeqCst));
}

fn is_shadow(role: Option<Value>) -> bool {
    role.is_some_and(|role| role["shadow"].is_object())
}

/// As a backup from before the rebuild leaves it: its journal is gone.
const BEFORE_THE_REBUILD: &str = "delete from tandem.journal; delete from tandem.published";

/// As a backup from before tandem leaves it.
const BEFORE_TANDEM: &str = "drop schema tandem cascade; drop table users";

#[test]
fn the_only_copy_is_found_though_the_journal_was_lost() {
    QdrantVersion::ALL.into_iter().for_each(|version| {
        let world = world(version);
        let before = points(&world, &world.collection);
        killed(&world, |role| role.is_none());
        assert_eq!(names(&world), [format!("_tandem_shadow_{}_1", world.collection)]);
        world.db.execute(BEFORE_THE_REBUILD);
        world.start(&["true"]).expect(0);
        assert_eq!(points(&world, &world.collection), before);
        assert_eq!(role(&world.qdrant, &world.collection), Some(json!("live")));
    });
}

#[test]
fn the_only_copy_of_a_ledger_that_is_gone_is_named_and_nothing_empty_created() {
    let world = world(QdrantVersion::default());
    killed(&world, |role| role.is_none());
    let shadow = format!("_tandem_shadow_{}_1", world.collection);
    world.db.execute(BEFORE_TANDEM);
    world.start(&["true"]).expect(76).says(&[&shadow, "absent", "verified"]);
    assert_eq!(names(&world), [shadow]);
}

#[test]
fn a_snapshot_that_came_back_under_the_real_name_is_known_by_the_shadows_stamp() {
    QdrantVersion::ALL.into_iter().for_each(|version| {
        for backup in [None, Some(BEFORE_THE_REBUILD)] {
            let world = world(version);
            let before = points(&world, &world.collection);
            killed(&world, is_shadow);
            let stamp = info(&world, &world.collection)["config"]["metadata"]["tandem"].clone();
            assert_eq!(stamp["role"]["shadow"]["source"], *world.collection);
            if let Some(sql) = backup {
                world.db.execute(sql);
            }
            world.start(&["true"]).expect(0);
            assert_eq!(points(&world, &world.collection), before);
            assert_eq!(role(&world.qdrant, &world.collection), Some(json!("live")));
        }
        // Nobody knows of it any more, and nobody takes it for the application's.
        let world = world(version);
        killed(&world, is_shadow);
        world.db.execute(BEFORE_TANDEM);
        world.start(&["true"]).expect(76).says(&["stamped as the shadow", "bring the stores back together"]);
        assert!(is_shadow(role(&world.qdrant, &world.collection)));
    });
}

#[test]
fn a_connection_that_is_lost_while_a_rebuild_is_published_is_followed_by_another_look() {
    let world = world(QdrantVersion::default());
    let before = points(&world, &world.collection);
    let proxy = Proxy::start((world.db.server().host(), world.db.server().port())).unwrap();
    let cut = AtomicBool::new(false);
    proxy.on_chunk(move |chunk| {
        // Postgres commits; the answer never comes.
        match contains(chunk, b"insert into \"tandem\".published") && !cut.swap(true, SeqCst) {
            true => Action::CutAfter,
            false => Action::Forward,
        }
    });
    let mut command = world.tandem(["run", "--", "true"]);
    command.env("DATABASE_URL", proxy.url(&world.db.url()));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", common::text(&output));
    assert!(common::text(&output).contains("looking again on a new connection"), "{}", common::text(&output));
    assert_eq!(points(&world, &world.collection), before);
    assert_eq!(world.query("select count(*)::text from tandem.journal where ended is null"), "0");
}
