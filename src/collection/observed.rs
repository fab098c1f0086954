//! What a server says about a collection, and the stamp that tandem leaves in it.

use super::{Fence, STAMP_KEY, Schema};
use serde::{Deserialize, Serialize};

/// A collection as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The real name.
    pub name: String,
    /// Everything that the server reports, the stamp aside. Of a collection that is fenced off, the strict mode of before.
    pub schema: Schema,
    pub stamp: Option<Stamp>,
    /// What keeps writers out of it, left by a run that is at work or was interrupted.
    pub fence: Option<Fence>,
    /// The aliases that lead here.
    pub aliases: Vec<String>,
    /// Approximate, except that 0 is exact; other exact counts are a request of their own.
    pub points: u64,
    pub status: Status,
    /// The optimizer's error, if it has one.
    pub optimizer_error: Option<String>,
    /// Updates that are accepted and not applied; `None` before server 1.17.
    pub queued_updates: Option<u64>,
    /// Points that reads do not show until they are optimized; `None` before server 1.17.1.
    pub deferred_points: Option<u64>,
}

/// The server's own summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All segments are ready.
    Green,
    /// Being optimized.
    Yellow,
    /// The optimizer failed.
    Red,
    /// Optimization is pending, as after a restart.
    Grey,
    Unknown,
}

/// What tandem claims about a collection, kept under [`STAMP_KEY`] in its metadata. A server replaces a nested object
/// whole, so every write has every field. Fields of a newer tandem are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Minted with the ledger; says which pair of stores the collection belongs to.
    pub lineage: String,
    /// The application of the timeline.
    pub timeline: String,
    pub version: i64,
    /// Grows with each acquisition of the lock.
    pub epoch: i64,
    pub role: Role,
}

/// What a stamped collection is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The application uses it.
    Live,
    /// A rebuild fills it.
    Shadow {
        /// The real name of the collection it is to replace.
        source: String,
        /// The phase of the rebuild.
        phase: String,
    },
}

impl Observed {
    /// The version that its stamp claims, if an application uses it: what a shadow's stamp says is about the rebuild that
    /// fills it, and nothing has been proven of its points.
    pub fn live_version(&self) -> Option<i64> {
        self.stamp.as_ref().filter(|stamp| stamp.role == Role::Live).map(|stamp| stamp.version)
    }

    /// Does its stamp say that a rebuild fills it?
    pub fn is_shadow(&self) -> bool {
        self.stamp.as_ref().is_some_and(|stamp| stamp.role != Role::Live)
    }
}

impl Stamp {
    /// Whether both claim the same; the epoch is no part of the claim.
    pub fn same_claim(&self, other: &Self) -> bool {
        (&self.lineage, &self.timeline, self.version, &self.role)
            == (&other.lineage, &other.timeline, other.version, &other.role)
    }

    /// Takes the stamp out of a collection's metadata.
    ///
    /// # Errors
    /// What is under [`STAMP_KEY`] is no stamp; says why.
    pub fn take(schema: &mut Schema) -> Result<Option<Self>, String> {
        schema.metadata.remove(STAMP_KEY).map(serde_json::from_value).transpose().map_err(|e| e.to_string())
    }

    /// Puts the stamp into the metadata of a schema to be written.
    pub fn put(&self, schema: &mut Schema) {
        let value = serde_json::to_value(self).expect("text and numbers are always JSON");
        schema.metadata.insert(STAMP_KEY.to_string(), value);
    }
}
