//! Snapshots on real servers: each under a name of its own, downloaded whole, and restored as a new collection that has
//! everything.

use local_servers::{Qdrant, QdrantOptions, QdrantVersion, unique_name};
use serde_json::{Value, json};
use tandem::config::QdrantSettings;
use tandem::error::ExitCode;
use tandem::progress::Meter;
use tandem::qdrant::{Client, Snapshot};
use tandem::secret::Secret;

struct Server {
    rest: Qdrant,
    client: Client,
}

fn settings(server: &Qdrant) -> QdrantSettings {
    QdrantSettings {
        host: server.host().into(),
        port: server.grpc_port(),
        rest_port: server.http_port(),
        tls: false,
        api_key: server.api_key().map(Secret::new),
        api_key_origin: "QDRANT_API_KEY".into(),
    }
}

async fn servers() -> Vec<Server> {
    let mut servers = Vec::new();
    for version in QdrantVersion::ALL {
        let rest = Qdrant::shared(version).unwrap();
        let client = Client::connect(&settings(&rest)).await.unwrap();
        servers.push(Server { rest, client });
    }
    servers
}

impl Server {
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, text) = self.rest.rest(method, path, &body.to_string()).unwrap();
        assert_eq!(status, 200, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    fn drop_collection(&self, name: &str) {
        self.call("DELETE", &format!("/collections/{name}"), &json!({}));
    }

    /// Two vectors of which some are missing, payloads, metadata and indexes.
    fn fill(&self, name: &str, points: u64, size: usize) {
        let vector = json!({ "size": size, "distance": "Dot" });
        let collection = json!({
            "vectors": { "a": vector, "b": { "size": 2, "distance": "Cosine" } },
            "hnsw_config": { "m": 9 },
            "metadata": { "owner": "bot" },
        });
        self.call("PUT", &format!("/collections/{name}"), &collection);
        let index = json!({ "field_name": "k", "field_schema": { "type": "keyword", "is_tenant": true } });
        self.call("PUT", &format!("/collections/{name}/index?wait=true"), &index);
        for first in (0..points).step_by(200) {
            let batch: Vec<Value> = (first..points.min(first + 200))
                .map(|id| {
                    let long: Vec<f64> =
                        (0..size).map(|i| ((id as usize * 31 + i * 7) % 997) as f64 / 8.0).collect();
                    let vector = match id % 3 {
                        0 => json!({ "a": long, "b": [3.0, 4.0] }),
                        1 => json!({ "a": long }),
                        _ => json!({}),
                    };
                    json!({ "id": id, "vector": vector, "payload": { "k": format!("é{id}"), "n": null } })
                })
                .collect();
            self.call("PUT", &format!("/collections/{name}/points?wait=true"), &json!({ "points": batch }));
        }
    }

    fn points(&self, name: &str) -> Value {
        let all = json!({ "limit": 100_000, "with_payload": true, "with_vector": true });
        self.call("POST", &format!("/collections/{name}/points/scroll"), &all)["result"]["points"].take()
    }

    fn config(&self, name: &str) -> Value {
        let mut info = self.call("GET", &format!("/collections/{name}"), &json!({}))["result"].take();
        info["payload_schema"]["k"]["points"].take();
        json!([info["config"], info["payload_schema"]])
    }
}

#[tokio::test]
async fn a_snapshot_restored_as_a_new_collection_has_everything() {
    for server in servers().await {
        let (name, copy) = (unique_name("snap"), unique_name("copy"));
        // More than the 32 MiB that other requests may have.
        server.fill(&name, 900, 2048);
        let meter = Meter::default();
        let snapshot = server.client.create_snapshot(&name).await.unwrap();
        assert!(snapshot.name.starts_with(&name) && snapshot.checksum.is_some(), "{snapshot:?}");
        server.client.restore_snapshot(&name, &snapshot, &copy, &meter).await.unwrap();
        let read = meter.read().unwrap();
        assert_eq!((read.done, read.total), (snapshot.size, Some(snapshot.size)));
        assert_eq!(server.points(&copy), server.points(&name));
        assert_eq!(server.config(&copy), server.config(&name));
        server.drop_collection(&copy);
        server.drop_collection(&name);
    }
}

