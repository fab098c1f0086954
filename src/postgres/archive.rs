//! What a version takes away is kept first, in the version's own transaction: the rows of tables that it drops, the rows
//! whose columns it drops or gives another type, and the rows that its `[[archive]]` names.

use super::session::{identifier, literal};
use super::store::Store;
use super::strays::Partly;
use crate::catalog::render::server_relation;
use crate::catalog::{Catalog, Detail, Effects, Kind, ObjectId};
use crate::timeline::Version;
use std::collections::{BTreeMap, BTreeSet};

/// Which way along the timeline a step goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Up,
    Down,
}

impl Direction {
    /// The other way.
    pub fn opposite(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }

    /// The condition on archived rows `a` that a step in this direction kept, and that were not put back yet.
    pub fn active(self) -> &'static str {
        match self {
            Self::Up => "a.why ~ '^(table dropped|declared|columns dropped)'",
            Self::Down => "a.why like 'downgrade: %'",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Up => "",
            Self::Down => "downgrade: ",
        }
    }
}

/// A table of which a step keeps rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptTable {
    pub schema: String,
    pub relation: String,
    /// How the archive names it: as the catalog does, and as an `[[archive]]` does.
    pub spellings: BTreeSet<String>,
}

/// The tables of which a step in this direction keeps rows, by the catalog before it and its effects.
pub fn tables(
    version: &Version,
    direction: Direction,
    before: &Catalog,
    effects: &Effects,
) -> Vec<KeptTable> {
    let mut tables: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let derived = taken_away(before, effects).into_iter().map(|rows| rows.table);
    let declared = version.archives.iter().map(|archive| full_name(before, &archive.table));
    for table in derived.chain(declared.filter(|_| direction == Direction::Up)) {
        let spelling = table.replace('"', "");
        if let Some(id) = find(before, &spelling) {
            let name = format!("{}.{}", id.schema, id.relation);
            tables.entry((id.schema.clone(), id.relation.clone())).or_default().extend([spelling, name]);
        }
    }
    tables
        .into_iter()
        .map(|((schema, relation), spellings)| KeptTable { schema, relation, spellings })
        .collect()
}

/// The table that the archive names so, with or without its schema.
pub fn find<'a>(catalog: &'a Catalog, name: &str) -> Option<&'a ObjectId> {
    catalog
        .objects
        .keys()
        .filter(|id| id.kind == Kind::Table)
        .find(|id| id.relation == name || name == format!("{}.{}", id.schema, id.relation))
}

/// Why rows are kept that an `[[archive]]` names.
const DECLARED: &str = "declared";

/// Why rows are kept whose columns go or get another type.
const COLUMNS: &str = "columns dropped or converted";

/// Which rows to keep, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rows {
    /// The table as SQL names it.
    table: String,
    why: String,
    /// `None` keeps all rows.
    condition: Option<String>,
}

/// The statements that fill the archive, to run before the version's own; empty if it takes nothing away.
///
/// `before` is the expected catalog of the version before. A table that is not there (an optional object) has nothing to
/// keep.
pub fn statements(
    store: &Store,
    version: &Version,
    direction: Direction,
    before: &Catalog,
    effects: Option<&Effects>,
) -> String {
    all(version, direction, before, effects)
        .iter()
        .map(|rows| keep(store, version, direction, rows))
        .collect()
}

/// Tables of which a version may change rows, because they are kept or because a column has to be filled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Watched {
    /// Those of which the archive keeps every row, as SQL names them.
    pub whole: Vec<String>,
    /// The others.
    pub partly: Vec<Partly>,
}

