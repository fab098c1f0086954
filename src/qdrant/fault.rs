//! Why a Qdrant server did not answer, and whether it is worth asking again.

use crate::collection::{MINIMUM, ServerVersion};
use crate::config::QdrantSettings;
use crate::error::{Error, ExitCode};
use crate::wait::Class;
use std::error::Error as StdError;
use std::time::Duration;
use std::{fmt, io};
use tonic::{Code, Status};

/// What servers say of a full disk.
const NO_ROOM: [&str; 2] = ["No space left on device", "Not enough space available"];

/// A failed connection or call. Never holds the API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    /// `None` if there was no gRPC answer.
    pub code: Option<Code>,
    /// The server's or the system's own words.
    pub message: String,
}

/// What went wrong, as far as it decides what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing listens on the port.
    Refused,
    /// The name has no address, or not yet.
    Dns,
    /// No route to the host.
    Unreachable,
    /// The connection broke.
    Lost,
    /// No answer in time.
    TimedOut,
    /// The server says that it cannot serve now.
    Unavailable,
    /// Too many requests; the server may say for how long.
    Throttled {
        retry_after: Option<Duration>,
    },
    /// The API key is missing or wrong.
    Unauthenticated,
    /// The API key lacks a right.
    PermissionDenied,
    /// What answers does not speak gRPC.
    NotGrpc,
    /// It speaks gRPC and is no Qdrant.
    NotQdrant,
    /// TLS was asked of a server that speaks plain text.
    PlainServer,
    /// Plain text was sent to a server that speaks TLS.
    TlsServer,
    /// The certificate is not trusted or is for another name.
    Certificate,
    /// TLS failed otherwise.
    Tls,
    /// Older than [`MINIMUM`].
    TooOld {
        version: ServerVersion,
    },
    /// Host, port or API key cannot be used as they are written.
    Settings,
    NotFound,
    AlreadyExists,
    /// The server refuses the request itself.
    Invalid,
    Other,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Refused => write!(f, "nothing listens ({})", self.message),
            Kind::Dns => write!(f, "the name has no address ({})", self.message),
            Kind::Unreachable => write!(f, "no route to the host ({})", self.message),
            Kind::Lost => write!(f, "the connection broke ({})", self.message),
            Kind::TimedOut => f.write_str("no answer in time"),
            Kind::NotGrpc => write!(f, "what answers does not speak gRPC ({})", self.message),
            Kind::NotQdrant => write!(f, "what answers is no Qdrant ({})", self.message),
            Kind::PlainServer => f.write_str("the server does not speak TLS"),
            Kind::TlsServer => f.write_str("the server speaks TLS only"),
            _ => f.write_str(&self.message),
        }
    }
}

impl Fault {
    /// A fault without a gRPC answer.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, code: None, message: message.into() }
    }

    /// The server is older than [`MINIMUM`].
    pub fn too_old(version: ServerVersion) -> Self {
        Self::new(
            Kind::TooOld { version },
            format!(
                "server {version} is too old: tandem keeps its stamp in collection metadata, which came with {MINIMUM}"
            ),
        )
    }

    /// Reads what the chain of causes says.
    pub(super) fn of_connection(error: &(dyn StdError + 'static)) -> Self {
        let causes = causes(error);
        let message = causes.iter().map(ToString::to_string).fold(String::new(), |mut text, cause| {
            // Libraries repeat the inner message in the outer one.
            if !text.contains(&cause) {
                if !text.is_empty() {
                    text.push_str(": ");
                }
                text.push_str(&cause);
            }
            text
        });
        let io = causes.iter().rev().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
        Self::new(kind_of_connection(&message, io), message)
    }

    /// The error that this fault is where nobody waits.
    pub fn into_error(self, settings: &QdrantSettings) -> Error {
        match classify(&self, settings) {
            Class::Retry { why, .. } => {
                Error::new(ExitCode::Unreachable, format!("Qdrant {settings}: {why}"))
            }
            Class::Grace { error } | Class::Never { error } => error,
        }
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        // A status that the client made itself carries the broken connection as its cause.
        if let Some(source) = status.source() {
            return Self { code: Some(status.code()), ..Self::of_connection(source) };
        }
        let kind = match status.code() {
            Code::Unavailable => Kind::Unavailable,
            Code::DeadlineExceeded | Code::Cancelled => Kind::TimedOut,
            Code::ResourceExhausted => Kind::Throttled {
                retry_after: status
                    .metadata()
                    .get("retry-after")
                    .and_then(|seconds| seconds.to_str().ok()?.parse().ok())
                    .map(Duration::from_secs),
            },
            Code::Unauthenticated => Kind::Unauthenticated,
            Code::PermissionDenied => Kind::PermissionDenied,
            Code::Unimplemented => Kind::NotQdrant,
            Code::NotFound => Kind::NotFound,
            Code::AlreadyExists => Kind::AlreadyExists,
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => Kind::Invalid,
            _ => Kind::Other,
        };
        Self { kind, code: Some(status.code()), message: status.message().to_string() }
    }
}

