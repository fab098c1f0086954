//! Points on the wire: from the answer of a scroll into an upsert, and two of them held together, without being decoded.
//!
//! What is read (`RetrievedPoint`) and what is written (`PointStruct`) differ in the tag of the payload and in two fields
//! that only the first has; their vectors are spelled alike. A map's entries come in any order.

use super::points::id;
use super::wide::WIDE;
use crate::collection::PointId;
use foldhash::quality::RandomState;
use prost::Message as _;
use prost::bytes::{BufMut as _, Bytes};
use qdrant_client::qdrant as pb;
use std::hash::{BuildHasher as _, Hasher as _};

/// Number and wire type of a field, as it begins.
type Key = usize;

/// Of an answer.
const NEXT: Key = 0x0a;
const RESULT: Key = 0x12;

/// Of a point that was read.
const ID: Key = 0x0a;
pub(super) const PAYLOAD: Key = 0x12;
pub(super) const VECTORS: Key = 0x22;
const SHARD_KEY: Key = 0x2a;
const ORDER_VALUE: Key = 0x32;

/// Of the vectors of a point: one without a name, or a map of them.
const UNNAMED: Key = 0x0a;
const NAMED: Key = 0x12;

/// Of a request that writes.
const POINT: Key = 0x1a;
const PAYLOAD_WRITTEN: Key = 0x1a;

/// Of a value of a payload, as one byte.
const DOUBLE: u8 = 0x11;
/// Of an entry of a payload.
const VALUE: Key = 0x12;
/// Of values of a payload that have others in them.
const STRUCT: Key = 0x32;
const LIST: Key = 0x3a;

/// Vectors of a point that has none: a write that says nothing of vectors is refused.
const NO_VECTORS: [u8; 4] = [VECTORS as u8, 2, NAMED as u8, 0];

/// Some points as the server sent them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Page {
    pub points: Vec<Retrieved>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<PointId>,
    /// Of all points together.
    pub bytes: usize,
}

/// A point as the server sent it. It has nothing that this protocol version does not know.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Retrieved {
    pub id: PointId,
    bytes: Bytes,
}

/// What points are known by: the same ones have it again, in whatever order they and the entries of their maps come. Its key is
/// this process's own, so that nothing that is stored can be made to look like something else.
#[derive(Debug, Clone)]
pub(super) struct Digest {
    random: RandomState,
    whole: u64,
    /// Of ids and vectors only.
    vectors: u64,
    points: u64,
    /// Some point in the middle, from which on a second reader can go.
    pub middle: Option<PointId>,
}

impl Digest {
    /// Of no points.
    pub fn new(middle: Option<PointId>) -> Self {
        Self { random: RandomState::default(), whole: 0, vectors: 0, points: 0, middle }
    }

    /// With the same key, of no points.
    pub fn anew(&self) -> Self {
        Self { whole: 0, vectors: 0, points: 0, ..self.clone() }
    }

    /// To be asked of a point before: may it be rounded? Then its bytes do not tell all of it.
    pub fn add(&mut self, point: &Retrieved) {
        let vectors = self.add_vectors(point);
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(vectors);
        hasher.write_u64(entries(point.payload(), &self.random));
        self.whole = self.whole.wrapping_add(hasher.finish());
    }

    /// Without its payload.
    pub fn add_vectors(&mut self, point: &Retrieved) -> u64 {
        let vectors = point.hash_vectors(&self.random);
        self.vectors = self.vectors.wrapping_add(vectors);
        self.points += 1;
        vectors
    }

    pub fn has_vectors_of(&self, other: &Self) -> bool {
        self.points == other.points && self.vectors == other.vectors
    }

    /// With the points of another part.
    pub fn and(self, other: &Self) -> Self {
        Self {
            whole: self.whole.wrapping_add(other.whole),
            vectors: self.vectors.wrapping_add(other.vectors),
            points: self.points + other.points,
            ..self
        }
    }

    pub fn points(&self) -> u64 {
        self.points
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.points == other.points && self.whole == other.whole
    }
}

