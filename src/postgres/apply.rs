//! Applying versions: each is one transaction with its ledger row and the comparison of the catalog.

use super::again::{self, Again, Prints};
use super::archive::Watched;
use super::bystanders::{self, Bystander, Named, Ours};
use super::guard::{self, Look, Suspects};
use super::introspect::{self, Exclude, Known};
use super::lock::Held;
use super::session::{
    CONTRACT_BROKEN, Check, DROPPED, Failure, Session, cell, contract_assertion, identifier, literal,
    search_path_set, set_search_path, unprepared,
};
use super::store::{Entry, Store};
use super::strays::{self, Closely};
use crate::catalog::{self, Catalog, Detail, Effects, Expected, Kind, ObjectId, Optional};
use crate::error::{Error, ExitCode, Result};
use crate::ledger::Origin;
use crate::plan;
use crate::repair;
use crate::timeline::sql::{self, NonTransactional};
use crate::timeline::{Number, Settings, SqlFile, Timeline, Version};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use std::time::Duration;

/// How often a step that met a lock is tried again.
const LOCK_RETRIES: usize = 12;

/// The milliseconds since the transaction began, measured by the server.
const DURATION: &str =
    "(extract(epoch from pg_catalog.clock_timestamp() - pg_catalog.transaction_timestamp()) * 1000)::bigint";

/// What every version of a run is applied with.
pub struct Context<'a> {
    pub timeline: &'a Timeline,
    pub expected: &'a Expected,
    pub store: &'a Store,
    pub exclude: &'a Exclude<'a>,
    /// The timeline's lock: nothing is committed without it.
    pub held: &'a Held,
}

impl Context<'_> {
    pub(super) fn settings(&self) -> &Settings {
        &self.timeline.settings
    }

    /// Takes the inventory of what is not the application's.
    pub(super) async fn inventory(&self, session: &mut Session) -> Result<Vec<Bystander>> {
        bystanders::inventory(session, &self.settings().schemas, self.exclude).await
    }

    /// Behind `what`, whose first version it is: nothing of the inventory is lost or replaced, and what was made again has what it
    /// had. Else the transaction is rolled back, and the answer is the refusal, or `None` if somebody else has dropped what is missed.
    pub(super) async fn missed(
        &self,
        session: &mut Session,
        what: &str,
        first: Number,
        inventory: &[Bystander],
    ) -> std::result::Result<(), Option<Error>> {
        let now = self.inventory(session).await.map_err(Some)?;
        let ours = Ours { known: repair::known(self.expected), named: Named::by(self.timeline) };
        let replaced = bystanders::replaced(inventory, &now, &ours.known, self.timeline, first);
        if !replaced.is_empty() {
            let (old, new): (Vec<_>, Vec<_>) = replaced.iter().copied().unzip();
            let is = bystanders::told(session, &new).await.map_err(Some)?;
            session.rollback().await.map_err(Some)?;
            let was = bystanders::told(session, &old).await.map_err(Some)?;
            // One that is not there after the rollback either was somebody else's to drop.
            return Err(
                (was.len() == is.len()).then(|| bystanders::would_replace(what, &replaced, &was, &is))
            );
        }
        let lost = bystanders::lost(inventory, &now, &ours);
        if !lost.is_empty() {
            session.rollback().await.map_err(Some)?;
            return Err(bystanders::refusal(session, what, inventory, &now, &lost).await.map_err(Some)?);
        }
        let again = bystanders::given_back(inventory, &now).concat();
        if !again.is_empty()
            && let Err(failure) = session.batch(again).await
        {
            return Err(Some(bystanders::not_given_back(what, failure)));
        }
        Ok(())
    }
}

/// One version to apply.
pub struct Apply<'a> {
    pub version: &'a Version,
    /// Statements before the version's own, in the same transaction: the ledger's creation, the run's first journal row.
    pub opening: String,
    /// The statements that keep what the version takes away.
    pub archive: String,
    /// The tables whose rows it may change.
    pub watched: Watched,
    /// The statements behind the version's own that put back what the opposite step kept.
    pub put_back: String,
    /// The version below, if this one is taken back: `version.up` is its `down.sql` then.
    pub back_to: Option<Number>,
    /// Statements behind the ledger row, in the same transaction.
    pub closing: String,
    /// The catalog that must be there afterwards.
    pub expected: &'a Catalog,
    /// It is compared in any case; else only if the version may take something away, and otherwise by the run's last one.
    pub compared: bool,
    /// What of it may be missing.
    pub optional: &'a Optional,
    /// Keeps the whole catalog in the ledger row: the run's last version.
    pub keep: bool,
    pub collections_digest: Option<&'a str>,
    /// What the version changes in the catalog, as it was recorded.
    pub effects: Option<&'a Effects>,
    /// The catalog as it was when it was last read, with its prints if there are any, and what has been changed since, this
    /// version included.
    pub before: &'a Catalog,
    pub prints: Option<&'a Prints>,
    pub since: &'a [&'a Effects],
}

/// The catalog behind a version, as it was found and compared.
pub struct Proven {
    pub catalog: Catalog,
    /// The change detector that stands for it, behind a run's last version; its prints, behind the others.
    pub detector: Option<String>,
    pub prints: Option<Prints>,
}

