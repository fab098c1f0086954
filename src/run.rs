//! What a start does, top to bottom: wait, look, prove, plan, commit in Postgres, publish in Qdrant.

use crate::adoption;
use crate::catalog::Expected;
use crate::collection::{self, Action, Observed, PointId, Stage, Step};
use crate::config::Complete;
use crate::error::{Error, ExitCode, Result};
use crate::inspect::{self, Inspection, Stores, Subject};
use crate::ledger::{self, Origin, Phase};
use crate::plan::{self, Plan};
use crate::postgres::again;
use crate::postgres::apply::{self, Apply, Context};
use crate::postgres::archive::{self, Direction};
use crate::postgres::introspect::Known;
use crate::postgres::lock::{self, Key};
use crate::postgres::putback::Move;
use crate::postgres::repair;
use crate::postgres::session::cell;
use crate::postgres::store::Entry;
use crate::progress::Meter;
use crate::qdrant;
use crate::retained;
use crate::timeline::lint;
use crate::timeline::lint::refuse;
use crate::timeline::{Check, Number, Timeline};
use crate::verdict;
use crate::words::count;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often a lost connection is followed by another look.
const RECONNECTIONS: u32 = 3;

/// How a start goes about its work.
pub struct Options<'a> {
    pub migrations: &'a Path,
    /// How long to wait for a lock without progress of its holder; `None` has no bound.
    pub lock_patience: Option<Duration>,
    /// `lock_timeout` of DDL.
    pub ddl_lock_timeout: Duration,
    /// Advanced by whatever takes long.
    pub meter: &'a Meter,
}

/// Brings both stores to the head of the timeline. When it returns, both are proven to be there.
///
/// `connect` waits for both stores; it is asked again when a connection was lost, because only a new look tells what the
/// lost one achieved.
pub async fn bring_to_head<F>(
    mut connect: impl FnMut() -> F,
    subject: &Subject<'_>,
    options: &Options<'_>,
) -> Result<()>
where
    F: Future<Output = Result<Stores>>,
{
    let mut lost = 0;
    loop {
        let mut stores = connect().await?;
        let done = attempt(&mut stores, subject, options).await;
        if done.as_ref().is_err_and(|error| !error.lost) {
            // A collection that an interrupted rebuild left fenced off is for the application that goes on without this start.
            let opened = match stores.session.rollback().await {
                Ok(()) => open_fences(&mut stores, subject, Some(Duration::ZERO)).await,
                Err(error) => Err(error),
            };
            if let Err(error) = opened {
                tracing::debug!("{}", error.found);
            }
        }
        match done {
            Err(error) if error.lost && lost < RECONNECTIONS => {
                lost += 1;
                tracing::warn!("{}; looking again on a new connection what was done", error.found);
            }
            result => return result,
        }
    }
}

async fn attempt(stores: &mut Stores, subject: &Subject<'_>, options: &Options<'_>) -> Result<()> {
    let started = Instant::now();
    tracing::info!("Checking database initialization");
    let head = subject.timeline.head().map_or(0, |v| v.number);
    if inspect::at_head(stores, subject).await? {
        complete("both stores at head, unchanged since their last proof", head, subject.timeline, started);
        return Ok(());
    }
    let expected = inspect::load_expected(options.migrations, subject.timeline)?;
    let inspection = inspect::inspect(stores, subject, &expected).await?;
    let plan = inspection.plan(subject)?;
    announce(&plan);
    if plan.ahead {
        open_fences(stores, subject, options.lock_patience).await?;
        complete("the ledger is ahead and allows this image", plan.target, subject.timeline, started);
        return Ok(());
    }
    if subject.complete == Complete::Plan && !plan.complete.is_empty() {
        return Err(plan::incomplete(&plan, &plan.complete));
    }
    refuse(&lint::lint(subject.timeline, |number| plan.runs(number)))?;
    refuse(&lint::together(subject.timeline, |number| plan.runs_in_repair(number)))?;
    if plan.has_effects() {
        let schemas = &subject.timeline.settings.schemas;
        let lock_timeout = options.ddl_lock_timeout.as_millis().try_into().unwrap_or(u64::MAX);
        stores.session.establish_contract(schemas, lock_timeout).await?;
    }
    if let Some(client) = stores.qdrant.as_ref().filter(|_| plan.has_steps()) {
        client.may_manage().await?;
        // A point that cannot be filled is found before Postgres is changed, and not behind its commit.
        for step in plan.collections.iter().flat_map(|collection| &collection.steps) {
            match &step.action {
                Action::Fill { fills, .. } => {
                    client.unfilled(&step.collection, fills, options.meter).await?;
                }
                Action::Rebuild { rebuild, stage, .. } => {
                    client.rebuildable(rebuild, *stage, options.meter).await?;
                    if *stage == Stage::Copy && !rebuild.fills.is_empty() {
                        client.unfilled(&step.collection, &rebuild.fills, options.meter).await?;
                    }
                }
                _ => {}
            }
        }
    }
    if plan.is_empty() {
        remember(stores, subject, &inspection, head).await;
    } else {
        let mut known = Some(inspection.known());
        if !plan.postgres_is_empty() {
            known = commit_postgres(stores, subject, options, &expected, known).await?;
        }
        let known = publish(stores, subject, options, &expected, known).await?;
        // An instance with a newer target may have gone on while this one published.
        if subject.exactly {
            inspect::inspect_again(stores, subject, &expected, Some(known)).await?.plan(subject)?;
        }
    }
    complete("both stores at head", head, subject.timeline, started);
    Ok(())
}

