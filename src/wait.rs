//! Waiting for both stores, side by side, under one deadline.
//!
//! A store is ready when a real login and a real call succeeded on the port that will be used, and the connection that
//! proved it is the one that is used. Changes of state are logged, and every 10 s that it still waits; attempts are not.

use crate::config::{MissingDatabase, PostgresSettings, QdrantSettings, Settings};
use crate::error::{Error, ExitCode, Result};
use crate::postgres::fault::classify;
use crate::postgres::{connect, create_database};
use backon::{BackoffBuilder, ExponentialBuilder};
use sqlx::postgres::PgConnection;
use std::cell::RefCell;
use std::fmt;
use std::time::Duration;
use tokio::time::{Instant, interval_at, sleep, timeout, timeout_at};

/// Whether it helps to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// It passes by itself.
    Retry {
        why: String,
        /// The server answered and every attempt costs it something.
        gently: bool,
    },
    /// It is wrong now, and somebody may be about to make it right: final once the grace is over.
    Grace { error: Error },
    /// It stays wrong.
    Never { error: Error },
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For both stores together; `None` is no limit.
    pub timeout: Option<Duration>,
    /// For credentials that are rejected.
    pub grace: Duration,
}

/// The longest that one attempt may take: a packet filter that drops everything must not eat the deadline.
const ATTEMPT: Duration = Duration::from_secs(5);

/// For so long readiness is noticed at once. Who waits longer waits for something slow.
const EAGER: Duration = Duration::from_secs(30);

/// A connection that idled longer than this while the other store came up is made anew: the server may have restarted.
const STALE: Duration = Duration::from_secs(1);

const HEARTBEAT: Duration = Duration::from_secs(10);

/// One store as the log and the errors call it, and how it stands.
struct Store {
    name: String,
    state: RefCell<State>,
}

#[derive(PartialEq, Eq)]
enum State {
    Untried,
    NotYet(String),
    Ready,
}

impl Store {
    fn new(name: impl fmt::Display) -> Self {
        Self { name: name.to_string(), state: RefCell::new(State::Untried) }
    }

    /// Takes note of a reason, and logs it if it is a new one.
    fn not_yet(&self, why: String) {
        let state = State::NotYet(why);
        if *self.state.borrow() != state {
            if let State::NotYet(why) = &state {
                tracing::info!("Waiting for {}: {why}", self.name);
            }
            self.state.replace(state);
        }
    }

    fn ready(&self, since: Instant) {
        match self.state.replace(State::Ready) {
            State::NotYet(_) => tracing::info!("{} is ready after {:.1?}", self.name, since.elapsed()),
            // Ready at the first attempt is the normal start.
            State::Untried | State::Ready => tracing::debug!("{} is ready", self.name),
        }
    }

    fn is_ready(&self) -> bool {
        *self.state.borrow() == State::Ready
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        let why = match &*state {
            State::Untried => "no answer yet",
            State::NotYet(why) => why,
            State::Ready => "ready",
        };
        write!(f, "{}: {why}", self.name)
    }
}

/// Waits for the stores of these settings with real logins, and returns the connections that proved them ready.
///
/// `qdrant` makes one attempt. A missing database is created where the settings ask for that.
///
/// # Errors
/// As [`both`]; 78 if nothing says where a store is.
pub async fn stores<Q>(
    settings: &Settings,
    qdrant: impl AsyncFn(&QdrantSettings) -> std::result::Result<Q, Class>,
) -> Result<(PgConnection, Option<Q>)> {
    let (one, other) = (settings.postgres()?, settings.qdrant()?);
    let patience = Patience { timeout: settings.timeout, grace: settings.auth_grace };
    let postgres = async || login(one, settings.missing_database).await;
    let other = other.map(|other| (format!("Qdrant {other}"), async || qdrant(other).await));
    both(patience, (format!("Postgres {one}"), postgres), other).await
}

/// Waits for Postgres alone, for commands that need nothing else.
///
/// # Errors
/// As [`both`]; 78 if nothing says where Postgres is.
pub async fn postgres(settings: &Settings) -> Result<PgConnection> {
    let one = settings.postgres()?;
    let probe = async || login(one, settings.missing_database).await;
    let patience = Patience { timeout: settings.timeout, grace: settings.auth_grace };
    let nobody = None::<(&str, fn() -> Nothing)>;
    let (ready, _) = both(patience, (format!("Postgres {one}"), probe), nobody).await?;
    Ok(ready)
}

/// The probe of a store that a command does not need.
type Nothing = std::future::Ready<std::result::Result<(), Class>>;

