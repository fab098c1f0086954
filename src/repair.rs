//! Choosing what to run by effects: which versions a database has, whatever a stamp says, and what would make it whole.
//!
//! The effect of a version is the difference of the catalogs before and after it. A version's own objects are evidence for
//! it if they are there in its form or in that of a later version, and against it if they are missing or still have the form
//! from before. Missing where a later version drops them, or where databases may lack them, they are evidence of nothing;
//! that something a version drops is not there counts only where the version has no other evidence, since what was never
//! made is missing as well.

use crate::catalog::render::{Completion, complete_beside};
use crate::catalog::{Catalog, Detail, Difference, Different, Effects, Expected, Kind, Object, ObjectId};
use crate::timeline::{Number, Timeline};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What a database has of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Applied,
    Missing,
    /// Some of its effects are there. `whole` says that what is missing can be had by adding.
    Partly {
        whole: bool,
    },
    /// It leaves no evidence in this catalog.
    Unseen,
}

/// What a repair does about a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Its effects are there: it is recorded. If it has a `[proof]` and no effects on the catalog, the proof is asked
    /// when its turn comes, and it is run if that is false.
    Keep,
    /// Its statements are run.
    Run,
    /// What is missing of it is rendered from the expected catalog, and its `[data]` is run.
    Complete,
}

/// How a database is made to be at a version, in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The newest version that the database shows something of.
    pub at: Number,
    pub actions: Vec<(Number, Action)>,
    /// How many objects of that version were found as they should be.
    pub matched: usize,
    /// What is missing of that version now, without the parts of missing relations.
    pub missing: Vec<ObjectId>,
    /// What is there in another form than that version's.
    pub different: Vec<ObjectId>,
    /// Tables of another beginning that a ledger claims and that hold no row: they are given their form.
    pub reshaped: BTreeSet<ObjectId>,
    /// What nothing of this can resolve, in words.
    pub obstacles: Vec<Obstacle>,
    /// The user's own objects.
    pub extras: Vec<String>,
}

/// Something of the database's own that stands where a version needs the place, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    pub found: String,
    pub remedy: String,
}

/// What is known about a database besides its catalog.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The `[proof]`s that were asked.
    pub proofs: &'a BTreeMap<Number, bool>,
    /// The newest version that tandem's own ledger claims, or another tool's.
    pub claimed: Option<Number>,
    /// The claim is that of tandem's own ledger.
    pub own: bool,
    /// Of the tables that are [`in_another_form`], those that hold no row.
    pub empty: &'a BTreeSet<ObjectId>,
}

/// Objects of the database that no version has.
type Own<'a> = Vec<(&'a ObjectId, &'a Object)>;

/// The forms of an object along the timeline: version and form, `None` where it is dropped.
type History<'a> = HashMap<&'a ObjectId, Vec<(Number, Option<&'a Object>)>>;

/// Finds out what a database has and what would make it whole; `None` if it shows nothing of any version.
pub fn repair(
    actual: &Catalog,
    expected: &Expected,
    timeline: &Timeline,
    evidence: &Evidence<'_>,
) -> Option<Repair> {
    let history = history(expected);
    let numbers: Vec<Number> = expected.index.versions.iter().map(|version| version.number).collect();
    let standings: Vec<(Number, Standing)> =
        numbers.iter().map(|number| (*number, standing(*number, actual, expected, &history))).collect();
    let shown = |standing: &Standing| matches!(standing, Standing::Applied | Standing::Partly { .. });
    let mut end = standings.iter().rposition(|(_, standing)| shown(standing))?;
    // What leaves no evidence goes with the version before it, while its proof holds.
    while let Some((next, Standing::Unseen)) = standings.get(end + 1)
        && evidence.proofs.get(next).copied().unwrap_or(true)
    {
        end += 1;
    }
    let standings = &standings[..=end];
    let at = standings[end].0;
    let actions: Vec<(Number, Action)> = standings
        .iter()
        .map(|(number, standing)| (*number, action(*number, *standing, timeline, evidence.proofs)))
        .collect();
    let difference = expected.compare(actual, at);
    let mut found = Repair {
        at,
        matched: expected.catalog_at(at).map_or(0, |catalog| catalog.objects.len())
            - difference.missing.len()
            - difference.different.len(),
        missing: difference.missing_roots().cloned().collect(),
        different: difference.different.iter().map(|different| different.id.clone()).collect(),
        extras: extras(actual, &history),
        reshaped: evidence
            .empty
            .iter()
            .filter(|table| claimed_whole(evidence, table, actual, expected, &history))
            .cloned()
            .collect(),
        obstacles: Vec::new(),
        actions,
    };
    found.obstacles = obstacles(&found, actual, expected, timeline, evidence, &history);
    Some(found)
}

impl Repair {
    /// The versions with this action.
    pub fn with(&self, action: Action) -> impl Iterator<Item = Number> {
        self.actions.iter().filter(move |(_, a)| *a == action).map(|(number, _)| *number)
    }

    /// Nothing is to be run or completed: the version only has to be recorded.
    pub fn is_whole(&self) -> bool {
        self.actions.iter().all(|(_, action)| *action == Action::Keep)
            && self.missing.is_empty()
            && self.different.is_empty()
    }
}

/// Whether a ledger claims the version that makes it.
fn claimed(evidence: &Evidence<'_>, id: &ObjectId, history: &History<'_>) -> bool {
    let made = history.get(id).and_then(|forms| forms.first()).map(|(number, _)| *number);
    made.is_some_and(|made| evidence.claimed.is_some_and(|claimed| claimed >= made))
}

/// The same, and also of the table's columns that are in another form: one that a version to come makes is the user's own.
fn claimed_whole(
    evidence: &Evidence<'_>,
    table: &ObjectId,
    actual: &Catalog,
    expected: &Expected,
    history: &History<'_>,
) -> bool {
    let of_table = |id: &&ObjectId| (&id.schema, &id.relation) == (&table.schema, &table.relation);
    let mut strange = strange_columns(actual, expected, history).filter(of_table);
    claimed(evidence, table, history) && strange.all(|column| claimed(evidence, column, history))
}

/// Columns in a form that no version has.
fn strange_columns<'a>(
    actual: &'a Catalog,
    expected: &Expected,
    history: &History<'_>,
) -> impl Iterator<Item = &'a ObjectId> {
    let across = across(actual, expected);
    let strange = move |(id, object): &(&ObjectId, &Object)| {
        id.kind == Kind::Column
            && history.get(id).is_some_and(|forms| {
                !forms.iter().any(|(_, form)| form.is_some_and(|f| object.detail.same(&f.detail, across)))
            })
    };
    actual.objects.iter().filter(strange).map(|(id, _)| id)
}

