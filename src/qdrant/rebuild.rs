//! The stages of a rebuild: a shadow is filled, proven equal point by point, and takes its source's place.

use super::client::Client;
use super::fault::Kind;
use super::fence::{Fenced, Numbered, unused_id};
use super::fill::{NOTE, PAGE};
use super::licence::{licence, ticking};
use super::points::{Pages, Selection, page_limit, pb_id, pb_point, point, unreadable};
use super::rest::OnItsWay;
use super::wide::wide;
use super::wire::{Digest, PAYLOAD, Retrieved, VECTORS};
use crate::collection::{
    Action, BACK, COPYING, KEPT, Observed, Point, PointId, Rebuild, Role, Schema, Stage, Stamp, Status, Step,
    StrictModeConfig, Switch, VERIFIED, compare, creation, in_place, storable,
};
use crate::error::{Error, ExitCode, Result};
use crate::progress::{Meter, Unit};
use crate::words::{count, thousands};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use qdrant_client::qdrant as pb;
use qdrant_client::qdrant::points_update_operation::{DeletePoints, Operation, PointStructList};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Writes under way beside the next page that is read (docs/performance.md).
const WRITERS: usize = 4;

/// Comparisons of two collections that are to be equal in the end.
const PASSES: u32 = 3;

/// Between two looks at the count of operations of a collection that nobody is to write to.
const IDLE: Duration = Duration::from_millis(500);

/// Seconds between two flushes before the snapshot that a collection comes back from; more often than it needs they cost the
/// comparison beside it a tenth.
const SOON: u64 = 1;

/// Points of one repair.
const REPAIR: usize = 64;

/// One way that points go.
#[derive(Clone, Copy)]
struct Route<'a> {
    rebuild: &'a Rebuild,
    from: &'a str,
    to: &'a str,
    /// Points stay as they are.
    verbatim: bool,
    /// And their vectors are stored as they were.
    exact: bool,
    limit: u32,
    total: u64,
    /// Some point in the middle, if it is known.
    middle: Option<&'a PointId>,
}

/// What a comparison of two collections found.
#[derive(Debug, Default, Clone, PartialEq)]
struct Compared {
    points: u64,
    missing: u64,
    different: u64,
    extra: u64,
    /// Of a shadow that is to come back under another name.
    digest: Option<Digest>,
}

/// A comparison that found source and shadow equal, and what it takes to rely on it later in the same run.
#[derive(Debug)]
pub struct Comparison {
    source: Option<Numbered>,
    points: u64,
    shadow: Option<Digest>,
    /// The shadow's snapshot, for the source's name.
    back: Option<OnItsWay>,
}

impl Compared {
    fn is_equal(&self) -> bool {
        self.missing + self.different + self.extra == 0
    }

    fn digested(&mut self, point: &Walked) {
        match (point, &mut self.digest) {
            (Walked::Read(point), Some(digest)) => digest.add(point),
            (Walked::Made(_), digest) => *digest = None,
            (_, None) => {}
        }
    }

    /// With the points of another part.
    fn and(self, other: Self) -> Self {
        Self {
            points: self.points + other.points,
            missing: self.missing + other.missing,
            different: self.different + other.different,
            extra: self.extra + other.extra,
            digest: self.digest.zip(other.digest).map(|(one, two)| one.and(&two)),
        }
    }

    fn words(&self) -> String {
        format!(
            "{} missing, {} different and {} more than in the source",
            thousands(self.missing),
            thousands(self.different),
            thousands(self.extra)
        )
    }
}

/// A shadow that has everything that its source has, and the fence in front of that.
struct Converged<'a> {
    fenced: Fenced<'a>,
    /// The shadow had to be changed.
    changed: bool,
    digest: Option<Digest>,
}

impl Client {
    /// What can be known before anything is done: the source is whole, on this node, readable and not failing.
    ///
    /// # Errors
    /// What stands in the way, with the remedy.
    pub async fn rebuildable(&self, rebuild: &Rebuild, stage: Stage, meter: &Meter) -> Result<()> {
        if stage != Stage::Shadow {
            return Ok(());
        }
        self.only_node().await?;
        self.node_has_all_of(&rebuild.source).await?;
        let source = self.collection(&rebuild.source).await?;
        if source.status == Status::Red {
            return Err(Error::new(
                ExitCode::Refused,
                format!(
                    "collection {} is red: {}",
                    rebuild.source,
                    source.optimizer_error.unwrap_or_else(|| "the server gives no reason".into())
                ),
            )
            .expected("a collection without an optimizer error")
            .remedy("mend what the server names (a full disk?), then start again"));
        }
        self.settled(&rebuild.source).await?;
        if !rebuild.writers {
            self.idle(&rebuild.source).await?;
        }
        self.storable(rebuild, &source, meter).await
    }

    /// Looks for numbers that the shadow's datatypes have no room for.
    async fn storable(&self, rebuild: &Rebuild, source: &Observed, meter: &Meter) -> Result<()> {
        let narrowed = rebuild.narrowed(&source.schema);
        if narrowed.is_empty() || source.points == 0 {
            return Ok(());
        }
        let total = self.count_points(&rebuild.source).await?;
        meter.begin("check vectors", Some(&rebuild.source), Unit::Points, 0, Some(total));
        let vectors = Selection::Only(narrowed.keys().cloned().collect());
        let nothing = Selection::NOTHING;
        let mut from = None;
        let refused = loop {
            let page =
                self.scroll(&rebuild.source, from.as_ref(), readable(source), &vectors, &nothing).await?;
            meter.add(page.points.len() as u64);
            let all = page
                .points
                .iter()
                .flat_map(|point| point.vectors.iter().map(|(name, v)| (&point.id, name, v)));
            let mut refused = all.filter_map(|(id, name, vector)| {
                let reason = storable(*narrowed.get(name)?, vector).err()?;
                Some((id.clone(), name.clone(), reason))
            });
            match (refused.next(), page.next) {
                (None, Some(next)) => from = Some(next),
                (refused, _) => break refused,
            }
        };
        meter.end();
        let Some((id, name, reason)) = refused else { return Ok(()) };
        Err(Error::new(
            ExitCode::Refused,
            format!(
                "the vector {name} of point {id} in collection {} cannot be copied: {reason}",
                rebuild.source
            ),
        )
        .expected("numbers that the declared datatype can store")
        .remedy("declare another datatype, if need be with a quantization_config"))
    }

