//! Databases that are at no version as a whole, stamps that lie, and versions that do more than they say.

mod common;

use common::World;
use local_servers::{PgVersion, Postgres, PostgresOptions};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Five versions that add, fill, drop and convert.
const VERSIONS: [(&str, &str, &str); 5] = [
    (
        "0001_users",
        "create table users (id int primary key, name text not null);\ncreate index users_name on users (name);\n\
         create table legacy (id int primary key, word text);\n",
        "[adoption]\nalembic = [\"one\"]\n",
    ),
    (
        "0002_notes",
        "create table notes (id int primary key, user_id int not null references users (id), body text);\n",
        "[adoption]\nalembic = [\"two\"]\n",
    ),
    (
        "0003_nick",
        "alter table users add column nick text;\nupdate users set nick = name;\n",
        "[adoption]\nalembic = [\"three\"]\n",
    ),
    ("0004_legacy", "drop table if exists legacy;\n", "[adoption]\nalembic = [\"four\"]\n"),
    (
        "0005_bodies",
        "alter table notes alter column body type jsonb using to_jsonb(body);\ncreate view named as select id, name from users;\n",
        "[adoption]\nalembic = [\"five\"]\n",
    ),
];

fn world() -> World {
    let mut world = World::empty();
    world.set("QDRANT_URL", "none");
    for (name, up, toml) in VERSIONS {
        world.version(name, up, toml);
    }
    world.record();
    world
}

/// The schema and the rows, as one text.
fn state(world: &World) -> String {
    let tables = world.query(
        "select coalesce(string_agg(c.relname || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by c.relname, a.attnum), '') \
         from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
         where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v', 'i')",
    );
    let rows = world.query(
        "select coalesce(string_agg(query_to_xml('select * from public.' || quote_ident(relname), true, false, '')::text, '' order by relname), '') \
         from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'",
    );
    format!("{tables}\n{rows}\n{}", world.state())
}

/// One half of a version that converts something can neither be run nor completed.
#[test]
fn a_version_of_which_one_half_is_there_is_refused_with_nothing_changed() {
    let world = world();
    world.output(["upgrade", "4"]).expect(0);
    world.db.execute("create view named as select id, name from users");
    let before = state(&world);
    world.start(&["true"]).expect(76).says(&[
        "version 5 (bodies) is half there, and nothing has changed",
        "\"named\" already exists",
        "there is already: view named",
        "finish the version by hand",
    ]);
    assert_eq!(state(&world), before);
    world.db.execute("drop view named");
    world.start(&["true"]).expect(0);
}

const ROWS: &str = "insert into users (id, name) values (1, 'ada'), (2, 'grace');";

/// Everything that a person wrote is where it was, or in the archive.
fn assert_nothing_lost(world: &World, case: &str, had_legacy: bool) {
    assert_eq!(world.query("select string_agg(name, ',' order by id) from users"), "ada,grace", "{case}");
    if had_legacy {
        let kept =
            "select string_agg(row ->> 'word', ',') from tandem.archive where relation = 'public.legacy'";
        assert_eq!(world.query(kept), "so long", "{case}");
    }
}

/// From every version, with every subset of the later ones applied by hand, with tandem's own ledger and without any.
#[test]
fn any_subset_of_later_effects_reaches_the_head_or_is_refused_with_nothing_changed() {
    let mut cases = Vec::new();
    for at in 1..=VERSIONS.len() {
        for subset in 0..1u32 << (VERSIONS.len() - at) {
            cases.extend([(at, subset, false), (at, subset, true)]);
        }
    }
    let (next, reached) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some((at, subset, ledger)) = cases.get(next.fetch_add(1, SeqCst)).copied() {
                    let case = format!("at {at}, later ones {subset:b}, ledger {ledger}");
                    let world = world();
                    if ledger {
                        match VERSIONS.get(at) {
                            Some((next, ..)) => world.start_before(&next[..4]),
                            None => drop(world.start(&["true"]).expect(0)),
                        }
                    } else {
                        VERSIONS[..at].iter().for_each(|(_, up, _)| world.db.execute(up));
                    }
                    world.db.execute(ROWS);
                    let has_legacy =
                        || world.query("select (to_regclass('public.legacy') is not null)::text") == "true";
                    if has_legacy() {
                        world.db.execute("insert into legacy values (7, 'so long')");
                    }
                    for (later, (_, up, _)) in VERSIONS[at..].iter().enumerate() {
                        // What builds on a version that is not there cannot be applied by hand either.
                        let possible = later + at != 4
                            || world.query("select (to_regclass('public.notes') is not null)::text")
                                == "true";
                        if subset & (1 << later) != 0 && possible {
                            world.db.execute(up);
                        }
                    }
                    let had_legacy = has_legacy();
                    let before = state(&world);
                    let outcome = world.start(&["true"]);
                    match outcome.code {
                        0 => {
                            assert_nothing_lost(&world, &case, had_legacy);
                            world.output(["verify"]).expect(0);
                            reached.fetch_add(1, SeqCst);
                        }
                        1 | 76 => assert_eq!(state(&world), before, "{case}: {}", outcome.stderr),
                        code => panic!("{case}: exit {code}\n{}", outcome.stderr),
                    }
                }
            });
        }
    });
    let reached = reached.into_inner();
    assert_eq!(reached, cases.len(), "every one of them can be brought to the head");
}

