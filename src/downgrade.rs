//! Going back: the way, what is in it, and the transactions that take versions back, the newest first.

use crate::adoption::mirror;
use crate::catalog::{Catalog, effects};
use crate::collection::Action;
use crate::error::{Error, ExitCode, Result};
use crate::inspect::{self, Inspection, Stores, Subject};
use crate::ledger::Phase;
use crate::plan::{self, CollectionPlan, Plan};
use crate::postgres::apply::{self, Apply, Context};
use crate::postgres::archive::{self, Direction};
use crate::postgres::lock::{self, Key};
use crate::postgres::putback::Move;
use crate::repair;
use crate::run::Options;
use crate::timeline::lint::refuse;
use crate::timeline::lint::{self, Severity};
use crate::timeline::{Number, Timeline, Version};
use crate::upgrade;
use crate::verdict::Postgres;
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Instant;

/// From where to where, with the timeline as it is and as the older image has it.
pub struct Way<'a> {
    pub newest: &'a Subject<'a>,
    pub older: &'a Subject<'a>,
    pub expected: &'a crate::catalog::Expected,
    pub target: Number,
}

/// What a downgrade does: `tandem downgrade --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Downgrade {
    pub from: Number,
    pub to: Number,
    /// The finding about Postgres, in words.
    pub postgres: String,
    /// The newest first.
    pub versions: Vec<Back>,
    /// What each collection that the older version manages needs.
    pub collections: Vec<CollectionPlan>,
}

/// One version that is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Back {
    pub version: Number,
    pub name: String,
    /// Tables of which rows go into the archive.
    pub keeps: Vec<String>,
    /// Tables into which rows come back, if the archive has any.
    pub puts_back: Vec<String>,
}

impl Downgrade {
    /// For people.
    pub fn text(&self) -> String {
        let mut text =
            format!("Postgres is {}\nBack from version {} to {}:\n", self.postgres, self.from, self.to);
        for Back { version, name, keeps, puts_back } in &self.versions {
            let list = |what: &str, tables: &[String]| match tables {
                [] => String::new(),
                tables => format!("; {what} {}", tables.join(", ")),
            };
            let (keeps, puts_back) = (list("keeps rows of", keeps), list("puts back rows of", puts_back));
            let _ = writeln!(text, "  version {version} ({name}){keeps}{puts_back}");
        }
        for collection in &self.collections {
            let _ = writeln!(text, "Collection {} is {}", collection.name, collection.found);
            for step in &collection.steps {
                let _ = writeln!(text, "  {}", step.describe());
            }
        }
        text
    }
}

/// The version that `asked` means, below the one that Postgres is proven to be at.
///
/// # Errors
/// 64 for a version that the timeline does not have, 76 if Postgres is not proven to be at its stamp or not above.
pub async fn target(
    stores: &mut Stores,
    subject: &Subject<'_>,
    expected: &crate::catalog::Expected,
    asked: &str,
) -> Result<Number> {
    let timeline = subject.timeline;
    let counted = asked.strip_prefix('-');
    if counted.is_none() && (asked == "head" || asked.starts_with('+')) {
        return Err(Error::new(ExitCode::Usage, format!("`{asked}` is not behind"))
            .expected("-N, a version's number, or a release"));
    }
    if counted.is_none() {
        upgrade::resolve(timeline, asked, 0)?;
    }
    let inspection = inspect::inspect(stores, subject, expected).await?;
    let at = proven(&inspection, timeline)?;
    let below: Vec<Number> = timeline.versions.iter().map(|v| v.number).filter(|n| *n < at).rev().collect();
    let target = match counted {
        None => upgrade::resolve(timeline, asked, at)?,
        Some(steps) => {
            let index = steps.parse::<usize>().ok().and_then(|steps| steps.checked_sub(1));
            *index.and_then(|index| below.get(index)).ok_or_else(|| {
                Error::new(ExitCode::Usage, format!("`{asked}` from version {at} is no version"))
                    .expected(format!("-1 to -{}: the first version is not taken back", below.len()))
                    .remedy("to be rid of the first version too, drop the database")
            })?
        }
    };
    if target >= at {
        return Err(Error::new(
            ExitCode::Refused,
            format!("Postgres is at version {at}, and {target} is not below"),
        )
        .expected("an older version")
        .remedy("to go forward: tandem upgrade"));
    }
    Ok(target)
}

