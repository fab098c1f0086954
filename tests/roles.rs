//! Roles with few rights, and roles whose settings would break a run.

mod common;

use common::World;
use local_servers::{Postgres, PostgresOptions, unique_name};

/// A role of one test, with a password; it and what it owns go with the value.
struct Role<'w> {
    world: &'w World,
    name: String,
}

impl<'w> Role<'w> {
    fn new(world: &'w World) -> Self {
        let name = unique_name("role");
        world.db.execute(&format!("create role {name} login password 'p@ss:/word'"));
        Self { world, name }
    }

    /// Owns the database and the schema `public`, as the application's role mostly does.
    fn owner(world: &'w World) -> Self {
        let role = Self::new(world);
        let (name, database) = (&role.name, world.db.name());
        world.db.execute(&format!(
            "alter database {database} owner to {name}; alter schema public owner to {name}"
        ));
        role
    }

    fn url(&self) -> String {
        self.world.db.url_as(&self.name, "p@ss:/word")
    }

    fn execute(&self, sql: &str) {
        self.world.db.execute(&sql.replace("ROLE", &self.name));
    }

    /// `tandem run -- true` as this role.
    fn start(&self) -> common::Outcome {
        self.output(&["run", "--", "true"])
    }

    fn output(&self, args: &[&str]) -> common::Outcome {
        let output = self.world.tandem(args).env("DATABASE_URL", self.url()).output().unwrap();
        common::Outcome::new(output)
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.execute("reassign owned by ROLE to current_user; drop owned by ROLE; drop role ROLE");
        }
    }
}

const READ_ONLY: &str =
    "grant usage on schema tandem to ROLE; grant select on all tables in schema tandem to ROLE";

/// Everything in the ledger's tables, byte for byte.
fn ledger(world: &World) -> String {
    world.query(
        "select concat((select json_agg(l order by timeline, version) from tandem.ledger l), (select json_agg(s) from tandem.state s), \
         (select json_agg(j order by id) from tandem.journal j), (select json_agg(p) from tandem.published p))",
    )
}

fn at_version_1() -> World {
    let world = World::empty();
    world.small_timeline();
    world.without("0002");
    world.start(&["true"]).expect(0);
    world.small_timeline();
    world.record();
    world
}

#[test]
fn a_role_that_may_only_read_starts_at_head_and_writes_nothing() {
    let world = World::small();
    world.start(&["true"]).expect(0);
    let role = Role::new(&world);
    role.execute(READ_ONLY);
    let before = ledger(&world);
    role.start().expect(0).says(&["unchanged since their last proof"]);
    // Without the stored proof everything is compared; that cannot be stored, and is no reason not to start.
    world.db.execute("create table mine (id int)");
    role.start().expect(0).says(&["Database initialization complete", "mine"]);
    assert_eq!(ledger(&world), before);
    for command in [&["plan", "--exit-code"][..], &["status"], &["verify"]] {
        role.output(command).expect(0);
    }
    assert_eq!(ledger(&world), before);
}

#[test]
fn a_role_that_may_only_read_starts_where_a_dead_run_was_never_ended() {
    let world = World::small();
    world.start(&["true"]).expect(0);
    world.db.execute("insert into tandem.journal (timeline, epoch, target, phase, pid) values ('demo', 7, 2, 'committed', -1)");
    let role = Role::new(&world);
    role.execute(READ_ONLY);
    let before = ledger(&world);
    role.start().expect(0);
    assert_eq!(ledger(&world), before);
}

#[test]
fn a_role_that_may_only_read_is_refused_where_a_version_is_pending() {
    let world = at_version_1();
    let role = Role::new(&world);
    role.execute(READ_ONLY);
    let before = world.state();
    role.start().expect(77).says(&["permission denied", "remedy", "TANDEM_DATABASE_URL"]);
    assert_eq!(world.state(), before);
    world.start(&["true"]).expect(0);
}

#[test]
fn a_ledger_that_may_not_be_read_is_not_an_absent_one() {
    let world = World::small();
    world.start(&["true"]).expect(0);
    let before = world.state();
    let role = Role::owner(&world);
    let remedy = format!("grant select on all tables in schema \"tandem\" to \"{}\"", role.name);
    role.start().expect(77).says(&["the ledger exists", &remedy]);
    role.execute("grant usage on schema tandem to ROLE");
    role.start().expect(77).says(&["the ledger exists", &remedy]);
    role.execute("grant select on tandem.state, tandem.ledger to ROLE");
    role.start().expect(77).says(&["the ledger exists", &remedy]);
    assert_eq!(world.state(), before);
    role.execute("grant select on all tables in schema tandem to ROLE");
    role.start().expect(0);
}

