//! `kill -9` at every message boundary to either store, and a restart that ends where an undisturbed run ends.
//!
//! A proxy stands before one store and kills the process when its n-th message arrives (the store never sees it), or
//! when the answer to it arrives (the store has acted on it). That covers every journal boundary, and every place
//! between two of them, without a hook in the product. Or it kills Qdrant there, which is then started again on its files.
//!
//! `cargo test` does it once: of a rebuild the answers, as a message that a store has not seen leaves both stores as the answer
//! before it did. The whole matrix, every case, either victim, both Qdrant servers:
//! `cargo test --test crash -- --ignored --nocapture the_whole_matrix`; its count and date are in docs/testing.md.
//! `TANDEM_TEST_PARTS='1.17.0 Qdrant,Rest'` runs the parts that contain one of these.

mod common;

use common::World;
use local_servers::proxy::{Action, Chunk, Direction, Proxy};
use local_servers::{Process, Qdrant, QdrantOptions, QdrantVersion};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Store {
    Postgres,
    Qdrant,
    /// Qdrant's other port, through which snapshots come and go.
    Rest,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Moment {
    BeforeTheMessage,
    BeforeTheAnswer,
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    Tandem,
    Qdrant,
}

/// One case: the timeline, and the pair of stores before the killed run.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// The timeline, recorded once.
    recorded: fn() -> &'static World,
    prepare: fn(&World),
}

const FRESH: Case = Case { name: "a fresh pair", recorded: small, prepare: fresh };
const LEGACY: Case = Case { name: "a legacy pair", recorded: small, prepare: legacy };
const FILL: Case = Case { name: "a fill", recorded: filling, prepare: points_to_fill };

const REBUILD: Case = Case { name: "a rebuild that keeps the name", recorded: rebuilding, prepare: unnamed };
const BEHIND_AN_ALIAS: Case = Case { name: "a rebuild behind an alias", recorded: copying, prepare: aliased };

/// The server that a place is tried on: one that others use, or one of its own that may be killed.
enum Server {
    Shared(Qdrant),
    Own(Arc<Mutex<Process<Qdrant>>>),
}

impl Server {
    fn of(victim: Victim, version: QdrantVersion) -> Self {
        match victim {
            Victim::Tandem => Self::Shared(Qdrant::shared(version).unwrap()),
            Victim::Qdrant => {
                let own = Qdrant::start(QdrantOptions { version, ..Default::default() }).unwrap();
                Self::Own(Arc::new(Mutex::new(own)))
            }
        }
    }

    fn address(&self) -> Qdrant {
        match self {
            Self::Shared(shared) => shared.clone(),
            Self::Own(own) => own.lock().unwrap_or_else(PoisonError::into_inner).with_api_key(None),
        }
    }
}

fn small() -> &'static World {
    static RECORDED: OnceLock<World> = OnceLock::new();
    RECORDED.get_or_init(World::small)
}

fn fresh(_: &World) {}

fn legacy(world: &World) {
    let first = std::fs::read_to_string(world.migrations.path().join("0001_users.up.sql")).unwrap();
    world.db.execute(&first);
    world.db.execute("insert into users (name) values ('Ada')");
    let body = r#"{"vectors": {"content": {"size": 4, "distance": "Cosine"}}}"#;
    world.qdrant.rest("PUT", &format!("/collections/{}", world.collection), body).unwrap();
    let points =
        r#"{"points": [{"id": 7, "vector": {"content": [1, 2, 3, 4]}, "payload": {"user_id": "a"}}]}"#;
    world.qdrant.rest("PUT", &format!("/collections/{}/points?wait=true", world.collection), points).unwrap();
}

/// Whether a store could notice that it is missing.
fn is_a_place(store: Store, chunk: &Chunk<'_>) -> bool {
    match store {
        Store::Postgres => true,
        Store::Qdrant => has_a_message(chunk.bytes),
        // Where the file system has no holes a snapshot is of hundreds of chunks, and each in its middle is like another.
        Store::Rest => chunk.bytes.len() < 16 << 10 || chunk.number.is_multiple_of(64),
    }
}

