//! tandem as process 1 of a container, and what the command finds in its place.

use crate::common::Dir;
use crate::docker::{
    Container, GUARD, LABEL, address, attempt, command, docker, get, inspect, logs, ok, says, until,
};
use crate::images::{BOT, MIRROR};
use crate::stores::{API_KEY, PASSWORD, stores};
use std::io::Write;
use std::process::Stdio;
use std::time::Instant;

/// What a command can see of itself. A shell that starts another process blocks signals meanwhile, so it reads their masks
/// itself.
const LOOK: &str = r#"
printf 'arg=%s\n' "$@"; echo "pid=$$"; echo "cwd=$(pwd)"; echo "uid=$(id -u)"
while read -r line; do case $line in Sig[PBIC]*|ShdPnd*) echo "$line";; esac; done < /proc/$$/status
for fd in /proc/$$/fd/*; do target=$(readlink $fd) && echo "fd=${fd##*/} ${target%%[*}"; done
cat /proc/$$/environ | tr '\0' '\n' | sed 's/^/env /'
sed 's/^/stdin=/'
touch /touched 2>/dev/null || echo "read-only"
exit 7
"#;

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn the_command_finds_everything_as_if_tandem_had_never_been_there() {
    let (_, arguments) = stores().database("pid1");
    let own = format!("TANDEM_QDRANT_API_KEY={}", API_KEY);
    let limits =
        ["--read-only", "--user", "12345:12345", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];
    let look = |entrypoint: &[&str], command: &[&str]| {
        let mut run = vec!["run", "--interactive", "--rm", "--label", LABEL, "--workdir", "/usr"];
        run.extend(limits);
        run.extend(words(&arguments));
        run.extend(["--env", &own]);
        run.extend(entrypoint);
        run.push(MIRROR);
        run.extend(command);
        run.extend(["-c", LOOK, "sh", "a b", "--", "$x", ""]);
        seen(&run)
    };
    let behind = look(&[], &["sh"]);
    let alone = look(&["--entrypoint", "sh"], &[]);
    for line in [
        "arg=a b",
        "arg=--",
        "arg=$x",
        "arg=",
        "pid=1",
        "cwd=/usr",
        "uid=12345",
        "stdin=for the bot",
        "read-only",
    ] {
        assert!(behind.iter().any(|found| found == line), "{line:?} is not in\n{behind:#?}");
    }
    // Arguments, signal masks, descriptors, environment: line by line what the same command finds without tandem in front,
    // but for tandem's own secret.
    assert!(
        alone.contains(&format!("env {own}")) && alone.contains(&format!("env POSTGRES_PASSWORD={PASSWORD}"))
    );
    let expected: Vec<&String> = alone.iter().filter(|line| **line != format!("env {own}")).collect();
    assert_eq!(behind.iter().collect::<Vec<_>>(), expected);
}

/// What the command wrote after it had read its standard input, sorted; the container's own name aside.
fn seen(run: &[&str]) -> Vec<String> {
    let mut child = command(run).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"for the bot\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(7), "{text}");
    let mut lines: Vec<String> =
        text.lines().filter(|line| !line.starts_with("env HOSTNAME=")).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn a_command_that_cannot_be_executed_says_why() {
    let (database, arguments) = stores().database("exec");
    for (program, code, says) in
        [("no-such-bot", 127, "does not exist"), ("/etc/passwd", 126, "not executable")]
    {
        let mut run = words(&arguments);
        run.extend([MIRROR, program]);
        let container = Container::run("exec", &run);
        assert_eq!(container.wait(), code, "{}", logs(&container.0));
        assert!(logs(&container.0).contains(says), "{}", logs(&container.0));
    }
    // It was known before anything was changed for it.
    let tables =
        "select count(*)::text from pg_tables where schemaname not in ('pg_catalog', 'information_schema')";
    assert_eq!(stores().query(&database, tables), "0");
}

/// `docker stop`, which may take ten seconds before it kills; returns what it took and leaves no trace in Postgres.
#[track_caller]
fn stops(container: &Container, database: &str) -> std::time::Duration {
    let begin = Instant::now();
    docker(&["stop", &container.0]);
    let took = begin.elapsed();
    assert_eq!(inspect(&container.0, "{{.State.ExitCode}}"), "143", "{}", logs(&container.0));
    let sessions = "select count(*)::text from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    let locks = "select count(*)::text from pg_locks where locktype = 'advisory' and database = \
                 (select oid from pg_database where datname = current_database())";
    until(|| stores().query(database, sessions) == "0", || "a session is left".into());
    assert_eq!(stores().query(database, locks), "0");
    took
}

#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn docker_stop_while_waiting_and_while_migrating() {
    let (database, arguments) = stores().database("stop");
    let mut run = words(&arguments);
    run.extend(["--env", "QDRANT_HOST=nowhere", BOT]);
    let waiting = Container::run("stop", &run);
    says(&waiting.0, "Waiting for Qdrant");
    eprintln!("docker stop while waiting: {:.2?}", stops(&waiting, &database));

    let mut run = words(&arguments);
    run.push(BOT);
    let migrating = Container::run("stop", &run);
    let at_work = "select count(*)::text from pg_locks where locktype = 'advisory' and database = \
                   (select oid from pg_database where datname = current_database())";
    until(
        || stores().query(&database, at_work) != "0" && logs(&migrating.0).contains("Applied version 1 "),
        || logs(&migrating.0),
    );
    eprintln!("docker stop while migrating: {:.2?}", stops(&migrating, &database));
    assert!(!logs(&migrating.0).contains("initialization complete"), "{}", logs(&migrating.0));

    // The next start ends where that one would have.
    let mut run = words(&arguments);
    run.extend([MIRROR, "true"]);
    let next = Container::run("stop", &run);
    assert_eq!(next.wait(), 0, "{}", logs(&next.0));
    assert_eq!(stores().query(&database, "select max(version)::text from tandem.ledger"), "14");
    assert_eq!(
        stores().query(&database, "select count(*)::text from tandem.journal where ended is null"),
        "0"
    );
}

/// Process 1 is the bot by now, and not tandem, which has it among its arguments.
fn became(bot: &Container) -> bool {
    attempt(&["top", &bot.0, "-o", "pid,args"])
        .1
        .lines()
        .any(|line| line.trim_end().ends_with(" /bot") && !line.contains("tandem"))
}

/// How often a container has been out of memory.
fn out_of_memory(container: &Container) -> usize {
    let name = format!("container={}", container.0);
    docker(&["events", "--since", "1h", "--until", "0s", "--filter", "event=oom", "--filter", &name])
        .lines()
        .count()
}

#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn a_start_that_has_too_little_memory_goes_on_where_it_was_when_it_has_more() {
    let (database, arguments) = stores().database("memory");
    let mut run = words(&arguments);
    run.extend(["--restart", "unless-stopped", "--memory", "6m", "--memory-swap", "6m", BOT]);
    let container = Container::run("memory", &run);
    until(|| out_of_memory(&container) > 0, || logs(&container.0));
    docker(&["update", "--memory", "256m", "--memory-swap", "256m", &container.0]);
    says(&container.0, "Database initialization complete");
    assert_eq!(stores().query(&database, "select max(version)::text from tandem.ledger"), "14");
    assert_eq!(
        stores().query(&database, "select count(*)::text from tandem.journal where ended is null"),
        "0"
    );
}

