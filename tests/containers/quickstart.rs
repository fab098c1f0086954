//! `docker-compose.quickstart.yml` as a user meets it.

use crate::compose::{Project, V1, v2};
use crate::docker::{address, attempt, docker, get, inspect, logs, ok, says, until};
use crate::images::NEXT_QDRANT;
use crate::installation::{self, Pair};
use local_servers::{Postgres, Qdrant};
use std::time::{Duration, Instant};

const BOT: &str = "whisperengine-assistant";
const PAIR: Pair = Pair { database: "whisperengine", collection: "whisperengine_memory_assistant" };

/// The bot answers on the published ports, and is the quickstart's.
#[track_caller]
fn healthy() -> serde_json::Value {
    let health = ok("127.0.0.1", 3001, "/api/health");
    assert_eq!(
        (&health["status"], &health["database"]),
        (&"healthy".into(), &"connected".into()),
        "{health}"
    );
    assert_eq!(ok("127.0.0.1", 9090, "/health")["status"], "healthy");
    let characters = ok("127.0.0.1", 3001, "/api/characters");
    assert_eq!(characters["success"], true, "{characters}");
    assert_eq!(ok("127.0.0.1", 9090, "/ready")["status"], "ready");
    characters
}

/// What operators of the reference application look for: `docker logs … 2>&1 | grep -i "database initialization"`.
#[track_caller]
fn both_lines(starts: usize) {
    let found = logs(BOT).to_lowercase().matches("database initialization").count();
    assert_eq!(found, 2 * starts, "{}", logs(BOT));
}

/// It has started at the first attempt each time: nothing was restarted behind our back.
#[track_caller]
fn never_restarted() {
    assert_eq!(inspect(BOT, "{{.RestartCount}}"), "0", "{}", logs(BOT));
}

fn postgres() -> Postgres {
    postgres_in("whisperengine-postgres")
}

/// What both compose files have by default.
pub fn postgres_in(container: &str) -> Postgres {
    let host = address(container);
    Postgres::at(&format!("postgres://whisperengine:whisperengine_password@{host}:5432/whisperengine"))
        .unwrap()
}

fn query(sql: &str) -> String {
    crate::common::query(&postgres().url_as("whisperengine", "whisperengine_password", PAIR.database), sql)
}

#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn fresh_volumes_then_restart_down_up_and_recreation() {
    let project = Project::quickstart(V1);
    // For figures: as many pairs as wanted.
    let pairs = std::env::var("TANDEM_TEST_PAIRS").map_or(0, |pairs| pairs.parse().unwrap());
    for _ in 0..pairs {
        let alone = Instant::now();
        project.compose(&["up", "--detach", "postgres"]);
        until(|| postgres().execute(PAIR.database, "select 1").is_ok(), || logs("whisperengine-postgres"));
        let alone = alone.elapsed();
        project.compose(&["down", "--volumes"]);
        let begin = (Instant::now(), since_midnight());
        project.compose(&["up", "--detach"]);
        let up = begin.0.elapsed();
        ok("127.0.0.1", 3001, "/api/health");
        let all = begin.0.elapsed();
        let load = std::fs::read_to_string("/proc/loadavg").unwrap();
        eprintln!(
            "up of Postgres alone to its first login {alone:.2?}; up to /api/health on fresh volumes {all:.2?}, at a load of {}: {}",
            load.split(' ').next().unwrap_or_default(),
            parts(begin.1, up)
        );
        project.compose(&["down", "--volumes"]);
    }
    project.compose(&["up", "--detach"]);
    let characters = healthy();
    assert_eq!(characters["count"], 1, "{characters}");
    assert_eq!(characters["characters"][0]["bot_name"], "assistant");
    both_lines(1);
    says(BOT, "holds a password that everybody knows");
    // The bot is process 1 of a container that may do nothing but that.
    let processes = docker(&["top", BOT, "-o", "pid,args"]);
    assert!(processes.lines().count() == 2 && processes.contains("/bot"), "{processes}");
    let limits =
        "{{.HostConfig.ReadonlyRootfs}} {{.Config.User}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}";
    assert_eq!(inspect(BOT, limits), "true 65532:65532 [ALL] [no-new-privileges:true]");
    // Postgres had the start in two stages that fools who asks its socket.
    assert!(
        logs("whisperengine-postgres").matches("database system is ready to accept connections").count() >= 2
    );

    postgres().execute(PAIR.database, "update characters set description = 'my own'").unwrap();
    for (again, what) in [
        (&["restart"][..], "unchanged since their last proof"),
        (&["down"], ""),
        (&["up", "--detach"], "unchanged since their last proof"),
        (&["up", "--detach", "--force-recreate"], "unchanged since their last proof"),
    ] {
        project.compose(again);
        if again != ["down"] {
            says(BOT, what);
            healthy();
            never_restarted();
        }
    }
    both_lines(1);
    assert_eq!(query("select string_agg(description, ',') from characters"), "my own");
    assert_eq!(query("select count(*)::text from tandem.journal where ended is null"), "0");
}

#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn compose_v2_does_the_same() {
    let project = Project::quickstart(&v2());
    project.compose(&["up", "--detach"]);
    healthy();
    both_lines(1);
    project.compose(&["restart"]);
    healthy();
    both_lines(2);
    project.compose(&["up", "--detach", "--force-recreate"]);
    healthy();
    both_lines(1);
    never_restarted();
}

