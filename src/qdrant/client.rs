//! Connecting and reading.

use super::claim::CLAIM_PREFIX;
use super::convert;
use super::fault::{Fault, Kind, classify, kind_of_answer};
use crate::collection::{COMPARED_KEY, FENCE_KEY, Fence, MINIMUM, Observed, ServerVersion, Stamp, Status};
use crate::config::QdrantSettings;
use crate::error::{Error, ExitCode, Result};
use crate::secret::Secret;
use crate::wait::Class;
use prost::bytes::{Buf as _, BufMut as _, Bytes};
use qdrant_client::qdrant as pb;
use qdrant_client::qdrant::collections_client::CollectionsClient;
use qdrant_client::qdrant::points_client::PointsClient;
use qdrant_client::qdrant::qdrant_client::QdrantClient;
use qdrant_client::qdrant::snapshots_client::SnapshotsClient;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status as GrpcStatus};

/// Of the connection, and of each call that only reads.
const TIMEOUT: Duration = Duration::from_secs(5);

/// For a server's first bytes after a greeting that it may not answer.
const GREETING: Duration = Duration::from_secs(1);

/// Bytes of the largest frame to receive: a page of points comes in a few (docs/performance.md).
const FRAME: u32 = 256 << 10;

/// What Qdrant 1.17.0 says of a collection that exists and has no shard yet.
const NO_SHARD_YET: &str = "0 of 0 read operations failed";

/// Between two looks at such a collection.
const POLL: Duration = Duration::from_millis(50);

/// A connection. Clones share it, and calls run side by side on it.
///
/// The generated clients stand on one own channel: the crate's own client opens a connection per concurrent first call,
/// sends calls again by itself, and quotes a malformed API key in its error.
#[derive(Clone)]
pub struct Client {
    channel: InterceptedService<Channel, ApiKey>,
    settings: Arc<QdrantSettings>,
}

#[derive(Clone)]
pub(super) struct ApiKey(Option<MetadataValue<Ascii>>);

impl Interceptor for ApiKey {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, GrpcStatus> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("api-key", key.clone());
        }
        Ok(request)
    }
}

/// What is on a server, as far as it was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    pub server: ServerVersion,
    /// Real names.
    pub names: BTreeSet<String>,
    /// Alias → real name.
    pub aliases: BTreeMap<String, String>,
    /// By real name: those asked for that exist.
    pub collections: BTreeMap<String, Observed>,
}

/// One attempt for the wait: connects, and proves what [`Client::probe`] proves.
pub async fn attempt(settings: &QdrantSettings) -> std::result::Result<Client, Class> {
    let attempt = async {
        let client = Client::connect(settings).await?;
        client.probe().await?;
        Ok(client)
    };
    attempt.await.map_err(|fault| classify(&fault, settings))
}

impl Client {
    /// Connects: TCP, and TLS if it is asked for. Proves neither the API key nor that it is Qdrant that answers;
    /// [`probe`](Self::probe) does.
    pub async fn connect(settings: &QdrantSettings) -> std::result::Result<Self, Fault> {
        let key = settings.api_key.as_ref().map(api_key).transpose()?;
        let mut endpoint = Endpoint::from_shared(settings.to_string())
            .map_err(|_| Fault::new(Kind::Settings, "this is not a URL"))?
            .max_frame_size(FRAME)
            // A server that vanishes during a long call is noticed within a minute.
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        if settings.tls {
            let tls = ClientTlsConfig::new().with_native_roots();
            endpoint = endpoint.tls_config(tls).map_err(|e| Fault::of_connection(&e))?;
        }
        // The endpoint's own timeout would cover TCP and not the TLS handshake.
        let connected = tokio::time::timeout(TIMEOUT, endpoint.connect()).await;
        let channel = connected
            .map_err(|_| Fault::new(Kind::TimedOut, String::new()))?
            .map_err(|e| Fault::of_connection(&e))?;
        Ok(Self {
            channel: InterceptedService::new(channel, ApiKey(key)),
            settings: Arc::new(settings.clone()),
        })
    }

    /// Proves that the server answers, that it is recent enough, and that it accepts the API key: the health check
    /// alone needs none.
    pub async fn probe(&self) -> std::result::Result<ServerVersion, Fault> {
        let (server, names) = tokio::join!(self.version(), self.names());
        match server.and_then(|server| names.map(|_| server)) {
            Err(fault) if matches!(fault.kind, Kind::Lost | Kind::NotGrpc) => Err(self.explain(fault).await),
            result => result,
        }
    }

