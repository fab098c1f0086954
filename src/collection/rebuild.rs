//! What a rebuild of a collection is, and where it goes on after a crash: a copy under another name takes its place.

use super::compare::{Change, Kind, compare, overlay};
use super::fill::{fillable, narrow};
use super::point::same_payload;
use super::step::{complete, creatable, refuse};
use super::{Action, transform};
use super::{
    Datatype, Distance, Due, Observed, Point, Role, SHADOW_PREFIX, Schema, ServerVersion, Stamp, Step,
    UNNAMED, Vector,
};
use crate::error::{Error, ExitCode, Result};
use crate::timeline::{CollectionDeclaration, FillSource, FillWhat};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// In a shadow's stamp: it is being filled.
pub const COPYING: &str = "copy";
/// It was proven equal to its source. From here on the source may go.
pub const VERIFIED: &str = "verified";
/// It was copied while writers were allowed: what they wrote meanwhile is swept up behind the switch.
pub const OPEN: &str = "open";
/// Its points are in the live collection; it is kept until an operator removes it.
pub const KEPT: &str = "kept";
/// A collection under its own name that a copy of its shadow fills.
pub const BACK: &str = "back";

/// Seconds between two flushes of a collection that is being filled. What is not flushed is in its log of operations; with the
/// five seconds of servers a copy takes a tenth longer (docs/performance.md).
const FLUSH: u64 = 60;

/// A collection that gets another form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rebuild {
    /// The real name.
    pub source: String,
    pub shadow: String,
    pub switch: Switch,
    /// All of what the collection will be: the declared over what it has.
    pub schema: Schema,
    /// Applied between reading and writing.
    pub fills: Vec<Due>,
    /// The names that lead to the collection afterwards, besides its own.
    pub aliases: BTreeSet<String>,
    /// Its stamp afterwards.
    pub stamp: Stamp,
    /// The application goes on writing meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub writers: bool,
}

/// How the shadow takes the source's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// Applications reach it by aliases, which are led to the shadow in one call.
    Alias,
    /// Applications use the real name: the source is deleted and the name filled from the shadow.
    KeepName,
}

/// The stages of a rebuild, in order. Each can be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The shadow with its payload indexes.
    Shadow,
    /// Copies all points, proves the shadow equal beside a snapshot of the source, and gives it its final settings.
    Copy,
    /// Proves once more that source and shadow are equal, after an interruption.
    Check,
    /// Leads the aliases to the shadow, behind a last comparison that no writer can get between.
    SwitchAlias,
    /// Deletes the source and fills its name from the shadow, behind such a comparison too.
    Replace,
    /// Brings over what writers that were allowed wrote to the old collection behind the last comparison.
    Sweep,
    /// Stamps what applications use now.
    Live,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shadow => "create the shadow with its payload indexes",
            Self::Copy => "copy all points into the shadow, take a snapshot and prove the shadow equal",
            Self::Check => "prove that the shadow is still equal",
            Self::SwitchAlias => "lead the aliases to the shadow",
            Self::Replace => "replace the collection by the shadow under its own name",
            Self::Sweep => "bring over what was written to the old collection until then",
            Self::Live => "stamp it",
        })
    }
}

/// What the planning of a rebuild needs to know.
pub struct Subject<'a> {
    /// The real name, or the name that does not exist and is to be ensured.
    pub name: &'a str,
    pub observed: Option<&'a Observed>,
    /// All collections on the server whose stamps call them shadows of this one.
    pub shadows: &'a [Observed],
    /// The real names on the server.
    pub names: &'a BTreeSet<String>,
    pub declaration: &'a CollectionDeclaration,
    /// The fills that are due.
    pub due: Vec<Due>,
    /// The stamp of the target.
    pub stamp: &'a Stamp,
    pub server: ServerVersion,
    /// The application may go on writing meanwhile.
    pub allow_writers: bool,
}

