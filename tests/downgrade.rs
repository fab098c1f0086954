//! Going back through both stores and forward again: the real binary on real servers.

mod common;
#[path = "states/rows.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod rows;

use common::{Dir, World};
use local_servers::proxy::{Action, Direction, Proxy};
use rows::Values;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use tandem::catalog::{Catalog, Expected, compare};
use tandem::postgres::introspect::{Exclude, introspect};

fn versions(world: &World) -> String {
    world.query("select string_agg(version::text, ' ' order by version) from tandem.ledger")
}

/// The tables' rows alone, in an order that columns have no part in.
fn tables(world: &World) -> Values {
    let mut values = rows::read(world);
    for rows in values.tables.values_mut() {
        rows.sort_by_cached_key(|row| Value::Object(row.clone()).to_string());
    }
    values.archive.clear();
    values
}

/// The schema as Postgres has it.
fn catalog(world: &World) -> Catalog {
    use sqlx::Connection;
    let exclude = Exclude { ledger_schema: "tandem", adoption_tables: &[] };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = sqlx::PgConnection::connect(&world.db.url()).await.unwrap();
        introspect(&mut connection, &["public".to_owned()], &exclude).await.unwrap()
    })
}

/// Equal in all that is compared, and in comments.
#[track_caller]
fn same_catalog(found: &Catalog, wanted: &Catalog, what: &str) {
    for difference in [compare(found, wanted), compare(wanted, found)] {
        assert!(difference.is_proof(), "{what}: {difference}");
    }
    for (id, object) in &wanted.objects {
        assert_eq!(found.objects[id].comment, object.comment, "{what}: {id}");
    }
}

/// A copy of the timeline as the image of a version has it, recorded.
fn image(world: &World, upto: i64) -> Dir {
    let older = common::timeline_up_to(world.migrations.path(), upto);
    let directory = older.path().display().to_string();
    world.output(["record", "--migrations", &directory]).expect(0);
    older
}

fn start_with(world: &World, image: &Dir) -> common::Outcome {
    world.output(["run", "--migrations", &image.path().display().to_string(), "--", "true"])
}

#[test]
fn both_stores_go_back_the_older_image_starts_and_going_forward_brings_everything_back() {
    let world = World::small();
    let older = image(&world, 1);
    world.start(&["true"]).expect(0);
    world.db.execute("insert into users (name) values ('Ada'), ('Bob'); insert into notes values (7, 1, 'one'), (8, 2, null)");
    let (before, state) = (tables(&world), world.state());
    let plan = world.output(["downgrade", "-1", "--dry-run"]).expect(0).stdout;
    assert!(
        plan.contains("Back from version 2 to 1") && plan.contains("keeps rows of public.notes"),
        "{plan}"
    );
    assert_eq!(world.state(), state, "a dry run");
    let done = world.output(["downgrade", "v1.0.0", "--json"]).expect(0);
    let done: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(
        (&done["from"], &done["to"], &done["versions"][0]["version"]),
        (&2.into(), &1.into(), &2.into())
    );
    assert_eq!(versions(&world), "1");
    assert_eq!(world.stamp()["version"], 1);
    assert_eq!(world.query("select coalesce(to_regclass('public.notes')::text, 'absent')"), "absent");
    // An index that the older declaration does not name serves nobody and hurts nobody.
    assert_eq!(world.collection_info().unwrap()["payload_schema"]["channel_id"]["data_type"], "keyword");
    assert_eq!(world.query("select count(*)::text from tandem.journal where ended is null"), "0");
    start_with(&world, &older).expect(0).says(&["unchanged since their last proof"]);
    world.start(&["true"]).expect(0).says(&["Applied version 2"]);
    assert_eq!(tables(&world), before);
    assert_eq!(world.stamp()["version"], 2);
    world.output(["verify"]).expect(0);
    // Rows that came back and were deleted then do not come back a second time.
    world.db.execute("delete from notes where id = 7");
    let before = tables(&world);
    world.output(["downgrade", "1"]).expect(0);
    world.output(["upgrade"]).expect(0);
    assert_eq!(tables(&world), before);
}

