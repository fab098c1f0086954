//! Carrying out a repair: the versions whose effects are missing are run, what is left is completed from the expected catalog, and
//! all of it counts only if the result is the expected catalog and every `[proof]` holds. One transaction.

use super::apply::{self, Context, Stop};
use super::archive::{self, Direction, Watched};
use super::bystanders;
use super::guard::{self, Look, Suspects};
use super::introspect;
use super::session::{
    Check, Failure, Session, cell, contract_assertion, literal, search_path, set_search_path, unprepared,
};
use super::store::Entry;
use super::strays::{self, Closely};
use crate::catalog::render::{Completion, Statement, complete_beside, relation};
use crate::catalog::{Catalog, Detail, Effects, Expected, Kind, ObjectId, compare_leniently};
use crate::error::{Error, ExitCode, Result};
use crate::ledger::Origin;
use crate::repair::{self, Action, Repair};
use crate::timeline::{Number, Timeline, Version};
use std::collections::{BTreeMap, BTreeSet};

/// Errors of statements that make what is there, or change what is not: duplicate and undefined tables, columns, objects and
/// functions.
const CLASHES: [&str; 7] = ["42P07", "42701", "42710", "42723", "42P01", "42703", "42704"];

/// A repair and what its transaction needs besides.
pub struct Step<'a> {
    pub repair: &'a Repair,
    pub timeline: &'a Timeline,
    pub expected: &'a Expected,
    /// The catalog as it was found.
    pub before: &'a Catalog,
    /// Statements at the beginning: the ledger's creation, the run's first journal row.
    pub opening: String,
    /// Statements at the end.
    pub closing: String,
    /// Versions whose ledger rows are right and stay.
    pub recorded: BTreeSet<Number>,
    /// The finding in words, for the ledger.
    pub evidence: &'a str,
}

/// Carries out a repair and commits it, or leaves everything as it was.
pub async fn repair(session: &mut Session, context: &Context<'_>, step: &Step<'_>) -> Result<Catalog> {
    apply::patiently(session, context, "The repair", apply::Waiting::Ddl, async |session| {
        match once(session, context, step).await {
            Ok(catalog) => Ok(catalog),
            Err(stop) => {
                let lost = matches!(&stop, Stop::Locked(error) | Stop::Denied(error) | Stop::Failed(error) if error.lost);
                if !lost {
                    session.rollback().await?;
                }
                Err(stop)
            }
        }
    })
    .await
}

async fn once(
    session: &mut Session,
    context: &Context<'_>,
    step: &Step<'_>,
) -> std::result::Result<Catalog, Stop> {
    let settings = context.settings();
    // What completes only adds.
    let runs = step.repair.actions.iter().any(|(_, action)| *action != Action::Complete);
    let inventory = if runs { Some(context.inventory(session).await?) } else { None };
    let begin = format!("begin; {}{}", set_search_path(&settings.schemas), step.opening);
    if let Err(failure) = session.batch(begin).await {
        return Err(Stop::Failed(context.store.unwritable(session, failure).await));
    }
    for table in &step.repair.reshaped {
        still_empty(session, table).await?;
    }
    let mut there = step.before.clone();
    let mut ran: Vec<&Effects> = Vec::new();
    let mut origins: BTreeMap<Number, Origin> = BTreeMap::new();
    for (number, action) in &step.repair.actions {
        let Some(version) = step.timeline.version(*number) else { continue };
        let effects = step.expected.effects.get(number);
        let action = due(session, version, effects, *action).await?;
        let origin = match action {
            Action::Keep => Origin::Stamped,
            Action::Run => {
                run(session, context, version, &there, effects).await?;
                if let Some(effects) = effects {
                    there.apply(effects);
                    ran.push(effects);
                }
                Origin::Applied
            }
            Action::Complete => {
                let actual = read(session, context).await?;
                let wanted = repair::wanted(*number, &actual, step.expected, &step.repair.actions);
                let missing = complete_beside(&actual, &wanted, &step.repair.reshaped);
                add(session, context, version, &actual, &missing).await?;
                seed(session, context, version, &actual, &made(step.expected, effects)).await?;
                Origin::Completed
            }
        };
        origins.insert(*number, origin);
    }
    let at = step.repair.at;
    let mut actual = read(session, context).await?;
    let required = repair::required(at, &actual, step.expected);
    let rest = complete_beside(&actual, &required, &step.repair.reshaped);
    if !rest.statements.is_empty() {
        let Some(version) = step.timeline.version(at) else { return Err(unknown(at).into()) };
        add(session, context, version, &actual, &rest).await?;
        origins.insert(at, Origin::Completed);
        actual = read(session, context).await?;
    }
    let first = origins.iter().find(|(_, origin)| **origin == Origin::Applied).map(|(number, _)| *number);
    if let (Some(inventory), Some(first)) = (inventory, first) {
        // A version may have sent them away.
        session.forget_prepared();
        let missed = context.missed(session, "the repair", first, &inventory).await;
        missed.map_err(|error| error.unwrap_or_else(|| bystanders::dropped_meanwhile("the repair")))?;
    }
    verify(session, context, step, &actual, &ran).await?;
    record(session, context, step, &actual, &origins).await?;
    Ok(actual)
}