/// Tables that bear the name of a version's table and have a column in a form that no version has. Whether they hold
/// rows decides what can be done about them.
pub fn in_another_form(actual: &Catalog, expected: &Expected) -> BTreeSet<ObjectId> {
    let history = history(expected);
    strange_columns(actual, expected, &history)
        .map(|id| ObjectId::relation(Kind::Table, &*id.schema, &*id.relation))
        .filter(|table| actual.objects.contains_key(table))
        .collect()
}

fn action(
    number: Number,
    standing: Standing,
    timeline: &Timeline,
    proofs: &BTreeMap<Number, bool>,
) -> Action {
    let refuted = proofs.get(&number) == Some(&false);
    let has_sql = timeline.version(number).is_some_and(|version| version.up.is_some());
    match standing {
        Standing::Missing | Standing::Partly { whole: false } => Action::Run,
        Standing::Partly { whole: true } => Action::Complete,
        Standing::Applied if refuted => Action::Complete,
        Standing::Unseen if refuted && has_sql => Action::Run,
        Standing::Unseen if refuted => Action::Complete,
        Standing::Applied | Standing::Unseen => Action::Keep,
    }
}

fn history(expected: &Expected) -> History<'_> {
    let mut history = History::new();
    let Some(first) = expected.index.versions.first().map(|version| version.number) else { return history };
    for (id, object) in &expected.baseline.objects {
        history.entry(id).or_default().push((first, Some(object)));
    }
    for (number, effects) in &expected.effects {
        for id in &effects.removed {
            history.entry(id).or_default().push((*number, None));
        }
        for (id, object) in effects.added.iter().chain(&effects.changed) {
            history.entry(id).or_default().push((*number, Some(object)));
        }
    }
    history
}

/// Whatever a version has or had.
pub fn known(expected: &Expected) -> HashSet<&ObjectId> {
    history(expected).into_keys().collect()
}

/// The labels of enum types that a version has or had.
pub fn known_labels(expected: &Expected) -> HashSet<&str> {
    let later = expected.effects.values().flat_map(|effects| effects.added.iter().chain(&effects.changed));
    let all = expected.baseline.objects.iter().chain(later.map(|(id, object)| (id, object)));
    all.flat_map(|(_, object)| match &object.detail {
        Detail::Enum(of) => of.labels.as_slice(),
        _ => &[],
    })
    .map(String::as_str)
    .collect()
}

/// What a version does: the objects that it leaves, and those that it drops.
fn effects_of(number: Number, expected: &Expected) -> (Vec<(&ObjectId, &Object)>, Vec<&ObjectId>) {
    match expected.effects.get(&number) {
        Some(effects) => {
            let left = effects.added.iter().chain(&effects.changed).map(|(id, object)| (id, object));
            (left.collect(), effects.removed.iter().collect())
        }
        None if expected.index.versions.first().is_some_and(|first| first.number == number) => {
            (expected.baseline.objects.iter().collect(), Vec::new())
        }
        None => (Vec::new(), Vec::new()),
    }
}

