//! What the servers know of objects, from 14 to 18: rendered again as it is, and the same after a dump by the newest `pg_dump`.

use crate::{connect, dump_by, execute, read_schemas};
use local_servers::{Database, PgVersion, Postgres};
use tandem::catalog::render::{complete, render};
use tandem::catalog::{Catalog, compare};

/// Objects, the first major that knows them, and what makes them; each in a managed schema of its own.
const FRAGMENTS: &[(&str, u32, &str)] = &[
    (
        "defaults",
        14,
        "create table t (
            a interval default '1 day', b jsonb default '{}', c varchar(10)[] default array['a', 'b'], d text default 'a' || 'b',
            e timestamp default (now() at time zone 'utc'), f date default current_date, g text default current_user,
            h bigint default -1, i integer default '-5', j float8 default 'NaN', k text default E'a\\nb\\\\', l bit(3) default b'101',
            m char(3) default 'ab', n numeric(6, 2) default 5, o real default 1.5, p boolean default true, q uuid default gen_random_uuid(),
            r timestamptz default '2024-01-01 00:00+00', s smallserial, u bytea default '\\x00', v text default null,
            w double precision default 1e10, x integer default (1 + 2) * 3, y text default (array['a', 'b'])[1], z timestamptz(3) default clock_timestamp(),
            aa text default to_char(now(), 'YYYY'), ab inet default '127.0.0.1', ac integer[] default '{1,2}', ad date default 'now'::text::date,
            ae numeric default 0.50, af numeric(8, 4) default 0.50, ag varchar default 'x'::varchar(3), ah int4range default '[1,2)', ai money default 1.0::money,
            aj text default localtimestamp::text, ak time default localtime, al text default session_user, am double precision default random() * 10)",
    ),
    (
        "checks",
        14,
        "create table t (a varchar(20), b text, c integer, d date, e boolean, f jsonb, g text[], h timestamptz, i char(2), j numeric, k smallint,
            check (a in ('x', 'y')), check (a not in ('x', 'y')), check (b in ('x', 'y')), check (c in (1, 2)), check (c not in (1, 2)),
            check (c between 1 and 5), check (c not between 1 and 5 or c is null), check (a like 'x%'), check (b ilike '%y' and b not like 'z'),
            check (a ~ '^[a-z]+$'), check (a is distinct from b), check (coalesce(a, b, 'x') <> ''), check (case when e then c > 1 else c < 1 end),
            check (a = any (array['q', 'r']::text[])), check (length(trim(a)) > 0), check (extract(year from d) > 2000), check (position('a' in b) > 0),
            check (substring(b from 1 for 2) <> 'zz'), check (h at time zone 'utc' > '2000-01-01'), check ((d, d) overlaps (d, d)), check ((c, k) > (1, 2)),
            check (e), check (not e), check (e is true or e is unknown), check (f ->> 'x' <> '' and f ? 'y'), check (f['x'] is not null), check (g[1] <> ''),
            check (b collate \"C\" < 'z'), check (c::bigint * 2 > 4 and (c > 0 or (k > 0 and c < 9))), check (b similar to 'a_%'), check (i = 'ab'),
            check (i in ('ab', 'cd')), check (j > 0.50 and j < 1e3), check (k in (1, 2)), check (num_nonnulls(a, b) = 1), check (d > '2001-01-01'),
            check (h > now() - interval '1 day'), check (cardinality(g) > 0 and 'x' = any (g)), check (c <> all (array[4, 5])), check (c % 2 = 0 and -c < 3 and @ c > 1),
            check (b is not null and b is normalized), check ((f #>> '{a,b}')::integer > 2), check (a || b = 'xy'), check (a::text || 'z' in ('az', 'bz')),
            check (upper(a) = a and a ~* 'x' and a !~ 'y'), check (null is null), check (g <@ array['a', 'b']), check (g && '{a}'),
            check (nullif(c, 0) > greatest(k, 1)), check (b > 'a' collate \"POSIX\"), check (overlay(b placing 'x' from 1) <> ''), check (date_part('year', d) > 5) no inherit)",
    ),
    (
        "keys",
        14,
        "create table r (a integer, b integer, c integer unique, d integer unique deferrable initially deferred, primary key (a, b));
         create table t (a integer, b integer, c integer references r (c) on update cascade deferrable, d integer primary key, e integer references t,
            foreign key (a, b) references r match full on delete set default initially deferred, unique (a, b) include (c));
         alter table t add constraint later foreign key (c) references r (c) on delete restrict not valid;
         alter table t add constraint \"some Check\" check (a > 5) not valid;
         comment on constraint later on t is 'a remark'; comment on constraint t_pkey on t is 'it''s the key'",
    ),
    (
        "nulls",
        15,
        "create table t (a integer unique nulls not distinct, b integer, c integer); create unique index on t (b, c) nulls not distinct where c > 0;
         create table r (a integer, b integer, primary key (a, b));
         create table u (a integer, b integer, foreign key (a, b) references r on delete set null (b))",
    ),
    ("unlogged", 15, "create unlogged table t (id serial primary key, n bigint generated always as identity); create unlogged sequence s"),
    (
        "generated",
        14,
        "create table t (a integer, b integer generated always as (a + 1) stored, c text, d text generated always as (lower(c) || 'x') stored not null,
            e integer generated by default as identity (start 5 increment -1 minvalue -100 maxvalue 10 cycle), f bigint generated always as identity)",
    ),
    (
        "virtual",
        18,
        "create table t (a integer, b integer generated always as (a + 1), c integer generated always as (a * 2) virtual not null,
            d integer generated always as (a + 3) stored, check (b > 0));
         create view v as select a, b from t",
    ),
    (
        "not_null",
        14,
        "create table t (a integer constraint named not null, b integer not null, c integer primary key); create table u (d integer) inherits (t);
         create table w (like t including all); create table x (a integer not null, b integer not null) inherits (t);
         alter table t rename column b to bb; alter table w alter column b drop not null; create domain d as integer not null; create table y (a d)",
    ),
    (
        "not_null_18",
        18,
        "create table t (a integer, b integer, constraint known not null a, constraint childless not null b no inherit);
         create table u (c integer) inherits (t); create table w (a integer); alter table w add constraint later not null a not valid;
         comment on constraint known on t is 'a remark'; create table p (a integer, b integer constraint pn not null) partition by list (a);
         create table p1 partition of p (constraint own not null a) for values in (1);
         create domain d as integer constraint dn not null; create table k (id integer constraint mine not null primary key)",
    ),
    (
        "enforced",
        18,
        "create table r (a integer primary key); create table t (a integer references r not enforced, b integer check (b > 0) not enforced)",
    ),
    (
        "periods",
        18,
        "create table r (a integer, during daterange, primary key (a, during without overlaps));
         create table t (a integer, during daterange, unique (a, during without overlaps), foreign key (a, period during) references r (a, period during))",
    ),
    (
        "partitions",
        14,
        "create table l (a text collate \"C\", b integer not null default 1) partition by list (a);
         create table l1 partition of l for values in ('x', 'it''s', null); create table l2 partition of l (b default 2) for values in ('y') partition by hash (b);
         create table l21 partition of l2 for values with (modulus 2, remainder 0); create table l22 partition of l2 (check (b > 0)) for values with (modulus 2, remainder 1);
         create table l3 partition of l default;
         create table r (a timestamptz, b integer, c text) partition by range (a, (b + 1), lower(c) text_pattern_ops);
         create table r1 partition of r for values from (minvalue, minvalue, minvalue) to ('2024-01-01 00:00+00', 5, 'x');
         create table gone (x integer, c text, b integer, a timestamptz); alter table gone drop x; create index on gone (b);
         alter table r attach partition gone for values from ('2024-01-01 00:00+00', 5, 'x') to (maxvalue, maxvalue, maxvalue);
         create index on r (b)",
    ),
    (
        "partition_keys",
        14,
        "create table p (id bigint, at date not null, n text, primary key (id, at), unique (at, id), check (id > 0)) partition by range (at);
         create table p1 partition of p for values from ('2024-01-01') to ('2025-01-01'); create table p2 (like p including all);
         alter table p attach partition p2 for values from ('2025-01-01') to ('2026-01-01');
         create table q (pid bigint, pat date, foreign key (pid, pat) references p) partition by list (pid); create table q1 partition of q for values in (1);
         create index on only p (n); create index on p1 (n);
         create function f() returns trigger language plpgsql as 'begin return new; end'; create trigger g before insert on p for each row execute function f();
         alter table p1 disable trigger g",
    ),
    ("partition_identity", 17, "create table p (id bigint generated always as identity, a integer) partition by list (a); create table p1 partition of p for values in (1)"),
    (
        "inheritance",
        14,
        "create table a (id serial, x integer check (x > 0)); create table b (y text default 'y' not null); create table c (z integer, x integer default 3) inherits (a, b);
         create table d () inherits (c); alter table a add column late integer default 1; create type kind as (p integer, q text); create table e of kind (p primary key, q default 'x')",
    ),
    (
        "views",
        14,
        "create table t (id integer primary key, a text, b integer, at timestamptz); create table u (id integer primary key, tid integer references t, a text);
         create view checked with (security_barrier) as select * from t where b > 0 with cascaded check option; create view grouped as select t.id, t.a, count(*) from t join u on u.tid = t.id group by t.id;
         create view used as select t.*, u.tid, u.a as ua, y.* from t join u using (id) left join lateral (select max(b) from t x where x.id = u.tid) y on true;
         create recursive view walk (n) as values (1) union all select n + 1 from walk where n < 5;
         create view searched as with recursive w (id) as (select id from t union all select u.id from u join w on w.id = u.tid) search depth first by id set o cycle id set c using p select id, c from w;
         create view windowed as select id, rank() over (partition by a order by b desc rows between 1 preceding and current row), sum(b) filter (where b > 1) over w from t window w as (order by at);
         create view grouping as select a, b, grouping(a) from t group by grouping sets ((a), rollup (b)); create view renamed (x, y) as select id, a from t;
         create view constants as select 'x' as a, 1 as b, null as c, array[1] as d, row(1, 2)::text as e, current_date as f, now() as g;
         create view over as select a.id, (select string_agg(x.a, ',' order by x.id) from t x) from grouped a where exists (select from u where u.id = a.id) union select 1, 'x' except select 2, 'y';
         create view cased as select case a when 'x' then 1 else 2 end as c1, case when b > 1 then 'x' end as c2, coalesce(a, 'x'), b::text, a in ('x', 'y') as i, at between now() - interval '1 day' and now() from t;
         create view odd as select \"Odd\".id as \"Some Id\" from t as \"Odd\" order by 1 desc nulls last limit 5 offset 1; alter view renamed alter column y set default 'q';
         create materialized view kept as select a, count(*) n from t group by a; create unique index on kept (a) include (n); create materialized view again as select * from kept;
         create function g() returns trigger language plpgsql as 'begin return new; end'; create trigger i instead of insert on renamed for each row execute function g();
         create view scalar as select distinct on (a) a, extract(epoch from at) as e, at at time zone 'utc' as z, trim(both 'x' from a) as tr, substring(a from 2) as su from t order by a, at desc;
         create view functions as select x.n, y.* from generate_series(1, 3) with ordinality x (n, o), rows from (unnest(array[1]), unnest(array[2])) y (p, q); comment on view checked is 'c'; comment on column checked.a is 'd'",
    ),
    ("views_15", 15, "create table t (a integer); create view v with (security_invoker = true, security_barrier = off, check_option = local) as select a from t where a > 1"),
    (
        "functions",
        14,
        "create table t (id integer, a text); create function a(integer, out x integer, inout y text, variadic z integer[]) language sql as 'select 1, ''a''';
         create function b(a integer = 1, b text default 'it''s', c timestamptz default now()) returns table (x integer, y text) language sql stable strict security definer set search_path = public, pg_temp cost 5 rows 7 as 'select 1, ''x''';
         create function c(anyelement) returns setof t language plpgsql as 'begin return; end'; create procedure d(inout a integer, b text default null) language plpgsql as 'begin end';
         create function e(a t) returns t.a%type language sql begin atomic; select a.a; end; create function f(a integer) returns integer return a + 1;
         create function \"Odd name\"(\"An Arg\" integer default 3) returns integer[] language sql immutable parallel safe leakproof as $$ select array[1] $$;
         create function g(a integer) returns void language sql as $b$ select $$x$$ $b$; create function g(a text) returns void language sql as 'select 1'; create function tr() returns trigger language plpgsql as 'begin return null; end'",
    ),
    (
        "triggers",
        14,
        "create table t (id integer, a text); create function f() returns trigger language plpgsql as 'begin return new; end';
         create constraint trigger a after insert on t deferrable initially deferred for each row execute function f();
         create trigger b after update on t referencing old table as o new table as n for each statement execute function f('x', 'it''s');
         create trigger c before update of id, a on t for each row when (old.a is distinct from new.a and new.id in (1, 2)) execute function f(); create trigger d before truncate on t execute function f();
         create trigger \"Odd\" before delete on t for each row execute function f(); alter table t enable always trigger a; alter table t disable trigger b; comment on trigger c on t is 'c'",
    ),
    (
        "types",
        14,
        "create domain a as text collate \"C\" default 'x' constraint named check (value ~ '^x') not null; create domain b as a check (value <> 'y'); create domain c as integer[] check (cardinality(value) > 0);
         create type k as enum ('a', 'it''s', 'B c'); create type m as (x a, y k[], z text collate \"C\", \"Odd\" integer); create type n as (m m, k k); create type o as range (subtype = text, subtype_opclass = text_pattern_ops, collation = \"C\");
         create type p as range (subtype = float8, subtype_diff = float8mi, multirange_type_name = q); create type empty as enum (); create type nothing as ();
         create table t (a a, b b[], c c, d k default 'it''s', e m, f n[], g o, h q, i k[] default '{a}', check (d in ('a', 'it''s'))); comment on type k is 'k'; comment on domain a is 'a'; comment on column m.x is 'x'",
    ),
    (
        "sequences",
        14,
        "create sequence a as smallint increment -2 minvalue -50 maxvalue 50 start 10 cache 5 cycle; create sequence shared; create table t (id integer default nextval('shared'), b integer default nextval('shared'));
         create sequence single; create table u (id bigint default nextval('single') not null); create table w (id serial, n smallserial, \"Odd Id\" bigserial); alter sequence w_id_seq rename to \"it's odd\";
         create sequence owned; create table x (id integer, y integer); alter sequence owned owned by x.id; comment on sequence a is 'a'; create table z (id integer default nextval('single') + 1)",
    ),
    (
        "indexes",
        14,
        "create table t (id integer primary key, a text, b integer, c jsonb, d tsvector, e int4range, f text collate \"C\", g varchar(9));
         create index on t (a desc nulls last, b asc nulls first) include (c) with (fillfactor = 70); create index on t using gin (c jsonb_path_ops) with (fastupdate = off); create index on t using brin (b) with (pages_per_range = 16);
         create index on t using gist (e); create index on t using spgist (e); create index on t using hash (a); create index on t ((a || 'x'), (b + 1) desc, lower(f)); create index on t (a collate \"C\" text_pattern_ops) where a like 'x%' and b in (1, 2);
         create index on t using gin (to_tsvector('english', coalesce(a, ''))); create index on t using gist (d tsvector_ops (siglen = 100)); create index on t ((c ->> 'x'), ((c ->> 'y')::integer)); create unique index on t (lower(a)) where g in ('x', 'y');
         create index on t (g); create index on t (g varchar_pattern_ops); create index on t (f); create index on t (f collate \"default\"); create index on t (((c -> 'a') is not null)); create index on t (date_trunc('day', '2024-01-01'::timestamp), (case when b > 1 then a end));
         create index \"Odd idx\" on t (b); comment on index \"Odd idx\" is 'i'",
    ),
    (
        "names",
        14,
        "create table \"Odd.Table\" (\"select\" integer primary key, \"it's\" text default 'x', \"a\"\"b\" text, ünï text, \"user\" text, \"$x\" integer, unique (\"it's\", \"a\"\"b\"));
         create index on \"Odd.Table\" (\"user\", ünï); create table \"order\" (\"from\" integer references \"Odd.Table\" (\"select\"), id serial); create view \"a view\" as select \"select\" as \"where\", \"a\"\"b\" from \"Odd.Table\";
         create type \"A Type\" as enum ('x'); create table u (a \"A Type\" default 'x', \"values\" \"A Type\"[]); create function \"f.x\"(\"A Type\") returns \"A Type\" language sql as 'select $1'; create table v (a \"A Type\" default \"f.x\"('x'))",
    ),
    (
        "security",
        14,
        "create table t (a text, b integer); create policy p on t as restrictive for update to public using (b > 1 and a = current_user) with check (b in (2, 3)); create policy q on t using (exists (select from t x where x.b = t.b));
         alter table t enable row level security, force row level security; comment on policy p on t is 'p'",
    ),
    (
        "collations",
        14,
        "create collation own (provider = icu, locale = 'de-u-co-phonebk');
         create collation loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         create table t (a text collate own, b varchar(9) collate loose unique, c text collate \"POSIX\", check (a > 'x' collate loose)); create index on t (a collate loose); create domain d as text collate own; create view v as select a collate \"C\" as a from t",
    ),
    ("json", 16, "create table t (a text check (a is json object), b jsonb default json_object('a': 1)::jsonb, c jsonb default json_array(1, 2 returning jsonb), check (a is not json with unique keys))"),
    ("json_17", 17, "create table t (a jsonb, check (json_value(a, '$.x' returning integer default 0 on empty) > 0), check (json_exists(a, '$.y')), check (json_query(a, '$' with wrapper) is not null)); create view v as select j.* from t, json_table(a, '$[*]' columns (x integer path '$.x')) j"),
    ("storage", 14, "create table t (a text, b text compression pglz, c integer) with (fillfactor = 50, autovacuum_enabled = off); alter table t alter a set storage external, alter c set statistics 50; create statistics s on a, c from t; alter table t replica identity full; create rule quiet as on delete to t do instead nothing"),
];

const COLLATIONS: &str = "create collation collations.own (provider = icu, locale = 'de-u-co-phonebk');
    create collation collations.loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";

fn schemas_on(version: PgVersion) -> Vec<&'static str> {
    FRAGMENTS.iter().filter(|(_, since, _)| *since <= version.major()).map(|(name, _, _)| *name).collect()
}

fn made_on(version: PgVersion) -> Database {
    let database = Postgres::shared(version).unwrap().create_database("majors");
    database.execute("create extension btree_gist schema public");
    for (name, _, sql) in FRAGMENTS.iter().filter(|(_, since, _)| *since <= version.major()) {
        database.execute(&format!("create schema {name}; set search_path = {name}, public; {sql}"));
    }
    database
}

async fn read(database: &Database, version: PgVersion) -> Catalog {
    read_schemas(database, &schemas_on(version), &[]).await
}

fn dump(database: &Database) -> Option<String> {
    match local_servers::newest_pg_dump() {
        Ok(pg_dump) => Some(dump_by(&pg_dump, database)),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

/// Equal in all that is compared, and in comments.
#[track_caller]
fn assert_identical(found: &Catalog, wanted: &Catalog, what: &str) {
    for (one, other) in [(found, wanted), (wanted, found)] {
        let difference = compare(one, other);
        assert!(difference.is_proof() && difference.extra.is_empty(), "{what}: {difference}");
    }
    for (id, object) in &wanted.objects {
        assert_eq!(found.objects[id].comment, object.comment, "{what}: {id}");
    }
}

#[tokio::test]
async fn what_a_server_knows_is_rendered_as_it_is() {
    for version in PgVersion::ALL {
        let catalog = read(&made_on(version), version).await;
        let completion = render(&catalog);
        assert_eq!(completion.impossible, []);
        let database = Postgres::shared(version).unwrap().create_database("majors_again");
        let mut connection = connect(&database).await;
        for schema in schemas_on(version) {
            execute(&mut connection, &format!("create schema {schema}")).await;
        }
        // The renderer makes no collations: they are no objects of a catalog.
        execute(&mut connection, COLLATIONS).await;
        execute(&mut connection, "set check_function_bodies = off; set search_path = ''").await;
        for statement in &completion.statements {
            execute(&mut connection, &statement.sql).await;
        }
        assert_identical(&read(&database, version).await, &catalog, &format!("{version:?}"));
    }
}

#[tokio::test]
async fn a_dump_of_any_server_is_the_same_on_any_newer_one() {
    let made: Vec<(PgVersion, Database)> =
        PgVersion::ALL.into_iter().map(|version| (version, made_on(version))).collect();
    for (at, (version, database)) in made.iter().enumerate() {
        let version = *version;
        let catalog = read(database, version).await;
        let Some(text) = dump(database) else { return };
        for (newer, same) in &made[at..] {
            let restored = Postgres::shared(*newer).unwrap().create_database("majors_restored");
            restored.execute(&text);
            let what = format!("{version:?} to {newer:?}");
            let found = read(&restored, version).await;
            assert_identical(&found, &catalog, &what);
            // And it is what that server makes of the same SQL.
            assert_identical(&found, &read(same, version).await, &what);
        }
    }
}

#[tokio::test]
async fn a_not_null_that_was_never_checked_proves_nothing_until_it_is() {
    let database = Postgres::shared(PgVersion::V18).unwrap().create_database("unchecked");
    let mut connection = connect(&database).await;
    execute(&mut connection, "create table t (id integer primary key, a integer not null)").await;
    let wanted = read_schemas(&database, &["public"], &[]).await;
    execute(&mut connection, "alter table t alter a drop not null; insert into t values (1, null)").await;
    execute(&mut connection, "alter table t add constraint mine not null a not valid").await;
    let found = read_schemas(&database, &["public"], &[]).await;
    let difference = compare(&found, &wanted).to_string();
    assert_eq!(difference, "different: column t.a: expected integer not null; found integer");

    let completion = complete(&found, &wanted);
    assert_eq!(completion.impossible, []);
    let [statement] = completion.statements.as_slice() else { panic!("{completion:?}") };
    assert_eq!(statement.offenders.as_ref().map(|rows| rows.condition.as_str()), Some("\"a\" IS NULL"));
    assert!(
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement.sql.clone())).execute(&mut connection).await.is_err()
    );
    execute(&mut connection, &format!("delete from t; {}", statement.sql)).await;
    assert!(compare(&read_schemas(&database, &["public"], &[]).await, &wanted).is_proof());
}
