//! What is rendered from a catalog makes the same catalog again.

use crate::{EVERYTHING, assert_same, connect, execute, names, read, whisperengine};
use local_servers::{Database, PgVersion, Postgres};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use tandem::catalog::render::{complete, render};
use tandem::catalog::{Catalog, Kind, compare};

async fn make(database: &Database, statements: &[tandem::catalog::render::Statement]) {
    let mut connection = connect(database).await;
    execute(&mut connection, "set check_function_bodies = off").await;
    for statement in statements {
        execute(&mut connection, &statement.sql).await;
    }
}

async fn again(server: &Postgres, catalog: &Catalog) -> Catalog {
    let completion = render(catalog);
    assert_eq!(completion.impossible, []);
    let database = server.create_database("rendered");
    make(&database, &completion.statements).await;
    read(&database).await
}

/// Equal in all that is compared, and in names and comments.
#[track_caller]
fn assert_identical(made: &Catalog, wanted: &Catalog) {
    assert_same(&compare(made, wanted));
    assert_same(&compare(wanted, made));
    for (id, object) in &wanted.objects {
        assert_eq!(made.objects[id].comment, object.comment, "{id}");
    }
}

#[tokio::test]
async fn the_head_of_the_application_is_rendered_whole() {
    for version in [PgVersion::V16, PgVersion::V18] {
        let server = Postgres::shared(version).unwrap();
        let database = server.create_database("head");
        database.execute(&whisperengine(i64::MAX));
        let catalog = read(&database).await;
        let tables = catalog.objects.keys().filter(|id| id.kind == Kind::Table).count();
        assert_eq!(tables, 97);
        assert_identical(&again(&server, &catalog).await, &catalog);
    }
}

#[tokio::test]
async fn every_kind_of_object_is_rendered() {
    for version in [PgVersion::V14, PgVersion::V16, PgVersion::V18] {
        let server = Postgres::shared(version).unwrap();
        let database = server.create_database("everything");
        database.execute(EVERYTHING);
        // The server cannot print what an aggregate is made of.
        database.execute("drop aggregate longest(text); alter table child force row level security");
        let catalog = read(&database).await;
        assert_identical(&again(&server, &catalog).await, &catalog);
    }
}

#[tokio::test]
async fn any_part_that_was_dropped_comes_back_and_nothing_else_changes() {
    let server = Postgres::shared(PgVersion::V16).unwrap();
    for damage in [
        "drop table child cascade",
        "drop view overview, plain",
        "alter table child drop constraint child_parent_id_fkey",
        "alter table child drop constraint child_pkey",
        "alter table parent alter column id drop default",
        "alter table parent alter column code drop not null",
        "alter table parent alter column code drop default",
        "alter table parent drop column doubled",
        "alter table parent drop column number, drop column place",
        "drop sequence child_id_seq cascade",
        "drop trigger touched on parent; drop function touch()",
        "drop policy own on child; alter table child disable row level security",
        "drop materialized view counted",
        "drop table events_rest",
        "drop table events",
        "update pg_index set indisvalid = false where indexrelid = 'child_note_idx'::regclass",
        "alter table child drop constraint child_parent_id_fkey;
         alter table child add foreign key (parent_id) references parent (id) on delete cascade not valid",
        "drop type span; drop domain score cascade; drop type pair",
    ] {
        let database = server.create_database("damaged");
        database.execute(EVERYTHING);
        let wanted = read(&database).await;
        database
            .execute("create table mine (id integer primary key); alter table parent add column own text");
        database.execute(damage);
        let damaged = read(&database).await;
        assert!(!compare(&damaged, &wanted).is_proof(), "{damage}");
        let completion = complete(&damaged, &wanted);
        assert_eq!(completion.impossible, [], "{damage}");
        make(&database, &completion.statements).await;
        let mended = read(&database).await;
        let difference = compare(&mended, &wanted);
        assert!(difference.is_proof(), "{damage}: {difference}");
        let before = damaged.objects.keys().filter(|id| !mended.objects.contains_key(id));
        assert_eq!(before.count(), 0, "{damage}: something is gone");
        assert!(complete(&mended, &wanted).is_empty(), "{damage}");
    }
}

