//! Dangers of versions on databases that have rows and readers: what rewrites a table, holds a lock for long, or loses what
//! nothing keeps, each with the safer way.

use super::file::NO_TRANSACTION;
use super::lint::{Note, clauses};
use super::sql::{Kind, Statement, Token};
use super::{CollectionDeclaration, Number, Timeline, Version};
use crate::catalog::{Catalog, Detail, Expected, Kind as Object, ObjectId};
use crate::collection::{self, Change, Kind as Takes};
use std::collections::HashSet;
use std::ops::Range;

/// Functions that give each row another value, so that a default of theirs is no constant.
const VOLATILE: [&str; 8] = [
    "random",
    "gen_random_uuid",
    "uuid_generate_v1",
    "uuid_generate_v4",
    "uuidv7",
    "clock_timestamp",
    "timeofday",
    "nextval",
];

/// Sees a version's statements in order, because what the version itself creates is in no danger.
#[derive(Default)]
pub(super) struct Dangers {
    created: HashSet<String>,
    added: HashSet<(String, String)>,
    /// Tables with an `[[archive]]`, and whether it keeps all of their rows.
    archived: Vec<(String, bool)>,
    pub(super) enum_values: Vec<String>,
    /// The oldest version whose application may run on this one, if that is an older one.
    runs: Option<Number>,
    before: Option<Before>,
}

/// The recorded catalog of the version below.
struct Before {
    catalog: Catalog,
    /// As in `search_path`.
    schemas: Vec<String>,
}

impl Before {
    /// The table of this name, if the catalog has one.
    fn table(&self, name: &[String]) -> Option<ObjectId> {
        let (relation, rest) = name.split_last()?;
        let is_there = |schema: &String| {
            let id = ObjectId::relation(Object::Table, schema, relation);
            let view = ObjectId::relation(Object::MaterializedView, schema, relation);
            [id, view].into_iter().find(|id| self.catalog.objects.contains_key(id))
        };
        match rest.last() {
            Some(schema) => is_there(schema),
            None => self.schemas.iter().find_map(is_there),
        }
    }

    /// Is it a schema whose objects the catalog has?
    fn covers(&self, name: &[String]) -> bool {
        name.len() < 2 || self.schemas.contains(&name[name.len() - 2])
    }

    fn column(&self, table: &ObjectId, name: &str) -> Option<&crate::catalog::Column> {
        let id = ObjectId::part(Object::Column, &*table.schema, &*table.relation, name);
        match self.catalog.objects.get(&id).map(|object| &object.detail) {
            Some(Detail::Column(column)) => Some(column),
            _ => None,
        }
    }

    /// Is there a constraint that has proven for every row that this column has no NULL?
    fn proves_not_null(&self, table: &ObjectId, column: &str) -> bool {
        let says = |definition: &str| {
            let bare = |c: char| !matches!(c, '(' | ')' | '"');
            let text: String = definition.chars().filter(|c| bare(*c)).collect();
            text == format!("CHECK {column} IS NOT NULL")
        };
        self.catalog.objects.iter().any(|(id, object)| {
            (&id.schema, &id.relation) == (&table.schema, &table.relation)
                && matches!(&object.detail, Detail::Constraint(c) if !c.not_valid && says(&c.definition))
        })
    }
}

/// Tables by the last part of their name: a file that uses two of one name in two schemas is rare.
fn table(name: &[String]) -> &str {
    name.last().map_or("", String::as_str)
}

impl Dangers {
    /// `expected` is what was recorded, if it was.
    pub(super) fn new(timeline: &Timeline, version: &Version, expected: Option<&Expected>) -> Self {
        let archived = version
            .archives
            .iter()
            .map(|archive| {
                let name = archive.table.rsplit('.').next().unwrap_or_default();
                (name.trim_matches('"').to_owned(), archive.condition.is_none())
            })
            .collect();
        let below = timeline.versions.iter().map(|v| v.number).rfind(|number| *number < version.number);
        let before = expected.map(|expected| Before {
            catalog: below.and_then(|below| expected.catalog_at(below)).unwrap_or_default(),
            schemas: timeline.settings.schemas.clone(),
        });
        let runs = Some(version.compatible_from).filter(|oldest| *oldest < version.number);
        Self { archived, runs, before, ..Self::default() }
    }

    /// In one transaction with versions that added these enum values.
    pub(super) fn after(enum_values: Vec<String>) -> Self {
        Self { enum_values, ..Self::default() }
    }

