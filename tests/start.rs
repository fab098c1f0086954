//! A start on every kind of pair of stores, with the real binary and real servers.

mod common;

use common::World;

#[test]
fn an_empty_pair_is_brought_to_head_and_the_command_replaces_tandem() {
    let world = World::small();
    let outcome = world.start(&["echo", "the bot"]).expect(0);
    assert_eq!(outcome.stdout, "the bot\n");
    outcome.says(&["Checking database initialization", "Database initialization complete", "fresh"]);
    assert_eq!(
        world.query("select string_agg(version || ' ' || origin, ',' order by version) from tandem.ledger"),
        "1 applied,2 applied"
    );
    assert_eq!(world.query("select count(*)::text from notes"), "0");
    let info = world.collection_info().expect("the collection was created");
    assert_eq!(info["config"]["params"]["vectors"]["content"]["hnsw_config"]["m"], 24);
    assert_eq!(info["payload_schema"]["channel_id"]["data_type"], "keyword");
    assert_eq!(world.stamp()["version"], 2);
    assert_eq!(world.stamp()["lineage"], world.query("select lineage::text from tandem.state"));
}

#[test]
fn a_second_start_changes_nothing_and_takes_the_fast_path() {
    let world = World::small();
    world.start(&["true"]).expect(0);
    let (before, journal) = (world.state(), world.query("select count(*)::text from tandem.journal"));
    world.start(&["true"]).expect(0).says(&["unchanged since their last proof"]);
    assert_eq!(world.state(), before);
    assert_eq!(world.query("select count(*)::text from tandem.journal"), journal);
    assert_eq!(world.query("select count(*)::text from tandem.journal where ended is null"), "0");
}

#[test]
fn a_database_made_before_any_tool_is_stamped_on_the_evidence_and_upgraded() {
    let world = World::small();
    let first = std::fs::read_to_string(world.migrations.path().join("0001_users.up.sql")).unwrap();
    world.db.execute(&first);
    world.db.execute("insert into users (name) values ('Ada'), ('Grace'); create table mine (id int)");
    world.start(&["true"]).expect(0).says(&["legacy", "mine"]);
    assert_eq!(
        world.query("select string_agg(version || ' ' || origin, ',' order by version) from tandem.ledger"),
        "1 stamped,2 applied"
    );
    assert!(world.query("select evidence from tandem.ledger where version = 1").contains("objects compared"));
    assert_eq!(world.query("select string_agg(name, ',' order by name) from users"), "Ada,Grace");
}

#[test]
fn a_pending_version_is_applied_and_published() {
    let world = World::empty();
    world.small_timeline();
    world.without("0002");
    world.start(&["true"]).expect(0);
    assert_eq!(world.stamp()["version"], 1);
    world.small_timeline();
    world.record();
    world.start(&["true"]).expect(0).says(&["Applied version 2"]);
    assert_eq!(world.stamp()["version"], 2);
    assert_eq!(world.collection_info().unwrap()["payload_schema"]["channel_id"]["data_type"], "keyword");
}

#[test]
fn migrate_is_the_same_without_a_command() {
    let world = World::small();
    world.output(["migrate"]).expect(0).says(&["Database initialization complete"]);
    assert_eq!(world.stamp()["version"], 2);
}

#[test]
fn a_deployment_without_qdrant_says_so_and_starts() {
    let mut world = World::small();
    world.set("QDRANT_URL", "none");
    world.start(&["true"]).expect(0);
    assert!(world.collection_info().is_none());
    world.start(&["true"]).expect(0).says(&["unchanged since their last proof"]);
    assert_eq!(world.query("select count(*)::text from tandem.journal where ended is null"), "0");
}

#[test]
fn a_foreign_database_is_refused_and_left_alone() {
    let world = World::small();
    world.db.execute("create table orders (id int primary key)");
    let before = world.state();
    world.start(&["true"]).expect(76).says(&["foreign", "--install-beside"]);
    assert_eq!(world.state(), before);
    world.output(["migrate", "--install-beside"]).expect(0);
    assert_eq!(world.query("select count(*)::text from orders"), "0");
}

#[test]
fn a_database_with_a_changed_table_is_refused_with_the_nearest_version_and_the_difference() {
    let world = World::small();
    world.db.execute(
        "create table users (id bigint generated always as identity primary key, name integer not null)",
    );
    let before = world.state();
    world.start(&["true"]).expect(76).says(&["foreign", "0001_users".trim_start_matches("0001_"), "name"]);
    assert_eq!(world.state(), before);
}

#[test]
fn an_older_image_on_a_newer_database_starts_if_the_newer_versions_allow_it() {
    let world = World::small();
    world.start(&["true"]).expect(0);
    let before = world.state();
    world.without("0002");
    world.start(&["true"]).expect(0).says(&["ahead"]);
    assert_eq!(world.state(), before);
}

#[test]
fn an_older_image_is_refused_where_a_newer_version_shuts_it_out() {
    let world = World::empty();
    world.small_timeline();
    let toml = common::collection_toml("1.1.0", "user_id = \"keyword\"")
        .replace("compatible_from = 1", "compatible_from = 2");
    world.migrations.write("0002_notes.toml", &toml);
    world.record();
    world.start(&["true"]).expect(0);
    world.without("0002");
    world.start(&["true"]).expect(76).says(&["ahead", "newer image"]);
}

