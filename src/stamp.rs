//! `tandem stamp`: the ledger is told where a database is, on the proof that a start would stand on, or on a person's word.

use crate::adoption;
use crate::catalog::Expected;
use crate::error::{Error, ExitCode, Result};
use crate::inspect::{self, Inspection, Stores, Subject};
use crate::ledger::{Origin, Phase};
use crate::plan;
use crate::postgres::apply::unserialisable;
use crate::postgres::lock::{self, Key};
use crate::postgres::store::Entry;
use crate::run::Options;
use crate::timeline::{Number, Timeline};
use crate::upgrade;
use crate::verdict::Postgres;
use serde::Serialize;
use std::fmt::Write as _;

/// What is written into the ledger: `tandem stamp --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stamp {
    pub target: Number,
    /// The finding about Postgres, in words.
    pub postgres: String,
    /// The catalog proves the target.
    pub proven: bool,
    /// Versions that get a row.
    pub stamp: Vec<Number>,
    /// Versions whose row is removed: the ledger named them beyond the target.
    pub forget: Vec<Number>,
    /// What the rows say about why they are there.
    pub evidence: String,
}

/// The version that `asked` means.
///
/// # Errors
/// 64 for a version that the timeline does not have.
pub fn target(timeline: &Timeline, asked: &str) -> Result<Number> {
    if asked.starts_with('+') {
        return Err(Error::new(ExitCode::Usage, format!("`{asked}` is counted from a version"))
            .expected("head, a version's number, or a release"));
    }
    upgrade::resolve(timeline, asked, 0)
}

/// Looks, and says what a stamp would write.
///
/// # Errors
/// 76 unless the catalog proves the target, or `reason` is a person's word for it.
pub async fn plan(
    stores: &mut Stores,
    subject: &Subject<'_>,
    expected: &Expected,
    target: Number,
    reason: Option<&str>,
) -> Result<Stamp> {
    let inspection = inspect::inspect(stores, subject, expected).await?;
    decide(&inspection, subject, expected, target, reason)
}

fn decide(
    inspection: &Inspection<'_>,
    subject: &Subject<'_>,
    expected: &Expected,
    target: Number,
    reason: Option<&str>,
) -> Result<Stamp> {
    let timeline = subject.timeline;
    let postgres = plan::describe(&inspection.verdict, timeline);
    let refusal = || Error::new(ExitCode::Refused, format!("Postgres is {postgres}"));
    let proven = match &inspection.verdict {
        Postgres::Diverged(_) => {
            return plan::postgres(timeline, &inspection.verdict, false).and_then(|_| Err(refusal()));
        }
        Postgres::Ahead { .. } => {
            return Err(refusal()
                .expected("a ledger that names no version which this image does not have")
                .remedy("stamp with the image that has the newest version"));
        }
        // Every later start would take the stamp for a lie.
        Postgres::Fresh => {
            return Err(refusal()
                .expected(format!("the catalog of version {target}"))
                .remedy(format!("to install it: tandem upgrade {target}")));
        }
        Postgres::Versioned { at, .. } => *at == target,
        Postgres::Legacy { at, .. }
        | Postgres::Adopted { at, .. }
        | Postgres::Stale { proven: Some(at), .. } => {
            // A version without an effect on the catalog is proven with the one before it.
            let digest = |number| expected.index.version(number).map(|recorded| &recorded.digest);
            target == *at || target < *at && digest(target) == digest(*at)
        }
        Postgres::Stale { proven: None, .. } | Postgres::Partial { .. } | Postgres::Foreign { .. } => false,
    };
    let rows: Vec<Number> =
        inspection.ledger.iter().flat_map(|ledger| &ledger.rows).map(|row| row.version).collect();
    let through = timeline.versions.iter().map(|version| version.number).filter(|number| *number <= target);
    let stamp: Vec<Number> = through.filter(|number| !rows.contains(number)).collect();
    let forget = rows.into_iter().filter(|number| *number > target).collect();
    let evidence = match reason {
        _ if proven => postgres.clone(),
        Some(reason) => format!("unproven, said by hand: {reason}; Postgres was {postgres}"),
        None => return Err(unproven(inspection, timeline, expected, target)),
    };
    if proven {
        inspection.recorded(subject, |number| stamp.contains(&number))?;
    }
    Ok(Stamp { target, postgres, proven, stamp, forget, evidence })
}