#[tokio::test]
async fn what_is_there_in_another_form_is_not_touched() {
    let database = Postgres::shared(PgVersion::V16).unwrap().create_database("other");
    database.execute(EVERYTHING);
    let wanted = read(&database).await;
    database.execute(
        "alter table parent alter column tags type varchar(9)[]; alter table parent alter column code set default 'b';
         drop view plain; create view plain as select id from child; alter table parent alter column ratio set not null",
    );
    let completion = complete(&read(&database).await, &wanted);
    assert_eq!(completion.statements, []);
    let impossible: Vec<_> = completion.impossible.iter().map(|different| different.id.clone()).collect();
    assert_eq!(
        names(&impossible),
        ["column parent.code", "column parent.ratio", "column parent.tags", "view plain"]
    );
}

#[tokio::test]
async fn a_sequence_goes_on_behind_the_values_that_are_there() {
    let database = Postgres::shared(PgVersion::V16).unwrap().create_database("sequence");
    let mut connection = connect(&database).await;
    execute(&mut connection, "create table t (id serial primary key)").await;
    let wanted = read(&database).await;
    execute(&mut connection, "drop sequence t_id_seq cascade; insert into t values (41)").await;
    make(&database, &complete(&read(&database).await, &wanted).statements).await;
    execute(&mut connection, "insert into t default values").await;
    let newest: i32 = sqlx::query_scalar("select max(id) from t").fetch_one(&mut connection).await.unwrap();
    assert_eq!(newest, 42);
}

/// Tables with names that need quotes, every usual type, default, key, check and index, and references between them.
pub fn any_schema() -> impl Strategy<Value = String> {
    let column = (0..9usize, any::<bool>(), any::<bool>()).prop_map(|(kind, not_null, default)| {
        let (kind, value) = [
            ("integer", "7"),
            ("bigint", "-1"),
            ("text", "'it''s'"),
            ("varchar(40)", "'a'"),
            ("numeric(6,2)", "0.50"),
            ("timestamptz", "now()"),
            ("jsonb", "'{\"a\": [1]}'"),
            ("text[]", "'{a,b}'"),
            ("boolean", "true"),
        ][kind];
        let default = if default { format!(" default {value}") } else { String::new() };
        format!("{kind}{default}{}", if not_null { " not null" } else { "" })
    });
    let table = (prop::collection::vec(column, 1..7), 0..4u8, 0..5u8, prop::option::of(0..6usize));
    prop::collection::vec(table, 1..6).prop_map(|tables| {
        let mut sql = String::new();
        for (at, (columns, key, index, target)) in tables.iter().enumerate() {
            let table = format!("\"Table {at}\"");
            let key = match key {
                0 => "id serial primary key",
                1 => "id bigint generated always as identity (start 5 increment 3) primary key",
                2 => "id uuid default gen_random_uuid() unique",
                _ => "id integer generated by default as identity, constraint \"odd key NUMBER\" unique (id)",
            };
            let body: Vec<String> =
                columns.iter().enumerate().map(|(n, column)| format!("\"column {n}\" {column}")).collect();
            let key = key.replace("NUMBER", &at.to_string());
            sql.push_str(&format!("create table {table} ({key}, {});\n", body.join(", ")));
            sql.push_str(&match index {
                0 => format!("create index on {table} (\"column 0\" desc);\n"),
                1 => format!("create unique index on {table} (id, \"column 0\") where id is not null;\n"),
                2 => format!("create index on {table} ((\"column 0\" is null));\n"),
                3 => format!("alter table {table} add constraint c{at} check (\"column 0\" is not null or id is not null);\n"),
                _ => format!("comment on table {table} is 'it''s {at}';\n"),
            });
            if let Some(target) = target.filter(|target| *target < at) {
                let kind = if tables[target].1 == 2 { "uuid" } else if tables[target].1 == 1 { "bigint" } else { "integer" };
                sql.push_str(&format!(
                    "alter table {table} add column of {kind} references \"Table {target}\" (id) on delete set null;\n"
                ));
            }
            sql.push_str(&format!("create view \"View {at}\" as select * from {table};\n"));
        }
        sql
    })
}

#[tokio::test]
async fn any_generated_schema_is_rendered_whole() {
    let server = Postgres::shared(PgVersion::V16).unwrap();
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    for _ in 0..40 {
        let sql = any_schema().new_tree(&mut runner).expect("a schema").current();
        let database = server.create_database("generated");
        database.execute(&sql);
        let catalog = read(&database).await;
        let made = again(&server, &catalog).await;
        let difference = compare(&made, &catalog);
        assert!(difference.is_proof() && difference.extra.is_empty(), "{sql}\n{difference}");
        assert_identical(&made, &catalog);
    }
}