/// The newest rows decide: each version says for itself from which image on it can be run on.
#[test]
fn an_older_image_starts_exactly_from_the_version_that_every_newer_one_allows() {
    let world = World::small();
    let third = |from: i64| format!("compatible_from = {from}\n");
    world.version("0003_more", "alter table users add column nick text;\n", &third(2));
    world.record();
    world.start(&["true"]).expect(0);
    let state = world.state();
    world.without("0003");
    world.start(&["true"]).expect(0).says(&["ahead"]);
    world.without("0002");
    world
        .start(&["true"])
        .expect(76)
        .says(&["version 3 (more) no longer lets older ones run", "this image has 1"]);
    assert_eq!(world.state(), state);
}

#[test]
fn an_older_image_is_refused_where_the_collection_does_not_belong_to_the_newer_database() {
    let world = World::small();
    world.start(&["true"]).expect(0);
    world.without("0002");
    world.qdrant.rest("DELETE", &format!("/collections/{}", world.collection), "").unwrap();
    world.start(&["true"]).expect(76).says(&["skewed", "gone"]);
    assert!(world.collection_info().is_none());
}

#[test]
fn an_older_image_is_refused_where_the_catalog_is_not_the_stored_one() {
    let world = World::small();
    world.start(&["true"]).expect(0);
    world.db.execute("alter table notes drop column body");
    world.without("0002");
    world.start(&["true"]).expect(76).says(&["ahead", "body"]);
}

#[test]
fn a_catalog_that_lacks_something_of_its_version_is_completed_where_that_is_allowed() {
    let world = World::small();
    world.start(&["true"]).expect(0);
    world.db.execute("alter table notes drop column body");
    let before = world.state();
    let refused = world.output(["migrate", "--complete", "never"]).expect(76);
    let refused = refused.says(&["partial", "body", "--complete=auto"]);
    assert!(!refused.stderr.contains("ADD COLUMN"));
    world.output(["migrate", "--complete", "plan"]).expect(76).says(&["ADD COLUMN \"body\" text DEFAULT ''"]);
    assert_eq!(world.state(), before);
    world.start(&["true"]).expect(0).says(&["partial", "body", "Completed version 2"]);
    world.start(&["true"]).expect(0).says(&["unchanged since their last proof"]);
}

#[test]
fn objects_of_the_users_own_are_left_alone_at_head() {
    let world = World::small();
    world.start(&["true"]).expect(0);
    world.db.execute("create table mine (id int); alter table users add column nick text; create index mine_users on users (nick)");
    world.start(&["true"]).expect(0).says(&["of your own"]);
    world.start(&["true"]).expect(0).says(&["unchanged since their last proof"]);
}

#[test]
fn a_collection_of_another_lineage_is_skewed_until_adopted() {
    let world = World::small();
    world.start(&["true"]).expect(0);
    let other = local_servers::postgres().create_database("other");
    let mut second = World::on(other, world.qdrant.clone());
    second.small_timeline();
    second.record();
    second.collection.clone_from(&world.collection);
    second.set("QDRANT_COLLECTION_NAME", world.collection.clone());
    // Postgres is empty and the collection is stamped: a lost or exchanged volume.
    second.start(&["true"]).expect(76).says(&["skewed", "no ledger", "tandem adopt"]);
    assert_eq!(second.query("select count(*)::text from pg_class where relname = 'ledger'"), "0");
    second.output(["adopt"]).expect(0);
    assert_eq!(second.stamp()["lineage"], second.query("select lineage::text from tandem.state"));
    world.start(&["true"]).expect(76).says(&["skewed", "lineage"]);
}

/// Whatever version its stamp has: nothing has proven its points.
#[test]
fn a_shadow_under_a_managed_name_is_refused_at_head_behind_it_and_ahead() {
    let world = World::small();
    world.start(&["true"]).expect(0);
    let mut stamp = world.stamp();
    stamp["role"] = serde_json::json!({ "shadow": { "source": "memory", "phase": "copy" } });
    let collection = format!("/collections/{}", world.collection);
    let body = serde_json::json!({ "metadata": { "tandem": stamp } }).to_string();
    assert_eq!(world.qdrant.rest("PATCH", &collection, &body).unwrap().0, 200);
    let state = world.state();
    let refusal = ["is stamped as the shadow of `memory`", "stopped at `copy`"];
    world.start(&["echo", "started"]).expect(76).says(&refusal);
    world.output(["migrate"]).expect(76).says(&refusal);
    world.output(["verify"]).expect(76).says(&refusal);
    world.output(["adopt"]).expect(76).says(&refusal);
    world.output(["plan"]).expect(76).says(&refusal);
    let name = world.collection.clone();
    let validated = world.output(["validate", &name]).expect(2).stdout;
    assert!(validated.contains("the shadow of memory"), "{validated}");
    // An older image would start without changing anything.
    world.without("0002");
    world.start(&["echo", "started"]).expect(76).says(&refusal);
    assert_eq!(world.state(), state);
}