#[test]
fn ledgers_of_other_tools_are_evidence_and_never_truth() {
    for (ledger, words) in [
        (
            "create table _sqlx_migrations (version bigint primary key, description text, installed_on timestamptz default now(), success boolean, checksum bytea, execution_time bigint);
             insert into _sqlx_migrations (version, success) values (20240101, true), (20240102, true);",
            "(sqlx) names 2 migrations, the newest 20240102",
        ),
        (
            "create table flyway_schema_history (installed_rank int, version varchar(50), description varchar(200), type varchar(20), script varchar(1000), checksum int, installed_by varchar(100), installed_on timestamp, execution_time int, success boolean);
             insert into flyway_schema_history (installed_rank, version, success) values (1, '7', true);",
            "(Flyway) names 7",
        ),
        (
            "create table schema_migrations (version bigint primary key, dirty boolean); insert into schema_migrations values (3, true);",
            "(golang-migrate) names 3 (dirty)",
        ),
        ("create table schema_migrations (version varchar primary key); insert into schema_migrations values ('a'), ('b');", "(dbmate) names 2 migrations, the newest b"),
        (
            "create table schema_migrations (version varchar primary key); insert into schema_migrations values ('a');
             create table ar_internal_metadata (key varchar primary key, value varchar, created_at timestamp, updated_at timestamp);",
            "(Rails) names a",
        ),
        (
            "create table goose_db_version (id serial, version_id bigint, is_applied boolean, tstamp timestamp);
             insert into goose_db_version (version_id, is_applied) values (0, true), (5, true);",
            "(goose) names 5",
        ),
        (
            "create table _prisma_migrations (id varchar primary key, checksum varchar, finished_at timestamptz, migration_name varchar, logs text, rolled_back_at timestamptz, started_at timestamptz, applied_steps_count int);
             insert into _prisma_migrations (id, finished_at, migration_name) values ('1', now(), 'init');",
            "(Prisma) names init",
        ),
        (
            "create table refinery_schema_history (version int4, name varchar, applied_on varchar, checksum varchar); insert into refinery_schema_history (version) values (4);",
            "(refinery) names 4",
        ),
        (
            "create table __diesel_schema_migrations (version varchar primary key, run_on timestamp); insert into __diesel_schema_migrations values ('9');",
            "(Diesel) names 9",
        ),
    ] {
        let world = world();
        world.migrations.write(
            "tandem.toml",
            "application = \"demo\"\n[adoption]\ntables = [\"schema_migrations\", \"ar_internal_metadata\"]\n",
        );
        world.db.execute(VERSIONS[0].1);
        world.db.execute(ledger);
        let rows = "select string_agg(query_to_xml('select * from public.' || quote_ident(relname), true, false, '')::text, '') from pg_class \
                    where relname ~ 'migrations|version|history' and relkind = 'r' and relnamespace = 'public'::regnamespace";
        let before = world.query(rows);
        world.start(&["true"]).expect(0).says(&["adopted: public.", words, "all as in version 1"]);
        assert_eq!(world.query(rows), before, "{words}: another tool's ledger is only read");
        assert_eq!(
            world.query("select string_agg(origin, ',' order by version) from tandem.ledger"),
            "adopted,applied,applied,applied,applied"
        );
    }
}

#[test]
fn alembic_is_left_alone_where_the_settings_say_so() {
    for (settings, revision) in [("", "five"), ("[adoption]\nmirror = false\n", "one")] {
        let world = world();
        world.migrations.write("tandem.toml", &format!("application = \"demo\"\n{settings}"));
        world.db.execute(VERSIONS[0].1);
        world.db.execute("create table alembic_version (version_num varchar(32) primary key); insert into alembic_version values ('one')");
        world.start(&["true"]).expect(0).says(&["adopted", "names one, which claims version 1"]);
        assert_eq!(world.query("select version_num from alembic_version"), revision);
    }
}

/// A version that does more than its recording shows.
fn second(up: &str, toml: &str) -> World {
    second_on(PgVersion::default(), up, toml)
}

fn second_on(version: PgVersion, up: &str, toml: &str) -> World {
    let database = Postgres::shared(version).unwrap().create_database("second");
    let mut world = World::on(database, local_servers::qdrant());
    world.set("QDRANT_URL", "none");
    world.version(
        "0001_first",
        "create table users (id int primary key, name text);\n\
         create table notes (id int primary key, user_id int references users (id) on delete cascade);\n\
         create table days (id int, day date) partition by range (day);\ncreate table days_all partition of days default;\n\
         create table emptied (id int primary key);\ncreate table never_filled (id int);\ncreate table mine_too (id int primary key);\n\
         create materialized view ids as select id from users;\n\
         create function clear(name text) returns void language plpgsql as $$ begin execute 'truncate ' || name; end $$;\n",
        "",
    );
    world.version("0002_second", up, toml);
    world.record();
    world.start_before("0002");
    world
}

#[test]
fn rows_that_nothing_archives_are_neither_updated_nor_deleted() {
    let proof = "[proof]\nsql = \"select true\"\n";
    for (up, toml, named) in [
        ("update users set name = 'x' where id = 1;\n", "", Some("public.users (1 updated, 0 deleted)")),
        (
            "delete from users where id = 1;\n",
            "",
            Some("public.notes (0 updated, 2 deleted), public.users (0 updated, 1 deleted)"),
        ),
        (
            "delete from users where id = 1;\n",
            "[[archive]]\ntable = \"users\"\n",
            Some("public.notes (0 updated, 2 deleted)"),
        ),
        (
            "delete from users where id = 1;\n",
            "[[archive]]\ntable = \"users\"\n[[archive]]\ntable = \"public.notes\"\n",
            None,
        ),
        ("update days set id = 2;\n", "", Some("public.days_all (1 updated, 0 deleted)")),
        ("update days set id = 2;\n", "[[archive]]\ntable = \"days\"\n", None),
        ("alter table users add column nick text;\nupdate users set nick = name;\n", "", None),
        (
            "alter table users add column nick text;\ndelete from notes;\n",
            "",
            Some("public.notes (0 updated, 2 deleted)"),
        ),
        (
            "create table more (id int);\ninsert into more values (1);\nupdate more set id = 2;\ndelete from more;\n",
            "",
            None,
        ),
        ("insert into users values (9, 'nine');\n", "", None),
        ("alter table users drop column name;\nupdate users set id = id;\n", "", None),
    ] {
        let world = second(up, &format!("{toml}{proof}"));
        world.db.execute(
            "insert into users values (1, 'ada'), (2, 'grace'); insert into notes values (1, 1), (2, 1); insert into days values (1, '2025-01-01')",
        );
        let outcome = world.start(&["true"]);
        noticed(&world, outcome, up, named, "select count(*)::text from users", "2");
    }
}

/// Applied, or rolled back with these rows named.
#[track_caller]
fn noticed(world: &World, outcome: common::Outcome, up: &str, named: Option<&str>, rows: &str, count: &str) {
    assert_eq!(outcome.code, i32::from(named.is_some()), "{up}{}", outcome.stderr);
    let Some(named) = named else { return };
    outcome.says(&["rows were updated or deleted that the archive does not keep", named, "[[archive]]"]);
    assert_eq!(world.query(rows), count, "{up}");
    assert_eq!(world.query("select max(version)::text from tandem.ledger"), "1", "{up}");
}