/// Takes an answer apart; `None` if a point has something that this protocol version does not know, such as a new kind of
/// vector.
pub(super) fn page(answer: &Bytes) -> Option<Page> {
    let mut page = Page { points: Vec::new(), next: None, bytes: answer.len() };
    for field in fields(answer) {
        let field = field?;
        match field.key {
            NEXT => page.next = Some(point_id(field.body)?),
            RESULT => page.points.push(Retrieved::new(answer.slice_ref(field.body))?),
            // How long it took, and what it used.
            _ => {}
        }
    }
    Some(page)
}

/// The request that writes points as they were read, and waits until they are applied.
pub(super) fn upsert(collection: &str, points: &[Retrieved]) -> Bytes {
    let head =
        pb::UpsertPoints { collection_name: collection.to_owned(), wait: Some(true), ..Default::default() };
    let sizes: Vec<usize> = points.iter().map(Retrieved::written_len).collect();
    let all: usize = sizes.iter().map(|size| 1 + prost::length_delimiter_len(*size) + size).sum();
    let mut request = Vec::with_capacity(head.encoded_len() + all);
    // A vector grows; it has no end to reach.
    let _ = head.encode(&mut request);
    for (point, size) in points.iter().zip(sizes) {
        request.put_u8(POINT as u8);
        let _ = prost::encode_length_delimiter(size, &mut request);
        point.write(&mut request);
    }
    request.into()
}

impl Retrieved {
    fn new(bytes: Bytes) -> Option<Self> {
        let (mut id, mut vectors) = (None, None);
        for field in fields(&bytes) {
            let field = field?;
            match field.key {
                ID => once(&mut id, field.body)?,
                VECTORS => once(&mut vectors, field.body)?,
                PAYLOAD | SHARD_KEY | ORDER_VALUE => {}
                _ => return None,
            }
        }
        are_known(vectors.unwrap_or_default()).then_some(())?;
        Some(Self { id: point_id(id?)?, bytes })
    }

    /// The same without the rest of its page, to be kept for longer.
    pub fn alone(self) -> Self {
        Self { bytes: Bytes::copy_from_slice(&self.bytes), ..self }
    }

    /// As the generated structs have it, without some of its fields; `None` if its payload is not well-formed.
    pub fn decode(&self, without: &[Key]) -> Option<pb::RetrievedPoint> {
        let mut kept = Vec::with_capacity(self.bytes.len());
        for field in self.fields().filter(|field| !without.contains(&field.key)) {
            field.write(field.key, &mut kept);
        }
        pb::RetrievedPoint::decode(kept.as_slice()).ok()
    }

    /// Does its payload have a double that may be a whole number, rounded? Some other bytes that look like one count as well.
    pub fn may_be_rounded(&self) -> bool {
        self.payload().any(|entry| {
            entry.windows(9).any(|bytes| match bytes {
                // The last byte first: few doubles are that large.
                [DOUBLE, double @ .., 0x43] => {
                    let mut whole = [0x43; 8];
                    whole[..7].copy_from_slice(double);
                    WIDE.contains(&f64::from_le_bytes(whole))
                }
                _ => false,
            })
        })
    }

    /// Is the payload the same, byte for byte?
    pub fn has_payload_of(&self, other: &Self) -> bool {
        have_equal_entries(self.payload().collect(), other.payload().collect())
    }

    /// Are the vectors the same, byte for byte?
    pub fn has_vectors_of(&self, other: &Self) -> bool {
        match (self.vectors(), other.vectors()) {
            (None, None) => true,
            (Some(one), Some(two)) if one.key == NAMED && two.key == NAMED => {
                have_equal_entries(bodies(one.body).collect(), bodies(two.body).collect())
            }
            (one, two) => one == two,
        }
    }

