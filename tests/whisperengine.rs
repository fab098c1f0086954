//! The application's whole timeline on real servers, from every state that its databases can be in.

mod common;

use common::World;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tandem::timeline::{self, Timeline, Version};

fn timeline(world: &World) -> Timeline {
    timeline::load(world.migrations.path(), &|_| None).unwrap()
}

/// Runs a version by hand, as a database has it that no tandem has seen.
fn by_hand(world: &World, version: &Version) {
    let up = version.up.as_ref().map_or("", |up| &up.text);
    world.db.execute(&format!("{up};\n{}", version.data.as_deref().unwrap_or("")));
}

/// The collection as v1.0.6 created it: three vectors, six payload indexes, a point.
fn v1_0_6_collection(world: &World) {
    let vector = |m: u32, more: &str| {
        format!(r#"{{"size": 384, "distance": "Cosine", "hnsw_config": {{"m": {m}, {more}}}}}"#)
    };
    let vectors = format!(
        r#"{{"content": {}, "emotion": {small}, "semantic": {small}}}"#,
        vector(32, r#""ef_construct": 256, "full_scan_threshold": 20000"#),
        small = vector(16, r#""ef_construct": 128"#),
    );
    let put = |path: &str, body: &str| {
        let path = format!("/collections/{}{path}", world.collection);
        let (status, answer) = world.qdrant.rest("PUT", &path, body).unwrap();
        assert_eq!(status, 200, "{answer}");
    };
    put(
        "",
        &format!(
            r#"{{"vectors": {vectors}, "optimizers_config": {{"deleted_threshold": 0.2, "default_segment_number": 2}}}}"#
        ),
    );
    for (field, schema) in [
        ("user_id", "keyword"),
        ("memory_type", "keyword"),
        ("timestamp_unix", "float"),
        ("semantic_key", "keyword"),
        ("emotional_context", "keyword"),
        ("content_hash", "integer"),
    ] {
        put("/index?wait=true", &format!(r#"{{"field_name": "{field}", "field_schema": "{schema}"}}"#));
    }
    let vector = format!("[{}]", vec!["0.05"; 384].join(","));
    put(
        "/points?wait=true",
        &format!(
            r#"{{"points": [{{"id": 7, "vector": {{"content": {vector}, "emotion": {vector}, "semantic": {vector}}},
               "payload": {{"user_id": "a", "channel_id": "c", "timestamp_unix": 1.5}}}}]}}"#
        ),
    );
}

/// What a pair at head has, wherever it came from.
fn is_at_head(world: &World, head: i64) {
    assert_eq!(world.query("select max(version)::text from tandem.ledger"), head.to_string());
    let assistant = |table: &str| {
        world.query(&format!(
            "select count(*)::text from {table} t join characters c on c.id = t.character_id where c.normalized_name = 'assistant'"
        ))
    };
    assert_eq!(
        ["personality_traits", "communication_styles", "character_values"].map(assistant),
        ["5", "1", "3"]
    );
    let info = world.collection_info().unwrap();
    let indexes = info["payload_schema"].as_object().unwrap();
    assert_eq!(indexes.len(), 8, "{indexes:?}");
    assert_eq!(indexes["channel_id"]["data_type"], "keyword");
    assert_eq!(info["config"]["params"]["vectors"]["content"]["hnsw_config"]["m"], 32);
    assert_eq!(world.stamp()["version"], head);
    world.start(&["true"]).expect(0).says(&["unchanged since their last proof"]);
}

/// The digest of the catalog that was proven for the newest version.
fn catalog(world: &World) -> String {
    world.query("select catalog_digest from tandem.ledger order by version desc limit 1")
}

#[test]
fn a_fresh_pair_is_installed_whole_and_step_by_step_alike() {
    let whole = World::whisperengine();
    let head = timeline(&whole).head().unwrap().number;
    whole.start(&["true"]).expect(0).says(&["fresh"]);
    is_at_head(&whole, head);

    let growing = World::whisperengine();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(growing.migrations.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if let Some(number) = name.split('_').next().and_then(|n| n.parse::<i64>().ok()) {
            files.push((number, name, std::fs::read_to_string(&path).unwrap()));
            std::fs::remove_file(path).unwrap();
        }
    }
    for number in 1..=head {
        for (_, name, text) in files.iter().filter(|(n, _, _)| *n == number) {
            growing.migrations.write(name, text);
        }
        growing.start(&["true"]).expect(0).says(&[&format!("Applied version {number} ")]);
        assert_eq!(growing.stamp()["version"], number);
    }
    is_at_head(&growing, head);
    assert_eq!(catalog(&growing), catalog(&whole));
}

#[test]
fn v1_0_6_with_rows_and_memories_is_proven_stamped_and_upgraded() {
    let world = World::whisperengine();
    let timeline = timeline(&world);
    by_hand(&world, &timeline.versions[0]);
    world.db.execute(
        "insert into users (user_id, username, preferences) values ('1', 'ada', '{}'), ('2', 'grace', 'likes tea');
         insert into universal_users (universal_id, primary_username, preferences) values ('u1', 'ada', '{\"language\": \"en\"}'), ('u2', 'grace', 'likes tea');
         insert into characters (name, normalized_name, occupation, description, archetype) values ('Zoë', 'zoe', 'Baker', 'Bakes.', 'real_world');
         insert into personality_traits (character_id, trait_name, trait_value) select id, 'openness', 0.7 from characters where normalized_name = 'zoe';
         create table alembic_version (version_num varchar(32) primary key);
         create table mine (id int);",
    );
    v1_0_6_collection(&world);
    world.start(&["true"]).expect(0).says(&[
        "adopted",
        "alembic_version (Alembic) is empty",
        "baseline_v1_0_6",
        "mine",
        "Stamped 1 version",
    ]);
    assert_eq!(
        world.query("select string_agg(origin, ',' order by version) from tandem.ledger"),
        format!("adopted{}", ",applied".repeat(timeline.versions.len() - 1))
    );
    is_at_head(&world, timeline.head().unwrap().number);
    assert_eq!(world.query("select string_agg(username, ',' order by user_id) from users"), "ada,grace");
    assert_eq!(
        world.query("select string_agg(preferences::text, ' ' order by universal_id) from universal_users"),
        r#"{"language": "en"} {"unparsed": "likes tea"}"#
    );
    assert_eq!(
        world.query("select string_agg(normalized_name, ',' order by id) from characters"),
        "assistant,zoe"
    );
    assert_eq!(world.query("select trait_value::text from personality_traits t join characters c on c.id = character_id where normalized_name = 'zoe'"), "0.70");
    let info = world.collection_info().unwrap();
    assert_eq!(info["points_count"], 1);
    assert_eq!(info["payload_schema"]["channel_id"]["points"], 1);
}

#[test]
fn a_database_at_any_version_without_a_ledger_is_proven_to_be_at_it() {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let world = World::whisperengine();
                    let timeline = timeline(&world);
                    let at = next.fetch_add(1, SeqCst);
                    let Some(version) = timeline.versions.get(at) else { return };
                    timeline.versions[..=at].iter().for_each(|version| by_hand(&world, version));
                    // 0011 changes Qdrant only: Postgres is as it should be for both.
                    let proven = if version.number == 10 { 11 } else { version.number };
                    let stamped = format!("Stamped {} version{}", proven, if proven == 1 { "" } else { "s" });
                    world.start(&["true"]).expect(0).says(&["legacy", &stamped]);
                    is_at_head(&world, timeline.head().unwrap().number);
                }
            });
        }
    });
    assert!(next.load(SeqCst) >= 14);
}
