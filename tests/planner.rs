//! Ledger, catalog and timeline held against each other, and the plan or the refusal: pure functions of plain data.

use proptest::prelude::*;
use std::path::Path;
use tandem::catalog::{Catalog, Column, Detail, Expected, Kind, Object, ObjectId, Table};
use tandem::error::Error;
use tandem::ledger::{self, Divergence, Ledger, OpenRun, Phase, Row, Standing};
use tandem::plan::{self, Plan};
use tandem::timeline::{CHECKSUM_ALGORITHM, Number, Timeline, Version, file};
use tandem::verdict::{self, Collection, Postgres, Seen};

/// Versions that each create a table `t<number>`.
fn timeline(numbers: &[Number]) -> Timeline {
    let mut files = vec![("tandem.toml".to_owned(), "application = \"demo\"\n".to_owned())];
    for n in numbers {
        files.push((format!("{n:04}_v{n}.up.sql"), format!("create table t{n} (id int);\n")));
        files.push((format!("{n:04}_v{n}.toml"), "compatible_from = 1\n".to_owned()));
    }
    file::parse(Path::new("migrations"), files, &|_| None).unwrap()
}

fn table(catalog: &mut Catalog, name: &str) {
    catalog.insert(
        ObjectId::relation(Kind::Table, "public", name),
        Object::new(Detail::Table(Table::default())),
    );
    let column = Column { position: 1, data_type: "integer".into(), ..Column::default() };
    catalog.insert(ObjectId::part(Kind::Column, "public", name, "id"), Object::new(Detail::Column(column)));
}

fn catalog(numbers: impl IntoIterator<Item = Number>) -> Catalog {
    let mut catalog = Catalog { server: 160_000, ..Catalog::default() };
    numbers.into_iter().for_each(|n| table(&mut catalog, &format!("t{n}")));
    catalog
}

fn expected(timeline: &Timeline) -> Expected {
    let numbers: Vec<Number> = timeline.versions.iter().map(|v| v.number).collect();
    Expected::from_catalogs(
        "demo",
        timeline.versions.iter().enumerate().map(|(i, v)| {
            (v.number, v.name.clone(), v.raw_checksum(), catalog(numbers[..=i].iter().copied()))
        }),
    )
}

fn row(version: &Version) -> Row {
    Row {
        version: version.number,
        name: version.name.clone(),
        checksum_raw: version.raw_checksum(),
        checksum_normal: version.normal_checksum(),
        algorithm: CHECKSUM_ALGORITHM,
        origin: "applied".into(),
        compatible_from: version.compatible_from,
        catalog_digest: None,
        applied_at: String::new(),
    }
}

fn rows(timeline: &Timeline, n: usize) -> Vec<Row> {
    timeline.versions.iter().take(n).map(row).collect()
}

fn stands(rows: &[Row], timeline: &Timeline) -> Standing {
    ledger::standing(rows, timeline, CHECKSUM_ALGORITHM, Version::normal_checksum, Version::raw_checksum)
}

fn judge(timeline: &Timeline, expected: &Expected, catalog: Catalog, rows: Option<Vec<Row>>) -> Postgres {
    let ledger = rows.map(|rows| Ledger {
        rows,
        lineage: "l".into(),
        newest_catalog: Some(catalog.to_json()),
        ..Ledger::default()
    });
    let standing = ledger.as_ref().map(|ledger| stands(&ledger.rows, timeline));
    let (proofs, others, foreign, empty) = Default::default();
    let seen = Seen { catalog, ledger, proofs, others, foreign, empty };
    verdict::postgres(timeline, expected, &seen, standing)
}

