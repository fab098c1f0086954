//! Objects → the DDL that makes them, and nothing else: it only adds.
//!
//! [`complete`] renders what a catalog lacks of another one. Definitions name everything with its schema, except what belongs
//! to an extension, so the statements run with the managed schemas and those of the extensions in `search_path`, and with
//! `check_function_bodies = off`: a body may name what comes later.

use super::{
    Catalog, Column, Constraint, Detail, Different, Feeds, Function, Kind, Object, ObjectId, Sequence, Table,
    View, compare,
};
use std::collections::{BTreeMap, BTreeSet};

/// One statement, and which rows can forbid it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it makes or mends.
    pub object: ObjectId,
    pub sql: String,
    pub offenders: Option<Offenders>,
}

/// Rows that a constraint to come does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offenders {
    /// The table as SQL names it.
    pub table: String,
    /// Its key as SQL; `ctid` where there is none.
    pub key: Vec<String>,
    /// True of the rows that are in the way.
    pub condition: String,
}

/// What leads from one catalog to the other without taking anything away.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Completion {
    /// In an order that the server takes.
    pub statements: Vec<Statement>,
    /// What cannot be had by adding, and is there in another form or cannot be written as SQL.
    pub impossible: Vec<Different>,
}

impl Completion {
    /// Nothing to add and nothing in the way.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty() && self.impossible.is_empty()
    }
}

/// Renders what `actual` lacks of `wanted`.
pub fn complete(actual: &Catalog, wanted: &Catalog) -> Completion {
    complete_beside(actual, wanted, &BTreeSet::new())
}

/// The same, where these tables hold no row: another type of one of their columns is in nobody's way.
pub fn complete_beside(actual: &Catalog, wanted: &Catalog, empty: &BTreeSet<ObjectId>) -> Completion {
    let difference = compare(actual, wanted);
    let mut renderer = Renderer::new(actual, wanted);
    for id in &difference.missing {
        if let Some(object) = wanted.objects.get(id) {
            renderer.missing(id, object);
        }
    }
    for different in difference.different {
        let (Some(found), Some(object)) =
            (actual.objects.get(&different.id), wanted.objects.get(&different.id))
        else {
            renderer.completion.impossible.push(different);
            continue;
        };
        let id = &different.id;
        let table = ObjectId::relation(Kind::Table, &*id.schema, &*id.relation);
        let resolved = renderer.mended(id, &found.detail, &object.detail)
            || empty.contains(&table) && renderer.reshaped(id, &found.detail, &object.detail);
        if !resolved {
            renderer.completion.impossible.push(different);
        }
    }
    renderer.finish()
}

/// Renders a whole catalog.
pub fn render(catalog: &Catalog) -> Completion {
    complete(&Catalog { server: catalog.server, ..Catalog::default() }, catalog)
}

/// When a statement runs, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Extension,
    Enum,
    Range,
    Domain,
    Composite,
    Function,
    Sequence,
    Table,
    Column,
    Default,
    Owner,
    TableFunction,
    Key,
    Check,
    Index,
    ForeignKey,
    View,
    ViewFunction,
    ViewIndex,
    Trigger,
    Security,
    Comment,
}

fn push_not_null(sql: &mut String, not_null: bool) {
    if not_null {
        sql.push_str(" NOT NULL");
    }
}

struct Renderer<'a> {
    actual: &'a Catalog,
    wanted: &'a Catalog,
    /// Names of relations and indexes that are taken, by schema.
    taken: BTreeSet<(String, String)>,
    staged: BTreeMap<Stage, Vec<Statement>>,
    completion: Completion,
}

impl<'a> Renderer<'a> {
    fn new(actual: &'a Catalog, wanted: &'a Catalog) -> Self {
        let taken = actual.objects.iter().filter_map(|(id, object)| {
            let name = match &object.detail {
                Detail::Index(index) => &index.name,
                Detail::Sequence(sequence) => &sequence.name,
                Detail::Constraint(constraint) if is_backed(&constraint.definition) => &constraint.name,
                _ if id.kind.is_relation() => &id.relation,
                _ => return None,
            };
            Some((id.schema.clone(), name.clone()))
        });
        let taken = taken.collect();
        Self { actual, wanted, taken, staged: BTreeMap::new(), completion: Completion::default() }
    }

    fn push(&mut self, stage: Stage, object: &ObjectId, sql: String, offenders: Option<Offenders>) {
        self.staged.entry(stage).or_default().push(Statement { object: object.clone(), sql, offenders });
    }

