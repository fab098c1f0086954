//! Going forward a version at a time, and reading what is left of the way: the real binary on real servers.

mod common;

use common::{Outcome, World};
use serde_json::Value;

fn json_of(outcome: Outcome) -> Value {
    let outcome = outcome.expect(0);
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {}", outcome.stdout))
}

fn numbers(world: &World) -> Vec<i64> {
    let history = json_of(world.output(["history", "--json"]));
    history.as_array().unwrap().iter().map(|row| row["version"].as_i64().unwrap()).collect()
}

#[test]
fn an_upgrade_stops_in_both_stores_at_the_version_that_was_asked_for() {
    let world = World::small();
    assert_eq!(numbers(&world), [0i64; 0]);
    world.output(["upgrade", "+1"]).expect(0);
    assert_eq!(numbers(&world), [1]);
    assert_eq!(world.stamp()["version"], 1);
    assert_eq!(world.query("select coalesce(to_regclass('public.notes')::text, 'absent')"), "absent");
    let info = world.collection_info().unwrap();
    assert!(info["payload_schema"]["channel_id"].is_null(), "{info}");
    // The same again changes nothing; the rest by its release.
    let before = world.state();
    world.output(["upgrade", "1"]).expect(0);
    assert_eq!(world.state(), before);
    world.output(["upgrade", "v1.1.0"]).expect(0);
    assert_eq!(numbers(&world), [1, 2]);
    assert_eq!(world.stamp()["version"], 2);
    world.output(["verify"]).expect(0);
}

#[test]
fn without_a_target_an_upgrade_goes_to_the_head_and_never_back() {
    let world = World::small();
    world.output(["upgrade"]).expect(0);
    world.output(["verify"]).expect(0);
    let before = world.state();
    world.output(["upgrade", "1"]).expect(76).says(&["beyond version 1"]);
    world.output(["upgrade", "1.0.0"]).expect(76).says(&["beyond version 1"]);
    world.output(["upgrade", "+1"]).expect(64).says(&["no version `+1`"]);
    world.output(["upgrade", "7"]).expect(64).says(&["no version `7`", "from 1 to 2"]);
    assert_eq!(world.state(), before);
}

#[test]
fn a_database_without_a_ledger_that_proves_more_than_the_target_is_refused() {
    let world = World::small();
    world.output(["migrate"]).expect(0);
    world.db.execute("drop schema tandem cascade");
    world.qdrant.rest("DELETE", &format!("/collections/{}", world.collection), "").unwrap();
    let before = world.state();
    world.output(["upgrade", "1"]).expect(76).says(&["at version 2", "beyond version 1"]);
    assert_eq!(world.state(), before);
    world.output(["upgrade", "2"]).expect(0);
    let history = json_of(world.output(["history", "--json"]));
    assert_eq!(history[1]["origin"], "stamped");
    assert!(history[1]["evidence"].as_str().unwrap().contains("legacy"), "{history}");
    let text = world.output(["history"]).expect(0).stdout;
    assert!(text.contains("stamped") && text.matches("objects compared").count() == 1, "{text}");
}

/// What watches each version is prepared once for a session.
#[test]
fn versions_that_send_prepared_statements_away_are_watched_as_all_others() {
    let away = "create table later (id int);\ndeallocate all;\n";
    let hidden = "create table last (id int);\ndelete from person where nick = 'Ada';\n";
    let leaves = "do $$ begin execute 'set search_path = pg_catalog'; end $$;\n";
    let cases = [
        (hidden.to_owned(), "the archive does not keep: public.person (0 updated, 1 deleted)"),
        (
            format!("{hidden}deallocate all;\n"),
            "the archive does not keep: public.person (0 updated, 1 deleted)",
        ),
        (leaves.to_owned(), "search_path changed for later steps"),
        (format!("{leaves}deallocate all;\n"), "search_path changed for later steps"),
    ];
    for (last, says) in cases {
        let mut world = World::empty();
        world.set("QDRANT_URL", "none");
        world.version("0001_person", "create table person (nick text);\n", "");
        world.version("0002_note", "create table note (id int);\n", "");
        world.version("0003_later", away, "");
        world.version("0004_word", "create table word (id int);\n", "");
        world.version("0005_last", "create table last (id int);\n", "");
        world.record();
        world.output(["upgrade", "1"]).expect(0);
        world.db.execute("insert into person values ('Ada')");
        world.migrations.write("0005_last.up.sql", &last);
        world.pretend_recorded();
        world.output(["upgrade"]).expect(1).says(&["0005_last.up.sql", says]);
        assert_eq!(numbers(&world), [1, 2, 3, 4], "{last}");
        assert_eq!(world.query("select count(*)::text from person"), "1", "{last}");
    }
}

