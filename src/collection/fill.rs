//! What `[[fill]]` makes of a point: new vectors from what the point has, and payload set, renamed, removed or
//! defaulted. During the copy of a rebuild and in place it is the same transform.

use super::point::alike;
use super::{Datatype, Distance, Observed, Point, PointId, Schema, UNNAMED, Vector};
use crate::error::{Error, ExitCode, Result};
use crate::timeline::{CollectionDeclaration, Fill, FillSource, FillWhat, Number, Timeline};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::Pin;

/// How many points an error names.
const NAMED: usize = 10;

/// A fill that a collection has not had yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Due {
    /// Of the version that has it.
    pub version: Number,
    pub fill: Fill,
    /// Of the vector that it makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
    /// The datatype that it is stored in, if that has no room for every number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub narrow: Option<Datatype>,
}

/// What a vector must be to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Of this size; of any if it is not declared.
    Dense(Option<u64>),
    /// A list of such.
    Multi(Option<u64>),
    Sparse,
}

/// A point that a fill cannot be applied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub id: PointId,
    pub reason: String,
}

/// What the source of a vector makes of one point: nothing if the point has nothing to make it of, or why what it has is
/// no vector.
pub type Made = Option<std::result::Result<Vector, String>>;

/// Answers for a batch of points, which a service may take its time for.
pub type Answers<'a> = Pin<Box<dyn Future<Output = Result<Vec<Made>>> + Send + 'a>>;

/// Where the values of a new vector come from. [`FillSource`] is the two that a point itself has; a service that embeds
/// texts is another.
pub trait VectorSource {
    /// One answer for each point, in their order. Asked again for the same points it answers the same.
    fn vectors<'a>(&'a self, points: &'a [&'a Point]) -> Answers<'a>;
}

impl VectorSource for FillSource {
    fn vectors<'a>(&'a self, points: &'a [&'a Point]) -> Answers<'a> {
        let made = points.iter().map(|point| match self {
            Self::Vector(name) => point.vectors.get(name).cloned().map(Ok),
            Self::Payload(key) => point.payload.get(key).filter(|value| !value.is_null()).map(vector),
        });
        Box::pin(std::future::ready(Ok(made.collect())))
    }
}

/// A payload value as a vector: `[1, 2]`, `[[1, 2], [3, 4]]` or `{ indices = [1], values = [0.5] }`.
fn vector(value: &Value) -> std::result::Result<Vector, String> {
    let no_vector = || format!("it is {}", kind(value));
    match value {
        Value::Array(rows) if rows.first().is_some_and(Value::is_array) => {
            let rows: Option<Vec<Vec<f32>>> = rows.iter().map(numbers).collect();
            rows.map(Vector::Multi).ok_or_else(|| "it is an array that is no list of vectors".into())
        }
        Value::Array(_) => numbers(value)
            .map(Vector::Dense)
            .ok_or_else(|| "it is an array of other things than numbers".into()),
        Value::Object(fields) => {
            let (Some(indices), Some(values)) = (fields.get("indices"), fields.get("values")) else {
                return Err(no_vector());
            };
            let indices: Option<Vec<u32>> = indices.as_array().and_then(|indices| {
                indices.iter().map(|index| index.as_u64().and_then(|index| index.try_into().ok())).collect()
            });
            match (indices, numbers(values)) {
                (Some(indices), Some(values)) if indices.len() == values.len() => {
                    Ok(Vector::Sparse { indices, values })
                }
                _ => Err("its indices and values are no sparse vector".into()),
            }
        }
        _ => Err(no_vector()),
    }
}