    fn plain(&mut self, stage: Stage, object: &ObjectId, sql: String) {
        self.push(stage, object, sql, None);
    }

    fn impossible(&mut self, id: &ObjectId, why: &str) {
        let found = why.to_owned();
        self.completion.impossible.push(Different { id: id.clone(), expected: id.to_string(), found });
    }

    fn finish(mut self) -> Completion {
        for stage in [Stage::Domain, Stage::Composite, Stage::Function, Stage::Table, Stage::View] {
            if let Some(statements) = self.staged.get_mut(&stage) {
                sort_by_mention(statements);
            }
        }
        self.completion.statements = self.staged.into_values().flatten().collect();
        self.completion
    }

    fn missing(&mut self, id: &ObjectId, object: &Object) {
        match &object.detail {
            Detail::Extension(extension) => {
                let (name, schema) = (quoted(&id.name), quoted(&extension.schema));
                self.plain(
                    Stage::Extension,
                    id,
                    format!("CREATE EXTENSION IF NOT EXISTS {name} WITH SCHEMA {schema}"),
                );
            }
            Detail::Enum(kind) => {
                let labels: Vec<String> = kind.labels.iter().map(|label| literal(label)).collect();
                self.plain(
                    Stage::Enum,
                    id,
                    format!("CREATE TYPE {} AS ENUM ({})", alone(id), labels.join(", ")),
                );
            }
            Detail::Range(range) => {
                let mut sql = format!("CREATE TYPE {} AS RANGE (SUBTYPE = {}", alone(id), range.subtype);
                range.options.iter().for_each(|option| sql.push_str(&format!(", {option}")));
                sql.push(')');
                self.plain(Stage::Range, id, sql);
            }
            Detail::Domain(domain) => {
                let mut sql = format!("CREATE DOMAIN {} AS {}", alone(id), domain.data_type);
                if let Some(default) = &domain.default {
                    sql.push_str(&format!(" DEFAULT {default}"));
                }
                if domain.not_null {
                    sql.push_str(" NOT NULL");
                }
                for check in &domain.checks {
                    sql.push_str(&format!(" {check}"));
                }
                self.plain(Stage::Domain, id, sql);
            }
            Detail::Composite(composite) => {
                let attributes: Vec<String> = composite
                    .attributes
                    .iter()
                    .map(|(name, kind)| format!("{} {kind}", quoted(name)))
                    .collect();
                let sql = format!("CREATE TYPE {} AS ({})", alone(id), attributes.join(", "));
                self.plain(Stage::Composite, id, sql);
            }
            Detail::Function(function) => self.function(id, function),
            Detail::Table(table) => self.table(id, table),
            Detail::View(view) => self.view(id, view, "VIEW"),
            Detail::MaterializedView(view) => self.view(id, view, "MATERIALIZED VIEW"),
            Detail::Column(column) => self.added_column(id, column),
            Detail::Sequence(sequence) => self.sequence(id, sequence),
            Detail::Constraint(constraint) => self.constraint(id, constraint),
            Detail::Index(index) => {
                // One that is not valid has no parts yet, and shall get none from here.
                let definition = match index.invalid {
                    true => index.definition.clone(),
                    false => index.definition.replacen(" ON ONLY ", " ON ", 1),
                };
                let named = format!(" INDEX {} ON ", server_quoted(&index.name));
                let sql = if self.taken.insert((id.schema.clone(), index.name.clone())) {
                    definition
                } else {
                    definition.replacen(&named, " INDEX ON ", 1)
                };
                let offenders =
                    id.name.starts_with("UNIQUE ").then(|| self.duplicates(id, &index.definition));
                let of_view = ObjectId::relation(Kind::MaterializedView, &*id.schema, &*id.relation);
                let stage =
                    if self.wanted.objects.contains_key(&of_view) { Stage::ViewIndex } else { Stage::Index };
                self.push(stage, id, sql, offenders.flatten());
            }
            Detail::Trigger(trigger) => {
                self.plain(Stage::Trigger, id, trigger.definition.clone());
                let state = match trigger.enabled.as_str() {
                    "D" => "DISABLE",
                    "R" => "ENABLE REPLICA",
                    "A" => "ENABLE ALWAYS",
                    _ => "",
                };
                if !state.is_empty() {
                    let sql = format!("ALTER TABLE {} {state} TRIGGER {}", relation(id), quoted(&id.name));
                    self.plain(Stage::Trigger, id, sql);
                }
            }
            Detail::RowSecurity(_) => {
                self.plain(Stage::Security, id, format!("ALTER TABLE {} {}", relation(id), id.name));
            }
            Detail::Policy(policy) => {
                let mode = if policy.permissive { "PERMISSIVE" } else { "RESTRICTIVE" };
                let roles: Vec<String> = policy
                    .roles
                    .iter()
                    .map(|role| if role == "public" { "PUBLIC".to_owned() } else { quoted(role) })
                    .collect();
                let mut sql = format!(
                    "CREATE POLICY {} ON {} AS {mode} FOR {} TO {}",
                    quoted(&id.name),
                    relation(id),
                    policy.command,
                    roles.join(", ")
                );
                if let Some(using) = &policy.using {
                    sql.push_str(&format!(" USING ({using})"));
                }
                if let Some(check) = &policy.check {
                    sql.push_str(&format!(" WITH CHECK ({check})"));
                }
                self.plain(Stage::Security, id, sql);
            }
        }
        if let Some(comment) = &object.comment
            && let Some(what) = commented(id, object)
        {
            self.plain(Stage::Comment, id, format!("COMMENT ON {what} IS {}", literal(comment)));
        }
    }