/// The steps of a rebuild, if one is needed or was interrupted.
///
/// # Errors
/// What no copy of the points can have, vectors that no rule takes along, and an absent collection of which only a shadow
/// is there that does not prove to be whole and this ledger's.
pub fn rebuild(subject: Subject<'_>) -> Result<Option<Vec<Step>>> {
    let found = match subject.observed {
        None => resume_absent(&subject)?,
        Some(observed) => match observed.stamp.as_ref().map(|stamp| &stamp.role) {
            Some(Role::Shadow { source, phase }) => resume_shadow(&subject, observed, source, phase),
            _ => begin(&subject, observed)?,
        },
    };
    let Some((rebuild, stages)) = found else { return Ok(None) };
    let step = |stage| Step {
        collection: subject.name.to_owned(),
        action: Action::Rebuild { rebuild: Box::new(rebuild.clone()), stage, from: None },
    };
    Ok(Some(stages.into_iter().map(step).collect()))
}

type Found = (Rebuild, Vec<Stage>);

/// The collection is gone: between its deletion and its return, or Postgres or a volume is another one.
fn resume_absent(subject: &Subject<'_>) -> Result<Option<Found>> {
    let Some(shadow) = subject.shadows.iter().max_by_key(newest) else {
        return Ok(None);
    };
    match subject.is_ours(shadow) && phase(shadow) == Some(VERIFIED) {
        true => Ok(Some((resumed(subject, subject.name, shadow), vec![Stage::Replace, Stage::Live]))),
        false => Err(Error::new(
            ExitCode::Refused,
            format!(
                "collection {} is absent, and `{}` is stamped as its copy ({})",
                subject.name,
                shadow.name,
                phase(shadow).unwrap_or_default()
            ),
        )
        .expected("the collection, or a copy that this ledger's rebuild has verified: an empty collection would hide its points")
        .remedy(format!(
            "bring the stores back together, or let an alias lead to it; if it may go: tandem retained drop {}",
            shadow.name
        ))),
    }
}

/// What is under a name of the application's is a shadow by its stamp: the copy that came back under the source's own
/// name, or the one that an alias was just led to.
fn resume_shadow(subject: &Subject<'_>, observed: &Observed, source: &str, at: &str) -> Option<Found> {
    if !subject.is_ours(observed) {
        return None;
    }
    if source == subject.name {
        let whole =
            |shadow: &&Observed| subject.is_ours(shadow) && matches!(phase(shadow), Some(VERIFIED | KEPT));
        let shadow = subject.shadows.iter().filter(whole).max_by_key(newest)?;
        return Some((resumed(subject, subject.name, shadow), vec![Stage::Replace, Stage::Live]));
    }
    (matches!(at, VERIFIED | OPEN) && !observed.aliases.is_empty()).then(|| {
        let writers = at == OPEN;
        let rebuild = Rebuild {
            switch: Switch::Alias,
            aliases: observed.aliases.iter().cloned().collect(),
            writers,
            ..resumed(subject, source, observed)
        };
        (rebuild, behind(Switch::Alias, writers))
    })
}

/// The rest of a rebuild whose source is gone or replaced: the shadow itself tells what it is to be.
fn resumed(subject: &Subject<'_>, source: &str, shadow: &Observed) -> Rebuild {
    let version = shadow.stamp.as_ref().map_or(subject.stamp.version, |stamp| stamp.version);
    let observed = subject.observed.map(|observed| observed.aliases.clone()).unwrap_or_default();
    let declared = subject.declaration.schema.aliases.iter().cloned();
    Rebuild {
        source: source.to_owned(),
        shadow: shadow.name.clone(),
        switch: Switch::KeepName,
        schema: shadow.schema.clone(),
        fills: Vec::new(),
        aliases: observed.into_iter().chain(declared).collect(),
        stamp: Stamp { version, ..subject.stamp.clone() },
        writers: false,
    }
}

/// The stages behind the copy.
fn behind(switch: Switch, writers: bool) -> Vec<Stage> {
    match switch {
        Switch::KeepName => vec![Stage::Replace, Stage::Live],
        Switch::Alias if writers => vec![Stage::SwitchAlias, Stage::Sweep, Stage::Live],
        Switch::Alias => vec![Stage::SwitchAlias, Stage::Live],
    }
}