    /// A TLS server and an HTTP/1 server answer HTTP/2 with what reads as a broken frame, and hang up; a server that is
    /// about to start or to stop hangs up too. A greeting on a connection of its own tells them apart.
    async fn explain(&self, fault: Fault) -> Fault {
        let greeting = async {
            let mut stream = TcpStream::connect((self.settings.host.as_str(), self.settings.port)).await?;
            // First the five bytes that TLS reads: what it left unread would reset the connection before its answer
            // arrives. HTTP/1 needs a whole head.
            for part in ["PRI *", " HTTP/2.0\r\n\r\n"] {
                stream.write_all(part.as_bytes()).await?;
                let mut first = [0; 2];
                if let Ok(read) = tokio::time::timeout(GREETING, stream.read_exact(&mut first)).await {
                    read?;
                    return std::io::Result::Ok(kind_of_answer(first));
                }
            }
            Ok(None)
        };
        match greeting.await {
            Ok(Some(kind)) => Fault { kind, ..fault },
            _ => fault,
        }
    }

    /// Version, names, aliases and the collections asked for, by real name or alias, in one round trip.
    pub async fn survey(&self, wanted: &[String]) -> Result<Survey> {
        let mut inspections = JoinSet::new();
        for name in wanted.iter().collect::<BTreeSet<_>>() {
            let (client, name) = (self.clone(), name.clone());
            inspections.spawn(async move {
                let info = client.info(&name).await;
                (name, info)
            });
        }
        let (server, names, aliases) = tokio::join!(self.version(), self.names(), self.aliases());
        let at = |fault| self.error(fault);
        let (server, names, aliases) = (server.map_err(at)?, names.map_err(at)?, aliases.map_err(at)?);
        let mut collections = BTreeMap::new();
        while let Some(joined) = inspections.join_next().await {
            let (name, info) = joined.map_err(|e| Error::new(ExitCode::Bug, e.to_string()))?;
            let real = aliases.get(&name).unwrap_or(&name);
            match info {
                Ok(info) => {
                    let observed = self.counted(observed(real, info, &aliases)?).await?;
                    collections.insert(real.clone(), observed);
                }
                Err(fault) if fault.kind == Kind::NotFound => {}
                Err(fault) => return Err(self.error(fault).at(format_args!("collection `{name}`"))),
            }
        }
        Ok(Survey { server, names, aliases, collections })
    }

    /// One collection by its real name; `None` if there is none.
    pub async fn inspect(&self, name: &str) -> Result<Option<Observed>> {
        let at = |fault| self.error(fault).at(format_args!("collection `{name}`"));
        let (info, aliases) = tokio::join!(self.info(name), self.aliases());
        match info {
            Ok(info) => self.counted(observed(name, info, &aliases.map_err(at)?)?).await.map(Some),
            Err(fault) if fault.kind == Kind::NotFound => Ok(None),
            Err(fault) => Err(at(fault)),
        }
    }

    /// What an approximate count calls empty is counted: nothing may be decided for an empty collection that has points.
    async fn counted(&self, observed: Observed) -> Result<Observed> {
        match observed.points {
            0 => Ok(Observed { points: self.count_points(&observed.name).await?, ..observed }),
            _ => Ok(observed),
        }
    }

    pub(super) async fn version(&self) -> std::result::Result<ServerVersion, Fault> {
        let reply = QdrantClient::new(self.channel.clone())
            .health_check(within(TIMEOUT, pb::HealthCheckRequest {}))
            .await?
            .into_inner();
        accepted(&reply.version)
    }

    async fn names(&self) -> std::result::Result<BTreeSet<String>, Fault> {
        let reply =
            self.collections().list(within(TIMEOUT, pb::ListCollectionsRequest {})).await?.into_inner();
        Ok(reply.collections.into_iter().map(|c| c.name).collect())
    }

    /// Those of applications.
    async fn aliases(&self) -> std::result::Result<BTreeMap<String, String>, Fault> {
        let mut aliases = self.all_aliases().await?;
        aliases.retain(|alias, _| !alias.starts_with(CLAIM_PREFIX));
        Ok(aliases)
    }

    pub(super) async fn all_aliases(&self) -> std::result::Result<BTreeMap<String, String>, Fault> {
        let reply =
            self.collections().list_aliases(within(TIMEOUT, pb::ListAliasesRequest {})).await?.into_inner();
        Ok(reply.aliases.into_iter().map(|a| (a.alias_name, a.collection_name)).collect())
    }

    /// A collection that somebody is just creating is listed before its shard answers: that moment is waited out.
    pub(super) async fn info(&self, name: &str) -> std::result::Result<pb::CollectionInfo, Fault> {
        let began = Instant::now();
        loop {
            match self.info_now(name).await {
                Err(fault) if fault.message.contains(NO_SHARD_YET) && began.elapsed() < TIMEOUT => {
                    tokio::time::sleep(POLL).await;
                }
                result => return result,
            }
        }
    }

    async fn info_now(&self, name: &str) -> std::result::Result<pb::CollectionInfo, Fault> {
        let request = within(TIMEOUT, pb::GetCollectionInfoRequest { collection_name: name.to_string() });
        let reply = self.collections().get(request).await?.into_inner();
        reply.result.ok_or_else(|| Fault::new(Kind::NotQdrant, "an empty answer to collection info"))
    }