/// Where Postgres is, by ledger and catalog both.
fn proven(inspection: &Inspection<'_>, timeline: &Timeline) -> Result<Number> {
    if let Postgres::Versioned { at, .. } = &inspection.verdict {
        return Ok(*at);
    }
    let words = plan::describe(&inspection.verdict, timeline);
    let ahead = matches!(inspection.verdict, Postgres::Ahead { .. });
    Err(Error::new(ExitCode::Refused, format!("Postgres is {words}"))
        .expected("a database whose catalog is that of its ledger's newest version")
        .remedy(match ahead {
            true => "downgrade with the image that has the newest version",
            false => "bring it to a version first (tandem plan, tandem migrate)",
        }))
}

/// The versions to take back, the newest first, each with the one below.
fn steps(timeline: &Timeline, at: Number, target: Number) -> Vec<(&Version, Number)> {
    let pairs = timeline.versions.iter().zip(timeline.versions.iter().skip(1));
    let mut steps: Vec<_> = pairs
        .filter(|(_, version)| version.number > target && version.number <= at)
        .map(|(below, version)| (version, below.number))
        .collect();
    steps.reverse();
    steps
}

/// Looks at both stores, and refuses what cannot be gone back on before anything is done.
///
/// # Errors
/// 65 for a version without a usable `down.sql`, 76 where Qdrant would have to be rebuilt.
pub async fn plan(stores: &mut Stores, way: &Way<'_>) -> Result<Downgrade> {
    let timeline = way.newest.timeline;
    let inspection = inspect::inspect(stores, way.newest, way.expected).await?;
    let at = proven(&inspection, timeline)?;
    let steps = steps(timeline, at, way.target);
    for (version, _) in &steps {
        undoable(timeline, version)?;
    }
    let takes: Vec<_> = steps
        .iter()
        .map(|(version, below)| {
            let (from, to) = catalogs(way, version.number, *below);
            (version.number, effects(&from, &to))
        })
        .collect();
    let obstacles = repair::in_the_way_back(&inspection.catalog, way.expected, at, &takes);
    if !obstacles.is_empty() {
        let found =
            format!("Postgres cannot go back to version {} as it is, and nothing has changed", way.target);
        return Err(plan::blocked(Error::new(ExitCode::Refused, found), &obstacles));
    }
    let versions = steps
        .iter()
        .map(|(version, below)| {
            let (from, to) = catalogs(way, version.number, *below);
            let names = |direction, before: &Catalog, after: &Catalog| {
                let kept = archive::tables(version, direction, before, &effects(before, after));
                kept.into_iter().map(|table| format!("{}.{}", table.schema, table.relation)).collect()
            };
            Back {
                version: version.number,
                name: version.name.clone(),
                keeps: names(Direction::Down, &from, &to),
                puts_back: names(Direction::Up, &to, &from),
            }
        })
        .collect();
    let older = inspect::inspect(stores, way.older, way.expected).await?;
    let target = Plan { target: way.target, ..Plan::default() };
    let mut collections = Vec::new();
    for found in &older.survey.found {
        let planned = older.collection(found, &target, way.older).and_then(|planned| {
            match planned.steps.iter().find(|step| matches!(step.action, Action::Rebuild { .. })) {
                Some(step) => Err(Error::new(ExitCode::Refused, step.to_string())),
                None => Ok(planned),
            }
        });
        collections.push(planned.map_err(|error| irreversible(way.target, &found.name, &error))?);
    }
    let postgres = plan::describe(&inspection.verdict, timeline);
    Ok(Downgrade { from: at, to: way.target, postgres, versions, collections })
}

fn catalogs(way: &Way<'_>, from: Number, to: Number) -> (Catalog, Catalog) {
    let at = |number| way.expected.catalog_at(number).unwrap_or_default();
    (at(from), at(to))
}

/// A version can be taken back by a `down.sql` in one transaction. One without SQL of its own needs none: what its `[data]`
/// added stays.
fn undoable(timeline: &Timeline, version: &Version) -> Result<()> {
    let Some(down) = &version.down else {
        let Some(up) = &version.up else { return Ok(()) };
        return Err(Error::new(
            ExitCode::BadTimeline,
            format!("version {} ({}) has no down.sql", version.number, version.name),
        )
        .expected(up.path.replace(".up.sql", ".down.sql"))
        .remedy("write it, or restore a backup from before that version"));
    };
    if !down.transaction {
        return Err(Error::new(
            ExitCode::BadTimeline,
            format!("{}: a version is taken back in one transaction", down.path),
        )
        .expected("a down.sql without `-- tandem:no-transaction`")
        .remedy("write the statements without CONCURRENTLY"));
    }
    let mut findings = lint::lint(timeline, |number| number == version.number);
    findings.retain(|finding| finding.path == down.path && finding.severity == Severity::Error);
    refuse(&findings)
}

