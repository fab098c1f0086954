//! The reference application's databases: a million rows brought to the head, the comparison of 97 tables with every version, and
//! a database of 5,000 tables.

use crate::common::{self, World};
use crate::{measure, median, ms, psql};
use local_servers::{Postgres, PostgresOptions};
use std::fmt::Write as _;
use std::process::Command;
use std::time::Instant;

pub fn whisper(report: &mut String) {
    compare(report);
    tables(report);
    million(report);
}

/// The whole way from v1.0.6 with a million rows to the head, against the SQL of the same versions through psql, each version in a
/// transaction of its own on both sides.
fn million(report: &mut String) {
    let pg = Postgres::start(PostgresOptions { durable: true, ..Default::default() }).unwrap();
    let migrations = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let timeline = tandem::timeline::load(&migrations, &|_| None).unwrap();
    let sql = |version: &tandem::timeline::Version| {
        let up = version.up.as_ref().map_or("", |up| &up.text);
        format!("begin;\n{up};\n{};\ncommit;\n", version.data.as_deref().unwrap_or(""))
    };
    let template = pg.create_database("million");
    template.execute(&sql(&timeline.versions[0]));
    template.execute(
        "insert into users (user_id, username) select 'u' || n, 'user ' || n from generate_series(1, 1000) n;
         insert into universal_users (universal_id, primary_username) select 'u' || n, 'user ' || n from generate_series(1, 1000) n;
         insert into memory_entries (user_id, memory_type, content, importance_score)
           select 'u' || 1 + n % 1000, 'chat', repeat('remembered ', 10) || n, 0.5 from generate_series(1, 500000) n;
         insert into fact_entities (entity_type, entity_name) select 'thing', 'thing ' || n from generate_series(1, 500) n;
         insert into user_fact_relationships (user_id, entity_id, relationship_type, confidence)
           select 'u' || u.n, e.id, 'likes', 0.5 from generate_series(1, 1000) u (n) cross join fact_entities e;",
    );
    let rows: u64 = world_rows(&template.url());
    template.execute("vacuum analyze");
    let rest: String = timeline.versions[1..].iter().map(sql).collect();
    let directory = common::Dir::new();
    let file = directory.write("rest.sql", &rest);
    let (mut ours, mut theirs, mut ratios, mut memory) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..4 {
        let copy = |prefix: &str| {
            let database = pg.create_database(prefix);
            let name = database.name().to_owned();
            pg.execute("postgres", &format!("drop database {name}")).unwrap();
            pg.execute("postgres", &format!("create database {name} template {}", template.name())).unwrap();
            pg.execute("postgres", "checkpoint").unwrap();
            database
        };
        let mut world = World::whisperengine_on(copy("ours"));
        world.set("QDRANT_URL", "none");
        let (a, peak) = measure(&mut world.tandem(["migrate"]));
        let plain = copy("plain");
        let mut psql = Command::new(psql());
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"]).arg(&file).arg(plain.url());
        let (b, _) = measure(&mut psql);
        // The first round warms both sides up.
        if round > 0 {
            ours.push(a);
            theirs.push(b);
            ratios.push(a.as_secs_f64() / b.as_secs_f64());
            memory.push(peak);
        }
    }
    ratios.sort_by(f64::total_cmp);
    writeln!(
        report,
        "whisper-1m: v1.0.6 with {rows} memory and relationship rows to the head: {:.0} ms, psql -f {:.0} ms, ratio {:.2}, peak {:.1} MiB (3 pairs)",
        ms(median(&mut ours)),
        ms(median(&mut theirs)),
        ratios[ratios.len() / 2],
        median(&mut memory) as f64 / 1024.0
    )
    .unwrap();
}

fn world_rows(url: &str) -> u64 {
    let counted = "select ((select count(*) from memory_entries) + (select count(*) from user_fact_relationships))::text";
    common::query(url, counted).parse().unwrap()
}

/// Reading the head's catalog and holding it against every version, on a session that has just logged in.
fn compare(report: &mut String) {
    use sqlx::Connection as _;
    use tandem::catalog::{Expected, resemble};
    use tandem::postgres::introspect::{Exclude, introspect};
    use tandem::repair::{Evidence, repair};
    let mut world = World::whisperengine();
    world.set("QDRANT_URL", "none");
    world.start(&["true"]).expect(0);
    let migrations = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let timeline = tandem::timeline::load(&migrations, &|_| None).unwrap();
    let expected = Expected::load(&migrations.join("catalog")).unwrap().permit(&timeline);
    let exclude = Exclude { ledger_schema: "tandem", adoption_tables: &[] };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut reading, mut comparing, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..20 {
        let mut connection = runtime.block_on(sqlx::PgConnection::connect(&world.db.url())).unwrap();
        let start = Instant::now();
        let catalog =
            runtime.block_on(introspect(&mut connection, &["public".to_owned()], &exclude)).unwrap();
        let read = start.elapsed();
        let evidence =
            Evidence { proofs: &Default::default(), claimed: None, own: false, empty: &Default::default() };
        let found = repair(&catalog, &expected, &timeline, &evidence).unwrap();
        assert!(found.is_whole() && resemble(&catalog, &expected).last().unwrap().is_exact());
        reading.push(read);
        comparing.push(start.elapsed() - read);
        whole.push(start.elapsed());
        runtime.block_on(connection.close()).unwrap();
    }
    writeln!(
        report,
        "whisper-compare: reading 97 tables {:.1} ms, comparing with {} versions {:.1} ms, both {:.1} ms (20 new sessions)",
        ms(median(&mut reading)),
        timeline.versions.len(),
        ms(median(&mut comparing)),
        ms(median(&mut whole))
    )
    .unwrap();
}

/// A whole process that reads and compares 5,000 tables.
fn tables(report: &mut String) {
    let mut world = World::empty();
    world.set("QDRANT_URL", "none");
    // A transaction can make only so many tables as the server has locks for.
    for part in 0..10 {
        let tables: String = (1..=500)
            .map(|i| format!("create table t{part}_{i} (id bigint primary key, body text not null, at timestamptz default now());\n"))
            .collect();
        world.version(&format!("{:04}_tables", part + 1), &tables, "");
    }
    world.record();
    world.start(&["true"]).expect(0);
    let mut times = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..7 {
        let (wall, peak) = measure(&mut world.tandem(["verify"]));
        times.push(wall);
        memory.push(peak);
    }
    writeln!(
        report,
        "whisper-5000: tandem verify, 5,000 tables compared: {:.0} ms, peak {:.1} MiB (7 runs)",
        ms(median(&mut times)),
        median(&mut memory) as f64 / 1024.0
    )
    .unwrap();
}
