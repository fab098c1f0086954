//! What each command does with the settings in force.

use crate::cli::{ArchiveAction, Command, RetainedAction, SnapshotAction};
use crate::config::{MissingDatabase, OnRefusal, PostgresSettings, Settings};
use crate::error::{Error, ExitCode, Result};
use crate::inspect::{self, Stores, Subject};
use crate::postgres;
use crate::postgres::introspect::Exclude;
use crate::postgres::lock::{self, Key};
use crate::postgres::putback;
use crate::postgres::session::{Backend, Session};
use crate::postgres::store::Store;
use crate::probe::{Board, Phase, Responder};
use crate::progress::Meter;
use crate::retained::{Kind, Retained};
use crate::timeline::create::Parts;
use crate::timeline::{self, Number, Timeline, lint};
use crate::wait;
use crate::words;
use crate::{
    diff, downgrade, event, history, operate, plan, progress, qdrant, record, report, retained, run, stamp,
    termination, upgrade,
};
use std::ffi::OsString;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// `lock_timeout` of DDL: long enough for traffic, short enough that nothing queues behind a waiting ALTER TABLE.
const DDL_LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a held start waits before it looks again.
const HOLD: Duration = Duration::from_secs(30);

/// Passwords that are printed in compose files and guides: everybody knows them.
const PUBLISHED_PASSWORDS: [&str; 4] = ["whisperengine_password", "whisperengine", "postgres", "password"];

/// What a look has at least when the time for all looks is nearly over.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// How a command ended well.
pub enum Outcome {
    Exit(ExitCode),
    /// Become this command.
    Become(Vec<OsString>),
}

/// What outlives a command that a signal interrupts.
#[derive(Debug, Default)]
pub struct Interruptible {
    /// The server process that has effects for this run.
    pub backend: Backend,
}

/// Runs a command to its end.
pub async fn run(command: Command, settings: &Settings, interruptible: &Interruptible) -> Result<Outcome> {
    let (asked, mut settings) = (settings.missing_database, settings.clone());
    if asked == MissingDatabase::Create && !command.installs() {
        settings.missing_database = MissingDatabase::Wait;
    }
    let settings = &settings;
    match command {
        Command::Run { argv } => {
            // What no mend elsewhere can change is said before anything is held.
            warn_of_published_password(settings.postgres()?);
            settings.qdrant()?;
            let board = Board::new(Meter::default());
            let responder = match settings.probe {
                Some(address) => Some(Responder::start(address, board.clone()).await?),
                None => None,
            };
            while let Err(error) = bring_to_head(settings, interruptible, false, None, &board).await {
                if settings.on_refusal == OnRefusal::Exit || !may_be_mended(error.code) {
                    return Err(error);
                }
                hold(settings, &board, &error).await;
            }
            if let Some(responder) = responder {
                responder.close().await;
            }
            return Ok(Outcome::Become(argv));
        }
        Command::Migrate => {
            bring_to_head(settings, interruptible, false, None, &Board::new(Meter::default())).await?
        }
        Command::Upgrade { target } => {
            let until = upgrade_target(settings, interruptible, &target).await?;
            bring_to_head(settings, interruptible, false, Some(until), &Board::new(Meter::default())).await?
        }
        Command::Downgrade { target, dry_run, json } => {
            downgrade(settings, interruptible, &target, dry_run, json).await?
        }
        Command::Adopt => {
            bring_to_head(settings, interruptible, true, None, &Board::new(Meter::default())).await?
        }
        Command::Wait => drop(connect(settings, interruptible).await?),
        Command::Plan { json, exit_code } => {
            return plan_start(settings, interruptible, json, exit_code).await;
        }
        Command::Status { json } => status(settings, interruptible, json).await?,
        Command::History { json } => show_history(settings, interruptible, json).await?,
        Command::Archive { action } => archive(settings, interruptible, action).await?,
        Command::Verify { wait } => verify(settings, interruptible, wait).await?,
        Command::Snapshot { action } => snapshot(settings, interruptible, action).await?,
        Command::Validate { collection, json } => return validate(settings, &collection, json).await,
        Command::Rebuild { collection, json, dry_run: _ } => {
            plan_rebuild(settings, &collection, json).await?
        }
        Command::Retained { action } => retained(settings, interruptible, action).await?,
        Command::Rollback { collection, json } => {
            roll_back(settings, interruptible, &collection, json).await?
        }
        Command::Stamp { target, unproven: _, reason, dry_run, json } => {
            stamp_ledger(settings, interruptible, &target, reason.as_deref(), dry_run, json).await?
        }
        Command::Create { description, sql, toml } => create(settings, &description, sql, toml)?,
        Command::Diff { from, to, json } => diff_versions(settings, &from, &to, json)?,
        Command::Record => record(settings).await?,
        Command::Lint { strict, after, json } => lint(settings, strict, after.as_deref(), json)?,
        Command::Config { json: true } => event::output(&format!("{}\n", settings.json()?))?,
        Command::Config { json: false } => event::output(&settings.table())?,
        Command::Version => event::output(concat!("tandem ", env!("CARGO_PKG_VERSION"), "\n"))?,
    }
    Ok(Outcome::Exit(ExitCode::Ok))
}

