//! Reading real databases into catalogs, and comparing what different servers and histories make of one schema.

mod again;
mod majors;
#[path = "../common/observed.rs"]
mod observed;
mod render;
mod states;

use local_servers::{Database, PgVersion, Postgres};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use tandem::catalog::{Catalog, Detail, Difference, Effects, Kind, ObjectId, compare, effects};
use tandem::postgres::detector::detector_sql;
use tandem::postgres::introspect::{Exclude, introspect};

async fn connect(database: &Database) -> PgConnection {
    PgConnection::connect(&database.url()).await.expect("the test server accepts connections")
}

async fn read(database: &Database) -> Catalog {
    read_schemas(database, &["public"], &["alembic_version"]).await
}

async fn read_schemas(database: &Database, schemas: &[&str], adoption: &[&str]) -> Catalog {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut connection = connect(database).await;
    let exclude = Exclude { ledger_schema: "tandem", adoption_tables: &own(adoption) };
    introspect(&mut connection, &own(schemas), &exclude).await.expect("the catalog can be read")
}

/// The SQL of the WhisperEngine timeline up to a version.
fn whisperengine(upto: i64) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("the timeline is there")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.to_string_lossy().ends_with(".up.sql"))
        .collect();
    files.sort();
    let number = |path: &Path| -> i64 {
        let name = path.file_name().expect("a file").to_string_lossy();
        name.split('_').next().and_then(|number| number.parse().ok()).expect("a number")
    };
    let texts =
        files.iter().filter(|path| number(path) <= upto).map(|path| fs::read_to_string(path).expect("SQL"));
    texts.collect::<Vec<_>>().join("\n")
}