fn standing(number: Number, actual: &Catalog, expected: &Expected, history: &History<'_>) -> Standing {
    let (left, removed) = effects_of(number, expected);
    let optional = expected.optional_at(number);
    let (mut there, mut to_add, mut to_change, mut gone) = (0, 0, 0, 0);
    let forms = |id: &ObjectId, when: &dyn Fn(Number) -> bool| {
        let all = history.get(id).map(Vec::as_slice).unwrap_or_default();
        all.iter().filter(|(number, _)| when(*number)).map(|(_, form)| *form).collect::<Vec<_>>()
    };
    let like = |found: &Object, forms: &[Option<&Object>]| {
        forms.iter().flatten().any(|form| found.detail.stands_for(&form.detail, across(actual, expected)))
    };
    // Seldom more than one step back: the form right before this version.
    let before = |id: &ObjectId| forms(id, &|n| n < number).pop().flatten();
    for (id, object) in &left {
        // An extension belongs to the database: others install the same one.
        if id.kind == Kind::Extension {
            continue;
        }
        let unchanged =
            before(id).is_some_and(|before| before.detail.same(&object.detail, across(actual, expected)));
        if unchanged {
            continue;
        }
        match actual.objects.get(*id) {
            Some(found) if like(found, &forms(id, &|n| n >= number)) => there += 1,
            Some(found) if like(found, &forms(id, &|n| n < number)) => to_change += 1,
            // Somebody's own form says nothing.
            Some(_) => {}
            None if optional.covers(id, object) => {}
            None if forms(id, &|n| n > number).iter().any(Option::is_none) => {}
            None => to_add += 1,
        }
    }
    let own = there + to_add + to_change;
    for id in removed {
        match actual.objects.get(id) {
            None => gone += 1,
            Some(found) if like(found, &forms(id, &|n| n > number)) => {}
            Some(found) if like(found, &forms(id, &|n| n < number)) => to_change += 1,
            Some(_) => {}
        }
    }
    match (there, to_add + to_change) {
        (0, 0) if own == 0 && gone > 0 => Standing::Applied,
        (0, 0) => Standing::Unseen,
        (0, _) if own == 0 && gone > 0 => Standing::Partly { whole: to_change == 0 },
        (0, _) => Standing::Missing,
        (_, 0) => Standing::Applied,
        _ => Standing::Partly { whole: to_change == 0 },
    }
}

/// Servers of two major versions print views differently.
fn across(actual: &Catalog, expected: &Expected) -> bool {
    actual.server / 10_000 != expected.index.server / 10_000
}

/// What completing a version adds to a database: its own objects in the newest form that no version to be run has yet to
/// give them.
pub fn wanted(
    number: Number,
    actual: &Catalog,
    expected: &Expected,
    actions: &[(Number, Action)],
) -> Catalog {
    let to_run: BTreeSet<Number> =
        actions.iter().filter(|(n, a)| *a == Action::Run && *n > number).map(|(n, _)| *n).collect();
    let end = actions.last().map_or(number, |(n, _)| *n);
    let mut wanted = Catalog { server: expected.index.server, ..Catalog::default() };
    for (id, object) in effects_of(number, expected).0 {
        wanted.objects.insert(id.clone(), object.clone());
    }
    for (later, effects) in
        expected.effects.range(number..=end.max(number)).skip_while(|(n, _)| **n == number)
    {
        let runs = to_run.contains(later);
        for id in &effects.removed {
            if !runs {
                wanted.objects.remove(id);
            }
        }
        for (id, object) in &effects.changed {
            if !runs && let Some(form) = wanted.objects.get_mut(id) {
                form.clone_from(object);
            }
        }
    }
    without_optional(&mut wanted, actual, expected, number);
    wanted
}

/// The expected catalog of a version without what this database may lack and lacks.
pub fn required(number: Number, actual: &Catalog, expected: &Expected) -> Catalog {
    let mut wanted = expected.catalog_at(number).unwrap_or_default();
    without_optional(&mut wanted, actual, expected, number);
    wanted
}

fn without_optional(wanted: &mut Catalog, actual: &Catalog, expected: &Expected, number: Number) {
    let optional = expected.optional_at(number);
    let lacks_relation = |id: &ObjectId| {
        id.is_part()
            && ![Kind::Table, Kind::View, Kind::MaterializedView].into_iter().any(|kind| {
                actual.objects.contains_key(&ObjectId::relation(kind, &*id.schema, &*id.relation))
            })
    };
    wanted.objects.retain(|id, object| {
        actual.objects.contains_key(id)
            || !(optional.names(id, object) || lacks_relation(id) && optional.covers(id, object))
    });
}

/// The user's own objects: what no version has.
fn extras(actual: &Catalog, history: &History<'_>) -> Vec<String> {
    let unknown: BTreeSet<&ObjectId> =
        actual.objects.keys().filter(|id| !history.contains_key(id) && id.kind != Kind::Extension).collect();
    let relation = |id: &ObjectId| {
        [Kind::Table, Kind::View, Kind::MaterializedView]
            .map(|kind| ObjectId::relation(kind, &*id.schema, &*id.relation))
    };
    unknown
        .iter()
        .filter(|id| !id.is_part() || !relation(id).iter().any(|relation| unknown.contains(relation)))
        .map(ToString::to_string)
        .collect()
}

