//! The difference engine over every field that a declaration can have: what a difference takes, and since which server.
//!
//! [`everything`] spells out every struct, so that a new field does not compile until it is in it, and every leaf of it must
//! be covered by one row of [`TABLE`].

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tandem::collection::*;
use tandem::timeline::Undeclared;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Takes {
    InPlace,
    Rebuild,
    NewVectors,
}
use Takes::*;

/// Where, what it takes, and the oldest server that knows the field. `*` is one name.
const TABLE: &[(&str, Takes, (u16, u16))] = &[
    ("vectors.*.size", NewVectors, (15, 4)),
    ("vectors.*.distance", Rebuild, (15, 4)),
    ("vectors.*.datatype", Rebuild, (15, 4)),
    ("vectors.*.multivector_config", Rebuild, (15, 4)),
    ("vectors.*.on_disk", InPlace, (15, 4)),
    ("vectors.*.memory", InPlace, (19, 0)),
    ("vectors.*.hnsw_config.m", InPlace, (15, 4)),
    ("vectors.*.hnsw_config.ef_construct", InPlace, (15, 4)),
    ("vectors.*.hnsw_config.full_scan_threshold", InPlace, (15, 4)),
    ("vectors.*.hnsw_config.max_indexing_threads", InPlace, (15, 4)),
    ("vectors.*.hnsw_config.on_disk", InPlace, (15, 4)),
    ("vectors.*.hnsw_config.payload_m", InPlace, (15, 4)),
    ("vectors.*.hnsw_config.inline_storage", InPlace, (16, 0)),
    ("vectors.*.hnsw_config.memory", InPlace, (19, 0)),
    ("vectors.*.quantization_config.scalar.quantile", InPlace, (15, 4)),
    ("vectors.*.quantization_config.scalar.always_ram", InPlace, (15, 4)),
    ("vectors.*.quantization_config.scalar.memory", InPlace, (19, 0)),
    ("vectors.*.quantization_config.product.always_ram", InPlace, (15, 4)),
    ("vectors.*.quantization_config.product.memory", InPlace, (19, 0)),
    ("vectors.*.quantization_config.binary.always_ram", InPlace, (15, 4)),
    ("vectors.*.quantization_config.binary.encoding", InPlace, (15, 4)),
    ("vectors.*.quantization_config.binary.query_encoding", InPlace, (15, 4)),
    ("vectors.*.quantization_config.binary.memory", InPlace, (19, 0)),
    // The kind itself is known from 1.18 on; within it only what came later is gated.
    ("vectors.*.quantization_config.turbo.always_ram", InPlace, (15, 4)),
    ("vectors.*.quantization_config.turbo.bits", InPlace, (20, 0)),
    ("vectors.*.quantization_config.turbo.memory", InPlace, (19, 0)),
    ("sparse_vectors.*.index.full_scan_threshold", InPlace, (15, 4)),
    ("sparse_vectors.*.index.on_disk", InPlace, (15, 4)),
    ("sparse_vectors.*.index.datatype", Rebuild, (15, 4)),
    ("sparse_vectors.*.index.memory", InPlace, (19, 0)),
    ("sparse_vectors.*.modifier", InPlace, (15, 4)),
    ("hnsw_config.m", InPlace, (15, 4)),
    ("hnsw_config.ef_construct", InPlace, (15, 4)),
    ("hnsw_config.full_scan_threshold", InPlace, (15, 4)),
    ("hnsw_config.max_indexing_threads", InPlace, (15, 4)),
    ("hnsw_config.on_disk", InPlace, (15, 4)),
    ("hnsw_config.payload_m", InPlace, (15, 4)),
    ("hnsw_config.inline_storage", InPlace, (16, 0)),
    ("hnsw_config.memory", InPlace, (19, 0)),
    ("quantization_config.scalar.quantile", InPlace, (15, 4)),
    ("quantization_config.scalar.always_ram", InPlace, (15, 4)),
    ("quantization_config.scalar.memory", InPlace, (19, 0)),
    ("optimizers_config.deleted_threshold", InPlace, (15, 4)),
    ("optimizers_config.vacuum_min_vector_number", InPlace, (15, 4)),
    ("optimizers_config.default_segment_number", InPlace, (15, 4)),
    ("optimizers_config.max_segment_size", InPlace, (15, 4)),
    ("optimizers_config.memmap_threshold", InPlace, (15, 4)),
    ("optimizers_config.indexing_threshold", InPlace, (15, 4)),
    ("optimizers_config.flush_interval_sec", InPlace, (15, 4)),
    ("optimizers_config.max_optimization_threads", InPlace, (15, 4)),
    ("optimizers_config.prevent_unoptimized", InPlace, (17, 0)),
    ("wal_config.wal_capacity_mb", Rebuild, (15, 4)),
    ("wal_config.wal_segments_ahead", Rebuild, (15, 4)),
    ("wal_config.wal_retain_closed", Rebuild, (15, 4)),
    ("strict_mode_config.enabled", InPlace, (15, 4)),
    ("strict_mode_config.max_query_limit", InPlace, (15, 4)),
    ("strict_mode_config.max_timeout", InPlace, (15, 4)),
    ("strict_mode_config.unindexed_filtering_retrieve", InPlace, (15, 4)),
    ("strict_mode_config.unindexed_filtering_update", InPlace, (15, 4)),
    ("strict_mode_config.search_max_hnsw_ef", InPlace, (15, 4)),
    ("strict_mode_config.search_allow_exact", InPlace, (15, 4)),
    ("strict_mode_config.search_max_oversampling", InPlace, (15, 4)),
    ("strict_mode_config.upsert_max_batchsize", InPlace, (15, 4)),
    ("strict_mode_config.search_max_batchsize", InPlace, (17, 1)),
    ("strict_mode_config.max_collection_vector_size_bytes", InPlace, (15, 4)),
    ("strict_mode_config.max_collection_payload_size_bytes", InPlace, (15, 4)),
    ("strict_mode_config.read_rate_limit", InPlace, (15, 4)),
    ("strict_mode_config.write_rate_limit", InPlace, (15, 4)),
    ("strict_mode_config.filter_max_conditions", InPlace, (15, 4)),
    ("strict_mode_config.condition_max_size", InPlace, (15, 4)),
    ("strict_mode_config.multivector_config.*.max_vectors", InPlace, (15, 4)),
    ("strict_mode_config.sparse_config.*.max_length", InPlace, (15, 4)),
    ("strict_mode_config.max_points_count", InPlace, (15, 4)),
    ("strict_mode_config.max_payload_index_count", InPlace, (15, 4)),
    ("strict_mode_config.max_resident_memory_percent", InPlace, (18, 0)),
    ("shard_number", Rebuild, (15, 4)),
    ("sharding_method", Rebuild, (15, 4)),
    ("replication_factor", InPlace, (15, 4)),
    ("write_consistency_factor", InPlace, (15, 4)),
    ("read_fan_out_factor", InPlace, (15, 4)),
    ("read_fan_out_delay_ms", InPlace, (17, 0)),
    ("on_disk_payload", InPlace, (15, 4)),
    ("payload.memory", InPlace, (19, 0)),
    ("id_tracker.memory", InPlace, (20, 0)),
    ("metadata.*", InPlace, (15, 4)),
    ("payload_indexes.*.on_disk", InPlace, (15, 4)),
    ("payload_indexes.*.memory", InPlace, (19, 0)),
    ("payload_indexes.*.enable_hnsw", InPlace, (17, 0)),
    ("payload_indexes.*.nested", InPlace, (20, 0)),
    ("payload_indexes.*.is_tenant", InPlace, (15, 4)),
    ("payload_indexes.*.prefix", InPlace, (19, 0)),
    ("payload_indexes.*.is_principal", InPlace, (15, 4)),
    ("payload_indexes.*.lookup", InPlace, (15, 4)),
    ("payload_indexes.*.range", InPlace, (15, 4)),
    ("payload_indexes.*.tokenizer", InPlace, (15, 4)),
    ("payload_indexes.*.lowercase", InPlace, (15, 4)),
    ("payload_indexes.*.ascii_folding", InPlace, (16, 0)),
    ("payload_indexes.*.phrase_matching", InPlace, (15, 4)),
    ("payload_indexes.*.min_token_len", InPlace, (15, 4)),
    ("payload_indexes.*.max_token_len", InPlace, (15, 4)),
    ("payload_indexes.*.stopwords", InPlace, (15, 4)),
    ("payload_indexes.*.stemmer", InPlace, (15, 4)),
    ("payload_indexes.*.scoring", InPlace, (20, 0)),
];

