//! Reading again behind each of several versions: what was not read once more is as if it had been.

use super::render::any_schema;
use super::{EVERYTHING, whisperengine};
use local_servers::{Database, PgVersion, Postgres};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sqlx::{Connection as _, PgConnection};
use std::collections::BTreeSet;
use std::rc::Rc;
use tandem::catalog::{Catalog, Effects, effects};
use tandem::postgres::again::{Again, Prints, prints_of, read_again};
use tandem::postgres::detector;
use tandem::postgres::introspect::{Exclude, introspect};
use tandem::postgres::session::Session;

/// A session that reads after every step, both ways.
struct Run {
    session: Session,
    seen: Option<(Prints, Catalog)>,
    partly: usize,
}

fn exclude() -> Exclude<'static> {
    Exclude { ledger_schema: "tandem", adoption_tables: &[] }
}

impl Run {
    async fn on(database: &Database) -> Self {
        let connection = PgConnection::connect(&database.url()).await.unwrap();
        Self { session: Session::new(connection, Rc::default()), seen: None, partly: 0 }
    }

    async fn step(&mut self, sql: &str) {
        self.session.run("a step", sql.to_owned()).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let schemas = ["public".to_owned()];
        let before = self.seen.as_ref().map(|(prints, catalog)| (prints, catalog));
        let Again { catalog, prints, whole } =
            read_again(&mut self.session, &schemas, &exclude(), before).await.unwrap();
        let mut expected = introspect(self.session.connection(), &schemas, &exclude()).await.unwrap();
        // A comment is no evidence and not watched.
        let mut found = catalog.clone();
        for object in found.objects.values_mut().chain(expected.objects.values_mut()) {
            object.comment = None;
        }
        let nothing = Effects { server: expected.server, ..Effects::default() };
        assert_eq!(effects(&found, &expected), nothing, "{sql}");
        self.partly += usize::from(!whole);
        self.seen = Some((prints, catalog));
    }
}

/// What depends on the names of others, beside what there is of everything.
const DEPENDENT: &str = "
drop sequence standalone;
create function atomic() returns bigint begin atomic select count(code) from parent; end;
create function seed() returns integer language sql as $$ select 1 $$;
create table seeded (a integer default seed(), b integer, code text check (code <> 'x'), feeling mood default 'happy');
create policy peers on seeded using (b in (select id from parent where code is not null));
alter table seeded enable row level security;
create view joined as select code, id, b from parent join seeded using (code);
create table other (id integer default nextval('parent_id_seq'));
create table pointing (to_parent integer references parent (id));
create schema elsewhere;
create table elsewhere.far (id integer primary key);
create table near (far integer references elsewhere.far (id));
";

/// One step each; the first read is whole.
const STEPS: &[&str] = &[
    "select 1",
    "create table t (a serial primary key, b text)",
    "insert into t (b) values ('x')",
    "alter table t add c integer references parent (id)",
    "create index on t (b)",
    "savepoint s; create index on t (c); release savepoint s",
    "alter table t add d text default 'd'",
    "savepoint s; create table gone (a integer); rollback to savepoint s",
    "alter table t alter d set default 'e'",
    "alter table t alter d drop default, alter b set not null",
    "alter table t alter c type bigint",
    "alter table t add constraint k check (c > 0) not valid",
    "alter table t validate constraint k",
    "alter table t rename constraint k to l",
    "alter table t drop constraint l",
    "alter table t drop constraint t_c_fkey",
    "create trigger g before insert on t for each row execute function touch()",
    "alter table t disable trigger g",
    "drop trigger g on t",
    "create policy y on t using (c > 1)",
    "alter policy y on t using (c > 2)",
    "alter table t enable row level security",
    "drop policy y on t",
    "comment on table t is 'a comment'",
    "create view over_t as select * from t",
    "create or replace view over_t as select a, b, c, d, 1 as e from t",
    "create view over_over as select e from over_t; create function over_body() returns bigint begin atomic select count(e) from over_t; end",
    "create policy over_policy on seeded using (b in (select e from over_t))",
    "alter view over_t rename column e to f",
    "create materialized view kept as select b from over_t",
    "create index on kept (b)",
    "drop materialized view kept",
    "alter index t_b_idx rename to renamed_idx",
    "update pg_index set indisvalid = false where indexrelid = 'renamed_idx'::regclass",
    "update pg_index set indisvalid = true where indexrelid = 'renamed_idx'::regclass",
    "drop view over_t cascade; drop table t",
    "create table t (z integer)",
    "drop table t; create table t (y integer primary key)",
    "create table u (like parent including all)",
    "alter table parent add added integer default 3",
    "alter table parent rename column added to renamed",
    "alter table parent rename column code to kode",
    "alter table parent rename column id to ident",
    "alter table parent rename to elder",
    "alter table elder drop column kode cascade",
    "alter table elder alter ratio type numeric",
    "alter function seed() rename to seeding",
    "create or replace function seeding() returns integer language sql as $$ select 2 $$",
    "create function more(a integer) returns integer language sql as $$ select 2 $$",
    "drop function more(integer)",
    "drop function seeding() cascade",
    "alter type mood rename value 'happy' to 'glad'",
    "alter type mood rename to humour",
    "create type another as enum ('a', 'b'); alter table t add kind another default 'a'",
    "alter type pair add attribute c text",
    "create type trio as (a integer, b integer, c integer)",
    "create domain small as integer check (value < 5)",
    "alter domain score add check (value <> 5)",
    "alter sequence child_id_seq increment 5",
    "alter sequence parent_id_seq rename to elder_seq",
    "create sequence loose; alter table t add loose integer default nextval('loose')",
    "alter sequence loose owned by t.loose",
    "alter sequence loose owned by none",
    "alter sequence loose owned by child.note",
    "drop table t",
    "create table q (a integer)",
    "alter table events detach partition events_rest",
    "alter table events attach partition events_rest default",
    "create table events_2025 partition of events for values from ('2025-01-01 00:00+00') to ('2026-01-01 00:00+00')",
    "alter table events add extra text",
    "drop table events_2025",
    "alter table base add more integer default 1",
    "alter table derived no inherit base",
    "alter table derived inherit base",
    "alter table base rename column a to first",
    "alter schema elsewhere rename to nowhere",
    "alter table nowhere.far rename column id to ident",
    "alter table nowhere.far rename to farther",
    "alter table near set schema nowhere",
    "create temp table passing (id integer primary key)",
    "alter extension pg_trgm set schema nowhere",
    "create table member (a integer); alter extension citext add table member",
    "create extension hstore",
    "create table stored (a hstore)",
    "create collation folded (provider = libc, locale = 'C'); create table sorted (a text collate folded)",
    "alter collation folded rename to unfolded",
    "deallocate all",
    "create table last (a integer)",
    "deallocate tandem_column; alter table last add b integer",
    "set local search_path = nowhere; create table public.unseen (a integer)",
];

