//! Between the plain collection schema and the protobuf messages, field by field, in both directions.

// `on_disk`, `always_ram` and `on_disk_payload` are deprecated in the 1.20 protocol in favour of `memory`, and are all
// that servers before 1.19 know.
#![allow(deprecated)]

use crate::collection::{
    BinaryEncoding, BinaryQuantization, BinaryQueryEncoding, CompressionRatio, Datatype, Distance,
    HnswConfig, IndexType, Memory, Modifier, MultiVectorComparator, MultiVectorConfig, OptimizationThreads,
    OptimizationThreadsSetting, OptimizersConfig, PayloadIndex, Placement, ProductQuantization,
    QuantizationConfig, ScalarQuantization, ScalarType, Schema, Scoring, ShardingMethod, SparseIndexParams,
    SparseVectorParams, Stemmer, Stopwords, StrictModeConfig, StrictModeMultivector, StrictModeSparse,
    Tokenizer, TurboBits, TurboQuantization, UNNAMED, VectorParams, WalConfig,
};
use qdrant_client::qdrant as pb;
use std::collections::{BTreeMap, HashMap};

/// The whole of a collection's configuration and payload indexes. Enum values that this protocol version does not
/// know are left out.
pub fn schema(config: pb::CollectionConfig, indexes: HashMap<String, pb::PayloadSchemaInfo>) -> Schema {
    let params = config.params.unwrap_or_default();
    Schema {
        vectors: params.vectors_config.and_then(|c| c.config).map(vectors).unwrap_or_default(),
        sparse_vectors: params
            .sparse_vectors_config
            .map(|c| c.map.into_iter().map(|(name, p)| (name, sparse_params(p))).collect())
            .unwrap_or_default(),
        hnsw_config: config.hnsw_config.map(hnsw),
        quantization_config: config.quantization_config.and_then(quantization),
        optimizers_config: config.optimizer_config.map(optimizers),
        wal_config: config.wal_config.map(|c| WalConfig {
            wal_capacity_mb: c.wal_capacity_mb,
            wal_segments_ahead: c.wal_segments_ahead,
            wal_retain_closed: c.wal_retain_closed,
        }),
        strict_mode_config: config.strict_mode_config.map(strict_mode),
        shard_number: Some(params.shard_number),
        sharding_method: params.sharding_method.map(|m| match m {
            1 => ShardingMethod::Custom,
            _ => ShardingMethod::Auto,
        }),
        replication_factor: params.replication_factor,
        write_consistency_factor: params.write_consistency_factor,
        read_fan_out_factor: params.read_fan_out_factor,
        read_fan_out_delay_ms: params.read_fan_out_delay_ms,
        on_disk_payload: Some(params.on_disk_payload),
        payload: params.payload.map(|p| Placement { memory: memory(p.memory) }),
        id_tracker: params.id_tracker.map(|p| Placement { memory: memory(p.memory) }),
        metadata: config.metadata.into_iter().map(|(key, value)| (key, json(value))).collect(),
        aliases: Default::default(),
        payload_indexes: indexes
            .into_iter()
            .filter_map(|(key, info)| Some((key, payload_index(info)?)))
            .collect(),
    }
}

fn vectors(config: pb::vectors_config::Config) -> BTreeMap<String, VectorParams> {
    match config {
        pb::vectors_config::Config::Params(params) => {
            BTreeMap::from([(UNNAMED.to_string(), vector_params(params))])
        }
        pb::vectors_config::Config::ParamsMap(map) => {
            map.map.into_iter().map(|(name, params)| (name, vector_params(params))).collect()
        }
    }
}

fn vector_params(params: pb::VectorParams) -> VectorParams {
    VectorParams {
        size: Some(params.size),
        distance: match pb::Distance::try_from(params.distance) {
            Ok(pb::Distance::Cosine) => Some(Distance::Cosine),
            Ok(pb::Distance::Euclid) => Some(Distance::Euclid),
            Ok(pb::Distance::Dot) => Some(Distance::Dot),
            Ok(pb::Distance::Manhattan) => Some(Distance::Manhattan),
            Ok(pb::Distance::UnknownDistance) | Err(_) => None,
        },
        datatype: datatype(params.datatype),
        multivector_config: params
            .multivector_config
            .map(|_| MultiVectorConfig { comparator: MultiVectorComparator::MaxSim }),
        on_disk: params.on_disk,
        memory: memory(params.memory),
        hnsw_config: params.hnsw_config.map(hnsw),
        quantization_config: params.quantization_config.and_then(quantization),
    }
}

fn sparse_params(params: pb::SparseVectorParams) -> SparseVectorParams {
    SparseVectorParams {
        index: params.index.map(|index| SparseIndexParams {
            full_scan_threshold: index.full_scan_threshold,
            on_disk: index.on_disk,
            datatype: datatype(index.datatype),
            memory: memory(index.memory),
        }),
        modifier: params.modifier.and_then(|m| match pb::Modifier::try_from(m) {
            Ok(pb::Modifier::None) => Some(Modifier::None),
            Ok(pb::Modifier::Idf) => Some(Modifier::Idf),
            Err(_) => None,
        }),
    }
}