/// Whether some of a call is in it, and not only what HTTP/2 says to itself (RFC 9113: a header of nine bytes, of which three are the
/// length and one the type; HEADERS, DATA and CONTINUATION are of calls).
fn has_a_message(bytes: &[u8]) -> bool {
    let mut bytes = bytes.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap_or(bytes);
    while let [a, b, c, kind, ..] = *bytes {
        if matches!(kind, 0 | 1 | 9) {
            return true;
        }
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    false
}

/// Kills one run or its Qdrant; `false` if it ended before the n-th message.
fn kill_at(world: &World, server: &Server, store: Store, moment: Moment, n: usize) -> bool {
    let proxy = match store {
        Store::Postgres => Proxy::start((world.db.server().host(), world.db.server().port())).unwrap(),
        Store::Qdrant => Proxy::start((world.qdrant.host(), world.qdrant.grpc_port())).unwrap(),
        Store::Rest => Proxy::start((world.qdrant.host(), world.qdrant.http_port())).unwrap(),
    };
    let (pid, killed) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let (seen_pid, was_killed) = (pid.clone(), killed.clone());
    let own = match server {
        Server::Shared(_) => None,
        Server::Own(own) => Some(own.clone()),
    };
    let places = AtomicUsize::new(0);
    proxy.on_chunk(move |chunk| {
        let counted = match (moment, chunk.direction) {
            (Moment::BeforeTheMessage, Direction::ToServer)
            | (Moment::BeforeTheAnswer, Direction::ToClient) => is_a_place(store, chunk),
            _ => false,
        };
        if !counted || places.fetch_add(1, SeqCst) + 1 < n {
            return Action::Forward;
        }
        let first = !was_killed.swap(true, SeqCst);
        if let Some(own) = &own {
            if first {
                own.lock().unwrap_or_else(PoisonError::into_inner).kill9().unwrap();
            }
            // Postgres knows nothing of it.
            return if store == Store::Postgres { Action::Forward } else { Action::CutBefore };
        }
        if first {
            let pid = loop {
                match seen_pid.load(SeqCst) {
                    0 => std::thread::yield_now(),
                    pid => break pid,
                }
            };
            std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        }
        Action::CutBefore
    });
    let mut command = world.tandem(["run", "--", "true"]);
    match store {
        Store::Postgres => command.env("DATABASE_URL", proxy.url(&world.db.url())),
        Store::Qdrant => command.env("QDRANT_URL", proxy.url(&world.qdrant.grpc_url())),
        Store::Rest => command.env("QDRANT_PORT", proxy.port().to_string()),
    };
    if matches!(server, Server::Own(_)) {
        command.env("TANDEM_TIMEOUT", "3s");
    }
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    pid.store(child.id(), SeqCst);
    let status = child.wait().unwrap();
    let killed = killed.load(SeqCst);
    assert!(killed || status.success(), "the run that was not killed ended with {status}");
    if let Server::Own(own) = server
        && killed
    {
        own.lock().unwrap_or_else(PoisonError::into_inner).restart().unwrap();
    }
    killed
}

/// The legacy pair again, whose points a third version fills.
fn filling() -> &'static World {
    static RECORDED: OnceLock<World> = OnceLock::new();
    RECORDED.get_or_init(|| {
        let world = World::small();
        let fills = "compatible_from = 1\n[[fill]]\nvector = 'content'\nfrom = { payload = 'embedding' }\n\
                     [[fill]]\npayload = 'author'\nrenamed_from = 'user_id'\n[[fill]]\npayload = 'source'\nset = 'import'\n";
        world.migrations.write("0003_fill.toml", fills);
        world.record();
        world
    })
}