fn unproven(inspection: &Inspection<'_>, timeline: &Timeline, expected: &Expected, target: Number) -> Error {
    let name = timeline.version(target).map_or("", |version| version.name.as_str());
    let difference = expected.compare(&inspection.catalog, target);
    let difference = match difference.is_proof() {
        true => "it has what is of later versions, or a [proof] does not hold".to_owned(),
        false => difference.outline(),
    };
    let reached = upgrade::reached(&inspection.verdict, inspection.ledger.as_ref());
    let versioned = matches!(inspection.verdict, Postgres::Versioned { .. });
    let way = match (versioned, &inspection.verdict) {
        (true, _) if target > reached => format!("to go there: tandem upgrade {target}"),
        (true, _) => format!("to go back: tandem downgrade {target}"),
        (
            _,
            Postgres::Legacy { at, .. }
            | Postgres::Adopted { at, .. }
            | Postgres::Stale { proven: Some(at), .. },
        ) => {
            format!("tandem stamp {at} records what is proven")
        }
        _ => "tandem plan shows what a start would do".to_owned(),
    };
    let words = plan::describe(&inspection.verdict, timeline);
    Error::new(ExitCode::Refused, format!("Postgres is {words}"))
        .expected(format!("the catalog of version {target} ({name}), as proof: {difference}"))
        .remedy(format!(
            "{way}; to record it without proof, which every start will ask for: --unproven --reason \"…\""
        ))
}

/// Writes the rows in one transaction, under the timeline's lock, after another look.
pub async fn write(
    stores: &mut Stores,
    subject: &Subject<'_>,
    expected: &Expected,
    options: &Options<'_>,
    target: Number,
    reason: Option<&str>,
) -> Result<Stamp> {
    let Subject { timeline, store, .. } = *subject;
    let key = Key::Timeline(timeline.settings.application.clone());
    let held = lock::acquire(&mut stores.session, store, key, options.lock_patience).await?;
    let lock_timeout = options.ddl_lock_timeout.as_millis().try_into().unwrap_or(u64::MAX);
    stores.session.establish_contract(&timeline.settings.schemas, lock_timeout).await?;
    let inspection = inspect::inspect(stores, subject, expected).await?;
    let decided = decide(&inspection, subject, expected, target, reason)?;
    if decided.is_empty() {
        held.release(&mut stores.session).await?;
        return Ok(decided);
    }
    let mut sql = "begin;".to_owned();
    if inspection.ledger.is_none() && !store.tables_exist(&mut stores.session).await? {
        sql.push_str(&store.creation(store.schema_exists(&mut stores.session).await?));
    }
    let step = serde_json::to_string(&decided).map_err(unserialisable)?;
    sql.push_str(&store.next_epoch());
    sql.push_str(&store.journal(&store.current_epoch(), target, Phase::Prepare, None, Some(&step)));
    sql.push_str(&store.forget_rows(&decided.forget));
    let (digest, catalog) = (inspection.catalog.digest(), inspection.catalog.to_json());
    let origin = match &inspection.verdict {
        Postgres::Adopted { .. } if decided.proven => Origin::Adopted,
        _ => Origin::Stamped,
    };
    for version in decided.stamp.iter().filter_map(|number| timeline.version(*number)) {
        let newest = version.number == target;
        let recorded = expected.index.version(version.number).map(|recorded| recorded.digest.as_str());
        sql.push_str(&store.record(&Entry {
            version,
            origin,
            evidence: Some(&decided.evidence),
            catalog_digest:
                recorded.filter(|_| decided.proven).map(|recorded| if newest { &digest } else { recorded }),
            catalog: (newest && decided.proven).then_some(catalog.as_str()),
            collections_digest: None,
            duration: "0",
        }));
    }
    if decided.proven {
        sql.push_str(&adoption::mirror(timeline, &inspection.foreign, target)?);
    }
    // The next start brings the collections after it, as they have stamps of their own.
    sql.push_str(&store.end(&store.current_epoch(), target, Phase::Committed));
    sql.push_str("commit");
    held.check(&mut stores.session).await?;
    if let Err(failure) = stores.session.batch(sql).await {
        return Err(store.unwritable(&mut stores.session, failure).await);
    }
    held.release(&mut stores.session).await?;
    Ok(decided)
}

impl Stamp {
    /// The ledger says so already.
    pub fn is_empty(&self) -> bool {
        self.stamp.is_empty() && self.forget.is_empty()
    }

    /// For people.
    pub fn text(&self, dry_run: bool) -> String {
        let mut text = format!("Postgres is {}\n", self.postgres);
        let list =
            |numbers: &[Number]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let (stamps, forgets) = if dry_run { ("would stamp", "would forget") } else { ("stamped", "forgot") };
        for (verb, numbers) in [(stamps, &self.stamp), (forgets, &self.forget)] {
            if !numbers.is_empty() {
                let _ = writeln!(text, "  {verb} {}", list(numbers));
            }
        }
        if self.is_empty() {
            let _ = writeln!(text, "  the ledger says version {} already", self.target);
        } else if !self.proven {
            let _ = writeln!(text, "  evidence: {}", self.evidence);
            text.push_str("  no start believes it: the catalog is compared again each time\n");
        }
        text
    }
}
