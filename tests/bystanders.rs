//! The user's own objects outside of the managed schemas, and those that hang on the application's without being in its catalog:
//! they survive a version, or it is rolled back and they are named.

mod common;

use common::World;
use local_servers::{PgVersion, Postgres, unique_name};

const FIRST: &str = "\
create type mood as enum ('good', 'bad');
create sequence tickets;
create function norm(t text) returns text language sql immutable as $$ select lower(t) $$;
create function touched() returns trigger language plpgsql as $$ begin return new; end $$;
create function wipe(what text) returns void language plpgsql as $$ begin execute 'drop ' || what || ' cascade'; end $$;
create table users (id int primary key, name text, nick text, mood mood);
create table gone (id int primary key, body text);
create view named as select id, name from users;
create view rows as select id from gone;
";

/// A database at the first of two versions.
fn at_first(version: PgVersion, up: &str, toml: &str) -> World {
    let mut world =
        World::on(Postgres::shared(version).unwrap().create_database("own"), local_servers::qdrant());
    world.set("QDRANT_URL", "none");
    world.version("0001_first", FIRST, "");
    world.version("0002_second", up, toml);
    world.record();
    world.start_before("0002");
    world
}

fn ledger(world: &World) -> String {
    world.query("select max(version)::text from tandem.ledger")
}

/// Every object of the database with its definition as far as it has one, tandem's own aside.
fn objects(world: &World) -> String {
    world.query(
        "select string_agg(distinct pg_describe_object(classid, objid, objsubid), E'\\n') from pg_depend \
         where objid >= 16384 and pg_describe_object(classid, objid, objsubid) !~ 'tandem|toast'",
    )
}

