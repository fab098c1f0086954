//! Keeps writers out of a collection while another takes its place, and proves that none got in.

use super::client::{Client, within};
use super::convert;
use super::fault::{Fault, Kind};
use super::licence::{licence, ticking};
use super::points::pb_id;
use crate::collection::{
    COMPARED_KEY, FENCE_KEY, Fence, Observed, OptimizersConfig, PointId, Schema, StrictModeConfig,
};
use crate::error::{Error, ExitCode, Result};
use qdrant_client::qdrant as pb;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

/// How long the one write that a server lets through within a minute, and that tandem took, keeps every other out. A little
/// less, for the server's clock.
const HOLDS: Duration = Duration::from_secs(58);

/// Until it is taken again.
const RENEW: Duration = Duration::from_secs(30);

/// For what a server had let in before the fence to be queued: a fence waits behind that queue.
const UNDER_WAY: Duration = Duration::from_millis(200);

/// How often the write is tried to be taken before a writer who is faster.
const ROUNDS: u32 = 10;

/// Tries a shard: each goes to a shard that its id chooses.
const TRIES: usize = 64;

/// Until a write that changes nothing is given up.
const WRITE: Duration = Duration::from_secs(600);

/// A fence that this run holds up.
///
/// A write rate of one a minute is a fence that tells whether somebody climbed over it: setting it fills the bucket, and a
/// deletion of an id that nobody has empties it. If that deletion is let through, no other write was since the setting and
/// none will be for a minute; if not, somebody else's was.
pub(super) struct Fenced<'a> {
    client: &'a Client,
    name: &'a str,
    fence: Fence,
    shards: usize,
    /// Since when nothing is let through.
    since: Instant,
    /// Nobody wrote since [`Fenced::begin`].
    whole: bool,
    /// The server keeps deletions out too.
    holds: bool,
    /// Deletions of its own so far, and the number that the last of them had.
    own: u64,
    number: Option<u64>,
}

/// How far a collection's operations had come (docs/decisions/0022). For one run only: a snapshot that is recovered takes the
/// numbers back.
#[derive(Debug, Clone)]
pub(super) struct Numbered {
    /// In the metadata of the collection: one that is made anew begins its numbers anew.
    mark: PointId,
    last: u64,
}

impl Client {
    /// Keeps writers out of a collection. Each call that does follows a look at the lock: a run that was paused would else keep them
    /// out of what its successor made of it.
    pub(super) async fn fence<'a>(
        &'a self,
        name: &'a str,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<Fenced<'a>> {
        let (fence, observed) = self.raise(name, note).await?;
        let shards = observed.schema.shard_number.and_then(|n| n.try_into().ok()).unwrap_or(1);
        let since = Instant::now();
        let mut fenced = Fenced {
            client: self,
            name,
            fence,
            shards,
            since,
            whole: false,
            holds: true,
            own: 0,
            number: None,
        };
        fenced.renew(note).await?;
        tokio::time::sleep(UNDER_WAY).await;
        Ok(fenced)
    }