/// Keeps a table without rows from getting any until the end of the transaction, or refuses.
async fn still_empty(session: &mut Session, table: &ObjectId) -> std::result::Result<(), Stop> {
    let name = relation(table);
    let sql = format!("lock table {name} in access exclusive mode; select exists (select from {name})");
    let rows = session.batch(sql).await.map_err(|failure| {
        apply::stop(failure, |words| {
            Error::new(
                ExitCode::Refused,
                format!("{table} cannot be given its form, and nothing has changed: {words}"),
            )
        })
    })?;
    match cell(&rows, 0, 0)? {
        false => Ok(()),
        true => Err(Error::new(
            ExitCode::Refused,
            format!("{table} has got rows since it was looked at, and nothing has changed"),
        )
        .expected("a table without rows, whose columns can be given their form without a loss")
        .remedy("start again: what to do about its rows is said then")
        .into()),
    }
}

fn unknown(number: Number) -> Error {
    Error::new(ExitCode::Bug, format!("version {number} is not in the timeline"))
}

async fn read(session: &mut Session, context: &Context<'_>) -> Result<Catalog> {
    introspect::introspect(session.connection(), &context.settings().schemas, context.exclude).await
}

/// A version that leaves no evidence in the catalog is due if its proof is false by now.
async fn due(
    session: &mut Session,
    version: &Version,
    effects: Option<&Effects>,
    action: Action,
) -> Result<Action> {
    let (Action::Keep, Some(proof)) = (action, &version.proof) else { return Ok(action) };
    if effects.is_none_or(|effects| !effects.is_empty()) || apply::holds(session, proof).await? {
        return Ok(action);
    }
    Ok(if version.up.is_some() { Action::Run } else { Action::Complete })
}

/// Runs a version's statements, as an ordinary run would.
async fn run(
    session: &mut Session,
    context: &Context<'_>,
    version: &Version,
    there: &Catalog,
    effects: Option<&Effects>,
) -> std::result::Result<(), Stop> {
    let kept = archive::statements(context.store, version, Direction::Up, there, effects);
    let watched = archive::watched(context.store, version, Direction::Up, there, effects);
    let up = version.up.as_ref().map_or("", |up| &up.text);
    let data = version.data.as_deref().unwrap_or("");
    let (begin, result) = watch(session, context, &kept, &watched, &[up, data]).await?;
    match result {
        Ok(_) => Ok(()),
        Err(failure) => {
            let (code, origin) = (failure.code.clone(), failure.context.clone());
            let clash = code.as_deref().is_some_and(|code| CLASHES.contains(&code));
            Err(match apply::failed_in(version, &begin, failure) {
                Stop::Failed(error) if clash => Stop::Failed(half_there(error, version, there, effects)),
                Stop::Failed(error) => {
                    let error = apply::own_objects(error, code.as_deref(), version, there, effects);
                    Stop::Failed(apply::event_trigger(session, origin.as_deref(), error).await)
                }
                stop => stop,
            })
        }
    }
}

