//! Bad input, from outside: the real binary on real stores ends with the right code, says what it found, what it
//! expected and what helps, and changes nothing.

mod common;

use common::{Dir, World, collection_toml};
use local_servers::{Process, Qdrant, QdrantOptions, unique_name};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

/// A start that fails with this code and these words, does not become the command, and leaves both stores as they were.
#[track_caller]
fn refused(world: &World, code: i32, says: &[&str]) {
    let before = world.state();
    let outcome = world.start(&["echo", "became"]).expect(code).says(says);
    assert_eq!(outcome.stdout, "", "{}", outcome.stderr);
    assert_eq!(world.state(), before);
}

/// At version 2, with rows.
fn started() -> World {
    let world = World::small();
    world.start(&["true"]).expect(0);
    world.db.execute(
        "insert into users (name) values ('Ada'), ('Grace'); insert into notes values (1, 1), (2, 2)",
    );
    world
}

fn edit(world: &World, file: &str, change: impl Fn(&str) -> String) {
    let path = world.migrations.path().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = change(&text);
    assert_ne!(changed, text, "the edit of {file} changes nothing");
    std::fs::write(path, changed).unwrap();
}

const NOTE: &str = "create table later (id int primary key);\n";

#[test]
fn pending_files_that_are_not_the_recorded_ones() {
    let world = World::small();
    let path = world.migrations.path().join("0002_notes.up.sql");
    let text = std::fs::read_to_string(&path).unwrap();
    // The same catalog afterwards: only the file tells that this was never recorded.
    std::fs::write(&path, format!("{text}insert into users (name) values ('nobody');\n")).unwrap();
    let says = [
        "0002_notes.up.sql",
        "version 2 (notes) was changed after its catalog was recorded",
        "tandem record",
    ];
    refused(&world, 65, &says);
    world.output(["plan"]).expect(65).says(&says);
    assert_eq!(
        world.query("select count(*)::text from pg_class where relnamespace = 'public'::regnamespace"),
        "0"
    );
    // A comment and other line endings make no other version.
    std::fs::write(&path, format!("-- Notes of users.\n{}", text.replace('\n', "\r\n"))).unwrap();
    world.start(&["true"]).expect(0).says(&["Applied version 2"]);
}

#[test]
fn a_recorded_version_without_its_files() {
    let world = World::small();
    for file in ["0001_users.up.sql", "0001_users.toml"] {
        std::fs::remove_file(world.migrations.path().join(file)).unwrap();
    }
    world.migrations.write("0002_notes.toml", "");
    refused(&world, 65, &["a catalog of version 1 (users) was recorded", "put the missing file back"]);
}

#[test]
fn files_that_are_no_timeline() {
    let rows: [(&str, &str, &[&str]); 13] = [
        ("0002_other.up.sql", NOTE, &["version 2 has two names", "notes", "other", "another number"]),
        ("2_notes.up.sql", NOTE, &["version 2 has this part a second time", "0002_notes.up.sql", "keep one"]),
        ("0002_notes.sql", NOTE, &["version 2 has this part a second time", "0002_notes.up.sql"]),
        ("0000_zero.up.sql", NOTE, &["0000_zero.up.sql", "not positive", "a number from 1"]),
        ("99999999999999999999_big.up.sql", NOTE, &["99999999999999999999", "is above", "a number from 1"]),
        (
            "v3_later.up.sql",
            NOTE,
            &["v3_later.up.sql", "not the name of a version's file", "<number>_<name>.up.sql", "rename"],
        ),
        ("-3_later.up.sql", NOTE, &["-3_later.up.sql", "not the name of a version's file"]),
        ("3.up.sql", NOTE, &["3.up.sql", "not the name of a version's file"]),
        ("0003_later.SQL", NOTE, &["0003_later.SQL", "not the name of a version's file"]),
        (
            "0003_later.down.sql",
            "drop table later;\n",
            &["version 3 has a down without an up", "add the up, or remove the down"],
        ),
        (
            "0003_later.toml",
            "relaese = \"1.2.0\"\n",
            &["0003_later.toml:1:1", "unknown key `relaese`", "did you mean `release`?"],
        ),
        ("0003_later.toml", "release = \n", &["0003_later.toml:1:"]),
        (
            "tandem.toml",
            "application = \"demo\"\nshemas = [\"t\"]\n",
            &["tandem.toml:2:1", "unknown key `shemas`", "did you mean `schemas`?"],
        ),
    ];
    let world = World::small();
    for (file, text, says) in rows {
        let path = world.migrations.path().join(file);
        let before = std::fs::read_to_string(&path);
        std::fs::write(&path, text).unwrap();
        refused(&world, 65, says);
        match before {
            Ok(text) => std::fs::write(path, text).unwrap(),
            Err(_) => std::fs::remove_file(path).unwrap(),
        }
    }
}

