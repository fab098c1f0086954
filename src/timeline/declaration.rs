//! TOML → data: `tandem.toml` and the declarations of a version.

use super::sql::line_column;
use super::{
    Archive, Check, CollectionDeclaration, Fill, Number, Problem, Settings, TimelineError, TomlFile,
    Undeclared,
};
use crate::adoption::Tool;
use crate::collection::Schema;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, ValueDeserializer};

/// Looks up a variable that a TOML names.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Ledger tables by whose name no application calls a table of its own.
const ADOPTION_TABLES: [&str; 9] = [
    "alembic_version",
    "_sqlx_migrations",
    "refinery_schema_history",
    "__diesel_schema_migrations",
    "goose_db_version",
    "flyway_schema_history",
    "databasechangelog",
    "databasechangeloglock",
    "_prisma_migrations",
];

/// The kinds of catalog objects that `[optional]` may name.
const OPTIONAL_KINDS: [&str; 10] = [
    "columns",
    "constraints",
    "enums",
    "extensions",
    "functions",
    "indexes",
    "sequences",
    "tables",
    "triggers",
    "views",
];

/// What a version's TOML says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Declaration {
    pub release: Option<String>,
    pub compatible_from: Option<Number>,
    pub collections: Option<Vec<CollectionDeclaration>>,
    pub fills: Vec<Fill>,
    pub proof: Option<String>,
    pub data: Option<String>,
    pub archives: Vec<Archive>,
    pub optional: BTreeMap<String, Vec<String>>,
    pub adoption: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionToml {
    release: Option<String>,
    compatible_from: Option<Number>,
    /// Read on its own, named here so that it is known.
    #[serde(rename = "collection")]
    _collection: Option<IgnoredAny>,
    #[serde(default)]
    fill: Vec<Fill>,
    proof: Option<Sql>,
    data: Option<Sql>,
    #[serde(default)]
    archive: Vec<Archive>,
    #[serde(default)]
    optional: BTreeMap<Spanned<String>, Vec<String>>,
    #[serde(default)]
    adoption: BTreeMap<Spanned<String>, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sql {
    sql: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UndeclaredToml {
    #[serde(default)]
    vectors: Policy,
    #[serde(default)]
    payload_indexes: Policy,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Policy {
    #[default]
    Keep,
    Drop,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsToml {
    application: Option<Spanned<String>>,
    schemas: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    ledger: LedgerToml,
    #[serde(default)]
    adoption: AdoptionToml,
    #[serde(default)]
    catalog_check: Check,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct LedgerToml {
    schema: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct AdoptionToml {
    tables: Option<Vec<String>>,
    mirror: Option<bool>,
}

/// A problem and its bytes, before the file is known.
type Located<T> = Result<T, (Problem, Option<Range<usize>>)>;

fn in_file<T>(path: &str, text: &str, result: Located<T>) -> Result<T, TimelineError> {
    result.map_err(|(problem, span)| TimelineError {
        path: path.to_owned(),
        position: span.map(|span| line_column(text, span.start)),
        problem,
    })
}

/// `tandem.toml`. Its values are constants: the ledger's place must be the same for every deployment.
pub(super) fn settings(path: &str, text: &str) -> Result<Settings, TimelineError> {
    in_file(path, text, read_settings(text))
}

fn read_settings(text: &str) -> Located<Settings> {
    let mut root = DeTable::parse(text).map_err(toml_problem)?;
    strings(root.get_mut(), &mut |_, value| {
        if value.get_ref().contains("${") {
            return Err((Problem::VariableInSettings, Some(value.span())));
        }
        Ok(())
    })?;
    let toml = SettingsToml::deserialize(Deserializer::from(root)).map_err(toml_problem)?;
    let application = toml.application.ok_or((Problem::NoApplication, None))?;
    let schemas = match toml.schemas {
        Some(schemas) if schemas.get_ref().is_empty() => {
            return Err((Problem::Empty("schemas".into()), Some(schemas.span())));
        }
        Some(schemas) => {
            let span = schemas.span();
            for schema in schemas.get_ref() {
                not_empty("schemas", schema, &span)?;
            }
            schemas.into_inner()
        }
        None => vec!["public".to_owned()],
    };
    not_empty("application", application.get_ref(), &application.span())?;
    if let Some(schema) = &toml.ledger.schema {
        not_empty("ledger.schema", schema.get_ref(), &schema.span())?;
    }
    Ok(Settings {
        application: application.into_inner(),
        schemas,
        ledger_schema: toml.ledger.schema.map_or_else(|| "tandem".to_owned(), Spanned::into_inner),
        adoption_tables: toml
            .adoption
            .tables
            .unwrap_or_else(|| ADOPTION_TABLES.iter().map(|&table| table.to_owned()).collect()),
        adoption_mirror: toml.adoption.mirror.unwrap_or(true),
        check: toml.catalog_check,
    })
}

/// A version's TOML with its variables filled in. SQL is taken as it is: it must mean the same everywhere.
pub(super) fn declaration(
    path: &str,
    text: &str,
    variables: Variables,
) -> Result<Declaration, TimelineError> {
    in_file(path, text, read_declaration(text, variables))
}

fn read_declaration(text: &str, variables: Variables) -> Located<Declaration> {
    let mut root = DeTable::parse(text).map_err(toml_problem)?;
    strings(root.get_mut(), &mut |section, value| {
        if !matches!(section, "proof" | "data" | "archive") && value.get_ref().contains("${") {
            let expanded =
                expand(value.get_ref(), variables).map_err(|problem| (problem, Some(value.span())))?;
            *value.get_mut() = expanded;
        }
        Ok(())
    })?;
    let collections = root.get_ref().get("collection").cloned().map(collections).transpose()?;
    let toml = VersionToml::deserialize(Deserializer::from(root)).map_err(toml_problem)?;
    let optional = named(toml.optional, &OPTIONAL_KINDS)?;
    let adoption = named(toml.adoption, &Tool::keys().collect::<Vec<_>>())?;
    Ok(Declaration {
        release: toml.release,
        compatible_from: toml.compatible_from,
        collections,
        fills: toml.fill,
        proof: toml.proof.map(|proof| proof.sql),
        data: toml.data.map(|data| data.sql),
        archives: toml.archive,
        optional,
        adoption,
    })
}

/// Lists of names under known keys.
fn named(
    table: BTreeMap<Spanned<String>, Vec<String>>,
    known: &[&str],
) -> Located<BTreeMap<String, Vec<String>>> {
    let mut lists = BTreeMap::new();
    for (key, names) in table {
        if !known.contains(&key.get_ref().as_str()) {
            let known = known.iter().map(|&key| key.to_owned()).collect();
            let name = key.get_ref().clone();
            return Err((Problem::Unknown { what: "key", name, known }, Some(key.span())));
        }
        lists.insert(key.into_inner(), names);
    }
    Ok(lists)
}

/// Visits every string value with the name of its top-level key.
fn strings(
    table: &mut DeTable,
    visit: &mut dyn FnMut(&str, &mut Spanned<String>) -> Located<()>,
) -> Located<()> {
    for (section, value) in table.iter_mut() {
        strings_in(section.get_ref(), value, visit)?;
    }
    Ok(())
}

fn strings_in(
    section: &str,
    value: &mut Spanned<DeValue>,
    visit: &mut dyn FnMut(&str, &mut Spanned<String>) -> Located<()>,
) -> Located<()> {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) => {
            let mut owned = Spanned::new(span, text.to_string());
            visit(section, &mut owned)?;
            *text = owned.into_inner().into();
        }
        DeValue::Array(values) => {
            for value in values.iter_mut() {
                strings_in(section, value, visit)?;
            }
        }
        DeValue::Table(table) => {
            for (_, value) in table.iter_mut() {
                strings_in(section, value, visit)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// `${NAME}` and `${NAME:-default}` as a shell reads them (the default also replaces an empty value); `$${` is `${`.
fn expand(text: &str, variables: Variables) -> Result<String, Problem> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            result.push_str(before);
            result.push_str("${");
            rest = &from[2..];
            continue;
        }
        result.push_str(before);
        let Some(end) = from.find('}') else { return Err(Problem::BadVariable(from.to_owned())) };
        let inner = &from[2..end];
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        if !is_name {
            return Err(Problem::BadVariable(from[..=end].to_owned()));
        }
        match (variables(name), default) {
            (Some(value), None) => result.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => result.push_str(&value),
            (_, Some(default)) => result.push_str(default),
            (None, None) => return Err(Problem::VariableUnset { name: name.to_owned() }),
        }
        rest = &from[end + 1..];
    }
    result.push_str(rest);
    Ok(result)
}

fn collections(value: Spanned<DeValue>) -> Located<Vec<CollectionDeclaration>> {
    let span = value.span();
    let DeValue::Array(tables) = value.into_inner() else {
        return Err((Problem::Toml("`collection` is one table: write [[collection]]".into()), Some(span)));
    };
    let mut declared: Vec<CollectionDeclaration> = Vec::new();
    for table in tables {
        let span = table.span();
        let declaration = collection(table)?;
        for earlier in &declared {
            for (one, other) in [(earlier, &declaration), (&declaration, earlier)] {
                let mut names = other.ensure.iter().chain([&other.matching]);
                if let Some(name) = names.find(|name| one.matches(name)) {
                    let problem =
                        Problem::DeclaredTwice { name: name.clone(), matching: one.matching.clone() };
                    return Err((problem, Some(span)));
                }
            }
        }
        declared.push(declaration);
    }
    Ok(declared)
}

/// One `[[collection]]`: the keys that say which, and the rest, which is the schema.
fn collection(value: Spanned<DeValue>) -> Located<CollectionDeclaration> {
    const WHICH: [&str; 3] = ["match", "ensure", "undeclared"];
    let span = value.span();
    let DeValue::Table(mut table) = value.into_inner() else {
        return Err((Problem::Toml("`collection` is not a table: write [[collection]]".into()), Some(span)));
    };
    let [matching, ensure, undeclared] = WHICH.map(|key| table.remove(key));
    let keys: Vec<Range<usize>> = table.keys().map(Spanned::span).collect();
    let rest = Spanned::new(span.clone(), DeValue::Table(table));
    let schema = Schema::deserialize(ValueDeserializer::from(rest)).map_err(|error| {
        let (mut problem, span) = toml_problem(error);
        if let (Problem::Unknown { known, .. }, Some(at)) = (&mut problem, &span)
            && keys.contains(at)
        {
            known.splice(0..0, WHICH.iter().map(|&key| key.to_owned()));
        }
        (problem, span)
    })?;

    let Some(matching) = matching else {
        return Err((Problem::Toml("missing field `match`".into()), Some(span)));
    };
    let matching = name("match", matching)?;
    let undeclared = match undeclared {
        Some(value) => {
            let toml = UndeclaredToml::deserialize(ValueDeserializer::from(value)).map_err(toml_problem)?;
            Undeclared {
                drop_vectors: toml.vectors == Policy::Drop,
                drop_payload_indexes: toml.payload_indexes == Policy::Drop,
            }
        }
        None => Undeclared::default(),
    };
    let ensure = match ensure {
        None => Vec::new(),
        Some(value) => match value.get_ref() {
            DeValue::Array(names) => names
                .iter()
                .map(|value| Ok((name("ensure", value.clone())?, value.span())))
                .collect::<Located<_>>()?,
            _ => {
                let span = value.span();
                vec![(name("ensure", value)?, span)]
            }
        },
    };
    let mut declaration = CollectionDeclaration { matching, ensure: Vec::new(), schema, undeclared };
    for (name, span) in ensure {
        if name.contains('*') {
            return Err((Problem::EnsurePattern(name), Some(span)));
        }
        if !declaration.matches(&name) {
            let matching = declaration.matching;
            return Err((Problem::EnsureNotMatched { name, matching }, Some(span)));
        }
        declaration.ensure.push(name);
    }
    Ok(declaration)
}

/// A collection's name or pattern.
fn name(key: &str, value: Spanned<DeValue>) -> Located<String> {
    let span = value.span();
    let name = String::deserialize(ValueDeserializer::from(value)).map_err(toml_problem)?;
    not_empty(key, &name, &span)?;
    Ok(name)
}

fn not_empty(key: &str, value: &str, span: &Range<usize>) -> Located<()> {
    if value.is_empty() { Err((Problem::Empty(key.to_owned()), Some(span.clone()))) } else { Ok(()) }
}

/// serde says `` unknown field `a`, expected `b` or `c` `` and has no other way to tell the names.
fn toml_problem(error: toml::de::Error) -> (Problem, Option<Range<usize>>) {
    let message = error.message();
    let what = if message.starts_with("unknown field `") {
        Some("key")
    } else if message.starts_with("unknown variant `") {
        Some("value")
    } else {
        None
    };
    let mut names = message.split('`').skip(1).step_by(2).map(str::to_owned);
    let problem = match (what, names.next()) {
        (Some(what), Some(name)) => Problem::Unknown { what, name, known: names.collect() },
        _ => Problem::Toml(message.lines().collect::<Vec<_>>().join(", ")),
    };
    (problem, error.span())
}

/// The TOML as JSON with sorted keys: the same whatever the layout and the comments. The release label and the names that
/// other tools have for the version are left out; they change nothing.
/// `None` if it is not TOML.
pub(super) fn canonical(text: &str) -> Option<String> {
    let mut table: toml::Table = toml::from_str(&text.replace("\r\n", "\n")).ok()?;
    table.remove("release");
    table.remove("adoption");
    serde_json::to_string(&table).ok()
}

impl TomlFile {
    /// Line and column of what is there of this path of keys, of which an array's are its indexes from 0.
    pub fn nearest(&self, keys: &[&str]) -> (usize, usize) {
        let Ok(root) = DeTable::parse(&self.text) else { return (1, 1) };
        let Some((first, rest)) = keys.split_first() else { return (1, 1) };
        let Some(mut value) = root.get_ref().get(*first) else { return (1, 1) };
        let mut start = value.span().start;
        for key in rest {
            let next = match value.get_ref() {
                DeValue::Array(values) => key.parse().ok().and_then(|index: usize| values.get(index)),
                other => other.get(*key),
            };
            let Some(next) = next else { break };
            value = next;
            start = value.span().start;
        }
        line_column(&self.text, start)
    }

    /// Line and column of the value at this path of keys; the beginning if there is none.
    pub fn position(&self, keys: &[&str]) -> (usize, usize) {
        let Ok(root) = DeTable::parse(&self.text) else { return (1, 1) };
        let Some((first, rest)) = keys.split_first() else { return (1, 1) };
        let value = root.get_ref().get(*first);
        let value = rest.iter().fold(value, |value, key| value.and_then(|value| value.get_ref().get(*key)));
        value.map_or((1, 1), |value| line_column(&self.text, value.span().start))
    }
}