/// Runs statements behind a savepoint, with what keeps rows and what notices that others are changed. Also returns what stood in
/// front of them.
async fn watch(
    session: &mut Session,
    context: &Context<'_>,
    kept: &str,
    watched: &Watched,
    sql: &[&str],
) -> Result<(String, std::result::Result<(), Failure>)> {
    let schemas = &context.settings().schemas;
    let mut suspects = Suspects::default();
    let mut closely = Closely::at(sql.iter().copied());
    loop {
        let watch = guard::watch(context.settings(), watched, &suspects, Look::Always, closely.summed);
        let strays = strays::watch(&watched.partly, &closely);
        // TRUNCATE gives no other file to a table that has got one in the same transaction, unless a savepoint is between.
        let begin = format!(
            "{}savepoint tandem_watch;{kept}{}{}{}",
            set_search_path(schemas),
            suspects.lock(),
            unprepared(&watch.before()),
            strays.before
        );
        let body = format!(
            "{begin}{}\n;{}{}release savepoint tandem_watch;set constraints all immediate;{}",
            sql.join("\n;"),
            watch.after.map(|after| unprepared(&[Check::select(&[after])])).unwrap_or_default(),
            strays.after,
            unprepared(&[Check::select(&[contract_assertion(schemas, Some(&context.held.absence()), None)])]),
        );
        let result = session.batch(body).await;
        if let Err(failure) = &result
            && apply::once_more(failure, &mut suspects, &mut closely)
        {
            session.run("going back to a savepoint", "rollback to savepoint tandem_watch").await?;
            session.send_prepared_away().await?;
            continue;
        }
        return Ok((begin, result.map(drop)));
    }
}

