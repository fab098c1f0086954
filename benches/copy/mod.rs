//! Copying and rebuilding a Qdrant collection, held against the ceiling: a loader that holds all points in memory and only
//! writes. Beside it the same points copied through the generated structs, a snapshot restored, and the real `tandem`
//! rebuilding the collection behind an alias and under its own name, every point verified. Rounds are interleaved on one
//! server, index building is off, and each side is a process of its own, so that its CPU time and its memory are its own.
//!
//! `TANDEM_BENCH_POINTS` (100,000), `TANDEM_BENCH_ROUNDS` (5); the peak of memory is taken with as many points of one small
//! vector, and with ten times as many.

use crate::common::World;
use crate::median;
use local_servers::{Qdrant, QdrantOptions, QdrantVersion};
use qdrant_client::qdrant as pb;
use qdrant_client::qdrant::collections_client::CollectionsClient;
use qdrant_client::qdrant::points_client::PointsClient;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc};
use tonic::transport::Channel;

/// The first argument of the processes that this benchmark starts of itself; then come their role, the server's gRPC URL,
/// and what the role needs.
pub const ROLE: &str = "copy-role";

/// What the points are like.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// Three vectors and ten payload keys.
    Full,
    /// One small vector and one key, so that a million fit the machine.
    Small,
}

impl Form {
    fn named(name: &str) -> Self {
        match name {
            "full" => Self::Full,
            "small" => Self::Small,
            _ => panic!("{name}"),
        }
    }

    fn vectors(self) -> &'static [&'static str] {
        let all = &["content", "emotion", "semantic"];
        if self == Self::Full { all } else { &all[..1] }
    }

    fn size(self) -> usize {
        if self == Self::Full { 384 } else { 4 }
    }

    fn indexes(self) -> &'static [(&'static str, &'static str)] {
        if self == Self::Full { &INDEXES } else { &INDEXES[..1] }
    }

    /// The declaration that a rebuild is needed for: another write-ahead log, all else as it is.
    fn declaration(self) -> String {
        let mut toml = "compatible_from = 1\n[[collection]]\nmatch = \"${QDRANT_COLLECTION_NAME}\"\n\
            ensure = [\"${QDRANT_COLLECTION_NAME}\"]\n[collection.optimizers_config]\nindexing_threshold = 0\n\
            [collection.wal_config]\nwal_retain_closed = 2\n[collection.vectors]\n"
            .to_owned();
        for name in self.vectors() {
            writeln!(toml, "{name} = {{ size = {}, distance = 'Cosine' }}", self.size()).unwrap();
        }
        toml.push_str("[collection.payload_indexes]\n");
        for (field, kind) in self.indexes() {
            writeln!(toml, "{field} = '{kind}'").unwrap();
        }
        toml
    }
}

const INDEXES: [(&str, &str); 6] = [
    ("user_id", "keyword"),
    ("bot_name", "keyword"),
    ("channel_id", "keyword"),
    ("memory_type", "keyword"),
    ("timestamp_unix", "float"),
    ("importance", "float"),
];

/// Points in a request, and requests under way: what reached most on the machine of docs/performance.md.
const BATCH: usize = 256;
const WRITERS: usize = 4;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What one process needed.
#[derive(Clone, Copy)]
struct Cost {
    /// Of the work itself; preparing is not in it.
    wall: Duration,
    /// User and system, of the whole process except its preparing.
    cpu: Duration,
    /// The same of the server meanwhile.
    server_cpu: Duration,
    peak_kib: u64,
}

impl Cost {
    /// Where both cores are full, wall time follows this, and the machine's other load is not in it.
    fn both_cpu(&self) -> Duration {
        self.cpu + self.server_cpu
    }
}

/// Runs this benchmark's own binary in a role, on a server that is this process.
fn role(server: i32, arguments: &[&str]) -> Cost {
    let before = cpu_of(server).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.arg(ROLE).args(arguments).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{arguments:?} failed");
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let [wall, cpu, peak_kib] = numbers[..] else { panic!("{text}") };
    Cost {
        wall: Duration::from_micros(wall),
        cpu: Duration::from_micros(cpu),
        server_cpu: cpu_of(server).unwrap() - before,
        peak_kib,
    }
}

/// In a role: does it and prints microseconds of wall and CPU time, and KiB of peak memory.
pub fn act(arguments: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (wall, cpu) = runtime.block_on(async {
        match arguments[..] {
            ["load", url, collection, form, points] => {
                load(url, collection, Form::named(form), points.parse().unwrap()).await
            }
            ["copy", url, source, target] => copy_generated(url, source, target).await,
            _ => panic!("{arguments:?}"),
        }
    });
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak = peak.split_whitespace().next().unwrap();
    println!("{} {} {peak}", wall.as_micros(), cpu.as_micros());
}

