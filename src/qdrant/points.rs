//! Points between the plain data and the protocol: counted, read in pages by id, and written so that it lasts.

use super::claim::Claim;
use super::client::{Client, within};
use super::convert;
use super::fault::{Fault, Kind};
use super::fill::BYTES;
use super::perform::Patience;
use super::wire::{self, Retrieved};
use crate::collection::{Point, PointId, StrictModeConfig, UNNAMED, Vector};
use crate::error::{Error, ExitCode, Result};
use prost::Message as _;
use prost::bytes::Bytes;
use qdrant_client::qdrant as pb;
use qdrant_client::qdrant::point_id::PointIdOptions;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Until a page is refused as hanging.
const READ: Duration = Duration::from_secs(60);

/// Until a count is; an exact one looks at every point.
const COUNT: Duration = Duration::from_secs(600);

/// Until a write is; it waits until it is applied.
const WRITE: Duration = Duration::from_secs(600);

/// Between two looks at a queue of updates.
const POLL: Duration = Duration::from_millis(100);

/// Points of the first page that is read ahead: nobody knows yet how large they are.
const FIRST: u32 = 32;

/// How often a write is sent that the server took and did not complete.
const ATTEMPTS: u32 = 5;

/// Which vectors or payload keys a page has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    All,
    /// These, as far as a point has them.
    Only(BTreeSet<String>),
}

impl Selection {
    pub const NOTHING: Self = Self::Only(BTreeSet::new());
}

/// Some points in the order of their ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    pub points: Vec<Point>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<PointId>,
}

impl Client {
    /// How many points a collection has, exactly. Where its strict mode forbids to count, they are paged through.
    pub async fn count_points(&self, collection: &str) -> Result<u64> {
        let request = pb::CountPoints {
            collection_name: collection.to_owned(),
            exact: Some(true),
            ..Default::default()
        };
        let counted = self
            .patiently(async || Ok(self.points().count(within(COUNT, request.clone())).await?.into_inner()))
            .await;
        match counted {
            Ok(reply) => Ok(reply.result.unwrap_or_default().count),
            Err(fault) if fault.kind == Kind::Invalid => self.count_pages(collection).await,
            Err(fault) => Err(self.error(fault).at(format_args!("counting the points of {collection}"))),
        }
    }

