//! The states, as data: a catalog, what ledgers say, and what is expected.

use crate::observed;
use std::collections::BTreeSet;
use std::path::Path;
use tandem::catalog::render::render;
use tandem::catalog::{Catalog, Detail, Expected, Kind, ObjectId};
use tandem::timeline::{Number, Timeline};

/// What the timeline says.
pub struct Facts {
    pub expected: Expected,
    pub head: Number,
    /// Every object of any version.
    pub everything: BTreeSet<ObjectId>,
}

impl Facts {
    pub fn load() -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let timeline: Timeline = tandem::timeline::load(&directory, &|_| None).unwrap();
        let expected = Expected::load(&directory.join("catalog")).unwrap().permit(&timeline);
        let added =
            expected.effects.values().flat_map(|effects| effects.added.iter().map(|(id, _)| id.clone()));
        let everything = expected.baseline.objects.keys().cloned().chain(added).collect();
        Self { head: timeline.head().unwrap().number, expected, everything }
    }

    pub fn at(&self, number: Number) -> Catalog {
        self.expected.catalog_at(number).unwrap()
    }

    /// As it was observed, with the functions' bodies and the views from the timeline.
    fn observed(&self, name: &str) -> Catalog {
        let head = self.at(self.head);
        let mut catalog = observed::state(name, &head);
        for (id, object) in &mut catalog.objects {
            object.comment = head.objects.get(id).and_then(|known| known.comment.clone());
        }
        catalog
    }

    /// A catalog with the constraints that its tables have in the end, for rows that will fit them.
    pub fn constrained(&self, catalog: &Catalog) -> Catalog {
        let mut catalog = catalog.clone();
        let tables: BTreeSet<String> = catalog
            .objects
            .keys()
            .filter(|id| id.kind == Kind::Table)
            .map(|id| id.relation.clone())
            .collect();
        let constraints = self.at(1).objects.into_iter().filter(|(id, object)| match &object.detail {
            Detail::Constraint(constraint) => {
                let target =
                    constraint.definition.split_once(" REFERENCES public.").map(|(_, target)| target);
                tables.contains(&id.relation)
                    && target
                        .is_none_or(|target| tables.contains(target.split('(').next().unwrap_or_default()))
            }
            _ => false,
        });
        for (id, object) in constraints.collect::<Vec<_>>() {
            catalog.objects.entry(id).or_insert(object);
        }
        catalog
    }
}

/// What a start makes of a state.
pub enum Expect {
    /// The head, on a finding that begins like this.
    Head(&'static str),
    /// A refusal that says all of this.
    Refused(i32, &'static [&'static str]),
}

pub struct State {
    pub name: &'static str,
    /// What the original's own start makes of it, in words.
    pub original: &'static str,
    pub catalog: fn(&Facts) -> Catalog,
    /// Rows of `alembic_version`; `None` where there is no such table.
    pub alembic: Option<&'static [&'static str]>,
    /// Rows of the start script's file ledger.
    pub files: Option<&'static [&'static str]>,
    /// SQL at the end.
    pub then: &'static str,
    /// Whether the tables get rows.
    pub rows: bool,
    /// Whether a reader sits in a transaction on `characters` until the start has met its lock.
    pub reader: bool,
    /// Whether the start has only a role that may read and write rows.
    pub rows_only: bool,
    pub expect: Expect,
    /// The statement that the refusal names as the way out, after which the same start reaches the head.
    pub way_out: &'static str,
}

const FILES: Option<&[&str]> = Some(&["00_init.sql", "01_seed_data.sql"]);

/// Everything is kept in another schema, and the versions begin on an empty one.
const BEGIN_ANEW: &str = "alter schema public rename to public_before; create schema public";

impl State {
    /// A database with rows and no ledger.
    fn new(
        name: &'static str,
        original: &'static str,
        catalog: fn(&Facts) -> Catalog,
        expect: Expect,
    ) -> Self {
        Self {
            name,
            original,
            catalog,
            alembic: None,
            files: None,
            then: "",
            rows: true,
            reader: false,
            rows_only: false,
            expect,
            way_out: "",
        }
    }

    fn with_reader(self) -> Self {
        Self { reader: true, ..self }
    }

    fn with_rows_only(self) -> Self {
        Self { rows_only: true, ..self }
    }

    fn way_out(self, sql: &'static str) -> Self {
        Self { way_out: sql, ..self }
    }

