//! `cargo quickstart`: tandem in front of a small bot, on real servers of this machine, in three acts.

mod installation;
mod programs;
mod report;

use std::env;
use std::error::Error;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use local_servers::{Postgres, PostgresOptions, Process, Qdrant, QdrantOptions};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use installation::{MEMORIES, Pair, ROLE, Tables};
use programs::{Environment, Programs, Start};
use report::{Report, grouped};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const HELP: &str = "\
tandem in front of a small bot, on private Postgres and Qdrant servers of this machine

cargo quickstart [--once] [--release]

  --once      unattended: check the answers, stop everything, exit 0, or 1 if a check failed
  --release   build tandem and the bot with optimizations, which takes longer
";

/// A bot of a v1.0.6 installation, and one that has nothing yet.
const OLD: Pair = Pair { database: "whisperengine", collection: "whisperengine_memory_ingrid" };
const FRESH: Pair = Pair { database: "whisperengine_fresh", collection: "whisperengine_memory_assistant" };
/// How much later than tandem the servers start in the first act.
const LATE: Duration = Duration::from_millis(700);

fn main() -> ExitCode {
    let (mut once, mut release) = (false, false);
    for argument in env::args().skip(1) {
        match argument.as_str() {
            "--once" => once = true,
            "--release" => release = true,
            "-h" | "--help" => {
                print!("{HELP}");
                return ExitCode::SUCCESS;
            }
            other => {
                eprint!("unknown argument {other}\n\n{HELP}");
                return ExitCode::from(64);
            }
        }
    }
    match run(once, release) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\nquickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(once: bool, release: bool) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        // Dropping the show ends the bots and the servers and removes their data.
        let code = tokio::select! {
            biased;
            shown = show(once, release) => shown.map(|()| ExitCode::SUCCESS)?,
            _ = interrupt.recv() => ExitCode::from(130),
            _ = terminate.recv() => ExitCode::from(143),
        };
        println!("\n  Everything is stopped and removed.");
        Ok(code)
    })
}

async fn show(once: bool, release: bool) -> Result<()> {
    let mut report = Report::new();
    report.heading("tandem quickstart");
    report.say("Building tandem and the bot; fetching the servers' binaries if this machine has none yet.");
    let programs = programs::build(release)?;
    let mut servers = Servers::start()?;
    let profile = if release { "" } else { ", not optimized; --release is faster" };
    report.fact("tandem", format!("{}{profile}", relative(&programs.tandem)));
    report.fact("bot", relative(&programs.bot));
    report.fact("Postgres", format!("127.0.0.1:{}", servers.postgres.port()));
    report.fact(
        "Qdrant",
        format!("127.0.0.1:{} (gRPC), :{} (REST)", servers.qdrant.grpc_port(), servers.qdrant.http_port()),
    );

    let old = Bot::new(&servers, OLD)?;
    let start = upgrade(&mut report, &programs, &mut servers, &old).await?;
    let start = second_start(&mut report, &programs, &old, start).await?;
    fresh_pair(&mut report, &programs, &servers).await?;
    if !once {
        invite(&report, &programs, &servers, &old).await?;
    }
    stop(&mut report, "the first", start)?;
    println!("\n  All {} checks passed.", report.passed());
    Ok(())
}

/// Act 1: an installation without a ledger, on servers that start later than tandem.
async fn upgrade(
    report: &mut Report,
    programs: &Programs,
    servers: &mut Servers,
    bot: &Bot,
) -> Result<Start> {
    report.heading("1  A WhisperEngine v1.0.6 installation meets a newer image");
    installation::create_database(&servers.postgres, OLD.database)?;
    installation::install(&servers.postgres, &servers.qdrant, OLD).await?;
    let tables = installation::tables(&servers.postgres, OLD.database).await?;
    let points = installation::points(&servers.qdrant, OLD.collection)?;
    let rows: usize = tables.values().map(Vec::len).sum();
    report.say(format!(
        "{} tables with {} rows, {} users among them; {} memories in {}. No ledger, no stamp.",
        tables.len(),
        grouped(rows),
        tables["users"].len(),
        points.len(),
        OLD.collection
    ));
    report.say(format!("Both servers are down now and come up {} ms after tandem.", LATE.as_millis()));
    servers.postgres.stop()?;
    servers.qdrant.stop()?;
    report.command("tandem run -- bot");
    let mut start = Start::begin(programs, &bot.environment)?;
    tokio::time::sleep(LATE).await;
    servers.postgres.launch()?;
    servers.qdrant.launch()?;
    let took = start.becomes_bot().await?;
    let characters = bot.answers(report, &mut start, took).await?;
    report.check("characters", characters.len() == 5, names(&characters), "the 5 active ones of 6")?;

    nothing_lost(report, servers, &tables, &points).await?;
    let (_, memories) = programs::get(bot.web, "/api/memories")?;
    let indexes = &memories["payload_indexes"];
    let new = ["channel_id", "channel_type"];
    let there = new.iter().all(|field| indexes[field] == "keyword");
    let found =
        format!("{} in Qdrant, {} among them", indexes.as_object().map_or(0, |o| o.len()), new.join(" and "));
    report.check(
        "payload indexes",
        there,
        if there { found } else { indexes.to_string() },
        "the two of v1.0.31 as well",
    )?;
    let verified = programs::command(&programs.tandem, &bot.environment).arg("verify").output()?;
    let found = match verified.status.success() {
        true => programs::shown(verified.status),
        false => {
            format!("{}: {}", programs::shown(verified.status), String::from_utf8_lossy(&verified.stderr))
        }
    };
    report.check("tandem verify", verified.status.success(), found, "exit code 0")?;
    Ok(start)
}