    async fn count_pages(&self, collection: &str) -> Result<u64> {
        let nothing = Selection::NOTHING;
        let info = self.info(collection).await.map_err(|fault| self.error(fault))?;
        let strict = convert::schema(info.config.unwrap_or_default(), Default::default()).strict_mode_config;
        let limit = page_limit(strict.as_ref(), 1000).max(1);
        let (mut count, mut from) = (0, None);
        loop {
            let page = self.scroll(collection, from.as_ref(), limit, &nothing, &nothing).await?;
            count += page.points.len() as u64;
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(count),
            }
        }
    }

    /// A page of points from an id on, that one included; from the first without one.
    pub async fn scroll(
        &self,
        collection: &str,
        from: Option<&PointId>,
        limit: u32,
        vectors: &Selection,
        payload: &Selection,
    ) -> Result<Page> {
        let request = request(collection, from, limit, with_vectors(vectors), with_payload(payload));
        let page = self
            .patiently(async || Ok(self.points().scroll(within(READ, request.clone())).await?.into_inner()))
            .await
            .map_err(|fault| self.error(fault).at(format_args!("reading points of {collection}")))?;
        let points = page.result.into_iter().map(point).collect::<Option<_>>();
        let unreadable = || unreadable(collection);
        Ok(Page {
            points: points.ok_or_else(unreadable)?,
            next: page.next_page_offset.map(|next| id(next).ok_or_else(unreadable)).transpose()?,
        })
    }

    /// The points of a collection from an id on, as the server sends them, with or without their vectors. Pages follow the bytes
    /// of their points, and the next one is under way while one is being worked on.
    pub(super) fn pages(
        &self,
        collection: &str,
        from: Option<PointId>,
        most: u32,
        vectors: Selection,
    ) -> Pages {
        let (send, pages) = mpsc::channel(1);
        let (client, name) = (self.clone(), collection.to_owned());
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            let (mut from, mut limit) = (from, FIRST.min(most));
            loop {
                let page = client.encoded_page(&name, from.as_ref(), limit, &vectors).await;
                if let Ok(page) = &page {
                    limit = fit(page.bytes, limit, most);
                    from.clone_from(&page.next);
                }
                let last = page.is_err() || from.is_none();
                if send.send(page).await.is_err() || last {
                    return;
                }
            }
        });
        Pages { pages, _reader: reader, collection: collection.to_owned(), done: false }
    }

    async fn encoded_page(
        &self,
        collection: &str,
        from: Option<&PointId>,
        limit: u32,
        vectors: &Selection,
    ) -> Result<wire::Page> {
        let payload = with_payload(&Selection::All);
        let request = request(collection, from, limit, with_vectors(vectors), payload);
        let request = Bytes::from(request.encode_to_vec());
        let mut patience = Patience::default();
        loop {
            match self.call_encoded("/qdrant.Points/Scroll", within(READ, request.clone())).await {
                Ok(answer) => return wire::page(&answer).ok_or_else(|| unreadable(collection)),
                Err(fault) => patience
                    .wait(fault)
                    .await
                    .map_err(|fault| self.error(fault).at(format_args!("reading points of {collection}")))?,
            }
        }
    }

    /// Sends a batch of updates by point id, in order, and returns when all of them are applied and on disk.
    pub(super) async fn write(
        &self,
        claim: &Claim<'_>,
        operations: Vec<pb::PointsUpdateOperation>,
    ) -> Result<()> {
        let sent = operations.len();
        let request = pb::UpdateBatchPoints {
            collection_name: claim.alias.clone(),
            wait: Some(true),
            operations,
            ordering: None,
            timeout: None,
        };
        self.until_completed(claim, async || {
            let reply = self.points().update_batch(within(WRITE, request.clone())).await?.into_inner();
            let completed = reply.result.iter().filter(|r| r.status() == pb::UpdateStatus::Completed);
            Ok(completed.count() == sent)
        })
        .await
    }

    /// Writes points as they were read, and returns when all of them are applied and on disk.
    pub(super) async fn write_as_read(&self, claim: &Claim<'_>, points: Vec<Retrieved>) -> Result<()> {
        let request = wire::upsert(&claim.alias, &points);
        // The page is not needed while the server works.
        drop(points);
        self.until_completed(claim, async || {
            let reply = self.call_encoded("/qdrant.Points/Upsert", within(WRITE, request.clone())).await?;
            let reply = pb::PointsOperationResponse::decode(reply)
                .map_err(|e| Fault::new(Kind::NotQdrant, format!("the answer to a write: {e}")))?;
            Ok(reply.result.is_some_and(|result| result.status() == pb::UpdateStatus::Completed))
        })
        .await
    }

    /// Sends an update until it is completed: sent again it ends the same, so that one which the server only queued is.
    async fn until_completed(
        &self,
        claim: &Claim<'_>,
        send: impl AsyncFn() -> std::result::Result<bool, Fault>,
    ) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let completed = self.patiently(&send).await.map_err(|fault| self.unwritten(claim, fault))?;
            if completed {
                return Ok(());
            }
            // Servers from 1.18 on answer after a minute although the update goes on.
            while self.queued(claim.collection).await? > 0 {
                tokio::time::sleep(POLL).await;
            }
        }
        Err(Error::new(
            ExitCode::StepFailed,
            format!(
                "writing points of {}: the server took the update {ATTEMPTS} times and completed it never",
                claim.collection
            ),
        )
        .remedy("look at the server's log and load, then start again"))
    }

    async fn queued(&self, collection: &str) -> Result<u64> {
        Ok(self.inspect(collection).await?.and_then(|observed| observed.queued_updates).unwrap_or_default())
    }
}

/// The points of a collection in the order of their ids, read ahead.
pub(super) struct Pages {
    pages: mpsc::Receiver<Result<wire::Page>>,
    /// It ends with this value.
    _reader: JoinSet<()>,
    collection: String,
    done: bool,
}

impl Pages {
    /// `None` behind the last.
    pub async fn next(&mut self) -> Result<Option<wire::Page>> {
        if self.done {
            return Ok(None);
        }
        let page = self.pages.recv().await.unwrap_or_else(|| {
            Err(Error::new(ExitCode::Bug, format!("the reader of {} ended early", self.collection)))
        })?;
        self.done = page.next.is_none();
        Ok(Some(page))
    }
}

/// How many points the next page has: half or twice as many as one of so many bytes.
fn fit(bytes: usize, limit: u32, most: u32) -> u32 {
    if bytes > BYTES {
        (limit / 2).max(1)
    } else if bytes < BYTES / 4 {
        limit.saturating_mul(2).min(most)
    } else {
        limit
    }
}

/// A point that has something that this protocol version does not know.
pub(super) fn unreadable(collection: &str) -> Error {
    Error::new(
        ExitCode::StepFailed,
        format!("collection {collection} has a point that this tandem cannot read"),
    )
    .remedy("use a newer tandem")
}