/// Every version of the application's timeline, with rows in every table.
#[test]
fn down_and_up_again_is_the_identity_for_every_version_of_the_application() {
    let mut world = World::whisperengine();
    world.set("QDRANT_URL", "none");
    let expected = Expected::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/catalog")).unwrap();
    let head = expected.index.versions.last().unwrap().number;
    let run = |args: &[&str]| world.output(args).expect(0);
    run(&["upgrade", "1"]);
    let catalog = expected.catalog_at(1).unwrap();
    world.db.execute(&format!("truncate {} cascade", names(&catalog).join(", ")));
    world.db.execute(&rows::rows(&catalog));
    let at_first = tables(&world);
    let mut at = Vec::new();
    for number in 2..=head {
        run(&["upgrade", "+1"]);
        let catalog = expected.catalog_at(number).unwrap();
        let sql = rows::rows(&catalog);
        let found = tables(&world).tables;
        let empty = found
            .iter()
            .filter(|(_, rows)| rows.is_empty())
            .map(|(name, _)| name.trim_start_matches("public."));
        let begins: Vec<String> = empty
            .flat_map(|name| {
                let numbered = format!("select setval(pg_get_serial_sequence('public.\"{name}\"'");
                [format!("insert into public.\"{name}\" "), numbered]
            })
            .collect();
        let new = sql.split_inclusive(";\n").filter(|one| begins.iter().any(|begin| one.starts_with(begin)));
        world.db.execute(&new.collect::<String>());
        at.push((number, tables(&world)));
    }
    assert!(at.last().unwrap().1.tables.values().all(|rows| !rows.is_empty()));
    for (number, before) in at.iter().rev() {
        assert_eq!(
            &tables(&world).tables.keys().collect::<Vec<_>>(),
            &before.tables.keys().collect::<Vec<_>>()
        );
        let (before, catalog_before) = (tables(&world), self::catalog(&world));
        run(&["downgrade", "-1"]);
        let (below, catalog_below) = (tables(&world), self::catalog(&world));
        run(&["upgrade", &number.to_string()]);
        same(&tables(&world), &before, &format!("version {number}, down and up"));
        same_catalog(&self::catalog(&world), &catalog_before, &format!("version {number}, down and up"));
        run(&["downgrade", "-1"]);
        same(&tables(&world), &below, &format!("version {number}, down, up and down"));
        same_catalog(&self::catalog(&world), &catalog_below, &format!("version {number}, down, up and down"));
        assert_eq!(versions(&world).split(' ').count(), usize::try_from(*number).unwrap() - 1);
    }
    // What moved to other tables stays there; of what was, nothing is missing.
    let lost = rows::lost(&catalog, &at_first, &tables(&world));
    assert!(lost.is_empty(), "{} values, such as {}", lost.len(), lost[0]);
    run(&["upgrade"]);
    let (at_head, catalog_at_head) = (tables(&world), self::catalog(&world));
    same(&at_head, &at.last().unwrap().1, "the whole way back and forward");
    run(&["downgrade", "1"]);
    run(&["upgrade"]);
    same(&tables(&world), &at_head, "the whole way in one go");
    same_catalog(&self::catalog(&world), &catalog_at_head, "the whole way in one go");
    run(&["verify"]);
}

fn names(catalog: &Catalog) -> Vec<String> {
    let tables = catalog.objects.keys().filter(|id| id.kind == tandem::catalog::Kind::Table);
    tables.map(|id| format!("public.\"{}\"", id.relation)).collect()
}

fn same(found: &Values, wanted: &Values, what: &str) {
    for (name, rows) in &wanted.tables {
        assert_eq!(found.tables.get(name), Some(rows), "{what}: {name}");
    }
    assert_eq!(found.tables.len(), wanted.tables.len(), "{what}");
}