    /// Of its id and its vectors.
    fn hash_vectors(&self, random: &RandomState) -> u64 {
        let mut hasher = random.build_hasher();
        for field in self.fields().filter(|field| field.key == ID) {
            hasher.write(field.tail);
        }
        match self.vectors() {
            Some(Field { key: NAMED, body, .. }) => {
                let each = bodies(body).map(|entry| random.hash_one(entry));
                hasher.write_u64(each.fold(0, u64::wrapping_add));
            }
            Some(unnamed) => hasher.write(unnamed.tail),
            None => {}
        }
        hasher.finish()
    }

    fn payload(&self) -> impl Iterator<Item = &[u8]> {
        self.fields().filter(|field| field.key == PAYLOAD).map(|field| field.body)
    }

    /// `None` if it has no vector.
    fn vectors(&self) -> Option<Field<'_>> {
        let vectors = self.fields().find(|field| field.key == VECTORS)?;
        fields(vectors.body)
            .flatten()
            .next()
            .filter(|options| options.key == UNNAMED || !options.body.is_empty())
    }

    fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        fields(&self.bytes).flatten()
    }

    /// What a write has of it.
    fn written(&self) -> impl Iterator<Item = (Key, Field<'_>)> {
        self.fields().filter_map(|field| match field.key {
            PAYLOAD => Some((PAYLOAD_WRITTEN, field)),
            ID => Some((ID, field)),
            VECTORS if !field.body.is_empty() => Some((VECTORS, field)),
            _ => None,
        })
    }

    fn written_len(&self) -> usize {
        let (mut len, mut vectors) = (0, NO_VECTORS.len());
        for (key, field) in self.written() {
            len += 1 + field.tail.len();
            if key == VECTORS {
                vectors = 0;
            }
        }
        len + vectors
    }

    fn write(&self, to: &mut Vec<u8>) {
        let mut vectors = false;
        for (key, field) in self.written() {
            field.write(key, to);
            vectors |= key == VECTORS;
        }
        if !vectors {
            to.extend_from_slice(&NO_VECTORS);
        }
    }
}

fn point_id(bytes: &[u8]) -> Option<PointId> {
    id(pb::PointId::decode(bytes).ok()?)
}

/// Takes what a message may say once only: a second time would be merged with the first.
fn once<'a>(slot: &mut Option<&'a [u8]>, body: &'a [u8]) -> Option<()> {
    slot.replace(body).is_none().then_some(())
}

fn have_equal_entries(mut one: Vec<&[u8]>, mut two: Vec<&[u8]>) -> bool {
    one.sort_unstable();
    two.sort_unstable();
    one == two
}

/// The same for any order of the entries of a payload, or of a struct in it.
fn entries<'a>(entries: impl Iterator<Item = &'a [u8]>, random: &RandomState) -> u64 {
    let each = entries.map(|entry| {
        let mut hasher = random.build_hasher();
        for field in fields(entry).flatten() {
            hasher.write_usize(field.key);
            match field.key {
                VALUE => hasher.write_u64(value(field.body, random)),
                _ => hasher.write(field.tail),
            }
        }
        hasher.finish()
    });
    each.fold(0, u64::wrapping_add)
}

fn value(value: &[u8], random: &RandomState) -> u64 {
    let mut hasher = random.build_hasher();
    for field in fields(value).flatten() {
        hasher.write_usize(field.key);
        match field.key {
            STRUCT => hasher.write_u64(entries(bodies(field.body), random)),
            LIST => bodies(field.body).for_each(|item| hasher.write_u64(self::value(item, random))),
            _ => hasher.write(field.tail),
        }
    }
    hasher.finish()
}

/// Are all these vectors of kinds that this protocol version knows?
fn are_known(vectors: &[u8]) -> bool {
    let mut options = fields(vectors);
    let known = match options.next() {
        None => true,
        Some(Some(Field { key: UNNAMED, body, .. })) => is_known(body),
        Some(Some(Field { key: NAMED, body, .. })) => fields(body).all(|entry| match entry {
            Some(Field { key: 0x0a, body, .. }) => {
                // Its name, and the vector.
                let mut vector = None;
                let entry = fields(body).all(|field| match field {
                    Some(Field { key: 0x0a, .. }) => true,
                    Some(Field { key: 0x12, body, .. }) => once(&mut vector, body).is_some(),
                    _ => false,
                });
                entry && vector.is_some_and(is_known)
            }
            _ => false,
        }),
        Some(_) => false,
    };
    known && options.next().is_none()
}