/// Checks that all rows and points are still there, as they were.
async fn nothing_lost(
    report: &mut Report,
    servers: &Servers,
    tables: &Tables,
    points: &[Value],
) -> Result<()> {
    let now = installation::tables(&servers.postgres, OLD.database).await?;
    let rows: usize = tables.values().map(Vec::len).sum();
    let losses = installation::lost(tables, &now);
    let found = match losses.as_slice() {
        [] => format!("{} of v1.0.6, every value as before; {} tables now", grouped(rows), now.len()),
        losses => format!("gone or changed: {}", losses.join(", ")),
    };
    report.check("rows", losses.is_empty(), found, "every row and value of before")?;
    let same = installation::points(&servers.qdrant, OLD.collection)? == points && points.len() == MEMORIES;
    let found = match same {
        true => format!("{MEMORIES} points, every payload and vector as before"),
        false => "other points than before".to_owned(),
    };
    report.check("memories", same, found, "the points of before")
}

/// Act 2: nothing to do.
async fn second_start(report: &mut Report, programs: &Programs, bot: &Bot, first: Start) -> Result<Start> {
    report.heading("2  The same container starts again");
    report.say("Both stores are at head: tandem looks at both, takes no lock and makes way.");
    stop(report, "the", first)?;
    report.command("tandem run -- bot");
    let mut start = Start::begin(programs, &bot.environment)?;
    let took = start.becomes_bot().await?;
    bot.answers(report, &mut start, took).await?;
    Ok(start)
}

/// Act 3: nothing there yet, beside the bot that runs.
async fn fresh_pair(report: &mut Report, programs: &Programs, servers: &Servers) -> Result<()> {
    report.heading("3  Another bot, with an empty database and no collection");
    report.say("Everything is created: tables, the default assistant, the collection and its indexes.");
    installation::create_database(&servers.postgres, FRESH.database)?;
    let bot = Bot::new(servers, FRESH)?;
    report.command("tandem run -- bot");
    let mut start = Start::begin(programs, &bot.environment)?;
    let took = start.becomes_bot().await?;
    let characters = bot.answers(report, &mut start, took).await?;
    let seeded = characters.len() == 1 && characters[0]["bot_name"] == "assistant";
    report.check("characters", seeded, names(&characters), "the default assistant alone")?;
    let (_, memories) = programs::get(bot.web, "/api/memories")?;
    let (collection, count) = (&memories["collection"], &memories["points_count"]);
    let right = collection == FRESH.collection && *count == 0;
    let found = format!("{} points in {}", count, collection.as_str().unwrap_or("?"));
    report.check("memories", right, found, "an empty collection")?;
    stop(report, "the second", start)
}

/// Ends a bot as its container's runtime would.
fn stop(report: &mut Report, which: &str, start: Start) -> Result<()> {
    let status = start.stop()?;
    let found = format!("{which} bot ended with {}", programs::shown(status));
    report.check("SIGTERM", status.success(), found, "exit code 0")
}

/// Says what can be tried while the bot of the first two acts is up, until Ctrl-C.
async fn invite(report: &Report, programs: &Programs, servers: &Servers, bot: &Bot) -> Result<()> {
    let settings = SettingsFile::write(servers, bot)?;
    report.heading("The bot is up; try it from another terminal");
    report.say(format!("curl 127.0.0.1:{}/health", bot.health));
    report.say(format!("curl 127.0.0.1:{}/api/characters", bot.web));
    report.say(format!("curl 127.0.0.1:{}/api/memories", bot.web));
    report.say(format!(". {}    # the settings of tandem and the bot", settings.file().display()));
    report.say(format!("{} status", programs.tandem.display()));
    if let Some(psql) = local_servers::client_tool("psql") {
        report.say(format!(
            "{} -c 'select version, name, origin, applied_at from tandem.ledger'",
            psql.display()
        ));
    }
    println!();
    report.say("Ctrl-C ends the bot and both servers, and removes their data.");
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    println!();
    Ok(())
}

/// Servers of the demonstration alone. They end with the value, or with this process.
struct Servers {
    postgres: Process<Postgres>,
    qdrant: Process<Qdrant>,
}

impl Servers {
    fn start() -> Result<Servers> {
        let postgres = Postgres::start(PostgresOptions::default())?;
        installation::create_role(&postgres)?;
        Ok(Servers { postgres, qdrant: Qdrant::start(QdrantOptions::default())? })
    }
}

