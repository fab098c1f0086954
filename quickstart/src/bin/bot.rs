//! The bot of the demonstration: a stand-in for WhisperEngine's bot and web UI.
//!
//! It reads the same environment and answers the same endpoints from the same two databases, and leaves out everything
//! else. It migrates nothing and checks nothing: a table or an index that is missing shows in its answers.
//!
//! | endpoint | answer |
//! |---|---|
//! | `/health`, `/livez` | the process is alive; no database is asked |
//! | `/ready`, `/readyz` | both databases answer, else 503 |
//! | `/api/health` | Postgres answers, else 500 |
//! | `/api/characters` | the active characters, by name |
//! | `/api/memories` | what the collection in Qdrant holds |
//!
//! Both ports, `HEALTH_CHECK_PORT` (9090) and `WEB_PORT` (3001), answer all of them.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use prost_types::Timestamp;
use qdrant_client::Qdrant;
use qdrant_client::qdrant::PayloadSchemaType;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{Connection, Row};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;
type Answer = (StatusCode, Json<Value>);

#[derive(Clone)]
struct Bot {
    name: String,
    postgres: PgConnectOptions,
    qdrant: Qdrant,
    collection: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bot: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    // Before anything else: as PID 1, a signal without a handler would be ignored.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let bot = Bot::from_env()?;
    let address = setting("HEALTH_CHECK_HOST", IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
    let health = listen(address, setting("HEALTH_CHECK_PORT", 9090)?).await?;
    let web = listen(address, setting("WEB_PORT", 3001)?).await?;
    eprintln!("bot: {} answers on {} and {}", bot.name, health.local_addr()?, web.local_addr()?);
    let routes = Router::new()
        .route("/health", get(health_check))
        .route("/livez", get(health_check))
        .route("/ready", get(ready))
        .route("/readyz", get(ready))
        .route("/api/health", get(api_health))
        .route("/api/characters", get(characters))
        .route("/api/memories", get(memories))
        .with_state(bot);
    tokio::select! {
        served = axum::serve(health, routes.clone()).into_future() => Ok(served?),
        served = axum::serve(web, routes).into_future() => Ok(served?),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn listen(address: IpAddr, port: u16) -> Result<TcpListener> {
    TcpListener::bind((address, port))
        .await
        .map_err(|e| format!("cannot listen on {address}:{port}: {e}").into())
}

impl Bot {
    /// Connects to nothing yet.
    fn from_env() -> Result<Bot> {
        let text = |name: &str, default: &str| setting(name, default.to_owned());
        let postgres = PgConnectOptions::new()
            .host(&text("POSTGRES_HOST", "localhost")?)
            .port(setting("POSTGRES_PORT", 5432)?)
            .username(&text("POSTGRES_USER", "whisperengine")?)
            .password(&secret("POSTGRES_PASSWORD")?.unwrap_or_else(|| "whisperengine".into()))
            .database(&text("POSTGRES_DB", "whisperengine")?)
            .application_name("bot");
        // WhisperEngine knows the REST port; Qdrant's gRPC port is the next one unless told otherwise.
        let rest: u16 = setting("QDRANT_PORT", 6333)?;
        let grpc: u16 = setting("QDRANT_GRPC_PORT", rest.saturating_add(1))?;
        let host = text("QDRANT_HOST", "localhost")?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let qdrant = Qdrant::from_url(&format!("http://{host}:{grpc}"))
            .api_key(secret("QDRANT_API_KEY")?)
            .skip_compatibility_check()
            .build()?;
        let collection = text("QDRANT_COLLECTION_NAME", "whisperengine_memory")?;
        Ok(Bot { name: text("DISCORD_BOT_NAME", "assistant")?, postgres, qdrant, collection })
    }
}

/// A secret: the variable, or the file that its `_FILE` variant names.
fn secret(name: &str) -> Result<Option<String>> {
    let set = |name: &str| env::var(name).ok().filter(|text| !text.is_empty());
    match (set(name), set(&format!("{name}_FILE"))) {
        (None, Some(path)) => {
            let text =
                std::fs::read_to_string(path).map_err(|e| format!("{name}_FILE cannot be read: {e}"))?;
            Ok(Some(text.trim_end_matches('\n').to_owned()))
        }
        (text, _) => Ok(text),
    }
}

/// A variable of the environment; empty counts as unset, as Compose passes it.
fn setting<T: std::str::FromStr + std::fmt::Display>(name: &str, default: T) -> Result<T> {
    match env::var(name) {
        Ok(text) if !text.is_empty() => text
            .parse()
            .map_err(|_| format!("{name} is {text:?}, which does not fit; unset it for {default}").into()),
        _ => Ok(default),
    }
}

/// Now, in UTC, to the millisecond.
fn timestamp() -> String {
    let mut now = Timestamp::from(SystemTime::now());
    now.nanos -= now.nanos % 1_000_000;
    now.to_string()
}

async fn health_check() -> Json<Value> {
    Json(json!({ "status": "healthy", "timestamp": timestamp(), "service": "WhisperEngine Discord Bot" }))
}

/// The real bot asks Discord here; this one asks its databases.
async fn ready(State(bot): State<Bot>) -> Answer {
    let asked = Instant::now();
    match bot.ask_both().await {
        Ok(()) => answer(json!({
            "status": "ready",
            "timestamp": timestamp(),
            "bot_user": bot.name,
            "guilds_count": 0,
            "latency_ms": asked.elapsed().as_millis() as u64,
        })),
        Err(error) => {
            let body =
                json!({ "status": "not_ready", "timestamp": timestamp(), "reason": error.to_string() });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body))
        }
    }
}

async fn api_health(State(bot): State<Bot>) -> Answer {
    match bot.ask_postgres().await {
        Ok(()) => answer(json!({ "status": "healthy", "timestamp": timestamp(), "database": "connected" })),
        Err(error) => failure(json!({
            "status": "unhealthy",
            "timestamp": timestamp(),
            "database": "disconnected",
            "error": error.to_string(),
        })),
    }
}

async fn characters(State(bot): State<Bot>) -> Answer {
    match bot.characters().await {
        Ok(characters) => {
            let bot_names: Vec<Value> = characters
                .iter()
                .map(|c| json!({ "name": c["name"], "bot_name": c["bot_name"], "archetype": c["archetype"] }))
                .collect();
            answer(json!({
                "success": true,
                "count": characters.len(),
                "debug": { "first_character": characters.first(), "bot_names": bot_names },
                "characters": characters,
            }))
        }
        Err(error) => failed(&*error),
    }
}

async fn memories(State(bot): State<Bot>) -> Answer {
    match bot.memories().await {
        Ok(memories) => answer(memories),
        Err(error) => failed(&*error),
    }
}

fn answer(body: Value) -> Answer {
    (StatusCode::OK, Json(body))
}

fn failure(body: Value) -> Answer {
    (StatusCode::INTERNAL_SERVER_ERROR, Json(body))
}

fn failed(error: &(dyn Error + Send + Sync)) -> Answer {
    failure(json!({ "success": false, "error": error.to_string(), "stack": format!("{error:?}") }))
}

impl Bot {
    /// A connection for one request: without a pool the answer has the cause, and has it at once.
    async fn connect(&self) -> Result<PgConnection> {
        match timeout(Duration::from_secs(5), PgConnection::connect_with(&self.postgres)).await {
            Ok(connected) => Ok(connected?),
            Err(_) => Err("Postgres did not answer for 5 s".into()),
        }
    }