/// Applies one version and commits it. On any failure nothing of it remains.
///
/// Returns the catalog that was found, if it was compared.
pub async fn apply(session: &mut Session, context: &Context<'_>, step: &Apply<'_>) -> Result<Option<Proven>> {
    let mut unforced = Unforced::default();
    let what = format!("Version {}", step.version.number);
    let waiting = match &step.version.up {
        Some(up) if !up.transaction => Waiting::Concurrently,
        _ => Waiting::Ddl,
    };
    patiently(session, context, &what, waiting, async |session| {
        loop {
            let result = match &step.version.up {
                Some(up) if !up.transaction => {
                    without_transaction(session, context, step, up, &unforced).await
                }
                _ => in_transaction(session, context, step, &unforced).await,
            };
            match result {
                Err(Stop::Denied(error)) if unforced.is_empty() => {
                    unforced = Unforced::find(session, context.settings(), step.effects).await?;
                    if unforced.is_empty() {
                        return Err(Stop::Denied(error));
                    }
                }
                result => return result,
            }
        }
    })
    .await
}

/// What meets a lock, and so who can be in its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// DDL: whoever holds any lock on a managed relation.
    Ddl,
    /// An index built or dropped concurrently: also whoever looks at the database as it was before.
    Concurrently,
    /// A look at the catalog or a proof: only who keeps even readers out.
    Reading,
}

/// Tries again, ever more slowly, what met a lock within `lock_timeout`, and says who holds it.
pub(super) async fn patiently<T>(
    session: &mut Session,
    context: &Context<'_>,
    what: &str,
    waiting: Waiting,
    mut attempt: impl AsyncFnMut(&mut Session) -> std::result::Result<T, Stop>,
) -> Result<T> {
    let mut delays = lock_delays().with_max_times(LOCK_RETRIES).build();
    loop {
        let stop = match attempt(session).await {
            Ok(done) => return Ok(done),
            Err(stop) => stop,
        };
        match (stop, delays.next()) {
            (Stop::Locked(_), Some(delay)) => {
                let blockers = blockers(session, &context.settings().schemas, waiting).await?;
                tracing::warn!(blockers, "{what} met a lock and is tried again in {} ms", delay.as_millis());
                tokio::time::sleep(delay).await;
            }
            (Stop::Locked(mut error), None) => {
                let blockers = blockers(session, &context.settings().schemas, waiting).await?;
                error.code = ExitCode::LockTimeout;
                return Err(error.remedy(end_them(&blockers)));
            }
            (Stop::Denied(error) | Stop::Failed(error), _) => return Err(error),
        }
    }
}

/// The delays between tries behind a lock: jittered, so that several instances do not meet again.
pub fn lock_delays() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .with_jitter_seed(crate::wait::jitter_seed())
}

/// What to do about those who hold a lock.
pub fn end_them(blockers: &str) -> String {
    format!(
        "end what holds the lock, select pg_terminate_backend(PID), or start again without it: {blockers}"
    )
}

/// Tables whose FORCE ROW LEVEL SECURITY hides rows from their owner, which is this role: a version must see them all.
/// It is lifted and set again within the version's transaction, and only for a version that has met it.
#[derive(Default)]
struct Unforced {
    /// Statements before those of the version; empty if there are no such tables.
    lift: String,
    /// Statements after them.
    restore: String,
}

impl Unforced {
    async fn find(session: &mut Session, settings: &Settings, effects: Option<&Effects>) -> Result<Self> {
        let rows = session
            .run(
                "looking for forced row security",
                format!(
                    "select c.oid::text, n.nspname::text, c.relname::text from pg_catalog.pg_class c \
                     join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
                     where c.relforcerowsecurity and n.nspname in ({}) and pg_catalog.pg_has_role(c.relowner, 'USAGE')",
                    settings.schemas.iter().map(|s| literal(s)).collect::<Vec<_>>().join(", ")
                ),
            )
            .await?;
        let (mut lifted, mut restored) = (Vec::new(), Vec::new());
        for i in 0..rows.len() {
            let (oid, schema, name): (String, String, String) =
                (cell(&rows, i, 0)?, cell(&rows, i, 1)?, cell(&rows, i, 2)?);
            let ended_by_version = effects.is_some_and(|effects| {
                effects.removed.iter().any(|id| {
                    id.kind == Kind::RowSecurity
                        && (&id.schema, &id.relation) == (&schema, &name)
                        && id.name.starts_with("FORCE")
                })
            });
            if !ended_by_version {
                restored.push(oid.clone());
            }
            lifted.push(oid);
        }
        let all = |oids: &[String], action: &str| match oids {
            [] => String::new(),
            // By identity: the version may rename or drop the table.
            oids => format!(
                "do $tandem$ declare t regclass; begin \
                 for t in select c.oid from pg_catalog.pg_class c where c.oid in ({}) loop \
                 execute pg_catalog.format('alter table %s {action} row level security', t); end loop; end $tandem$;",
                oids.join(", ")
            ),
        };
        // A table with deferred checks to come cannot be altered.
        let restore = format!("set constraints all immediate; {}", all(&restored, "force"));
        Ok(Self {
            lift: all(&lifted, "no force"),
            restore: if lifted.is_empty() { String::new() } else { restore },
        })
    }

    fn is_empty(&self) -> bool {
        self.lift.is_empty()
    }
}

pub(super) enum Stop {
    /// A lock was not to be had within `lock_timeout`, or a deadlock was broken: worth another try.
    Locked(Error),
    /// A right was missing, which row security also says of itself.
    Denied(Error),
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error.code {
            ExitCode::Authentication => Self::Denied(error),
            _ => Self::Failed(error),
        }
    }
}

