//! What is the user's own beside the application's: it changes no verdict, and where it is in the way it is named with the way out.

mod common;

use common::World;

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
