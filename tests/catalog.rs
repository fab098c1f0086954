//! Reading real databases into catalogs, and comparing what different servers and histories make of one schema.

use local_servers::{Database, PgVersion, Postgres};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::fs;
use std::path::Path;
use tandem::catalog::{Catalog, Difference, ObjectId, compare};
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