fn obstacles(
    repair: &Repair,
    actual: &Catalog,
    expected: &Expected,
    timeline: &Timeline,
    evidence: &Evidence<'_>,
    history: &History<'_>,
) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    for number in repair.with(Action::Run) {
        let up = timeline.version(number).and_then(|version| version.up.as_ref());
        if let Some(up) = up.filter(|up| !up.transaction) {
            obstacles.push(Obstacle {
                found: format!(
                    "version {number} is missing below version {}, and cannot run in a transaction",
                    repair.at
                ),
                remedy: format!("run the statements of {} by hand, then start again", up.path),
            });
        }
    }
    let touched = |id: &ObjectId| {
        repair.with(Action::Run).any(|number| {
            history.get(id).is_some_and(|forms| forms.iter().any(|(touching, _)| *touching == number))
        })
    };
    // Objects that are there in another form, and that no version to be run is going to change.
    let required = required(repair.at, actual, expected);
    let Completion { impossible, .. } = complete_beside(actual, &required, &repair.reshaped);
    let impossible: Vec<&Different> = impossible.iter().filter(|different| !touched(&different.id)).collect();
    let relation = |id: &ObjectId| (id.schema.clone(), id.relation.clone());
    let foreign = foreign_tables(repair, actual, expected, evidence, history, &impossible);
    // What a table is that is not the version's own is told once, not column by column.
    let told =
        |id: &ObjectId| id.is_part() && foreign.iter().any(|(table, ..)| relation(table) == relation(id));
    obstacles.extend(impossible.into_iter().filter(|different| !told(&different.id)).map(|different| {
        let id = &different.id;
        Obstacle {
            found: format!("{id}: expected {}; found {}", different.expected, different.found),
            remedy: by_hand(id, actual, &required),
        }
    }));
    let first = expected.index.versions.first().map(|version| version.number);
    // More than one of the first version's tables in another form is another beginning, which nothing can be added to.
    let another = foreign.iter().filter(|(_, made, _)| Some(*made) == first).count();
    let another = another > 0 && another + repair.reshaped.len() > 1;
    obstacles.extend(foreign.into_iter().map(|(_, _, obstacle)| obstacle));
    if another {
        let remedy = begin_anew(&timeline.settings.schemas);
        for obstacle in &mut obstacles {
            obstacle.remedy.clone_from(&remedy);
        }
    }
    obstacles
}

/// What brings an object in another form to what is expected, where one statement does; else how to get it out of the way.
fn by_hand(id: &ObjectId, actual: &Catalog, required: &Catalog) -> String {
    let own = format!("if it is your own, rename it: {}", rename(id));
    let detail = |catalog: &Catalog| catalog.objects.get(id).map(|object| object.detail.clone());
    let (Some(Detail::Column(found)), Some(Detail::Column(wanted))) = (detail(actual), detail(required))
    else {
        return format!("change it by hand to what is expected, or, {own}");
    };
    let mut actions = Vec::new();
    let column = bare(&id.name);
    let kind = &wanted.data_type;
    if found.data_type != *kind {
        actions.push(format!("alter column {column} type {kind} using {column}::{kind}"));
    }
    if found.not_null && !wanted.not_null {
        actions.push(format!("alter column {column} drop not null"));
    }
    if found.default != wanted.default
        && found.generated.is_none()
        && let Some(default) = wanted.default.as_ref().filter(|_| wanted.generated.is_none())
    {
        actions.push(format!("alter column {column} set default {default}"));
    }
    if actions.is_empty() || found.identity != wanted.identity || found.generated != wanted.generated {
        return format!("change it by hand to what is expected, or, {own}");
    }
    let table = format!("{}.{}", bare(&id.schema), bare(&id.relation));
    format!("alter table {table} {}; or, {own}", actions.join(", "))
}

/// The way out where the objects began in a form that no version continues: they are kept, and the versions get a place.
pub fn begin_anew(schemas: &[String]) -> String {
    let schema = schemas.first().map_or("public", String::as_str);
    let (schema, aside) = (bare(schema), bare(&format!("{schema}_before")));
    format!(
        "to keep all of it aside and begin anew: alter schema {schema} rename to {aside}; create schema {schema}; then start again"
    )
}

/// Tables that bear the name of a version's table and are, as far as can be told, somebody's own: they lack columns, and
/// nothing says that the version was ever there, or they have columns that no version has. With the version that makes them.
fn foreign_tables(
    repair: &Repair,
    actual: &Catalog,
    expected: &Expected,
    evidence: &Evidence<'_>,
    history: &History<'_>,
    impossible: &[&Different],
) -> Vec<(ObjectId, Number, Obstacle)> {
    let taken: BTreeSet<(&str, &str)> = impossible
        .iter()
        .filter(|d| d.id.kind.is_relation())
        .map(|d| (&*d.id.schema, &*d.id.relation))
        .collect();
    let required = required(repair.at, actual, expected);
    let mut lacking: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for id in required.objects.keys().filter(|id| id.kind == Kind::Column) {
        let table = ObjectId::relation(Kind::Table, &*id.schema, &*id.relation);
        if actual.objects.contains_key(&table) && !actual.objects.contains_key(id) {
            lacking.entry((&id.schema, &id.relation)).or_default().push(&id.name);
        }
    }
    let mut obstacles = Vec::new();
    for ((schema, relation), columns) in lacking {
        let table = ObjectId::relation(Kind::Table, schema, relation);
        let made = history.get(&table).and_then(|forms| forms.first()).map_or(0, |(number, _)| *number);
        // A column that a version to be run adds is no gap.
        let gaps: Vec<&&str> = columns
            .iter()
            .filter(|name| {
                let id = ObjectId::part(Kind::Column, schema, relation, **name);
                !repair.with(Action::Run).any(|number| {
                    number > made
                        && history.get(&id).is_some_and(|forms| forms.iter().any(|(n, _)| *n == number))
                })
            })
            .collect();
        let strange = actual.objects.keys().any(|id| {
            id.kind == Kind::Column
                && id.schema == schema
                && id.relation == relation
                && !history.contains_key(id)
        });
        let believed = claimed(evidence, &table, history)
            && (evidence.own || !strange || repair.reshaped.contains(&table));
        if gaps.is_empty() || believed || taken.contains(&(schema, relation)) {
            continue;
        }
        let more = if gaps.len() > 1 { format!(" and {} more", gaps.len() - 1) } else { String::new() };
        let differing: Vec<&str> = impossible
            .iter()
            .filter(|d| d.id.kind == Kind::Column && (&*d.id.schema, &*d.id.relation) == (schema, relation))
            .map(|d| d.id.name.as_str())
            .collect();
        let differing = match differing.as_slice() {
            [] => String::new(),
            names => format!("; in another form are its {}", names.join(", ")),
        };
        let obstacle = Obstacle {
            found: format!(
                "{table} is in the way: version {made} makes a table of that name, and this one lacks its column {}{more}{differing}",
                gaps[0]
            ),
            remedy: format!("if it is your own, rename it: {}", rename(&table)),
        };
        obstacles.push((table, made, obstacle));
    }
    obstacles
}