fn datatype(value: Option<i32>) -> Option<Datatype> {
    match pb::Datatype::try_from(value?).ok()? {
        pb::Datatype::Default => None,
        pb::Datatype::Float32 => Some(Datatype::Float32),
        pb::Datatype::Float16 => Some(Datatype::Float16),
        pb::Datatype::Uint8 => Some(Datatype::Uint8),
        pb::Datatype::Turbo4 => Some(Datatype::Turbo4),
        pb::Datatype::Turbo8 => Some(Datatype::Turbo8),
        pb::Datatype::Turbo16 => Some(Datatype::Turbo16),
    }
}

fn memory(value: Option<i32>) -> Option<Memory> {
    match pb::Memory::try_from(value?).ok()? {
        pb::Memory::Unknown => None,
        pb::Memory::Cold => Some(Memory::Cold),
        pb::Memory::Cached => Some(Memory::Cached),
        pb::Memory::Pinned => Some(Memory::Pinned),
    }
}

fn hnsw(config: pb::HnswConfigDiff) -> HnswConfig {
    HnswConfig {
        m: config.m,
        ef_construct: config.ef_construct,
        full_scan_threshold: config.full_scan_threshold,
        max_indexing_threads: config.max_indexing_threads,
        on_disk: config.on_disk,
        payload_m: config.payload_m,
        inline_storage: config.inline_storage,
        memory: memory(config.memory),
    }
}

fn quantization(config: pb::QuantizationConfig) -> Option<QuantizationConfig> {
    use pb::quantization_config::Quantization;
    Some(match config.quantization? {
        Quantization::Scalar(c) => QuantizationConfig::Scalar(ScalarQuantization {
            r#type: ScalarType::Int8,
            quantile: c.quantile.map(decimal),
            always_ram: c.always_ram,
            memory: memory(c.memory),
        }),
        Quantization::Product(c) => QuantizationConfig::Product(ProductQuantization {
            compression: match pb::CompressionRatio::try_from(c.compression).ok()? {
                pb::CompressionRatio::X4 => CompressionRatio::X4,
                pb::CompressionRatio::X8 => CompressionRatio::X8,
                pb::CompressionRatio::X16 => CompressionRatio::X16,
                pb::CompressionRatio::X32 => CompressionRatio::X32,
                pb::CompressionRatio::X64 => CompressionRatio::X64,
            },
            always_ram: c.always_ram,
            memory: memory(c.memory),
        }),
        Quantization::Binary(c) => QuantizationConfig::Binary(BinaryQuantization {
            always_ram: c.always_ram,
            encoding: c.encoding.and_then(|e| match pb::BinaryQuantizationEncoding::try_from(e).ok()? {
                pb::BinaryQuantizationEncoding::OneBit => Some(BinaryEncoding::OneBit),
                pb::BinaryQuantizationEncoding::TwoBits => Some(BinaryEncoding::TwoBits),
                pb::BinaryQuantizationEncoding::OneAndHalfBits => Some(BinaryEncoding::OneAndHalfBits),
            }),
            query_encoding: c.query_encoding.and_then(|e| e.variant).and_then(|variant| {
                use pb::binary_quantization_query_encoding::{Setting, Variant};
                let Variant::Setting(setting) = variant;
                Some(match Setting::try_from(setting).ok()? {
                    Setting::Default => BinaryQueryEncoding::Default,
                    Setting::Binary => BinaryQueryEncoding::Binary,
                    Setting::Scalar4Bits => BinaryQueryEncoding::Scalar4Bits,
                    Setting::Scalar8Bits => BinaryQueryEncoding::Scalar8Bits,
                })
            }),
            memory: memory(c.memory),
        }),
        Quantization::Turboquant(c) => QuantizationConfig::Turbo(TurboQuantization {
            always_ram: c.always_ram,
            bits: c.bits.and_then(|b| match pb::TurboQuantBitSize::try_from(b).ok()? {
                pb::TurboQuantBitSize::Bits1 => Some(TurboBits::Bits1),
                pb::TurboQuantBitSize::Bits15 => Some(TurboBits::Bits1And5),
                pb::TurboQuantBitSize::Bits2 => Some(TurboBits::Bits2),
                pb::TurboQuantBitSize::Bits4 => Some(TurboBits::Bits4),
                pb::TurboQuantBitSize::Bits8 => Some(TurboBits::Bits8),
            }),
            memory: memory(c.memory),
        }),
    })
}