async fn in_transaction(
    session: &mut Session,
    context: &Context<'_>,
    step: &Apply<'_>,
    unforced: &Unforced,
) -> std::result::Result<Option<Proven>, Stop> {
    let version = step.version;
    let mut stock = step.sql().any(bystanders::may_drop);
    let mut again = false;
    loop {
        let inventory = if stock { Some(context.inventory(session).await?) } else { None };
        let (begin, result) = statements(session, context, step, unforced, stock).await?;
        // Words alone take nothing away.
        let inventory = inventory.filter(|_| !matches!(result, Ok(false)));
        if let Err(failure) = result {
            if failure.code.as_deref() == Some(DROPPED) && !stock {
                session.rollback().await?;
                session.send_prepared_away().await?;
                tracing::debug!(
                    "Version {} dropped something: it is run once more, behind an inventory",
                    version.number
                );
                stock = true;
                continue;
            }
            let broken = failure.code.as_deref() == Some(CONTRACT_BROKEN);
            let (code, origin) = (failure.code.clone(), failure.context.clone());
            let stop = match failed(session, version, &begin, failure).await {
                Stop::Failed(error) => {
                    let error = own_objects(error, code.as_deref(), version, step.before, step.effects);
                    Stop::Failed(event_trigger(session, origin.as_deref(), error).await)
                }
                stop => stop,
            };
            if broken {
                context.held.check(session).await?;
            }
            return Err(stop);
        }
        if step.ends_with_its_statements(stock) {
            return Ok(None);
        }
        let way = if step.back_to.is_some() { "going back from " } else { "" };
        let what = format!("{way}version {} ({})", version.number, version.name);
        // Going back makes again what was there before.
        let first = if step.back_to.is_some() { version.number + 1 } else { version.number };
        let missed = match &inventory {
            Some(inventory) => context.missed(session, &what, first, inventory).await,
            None => Ok(()),
        };
        let proven = match missed {
            Ok(()) => prove(session, context, step, unforced, step.compared || inventory.is_some()).await,
            // What was missed is missing in the next inventory.
            Err(None) if !again => {
                again = true;
                continue;
            }
            Err(None) => Err(bystanders::dropped_meanwhile(&what)),
            Err(Some(error)) => Err(error),
        };
        let found = match proven {
            Ok(found) => found,
            Err(error) => {
                if !error.lost {
                    session.rollback().await?;
                }
                return Err(error.into());
            }
        };
        commit(session, context, step, found.as_ref(), DURATION).await?;
        return Ok(found);
    }
}

impl Apply<'_> {
    /// Nothing is to be looked at behind its statements, so that the end of the transaction goes in the same message.
    fn ends_with_its_statements(&self, stock: bool) -> bool {
        !self.compared && self.version.proof.is_none() && !stock
    }

    /// What the version runs.
    fn sql(&self) -> impl Iterator<Item = &str> {
        let up = self.version.up.as_ref().map(|file| file.text.as_str());
        up.into_iter().chain(self.version.data.as_deref())
    }

    /// Might its SQL end prepared statements? Then what stands around it relies on none.
    fn sends_prepared_away(&self) -> bool {
        self.sql().any(|sql| {
            let sql = sql.to_ascii_lowercase();
            sql.contains("deallocate") || sql.contains("discard")
        })
    }

    /// The statements that run checks.
    async fn checks(&self, session: &mut Session, checks: &[Check]) -> Result<String> {
        match self.sends_prepared_away() {
            true => Ok(unprepared(checks)),
            false => session.prepared(checks).await,
        }
    }
}

/// Begins a transaction and runs a version's statements with what stands around them; ends it where nothing is left to prove.
/// Returns what was in front of the version's own, and whether something was dropped or replaced behind an inventory.
async fn statements(
    session: &mut Session,
    context: &Context<'_>,
    step: &Apply<'_>,
    unforced: &Unforced,
    stock: bool,
) -> std::result::Result<(String, std::result::Result<bool, Failure>), Stop> {
    let version = step.version;
    let up = version.up.as_ref().map_or("", |file| &file.text);
    let data = version.data.as_deref().unwrap_or("");
    let schemas = &context.settings().schemas;
    let dropped = bystanders::dropped();
    let unexpected = if stock { None } else { Some(dropped.as_str()) };
    let assertion = contract_assertion(schemas, Some(&context.held.absence()), unexpected);
    let ends = step.ends_with_its_statements(stock);
    let mut suspects = Suspects::default();
    let mut closely = Closely::at(step.sql());
    loop {
        let watch = guard::watch(
            context.settings(),
            &step.watched,
            &suspects,
            Look::UnlessNothingChanged,
            closely.summed,
        );
        let stray = strays::watch(&step.watched.partly, &closely);
        let mut set_up = vec![search_path_set(schemas)];
        set_up.extend(bystanders::noted());
        let mut behind_locks = Vec::from_iter(watch.kept);
        match watch.look {
            // Others write to them until they are locked.
            Some(look) if !suspects.is_empty() => behind_locks.push(Check::select(&[look])),
            look => set_up.extend(look),
        }
        let Unforced { lift, restore } = unforced;
        let (strays, put_back) = (&stray.after, &step.put_back);
        let mut assertions = vec![assertion.clone()];
        let mut watched = Vec::new();
        match watch.after {
            Some(after) if [strays, put_back, restore].iter().all(|between| between.is_empty()) => {
                assertions.insert(0, after);
            }
            after => watched.extend(after.map(|after| Check::select(&[after]))),
        }
        if stock {
            assertions.push(format!("({dropped} or not pg_catalog.current_setting('track_counts')::bool)"));
        }
        if step.sends_prepared_away() {
            session.forget_prepared();
        }
        let set_up = step.checks(session, &[Check::select(&set_up)]).await?;
        let behind_locks = step.checks(session, &behind_locks).await?;
        let watched = step.checks(session, &watched).await?;
        let assertions = step.checks(session, &[Check::select(&assertions)]).await?;
        let ending = match ends {
            true => ending(session, context, step, None, None, DURATION).await?,
            false => String::new(),
        };
        let mut begin = format!("begin; {set_up}");
        if !step.opening.is_empty() {
            if let Err(failure) = session.batch(format!("{begin}{}", step.opening)).await {
                return Err(Stop::Failed(context.store.unwritable(session, failure).await));
            }
            begin = String::new();
        }
        begin.push_str(lift);
        begin.push_str(&step.archive);
        begin.push_str(&suspects.lock());
        begin.push_str(&behind_locks);
        begin.push_str(&stray.before);
        // A line break ends a comment on the last line of the file.
        let body = format!("{begin}{up}\n;{data}\n;{watched}{strays}{put_back}{restore}{assertions}{ending}");
        let result = session.batch(body).await;
        if let Err(failure) = &result
            && once_more(failure, &mut suspects, &mut closely)
        {
            session.rollback().await?;
            session.send_prepared_away().await?;
            continue;
        }
        let was_dropped = |rows: Vec<sqlx::postgres::PgRow>| {
            use sqlx::Row as _;
            // What cannot be read is looked at.
            let last = rows.last().filter(|row| stock && row.len() > 0)?;
            last.try_get_unchecked::<bool, _>(last.len() - 1).ok()
        };
        return Ok((begin, result.map(|rows| was_dropped(rows).unwrap_or(true))));
    }
}

