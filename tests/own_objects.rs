//! What is the user's own beside the application's: it changes no verdict, and where it is in the way it is named with the way out.

mod common;

use common::World;
use local_servers::{PgVersion, Postgres};

fn world(first: &str, second: &str) -> World {
    let mut world = World::empty();
    world.set("QDRANT_URL", "none");
    world.version("0001_first", first, "");
    if !second.is_empty() {
        world.version("0002_second", second, "");
    }
    world.record();
    world
}

#[test]
fn a_column_of_ones_own_may_count_with_a_sequence_of_the_application() {
    let first = "create sequence numbers;\ncreate sequence tickets;\ncreate sequence \"it's Odd\";\n\
        create table users (id int primary key default nextval('numbers'), other int default nextval('\"it''s Odd\"'), rank serial);\n";
    let own = "create table mine (id int default nextval('numbers'), t int default nextval('tickets'), o int default nextval('\"it''s Odd\"'),
        r int default nextval('users_rank_seq')); alter table users add column own int default nextval('tickets')";
    for legacy in [false, true] {
        for own in [own, "create table mine (t int default nextval('tickets'))"] {
            let world = world(first, "alter table users add column name text;\n");
            if legacy {
                world.db.execute(first);
            } else {
                world.start_before("0002");
            }
            world.db.execute(own);
            let verdict = if legacy {
                "Postgres is legacy: no ledger"
            } else {
                "Postgres is versioned: the ledger says version 1"
            };
            let outcome = world.start(&["true"]).expect(0);
            assert!(outcome.stderr.contains(verdict), "{}", outcome.stderr);
            outcome.says(&["Applied version 2"]);
            world.output(["verify"]).expect(0);
            world.db.execute("insert into mine default values; insert into users default values");
        }
    }
}

#[test]
fn what_stands_on_a_converted_column_is_refused_by_name_with_the_way_out() {
    let first = "create table users (id int primary key, name text, born text);\n";
    let second = "alter table users alter column born type date using born::date, alter column name type varchar(99);\n";
    for version in [PgVersion::V14, PgVersion::V16, PgVersion::V18] {
        for (own, name, way_out) in [
            (
                "alter table users add column \"my Length\" int generated always as (length(name)) stored",
                "column users.my Length",
                "alter table users drop column \"my Length\"",
            ),
            ("create view mine as select upper(name) as n from users", "view mine", "drop view mine"),
            (
                "create function f() returns trigger language plpgsql as 'begin return new; end';
                 create trigger mine before update of born on users for each row execute function f()",
                "trigger mine on users",
                "drop trigger mine on users",
            ),
            (
                "create policy mine on users using (name <> 'x')",
                "policy mine on users",
                "drop policy mine on users",
            ),
        ] {
            let db = Postgres::shared(version).unwrap().create_database("own");
            let mut world = World::on(db, local_servers::qdrant());
            world.set("QDRANT_URL", "none");
            world.version("0001_first", first, "");
            world.version("0002_second", second, "[[archive]]\ntable = \"users\"\n");
            world.record();
            world.start_before("0002");
            world.db.execute(own);
            let before = world.state();
            world.start(&["true"]).expect(76).says(&["stand", name, "drop", "start again"]);
            assert_eq!(world.state(), before, "{own}");
            world.db.execute(way_out);
            world.start(&["true"]).expect(0);
        }
    }
}

#[test]
fn an_event_trigger_that_forbids_is_refused_by_name_with_the_way_out() {
    let first = "create table users (id int primary key, name text);\n";
    for (state, second) in [
        ("fresh", "alter table users add column nick text;\n"),
        ("versioned", "alter table users add column nick text;\n"),
        ("versioned", "-- tandem:no-transaction\ncreate index concurrently by_name on users (name);\n"),
        ("legacy", "alter table users add column nick text;\n"),
        ("partial", "alter table users add column nick text;\ncreate table more (id int);\n"),
    ] {
        let world = world(first, second);
        match state {
            "versioned" => world.start_before("0002"),
            "legacy" => world.db.execute(first),
            "partial" => {
                world.start(&["true"]).expect(0);
                world.db.execute("drop table more; alter table users drop column nick");
            }
            _ => {}
        }
        world.db.execute(
            "create schema guards; create function guards.\"No DDL\"() returns event_trigger language plpgsql
             as $$ begin raise exception 'not on a Friday'; end $$;
             create event trigger \"Keep out\" on ddl_command_start execute function guards.\"No DDL\"()",
        );
        let before = world.state();
        world.start(&["true"]).expect(76).says(&[
            "the event trigger \"Keep out\" forbids",
            "not on a Friday",
            "alter event trigger \"Keep out\" disable",
        ]);
        assert_eq!(world.state(), before, "{state}");
        world.db.execute("alter event trigger \"Keep out\" disable");
        world.start(&["true"]).expect(0);
    }
}

#[test]
fn a_function_that_names_what_is_dropped_is_warned_of_and_stops_nothing() {
    let first = "create table users (id int primary key, name text, nick text);\ncreate table old_notes (id int);\n\
        create table kept_notes (id int);\n\
        create function ours() returns bigint language sql as $$ select count(*) from old_notes $$;\n";
    let second = "drop function ours();\ndrop table old_notes;\nalter table users drop column nick;\n\
        drop table kept_notes;\ncreate table kept_notes (id int);\n";
    let world = world(first, second);
    world.start_before("0002");
    world.db.execute(
        "create schema reports; create function reports.notes(since date) returns bigint language plpgsql
             as $$ begin return (select count(*) from public.Old_Notes); end $$;
         create function nicks() returns setof text language sql as $$ select u.nick from users u $$;
         create function harmless() returns text language sql as $$ select 'cold_notes, nickname of users'::text $$;
         create function elsewhere() returns text language sql as $$ select 'nick'::text from kept_notes $$",
    );
    let plan = world.output(["plan"]);
    let warned: Vec<&str> = plan.stdout.lines().filter(|line| line.starts_with("Warning: ")).collect();
    assert_eq!(
        warned,
        [
            "Warning: your function public.nicks() names what is dropped, and breaks when it runs next: column users.nick (version 2)",
            "Warning: your function reports.notes(date) names what is dropped, and breaks when it runs next: table old_notes (version 2)",
        ]
    );
    world.start(&["true"]).expect(0).says(&["WARN your function public.nicks()", "reports.notes(date)"]);
    let quiet = world.output(["plan"]);
    assert!(!quiet.stdout.contains("Warning"), "{}", quiet.stdout);
}
