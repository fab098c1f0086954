//! What is wrong with versions before anything runs: errors that no run may meet, and dangers that a person should know.

use super::file::NO_TRANSACTION;
use super::sql::{self, Kind, Statement, Token};
use super::{Number, SqlFile, Timeline, TomlFile, Version};
use crate::collection;
use std::collections::HashSet;

/// One thing to change, or to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    pub path: String,
    /// Line and column from 1, in characters.
    pub line: usize,
    pub column: usize,
    pub message: String,
    pub remedy: String,
}

/// How bad a finding is, the worse first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A run refuses before its first effect.
    Error,
    /// It works, and can cost time, a lock or data.
    Warning,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let Self { path, line, column, message, remedy, .. } = self;
        write!(f, "{path}:{line}:{column}: {severity}: {message}\n  remedy:   {remedy}")
    }
}

/// The findings in the pending versions' files, in the order of versions and places.
pub fn lint(timeline: &Timeline, pending: impl Fn(Number) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for version in timeline.versions.iter().filter(|version| pending(version.number)) {
        findings.extend(declarations(timeline, version));
        if let Some(up) = &version.up {
            let mut dangers = Dangers::new(version);
            findings.extend(sql_file(up, Some(Severity::Error), |statement| dangers.of(statement)));
        }
        if let Some(down) = &version.down {
            // Without an up of its own, a version may have nothing to take back but by declaration.
            let if_empty = version.up.is_some().then_some(Severity::Warning);
            findings.extend(sql_file(down, if_empty, |_| Vec::new()));
        }
    }
    findings
}

/// A finding whose place is a token of the statement at hand.
struct Note {
    severity: Severity,
    token: usize,
    message: String,
    remedy: String,
}

impl Note {
    fn error(token: usize, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Error, token, message: message.into(), remedy: remedy.into() }
    }

    fn warning(token: usize, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, token, message: message.into(), remedy: remedy.into() }
    }
}

fn declarations(timeline: &Timeline, version: &Version) -> Vec<Finding> {
    let mut findings = Vec::new();
    let toml = version.toml.as_ref();
    let mut error = |keys: &[&str], message: String, remedy: String| {
        let file = version.up.as_ref().or(version.down.as_ref()).map(|file| &file.path);
        let path = toml.map(|toml| &toml.path).or(file).cloned().unwrap_or_default();
        let (line, column) = toml.map_or((1, 1), |toml| toml.position(keys));
        findings.push(Finding { severity: Severity::Error, path, line, column, message, remedy });
    };

    if version.changes_nothing() {
        error(
            &[],
            format!("version {} changes nothing", version.number),
            "add SQL, [data], [[collection]] or [[fill]], or remove the version".into(),
        );
    }
    let oldest = version.compatible_from;
    if oldest > version.number || timeline.version(oldest).is_none() {
        error(
            &["compatible_from"],
            format!("compatible_from = {oldest} is not a version up to {}", version.number),
            "name the oldest version whose application can run on this one".into(),
        );
    }
    if version.proof.is_none() && data_only(version) {
        error(
            &["data"],
            format!(
                "version {} changes only data, so the catalog cannot show that it was applied",
                version.number
            ),
            "add [proof] with a query that tells: sql = \"select …\"".into(),
        );
    }
    if let Some(proof) = &version.proof {
        let statements = sql::statements(proof);
        let reads =
            |s: &Statement| ["select", "with", "values", "table"].iter().any(|word| s.begins(&[word]));
        if !matches!(statements.as_slice(), [query] if reads(query)) {
            error(
                &["proof", "sql"],
                "the proof is not one query".into(),
                "write one SELECT that returns one boolean".into(),
            );
        }
    }
    let declared = timeline.collections_at(version.number);
    let earlier = timeline.versions.iter().filter(|earlier| earlier.number < version.number);
    let earlier: Vec<_> = earlier.flat_map(|earlier| earlier.collections.iter().flatten()).collect();
    for found in collection::fill_contradictions(&version.fills, declared, &earlier) {
        error(&["fill"], format!("[[fill]]: {}", found.message), found.remedy.into());
    }
    for found in collection::shared_aliases(version.collections.as_deref().unwrap_or_default()) {
        error(&["collection"], found.message, found.remedy.into());
    }
    for declaration in version.collections.iter().flatten() {
        for found in collection::contradictions(declaration) {
            let message = format!("`match = {:?}`: {}", declaration.matching, found.message);
            error(&["collection"], message, found.remedy.into());
        }
    }
    if let (Some(data), Some(toml)) = (&version.data, toml) {
        findings.extend(data_sql(data, toml, version));
    }
    findings
}