/// Whether somebody can make it right while this process waits. The settings have been read by then, so what is wrong with
/// them now, such as a database that is missing, is wrong on the server's side.
fn may_be_mended(code: ExitCode) -> bool {
    !matches!(code, ExitCode::Usage | ExitCode::Bug | ExitCode::Signal(_))
}

/// Stays up with the cause in sight, until it is time to look again.
async fn hold(settings: &Settings, board: &Board, error: &Error) {
    board.held(error, HOLD);
    termination::write(&settings.termination_log, error);
    tracing::info!("Staying up after the failure below; looking again in {} s", HOLD.as_secs());
    // The cause is the last line, where people look.
    event::failure(error);
    tokio::time::sleep(HOLD).await;
}

async fn bring_to_head(
    settings: &Settings,
    interruptible: &Interruptible,
    adopt: bool,
    until: Option<Number>,
    board: &Board,
) -> Result<()> {
    board.phase(Phase::Waiting);
    // The files are read on a thread of its own while the stores are waited for.
    let migrations = settings.migrations.clone();
    let loading = std::thread::spawn(move || timeline::load(&migrations, &variable));
    let loaded =
        move || loading.join().map_err(|_| Error::new(ExitCode::Bug, "reading the timeline panicked"));
    // Waiting creates the database where that is asked for, which a timeline that cannot be read must not.
    let (timeline, stores) = if settings.missing_database == MissingDatabase::Create {
        let timeline = loaded()??;
        (timeline, connect(settings, interruptible).await?)
    } else {
        let stores = connect(settings, interruptible).await?;
        (loaded()??, stores)
    };
    let timeline = match until {
        Some(until) => timeline.until(until),
        None => timeline,
    };
    board.phase(Phase::Working);
    let mut first = Some(stores);
    let (store, exclude) = (Store::new(&timeline.settings), Exclude::of(&timeline));
    let subject =
        Subject { exactly: until.is_some(), ..subject(settings, &timeline, &store, &exclude, adopt) };
    let meter = board.meter();
    let _display = progress::display(meter.clone(), &settings.log);
    let options = run::Options {
        migrations: &settings.migrations,
        lock_patience: settings.lock_timeout,
        ddl_lock_timeout: DDL_LOCK_TIMEOUT,
        meter,
    };
    let connect = || {
        let connected = first.take();
        async move {
            match connected {
                Some(stores) => Ok(stores),
                None => connect(settings, interruptible).await,
            }
        }
    };
    run::bring_to_head(connect, &subject, &options).await
}