/// What has no value beside it that could differ: the discriminators, compared by the tests below.
const FIXED: &[&str] = &[
    "vectors.*.quantization_config.scalar.type",
    "vectors.*.quantization_config.product.compression",
    "quantization_config.scalar.type",
    "payload_indexes.*.type",
];

const SERVERS: [(u16, u16); 8] = [(15, 4), (16, 0), (17, 0), (17, 1), (18, 0), (18, 2), (19, 0), (20, 0)];

const KEEP: Undeclared = Undeclared { drop_vectors: false, drop_payload_indexes: false };

fn server((minor, patch): (u16, u16)) -> ServerVersion {
    ServerVersion::new(1, minor, patch)
}

fn hnsw() -> HnswConfig {
    HnswConfig {
        m: Some(8),
        ef_construct: Some(50),
        full_scan_threshold: Some(500),
        max_indexing_threads: Some(2),
        on_disk: Some(true),
        payload_m: Some(4),
        inline_storage: Some(true),
        memory: Some(Memory::Cold),
    }
}

fn dense(quantization: QuantizationConfig) -> VectorParams {
    VectorParams {
        size: Some(4),
        distance: Some(Distance::Dot),
        datatype: Some(Datatype::Float16),
        multivector_config: Some(MultiVectorConfig { comparator: MultiVectorComparator::MaxSim }),
        on_disk: Some(true),
        memory: Some(Memory::Cold),
        hnsw_config: Some(hnsw()),
        quantization_config: Some(quantization),
    }
}

