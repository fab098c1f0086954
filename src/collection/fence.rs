//! What keeps writers out of a collection while another takes its place: limits that no write is within.
//!
//! Which write is refused by which limit was tried out on every server of the suite (`tests/fence.rs`).

use super::{FENCE_KEY, Schema, StrictModeConfig};
use serde::{Deserialize, Serialize};

/// More than any request or collection has, and still exact in every reader of JSON.
const NO_LIMIT: u64 = (1 << 53) - 1;

/// A fence that is up: what it replaced, kept under [`FENCE_KEY`] in the collection's metadata, so that it is undone even
/// where the journal was lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fence {
    /// The strict mode of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict_mode_config: Option<StrictModeConfig>,
}

impl Fence {
    /// Around a collection with this schema.
    pub fn around(schema: &Schema) -> Self {
        Self { strict_mode_config: schema.strict_mode_config.clone() }
    }

    /// The strict mode that keeps writers out: it lets one write a minute through, deletions included, which tandem takes for
    /// itself.
    pub fn up(&self) -> StrictModeConfig {
        StrictModeConfig { write_rate_limit: Some(1), ..self.going_up() }
    }

    /// The strict mode that refuses what puts a vector or a payload, at all times. A snapshot with this can still be recovered
    /// while somebody tries to write; the recovery counts as a write itself (Qdrant 1.16.3, 1.17.0).
    pub fn going_up(&self) -> StrictModeConfig {
        let former = self.strict_mode_config.clone().unwrap_or_default();
        // What was set and not in force must not come into force: it could refuse readers.
        let former = match former.enabled {
            Some(true) => former,
            _ => unlimited(former),
        };
        StrictModeConfig {
            enabled: Some(true),
            upsert_max_batchsize: Some(0),
            max_collection_payload_size_bytes: Some(0),
            ..former
        }
    }

    /// The strict mode of before. A server cannot unset a limit, so that one which was not set gets a value that is none.
    pub fn down(&self) -> StrictModeConfig {
        let former = self.strict_mode_config.clone().unwrap_or_default();
        StrictModeConfig {
            enabled: Some(former.enabled == Some(true)),
            upsert_max_batchsize: former.upsert_max_batchsize.or(Some(NO_LIMIT)),
            max_collection_payload_size_bytes: former.max_collection_payload_size_bytes.or(Some(NO_LIMIT)),
            write_rate_limit: former.write_rate_limit.or(Some(u32::MAX)),
            ..former
        }
    }

    /// Takes the fence out of a collection's metadata.
    ///
    /// # Errors
    /// What is under [`FENCE_KEY`] is no fence; says why.
    pub fn take(schema: &mut Schema) -> Result<Option<Self>, String> {
        schema.metadata.remove(FENCE_KEY).map(serde_json::from_value).transpose().map_err(|e| e.to_string())
    }

    /// Puts the fence into the metadata of a schema to be written.
    pub fn put(&self, schema: &mut Schema) {
        let value = serde_json::to_value(self).expect("text, numbers and flags are always JSON");
        schema.metadata.insert(FENCE_KEY.to_string(), value);
    }
}

/// The same limits, none of which refuses anything.
fn unlimited(mode: StrictModeConfig) -> StrictModeConfig {
    let count = |limit: Option<u64>| limit.map(|_| NO_LIMIT);
    let small = |limit: Option<u32>| limit.map(|_| u32::MAX);
    let allowed = |flag: Option<bool>| flag.map(|_| true);
    StrictModeConfig {
        enabled: mode.enabled,
        max_query_limit: small(mode.max_query_limit),
        max_timeout: small(mode.max_timeout),
        unindexed_filtering_retrieve: allowed(mode.unindexed_filtering_retrieve),
        unindexed_filtering_update: allowed(mode.unindexed_filtering_update),
        search_max_hnsw_ef: small(mode.search_max_hnsw_ef),
        search_allow_exact: allowed(mode.search_allow_exact),
        search_max_oversampling: mode.search_max_oversampling.map(|_| f64::from(f32::MAX)),
        upsert_max_batchsize: count(mode.upsert_max_batchsize),
        search_max_batchsize: count(mode.search_max_batchsize),
        max_collection_vector_size_bytes: count(mode.max_collection_vector_size_bytes),
        max_collection_payload_size_bytes: count(mode.max_collection_payload_size_bytes),
        read_rate_limit: small(mode.read_rate_limit),
        write_rate_limit: small(mode.write_rate_limit),
        filter_max_conditions: count(mode.filter_max_conditions),
        condition_max_size: count(mode.condition_max_size),
        // About what is written only.
        multivector_config: mode.multivector_config,
        sparse_config: mode.sparse_config,
        max_points_count: count(mode.max_points_count),
        max_payload_index_count: count(mode.max_payload_index_count),
        max_resident_memory_percent: mode.max_resident_memory_percent.map(|_| 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(toml: &str) -> Fence {
        Fence::around(&toml::from_str(toml).unwrap())
    }

    #[test]
    fn a_fence_refuses_writes_and_leaves_readers_what_they_had() {
        let on =
            fence("strict_mode_config = { enabled = true, max_query_limit = 10, write_rate_limit = 900 }");
        let up = on.up();
        assert_eq!((up.enabled, up.max_query_limit), (Some(true), Some(10)));
        assert_eq!((up.upsert_max_batchsize, up.write_rate_limit), (Some(0), Some(1)));
        assert_eq!(up.max_collection_payload_size_bytes, Some(0));
        // What was written down and not in force.
        let off = fence("strict_mode_config = { max_query_limit = 10, search_allow_exact = false }");
        let up = off.up();
        assert_eq!((up.max_query_limit, up.search_allow_exact), (Some(u32::MAX), Some(true)));
        assert_eq!(fence("").up().write_rate_limit, Some(1));
    }

    #[test]
    fn what_was_there_before_comes_back() {
        let on =
            fence("strict_mode_config = { enabled = true, max_query_limit = 10, write_rate_limit = 900 }");
        let down = on.down();
        assert_eq!(
            (down.enabled, down.max_query_limit, down.write_rate_limit),
            (Some(true), Some(10), Some(900))
        );
        assert_eq!(down.upsert_max_batchsize, Some(NO_LIMIT));
        let off = fence("strict_mode_config = { max_query_limit = 10 }").down();
        assert_eq!((off.enabled, off.max_query_limit), (Some(false), Some(10)));
        assert_eq!(fence("").down().enabled, Some(false));
    }

    #[test]
    fn a_fence_is_kept_in_the_metadata() {
        let mut schema: Schema = toml::from_str("metadata = { own = 1 }").unwrap();
        let fence = fence("strict_mode_config = { enabled = true, max_query_limit = 10 }");
        fence.put(&mut schema);
        assert_eq!(Fence::take(&mut schema), Ok(Some(fence)));
        assert_eq!(Fence::take(&mut schema), Ok(None));
        assert_eq!(schema.metadata.len(), 1);
        schema.metadata.insert(FENCE_KEY.into(), 3.into());
        assert!(Fence::take(&mut schema).is_err());
    }
}