/// The tables whose rows a version may change, with what notices that it changes or deletes more than that.
pub fn watched(
    store: &Store,
    version: &Version,
    direction: Direction,
    before: &Catalog,
    effects: Option<&Effects>,
) -> Watched {
    let mut watched = Watched::default();
    let kept = all(version, direction, before, effects);
    let mut refilled = effects.map(|effects| refilled(before, effects)).unwrap_or_default();
    if let Some(effects) = effects {
        with_their_partitions(before, effects, &kept, &mut refilled);
    }
    for Rows { table, condition, .. } in kept {
        let columns = refilled.remove(&table);
        if condition.is_none() {
            watched.whole.push(table);
            continue;
        }
        let archived = store.archived_now(version.number, &table);
        let refilled = columns.is_some();
        let (touched, filled) = columns.unwrap_or_default();
        watched.partly.push(Partly { table, condition, refilled, touched, filled, archived });
    }
    watched.partly.extend(refilled.into_iter().map(|(table, (touched, filled))| {
        let archived = store.archived_now(version.number, &table);
        Partly { table, condition: None, refilled: true, touched, filled, archived }
    }));
    watched
}

/// Columns that come, go or get another type, and those that get another NOT NULL or default.
type Columns = (BTreeSet<String>, BTreeSet<String>);

/// Tables that get columns, or whose columns a version drops, converts or gives another default or NOT NULL; with those.
fn refilled(before: &Catalog, effects: &Effects) -> BTreeMap<String, Columns> {
    let mut tables: BTreeMap<String, Columns> = BTreeMap::new();
    let is_column = |id: &&ObjectId| {
        let table = ObjectId::relation(Kind::Table, &*id.schema, &*id.relation);
        id.kind == Kind::Column && before.objects.contains_key(&table)
    };
    // Where a version is completed, those that come are there already.
    for id in effects.added.iter().map(|(id, _)| id).chain(&effects.removed).filter(is_column) {
        tables.entry(qualified(id)).or_default().0.insert(id.name.clone());
    }
    for (id, after) in &effects.changed {
        let (Some(Detail::Column(old)), Detail::Column(new)) =
            (before.objects.get(id).map(|object| &object.detail), &after.detail)
        else {
            continue;
        };
        if Detail::Column(old.clone()).same(&after.detail, false) {
            continue;
        }
        let (touched, filled) = tables.entry(qualified(id)).or_default();
        let converted = old.data_type != new.data_type || old.generated != new.generated;
        if converted { touched } else { filled }.insert(id.name.clone());
    }
    tables
}

/// Rows move between partitions and stay in the partitioned table: where that is watched, its partitions are not, unless one of them
/// goes or is detached.
fn with_their_partitions(
    before: &Catalog,
    effects: &Effects,
    kept: &[Rows],
    refilled: &mut BTreeMap<String, Columns>,
) {
    let parents = |id: &ObjectId| match before.objects.get(id).map(|object| &object.detail) {
        Some(Detail::Table(table)) if table.partition_bound.is_some() => table.parents.as_slice(),
        _ => &[],
    };
    let mut changed = effects.removed.iter().chain(effects.changed.iter().map(|(id, _)| id));
    if changed.any(|id| !parents(id).is_empty()) {
        return;
    }
    let tables = || before.objects.keys().filter(|id| id.kind == Kind::Table);
    let named: BTreeMap<String, &ObjectId> = tables().map(|id| (server_relation(id), id)).collect();
    let parent = |id: &ObjectId| parents(id).first().and_then(|parent| named.get(parent).copied());
    for id in tables() {
        let above = std::iter::successors(parent(id), |id| parent(id)).map(qualified);
        let is_watched =
            |table: &String| refilled.contains_key(table) || kept.iter().any(|rows| rows.table == *table);
        if let Some(top) = above.filter(is_watched).last()
            && let Some((touched, filled)) = refilled.remove(&qualified(id))
        {
            let columns = refilled.entry(top).or_default();
            columns.0.extend(touched);
            columns.1.extend(filled);
        }
    }
}

