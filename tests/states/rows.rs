//! Rows for every table of a catalog, and what became of their values.

use crate::common::World;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use tandem::catalog::{Catalog, Column, Detail, Kind, ObjectId};

/// How many rows a table gets.
const ROWS: usize = 3;

/// `INSERT`s for every table, in an order that foreign keys take. The same rows each time.
pub fn rows(catalog: &Catalog) -> String {
    let mut waiting: Vec<&str> = relations(catalog).collect();
    let targets = |table: &str| -> BTreeSet<&str> {
        constraints(catalog, table)
            .filter_map(|definition| Some(foreign(definition)?.1))
            .filter(|target| *target != table)
            .collect()
    };
    let (mut sql, mut done) = (String::new(), BTreeSet::new());
    while !waiting.is_empty() {
        let (ready, rest): (Vec<&str>, Vec<&str>) =
            waiting.into_iter().partition(|table| targets(table).iter().all(|target| done.contains(target)));
        assert!(!ready.is_empty(), "foreign keys in a circle: {rest:?}");
        for table in &ready {
            sql.push_str(&insert(catalog, table));
        }
        done.extend(ready);
        waiting = rest;
    }
    sql
}

fn relations(catalog: &Catalog) -> impl Iterator<Item = &str> {
    catalog.objects.keys().filter(|id| id.kind == Kind::Table).map(|id| id.relation.as_str())
}

fn columns<'a>(catalog: &'a Catalog, table: &str) -> Vec<(&'a str, &'a Column)> {
    let of = catalog.objects.iter().filter(|(id, _)| id.kind == Kind::Column && id.relation == table);
    of.filter_map(|(id, object)| match &object.detail {
        Detail::Column(column) => Some((id.name.as_str(), column)),
        _ => None,
    })
    .collect()
}

fn constraints<'a>(catalog: &'a Catalog, table: &str) -> impl Iterator<Item = &'a str> {
    let of = catalog.objects.range(ObjectId::part(Kind::Constraint, "public", table, "")..);
    let table = table.to_owned();
    of.take_while(move |(id, _)| id.kind == Kind::Constraint && id.relation == table).filter_map(
        |(_, object)| match &object.detail {
            Detail::Constraint(constraint) => Some(constraint.definition.as_str()),
            _ => None,
        },
    )
}

/// Column, referenced table and column of a foreign key over one column.
fn foreign(definition: &str) -> Option<(&str, &str, &str)> {
    let (own, target) = definition.strip_prefix("FOREIGN KEY (")?.split_once(") REFERENCES public.")?;
    let (table, column) = target.split_once('(')?;
    Some((own, table, column.split(')').next()?))
}

fn insert(catalog: &Catalog, table: &str) -> String {
    let columns: Vec<(&str, &Column)> =
        columns(catalog, table).into_iter().filter(|(_, column)| column.generated.is_none()).collect();
    if columns.is_empty() {
        return String::new();
    }
    let names: Vec<String> = columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let rows: Vec<String> = (1..=ROWS)
        .map(|row| {
            let values: Vec<String> =
                columns.iter().map(|(name, column)| value(catalog, table, name, column, row)).collect();
            format!("({})", values.join(", "))
        })
        .collect();
    let mut sql =
        format!("insert into public.\"{table}\" ({}) values {};\n", names.join(", "), rows.join(", "));
    for (name, _) in columns.iter().filter(|(_, column)| column.serial) {
        sql.push_str(&format!(
            "select setval(pg_get_serial_sequence('public.\"{table}\"', '{name}'), {ROWS});\n"
        ));
    }
    sql
}

/// A value that the column's type, its checks and its references take.
fn value(catalog: &Catalog, table: &str, name: &str, column: &Column, row: usize) -> String {
    if let Some((_, target, referenced)) = constraints(catalog, table)
        .filter_map(foreign)
        .find(|(own, ..)| own.split(", ").any(|own| own == name))
    {
        // Of a key over several columns each has the name that it has there.
        let referenced = referenced.split(", ").find(|one| *one == name).unwrap_or(referenced);
        let columns = self::columns(catalog, target);
        // Edges lead from one to another.
        let row = if name.starts_with("to_") { row % ROWS + 1 } else { row };
        if let Some((referenced, column)) = columns.into_iter().find(|(one, _)| *one == referenced) {
            return value(catalog, target, referenced, column, row);
        }
    }
    let checks: Vec<&str> = constraints(catalog, table)
        .filter(|definition| {
            definition.starts_with("CHECK")
                && definition.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name)
        })
        .collect();
    let kind = column.data_type.as_str();
    if let Some(check) = checks.iter().find(|check| check.contains('\'') && !check.contains("length")) {
        return format!("'{}'", check.split('\'').nth(1).unwrap_or_default());
    }
    match (table, name) {
        ("characters", "normalized_name") if row == 1 => return "'assistant'".into(),
        ("characters", "emoji_frequency") => return "'high'".into(),
        ("communication_styles", "conversation_flow_guidance") => {
            return [
                r#"'{"warm": {"energy": "high", "approach": "kind", "avoid": ["haste"], "encourage": ["calm"], "examples": ["hello"]}, "general": {"default_energy": "low", "response_patterns": {"avoid": ["noise"]}}, "response_style": {"core_principles": ["be brief"]}, "platform_awareness": {"discord": "yes"}}'"#,
                "'plain text, and no JSON'",
                "null",
            ][row - 1]
                .into();
        }
        ("communication_styles", "ai_identity_handling") => {
            return [
                r#"'{"philosophy": "honest", "approach": "open", "roleplay_interaction_scenarios": {"hug": {"response_pattern": "tiers", "trigger_detection": "hugs"}}}'"#,
                "'neither'",
                "''",
            ][row - 1]
                .into();
        }
        ("universal_users", "preferences") if kind == "text" => {
            return [r#"'{"b": 1, "a": [ 2 ]}'"#, "'None'", "''"][row - 1].into();
        }
        ("character_emotional_states", "state_data") => {
            return [
                r#"'{"enthusiasm": 0.5, "stress": 2, "empathy": 0.4, "confidence": 0.3, "contentment": 0.9, "total_interactions": 7}'"#,
                r#"'{"enthusiasm": "much"}'"#,
                "'[]'",
            ][row - 1]
                .into();
        }
        _ => {}
    }
    match kind {
        // Most bounds allow one.
        _ if !checks.is_empty() && is_number(kind) => "1".into(),
        "boolean" => ["true", "false", "null"][if column.not_null { row % 2 } else { row - 1 }].into(),
        "json" | "jsonb" => format!("'{{\"row\": {row}}}'"),
        "uuid" => format!("'00000000-0000-4000-8000-{row:012}'"),
        "text[]" | "character varying[]" | "character varying(100)[]" => format!("'{{one,{row}}}'"),
        "numeric(3,1)" | "numeric(3,2)" => format!("0.{row}"),
        _ if is_number(kind) => format!("{row}"),
        _ if kind.starts_with("timestamp") => format!("'2025-01-0{row} 01:02:03.456'"),
        _ if kind.starts_with("character varying(") => {
            let length: usize =
                kind.trim_start_matches("character varying(").trim_end_matches(')').parse().unwrap();
            let text = format!("{row} ä {name}");
            format!("'{}'", text.chars().take(length).collect::<String>())
        }
        _ => format!("'{row} it''s {name}'"),
    }
}

