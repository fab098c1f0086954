//! `match` as a pattern with `--all-collections`: over real names and aliases, each real collection once, shadows never.

mod common;

use common::World;
use local_servers::{Qdrant, QdrantVersion};
use serde_json::{Value, json};
use tandem::collection::SHADOW_PREFIX;

fn world(version: QdrantVersion) -> World {
    let db = local_servers::postgres().create_database("patterns");
    let world = World::on(db, Qdrant::shared(version).unwrap());
    let toml = "compatible_from = 1\n[[collection]]\nmatch = \"${QDRANT_COLLECTION_NAME}*\"\n\
                [collection.payload_indexes]\nuser_id = \"keyword\"\n";
    world.version("0001_users", "create table users (id bigint primary key);", toml);
    world.record();
    world
}

/// Collections of one test, gone at its end.
struct Collections<'a> {
    world: &'a World,
    names: Vec<String>,
}

impl<'a> Collections<'a> {
    /// Each with one point.
    fn new(world: &'a World, names: &[String]) -> Self {
        let collection = json!({ "vectors": { "a": { "size": 2, "distance": "Dot" } } });
        let points =
            json!({ "points": [{ "id": 1, "vector": { "a": [1, 2] }, "payload": { "user_id": "u" } }] });
        for name in names {
            call(world, "PUT", &format!("/collections/{name}"), &collection);
            call(world, "PUT", &format!("/collections/{name}/points?wait=true"), &points);
        }
        Self { world, names: names.to_vec() }
    }

    fn info(&self, i: usize) -> Value {
        call(self.world, "GET", &format!("/collections/{}", self.names[i]), &json!({}))
    }

    /// Stamped and indexed, with its point.
    fn is_managed(&self, i: usize) -> bool {
        let info = self.info(i);
        assert_eq!(info["points_count"], 1);
        let (stamp, index) = (&info["config"]["metadata"]["tandem"], &info["payload_schema"]["user_id"]);
        assert_eq!(stamp.is_object(), index.is_object(), "{info}");
        stamp.is_object()
    }
}

impl Drop for Collections<'_> {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = self.world.qdrant.rest("DELETE", &format!("/collections/{name}"), "");
        }
    }
}

fn call(world: &World, method: &str, path: &str, body: &Value) -> Value {
    let (status, text) = world.qdrant.rest(method, path, &body.to_string()).unwrap();
    assert_eq!(status, 200, "{method} {path}: {text}");
    serde_json::from_str::<Value>(&text).unwrap()["result"].take()
}

fn alias(world: &World, alias: &str, to: &str) {
    let action = json!({ "create_alias": { "collection_name": to, "alias_name": alias } });
    call(world, "POST", "/collections/aliases", &json!({ "actions": [action] }));
}

