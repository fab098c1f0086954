//! A WhisperEngine v1.0.6 installation, made the way the application made it: tables and rows in Postgres, a collection
//! with memories in Qdrant, and no ledger or stamp in either. And what is needed to see that nothing of it was lost.

use std::collections::BTreeMap;

use local_servers::{Postgres, Qdrant};
use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::Result;

/// WhisperEngine's role.
pub const ROLE: &str = "whisperengine";
/// How many points the collection gets.
pub const MEMORIES: usize = 640;
const BATCH: usize = 80;
const DIMENSIONS: usize = 384;

const SCHEMA: &str = include_str!("../../migrations/0001_baseline_v1_0_6.up.sql");
const ROWS: &str = include_str!("v1_0_6.sql");

/// A database and a collection that belong together.
#[derive(Clone, Copy)]
pub struct Pair {
    pub database: &'static str,
    pub collection: &'static str,
}

/// An empty database that belongs to WhisperEngine's role.
pub fn create_database(postgres: &Postgres, database: &str) -> Result<()> {
    let sql =
        format!("create database {database} owner {ROLE} template template0 encoding 'UTF8' locale 'C'");
    Ok(postgres.execute("postgres", &sql)?)
}

/// The role that owns WhisperEngine's databases: a superuser, as in its containers.
pub fn create_role(postgres: &Postgres) -> Result<()> {
    let sql = format!("create role {ROLE} login superuser password '{}'", postgres.password());
    Ok(postgres.execute("postgres", &sql)?)
}

/// Logs in as the application does.
async fn connect(postgres: &Postgres, database: &str) -> Result<PgConnection> {
    Ok(PgConnection::connect(&postgres.url_as(ROLE, &postgres.password(), database)).await?)
}

/// Fills an empty database and makes the collection.
pub async fn install(postgres: &Postgres, qdrant: &Qdrant, pair: Pair) -> Result<()> {
    let mut connection = connect(postgres, pair.database).await?;
    sqlx::raw_sql(SCHEMA).execute(&mut connection).await?;
    sqlx::raw_sql(ROWS).execute(&mut connection).await?;
    connection.close().await?;
    create_collection(qdrant, pair.collection)
}

fn create_collection(qdrant: &Qdrant, collection: &str) -> Result<()> {
    let vector = |hnsw: Value| json!({ "size": DIMENSIONS, "distance": "Cosine", "hnsw_config": hnsw });
    let config = json!({
        "vectors": {
            "content": vector(json!({ "m": 32, "ef_construct": 256, "full_scan_threshold": 20000 })),
            "emotion": vector(json!({ "m": 16, "ef_construct": 128 })),
            "semantic": vector(json!({ "m": 16, "ef_construct": 128 })),
        },
        "optimizers_config": {
            "deleted_threshold": 0.2,
            "vacuum_min_vector_number": 1000,
            "default_segment_number": 2,
            "max_segment_size": 20000,
            "memmap_threshold": 50000,
            "indexing_threshold": 20000,
            "flush_interval_sec": 5,
            "max_optimization_threads": 2,
        },
    });
    call(qdrant, "PUT", &format!("/collections/{collection}"), &config)?;
    let indexes = [
        ("user_id", "keyword"),
        ("memory_type", "keyword"),
        ("timestamp_unix", "float"),
        ("semantic_key", "keyword"),
        ("emotional_context", "keyword"),
        ("content_hash", "integer"),
    ];
    for (field, kind) in indexes {
        let index = json!({ "field_name": field, "field_schema": kind });
        call(qdrant, "PUT", &format!("/collections/{collection}/index?wait=true"), &index)?;
    }
    let mut random = Random(106);
    for start in (0..MEMORIES).step_by(BATCH) {
        let points: Vec<Value> =
            (start..(start + BATCH).min(MEMORIES)).map(|n| memory(n, &mut random)).collect();
        let path = format!("/collections/{collection}/points?wait=true");
        call(qdrant, "PUT", &path, &json!({ "points": points }))?;
    }
    Ok(())
}