fn irreversible(target: Number, name: &str, error: &Error) -> Error {
    let mut found = format!("collection {name} cannot go back to version {target} in place: {}", error.found);
    if let Some(expected) = &error.expected {
        let _ = write!(found, " ({expected})");
    }
    Error::new(ExitCode::Refused, found)
        .expected("a collection that the older declaration fits, or that can be changed in place; nothing was changed")
        .remedy(format!(
            "if {name} is an alias and what it led to before is kept (tandem retained list): tandem rollback {name}, \
             then downgrade; otherwise restore a snapshot from before: tandem snapshot restore"
        ))
}

/// Takes the versions back in Postgres, each in one transaction, under the timeline's lock.
pub async fn postgres(stores: &mut Stores, way: &Way<'_>, options: &Options<'_>) -> Result<()> {
    let Subject { timeline, store, exclude, .. } = *way.newest;
    let key = Key::Timeline(timeline.settings.application.clone());
    let held = lock::acquire(&mut stores.session, store, key, options.lock_patience).await?;
    let lock_timeout = options.ddl_lock_timeout.as_millis().try_into().unwrap_or(u64::MAX);
    stores.session.establish_contract(&timeline.settings.schemas, lock_timeout).await?;
    let inspection = inspect::inspect(stores, way.newest, way.expected).await?;
    let at = proven(&inspection, timeline)?;
    let context = Context { timeline, expected: way.expected, store, exclude, held: &held };
    let mut opening = store.next_epoch();
    let open =
        inspection.ledger.iter().flat_map(|ledger| &ledger.open).filter(|run| run.collection.is_none());
    for run in open {
        opening.push_str(&store.end(&run.epoch.to_string(), run.target, Phase::Abandoned));
    }
    opening.push_str(&store.journal(&store.current_epoch(), way.target, Phase::Prepare, None, None));
    let mut committed = store.journal(&store.current_epoch(), way.target, Phase::Committed, None, None);
    // Where there is nothing to publish, the run is over.
    if stores.qdrant.is_none() || way.older.timeline.collections_at(way.target).is_empty() {
        committed.push_str(&store.end(&store.current_epoch(), way.target, Phase::Published));
    }
    let mut actual = inspection.catalog.clone();
    for (version, below) in steps(timeline, at, way.target) {
        let begun = Instant::now();
        let (from, to) = catalogs(way, version.number, below);
        let effects = effects(&from, &to);
        let direction = Direction::Down;
        let back = Move { store, version, direction, from: &from, to: &to };
        let put_back = back.put_back();
        let kept = archive::statements(store, version, direction, &from, Some(&effects));
        // Its `[[archive]]`s are about what it does: nothing keeps what a down changes beyond the catalogs.
        let down = Version {
            up: version.down.clone(),
            data: None,
            proof: None,
            archives: Vec::new(),
            ..version.clone()
        };
        let step = Apply {
            version: &down,
            opening: std::mem::take(&mut opening),
            archive: format!("{}{kept}", put_back.before),
            watched: archive::watched(store, version, direction, &from, Some(&effects)),
            put_back: format!("{}{}", put_back.after, back.became(&effects)),
            back_to: Some(below),
            closing: format!(
                "{}{}",
                mirror(timeline, &inspection.foreign, below)?,
                if below == way.target { committed.as_str() } else { "" }
            ),
            expected: &to,
            compared: true,
            optional: way.expected.optional_at(below),
            keep: true,
            collections_digest: None,
            effects: Some(&effects),
            before: &actual,
            prints: None,
            since: &[&effects],
        };
        if let Some(found) = apply::apply(&mut stores.session, &context, &step).await? {
            actual = found.catalog;
        }
        tracing::info!(
            "Took back version {} ({}) in {} ms",
            version.number,
            version.name,
            begun.elapsed().as_millis()
        );
    }
    held.release(&mut stores.session).await
}