/// The Postgres phase: under the timeline's lock, looked at once more, a transaction a version.
///
/// Returns the catalog that it has proven last.
async fn commit_postgres(
    stores: &mut Stores,
    subject: &Subject<'_>,
    options: &Options<'_>,
    expected: &Expected,
    known: Option<Known>,
) -> Result<Option<Known>> {
    let timeline = subject.timeline;
    let key = Key::Timeline(timeline.settings.application.clone());
    let held = lock::acquire(&mut stores.session, subject.store, key, options.lock_patience).await?;
    let inspection = inspect::inspect_again(stores, subject, expected, known).await?;
    let plan = inspection.plan(subject)?;
    if plan.postgres_is_empty() {
        tracing::info!("Another instance did the work on Postgres meanwhile");
        held.release(&mut stores.session).await?;
        return Ok(Some(inspection.known()));
    }
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    let store = subject.store;
    let mut opening = opening(stores, subject, &inspection, &plan).await?;
    let committed = format!(
        "{}{}",
        store.journal(&store.current_epoch(), plan.target, Phase::Committed, None, None),
        if stores.qdrant.is_none() {
            store.end(&store.current_epoch(), plan.target, Phase::Published)
        } else {
            String::new()
        }
    );
    for number in &plan.heal {
        if let Some(version) = timeline.version(*number) {
            tracing::info!(
                "Version {number}: the file changed and its statements did not; its checksum is renewed"
            );
            opening.push_str(&store.heal(version));
        }
    }
    let declared = declared_digest(timeline, plan.target);
    let last = plan.apply.last().copied();
    opening.push_str(&store.forget_rows(&plan.forget));
    let mirror = |at: Number| adoption::mirror(timeline, &inspection.foreign, at);
    if !plan.stamp.is_empty() {
        let at = plan.stamp.last().copied().unwrap_or_default();
        let closing = format!("{}{}", mirror(at)?, if last.is_none() { committed.as_str() } else { "" });
        stamp(stores, subject, expected, &inspection, &plan, &mut opening, &closing).await?;
    }
    let context = Context { timeline, expected, store, exclude: subject.exclude, held: &held };
    let proven = plan.repair.last().map(|(at, _)| *at).or(plan.stamp.last().copied());
    // The actual catalog as it was last read, and what versions have changed since.
    let mut actual = inspection.catalog.clone();
    if let verdict::Postgres::Partial { repair: found, .. } = &inspection.verdict {
        held.check(&mut stores.session).await?;
        let rows = inspection.ledger.iter().flat_map(|ledger| &ledger.rows).map(|row| row.version);
        let over = rows.clone().filter(|version| *version > found.at).collect::<Vec<_>>();
        let step = repair::Step {
            repair: found,
            timeline,
            expected,
            before: &inspection.catalog,
            opening: format!("{}{}", std::mem::take(&mut opening), store.forget_rows(&over)),
            closing: format!("{}{}", mirror(found.at)?, if last.is_none() { committed.as_str() } else { "" }),
            recorded: rows.collect(),
            evidence: &plan.postgres,
        };
        actual = repair::repair(&mut stores.session, &context, &step).await?;
        tracing::info!("Repaired {}: it is at version {}", timeline.settings.application, found.at);
    }
    let at = proven
        .or(plan
            .forget
            .first()
            .and_then(|first| timeline.versions.iter().map(|v| v.number).rfind(|n| n < first)))
        .or(inspection.ledger.as_ref().map(|ledger| ledger.at()));
    // The expected catalogs before and after a version.
    let mut before = at.and_then(|at| expected.catalog_at(at)).unwrap_or_default();
    let mut catalog = before.clone();
    let mut since = Vec::new();
    let mut proven_by = None;
    // Taking them costs less than a reading and more than nothing.
    let mut prints = None;
    if plan.apply.len() > 1 && timeline.settings.check == Check::EachVersion && plan.repair.is_empty() {
        let schemas = &timeline.settings.schemas;
        prints =
            again::prints_of(&mut stores.session, schemas, subject.exclude, &inspection.detector).await?;
    }
    let downgraded = match inspection.ledger.is_some() && !plan.apply.is_empty() {
        true => store.downgraded(&mut stores.session).await?,
        false => BTreeSet::new(),
    };
    for version in plan.apply.iter().filter_map(|number| timeline.version(*number)) {
        let is_last = Some(version.number) == last;
        let begun = Instant::now();
        let effects = expected.effects.get(&version.number);
        let mut archive = archive::statements(store, version, Direction::Up, &catalog, effects);
        let watched = archive::watched(store, version, Direction::Up, &catalog, effects);
        since.extend(effects);
        match effects {
            Some(effects) => catalog.apply(effects),
            None => catalog.clone_from(&expected.baseline),
        }
        let (from, to) = (&before, &catalog);
        let way = Move { store, version, direction: Direction::Up, from, to };
        let mut put_back = String::new();
        if downgraded.contains(&version.number) {
            let back = way.put_back();
            archive.insert_str(0, &back.before);
            put_back.push_str(&back.after);
        }
        // The first version meets no rows.
        put_back.push_str(&effects.map_or_else(String::new, |effects| way.became(effects)));
        let compared = is_last || timeline.settings.check == Check::EachVersion;
        let step = Apply {
            version,
            opening: std::mem::take(&mut opening),
            archive,
            watched,
            put_back,
            back_to: None,
            closing: format!("{}{}", mirror(version.number)?, if is_last { committed.as_str() } else { "" }),
            expected: &catalog,
            compared,
            optional: expected.optional_at(version.number),
            keep: is_last,
            collections_digest: is_last.then_some(declared.as_str()),
            effects,
            before: &actual,
            prints: prints.as_ref(),
            since: &since,
        };
        if let Some(found) = apply::apply(&mut stores.session, &context, &step).await? {
            (actual, proven_by, prints) = (found.catalog, found.detector, found.prints);
            since.clear();
        }
        match effects {
            Some(effects) => before.apply(effects),
            None => before.clone_from(&catalog),
        }
        tracing::info!(
            "Applied version {} ({}) in {} ms",
            version.number,
            version.name,
            begun.elapsed().as_millis()
        );
    }
    if !opening.is_empty() {
        stores.session.run("writing the ledger", format!("begin;{opening}{committed}commit")).await?;
    }
    held.release(&mut stores.session).await?;
    Ok(proven_by.map(|detector| Known { detector, catalog: actual }))
}