/// Does nothing of the version's Postgres part leave a trace in the catalog?
fn data_only(version: &Version) -> bool {
    const DATA: [&str; 9] =
        ["insert", "update", "delete", "merge", "truncate", "select", "with", "values", "copy"];
    match &version.up {
        None => version.data.is_some(),
        Some(up) => {
            let statements = sql::statements(&up.text);
            !statements.is_empty() && statements.iter().all(|s| DATA.iter().any(|word| s.begins(&[word])))
        }
    }
}

/// The statements of `[data]`, which run in the version's transaction. Their place is the key's.
fn data_sql(data: &str, toml: &TomlFile, version: &Version) -> Vec<Finding> {
    let (line, column) = toml.position(&["data", "sql"]);
    let at = |note: Note| Finding {
        severity: note.severity,
        path: toml.path.clone(),
        line,
        column,
        message: format!("[data]: {}", note.message),
        remedy: note.remedy,
    };
    let statements = sql::statements(data);
    if statements.is_empty() {
        return vec![at(Note::error(0, "no statement", "write one, or remove [data]"))];
    }
    let mut dangers = Dangers::new(version);
    statements
        .iter()
        .flat_map(|statement| {
            let refused = lexical(statement).or_else(|| copy(statement)).or_else(|| refused(statement, true));
            refused.map_or_else(|| dangers.of(statement), |note| vec![note])
        })
        .map(at)
        .collect()
}

fn sql_file(
    file: &SqlFile,
    if_empty: Option<Severity>,
    mut dangers: impl FnMut(&Statement) -> Vec<Note>,
) -> Vec<Finding> {
    let at = |offset: usize, note: Note| {
        let (line, column) = sql::line_column(&file.text, offset);
        Finding {
            severity: note.severity,
            path: file.path.clone(),
            line,
            column,
            message: note.message,
            remedy: note.remedy,
        }
    };
    let statements = sql::statements(&file.text);
    let mut findings: Vec<Finding> =
        directives(file, &statements).into_iter().map(|(offset, note)| at(offset, note)).collect();
    if let Some(severity) = if_empty.filter(|_| statements.is_empty()) {
        let note = Note::error(0, "no SQL in this file", "write a statement, or remove the file");
        findings.push(at(0, Note { severity, ..note }));
    }
    for statement in &statements {
        let offset = |note: &Note| statement.start + statement.tokens[note.token].range.start;
        if let Some(note) = lexical(statement).or_else(|| copy(statement)) {
            // What follows is not SQL or is read wrongly, so that further findings would be noise.
            findings.push(at(offset(&note), note));
            break;
        }
        match refused(statement, file.transaction) {
            Some(note) => findings.push(at(offset(&note), note)),
            None => findings.extend(dangers(statement).into_iter().map(|note| at(offset(&note), note))),
        }
    }
    findings
}

/// Comments that look like a directive and are none.
fn directives(file: &SqlFile, statements: &[Statement]) -> Vec<(usize, Note)> {
    let mut notes = Vec::new();
    let mut offset = 0;
    for line in file.text.split_inclusive('\n') {
        let start = offset;
        offset += line.len();
        let comment = line.trim_start().strip_prefix("--").map(str::trim_start);
        let directive = comment.is_some_and(|comment| comment.starts_with("tandem:"));
        let in_statement = || statements.iter().any(|s| (s.start..s.start + s.text.len()).contains(&start));
        if directive && !(start == 0 && line.trim_end() == NO_TRANSACTION) && !in_statement() {
            notes.push((
                start,
                Note::error(
                    0,
                    "not a directive that stands here",
                    format!("the only one is `{NO_TRANSACTION}`, as the first line"),
                ),
            ));
        }
    }
    notes
}