/// One point with the payload keys of v1.0.6.
fn memory(n: usize, random: &mut Random) -> Value {
    const SAID: [(&str, &str, &str); 6] = [
        ("The fog came in before breakfast", "weather", "calm"),
        ("My sourdough finally rose 🥖", "baking", "joy"),
        ("昨日、流れ星を三つ見た ✨", "astronomy", "wonder"),
        ("Ich vermisse meinen alten Hund", "pets", "sadness"),
        ("Первый снег лежит до утра ❄️", "weather", "joy"),
        ("Ça va mieux, merci d'avoir demandé", "health", "gratitude"),
    ];
    let (said, topic, emotion) = SAID[n % SAID.len()];
    let content = format!("{said} ({n})");
    // 2025-10-01 00:00 UTC and then one every 25 minutes, to the microsecond.
    let minutes = n * 25;
    let (day, hour, minute) = (1 + minutes / 1440, minutes / 60 % 24, minutes % 60);
    let micros = random.next() % 1_000_000;
    let unix = 1_759_276_800.0 + minutes as f64 * 60.0 + micros as f64 / 1e6;
    let intensity = (random.next() % 100) as f64 / 100.0;
    json!({
        "id": random.uuid(),
        "vector": { "content": random.vector(), "emotion": random.vector(), "semantic": random.vector() },
        "payload": {
            "user_id": (672_814_231_002_939_401 + n % 24).to_string(),
            "memory_type": "conversation",
            "content": content,
            "timestamp": format!("2025-10-{day:02}T{hour:02}:{minute:02}:00.{micros:06}"),
            "timestamp_unix": unix,
            "confidence": 0.8,
            "source": if n.is_multiple_of(2) { "user_message" } else { "bot_response" },
            "role": if n.is_multiple_of(2) { "user" } else { "assistant" },
            "memory_tier": "short_term",
            "tier_promotion_date": null,
            "tier_demotion_date": null,
            "decay_protection": false,
            "tier_age_days": 0,
            "content_hash": random.next().cast_signed(),
            "emotional_context": emotion,
            "emotional_intensity": intensity,
            "semantic_key": topic,
            "keywords": [topic, emotion],
            "word_count": content.split_whitespace().count(),
            "char_count": content.chars().count(),
            "emotional_trajectory": [emotion, "neutral"],
            "emotional_velocity": 0.1,
            "emotional_stability": 0.9,
            "trajectory_direction": "stable",
            "emotional_momentum": "positive_momentum",
            "pattern_detected": null,
            "trajectory_analysis_timestamp": "2025-10-12T00:00:00",
            "overall_significance": 0.4,
            "significance_factors": { "emotional_intensity": intensity },
            "decay_resistance": 0.3,
            "significance_tier": "standard",
            "significance_version": "1.0",
            "calculated_at": "2025-10-12T00:00:00",
        },
    })
}

/// SplitMix64: the same data on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn uuid(&mut self) -> String {
        let hex = format!("{:016x}{:016x}", self.next(), self.next());
        format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
    }

    fn vector(&mut self) -> Vec<f64> {
        (0..DIMENSIONS).map(|_| (self.next() % 20_000) as f64 / 10_000.0 - 1.0).collect()
    }
}

/// Rows by table, each row by column.
pub type Tables = BTreeMap<String, Vec<Map<String, Value>>>;

/// All rows of the application's tables.
pub async fn tables(postgres: &Postgres, database: &str) -> Result<Tables> {
    let mut connection = connect(postgres, database).await?;
    let names = sqlx::query(
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'",
    )
    .fetch_all(&mut connection)
    .await?;
    let mut tables = Tables::new();
    for name in names {
        let name: String = name.try_get(0)?;
        let sql = format!("select coalesce(json_agg(to_json(t)), '[]')::text from public.\"{name}\" t");
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut connection).await?;
        tables.insert(name, serde_json::from_str(rows.try_get(0)?)?);
    }
    connection.close().await?;
    Ok(tables)
}

