//! Whole numbers above 63 bits in payloads. Qdrant keeps them, and its gRPC answers round them to doubles, so that these
//! few values travel over REST.

use super::claim::Claim;
use super::client::Client;
use super::fault::Kind;
use super::rest::segment;
use crate::collection::{Point, PointId};
use crate::error::{Error, ExitCode, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Where a double may be such a number.
pub(super) const WIDE: std::ops::RangeInclusive<f64> =
    9_223_372_036_854_775_808.0..=18_446_744_073_709_551_616.0;

fn holds(value: &Value, is: fn(&serde_json::Number) -> bool) -> bool {
    match value {
        Value::Number(number) => is(number),
        Value::Array(values) => values.iter().any(|value| holds(value, is)),
        Value::Object(fields) => fields.values().any(|value| holds(value, is)),
        _ => false,
    }
}

fn is_rounded(number: &serde_json::Number) -> bool {
    number.is_f64() && number.as_f64().is_some_and(|double| WIDE.contains(&double))
}

fn is_wide(number: &serde_json::Number) -> bool {
    number.is_u64() && !number.is_i64()
}

/// Puts the exact numbers in place of the rounded ones; everything else stays as gRPC has it.
fn restore(rounded: &mut Value, exact: &Value) {
    match (rounded, exact) {
        (Value::Array(rounded), Value::Array(exact)) => {
            rounded.iter_mut().zip(exact).for_each(|(rounded, exact)| restore(rounded, exact));
        }
        (Value::Object(rounded), Value::Object(exact)) => {
            for (key, rounded) in rounded {
                exact.get(key).into_iter().for_each(|exact| restore(rounded, exact));
            }
        }
        (Value::Number(rounded), Value::Number(exact)) if is_rounded(rounded) && is_wide(exact) => {
            *rounded = exact.clone();
        }
        _ => {}
    }
}

/// The top-level values of a payload that have to be written over REST.
pub(super) fn wide(payload: &Map<String, Value>) -> Map<String, Value> {
    let wide = payload.iter().filter(|(_, value)| holds(value, is_wide));
    wide.map(|(key, value)| (key.clone(), value.clone())).collect()
}

impl Client {
    /// Gives a page that was read over gRPC the numbers that are stored.
    pub(super) async fn restore_wide(&self, collection: &str, points: &mut [Point]) -> Result<()> {
        let rounded = |point: &Point| point.payload.values().any(|value| holds(value, is_rounded));
        let Some(first) = points.iter().position(rounded) else { return Ok(()) };
        let points = &mut points[first..];
        // The same page: a strict mode may count every point that is asked for by its id.
        let body = json!({ "offset": points[0].id, "limit": points.len(), "with_payload": true, "with_vector": false });
        let path = format!("/collections/{}/points/scroll", segment(collection));
        let found =
            self.post(&path, &body).await.map_err(|fault| self.rest_error(fault).at(&path))?["points"].take();
        let mut exact: BTreeMap<PointId, Value> = found
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|point| {
                Some((serde_json::from_value(point["id"].clone()).ok()?, point["payload"].clone()))
            })
            .collect();
        for point in points {
            let Some(exact) = exact.remove(&point.id) else { continue };
            for (key, value) in &mut point.payload {
                restore(value, &exact[key]);
            }
        }
        Ok(())
    }

    /// Sets the values that gRPC would round, and waits until they are on disk.
    pub(super) async fn write_wide(
        &self,
        claim: &Claim<'_>,
        values: Vec<(PointId, Map<String, Value>)>,
    ) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let sent = values.len();
        let set = |(id, payload)| json!({ "set_payload": { "payload": payload, "points": [id] } });
        let body = json!({ "operations": values.into_iter().map(set).collect::<Vec<_>>() });
        let path = format!("/collections/{}/points/batch?wait=true", segment(&claim.alias));
        let done = self.post(&path, &body).await.map_err(|fault| match fault.kind {
            Kind::NotFound => self.unwritten(claim, fault),
            _ => self.rest_error(fault).at(&path),
        })?;
        let completed =
            done.as_array().into_iter().flatten().filter(|one| one["status"] == "completed").count();
        match completed == sent {
            true => Ok(()),
            false => Err(Error::new(
                ExitCode::StepFailed,
                format!("{}: the server took {sent} payloads and completed {completed}", claim.collection),
            )
            .remedy("look at the server's log and load, then start again")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qdrant::convert;

    #[test]
    fn only_what_was_rounded_is_put_back() {
        let exact = json!({ "a": [1, 18_446_744_073_709_551_615_u64, 1e19, 2.5], "b": { "é": 9_223_372_036_854_775_808_u64, "c": "x" } });
        let pb = convert::pb_value(&exact);
        let mut read = convert::json(pb);
        assert_ne!(read, exact);
        restore(&mut read, &exact);
        assert_eq!(read, exact);
    }

    #[test]
    fn what_grpc_has_room_for_is_not_written_twice() {
        let payload = json!({ "id": u64::MAX, "n": i64::MAX, "x": 1e19, "deep": [{ "id": u64::MAX }] });
        let wide = wide(payload.as_object().unwrap());
        assert_eq!(wide.keys().collect::<Vec<_>>(), ["deep", "id"]);
    }
}
