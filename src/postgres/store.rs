//! The ledger, the journal and the state of a timeline in their Postgres schema.

use super::archive::Direction;
use super::session::{Check, Failure, Session, begin_read_only, cell, identifier, literal};
use crate::error::{Error, ExitCode, Result};
use crate::ledger::{Ledger, OpenRun, Origin, Phase, Row};
use crate::retained::Retained;
use crate::timeline::{CHECKSUM_ALGORITHM, Number, Settings, Version};
use sqlx::Row as _;
use std::collections::BTreeSet;

/// The tables of the ledger schema, so that "absent" can be told from "unreadable".
const TABLES: [&str; 5] = ["archive", "journal", "ledger", "published", "state"];

/// True of a journal row whose session is gone. `backend_start` of another role's session may be hidden.
const DEAD: &str = "not exists(select 1 from pg_catalog.pg_stat_activity a where a.pid = j.pid and coalesce(a.backend_start <= j.at, true))";

/// The one row that a start at head needs from Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fast {
    /// [`crate::ledger::digest`] over the ledger's rows.
    pub digest: String,
    /// The newest version; `None` without rows.
    pub at: Option<Number>,
    pub lineage: String,
    /// True if the change detector equals the one stored at the last full proof of `at`.
    pub unchanged: bool,
    /// True if some run has no end yet.
    pub open: bool,
    /// Collections that this ledger has published, with their versions.
    pub published: Vec<(String, Number)>,
}

/// The names of the ledger's tables for one timeline.
pub struct Store {
    schema: String,
    /// The timeline's key as a SQL literal.
    key: String,
    schema_name: String,
}

impl Store {
    /// The store of a timeline, at the place its settings fix.
    pub fn new(settings: &Settings) -> Self {
        Self {
            schema: identifier(&settings.ledger_schema),
            key: literal(&settings.application),
            schema_name: settings.ledger_schema.clone(),
        }
    }

    /// The ledger's schema as an identifier, and the timeline's key as a literal.
    pub fn place(&self) -> (&str, &str) {
        (&self.schema, &self.key)
    }

