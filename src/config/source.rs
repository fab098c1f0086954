//! Where values come from: flags, environment variables with their `_FILE` variants, and the settings file.

use crate::error::{Error, ExitCode, Result};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;

/// The environment as data.
pub type Environment = BTreeMap<String, OsString>;

/// A text with its origin, such as `POSTGRES_HOST` or `--timeout`.
#[derive(Clone, PartialEq, Eq)]
pub struct Value {
    pub text: String,
    pub origin: String,
    /// 64 for a flag, 78 for everything else: what a wrong value exits with.
    pub blame: ExitCode,
}

impl Value {
    /// A value that the settings file or the environment holds.
    fn new(text: impl Into<String>, origin: impl Into<String>) -> Self {
        Self { text: text.into(), origin: origin.into(), blame: ExitCode::Configuration }
    }

    /// A value that was typed.
    pub fn flag(text: &str, name: &str) -> Self {
        Self { text: text.into(), origin: name.into(), blame: ExitCode::Usage }
    }

    /// Refuses a URL where none belongs: it can hold a password, and any other value appears in messages. `name` is the
    /// variable, the flag or the key that holds it.
    pub fn without_url(self, name: &str) -> Result<Self> {
        let may_hold_one =
            ["url", "password", "api_key"].iter().any(|end| name.to_ascii_lowercase().ends_with(end));
        if may_hold_one || !self.text.contains("://") {
            return Ok(self);
        }
        Err(self
            .wrong("holds a URL, where none belongs")
            .remedy("a Postgres URL belongs into DATABASE_URL, Qdrant's into QDRANT_URL"))
    }

    /// The error for a value that cannot be used; `problem` follows the origin's name.
    pub fn wrong(&self, problem: impl std::fmt::Display) -> Error {
        Error::new(self.blame, format!("{} {problem}", self.origin))
    }
}

/// Everything that settings are resolved from.
pub struct Sources<'a> {
    pub environment: &'a Environment,
    /// Keys of the settings file with their table, such as `postgres.host`.
    pub file: BTreeMap<String, Value>,
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

impl Sources<'_> {
    /// The first variable that is set, in the given order, else the key of the settings file.
    pub fn get(&self, variables: &[&str], key: &str) -> Result<Option<Value>> {
        for name in variables {
            if let Some(value) = self.variable(name)? {
                return Ok(Some(value));
            }
        }
        Ok(self.file.get(key).cloned())
    }

    /// A variable or its `_FILE` variant. An empty variable counts as unset: Compose passes those on.
    pub fn variable(&self, name: &str) -> Result<Option<Value>> {
        let file_name = format!("{name}_FILE");
        match (self.text(name)?, self.text(&file_name)?) {
            (Some(_), Some(_)) => Err(configuration(format!("{name} and {file_name} are both set"))
                .expected("one of them")
                .remedy(format!("unset {name} or {file_name}"))),
            (Some(text), None) => Value::new(text, name).without_url(name).map(Some),
            (None, Some(path)) => {
                // The path is not quoted: it is often the secret itself.
                let text = (self.read)(Path::new(path)).map_err(|e| {
                    configuration(format!("{file_name} names a file that cannot be read: {e}")).remedy(format!(
                        "let {file_name} hold the path of the file, and check the mount and the permissions"
                    ))
                })?;
                let text = text.strip_suffix('\n').unwrap_or(&text);
                let text = text.strip_suffix('\r').unwrap_or(text);
                if text.is_empty() {
                    return Err(configuration(format!("{file_name}: {path} is empty")));
                }
                Value::new(text, file_name).without_url(name).map(Some)
            }
            (None, None) => Ok(None),
        }
    }

    /// The content of a file that the setting `origin` names.
    pub fn read(&self, path: &str, origin: &str) -> Result<String> {
        (self.read)(Path::new(path)).map_err(|e| {
            configuration(format!("{origin}: {path} cannot be read: {e}"))
                .remedy(format!("check the mount and the permissions of {path}"))
        })
    }

    fn text(&self, name: &str) -> Result<Option<&str>> {
        let Some(value) = self.environment.get(name) else { return Ok(None) };
        let Some(text) = value.to_str() else {
            return Err(configuration(format!("{name} is not UTF-8")));
        };
        // Kubernetes describes a Service called `postgres` to every pod as POSTGRES_PORT=tcp://10.0.0.1:5432.
        let is_service_link = name.ends_with("_PORT") && text.starts_with("tcp://");
        Ok(Some(text).filter(|text| !text.is_empty() && !is_service_link))
    }
}

/// Reads a settings file: its keys, each with the table it stands in, all of them among `known`.
pub fn read_file(text: &str, path: &str, known: &[&str]) -> Result<BTreeMap<String, Value>> {
    let tables = config::Config::builder()
        .add_source(config::File::from_str(text, config::FileFormat::Toml))
        .build()
        .and_then(config::Config::try_deserialize::<BTreeMap<String, config::Value>>)
        .map_err(|e| malformed(&e, path))?;
    let mut keys = BTreeMap::new();
    for (key, value) in tables {
        match value.kind {
            config::ValueKind::Table(table) => {
                for (inner, value) in table {
                    insert(&mut keys, format!("{key}.{inner}"), value, path, known)?;
                }
            }
            _ => insert(&mut keys, key, value, path, known)?,
        }
    }
    Ok(keys)
}

fn insert(
    keys: &mut BTreeMap<String, Value>,
    key: String,
    value: config::Value,
    path: &str,
    known: &[&str],
) -> Result<()> {
    if !known.contains(&key.as_str()) {
        return Err(configuration(format!("{path}: unknown key {key}"))
            .expected(format!("one of {}", known.join(", "))));
    }
    let is_scalar = !matches!(value.kind, config::ValueKind::Table(_) | config::ValueKind::Array(_));
    match value.into_string() {
        Ok(text) if is_scalar && !text.is_empty() => {
            let value = Value::new(text, format!("{path} ({key})")).without_url(&key)?;
            keys.insert(key, value);
            Ok(())
        }
        _ => Err(configuration(format!("{path}: {key} is not a text, a number or a boolean"))),
    }
}

/// Place and kind of a syntax error, without the lines that the parser quotes: one could hold a password.
fn malformed(error: &config::ConfigError, path: &str) -> Error {
    let text = error.to_string();
    let place = text.lines().next().unwrap_or_default().rsplit(" at ").next().unwrap_or_default();
    let place = place.split(" in ").next().unwrap_or_default();
    configuration(format!("{path} is not TOML: {place}"))
        .remedy("quote texts, and write one key = value a line")
}

fn configuration(found: impl Into<String>) -> Error {
    Error::new(ExitCode::Configuration, found)
}