    pub(super) fn of(&mut self, s: &Statement) -> Vec<Note> {
        let mut notes: Vec<Note> = self.enum_value_used(s).into_iter().collect();
        if s.begins(&["create"]) {
            notes.extend(self.create(s));
        } else if s.begins(&["alter", "table"]) {
            notes.extend(self.alter_table(s));
        } else if s.begins(&["drop", "table"]) {
            notes.extend(self.drop_tables(s));
        } else if s.begins(&["alter", "type"]) {
            let value = s.tokens.windows(2).enumerate().find_map(|(i, pair)| {
                let added = pair[0].is_word(s.text, "add") && pair[1].is_word(s.text, "value");
                added.then(|| s.tokens.get(s.skip(i + 2, &["if", "not", "exists"]))).flatten()
            });
            self.enum_values.extend(value.map(|token| token.text(s.text).to_owned()));
        } else {
            notes.extend(self.unarchived(s).or_else(|| self.locks(s)));
        }
        notes
    }

    pub(super) fn enum_value_used(&self, s: &Statement) -> Option<Note> {
        let uses = |token: &Token| {
            token.kind == Kind::String && self.enum_values.iter().any(|value| value == token.text(s.text))
        };
        let at = s.tokens.iter().position(uses)?;
        (!s.begins(&["alter", "type"])).then(|| {
            Note::warning(
                at,
                "an enum value that this version adds: Postgres refuses to use it in the same transaction",
                "use it in a later version",
            )
        })
    }

    /// Made by this version, or by what its file does not show: the version below does not have it.
    fn is_new(&self, name: &[String]) -> bool {
        let unknown = |before: &Before| before.covers(name) && before.table(name).is_none();
        self.created.contains(table(name)) || self.before.as_ref().is_some_and(unknown)
    }

    /// What goes away for applications, and what becomes of the rows.
    fn gone(&self, at: usize, message: String, kept: &str) -> Note {
        let way = match self.runs {
            Some(oldest) => format!(
                "applications back to version {oldest} may run on this one (compatible_from): raise that, or drop it in a later \
                 version, when none of them uses it"
            ),
            None => "stop the applications of older versions before this one runs, or drop it in a later version, when none of \
                     them uses it"
                .to_owned(),
        };
        Note::warning(at, message, format!("{way}; {kept}"))
    }

    fn create(&mut self, s: &Statement) -> Option<Note> {
        let mut at = 1;
        for word in ["global", "local", "temporary", "temp", "unlogged", "foreign", "materialized", "unique"]
        {
            at = s.skip(at, &[word]);
        }
        if s.word(at, "table") || s.word(at, "view") {
            let (name, _) = s.qualified_name(s.skip(at + 1, &["if", "not", "exists"]))?;
            self.created.insert(table(&name).to_owned());
            return None;
        }
        if !s.word(at, "index") || s.word(at + 1, "concurrently") {
            return None;
        }
        let on = (at..s.tokens.len()).find(|&i| s.word(i, "on"))?;
        let (name, _) = s.qualified_name(s.skip(on + 1, &["only"]))?;
        (!self.is_new(&name)).then(|| {
            Note::warning(
                0,
                format!("writers of {} wait until this index is built", name.join(".")),
                format!("in a version of its own: `{NO_TRANSACTION}`, CREATE INDEX CONCURRENTLY"),
            )
        })
    }

    fn alter_table(&mut self, s: &Statement) -> Vec<Note> {
        let at = s.skip(s.skip(2, &["if", "exists"]), &["only"]);
        let Some((name, mut at)) = s.qualified_name(at) else { return Vec::new() };
        at += usize::from(s.tokens.get(at).is_some_and(|token| token.text(s.text) == "*"));
        if self.is_new(&name) {
            return Vec::new();
        }
        clauses(s, at).into_iter().filter_map(|action| self.alter_action(s, &name, action)).collect()
    }

    fn alter_action(&mut self, s: &Statement, name: &[String], action: Range<usize>) -> Option<Note> {
        let table = table(name);
        let at = action.start;
        let has =
            |words: &[&str]| (at..action.end).any(|i| i + words.len() <= action.end && s.skip(i, words) > i);
        if s.word(at, "add") {
            let what = |word: &str| s.word(at + 1, word);
            if ["constraint", "check", "foreign", "primary", "unique", "exclude"]
                .iter()
                .any(|word| what(word))
            {
                return add_constraint(table, at, &has);
            }
            return self.add_column(s, table, at, &has);
        }
        if s.word(at, "alter") {
            return self.alter_column(s, name, action);
        }
        if s.word(at, "drop") && !s.word(at + 1, "constraint") {
            let column = s.skip(s.skip(at + 1, &["column"]), &["if", "exists"]);
            let column = s.tokens.get(column)?.name(s.text)?;
            let known = |before: &Before| {
                before.table(name).is_some_and(|table| before.column(&table, &column).is_some())
            };
            let kept = match &self.before {
                Some(before) if !known(before) => {
                    format!(
                        "no recorded catalog has it, so nothing keeps its values: [[archive]] table = \"{table}\""
                    )
                }
                _ => "the archive keeps the rows that have a value in it".into(),
            };
            let message = format!("drops {table}.{column}: applications that still use it fail");
            return Some(self.gone(at, message, &kept));
        }
        if s.word(at, "attach") && s.word(at + 1, "partition") {
            return Some(Note::warning(
                at,
                format!("checks all rows of the new partition of {table} while it is locked"),
                "add a CHECK that says the same to the partition before, NOT VALID, and VALIDATE CONSTRAINT in a version between",
            ));
        }
        if s.word(at, "set") {
            let rewrites = [&["logged"][..], &["unlogged"], &["tablespace"], &["access", "method"]];
            return rewrites.iter().any(|words| s.skip(at + 1, words) > at + 1).then(|| {
                Note::warning(
                    at,
                    format!("rewrites {table} under an exclusive lock"),
                    "make a new table so, copy the rows in steps, and switch the names; or do it while nothing runs",
                )
            });
        }
        (s.word(at, "rename") && !s.word(at + 1, "constraint")).then(|| {
            let message = format!("renames in {table}: applications that use the old name fail");
            self.gone(at, message, "a view of the old name serves them meanwhile")
        })
    }