    /// Refuses what puts vectors or payloads. What undoes it is in the collection's metadata before, and both are in its snapshots.
    pub(super) async fn raise(
        &self,
        name: &str,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<(Fence, Observed)> {
        let Some(observed) = self.inspect(name).await? else { return Err(gone(name)) };
        let fence = observed.fence.clone().unwrap_or_else(|| Fence::around(&observed.schema));
        let mut kept = Schema::default();
        fence.put(&mut kept);
        licence(note).await?;
        self.change(name, kept).await?;
        match self.inspect(name).await?.and_then(|observed| observed.fence) {
            Some(there) if there == fence => {}
            _ => return Err(not_taken(name, "what the fence replaces")),
        }
        licence(note).await?;
        self.put_up(name, &fence, &fence.going_up()).await?;
        Ok((fence, observed))
    }

    /// Lets writers in again, as they were let in before. Nothing is done where no fence is up, or no collection there.
    pub async fn open_fence(&self, name: &str) -> Result<()> {
        let Some(fence) = self.inspect(name).await?.and_then(|observed| observed.fence) else {
            return Ok(());
        };
        let down = fence.down();
        self.set_strict_mode(name, &down).await?;
        let mut forgotten = Schema::default();
        for key in [FENCE_KEY, COMPARED_KEY] {
            forgotten.metadata.insert(key.to_owned(), serde_json::Value::Null);
        }
        self.change(name, forgotten).await?;
        match self.inspect(name).await? {
            Some(observed) if observed.fence.is_some() => Err(not_taken(name, "that its fence is gone")),
            _ => Ok(()),
        }
    }

    /// Before a comparison: what tells later whether it still holds. `None` where the numbers of operations do not tell that.
    pub(super) async fn numbered(&self, name: &str) -> Result<Option<Numbered>> {
        let Some(observed) = self.inspect(name).await? else { return Err(gone(name)) };
        // Each shard has numbers of its own.
        if observed.schema.shard_number != Some(1) || observed.schema.sharding_method.is_some() {
            return Ok(None);
        }
        let mark = unused_id();
        self.mark(name, serde_json::json!(mark)).await?;
        match self.write_nothing(name, &unused_id()).await {
            Ok(number) => Ok(number.map(|last| Numbered { mark, last })),
            Err(fault) if matches!(fault.kind, Kind::Throttled { .. }) => Ok(None),
            Err(fault) => Err(self.error(fault).at(format_args!("collection {name}"))),
        }
    }

    /// Undoes [`Client::numbered`], which a snapshot that was taken meanwhile brings back.
    pub async fn unmark(&self, name: &str) -> Result<()> {
        match self.marked(name).await? {
            Some(_) => self.mark(name, serde_json::Value::Null).await,
            None => Ok(()),
        }
    }

    async fn mark(&self, name: &str, mark: serde_json::Value) -> Result<()> {
        let metadata = [(COMPARED_KEY.to_owned(), mark)].into();
        self.change(name, Schema { metadata, ..Schema::default() }).await
    }

    async fn marked(&self, name: &str) -> Result<Option<serde_json::Value>> {
        Ok(self.described(name).await?.metadata.remove(COMPARED_KEY))
    }

    /// From now on a flush comes every so many seconds. Until it does, only the log of operations has on disk what was written; that
    /// goes into a snapshot as well, and is run through by its recovery, which takes three times as long then (Qdrant 1.17).
    pub(super) async fn flush_every(&self, name: &str, seconds: u64) -> Result<()> {
        let flush_interval_sec = Some(seconds);
        let optimizers_config = Some(OptimizersConfig { flush_interval_sec, ..Default::default() });
        self.change(name, Schema { optimizers_config, ..Schema::default() }).await
    }

    /// One of the modes of a fence whose record is in the collection's metadata. The lock was looked at before, and still the call
    /// may have been on its way until a successor was done: then the record is gone, and nobody else takes it down.
    async fn put_up(&self, name: &str, fence: &Fence, mode: &StrictModeConfig) -> Result<()> {
        let there = self.set_strict_mode(name, mode).await?;
        if there.metadata.contains_key(FENCE_KEY) {
            return Ok(());
        }
        self.set_strict_mode(name, &fence.down()).await?;
        Err(Error::overtaken(format!(
            "collection {name} was fenced off after another run had let writers in again; they are let in"
        )))
    }

    /// The collection as it is described behind it.
    async fn set_strict_mode(&self, name: &str, mode: &StrictModeConfig) -> Result<Schema> {
        self.change(name, Schema { strict_mode_config: Some(mode.clone()), ..Schema::default() }).await?;
        // The collection as it is described otherwise shows what it was before.
        let described = self.described(name).await?;
        match has_mode(&described, mode) {
            true => Ok(described),
            false => Err(not_taken(name, "its strict mode")),
        }
    }

    async fn described(&self, name: &str) -> Result<Schema> {
        let info = self.info(name).await.map_err(|fault| self.error(fault))?;
        Ok(convert::schema(info.config.unwrap_or_default(), Default::default()))
    }

    async fn change(&self, name: &str, schema: Schema) -> Result<()> {
        let request = convert::update_collection(name, &schema);
        self.update(request).await.map_err(|fault| self.error(fault).at(format_args!("the fence of {name}")))
    }

    /// A write that changes nothing: it deletes an id that was made for it. Behind everything that its shard has accepted.
    /// The number is that of the operation.
    pub(super) async fn write_nothing(
        &self,
        name: &str,
        id: &PointId,
    ) -> std::result::Result<Option<u64>, Fault> {
        let ids = pb::PointsIdsList { ids: vec![pb_id(id)] };
        let request = pb::DeletePoints {
            collection_name: name.to_owned(),
            wait: Some(true),
            points: Some(pb::PointsSelector {
                points_selector_one_of: Some(pb::points_selector::PointsSelectorOneOf::Points(ids)),
            }),
            ..Default::default()
        };
        let reply = self.points().delete(within(WRITE, request)).await?.into_inner();
        Ok(reply.result.and_then(|result| result.operation_id))
    }
}

impl Fenced<'_> {
    /// From here on it is told whether somebody wrote.
    pub(super) async fn begin(
        &mut self,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<()> {
        self.renew(note).await?;
        self.whole = true;
        Ok(())
    }

    /// Was nothing written between [`Client::numbered`] and [`Fenced::begin`]? Then all numbers in between are the fence's
    /// own. The mark is looked at last: what has it is what was numbered, and what is fenced off.
    pub(super) async fn proves_idle_since(&self, since: &Numbered) -> Result<bool> {
        let own = since.last.checked_add(self.own);
        if !self.whole || !self.holds || self.shards != 1 || own.is_none() || own != self.number {
            tracing::debug!(own, number = self.number, "Operations of {} since it was compared", self.name);
            return Ok(false);
        }
        Ok(self.client.marked(self.name).await? == Some(serde_json::json!(since.mark)))
    }

    /// To be called at least once a minute.
    pub(super) async fn keep(
        &mut self,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<()> {
        if self.since.elapsed() >= RENEW { self.renew(note).await } else { Ok(()) }
    }

    /// Keeps it up for as long as something else takes.
    pub(super) async fn during<T>(
        &mut self,
        work: impl Future<Output = Result<T>>,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<T> {
        let keep = async || {
            note(None).await?;
            self.keep(note).await
        };
        ticking(work, RENEW, keep).await
    }

    /// Did nobody write since [`Fenced::begin`], and will nobody for the next moments?
    pub(super) async fn is_whole(
        &mut self,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<bool> {
        self.keep(note).await?;
        // Somebody else may have opened it: an operator, or a call of an earlier run that arrives only now.
        let there = self.client.described(self.name).await?;
        let stands = has_mode(&there, &self.fence.up()) && there.metadata.contains_key(FENCE_KEY);
        self.whole &= stands;
        Ok(self.whole && self.since.elapsed() < HOLDS)
    }

    async fn renew(&mut self, note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>) -> Result<()> {
        if self.since.elapsed() >= HOLDS {
            self.whole = false;
        }
        for _ in 0..ROUNDS {
            licence(note).await?;
            let set = Instant::now();
            self.client.put_up(self.name, &self.fence, &self.fence.up()).await?;
            if self.take().await? {
                self.since = set;
                return Ok(());
            }
            self.whole = false;
        }
        Err(Error::new(
            ExitCode::Refused,
            format!("collection {} is written to again and again while it is fenced off", self.name),
        )
        .expected("a collection that nobody writes to while another takes its place")
        .remedy("stop the application that writes to it, then start again; its points are as they were"))
    }

    /// Takes the one write of every shard; `false` if somebody else had one.
    async fn take(&mut self) -> Result<bool> {
        let (mut taken, mut refused) = (0, false);
        for _ in 0..self.shards * TRIES {
            match self.client.write_nothing(self.name, &unused_id()).await {
                Ok(number) => {
                    taken += 1;
                    self.own += 1;
                    self.number = number;
                }
                Err(fault) if matches!(fault.kind, Kind::Throttled { .. }) => refused = true,
                Err(fault) => {
                    return Err(self.client.error(fault).at(format_args!("the fence of {}", self.name)));
                }
            }
            if taken > self.shards {
                if std::mem::take(&mut self.holds) {
                    tracing::warn!(
                        "This Qdrant does not keep deletions out of {} (write_rate_limit): only the comparison finds them",
                        self.name
                    );
                }
                return Ok(true);
            }
            if taken == self.shards && refused {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Are these limits in force, as far as a fence is made of them? What is not set stays as it is.
fn has_mode(described: &Schema, mode: &StrictModeConfig) -> bool {
    described.strict_mode_config.as_ref().is_some_and(|there| {
        (mode.enabled.is_none() || there.enabled == mode.enabled)
            && [
                (mode.upsert_max_batchsize, there.upsert_max_batchsize),
                (mode.max_collection_payload_size_bytes, there.max_collection_payload_size_bytes),
                (mode.write_rate_limit.map(u64::from), there.write_rate_limit.map(u64::from)),
            ]
            .iter()
            .all(|(set, there)| set.is_none() || set == there)
    })
}

/// An id that no point has, of the form of a random UUID.
pub(super) fn unused_id() -> PointId {
    let random = || RandomState::new().hash_one(Instant::now());
    let (high, low) = (random(), random());
    PointId::Uuid(format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    ))
}

fn gone(name: &str) -> Error {
    Error::new(ExitCode::StepFailed, format!("collection {name} is gone"))
        .remedy("find out what deletes collections on this server while tandem runs")
}

fn not_taken(name: &str, what: &str) -> Error {
    Error::new(
        ExitCode::StepFailed,
        format!("collection {name}: the server accepted {what} and did not take it"),
    )
    .expected("what was sent, read back")
    .remedy("find out what else changes the collection, then run again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unused_id_is_a_uuid_and_another_each_time() {
        let PointId::Uuid(id) = unused_id() else { panic!() };
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
        assert_ne!(unused_id(), unused_id());
    }
}
