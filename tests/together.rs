//! Several instances at once: one does the work, all start.

mod common;

use common::World;
use std::process::Stdio;

const INSTANCES: usize = 8;

/// Starts all at once and returns what each said.
fn together(world: &World) -> Vec<String> {
    let children: Vec<_> = (0..INSTANCES)
        .map(|_| {
            world.tandem(["run", "--", "true"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", common::text(&output));
            common::text(&output)
        })
        .collect()
}

fn count(said: &[String], what: &str) -> usize {
    said.iter().filter(|text| text.contains(what)).count()
}

fn only_one_worked(world: &World, said: &[String]) {
    assert_eq!(count(said, "Applied version 2"), 1);
    let runs = "select count(*)::text from tandem.journal where phase = 'prepare' and collection is null";
    assert_eq!(world.query(runs), "1");
    let creations = "select count(*)::text from tandem.journal where phase = 'done' and step::text ilike '%create%content%'";
    assert!(["0", "1"].contains(&world.query(creations).as_str()));
    assert_eq!(world.query("select count(*)::text from tandem.journal where ended is null"), "0");
    assert_eq!(world.stamp()["version"], 2);
}

#[test]
fn eight_on_a_fresh_pair() {
    let world = World::small();
    let said = together(&world);
    assert_eq!(count(&said, "Applied version 1"), 1);
    only_one_worked(&world, &said);
}

#[test]
fn eight_on_a_legacy_pair() {
    let world = World::small();
    let first = std::fs::read_to_string(world.migrations.path().join("0001_users.up.sql")).unwrap();
    world.db.execute(&first);
    let said = together(&world);
    assert_eq!(count(&said, "Stamped 1 version"), 1);
    only_one_worked(&world, &said);
}

#[test]
fn eight_on_a_pending_pair() {
    let world = World::empty();
    world.small_timeline();
    world.without("0002");
    world.start(&["true"]).expect(0);
    world.small_timeline();
    world.record();
    let said = together(&world);
    assert_eq!(count(&said, "Applied version 2"), 1);
    assert_eq!(world.query("select count(*)::text from tandem.journal where ended is null"), "0");
    assert_eq!(world.stamp()["version"], 2);
}