/// Tokens that no server accepts.
fn lexical(s: &Statement) -> Option<Note> {
    s.tokens.iter().enumerate().find_map(|(i, token)| {
        let text = token.text(s.text);
        match token.kind {
            Kind::Backslash => Some(Note::error(
                i,
                "a psql meta-command: only psql understands what begins with a backslash",
                "remove it; what it includes or sets belongs into the file itself",
            )),
            Kind::Unterminated => {
                let what = if text.starts_with("/*") {
                    "comment"
                } else if text.starts_with('"') {
                    "quoted identifier"
                } else {
                    "string"
                };
                Some(Note::error(i, format!("the {what} that begins here does not end"), "close it"))
            }
            Kind::Other if text == "\0" => {
                Some(Note::error(i, "a NUL character", "save the file as UTF-8 text"))
            }
            _ => None,
        }
    })
}

/// Statements that must not run, in a file of this kind.
fn refused(s: &Statement, transaction: bool) -> Option<Note> {
    if !transaction {
        return outside_transaction(s);
    }
    transaction_control(s).or_else(|| forbids_transaction(s)).or_else(|| session_setting(s))
}

fn outside_transaction(s: &Statement) -> Option<Note> {
    if sql::non_transactional(s).is_some() {
        return None;
    }
    let unnamed = s.begins(&["create", "index", "concurrently", "on"])
        || s.begins(&["create", "unique", "index", "concurrently", "on"]);
    Some(if unnamed {
        Note::error(0, "an index without a name: an interrupted build could not be found again", "name it")
    } else {
        Note::error(
            0,
            "a statement that could be applied twice if its run is interrupted",
            format!(
                "keep only CREATE [UNIQUE] INDEX CONCURRENTLY, DROP INDEX CONCURRENTLY, REINDEX INDEX CONCURRENTLY and \
                 VACUUM under `{NO_TRANSACTION}`, and move this to a version of its own"
            ),
        )
    })
}

fn transaction_control(s: &Statement) -> Option<Note> {
    const CONTROL: [&[&str]; 10] = [
        &["begin"],
        &["start", "transaction"],
        &["commit"],
        &["end"],
        &["rollback"],
        &["abort"],
        &["savepoint"],
        &["release"],
        &["prepare", "transaction"],
        &["set", "transaction"],
    ];
    let words = CONTROL.iter().find(|words| s.begins(words))?;
    Some(Note::error(
        0,
        format!("{} controls a transaction", words.join(" ").to_uppercase()),
        "remove it: each version runs in one transaction together with its ledger row",
    ))
}

fn forbids_transaction(s: &Statement) -> Option<Note> {
    let concurrently = s.tokens.iter().position(|token| token.is_word(s.text, "concurrently"));
    let concurrent_index = concurrently.is_some()
        && (s.begins(&["create", "index", "concurrently"])
            || s.begins(&["create", "unique", "index", "concurrently"])
            || s.begins(&["drop", "index", "concurrently"])
            || s.begins(&["reindex"]));
    if sql::non_transactional(s).is_some() || concurrent_index {
        return Some(Note::error(
            0,
            "a statement that Postgres forbids in a transaction",
            format!("move it to a version of its own whose first line is `{NO_TRANSACTION}`"),
        ));
    }
    if s.begins(&["alter", "table"])
        && let Some(at) = concurrently
        && s.tokens.iter().any(|token| token.is_word(s.text, "detach"))
    {
        return Some(Note::error(
            at,
            "DETACH PARTITION … CONCURRENTLY is forbidden in a transaction",
            "leave out CONCURRENTLY",
        ));
    }
    const SERVER_WIDE: [&[&str]; 9] = [
        &["create", "database"],
        &["drop", "database"],
        &["create", "tablespace"],
        &["drop", "tablespace"],
        &["alter", "system"],
        &["reindex", "database"],
        &["reindex", "system"],
        &["reindex", "schema"],
        &["cluster"],
    ];
    let words = SERVER_WIDE.iter().find(|words| s.begins(words))?;
    if words == &["cluster"] && s.tokens.len() > 1 {
        return None;
    }
    Some(Note::error(
        0,
        format!(
            "{} is forbidden in a transaction and is not a matter of one schema",
            words.join(" ").to_uppercase()
        ),
        "run it by hand or in the deployment, outside of the timeline",
    ))
}

