//! The in-place work on one collection as data: small steps, each a desired end state that can be repeated.

use super::compare::{Change, Kind, Section, compare, gates, overlay};
use super::{Due, Observed, PayloadIndex, PointId, Rebuild, Role, Schema, ServerVersion, Stage, Stamp};
use crate::error::{Error, ExitCode, Result};
use crate::timeline::{CollectionDeclaration, Undeclared};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One effect on one collection, done by one request and read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The real name.
    pub collection: String,
    pub action: Action,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Creates the collection with everything but payload indexes, and with its stamp.
    Create {
        schema: Schema,
        stamp: Stamp,
    },
    /// Changes one section; `schema` holds that section only.
    Update {
        schema: Schema,
        changes: Vec<String>,
    },
    /// Builds a payload index, or replaces the one that the field has.
    CreateIndex {
        field: String,
        index: PayloadIndex,
        change: String,
    },
    DeleteIndex {
        field: String,
    },
    /// Adds a vector that no point has yet; `schema` holds that vector only.
    CreateVector {
        schema: Schema,
        change: String,
    },
    /// Applies the fills to every point. `from` is where an interrupted one stopped.
    Fill {
        fills: Vec<Due>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<PointId>,
    },
    /// Takes a snapshot, then deletes a vector of every point.
    DeleteVector {
        vector: String,
    },
    /// Lets an alias lead to the collection, wherever it led before.
    SetAlias {
        alias: String,
    },
    /// One stage of giving the collection another form. `from` is where an interrupted copy stopped.
    Rebuild {
        rebuild: Box<Rebuild>,
        stage: Stage,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<PointId>,
    },
    /// Lets writers in again that an interrupted rebuild kept out.
    OpenFence,
    Stamp {
        stamp: Stamp,
    },
}

impl Step {
    /// For people: `memory: hnsw_config.m: 16, declared 32`.
    pub fn describe(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.collection)?;
        match &self.action {
            Action::Create { schema, .. } => {
                let names = schema.vectors.keys().chain(schema.sparse_vectors.keys());
                let names: Vec<&str> =
                    names.map(|name| if name.is_empty() { "unnamed" } else { name }).collect();
                write!(f, "create the collection with vectors {}", names.join(", "))
            }
            Action::Update { changes, .. } => write!(f, "{}", changes.join("; ")),
            Action::CreateIndex { change, .. } => write!(f, "{change}"),
            Action::DeleteIndex { field } => {
                write!(f, "delete the payload index {field}, which is not declared")
            }
            Action::CreateVector { change, .. } => write!(f, "{change}"),
            Action::Fill { fills, .. } => {
                let fills: Vec<String> = fills.iter().map(ToString::to_string).collect();
                write!(f, "{}", fills.join("; "))
            }
            Action::DeleteVector { vector } => {
                write!(f, "take a snapshot and delete the vector {vector}, which is not declared")
            }
            Action::SetAlias { alias } => write!(f, "let the alias {alias} lead to it"),
            Action::Rebuild { rebuild, stage: stage @ (Stage::SwitchAlias | Stage::Replace), .. }
                if !rebuild.writers =>
            {
                write!(f, "{rebuild}: fence off writers, compare once more and {stage}")
            }
            Action::Rebuild { rebuild, stage, .. } => write!(f, "{rebuild}: {stage}"),
            Action::OpenFence => f.write_str("let writers in again, whom an interrupted rebuild kept out"),
            Action::Stamp { stamp } => write!(f, "stamp version {}", stamp.version),
        }
    }
}

/// The steps that bring a collection to its declaration and stamp it; none if it is there. `None` observed means that
/// it does not exist and is to be created.
///
/// # Errors
/// What no step in place can do, by name: what needs new vectors or another server, and what needs a rebuild, which
/// [`super::rebuild()`] plans.
pub fn steps(
    name: &str,
    observed: Option<&Observed>,
    declaration: &CollectionDeclaration,
    stamp: &Stamp,
    server: ServerVersion,
) -> Result<Vec<Step>> {
    let declared = &declaration.schema;
    let step = |action| Step { collection: name.to_string(), action };
    let Some(observed) = observed else {
        creatable(name, declared)?;
        refuse(name, &gates(declared, server))?;
        return Ok(creation(declared, stamp).into_iter().map(step).collect());
    };

    no_shadow(name, observed)?;
    let mut steps = in_place(name, observed, declared, declaration.undeclared, server)?;
    if observed.fence.is_some() {
        steps.insert(0, step(Action::OpenFence));
    }
    if !observed.stamp.as_ref().is_some_and(|there| there.same_claim(stamp)) {
        steps.push(step(Action::Stamp { stamp: stamp.clone() }));
    }
    Ok(steps)
}

