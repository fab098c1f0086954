//! DDL under traffic: whoever is in the way is named, whatever it is that holds it up, and no start waits for ever.

mod common;

use common::World;
use local_servers::{PgVersion, Postgres, PostgresOptions};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Stdio};

/// A start in the background, and what it has said so far.
struct Running {
    child: Child,
    lines: BufReader<ChildStderr>,
    said: String,
}

impl Running {
    fn start(world: &World) -> Self {
        let mut child =
            world.tandem(["migrate"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        Self { child, lines, said: String::new() }
    }

    /// The next line that says this.
    fn until(&mut self, what: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "{what:?} was not said:\n{}", self.said);
            self.said.push_str(&line);
            if line.contains(what) {
                return line;
            }
        }
    }

    fn ends_well(mut self) {
        std::io::Read::read_to_string(&mut self.lines, &mut self.said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.said);
    }
}

/// A session of somebody else, which keeps what it holds until it is dropped.
struct Somebody {
    runtime: tokio::runtime::Runtime,
    connection: sqlx::PgConnection,
}

impl Somebody {
    fn called(name: &str, url: &str) -> Self {
        use sqlx::Connection;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = format!("{url}?application_name={name}");
        let connection = runtime.block_on(sqlx::PgConnection::connect(&url)).unwrap();
        Self { runtime, connection }
    }

    fn does(&mut self, sql: &str) {
        let statement = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut self.connection);
        self.runtime.block_on(statement).unwrap();
    }
}

const INDEX: &str = "-- tandem:no-transaction\ncreate index concurrently users_by_name on users (name);\n";
const COLUMN: &str = "alter table users add column nick text;\n";

/// A table and a view at version 1, and a second version to come.
fn world_on(server: &Postgres, second: &str) -> World {
    let mut world = World::on(server.create_database("locks"), local_servers::qdrant());
    world.set("QDRANT_URL", "none");
    world.version(
        "0001_users",
        "create table users (id int primary key, name text);\ncreate view names as select name from users;\n",
        "",
    );
    world.version("0002_second", second, "");
    world.record();
    world.start_before("0002");
    world
}

#[test]
fn who_looks_at_the_past_is_named_by_a_concurrent_build_and_lets_it_end() {
    for reads in ["select 1", "select * from users"] {
        let world = world_on(&local_servers::postgres(), INDEX);
        let mut somebody = Somebody::called("monthly-report", &world.db.url());
        somebody.does(&format!("begin isolation level repeatable read; {reads}"));
        let mut running = Running::start(&world);
        for _ in 0..2 {
            let line = running.until("met a lock and is tried again");
            assert!(line.contains("monthly-report, idle in transaction for"), "{reads}: {line}");
            assert!(line.contains(" s old"), "{reads}: {line}");
        }
        somebody.does("rollback");
        running.ends_well();
        let valid = "select indisvalid::text from pg_index where indexrelid = 'users_by_name'::regclass";
        assert_eq!(world.query(valid), "true", "{reads}");
    }
}

/// What an interrupted build left is dropped first, and that waits as the build does.
#[test]
fn who_is_in_the_way_of_dropping_an_invalid_index_is_named_and_lets_it_end() {
    for version in [PgVersion::V14, PgVersion::V18] {
        let world = world_on(&Postgres::shared(version).unwrap(), INDEX);
        world.db.execute(
            "create index users_by_name on users (name);
             update pg_index set indisvalid = false where indexrelid = 'users_by_name'::regclass",
        );
        let mut somebody = Somebody::called("monthly-report", &world.db.url());
        somebody.does("begin; select * from users");
        let mut running = Running::start(&world);
        for _ in 0..2 {
            let dropping = running.until("Dropping an INVALID index");
            assert!(dropping.contains("users_by_name"), "{dropping}");
            let line = running.until("met a lock and is tried again");
            assert!(line.contains("monthly-report, idle in transaction for"), "{line}");
        }
        assert_eq!(world.query("select max(version)::text from tandem.ledger"), "1");
        somebody.does("rollback");
        running.ends_well();
        let valid = "select indisvalid::text from pg_index where indexrelid = 'users_by_name'::regclass";
        assert_eq!(world.query(valid), "true");
    }
}