fn session_setting(s: &Statement) -> Option<Note> {
    const REMEDY: &str = "write SET LOCAL, which ends with the version's transaction";
    let set = s.begins(&["set"]) && !s.word(1, "local") && !s.word(1, "constraints");
    if set || s.begins(&["reset"]) || s.begins(&["discard"]) {
        let setting = s.tokens.get(1).map_or("", |token| token.text(s.text));
        return Some(Note::error(0, format!("a change of {setting} that outlives the version"), REMEDY));
    }
    s.tokens.iter().enumerate().find_map(|(i, token)| {
        let call = token.is_word(s.text, "set_config") && s.tokens.get(i + 1)?.is_mark(s.text, "(");
        if !call {
            return None;
        }
        let arguments = clauses(s, i + 2);
        let local = match arguments.as_slice() {
            [_, _, local] => s.tokens[local.clone()].iter().any(|token| token.is_word(s.text, "true")),
            _ => return None,
        };
        (!local).then(|| {
            Note::error(i, "set_config(…, false) outlives the version", "pass true as third argument")
        })
    })
}

fn copy(s: &Statement) -> Option<Note> {
    let from = (0..s.tokens.len()).find(|&i| s.word(i, "from") && s.word(i + 1, "stdin"))?;
    s.begins(&["copy"]).then(|| {
        Note::error(
            from,
            "COPY … FROM STDIN: there is no standard input to read from",
            "write INSERT (pg_dump does so with --inserts)",
        )
    })
}

/// The token ranges between commas, from `start` to the closing parenthesis around it or the end of the statement.
fn clauses(s: &Statement, start: usize) -> Vec<std::ops::Range<usize>> {
    let mut clauses = Vec::new();
    let mut depth = 0_usize;
    let mut begin = start;
    let mut end = start;
    for token in s.tokens.iter().skip(start) {
        match token.text(s.text) {
            "(" | "[" => depth += 1,
            ")" | "]" if depth == 0 => break,
            ")" | "]" => depth -= 1,
            "," if depth == 0 => {
                clauses.push(begin..end);
                begin = end + 1;
            }
            _ => {}
        }
        end += 1;
    }
    if begin < end {
        clauses.push(begin..end);
    }
    clauses
}

/// Tables by the last part of their name: a file that uses two of one name in two schemas is rare.
fn table(name: &[String]) -> &str {
    name.last().map_or("", String::as_str)
}

/// Versions that run in one transaction, as a repair has them: an enum value that one of them adds cannot be used by another.
pub fn together(timeline: &Timeline, chosen: impl Fn(Number) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut values: Vec<String> = Vec::new();
    for up in timeline.versions.iter().filter(|v| chosen(v.number)).filter_map(|v| v.up.as_ref()) {
        for statement in sql::statements(&up.text) {
            let mut dangers = Dangers { enum_values: values.clone(), ..Dangers::default() };
            if let Some(note) = dangers.enum_value_used(&statement) {
                let (line, column) = sql::line_column(&up.text, statement.start);
                findings.push(Finding {
                    path: up.path.clone(),
                    line,
                    column,
                    severity: Severity::Error,
                    message: note.message,
                    remedy: "the missing versions must run in one transaction: add the enum value by hand, then start again".into(),
                });
            }
            dangers.of(&statement);
            values = dangers.enum_values;
        }
    }
    findings
}

/// The dangers of Postgres DDL on tables that have rows and readers, and of changes that nothing archives.
///
/// Sees a file's statements in order, because what the file itself creates is in no danger.
#[derive(Default)]
struct Dangers {
    created: HashSet<String>,
    added: HashSet<(String, String)>,
    archived: HashSet<String>,
    enum_values: Vec<String>,
}

impl Dangers {
    fn new(version: &Version) -> Self {
        let archived = version
            .archives
            .iter()
            .map(|archive| {
                let name = archive.table.rsplit('.').next().unwrap_or_default();
                name.trim_matches('"').to_owned()
            })
            .collect();
        Self { created: HashSet::new(), added: HashSet::new(), archived, enum_values: Vec::new() }
    }

