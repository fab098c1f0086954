//! Fills in place: page by page in the order of ids, only what a point lacks, and proven by another look at all points.

use super::claim::Claim;
use super::client::Client;
use super::convert;
use super::points::{Selection, page_limit, path, pb_id, pb_vectors};
use super::wide::wide;
use crate::collection::{Difference, Due, Observed, Point, PointId, Refusals, fillable, touched, transform};
use crate::error::{Error, ExitCode, Result};
use crate::progress::{Meter, Unit};
use qdrant_client::qdrant as pb;
use qdrant_client::qdrant::points_update_operation::{DeletePayload, Operation, SetPayload, UpdateVectors};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Points of the largest page.
pub(super) const PAGE: u32 = 256;

/// Bytes that a page should have, about.
pub(super) const BYTES: usize = 4 << 20;

/// Between two notes of how far a fill has come.
pub(super) const NOTE: Duration = Duration::from_secs(1);

/// Until updates that stay queued or deferred are taken for a hindrance: an optimization takes minutes.
const SETTLE: Duration = Duration::from_secs(600);

/// Between two looks at them.
const POLL: Duration = Duration::from_millis(100);

/// How often all points are looked at until none is left.
const PASSES: u32 = 3;

/// How a fill reads and writes one collection.
struct Plan<'a> {
    collection: &'a str,
    due: &'a [Due],
    vectors: Selection,
    payload: Selection,
    /// Vectors that the collection has; what a fill makes for a later one in between is not written.
    names: BTreeSet<String>,
    limit: u32,
    total: u64,
}

impl Client {
    /// How many points of a collection a fill would change; changes none.
    ///
    /// # Errors
    /// Points that cannot be filled, a source that the collection lacks, and a strict mode that forbids it.
    pub async fn unfilled(&self, collection: &str, due: &[Due], meter: &Meter) -> Result<u64> {
        let plan = self.fill_plan(collection, due).await?;
        self.look(&plan, None, meter, &mut async |_| Ok(())).await
    }

