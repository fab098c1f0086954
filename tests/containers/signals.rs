//! SIGTERM and SIGINT in a container: tandem is process 1 there, to which an unhandled signal does nothing.

use crate::common::World;
use crate::common::moments::{Copying, Holder, UnreadableYet, nothing_is_left, sleeper, sleeps};
use crate::docker::{Container, docker, get, inspect, logs, says, until};
use crate::images::MIRROR;
use std::net::TcpListener;
use std::time::Instant;
use tandem::postgres::lock::Key;

const SIGNALS: [(&str, i32); 2] = [("TERM", 143), ("INT", 130)];

/// A bot that says why it ends.
const BOT: [&str; 3] = ["sh", "-c", "trap 'exit 9' TERM INT; echo up >&2; while :; do sleep 0.05; done"];

/// A world's tandem in a container on this machine's network, in front of a bot.
fn start(world: &World, variables: &[&str]) -> Container {
    let volume = format!("{}:/migrations:ro", world.migrations.path().display());
    let settings: Vec<String> = world.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let settings = settings.iter().map(String::as_str).chain(variables.iter().copied());
    let mut run = vec!["--network", "host", "--volume", &volume];
    run.extend(settings.filter(|one| !one.starts_with("TANDEM_MIGRATIONS=")).flat_map(|one| ["--env", one]));
    run.push(MIRROR);
    run.extend(BOT);
    Container::run("signal", &run)
}

/// Sends the signal, and holds the end against what it should be.
#[track_caller]
fn ends(container: &Container, what: &str, (signal, code): (&str, i32)) {
    let begin = Instant::now();
    docker(&["kill", "--signal", signal, &container.0]);
    until(|| inspect(&container.0, "{{.State.Running}}") == "false", || logs(&container.0));
    eprintln!("SIG{signal} {what}: {:.2?}", begin.elapsed());
    assert_eq!(inspect(&container.0, "{{.State.ExitCode}}"), code.to_string(), "{}", logs(&container.0));
}

#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn signals_end_process_1_wherever_it_waits() {
    let mut world = World::small();
    let before = world.state();
    let nowhere = "QDRANT_URL=http://127.0.0.1:1";
    let secret = UnreadableYet::new(&world);
    let url = world.db.url();
    for signal in SIGNALS {
        world.env.retain(|(name, _)| name != "DATABASE_URL");
        let container = start(&world, &["DATABASE_URL_FILE=/migrations/secret"]);
        let opened = secret.opened();
        ends(&container, "while settings are read", signal);
        drop(opened);
        world.set("DATABASE_URL", url.as_str());

        let container = start(&world, &[nowhere]);
        says(&container.0, "Waiting for Qdrant");
        ends(&container, "while waiting for a store", signal);

        let holder = Holder::of(&world, &Key::Timeline("demo".into()));
        let container = start(&world, &[]);
        says(&container.0, "Waiting for the lock of timeline demo");
        ends(&container, "while waiting for a lock", signal);
        drop(holder);

        let container = start(&world, &["TANDEM_ON_REFUSAL=hold", nowhere, "TANDEM_TIMEOUT=1s"]);
        says(&container.0, "looking again in 30 s");
        ends(&container, "while held", signal);
        nothing_is_left(&world);
        assert_eq!(world.state(), before);
    }
    // Once the bot is there it is the bot's.
    for (signal, _) in SIGNALS {
        let container = start(&world, &[]);
        says(&container.0, "up\n");
        ends(&container, "to the bot", (signal, 9));
    }
}

#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn signals_end_process_1_inside_its_work() {
    for signal in SIGNALS {
        let world = sleeper();
        let before = world.state();
        let container = start(&world, &[]);
        sleeps(&world);
        ends(&container, "inside a transaction", signal);
        nothing_is_left(&world);
        assert_eq!(world.state(), before);
        world.db.execute("delete from users");
        world.start(&["true"]).expect(0).says(&["Applied version 3"]);

        let mut copying = Copying::new();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let container = start(&copying.world, &[&format!("TANDEM_PROBE=127.0.0.1:{port}")]);
        until(|| copying.hangs(), || logs(&container.0));
        let (status, body) = get("127.0.0.1", port, "/readyz").unwrap();
        assert_eq!(status, 503);
        for part in ["\"phase\":\"copy\"", "\"done\":", "\"total\":3000", "\"rate\":", "\"seconds_left\":"] {
            assert!(body.contains(part), "{part} is not in {body}");
        }
        ends(&container, "while points are copied", signal);
        nothing_is_left(&copying.world);
        copying.is_untouched_and_goes_on();
    }
}