/// User and system time of this process so far.
fn cpu() -> Duration {
    // SAFETY: zeroes are a valid rusage, and the call writes one.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage), 0);
        usage
    };
    [usage.ru_utime, usage.ru_stime]
        .map(|time| {
            Duration::from_secs(u64::try_from(time.tv_sec).unwrap())
                + Duration::from_micros(u64::try_from(time.tv_usec).unwrap())
        })
        .into_iter()
        .sum()
}

async fn channel(url: &str) -> Channel {
    Channel::from_shared(url.to_owned()).unwrap().connect().await.unwrap()
}

fn points_client(channel: Channel) -> PointsClient<Channel> {
    PointsClient::new(channel).max_decoding_message_size(usize::MAX)
}

/// Creates a collection without index building and with its payload indexes.
async fn create(channel: &Channel, collection: &str, form: Form) {
    let vectors = form.vectors().iter().map(|name| {
        let params = pb::VectorParams {
            size: form.size() as u64,
            distance: pb::Distance::Cosine.into(),
            ..Default::default()
        };
        ((*name).to_owned(), params)
    });
    let config = pb::vectors_config::Config::ParamsMap(pb::VectorParamsMap { map: vectors.collect() });
    let request = pb::CreateCollection {
        collection_name: collection.to_owned(),
        vectors_config: Some(pb::VectorsConfig { config: Some(config) }),
        optimizers_config: Some(pb::OptimizersConfigDiff {
            indexing_threshold: Some(0),
            ..Default::default()
        }),
        ..Default::default()
    };
    CollectionsClient::new(channel.clone()).create(request).await.unwrap();
    for (field, kind) in form.indexes() {
        let kind = if *kind == "keyword" { pb::FieldType::Keyword } else { pb::FieldType::Float };
        let request = pb::CreateFieldIndexCollection {
            collection_name: collection.to_owned(),
            wait: Some(true),
            field_name: (*field).to_owned(),
            field_type: Some(kind.into()),
            ..Default::default()
        };
        points_client(channel.clone()).create_field_index(request).await.unwrap();
    }
}

/// A point like those of the application, the same for the same id.
fn point(id: u64, form: Form) -> pb::PointStruct {
    // A multiplicative generator: as random as vectors need to be, and the same everywhere.
    let mut state = id.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut vectors = HashMap::new();
    for name in form.vectors() {
        vectors.insert((*name).to_owned(), (0..form.size()).map(|_| next()).collect::<Vec<f32>>());
    }
    let text = |text: String| pb::Value::from(text);
    let payload: [(&str, pb::Value); 10] = [
        ("user_id", text(format!("user-{}", id % 500))),
        ("bot_name", text(format!("bot-{}", id % 7))),
        ("channel_id", text(format!("channel-{}", id % 50))),
        (
            "memory_type",
            text(["conversation", "fact", "summary"][usize::try_from(id % 3).unwrap()].to_owned()),
        ),
        ("timestamp", text(format!("2026-01-{:02}T12:00:00Z", 1 + id % 28))),
        ("timestamp_unix", pb::Value::from(1.7e9 + id as f64)),
        ("importance", pb::Value::from(id as f64 % 10.0 / 10.0)),
        (
            "content",
            text(format!("what was said about subject {id}, at some length, and remembered ever since")),
        ),
        ("emotion", text("curiosity".to_owned())),
        ("chunk", pb::Value::from(i64::try_from(id % 5).unwrap())),
    ];
    let keys = if form == Form::Small { 1 } else { payload.len() };
    pb::PointStruct {
        id: Some(id.into()),
        payload: payload.into_iter().take(keys).map(|(key, value)| (key.to_owned(), value)).collect(),
        vectors: Some(vectors.into()),
    }
}

fn upsert(collection: &str, points: Vec<pb::PointStruct>) -> pb::UpsertPoints {
    pb::UpsertPoints {
        collection_name: collection.to_owned(),
        wait: Some(true),
        points,
        ..Default::default()
    }
}

async fn write(client: &mut PointsClient<Channel>, request: pb::UpsertPoints) {
    let reply = client.upsert(request).await.unwrap().into_inner();
    assert_eq!(reply.result.unwrap().status(), pb::UpdateStatus::Completed);
}