/// The statement that gets something out of the way.
fn rename(id: &ObjectId) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let (schema, relation) = (quoted(&id.schema), quoted(&id.relation));
    match id.kind {
        Kind::View => {
            format!("alter view {schema}.{relation} rename to {}", quoted(&format!("{}_own", id.relation)))
        }
        Kind::Column => format!(
            "alter table {schema}.{relation} rename column {} to {}",
            quoted(&id.name),
            quoted(&format!("{}_own", id.name))
        ),
        _ if id.relation.is_empty() => format!("alter … rename {}", id.name),
        _ => format!("alter table {schema}.{relation} rename to {}", quoted(&format!("{}_own", id.relation))),
    }
}

/// What stands in the way of versions to come: somebody's own relation where a version makes one, and views on what a
/// version drops or gives another type.
pub fn in_the_way(actual: &Catalog, expected: &Expected, versions: &[Number]) -> Vec<Obstacle> {
    let known = known(expected);
    let first = first(expected);
    let steps = || {
        let effects = versions.iter().filter_map(|number| match &first {
            Some((first, effects)) if first == number => Some((*number, effects)),
            _ => Some((*number, expected.effects.get(number)?)),
        });
        effects.map(|(number, effects)| (format!("version {number}"), effects))
    };
    let mut obstacles = in_the_way_of(actual, &known, &|id| known.contains(id), steps());
    obstacles.extend(replaced(actual, expected, steps()));
    obstacles
}

/// What the first version makes.
fn first(expected: &Expected) -> Option<(Number, Effects)> {
    let added = expected.baseline.objects.iter().map(|(id, object)| (id.clone(), object.clone())).collect();
    let effects = Effects { server: expected.baseline.server, added, ..Effects::default() };
    expected.index.versions.first().map(|version| (version.number, effects))
}

/// What is there under the name of something that is to be made, in a form that no version has: a version that replaces it, or drops
/// it first, would do so in silence.
fn replaced<'a>(
    actual: &Catalog,
    expected: &Expected,
    steps: impl Iterator<Item = (String, &'a Effects)>,
) -> Vec<Obstacle> {
    let history = history(expected);
    let across = across(actual, expected);
    let mut obstacles = Vec::new();
    for (step, effects) in steps {
        let makes_table = |id: &ObjectId| {
            let table = |other: &ObjectId| {
                other.kind == Kind::Table && (&other.schema, &other.relation) == (&id.schema, &id.relation)
            };
            effects.added.iter().any(|(other, _)| table(other))
        };
        let added = effects
            .added
            .iter()
            .filter(|(id, _)| is_replaceable(id.kind) || id.kind == Kind::Column && !makes_table(id));
        for (id, made) in added {
            let Some(found) = actual.objects.get(id) else { continue };
            let forms = history.get(id).into_iter().flatten().filter_map(|(_, form)| *form);
            if forms.into_iter().any(|form| found.detail.stands_for(&form.detail, across)) {
                continue;
            }
            let (now, then) = (outline(&found.detail), outline(&made.detail));
            obstacles.push(Obstacle {
                found: format!("your {id} is in the way: {step} makes another one of that name. It is now: {now}; {step} makes: {then}"),
                remedy: format!("rename it: {}", rename_named(id, found)),
            });
        }
    }
    obstacles
}

/// A constraint, an index and a sequence are known by what they do, and a table is never replaced. A column is added to what is there, or
/// comes with its table.
fn is_replaceable(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Function
            | Kind::View
            | Kind::MaterializedView
            | Kind::Trigger
            | Kind::Policy
            | Kind::Enum
            | Kind::Domain
            | Kind::Composite
            | Kind::Range
    )
}

/// What is compared of it, and its definition.
fn outline(detail: &Detail) -> String {
    match detail {
        Detail::Function(function) if function.definition.is_empty() => detail.comparable(),
        detail => detail.definition(),
    }
}