/// A collection that applications use, and that differs.
fn begin(subject: &Subject<'_>, observed: &Observed) -> Result<Option<Found>> {
    let Subject { name, declaration, server, stamp, .. } = *subject;
    let changes = compare(&declaration.schema, observed, declaration.undeclared, server);
    if !changes.iter().any(|change| matches!(change.kind, Kind::Rebuild(_))) {
        return Ok(None);
    }
    let never = |change: &&Change| matches!(change.kind, Kind::Impossible { .. } | Kind::NeedsServer { .. });
    refuse(name, &changes.iter().filter(never).cloned().collect::<Vec<_>>())?;
    let schema = copyable(name, observed, declaration, &subject.due)?;
    let pending = |shadow: &&Observed| {
        subject.is_ours(shadow)
            && shadow.stamp.as_ref().is_some_and(|there| there.version == stamp.version)
            && matches!(phase(shadow), Some(COPYING | VERIFIED | OPEN))
            && compare(&form(&schema), shadow, Default::default(), server).is_empty()
    };
    let pending = subject.shadows.iter().filter(pending).max_by_key(newest);
    let switch = match declaration.matches(name) {
        true => Switch::KeepName,
        false => Switch::Alias,
    };
    let writers = subject.allow_writers;
    if writers && switch == Switch::KeepName {
        return Err(Error::new(
            ExitCode::Refused,
            format!(
                "collection {name} is used by its own name, under which it is absent for a moment while it is rebuilt: what is written then is lost"
            ),
        )
        .expected("applications that reach the collection by an alias, if they go on writing")
        .remedy("stop the applications and start without --allow-writers (TANDEM_ALLOW_WRITERS)"));
    }
    let mut stages = match pending.and_then(phase) {
        Some(VERIFIED | OPEN) => vec![Stage::Check],
        _ => vec![Stage::Shadow, Stage::Copy],
    };
    stages.extend(behind(switch, writers));
    let rebuild = Rebuild {
        source: name.to_owned(),
        shadow: pending.map_or_else(|| free_name(subject), |shadow| shadow.name.clone()),
        switch,
        schema,
        fills: subject.due.clone(),
        aliases: observed.aliases.iter().chain(&declaration.schema.aliases).cloned().collect(),
        stamp: stamp.clone(),
        writers,
    };
    Ok(Some((rebuild, stages)))
}

/// What a rebuilt collection will be as a whole.
///
/// # Errors
/// A declaration that is no whole collection, a fill of what the collection lacks, and vectors that no rule takes along.
pub fn copyable(
    name: &str,
    observed: &Observed,
    declaration: &CollectionDeclaration,
    due: &[Due],
) -> Result<Schema> {
    complete(name, &declaration.schema, &observed.schema)?;
    fillable(name, due, observed)?;
    let schema = target(name, observed, declaration, due)?;
    creatable(name, &schema)?;
    Ok(schema)
}

fn target(
    name: &str,
    observed: &Observed,
    declaration: &CollectionDeclaration,
    due: &[Due],
) -> Result<Schema> {
    let declared = &declaration.schema;
    let undeclared = declaration.undeclared;
    let mut schema = overlay(declared, &observed.schema);
    schema.aliases.clear();
    let named = |schema: &Schema| schema.vectors.keys().any(|name| name != UNNAMED);
    // A collection has either one vector without a name or named ones.
    let mixed = schema.vectors.contains_key(UNNAMED) && named(&schema);
    let mut dropped = Vec::new();
    schema.vectors.retain(|name, _| {
        let stays = declared.vectors.contains_key(name) || !(undeclared.drop_vectors || mixed);
        if !stays {
            dropped.push(name.clone());
        }
        stays
    });
    if undeclared.drop_vectors {
        schema.sparse_vectors.retain(|name, _| declared.sparse_vectors.contains_key(name));
    }
    if undeclared.drop_payload_indexes {
        schema.payload_indexes.retain(|field, _| declared.payload_indexes.contains_key(field));
    }
    let read = |name: &String| {
        due.iter().any(|due| {
            matches!(&due.fill.what, FillWhat::Vector { from: FillSource::Vector(from), .. } if from == name)
        })
    };
    match dropped.iter().find(|name| !undeclared.drop_vectors && observed.points > 0 && !read(name)) {
        None => Ok(schema),
        Some(lost) => Err(Error::new(
            ExitCode::Refused,
            format!(
                "collection `{name}` has {}, which the declared schema has no place for",
                if lost.is_empty() { "one unnamed vector".into() } else { format!("the vector {lost}") }
            ),
        )
        .expected("a rule for what becomes of it")
        .remedy(format!(
            "say in the version's TOML which vector it becomes: [[fill]] vector = \"NAME\" from = {{ vector = \"{lost}\" }}; or drop it: [collection.undeclared] vectors = \"drop\""
        ))),
    }
}

