//! What versions can be made of, and what the ledger, the journal and the lock make of trouble.

mod common;

use common::{Outcome, World};
use local_servers::proxy::{Action, Direction, Proxy};
use local_servers::{PgVersion, Postgres};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

const LEDGER: &str =
    "select coalesce(string_agg(version || ' ' || origin, ',' order by version), '') from tandem.ledger";

/// A timeline that touches Postgres only, with one version; recorded.
fn one_version() -> World {
    let world = World::empty();
    world.version("0001_users", "create table users (id int primary key, name text);\n", "");
    world.record();
    world
}

/// Starts in the background and returns once standard error has said `what`, with all that it said until then.
fn until(world: &World, what: &str, args: &[&str]) -> (Child, BufReader<std::process::ChildStderr>, String) {
    let mut child = world.tandem(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains(what) {
        assert_ne!(lines.read_line(&mut said).unwrap(), 0, "{what:?} was not said:\n{said}");
    }
    (child, lines, said)
}

/// A session of somebody else, which keeps what it holds until it is dropped.
struct Somebody {
    runtime: tokio::runtime::Runtime,
    connection: sqlx::PgConnection,
}

impl Somebody {
    fn at(world: &World) -> Self {
        use sqlx::Connection;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(sqlx::PgConnection::connect(&world.db.url())).unwrap();
        Self { runtime, connection }
    }

    fn does(&mut self, sql: &str) {
        let statement = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut self.connection);
        self.runtime.block_on(statement).unwrap();
    }
}

#[test]
fn every_supported_postgres_takes_a_pair_to_head_and_says_the_same() {
    let mut ledgers = Vec::new();
    for version in PgVersion::ALL {
        let db = Postgres::shared(version).unwrap().create_database("world");
        let world = World::on(db, local_servers::qdrant());
        world.small_timeline();
        // Recorded by one server, proven by all.
        let recorded = World::small();
        for name in ["index.json", "0001.json", "0002.json", "0002.effects.json"] {
            let text =
                std::fs::read_to_string(recorded.migrations.path().join("catalog").join(name)).unwrap();
            world.migrations.write(&format!("catalog/{name}"), &text);
        }
        world.start(&["true"]).expect(0).says(&["fresh", "Applied version 2"]);
        world.start(&["true"]).expect(0).says(&["unchanged since their last proof"]);
        world.output(["verify"]).expect(0);
        ledgers.push(world.query(LEDGER));
    }
    assert_eq!(ledgers, vec!["1 applied,2 applied"; PgVersion::ALL.len()]);
}

#[test]
fn a_changed_comment_heals_and_a_changed_statement_is_refused() {
    let world = one_version();
    world.start(&["true"]).expect(0);
    let sum = "select checksum_raw from tandem.ledger";
    let first = world.query(sum);
    world.version(
        "0001_users",
        "-- Who talks to us.\ncreate  table users (id int primary key,\r\n name text);\n",
        "",
    );
    world.start(&["true"]).expect(0).says(&["its checksum is renewed"]);
    assert_ne!(world.query(sum), first);
    world.start(&["true"]).expect(0).says(&["unchanged since their last proof"]);
    let before = world.state();
    world.version("0001_users", "create table users (id int primary key, name text not null);\n", "");
    world
        .start(&["true"])
        .expect(65)
        .says(&["version 1 (users) was changed after it was applied", "new version"]);
    assert_eq!(world.state(), before);
}

#[test]
fn files_that_contradict_the_ledger_are_refused() {
    let world = World::empty();
    for (name, table) in [("0010_a", "a"), ("0020_b", "b"), ("0030_c", "c")] {
        world.version(name, &format!("create table {table} (id int);\n"), "");
    }
    world.record();
    world.start(&["true"]).expect(0);
    let before = world.state();
    world.version("0015_late", "create table late (id int);\n", "");
    world.record();
    world.start(&["true"]).expect(65).says(&["version 15 (late)", "skipped", "a number above"]);
    world.without("0015_late");
    world.without("0020_b");
    world.start(&["true"]).expect(65).says(&["version 20 (b)", "does not have", "put the missing file back"]);
    assert_eq!(world.state(), before);
}

#[test]
fn data_statements_run_with_their_version_and_only_then() {
    let world = World::empty();
    world.version(
        "0001_users",
        "create table users (id int primary key, name text);\n",
        "[data]\nsql = \"insert into users values (1, 'the assistant') on conflict do nothing\"\n",
    );
    world.record();
    world.start(&["true"]).expect(0);
    assert_eq!(world.query("select name from users"), "the assistant");
    world.db.execute("delete from users");
    world.start(&["true"]).expect(0);
    assert_eq!(world.query("select count(*)::text from users"), "0");
}

