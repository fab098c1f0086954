//! A database that a dump took to another major version, older or newer, is what it was.

mod common;

use common::World;
use local_servers::{Database, PgVersion, Postgres};
use std::process::Command;

/// All of it, tandem's own schema and rows included, as SQL that every server takes.
fn dump(database: &Database) -> Result<String, String> {
    let pg_dump = local_servers::newest_pg_dump().map_err(|error| error.to_string())?;
    let output =
        Command::new(pg_dump).args(["--no-owner", "--inserts", "--dbname", &database.url()]).output();
    let output = output.map_err(|error| error.to_string())?;
    assert!(output.status.success(), "{}", common::text(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let for_all = |line: &&str| !line.starts_with('\\') && !line.starts_with("SET transaction_timeout");
    Ok(text.lines().filter(for_all).collect::<Vec<_>>().join("\n"))
}

#[test]
fn what_was_restored_on_another_major_version_is_proven_and_goes_on() {
    for (from, to) in [
        (PgVersion::V16, PgVersion::V18),
        (PgVersion::V18, PgVersion::V18),
        (PgVersion::V18, PgVersion::V16),
        (PgVersion::V17, PgVersion::V14),
    ] {
        for pending in [false, true] {
            let what = format!("{from:?} to {to:?}, pending: {pending}");
            let mut world =
                World::whisperengine_on(Postgres::shared(from).unwrap().create_database("dumped"));
            world.set("QDRANT_URL", "none");
            match pending {
                false => drop(world.start(&["true"]).expect(0)),
                true => world.start_before("0008"),
            }
            let text = match dump(&world.db) {
                Ok(text) => text,
                Err(why) => return println!("skipped: {why}"),
            };
            let restored = Postgres::shared(to).unwrap().create_database("restored");
            restored.execute(&text);
            // What a session finds in its `search_path` is nothing, or somebody else's.
            let path = if pending { "''" } else { "elsewhere, pg_catalog" };
            restored.execute(&format!(
                "create schema elsewhere; create table elsewhere.characters (id text);
                 alter database {} set search_path = {path}",
                restored.name()
            ));
            world.set("DATABASE_URL", restored.url());
            if pending {
                world
                    .start(&["true"])
                    .expect(0)
                    .says(&["versioned: the ledger says version 7", "Applied version 14"]);
            }
            assert_eq!(world.output(["verify"]).code, 0, "{what}");
            let outcome = world.start(&["true"]).expect(0);
            assert!(outcome.stderr.contains("both stores at head"), "{what}: {}", outcome.stderr);
        }
    }
}