#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn a_bot_that_is_killed_or_out_of_memory_starts_again_behind_tandem() {
    let (_, arguments) = stores().database("oom");
    let policy = ["--restart", "unless-stopped", "--memory", "96m", "--memory-swap", "96m"];
    let mut run = words(&arguments);
    run.extend(policy);
    run.extend([MIRROR, "sh", "-c", "sleep 1; exec tail /dev/zero"]);
    let eater = Container::run("oom", &run);
    let restarts = |container: &Container| inspect(&container.0, "{{.RestartCount}}").parse::<u32>().unwrap();
    until(|| restarts(&eater) >= 1 && out_of_memory(&eater) >= 1, || logs(&eater.0));
    until(|| logs(&eater.0).contains("unchanged since their last proof"), || logs(&eater.0));
    docker(&["stop", "--time", "1", &eater.0]);
    assert_eq!(inspect(&eater.0, "{{.State.Status}}"), "exited");

    let mut run = words(&arguments);
    run.extend(policy);
    run.push(BOT);
    let bot = Container::run("kill", &run);
    let begin = Instant::now();
    for round in 1..=2 {
        until(|| became(&bot), || logs(&bot.0));
        let pid = inspect(&bot.0, "{{.State.Pid}}");
        crate::docker::succeeds(std::process::Command::new("kill").args(["-s", "KILL", &pid]));
        until(|| restarts(&bot) == round, || logs(&bot.0));
        assert!(begin.elapsed() < GUARD);
    }
    until(|| became(&bot), || logs(&bot.0));
    says(&bot.0, "unchanged since their last proof");
    docker(&["stop", &bot.0]);
    assert_eq!(inspect(&bot.0, "{{.State.ExitCode}}"), "0", "{}", logs(&bot.0));
}

/// As `deploy/kubernetes/entrypoint.yaml` has it: no capability, nothing to write on, any user, secrets as files, both probes on
/// the bot's port from the first moment on.
#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn locked_down_as_in_kubernetes() {
    let (_, arguments) = stores().database("pod");
    let secrets = Dir::new();
    secrets.write("postgres-password", &format!("{PASSWORD}\n"));
    secrets.write("qdrant-api-key", API_KEY);
    let volume = format!("{}:/run/secrets/stores:ro", secrets.path().display());
    let mut run: Vec<&str> = words(&arguments)
        .chunks(2)
        .filter(|pair| !pair[1].starts_with("POSTGRES_PASSWORD=") && !pair[1].starts_with("QDRANT_API_KEY="))
        .flatten()
        .copied()
        .collect();
    run.extend([
        "--read-only",
        "--user",
        "1000650000:0",
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
    ]);
    run.extend(["--volume", &volume, "--env", "TANDEM_PROBE=:9090"]);
    run.extend(["--env", "POSTGRES_PASSWORD_FILE=/run/secrets/stores/postgres-password"]);
    run.extend(["--env", "QDRANT_API_KEY_FILE=/run/secrets/stores/qdrant-api-key", BOT]);
    let pod = Container::run("pod", &run);
    let host = address(&pod.0);
    // Alive without a gap; ready only as the bot.
    let mut answers = Vec::new();
    until(
        || {
            let alive = get(&host, 9090, "/livez").map(|(status, _)| status);
            let ready = get(&host, 9090, "/readyz").map(|(status, _)| status);
            answers.push((alive, ready));
            ready == Some(200)
        },
        || logs(&pod.0),
    );
    assert!(answers.contains(&(Some(200), Some(503))), "{answers:?}");
    assert!(
        answers.iter().all(
            |(alive, ready)| alive.is_none_or(|s| s == 200) && ready.is_none_or(|s| s == 200 || s == 503)
        )
    );
    assert_eq!(ok(&host, 3001, "/api/health")["database"], "connected");
}