fn optimizers(config: pb::OptimizersConfigDiff) -> OptimizersConfig {
    use pb::max_optimization_threads::Variant;
    OptimizersConfig {
        deleted_threshold: config.deleted_threshold,
        vacuum_min_vector_number: config.vacuum_min_vector_number,
        default_segment_number: config.default_segment_number,
        max_segment_size: config.max_segment_size,
        memmap_threshold: config.memmap_threshold,
        indexing_threshold: config.indexing_threshold,
        flush_interval_sec: config.flush_interval_sec,
        max_optimization_threads: config.max_optimization_threads.and_then(|t| t.variant).map(|variant| {
            match variant {
                Variant::Value(number) => OptimizationThreads::Number(number),
                Variant::Setting(_) => OptimizationThreads::Setting(OptimizationThreadsSetting::Auto),
            }
        }),
        prevent_unoptimized: config.prevent_unoptimized,
    }
}

fn strict_mode(config: pb::StrictModeConfig) -> StrictModeConfig {
    StrictModeConfig {
        enabled: config.enabled,
        max_query_limit: config.max_query_limit,
        max_timeout: config.max_timeout,
        unindexed_filtering_retrieve: config.unindexed_filtering_retrieve,
        unindexed_filtering_update: config.unindexed_filtering_update,
        search_max_hnsw_ef: config.search_max_hnsw_ef,
        search_allow_exact: config.search_allow_exact,
        search_max_oversampling: config.search_max_oversampling.map(decimal),
        upsert_max_batchsize: config.upsert_max_batchsize,
        search_max_batchsize: config.search_max_batchsize,
        max_collection_vector_size_bytes: config.max_collection_vector_size_bytes,
        max_collection_payload_size_bytes: config.max_collection_payload_size_bytes,
        read_rate_limit: config.read_rate_limit,
        write_rate_limit: config.write_rate_limit,
        filter_max_conditions: config.filter_max_conditions,
        condition_max_size: config.condition_max_size,
        multivector_config: config
            .multivector_config
            .unwrap_or_default()
            .multivector_config
            .into_iter()
            .map(|(name, c)| (name, StrictModeMultivector { max_vectors: c.max_vectors }))
            .collect(),
        sparse_config: config
            .sparse_config
            .unwrap_or_default()
            .sparse_config
            .into_iter()
            .map(|(name, c)| (name, StrictModeSparse { max_length: c.max_length }))
            .collect(),
        max_points_count: config.max_points_count,
        max_payload_index_count: config.max_payload_index_count,
        max_resident_memory_percent: config.max_resident_memory_percent,
    }
}

fn payload_index(info: pb::PayloadSchemaInfo) -> Option<PayloadIndex> {
    use pb::payload_index_params::IndexParams;
    let index = PayloadIndex::from(match pb::PayloadSchemaType::try_from(info.data_type).ok()? {
        pb::PayloadSchemaType::UnknownType => return None,
        pb::PayloadSchemaType::Keyword => IndexType::Keyword,
        pb::PayloadSchemaType::Integer => IndexType::Integer,
        pb::PayloadSchemaType::Float => IndexType::Float,
        pb::PayloadSchemaType::Geo => IndexType::Geo,
        pb::PayloadSchemaType::Text => IndexType::Text,
        pb::PayloadSchemaType::Bool => IndexType::Bool,
        pb::PayloadSchemaType::Datetime => IndexType::Datetime,
        pb::PayloadSchemaType::Uuid => IndexType::Uuid,
    });
    Some(match info.params.and_then(|p| p.index_params) {
        None => index,
        Some(IndexParams::KeywordIndexParams(p)) => PayloadIndex {
            is_tenant: p.is_tenant,
            on_disk: p.on_disk,
            enable_hnsw: p.enable_hnsw,
            prefix: p.prefix.map(|_| true),
            memory: memory(p.memory),
            nested: p.nested,
            ..index
        },
        Some(IndexParams::IntegerIndexParams(p)) => PayloadIndex {
            lookup: p.lookup,
            range: p.range,
            is_principal: p.is_principal,
            on_disk: p.on_disk,
            enable_hnsw: p.enable_hnsw,
            memory: memory(p.memory),
            nested: p.nested,
            ..index
        },
        Some(IndexParams::FloatIndexParams(p)) => PayloadIndex {
            is_principal: p.is_principal,
            on_disk: p.on_disk,
            enable_hnsw: p.enable_hnsw,
            memory: memory(p.memory),
            nested: p.nested,
            ..index
        },
        Some(IndexParams::GeoIndexParams(p)) => PayloadIndex {
            on_disk: p.on_disk,
            enable_hnsw: p.enable_hnsw,
            memory: memory(p.memory),
            nested: p.nested,
            ..index
        },
        Some(IndexParams::BoolIndexParams(p)) => PayloadIndex {
            on_disk: p.on_disk,
            enable_hnsw: p.enable_hnsw,
            memory: memory(p.memory),
            nested: p.nested,
            ..index
        },
        Some(IndexParams::DatetimeIndexParams(p)) => PayloadIndex {
            is_principal: p.is_principal,
            on_disk: p.on_disk,
            enable_hnsw: p.enable_hnsw,
            memory: memory(p.memory),
            nested: p.nested,
            ..index
        },
        Some(IndexParams::UuidIndexParams(p)) => PayloadIndex {
            is_tenant: p.is_tenant,
            on_disk: p.on_disk,
            enable_hnsw: p.enable_hnsw,
            memory: memory(p.memory),
            nested: p.nested,
            ..index
        },
        Some(IndexParams::TextIndexParams(p)) => PayloadIndex {
            tokenizer: match pb::TokenizerType::try_from(p.tokenizer) {
                Ok(pb::TokenizerType::Prefix) => Some(Tokenizer::Prefix),
                Ok(pb::TokenizerType::Whitespace) => Some(Tokenizer::Whitespace),
                Ok(pb::TokenizerType::Word) => Some(Tokenizer::Word),
                Ok(pb::TokenizerType::Multilingual) => Some(Tokenizer::Multilingual),
                Ok(pb::TokenizerType::Code) => Some(Tokenizer::Code),
                Ok(pb::TokenizerType::Unknown) | Err(_) => None,
            },
            lowercase: p.lowercase,
            ascii_folding: p.ascii_folding,
            phrase_matching: p.phrase_matching,
            min_token_len: p.min_token_len,
            max_token_len: p.max_token_len,
            on_disk: p.on_disk,
            enable_hnsw: p.enable_hnsw,
            stopwords: p.stopwords.map(|s| Stopwords {
                languages: s.languages.into_iter().collect(),
                custom: s.custom.into_iter().collect(),
            }),
            stemmer: p.stemmer.and_then(|s| s.stemming_params).map(|params| match params {
                pb::stemming_algorithm::StemmingParams::Snowball(s) => {
                    Stemmer::Snowball { language: s.language }
                }
                pb::stemming_algorithm::StemmingParams::Disabled(_) => Stemmer::None,
            }),
            memory: memory(p.memory),
            scoring: p.scoring.map(|_| Scoring::Bm25),
            nested: p.nested,
            ..index
        },
    })
}

