//! What is wrong with versions before anything runs: errors that no run may meet, and dangers that a person should know.

use super::danger::{self, Dangers};
use super::file::NO_TRANSACTION;
use super::sql::{self, Kind, Statement};
use super::{Number, SqlFile, Timeline, TomlFile, Version};
use crate::catalog::Expected;
use crate::collection;
use crate::error::{Error, ExitCode, Result};
use serde::Serialize;

/// One thing to change, or to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
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
    examine(timeline, None, pending)
}

/// The same, with what the recorded catalogs tell about dangers.
pub fn examine(
    timeline: &Timeline,
    expected: Option<&Expected>,
    pending: impl Fn(Number) -> bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for version in timeline.versions.iter().filter(|version| pending(version.number)) {
        findings.extend(declarations(timeline, version, expected));
        if let Some(up) = &version.up {
            let mut dangers = Dangers::new(timeline, version, expected);
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
pub(super) struct Note {
    severity: Severity,
    token: usize,
    message: String,
    remedy: String,
}

impl Note {
    pub(super) fn error(token: usize, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Error, token, message: message.into(), remedy: remedy.into() }
    }

    pub(super) fn warning(token: usize, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, token, message: message.into(), remedy: remedy.into() }
    }
}

fn declarations(timeline: &Timeline, version: &Version, expected: Option<&Expected>) -> Vec<Finding> {
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
    if let Some(toml) = toml {
        findings.extend(danger::collections(timeline, version).into_iter().map(|found| {
            let keys: Vec<&str> = found.keys.iter().map(String::as_str).collect();
            let (line, column) = toml.nearest(&keys);
            let (path, severity) = (toml.path.clone(), Severity::Warning);
            Finding { severity, path, line, column, message: found.message, remedy: found.remedy }
        }));
    }
    if let (Some(data), Some(toml)) = (&version.data, toml) {
        findings.extend(data_sql(data, toml, Dangers::new(timeline, version, expected)));
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
fn data_sql(data: &str, toml: &TomlFile, mut dangers: Dangers) -> Vec<Finding> {
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
pub(super) fn clauses(s: &Statement, start: usize) -> Vec<std::ops::Range<usize>> {
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

/// Versions that run in one transaction, as a repair has them: an enum value that one of them adds cannot be used by another.
pub fn together(timeline: &Timeline, chosen: impl Fn(Number) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut values: Vec<String> = Vec::new();
    for up in timeline.versions.iter().filter(|v| chosen(v.number)).filter_map(|v| v.up.as_ref()) {
        for statement in sql::statements(&up.text) {
            let mut dangers = Dangers::after(values);
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

/// Fails on the first finding that is an error, before anything has been done.
pub fn refuse(findings: &[Finding]) -> Result<()> {
    let errors: Vec<&Finding> = findings.iter().filter(|f| f.severity == Severity::Error).collect();
    let Some(first) = errors.first() else { return Ok(()) };
    let more = if errors.len() > 1 {
        format!(" (and {} more: tandem lint)", errors.len() - 1)
    } else {
        String::new()
    };
    Err(Error::new(
        ExitCode::BadTimeline,
        format!("{}:{}:{}: {}{more}", first.path, first.line, first.column, first.message),
    )
    .remedy(first.remedy.clone()))
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