/// Functions that are there as a version makes them, but for the body, which they get from it: that is lost.
pub fn bodies_replaced(actual: &Catalog, expected: &Expected, versions: &[Number]) -> Vec<String> {
    let history = history(expected);
    let mut warnings = Vec::new();
    for number in versions {
        let (left, _) = effects_of(*number, expected);
        for (id, _) in left {
            let (Some(Object { detail: Detail::Function(found), .. }), Some(forms)) =
                (actual.objects.get(id), history.get(id))
            else {
                continue;
            };
            // Made before, and perhaps by an interrupted run of this one.
            let made_before = forms.first().is_some_and(|(first, _)| first < number);
            let the_same = |form: &Object| matches!(&form.detail, Detail::Function(form) if form.definition == found.definition);
            let unchanged =
                !found.definition.is_empty() && forms.iter().filter_map(|(_, form)| *form).any(the_same);
            if made_before || unchanged || across(actual, expected) {
                continue;
            }
            let was = match found.definition.as_str() {
                "" => "the server cannot print what it was".to_owned(),
                definition => format!("it was: {definition}"),
            };
            warnings.push(format!(
                "your {id} is in the place of the one that version {number} makes, which replaces it; if it is your own, keep it under another \
                 name; {was}"
            ));
        }
    }
    warnings
}

/// The same for versions that are taken back, each with what that does to the catalog.
pub fn in_the_way_back(
    actual: &Catalog,
    expected: &Expected,
    at: Number,
    steps: &[(Number, Effects)],
) -> Vec<Obstacle> {
    let known = known(expected);
    let now = expected.catalog_at(at).unwrap_or_default();
    let steps =
        || steps.iter().map(|(number, effects)| (format!("going back from version {number}"), effects));
    let mut obstacles = in_the_way_of(actual, &known, &|id| now.objects.contains_key(id), steps());
    obstacles.extend(replaced(actual, expected, steps()));
    obstacles
}

/// `ours` are the relations that the versions know of where they are.
fn in_the_way_of<'a>(
    actual: &Catalog,
    known: &HashSet<&ObjectId>,
    ours: &dyn Fn(&ObjectId) -> bool,
    steps: impl Iterator<Item = (String, &'a Effects)>,
) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    let own: Own<'_> = actual.objects.iter().filter(|(id, _)| !known.contains(id)).collect();
    let views = own.iter().filter_map(|(id, object)| match &object.detail {
        Detail::View(view) | Detail::MaterializedView(view) => Some((*id, view)),
        _ => None,
    });
    let views: Vec<_> = views.collect();
    for (step, effects) in steps {
        let added = effects.added.iter().map(|(id, _)| id).filter(|id| id.kind.is_relation());
        for id in added {
            let others = [Kind::Table, Kind::View, Kind::MaterializedView]
                .map(|kind| ObjectId::relation(kind, &*id.schema, &*id.relation));
            if let Some(found) =
                others.iter().find(|found| actual.objects.contains_key(*found) && !ours(found))
            {
                obstacles.push(Obstacle {
                    found: format!("{found} is in the way: {step} makes a {} of that name", id.kind.word()),
                    remedy: format!("rename it: {}", rename(found)),
                });
            }
        }
        let retyped = effects.changed.iter().filter_map(|(id, after)| {
            let (Detail::Column(after), Some(Detail::Column(before))) =
                (&after.detail, actual.objects.get(id).map(|object| &object.detail))
            else {
                return None;
            };
            (before.data_type != after.data_type).then_some((id, "gives another type"))
        });
        let dropped =
            effects.removed.iter().filter(|id| actual.objects.contains_key(id)).map(|id| (id, "drops"));
        for id in effects.removed.iter().filter(|id| actual.objects.contains_key(id)) {
            obstacles.extend(match id.kind {
                Kind::Column => own_parts(&own, id, &step),
                Kind::Table => {
                    let mut obstacles = own_references(&own, id, &step);
                    obstacles.extend(own_parts_of_table(&own, id, &step));
                    obstacles
                }
                _ => Vec::new(),
            });
        }
        for (id, does) in
            dropped.chain(retyped).filter(|(id, _)| id.kind == Kind::Column || id.kind.is_relation())
        {
            let mut source = format!("{}.{}", bare(&id.schema), bare(&id.relation));
            if id.kind == Kind::Column {
                source = format!("{source}.{}", bare(&id.name));
            }
            for (view, detail) in views.iter().filter(|(_, view)| view.reads.contains(&source)) {
                let kind = view.kind.word();
                let name = format!("{}.{}", bare(&view.schema), bare(&view.relation));
                obstacles.push(Obstacle {
                    found: format!("your {view} stands on {id}, which {step} {does}"),
                    remedy: format!(
                        "drop {kind} {name}; start again; then make it anew without that column. It is now: {}",
                        detail.definition.split_whitespace().collect::<Vec<_>>().join(" ")
                    ),
                });
            }
        }
    }
    obstacles.sort_by(|a, b| a.found.cmp(&b.found));
    obstacles.dedup();
    obstacles
}

/// What is there under a name that a version gives to something it makes, and the statements that rename it.
pub fn taken(before: &Catalog, effects: &Effects) -> Vec<Obstacle> {
    let removed: HashSet<&ObjectId> = effects.removed.iter().collect();
    let made: HashSet<(&str, String)> =
        effects.added.iter().flat_map(|(id, object)| names(id, object)).collect();
    let labels = effects.changed.iter().filter_map(|(id, after)| {
        let (Detail::Enum(after), Detail::Enum(found)) = (&after.detail, &before.objects.get(id)?.detail)
        else {
            return None;
        };
        after.labels.iter().all(|label| found.labels.contains(label)).then(|| Obstacle {
            found: format!("{id} has all of its labels already"),
            remedy: format!("alter type {} rename value 'LABEL' to 'LABEL_own'", qualified(id, &id.name)),
        })
    });
    // A table that is there is told once, not column by column.
    let told = |id: &ObjectId| {
        let added = |(other, _): &(ObjectId, Object)| {
            other.kind.is_relation() && (&other.schema, &other.relation) == (&id.schema, &id.relation)
        };
        id.is_part() && effects.added.iter().any(added)
    };
    let objects = before.objects.iter().filter(|(id, object)| {
        !removed.contains(id) && !told(id) && names(id, object).iter().any(|name| made.contains(name))
    });
    let renamed = objects.map(|(id, object)| Obstacle {
        found: format!("{id} is there already"),
        remedy: rename_named(id, object),
    });
    renamed.chain(labels).collect()
}

