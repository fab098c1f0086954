//! The few calls that Qdrant has over REST only: downloading a snapshot, restoring one into a new collection, and payloads
//! with numbers that gRPC has no room for.
//! Over HTTP/1.1, a connection a call, in a stream: a snapshot never lies in memory.

use super::client::Client;
use super::fault::{Fault, Kind};
use super::snapshot::Snapshot;
use crate::config::QdrantSettings;
use crate::error::{Error, ExitCode, Result};
use crate::ledger::hex;
use crate::progress::{Meter, Unit};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use std::convert::Infallible;
use std::io::{self, Read};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Of connecting, TLS included.
const CONNECT: Duration = Duration::from_secs(5);

/// Without a byte in either direction while a snapshot travels.
const STALL: Duration = Duration::from_secs(120);

/// Until a restore is given up: the server unpacks, loads and flushes behind the last byte.
const RESTORE: Duration = Duration::from_secs(6 * 3600);

/// Of an answer that is read whole.
const ANSWER: usize = 1 << 20;

/// Of one with the payloads of a page of points.
const POINTS: usize = 64 << 20;

/// Bytes read from a file at a time.
const CHUNK: usize = 256 << 10;

/// Bytes that a connection reads at once, so that a long snapshot takes no more memory than a short one.
const BUFFER: usize = 64 << 10;

/// Parts under way between two connections.
const AHEAD: usize = 4;

/// Occurs in no snapshot's first or last line by chance, and a tar archive has none.
const BOUNDARY: &str = "tandem-7f3c1f6f9a2d4e5b8c0d";

/// A snapshot on its way into a collection that does not exist yet. Its server does nothing until the last bytes are there, and
/// forgets the others if the connection ends.
#[derive(Debug)]
pub(super) struct OnItsWay {
    size: u64,
    arrived: oneshot::Receiver<()>,
    permit: oneshot::Sender<()>,
    /// It ends with this value.
    restore: JoinSet<Result<()>>,
}

impl OnItsWay {
    /// Waits until only the last bytes are missing.
    pub async fn arrived(mut self) -> Result<Self> {
        match (&mut self.arrived).await {
            Ok(()) => Ok(self),
            Err(_) => Err(restored(self.restore).await.err().unwrap_or_else(unpermitted)),
        }
    }

    /// Sends the last bytes, and waits until the collection is there.
    pub async fn complete(self, into: &str, meter: &Meter) -> Result<()> {
        meter.begin("restore", Some(into), Unit::Bytes, self.size, Some(self.size));
        // One that has ended has an error.
        let _ = self.permit.send(());
        restored(self.restore).await
    }
}

async fn restored(mut restore: JoinSet<Result<()>>) -> Result<()> {
    restore.join_next().await.and_then(std::result::Result::ok).unwrap_or_else(|| Err(unpermitted()))
}

fn unpermitted() -> Error {
    Error::new(ExitCode::Bug, "a snapshot on its way ended without its permit")
}

impl Client {
    /// Begins to restore a snapshot of `collection` as `into`, which may still exist.
    pub(super) fn begin_to_restore(&self, collection: &str, snapshot: &Snapshot, into: &str) -> OnItsWay {
        let (arrive, arrived) = oneshot::channel();
        let (permit, permitted) = oneshot::channel();
        let (client, snapshot) = (self.clone(), snapshot.clone());
        let (collection, into, size) = (collection.to_owned(), into.to_owned(), snapshot.size);
        let mut restore = JoinSet::new();
        restore.spawn(async move {
            let permit = async {
                let _ = arrive.send(());
                permitted.await.map_err(|_| unpermitted())
            };
            client.restore_permitted(&collection, &snapshot, &into, &Meter::default(), permit).await
        });
        OnItsWay { size, arrived, permit, restore }
    }