#[test]
fn an_unknown_key_deep_in_a_collection_is_named_with_its_place() {
    let world = World::small();
    edit(&world, "0002_notes.toml", |text| text.replace("size = 4", "siez = 4"));
    refused(&world, 65, &["0002_notes.toml:", "siez", "did you mean `size`?"]);
}

#[test]
fn declarations_and_fills_that_no_collection_can_have() {
    for (toml, says) in [
        ("[collection.sparse_vectors]\ncontent = {}\n", "the vector `content` is declared dense and sparse"),
        (
            "[collection.strict_mode_config]\nmax_payload_index_count = 1\n",
            "max_payload_index_count is 1, and 2 payload indexes",
        ),
        ("[collection.metadata]\ntandem = 1\n", "the metadata key `tandem` holds the stamp"),
        (
            "[[fill]]\nvector = \"content\"\nfrom = { vector = \"elsewhere\" }\n",
            "it reads the vector `elsewhere`",
        ),
        (
            "[[fill]]\nvector = \"nowhere\"\nfrom = { payload = \"e\" }\n",
            "it names the vector `nowhere`, which no collection declares",
        ),
    ] {
        let world = World::small();
        edit(&world, "0002_notes.toml", |text| format!("{text}\n{toml}"));
        refused(&world, 65, &["0002_notes.toml:", says]);
    }
}

#[test]
fn an_ensured_name_that_match_does_not_cover() {
    let world = World::small();
    edit(&world, "0002_notes.toml", |text| text.replace("ensure = [", "ensure = [\"another\", "));
    refused(
        &world,
        65,
        &["0002_notes.toml:", "`ensure` names another", "does not match", "[[collection]] of its own"],
    );
}

#[test]
fn a_directory_where_a_file_is_expected_and_a_file_where_a_directory_is() {
    let world = World::small();
    for name in ["0003_later.up.sql", "0003_later.toml", "0003_later"] {
        let path = world.migrations.path().join(name);
        std::fs::create_dir(&path).unwrap();
        refused(&world, 65, &[name, "a directory where a file is expected", "move it out of the timeline"]);
        std::fs::remove_dir(path).unwrap();
    }
    std::fs::remove_file(world.migrations.path().join("tandem.toml")).unwrap();
    refused(&world, 65, &["the settings of the timeline are missing", "application"]);
    std::fs::create_dir(world.migrations.path().join("tandem.toml")).unwrap();
    refused(&world, 65, &["tandem.toml", "a directory where a file is expected"]);

    let mut world = World::small();
    world.set("TANDEM_MIGRATIONS", "/no/such/directory");
    refused(&world, 78, &["/no/such/directory", "does not exist", "tandem.toml"]);
    let file = world.migrations.path().join("0001_users.up.sql");
    world.set("TANDEM_MIGRATIONS", file.display().to_string());
    refused(&world, 78, &["0001_users.up.sql", "a file where the directory of the timeline is expected"]);
    let empty = Dir::new();
    empty.write("tandem.toml", "application = \"demo\"\n");
    world.set("TANDEM_MIGRATIONS", empty.path().display().to_string());
    refused(&world, 65, &["the timeline has no versions", "<number>_<name>.up.sql"]);
}

#[test]
fn a_bad_timeline_is_found_before_a_missing_database_is_created() {
    let mut world = World::small();
    let name = unique_name("absent");
    world.set("DATABASE_URL", world.db.server().url(&name));
    world.set("TANDEM_MISSING_DATABASE", "create");
    world.migrations.write("0002_other.up.sql", NOTE);
    world.start(&["true"]).expect(65).says(&["two names"]);
    let exists = format!("select count(*)::text from pg_database where datname = '{name}'");
    assert_eq!(world.query(&exists), "0");
}

