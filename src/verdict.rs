//! What was found in a store, with the proof: observed data held against the timeline.

use crate::adoption::{self, Foreign, Tool};
use crate::catalog::{self, Catalog, Detail, Difference, Expected, Kind, Object, ObjectId};
use crate::ledger::{Divergence, Ledger, Standing};
use crate::repair::{self, Evidence, Repair};
use crate::timeline::{Number, Timeline};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What was read from Postgres.
#[derive(Debug, Clone)]
pub struct Seen {
    pub catalog: Catalog,
    pub ledger: Option<Ledger>,
    /// The `[proof]`s that were asked, by version.
    pub proofs: BTreeMap<Number, bool>,
    /// The catalogs that other timelines keep in the same place.
    pub others: Vec<Catalog>,
    /// The ledgers of other tools.
    pub foreign: Vec<Foreign>,
    /// Tables that are [in another form](repair::in_another_form) and hold no row.
    pub empty: BTreeSet<ObjectId>,
}

/// The verdict on Postgres.
#[derive(Debug, Clone, PartialEq)]
pub enum Postgres {
    /// No object of the application, and nobody else's.
    Fresh,
    /// Ledger at a version whose catalog is proven.
    Versioned { at: Number, extras: Vec<String>, cosmetic: Vec<Number> },
    /// No ledger; the catalog of a version is proven.
    Legacy { at: Number, compared: usize, extras: Vec<String> },
    /// As legacy, beside another tool's ledger, which claims the same, nothing, or something else.
    Adopted {
        at: Number,
        compared: usize,
        extras: Vec<String>,
        claimed: Option<Number>,
        evidence: Vec<String>,
    },
    /// Some versions' effects are there, others are not.
    Partial { repair: Repair, claimed: Option<Number>, evidence: Vec<String> },
    /// The ledger names versions that this image does not have.
    Ahead { at: Number, unknown: Vec<(Number, String, Number)>, difference: Option<Difference> },
    /// The ledger claims a version that the catalog does not show.
    Stale { claimed: Number, proven: Option<Number>, difference: Difference },
    /// Rows and timeline contradict each other.
    Diverged(Divergence),
    /// Objects, but no version resembles them.
    Foreign { nearest: Option<Nearest>, objects: Vec<String>, evidence: Vec<String> },
}

/// The version that comes nearest to what was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Nearest {
    pub number: Number,
    pub name: String,
    /// Objects of that version that were found as they should be.
    pub matched: usize,
    pub difference: Difference,
}

/// Judges Postgres. `standing` says how the ledger's rows stand to the timeline, if there is a ledger.
pub fn postgres(
    timeline: &Timeline,
    expected: &Expected,
    seen: &Seen,
    standing: Option<Standing>,
) -> Postgres {
    match (&seen.ledger, standing) {
        (Some(_), Some(Standing::Diverged(divergence))) => Postgres::Diverged(divergence),
        (Some(ledger), Some(Standing::Ahead { unknown })) => ahead(ledger, unknown, &seen.catalog),
        (Some(ledger), Some(Standing::Prefix { cosmetic })) if !ledger.rows.is_empty() => {
            versioned(timeline, expected, seen, ledger, cosmetic)
        }
        _ => unversioned(timeline, expected, seen),
    }
}

fn ahead(ledger: &Ledger, unknown: Vec<(Number, String, Number)>, found: &Catalog) -> Postgres {
    // A row without a stored catalog proves nothing, so everything counts as different from it.
    let stored =
        ledger.newest_catalog.as_deref().and_then(|text| Catalog::from_json(text).ok()).unwrap_or_default();
    let difference = catalog::compare(found, &stored);
    let proven = difference.is_proof() && ledger.newest_catalog.is_some();
    Postgres::Ahead { at: ledger.at(), unknown, difference: (!proven).then_some(difference) }
}

fn versioned(
    timeline: &Timeline,
    expected: &Expected,
    seen: &Seen,
    ledger: &Ledger,
    cosmetic: Vec<Number>,
) -> Postgres {
    let claimed = ledger.at();
    let found = &seen.catalog;
    let difference = difference(found, expected, claimed);
    let proven = difference.is_proof() || under_way(timeline, expected, claimed, &difference);
    let evidence = Evidence { proofs: &seen.proofs, claimed: Some(claimed), own: true, empty: &seen.empty };
    let repair = match proven && !is_beyond(timeline, expected, found, claimed, &difference) {
        true => None,
        false => repair::repair(found, expected, timeline, &evidence),
    };
    if proven && repair.as_ref().is_none_or(|repair| repair.at <= claimed) {
        return Postgres::Versioned { at: claimed, extras: names(&difference), cosmetic };
    }
    match repair {
        None => Postgres::Stale { claimed, proven: None, difference },
        Some(repair) if repair.is_whole() && repair.obstacles.is_empty() => {
            Postgres::Stale { claimed, proven: Some(repair.at), difference }
        }
        Some(repair) => {
            let evidence = vec![format!("the ledger says version {claimed}")];
            Postgres::Partial { repair, claimed: Some(claimed), evidence }
        }
    }
}