#[test]
fn what_a_cascade_would_take_of_the_users_own_is_named_and_nothing_has_changed() {
    let cases = [
        (
            "alter table users drop column nick cascade;\n",
            "create view mine.v as select nick from users; create materialized view mine.m as select nick from mine.v",
            &[
                "view mine.v, which stands on column nick of table public.users",
                "drop view mine.v (it is now: SELECT",
                "materialized view mine.m",
            ][..],
            "drop view mine.v cascade",
        ),
        (
            "drop view rows;\ndrop table gone cascade;\n",
            "create table mine.t (id int references gone)",
            &[
                "constraint t_id_fkey on table mine.t, which stands on table public.gone",
                "alter table mine.t drop constraint t_id_fkey (it is now: FOREIGN KEY",
            ],
            "alter table mine.t drop constraint t_id_fkey",
        ),
        (
            "drop sequence tickets cascade;\n",
            "create table mine.t (id int default nextval('tickets'))",
            &[
                "default value for column id of table mine.t, which stands on sequence public.tickets",
                "alter table mine.t alter column id drop default (it is now: nextval(",
            ],
            "alter table mine.t alter column id drop default",
        ),
        (
            "drop function norm(text) cascade;\n",
            "alter table users add column own text default norm('X')",
            &[
                "default value for column own of table public.users, which stands on function public.norm(text)",
                "alter table public.users alter column own drop default",
            ],
            "alter table users alter column own drop default",
        ),
        (
            "alter table users drop column mood;\ndrop type mood cascade;\n",
            "create table mine.t (id int, m mood)",
            &[
                "column m of table mine.t, which stands on type public.mood",
                "leave alone what is not the application's",
            ],
            "alter table mine.t alter column m type text",
        ),
        (
            "do $$ begin drop function norm(text) cascade; end $$;\n",
            "create table mine.t (x text, constraint c check (norm(x) <> '')); create index i on mine.t (norm(x)); \
             create policy p on mine.t using (norm(x) = 'a')",
            &[
                "constraint c on table mine.t, which stands on function public.norm(text)",
                "index mine.i, which",
                "policy p on table mine.t, which",
                "drop policy p on mine.t",
                "drop index mine.i (it is now: CREATE INDEX",
            ],
            "drop policy p on mine.t; drop index mine.i; alter table mine.t drop constraint c",
        ),
        (
            "drop function touched() cascade;\n",
            "create table mine.t (x text); create trigger seen before update on mine.t for each row execute function touched()",
            &[
                "trigger seen on table mine.t, which stands on function public.touched()",
                "drop trigger seen on mine.t",
            ],
            "drop trigger seen on mine.t",
        ),
        // No word of the file tells that it drops anything.
        (
            "select wipe('view named');\ncreate table more (id int);\n",
            "create view mine.v as select * from named; create function mine.f() returns setof named language sql as 'select * from named'",
            &[
                "view mine.v, which stands on view public.named",
                "function mine.f()",
                "drop function mine.f() (it is now: CREATE OR REPLACE FUNCTION",
            ],
            "drop view mine.v; drop function mine.f()",
        ),
        (
            "drop schema if exists mine cascade;\ncreate table more (id int);\n",
            "create table mine.t (x text)",
            &[
                "would take away what it is not known to drop, so it was rolled back: schema mine",
                "leave alone",
            ],
            "drop schema mine cascade",
        ),
        (
            "drop table if exists mine.t;\ncreate table more (id int);\n",
            "create table mine.t (x text primary key); create index on mine.t (x)",
            &["so it was rolled back: table mine.t", "name it in tandem.toml under schemas"],
            "drop table mine.t",
        ),
        // Nothing of these needs a CASCADE.
        (
            "alter table users drop column nick;\n",
            "create statistics mine.s on name, nick from users",
            &[
                "statistics object mine.s, which stands on",
                "column nick of table public.users",
                "drop statistics mine.s (it is now: CREATE STATISTICS",
            ],
            "drop statistics mine.s",
        ),
        (
            "drop view rows;\ndrop table gone;\n",
            "create rule log as on delete to gone do also notify gone; create publication {own} for table gone; create statistics s on id, body from gone",
            &[
                "rule log on table public.gone",
                "drop rule log on public.gone",
                "publication of table public.gone in publication own",
                "drop table public.gone",
                "statistics object public.s",
            ],
            "drop rule log on gone; drop publication {own}; drop statistics s",
        ),
        (
            "drop view named;\n",
            "create rule log as on insert to named do instead nothing",
            &["rule log on view public.named", "drop rule log on public.named"],
            "drop rule log on named",
        ),
    ];
    for version in [PgVersion::V14, PgVersion::V18] {
        for (up, own, says, way_out) in &cases {
            let publication = unique_name("own");
            let sql = |text: &str| text.replace("{own}", &publication);
            let world = at_first(version, up, "");
            world.db.execute(&format!("create schema mine; {}", sql(own)));
            let before = objects(&world);
            let outcome = world
                .start(&["true"])
                .expect(76)
                .says(&["version 2 (second) would take away what it is not known to drop"])
                .says(says);
            assert!(!outcome.stderr.contains(" more"), "{}", outcome.stderr);
            assert_eq!((ledger(&world).as_str(), objects(&world)), ("1", before), "{up}{own}");
            world.db.execute(&sql(way_out));
            let before = objects(&world);
            world.start(&["true"]).expect(0);
            let after = objects(&world);
            let gone = before.lines().filter(|object| object.contains("mine") && !after.contains(object));
            assert_eq!(gone.collect::<Vec<_>>(), [""; 0], "{up}{own}");
        }
    }
}

/// The catalog shows these, so they are named before anything is done.
#[test]
fn what_is_the_users_own_on_a_table_that_goes_is_named_beforehand() {
    let world = at_first(PgVersion::default(), "drop view rows;\ndrop table gone;\n", "");
    for (own, says, way_out) in [
        (
            "create index i on gone (body)",
            "your index i is on table gone, which version 2 drops",
            "drop index public.i",
        ),
        (
            "alter table gone add constraint c check (body <> '')",
            "your constraint c is on table gone",
            "alter table public.gone drop constraint c",
        ),
        (
            "create trigger seen before update on gone for each row execute function touched()",
            "your trigger seen is on table gone",
            "drop trigger seen on public.gone",
        ),
        (
            "create policy p on gone using (true)",
            "your policy p is on table gone",
            "drop policy p on public.gone",
        ),
    ] {
        world.db.execute(own);
        world.output(["plan"]).expect(76).says(&[says, way_out]);
        world.start(&["true"]).expect(76).says(&[says, way_out]);
        assert_eq!(ledger(&world), "1", "{own}");
        world.db.execute(way_out);
    }
    world.db.execute("alter table gone add column mine text; insert into gone values (1, 'b', 'm')");
    world.start(&["true"]).expect(0);
    assert_eq!(
        world.query("select row ->> 'mine' from tandem.archive"),
        "m",
        "values of its own columns are in the archive"
    );
}

