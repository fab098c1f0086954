//! Collections and their points over REST, whatever form they have.

use super::World;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One call that must succeed, and its answer.
#[track_caller]
pub fn rest(world: &World, method: &str, path: &str, body: &Value) -> Value {
    let (status, answer) = world.qdrant.rest(method, path, &body.to_string()).unwrap();
    assert!(status < 300, "{method} {path}: {status} {answer}");
    serde_json::from_str(&answer).unwrap()
}

/// A collection with this body.
#[track_caller]
pub fn create(world: &World, name: &str, body: &Value) {
    rest(world, "PUT", &format!("/collections/{name}"), body);
}

/// Upserts points, 100 at a time.
#[track_caller]
pub fn put(world: &World, name: &str, points: &[Value]) {
    for points in points.chunks(100) {
        let path = format!("/collections/{name}/points?wait=true");
        rest(world, "PUT", &path, &json!({ "points": points }));
    }
}

/// All points by id.
pub fn points(world: &World, name: &str) -> BTreeMap<String, Value> {
    let (mut all, mut from) = (BTreeMap::new(), Value::Null);
    loop {
        let body = json!({ "limit": 100, "with_payload": true, "with_vector": true, "offset": from });
        let page = rest(world, "POST", &format!("/collections/{name}/points/scroll"), &body)["result"].take();
        for point in page["points"].as_array().unwrap() {
            all.insert(point["id"].to_string(), point.clone());
        }
        from = page["next_page_offset"].clone();
        if from.is_null() {
            return all;
        }
    }
}

/// Configuration and counts.
pub fn info(world: &World, name: &str) -> Value {
    rest(world, "GET", &format!("/collections/{name}"), &Value::Null)["result"].take()
}

/// The real names that belong to a test.
pub fn names(world: &World) -> Vec<String> {
    let all = rest(world, "GET", "/collections", &Value::Null);
    let all = all["result"]["collections"].as_array().unwrap().iter();
    let mut own: Vec<String> = all
        .map(|c| c["name"].as_str().unwrap().to_owned())
        .filter(|name| name.contains(&world.collection))
        .collect();
    own.sort();
    own
}