fn names(ids: &[ObjectId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn assert_same(difference: &Difference) {
    assert!(
        difference.is_proof() && difference.extra.is_empty(),
        "{difference}\n{:?}",
        names(&difference.extra)
    );
}

#[tokio::test]
async fn one_schema_is_the_same_catalog_on_every_server() {
    let mut seen: Option<Catalog> = None;
    for version in [PgVersion::V14, PgVersion::V16, PgVersion::V18] {
        let server = Postgres::shared(version).unwrap();
        let database = server.create_database("same");
        database.execute(&whisperengine(i64::MAX));
        let catalog = read(&database).await;
        assert_eq!(catalog.server / 10_000, version.major());
        if let Some(first) = &seen {
            assert_same(&compare(&catalog, first));
            assert_same(&compare(first, &catalog));
            assert_eq!(catalog.digest(), first.digest());
        }
        seen = Some(catalog);
    }
}

async fn detect(connection: &mut PgConnection) -> String {
    let sql = detector_sql(&["public".to_owned()], &Exclude::default());
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await.expect("the detector answers")
}

async fn execute(connection: &mut PgConnection, sql: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Something of everything, for tests that change or compare it.
const EVERYTHING: &str = "
create extension pg_trgm;
create extension citext;
create type mood as enum ('sad', 'happy');
create domain score as numeric check (value >= 0) check (value <= 10);
create type pair as (a integer, b text);
create type span as range (subtype = integer);
create sequence standalone increment 2 cycle maxvalue 100;
create function f(a integer, b text default 'x') returns text language sql as $$ select b $$;
create function touch() returns trigger language plpgsql as $$ begin return new; end $$;
create procedure p(a integer) language sql as $$ select 1 $$;
create aggregate longest(text) (sfunc = textcat, stype = text);
create table parent (
    id serial primary key,
    code varchar(20) not null default 'a' check (code in ('a', 'b')),
    number integer generated always as identity,
    doubled integer generated always as (id * 2) stored,
    feeling mood default 'sad',
    points score,
    handle citext,
    place text collate \"C\",
    ratio double precision default 0.5 check (ratio >= 0 and ratio <= 1),
    tags text[] default '{}',
    made timestamptz default now(),
    \"Odd name\" text,
    unique (code, handle)
);
create table child (
    id bigserial primary key,
    parent_id integer not null references parent (id) on delete cascade,
    note text,
    exclude using gist (int4range(parent_id, parent_id, '[]') with &&)
);
create table events (id bigint not null, at timestamptz not null, primary key (id, at)) partition by range (at);
create table events_2024 partition of events for values from ('2024-01-01 00:00+00') to ('2025-01-01 00:00+00');
create table events_rest partition of events default;
create table base (a integer check (a > 0));
create table derived (b text) inherits (base);
create unlogged table scratch (a integer);
create index on parent using gin (handle gin_trgm_ops);
create index on parent (place, made desc nulls last) include (code);
create index on parent (made desc nulls last, id desc, number nulls first, points) include (code);
create index on parent (lower(place)) where feeling = 'happy';
create index on parent (\"Odd name\" text_pattern_ops, code);
create index on parent (place collate \"default\");
create unique index on child (note) where note <> '';
create index on events (at);
create view overview as
    select p.id, p.code, count(c.id) as children from parent p left join child c on c.parent_id = p.id
    where p.made > now() - interval '30 days' group by p.id, p.code order by count(c.id) desc;
create view plain as select id, note from child where note is not null;
create materialized view counted as select code, count(*) as n from parent group by code;
create unique index on counted (code);
create trigger touched after update of code or delete on parent for each row when (old.code <> 'q') execute function touch();
create policy own on child for select using (note = current_user);
alter table child enable row level security;
comment on table parent is 'the parent';
comment on column parent.code is 'its code';
";

#[tokio::test]
async fn the_change_detector_notices_every_kind_of_ddl() {
    for version in [PgVersion::V14, PgVersion::V16, PgVersion::V18] {
        let database = Postgres::shared(version).unwrap().create_database("detect");
        database.execute(EVERYTHING);
        let mut connection = connect(&database).await;
        let mut before = detect(&mut connection).await;
        assert_eq!(before, detect(&mut connect(&database).await).await, "another session sees the same");
        for ddl in [
            "create table t (a integer)",
            "alter table t add b text",
            "alter table t rename b to c",
            "alter table t alter c type varchar(10)",
            "alter table t alter c set default 'x'",
            "alter table t alter c set default 'y'",
            "alter table t alter c drop default",
            "alter table t alter c set not null",
            "alter table t alter c drop not null",
            "alter table t add constraint k check (a > 0) not valid",
            "alter table t validate constraint k",
            "alter table t rename constraint k to l",
            "alter table t drop constraint l",
            "alter table t add primary key (a)",
            "create index i on t (c)",
            "alter index i rename to j",
            "update pg_index set indisvalid = false where indexrelid = 'j'::regclass",
            "update pg_index set indisvalid = true where indexrelid = 'j'::regclass",
            "drop index j",
            "alter table t rename to u",
            "alter table u drop c",
            "create table root (a integer)",
            "alter table u inherit root",
            "alter table u no inherit root",
            "alter table u enable row level security",
            "create policy y on u using (a > 1)",
            "alter policy y on u using (a > 2)",
            "drop policy y on u",
            "create trigger g before insert on u for each row execute function touch()",
            "alter table u disable trigger g",
            "drop trigger g on u",
            "drop table u",
            "alter table events detach partition events_rest",
            "alter table events attach partition events_rest default",
            "create or replace function f(a integer, b text default 'x') returns text language sql as $$ select 'z' $$",
            "alter function f(integer, text) rename to h",
            "drop function h(integer, text)",
            "alter type mood add value 'calm'",
            "alter type mood rename value 'calm' to 'quiet'",
            "alter domain score set not null",
            "alter domain score add check (value <> 5)",
            "alter type pair add attribute c text",
            "alter sequence standalone increment 5",
            "alter sequence standalone owned by parent.points",
            "drop sequence standalone",
            "create or replace view plain as select id, note from child where note is null",
            "drop view plain",
            "alter extension pg_trgm set schema pg_catalog",
            "create extension hstore",
            "drop extension hstore",
        ] {
            execute(&mut connection, ddl).await;
            let after = detect(&mut connection).await;
            assert_ne!(before, after, "{ddl}");
            before = after;
        }
    }
}

#[tokio::test]
async fn the_change_detector_is_quiet_about_all_else() {
    let database = local_servers::postgres().create_database("quiet");
    database.execute(EVERYTHING);
    let mut connection = connect(&database).await;
    let before = detect(&mut connection).await;
    for sql in [
        "insert into parent (code) select 'a' from generate_series(1, 1000)",
        "update parent set code = 'b'",
        "delete from parent where id > 10",
        "select nextval('standalone'), setval('parent_id_seq', 5000)",
        "vacuum",
        "vacuum freeze",
        "analyze",
        "create temp table parent (id integer primary key); create temp view w as select * from parent",
        "create schema other; create table other.t (a serial primary key); create view other.v as select * from other.t",
        "create schema tandem; create table tandem.ledger (a integer)",
    ] {
        execute(&mut connection, sql).await;
        assert_eq!(before, detect(&mut connection).await, "{sql}");
    }
}

#[tokio::test]
async fn every_kind_of_object_is_the_same_on_every_server() {
    let mut seen: Option<Catalog> = None;
    for version in [PgVersion::V14, PgVersion::V15, PgVersion::V16, PgVersion::V17, PgVersion::V18] {
        let database = Postgres::shared(version).unwrap().create_database("every");
        database.execute(EVERYTHING);
        let catalog = read(&database).await;
        if let Some(first) = &seen {
            assert_same(&compare(&catalog, first));
            assert_eq!(catalog.digest(), first.digest());
        }
        seen.get_or_insert(catalog);
    }
    let kinds: BTreeSet<Kind> =
        seen.into_iter().flat_map(|catalog| catalog.objects).map(|(id, _)| id.kind).collect();
    assert_eq!(kinds.len(), 16, "{kinds:?}");
}

/// What `pg_dump` writes of the schema, as others than psql can run it.
fn dump_by(pg_dump: &Path, database: &Database) -> String {
    let output = Command::new(pg_dump)
        .args(["--schema-only", "--no-owner", "--dbname", &database.url()])
        .output()
        .expect("pg_dump runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("the dump is text");
    // Commands for psql, and a setting that servers before 17 do not know.
    let for_all = |line: &&str| !line.starts_with('\\') && !line.starts_with("SET transaction_timeout");
    text.lines().filter(for_all).collect::<Vec<_>>().join("\n")
}

/// The same by the installed one.
fn dump(database: &Database) -> Option<String> {
    let Some(pg_dump) = local_servers::client_tool("pg_dump") else {
        println!("skipped: no pg_dump is installed");
        return None;
    };
    Some(dump_by(&pg_dump, database))
}

#[tokio::test]
async fn dump_and_restore_leave_the_catalog_as_it_is() {
    for (name, sql) in [("everything", EVERYTHING.to_owned()), ("whisperengine", whisperengine(i64::MAX))] {
        let original = Postgres::shared(PgVersion::V14).unwrap().create_database("original");
        original.execute(&sql);
        let before = read(&original).await;
        let mut current = original;
        // The second dump is of what the first restore made: the server prints that differently again.
        for version in [PgVersion::V14, PgVersion::V14, PgVersion::V16, PgVersion::V18] {
            let Some(text) = dump(&current) else { return };
            let restored = Postgres::shared(version).unwrap().create_database("restored");
            restored.execute(&text);
            let after = read(&restored).await;
            assert_same(&compare(&after, &before));
            assert_eq!(after.digest(), before.digest(), "{name}");
            if version == PgVersion::V14 {
                current = restored;
            }
        }
    }
}

/// Databases that mean the same, made in two ways.
#[tokio::test]
async fn what_means_the_same_is_the_same() {
    let database = local_servers::postgres().create_database("sql");
    let mut connection = connect(&database).await;
    for (one, other) in [
        ("create table t (a text unique)", "create table t (a text); alter table t add constraint mine unique (a)"),
        (
            "create table t (a integer primary key, b text); create index on t (b)",
            "create table t (b text, gone text, a integer); alter table t drop gone;
             create index mine on t (b) with (fillfactor = 70); alter table t add constraint k primary key (a)",
        ),
        (
            "create table t (id serial)",
            "create table old (id serial); alter table old rename to t; alter sequence old_id_seq rename to s",
        ),
        ("create table t (id serial)", "create table t (id serial); alter sequence t_id_seq owned by none"),
        ("create table t (id serial)", "create table t (id serial); alter sequence t_id_seq start 7 cache 5"),
        (
            "create table t (a varchar(9) check (a in ('x', 'y')))",
            "create table t (a varchar(9)); alter table t add constraint c
             check ((a)::text = any (array[('x'::character varying)::text, ('y'::character varying)::text]))",
        ),
        (
            "create table t (a double precision default 0.3, b timestamp default now(), c varchar(9) default 'x')",
            "create table t (a double precision default '0.30', b timestamp default current_timestamp,
             c varchar(9) default 'x'::text)",
        ),
        ("create table t (a integer check (a > 0))", "create table t (a integer); alter table t add constraint odd check ((a > (0)))"),
        ("create table t (a integer not null)", "create table t (a integer constraint named not null)"),
        (
            "create function f(a integer) returns integer language sql as $$ select 1 $$",
            "create function f(b integer default 2) returns integer language plpgsql immutable as $$ begin return 2; end $$",
        ),
        ("create table t (a integer)", "create table t (a integer); comment on table t is 'x'; comment on column t.a is 'y'"),
        (
            "create extension pg_trgm; create table t (a text); create index on t using gin (a gin_trgm_ops)",
            "create schema ext; create extension pg_trgm schema ext; create table t (a text);
             create index on t using gin (a ext.gin_trgm_ops)",
        ),
        (
            "create extension citext; create table t (a citext default 'x', check (a <> 'y')); create function f(citext) returns citext language sql as $$ select $1 $$",
            "create schema ext; create extension citext schema ext; create table t (a ext.citext default 'x', check (a operator(ext.<>) 'y'));
             create function f(ext.citext) returns ext.citext language sql as $$ select $1 $$",
        ),
    ] {
        let first = read_sql(&mut connection, one).await;
        let second = read_sql(&mut connection, other).await;
        assert_same(&compare(&first, &second));
        assert_eq!(first.digest(), second.digest(), "{other}");
    }
}

/// Each of the others is not what the first is.
#[tokio::test]
async fn what_means_something_else_is_different() {
    let database = local_servers::postgres().create_database("sql");
    let mut connection = connect(&database).await;
    for sqls in [
        &[
            "create table t (id serial)",
            "create table t (id integer not null)",
            "create table t (id bigserial)",
            "create table t (id integer generated by default as identity)",
            "create sequence s; create table t (id integer not null default nextval('s')); create table u (id integer default nextval('s'))",
        ][..],
        &[
            "create table t (a integer)",
            "create unlogged table t (a integer)",
            "create view t as select 1 as a",
            "create table t (a integer) partition by list (a)",
            "create table t (a integer not null)",
        ],
        &[
            "create table t (a integer generated always as identity)",
            "create table t (a integer generated by default as identity)",
        ],
        &[
            "create table t (a integer, b integer generated always as (a + 1) stored)",
            "create table t (a integer, b integer default 1)",
            "create table t (a integer, b integer generated always as (a + 2) stored)",
        ],
        &[
            "create table t (a text)",
            "create table t (a text collate \"C\")",
            "create table t (a varchar)",
            "create table t (a varchar(5))",
        ],
        &[
            "create table t (a integer unique)",
            "create table t (a integer); create unique index on t (a)",
            "create table t (a integer unique deferrable)",
        ],
        &[
            "create table t (a text); create index on t (a)",
            "create table t (a text); create index on t (a desc)",
            "create table t (a text); create index on t (a nulls first)",
            "create table t (a text); create index on t (a text_pattern_ops)",
            "create table t (a text); create index on t (a collate \"C\")",
            "create table t (a text); create index on t using hash (a)",
            "create table t (a text); create index on t (lower(a))",
            "create table t (a text); create index on t (a) where a <> ''",
        ],
        &[
            "create table t (a text collate \"C\"); create index on t (a)",
            "create table t (a text collate \"C\"); create index on t (a collate \"default\")",
        ],
        &[
            "create table t (a integer check (a > 0))",
            "create table t (a integer check (a >= 0))",
            "create table t (a integer); alter table t add check (a > 0) not valid",
        ],
        &[
            "create type e as enum ('a', 'b')",
            "create type e as enum ('b', 'a')",
            "create type e as enum ('a')",
        ],
        &[
            "create domain d as text",
            "create domain d as text not null",
            "create domain d as text check (value <> '')",
            "create domain d as varchar",
        ],
        &[
            "create function f(a integer) returns integer language sql as $$ select 1 $$",
            "create function f(a bigint) returns integer language sql as $$ select 1 $$",
            "create function f(a integer) returns bigint language sql as $$ select 1::bigint $$",
            "create procedure f(a integer) language sql as $$ select 1 $$",
        ],
        &[
            "create sequence s",
            "create sequence s increment 2",
            "create sequence s cycle",
            "create sequence s as integer",
        ],
        &[
            "create table t (a integer, b text); create view v as select a from t",
            "create table t (a integer, b text); create view v as select a from t where b <> ''",
            "create table t (a integer, b text); create view v as select a, b from t",
            "create table t (a integer, b text); create materialized view v as select a from t",
        ],
    ] {
        let first = read_sql(&mut connection, sqls[0]).await;
        for other in &sqls[1..] {
            let second = read_sql(&mut connection, other).await;
            let both = [compare(&first, &second), compare(&second, &first)];
            assert!(both.iter().any(|difference| !difference.is_proof()), "{other}: {} {}", both[0], both[1]);
            assert_ne!(first.digest(), second.digest(), "{other}");
        }
    }
}

/// What the SQL makes, rolled back again.
async fn read_sql(connection: &mut PgConnection, sql: &str) -> Catalog {
    execute(connection, &format!("begin; {sql}")).await;
    let catalog = introspect(connection, &["public".to_owned()], &Exclude::default()).await;
    execute(connection, "rollback").await;
    catalog.expect("the catalog can be read")
}

#[tokio::test]
async fn what_does_not_belong_to_the_application_is_left_out() {
    let database = local_servers::postgres().create_database("left_out");
    database.execute("create table t (a integer)");
    let before = read(&database).await;
    database.execute(
        "create schema other; create table other.t (id serial primary key);
         create schema tandem; create table tandem.ledger (id serial primary key);
         create table alembic_version (id serial primary key, version_num varchar(32) not null check (version_num <> ''));
         create index on alembic_version (version_num);
         create table other.alembic_version (id serial)",
    );
    let mut connection = connect(&database).await;
    execute(
        &mut connection,
        "create temp table t (b text); create temp sequence s; create temp view v as select 1 as a",
    )
    .await;
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let adoption = own(&["alembic_version"]);
    let exclude = Exclude { ledger_schema: "tandem", adoption_tables: &adoption };
    let after = introspect(&mut connection, &own(&["public", "tandem"]), &exclude).await.unwrap();
    assert_eq!(after, before);

    let several = read_schemas(&database, &["public", "other"], &["public.alembic_version"]).await;
    let found = names(&several.objects.into_keys().collect::<Vec<_>>());
    let expected = [
        "table other.alembic_version",
        "column other.alembic_version.id",
        "sequence of other.alembic_version.id",
        "table other.t",
        "column other.t.id",
        "sequence of other.t.id",
        "PRIMARY KEY (id) on other.t",
        "table t",
        "column t.a",
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn reading_depends_on_no_setting_and_leaves_none_changed() {
    let database = local_servers::postgres().create_database("settings");
    database.execute(EVERYTHING);
    database.execute("create table dated (a timestamptz default '2024-02-01 00:00+00', b interval default '1 day 2 hours', c bytea default '\\x01')");
    let expected = read(&database).await;
    let hostile = "set search_path = public, pg_catalog; set datestyle = 'SQL, DMY'; set intervalstyle = 'sql_standard';
        set timezone = 'Asia/Tokyo'; set bytea_output = 'escape'; set quote_all_identifiers = on; set standard_conforming_strings = off;
        create function public.quote_ident(name) returns text language sql as $$ select 'wrong' $$";
    let settings = "select concat_ws('|', current_setting('search_path'), current_setting('datestyle'), current_setting('intervalstyle'),
        current_setting('timezone'), current_setting('bytea_output'), current_setting('quote_all_identifiers'), current_setting('jit'))";
    let mut connection = connect(&database).await;
    execute(&mut connection, hostile).await;
    let schemas = ["public".to_owned()];
    for (begin, end) in
        [("select 1", "select 1"), ("begin read only", "commit"), ("begin; savepoint s", "rollback")]
    {
        execute(&mut connection, begin).await;
        let before: String = sqlx::query_scalar(settings).fetch_one(&mut connection).await.unwrap();
        let mut catalog = introspect(&mut connection, &schemas, &Exclude::default()).await.unwrap();
        let after: String = sqlx::query_scalar(settings).fetch_one(&mut connection).await.unwrap();
        execute(&mut connection, end).await;
        catalog.objects.retain(|id, _| id.name != "quote_ident(name)");
        assert_eq!(
            effects(&catalog, &expected),
            Effects { server: expected.server, ..Effects::default() },
            "{begin}"
        );
        assert_eq!(before, after, "{begin}");
    }
}

#[tokio::test]
async fn a_transaction_reads_what_it_has_changed_itself() {
    let database = local_servers::postgres().create_database("own");
    let mut connection = connect(&database).await;
    execute(&mut connection, "begin; create table t (a integer)").await;
    let catalog = introspect(&mut connection, &["public".to_owned()], &Exclude::default()).await.unwrap();
    assert_eq!(names(&catalog.objects.into_keys().collect::<Vec<_>>()), ["table t", "column t.a"]);
    assert_eq!(read(&database).await.objects.len(), 0);
}

#[tokio::test]
async fn definitions_are_what_the_server_prints() {
    let database = local_servers::postgres().create_database("printed");
    database.execute(
        &EVERYTHING.replace("create extension citext", "create extension citext with schema public"),
    );
    database.execute(&whisperengine(1).replace("create extension if not exists pg_trgm;", ""));
    let mut connection = connect(&database).await;
    execute(&mut connection, "set search_path = ''").await;
    let printed: Vec<String> = sqlx::query_scalar(
        "select replace(pg_get_indexdef(indexrelid), 'public.gin_trgm_ops', 'gin_trgm_ops') from pg_index join pg_class c on c.oid = indexrelid
         where relnamespace = 'public'::regnamespace and not relispartition
         and not exists (select from pg_constraint where conindid = indexrelid and contype in ('p', 'u', 'x'))",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let catalog = read(&database).await;
    let read: BTreeSet<String> = catalog
        .objects
        .into_values()
        .filter_map(|object| match object.detail {
            Detail::Index(index) => Some(index.definition),
            _ => None,
        })
        .collect();
    let printed: BTreeSet<String> = printed.into_iter().collect();
    assert_eq!(read.symmetric_difference(&printed).collect::<Vec<_>>(), [""; 0]);
}

#[tokio::test]
async fn an_index_that_was_not_finished_is_different() {
    let database = local_servers::postgres().create_database("invalid");
    database.execute("create table t (a integer); insert into t values (1), (1)");
    let mut connection = connect(&database).await;
    let build = sqlx::raw_sql("create unique index concurrently i on t (a)").execute(&mut connection).await;
    assert!(build.is_err(), "there are duplicates");
    let found = read(&database).await;
    database.execute("drop index i; delete from t; create unique index i on t (a)");
    let difference = compare(&found, &read(&database).await);
    assert_eq!(
        difference.to_string(),
        "different: index UNIQUE btree(a) on t: expected valid; found invalid"
    );

    // A sound one of the same structure stands for it, whatever they are called.
    database.execute("create unique index z on t (a)");
    let expected = read(&database).await;
    database.execute("update pg_index set indisvalid = false where indexrelid = 'i'::regclass");
    let difference = compare(&read(&database).await, &expected);
    let found = difference.different.iter().map(|different| different.id.to_string()).collect::<Vec<_>>();
    assert_eq!(found, ["index UNIQUE btree(a) on t (2 of the same)"]);
}

#[tokio::test]
async fn what_a_partition_has_from_its_parent_is_no_object_of_its_own() {
    let database = local_servers::postgres().create_database("partition");
    let mut connection = connect(&database).await;
    let catalog = read_sql(
        &mut connection,
        "create table r (id integer primary key);
         create function f() returns trigger language plpgsql as $$ begin return new; end $$;
         create table p (id integer primary key, a integer references r check (a > 0)) partition by range (id);
         create index on p (a);
         create trigger g after insert on p for each row execute function f();
         create table c partition of p for values from (1) to (2);
         create index on c (a, id);
         create table q (id integer references p)",
    )
    .await;
    let of = |relation: &str| {
        names(&catalog.objects.keys().filter(|id| id.relation == relation).cloned().collect::<Vec<_>>())
    };
    assert_eq!(of("c"), ["table c", "column c.a", "column c.id", "index btree(a, id) on c"]);
    assert_eq!(of("q"), ["table q", "column q.id", "FOREIGN KEY (id) REFERENCES public.p(id) on q"]);
}
