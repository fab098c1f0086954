//! Collections reach their declared schema on real servers, and reading them back proves it.

use local_servers::{Qdrant, QdrantOptions, QdrantVersion, unique_name};
use std::collections::BTreeSet;
use tandem::collection::{
    Action, CREATE_VECTOR_NAME, Change, DELETE_VECTOR_NAME, Observed, Role, Schema, ServerVersion, Stamp,
    Step, compare, gates, steps,
};
use tandem::config::QdrantSettings;
use tandem::error::ExitCode;
use tandem::qdrant::Client;
use tandem::secret::Secret;
use tandem::timeline::{CollectionDeclaration, Undeclared};

struct Server {
    rest: Qdrant,
    client: Client,
    version: ServerVersion,
}

async fn servers() -> Vec<Server> {
    let mut servers = Vec::new();
    for version in QdrantVersion::ALL {
        let rest = Qdrant::shared(version).unwrap();
        let client = connect(&rest, rest.api_key()).await;
        let version = client.probe().await.unwrap();
        servers.push(Server { rest, client, version });
    }
    servers
}

async fn connect(server: &Qdrant, api_key: Option<&str>) -> Client {
    let settings = QdrantSettings {
        host: server.host().into(),
        port: server.grpc_port(),
        rest_port: server.http_port(),
        tls: false,
        api_key: api_key.map(Secret::new),
        api_key_origin: "QDRANT_API_KEY".into(),
    };
    Client::connect(&settings).await.unwrap()
}

fn schema(toml: &str) -> Schema {
    toml::from_str(toml).unwrap()
}

fn stamp(version: i64) -> Stamp {
    Stamp { lineage: "l".into(), timeline: "t".into(), version, epoch: 1, role: Role::Live }
}

fn declaration(name: &str, schema: &Schema) -> CollectionDeclaration {
    CollectionDeclaration {
        matching: name.into(),
        ensure: vec![name.into()],
        schema: schema.clone(),
        undeclared: Undeclared::default(),
    }
}

impl Server {
    async fn observed(&self, name: &str) -> Observed {
        self.client.inspect(name).await.unwrap().unwrap()
    }

    /// Does what is to do and returns it; then nothing is left to do.
    async fn bring(&self, name: &str, declared: &Schema) -> Vec<Step> {
        let declaration = declaration(name, declared);
        let observed = self.client.inspect(name).await.unwrap();
        let todo = steps(name, observed.as_ref(), &declaration, &stamp(1), self.version).unwrap();
        for step in &todo {
            self.client.perform(step).await.unwrap();
        }
        let observed = self.observed(name).await;
        assert_eq!(compare(declared, &observed, declaration.undeclared, self.version), []);
        let left = steps(name, Some(&observed), &declaration, &stamp(1), self.version).unwrap();
        assert_eq!(left, []);
        todo
    }
}

/// Everything that can be declared and that all supported servers know.
#[tokio::test]
async fn a_collection_is_created_with_every_parameter() {
    for server in servers().await {
        let name = unique_name("full");
        let todo = server.bring(&name, &schema(FULL)).await;
        assert!(matches!(todo[0].action, Action::Create { .. }));
        assert_eq!(todo.len(), 2 + schema(FULL).payload_indexes.len());
        let observed = server.observed(&name).await;
        assert_eq!(observed.stamp, Some(stamp(1)));
        assert_eq!(observed.points, 0);
        server.drop_collection(&name);
    }
}

#[tokio::test]
async fn newer_servers_take_newer_fields() {
    let newer = schema(
        r#"
        vectors = { size = 4, distance = "Dot" }
        read_fan_out_delay_ms = 100
        optimizers_config = { prevent_unoptimized = true }
        payload_indexes = { k = { type = "keyword", enable_hnsw = false }, t = { type = "text", enable_hnsw = false } }
        "#,
    );
    for server in servers().await {
        let name = unique_name("newer");
        if server.version >= ServerVersion::new(1, 17, 0) {
            server.bring(&name, &newer).await;
            server.drop_collection(&name);
            continue;
        }
        let error = steps(&name, None, &declaration(&name, &newer), &stamp(1), server.version).unwrap_err();
        let text = error.to_string();
        for field in ["prevent_unoptimized", "read_fan_out_delay_ms", "payload_indexes.k.enable_hnsw"] {
            assert!(text.contains(field), "{text}");
        }
        assert!(text.contains("1.17.0") && text.contains("1.16.3"), "{text}");
    }
}

