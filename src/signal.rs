//! SIGTERM and SIGINT from the first line until exec.
//!
//! As PID 1 a process without handlers ignores both. Nothing is ever set to be ignored or blocked: exec would pass
//! that on to the bot, while handlers return to the default by themselves. What whoever started tandem had ignored (`nohup`,
//! a shell's `&`) stays ignored, for tandem and for the bot.
//!
//! While a command runs, a signal lets it end in order. Before that, when settings are read, and behind its end, when exec would
//! forget what a handler has only taken note of, the handler itself ends the process.

use crate::error::{Error, ExitCode, Result};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Whether a signal ends the process where it stands.
static AT_ONCE: AtomicBool = AtomicBool::new(false);

/// From now on SIGTERM and SIGINT end the process where it stands, with the code of a stopped run: nothing is under way.
pub fn end_at_once() {
    AT_ONCE.store(true, SeqCst);
    for kind in heard() {
        let handler: extern "C" fn(libc::c_int) = end;
        // SAFETY: the handler calls only what a handler may call.
        unsafe { libc::signal(kind.as_raw_value(), handler as libc::sighandler_t) };
    }
}

/// The handler. The one that tokio puts in its place calls it too.
extern "C" fn end(number: libc::c_int) {
    if AT_ONCE.load(SeqCst) {
        // SAFETY: _exit() is async-signal-safe.
        unsafe { libc::_exit(ExitCode::Signal(number).code()) };
    }
}

/// The signals that are not ignored.
fn heard() -> impl Iterator<Item = SignalKind> {
    let ignored = ignored(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
    [SignalKind::terminate(), SignalKind::interrupt()]
        .into_iter()
        .filter(move |kind| ignored >> (kind.as_raw_value() - 1) & 1 == 0)
}

/// Whether the process has been asked to stop. A second signal ends it at once.
#[derive(Debug, Clone)]
pub struct Stop {
    requested: watch::Receiver<Option<i32>>,
}

impl Stop {
    /// Begins to listen. Must be called within a tokio runtime.
    pub fn install() -> Result<Self> {
        let heard: Vec<SignalKind> = heard().collect();
        let listen =
            |kind: SignalKind| {
                heard.contains(&kind).then(|| signal(kind)).transpose().map_err(|e| {
                    Error::new(ExitCode::Bug, format!("no signal handlers could be installed: {e}"))
                })
            };
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        AT_ONCE.store(false, SeqCst);
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            loop {
                let kind = tokio::select! {
                    () = received(&mut terminate) => SignalKind::terminate(),
                    () = received(&mut interrupt) => SignalKind::interrupt(),
                };
                let number = kind.as_raw_value();
                if sender.send_replace(Some(number)).is_some() {
                    std::process::exit(ExitCode::Signal(number).code());
                }
            }
        });
        Ok(Self { requested: receiver })
    }

    /// The signal that has arrived, if one has.
    pub fn requested(&self) -> Option<i32> {
        *self.requested.borrow()
    }

    /// Ends with the number of the first signal, now or when it arrives.
    pub async fn wait(&self) -> i32 {
        let mut receiver = self.requested.clone();
        let number = receiver.wait_for(Option::is_some).await.map(|number| *number);
        match number {
            Ok(Some(number)) => number,
            // The listener ends only with the runtime, and nobody waits then.
            _ => std::future::pending().await,
        }
    }

    /// A signal that the kernel has delivered and the runtime has not looked at yet: the last look before exec, which
    /// would forget it.
    pub async fn last_look(&self) -> Option<i32> {
        // One turn lets the runtime look at its descriptors, the next lets the listener run.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        self.requested()
    }

    /// The error that a stopped run ends with.
    pub fn error(number: i32) -> Error {
        let name = if number == SignalKind::interrupt().as_raw_value() { "SIGINT" } else { "SIGTERM" };
        Error::new(ExitCode::Signal(number), format!("stopped by {name}"))
    }
}

async fn received(signals: &mut Option<Signal>) {
    let arrived = match signals {
        Some(signals) => signals.recv().await,
        None => None,
    };
    if arrived.is_none() {
        std::future::pending().await
    }
}

/// The set of signals that a process ignores, the first in the lowest bit; none where `/proc` does not tell.
fn ignored(status: &str) -> u64 {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ignored_signals_of_a_status() {
        for (status, expected) in [
            (
                "Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000000002\nSigCgt:\t0000000000000004\n",
                2,
            ),
            ("SigIgn:\t8000000000004003\n", 0x8000_0000_0000_4003),
            ("SigIgn:\tnonsense\n", 0),
            ("", 0),
        ] {
            assert_eq!(ignored(status), expected, "{status:?}");
        }
    }
}
