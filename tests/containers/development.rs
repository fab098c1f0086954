//! `docker-compose.yml`: built from source, several bots at once, one of them scaled, one held.

use crate::compose::{Project, V1, v2};
use crate::docker::{address, attempt, docker, get, inspect, logs, ok, says, until};
use crate::quickstart::{postgres_in, time};
use std::time::Instant;

fn all_up(project: &Project, services: &[(&str, usize)]) -> Vec<String> {
    let mut all = Vec::new();
    for (service, count) in services {
        let containers = project.containers(service);
        assert_eq!(containers.len(), *count, "{service}: {containers:?}");
        all.extend(containers);
    }
    for container in &all {
        until(|| logs(container).contains("Database initialization complete"), || logs(container));
        assert_eq!(ok(&address(container), 9090, "/ready")["status"], "ready");
        assert_eq!(inspect(container, "{{.RestartCount}}"), "0", "{}", logs(container));
    }
    all
}

/// When each container's tandem had finished, in seconds of the day.
fn finished(container: &str) -> f64 {
    let (_, log) = attempt(&["logs", "--timestamps", container]);
    let line = log.lines().find(|line| line.contains("Database initialization complete")).unwrap();
    time(line.split(' ').next().unwrap())
}

fn count(containers: &[String], words: &str) -> usize {
    containers.iter().map(|container| logs(container).matches(words).count()).sum()
}

#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn built_from_source_bots_with_a_collection_each_start_at_once_and_one_is_scaled() {
    let project = Project::development(V1);
    project.compose(&["build"]);
    project.compose(&["up", "--detach"]);
    let bots = all_up(&project, &[("bot", 1), ("ingrid", 1), ("zoe", 1)]);
    // One of them brought Postgres to head, each its own collection.
    assert_eq!(count(&bots, "Applied version 1 "), 1);
    assert_eq!(count(&bots, "Applied version 14 "), 1);
    assert_eq!(count(&bots, "create the collection"), 3);
    for bot in &bots {
        let memories = ok(&address(bot), 3001, "/api/memories");
        assert_eq!(memories["payload_indexes"]["channel_id"], "keyword", "{memories}");
    }
    project.compose(&["up", "--detach", "--scale", "bot=5"]);
    all_up(&project, &[("bot", 5), ("ingrid", 1), ("zoe", 1)]);
    let ports: std::collections::BTreeSet<String> = (1..=5)
        .map(|index| project.compose(&["port", "--index", &index.to_string(), "bot", "3001"]))
        .collect();
    assert_eq!(ports.len(), 5, "{ports:?}");
    assert!(ports.iter().all(|port| port.starts_with("127.0.0.1:")), "{ports:?}");
}

#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn five_at_once_on_fresh_volumes() {
    let project = Project::development(&v2());
    project.compose(&["up", "--detach", "--scale", "bot=5", "bot"]);
    let bots = all_up(&project, &[("bot", 5)]);
    assert_eq!(count(&bots, "Applied version 1 "), 1);
    assert_eq!(count(&bots, "Applied version 14 "), 1);
    assert_eq!(count(&bots, "create the collection"), 1);
    let times: Vec<f64> = bots.iter().map(|bot| finished(bot)).collect();
    let (first, last) =
        (times.iter().copied().fold(f64::MAX, f64::min), times.iter().copied().fold(0.0, f64::max));
    eprintln!("five bots: the last one was {:.2} s behind the first", last - first);
}

#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn a_refusal_is_held_in_sight_and_ends_with_the_mend() {
    let project = Project::development(V1);
    project.compose(&["up", "--detach", "postgres", "qdrant"]);
    let [store] = &project.containers("postgres")[..] else { panic!("one Postgres") };
    let execute = |sql: &str| postgres_in(store).execute("whisperengine", sql);
    until(|| execute("create table orders (id int primary key)").is_ok(), || logs(store));
    project.compose(&["up", "--detach", "ingrid"]);
    let [bot] = &project.containers("ingrid")[..] else { panic!("one bot") };
    says(bot, "looking again in 30 s");
    until(|| logs(bot).contains("ERROR"), || logs(bot));
    let last = logs(bot).lines().last().unwrap_or_default().to_owned();
    assert!(last.contains("ERROR") && last.contains("foreign"), "{last}");
    assert_eq!(inspect(bot, "{{.State.Status}} {{.RestartCount}}"), "running 0");
    assert_eq!(get("127.0.0.1", 9091, "/livez").unwrap().0, 200);
    let (status, body) = get("127.0.0.1", 9091, "/readyz").unwrap();
    assert!(
        status == 503 && body.contains("\"phase\":\"held\"") && body.contains("foreign"),
        "{status} {body}"
    );
    let begin = Instant::now();
    docker(&["stop", bot]);
    eprintln!("docker stop of a held start: {:.2?}", begin.elapsed());
    assert_eq!(inspect(bot, "{{.State.ExitCode}}"), "143");
    docker(&["start", bot]);
    until(|| logs(bot).matches("looking again in 30 s").count() == 2, || logs(bot));
    execute("drop table orders").unwrap();
    assert_eq!(ok("127.0.0.1", 9091, "/ready")["status"], "ready");
    assert_eq!(inspect(bot, "{{.State.Status}} {{.RestartCount}}"), "running 0");
}