#[tokio::test]
async fn a_downloaded_snapshot_is_proven_by_its_checksum_and_uploaded_again() {
    for server in servers().await {
        let (name, copy) = (unique_name("snap"), unique_name("copy"));
        server.fill(&name, 300, 16);
        let snapshot = server.client.create_snapshot(&name).await.unwrap();
        let meter = Meter::default();
        let mut file = Vec::new();
        let write = |part: &[u8]| {
            file.extend_from_slice(part);
            Ok(())
        };
        let checksum = server.client.download_snapshot(&name, &snapshot, &meter, write).await.unwrap();
        assert_eq!((file.len() as u64, Some(&checksum)), (snapshot.size, snapshot.checksum.as_ref()));

        let wrong = Snapshot { checksum: Some("0".repeat(64)), ..snapshot.clone() };
        let error = server.client.download_snapshot(&name, &wrong, &meter, |_| Ok(())).await.unwrap_err();
        assert!(error.found.contains(&checksum), "{error}");
        let full = |_: &[u8]| Err(std::io::ErrorKind::StorageFull.into());
        let error = server.client.download_snapshot(&name, &snapshot, &meter, full).await.unwrap_err();
        assert!(error.found.contains("cannot be written"), "{error}");

        // The server compares the checksum before it creates anything.
        let error = server.client.restore_snapshot(&name, &wrong, &copy, &meter).await.unwrap_err();
        assert!(error.found.contains(&copy), "{error}");
        assert!(server.client.inspect(&copy).await.unwrap().is_none());

        let size = file.len() as u64;
        server.client.upload_snapshot(&file[..], size, Some(&checksum), &copy, &meter).await.unwrap();
        assert_eq!(server.points(&copy), server.points(&name));
        server.drop_collection(&copy);

        // Half a file ends in an error and not in half a collection.
        let half = &file[..file.len() / 2];
        let error = server.client.upload_snapshot(half, size, None, &copy, &meter).await.unwrap_err();
        assert!(error.found.contains(&copy), "{error}");
        assert!(server.client.inspect(&copy).await.unwrap().is_none());
        server.drop_collection(&name);
    }
}

#[tokio::test]
async fn snapshots_are_listed_in_order_and_deleted_by_name() {
    for server in servers().await {
        let name = unique_name("snap");
        assert_eq!(server.client.list_snapshots(&name).await.unwrap(), []);
        server.fill(&name, 10, 4);
        let mut taken = Vec::new();
        // At once: three within a second would have one name.
        for _ in 0..3 {
            taken.push(server.client.create_snapshot(&name).await.unwrap());
        }
        assert_eq!(server.client.list_snapshots(&name).await.unwrap(), taken);
        let names: std::collections::BTreeSet<_> = taken.iter().map(|snapshot| &snapshot.name).collect();
        assert_eq!(names.len(), 3);
        for _ in 0..2 {
            server.client.delete_snapshot(&name, &taken[1].name).await.unwrap();
        }
        assert_eq!(server.client.list_snapshots(&name).await.unwrap(), [taken[0].clone(), taken[2].clone()]);
        server.drop_collection(&name);
        let error = server.client.create_snapshot(&name).await.unwrap_err();
        assert!(error.found.contains(&name), "{error}");
    }
}

#[tokio::test]
async fn a_restore_needs_the_key_that_manages_and_the_rest_port() {
    for version in QdrantVersion::ALL {
        let own = Qdrant::start(QdrantOptions {
            version,
            api_key: Some("sesame".into()),
            env: vec![("QDRANT__SERVICE__READ_ONLY_API_KEY".into(), "canary".into())],
            ..Default::default()
        })
        .unwrap();
        let server = Server {
            rest: own.with_api_key(own.api_key()),
            client: Client::connect(&settings(&own)).await.unwrap(),
        };
        let (name, copy) = (unique_name("snap"), unique_name("copy"));
        server.fill(&name, 10, 4);
        let snapshot = server.client.create_snapshot(&name).await.unwrap();
        let meter = Meter::default();
        let reader = Client::connect(&settings(&own.with_api_key(Some("canary")))).await.unwrap();
        for error in [
            reader.restore_snapshot(&name, &snapshot, &copy, &meter).await.unwrap_err(),
            reader.create_snapshot(&name).await.unwrap_err(),
            reader.delete_snapshot(&name, &snapshot.name).await.unwrap_err(),
        ] {
            assert_eq!(error.code, ExitCode::Authentication, "{error}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
        assert!(server.client.inspect(&copy).await.unwrap().is_none());
        server.client.restore_snapshot(&name, &snapshot, &copy, &meter).await.unwrap();

        // The gRPC port speaks no HTTP/1.
        for rest_port in [own.grpc_port(), 1] {
            let elsewhere = QdrantSettings { rest_port, ..settings(&own) };
            let client = Client::connect(&elsewhere).await.unwrap();
            let error = client.restore_snapshot(&name, &snapshot, &copy, &meter).await.unwrap_err();
            assert!(error.remedy.as_deref().is_some_and(|text| text.contains("QDRANT_PORT")), "{error}");
            assert!(error.found.contains(&format!(":{rest_port}")), "{error}");
        }
    }
}
