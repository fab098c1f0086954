//! What keeps tandem from Qdrant is told apart on real servers: what waiting can cure and what it cannot.

use local_servers::{Qdrant, QdrantOptions, QdrantVersion, tls};
use std::net::TcpListener;
use std::process::Command;
use tandem::collection::ServerVersion;
use tandem::config::QdrantSettings;
use tandem::qdrant::fault::{Kind, classify};
use tandem::qdrant::{Client, Fault, attempt};
use tandem::secret::Secret;
use tandem::wait::Class;

async fn probe(settings: &QdrantSettings) -> Result<ServerVersion, Fault> {
    Client::connect(settings).await?.probe().await
}

fn at(host: &str, port: u16) -> QdrantSettings {
    QdrantSettings {
        host: host.into(),
        port,
        rest_port: 6333,
        tls: false,
        api_key: None,
        api_key_origin: "QDRANT_API_KEY".into(),
    }
}

fn grpc(server: &Qdrant) -> QdrantSettings {
    QdrantSettings { api_key: server.api_key().map(Secret::new), ..at(server.host(), server.grpc_port()) }
}

fn with_key(version: QdrantVersion) -> QdrantOptions {
    QdrantOptions { version, api_key: Some("sesame".into()), ..Default::default() }
}

fn with_tls() -> QdrantOptions {
    let (certificate, key) = tls::CERTIFICATE;
    QdrantOptions { tls: Some((certificate, key)), ..Default::default() }
}

async fn kind(settings: QdrantSettings) -> Kind {
    probe(&settings).await.expect_err("the probe succeeded").kind
}

#[tokio::test]
async fn a_ready_server_tells_its_version() {
    for version in QdrantVersion::ALL {
        let server = Qdrant::shared(version).unwrap();
        let found = probe(&grpc(&server)).await.unwrap();
        if std::env::var_os("TANDEM_TEST_QDRANT_URL").is_none() {
            assert_eq!(found.to_string(), version.as_str());
        }
    }
}

#[tokio::test]
async fn a_closed_port_and_an_unknown_name_are_waited_for() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(kind(at("127.0.0.1", free)).await, Kind::Refused);
    assert_eq!(kind(at("qdrant.invalid", 6334)).await, Kind::Dns);
    let class = attempt(&at("127.0.0.1", free)).await.err();
    assert!(matches!(class, Some(Class::Retry { gently: false, .. })), "{class:?}");
}

#[tokio::test]
async fn a_silent_port_times_out_with_and_without_tls() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = at("127.0.0.1", silent.local_addr().unwrap().port());
    let with_tls = QdrantSettings { tls: true, ..settings.clone() };
    assert_eq!(tokio::join!(kind(settings), kind(with_tls)), (Kind::TimedOut, Kind::TimedOut));
}

#[tokio::test]
async fn a_port_that_hangs_up_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    assert_eq!(kind(at("127.0.0.1", port)).await, Kind::Lost);
    assert_eq!(kind(QdrantSettings { tls: true, ..at("127.0.0.1", port) }).await, Kind::Lost);
}

#[tokio::test]
async fn the_rest_port_is_named_as_such() {
    let server = local_servers::qdrant();
    let settings = at(server.host(), server.http_port());
    let fault = probe(&settings).await.unwrap_err();
    assert_eq!(fault.kind, Kind::NotGrpc);
    let class = classify(&fault, &settings);
    let Class::Never { error } = class else { panic!("it is waited for") };
    assert!(error.to_string().contains("6333") && error.to_string().contains("6334"), "{error}");
}

#[tokio::test]
async fn tls_and_plain_text_are_not_confused() {
    let plain = local_servers::qdrant();
    assert_eq!(kind(QdrantSettings { tls: true, ..grpc(&plain) }).await, Kind::PlainServer);
    let server = Qdrant::start(with_tls()).unwrap();
    assert_eq!(kind(grpc(&server)).await, Kind::TlsServer);
    assert_eq!(kind(QdrantSettings { tls: true, ..grpc(&server) }).await, Kind::Certificate);
}

/// Only a process of its own can trust another authority.
#[test]
fn a_trusted_certificate_is_accepted_with_an_api_key() {
    let server = Qdrant::start(QdrantOptions { api_key: Some("sesame".into()), ..with_tls() }).unwrap();
    let authority = std::env::temp_dir().join(format!("tandem-{}.crt", std::process::id()));
    std::fs::write(&authority, tls::AUTHORITY).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "trusting_process", "--nocapture"])
        .env("SSL_CERT_FILE", &authority)
        .env("TEST_PORT", server.grpc_port().to_string())
        .output()
        .unwrap();
    std::fs::remove_file(authority).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("probed 1."), "{text}");
}

/// The child of the test above.
#[tokio::test]
async fn trusting_process() {
    let Ok(port) = std::env::var("TEST_PORT") else { return };
    let port = port.parse().unwrap();
    let key = Some(Secret::new("sesame"));
    let settings = QdrantSettings { tls: true, api_key: key, ..at("localhost", port) };
    println!("probed {}", probe(&settings).await.unwrap());
}

#[tokio::test]
async fn a_wrong_and_a_missing_key_are_never_retried_and_never_shown() {
    for version in QdrantVersion::ALL {
        let server = Qdrant::start(with_key(version)).unwrap();
        let settings = grpc(&server);
        assert!(probe(&settings).await.is_ok());
        for key in [None, Some(Secret::new("canary-wrong"))] {
            let fault = probe(&QdrantSettings { api_key: key, ..settings.clone() }).await.unwrap_err();
            assert_eq!(fault.kind, Kind::Unauthenticated);
            assert!(matches!(classify(&fault, &settings), Class::Grace { .. }));
            assert!(!format!("{fault:?}").contains("canary"));
        }
        let fault = probe(&QdrantSettings { api_key: Some(Secret::new("canary\nline")), ..settings })
            .await
            .unwrap_err();
        assert_eq!(fault.kind, Kind::Settings);
        assert!(!format!("{fault:?}").contains("canary"));
    }
}
