//! Any schema that the API lets one declare can be created, read back equal, and changed in place into any other one of
//! the same vectors.

use local_servers::{Qdrant, QdrantVersion, unique_name};
use proptest::collection::{btree_map, btree_set};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use tandem::collection::*;
use tandem::config::QdrantSettings;
use tandem::qdrant::Client;
use tandem::secret::Secret;
use tandem::timeline::{CollectionDeclaration, Undeclared};

fn flag() -> impl Strategy<Value = Option<bool>> {
    option::of(any::<bool>())
}

fn hnsw() -> BoxedStrategy<HnswConfig> {
    let numbers = (
        option::of(0..64u64),
        option::of(4..200u64),
        option::of(10..50_000u64),
        option::of(0..4u64),
        option::of(0..64u64),
    );
    (numbers, flag(), flag())
        .prop_map(
            |(
                (m, ef_construct, full_scan_threshold, max_indexing_threads, payload_m),
                on_disk,
                inline_storage,
            )| {
                HnswConfig {
                    m,
                    ef_construct,
                    full_scan_threshold,
                    max_indexing_threads,
                    on_disk,
                    payload_m,
                    inline_storage,
                    memory: None,
                }
            },
        )
        .boxed()
}

fn quantization() -> BoxedStrategy<QuantizationConfig> {
    use CompressionRatio::*;
    let scalar = (option::of(0.5..1.0f64), flag()).prop_map(|(quantile, always_ram)| {
        let r#type = ScalarType::Int8;
        QuantizationConfig::Scalar(ScalarQuantization { r#type, quantile, always_ram, memory: None })
    });
    let product = (select(vec![X4, X8, X16, X32, X64]), flag()).prop_map(|(compression, always_ram)| {
        QuantizationConfig::Product(ProductQuantization { compression, always_ram, memory: None })
    });
    let encodings = [BinaryEncoding::OneBit, BinaryEncoding::TwoBits, BinaryEncoding::OneAndHalfBits];
    let queries = [
        BinaryQueryEncoding::Default,
        BinaryQueryEncoding::Binary,
        BinaryQueryEncoding::Scalar4Bits,
        BinaryQueryEncoding::Scalar8Bits,
    ];
    let binary = (flag(), option::of(select(encodings.to_vec())), option::of(select(queries.to_vec())))
        .prop_map(|(always_ram, encoding, query_encoding)| {
            QuantizationConfig::Binary(BinaryQuantization {
                always_ram,
                encoding,
                query_encoding,
                memory: None,
            })
        });
    prop_oneof![scalar, product, binary, Just(QuantizationConfig::Disabled)].boxed()
}

/// What can change in place of a vector.
fn vector_settings() -> BoxedStrategy<VectorParams> {
    (flag(), option::of(hnsw()), option::of(quantization()))
        .prop_map(|(on_disk, hnsw_config, quantization_config)| VectorParams {
            on_disk,
            hnsw_config,
            quantization_config,
            ..VectorParams::default()
        })
        .boxed()
}

fn sparse() -> BoxedStrategy<SparseVectorParams> {
    let index = (option::of(0..10_000u64), flag()).prop_map(|(full_scan_threshold, on_disk)| {
        SparseIndexParams { full_scan_threshold, on_disk, datatype: None, memory: None }
    });
    (option::of(index), option::of(select(vec![Modifier::None, Modifier::Idf])))
        .prop_map(|(index, modifier)| SparseVectorParams { index, modifier })
        .boxed()
}

fn optimizers() -> BoxedStrategy<OptimizersConfig> {
    let threads = prop_oneof![
        Just(OptimizationThreads::Setting(OptimizationThreadsSetting::Auto)),
        (1..4u64).prop_map(OptimizationThreads::Number)
    ];
    let numbers = (
        option::of(0.0..1.0f64),
        option::of(100..10_000u64),
        option::of(0..5u64),
        option::of(1..100_000u64),
        option::of(0..100_000u64),
        option::of(0..100_000u64),
    );
    (numbers, option::of(1..60u64), option::of(threads))
        .prop_map(|(numbers, flush_interval_sec, threads)| {
            let (
                deleted_threshold,
                vacuum_min_vector_number,
                default_segment_number,
                max_segment_size,
                memmap,
                indexing,
            ) = numbers;
            OptimizersConfig {
                deleted_threshold,
                vacuum_min_vector_number,
                default_segment_number,
                max_segment_size,
                memmap_threshold: memmap,
                indexing_threshold: indexing,
                flush_interval_sec,
                max_optimization_threads: threads,
                prevent_unoptimized: None,
            }
        })
        .boxed()
}

fn strict_mode() -> BoxedStrategy<StrictModeConfig> {
    let flags = (flag(), flag(), flag(), flag());
    let small = option::of(1..1_000_000u32);
    let large = option::of(1..1_000_000_000u64);
    let multi =
        btree_map("v[0-2]", (1..100u64).prop_map(|n| StrictModeMultivector { max_vectors: Some(n) }), 0..2);
    let words = btree_map("s[0-1]", (1..100u64).prop_map(|n| StrictModeSparse { max_length: Some(n) }), 0..2);
    (
        flags,
        (small.clone(), small.clone(), small, option::of(1.0..100.0f64)),
        (large.clone(), large.clone(), large.clone(), large.clone(), large.clone(), large),
        (multi, words),
    )
        .prop_map(|(flags, small, large, maps)| StrictModeConfig {
            enabled: flags.0,
            unindexed_filtering_retrieve: flags.1,
            unindexed_filtering_update: flags.2,
            search_allow_exact: flags.3,
            max_query_limit: small.0,
            max_timeout: small.1,
            search_max_hnsw_ef: small.2,
            search_max_oversampling: small.3,
            upsert_max_batchsize: large.0,
            max_collection_vector_size_bytes: large.1,
            max_collection_payload_size_bytes: large.2,
            filter_max_conditions: large.3,
            condition_max_size: large.4,
            max_points_count: large.5,
            multivector_config: maps.0,
            sparse_config: maps.1,
            ..StrictModeConfig::default()
        })
        .boxed()
}

fn index() -> BoxedStrategy<PayloadIndex> {
    use IndexType::*;
    let types = select(vec![Keyword, Integer, Float, Geo, Bool, Datetime, Uuid]);
    let plain =
        (types, flag(), flag(), flag(), option::of(select(vec![(true, true), (true, false), (false, true)])))
            .prop_map(|(r#type, on_disk, is_tenant, is_principal, lookup_range)| PayloadIndex {
                on_disk,
                is_tenant: is_tenant.filter(|_| matches!(r#type, Keyword | Uuid)),
                is_principal: is_principal.filter(|_| matches!(r#type, Integer | Float | Datetime)),
                lookup: lookup_range.map(|both| both.0).filter(|_| r#type == Integer),
                range: lookup_range.map(|both| both.1).filter(|_| r#type == Integer),
                ..PayloadIndex::from(r#type)
            });
    let languages = select(vec!["english", "german", "french", "spanish"]).prop_map(String::from);
    let stopwords = (btree_set(languages.clone(), 0..3), btree_set("[a-zäöü]{1,5}", 0..4))
        .prop_map(|(languages, custom)| Stopwords { languages, custom });
    let tokenizers = [Tokenizer::Prefix, Tokenizer::Whitespace, Tokenizer::Word, Tokenizer::Multilingual];
    let stemmer = languages.prop_map(|language| Stemmer::Snowball { language });
    let text = (
        (flag(), flag(), flag(), flag()),
        (option::of(0..5u64), option::of(5..20u64)),
        option::of(select(tokenizers.to_vec())),
        option::of(stopwords),
        option::of(stemmer),
    )
        .prop_map(|(flags, lengths, tokenizer, stopwords, stemmer)| PayloadIndex {
            on_disk: flags.0,
            lowercase: flags.1,
            ascii_folding: flags.2,
            phrase_matching: flags.3,
            min_token_len: lengths.0,
            max_token_len: lengths.1,
            tokenizer,
            stopwords,
            stemmer,
            ..PayloadIndex::from(Text)
        });
    prop_oneof![3 => plain, 1 => text].boxed()
}

fn metadata() -> BoxedStrategy<serde_json::Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (-1e300..1e300f64).prop_map(Into::into),
        "\\PC{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            btree_map("\\PC{0,5}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
    .boxed()
}

/// What can change in place, for these vectors.
fn settings(dense: Vec<String>, words: Vec<String>) -> BoxedStrategy<Schema> {
    let dense = dense.into_iter().map(|name| (Just(name), vector_settings())).collect::<Vec<_>>();
    let words = words.into_iter().map(|name| (Just(name), sparse())).collect::<Vec<_>>();
    (
        (dense, words, option::of(hnsw()), option::of(quantization()), option::of(optimizers())),
        (option::of(strict_mode()), flag(), option::of(1..4u32), option::of(0..4u32)),
        (btree_map("[a-z]{1,3}(\\.[a-z]|\\[\\])?", index(), 0..3), btree_map("[a-z]{1,5}", metadata(), 0..3)),
    )
        .prop_map(|(vectors, params, named)| Schema {
            vectors: vectors.0.into_iter().collect(),
            sparse_vectors: vectors.1.into_iter().collect(),
            hnsw_config: vectors.2,
            quantization_config: vectors.3,
            optimizers_config: vectors.4,
            strict_mode_config: params.0,
            on_disk_payload: params.1,
            replication_factor: params.2,
            read_fan_out_factor: params.3,
            payload_indexes: named.0,
            metadata: named.1,
            ..Schema::default()
        })
        .boxed()
}

/// Two schemas that differ in what can change in place.
fn two_schemas() -> impl Strategy<Value = (Schema, Schema)> {
    use Distance::*;
    let fixed = (
        1..16u64,
        select(vec![Cosine, Euclid, Dot, Manhattan]),
        option::of(select(vec![Datatype::Float32, Datatype::Float16, Datatype::Uint8])),
        option::of(Just(MultiVectorConfig::default())),
    )
        .prop_map(|(size, distance, datatype, multivector_config)| VectorParams {
            size: Some(size),
            distance: Some(distance),
            datatype,
            multivector_config,
            ..VectorParams::default()
        });
    let named = btree_map(prop_oneof!["v[0-2]", "ü[^\\x00][a-z]"], fixed.clone(), 0..3);
    let dense = prop_oneof![
        3 => named,
        1 => fixed.prop_map(|params| [(UNNAMED.to_string(), params)].into()),
    ];
    let shards = (option::of(1..3u32), option::of(1..64u64));
    (dense, btree_set("s[0-1]", 0..2), shards).prop_flat_map(|(dense, words, (shard_number, wal))| {
        let names: Vec<String> = dense.keys().cloned().collect();
        let words: Vec<String> = words.into_iter().collect();
        let complete = move |mut schema: Schema| {
            for (name, fixed) in &dense {
                let params = schema.vectors.get_mut(name).expect("it was made for these names");
                params.size = fixed.size;
                params.distance = fixed.distance;
                params.datatype = fixed.datatype;
                params.multivector_config = fixed.multivector_config;
            }
            schema.shard_number = shard_number;
            schema.wal_config = wal.map(|mb| WalConfig { wal_capacity_mb: Some(mb), ..WalConfig::default() });
            schema
        };
        (settings(names.clone(), words.clone()), settings(names, words))
            .prop_map(move |(one, other)| (complete(one), complete(other)))
    })
}

async fn bring(client: &Client, name: &str, declared: &Schema) -> Result<(), TestCaseError> {
    let server = client.probe().await.unwrap();
    let declaration = CollectionDeclaration {
        matching: name.into(),
        ensure: Vec::new(),
        schema: declared.clone(),
        undeclared: Undeclared::default(),
    };
    let stamp = Stamp { lineage: "l".into(), timeline: "t".into(), version: 1, epoch: 1, role: Role::Live };
    let fail = |error: tandem::error::Error| TestCaseError::fail(error.to_string());
    let observed = client.inspect(name).await.map_err(fail)?;
    let todo = steps(name, observed.as_ref(), &declaration, &stamp, server).map_err(fail)?;
    for step in &todo {
        client.perform(step).await.map_err(fail)?;
    }
    let observed = client.inspect(name).await.map_err(fail)?;
    let left = steps(name, observed.as_ref(), &declaration, &stamp, server).map_err(fail)?;
    prop_assert_eq!(left, []);
    Ok(())
}

#[test]
fn any_schema_is_created_read_back_and_changed_in_place() {
    for version in QdrantVersion::ALL {
        let server = Qdrant::shared(version).unwrap();
        let settings = QdrantSettings {
            host: server.host().into(),
            port: server.grpc_port(),
            rest_port: server.http_port(),
            tls: false,
            api_key: server.api_key().map(Secret::new),
            api_key_origin: "QDRANT_API_KEY".into(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(Client::connect(&settings)).unwrap();
        let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
        let config =
            ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 40, ..Default::default() };
        let property = |(one, other): (Schema, Schema)| {
            let name = unique_name("any");
            let outcome = runtime.block_on(async {
                bring(&client, &name, &one).await?;
                bring(&client, &name, &other).await
            });
            server.rest("DELETE", &format!("/collections/{name}"), "").unwrap();
            outcome
        };
        TestRunner::new(config)
            .run(&two_schemas(), property)
            .unwrap_or_else(|error| panic!("{version:?}: {error}"));
    }
}