/// What the gates are for: each field that a server does not know is dropped without an error, or refused. Without
/// its gate the step still fails, because it is read back.
#[tokio::test]
async fn a_dropped_field_is_found_by_reading_back() {
    let fields = [
        ("vectors = { size = 4, distance = 'Dot', memory = 'cold' }", "memory"),
        ("hnsw_config = { memory = 'cold' }", "hnsw_config.memory"),
        (
            "quantization_config = { scalar = { type = 'int8', memory = 'pinned' } }",
            "quantization_config.scalar.memory",
        ),
        ("quantization_config = { turbo = {} }", "quantization_config"),
        ("sparse_vectors = { s = { index = { memory = 'cached' } } }", "sparse_vectors.s.index.memory"),
        ("strict_mode_config = { search_max_batchsize = 3 }", "strict_mode_config.search_max_batchsize"),
        (
            "strict_mode_config = { max_resident_memory_percent = 3 }",
            "strict_mode_config.max_resident_memory_percent",
        ),
        ("payload = { memory = 'cached' }", "payload.memory"),
        ("id_tracker = { memory = 'cached' }", "id_tracker.memory"),
        ("read_fan_out_delay_ms = 7", "read_fan_out_delay_ms"),
        ("optimizers_config = { prevent_unoptimized = true }", "optimizers_config.prevent_unoptimized"),
        (
            "payload_indexes = { k = { type = 'keyword', enable_hnsw = false } }",
            "payload_indexes.k.enable_hnsw",
        ),
        ("payload_indexes = { k = { type = 'keyword', prefix = true } }", "payload_indexes.k.prefix"),
        ("payload_indexes = { k = { type = 'keyword', nested = 'a' } }", "payload_indexes.k.nested"),
        ("payload_indexes = { k = { type = 'float', memory = 'cold' } }", "payload_indexes.k.memory"),
        (
            "payload_indexes = { t = { type = 'text', scoring = { type = 'bm25' } } }",
            "payload_indexes.t.scoring.type",
        ),
        ("payload_indexes = { t = { type = 'text', tokenizer = 'code' } }", "payload_indexes.t.tokenizer"),
        (
            "payload_indexes = { t = { type = 'text', stemmer = { type = 'none' } } }",
            "payload_indexes.t.stemmer.type",
        ),
        ("vectors = { size = 4, distance = 'Dot', datatype = 'turbo4' }", "datatype"),
    ];
    for server in servers().await {
        for (toml, field) in &fields {
            let declared = schema(toml);
            let gated = gates(&declared, server.version);
            // The latest of the steps that this declaration takes on a server that knows everything.
            let newest = ServerVersion::new(9, 0, 0);
            let name = unique_name("gated");
            let todo = steps(&name, None, &declaration(&name, &declared), &stamp(1), newest).unwrap();
            let mut outcome = Ok(());
            for step in &todo {
                outcome = server.client.perform(step).await;
                if outcome.is_err() {
                    break;
                }
            }
            server.drop_collection(&name);
            match &outcome {
                Ok(()) => assert_eq!(gated, [], "{field} works on {} and is gated", server.version),
                Err(error) => assert!(
                    gated.iter().any(|change| change.to_string().contains(field)),
                    "{field} fails on {} and is not gated: {error}",
                    server.version
                ),
            }
        }
    }
}