/// The archive keeps some rows of a table, by a condition of the declaration's or because of a column: the others are watched.
#[test]
fn rows_beside_those_that_an_archive_keeps_are_neither_updated_nor_deleted() {
    let one = "[[archive]]\ntable = \"users\"\nwhere = \"id = 1\"\n";
    let users =
        |stray: u32, kept: u32| Some(format!("public.users ({stray} beside the {kept} that it keeps)"));
    let days = "[[archive]]\ntable = \"days\"\nwhere = \"id = 1 -- the first\"\n";
    let in_a_block = |sql: &str| {
        format!("do $$ begin begin {sql}; exception when division_by_zero then null; end; end $$;\n")
    };
    let cases: Vec<(String, &str, Option<String>)> = vec![
        ("delete from users where id = 1;\n".into(), one, None),
        ("delete from users where id = 2;\n".into(), one, users(1, 1)),
        (in_a_block("delete from users where id = 2"), one, users(1, 1)),
        (in_a_block("delete from users where id = 1"), one, None),
        ("update users set name = 'x';\nupdate users set name = 'y';\n".into(), one, users(2, 1)),
        (
            "update users set name = 'x' where id = 1;\nupdate users set name = 'y' where id = 1;\ninsert into users values (4);\n".into(),
            "[[archive]]\ntable = \"users\"\nwhere = \"name = 'ada'\"\n",
            None,
        ),
        ("insert into users values (4);\nselect 1;\n".into(), one, None),
        ("do $$ begin execute 'truncate users cascade'; end $$;\n".into(), one, users(2, 1)),
        // A column that goes keeps the rows that have a value there.
        ("alter table users drop column name;\ndelete from users where id = 2;\n".into(), "", None),
        ("alter table users drop column name;\ndelete from users where id = 3;\n".into(), "", users(1, 2)),
        (
            "alter table users drop column name;\nupdate users set id = id + 10;\n".into(),
            "",
            Some("public.users (values in columns that the version leaves as they are)".into()),
        ),
        (
            "alter table users alter column name type varchar(9);\ndelete from users;\n".into(),
            "",
            users(1, 2),
        ),
        ("delete from users;\nalter table users alter column name type bytea using null;\n".into(), "", users(1, 2)),
        ("alter table users alter column name type bytea using null;\ndelete from users where id <> 3;\n".into(), "", None),
        // One that comes has to be filled.
        ("alter table users add column nick text;\nupdate users set nick = name;\n".into(), one, None),
        (
            "alter table users add column nick text;\nupdate users set nick = name;\ndelete from users where id > 1;\n".into(),
            one,
            users(1, 1),
        ),
        ("delete from days where id = 1;\n".into(), days, None),
        ("delete from days;\n".into(), days, Some("public.days (1 beside the 1 that it keeps)".into())),
        ("alter table days detach partition days_all;\ndelete from days;\n".into(), days, None),
    ];
    let fill = "insert into users values (1, 'ada'), (2, 'grace'), (3, null); insert into days values (1, '2025-01-01'), (2, '2025-01-01')";
    for version in [PgVersion::V14, PgVersion::V18] {
        for (up, toml, named) in &cases {
            let notes = "[[archive]]\ntable = \"notes\"\n";
            let world = second_on(version, up, &format!("{toml}{notes}[proof]\nsql = \"select true\"\n"));
            world.db.execute(fill);
            let outcome = world.start(&["true"]);
            noticed(
                &world,
                outcome,
                up,
                named.as_deref(),
                "select (select count(*) from users)::text || (select count(*) from days)",
                "32",
            );
        }
    }
}

/// SQL that no word shows what it does; the function is in [`VALUES`].
fn hidden(sql: &str) -> String {
    let hex: String = sql.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("select run(convert_from(decode('{hex}', 'hex'), 'utf8'));\n")
}

/// Tables whose values are watched.
const VALUES: &str = "create table users (id int primary key, name text, note text, born text);\n\
    create table keyless (name text, note json);\n\
    create table days (id int, region text, note text) partition by list (region);\n\
    create table days_eu partition of days for values in ('eu');\ncreate table days_all partition of days default;\n\
    create function run(sql text) returns void language plpgsql as $$ begin execute sql; end $$;\n";

/// Starts on these rows with a second version, which is applied, or rolled back with rows named.
#[track_caller]
fn values_are_watched(
    version: PgVersion,
    settings: &str,
    fill: &str,
    (up, toml, named): (&str, &str, Option<&str>),
) {
    let database = Postgres::shared(version).unwrap().create_database("values");
    let mut world = World::on(database, local_servers::qdrant());
    world.set("QDRANT_URL", "none");
    world.migrations.write("tandem.toml", settings);
    world.version("0001_first", VALUES, "");
    world.version("0002_second", up, &format!("{toml}[proof]\nsql = \"select true\"\n"));
    world.record();
    world.output(["upgrade", "1"]).expect(0);
    world.db.execute(fill);
    let rows = "select string_agg(u::text, ' ' order by id) || (select string_agg(k::text, ' ' order by k::text) from keyless k) \
        || coalesce((select string_agg(d::text, ' ' order by id) from days d), '') from users u";
    let before = world.query(rows);
    let outcome = world.start(&["true"]);
    noticed(&world, outcome, up, named, rows, &before);
}

/// Where a column comes, goes or is converted its rows are updated, and where it is converted they are in other places: the values of
/// the other columns are watched, whatever the version does to the table.
#[test]
fn values_beside_those_that_a_version_fills_or_converts_are_neither_changed_nor_lost() {
    let values = Some("public.users (values in columns that the version leaves as they are)");
    let cases: Vec<(String, &str, Option<&str>)> = vec![
        // A column comes.
        ("alter table users add column nick text;\nupdate users set nick = name;\n".into(), "", None),
        ("alter table users add column nick text;\nupdate users set nick = name, note = 'x' where id = 3;\n".into(), "", values),
        (hidden("alter table users add column nick text; update users set nick = name, note = 'x' where id = 3"), "", values),
        (hidden("alter table users add column nick text; update users set nick = name"), "", None),
        (
            "alter table users add column r float default random();\nupdate users set r = 0, note = 'x' where id = 3;\n".into(),
            "",
            values,
        ),
        ("alter table users add column r float default random();\nupdate users set r = 0;\n".into(), "", None),
        // Rows change places with their values.
        ("alter table users add column nick text;\nupdate users set name = case id when 1 then 'grace' else 'ada' end where id < 3;\n".into(), "", values),
        ("alter table keyless add column nick text;\nupdate keyless set nick = name;\n".into(), "", None),
        (
            "alter table keyless add column nick text;\nupdate keyless set note = '2' where name = 'two';\n".into(),
            "",
            Some("public.keyless (values"),
        ),
        // What is one's own is among them.
        ("alter table users add column nick text;\ndo $$ begin update users set own = 'x'; exception when undefined_column then null; end $$;\n".into(), "", values),
        // The declaration keeps all of them, or just this one.
        ("alter table users add column nick text;\nupdate users set note = 'x';\n".into(), "[[archive]]\ntable = \"users\"\n", None),
        (
            "alter table users add column nick text;\nupdate users set nick = name, note = case id when 3 then 'x' else note end;\n".into(),
            "[[archive]]\ntable = \"users\"\nwhere = \"id = 3\"\n",
            None,
        ),
        (
            "alter table users add column nick text;\nupdate users set nick = name, note = 'x';\n".into(),
            "[[archive]]\ntable = \"users\"\nwhere = \"id = 3\"\n",
            values,
        ),
        // A column goes; its value moves on.
        ("update users set note = name where name is not null;\nalter table users drop column name;\n".into(), "", None),
        ("update users set note = 'x';\nalter table users drop column name;\n".into(), "", values),
        ("delete from users where name is not null;\nalter table users drop column name;\n".into(), "", None),
        // One is converted, which rewrites the table: as many others go as the archive keeps.
        ("update users set born = null where born = '';\nalter table users alter column born type date using born::date;\n".into(), "", None),
        (
            "alter table users alter column name type varchar(99);\nupdate users set note = 'x' where name is null;\n".into(),
            "",
            values,
        ),
        (
            "alter table users alter column name type bytea using name::bytea;\ndelete from users where name is null;\n".into(),
            "",
            values,
        ),
        // Another NOT NULL or default keeps nothing.
        ("update users set name = '' where name is null;\nalter table users alter column name set not null;\n".into(), "", None),
        (
            "update users set name = '', note = 'x' where name is null;\nalter table users alter column name set not null;\n".into(),
            "",
            values,
        ),
        ("update users set note = 'x';\nalter table users alter column note set not null;\n".into(), "", values),
        (
            "delete from users where name is null or id = 1;\nalter table users alter column name set not null;\n".into(),
            "",
            Some("public.users (0 updated, 2 deleted)"),
        ),
        ("update users set note = 'x';\ncomment on column users.name is 'x';\n".into(), "", Some("public.users (3 updated, 0 deleted)")),
    ];
    let fill = "alter table users add column own text default 'mine'; \
        insert into users values (1, 'ada', 'one', '2000-01-01'), (2, 'grace', 'two', ''), (3, null, 'three', null); \
        insert into keyless values ('one', '{\"a\": 1}'), ('two', null), ('two', null)";
    for version in [PgVersion::V14, PgVersion::V18] {
        for (up, toml, named) in &cases {
            values_are_watched(version, "application = \"demo\"\n", fill, (up, toml, *named));
        }
    }
}