/// Which rows of `before` are not in `after` with all of their values, as a count by table. Columns, rows and tables
/// may have been added; a text may have become the JSON that it was; what was dropped must have been empty.
pub fn lost(before: &Tables, after: &Tables) -> Vec<String> {
    let mut losses = Vec::new();
    for (table, rows) in before {
        let Some(old) = rows.first() else { continue };
        let now = after.get(table).map_or(&[][..], Vec::as_slice);
        let mut unclaimed: BTreeMap<String, usize> = BTreeMap::new();
        for row in now {
            *unclaimed.entry(values(row, |column, _| old.contains_key(column))).or_default() += 1;
        }
        let kept = |column: &str, value: &Value| {
            !value.is_null() || now.first().is_some_and(|row| row.contains_key(column))
        };
        let missing = rows
            .iter()
            .filter(|row| match unclaimed.get_mut(&values(row, kept)) {
                Some(count) if *count > 0 => {
                    *count -= 1;
                    false
                }
                _ => true,
            })
            .count();
        if missing > 0 {
            losses.push(format!("{missing} of {} in {table}", rows.len()));
        }
    }
    losses
}

/// Some columns of a row, in a form that is equal if they are.
fn values(row: &Map<String, Value>, wanted: impl Fn(&str, &Value) -> bool) -> String {
    let columns: BTreeMap<&String, Value> = row
        .iter()
        .filter(|(column, value)| wanted(column, value))
        .map(|(column, value)| match value {
            Value::String(text) => (column, serde_json::from_str(text).unwrap_or_else(|_| value.clone())),
            _ => (column, value.clone()),
        })
        .collect();
    json!(columns).to_string()
}

/// All points of a collection with payloads and vectors, by id.
pub fn points(qdrant: &Qdrant, collection: &str) -> Result<Vec<Value>> {
    let everything = json!({ "limit": 100_000, "with_payload": true, "with_vector": true });
    let mut answer = call(qdrant, "POST", &format!("/collections/{collection}/points/scroll"), &everything)?;
    match answer["result"]["points"].take() {
        Value::Array(points) => Ok(points),
        other => Err(format!("Qdrant listed no points of {collection}: {other}").into()),
    }
}

fn call(qdrant: &Qdrant, method: &str, path: &str, body: &Value) -> Result<Value> {
    let (status, answer) = qdrant.rest(method, path, &body.to_string())?;
    if status == 200 {
        Ok(serde_json::from_str(&answer)?)
    } else {
        Err(format!("{method} {path}: Qdrant answered {status}: {answer}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::{Tables, lost};
    use serde_json::{Value, json};

    fn tables(value: Value) -> Tables {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_an_upgrade_adds_converts_or_drops_empty_is_no_loss() {
        let before = tables(json!({
            "users": [{ "id": 1, "settings": "{\"a\": [1]}", "unused": null }, { "id": 2, "settings": "{}", "unused": null }],
            "empty": [],
        }));
        let after = tables(json!({
            "users": [
                { "id": 2, "settings": {}, "added": 0 },
                { "id": 3, "settings": {}, "added": 0 },
                { "id": 1, "settings": { "a": [1] }, "added": 0 },
            ],
        }));
        assert_eq!(lost(&before, &after), [""; 0]);
    }

    #[test]
    fn rows_and_values_that_are_gone_or_changed_are_losses() {
        let before = tables(json!({ "users": [{ "id": 1, "name": "Zoë" }, { "id": 2, "name": null }] }));
        let cases = [
            (json!({}), "2 of 2 in users"),
            (json!({ "users": [] }), "2 of 2 in users"),
            (json!({ "users": [{ "id": 1, "name": "Zoë" }] }), "1 of 2 in users"),
            (json!({ "users": [{ "id": 1, "name": "Zoe" }, { "id": 2, "name": null }] }), "1 of 2 in users"),
            (json!({ "users": [{ "id": 1 }, { "id": 2 }] }), "1 of 2 in users"),
            (json!({ "users": [{ "id": 2, "name": null }, { "id": 2, "name": null }] }), "1 of 2 in users"),
        ];
        for (after, expected) in cases {
            assert_eq!(lost(&before, &tables(after.clone())), [expected], "{after}");
        }
    }
}
