//! What the ledger and the archive keep, for people and machines. Only [`remove`] writes.

use crate::error::{Error, ExitCode, Result};
use crate::postgres::session::{Session, begin_read_only, cell, literal};
use crate::postgres::store::Store;
use crate::progress::bytes;
use crate::timeline::Number;
use serde::Serialize;
use std::fmt::Write as _;

/// A timestamp in UTC, to the second, as SQL.
fn utc(column: &str) -> String {
    format!("pg_catalog.to_char({column} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
}

/// A row of the ledger: `tandem history --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Version {
    pub version: Number,
    pub name: String,
    /// How it came: applied, stamped, completed, adopted.
    pub origin: String,
    /// UTC, to the second.
    pub applied_at: String,
    /// The Postgres role.
    pub applied_by: String,
    pub tandem_version: String,
    pub duration_ms: Option<i64>,
    /// The oldest version whose application may run on this one.
    pub compatible_from: Number,
    /// What proved a version that was not applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

/// The ledger's rows, oldest version first; empty if there is no ledger.
pub async fn versions(session: &mut Session, store: &Store) -> Result<Vec<Version>> {
    let (schema, key) = store.place();
    let sql = format!(
        "select version, name, origin, {}, applied_by, tandem_version, duration_ms, compatible_from, evidence \
         from {schema}.ledger where timeline = {key} order by version",
        utc("applied_at")
    );
    reading(session, store, "reading the history", sql, |rows, i| {
        Ok(Version {
            version: cell(rows, i, 0)?,
            name: cell(rows, i, 1)?,
            origin: cell(rows, i, 2)?,
            applied_at: cell(rows, i, 3)?,
            applied_by: cell(rows, i, 4)?,
            tandem_version: cell(rows, i, 5)?,
            duration_ms: cell(rows, i, 6)?,
            compatible_from: cell(rows, i, 7)?,
            evidence: cell(rows, i, 8)?,
        })
    })
    .await
}

/// The history for people. What several versions were stamped on is said once, below the last of them.
pub fn versions_text(versions: &[Version]) -> String {
    if versions.is_empty() {
        return "The ledger has no version yet\n".into();
    }
    let width = versions.iter().map(|version| version.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for (i, v) in versions.iter().enumerate() {
        let duration = v.duration_ms.filter(|_| v.origin == "applied").map(|ms| format!(", {ms} ms"));
        let _ = writeln!(
            text,
            "{:>14}  {:width$}  {:<9}  {}  by {} with tandem {}{}; lets images run from version {}",
            v.version,
            v.name,
            v.origin,
            v.applied_at,
            v.applied_by,
            v.tandem_version,
            duration.unwrap_or_default(),
            v.compatible_from
        );
        let next = versions.get(i + 1).and_then(|next| next.evidence.as_ref());
        if let Some(evidence) = v.evidence.as_ref().filter(|evidence| next != Some(evidence)) {
            let _ = writeln!(text, "                {evidence}");
        }
    }
    text
}

/// What one version kept of one table: `tandem archive list --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    pub version: Number,
    pub table: String,
    /// `table dropped`, `columns dropped or converted: …`, `declared`.
    pub why: String,
    pub rows: i64,
    /// Bytes of the rows as JSON text.
    pub size: i64,
    /// UTC, to the second.
    pub since: String,
}

/// What the archive keeps, by version and table.
pub async fn kept(session: &mut Session, store: &Store) -> Result<Vec<Kept>> {
    let (schema, key) = store.place();
    let sql = format!(
        "select version, relation, why, pg_catalog.count(*), \
         pg_catalog.sum(pg_catalog.octet_length(row::text))::bigint, {} \
         from {schema}.archive where timeline = {key} group by version, relation, why order by 1, 2, 3",
        utc("pg_catalog.min(at)")
    );
    reading(session, store, "reading the archive", sql, |rows, i| {
        Ok(Kept {
            version: cell(rows, i, 0)?,
            table: cell(rows, i, 1)?,
            why: cell(rows, i, 2)?,
            rows: cell(rows, i, 3)?,
            size: cell(rows, i, 4)?,
            since: cell(rows, i, 5)?,
        })
    })
    .await
}

/// The archive for people.
pub fn kept_text(kept: &[Kept]) -> String {
    let mut text = String::new();
    for Kept { version, table, why, rows, size, since } in kept {
        let size = bytes(u64::try_from(*size).unwrap_or_default());
        let rows = crate::words::count(usize::try_from(*rows).unwrap_or_default(), "row");
        let _ = writeln!(text, "{version:>14}  {table}  {rows}, {size}, since {since}: {why}");
    }
    if text.is_empty() {
        text.push_str("The archive is empty\n");
    }
    text
}

/// One archived row, as it was: `tandem archive show`.
#[derive(Debug, Serialize)]
pub struct Row {
    pub id: i64,
    pub version: Number,
    pub table: String,
    pub why: String,
    pub row: serde_json::Value,
}

/// The archived rows of a table, the oldest first. `table` may leave the schema out; at most `limit` rows.
pub async fn rows(session: &mut Session, store: &Store, table: &str, limit: u32) -> Result<Vec<Row>> {
    let (schema, key) = store.place();
    let table = literal(table);
    let sql = format!(
        "select id, version, relation, why, row::text from {schema}.archive where timeline = {key} \
         and (relation = {table} or pg_catalog.right(relation, pg_catalog.length({table}) + 1) = '.' || {table}) \
         order by id limit {limit}"
    );
    reading(session, store, "reading archived rows", sql, |rows, i| {
        let text: String = cell(rows, i, 4)?;
        Ok(Row {
            id: cell(rows, i, 0)?,
            version: cell(rows, i, 1)?,
            table: cell(rows, i, 2)?,
            why: cell(rows, i, 3)?,
            row: serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text)),
        })
    })
    .await
}

