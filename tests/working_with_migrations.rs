//! The commands of those who write and look after a timeline: create, lint, diff, stamp. The real binary on real servers.

mod common;

use common::{Dir, World};
use serde_json::Value;
use tandem::postgres::lock::Key;

/// A world whose commands have no store to go to.
fn files_alone() -> World {
    let mut world = World::small();
    world.env.retain(|(name, _)| !matches!(name.as_str(), "DATABASE_URL" | "QDRANT_URL"));
    world.set("TANDEM_TIMEOUT", "1s");
    world
}

fn names(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.migrations.path()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_new_version_is_created_filled_in_recorded_and_applied() {
    let world = World::small();
    let before = names(&world);
    let created = world.output(["create", "Add user settings"]).expect(0).stdout;
    let stem = world.migrations.path().join("0003_add_user_settings");
    let wanted = [".up.sql", ".down.sql", ".toml"].map(|suffix| format!("{}{suffix}\n", stem.display()));
    assert_eq!(created, wanted.concat());
    assert_eq!(names(&world).len(), before.len() + 3);
    world.output(["lint"]).expect(65).says(&["0003_add_user_settings.up.sql", "no SQL in this file"]);
    let fill = |suffix: &str, sql: &str| {
        let path = format!("{}{suffix}", stem.display());
        let template = std::fs::read_to_string(&path).unwrap();
        assert!(template.lines().all(|line| line.is_empty() || line.starts_with("--")), "{template}");
        std::fs::write(path, format!("{template}{sql}\n")).unwrap();
    };
    fill(".up.sql", "alter table users add column settings text not null default '';");
    fill(".down.sql", "alter table users drop column settings;");
    world.output(["lint", "--strict"]).expect(0);
    world
        .output(["plan"])
        .expect(65)
        .says(&["the catalog of version 3 (add_user_settings) was never recorded"]);
    world.record();
    world.start(&["true"]).expect(0).says(&["Applied version 3"]);
    world.output(["downgrade", "-1"]).expect(0);
    world.output(["upgrade"]).expect(0);
    // The next one, and one of each kind.
    for (flags, expected) in [
        (&["--sql"][..], &["0004_more.down.sql", "0004_more.up.sql"][..]),
        (&["--toml"], &["0005_more.toml"]),
    ] {
        let before = names(&world);
        world.output(["create", "more"].iter().chain(flags)).expect(0);
        let new: Vec<String> = names(&world).into_iter().filter(|name| !before.contains(name)).collect();
        assert_eq!(new, expected);
    }
}

#[test]
fn creating_needs_a_timeline_and_a_description_and_no_store() {
    let mut world = files_alone();
    world.output(["create"]).expect(64);
    world.output(["create", "–"]).expect(64).says(&["no letter and no digit"]);
    world.output(["create", "more", "--sql", "--toml"]).expect(64);
    world.migrations.write("20251011143000_later.sql", "create table later (a int);\n");
    let created = world.output(["create", "more", "--toml"]).expect(0).stdout;
    let file = created.trim_end().rsplit('/').next().unwrap().to_owned();
    assert!(file.len() == "20261125120000_more.toml".len() && &*file > "20251011143000", "{file}");
    let empty = Dir::new();
    world.set("TANDEM_MIGRATIONS", empty.path().display().to_string());
    world
        .output(["create", "more"])
        .expect(65)
        .says(&["settings of the timeline are missing", "application ="]);
    empty.write("tandem.toml", "application = \"demo\"\n");
    world.output(["create", "Baseline"]).expect(0);
    assert!(empty.path().join("0001_baseline.up.sql").exists());
    world.set("TANDEM_MIGRATIONS", empty.path().join("absent").display().to_string());
    world.output(["create", "more"]).expect(78).says(&["does not exist"]);
}

#[test]
fn what_is_between_two_versions_is_told_without_any_store() {
    let world = files_alone();
    let text = world.output(["diff", "1", "2"]).expect(0).stdout;
    for said in [
        "Version 2 (notes, release 1.1.0)",
        "+ table notes (3 columns, 2 constraints)",
        &format!("Collections {}", world.collection),
        "~ payload_indexes.channel_id: missing, declared keyword",
    ] {
        assert!(text.contains(said), "{said:?} is not in\n{text}");
    }
    let json = world.output(["diff", "1.0.0", "head", "--json"]).expect(0).stdout;
    let diff: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&diff["from"], &diff["to"]), (&1.into(), &2.into()));
    assert_eq!(diff["postgres"]["added"][0]["object"], "table notes");
    assert_eq!(diff["collections"][0]["differences"][0]["takes"], "in_place");
    let back = world.output(["diff", "2", "0"]).expect(0).stdout;
    assert!(back.contains("Back from version 1") && back.contains("- table users"), "{back}");
    world.output(["diff", "1", "9"]).expect(64).says(&["no version `9`"]);
}