fn request(
    collection: &str,
    from: Option<&PointId>,
    limit: u32,
    vectors: pb::WithVectorsSelector,
    payload: pb::WithPayloadSelector,
) -> pb::ScrollPoints {
    pb::ScrollPoints {
        collection_name: collection.to_owned(),
        offset: from.map(pb_id),
        limit: Some(limit),
        with_vectors: Some(vectors),
        with_payload: Some(payload),
        ..Default::default()
    }
}

/// Points a request may read, and a write change, under a strict mode.
pub(super) fn page_limit(strict: Option<&StrictModeConfig>, wanted: u32) -> u32 {
    match strict.filter(|strict| strict.enabled == Some(true)) {
        Some(strict) => strict.max_query_limit.unwrap_or(wanted).min(wanted),
        None => wanted,
    }
}

fn with_vectors(selection: &Selection) -> pb::WithVectorsSelector {
    use pb::with_vectors_selector::SelectorOptions;
    let options = match selection {
        Selection::All => SelectorOptions::Enable(true),
        Selection::Only(names) if names.is_empty() => SelectorOptions::Enable(false),
        // The one unnamed vector has no name to ask for.
        Selection::Only(names) if names.contains(UNNAMED) => SelectorOptions::Enable(true),
        Selection::Only(names) => {
            SelectorOptions::Include(pb::VectorsSelector { names: names.iter().cloned().collect() })
        }
    };
    pb::WithVectorsSelector { selector_options: Some(options) }
}

fn with_payload(selection: &Selection) -> pb::WithPayloadSelector {
    use pb::with_payload_selector::SelectorOptions;
    let options = match selection {
        Selection::All => SelectorOptions::Enable(true),
        Selection::Only(keys) if keys.is_empty() => SelectorOptions::Enable(false),
        Selection::Only(keys) => SelectorOptions::Include(pb::PayloadIncludeSelector {
            fields: keys.iter().map(|key| path(key)).collect(),
        }),
    };
    pb::WithPayloadSelector { selector_options: Some(options) }
}

/// A top-level key as the server's path syntax has it: quoted unless it is a plain word.
pub(super) fn path(key: &str) -> String {
    let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if plain && !key.is_empty() { key.to_owned() } else { format!("\"{key}\"") }
}

/// The plain data of a point that was read; `None` if it has something that this protocol version does not know.
pub fn point(retrieved: pb::RetrievedPoint) -> Option<Point> {
    use pb::vectors_output::VectorsOptions;
    let vectors = match retrieved.vectors.and_then(|vectors| vectors.vectors_options) {
        None => Default::default(),
        Some(VectorsOptions::Vector(one)) => [(UNNAMED.to_owned(), vector(one)?)].into(),
        Some(VectorsOptions::Vectors(named)) => {
            named.vectors.into_iter().map(|(name, one)| Some((name, vector(one)?))).collect::<Option<_>>()?
        }
    };
    let payload = retrieved.payload.into_iter().map(|(key, value)| (key, convert::json(value))).collect();
    Some(Point { id: id(retrieved.id?)?, vectors, payload })
}

fn vector(output: pb::VectorOutput) -> Option<Vector> {
    use pb::vector_output::Vector as Output;
    Some(match output.into_vector() {
        Output::Dense(dense) => Vector::Dense(dense.data),
        Output::Sparse(sparse) => Vector::Sparse { indices: sparse.indices, values: sparse.values },
        Output::MultiDense(multi) => Vector::Multi(multi.vectors.into_iter().map(|row| row.data).collect()),
    })
}

pub(super) fn id(id: pb::PointId) -> Option<PointId> {
    Some(match id.point_id_options? {
        PointIdOptions::Num(number) => PointId::Number(number),
        PointIdOptions::Uuid(uuid) => PointId::Uuid(uuid),
    })
}

/// The id for a request.
pub fn pb_id(id: &PointId) -> pb::PointId {
    let options = match id {
        PointId::Number(number) => PointIdOptions::Num(*number),
        PointId::Uuid(uuid) => PointIdOptions::Uuid(uuid.clone()),
    };
    pb::PointId { point_id_options: Some(options) }
}