#[test]
fn a_proof_that_does_not_hold_rolls_its_version_back() {
    let world = one_version();
    world.start(&["true"]).expect(0);
    world.db.execute("insert into users values (1, 'ada'), (2, null)");
    let proof = "[proof]\nsql = \"select not exists (select 1 from users where name is null)\"\n[[archive]]\ntable = \"users\"\n";
    world.version("0002_names", "update users set name = 'x' where id = 1;\n", proof);
    // Holds on the empty database of the recording.
    world.record();
    world.start(&["true"]).expect(1).says(&["version 2 (names)", "[proof] is false", "where name is null"]);
    assert_eq!(world.query("select string_agg(name, ',') from users"), "ada");
    assert_eq!(world.query(LEDGER), "1 applied");
    world.version("0002_names", "update users set name = 'x' where name is null;\n", proof);
    world.record();
    world.start(&["true"]).expect(0);
    assert_eq!(world.query("select string_agg(name, ',' order by id) from users"), "ada,x");
}

#[test]
fn a_database_without_a_ledger_is_stamped_where_its_data_proves_the_version() {
    let world = one_version();
    let proof = "[proof]\nsql = \"select not exists (select 1 from users where name is null)\"\n[[archive]]\ntable = \"users\"\n";
    world.version("0002_names", "update users set name = 'x' where name is null;\n", proof);
    world.version("0003_notes", "create table notes (id int);\n", "");
    world.record();
    world
        .db
        .execute("create table users (id int primary key, name text); insert into users values (1, null)");
    world.start(&["true"]).expect(0).says(&["Stamped 1 version"]);
    assert_eq!(world.query(LEDGER), "1 stamped,2 applied,3 applied");
    let second = World::empty();
    second.version("0001_users", "create table users (id int primary key, name text);\n", "");
    second.version("0002_names", "update users set name = 'x' where name is null;\n", proof);
    second.record();
    second
        .db
        .execute("create table users (id int primary key, name text); insert into users values (1, 'y')");
    second.start(&["true"]).expect(0).says(&["Stamped 2 versions"]);
    assert_eq!(second.query(LEDGER), "1 stamped,2 stamped");
}

#[test]
fn a_third_statement_that_fails_is_named_by_place_and_nothing_of_its_version_remains() {
    let world = one_version();
    world.start(&["true"]).expect(0);
    let before = world.state();
    // What fails cannot be recorded: the catalog is that of a version that does not fail.
    world.version("0002_more", "create table more (id int);\n", "");
    world.record();
    world.version(
        "0002_more",
        "create table more (id int);\ninsert into more values (1);\nselect 'ä',\n  1 / 0;\n",
        "",
    );
    world.pretend_recorded();
    world.start(&["true"]).expect(1).says(&["0002_more.up.sql:3:1", "statement 3", "division by zero"]);
    world.version(
        "0002_more",
        "create table more (id int);\ninsert into more values (1);\nselect 'ä',\n  nothing;\n",
        "",
    );
    world.pretend_recorded();
    world.start(&["true"]).expect(1).says(&["0002_more.up.sql:4:3", "statement 3", "nothing"]);
    assert_eq!(world.state(), before);
}

#[test]
fn a_version_that_makes_another_catalog_than_recorded_is_rolled_back() {
    let world = one_version();
    world.start(&["true"]).expect(0);
    world.version("0002_nick", "alter table users add column nick text;\n", "");
    world.record();
    world.version("0002_nick", "alter table users add column nick varchar(20);\n", "");
    world.pretend_recorded();
    let before = world.state();
    world.start(&["true"]).expect(1).says(&[
        "version 2 (nick)",
        "rolled back",
        "nick",
        "text",
        "tandem record",
    ]);
    assert_eq!(world.state(), before);
    assert_eq!(world.query("select count(*)::text from pg_attribute where attname = 'nick'"), "0");
}

#[test]
fn checked_once_at_the_end_a_wrong_catalog_is_still_found() {
    let world = World::empty();
    world.migrations.write("tandem.toml", "application = \"demo\"\ncatalog_check = \"each-run\"\n");
    world.version("0001_users", "create table users (id int);\n", "");
    world.version("0002_nick", "alter table users add column nick text;\n", "");
    world.version("0003_notes", "create table notes (id int);\n", "");
    world.record();
    world.version("0002_nick", "alter table users add column nick varchar(20);\n", "");
    world.pretend_recorded();
    world.start(&["true"]).expect(1).says(&["nick", "rolled back"]);
    // The versions before the last one stand, and what they made contradicts the recorded catalog. With a row: an empty table
    // would be given its form.
    assert_eq!(world.query(LEDGER), "1 applied,2 applied");
    world.db.execute("insert into users values (1)");
    world.start(&["true"]).expect(76).says(&[
        "partial",
        "nick",
        "expected text; found character varying(20)",
    ]);
}