#[test]
fn an_applied_file_whose_statements_changed() {
    for (file, from, to) in [
        ("0002_notes.up.sql", "default ''", "default 'x'"),
        ("0001_users.up.sql", "name text", "name  varchar"),
        ("0002_notes.toml", "user_id = \"keyword\"", "user_id = \"integer\""),
    ] {
        let world = started();
        edit(&world, file, |text| text.replace(from, to));
        refused(&world, 65, &["was changed after it was applied", "put the file back", "a new version"]);
        world.output(["plan"]).expect(65);
        world.output(["verify"]).expect(65);
    }
}

#[test]
fn an_applied_file_of_which_only_comments_or_line_endings_changed_heals() {
    type Change = fn(&str) -> String;
    let rows: [(&str, Change); 4] = [
        ("0002_notes.up.sql", |text| format!("-- why\n{text}")),
        ("0002_notes.up.sql", |text| text.replace('\n', "\r\n")),
        ("0002_notes.up.sql", |text| text.replace("create table", "CREATE /* now */ TABLE")),
        ("0002_notes.toml", |text| format!("# why\n{}", text.replace('\n', "\r\n"))),
    ];
    for (file, change) in rows {
        let world = started();
        let checksum = "select checksum_raw from tandem.ledger where version = 2";
        let before = world.query(checksum);
        edit(&world, file, change);
        world.start(&["true"]).expect(0).says(&["Version 2", "checksum is renewed"]);
        assert_ne!(world.query(checksum), before);
        world.start(&["true"]).expect(0).says(&["unchanged since their last proof"]);
    }
}

/// A third version whose file was recorded and that meets data on which its third statement fails.
fn third_version(up: &str) -> World {
    let world = started();
    world.version("0003_later", up, &collection_toml("1.2.0", "user_id = \"keyword\"\nlater = \"keyword\""));
    world.record();
    world
}

#[test]
fn sql_that_fails_in_its_third_statement_is_named_by_place_and_nothing_remains() {
    // Without a position of the server's: the data forbids it.
    let world = third_version(
        "create table later (id int primary key);\ninsert into later values (1);\n\n  alter table users\n  add constraint short unique (name);\n",
    );
    world.db.execute("insert into users (name) values ('Ada')");
    refused(
        &world,
        1,
        &[
            "0003_later.up.sql:4:3: statement 3",
            "alter table users",
            "could not create unique index",
            "(name)=(Ada)",
            "23505",
            "rolled back",
            "nothing of this version remains",
        ],
    );
    // With one: a column of the user's own makes a name ambiguous.
    let world = third_version(
        "create table later (id int primary key);\ninsert into later values (1);\n-- été\ncreate view bodies as select\n  u.id, body from notes n join users u on u.id = n.user_id;\n",
    );
    world.db.execute("alter table users add column body text");
    refused(
        &world,
        1,
        &["0003_later.up.sql:5:9: statement 3", "u.id, body from notes", "\"body\" is ambiguous", "42702"],
    );
}

#[test]
fn sql_that_fails_in_the_first_version_leaves_no_ledger() {
    let world = World::small();
    world.db.execute("create schema other; create table other.users_name (id int)");
    edit(&world, "0001_users.up.sql", |text| format!("{text}select 1 / 0;\n"));
    world.pretend_recorded();
    refused(&world, 1, &["0001_users.up.sql:3:1: statement 3", "division by zero"]);
}

#[test]
fn a_recording_of_sql_that_fails_names_the_place_and_leaves_no_scratch_database() {
    let world = World::small();
    world.migrations.write(
        "0003_later.up.sql",
        "create table later (id int);\nselect 2;\ninsert into missing values (1);\n",
    );
    world
        .output(["record"])
        .expect(1)
        .says(&["0003_later.up.sql:3:13: statement 3", "\"missing\" does not exist"]);
    let catalog = std::fs::read_to_string(world.migrations.path().join("catalog/index.json")).unwrap();
    assert!(!catalog.contains("later"), "{catalog}");
}

