//! Parse → run → exit code. Everything else is in the library.

use std::path::Path;
use tandem::cli::{self, Cli, Command, Declined};
use tandem::commands::{self, Interruptible, Outcome};
use tandem::config::{self, Environment, Settings};
use tandem::error::{Error, ExitCode};
use tandem::signal::{self, Stop};
use tandem::{event, exec, termination};

fn main() {
    signal::end_at_once();
    let environment = config::environment();
    // What fails before the settings are resolved leaves its cause where they would.
    let early_log =
        environment.get("TANDEM_TERMINATION_LOG").map_or(termination::DEFAULT_PATH.as_ref(), Path::new);
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(Declined::Help(text)) => {
            let code = event::output(&text).map_or_else(|error| error.code, |()| ExitCode::Ok);
            std::process::exit(code.code());
        }
        Err(Declined::Usage(text)) => {
            event::plain(&text);
            termination::write(early_log, &Declined::error(&text));
            std::process::exit(ExitCode::Usage.code());
        }
    };
    let settings = match config::resolve(&cli.flags, &environment) {
        Ok(settings) => settings,
        Err(error) => {
            event::plain(&format!("tandem: {error}\n"));
            termination::write(early_log, &error);
            std::process::exit(error.code.code());
        }
    };
    event::init(&settings.log);
    event::install_panic_hook(settings.termination_log.clone());
    let error = match work(cli, &settings, &environment) {
        Ok(Outcome::Exit(code)) => std::process::exit(code.code()),
        Ok(Outcome::Become(argv)) => exec::become_command(&argv),
        Err(error) => error,
    };
    event::failure(&error);
    termination::write(&settings.termination_log, &error);
    std::process::exit(error.code.code());
}

/// Runs the command until it ends or a signal comes. When it returns, both connections are closed and the runtime is gone.
fn work(cli: Cli, settings: &Settings, environment: &Environment) -> Result<Outcome, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(ExitCode::Bug, format!("no runtime: {e}")))?;
    let outcome = runtime.block_on(async {
        let stop = Stop::install()?;
        // A command that cannot be executed is known before anything is changed for it.
        if let Command::Run { argv } = &cli.command {
            exec::check(argv, environment)?;
        }
        let interruptible = Interruptible::default();
        let outcome = tokio::select! {
            biased;
            number = stop.wait() => Err(Stop::error(number)),
            outcome = commands::run(cli.command, settings, &interruptible) => outcome,
        };
        if let (Err(error), Some(backend)) = (&outcome, interruptible.backend.get())
            && matches!(error.code, ExitCode::Signal(_))
        {
            commands::stop_backend(settings, backend).await;
        }
        signal::end_at_once();
        match stop.last_look().await {
            Some(number) if outcome.is_ok() => Err(Stop::error(number)),
            _ => outcome,
        }
    });
    runtime.shutdown_background();
    outcome
}