/// The ceiling: every request is built before the clock starts.
async fn load(url: &str, collection: &str, form: Form, points: u64) -> (Duration, Duration) {
    let channel = channel(url).await;
    create(&channel, collection, form).await;
    let ids: Vec<u64> = (0..points).collect();
    let request = |ids: &[u64]| upsert(collection, ids.iter().map(|id| point(*id, form)).collect());
    let requests: Vec<pb::UpsertPoints> = ids.chunks(BATCH).map(request).collect();
    let requests = Arc::new(Mutex::new(requests.into_iter()));
    let (start, before) = (Instant::now(), cpu());
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (requests, mut client) = (requests.clone(), points_client(channel.clone()));
            tokio::spawn(async move {
                loop {
                    let request = requests.lock().await.next();
                    let Some(request) = request else { return };
                    write(&mut client, request).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    (start.elapsed(), cpu() - before)
}

/// One scanner that reads ahead, and writers that send what it read, every point decoded and encoded.
async fn copy_generated(url: &str, source: &str, target: &str) -> (Duration, Duration) {
    let channel = channel(url).await;
    create(&channel, target, Form::Full).await;
    let (start, before) = (Instant::now(), cpu());
    let (send, receive) = mpsc::channel::<Vec<pb::PointStruct>>(WRITERS);
    let receive = Arc::new(Mutex::new(receive));
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (receive, mut client) = (receive.clone(), points_client(channel.clone()));
            let target = target.to_owned();
            tokio::spawn(async move {
                loop {
                    let points = receive.lock().await.recv().await;
                    let Some(points) = points else { return };
                    write(&mut client, upsert(&target, points)).await;
                }
            })
        })
        .collect();
    let (mut scanner, mut offset) = (points_client(channel.clone()), None);
    loop {
        let request = pb::ScrollPoints {
            collection_name: source.to_owned(),
            offset,
            limit: Some(BATCH as u32),
            with_payload: Some(true.into()),
            with_vectors: Some(true.into()),
            ..Default::default()
        };
        let page = scanner.scroll(request).await.unwrap().into_inner();
        send.send(page.result.into_iter().map(written).collect()).await.unwrap();
        offset = page.next_page_offset;
        if offset.is_none() {
            break;
        }
    }
    drop(send);
    for writer in writers {
        writer.await.unwrap();
    }
    (start.elapsed(), cpu() - before)
}

/// What was read as what is written; these points have dense vectors with names.
fn written(read: pb::RetrievedPoint) -> pb::PointStruct {
    let Some(pb::vectors_output::VectorsOptions::Vectors(named)) =
        read.vectors.and_then(|vectors| vectors.vectors_options)
    else {
        panic!("a point without named vectors")
    };
    let vectors = named.vectors.into_iter().map(|(name, vector)| match vector.into_vector() {
        pb::vector_output::Vector::Dense(dense) => (name, dense.data),
        other => panic!("{other:?}"),
    });
    let vectors: HashMap<String, Vec<f32>> = vectors.collect();
    pb::PointStruct { id: read.id, payload: read.payload, vectors: Some(vectors.into()) }
}

/// A rate of a round: points a second.
fn rate(points: usize, wall: Duration) -> f64 {
    points as f64 / wall.as_secs_f64()
}

/// The median of the paired ratios to the ceiling, and of the rest.
fn line(report: &mut String, what: &str, points: usize, ceiling: &[Cost], costs: &[Cost]) {
    let ratio = |of: fn(&Cost) -> Duration| {
        let ratio = |(a, b)| of(a).as_secs_f64() / of(b).as_secs_f64();
        let mut ratios: Vec<f64> = ceiling.iter().zip(costs).map(ratio).collect();
        ratios.sort_by(f64::total_cmp);
        let middle = ratios[ratios.len() / 2];
        format!("{middle:.2} ({:.2} to {:.2})", ratios[0], ratios[ratios.len() - 1])
    };
    let middle = |of: fn(&Cost) -> Duration| median(&mut costs.iter().map(of).collect::<Vec<_>>());
    let peak = median(&mut costs.iter().map(|cost| cost.peak_kib).collect::<Vec<_>>());
    writeln!(
        report,
        "copy: {what}: {:.0} points/s, {} of the ceiling, by CPU time {}; client CPU {:.2} s, server {:.2} s, peak {:.0} MiB ({} rounds)",
        rate(points, middle(|cost| cost.wall)),
        ratio(|cost| cost.wall),
        ratio(Cost::both_cpu),
        middle(|cost| cost.cpu).as_secs_f64(),
        middle(|cost| cost.server_cpu).as_secs_f64(),
        peak as f64 / 1024.0,
        costs.len()
    )
    .unwrap();
}

/// A run of tandem, and what it had used when it logged each line.
struct Told {
    whole: Cost,
    lines: Vec<Line>,
}

struct Line {
    text: String,
    wall: Duration,
    cpu: Duration,
    server_cpu: Duration,
}

impl Told {
    /// The phase that a line ends which tells how long it took, and which began about where the line before was logged.
    fn phase(&self, done: &str) -> Cost {
        let at = self.lines.iter().position(|line| line.text.contains(done)).unwrap();
        let (before, line) = (&self.lines[at - 1], &self.lines[at]);
        let seconds = line.text.rsplit_once(" in ").unwrap().1.strip_suffix(" s").unwrap();
        Cost {
            wall: Duration::from_secs_f64(seconds.parse().unwrap()),
            cpu: line.cpu - before.cpu,
            server_cpu: line.server_cpu - before.server_cpu,
            peak_kib: self.whole.peak_kib,
        }
    }

    /// What took longer than a hundredth of the whole, line by line.
    fn course(&self, report: &mut String, what: &str) {
        let all = self.whole.wall.as_secs_f64();
        for (before, line) in self.lines.iter().zip(&self.lines[1..]) {
            let took = (line.wall - before.wall).as_secs_f64();
            let cpu = (line.cpu - before.cpu).as_secs_f64();
            let server = (line.server_cpu - before.server_cpu).as_secs_f64();
            if took > all / 100.0 {
                writeln!(
                    report,
                    "copy: {what}: {took:.2} s of {all:.2} s, CPU {cpu:.2} s and server {server:.2} s: {}",
                    line.text
                )
                .unwrap();
            }
        }
    }
}

/// Runs tandem to its end; its wall time, its CPU time, and the peak of its own memory, read while it runs: what `wait4`
/// tells has the peak of the process that started it in it.
#[expect(clippy::zombie_processes, reason = "wait4 waits for it, because std does not tell the CPU time")]
fn tandem(server: i32, command: &mut Command) -> Told {
    let (start, before) = (Instant::now(), cpu_of(server).unwrap());
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        // The last lines may be read when the process is gone.
        let mut cpu = Duration::ZERO;
        let lines = log.lines().map(|text| {
            cpu = cpu_of(pid).unwrap_or(cpu);
            let server_cpu = cpu_of(server).unwrap();
            Line { text: text.unwrap(), wall: start.elapsed(), cpu, server_cpu }
        });
        // Those that tell how far a phase has come end none.
        lines.filter(|line| !line.text.contains(" a second")).collect::<Vec<_>>()
    });
    let (mut status, mut peak_kib) = (0, 0);
    // SAFETY: zeroes are a valid rusage.
    let mut usage = unsafe { std::mem::zeroed::<libc::rusage>() };
    loop {
        // SAFETY: both out-pointers are valid for the call, and the child is ours and not yet waited for.
        let waited = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) };
        if waited == pid {
            break;
        }
        let read = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let peak = read.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(peak) = peak.and_then(|line| line.split_whitespace().next()) {
            peak_kib = peak.parse().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let wall = start.elapsed();
    let lines = reader.join().unwrap();
    let text = || lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n");
    assert_eq!(status, 0, "{command:?} failed: {}", text());
    let seconds = |time: libc::timeval| {
        Duration::from_secs(u64::try_from(time.tv_sec).unwrap())
            + Duration::from_micros(u64::try_from(time.tv_usec).unwrap())
    };
    let cpu = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    Told { whole: Cost { wall, cpu, server_cpu: cpu_of(server).unwrap() - before, peak_kib }, lines }
}