fn numbers(value: &Value) -> Option<Vec<f32>> {
    let number = |value: &Value| Some(value.as_f64()? as f32).filter(|number| number.is_finite());
    value.as_array()?.iter().map(number).collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

impl Shape {
    /// Of a vector that a schema declares.
    pub fn of(schema: &Schema, name: &str) -> Option<Self> {
        if schema.sparse_vectors.contains_key(name) {
            return Some(Self::Sparse);
        }
        let params = schema.vectors.get(name)?;
        Some(match params.multivector_config {
            None => Self::Dense(params.size),
            Some(_) => Self::Multi(params.size),
        })
    }

    /// The vector in this shape; a dense one is a list of one.
    fn fit(self, vector: Vector) -> std::result::Result<Vector, String> {
        let sized = |size: Option<u64>, row: &[f32]| match size {
            Some(size) if row.len() as u64 != size => Err(format!("it has size {}", row.len())),
            _ => Ok(()),
        };
        match (self, vector) {
            (Self::Dense(size), Vector::Dense(row)) => {
                sized(size, &row)?;
                if row.is_empty() { Err("it is empty".into()) } else { Ok(Vector::Dense(row)) }
            }
            (Self::Multi(_), Vector::Dense(row)) => self.fit(Vector::Multi(vec![row])),
            (Self::Multi(size), Vector::Multi(rows)) => {
                for row in &rows {
                    sized(size, row)?;
                }
                if rows.is_empty() { Err("it is empty".into()) } else { Ok(Vector::Multi(rows)) }
            }
            (Self::Sparse, sparse @ Vector::Sparse { .. }) => Ok(sparse),
            (_, Vector::Dense(_)) => Err("it is one vector of numbers".into()),
            (_, Vector::Multi(_)) => Err("it is a list of vectors".into()),
            (_, Vector::Sparse { .. }) => Err("it is a sparse vector".into()),
        }
    }
}

/// The datatype of a vector, if it cannot hold whatever a float can. What Cosine normalises is never too large.
pub fn narrow(schema: &Schema, name: &str) -> Option<Datatype> {
    let params = schema.vectors.get(name)?;
    match params.datatype? {
        Datatype::Float16 if params.distance == Some(Distance::Cosine) => None,
        narrow @ (Datatype::Float16 | Datatype::Uint8) => Some(narrow),
        _ => None,
    }
}

/// Whether a vector can be stored in such a datatype.
///
/// # Errors
/// The first number that it has no room for.
pub fn storable(datatype: Datatype, vector: &Vector) -> std::result::Result<(), String> {
    let rows: Vec<&[f32]> = match vector {
        Vector::Dense(row) => vec![row],
        Vector::Multi(rows) => rows.iter().map(Vec::as_slice).collect(),
        Vector::Sparse { .. } => return Ok(()),
    };
    // From 65520 on a float16 is infinite.
    let holds = |x: &f32| match datatype {
        Datatype::Uint8 => x.fract() == 0.0 && (0.0..=255.0).contains(x),
        Datatype::Float16 => x.abs() < 65520.0,
        _ => true,
    };
    match rows.into_iter().flatten().find(|x| !holds(x)) {
        Some(x) => {
            Err(format!("it has {x}, for which {} has no room", format!("{datatype:?}").to_lowercase()))
        }
        None => Ok(()),
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, size) = match self {
            Self::Dense(size) => ("a vector", size),
            Self::Multi(size) => ("a list of vectors", size),
            Self::Sparse => return f.write_str("a sparse vector"),
        };
        f.write_str(what)?;
        size.map_or(Ok(()), |size| write!(f, " of size {size}"))
    }
}

impl fmt::Display for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (version {})", self.fill, self.version)
    }
}

/// The fills of the versions after `from` up to `to` that are for the collections of a declaration, in order.
pub fn due(timeline: &Timeline, declaration: &CollectionDeclaration, from: Number, to: Number) -> Vec<Due> {
    let versions = timeline.versions.iter().filter(|version| version.number > from && version.number <= to);
    let mut due = Vec::new();
    for version in versions {
        let declared = timeline.collections_at(version.number);
        let then = declared.iter().find(|then| then.matching == declaration.matching);
        for fill in &version.fills {
            if fill.matching.as_ref().is_some_and(|matching| *matching != declaration.matching) {
                continue;
            }
            let shape = match &fill.what {
                FillWhat::Vector { name, .. } => {
                    let shape = then.and_then(|then| Shape::of(&then.schema, name));
                    match shape.or_else(|| Shape::of(&declaration.schema, name)) {
                        Some(shape) => Some(shape),
                        // It is another declaration's vector.
                        None => continue,
                    }
                }
                _ => None,
            };
            let narrow = match &fill.what {
                FillWhat::Vector { name, .. } => narrow(&declaration.schema, name),
                _ => None,
            };
            due.push(Due { version: version.number, fill: fill.clone(), shape, narrow });
        }
    }
    due
}