#[test]
fn a_role_without_create_on_the_database_is_told_the_sql_for_the_owner_and_works_with_it() {
    let world = World::small();
    let role = Role::new(&world);
    role.execute("grant all on schema public to ROLE");
    let before = world.state();
    let outcome = role.start().expect(77);
    let sql =
        outcome.stderr.split("owner run: ").nth(1).and_then(|rest| rest.split(" or give").next()).unwrap();
    assert_eq!(world.state(), before);
    // Whoever owns the database need not be a superuser, nor a member of the role.
    let owner = Role::owner(&world);
    world.db.execute(&format!("set role {}; {sql}", owner.name));
    role.start().expect(0);
    role.start().expect(0).says(&["unchanged since their last proof"]);
}

/// A role with this setting starts on a fresh pair, at head without a stored proof, and at head.
fn starts_with(settings: &[&str]) {
    let world = World::small();
    let role = Role::owner(&world);
    for setting in settings {
        role.execute(&format!("alter role ROLE set {setting}"));
    }
    role.start().expect(0).says(&["Applied version 2"]);
    role.start().expect(0).says(&["unchanged since their last proof"]);
    world.db.execute("create table mine (id int)");
    role.start().expect(0).says(&["mine"]);
    role.start().expect(0).says(&["unchanged since their last proof"]);
    // Nothing was made anywhere but where it belongs.
    assert_eq!(
        world.query("select string_agg(distinct schemaname, ' ' order by schemaname) from pg_tables where tablename in ('users', 'notes', 'ledger')"),
        "public tandem"
    );
}

#[test]
fn a_statement_timeout_of_the_role_stops_nothing() {
    starts_with(&["statement_timeout = '1ms'", "lock_timeout = '1ms'"]);
}

#[test]
fn a_role_that_is_serializable_by_default_works() {
    starts_with(&[
        "default_transaction_isolation = serializable",
        "default_transaction_deferrable = on",
        "synchronous_commit = off",
    ]);
}

#[test]
fn a_role_that_is_read_only_by_default_works_and_keeps_no_proof_of_its_own_accord() {
    let world = World::small();
    let role = Role::owner(&world);
    role.execute("alter role ROLE set default_transaction_read_only = on");
    role.start().expect(0).says(&["Applied version 2"]);
    role.start().expect(0).says(&["unchanged since their last proof"]);
    world.db.execute("create table mine (id int)");
    let before = ledger(&world);
    role.start().expect(0).says(&["mine"]);
    assert_eq!(ledger(&world), before);
}

#[test]
fn styles_of_the_role_change_nothing() {
    starts_with(&[
        "TimeZone = 'Asia/Kathmandu'",
        "DateStyle = 'SQL, DMY'",
        "IntervalStyle = 'sql_standard'",
        "bytea_output = escape",
        "client_min_messages = debug5",
        "standard_conforming_strings = off",
        "quote_all_identifiers = on",
        "xmloption = document",
    ]);
}

#[test]
fn a_search_path_that_names_nothing_changes_nothing() {
    starts_with(&["search_path = 'nowhere'"]);
    starts_with(&["search_path = ''"]);
}