/// What the run's first transaction begins with: the ledger if there is none, the epoch, the first journal row, and the
/// end of runs that died.
async fn opening(
    stores: &mut Stores,
    subject: &Subject<'_>,
    inspection: &Inspection<'_>,
    plan: &Plan,
) -> Result<String> {
    let store = subject.store;
    let mut sql = String::new();
    if inspection.ledger.is_none() && !store.tables_exist(&mut stores.session).await? {
        sql.push_str(&store.creation(store.schema_exists(&mut stores.session).await?));
    }
    sql.push_str(&store.next_epoch());
    for run in &plan.resume {
        sql.push_str(&store.end(&run.epoch.to_string(), run.target, Phase::Abandoned));
    }
    sql.push_str(&store.journal(&store.current_epoch(), plan.target, Phase::Prepare, None, None));
    Ok(sql)
}

/// Records the versions that the catalog proves, with the evidence, in one transaction.
async fn stamp(
    stores: &mut Stores,
    subject: &Subject<'_>,
    expected: &Expected,
    inspection: &Inspection<'_>,
    plan: &Plan,
    opening: &mut String,
    closing: &str,
) -> Result<()> {
    let digest = inspection.catalog.digest();
    let catalog = inspection.catalog.to_json();
    let newest = plan.stamp.last().copied();
    let mut sql = format!("begin;{}", std::mem::take(opening));
    for version in plan.stamp.iter().filter_map(|number| subject.timeline.version(*number)) {
        let is_newest = Some(version.number) == newest;
        let recorded = expected.index.version(version.number).map(|r| r.digest.as_str());
        sql.push_str(&subject.store.record(&Entry {
            version,
            origin: match &inspection.verdict {
                verdict::Postgres::Adopted { .. } => Origin::Adopted,
                _ => Origin::Stamped,
            },
            evidence: Some(&plan.postgres),
            catalog_digest: if is_newest { Some(&digest) } else { recorded },
            catalog: is_newest.then_some(catalog.as_str()),
            collections_digest: None,
            duration: "0",
        }));
    }
    sql.push_str(closing);
    sql.push_str("commit");
    if let Err(failure) = stores.session.batch(sql).await {
        return Err(subject.store.unwritable(&mut stores.session, failure).await);
    }
    tracing::info!(
        "Stamped {} of {}: {}",
        count(plan.stamp.len(), "version"),
        subject.timeline.settings.application,
        plan.postgres
    );
    Ok(())
}