    fn add_column(
        &mut self,
        s: &Statement,
        table: &str,
        at: usize,
        has: &impl Fn(&[&str]) -> bool,
    ) -> Option<Note> {
        let column = s.skip(s.skip(at + 1, &["column"]), &["if", "not", "exists"]);
        let name = s.tokens.get(column)?.name(s.text)?;
        self.added.insert((table.to_owned(), name.clone()));
        let any = |words: &[&str]| words.iter().any(|word| has(&[word]));
        let serial = any(&["serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"]);
        let computed = has(&["generated", "always", "as"]) && !has(&["as", "identity"]) && !has(&["virtual"]);
        if computed {
            return Some(Note::warning(
                at,
                format!("computes {table}.{name} for all rows: rewrites the table under an exclusive lock"),
                "add an ordinary column, fill it in steps, and keep it up with a trigger",
            ));
        }
        if serial || has(&["as", "identity"]) || any(&VOLATILE) {
            return Some(Note::warning(
                at,
                format!(
                    "the value of {table}.{name} differs by row: rewrites the table under an exclusive lock"
                ),
                "add the column without it, set the default, and fill the rows in steps",
            ));
        }
        let filled = any(&["default", "generated"]);
        if !filled && (has(&["not", "null"]) || has(&["primary", "key"])) {
            return Some(Note::warning(
                at,
                format!("{table}.{name} is NOT NULL without a default: fails if the table has rows"),
                "give it a DEFAULT, or add it nullable, fill it, and set NOT NULL afterwards",
            ));
        }
        None
    }

    fn alter_column(&self, s: &Statement, name: &[String], action: Range<usize>) -> Option<Note> {
        let (at, table) = (action.start, table(name));
        let (column, next) = s.qualified_name(s.skip(at + 1, &["column"]))?;
        let column = column.join(".");
        let of = self.before.as_ref().and_then(|before| Some((before, before.table(name)?)));
        let known = of.as_ref().and_then(|(before, id)| before.column(id, &column));
        let typed = s.skip(next, &["set", "data", "type"]).max(s.skip(next, &["type"]));
        if typed > next {
            let ends = |i: &usize| s.word(*i, "using") || s.word(*i, "collate");
            let end = (typed..action.end).find(ends).unwrap_or(action.end);
            let plain = end == action.end;
            let new =
                s.tokens[typed..end].iter().map(|token| token.text(s.text)).collect::<Vec<_>>().join(" ");
            let rewrites = match known {
                Some(old) if plain && keeps_form(&old.data_type, &new) => return None,
                Some(old) => format!("turns {table}.{column} from {} into {new}: rewrites", old.data_type),
                None => format!("a new type of {table}.{column} can rewrite"),
            };
            return Some(Note::warning(
                at,
                format!("{rewrites} the table and its indexes under an exclusive lock"),
                "add a new column, fill it in steps, and switch to it in a later version; the archive keeps the values as they were",
            ));
        }
        let proven = known.is_some_and(|column| column.not_null)
            || of.as_ref().is_some_and(|(before, id)| before.proves_not_null(id, &column));
        (s.skip(next, &["set", "not", "null"]) > next && !proven).then(|| {
            Note::warning(
                at,
                format!("reads all of {table} under an exclusive lock to see that {column} has no NULL"),
                "ADD CONSTRAINT … CHECK (… IS NOT NULL) NOT VALID, and in a later version VALIDATE CONSTRAINT and SET NOT NULL",
            )
        })
    }

    fn drop_tables(&self, s: &Statement) -> Vec<Note> {
        let names = clauses(s, s.skip(2, &["if", "exists"]));
        let note = |at: usize| {
            let (name, _) = s.qualified_name(at)?;
            if self.created.contains(table(&name)) {
                return None;
            }
            let unknown = self.before.as_ref().is_some_and(|before| before.table(&name).is_none());
            let kept = match unknown && !self.is_archived(table(&name)) {
                true => format!(
                    "no recorded catalog has it, so nothing keeps its rows: [[archive]] table = \"{}\"",
                    name.join(".")
                ),
                false => "the archive keeps the rows".into(),
            };
            let message = format!("drops {}: applications that still use it fail", name.join("."));
            // Of several, each has its own place; of one, the statement's.
            Some(self.gone(if names.len() > 1 { at } else { 0 }, message, &kept))
        };
        names.iter().filter_map(|name| note(name.start)).collect()
    }