/// Dropped, converted, updated and deleted: what a version can do to rows.
fn changing(world: &World) {
    world.version(
        "0001_tables",
        "create table person (id serial primary key, nick text, settings text, mood text, parent int references person (id));\n\
         create table badge (id int primary key, person int not null references person (id) on delete cascade, word text);\n",
        "",
    );
    world.version(
        "0002_leaner",
        "alter table person drop column mood;\n\
         alter table person alter column settings type jsonb using to_jsonb(trim(settings));\n\
         drop table badge;\nupdate person set nick = upper(nick) where nick like 'u%';\n\
         alter table person add column level int not null default 1;\ncreate table token (id uuid primary key default gen_random_uuid(), n int);\n",
        "compatible_from = 1\n[[archive]]\ntable = \"person\"\nwhere = \"nick like 'u%' or nick like 'd%'\"\n\
         [data]\nsql = \"delete from person where nick like 'd%'; update person set level = 2 where nick like 'U%'\"\n",
    );
    world.migrations.write(
        "0002_leaner.down.sql",
        "drop table token;\nalter table person drop column level;\n\
         alter table person alter column settings type text using settings #>> '{}';\n\
         alter table person add column mood text;\n\
         create table badge (id int primary key, person int not null references person (id) on delete cascade, word text);\n",
    );
    world.version("0003_indexed", "create index person_nick on person (nick);\n", "compatible_from = 1\n");
    world.migrations.write("0003_indexed.down.sql", "drop index person_nick;\n");
    world.record();
}

const PEOPLE: &str = "insert into person (nick, settings, mood, parent) values ('ann', ' a ', 'glad', null), ('ulf', null, null, 1), \
     ('dan', 'd', 'sad', 1), ('eve', '  ', 'mad', 2), ('uma', 'u ', null, null); \
     insert into badge values (1, 1, 'first'), (2, 4, null), (3, 5, 'last')";

#[test]
fn what_a_version_dropped_converted_updated_or_deleted_comes_back_and_goes_again() {
    let mut world = World::empty();
    world.set("QDRANT_URL", "none");
    changing(&world);
    world.output(["upgrade", "1"]).expect(0);
    world.db.execute(PEOPLE);
    let lower = tables(&world);
    world.output(["upgrade"]).expect(0);
    world.db.execute("insert into token (n) values (1), (2)");
    let upper = tables(&world);
    for _ in 0..2 {
        world.output(["downgrade", "-2"]).expect(0);
        same(&tables(&world), &lower, "down");
        assert_eq!(world.query("select nextval('person_id_seq') > 5"), "t");
        world.output(["upgrade"]).expect(0);
        same(&tables(&world), &upper, "up");
    }
    let states = world.query("select string_agg(distinct split_part(why, ' by run', 1), ',' order by split_part(why, ' by run', 1)) from tandem.archive where why like '%put back%'");
    assert_eq!(states, "put back");
}

#[test]
fn what_was_changed_since_stays_changed_and_what_was_deleted_stays_deleted() {
    let mut world = World::empty();
    world.set("QDRANT_URL", "none");
    changing(&world);
    world.output(["upgrade", "1"]).expect(0);
    world.db.execute(PEOPLE);
    world.output(["upgrade"]).expect(0);
    world.db.execute(
        "update person set settings = '\"new\"', level = 7 where nick = 'ann'; update person set nick = 'uwe' where nick = 'ULF'; \
         delete from person where nick = 'UMA'",
    );
    let upper = tables(&world);
    world.output(["downgrade", "1"]).expect(0);
    let people = "select string_agg(concat_ws('/', id, nick, coalesce(settings::text, '-'), coalesce(mood, '-')), ' ' order by id) from person";
    // Ann's and Ulf's edits stay, and what only the archive had is with them; Dan is back; Uma is not, and her badge neither.
    assert_eq!(world.query(people), "1/ann/new/glad 2/uwe/-/- 3/dan/d/sad 4/eve/  /mad");
    assert_eq!(
        world.query("select string_agg(id || coalesce(word, '-'), ' ' order by id) from badge"),
        "1first 2-"
    );
    let kept = world.query("select string_agg(relation || ' ' || (row ->> 'id'), ',' order by relation, row ->> 'id') from tandem.archive where why like 'not put back%'");
    assert_eq!(kept, "public.badge 3,public.person 5");
    world.output(["upgrade"]).expect(0);
    same(&tables(&world), &upper, "up");
    // Edited below: the edit wins, and what only the newer form has comes back.
    world.output(["downgrade", "1"]).expect(0);
    world.db.execute(
        "update person set settings = ' below ' where id = 1; update person set nick = 'ute' where id = 2",
    );
    world.output(["upgrade"]).expect(0);
    assert_eq!(
        world.query("select string_agg(concat_ws('/', id, nick, coalesce(settings::text, '-'), level), ' ' order by id) from person"),
        "1/ann/\"below\"/7 2/UTE/-/2 4/eve/\"\"/1"
    );
    world.output(["verify"]).expect(0);
}