    /// Refuses a collection that is being written to. Servers number the operations of a shard: between two that change
    /// nothing there may be no other. A writer who is quiet at that moment is not found.
    async fn idle(&self, name: &str) -> Result<()> {
        let id = unused_id();
        let look = async || match self.write_nothing(name, &id).await {
            // A collection that limits writes is seldom a busy one.
            Err(fault) if matches!(fault.kind, Kind::Throttled { .. }) => Ok(None),
            result => result.map_err(|fault| self.error(fault).at(format_args!("collection {name}"))),
        };
        let first = look().await?;
        tokio::time::sleep(IDLE).await;
        let (Some(first), Some(second)) = (first, look().await?) else { return Ok(()) };
        match second.saturating_sub(first).saturating_sub(1) {
            0 => Ok(()),
            others => Err(Error::new(
                ExitCode::Refused,
                format!(
                    "collection {name} is being written to: {} within {} ms",
                    count(others.try_into().unwrap_or(usize::MAX), "update"),
                    IDLE.as_millis()
                ),
            )
            .expected("a collection that nobody writes to while it is rebuilt")
            .remedy("stop the application that writes to it (strategy: Recreate), then start again; behind an alias --allow-writers lets it go on")),
        }
    }

    /// Does one stage. Done again, after a crash at any place in it, it ends the same. What it returns is for the next one of
    /// the same run: a comparison that need not be made again if nothing is written meanwhile.
    ///
    /// `note` is called about once a second with the point that an interrupted copy goes on from, and without one right
    /// before a call that destroys: it fails if the lock is no longer held.
    ///
    /// # Errors
    /// A writer that changes the source meanwhile, what the server refuses, and those of `note`. Until the source is
    /// deleted, it stays as it was.
    pub async fn rebuild(
        &self,
        rebuild: &Rebuild,
        stage: Stage,
        from: Option<&PointId>,
        earlier: Option<Comparison>,
        meter: &Meter,
        mut note: impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<Option<Comparison>> {
        let done = match stage {
            Stage::Copy => return self.copy_and_verify(rebuild, from, meter, &mut note).await,
            Stage::Shadow => self.fillable_copy(rebuild, &rebuild.shadow, COPYING, &mut note).await,
            Stage::Check => self.check(rebuild, meter, &mut note).await,
            Stage::SwitchAlias => {
                let switched = self.switch_alias(rebuild, earlier, meter, &mut note).await;
                self.or_open(rebuild, switched, &mut note).await
            }
            Stage::Replace => {
                let replaced = self.replace(rebuild, earlier, meter, &mut note).await;
                self.or_open(rebuild, replaced, &mut note).await
            }
            Stage::Sweep => self.sweep(rebuild, meter, &mut note).await,
            Stage::Live => {
                licence(&mut note).await?;
                // Before the final limits: those that a fence puts back are of the collection as it was when the fence went up.
                for name in [&rebuild.source, &rebuild.shadow] {
                    self.open_fence(name).await?;
                }
                self.finalize(rebuild, rebuild.live(), &mut note).await?;
                // What an alias led to before is kept, as it was: a rollback leads to it.
                if rebuild.switch == Switch::KeepName {
                    self.stamp_as(&rebuild.shadow, rebuild.stamp_at(KEPT), &mut note).await?;
                }
                self.stamp_as(rebuild.live(), rebuild.stamp.clone(), &mut note).await
            }
        };
        done.map(|()| None)
    }

    /// Creates what is to be filled, payload indexes before data; one that is there goes on.
    async fn fillable_copy(
        &self,
        rebuild: &Rebuild,
        name: &str,
        phase: &str,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<()> {
        let there = self.inspect(name).await?;
        let stamp = rebuild.stamp_at(phase);
        if let Some(there) = &there
            && !there.stamp.as_ref().is_some_and(|there| there.same_claim(&stamp))
        {
            return Err(Error::new(ExitCode::Refused, format!("`{name}` exists and is not this rebuild's"))
                .expected("a name that is free, or the shadow that the journal names")
                .remedy("find out what made it; tandem deletes nothing that its journal does not name"));
        }
        if let Some(there) = &there {
            licence(note).await?;
            self.open_fence(name).await?;
            self.lift(there, note).await?;
        }
        for action in creation(&rebuild.bulk(), &stamp) {
            let is_create = matches!(action, Action::Create { .. });
            let indexed = match (&action, &there) {
                (Action::CreateIndex { field, index, .. }, Some(there)) => {
                    there.schema.payload_indexes.get(field).is_some_and(|i| i.r#type == index.r#type)
                }
                _ => false,
            };
            if (is_create && there.is_some()) || indexed {
                continue;
            }
            licence(note).await?;
            // A future of its own on the heap: a step may be a stage of a rebuild.
            Box::pin(self.perform(&Step { collection: name.to_owned(), action })).await?;
        }
        Ok(())
    }

    /// Takes the final limits of a copy away again, which would refuse what is still to be written.
    async fn lift(
        &self,
        there: &Observed,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<()> {
        let strict = there.schema.strict_mode_config.as_ref().filter(|strict| strict.enabled == Some(true));
        let Some(strict) = strict else { return Ok(()) };
        licence(note).await?;
        let off = StrictModeConfig { enabled: Some(false), ..strict.clone() };
        let schema = Schema { strict_mode_config: Some(off), ..Schema::default() };
        let changes = vec!["strict_mode_config: off until all points are there".to_owned()];
        let step = Step { collection: there.name.clone(), action: Action::Update { schema, changes } };
        Box::pin(self.perform(&step)).await
    }

    async fn copy_and_verify(
        &self,
        rebuild: &Rebuild,
        from: Option<&PointId>,
        meter: &Meter,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<Option<Comparison>> {
        self.settled(&rebuild.source).await?;
        let route = self.route(rebuild, &rebuild.source, &rebuild.shadow).await?;
        let fresh = from.is_none() && self.count_points(&rebuild.shadow).await? == 0;
        let mut source = None;
        if !rebuild.writers {
            licence(note).await?;
            source = self.numbered(&rebuild.source).await?;
            // What was accepted before that number is shown to readers.
            self.settled(&rebuild.source).await?;
        }
        // What is written from that number on is noticed, so that what is read now need not be read again.
        let mut copied = (fresh && route.exact && source.is_some()).then(|| Digest::new(None));
        let middle = self.copy(route, from.cloned(), &mut copied, meter, note).await?;
        if let Some(copied) = &mut copied {
            copied.middle.clone_from(&middle);
        }
        let route = Route { middle: middle.as_ref(), ..route };
        // A difference is a writer's then, and the shadow is not made to have it.
        let mend = rebuild.writers || !fresh;
        let (mut found, back) =
            self.compare_beside_snapshots(route, mend, copied.as_ref(), meter, note).await?;
        if !found.is_equal() {
            source = None;
            if mend {
                found = self.mend_points(route, meter, note).await?;
            }
        }
        if !rebuild.writers {
            if !found.is_equal() {
                licence(note).await?;
                self.unmark(&rebuild.source).await?;
                return Err(self.written_meanwhile(rebuild, &found));
            }
            self.counted_equal(rebuild, &rebuild.source, &rebuild.shadow, found.points).await?;
        }
        self.finalize(rebuild, &rebuild.shadow, note).await?;
        self.stamp_as(&rebuild.shadow, rebuild.stamp_at(rebuild.compared()), note).await?;
        let found = found.is_equal().then_some(found);
        Ok(found.map(|found| Comparison { source, points: found.points, shadow: found.digest, back }))
    }

    /// Compares source and shadow while the server takes the snapshots: of the source, and of a shadow that is to come back under
    /// its name and is not to be mended, which is on its way there from then on. What comes back has the limits of a fence from
    /// its first moment on, and is proven there.
    async fn compare_beside_snapshots(
        &self,
        route: Route<'_>,
        mend: bool,
        copied: Option<&Digest>,
        meter: &Meter,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<(Compared, Option<OnItsWay>)> {
        let back = !mend && route.rebuild.switch == Switch::KeepName;
        if back {
            licence(note).await?;
            self.flush_every(route.to, SOON).await?;
            self.raise(route.to).await?;
        }
        let snapshots = async {
            let began = Instant::now();
            self.create_snapshot(route.from).await?;
            let shadow = match back {
                true => Some(self.create_snapshot(route.to).await?),
                false => None,
            };
            tracing::debug!("took the snapshots in {:.2} s", began.elapsed().as_secs_f64());
            Ok(shadow.map(|shadow| self.begin_to_restore(route.to, &shadow, route.from)))
        };
        let compared = async {
            match mend {
                true => self.mend_points(route, meter, note).await,
                false => self.compare_points(route, copied, meter, note).await,
            }
        };
        let (found, on_its_way) = tokio::try_join!(compared, snapshots)?;
        if back {
            licence(note).await?;
            self.open_fence(route.to).await?;
        }
        Ok((found, on_its_way))
    }

    /// The aliases lead to the shadow, which has everything then.
    async fn switch_alias(
        &self,
        rebuild: &Rebuild,
        earlier: Option<Comparison>,
        meter: &Meter,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<()> {
        let shadow = self.collection(&rebuild.shadow).await?;
        // From the first alias on that leads to it, what is in the shadow is newer.
        if !shadow.aliases.iter().any(|alias| rebuild.aliases.contains(alias)) {
            if rebuild.writers {
                self.lift(&shadow, note).await?;
                let route = self.route(rebuild, &rebuild.source, &rebuild.shadow).await?;
                self.mend_points(route, meter, note).await?;
                self.finalize(rebuild, &rebuild.shadow, note).await?;
            } else {
                let Converged { mut fenced, .. } = self.converge(rebuild, earlier, meter, note).await?;
                self.still_whole(rebuild, &mut fenced, note).await?;
            }
        }
        self.lead(rebuild.aliases.iter().map(String::as_str), &rebuild.shadow, note).await
    }

    /// Compares source and shadow once more behind a fence, until nothing was written from the beginning of a comparison to
    /// its end. An earlier one that is proven to hold is that one.
    async fn converge<'a>(
        &'a self,
        rebuild: &'a Rebuild,
        mut earlier: Option<Comparison>,
        meter: &Meter,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<Converged<'a>> {
        let (source, shadow) = (rebuild.source.as_str(), rebuild.shadow.as_str());
        licence(note).await?;
        let (mut fenced, mut changed) = (self.fence(source).await?, false);
        self.open_fence(shadow).await?;
        self.lift(&self.collection(shadow).await?, note).await?;
        let mut found = Compared::default();
        for _ in 0..PASSES {
            licence(note).await?;
            fenced.begin().await?;
            self.settled(source).await?;
            // The application may have made it anew, after a deletion that was interrupted.
            let emptied = rebuild.switch == Switch::KeepName && self.count_points(source).await? == 0;
            let mut digest = None;
            let holding = match earlier.take() {
                Some(Comparison { source: Some(since), points, shadow, .. })
                    if fenced.proves_idle_since(&since).await? =>
                {
                    Some((points, shadow))
                }
                _ => None,
            };
            if let Some((points, shadow_as)) = holding {
                tracing::info!("Nothing was written to {source} since it was compared");
                self.counted_equal(rebuild, source, shadow, points).await?;
                digest = shadow_as;
            } else if !emptied {
                let route = self.route(rebuild, source, shadow).await?;
                let mut keep = async |next: Option<&PointId>| {
                    note(next).await?;
                    fenced.keep().await
                };
                found = self.mend_points(route, meter, &mut keep).await?;
                if !found.is_equal() {
                    changed = true;
                    tracing::info!(
                        "Brought over what was written to {source} since the copy: {}",
                        found.words()
                    );
                    continue;
                }
                self.counted_equal(rebuild, source, shadow, found.points).await?;
                digest = found.digest.take();
            }
            self.finalize(rebuild, shadow, note).await?;
            licence(note).await?;
            if fenced.is_whole().await? {
                return Ok(Converged { fenced, changed, digest });
            }
        }
        Err(self.written_meanwhile(rebuild, &found))
    }

    async fn still_whole(
        &self,
        rebuild: &Rebuild,
        fenced: &mut Fenced<'_>,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<()> {
        licence(note).await?;
        match fenced.is_whole().await? {
            true => Ok(()),
            false => Err(self.written_meanwhile(rebuild, &Compared::default())),
        }
    }

    /// A run that stops leaves the collection to its writers, if it still may touch it.
    async fn or_open(
        &self,
        rebuild: &Rebuild,
        done: Result<()>,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<()> {
        if done.is_err()
            && licence(note).await.is_ok()
            && let Err(error) = self.open_fence(&rebuild.source).await
        {
            tracing::warn!("{}; the next start lets writers in again", error.found);
        }
        done
    }

    fn written_meanwhile(&self, rebuild: &Rebuild, found: &Compared) -> Error {
        Error::new(
            ExitCode::Refused,
            format!("collection {} was written to while it was copied: {}", rebuild.source, found.words()),
        )
        .expected("a collection that nobody writes to while it is rebuilt")
        .remedy("stop the application that writes to it (strategy: Recreate), then start again; its points are as they were")
    }

    /// A verified shadow is held against its source again. The source may be another by now: one that the application
    /// made after the first had been deleted.
    async fn check(
        &self,
        rebuild: &Rebuild,
        meter: &Meter,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<()> {
        let (source, shadow) =
            (self.collection(&rebuild.source).await?, self.collection(&rebuild.shadow).await?);
        let verified = shadow.stamp.is_some_and(|stamp| stamp.same_claim(&rebuild.stamp_at(VERIFIED)));
        let made_empty = rebuild.switch == Switch::KeepName && source.points == 0 && source.stamp.is_none();
        if made_empty && verified {
            return Ok(());
        }
        let route = self.route(rebuild, &rebuild.source, &rebuild.shadow).await?;
        if rebuild.switch == Switch::Alias {
            self.lift(&self.collection(&rebuild.shadow).await?, note).await?;
        }
        let found = match rebuild.switch {
            Switch::Alias => self.mend_points(route, meter, note).await?,
            Switch::KeepName => self.compare_points(route, None, meter, note).await?,
        };
        if !found.is_equal() && rebuild.switch == Switch::KeepName {
            return Err(Error::new(
                ExitCode::Refused,
                format!(
                    "collection {} is no longer what its verified copy `{}` is: {}",
                    rebuild.source,
                    rebuild.shadow,
                    found.words()
                ),
            )
            .expected("the collection as it was when the rebuild was interrupted, or an empty one")
            .remedy(format!(
                "if the collection is right, remove the copy and start again: tandem retained drop {}; if the copy is, move the collection's points aside first",
                rebuild.shadow
            )));
        }
        if !found.is_equal() && !rebuild.writers {
            let again = self.compare_points(route, None, meter, note).await?;
            if !again.is_equal() {
                return Err(self.written_meanwhile(rebuild, &again));
            }
        }
        self.stamp_as(&rebuild.shadow, rebuild.stamp_at(rebuild.compared()), note).await
    }

    /// The shadow's points come back under the source's own name.
    async fn replace(
        &self,
        rebuild: &Rebuild,
        mut earlier: Option<Comparison>,
        meter: &Meter,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<()> {
        let (name, shadow) = (rebuild.source.as_str(), rebuild.shadow.as_str());
        let there = self.inspect(name).await?;
        let back = there.as_ref().is_some_and(|there| is_shadow_of(there, name));
        // An interrupted way back: whole it stays, and a part of it goes.
        if back && self.came_back(rebuild, meter, note).await? {
            return self.set_aliases(rebuild.aliases.iter().map(String::as_str), name).await;
        }
        let (mut kept, mut digest) = (self.list_snapshots(shadow).await?.pop(), None);
        let mut on_its_way = earlier.as_mut().and_then(|earlier| earlier.back.take());
        let snapshot = if there.is_some() && !back {
            let converged = self.converge(rebuild, earlier, meter, note).await?;
            let Converged { mut fenced, changed, digest: found } = converged;
            digest = found;
            // What comes back refuses writers from its first moment on.
            self.raise(shadow).await?;
            let snapshot = match kept.take().filter(|_| !changed) {
                Some(snapshot) => snapshot,
                None => fenced.during(self.create_snapshot(shadow), note).await?,
            };
            on_its_way = match on_its_way.take().filter(|_| !changed) {
                Some(early) => match fenced.during(early.arrived(), note).await {
                    Ok(early) => Some(early),
                    Err(error) => {
                        tracing::info!("{}; the snapshot of {shadow} is sent once more", error.found);
                        None
                    }
                },
                None => None,
            };
            // The last look before the source goes.
            self.still_whole(rebuild, &mut fenced, note).await?;
            snapshot
        } else {
            match kept {
                Some(snapshot) => snapshot,
                None => self.create_snapshot(shadow).await?,
            }
        };
        if there.is_some() {
            self.destroy(name, note).await?;
        }
        let permit = async {
            match self.inspect(name).await? {
                Some(there) => Err(made_anew(&there, shadow)),
                None => licence(note).await,
            }
        };
        let restored = match on_its_way {
            Some(early) => match permit.await {
                Ok(()) => early.complete(name, meter).await,
                Err(error) => Err(error),
            },
            None => self.restore_permitted(shadow, &snapshot, name, meter, permit).await,
        };
        let whole = match &restored {
            Ok(()) => {
                licence(note).await?;
                let mut fenced = self.fence(name).await?;
                let mut keep = async |next: Option<&PointId>| {
                    note(next).await?;
                    fenced.keep().await
                };
                let known = match &digest {
                    Some(digest) => self.has_digest(name, digest, meter, &mut keep).await?,
                    None => false,
                };
                known || self.came_back(rebuild, meter, &mut keep).await?
            }
            Err(_) => false,
        };
        if !whole {
            if let Err(error) = restored {
                tracing::warn!("{}; copying the points back instead", error.found);
            }
            if let Some(there) = self.inspect(name).await? {
                if there.points > 0 && !is_shadow_of(&there, name) {
                    return Err(made_anew(&there, shadow));
                }
                self.destroy(name, note).await?;
            }
            self.fillable_copy(rebuild, name, BACK, note).await?;
            let route = Route { verbatim: true, ..self.route(rebuild, shadow, name).await? };
            self.copy(route, None, &mut None, meter, note).await?;
            let found = self.mend_points(route, meter, note).await?;
            if !found.is_equal() && !self.compare_points(route, None, meter, note).await?.is_equal() {
                return Err(self.written_meanwhile(rebuild, &found));
            }
            self.counted_equal(rebuild, shadow, name, found.points).await?;
        }
        self.set_aliases(rebuild.aliases.iter().map(String::as_str), name).await
    }

    /// Is everything of the shadow under the source's own name?
    async fn came_back(
        &self,
        rebuild: &Rebuild,
        meter: &Meter,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<bool> {
        let (name, shadow) = (rebuild.source.as_str(), rebuild.shadow.as_str());
        let route = Route { verbatim: true, ..self.route(rebuild, shadow, name).await? };
        let found = self.compare_points(route, None, meter, note).await?;
        Ok(found.is_equal() && self.count_points(name).await? == found.points)
    }

    /// Does a collection have the points that a digest is of? Then only this one needs to be read.
    async fn has_digest(
        &self,
        name: &str,
        digest: &Digest,
        meter: &Meter,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<bool> {
        meter.begin("verify", Some(name), Unit::Points, 0, Some(digest.points()));
        let (limit, began) = (readable(&self.collection(name).await?), Instant::now());
        let part = async |from: Option<&PointId>, until: Option<&PointId>| {
            let mut found = digest.anew();
            let mut pages = self.pages(name, from.cloned(), limit, Selection::All);
            while let Some(page) = pages.next().await? {
                for point in &page.points {
                    if until.is_some_and(|until| point.id >= *until) {
                        return Ok(Some(found));
                    }
                    if point.may_be_rounded() {
                        return Ok(None);
                    }
                    found.add(point);
                    meter.add(1);
                }
            }
            Ok::<_, Error>(Some(found))
        };
        // One reader leaves a core idle.
        let parts = async {
            match &digest.middle {
                Some(middle) => tokio::try_join!(part(None, Some(middle)), part(Some(middle), None)),
                None => Ok((part(None, None).await?, Some(digest.anew()))),
            }
        };
        let (Some(low), Some(high)) = ticking(parts, NOTE, async || note(None).await).await? else {
            return Ok(false);
        };
        let found = low.and(&high);
        meter.end();
        took("read back", found.points(), name, began);
        Ok(found == *digest && self.count_points(name).await? == digest.points())
    }

    async fn counted_equal(&self, rebuild: &Rebuild, from: &str, to: &str, compared: u64) -> Result<()> {
        let (left, right) = (self.count_points(from).await?, self.count_points(to).await?);
        match left == right && left == compared {
            true => Ok(()),
            false => Err(self.written_meanwhile(
                rebuild,
                &Compared {
                    points: compared,
                    missing: left.saturating_sub(right),
                    extra: right.saturating_sub(left),
                    ..Compared::default()
                },
            )),
        }
    }

    /// Gives a collection all that was left out while it was filled, and proves it.
    async fn finalize(
        &self,
        rebuild: &Rebuild,
        name: &str,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<()> {
        licence(note).await?;
        let server = self.version().await.map_err(|fault| self.error(fault))?;
        for step in
            in_place(name, &self.collection(name).await?, &rebuild.schema, Default::default(), server)?
        {
            Box::pin(self.perform(&step)).await?;
        }
        let left = compare(&rebuild.schema, &self.collection(name).await?, Default::default(), server);
        match left.first() {
            None => Ok(()),
            Some(change) => Err(Error::new(
                ExitCode::StepFailed,
                format!("{name}: the server accepted its settings and did not take {change}"),
            )),
        }
    }

    async fn stamp_as(
        &self,
        name: &str,
        stamp: Stamp,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<()> {
        licence(note).await?;
        Box::pin(self.perform(&Step { collection: name.to_owned(), action: Action::Stamp { stamp } })).await
    }

    async fn collection(&self, name: &str) -> Result<Observed> {
        self.inspect(name).await?.ok_or_else(|| {
            Error::new(ExitCode::StepFailed, format!("collection {name} is gone"))
                .remedy("find out what deletes collections on this server while tandem runs")
        })
    }

    async fn route<'a>(&self, rebuild: &'a Rebuild, from: &'a str, to: &'a str) -> Result<Route<'a>> {
        let source = self.collection(from).await?;
        Ok(Route {
            rebuild,
            from,
            to,
            verbatim: rebuild.is_verbatim(&source.schema),
            exact: rebuild.is_exact(&source.schema),
            limit: readable(&source),
            total: self.count_points(from).await?,
            middle: None,
        })
    }

    /// Copies from a point on: one scan that reads ahead, writes beside it. Returns a point in the middle of a whole copy.
    /// `copied` gets the vectors that were read, and becomes `None` if not all of them are written as they were read.
    async fn copy(
        &self,
        route: Route<'_>,
        from: Option<PointId>,
        copied: &mut Option<Digest>,
        meter: &Meter,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<Option<PointId>> {
        meter.begin("copy", Some(route.from), Unit::Points, 0, Some(route.total));
        let mut pages = self.pages(route.from, from.clone(), route.limit, Selection::All);
        let mut writes = FuturesUnordered::new();
        let mut frontier = Frontier { reached: from, ..Frontier::default() };
        let (mut done, began) = (0, Instant::now());
        let (mut read, mut middle) = (0, None);
        let mut noted = began;
        loop {
            let page = tokio::select! {
                biased;
                Some(written) = writes.next() => {
                    let (number, count) = written?;
                    meter.add(count);
                    done += count;
                    frontier.written(number);
                    continue;
                }
                page = pages.next(), if writes.len() < WRITERS => page?,
            };
            let Some(page) = page else { break };
            read += page.points.len() as u64;
            if middle.is_none() && read >= route.total / 2 {
                middle.clone_from(&page.next);
            }
            let ready = self.ready(route, page.points).await?;
            match (&ready, copied.as_mut()) {
                (Ready::AsRead(points), Some(copied)) => points.iter().for_each(|point| {
                    copied.add_vectors(point);
                }),
                _ => *copied = None,
            }
            // Before what it read is written: a process that was paused may have been succeeded.
            if noted.elapsed() >= NOTE {
                note(frontier.reached.as_ref()).await?;
                noted = Instant::now();
            }
            let number = frontier.begin(page.next);
            writes.push(async move { self.write_ready(route.to, ready).await.map(|count| (number, count)) });
        }
        while let Some(written) = writes.next().await {
            let (_, count) = written?;
            meter.add(count);
            done += count;
        }
        meter.end();
        took("copied", done, route.from, began);
        let finally = route.rebuild.schema.optimizers_config.as_ref().and_then(|o| o.flush_interval_sec);
        if let Some(finally) = finally {
            licence(note).await?;
            self.flush_every(route.to, finally).await?;
        }
        Ok(middle)
    }

    /// A page as it is to be written.
    async fn ready(&self, route: Route<'_>, read: Vec<Retrieved>) -> Result<Ready> {
        if route.verbatim && !read.iter().any(Retrieved::may_be_rounded) {
            return Ok(Ready::AsRead(read));
        }
        let made = (!route.verbatim).then_some(route.rebuild);
        Ok(Ready::Made(self.made(route.from, read, made).await?))
    }

    /// Writes a page; how many points it had.
    async fn write_ready(&self, to: &str, ready: Ready) -> Result<u64> {
        match ready {
            Ready::AsRead(read) => {
                let count = read.len() as u64;
                if count > 0 {
                    self.write_as_read(to, read).await?;
                }
                Ok(count)
            }
            Ready::Made(made) => {
                let count = made.len() as u64;
                if count > 0 {
                    let wide = made.iter().filter_map(wide_of).collect();
                    self.write(to, vec![upsert(made.into_iter().map(pb_point).collect())]).await?;
                    self.write_wide(to, wide).await?;
                }
                Ok(count)
            }
        }
    }

    /// Holds the points of two collections against each other, in two parts if a middle is known: one reader of each leaves a core
    /// idle. With `copied` the vectors are held against those that were read then, and the source is read without them; if that
    /// proves nothing, it is read once more.
    async fn compare_points(
        &self,
        route: Route<'_>,
        copied: Option<&Digest>,
        meter: &Meter,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<Compared> {
        let began = begin_to_compare(route, meter);
        let digest = copied.cloned().or_else(|| digest_of(route));
        let part = async |from: Option<&PointId>, until: Option<&PointId>| {
            let mut leave = async |differences: &mut Differences| {
                *differences = Differences::default();
                Ok(())
            };
            let digest = digest.as_ref().map(Digest::anew);
            self.walk_both(route, (from, until), copied.is_none(), digest, meter, &mut leave).await
        };
        let parts = async {
            match route.middle {
                Some(middle) => {
                    let (low, high) = tokio::try_join!(part(None, Some(middle)), part(Some(middle), None))?;
                    Ok(low.and(high))
                }
                None => part(None, None).await,
            }
        };
        let found = ticking(parts, NOTE, async || note(None).await).await?;
        meter.end();
        if let Some(copied) = copied
            && !(found.is_equal() && found.digest.as_ref().is_some_and(|there| there.has_vectors_of(copied)))
        {
            tracing::info!(
                "{} and what was copied to it differ by their bytes: comparing every vector",
                route.to
            );
            return Box::pin(self.compare_points(route, None, meter, note)).await;
        }
        took("compared", found.points, route.to, began);
        Ok(found)
    }

    /// The same in one part, and what differs is brought to what the source has.
    async fn mend_points(
        &self,
        route: Route<'_>,
        meter: &Meter,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<Compared> {
        let began = begin_to_compare(route, meter);
        let mut mend = async |differences: &mut Differences| {
            note(None).await?;
            self.mend(route, std::mem::take(differences)).await
        };
        let found = self.walk_both(route, (None, None), true, digest_of(route), meter, &mut mend).await?;
        meter.end();
        took("compared", found.points, route.to, began);
        Ok(found)
    }

    /// Walks both collections in the order of ids, from a point to before another one. `act` gets what differs, a few points at
    /// once or none for a second, and takes it. Without `vectors` only the payloads of equal ids are held against each other.
    async fn walk_both(
        &self,
        route: Route<'_>,
        part: (Option<&PointId>, Option<&PointId>),
        vectors: bool,
        digest: Option<Digest>,
        meter: &Meter,
        act: &mut impl AsyncFnMut(&mut Differences) -> Result<()>,
    ) -> Result<Compared> {
        let with = if vectors { Selection::All } else { Selection::NOTHING };
        let mut wanted = Walk::new(self, route.from, part, route.limit, with);
        let limit = readable(&self.collection(route.to).await?);
        let mut actual = Walk::new(self, route.to, part, limit, Selection::All);
        let made = (!route.verbatim).then_some(route.rebuild);
        let mut found = Compared { digest, ..Compared::default() };
        let (mut differences, mut acted) = (Differences::default(), Instant::now());
        loop {
            let (a, b) = tokio::join!(wanted.fill(made), actual.fill(None));
            a?;
            b?;
            let order = match (wanted.ahead.front(), actual.ahead.front()) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(wanted), Some(actual)) => wanted.id().cmp(actual.id()),
            };
            match order {
                std::cmp::Ordering::Less => {
                    found.missing += 1;
                    differences.put.extend(wanted.ahead.pop_front().map(Walked::alone));
                }
                std::cmp::Ordering::Greater => {
                    found.extra += 1;
                    differences.delete.extend(actual.ahead.pop_front().map(|point| point.id().clone()));
                }
                std::cmp::Ordering::Equal => {
                    found.points += 1;
                    meter.add(1);
                    if let (Some(wanted), Some(actual)) = (wanted.ahead.pop_front(), actual.ahead.pop_front())
                    {
                        found.digested(&actual);
                        if !equal(route, vectors, &wanted, &actual)? {
                            found.different += 1;
                            differences.put.push(wanted.alone());
                        }
                    }
                }
            }
            if differences.put.len() + differences.delete.len() >= REPAIR || acted.elapsed() >= NOTE {
                act(&mut differences).await?;
                acted = Instant::now();
            }
        }
        act(&mut differences).await?;
        Ok(found)
    }

    async fn mend(&self, route: Route<'_>, differences: Differences) -> Result<()> {
        let (mut read, mut made) = (Vec::new(), Vec::new());
        for walked in differences.put {
            match walked {
                Walked::Read(point) => read.push(point),
                Walked::Made(point) => made.push(point),
            }
        }
        self.write_ready(route.to, Ready::AsRead(read)).await?;
        self.write_ready(route.to, Ready::Made(made)).await?;
        if differences.delete.is_empty() {
            return Ok(());
        }
        let ids = differences.delete.iter().map(pb_id).collect();
        let delete = pb::PointsUpdateOperation {
            operation: Some(Operation::DeletePoints(DeletePoints {
                points: Some(pb::PointsSelector {
                    points_selector_one_of: Some(pb::points_selector::PointsSelectorOneOf::Points(
                        pb::PointsIdsList { ids },
                    )),
                }),
                shard_key_selector: None,
            })),
        };
        self.write(route.to, vec![delete]).await
    }

    /// A page as plain data, with its numbers exact, and as the shadow is to have it.
    async fn made(&self, from: &str, page: Vec<Retrieved>, made: Option<&Rebuild>) -> Result<Vec<Point>> {
        let read = page.iter().map(|read| point(read.decode(&[])?)).collect::<Option<Vec<_>>>();
        let mut read = read.ok_or_else(|| unreadable(from))?;
        self.restore_wide(from, &mut read).await?;
        match made {
            Some(rebuild) => rebuild.made(read).await,
            None => Ok(read),
        }
    }
}

/// What of a point has to be written besides.
fn wide_of(point: &Point) -> Option<(PointId, serde_json::Map<String, serde_json::Value>)> {
    let wide = wide(&point.payload);
    (!wide.is_empty()).then(|| (point.id.clone(), wide))
}

fn made_anew(there: &Observed, shadow: &str) -> Error {
    Error::new(
        ExitCode::Refused,
        format!(
            "collection {} was made anew while it was absent, and has {} points",
            there.name,
            thousands(there.points)
        ),
    )
    .expected(format!("no application that runs while `{shadow}` takes the collection's place"))
    .remedy("stop the application, move the points aside and remove the collection, then start again: the copy has all points of before")
}

fn is_shadow_of(observed: &Observed, name: &str) -> bool {
    matches!(observed.stamp.as_ref().map(|stamp| &stamp.role), Some(Role::Shadow { source, .. }) if source == name)
}

/// Points a page may have. A rebuild writes none of what it reads from, so that limits of writes do not matter.
fn readable(observed: &Observed) -> u32 {
    page_limit(observed.schema.strict_mode_config.as_ref(), PAGE).max(1)
}

/// What has to be done for a collection to have what another one has.
#[derive(Default)]
struct Differences {
    put: Vec<Walked>,
    delete: Vec<PointId>,
}

fn begin_to_compare(route: Route<'_>, meter: &Meter) -> Instant {
    meter.begin("verify", Some(route.to), Unit::Points, 0, Some(route.total));
    Instant::now()
}

/// Of no points, for a shadow that is to come back under another name.
fn digest_of(route: Route<'_>) -> Option<Digest> {
    let back = route.to == route.rebuild.shadow && route.rebuild.switch == Switch::KeepName;
    back.then(|| Digest::new(route.middle.cloned()))
}

/// `copied 100,000 points of memory in 7.31 s`.
fn took(done: &str, points: u64, of: &str, began: Instant) {
    tracing::info!("{done} {} points of {of} in {:.2} s", thousands(points), began.elapsed().as_secs_f64());
}

fn upsert(points: Vec<pb::PointStruct>) -> pb::PointsUpdateOperation {
    pb::PointsUpdateOperation {
        operation: Some(Operation::Upsert(PointStructList { points, ..Default::default() })),
    }
}

/// A page on its way.
enum Ready {
    /// As the server sent it.
    AsRead(Vec<Retrieved>),
    /// As the shadow is to have it, or with numbers that gRPC rounds.
    Made(Vec<Point>),
}

/// Pages that are being written, in the order that they were read.
#[derive(Default)]
struct Frontier {
    /// The number of the first page that is not written.
    first: u64,
    /// From that one on: is it written, and where does the page behind it begin?
    pages: VecDeque<(bool, Option<PointId>)>,
    /// All points before this one are written.
    reached: Option<PointId>,
}

impl Frontier {
    /// The number of a page that ends where `next` begins.
    fn begin(&mut self, next: Option<PointId>) -> u64 {
        self.pages.push_back((false, next));
        self.first + self.pages.len() as u64 - 1
    }

    fn written(&mut self, number: u64) {
        let at = number - self.first;
        if let Some(page) = self.pages.get_mut(at as usize) {
            page.0 = true;
        }
        while let Some((true, _)) = self.pages.front() {
            self.reached = self.pages.pop_front().and_then(|page| page.1);
            self.first += 1;
        }
    }
}

/// A point on its way from one collection to another.
enum Walked {
    /// As the server sent it.
    Read(Retrieved),
    /// As the shadow is to have it, or with numbers that gRPC rounds.
    Made(Point),
}

impl Walked {
    fn id(&self) -> &PointId {
        match self {
            Self::Read(read) => &read.id,
            Self::Made(point) => &point.id,
        }
    }

    /// Without the page that it was read with: points that differ are few and far between.
    fn alone(self) -> Self {
        match self {
            Self::Read(read) => Self::Read(read.alone()),
            made => made,
        }
    }
}

/// The points of a collection in the order of their ids, up to before one.
struct Walk<'a> {
    client: &'a Client,
    collection: &'a str,
    pages: Option<Pages>,
    until: Option<&'a PointId>,
    ahead: VecDeque<Walked>,
}

impl<'a> Walk<'a> {
    fn new(
        client: &'a Client,
        collection: &'a str,
        (from, until): (Option<&PointId>, Option<&'a PointId>),
        limit: u32,
        vectors: Selection,
    ) -> Self {
        let pages = Some(client.pages(collection, from.cloned(), limit, vectors));
        Self { client, collection, pages, until, ahead: VecDeque::new() }
    }

    async fn fill(&mut self, made: Option<&Rebuild>) -> Result<()> {
        if self.ahead.is_empty()
            && let Some(pages) = &mut self.pages
            && let Some(mut page) = pages.next().await?
        {
            let ours = match self.until {
                Some(until) => page.points.partition_point(|point| point.id < *until),
                None => page.points.len(),
            };
            if ours < page.points.len() {
                page.points.truncate(ours);
                self.pages = None;
            }
            if made.is_some() || page.points.iter().any(Retrieved::may_be_rounded) {
                let made = self.client.made(self.collection, page.points, made).await?;
                self.ahead.extend(made.into_iter().map(Walked::Made));
            } else {
                self.ahead.extend(page.points.into_iter().map(Walked::Read));
            }
        }
        Ok(())
    }
}

/// What both servers' answers spell alike is equal; what they do not is decoded. Without `vectors` these are not looked at, and
/// points that were decoded already prove nothing.
fn equal(route: Route<'_>, vectors: bool, wanted: &Walked, actual: &Walked) -> Result<bool> {
    let decode = |read: &Retrieved, without: &[_]| {
        read.decode(without).and_then(point).ok_or_else(|| unreadable(route.to))
    };
    let equal = |wanted: &Point, actual: &Point| route.rebuild.equal(wanted, actual);
    match (wanted, actual) {
        (Walked::Read(wanted), Walked::Read(actual)) => {
            let alike: &[_] = match (wanted.has_payload_of(actual), !vectors || wanted.has_vectors_of(actual))
            {
                (true, true) => return Ok(true),
                (true, false) => &[PAYLOAD],
                (false, true) => &[VECTORS],
                (false, false) => &[],
            };
            Ok(equal(&decode(wanted, alike)?, &decode(actual, alike)?))
        }
        _ if !vectors => Ok(false),
        (Walked::Made(wanted), Walked::Made(actual)) => Ok(equal(wanted, actual)),
        (Walked::Made(wanted), Walked::Read(actual)) => Ok(equal(wanted, &decode(actual, &[])?)),
        (Walked::Read(wanted), Walked::Made(actual)) => Ok(equal(&decode(wanted, &[])?, actual)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_copy_goes_on_from_a_point_before_which_everything_is_written() {
        let mut frontier = Frontier::default();
        let at = |point| Some(PointId::Number(point));
        let pages = [at(10), at(20), at(30), None].map(|next| frontier.begin(next));
        assert_eq!(frontier.reached, None);
        for (written, reached) in [(1, None), (0, at(20)), (3, at(20)), (2, None)] {
            frontier.written(pages[written]);
            assert_eq!(frontier.reached, reached, "behind page {written}");
        }
        let more = frontier.begin(at(50));
        frontier.written(more);
        assert_eq!(frontier.reached, at(50));
    }
}