#[test]
fn decoys_on_the_search_path_are_not_taken_for_the_real_ones() {
    let world = World::small();
    world.db.execute(
        "create schema decoy;
         create table decoy.users (id int, name int);
         create table decoy.ledger (timeline text, version bigint);
         create table decoy.pg_class (oid oid, relname name);
         create function decoy.boom() returns text language plpgsql as $$ begin raise exception 'a decoy was called'; end $$;
         create function decoy.now() returns timestamptz language sql as $$ select decoy.boom()::timestamptz $$;
         create function decoy.concat(text, text, text) returns text language sql as $$ select decoy.boom() $$;
         create function decoy.current_setting(text) returns text language sql as $$ select decoy.boom() $$;
         create function decoy.hash_record_extended(record, bigint) returns bigint language plpgsql as $$ begin raise exception 'a decoy was called'; end $$;
         create function decoy.cat(text, text) returns text language sql as $$ select decoy.boom() $$;
         create function decoy.cat(bigint, text) returns text language sql as $$ select decoy.boom() $$;
         create function decoy.same(text, text) returns boolean language sql as $$ select decoy.boom() = '' $$;
         create function decoy.same(name, text) returns boolean language sql as $$ select decoy.boom() = '' $$;
         create function decoy.same(bigint, bigint) returns boolean language sql as $$ select decoy.boom() = '' $$;
         create function decoy.same(oid, oid) returns boolean language sql as $$ select decoy.boom() = '' $$;
         create operator decoy.= (leftarg = text, rightarg = text, function = decoy.same);
         create operator decoy.= (leftarg = name, rightarg = text, function = decoy.same);
         create operator decoy.= (leftarg = bigint, rightarg = bigint, function = decoy.same);
         create operator decoy.= (leftarg = oid, rightarg = oid, function = decoy.same);
         create operator decoy.|| (leftarg = text, rightarg = text, function = decoy.cat);
         create operator decoy.|| (leftarg = bigint, rightarg = text, function = decoy.cat);",
    );
    let mut world = world;
    world.set("TANDEM_INSTALL_BESIDE", "true");
    let role = Role::owner(&world);
    role.execute(
        "grant all on schema decoy to ROLE; alter role ROLE set search_path = decoy, pg_catalog, public",
    );
    role.start().expect(0).says(&["Applied version 2"]);
    role.start().expect(0).says(&["unchanged since their last proof"]);
    world.db.execute("create table mine (id int)");
    for command in [&["plan"][..], &["status"], &["verify"], &["run", "--", "true"]] {
        role.output(command).expect(0);
    }
    role.start().expect(0).says(&["unchanged since their last proof"]);
    assert_eq!(world.query("select count(*)::text from decoy.users"), "0");
}

#[test]
fn a_client_encoding_of_the_role_does_not_garble_names() {
    let world = World::empty();
    world.version(
        "0001_names",
        "create table \"Straße\" (\"größe\" int default 1, \"名前\" text default 'ö');\n",
        "",
    );
    world.record();
    let role = Role::owner(&world);
    role.execute("alter role ROLE set client_encoding = 'LATIN1'");
    role.start().expect(0);
    role.start().expect(0).says(&["unchanged since their last proof"]);
    role.output(&["verify"]).expect(0);
}

/// Rows are noted in a temporary table where sums do not tell whether a version changed others (docs/decisions/0030).
#[test]
fn a_role_without_temporary_on_the_database_runs_what_notes_no_rows_and_is_told_the_right_for_the_rest() {
    let world = World::empty();
    world.version("0001_notes", "create table notes (id int primary key, body text);\n", "");
    world.record();
    let role = Role::owner(&world);
    role.start().expect(0);
    world.db.execute("insert into notes values (1, 'one')");
    role.execute(&format!("revoke temporary on database {} from public, ROLE", world.db.name()));
    let proof = "[proof]\nsql = \"select exists (select 1 from notes where id = 2)\"\n";
    world.version("0002_more", "insert into notes values (2, 'two');\n", proof);
    world.record();
    role.start().expect(0).says(&["Applied version 2"]);
    world.version(
        "0003_nick",
        "alter table notes add column nick text;\ninsert into notes values (3, 'three');\nupdate notes set nick = body;\n",
        "",
    );
    world.record();
    let (before, rows) = (ledger(&world), "select json_agg(n order by id)::text from notes n");
    let kept = world.query(rows);
    role.start()
        .expect(77)
        .says(&["permission denied to create temporary tables", "grant the role the missing right"]);
    assert_eq!(world.query(rows), kept);
    assert_eq!(ledger(&world), before);
    role.execute(&format!("grant temporary on database {} to ROLE", world.db.name()));
    role.start().expect(0).says(&["Applied version 3"]);
    assert_eq!(world.query("select string_agg(nick, ',' order by id) from notes"), "one,two,three");
}