    /// Adds to an object that is there what it lacks; false if that is not a matter of adding.
    fn mended(&mut self, id: &ObjectId, found: &Detail, wanted: &Detail) -> bool {
        match (found, wanted) {
            (Detail::Column(found), Detail::Column(column)) => self.mended_column(id, found, column),
            (Detail::Constraint(found), Detail::Constraint(constraint)) if found.not_valid => {
                let sql = format!("ALTER TABLE {} VALIDATE CONSTRAINT {}", relation(id), quoted(&found.name));
                let offenders = self.offenders(id, &constraint.definition);
                self.push(Stage::ForeignKey, id, sql, offenders);
                true
            }
            // That of a partitioned table becomes valid with its parts, not by being built again.
            (Detail::Index(found), Detail::Index(_)) if found.invalid && !self.is_partitioned(id) => {
                let sql = format!("REINDEX INDEX {}.{}", quoted(&id.schema), quoted(&found.name));
                let offenders =
                    id.name.starts_with("UNIQUE ").then(|| self.duplicates(id, &found.definition));
                self.push(Stage::Index, id, sql, offenders.flatten());
                true
            }
            _ => false,
        }
    }

    /// A default or a NOT NULL that is not there yet.
    fn mended_column(&mut self, id: &ObjectId, found: &Column, column: &Column) -> bool {
        let bare = |column: &Column| Column {
            position: 0,
            not_null: false,
            serial: false,
            default: None,
            ..column.clone()
        };
        let same = Detail::Column(bare(found)).same(&Detail::Column(bare(column)), false);
        let default_differs = (found.serial, &found.default) != (column.serial, &column.default);
        let has_default = found.serial || found.default.is_some();
        let needs_default = default_differs && !has_default;
        let same_default = Detail::Column(Column { not_null: false, ..found.clone() })
            .same(&Detail::Column(Column { not_null: false, ..column.clone() }), false);
        if !same
            || column.generated.is_some()
            || found.not_null && !column.not_null
            || !(needs_default || same_default)
        {
            return false;
        }
        let (table, name) = (relation(id), quoted(&id.name));
        if needs_default && let Some(default) = self.default(id, column) {
            self.plain(
                Stage::Default,
                id,
                format!("ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT {default}"),
            );
            self.advance(id);
        }
        if column.not_null && !found.not_null {
            let offenders =
                Offenders { condition: format!("{name} IS NULL"), key: self.key(id), table: table.clone() };
            let sql = format!("ALTER TABLE {table} ALTER COLUMN {name} SET NOT NULL");
            self.push(Stage::Check, id, sql, Some(offenders));
        }
        true
    }