/// The table of classes.
pub fn classify(fault: &Fault, settings: &QdrantSettings) -> Class {
    let retry = |gently| Class::Retry { why: fault.to_string(), gently };
    let error = |code, remedy: &str| Error::new(code, format!("Qdrant {settings}: {fault}")).remedy(remedy);
    let never = |code, remedy: &str| Class::Never { error: error(code, remedy) };
    match fault.kind {
        Kind::Refused | Kind::Dns | Kind::Unreachable | Kind::Lost | Kind::TimedOut | Kind::Unavailable => {
            retry(false)
        }
        Kind::Throttled { .. } => retry(true),
        Kind::Unauthenticated => {
            let remedy = match &settings.api_key {
                Some(_) => format!("check the API key in {}", settings.api_key_origin),
                None => "set QDRANT_API_KEY or QDRANT_API_KEY_FILE".to_owned(),
            };
            Class::Grace { error: error(ExitCode::Authentication, &remedy) }
        }
        Kind::PermissionDenied => Class::Grace {
            error: error(
                ExitCode::Authentication,
                "use an API key that may manage collections; to read, one that may read all of them",
            ),
        },
        Kind::NotGrpc => never(
            ExitCode::Configuration,
            "is this the REST port, usually 6333? tandem speaks gRPC, usually on port 6334",
        ),
        Kind::NotQdrant => {
            never(ExitCode::Configuration, "is this the gRPC port of a Qdrant server, usually 6334?")
        }
        Kind::PlainServer => never(
            ExitCode::Configuration,
            "use http:// instead of https:// in QDRANT_URL, or QDRANT_TLS=false",
        ),
        Kind::TlsServer => never(
            ExitCode::Configuration,
            "use https:// instead of http:// in QDRANT_URL, or QDRANT_TLS=true",
        ),
        Kind::Certificate => never(
            ExitCode::Configuration,
            "use the host name that the certificate is for, and make its authority known: install it, or set \
             SSL_CERT_FILE to a file that holds it",
        ),
        Kind::Tls => never(ExitCode::Configuration, "let the server speak TLS 1.2 or 1.3 on this port"),
        Kind::TooOld { .. } => {
            never(ExitCode::Refused, "upgrade Qdrant one minor version at a time, as its documentation says")
        }
        Kind::Settings => never(ExitCode::Configuration, "look at the settings in force with tandem config"),
        Kind::Other if NO_ROOM.iter().any(|words| fault.message.contains(words)) => never(
            ExitCode::StepFailed,
            "make room on Qdrant's disk, then start again: the next start goes on, and no point is lost",
        ),
        Kind::NotFound | Kind::AlreadyExists | Kind::Invalid | Kind::Other => {
            never(ExitCode::StepFailed, "read the server's message and its log")
        }
    }
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> Vec<&'a (dyn StdError + 'static)> {
    let mut causes = vec![error];
    let mut last = error;
    while let Some(cause) = last.source() {
        causes.push(cause);
        last = cause;
    }
    causes
}