    pub(super) fn error(&self, fault: Fault) -> Error {
        fault.into_error(&self.settings)
    }

    pub(super) fn collections(&self) -> CollectionsClient<InterceptedService<Channel, ApiKey>> {
        CollectionsClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    pub(super) fn snapshots(&self) -> SnapshotsClient<InterceptedService<Channel, ApiKey>> {
        SnapshotsClient::new(self.channel.clone())
    }

    pub(super) fn settings(&self) -> &QdrantSettings {
        &self.settings
    }

    pub(super) fn points(&self) -> PointsClient<InterceptedService<Channel, ApiKey>> {
        PointsClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// A call whose request and answer are messages as they are on the wire.
    pub(super) async fn call_encoded(
        &self,
        method: &'static str,
        request: Request<Bytes>,
    ) -> std::result::Result<Bytes, Fault> {
        let mut client = tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        client.ready().await.map_err(|e| Fault::of_connection(&e))?;
        let answer = client.unary(request, PathAndQuery::from_static(method), Encoded).await?;
        Ok(answer.into_inner())
    }
}

/// Leaves messages as they are.
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = GrpcStatus;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> std::result::Result<(), GrpcStatus> {
        to.reserve(message.len());
        to.put(message);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = Bytes;
    type Error = GrpcStatus;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> std::result::Result<Option<Bytes>, GrpcStatus> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// The version that a health check reports, if it is one to work with.
fn accepted(reported: &str) -> std::result::Result<ServerVersion, Fault> {
    let version: ServerVersion =
        reported.parse().map_err(|e| Fault::new(Kind::NotQdrant, format!("the server's version: {e}")))?;
    if version < MINIMUM { Err(Fault::too_old(version)) } else { Ok(version) }
}

/// A request with a deadline, which the server sees too.
pub(super) fn within<T>(timeout: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// The header's value. An error does not quote it.
fn api_key(key: &Secret) -> std::result::Result<MetadataValue<Ascii>, Fault> {
    let mut value: MetadataValue<Ascii> = key.expose().parse().map_err(|_| {
        Fault::new(Kind::Settings, "the API key has a character that an HTTP header cannot hold")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn observed(real: &str, info: pb::CollectionInfo, aliases: &BTreeMap<String, String>) -> Result<Observed> {
    let status = match info.status() {
        pb::CollectionStatus::Green => Status::Green,
        pb::CollectionStatus::Yellow => Status::Yellow,
        pb::CollectionStatus::Red => Status::Red,
        pb::CollectionStatus::Grey => Status::Grey,
        pb::CollectionStatus::UnknownCollectionStatus => Status::Unknown,
    };
    let mut schema = convert::schema(info.config.unwrap_or_default(), info.payload_schema);
    let stamp = Stamp::take(&mut schema).map_err(|e| {
        Error::new(
            ExitCode::Refused,
            format!("collection `{real}`: its metadata key `tandem` is no stamp: {e}"),
        )
        .expected("the stamp that tandem wrote")
        .remedy("remove the key, then run `tandem adopt`")
    })?;
    let fence = Fence::take(&mut schema).map_err(|e| {
        Error::new(
            ExitCode::Refused,
            format!("collection `{real}`: its metadata key `{FENCE_KEY}` is no fence: {e}"),
        )
        .expected("what tandem wrote")
        .remedy("set the strict mode that the application needs, then remove the key")
    })?;
    schema.metadata.remove(COMPARED_KEY);
    if let Some(fence) = &fence {
        schema.strict_mode_config.clone_from(&fence.strict_mode_config);
    }
    Ok(Observed {
        name: real.to_string(),
        schema,
        stamp,
        fence,
        aliases: aliases.iter().filter(|(_, to)| *to == real).map(|(alias, _)| alias.clone()).collect(),
        points: info.points_count.unwrap_or_default(),
        status,
        optimizer_error: info.optimizer_status.filter(|s| !s.ok).map(|s| s.error),
        queued_updates: info.update_queue.map(|q| q.length),
        deferred_points: info.update_queue.and_then(|q| q.deferred_points),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_servers_from_1_15_4_on() {
        for reported in ["1.15.4", "1.16.0", "1.17.0-dev", "2.0.0"] {
            assert!(accepted(reported).is_ok(), "{reported}");
        }
        for reported in ["1.15.3", "1.9.9", "0.11.0"] {
            let fault = accepted(reported).unwrap_err();
            assert!(matches!(fault.kind, Kind::TooOld { .. }), "{reported}");
            assert!(fault.message.contains(reported) && fault.message.contains("1.15.4"), "{fault}");
        }
        assert_eq!(accepted("unknown").unwrap_err().kind, Kind::NotQdrant);
    }
}
