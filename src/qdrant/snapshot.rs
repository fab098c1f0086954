//! Snapshots of a collection: made, listed and deleted over gRPC. What travels is in [`super::rest`].

use super::client::{Client, within};
use super::fault::{Fault, Kind};
use crate::error::{Error, ExitCode, Result};
use qdrant_client::qdrant as pb;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Until a snapshot is given up: the server copies every segment to disk.
const CREATE: Duration = Duration::from_secs(6 * 3600);

const LIST: Duration = Duration::from_secs(60);

/// A server names snapshots by the second and overwrites one of the same name.
const NEXT_SECOND: Duration = Duration::from_millis(1100);

/// A snapshot as its server lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970, by the server's clock.
    pub created: Option<i64>,
    /// Hex SHA-256; servers with object storage may have none.
    pub checksum: Option<String>,
}

impl Client {
    /// Takes a snapshot and proves that it is listed, whole, under a name that no other had. It holds the node's points,
    /// configuration, metadata and payload indexes, and no aliases.
    ///
    /// Done again after a lost answer it takes another one.
    pub async fn create_snapshot(&self, collection: &str) -> Result<Snapshot> {
        let at = |fault: Fault| self.error(fault).at(format_args!("a snapshot of {collection}"));
        self.node_has_all_of(collection).await?;
        if !self.list_snapshots(collection).await?.is_empty() {
            // Whatever is listed now has a name of this second or an earlier one.
            tokio::time::sleep(NEXT_SECOND).await;
        }
        let request = pb::CreateSnapshotRequest { collection_name: collection.to_owned() };
        let created = self
            .patiently(async || {
                Ok(self.snapshots().create(within(CREATE, request.clone())).await?.into_inner())
            })
            .await
            .map_err(at)?;
        let name = created.snapshot_description.map(|created| created.name).unwrap_or_default();
        let listed = self.list_snapshots(collection).await?.into_iter().find(|listed| listed.name == name);
        listed.filter(|snapshot| snapshot.size > 0).ok_or_else(|| {
            Error::new(
                ExitCode::StepFailed,
                format!(
                    "the server took the snapshot {name:?} of {collection} and does not list it with a size"
                ),
            )
            .expected("a snapshot that can be restored")
            .remedy("look at the server's log and at the free space in its snapshots_path, then run again")
        })
    }

    /// The snapshots of a collection, oldest first; none if it does not exist.
    pub async fn list_snapshots(&self, collection: &str) -> Result<Vec<Snapshot>> {
        let request = pb::ListSnapshotsRequest { collection_name: collection.to_owned() };
        let reply = match self.snapshots().list(within(LIST, request)).await.map_err(Fault::from) {
            Ok(reply) => reply.into_inner(),
            Err(fault) if fault.kind == Kind::NotFound => return Ok(Vec::new()),
            Err(fault) => {
                return Err(self.error(fault).at(format_args!("the snapshots of {collection}")));
            }
        };
        let mut snapshots: Vec<Snapshot> = reply
            .snapshot_descriptions
            .into_iter()
            .map(|listed| Snapshot {
                name: listed.name,
                size: listed.size.try_into().unwrap_or_default(),
                created: listed.creation_time.map(|time| time.seconds),
                checksum: listed.checksum,
            })
            .collect();
        snapshots.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        Ok(snapshots)
    }

    /// Deletes one snapshot by its exact name. One that is gone is no failure.
    pub async fn delete_snapshot(&self, collection: &str, name: &str) -> Result<()> {
        let request = pb::DeleteSnapshotRequest {
            collection_name: collection.to_owned(),
            snapshot_name: name.to_owned(),
        };
        match self.snapshots().delete(within(LIST, request)).await.map_err(Fault::from) {
            Ok(_) => Ok(()),
            Err(fault) if fault.kind == Kind::NotFound => Ok(()),
            Err(fault) => Err(self.error(fault).at(format_args!("snapshot {name} of {collection}"))),
        }
    }
}