/// Where there are new rows, where no key tells which rows the archive keeps, and where NULLs are filled, sums do not tell: each row is
/// looked at.
#[test]
fn values_are_watched_row_by_row_where_their_sums_do_not_tell() {
    let values = Some("public.users (values in columns that the version leaves as they are)");
    let filled = Some(
        "public.users (values in columns that the version leaves as they are, or of which it fills the NULLs)",
    );
    let keyless = Some("public.keyless (values in columns that the version leaves as they are)");
    let third = "[[archive]]\ntable = \"users\"\nwhere = \"id = 3\"\n";
    let first_day = "[[archive]]\ntable = \"days\"\nwhere = \"id = 1\"\n";
    let add = "alter table users add column nick text;\n";
    let insert = "insert into users values (4, 'four', 'four', '');\n";
    let not_null = "alter table users alter column name set not null;\n";
    let cases: Vec<(String, &str, Option<&str>)> = vec![
        // Rows are added.
        (format!("{add}{insert}update users set nick = name;\n"), "", None),
        (format!("{add}{insert}update users set nick = name, note = case id when 3 then 'x' else note end;\n"), "", values),
        (hidden(&format!("{add}{insert}update users set note = 'x' where id = 3")), "", values),
        (hidden(&format!("{add}{insert}update users set nick = name")), "", None),
        (format!("{add}{insert}update users set note = 'x' where id = 4;\n"), "", None),
        (
            format!("{add}update users set note = 'x' where id = 3;\ninsert into users values (5, null, 'three', null);\n"),
            "",
            values,
        ),
        (
            format!("{add}insert into users values (4), (3) on conflict (id) do update set note = 'x';\n"),
            "",
            values,
        ),
        (format!("{add}{insert}update users set nick = name, note = case id when 3 then 'x' else note end;\n"), third, None),
        (format!("{add}{insert}update users set note = 'x' where id in (1, 3);\n"), third, values),
        (format!("{add}delete from users where id = 3;\ninsert into users values (3);\nupdate users set nick = name;\n"), third, None),
        (format!("{add}delete from users where id = 3;\ninsert into users values (3);\nupdate users set note = 'x';\n"), third, values),
        (
            format!("{insert}update users set name = upper(name);\nalter table users alter column name type varchar(99);\n"),
            "",
            None,
        ),
        (
            format!("alter table users alter column name type varchar(99);\n{insert}update users set note = 'x' where id = 3;\n"),
            "",
            values,
        ),
        (
            "alter table days add column nick text;\nupdate days set region = 'eu' where id = 1;\nupdate days set nick = note;\n".into(),
            first_day,
            None,
        ),
        (
            "alter table days add column nick text;\nupdate days set region = 'eu' where id = 1;\nupdate days set note = 'x';\n".into(),
            first_day,
            Some("public.days (values"),
        ),
        (
            "alter table days add column nick text;\nupdate days set note = 'x';\n".into(),
            "[[archive]]\ntable = \"days\"\n",
            None,
        ),
        ("alter table days add column nick text;\nupdate days set note = 'x' where id = 3;\n".into(), "", Some("public.days (values")),
        (
            "alter table days add column nick text;\nalter table days detach partition days_eu;\nupdate days_eu set note = 'x';\n".into(),
            "",
            Some("public.days_eu (values"),
        ),
        // No key tells which rows are kept: those with a name.
        (
            "update keyless set note = to_json(name) where name is not null;\nalter table keyless drop column name;\n".into(),
            "",
            None,
        ),
        ("update keyless set note = '2' where name is null or name = 'two';\nalter table keyless drop column name;\n".into(), "", keyless),
        // Another row, which is kept, has the value that this one had.
        ("update keyless set note = '2' where name is null;\nalter table keyless drop column name;\n".into(), "", keyless),
        (
            "alter table keyless alter column name type varchar(99);\nupdate keyless set note = '2' where note::text = '7';\n".into(),
            "",
            keyless,
        ),
        // Its key is another one.
        (format!("{add}update users set id = 33, note = 'x' where id = 3;\n"), third, None),
        (format!("{add}update users set id = id + 10;\n"), third, values),
        // NULLs are filled.
        (format!("update users set name = coalesce(name, '');\n{not_null}"), "", None),
        (format!("update users set name = '';\n{not_null}"), "", filled),
        (format!("update users set name = case id when 1 then 'grace' when 2 then 'ada' else '' end;\n{not_null}"), "", filled),
        (format!("update users set name = '', note = 'x' where name is null;\n{not_null}"), "", values),
        (format!("{insert}update users set name = '' where name is null;\n{not_null}"), "", None),
        (format!("{insert}update users set name = '' where name is null or id = 1;\n{not_null}"), "", filled),
        (
            format!("alter table users add column r float default random();\nupdate users set name = '' where name is null;\n{not_null}"),
            "",
            None,
        ),
        (
            "alter table users alter column name set default 'x';\nupdate users set name = default where name is null or id = 1;\n".into(),
            "",
            filled,
        ),
        (
            format!("update users set name = coalesce(name, ''), born = coalesce(born, '');\n{not_null}alter table users alter column born set default '';\n"),
            "",
            None,
        ),
        (
            format!("update users set name = coalesce(name, ''), born = '';\n{not_null}alter table users alter column born set default '';\n"),
            "",
            filled,
        ),
        (
            "update days set note = coalesce(note, '');\nalter table days alter column note set not null;\n".into(),
            "",
            None,
        ),
        (
            "update days set note = case id when 1 then 'two' when 2 then 'one' else '' end;\nalter table days alter column note set not null;\n"
                .into(),
            "",
            Some("public.days (values in columns that the version leaves as they are, or of which it fills the NULLs)"),
        ),
        (
            "update keyless set name = coalesce(name, 'none');\nalter table keyless alter column name set not null;\n".into(),
            "",
            None,
        ),
        (
            "update keyless set name = case name when 'one' then 'two' when 'two' then 'one' else 'none' end;\n\
             alter table keyless alter column name set not null;\n"
                .into(),
            "",
            Some("public.keyless (values in columns that the version leaves as they are, or of which it fills the NULLs)"),
        ),
    ];
    let fill = "insert into users values (1, 'ada', 'one', '2000-01-01'), (2, 'grace', 'two', ''), (3, null, 'three', null); \
        insert into keyless values ('one', '{\"a\": 1}'), ('two', null), ('three', '7'), (null, '7'); \
        insert into days values (1, 'us', 'one'), (2, 'us', 'two'), (3, 'eu', null)";
    for (version, check, step) in [(PgVersion::V14, "each-run", 3), (PgVersion::V18, "each-version", 1)] {
        let settings = format!("application = \"demo\"\ncatalog_check = \"{check}\"\n");
        for (up, toml, named) in cases.iter().step_by(step) {
            values_are_watched(version, &settings, fill, (up, toml, *named));
        }
    }
}