/// The shortest decimal that is this 32-bit float, so that 0.99 reads back as 0.99.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// Metadata as JSON. What JSON cannot hold (NaN, infinities) becomes null.
pub fn json(value: pb::Value) -> serde_json::Value {
    use pb::value::Kind;
    match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(b)) => b.into(),
        Some(Kind::IntegerValue(i)) => i.into(),
        Some(Kind::DoubleValue(d)) => d.into(),
        Some(Kind::StringValue(s)) => s.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
        Some(Kind::StructValue(s)) => s.fields.into_iter().map(|(key, value)| (key, json(value))).collect(),
    }
}

/// JSON as metadata. Numbers beyond 64 signed bits become doubles.
pub fn pb_value(value: &serde_json::Value) -> pb::Value {
    use pb::value::Kind;
    use serde_json::Value;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(b) => Kind::BoolValue(*b),
        Value::Number(n) => match n.as_i64() {
            Some(i) => Kind::IntegerValue(i),
            None => Kind::DoubleValue(n.as_f64().unwrap_or_default()),
        },
        Value::String(s) => Kind::StringValue(s.clone()),
        Value::Array(values) => {
            Kind::ListValue(pb::ListValue { values: values.iter().map(pb_value).collect() })
        }
        Value::Object(map) => Kind::StructValue(pb::Struct {
            fields: map.iter().map(|(key, value)| (key.clone(), pb_value(value))).collect(),
        }),
    };
    pb::Value { kind: Some(kind) }
}

/// The request that creates a collection with everything but its payload indexes and the fan-out of reads, which
/// have requests of their own.
pub fn create_collection(name: &str, schema: &Schema) -> pb::CreateCollection {
    pb::CreateCollection {
        collection_name: name.to_string(),
        hnsw_config: schema.hnsw_config.as_ref().map(pb_hnsw),
        wal_config: schema.wal_config.as_ref().map(|c| pb::WalConfigDiff {
            wal_capacity_mb: c.wal_capacity_mb,
            wal_segments_ahead: c.wal_segments_ahead,
            wal_retain_closed: c.wal_retain_closed,
        }),
        optimizers_config: schema.optimizers_config.as_ref().map(pb_optimizers),
        shard_number: schema.shard_number,
        on_disk_payload: schema.on_disk_payload,
        timeout: None,
        vectors_config: pb_vectors(&schema.vectors),
        replication_factor: schema.replication_factor,
        write_consistency_factor: schema.write_consistency_factor,
        quantization_config: schema.quantization_config.as_ref().and_then(pb_quantization),
        sharding_method: schema.sharding_method.map(|m| match m {
            ShardingMethod::Auto => pb::ShardingMethod::Auto.into(),
            ShardingMethod::Custom => pb::ShardingMethod::Custom.into(),
        }),
        sparse_vectors_config: pb_sparse_vectors(&schema.sparse_vectors),
        strict_mode_config: schema.strict_mode_config.as_ref().map(pb_strict_mode),
        metadata: pb_metadata(&schema.metadata),
        payload: schema.payload.map(|p| pb::PayloadStorageParams { memory: p.memory.map(pb_memory) }),
        id_tracker: schema.id_tracker.map(|p| pb::IdTrackerParams { memory: p.memory.map(pb_memory) }),
    }
}