#[test]
fn settings_that_a_file_leaves_behind_are_refused() {
    for (sql, named) in [
        ("set search_path = pg_catalog;", "search_path"),
        ("set synchronous_commit = off;", "synchronous_commit"),
        ("set session_replication_role = replica;", "session_replication_role"),
        ("set role pg_monitor;", "role"),
    ] {
        let world = World::empty();
        world.version("0001_users", "create table users (id int);\n", "");
        world.record();
        world.version("0001_users", &format!("create table users (id int);\n{sql}\n"), "");
        world.pretend_recorded();
        let outcome = world.start(&["true"]);
        assert!([1, 65].contains(&outcome.code), "{}", outcome.stderr);
        outcome.says(&[named]);
        assert_eq!(world.query("select count(*)::text from pg_class where relname = 'users' and relnamespace = 'public'::regnamespace"), "0");
    }
}

/// Version 2 builds a unique index without a transaction.
fn concurrently() -> World {
    let world = one_version();
    world.start(&["true"]).expect(0);
    world.version(
        "0002_index",
        "-- tandem:no-transaction\ncreate unique index concurrently users_name on users (name);\n",
        "",
    );
    world.record();
    world
}

const VALID: &str = "select coalesce(string_agg(relname || ' ' || indisvalid, ','), 'none') from pg_index join pg_class c \
                     on c.oid = indexrelid where relname like 'users_name%'";

#[test]
fn an_index_built_concurrently_stands_in_the_ledger() {
    let world = concurrently();
    world.start(&["true"]).expect(0).says(&["Applied version 2"]);
    assert_eq!(world.query(VALID), "users_name true");
    assert_eq!(world.query(LEDGER), "1 applied,2 applied");
    world.start(&["true"]).expect(0).says(&["unchanged since their last proof"]);
}

#[test]
fn an_invalid_index_is_dropped_and_built_again_once_the_data_allows_it() {
    let world = concurrently();
    world.db.execute("insert into users values (1, 'ada'), (2, 'ada')");
    world.start(&["true"]).expect(1).says(&["0002_index.up.sql:2:1", "could not create unique index", "ada"]);
    assert_eq!(world.query(VALID), "users_name false");
    assert_eq!(world.query(LEDGER), "1 applied");
    world.start(&["true"]).expect(1).says(&["INVALID", "could not create unique index"]);
    world.db.execute("delete from users where id = 2");
    world.start(&["true"]).expect(0).says(&["Dropping an INVALID index", "users_name", "Applied version 2"]);
    assert_eq!(world.query(VALID), "users_name true");
    assert_eq!(world.query("select count(*)::text from tandem.journal where ended is null"), "0");
}

#[test]
fn an_index_that_the_next_version_does_not_drop_is_built_again() {
    let world = concurrently();
    world.start(&["true"]).expect(0);
    world.version(
        "0003_vacuum",
        "-- tandem:no-transaction\nvacuum users;\n",
        "[proof]\nsql = \"select true\"\n",
    );
    world.record();
    world.db.execute("drop index users_name");
    world.start(&["true"]).expect(0).says(&["stale", "Applied version 2", "Applied version 3"]);
    assert_eq!(world.query(VALID), "users_name true");
}