/// The Qdrant phase: every managed collection under its own lock, looked at once more, a journal row around each step.
/// From here on a run only rolls forward; the next start takes it up where it ends.
async fn publish(
    stores: &mut Stores,
    subject: &Subject<'_>,
    options: &Options<'_>,
    expected: &Expected,
    known: Option<Known>,
) -> Result<Known> {
    let inspection = inspect::inspect_again(stores, subject, expected, known).await?;
    let plan = inspection.plan(subject)?;
    for work in plan.collections.iter().filter(|work| work.publish) {
        publish_collection(stores, subject, options, &inspection, &plan, &work.name).await?;
    }
    // What is still open is this run, or one that died between its last effect and its end.
    let store = subject.store;
    let mut sql = String::new();
    for run in &plan.resume {
        let end = if run.phase == Phase::Prepare { Phase::Abandoned } else { Phase::Published };
        sql.push_str(&store.end(&run.epoch.to_string(), run.target, end));
    }
    if stores.qdrant.is_some() {
        sql.push_str(&store.end_own(plan.target));
    }
    if !sql.is_empty() {
        match stores.session.run("ending the run", format!("begin;{sql}commit")).await {
            // A role that may only read cannot end what another one left; that is no reason not to start.
            Err(error) if !plan.has_effects() && !error.lost => stores.session.rollback().await?,
            result => drop(result?),
        }
    }
    remember(stores, subject, &inspection, plan.target).await;
    Ok(inspection.known())
}

/// Waits until no call that destroys can still be on its way from a run that was interrupted in one: what is looked at then
/// stays.
async fn outlast(step: &Step, age: i64) {
    let destroys = matches!(step.action, Action::Rebuild { stage: Stage::SwitchAlias | Stage::Replace, .. });
    let age = Duration::from_millis(age.try_into().unwrap_or_default());
    let left = (2 * qdrant::GIVEN_UP).saturating_sub(age);
    if destroys && !left.is_zero() {
        tracing::info!(
            "A run was interrupted at: {step}; waiting {} ms for its calls to end",
            left.as_millis()
        );
        tokio::time::sleep(left).await;
    }
}