/// The steps that change what differs from a schema while the server serves.
///
/// # Errors
/// What cannot be changed so, by name.
pub fn in_place(
    name: &str,
    observed: &Observed,
    declared: &Schema,
    undeclared: Undeclared,
    server: ServerVersion,
) -> Result<Vec<Step>> {
    let mut changes = compare(declared, observed, undeclared, server);
    refuse(name, &changes)?;
    complete(name, declared, &observed.schema)?;
    changes.sort_by_key(Change::section);
    let actions = changes
        .chunk_by(|a, b| a.section() == b.section())
        .flat_map(|changes| actions(declared, observed, changes));
    // What is deleted may be the source of a fill.
    let (last, first): (Vec<Action>, Vec<Action>) =
        actions.partition(|action| matches!(action, Action::DeleteVector { .. }));
    let step = |action| Step { collection: name.to_owned(), action };
    Ok(first.into_iter().chain(last).map(step).collect())
}

/// Refuses a shadow under a name that an application uses, whatever version its stamp has.
///
/// # Errors
/// The source of the shadow, and how far its rebuild had come.
pub fn no_shadow(name: &str, observed: &Observed) -> Result<()> {
    let Some(Stamp { role: Role::Shadow { source, phase }, .. }) = &observed.stamp else { return Ok(()) };
    Err(Error::new(
        ExitCode::Refused,
        format!(
            "collection `{name}` is stamped as the shadow of `{source}`, whose rebuild stopped at `{phase}`"
        ),
    )
    .expected("a collection that an application uses, or the journal of the rebuild that made this one")
    .remedy("bring the stores back together: the journal is in the Postgres that the rebuild ran with"))
}

/// Puts the fills among the steps of a collection: behind what they need, before what they read is deleted and before the
/// stamp says that they are done.
pub fn add_fill(steps: &mut Vec<Step>, name: &str, fills: Vec<Due>) {
    if fills.is_empty() {
        return;
    }
    let behind = |step: &Step| match &step.action {
        Action::SetAlias { .. } | Action::DeleteVector { .. } | Action::Stamp { .. } => true,
        // From then on points may be hidden.
        Action::Update { schema, .. } => {
            let optimizers = schema.optimizers_config.as_ref();
            optimizers.is_some_and(|optimizers| optimizers.prevent_unoptimized == Some(true))
        }
        _ => false,
    };
    let place = steps.iter().position(behind).unwrap_or(steps.len());
    steps.insert(place, Step { collection: name.to_string(), action: Action::Fill { fills, from: None } });
}

