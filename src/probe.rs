//! The responder: while tandem works, something answers on the port that will be the bot's.
//!
//! `/livez` is 200, so that nobody ends the work; every other path is 503 with what is going on, so that nobody sends
//! traffic yet. It is gone before exec, and leaves nothing behind that would keep the bot from binding the same port at
//! once: a connection that the server closes first would stay in TIME_WAIT, so clients get to close first, and what is
//! left is reset.

use crate::error::{Error, ExitCode, Result};
use crate::progress::{Meter, Progress};
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// More than any prober sends.
const LONGEST_HEAD: usize = 8192;

/// How long a client may take for its request, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a client has to close first. One that waits for the end of the connection instead must not wait long.
const CLOSING: Duration = Duration::from_millis(200);

/// Enough for every kubelet, balancer and person at once; further ones wait in the backlog.
const CONNECTIONS: usize = 32;

/// What a client should wait before it asks again, if nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// An estimate is not worth more.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What is going on, shared between the work and the responder. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Board {
    since: Instant,
    stage: Arc<Mutex<Stage>>,
    meter: Meter,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stage {
    phase: Phase,
    held: Option<(Error, Duration)>,
}

/// The answer's body.
#[derive(Debug, Serialize)]
struct Report {
    status: &'static str,
    /// How long the start has been under way.
    elapsed_seconds: u64,
    #[serde(flatten)]
    doing: Doing,
    /// Why it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<Cause>,
    #[serde(skip)]
    retry_after: Duration,
}

/// What is counted where something is, else the phase alone.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Doing {
    Counted(Progress),
    Plain { phase: Phase },
}

#[derive(Debug, Serialize)]
struct Cause {
    code: i32,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// How far a start is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// For the stores.
    Waiting,
    /// Looking, proving and changing.
    Working,
    /// Staying up after a failure (`TANDEM_ON_REFUSAL=hold`).
    Held,
}

impl Board {
    /// A start that waits for the stores, whose work this meter counts.
    pub fn new(meter: Meter) -> Self {
        let stage = Arc::new(Mutex::new(Stage { phase: Phase::Waiting, held: None }));
        Self { since: Instant::now(), stage, meter }
    }

    /// What the work counts with.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Says which phase has begun; what an earlier one counted is over.
    pub fn phase(&self, phase: Phase) {
        self.meter.end();
        *self.stage() = Stage { phase, held: None };
    }

    /// Says why the start is held, and for how long.
    pub fn held(&self, error: &Error, time: Duration) {
        *self.stage() = Stage { phase: Phase::Held, held: Some((error.clone(), time)) };
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self) -> Report {
        let Stage { phase, held } = self.stage().clone();
        let counted = self.meter.read().filter(|_| held.is_none());
        let left = counted.as_ref().and_then(|progress| progress.seconds_left).map(Duration::from_secs);
        let time = held.as_ref().map(|(_, time)| *time).or(left).unwrap_or(RETRY_AFTER);
        Report {
            status: "not ready",
            elapsed_seconds: self.since.elapsed().as_secs(),
            doing: counted.map_or(Doing::Plain { phase }, Doing::Counted),
            cause: held.map(|(error, _)| Cause {
                code: error.code.code(),
                found: error.found,
                expected: error.expected,
                remedy: error.remedy,
            }),
            retry_after: time.clamp(Duration::from_secs(1), LONGEST_RETRY),
        }
    }
}

/// Listens until it is closed or dropped.
#[derive(Debug)]
pub struct Responder(JoinHandle<()>);

impl Responder {
    /// Begins to answer with what the board says. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// 78 if the address cannot be listened on.
    pub async fn start(address: SocketAddr, board: Board) -> Result<Self> {
        // tokio sets SO_REUSEADDR, as every server does that wants to start again at once.
        let listener = TcpListener::bind(address).await.map_err(|e| {
            Error::new(
                ExitCode::Configuration,
                format!("TANDEM_PROBE asks for a responder on {address}, where tandem cannot listen: {e}"),
            )
            .expected("the port of the bot, which is free until the bot starts")
            .remedy("set TANDEM_PROBE to another port, or to off")
        })?;
        Ok(Self(tokio::spawn(serve(listener, board))))
    }