    fn alembic(self, rows: &'static [&'static str]) -> Self {
        Self { alembic: Some(rows), files: FILES, ..self }
    }

    fn files(self) -> Self {
        Self { files: FILES, ..self }
    }

    fn without_files(self) -> Self {
        Self { files: None, ..self }
    }

    fn file(self, rows: &'static [&'static str]) -> Self {
        Self { files: Some(rows), ..self }
    }

    fn then(self, sql: &'static str) -> Self {
        Self { then: sql, ..self }
    }

    fn empty(self) -> Self {
        Self { rows: false, ..self }
    }
}

fn baseline(facts: &Facts) -> Catalog {
    facts.at(1)
}

fn head(facts: &Facts) -> Catalog {
    facts.at(facts.head)
}

fn nothing(_: &Facts) -> Catalog {
    Catalog::default()
}

/// As a release from v1.0.32 on creates it.
fn newer_head(facts: &Facts) -> Catalog {
    without_function(head(facts))
}

fn without_function(mut catalog: Catalog) -> Catalog {
    catalog.objects.retain(|id, _| !id.name.starts_with("migrate_to_jsonb_schema"));
    catalog
}

fn without_tables(mut catalog: Catalog, tables: &[&str]) -> Catalog {
    catalog.objects.retain(|id, _| !tables.contains(&id.relation.as_str()));
    catalog
}

fn without_columns(mut catalog: Catalog, table: &str, columns: &[&str]) -> Catalog {
    catalog.objects.retain(|id, _| {
        id.relation != table
            || !id.name.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| columns.contains(&word))
    });
    catalog
}

fn with_tables(facts: &Facts, mut catalog: Catalog, tables: &[&str]) -> Catalog {
    let old = facts.at(1).objects.into_iter().filter(|(id, _)| tables.contains(&id.relation.as_str()));
    catalog.objects.extend(old);
    catalog
}

fn with_column(facts: &Facts, mut catalog: Catalog, table: &str, column: &str) -> Catalog {
    let id = ObjectId::part(Kind::Column, "public", table, column);
    let object = facts.at(1).objects.remove(&id).unwrap();
    catalog.objects.insert(id, object);
    catalog
}

/// The application's revisions from the baseline to the head, in their order; the branch from the baseline is the last but
/// one of those before the merge.
const REVISIONS: [&str; 27] = [
    "c5bc995c619f",
    "11f9e26c6345",
    "1fd48f6d9650",
    "2230add_keyword_templates",
    "8b77eda62e71",
    "7fbfdf63fb76",
    "drop_legacy_json",
    "phase1_2_cleanup",
    "drop_legacy_roleplay",
    "emoji_personality_cols",
    "eaae2e8f35f2",
    "5228ee1af938",
    "5891d5443712",
    "a1b2c3d4e5f6",
    "336ce8830dfe",
    "20251019_conv_summaries",
    "b06ced8ecd14",
    "a71d62f22c10",
    "27e207ded5a0",
    "ab68d77b5088",
    "9c23e4e81011",
    "c64001afbd46",
    "4628baf741ee",
    "20251026_emoji_log",
    "3ec726abae38",
    "06cb86fd8471",
    "604332ba3c03",
];

/// A head that v1.0.40 made of a baseline database that somebody had stamped with this revision: what the revision and those
/// before it do was never done.
pub fn lied(facts: &Facts, revision: &str) -> Catalog {
    let upto = REVISIONS.iter().position(|r| *r == revision).unwrap_or(REVISIONS.len());
    let mut catalog = head(facts);
    let skipped: Vec<&str> = match revision {
        "20251019_conv_summaries" => vec![revision],
        _ => REVISIONS[..(upto + 1).min(REVISIONS.len())].to_vec(),
    };
    let v2 = ["character_roleplay_scenarios_v2", "character_scenario_triggers_v2"];
    for revision in &skipped {
        catalog = match *revision {
            "c5bc995c619f" => without_tables(catalog, &["character_interest_topics"]),
            "11f9e26c6345" => without_tables(catalog, &["character_entity_categories"]),
            "1fd48f6d9650" => without_tables(catalog, &["character_question_templates"]),
            "2230add_keyword_templates" => without_tables(catalog, &["generic_keyword_templates"]),
            "8b77eda62e71" => without_tables(
                catalog,
                &[
                    "character_conversation_modes",
                    "character_general_conversation",
                    "character_mode_examples",
                    "character_mode_guidance",
                    "character_response_patterns",
                    "character_response_style",
                    "character_response_style_items",
                ],
            ),
            "7fbfdf63fb76" => with_column(facts, catalog, "communication_styles", "ai_identity_handling"),
            "drop_legacy_json" => {
                with_column(facts, catalog, "communication_styles", "conversation_flow_guidance")
            }
            "phase1_2_cleanup" => {
                with_tables(facts, with_tables(facts, catalog, &v2), &["character_emotional_triggers_v2"])
            }
            "emoji_personality_cols" => without_columns(
                catalog,
                "characters",
                &[
                    "emoji_frequency",
                    "emoji_style",
                    "emoji_combination",
                    "emoji_placement",
                    "emoji_age_demographic",
                    "emoji_cultural_influence",
                ],
            ),
            "eaae2e8f35f2" => without_tables(
                catalog,
                &["character_deployment_config", "character_discord_config", "character_llm_config"],
            ),
            "5228ee1af938" => without_tables(catalog, &["bot_deployments"]),
            "336ce8830dfe" => without_tables(
                catalog,
                &["character_insight_relationships", "character_insights", "character_learning_timeline"],
            ),
            "20251019_conv_summaries" => without_tables(catalog, &["conversation_summaries"]),
            "a71d62f22c10" => with_column(
                facts,
                without_columns(catalog, "universal_users", &["preferences"]),
                "universal_users",
                "preferences",
            ),
            "4628baf741ee" => {
                without_columns(catalog, "banned_users", &["unbanned_at", "unbanned_by", "unban_reason"])
            }
            "20251026_emoji_log" => without_tables(catalog, &["enrichment_processing_log"]),
            "3ec726abae38" => {
                catalog
                    .objects
                    .retain(|id, _| !id.name.starts_with("get_user_facts_with_relations(character varying"));
                catalog
            }
            "06cb86fd8471" => without_tables(catalog, &["bot_self_reflections"]),
            "604332ba3c03" => without_tables(catalog, &["character_emotional_states"]),
            _ => catalog,
        };
    }
    // The branch of the summaries is no ancestor of what comes before the merge.
    catalog
}