#[test]
fn a_ledger_is_the_beginning_of_the_timeline_or_says_why_not() {
    let timeline = timeline(&[10, 20, 30]);
    let good = rows(&timeline, 3);
    let change = |i: usize, change: fn(&mut Row)| {
        let mut rows = good.clone();
        change(&mut rows[i]);
        rows
    };
    let without = |i: usize| {
        let mut rows = good.clone();
        rows.remove(i);
        rows
    };
    let ahead = {
        let mut rows = good.clone();
        rows.push(Row { version: 40, name: "v40".into(), compatible_from: 30, ..good[2].clone() });
        rows
    };
    let prefix = |cosmetic: &[Number]| Standing::Prefix { cosmetic: cosmetic.to_vec() };
    let name = |n: Number| format!("v{n}");
    for (rows, wanted) in [
        (vec![], prefix(&[])),
        (good[..2].to_vec(), prefix(&[])),
        (good.clone(), prefix(&[])),
        (change(1, |r| r.checksum_raw = "other bytes".into()), prefix(&[20])),
        // A healed file is not asked for the algorithm of its token checksum.
        (change(1, |r| r.algorithm = 99), prefix(&[])),
        (ahead, Standing::Ahead { unknown: vec![(40, name(40), 30)] }),
        (
            change(1, |r| {
                r.checksum_raw = "other bytes".into();
                r.checksum_normal = "other tokens".into();
            }),
            Standing::Diverged(Divergence::Edited { version: 20, name: name(20) }),
        ),
        (
            change(1, |r| {
                r.checksum_raw = "other bytes".into();
                r.algorithm = 99;
            }),
            Standing::Diverged(Divergence::Algorithm { version: 20, algorithm: 99 }),
        ),
        (without(0), Standing::Diverged(Divergence::Gap { version: 10, name: name(10), newer: 20 })),
        (without(1), Standing::Diverged(Divergence::Gap { version: 20, name: name(20), newer: 30 })),
        (
            change(1, |r| r.version = 15),
            Standing::Diverged(Divergence::Missing { version: 15, name: name(20) }),
        ),
        (
            change(2, |r| r.version = 25),
            Standing::Diverged(Divergence::Missing { version: 25, name: name(30) }),
        ),
    ] {
        assert_eq!(
            stands(&rows, &timeline),
            wanted,
            "{:?}",
            rows.iter().map(|r| r.version).collect::<Vec<_>>()
        );
    }
}

/// A plan in one line, or the error as people read it.
fn outcome(result: Result<Plan, Error>) -> String {
    match result {
        Ok(p) => {
            let more = |what: &str, list: String| {
                if list == "[]" { String::new() } else { format!(" {what} {list}") }
            };
            format!(
                "{} | ledger {} stamp {:?} apply {:?} heal {:?} ahead {}{}{}",
                p.postgres,
                p.create_ledger,
                p.stamp,
                p.apply,
                p.heal,
                p.ahead,
                more("forget", format!("{:?}", p.forget)),
                more("repair", format!("{:?}", p.repair)),
            )
        }
        Err(error) => format!("{}: {error}", error.code.code()),
    }
}