#[test]
fn warnings_fail_a_check_only_where_they_are_asked_to() {
    let world = files_alone();
    world.output(["lint", "--strict"]).expect(0);
    world.version("0003_more", "create index more on users (name);\n", "");
    let outcome = world.output(["lint"]).expect(0);
    assert!(
        outcome.stdout.contains("0003_more.up.sql:1:1: warning: writers of users wait"),
        "{}",
        outcome.stdout
    );
    assert!(outcome.stdout.contains("CREATE INDEX CONCURRENTLY"), "{}", outcome.stdout);
    world.output(["lint", "--strict"]).expect(65).says(&["1 warning, and --strict", "--after"]);
    world.output(["lint", "--strict", "--after", "3"]).expect(0);
    world.output(["lint", "--strict", "--after", "2"]).expect(65);
    world.output(["lint", "--after", "x"]).expect(64);
    let json = world.output(["lint", "--json"]).expect(0).stdout;
    let findings: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&findings[0]["severity"], &findings[0]["line"]), (&"warning".into(), &1.into()));
    world.version("0004_worse", "commit;\n", "");
    let outcome = world.output(["lint", "--json"]).expect(65);
    let findings: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(findings[1]["severity"], "error");
}

/// The tables of both versions, as somebody made them without a ledger.
fn by_hand(world: &World, versions: &[&str]) {
    for name in versions {
        let path = world.migrations.path().join(format!("{name}.up.sql"));
        world.db.execute(&std::fs::read_to_string(path).unwrap());
    }
}

fn ledger(world: &World) -> String {
    world.query(
        "select coalesce(string_agg(version || ' ' || origin, ', ' order by version), '') from tandem.ledger",
    )
}

fn open_runs(world: &World) -> String {
    world.query("select count(*)::text from tandem.journal where ended is null")
}

#[test]
fn what_the_catalog_proves_is_stamped_and_nothing_else() {
    let world = World::small();
    world.output(["stamp", "head"]).expect(76).says(&["fresh", "tandem upgrade 2"]);
    by_hand(&world, &["0001_users", "0002_notes"]);
    world.db.execute("insert into users (name) values ('Ada')");
    let before = world.state();
    world.output(["stamp", "1"]).expect(76).says(&["legacy", "version 1 (users)", "tandem stamp 2 records"]);
    for wrong in [
        &["+1"][..],
        &["9"],
        &["2", "--unproven"],
        &["2", "--reason", "so"],
        &["2", "--unproven", "--reason", ""],
    ] {
        world.output(["stamp"].iter().chain(wrong)).expect(64);
    }
    let dry = world.output(["stamp", "1.1.0", "--dry-run"]).expect(0).stdout;
    assert!(dry.contains("would stamp 1, 2"), "{dry}");
    assert_eq!(world.state(), before, "a dry run or a refusal");
    let done = world.output(["stamp", "head", "--json"]).expect(0).stdout;
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!((&done["proven"], &done["stamp"]), (&true.into(), &serde_json::json!([1, 2])));
    assert_eq!((ledger(&world).as_str(), open_runs(&world).as_str()), ("1 stamped, 2 stamped", "0"));
    assert!(world.collection_info().is_none(), "a stamp touches no collection");
    let history = world.output(["history"]).expect(0).stdout;
    assert!(history.contains("legacy: no ledger;") && history.contains("all as in version 2"), "{history}");
    let again = world.output(["stamp", "head"]).expect(0).stdout;
    assert!(again.contains("the ledger says version 2 already"), "{again}");
    world.start(&["true"]).expect(0);
    assert_eq!(ledger(&world), "1 stamped, 2 stamped");
    assert_eq!(world.stamp()["version"], 2);
    assert_eq!(world.query("select count(*)::text from users"), "1");
    // To another version than the one that is proven lead other commands.
    world.output(["stamp", "1"]).expect(76).says(&["tandem downgrade 1"]);
    world.output(["downgrade", "1"]).expect(0);
    world.output(["stamp", "2"]).expect(76).says(&["missing: table notes", "tandem upgrade 2"]);
}

#[test]
fn a_stamp_that_lies_is_put_right_by_the_proof() {
    let world = World::small();
    world.output(["migrate"]).expect(0);
    world.db.execute("drop table notes");
    world.output(["stamp", "2"]).expect(76).says(&[
        "stale",
        "missing: table notes",
        "tandem stamp 1 records",
    ]);
    let done = world.output(["stamp", "1"]).expect(0).stdout;
    assert!(done.contains("forgot 2"), "{done}");
    assert_eq!(ledger(&world), "1 applied");
    world.output(["verify"]).expect(2);
}