#[test]
fn a_file_that_gives_the_lock_away_is_rolled_back() {
    let world = started();
    world.version("0003_later", &format!("{NOTE}select pg_advisory_unlock_all();\n"), "");
    world.record();
    refused(&world, 69, &["the lock of timeline demo was lost", "start again"]);
}

#[test]
fn statements_that_end_the_transaction_or_outlive_it() {
    let rows: [(&str, i32, &[&str]); 7] = [
        (
            "begin;\ncreate table later (id int primary key);\ncommit;\n",
            65,
            &["0003_later.up.sql:1:1", "BEGIN controls a transaction", "remove it"],
        ),
        ("create table later (id int primary key);\n  COMMIT;\n", 65, &["0003_later.up.sql:2:3", "COMMIT"]),
        (
            "create table later (id int primary key);\nset search_path = pg_catalog;\n",
            65,
            &["0003_later.up.sql:2:1", "search_path"],
        ),
        (
            "create table later (id int primary key);\nselect set_config('search_path', 'pg_catalog', false);\n",
            65,
            &["0003_later.up.sql:2:", "set_config"],
        ),
        (
            "create table later (id int primary key);\ndo $$ begin execute 'set search_path = pg_catalog'; end $$;\n",
            1,
            &["0003_later.up.sql", "search_path", "changed for later steps", "remove the SET"],
        ),
        (
            "create table later (id int primary key);\ndo $$ begin commit; end $$;\n",
            1,
            &["0003_later.up.sql:2:1", "invalid transaction termination"],
        ),
        (
            "-- tandem:no-transaction\ncreate table later (id int primary key);\n",
            65,
            &["0003_later.up.sql:2:1"],
        ),
    ];
    let world = third_version(NOTE);
    for (up, code, says) in rows {
        world.migrations.write("0003_later.up.sql", up);
        world.pretend_recorded();
        refused(&world, code, says);
    }
}

#[test]
fn a_version_inserted_below_the_applied_ones_and_one_that_is_missing() {
    let world = World::empty();
    world.version("0001_one", "create table one (id int primary key);\n", "");
    world.version("0003_three", "create table three (id int primary key);\n", "");
    world.record();
    world.start(&["true"]).expect(0);
    world.version("0002_two", "create table two (id int primary key);\n", "");
    world.record();
    refused(
        &world,
        65,
        &["version 2 (two)", "skipped", "names 3", "a number above the newest applied version"],
    );
    world.without("0001");
    std::fs::remove_file(world.migrations.path().join("0002_two.up.sql")).unwrap();
    world.version("0004_four", "create table four (id int primary key);\n", "");
    world.record();
    refused(&world, 65, &["names version 1 (one)", "does not have", "put the missing file back"]);
}

#[test]
fn a_proof_that_does_not_hold() {
    let world = started();
    world.version(
        "0003_later",
        "update users set name = upper(name) where name <> 'Grace';\n",
        "[proof]\nsql = \"select not exists (select 1 from users where name <> upper(name))\"\n[[archive]]\ntable = \"users\"\n",
    );
    world.record();
    refused(&world, 1, &["version 3 (later)", "[proof]", "rolled back", "upper(name)"]);
    assert_eq!(world.query("select string_agg(name, ',' order by name) from users"), "Ada,Grace");
}

#[test]
fn catalogs_that_are_missing_broken_or_of_another_timeline() {
    let world = World::small();
    world.version("0003_later", NOTE, "");
    refused(&world, 65, &["version 3 (later) was never recorded", "index.json", "tandem record"]);

    std::fs::remove_file(world.migrations.path().join("0003_later.up.sql")).unwrap();
    for file in ["index.json", "0001.json", "0002.effects.json"] {
        let path = world.migrations.path().join("catalog").join(file);
        let recorded = std::fs::read_to_string(&path).unwrap();
        for text in ["{", "", "[]", "{\"objects\": 3}"] {
            std::fs::write(&path, text).unwrap();
            refused(&world, 65, &[file, "cannot be used", "tandem record"]);
        }
        std::fs::remove_file(&path).unwrap();
        refused(&world, 65, &[file, "cannot be used", "tandem record"]);
        std::fs::create_dir(&path).unwrap();
        refused(&world, 65, &[file, "cannot be used"]);
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, recorded).unwrap();
    }
    std::fs::remove_dir_all(world.migrations.path().join("catalog")).unwrap();
    refused(&world, 65, &["index.json", "tandem record"]);
    world.migrations.write("catalog", "");
    refused(&world, 65, &["index.json", "tandem record"]);
}