/// Below HTTP there are only causes and their words: h2 and rustls are not among this crate's dependencies.
fn kind_of_connection(message: &str, io: Option<io::ErrorKind>) -> Kind {
    use io::ErrorKind as Io;
    match io {
        Some(Io::ConnectionRefused) => Kind::Refused,
        Some(Io::TimedOut) => Kind::TimedOut,
        Some(Io::HostUnreachable | Io::NetworkUnreachable | Io::NetworkDown) => Kind::Unreachable,
        Some(
            Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::BrokenPipe
            | Io::UnexpectedEof
            | Io::NotConnected,
        ) => Kind::Lost,
        // What rustls refuses arrives as invalid data.
        Some(Io::InvalidData) if message.contains("certificate") => Kind::Certificate,
        Some(Io::InvalidData) if message.contains("InvalidContentType") => Kind::PlainServer,
        Some(Io::InvalidData) => Kind::Tls,
        _ if message.contains("dns error") => Kind::Dns,
        _ if message.contains("imeout expired") || message.contains("timed out") => Kind::TimedOut,
        // The text of an HTTP/1 answer, read as the header of an HTTP/2 frame.
        _ if message.contains("frame with invalid size") => Kind::NotGrpc,
        _ if message.contains("connection closed") || message.contains("broken pipe") => Kind::Lost,
        _ => Kind::Other,
    }
}