fn scalar() -> QuantizationConfig {
    QuantizationConfig::Scalar(ScalarQuantization {
        r#type: ScalarType::Int8,
        quantile: Some(0.9),
        always_ram: Some(true),
        memory: Some(Memory::Pinned),
    })
}

/// Every field, with a value that is not the server's default.
fn everything() -> Schema {
    use IndexType::*;
    let index = |r#type: IndexType| PayloadIndex {
        r#type,
        on_disk: Some(true),
        memory: Some(Memory::Cold),
        enable_hnsw: Some(false),
        nested: Some("a".into()),
        is_tenant: matches!(r#type, Keyword | Uuid).then_some(true),
        prefix: (r#type == Keyword).then_some(true),
        is_principal: matches!(r#type, Integer | Float | Datetime).then_some(true),
        lookup: (r#type == Integer).then_some(false),
        range: (r#type == Integer).then_some(false),
        tokenizer: (r#type == Text).then_some(Tokenizer::Prefix),
        lowercase: (r#type == Text).then_some(false),
        ascii_folding: (r#type == Text).then_some(true),
        phrase_matching: (r#type == Text).then_some(true),
        min_token_len: (r#type == Text).then_some(2),
        max_token_len: (r#type == Text).then_some(9),
        stopwords: (r#type == Text)
            .then(|| Stopwords { languages: ["german".to_owned()].into(), custom: ["x".to_owned()].into() }),
        stemmer: (r#type == Text).then(|| Stemmer::Snowball { language: "german".into() }),
        scoring: (r#type == Text).then_some(Scoring::Bm25),
    };
    let product = ProductQuantization {
        compression: CompressionRatio::X8,
        always_ram: Some(true),
        memory: Some(Memory::Cold),
    };
    let binary = BinaryQuantization {
        always_ram: Some(true),
        encoding: Some(BinaryEncoding::TwoBits),
        query_encoding: Some(BinaryQueryEncoding::Scalar4Bits),
        memory: Some(Memory::Cold),
    };
    let turbo = TurboQuantization {
        always_ram: Some(true),
        bits: Some(TurboBits::Bits8),
        memory: Some(Memory::Cold),
    };
    Schema {
        vectors: [
            ("scalar", scalar()),
            ("product", QuantizationConfig::Product(product)),
            ("binary", QuantizationConfig::Binary(binary)),
            ("turbo", QuantizationConfig::Turbo(turbo)),
        ]
        .map(|(name, quantization)| (name.to_owned(), dense(quantization)))
        .into(),
        sparse_vectors: [(
            "words".to_owned(),
            SparseVectorParams {
                index: Some(SparseIndexParams {
                    full_scan_threshold: Some(5),
                    on_disk: Some(true),
                    datatype: Some(Datatype::Float16),
                    memory: Some(Memory::Cold),
                }),
                modifier: Some(Modifier::Idf),
            },
        )]
        .into(),
        hnsw_config: Some(hnsw()),
        quantization_config: Some(scalar()),
        optimizers_config: Some(OptimizersConfig {
            deleted_threshold: Some(0.3),
            vacuum_min_vector_number: Some(101),
            default_segment_number: Some(3),
            max_segment_size: Some(1000),
            memmap_threshold: Some(1000),
            indexing_threshold: Some(1000),
            flush_interval_sec: Some(9),
            max_optimization_threads: Some(OptimizationThreads::Number(2)),
            prevent_unoptimized: Some(true),
        }),
        wal_config: Some(WalConfig {
            wal_capacity_mb: Some(1),
            wal_segments_ahead: Some(1),
            wal_retain_closed: Some(2),
        }),
        strict_mode_config: Some(StrictModeConfig {
            enabled: Some(true),
            max_query_limit: Some(1),
            max_timeout: Some(1),
            unindexed_filtering_retrieve: Some(false),
            unindexed_filtering_update: Some(false),
            search_max_hnsw_ef: Some(1),
            search_allow_exact: Some(false),
            search_max_oversampling: Some(1.5),
            upsert_max_batchsize: Some(1),
            search_max_batchsize: Some(1),
            max_collection_vector_size_bytes: Some(1),
            max_collection_payload_size_bytes: Some(1),
            read_rate_limit: Some(1),
            write_rate_limit: Some(1),
            filter_max_conditions: Some(1),
            condition_max_size: Some(1),
            multivector_config: [("v".to_owned(), StrictModeMultivector { max_vectors: Some(1) })].into(),
            sparse_config: [("s".to_owned(), StrictModeSparse { max_length: Some(1) })].into(),
            max_points_count: Some(1),
            max_payload_index_count: Some(99),
            max_resident_memory_percent: Some(50),
        }),
        shard_number: Some(2),
        sharding_method: Some(ShardingMethod::Custom),
        replication_factor: Some(2),
        write_consistency_factor: Some(2),
        read_fan_out_factor: Some(2),
        read_fan_out_delay_ms: Some(5),
        on_disk_payload: Some(true),
        payload: Some(Placement { memory: Some(Memory::Cold) }),
        id_tracker: Some(Placement { memory: Some(Memory::Cold) }),
        metadata: [("owner".to_owned(), json!({ "a": [1, null] }))].into(),
        aliases: ["spoken".to_owned()].into(),
        payload_indexes: [Keyword, Integer, Float, Geo, Text, Bool, Datetime, Uuid]
            .map(|r#type| (r#type.name().to_owned(), index(r#type)))
            .into(),
    }
}

fn observed(schema: Schema) -> Observed {
    let aliases = Vec::from_iter(schema.aliases.clone());
    Observed {
        name: "memory".into(),
        schema: Schema { aliases: BTreeSet::new(), ..schema },
        stamp: None,
        aliases,
        points: 10,
        status: Status::Green,
        optimizer_error: None,
        queued_updates: None,
        fence: None,
        deferred_points: None,
    }
}

fn schema(toml: &str) -> Schema {
    toml::from_str(toml).unwrap_or_else(|e| panic!("{toml}: {e}"))
}

/// The fields of the tree; what is replaced whole is one.
fn leaves(path: &mut Vec<String>, value: &Value, found: &mut Vec<Vec<String>>) {
    let whole = path.len() == 2 && path[0] == "metadata"
        || path.last().is_some_and(|last| {
            ["stopwords", "stemmer", "scoring"].contains(&last.as_str())
                || last == "multivector_config" && path[0] == "vectors"
        });
    match value {
        Value::Object(fields) if !whole => {
            for (name, value) in fields {
                path.push(name.clone());
                leaves(path, value, found);
                path.pop();
            }
        }
        _ => found.push(path.clone()),
    }
}

fn matches(pattern: &str, path: &[String]) -> bool {
    let names: Vec<&str> = pattern.split('.').collect();
    names.len() == path.len() && names.iter().zip(path).all(|(name, part)| *name == "*" || name == part)
}

fn without(schema: &Value, path: &[String]) -> Schema {
    let mut tree = schema.clone();
    let (last, parents) = path.split_last().unwrap();
    let mut parent = &mut tree;
    for name in parents {
        parent = &mut parent[name];
    }
    parent.as_object_mut().unwrap().remove(last).unwrap();
    serde_json::from_value(tree).unwrap()
}

#[test]
fn every_field_that_can_be_declared_is_compared_and_known_by_server() {
    let declared = everything();
    for version in SERVERS {
        assert_eq!(compare(&declared, &observed(declared.clone()), KEEP, server(version)), []);
    }
    let tree = serde_json::to_value(Schema { aliases: BTreeSet::new(), ..declared.clone() }).unwrap();
    let mut all = Vec::new();
    leaves(&mut Vec::new(), &tree, &mut all);
    let mut used = BTreeMap::new();
    for path in &all {
        if FIXED.iter().any(|pattern| matches(pattern, path)) {
            continue;
        }
        let rows: Vec<_> = TABLE.iter().filter(|row| matches(row.0, path)).collect();
        let [(pattern, takes, since)] = rows[..] else { panic!("{path:?} has the rows {rows:?}") };
        *used.entry(pattern).or_insert(0) += 1;
        let actual = Observed {
            aliases: declared.aliases.iter().cloned().collect(),
            ..observed(without(&tree, path))
        };
        for version in SERVERS {
            let changes = compare(&declared, &actual, KEEP, server(version));
            assert!(!changes.is_empty(), "{path:?} on {version:?}: no difference");
            for change in &changes {
                assert!(change.path.starts_with(path), "{path:?} on {version:?}: {change}");
                // A server that does not know a field refuses or drops it, whatever it would take.
                let expected = match (version < *since, takes) {
                    (true, _) => {
                        matches!(&change.kind, Kind::NeedsServer { since: s, .. } if *s == server(*since))
                    }
                    (_, InPlace) => change.kind == Kind::InPlace,
                    (_, Rebuild) => matches!(&change.kind, Kind::Rebuild(reason) if !reason.is_empty()),
                    (_, NewVectors) => {
                        matches!(&change.kind, Kind::Impossible { reason, remedy } if !reason.is_empty() && !remedy.is_empty())
                    }
                };
                assert!(expected, "{path:?} on {version:?}, expected {takes:?} since {since:?}: {change:?}");
            }
        }
    }
    let unused: Vec<&str> = TABLE.iter().map(|row| row.0).filter(|row| !used.contains_key(row)).collect();
    assert_eq!(unused, [""; 0], "rows about no field");
    println!("{} fields on {} server versions", all.len(), SERVERS.len());
}

#[test]
fn each_change_of_a_vector_says_what_it_loses() {
    let vector = |settings: &str| format!("vectors = {{ a = {{ size = 4, {settings} }} }}");
    for (from, to, takes, words) in [
        // From any distance to any other: only what was normalised cannot come back.
        ("distance = 'Dot'", "distance = 'Cosine'", Rebuild, "one distance"),
        ("distance = 'Dot'", "distance = 'Euclid'", Rebuild, "one distance"),
        ("distance = 'Dot'", "distance = 'Manhattan'", Rebuild, "one distance"),
        ("distance = 'Euclid'", "distance = 'Cosine'", Rebuild, "one distance"),
        ("distance = 'Manhattan'", "distance = 'Euclid'", Rebuild, "one distance"),
        ("distance = 'Cosine'", "distance = 'Dot'", NewVectors, "normalised"),
        ("distance = 'Cosine'", "distance = 'Euclid'", NewVectors, "normalised"),
        ("distance = 'Cosine'", "distance = 'Manhattan'", NewVectors, "normalised"),
        // Narrowing rounds and says so; widening does not; whole numbers cut off.
        ("distance = 'Dot'", "datatype = 'float16'", Rebuild, "rounded to float16"),
        ("distance = 'Dot'", "datatype = 'turbo4'", Rebuild, "rounded to turbo4"),
        ("distance = 'Dot'", "datatype = 'turbo8'", Rebuild, "rounded to turbo8"),
        ("distance = 'Dot'", "datatype = 'turbo16'", Rebuild, "rounded to turbo16"),
        ("datatype = 'float16'", "datatype = 'float32'", Rebuild, "another datatype"),
        ("datatype = 'turbo4'", "datatype = 'float32'", Rebuild, "another datatype"),
        ("datatype = 'uint8'", "datatype = 'float32'", Rebuild, "another datatype"),
        ("distance = 'Dot'", "datatype = 'uint8'", NewVectors, "0 to 255"),
        ("datatype = 'float16'", "datatype = 'uint8'", NewVectors, "0 to 255"),
        ("distance = 'Dot'", "multivector_config = {}", Rebuild, "list of one"),
    ] {
        let (declared, actual) = (schema(&vector(to)), observed(schema(&vector(from))));
        let changes = compare(&declared, &actual, KEEP, server((20, 0)));
        let [change] = &changes[..] else { panic!("{from} to {to}: {changes:?}") };
        let found = match &change.kind {
            Kind::Rebuild(reason) => (Rebuild, reason.clone()),
            Kind::Impossible { reason, remedy } => {
                assert!(remedy.contains("declare"), "{remedy}");
                (NewVectors, reason.clone())
            }
            other => panic!("{from} to {to}: {other:?}"),
        };
        assert!(found.0 == takes && found.1.contains(words), "{from} to {to}: {found:?}");
    }
    // What is written rounded is not rounded further.
    let same = schema(&vector("datatype = 'float16'"));
    assert_eq!(compare(&same, &observed(same.clone()), KEEP, server((17, 0))), []);
}

#[test]
fn each_kind_of_quantization_becomes_each_other_in_place() {
    let kinds = [
        "{ scalar = { type = 'int8' } }",
        "{ product = { compression = 'x4' } }",
        "{ product = { compression = 'x64' } }",
        "{ binary = {} }",
        "{ turbo = {} }",
        "'Disabled'",
    ];
    for (from, to) in kinds.iter().flat_map(|from| kinds.iter().map(move |to| (from, to))) {
        for (prefix, close) in
            [("quantization_config = ", ""), ("vectors.a = { size = 4, quantization_config = ", " }")]
        {
            let (declared, actual) =
                (schema(&format!("{prefix}{to}{close}")), schema(&format!("{prefix}{from}{close}")));
            let changes = compare(&declared, &observed(actual), KEEP, server((20, 0)));
            assert_eq!(changes.is_empty(), from == to, "{prefix}: {from} to {to}: {changes:?}");
            assert!(changes.iter().all(|change| change.kind == Kind::InPlace), "{changes:?}");
            let older = compare(&declared, &observed(Schema::default()), KEEP, server((17, 0)));
            let gated = older.iter().any(|change| {
                change.path.last().unwrap().contains("quantization_config")
                    && matches!(change.kind, Kind::NeedsServer { .. })
            });
            assert_eq!(gated, to.contains("turbo"), "{to}: {older:?}");
        }
    }
}

#[test]
fn each_type_of_payload_index_becomes_each_other_in_place() {
    let types = everything().payload_indexes.into_values().map(|index| index.r#type).collect::<Vec<_>>();
    assert_eq!(types.len(), 8);
    for (from, to) in types.iter().flat_map(|from| types.iter().map(move |to| (*from, *to))) {
        let of = |r#type: IndexType| Schema {
            payload_indexes: [("k".to_owned(), PayloadIndex::from(r#type))].into(),
            ..Schema::default()
        };
        let changes = compare(&of(to), &observed(of(from)), KEEP, server((15, 4)));
        assert_eq!(changes.is_empty(), from == to);
        assert!(changes.iter().all(|change| change.kind == Kind::InPlace
            && change.difference == format!("{}, declared {}", from.name(), to.name())));
    }
}

#[test]
fn an_alias_is_led_here_in_place_and_never_to_a_shadow() {
    let declared = schema("aliases = ['a', 'b']");
    let mut actual = observed(schema("aliases = ['b', 'c']"));
    let changes = compare(&declared, &actual, KEEP, server((15, 4)));
    assert_eq!(
        changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["aliases.a: does not lead here"]
    );
    assert_eq!(changes[0].kind, Kind::InPlace);
    actual.stamp = Some(Stamp {
        lineage: "l".into(),
        timeline: "t".into(),
        version: 1,
        epoch: 1,
        role: Role::Shadow { source: "memory".into(), phase: "copy".into() },
    });
    assert_eq!(compare(&declared, &actual, KEEP, server((15, 4))), []);
    assert_eq!(gates(&declared, server((15, 4))), []);
}
