//! A runner that is paused (`SIGSTOP`) at any answer of either store, loses its session in Postgres, and wakes after its
//! successor has published and the application has written: it does no harm, and ends.
//!
//! `cargo test` does the answers of Postgres in the stages that replace a live collection. Every answer of a whole rebuild:
//! `cargo test --test paused -- --ignored --nocapture`; `TANDEM_TEST_PARTS='1.17.0 alias Qdrant'` runs the parts that contain
//! one of these, `TANDEM_TEST_FIRST` is the answer to begin with.

mod common;

use common::World;
use common::points::{create, info, names, points, put, rest};
use local_servers::proxy::{Action, Chunk, Direction, Proxy};
use local_servers::{Qdrant, QdrantVersion};
use serde_json::{Value, json};
use std::ops::RangeInclusive;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Store {
    Postgres,
    Qdrant,
}

/// From which on the answers are counted.
#[derive(Debug, Clone, Copy, PartialEq)]
enum From {
    Beginning,
    /// The journal's row of the stage that creates the shadow.
    Shadow,
    /// The journal's row of the stage that replaces the live collection.
    Switch,
}

fn world(version: QdrantVersion, aliased: bool) -> World {
    static RECORDED: OnceLock<World> = OnceLock::new();
    let recorded = RECORDED.get_or_init(|| {
        World::declaring(
            "vectors.content = { size = 2, distance = 'Dot' }\nvectors.emotion = { size = 2, distance = 'Dot' }\n",
        )
    });
    let world = recorded.sibling_on(Qdrant::shared(version).unwrap());
    let real = if aliased { format!("{}_7d", world.collection) } else { world.collection.clone() };
    // A small log, as snapshots have all of it in them.
    let wal = json!({ "wal_capacity_mb": 1 });
    let vectors = json!({ "content": { "size": 2, "distance": "Dot" } });
    create(&world, &real, &json!({ "vectors": vectors, "wal_config": wal }));
    put(&world, &real, &(1..=40).map(|id| point(id, 0)).collect::<Vec<_>>());
    if aliased {
        let lead = json!({ "create_alias": { "collection_name": real, "alias_name": world.collection } });
        rest(&world, "POST", "/collections/aliases", &json!({ "actions": [lead] }));
    }
    world
}

/// A collection as it is declared, whose points get a payload value in place.
fn filled(version: QdrantVersion) -> World {
    static RECORDED: OnceLock<World> = OnceLock::new();
    let recorded = RECORDED.get_or_init(|| {
        World::declaring(
            "vectors.content = { size = 2, distance = 'Dot' }\n[[fill]]\npayload = 'source'\nset = 'imported'\n",
        )
    });
    let world = recorded.sibling_on(Qdrant::shared(version).unwrap());
    let name = &world.collection;
    create(&world, name, &json!({ "vectors": { "content": { "size": 2, "distance": "Dot" } } }));
    put(&world, name, &(1..=40).map(|id| point(id, 0)).collect::<Vec<_>>());
    world
}

fn point(id: u64, at: u64) -> Value {
    json!({ "id": id, "vector": { "content": [id, at] }, "payload": { "at": at } })
}

fn has(chunk: &Chunk<'_>, part: &[u8]) -> bool {
    chunk.bytes.windows(part.len()).any(|window| window == part)
}