#[test]
fn a_version_updates_all_rows_of_a_table_with_forced_row_security_and_leaves_it_forced() {
    let world = World::empty();
    let first = "create table notes (id int primary key, owner text not null, body text);\n\
                 alter table notes enable row level security;\n\
                 alter table notes force row level security;\n\
                 create policy own on notes using (owner = current_setting('app.user', true));\n\
                 create table plain (id int primary key);\n\
                 alter table plain enable row level security;\n";
    world.version("0001_notes", first, "");
    world.record();
    let role = Role::owner(&world);
    role.start().expect(0);
    world.db.execute("insert into notes values (1, 'ada', null), (2, 'grace', null)");
    world.version(
        "0002_bodies",
        "update notes set body = 'none' where body is null;\n",
        "[proof]\nsql = \"select not exists (select 1 from notes where body is null)\"\n[[archive]]\ntable = \"notes\"\n",
    );
    world.version("0003_not_null", "alter table notes alter column body set not null;\n", "");
    world.record();
    role.start().expect(0).says(&["Applied version 2"]);
    assert_eq!(world.query("select string_agg(body, ',') from notes"), "none,none");
    let forced = "select string_agg(relname || relforcerowsecurity || relrowsecurity, ' ' order by relname) from pg_class \
                  where relname in ('notes', 'plain')";
    assert_eq!(world.query(forced), "notestruetrue plainfalsetrue");
    role.start().expect(0).says(&["unchanged since their last proof"]);
}

#[test]
fn a_legacy_database_with_forced_row_security_is_judged_by_all_its_rows() {
    let world = World::empty();
    world.version(
        "0001_notes",
        "create table notes (id int primary key, body text);\nalter table notes enable row level security;\n\
         alter table notes force row level security;\n",
        "",
    );
    world.version(
        "0002_bodies",
        "update notes set body = 'none' where body is null;\n",
        "[proof]\nsql = \"select not exists (select 1 from notes where body is null)\"\n[[archive]]\ntable = \"notes\"\n",
    );
    world.record();
    let role = Role::owner(&world);
    let first = std::fs::read_to_string(world.migrations.path().join("0001_notes.up.sql")).unwrap();
    world.db.execute(&first);
    world.db.execute("insert into notes values (1, null)");
    role.execute("alter table notes owner to ROLE");
    // The owner would see no row at all, and find that no row lacks a body.
    let before = world.state();
    role.start().expect(77).says(&["[proof] of version 2", "row-level security", "every row"]);
    assert_eq!(world.state(), before);
    role.execute("alter role ROLE bypassrls");
    role.start().expect(0).says(&["Stamped 1 version", "Applied version 2"]);
    assert_eq!(world.query("select body from notes"), "none");
}

#[test]
fn a_read_only_server_starts_at_head_and_is_refused_where_a_version_is_pending() {
    let server = Postgres::start(PostgresOptions::default()).unwrap();
    let world = World::on(server.create_database("world"), local_servers::qdrant());
    world.small_timeline();
    world.without("0002");
    world.start(&["true"]).expect(0);
    server.execute("postgres", "alter system set default_transaction_read_only = on").unwrap();
    server.execute("postgres", "select pg_reload_conf()").unwrap();
    world.start(&["true"]).expect(0);
    let older = world.state();
    world.small_timeline();
    let recorded = World::small();
    for name in ["index.json", "0001.json", "0002.json", "0002.effects.json"] {
        let text = std::fs::read_to_string(recorded.migrations.path().join("catalog").join(name)).unwrap();
        world.migrations.write(&format!("catalog/{name}"), &text);
    }
    world.start(&["true"]).expect(76).says(&["read-only", "primary"]);
    assert_eq!(world.state(), older);
}

#[test]
fn a_standby_starts_at_head_and_is_refused_where_a_version_is_pending() {
    let mut server = Postgres::start(PostgresOptions::default()).unwrap();
    let world = World::on(server.create_database("world"), local_servers::qdrant());
    world.small_timeline();
    world.without("0002");
    world.start(&["true"]).expect(0);
    server.stop().unwrap();
    std::fs::write(server.data_dir().join("standby.signal"), "").unwrap();
    server.restart().unwrap();
    let before = world.state();
    world.start(&["true"]).expect(0);
    world.small_timeline();
    let recorded = World::small();
    for name in ["index.json", "0001.json", "0002.json", "0002.effects.json"] {
        let text = std::fs::read_to_string(recorded.migrations.path().join("catalog").join(name)).unwrap();
        world.migrations.write(&format!("catalog/{name}"), &text);
    }
    world.start(&["true"]).expect(76).says(&["standby", "primary"]);
    assert_eq!(world.state(), before);
}
