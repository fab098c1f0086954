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

const BASE: &str = "create table users (id int primary key, name text);\n\
    create function noted() returns trigger language plpgsql as $$ begin return new; end $$;\n";

/// Whatever a version puts in the place of what is there: its statement, something of the user's own of that name, how that is named, what is
/// told of both, and the way out.
const REPLACED: [(&str, &str, &str, [&str; 2], &str); 10] = [
    (
        "create or replace function mood(id int) returns text language sql as $$ select 'good' $$;",
        "create function mood(id int) returns int language sql as $$ select 42 $$",
        "your function mood(integer) is in the way: version 2 makes another one",
        [
            "RETURNS integer LANGUAGE sql AS $function$ select 42 $function$",
            "RETURNS text LANGUAGE sql AS $function$ select 'good' $function$",
        ],
        "alter function public.mood(integer) rename to mood_own",
    ),
    (
        "create or replace procedure mood(id int) language sql as $$ select 1 $$;",
        "create function mood(id int) returns int language sql as $$ select 42 $$",
        "your function mood(integer)",
        ["RETURNS integer", "PROCEDURE public.mood(IN id integer)"],
        "alter function public.mood(integer) rename to mood_own",
    ),
    (
        "create or replace aggregate mood(int) (sfunc = int4pl, stype = int);",
        "create aggregate mood(int) (sfunc = int4_sum, stype = bigint)",
        "your function mood(integer)",
        ["aggregate returns bigint", "aggregate returns integer"],
        "alter aggregate public.mood(integer) rename to mood_own",
    ),
    (
        "create or replace view mood as select id, name from users;",
        "create view mood as select id, upper(name) as name from users",
        "your view mood",
        [
            "SELECT id, upper(name) AS name FROM public.users; version 2 makes",
            "version 2 makes: SELECT id, name FROM",
        ],
        "alter view \"public\".\"mood\" rename to \"mood_own\"",
    ),
    (
        "drop materialized view if exists mood;\ncreate materialized view mood as select id, name from users;",
        "create materialized view mood as select id from users",
        "your materialized view mood",
        ["FROM public.users", "name FROM public.users"],
        "alter table \"public\".\"mood\" rename to \"mood_own\"",
    ),
    (
        "create or replace trigger mood before insert on users for each row execute function noted();",
        "create trigger mood after update on users for each row execute function noted()",
        "your trigger mood on users",
        ["CREATE TRIGGER mood AFTER UPDATE", "CREATE TRIGGER mood BEFORE INSERT"],
        "alter trigger mood on public.users rename to mood_own",
    ),
    (
        "drop trigger if exists mood on users;\ncreate trigger mood before insert on users for each row execute function noted();",
        "create trigger mood after update on users for each row execute function noted()",
        "your trigger mood on users",
        ["CREATE TRIGGER mood AFTER UPDATE", "CREATE TRIGGER mood BEFORE INSERT"],
        "alter trigger mood on public.users rename to mood_own",
    ),
    (
        "drop policy if exists mood on users;\ncreate policy mood on users using (true);",
        "create policy mood on users using (id > 7)",
        "your policy mood on users",
        ["using id > 7", "using true"],
        "alter policy mood on public.users rename to mood_own",
    ),
    (
        "drop type if exists mood;\ncreate type mood as enum ('good', 'bad');",
        "create type mood as enum ('up', 'down')",
        "your enum mood",
        ["up, down", "good, bad"],
        "alter type public.mood rename to mood_own",
    ),
    (
        "drop domain if exists mood;\ncreate domain mood as text;",
        "create domain mood as text check (value <> '')",
        "your domain mood",
        ["text CHECK", "makes: text"],
        "alter domain public.mood rename to mood_own",
    ),
];