    /// Gives a column without a value its type, its default and its NOT NULL; false if it is not a plain one.
    fn reshaped(&mut self, id: &ObjectId, found: &Detail, wanted: &Detail) -> bool {
        let (Detail::Column(found), Detail::Column(column)) = (found, wanted) else { return false };
        let plain =
            |column: &Column| !column.serial && column.identity.is_none() && column.generated.is_none();
        if !plain(found) || !plain(column) {
            return false;
        }
        let name = quoted(&id.name);
        let collation =
            column.collation.as_ref().map_or(String::new(), |collation| format!(" COLLATE {collation}"));
        let mut actions = vec![
            format!("ALTER COLUMN {name} DROP DEFAULT"),
            format!("ALTER COLUMN {name} TYPE {}{collation} USING NULL", column.data_type),
        ];
        if let Some(default) = &column.default {
            actions.push(format!("ALTER COLUMN {name} SET DEFAULT {default}"));
        }
        let not_null = if column.not_null { "SET" } else { "DROP" };
        actions.push(format!("ALTER COLUMN {name} {not_null} NOT NULL"));
        self.plain(Stage::Column, id, format!("ALTER TABLE {} {}", relation(id), actions.join(", ")));
        true
    }

    fn function(&mut self, id: &ObjectId, function: &Function) {
        if function.definition.is_empty() {
            return self.impossible(id, "an aggregate, which the server cannot print");
        }
        let text = &function.definition;
        let parsed = text.contains("\nBEGIN ATOMIC") || text.contains("\n RETURN ");
        let header = if parsed { text } else { text.split("\nAS ").next().unwrap_or(text) };
        let mentions = |kinds: &[Kind]| {
            self.wanted
                .objects
                .keys()
                .any(|id| kinds.contains(&id.kind) && mentions(header, &server_relation(id)))
        };
        let stage = if mentions(&[Kind::View, Kind::MaterializedView]) {
            Stage::ViewFunction
        } else if mentions(&[Kind::Table]) {
            Stage::TableFunction
        } else {
            Stage::Function
        };
        self.plain(stage, id, text.trim_end().to_owned());
    }

    fn table(&mut self, id: &ObjectId, table: &Table) {
        if table.foreign {
            return self.impossible(id, "a foreign table, whose server is not known");
        }
        let mut columns: Vec<(&ObjectId, &Column)> = self
            .parts(id, Kind::Column)
            .filter_map(|(id, object)| match &object.detail {
                Detail::Column(column) => Some((id, column)),
                _ => None,
            })
            .collect();
        columns.sort_by_key(|(_, column)| column.position);
        let unlogged = if table.unlogged { "UNLOGGED " } else { "" };
        let mut sql = format!("CREATE {unlogged}TABLE {}", relation(id));
        if let Some(bound) = &table.partition_bound {
            let own: Vec<String> =
                columns.iter().filter_map(|(id, column)| self.own_in_partition(table, id, column)).collect();
            let own = if own.is_empty() { String::new() } else { format!(" ({})", own.join(", ")) };
            sql.push_str(&format!(" PARTITION OF {}{own} {bound}", table.parents.join(", ")));
        } else {
            let columns: Vec<String> = columns.iter().map(|(id, column)| self.column(id, column)).collect();
            sql.push_str(&format!(" ({})", columns.join(", ")));
            if !table.parents.is_empty() {
                sql.push_str(&format!(" INHERITS ({})", table.parents.join(", ")));
            }
        }
        if let Some(key) = &table.partition_key {
            sql.push_str(&format!(" PARTITION BY {key}"));
        }
        if let Some(options) = &table.options {
            sql.push_str(&format!(" WITH ({options})"));
        }
        self.plain(Stage::Table, id, sql);
    }

    /// The default and the NOT NULL that a partition does not have from its parent.
    fn own_in_partition(&self, table: &Table, id: &ObjectId, column: &Column) -> Option<String> {
        let parent = self.wanted.objects.iter().find_map(|(other, object)| match &object.detail {
            Detail::Column(parent)
                if other.name == id.name && table.parents.contains(&server_relation(other)) =>
            {
                Some((other, parent))
            }
            _ => None,
        });
        let (parent_id, parent) = parent?;
        let default = self.default(id, column);
        let mut sql = quoted(&id.name);
        let bare = sql.len();
        if column.generated.is_none()
            && column.identity.is_none()
            && default != self.default(parent_id, parent)
        {
            sql.push_str(&format!(" DEFAULT {}", default.as_deref().unwrap_or("NULL")));
        }
        push_not_null(&mut sql, column.not_null && !parent.not_null);
        (sql.len() > bare).then_some(sql)
    }

    /// May a child of this table have NULL where it may not? Only servers from 18 on keep that apart.
    fn is_childless(&self, id: &ObjectId) -> bool {
        let table = server_relation(id);
        let child = |(other, object): (&ObjectId, &Object)| {
            let Detail::Table(child) = &object.detail else { return false };
            let column = ObjectId::part(Kind::Column, &*other.schema, &*other.relation, &*id.name);
            let found = self.wanted.objects.get(&column).map(|object| &object.detail);
            child.parents.contains(&table)
                && matches!(found, Some(Detail::Column(column)) if !column.not_null)
        };
        self.wanted.server >= 180_000 && self.wanted.objects.iter().any(child)
    }

