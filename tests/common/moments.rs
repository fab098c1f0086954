//! Moments at which a run can be kept for as long as a test wants, and what it leaves behind.

use super::World;
use super::points::{create, info, points, put};
use local_servers::proxy::{Action, Direction, Proxy};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tandem::postgres::lock::Key;

/// Ends a test that would hang; nothing is measured with it.
pub const GUARD: Duration = Duration::from_secs(120);

#[track_caller]
pub fn until(mut is: impl FnMut() -> bool, else_says: impl Fn() -> String) {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < GUARD, "{}", else_says());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Nothing of ours is left on the server: no session and so no lock and no transaction.
#[track_caller]
pub fn nothing_is_left(world: &World) {
    let sessions = "select coalesce(string_agg(pid || ' ' || coalesce(state, '') || ' ' || query, E'\\n'), '') \
                    from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    until(|| world.query(sessions).is_empty(), || world.query(sessions));
    let locks = "select count(*)::text from pg_locks l join pg_database d on d.oid = l.database \
                 where d.datname = current_database() and l.locktype = 'advisory'";
    assert_eq!(world.query(locks), "0");
}

/// A secret's file that whoever reads it waits for.
pub struct UnreadableYet {
    pub path: PathBuf,
}

impl UnreadableYet {
    /// `secret`, beside the world's timeline.
    pub fn new(world: &World) -> Self {
        let path = world.migrations.path().join("secret");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        Self { path }
    }

    /// Waits for a reader, who then waits for as long as the value lives.
    #[track_caller]
    pub fn opened(&self) -> File {
        let open = || File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&self.path).ok();
        let mut writer = None;
        until(
            || {
                writer = open();
                writer.is_some()
            },
            || "nobody reads the secret".into(),
        );
        writer.unwrap()
    }
}

/// Holds a lock of tandem's from another session until it is dropped.
pub struct Holder {
    runtime: tokio::runtime::Runtime,
    connection: Option<PgConnection>,
}

impl Holder {
    pub fn of(world: &World, key: &Key) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let sql = format!("select pg_advisory_lock({}, {})", 0x7461_6e64, key.hash());
        let connection = runtime.block_on(async {
            let mut connection = PgConnection::connect(&world.db.url()).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
            connection
        });
        Self { runtime, connection: Some(connection) }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = self.runtime.block_on(connection.close());
        }
    }
}

/// At version 2 with a row, and a third version that sleeps on every row.
pub fn sleeper() -> World {
    let world = World::small();
    world.start(&["true"]).expect(0);
    world.version(
        "0003_later",
        "create table later (id int primary key);\nselect pg_sleep(600) from users;\n",
        "",
    );
    world.record();
    world.db.execute("insert into users (name) values ('Ada')");
    world
}

#[track_caller]
pub fn sleeps(world: &World) {
    let sleeping = "select count(*)::text from pg_stat_activity where datname = current_database() \
                    and state = 'active' and wait_event = 'PgSleep'";
    until(|| world.query(sleeping) == "1", || "the statement is not under way".into());
}

/// A world whose collection has to be rebuilt, and a server behind a proxy that takes a few points and then says nothing more.
pub struct Copying {
    pub world: World,
    direct: String,
    hangs: Arc<AtomicBool>,
    before: BTreeMap<String, Value>,
    _proxy: Proxy,
}

impl Copying {
    pub fn new() -> Self {
        let mut world = World::small();
        let name = world.collection.clone();
        create(&world, &name, &json!({ "vectors": { "content": { "size": 4, "distance": "Dot" } } }));
        let all = (0..3000).map(
            |n| json!({ "id": n, "vector": { "content": [n, 1, 2, 3] }, "payload": { "user_id": format!("u{n}") } }),
        );
        put(&world, &name, &all.collect::<Vec<_>>());
        let before = points(&world, &name);
        let proxy = Proxy::start((world.qdrant.host(), world.qdrant.grpc_port())).unwrap();
        let (calls, hangs) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
        let hook = hangs.clone();
        proxy.on_chunk(move |chunk| {
            // Writes carry payloads; the first go through, and then nothing does.
            let writes = chunk.direction == Direction::ToServer
                && chunk.bytes.windows(7).any(|window| window == b"user_id");
            if writes && chunk.bytes.len() > 4096 && calls.fetch_add(1, SeqCst) > 2 {
                hook.store(true, SeqCst);
            }
            if hook.load(SeqCst) { Action::Swallow } else { Action::Forward }
        });
        let direct = world.qdrant.grpc_url();
        world.set("QDRANT_URL", proxy.url(&direct));
        Self { world, direct, hangs, before, _proxy: proxy }
    }

    pub fn hangs(&self) -> bool {
        self.hangs.load(SeqCst)
    }

    /// Nothing of the copy is to be seen, and the next start, past the proxy, ends where this one would have.
    #[track_caller]
    pub fn is_untouched_and_goes_on(&mut self) {
        let world = &mut self.world;
        let name = world.collection.clone();
        let distance =
            |world: &World| info(world, &name)["config"]["params"]["vectors"]["content"]["distance"].clone();
        assert_eq!(points(world, &name), self.before);
        assert_eq!(distance(world), "Dot");
        world.set("QDRANT_URL", self.direct.as_str());
        world.start(&["true"]).expect(0);
        assert_eq!(points(world, &name).len(), self.before.len());
        assert_eq!(distance(world), "Cosine");
        assert_eq!(world.query("select count(*)::text from tandem.journal where ended is null"), "0");
    }
}
