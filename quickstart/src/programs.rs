//! The real programs: building them, and running one behind the other.

use std::env;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Result;

/// How long the bot may take to end after SIGTERM, or to answer after it began.
const PATIENCE: Duration = Duration::from_secs(30);

/// The repository.
pub fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The two programs.
pub struct Programs {
    pub tandem: PathBuf,
    pub bot: PathBuf,
}

/// Builds both with the Cargo that runs this.
pub fn build(release: bool) -> Result<Programs> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command
        .args(["build", "--package", "tandem", "--bin", "tandem", "--package", "quickstart", "--bin", "bot"])
        .args(["--message-format", "json-render-diagnostics"])
        // Without optimizations there is little left to build: this program has the same dependencies.
        .arg(if release { "--release" } else { "--quiet" })
        .current_dir(root())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    // `cargo run` describes this package in the environment, and build scripts that look there (ring's) would run again.
    let described =
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];
    for (name, _) in env::vars_os() {
        if described.iter().any(|start| name.to_string_lossy().starts_with(start)) {
            command.env_remove(name);
        }
    }
    let built = command.output().map_err(|e| format!("cannot run {}: {e}", cargo.to_string_lossy()))?;
    if !built.status.success() {
        return Err(format!("tandem and the bot could not be built ({})", built.status).into());
    }
    let messages: Vec<Value> =
        String::from_utf8_lossy(&built.stdout).lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let find = |name: &str| {
        messages
            .iter()
            .filter(|m| m["target"]["name"] == name)
            .find_map(|m| m["executable"].as_str())
            .map(PathBuf::from)
            .ok_or_else(|| format!("Cargo built no program {name}"))
    };
    Ok(Programs { tandem: find("tandem")?, bot: find("bot")? })
}

/// Variables that one start is given, besides those of the terminal.
pub type Environment = Vec<(&'static str, String)>;

/// A command with the given variables and what a terminal needs, and nothing that could point it at other servers.
pub fn command(program: &Path, environment: &Environment) -> Command {
    let kept = ["PATH", "HOME", "LANG", "TERM", "NO_COLOR"];
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(kept.iter().filter_map(|name| env::var_os(name).map(|value: OsString| (name, value))))
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null());
    command
}

/// `tandem run -- bot`, one process that is first the one and then the other. Ends with the value.
pub struct Start {
    child: Child,
    began: Instant,
    bot: PathBuf,
}

impl Start {
    pub fn begin(programs: &Programs, environment: &Environment) -> Result<Start> {
        use std::os::unix::process::CommandExt;
        let mut command = command(&programs.tandem, environment);
        // Ctrl-C is for the quickstart, which then ends the bot.
        command.args(["run", "--"]).arg(&programs.bot).process_group(0);
        let began = Instant::now();
        let child =
            command.spawn().map_err(|e| format!("cannot start {}: {e}", programs.tandem.display()))?;
        Ok(Start { child, began, bot: programs.bot.canonicalize()? })
    }

    /// Waits until the process is the bot; the time from its start to `exec`, to about a millisecond.
    pub async fn becomes_bot(&mut self) -> Result<Duration> {
        let program = format!("/proc/{}/exe", self.child.id());
        loop {
            if std::fs::read_link(&program).is_ok_and(|exe| exe == self.bot) {
                return Ok(self.began.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!(
                    "expected tandem to become the bot, but it ended with {}",
                    shown(status)
                )
                .into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The first answer to a GET, for which the bot may have to begin to listen yet.
    pub async fn first_answer(&mut self, port: u16, path: &str) -> Result<(u16, Value)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match get(port, path) {
                Ok(answer) => return Ok(answer),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => {}
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("expected the bot to answer, but it ended with {}", shown(status)).into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// SIGTERM, and its exit status.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.terminate()
    }

    fn terminate(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        // SAFETY: kill takes two numbers and touches no memory. The child has not been waited for, so the id is its own.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGTERM) };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                return Err(
                    format!("expected the bot to end on SIGTERM, but it ran on for {PATIENCE:?}").into()
                );
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        if let Err(error) = self.terminate() {
            eprintln!("{error}");
        }
    }
}

/// As a shell would say it.
pub fn shown(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// GET on this machine: status and JSON body.
pub fn get(port: u16, path: &str) -> Result<(u16, Value)> {
    let mut stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|e| format!("GET :{port}{path}: {e}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // HTTP/1.0: the answer is not chunked and ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nhost: 127.0.0.1\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or_else(|| format!("GET :{port}{path}: not HTTP: {answer:?}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("GET :{port}{path}: no status in {head:?}"))?;
    Ok((status, serde_json::from_str(body)?))
}

/// The wanted port, or else the next free one.
pub fn free_port(wanted: u16) -> Result<u16> {
    (wanted..=u16::MAX)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| format!("no free port from {wanted} on").into())
}
