//! The figures of docs/performance.md: `cargo bench --bench figures`, optionally with the name of one group.
//!
//! Whole processes, in pairs within one run, medians and ratios; the machine's other load hits both sides alike.

#[path = "../tests/common/mod.rs"]
mod common;
mod copy;
mod whisper;

use common::World;
use local_servers::{Postgres, PostgresOptions, Qdrant, QdrantOptions, client_tool};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|first| first == copy::ROLE) {
        return copy::act(&arguments[2..]);
    }
    if arguments.get(1).is_some_and(|first| first == STOPWATCH) {
        return stopwatch(std::env::args_os().skip(2));
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let mut report = String::new();
    type Group = fn(&mut String);
    let groups: [(&str, Group); 8] = [
        ("size", size),
        ("head", head),
        ("head-2000", head_of_2000),
        ("ready", ready),
        ("apply-200", apply_200),
        ("plan-10000", plan_10000),
        ("copy", copy::copy),
        ("whisper", whisper::whisper),
    ];
    for (name, group) in groups {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            let start = report.len();
            group(&mut report);
            print!("{}", &report[start..]);
        }
    }
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/figures.txt");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, &report).unwrap();
    println!("written to {}", file.display());
}

/// Runs a command and returns its wall time and its peak memory in KiB.
///
/// A small process of its own starts it: the kernel counts what the starting process holds into the peak of the started
/// one, and this one holds the packages that it has fetched.
fn measure(command: &mut Command) -> (Duration, u64) {
    let mut stopwatch = Command::new(std::env::current_exe().unwrap());
    // A command does not tell whether its environment was cleared; neither side needs one that it was not given.
    stopwatch.env_clear().arg(STOPWATCH).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => stopwatch.env(name, value),
            None => stopwatch.env_remove(name),
        };
    }
    let output = stopwatch.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?} failed");
    let text = String::from_utf8(output.stdout).unwrap();
    let (nanoseconds, kib) = text.trim().split_once(' ').unwrap();
    (Duration::from_nanos(nanoseconds.parse().unwrap()), kib.parse().unwrap())
}

/// The first argument of the process that [`measure`] starts.
const STOPWATCH: &str = "stopwatch";

/// Starts a command, waits for it, and prints the nanoseconds that it took and the KiB of its peak memory.
#[expect(clippy::zombie_processes, reason = "wait4 waits for it, because std does not tell the peak memory")]
fn stopwatch(mut argv: impl Iterator<Item = OsString>) {
    let mut command = Command::new(argv.next().unwrap());
    command.args(argv).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let child = command.spawn().unwrap();
    let (mut status, mut usage) = (0, unsafe { std::mem::zeroed::<libc::rusage>() });
    let pid = i32::try_from(child.id()).unwrap();
    // SAFETY: both out-pointers are valid for the call, and the child is ours and not yet waited for.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    let wall = start.elapsed();
    assert!(waited == pid && ExitStatus::from_raw(status).success());
    println!("{} {}", wall.as_nanos(), usage.ru_maxrss);
}

fn median<T: Ord + Copy>(values: &mut [T]) -> T {
    values.sort();
    values[values.len() / 2]
}

fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1000.0
}

/// Interleaved runs of two commands; the median of each, the median of the paired ratios, and the first one's memory.
fn pairs(
    n: usize,
    mut ours: impl FnMut() -> Command,
    mut theirs: impl FnMut() -> Command,
) -> (Duration, Duration, f64, u64) {
    let (mut a, mut b, mut ratios, mut memory) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for i in 0..n + 3 {
        let (wall, peak) = measure(&mut ours());
        let (other, _) = measure(&mut theirs());
        // The first rounds warm both sides up.
        if i >= 3 {
            a.push(wall);
            b.push(other);
            ratios.push(wall.as_secs_f64() / other.as_secs_f64());
            memory.push(peak);
        }
    }
    ratios.sort_by(f64::total_cmp);
    (median(&mut a), median(&mut b), ratios[ratios.len() / 2], median(&mut memory))
}

fn psql() -> std::path::PathBuf {
    client_tool("psql").expect("the figures are held against psql: install postgresql-client")
}