/// What the first bytes tell of a server that was greeted in plain text.
pub(super) fn kind_of_answer(first: [u8; 2]) -> Option<Kind> {
    match &first {
        // A TLS alert: it expected a handshake.
        [0x15, 0x03] => Some(Kind::TlsServer),
        b"HT" => Some(Kind::NotGrpc),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn settings(api_key: Option<&str>) -> QdrantSettings {
        QdrantSettings {
            host: "q".into(),
            port: 6334,
            rest_port: 6333,
            tls: false,
            api_key: api_key.map(Secret::new),
            api_key_origin: "QDRANT_API_KEY_FILE".into(),
        }
    }

    #[test]
    fn every_broken_connection_has_its_kind() {
        use io::ErrorKind as Io;
        for (message, io, kind) in [
            (
                "tcp connect error: Connection refused (os error 111)",
                Some(Io::ConnectionRefused),
                Kind::Refused,
            ),
            ("dns error: failed to lookup address information", Some(Io::Other), Kind::Dns),
            ("dns error: no record found", None, Kind::Dns),
            ("tcp connect error", Some(Io::HostUnreachable), Kind::Unreachable),
            ("tcp connect error", Some(Io::NetworkUnreachable), Kind::Unreachable),
            ("tcp connect error", Some(Io::TimedOut), Kind::TimedOut),
            ("transport error: Timeout expired", None, Kind::TimedOut),
            ("connection error", Some(Io::ConnectionReset), Kind::Lost),
            ("stream closed because of a broken pipe", Some(Io::BrokenPipe), Kind::Lost),
            ("tls handshake eof", Some(Io::UnexpectedEof), Kind::Lost),
            ("http2 error: connection closed", None, Kind::Lost),
            ("invalid peer certificate: UnknownIssuer", Some(Io::InvalidData), Kind::Certificate),
            ("invalid peer certificate: NotValidForName", Some(Io::InvalidData), Kind::Certificate),
            ("received corrupt message of type InvalidContentType", Some(Io::InvalidData), Kind::PlainServer),
            ("received fatal alert: HandshakeFailure", Some(Io::InvalidData), Kind::Tls),
            ("connection error detected: frame with invalid size", None, Kind::NotGrpc),
            ("something new", None, Kind::Other),
        ] {
            assert_eq!(kind_of_connection(message, io), kind, "{message}");
        }
    }

    #[test]
    fn every_grpc_code_has_its_kind() {
        for (code, kind) in [
            (Code::Unavailable, Kind::Unavailable),
            (Code::DeadlineExceeded, Kind::TimedOut),
            (Code::Cancelled, Kind::TimedOut),
            (Code::ResourceExhausted, Kind::Throttled { retry_after: None }),
            (Code::Unauthenticated, Kind::Unauthenticated),
            (Code::PermissionDenied, Kind::PermissionDenied),
            (Code::Unimplemented, Kind::NotQdrant),
            (Code::NotFound, Kind::NotFound),
            (Code::AlreadyExists, Kind::AlreadyExists),
            (Code::InvalidArgument, Kind::Invalid),
            (Code::FailedPrecondition, Kind::Invalid),
            (Code::Internal, Kind::Other),
        ] {
            let fault = Fault::from(Status::new(code, "words"));
            assert_eq!((fault.kind, fault.code, fault.message.as_str()), (kind, Some(code), "words"));
        }
    }

    #[test]
    fn a_throttling_server_may_say_how_long() {
        let mut status = Status::resource_exhausted("rate limit");
        status.metadata_mut().insert("retry-after", "7".parse().unwrap());
        let fault = Fault::from(status);
        assert_eq!(fault.kind, Kind::Throttled { retry_after: Some(Duration::from_secs(7)) });
        let class = classify(&fault, &settings(None));
        assert_eq!(class, Class::Retry { why: "rate limit".into(), gently: true });
    }

    #[test]
    fn waiting_is_for_what_changes_by_itself() {
        let version = ServerVersion::new(1, 15, 3);
        for (kind, code) in [
            (Kind::Refused, None),
            (Kind::Dns, None),
            (Kind::Unreachable, None),
            (Kind::Lost, None),
            (Kind::TimedOut, None),
            (Kind::Unavailable, None),
            (Kind::Throttled { retry_after: None }, None),
            (Kind::NotGrpc, Some(ExitCode::Configuration)),
            (Kind::NotQdrant, Some(ExitCode::Configuration)),
            (Kind::PlainServer, Some(ExitCode::Configuration)),
            (Kind::TlsServer, Some(ExitCode::Configuration)),
            (Kind::Certificate, Some(ExitCode::Configuration)),
            (Kind::Tls, Some(ExitCode::Configuration)),
            (Kind::Settings, Some(ExitCode::Configuration)),
            (Kind::TooOld { version }, Some(ExitCode::Refused)),
            (Kind::Invalid, Some(ExitCode::StepFailed)),
            (Kind::Other, Some(ExitCode::StepFailed)),
        ] {
            let class = classify(&Fault::new(kind, "words"), &settings(None));
            match (class, code) {
                (Class::Retry { .. }, None) => {}
                (Class::Never { error }, Some(code)) => {
                    assert_eq!(error.code, code, "{kind:?}");
                    assert!(error.found.contains("http://q:6334") && error.remedy.is_some(), "{error}");
                }
                (class, _) => panic!("{kind:?}: {class:?}"),
            }
        }
    }

    #[test]
    fn a_rejected_key_is_named_by_its_origin_and_not_shown() {
        for (kind, key, words) in [
            (Kind::Unauthenticated, Some("canary"), "QDRANT_API_KEY_FILE"),
            (Kind::Unauthenticated, None, "set QDRANT_API_KEY"),
            (Kind::PermissionDenied, Some("canary"), "manage"),
        ] {
            let class = classify(&Fault::new(kind, "words"), &settings(key));
            let Class::Grace { error } = class else { panic!("{class:?}") };
            assert_eq!(error.code, ExitCode::Authentication);
            assert!(error.to_string().contains(words) && !error.to_string().contains("canary"), "{error}");
        }
    }

    #[test]
    fn the_first_bytes_tell_tls_from_http_1_and_both_from_grpc() {
        assert_eq!(kind_of_answer([0x15, 0x03]), Some(Kind::TlsServer));
        assert_eq!(kind_of_answer(*b"HT"), Some(Kind::NotGrpc));
        // A SETTINGS frame.
        assert_eq!(kind_of_answer([0, 0]), None);
    }
}
