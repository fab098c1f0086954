//! Going back from databases that tandem did not make, beside the user's own objects and another tool's ledger; and which older
//! images start on them.

mod common;
#[path = "states/rows.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod rows;

use common::{Dir, Outcome, World};
use rows::Values;
use serde_json::Value;
use std::path::Path;
use tandem::catalog::Expected;

/// The tables' rows alone, in an order that columns have no part in.
fn tables(world: &World) -> Values {
    let mut values = rows::read(world);
    for rows in values.tables.values_mut() {
        rows.sort_by_cached_key(|row| Value::Object(row.clone()).to_string());
    }
    values.archive.clear();
    values
}

fn whisperengine() -> World {
    let mut world = World::whisperengine();
    world.set("QDRANT_URL", "none");
    world
}

/// A head with rows in every table that no tandem has seen.
fn unseen_head(world: &World) {
    world.output(["migrate"]).expect(0);
    let expected = Expected::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/catalog")).unwrap();
    let head = expected.catalog_at(expected.index.versions.last().unwrap().number).unwrap();
    let names: Vec<String> =
        tables(world).tables.into_keys().filter(|name| name.starts_with("public.")).collect();
    world.db.execute(&format!("truncate {} restart identity cascade", names.join(", ")));
    world.db.execute("drop schema tandem cascade");
    world.db.execute(&rows::rows(&head));
}

fn start_with(world: &World, image: &Dir) -> Outcome {
    world.output(["run", "--migrations", &image.path().display().to_string(), "--", "true"])
}

/// Of every database every older image: it starts exactly where every newer version's `compatible_from` allows it.
#[test]
fn every_older_image_of_the_application_starts_exactly_where_it_is_allowed() {
    let world = whisperengine();
    let timeline = tandem::timeline::load(world.migrations.path(), &|_| None).unwrap();
    let images: Vec<(i64, Dir)> = timeline
        .versions
        .iter()
        .map(|version| (version.number, common::timeline_up_to(world.migrations.path(), version.number)))
        .collect();
    for (at, newest) in &images {
        start_with(&world, newest).expect(0);
        let state = world.state();
        for (older, image) in images.iter().filter(|(older, _)| older < at) {
            let newer = timeline.versions.iter().filter(|v| v.number > *older && v.number <= *at);
            let allowed = newer.map(|v| v.compatible_from).max().unwrap() <= *older;
            let outcome = start_with(&world, image);
            let said = &outcome.stderr;
            assert_eq!(outcome.code, if allowed { 0 } else { 76 }, "image {older} on {at}: {said}");
            assert!(
                said.contains("ahead") && (allowed || said.contains("no longer lets older ones run")),
                "{said}"
            );
        }
        assert_eq!(world.state(), state, "older images only read");
    }
}

/// Nothing of an adopted database's versions is in the archive: they ran before tandem came.
#[test]
fn an_adopted_head_goes_all_the_way_back_and_forward_with_every_value() {
    let world = whisperengine();
    unseen_head(&world);
    let revision = || world.query("select version_num from alembic_version");
    world.db.execute("create table alembic_version (version_num varchar(32) primary key); insert into alembic_version values ('954245770def')");
    world.start(&["true"]).expect(0).says(&["adopted"]);
    let before = tables(&world);
    for (asked, says) in [
        ("-1", "604332ba3c03"),
        ("12", "06cb86fd8471"),
        ("1.0.31", "4628baf741ee"),
        ("v1.0.9", "7fbfdf63fb76"),
        ("1", "20251011_baseline_v106"),
    ] {
        world.output(["downgrade", asked]).expect(0);
        assert_eq!(revision(), says, "after {asked}");
    }
    world.output(["upgrade"]).expect(0);
    assert_eq!(revision(), "954245770def");
    let after = tables(&world);
    for (name, rows) in before.tables.iter().filter(|(name, _)| !name.contains("alembic")) {
        // Versions that run put their seeds in again.
        let lost: Vec<_> = rows.iter().filter(|row| !after.tables[name].contains(row)).collect();
        assert!(lost.is_empty(), "{name}: {lost:?}");
    }
}

/// What stands on something that goes is named before anything is taken back, with the way out; after it the same downgrade works.
#[test]
fn what_is_the_users_own_and_in_the_way_back_is_named_before_anything_is_done() {
    let world = whisperengine();
    world.start(&["true"]).expect(0);
    world.db.execute("insert into character_interest_topics (character_id, topic_keyword) select id, 'x' from characters limit 1");
    for (own, says, way_out) in [
        (
            "create view mine as select id, topic_keyword from character_interest_topics",
            "your view mine stands on column character_interest_topics.id, which going back from version 2 drops",
            "drop view public.mine",
        ),
        (
            "create view mine as select id, emoji_style from characters",
            "your view mine stands on column characters.emoji_style, which going back from version 4 drops",
            "drop view public.mine",
        ),
        (
            "create view mine as select universal_id, preferences from universal_users",
            "your view mine stands on column universal_users.preferences, which going back from version 8 gives another type",
            "drop view public.mine",
        ),
        (
            "create table mine (id int primary key, topic int references character_interest_topics (id))",
            "your constraint mine_topic_fkey on public.mine refers to table character_interest_topics, which going back from version 2 drops",
            "alter table public.mine drop constraint mine_topic_fkey",
        ),
        (
            "create index mine_style on characters (emoji_style)",
            "your index mine_style stands on column characters.emoji_style, which going back from version 4 drops",
            "drop index public.mine_style",
        ),
        (
            "alter table characters add constraint mine_check check (emoji_style <> 'x')",
            "your constraint mine_check stands on column characters.emoji_style, which going back from version 4 drops",
            "alter table public.characters drop constraint mine_check",
        ),
        (
            "create table character_emotional_triggers_v2 (mine text)",
            "table character_emotional_triggers_v2 is in the way: going back from version 4 makes a table of that name",
            "alter table \"public\".\"character_emotional_triggers_v2\" rename to \"character_emotional_triggers_v2_own\"",
        ),
    ] {
        world.db.execute(own);
        let (state, before) = (world.state(), tables(&world));
        for line in [&["downgrade", "1", "--dry-run"][..], &["downgrade", "1"]] {
            world.output(line).expect(76).says(&["cannot go back to version 1", says, way_out]);
        }
        assert_eq!((world.state(), tables(&world)), (state, before), "{own}");
        world.db.execute(way_out);
    }
    let before = tables(&world);
    world.output(["downgrade", "1"]).expect(0);
    world.output(["upgrade"]).expect(0);
    assert_eq!(tables(&world), before);
}