#[test]
fn what_is_made_again_has_the_owner_the_grants_and_the_comments_that_it_had() {
    let up = "drop view named;\ncreate view named as select id, name, nick from users;\n\
              drop function norm(text);\ncreate function norm(text) returns text language sql immutable as $$ select upper($1) $$;\n\
              drop view rows;\ndrop table gone;\ncreate table gone (id int primary key, body text, more text);\ncreate view rows as select body from gone;\n";
    for version in [PgVersion::V14, PgVersion::V18] {
        let world = at_first(version, up, "");
        let (reader, owner) = (unique_name("reader"), unique_name("owner"));
        world.db.execute(&format!(
            "create role {reader}; create role {owner}; grant usage, create on schema public to {owner}; \
             alter view named owner to {owner}; grant select on users to {owner}; \
             grant select on named to {reader} with grant option; grant insert (id) on named to {reader}; grant update on gone to {reader}; \
             grant select on rows to public; \
             revoke execute on function norm(text) from public; grant execute on function norm(text) to {reader}; \
             comment on view named is 'mine'; comment on column named.name is 'it''s mine'; comment on column rows.id is 'goes'; \
             comment on function norm(text) is 'normal'"
        ));
        let state = || {
            world.query(&format!(
                "select concat_ws(E'\\n', \
                   (select string_agg(concat(c.relname, ' ', pg_get_userbyid(c.relowner), ' ', obj_description(c.oid, 'pg_class'), ' ', \
                      (select string_agg(concat(case a.grantee when 0 then 'public' else a.grantee::regrole::text end, a.privilege_type, a.is_grantable), ',' order by 1) from aclexplode(c.relacl) a)), E'\\n' order by c.relname) \
                      from pg_class c where c.relname in ('named', 'rows', 'gone')), \
                   has_column_privilege('{reader}', 'named', 'id', 'insert'), has_column_privilege('{reader}', 'named', 'name', 'insert'), \
                   col_description('named'::regclass, 2), has_function_privilege('{reader}', 'norm(text)', 'execute'), \
                   has_function_privilege('{owner}', 'norm(text)', 'execute'), obj_description('norm(text)'::regprocedure, 'pg_proc'))"
            ))
        };
        let before = state();
        world.start(&["true"]).expect(0);
        assert_eq!(state(), before);
        assert_eq!(ledger(&world), "2");
        world.db.execute(&format!("drop owned by {owner}, {reader} cascade; drop role {owner}, {reader}"));
    }
}

/// What versions make and no catalog shows goes with what they drop.
#[test]
fn what_the_application_made_itself_may_go() {
    let mut world = World::on(
        Postgres::shared(PgVersion::default()).unwrap().create_database("own"),
        local_servers::qdrant(),
    );
    world.set("QDRANT_URL", "none");
    let own = unique_name("ours");
    world.version(
        "0001_first",
        &format!(
            "{FIRST}create statistics if not exists of_users on name, nick from users;\n\
             create or replace rule log as on delete to gone do also notify gone;\ncreate publication {own} for table gone;\n\
             create operator === (leftarg = text, rightarg = text, function = texteq);\n\
             alter table users alter column name set default norm('X');\n"
        ),
        "",
    );
    world.version(
        "0002_second",
        "alter table users drop column nick;\ndrop view rows;\ndrop table gone;\ndrop operator === (text, text);\n\
         drop function norm(text) cascade;\ncreate or replace function touched() returns trigger language plpgsql as $$ begin return null; end $$;\n",
        "",
    );
    world.version(
        "0003_third",
        "drop type mood cascade;\ndrop function wipe(text), touched();\ndrop sequence tickets;\n",
        "",
    );
    world.record();
    world.start(&["true"]).expect(0);
    world.db.execute(&format!("drop publication {own}"));
    assert_eq!(ledger(&world), "3");
}

