//! What the commands that only read print: for people, or as JSON for machines.

use crate::collection::Observed;
use crate::error::Error;
use crate::inspect::{Inspection, Subject};
use crate::ledger::Row;
use crate::plan::Plan;
use crate::timeline::{Number, Timeline};
use serde::Serialize;
use std::fmt::Write as _;

/// `tandem status --json`.
#[derive(Debug, Serialize)]
pub struct Status<'a> {
    application: &'a str,
    /// The newest version of the timeline.
    head: Option<Number>,
    /// The newest version of the ledger.
    at: Option<Number>,
    lineage: Option<&'a str>,
    postgres: String,
    ledger: &'a [Row],
    pending: Vec<Number>,
    collections: Vec<CollectionStatus>,
    /// Why a start would refuse, if it would.
    refusal: Option<String>,
}

#[derive(Debug, Serialize)]
struct CollectionStatus {
    name: String,
    points: Option<u64>,
    stamped: Option<Number>,
    /// What a start would do to it.
    steps: Vec<String>,
}

impl<'a> Status<'a> {
    /// Gathers what an inspection found.
    pub fn new(inspection: &'a Inspection<'_>, subject: &Subject<'a>) -> Self {
        let timeline = subject.timeline;
        let ledger = inspection.ledger.as_ref();
        let plan = inspection.plan(subject);
        let collections = inspection
            .survey
            .found
            .iter()
            .map(|found| CollectionStatus {
                name: found.name.clone(),
                points: found.observed.as_ref().map(|o| o.points),
                stamped: found.observed.as_ref().and_then(Observed::live_version),
                steps: plan
                    .as_ref()
                    .ok()
                    .and_then(|plan| plan.collections.iter().find(|c| c.name == found.name))
                    .map(|c| c.steps.iter().map(|s| s.describe()).collect())
                    .unwrap_or_default(),
            })
            .collect();
        Self {
            application: &timeline.settings.application,
            head: timeline.head().map(|v| v.number),
            at: ledger.and_then(|l| l.rows.last()).map(|r| r.version),
            lineage: ledger.map(|l| l.lineage.as_str()),
            postgres: crate::plan::describe(&inspection.verdict, timeline),
            ledger: ledger.map(|l| l.rows.as_slice()).unwrap_or_default(),
            pending: plan.as_ref().map(|p| p.apply.clone()).unwrap_or_default(),
            collections,
            refusal: plan.err().map(|e| e.to_string()),
        }
    }

    /// For people.
    pub fn text(&self, timeline: &Timeline) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "Timeline    {} ({} versions, head {})",
            self.application,
            timeline.versions.len(),
            number(self.head)
        );
        let _ = writeln!(text, "Postgres    {}", self.postgres);
        if let Some(lineage) = self.lineage {
            let _ = writeln!(text, "Lineage     {lineage}");
        }
        for version in &timeline.versions {
            let row = self.ledger.iter().find(|r| r.version == version.number);
            let state = match row {
                Some(row) => format!("{:<8}  {}", row.origin, row.applied_at),
                None if self.pending.contains(&version.number) => "pending".into(),
                None => "unknown".into(),
            };
            let release = version.release.as_deref().unwrap_or("");
            let _ = writeln!(text, "  {:>14}  {:<44}  {release:<8}  {state}", version.number, version.name);
        }
        for collection in &self.collections {
            let points = collection.points.map_or("absent".into(), |n| format!("{n} points"));
            let stamped = collection.stamped.map_or("not stamped".into(), |v| format!("stamped at {v}"));
            let _ = writeln!(text, "Collection  {}: {points}, {stamped}", collection.name);
            for step in &collection.steps {
                let _ = writeln!(text, "  pending: {step}");
            }
        }
        if let Some(refusal) = &self.refusal {
            let _ = writeln!(text, "A start would refuse:\n  {}", refusal.replace('\n', "\n  "));
        }
        text
    }
}

fn number(number: Option<Number>) -> String {
    number.map_or("none".into(), |n| n.to_string())
}

/// `tandem plan` for people.
pub fn plan_text(plan: &Plan, timeline: &Timeline) -> String {
    let mut text = format!("Postgres is {}\n", plan.postgres);
    let line = |verb: &str, number: Number| {
        let name = timeline.version(number).map(|v| v.name.as_str()).unwrap_or_default();
        format!("  {verb} {number} {name}\n")
    };
    if plan.create_ledger {
        let _ = writeln!(text, "  create the ledger in schema {}", timeline.settings.ledger_schema);
    }
    for (verb, versions) in
        [("stamp ", &plan.stamp), ("apply ", &plan.apply), ("renew the checksum of", &plan.heal)]
    {
        for number in versions {
            text.push_str(&line(verb, *number));
        }
    }
    for collection in &plan.collections {
        let _ = writeln!(text, "Collection {} is {}", collection.name, collection.found);
        for step in &collection.steps {
            let _ = writeln!(text, "  {}", step.describe());
        }
        if collection.publish && collection.steps.is_empty() {
            let _ = writeln!(text, "  note it in the ledger as published at version {}", plan.target);
        }
    }
    for run in &plan.resume {
        let _ = writeln!(text, "End the run of epoch {}, which stopped at {}", run.epoch, run.phase.as_str());
    }
    for warning in &plan.warnings {
        let _ = writeln!(text, "Warning: {warning}");
    }
    if plan.is_empty() {
        text.push_str("Nothing to do: both stores are at the target\n");
    }
    text
}

/// Are both stores proven to be at head? The full comparison, never the change detector.
pub fn verify(inspection: &Inspection<'_>, subject: &Subject<'_>) -> Result<Plan, Error> {
    let plan = inspection.plan(subject)?;
    if plan.has_effects() {
        return Err(Error::new(
            crate::error::ExitCode::Pending,
            format!("not at head: Postgres is {}", plan.postgres),
        )
        .expected(format!("both stores at version {}", plan.target))
        .remedy("tandem plan shows what is pending; tandem migrate does it"));
    }
    Ok(plan)
}
