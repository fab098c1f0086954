//! Several instances at once: one does the work, all start.

mod common;

use common::World;
use local_servers::proxy::{Action, Direction, Proxy};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

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

/// Exactly one instance changed each store, by the ledger, the journal and what all of them said.
///
/// `ledger` is every row with how it came; `steps` is how many steps the collection needed.
fn only_one_worked(world: &World, said: &[String], ledger: &str, steps: usize) {
    assert_eq!(count(said, "Applied version 2"), 1);
    assert_eq!(
        world.query("select string_agg(version || ' ' || origin, ',' order by version) from tandem.ledger"),
        ledger
    );
    let writers =
        "select count(distinct epoch)::text from tandem.ledger where origin = 'applied' and version = 2";
    assert_eq!(world.query(writers), "1");
    let taken = "select count(*) || ' steps, ' || count(distinct step::text) || ' different, ' || count(distinct epoch) || ' run' \
                 from tandem.journal where phase = 'done' and epoch > (select min(epoch) from tandem.journal where target = 2)";
    assert_eq!(world.query(taken), format!("{steps} steps, {steps} different, 1 run"));
    assert_eq!(world.query("select count(*)::text from tandem.journal where ended is null"), "0");
    assert_eq!(world.stamp()["version"], 2);
}

#[test]
fn eight_on_a_fresh_pair() {
    let world = World::small();
    let said = together(&world);
    assert_eq!(count(&said, "Applied version 1"), 1);
    assert_eq!(count(&said, &format!("{}: create the collection", world.collection)), 1);
    only_one_worked(&world, &said, "1 applied,2 applied", 3);
}

#[test]
fn eight_on_a_legacy_pair() {
    let world = World::small();
    let first = std::fs::read_to_string(world.migrations.path().join("0001_users.up.sql")).unwrap();
    world.db.execute(&first);
    let said = together(&world);
    assert_eq!(count(&said, "Stamped 1 version"), 1);
    only_one_worked(&world, &said, "1 stamped,2 applied", 3);
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
    only_one_worked(&world, &said, "1 applied,2 applied", 2);
}

/// Its look at Qdrant finds a stamp that is newer than the ledger that it read a moment before.
#[test]
fn one_that_goes_to_the_head_between_the_looks_of_another_at_the_two_stores_is_no_skew() {
    let world = Arc::new(World::empty());
    world.small_timeline();
    world.without("0002");
    world.start(&["true"]).expect(0);
    world.small_timeline();
    world.record();
    let proxy = Proxy::start((world.db.server().host(), world.db.server().port())).unwrap();
    let (other, went) = (world.clone(), Arc::new(AtomicBool::new(false)));
    let done = went.clone();
    proxy.on_chunk(move |chunk| {
        // The end of the transaction in which the ledger was read.
        let looked = chunk.direction == Direction::ToServer && chunk.bytes == b"Q\0\0\0\x0bcommit\0";
        if looked && !done.swap(true, SeqCst) {
            other.start(&["true"]).expect(0);
        }
        Action::Forward
    });
    let mut command = world.tandem(["run", "--", "true"]);
    command.env("DATABASE_URL", proxy.url(&world.db.url()));
    let output = command.output().unwrap();
    assert!(went.load(SeqCst));
    assert!(output.status.success(), "{}", common::text(&output));
    assert_eq!(world.stamp()["version"], 2);
}