/// A repair runs its versions in one transaction, and takes nothing of the user's own either.
#[test]
fn a_repair_names_what_it_would_take_and_gives_back_what_it_makes_again() {
    let mut world = World::on(
        Postgres::shared(PgVersion::default()).unwrap().create_database("own"),
        local_servers::qdrant(),
    );
    world.set("QDRANT_URL", "none");
    world.version("0001_first", FIRST, "");
    world.version("0002_second", "alter table users drop column nick cascade;\ndrop view named;\ncreate view named as select name from users;\n", "");
    world.version("0003_third", "create table last (id int);\n", "");
    world.record();
    let own = "create schema mine; create view mine.v as select nick from users; comment on view named is 'mine'; create table last (id int)";
    world.db.execute(&format!("{FIRST}{own}"));
    let before = objects(&world);
    world.start(&["true"]).expect(76).says(&[
        "the repair would take away",
        "view mine.v, which stands on column nick of table public.users",
    ]);
    assert_eq!(objects(&world), before);
    world.db.execute("drop view mine.v");
    world.start(&["true"]).expect(0);
    assert_eq!(ledger(&world), "3");
    assert_eq!(world.query("select obj_description('named'::regclass, 'pg_class')"), "mine");
}

/// The way back is a step like any other.
#[test]
fn a_downgrade_names_what_it_would_take() {
    let world = World::small();
    let mut world = world.sibling();
    world.set("QDRANT_URL", "none");
    world.migrations.write("0002_notes.down.sql", "drop table notes cascade;\n");
    world.record();
    world.start(&["true"]).expect(0);
    for (own, says, way_out) in [
        (
            "create index i on notes (body)",
            "your index i is on table notes, which going back from version 2 drops",
            "drop index i",
        ),
        (
            "create rule log as on delete to notes do also notify notes",
            "rule log on table public.notes",
            "drop rule log on notes",
        ),
        (
            "create schema mine; create view mine.v as select body from notes",
            "going back from version 2 (notes) would take away what it is not known to drop, so it was rolled back: view mine.v, which stands on table public.notes",
            "drop view mine.v",
        ),
    ] {
        world.db.execute(own);
        world.output(["downgrade", "1"]).expect(76).says(&[says]);
        assert_eq!(ledger(&world), "2", "{own}");
        world.db.execute(way_out);
    }
    world.output(["downgrade", "1"]).expect(0);
}

/// Where the catalog is compared at the end of a run, the versions before have been committed by then.
#[test]
fn what_a_version_would_take_is_named_though_the_catalog_is_compared_once_a_run() {
    let mut world = World::empty();
    world.set("QDRANT_URL", "none");
    world.migrations.write("tandem.toml", "application = \"demo\"\ncatalog_check = \"each-run\"\n");
    world.version("0001_first", FIRST, "");
    world.version(
        "0002_second",
        "drop table if exists mine;\ndrop type if exists colour cascade;\ncreate table more (id int);\n",
        "",
    );
    world.version("0003_third", "create table last (id int);\n", "");
    world.record();
    world.start_before("0002");
    world.db.execute("create table mine (id int); create type colour as enum ('red')");
    world.start(&["true"]).expect(76).says(&[
        "version 2 (second) would take away",
        "table public.mine",
        "type public.colour",
    ]);
    assert_eq!(ledger(&world), "1");
    world.db.execute("drop table mine; drop type colour");
    world.start(&["true"]).expect(0);
}

/// Parts of the user's own on the application's tables, and how they are named: what a catalog shows.
const PARTS: [(&str, &str); 7] = [
    (
        "alter table users add column mine text; insert into users values (1, 'ada', 'a', null, 'kept')",
        "column users.mine (text)",
    ),
    ("alter table users add column mine text default 'm'", "column users.mine (text default 'm')"),
    (
        "create index mine on users (name)",
        "index mine on users (CREATE INDEX mine ON public.users USING btree (name))",
    ),
    (
        "alter table users add constraint mine check (name <> '')",
        "constraint mine on users (CHECK ((name <> ''::text)))",
    ),
    (
        "create trigger mine before update on users for each row execute function touched()",
        "trigger mine on users (CREATE TRIGGER mine BEFORE UPDATE",
    ),
    (
        "create policy mine on users using (id > 7)",
        "policy mine on users (permissive for ALL to public using id > 7)",
    ),
    (
        "create index mine on users (norm(name))",
        "(CREATE INDEX mine ON public.users USING btree (public.norm(name)))",
    ),
];