/// A repair goes back to a savepoint to sum up, and a step back is watched like one forward.
#[test]
fn values_are_watched_in_a_repair_and_on_the_way_back() {
    let run =
        "create function run(sql text) returns void language plpgsql as $$ begin execute sql; end $$;\n";
    let first = format!("create table users (id int primary key, note text);\n{run}");
    let column = "alter table users add column nick text;\n";
    for (sql, stray) in [
        ("update users set nick = note", false),
        ("update users set nick = note, note = 'x'", true),
        ("insert into users (id) values (9); update users set nick = note", false),
        ("insert into users (id) values (9); update users set nick = note, note = 'x'", true),
    ] {
        for way in ["repair", "back"] {
            let mut world = World::empty();
            world.set("QDRANT_URL", "none");
            world.version("0001_first", &first, "");
            let (up, down) = match way {
                "repair" => {
                    (format!("{column}{}", hidden(sql)), "alter table users drop column nick;\n".to_owned())
                }
                _ => ("alter table users drop column nick;\n".to_owned(), format!("{column}{}", hidden(sql))),
            };
            if way == "back" {
                world.version("0001_first", &format!("{first}{column}"), "");
            }
            world.version("0002_second", &up, "");
            world.migrations.write("0002_second.down.sql", &down);
            world.version("0003_third", "create table third (id int);\n", "");
            let more = "alter table users add column more text;\ninsert into users (id) values (10);\nupdate users set more = note;\n";
            world.version("0004_fourth", more, "");
            world.version("0005_last", "create table last (id int);\n", "");
            world.record();
            let rows = "insert into users values (1, 'one'), (2, 'two')";
            let command: &[&str] = match way {
                "repair" => {
                    world.db.execute(&format!(
                        "{first}create table third (id int); create table last (id int);{rows}"
                    ));
                    &["migrate"]
                }
                _ => {
                    world.output(["upgrade", "2"]).expect(0);
                    world.db.execute(rows);
                    &["downgrade", "1"]
                }
            };
            let outcome = world.output(command).expect(i32::from(stray));
            if stray {
                outcome.says(&["the archive does not keep: public.users (values in columns that the version leaves as they are)"]);
            }
            assert_eq!(
                world.query("select string_agg(note, ' ' order by id) from users"),
                "one two",
                "{way}"
            );
        }
    }
}

/// What completing a version runs is watched as well, and what it declares is kept.
#[test]
fn the_data_of_a_completed_version_changes_no_rows_that_nothing_keeps() {
    let first =
        "create table users (id int primary key, note text);\ncreate table days (id int primary key);\n";
    let second = "alter table users add column nick text;\nalter table users add column size int;\ncreate table words (id int primary key, word text);\n";
    let fills = "insert into words values (1, 'a'), (2, 'b') on conflict (id) do nothing;\nupdate words set word = upper(word);\nupdate users set nick = note where nick is null;\n";
    for (data, archive, stray) in [
        (fills.to_owned(), "", None),
        (format!("{fills}update users set note = 'x';"), "", Some("public.users (values in columns")),
        (format!("{fills}delete from days;"), "", Some("public.days (0 updated, 1 deleted)")),
        (format!("{fills}delete from days;"), "[[archive]]\ntable = \"days\"\n", None),
    ] {
        let mut world = World::empty();
        world.set("QDRANT_URL", "none");
        world.version("0001_first", first, "");
        world.version("0002_second", second, &format!("{archive}[data]\nsql = \"\"\"{data}\"\"\"\n"));
        world.record();
        world.start(&["true"]).expect(0);
        world.db.execute(
            "alter table users drop column nick; drop table words; insert into users values (1, 'one'), (2, 'two'); insert into days values (7)",
        );
        let outcome = world.start(&["true"]);
        assert_eq!(outcome.code, if stray.is_some() { 76 } else { 0 }, "{data}{}", outcome.stderr);
        match stray {
            Some(stray) => {
                outcome.says(&["the [data] of version 2 (second) failed, so everything was rolled back", stray, "[[archive]]"]);
                assert_eq!(world.query("select count(*)::text from days"), "1");
            }
            None => assert_eq!(world.query("select string_agg(nick, ' ' order by id) || (select string_agg(word, '' order by id) from words) from users"), "one twoAB"),
        }
        assert_eq!(world.query("select string_agg(note, ' ' order by id) from users"), "one two");
        if !archive.is_empty() {
            assert_eq!(world.query("select row ->> 'id' from tandem.archive"), "7");
        }
    }
}