/// What versions would take away without being known to, with its definitions, and the way out.
pub fn taken_away(before: &Catalog, lost: &[ObjectId]) -> (String, String) {
    const SHOWN: usize = 10;
    let objects = || lost.iter().take(SHOWN).filter_map(|id| Some((id, before.objects.get(id)?)));
    let mut found: Vec<String> = objects()
        .map(|(id, object)| format!("{} ({})", called(id, object), object.detail.definition()))
        .collect();
    let way_out = |(id, object): (&ObjectId, &Object)| match object.detail {
        // A type that is made anew cannot be kept by another name where its columns are.
        Detail::Enum(_) => format!("let the version keep all labels of {id}"),
        _ => rename_named(id, object),
    };
    let renames: Vec<String> = objects().map(way_out).collect();
    if lost.len() > found.len() {
        found.push(format!("{} more", lost.len() - found.len()));
    }
    let remedy = format!(
        "what is your own and the version names, rename, and start again: {}; what stands on something that it drops, keep by its definition, \
         drop, and make anew afterwards where it still can be",
        renames.join("; ")
    );
    (found.join(", "), remedy)
}

/// The user's own index of this name, as it was found.
pub fn own_index(found: &Catalog, expected: &Expected, schema: &str, name: &str) -> Option<Obstacle> {
    let is_it = |id: &ObjectId, object: &Object| {
        id.schema == schema && matches!(&object.detail, Detail::Index(index) if index.name == name)
    };
    let (id, object) = found.objects.iter().find(|(id, object)| is_it(id, object))?;
    (!known(expected).contains(id)).then(|| Obstacle {
        found: format!("your {} ({})", called(id, object), object.detail.definition()),
        remedy: rename_named(id, object),
    })
}

/// With the name that its owner gave it.
fn called(id: &ObjectId, object: &Object) -> String {
    let by = |name: &String| ObjectId { name: name.clone(), ..id.clone() };
    match &object.detail {
        Detail::Constraint(constraint) => format!("constraint {}", by(&constraint.name)),
        Detail::Index(index) => by(&index.name).to_string(),
        _ => id.to_string(),
    }
}

/// What is nobody's but the user's and has the name of something that is missing: a statement with IF NOT EXISTS took it for that.
pub fn in_the_place(
    actual: &Catalog,
    expected: &Expected,
    wanted: &Catalog,
    difference: &Difference,
) -> Vec<Obstacle> {
    let missing = difference.missing.iter().chain(difference.different.iter().map(|different| &different.id));
    let missing = missing.filter_map(|id| Some((id, wanted.objects.get(id)?)));
    let made: HashSet<(&str, String)> = missing.flat_map(|(id, object)| names(id, object)).collect();
    if made.is_empty() {
        return Vec::new();
    }
    let known = known(expected);
    let own = actual.objects.iter().filter(|(id, object)| {
        !known.contains(id) && names(id, object).iter().any(|name| made.contains(name))
    });
    own.map(|(id, object)| Obstacle {
        found: format!(
            "your {} ({}) has the name of something that it makes",
            called(id, object),
            object.detail.definition()
        ),
        remedy: format!("rename it: {}", rename_named(id, object)),
    })
    .collect()
}

/// The names that an object takes, each with the space in which it is the only one.
fn names<'a>(id: &'a ObjectId, object: &Object) -> Vec<(&'a str, String)> {
    let named = |space: &str, name: &str| (id.schema.as_str(), format!("{space} {name}"));
    let of_relation = |what: &str, name: &str| named(&format!("{what} of {}", id.relation), name);
    match &object.detail {
        Detail::Table(_) | Detail::View(_) | Detail::MaterializedView(_) => {
            vec![named("relation", &id.relation), named("type", &id.relation)]
        }
        Detail::Composite(_) => vec![named("relation", &id.name), named("type", &id.name)],
        Detail::Enum(_) | Detail::Domain(_) | Detail::Range(_) => vec![named("type", &id.name)],
        Detail::Index(index) => vec![named("relation", &index.name)],
        Detail::Sequence(sequence) => vec![named("relation", &sequence.name)],
        Detail::Constraint(constraint) => {
            let with_index = ["PRIMARY KEY", "UNIQUE", "EXCLUDE"]
                .iter()
                .any(|word| constraint.definition.starts_with(word));
            let index = with_index.then(|| named("relation", &constraint.name));
            index.into_iter().chain([of_relation("constraint", &constraint.name)]).collect()
        }
        Detail::Function(_) => vec![named("function", &id.name)],
        Detail::Column(_) => vec![of_relation("column", &id.name)],
        Detail::Trigger(_) => vec![of_relation("trigger", &id.name)],
        Detail::Policy(_) => vec![of_relation("policy", &id.name)],
        Detail::Extension(_) | Detail::RowSecurity(_) => Vec::new(),
    }
}