/// The version that an upgrade is to reach, from the whole timeline: where Postgres is counts, and what it may not leave.
async fn upgrade_target(settings: &Settings, interruptible: &Interruptible, asked: &str) -> Result<Number> {
    let timeline = load(settings)?;
    // What cannot be a target of this timeline is said before any store is waited for.
    if !asked.starts_with('+') {
        upgrade::resolve(&timeline, asked, 0)?;
    }
    let (store, exclude) = (Store::new(&timeline.settings), Exclude::of(&timeline));
    let subject = subject(settings, &timeline, &store, &exclude, false);
    let expected = inspect::load_expected(&settings.migrations, &timeline)?;
    let mut stores = connect(settings, interruptible).await?;
    let inspection = inspect::inspect(&mut stores, &subject, &expected).await?;
    let at = upgrade::reached(&inspection.verdict, inspection.ledger.as_ref());
    let target = upgrade::target(&timeline, asked, at)?;
    plan::postgres(&timeline, &inspection.verdict, settings.install_beside)?;
    Ok(target)
}

/// Goes back in Postgres, then brings Qdrant after it as the older image would.
async fn downgrade(
    settings: &Settings,
    interruptible: &Interruptible,
    asked: &str,
    dry_run: bool,
    json: bool,
) -> Result<()> {
    let timeline = load(settings)?;
    let (store, exclude) = (Store::new(&timeline.settings), Exclude::of(&timeline));
    let newest = subject(settings, &timeline, &store, &exclude, false);
    let expected = inspect::load_expected(&settings.migrations, &timeline)?;
    let mut stores = connect(settings, interruptible).await?;
    let meter = Meter::default();
    let options = run::Options {
        migrations: &settings.migrations,
        lock_patience: settings.lock_timeout,
        ddl_lock_timeout: DDL_LOCK_TIMEOUT,
        meter: &meter,
    };
    let target = downgrade::target(&mut stores, &newest, &expected, asked).await?;
    let older_timeline = timeline.clone().until(target);
    let older = Subject { exactly: true, ..subject(settings, &older_timeline, &store, &exclude, false) };
    let way = downgrade::Way { newest: &newest, older: &older, expected: &expected, target };
    let plan = downgrade::plan(&mut stores, &way).await?;
    if !dry_run {
        downgrade::postgres(&mut stores, &way, &options).await?;
        let mut first = Some(stores);
        let connect = || {
            let connected = first.take();
            async move {
                match connected {
                    Some(stores) => Ok(stores),
                    None => connect(settings, interruptible).await,
                }
            }
        };
        run::bring_to_head(connect, &older, &options).await?;
    }
    if json || dry_run { answer(json, &plan, || plan.text()) } else { Ok(()) }
}

async fn show_history(settings: &Settings, interruptible: &Interruptible, json: bool) -> Result<()> {
    let store = Store::new(&load(settings)?.settings);
    let mut session = session(settings, interruptible).await?;
    let versions = history::versions(&mut session, &store).await?;
    answer(json, &versions, || history::versions_text(&versions))
}