fn points_to_fill(world: &World) {
    legacy(world);
    let points: Vec<String> = (0..40)
        .map(|id| format!(r#"{{"id": {id}, "vector": {{}}, "payload": {{"user_id": "u{id}", "embedding": [{id}, 1, 1, 1]}}}}"#))
        .collect();
    let body = format!(r#"{{"points": [{}]}}"#, points.join(", "));
    world.qdrant.rest("PUT", &format!("/collections/{}/points?wait=true", world.collection), &body).unwrap();
}

/// A collection that needs one more vector: its points are copied as they are, which is proven by sums.
fn copying() -> &'static World {
    static RECORDED: OnceLock<World> = OnceLock::new();
    RECORDED.get_or_init(|| {
        let world = World::small();
        let declared = common::collection_toml("1.2.0", "user_id = \"keyword\"").replace(
            "[collection.payload_indexes]",
            "[collection.vectors.mood]\nsize = 3\ndistance = \"Dot\"\n\n[collection.payload_indexes]",
        );
        world.migrations.write("0003_mood.toml", &declared);
        world.record();
        world
    })
}

/// The legacy pair, whose collection has one unnamed vector that becomes another one's source.
fn rebuilding() -> &'static World {
    static RECORDED: OnceLock<World> = OnceLock::new();
    RECORDED.get_or_init(|| {
        let world = World::small();
        let fills = "compatible_from = 1\n[[fill]]\nvector = 'content'\nfrom = { vector = '' }\n\
                     [[fill]]\npayload = 'source'\nset = 'import'\n";
        world.migrations.write("0003_fill.toml", fills);
        world.record();
        world
    })
}

fn unnamed(world: &World) {
    vectors(world, &world.collection, r#"{"size": 4, "distance": "Cosine"}"#, |id| {
        format!("[{id}, 1, 1, 1]")
    });
}

fn aliased(world: &World) {
    let real = format!("{}_7d", world.collection);
    vectors(world, &real, r#"{"content": {"size": 4, "distance": "Cosine"}}"#, |id| {
        format!(r#"{{"content": [{id}, 1, 1, 1]}}"#)
    });
    let lead = format!(
        r#"{{"actions": [{{"create_alias": {{"collection_name": "{real}", "alias_name": "{}"}}}}]}}"#,
        world.collection
    );
    world.qdrant.rest("POST", "/collections/aliases", &lead).unwrap();
}