/// The first version meets rows too, where it goes beside what is there.
#[test]
fn a_first_version_beside_what_is_there_changes_no_rows_of_it() {
    for (up, stray) in [
        (
            "create table users (id int primary key);\ninsert into users values (1);\nupdate users set id = 2;\n",
            "",
        ),
        (
            "create table users (id int primary key);\ndo $$ begin if exists (select from pg_class where relname = 'mine') then delete from mine; end if; end $$;\n",
            "public.mine (0 updated, 1 deleted)",
        ),
    ] {
        let mut world = World::empty();
        world.set("QDRANT_URL", "none");
        world.set("TANDEM_INSTALL_BESIDE", "true");
        world.version("0001_first", up, "");
        world.record();
        world.db.execute("create table mine (id int); insert into mine values (1)");
        let outcome = world.start(&["true"]).expect(i32::from(!stray.is_empty()));
        assert!(outcome.stderr.contains(stray), "{}", outcome.stderr);
        assert_eq!(world.query("select count(*)::text from mine"), "1");
    }
}

/// Between the copy for the archive and the version's own statements nobody writes a row that no copy has.
#[test]
fn what_a_version_takes_away_is_not_written_to_once_it_is_copied() {
    let world = second("select pg_sleep(2);\ndrop table notes;\n", "");
    world.db.execute("insert into users values (1, 'ada'); insert into notes values (1, 1)");
    let mut run = world.tandem(["migrate"]).spawn().unwrap();
    let asleep = "select exists (select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database())::text";
    while world.query(asleep) != "true" {
        assert!(run.try_wait().unwrap().is_none(), "it ended before it slept");
    }
    let url = world.db.url();
    let write =
        std::thread::spawn(move || common::query(&url, "insert into notes values (2, 1) returning id::text"));
    assert!(run.wait().unwrap().success());
    let written = write.join().is_ok();
    assert!(!written, "a row was written that nothing keeps");
    assert_eq!(world.query("select string_agg(row ->> 'id', ',') from tandem.archive"), "1");
}

/// A declaration that the server does not take is no fault of the file's first statement.
#[test]
fn what_fails_while_rows_are_kept_is_not_put_down_to_the_first_statement() {
    let world = second(
        "delete from users;\n",
        "[[archive]]\ntable = \"users\"\nwhere = \"1 / id = 1\"\n[proof]\nsql = \"select true\"\n",
    );
    world.db.execute("insert into users values (0, 'ada')");
    let outcome = world.start(&["true"]).expect(1).says(&[
        "0002_second.up.sql: in front of its first statement, while what it takes away is kept (`insert into \"tandem\".archive",
        "division by zero",
    ]);
    assert!(!outcome.stderr.contains("statement 1"), "{}", outcome.stderr);
}

/// All of a repair is one transaction, whose earlier versions' rows are old ones for the later.
#[test]
fn rows_beside_those_that_an_archive_keeps_are_watched_in_a_repair() {
    let mut world = World::empty();
    world.set("QDRANT_URL", "none");
    world.version(
        "0001_first",
        "create table users (id int primary key);\ninsert into users values (1), (2), (3);\n",
        "",
    );
    world.version(
        "0002_filled",
        "alter table users add column name text;\nupdate users set name = id;\n",
        "",
    );
    let toml = "[[archive]]\ntable = \"users\"\nwhere = \"name = '1'\"\n";
    world.version("0003_fewer", "create table notes (id int);\ndelete from users where id = 2;\n", toml);
    world.version("0004_last", "create table last (id int);\n", "");
    world.record();
    let made = "create table users (id int primary key); create table last (id int);";
    world.db.execute(&format!("{made} insert into users values (1), (2), (3)"));
    world.start(&["true"]).expect(1).says(&["version 3", "public.users (1 beside the 1 that it keeps)"]);
    assert_eq!(world.query("select count(*)::text from users"), "3");
    world.version("0003_fewer", "create table notes (id int);\ndelete from users where id = 1;\n", toml);
    world.record();
    world.start(&["true"]).expect(0);
    assert_eq!(world.query("select count(*)::text from users"), "2");
}

/// Lint sees it at the top of a file; in a block or a function only the server meets it.
#[test]
fn rows_that_a_truncate_takes_are_noticed_wherever_it_stands() {
    let run = |sql: &str| format!("do $$ begin execute '{sql}'; end $$;\n");
    let archived = "[[archive]]\ntable = \"users\"\n[[archive]]\ntable = \"notes\"\n";
    let gone = "public.notes (emptied), public.users (emptied)";
    let cases = [
        (run("truncate users, notes"), "", Some(gone)),
        (run("truncate users cascade"), "", Some(gone)),
        (run("truncate users cascade"), archived, None),
        (run("truncate users cascade"), "[[archive]]\ntable = \"users\"\n", Some("public.notes (emptied)")),
        // What it counted before is forgotten with it.
        (format!("update notes set id = id + 10;\n{}", run("truncate notes")), "", Some("public.notes (emptied)")),
        // New rows do not stand for the old ones.
        (
            format!("{}insert into notes select i, null from generate_series(1, 9) i;\n", run("truncate notes")),
            "",
            Some("public.notes (emptied)"),
        ),
        // A table that was rewritten before is emptied in its place.
        (
            format!("alter table notes add column r float default random();\n{}", run("truncate notes")),
            "",
            Some("public.notes (emptied)"),
        ),
        ("select clear('notes');\n".to_owned(), "", Some("public.notes (emptied)")),
        ("insert into mine_too values (7);\nselect clear('mine_too');\n".to_owned(), "", None),
        (run("truncate days"), "", Some("public.days_all (emptied)")),
        (run("truncate days"), "[[archive]]\ntable = \"days\"\n", None),
        // What was empty, is the version's own, or came back; and what only rewrites.
        (
            format!(
                "{}create table more (id int);\ninsert into more values (1);\ntruncate more;\n\
                 do $$ begin begin execute 'truncate notes'; raise 'no'; exception when others then null; end; end $$;\n",
                run("truncate emptied; truncate never_filled")
            ),
            "",
            None,
        ),
        (
            "alter table users add column r float default random();\nalter table emptied add column r float default random();\n\
             alter table notes set unlogged;\nalter table never_filled set unlogged;\ncluster mine_too using mine_too_pkey;\n\
             insert into mine_too values (3);\nrefresh materialized view ids;\nreindex table users;\n\
             alter table days alter column id type bigint;\nalter table days detach partition days_all;\n"
                .to_owned(),
            "",
            None,
        ),
        ("cluster users using users_pkey;\ncluster emptied using emptied_pkey;\ndrop table days;\n".to_owned(), "", None),
    ];
    for version in [PgVersion::V14, PgVersion::V16, PgVersion::V18] {
        for (up, toml, named) in &cases {
            let world = second_on(version, up, &format!("{toml}[proof]\nsql = \"select true\"\n"));
            world.db.execute(
                "insert into users values (1, 'ada'), (2, 'grace'); insert into notes values (1, 1), (2, 1); insert into days values (1, '2025-01-01');
                 insert into emptied values (1); delete from emptied",
            );
            let outcome = world.start(&["true"]);
            noticed(&world, outcome, up, *named, "select count(*)::text from users, notes, days", "4");
        }
    }
}