    /// What belongs to a relation of the wanted catalog.
    fn parts(&self, of: &ObjectId, kind: Kind) -> impl Iterator<Item = (&'a ObjectId, &'a Object)> {
        let (schema, relation) = (of.schema.clone(), of.relation.clone());
        let first = ObjectId::part(kind, schema.clone(), relation.clone(), "");
        self.wanted
            .objects
            .range(first..)
            .take_while(move |(id, _)| id.schema == schema && id.relation == relation && id.kind == kind)
    }

    fn is_partitioned(&self, of: &ObjectId) -> bool {
        let id = ObjectId::relation(Kind::Table, &*of.schema, &*of.relation);
        let detail = self.wanted.objects.get(&id).map(|object| &object.detail);
        matches!(detail, Some(Detail::Table(table)) if table.partition_key.is_some())
    }

    fn column(&self, id: &ObjectId, column: &Column) -> String {
        let mut sql = format!("{} {}", quoted(&id.name), column.data_type);
        if let Some(collation) = &column.collation {
            sql.push_str(&format!(" COLLATE {collation}"));
        }
        match (&column.identity, &column.generated) {
            (Some(identity), _) => {
                sql.push_str(&format!(" GENERATED {} AS IDENTITY", identity.to_uppercase()));
                if let Some(sequence) = self.feeding(self.wanted, id) {
                    sql.push_str(&format!(
                        " (SEQUENCE NAME {}.{} {})",
                        quoted(&id.schema),
                        quoted(&sequence.name),
                        counting(sequence)
                    ));
                }
            }
            (None, Some(generated)) => sql.push_str(&format!(
                " GENERATED ALWAYS AS ({}) {}",
                column.default.as_deref().unwrap_or("NULL"),
                generated.to_uppercase()
            )),
            (None, None) => {
                if let Some(default) = self.default(id, column) {
                    sql.push_str(&format!(" DEFAULT {default}"));
                }
            }
        }
        push_not_null(&mut sql, column.not_null);
        if column.not_null && self.is_childless(id) {
            sql.push_str(" NO INHERIT");
        }
        sql
    }

    fn default(&self, id: &ObjectId, column: &Column) -> Option<String> {
        if !column.serial {
            return column.default.clone();
        }
        Some(format!("nextval({}::regclass)", literal(&self.sequence_of(id)?)))
    }

    /// The sequence that feeds a column, as SQL names it: the one that is there, or the one that is wanted.
    fn sequence_of(&self, column: &ObjectId) -> Option<String> {
        let sequence = self.feeding(self.actual, column).or_else(|| self.feeding(self.wanted, column))?;
        Some(format!("{}.{}", quoted(&column.schema), quoted(&sequence.name)))
    }