    fn of(&mut self, s: &Statement) -> Vec<Note> {
        let mut notes: Vec<Note> = self.enum_value_used(s).into_iter().collect();
        if s.begins(&["create"]) {
            notes.extend(self.create(s));
        } else if s.begins(&["alter", "table"]) {
            notes.extend(self.alter_table(s));
        } else if s.begins(&["drop", "table"]) {
            notes.extend(self.drop_table(s));
        } else if s.begins(&["alter", "type"]) {
            let value = s.tokens.windows(2).enumerate().find_map(|(i, pair)| {
                let added = pair[0].is_word(s.text, "add") && pair[1].is_word(s.text, "value");
                added.then(|| s.tokens.get(s.skip(i + 2, &["if", "not", "exists"]))).flatten()
            });
            self.enum_values.extend(value.map(|token| token.text(s.text).to_owned()));
        } else {
            notes.extend(self.unarchived(s));
        }
        notes
    }

    fn enum_value_used(&self, s: &Statement) -> Option<Note> {
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
        (!self.created.contains(table(&name))).then(|| {
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
        let actions = clauses(s, at);
        let table = table(&name).to_owned();
        if self.created.contains(&table) {
            return Vec::new();
        }
        actions.into_iter().filter_map(|action| self.alter_action(s, &table, action)).collect()
    }

    fn alter_action(&mut self, s: &Statement, table: &str, action: std::ops::Range<usize>) -> Option<Note> {
        let at = action.start;
        let has =
            |words: &[&str]| (at..action.end).any(|i| i + words.len() <= action.end && s.skip(i, words) > i);
        if s.word(at, "add") {
            let what = |word: &str| s.word(at + 1, word);
            if what("constraint") || what("check") || what("foreign") || what("primary") || what("unique") {
                return self.add_constraint(table, at, &has);
            }
            let column = s.skip(s.skip(at + 1, &["column"]), &["if", "not", "exists"]);
            let name = s.tokens.get(column)?.name(s.text)?;
            self.added.insert((table.to_owned(), name.clone()));
            let filled = ["default", "generated", "serial", "bigserial", "smallserial"]
                .iter()
                .any(|word| has(&[word]));
            let volatile = ["random", "gen_random_uuid", "uuid_generate_v4", "clock_timestamp", "nextval"];
            if !filled && (has(&["not", "null"]) || has(&["primary", "key"])) {
                return Some(Note::warning(
                    at,
                    format!("{table}.{name} is NOT NULL without a default: fails if the table has rows"),
                    "give it a DEFAULT, or add it nullable, fill it, and set NOT NULL afterwards",
                ));
            }
            return volatile.iter().any(|function| has(&[function])).then(|| {
                Note::warning(
                    at,
                    format!("the default of {table}.{name} differs by row: rewrites the table under an exclusive lock"),
                    "add the column without it, set the default, and fill the rows in steps",
                )
            });
        }
        if s.word(at, "alter") {
            let (name, next) = s.qualified_name(s.skip(at + 1, &["column"]))?;
            let name = name.join(".");
            if s.word(next, "type") || s.skip(next, &["set", "data", "type"]) > next {
                return Some(Note::warning(
                    at,
                    format!(
                        "a new type of {table}.{name} can rewrite the table under an exclusive lock and lose values"
                    ),
                    "add a new column, fill it and switch to it; declare [[archive]] for values that the conversion changes",
                ));
            }
            return (s.skip(next, &["set", "not", "null"]) > next).then(|| {
                Note::warning(
                    at,
                    format!("reads all of {table} under an exclusive lock to see that {name} has no NULL"),
                    "ADD CONSTRAINT … CHECK (… IS NOT NULL) NOT VALID, and in a later version VALIDATE CONSTRAINT and SET NOT NULL",
                )
            });
        }
        if s.word(at, "drop") && !s.word(at + 1, "constraint") {
            let column = s.skip(s.skip(at + 1, &["column"]), &["if", "exists"]);
            let name = s.tokens.get(column)?.name(s.text)?;
            return Some(Note::warning(
                at,
                format!("drops {table}.{name}: applications that still use it fail"),
                "set compatible_from so that they do not start; the archive keeps the values",
            ));
        }
        (s.word(at, "rename") && !s.word(at + 1, "constraint")).then(|| {
            Note::warning(
                at,
                format!("renames in {table}: applications that use the old name fail"),
                "set compatible_from so that they do not start",
            )
        })
    }

    fn add_constraint(&self, table: &str, at: usize, has: &impl Fn(&[&str]) -> bool) -> Option<Note> {
        if has(&["using", "index"]) || has(&["not", "valid"]) {
            return None;
        }
        Some(if has(&["unique"]) || has(&["primary", "key"]) || has(&["exclude"]) {
            Note::warning(
                at,
                format!("builds the index of this constraint while {table} is locked"),
                "build the index concurrently in a version before, and ADD CONSTRAINT … USING INDEX",
            )
        } else {
            Note::warning(
                at,
                format!("checks all rows of {table} while it is locked"),
                "add it NOT VALID, and VALIDATE CONSTRAINT in a later version",
            )
        })
    }

    fn drop_table(&self, s: &Statement) -> Option<Note> {
        let (name, _) = s.qualified_name(s.skip(2, &["if", "exists"]))?;
        (!self.created.contains(table(&name))).then(|| {
            Note::warning(
                0,
                format!("drops {}: applications that still use it fail", name.join(".")),
                "set compatible_from so that they do not start; the archive keeps the rows",
            )
        })
    }

    /// Changed or deleted rows that no `[[archive]]` keeps. Filling a column of this file loses nothing.
    fn unarchived(&self, s: &Statement) -> Option<Note> {
        let at = if s.begins(&["update"]) {
            1
        } else if s.begins(&["delete", "from"]) {
            2
        } else if s.begins(&["truncate"]) {
            s.skip(1, &["table"])
        } else {
            return None;
        };
        let (name, next) = s.qualified_name(s.skip(at, &["only"]))?;
        let name = table(&name);
        let set =
            (next..s.tokens.len()).find(|&i| s.word(i, "set")).filter(|_| at == 1 && s.begins(&["update"]));
        let fills = set.is_some_and(|set| self.fills_added_columns(s, name, set + 1));
        (!fills && !self.created.contains(name) && !self.archived.contains(name)).then(|| {
            Note::warning(
                0,
                format!("changes rows of {name} that nothing keeps"),
                format!("declare them in the version's TOML: [[archive]] table = \"{name}\""),
            )
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::file::parse;
    use std::path::Path;

    type Files<'a> = &'a [(&'a str, &'a str)];

    /// The findings of version 2 with these files, after a version 1 without any.
    fn findings(files: Files) -> Vec<Finding> {
        let base = [("tandem.toml", "application = 'a'"), ("1_a.sql", "create table old (a int);")];
        let files =
            base.iter().chain(files).map(|&(name, text)| (name.to_owned(), text.to_owned())).collect();
        let timeline = parse(Path::new("m"), files, &|_| None).unwrap();
        lint(&timeline, |number| number == 2)
    }

    fn places(findings: &[Finding], severity: Severity) -> Vec<(usize, usize)> {
        findings.iter().filter(|f| f.severity == severity).map(|f| (f.line, f.column)).collect()
    }

    /// SQL that every run must refuse, with the place of the finding.
    #[test]
    fn sql_that_must_not_run_is_an_error() {
        let table: &[(&str, (usize, usize))] = &[
            ("BEGIN; select 1", (1, 1)),
            ("select 1;\n  start transaction", (2, 3)),
            ("select 1; commit;", (1, 11)),
            ("end", (1, 1)),
            ("rollback to a", (1, 1)),
            ("abort", (1, 1)),
            ("savepoint a", (1, 1)),
            ("release a", (1, 1)),
            ("prepare transaction 'a'", (1, 1)),
            ("set transaction read only", (1, 1)),
            ("create table n (a int);\n\\connect other\ncommit;", (2, 1)),
            ("\\restrict abc\nselect 1;", (1, 1)),
            ("create index concurrently i on old (a)", (1, 1)),
            ("create unique index concurrently on old (a)", (1, 1)),
            ("drop index concurrently i", (1, 1)),
            ("reindex table concurrently old", (1, 1)),
            ("reindex schema public", (1, 1)),
            ("vacuum", (1, 1)),
            ("create database a", (1, 1)),
            ("alter system set a = 1", (1, 1)),
            ("cluster", (1, 1)),
            ("alter table p detach partition q concurrently", (1, 34)),
            ("set search_path = a", (1, 1)),
            ("set session role a", (1, 1)),
            ("reset all", (1, 1)),
            ("discard all", (1, 1)),
            ("SELECT pg_catalog.set_config('search_path', '', false)", (1, 19)),
            ("copy old from stdin;\n1\t'2\n\\.", (1, 10)),
            ("copy old (a) from stdin with (format csv)", (1, 14)),
            ("select 'a", (1, 8)),
            ("select \"a", (1, 8)),
            ("select 1; /* a", (1, 11)),
            ("select \0", (1, 8)),
            ("", (1, 1)),
            ("-- nothing;\n;", (1, 1)),
            ("select 1;\n-- tandem:no-transaction\n", (2, 1)),
            ("--tandem:no-transaction\nselect 1", (1, 1)),
            ("-- tandem:no-transactions\nselect 1", (1, 1)),
            ("-- tandem:no-transaction\nvacuum; create table n (a int)", (2, 9)),
            ("-- tandem:no-transaction\ncreate index i on old (a)", (2, 1)),
            ("-- tandem:no-transaction\ncreate index concurrently on old (a)", (2, 1)),
            ("-- tandem:no-transaction\ninsert into old values (1)", (2, 1)),
            ("-- tandem:no-transaction\nset lock_timeout = 1; vacuum", (2, 1)),
        ];
        for (sql, place) in table {
            let proof = ("2_b.toml", "proof.sql = 'select true'");
            let findings = findings(&[("2_b.sql", sql), proof]);
            assert_eq!(places(&findings, Severity::Error), [*place], "{sql}: {findings:#?}");
            assert_eq!(findings[0].path, "m/2_b.sql");
            assert!(!findings[0].remedy.is_empty());
        }
    }

    #[test]
    fn sql_that_only_looks_like_it_is_none() {
        let table = [
            "create function f() returns void language plpgsql as $$ begin commit; end $$",
            "create function f() returns int language sql begin atomic select 1; end",
            "create procedure p() language plpgsql set search_path = a as 'begin commit; end'",
            "-- begin;\ncreate table n (a text default 'begin; \\connect')",
            "create table begin_log (a int); /* commit; */",
            "set local search_path = a; create table n (a int)",
            "set constraints all deferred; create table n (a int)",
            "create table n (a int); select set_config('role', 'a', true)",
            "create table n (a int); copy n from program 'stdin'",
            "create table n (a int); cluster n using i",
            "prepare p as select 1; create table n (a int)",
            "alter role a set search_path = b",
            "create function f() returns text language sql as $$\n-- tandem:no-transaction\nselect 'a' $$",
            "-- tandem:no-transaction\r\ncreate index concurrently if not exists i on old (a);\ndrop index concurrently j;\n\
             reindex index concurrently k; vacuum analyze old",
        ];
        for sql in table {
            assert_eq!(findings(&[("2_b.sql", sql)]), [], "{sql}");
        }
    }

    #[test]
    fn declarations_that_contradict_themselves_are_errors() {
        let sql = ("2_b.sql", "create table n (a int)");
        let update = ("2_b.sql", "insert into old values (1)");
        let table: &[(Files, (usize, usize))] = &[
            (&[("2_b.toml", "release = '1'")], (1, 1)),
            (&[sql, ("2_b.toml", "\ncompatible_from = 3"), ("3_c.sql", "select 1")], (2, 19)),
            (&[sql, ("2_b.toml", "\ncompatible_from = 0")], (2, 19)),
            (&[("2_b.toml", "[data]\nsql = 'insert into old values (1)'")], (1, 1)),
            (&[update], (1, 1)),
            (&[update, ("2_b.toml", "proof.sql = 'delete from old'")], (1, 13)),
            (&[update, ("2_b.toml", "proof.sql = 'select 1; select 2'")], (1, 13)),
            (&[sql, ("2_b.toml", "[data]\nsql = ''")], (2, 7)),
            (&[sql, ("2_b.toml", "[data]\nsql = 'insert into old values (1); commit'")], (2, 7)),
            (&[sql, ("2_b.toml", "[data]\nsql = 'copy old from stdin'")], (2, 7)),
            (&[sql, ("2_b.down.sql", "drop table n; commit")], (1, 15)),
            (&[("2_b.toml", "\n[[fill]]\nvector = 'a'\nfrom.vector = 'b'")], (2, 1)),
            (&[("2_b.toml", "\n[[collection]]\nmatch = 'm'\nmetadata.tandem = 1")], (2, 1)),
        ];
        for (files, place) in table {
            let findings = findings(files);
            assert_eq!(places(&findings, Severity::Error), [*place], "{files:?}: {findings:#?}");
        }
    }

    #[test]
    fn declarations_that_agree_are_none() {
        let table: &[Files] = &[
            &[("2_b.toml", "[[collection]]\nmatch = 'a'")],
            &[(
                "2_b.toml",
                "[[fill]]\nvector = 'a'\nfrom = { payload = 'b' }\n[[collection]]\nmatch = 'm'\nvectors.a.size = 1",
            )],
            &[(
                "2_b.toml",
                "data.sql = 'insert into old values (1)'\nproof.sql = 'with a as (select 1) select true from a'",
            )],
            &[("2_b.sql", "create table n (a int)"), ("2_b.toml", "compatible_from = 1")],
            &[("2_b.sql", "create table n (a int)"), ("2_b.down.sql", "drop table n")],
        ];
        for files in table {
            assert_eq!(findings(files), [], "{files:?}");
        }
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
            ("alter table old add b bigserial not null", &[]),
            ("alter table old alter a set not null", &[(1, 17)]),
            ("alter table old alter a set default 1, alter a drop not null", &[]),
            ("alter table old add constraint c check (a > 0)", &[(1, 17)]),
            ("alter table old add constraint c check (a > 0) not valid", &[]),
            ("alter table old add foreign key (a) references o (a)", &[(1, 17)]),
            ("alter table old add constraint c unique (a)", &[(1, 17)]),
            ("alter table old add constraint c unique using index i", &[]),
            ("alter table old drop column a, drop constraint c", &[(1, 17)]),
            ("alter table old rename to o", &[(1, 17)]),
            ("drop table old", &[(1, 1)]),
            ("create table n (a int); alter table n add b int not null; drop table n", &[]),
            ("create table n (a int); update old set a = 1", &[(1, 25)]),
            ("create table n (a int); delete from only public.old", &[(1, 25)]),
            ("create table n (a int); truncate table old", &[(1, 25)]),
            ("create table n (a int); update kept set a = 1; delete from kept", &[]),
            ("alter table old add b int; update old set b = a + 1 where a in (1, 2)", &[]),
            ("alter table old add b int; update old set b = n.a from n, m where n.a = m.a", &[]),
            ("alter table old add b int; update old set b = 1, a = 2", &[(1, 28)]),
            ("alter type e add value if not exists 'v'; alter table n alter c set default 'v'", &[(1, 77)]),
        ];
        for (sql, expected) in table {
            let files = [("2_b.sql", *sql), ("2_b.toml", "[[archive]]\ntable = 'public.kept'")];
            let findings = findings(&files);
            assert_eq!(places(&findings, Severity::Warning), *expected, "{sql}: {findings:#?}");
            assert_eq!(places(&findings, Severity::Error), [], "{sql}: {findings:#?}");
        }
    }

    #[test]
    fn an_empty_down_is_a_warning_where_sql_has_to_be_undone() {
        let down = ("2_b.down.sql", "-- nothing to undo");
        let found = findings(&[("2_b.sql", "create table n (a int)"), down]);
        assert_eq!(places(&found, Severity::Warning), [(1, 1)]);
        assert_eq!(found.len(), 1);
        assert_eq!(findings(&[("2_b.toml", "[[collection]]\nmatch = 'a'"), down]), []);
    }

    #[test]
    fn only_pending_versions_are_looked_at() {
        let files = [("tandem.toml", "application = 'a'"), ("1_a.sql", "commit"), ("2_b.sql", "commit")];
        let files = files.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect();
        let timeline = parse(Path::new("m"), files, &|_| None).unwrap();
        let paths: Vec<_> = lint(&timeline, |number| number > 1).into_iter().map(|f| f.path).collect();
        assert_eq!(paths, ["m/2_b.sql"]);
    }

    #[test]
    fn the_timeline_of_this_repository_has_no_errors() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let timeline = crate::timeline::load(&directory, &|_| None).unwrap();
        let whole = |v: &Version| v.down.is_some() && v.release.is_some();
        assert!(timeline.versions.iter().all(whole), "a version without a down or a release");
        let errors: Vec<_> =
            lint(&timeline, |_| true).into_iter().filter(|f| f.severity == Severity::Error).collect();
        assert_eq!(errors, []);
    }
}