#[test]
fn a_pattern_covers_each_real_collection_once_and_no_shadow() {
    for version in QdrantVersion::ALL {
        let world = world(version);
        let own = &world.collection;
        let all = Collections::new(
            &world,
            &[
                own.clone(),
                format!("{own}_ingrid_7d"),
                format!("elsewhere_{own}"),
                format!("not_{own}"),
                format!("{SHADOW_PREFIX}{own}_1"),
                format!("{SHADOW_PREFIX}{own}_2"),
            ],
        );
        // Found twice, by alias only, not at all, and a shadow that a switch has made the live collection.
        alias(&world, &format!("{own}_ingrid"), &all.names[1]);
        alias(&world, &format!("{own}_by_alias"), &all.names[2]);
        alias(&world, &format!("{own}_switched"), &all.names[5]);

        world.output(["migrate"]).expect(78).says(&["--all-collections", own]);
        assert!((0..6).all(|i| !all.is_managed(i)));

        let planned: Value =
            serde_json::from_str(&world.output(["plan", "--json", "--all-collections"]).expect(0).stdout)
                .unwrap();
        let mut names: Vec<&str> =
            planned["collections"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        let mut wanted = [&all.names[0], &all.names[1], &all.names[2], &all.names[5]];
        wanted.sort_unstable();
        assert_eq!(names, wanted);

        world.output(["migrate", "--all-collections"]).expect(0);
        assert_eq!(
            (0..6).map(|i| all.is_managed(i)).collect::<Vec<_>>(),
            [true, true, true, false, false, true]
        );
        world.output(["verify", "--all-collections"]).expect(0);
        let again = world.output(["migrate", "--all-collections"]).expect(0);
        assert!(again.stderr.contains("unchanged since their last proof"), "{}", again.stderr);
    }
}

#[test]
fn a_pattern_rebuilds_each_real_collection_once_and_no_shadow() {
    for version in QdrantVersion::ALL {
        let world = world(version);
        let own = world.collection.clone();
        let all =
            Collections::new(&world, &[own.clone(), format!("{own}_ingrid_7d"), format!("elsewhere_{own}")]);
        alias(&world, &format!("{own}_ingrid"), &all.names[1]);
        alias(&world, &format!("{own}_by_alias"), &all.names[2]);
        let toml = std::fs::read_to_string(world.migrations.path().join("0001_users.toml")).unwrap();
        let toml = format!("{toml}[collection.vectors]\nb = {{ size = 2, distance = \"Dot\" }}\n");
        world.migrations.write("0001_users.toml", &toml);
        world.pretend_recorded();
        world.output(["migrate", "--all-collections"]).expect(0);
        // By its own name where the pattern has that, and behind the alias that is all the pattern has.
        let copy = |name: &str| format!("{SHADOW_PREFIX}{name}_1");
        let shadows = Collections { world: &world, names: all.names.iter().map(|name| copy(name)).collect() };
        let by_alias = call(&world, "GET", &format!("/collections/{own}_by_alias"), &json!({}));
        for info in [all.info(0), all.info(1), by_alias] {
            assert_eq!(info["config"]["metadata"]["tandem"]["role"], "live");
            assert!(info["config"]["params"]["vectors"]["b"].is_object(), "{info}");
            assert_eq!(info["points_count"], 1);
        }
        assert!(
            all.info(2)["config"]["params"]["vectors"]["b"].is_null(),
            "what an alias led to is kept as it was"
        );
        let real = |info: &Value| {
            info["result"]["collections"]
                .as_array()
                .unwrap()
                .iter()
                .map(|c| c["name"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let (_, listed) = world.qdrant.rest("GET", "/collections", "").unwrap();
        let made: Vec<String> = real(&serde_json::from_str(&listed).unwrap())
            .into_iter()
            .filter(|name| name.contains(&own))
            .collect();
        assert_eq!(made.len(), 6, "{made:?}");
        world.output(["verify", "--all-collections"]).expect(0);
        let again = world.output(["migrate", "--all-collections"]).expect(0);
        assert!(again.stderr.contains("unchanged since their last proof"), "{}", again.stderr);
        drop(shadows);
    }
}

#[test]
fn a_collection_that_appears_later_is_brought_to_head_by_the_next_run() {
    for version in QdrantVersion::ALL {
        let world = world(version);
        let first = Collections::new(&world, &[format!("{}_a", world.collection)]);
        world.output(["migrate", "--all-collections"]).expect(0);
        let later = Collections::new(&world, &[format!("{}_b", world.collection)]);
        world.output(["verify", "--all-collections"]).expect(2);
        world.output(["migrate", "--all-collections"]).expect(0);
        assert!(first.is_managed(0) && later.is_managed(0));
    }
}

#[test]
fn a_name_that_is_an_alias_is_the_collection_behind_it() {
    for version in QdrantVersion::ALL {
        let world = world(version);
        let toml = "compatible_from = 1\n[[collection]]\nmatch = \"${QDRANT_COLLECTION_NAME}\"\n\
                    ensure = [\"${QDRANT_COLLECTION_NAME}\"]\n[collection.vectors]\na = { size = 2, distance = 'Dot' }\n\
                    [collection.payload_indexes]\nuser_id = \"keyword\"\n";
        world.version("0001_users", "create table users (id bigint primary key);", toml);
        world.record();
        let all = Collections::new(&world, &[format!("{}_7d", world.collection)]);
        alias(&world, &world.collection, &all.names[0]);
        world.output(["migrate"]).expect(0);
        assert!(all.is_managed(0));
        world.output(["verify"]).expect(0);
        let aliases = call(&world, "GET", &format!("/collections/{}/aliases", all.names[0]), &json!({}));
        assert_eq!(aliases["aliases"][0]["alias_name"], json!(world.collection));
    }
}

#[test]
fn declared_aliases_are_led_to_the_collection_and_led_back() {
    for version in QdrantVersion::ALL {
        let world = world(version);
        let own = world.collection.clone();
        let (new, moved) = (format!("{own}_new"), format!("{own}_moved"));
        let toml = format!(
            "compatible_from = 1\n[[collection]]\nmatch = \"{own}\"\nensure = [\"{own}\"]\naliases = [\"{new}\", \"{moved}\"]\n\
             [collection.vectors]\na = {{ size = 2, distance = 'Dot' }}\n"
        );
        world.version("0001_users", "create table users (id bigint primary key);", &toml);
        world.record();
        let elsewhere = Collections::new(&world, &[format!("{own}_elsewhere")]);
        alias(&world, &moved, &elsewhere.names[0]);
        alias(&world, &format!("{own}_own_use"), &elsewhere.names[0]);
        // The collection does not exist yet.
        world.output(["migrate"]).expect(0).says(&[&format!("let the alias {new} lead to it")]);
        let aliases = || {
            let answer = call(&world, "GET", &format!("/collections/{own}/aliases"), &json!({}));
            let aliases = answer["aliases"].as_array().unwrap().iter();
            let mut names: Vec<String> =
                aliases.map(|alias| alias["alias_name"].as_str().unwrap().to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(aliases(), [moved.clone(), new.clone()]);
        world.output(["migrate"]).expect(0).says(&["unchanged since their last proof"]);
        world.output(["validate", &own]).expect(0);
        // Somebody leads one elsewhere: no start at head overlooks it, and one that nobody declared stays.
        alias(&world, &new, &elsewhere.names[0]);
        alias(&world, &format!("{own}_also"), &own);
        world.output(["validate", &own]).expect(2);
        world.output(["plan", "--exit-code"]).expect(2);
        world.output(["migrate"]).expect(0);
        assert_eq!(aliases(), [format!("{own}_also"), moved, new]);
        world.output(["verify"]).expect(0);
    }
}

#[test]
fn an_alias_that_is_a_collection_is_refused_before_anything_is_changed() {
    for version in QdrantVersion::ALL {
        let world = world(version);
        let own = world.collection.clone();
        let taken = Collections::new(&world, &[format!("{own}_taken")]);
        let toml = format!(
            "compatible_from = 1\n[[collection]]\nmatch = \"{own}\"\nensure = [\"{own}\"]\naliases = [\"{own}_taken\"]\n\
             [collection.vectors]\na = {{ size = 2, distance = 'Dot' }}\n"
        );
        world.version("0001_users", "create table users (id bigint primary key);", &toml);
        world.record();
        let state = world.state();
        world.output(["migrate"]).expect(76).says(&["is declared as an alias of", "and is a collection"]);
        assert_eq!(world.state(), state);
        assert_eq!(taken.info(0)["points_count"], 1);
    }
}