    /// What a start at head needs, in one message and one read-only transaction. `None` if there is no ledger.
    ///
    /// `names` are the collections that this instance manages; what other instances left open is theirs to end.
    pub async fn fast(
        &self,
        session: &mut Session,
        detector: &str,
        names: &[String],
    ) -> Result<Option<Fast>> {
        let (schema, key) = (&self.schema, &self.key);
        let own = names.iter().map(|n| literal(n)).collect::<Vec<_>>().join(", ");
        let own = if own.is_empty() { String::new() } else { format!(" or j.collection in ({own})") };
        let batch = format!(
            "{}
             select (select pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(coalesce(pg_catalog.string_agg(\
                       version || ' ' || checksum_raw, E'\\n' order by version), ''), 'UTF8')), 'hex') \
                       from {schema}.ledger where timeline = {key}), \
                    (select max(version) from {schema}.ledger where timeline = {key}), \
                    s.lineage::text, \
                    s.detector_version, \
                    s.detector = ({detector}), \
                    exists(select 1 from {schema}.journal j where j.timeline = {key} and j.ended is null \
                           and (j.collection is null{own}) and {DEAD}), \
                    (select pg_catalog.string_agg(p.version || ' ' || p.collection, E'\\n') from {schema}.published p where p.timeline = {key}) \
               from {schema}.state s where s.timeline = {key};
             commit",
            begin_read_only("pg_catalog")
        );
        let rows = match session.batch(batch).await {
            Ok(rows) => rows,
            // Not there, of another form, or behind a lock: who looks closer says which.
            Err(failure)
                if matches!(failure.code.as_deref(), Some("42P01" | "3F000" | "42703" | "55P03")) =>
            {
                session.rollback().await?;
                return Ok(None);
            }
            Err(failure) => return Err(self.unreadable(session, failure).await),
        };
        if rows.is_empty() {
            return Ok(None);
        }
        let at: Option<Number> = cell(&rows, 0, 1)?;
        let proven: Option<Number> = cell(&rows, 0, 3)?;
        Ok(Some(Fast {
            digest: cell(&rows, 0, 0)?,
            at,
            lineage: cell(&rows, 0, 2)?,
            unchanged: at.is_some() && proven == at && cell::<Option<bool>>(&rows, 0, 4)?.unwrap_or(false),
            open: cell(&rows, 0, 5)?,
            published: pairs(cell(&rows, 0, 6)?),
        }))
    }

    /// The whole ledger of this timeline; `None` if the schema or its tables do not exist, or hold nothing of it.
    pub async fn read(&self, session: &mut Session) -> Result<Option<Ledger>> {
        if !self.tables_exist(session).await? {
            return Ok(None);
        }
        let (schema, key) = (&self.schema, &self.key);
        let batches = [
            format!(
                "select lineage::text, detector, detector_version, epoch from {schema}.state where timeline = {key}"
            ),
            format!(
                "select version, name, checksum_raw, checksum_normal, algorithm, origin, compatible_from, catalog_digest, \
                 pg_catalog.to_char(applied_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
                 from {schema}.ledger where timeline = {key} order by version"
            ),
            format!(
                "select distinct on (epoch) epoch, target, phase, collection from {schema}.journal j \
                 where timeline = {key} and ended is null and {DEAD} order by epoch, id desc"
            ),
            format!(
                "select pg_catalog.string_agg(version || ' ' || collection, E'\\n') from {schema}.published where timeline = {key}"
            ),
            format!(
                "select catalog::text from {schema}.ledger where timeline = {key} and catalog is not null order by version desc limit 1"
            ),
        ];
        let mut answers = Vec::with_capacity(batches.len());
        for batch in batches {
            match session.batch(batch).await {
                Ok(rows) => answers.push(rows),
                Err(failure) => return Err(self.unreadable(session, failure).await),
            }
        }
        let [state, rows, open, published, catalog] = &answers[..] else {
            return Err(Error::new(ExitCode::Bug, "the ledger's answers are not five"));
        };
        if state.is_empty() {
            return Ok(None);
        }
        let detector: Option<String> = cell(state, 0, 1)?;
        let proven: Option<Number> = cell(state, 0, 2)?;
        Ok(Some(Ledger {
            lineage: cell(state, 0, 0)?,
            epoch: cell(state, 0, 3)?,
            rows: (0..rows.len()).map(|i| row(rows, i)).collect::<Result<_>>()?,
            open: (0..open.len()).map(|i| open_run(open, i)).collect::<Result<_>>()?,
            published: pairs(cell(published, 0, 0)?).into_iter().collect(),
            detector: detector.zip(proven),
            newest_catalog: if catalog.is_empty() { None } else { cell(catalog, 0, 0)? },
        }))
    }

    /// Are the ledger's tables there? Told by the system catalog, which every role may read: unreadable is not absent.
    pub async fn tables_exist(&self, session: &mut Session) -> Result<bool> {
        let sql = format!(
            "select c.relname::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
             where n.nspname = {} and c.relkind = 'r' and c.relname::text in ({}) order by 1",
            literal(&self.schema_name),
            TABLES.map(literal).join(", ")
        );
        match session.run("looking for the ledger", sql).await?.len() {
            0 => Ok(false),
            n if n == TABLES.len() => Ok(true),
            _ => Err(Error::new(ExitCode::Refused, format!("the schema {} holds only some of tandem's tables", self.schema_name))
                .expected(TABLES.join(", "))
                .remedy("restore the missing tables from a backup, or give tandem another place: [ledger] schema in tandem.toml")),
        }
    }

    /// The catalogs that other timelines in the same place stored last: their objects are not ours to judge.
    pub async fn other_catalogs(&self, session: &mut Session) -> Result<Vec<String>> {
        let rows = session
            .run(
                "reading the catalogs of other timelines",
                format!(
                    "select distinct on (timeline) catalog::text from {}.ledger where timeline <> {} and catalog is not null \
                     order by timeline, version desc",
                    self.schema, self.key
                ),
            )
            .await?;
        (0..rows.len()).map(|i| cell(&rows, i, 0)).collect()
    }

    /// The statements that create the ledger, for inside a transaction, under the lock.
    pub fn creation(&self, schema_exists: bool) -> String {
        let schema = &self.schema;
        let create_schema = if schema_exists { String::new() } else { format!("create schema {schema};") };
        format!(
            "{create_schema}
             create table {schema}.state (
               timeline text primary key,
               lineage uuid not null default pg_catalog.gen_random_uuid(),
               epoch bigint not null default 0,
               detector text,
               detector_version bigint,
               proven_at timestamptz
             );
             create table {schema}.ledger (
               timeline text not null,
               version bigint not null,
               name text not null,
               checksum_raw text not null,
               checksum_normal text not null,
               algorithm smallint not null,
               origin text not null check (origin in ('applied', 'stamped', 'completed', 'adopted')),
               evidence text,
               compatible_from bigint not null,
               catalog_digest text,
               catalog jsonb,
               collections_digest text,
               collections jsonb,
               duration_ms bigint,
               tandem_version text not null,
               epoch bigint not null,
               applied_by text not null default current_user,
               applied_at timestamptz not null default pg_catalog.clock_timestamp(),
               primary key (timeline, version)
             );
             create table {schema}.journal (
               id bigint generated always as identity primary key,
               timeline text not null,
               epoch bigint not null,
               target bigint not null,
               phase text not null,
               collection text,
               step jsonb,
               pid integer not null default pg_catalog.pg_backend_pid(),
               at timestamptz not null default pg_catalog.clock_timestamp(),
               ended timestamptz
             );
             create index journal_open on {schema}.journal (timeline, epoch) where ended is null;
             create table {schema}.archive (
               id bigint generated always as identity primary key,
               timeline text not null,
               version bigint not null,
               relation text not null,
               why text not null,
               row json not null,
               became text,
               at timestamptz not null default pg_catalog.clock_timestamp()
             );
             create table {schema}.published (
               timeline text not null,
               collection text not null,
               version bigint not null,
               at timestamptz not null default pg_catalog.clock_timestamp(),
               primary key (timeline, collection)
             );"
        )
    }

    /// Does the ledger's schema exist? Creating it needs CREATE on the database.
    pub async fn schema_exists(&self, session: &mut Session) -> Result<bool> {
        let sql =
            format!("select 1 from pg_catalog.pg_namespace where nspname = {}", literal(&self.schema_name));
        Ok(!session.run("looking for the ledger's schema", sql).await?.is_empty())
    }

    /// Registers this timeline and takes the next epoch, in a transaction of the caller's.
    pub fn next_epoch(&self) -> String {
        let (schema, key) = (&self.schema, &self.key);
        format!(
            "insert into {schema}.state as s (timeline, epoch) values ({key}, 1) \
             on conflict (timeline) do update set epoch = s.epoch + 1 returning s.epoch, s.lineage::text;"
        )
    }

    /// A ledger row for a version.
    pub fn record(&self, entry: &Entry<'_>) -> String {
        let values = Self::row(entry).map(|(_, value)| value);
        format!("{};", self.insertion(&values))
    }

    /// The same, to be prepared once for many.
    pub fn record_prepared(&self, entry: &Entry<'_>) -> Check {
        let row = Self::row(entry);
        let parameters: Vec<String> = (1..=row.len()).map(|n| format!("${n}")).collect();
        let (types, values): (Vec<&str>, Vec<String>) = row.into_iter().unzip();
        Check {
            types: format!("({})", types.join(", ")),
            text: self.insertion(&parameters),
            values: format!("({})", values.join(", ")),
        }
    }

    fn insertion(&self, values: &[String]) -> String {
        format!(
            "insert into {}.ledger (timeline, algorithm, tandem_version, epoch, version, name, checksum_raw, checksum_normal, origin, \
             evidence, compatible_from, catalog_digest, catalog, collections_digest, duration_ms) values \
             ({}, {CHECKSUM_ALGORITHM}, {}, {}, {})",
            self.schema,
            self.key,
            literal(env!("CARGO_PKG_VERSION")),
            self.current_epoch(),
            values.join(", ")
        )
    }

    /// What differs between ledger rows, with the types.
    fn row(entry: &Entry<'_>) -> [(&'static str, String); 11] {
        let version = entry.version;
        let text = |value: Option<&str>| value.map_or("null".to_owned(), literal);
        [
            ("pg_catalog.int8", version.number.to_string()),
            ("pg_catalog.text", literal(&version.name)),
            ("pg_catalog.text", literal(&version.raw_checksum())),
            ("pg_catalog.text", literal(&version.normal_checksum())),
            ("pg_catalog.text", literal(entry.origin.as_str())),
            ("pg_catalog.text", text(entry.evidence)),
            ("pg_catalog.int8", version.compatible_from.to_string()),
            ("pg_catalog.text", text(entry.catalog_digest)),
            ("pg_catalog.jsonb", text(entry.catalog)),
            ("pg_catalog.text", text(entry.collections_digest)),
            ("pg_catalog.int8", entry.duration.to_owned()),
        ]
    }

    /// The epoch of the run that holds the timeline's lock, as a SQL expression.
    pub fn current_epoch(&self) -> String {
        format!("(select epoch from {}.state where timeline = {})", self.schema, self.key)
    }

    /// A journal row; the epoch is a SQL expression.
    pub fn journal(
        &self,
        epoch: &str,
        target: Number,
        phase: Phase,
        collection: Option<&str>,
        step: Option<&str>,
    ) -> String {
        let text = |value: Option<&str>| value.map_or("null".to_owned(), literal);
        format!(
            "insert into {}.journal (timeline, epoch, target, phase, collection, step) values ({}, {epoch}, {target}, {}, {}, {});",
            self.schema,
            self.key,
            literal(phase.as_str()),
            text(collection),
            text(step),
        )
    }

    /// Marks a run's newest intent on a collection as advancing, and replaces its step by how far it has come.
    pub fn note(&self, epoch: &str, collection: &str, step: Option<&str>) -> String {
        let (schema, key) = (&self.schema, &self.key);
        format!(
            "update {schema}.journal set at = pg_catalog.clock_timestamp(), step = coalesce({}, step) where id = (select max(id) from {schema}.journal where timeline = {key} \
             and epoch = {epoch} and collection = {} and phase = {})",
            step.map_or("null".to_owned(), literal),
            literal(collection),
            literal(Phase::Intent.as_str()),
        )
    }

    /// The newest step of any run on a collection that was begun and not done; as JSON, with the milliseconds since its run
    /// was last known to hold the lock.
    pub async fn interrupted(
        &self,
        session: &mut Session,
        collection: &str,
    ) -> Result<Option<(String, i64)>> {
        let sql = format!(
            "select phase, step::text, (extract(epoch from pg_catalog.clock_timestamp() - at) * 1000)::bigint from {}.journal where timeline = {} and collection = {} and phase in ({}, {}) \
             order by id desc limit 1",
            self.schema,
            self.key,
            literal(collection),
            literal(Phase::Intent.as_str()),
            literal(Phase::Done.as_str()),
        );
        let rows = session.run("reading the journal", sql).await?;
        match rows.is_empty() || cell::<String>(&rows, 0, 0)? != Phase::Intent.as_str() {
            true => Ok(None),
            false => Ok(Some((cell(&rows, 0, 1)?, cell(&rows, 0, 2)?))),
        }
    }

    /// Notes that something is kept, before it is created or replaced. The newest row about a name counts.
    pub fn retain(&self, retained: &Retained) -> Result<String> {
        self.keep(Phase::Retained, retained)
    }

    /// Notes that it was removed.
    pub fn removed(&self, retained: &Retained) -> Result<String> {
        self.keep(Phase::Removed, retained)
    }

    fn keep(&self, phase: Phase, retained: &Retained) -> Result<String> {
        let json = serde_json::to_string(retained).map_err(super::apply::unserialisable)?;
        Ok(format!(
            "insert into {}.journal (timeline, epoch, target, phase, collection, step, ended) \
             values ({}, coalesce({}, 0), {}, {}, {}, {}, pg_catalog.clock_timestamp())",
            self.schema,
            self.key,
            self.current_epoch(),
            retained.version.unwrap_or_default(),
            literal(phase.as_str()),
            literal(&retained.of),
            literal(&json),
        ))
    }

    /// What was noted as kept and not as removed, the oldest first, with the time. Nothing without a ledger.
    pub async fn retained(&self, session: &mut Session) -> Result<Vec<(Retained, String)>> {
        if !self.tables_exist(session).await? {
            return Ok(Vec::new());
        }
        let sql = format!(
            "select step::text, pg_catalog.to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') from \
             (select distinct on (step->>'name') * from {}.journal where timeline = {} and phase in ({}, {}) \
             order by step->>'name', id desc) newest where phase = {} order by id",
            self.schema,
            self.key,
            literal(Phase::Retained.as_str()),
            literal(Phase::Removed.as_str()),
            literal(Phase::Retained.as_str()),
        );
        let rows = session.run("reading what is kept", sql).await?;
        (0..rows.len())
            .map(|i| {
                let json: String = cell(&rows, i, 0)?;
                let retained = serde_json::from_str(&json).map_err(|e| {
                    Error::new(
                        ExitCode::Refused,
                        format!("the journal keeps something that this tandem does not know: {e}"),
                    )
                    .remedy("use the tandem that wrote it, or a newer one")
                })?;
                Ok((retained, cell(&rows, i, 1)?))
            })
            .collect()
    }

    /// Ends a run: its terminal row, and every row of it marked as ended.
    pub fn end(&self, epoch: &str, target: Number, phase: Phase) -> String {
        format!(
            "{} update {}.journal set ended = pg_catalog.clock_timestamp() where timeline = {} and epoch = {epoch} and ended is null;",
            self.journal(epoch, target, phase, None, None),
            self.schema,
            self.key
        )
    }

    /// Ends the Postgres run of this very session, if it had one.
    pub fn end_own(&self, target: Number) -> String {
        let (schema, key) = (&self.schema, &self.key);
        let own = format!(
            "timeline = {key} and collection is null and ended is null and pid = pg_catalog.pg_backend_pid()"
        );
        format!(
            "insert into {schema}.journal (timeline, epoch, target, phase) select distinct {key}, epoch, {target}, {} \
             from {schema}.journal where {own}; \
             update {schema}.journal set ended = pg_catalog.clock_timestamp() where {own};",
            literal(Phase::Published.as_str())
        )
    }

    /// Remembers that a collection stands at a version.
    pub fn publish(&self, collection: &str, version: Number) -> String {
        format!(
            "insert into {}.published as p (timeline, collection, version) values ({}, {}, {version}) on conflict (timeline, collection) \
             do update set version = excluded.version, at = excluded.at;",
            self.schema,
            self.key,
            literal(collection)
        )
    }

    /// Keeps rows of a table as JSON, whole, so that the primary key is with every value.
    pub fn archive(&self, version: Number, table: &str, why: &str, condition: Option<&str>) -> String {
        format!(
            "insert into {}.archive (timeline, version, relation, why, row) \
             select {}, {version}, {}, {}, pg_catalog.row_to_json(kept) from {table} as kept where {}",
            self.schema,
            self.key,
            literal(&table.replace('"', "")),
            literal(why),
            condition.unwrap_or("true"),
        )
    }

    /// What this transaction has put into the archive of a table for a version, as `a`.
    pub fn archived_now(&self, version: Number, table: &str) -> String {
        format!(
            "{}.archive a where a.timeline = {} and a.version = {version} and a.relation = {} and pg_catalog.age(a.xmin) between -1000000 and 0",
            self.schema,
            self.key,
            literal(&table.replace('"', ""))
        )
    }

    /// Takes back a version's row, and keeps the proven catalog with the row of the version below.
    pub fn step_back(
        &self,
        version: Number,
        below: Number,
        digest: Option<&str>,
        catalog: Option<&str>,
    ) -> String {
        let text = |value: Option<&str>| value.map_or("null".to_owned(), literal);
        format!(
            "{} update {}.ledger set catalog_digest = {}, catalog = {} where timeline = {} and version = {below};",
            self.forget_rows(&[version]),
            self.schema,
            text(digest),
            text(catalog),
            self.key
        )
    }

    /// The versions of which a downgrade kept rows that were not put back yet.
    pub async fn downgraded(&self, session: &mut Session) -> Result<BTreeSet<Number>> {
        let sql = format!(
            "select distinct a.version from {}.archive a where a.timeline = {} and {}",
            self.schema,
            self.key,
            Direction::Down.active()
        );
        let rows = session.run("looking for what downgrades kept", sql).await?;
        (0..rows.len()).map(|i| cell(&rows, i, 0)).collect()
    }

    /// Replaces the raw checksum of rows whose tokens are unchanged.
    pub fn heal(&self, version: &Version) -> String {
        format!(
            "update {}.ledger set checksum_raw = {} where timeline = {} and version = {};",
            self.schema,
            literal(&version.raw_checksum()),
            self.key,
            version.number
        )
    }

    /// Removes the rows of versions that the database does not have, or that are recorded anew.
    pub fn forget_rows(&self, versions: &[Number]) -> String {
        if versions.is_empty() {
            return String::new();
        }
        let list = versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        format!("delete from {}.ledger where timeline = {} and version in ({list});", self.schema, self.key)
    }

    /// Forgets that collections were published: the operator said that they are gone for good.
    pub fn forget(&self, collections: &[String]) -> String {
        format!(
            "delete from {}.published where timeline = {} and collection in ({});",
            self.schema,
            self.key,
            collections.iter().map(|c| literal(c)).collect::<Vec<_>>().join(", ")
        )
    }

    /// Stores the change detector after a full proof of a version, unless another session is at work on the state.
    pub fn proven(&self, detector: &str, version: Number) -> String {
        let (schema, key) = (&self.schema, &self.key);
        format!(
            "begin; set local statement_timeout = 0; set local search_path = pg_catalog; \
             update {schema}.state set detector = ({detector}), detector_version = {version}, proven_at = pg_catalog.clock_timestamp() \
             where timeline = (select timeline from {schema}.state where timeline = {key} for update skip locked); commit"
        )
    }

    /// The newest thing that any run of this timeline has journalled, for those who wait for the lock.
    pub async fn progress(&self, session: &mut Session) -> Result<Option<String>> {
        let sql = format!(
            "select phase || coalesce(' ' || collection, '') || ' (epoch ' || epoch || ', row ' || id || ', ' || pg_catalog.to_char(at, 'HH24:MI:SS') || ')' from {}.journal \
             where timeline = {} order by id desc limit 1",
            self.schema, self.key
        );
        match session.batch(sql).await {
            Ok(rows) if rows.is_empty() => Ok(None),
            Ok(rows) => cell(&rows, 0, 0),
            Err(failure) if failure.lost => Err(failure.into_error("reading the journal")),
            Err(_) => Ok(None),
        }
    }

    /// Why the ledger could not be written, after a rollback; where a right is missing, with the SQL that grants it.
    pub async fn unwritable(&self, session: &mut Session, failure: Failure) -> Error {
        let denied = failure.code.as_deref() == Some("42501");
        let origin = failure.context.clone();
        let error = failure.into_error("writing the ledger");
        if !denied {
            return super::apply::event_trigger(session, origin.as_deref(), error).await;
        }
        match self.grants(session).await {
            Ok(sql) => error.remedy(format!(
                "have the database's owner run: {sql} or give tandem a role that may, in TANDEM_DATABASE_URL"
            )),
            Err(error) => error,
        }
    }

    /// The SQL that lets this role keep the ledger. The owner need not be a member of the role.
    async fn grants(&self, session: &mut Session) -> Result<String> {
        session.rollback().await?;
        let (schema, role) = (&self.schema, identifier(&session.role().await?));
        let rights = format!("grant usage, create on schema {schema} to {role};");
        Ok(if self.tables_exist(session).await? {
            format!(
                "grant usage on schema {schema} to {role}; grant select, insert, update, delete on all tables in schema {schema} to {role};"
            )
        } else if self.schema_exists(session).await? {
            rights
        } else {
            format!("create schema {schema}; {rights}")
        })
    }

    pub(crate) async fn unreadable(&self, session: &mut Session, failure: Failure) -> Error {
        if failure.code.as_deref() != Some("42501") {
            return failure.into_error("reading the ledger");
        }
        if let Err(error) = session.rollback().await {
            return error;
        }
        let role = match session.role().await {
            Ok(role) => identifier(&role),
            Err(error) => return error,
        };
        let (schema, message) = (&self.schema, failure.message);
        Error::new(ExitCode::Authentication, format!("the ledger exists and this role may not read it: {message}"))
            .expected(format!("USAGE on schema {} and SELECT on its tables", self.schema_name))
            .remedy(format!(
                "as its owner: grant usage on schema {schema} to {role}; grant select on all tables in schema {schema} to {role};"
            ))
    }
}