/// User and system time of another process so far, to a hundredth of a second.
fn cpu_of(pid: i32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Its name may hold anything, a parenthesis included.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// A server, and timelines whose declarations need a rebuild.
struct Place {
    server: Qdrant,
    pid: i32,
    url: String,
}

impl Place {
    fn call(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let (status, answer) = self.server.rest(method, path, body).unwrap();
        assert!(status < 300, "{method} {path}: {answer}");
        serde_json::from_str::<serde_json::Value>(&answer).unwrap()["result"].take()
    }

    fn count(&self, name: &str) -> usize {
        let path = format!("/collections/{name}/points/count");
        let counted = self.call("POST", &path, r#"{"exact": true}"#)["count"].as_u64();
        counted.unwrap().try_into().unwrap()
    }

    /// Deletes a collection and its snapshots.
    fn drop(&self, name: &str) {
        self.drop_snapshots(name);
        self.call("DELETE", &format!("/collections/{name}"), "");
    }

    fn drop_snapshots(&self, name: &str) {
        let path = format!("/collections/{name}/snapshots");
        for snapshot in self.call("GET", &path, "").as_array().unwrap() {
            self.call("DELETE", &format!("{path}/{}", snapshot["name"].as_str().unwrap()), "");
        }
    }

    fn world(&self, form: Form) -> World {
        let world =
            World::on(local_servers::postgres().create_database("copy"), self.server.with_api_key(None));
        world.version("0001_users", "create table users (id bigint primary key);\n", &form.declaration());
        world.record();
        world
    }

    /// Brings an empty database and a collection to the head.
    fn rebuild(&self, recorded: &World, collection: &str) -> Told {
        let mut world = recorded.sibling_on(self.server.with_api_key(None));
        world.set("QDRANT_COLLECTION_NAME", collection);
        tandem(self.pid, &mut world.tandem(["migrate"]))
    }

    /// A rebuild behind an alias, and one under its own name; the collection is gone afterwards.
    fn rebuild_both(&self, recorded: &World, points: usize) -> (Told, Told) {
        let lead =
            r#"{"actions": [{"create_alias": {"collection_name": "memory", "alias_name": "remembered"}}]}"#;
        self.call("POST", "/collections/aliases", lead);
        let alias = self.rebuild(recorded, "remembered");
        assert_eq!(self.count("remembered"), points);
        self.drop("_tandem_shadow_memory_1");
        self.drop_snapshots("memory");
        let own = self.rebuild(recorded, "memory");
        assert_eq!(self.count("memory"), points);
        for name in ["_tandem_shadow_memory_1", "memory"] {
            self.drop(name);
        }
        (alias, own)
    }
}

/// Behind the server's own interval of five seconds, and what a slow disk takes for half a gigabyte.
const FLUSHED: Duration = Duration::from_secs(20);

/// All of it, a line each.
pub fn copy(report: &mut String) {
    let (points, rounds) = (number("TANDEM_BENCH_POINTS", 100_000), number("TANDEM_BENCH_ROUNDS", 5));
    let server =
        Qdrant::start(QdrantOptions { version: QdrantVersion::V1_17_0, ..Default::default() }).unwrap();
    let place =
        Place { url: server.grpc_url(), pid: server.pid().unwrap(), server: server.with_api_key(None) };
    let load = |name: &str, form: &str, points: usize| {
        role(place.pid, &["load", &place.url, name, form, &points.to_string()])
    };
    let recorded = place.world(Form::Full);
    load("source", "full", points);
    // Until the server flushes, a snapshot has every point once more, as an operation, and its recovery runs through those: 1.6 s of
    // CPU time instead of 4.3 at 50,000 points. A collection in use has been flushed but for its last seconds.
    std::thread::sleep(FLUSHED);
    recorded.output(["snapshot", "create", "source"]).expect(0);
    let (mut rounds_of, mut course) = (<[Vec<Cost>; 6]>::default(), String::new());
    for round in 0..=rounds {
        let ceiling = load("ceiling", "full", points);
        place.drop("ceiling");
        let generated = role(place.pid, &["copy", &place.url, "source", "generated"]);
        assert_eq!(place.count("generated"), points);
        place.drop("generated");
        let restored =
            tandem(place.pid, &mut recorded.tandem(["snapshot", "restore", "source", "--into", "memory"]));
        assert_eq!(place.count("memory"), points);
        let (alias, own) = place.rebuild_both(&recorded, points);
        // The first round warms the server up.
        if round > 0 {
            let costs = [ceiling, generated, alias.phase("copied "), alias.whole, own.whole, restored.whole];
            for (all, one) in rounds_of.iter_mut().zip(costs) {
                all.push(one);
            }
            course.clear();
            alias.course(&mut course, "the last rebuild behind an alias");
            own.course(&mut course, "the last one under its own name");
        }
    }
    let whats = [
        "ceiling, all points in memory",
        "through the generated structs",
        "tandem, the copy of a rebuild",
        "tandem, a whole rebuild behind an alias",
        "tandem, a whole rebuild under its own name",
        "tandem snapshot restore, the whole command",
    ];
    for (what, costs) in whats.into_iter().zip(&rounds_of) {
        line(report, what, points, &rounds_of[0], costs);
    }
    report.push_str(&course);
    place.drop("source");

    let recorded = place.world(Form::Small);
    for points in [points, 10 * points] {
        load("memory", "small", points);
        let (alias, own) = place.rebuild_both(&recorded, points);
        writeln!(
            report,
            "copy: peak memory with {points} points of one small vector: behind an alias {:.1} MiB, under its own name {:.1} MiB",
            alias.whole.peak_kib as f64 / 1024.0,
            own.whole.peak_kib as f64 / 1024.0
        )
        .unwrap();
    }
}