#[tokio::test]
async fn what_a_step_did_not_touch_is_as_if_it_were_read_again() {
    for version in [PgVersion::V14, PgVersion::V16, PgVersion::V18] {
        // In one transaction, and each step in its own.
        for (begin, end) in [("begin", "commit"), ("", "")] {
            let database = Postgres::shared(version).unwrap().create_database("again");
            database.execute(&format!("{EVERYTHING}{DEPENDENT}"));
            let mut run = Run::on(&database).await;
            run.step(begin).await;
            for step in STEPS.iter().filter(|step| !begin.is_empty() || !step.contains("savepoint")) {
                run.step(step).await;
            }
            run.session.run("the end", end).await.unwrap();
            assert!(run.partly >= 25, "only {} steps were read in part", run.partly);
        }
    }
}

#[tokio::test]
async fn a_not_null_that_is_checked_later_is_read_again() {
    let database = Postgres::shared(PgVersion::V18).unwrap().create_database("again");
    let mut run = Run::on(&database).await;
    for step in [
        "create table t (a integer, b integer generated always as (a + 1))",
        "alter table t add constraint k not null a not valid",
        "alter table t validate constraint k",
        "alter table t rename constraint k to l",
        "alter table t drop constraint l",
        "alter table t alter b set expression as (a + 2)",
    ] {
        run.step(step).await;
    }
    assert!(run.partly > 3, "only {} steps were read in part", run.partly);
}

#[tokio::test]
async fn every_version_of_whisperengine_is_read_again_as_it_is() {
    let database = local_servers::postgres().create_database("again");
    let mut run = Run::on(&database).await;
    let mut texts: Vec<String> = Vec::new();
    for version in 1..=14 {
        let so_far = whisperengine(version);
        let before: usize = texts.iter().map(|text| text.len() + 1).sum();
        if so_far.len() > before {
            texts.push(so_far[before.min(so_far.len())..].to_owned());
        }
    }
    assert!(texts.len() > 10);
    for text in &texts {
        run.step(text).await;
    }
    assert!(run.partly > 5, "only {} versions were read in part", run.partly);
}

#[tokio::test]
async fn any_generated_schema_is_read_again_as_it_is() {
    let server = local_servers::postgres();
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let mut partly = 0;
    for _ in 0..10 {
        let database = server.create_database("again");
        let mut run = Run::on(&database).await;
        let sql = any_schema().new_tree(&mut runner).expect("a schema").current();
        let names: BTreeSet<&str> = sql.split('"').filter(|part| part.starts_with("Table ")).collect();
        for statement in sql.lines() {
            run.step(statement).await;
        }
        for name in names {
            run.step(&format!("alter table \"{name}\" add column \"one more\" text default 'x'")).await;
            run.step(&format!("alter table \"{name}\" rename column \"column 0\" to \"another\"")).await;
            run.step(&format!("alter table \"{name}\" drop column \"one more\" cascade")).await;
        }
        partly += run.partly;
    }
    assert!(partly > 50, "only {partly} statements were read in part");
}

#[tokio::test]
async fn prints_belong_to_what_the_change_detector_saw() {
    let database = local_servers::postgres().create_database("again");
    database.execute(EVERYTHING);
    let mut run = Run::on(&database).await;
    let schemas = ["public".to_owned()];
    let detector = detector::read(&mut run.session, &schemas, &exclude()).await.unwrap();
    let prints = prints_of(&mut run.session, &schemas, &exclude(), &detector).await.unwrap();
    assert!(prints.is_some());
    assert_eq!(prints, prints_of(&mut run.session, &schemas, &exclude(), &detector).await.unwrap());
    database.execute("alter table parent add more text");
    assert_eq!(prints_of(&mut run.session, &schemas, &exclude(), &detector).await.unwrap(), None);
}