/// What a new collection needs: the collection, what its creation has no field for, and the indexes before any data.
pub fn creation(declared: &Schema, stamp: &Stamp) -> Vec<Action> {
    let later = Schema {
        read_fan_out_factor: declared.read_fan_out_factor,
        read_fan_out_delay_ms: declared.read_fan_out_delay_ms,
        ..Schema::default()
    };
    let now = Schema {
        payload_indexes: Default::default(),
        aliases: Default::default(),
        read_fan_out_factor: None,
        read_fan_out_delay_ms: None,
        ..declared.clone()
    };
    let mut actions = vec![Action::Create { schema: now, stamp: stamp.clone() }];
    if later != Schema::default() {
        let changes = vec!["read_fan_out: as declared".to_string()];
        actions.push(Action::Update { schema: later, changes });
    }
    actions.extend(declared.payload_indexes.iter().map(|(field, index)| Action::CreateIndex {
        field: field.clone(),
        index: index.clone(),
        change: format!("payload_indexes.{field}: create {}", index.r#type.name()),
    }));
    actions.extend(declared.aliases.iter().map(|alias| Action::SetAlias { alias: alias.clone() }));
    actions
}

/// The actions for the changes of one section.
fn actions(declared: &Schema, observed: &Observed, changes: &[Change]) -> Vec<Action> {
    let actual = &observed.schema;
    let section = changes[0].section();
    if section == Section::PayloadIndexes {
        let mut fields: Vec<&String> = changes.iter().map(|change| &change.path[1]).collect();
        fields.dedup();
        return fields
            .into_iter()
            .map(|field| match declared.payload_indexes.get(field) {
                None => Action::DeleteIndex { field: field.clone() },
                Some(index) => Action::CreateIndex {
                    field: field.clone(),
                    index: merged_index(index, actual.payload_indexes.get(field)),
                    change: words(changes.iter().filter(|change| change.path[1] == *field)).join("; "),
                },
            })
            .collect();
    }
    if section == Section::Aliases {
        return changes.iter().map(|change| Action::SetAlias { alias: change.path[1].clone() }).collect();
    }
    let mut names: BTreeSet<&str> =
        changes.iter().filter_map(|c| c.path.get(1)).map(String::as_str).collect();
    let mut vectors = Vec::new();
    if matches!(section, Section::Vectors | Section::SparseVectors) {
        let has = |schema: &Schema, name: &str| {
            schema.vectors.contains_key(name) || schema.sparse_vectors.contains_key(name)
        };
        names.retain(|name| match (has(declared, name), has(actual, name)) {
            (true, true) => true,
            (false, _) => {
                vectors.push(Action::DeleteVector { vector: name.to_string() });
                false
            }
            (true, false) => {
                let schema = part(declared, section, &BTreeSet::from([*name]));
                let change = words(changes.iter().filter(|change| change.path[1] == *name)).join("; ");
                vectors.push(Action::CreateVector { schema, change });
                false
            }
        });
        if names.is_empty() {
            return vectors;
        }
    }
    let changes = changes.iter().filter(|c| {
        c.path.get(1).is_none_or(|name| {
            !matches!(section, Section::Vectors | Section::SparseVectors) || names.contains(name.as_str())
        })
    });
    let wanted = part(declared, section, &names);
    let schema = match section {
        // The server replaces a quantization and the maps of the strict mode whole, so that what of them is not declared
        // has to be sent again.
        Section::Quantization | Section::Vectors | Section::StrictMode => {
            overlay(&wanted, &part(actual, section, &names))
        }
        _ => wanted,
    };
    vectors.push(Action::Update { schema, changes: words(changes) });
    vectors
}

/// One section of a schema; of sections with names of the user's own only these names.
fn part(schema: &Schema, section: Section, names: &BTreeSet<&str>) -> Schema {
    let nothing = Schema::default();
    match section {
        Section::StrictMode => Schema { strict_mode_config: schema.strict_mode_config.clone(), ..nothing },
        Section::PayloadIndexes => {
            Schema { payload_indexes: named(&schema.payload_indexes, names), ..nothing }
        }
        Section::Params => Schema {
            shard_number: schema.shard_number,
            sharding_method: schema.sharding_method,
            replication_factor: schema.replication_factor,
            write_consistency_factor: schema.write_consistency_factor,
            read_fan_out_factor: schema.read_fan_out_factor,
            read_fan_out_delay_ms: schema.read_fan_out_delay_ms,
            on_disk_payload: schema.on_disk_payload,
            payload: schema.payload,
            id_tracker: schema.id_tracker,
            ..nothing
        },
        Section::Quantization => {
            Schema { quantization_config: schema.quantization_config.clone(), ..nothing }
        }
        Section::Hnsw => Schema { hnsw_config: schema.hnsw_config.clone(), ..nothing },
        Section::Vectors => Schema { vectors: named(&schema.vectors, names), ..nothing },
        Section::SparseVectors => Schema { sparse_vectors: named(&schema.sparse_vectors, names), ..nothing },
        Section::Wal => Schema { wal_config: schema.wal_config.clone(), ..nothing },
        Section::Optimizers => Schema { optimizers_config: schema.optimizers_config.clone(), ..nothing },
        Section::Metadata => Schema { metadata: named(&schema.metadata, names), ..nothing },
        Section::Aliases => nothing,
    }
}

fn named<T: Clone>(all: &BTreeMap<String, T>, names: &BTreeSet<&str>) -> BTreeMap<String, T> {
    all.iter()
        .filter(|(name, _)| names.contains(name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The index to build: the declared parameters over those that an index of the same type has.
fn merged_index(declared: &PayloadIndex, actual: Option<&PayloadIndex>) -> PayloadIndex {
    match actual {
        Some(actual) if actual.r#type == declared.r#type => overlay(declared, actual),
        _ => declared.clone(),
    }
}

fn words<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Vec<String> {
    changes.into_iter().map(ToString::to_string).collect()
}

/// Refuses what no step can do.
pub(super) fn refuse(name: &str, changes: &[Change]) -> Result<()> {
    let refused: Vec<&Change> = changes.iter().filter(|change| change.kind != Kind::InPlace).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let list: String = refused.iter().map(|change| format!("\n  {change}")).collect();
    let mut remedies: Vec<String> = Vec::new();
    for change in refused {
        let remedy = match &change.kind {
            Kind::InPlace => continue,
            Kind::Rebuild(_) => "a start rebuilds it; a step in place cannot".to_string(),
            Kind::Impossible { remedy, .. } => remedy.clone(),
            Kind::NeedsServer { since, .. } => {
                format!("upgrade Qdrant to {since} or newer, or leave the field out of the declaration")
            }
        };
        if !remedies.contains(&remedy) {
            remedies.push(remedy);
        }
    }
    Err(Error::new(
        ExitCode::Refused,
        format!("collection `{name}` cannot be brought to the declared schema in place:{list}"),
    )
    .expected("the declared schema, or differences that the server can change in place")
    .remedy(remedies.join("; ")))
}

/// So does a new vector of a collection that exists.
pub(super) fn complete(name: &str, declared: &Schema, actual: &Schema) -> Result<()> {
    let missing = declared.vectors.iter().filter(|(vector, _)| !actual.vectors.contains_key(*vector));
    match missing.into_iter().find(|(_, params)| params.size.is_none() || params.distance.is_none()) {
        None => Ok(()),
        Some((vector, _)) => Err(Error::new(
            ExitCode::BadTimeline,
            format!(
                "collection `{name}` lacks the vector `{vector}`, which is declared without size or distance"
            ),
        )
        .expected("size and distance of a vector that is to be added")
        .remedy("declare both")),
    }
}

/// A new collection needs size and distance of each dense vector.
pub(super) fn creatable(name: &str, declared: &Schema) -> Result<()> {
    let incomplete = declared.vectors.iter().find(|(_, p)| p.size.is_none() || p.distance.is_none());
    match incomplete {
        None => Ok(()),
        Some((vector, _)) => Err(Error::new(
            ExitCode::BadTimeline,
            format!("collection `{name}` does not exist and its vector `{vector}` is declared without size or distance"),
        )
        .expected("size and distance of every vector of a collection that `ensure` creates")
        .remedy("declare both, or take the collection out of `ensure`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::{Role, Status};
    use crate::timeline::Undeclared;

    const SERVER: ServerVersion = ServerVersion::new(1, 16, 3);

    fn stamp(version: i64) -> Stamp {
        Stamp { lineage: "l".into(), timeline: "t".into(), version, epoch: 1, role: Role::Live }
    }

    fn declaration(toml: &str) -> CollectionDeclaration {
        CollectionDeclaration {
            matching: "m".into(),
            ensure: Vec::new(),
            schema: toml::from_str(toml).unwrap(),
            undeclared: Undeclared::default(),
        }
    }

    fn observed(toml: &str, stamp: Option<Stamp>) -> Observed {
        Observed {
            name: "m".into(),
            schema: toml::from_str(toml).unwrap(),
            stamp,
            aliases: Vec::new(),
            points: 1,
            status: Status::Green,
            optimizer_error: None,
            queued_updates: None,
            fence: None,
            deferred_points: None,
        }
    }

    fn words(declared: &str, actual: Option<&Observed>) -> Vec<String> {
        let steps = steps("m", actual, &declaration(declared), &stamp(2), SERVER).unwrap();
        steps.iter().map(ToString::to_string).collect()
    }

    const BASE: &str = "vectors = { a = { size = 2, distance = 'Dot' } }\n";

    #[test]
    fn a_new_collection_is_created_stamped_and_indexed_before_any_data() {
        let declared = format!("{BASE} read_fan_out_factor = 1\npayload_indexes = {{ k = 'keyword' }}");
        let todo = steps("m", None, &declaration(&declared), &stamp(2), SERVER).unwrap();
        let [create, fan_out, index] = &todo[..] else { panic!("{todo:?}") };
        let Action::Create { schema, stamp: with } = &create.action else { panic!("{create}") };
        assert!(schema.payload_indexes.is_empty() && schema.read_fan_out_factor.is_none());
        assert_eq!(*with, stamp(2));
        assert!(
            matches!(&fan_out.action, Action::Update { schema, .. } if schema.read_fan_out_factor == Some(1))
        );
        assert!(matches!(&index.action, Action::CreateIndex { field, .. } if field == "k"));
        let json = serde_json::to_string(&todo).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Step>>(&json).unwrap(), todo);
    }

    #[test]
    fn a_new_collection_needs_size_and_distance() {
        let incomplete = declaration("vectors = { a = { size = 2 } }");
        let error = steps("m", None, &incomplete, &stamp(1), SERVER).unwrap_err();
        assert_eq!(error.code, ExitCode::BadTimeline);
        assert!(error.to_string().contains("`a`"), "{error}");
    }

    #[test]
    fn one_step_a_section_in_an_order_that_suits_the_server() {
        let declared = "
            optimizers_config = { flush_interval_sec = 1, vacuum_min_vector_number = 200 }
            hnsw_config = { m = 8 }
            strict_mode_config = { enabled = true }
            payload_indexes = { k = 'keyword', n = { type = 'integer', range = false, lookup = true } }
            metadata = { owner = 'x' }
            aliases = ['also']
            ";
        let actual = observed(&format!("{BASE} payload_indexes = {{ n = 'integer' }}"), Some(stamp(1)));
        assert_eq!(
            words(declared, Some(&actual)),
            [
                "m: strict_mode_config.enabled: not set, declared true",
                "m: payload_indexes.k: missing, declared keyword",
                "m: payload_indexes.n.range: not set, declared false",
                "m: hnsw_config.m: not set, declared 8",
                "m: optimizers_config.flush_interval_sec: not set, declared 1; \
                 optimizers_config.vacuum_min_vector_number: not set, declared 200",
                "m: metadata.owner: not set, declared \"x\"",
                "m: let the alias also lead to it",
                "m: stamp version 2",
            ]
        );
    }

    #[test]
    fn a_stamp_is_written_if_it_claims_something_else() {
        for (there, written) in [
            (None, true),
            (Some(stamp(1)), true),
            (Some(stamp(2)), false),
            (Some(Stamp { epoch: 9, ..stamp(2) }), false),
            (Some(Stamp { lineage: "x".into(), ..stamp(2) }), true),
        ] {
            let todo = words(BASE, Some(&observed(BASE, there.clone())));
            assert_eq!(!todo.is_empty(), written, "{there:?}");
        }
    }

    #[test]
    fn a_shadow_is_not_stamped_as_something_else() {
        let shadow = Stamp { role: Role::Shadow { source: "s".into(), phase: "copy".into() }, ..stamp(2) };
        let observed = observed(BASE, Some(shadow));
        let error = steps("m", Some(&observed), &declaration(BASE), &stamp(2), SERVER).unwrap_err();
        assert_eq!(error.code, ExitCode::Refused);
        assert!(error.found.contains("shadow of `s`") && error.found.contains("copy"), "{error}");
    }

    #[test]
    fn vectors_are_added_filled_and_deleted_in_this_order() {
        let newest = ServerVersion::new(1, 19, 0);
        let actual = "vectors = { a = { size = 2, distance = 'Dot' }, z = { size = 2, distance = 'Dot' } }";
        let declared = "
            vectors = { a = { hnsw_config = { m = 4 } }, b = { size = 2, distance = 'Dot', on_disk = true } }
            sparse_vectors = { s = { modifier = 'idf' } }
            payload_indexes = { k = 'keyword' }
            aliases = ['also']
            hnsw_config = { m = 8 }";
        let mut wanted = declaration(declared);
        wanted.undeclared.drop_vectors = true;
        let mut todo =
            steps("m", Some(&observed(actual, Some(stamp(1)))), &wanted, &stamp(2), newest).unwrap();
        let fill = toml::from_str("vector = 'b'\nfrom = { vector = 'z' }").unwrap();
        add_fill(&mut todo, "m", vec![Due { version: 2, fill, shape: None, narrow: None }]);
        add_fill(&mut todo, "m", Vec::new());
        assert_eq!(
            todo.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "m: payload_indexes.k: missing, declared keyword",
                "m: hnsw_config.m: not set, declared 8",
                "m: vectors.b: missing",
                "m: vectors.a.hnsw_config.m: not set, declared 4",
                "m: sparse_vectors.s: missing",
                "m: fill vector b from vector z (version 2)",
                "m: let the alias also lead to it",
                "m: take a snapshot and delete the vector z, which is not declared",
                "m: stamp version 2",
            ]
        );
        let json = serde_json::to_string(&todo).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Step>>(&json).unwrap(), todo);

        let incomplete = declaration("vectors = { b = { size = 2 } }");
        let error = steps("m", Some(&observed(actual, None)), &incomplete, &stamp(2), newest).unwrap_err();
        assert!(error.code == ExitCode::BadTimeline && error.found.contains("`b`"), "{error}");
    }

    #[test]
    fn points_are_filled_before_they_may_be_hidden() {
        let declared =
            declaration("optimizers_config = { prevent_unoptimized = true }\nmetadata = { a = 1 }");
        let server = ServerVersion::new(1, 17, 0);
        let mut todo =
            steps("m", Some(&observed(BASE, Some(stamp(1)))), &declared, &stamp(2), server).unwrap();
        let fill = toml::from_str("payload = 'k'\nset = 1").unwrap();
        add_fill(&mut todo, "m", vec![Due { version: 2, fill, shape: None, narrow: None }]);
        assert!(matches!(todo[0].action, Action::Fill { .. }), "{todo:?}");
    }

    #[test]
    fn every_difference_that_no_step_can_remove_is_named() {
        let declared = "
            vectors = { a = { size = 3, memory = 'cold' }, b = { size = 2 } }
            wal_config = { wal_capacity_mb = 1 }
            hnsw_config = { m = 8 }
            ";
        let error =
            steps("m", Some(&observed(BASE, None)), &declaration(declared), &stamp(1), SERVER).unwrap_err();
        assert_eq!(error.code, ExitCode::Refused);
        let text = error.to_string();
        for words in [
            "vectors.a.size: 2, declared 3 (impossible",
            "vectors.a.memory: not set, declared cold (needs server 1.19.0; this one is 1.16.3)",
            "vectors.b: missing (needs a rebuild",
            "wal_config.wal_capacity_mb: not set, declared 1 (needs a rebuild",
            "declare size = 2",
            "upgrade Qdrant to 1.19.0",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(!text.contains("hnsw_config"), "{text}");
    }

    #[test]
    fn what_is_replaced_whole_is_sent_whole() {
        let actual =
            "vectors = { a = { size = 2, distance = 'Dot', hnsw_config = { m = 4, ef_construct = 9 } } }";
        let declared = "vectors = { a = { hnsw_config = { m = 8 } } }";
        let todo =
            steps("m", Some(&observed(actual, Some(stamp(2)))), &declaration(declared), &stamp(2), SERVER);
        let [Step { action: Action::Update { schema, .. }, .. }] = &todo.unwrap()[..] else { panic!() };
        let hnsw = schema.vectors["a"].hnsw_config.as_ref().unwrap();
        assert_eq!((hnsw.m, hnsw.ef_construct), (Some(8), Some(9)));
    }
}