/// Without the fills that can make nothing: the collection has their vector, and not the one they make it of; or they
/// give a name to one unnamed vector, and the collection has none.
pub fn effective(mut due: Vec<Due>, observed: &Observed) -> Vec<Due> {
    let has = |name: &String| {
        observed.schema.vectors.contains_key(name) || observed.schema.sparse_vectors.contains_key(name)
    };
    let made: BTreeSet<String> = due
        .iter()
        .filter_map(|one| match &one.fill.what {
            FillWhat::Vector { name, .. } if !has(name) => Some(name.clone()),
            _ => None,
        })
        .collect();
    due.retain(|one| match &one.fill.what {
        FillWhat::Vector { from: FillSource::Vector(from), .. } if from == UNNAMED => has(from),
        FillWhat::Vector { name, from: FillSource::Vector(from) } => {
            !has(name) || has(from) || made.contains(from)
        }
        _ => true,
    });
    due
}

/// Whether a collection has what the fills read.
///
/// # Errors
/// A vector that is missing is to be made of one that is missing too.
pub fn fillable(name: &str, due: &[Due], observed: &Observed) -> Result<()> {
    let mut there: BTreeSet<&str> = observed.schema.vectors.keys().map(String::as_str).collect();
    there.extend(observed.schema.sparse_vectors.keys().map(String::as_str));
    for one in due {
        let FillWhat::Vector { name: vector, from } = &one.fill.what else { continue };
        if let FillSource::Vector(from) = from
            && !there.contains(from.as_str())
            && !there.contains(vector.as_str())
        {
            let has: Vec<String> = there.iter().map(|name| shown(name)).collect();
            return Err(Error::new(
                ExitCode::Refused,
                format!("collection `{name}` has no vector {} to {}", shown(from), one),
            )
            .expected(format!(
                "that vector beside {}",
                if has.is_empty() { "none".into() } else { has.join(", ") }
            ))
            .remedy("correct `from` in the [[fill]], or restrict it to other collections with `match`"));
        }
        there.insert(vector);
    }
    Ok(())
}

fn shown(vector: &str) -> String {
    if vector.is_empty() { "without a name".into() } else { format!("`{vector}`") }
}

/// Applies fills in their order to a batch of points. Points that are filled already stay as they are.
///
/// Returns the points that a fill cannot be applied to, unchanged by it.
///
/// # Errors
/// Those of a source that asks somebody else.
pub async fn transform(due: &[Due], points: &mut [Point]) -> Result<Vec<Refused>> {
    let mut refused = Vec::new();
    for one in due {
        match &one.fill.what {
            FillWhat::Vector { name, from } => {
                make(name, from, one, points, &mut refused).await?;
            }
            what => {
                for point in points.iter_mut() {
                    if let Err(reason) = payload(what, &mut point.payload) {
                        refused.push(Refused { id: point.id.clone(), reason });
                    }
                }
            }
        }
    }
    Ok(refused)
}