    async fn ask_postgres(&self) -> Result<()> {
        Ok(self.connect().await?.ping().await?)
    }

    async fn ask_both(&self) -> Result<()> {
        self.ask_postgres().await?;
        self.qdrant.health_check().await?;
        Ok(())
    }

    async fn characters(&self) -> Result<Vec<Value>> {
        let rows = sqlx::query(
            r#"select id, name, normalized_name, occupation, description, archetype, allow_full_roleplay, is_active,
                      to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as created_at,
                      to_char(updated_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as updated_at
               from characters where is_active order by name"#,
        )
        .fetch_all(&mut self.connect().await?)
        .await?;
        Ok(rows.iter().map(character).collect::<std::result::Result<_, sqlx::Error>>()?)
    }

    async fn memories(&self) -> Result<Value> {
        let info = self.qdrant.collection_info(&self.collection).await?.result.unwrap_or_default();
        let indexes: BTreeMap<String, String> = info
            .payload_schema
            .into_iter()
            .map(|(field, index)| {
                let kind = PayloadSchemaType::try_from(index.data_type).unwrap_or_default();
                (field, kind.as_str_name().to_lowercase())
            })
            .collect();
        Ok(json!({
            "success": true,
            "collection": self.collection,
            "points_count": info.points_count.unwrap_or_default(),
            "payload_indexes": indexes,
        }))
    }
}

fn character(row: &PgRow) -> std::result::Result<Value, sqlx::Error> {
    let text = |column: &str| row.try_get::<Option<String>, _>(column);
    let name: String = row.try_get("name")?;
    let bot_name: String = row.try_get("normalized_name")?;
    let (occupation, description) = (text("occupation")?, text("description")?);
    let roleplay = row.try_get::<Option<bool>, _>("allow_full_roleplay")?.unwrap_or(false);
    Ok(json!({
        "id": row.try_get::<i32, _>("id")?,
        "name": name,
        "normalized_name": bot_name,
        "bot_name": bot_name,
        "created_at": text("created_at")?,
        "updated_at": text("updated_at")?,
        "is_active": row.try_get::<Option<bool>, _>("is_active")?,
        "version": 1,
        "occupation": occupation,
        "location": null,
        "age_range": null,
        "background": null,
        "description": description,
        "archetype": text("archetype")?.unwrap_or_else(|| "real-world".into()),
        "allow_full_roleplay": roleplay,
        "cdl_data": {
            "identity": {
                "name": name,
                "occupation": occupation.unwrap_or_default(),
                "description": description.unwrap_or_default(),
            },
            "allow_full_roleplay_immersion": roleplay,
        },
        "created_by": null,
        "notes": null,
    }))
}
