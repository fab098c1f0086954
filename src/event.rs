//! Log lines on standard error: for people by default, JSON for machines.
//!
//! Only tandem's own events are ever written, at every level: drivers trace statements and headers, which can hold
//! secrets.

use crate::config::{LogFormat, LogSettings};
use crate::error::{Error, ExitCode, Result};
use crate::progress;
use std::io::{ErrorKind, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::path::PathBuf;
use tracing::{Level, Metadata};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging. A second call changes nothing.
pub fn init(settings: &LogSettings) {
    let level = settings.level;
    let ours = filter_fn(is_ours).with_max_level_hint(level);
    let registry = tracing_subscriber::registry();
    let layer = tracing_subscriber::fmt::layer().with_writer(progress::stderr);
    // A second subscriber is refused; the first one stays.
    let _ = match settings.format {
        // Container runtimes put the time before each line themselves.
        LogFormat::Human => registry
            .with(
                layer
                    .with_ansi(settings.color && std::io::stderr().is_terminal())
                    .with_target(false)
                    .without_time()
                    .with_filter(ours)
                    .with_filter(level),
            )
            .try_init(),
        LogFormat::Json => {
            registry.with(layer.json().flatten_event(true).with_filter(ours).with_filter(level)).try_init()
        }
    };
}

fn is_ours(metadata: &Metadata) -> bool {
    let target = metadata.target();
    target == "tandem" || target.starts_with("tandem::")
}

/// Writes what a command was asked for to standard output. A reader that has seen enough is no failure.
pub fn output(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::new(ExitCode::StepFailed, format!("standard output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes to standard error what is no event. That nobody reads it must not become the failure.
pub fn plain(text: &str) {
    let _ = progress::stderr().write_all(text.as_bytes());
}

/// Reports the failure that ends the process, in the form of the log; as plain text before logging has started or
/// where it is switched off.
pub fn failure(error: &Error) {
    if !tracing::enabled!(Level::ERROR) {
        plain(&format!("tandem: {error}\n"));
        return;
    }
    let code = error.code.code();
    // As they are: a remedy with escaped quotation marks could not be pasted.
    match (&error.expected, &error.remedy) {
        (Some(expected), Some(remedy)) => tracing::error!(code, %expected, %remedy, "{}", error.found),
        (Some(expected), None) => tracing::error!(code, %expected, "{}", error.found),
        (None, Some(remedy)) => tracing::error!(code, %remedy, "{}", error.found),
        (None, None) => tracing::error!(code, "{}", error.found),
    }
}

/// Makes a panic one line and exit code 70. As PID 1 an abort would be an exit code that says nothing.
pub fn install_panic_hook(termination_log: PathBuf) {
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo| {
        let place = info.location().map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
        let what = info.payload_as_str().unwrap_or("panic").replace('\n', " ");
        let error = Error::new(ExitCode::Bug, format!("bug in tandem{place}: {what}"));
        plain(&format!("tandem: {error}\n"));
        crate::termination::write(&termination_log, &error);
        std::process::exit(ExitCode::Bug.code());
    }));
}