#[test]
fn a_version_that_was_changed_after_its_recording() {
    let world = started();
    world.version("0003_later", NOTE, "");
    world.record();
    edit(&world, "0003_later.up.sql", |text| text.replace("id int", "id bigint"));
    world.pretend_recorded();
    refused(&world, 1, &["version 3 (later)", "rolled back", "bigint", "tandem record"]);
}

#[test]
fn a_command_that_cannot_be_executed_is_found_before_anything_is_changed() {
    let world = World::small();
    let directory = Dir::new();
    let plain = directory.write("plain", "#!/bin/sh\n");
    std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o644)).unwrap();
    let folder = directory.path().display().to_string();
    let plain = plain.display().to_string();
    let before = world.state();
    for (command, code, says) in [
        (&[][..], 64, "CMD"),
        (&["no-such-command"], 127, "the command no-such-command does not exist"),
        (&["/no/such/command"], 127, "does not exist"),
        (&[""], 127, "does not exist"),
        (&[&plain], 126, "is not executable (chmod +x"),
        (&[&folder], 126, "is a directory"),
    ] {
        world.start(command).expect(code).says(&[says]);
        assert_eq!(world.state(), before);
    }
    world.output(["run", "true"]).expect(64);
    world.output(["nonsense"]).expect(64).says(&["nonsense"]);
    world.output(["plan", "--jsno"]).expect(64).says(&["--json"]);
}

#[test]
fn a_metadata_key_that_is_no_stamp() {
    for value in ["\"mine\"", "{\"version\": 2}", "null", "7"] {
        let world = World::small();
        let body = format!(
            "{{\"vectors\": {{\"content\": {{\"size\": 4, \"distance\": \"Cosine\"}}}}, \"metadata\": {{\"tandem\": {value}, \"own\": 1}}}}"
        );
        let (status, answer) =
            world.qdrant.rest("PUT", &format!("/collections/{}", world.collection), &body).unwrap();
        assert_eq!(status, 200, "{answer}");
        // The stamp is written key by key, so what state() hides must not be hidden here.
        let metadata = world.collection_info().unwrap()["config"]["metadata"].clone();
        refused(&world, 76, &[&world.collection, "metadata key `tandem` is no stamp", "remove the key"]);
        assert_eq!(world.collection_info().unwrap()["config"]["metadata"], metadata);
    }
}

/// A Qdrant with keys of its own.
fn with_keys() -> Process<Qdrant> {
    Qdrant::start(QdrantOptions {
        api_key: Some("sesame".into()),
        env: vec![("QDRANT__SERVICE__READ_ONLY_API_KEY".into(), "peephole".into())],
        ..Default::default()
    })
    .unwrap()
}

#[test]
fn api_keys_that_are_wrong_or_may_only_read() {
    let server = with_keys();
    let mut world = World::on(local_servers::postgres().create_database("world"), (*server).clone());
    world.small_timeline();
    world.record();
    world.set("QDRANT_API_KEY", "wrong");
    refused(&world, 77, &["Qdrant", "check the API key in QDRANT_API_KEY"]);
    world.env.retain(|(name, _)| name != "QDRANT_API_KEY");
    refused(&world, 77, &["Qdrant", "set QDRANT_API_KEY"]);
    world.set("QDRANT_API_KEY", "peephole");
    refused(&world, 77, &["Qdrant", "use an API key that may manage collections"]);
    // Reading is all that a start at head and the readers need.
    world.output(["plan", "--exit-code"]).expect(2);
    world.set("QDRANT_API_KEY", "sesame");
    world.start(&["true"]).expect(0);
    world.set("QDRANT_API_KEY", "peephole");
    world.start(&["true"]).expect(0);
    world.output(["verify"]).expect(0);
}

