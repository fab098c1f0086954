//! States of the reference application's databases as they were observed: what `pg_catalog` said, without comments, bodies and
//! rows, in `tests/data/whisperengine/`.

use serde::Deserialize;
use std::fs;
use std::path::Path;
use tandem::catalog::normal::{normal_constraint, normal_index};
use tandem::catalog::{
    Catalog, Column, Constraint, Detail, Enum, Extension, Feeds, Function, IndexDefinition, Kind, Object,
    ObjectId, Sequence, Table, Trigger,
};

/// Ledgers of other tools, in every state.
pub const LEDGERS: &[&str] = &["alembic_version", "schema_migrations"];

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
pub fn state(name: &str, views: &Catalog) -> Catalog {
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
