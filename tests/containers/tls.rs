//! TLS from inside the image, whose only authorities are those of its bundle.

use crate::common::Dir;
use crate::docker::{LABEL, attempt};
use crate::images::{self, BOT};
use local_servers::{Postgres, PostgresOptions, Qdrant, QdrantOptions, tls};

const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn both_stores_prove_themselves_to_the_bundle_of_the_image() {
    images::make();
    let postgres =
        Postgres::start(PostgresOptions { tls: Some(tls::CERTIFICATE), ..Default::default() }).unwrap();
    let qdrant = Qdrant::start(QdrantOptions { tls: Some(tls::CERTIFICATE), ..Default::default() }).unwrap();
    let directory = Dir::new();
    let bundle = directory.write("bundle.crt", tls::AUTHORITY);
    let volume = format!("{}:{BUNDLE}:ro", bundle.display());
    let postgres = postgres.url("postgres").replace("127.0.0.1", "localhost");
    let wait = |trusting: &[&str]| {
        let database = format!("DATABASE_URL={postgres}?sslmode=verify-full&sslrootcert={BUNDLE}");
        let qdrant = format!("QDRANT_URL=https://localhost:{}", qdrant.grpc_port());
        let mut run = vec!["run", "--rm", "--label", LABEL, "--network", "host", "--entrypoint", "/tandem"];
        run.extend(trusting);
        run.extend(["--env", &database, "--env", &qdrant, BOT, "wait", "--timeout", "20s"]);
        attempt(&run)
    };
    let (code, text) = wait(&["--volume", &volume]);
    assert_eq!(code, 0, "{text}");
    // The bundle that the image came with knows no such authority.
    let (code, text) = wait(&[]);
    assert_ne!(code, 0, "{text}");
    assert!(text.contains("certificate"), "{text}");
}
