//! What writers that were allowed wrote to the old collection behind the last comparison: missing points are inserted into
//! the new one, and what could be right on either side is named and left as it is.

use super::claim::Claim;
use super::client::{Client, within};
use super::fill::{NOTE, PAGE};
use super::licence::licence;
use super::points::{Selection, page_limit, pb_id, pb_point};
use super::wide::wide;
use crate::collection::{Observed, Point, PointId, Rebuild, ServerVersion};
use crate::error::{Error, ExitCode, Result};
use crate::progress::{Meter, Unit};
use crate::words::thousands;
use qdrant_client::qdrant as pb;
use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

/// The first servers that insert without replacing.
const INSERT_ONLY: ServerVersion = ServerVersion::new(1, 17, 0);

/// For writes that were let in before the switch to be queued.
const UNDER_WAY: Duration = Duration::from_millis(200);

const WRITE: Duration = Duration::from_secs(600);

/// Points of one request.
const BATCH: usize = 64;

/// How many ids are named.
const NAMED: usize = 10;

/// What was found, by id.
#[derive(Debug, Default)]
struct Swept {
    inserted: Ids,
    different: Ids,
    only_new: Ids,
}

#[derive(Debug, Default)]
struct Ids {
    count: u64,
    first: Vec<PointId>,
}

impl Ids {
    fn add(&mut self, id: &PointId) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(id.clone());
        }
    }
}

/// `12 (3, 7, …)`.
impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&thousands(self.count))?;
        if self.count == 0 {
            return Ok(());
        }
        let ids: Vec<String> = self.first.iter().map(ToString::to_string).collect();
        let more = if self.count > NAMED as u64 { ", …" } else { "" };
        write!(f, " ({}{more})", ids.join(", "))
    }
}

/// The points of a collection in the order of their ids.
struct Points<'a> {
    client: &'a Client,
    collection: &'a str,
    limit: u32,
    next: Option<PointId>,
    done: bool,
    ahead: VecDeque<Point>,
}

impl Points<'_> {
    /// Makes sure that the next point is there, if there is one; `made` as the other collection has it.
    async fn fill(&mut self, made: Option<&Rebuild>) -> Result<()> {
        while self.ahead.is_empty() && !self.done {
            let all = Selection::All;
            let mut page =
                self.client.scroll(self.collection, self.next.as_ref(), self.limit, &all, &all).await?;
            self.client.restore_wide(self.collection, &mut page.points).await?;
            self.next = page.next;
            self.done = self.next.is_none();
            let points = match made {
                Some(rebuild) => rebuild.made(page.points).await?,
                None => page.points,
            };
            self.ahead.extend(points);
        }
        Ok(())
    }
}

