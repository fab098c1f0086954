//! The ledger and the journal as plain data, and what a ledger says when it is held against a timeline.

use crate::timeline::{Number, Timeline, Version};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How a version came into the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// tandem ran its SQL.
    Applied,
    /// Proven to be there and recorded without running anything.
    Stamped,
    /// Some of it was there; the rest was added from the expected catalog.
    Completed,
    /// As stamped, where another tool's ledger was found beside it.
    Adopted,
}

impl Origin {
    /// The word in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Stamped => "stamped",
            Self::Completed => "completed",
            Self::Adopted => "adopted",
        }
    }
}

/// What a ledger row must carry to be held against a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    pub version: Number,
    pub name: String,
    /// Hex SHA-256 over the bytes.
    pub checksum_raw: String,
    /// Hex SHA-256 over the tokens.
    pub checksum_normal: String,
    /// Which checksum algorithm; see [`crate::timeline::CHECKSUM_ALGORITHM`].
    pub algorithm: i16,
    pub origin: String,
    pub compatible_from: Number,
    /// Digest of the catalog that was proven; absent where a run checked only its last version.
    pub catalog_digest: Option<String>,
    pub applied_at: String,
}

/// A run that has not reached its end: killed, or still at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenRun {
    pub epoch: i64,
    /// The newest phase that was journalled.
    pub phase: Phase,
    /// The collection of the newest phase, if it had one.
    pub collection: Option<String>,
    pub target: Number,
}

/// The phases of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Effects are about to begin.
    Prepare,
    /// Postgres is at the target.
    Committed,
    /// A step on a collection is about to be taken.
    Intent,
    /// That step was taken and read back.
    Done,
    /// The end: both stores are at the target.
    Published,
    /// Something is kept beside a live collection, by name; no part of a run.
    Retained,
    /// That was removed on purpose.
    Removed,
    /// The end: nothing of this run is under way any more, and its target was not reached.
    Abandoned,
}

impl Phase {
    /// The word in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Committed => "committed",
            Self::Intent => "intent",
            Self::Done => "done",
            Self::Published => "published",
            Self::Retained => "retained",
            Self::Removed => "removed",
            Self::Abandoned => "abandoned",
        }
    }

    /// The phase for a word in the journal.
    pub fn parse(word: &str) -> Option<Self> {
        [
            Self::Prepare,
            Self::Committed,
            Self::Intent,
            Self::Done,
            Self::Published,
            Self::Retained,
            Self::Removed,
            Self::Abandoned,
        ]
        .into_iter()
        .find(|p| p.as_str() == word)
    }
}

/// Everything that Postgres keeps for one timeline.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Ledger {
    /// Minted with the ledger; ties stamped collections to this database.
    pub lineage: String,
    /// Of the newest run.
    pub epoch: i64,
    /// Sorted by version.
    pub rows: Vec<Row>,
    /// Runs without an end, oldest first.
    pub open: Vec<OpenRun>,
    /// Real collection → the version at which it was last published.
    pub published: BTreeMap<String, Number>,
    /// The change detector at the last full proof, and the version that was proven.
    pub detector: Option<(String, Number)>,
    /// The normalised catalog of the newest row that stored one.
    pub newest_catalog: Option<String>,
}

impl Ledger {
    /// The newest version that the ledger names; 0 without rows.
    pub fn at(&self) -> Number {
        self.rows.last().map_or(0, |row| row.version)
    }
}

/// What holding the rows against the timeline finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The rows are the first versions of the timeline.
    Prefix {
        /// Rows whose raw checksum differs while the tokens are the same: to be healed.
        cosmetic: Vec<Number>,
    },
    /// The rows begin with the whole timeline and go on with versions that it does not have.
    Ahead {
        /// The unknown versions, with the oldest version that each still lets run.
        unknown: Vec<(Number, String, Number)>,
    },
    /// The rows and the timeline contradict each other.
    Diverged(Divergence),
}

/// Why rows and timeline cannot both be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Divergence {
    #[error(
        "version {version} ({name}) was changed after it was applied: its statements are not the ones the ledger recorded"
    )]
    Edited { version: Number, name: String },
    #[error(
        "the timeline has version {version} ({name}), which the ledger skipped: it already names {newer}"
    )]
    Gap { version: Number, name: String, newer: Number },
    #[error(
        "the ledger names version {version} ({name}), which the timeline does not have although it has newer ones"
    )]
    Missing { version: Number, name: String },
    #[error(
        "the ledger's checksum of version {version} was made by algorithm {algorithm}, which this tandem does not know"
    )]
    Algorithm { version: Number, algorithm: i16 },
}

/// Holds ledger rows against a timeline: the rows must be a prefix of it, or it a prefix of them.
///
/// `normal` yields the costly token checksum and is asked only where the raw one differs.
pub fn standing(
    rows: &[Row],
    timeline: &Timeline,
    algorithm: i16,
    normal: impl Fn(&Version) -> String,
    raw: impl Fn(&Version) -> String,
) -> Standing {
    let mut cosmetic = Vec::new();
    for (row, version) in rows.iter().zip(&timeline.versions) {
        if row.version > version.number {
            return Standing::Diverged(Divergence::Gap {
                version: version.number,
                name: version.name.clone(),
                newer: row.version,
            });
        }
        if row.version < version.number {
            return Standing::Diverged(Divergence::Missing { version: row.version, name: row.name.clone() });
        }
        if row.checksum_raw == raw(version) {
            continue;
        }
        if row.algorithm != algorithm {
            return Standing::Diverged(Divergence::Algorithm {
                version: row.version,
                algorithm: row.algorithm,
            });
        }
        if row.checksum_normal != normal(version) {
            return Standing::Diverged(Divergence::Edited {
                version: row.version,
                name: version.name.clone(),
            });
        }
        cosmetic.push(row.version);
    }
    match rows.get(timeline.versions.len()..) {
        Some(unknown) if !unknown.is_empty() => Standing::Ahead {
            unknown: unknown.iter().map(|r| (r.version, r.name.clone(), r.compatible_from)).collect(),
        },
        _ => Standing::Prefix { cosmetic },
    }
}

/// One digest over a list of versions and raw checksums: equal exactly if both sides name the same versions with the
/// same bytes. Postgres computes the same text with `sha256` and `string_agg`.
pub fn digest<'a>(rows: impl Iterator<Item = (Number, &'a str)>) -> String {
    let mut text = String::new();
    for (i, (version, checksum)) in rows.enumerate() {
        let newline = if i == 0 { "" } else { "\n" };
        let _ = write!(text, "{newline}{version} {checksum}");
    }
    hex(&Sha256::digest(text.as_bytes()))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