    fn feeding(&self, catalog: &'a Catalog, column: &ObjectId) -> Option<&'a Sequence> {
        let id = ObjectId { kind: Kind::Sequence, ..column.clone() };
        match &catalog.objects.get(&id)?.detail {
            Detail::Sequence(sequence) => Some(sequence),
            _ => None,
        }
    }

    fn added_column(&mut self, id: &ObjectId, column: &Column) {
        let table = ObjectId::relation(Kind::Table, &*id.schema, &*id.relation);
        if !self.actual.objects.contains_key(&table) {
            return;
        }
        let inherited = match self.wanted.objects.get(&table).map(|object| &object.detail) {
            Some(Detail::Table(table)) => table.parents.iter().any(|parent| {
                self.wanted.objects.keys().any(|other| {
                    other.kind == Kind::Column
                        && other.name == id.name
                        && server_relation(other) == *parent
                        && !self.actual.objects.contains_key(other)
                })
            }),
            _ => false,
        };
        if inherited {
            return;
        }
        let sql = format!("ALTER TABLE {} ADD COLUMN {}", relation(id), self.column(id, column));
        let valued =
            self.default(id, column).is_some() || column.generated.is_some() || column.identity.is_some();
        // Every row would have no value in it.
        let offenders = (column.not_null && !valued).then(|| Offenders {
            table: relation(id),
            key: self.key(id),
            condition: "true".to_owned(),
        });
        self.push(Stage::Column, id, sql, offenders);
    }

    fn sequence(&mut self, id: &ObjectId, sequence: &Sequence) {
        if sequence.feeds == Feeds::Identity {
            return;
        }
        let name = format!("{}.{}", quoted(&id.schema), quoted(&sequence.name));
        let free = ObjectId::alone(Kind::Sequence, &*id.schema, &*sequence.name);
        if !self.actual.objects.contains_key(&free) {
            let sql = format!("CREATE SEQUENCE {name} AS {} {}", sequence.data_type, counting(sequence));
            self.plain(Stage::Sequence, id, sql);
        }
        if sequence.feeds == Feeds::Owned {
            let sql = format!("ALTER SEQUENCE {name} OWNED BY {}.{}", relation(id), quoted(&id.name));
            self.plain(Stage::Owner, id, sql);
        }
        let table = ObjectId::relation(Kind::Table, &*id.schema, &*id.relation);
        if sequence.feeds != Feeds::Free && self.actual.objects.contains_key(&table) {
            self.advance(&ObjectId { kind: Kind::Column, ..id.clone() });
        }
    }

    /// A sequence that comes to feed a column with values in it goes on behind them.
    fn advance(&mut self, column: &ObjectId) {
        let (Some(sequence), true) = (self.sequence_of(column), column.kind == Kind::Column) else { return };
        let already = self
            .staged
            .get(&Stage::Owner)
            .is_some_and(|all| all.iter().any(|s| s.object == *column && s.sql.starts_with("SELECT")));
        if already || !matches!(self.feeding(self.wanted, column), Some(wanted) if wanted.increment > 0) {
            return;
        }
        let sql = format!(
            "SELECT pg_catalog.setval({}, newest.value) FROM (SELECT max({}) AS value FROM {}) AS newest, {sequence} AS counted \
             WHERE newest.value >= counted.last_value",
            literal(&sequence),
            quoted(&column.name),
            relation(column)
        );
        if self.actual.objects.contains_key(column) {
            self.plain(Stage::Owner, column, sql);
        }
    }

    fn constraint(&mut self, id: &ObjectId, constraint: &Constraint) {
        let definition = &constraint.definition;
        let stage = match definition.as_str() {
            text if text.starts_with("FOREIGN KEY") => Stage::ForeignKey,
            text if text.starts_with("CHECK") => Stage::Check,
            _ => Stage::Key,
        };
        let free = !is_backed(definition) || self.taken.insert((id.schema.clone(), constraint.name.clone()));
        let same_table = self.actual.objects.iter().any(|(other, object)| {
            (&other.schema, &other.relation, other.kind) == (&id.schema, &id.relation, id.kind)
                && matches!(&object.detail, Detail::Constraint(found) if found.name == constraint.name)
        });
        let name = match free && !same_table {
            true => format!("CONSTRAINT {} ", quoted(&constraint.name)),
            false => String::new(),
        };
        let offenders = self.offenders(id, definition);
        self.push(stage, id, format!("ALTER TABLE {} ADD {name}{definition}", relation(id)), offenders);
    }

    fn view(&mut self, id: &ObjectId, view: &View, kind: &str) {
        let columns: Vec<String> = view.columns.iter().map(|(name, _)| quoted(name)).collect();
        let options = view.options.as_ref().map_or(String::new(), |options| format!(" WITH ({options})"));
        let columns = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
        let definition = view.definition.trim_end().trim_end_matches(';');
        self.plain(
            Stage::View,
            id,
            format!("CREATE {kind} {}{columns}{options} AS {definition}", relation(id)),
        );
    }

    /// The key of a table by its wanted primary key, as far as its columns are there.
    fn key(&self, of: &ObjectId) -> Vec<String> {
        let primary = self.parts(of, Kind::Constraint).find(|(id, _)| id.name.starts_with("PRIMARY KEY"));
        let columns = primary.as_ref().map(|(id, _)| columns(&id.name)).unwrap_or_default();
        let there = columns.iter().all(|name| {
            let id = ObjectId::part(Kind::Column, &*of.schema, &*of.relation, unquoted(name));
            self.actual.objects.contains_key(&id)
        });
        let is_key = primary.is_some_and(|(id, _)| self.actual.objects.contains_key(id));
        let place = || "ctid".to_owned();
        match (columns.is_empty() || !there, is_key) {
            (true, _) => vec![place()],
            (false, true) => columns,
            // Not a key yet: two rows may have the same.
            (false, false) => columns.into_iter().chain([place()]).collect(),
        }
    }

    /// The rows that a constraint would not take.
    fn offenders(&self, id: &ObjectId, definition: &str) -> Option<Offenders> {
        let (table, key) = (relation(id), self.key(id));
        let condition = if definition.starts_with("PRIMARY KEY") || definition.starts_with("UNIQUE") {
            let columns = columns(definition);
            let list = columns.join(", ");
            let mut condition =
                format!("({list}) IN (SELECT {list} FROM {table} GROUP BY {list} HAVING count(*) > 1)");
            if definition.starts_with("PRIMARY KEY") {
                columns.iter().for_each(|column| condition.push_str(&format!(" OR {column} IS NULL")));
            }
            condition
        } else if let Some(rest) = definition.strip_prefix("FOREIGN KEY ") {
            let (own, target) = rest.split_once(" REFERENCES ")?;
            let (target, theirs) = (target.split('(').next()?, columns(target));
            let own = columns(own);
            let filled: Vec<String> = own.iter().map(|c| format!("offender.{c} IS NOT NULL")).collect();
            let equal: Vec<String> =
                own.iter().zip(&theirs).map(|(a, b)| format!("target.{b} = offender.{a}")).collect();
            format!(
                "{} AND NOT EXISTS (SELECT FROM {target} AS target WHERE {})",
                filled.join(" AND "),
                equal.join(" AND ")
            )
        } else {
            let check = definition.strip_prefix("CHECK ")?;
            format!("NOT {}", check.trim_end_matches(" NOT VALID").trim_end_matches(" NO INHERIT"))
        };
        Some(Offenders { table, key, condition })
    }

    /// The rows that a unique index would not take, where its keys are plain.
    fn duplicates(&self, id: &ObjectId, definition: &str) -> Option<Offenders> {
        let (_, structure) = definition.split_once(" USING ")?;
        let (keys, rest) =
            (columns(structure), structure.split_once(") WHERE ").map(|(_, predicate)| predicate));
        let keys: Vec<&str> = keys
            .iter()
            .map(|key| {
                [" NULLS FIRST", " NULLS LAST", " DESC"]
                    .iter()
                    .fold(key.as_str(), |k, s| k.trim_end_matches(s))
            })
            .collect();
        let (table, list) = (relation(id), keys.join(", "));
        let only = rest.map_or(String::new(), |predicate| format!(" AND {predicate}"));
        let within = rest.map_or(String::new(), |predicate| format!(" WHERE {predicate}"));
        Some(Offenders {
            condition: format!(
                "({list}) IN (SELECT {list} FROM {table}{within} GROUP BY {list} HAVING count(*) > 1){only}"
            ),
            key: self.key(id),
            table,
        })
    }
}

impl Offenders {
    /// The first ten by key and how many there are.
    pub fn first_ten(&self) -> String {
        let named: Vec<String> = self
            .key
            .iter()
            .map(|key| {
                format!(
                    "{} || coalesce(offender.{key}::text, 'null')",
                    literal(&format!("{}=", unquoted(key)))
                )
            })
            .collect();
        let order: Vec<String> = self.key.iter().map(|key| format!("offender.{key}")).collect();
        format!(
            "SELECT {}, count(*) OVER () FROM {} AS offender WHERE {} ORDER BY {} LIMIT 10",
            named.join(" || ' ' || "),
            self.table,
            self.condition,
            order.join(", ")
        )
    }