#[test]
fn every_finding_about_postgres_has_its_plan_or_its_refusal() {
    let timeline = timeline(&[1, 2, 3]);
    let expected = expected(&timeline);
    let all = rows(&timeline, 3);
    let mut healed = all.clone();
    healed[1].checksum_raw = "x".into();
    let mut edited = healed.clone();
    edited[1].checksum_normal = "x".into();
    let mut newer = all.clone();
    newer.push(Row { version: 4, name: "v4".into(), ..all[2].clone() });
    let mut shut = newer.clone();
    shut[3].compatible_from = 4;
    let mut extra = catalog([1, 2, 3]);
    table(&mut extra, "mine");
    let mut strangers = catalog([]);
    table(&mut strangers, "orders");
    let partial = |n: Number| {
        let mut catalog = catalog([1, 2, 3]);
        catalog.objects.remove(&ObjectId::part(Kind::Column, "public", format!("t{n}"), "id"));
        catalog
    };
    for (case, found, rows, beside, wanted) in [
        (
            "fresh",
            catalog([]),
            None,
            false,
            "fresh: no object of the application | ledger true stamp [] apply [1, 2, 3] heal [] ahead false",
        ),
        (
            "pending",
            catalog([1]),
            Some(all[..1].to_vec()),
            false,
            "versioned: the ledger says version 1 (v1), the catalog proves it | ledger false stamp [] apply [2, 3] heal [] ahead false",
        ),
        (
            "head",
            catalog([1, 2, 3]),
            Some(all.clone()),
            false,
            "versioned: the ledger says version 3 (v3), the catalog proves it | ledger false stamp [] apply [] heal [] ahead false",
        ),
        (
            "extras",
            extra,
            Some(healed),
            false,
            "versioned: the ledger says version 3 (v3), the catalog proves it; 1 object of your own is left alone: table mine | ledger false stamp [] apply [] heal [2] ahead false",
        ),
        (
            "legacy",
            catalog([1, 2]),
            None,
            false,
            "legacy: no ledger; 4 objects compared, all as in version 2 (v2) | ledger true stamp [1, 2] apply [3] heal [] ahead false",
        ),
        (
            "ahead",
            catalog([1, 2, 3, 4]),
            Some(newer),
            false,
            "ahead: the ledger is at version 4 and names 1 version that this image does not have | ledger false stamp [] apply [] heal [] ahead true",
        ),
        (
            "shut out",
            catalog([1, 2, 3, 4]),
            Some(shut),
            false,
            "76: Postgres is ahead: the ledger is at version 4 and names 1 version that this image does not have\n  \
             expected: an image at version 4 or newer: version 4 (v4) no longer lets older ones run; this image has 3\n  \
             remedy:   start the newer image, or downgrade the database with it first",
        ),
        (
            "stale",
            catalog([1]),
            Some(all.clone()),
            false,
            "stale: the ledger says version 3 (v3), the catalog is that of version 1 (v1) | ledger false stamp [] apply [2, 3] heal [] ahead false forget [2, 3]",
        ),
        (
            "behind what is there",
            catalog([1, 2, 3]),
            Some(all[..1].to_vec()),
            false,
            "stale: the ledger says version 1 (v1), the catalog is that of version 3 (v3) | ledger false stamp [2, 3] apply [] heal [] ahead false",
        ),
        (
            "stale and empty",
            catalog([]),
            Some(all.clone()),
            false,
            "76: Postgres is stale: the ledger says version 3 (v3), the catalog is not that of any version\n  \
             expected: the catalog of version 3: missing: table t1\nmissing: table t2\nmissing: table t3\n  \
             remedy:   restore a backup; or, if this database is to begin anew, give it an empty ledger as well",
        ),
        (
            "a version in the middle is missing",
            catalog([1, 3]),
            Some(all.clone()),
            false,
            "partial: the ledger says version 3; 4 objects are as in version 3 (v3); 1 missing: table t2; to be run: 2 | ledger true stamp [] apply [] heal [] ahead false repair [(1, Keep), (2, Run), (3, Keep)]",
        ),
        (
            "a column is missing",
            partial(1),
            Some(all.clone()),
            false,
            "partial: the ledger says version 3; 5 objects are as in version 3 (v3); 1 missing: column t1.id; to be completed: 1 | ledger true stamp [] apply [] heal [] ahead false repair [(1, Complete), (2, Keep), (3, Keep)]",
        ),
        (
            "no ledger, and a version in the middle is missing",
            catalog([1, 3]),
            None,
            false,
            "partial: no ledger; 4 objects are as in version 3 (v3); 1 missing: table t2; to be run: 2 | ledger true stamp [] apply [] heal [] ahead false repair [(1, Keep), (2, Run), (3, Keep)]",
        ),
        (
            "edited",
            catalog([1, 2, 3]),
            Some(edited),
            false,
            "65: version 2 (v2) was changed after it was applied: its statements are not the ones the ledger recorded\n  \
             expected: the applied versions are the first ones of the timeline, unchanged\n  \
             remedy:   put the file back as it was, and write what you want to change as a new version",
        ),
        (
            "a file too late",
            catalog([1, 3]),
            Some(vec![all[0].clone(), all[2].clone()]),
            false,
            "65: the timeline has version 2 (v2), which the ledger skipped: it already names 3\n  \
             expected: the applied versions are the first ones of the timeline, unchanged\n  \
             remedy:   give the file a number above the newest applied version",
        ),
        (
            "foreign",
            strangers.clone(),
            None,
            false,
            "76: Postgres is foreign: no ledger; 1 object, and no version resembles it: table orders\n  \
             expected: an empty database, or one of demo\n  \
             remedy:   point tandem at the right database (POSTGRES_DB, DATABASE_URL); to install beside these objects, say --install-beside",
        ),
        (
            "beside",
            strangers,
            None,
            true,
            "foreign: no ledger; 1 object, and no version resembles it: table orders | ledger true stamp [] apply [1, 2, 3] heal [] ahead false",
        ),
        (
            "foreign and near",
            partial(1),
            None,
            false,
            "76: Postgres is foreign: no ledger; 3 objects, and no version resembles them: table t1, table t2, table t3\n  \
             expected: version 3 (v3) comes nearest, with 5 objects alike: missing: column t1.id\n  \
             remedy:   point tandem at the right database (POSTGRES_DB, DATABASE_URL), or bring these objects to that version by hand; to keep all of it aside and begin anew: alter schema public rename to public_before; create schema public; then start again",
        ),
    ] {
        let verdict = judge(&timeline, &expected, found, rows);
        let planned = outcome(plan::postgres(&timeline, &verdict, beside));
        assert_eq!(planned, wanted, "{case}");
    }
}

