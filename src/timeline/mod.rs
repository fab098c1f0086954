//! The ordered versions in `migrations/` as plain data, and the pure functions that read them.

pub mod checksum;
pub mod create;
mod danger;
mod declaration;
mod error;
pub mod file;
mod fill;
pub mod lint;
pub mod sql;

pub use checksum::{CHECKSUM_ALGORITHM, Checksums};
pub use error::{Problem, TimelineError};
pub use file::load;
pub use fill::{Fill, FillSource, FillWhat};

use crate::collection::Schema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A version's number; any positive integer, dense or a timestamp.
pub type Number = i64;

/// All versions that an image carries, with the settings they share.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    pub settings: Settings,
    /// Sorted by number, numbers unique.
    pub versions: Vec<Version>,
}

/// `tandem.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Keys the ledger rows: two applications can share one database.
    pub application: String,
    /// The Postgres schemas whose objects belong to the application, first one first in `search_path`.
    pub schemas: Vec<String>,
    /// The schema that holds ledger, journal and state.
    pub ledger_schema: String,
    /// Other tools' ledger tables, which never belong to a catalog.
    pub adoption_tables: Vec<String>,
    /// Is `alembic_version` updated to the revision that was proven?
    pub adoption_mirror: bool,
    /// When the catalog is compared with the expected one.
    pub check: Check,
}

/// How often a run compares the whole catalog. The last version of a run is always checked before it commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// After every version, inside its transaction.
    #[default]
    EachVersion,
    /// Inside the transaction of the run's last version, and of each that may take something away.
    EachRun,
}

/// One version: the files that share its number.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    pub number: Number,
    /// The file name between the number and the suffix, such as `.up.sql`.
    pub name: String,
    /// The application's release, such as `1.0.31`.
    pub release: Option<String>,
    /// The oldest version whose application can still run on this one; the version itself if not given.
    pub compatible_from: Number,
    pub up: Option<SqlFile>,
    pub down: Option<SqlFile>,
    /// The declared collections from this version on; `None` leaves the declaration of the version before.
    pub collections: Option<Vec<CollectionDeclaration>>,
    pub fills: Vec<Fill>,
    /// Read-only, one boolean: does the database have this version's effects?
    pub proof: Option<String>,
    /// Idempotent statements that run after `up` and when the version is completed.
    pub data: Option<String>,
    pub archives: Vec<Archive>,
    /// Objects that real databases of this version may lack: kind (`functions`, `tables`, …) → names.
    pub optional: BTreeMap<String, Vec<String>>,
    /// What other tools' ledgers call this version, the last name being all of it: tool → names.
    pub adoption: BTreeMap<String, Vec<String>>,
    pub toml: Option<TomlFile>,
}

/// A version's TOML as it is on disk, before variables are filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TomlFile {
    /// For messages: the path as it was opened.
    pub path: String,
    pub text: String,
}

/// A SQL file as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlFile {
    /// For messages: the path as it was opened.
    pub path: String,
    pub text: String,
    /// False if the first line is `-- tandem:no-transaction`.
    pub transaction: bool,
}

/// `[[collection]]`: which collections, and the whole schema they have from this version on.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectionDeclaration {
    /// A name or, with `--all-collections`, a `*` pattern over real names and aliases.
    pub matching: String,
    /// Names that are created if absent.
    pub ensure: Vec<String>,
    pub schema: Schema,
    pub undeclared: Undeclared,
}

/// What happens to vectors and payload indexes that a declaration does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Undeclared {
    pub drop_vectors: bool,
    pub drop_payload_indexes: bool,
}

/// `[[archive]]`: rows that a version updates or deletes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    pub table: String,
    /// A SQL condition; `None` keeps every row.
    #[serde(rename = "where")]
    pub condition: Option<String>,
}

impl Timeline {
    /// The version with this number.
    pub fn version(&self, number: Number) -> Option<&Version> {
        self.versions.binary_search_by_key(&number, |v| v.number).ok().map(|i| &self.versions[i])
    }

    /// The timeline as an image has it whose newest version is this one.
    pub fn until(mut self, number: Number) -> Self {
        self.versions.retain(|version| version.number <= number);
        self
    }

    /// The newest version.
    pub fn head(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// The collections declared at a version: its own or the nearest earlier declaration.
    pub fn collections_at(&self, number: Number) -> &[CollectionDeclaration] {
        self.versions
            .iter()
            .rev()
            .filter(|v| v.number <= number)
            .find_map(|v| v.collections.as_deref())
            .unwrap_or_default()
    }
}

impl Version {
    /// Has it neither SQL nor a declaration that changes a store?
    pub fn changes_nothing(&self) -> bool {
        self.up.is_none() && self.collections.is_none() && self.data.is_none() && self.fills.is_empty()
    }
}

impl CollectionDeclaration {
    /// Is `match` a pattern, which only `--all-collections` may use?
    pub fn is_pattern(&self) -> bool {
        self.matching.contains('*')
    }

    /// Does `match` cover this name? `*` stands for any characters.
    pub fn matches(&self, name: &str) -> bool {
        let Some((prefix, rest)) = self.matching.split_once('*') else { return self.matching == name };
        let Some(mut name) = name.strip_prefix(prefix) else { return false };
        let mut parts: Vec<&str> = rest.split('*').collect();
        let suffix = parts.pop().unwrap_or_default();
        for part in parts {
            match name.find(part) {
                Some(at) => name = &name[at + part.len()..],
                None => return false,
            }
        }
        name.ends_with(suffix)
    }
}