    /// For people: all of them.
    pub fn all(&self) -> String {
        format!("SELECT * FROM {} AS offender WHERE {};", self.table, self.condition)
    }
}

/// Puts what is mentioned before what mentions it; otherwise the order stays.
fn sort_by_mention(statements: &mut Vec<Statement>) {
    let mut waiting = std::mem::take(statements);
    while !waiting.is_empty() {
        let names: Vec<String> = waiting
            .iter()
            .map(|one| match one.object.relation.is_empty() {
                true => format!(
                    "{}.{}",
                    server_quoted(&one.object.schema),
                    server_quoted(one.object.name.split('(').next().unwrap_or_default())
                ),
                false => server_relation(&one.object),
            })
            .collect();
        let ready = |at: usize| {
            let text = waiting[at].sql.replace('"', "");
            (0..waiting.len()).all(|other| {
                other == at || names[other] == names[at] || !mentions(&text, &names[other].replace('"', ""))
            })
        };
        let (next, rest): (Vec<usize>, Vec<usize>) = (0..waiting.len()).partition(|at| ready(*at));
        // A circle has no order; the server will say so.
        let next = if next.is_empty() { (0..waiting.len()).collect() } else { next };
        let mut slots: Vec<Option<Statement>> = waiting.into_iter().map(Some).collect();
        statements.extend(next.iter().filter_map(|at| slots[*at].take()));
        waiting = rest.iter().filter_map(|at| slots[*at].take()).collect();
    }
}

/// Whether a text holds a name as a whole.
/// Does the name stand in the text as a word of its own?
pub fn mentions(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(part) && !text[at + name.len()..].starts_with(part))
}

