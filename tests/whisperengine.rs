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

/// One JSON value from the database.
fn json(world: &World, sql: &str) -> serde_json::Value {
    serde_json::from_str(
        &world.query(&format!("select coalesce(json_agg(row_to_json(t)), '[]')::text from ({sql}) t")),
    )
    .unwrap()
}

#[test]
fn what_the_original_drops_moves_to_the_tables_that_replaced_it_and_is_archived_whole() {
    let mut world = World::whisperengine();
    world.set("QDRANT_URL", "none");
    by_hand(&world, &timeline(&world).versions[0]);
    let guidance = r#"{"warm_welcome": {"energy": "high", "approach": "be kind", "transition_style": "soft", "avoid": ["haste", "irony"], "encourage": ["calm"], "examples": ["Hello!", "Hi."]},
        "general": {"default_energy": "low", "conversation_style": "open", "transition_approach": "slow", "response_patterns": {"avoid": ["noise"], "encourage": ["questions"], "examples": {"greeting": "Good day"}}},
        "response_style": {"core_principles": ["be brief", "be true"], "formatting_rules": ["no lists"]},
        "platform_awareness": {"discord": "yes"}}"#;
    let handling = r#"{"allow_full_roleplay_immersion": true, "philosophy": "honest", "approach": "open",
        "roleplay_interaction_scenarios": {"hug": {"trigger_detection": "hugs", "response_pattern": "three_tier", "tier_1_response": "a", "tier_2_response": "b", "tier_3_response": "c"}}}"#;
    world.db.execute(&format!(
        "insert into characters (id, name, normalized_name) values (700, 'Ada', 'ada'), (701, 'Grace', 'grace');
         insert into communication_styles (id, character_id, conversation_flow_guidance, ai_identity_handling) values
           (700, 700, '{guidance}', '{handling}'), (701, 701, 'plain words', '{{broken');
         insert into character_emotional_triggers_v2 (id, character_id, trigger_text, valence, emotion_evoked, intensity, response_guidance) values
           (1, 700, 'spiders', 'negative', 'fear', 9, 'stay calm');
         insert into character_roleplay_scenarios_v2 (id, character_id, scenario_name, response_pattern, tier_1_response) values (1, 700, 'picnic', 'p', 'one');
         insert into character_scenario_triggers_v2 (id, scenario_id, trigger_phrase, display_order) values (1, 1, 'second', 2), (2, 1, 'first', 1);
         insert into universal_users (universal_id, primary_username, preferences) values
           ('a', 'a', '{{\"b\": 1,  \"a\": 2}}'), ('b', 'b', ''), ('c', 'c', 'None'), ('d', 'd', null), ('e', 'e', '{{}}');"
    ));
    world.start(&["true"]).expect(0);
    let ada = |sql: &str| json(&world, sql);
    for (sql, wanted) in [
        (
            "select mode_name, energy_level, approach, transition_style from character_conversation_modes where character_id = 700",
            r#"[{"mode_name": "warm_welcome", "energy_level": "high", "approach": "be kind", "transition_style": "soft"}]"#,
        ),
        (
            "select guidance_type, guidance_text, sort_order from character_mode_guidance g join character_conversation_modes m on m.id = g.mode_id where character_id = 700 order by 1, 3",
            r#"[{"guidance_type": "avoid", "guidance_text": "haste", "sort_order": 1}, {"guidance_type": "avoid", "guidance_text": "irony", "sort_order": 2},
                {"guidance_type": "encourage", "guidance_text": "calm", "sort_order": 1}]"#,
        ),
        (
            "select example_text, sort_order from character_mode_examples order by 2",
            r#"[{"example_text": "Hello!", "sort_order": 1}, {"example_text": "Hi.", "sort_order": 2}]"#,
        ),
        (
            "select default_energy, conversation_style, transition_approach from character_general_conversation where character_id = 700",
            r#"[{"default_energy": "low", "conversation_style": "open", "transition_approach": "slow"}]"#,
        ),
        (
            "select pattern_name, pattern_description from character_response_patterns order by 1",
            r#"[{"pattern_name": "avoid", "pattern_description": "noise"}, {"pattern_name": "encourage", "pattern_description": "questions"},
                {"pattern_name": "greeting", "pattern_description": "Good day"}]"#,
        ),
        (
            "select item_type, item_text, sort_order from character_response_style_items order by 1, 3",
            r#"[{"item_type": "core_principles", "item_text": "be brief", "sort_order": 1}, {"item_type": "core_principles", "item_text": "be true", "sort_order": 2},
                {"item_type": "formatting_rules", "item_text": "no lists", "sort_order": 1}]"#,
        ),
        (
            "select allow_full_roleplay_immersion, philosophy, strategy from character_roleplay_config where character_id = 700",
            r#"[{"allow_full_roleplay_immersion": true, "philosophy": "honest", "strategy": "open"}]"#,
        ),
        (
            "select scenario_name, trigger_phrases, response_pattern, tier_1_response, tier_2_response, tier_3_response from character_ai_scenarios where character_id = 700 order by 1",
            r#"[{"scenario_name": "hug", "trigger_phrases": "hugs", "response_pattern": "three_tier", "tier_1_response": "a", "tier_2_response": "b", "tier_3_response": "c"},
                {"scenario_name": "picnic", "trigger_phrases": "first, second", "response_pattern": "p", "tier_1_response": "one", "tier_2_response": null, "tier_3_response": null}]"#,
        ),
        (
            "select trigger_type, trigger_category, trigger_content, emotional_response, response_intensity from character_emotional_triggers where character_id = 700",
            r#"[{"trigger_type": "fear", "trigger_category": "negative", "trigger_content": "spiders", "emotional_response": "stay calm", "response_intensity": "high"}]"#,
        ),
        (
            "select universal_id, preferences from universal_users order by 1",
            r#"[{"universal_id": "a", "preferences": {"a": 2, "b": 1}}, {"universal_id": "b", "preferences": {}},
                {"universal_id": "c", "preferences": {"unparsed": "None"}}, {"universal_id": "d", "preferences": null}, {"universal_id": "e", "preferences": {}}]"#,
        ),
        (
            "select row ->> 'universal_id' as id, row ->> 'preferences' as kept from tandem.archive where relation = 'public.universal_users' and row ->> 'preferences' <> '{}' order by 1",
            r#"[{"id": "a", "kept": "{\"b\": 1,  \"a\": 2}"}, {"id": "b", "kept": ""}, {"id": "c", "kept": "None"}]"#,
        ),
        (
            "select version, count(*)::int as rows from tandem.archive where relation in ('public.character_emotional_triggers_v2', 'public.character_roleplay_scenarios_v2', 'public.character_scenario_triggers_v2') group by 1",
            r#"[{"version": 4, "rows": 4}]"#,
        ),
    ] {
        assert_eq!(ada(sql), serde_json::from_str::<serde_json::Value>(wanted).unwrap(), "{sql}");
    }
    for (column, values) in [
        ("conversation_flow_guidance", [guidance, "plain words"]),
        ("ai_identity_handling", [handling, "{broken"]),
    ] {
        for (id, value) in [(700, values[0]), (701, values[1])] {
            let kept = format!(
                "select count(*)::text from tandem.archive where relation = 'public.communication_styles' and row ->> 'id' = '{id}' and row ->> '{column}' = '{value}'"
            );
            assert_ne!(world.query(&kept), "0", "{column} of {id} is in the archive, whole");
        }
    }
}