#[test]
fn a_published_collection_that_is_gone_is_skewed_and_never_made_anew_silently() {
    let world = World::small();
    world.start(&["true"]).expect(0);
    world.qdrant.rest("DELETE", &format!("/collections/{}", world.collection), "").unwrap();
    world.start(&["true"]).expect(76).says(&["skewed", "gone", "tandem adopt"]);
    assert!(world.collection_info().is_none());
    world.output(["adopt"]).expect(0);
    assert_eq!(world.stamp()["version"], 2);
    world.start(&["true"]).expect(0).says(&["unchanged since their last proof"]);
}

#[test]
fn an_unstamped_collection_beside_a_fresh_postgres_is_taken_over() {
    let world = World::small();
    let body = r#"{"vectors": {"content": {"size": 4, "distance": "Cosine"}}}"#;
    world.qdrant.rest("PUT", &format!("/collections/{}", world.collection), body).unwrap();
    let points =
        r#"{"points": [{"id": 7, "vector": {"content": [1, 2, 3, 4]}, "payload": {"user_id": "a"}}]}"#;
    world.qdrant.rest("PUT", &format!("/collections/{}/points?wait=true", world.collection), points).unwrap();
    world.start(&["true"]).expect(0).says(&["not stamped yet"]);
    let info = world.collection_info().unwrap();
    assert_eq!(info["points_count"], 1);
    assert_eq!(info["config"]["params"]["vectors"]["content"]["hnsw_config"]["m"], 24);
    assert_eq!(info["payload_schema"]["user_id"]["points"], 1);
}

#[test]
fn what_needs_new_vectors_is_refused_precisely_before_postgres_is_touched() {
    let world = World::small();
    let body = r#"{"vectors": {"content": {"size": 8, "distance": "Dot"}}}"#;
    let path = format!("/collections/{}", world.collection);
    world.qdrant.rest("PUT", &path, body).unwrap();
    let point = r#"{"points": [{"id": 7, "vector": {"content": [1, 2, 3, 4, 5, 6, 7, 8]}}]}"#;
    let (status, _) = world.qdrant.rest("PUT", &format!("{path}/points?wait=true"), point).unwrap();
    assert_eq!(status, 200);
    let before = world.state();
    world.start(&["true"]).expect(76).says(&["content", "size", "8", "4"]);
    assert_eq!(world.state(), before);
}

#[test]
fn two_timelines_in_one_database_do_not_touch_each_other() {
    let world = World::small();
    world.start(&["true"]).expect(0);
    let second = common::Dir::new();
    second.write("tandem.toml", "application = \"other\"\n");
    second.write("0001_orders.up.sql", "create table orders (id int primary key);\n");
    let directory = second.path().display().to_string();
    world.output(["record", "--migrations", &directory]).expect(0);
    let lineage = world.query("select lineage::text from tandem.state where timeline = 'demo'");
    world.output(["run", "--migrations", &directory, "--", "true"]).expect(0).says(&["fresh"]);
    world.start(&["true"]).expect(0);
    assert_eq!(
        world.query("select string_agg(timeline || version, ',' order by 1) from tandem.ledger"),
        "demo1,demo2,other1"
    );
    assert_eq!(world.query("select lineage::text from tandem.state where timeline = 'demo'"), lineage);
    world
        .output(["run", "--migrations", &directory, "--", "true"])
        .expect(0)
        .says(&["unchanged since their last proof"]);
}

#[test]
fn what_a_version_drops_or_converts_is_archived_in_its_transaction() {
    let world = World::empty();
    let first = "create table notes (id bigint primary key, body text, settings text);\ncreate table gone (id int primary key, word text);\n";
    world.version("0001_notes", first, "");
    world.version(
        "0002_leaner",
        "alter table notes drop column body;\nalter table notes alter column settings type jsonb using to_jsonb(settings);\n\
         drop table gone;\nupdate notes set settings = '{}' where settings is null;\n",
        "[[archive]]\ntable = \"notes\"\nwhere = \"settings is null\"\n\n[[archive]]\ntable = \"never_there\"\n",
    );
    world.record();
    world.db.execute(first);
    world.db.execute(
        "insert into notes values (1, 'kept', null), (2, null, 'dark'), (3, null, null); insert into gone values (7, 'so long')",
    );
    world.start(&["true"]).expect(0);
    let archived = "select string_agg(relation || ' ' || why || ' ' || row::text, E'\\n' order by why, row::text) from tandem.archive";
    assert_eq!(
        world.query(archived),
        "public.notes columns dropped or converted: body, settings; declared {\"id\":1,\"body\":\"kept\",\"settings\":null}\n\
         public.notes columns dropped or converted: body, settings; declared {\"id\":2,\"body\":null,\"settings\":\"dark\"}\n\
         public.notes columns dropped or converted: body, settings; declared {\"id\":3,\"body\":null,\"settings\":null}\n\
         public.gone table dropped {\"id\":7,\"word\":\"so long\"}"
    );
}