/// A baseline whose start was killed before there was any key: what `pg_dump` writes first.
fn killed_early(facts: &Facts, tables: usize) -> Catalog {
    let mut catalog = without_function(baseline(facts));
    let names: BTreeSet<String> = catalog
        .objects
        .keys()
        .filter(|id| id.kind == Kind::Table)
        .map(|id| id.relation.clone())
        .take(tables)
        .collect();
    catalog.objects.retain(|id, _| {
        (id.relation.is_empty() || names.contains(&id.relation))
            && !matches!(id.kind, Kind::Constraint | Kind::Index | Kind::Trigger | Kind::View)
    });
    catalog
}

/// A baseline whose start was killed later: so many of its keys, indexes and foreign keys were made, in the order of their names.
fn killed_late(mut catalog: Catalog, keys: usize, indexes: usize, foreign: usize) -> Catalog {
    catalog = without_function(catalog);
    let mut left = [keys, indexes, foreign];
    catalog.objects.retain(|id, object| {
        let which = match &object.detail {
            Detail::Constraint(c) if c.definition.starts_with("FOREIGN KEY") => 2,
            Detail::Constraint(c) if !c.definition.starts_with("CHECK") => 0,
            Detail::Index(_) => 1,
            _ => return id.kind != Kind::Trigger,
        };
        let made = left[which] > 0;
        left[which] = left[which].saturating_sub(1);
        made
    });
    catalog
}

/// What v1.0.40 makes of such a baseline: what it lacks stays away for ever.
fn drifted_late(facts: &Facts, indexes: usize, foreign: usize) -> Catalog {
    let baseline = facts.at(1);
    let killed = killed_late(baseline.clone(), usize::MAX, indexes, foreign);
    let mut catalog = head(facts);
    catalog.objects.retain(|id, _| !baseline.objects.contains_key(id) || killed.objects.contains_key(id));
    catalog
}

macro_rules! lied {
    ($($revision:literal => $missing:literal),* $(,)?) => {
        vec![$(State::new(
            concat!("stamped by hand at ", $revision, ", upgraded by v1.0.40"),
            concat!("rc 0, at head, incomplete: ", $missing),
            |facts| lied(facts, $revision),
            Expect::Head("partial: public.alembic_version (Alembic) names 954245770def, which claims version 14"),
        ).alembic(&["954245770def"])),*]
    };
}