    fn is_archived(&self, name: &str) -> bool {
        self.archived.iter().any(|(table, _)| table == name)
    }

    /// Changed or deleted rows that no `[[archive]]` keeps. Filling a column of this file loses nothing.
    fn unarchived(&self, s: &Statement) -> Option<Note> {
        if s.begins(&["truncate"]) {
            return self.truncated(s);
        }
        let at = match () {
            () if s.begins(&["update"]) => 1,
            () if s.begins(&["delete", "from"]) => 2,
            () => return None,
        };
        let (name, next) = s.qualified_name(s.skip(at, &["only"]))?;
        let name = table(&name);
        let set = (next..s.tokens.len()).find(|&i| s.word(i, "set")).filter(|_| at == 1);
        let fills = set.is_some_and(|set| self.fills_added_columns(s, name, set + 1));
        (!fills && !self.created.contains(name) && !self.is_archived(name)).then(|| {
            Note::warning(
                0,
                format!("changes rows of {name} that nothing keeps: rolled back where there are any"),
                format!("declare them in the version's TOML: [[archive]] table = \"{name}\""),
            )
        })
    }

    /// What TRUNCATE takes away would be rolled back at run time, from tables that hold rows.
    fn truncated(&self, s: &Statement) -> Option<Note> {
        let cascade = s.tokens.iter().position(|token| token.is_word(s.text, "cascade"));
        if let Some(at) = cascade {
            return Some(Note::error(
                at,
                "TRUNCATE … CASCADE empties tables that nobody named, and nothing keeps their rows",
                "name them all, and declare each: [[archive]] table = \"…\"",
            ));
        }
        let names = clauses(s, s.skip(1, &["table"]));
        names.iter().find_map(|clause| {
            let (name, _) = s.qualified_name(s.skip(clause.start, &["only"]))?;
            let name = table(&name);
            let whole = self.archived.iter().any(|(table, all)| table == name && *all);
            (!whole && !self.created.contains(name)).then(|| {
                Note::error(
                    if names.len() > 1 { clause.start } else { 0 },
                    format!("empties {name}, and nothing keeps its rows"),
                    format!(
                        "declare them in the version's TOML, all of them: [[archive]] table = \"{name}\""
                    ),
                )
            })
        })
    }

    fn fills_added_columns(&self, s: &Statement, table: &str, start: usize) -> bool {
        let ends = |i: usize| ["from", "where", "returning"].iter().any(|word| s.word(i, word));
        let mut assignments = clauses(s, start);
        // Commas behind the SET clause belong to FROM or RETURNING.
        let last = assignments.iter().position(|clause| clause.clone().any(ends));
        assignments.truncate(last.map_or(assignments.len(), |last| last + 1));
        assignments.iter().all(|clause| {
            let column = s.tokens[clause.start].name(s.text);
            column.is_some_and(|column| self.added.contains(&(table.to_owned(), column)))
        })
    }

    /// What holds a lock for as long as it works, and is no ALTER TABLE.
    fn locks(&self, s: &Statement) -> Option<Note> {
        let concurrently = s.tokens.iter().any(|token| token.is_word(s.text, "concurrently"));
        let (message, remedy) = if s.begins(&["vacuum"]) {
            let full = s.tokens.iter().any(|token| token.is_word(s.text, "full"));
            if !full {
                return None;
            }
            (
                "VACUUM FULL rewrites tables under an exclusive lock".to_owned(),
                "VACUUM, which leaves readers and writers alone; or do it by hand while nothing runs",
            )
        } else if s.begins(&["cluster"]) {
            let named = s.qualified_name(s.skip(1, &["verbose"]));
            if named.is_some_and(|(name, _)| self.is_new(&name)) {
                return None;
            }
            (
                "CLUSTER rewrites the table under an exclusive lock".to_owned(),
                "do it by hand while nothing runs, outside of the timeline",
            )
        } else if s.begins(&["reindex"]) && !concurrently {
            (
                "REINDEX keeps writers out until the index is built".to_owned(),
                "in a version of its own, without a transaction: REINDEX INDEX CONCURRENTLY",
            )
        } else if s.begins(&["refresh", "materialized", "view"]) && !concurrently {
            let (name, _) = s.qualified_name(3)?;
            if self.is_new(&name) {
                return None;
            }
            (
                format!("readers of {} wait until it is refreshed", name.join(".")),
                "REFRESH MATERIALIZED VIEW CONCURRENTLY, which needs a unique index",
            )
        } else if s.begins(&["lock"]) {
            (
                "a lock that lasts until the version is committed".to_owned(),
                "leave it out: tandem's versions never run beside each other; or keep the version short",
            )
        } else {
            return None;
        };
        Some(Note::warning(0, message, remedy))
    }
}