/// The vectors for a write. A point without any is an empty map: none at all is refused.
#[allow(deprecated, reason = "the fields that older protocol versions had, left empty")]
pub fn pb_vectors(vectors: impl IntoIterator<Item = (String, Vector)>) -> pb::Vectors {
    use pb::vector::Vector as Input;
    use pb::vectors::VectorsOptions;
    let input = |vector: Vector| pb::Vector {
        vector: Some(match vector {
            Vector::Dense(data) => Input::Dense(pb::DenseVector { data }),
            Vector::Sparse { indices, values } => Input::Sparse(pb::SparseVector { values, indices }),
            Vector::Multi(rows) => Input::MultiDense(pb::MultiDenseVector {
                vectors: rows.into_iter().map(|data| pb::DenseVector { data }).collect(),
            }),
        }),
        ..Default::default()
    };
    let mut named: std::collections::HashMap<String, pb::Vector> =
        vectors.into_iter().map(|(name, vector)| (name, input(vector))).collect();
    // Beside sparse ones, the one without a name is sent by its empty name.
    let options = match named.remove(UNNAMED) {
        Some(unnamed) if named.is_empty() => VectorsOptions::Vector(unnamed),
        unnamed => {
            named.extend(unnamed.map(|unnamed| (UNNAMED.to_owned(), unnamed)));
            VectorsOptions::Vectors(pb::NamedVectors { vectors: named })
        }
    };
    pb::Vectors { vectors_options: Some(options) }
}

/// The whole point for an upsert.
pub fn pb_point(point: Point) -> pb::PointStruct {
    pb::PointStruct {
        id: Some(pb_id(&point.id)),
        payload: point.payload.iter().map(|(key, value)| (key.clone(), convert::pb_value(value))).collect(),
        vectors: Some(pb_vectors(point.vectors)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_survives_the_way_to_the_server_and_back() {
        let vectors = [
            ("d", Vector::Dense(vec![1.0, -2.5])),
            ("s", Vector::Sparse { indices: vec![3, 9], values: vec![0.5, 1.0] }),
            ("m", Vector::Multi(vec![vec![1.0, 2.0], vec![3.0, 4.0]])),
        ];
        let payload = serde_json::json!({ "k": [1, 2.5, null, { "é": true }] });
        let full = Point {
            id: PointId::Uuid("550e8400-e29b-41d4-a716-446655440000".into()),
            vectors: vectors.map(|(name, vector)| (name.to_owned(), vector)).into(),
            payload: payload.as_object().unwrap().clone(),
        };
        let unnamed = Point {
            id: PointId::Number(u64::MAX),
            vectors: [(UNNAMED.to_owned(), Vector::Dense(vec![1.0]))].into(),
            payload: Default::default(),
        };
        let bare = Point { vectors: Default::default(), ..unnamed.clone() };
        let sparse = ("s".to_owned(), Vector::Sparse { indices: vec![3], values: vec![0.5] });
        let beside = Point {
            vectors: unnamed.vectors.clone().into_iter().chain([sparse]).collect(),
            ..unnamed.clone()
        };
        for sent in [full, unnamed, bare, beside] {
            let written = pb_point(sent.clone());
            assert!(written.vectors.is_some());
            assert_eq!(point(read(written)), Some(sent));
        }
    }

    /// What a server answers about a point that was sent.
    #[allow(deprecated, reason = "the fields that older protocol versions had, left empty")]
    fn read(sent: pb::PointStruct) -> pb::RetrievedPoint {
        use pb::vector::Vector as Input;
        use pb::vector_output::Vector as Output;
        let output = |vector: pb::Vector| pb::VectorOutput {
            vector: Some(match vector.vector.unwrap() {
                Input::Dense(dense) => Output::Dense(dense),
                Input::Sparse(sparse) => Output::Sparse(sparse),
                Input::MultiDense(multi) => Output::MultiDense(multi),
                other => panic!("{other:?}"),
            }),
            ..Default::default()
        };
        use pb::vectors::VectorsOptions as In;
        use pb::vectors_output::VectorsOptions as Out;
        let options = match sent.vectors.unwrap().vectors_options.unwrap() {
            In::Vector(one) => Out::Vector(output(one)),
            In::Vectors(named) => Out::Vectors(pb::NamedVectorsOutput {
                vectors: named.vectors.into_iter().map(|(name, one)| (name, output(one))).collect(),
            }),
        };
        pb::RetrievedPoint {
            id: sent.id,
            payload: sent.payload,
            vectors: Some(pb::VectorsOutput { vectors_options: Some(options) }),
            ..Default::default()
        }
    }

    #[test]
    fn only_plain_words_are_paths_as_they_are() {
        assert_eq!(["user_id", "a-1", "a b", "é"].map(path), ["user_id", "a-1", "\"a b\"", "\"é\""]);
    }

    #[test]
    fn a_strict_mode_bounds_a_page_if_it_is_on() {
        let strict = |enabled| StrictModeConfig { enabled, max_query_limit: Some(10), ..Default::default() };
        for (strict, limit) in [(None, 256), (Some(strict(Some(false))), 256), (Some(strict(Some(true))), 10)]
        {
            assert_eq!(page_limit(strict.as_ref(), 256), limit);
        }
    }
}
