//! One Postgres session: the contract it sets, the statements it runs, the locks it holds.
//!
//! tandem works on a single connection that is never pooled, so a lost session loses its locks and its open transaction
//! together, and nothing can go on without them.

use crate::error::{Error, ExitCode, Result};
use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgConnection, PgDatabaseError, PgErrorPosition, PgRow};
use sqlx::{AssertSqlSafe, Either, Row as _};
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

/// What every working session relies on. `transaction_timeout` exists from Postgres 17 on; unknown names are left out.
const CONTRACT: [(&str, &str); 13] = [
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("transaction_timeout", "0"),
    ("synchronous_commit", "on"),
    ("row_security", "off"),
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, MDY"),
    ("standard_conforming_strings", "on"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("default_tablespace", ""),
    ("client_min_messages", "warning"),
];

/// True if the server's own configuration makes transactions read-only; where only the role's does, tandem overrides it.
const SERVER_IS_READ_ONLY: &str = "exists(select 1 from pg_catalog.pg_settings where name = 'default_transaction_read_only' \
     and setting = 'on' and source in ('configuration file', 'command line', 'environment variable'))";

/// Why a batch of statements ended early.
#[derive(Debug)]
pub struct Failure {
    /// SQLSTATE, if the server answered at all.
    pub code: Option<String>,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Which functions it came from.
    pub context: Option<String>,
    /// Where in the batch, in characters from 1.
    pub position: Option<usize>,
    /// How many statements of the batch had completed.
    pub completed: usize,
    /// The connection is gone, so whether the last statement took effect is unknown.
    pub lost: bool,
}

impl Failure {
    /// What the driver reported after so many completed statements.
    pub fn new(error: sqlx::Error, completed: usize) -> Self {
        let unanswered = |message: String| Self {
            code: None,
            message,
            detail: None,
            hint: None,
            context: None,
            position: None,
            completed,
            lost: true,
        };
        let sqlx::Error::Database(database) = error else {
            return unanswered(error.to_string());
        };
        let Ok(e) = database.try_downcast::<PgDatabaseError>() else {
            return unanswered("the driver gave an error of another database".into());
        };
        if let Some(raised) = Self::raised(&e, completed) {
            return raised;
        }
        let code = e.code();
        Self {
            lost: matches!(code, "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25P04")
                || code.starts_with("08"),
            code: Some(code.to_owned()),
            message: e.message().to_owned(),
            detail: e.detail().map(str::to_owned),
            hint: e.hint().map(str::to_owned),
            context: e.r#where().map(str::to_owned),
            position: match e.position() {
                Some(PgErrorPosition::Original(position)) => Some(position),
                _ => None,
            },
            completed,
        }
    }

    /// The failure of a [`raise`].
    fn raised(error: &PgDatabaseError, completed: usize) -> Option<Self> {
        if error.code() != "22P02" {
            return None;
        }
        // The server's quotation marks are those of its language.
        let (code, message) = error.message().split_once(RAISED)?.1.split_once(':')?;
        let message = message.trim_end_matches(|c: char| !c.is_alphanumeric() && c != ')').trim_end();
        let hint = HINTS.iter().find(|(of, _)| *of == code).map(|(_, hint)| (*hint).to_owned());
        Some(Self {
            code: Some(code.to_owned()),
            message: message.to_owned(),
            detail: None,
            hint,
            context: None,
            position: None,
            completed,
            lost: false,
        })
    }

    /// The server's words in one line.
    pub fn words(&self) -> String {
        let mut words = self.message.clone();
        for (label, part) in [("detail", &self.detail), ("hint", &self.hint)] {
            if let Some(part) = part {
                words.push_str(&format!("; {label}: {part}"));
            }
        }
        match &self.code {
            Some(code) => format!("{words} (SQLSTATE {code})"),
            None => words,
        }
    }

    /// Was a lock not to be had within `lock_timeout`?
    pub fn is_lock_timeout(&self) -> bool {
        self.code.as_deref() == Some("55P03")
    }

    /// As an error of the edge; the exit code follows from the SQLSTATE.
    pub fn into_error(self, doing: &str) -> Error {
        let code = match self.code.as_deref() {
            _ if self.lost => ExitCode::Unreachable,
            Some("42501") => ExitCode::Authentication,
            Some("25006") => ExitCode::Refused,
            Some("55P03") => ExitCode::LockTimeout,
            _ => ExitCode::StepFailed,
        };
        let mut error = Error::new(code, format!("{doing}: {}", self.words()));
        error.lost = self.lost;
        match self.code.as_deref() {
            Some("42501") => error.remedy(
                "grant the role the missing right, or give tandem a role that has it in TANDEM_DATABASE_URL",
            ),
            Some("25006") => error.remedy("point tandem at the primary: this server is read-only"),
            _ => error,
        }
    }
}

/// The server process of a session that has effects, known outside of it: a signal ends both.
pub type Backend = Rc<Cell<Option<i32>>>;

/// A connection with the contract; see the module.
pub struct Session {
    connection: PgConnection,
    backend: Backend,
    /// The text of each [`Check`] that is prepared, with its number.
    prepared: HashMap<String, usize>,
    numbered: usize,
}

/// A statement around those of each version. It is planned once for a session, which is most of what it costs.
#[derive(Clone)]
pub struct Check {
    /// The types of its parameters.
    pub types: String,
    pub text: String,
    /// The parameters' values, as SQL.
    pub values: String,
}

impl Check {
    /// One that evaluates the expressions of a select list.
    pub fn select(list: &[String]) -> Self {
        Self { types: String::new(), text: format!("select {}", list.join(", ")), values: String::new() }
    }
}

/// Checks as statements that rely on nothing before them.
pub fn unprepared(checks: &[Check]) -> String {
    let once = |Check { types, text, values }: &Check| {
        format!("prepare tandem_once{types} as {text}; execute tandem_once{values}; deallocate tandem_once;")
    };
    checks.iter().map(once).collect()
}

impl Session {
    /// Takes over a connection that has logged in.
    pub fn new(connection: PgConnection, backend: Backend) -> Self {
        Self { connection, backend, prepared: HashMap::new(), numbered: 0 }
    }

    /// The connection, for reading the catalog.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Runs a batch in one message and returns the rows of all its statements.
    pub async fn batch(&mut self, sql: String) -> std::result::Result<Vec<PgRow>, Failure> {
        let mut completed = 0;
        let mut rows = Vec::new();
        let mut stream = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_many(&mut self.connection);
        loop {
            match stream.try_next().await {
                Ok(Some(Either::Left(_))) => completed += 1,
                Ok(Some(Either::Right(row))) => rows.push(row),
                Ok(None) => return Ok(rows),
                Err(error) => return Err(Failure::new(error, completed)),
            }
        }
    }

    /// The statements that run checks, each of which is prepared now if it has not been.
    pub async fn prepared(&mut self, checks: &[Check]) -> Result<String> {
        let mut statements = String::new();
        for Check { types, text, values } in checks {
            let number = match self.prepared.get(text) {
                Some(number) => *number,
                None => {
                    self.numbered += 1;
                    self.run(
                        "preparing a check",
                        format!("prepare tandem_check_{}{types} as {text}", self.numbered),
                    )
                    .await?;
                    self.prepared.insert(text.clone(), self.numbered);
                    self.numbered
                }
            };
            statements.push_str(&format!("execute tandem_check_{number}{values};"));
        }
        Ok(statements)
    }

    /// Sends prepared statements away: a check that failed has left its own.
    pub async fn send_prepared_away(&mut self) -> Result<()> {
        self.forget_prepared();
        self.run("sending prepared statements away", "deallocate all").await.map(drop)
    }

    /// Statements that are not tandem's may have sent prepared ones away.
    pub fn forget_prepared(&mut self) {
        self.prepared.clear();
    }

    /// Runs a batch whose failure is an error of the edge.
    pub async fn run(&mut self, doing: &str, sql: impl Into<String>) -> Result<Vec<PgRow>> {
        self.batch(sql.into()).await.map_err(|failure| failure.into_error(doing))
    }

    /// Leaves a failed or unwanted transaction. A session that cannot even do that is lost, and so is its transaction.
    pub async fn rollback(&mut self) -> Result<()> {
        self.run("rolling back", "rollback").await.map(drop)
    }

    /// Sets what every effect relies on, and refuses a server that cannot be written to.
    pub async fn establish_contract(&mut self, schemas: &[String], lock_timeout_ms: u64) -> Result<()> {
        let values: Vec<String> = CONTRACT
            .iter()
            .map(|(name, value)| format!("({}, {})", literal(name), literal(value)))
            .chain([
                format!("('search_path', {})", literal(&search_path(schemas))),
                format!("('lock_timeout', '{lock_timeout_ms}')"),
            ])
            .collect();
        let rows = self
            .run(
                "setting up the session",
                format!(
                    "set statement_timeout = 0; set search_path = pg_catalog; \
                     select pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery(), {SERVER_IS_READ_ONLY};
                     select pg_catalog.set_config(s.name, v.value, false) \
                       from (values {}) as v(name, value) join pg_catalog.pg_settings s on s.name = v.name",
                    values.join(", ")
                ),
            )
            .await?;
        let flag =
            |i: usize| rows.first().and_then(|row| row.try_get_unchecked::<bool, _>(i).ok()).unwrap_or(false);
        self.backend.set(Some(cell(&rows, 0, 0)?));
        if flag(1) || flag(2) {
            return Err(Error::new(
                ExitCode::Refused,
                "the Postgres server is a standby or read-only, and there is work to do on it",
            )
            .expected("a primary that accepts writes")
            .remedy("point DATABASE_URL or POSTGRES_HOST (or TANDEM_DATABASE_URL) at the primary"));
        }
        Ok(())
    }

    /// The role whose rights count.
    pub async fn role(&mut self) -> Result<String> {
        let rows = self.run("asking for the role", "select current_user::text").await?;
        cell(&rows, 0, 0)
    }

    /// Fails if another server process answers than the one that the session was set up in; returns its id.
    pub async fn assert_unpooled(&mut self) -> Result<i32> {
        let pid = self.pid().await?;
        self.assert_backend(pid)?;
        Ok(pid)
    }

    /// The same for a process id that an answer brought along.
    pub fn assert_backend(&self, answering: i32) -> Result<()> {
        match self.backend.get() {
            Some(set_up) if set_up != answering => Err(Error::new(
                ExitCode::Configuration,
                format!(
                    "a connection pool in transaction mode stands before Postgres: the session was set up in server process {set_up}, {answering} answers"
                ),
            )
            .expected("one server process for one session")
            .remedy("give tandem a direct connection: TANDEM_DATABASE_URL")),
            _ => Ok(()),
        }
    }

    /// The server's process id for this session.
    pub async fn pid(&mut self) -> Result<i32> {
        let rows =
            self.run("asking for the session's process id", "select pg_catalog.pg_backend_pid()").await?;
        cell(&rows, 0, 0)
    }
}

/// SQLSTATE of a failed [`contract_assertion`].
pub const CONTRACT_BROKEN: &str = "TD001";

/// SQLSTATE of a version that changed rows which nothing keeps.
pub const UNDECLARED: &str = "TD002";

/// SQLSTATE of a version that emptied tables, if they held rows.
pub const EMPTIED: &str = "TD003";

/// SQLSTATE of a version that dropped something although nobody had taken stock.
pub const DROPPED: &str = "TD004";

/// SQLSTATE of a version that may have changed rows whose values nobody had summed up.
pub const UNSUMMED: &str = "TD005";

/// SQLSTATE of a version of which the sums do not tell whether it changed rows that nothing keeps.
pub const UNTOLD: &str = "TD006";

const HINTS: [(&str, &str); 2] = [
    (CONTRACT_BROKEN, "remove the SET, or undo it at the end of the file"),
    (UNDECLARED, "declare them in the version's TOML: [[archive]] with table and where"),
];

/// What a [`raise`] is known by.
const RAISED: &str = "tandem:";

/// An expression that fails with a message, an expression itself. Plain SQL cannot raise: a cast fails and carries the message.
/// PL/pgSQL could, and would compile and plan its block anew for each version.
pub fn raise(code: &str, message: &str) -> String {
    format!("('{RAISED}{code}:' || {message})::pg_catalog.int4")
}

/// The assertion that ends a version's statements, as a select list: the settings that later effects rely on are as they were set, and
/// `absence`, the condition that the run's lock is gone, is false; and so is `dropped`, that the version took away what nobody
/// had taken stock of.
pub fn contract_assertion(schemas: &[String], absence: Option<&str>, dropped: Option<&str>) -> String {
    let kept = [
        ("synchronous_commit", "on".to_owned()),
        ("row_security", "off".into()),
        ("standard_conforming_strings", "on".into()),
        ("search_path", search_path(schemas)),
        ("session_replication_role", "origin".into()),
    ];
    let changed = kept.iter().map(|(name, value)| {
        (*name, format!("pg_catalog.current_setting({}) <> {}", literal(name), literal(value)))
    });
    let changed: Vec<_> = changed.chain([("role", "current_user <> session_user".to_owned())]).collect();
    let any: Vec<&str> = changed.iter().map(|(_, condition)| condition.as_str()).chain(absence).collect();
    let named: Vec<String> = changed
        .iter()
        .map(|(name, condition)| format!("case when {condition} then {} end", literal(name)))
        .collect();
    let message = format!(
        "'the file left ' || pg_catalog.concat_ws(', ', {}) || ' changed for later steps'",
        named.join(", ")
    );
    let mut text = format!("case when {} then {} end", any.join(" or "), raise(CONTRACT_BROKEN, &message));
    if let Some(dropped) = dropped {
        // A message that is a constant is raised when the statement is planned.
        text.push_str(&format!(
            ", case when {dropped} then {} end",
            raise(DROPPED, "'something was dropped beside ' || pg_catalog.current_setting('tandem.dropped')")
        ));
    }
    text
}

/// Opens a transaction that reads one state of the database, whatever the role's settings are. Views, expressions and proofs
/// take locks, which DDL that somebody left open keeps from any reader. A `[proof]` sees all rows
/// or fails: one that sees some of them proves nothing.
pub fn begin_read_only(search_path: &str) -> String {
    format!(
        "begin transaction isolation level repeatable read read only; set local statement_timeout = 0; \
         set local lock_timeout = '3s'; set local idle_in_transaction_session_timeout = 0; \
         set local row_security = off; set local search_path = {search_path};"
    )
}

/// `search_path` for the application's own SQL: its schemas, in order.
pub fn search_path(schemas: &[String]) -> String {
    schemas.iter().map(|s| identifier(s)).collect::<Vec<_>>().join(", ")
}

/// Sets `search_path` for the transaction at hand, to exactly the text that [`contract_assertion`] expects.
pub fn set_search_path(schemas: &[String]) -> String {
    format!("select {};", search_path_set(schemas))
}

/// The same as an expression.
pub fn search_path_set(schemas: &[String]) -> String {
    format!("pg_catalog.set_config('search_path', {}, true)", literal(&search_path(schemas)))
}

/// A string as a SQL literal; the session has `standard_conforming_strings` on.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as a quoted SQL identifier.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// One cell of a result; a missing or unreadable one is a defect.
pub fn cell<'r, T>(rows: &'r [PgRow], row: usize, column: usize) -> Result<T>
where
    T: sqlx::Decode<'r, sqlx::Postgres>,
{
    let bug =
        |what: String| Error::new(ExitCode::Bug, format!("an answer of Postgres could not be read: {what}"));
    let row = rows.get(row).ok_or_else(|| bug(format!("there is no row {row}")))?;
    row.try_get_unchecked(column).map_err(|e| bug(e.to_string()))
}