/// Is all that is missing what the next version drops outside a transaction? Then that one is at work, or was
/// interrupted, between its statements and its ledger row; running it again is made for that.
fn under_way(timeline: &Timeline, expected: &Expected, at: Number, difference: &Difference) -> bool {
    let next = timeline.versions.iter().find(|version| version.number > at);
    let Some(next) = next.filter(|version| version.up.as_ref().is_some_and(|up| !up.transaction)) else {
        return false;
    };
    let removed = expected.effects.get(&next.number).map_or(&[][..], |effects| &effects.removed);
    // An index that replaces another over the same columns is reported as that one, different.
    let differing = difference.different.iter().map(|different| &different.id);
    differing.chain(&difference.missing).all(|id| removed.contains(id))
}

/// Is there something of a version above the ledger's that runs in a transaction, and so came some other way?
fn is_beyond(
    timeline: &Timeline,
    expected: &Expected,
    found: &Catalog,
    at: Number,
    difference: &Difference,
) -> bool {
    let next = timeline.versions.iter().find(|version| version.number > at);
    if next.is_none_or(|next| next.up.as_ref().is_some_and(|up| !up.transaction)) {
        return false;
    }
    let later: Vec<_> = expected.effects.range(at + 1..).map(|(_, effects)| effects).collect();
    if later.is_empty() {
        return false;
    }
    let added: HashSet<&ObjectId> =
        later.iter().flat_map(|effects| effects.added.iter().map(|(id, _)| id)).collect();
    let now = expected.catalog_at(at).unwrap_or_default();
    let label = |(id, after): &(ObjectId, Object)| {
        let labels = |catalog: &Catalog| match catalog.objects.get(id).map(|object| &object.detail) {
            Some(Detail::Enum(found)) => found.labels.clone(),
            _ => Vec::new(),
        };
        let (now, found) = (labels(&now), labels(found));
        matches!(&after.detail, Detail::Enum(after) if after.labels.iter().any(|label| found.contains(label) && !now.contains(label)))
    };
    difference.extra.iter().any(|id| added.contains(id))
        || later.iter().any(|effects| effects.changed.iter().any(label))
}

fn unversioned(timeline: &Timeline, expected: &Expected, seen: &Seen) -> Postgres {
    let known = known(expected);
    // An extension belongs to the database: many applications use the same one.
    let objects = || seen.catalog.objects.keys().filter(|id| id.kind != Kind::Extension && !id.is_part());
    let ledgers: HashSet<String> = seen.foreign.iter().map(|ledger| ledger.table.replace('"', "")).collect();
    let explained = |id: &ObjectId| {
        seen.others.iter().any(|other| other.objects.contains_key(id))
            || id.kind == Kind::Table && ledgers.contains(&format!("{}.{}", id.schema, id.relation))
    };
    let own = objects().filter(|id| known.contains(id)).count();
    let strangers = objects().filter(|id| !known.contains(id) && !explained(id)).count();
    if own == 0 && strangers == 0 {
        return Postgres::Fresh;
    }
    let ranked = catalog::resemble(&seen.catalog, expected);
    let claimed = adoption::claimed(&seen.foreign, timeline);
    let evidence = Evidence { proofs: &seen.proofs, claimed, own: false, empty: &seen.empty };
    let words = || seen.foreign.iter().map(|ledger| ledger.describe(timeline)).collect::<Vec<_>>();
    if let Some(repair) = repair::repair(&seen.catalog, expected, timeline, &evidence) {
        let Repair { at, matched, .. } = repair;
        if repair.is_whole() && repair.obstacles.is_empty() {
            let extras = repair.extras;
            return match words() {
                none if none.is_empty() => Postgres::Legacy { at, compared: matched, extras },
                evidence => {
                    // A list of files says how a database began, not where it is.
                    let ledgers = seen.foreign.iter().filter(|ledger| ledger.tool != Tool::Files);
                    let claimed = ledgers.filter_map(|ledger| ledger.claims(timeline)).max();
                    Postgres::Adopted { at, compared: matched, extras, claimed, evidence }
                }
            };
        }
        // A few objects alike among many strangers are no sign of the application, unless something says so.
        let proven = ranked.iter().any(|r| r.is_proof() && r.matched > 0);
        let alike = strangers == 0 || matched * 2 >= matched + repair.missing.len() && matched > strangers;
        if proven || claimed.is_some() || repair.obstacles.is_empty() && alike {
            return Postgres::Partial { repair, claimed, evidence: words() };
        }
    }
    let nearest = ranked
        .iter()
        .filter(|r| r.matched > 0)
        .max_by_key(|r| (r.matched, std::cmp::Reverse(r.missing + r.different)));
    let nearest = nearest.filter(|_| own > 0).map(|r| Nearest {
        number: r.number,
        name: timeline.version(r.number).map(|v| v.name.clone()).unwrap_or_default(),
        matched: r.matched,
        difference: difference(&seen.catalog, expected, r.number),
    });
    let objects = objects().filter(|id| !explained(id)).map(ToString::to_string).collect();
    Postgres::Foreign { nearest, objects, evidence: words() }
}