/// The request that changes what `schema` holds, and nothing else. Sizes, distances and the other parameters that
/// no server changes in place have no place in it.
pub fn update_collection(name: &str, schema: &Schema) -> pb::UpdateCollection {
    let params = pb::CollectionParamsDiff {
        replication_factor: schema.replication_factor,
        write_consistency_factor: schema.write_consistency_factor,
        on_disk_payload: schema.on_disk_payload,
        read_fan_out_factor: schema.read_fan_out_factor,
        read_fan_out_delay_ms: schema.read_fan_out_delay_ms,
        payload: schema.payload.map(|p| pb::PayloadStorageParams { memory: p.memory.map(pb_memory) }),
        id_tracker: schema.id_tracker.map(|p| pb::IdTrackerParams { memory: p.memory.map(pb_memory) }),
    };
    pb::UpdateCollection {
        collection_name: name.to_string(),
        optimizers_config: schema.optimizers_config.as_ref().map(pb_optimizers),
        timeout: None,
        params: (params != pb::CollectionParamsDiff::default()).then_some(params),
        hnsw_config: schema.hnsw_config.as_ref().map(pb_hnsw),
        vectors_config: (!schema.vectors.is_empty()).then(|| pb::VectorsConfigDiff {
            config: Some(pb::vectors_config_diff::Config::ParamsMap(pb::VectorParamsDiffMap {
                map: schema.vectors.iter().map(|(name, p)| (name.clone(), pb_vector_diff(p))).collect(),
            })),
        }),
        quantization_config: schema.quantization_config.as_ref().map(pb_quantization_diff),
        sparse_vectors_config: pb_sparse_vectors(&schema.sparse_vectors),
        strict_mode_config: schema.strict_mode_config.as_ref().map(pb_strict_mode),
        metadata: pb_metadata(&schema.metadata),
    }
}

/// The requests that add the vectors of `schema` to a collection, with what they have a field for.
pub fn create_vector_names(name: &str, schema: &Schema) -> Vec<pb::CreateVectorNameRequest> {
    use pb::create_vector_name_request::VectorConfig;
    let request = |(vector, config): (&String, VectorConfig)| pb::CreateVectorNameRequest {
        collection_name: name.to_owned(),
        wait: Some(true),
        vector_name: vector.clone(),
        timeout: None,
        ordering: None,
        vector_config: Some(config),
    };
    let dense = schema.vectors.iter().map(|(vector, params)| {
        let config = pb::DenseVectorCreationConfig {
            size: params.size.unwrap_or_default(),
            distance: pb_distance(params.distance),
            multivector_config: params
                .multivector_config
                .map(|_| pb::MultiVectorConfig { comparator: pb::MultiVectorComparator::MaxSim.into() }),
            datatype: params.datatype.map(pb_datatype),
        };
        (vector, VectorConfig::DenseConfig(config))
    });
    let sparse = pb_sparse_vectors(&schema.sparse_vectors).unwrap_or_default().map;
    let sparse = schema.sparse_vectors.keys().map(|vector| {
        let params = sparse.get(vector).copied().unwrap_or_default();
        let config = pb::SparseVectorCreationConfig {
            modifier: params.modifier,
            datatype: params.index.and_then(|index| index.datatype),
        };
        (vector, VectorConfig::SparseConfig(config))
    });
    dense.chain(sparse).map(request).collect()
}