/// What one bot and the tandem before it are given.
struct Bot {
    environment: Environment,
    health: u16,
    web: u16,
}

impl Bot {
    fn new(servers: &Servers, pair: Pair) -> Result<Bot> {
        let (postgres, qdrant) = (&servers.postgres, &servers.qdrant);
        let (health, web) = (programs::free_port(9090)?, programs::free_port(3001)?);
        let environment = vec![
            ("POSTGRES_HOST", postgres.host().into()),
            ("POSTGRES_PORT", postgres.port().to_string()),
            ("POSTGRES_USER", ROLE.into()),
            ("POSTGRES_PASSWORD", postgres.password()),
            ("POSTGRES_DB", pair.database.into()),
            ("QDRANT_HOST", qdrant.host().into()),
            ("QDRANT_PORT", qdrant.http_port().to_string()),
            ("QDRANT_GRPC_PORT", qdrant.grpc_port().to_string()),
            ("QDRANT_COLLECTION_NAME", pair.collection.into()),
            ("HEALTH_CHECK_HOST", "127.0.0.1".into()),
            ("HEALTH_CHECK_PORT", health.to_string()),
            ("WEB_PORT", web.to_string()),
            ("TANDEM_MIGRATIONS", programs::root().join("migrations").display().to_string()),
        ];
        Ok(Bot { environment, health, web })
    }

    /// Checks the three endpoints that WhisperEngine's operators look at; the characters.
    async fn answers(&self, report: &mut Report, start: &mut Start, took: Duration) -> Result<Vec<Value>> {
        let (status, health) = start.first_answer(self.health, "/health").await?;
        report.measured("exec", format!("{} ms after tandem started", grouped(took.as_millis())));
        let right = status == 200 && health["status"] == "healthy" && has(&health, &["timestamp", "service"]);
        report.check("GET /health", right, brief(status, &health, "status"), "200, healthy")?;
        let (status, health) = programs::get(self.web, "/api/health")?;
        let right =
            status == 200 && health["database"] == "connected" && has(&health, &["status", "timestamp"]);
        report.check("GET /api/health", right, brief(status, &health, "database"), "200, connected")?;
        let (status, answer) = programs::get(self.web, "/api/characters")?;
        let characters = answer["characters"].as_array().cloned().unwrap_or_default();
        let right = status == 200
            && answer["success"] == true
            && answer["count"] == characters.len()
            && has(&answer["debug"], &["first_character", "bot_names"])
            && characters.iter().all(|c| has(c, CHARACTER));
        report.check(
            "GET /api/characters",
            right,
            brief(status, &answer, "count"),
            "200 and complete characters",
        )?;
        Ok(characters)
    }
}

/// The fields of a character as WhisperEngine's web UI answers them.
const CHARACTER: &[&str] = &[
    "id",
    "name",
    "normalized_name",
    "bot_name",
    "created_at",
    "updated_at",
    "is_active",
    "version",
    "occupation",
    "location",
    "age_range",
    "background",
    "description",
    "archetype",
    "allow_full_roleplay",
    "cdl_data",
    "created_by",
    "notes",
];

fn has(object: &Value, fields: &[&str]) -> bool {
    fields.iter().all(|field| object.get(field).is_some())
}

/// Status and one field if all is well, else the whole answer.
fn brief(status: u16, answer: &Value, field: &str) -> String {
    match &answer[field] {
        Value::String(text) if status == 200 => format!("{status}  {field}: {text}"),
        Value::Number(number) if status == 200 => format!("{status}  {field}: {number}"),
        _ => format!("{status}  {answer}"),
    }
}

fn names(characters: &[Value]) -> String {
    characters.iter().filter_map(|c| c["name"].as_str()).collect::<Vec<_>>().join(", ")
}

/// As seen from the working directory, if below it.
fn relative(path: &Path) -> String {
    let here = env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

/// A file to source, in a directory that nobody else can enter; removed with the value.
struct SettingsFile {
    dir: PathBuf,
}

impl SettingsFile {
    fn write(servers: &Servers, bot: &Bot) -> Result<SettingsFile> {
        let dir = env::temp_dir().join(format!("tandem-quickstart-{}", std::process::id()));
        DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
        let settings = SettingsFile { dir };
        let psql = [
            ("PGHOST", servers.postgres.host().to_owned()),
            ("PGPORT", servers.postgres.port().to_string()),
            ("PGUSER", ROLE.to_owned()),
            ("PGPASSWORD", servers.postgres.password()),
            ("PGDATABASE", OLD.database.to_owned()),
        ];
        let others = "unset TANDEM_DATABASE_URL DATABASE_URL QDRANT_URL\n".to_owned();
        let lines = bot
            .environment
            .iter()
            .chain(&psql)
            .map(|(name, value)| format!("export {name}='{}'\n", value.replace('\'', r"'\''")));
        fs::write(settings.file(), std::iter::once(others).chain(lines).collect::<String>())?;
        Ok(settings)
    }

    fn file(&self) -> PathBuf {
        self.dir.join("env")
    }
}

impl Drop for SettingsFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("{} cannot be removed: {error}", self.dir.display());
        }
    }
}