fn select_1(url: &str) -> Command {
    let mut command = Command::new(psql());
    command.args(["-X", "-c", "select 1", url]);
    command
}

fn size(report: &mut String) {
    let bytes = std::fs::metadata(env!("CARGO_BIN_EXE_tandem")).unwrap().len();
    writeln!(report, "size: the release binary has {:.2} MiB", bytes as f64 / 1024.0 / 1024.0).unwrap();
}

/// A start at head with the application's own 97 tables, both stores checked.
fn head(report: &mut String) {
    let world = World::whisperengine();
    world.start(&["true"]).expect(0);
    world.start(&["true"]).expect(0).says(&["unchanged since their last proof"]);
    let url = world.db.url();
    let (ours, psql, ratio, memory) = pairs(60, || world.tandem(["run", "--", "true"]), || select_1(&url));
    writeln!(
        report,
        "head: start to exec, 97 tables: {:.1} ms, psql -X -c 'select 1' {:.1} ms, ratio {ratio:.2}, peak {:.1} MiB (60 pairs)",
        ms(ours),
        ms(psql),
        memory as f64 / 1024.0
    )
    .unwrap();
}

/// A start at head with 2,000 versions applied.
fn head_of_2000(report: &mut String) {
    let world = World::empty();
    world.migrations.write("tandem.toml", "application = \"demo\"\ncatalog_check = \"each-run\"\n");
    for i in 1..=2000 {
        let up = format!("create table t{i} (id int);\n");
        world.version(
            &format!("{i:04}_t{i}"),
            if i <= 97 { &up } else { "select 1;\n" },
            if i <= 97 { "" } else { "[proof]\nsql = \"select true\"\n" },
        );
    }
    world.migrations.write("0001_t1.toml", &common::collection_toml("1", "user_id = \"keyword\""));
    world.record();
    world.start(&["true"]).expect(0);
    world.start(&["true"]).expect(0).says(&["unchanged since their last proof"]);
    let url = world.db.url();
    let (ours, psql, ratio, memory) = pairs(40, || world.tandem(["run", "--", "true"]), || select_1(&url));
    writeln!(
        report,
        "head-2000: start to exec, 2,000 versions: {:.1} ms, psql {:.1} ms, ratio {ratio:.2}, peak {:.1} MiB (40 pairs)",
        ms(ours),
        ms(psql),
        memory as f64 / 1024.0
    )
    .unwrap();
}

/// From the moment both servers accept connections to exec, the stores at head.
fn ready(report: &mut String) {
    let mut pg = Postgres::start(PostgresOptions { durable: true, ..Default::default() }).unwrap();
    let mut qdrant = Qdrant::start(QdrantOptions::default()).unwrap();
    let world = World::on(pg.create_database("ready"), (*qdrant).clone());
    world.small_timeline();
    world.record();
    world.start(&["true"]).expect(0);
    for (name, crash) in [("clean stop", false), ("crash recovery", true)] {
        let (mut gaps, mut early) = (Vec::new(), 0);
        for _ in 0..12 {
            if crash {
                pg.kill9().unwrap();
            } else {
                pg.stop().unwrap();
            }
            qdrant.stop().unwrap();
            let child = world
                .tandem(["run", "--", "date", "+%s%N"])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(150));
            pg.launch().unwrap();
            qdrant.launch().unwrap();
            let accepting = both_accept(&world);
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            let started =
                Duration::from_nanos(String::from_utf8(output.stdout).unwrap().trim().parse().unwrap());
            match started.checked_sub(accepting) {
                Some(gap) => gaps.push(gap),
                None => early += 1,
            }
            pg.wait_ready().unwrap();
            qdrant.wait_ready().unwrap();
        }
        gaps.resize(gaps.len() + early, Duration::ZERO);
        writeln!(
            report,
            "ready: {name}: both accept → command started: median {:.0} ms, worst {:.0} ms (12 starts; the observer polls every 2 ms)",
            ms(median(&mut gaps)),
            ms(*gaps.iter().max().unwrap())
        )
        .unwrap();
    }
}