#[test]
fn a_downgrade_that_cannot_be_proven_is_refused_with_nothing_changed() {
    let mut world = World::empty();
    world.set("QDRANT_URL", "none");
    changing(&world);
    world.output(["downgrade", "1"]).expect(76).says(&["fresh"]);
    world.output(["upgrade", "1"]).expect(0);
    world.db.execute(PEOPLE);
    world.output(["upgrade"]).expect(0);
    let all = || format!("{:?}\n{}", rows::read(&world), world.state());
    let before = all();
    let down = |text: &str| world.migrations.write("0002_leaner.down.sql", text);
    let right = std::fs::read_to_string(world.migrations.path().join("0002_leaner.down.sql")).unwrap();
    for (asked, code, says) in [
        ("-3", 64, "-1 to -2"),
        ("-0", 64, "-1 to -2"),
        ("0", 64, "no version `0`"),
        ("head", 64, "not behind"),
        ("3", 76, "not below"),
        ("9.9", 64, "no version `9.9`"),
    ] {
        world.output(["downgrade", asked]).expect(code).says(&[says]);
    }
    for (text, code, says) in [
        (
            right.replace("settings type text", "settings type varchar(99)"),
            76,
            "leaves another catalog than that of version 1",
        ),
        (right.replace("drop table token", "drop table tokens"), 1, "0002_leaner.down.sql:1:1"),
        (format!("{right}commit;\n"), 65, "COMMIT controls a transaction"),
        (format!("-- tandem:no-transaction\n{right}"), 65, "in one transaction"),
    ] {
        down(&text);
        let outcome = world.output(["downgrade", "1"]);
        // Version 3 is taken back by itself where version 2 fails only in its transaction.
        if code == 65 {
            outcome.expect(code).says(&[says]);
            assert_eq!(all(), before);
        } else {
            outcome.expect(code).says(&[says]);
            assert_eq!(versions(&world), "1 2");
            down(&right);
            world.output(["upgrade"]).expect(0);
        }
    }
    std::fs::remove_file(world.migrations.path().join("0002_leaner.down.sql")).unwrap();
    world.output(["downgrade", "1"]).expect(65).says(&["version 2 (leaner) has no down.sql"]);
    down(&right);
    world
        .migrations
        .write("0003_indexed.down.sql", "drop index person_nick; delete from person where id = 4;\n");
    let before = all();
    world
        .output(["downgrade", "2"])
        .expect(1)
        .says(&["deleted that the archive does not keep: public.person"]);
    assert_eq!(all(), before);
    world.db.execute("drop index person_nick");
    world.output(["downgrade", "1"]).expect(76).says(&["stale", "version 2 (leaner)"]);
    world.output(["upgrade"]).expect(0);
    world.without("0003");
    world.output(["downgrade", "1"]).expect(76).says(&["ahead", "image that has the newest version"]);
}