/// Lets writers in again where an interrupted rebuild kept them out and this start does not go on with it.
async fn open_fences(stores: &mut Stores, subject: &Subject<'_>, patience: Option<Duration>) -> Result<()> {
    let Some(client) = stores.qdrant.clone() else { return Ok(()) };
    let head = subject.timeline.head().map_or(0, |v| v.number);
    let declarations = subject.timeline.collections_at(head);
    let survey = inspect::survey(Some(&client), declarations, subject.all_collections).await?;
    let fenced = |found: &inspect::Found<'_>| found.observed.as_ref().is_some_and(|o| o.fence.is_some());
    for found in survey.found.into_iter().filter(fenced) {
        // Whoever holds the lock may be at work behind the fence.
        let key = Key::Collection(found.name.clone());
        let held = lock::acquire(&mut stores.session, subject.store, key, patience).await?;
        client.open_fence(&found.name).await?;
        tracing::info!("{}", Step { collection: found.name, action: Action::OpenFence });
        held.release(&mut stores.session).await?;
    }
    Ok(())
}

async fn publish_collection(
    stores: &mut Stores,
    subject: &Subject<'_>,
    options: &Options<'_>,
    inspection: &Inspection<'_>,
    plan: &Plan,
    name: &str,
) -> Result<()> {
    let store = subject.store;
    let Some(client) = stores.qdrant.as_ref() else { return Ok(()) };
    let held =
        lock::acquire(&mut stores.session, store, Key::Collection(name.to_owned()), options.lock_patience)
            .await?;
    let interrupted = store.interrupted(&mut stores.session, name).await?;
    let interrupted =
        interrupted.and_then(|(json, age)| Some((serde_json::from_str::<Step>(&json).ok()?, age)));
    if let Some((step, age)) = &interrupted {
        outlast(step, *age).await;
    }
    let interrupted = interrupted.map(|(step, _)| step);
    let declarations = subject.timeline.collections_at(plan.target);
    let survey = inspect::survey(Some(client), declarations, subject.all_collections).await?;
    let Some(found) = survey.found.into_iter().find(|f| f.name == name) else {
        // Another instance may have led the alias to a rebuilt one: what is there now is looked at from the start.
        return Err(Error::overtaken(format!(
            "collection {name} was replaced or deleted while this run was at work"
        )));
    };
    let mut steps = inspection.collection(&found, plan, subject)?.steps;
    // The aliases of a collection go with it, and only the journal knows of them then.
    if let Some(Action::Rebuild { rebuild: before, .. }) = interrupted.as_ref().map(|step| &step.action)
        && found.observed.as_ref().is_none_or(Observed::is_shadow)
    {
        for step in &mut steps {
            if let Action::Rebuild { rebuild, .. } = &mut step.action
                && rebuild.shadow == before.shadow
            {
                rebuild.aliases.extend(before.aliases.iter().cloned());
            }
        }
    }
    let rebuilt = steps.iter().filter_map(|step| match &step.action {
        Action::Rebuild { rebuild, .. } => Some([rebuild.source.as_str(), rebuild.shadow.as_str()]),
        _ => None,
    });
    client.take_over(&rebuilt.flatten().chain([name]).collect()).await?;
    let sql = format!(
        "begin;{}{}commit",
        store.next_epoch(),
        store.journal(&store.current_epoch(), plan.target, Phase::Prepare, Some(name), None)
    );
    let rows = stores.session.run("opening the journal", sql).await?;
    let epoch: i64 = cell(&rows, 0, 0)?;
    let epoch = epoch.to_string();
    // A rebuild behind an alias ends with another collection, and one that an older image began at its version.
    let (mut live, mut at) = (found.name.clone(), plan.target);
    let mut earlier = None;
    for step in &steps {
        let json = serde_json::to_string(step).map_err(apply::unserialisable)?;
        held.check(&mut stores.session).await?;
        let intent = store.journal(&epoch, plan.target, Phase::Intent, Some(name), Some(&json));
        stores.session.run("journalling a step", intent).await?;
        match &step.action {
            Action::Fill { fills, .. } => {
                let from = match interrupted.as_ref().map(|step| &step.action) {
                    Some(Action::Fill { fills: those, from }) if those == fills => from.as_ref(),
                    _ => None,
                };
                let note = async |next: Option<&PointId>| {
                    held.check(&mut stores.session).await?;
                    let step = next.map(|next| Step {
                        collection: name.to_owned(),
                        action: Action::Fill { fills: fills.clone(), from: Some(next.clone()) },
                    });
                    let json = step.as_ref().map(serde_json::to_string).transpose();
                    let sql = store.note(&epoch, name, json.map_err(apply::unserialisable)?.as_deref());
                    stores.session.run("journalling how far a fill has come", sql).await.map(drop)
                };
                client.fill(name, fills, from, options.meter, note).await?;
            }
            Action::Rebuild { rebuild, stage, .. } => {
                let from = match interrupted.as_ref().map(|step| &step.action) {
                    Some(Action::Rebuild { rebuild: that, stage: Stage::Copy, from })
                        if *stage == Stage::Copy && that.shadow == rebuild.shadow =>
                    {
                        from.as_ref()
                    }
                    _ => None,
                };
                live = rebuild.live().to_owned();
                retained::before(&mut stores.session, store, client, rebuild, *stage).await?;
                let note = async |next: Option<&PointId>| {
                    held.check(&mut stores.session).await?;
                    let step = next.map(|next| Step {
                        collection: name.to_owned(),
                        action: Action::Rebuild {
                            rebuild: rebuild.clone(),
                            stage: *stage,
                            from: Some(next.clone()),
                        },
                    });
                    let json = step.as_ref().map(serde_json::to_string).transpose();
                    let sql = store.note(&epoch, name, json.map_err(apply::unserialisable)?.as_deref());
                    stores.session.run("journalling how far a rebuild has come", sql).await.map(drop)
                };
                earlier = client.rebuild(rebuild, *stage, from, earlier, options.meter, note).await?;
                retained::after(&mut stores.session, store, client, rebuild, *stage).await?;
                at = rebuild.stamp.version;
            }
            _ => client.perform(step).await?,
        }
        tracing::info!("{step}");
        let done = store.journal(&epoch, plan.target, Phase::Done, Some(name), Some(&json));
        stores.session.run("journalling a step", done).await?;
    }
    held.check(&mut stores.session).await?;
    let sql = format!("begin;{}{}commit", store.publish(&live, at), store.end(&epoch, at, Phase::Published));
    stores.session.run("publishing a collection", sql).await?;
    held.release(&mut stores.session).await?;
    if at == plan.target {
        return Ok(());
    }
    let mut behind = Error::new(ExitCode::Refused, format!("collection {live} is at version {at} now"))
        .expected(format!("version {}", plan.target))
        .remedy("start again");
    behind.lost = true;
    Err(behind)
}