#[test]
fn rows_that_go_with_those_of_the_application_are_watched_in_every_schema() {
    for (up, named) in [
        ("delete from users where id = 1;\n", "mine.favourites (0 updated, 1 deleted)"),
        ("do $$ begin execute 'truncate users cascade'; end $$;\n", "mine.favourites (emptied)"),
    ] {
        let archives = ["users", "notes"].map(|table| format!("[[archive]]\ntable = \"{table}\"\n")).concat();
        let proof = "[proof]\nsql = \"select true\"\n";
        let world = second(up, &format!("{archives}{proof}"));
        world.db.execute(
            "create schema mine; create table mine.favourites (user_id int references users on delete cascade);
             insert into users values (1, 'ada'), (2, 'grace'); insert into mine.favourites values (1), (2)",
        );
        world.start(&["true"]).expect(1).says(&["the archive does not keep", named, "[[archive]]"]);
        assert_eq!(world.query("select count(*)::text from mine.favourites"), "2", "{up}");
        let archives = format!("{archives}[[archive]]\ntable = \"mine.favourites\"\n");
        world.version("0002_second", up, &format!("{archives}{proof}"));
        world.record();
        world.start(&["true"]).expect(0);
        assert_eq!(
            world.query("select string_agg(row ->> 'user_id', ',') from tandem.archive where relation = 'mine.favourites'"),
            "1,2"
        );
    }
}

/// A repair is one transaction, in which a later version empties what an earlier one has given another file.
#[test]
fn rows_that_a_truncate_takes_in_a_repair_are_noticed() {
    let mut world = World::empty();
    world.set("QDRANT_URL", "none");
    world.version("0001_first", "create table users (id int primary key);\n", "");
    world.version("0002_rewritten", "alter table users add column r float default random();\n", "");
    world.version(
        "0003_emptied",
        "create table notes (id int);\ndo $$ begin execute 'truncate users'; end $$;\n",
        "",
    );
    world.version("0004_last", "create table last (id int);\n", "");
    world.record();
    let made = "create table users (id int primary key); create table last (id int);";
    world.db.execute(&format!("{made} insert into users values (1)"));
    world.start(&["true"]).expect(1).says(&["version 3", "public.users (emptied)"]);
    assert_eq!(world.query("select id::text from users"), "1");
    world.db.execute("delete from users");
    world.start(&["true"]).expect(0);
}

#[test]
fn what_a_version_is_not_known_to_drop_is_still_there_or_it_is_rolled_back() {
    let world = second("drop table if exists mine;\ncreate table more (id int);\n", "");
    world.db.execute("create table mine (id int); insert into mine values (1)");
    world.start(&["true"]).expect(76).says(&["would take away", "table public.mine"]);
    assert_eq!(world.query("select id::text from mine"), "1");
    assert_eq!(world.query("select max(version)::text from tandem.ledger"), "1");
}

/// A version was recorded on an empty database: what stops it elsewhere is the user's own.
#[test]
fn what_is_in_the_way_of_a_version_is_refused_by_name_with_the_way_out() {
    let up = "drop table notes;\ndrop function clear(text);\nalter table users drop column name;\n\
              create table characters (id int constraint characters_key primary key);\ncreate index by_day on days (day);\n\
              create type kind as enum ('a');\nalter table users add column emoji text;\n";
    for (own, said, way_out) in [
        (
            "create schema o; create view o.v as select name from users",
            "view o.v depends on column name",
            "no CASCADE",
        ),
        (
            "create schema o; create table o.t (id int references notes)",
            "constraint t_id_fkey on table o.t",
            "no CASCADE",
        ),
        ("create table kid () inherits (notes)", "table kid depends on table notes", "no CASCADE"),
        (
            "create policy p on days using (exists (select from users where name = 'x'))",
            "policy p on table days",
            "no CASCADE",
        ),
        (
            "create view v as select clear(''::text) is null as a",
            "view v depends on function clear",
            "no CASCADE",
        ),
        (
            "create sequence characters",
            "sequence characters is there already",
            "alter sequence public.characters rename to characters_own",
        ),
        (
            "create index characters on users (id)",
            "relation \"characters\" already exists",
            "alter index public.characters rename to characters_own",
        ),
        (
            "create index by_day on users (id)",
            "relation \"by_day\" already exists",
            "alter index public.by_day rename to by_day_own",
        ),
        (
            "create table mine (a int constraint characters_key unique)",
            "on mine is there already",
            "alter table public.mine rename constraint characters_key to characters_key_own",
        ),
        (
            "create domain kind as text",
            "domain kind is there already",
            "alter domain public.kind rename to kind_own",
        ),
        (
            "create type characters as (a int)",
            "composite type characters is there already",
            "alter type public.characters rename to characters_own",
        ),
        (
            "alter table users add column emoji int",
            "your column users.emoji is in the way: version 2 makes another one of that name. It is now: integer; version 2 makes: text",
            "alter table \"public\".\"users\" rename column \"emoji\" to \"emoji_own\"",
        ),
    ] {
        let world = second(up, "");
        world.db.execute(own);
        let before = world.query("select string_agg(oid::text, ' ' order by oid) from pg_class where oid >= 16384 and relname !~ '^pg_'");
        let outcome = world.start(&["true"]).expect(76).says(&[said, way_out]);
        // What the catalog shows is told before anything is done.
        assert!(
            said.contains("is in the way") || outcome.stderr.contains("nothing has changed"),
            "{}",
            outcome.stderr
        );
        let after = world.query("select string_agg(oid::text, ' ' order by oid) from pg_class where oid >= 16384 and relname !~ '^pg_'");
        assert_eq!(before, after, "{own}");
        if way_out.starts_with("alter") {
            world.db.execute(way_out);
            world.start(&["true"]).expect(0);
        }
    }
}