fn add_constraint(table: &str, at: usize, has: &impl Fn(&[&str]) -> bool) -> Option<Note> {
    if has(&["using", "index"]) || has(&["not", "valid"]) {
        return None;
    }
    Some(if has(&["exclude"]) {
        Note::warning(
            at,
            format!("builds the index of this constraint while {table} is locked, which has no other way"),
            "do it while nothing runs, or on a new table that the rows are copied to in steps",
        )
    } else if has(&["unique"]) || has(&["primary", "key"]) {
        Note::warning(
            at,
            format!("builds the index of this constraint while {table} is locked"),
            "build the index concurrently in a version before, and ADD CONSTRAINT … USING INDEX",
        )
    } else {
        let both = if has(&["references"]) { " and the table that it refers to are" } else { " is" };
        Note::warning(
            at,
            format!("checks all rows of {table} while it{both} locked"),
            "add it NOT VALID, and VALIDATE CONSTRAINT in a later version",
        )
    })
}

/// A danger in a declaration.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Declared {
    /// Where in the TOML, as far as it has that.
    pub keys: Vec<String>,
    pub message: String,
    pub remedy: String,
}

/// What a version asks of collections that are as the version below declares them: copies of all points, what is refused,
/// indexes that are gone for a while, and what nobody manages any more.
pub(super) fn collections(timeline: &Timeline, version: &Version) -> Vec<Declared> {
    let Some(now) = &version.collections else { return Vec::new() };
    let then = timeline.collections_at(version.number - 1);
    let find =
        |all: &[CollectionDeclaration], matching: &str| all.iter().position(|d| d.matching == matching);
    let mut found = Vec::new();
    for (i, now) in now.iter().enumerate() {
        let Some(then) = find(then, &now.matching).map(|i| &then[i]) else { continue };
        for change in collection::between(then, now) {
            if let Some((message, remedy)) = change_danger(&change, now) {
                let mut keys = vec!["collection".to_owned(), i.to_string()];
                // The unnamed vector's fields stand in `vectors` itself.
                keys.extend(change.path.iter().filter(|name| !name.is_empty()).cloned());
                let message = format!("collections {}: {message}", now.matching);
                found.push(Declared { keys, message, remedy });
            }
        }
    }
    for gone in then.iter().filter(|then| find(now, &then.matching).is_none()) {
        found.push(Declared {
            keys: vec!["collection".to_owned()],
            message: format!(
                "collections {} are no longer declared: nothing manages them any more",
                gone.matching
            ),
            remedy:
                "repeat the declaration, which states all collections from this version on; or let them be"
                    .into(),
        });
    }
    found
}

fn change_danger(change: &Change, now: &CollectionDeclaration) -> Option<(String, String)> {
    let what = || format!("{}: {}", change.path.join("."), change.difference);
    match &change.kind {
        Takes::Impossible { reason, remedy } => Some((
            format!("{}; refused while there are points: {reason}", what()),
            format!("{remedy}; or declare a vector of another name beside it, and let the application fill that one"),
        )),
        Takes::Rebuild(reason) => Some((
            format!("{}; copies every collection that has points: {reason}", what()),
            "deploy with strategy Recreate, and have room for a second copy (tandem rebuild COLLECTION --dry-run); or leave it \
             as it is, and let a version that needs a rebuild anyway take it along"
                .into(),
        )),
        Takes::InPlace => match change.path.as_slice() {
            [section, key] if section == "payload_indexes" && !now.schema.payload_indexes.contains_key(key) => Some((
                format!("{}: the index is removed, and filters by it go through all points", what()),
                "keep it (undeclared.payload_indexes = \"keep\") until no application filters by it".into(),
            )),
            [section, _] if section == "payload_indexes" && !change.difference.starts_with("missing") => Some((
                format!(
                    "{}: the index is removed and built anew, and what the application wrote may not fit it; until then \
                     filters by it go through all points, and strict mode refuses them",
                    what()
                ),
                "write the value under another key as well, [[fill]], with an index of its own, and let the application move to it".into(),
            )),
            _ => None,
        },
        Takes::NeedsServer { .. } => None,
    }
}

/// Does Postgres leave rows of the one type as they are for the other? Longer limits of the same type, and text for what
/// has the same bytes.
fn keeps_form(old: &str, new: &str) -> bool {
    let (Some((old, old_limits)), Some((new, new_limits))) = (type_of(old), type_of(new)) else {
        return false;
    };
    let grows = || match (old_limits.as_slice(), new_limits.as_slice()) {
        (_, []) => true,
        ([old], [new]) => new >= old,
        ([old, scale], [new, same]) => new >= old && scale == same,
        _ => false,
    };
    match (old.as_str(), new.as_str()) {
        ("varchar", "text") | ("cidr", "inet") => true,
        ("text", "varchar") => new_limits.is_empty(),
        (
            "varchar" | "varbit" | "numeric" | "timestamp" | "timestamptz" | "time" | "timetz" | "interval",
            _,
        ) => old == new && grows(),
        _ => old == new && old_limits == new_limits,
    }
}