/// Is a version to be run once more, with something looked at before that turned out to matter?
pub(super) fn once_more(failure: &Failure, suspects: &mut Suspects, closely: &mut Closely) -> bool {
    if closely.closer(failure) {
        return true;
    }
    match Suspects::of(failure) {
        Some(found) if suspects.is_empty() => {
            *suspects = found;
            true
        }
        _ => false,
    }
}

/// Statements outside a transaction, each an end state that the catalog can show: a repetition after a crash finds what
/// is done, and an index that an interrupted build left INVALID is dropped and built again.
async fn without_transaction(
    session: &mut Session,
    context: &Context<'_>,
    step: &Apply<'_>,
    up: &SqlFile,
    unforced: &Unforced,
) -> std::result::Result<Option<Proven>, Stop> {
    let version = step.version;
    context.held.check(session).await?;
    if !(step.opening.is_empty() && step.archive.is_empty())
        && let Err(failure) = session.batch(format!("begin;{}{}commit", step.opening, step.archive)).await
    {
        return Err(Stop::Failed(context.store.unwritable(session, failure).await));
    }
    let started = std::time::Instant::now();
    for statement in sql::statements(&up.text) {
        let place = || {
            let (line, column) = sql::line_column(&up.text, statement.start);
            format!("{}:{line}:{column}", up.path)
        };
        let effect = sql::non_transactional(&statement).ok_or_else(|| {
            Error::new(ExitCode::BadTimeline, format!("{}: this statement could take effect twice", place()))
                .expected("CREATE, DROP or REINDEX INDEX CONCURRENTLY, or VACUUM, in a no-transaction file")
        })?;
        if !needed(session, context, step, &effect).await? {
            continue;
        }
        if let Err(failure) = session.batch(statement.text.to_owned()).await {
            let origin = failure.context.clone();
            let stop = stop(failure, |words| {
                Error::new(
                    ExitCode::StepFailed,
                    format!("{}: version {} failed: {words}", place(), version.number),
                )
                .remedy("an interrupted index is dropped and built again by the next run")
            });
            return Err(match stop {
                Stop::Failed(error) => Stop::Failed(event_trigger(session, origin.as_deref(), error).await),
                stop => stop,
            });
        }
    }
    session.run("opening the transaction", "begin").await?;
    let found = match prove(session, context, step, unforced, step.compared).await {
        Ok(found) => found,
        Err(error) => {
            session.rollback().await?;
            return Err(error.into());
        }
    };
    commit(session, context, step, found.as_ref(), &started.elapsed().as_millis().to_string()).await?;
    Ok(found)
}

/// Is there still something to do for this statement? Clears away what an interrupted one left.
async fn needed(
    session: &mut Session,
    context: &Context<'_>,
    step: &Apply<'_>,
    effect: &NonTransactional,
) -> std::result::Result<bool, Stop> {
    let (schema, name) = match effect {
        NonTransactional::Vacuum => return Ok(true),
        NonTransactional::CreateIndex { index, table } => (qualifier(table), index),
        NonTransactional::DropIndex { index } | NonTransactional::ReindexIndex { index } => {
            match index.last() {
                Some(name) => (qualifier(index), name),
                None => return Ok(true),
            }
        }
    };
    let schema =
        schema.unwrap_or_else(|| context.settings().schemas.first().map_or("public", String::as_str));
    let rows = session
        .run(
            "probing an index",
            format!(
                "select c.relname::text, i.indisvalid from pg_catalog.pg_class c join pg_catalog.pg_index i on i.indexrelid = c.oid \
                 join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
                 where n.nspname = {} and (c.relname = {} or (not i.indisvalid and c.relname ~ {}))",
                literal(schema),
                literal(name),
                literal(&format!("^{}_ccnew[0-9]*$", regex_escape(name))),
            ),
        )
        .await?;
    let mut valid = None;
    // What is dropped outside a transaction cannot be had back.
    if !matches!(effect, NonTransactional::ReindexIndex { .. })
        && let Some(obstacle) = repair::own_index(step.before, context.expected, schema, name)
        && !rows.is_empty()
    {
        let version = step.version;
        return Err(Error::new(
            ExitCode::Refused,
            format!(
                "version {} ({}) drops or makes an index of this name, and it was left as it is: {}",
                version.number, version.name, obstacle.found
            ),
        )
        .expected(format!("no index of your own is called {name}"))
        .remedy(format!("rename it, and start again: {}", obstacle.remedy))
        .into());
    }
    for i in 0..rows.len() {
        let found: String = cell(&rows, i, 0)?;
        let is_valid: bool = cell(&rows, i, 1)?;
        let interrupted =
            !is_valid && (found != *name || matches!(effect, NonTransactional::CreateIndex { .. }));
        if interrupted {
            tracing::warn!(index = found, "Dropping an INVALID index that an interrupted run left");
            let drop = format!("drop index concurrently {}.{}", identifier(schema), identifier(&found));
            if let Err(failure) = session.batch(drop).await {
                return Err(stop(failure, |words| {
                    Error::new(ExitCode::StepFailed, format!("dropping the INVALID index {found}: {words}"))
                }));
            }
        } else if found == *name {
            valid = Some(is_valid);
        }
    }
    Ok(match effect {
        NonTransactional::CreateIndex { .. } => valid.is_none(),
        NonTransactional::DropIndex { .. } => valid.is_some(),
        NonTransactional::ReindexIndex { .. } | NonTransactional::Vacuum => true,
    })
}