/// One vector: of a kind of its own, or in the fields that servers before had for all kinds.
fn is_known(vector: &[u8]) -> bool {
    const OLD: [Key; 4] = [0x0a, 0x0d, 0x12, 0x18];
    const NUMBERS: [Key; 2] = [0x0a, 0x0d];
    const NUMBERS_AND_INDICES: [Key; 4] = [0x0a, 0x0d, 0x10, 0x12];
    let has_only =
        |body, known: &[Key]| fields(body).all(|field| field.is_some_and(|field| known.contains(&field.key)));
    !vector.is_empty()
        && fields(vector).all(|field| match field {
            Some(Field { key: DENSE, body, .. }) => has_only(body, &NUMBERS),
            Some(Field { key: SPARSE, body, .. }) => has_only(body, &NUMBERS_AND_INDICES),
            Some(Field { key: MULTI_DENSE, body, .. }) => fields(body)
                .all(|row| matches!(row, Some(Field { key: 0x0a, body, .. }) if has_only(body, &NUMBERS))),
            Some(Field { key, .. }) => OLD.contains(&key),
            None => false,
        })
}

const DENSE: Key = 101 << 3 | 2;
const SPARSE: Key = 102 << 3 | 2;
const MULTI_DENSE: Key = 103 << 3 | 2;

/// A field of an encoded message.
#[derive(Clone, Copy, PartialEq)]
struct Field<'a> {
    key: Key,
    /// All behind the key.
    tail: &'a [u8],
    /// The content, where it has a length.
    body: &'a [u8],
}

impl Field<'_> {
    /// With a key of one byte.
    fn write(&self, key: Key, to: &mut Vec<u8>) {
        to.put_u8(key as u8);
        to.extend_from_slice(self.tail);
    }
}

/// The fields of a message; the last is `None` if they do not end with it.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Option<Field<'_>>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest);
        if field.is_none() {
            rest = &[];
        }
        Some(field)
    })
}