/// Every state by name.
pub fn states() -> Vec<State> {
    use Expect::{Head, Refused};
    let refused = "rc 1: already exists, or another relation than expected";
    let mut states = vec![
        State::new("an empty database; v1.0.28 to v1.0.31 fresh", "head; the assistant has no personality", nothing, Head("fresh")),
        State::new("an empty database with an empty alembic_version", "rc 1 for ever", nothing, Head("fresh"))
            .alembic(&[]),
        State::new("v1.0.3 fresh", "rc 1, left stamped baseline", |f| f.observed("v1.0.3"), Refused(76, &["foreign", "characters"]))
            .file(&["00_init_schema.sql", "001_create_default_assistant.sql", "001_fix_constraints.sql"])
            .way_out(BEGIN_ANEW),
        State::new("docker-compose.yml's init directory", "rc 1, left stamped baseline", |f| f.observed("v1.0.3"), Refused(76, &["foreign", "characters"]))
            .way_out(BEGIN_ANEW),
        State::new(
            "v1.0.3, then started with v1.0.6",
            "the file ledger lies; rc 1",
            |f| f.observed("v1.0.3"),
            Refused(76, &["characters", "expected table; found view"]),
        )
        .file(&["00_init_schema.sql", "001_create_default_assistant.sql", "00_init.sql"])
        .way_out("alter table \"public\".\"characters\" rename to \"characters_own\""),
        State::new(
            "v1.0.3, then started with v1.0.40",
            "rc 1 for ever",
            |f| f.observed("v1.0.3"),
            Refused(76, &["characters", "expected table; found view"]),
        )
        .alembic(&["20251011_baseline_v106"])
        .way_out("alter table \"public\".\"characters\" rename to \"characters_own\""),
        State::new(
            "v1.0.3, then v1.0.19 to v1.0.27, then v1.0.40",
            "stamped head with 14 tables, rc 1 for ever",
            |f| f.observed("v1.0.3"),
            Refused(76, &["characters", "expected table; found view"]),
        )
        .alembic(&["c64001afbd46"])
        .way_out("alter table \"public\".\"characters\" rename to \"characters_own\""),
        State::new("v1.0.6 fresh; v1.0.12 to v1.0.17 fresh", "head", baseline, Head("adopted: public.schema_migrations (a start script) names 2 migrations"))
            .files(),
        State::new("v1.0.6 populated, as observed", "head", |f| f.observed("v1.0.6"), Head("adopted")).files(),
        State::new("v1.0.6 without any ledger", "head", baseline, Head("legacy: no ledger")),
        State::new("v1.0.7 fresh, seven tables", "rc 1, E1", |f| f.observed("v1.0.7"), Head("partial: public.alembic_version (Alembic) names 20251011_baseline_v106, which claims version 1; "))
            .alembic(&["20251011_baseline_v106"])
            .without_files()
            .empty(),
        State::new("v1.0.7 with rows in the tables of its own", "rc 1, E1", |f| f.observed("v1.0.7"), Head("partial: public.alembic_version (Alembic) names 20251011_baseline_v106, which claims version 1; "))
            .alembic(&["20251011_baseline_v106"])
            .without_files()
            .empty()
            .then("insert into user_facts (user_id, bot_name, fact_type, fact_value) values ('u1', 'elena', 'pet', 'Rex'), ('u2', 'elena', 'job', 'baker');
                   insert into user_relationships (user_id, bot_name, affection) values ('u1', 'elena', 0.7);"),
        State::new(
            "v1.0.7 with rows in all seven tables",
            "rc 1, E1",
            |f| f.observed("v1.0.7"),
            Refused(
                76,
                &[
                    "table characters is in the way: version 1 makes a table of that name, and this one lacks its column allow_full_roleplay and 7 more; in another form are its created_at, name, updated_at",
                    "table users is in the way: version 1 makes a table of that name, and this one lacks its column last_seen and 4 more; in another form are its created_at, display_name, username",
                    "column character_attributes.created_at: expected",
                ],
            ),
        )
        .alembic(&["20251011_baseline_v106"])
        .without_files()
        .way_out(BEGIN_ANEW),
        State::new("v1.0.6 started with v1.0.7; v1.0.18 to v1.0.27 fresh after the first start", "head", baseline, Head("adopted: public.alembic_version (Alembic) names 20251011_baseline_v106, which claims version 1"))
            .alembic(&["20251011_baseline_v106"]),
        State::new("v1.0.8 fresh", "rc 0, at head, one table missing", baseline, Head("stale stamp"))
            .alembic(&["c5bc995c619f"]),
        State::new("v1.0.9 fresh", "rc 0, at head, 11 tables missing", baseline, Head("stale stamp"))
            .alembic(&["7fbfdf63fb76"]),
        State::new("v1.0.10 or v1.0.11 fresh", "rc 0, at head, 11 tables and 6 columns missing", baseline, Head("stale stamp"))
            .alembic(&["emoji_personality_cols"]),
        State::new("v1.0.6 or v1.0.12 to v1.0.17 started with v1.0.18", "rc 0, at head, 15 tables missing", baseline, Head("stale stamp"))
            .alembic(&["a1b2c3d4e5f6"]),
        State::new("v1.0.18 to v1.0.21 after the second start", "head", |f| f.at(6), Head("adopted")).alembic(&["a1b2c3d4e5f6"]),
        State::new("v1.0.22 to v1.0.24 after the second start, as observed", "head", |f| f.observed("v1.0.24"), Head("adopted")).alembic(&["336ce8830dfe"]),
        State::new("v1.0.27 after the second start", "head", |f| f.at(9), Head("adopted")).alembic(&["c64001afbd46"]).file(&["00_init.sql"]),
        State::new("v1.0.29 to v1.0.31 by upgrade, as observed; v1.0.24 upgraded by v1.0.33", "head", |f| f.observed("v1.0.30"), Head("adopted")).alembic(&["4628baf741ee"]),
        State::new("v1.0.32 fresh", "head", |f| without_function(f.at(10)), Head("adopted")).alembic(&["4628baf741ee"]),
        State::new(
            "v1.0.33 or v1.0.34 fresh",
            "head",
            |f| without_tables(without_function(f.at(10)), &["character_emotional_states"]),
            Head("adopted"),
        )
        .alembic(&["4628baf741ee"]),
        State::new(
            "v1.0.35 fresh",
            "head",
            |f| without_tables(without_function(f.at(12)), &["character_emotional_states"]),
            Head("adopted"),
        )
        .alembic(&["06cb86fd8471"]),
        State::new("v1.0.36 fresh", "head", |f| without_function(f.at(13)), Head("adopted")).alembic(&["604332ba3c03"]),
        State::new("v1.0.37 to v1.0.40 fresh", "head; the assistant has no personality", newer_head, Head("partial"))
            .alembic(&["954245770def"])
            .empty()
            .then("insert into characters (name, normalized_name) values ('AI Assistant', 'assistant');"),
        State::new("v1.0.40 as observed", "head", |f| f.observed("v1.0.40"), Head("adopted")).alembic(&["954245770def"]),
        State::new("v1.0.6 to v1.0.36 correctly upgraded to v1.0.40", "head", head, Head("adopted")).alembic(&["954245770def"]),
        State::new(
            "v1.0.8 upgraded to v1.0.40",
            "at head, one table missing",
            |f| lied(f, "c5bc995c619f"),
            Head("partial"),
        )
        .alembic(&["954245770def"]),
        State::new(
            "v1.0.9 upgraded to v1.0.40, as observed",
            "at head, 11 tables missing",
            |f| f.observed("v1.0.40-drifted-from-v1.0.9"),
            Head("partial"),
        )
        .alembic(&["954245770def"]),
        State::new(
            "v1.0.10 or v1.0.11 upgraded to v1.0.40",
            "at head, 11 tables and 6 columns missing, 3 tables and 2 columns left over",
            |f| lied(f, "emoji_personality_cols"),
            Head("partial"),
        )
        .alembic(&["954245770def"]),
        State::new(
            "v1.0.18 with a stale stamp upgraded to v1.0.40",
            "at head, 15 tables and 6 columns missing",
            |f| lied(f, "a1b2c3d4e5f6"),
            Head("partial"),
        )
        .alembic(&["954245770def"]),
        State::new("the bot ran first on an empty database", "rc 1", |f| f.observed("bot-first"), Head("partial: no ledger")),
        State::new("the same, then v1.0.24", "stamped head with 3 tables, rc 0", |f| f.observed("bot-first"), Head("partial: public.alembic_version (Alembic) names 336ce8830dfe"))
            .alembic(&["336ce8830dfe"]),
        State::new("the same, then v1.0.6", "rc 0, no schema", |f| f.observed("bot-first"), Head("partial: public.schema_migrations (a start script) names 2 migrations"))
            .files(),
        State::new("initialisation killed at line 900, 5 tables", "rc 1 for ever", |f| killed_early(f, 5), Head("partial: no ledger"))
            .empty(),
        State::new("initialisation killed at line 2800, 52 tables", "rc 1 for ever", |f| killed_early(f, 52), Head("partial: no ledger"))
            .empty(),
        State::new("initialisation killed, few keys", "rc 1 for ever", |f| killed_late(f.at(1), 10, 7, 0), Head("partial"))
            .then("create table schema_migrations (migration_name varchar(255), applied_at timestamp);"),
        State::new("initialisation killed at line 5000, upgraded by v1.0.40", "rc 0, head, without foreign keys and some indexes, for ever", |f| drifted_late(f, 60, 0), Head("partial"))
            .alembic(&["954245770def"]),
        State::new("initialisation killed at line 5800, upgraded by v1.0.40", "rc 0, head, with 5 of 58 foreign keys, for ever", |f| drifted_late(f, 1000, 5), Head("partial"))
            .alembic(&["954245770def"]),
        State::new("initialisation killed at line 6100, upgraded by v1.0.40", "rc 0, head, with 42 of 58 foreign keys, for ever", |f| drifted_late(f, 1000, 42), Head("partial"))
            .alembic(&["954245770def"]),
        State::new("initialisation killed at line 2000, 32 tables", "rc 1 for ever", |f| killed_early(f, 32), Head("partial: no ledger"))
            .empty(),
        State::new("initialisation killed at line 4200, no keys", "rc 1 for ever", |f| killed_early(f, 72), Head("partial"))
            .then("create table schema_migrations (migration_name varchar(255), applied_at timestamp);"),
        State::new(
            "initialisation killed, no foreign keys, as observed",
            "rc 0, head, without the foreign keys, for ever",
            |f| f.observed("interrupted-init-no-fk"),
            Head("partial"),
        ),
        State::new(
            "the same with orphans",
            "rc 0, head, without the foreign keys, for ever",
            |f| f.observed("interrupted-init-no-fk"),
            Refused(
                76,
                &[
                    "FOREIGN KEY (user_id) REFERENCES public.users(user_id)",
                    "12 in public.facts: id=101, id=102, id=103, id=104, id=105, id=106, id=107, id=108, id=109, id=110, …",
                    "SELECT * FROM",
                ],
            ),
        )
        .then("insert into facts (id, user_id, fact_type, subject, content) select n, 'nobody', 'a', 'b', 'c' from generate_series(101, 112) n;"),
        State::new(
            "no keys, and duplicates",
            "rc 1 for ever",
            |f| killed_early(f, 72),
            Refused(76, &["PRIMARY KEY (key)", "2 in public.system_settings: key=twice ctid=("]),
        )
        .then("insert into system_settings (key, value) select 'twice', n::text from generate_series(1, 2) n;"),
        State::new("a full schema with an empty alembic_version", "rc 1: already exists", baseline, Head("adopted: public.alembic_version (Alembic) is empty"))
            .alembic(&[]),
        State::new("a full schema with an empty row in alembic_version", "rc 1", baseline, Head("adopted: public.alembic_version (Alembic) holds an empty row"))
            .alembic(&[""]),
        State::new("an unknown revision", "rc 1; rc 0 with MIGRATION_MODE=dev", head, Head("adopted: public.alembic_version (Alembic) names somebody_elses, which this timeline does not know"))
            .alembic(&["somebody_elses"]),
        State::new("the removed revision 20251017_104918", "rc 1: Can't locate revision", |f| f.at(7), Head("adopted"))
            .alembic(&["20251017_104918"]),
        State::new("two rows: the head and its ancestor", "rc 1: overlaps", head, Head("adopted: public.alembic_version (Alembic) names 604332ba3c03 and 954245770def"))
            .alembic(&["604332ba3c03", "954245770def"]),
        State::new("two rows before the merge, one table absent", "rc 0, head, conversation_summaries missing", |f| f.at(7), Head("stale stamp"))
            .alembic(&["20251019_conv_summaries", "336ce8830dfe"]),
        State::new("eaae2e8f35f2 stamped on a baseline", "rc 1: character_discord_config does not exist", baseline, Head("stale stamp"))
            .alembic(&["eaae2e8f35f2"]),
        State::new("5228ee1af938 stamped on a baseline", "rc 1: character_discord_config does not exist", baseline, Head("stale stamp"))
            .alembic(&["5228ee1af938"]),
        State::new("the head's revision stamped on a baseline", "rc 0, 28 tables missing", baseline, Head("stale stamp"))
            .alembic(&["954245770def"]),
        State::new("any foreign table in an otherwise empty database", "rc 1, stamped baseline", nothing, Refused(76, &["foreign", "--install-beside"]))
            .then("create table orders (id int primary key);"),
        State::new("v1.0.6 with a column characters.emoji_custom", "stamped head, nothing applied, rc 0", baseline, Head("adopted"))
            .files()
            .then("alter table characters add column emoji_custom text; update characters set emoji_custom = 'mine';"),
        State::new("v1.0.6 with characters in another schema", "stamped head, nothing applied, rc 0", baseline, Head("adopted"))
            .files()
            .then("create schema bak; create table bak.characters (emoji_frequency text); insert into bak.characters values ('often');"),
        State::new("v1.0.6 with a table character_interest_topics of the user's own", refused, baseline, Refused(76, &["table character_interest_topics is in the way: version 2", "rename to \"character_interest_topics_own\""]))
            .files()
            .then("create table character_interest_topics (id serial primary key, word text); insert into character_interest_topics (word) values ('mine');")
            .way_out("alter table \"public\".\"character_interest_topics\" rename to \"character_interest_topics_own\""),
        State::new("v1.0.6 with a view of the user's own named like a later table", refused, baseline, Refused(76, &["view bot_deployments is in the way: version 5", "rename"]))
            .files()
            .then("create view bot_deployments as select 1 as one;")
            .way_out("alter view \"public\".\"bot_deployments\" rename to \"bot_deployments_own\""),
        State::new("v1.0.6 with a view on a dropped column", "rc 1: dependent objects still exist", baseline, Refused(76, &["view mine", "communication_styles.ai_identity_handling", "version 3 drops", "drop view public.mine"]))
            .files()
            .then("create view mine as select id, ai_identity_handling from communication_styles;")
            .way_out("drop view public.mine"),
        State::new("v1.0.6 with a view on a column that gets another type", "rc 1: cannot alter type of a column used by a view", baseline, Refused(76, &["view mine stands on column universal_users.preferences, which version 8 gives another type"]))
            .files()
            .then("create view mine as select universal_id, preferences from universal_users;")
            .way_out("drop view public.mine"),
        State::new("v1.0.6 with a table of the user's own that refers to a dropped one", "rc 0, the user's foreign key is gone", baseline, Refused(76, &["your constraint mine_trigger_id_fkey on public.mine refers to table character_emotional_triggers_v2, which version 4 drops"]))
            .files()
            .then("create table mine (id int primary key, trigger_id int references character_emotional_triggers_v2 (id)); insert into mine values (1, 2);")
            .way_out("alter table public.mine drop constraint mine_trigger_id_fkey"),
        State::new("v1.0.6 with objects of the user's own on kept tables", "head", baseline, Head("adopted"))
            .files()
            .then("create table mine (id int primary key, character_id int references characters (id)); insert into mine values (1, 1);
                   create view readable as select id, name from characters; create index mine_name on characters (name, occupation);
                   create function mine() returns trigger language plpgsql as 'begin return new; end';
                   create trigger mine after update on characters for each row execute function mine();
                   alter table users add column shoe_size int default 42; create materialized view counted as select count(*) from users;"),
        State::new("v1.0.6 with an index of the user's own on a dropped column", "lost", baseline, Refused(76, &["your index mine stands on column communication_styles.conversation_flow_guidance, which version 4 drops", "drop index public.mine"]))
            .files()
            .then("create index mine on communication_styles (md5(conversation_flow_guidance));")
            .way_out("drop index public.mine"),
        State::new("v1.0.6, ai_identity_handling dropped by hand", "rc 1: undefined column", |f| without_columns(f.at(1), "communication_styles", &["ai_identity_handling"]), Head("partial"))
            .files(),
        State::new("search_path of the database names no schema", "stamp fails, rc 0, nothing done", baseline, Head("adopted"))
            .files()
            .then("alter database DATABASE set search_path = nowhere;"),
        State::new("search_path of the database leads to tables of the same names", "stamp fails, rc 0, nothing done", baseline, Head("adopted"))
            .files()
            .then("create schema decoy; create table decoy.characters (name text); insert into decoy.characters values ('a decoy');
                   create table decoy.users (name text); create table decoy.alembic_version (version_num text); insert into decoy.alembic_version values ('954245770def');
                   alter database DATABASE set search_path = decoy;"),
        State::new("a head that allows NULL where NULLs are now", "head, incomplete", head, Refused(76, &["column users.username", "2 in public.users: id=901, id=902", "SELECT * FROM"]))
            .alembic(&["954245770def"])
            .then("alter table users alter column username drop not null; insert into users (id, user_id, username) values (901, 'n1', null), (902, 'n2', null);"),
        State::new("preferences '', None and {name: Bob}", "rc 1: invalid input syntax for type json", baseline, Head("adopted"))
            .alembic(&["20251011_baseline_v106"])
            .then("insert into universal_users (universal_id, primary_username, preferences) values ('x1', 'a', ''), ('x2', 'b', 'None'), ('x3', 'c', '{name: Bob}'), ('x4', 'd', null);"),
        State::new("an emotional state without all its keys", "rc 1: NOT NULL violation", |f| f.at(12), Head("adopted"))
            .alembic(&["06cb86fd8471"])
            .then("insert into character_emotional_states (character_name, user_id, state_data) values ('elena', 'u9', '{}'), ('elena', 'u10', '{\"stress\": \"high\"}');"),
        State::new("a head that lost a column, an index and a foreign key by hand", "head, incomplete", head, Head("partial"))
            .alembic(&["954245770def"])
            .then("alter table character_insights drop column emotional_valence; drop index idx_character_insights_character_id; alter table facts drop constraint facts_user_id_fkey;"),
        State::new("a head with a column of another type", "head, incomplete", head, Refused(76, &["column users.message_count", "expected integer", "found bigint"]))
            .alembic(&["954245770def"])
            .then("alter table users alter column message_count type bigint;")
            .way_out("alter table public.users alter column message_count type integer using message_count::integer"),
        State::new("an idle-in-transaction reader of characters", "hangs without limit", baseline, Head("adopted"))
            .files()
            .with_reader(),
        State::new("a role with CRUD rights only", "stamp fails, rc 0, nothing done", baseline, Refused(77, &["have the database's owner run: create schema", "grant usage, create on schema"]))
            .files()
            .then("create role \"DATABASE_rows\" login password 'of-a-test'; grant select, insert, update, delete on all tables in schema public to \"DATABASE_rows\"; grant usage on all sequences in schema public to \"DATABASE_rows\";")
            .with_rows_only(),
    ];
    states.extend(lied! {
        "11f9e26c6345" => "2 tables",
        "1fd48f6d9650" => "3 tables",
        "2230add_keyword_templates" => "4 tables",
        "8b77eda62e71" => "11 tables",
        "7fbfdf63fb76" => "11 tables; 1 column left over",
        "drop_legacy_json" => "11 tables; 2 columns left over",
        "phase1_2_cleanup" => "11 tables; 3 tables and 2 columns left over",
        "drop_legacy_roleplay" => "11 tables; 3 tables and 2 columns left over",
        "27e207ded5a0" => "19 tables and 6 columns, preferences still text",
        "ab68d77b5088" => "19 tables and 6 columns, preferences still text",
        "9c23e4e81011" => "19 tables and 6 columns, preferences still text",
        "3ec726abae38" => "20 tables and 9 columns, preferences still text",
        "5891d5443712" => "15 tables and 6 columns",
        "336ce8830dfe" => "18 tables and 6 columns",
        "20251019_conv_summaries" => "1 table",
        "b06ced8ecd14" => "19 tables and 6 columns",
        "a71d62f22c10" => "19 tables and 6 columns, preferences still text",
        "c64001afbd46" => "19 tables and 6 columns, preferences still text",
        "4628baf741ee" => "19 tables and 9 columns, preferences still text",
        "20251026_emoji_log" => "20 tables and 9 columns, preferences still text",
        "06cb86fd8471" => "21 tables and 9 columns, preferences still text",
        "604332ba3c03" => "22 tables and 9 columns, preferences still text",
    });
    states
}

/// The statements that make a catalog; bodies that were not observed are those of the timeline.
pub fn ddl(facts: &Facts, catalog: &Catalog) -> String {
    let mut catalog = catalog.clone();
    let (first, last) = (facts.at(1), facts.at(facts.head));
    for (id, object) in &mut catalog.objects {
        if let Detail::Function(function) = &mut object.detail
            && function.definition.is_empty()
            && let Some(Detail::Function(known)) =
                first.objects.get(id).or(last.objects.get(id)).map(|object| &object.detail)
        {
            function.definition.clone_from(&known.definition);
        }
    }
    // Of v1.0.3 only what decides is built: its tables, and the view that bears a table's name.
    let view = ObjectId::relation(Kind::View, "public", "characters");
    let is_first = catalog.objects.keys().any(|id| id.relation == "cdl_characters");
    let completion = render(&catalog);
    assert_eq!(completion.impossible, []);
    let statements: Vec<String> = completion.statements.into_iter().map(|statement| statement.sql).collect();
    let mut sql = format!(
        "set check_function_bodies = off;\n{};\nreset check_function_bodies;\n",
        statements.join(";\n")
    );
    if is_first && !catalog.objects.contains_key(&view) {
        sql.push_str("create view characters as select id, name, normalized_name, character_archetype from cdl_characters;\n");
    }
    sql
}

/// The ledgers of a state.
pub fn ledgers(state: &State) -> String {
    let rows = |rows: &[&str]| rows.iter().map(|row| format!("('{row}')")).collect::<Vec<_>>().join(", ");
    let mut sql = String::new();
    if let Some(files) = state.files {
        sql.push_str("create table schema_migrations (migration_name varchar(255) primary key, applied_at timestamp default now());\n");
        sql.push_str(&format!("insert into schema_migrations (migration_name) values {};\n", rows(files)));
    }
    if let Some(revisions) = state.alembic {
        sql.push_str("create table alembic_version (version_num varchar(32) not null constraint alembic_version_pkc primary key);\n");
        if !revisions.is_empty() {
            sql.push_str(&format!("insert into alembic_version values {};\n", rows(revisions)));
        }
    }
    sql
}