fn qualifier(name: &[String]) -> Option<&str> {
    name.len().checked_sub(2).map(|i| name[i].as_str())
}

fn regex_escape(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_alphanumeric() || c == '_' { vec![c] } else { vec!['\\', c] }).collect()
}

/// What going back by these effects should have dropped. Indexes and constraints are known by their structure alone, and may be
/// the user's own; an extension belongs to the database.
fn not_taken_back(back: &Effects, actual: &Catalog) -> Vec<ObjectId> {
    let may_stay = |kind| matches!(kind, Kind::Index | Kind::Constraint | Kind::Extension);
    back.removed.iter().filter(|id| !may_stay(id.kind) && actual.objects.contains_key(id)).cloned().collect()
}

/// Compares the catalog with the expected one and asks the version's own proof.
async fn prove(
    session: &mut Session,
    context: &Context<'_>,
    step: &Apply<'_>,
    unforced: &Unforced,
    compared: bool,
) -> Result<Option<Proven>> {
    let (version, expected) = (step.version, step.expected);
    let mut found = None;
    if compared {
        let proven = read(session, context, step).await?;
        let actual = &proven.catalog;
        let difference = catalog::compare_leniently(actual, expected, step.optional);
        if !difference.is_proof()
            && let Some(below) = step.back_to
        {
            return Err(Error::new(
                ExitCode::Refused,
                format!("the down.sql of version {} ({}) leaves another catalog than that of version {below}, so it was rolled back: {difference}", version.number, version.name),
            )
            .expected(format!("the recorded catalog of version {below}"))
            .remedy("mend the down.sql, and try again"));
        }
        let left = step.effects.filter(|_| step.back_to.is_some()).map(|back| not_taken_back(back, actual));
        if let Some([first, ..]) = left.as_deref() {
            return Err(Error::new(
                ExitCode::Refused,
                format!(
                    "the down.sql of version {} ({}) leaves {first}, which that version makes, so it was rolled back",
                    version.number, version.name
                ),
            )
            .expected("nothing of the version is left")
            .remedy("let the down.sql drop it, and try again"));
        }
        let own = repair::in_the_place(actual, context.expected, expected, &difference);
        if !own.is_empty() {
            let found = format!(
                "version {} ({}) ran beside what has the names of what it makes, so it was rolled back",
                version.number, version.name
            );
            return Err(plan::blocked(Error::new(ExitCode::Refused, found), &own));
        }
        if !difference.is_proof() {
            return Err(Error::new(
                ExitCode::StepFailed,
                format!("version {} ({}) ran, and the catalog is not the expected one, so it was rolled back: {difference}", version.number, version.name),
            )
            .expected(format!("the recorded catalog of version {}", version.number))
            .remedy("if the SQL is right, record its catalog: tandem record"));
        }
        let lost = guard::lost(
            step.before,
            actual,
            step.since,
            &repair::known(context.expected),
            &repair::known_labels(context.expected),
        );
        if !lost.is_empty() {
            let (found, remedy) = repair::taken_away(step.before, &lost);
            return Err(Error::new(
                ExitCode::Refused,
                format!(
                    "version {} ({}) would take away what it is not known to drop, so it was rolled back: {found}",
                    version.number, version.name
                ),
            )
            .expected("everything but what the recorded effects drop is still there afterwards")
            .remedy(remedy));
        }
        found = Some(proven);
    }
    if let Some(proof) = &version.proof
        && !holds(session, &format!("{}{proof}\n;{}", unforced.lift, unforced.restore)).await?
    {
        return Err(Error::new(
            ExitCode::StepFailed,
            format!(
                "version {} ({}) ran, and its [proof] is false, so it was rolled back",
                version.number, version.name
            ),
        )
        .expected(proof.trim().to_owned()));
    }
    Ok(found)
}

/// Reads the catalog: in full behind the last version, with the change detector for the look that follows the run; else what
/// may have changed.
async fn read(session: &mut Session, context: &Context<'_>, step: &Apply<'_>) -> Result<Proven> {
    let schemas = &context.settings().schemas;
    if step.keep {
        let Known { detector, catalog } =
            introspect::introspect_known(session.connection(), schemas, context.exclude).await?;
        return Ok(Proven { catalog, detector: Some(detector), prints: None });
    }
    let before = step.prints.map(|prints| (prints, step.before));
    let Again { catalog, prints, whole } =
        again::read_again(session, schemas, context.exclude, before).await?;
    tracing::debug!(whole, "The catalog was read behind version {}", step.version.number);
    Ok(Proven { catalog, detector: None, prints: Some(prints) })
}