/// Two instances at once: the one with the older target publishes while the other goes on.
#[test]
fn rows_are_watched_in_every_version_of_a_run() {
    const FILLED: &str = "alter table person add column size int;\nupdate person set size = 1;\n";
    const DECLARED: &str = "[[archive]]\ntable = \"person\"\n";
    let tables = "create table person (id int primary key, name text);\ncreate table town (id int primary key, name text);\n\
                  insert into person select i, 'x' from generate_series(1, 3) i;\ninsert into town values (1, 'a'), (2, 'b');\n";
    // What the third version does to which rows, after a second one that changed as many or made the table; and what is found.
    let cases = [
        (FILLED, "", "delete from person;\n", Some("public.person (0 updated, 3 deleted)")),
        (
            FILLED,
            "",
            "update person set name = 'z' where id = 1;\n",
            Some("public.person (1 updated, 0 deleted)"),
        ),
        (
            "create table later (id int);\ninsert into later values (1);\n",
            "",
            "delete from later;\n",
            Some("public.later (0 updated, 1 deleted)"),
        ),
        (
            "create table later (id int);\ninsert into later values (1);\n",
            "",
            "do $$ begin truncate later; end $$;\n",
            Some("public.later (emptied)"),
        ),
        (
            "alter table town add column size int;\nupdate town set size = 1;\n",
            "",
            "do $$ begin truncate town; end $$;\n",
            Some("public.town (emptied)"),
        ),
        (
            "alter table town alter column id type bigint;\n",
            "",
            "do $$ begin truncate person; end $$;\ninsert into person values (1, 'z');\n",
            Some("public.person (emptied)"),
        ),
        (
            "create table later (id int);\n",
            "",
            "create table own (id int);\ninsert into own values (1);\nupdate own set id = 2;\ndelete from own;\n",
            None,
        ),
        ("update person set name = 'y';\n", DECLARED, "create table own (id int);\n", None),
    ];
    for (second, declared, third, found) in cases {
        let world = World::empty();
        world.migrations.write("tandem.toml", "application = \"demo\"\ncatalog_check = \"each-run\"\n");
        world.version("0001_tables", tables, "");
        world.version("0002_second", &format!("create table second (id int);\n{second}"), declared);
        world.version("0003_third", &format!("create table third (id int);\n{third}"), "");
        world.version("0004_last", "create table last (id int);\n", "");
        world.record();
        world.output(["upgrade", "1"]).expect(0);
        let outcome = world.output(["migrate"]);
        match found {
            None => _ = outcome.expect(0),
            Some(what) => {
                _ = outcome.expect(1).says(&["version 3 (third)", "the archive does not keep", what])
            }
        }
        assert_eq!(numbers(&world).len(), if found.is_some() { 2 } else { 4 }, "{second}{third}");
    }
}