fn bodies(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    fields(message).flatten().map(|field| field.body)
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<Field<'a>> {
    let varint = |rest: &mut &'a [u8]| prost::decode_length_delimiter(rest).ok();
    let key = varint(rest)?;
    let tail = *rest;
    let length = match key & 7 {
        0 => {
            varint(rest)?;
            0
        }
        1 => 8,
        2 => varint(rest)?,
        5 => 4,
        _ => return None,
    };
    let (body, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(Field { key, tail: &tail[..tail.len() - after.len()], body })
}

#[cfg(test)]
#[allow(deprecated, reason = "the fields that older servers answer with")]
mod tests {
    use super::*;
    use crate::qdrant::convert;
    use crate::qdrant::points::{pb_point, point};
    use pb::vector_output::Vector as Kind;
    use pb::vectors_output::VectorsOptions;
    use proptest::collection::{hash_map, vec};
    use proptest::prelude::*;
    use serde_json::json;
    use std::collections::HashMap;

    fn answer(points: Vec<pb::RetrievedPoint>, next: Option<u64>) -> Bytes {
        let usage = Some(pb::Usage::default());
        let next_page_offset = next.map(Into::into);
        pb::ScrollResponse { next_page_offset, result: points, time: 0.25, usage }.encode_to_vec().into()
    }

    /// What a page becomes in a request.
    fn written(page: &Page) -> pb::UpsertPoints {
        pb::UpsertPoints::decode(upsert("m", &page.points)).unwrap()
    }

    /// A written point as a server would answer with it: both have the same vectors.
    fn read_back(written: pb::PointStruct) -> pb::RetrievedPoint {
        let vectors = written.vectors.map(|vectors| vectors.encode_to_vec());
        let vectors = vectors.map(|bytes| pb::VectorsOutput::decode(bytes.as_slice()).unwrap());
        pb::RetrievedPoint { id: written.id, payload: written.payload, vectors, ..Default::default() }
    }

    #[test]
    fn a_number_that_may_be_rounded_is_seen_wherever_it_is() {
        for (value, is) in [
            (json!(u64::MAX), true),
            (json!(9_223_372_036_854_775_808_u64), true),
            (json!(1e19), true),
            (json!([1, "x", { "deep": [null, 10_000_000_000_000_000_000_u64] }, 2.5]), true),
            (
                json!([i64::MAX, i64::MIN, -1e19, 1e20, 9.2e18, 0.5, null, true, "18446744073709551615", {}]),
                false,
            ),
        ] {
            let payload = HashMap::from([("é".to_owned(), convert::pb_value(&value))]);
            let read = pb::RetrievedPoint { id: Some(7.into()), payload, ..Default::default() };
            let page = page(&answer(vec![read], None)).unwrap();
            assert_eq!(page.points[0].may_be_rounded(), is, "{value}");
        }
    }

    fn kind(vector: Kind) -> pb::VectorOutput {
        pb::VectorOutput { vector: Some(vector), ..Default::default() }
    }

    fn dense(data: Vec<f32>) -> pb::VectorOutput {
        kind(Kind::Dense(pb::DenseVector { data }))
    }

    fn named(vectors: impl IntoIterator<Item = (&'static str, pb::VectorOutput)>) -> pb::RetrievedPoint {
        let vectors = vectors.into_iter().map(|(name, vector)| (name.to_owned(), vector)).collect();
        with(VectorsOptions::Vectors(pb::NamedVectorsOutput { vectors }))
    }

    fn with(options: VectorsOptions) -> pb::RetrievedPoint {
        pb::RetrievedPoint {
            id: Some(7.into()),
            vectors: Some(pb::VectorsOutput { vectors_options: Some(options) }),
            ..Default::default()
        }
    }

    /// An answer with one point of these bytes.
    fn raw(point: &[u8]) -> Bytes {
        let mut answer = vec![RESULT as u8, point.len() as u8];
        answer.extend_from_slice(point);
        answer.into()
    }

    const SEVEN: [u8; 4] = [0x0a, 2, 0x08, 7];

    #[test]
    fn a_point_that_was_read_is_written_with_all_that_it_has_and_nothing_else() {
        let old = |data, indices: Option<Vec<u32>>, vectors_count| pb::VectorOutput {
            data,
            indices: indices.map(|data| pb::SparseIndices { data }),
            vectors_count,
            vector: None,
        };
        let sparse = pb::SparseVector { values: vec![0.5], indices: vec![3] };
        let rows = vec![pb::DenseVector { data: vec![1.0] }, pb::DenseVector { data: vec![2.0] }];
        let full = pb::RetrievedPoint {
            payload: [("a".to_owned(), pb::Value::from(1)), ("b".to_owned(), pb::Value::from("x"))].into(),
            shard_key: Some("shard".into()),
            order_value: Some(pb::OrderValue { variant: Some(pb::order_value::Variant::Int(5)) }),
            ..named([
                ("d", dense(vec![1.0, -2.5])),
                ("s", kind(Kind::Sparse(sparse))),
                ("m", kind(Kind::MultiDense(pb::MultiDenseVector { vectors: rows }))),
            ])
        };
        let uuid = "550e8400-e29b-41d4-a716-446655440000";
        for read in [
            full,
            pb::RetrievedPoint { id: Some(uuid.into()), ..with(VectorsOptions::Vector(dense(vec![1.0]))) },
            named([("old", old(vec![1.0, 2.0], None, None))]),
            named([("old", old(vec![0.5], Some(vec![9]), None)), ("empty", old(vec![], Some(vec![]), None))]),
            with(VectorsOptions::Vector(old(vec![1.0, 2.0, 3.0, 4.0], None, Some(2)))),
        ] {
            let page = page(&answer(vec![read.clone()], Some(8))).unwrap();
            assert_eq!((page.points.len(), page.next.clone()), (1, Some(PointId::Number(8))));
            let request = written(&page);
            assert_eq!((request.collection_name.as_str(), request.wait), ("m", Some(true)));
            let [point] = &request.points[..] else { panic!("{request:?}") };
            let back = read_back(point.clone());
            assert_eq!((&back.id, &back.payload, &back.vectors), (&read.id, &read.payload, &read.vectors));
        }
    }

    #[test]
    fn a_point_without_vectors_is_written_with_an_empty_map_of_them() {
        let bare = pb::RetrievedPoint { id: Some(7.into()), ..Default::default() };
        let no_options = pb::RetrievedPoint { vectors: Some(Default::default()), ..bare.clone() };
        let page = page(&answer(vec![bare, no_options, named([])], None)).unwrap();
        assert_eq!(page.next, None);
        for point in written(&page).points {
            assert_eq!(
                point.vectors.unwrap().vectors_options,
                Some(pb::vectors::VectorsOptions::Vectors(Default::default()))
            );
        }
        for (one, two) in [(0, 1), (1, 2), (0, 2)] {
            assert!(page.points[one].has_vectors_of(&page.points[two]));
        }
    }

    #[test]
    fn what_this_protocol_version_does_not_know_is_refused() {
        let known = [0x22, 8, 0x0a, 6, 0x0a, 4, 0, 0, 0x80, 0x3f];
        let vector = |field: &[u8]| {
            let mut vectors = vec![0x22, field.len() as u8 + 2, 0x0a, field.len() as u8];
            vectors.extend_from_slice(field);
            vectors
        };
        for (bytes, readable) in [
            (known.to_vec(), true),
            (vector(&[0x0a, 0]), true),
            // Of no kind; of the kind 104; dense with a second field; rows that are no rows.
            (vector(&[]), false),
            (vector(&[0xc2, 0x06, 0]), false),
            (vector(&[0xaa, 0x06, 2, 0x10, 1]), false),
            (vector(&[0xba, 0x06, 2, 0x10, 1]), false),
            // Beside a known vector: another form of vectors, and vectors a second time.
            ([&known[..], &[0x22, 2, 0x1a, 0]].concat(), false),
            ([&known[..], &known].concat(), false),
            (vec![0x22, 2, 0x1a, 0], false),
            (vec![0x22, 4, 0x12, 0, 0x0a, 0], false),
            // A named one: a vector is missing, of the kind 104, beside something else.
            (vec![0x22, 7, 0x12, 5, 0x0a, 3, 0x0a, 1, b'a'], false),
            (vec![0x22, 9, 0x12, 7, 0x0a, 5, 0x12, 3, 0xc2, 0x06, 0], false),
            (vec![0x22, 9, 0x12, 7, 0x0a, 5, 0x12, 2, 0x0a, 0, 0x1a], false),
            // A new field of a point, an id twice, and a field that does not end.
            (vec![0x3a, 0], false),
            (SEVEN.to_vec(), false),
            (vec![0x12, 9, 1], false),
            (vec![0x0b], false),
        ] {
            let point = [&SEVEN[..], &bytes].concat();
            assert_eq!(page(&raw(&point)).is_some(), readable, "{bytes:x?}");
        }
        for (bytes, readable) in
            [(&[][..], false), (&[0x0a, 0], false), (&[0x0a, 2, 0x18, 1], false), (&SEVEN, true)]
        {
            assert_eq!(page(&raw(bytes)).is_some(), readable, "id {bytes:x?}");
        }
        assert_eq!(page(&Bytes::from_static(&[RESULT as u8, 200])), None);
    }

    #[test]
    fn what_is_kept_for_longer_does_not_hold_its_page() {
        let page = page(&answer(vec![named([("a", dense(vec![1.0]))])], None)).unwrap();
        let point = page.points[0].clone();
        assert_eq!(point.clone().alone(), point);
        assert_ne!(point.clone().alone().bytes.as_ptr(), point.bytes.as_ptr());
    }

    fn value() -> impl Strategy<Value = pb::Value> {
        let leaf = prop_oneof![
            Just(pb::Value { kind: Some(pb::value::Kind::NullValue(0)) }),
            any::<bool>().prop_map(pb::Value::from),
            any::<i64>().prop_map(pb::Value::from),
            (-1e9..1e9).prop_map(pb::Value::from),
            "[a-zé]{0,4}".prop_map(pb::Value::from),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..3).prop_map(pb::Value::from),
                hash_map("[a-c]", inner, 0..3).prop_map(|fields| {
                    pb::Value { kind: Some(pb::value::Kind::StructValue(pb::Struct { fields })) }
                }),
            ]
        })
    }

    fn vector() -> impl Strategy<Value = pb::VectorOutput> {
        let numbers = || vec(-2f32..2.0, 0..4);
        prop_oneof![
            numbers().prop_map(dense),
            vec((any::<u32>(), -2f32..2.0), 0..4).prop_map(|pairs| {
                let (indices, values) = pairs.into_iter().unzip();
                kind(Kind::Sparse(pb::SparseVector { values, indices }))
            }),
            vec(numbers(), 0..3).prop_map(|rows| {
                let vectors = rows.into_iter().map(|data| pb::DenseVector { data }).collect();
                kind(Kind::MultiDense(pb::MultiDenseVector { vectors }))
            }),
        ]
    }

    fn retrieved() -> impl Strategy<Value = pb::RetrievedPoint> {
        let id = prop_oneof![
            any::<u64>().prop_map(pb::PointId::from),
            "[0-9a-f]{8}".prop_map(|text| pb::PointId::from(format!("{text}-e29b-41d4-a716-446655440000"))),
        ];
        let vectors = prop_oneof![
            Just(None),
            vector().prop_map(|one| Some(VectorsOptions::Vector(one))),
            hash_map("[a-d]", vector(), 0..4)
                .prop_map(|vectors| Some(VectorsOptions::Vectors(pb::NamedVectorsOutput { vectors }))),
        ];
        let shard = any::<Option<u64>>().prop_map(|key| key.map(pb::ShardKey::from));
        (id, hash_map("[a-z]{0,2}", value(), 0..6), vectors, shard).prop_map(
            |(id, payload, options, shard_key)| pb::RetrievedPoint {
                id: Some(id),
                payload,
                vectors: options.map(|options| pb::VectorsOutput { vectors_options: Some(options) }),
                shard_key,
                order_value: None,
            },
        )
    }

    /// A copy whose maps are made anew: their entries come in another order.
    fn reordered(read: &pb::RetrievedPoint) -> pb::RetrievedPoint {
        fn anew(value: &pb::Value) -> pb::Value {
            use pb::value::Kind;
            let kind = value.kind.as_ref().map(|kind| match kind {
                Kind::StructValue(of) => Kind::StructValue(pb::Struct { fields: all_anew(&of.fields) }),
                Kind::ListValue(of) => {
                    Kind::ListValue(pb::ListValue { values: of.values.iter().map(anew).collect() })
                }
                other => other.clone(),
            });
            pb::Value { kind }
        }
        fn all_anew(values: &HashMap<String, pb::Value>) -> HashMap<String, pb::Value> {
            values.iter().map(|(key, value)| (key.clone(), anew(value))).collect()
        }
        let mut copy = pb::RetrievedPoint { payload: all_anew(&read.payload), ..read.clone() };
        if let Some(VectorsOptions::Vectors(named)) =
            copy.vectors.as_mut().and_then(|vectors| vectors.vectors_options.as_mut())
        {
            named.vectors = std::mem::take(&mut named.vectors).into_iter().collect();
        }
        copy
    }

    proptest! {
        #[test]
        fn bytes_become_what_decoding_converting_and_encoding_makes_of_them(
            read in vec(retrieved(), 0..4),
            next in any::<Option<u64>>(),
        ) {
            let page = page(&answer(read.clone(), next)).unwrap();
            prop_assert_eq!(&page.next, &next.map(PointId::Number));
            let request = written(&page);
            let expected: Vec<_> = read.iter().map(|read| {
                let payload = read.payload.clone();
                let bare = pb::RetrievedPoint { payload: Default::default(), ..read.clone() };
                pb::PointStruct { payload, ..pb_point(point(bare).unwrap()) }
            }).collect();
            prop_assert_eq!(request.points, expected);
            for (page, read) in page.points.iter().zip(&read) {
                prop_assert_eq!(&page.decode(&[]).unwrap(), read);
                let without_payload = pb::RetrievedPoint { payload: Default::default(), ..read.clone() };
                prop_assert_eq!(&page.decode(&[PAYLOAD]).unwrap(), &without_payload);
                let without_vectors = pb::RetrievedPoint { vectors: None, ..read.clone() };
                prop_assert_eq!(&page.decode(&[VECTORS]).unwrap(), &without_vectors);
            }
        }

        #[test]
        fn alike_is_what_has_the_same_entries_in_any_order(one in retrieved(), two in retrieved()) {
            let flat = |point: &pb::RetrievedPoint| {
                let mut point = point.clone();
                // The order of what is nested is not looked at: such payloads may be called different.
                point.payload.retain(|_, value| !format!("{value:?}").contains("StructValue"));
                point
            };
            let (one, two) = (flat(&one), flat(&two));
            let both = [one.clone(), two.clone(), reordered(&one), pb::RetrievedPoint { vectors: two.vectors.clone(), ..one.clone() }];
            let page = page(&answer(both.to_vec(), None)).unwrap();
            let vectors = |read: &pb::RetrievedPoint| point(pb::RetrievedPoint { payload: Default::default(), ..read.clone() }).unwrap().vectors;
            for (i, a) in both.iter().enumerate() {
                for (j, b) in both.iter().enumerate() {
                    prop_assert_eq!(page.points[i].has_payload_of(&page.points[j]), a.payload == b.payload);
                    let same_form = std::mem::discriminant(&a.vectors) == std::mem::discriminant(&b.vectors);
                    prop_assert_eq!(page.points[i].has_vectors_of(&page.points[j]), vectors(a) == vectors(b) && (same_form || vectors(a).is_empty()));
                }
            }
        }

        #[test]
        fn a_digest_tells_points_that_differ_and_not_the_order_of_what_has_none(
            points in vec(retrieved(), 0..4),
            other in retrieved(),
            at in any::<prop::sample::Index>(),
        ) {
            let digest = Digest::new(None);
            let of = |points: &[pb::RetrievedPoint]| {
                let mut digest = digest.anew();
                page(&answer(points.to_vec(), None)).unwrap().points.iter().for_each(|point| digest.add(point));
                digest
            };
            let again: Vec<_> = points.iter().map(reordered).collect();
            prop_assert_eq!(of(&points), of(&again));
            let (low, high) = points.split_at(points.len() / 2);
            prop_assert_eq!(of(&points), of(high).and(&of(low)));
            let more: Vec<_> = points.iter().chain([&other]).cloned().collect();
            prop_assert_ne!(of(&points), of(&more));
            if points.is_empty() {
                return Ok(());
            }
            let at = at.index(points.len());
            let with = |point: pb::RetrievedPoint| [&points[..at], &[point], &points[at + 1..]].concat();
            // Each part by itself.
            let one = &points[at];
            let (payload, vectors) = (other.payload.clone(), other.vectors.clone());
            for changed in [
                pb::RetrievedPoint { id: other.id.clone(), ..one.clone() },
                pb::RetrievedPoint { payload, ..one.clone() },
                pb::RetrievedPoint { vectors, ..one.clone() },
            ] {
                let bare = |read: &pb::RetrievedPoint| {
                    point(pb::RetrievedPoint { payload: Default::default(), ..read.clone() })
                };
                let same_vectors = of(&points).has_vectors_of(&of(&with(changed.clone())));
                prop_assert_eq!(same_vectors, bare(&changed) == bare(one));
                if point(changed.clone()) != point(one.clone()) {
                    prop_assert_ne!(of(&points), of(&with(changed)));
                }
            }
        }
    }
}