/// Runs a version's statements on a scratch database: no ledger, no comparison.
pub async fn run_statements(session: &mut Session, settings: &Settings, version: &Version) -> Result<()> {
    let up = version.up.as_ref();
    if let Some(file) = up.filter(|file| !file.transaction) {
        for statement in sql::statements(&file.text) {
            let failed = session.batch(statement.text.to_owned()).await;
            failed.map_err(|f| f.into_error(&format!("{}: version {}", file.path, version.number)))?;
        }
        return Ok(());
    }
    let begin = format!("begin; {}", set_search_path(&settings.schemas));
    let body = format!(
        "{begin}{}\n;{}\n;{}commit",
        up.map_or("", |file| &file.text),
        version.data.as_deref().unwrap_or(""),
        unprepared(&[Check::select(&[contract_assertion(&settings.schemas, None, None)])])
    );
    match session.batch(body).await {
        Ok(_) => Ok(()),
        Err(failure) => match failed(session, version, &begin, failure).await {
            Stop::Locked(error) | Stop::Denied(error) | Stop::Failed(error) => Err(error),
        },
    }
}

/// Asks a version's proof.
pub async fn holds(session: &mut Session, proof: &str) -> Result<bool> {
    let rows = session.run("asking a [proof]", proof.to_owned()).await?;
    Ok(cell::<Option<bool>>(&rows, 0, 0)?.unwrap_or(false))
}

async fn commit(
    session: &mut Session,
    context: &Context<'_>,
    step: &Apply<'_>,
    found: Option<&Proven>,
    duration: &str,
) -> Result<()> {
    let catalog = found.map(|found| &found.catalog);
    let digest = catalog.map(Catalog::digest);
    let text = catalog.filter(|_| step.keep).map(Catalog::to_json);
    let sql = ending(session, context, step, digest.as_deref(), text.as_deref(), duration).await?;
    session.run(&format!("committing version {}", step.version.number), sql).await.map(drop)
}

/// What the ledger gets of a version, and the commit.
async fn ending(
    session: &mut Session,
    context: &Context<'_>,
    step: &Apply<'_>,
    digest: Option<&str>,
    catalog: Option<&str>,
    duration: &str,
) -> Result<String> {
    let version = step.version;
    let applied = || Entry {
        version,
        origin: Origin::Applied,
        evidence: None,
        catalog_digest: digest,
        catalog,
        collections_digest: step.collections_digest,
        duration,
    };
    let entry = match step.back_to {
        Some(below) => context.store.step_back(version.number, below, digest, catalog),
        // The ledger may be made in this very transaction.
        None if !step.opening.is_empty() => context.store.record(&applied()),
        None => step.checks(session, &[context.store.record_prepared(&applied())]).await?,
    };
    let Apply { closing, put_back, .. } = step;
    let look_again = if closing.is_empty() && put_back.is_empty() { "" } else { guard::LOOK_AGAIN };
    Ok(format!("{entry}{closing}{look_again}commit"))
}

/// A catalog that cannot be written as JSON is a defect.
pub fn unserialisable(error: serde_json::Error) -> Error {
    Error::new(ExitCode::Bug, format!("a catalog could not be written as JSON: {error}"))
}

pub(super) fn stop(failure: Failure, error: impl FnOnce(String) -> Error) -> Stop {
    let locked = matches!(failure.code.as_deref(), Some("55P03" | "40P01" | "40001"));
    if failure.lost {
        return Stop::Failed(failure.into_error("running a version"));
    }
    let mut error = error(failure.words());
    if failure.code.as_deref() == Some("42501") {
        error.code = ExitCode::Authentication;
        return Stop::Denied(error.remedy(
            "grant the role the missing right, or give tandem a role that has it in TANDEM_DATABASE_URL",
        ));
    }
    if locked { Stop::Locked(error) } else { Stop::Failed(error) }
}

/// A version that was recorded on an empty database, and here meets dependents of what it drops or a name that is taken, meets what
/// is the user's own. That is no fault of the file, and nobody but its owner can get it out of the way.
pub(super) fn own_objects(
    error: Error,
    code: Option<&str>,
    version: &Version,
    before: &Catalog,
    effects: Option<&Effects>,
) -> Error {
    let named = format!("version {} ({})", version.number, version.name);
    match code {
        Some("2BP01") => Error::new(
            ExitCode::Refused,
            format!("your own objects stand on what {named} drops, and nothing has changed: {}", error.found),
        )
        .expected(format!("nothing but the application's own stands on what {named} drops"))
        .remedy(
            "keep the definitions of those that depend on it (pg_get_viewdef, pg_get_functiondef, pg_get_constraintdef), drop them, \
             start again, and make them anew where they still can be; no CASCADE is needed",
        ),
        Some("0A000" | "42601") => {
            let standing = effects.map(|effects| on_converted(before, effects)).unwrap_or_default();
            let standing: Vec<String> = standing
                .into_iter()
                .filter(|(_, name)| catalog::render::mentions(&error.found, name))
                .map(|(id, _)| id.to_string())
                .collect();
            if standing.is_empty() {
                return error;
            }
            Error::new(
                ExitCode::Refused,
                format!(
                    "your own objects stand on a column that {named} converts, and nothing has changed: {}: {}",
                    standing.join(", "),
                    error.found
                ),
            )
            .expected(format!("nothing but the application's own stands on what {named} converts"))
            .remedy(
                "keep their definitions (pg_get_viewdef, pg_get_triggerdef, pg_get_expr for a generated column), drop them, start again, and \
                 make them anew where they still can be",
            )
        }
        // The last ones are what CREATE OR REPLACE says where what is there cannot be replaced.
        Some("42P07" | "42710" | "42701" | "42723" | "42P13" | "42P16" | "42809") => {
            let taken = effects.map(|effects| repair::taken(before, effects)).unwrap_or_default();
            if taken.is_empty() {
                return error;
            }
            let (found, remedies): (Vec<String>, Vec<String>) =
                taken.into_iter().map(|obstacle| (obstacle.found, obstacle.remedy)).unzip();
            Error::new(
                ExitCode::Refused,
                format!("{named} makes what is there, and nothing has changed: {}: {}", found.join(", "), error.found),
            )
            .expected(format!("the names of what {named} makes are free"))
            .remedy(format!("what is your own, rename, and start again: {}", remedies.join("; ")))
        }
        _ => error,
    }
}