/// Waits for Qdrant alone, for commands that need nothing else.
///
/// # Errors
/// As [`both`]; 78 if nothing says where Qdrant is, or that there is none.
pub async fn qdrant<Q>(
    settings: &Settings,
    probe: impl AsyncFn(&QdrantSettings) -> std::result::Result<Q, Class>,
) -> Result<Q> {
    let Some(one) = settings.qdrant()? else {
        return Err(Error::new(ExitCode::Configuration, "the settings say that there is no Qdrant")
            .expected("QDRANT_URL or QDRANT_HOST")
            .remedy("look at tandem config"));
    };
    let patience = Patience { timeout: settings.timeout, grace: settings.auth_grace };
    let nobody = None::<(&str, fn() -> Nothing)>;
    let (ready, _) = both(patience, (format!("Qdrant {one}"), async || probe(one).await), nobody).await?;
    Ok(ready)
}

/// One login, with the database created first if it is missing and that is asked for.
async fn login(
    settings: &PostgresSettings,
    missing: MissingDatabase,
) -> std::result::Result<PgConnection, Class> {
    let class = |fault| classify(&fault, settings, missing);
    match connect(settings).await {
        Err(fault) if missing == MissingDatabase::Create && fault.is_server("3D000") => {
            create_database(settings).await.map_err(class)?;
            tracing::info!("Created database {:?}", settings.database);
            connect(settings).await.map_err(class)
        }
        outcome => outcome.map_err(class),
    }
}

/// Waits until both probes have succeeded, and returns what they returned.
///
/// # Errors
/// The first final class of either store at once; 69 with the last state of both at the deadline.
pub async fn both<P, Q>(
    patience: Patience,
    postgres: (impl fmt::Display, impl AsyncFn() -> std::result::Result<P, Class>),
    qdrant: Option<(impl fmt::Display, impl AsyncFn() -> std::result::Result<Q, Class>)>,
) -> Result<(P, Option<Q>)> {
    let begin = Instant::now();
    let first = Store::new(postgres.0);
    let second = qdrant.as_ref().map(|(name, _)| Store::new(name));
    let stores = || std::iter::once(&first).chain(&second);
    let waiting = async {
        let one = || until_ready(&first, &postgres.1, patience.grace);
        let other = async || match (&qdrant, &second) {
            (Some((_, probe)), Some(store)) => {
                until_ready(store, probe, patience.grace).await.map(|(found, at)| (Some(found), at))
            }
            _ => Ok((None, Instant::now())),
        };
        let ((mut p, mut p_at), (mut q, mut q_at)) = tokio::try_join!(one(), other())?;
        loop {
            if p_at + STALE < q_at && q.is_some() {
                drop(p);
                (p, p_at) = one().await?;
            } else if q_at + STALE < p_at && q.is_some() {
                drop(q);
                (q, q_at) = other().await?;
            } else {
                return Ok((p, q));
            }
        }
    };
    let heartbeat = async {
        let mut beats = interval_at(begin + HEARTBEAT, HEARTBEAT);
        loop {
            beats.tick().await;
            for store in stores().filter(|store| !store.is_ready()) {
                tracing::info!("Still waiting after {} s for {store}", begin.elapsed().as_secs());
            }
        }
    };
    let undisturbed = async {
        tokio::select! {
            outcome = waiting => outcome,
            never = heartbeat => never,
        }
    };
    let Some(limit) = patience.timeout else { return undisturbed.await };
    timeout_at(begin + limit, undisturbed).await.unwrap_or_else(|_| {
        let states: Vec<String> = stores().map(Store::to_string).collect();
        Err(Error::new(ExitCode::Unreachable, format!("not ready after {limit:?}: {}", states.join("; ")))
            .expected("every store to let tandem in")
            .remedy("start the store, correct its address (tandem config), or raise --timeout"))
    })
}

/// The store's first success, and when that was.
async fn until_ready<T>(
    store: &Store,
    probe: &impl AsyncFn() -> std::result::Result<T, Class>,
    grace: Duration,
) -> Result<(T, Instant)> {
    let begin = Instant::now();
    let (mut eager, mut gentle) = (delays(20, 25), delays(100, 500));
    let mut rejected_since: Option<Instant> = None;
    loop {
        let outcome = timeout(ATTEMPT, probe()).await.unwrap_or_else(|_| {
            Err(Class::Retry { why: format!("no answer within {} s", ATTEMPT.as_secs()), gently: false })
        });
        let gently = match outcome {
            Ok(found) => {
                store.ready(begin);
                return Ok((found, Instant::now()));
            }
            Err(Class::Never { error }) => return Err(error),
            Err(Class::Grace { error }) => {
                let since = *rejected_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= grace {
                    return Err(error);
                }
                store.not_yet(error.found);
                true
            }
            Err(Class::Retry { why, gently }) => {
                rejected_since = None;
                store.not_yet(why);
                gently
            }
        };
        let pace = if gently || begin.elapsed() > EAGER { &mut gentle } else { &mut eager };
        // The delays do not end.
        sleep(pace.next().unwrap_or(ATTEMPT)).await;
    }
}

/// Without its std feature backon would give every process the same jitter.
pub fn jitter_seed() -> u64 {
    u64::from(std::process::id()) ^ std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_nanos() as u64)
}

