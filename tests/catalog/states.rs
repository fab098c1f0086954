//! The states that real databases of the reference application are in, as catalogs, against what the timeline makes.
//!
//! `tests/data/whisperengine/` holds them as observed: what `pg_catalog` said, without comments, bodies and rows.

use crate::observed::{LEDGERS, state};
use crate::{connect, execute, names, read_schemas};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use tandem::catalog::{Catalog, Expected, Kind, ObjectId, Resemblance, compare, resemble};

/// The expected catalogs of the timeline, from a real server.
async fn recorded() -> Expected {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let files = fs::read_dir(&directory).expect("the timeline is there");
    let files: BTreeSet<String> =
        files.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    let number = |file: &String| file.split_once('_').and_then(|(number, _)| number.parse::<i64>().ok());
    let numbers: BTreeSet<i64> = files.iter().filter_map(number).collect();
    let database = local_servers::postgres().create_database("recorded");
    let mut connection = connect(&database).await;
    let mut versions = Vec::new();
    for version in numbers {
        for file in files.iter().filter(|file| number(file) == Some(version) && file.ends_with(".up.sql")) {
            execute(&mut connection, &fs::read_to_string(directory.join(file)).expect("SQL")).await;
        }
        let catalog = read_schemas(&database, &["public"], LEDGERS).await;
        versions.push((version, format!("v{version}"), String::new(), catalog));
    }
    Expected::from_catalogs("whisperengine", versions)
}

static RECORDED: LazyLock<Expected> = LazyLock::new(|| {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(recorded())
    })
    .join()
    .expect("the timeline can be recorded")
});

fn catalog_at(number: i64) -> Catalog {
    RECORDED.catalog_at(number).expect("a version of the timeline")
}

fn head() -> Catalog {
    catalog_at(RECORDED.index.versions.last().expect("a head").number)
}

/// Only databases made by a release before v1.0.32 have it, whatever they were upgraded to.
fn is_optional(id: &ObjectId) -> bool {
    id.to_string() == "function migrate_to_jsonb_schema()"
}

fn assert_equal(name: &str, number: i64) {
    let made = catalog_at(number);
    let observed = state(name, &made);
    let difference = compare(&made, &observed);
    assert!(difference.is_proof(), "{name}, as the timeline makes it: {difference}");
    let mut more = difference.extra;
    more.retain(|id| !is_optional(id));
    assert!(more.is_empty(), "{name}, as the timeline makes it, has more: {:?}", names(&more));
}

#[test]
fn the_timeline_makes_the_catalogs_that_were_observed() {
    assert_equal("v1.0.6", 1);
    assert_equal("v1.0.24", 7);
    assert_equal("v1.0.30", 10);
    assert_equal("v1.0.40", 14);
}

fn proven(name: &str) -> Vec<i64> {
    let resemblances = resemble(&state(name, &head()), &RECORDED);
    resemblances.iter().filter(|one| one.is_exact()).map(|one| one.number).collect()
}

#[test]
fn a_database_without_ledger_is_known_by_its_catalog() {
    assert_eq!(proven("v1.0.6"), [1]);
    // Versions that change comments, data or Qdrant only are told apart by other proof.
    assert_eq!(proven("v1.0.24"), [7]);
    assert_eq!(proven("v1.0.30"), [10, 11]);
}

#[test]
fn what_resembles_no_version_is_not_taken_for_one() {
    for name in ["v1.0.3", "v1.0.7", "interrupted-init-no-fk", "v1.0.40-drifted-from-v1.0.9", "bot-first"] {
        let observed = state(name, &head());
        assert!(!resemble(&observed, &RECORDED).iter().any(Resemblance::is_proof), "{name}");
    }
}

#[test]
fn an_interrupted_start_lacks_keys_and_nothing_that_is_there_is_wrong() {
    let difference = compare(&state("interrupted-init-no-fk", &head()), &catalog_at(1));
    let kinds: BTreeSet<Kind> = difference.missing.iter().map(|id| id.kind).collect();
    assert_eq!(kinds, BTreeSet::from([Kind::Function, Kind::Constraint, Kind::Index, Kind::Trigger]));
    assert_eq!(difference.different, []);
    assert!(difference.extra.is_empty(), "{:?}", names(&difference.extra));
}

#[test]
fn a_drifted_head_lacks_what_its_stamp_claims() {
    let difference = compare(&state("v1.0.40-drifted-from-v1.0.9", &head()), &head());
    let tables = difference.missing_roots().filter(|id| id.kind == Kind::Table).count();
    assert_eq!(tables, 11);
    assert_eq!(names(&difference.extra), ["column communication_styles.ai_identity_handling"]);
}