/// A type under one name, with its limits; `None` for an array or what is no plain name.
fn type_of(text: &str) -> Option<(String, Vec<u32>)> {
    let text = text.to_lowercase().replace('"', "");
    let (name, limits, rest) = match text.split_once('(') {
        None => (text.as_str(), Vec::new(), ""),
        Some((name, rest)) => {
            let (limits, rest) = rest.split_once(')')?;
            let limits: Option<Vec<u32>> = limits.split(',').map(|limit| limit.trim().parse().ok()).collect();
            (name, limits?, rest)
        }
    };
    let name = format!("{name} {rest}");
    let words: Vec<&str> = name.split_whitespace().collect();
    let name = words.join(" ");
    let name = match name.strip_prefix("pg_catalog . ").unwrap_or(&name) {
        "character varying" => "varchar",
        "character" | "char" | "bpchar" => "bpchar",
        "bit varying" => "varbit",
        "int" | "int4" => "integer",
        "int8" => "bigint",
        "int2" => "smallint",
        "decimal" => "numeric",
        "bool" => "boolean",
        "float8" | "float" => "double precision",
        "float4" => "real",
        "timestamp without time zone" => "timestamp",
        "timestamp with time zone" => "timestamptz",
        "time without time zone" => "time",
        "time with time zone" => "timetz",
        other => other,
    };
    (!name.contains('[')).then(|| (name.to_owned(), limits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Column, Constraint, Object as Described, Table};
    use crate::timeline::file::parse;
    use crate::timeline::lint::{Finding, Severity, examine};
    use std::path::Path;

    /// What is found in version 2 with these files, after a version 1 that makes a table.
    fn findings(sql: &str, toml: &str, expected: Option<&Expected>) -> Vec<Finding> {
        let files = [
            ("tandem.toml", "application = 'a'"),
            ("1_a.sql", "create table old (a int);"),
            ("2_b.sql", sql),
            ("2_b.toml", toml),
        ];
        let files = files.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect();
        let timeline = parse(Path::new("m"), files, &|_| None).unwrap();
        examine(&timeline, expected, |number| number == 2)
    }

    fn places(findings: &[Finding], severity: Severity) -> Vec<(usize, usize)> {
        findings.iter().filter(|f| f.severity == severity).map(|f| (f.line, f.column)).collect()
    }

    #[test]
    fn dangers_of_ddl_are_warnings() {
        let table: &[(&str, &[(usize, usize)])] = &[
            ("create index i on old (a)", &[(1, 1)]),
            ("create unique index if not exists i on only public.old (a)", &[(1, 1)]),
            ("create table n (a int); create index i on n (a)", &[]),
            ("create materialized view n as select 1; create index i on n (a)", &[]),
            ("alter table old alter column a type bigint", &[(1, 17)]),
            ("alter table old alter a set data type bigint using a::bigint, add b int", &[(1, 17)]),
            (
                "alter table if exists only old add b int not null, add column c int not null default 0",
                &[(1, 32)],
            ),
            ("alter table old add column b numeric(1, 2) not null", &[(1, 17)]),
            ("alter table old add b uuid default gen_random_uuid()", &[(1, 17)]),
            ("alter table old add b bigserial not null", &[(1, 17)]),
            ("alter table old add b int generated by default as identity", &[(1, 17)]),
            ("alter table old add b int generated always as (a + 1) stored", &[(1, 17)]),
            ("alter table old add b int generated always as (a + 1) virtual", &[]),
            ("alter table old add b timestamptz not null default now()", &[]),
            ("alter table old alter a set not null", &[(1, 17)]),
            ("alter table old alter a set default 1, alter a drop not null", &[]),
            ("alter table old add constraint c check (a > 0)", &[(1, 17)]),
            ("alter table old add constraint c check (a > 0) not valid", &[]),
            ("alter table old validate constraint c", &[]),
            ("alter table old add foreign key (a) references o (a)", &[(1, 17)]),
            ("alter table old add constraint c unique (a)", &[(1, 17)]),
            ("alter table old add exclude using gist (a with =)", &[(1, 17)]),
            ("alter table old add constraint c unique using index i", &[]),
            ("alter table old drop column a, drop constraint c", &[(1, 17)]),
            ("alter table old rename to o", &[(1, 17)]),
            ("alter table old set unlogged", &[(1, 17)]),
            ("alter table old set (fillfactor = 70)", &[]),
            ("alter table old attach partition p for values in (1)", &[(1, 17)]),
            ("drop table old", &[(1, 1)]),
            ("drop table if exists old, other cascade", &[(1, 22), (1, 27)]),
            ("create table n (a int); alter table n add b int not null; drop table n", &[]),
            ("create table n (a int); update old set a = 1", &[(1, 25)]),
            ("create table n (a int); delete from only public.old", &[(1, 25)]),
            ("create table n (a int); update kept set a = 1; delete from kept", &[]),
            ("alter table old add b int; update old set b = a + 1 where a in (1, 2)", &[]),
            ("alter table old add b int; update old set b = n.a from n, m where n.a = m.a", &[]),
            ("alter table old add b int; update old set b = 1, a = 2", &[(1, 28)]),
            ("alter type e add value if not exists 'v'; alter table n alter c set default 'v'", &[(1, 77)]),
            ("-- tandem:no-transaction\nvacuum (full, analyze) old; vacuum old", &[(2, 1)]),
            ("create table n (a int); cluster old using i", &[(1, 25)]),
            ("create table n (a int); reindex table old", &[(1, 25)]),
            ("create table n (a int); refresh materialized view m", &[(1, 25)]),
            ("create materialized view m as select 1; refresh materialized view m", &[]),
            ("create table n (a int); lock table old in share mode", &[(1, 25)]),
            ("create table n (a int); truncate kept; truncate table n", &[]),
        ];
        for (sql, expected) in table {
            let findings = findings(sql, "[[archive]]\ntable = 'public.kept'", None);
            assert_eq!(places(&findings, Severity::Warning), *expected, "{sql}: {findings:#?}");
            assert_eq!(places(&findings, Severity::Error), [], "{sql}: {findings:#?}");
        }
    }

    #[test]
    fn what_truncate_takes_must_be_kept_whole() {
        let table: &[(&str, (usize, usize))] = &[
            ("create table n (a int); truncate table old", (1, 25)),
            ("create table n (a int); truncate kept, only old restart identity", (1, 40)),
            ("create table n (a int); truncate some", (1, 25)),
            ("create table n (a int); truncate kept cascade", (1, 39)),
        ];
        for (sql, place) in table {
            let toml = "[[archive]]\ntable = 'kept'\n[[archive]]\ntable = 'some'\nwhere = 'a > 1'";
            let findings = findings(sql, toml, None);
            assert_eq!(places(&findings, Severity::Error), [*place], "{sql}: {findings:#?}");
        }
    }

    /// A catalog after version 1 with a table `old`: `a varchar(10)`, `b integer not null`, `c` and `d` text, of which a
    /// validated and an unvalidated constraint say that they have no NULL.
    fn recorded() -> Expected {
        let table = ObjectId::relation(Object::Table, "public", "old");
        let column = |name: &str, data_type: &str, not_null: bool| {
            let detail =
                Detail::Column(Column { data_type: data_type.into(), not_null, ..Column::default() });
            (ObjectId::part(Object::Column, "public", "old", name), Described::new(detail))
        };
        let check = |name: &str, not_valid: bool| {
            let definition = format!("CHECK (({name} IS NOT NULL))");
            let detail = Detail::Constraint(Constraint {
                name: name.into(),
                definition: definition.clone(),
                not_valid,
            });
            (ObjectId::part(Object::Constraint, "public", "old", definition), Described::new(detail))
        };
        let objects = [
            (table, Described::new(Detail::Table(Table::default()))),
            column("a", "character varying(10)", false),
            column("b", "integer", true),
            column("c", "text", false),
            column("d", "text", false),
            check("c", false),
            check("d", true),
        ];
        let one = Catalog { server: 160_000, objects: objects.into_iter().collect() };
        let versions = [(1, one.clone()), (2, one)];
        let versions =
            versions.into_iter().map(|(number, catalog)| (number, "a".to_owned(), String::new(), catalog));
        Expected::from_catalogs("a", versions)
    }

    #[test]
    fn what_the_recorded_catalog_tells_is_no_danger() {
        let table: &[(&str, &[(usize, usize)])] = &[
            ("alter table old alter a type varchar(20), alter c type varchar", &[]),
            ("alter table old alter a type character varying (9)", &[(1, 17)]),
            ("alter table old alter a type text collate \"C\"", &[(1, 17)]),
            ("alter table public.old alter a type text", &[]),
            ("alter table old alter b type int4, alter b type bigint", &[(1, 36)]),
            ("alter table old alter b set not null, alter c set not null, alter d set not null", &[(1, 61)]),
            ("create index i on made_by_a_function (a)", &[]),
            ("create index i on other.table_of_somebody (a)", &[(1, 1)]),
        ];
        let expected = recorded();
        for (sql, places_) in table {
            let findings = findings(sql, "", Some(&expected));
            assert_eq!(places(&findings, Severity::Warning), *places_, "{sql}: {findings:#?}");
        }
    }

    #[test]
    fn what_the_archive_keeps_of_a_drop_is_told() {
        let expected = recorded();
        for (sql, toml, said) in [
            ("drop table old", "", "the archive keeps the rows"),
            (
                "drop table other.stranger",
                "",
                "nothing keeps its rows: [[archive]] table = \"other.stranger\"",
            ),
            (
                "drop table other.stranger",
                "[[archive]]\ntable = 'other.stranger'",
                "the archive keeps the rows",
            ),
            ("alter table old drop a", "", "the archive keeps the rows that have a value in it"),
            ("alter table old drop mine", "", "nothing keeps its values"),
            ("drop table old", "compatible_from = 1", "applications back to version 1 may run on this one"),
            ("drop table old", "", "stop the applications of older versions"),
        ] {
            let findings = findings(sql, toml, Some(&expected));
            let remedies: Vec<&str> = findings.iter().map(|finding| finding.remedy.as_str()).collect();
            assert!(
                matches!(remedies[..], [one] if one.contains(said)),
                "{sql}: {said:?} is not {remedies:?}"
            );
        }
    }

    #[test]
    fn dangers_of_vector_schemas_are_warnings_with_their_place() {
        let declared = |rest: &str| format!("[[collection]]\nmatch = 'm'\n{rest}");
        let content = "vectors.content = { size = 4, distance = 'Cosine' }\n";
        let table = [
            (content, content.to_owned(), vec![]),
            (content, format!("{content}hnsw_config.m = 24\npayload_indexes.k = 'keyword'"), vec![]),
            (content, "".into(), vec![]),
            (content, content.replace("4", "8"), vec![(3, 28, "refused while there are points")]),
            (content, content.replace("Cosine", "Dot"), vec![(3, 42, "refused while there are points")]),
            (
                content,
                content.replace("'Cosine'", "'Cosine', datatype = 'float16'"),
                vec![(3, 63, "copies every collection that has points")],
            ),
            (content, format!("{content}vectors.more.size = 4"), vec![(4, 9, "copies every collection")]),
            (content, "undeclared.vectors = 'drop'".into(), vec![(1, 1, "the copy leaves the vector out")]),
            (
                "payload_indexes.k = 'keyword'",
                "payload_indexes.k = 'integer'".into(),
                vec![(3, 21, "built anew")],
            ),
            (
                "payload_indexes.k = 'keyword'",
                "undeclared.payload_indexes = 'drop'".into(),
                vec![(1, 1, "is removed, and filters")],
            ),
            (
                "vectors = { size = 4, distance = 'Cosine' }",
                "vectors = { size = 8, distance = 'Cosine' }".into(),
                vec![(3, 20, "refused")],
            ),
        ];
        for (then, now, expected) in table {
            let files = [
                ("tandem.toml", "application = 'a'".to_owned()),
                ("1_a.toml", declared(then)),
                ("2_b.toml", declared(&now)),
            ];
            let files = files.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
            let timeline = parse(Path::new("m"), files, &|_| None).unwrap();
            let found = examine(&timeline, None, |number| number == 2);
            let places: Vec<_> = found.iter().map(|f| (f.line, f.column)).collect();
            let wanted: Vec<_> = expected.iter().map(|(line, column, _)| (*line, *column)).collect();
            assert_eq!(places, wanted, "{then} → {now}: {found:#?}");
            for (finding, (.., said)) in found.iter().zip(&expected) {
                assert!(finding.message.contains(said) && finding.severity == Severity::Warning, "{finding}");
                assert!(!finding.remedy.is_empty());
            }
        }
        let files = [
            ("tandem.toml", "application = 'a'".to_owned()),
            ("1_a.toml", declared(content)),
            ("2_b.toml", "[[collection]]\nmatch = 'other'".to_owned()),
        ];
        let files = files.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
        let found = examine(&parse(Path::new("m"), files, &|_| None).unwrap(), None, |_| true);
        assert!(matches!(&found[..], [one] if one.message.contains("no longer declared")), "{found:#?}");
    }

    #[test]
    fn types_that_rows_need_not_be_rewritten_for() {
        for (old, new, keeps) in [
            ("character varying(10)", "varchar(10)", true),
            ("character varying(10)", "varchar ( 11 )", true),
            ("character varying(10)", "varchar(9)", false),
            ("character varying(10)", "text", true),
            ("text", "varchar", true),
            ("text", "varchar(5)", false),
            ("text", "jsonb", false),
            ("integer", "int", true),
            ("integer", "bigint", false),
            ("numeric(10,2)", "numeric(12, 2)", true),
            ("numeric(10,2)", "decimal(12, 3)", false),
            ("numeric(10,2)", "numeric", true),
            ("timestamp(3) without time zone", "timestamp", true),
            ("timestamp without time zone", "timestamptz", false),
            ("character(4)", "char(8)", false),
            ("cidr", "inet", true),
            ("text[]", "text [ ]", false),
            ("bit varying(4)", "varbit(8)", true),
        ] {
            assert_eq!(keeps_form(old, new), keeps, "{old} → {new}");
        }
    }
}