/// Archived rows for people, a line each.
pub fn rows_text(rows: &[Row]) -> String {
    let line = |row: &Row| format!("{}  version {}  {}  {}\n", row.id, row.version, row.table, row.row);
    match rows {
        [] => "The archive has no row of this table; tandem archive list shows what it has\n".into(),
        rows => rows.iter().map(line).collect(),
    }
}

/// What was removed from the archive: `tandem archive drop --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    pub version: Number,
    pub table: String,
    pub rows: i64,
}

impl Removed {
    /// For people.
    pub fn text(&self) -> String {
        let rows = crate::words::count(usize::try_from(self.rows).unwrap_or(usize::MAX), "row");
        format!("Removed {rows} of {} that version {} kept\n", self.table, self.version)
    }
}

/// Removes for good what one version kept of one table, in one transaction, under the timeline's lock.
///
/// # Errors
/// 76 unless the archive has exactly `rows` of them and at least one, and then nothing is removed; 77 without the right to
/// delete.
pub async fn remove(
    session: &mut Session,
    store: &Store,
    table: &str,
    version: Number,
    rows: i64,
) -> Result<Removed> {
    let (schema, key) = store.place();
    let found: i64 = match store.tables_exist(session).await? {
        true => {
            let sql = format!(
                "begin; with gone as (delete from {schema}.archive where timeline = {key} and version = {version} \
                 and relation = {} returning 1) select pg_catalog.count(*) from gone",
                literal(table)
            );
            match session.batch(sql).await {
                Ok(gone) => cell(&gone, 0, 0)?,
                Err(failure) => return Err(store.unwritable(session, failure).await),
            }
        }
        false => 0,
    };
    if found == 0 || found != rows {
        session.rollback().await?;
        return Err(Error::new(
            ExitCode::Refused,
            format!("version {version} kept {found} rows of {table}; nothing was removed"),
        )
        .expected(format!("{rows} rows, as the command says, and not none"))
        .remedy("tandem archive list names tables, versions and counts as this command wants them"));
    }
    session.run("removing archived rows", "commit").await?;
    Ok(Removed { version, table: table.to_owned(), rows })
}

/// Reads in a transaction that cannot write; nothing where there is no ledger.
async fn reading<T>(
    session: &mut Session,
    store: &Store,
    doing: &str,
    sql: String,
    read: impl Fn(&[sqlx::postgres::PgRow], usize) -> Result<T>,
) -> Result<Vec<T>> {
    session.run("opening a read-only transaction", begin_read_only("pg_catalog")).await?;
    let found = match store.tables_exist(session).await? {
        true => match session.batch(sql).await {
            Ok(rows) => (0..rows.len()).map(|i| read(&rows, i)).collect::<Result<_>>()?,
            Err(failure) if failure.code.as_deref() == Some("42501") => {
                return Err(store.unreadable(session, failure).await);
            }
            Err(failure) => return Err(failure.into_error(doing)),
        },
        false => Vec::new(),
    };
    session.run("ending the read-only transaction", "commit").await?;
    Ok(found)
}
