//! The serde types of a collection schema, with the names and shapes of Qdrant's REST API.

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Error as _, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

/// The key of [`Schema::vectors`] under which the single unnamed vector is kept.
pub const UNNAMED: &str = "";

/// The metadata key that holds tandem's [stamp](super::Stamp). No declaration may use it.
pub const STAMP_KEY: &str = "tandem";

/// The metadata key under which a collection that is [fenced off](super::Fence) keeps what it was before. No declaration may
/// use it.
pub const FENCE_KEY: &str = "tandem_fence";

/// The metadata key of a mark that tells a collection that was compared from another one under its name.
pub const COMPARED_KEY: &str = "tandem_compared";

/// A collection schema, declared or observed. An absent field is not declared: it is neither set nor compared.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schema {
    /// Dense vectors by name. The single unnamed vector, in REST `vectors = { size, distance, … }`, has the
    /// empty name.
    #[serde(deserialize_with = "named_or_unnamed", skip_serializing_if = "BTreeMap::is_empty")]
    pub vectors: BTreeMap<String, VectorParams>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sparse_vectors: BTreeMap<String, SparseVectorParams>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hnsw_config: Option<HnswConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization_config: Option<QuantizationConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizers_config: Option<OptimizersConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_config: Option<WalConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict_mode_config: Option<StrictModeConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard_number: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sharding_method: Option<ShardingMethod>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_consistency_factor: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_fan_out_factor: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_fan_out_delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_disk_payload: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Placement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_tracker: Option<Placement>,
    /// Free data beside the stamp; merged by its top-level keys.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, serde_json::Value>,
    /// Names that lead to the collection besides its own; others that lead there stay. Only ever declared: what leads to
    /// a collection is [`Observed::aliases`](super::Observed::aliases).
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub aliases: BTreeSet<String>,
    /// By payload key, such as `user.id` or `tags[].name`.
    #[serde(deserialize_with = "type_or_table", skip_serializing_if = "BTreeMap::is_empty")]
    pub payload_indexes: BTreeMap<String, PayloadIndex>,
}

/// A dense vector, or with `multivector_config` a list of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VectorParams {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distance: Option<Distance>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datatype: Option<Datatype>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multivector_config: Option<MultiVectorConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_disk: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hnsw_config: Option<HnswConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization_config: Option<QuantizationConfig>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Distance {
    Cosine,
    Euclid,
    Dot,
    Manhattan,
}

/// How vectors are stored; all but `float32` round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Datatype {
    Float32,
    Float16,
    Uint8,
    Turbo4,
    Turbo8,
    Turbo16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiVectorConfig {
    pub comparator: MultiVectorComparator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MultiVectorComparator {
    #[default]
    MaxSim,
}

/// Where a component's data is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    Cold,
    Cached,
    Pinned,
}

/// The placement of the payload storage or of the point id tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Placement {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SparseVectorParams {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<SparseIndexParams>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modifier: Option<Modifier>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SparseIndexParams {
    /// Number of vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_scan_threshold: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_disk: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datatype: Option<Datatype>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modifier {
    None,
    Idf,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HnswConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub m: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ef_construct: Option<u64>,
    /// Kilobytes of vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_scan_threshold: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_indexing_threads: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_disk: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_m: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline_storage: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