/// In the way of a version to come, of one that a repair runs, and of a first installation beside what is there.
#[test]
fn what_is_the_users_own_is_not_replaced_by_what_a_version_makes() {
    for (makes, own, named, forms, way_out) in REPLACED {
        let mut recorded = World::empty();
        recorded.set("QDRANT_URL", "none");
        recorded.version("0001_first", BASE, "");
        recorded.version("0002_second", &format!("create table more (id int);\n{makes}\n"), "");
        recorded.version("0003_third", "create table last (id int);\n", "");
        recorded.record();
        for state in ["versioned", "repair", "beside"] {
            let mut world = recorded.sibling();
            world.set("QDRANT_URL", "none");
            match state {
                "versioned" => _ = world.output(["upgrade", "1"]).expect(0),
                "repair" => world.db.execute(&format!("{BASE}create table last (id int)")),
                _ if own.contains("users") => continue,
                _ => world.set("TANDEM_INSTALL_BESIDE", "true"),
            }
            world.db.execute(own);
            let before = definitions(&world);
            for command in [&["plan"][..], &["run", "--", "true"]] {
                world.output(command).expect(76).says(&[named, way_out]).says(&forms);
                assert_eq!(definitions(&world), before, "{state}: {own}");
            }
            world.db.execute(way_out);
            world.start(&["true"]).expect(0);
            world.output(["verify"]).expect(0);
            let after = definitions(&world);
            assert!(
                before.lines().all(|line| after.contains(&line.replace("mood", "mood_own"))),
                "{state}: {before}\n{after}"
            );
        }
    }
}

/// The objects called `mood` or `mood_own`, each with what makes it.
fn definitions(world: &World) -> String {
    world.query(
        "set search_path = ''; select string_agg(text, E'\\n') from (
           select replace(pg_get_functiondef(oid), E'\\n', ' ') as text from pg_catalog.pg_proc where proname ~ '^mood' and prokind <> 'a'
           union all select proname || ' ' || aggtransfn from pg_catalog.pg_proc join pg_catalog.pg_aggregate on aggfnoid = pg_proc.oid where proname ~ '^mood'
           union all select relname || replace(pg_get_viewdef(oid), E'\\n', ' ') from pg_catalog.pg_class where relname ~ '^mood' and relkind in ('v', 'm')
           union all select pg_get_triggerdef(oid) from pg_catalog.pg_trigger where tgname ~ '^mood'
           union all select polname || ' ' || pg_get_expr(polqual, polrelid) from pg_catalog.pg_policy where polname ~ '^mood'
           union all select typname || ' ' || enumlabel from pg_catalog.pg_type t join pg_catalog.pg_enum on enumtypid = t.oid where typname ~ '^mood'
           union all select typname || ' ' || pg_get_constraintdef(c.oid) from pg_catalog.pg_type t join pg_catalog.pg_constraint c on contypid = t.oid where typname ~ '^mood'
         ) all_of_them (text)",
    )
}

/// What is there as the version makes it, bodies aside, is as good as made; a body that goes is told.
#[test]
fn what_is_there_as_a_version_makes_it_is_no_obstacle() {
    for (makes, own, told) in [
        (
            REPLACED[0].0,
            "create function mood(id int) returns text language sql as $$ select 'good' $$",
            None,
        ),
        (
            REPLACED[0].0,
            "create function mood(id int) returns text language sql as $$ select 'mine' $$",
            Some("your function mood(integer) is in the place of the one that version 2 makes"),
        ),
        (
            "create or replace view mood as select id from users;",
            "create view mood as select users.id from public.users",
            None,
        ),
        (
            REPLACED[5].0,
            "create trigger mood before insert on users for each row execute function noted()",
            None,
        ),
        (REPLACED[7].0, "create policy mood on users using (true)", None),
    ] {
        // What it converts keeps it from being whole, so that it is run.
        let world = world(BASE, &format!("alter table users alter column name type varchar(99);\n{makes}\n"));
        world.start_before("0002");
        world.db.execute(own);
        let outcome = world.start(&["true"]).expect(0);
        match told {
            Some(told) => _ = outcome.says(&[told, "select 'mine'"]),
            None => assert!(!outcome.stderr.contains("WARN"), "{}", outcome.stderr),
        }
    }
}