/// What a ledger row records.
pub struct Entry<'a> {
    pub version: &'a Version,
    pub origin: Origin,
    pub evidence: Option<&'a str>,
    pub catalog_digest: Option<&'a str>,
    /// The whole catalog as JSON; on the last row of a run.
    pub catalog: Option<&'a str>,
    pub collections_digest: Option<&'a str>,
    /// Milliseconds as a SQL expression, so that one message can measure itself.
    pub duration: &'a str,
}

fn row(rows: &[sqlx::postgres::PgRow], i: usize) -> Result<Row> {
    Ok(Row {
        version: cell(rows, i, 0)?,
        name: cell(rows, i, 1)?,
        checksum_raw: cell(rows, i, 2)?,
        checksum_normal: cell(rows, i, 3)?,
        algorithm: cell(rows, i, 4)?,
        origin: cell(rows, i, 5)?,
        compatible_from: cell(rows, i, 6)?,
        catalog_digest: cell(rows, i, 7)?,
        applied_at: cell(rows, i, 8)?,
    })
}

fn open_run(rows: &[sqlx::postgres::PgRow], i: usize) -> Result<OpenRun> {
    let word: String = cell(rows, i, 2)?;
    Ok(OpenRun {
        epoch: cell(rows, i, 0)?,
        target: cell(rows, i, 1)?,
        phase: Phase::parse(&word).ok_or_else(|| {
            Error::new(
                ExitCode::Refused,
                format!("the journal has a phase that this tandem does not know: {word}"),
            )
            .remedy("start the image that wrote it")
        })?,
        collection: rows.get(i).and_then(|row| row.try_get_unchecked(3).ok()).flatten(),
    })
}

/// Lines of `VERSION NAME`.
fn pairs(text: Option<String>) -> Vec<(String, Number)> {
    text.unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(version, name)| Some((name.to_owned(), version.parse().ok()?)))
        .collect()
}