/// A version of which a part is there, and that converts or drops something, can neither be run nor completed. That is a state
/// of the database and no fault of the file, and nobody but its owner knows how it came to be.
fn half_there(error: Error, version: &Version, there: &Catalog, effects: Option<&Effects>) -> Error {
    let made = || effects.iter().flat_map(|effects| &effects.added).map(|(id, _)| id);
    let whole = |id: &ObjectId| !id.is_part() && there.objects.contains_key(id);
    let of_whole = |id: &ObjectId| {
        made().any(|root| whole(root) && (&root.schema, &root.relation) == (&id.schema, &id.relation))
    };
    let column = |id: &ObjectId| id.kind == Kind::Column && there.objects.contains_key(id) && !of_whole(id);
    let mut found: Vec<String> =
        made().filter(|id| whole(id) || column(id)).map(ToString::to_string).collect();
    if found.is_empty() {
        return error;
    }
    const SHOWN: usize = 10;
    let more = found.len().saturating_sub(SHOWN);
    found.truncate(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let (number, name) = (version.number, &version.name);
    Error::new(
        ExitCode::Refused,
        format!("version {number} ({name}) is half there, and nothing has changed: {}", error.found),
    )
    .expected(format!("all of version {number}, or nothing of it; there is already: {}{more}", found.join(", ")))
    .remedy(format!(
        "finish the version by hand (tandem diff shows what it does), or take away or rename what is there of it if it holds \
         nothing of worth; then start again, or restore a backup from before version {number}"
    ))
}

/// What completing a version adds, at most.
fn made(expected: &Expected, effects: Option<&Effects>) -> Effects {
    let baseline = || expected.baseline.objects.iter().map(|(id, object)| (id.clone(), object.clone()));
    let added = effects.map_or_else(|| baseline().collect(), |effects| effects.added.clone());
    Effects { added, ..Effects::default() }
}

/// Runs the `[data]` of a completed version, which may fill what was added and change what is declared. `there` is the catalog before
/// anything was added.
async fn seed(
    session: &mut Session,
    context: &Context<'_>,
    version: &Version,
    there: &Catalog,
    made: &Effects,
) -> std::result::Result<(), Stop> {
    let Some(data) = &version.data else { return Ok(()) };
    let kept = archive::statements(context.store, version, Direction::Up, there, None);
    let mut watched = archive::watched(context.store, version, Direction::Up, there, Some(made));
    let new = made.added.iter().map(|(id, _)| id);
    let new = new.filter(|id| id.kind == Kind::Table && !there.objects.contains_key(id));
    watched.whole.extend(new.map(archive::qualified));
    let (_, result) = watch(session, context, &kept, &watched, &[data]).await?;
    match result {
        Ok(()) => Ok(()),
        Err(failure) => Err(apply::stop(failure, |words| {
            Error::new(
                ExitCode::Refused,
                format!(
                    "the [data] of version {} ({}) failed, so everything was rolled back: {words}",
                    version.number, version.name
                ),
            )
        })),
    }
}

/// Adds what is missing, each statement behind a savepoint, so that the rows that forbid one can be looked up.
async fn add(
    session: &mut Session,
    context: &Context<'_>,
    version: &Version,
    actual: &Catalog,
    completion: &Completion,
) -> std::result::Result<(), Stop> {
    if completion.statements.is_empty() {
        return Ok(());
    }
    let mut path = context.settings().schemas.clone();
    for object in actual.objects.values() {
        if let Detail::Extension(extension) = &object.detail
            && !path.contains(&extension.schema)
        {
            path.push(extension.schema.clone());
        }
    }
    const BEFORE: usize = 2;
    const EACH: usize = 3;
    let mut body = format!(
        "select pg_catalog.set_config('search_path', {}, true); set local check_function_bodies = off;",
        literal(&search_path(&path))
    );
    for statement in &completion.statements {
        body.push_str(&format!("savepoint tandem_add;\n{}\n;release savepoint tandem_add;", statement.sql));
    }
    body.push_str(&format!("reset check_function_bodies; {}", set_search_path(&context.settings().schemas)));
    let Err(failure) = session.batch(body).await else {
        tracing::info!(
            "Completed version {} ({}) with {}",
            version.number,
            version.name,
            crate::words::count(completion.statements.len(), "statement")
        );
        return Ok(());
    };
    let failed = completion.statements.get(failure.completed.saturating_sub(BEFORE) / EACH);
    let remedy = match failed {
        Some(statement) if !failure.lost => forbidding(session, statement, &failure).await?,
        _ => None,
    };
    let what = failed.map_or_else(String::new, |statement| statement.object.to_string());
    Err(apply::stop(failure, |words| {
        let error = Error::new(
            ExitCode::Refused,
            format!(
                "{what} of version {} ({}) could not be completed, so everything was rolled back: {words}",
                version.number, version.name
            ),
        );
        match (remedy, failed) {
            (Some((rows, query)), _) => error.expected(format!("no such rows: {rows}")).remedy(format!(
                "mend or remove these rows, then start again; this finds all of them: {query}"
            )),
            (None, Some(statement)) => error.expected(statement.sql.clone()),
            (None, None) => error,
        }
    }))
}

/// Which rows forbid a statement, the first ten by key and how many; and the query that finds all.
async fn forbidding(
    session: &mut Session,
    statement: &Statement,
    failure: &Failure,
) -> Result<Option<(String, String)>> {
    let by_data = matches!(failure.code.as_deref(), Some("23502" | "23503" | "23505" | "23514"));
    let Some(offenders) = statement.offenders.as_ref().filter(|_| by_data) else { return Ok(None) };
    session.run("going back to a savepoint", "rollback to savepoint tandem_add").await?;
    let rows = match session.batch(offenders.first_ten()).await {
        Ok(rows) if !rows.is_empty() => rows,
        Ok(_) => return Ok(None),
        Err(failure) if failure.lost => return Err(failure.into_error("looking for the rows in the way")),
        Err(_) => return Ok(None),
    };
    let mut named = Vec::with_capacity(rows.len());
    for i in 0..rows.len() {
        named.push(cell::<String>(&rows, i, 0)?);
    }
    let all: i64 = cell(&rows, 0, 1)?;
    let table = offenders.table.replace('"', "");
    let more = if usize::try_from(all).is_ok_and(|all| all > named.len()) { ", …" } else { "" };
    Ok(Some((format!("{all} in {table}: {}{more}", named.join(", ")), offenders.all())))
}

/// The result must be the expected catalog, nothing else may be gone, and every proof must hold.
async fn verify(
    session: &mut Session,
    context: &Context<'_>,
    step: &Step<'_>,
    actual: &Catalog,
    ran: &[&Effects],
) -> Result<()> {
    let (at, expected) = (step.repair.at, step.expected);
    let catalog = expected.catalog_at(at).unwrap_or_default();
    let refused = |found: String| {
        Error::new(ExitCode::Refused, format!("the repair was rolled back, and nothing has changed: {found}"))
            .expected(format!("the catalog of version {at}, with everything else as it was"))
            .remedy("bring what differs to the expected form by hand, or restore a backup; then start again")
    };
    let difference = compare_leniently(actual, &catalog, expected.optional_at(at));
    if !difference.is_proof() {
        return Err(refused(difference.to_string()));
    }
    let removed = ran.iter().flat_map(|effects| &effects.removed);
    let left: Vec<String> = removed
        .filter(|id| !catalog.objects.contains_key(id) && actual.objects.contains_key(id))
        .map(ToString::to_string)
        .collect();
    if !left.is_empty() {
        return Err(refused(format!(
            "versions that drop these were run, and they are still there: {}",
            left.join(", ")
        )));
    }
    let lost = guard::lost(
        step.before,
        actual,
        ran,
        &repair::known(context.expected),
        &repair::known_labels(context.expected),
    );
    if !lost.is_empty() {
        let (found, remedy) = repair::taken_away(step.before, &lost);
        return Err(refused(format!("these would be gone: {found}")).remedy(remedy));
    }
    for (number, _) in &step.repair.actions {
        if let Some(version) = step.timeline.version(*number)
            && let Some(proof) = &version.proof
            && !apply::holds(session, proof).await?
        {
            return Err(refused(format!("the [proof] of version {number} ({}) is false", version.name)));
        }
    }
    Ok(())
}

/// The ledger rows, and the end of the transaction.
async fn record(
    session: &mut Session,
    context: &Context<'_>,
    step: &Step<'_>,
    actual: &Catalog,
    origins: &BTreeMap<Number, Origin>,
) -> std::result::Result<(), Stop> {
    let (digest, text) = (actual.digest(), actual.to_json());
    let mut sql = String::new();
    let stays = |number: Number, origin: Origin| origin == Origin::Stamped && step.recorded.contains(&number);
    let renewed: Vec<Number> = origins
        .iter()
        .filter(|(number, origin)| step.recorded.contains(number) && !stays(**number, **origin))
        .map(|(number, _)| *number)
        .collect();
    sql.push_str(&context.store.forget_rows(&renewed));
    for (number, origin) in origins.iter().filter(|(number, origin)| !stays(**number, **origin)) {
        let Some(version) = step.timeline.version(*number) else { continue };
        let newest = *number == step.repair.at;
        let recorded = step.expected.index.version(*number).map(|version| version.digest.as_str());
        sql.push_str(&context.store.record(&Entry {
            version,
            origin: *origin,
            evidence: Some(step.evidence),
            catalog_digest: if newest { Some(&digest) } else { recorded },
            catalog: newest.then_some(text.as_str()),
            collections_digest: None,
            duration: "0",
        }));
    }
    sql.push_str(&step.closing);
    sql.push_str("commit");
    match session.batch(sql).await {
        Ok(_) => Ok(()),
        Err(failure) => Err(Stop::Failed(context.store.unwritable(session, failure).await)),
    }
}