/// What an earlier version made is the application's.
#[test]
fn what_an_earlier_version_made_is_replaced_by_a_later_one() {
    let first = format!(
        "{BASE}create schema aside;\ncreate function f(a int) returns int language sql as $$ select 1 $$;\ncreate view v as select id from users;\n\
         create function aside.f(a int) returns int language sql as $$ select 1 $$;\ncreate view aside.v as select 1 as a;\n\
         do $$ begin create rule kept as on delete to users do also notify users; end $$;\n\
         create trigger t before insert on users for each row execute function noted();\n"
    );
    let second = "create or replace function f(a int) returns int language sql as $$ select 2 $$;\n\
        create or replace view v as select id, name from users;\n\
        create or replace function aside.f(a int) returns int language sql as $$ select 2 $$;\ncreate or replace view aside.v as select 2 as a;\n\
        create or replace rule kept as on delete to users do also notify more;\n\
        create or replace trigger t after insert on users for each row execute function noted();\ncreate table more (id int);\n";
    for state in ["versioned", "fresh", "repair", "downgrade"] {
        let mut world = World::empty();
        world.set("QDRANT_URL", "none");
        world.version("0001_first", &first, "");
        world.version("0002_second", second, "");
        world.version("0003_third", "create table last (id int);\n", "");
        world.migrations.write("0002_second.down.sql", 
            "drop view v;\ncreate view v as select id from users;\ncreate or replace rule kept as on delete to users do also notify users;\n\
             create or replace trigger t before insert on users for each row execute function noted();\ndrop table more;\n");
        world.migrations.write("0003_third.down.sql", "drop table last;\n");
        world.record();
        match state {
            "versioned" => world.start_before("0002"),
            "repair" => world.db.execute(&format!("{first}create table last (id int)")),
            _ => {}
        }
        let outcome = world.start(&["true"]).expect(0);
        assert!(!outcome.stderr.contains("WARN"), "{}", outcome.stderr);
        if state == "downgrade" {
            world.output(["downgrade", "1"]).expect(0);
            world.start(&["true"]).expect(0);
        }
        assert_eq!(world.query("select f(1)::text || aside.f(1) || pg_get_ruledef(oid) from pg_rewrite where rulename = 'kept'").matches("22").count(), 1);
    }
}

/// What no catalog shows: rules, and whatever is outside of the managed schemas.
#[test]
fn what_no_catalog_shows_is_not_replaced_either() {
    let cases = [
        (
            "create or replace rule mine as on delete to users do also notify users;",
            "create rule mine as on delete to users do also notify deleted",
            [
                "rule mine on table public.users. It is now: CREATE RULE mine AS ON DELETE TO public.users DO NOTIFY deleted",
                "DO NOTIFY users",
            ],
            "alter rule mine on public.users rename to mine_own",
        ),
        (
            "create or replace function aside.\"Mine\"(a text) returns text language sql as $$ select 'version' $$;",
            "create function aside.\"Mine\"(a text) returns text language sql as $$ select 'mine' $$",
            ["function aside.\"Mine\"(text). It is now: CREATE OR REPLACE FUNCTION", "select 'version'"],
            "alter function aside.\"Mine\"(pg_catalog.text) rename to \"Mine_own\"",
        ),
        (
            "create or replace view aside.mine as select 1 as a;",
            "create view aside.mine as select 2 as a",
            ["view aside.mine. It is now: SELECT 2 AS a", "it would be: SELECT 1 AS a"],
            "alter view aside.mine rename to \"mine_own\"",
        ),
        (
            "do $$ begin execute format('create or replace trigger mine before insert on %s for each row execute function noted()', 'aside.notes'); end $$;",
            "create trigger mine before update on aside.notes for each row execute function noted()",
            [
                "trigger mine on table aside.notes. It is now: CREATE TRIGGER mine BEFORE UPDATE",
                "CREATE TRIGGER mine BEFORE INSERT",
            ],
            "alter trigger mine on aside.notes rename to mine_own",
        ),
    ];
    let base = format!("{BASE}create schema aside;\ncreate table aside.notes (id int);\n");
    for (makes, own, says, way_out) in cases {
        for state in ["versioned", "repair"] {
            let mut world = World::empty();
            world.set("QDRANT_URL", "none");
            world.version("0001_first", &base, "");
            world.version("0002_second", &format!("create table more (id int);\n{makes}\n"), "");
            world.version("0003_third", "create table last (id int);\n", "");
            world.record();
            match state {
                "versioned" => world.start_before("0002"),
                _ => world.db.execute(&format!("{base}create table last (id int)")),
            }
            world.db.execute(own);
            world
                .start(&["true"])
                .expect(76)
                .says(&["would replace what is not the application's"])
                .says(&says)
                .says(&[way_out.split(' ').next().unwrap()]);
            assert_eq!(
                world.query("select count(*)::text from pg_class where relname in ('more', 'mine_own')"),
                "0"
            );
            world.db.execute(way_out);
            world.start(&["true"]).expect(0);
            // Once more there, as the version has it.
            world.output(["verify"]).expect(0);
        }
    }
}