#[test]
fn without_proof_it_takes_a_word_and_a_reason_that_the_ledger_keeps_and_no_start_believes() {
    let world = World::small();
    by_hand(&world, &["0001_users"]);
    world.output(["stamp", "2"]).expect(76).says(&["missing: table notes", "--unproven --reason"]);
    let line = ["stamp", "2", "--unproven", "--reason", "restored by 'hand', ticket 7"];
    let done = world.output(line).expect(0).stdout;
    assert!(done.contains("no start believes it"), "{done}");
    assert_eq!((ledger(&world).as_str(), open_runs(&world).as_str()), ("1 stamped, 2 stamped", "0"));
    let history = world.output(["history", "--json"]).expect(0).stdout;
    let history: Value = serde_json::from_str(&history).unwrap();
    let evidence = history[1]["evidence"].as_str().unwrap();
    assert!(
        evidence.starts_with("unproven, said by hand: restored by 'hand', ticket 7; Postgres was legacy"),
        "{evidence}"
    );
    let kept =
        world.query("select (step ->> 'evidence') is not null from tandem.journal where step ? 'evidence'");
    assert_eq!(kept, "t");
    // No catalog stands behind it.
    assert_eq!(world.query("select count(catalog_digest)::text from tandem.ledger"), "0");
    world.output(["verify"]).expect(2).says(&["stale"]);
    world.start(&["true"]).expect(0).says(&["stale"]);
    assert_eq!(ledger(&world), "1 stamped, 2 applied");
    world.output(["verify"]).expect(0);
}

#[test]
fn another_tools_ledger_follows_a_proven_stamp() {
    let mut world = World::whisperengine();
    world.set("QDRANT_URL", "none");
    world.output(["migrate"]).expect(0);
    world.db.execute(
        "drop schema tandem cascade; create table alembic_version (version_num varchar(32) primary key); \
         insert into alembic_version values ('9c23e4e81011')",
    );
    let before = world.query("select version_num from alembic_version");
    world.output(["stamp", "head", "--dry-run"]).expect(0);
    assert_eq!(world.query("select version_num from alembic_version"), before);
    world.output(["stamp", "head"]).expect(0);
    assert_ne!(world.query("select version_num from alembic_version"), before);
    assert_eq!(world.query("select string_agg(distinct origin, ',') from tandem.ledger"), "adopted");
    world.output(["verify"]).expect(0);
}

#[test]
fn a_ledger_that_this_image_cannot_judge_is_left_alone() {
    let world = World::small();
    world.output(["migrate"]).expect(0);
    let up = std::fs::read_to_string(world.migrations.path().join("0002_notes.up.sql")).unwrap();
    world.migrations.write("0002_notes.up.sql", &up.replace("default ''", "default 'x'"));
    let unproven = ["stamp", "2", "--unproven", "--reason", "so"];
    world.output(unproven).expect(65).says(&["was changed after it was applied"]);
    world.migrations.write("0002_notes.up.sql", &up);
    world.without("0002");
    world
        .output(["stamp", "1", "--unproven", "--reason", "so"])
        .expect(76)
        .says(&["ahead", "newest version"]);
    assert_eq!(ledger(&world), "1 applied, 2 applied");
}

#[test]
fn a_stamp_waits_for_the_lock() {
    let mut world = World::small();
    by_hand(&world, &["0001_users", "0002_notes"]);
    world.set("TANDEM_LOCK_TIMEOUT", "1s");
    let hash = Key::Timeline("demo".into()).hash();
    let (held, free) = (std::sync::mpsc::channel::<()>(), std::sync::mpsc::channel::<()>());
    std::thread::scope(|scope| {
        let url = world.db.url();
        scope.spawn(move || {
            use sqlx::Connection as _;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut holder = sqlx::PgConnection::connect(&url).await.unwrap();
                let sql = format!("select pg_advisory_lock({}, {hash})", 0x7461_6e64);
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut holder).await.unwrap();
                held.0.send(()).unwrap();
                // Also when the test fails, which drops the other end.
                let _ = free.1.recv();
            });
        });
        let release = free.0;
        held.1.recv().unwrap();
        world.output(["stamp", "head"]).expect(75).says(&["the lock of timeline demo"]);
        world.output(["stamp", "head", "--dry-run"]).expect(0);
        release.send(()).unwrap();
    });
    world.output(["stamp", "head"]).expect(0);
}
