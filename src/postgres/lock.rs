//! Advisory locks, polled: a session that blocks inside `pg_advisory_lock` holds a snapshot, and an index that its
//! holder builds concurrently would wait for it for ever (golang-migrate #960, matrix-authentication-service #5298).

use super::session::{Session, cell, literal};
use super::store::Store;
use crate::error::{Error, ExitCode, Result};
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};

/// "tand": the class of all of tandem's keys.
const CLASS: i32 = 0x7461_6e64;

/// How long one poll sleeps.
const POLL: Duration = Duration::from_millis(100);

/// How often those who wait say for whom.
const REPORT: Duration = Duration::from_secs(10);

/// What a lock protects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The Postgres phases of a timeline.
    Timeline(String),
    /// One real Qdrant collection.
    Collection(String),
}

impl Key {
    /// The second key of `pg_advisory_lock(int, int)`.
    pub fn hash(&self) -> i32 {
        let text = match self {
            Self::Timeline(name) => format!("timeline:{name}"),
            Self::Collection(name) => format!("collection:{name}"),
        };
        let digest = Sha256::digest(text.as_bytes());
        i32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
    }

    fn words(&self) -> String {
        match self {
            Self::Timeline(name) => format!("the lock of timeline {name}"),
            Self::Collection(name) => format!("the lock of collection {name}"),
        }
    }
}

/// A lock that this session holds. It ends with the session at the latest.
#[derive(Debug)]
pub struct Held {
    key: Key,
    /// The server process that holds it.
    pid: i32,
}

/// Polls until the lock is held. The time without progress in the holder's journal is bounded by `patience`.
pub async fn acquire(
    session: &mut Session,
    store: &Store,
    key: Key,
    patience: Option<Duration>,
) -> Result<Held> {
    let mut since = Instant::now();
    let mut said: Option<Instant> = None;
    let mut progress = None;
    loop {
        // Before it is taken: a pool's server process would keep it when this run is refused.
        let pid = session.assert_unpooled().await?;
        let sql = format!("select pg_catalog.pg_try_advisory_lock({CLASS}, {})", key.hash());
        let rows = session.run("taking the lock", sql).await?;
        if cell(&rows, 0, 0)? {
            let held = Held { key, pid };
            held.check(session).await?;
            return Ok(held);
        }
        let latest = store.progress(session).await?;
        if latest != progress {
            progress = latest;
            since = Instant::now();
        }
        if said.is_none_or(|at| at.elapsed() >= REPORT) {
            said = Some(Instant::now());
            let holder = holder(session, &key).await?;
            tracing::info!(
                holder = holder.as_deref().unwrap_or("nobody any more"),
                step = progress.as_deref().unwrap_or("nothing journalled yet"),
                "Waiting for {}",
                key.words()
            );
        }
        if let Some(patience) = patience.filter(|p| since.elapsed() >= *p) {
            let holder = holder(session, &key).await?.unwrap_or_else(|| "nobody any more".into());
            return Err(Error::new(
                ExitCode::LockTimeout,
                format!("{} was not free within {} s of its holder's last progress; held by {holder}", key.words(), patience.as_secs()),
            )
            .remedy("wait for the holder, or end it: select pg_terminate_backend(PID); --lock-timeout sets how long to wait"));
        }
        tokio::time::sleep(POLL).await;
    }
}

impl Held {
    /// Fails unless this very session still holds the lock. A proxy that pools transactions is found here: another
    /// server process answers.
    pub async fn check(&self, session: &mut Session) -> Result<()> {
        let sql = format!("select pg_catalog.pg_backend_pid(), not {}", self.absence());
        let rows = session.run("checking the lock", sql).await?;
        session.assert_backend(cell(&rows, 0, 0)?)?;
        if !cell::<bool>(&rows, 0, 1)? {
            return Err(Error::new(ExitCode::Unreachable, format!("{} was lost", self.key.words()))
                .remedy("start again: what was done is in the ledger and the journal"));
        }
        Ok(())
    }

    /// A condition in SQL: the session that it is evaluated in does not hold the lock.
    pub fn absence(&self) -> String {
        // Of one server process, all locks are of one database.
        format!(
            "(pg_catalog.pg_backend_pid() <> {pid} or not exists(select 1 from pg_catalog.pg_locks l \
             where l.pid = {pid} and l.locktype = 'advisory' and l.classid = '{CLASS}' and l.objid = '{}' \
             and l.objsubid = 2 and l.granted))",
            u32::from_ne_bytes(self.key.hash().to_ne_bytes()),
            pid = self.pid,
        )
    }

    /// Gives the lock back.
    pub async fn release(self, session: &mut Session) -> Result<()> {
        let sql = format!("select pg_catalog.pg_advisory_unlock({CLASS}, {})", self.key.hash());
        let rows = session.run("releasing the lock", sql).await?;
        if cell::<bool>(&rows, 0, 0)? {
            return Ok(());
        }
        Err(Error::new(
            ExitCode::Unreachable,
            format!("{} had been lost before it was released", self.key.words()),
        )
        .remedy("start again: what was done is in the ledger and the journal"))
    }
}

/// Who holds a lock, in words; names no secret.
async fn holder(session: &mut Session, key: &Key) -> Result<Option<String>> {
    let sql = format!(
        "select 'pid ' || a.pid || ', application ' || coalesce(nullif(a.application_name, ''), {}) || ', from ' || \
         coalesce(host(a.client_addr), 'a local socket') || ', connected since ' || \
         pg_catalog.to_char(a.backend_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC' \
         from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid \
         join pg_catalog.pg_database d on d.oid = l.database \
         where l.locktype = 'advisory' and l.classid::bigint = {CLASS} and l.objid::bigint = {} and l.objsubid = 2 and l.granted \
         and d.datname = pg_catalog.current_database()",
        literal("unnamed"),
        u32::from_ne_bytes(key.hash().to_ne_bytes())
    );
    let rows = session.run("asking who holds the lock", sql).await?;
    if rows.is_empty() { Ok(None) } else { cell(&rows, 0, 0) }
}