#[test]
fn incomplete_emotional_states_are_converted_by_the_stated_rule_and_kept() {
    let mut world = World::whisperengine();
    world.set("QDRANT_URL", "none");
    for version in timeline(&world).versions.iter().filter(|version| version.number <= 12) {
        by_hand(&world, version);
    }
    world.db.execute(
        r#"insert into character_emotional_states (character_name, user_id, state_data) values
           ('elena', 'whole', '{"enthusiasm": 0.5, "stress": 2, "empathy": 0.4, "confidence": 0.3, "contentment": 0.9, "total_interactions": 7}'),
           ('elena', 'none', '{}'), ('elena', 'words', '{"stress": "high", "total_interactions": "many"}'), ('elena', 'list', '[1]'),
           ('elena', 'odd', '{"total_interactions": -3.9, "enthusiasm": -1}');"#,
    );
    let before =
        json(&world, "select id, user_id, state_data from character_emotional_states order by user_id");
    world.start(&["true"]).expect(0);
    let states = json(
        &world,
        "select user_id, round(joy::numeric, 4) as joy, round(anger::numeric, 4) as anger, round(fear::numeric, 4) as fear, round(love::numeric, 4) as love, \
         round(optimism::numeric, 4) as optimism, round(pessimism::numeric, 4) as pessimism, round(sadness::numeric, 4) as sadness, total_interactions \
         from character_emotional_states order by user_id",
    );
    let default = |user: &str| serde_json::json!({"user_id": user, "joy": 0.7, "anger": 0.1, "fear": 0.15, "love": 0.6, "optimism": 0.65, "pessimism": 0.2, "sadness": 0.15, "total_interactions": 0});
    let mut odd = default("odd");
    odd["joy"] = serde_json::json!(0.0);
    let whole = serde_json::json!({"user_id": "whole", "joy": 0.5, "anger": 0.6, "fear": 0.8, "love": 0.4, "optimism": 0.4, "pessimism": 0.7, "sadness": 0.1, "total_interactions": 7});
    let rounded = |value: &serde_json::Value| {
        let mut value = value.clone();
        for cell in value.as_object_mut().unwrap().values_mut() {
            if let Some(number) = cell.as_f64() {
                *cell = serde_json::json!((number * 1000.0).round() / 1000.0);
            }
        }
        value
    };
    let found: Vec<_> = states.as_array().unwrap().iter().map(rounded).collect();
    let wanted = [default("list"), default("none"), odd, whole, default("words")];
    assert_eq!(found, wanted.iter().map(rounded).collect::<Vec<_>>());
    let kept = json(
        &world,
        "select (row ->> 'id')::int as id, row ->> 'user_id' as user_id, (row ->> 'state_data')::json as state_data \
         from tandem.archive where version = 13 order by 2",
    );
    assert_eq!(kept, before);
}

#[test]
fn the_timeline_of_an_older_image_is_refused_on_a_newer_database_of_the_originals() {
    let mut world = World::whisperengine();
    world.set("QDRANT_URL", "none");
    let timeline = timeline(&world);
    timeline.versions.iter().for_each(|version| by_hand(&world, version));
    world.db.execute("create table alembic_version (version_num varchar(32) primary key); insert into alembic_version values ('954245770def')");
    let before = world.state();
    for name in ["0013", "0014"] {
        world.without(name);
    }
    world.start(&["true"]).expect(76).says(&["foreign", "character_emotional_states.state_data"]);
    assert_eq!(world.state(), before);
}