#[test]
fn a_version_that_only_its_toml_describes_is_taken_back_by_its_down_too() {
    let mut world = World::empty();
    world.set("QDRANT_URL", "none");
    changing(&world);
    let there = "select to_regclass('said') is not null";
    world.migrations.write(
        "0004_said.toml",
        &format!(
            "compatible_from = 1\n[data]\nsql = \"create table if not exists said (word text); insert into person (nick) values ('seed')\"\n\
             [proof]\nsql = \"{there}\"\n"
        ),
    );
    world.migrations.write("0004_said.down.sql", "drop table said;\n");
    world.record();
    world.output(["upgrade"]).expect(0);
    assert_eq!(world.query(there), "t");
    world.output(["downgrade", "-1"]).expect(0);
    assert_eq!((versions(&world).as_str(), world.query(there).as_str()), ("1 2 3", "f"));
    assert_eq!(world.query("select count(*)::text from person where nick = 'seed'"), "1", "seeds stay");
    world.output(["upgrade"]).expect(0);
    for (text, code, says) in [
        ("commit;\n", 65, "COMMIT controls a transaction"),
        (
            "delete from person where nick = 'seed'",
            1,
            "deleted that the archive does not keep: public.person",
        ),
        ("-- nothing\n", 76, "leaves table said, which that version makes"),
    ] {
        world.migrations.write("0004_said.down.sql", text);
        world.output(["downgrade", "-1"]).expect(code).says(&[says]);
        assert_eq!(versions(&world), "1 2 3 4");
    }
}

/// `[[archive]]` is kept when the version runs, and not when it is taken back.
#[test]
fn a_down_may_not_delete_what_only_the_way_up_keeps() {
    let mut world = World::empty();
    world.set("QDRANT_URL", "none");
    world.version("0001_tables", "create table person (id serial primary key, nick text);\n", "");
    world.version(
        "0002_tokens",
        "create table token (n int); delete from person where nick = 'old';\n",
        "[[archive]]\ntable = \"person\"\n",
    );
    world
        .migrations
        .write("0002_tokens.down.sql", "drop table token; delete from person where nick = 'new';\n");
    world.record();
    world.output(["upgrade"]).expect(0);
    world.db.execute("insert into person (nick) values ('new')");
    let before = tables(&world);
    world.output(["downgrade", "1"]).expect(1).says(&["the archive does not keep: public.person"]);
    same(&tables(&world), &before, "rolled back");
}

#[test]
fn a_collection_that_would_need_a_rebuild_stops_a_downgrade_before_postgres() {
    let world = World::small();
    let toml = common::collection_toml("1.1.0", "user_id = \"keyword\"").replace("size = 4", "size = 8");
    world.migrations.write("0002_notes.toml", &toml);
    world.record();
    world.start(&["true"]).expect(0);
    let path = format!("/collections/{}/points?wait=true", world.collection);
    let point = r#"{"points": [{"id": 7, "vector": {"content": [1, 2, 3, 4, 5, 6, 7, 8]}}]}"#;
    assert_eq!(world.qdrant.rest("PUT", &path, point).unwrap().0, 200);
    let before = world.state();
    world.output(["downgrade", "1"]).expect(76).says(&["cannot go back to version 1", "tandem rollback"]);
    assert_eq!(world.state(), before);
}

/// Another bot's collection is behind its own container, which comes later.
#[test]
fn a_collection_of_another_bot_follows_when_its_older_image_starts() {
    let world = World::small();
    let older = image(&world, 1);
    world.start(&["true"]).expect(0);
    let mut other = World::on(local_servers::postgres().create_database("unused"), world.qdrant.clone());
    other.set("DATABASE_URL", world.db.url());
    other.set("TANDEM_MIGRATIONS", world.migrations.path().display().to_string());
    other.start(&["true"]).expect(0);
    world.output(["downgrade", "1"]).expect(0);
    assert_eq!((&world.stamp()["version"], &other.stamp()["version"]), (&1.into(), &2.into()));
    start_with(&other, &older).expect(0).says(&["gone back to 1"]);
    assert_eq!(other.stamp()["version"], 1);
    start_with(&other, &older).expect(0).says(&["unchanged since their last proof"]);
}