/// Polls until Postgres answers a login and Qdrant's gRPC port accepts; the time since the epoch.
fn both_accept(world: &World) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use sqlx::Connection as _;
        let url = world.db.url();
        while sqlx::PgConnection::connect(&url).await.is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        while tokio::net::TcpStream::connect((world.qdrant.host(), world.qdrant.grpc_port())).await.is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// 200 small versions on an empty database against one psql transaction with the same SQL.
fn apply_200(report: &mut String) {
    let pg = Postgres::start(PostgresOptions { durable: true, ..Default::default() }).unwrap();
    let qdrant = local_servers::qdrant();
    let mut all = String::new();
    let world = || {
        let mut world = World::on(pg.create_database("apply"), qdrant.clone());
        world.set("QDRANT_URL", "none");
        world
    };
    let recorded = world();
    for i in 1..=200 {
        let up = format!(
            "create table t{i} (id bigint primary key, body text);\ninsert into t{i} values ({i}, 'row');\n"
        );
        all.push_str(&up);
        recorded.version(&format!("{i:04}_t{i}"), &up, "");
    }
    recorded.record();
    let file = recorded.migrations.write("sql/all.sql", &all);
    // The wait for the disk at each commit makes single pairs differ by tens of percent.
    const PAIRS: usize = 20;
    for check in ["each-run", "each-version"] {
        recorded
            .migrations
            .write("tandem.toml", &format!("application = \"demo\"\ncatalog_check = \"{check}\"\n"));
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=PAIRS {
            let mut world = world();
            world.set("TANDEM_MIGRATIONS", recorded.migrations.path().display().to_string());
            let plain = pg.create_database("plain");
            let mut psql = Command::new(psql());
            psql.args(["-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f"]).arg(&file).arg(plain.url());
            let (a, _) = measure(&mut world.tandem(["migrate"]));
            let (b, _) = measure(&mut psql);
            // The first round warms both sides up.
            if round > 0 {
                ours.push(a);
                theirs.push(b);
                ratios.push(a.as_secs_f64() / b.as_secs_f64());
            }
        }
        ratios.sort_by(f64::total_cmp);
        writeln!(
            report,
            "apply-200: check {check}: {:.0} ms, psql -1 -f {:.0} ms, ratio {:.2} ({PAIRS} pairs)",
            ms(median(&mut ours)),
            ms(median(&mut theirs)),
            ratios[ratios.len() / 2]
        )
        .unwrap();
    }
}

/// The pure planner with 10,000 versions.
fn plan_10000(report: &mut String) {
    use tandem::ledger::{Row, standing};
    use tandem::timeline::{CHECKSUM_ALGORITHM, Version, file};
    let mut files = vec![("tandem.toml".to_owned(), "application = \"demo\"\n".to_owned())];
    files.extend(
        (1..=10_000).map(|i| (format!("{i:05}_t{i}.up.sql"), format!("create table t{i} (id int);\n"))),
    );
    let timeline = file::parse("migrations".as_ref(), files, &|_| None).unwrap();
    let rows: Vec<Row> = timeline.versions[..5_000]
        .iter()
        .map(|v| Row {
            version: v.number,
            name: v.name.clone(),
            checksum_raw: v.raw_checksum(),
            checksum_normal: v.normal_checksum(),
            algorithm: CHECKSUM_ALGORITHM,
            origin: "applied".into(),
            compatible_from: 1,
            catalog_digest: None,
            applied_at: String::new(),
        })
        .collect();
    let mut times: Vec<Duration> = (0..9)
        .map(|_| {
            let start = Instant::now();
            let standing = standing(
                &rows,
                &timeline,
                CHECKSUM_ALGORITHM,
                Version::normal_checksum,
                Version::raw_checksum,
            );
            assert_eq!(standing, tandem::ledger::Standing::Prefix { cosmetic: Vec::new() });
            let verdict =
                tandem::verdict::Postgres::Versioned { at: 5_000, extras: Vec::new(), cosmetic: Vec::new() };
            let plan = tandem::plan::postgres(&timeline, &verdict, false).unwrap();
            assert_eq!(plan.apply.len(), 5_000);
            start.elapsed()
        })
        .collect();
    writeln!(report, "plan-10000: 10,000 versions, 5,000 applied: {:.1} ms", ms(median(&mut times))).unwrap();
}
