//! How far the work under way has come: a handle that the work advances, and its readings for people and machines.

use crate::config::{LogFormat, LogSettings};
use crate::words::thousands;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::level_filters::LevelFilter;

/// Between two drawings of the bar.
const REDRAW: Duration = Duration::from_millis(200);

/// Between two lines where there is no terminal.
const LINE: Duration = Duration::from_secs(5);

/// Characters of the line that holds the bar; every terminal has as many.
const WIDTH: usize = 79;

/// Is a bar on the last line of the terminal? A log line has to erase it first.
static DRAWN: AtomicBool = AtomicBool::new(false);

/// One reading.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress {
    /// What is being done, such as `copy` or `verify`.
    pub phase: String,
    /// The real name of the collection it is done to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    pub unit: Unit,
    pub done: u64,
    /// `None` if nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Units a second since the phase began.
    pub rate: f64,
    /// Seconds until the end at this rate; `None` without a total or a rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    Points,
    Bytes,
}

/// The shared handle. Clones are the same meter; advancing it is one atomic addition.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    task: Mutex<Option<Task>>,
    done: AtomicU64,
}

#[derive(Debug, Clone)]
struct Task {
    phase: String,
    collection: Option<String>,
    unit: Unit,
    total: Option<u64>,
    /// What an earlier run had done already; it tells nothing about the rate.
    resumed_at: u64,
    began: Instant,
}

impl Meter {
    /// Begins a phase at `done` of `total`; the one before is over.
    pub fn begin(&self, phase: &str, collection: Option<&str>, unit: Unit, done: u64, total: Option<u64>) {
        let mut task = self.task();
        self.0.done.store(done, Ordering::Relaxed);
        *task = Some(Task {
            phase: phase.to_owned(),
            collection: collection.map(str::to_owned),
            unit,
            total,
            resumed_at: done,
            began: Instant::now(),
        });
    }

    /// Counts what was done since the last call.
    pub fn add(&self, units: u64) {
        self.0.done.fetch_add(units, Ordering::Relaxed);
    }

    /// Nothing is under way any more.
    pub fn end(&self) {
        *self.task() = None;
    }

    /// A reading; `None` if nothing is under way.
    pub fn read(&self) -> Option<Progress> {
        let task = self.task().clone()?;
        Some(reading(&task, self.0.done.load(Ordering::Relaxed), task.began.elapsed()))
    }

    fn task(&self) -> std::sync::MutexGuard<'_, Option<Task>> {
        self.0.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reading(task: &Task, done: u64, elapsed: Duration) -> Progress {
    let seconds = elapsed.as_secs_f64();
    let now = done.saturating_sub(task.resumed_at);
    let rate = if seconds > 0.0 { now as f64 / seconds } else { 0.0 };
    let left = task.total.filter(|_| rate > 0.0).map(|total| total.saturating_sub(done) as f64 / rate);
    Progress {
        phase: task.phase.clone(),
        collection: task.collection.clone(),
        unit: task.unit,
        done,
        total: task.total,
        rate: (rate * 10.0).round() / 10.0,
        // A float as a whole number saturates.
        seconds_left: left.map(|left| left.ceil() as u64),
    }
}

impl Progress {
    /// `copy memory: 12,345 of 100,000 points, 4,321 a second, 21 s left`.
    pub fn line(&self) -> String {
        let mut text = self.phase.clone();
        if let Some(collection) = &self.collection {
            let _ = write!(text, " {collection}");
        }
        let _ = write!(text, ": {}", self.amounts());
        text
    }

    /// The same with a bar between, cut to `width` characters.
    fn bar(&self, width: usize) -> String {
        const CELLS: u64 = 20;
        let mut text = format!("{} ", self.phase);
        if let Some(total) = self.total.filter(|total| *total > 0) {
            let full = self.done.min(total).saturating_mul(CELLS) / total;
            text.push('[');
            text.extend((0..CELLS).map(|cell| if cell < full { '#' } else { '.' }));
            text.push_str("] ");
        }
        text.push_str(&self.amounts());
        if let Some(collection) = &self.collection {
            let _ = write!(text, "  {collection}");
        }
        text.chars().take(width).collect()
    }

    fn amounts(&self) -> String {
        let amount = |n: u64| match self.unit {
            Unit::Points => thousands(n),
            Unit::Bytes => bytes(n),
        };
        let noun = match self.unit {
            Unit::Points => " points",
            Unit::Bytes => "",
        };
        let mut text = amount(self.done);
        if let Some(total) = self.total {
            let _ = write!(text, " of {}", amount(total));
        }
        let _ = write!(text, "{noun}, {} a second", amount(self.rate as u64));
        if let Some(left) = self.seconds_left {
            let _ = write!(text, ", {} left", duration(left));
        }
        text
    }
}

/// `512 B`, `1.5 MiB`.
pub fn bytes(n: u64) -> String {
    let mut size = n as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if size < 1024.0 {
            return if unit == "B" { format!("{n} B") } else { format!("{size:.1} {unit}") };
        }
        size /= 1024.0;
    }
    format!("{size:.1} TiB")
}

/// `59 s`, `2 min 5 s`, `3 h 10 min`.
fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

/// Shows a meter until it is dropped.
pub struct Display(tokio::task::JoinHandle<()>);

