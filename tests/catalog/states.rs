//! The states that real databases of the reference application are in, as catalogs, against what the timeline makes.
//!
//! `tests/data/whisperengine/` holds them as observed: what `pg_catalog` said, without comments, bodies and rows.

use crate::{connect, execute, names, read_schemas};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use tandem::catalog::normal::{normal_constraint, normal_index};
use tandem::catalog::{
    Catalog, Column, Constraint, Detail, Enum, Expected, Extension, Feeds, Function, IndexDefinition, Kind,
    Object, ObjectId, Resemblance, Sequence, Table, Trigger, compare, resemble,
};

/// Ledgers of other tools, in every state.
const LEDGERS: &[&str] = &["alembic_version", "schema_migrations"];

#[derive(Deserialize)]
struct State {
    extensions: Vec<String>,
    enums: Vec<(String, Vec<String>)>,
    views: Vec<String>,
    /// Name, arguments with their names, result.
    functions: Vec<(String, String, String)>,
    /// Name, increment, `schema.table.column` that owns it.
    sequences: Vec<(String, i64, String)>,
    tables: Vec<StateTable>,
}

#[derive(Deserialize)]
struct StateTable {
    name: String,
    columns: Vec<StateColumn>,
    /// Names and definitions.
    constraints: Vec<(String, String)>,
    /// Those that back no constraint.
    indexes: Vec<(String, String)>,
    /// Name, timing, events, level, function, `tgenabled`.
    #[serde(default)]
    triggers: Vec<(String, String, Vec<String>, String, String, String)>,
}

/// Name, type, not null, default, and `attgenerated` where there is one.
#[derive(Deserialize)]
#[serde(untagged)]
enum StateColumn {
    Plain(String, String, bool, Option<String>),
    Generated(String, String, bool, Option<String>, String),
}

impl StateColumn {
    fn object(self, position: i32) -> (String, Column) {
        let (name, data_type, not_null, default, generated) = match self {
            Self::Plain(name, data_type, not_null, default) => (name, data_type, not_null, default, None),
            Self::Generated(name, data_type, not_null, default, letter) => {
                assert_eq!(letter, "s", "Postgres 15 stores generated columns");
                (name, data_type, not_null, default, Some("stored".to_owned()))
            }
        };
        let serial = default.as_deref().is_some_and(|default| default.starts_with("nextval("));
        let default = if serial { None } else { default };
        (name, Column { position, data_type, not_null, serial, default, generated, ..Column::default() })
    }
}

/// A state as a catalog. What a view reads was not observed: it is taken from `views` where the name is the same.
fn state(name: &str, views: &Catalog) -> Catalog {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/whisperengine/{name}.json"));
    let state: State =
        serde_json::from_str(&fs::read_to_string(path).expect("the state is there")).expect("JSON");
    let mut catalog = Catalog { server: 150_018, ..Catalog::default() };
    let mut add = |id: ObjectId, detail: Detail| catalog.insert(id, Object::new(detail));
    for name in state.extensions {
        let detail = Extension { version: String::new(), schema: "public".to_owned() };
        add(ObjectId::alone(Kind::Extension, "", name), Detail::Extension(detail));
    }
    for (name, labels) in state.enums {
        add(ObjectId::alone(Kind::Enum, "public", name), Detail::Enum(Enum { labels }));
    }
    for (name, arguments, result) in state.functions {
        let types: Vec<&str> =
            arguments.split(", ").filter_map(|argument| Some(argument.split_once(' ')?.1)).collect();
        let detail = Function {
            variety: "function".to_owned(),
            result,
            language: "plpgsql".to_owned(),
            definition: String::new(),
        };
        let id = ObjectId::alone(Kind::Function, "public", format!("{name}({})", types.join(", ")));
        add(id, Detail::Function(detail));
    }
    for (name, increment, owner) in state.sequences {
        let [_, table, column] = owner.split('.').collect::<Vec<_>>()[..] else {
            panic!("an owner: {owner}")
        };
        let detail = Sequence {
            name,
            feeds: Feeds::Owned,
            data_type: "integer".to_owned(),
            start: 1,
            increment,
            min: 1,
            max: i32::MAX.into(),
            cache: 1,
            cycle: false,
        };
        add(ObjectId::part(Kind::Sequence, "public", table, column), Detail::Sequence(detail));
    }
    for table in state.tables.into_iter().filter(|table| !LEDGERS.contains(&table.name.as_str())) {
        let of = table.name.as_str();
        add(ObjectId::relation(Kind::Table, "public", of), Detail::Table(Table::default()));
        for (column, position) in table.columns.into_iter().zip(1..) {
            let (name, detail) = column.object(position);
            add(ObjectId::part(Kind::Column, "public", of, name), Detail::Column(detail));
        }
        for (name, definition) in table.constraints {
            let id = ObjectId::part(Kind::Constraint, "public", of, normal_constraint(&definition));
            add(id, Detail::Constraint(Constraint { name, definition, not_valid: false }));
        }
        for (name, definition) in table.indexes {
            let definition = definition.replace("public.gin_trgm_ops", "gin_trgm_ops");
            let id = ObjectId::part(Kind::Index, "public", of, normal_index(&definition));
            add(id, Detail::Index(IndexDefinition { name, definition, invalid: false }));
        }
        for (name, timing, events, level, function, enabled) in table.triggers {
            let events = events.join(" OR ");
            let definition = format!(
                "CREATE TRIGGER {name} {timing} {events} ON public.{of} FOR EACH {level} EXECUTE FUNCTION {function}()"
            );
            let id = ObjectId::part(Kind::Trigger, "public", of, name);
            add(id, Detail::Trigger(Trigger { definition, enabled }));
        }
    }
    for name in state.views {
        let id = ObjectId::relation(Kind::View, "public", name);
        if let Some(view) = views.objects.get(&id) {
            catalog.objects.insert(id, view.clone());
        }
    }
    catalog
}

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