/// What can stand on a column whose type a version changes and keep it as it is, with its own name.
fn on_converted(before: &Catalog, effects: &Effects) -> Vec<(ObjectId, String)> {
    let converted: Vec<&ObjectId> = effects
        .changed
        .iter()
        .filter(|(id, object)| match (&object.detail, before.objects.get(id).map(|object| &object.detail)) {
            (Detail::Column(column), Some(Detail::Column(found))) => column.data_type != found.data_type,
            _ => false,
        })
        .map(|(id, _)| id)
        .collect();
    let on = |id: &ObjectId, detail: &Detail, column: &ObjectId| {
        let beside = (&id.schema, &id.relation) == (&column.schema, &column.relation);
        let mentioned = |text: &str| catalog::render::mentions(text, &column.name);
        match detail {
            Detail::Column(other) => {
                beside && other.generated.is_some() && other.default.as_deref().is_some_and(mentioned)
            }
            Detail::View(view) | Detail::MaterializedView(view) => {
                view.reads.iter().any(|read| mentioned(read))
            }
            Detail::Trigger(trigger) => beside && mentioned(&trigger.definition),
            Detail::Policy(policy) => {
                [&policy.using, &policy.check].into_iter().flatten().any(|text| mentioned(text))
            }
            _ => false,
        }
    };
    let standing = before.objects.iter().filter(|(id, object)| {
        converted.iter().any(|column| *id != *column && on(id, &object.detail, column))
    });
    standing
        .map(|(id, _)| (id.clone(), if id.name.is_empty() { &id.relation } else { &id.name }.clone()))
        .collect()
}

/// An event trigger is nobody's but the user's: no version makes one. What it forbids is refused in its name.
pub(super) async fn event_trigger(session: &mut Session, origin: Option<&str>, error: Error) -> Error {
    let Some(origin) = origin.filter(|_| !error.lost) else { return error };
    if let Err(lost) = session.rollback().await {
        return lost;
    }
    let sql = format!(
        "select pg_catalog.quote_ident(e.evtname) from pg_catalog.pg_event_trigger e \
         join pg_catalog.pg_proc p on p.oid = e.evtfoid where e.evtenabled <> 'D' \
         and pg_catalog.strpos({}, pg_catalog.quote_ident(p.proname) || '(') > 0 order by 1 limit 1",
        literal(origin)
    );
    let found: Result<Option<String>> = match session.run("looking for event triggers", sql).await {
        Ok(rows) if rows.is_empty() => Ok(None),
        Ok(rows) => cell(&rows, 0, 0).map(Some),
        Err(error) => Err(error),
    };
    match found {
        Ok(Some(name)) => Error::new(
            ExitCode::Refused,
            format!("the event trigger {name} forbids what is to be done: {}", error.found),
        )
        .expected("no event trigger in the way of tandem's DDL")
        .remedy(format!(
            "have its owner run: alter event trigger {name} disable; start again, and enable it afterwards"
        )),
        Ok(None) => error,
        Err(lost) => lost,
    }
}

/// Names the failing statement by file, line and column, and rolls back.
async fn failed(session: &mut Session, version: &Version, begin: &str, failure: Failure) -> Stop {
    if !failure.lost
        && let Err(error) = session.rollback().await
    {
        return error.into();
    }
    failed_in(version, begin, failure)
}

/// The failing statement, where `begin` is what the batch had before the file.
pub(super) fn failed_in(version: &Version, begin: &str, failure: Failure) -> Stop {
    let place = version.up.as_ref().map_or_else(String::new, |up| place(up, begin, &failure));
    stop(failure, |words| {
        Error::new(ExitCode::StepFailed, format!("{place}version {} ({}) failed and was rolled back: {words}", version.number, version.name))
            .remedy("mend the file, or the data that it met, and start again: nothing of this version remains in either store")
    })
}

