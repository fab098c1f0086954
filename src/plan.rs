//! Verdicts and a target make a plan, or a refusal that says what would resolve it.

use crate::collection::Step;
use crate::error::{Error, ExitCode};
use crate::ledger::{Divergence, OpenRun};
use crate::repair::{self, Action, Obstacle};
use crate::timeline::{Number, Timeline};
use crate::verdict::{Nearest, Postgres};
use serde::Serialize;

/// Everything that a run will do, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct Plan {
    /// The version that both stores are brought to.
    pub target: Number,
    /// The finding about Postgres, in words.
    pub postgres: String,
    /// The ledger does not exist yet.
    pub create_ledger: bool,
    /// Versions that are recorded because the catalog proves them.
    pub stamp: Vec<Number>,
    /// Versions whose SQL will run.
    pub apply: Vec<Number>,
    /// Versions whose rows the ledger loses: the catalog does not have them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forget: Vec<Number>,
    /// What is done in one transaction before anything else, where a database is at no version as a whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repair: Vec<(Number, Action)>,
    /// The statements that complete what is missing, as far as they are known before versions are run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub complete: Vec<String>,
    /// What the versions break without being stopped by it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Versions whose raw checksum is renewed: the file changed, its tokens did not.
    pub heal: Vec<Number>,
    /// What each managed collection needs.
    pub collections: Vec<CollectionPlan>,
    /// Earlier runs without an end, which this one ends.
    pub resume: Vec<OpenRun>,
    /// The ledger is ahead of this image, which is allowed to start and touches nothing.
    pub ahead: bool,
}

/// What one real collection needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CollectionPlan {
    /// The real name.
    pub name: String,
    /// The finding, in words.
    pub found: String,
    pub steps: Vec<Step>,
    /// There are steps to take, or the ledger does not say yet that they were taken.
    pub publish: bool,
}

impl Plan {
    /// Nothing to do in either store.
    pub fn is_empty(&self) -> bool {
        !self.has_effects() && self.resume.is_empty()
    }

    /// Something will change in a store; ending the journal of a dead run alone is no such thing.
    pub fn has_effects(&self) -> bool {
        !self.postgres_is_empty() || self.collections.iter().any(|c| c.publish)
    }

    /// Will the SQL of this version run?
    pub fn runs(&self, version: Number) -> bool {
        self.apply.contains(&version) || self.runs_in_repair(version)
    }

    /// Will it run in the one transaction of a repair?
    pub fn runs_in_repair(&self, version: Number) -> bool {
        self.repair.contains(&(version, Action::Run))
    }

    /// Something will change in Qdrant.
    pub fn has_steps(&self) -> bool {
        self.collections.iter().any(|c| !c.steps.is_empty())
    }

    /// Nothing to do in Postgres.
    pub fn postgres_is_empty(&self) -> bool {
        !self.create_ledger
            && [&self.stamp, &self.apply, &self.heal, &self.forget].into_iter().all(Vec::is_empty)
            && self.repair.is_empty()
    }
}