/// Gives the points that lack it a vector.
async fn make(
    name: &str,
    source: &(impl VectorSource + fmt::Display),
    due: &Due,
    points: &mut [Point],
    refused: &mut Vec<Refused>,
) -> Result<()> {
    let places: Vec<usize> = (0..points.len()).filter(|i| !points[*i].vectors.contains_key(name)).collect();
    if places.is_empty() {
        return Ok(());
    }
    let without: Vec<&Point> = places.iter().map(|i| &points[*i]).collect();
    let made = source.vectors(&without).await?;
    if made.len() != without.len() {
        let found = format!("{source} answered {} times for {} points", made.len(), without.len());
        return Err(Error::new(ExitCode::Bug, found));
    }
    for (i, made) in places.into_iter().zip(made) {
        let Some(made) = made else { continue };
        let fitted = made.and_then(|vector| {
            let vector = due.shape.map_or(Ok(vector.clone()), |shape| shape.fit(vector))?;
            due.narrow.map_or(Ok(()), |datatype| storable(datatype, &vector)).map(|()| vector)
        });
        match fitted {
            Ok(vector) => drop(points[i].vectors.insert(name.to_owned(), vector)),
            Err(reason) => {
                let wanted = due.shape.map_or("a vector".into(), |shape| shape.to_string());
                let reason = format!("{source} is not {wanted}: {reason}");
                refused.push(Refused { id: points[i].id.clone(), reason });
            }
        }
    }
    Ok(())
}

fn payload(what: &FillWhat, payload: &mut Map<String, Value>) -> std::result::Result<(), String> {
    match what {
        FillWhat::Vector { .. } => {}
        FillWhat::Set { key, value } => {
            if !payload.get(key).is_some_and(|there| alike(there, value)) {
                payload.insert(key.clone(), value.clone());
            }
        }
        FillWhat::Default { key, value } => {
            if !payload.contains_key(key) {
                payload.insert(key.clone(), value.clone());
            }
        }
        FillWhat::Remove { key } => drop(payload.remove(key)),
        FillWhat::Rename { key, from } => match (payload.get(from), payload.get(key)) {
            (None, _) => {}
            (Some(old), Some(new)) if !alike(old, new) => {
                return Err(format!("it has payload {from} and {key} with different values"));
            }
            _ => {
                if let Some(value) = payload.remove(from) {
                    payload.insert(key.clone(), value);
                }
            }
        },
    }
    Ok(())
}

/// What has to be written so that one point becomes the other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Difference {
    pub vectors: BTreeMap<String, Vector>,
    pub set: Map<String, Value>,
    pub removed: Vec<String>,
}