#[test]
fn a_database_that_went_beyond_the_target_meanwhile_is_not_reported_as_there() {
    use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
    use std::io::{BufRead as _, BufReader};
    let mut world = World::small();
    let key = tandem::postgres::lock::Key::Collection(world.collection.clone()).hash();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let holder = runtime.block_on(async {
        let mut holder = PgConnection::connect(&world.db.url()).await.unwrap();
        let sql = format!("select pg_advisory_lock({}, {key})", 0x7461_6e64);
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut holder).await.unwrap();
        holder
    });
    let mut older = world.tandem(["upgrade", "1"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(older.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(log.by_ref().any(|line| line.contains("Waiting for the lock of collection")));
    world.set("QDRANT_URL", "none");
    world.output(["migrate"]).expect(0);
    runtime.block_on(holder.close()).unwrap();
    let rest: Vec<String> = log.collect();
    assert_eq!(older.wait().unwrap().code(), Some(76), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("beyond version 1")), "{rest:?}");
}

#[test]
fn the_history_needs_no_qdrant() {
    let mut world = World::small();
    world.output(["upgrade", "1"]).expect(0);
    world.set("QDRANT_URL", "http://127.0.0.1:1");
    world.set("TANDEM_TIMEOUT", "3s");
    assert_eq!(numbers(&world), [1]);
    world.output(["archive", "list"]).expect(0);
    world.output(["status"]).expect(69);
}

#[test]
fn the_archive_lists_and_shows_what_a_version_took_away() {
    let world = World::empty();
    world.version("0001_users", "create table users (id bigint primary key, mood text, name text);\n", "");
    world.version("0002_moodless", "alter table users drop column mood;\n", "");
    world.record();
    world.output(["upgrade", "1"]).expect(0);
    world.db.execute("insert into users values (1, 'glad', 'ada'), (2, null, 'bob'), (3, 'sad', 'eve')");
    let empty = world.output(["archive", "list"]).expect(0).stdout;
    assert!(empty.contains("empty"), "{empty}");
    world.output(["upgrade", "+1"]).expect(0);
    let before = world.query("select count(*)::text || max(xmin::text) from tandem.archive");
    let kept = json_of(world.output(["archive", "list", "--json"]));
    assert_eq!((&kept[0]["version"], &kept[0]["rows"]), (&2.into(), &2.into()), "{kept}");
    assert_eq!(kept[0]["table"], "public.users");
    for table in ["users", "public.users"] {
        let rows = json_of(world.output(["archive", "show", table, "--json"]));
        assert_eq!(rows[0]["row"], serde_json::json!({ "id": 1, "mood": "glad", "name": "ada" }));
        assert_eq!(rows.as_array().unwrap().len(), 2);
    }
    let one = world.output(["archive", "show", "users", "--limit", "1"]).expect(0).stdout;
    assert!(one.contains("glad") && !one.contains("sad"), "{one}");
    let none = world.output(["archive", "show", "sers"]).expect(0).stdout;
    assert!(none.contains("no row"), "{none}");
    assert_eq!(world.query("select count(*)::text || max(xmin::text) from tandem.archive"), before);
}

#[test]
fn the_archive_loses_exactly_what_the_command_names_or_nothing() {
    let world = World::empty();
    let drop = |table: &str, version: &str, rows: &str| {
        world.output(["archive", "drop", table, "--version", version, "--rows", rows])
    };
    world.version(
        "0001_tables",
        "create table a (id int primary key, x int, y int);\ncreate table b (id int primary key);\n",
        "",
    );
    world.version("0002_less", "alter table a drop column x;\ndrop table b;\n", "");
    world.version("0003_least", "alter table a drop column y;\n", "");
    world.record();
    drop("public.a", "2", "1").expect(76).says(&["kept 0 rows"]);
    world.output(["upgrade", "1"]).expect(0);
    world.db.execute("insert into a values (1, 1, 1), (2, 2, 2); insert into b values (1)");
    world.output(["upgrade"]).expect(0);
    let left = || {
        world.query(
            "select coalesce(string_agg(version || relation, ' ' order by version, relation, id), '') from tandem.archive",
        )
    };
    let all = left();
    assert_eq!(all, "2public.a 2public.a 2public.b 3public.a 3public.a");
    for (table, version, rows) in [
        ("public.a", "2", "1"),
        ("public.a", "2", "3"),
        ("a", "2", "2"),
        ("public.a", "1", "0"),
        ("public.b", "3", "1"),
    ] {
        drop(table, version, rows).expect(76).says(&["nothing was removed"]);
        assert_eq!(left(), all);
    }
    let said = drop("public.a", "2", "2").expect(0).stdout;
    assert!(said.contains("Removed 2 rows of public.a that version 2 kept"), "{said}");
    assert_eq!(left(), "2public.b 3public.a 3public.a");
    world.output(["verify"]).expect(0);
}

/// Version 2 deletes rows and version 3 empties values, both declared.
fn thinned(world: &World) {
    world.version(
        "0001_tables",
        "create table a (id serial primary key, x text, y int, at timestamptz default now());\n\
         create function touch() returns trigger language plpgsql as $$ begin new.at := '2030-01-01'; return new; end $$;\n\
         create trigger touched before insert or update on a for each row execute function touch();\n\
         create table gone (id int primary key);\n",
        "",
    );
    world.version(
        "0002_fewer",
        "delete from a where id > 3;\n",
        "[[archive]]\ntable = \"a\"\nwhere = \"id > 3\"\n[proof]\nsql = \"select true\"\n",
    );
    world.version(
        "0003_emptier",
        "update a set x = null;\ndrop table gone;\n",
        "[[archive]]\ntable = \"a\"\n",
    );
    world.record();
    world.output(["upgrade", "1"]).expect(0);
    let rows =
        "insert into a (x, y) select 'x' || n, n from generate_series(1, 20) n; insert into gone values (1)";
    world.db.execute(rows);
    world.output(["upgrade"]).expect(0);
}

const ROWS: &str = "select coalesce(string_agg(id || coalesce(x, '-') || y || to_char(at, 'YYYY'), ' ' order by id), '') from a";

#[test]
fn archived_rows_come_back_where_they_are_missing_or_null() {
    let world = World::empty();
    thinned(&world);
    world.db.execute("update a set at = '2020-01-01'; alter table a disable trigger touched; update a set at = '2020-01-01'; alter table a enable always trigger touched");
    assert_eq!(world.query(ROWS), "1-12020 2-22020 3-32020");
    let restore = |version: &str| world.output(["archive", "restore", "a", "--version", version, "--json"]);
    world.output(["archive", "restore", "a"]).expect(76).says(&["versions 2, 3 kept rows"]);
    let done = json_of(restore("2"));
    assert_eq!((&done["inserted"], &done["filled"], &done["archived"]), (&17.into(), &0.into(), &17.into()));
    // The archived rows have the time that the trigger gave them; those of version 3 lost only x.
    world.db.execute("alter table a disable trigger touched; update a set at = '2030-01-01'; alter table a enable always trigger touched");
    let done = json_of(restore("3"));
    assert_eq!((&done["inserted"], &done["filled"], &done["archived"]), (&0.into(), &3.into(), &3.into()));
    let rows: Vec<String> = (1..=20).map(|n| format!("{n}x{n}{n}2030")).collect();
    assert_eq!(world.query(ROWS), rows.join(" "));
    assert_eq!(world.query("select tgenabled::text from pg_trigger where tgname = 'touched'"), "A");
    world.db.execute("insert into a (x, y) values ('new', 0)");
    assert_eq!(world.query("select max(id)::text from a"), "21");
    // Once more there is nothing to do.
    let done = json_of(restore("3"));
    assert_eq!((&done["inserted"], &done["filled"]), (&0.into(), &0.into()));
    world.db.execute("alter table a enable trigger touched");
    world.output(["verify"]).expect(0);
}

#[test]
fn archived_rows_that_differ_are_named_and_nothing_comes_back() {
    let world = World::empty();
    let restore =
        |table: &str, version: &str| world.output(["archive", "restore", table, "--version", version]);
    world.version("0001_tables", "create table a (id int);\n", "");
    world.record();
    restore("a", "1").expect(76).says(&["the archive has no rows of a"]);
    let world = World::empty();
    thinned(&world);
    let restore =
        |table: &str, version: &str| world.output(["archive", "restore", table, "--version", version]);
    world.db.execute("insert into a (id, x, y) select n, 'other', n from generate_series(5, 17) n");
    let before = world.query(ROWS);
    restore("a", "2").expect(76).says(&["13 of the archived rows", "id = 5", "; …", "nothing was changed"]);
    restore("public.gone", "3").expect(76).says(&["no table public.gone", "tandem downgrade"]);
    restore("a", "9").expect(76).says(&["no rows of a"]);
    assert_eq!(world.query(ROWS), before);
    world
        .db
        .execute("delete from a where id > 3; alter table a add constraint short check (id < 9) not valid");
    let before = world.query(ROWS);
    restore("a", "2").expect(76).says(&["does not take the archived rows", "short"]);
    assert_eq!(world.query(ROWS), before);
    world.output(["archive", "list"]).expect(0);
}