#[test]
fn every_stamp_of_a_collection_has_its_finding() {
    let skewed = true;
    for (stamp, published, lineage, wanted, is_skewed, words) in [
        (None, None, None, Collection::Absent, !skewed, "absent"),
        (None, None, Some("l"), Collection::Absent, !skewed, "absent"),
        (None, Some(2), Some("l"), Collection::Gone { at: 2 }, skewed, "Qdrant does not have it"),
        (Some(None), None, None, Collection::Unstamped, !skewed, "not stamped yet"),
        (Some(None), Some(2), Some("l"), Collection::Unstamped, !skewed, "not stamped yet"),
        (
            Some(Some(("l", 2))),
            None,
            None,
            Collection::Orphaned { at: 2 },
            skewed,
            "a Postgres that has no ledger",
        ),
        (
            Some(Some(("other", 2))),
            Some(2),
            Some("l"),
            Collection::OtherLineage { lineage: "other".into() },
            skewed,
            "lineage other",
        ),
        (
            Some(Some(("l", 4))),
            Some(3),
            Some("l"),
            Collection::Above { at: 4, ledger: 3 },
            skewed,
            "above the ledger's 3",
        ),
        (
            Some(Some(("l", 4))),
            Some(4),
            Some("l"),
            Collection::WentBack { at: 4, ledger: 3 },
            !skewed,
            "gone back to 3",
        ),
        (
            Some(Some(("l", 3))),
            Some(3),
            Some("l"),
            Collection::Stamped { at: 3 },
            !skewed,
            "stamped at version 3",
        ),
        (
            Some(Some(("l", 1))),
            None,
            Some("l"),
            Collection::Stamped { at: 1 },
            !skewed,
            "stamped at version 1",
        ),
    ] {
        let verdict = verdict::collection(stamp, published, lineage, 3);
        assert_eq!(verdict, wanted);
        assert_eq!(verdict.is_skewed(), is_skewed, "{verdict:?}");
        assert!(verdict.describe().contains(words), "{}", verdict.describe());
    }
}