/// The request that builds an index or replaces the one that the field has, and waits for it.
pub fn create_field_index(name: &str, field: &str, index: &PayloadIndex) -> pb::CreateFieldIndexCollection {
    pb::CreateFieldIndexCollection {
        collection_name: name.to_string(),
        wait: Some(true),
        field_name: field.to_string(),
        field_type: Some(
            match index.r#type {
                IndexType::Keyword => pb::FieldType::Keyword,
                IndexType::Integer => pb::FieldType::Integer,
                IndexType::Float => pb::FieldType::Float,
                IndexType::Geo => pb::FieldType::Geo,
                IndexType::Text => pb::FieldType::Text,
                IndexType::Bool => pb::FieldType::Bool,
                IndexType::Datetime => pb::FieldType::Datetime,
                IndexType::Uuid => pb::FieldType::Uuid,
            }
            .into(),
        ),
        // Without parameters the server applies its own defaults, as for an application that names only the type.
        field_index_params: (*index != PayloadIndex::from(index.r#type))
            .then(|| pb::PayloadIndexParams { index_params: Some(pb_index_params(index)) }),
        ordering: None,
        timeout: None,
    }
}

fn pb_metadata(metadata: &BTreeMap<String, serde_json::Value>) -> HashMap<String, pb::Value> {
    metadata.iter().map(|(key, value)| (key.clone(), pb_value(value))).collect()
}

fn pb_vectors(vectors: &BTreeMap<String, VectorParams>) -> Option<pb::VectorsConfig> {
    let config = match vectors.get(UNNAMED) {
        Some(params) if vectors.len() == 1 => pb::vectors_config::Config::Params(pb_vector_params(params)),
        _ if vectors.is_empty() => return None,
        _ => pb::vectors_config::Config::ParamsMap(pb::VectorParamsMap {
            map: vectors.iter().map(|(name, params)| (name.clone(), pb_vector_params(params))).collect(),
        }),
    };
    Some(pb::VectorsConfig { config: Some(config) })
}

fn pb_vector_params(params: &VectorParams) -> pb::VectorParams {
    pb::VectorParams {
        size: params.size.unwrap_or_default(),
        distance: pb_distance(params.distance),
        hnsw_config: params.hnsw_config.as_ref().map(pb_hnsw),
        quantization_config: params.quantization_config.as_ref().and_then(pb_quantization),
        on_disk: params.on_disk,
        datatype: params.datatype.map(pb_datatype),
        multivector_config: params
            .multivector_config
            .map(|_| pb::MultiVectorConfig { comparator: pb::MultiVectorComparator::MaxSim.into() }),
        memory: params.memory.map(pb_memory),
    }
}

fn pb_vector_diff(params: &VectorParams) -> pb::VectorParamsDiff {
    pb::VectorParamsDiff {
        hnsw_config: params.hnsw_config.as_ref().map(pb_hnsw),
        quantization_config: params.quantization_config.as_ref().map(pb_quantization_diff),
        on_disk: params.on_disk,
        memory: params.memory.map(pb_memory),
    }
}

fn pb_sparse_vectors(vectors: &BTreeMap<String, SparseVectorParams>) -> Option<pb::SparseVectorConfig> {
    let params = |params: &SparseVectorParams| pb::SparseVectorParams {
        index: params.index.as_ref().map(|index| pb::SparseIndexConfig {
            full_scan_threshold: index.full_scan_threshold,
            on_disk: index.on_disk,
            datatype: index.datatype.map(pb_datatype),
            memory: index.memory.map(pb_memory),
        }),
        modifier: params.modifier.map(|m| match m {
            Modifier::None => pb::Modifier::None.into(),
            Modifier::Idf => pb::Modifier::Idf.into(),
        }),
    };
    (!vectors.is_empty()).then(|| pb::SparseVectorConfig {
        map: vectors.iter().map(|(name, p)| (name.clone(), params(p))).collect(),
    })
}

fn pb_distance(distance: Option<Distance>) -> i32 {
    match distance {
        None => pb::Distance::UnknownDistance,
        Some(Distance::Cosine) => pb::Distance::Cosine,
        Some(Distance::Euclid) => pb::Distance::Euclid,
        Some(Distance::Dot) => pb::Distance::Dot,
        Some(Distance::Manhattan) => pb::Distance::Manhattan,
    }
    .into()
}

fn pb_datatype(datatype: Datatype) -> i32 {
    match datatype {
        Datatype::Float32 => pb::Datatype::Float32,
        Datatype::Float16 => pb::Datatype::Float16,
        Datatype::Uint8 => pb::Datatype::Uint8,
        Datatype::Turbo4 => pb::Datatype::Turbo4,
        Datatype::Turbo8 => pb::Datatype::Turbo8,
        Datatype::Turbo16 => pb::Datatype::Turbo16,
    }
    .into()
}

fn pb_memory(memory: Memory) -> i32 {
    match memory {
        Memory::Cold => pb::Memory::Cold,
        Memory::Cached => pb::Memory::Cached,
        Memory::Pinned => pb::Memory::Pinned,
    }
    .into()
}

fn pb_hnsw(config: &HnswConfig) -> pb::HnswConfigDiff {
    pb::HnswConfigDiff {
        m: config.m,
        ef_construct: config.ef_construct,
        full_scan_threshold: config.full_scan_threshold,
        max_indexing_threads: config.max_indexing_threads,
        on_disk: config.on_disk,
        payload_m: config.payload_m,
        inline_storage: config.inline_storage,
        memory: config.memory.map(pb_memory),
    }
}

/// `None` for a disabled quantization, which is what a new collection has.
fn pb_quantization(config: &QuantizationConfig) -> Option<pb::QuantizationConfig> {
    use pb::quantization_config::Quantization;
    use pb::quantization_config_diff::Quantization as Diff;
    let quantization = match pb_quantization_diff(config).quantization? {
        Diff::Scalar(c) => Quantization::Scalar(c),
        Diff::Product(c) => Quantization::Product(c),
        Diff::Binary(c) => Quantization::Binary(c),
        Diff::Turboquant(c) => Quantization::Turboquant(c),
        Diff::Disabled(_) => return None,
    };
    Some(pb::QuantizationConfig { quantization: Some(quantization) })
}

fn pb_quantization_diff(config: &QuantizationConfig) -> pb::QuantizationConfigDiff {
    use pb::quantization_config_diff::Quantization;
    let quantization = match config {
        QuantizationConfig::Scalar(c) => Quantization::Scalar(pb::ScalarQuantization {
            r#type: match c.r#type {
                ScalarType::Int8 => pb::QuantizationType::Int8.into(),
            },
            // The protocol has 32 bits here.
            quantile: c.quantile.map(|q| q as f32),
            always_ram: c.always_ram,
            memory: c.memory.map(pb_memory),
        }),
        QuantizationConfig::Product(c) => Quantization::Product(pb::ProductQuantization {
            compression: match c.compression {
                CompressionRatio::X4 => pb::CompressionRatio::X4,
                CompressionRatio::X8 => pb::CompressionRatio::X8,
                CompressionRatio::X16 => pb::CompressionRatio::X16,
                CompressionRatio::X32 => pb::CompressionRatio::X32,
                CompressionRatio::X64 => pb::CompressionRatio::X64,
            }
            .into(),
            always_ram: c.always_ram,
            memory: c.memory.map(pb_memory),
        }),
        QuantizationConfig::Binary(c) => Quantization::Binary(pb::BinaryQuantization {
            always_ram: c.always_ram,
            encoding: c.encoding.map(|e| {
                match e {
                    BinaryEncoding::OneBit => pb::BinaryQuantizationEncoding::OneBit,
                    BinaryEncoding::TwoBits => pb::BinaryQuantizationEncoding::TwoBits,
                    BinaryEncoding::OneAndHalfBits => pb::BinaryQuantizationEncoding::OneAndHalfBits,
                }
                .into()
            }),
            query_encoding: c.query_encoding.map(|e| {
                use pb::binary_quantization_query_encoding::{Setting, Variant};
                let setting = match e {
                    BinaryQueryEncoding::Default => Setting::Default,
                    BinaryQueryEncoding::Binary => Setting::Binary,
                    BinaryQueryEncoding::Scalar4Bits => Setting::Scalar4Bits,
                    BinaryQueryEncoding::Scalar8Bits => Setting::Scalar8Bits,
                };
                pb::BinaryQuantizationQueryEncoding { variant: Some(Variant::Setting(setting.into())) }
            }),
            memory: c.memory.map(pb_memory),
        }),
        QuantizationConfig::Turbo(c) => Quantization::Turboquant(pb::TurboQuantization {
            always_ram: c.always_ram,
            bits: c.bits.map(|b| {
                match b {
                    TurboBits::Bits1 => pb::TurboQuantBitSize::Bits1,
                    TurboBits::Bits1And5 => pb::TurboQuantBitSize::Bits15,
                    TurboBits::Bits2 => pb::TurboQuantBitSize::Bits2,
                    TurboBits::Bits4 => pb::TurboQuantBitSize::Bits4,
                    TurboBits::Bits8 => pb::TurboQuantBitSize::Bits8,
                }
                .into()
            }),
            memory: c.memory.map(pb_memory),
        }),
        QuantizationConfig::Disabled => Quantization::Disabled(pb::Disabled {}),
    };
    pb::QuantizationConfigDiff { quantization: Some(quantization) }
}