#[test]
fn logins_that_postgres_refuses() {
    let mut world = World::small();
    let server = world.db.server().clone();
    world.set("DATABASE_URL", world.db.url_as(server.user(), "wrong"));
    refused(
        &world,
        77,
        &["password authentication failed", "check the user's name and the password in DATABASE_URL"],
    );
    world.set("DATABASE_URL", world.db.url_as("nobody_at_all", "wrong"));
    refused(&world, 77, &["nobody_at_all", "check the user's name"]);
    let role = unique_name("reader");
    world.db.execute(&format!("create role {role} login password 'r'"));
    world.set("DATABASE_URL", world.db.url_as(&role, "r"));
    refused(
        &world,
        77,
        &[
            "permission denied",
            "have the database's owner run",
            &format!("create schema \"tandem\"; grant usage, create on schema \"tandem\" to \"{role}\";"),
        ],
    );
    world.db.execute(&format!("drop role {role}"));
}

#[test]
fn a_missing_database_fails_or_is_created_or_is_waited_for() {
    let mut world = World::small();
    let name = unique_name("absent");
    let server = world.db.server().clone();
    let url = server.url(&name);
    let exists = format!("select count(*)::text from pg_database where datname = '{name}'");
    world.set("DATABASE_URL", url.clone());
    refused(&world, 78, &[&name, "does not exist", "create the database, or set TANDEM_MISSING_DATABASE"]);
    world.set("TANDEM_MISSING_DATABASE", "wait");
    world.set("TANDEM_TIMEOUT", "1s");
    refused(&world, 69, &[&name, "does not exist", "not ready after 1s"]);
    assert_eq!(world.query(&exists), "0");
    world.set("TANDEM_MISSING_DATABASE", "create");
    for reader in [
        &["status"][..],
        &["plan"],
        &["verify"],
        &["verify", "--wait"],
        &["wait"],
        &["history"],
        &["archive", "list"],
    ] {
        world.output(reader).expect(69).says(&[&name, "does not exist"]);
    }
    world.output(["downgrade", "1", "--dry-run"]).expect(69);
    world.output(["retained", "list"]).expect(69);
    assert_eq!(world.query(&exists), "0", "a reader created the database");
    world.set("TANDEM_TIMEOUT", "20s");
    world.start(&["true"]).expect(0).says(&["Created database"]);
    assert_eq!(common::query(&url, "select count(*)::text from notes"), "0");
    server.execute("postgres", &format!("drop database {name} with (force)")).unwrap();
}

#[test]
fn stores_that_are_not_there_or_not_what_they_should_be() {
    let mut world = World::small();
    let (postgres, qdrant) = (world.db.url(), world.qdrant.grpc_url());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    world.set("TANDEM_TIMEOUT", "1s");
    world.set("DATABASE_URL", format!("postgres://u@127.0.0.1:{free}/d"));
    refused(
        &world,
        69,
        &["not ready after 1s", "Postgres u@127.0.0.1", "nothing listens", "raise --timeout"],
    );
    world.set("DATABASE_URL", postgres.clone());
    world.set("QDRANT_URL", format!("http://127.0.0.1:{free}"));
    refused(&world, 69, &["not ready after 1s", "Qdrant http://127.0.0.1", "nothing listens"]);
    // A port that never answers must not outlast the deadline.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    world.set("QDRANT_URL", format!("http://127.0.0.1:{}", silent.local_addr().unwrap().port()));
    refused(&world, 69, &["not ready after 1s", "Qdrant http://127.0.0.1"]);
    world.set("QDRANT_URL", world.qdrant.http_url());
    world.set("TANDEM_TIMEOUT", "20s");
    refused(&world, 78, &["does not speak gRPC", "REST port"]);
    world.set("QDRANT_URL", postgres.replace("postgresql://", "http://"));
    refused(&world, 78, &["QDRANT_URL"]);
    world.set("QDRANT_URL", qdrant.clone());
    world.set("DATABASE_URL", format!("postgres://u@127.0.0.1:{}/d", world.qdrant.http_port()));
    refused(&world, 78, &["is this the port of a Postgres server"]);
    world.set("DATABASE_URL", "mysql://u@h/d");
    refused(&world, 78, &["DATABASE_URL", "postgres://"]);
    world.env.retain(|(name, _)| name != "DATABASE_URL");
    let outcome = world.start(&["true"]).expect(78);
    outcome.says(&["no setting says where Postgres is", "DATABASE_URL"]);
    world.set("DATABASE_URL", postgres);
    world.env.retain(|(name, _)| name != "QDRANT_URL");
    refused(&world, 78, &["no setting says where Qdrant is", "QDRANT_URL=none"]);
}