/// It is missed in the version that takes it, though the catalog is compared once a run; and in a repair.
#[test]
fn what_is_the_users_own_on_a_table_that_stays_is_missed_in_the_version_that_takes_it() {
    let taken = "alter table users drop column if exists mine, drop constraint if exists mine; drop index if exists mine; \
        drop trigger if exists mine on users; drop policy if exists mine on users; drop function norm(text) cascade; \
        create function norm(t text) returns text language sql immutable as 'select 1::text'";
    let first = format!(
        "{FIRST}create function run(sql text) returns void language plpgsql as $$ begin execute sql; end $$;\n"
    );
    // In words of the file, and hidden from whoever reads it.
    for hidden in [false, true] {
        let mut recorded = World::empty();
        let taking = match hidden {
            false => format!("{taken};\n"),
            true => {
                let hex: String = taken.bytes().map(|byte| format!("{byte:02x}")).collect();
                format!("select run(convert_from(decode('{hex}', 'hex'), 'utf8'));\n")
            }
        };
        recorded.set("QDRANT_URL", "none");
        recorded.version("0001_first", &first, "");
        recorded.version("0002_more", "create table more (id int);\n", "");
        recorded.version("0003_taking", &format!("create table taking (id int);\n{taking}"), "");
        recorded.version("0004_last", "create table last (id int);\n", "");
        recorded.record();
        let ways = [("each-run", false), ("each-version", false), ("each-run", true)];
        for (check, repaired) in ways.into_iter().take(if hidden { 1 } else { 3 }) {
            for (own, named) in PARTS {
                let mut world = recorded.sibling();
                world.set("QDRANT_URL", "none");
                let settings = format!("application = \"demo\"\ncatalog_check = \"{check}\"\n");
                world.migrations.write("tandem.toml", &settings);
                match repaired {
                    true => world.db.execute(&format!("{first}create table last (id int);")),
                    false => _ = world.output(["upgrade", "1"]).expect(0),
                }
                world.db.execute(own);
                let before = objects(&world);
                let outcome = world.start(&["true"]).expect(76).says(&[named]);
                if repaired {
                    assert_eq!(objects(&world), before, "{own}");
                } else {
                    outcome.says(&["version 3 (taking) would take away"]);
                    assert_eq!(ledger(&world), "2", "{check}: {own}");
                    let after = objects(&world);
                    let gone = before.lines().filter(|object| !after.contains(object));
                    assert_eq!(gone.collect::<Vec<_>>(), [""; 0], "{check}: {own}");
                }
            }
        }
    }
}

/// An index that is dropped concurrently cannot be had back, so it is asked before whose it is.
#[test]
fn an_index_of_the_users_own_is_not_dropped_concurrently() {
    for up in [
        "drop index concurrently if exists mine;\n",
        "create index concurrently if not exists mine on users (nick);\n",
    ] {
        for own in ["create index mine on users (name)", "create unique index mine on users (name)"] {
            let world = at_first(
                PgVersion::default(),
                &format!("-- tandem:no-transaction\n{up}create index concurrently by_id on users (id);\n"),
                "",
            );
            world.db.execute(own);
            world.start(&["true"]).expect(76).says(&[
                "your index mine on users",
                "INDEX mine ON public.users USING btree (name)",
                "alter index public.mine rename to mine_own",
            ]);
            assert_eq!(ledger(&world), "1");
            assert_eq!(
                world.query("select count(*)::text from pg_indexes where tablename = 'users'"),
                "2",
                "{up}"
            );
            world.db.execute("alter index public.mine rename to mine_own");
            world.start(&["true"]).expect(0);
        }
    }
}