#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn volumes_of_a_v1_0_6_installation_and_then_a_newer_qdrant() {
    let mut project = Project::quickstart(V1);
    project.compose(&["up", "--detach", "postgres", "qdrant"]);
    let postgres = || postgres();
    let qdrant = || Qdrant::at(&format!("http://{}:6334", address("whisperengine-qdrant")), None).unwrap();
    until(|| postgres().execute(PAIR.database, "select 1").is_ok(), || logs("whisperengine-postgres"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let role = "alter role whisperengine password 'whisperengine_password'";
    postgres().execute(PAIR.database, role).unwrap();
    runtime.block_on(installation::install(&postgres(), &qdrant(), PAIR)).unwrap();
    let tables = runtime.block_on(installation::tables(&postgres(), PAIR.database)).unwrap();
    let points = installation::points(&qdrant(), PAIR.collection).unwrap();
    assert!(tables.len() > 70 && points.len() == installation::MEMORIES);
    // The look that docs/replacing-db-migrate.md begins with.
    let plan = ["run", "--rm", "--no-deps", "--entrypoint", "/tandem", BOT, "plan", "--exit-code"];
    let plan = project.command(&plan).output().unwrap();
    let said = String::from_utf8_lossy(&plan.stdout);
    assert!(plan.status.code() == Some(2) && said.contains("legacy"), "{plan:?}");
    project.compose(&["down"]);

    project.compose(&["up", "--detach"]);
    let characters = healthy();
    assert_eq!(characters["count"], 5, "{characters}");
    // Every script comes through as it was, in an image that knows no locale.
    let names: Vec<_> = characters["characters"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    for name in ["Ingrid Sørensen", "Дед Мороз", "藤原 澪"] {
        assert!(names.contains(&&name.into()), "{names:?}");
    }
    both_lines(1);
    says(BOT, "Postgres is legacy");
    never_restarted();
    let unharmed = || {
        let now = runtime.block_on(installation::tables(&postgres(), PAIR.database)).unwrap();
        assert_eq!(installation::lost(&tables, &now), [""; 0]);
        assert_eq!(installation::points(&qdrant(), PAIR.collection).unwrap(), points);
    };
    unharmed();

    let (version, image) = NEXT_QDRANT;
    project.environment.push(("QDRANT_VERSION", version.into()));
    project.compose(&["up", "--detach", "--force-recreate"]);
    assert_eq!(inspect("whisperengine-qdrant", "{{.Config.Image}}"), image);
    healthy();
    both_lines(1);
    never_restarted();
    unharmed();
}

#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn fresh_volumes_on_the_next_qdrant() {
    let mut project = Project::quickstart(V1);
    let (version, image) = NEXT_QDRANT;
    project.environment.push(("QDRANT_VERSION", version.into()));
    project.compose(&["up", "--detach"]);
    assert_eq!(inspect("whisperengine-qdrant", "{{.Config.Image}}"), image);
    healthy();
    both_lines(1);
    never_restarted();
}

#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn stores_that_come_late_in_either_order() {
    for (first, second) in [("postgres", "qdrant"), ("qdrant", "postgres")] {
        let project = Project::quickstart(V1);
        project.compose(&["up", "--detach", "--no-deps", BOT]);
        // Their names are not even known yet.
        says(BOT, "Waiting for Postgres");
        says(BOT, "Waiting for Qdrant");
        until(|| get("127.0.0.1", 9090, "/livez").is_some_and(|(status, _)| status == 200), || logs(BOT));
        let (status, body) = get("127.0.0.1", 9090, "/readyz").unwrap();
        assert!(status == 503 && body.contains("\"phase\":\"waiting\""), "{status} {body}");
        project.compose(&["up", "--detach", first]);
        let name = if first == "postgres" { "Postgres" } else { "Qdrant" };
        let is_ready = format!("{name} ");
        until(
            || logs(BOT).lines().any(|line| line.contains(&is_ready) && line.contains("is ready after")),
            || logs(BOT),
        );
        project.compose(&["up", "--detach", second]);
        healthy();
        both_lines(1);
        never_restarted();
        if first == "postgres" {
            continue;
        }
        // Slow ones: their ports accept, and nobody answers.
        let stores = ["whisperengine-postgres", "whisperengine-qdrant"];
        docker(&["stop", BOT]);
        docker(&["pause", stores[0], stores[1]]);
        docker(&["start", BOT]);
        let silent = || logs(BOT).matches("no answer within 5 s").count();
        until(|| silent() == stores.len(), || logs(BOT));
        docker(&["unpause", stores[0], stores[1]]);
        healthy();
        never_restarted();
    }
}

/// Seconds of the day, in UTC.
fn since_midnight() -> f64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64() % 86400.0
}

/// What a start of everything consisted of, in seconds since its beginning.
fn parts(begin: f64, up: Duration) -> String {
    let started = |container: &str| time(&inspect(container, "{{.State.StartedAt}}")) - begin;
    let says = |container: &str, what: &str| {
        let (_, log) = attempt(&["logs", "--timestamps", container]);
        let line = log.lines().rfind(|line| line.contains(what)).unwrap_or_default();
        line.split(' ').next().map_or(f64::NAN, time) - begin
    };
    let [postgres, qdrant] = ["whisperengine-postgres", "whisperengine-qdrant"];
    format!(
        "containers of Postgres {:.2}, Qdrant {:.2}, the bot {:.2}, Compose gone {:.2}, Postgres ready {:.2}, checking {:.2}, complete {:.2}",
        started(postgres),
        started(qdrant),
        started(BOT),
        up.as_secs_f64(),
        says(postgres, "database system is ready to accept connections"),
        says(BOT, "Checking database initialization"),
        says(BOT, "Database initialization complete"),
    )
}

/// Seconds of the day of an RFC 3339 time.
pub fn time(text: &str) -> f64 {
    let clock = text.split('T').nth(1).unwrap_or_default().trim_end_matches('Z');
    clock.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
}