fn is_number(kind: &str) -> bool {
    kind.starts_with("numeric")
        || matches!(kind, "integer" | "bigint" | "smallint" | "real" | "double precision")
}

/// Every value of every table, and the archive.
#[derive(Debug, PartialEq)]
pub struct Values {
    /// Table → its rows.
    pub tables: BTreeMap<String, Vec<Map<String, Value>>>,
    /// Table and row as it was.
    pub archive: Vec<(String, Map<String, Value>)>,
}

impl Values {
    pub fn count(&self) -> usize {
        self.tables.values().map(Vec::len).sum()
    }
}

/// Reads them all; other tools' ledgers are not among them.
pub fn read(world: &World) -> Values {
    let query = |sql: &str| crate::common::query(&world.db.url(), &format!("set timezone = 'UTC'; {sql}"));
    let names = query(
        "select coalesce(json_agg(n.nspname || '.' || quote_ident(c.relname)), '[]')::text from pg_class c \
         join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' and c.relname not in ('alembic_version', 'schema_migrations') \
         and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'tandem')",
    );
    let names: Vec<String> = serde_json::from_str(&names).unwrap();
    let parts: Vec<String> = names
        .iter()
        .map(|name| format!("select '{name}' as name, coalesce(json_agg(row_to_json(t) order by t::text), '[]') as rows from {name} t"))
        .collect();
    let tables = match parts.as_slice() {
        [] => BTreeMap::new(),
        parts => {
            let all = query(&format!(
                "select json_object_agg(name, rows)::text from ({}) all_tables",
                parts.join(" union all ")
            ));
            serde_json::from_str(&all).unwrap()
        }
    };
    let has_archive = query("select (to_regclass('tandem.archive') is not null)::text") == "true";
    let archive = match has_archive {
        false => Vec::new(),
        true => serde_json::from_str(&query(
            "select coalesce(json_agg(json_build_array(regexp_replace(relation, '^public\\.', ''), row)), '[]')::text from tandem.archive",
        ))
        .unwrap(),
    };
    Values { tables, archive }
}

/// The values that are neither in their place nor in the archive, in words.
pub fn lost(catalog: &Catalog, before: &Values, after: &Values) -> Vec<String> {
    let mut lost = Vec::new();
    for (name, rows) in &before.tables {
        let table = name.trim_start_matches("public.");
        let key = key(catalog, table);
        let find = |row: &Map<String, Value>,
                    candidates: &mut dyn Iterator<Item = &Map<String, Value>>|
         -> Vec<Map<String, Value>> {
            candidates
                .filter(|other| key.iter().all(|column| other.get(column) == row.get(column)))
                .cloned()
                .collect()
        };
        for row in rows {
            // Where a refusal told to put them.
            let aside = [name.clone(), format!("{name}_own"), format!("public_before.{table}")];
            let kept = aside.iter().filter_map(|name| after.tables.get(name)).flatten();
            let mut places = find(row, &mut kept.into_iter());
            places.extend(find(
                row,
                &mut after.archive.iter().filter(|(of, _)| of == table).map(|(_, row)| row),
            ));
            for (column, value) in row.iter().filter(|(_, value)| !value.is_null()) {
                if !places.iter().any(|place| place.get(column) == Some(value)) {
                    lost.push(format!("{name}.{column} = {value} of {row:?}"));
                }
            }
        }
    }
    lost
}

/// The columns of the primary key; `id` where there is none.
fn key(catalog: &Catalog, table: &str) -> Vec<String> {
    let primary = constraints(catalog, table).find_map(|definition| definition.strip_prefix("PRIMARY KEY ("));
    match primary {
        Some(columns) => {
            columns.trim_end_matches(')').split(", ").map(|name| name.trim_matches('"').to_owned()).collect()
        }
        None => vec!["id".to_owned()],
    }
}