fn rename_named(id: &ObjectId, object: &Object) -> String {
    let table = || qualified(id, &id.relation);
    let own = |name: &str| bare(&format!("{name}_own"));
    match &object.detail {
        Detail::Index(index) => {
            format!("alter index {} rename to {}", qualified(id, &index.name), own(&index.name))
        }
        Detail::Sequence(sequence) => {
            format!("alter sequence {} rename to {}", qualified(id, &sequence.name), own(&sequence.name))
        }
        Detail::Constraint(constraint) => {
            let name = &constraint.name;
            format!("alter table {} rename constraint {} to {}", table(), bare(name), own(name))
        }
        Detail::Trigger(_) => {
            format!("alter trigger {} on {} rename to {}", bare(&id.name), table(), own(&id.name))
        }
        Detail::Policy(_) => {
            format!("alter policy {} on {} rename to {}", bare(&id.name), table(), own(&id.name))
        }
        Detail::Composite(_) | Detail::Enum(_) | Detail::Range(_) => {
            format!("alter type {} rename to {}", qualified(id, &id.name), own(&id.name))
        }
        Detail::Domain(_) => {
            format!("alter domain {} rename to {}", qualified(id, &id.name), own(&id.name))
        }
        Detail::Function(function) => {
            let (name, arguments) = id.name.split_once('(').unwrap_or((&id.name, ")"));
            let variety = if function.variety == "window" { "function" } else { &function.variety };
            format!("alter {variety} {}({arguments} rename to {}", qualified(id, name), own(name))
        }
        _ => rename(id),
    }
}

fn qualified(id: &ObjectId, name: &str) -> String {
    format!("{}.{}", bare(&id.schema), bare(name))
}

/// Indexes and constraints of the user's own that would go with a dropped column.
fn own_parts(own: &Own<'_>, column: &ObjectId, step: &str) -> Vec<Obstacle> {
    let (schema, relation) = (bare(&column.schema), bare(&column.relation));
    let of_column = |part: &ObjectId| {
        let between = |c: char| !c.is_alphanumeric() && c != '_';
        (&part.schema, &part.relation) == (&column.schema, &column.relation)
            && part.name.split(between).any(|word| word == column.name)
    };
    own.iter()
        .filter(|(part, _)| of_column(part))
        .filter_map(|(part, object)| {
            let (name, drop) = match &object.detail {
                Detail::Index(index) => (&index.name, format!("drop index {schema}.{}", bare(&index.name))),
                Detail::Constraint(constraint) => {
                    let name = bare(&constraint.name);
                    (&constraint.name, format!("alter table {schema}.{relation} drop constraint {name}"))
                }
                _ => return None,
            };
            Some(Obstacle {
                found: format!("your {} {name} stands on {column}, which {step} drops", part.kind.word()),
                remedy: format!("{drop}; then start again"),
            })
        })
        .collect()
}

/// What of the user's own would go with a dropped table, its columns aside, whose values the archive keeps.
fn own_parts_of_table(own: &Own<'_>, table: &ObjectId, step: &str) -> Vec<Obstacle> {
    let (schema, relation) = (bare(&table.schema), bare(&table.relation));
    let obstacle = |kind: Kind, name: &str, drop: String| Obstacle {
        found: format!("your {} {name} is on {table}, which {step} drops", kind.word()),
        remedy: format!("{drop}; then start again"),
    };
    own.iter()
        .filter(|(part, _)| (&part.schema, &part.relation) == (&table.schema, &table.relation))
        .filter_map(|(part, object)| {
            let on = |word: &str| format!("drop {word} {} on {schema}.{relation}", bare(&part.name));
            match &object.detail {
                Detail::Index(index) => Some(obstacle(
                    part.kind,
                    &index.name,
                    format!("drop index {schema}.{}", bare(&index.name)),
                )),
                Detail::Constraint(constraint) => {
                    let drop =
                        format!("alter table {schema}.{relation} drop constraint {}", bare(&constraint.name));
                    Some(obstacle(part.kind, &constraint.name, drop))
                }
                Detail::Trigger(_) => Some(obstacle(part.kind, &part.name, on("trigger"))),
                Detail::Policy(_) => Some(obstacle(part.kind, &part.name, on("policy"))),
                _ => None,
            }
        })
        .collect()
}

/// Foreign keys of the user's own tables that lead to a dropped table.
fn own_references(own: &Own<'_>, table: &ObjectId, step: &str) -> Vec<Obstacle> {
    let target = format!(" REFERENCES {}.{}(", bare(&table.schema), bare(&table.relation));
    own.iter()
        .filter_map(|(part, object)| match &object.detail {
            Detail::Constraint(constraint) if constraint.definition.contains(&target) => {
                let (relation, name) =
                    (format!("{}.{}", bare(&part.schema), bare(&part.relation)), bare(&constraint.name));
                Some(Obstacle {
                    found: format!(
                        "your constraint {name} on {relation} refers to {table}, which {step} drops"
                    ),
                    remedy: format!("alter table {relation} drop constraint {name}; then start again"),
                })
            }
            _ => None,
        })
        .collect()
}

/// A name as the server writes it.
fn bare(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
