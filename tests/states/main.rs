//! Every state that databases of the reference application are known to be in: start → verdict → result, with every value of
//! every table compared before and after.

#[path = "../common/mod.rs"]
mod common;
mod dumps;
mod known;
#[path = "../common/observed.rs"]
mod observed;
mod properties;
mod rows;

use common::{Outcome, World};
use known::{Expect, Facts, State};
use local_servers::{PgVersion, Postgres, PostgresOptions};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tandem::catalog::{Catalog, Kind, ObjectId};
use tandem::postgres::introspect::{Exclude, introspect};

/// How many states are worked on side by side.
const SIDE_BY_SIDE: usize = 3;

/// A database of its own on a server of 16, or what the environment says.
fn world() -> World {
    world_on(&local_servers::postgres())
}

/// The same on a given server, with the application's timeline and without Qdrant.
fn world_on(server: &Postgres) -> World {
    let mut world = World::whisperengine_on(server.create_database("state"));
    world.set("QDRANT_URL", "none");
    world
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// The catalog as tandem reads it.
fn catalog(world: &World) -> Catalog {
    use sqlx::Connection;
    let adoption = ["alembic_version", "schema_migrations"].map(str::to_owned);
    let exclude = Exclude { ledger_schema: "tandem", adoption_tables: &adoption };
    block_on(async {
        let mut connection = sqlx::PgConnection::connect(&world.db.url()).await.unwrap();
        introspect(&mut connection, &["public".to_owned()], &exclude).await.unwrap()
    })
}

/// What became of a state.
struct Result {
    state: usize,
    words: String,
    result: String,
    rows: usize,
    archived: usize,
}

/// Builds a state, starts on it, and compares.
fn start(facts: &Facts, at: usize, state: &State, server: &Postgres) -> Result {
    let world = world_on(server);
    let built = (state.catalog)(facts);
    let mut sql = known::ddl(facts, &built);
    if state.rows {
        sql.push_str(&rows::rows(&facts.constrained(&built)));
    }
    sql.push_str(&known::ledgers(state));
    sql.push_str(&state.then.replace("DATABASE", world.db.name()));
    world.db.execute(&sql);
    let mut world = world;
    if state.rows_only {
        let role = format!("{}_rows", world.db.name());
        world.set("DATABASE_URL", world.db.url_as(&role, "of-a-test"));
    }
    let (before, before_catalog) = (rows::read(&world), catalog(&world));
    let outcome = if state.reader { start_beside_a_reader(&world) } else { world.start(&["true"]) };
    let mut after = rows::read(&world);
    let words = finding(&outcome);
    let name = state.name;
    let result = match state.expect {
        Expect::Head(verdict) => {
            assert_eq!(outcome.code, 0, "{name}\n{}", outcome.stderr);
            assert!(words.starts_with(verdict), "{name}: {words}");
            let found = catalog(&world);
            let difference = facts.expected.compare(&found, facts.head);
            assert!(difference.is_proof(), "{name}: {difference}");
            let known: BTreeSet<_> = built.objects.keys().chain(facts.everything.iter()).collect();
            let own = before_catalog.objects.keys().filter(|id| !known.contains(id));
            for id in own {
                assert!(found.objects.contains_key(id), "{name}: your own {id} is gone");
            }
            let assistant = "set search_path = public; select count(*)::text from characters c where normalized_name = 'assistant' \
                 and exists (select from personality_traits t where t.character_id = c.id) \
                 and exists (select from communication_styles t where t.character_id = c.id) \
                 and exists (select from character_values t where t.character_id = c.id)";
            assert_eq!(world.query(assistant), "1", "{name}: the assistant is not complete");
            let again = world.start(&["true"]);
            assert!(
                again.code == 0 && again.stderr.contains("unchanged since their last proof"),
                "{name}: {}",
                again.stderr
            );
            if let Some(rows) = state.alembic {
                let revision = world.query("select string_agg(version_num, ' ') from public.alembic_version");
                let own = if rows.contains(&"somebody_elses") { "somebody_elses" } else { "954245770def" };
                assert_eq!(revision, own, "{name}");
            }
            "head".to_owned()
        }
        Expect::Refused(code, parts) => {
            assert_eq!(outcome.code, code, "{name}\n{}", outcome.stderr);
            for part in parts {
                assert!(outcome.stderr.contains(part), "{name}: {part:?} is not in\n{}", outcome.stderr);
            }
            assert_eq!(after.tables, before.tables, "{name}: a refusal changed rows");
            assert_eq!(catalog(&world), before_catalog, "{name}: a refusal changed the schema");
            assert!(after.archive.is_empty(), "{name}");
            let mut words = "refused, nothing changed".to_owned();
            if !state.way_out.is_empty() {
                assert!(
                    outcome.stderr.contains(state.way_out),
                    "{name}: no {:?} in\n{}",
                    state.way_out,
                    outcome.stderr
                );
                world.db.execute(state.way_out);
                let outcome = world.start(&["true"]);
                assert_eq!(outcome.code, 0, "{name}, after its way out\n{}", outcome.stderr);
                let difference = facts.expected.compare(&catalog(&world), facts.head);
                assert!(difference.is_proof(), "{name}, after its way out: {difference}");
                after = rows::read(&world);
                words = format!("refused, nothing changed; head after `{}`", state.way_out);
            }
            words
        }
    };
    let lost = rows::lost(&built, &before, &after);
    assert!(lost.is_empty(), "{name}: {} values are lost, such as {}", lost.len(), lost[0]);
    Result { state: at, words, result, rows: before.count(), archived: after.archive.len() }
}

/// A start while somebody reads `characters` in a transaction, who goes once the start has met the lock.
fn start_beside_a_reader(world: &World) -> Outcome {
    use sqlx::Connection;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reader = runtime.block_on(async {
        let url = format!("{}?application_name=slow-reader", world.db.url());
        let mut reader = sqlx::PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql("begin; select count(*) from characters").execute(&mut reader).await.unwrap();
        reader
    });
    let outcome = start_until_locked(world, || runtime.block_on(async { reader.close().await.unwrap() }));
    assert!(outcome.stderr.contains("slow-reader"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("idle in transaction"), "{}", outcome.stderr);
    outcome
}

/// A start that meets a lock, which something then gives up.
fn start_until_locked(world: &World, give_up: impl FnOnce()) -> Outcome {
    use std::io::BufRead;
    let mut child = world.tandem(["run", "--", "true"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("met a lock") {
        assert!(lines.read_line(&mut said).unwrap() > 0, "no lock was met:\n{said}");
    }
    give_up();
    std::io::Read::read_to_string(&mut lines, &mut said).unwrap();
    let code = child.wait().unwrap().code().unwrap();
    Outcome { code, stdout: String::new(), stderr: said }
}

/// What a start said of Postgres, to its first semicolon, or why it stopped.
fn finding(outcome: &Outcome) -> String {
    let line =
        outcome.stderr.lines().find_map(|line| line.split_once("Postgres is ").map(|(_, words)| words));
    let words = line.unwrap_or_else(|| outcome.stderr.lines().last().unwrap_or_default());
    words.split(" code=").next().unwrap_or_default().to_owned()
}

fn all(server: &Postgres, chosen: impl Fn(usize, &State) -> bool + Sync) -> Vec<Result> {
    let (facts, states) = (Facts::load(), known::states());
    let (next, results, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, SeqCst);
                    let Some(state) = states.get(at) else { return };
                    if !chosen(at, state) {
                        continue;
                    }
                    // One state that fails must not hide the others.
                    match catch_unwind(AssertUnwindSafe(|| start(&facts, at, state, server))) {
                        Ok(result) => results.lock().unwrap().push(result),
                        Err(_) => failed.lock().unwrap().push(state.name),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} states failed: {failed:#?}", failed.len());
    let mut results = results.into_inner().unwrap();
    results.sort_by_key(|result| result.state);
    results
}

#[test]
fn every_known_state_reaches_the_head_or_is_refused_with_nothing_changed() {
    let results = all(&local_servers::postgres(), |_, _| true);
    let states = known::states();
    assert_eq!(results.len(), states.len());
    let mut text = String::from(
        "# WhisperEngine's databases\n\n\
         What the application's own start script makes of the states that its databases are in, and what tandem makes of them.\n\
         Generated by `cargo test --test states`, which builds every state with rows in all of its tables, starts on it, and compares\n\
         every value of every table before and after; `TANDEM_TEST_WRITE_DOCS=1` writes this page anew. Values are kept in place or in\n\
         `tandem.archive`; none was lost on any path.\n\n\
         | state | the original | tandem finds | and then | rows before | rows archived |\n|---|---|---|---|---|---|\n",
    );
    for result in &results {
        let State { name, original, .. } = &states[result.state];
        let Result { words, result, rows, archived, .. } = result;
        let short = words.split("; ").take(2).collect::<Vec<_>>().join("; ").replace('|', "\\|");
        let _ = writeln!(text, "| {name} | {original} | {short} | {result} | {rows} | {archived} |");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/whisperengine.md");
    if std::env::var_os("TANDEM_TEST_WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "docs/whisperengine.md is not what this run found: TANDEM_TEST_WRITE_DOCS=1 writes it\n{text}"
    );
}

/// A state that is made by taking away is held against what was counted in the real one: its tables and foreign keys, or what it
/// lacks of the head and what is left over in it.
#[test]
fn the_states_have_as_much_as_was_counted_in_the_real_ones() {
    let (facts, states) = (Facts::load(), known::states());
    let head = facts.at(facts.head);
    let count = |catalog: &Catalog, kind: Kind, begin: &str| {
        catalog.objects.keys().filter(|id| id.kind == kind && id.name.starts_with(begin)).count()
    };
    for (name, tables, foreign_keys) in [
        ("v1.0.3 fresh", 14, 10),
        ("v1.0.6 fresh; v1.0.12 to v1.0.17 fresh", 72, 58),
        ("v1.0.7 fresh, seven tables", 7, 3),
        ("v1.0.10 or v1.0.11 fresh", 72, 58),
        ("v1.0.18 to v1.0.21 after the second start", 84, 69),
        ("v1.0.22 to v1.0.24 after the second start, as observed", 88, 73),
        ("v1.0.27 after the second start", 89, 73),
        ("v1.0.29 to v1.0.31 by upgrade, as observed; v1.0.24 upgraded by v1.0.33", 89, 73),
        ("v1.0.32 fresh", 89, 73),
        ("v1.0.33 or v1.0.34 fresh", 88, 73),
        ("v1.0.35 fresh", 90, 73),
        ("v1.0.36 fresh", 91, 73),
        ("v1.0.37 to v1.0.40 fresh", 97, 73),
        ("v1.0.8 upgraded to v1.0.40", 96, 72),
        ("v1.0.9 upgraded to v1.0.40, as observed", 86, 63),
        ("v1.0.10 or v1.0.11 upgraded to v1.0.40", 89, 66),
        ("v1.0.18 with a stale stamp upgraded to v1.0.40", 85, 62),
        ("the bot ran first on an empty database", 3, 2),
        ("initialisation killed at line 2000, 32 tables", 32, 0),
        ("initialisation killed, few keys", 72, 0),
        ("initialisation killed, no foreign keys, as observed", 72, 0),
    ] {
        let state =
            states.iter().find(|state| state.name == name).unwrap_or_else(|| panic!("no state {name}"));
        let catalog = (state.catalog)(&facts);
        let found = (count(&catalog, Kind::Table, ""), count(&catalog, Kind::Constraint, "FOREIGN KEY"));
        assert_eq!(found, (tables, foreign_keys), "{name}");
    }
    // Missing tables and columns, and those left over.
    for (revision, missing, left_over) in [
        ("c5bc995c619f", (1, 0), (0, 0)),
        ("11f9e26c6345", (2, 0), (0, 0)),
        ("1fd48f6d9650", (3, 0), (0, 0)),
        ("2230add_keyword_templates", (4, 0), (0, 0)),
        ("8b77eda62e71", (11, 0), (0, 0)),
        ("7fbfdf63fb76", (11, 0), (0, 1)),
        ("drop_legacy_json", (11, 0), (0, 2)),
        ("phase1_2_cleanup", (11, 0), (3, 2)),
        ("drop_legacy_roleplay", (11, 0), (3, 2)),
        ("emoji_personality_cols", (11, 6), (3, 2)),
        ("5891d5443712", (15, 6), (3, 2)),
        ("a1b2c3d4e5f6", (15, 6), (3, 2)),
        ("336ce8830dfe", (18, 6), (3, 2)),
        ("20251019_conv_summaries", (1, 0), (0, 0)),
        ("b06ced8ecd14", (19, 6), (3, 2)),
        ("a71d62f22c10", (19, 6), (3, 2)),
        ("c64001afbd46", (19, 6), (3, 2)),
        ("4628baf741ee", (19, 9), (3, 2)),
        ("20251026_emoji_log", (20, 9), (3, 2)),
        ("3ec726abae38", (20, 9), (3, 2)),
        ("06cb86fd8471", (21, 9), (3, 2)),
        ("604332ba3c03", (22, 9), (3, 2)),
    ] {
        let catalog = known::lied(&facts, revision);
        let lacks = |one: &Catalog, other: &Catalog| {
            let table = |id: &ObjectId| {
                one.objects.contains_key(&ObjectId::relation(Kind::Table, &*id.schema, &*id.relation))
            };
            let lacking = |kind: Kind| {
                other.objects.keys().filter(move |id| id.kind == kind && !one.objects.contains_key(id))
            };
            (lacking(Kind::Table).count(), lacking(Kind::Column).filter(|id| table(id)).count())
        };
        assert_eq!((lacks(&catalog, &head), lacks(&head, &catalog)), (missing, left_over), "{revision}");
    }
}

#[test]
fn exactly_the_versions_whose_effects_are_missing_run_in_one_transaction() {
    let (facts, states) = (Facts::load(), known::states());
    for (version, name, ran) in [
        (PgVersion::V18, "v1.0.9 upgraded to v1.0.40, as observed", &[2, 3][..]),
        (PgVersion::V16, "v1.0.9 upgraded to v1.0.40, as observed", &[2, 3]),
        (PgVersion::V18, "v1.0.8 upgraded to v1.0.40", &[2]),
    ] {
        let state = states.iter().find(|state| state.name == name).unwrap();
        let world = world_on(&Postgres::shared(version).unwrap());
        let built = (state.catalog)(&facts);
        world.db.execute(&format!(
            "{}{}{}",
            known::ddl(&facts, &built),
            rows::rows(&facts.constrained(&built)),
            known::ledgers(state)
        ));
        world.start(&["true"]).expect(0);
        let by = |origin: &str| {
            let numbers: String = world.query(&format!(
                "select coalesce(string_agg(version::text, ',' order by version), '') from tandem.ledger where origin = '{origin}'"
            ));
            numbers.split(',').filter_map(|number| number.parse().ok()).collect::<Vec<i64>>()
        };
        assert_eq!(by("applied"), ran, "{name}");
        assert_eq!(by("stamped").len() + by("applied").len() + by("completed").len(), 14, "{name}");
        let transactions = world.query("select count(distinct xmin::text)::text from tandem.ledger");
        assert_eq!(transactions, "1", "{name}: one transaction");
    }
}

/// Only a table that holds no row may be given another form; one that gets rows while a start waits for it is looked at anew.
#[test]
fn a_table_that_gets_rows_while_it_is_about_to_be_given_its_form_is_left_alone() {
    use sqlx::Connection;
    let facts = Facts::load();
    let states = known::states();
    let state = states.iter().find(|state| state.name == "v1.0.7 fresh, seven tables").unwrap();
    let world = world();
    let built = (state.catalog)(&facts);
    world.db.execute(&format!("{}{}", known::ddl(&facts, &built), known::ledgers(state)));
    let before = catalog(&world);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut writer = runtime.block_on(sqlx::PgConnection::connect(&world.db.url())).unwrap();
    let insert = "begin; insert into users (username) values ('somebody')";
    runtime.block_on(sqlx::raw_sql(insert).execute(&mut writer)).unwrap();
    let outcome = start_until_locked(&world, || {
        runtime.block_on(sqlx::raw_sql("commit").execute(&mut writer)).unwrap();
    });
    assert_eq!(outcome.code, 76, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("table users has got rows since it was looked at"), "{}", outcome.stderr);
    assert_eq!(world.query("select string_agg(username, '') from users"), "somebody");
    assert_eq!(catalog(&world), before);
    let again = world.start(&["true"]);
    assert_eq!(again.code, 76);
    assert!(again.stderr.contains("table users is in the way"), "{}", again.stderr);
}

#[test]
fn the_same_on_postgres_15() {
    let results = all(&Postgres::shared(PgVersion::V15).unwrap(), |at, _| at % 6 == 1);
    assert!(results.len() > 10);
}

/// Debian builds it with ICU, its own paths and its own defaults.
#[test]
fn the_same_on_debians_postgres_15_where_it_is_installed() {
    let Some(bin) = local_servers::debian_build(PgVersion::V15) else {
        println!("Debian's postgresql-15 is not installed: not run");
        return;
    };
    let options = PostgresOptions { version: PgVersion::V15, bin: Some(bin), ..Default::default() };
    let server = Postgres::start(options).unwrap();
    let debian = common::query(&server.url("postgres"), "select (version() like '%Debian%')::text");
    assert_eq!(debian, "true");
    let results = all(&server, |at, _| at % 6 == 2);
    assert!(results.len() > 10);
}

#[test]
fn the_same_on_postgres_18() {
    // Every second of the many lying stamps is enough for a second server.
    let server = Postgres::shared(PgVersion::V18).unwrap();
    let results = all(&server, |at, state| !state.name.starts_with("stamped by hand") || at % 2 == 0);
    assert!(results.len() > 60, "{} states", results.len());
}

/// Plain SQL dumps of real databases, by `TANDEM_TEST_DUMPS=DIRECTORY`.
#[test]
fn dumps_reach_the_head_or_are_refused_with_nothing_changed() {
    let Some(directory) = std::env::var_os("TANDEM_TEST_DUMPS") else {
        println!("TANDEM_TEST_DUMPS names no directory of dumps: not run");
        return;
    };
    let directory = Path::new(&directory);
    let entries = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("TANDEM_TEST_DUMPS={}: {error}", directory.display()));
    let mut dumps: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    dumps.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    dumps.sort();
    assert!(!dumps.is_empty(), "TANDEM_TEST_DUMPS={}: there is no *.sql in it", directory.display());
    let (facts, mut failed) = (Facts::load(), Vec::new());
    for path in &dumps {
        // One dump that fails must not hide the others.
        if catch_unwind(AssertUnwindSafe(|| start_on_dump(&facts, path))).is_err() {
            failed.push(path);
        }
    }
    assert!(failed.is_empty(), "{} of {} dumps failed: {failed:#?}", failed.len(), dumps.len());
}

fn start_on_dump(facts: &Facts, path: &Path) {
    let world = world();
    dumps::restore(&world, path);
    let (before, built) = (rows::read(&world), catalog(&world));
    assert!(!built.objects.is_empty(), "{}: nothing is in it", path.display());
    let outcome = world.start(&["true"]);
    let after = rows::read(&world);
    let words = format!("{}: {} → exit {}", path.display(), finding(&outcome), outcome.code);
    println!("{words}, {} rows before, {} rows archived", before.count(), after.archive.len());
    match outcome.code {
        0 => {
            let difference = facts.expected.compare(&catalog(&world), facts.head);
            assert!(difference.is_proof(), "{words}: {difference}");
        }
        76 => {
            assert_eq!(after.tables, before.tables, "{words}");
            assert_eq!(catalog(&world), built, "{words}");
        }
        _ => panic!("{words}\n{}", outcome.stderr),
    }
    let lost = rows::lost(&built, &before, &after);
    assert!(lost.is_empty(), "{words}: {} values are lost, such as {}", lost.len(), lost[0]);
}

/// The loader, on what `pg_dump` writes that no test server has: roles, a database of its own, commands of newer versions.
#[test]
fn a_dump_is_loaded_whatever_roles_databases_and_versions_it_names() {
    let Some(_) = local_servers::client_tool("psql") else {
        println!("this machine has no psql: not run");
        return;
    };
    let world = world();
    let directory = common::Dir::new();
    let path = directory.write(
        "dump.sql",
        "\\restrict xyz\nSET transaction_timeout = 0;\n\
         CREATE DATABASE elsewhere WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'C';\n\
         ALTER DATABASE elsewhere OWNER TO nobody_here;\n\\unrestrict xyz\n\\connect elsewhere\n\\restrict xyz\n\
         CREATE TABLE public.t (a text);\nALTER TABLE public.t OWNER TO nobody_here;\n\
         COPY public.t (a) FROM stdin;\nCREATE DATABASE elsewhere;\n\\\\connect elsewhere\n\\.\n\
         REVOKE ALL ON TABLE public.t FROM \"No Body\";\nGRANT SELECT ON TABLE public.t TO \"No Body\";\n\
         ALTER DEFAULT PRIVILEGES FOR ROLE another_one IN SCHEMA public GRANT SELECT ON TABLES TO reader_here;\n\\unrestrict xyz\n",
    );
    dumps::restore(&world, &path);
    assert_eq!(
        world.query("select string_agg(a, '|' order by a) from public.t"),
        "CREATE DATABASE elsewhere;|\\connect elsewhere"
    );
    let broken = directory.write("broken.sql", "CREATE TABLE u (a int);\nSELECT nothing_like_that();\n");
    let failed = catch_unwind(AssertUnwindSafe(|| dumps::restore(&world, &broken)));
    assert!(failed.is_err(), "a dump that does not load is no dump of nothing");
}