#[test]
fn a_run_without_an_end_is_something_to_do_and_no_effect() {
    let run = OpenRun { epoch: 1, phase: Phase::Prepare, collection: None, target: 1 };
    let plan = Plan { resume: vec![run], ..Plan::default() };
    assert!(!plan.is_empty() && !plan.has_effects() && plan.postgres_is_empty());
}

/// What a plan does to ledger and catalog.
fn carry_out(
    plan: &Plan,
    timeline: &Timeline,
    rows: Option<Vec<Row>>,
    found: Catalog,
    expected: &Expected,
) -> (Vec<Row>, Catalog) {
    let mut rows = rows.unwrap_or_default();
    for number in &plan.heal {
        let healed = row(timeline.version(*number).unwrap());
        rows.iter_mut()
            .filter(|r| r.version == *number)
            .for_each(|r| r.checksum_raw.clone_from(&healed.checksum_raw));
    }
    rows.extend(plan.stamp.iter().chain(&plan.apply).map(|n| row(timeline.version(*n).unwrap())));
    let mut catalog = found;
    if let Some(last) = plan.apply.last() {
        catalog.objects.extend(expected.catalog_at(*last).unwrap().objects);
    }
    (rows, catalog)
}

proptest! {
    #[test]
    fn from_any_beginning_one_plan_leads_to_head_and_a_second_one_is_empty(
        gaps in prop::collection::vec(1i64..100, 1..8),
        at in 0usize..9,
        has_ledger: bool,
        cosmetic in any::<prop::sample::Index>(),
        own in prop::option::of("[a-s]{1,4}"),
    ) {
        let numbers: Vec<Number> = gaps.iter().scan(0, |n, gap| { *n += gap; Some(*n) }).collect();
        let timeline = timeline(&numbers);
        let expected = expected(&timeline);
        let at = at.min(numbers.len());
        let mut found = catalog(numbers[..at].iter().copied());
        if let Some(own) = own.as_ref().filter(|_| at > 0) {
            table(&mut found, own);
        }
        let mut ledger = (has_ledger && at > 0).then(|| rows(&timeline, at));
        if let Some(rows) = &mut ledger {
            rows[cosmetic.index(at)].checksum_raw = "healed".into();
        }
        let verdict = judge(&timeline, &expected, found.clone(), ledger.clone());
        let plan = plan::postgres(&timeline, &verdict, false).unwrap();
        prop_assert_eq!(&plan, &plan::postgres(&timeline, &judge(&timeline, &expected, found.clone(), ledger.clone()), false).unwrap());
        prop_assert!(!plan.postgres_is_empty() || at == numbers.len());
        let (rows, catalog) = carry_out(&plan, &timeline, ledger, found, &expected);
        let applied: Vec<Number> = rows.iter().map(|r| r.version).collect();
        prop_assert_eq!(&applied, &numbers);
        prop_assert_eq!(stands(&rows, &timeline), Standing::Prefix { cosmetic: vec![] });
        let again = plan::postgres(&timeline, &judge(&timeline, &expected, catalog, Some(rows)), false).unwrap();
        prop_assert!(again.is_empty(), "{again:?}");
    }

    #[test]
    fn whatever_the_rows_only_a_prefix_is_taken_for_one(
        kept in prop::collection::vec(any::<bool>(), 6),
    ) {
        let timeline = timeline(&[1, 2, 3, 4, 5, 6]);
        let rows: Vec<Row> = rows(&timeline, 6).into_iter().zip(&kept).filter(|(_, kept)| **kept).map(|(row, _)| row).collect();
        let is_prefix = kept.iter().skip_while(|kept| **kept).all(|kept| !kept);
        let standing = stands(&rows, &timeline);
        prop_assert_eq!(standing == (Standing::Prefix { cosmetic: vec![] }), is_prefix);
        prop_assert_eq!(matches!(standing, Standing::Diverged(Divergence::Gap { .. })), !is_prefix);
    }
}