/// Constraints that an index stands behind take a name among the relations.
fn is_backed(definition: &str) -> bool {
    ["PRIMARY KEY", "UNIQUE", "EXCLUDE"].iter().any(|kind| definition.starts_with(kind))
}

fn counting(sequence: &Sequence) -> String {
    let cycle = if sequence.cycle { "CYCLE" } else { "NO CYCLE" };
    format!(
        "INCREMENT BY {} MINVALUE {} MAXVALUE {} START WITH {} CACHE {} {cycle}",
        sequence.increment, sequence.min, sequence.max, sequence.start, sequence.cache
    )
}

/// What `COMMENT ON` calls an object. Fed sequences and the parts of views are left without.
fn commented(id: &ObjectId, object: &Object) -> Option<String> {
    let on = |kind: &str, name: &str| Some(format!("{kind} {} ON {}", quoted(name), relation(id)));
    match &object.detail {
        Detail::Extension(_) => None,
        Detail::Enum(_) | Detail::Composite(_) | Detail::Range(_) => Some(format!("TYPE {}", alone(id))),
        Detail::Domain(_) => Some(format!("DOMAIN {}", alone(id))),
        Detail::Function(function) => {
            let (name, arguments) = id.name.split_once('(')?;
            let kind = match function.variety.as_str() {
                "procedure" => "PROCEDURE",
                "aggregate" => "AGGREGATE",
                _ => "FUNCTION",
            };
            Some(format!("{kind} {}.{}({arguments}", quoted(&id.schema), quoted(name)))
        }
        Detail::Table(_) => Some(format!("TABLE {}", relation(id))),
        Detail::View(_) => Some(format!("VIEW {}", relation(id))),
        Detail::MaterializedView(_) => Some(format!("MATERIALIZED VIEW {}", relation(id))),
        Detail::Column(_) => Some(format!("COLUMN {}.{}", relation(id), quoted(&id.name))),
        Detail::Sequence(sequence) => {
            Some(format!("SEQUENCE {}.{}", quoted(&id.schema), quoted(&sequence.name)))
        }
        Detail::Constraint(constraint) => on("CONSTRAINT", &constraint.name),
        Detail::Index(index) => Some(format!("INDEX {}.{}", quoted(&id.schema), quoted(&index.name))),
        Detail::Trigger(_) => on("TRIGGER", &id.name),
        Detail::RowSecurity(_) => None,
        Detail::Policy(_) => on("POLICY", &id.name),
    }
}

/// The first list in parentheses, taken apart: the columns of a key as SQL names them.
pub(crate) fn columns(definition: &str) -> Vec<String> {
    let Some(start) = definition.find('(') else { return Vec::new() };
    let (mut depth, mut from, mut parts, mut within) = (0, start + 1, Vec::new(), false);
    for (at, c) in definition.char_indices().skip_while(|(at, _)| *at < start) {
        match c {
            '"' => within = !within,
            _ if within => {}
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth == 0 {
                    parts.push(definition[from..at].trim().to_owned());
                    break;
                }
            }
            ',' if depth == 1 => {
                parts.push(definition[from..at].trim().to_owned());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts
}

/// A relation as SQL names it, whatever its name is.
pub fn relation(id: &ObjectId) -> String {
    format!("{}.{}", quoted(&id.schema), quoted(&id.relation))
}

/// As the server writes it in definitions.
pub fn server_relation(id: &ObjectId) -> String {
    format!("{}.{}", server_quoted(&id.schema), server_quoted(&id.relation))
}

fn alone(id: &ObjectId) -> String {
    format!("{}.{}", quoted(&id.schema), quoted(&id.name))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn unquoted(name: &str) -> String {
    name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name).replace("\"\"", "\"")
}

/// Quoted only where needed, keywords aside.
pub(super) fn server_quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { quoted(name) }
}

/// A text as a literal; the session has `standard_conforming_strings` on.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