/// Held against a version that was recorded; against nothing if it was not.
fn difference(found: &Catalog, expected: &Expected, number: Number) -> Difference {
    expected.compare(found, number)
}

/// Every object that belongs to some version.
fn known(expected: &Expected) -> HashSet<&ObjectId> {
    let added = expected.effects.values().flat_map(|effects| effects.added.iter().map(|(id, _)| id));
    expected.baseline.objects.keys().chain(added).collect()
}

fn names(difference: &Difference) -> Vec<String> {
    difference.extra_roots().filter(|id| id.kind != Kind::Extension).map(ToString::to_string).collect()
}

/// The verdict on one managed collection: what its stamp says beside what the ledger says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Collection {
    /// Not there; a declaration ensures it, and it was never published from this ledger.
    Absent,
    /// Not there, although this ledger published it.
    Gone { at: Number },
    /// There, and no tandem has touched it.
    Unstamped,
    /// Stamped by this lineage at or below the ledger's version.
    Stamped { at: Number },
    /// Stamped beside a Postgres that has no ledger.
    Orphaned { at: Number },
    /// Stamped by another database's ledger.
    OtherLineage { lineage: String },
    /// Stamped above the ledger's version by this ledger, which has gone back since.
    WentBack { at: Number, ledger: Number },
    /// Stamped above the ledger's version.
    Above { at: Number, ledger: Number },
}

/// Judges a collection by its stamp. `at` is the version that Postgres has, or will have once the run's last version
/// is committed; `ledger` is the lineage and the published collections, if there is a ledger.
pub fn collection(
    stamp: Option<Option<(&str, Number)>>,
    published: Option<Number>,
    lineage: Option<&str>,
    at: Number,
) -> Collection {
    match (stamp, published, lineage) {
        (None, Some(at), _) => Collection::Gone { at },
        (None, None, _) => Collection::Absent,
        (Some(None), _, _) => Collection::Unstamped,
        (Some(Some((_, stamped))), _, None) => Collection::Orphaned { at: stamped },
        (Some(Some((theirs, _))), _, Some(ours)) if theirs != ours => {
            Collection::OtherLineage { lineage: theirs.to_owned() }
        }
        // The ledger knows that it had published this: it was downgraded. One from a backup would not know.
        (Some(Some((_, stamped))), Some(published), _) if stamped > at && published >= stamped => {
            Collection::WentBack { at: stamped, ledger: at }
        }
        (Some(Some((_, stamped))), _, _) if stamped > at => Collection::Above { at: stamped, ledger: at },
        (Some(Some((_, stamped))), _, _) => Collection::Stamped { at: stamped },
    }
}

impl Collection {
    /// The two stores do not belong together as they are.
    pub fn is_skewed(&self) -> bool {
        matches!(
            self,
            Self::Gone { .. } | Self::Orphaned { .. } | Self::OtherLineage { .. } | Self::Above { .. }
        )
    }

    /// The finding in words.
    pub fn describe(&self) -> String {
        match self {
            Self::Absent => "absent".into(),
            Self::Gone { at } => {
                format!("gone: the ledger published it at version {at}, and Qdrant does not have it")
            }
            Self::Unstamped => "not stamped yet".into(),
            Self::Stamped { at } => format!("stamped at version {at}"),
            Self::Orphaned { at } => format!("stamped at version {at}, beside a Postgres that has no ledger"),
            Self::OtherLineage { lineage } => format!("stamped by another database (lineage {lineage})"),
            Self::WentBack { at, ledger } => {
                format!("stamped at version {at}, from which the ledger has gone back to {ledger}")
            }
            Self::Above { at, ledger } => format!("stamped at version {at}, above the ledger's {ledger}"),
        }
    }
}