/// `file:line:column: statement N: ` of a failure, and the line itself.
fn place(up: &SqlFile, begin: &str, failure: &Failure) -> String {
    let prefix = begin.chars().count();
    let own = sql::statements(&up.text);
    let skipped = sql::statements(begin).len();
    let Some(index) = failure.completed.checked_sub(skipped) else {
        // What the blocks there run is told by the context.
        let of_block = |context: &str| {
            let (statement, _) = context.strip_prefix("SQL statement \"")?.split_once("\"\n")?;
            Some(statement.split_whitespace().collect::<Vec<_>>().join(" "))
        };
        let tried = failure.context.as_deref().and_then(of_block);
        let tried = tried.map_or_else(String::new, |statement| format!(" (`{statement}`)"));
        return format!(
            "{}: in front of its first statement, while what it takes away is kept{tried}: ",
            up.path
        );
    };
    let (line, column) = match failure.position.and_then(|p| p.checked_sub(prefix)) {
        Some(position) if position >= 1 && position <= up.text.chars().count() => {
            sql::line_column_of_position(&up.text, position)
        }
        _ => match own.get(index) {
            Some(statement) => sql::line_column(&up.text, statement.start),
            None => return format!("{}: behind its last statement: ", up.path),
        },
    };
    let text = up.text.lines().nth(line - 1).unwrap_or_default().trim();
    format!("{}:{line}:{column}: statement {} (`{text}`): ", up.path, index + 1)
}

/// What holds locks on the managed schemas' relations, in words: sessions, and transactions that were prepared for a commit in two
/// phases, which no session belongs to. Who is behind an index that is built concurrently may hold no lock at all, only a snapshot.
pub async fn blockers(session: &mut Session, schemas: &[String], waiting: Waiting) -> Result<String> {
    let mode = match waiting {
        Waiting::Reading => "and l.mode = 'AccessExclusiveLock'",
        Waiting::Ddl | Waiting::Concurrently => "",
    };
    let snapshots = match waiting {
        Waiting::Concurrently => {
            "union select a.pid, null from pg_catalog.pg_stat_activity a \
             where a.datname = pg_catalog.current_database() and a.backend_xmin is not null and a.query not like 'autovacuum:%' \
               and coalesce(a.xact_start <= pg_catalog.clock_timestamp() - pg_catalog.current_setting('lock_timeout')::interval, true)"
        }
        Waiting::Ddl | Waiting::Reading => "",
    };
    let sql = format!(
        "with held as (select distinct l.pid, l.virtualtransaction from pg_catalog.pg_locks l \
           join pg_catalog.pg_database d on d.oid = l.database and d.datname = pg_catalog.current_database() \
           join pg_catalog.pg_class c on c.oid = l.relation join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
           where l.granted {mode} and n.nspname in ({}) {snapshots}), \
         named as (select 'pid ' || a.pid || ' ' || coalesce(nullif(a.application_name, ''), a.usename::text, a.backend_type, '?') \
             || ', ' || case when a.query = '<insufficient privilege>' then 'what it does is not shown to this role (grant pg_read_all_stats)' \
               when a.query like 'autovacuum:%' then a.query else coalesce(a.state, a.backend_type, '?') end \
             || coalesce(' for ' || extract(epoch from pg_catalog.clock_timestamp() - a.state_change)::bigint || ' s', '') \
             || coalesce(', query ' || extract(epoch from pg_catalog.clock_timestamp() - a.query_start)::bigint || ' s old', '') \
             || case when a.query like 'autovacuum:%' then ' (it ends by itself; ended, it begins anew)' else '' end as who \
           from held h join pg_catalog.pg_stat_activity a on a.pid = h.pid and a.pid <> pg_catalog.pg_backend_pid() \
           union select pg_catalog.format('prepared transaction %L of %s, %s s old (commit prepared or rollback prepared ends it)', \
             p.gid, p.owner, extract(epoch from pg_catalog.clock_timestamp() - p.prepared)::bigint) \
           from held h join pg_catalog.pg_locks l on l.pid is null and l.locktype = 'transactionid' \
             and l.virtualtransaction = h.virtualtransaction \
           join pg_catalog.pg_prepared_xacts p on p.transaction = l.transactionid where h.pid is null) \
         select coalesce(pg_catalog.string_agg(who, '; '), 'nobody any more') from named",
        schemas.iter().map(|s| literal(s)).collect::<Vec<_>>().join(", ")
    );
    let rows = session.run("asking who holds locks", sql).await?;
    cell(&rows, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_in_front_of_the_file_is_not_put_down_to_its_first_statement() {
        let up = SqlFile {
            path: "0002_b.up.sql".into(),
            text: "\nselect 1;\nselect 2;\n".into(),
            transaction: true,
        };
        let begin = "begin; execute a; do $$ begin perform 1; perform 2; end $$;\n";
        let at = |completed: usize, context: Option<&str>| {
            let failure = Failure {
                code: Some("55P03".into()),
                message: "canceling statement due to lock timeout".into(),
                detail: None,
                hint: None,
                context: context.map(str::to_owned),
                position: None,
                completed,
                lost: false,
            };
            place(&up, begin, &failure)
        };
        let block = "SQL statement \"lock table \"public\".\"users\" in access exclusive mode\"\nPL/pgSQL function inline_code_block line 1";
        for (completed, context, place) in [
            (
                2,
                Some(block),
                "0002_b.up.sql: in front of its first statement, while what it takes away is kept (`lock table \"public\".\"users\" in access exclusive mode`): ",
            ),
            (1, None, "0002_b.up.sql: in front of its first statement, while what it takes away is kept: "),
            (3, None, "0002_b.up.sql:2:1: statement 1 (`select 1;`): "),
            (4, None, "0002_b.up.sql:3:1: statement 2 (`select 2;`): "),
            (5, None, "0002_b.up.sql: behind its last statement: "),
        ] {
            assert_eq!(at(completed, context), place);
        }
    }

    #[test]
    fn two_that_met_a_lock_do_not_try_again_together() {
        let delays = || lock_delays().with_max_times(LOCK_RETRIES).build().collect::<Vec<_>>();
        assert_ne!(delays(), delays());
        assert_eq!(delays().len(), LOCK_RETRIES);
    }
}