/// A collection of an old form with points. Its log is small, as its snapshots have all of it in them: a file system without holes
/// would have 32 MiB of zeros for each.
fn vectors(world: &World, name: &str, vectors: &str, vector: impl Fn(u32) -> String) {
    let first = std::fs::read_to_string(world.migrations.path().join("0001_users.up.sql")).unwrap();
    world.db.execute(&first);
    let created = world
        .qdrant
        .rest(
            "PUT",
            &format!("/collections/{name}"),
            &format!(r#"{{"vectors": {vectors}, "wal_config": {{"wal_capacity_mb": 1}}}}"#),
        )
        .unwrap();
    assert_eq!(created.0, 200, "{}", created.1);
    let points: Vec<String> = (1..40)
        .map(|id| format!(r#"{{"id": {id}, "vector": {}, "payload": {{"user_id": "u{id}"}}}}"#, vector(id)))
        .collect();
    let body = format!(r#"{{"points": [{}]}}"#, points.join(", "));
    let put = world.qdrant.rest("PUT", &format!("/collections/{name}/points?wait=true"), &body).unwrap();
    assert_eq!(put.0, 200, "{}", put.1);
}

/// Both stores, every point included.
fn everything(world: &World) -> String {
    let all = r#"{"limit": 1000, "with_payload": true, "with_vector": true}"#;
    let (_, points) =
        world.qdrant.rest("POST", &format!("/collections/{}/points/scroll", world.collection), all).unwrap();
    let points: serde_json::Value = serde_json::from_str(&points).unwrap();
    format!("{}\n{}", world.state(), points["result"])
}

/// Every place of a case, the server's default version, tandem killed.
fn every_place(case: Case, store: Store, moment: Moment) {
    every_place_of(case, QdrantVersion::default(), Victim::Tandem, store, moment);
}

/// The number of places.
fn every_place_of(case: Case, version: QdrantVersion, victim: Victim, store: Store, moment: Moment) -> usize {
    let make = |server: &Server| (case.recorded)().sibling_on(server.address());
    let shared = Server::of(Victim::Tandem, version);
    let undisturbed = make(&shared);
    (case.prepare)(&undisturbed);
    undisturbed.start(&["true"]).expect(0);
    let wanted = everything(&undisturbed);
    let (next, done) = (AtomicU32::new(1), AtomicBool::new(false));
    let (report, places) = mpsc::channel();
    let began = Instant::now();
    std::thread::scope(|scope| {
        // Most of them wait: a start behind a crash in a stage that switches does (docs/decisions/0017-the-fence.md).
        for _ in 0..8 {
            let (next, done, report, wanted, make) = (&next, &done, report.clone(), &wanted, &make);
            scope.spawn(move || {
                let server = Server::of(victim, version);
                while !done.load(SeqCst) {
                    let n = next.fetch_add(1, SeqCst);
                    let world = make(&server);
                    (case.prepare)(&world);
                    if !kill_at(&world, &server, store, moment, n as usize) {
                        done.store(true, SeqCst);
                        return;
                    }
                    let again = world.start(&["true"]);
                    let place = format!("{}, {victim:?}, {store:?}, {moment:?}, message {n}", case.name);
                    let found = everything(&world);
                    if again.code != 0 || &found != wanted {
                        done.store(true, SeqCst);
                        panic!("{place}: {} {}\nleft {found}\ninstead of {wanted}", again.code, again.stderr);
                    }
                    let open = world.query("select count(*)::text from tandem.journal where ended is null");
                    assert_eq!(open, "0", "runs without an end after {place}");
                    report.send(n).unwrap();
                }
            });
        }
    });
    drop(report);
    let places = places.iter().count();
    println!(
        "{places} places in {} s: {}, Qdrant {}, {victim:?} killed, {store:?}, {moment:?}",
        began.elapsed().as_secs(),
        case.name,
        version.as_str()
    );
    // A run that needs fewer messages than this does not do what these tests are for.
    let least = if store == Store::Rest { 2 } else { 8 };
    assert!(places >= least, "only {places} places");
    places
}

#[test]
fn killed_before_any_message_to_postgres_on_a_fresh_pair() {
    every_place(FRESH, Store::Postgres, Moment::BeforeTheMessage);
}

#[test]
fn killed_before_any_answer_of_postgres_on_a_fresh_pair() {
    every_place(FRESH, Store::Postgres, Moment::BeforeTheAnswer);
}

#[test]
fn killed_before_any_message_to_postgres_on_a_legacy_pair() {
    every_place(LEGACY, Store::Postgres, Moment::BeforeTheMessage);
}

#[test]
fn killed_before_any_answer_of_postgres_on_a_legacy_pair() {
    every_place(LEGACY, Store::Postgres, Moment::BeforeTheAnswer);
}

#[test]
fn killed_before_any_message_to_qdrant() {
    every_place(FRESH, Store::Qdrant, Moment::BeforeTheMessage);
    every_place(LEGACY, Store::Qdrant, Moment::BeforeTheMessage);
}

#[test]
fn killed_before_any_answer_of_qdrant() {
    every_place(FRESH, Store::Qdrant, Moment::BeforeTheAnswer);
    every_place(LEGACY, Store::Qdrant, Moment::BeforeTheAnswer);
}

#[test]
fn killed_before_any_message_of_a_fill() {
    every_place(FILL, Store::Qdrant, Moment::BeforeTheMessage);
}

#[test]
fn killed_before_any_answer_of_a_fill() {
    every_place(FILL, Store::Postgres, Moment::BeforeTheAnswer);
    every_place(FILL, Store::Qdrant, Moment::BeforeTheAnswer);
}

#[test]
fn killed_before_any_answer_of_a_rebuild_that_keeps_the_name() {
    every_place(REBUILD, Store::Qdrant, Moment::BeforeTheAnswer);
}

#[test]
fn killed_while_a_snapshot_comes_back_under_the_name() {
    every_place(REBUILD, Store::Rest, Moment::BeforeTheMessage);
    every_place(REBUILD, Store::Rest, Moment::BeforeTheAnswer);
}

#[test]
fn killed_before_any_answer_of_a_rebuild_behind_an_alias() {
    every_place(BEHIND_AN_ALIAS, Store::Qdrant, Moment::BeforeTheAnswer);
}

#[test]
fn killed_before_any_answer_about_a_rebuilds_journal() {
    every_place(REBUILD, Store::Postgres, Moment::BeforeTheAnswer);
    every_place(BEHIND_AN_ALIAS, Store::Postgres, Moment::BeforeTheAnswer);
}

#[test]
fn qdrant_is_killed_before_any_answer_of_a_rebuild_behind_an_alias() {
    qdrant_before_any_answer_of(BEHIND_AN_ALIAS);
}

#[test]
fn qdrant_is_killed_before_any_answer_of_a_rebuild_that_keeps_the_name() {
    qdrant_before_any_answer_of(REBUILD);
}

fn qdrant_before_any_answer_of(case: Case) {
    every_place_of(case, QdrantVersion::default(), Victim::Qdrant, Store::Qdrant, Moment::BeforeTheAnswer);
}

/// Either victim, these stores, both moments, both servers.
fn the_whole_matrix(case: Case, stores: &[Store]) {
    let wanted = std::env::var("TANDEM_TEST_PARTS").ok();
    let mut places = 0;
    for version in QdrantVersion::ALL {
        for victim in [Victim::Tandem, Victim::Qdrant] {
            for store in stores.iter().copied() {
                for moment in [Moment::BeforeTheMessage, Moment::BeforeTheAnswer] {
                    let part = format!("{} {victim:?} {store:?} {moment:?}", version.as_str());
                    match &wanted {
                        Some(wanted) if !wanted.split(',').any(|wanted| part.contains(wanted)) => {
                            println!("skipped, it is not in TANDEM_TEST_PARTS: {part}");
                        }
                        _ => places += every_place_of(case, version, victim, store, moment),
                    }
                }
            }
        }
    }
    println!("{places} places in all: {}", case.name);
}

#[test]
#[ignore = "takes many minutes; its figures are in docs/testing.md"]
fn the_whole_matrix_of_a_fresh_pair() {
    the_whole_matrix(FRESH, &[Store::Postgres, Store::Qdrant]);
}

#[test]
#[ignore = "takes many minutes; its figures are in docs/testing.md"]
fn the_whole_matrix_of_a_legacy_pair() {
    the_whole_matrix(LEGACY, &[Store::Postgres, Store::Qdrant]);
}

#[test]
#[ignore = "takes many minutes; its figures are in docs/testing.md"]
fn the_whole_matrix_of_a_fill() {
    the_whole_matrix(FILL, &[Store::Postgres, Store::Qdrant]);
}

#[test]
#[ignore = "takes many minutes; its figures are in docs/testing.md"]
fn the_whole_matrix_of_a_rebuild_that_keeps_the_name() {
    the_whole_matrix(REBUILD, &[Store::Postgres, Store::Qdrant, Store::Rest]);
}

#[test]
#[ignore = "takes many minutes; its figures are in docs/testing.md"]
fn the_whole_matrix_of_a_rebuild_behind_an_alias() {
    the_whole_matrix(BEHIND_AN_ALIAS, &[Store::Postgres, Store::Qdrant]);
}

#[test]
fn a_connection_lost_during_commit_is_followed_by_another_look() {
    let world = World::small();
    let proxy = Proxy::start((world.db.server().host(), world.db.server().port())).unwrap();
    let cut = Arc::new(AtomicBool::new(false));
    proxy.on_chunk(move |chunk| {
        let commits =
            chunk.direction == Direction::ToServer && contains(chunk.bytes, b"insert into \"tandem\".ledger");
        match commits && !cut.swap(true, SeqCst) {
            // Postgres commits; the answer never comes.
            true => Action::CutAfter,
            false => Action::Forward,
        }
    });
    let mut command = world.tandem(["run", "--", "true"]);
    command.env("DATABASE_URL", proxy.url(&world.db.url()));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", common::text(&output));
    assert!(common::text(&output).contains("looking again on a new connection"), "{}", common::text(&output));
    assert_eq!(
        world.query("select string_agg(version::text, ',' order by version) from tandem.ledger"),
        "1,2"
    );
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
