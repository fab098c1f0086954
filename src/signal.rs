//! SIGTERM and SIGINT from the first line until exec.
//!
//! As PID 1 a process without handlers ignores both. Nothing is ever set to be ignored or blocked: exec would pass
//! that on to the bot, while handlers return to the default by themselves.

use crate::error::{Error, ExitCode, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Whether the process has been asked to stop. A second signal ends it at once.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Option<i32>>);

impl Stop {
    /// Begins to listen. Must be called within a tokio runtime.
    pub fn install() -> Result<Self> {
        let streams =
            || Ok::<_, std::io::Error>((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?));
        let (mut terminate, mut interrupt) = streams()
            .map_err(|e| Error::new(ExitCode::Bug, format!("no signal handlers could be installed: {e}")))?;
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            loop {
                let kind = tokio::select! {
                    Some(()) = terminate.recv() => SignalKind::terminate(),
                    Some(()) = interrupt.recv() => SignalKind::interrupt(),
                    else => return,
                };
                let number = kind.as_raw_value();
                if sender.send_replace(Some(number)).is_some() {
                    std::process::exit(ExitCode::Signal(number).code());
                }
            }
        });
        Ok(Self(receiver))
    }

    /// The signal that has arrived, if one has.
    pub fn requested(&self) -> Option<i32> {
        *self.0.borrow()
    }

    /// Ends with the number of the first signal, now or when it arrives.
    pub async fn wait(&self) -> i32 {
        let mut receiver = self.0.clone();
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