fn pb_optimizers(config: &OptimizersConfig) -> pb::OptimizersConfigDiff {
    use pb::max_optimization_threads::{Setting, Variant};
    pb::OptimizersConfigDiff {
        deleted_threshold: config.deleted_threshold,
        vacuum_min_vector_number: config.vacuum_min_vector_number,
        default_segment_number: config.default_segment_number,
        max_segment_size: config.max_segment_size,
        memmap_threshold: config.memmap_threshold,
        indexing_threshold: config.indexing_threshold,
        flush_interval_sec: config.flush_interval_sec,
        deprecated_max_optimization_threads: None,
        max_optimization_threads: config.max_optimization_threads.map(|threads| pb::MaxOptimizationThreads {
            variant: Some(match threads {
                OptimizationThreads::Number(number) => Variant::Value(number),
                OptimizationThreads::Setting(OptimizationThreadsSetting::Auto) => {
                    Variant::Setting(Setting::Auto.into())
                }
            }),
        }),
        prevent_unoptimized: config.prevent_unoptimized,
    }
}

fn pb_strict_mode(config: &StrictModeConfig) -> pb::StrictModeConfig {
    pb::StrictModeConfig {
        enabled: config.enabled,
        max_query_limit: config.max_query_limit,
        max_timeout: config.max_timeout,
        unindexed_filtering_retrieve: config.unindexed_filtering_retrieve,
        unindexed_filtering_update: config.unindexed_filtering_update,
        search_max_hnsw_ef: config.search_max_hnsw_ef,
        search_allow_exact: config.search_allow_exact,
        // The protocol has 32 bits here.
        search_max_oversampling: config.search_max_oversampling.map(|o| o as f32),
        upsert_max_batchsize: config.upsert_max_batchsize,
        search_max_batchsize: config.search_max_batchsize,
        max_collection_vector_size_bytes: config.max_collection_vector_size_bytes,
        read_rate_limit: config.read_rate_limit,
        write_rate_limit: config.write_rate_limit,
        max_collection_payload_size_bytes: config.max_collection_payload_size_bytes,
        filter_max_conditions: config.filter_max_conditions,
        condition_max_size: config.condition_max_size,
        multivector_config: (!config.multivector_config.is_empty()).then(|| {
            pb::StrictModeMultivectorConfig {
                multivector_config: config
                    .multivector_config
                    .iter()
                    .map(|(name, c)| (name.clone(), pb::StrictModeMultivector { max_vectors: c.max_vectors }))
                    .collect(),
            }
        }),
        sparse_config: (!config.sparse_config.is_empty()).then(|| pb::StrictModeSparseConfig {
            sparse_config: config
                .sparse_config
                .iter()
                .map(|(name, c)| (name.clone(), pb::StrictModeSparse { max_length: c.max_length }))
                .collect(),
        }),
        max_points_count: config.max_points_count,
        max_payload_index_count: config.max_payload_index_count,
        max_resident_memory_percent: config.max_resident_memory_percent,
    }
}