#[test]
fn settings_that_cannot_be_used() {
    let rows: [(&str, &str, &[&str]); 8] = [
        ("TANDEM_TIMEOUT", "soon", &["TANDEM_TIMEOUT", "\"soon\"", "60s"]),
        ("TANDEM_LOG_LEVEL", "loud", &["TANDEM_LOG_LEVEL", "\"loud\"", "trace"]),
        ("TANDEM_ON_REFUSAL", "explode", &["TANDEM_ON_REFUSAL", "exit, hold"]),
        ("TANDEM_MISSING_DATABASE", "maybe", &["TANDEM_MISSING_DATABASE", "fail, wait, create"]),
        ("TANDEM_CONFIG", "/no/such/file.toml", &["TANDEM_CONFIG", "/no/such/file.toml", "cannot be read"]),
        ("TANDEM_PROBE", "everywhere", &["TANDEM_PROBE", "9090"]),
        ("POSTGRES_PASSWORD_FILE", "/no/such/secret", &["POSTGRES_PASSWORD_FILE", "cannot be read"]),
        ("QDRANT_API_KEY_FILE", "/no/such/secret", &["QDRANT_API_KEY_FILE", "cannot be read"]),
    ];
    for (name, value, says) in rows {
        let mut world = World::small();
        if name == "POSTGRES_PASSWORD_FILE" {
            world.env.retain(|(name, _)| name != "DATABASE_URL");
            world.set("POSTGRES_HOST", "127.0.0.1");
        }
        world.env.retain(|(other, _)| other != name);
        world.set(name, value);
        refused(&world, 78, says);
    }
    let directory = Dir::new();
    let file = directory.write("tandem.toml", "timeuot = \"3s\"\n");
    let mut world = World::small();
    world.set("TANDEM_CONFIG", file.display().to_string());
    refused(&world, 78, &["timeuot", "timeout"]);
    assert!(Path::new(&file).exists());
}

#[test]
fn output_that_cannot_be_written_is_said_and_a_reader_that_leaves_is_no_failure() {
    let mut world = World::small();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let left = || std::io::pipe().unwrap().1;
    for command in
        [&["--help"][..], &["version"], &["config"], &["config", "--json"], &["lint"], &["plan"], &["status"]]
    {
        let output = world.tandem(command).stdout(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{command:?}: {}", common::text(&output));
        let output = world.tandem(command).stdout(left()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{command:?}: {}", common::text(&output));
    }
    // What fails keeps its exit code where nobody can read why.
    world.set("TANDEM_LOG_LEVEL", "off");
    for (command, code) in [
        (&["nonsense"][..], 64),
        (&["wait", "--timeout", "soon"], 64),
        (&["run", "--", "no-such-command"], 127),
    ] {
        for unread in [Stdio::from(full()), Stdio::from(left())] {
            let status = world.tandem(command).stdout(Stdio::null()).stderr(unread).status().unwrap();
            assert_eq!(status.code(), Some(code), "{command:?}");
        }
    }
    world.set("TANDEM_LOG_LEVEL", "trace");
    let status = world.tandem(["run", "--", "true"]).stderr(left()).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_failure_is_the_one_line_of_the_termination_log_that_is_there() {
    let mut world = World::small();
    let directory = Dir::new();
    let path = directory.path().join("termination-log");
    world.set("TANDEM_TERMINATION_LOG", path.display().to_string());
    world.db.execute("create table orders (id int primary key)");
    refused(&world, 76, &["foreign"]);
    assert!(!path.exists());
    let last_words = |world: &World, args: &[&str], code: i32, says: &str| {
        std::fs::write(&path, "older").unwrap();
        world.output(args).expect(code);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(says) && text.ends_with('\n') && text.lines().count() == 1, "{text:?}");
    };
    last_words(&world, &["run", "--", "true"], 76, "foreign");
    last_words(&world, &["run", "--", "no-such-command"], 127, "does not exist");
    last_words(&world, &["run"], 64, "CMD");
    world.set("TANDEM_TIMEOUT", "soon");
    last_words(&world, &["run", "--", "true"], 78, "TANDEM_TIMEOUT");
}
