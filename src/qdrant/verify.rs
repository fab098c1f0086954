//! Two collections held against each other, point by point, or one against what is known of another.

use super::claim::Claim;
use super::client::Client;
use super::copy::{Ready, Route, readable, took};
use super::fill::NOTE;
use super::licence::ticking;
use super::points::{Pages, Selection, pb_id, point, unreadable};
use super::wire::{Digest, PAYLOAD, Retrieved, VECTORS};
use crate::collection::{Point, PointId, Rebuild, Switch};
use crate::error::{Error, Result};
use crate::progress::{Meter, Unit};
use crate::words::thousands;
use qdrant_client::qdrant as pb;
use qdrant_client::qdrant::points_update_operation::{DeletePoints, Operation};
use std::collections::VecDeque;
use std::time::Instant;

/// Points of one repair.
const REPAIR: usize = 64;

/// What a comparison of two collections found.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Compared {
    pub points: u64,
    pub missing: u64,
    pub different: u64,
    pub extra: u64,
    /// Of a shadow that is to come back under another name.
    pub digest: Option<Digest>,
}

impl Compared {
    pub fn is_equal(&self) -> bool {
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

    pub fn words(&self) -> String {
        format!(
            "{} missing, {} different and {} more than in the source",
            thousands(self.missing),
            thousands(self.different),
            thousands(self.extra)
        )
    }
}

impl Client {
    /// Holds the points of two collections against each other, in two parts if a middle is known: one reader of each leaves a core
    /// idle. With `copied` the vectors are held against those that were read then, and the source is read without them; if that
    /// proves nothing, it is read once more.
    pub(super) async fn compare_points(
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
    pub(super) async fn mend_points(
        &self,
        route: Route<'_>,
        meter: &Meter,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<Compared> {
        let began = begin_to_compare(route, meter);
        let mut claim = None;
        let mut mend = async |differences: &mut Differences| {
            note(None).await?;
            let differences = std::mem::take(differences);
            if differences.put.is_empty() && differences.delete.is_empty() {
                return Ok(());
            }
            let claim = match &mut claim {
                Some(claim) => claim,
                none => none.insert(self.claim(route.to, note).await?),
            };
            self.mend(claim, differences).await
        };
        let found = self.walk_both(route, (None, None), true, digest_of(route), meter, &mut mend).await;
        let found = match &claim {
            Some(claim) => self.release(claim, found).await?,
            None => found?,
        };
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

    async fn mend(&self, claim: &Claim<'_>, differences: Differences) -> Result<()> {
        let (mut read, mut made) = (Vec::new(), Vec::new());
        for walked in differences.put {
            match walked {
                Walked::Read(point) => read.push(point),
                Walked::Made(point) => made.push(point),
            }
        }
        self.write_ready(claim, Ready::AsRead(read)).await?;
        self.write_ready(claim, Ready::Made(made)).await?;
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
        self.write(claim, vec![delete]).await
    }

    /// Does a collection have the points that a digest is of? Then only this one needs to be read.
    pub(super) async fn has_digest(
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