/// One step per change: from a schema, to a schema, by these sections.
#[tokio::test]
async fn everything_mutable_changes_in_place_and_keeps_the_points() {
    let base = r#"
        [vectors.a]
        size = 2
        distance = "Dot"
        hnsw_config = { m = 16, ef_construct = 100 }
        quantization_config = { scalar = { type = "int8", quantile = 0.9, always_ram = true } }
        [vectors.b]
        size = 2
        distance = "Cosine"
        [sparse_vectors.s]
        index = { full_scan_threshold = 10, on_disk = true }
        [payload_indexes]
        k = "keyword"
        "#;
    let changes = [
        "hnsw_config = { m = 24, full_scan_threshold = 100, payload_m = 8, on_disk = true, inline_storage = true }",
        "[vectors.a.hnsw_config]\nef_construct = 200",
        "[vectors.b]\nhnsw_config = { m = 8 }\non_disk = true",
        "[vectors.a]\nquantization_config = { scalar = { type = 'int8', always_ram = false } }",
        "[vectors.a]\nquantization_config = { binary = { encoding = 'two_bits' } }",
        "[vectors.a]\nquantization_config = 'Disabled'",
        "[vectors.a]\non_disk = true\n[vectors.b]\non_disk = false",
        "quantization_config = { scalar = { type = 'int8', quantile = 0.99 } }",
        "quantization_config = { scalar = { type = 'int8', always_ram = true } }",
        "quantization_config = { product = { compression = 'x8' } }",
        "quantization_config = { binary = { query_encoding = 'scalar8bits' } }",
        "quantization_config = 'Disabled'",
        "optimizers_config = { deleted_threshold = 0.35, indexing_threshold = 1, max_optimization_threads = 1 }",
        "optimizers_config = { indexing_threshold = 0, memmap_threshold = 0, max_optimization_threads = 'auto' }",
        "on_disk_payload = false",
        "on_disk_payload = true\nread_fan_out_factor = 2\nwrite_consistency_factor = 2\nreplication_factor = 3",
        "strict_mode_config = { enabled = true, max_query_limit = 50 }",
        "strict_mode_config = { max_query_limit = 60, sparse_config = { s = { max_length = 5 } } }",
        "strict_mode_config = { multivector_config = { a = { max_vectors = 5 } } }",
        "strict_mode_config = { multivector_config = { b = { max_vectors = 6 } } }",
        "strict_mode_config = { enabled = false }",
        "metadata = { owner = 'x', deep = { a = 1, b = 2 } }",
        "metadata = { deep = { a = 1 } }",
        "[sparse_vectors.s]\nindex = { full_scan_threshold = 20 }",
        "[sparse_vectors.s]\nmodifier = 'idf'",
        "[sparse_vectors.s]\nmodifier = 'none'\nindex = { on_disk = false }",
        "payload_indexes = { k = 'integer', n = { type = 'float', on_disk = true } }",
        "payload_indexes = { n = { type = 'float', is_principal = true } }",
        "payload_indexes = { k = 'keyword' }",
    ];
    for server in servers().await {
        let name = unique_name("in_place");
        server.bring(&name, &schema(base)).await;
        server.add_points(&name);
        for change in changes {
            let declared = schema(change);
            let before = server.observed(&name).await;
            let keep = Undeclared::default();
            let changed = paths(&compare(&declared, &before, keep, server.version));
            assert!(!changed.is_empty(), "{change}: nothing to do");
            server.bring(&name, &declared).await;
            // What was not declared is as before.
            let after = server.observed(&name).await;
            let undo = paths(&compare(&before.schema, &after, keep, server.version));
            assert!(undo.is_subset(&changed), "{change}: {undo:?}");
        }
        assert_eq!(server.count(&name), 3);
        server.drop_collection(&name);
    }
}

fn paths(changes: &[Change]) -> BTreeSet<String> {
    changes.iter().map(|change| change.path.join(".")).collect()
}