#[test]
fn a_look_behind_somebody_who_keeps_readers_out_names_him_and_ends() {
    for table in ["users", "tandem.ledger"] {
        let mut world = world_on(&local_servers::postgres(), COLUMN);
        let mut somebody = Somebody::called("half-done-alter", &world.db.url());
        somebody.does(&format!("begin; lock table {table} in access exclusive mode"));
        let mut running = Running::start(&world);
        let line = running.until("The look at Postgres met a lock and is tried again");
        assert!(line.contains("half-done-alter, idle in transaction for"), "{line}");
        world.set("TANDEM_LOCK_TIMEOUT", "1s");
        for command in ["run", "verify", "plan", "status"] {
            let arguments = if command == "run" { &["run", "--", "true"][..] } else { &[command] };
            world.output(arguments).expect(75).says(&["half-done-alter", "pg_terminate_backend"]);
        }
        somebody.does("rollback");
        running.ends_well();
    }
}

#[test]
fn a_role_that_may_not_look_at_others_still_says_who_they_are() {
    let server = local_servers::postgres();
    for second in [COLUMN, INDEX] {
        let mut world = world_on(&server, second);
        let role = local_servers::unique_name("modest");
        world.db.execute(&format!(
            "create role {role} login password 'x'; grant create on database {} to {role}; alter schema public owner to {role};
             alter table users owner to {role}; alter view names owner to {role}; alter schema tandem owner to {role};
             grant all on all tables in schema tandem to {role}; grant all on all sequences in schema tandem to {role}",
            world.db.name()
        ));
        let mut somebody = Somebody::called("owner-at-work", &world.db.url());
        somebody.does("begin isolation level repeatable read; select * from users");
        world.set("DATABASE_URL", world.db.url_as(&role, "x"));
        let mut running = Running::start(&world);
        let line = running.until("met a lock and is tried again");
        assert!(line.contains("owner-at-work, what it does is not shown to this role"), "{line}");
        somebody.does("rollback");
        running.ends_well();
    }
}

/// One that serves as usual gives way after `deadlock_timeout`; one against wraparound does not, and is named.
#[test]
fn an_autovacuum_gives_way_or_is_named() {
    let conf = ["autovacuum_naptime = 1", "autovacuum_freeze_max_age = 100000", "autovacuum_max_workers = 1"];
    let conf = conf.map(str::to_owned).to_vec();
    let server =
        Postgres::start(PostgresOptions { version: PgVersion::V16, conf, ..Default::default() }).unwrap();
    let slow = "insert into users select n, repeat('x', 1000) from generate_series(1, 20000) n;
        alter table users set (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_threshold = 1,
            autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1, autovacuum_vacuum_insert_scale_factor = 0)";
    let at_work = |world: &World, what: &str| {
        let sql = format!(
            "select count(*)::text from pg_locks l join pg_stat_activity a using (pid) where l.granted
             and l.relation = 'users'::regclass and a.query like 'autovacuum: %users%{what}'"
        );
        while world.query(&sql) == "0" {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };

    let ordinary = world_on(&server, COLUMN);
    ordinary.db.execute(slow);
    at_work(&ordinary, "");
    Running::start(&ordinary).ends_well();
    ordinary.db.execute("drop table users cascade");

    let wrapping = world_on(&server, COLUMN);
    wrapping.db.execute(&format!("{slow}; alter table users set (autovacuum_enabled = off)"));
    for _ in 0..4 {
        wrapping
            .db
            .execute("do $$ begin for i in 1..27500 loop perform txid_current(); commit; end loop; end $$");
    }
    at_work(&wrapping, "(to prevent wraparound)");
    let mut running = Running::start(&wrapping);
    let line = running.until("met a lock and is tried again");
    assert!(line.contains("public.users (to prevent wraparound)"), "{line}");
    assert!(line.contains("it ends by itself"), "{line}");
    // Whatever its launcher starts meanwhile is ended until the start is through.
    while running.child.try_wait().unwrap().is_none() {
        let ended = "select count(pg_terminate_backend(pid))::text from pg_stat_activity where query like 'autovacuum: %'";
        wrapping.query(ended);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    running.ends_well();
}