async fn archive(settings: &Settings, interruptible: &Interruptible, action: ArchiveAction) -> Result<()> {
    let timeline = load(settings)?.settings;
    let store = Store::new(&timeline);
    let mut session = session(settings, interruptible).await?;
    match action {
        ArchiveAction::List { json } => {
            let kept = history::kept(&mut session, &store).await?;
            answer(json, &kept, || history::kept_text(&kept))
        }
        ArchiveAction::Show { table, limit, json } => {
            let rows = history::rows(&mut session, &store, &table, limit).await?;
            answer(json, &rows, || history::rows_text(&rows))
        }
        ArchiveAction::Restore { table, version, json } => {
            let expected = inspect::load_expected(&settings.migrations, &load(settings)?)?;
            let exclude = Exclude {
                ledger_schema: &timeline.ledger_schema,
                adoption_tables: &timeline.adoption_tables,
            };
            let key = Key::Timeline(timeline.application.clone());
            let held = lock::acquire(&mut session, &store, key, settings.lock_timeout).await?;
            let lock_timeout = DDL_LOCK_TIMEOUT.as_millis().try_into().unwrap_or(u64::MAX);
            session.establish_contract(&timeline.schemas, lock_timeout).await?;
            let wanted = putback::Wanted { table: &table, version };
            let restored =
                putback::restore(&mut session, &store, &timeline, &exclude, &expected, &wanted).await?;
            held.release(&mut session).await?;
            answer(json, &restored, || restored.text())
        }
        ArchiveAction::Drop { table, version, rows, json } => {
            let key = Key::Timeline(timeline.application.clone());
            let held = lock::acquire(&mut session, &store, key, settings.lock_timeout).await?;
            let lock_timeout = DDL_LOCK_TIMEOUT.as_millis().try_into().unwrap_or(u64::MAX);
            session.establish_contract(&timeline.schemas, lock_timeout).await?;
            let removed = history::remove(&mut session, &store, &table, version, rows).await?;
            held.release(&mut session).await?;
            answer(json, &removed, || removed.text())
        }
    }
}

/// Says once a start that the door stands open to whoever reaches it.
fn warn_of_published_password(settings: &PostgresSettings) {
    let known = |secret: &crate::secret::Secret| PUBLISHED_PASSWORDS.contains(&secret.expose());
    if settings.password.as_ref().is_some_and(known) {
        tracing::warn!(
            "{} holds a password that everybody knows; set one of your own before others can reach this Postgres",
            settings.password_origin
        );
    }
}

async fn plan_start(
    settings: &Settings,
    interruptible: &Interruptible,
    json: bool,
    exit_code: bool,
) -> Result<Outcome> {
    let timeline = load(settings)?;
    let (store, exclude) = (Store::new(&timeline.settings), Exclude::of(&timeline));
    let subject = subject(settings, &timeline, &store, &exclude, false);
    let expected = inspect::load_expected(&settings.migrations, &timeline)?;
    let mut stores = connect(settings, interruptible).await?;
    let inspection = inspect::inspect(&mut stores, &subject, &expected).await?;
    let plan = inspection.plan(&subject)?;
    match json {
        true => print_json(&plan)?,
        false => event::output(&report::plan_text(&plan, &timeline))?,
    }
    let pending = exit_code && plan.has_effects();
    Ok(Outcome::Exit(if pending { ExitCode::Pending } else { ExitCode::Ok }))
}

async fn status(settings: &Settings, interruptible: &Interruptible, json: bool) -> Result<()> {
    let timeline = load(settings)?;
    let (store, exclude) = (Store::new(&timeline.settings), Exclude::of(&timeline));
    let subject = subject(settings, &timeline, &store, &exclude, false);
    let expected = inspect::load_expected(&settings.migrations, &timeline)?;
    let mut stores = connect(settings, interruptible).await?;
    let inspection = inspect::inspect(&mut stores, &subject, &expected).await?;
    let status = report::Status::new(&inspection, &subject);
    match json {
        true => print_json(&status),
        false => event::output(&status.text(&timeline)),
    }
}