#[tokio::test]
async fn a_wrongly_typed_index_is_corrected_and_covers_the_points() {
    for server in servers().await {
        let name = unique_name("typed");
        let vectors = "vectors = { a = { size = 2, distance = 'Dot' }, b = { size = 2, distance = 'Dot' } }\nsparse_vectors = { s = {} }\n";
        server.bring(&name, &schema(&format!("{vectors} payload_indexes = {{ n = 'keyword' }}"))).await;
        server.add_points(&name);
        let todo = server.bring(&name, &schema("payload_indexes = { n = 'float' }")).await;
        assert_eq!(todo[0].to_string(), format!("{name}: payload_indexes.n: keyword, declared float"));
        let info = server.rest("GET", &format!("/collections/{name}"), "");
        let index = &info["result"]["payload_schema"]["n"];
        assert_eq!((index["data_type"].as_str(), index["points"].as_u64()), (Some("float"), Some(1)));
        server.drop_collection(&name);
    }
}

#[tokio::test]
async fn undeclared_indexes_go_only_if_the_declaration_says_so() {
    for server in servers().await {
        let name = unique_name("undeclared");
        let declared =
            schema("vectors = { size = 2, distance = 'Dot' }\npayload_indexes = { k = 'keyword' }");
        server.bring(&name, &declared).await;
        server.bring(&name, &schema("payload_indexes = { old = 'text' }")).await;
        assert_eq!(server.bring(&name, &declared).await, []);

        let mut declaration = declaration(&name, &declared);
        declaration.undeclared.drop_payload_indexes = true;
        let observed = server.observed(&name).await;
        let todo = steps(&name, Some(&observed), &declaration, &stamp(1), server.version).unwrap();
        assert_eq!(todo.len(), 1);
        for _ in 0..2 {
            server.client.perform(&todo[0]).await.unwrap();
        }
        let left = server.observed(&name).await.schema.payload_indexes;
        assert_eq!(left.keys().collect::<Vec<_>>(), ["k"]);
        server.drop_collection(&name);
    }
}