#[test]
fn killed_between_the_statement_and_its_ledger_row_a_start_finds_the_work_done() {
    for (name, sql, wanted) in [
        (
            "0003_more",
            "create index concurrently users_name2 on users (name, id);",
            "users_name true,users_name2 true",
        ),
        ("0003_less", "drop index concurrently users_name;", "none"),
        ("0003_again", "reindex index concurrently users_name;", "users_name true"),
    ] {
        let world = concurrently();
        world.start(&["true"]).expect(0);
        let proof = if name == "0003_again" { "[proof]\nsql = \"select true\"\n" } else { "" };
        world.version(name, &format!("-- tandem:no-transaction\n{sql}\n"), proof);
        world.record();
        let proxy = Proxy::start((world.db.server().host(), world.db.server().port())).unwrap();
        let (seen, cut) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let was_cut = cut.clone();
        proxy.on_chunk(move |chunk| {
            let text = String::from_utf8_lossy(chunk.bytes);
            match chunk.direction {
                Direction::ToServer if text.contains("index concurrently") => seen.store(true, SeqCst),
                // The next thing that tandem says once the statement has ended.
                Direction::ToServer if seen.load(SeqCst) => {
                    cut.store(true, SeqCst);
                    return Action::CutBefore;
                }
                _ => {}
            }
            match cut.load(SeqCst) {
                true => Action::CutBefore,
                false => Action::Forward,
            }
        });
        let mut command = world.tandem(["run", "--timeout", "2s", "--", "true"]);
        let output = command.env("DATABASE_URL", proxy.url(&world.db.url())).output().unwrap();
        assert!(was_cut.load(SeqCst), "{}", common::text(&output));
        assert!(!output.status.success());
        assert_eq!(world.query(LEDGER), "1 applied,2 applied", "{name}");
        world.start(&["true"]).expect(0).says(&["Applied version 3"]);
        assert_eq!(world.query(VALID.replace("','", "',' order by relname").as_str()), wanted);
        assert_eq!(world.query("select count(*)::text from tandem.journal where ended is null"), "0");
    }
}

#[test]
fn a_statement_that_meets_a_lock_names_the_blocker_and_is_tried_again() {
    let world = one_version();
    world.start(&["true"]).expect(0);
    world.version("0002_nick", "alter table users add column nick text;\n", "");
    world.record();
    let mut somebody = Somebody::at(&world);
    somebody.does("set application_name = 'a long report'; begin; select * from users");
    let (mut child, mut lines, said) = until(&world, "met a lock", &["run", "--", "true"]);
    assert!(said.contains("a long report"), "{said}");
    assert!(said.contains("idle in transaction"), "{said}");
    somebody.does("rollback");
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut lines, &mut rest).unwrap();
    assert!(child.wait().unwrap().success(), "{rest}");
    assert_eq!(world.query(LEDGER), "1 applied,2 applied");
}

#[test]
fn a_waiter_says_who_holds_the_lock_and_gives_up_without_progress() {
    let world = one_version();
    world.start(&["true"]).expect(0);
    world.version("0002_nick", "alter table users add column nick text;\n", "");
    world.record();
    let mut somebody = Somebody::at(&world);
    somebody.does("begin; select * from users");
    // The first one holds the timeline's lock while its statement meets a lock on the table.
    let (mut child, mut lines, _) = until(&world, "met a lock", &["run", "--", "true"]);
    world.output(["run", "--lock-timeout", "1s", "--", "true"]).expect(75).says(&[
        "Waiting for the lock of timeline demo",
        "application tandem",
        "pid ",
        "step=",
        "--lock-timeout",
    ]);
    somebody.does("rollback");
    std::io::Read::read_to_end(&mut lines, &mut Vec::new()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_server_process_that_is_ended_in_mid_run_is_noticed_and_looked_behind() {
    for behind in ["insert into \"tandem\".ledger", "pg_try_advisory_lock", "repeatable read"] {
        let world = World::small();
        let proxy = Proxy::start((world.db.server().host(), world.db.server().port())).unwrap();
        let done = AtomicBool::new(false);
        let url = world.db.url();
        let database = world.db.name().to_owned();
        proxy.on_chunk(move |chunk| {
            let is_it = chunk.direction == Direction::ToServer && String::from_utf8_lossy(chunk.bytes).contains(behind);
            if is_it && !done.swap(true, SeqCst) {
                let sql = format!(
                    "select count(pg_terminate_backend(pid))::text from pg_stat_activity where datname = '{database}' and application_name = 'tandem'"
                );
                assert_eq!(common::query(&url, &sql), "1");
            }
            Action::Forward
        });
        let output = world
            .tandem(["run", "--", "true"])
            .env("DATABASE_URL", proxy.url(&world.db.url()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{behind}: {}", common::text(&output));
        assert!(
            common::text(&output).contains("looking again on a new connection"),
            "{}",
            common::text(&output)
        );
        assert_eq!(world.query(LEDGER), "1 applied,2 applied");
        assert_eq!(world.query("select count(*)::text from tandem.journal where ended is null"), "0");
        world.start(&["true"]).expect(0).says(&["unchanged since their last proof"]);
    }
}

#[test]
fn a_ledger_that_lacks_a_table_is_refused() {
    let world = one_version();
    world.start(&["true"]).expect(0);
    world.db.execute("drop table tandem.published");
    let refused: Outcome = world.start(&["true"]).expect(76);
    refused.says(&["only some of tandem's tables", "restore the missing tables"]);
}