/// The kind of quantization with its parameters, or `"Disabled"`: a server cannot unset it otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuantizationConfig {
    Scalar(ScalarQuantization),
    Product(ProductQuantization),
    Binary(BinaryQuantization),
    Turbo(TurboQuantization),
    #[serde(rename = "Disabled", alias = "disabled")]
    Disabled,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScalarQuantization {
    pub r#type: ScalarType,
    /// A 32-bit float on the wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantile: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub always_ram: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScalarType {
    Int8,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProductQuantization {
    pub compression: CompressionRatio,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub always_ram: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompressionRatio {
    X4,
    X8,
    X16,
    X32,
    X64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BinaryQuantization {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub always_ram: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<BinaryEncoding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_encoding: Option<BinaryQueryEncoding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BinaryEncoding {
    OneBit,
    TwoBits,
    OneAndHalfBits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BinaryQueryEncoding {
    Default,
    Binary,
    Scalar4Bits,
    Scalar8Bits,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TurboQuantization {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub always_ram: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits: Option<TurboBits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TurboBits {
    Bits1,
    #[serde(rename = "bits1_5")]
    Bits1And5,
    Bits2,
    Bits4,
    Bits8,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizersConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_threshold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vacuum_min_vector_number: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_segment_number: Option<u64>,
    /// Kilobytes of vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_segment_size: Option<u64>,
    /// Kilobytes of vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memmap_threshold: Option<u64>,
    /// Kilobytes of vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub indexing_threshold: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flush_interval_sec: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_optimization_threads: Option<OptimizationThreads>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prevent_unoptimized: Option<bool>,
}

/// A number of threads or `"auto"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number of threads or \"auto\"")]
pub enum OptimizationThreads {
    Number(u64),
    Setting(OptimizationThreadsSetting),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizationThreadsSetting {
    Auto,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WalConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_capacity_mb: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_segments_ahead: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_retain_closed: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShardingMethod {
    Auto,
    Custom,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StrictModeConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_query_limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_timeout: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unindexed_filtering_retrieve: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unindexed_filtering_update: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search_max_hnsw_ef: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search_allow_exact: Option<bool>,
    /// A 32-bit float on the wire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search_max_oversampling: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upsert_max_batchsize: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search_max_batchsize: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_collection_vector_size_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_collection_payload_size_bytes: Option<u64>,
    /// Operations per minute and replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_rate_limit: Option<u32>,
    /// Operations per minute and replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_rate_limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_max_conditions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition_max_size: Option<u64>,
    /// By vector name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub multivector_config: BTreeMap<String, StrictModeMultivector>,
    /// By vector name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sparse_config: BTreeMap<String, StrictModeSparse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_points_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_payload_index_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_resident_memory_percent: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StrictModeMultivector {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_vectors: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StrictModeSparse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u64>,
}

/// A payload index: its type and parameters. In TOML a bare type name is a type without parameters.
///
/// One struct for all types keeps the comparison and the conversions short; deserialising a [`Schema`] refuses a
/// parameter that the type does not have.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayloadIndex {
    pub r#type: IndexType,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_disk: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_hnsw: Option<bool>,
    /// Index every object of this array as an entry of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nested: Option<String>,
    /// keyword, uuid
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_tenant: Option<bool>,
    /// keyword
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<bool>,
    /// integer, float, datetime
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_principal: Option<bool>,
    /// integer
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup: Option<bool>,
    /// integer
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<bool>,
    /// text, and all that follow
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Tokenizer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lowercase: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ascii_folding: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phrase_matching: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_token_len: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_token_len: Option<u64>,
    #[serde(default, deserialize_with = "language_or_table", skip_serializing_if = "Option::is_none")]
    pub stopwords: Option<Stopwords>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stemmer: Option<Stemmer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scoring: Option<Scoring>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IndexType {
    #[default]
    Keyword,
    Integer,
    Float,
    Geo,
    Text,
    Bool,
    Datetime,
    Uuid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tokenizer {
    Prefix,
    Whitespace,
    Word,
    Multilingual,
    Code,
}

/// Words that a text index leaves out. In TOML a bare language name is that language's list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stopwords {
    /// Sorted, as servers report them.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub languages: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub custom: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Stemmer {
    Snowball { language: String },
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Scoring {
    Bm25,
}

impl IndexType {
    /// The REST name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keyword => "keyword",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Geo => "geo",
            Self::Text => "text",
            Self::Bool => "bool",
            Self::Datetime => "datetime",
            Self::Uuid => "uuid",
        }
    }

    /// The parameters that only some types have and this one has.
    fn own_params(self) -> &'static [&'static str] {
        match self {
            Self::Keyword => &["is_tenant", "prefix"],
            Self::Uuid => &["is_tenant"],
            Self::Integer => &["is_principal", "lookup", "range"],
            Self::Float | Self::Datetime => &["is_principal"],
            Self::Text => &[
                "tokenizer",
                "lowercase",
                "ascii_folding",
                "phrase_matching",
                "min_token_len",
                "max_token_len",
                "stopwords",
                "stemmer",
                "scoring",
            ],
            Self::Geo | Self::Bool => &[],
        }
    }
}

impl From<IndexType> for PayloadIndex {
    fn from(r#type: IndexType) -> Self {
        Self { r#type, ..Self::default() }
    }
}

impl PayloadIndex {
    /// The first parameter that an index of this type does not have.
    fn misplaced_param(&self) -> Option<&'static str> {
        let given: [(&'static str, bool); 14] = [
            ("is_tenant", self.is_tenant.is_some()),
            ("prefix", self.prefix.is_some()),
            ("is_principal", self.is_principal.is_some()),
            ("lookup", self.lookup.is_some()),
            ("range", self.range.is_some()),
            ("tokenizer", self.tokenizer.is_some()),
            ("lowercase", self.lowercase.is_some()),
            ("ascii_folding", self.ascii_folding.is_some()),
            ("phrase_matching", self.phrase_matching.is_some()),
            ("min_token_len", self.min_token_len.is_some()),
            ("max_token_len", self.max_token_len.is_some()),
            ("stopwords", self.stopwords.is_some()),
            ("stemmer", self.stemmer.is_some()),
            ("scoring", self.scoring.is_some()),
        ];
        given
            .into_iter()
            .find(|(name, given)| *given && !self.r#type.own_params().contains(name))
            .map(|(name, _)| name)
    }
}

/// A string that stands for a whole table, or the table itself, deserialised in place so that errors keep
/// their position.
struct Short<T>(T);

impl<'de, T: Deserialize<'de> + FromName> Deserialize<'de> for Short<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + FromName> Visitor<'de> for NameOrTable<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<T, E> {
                T::from_name(name.into_deserializer())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(NameOrTable(PhantomData)).map(Self)
    }
}

trait FromName: Sized {
    const EXPECTED: &'static str;
    fn from_name<E: serde::de::Error>(name: StrDeserializer<'_, E>) -> Result<Self, E>;
}

impl FromName for PayloadIndex {
    const EXPECTED: &'static str = "the type of a payload index, or a table with type and parameters";
    fn from_name<E: serde::de::Error>(name: StrDeserializer<'_, E>) -> Result<Self, E> {
        IndexType::deserialize(name).map(Self::from)
    }
}

impl FromName for Stopwords {
    const EXPECTED: &'static str = "a language, or a table with languages and custom";
    fn from_name<E: serde::de::Error>(name: StrDeserializer<'_, E>) -> Result<Self, E> {
        Ok(Self { languages: BTreeSet::from([String::deserialize(name)?]), custom: BTreeSet::new() })
    }
}

fn type_or_table<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, PayloadIndex>, D::Error> {
    let indexes = BTreeMap::<String, Short<PayloadIndex>>::deserialize(deserializer)?;
    indexes
        .into_iter()
        .map(|(key, Short(index))| match index.misplaced_param() {
            None => Ok((key, index)),
            Some(param) => Err(D::Error::custom(format_args!(
                "payload_indexes.{key}: an index of type {} has no parameter `{param}`",
                index.r#type.name()
            ))),
        })
        .collect()
}

fn language_or_table<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Stopwords>, D::Error> {
    Ok(Some(Short::deserialize(deserializer)?.0))
}

/// A map of named vectors, or the parameters of the one unnamed vector.
fn named_or_unnamed<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, VectorParams>, D::Error> {
    struct Vectors;
    impl<'de> Visitor<'de> for Vectors {
        type Value = BTreeMap<String, VectorParams>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table of named vectors, or size and distance of one unnamed vector")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut named = BTreeMap::new();
            let mut unnamed = serde_json::Map::new();
            // Tables that are a parameter of the unnamed vector or a vector of that name; known at the end.
            let mut either = serde_json::Map::new();
            while let Some(key) = map.next_key::<String>()? {
                if matches!(key.as_str(), "hnsw_config" | "quantization_config" | "multivector_config") {
                    either.insert(key, map.next_value()?);
                    continue;
                }
                match map.next_value::<TableOrScalar>()? {
                    TableOrScalar::Table(params) => named.insert(key, *params).map(drop),
                    TableOrScalar::Scalar(value) => unnamed.insert(key, value).map(drop),
                };
            }
            if unnamed.is_empty() {
                for (name, params) in either {
                    let params = VectorParams::deserialize(params).map_err(A::Error::custom)?;
                    named.insert(name, params);
                }
                return Ok(named);
            }
            if let Some(name) = named.keys().next() {
                return Err(A::Error::custom(format_args!(
                    "vectors has parameters of one unnamed vector beside the named vector `{name}`"
                )));
            }
            unnamed.append(&mut either);
            let params =
                VectorParams::deserialize(serde_json::Value::Object(unnamed)).map_err(A::Error::custom)?;
            Ok(BTreeMap::from([(UNNAMED.to_string(), params)]))
        }
    }
    deserializer.deserialize_map(Vectors)
}

enum TableOrScalar {
    Table(Box<VectorParams>),
    Scalar(serde_json::Value),
}

impl<'de> Deserialize<'de> for TableOrScalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = TableOrScalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the table of a named vector")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TableOrScalar, A::Error> {
                let params = VectorParams::deserialize(MapAccessDeserializer::new(map))?;
                Ok(TableOrScalar::Table(Box::new(params)))
            }

            fn visit_str<E>(self, value: &str) -> Result<TableOrScalar, E> {
                Ok(TableOrScalar::Scalar(value.into()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<TableOrScalar, E> {
                Ok(TableOrScalar::Scalar(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<TableOrScalar, E> {
                Ok(TableOrScalar::Scalar(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<TableOrScalar, E> {
                Ok(TableOrScalar::Scalar(value.into()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(toml: &str) -> Schema {
        toml::from_str(toml).unwrap()
    }

    fn refusal(toml: &str) -> String {
        toml::from_str::<Schema>(toml).unwrap_err().to_string()
    }

    #[test]
    fn reads_named_vectors_and_both_forms_of_payload_indexes() {
        let schema = schema(
            r#"
            on_disk_payload = true
            quantization_config = { scalar = { type = "int8", quantile = 0.99 } }
            optimizers_config = { max_optimization_threads = "auto" }
            metadata = { owner = "bot", nested = { a = [1, 2] } }
            [vectors.content]
            size = 384
            distance = "Cosine"
            hnsw_config = { m = 32 }
            [sparse_vectors.words]
            modifier = "idf"
            [payload_indexes]
            user_id = "keyword"
            text = { type = "text", stopwords = "english", stemmer = { type = "snowball", language = "english" } }
            "#,
        );
        assert_eq!(schema.vectors["content"].hnsw_config.as_ref().unwrap().m, Some(32));
        assert_eq!(schema.payload_indexes["user_id"], PayloadIndex::from(IndexType::Keyword));
        let text = &schema.payload_indexes["text"];
        assert_eq!(text.stopwords.as_ref().unwrap().languages.first().unwrap(), "english");
        assert_eq!(text.stemmer, Some(Stemmer::Snowball { language: "english".into() }));
        assert_eq!(schema.sparse_vectors["words"].modifier, Some(Modifier::Idf));
    }

    #[test]
    fn reads_the_unnamed_vector_in_either_order_of_keys() {
        for toml in [
            "vectors = { size = 4, distance = 'Dot', hnsw_config = { m = 8 }, quantization_config = 'Disabled' }",
            "vectors = { hnsw_config = { m = 8 }, quantization_config = 'Disabled', distance = 'Dot', size = 4 }",
        ] {
            let params = &schema(toml).vectors[UNNAMED];
            assert_eq!(params.size, Some(4));
            assert_eq!(params.hnsw_config.as_ref().unwrap().m, Some(8));
            assert_eq!(params.quantization_config, Some(QuantizationConfig::Disabled));
        }
    }

    #[test]
    fn vectors_may_be_named_like_parameters() {
        let schema = schema("vectors = { size = { size = 4 }, hnsw_config = { size = 8 } }");
        assert_eq!(schema.vectors["size"].size, Some(4));
        assert_eq!(schema.vectors["hnsw_config"].size, Some(8));
    }

    #[test]
    fn refuses_what_it_does_not_know_by_name() {
        for (toml, named) in [
            ("shards = 1", "`shards`"),
            ("[vectors.content]\nsze = 1", "`sze`"),
            ("[vectors.content.hnsw_config]\nM = 1", "`M`"),
            ("vectors = { size = 1, distanc = 'Dot' }", "`distanc`"),
            ("vectors = { size = 1, content = { size = 1 } }", "`content`"),
            ("[vectors.content]\ndistance = 'cosine'", "`cosine`"),
            ("[payload_indexes]\na = 'keywrd'", "`keywrd`"),
            ("[payload_indexes]\na = { type = 'keyword', tenant = true }", "`tenant`"),
            ("[payload_indexes]\na = { type = 'keyword', lookup = true }", "`lookup`"),
            ("[payload_indexes]\na = { is_tenant = true }", "`type`"),
            ("quantization_config = { scalr = {} }", "`scalr`"),
            ("quantization_config = { binary = { ram = true } }", "`ram`"),
            ("optimizers_config = { max_optimization_threads = 'all' }", "\"auto\""),
        ] {
            assert!(refusal(toml).contains(named), "{toml}: {}", refusal(toml));
        }
    }

    #[test]
    fn points_at_the_line_of_an_unknown_key() {
        let message =
            refusal("on_disk_payload = true\n[vectors.content]\nsize = 1\nhnsw_config = { mm = 1 }\n");
        assert!(message.contains("line 4"), "{message}");
        let message = refusal("on_disk_payload = true\n[payload_indexes]\na = 'float'\nb = 'flot'\n");
        assert!(message.contains("line 4"), "{message}");
    }

    #[test]
    fn survives_serialising() {
        let schema = schema(
            r#"
            vectors = { size = 4, distance = "Dot" }
            quantization_config = { binary = {} }
            [payload_indexes]
            n = { type = "integer", range = false }
            t = { type = "text", stopwords = { custom = ["x"] } }
            "#,
        );
        let json = serde_json::to_value(&schema).unwrap();
        assert_eq!(serde_json::from_value::<Schema>(json).unwrap(), schema);
    }
}