#[tokio::test]
async fn a_stamp_is_kept_whole_beside_other_metadata() {
    for server in servers().await {
        let name = unique_name("stamp");
        let declared = schema("vectors = { size = 2, distance = 'Dot' }\nmetadata = { owner = 'bot' }");
        server.bring(&name, &declared).await;
        let shadow = Stamp {
            version: 20251011143000,
            epoch: 7,
            role: Role::Shadow { source: "memory".into(), phase: "copy".into() },
            ..stamp(1)
        };
        for stamp in [shadow, stamp(3)] {
            let step = Step { collection: name.clone(), action: Action::Stamp { stamp: stamp.clone() } };
            server.client.perform(&step).await.unwrap();
            let observed = server.observed(&name).await;
            assert_eq!(observed.stamp, Some(stamp));
            assert_eq!(observed.schema.metadata, declared.metadata);
        }
        server.rest("PATCH", &format!("/collections/{name}"), r#"{ "metadata": { "tandem": "mine" } }"#);
        let error = server.client.inspect(&name).await.unwrap_err();
        assert!(error.to_string().contains(&name) && error.remedy.is_some(), "{error}");
        server.drop_collection(&name);
    }
}

#[tokio::test]
async fn steps_done_twice_end_the_same() {
    for server in servers().await {
        let name = unique_name("twice");
        let declaration = declaration(&name, &schema(FULL));
        let todo = steps(&name, None, &declaration, &stamp(1), server.version).unwrap();
        for step in todo.iter().flat_map(|step| [step, step]) {
            server.client.perform(step).await.unwrap();
        }
        // A run that was killed anywhere in between.
        for step in &todo {
            server.client.perform(step).await.unwrap();
        }
        let observed = server.observed(&name).await;
        assert_eq!(steps(&name, Some(&observed), &declaration, &stamp(1), server.version).unwrap(), []);
        server.drop_collection(&name);
    }
}

#[tokio::test]
async fn creators_in_a_race_all_end_well_or_name_the_difference() {
    for server in servers().await {
        let name = unique_name("race");
        let declared = schema("vectors = { size = 2, distance = 'Dot' }\nhnsw_config = { m = 8 }");
        let todo = steps(&name, None, &declaration(&name, &declared), &stamp(1), server.version).unwrap();
        let (a, b) = tokio::join!(server.client.perform(&todo[0]), server.client.perform(&todo[0]));
        assert_eq!((a, b), (Ok(()), Ok(())));
        server.drop_collection(&name);

        // The application was faster and knows nothing of stamps.
        let path = format!("/collections/{name}");
        server.rest(
            "PUT",
            &path,
            r#"{ "vectors": { "size": 2, "distance": "Dot" }, "hnsw_config": { "m": 8 } }"#,
        );
        server.client.perform(&todo[0]).await.unwrap();
        assert_eq!(server.observed(&name).await.stamp, Some(stamp(1)));
        server.drop_collection(&name);

        server.rest("PUT", &path, r#"{ "vectors": { "size": 2, "distance": "Dot" } }"#);
        let error = server.client.perform(&todo[0]).await.unwrap_err();
        assert!(error.to_string().contains("hnsw_config.m: 16, declared 8"), "{error}");
        server.drop_collection(&name);
    }
}

#[tokio::test]
async fn a_survey_finds_names_aliases_and_what_was_asked_for() {
    for server in servers().await {
        let (real, alias, absent) = (unique_name("real"), unique_name("alias"), unique_name("absent"));
        server.bring(&real, &schema("vectors = { size = 2, distance = 'Dot' }")).await;
        let action = serde_json::json!({ "create_alias": { "collection_name": real, "alias_name": alias } });
        server.rest("POST", "/collections/aliases", &serde_json::json!({ "actions": [action] }).to_string());
        let survey = server.client.survey(&[alias.clone(), absent, real.clone()]).await.unwrap();
        assert_eq!(survey.server, server.version);
        assert!(survey.names.contains(&real) && !survey.names.contains(&alias));
        assert_eq!(survey.aliases[&alias], real);
        assert_eq!(survey.collections.keys().collect::<Vec<_>>(), [&real]);
        assert_eq!(survey.collections[&real].aliases, [alias]);
        server.drop_collection(&real);
    }
}

#[tokio::test]
async fn a_wider_limit_comes_before_what_needs_it() {
    for server in servers().await {
        let name = unique_name("limit");
        let narrow = "vectors = { size = 2, distance = 'Dot' }\nstrict_mode_config = { enabled = true, max_payload_index_count = 1 }\n";
        server.bring(&name, &schema(&format!("{narrow} payload_indexes = {{ a = 'keyword' }}"))).await;
        let wide =
            "strict_mode_config = { max_payload_index_count = 2 }\npayload_indexes = { b = 'keyword' }";
        assert_eq!(server.bring(&name, &schema(wide)).await.len(), 2);
        server.drop_collection(&name);
    }
}

#[tokio::test]
async fn a_read_only_key_reads_and_its_writes_are_named() {
    for version in QdrantVersion::ALL {
        let own = Qdrant::start(QdrantOptions {
            version,
            api_key: Some("sesame".into()),
            env: vec![("QDRANT__SERVICE__READ_ONLY_API_KEY".into(), "canary".into())],
            ..Default::default()
        })
        .unwrap();
        let writer = connect(&own, own.api_key()).await;
        let name = unique_name("read_only");
        let declared = schema("vectors = { size = 2, distance = 'Dot' }");
        let todo =
            steps(&name, None, &declaration(&name, &declared), &stamp(1), writer.probe().await.unwrap())
                .unwrap();
        writer.perform(&todo[0]).await.unwrap();

        let reader = connect(&own, Some("canary")).await;
        reader.probe().await.unwrap();
        assert_eq!(
            reader.survey(std::slice::from_ref(&name)).await.unwrap().collections[&name].stamp,
            Some(stamp(1))
        );
        let index = schema("payload_indexes = { k = 'keyword' }");
        let observed = reader.inspect(&name).await.unwrap();
        let todo = steps(
            &name,
            observed.as_ref(),
            &declaration(&name, &index),
            &stamp(2),
            reader.probe().await.unwrap(),
        )
        .unwrap();
        for step in &todo {
            let error = reader.perform(step).await.unwrap_err();
            assert_eq!(error.code, ExitCode::Authentication, "{error}");
            let text = error.to_string();
            assert!(text.contains(&step.to_string()) && !text.contains("canary"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_connection_outlives_a_restart_of_the_server() {
    let mut own = Qdrant::start(QdrantOptions::default()).unwrap();
    let client = connect(&own, None).await;
    let name = unique_name("restart");
    let declared = schema("vectors = { size = 2, distance = 'Dot' }\npayload_indexes = { k = 'keyword' }");
    let server = client.probe().await.unwrap();
    let todo = steps(&name, None, &declaration(&name, &declared), &stamp(1), server).unwrap();
    client.perform(&todo[0]).await.unwrap();
    own.kill9().unwrap();
    let error = client.perform(&todo[1]).await.unwrap_err();
    assert_eq!(error.code, ExitCode::Unreachable, "{error}");
    own.restart().unwrap();
    let observed = client.inspect(&name).await.unwrap().unwrap();
    assert_eq!(observed.stamp, Some(stamp(1)));
    client.perform(&todo[1]).await.unwrap();
}

/// What the kinds of the reference application's collections differ in, by name.
#[tokio::test]
async fn what_needs_a_rebuild_is_refused_and_named() {
    let declared = schema(
        "vectors = { content = { size = 4, distance = 'Cosine' }, emotion = { size = 4, distance = 'Cosine' } }",
    );
    let kinds = [
        ("vectors = { size = 4, distance = 'Cosine' }", "vectors.content: missing"),
        ("vectors = { content = { size = 4, distance = 'Cosine' } }", "vectors.emotion: missing"),
        (
            "vectors = { content = { size = 4, distance = 'Dot' }, emotion = { size = 4, distance = 'Cosine' } }",
            "vectors.content.distance: Dot, declared Cosine",
        ),
        (
            "vectors = { content = { size = 8, distance = 'Cosine' }, emotion = { size = 4, distance = 'Cosine' } }",
            "vectors.content.size: 8, declared 4",
        ),
    ];
    for server in servers().await {
        for (kind, words) in kinds {
            if words == "vectors.emotion: missing" && server.version >= CREATE_VECTOR_NAME {
                continue;
            }
            let name = unique_name("kind");
            server.bring(&name, &schema(kind)).await;
            let before = server.observed(&name).await;
            let error =
                steps(&name, Some(&before), &declaration(&name, &declared), &stamp(2), server.version)
                    .unwrap_err();
            assert_eq!(error.code, ExitCode::Refused);
            assert!(error.to_string().contains(words) && error.to_string().contains(&name), "{error}");
            server.drop_collection(&name);
        }
        // Seven vectors where two are declared: the rest is kept.
        let name = unique_name("kind");
        let seven = ["content", "emotion", "c", "d", "e", "f", "g"]
            .map(|vector| format!("[vectors.{vector}]\nsize = 4\ndistance = 'Cosine'\n"));
        server.bring(&name, &schema(&seven.concat())).await;
        assert_eq!(server.bring(&name, &declared).await, []);
        server.drop_collection(&name);
    }
}

/// Proven only where `TANDEM_TEST_QDRANT_URL` names a server that can: older ones are told what they would need.
#[tokio::test]
async fn newer_servers_add_and_delete_vectors_in_place() {
    let base = "vectors = { a = { size = 2, distance = 'Dot' }, b = { size = 2, distance = 'Dot' } }\nsparse_vectors = { s = {} }";
    let more = schema(
        "vectors = { a = { size = 2 }, n = { size = 3, distance = 'Cosine', datatype = 'float16', on_disk = true, hnsw_config = { m = 8 } },
                     l = { size = 2, distance = 'Dot', multivector_config = {} } }
         sparse_vectors = { t = { modifier = 'idf', index = { on_disk = true } } }",
    );
    for server in servers().await {
        let name = unique_name("names");
        server.bring(&name, &schema(base)).await;
        server.add_points(&name);
        let before = server.observed(&name).await;
        if server.version < CREATE_VECTOR_NAME {
            let error = steps(&name, Some(&before), &declaration(&name, &more), &stamp(1), server.version);
            let text = error.unwrap_err().to_string();
            for words in
                ["vectors.n: missing", "vectors.l: missing", "sparse_vectors.t: missing", "from 1.18.0 on"]
            {
                assert!(text.contains(words), "{words}: {text}");
            }
            server.drop_collection(&name);
            continue;
        }
        server.bring(&name, &more).await;
        assert_eq!(server.count(&name), 3);

        let mut fewer =
            declaration(&name, &schema("vectors = { a = { size = 2 } }\nsparse_vectors = { s = {} }"));
        fewer.undeclared.drop_vectors = true;
        let observed = server.observed(&name).await;
        let todo = steps(&name, Some(&observed), &fewer, &stamp(1), server.version);
        if server.version < DELETE_VECTOR_NAME {
            assert!(todo.unwrap_err().to_string().contains("needs a rebuild"));
        } else {
            for step in todo.unwrap().iter().flat_map(|step| [step, step]) {
                server.client.perform(step).await.unwrap();
            }
            let left = server.observed(&name).await.schema;
            assert_eq!(left.vectors.keys().collect::<Vec<_>>(), ["a"]);
            assert_eq!(left.sparse_vectors.keys().collect::<Vec<_>>(), ["s"]);
            assert_eq!(server.count(&name), 3);
            assert_eq!(server.client.list_snapshots(&name).await.unwrap().len(), 4);
        }
        server.drop_collection(&name);
    }
}

#[tokio::test]
async fn a_shadow_is_never_taken_for_the_collection_itself() {
    for server in servers().await {
        let name = unique_name("shadow");
        let declared = schema("vectors = { a = { size = 2, distance = 'Dot' } }");
        server.bring(&name, &declared).await;
        let role = Role::Shadow { source: "memory".into(), phase: "copy".into() };
        let step =
            Step { collection: name.clone(), action: Action::Stamp { stamp: Stamp { role, ..stamp(1) } } };
        server.client.perform(&step).await.unwrap();
        let observed = server.observed(&name).await;
        let error = steps(&name, Some(&observed), &declaration(&name, &declared), &stamp(2), server.version);
        let error = error.unwrap_err();
        assert_eq!(error.code, ExitCode::Refused);
        assert!(error.found.contains("shadow of `memory`"), "{error}");
        server.drop_collection(&name);
    }
}

#[tokio::test]
async fn points_are_counted_exactly_whatever_the_strict_mode_allows() {
    for server in servers().await {
        let name = unique_name("count");
        let declared = schema(
            "vectors = { a = { size = 2, distance = 'Dot' }, b = { size = 2, distance = 'Dot' } }\nsparse_vectors = { s = {} }
             strict_mode_config = { enabled = true, search_allow_exact = false, max_query_limit = 2 }",
        );
        server.bring(&name, &declared).await;
        assert_eq!(server.client.count_points(&name).await.unwrap(), 0);
        server.add_points(&name);
        assert_eq!(server.client.count_points(&name).await.unwrap(), 3);
        server.drop_collection(&name);
    }
}

impl Server {
    fn rest(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let (status, text) = self.rest.rest(method, path, body).unwrap();
        assert_eq!(status, 200, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    fn drop_collection(&self, name: &str) {
        self.rest("DELETE", &format!("/collections/{name}"), "");
    }

    fn add_points(&self, name: &str) {
        let body = r#"{ "points": [
            { "id": 1, "vector": { "a": [1, 2], "b": [3, 4], "s": { "indices": [1], "values": [0.5] } }, "payload": { "k": "x", "n": 1.5 } },
            { "id": 2, "vector": { "a": [5, 6] }, "payload": { "k": 7 } },
            { "id": "550e8400-e29b-41d4-a716-446655440000", "vector": {}, "payload": null }
        ] }"#;
        self.rest("PUT", &format!("/collections/{name}/points?wait=true"), body);
    }

    fn count(&self, name: &str) -> u64 {
        let answer = self.rest("POST", &format!("/collections/{name}/points/count"), r#"{ "exact": true }"#);
        answer["result"]["count"].as_u64().unwrap()
    }
}

const FULL: &str = r#"
shard_number = 2
sharding_method = "auto"
replication_factor = 1
write_consistency_factor = 1
read_fan_out_factor = 1
on_disk_payload = false
hnsw_config = { m = 8, ef_construct = 64, full_scan_threshold = 500, max_indexing_threads = 2, on_disk = true, payload_m = 4, inline_storage = false }
quantization_config = { scalar = { type = "int8", quantile = 0.97, always_ram = true } }
wal_config = { wal_capacity_mb = 4, wal_segments_ahead = 1, wal_retain_closed = 2 }
metadata = { owner = "bot", n = 1, f = 1.5, deep = { a = [1, "x", true], b = {} } }
[optimizers_config]
deleted_threshold = 0.3
vacuum_min_vector_number = 500
default_segment_number = 3
max_segment_size = 30000
memmap_threshold = 40000
indexing_threshold = 25000
flush_interval_sec = 7
max_optimization_threads = 2
[strict_mode_config]
enabled = false
max_query_limit = 100
max_timeout = 60
unindexed_filtering_retrieve = true
unindexed_filtering_update = true
search_max_hnsw_ef = 512
search_allow_exact = true
search_max_oversampling = 2.1
upsert_max_batchsize = 1000
max_collection_vector_size_bytes = 1000000000
max_collection_payload_size_bytes = 1000000000
read_rate_limit = 10000
write_rate_limit = 10000
filter_max_conditions = 100
condition_max_size = 100
multivector_config = { colbert = { max_vectors = 100 } }
sparse_config = { words = { max_length = 1000 } }
max_points_count = 1000000
max_payload_index_count = 100
[vectors.content]
size = 8
distance = "Cosine"
on_disk = true
datatype = "float16"
hnsw_config = { m = 32, ef_construct = 256, full_scan_threshold = 20000, max_indexing_threads = 1, on_disk = false, payload_m = 8, inline_storage = true }
quantization_config = { product = { compression = "x16", always_ram = false } }
[vectors.colbert]
size = 4
distance = "Dot"
multivector_config = { comparator = "max_sim" }
hnsw_config = { m = 0 }
quantization_config = { binary = { always_ram = true, encoding = "two_bits", query_encoding = "scalar4bits" } }
[vectors.bytes]
size = 4
distance = "Manhattan"
datatype = "uint8"
[vectors.plain]
size = 4
distance = "Euclid"
datatype = "float32"
on_disk = false
quantization_config = "Disabled"
[sparse_vectors.words]
modifier = "idf"
index = { full_scan_threshold = 100, on_disk = true, datatype = "float16" }
[sparse_vectors.bare]
[payload_indexes]
k = "keyword"
k2 = { type = "keyword", is_tenant = true, on_disk = true }
k3 = { type = "keyword", is_tenant = false, on_disk = false }
i = "integer"
i2 = { type = "integer", lookup = true, range = false, is_principal = false, on_disk = true }
i3 = { type = "integer", range = true, lookup = true }
f = "float"
f2 = { type = "float", on_disk = true, is_principal = true }
g = "geo"
g2 = { type = "geo", on_disk = true }
b = "bool"
b2 = { type = "bool", on_disk = true }
d = "datetime"
d2 = { type = "datetime", on_disk = true, is_principal = true }
u = "uuid"
u2 = { type = "uuid", is_tenant = true, on_disk = true }
t = "text"
t2 = { type = "text", tokenizer = "multilingual", lowercase = false, ascii_folding = true, phrase_matching = true, min_token_len = 2, max_token_len = 20, on_disk = true, stopwords = { languages = ["german", "english"], custom = ["z", "a"] }, stemmer = { type = "snowball", language = "german" } }
t3 = { type = "text", tokenizer = "prefix", stopwords = "english" }
"nested.path" = "keyword"
"tags[].name" = "keyword"
"#;