async fn verify(settings: &Settings, interruptible: &Interruptible, wait: bool) -> Result<()> {
    let timeline = load(settings)?;
    let (store, exclude) = (Store::new(&timeline.settings), Exclude::of(&timeline));
    let subject = subject(settings, &timeline, &store, &exclude, false);
    let expected = inspect::load_expected(&settings.migrations, &timeline)?;
    let (began, patience) = (Instant::now(), settings.timeout);
    let mut said = None;
    loop {
        // All looks together have the time that was given, and the last one a moment at least.
        let left = patience.map(|all| all.saturating_sub(began.elapsed()).max(LAST_LOOK));
        let mut look = settings.clone();
        look.timeout = left;
        let mut stores = connect(&look, interruptible).await?;
        let inspection = inspect::inspect(&mut stores, &subject, &expected).await?;
        let error = match report::verify(&inspection, &subject) {
            Ok(plan) => {
                let collections = words::count(plan.collections.len(), "collection");
                return event::output(&format!(
                    "At head: Postgres is {}; {collections} proven\n",
                    plan.postgres
                ));
            }
            Err(error) => error,
        };
        let out_of_time = patience.is_some_and(|patience| began.elapsed() >= patience);
        if !wait || error.code != ExitCode::Pending || out_of_time {
            return Err(error);
        }
        if said.as_ref() != Some(&error.found) {
            tracing::info!("Waiting until somebody has migrated: {}", error.found);
            said = Some(error.found);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn snapshot(settings: &Settings, interruptible: &Interruptible, action: SnapshotAction) -> Result<()> {
    let client = wait::qdrant(settings, qdrant::attempt).await?;
    let meter = Meter::default();
    let _display = progress::display(meter.clone(), &settings.log);
    match action {
        SnapshotAction::Create { collection, json } => {
            let place = operate::existing(&client, &collection).await?;
            let taken = client.create_snapshot(&place.real).await?;
            answer(json, &taken, || operate::snapshots_text(std::slice::from_ref(&taken)))
        }
        SnapshotAction::List { collection, json } => {
            let place = operate::existing(&client, &collection).await?;
            let snapshots = client.list_snapshots(&place.real).await?;
            answer(json, &snapshots, || operate::snapshots_text(&snapshots))
        }
        SnapshotAction::Download { collection, snapshot, to, json } => {
            let place = operate::existing(&client, &collection).await?;
            let snapshot = operate::snapshot(&client, &place, snapshot.as_deref()).await?;
            let done = operate::download(&client, &place, &snapshot, &to, &meter).await?;
            answer(json, &done, || {
                format!("{}  {}  {}\n", done.file.display(), progress::bytes(done.size), done.checksum)
            })
        }
        SnapshotAction::Restore { collection, snapshot, file, checksum, into, json } => {
            let place = operate::find(&client, &collection).await?;
            let origin = match (&file, &place) {
                (Some(file), _) => operate::Origin::File(file),
                (None, Some(place)) => {
                    let snapshot = operate::snapshot(&client, place, snapshot.as_deref()).await?;
                    operate::Origin::Kept(place, snapshot)
                }
                (None, None) => return operate::existing(&client, &collection).await.map(drop),
            };
            let into = match (into, &place) {
                (Some(into), _) => into,
                (None, None) => collection,
                (None, Some(place)) => {
                    let restored = switch_alias(
                        settings,
                        interruptible,
                        &client,
                        place,
                        &origin,
                        checksum.as_deref(),
                        &meter,
                    )
                    .await?;
                    return answer(json, &restored, || restored.text());
                }
            };
            let restored = operate::restore(&client, &origin, &into, checksum.as_deref(), &meter).await?;
            answer(json, &restored, || restored.text())
        }
    }
}

/// Restores beside what an alias leads to, then lets the alias lead to it: under the collection's lock, so that no start
/// is at work on the other one.
async fn switch_alias(
    settings: &Settings,
    interruptible: &Interruptible,
    client: &qdrant::Client,
    place: &operate::Place,
    origin: &operate::Origin<'_>,
    checksum: Option<&str>,
    meter: &Meter,
) -> Result<operate::Restored> {
    if !place.is_alias() {
        return Err(Error::new(
            ExitCode::Refused,
            format!("`{}` is a collection, and a restore that fails would destroy it", place.name),
        )
        .expected("an alias, a name that is free, or --into with one")
        .remedy("restore with --into NEW, look at it, and let the application use that name"));
    }
    let timeline = load(settings)?;
    let store = Store::new(&timeline.settings);
    let mut stores = connect(settings, interruptible).await?;
    let key = Key::Collection(place.real.clone());
    let held = lock::acquire(&mut stores.session, &store, key, settings.lock_timeout).await?;
    let fresh = operate::fresh_name(client, &place.name).await?;
    // Both are in the journal before the one exists and the other is replaced.
    let new = Retained {
        name: fresh.clone(),
        kind: Kind::Collection,
        of: place.name.clone(),
        points: None,
        version: None,
    };
    let old = Retained {
        name: place.real.clone(),
        points: Some(client.count_points(&place.real).await?),
        version: retained::stamped(client, &place.real).await?,
        ..new.clone()
    };
    let noted = store.tables_exist(&mut stores.session).await?;
    if noted {
        stores.session.run("journalling what is kept", store.retain(&new)?).await?;
    } else {
        tracing::warn!("There is no ledger yet: {} is kept and not in its journal", place.real);
    }
    let restored = operate::restore(client, origin, &fresh, checksum, meter).await?;
    held.check(&mut stores.session).await?;
    if operate::existing(client, &place.name).await? != *place {
        return Err(Error::new(
            ExitCode::Refused,
            format!(
                "the alias {} was changed meanwhile; {fresh} is restored and nothing leads to it",
                place.name
            ),
        )
        .remedy("look at both, then run again"));
    }
    if noted {
        stores.session.run("journalling what is kept", store.retain(&old)?).await?;
    }
    client.set_alias(&place.name, &fresh).await?;
    held.release(&mut stores.session).await?;
    Ok(operate::Restored { alias: Some(place.name.clone()), replaced: Some(place.real.clone()), ..restored })
}

async fn retained(settings: &Settings, interruptible: &Interruptible, action: RetainedAction) -> Result<()> {
    let store = Store::new(&load(settings)?.settings);
    let mut stores = connect(settings, interruptible).await?;
    let client = with_qdrant(&stores)?;
    match action {
        RetainedAction::List { json } => {
            let entries = retained::list(&mut stores.session, &store, &client).await?;
            answer(json, &entries, || retained::text(&entries))
        }
        RetainedAction::Drop { name, fewer, json } => {
            let patience = settings.lock_timeout;
            let removed =
                retained::remove(&mut stores.session, &store, &client, &name, fewer, patience).await?;
            answer(json, &removed, || format!("Removed {name}\n"))
        }
    }
}

async fn roll_back(
    settings: &Settings,
    interruptible: &Interruptible,
    collection: &str,
    json: bool,
) -> Result<()> {
    let store = Store::new(&load(settings)?.settings);
    let mut stores = connect(settings, interruptible).await?;
    let client = with_qdrant(&stores)?;
    let place = operate::existing(&client, collection).await?;
    let done =
        retained::roll_back(&mut stores.session, &store, &client, &place, settings.lock_timeout).await?;
    answer(json, &done, || done.text())
}

/// The Qdrant of a deployment that must have one for this command.
fn with_qdrant(stores: &Stores) -> Result<qdrant::Client> {
    stores.qdrant.clone().ok_or_else(|| {
        Error::new(ExitCode::Configuration, "the settings say that there is no Qdrant")
            .expected("QDRANT_URL or QDRANT_HOST")
            .remedy("look at tandem config")
    })
}

async fn validate(settings: &Settings, collection: &str, json: bool) -> Result<Outcome> {
    let timeline = load(settings)?;
    let client = wait::qdrant(settings, qdrant::attempt).await?;
    let survey = client.survey(&[collection.to_owned()]).await?;
    let real = survey.aliases.get(collection).map_or(collection, String::as_str).to_owned();
    let place = operate::Place { name: collection.to_owned(), real };
    let (declaration, head) = operate::declaration(&timeline, &place)?;
    let found = match survey.collections.get(&place.real) {
        Some(observed) => Some((observed, client.count_points(&place.real).await?)),
        None => None,
    };
    let validation = operate::validate(place, found, declaration, &timeline, head, survey.server);
    answer(json, &validation, || validation.text())?;
    Ok(Outcome::Exit(if validation.valid { ExitCode::Ok } else { ExitCode::Pending }))
}

async fn plan_rebuild(settings: &Settings, collection: &str, json: bool) -> Result<()> {
    let timeline = load(settings)?;
    let client = wait::qdrant(settings, qdrant::attempt).await?;
    let place = operate::existing(&client, collection).await?;
    let (declaration, head) = operate::declaration(&timeline, &place)?;
    let survey = client.survey(std::slice::from_ref(&place.real)).await?;
    let Some(observed) = survey.collections.get(&place.real) else {
        return operate::existing(&client, &place.real).await.map(drop);
    };
    let points = client.count_points(&place.real).await?;
    let plan = operate::rebuild_plan(place, (observed, points), declaration, &timeline, head, survey.server);
    answer(json, &plan, || plan.text())
}

/// What a command found, for machines or for people.
fn answer(json: bool, value: &impl serde::Serialize, text: impl FnOnce() -> String) -> Result<()> {
    if json { print_json(value) } else { event::output(&text()) }
}

async fn record(settings: &Settings) -> Result<()> {
    let timeline = load(settings)?;
    lint::refuse(&lint::lint(&timeline, |_| true))?;
    let exclude = Exclude::of(&timeline);
    let mut session = log_in(settings.postgres()?).await?;
    let scratch =
        |database: String| async move { log_in(&settings.postgres()?.with_database(&database)).await };
    let files = record::record(&mut session, scratch, &timeline, &exclude).await?;
    let directory = settings.migrations.join("catalog");
    record::write(&directory, &files)?;
    let versions = words::count(timeline.versions.len(), "version");
    event::output(&format!("Recorded {versions} into {}\n", directory.display()))
}

fn lint(settings: &Settings, strict: bool, after: Option<&str>, json: bool) -> Result<()> {
    let timeline = load(settings)?;
    let after = after.map_or(Ok(0), |after| diff::version(&timeline, after))?;
    // A timeline that was never recorded is looked at without.
    let expected = inspect::load_expected(&settings.migrations, &timeline).ok();
    let findings = lint::examine(&timeline, expected.as_ref(), |number| number > after);
    if json {
        print_json(&findings)?;
    } else {
        for finding in &findings {
            event::output(&format!("{finding}\n"))?;
        }
    }
    lint::refuse(&findings)?;
    let warnings = words::count(findings.len(), "warning");
    if strict && !findings.is_empty() {
        return Err(Error::new(ExitCode::BadTimeline, format!("{warnings}, and --strict"))
            .expected("no warning")
            .remedy("take the safer way that each names; what is released already can be left out: --after VERSION"));
    }
    if json {
        return Ok(());
    }
    let versions = words::count(timeline.versions.iter().filter(|v| v.number > after).count(), "version");
    event::output(&format!("{}: {versions}, {warnings}\n", settings.migrations.display()))
}

fn create(settings: &Settings, description: &str, sql: bool, toml: bool) -> Result<()> {
    let directory = &settings.migrations;
    let parts = match (sql, toml) {
        (true, _) => Parts::Sql,
        (_, true) => Parts::Toml,
        _ => Parts::All,
    };
    let seconds = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let names: Vec<String> =
        timeline::file::read_files(directory)?.into_iter().map(|(name, _)| name).collect();
    let created = timeline::create::create(directory, &names, description, parts, seconds)?;
    let mut paths = String::new();
    for (name, text) in &created.files {
        let path = directory.join(name);
        let written = std::fs::File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| {
            Error::new(ExitCode::StepFailed, format!("{} cannot be written: {error}", path.display()))
                .expected("a directory that can be written, and no file of that name")
        })?;
        paths.push_str(&format!("{}\n", path.display()));
    }
    event::output(&paths)
}

fn diff_versions(settings: &Settings, from: &str, to: &str, json: bool) -> Result<()> {
    let timeline = load(settings)?;
    let (from, to) = (diff::version(&timeline, from)?, diff::version(&timeline, to)?);
    let expected = inspect::load_expected(&settings.migrations, &timeline)?;
    let diff = diff::diff(&timeline, &expected, from, to);
    answer(json, &diff, || diff.text())
}

/// Needs Postgres alone: collections have stamps of their own.
async fn stamp_ledger(
    settings: &Settings,
    interruptible: &Interruptible,
    asked: &str,
    reason: Option<&str>,
    dry_run: bool,
    json: bool,
) -> Result<()> {
    let timeline = load(settings)?;
    let target = stamp::target(&timeline, asked)?;
    let (store, exclude) = (Store::new(&timeline.settings), Exclude::of(&timeline));
    let subject = subject(settings, &timeline, &store, &exclude, false);
    let expected = inspect::load_expected(&settings.migrations, &timeline)?;
    let mut stores = Stores { session: session(settings, interruptible).await?, qdrant: None };
    let options = run::Options {
        migrations: &settings.migrations,
        lock_patience: settings.lock_timeout,
        ddl_lock_timeout: DDL_LOCK_TIMEOUT,
        meter: &Meter::default(),
    };
    // What is refused is refused without the lock.
    let mut done = stamp::plan(&mut stores, &subject, &expected, target, reason).await?;
    if !dry_run && !done.is_empty() {
        done = stamp::write(&mut stores, &subject, &expected, &options, target, reason).await?;
    }
    answer(json, &done, || done.text(dry_run))
}

/// Ends the server process that works for an interrupted run: a closed connection alone does not stop a statement
/// that is under way, and the lock would outlive this process.
pub async fn stop_backend(settings: &Settings, backend: i32) {
    let stopping = async {
        let mut session = log_in(settings.postgres()?).await?;
        session
            .run(
                "stopping the work on Postgres",
                format!("select pg_catalog.pg_terminate_backend({backend})"),
            )
            .await
    };
    if tokio::time::timeout(Duration::from_millis(700), stopping).await.is_err() {
        tracing::warn!(pid = backend, "Postgres did not confirm in time that the work on it has stopped");
    }
}

/// Waits for both stores, and keeps the connections that proved them ready.
async fn connect(settings: &Settings, interruptible: &Interruptible) -> Result<Stores> {
    let (connection, qdrant) = wait::stores(settings, qdrant::attempt).await?;
    Ok(Stores { session: Session::new(connection, interruptible.backend.clone()), qdrant })
}

/// Waits for Postgres alone.
async fn session(settings: &Settings, interruptible: &Interruptible) -> Result<Session> {
    Ok(Session::new(wait::postgres(settings).await?, interruptible.backend.clone()))
}

/// One login without waiting.
async fn log_in(settings: &PostgresSettings) -> Result<Session> {
    let connection = postgres::connect(settings).await.map_err(|fault| fault.into_error(settings))?;
    Ok(Session::new(connection, Backend::default()))
}

fn subject<'a>(
    settings: &Settings,
    timeline: &'a Timeline,
    store: &'a Store,
    exclude: &'a Exclude<'a>,
    adopt: bool,
) -> Subject<'a> {
    Subject {
        timeline,
        store,
        exclude,
        all_collections: settings.all_collections,
        install_beside: settings.install_beside,
        complete: settings.complete,
        adopt,
        allow_writers: settings.allow_writers,
        lock_patience: settings.lock_timeout,
        exactly: false,
    }
}

fn load(settings: &Settings) -> Result<Timeline> {
    Ok(timeline::load(&settings.migrations, &variable)?)
}

/// A variable that a timeline's TOML may name. What could hold a secret is withheld: values appear in messages.
fn variable(name: &str) -> Option<String> {
    let secret =
        ["PASSWORD", "SECRET", "TOKEN", "API_KEY", "DATABASE_URL"].iter().any(|part| name.contains(part));
    std::env::var(name).ok().filter(|value| !secret && !value.is_empty())
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::new(ExitCode::Bug, format!("JSON could not be written: {e}")))?;
    event::output(&format!("{text}\n"))
}