/// All rows to keep, by table.
fn all(version: &Version, direction: Direction, before: &Catalog, effects: Option<&Effects>) -> Vec<Rows> {
    // A declaration is about what the version does, not about what undoes it.
    let archives = version.archives.iter().filter(|_| direction == Direction::Up);
    let declared = archives.map(|archive| Rows {
        table: full_name(before, &archive.table),
        why: DECLARED.into(),
        condition: archive.condition.clone(),
    });
    let derived = effects.map(|effects| taken_away(before, effects)).unwrap_or_default();
    once(derived.into_iter().chain(declared))
}

/// The rows of one table are kept once, for whatever reasons.
fn once(all: impl Iterator<Item = Rows>) -> Vec<Rows> {
    let mut tables: Vec<Rows> = Vec::new();
    for rows in all {
        let Some(known) = tables.iter_mut().find(|known| known.table == rows.table) else {
            tables.push(rows);
            continue;
        };
        known.why = format!("{}; {}", known.why, rows.why);
        known.condition = match (known.condition.take(), rows.condition) {
            (Some(one), Some(other)) => Some(format!("({one}) or ({other})")),
            _ => None,
        };
    }
    tables
}

/// A declared table as SQL names it in full, if the catalog has exactly one such.
fn full_name(before: &Catalog, declared: &str) -> String {
    let parts: Vec<String> = declared
        .split('.')
        .map(|part| match part.strip_prefix('"').and_then(|part| part.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\"\"", "\""),
            None => part.to_lowercase(),
        })
        .collect();
    let is_it = |id: &ObjectId| match parts.as_slice() {
        [relation] => id.relation == *relation,
        [schema, relation] => (&id.schema, &id.relation) == (schema, relation),
        _ => false,
    };
    let mut tables = before.objects.keys().filter(|id| id.kind == Kind::Table && is_it(id));
    match (tables.next(), tables.next()) {
        (Some(id), None) => qualified(id),
        _ => declared.to_owned(),
    }
}

/// What the catalogs alone tell: dropped tables, dropped columns, columns of another type.
fn taken_away(before: &Catalog, effects: &Effects) -> Vec<Rows> {
    let mut columns: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    let mut rows = Vec::new();
    let dropped = |id: &ObjectId| {
        effects
            .removed
            .iter()
            .any(|t| t.kind == Kind::Table && t.schema == id.schema && t.relation == id.relation)
    };
    for id in &effects.removed {
        match id.kind {
            Kind::Table => {
                rows.push(Rows { table: qualified(id), why: "table dropped".into(), condition: None })
            }
            Kind::Column if !dropped(id) && is_stored(before, id) => {
                columns.entry((&id.schema, &id.relation)).or_default().push(&id.name);
            }
            _ => {}
        }
    }
    for (id, after) in &effects.changed {
        if let Detail::Column(after) = &after.detail
            && let Some(Detail::Column(old)) = before.objects.get(id).map(|object| &object.detail)
            && old.data_type != after.data_type
            && old.generated.is_none()
        {
            columns.entry((&id.schema, &id.relation)).or_default().push(&id.name);
        }
    }
    rows.extend(columns.into_iter().map(|((schema, relation), columns)| Rows {
        table: format!("{}.{}", identifier(schema), identifier(relation)),
        why: format!("{COLUMNS}: {}", columns.join(", ")),
        condition: Some(
            columns.iter().map(|c| format!("{} is not null", identifier(c))).collect::<Vec<_>>().join(" or "),
        ),
    }));
    rows
}

/// A column of a table, with values of its own: not of a view, not generated.
fn is_stored(before: &Catalog, id: &ObjectId) -> bool {
    let table = ObjectId::relation(Kind::Table, id.schema.clone(), id.relation.clone());
    let generated =
        matches!(before.objects.get(id).map(|o| &o.detail), Some(Detail::Column(c)) if c.generated.is_some());
    before.objects.contains_key(&table) && before.objects.contains_key(id) && !generated
}

/// As SQL names its relation.
pub(super) fn qualified(id: &ObjectId) -> String {
    format!("{}.{}", identifier(&id.schema), identifier(&id.relation))
}