/// IF NOT EXISTS takes what is there for the version's own, and DROP IF EXISTS takes it away.
#[test]
fn what_has_the_name_of_something_that_a_version_makes_is_left_alone() {
    let first = format!("{BASE}create type mood as enum ('good', 'bad');\n");
    for (second, own, says, way_out) in [
        (
            "create index if not exists mine on users (name);\n",
            "create index mine on users (id)",
            "your index mine on users (CREATE INDEX mine ON public.users USING btree (id)) has the name of something that it makes",
            "alter index public.mine rename to mine_own",
        ),
        (
            "drop index if exists mine;\ncreate index mine on users (name);\n",
            "create index mine on users (id)",
            "would take away what it is not known to drop, so it was rolled back: index mine on users (CREATE INDEX mine",
            "alter index public.mine rename to mine_own",
        ),
        (
            "alter table users drop constraint if exists mine, add constraint mine check (id > 0);\n",
            "alter table users add constraint mine check (id > 7)",
            "so it was rolled back: constraint mine on users (CHECK ((id > 7)))",
            "alter table public.users rename constraint mine to mine_own",
        ),
        (
            "alter table users add column if not exists mine int;\n",
            "alter table users add column mine text",
            "column users.mine: expected integer; found text",
            "alter table \"public\".\"users\" rename column \"mine\" to \"mine_own\"",
        ),
        (
            "alter type mood rename to old;\ncreate type mood as enum ('good', 'bad', 'new');\ndrop type old;\n",
            "alter type mood add value 'meh' after 'good'",
            "so it was rolled back: enum mood (good, meh, bad)",
            "",
        ),
    ] {
        for check in ["each-run", "each-version"] {
            let mut world = World::empty();
            world.set("QDRANT_URL", "none");
            let settings = format!("application = \"demo\"\ncatalog_check = \"{check}\"\n");
            world.migrations.write("tandem.toml", &settings);
            world.version("0001_first", &first, "");
            world.version("0002_second", second, "");
            world.record();
            world.output(["upgrade", "1"]).expect(0);
            world.db.execute(own);
            let kept = "select coalesce(string_agg(pg_get_indexdef(indexrelid), ' '), '') || (select string_agg(conname, ' ') from pg_constraint where contypid = 0)
                || (select string_agg(enumlabel, ' ') from pg_enum) || (select count(*) from pg_attribute where attname ~ 'mine')
                from pg_index where indrelid = 'users'::regclass";
            let before = world.query(kept);
            world.start(&["true"]).expect(76).says(&[says, way_out]);
            assert_eq!(world.query(kept), before, "{check}: {second}");
            if !way_out.is_empty() {
                world.db.execute(way_out);
                world.start(&["true"]).expect(0);
                assert_eq!(world.query("select count(*)::text from tandem.ledger"), "2", "{check}: {second}");
            }
        }
    }
}