    /// Returns when the port is free.
    pub async fn close(mut self) {
        self.0.abort();
        // Aborted is what it should be.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(listener: TcpListener, board: Board) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS || connections.try_join_next().is_some() {
            if connections.len() >= CONNECTIONS {
                connections.join_next().await;
            }
        }
        match listener.accept().await {
            Ok((stream, _)) => drop(connections.spawn(answer(stream, board.clone()))),
            // Out of descriptors, or a client that was gone already: neither is worth more than a pause.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// One request, one answer. A client that misbehaves gets none.
async fn answer(mut stream: TcpStream, board: Board) {
    // Dropped at any point from here on, the connection is reset instead of left in TIME_WAIT.
    if stream.set_zero_linger().is_err() {
        return;
    }
    let Ok(Some(head)) = timeout(PATIENCE, read_head(&mut stream)).await else { return };
    let text = respond(&head, &board.report());
    if !matches!(timeout(PATIENCE, stream.write_all(text.as_bytes())).await, Ok(Ok(()))) {
        return;
    }
    // The client has the whole answer and closes. One that waits for us to close first is told so.
    let mut rest = [0; 512];
    for _ in 0..2 {
        if timeout(CLOSING, async { while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {} })
            .await
            .is_ok()
        {
            return;
        }
        let _ = stream.shutdown().await;
    }
}

/// The request up to the empty line; `None` if there is none within the limit.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > LONGEST_HEAD || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// The answer to a request.
fn respond(head: &str, report: &Report) -> String {
    let mut request = head.lines().next().unwrap_or_default().split(' ');
    let (method, target, version) = (request.next(), request.next(), request.next());
    let path = target.unwrap_or_default().split(['?', '#']).next().unwrap_or_default();
    let status = match (method, path, version) {
        (_, _, None) => "400 Bad Request",
        (Some("GET" | "HEAD"), "/livez", _) => "200 OK",
        (Some("GET" | "HEAD"), _, _) => "503 Service Unavailable",
        _ => "405 Method Not Allowed",
    };
    // Plain data with text keys always has a JSON form.
    let body = serde_json::to_string(report).unwrap_or_default();
    let retry_after = report.retry_after.as_secs();
    let sent = if method == Some("HEAD") { "" } else { &body };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Retry-After: {retry_after}\r\nAllow: GET, HEAD\r\nConnection: close\r\n\r\n{sent}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Unit;

    #[test]
    fn alive_and_not_ready_whatever_is_asked() {
        let report = Board::new(Meter::default()).report();
        for (request, expected) in [
            ("GET /livez HTTP/1.1", "200 OK"),
            ("HEAD /livez HTTP/1.1", "200 OK"),
            ("GET /livez?verbose HTTP/1.1", "200 OK"),
            ("GET /readyz HTTP/1.1", "503 Service Unavailable"),
            ("HEAD /readyz HTTP/1.0", "503 Service Unavailable"),
            ("GET /health HTTP/1.1", "503 Service Unavailable"),
            ("GET /livez/ HTTP/1.1", "503 Service Unavailable"),
            ("POST /api/chat HTTP/1.1", "405 Method Not Allowed"),
            ("GET /livez", "400 Bad Request"),
            ("", "400 Bad Request"),
        ] {
            let answer = respond(&format!("{request}\r\n\r\n"), &report);
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected}\r\n")), "{request}: {answer}");
            assert_eq!(answer.ends_with('}'), !request.starts_with("HEAD"), "{request}: {answer}");
        }
    }

    #[test]
    fn the_body_says_what_is_going_on_and_when_to_ask_again() {
        let meter = Meter::default();
        let board = Board::new(meter.clone());
        let says = |parts: &[&str]| {
            let answer = respond("GET /readyz HTTP/1.1\r\n\r\n", &board.report());
            for part in parts {
                assert!(answer.contains(part), "{part} is not in\n{answer}");
            }
        };
        says(&["\r\nRetry-After: 5\r\n", r#"{"status":"not ready","elapsed_seconds":0,"phase":"waiting"}"#]);
        board.phase(Phase::Working);
        says(&["\r\nRetry-After: 5\r\n", r#""phase":"working""#]);
        meter.begin("copy", Some("memory"), Unit::Points, 0, Some(1_000_000_000));
        std::thread::sleep(Duration::from_millis(2));
        meter.add(1);
        says(&[
            "\r\nRetry-After: 60\r\n",
            r#""phase":"copy","collection":"memory""#,
            r#""done":1,"total":1000000000,"rate""#,
        ]);
        let error = Error::new(ExitCode::Refused, "a \"foreign\" database").remedy("another one");
        board.held(&error, Duration::from_secs(30));
        let cause =
            r#""phase":"held","cause":{"code":76,"found":"a \"foreign\" database","remedy":"another one"}"#;
        says(&["\r\nRetry-After: 30\r\n", cause]);
        // What it was held for may have been mended.
        board.phase(Phase::Waiting);
        says(&[r#""phase":"waiting"}"#]);
    }
}