/// Postgres cannot take a label away, so that nobody could do anything about a refusal.
#[test]
fn labels_of_the_users_own_stay_in_an_enum_of_the_application() {
    let mut world = World::empty();
    world.set("QDRANT_URL", "none");
    world.version(
        "0001_first",
        "create type mood as enum ('sad', 'ok');\ncreate table users (id int, mood mood);\n",
        "",
    );
    world.version("0002_calm", "alter type mood add value 'calm';\n", "");
    world.version("0003_last", "create table last (id int);\n", "");
    world.record();
    let database = || {
        let mut sibling = world.sibling();
        sibling.set("QDRANT_URL", "none");
        sibling.start_before("0002");
        sibling
    };
    let labels = "select string_agg(enumlabel, ' ' order by enumsortorder) from pg_enum where enumtypid = 'mood'::regtype";
    let own = database();
    own.db.execute("alter type mood add value 'mine' before 'ok'");
    own.db.execute("insert into users values (1, 'mine')");
    own.start(&["true"]).expect(0);
    own.output(["verify"]).expect(0);
    assert_eq!(own.query(labels), "sad mine ok calm");
    assert_eq!(own.query("select mood::text from users"), "mine");
    let ahead = database();
    ahead.db.execute("alter type mood add value 'calm'");
    ahead.start(&["true"]).expect(0);
    let other = database();
    other.db.execute("alter type mood rename value 'ok' to 'fine'");
    other.start(&["true"]).expect(76).says(&["enum mood", "found sad, fine"]);
}

#[test]
fn an_enum_value_that_is_added_and_used_in_one_repair_is_refused_before_anything_runs() {
    let mut world = World::empty();
    world.set("QDRANT_URL", "none");
    world.version(
        "0001_first",
        "create type mood as enum ('sad');\ncreate table users (id int primary key, mood mood);\n",
        "",
    );
    world.version("0002_happy", "alter type mood add value 'happy';\ncreate table marker (id int);\n", "");
    world.version("0003_default", "alter table users alter column mood set default 'happy';\n", "");
    world.version("0004_last", "create table last (id int);\n", "");
    world.record();
    world.db.execute("create type mood as enum ('sad'); create table users (id int primary key, mood mood); create table last (id int)");
    let before = world.state();
    world.start(&["true"]).expect(65).says(&["0003_default.up.sql", "enum value", "in one transaction"]);
    assert_eq!(world.state(), before);
}

#[test]
fn a_repair_that_a_lock_stops_is_tried_again_and_names_the_reader() {
    use sqlx::Connection;
    let world = world();
    world.start(&["true"]).expect(0);
    world.db.execute("alter table users drop column nick");
    let url = format!("{}?application_name=slow-reader", world.db.url());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reader = runtime.block_on(async {
        let mut reader = sqlx::PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql("begin; select count(*) from users").execute(&mut reader).await.unwrap();
        reader
    });
    let child = world.tandem(["migrate"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let waiting = "select count(*)::text from pg_locks where not granted";
    while world.query(waiting) == "0" {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // Past the first lock_timeout, so that a try has failed; then the reader goes.
    std::thread::sleep(std::time::Duration::from_secs(4));
    runtime.block_on(async { reader.close().await.unwrap() });
    let outcome = common::Outcome::new(child.wait_with_output().unwrap());
    outcome.expect(0).says(&[
        "met a lock and is tried again",
        "slow-reader",
        "pid ",
        "idle in transaction",
        "query ",
    ]);
}

/// No session belongs to it, so that neither its end nor a timeout lets go of its locks.
#[test]
fn a_prepared_transaction_that_holds_a_lock_is_named() {
    use sqlx::Connection;
    use std::io::{BufRead, BufReader};
    for version in [PgVersion::V14, PgVersion::V16, PgVersion::V18] {
        let conf = vec!["max_prepared_transactions = 2".into()];
        let server = Postgres::start(PostgresOptions { version, conf, ..Default::default() }).unwrap();
        let mut world = World::on(server.create_database("held"), local_servers::qdrant());
        world.set("QDRANT_URL", "none");
        VERSIONS[..3].iter().for_each(|(name, up, toml)| world.version(name, up, toml));
        world.record();
        world.start_before("0003");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut session = sqlx::PgConnection::connect(&world.db.url()).await.unwrap();
            for sql in ["begin", "insert into users values (1, 'ada')", "prepare transaction 'half done'"] {
                sqlx::raw_sql(sql).execute(&mut session).await.unwrap();
            }
        });
        let mut child = world.tandem(["migrate"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let mut lines = lines.skip_while(|line| !line.contains("met a lock and is tried again"));
        let line = lines.next().unwrap_or_default();
        assert!(
            line.contains("prepared transaction 'half done' of ") && line.contains("rollback prepared"),
            "{line}"
        );
        runtime.block_on(async {
            let mut session = sqlx::PgConnection::connect(&world.db.url()).await.unwrap();
            sqlx::raw_sql("commit prepared 'half done'").execute(&mut session).await.unwrap();
        });
        lines.for_each(drop);
        assert!(child.wait().unwrap().success());
        assert_eq!(world.query("select nick from users"), "ada");
    }
}

#[test]
fn a_reader_that_never_goes_ends_the_start_and_is_named() {
    use sqlx::Connection;
    let world = world();
    VERSIONS[..2].iter().for_each(|(_, up, _)| world.db.execute(up));
    let before = state(&world);
    let url = format!("{}?application_name=slow-reader", world.db.url());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _reader = runtime.block_on(async {
        let mut reader = sqlx::PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql("begin; select count(*) from users").execute(&mut reader).await.unwrap();
        reader
    });
    world.start(&["true"]).expect(75).says(&[
        "lock timeout",
        "slow-reader",
        "idle in transaction for",
        "pg_terminate_backend",
    ]);
    // The versions below were recorded, as the catalog proves them.
    assert_eq!(
        world.query("select string_agg(version || ' ' || origin, ',' order by version) from tandem.ledger"),
        "1 stamped,2 stamped"
    );
    let tables = |text: &str| text.split("\n\n").next().unwrap_or_default().lines().next().map(str::to_owned);
    assert_eq!(tables(&state(&world)), tables(&before));
}

#[test]
fn several_managed_schemas_are_one_catalog_and_any_other_is_none_of_it() {
    let mut world = World::empty();
    world.set("QDRANT_URL", "none");
    world.migrations.write("tandem.toml", "application = \"demo\"\nschemas = [\"public\", \"Chat Data\"]\n");
    world.version(
        "0001_first",
        "create table users (id int primary key);\ncreate schema if not exists \"Chat Data\";\n\
         create table \"Chat Data\".users (id int primary key, owner int references public.users (id), body text default 'x');\n",
        "",
    );
    world.version("0002_second", "create index bodies on \"Chat Data\".users (body);\n", "");
    world.record();
    world.db.execute("create schema other; create table other.users (id int)");
    world.start(&["true"]).expect(0).says(&["fresh"]);
    world.db.execute("drop index \"Chat Data\".bodies; alter table \"Chat Data\".users drop column body; alter table other.users add column b text");
    world.start(&["true"]).expect(0).says(&["partial", "Chat Data"]);
    assert_eq!(
        world.query("select string_agg(table_schema || '.' || column_name, ' ' order by table_schema, column_name) from information_schema.columns where table_name = 'users'"),
        "Chat Data.body Chat Data.id Chat Data.owner other.b other.id public.id"
    );
    world.output(["verify"]).expect(0);
}
