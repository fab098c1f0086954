//! What one node of several can do on its own, and what it cannot: a snapshot has the points of one node.

use super::client::{Client, within};
use super::fault::Fault;
use crate::error::{Error, ExitCode, Result};
use qdrant_client::qdrant as pb;
use std::time::Duration;

/// Of a call that reads.
const READ: Duration = Duration::from_secs(10);

impl Client {
    /// Proves that this node has all of a collection, in a form that a snapshot keeps.
    ///
    /// # Errors
    /// Shards on other nodes: its snapshot would have a part of the points. Shards by key: a snapshot restored under
    /// another name loses them (qdrant#10135).
    pub async fn node_has_all_of(&self, collection: &str) -> Result<()> {
        let request = pb::CollectionClusterInfoRequest { collection_name: collection.to_owned() };
        let at = |fault: Fault| self.error(fault).at(format_args!("where the shards of {collection} are"));
        let info = self
            .patiently(async || {
                let reply = self.collections().collection_cluster_info(within(READ, request.clone())).await?;
                Ok(reply.into_inner())
            })
            .await
            .map_err(at)?;
        let refused = |found: String| {
            Error::new(ExitCode::Refused, found).expected("all shards of the collection on this node, placed by the server").remedy(
                "take the snapshot on every node with Qdrant's own calls, and keep the declaration as the collection is",
            )
        };
        if !info.remote_shards.is_empty() {
            return Err(refused(format!(
                "collection {collection} is distributed: {} of its shard replicas are on other nodes, and a snapshot has one node's points",
                info.remote_shards.len()
            )));
        }
        if info.local_shards.iter().any(|shard| shard.shard_key.is_some()) {
            return Err(refused(format!(
                "collection {collection} has custom sharding: a snapshot of it, restored under another name, loses its points"
            )));
        }
        Ok(())
    }

    /// Proves that this server is the only node: a collection restored on one of several would be whole on none.
    pub(super) async fn only_node(&self) -> Result<()> {
        let nodes = self.nodes().await?;
        match nodes {
            0 | 1 => Ok(()),
            _ => Err(Error::new(
                ExitCode::Refused,
                format!("this server is one of {nodes} nodes, and a snapshot is restored on one node only"),
            )
            .expected("a server without distributed mode, or the only node")
            .remedy("restore it on every node with Qdrant's own calls")),
        }
    }
}