    /// Fills a collection in place and proves it. Every point is looked at first, so that one which cannot be filled
    /// stops the fill before its first write. `from` is where an earlier run stopped, as `note` was told: a point before
    /// which everything is written. `note` is called about once a second, without a point while none is written.
    ///
    /// # Errors
    /// As [`Client::unfilled`], those of `note`, and a writer that keeps adding points without what is filled.
    pub async fn fill(
        &self,
        collection: &str,
        due: &[Due],
        from: Option<&PointId>,
        meter: &Meter,
        mut note: impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<()> {
        let plan = self.fill_plan(collection, due).await?;
        let mut from = from.cloned();
        let mut left = self.look(&plan, from.as_ref(), meter, &mut note).await?;
        for _ in 0..PASSES {
            if left > 0 {
                self.write_pass(&plan, from.take(), meter, &mut note).await?;
            }
            left = self.look(&plan, None, meter, &mut note).await?;
            if left == 0 {
                meter.end();
                return Ok(());
            }
        }
        Err(Error::new(
            ExitCode::Refused,
            format!(
                "{} of collection {collection} lack what was just filled",
                crate::words::count(left as usize, "point")
            ),
        )
        .expected("a collection that nobody writes to while it is filled")
        .remedy("stop the application that writes to it, then start again"))
    }

    async fn fill_plan<'a>(&self, collection: &'a str, due: &'a [Due]) -> Result<Plan<'a>> {
        let observed = self.inspect(collection).await?.ok_or_else(|| {
            Error::new(ExitCode::StepFailed, format!("collection {collection} is gone"))
                .remedy("find out what deletes collections on this server while tandem runs")
        })?;
        fillable(collection, due, &observed)?;
        let (vectors, keys) = touched(due);
        let schema = &observed.schema;
        let names: BTreeSet<String> =
            schema.vectors.keys().chain(schema.sparse_vectors.keys()).cloned().collect();
        let selected = vectors.into_iter().filter(|name| names.contains(*name));
        Ok(Plan {
            collection,
            due,
            vectors: Selection::Only(selected.map(str::to_owned).collect()),
            payload: Selection::Only(keys.into_iter().map(str::to_owned).collect()),
            names,
            limit: limit(collection, &observed)?,
            total: self.count_points(collection).await?,
        })
    }

    /// Counts what is left to write from a point on.
    async fn look(
        &self,
        plan: &Plan<'_>,
        from: Option<&PointId>,
        meter: &Meter,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<u64> {
        self.settled(plan.collection).await?;
        let mut noted = Instant::now();
        meter.begin("check fill", Some(plan.collection), Unit::Points, 0, Some(plan.total));
        let (mut left, mut refusals, mut from, mut limit) =
            (0, Refusals::default(), from.cloned(), plan.limit);
        loop {
            let (points, next) = self.page(plan, from.as_ref(), &mut limit).await?;
            meter.add(points.len() as u64);
            let mut filled = points.clone();
            refusals.add(transform(plan.due, &mut filled).await?);
            left += plan.differences(&points, &filled).count() as u64;
            match next {
                Some(next) => from = Some(next),
                None => break,
            }
            if noted.elapsed() >= NOTE {
                note(None).await?;
                noted = Instant::now();
            }
        }
        refusals.check(plan.collection)?;
        Ok(left)
    }

    /// Waits until reads show every point: what is queued, or deferred by `prevent_unoptimized`, they do not show, and it
    /// would stay without what is filled.
    pub(super) async fn settled(&self, collection: &str) -> Result<()> {
        let hidden = |found: String| {
            Error::new(ExitCode::Refused, found)
                .expected("a collection whose reads show every point")
                .remedy("declare optimizers_config.prevent_unoptimized = false until the fill is done, stop what writes, and start again")
        };
        let began = Instant::now();
        loop {
            let Some(observed) = self.inspect(collection).await? else { return Ok(()) };
            let deferring = observed.schema.optimizers_config.as_ref();
            if deferring.and_then(|optimizers| optimizers.prevent_unoptimized) == Some(true)
                && observed.deferred_points.is_none()
            {
                return Err(hidden(format!(
                    "collection {collection} hides points until they are optimized (prevent_unoptimized), and this server does not tell how many"
                )));
            }
            let waiting =
                observed.queued_updates.unwrap_or_default() + observed.deferred_points.unwrap_or_default();
            if waiting == 0 {
                return Ok(());
            }
            if began.elapsed() > SETTLE {
                return Err(hidden(format!(
                    "{} of collection {collection} are queued or deferred and not shown to readers",
                    crate::words::count(waiting as usize, "update")
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn write_pass(
        &self,
        plan: &Plan<'_>,
        from: Option<PointId>,
        meter: &Meter,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<()> {
        let claim = self.claim(plan.collection, note).await?;
        let written = self.write_through(&claim, plan, from, meter, note).await;
        self.release(&claim, written).await
    }

    async fn write_through(
        &self,
        claim: &Claim<'_>,
        plan: &Plan<'_>,
        from: Option<PointId>,
        meter: &Meter,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<()> {
        meter.begin("fill", Some(plan.collection), Unit::Points, 0, Some(plan.total));
        let (mut from, mut limit, mut noted) = (from, plan.limit, Instant::now());
        loop {
            let (points, next) = self.page(plan, from.as_ref(), &mut limit).await?;
            let mut filled = points.clone();
            let refused = transform(plan.due, &mut filled).await?;
            if !refused.is_empty() {
                let mut refusals = Refusals::default();
                refusals.add(refused);
                refusals.check(plan.collection)?;
            }
            let mut differences: Vec<(&PointId, Difference)> = plan.differences(&points, &filled).collect();
            // Before anything is removed: a renamed value is always there under one of its names.
            self.write_wide(claim, take_wide(&mut differences)).await?;
            let operations = operations(differences.into_iter());
            if !operations.is_empty() {
                self.write(claim, operations).await?;
            }
            meter.add(points.len() as u64);
            let Some(next) = next else { return Ok(()) };
            if noted.elapsed() >= NOTE {
                note(Some(&next)).await?;
                noted = Instant::now();
            }
            from = Some(next);
        }
    }

    /// A page whose size follows the bytes of its points.
    async fn page(
        &self,
        plan: &Plan<'_>,
        from: Option<&PointId>,
        limit: &mut u32,
    ) -> Result<(Vec<Point>, Option<PointId>)> {
        let mut page = self.scroll(plan.collection, from, *limit, &plan.vectors, &plan.payload).await?;
        self.restore_wide(plan.collection, &mut page.points).await?;
        let bytes: usize = page.points.iter().map(Point::bytes).sum();
        if bytes > BYTES {
            *limit = (*limit / 2).max(1);
        } else if bytes < BYTES / 4 {
            *limit = (*limit * 2).min(plan.limit);
        }
        Ok((page.points, page.next))
    }
}

impl Plan<'_> {
    /// What has to be written, by point.
    fn differences<'p>(
        &'p self,
        before: &'p [Point],
        after: &'p [Point],
    ) -> impl Iterator<Item = (&'p PointId, Difference)> {
        before.iter().zip(after).filter_map(|(before, after)| {
            let mut difference = Difference::between(before, after);
            difference.vectors.retain(|name, _| self.names.contains(name));
            (!difference.is_empty()).then_some((&before.id, difference))
        })
    }
}

/// Points a page may have. Batches of writes are as large, and a strict mode bounds both.
fn limit(collection: &str, observed: &Observed) -> Result<u32> {
    let strict = observed.schema.strict_mode_config.as_ref();
    let writes = strict
        .filter(|strict| strict.enabled == Some(true))
        .and_then(|strict| strict.upsert_max_batchsize)
        .map_or(PAGE, |most| most.try_into().unwrap_or(PAGE));
    match page_limit(strict, PAGE).min(writes) {
        0 => Err(Error::new(
            ExitCode::Refused,
            format!("the strict mode of collection {collection} forbids to read or to write any point"),
        )
        .expected("strict_mode_config with max_query_limit and upsert_max_batchsize above 0, or without them")
        .remedy("lift the limit, or declare a wider one in the version that fills")),
        limit => Ok(limit),
    }
}

/// Takes the values that have to be written over REST out of the differences.
fn take_wide(differences: &mut [(&PointId, Difference)]) -> Vec<(PointId, Map<String, Value>)> {
    let mut all = Vec::new();
    for (id, difference) in differences {
        let wide = wide(&difference.set);
        difference.set.retain(|key, _| !wide.contains_key(key));
        if !wide.is_empty() {
            all.push(((*id).clone(), wide));
        }
    }
    all
}

/// One request's operations: vectors point by point, equal payloads together, and what is removed last, so that a
/// renamed value is always there under one of its names.
fn operations<'p>(
    differences: impl Iterator<Item = (&'p PointId, Difference)>,
) -> Vec<pb::PointsUpdateOperation> {
    let mut vectors = Vec::new();
    let mut set: BTreeMap<String, (Map<String, Value>, Vec<pb::PointId>)> = BTreeMap::new();
    let mut removed: BTreeMap<Vec<String>, Vec<pb::PointId>> = BTreeMap::new();
    for (id, difference) in differences {
        let id = pb_id(id);
        if !difference.vectors.is_empty() {
            vectors.push(pb::PointVectors {
                id: Some(id.clone()),
                vectors: Some(pb_vectors(difference.vectors)),
            });
        }
        if !difference.removed.is_empty() {
            removed.entry(difference.removed).or_default().push(id.clone());
        }
        if !difference.set.is_empty() {
            let text = Value::Object(difference.set.clone()).to_string();
            set.entry(text).or_insert_with(|| (difference.set, Vec::new())).1.push(id);
        }
    }
    let selector = |ids| pb::PointsSelector {
        points_selector_one_of: Some(pb::points_selector::PointsSelectorOneOf::Points(pb::PointsIdsList {
            ids,
        })),
    };
    let mut operations = Vec::new();
    if !vectors.is_empty() {
        operations.push(Operation::UpdateVectors(UpdateVectors { points: vectors, ..Default::default() }));
    }
    operations.extend(set.into_values().map(|(payload, ids)| {
        Operation::SetPayload(SetPayload {
            payload: payload.iter().map(|(key, value)| (key.clone(), convert::pb_value(value))).collect(),
            points_selector: Some(selector(ids)),
            ..Default::default()
        })
    }));
    operations.extend(removed.into_iter().map(|(keys, ids)| {
        Operation::DeletePayload(DeletePayload {
            keys: keys.iter().map(|key| path(key)).collect(),
            points_selector: Some(selector(ids)),
            ..Default::default()
        })
    }));
    operations.into_iter().map(|operation| pb::PointsUpdateOperation { operation: Some(operation) }).collect()
}