/// What somebody writes between the copy and the version's own statements would go without a copy, so nobody may. A table that is
/// to be altered or dropped is locked as that will lock it: a lock that becomes stronger meets whoever waits for the weaker. A role
/// that may not write to the table itself, whose rows a foreign key takes, may not lock it either.
fn keep(store: &Store, version: &Version, direction: Direction, rows: &Rows) -> String {
    let why = format!("{}{}", direction.prefix(), rows.why);
    let insert = store.archive(version.number, &rows.table, &why, rows.condition.as_deref());
    let mode = if rows.why == DECLARED { "share row exclusive" } else { "access exclusive" };
    format!(
        "do $tandem$ declare k \"char\"; may boolean; begin \
         select c.relkind, pg_catalog.has_table_privilege(c.oid, 'update, delete, truncate') into k, may \
           from pg_catalog.pg_class c where c.oid = pg_catalog.to_regclass({name}); \
         if may and k in ('r', 'p') then lock table {table} in {mode} mode; end if; \
         if k is not null then execute {insert}; end if; end $tandem$;\n",
        name = literal(&rows.table),
        table = rows.table,
        insert = literal(&insert)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Column, Object, Table};

    fn column(relation: &str, name: &str, data_type: &str) -> (ObjectId, Object) {
        let detail = Detail::Column(Column { data_type: data_type.into(), ..Column::default() });
        (ObjectId::part(Kind::Column, "public", relation, name), Object::new(detail))
    }

    fn table(relation: &str) -> (ObjectId, Object) {
        (ObjectId::relation(Kind::Table, "public", relation), Object::new(Detail::Table(Table::default())))
    }

    fn catalog(objects: Vec<(ObjectId, Object)>) -> Catalog {
        Catalog { server: 160_000, objects: objects.into_iter().collect() }
    }

    #[test]
    fn what_is_dropped_or_converted_is_kept_and_nothing_else() {
        let before = catalog(vec![
            table("gone"),
            column("gone", "id", "integer"),
            table("kept"),
            column("kept", "id", "integer"),
            column("kept", "dropped", "text"),
            column("kept", "converted", "text"),
        ]);
        let after = catalog(vec![
            table("kept"),
            column("kept", "id", "integer"),
            column("kept", "converted", "jsonb"),
            column("kept", "added", "text"),
        ]);
        let kept = taken_away(&before, &crate::catalog::effects(&before, &after));
        let kept: Vec<(&str, Option<&str>)> =
            kept.iter().map(|rows| (rows.table.as_str(), rows.condition.as_deref())).collect();
        assert_eq!(
            kept,
            [
                ("\"public\".\"gone\"", None),
                ("\"public\".\"kept\"", Some("\"dropped\" is not null or \"converted\" is not null")),
            ]
        );
        assert_eq!(taken_away(&before, &crate::catalog::effects(&before, &before)), []);
    }

    #[test]
    fn a_table_is_kept_once_however_it_is_named_and_for_whatever_reasons() {
        let before = catalog(vec![table("kept"), table("Odd name")]);
        for (declared, named) in [
            ("kept", "\"public\".\"kept\""),
            ("public.KEPT", "\"public\".\"kept\""),
            ("\"public\".\"Odd name\"", "\"public\".\"Odd name\""),
            ("nobodys", "nobodys"),
            ("other.kept", "other.kept"),
        ] {
            assert_eq!(full_name(&before, declared), named);
        }
        let rows = |table: &str, why: &str, condition: Option<&str>| Rows {
            table: table.into(),
            why: why.into(),
            condition: condition.map(str::to_owned),
        };
        let all = [
            rows("t", "a", Some("x")),
            rows("u", "b", Some("y")),
            rows("t", "c", Some("z")),
            rows("u", "d", None),
        ];
        assert_eq!(once(all.into_iter()), [rows("t", "a; c", Some("(x) or (z)")), rows("u", "b; d", None)]);
    }
}
