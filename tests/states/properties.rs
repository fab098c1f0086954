//! Databases that nobody has described: a version's schema with any part of the later ones, done by hand.

use crate::known::{self, Facts};
use crate::{block_on, catalog, rows, world_on};
use local_servers::{PgVersion, Postgres};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use tandem::catalog::{Catalog, Detail, Kind, ObjectId};
use tandem::timeline::Timeline;

/// How many databases each property is tried on; the same ones each time, by turns on 16 and 18.
const CASES: u64 = 16;

/// Numbers that look drawn and are not.
struct Draw(u64);

impl Draw {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }

    fn coin(&mut self) -> bool {
        self.next(2) == 0
    }
}

/// Builds each case, starts on it, and holds it against the property: the head with every value, or refused unchanged.
fn each(build: impl Fn(&Facts, &mut Draw) -> (String, Catalog, Vec<String>) + Sync) -> BTreeMap<i32, usize> {
    let (facts, next, ends) = (Facts::load(), AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let case = next.fetch_add(1, SeqCst);
                    if case >= CASES {
                        return;
                    }
                    let version = [PgVersion::V16, PgVersion::V18][usize::from(case % 2 == 1)];
                    let world = world_on(&Postgres::shared(version).unwrap());
                    let (words, built, by_hand) = build(&facts, &mut Draw(case * 7919 + 1));
                    let words = format!("case {case} on {version:?}: {words}");
                    let mut sql = known::ddl(&facts, &built);
                    sql.push_str(&rows::rows(&facts.constrained(&built)));
                    world.db.execute(&sql);
                    by_hand.iter().for_each(|sql| attempt(&world.db.url(), sql));
                    let (before, was) = (rows::read(&world), catalog(&world));
                    let outcome = world.start(&["true"]);
                    let after = rows::read(&world);
                    match outcome.code {
                        0 => {
                            let difference = facts.expected.compare(&catalog(&world), facts.head);
                            assert!(difference.is_proof(), "{words}: {difference}");
                            let again = world.start(&["true"]);
                            assert!(
                                again.stderr.contains("unchanged since their last proof"),
                                "{words}: {}",
                                again.stderr
                            );
                        }
                        1 | 76 => {
                            assert_eq!(after.tables, before.tables, "{words}: a refusal changed rows");
                            assert_eq!(catalog(&world), was, "{words}: a refusal changed the schema");
                            assert!(after.archive.is_empty(), "{words}");
                        }
                        code => panic!("{words}: exit {code}\n{}", outcome.stderr),
                    }
                    let lost = rows::lost(&built, &before, &after);
                    assert!(lost.is_empty(), "{words}: {} values are lost, such as {}", lost.len(), lost[0]);
                    *ends.lock().unwrap().entry(outcome.code).or_default() += 1;
                }
            });
        }
    });
    ends.into_inner().unwrap()
}

/// Runs statements in a transaction of their own; what fails leaves nothing.
fn attempt(url: &str, sql: &str) {
    use sqlx::Connection;
    block_on(async {
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        let sql = sqlx::AssertSqlSafe(format!("begin; {sql}\n; commit"));
        let _ = sqlx::raw_sql(sql).execute(&mut connection).await;
        connection.close().await.unwrap();
    });
}

#[test]
fn any_later_versions_run_by_hand_lead_to_the_head_or_a_refusal_that_changes_nothing() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let timeline: Timeline = tandem::timeline::load(&directory, &|_| None).unwrap();
    let ends = each(|facts, draw| {
        let at = 1 + draw.next(timeline.versions.len());
        let later = timeline.versions[at..].iter().filter(|_| draw.coin()).collect::<Vec<_>>();
        let numbers: Vec<i64> = later.iter().map(|version| version.number).collect();
        let text = |version: &&&tandem::timeline::Version| {
            format!(
                "{};\n{}",
                version.up.as_ref().map_or("", |up| &up.text),
                version.data.as_deref().unwrap_or("")
            )
        };
        let by_hand = later.iter().map(|version| text(&version)).collect();
        let at = timeline.versions[at - 1].number;
        (format!("version {at}, then by hand {numbers:?}"), facts.at(at), by_hand)
    });
    assert_eq!(
        ends.keys().copied().collect::<Vec<_>>(),
        [0],
        "every one of them can be brought to the head: {ends:?}"
    );
}

#[test]
fn any_part_of_later_effects_leads_to_the_head_or_a_refusal_that_changes_nothing() {
    let ends = each(|facts, draw| {
        let numbers: Vec<i64> = facts.expected.index.versions.iter().map(|version| version.number).collect();
        let at = numbers[draw.next(numbers.len())];
        let mut catalog = facts.at(at);
        let mut done = Vec::new();
        for (number, effects) in facts.expected.effects.range(at + 1..) {
            // What a version does to one table, or one object that is no part of a table, is done or not.
            let place =
                |id: &ObjectId| if id.relation.is_empty() { id.to_string() } else { id.relation.clone() };
            let put = || effects.added.iter().chain(&effects.changed);
            let places: BTreeSet<String> =
                put().map(|(id, _)| id).chain(&effects.removed).map(place).collect();
            for one in places {
                let there = |id: &ObjectId| {
                    !id.is_part()
                        || put().any(|(other, _)| other.kind == Kind::Table && other.relation == id.relation)
                        || catalog.objects.contains_key(&ObjectId::relation(
                            Kind::Table,
                            "public",
                            &*id.relation,
                        ))
                };
                if !draw.coin() || !put().filter(|(id, _)| place(id) == one).all(|(id, _)| there(id)) {
                    continue;
                }
                for id in effects.removed.iter().filter(|id| place(id) == one) {
                    catalog.objects.remove(id);
                }
                for (id, object) in put().filter(|(id, _)| place(id) == one) {
                    catalog.objects.insert(id.clone(), object.clone());
                }
                done.push(format!("{number} on {one}"));
            }
        }
        // And a few indexes and constraints are gone.
        let parts: Vec<ObjectId> = catalog
            .objects
            .keys()
            .filter(|id| matches!(id.kind, Kind::Index | Kind::Trigger))
            .cloned()
            .collect();
        for _ in 0..draw.next(4) {
            catalog.objects.remove(&parts[draw.next(parts.len())]);
        }
        consistent(&mut catalog);
        (format!("version {at} with {}", done.join(", ")), catalog, Vec::new())
    });
    // Rows without the table that they refer to are rightly refused, and so is a version of which one half is there.
    assert!(ends.get(&0).is_some_and(|reached| *reached > 8), "{ends:?}");
}

/// Takes out what refers to a table that is not there.
fn consistent(catalog: &mut Catalog) {
    let tables: BTreeSet<String> =
        catalog.objects.keys().filter(|id| id.kind == Kind::Table).map(|id| id.relation.clone()).collect();
    catalog.objects.retain(|id, object| {
        let target = match &object.detail {
            Detail::Constraint(constraint) => constraint
                .definition
                .split_once(" REFERENCES public.")
                .and_then(|(_, target)| target.split('(').next().map(str::to_owned)),
            _ => None,
        };
        let whole = !id.is_part() || tables.contains(&id.relation);
        whole && target.is_none_or(|target| tables.contains(&target))
    });
}