/// Kills a downgrade at the n-th message to a store or before its n-th answer; `false` if it ended before.
fn kill_at(world: &World, qdrant: bool, moment: Direction, n: usize) -> bool {
    let proxy = match qdrant {
        false => Proxy::start((world.db.server().host(), world.db.server().port())).unwrap(),
        true => Proxy::start((world.qdrant.host(), world.qdrant.grpc_port())).unwrap(),
    };
    let (pid, killed) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let (seen, was) = (pid.clone(), killed.clone());
    proxy.on_chunk(move |chunk| {
        let place = match chunk.direction {
            Direction::ToServer => chunk.number,
            Direction::ToClient => chunk.client_chunks,
        };
        if chunk.direction != moment || place < n {
            return Action::Forward;
        }
        if !was.swap(true, SeqCst) {
            let pid = loop {
                match seen.load(SeqCst) {
                    0 => std::thread::yield_now(),
                    pid => break pid,
                }
            };
            std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        }
        Action::CutBefore
    });
    let mut command = world.tandem(["downgrade", "1"]);
    match qdrant {
        false => command.env("DATABASE_URL", proxy.url(&world.db.url())),
        true => command.env("QDRANT_URL", proxy.url(&world.qdrant.grpc_url())),
    };
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    pid.store(child.id(), SeqCst);
    let status = child.wait().unwrap();
    assert!(killed.load(SeqCst) || status.success(), "{status}");
    killed.load(SeqCst)
}

#[test]
fn killed_at_any_message_a_downgrade_ends_as_an_undisturbed_one_when_it_is_asked_for_again() {
    let recorded = World::small();
    recorded.version(
        "0003_more",
        "alter table users add column nick text default 'n';\n",
        "compatible_from = 1\n",
    );
    recorded.migrations.write("0003_more.down.sql", "alter table users drop column nick;\n");
    recorded.record();
    let older = image(&recorded, 1);
    let make = || {
        let world = recorded.sibling();
        world.output(["migrate"]).expect(0);
        world.db.execute("insert into users (name) values ('Ada'); insert into notes values (1, 1, 'one')");
        world
    };
    let undisturbed = make();
    let at_head = tables(&undisturbed);
    undisturbed.output(["downgrade", "1"]).expect(0);
    let (wanted, state) = (tables(&undisturbed), undisturbed.state());
    for (qdrant, moment, stride) in
        [(false, Direction::ToClient, 2), (false, Direction::ToServer, 5), (true, Direction::ToServer, 4)]
    {
        let (next, done) = (AtomicU32::new(1), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !done.load(SeqCst) {
                        let n = next.fetch_add(stride, SeqCst);
                        let place = format!("qdrant: {qdrant}, {moment:?}, message {n}");
                        let world = make();
                        if !kill_at(&world, qdrant, moment, n as usize) {
                            done.store(true, SeqCst);
                            return;
                        }
                        // The version may be reached already, and the collection be all that is missing.
                        let outcome = match versions(&world).as_str() {
                            "1" => start_with(&world, &older),
                            _ => world.output(["downgrade", "1"]),
                        };
                        outcome.expect(0);
                        assert_eq!(
                            (tables(&world), world.state()),
                            (wanted_of(&wanted), state.clone()),
                            "{place}"
                        );
                        let open =
                            world.query("select count(*)::text from tandem.journal where ended is null");
                        assert_eq!(open, "0", "{place}");
                        if n % 4 == 0 {
                            world.output(["migrate"]).expect(0);
                            same(&tables(&world), &at_head, &place);
                        }
                    }
                });
            }
        });
        assert!(next.load(SeqCst) > 8);
    }
}

fn wanted_of(values: &Values) -> Values {
    Values { tables: values.tables.clone(), archive: Vec::new() }
}