impl Client {
    /// Holds the old collection of a rebuild against the new one, which applications use by now.
    pub(super) async fn sweep(
        &self,
        rebuild: &Rebuild,
        meter: &Meter,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<()> {
        let (old, new) = (rebuild.source.as_str(), rebuild.shadow.as_str());
        let Some(source) = self.inspect(old).await? else { return Ok(()) };
        let claim = self.claim(new, note).await?;
        let swept = self.sweep_through(&claim, rebuild, &source, meter, note).await;
        self.release(&claim, swept).await
    }

    async fn sweep_through(
        &self,
        claim: &Claim<'_>,
        rebuild: &Rebuild,
        source: &Observed,
        meter: &Meter,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<()> {
        let (old, new) = (rebuild.source.as_str(), rebuild.shadow.as_str());
        tokio::time::sleep(UNDER_WAY).await;
        self.settled(old).await?;
        let server = self.version().await.map_err(|fault| self.error(fault))?;
        meter.begin("sweep", Some(new), Unit::Points, 0, Some(self.count_points(old).await?));
        let strict = |observed: &Observed| observed.schema.strict_mode_config.clone();
        let points = |collection, observed: &Observed| Points {
            client: self,
            collection,
            limit: page_limit(strict(observed).as_ref(), PAGE).max(1),
            next: None,
            done: false,
            ahead: VecDeque::new(),
        };
        let live = self.inspect(new).await?.unwrap_or_else(|| source.clone());
        let (mut there, mut here) = (points(old, source), points(new, &live));
        let most = strict(&live)
            .filter(|strict| strict.enabled == Some(true))
            .and_then(|strict| strict.upsert_max_batchsize?.try_into().ok());
        let batch = BATCH.min(most.unwrap_or(BATCH)).max(1);
        let (mut swept, mut missing, mut noted) = (Swept::default(), Vec::new(), Instant::now());
        loop {
            let (a, b) = tokio::join!(there.fill(Some(rebuild)), here.fill(None));
            a?;
            b?;
            let order = match (there.ahead.front(), here.ahead.front()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.id.cmp(&new.id),
            };
            match order {
                Ordering::Less => missing.extend(there.ahead.pop_front()),
                Ordering::Greater => {
                    here.ahead.pop_front().iter().for_each(|point| swept.only_new.add(&point.id));
                }
                Ordering::Equal => {
                    meter.add(1);
                    if let (Some(old), Some(new)) = (there.ahead.pop_front(), here.ahead.pop_front())
                        && !rebuild.equal(&old, &new)
                    {
                        swept.different.add(&old.id);
                    }
                }
            }
            if noted.elapsed() >= NOTE {
                note(None).await?;
                noted = Instant::now();
            }
            if missing.len() >= batch {
                licence(note).await?;
                self.insert(claim, std::mem::take(&mut missing), server, &mut swept.inserted).await?;
            }
        }
        licence(note).await?;
        self.insert(claim, missing, server, &mut swept.inserted).await?;
        meter.end();
        let undecided = swept.different.count + swept.only_new.count > 0;
        let words = format!(
            "Swept {old} after the switch: {} inserted into {new}; {} different in both and left as they are; {} only in {new}, \
             written since the switch or deleted from {old} before it",
            swept.inserted, swept.different, swept.only_new
        );
        match undecided {
            true => tracing::warn!("{words}; tandem cannot tell, look at these points: {old} is kept"),
            false => tracing::info!("{words}"),
        }
        Ok(())
    }

    /// Inserts points that are not there, and replaces none.
    async fn insert(
        &self,
        claim: &Claim<'_>,
        points: Vec<Point>,
        server: ServerVersion,
        inserted: &mut Ids,
    ) -> Result<()> {
        if points.is_empty() {
            return Ok(());
        }
        let ids: Vec<PointId> = points.iter().map(|point| point.id.clone()).collect();
        let there = self.which(claim.collection, &ids).await?;
        let points: Vec<Point> = points.into_iter().filter(|point| !there.contains(&point.id)).collect();
        points.iter().for_each(|point| inserted.add(&point.id));
        let exact = points.iter().map(|point| (point.id.clone(), wide(&point.payload)));
        let exact = exact.filter(|(_, wide)| !wide.is_empty()).collect();
        let request = pb::UpsertPoints {
            collection_name: claim.alias.clone(),
            wait: Some(true),
            points: points.into_iter().map(pb_point).collect(),
            update_mode: (server >= INSERT_ONLY).then_some(pb::UpdateMode::InsertOnly.into()),
            ..Default::default()
        };
        if request.points.is_empty() {
            return Ok(());
        }
        let reply = self
            .patiently(async || Ok(self.points().upsert(within(WRITE, request.clone())).await?.into_inner()))
            .await
            .map_err(|fault| self.unwritten(claim, fault))?;
        match reply.result.is_some_and(|result| result.status() == pb::UpdateStatus::Completed) {
            true => self.write_wide(claim, exact).await,
            false => Err(Error::new(
                ExitCode::StepFailed,
                format!(
                    "sweeping up into {}: the server took the points and did not complete",
                    claim.collection
                ),
            )
            .remedy("look at the server's log and load, then start again")),
        }
    }

    /// Those of some ids that a collection has.
    async fn which(&self, collection: &str, ids: &[PointId]) -> Result<BTreeSet<PointId>> {
        let request = pb::GetPoints {
            collection_name: collection.to_owned(),
            ids: ids.iter().map(pb_id).collect(),
            with_payload: Some(false.into()),
            ..Default::default()
        };
        let reply = self
            .patiently(async || Ok(self.points().get(within(WRITE, request.clone())).await?.into_inner()))
            .await
            .map_err(|fault| self.error(fault).at(format_args!("reading points of {collection}")))?;
        Ok(reply.result.into_iter().filter_map(|point| super::points::id(point.id?)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ids_are_named_and_all_are_counted() {
        let mut ids = Ids::default();
        assert_eq!(ids.to_string(), "0");
        ids.add(&PointId::Number(3));
        assert_eq!(ids.to_string(), "1 (3)");
        (0..1199).for_each(|n| ids.add(&PointId::Number(n)));
        assert_eq!(ids.to_string(), "1,200 (3, 0, 1, 2, 3, 4, 5, 6, 7, 8, …)");
    }
}