fn free_name(subject: &Subject<'_>) -> String {
    let name = format!("{SHADOW_PREFIX}{}_{}", subject.name, subject.stamp.version);
    let mut free = name.clone();
    let mut n = 2;
    while subject.names.contains(&free) {
        free = format!("{name}_{n}");
        n += 1;
    }
    free
}

fn phase(observed: &Observed) -> Option<&str> {
    match observed.stamp.as_ref().map(|stamp| &stamp.role) {
        Some(Role::Shadow { phase, .. }) => Some(phase),
        _ => None,
    }
}

/// Copies that are kept and yet fenced off: a run did that which was paused, and whose successor was done when it woke.
pub fn kept_behind_a_fence(shadows: &[Observed]) -> impl Iterator<Item = &Observed> {
    shadows.iter().filter(|shadow| phase(shadow) == Some(KEPT) && shadow.fence.is_some())
}

/// Of several shadows the one to go on with is verified, and made last: an older one is of points that have changed since.
fn newest(shadow: &&Observed) -> (bool, Option<(i64, i64)>) {
    let made = shadow.stamp.as_ref().map(|stamp| (stamp.epoch, stamp.version));
    (phase(shadow) == Some(VERIFIED), made)
}

impl Subject<'_> {
    fn is_ours(&self, shadow: &Observed) -> bool {
        let of = |stamp: &Stamp| stamp.lineage == self.stamp.lineage && stamp.timeline == self.stamp.timeline;
        shadow.stamp.as_ref().is_some_and(of)
    }
}

/// Of a schema what a collection keeps for its life: what can be changed in place does not tell copies apart.
fn form(schema: &Schema) -> Schema {
    Schema {
        optimizers_config: None,
        strict_mode_config: None,
        hnsw_config: None,
        quantization_config: None,
        payload_indexes: Default::default(),
        metadata: Default::default(),
        read_fan_out_factor: None,
        read_fan_out_delay_ms: None,
        ..schema.clone()
    }
}

impl Rebuild {
    /// The collection that applications use in the end.
    pub fn live(&self) -> &str {
        match self.switch {
            Switch::Alias => &self.shadow,
            Switch::KeepName => &self.source,
        }
    }

    /// What applications call the collection.
    pub fn applications_name(&self) -> &str {
        match self.switch {
            Switch::Alias => self.aliases.first().map_or(&self.source, String::as_str),
            Switch::KeepName => &self.source,
        }
    }