fn pb_index_params(index: &PayloadIndex) -> pb::payload_index_params::IndexParams {
    use pb::payload_index_params::IndexParams;
    let PayloadIndex { on_disk, enable_hnsw, is_tenant, is_principal, .. } = *index;
    let memory = index.memory.map(pb_memory);
    let nested = index.nested.clone();
    match index.r#type {
        IndexType::Keyword => IndexParams::KeywordIndexParams(pb::KeywordIndexParams {
            is_tenant,
            on_disk,
            enable_hnsw,
            prefix: (index.prefix == Some(true)).then_some(pb::KeywordPrefixParams {}),
            memory,
            nested,
        }),
        IndexType::Integer => IndexParams::IntegerIndexParams(pb::IntegerIndexParams {
            lookup: index.lookup,
            range: index.range,
            is_principal,
            on_disk,
            enable_hnsw,
            memory,
            nested,
        }),
        IndexType::Float => IndexParams::FloatIndexParams(pb::FloatIndexParams {
            on_disk,
            is_principal,
            enable_hnsw,
            memory,
            nested,
        }),
        IndexType::Geo => {
            IndexParams::GeoIndexParams(pb::GeoIndexParams { on_disk, enable_hnsw, memory, nested })
        }
        IndexType::Bool => {
            IndexParams::BoolIndexParams(pb::BoolIndexParams { on_disk, enable_hnsw, memory, nested })
        }
        IndexType::Datetime => IndexParams::DatetimeIndexParams(pb::DatetimeIndexParams {
            on_disk,
            is_principal,
            enable_hnsw,
            memory,
            nested,
        }),
        IndexType::Uuid => IndexParams::UuidIndexParams(pb::UuidIndexParams {
            is_tenant,
            on_disk,
            enable_hnsw,
            memory,
            nested,
        }),
        IndexType::Text => IndexParams::TextIndexParams(pb::TextIndexParams {
            tokenizer: match index.tokenizer {
                // The server has no default for an unknown tokenizer over gRPC; over REST its default is `word`.
                None | Some(Tokenizer::Word) => pb::TokenizerType::Word,
                Some(Tokenizer::Prefix) => pb::TokenizerType::Prefix,
                Some(Tokenizer::Whitespace) => pb::TokenizerType::Whitespace,
                Some(Tokenizer::Multilingual) => pb::TokenizerType::Multilingual,
                Some(Tokenizer::Code) => pb::TokenizerType::Code,
            }
            .into(),
            lowercase: index.lowercase,
            min_token_len: index.min_token_len,
            max_token_len: index.max_token_len,
            on_disk,
            stopwords: index.stopwords.as_ref().map(|s| pb::StopwordsSet {
                languages: s.languages.iter().cloned().collect(),
                custom: s.custom.iter().cloned().collect(),
            }),
            phrase_matching: index.phrase_matching,
            stemmer: index.stemmer.as_ref().map(|stemmer| pb::StemmingAlgorithm {
                stemming_params: Some(match stemmer {
                    Stemmer::Snowball { language } => {
                        pb::stemming_algorithm::StemmingParams::Snowball(pb::SnowballParams {
                            language: language.clone(),
                        })
                    }
                    Stemmer::None => pb::stemming_algorithm::StemmingParams::Disabled(pb::DisabledStemmer {}),
                }),
            }),
            ascii_folding: index.ascii_folding,
            enable_hnsw,
            memory,
            scoring: index
                .scoring
                .map(|_| pb::TextScoringParams { r#type: pb::TextScoringType::Bm25.into() }),
            nested,
        }),
    }
}