fn signal(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

/// A runner that stops at the n-th answer; `None` if it ended before.
fn paused_at(world: &World, store: Store, from: From, n: usize) -> Option<(Child, [Proxy; 2])> {
    let postgres = Proxy::start((world.db.server().host(), world.db.server().port())).unwrap();
    let qdrant = Proxy::start((world.qdrant.host(), world.qdrant.grpc_port())).unwrap();
    let armed = Arc::new(AtomicBool::new(from == From::Beginning));
    let (pid, answers, paused) =
        (Arc::new(AtomicU32::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    for (proxy, of) in [(&postgres, Store::Postgres), (&qdrant, Store::Qdrant)] {
        let (armed, pid, answers, paused) = (armed.clone(), pid.clone(), answers.clone(), paused.clone());
        proxy.on_chunk(move |chunk| {
            let begins = |stage: &&str| has(chunk, format!("\"stage\":\"{stage}\"").as_bytes());
            let stages: &[&str] = match from {
                From::Beginning => &[],
                From::Shadow => &["shadow"],
                From::Switch => &["replace", "switch_alias"],
            };
            if of == Store::Postgres && chunk.direction == Direction::ToServer && stages.iter().any(begins) {
                armed.store(true, SeqCst);
            }
            let counted = of == store && chunk.direction == Direction::ToClient && armed.load(SeqCst);
            if counted && answers.fetch_add(1, SeqCst) + 1 == n {
                let pid = loop {
                    match pid.load(SeqCst) {
                        0 => std::thread::yield_now(),
                        pid => break pid,
                    }
                };
                signal(pid, "-STOP");
                paused.store(true, SeqCst);
            }
            Action::Forward
        });
    }
    let child = started(world, &postgres, &qdrant);
    pid.store(child.id(), SeqCst);
    Some((at_its_place(child, &paused)?, [postgres, qdrant]))
}

/// A run that reaches both stores through proxies.
fn started(world: &World, postgres: &Proxy, qdrant: &Proxy) -> Child {
    let mut command = world.tandem(["run", "--", "true"]);
    command.env("DATABASE_URL", postgres.url(&world.db.url()));
    command.env("QDRANT_URL", qdrant.url(&world.qdrant.grpc_url()));
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until it is stopped where it is to be; `None` if it ended before.
fn at_its_place(mut child: Child, stopped: &AtomicBool) -> Option<Child> {
    while !stopped.load(SeqCst) {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "the run that was not stopped ended with {status}");
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(child)
}

fn every_place(
    version: QdrantVersion,
    aliased: bool,
    store: Store,
    from: From,
    answers: RangeInclusive<usize>,
) {
    let (next, done, places) =
        (AtomicUsize::new(*answers.start()), AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    let n = next.fetch_add(1, SeqCst);
                    if !answers.contains(&n) {
                        return;
                    }
                    let world = world(version, aliased);
                    let Some((child, proxies)) = paused_at(&world, store, from, n) else {
                        done.store(true, SeqCst);
                        return;
                    };
                    let wakes = |pid| signal(pid, "-CONT");
                    succeeded(&world, child, wakes, &format!("{store:?}, answer {n}"));
                    drop(proxies);
                    places.fetch_add(1, SeqCst);
                }
            });
        }
    });
    let places = places.into_inner();
    println!(
        "paused at {places} places from answer {} on: Qdrant {}, alias {aliased}, {store:?}, {from:?}",
        answers.start(),
        version.as_str()
    );
    assert!(places >= 8, "only {places} places");
}

/// A successor takes over, the application writes, and the runner wakes.
fn succeeded(world: &World, child: Child, wakes: impl FnOnce(u32), place: &str) {
    let lost = "select count(pg_terminate_backend(pid))::text from pg_stat_activity \
                where datname = current_database() and pid <> pg_backend_pid()";
    world.query(lost);
    world.start(&["true"]).expect(0);
    let name = &world.collection;
    put(world, name, &[point(1, 9), point(900, 9)]);
    rest(world, "POST", &format!("/collections/{name}/points/delete?wait=true"), &json!({ "points": [2] }));
    let written = points(world, name);
    let config = info(world, name)["config"].clone();
    wakes(child.id());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code().is_some_and(|code| code == 0 || said.contains("ERROR ")),
        "{place}: {:?}\n{said}",
        output.status
    );
    assert_eq!(points(world, name), written, "{place}\n{said}");
    assert_eq!(written.len(), 40);
    let strict = |config: &Value| config["strict_mode_config"].clone();
    let now = info(world, name)["config"].clone();
    assert_eq!(
        (strict(&now), &now["metadata"]["tandem"]["role"]),
        (strict(&config), &json!("live")),
        "{place}\n{said}"
    );
    world.start(&["true"]).expect(0);
    assert_eq!(points(world, name), written, "{place}, a start later");
    for name in names(world) {
        assert!(
            info(world, &name)["config"]["metadata"]["tandem_fence"].is_null(),
            "{place}: {name} is fenced off"
        );
    }
}

#[test]
fn a_runner_that_wakes_after_its_successor_replaced_the_collection_does_no_harm() {
    every_place(QdrantVersion::default(), false, Store::Postgres, From::Switch, 1..=usize::MAX);
}

#[test]
fn a_runner_that_wakes_after_its_successor_led_the_alias_elsewhere_does_no_harm() {
    every_place(QdrantVersion::default(), true, Store::Postgres, From::Switch, 1..=usize::MAX);
}