impl Difference {
    /// Of a point before and after [`transform`], which takes no vector away.
    pub fn between(before: &Point, after: &Point) -> Self {
        let vectors =
            after.vectors.iter().filter(|(name, vector)| before.vectors.get(*name) != Some(*vector));
        let set = after.payload.iter().filter(|(key, value)| before.payload.get(*key) != Some(*value));
        let removed = before.payload.keys().filter(|key| !after.payload.contains_key(*key));
        Self {
            vectors: vectors.map(|(name, vector)| (name.clone(), vector.clone())).collect(),
            set: set.map(|(key, value)| (key.clone(), value.clone())).collect(),
            removed: removed.cloned().collect(),
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The vectors and the payload keys that fills read or write.
pub fn touched(due: &[Due]) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let (mut vectors, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for one in due {
        match &one.fill.what {
            FillWhat::Vector { name, from } => {
                vectors.insert(name.as_str());
                match from {
                    FillSource::Vector(from) => vectors.insert(from.as_str()),
                    FillSource::Payload(key) => keys.insert(key.as_str()),
                };
            }
            FillWhat::Set { key, .. } | FillWhat::Default { key, .. } | FillWhat::Remove { key } => {
                keys.insert(key.as_str());
            }
            FillWhat::Rename { key, from } => keys.extend([key.as_str(), from.as_str()]),
        }
    }
    (vectors, keys)
}

/// Collects the points that cannot be filled, of which an error names the first.
#[derive(Debug, Default)]
pub struct Refusals {
    count: usize,
    first: Vec<Refused>,
}

impl Refusals {
    /// Adds those of one batch.
    pub fn add(&mut self, refused: Vec<Refused>) {
        self.count += refused.len();
        let room = NAMED - self.first.len();
        self.first.extend(refused.into_iter().take(room));
    }

    /// The error, if there was any.
    ///
    /// # Errors
    /// Names the first points and how many there are.
    pub fn check(self, collection: &str) -> Result<()> {
        let Some(first) = self.first.first() else { return Ok(()) };
        let ids: Vec<String> = self.first.iter().map(|refused| refused.id.to_string()).collect();
        let points = crate::words::count(self.count, "point");
        let more = if self.count > ids.len() {
            format!(" and {} more", self.count - ids.len())
        } else {
            String::new()
        };
        Err(Error::new(
            ExitCode::Refused,
            format!("{points} of collection `{collection}` cannot be filled: {}{more}", ids.join(", ")),
        )
        .expected(format!("values that the [[fill]] can use; point {}: {}", first.id, first.reason))
        .remedy("correct or remove these payload values, then start again; nothing has been published"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::Status;
    use serde_json::json;

    fn fills(toml: &str) -> Vec<Due> {
        #[derive(Deserialize)]
        struct File {
            fill: Vec<Fill>,
        }
        let file: File = toml::from_str(toml).unwrap_or_else(|e| panic!("{toml}: {e}"));
        let shape = |fill: &Fill| match &fill.what {
            FillWhat::Vector { name, .. } if name.starts_with("multi") => Some(Shape::Multi(Some(2))),
            FillWhat::Vector { name, .. } if name.starts_with("sparse") => Some(Shape::Sparse),
            FillWhat::Vector { .. } => Some(Shape::Dense(Some(2))),
            _ => None,
        };
        file.fill
            .into_iter()
            .map(|fill| Due { version: 2, shape: shape(&fill), narrow: None, fill })
            .collect()
    }

    fn point(vectors: &[(&str, Vector)], payload: Value) -> Point {
        Point {
            id: PointId::Number(7),
            vectors: vectors.iter().map(|(name, vector)| (name.to_string(), vector.clone())).collect(),
            payload: payload.as_object().unwrap().clone(),
        }
    }

    fn run(toml: &str, point: &Point) -> (Point, Vec<Refused>) {
        let mut points = [point.clone()];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let refused = runtime.block_on(transform(&fills(toml), &mut points)).unwrap();
        let [point] = points;
        (point, refused)
    }

    #[test]
    fn a_narrow_datatype_has_no_room_for_every_number() {
        for (datatype, row, stored) in [
            (Datatype::Uint8, vec![0.0, 255.0], true),
            (Datatype::Uint8, vec![0.5], false),
            (Datatype::Uint8, vec![-1.0], false),
            (Datatype::Uint8, vec![256.0], false),
            (Datatype::Float16, vec![-65504.0, 1e-9], true),
            (Datatype::Float16, vec![7e4], false),
            (Datatype::Float16, vec![f32::NAN], false),
            (Datatype::Float32, vec![f32::MAX], true),
        ] {
            assert_eq!(
                storable(datatype, &Vector::Dense(row.clone())).is_ok(),
                stored,
                "{datatype:?} {row:?}"
            );
        }
        let schema = "vectors.a = { distance = 'Cosine', datatype = 'float16' }\nvectors.b = { distance = 'Dot', datatype = 'float16' }\n\
                      vectors.c = { distance = 'Cosine', datatype = 'uint8' }\nvectors.d = { distance = 'Dot' }";
        let schema: Schema = toml::from_str(schema).unwrap();
        let all = ["a", "b", "c", "d", "e"].map(|name| narrow(&schema, name));
        assert_eq!(all, [None, Some(Datatype::Float16), Some(Datatype::Uint8), None, None]);
    }

    const FROM_A: &str = "[[fill]]\nvector = 'b'\nfrom = { vector = 'a' }\n";

    #[test]
    fn a_vector_is_made_of_another_where_it_is_missing() {
        let (a, b) = (Vector::Dense(vec![1.0, 2.0]), Vector::Dense(vec![3.0, 4.0]));
        for (before, after) in [
            (point(&[("a", a.clone())], json!({})), point(&[("a", a.clone()), ("b", a.clone())], json!({}))),
            (
                point(&[("a", a.clone()), ("b", b.clone())], json!({})),
                point(&[("a", a.clone()), ("b", b.clone())], json!({})),
            ),
            (point(&[], json!({})), point(&[], json!({}))),
        ] {
            assert_eq!(run(FROM_A, &before), (after.clone(), Vec::new()));
            assert_eq!(run(FROM_A, &after), (after, Vec::new()));
        }
        // The one unnamed vector gets a name, and a later fill reads what an earlier one made.
        let unnamed = point(&[("", a.clone())], json!({}));
        let twice = "[[fill]]\nvector = 'content'\nfrom = { vector = '' }\n[[fill]]\nvector = 'multi'\nfrom = { vector = 'content' }";
        let (after, refused) = run(twice, &unnamed);
        assert_eq!((after.vectors["content"].clone(), refused), (a, Vec::new()));
        assert_eq!(after.vectors["multi"], Vector::Multi(vec![vec![1.0, 2.0]]));
    }

    #[test]
    fn a_payload_value_is_a_vector_or_is_refused() {
        for (vector, value, made) in [
            ("v", json!([1, 2.5]), Ok(Some(Vector::Dense(vec![1.0, 2.5])))),
            ("v", Value::Null, Ok(None)),
            ("v", json!([1]), Err("it has size 1")),
            ("v", json!([]), Err("it has size 0")),
            ("v", json!("1, 2"), Err("it is a text")),
            ("v", json!(true), Err("it is a boolean")),
            ("v", json!([1, "x"]), Err("other things than numbers")),
            ("v", json!([1, 1e300]), Err("other things than numbers")),
            ("v", json!([[1, 2]]), Err("it is a list of vectors")),
            ("v", json!({ "a": 1 }), Err("it is an object")),
            ("multi", json!([[1, 2], [3, 4]]), Ok(Some(Vector::Multi(vec![vec![1.0, 2.0], vec![3.0, 4.0]])))),
            ("multi", json!([1, 2]), Ok(Some(Vector::Multi(vec![vec![1.0, 2.0]])))),
            ("multi", json!([[1, 2], [3]]), Err("it has size 1")),
            ("multi", json!([[1, 2], 3]), Err("no list of vectors")),
            (
                "sparse",
                json!({ "indices": [5], "values": [0.5] }),
                Ok(Some(Vector::Sparse { indices: vec![5], values: vec![0.5] })),
            ),
            ("sparse", json!({ "indices": [5, 6], "values": [0.5] }), Err("no sparse vector")),
            ("sparse", json!({ "indices": [-5], "values": [0.5] }), Err("no sparse vector")),
            ("sparse", json!([1, 2]), Err("it is one vector of numbers")),
        ] {
            let toml = format!("[[fill]]\nvector = '{vector}'\nfrom = {{ payload = 'e' }}");
            let before = point(&[], json!({ "e": value }));
            let (after, refused) = run(&toml, &before);
            assert_eq!(after.payload, before.payload);
            match made {
                Ok(made) => assert_eq!((after.vectors.get(vector), &refused[..]), (made.as_ref(), &[][..])),
                Err(words) => {
                    assert!(after.vectors.is_empty());
                    let [refused] = &refused[..] else { panic!("{value}: {refused:?}") };
                    assert!(
                        refused.id == before.id && refused.reason.contains(words),
                        "{value}: {refused:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn payload_is_set_defaulted_renamed_and_removed() {
        for (fill, before, after) in [
            ("payload = 'k'\nset = 'x'", json!({ "k": 1, "o": 2 }), json!({ "k": "x", "o": 2 })),
            ("payload = 'k'\nset = { a = [1] }", json!({}), json!({ "k": { "a": [1] } })),
            ("payload = 'k'\ndefault = 0", json!({}), json!({ "k": 0 })),
            // A null was written by somebody.
            ("payload = 'k'\ndefault = 0", json!({ "k": null }), json!({ "k": null })),
            ("payload = 'k'\nrenamed_from = 'o'", json!({ "o": [1] }), json!({ "k": [1] })),
            ("payload = 'k'\nrenamed_from = 'o'", json!({ "k": 1 }), json!({ "k": 1 })),
            // What a run that was killed between the two left.
            ("payload = 'k'\nrenamed_from = 'o'", json!({ "o": 1, "k": 1 }), json!({ "k": 1 })),
            ("payload = 'k'\nremove = true", json!({ "k": 1, "o": 2 }), json!({ "o": 2 })),
        ] {
            let toml = format!("[[fill]]\n{fill}");
            let (before, after) = (point(&[], before), point(&[], after));
            assert_eq!(run(&toml, &before), (after.clone(), Vec::new()), "{fill}");
            assert_eq!(run(&toml, &after), (after, Vec::new()), "{fill}");
        }
        let both = point(&[], json!({ "o": 1, "k": 2 }));
        let (after, refused) = run("[[fill]]\npayload = 'k'\nrenamed_from = 'o'", &both);
        assert_eq!((after, refused.len()), (both, 1));
    }

    #[test]
    fn only_the_difference_is_written() {
        let a = Vector::Dense(vec![1.0]);
        let before = point(&[("a", a.clone())], json!({ "k": 1, "gone": 2, "same": [3] }));
        let after = point(&[("a", a.clone()), ("b", a.clone())], json!({ "k": 2, "same": [3] }));
        let difference = Difference::between(&before, &after);
        assert_eq!(difference.vectors, BTreeMap::from([("b".to_owned(), a)]));
        assert_eq!(
            (Value::Object(difference.set), difference.removed),
            (json!({ "k": 2 }), vec!["gone".to_owned()])
        );
        assert!(Difference::between(&after, &after).is_empty());
    }

    #[test]
    fn what_fills_touch_is_all_that_is_read() {
        let due = fills(
            "[[fill]]\nvector = 'b'\nfrom = { vector = 'a' }\n[[fill]]\nvector = 'c'\nfrom = { payload = 'e' }\n\
             [[fill]]\npayload = 'k'\nrenamed_from = 'o'\n[[fill]]\npayload = 's'\nset = 1",
        );
        let (vectors, keys) = touched(&due);
        assert_eq!(vectors.into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(keys.into_iter().collect::<Vec<_>>(), ["e", "k", "o", "s"]);
    }

    #[test]
    fn an_error_names_ten_points_and_how_many_there_are() {
        let mut refusals = Refusals::default();
        for batch in 0..4_u64 {
            let refused = |i| Refused { id: PointId::Number(batch * 5 + i), reason: "it is a text".into() };
            refusals.add((0..5).map(refused).collect());
        }
        let error = refusals.check("memory").unwrap_err();
        assert_eq!(error.code, ExitCode::Refused);
        assert_eq!(
            error.found,
            "20 points of collection `memory` cannot be filled: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 10 more"
        );
        assert!(error.expected.unwrap().contains("point 0: it is a text"));
        assert_eq!(Refusals::default().check("memory"), Ok(()));
    }

    #[test]
    fn a_fill_needs_its_source_or_its_result() {
        let observed = |vectors: &str| Observed {
            name: "m".into(),
            schema: toml::from_str(vectors).unwrap(),
            stamp: None,
            aliases: Vec::new(),
            points: 1,
            status: Status::Green,
            optimizer_error: None,
            queued_updates: None,
            fence: None,
            deferred_points: None,
        };
        let due = fills(FROM_A);
        for (vectors, fits) in [
            ("vectors = { a = { size = 2 } }", true),
            ("vectors = { b = { size = 2 } }", true),
            ("sparse_vectors = { a = {} }", true),
            ("vectors = { c = { size = 2 } }", false),
            ("vectors = { size = 2, distance = 'Dot' }", false),
        ] {
            assert_eq!(fillable("m", &due, &observed(vectors)).is_ok(), fits, "{vectors}");
        }
        let chain = fills(
            "[[fill]]\nvector = 'a'\nfrom = { vector = '' }\n[[fill]]\nvector = 'b'\nfrom = { vector = 'a' }",
        );
        assert_eq!(fillable("m", &chain, &observed("vectors = { size = 2, distance = 'Dot' }")), Ok(()));
        let error = fillable("m", &due, &observed("vectors = { c = { size = 2 } }")).unwrap_err();
        assert!(error.found.contains("`a`") && error.found.contains("vector b"), "{error}");
    }
}