/// Stores the change detector of a full proof, so that the next start can trust it. A role that may only read, or a
/// standby, starts just as well without.
async fn remember(stores: &mut Stores, subject: &Subject<'_>, inspection: &Inspection<'_>, head: Number) {
    let proven = inspection
        .ledger
        .as_ref()
        .is_some_and(|l| l.at() == head && l.detector != Some((inspection.detector.clone(), head)));
    if !proven {
        return;
    }
    let detector = crate::postgres::session::literal(&inspection.detector);
    if let Err(failure) = stores.session.batch(subject.store.proven(&detector, head)).await {
        tracing::debug!(
            reason = failure.words(),
            "The proof could not be stored; the next start proves again"
        );
        // What comes next on a lost session says so.
        let _ = stores.session.rollback().await;
    }
}

fn announce(plan: &Plan) {
    tracing::info!("Postgres is {}", plan.postgres);
    for run in &plan.resume {
        tracing::info!(
            epoch = run.epoch,
            phase = run.phase.as_str(),
            "Resuming after a run that did not reach its end"
        );
    }
    for collection in &plan.collections {
        tracing::info!(
            collection = collection.name,
            "Collection is {}; {} to take",
            collection.found,
            count(collection.steps.len(), "step")
        );
    }
}

fn complete(how: &str, at: Number, timeline: &Timeline, started: Instant) {
    let release = timeline.version(at).and_then(|v| v.release.as_deref());
    tracing::info!(
        version = at,
        release,
        ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "Database initialization complete: {how}"
    );
}

/// One digest over everything that is declared of Qdrant at a version.
fn declared_digest(timeline: &Timeline, at: Number) -> String {
    let declared = timeline
        .collections_at(at)
        .iter()
        .map(|c| format!("{} {}", c.matching, collection::digest(&c.schema)));
    ledger::hex(&Sha256::digest(declared.collect::<Vec<_>>().join("\n")))
}
