//! Calls that destroy: made within a second of a look at the lock, and given up soon, so that a successor knows how long
//! one of them may still be on its way.

use super::client::Client;
use crate::collection::PointId;
use crate::error::{Error, ExitCode, Result};
use std::time::{Duration, Instant};

/// How old a look at the lock may be.
const FRESH: Duration = Duration::from_secs(1);

/// Until a call that destroys is given up. Who takes over from a run that may have made one waits twice as long.
pub const GIVEN_UP: Duration = Duration::from_secs(3);

/// How often such a call is made again.
const ATTEMPTS: u32 = 20;

/// Returns within a second of a look at the lock: a process that was paused in between looks again.
pub(super) async fn licence(note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let asked = Instant::now();
        note(None).await?;
        if asked.elapsed() < FRESH {
            return Ok(());
        }
    }
    Err(Error::new(
        ExitCode::Unreachable,
        format!("Postgres did not tell within a second, {ATTEMPTS} times, whether the lock is still held"),
    )
    .remedy("start again when it is less busy"))
}

impl Client {
    /// Deletes a collection that may go.
    pub(super) async fn destroy(
        &self,
        name: &str,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<()> {
        let mut given_up = 0;
        loop {
            licence(note).await?;
            match tokio::time::timeout(GIVEN_UP, self.delete_collection(name)).await {
                Ok(deleted) => return deleted,
                Err(_) if self.inspect(name).await?.is_none() => return Ok(()),
                Err(_) => again(&mut given_up, format_args!("deleting collection {name}"))?,
            }
        }
    }

    /// Leads aliases elsewhere, all in one call.
    pub(super) async fn lead(
        &self,
        aliases: impl Iterator<Item = &str> + Clone,
        to: &str,
        note: &mut impl AsyncFnMut(Option<&PointId>) -> Result<()>,
    ) -> Result<()> {
        let mut given_up = 0;
        loop {
            licence(note).await?;
            match tokio::time::timeout(GIVEN_UP, self.set_aliases(aliases.clone(), to)).await {
                Ok(led) => return led,
                Err(_) => again(&mut given_up, format_args!("leading aliases to {to}"))?,
            }
        }
    }
}

fn again(given_up: &mut u32, what: std::fmt::Arguments<'_>) -> Result<()> {
    *given_up += 1;
    match *given_up < ATTEMPTS {
        true => Ok(()),
        false => Err(Error::new(
            ExitCode::Unreachable,
            format!("{what}: no answer within {} s, {ATTEMPTS} times", GIVEN_UP.as_secs()),
        )
        .remedy("look at the server's log and load, then start again")),
    }
}

/// Does something long, with something else every so often beside it, which ends it by failing.
pub(super) async fn ticking<T>(
    work: impl Future<Output = Result<T>>,
    every: Duration,
    mut tick: impl AsyncFnMut() -> Result<()>,
) -> Result<T> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(every) => tick().await?,
        }
    }
}
