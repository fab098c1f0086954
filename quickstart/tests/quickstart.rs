//! The demonstration as a user runs it.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Two at once would look for the same free ports.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn quickstart(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_quickstart"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// `127.0.0.1:PORT` behind a word at the start of a line.
fn address<'a>(output: &'a str, word: &str) -> &'a str {
    let line = output.lines().map(str::trim).find(|line| line.starts_with(word));
    let line = line.unwrap_or_else(|| panic!("no line {word} in\n{output}"));
    line.split_whitespace().find(|part| part.starts_with("127.0.0.1:")).unwrap()
}

fn assert_servers_are_gone(stdout: &str) {
    for server in ["Postgres", "Qdrant"] {
        let address = address(stdout, server);
        assert!(TcpStream::connect(address).is_err(), "{server} still accepts connections on {address}");
    }
}

#[test]
fn once_upgrades_an_old_pair_starts_fast_at_head_creates_a_fresh_pair_and_leaves_nothing() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let output = quickstart(&["--once"]).wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    let passed =
        |check: &str| stdout.lines().filter(|line| line.trim().starts_with(&format!("✓ {check}"))).count();
    for check in ["exec", "GET /health", "GET /api/health", "GET /api/characters", "SIGTERM"] {
        assert_eq!(passed(check), 3, "{check} in\n{stdout}");
    }
    for check in ["rows", "payload indexes", "tandem verify"] {
        assert_eq!(passed(check), 1, "{check} in\n{stdout}");
    }
    // What tandem said: twice what operators of the reference application look for, then each act's own finding.
    for (line, times) in [
        ("Checking database initialization", 3),
        ("Database initialization complete", 3),
        ("Postgres is legacy", 1),
        ("both stores at head, unchanged since their last proof", 1),
        ("Postgres is fresh", 1),
    ] {
        assert_eq!(stderr.matches(line).count(), times, "{line} in\n{stderr}");
    }
    for line in ["Waiting for Postgres", "Waiting for Qdrant"] {
        assert!(stderr.contains(line), "{line} in\n{stderr}");
    }
    assert_servers_are_gone(&stdout);
}

#[test]
fn the_bot_stays_up_until_interrupted() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut child = quickstart(&[]);
    // Read beside standard output, or a full pipe would stop the child.
    let mut errors = child.stderr.take().unwrap();
    let stderr = std::thread::spawn(move || {
        let mut text = String::new();
        errors.read_to_string(&mut text).unwrap();
        text
    });
    let mut stdout = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    while !stdout.contains("Ctrl-C") {
        if lines.read_line(&mut stdout).unwrap() == 0 {
            panic!("ended before the invitation:\n{stdout}\n{}", stderr.join().unwrap());
        }
    }
    let curl = address(&stdout, "curl 127.0.0.1");
    let bot = curl.strip_suffix("/health").unwrap().to_owned();
    assert!(TcpStream::connect(&bot).is_ok(), "nothing listens on {bot}");
    let settings = stdout.lines().find_map(|line| line.trim().strip_prefix(". ")).unwrap();
    let settings = settings.split(' ').next().unwrap().to_owned();
    assert!(std::fs::read_to_string(&settings).unwrap().contains("export POSTGRES_DB='whisperengine'"));

    // SAFETY: kill takes two numbers and touches no memory. The child has not been waited for, so the id is its own.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGINT) };
    lines.read_to_string(&mut stdout).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}\n{stdout}");
    assert!(stdout.contains("Everything is stopped and removed."), "{stdout}");
    assert!(TcpStream::connect(&bot).is_err(), "the bot is still there");
    assert!(!std::path::Path::new(&settings).exists(), "{settings} is still there");
    assert_servers_are_gone(&stdout);
}