/// Plans Postgres' way to the head of the timeline.
///
/// `install_beside` allows a first installation next to objects that nobody explains.
pub fn postgres(timeline: &Timeline, verdict: &Postgres, install_beside: bool) -> Result<Plan, Error> {
    let target = timeline.head().map_or(0, |v| v.number);
    let mut plan = Plan { target, postgres: describe(verdict, timeline), ..Plan::default() };
    let after =
        |at: Number| timeline.versions.iter().map(|v| v.number).filter(|n| *n > at).collect::<Vec<_>>();
    let through =
        |at: Number| timeline.versions.iter().map(|v| v.number).filter(|n| *n <= at).collect::<Vec<_>>();
    match verdict {
        Postgres::Fresh => {
            plan.create_ledger = true;
            plan.apply = after(0);
        }
        Postgres::Foreign { nearest: None, .. } if install_beside => {
            plan.create_ledger = true;
            plan.apply = after(0);
        }
        Postgres::Versioned { at, cosmetic, .. } => {
            plan.apply = after(*at);
            plan.heal.clone_from(cosmetic);
        }
        Postgres::Legacy { at, .. } | Postgres::Adopted { at, .. } => {
            plan.create_ledger = true;
            plan.stamp = through(*at);
            plan.apply = after(*at);
        }
        Postgres::Ahead { at, unknown, difference } => {
            let blocking = unknown.iter().find(|(_, _, compatible_from)| *compatible_from > target);
            if let Some((number, name, compatible_from)) = blocking {
                return Err(refusal(&plan)
                    .expected(format!(
                        "an image at version {compatible_from} or newer: version {number} ({name}) no longer lets older ones run; this image has {target}"
                    ))
                    .remedy("start the newer image, or downgrade the database with it first"));
            }
            if let Some(difference) = difference {
                return Err(refusal(&plan)
                    .expected(format!("the catalog that the ledger stored for version {at}: {difference}"))
                    .remedy("start the image that has the newest version; it names what differs"));
            }
            plan.ahead = true;
            plan.target = *at;
        }
        Postgres::Stale { claimed, proven: None, difference } => {
            return Err(refusal(&plan)
                .expected(format!("the catalog of version {claimed}: {}", difference.outline()))
                .remedy("restore a backup; or, if this database is to begin anew, give it an empty ledger as well"));
        }
        Postgres::Stale { claimed, proven: Some(at), .. } => {
            plan.stamp = through(*at).into_iter().filter(|number| number > claimed).collect();
            plan.forget = through(*claimed).into_iter().filter(|number| number > at).collect();
            plan.apply = after(*at);
        }
        Postgres::Partial { repair, .. } => {
            if !repair.obstacles.is_empty() {
                return Err(blocked(refusal(&plan), &repair.obstacles));
            }
            plan.create_ledger = true;
            plan.repair.clone_from(&repair.actions);
            plan.apply = after(repair.at);
        }
        Postgres::Diverged(divergence) => {
            return Err(Error::new(ExitCode::BadTimeline, divergence.to_string())
                .expected("the applied versions are the first ones of the timeline, unchanged")
                .remedy(match divergence {
                    Divergence::Edited { .. } => {
                        "put the file back as it was, and write what you want to change as a new version"
                    }
                    Divergence::Gap { .. } => "give the file a number above the newest applied version",
                    Divergence::Missing { .. } => "put the missing file back",
                    Divergence::Algorithm { .. } => "start a newer tandem",
                }));
        }
        Postgres::Foreign { nearest, .. } => {
            return Err(refusal(&plan).expected(foreign_expectation(nearest.as_ref(), timeline)).remedy(match nearest {
                Some(_) => format!(
                    "point tandem at the right database (POSTGRES_DB, DATABASE_URL), or bring these objects to that version by hand; {}",
                    repair::begin_anew(&timeline.settings.schemas)
                ),
                None => {
                    "point tandem at the right database (POSTGRES_DB, DATABASE_URL); to install beside these objects, say --install-beside".to_owned()
                }
            }));
        }
    }
    Ok(plan)
}

/// A refusal that names what is in the way, and every way out.
pub fn blocked(error: Error, obstacles: &[Obstacle]) -> Error {
    const SHOWN: usize = 10;
    let mut found: Vec<&str> = obstacles.iter().take(SHOWN).map(|obstacle| obstacle.found.as_str()).collect();
    let more = format!("and {} more", obstacles.len().saturating_sub(SHOWN));
    if obstacles.len() > SHOWN {
        found.push(&more);
    }
    let mut remedies: Vec<&str> = Vec::new();
    for obstacle in obstacles {
        if !remedies.contains(&obstacle.remedy.as_str()) {
            remedies.push(&obstacle.remedy);
        }
    }
    let expected = format!("nothing in the way of the versions:\n{}", found.join("\n"));
    error.expected(expected).remedy(remedies.join("\n"))
}

/// Refuses what stands in the way of the versions to come, before anything is done.
pub fn unblocked(plan: &Plan, obstacles: &[Obstacle]) -> Result<(), Error> {
    match obstacles {
        [] => Ok(()),
        obstacles => Err(blocked(refusal(plan), obstacles)),
    }
}

/// The refusal where objects are missing and may not be added.
pub fn incomplete(plan: &Plan, statements: &[String]) -> Error {
    let mut expected =
        format!("a database that lacks nothing; completing it takes {} statements", plan.complete.len());
    if !statements.is_empty() {
        expected.push_str(&format!(":\n{};", statements.join(";\n")));
    }
    refusal(plan)
        .expected(expected)
        .remedy("let tandem add what is missing: --complete=auto (tandem plan shows the statements)")
}

fn refusal(plan: &Plan) -> Error {
    Error::new(ExitCode::Refused, format!("Postgres is {}", plan.postgres))
}

fn foreign_expectation(nearest: Option<&Nearest>, timeline: &Timeline) -> String {
    match nearest {
        Some(n) => format!(
            "version {} ({}) comes nearest, with {} objects alike: {}",
            n.number,
            n.name,
            n.matched,
            n.difference.outline()
        ),
        None => format!("an empty database, or one of {}", timeline.settings.application),
    }
}

