//! Points that go from one collection to another.

use super::claim::Claim;
use super::client::Client;
use super::fill::{NOTE, PAGE};
use super::licence::licence;
use super::points::{Selection, page_limit, pb_point, point, unreadable};
use super::wide::wide;
use super::wire::{Digest, Retrieved};
use crate::collection::{Observed, Point, PointId, Rebuild};
use crate::error::Result;
use crate::progress::{Meter, Unit};
use crate::words::thousands;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use qdrant_client::qdrant as pb;
use qdrant_client::qdrant::points_update_operation::{Operation, PointStructList};
use std::collections::VecDeque;
use std::time::Instant;

/// Writes under way beside the next page that is read (docs/performance.md).
const WRITERS: usize = 4;

/// One way that points go.
#[derive(Clone, Copy)]
pub(super) struct Route<'a> {
    pub rebuild: &'a Rebuild,
    pub from: &'a str,
    pub to: &'a str,
    /// Points stay as they are.
    pub verbatim: bool,
    /// And their vectors are stored as they were.
    pub exact: bool,
    pub limit: u32,
    pub total: u64,
    /// Some point in the middle, if it is known.
    pub middle: Option<&'a PointId>,
}

impl Client {
    pub(super) async fn route<'a>(
        &self,
        rebuild: &'a Rebuild,
        from: &'a str,
        to: &'a str,
    ) -> Result<Route<'a>> {
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
    pub(super) async fn copy(
        &self,
        route: Route<'_>,
        from: Option<PointId>,
        copied: &mut Option<Digest>,
        meter: &Meter,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<Option<PointId>> {
        let claim = self.claim(route.to, note).await?;
        let copied = self.copy_through(&claim, route, from, copied, meter, note).await;
        self.release(&claim, copied).await
    }

    async fn copy_through(
        &self,
        claim: &Claim<'_>,
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
            if noted.elapsed() >= NOTE {
                note(frontier.reached.as_ref()).await?;
                noted = Instant::now();
            }
            let number = frontier.begin(page.next);
            writes.push(async move { self.write_ready(claim, ready).await.map(|count| (number, count)) });
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
    pub(super) async fn write_ready(&self, claim: &Claim<'_>, ready: Ready) -> Result<u64> {
        match ready {
            Ready::AsRead(read) => {
                let count = read.len() as u64;
                if count > 0 {
                    self.write_as_read(claim, read).await?;
                }
                Ok(count)
            }
            Ready::Made(made) => {
                let count = made.len() as u64;
                if count > 0 {
                    let wide = made.iter().filter_map(wide_of).collect();
                    self.write(claim, vec![upsert(made.into_iter().map(pb_point).collect())]).await?;
                    self.write_wide(claim, wide).await?;
                }
                Ok(count)
            }
        }
    }

    /// A page as plain data, with its numbers exact, and as the shadow is to have it.
    pub(super) async fn made(
        &self,
        from: &str,
        page: Vec<Retrieved>,
        made: Option<&Rebuild>,
    ) -> Result<Vec<Point>> {
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

/// Points a page may have. A rebuild writes none of what it reads from, so that limits of writes do not matter.
pub(super) fn readable(observed: &Observed) -> u32 {
    page_limit(observed.schema.strict_mode_config.as_ref(), PAGE).max(1)
}

/// `copied 100,000 points of memory in 7.31 s`.
pub(super) fn took(done: &str, points: u64, of: &str, began: Instant) {
    tracing::info!("{done} {} points of {of} in {:.2} s", thousands(points), began.elapsed().as_secs_f64());
}

fn upsert(points: Vec<pb::PointStruct>) -> pb::PointsUpdateOperation {
    pb::PointsUpdateOperation {
        operation: Some(Operation::Upsert(PointStructList { points, ..Default::default() })),
    }
}

/// A page on its way.
pub(super) enum Ready {
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