/// Where a shadow is created and filled, and a page of points could be written over what has become live.
#[test]
fn a_runner_that_wakes_after_its_successor_led_the_alias_to_the_shadow_that_it_fills_does_no_harm() {
    every_place(QdrantVersion::default(), true, Store::Qdrant, From::Shadow, 1..=24);
}

/// The limits of a fence, beside what the fields of others may be: `upsert_max_batchsize` and
/// `max_collection_payload_size_bytes` are 0, and `write_rate_limit` is 1 or not set.
fn fences_off(chunk: &Chunk<'_>) -> bool {
    has(chunk, &[0x48, 0, 0x60, 1, 0x68, 0]) || has(chunk, &[0x48, 0, 0x68, 0])
}

/// Points with their vectors, and no declaration of all vectors.
fn puts_points(chunk: &Chunk<'_>) -> bool {
    has(chunk, b"content") && !has(chunk, b"emotion")
}

fn sets_payloads(chunk: &Chunk<'_>) -> bool {
    has(chunk, b"imported")
}

/// The n-th of these calls follows a look at the lock, and arrives when the successor is done. `false` if there are not so
/// many.
fn arrives_late(world: &World, call: fn(&Chunk<'_>) -> bool, n: usize, place: &str) -> bool {
    let postgres = Proxy::start((world.db.server().host(), world.db.server().port())).unwrap();
    let qdrant = Proxy::start((world.qdrant.host(), world.qdrant.grpc_port())).unwrap();
    let (calls, held) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
    let (go, may_go) = mpsc::channel();
    let (holds, may_go) = (held.clone(), Mutex::new(may_go));
    qdrant.on_chunk(move |chunk| {
        let counted = chunk.direction == Direction::ToServer && call(chunk);
        if counted && calls.fetch_add(1, SeqCst) + 1 == n {
            holds.store(true, SeqCst);
            may_go.lock().unwrap().recv().unwrap();
        }
        Action::Forward
    });
    let Some(child) = at_its_place(started(world, &postgres, &qdrant), &held) else { return false };
    succeeded(world, child, |_| go.send(()).unwrap(), &format!("{place}, call {n}"));
    true
}

/// Each of these calls in turn; how many there were.
fn each_arrives_late(make: impl Fn() -> World + Sync, call: fn(&Chunk<'_>) -> bool, place: &str) -> usize {
    let (next, places) = (AtomicUsize::new(1), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while arrives_late(&make(), call, next.fetch_add(1, SeqCst), place) {
                    places.fetch_add(1, SeqCst);
                }
            });
        }
    });
    println!("{} places: {place}", places.load(SeqCst));
    places.into_inner()
}

#[test]
fn a_fence_that_goes_up_behind_the_successor_comes_down_again() {
    for (aliased, least) in [(false, 6), (true, 2)] {
        let make = || world(QdrantVersion::default(), aliased);
        let places = each_arrives_late(make, fences_off, &format!("a fence, alias {aliased}"));
        assert!(places >= least, "only {places}");
    }
}

#[test]
fn points_that_arrive_behind_the_successor_are_refused() {
    for version in QdrantVersion::ALL {
        let make = || world(version, true);
        assert!(each_arrives_late(make, puts_points, "a page of a copy") > 0);
        let make = || filled(version);
        assert!(each_arrives_late(make, sets_payloads, "a page of a fill") > 0);
    }
}

#[test]
#[ignore = "takes many minutes; its figures are in docs/testing.md"]
fn a_runner_that_wakes_at_any_answer_does_no_harm() {
    let wanted = std::env::var("TANDEM_TEST_PARTS").ok();
    let first = std::env::var("TANDEM_TEST_FIRST").map_or(1, |n| n.parse().unwrap());
    for version in QdrantVersion::ALL {
        for (aliased, mode) in [(false, "name"), (true, "alias")] {
            for store in [Store::Postgres, Store::Qdrant] {
                let part = format!("{} {mode} {store:?}", version.as_str());
                match &wanted {
                    Some(wanted) if !wanted.split(',').any(|wanted| part.contains(wanted)) => {
                        println!("skipped, it is not in TANDEM_TEST_PARTS: {part}");
                    }
                    _ => every_place(version, aliased, store, From::Beginning, first..=usize::MAX),
                }
            }
        }
    }
}