/// Does another tool's claim contradict what was proven? A version that tool knows nothing of makes no difference.
fn claims_other(timeline: &Timeline, claimed: Number, at: Number) -> bool {
    let between = |number: Number| number > claimed && number <= at;
    claimed > at || timeline.versions.iter().any(|v| between(v.number) && !v.adoption.is_empty())
}

/// The finding in words: which version, on what evidence.
pub fn describe(verdict: &Postgres, timeline: &Timeline) -> String {
    let name = |number: Number| match timeline.version(number) {
        Some(v) => match &v.release {
            Some(release) => format!("version {number} ({}, release {release})", v.name),
            None => format!("version {number} ({})", v.name),
        },
        None => format!("version {number}"),
    };
    let extras = |extras: &[String]| match extras.len() {
        0 => String::new(),
        1 => format!("; 1 object of your own is left alone: {}", extras[0]),
        n => format!("; {n} objects of your own are left alone, such as {}", extras[0]),
    };
    match verdict {
        Postgres::Fresh => "fresh: no object of the application".into(),
        Postgres::Versioned { at, extras: own, .. } => {
            format!("versioned: the ledger says {}, the catalog proves it{}", name(*at), extras(own))
        }
        Postgres::Legacy { at, compared, extras: own } => {
            format!("legacy: no ledger; {compared} objects compared, all as in {}{}", name(*at), extras(own))
        }
        Postgres::Adopted { at, compared, extras: own, claimed, evidence } => {
            let verdict = match claimed {
                Some(claimed) if claims_other(timeline, *claimed, *at) => "stale stamp",
                _ => "adopted",
            };
            format!(
                "{verdict}: {}; {compared} objects compared, all as in {}{}",
                evidence.join("; "),
                name(*at),
                extras(own)
            )
        }
        Postgres::Partial { repair, evidence, .. } => {
            let evidence = if evidence.is_empty() { "no ledger".to_owned() } else { evidence.join("; ") };
            let mut text =
                format!("partial: {evidence}; {} objects are as in {}", repair.matched, name(repair.at));
            let list = |verb: &str, numbers: Vec<Number>| match numbers.as_slice() {
                [] => String::new(),
                numbers => {
                    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
                    format!("; {verb} {}", numbers.join(", "))
                }
            };
            for (ids, word) in [(&repair.missing, "missing"), (&repair.different, "different")] {
                if ids.is_empty() {
                    continue;
                }
                let shown: Vec<String> = ids.iter().take(5).map(ToString::to_string).collect();
                let more = if ids.len() > 5 { " and more" } else { "" };
                text.push_str(&format!("; {} {word}: {}{more}", ids.len(), shown.join(", ")));
            }
            if !repair.reshaped.is_empty() {
                let tables: Vec<String> = repair.reshaped.iter().map(ToString::to_string).collect();
                text.push_str(&format!("; without a row, and given its form: {}", tables.join(", ")));
            }
            text.push_str(&list("to be run:", repair.with(Action::Run).collect()));
            text.push_str(&list("to be completed:", repair.with(Action::Complete).collect()));
            text.push_str(&extras(&repair.extras));
            text
        }
        Postgres::Ahead { at, unknown, .. } => format!(
            "ahead: the ledger is at version {at} and names {} version{} that this image does not have",
            unknown.len(),
            if unknown.len() == 1 { "" } else { "s" }
        ),
        Postgres::Stale { claimed, proven, .. } => match proven {
            Some(at) => {
                format!("stale: the ledger says {}, the catalog is that of {}", name(*claimed), name(*at))
            }
            None => {
                format!("stale: the ledger says {}, the catalog is not that of any version", name(*claimed))
            }
        },
        Postgres::Diverged(divergence) => divergence.to_string(),
        Postgres::Foreign { objects, evidence, .. } => {
            let evidence = if evidence.is_empty() { "no ledger".to_owned() } else { evidence.join("; ") };
            let resembles = if objects.len() == 1 { "it" } else { "them" };
            let count = crate::words::count(objects.len(), "object");
            let shown: Vec<&str> = objects.iter().take(5).map(String::as_str).collect();
            let more = if objects.len() > 5 { " and more" } else { "" };
            format!(
                "foreign: {evidence}; {count}, and no version resembles {resembles}: {}{more}",
                shown.join(", ")
            )
        }
    }
}