    /// What the stamp of a shadow says that was compared with its source.
    pub fn compared(&self) -> &'static str {
        if self.writers { OPEN } else { VERIFIED }
    }

    /// A stamp of the shadow, or of the collection that comes back from it.
    pub fn stamp_at(&self, phase: &str) -> Stamp {
        Stamp {
            role: Role::Shadow { source: self.source.clone(), phase: phase.to_owned() },
            ..self.stamp.clone()
        }
    }

    /// What a collection is created with while it is filled: no limits, no index building, few flushes and nothing hidden.
    pub fn bulk(&self) -> Schema {
        let mut bulk = Schema { strict_mode_config: None, ..self.schema.clone() };
        if let Some(optimizers) = &mut bulk.optimizers_config {
            optimizers.indexing_threshold = optimizers.indexing_threshold.map(|_| 0);
            optimizers.prevent_unoptimized = None;
            optimizers.flush_interval_sec = optimizers.flush_interval_sec.map(|_| FLUSH);
        }
        bulk
    }

    /// Does a copy from a collection with this schema have every point as it is?
    pub fn is_verbatim(&self, source: &Schema) -> bool {
        self.fills.is_empty()
            && source.sparse_vectors.keys().all(|name| self.schema.sparse_vectors.contains_key(name))
            && source.vectors.iter().all(|(name, params)| {
                let target = self.schema.vectors.get(name);
                target.is_some_and(|t| t.multivector_config.is_some() == params.multivector_config.is_some())
            })
    }

    /// Are the vectors of such a copy stored as they are in a collection with this schema, byte for byte?
    pub fn is_exact(&self, source: &Schema) -> bool {
        let sparse = |schema: &Schema, name: &str| {
            schema.sparse_vectors.get(name).and_then(|params| params.index.as_ref()?.datatype)
        };
        self.is_verbatim(source)
            && source.vectors.iter().all(|(name, params)| {
                self.schema.vectors.get(name).is_some_and(|target| {
                    (target.size, target.distance) == (params.size, params.distance)
                        && target.datatype.unwrap_or(Datatype::Float32)
                            == params.datatype.unwrap_or(Datatype::Float32)
                })
            })
            && source.sparse_vectors.keys().all(|name| sparse(&self.schema, name) == sparse(source, name))
    }

    /// The vectors of the source that get a datatype without room for every number.
    pub fn narrowed(&self, source: &Schema) -> BTreeMap<String, Datatype> {
        let same = |name: &str| {
            let datatype = |schema: &Schema| schema.vectors.get(name).and_then(|params| params.datatype);
            datatype(source) == datatype(&self.schema)
        };
        let names = source.vectors.keys().filter(|name| !same(name));
        names.filter_map(|name| Some((name.clone(), narrow(&self.schema, name)?))).collect()
    }

    /// The points as the shadow is to have them.
    ///
    /// # Errors
    /// Points that a fill cannot be applied to.
    pub async fn made(&self, mut points: Vec<Point>) -> Result<Vec<Point>> {
        let refused = transform(&self.fills, &mut points).await?;
        let mut refusals = super::Refusals::default();
        refusals.add(refused);
        refusals.check(&self.source)?;
        for point in &mut points {
            point.vectors.retain(|name, _| {
                self.schema.vectors.contains_key(name) || self.schema.sparse_vectors.contains_key(name)
            });
            for (name, vector) in &mut point.vectors {
                let multi = self.schema.vectors.get(name).is_some_and(|v| v.multivector_config.is_some());
                if let (true, Vector::Dense(row)) = (multi, &mut *vector) {
                    *vector = Vector::Multi(vec![std::mem::take(row)]);
                }
            }
        }
        Ok(points)
    }

    /// Is a point of the shadow what it is to be: id and payload equal, the same vectors there, and each within the
    /// rounding of its datatype?
    pub fn equal(&self, wanted: &Point, actual: &Point) -> bool {
        wanted.id == actual.id
            && same_payload(&wanted.payload, &actual.payload)
            && wanted.vectors.len() == actual.vectors.len()
            && wanted.vectors.iter().all(|(name, wanted)| {
                actual.vectors.get(name).is_some_and(|actual| self.vectors_equal(name, wanted, actual))
            })
    }

    fn vectors_equal(&self, name: &str, wanted: &Vector, actual: &Vector) -> bool {
        let params = self.schema.vectors.get(name);
        let sparse = self.schema.sparse_vectors.get(name).and_then(|s| s.index.as_ref()?.datatype);
        let datatype = params.and_then(|params| params.datatype).or(sparse);
        // Half a unit in the last place of the stored number, and of a normalisation in 32 bits; and half of the smallest.
        let (within, smallest) = match datatype {
            None | Some(Datatype::Float32) => (1e-5, 0.0),
            Some(Datatype::Float16) => (1e-3, 3e-8),
            Some(_) => (1.0 / 64.0, 0.0),
        };
        let cosine = params.is_some_and(|params| params.distance == Some(Distance::Cosine));
        let scaled = |wanted: &[f32], actual: &[f32], scale: f64| {
            let largest = wanted.iter().fold(0f64, |m, x| m.max(f64::from(x.abs()))) / scale;
            wanted.len() == actual.len()
                && wanted.iter().zip(actual).all(|(wanted, actual)| {
                    let (wanted, actual) = (f64::from(*wanted) / scale, f64::from(*actual));
                    let rounding = (within * wanted.abs().max(largest * 1e-2)).max(smallest);
                    (wanted - actual).abs() <= rounding
                        || wanted == actual
                        || wanted.is_nan() && actual.is_nan()
                })
        };
        // Servers leave vectors of next to no length and whole numbers as they are.
        let row = |wanted: &[f32], actual: &[f32]| {
            let norm = wanted.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            scaled(wanted, actual, 1.0) || cosine && norm > 0.0 && scaled(wanted, actual, norm)
        };
        match (wanted, actual) {
            (Vector::Dense(wanted), Vector::Dense(actual)) => row(wanted, actual),
            (Vector::Multi(wanted), Vector::Multi(actual)) => {
                wanted.len() == actual.len() && wanted.iter().zip(actual).all(|(w, a)| row(w, a))
            }
            (Vector::Sparse { indices: wi, values: wv }, Vector::Sparse { indices: ai, values: av }) => {
                let sorted = |indices: &[u32], values: &[f32]| {
                    let mut pairs: Vec<(u32, f32)> =
                        indices.iter().copied().zip(values.iter().copied()).collect();
                    pairs.sort_by_key(|pair| pair.0);
                    pairs
                };
                let (wanted, actual) = (sorted(wi, wv), sorted(ai, av));
                wanted.len() == actual.len()
                    && wanted.iter().zip(&actual).all(|(w, a)| w.0 == a.0 && row(&[w.1], &[a.1]))
            }
            _ => false,
        }
    }
}

