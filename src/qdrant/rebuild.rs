//! The stages of a rebuild: a shadow is filled, proven equal point by point, and takes its source's place.

use super::client::Client;
use super::copy::{Route, readable};
use super::fault::Kind;
use super::fence::{Fenced, Numbered, unused_id};
use super::licence::licence;
use super::points::Selection;
use super::rest::OnItsWay;
use super::verify::Compared;
use super::wire::Digest;
use crate::collection::{
    Action, BACK, COPYING, KEPT, Observed, PointId, Rebuild, Role, Schema, Stage, Stamp, Status, Step,
    StrictModeConfig, Switch, VERIFIED, compare, creation, in_place, storable,
};
use crate::error::{Error, ExitCode, Result};
use crate::progress::{Meter, Unit};
use crate::words::{count, thousands};
use std::time::{Duration, Instant};

/// Comparisons of two collections that are to be equal in the end.
const PASSES: u32 = 3;

/// Between two looks at the count of operations of a collection that nobody is to write to.
const IDLE: Duration = Duration::from_millis(500);

/// Seconds between two flushes before the snapshot that a collection comes back from; more often than it needs they cost the
/// comparison beside it a tenth.
const SOON: u64 = 1;

/// Until what was written before has been flushed, as a rule. Where it has not, the recovery takes longer.
const FLUSHED: Duration = Duration::from_secs(3);

/// A comparison that found source and shadow equal, and what it takes to rely on it later in the same run.
#[derive(Debug)]
pub struct Comparison {
    source: Option<Numbered>,
    points: u64,
    shadow: Option<Digest>,
    /// The shadow's snapshot, for the source's name.
    back: Option<OnItsWay>,
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
        let began = Instant::now();
        let middle = self.copy(route, from.cloned(), &mut copied, meter, note).await?;
        let flushed = began.elapsed().min(FLUSHED);
        if let Some(copied) = &mut copied {
            copied.middle.clone_from(&middle);
        }
        let route = Route { middle: middle.as_ref(), ..route };
        // A difference is a writer's then, and the shadow is not made to have it.
        let mend = rebuild.writers || !fresh;
        let (mut found, back) =
            self.compare_beside_snapshots(route, mend, copied.as_ref(), flushed, meter, note).await?;
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

    /// Compares source and shadow while the server takes the snapshots: of the source, and once `flushed` is over of a shadow that is
    /// to come back under its name and is not to be mended, which is on its way there from then on. What comes back has the limits of a
    /// fence from its first moment on, and is proven there.
    async fn compare_beside_snapshots(
        &self,
        route: Route<'_>,
        mend: bool,
        copied: Option<&Digest>,
        flushed: Duration,
        meter: &Meter,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<(Compared, Option<OnItsWay>)> {
        let back = !mend && route.rebuild.switch == Switch::KeepName;
        if back {
            licence(note).await?;
            self.flush_every(route.to, SOON).await?;
            self.raise(route.to, note).await?;
        }
        let source = self.create_snapshot(route.from);
        let shadow = async {
            if !back {
                return Ok(None);
            }
            tokio::time::sleep(flushed).await;
            let shadow = self.create_snapshot(route.to).await?;
            Ok(Some(self.begin_to_restore(route.to, &shadow, route.from)))
        };
        let compared = async {
            match mend {
                true => self.mend_points(route, meter, note).await,
                false => self.compare_points(route, copied, meter, note).await,
            }
        };
        let (found, _, on_its_way) = tokio::try_join!(compared, source, shadow)?;
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
        let (mut fenced, mut changed) = (self.fence(source, note).await?, false);
        self.open_fence(shadow).await?;
        self.lift(&self.collection(shadow).await?, note).await?;
        let mut found = Compared::default();
        for _ in 0..PASSES {
            fenced.begin(note).await?;
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
                    fenced.keep(note).await
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
            if fenced.is_whole(note).await? {
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
        match fenced.is_whole(note).await? {
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
            self.raise(shadow, note).await?;
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
                let mut fenced = self.fence(name, note).await?;
                let mut keep = async |next: Option<&PointId>| {
                    note(next).await?;
                    fenced.keep(note).await
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

    pub(super) async fn collection(&self, name: &str) -> Result<Observed> {
        self.inspect(name).await?.ok_or_else(|| {
            Error::new(ExitCode::StepFailed, format!("collection {name} is gone"))
                .remedy("find out what deletes collections on this server while tandem runs")
        })
    }
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