/// Shows what the meter reads: a bar if standard error is a terminal, otherwise a log line every few seconds, which with
/// `--log-format json` has the reading as fields. Nothing where the log shows no information.
///
/// # Panics
/// Outside a tokio runtime.
pub fn display(meter: Meter, log: &LogSettings) -> Display {
    let draws = log.format == LogFormat::Human
        && log.level >= LevelFilter::INFO
        && std::io::stderr().is_terminal()
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let format = log.format;
    Display(tokio::spawn(async move {
        let mut tick = tokio::time::interval(if draws { REDRAW } else { LINE });
        // The first tick is at once, before there is anything to say.
        tick.tick().await;
        loop {
            tick.tick().await;
            match meter.read() {
                Some(progress) if draws => draw(&progress),
                Some(progress) => log_line(&progress, format),
                None => erase(),
            }
        }
    }))
}

impl Drop for Display {
    fn drop(&mut self) {
        self.0.abort();
        erase();
    }
}

fn draw(progress: &Progress) {
    DRAWN.store(true, Ordering::Relaxed);
    let mut stderr = std::io::stderr().lock();
    // That nobody sees it must not become a failure.
    let _ = write!(stderr, "\r\x1b[2K{}", progress.bar(WIDTH)).and_then(|()| stderr.flush());
}

fn erase() {
    if DRAWN.swap(false, Ordering::Relaxed) {
        let _ = std::io::stderr().lock().write_all(b"\r\x1b[2K");
    }
}

fn log_line(progress: &Progress, format: LogFormat) {
    match format {
        LogFormat::Human => tracing::info!("{}", progress.line()),
        LogFormat::Json => tracing::info!(
            phase = progress.phase,
            collection = progress.collection,
            unit = match progress.unit {
                Unit::Points => "points",
                Unit::Bytes => "bytes",
            },
            done = progress.done,
            total = progress.total,
            rate = progress.rate,
            seconds_left = progress.seconds_left,
            "{}",
            progress.line()
        ),
    }
}

/// Standard error for the log: what it writes stands on a line of its own, not behind the bar.
pub fn stderr() -> std::io::Stderr {
    erase();
    std::io::stderr()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(total: Option<u64>, resumed_at: u64) -> Task {
        Task {
            phase: "copy".into(),
            collection: Some("memory".into()),
            unit: Unit::Points,
            total,
            resumed_at,
            began: Instant::now(),
        }
    }

    #[test]
    fn the_rate_is_that_of_this_run() {
        let seconds = Duration::from_secs;
        for (task, done, elapsed, rate, left) in [
            (task(Some(100_000), 0), 0, seconds(0), 0.0, None),
            (task(Some(100_000), 0), 0, seconds(3), 0.0, None),
            (task(Some(100_000), 0), 20_000, seconds(10), 2000.0, Some(40)),
            (task(Some(100_000), 50_000), 60_000, seconds(10), 1000.0, Some(40)),
            (task(None, 0), 500, seconds(10), 50.0, None),
            // More than was counted before: a writer was at work.
            (task(Some(10), 0), 20, seconds(1), 20.0, Some(0)),
        ] {
            let read = reading(&task, done, elapsed);
            assert_eq!((read.rate, read.seconds_left), (rate, left), "{read:?}");
        }
    }

    #[test]
    fn a_meter_reads_what_is_under_way() {
        let meter = Meter::default();
        assert_eq!(meter.read(), None);
        meter.begin("copy", Some("memory"), Unit::Points, 5, Some(20));
        meter.clone().add(3);
        let read = meter.read().unwrap();
        assert_eq!((read.phase.as_str(), read.done, read.total), ("copy", 8, Some(20)));
        meter.begin("verify", None, Unit::Points, 0, None);
        assert_eq!(meter.read().unwrap().done, 0);
        meter.end();
        assert_eq!(meter.read(), None);
    }

    #[test]
    fn people_read_a_line_or_a_bar() {
        let read = reading(&task(Some(100_000), 0), 25_000, Duration::from_secs(10));
        assert_eq!(read.line(), "copy memory: 25,000 of 100,000 points, 2,500 a second, 30 s left");
        assert_eq!(
            read.bar(200),
            "copy [#####...............] 25,000 of 100,000 points, 2,500 a second, 30 s left  memory"
        );
        assert_eq!(read.bar(12), "copy [#####.");
        let unknown = Progress {
            collection: None,
            unit: Unit::Bytes,
            ..reading(&task(None, 0), 3 << 20, Duration::from_secs(2))
        };
        assert_eq!(unknown.line(), "copy: 3.0 MiB, 1.5 MiB a second");
        assert_eq!(unknown.bar(200), "copy 3.0 MiB, 1.5 MiB a second");
        assert_eq!(
            reading(&task(Some(0), 0), 0, Duration::from_secs(1)).bar(200),
            "copy 0 of 0 points, 0 a second  memory"
        );
    }

    #[test]
    fn machines_read_json() {
        let read = reading(&task(Some(100), 0), 50, Duration::from_secs(10));
        assert_eq!(
            serde_json::to_string(&read).unwrap(),
            r#"{"phase":"copy","collection":"memory","unit":"points","done":50,"total":100,"rate":5.0,"seconds_left":10}"#
        );
    }

    #[test]
    fn amounts_are_readable() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([5, 1536, 5 << 40].map(bytes), ["5 B", "1.5 KiB", "5.0 TiB"]);
        assert_eq!([59, 125, 11_400].map(duration), ["59 s", "2 min 5 s", "3 h 10 min"]);
    }
}