    /// Downloads a snapshot of a collection into `write`, which gets it part by part, and compares it with its checksum.
    /// Returns the checksum of what arrived.
    ///
    /// # Errors
    /// The call, `write`, and a checksum that differs; what has been written then is worthless.
    pub async fn download_snapshot(
        &self,
        collection: &str,
        snapshot: &Snapshot,
        meter: &Meter,
        mut write: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<String> {
        let at = |fault| self.rest_error(fault).at(format_args!("snapshot {}", snapshot.name));
        let mut body = self.open_snapshot(collection, snapshot).await.map_err(at)?;
        meter.begin("download", Some(collection), Unit::Bytes, 0, Some(snapshot.size));
        let mut hash = Sha256::new();
        while let Some(part) = next_part(&mut body).await.map_err(at)? {
            hash.update(&part);
            meter.add(part.len() as u64);
            write(&part).map_err(|e| {
                Error::new(ExitCode::StepFailed, format!("snapshot {} cannot be written: {e}", snapshot.name))
                    .remedy("make room, or name another file")
            })?;
        }
        let arrived = hex(&hash.finalize());
        intact(snapshot, &arrived)?;
        Ok(arrived)
    }

    /// Restores a snapshot of `collection`, which this server keeps, as the collection `into`: download and upload at
    /// once, because the server's own path to it cannot be known. The server compares the checksum.
    ///
    /// `into` must not exist: recovering over a collection destroys it when it fails. Who calls has made sure.
    pub async fn restore_snapshot(
        &self,
        collection: &str,
        snapshot: &Snapshot,
        into: &str,
        meter: &Meter,
    ) -> Result<()> {
        let checksum = snapshot.checksum.as_deref();
        self.pass_on(collection, snapshot, into, checksum, meter, std::future::ready(Ok(()))).await
    }

    /// The same for who reads back every point, with a last look in `permit`, behind which the last bytes are sent: until they are
    /// there, the server does nothing. Nor does it compare the checksum then, while the collection is absent
    /// (docs/decisions/0032-the-way-back-without-a-checksum.md).
    pub(super) async fn restore_permitted(
        &self,
        collection: &str,
        snapshot: &Snapshot,
        into: &str,
        meter: &Meter,
        permit: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        self.pass_on(collection, snapshot, into, None, meter, permit).await
    }

    async fn pass_on(
        &self,
        collection: &str,
        snapshot: &Snapshot,
        into: &str,
        checksum: Option<&str>,
        meter: &Meter,
        permit: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        self.only_node().await?;
        let at = |fault| self.rest_error(fault).at(format_args!("snapshot {} into {into}", snapshot.name));
        let mut body = self.open_snapshot(collection, snapshot).await.map_err(at)?;
        meter.begin("restore", Some(into), Unit::Bytes, 0, Some(snapshot.size));
        let (parts, upload) = Upload::new(snapshot.size);
        let mut denied = None;
        let pump = async {
            let mut last = None;
            while let Some(part) = next_part(&mut body).await? {
                meter.add(part.len() as u64);
                if let Some(part) = last.replace(part)
                    && !send_part(&parts, part).await?
                {
                    return Ok(());
                }
            }
            if let Err(error) = permit.await {
                denied = Some(error);
                return Err(Fault::new(Kind::Other, "the upload was not completed"));
            }
            if let Some(last) = last {
                send_part(&parts, last).await?;
            }
            drop(parts);
            Ok(())
        };
        let uploaded = self.upload(into, checksum, upload, pump).await;
        match denied {
            Some(error) => Err(error),
            None => uploaded.map_err(at),
        }
    }

    /// The same from a file of `size` bytes.
    pub async fn upload_snapshot(
        &self,
        mut file: impl Read,
        size: u64,
        checksum: Option<&str>,
        into: &str,
        meter: &Meter,
    ) -> Result<()> {
        self.only_node().await?;
        meter.begin("restore", Some(into), Unit::Bytes, 0, Some(size));
        let (parts, upload) = Upload::new(size);
        let pump = async {
            let mut buffer = vec![0; CHUNK];
            loop {
                let read = file.read(&mut buffer).map_err(|e| {
                    Fault::new(Kind::Other, format!("the snapshot's file cannot be read: {e}"))
                })?;
                if read == 0 {
                    break;
                }
                meter.add(read as u64);
                if !send_part(&parts, Bytes::copy_from_slice(&buffer[..read])).await? {
                    break;
                }
            }
            drop(parts);
            Ok(())
        };
        let uploaded = self.upload(into, checksum, upload, pump).await;
        uploaded.map_err(|fault| self.rest_error(fault).at(format_args!("a snapshot into {into}")))
    }

    /// How many nodes this server knows, itself included; 0 without distributed mode.
    pub(super) async fn nodes(&self) -> Result<usize> {
        let ask = async {
            let answer =
                tokio::time::timeout(CONNECT, self.call(Method::GET, "/cluster", None, Upload::empty()));
            let answer = answer.await.map_err(|_| Fault::new(Kind::TimedOut, ""))??;
            whole(accepted(answer).await?, ANSWER).await
        };
        let text = ask.await.map_err(|fault| self.rest_error(fault).at("asking for the other nodes"))?;
        let peers = serde_json::from_str::<serde_json::Value>(&text)
            .ok()
            .and_then(|json| json["result"]["peers"].as_object().map(serde_json::Map::len));
        Ok(peers.unwrap_or_default())
    }

    /// One call with a JSON body, and the result of its answer. Sent again when the server asks for that.
    pub(super) async fn post(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> std::result::Result<serde_json::Value, Fault> {
        let json = || Some("application/json".to_owned());
        let ask = async || {
            let call = self.call(Method::POST, path, json(), Upload::text(body.to_string()));
            let answer = tokio::time::timeout(STALL, call).await;
            let answer = accepted(answer.map_err(|_| Fault::new(Kind::TimedOut, ""))??).await?;
            let mut answer: serde_json::Value = serde_json::from_str(&whole(answer, POINTS).await?)
                .map_err(|_| Fault::new(Kind::NotQdrant, "the answer is not JSON"))?;
            Ok(answer["result"].take())
        };
        self.patiently(ask).await
    }

    async fn open_snapshot(
        &self,
        collection: &str,
        snapshot: &Snapshot,
    ) -> std::result::Result<Incoming, Fault> {
        let path = format!("/collections/{}/snapshots/{}", segment(collection), segment(&snapshot.name));
        let answer = self.call(Method::GET, &path, None, Upload::empty()).await?;
        Ok(accepted(answer).await?.into_body())
    }

    async fn upload(
        &self,
        into: &str,
        checksum: Option<&str>,
        body: Upload,
        pump: impl Future<Output = std::result::Result<(), Fault>>,
    ) -> std::result::Result<(), Fault> {
        let mut path = format!("/collections/{}/snapshots/upload?wait=true&priority=snapshot", segment(into));
        if let Some(checksum) = checksum {
            path.push_str("&checksum=");
            path.push_str(&segment(checksum));
        }
        let form = format!("multipart/form-data; boundary={BOUNDARY}");
        let answer = async {
            let call = self.call(Method::POST, &path, Some(form), body);
            let answer = tokio::time::timeout(RESTORE, call).await;
            accepted(answer.map_err(|_| Fault::new(Kind::TimedOut, ""))??).await
        };
        let (mut answer, mut pump) = (pin!(answer), pin!(pump));
        // A server that refuses answers before it has read everything.
        let answer = tokio::select! {
            answer = &mut answer => answer?,
            pumped = &mut pump => {
                pumped?;
                answer.await?
            }
        };
        let text = whole(answer, ANSWER).await?;
        match serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|json| json["result"].as_bool())
        {
            Some(true) => Ok(()),
            _ => Err(Fault::new(Kind::NotQdrant, "the answer to a restore is not Qdrant's")),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: Option<String>,
        body: Upload,
    ) -> std::result::Result<Response<Incoming>, Fault> {
        let settings = self.settings();
        let authority = match settings.host.contains(':') {
            true => format!("[{}]:{}", settings.host, settings.rest_port),
            false => format!("{}:{}", settings.host, settings.rest_port),
        };
        let mut request = Request::builder().method(method).uri(path).header(HOST, authority);
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        if let Some(size) = body.size_hint().exact().filter(|size| *size > 0) {
            request = request.header(CONTENT_LENGTH, size);
        }
        if let Some(key) = &settings.api_key {
            let mut key = HeaderValue::from_str(key.expose()).map_err(|_| {
                Fault::new(Kind::Settings, "the API key has a character that an HTTP header cannot hold")
            })?;
            key.set_sensitive(true);
            request = request.header("api-key", key);
        }
        let request = request.body(body).map_err(|e| Fault::new(Kind::Settings, e.to_string()))?;
        let mut sender = tokio::time::timeout(CONNECT, connect(settings))
            .await
            .map_err(|_| Fault::new(Kind::TimedOut, ""))??;
        sender.send_request(request).await.map_err(|e| match Fault::of_connection(&e) {
            // Not HTTP/1, as on the gRPC port.
            fault if fault.kind == Kind::Other => Fault { kind: Kind::NotQdrant, ..fault },
            fault => fault,
        })
    }

    /// Of the REST port, which may be another than the settings say.
    pub(super) fn rest_error(&self, fault: Fault) -> Error {
        let settings = self.settings();
        let at_rest = QdrantSettings { port: settings.rest_port, ..settings.clone() };
        let unreachable = matches!(
            fault.kind,
            Kind::Refused | Kind::Dns | Kind::Unreachable | Kind::TimedOut | Kind::NotQdrant
        );
        let error = fault.into_error(&at_rest);
        match unreachable {
            true => error.remedy("is this the REST port of the same server? QDRANT_PORT names another"),
            false => error,
        }
    }
}

type Sender = hyper::client::conn::http1::SendRequest<Upload>;

async fn connect(settings: &QdrantSettings) -> std::result::Result<Sender, Fault> {
    let stream = TcpStream::connect((settings.host.as_str(), settings.rest_port))
        .await
        .map_err(|e| Fault::of_connection(&e))?;
    if !settings.tls {
        return handshake(stream).await;
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config =
        ClientConfig::builder_with_provider(Arc::new(tokio_rustls::rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| Fault::new(Kind::Tls, e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
    let name =
        ServerName::try_from(settings.host.clone()).map_err(|e| Fault::new(Kind::Settings, e.to_string()))?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|e| Fault::of_connection(&e))?;
    handshake(stream).await
}

async fn handshake<S>(stream: S) -> std::result::Result<Sender, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(BUFFER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| Fault::of_connection(&e))?;
    // Its errors come back from the call.
    tokio::spawn(connection);
    Ok(sender)
}

/// A request's body: a multipart form whose one file comes from elsewhere, a text, or nothing.
struct Upload {
    head: Option<Bytes>,
    /// Closed behind the file's last byte.
    file: Option<mpsc::Receiver<Bytes>>,
    tail: Option<Bytes>,
    left: u64,
}

impl Upload {
    fn new(size: u64) -> (mpsc::Sender<Bytes>, Self) {
        let (parts, file) = mpsc::channel(AHEAD);
        let head = Bytes::from(format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"snapshot\"; filename=\"tandem.snapshot\"\r\n\
             content-type: application/octet-stream\r\n\r\n"
        ));
        let tail = Bytes::from(format!("\r\n--{BOUNDARY}--\r\n"));
        let left = size + head.len() as u64 + tail.len() as u64;
        (parts, Self { head: Some(head), file: Some(file), tail: Some(tail), left })
    }

    fn empty() -> Self {
        Self { head: None, file: None, tail: None, left: 0 }
    }

    fn text(text: String) -> Self {
        let left = text.len() as u64;
        Self { head: Some(text.into()), file: None, tail: None, left }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        let part = match self.head.take() {
            Some(head) => Some(head),
            None => match self.file.as_mut().map(|file| file.poll_recv(context)) {
                Some(Poll::Pending) => return Poll::Pending,
                Some(Poll::Ready(Some(part))) => Some(part),
                Some(Poll::Ready(None)) | None => {
                    self.file = None;
                    self.tail.take()
                }
            },
        };
        if let Some(part) = &part {
            self.left = self.left.saturating_sub(part.len() as u64);
        }
        Poll::Ready(part.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.head.is_none() && self.file.is_none() && self.tail.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Hands a part to the request; false if the server reads no more, for which the answer has the reason.
async fn send_part(parts: &mpsc::Sender<Bytes>, part: Bytes) -> std::result::Result<bool, Fault> {
    match tokio::time::timeout(STALL, parts.send(part)).await {
        Ok(sent) => Ok(sent.is_ok()),
        Err(_) => Err(Fault::new(Kind::TimedOut, "")),
    }
}

/// The next bytes of an answer.
async fn next_part(body: &mut Incoming) -> std::result::Result<Option<Bytes>, Fault> {
    loop {
        let frame = tokio::time::timeout(STALL, body.frame()).await;
        match frame.map_err(|_| Fault::new(Kind::TimedOut, ""))? {
            None => return Ok(None),
            Some(Err(error)) => return Err(Fault::of_connection(&error)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// The answer, if it is a good one; otherwise the server's own words for what is wrong.
async fn accepted(answer: Response<Incoming>) -> std::result::Result<Response<Incoming>, Fault> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let text = whole(answer, ANSWER).await.unwrap_or_default();
    let said = serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|json| json["status"]["error"].as_str().map(str::to_owned))
        .unwrap_or_else(|| format!("HTTP status {status}"));
    Err(Fault::new(kind_of(status, retry_after.map(Duration::from_secs)), said))
}

async fn whole(answer: Response<Incoming>, most: usize) -> std::result::Result<String, Fault> {
    let body = Limited::new(answer.into_body(), most).collect();
    let body = tokio::time::timeout(STALL, body).await.map_err(|_| Fault::new(Kind::TimedOut, ""))?;
    let body = body.map_err(|e| Fault::of_connection(e.as_ref()))?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

fn kind_of(status: StatusCode, retry_after: Option<Duration>) -> Kind {
    match status {
        StatusCode::UNAUTHORIZED => Kind::Unauthenticated,
        StatusCode::FORBIDDEN => Kind::PermissionDenied,
        StatusCode::NOT_FOUND => Kind::NotFound,
        StatusCode::CONFLICT => Kind::AlreadyExists,
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Kind::Invalid,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Kind::TimedOut,
        StatusCode::TOO_MANY_REQUESTS => Kind::Throttled { retry_after },
        StatusCode::SERVICE_UNAVAILABLE => Kind::Unavailable,
        _ => Kind::Other,
    }
}

/// Compares what arrived with the checksum that the server lists, if it lists one.
pub(super) fn intact(snapshot: &Snapshot, arrived: &str) -> Result<()> {
    match &snapshot.checksum {
        Some(checksum) if !checksum.eq_ignore_ascii_case(arrived) => Err(Error::new(
            ExitCode::StepFailed,
            format!("snapshot {} arrived with the checksum {arrived}", snapshot.name),
        )
        .expected(format!("{checksum}, as the server lists it"))
        .remedy("download it again")),
        _ => Ok(()),
    }
}

/// A name as one segment of a path or a value of a query: what RFC 3986 calls unreserved stays.
pub(super) fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment() {
        assert_eq!(segment("memory_a-1.snapshot"), "memory_a-1.snapshot");
        assert_eq!(segment("a/b?c=d é"), "a%2Fb%3Fc%3Dd%20%C3%A9");
    }

    #[test]
    fn every_http_status_has_its_kind() {
        for (status, kind) in [
            (401, Kind::Unauthenticated),
            (403, Kind::PermissionDenied),
            (404, Kind::NotFound),
            (409, Kind::AlreadyExists),
            (400, Kind::Invalid),
            (503, Kind::Unavailable),
            (504, Kind::TimedOut),
            (500, Kind::Other),
        ] {
            assert_eq!(kind_of(StatusCode::from_u16(status).unwrap(), None), kind, "{status}");
        }
        let later = Some(Duration::from_secs(3));
        assert_eq!(kind_of(StatusCode::TOO_MANY_REQUESTS, later), Kind::Throttled { retry_after: later });
    }

    #[test]
    fn a_snapshot_that_differs_from_its_checksum_is_refused() {
        let snapshot = |checksum: Option<&str>| Snapshot {
            name: "s".into(),
            size: 1,
            created: None,
            checksum: checksum.map(str::to_owned),
        };
        assert!(intact(&snapshot(None), "ab").is_ok());
        assert!(intact(&snapshot(Some("AB")), "ab").is_ok());
        let error = intact(&snapshot(Some("cd")), "ab").unwrap_err();
        assert!(error.found.contains("ab") && error.expected.unwrap().contains("cd"));
    }
}