/// `rebuild as _tandem_shadow_memory_2: copy all points …`.
impl fmt::Display for Rebuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rebuild through {}", self.shadow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::Status;
    use crate::timeline::Undeclared;

    fn stamp(role: Role) -> Stamp {
        Stamp { lineage: "ours".into(), timeline: "t".into(), version: 2, epoch: 1, role }
    }

    fn observed(name: &str, toml: &str, stamp: Option<Stamp>) -> Observed {
        Observed {
            name: name.into(),
            schema: toml::from_str(toml).unwrap(),
            stamp,
            aliases: Vec::new(),
            points: 5,
            status: Status::Green,
            optimizer_error: None,
            queued_updates: None,
            fence: None,
            deferred_points: None,
        }
    }

    fn shadow(of: &str, phase: &str, lineage: &str) -> Observed {
        let role = Role::Shadow { source: of.into(), phase: phase.into() };
        let stamp = Stamp { lineage: lineage.into(), ..stamp(role) };
        observed("_tandem_shadow_m_2", NEW, Some(stamp))
    }

    const OLD: &str = "vectors.a = { size = 2, distance = 'Dot' }";
    const NEW: &str =
        "vectors.a = { size = 2, distance = 'Dot' }\nvectors.b = { size = 2, distance = 'Dot' }";

    /// The stages with the shadow's name, or the exit code of the refusal.
    fn stages(matching: &str, there: Option<&Observed>, shadows: &[Observed]) -> String {
        planned(matching, there, shadows, false)
    }

    fn planned(
        matching: &str,
        there: Option<&Observed>,
        shadows: &[Observed],
        allow_writers: bool,
    ) -> String {
        let declaration = CollectionDeclaration {
            matching: matching.into(),
            ensure: Vec::new(),
            schema: toml::from_str(NEW).unwrap(),
            undeclared: Undeclared::default(),
        };
        let names = shadows.iter().map(|s| s.name.clone()).collect();
        let planned = rebuild(Subject {
            name: there.map_or("m", |there| &there.name),
            observed: there,
            shadows,
            names: &names,
            declaration: &declaration,
            due: Vec::new(),
            stamp: &stamp(Role::Live),
            server: ServerVersion::new(1, 17, 0),
            allow_writers,
        });
        let steps = match planned {
            Ok(None) => return "nothing".into(),
            Ok(Some(steps)) => steps,
            Err(error) => return format!("{:?}", error.code),
        };
        let words = steps.iter().map(|step| match &step.action {
            Action::Rebuild { stage, rebuild, .. } => {
                format!("{stage:?}{}", if rebuild.shadow.ends_with("_2_2") { "*" } else { "" })
            }
            other => panic!("{other:?}"),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_rebuild_begins_and_goes_on_where_the_stamps_say() {
        let old = observed("m", OLD, None);
        let ours = |phase| shadow("m", phase, "ours");
        let back = observed("m", NEW, ours(BACK).stamp);
        let led = Observed { aliases: vec!["m".into()], ..shadow("m_7d", VERIFIED, "ours") };
        let half = Observed { aliases: vec!["m".into()], ..shadow("m_7d", COPYING, "ours") };
        let all = "Shadow Copy Replace Live";
        // Its name is the last one.
        let mut older = Observed { name: "_tandem_shadow_m_2_2".into(), ..ours(VERIFIED) };
        older.stamp.as_mut().unwrap().epoch = 0;
        for (case, there, shadows, wanted) in [
            ("as declared", Some(observed("m", NEW, None)), vec![], "nothing"),
            ("needed", Some(old.clone()), vec![], all),
            ("copying", Some(old.clone()), vec![ours(COPYING)], "Shadow Copy Replace Live"),
            ("verified", Some(old.clone()), vec![ours(VERIFIED)], "Check Replace Live"),
            ("one that is only kept", Some(old.clone()), vec![ours(KEPT)], "Shadow* Copy* Replace* Live*"),
            (
                "another ledger's",
                Some(old.clone()),
                vec![shadow("m", VERIFIED, "theirs")],
                "Shadow* Copy* Replace* Live*",
            ),
            ("absent", None, vec![], "nothing"),
            ("deleted", None, vec![ours(VERIFIED)], "Replace Live"),
            ("deleted, beside an older copy", None, vec![ours(VERIFIED), older.clone()], "Replace Live"),
            ("deleted, and not proven", None, vec![ours(COPYING)], "Refused"),
            ("deleted, while writers were allowed", None, vec![ours(OPEN)], "Refused"),
            ("copied while writers were allowed", Some(old.clone()), vec![ours(OPEN)], "Check Replace Live"),
            ("deleted, long ago", None, vec![ours(KEPT)], "Refused"),
            ("deleted, another ledger's", None, vec![shadow("m", VERIFIED, "theirs")], "Refused"),
            ("on its way back", Some(back.clone()), vec![ours(VERIFIED)], "Replace Live"),
            ("back, not yet stamped", Some(back.clone()), vec![ours(KEPT)], "Replace Live"),
            ("back, and no copy", Some(back), vec![], "nothing"),
            ("led to", Some(led), vec![], "SwitchAlias Live"),
            ("led to by somebody else", Some(half), vec![], "nothing"),
        ] {
            assert_eq!(stages("m", there.as_ref(), &shadows), wanted, "{case}");
        }
        let real = observed("m_7d", OLD, None);
        assert_eq!(stages("m", Some(&real), &[]), "Shadow Copy SwitchAlias Live");
        assert_eq!(planned("m", Some(&real), &[], true), "Shadow Copy SwitchAlias Sweep Live");
        let open = |phase| shadow("m_7d", phase, "ours");
        assert_eq!(planned("m", Some(&real), &[open(VERIFIED)], true), "Check SwitchAlias Sweep Live");
        assert_eq!(stages("m", Some(&real), &[open(OPEN)]), "Check SwitchAlias Live");
        let led = Observed { aliases: vec!["m".into()], ..open(OPEN) };
        assert_eq!(stages("m", Some(&led), &[]), "SwitchAlias Sweep Live", "whatever is allowed now");
        // Under its own name a collection is absent for a moment.
        assert_eq!(planned("m", Some(&observed("m", OLD, None)), &[], true), "Refused");
        assert_eq!(planned("m", Some(&observed("m", NEW, None)), &[], true), "nothing");
    }

    #[test]
    fn only_a_copy_that_is_kept_has_no_use_for_its_fence() {
        let fence = Some(crate::collection::Fence::around(&Schema::default()));
        let shadows = [(KEPT, fence.clone()), (KEPT, None), (VERIFIED, fence)]
            .map(|(phase, fence)| Observed { fence, ..shadow("m", phase, "ours") });
        let found: Vec<_> = kept_behind_a_fence(&shadows).collect();
        assert_eq!(found, [&shadows[0]]);
    }

    #[test]
    fn a_copy_is_exact_if_no_vector_is_stored_otherwise() {
        let schema = |toml: &str| toml::from_str::<Schema>(toml).unwrap();
        let source = "vectors.a = { size = 2, distance = 'Cosine' }\nsparse_vectors.s = {}";
        let exact = |target: &str| {
            let rebuild = Rebuild {
                source: "m".into(),
                shadow: "s".into(),
                switch: Switch::KeepName,
                schema: schema(target),
                fills: Vec::new(),
                aliases: BTreeSet::new(),
                stamp: stamp(Role::Live),
                writers: false,
            };
            rebuild.is_exact(&schema(source))
        };
        for (target, expected) in [
            (source, true),
            (
                "vectors.a = { size = 2, distance = 'Cosine', datatype = 'float32', on_disk = true }\nsparse_vectors.s = {}",
                true,
            ),
            (
                "vectors.a = { size = 2, distance = 'Cosine' }\nvectors.b = { size = 3, distance = 'Dot' }\nsparse_vectors.s = {}",
                true,
            ),
            ("vectors.a = { size = 2, distance = 'Dot' }\nsparse_vectors.s = {}", false),
            (
                "vectors.a = { size = 2, distance = 'Cosine', datatype = 'float16' }\nsparse_vectors.s = {}",
                false,
            ),
            (
                "vectors.a = { size = 2, distance = 'Cosine', multivector_config = { comparator = 'max_sim' } }\nsparse_vectors.s = {}",
                false,
            ),
            (
                "vectors.a = { size = 2, distance = 'Cosine' }\nsparse_vectors.s = { index = { datatype = 'float16' } }",
                false,
            ),
            ("vectors.a = { size = 2, distance = 'Cosine' }", false),
        ] {
            assert_eq!(exact(target), expected, "{target}");
        }
    }

    #[test]
    fn equal_is_within_the_rounding_of_what_is_stored() {
        let rebuild = |toml: &str| Rebuild {
            source: "m".into(),
            shadow: "s".into(),
            switch: Switch::KeepName,
            schema: toml::from_str(toml).unwrap(),
            fills: Vec::new(),
            aliases: BTreeSet::new(),
            stamp: stamp(Role::Live),
            writers: false,
        };
        let equal = |toml: &str, wanted: &[f32], actual: &[f32]| {
            rebuild(toml).vectors_equal("a", &Vector::Dense(wanted.into()), &Vector::Dense(actual.into()))
        };
        let dot = "vectors.a = { size = 2, distance = 'Dot' }";
        let half = "vectors.a = { size = 2, distance = 'Dot', datatype = 'float16' }";
        let cosine = "vectors.a = { size = 2, distance = 'Cosine' }";
        assert!(equal(dot, &[0.1, 7.0], &[0.1, 7.0]));
        assert!(!equal(dot, &[0.1, 7.0], &[0.101, 7.0]));
        assert!(!equal(dot, &[0.1, 7.0], &[0.1]));
        assert!(equal(half, &[0.1, 7.0], &[0.099_975_586, 7.0]));
        assert!(!equal(half, &[0.1, 7.0], &[0.11, 7.0]));
        assert!(equal(cosine, &[3.0, 4.0], &[0.6, 0.8]));
        assert!(!equal(cosine, &[3.0, 4.0], &[0.8, 0.6]));
        assert!(equal(cosine, &[0.0, 0.0], &[0.0, 0.0]));
        assert!(equal(half, &[1e-6, 0.0], &[1.013_279e-6, 0.0]));
        assert!(!equal(half, &[1e-6, 0.0], &[1.2e-6, 0.0]));
        assert!(equal(cosine, &[1e-5, 0.0], &[1e-5, 0.0]), "too short to be normalised");
        assert!(equal("vectors.a = { distance = 'Cosine', datatype = 'uint8' }", &[3.0, 4.0], &[3.0, 4.0]));
        assert!(equal(dot, &[f32::NAN, 1.0], &[f32::NAN, 1.0]));
        assert!(!equal(dot, &[f32::NAN, 1.0], &[0.0, 1.0]));
    }
}