/// Delays in milliseconds that grow to a cap; jitter adds up to as much again.
fn delays(least: u64, cap: u64) -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(least))
        .with_max_delay(Duration::from_millis(cap))
        .with_factor(1.5)
        .without_max_times()
        .with_jitter()
        .with_jitter_seed(jitter_seed())
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    type Outcome = std::result::Result<u32, Class>;

    fn not_yet(why: &str) -> Outcome {
        Err(Class::Retry { why: why.into(), gently: false })
    }

    fn rejected() -> Outcome {
        Err(Class::Grace { error: Error::new(ExitCode::Authentication, "rejected") })
    }

    /// Far beyond what any test needs, so that one that never ends fails instead.
    const AMPLE: Patience = Patience { timeout: Some(Duration::from_secs(20)), grace: Duration::ZERO };

    #[tokio::test]
    async fn both_are_tried_until_both_are_ready_and_the_connections_that_were_are_kept() {
        let (one, other) = (Cell::new(0), Cell::new(0));
        let probe = async |tries: &Cell<u32>, needed| {
            tries.set(tries.get() + 1);
            if tries.get() < needed { not_yet("starting up") } else { Ok(tries.get()) }
        };
        let found =
            both(AMPLE, ("a", async || probe(&one, 3).await), Some(("b", async || probe(&other, 5).await)));
        assert_eq!(found.await, Ok((3, Some(5))));
        assert_eq!((one.get(), other.get()), (3, 5));
    }

    #[tokio::test]
    async fn a_deployment_without_qdrant_waits_for_postgres_only() {
        let none = None::<(&str, fn() -> std::future::Ready<Outcome>)>;
        assert_eq!(both(AMPLE, ("a", async || Ok(7)), none).await, Ok((7, None)));
    }

    #[tokio::test]
    async fn a_final_fault_of_one_store_ends_the_wait_for_the_other() {
        let wrong = || Error::new(ExitCode::Configuration, "no Postgres here");
        let never = async || Outcome::Err(Class::Never { error: wrong() });
        let found = both(AMPLE, ("a", async || not_yet("refused")), Some(("b", never))).await;
        assert_eq!(found, Err(wrong()));
        let found = both(AMPLE, ("a", never), Some(("b", async || not_yet("refused")))).await;
        assert_eq!(found, Err(wrong()));
    }

    #[tokio::test]
    async fn at_the_deadline_the_last_states_of_both_stores_are_told() {
        let patience = Patience { timeout: Some(Duration::from_millis(80)), ..AMPLE };
        let silent = async || std::future::pending::<Outcome>().await;
        for (probe, state) in [(true, "b: ready"), (false, "b: no answer yet")] {
            let other = async || if probe { Ok(1) } else { silent().await };
            let error =
                both(patience, ("a", async || not_yet("refused")), Some(("b", other))).await.unwrap_err();
            assert_eq!(error.code, ExitCode::Unreachable);
            assert!(error.found.contains("80ms: a: refused;") && error.found.ends_with(state), "{error}");
        }
    }

    #[tokio::test]
    async fn rejected_credentials_are_final_at_once_or_after_the_grace() {
        let tries = Cell::new(0);
        let late = async || {
            tries.set(tries.get() + 1);
            if tries.get() < 3 { rejected() } else { Ok(tries.get()) }
        };
        let other = || Some(("b", async || Ok(0)));
        let error = both(AMPLE, ("a", late), other()).await.unwrap_err();
        assert_eq!((error.code, tries.get()), (ExitCode::Authentication, 1));
        let patient = Patience { grace: Duration::from_secs(60), ..AMPLE };
        assert_eq!(both(patient, ("a", late), other()).await, Ok((3, Some(0))));
        let impatient = Patience { grace: Duration::from_millis(1), ..AMPLE };
        let error = both(impatient, ("a", async || rejected()), other()).await.unwrap_err();
        assert_eq!(error.code, ExitCode::Authentication);
    }

    #[tokio::test]
    async fn a_connection_that_idled_is_made_anew() {
        let logins = Cell::new(0);
        let quick = async || {
            logins.set(logins.get() + 1);
            Outcome::Ok(logins.get())
        };
        let slow = async || {
            sleep(STALE + Duration::from_millis(100)).await;
            Outcome::Ok(0)
        };
        assert_eq!(both(AMPLE, ("a", quick), Some(("b", slow))).await, Ok((2, Some(0))));
    }

    #[test]
    fn delays_grow_to_a_cap_and_do_not_end() {
        let all: Vec<Duration> = delays(20, 25).take(1000).collect();
        assert!(all.iter().all(|delay| (20..=50).contains(&delay.as_millis())), "{all:?}");
        let late: Vec<Duration> = delays(100, 500).skip(10).take(1000).collect();
        assert!(late.iter().all(|delay| (500..=1000).contains(&delay.as_millis())), "{late:?}");
    }

    #[test]
    fn two_processes_do_not_keep_step() {
        let of = || delays(20, 25).take(20).collect::<Vec<_>>();
        let first = of();
        assert_ne!(first, of());
    }
}
