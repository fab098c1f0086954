//! Copying a Qdrant collection: the ceiling, which is a loader that holds all points in memory and only writes; the same
//! points copied through the generated structs; and a snapshot restored. Rounds are interleaved on one server, index building
//! is off, and each side is a process of its own, so that its CPU time and its memory are its own.
//!
//! `TANDEM_BENCH_POINTS` (100,000), `TANDEM_BENCH_ROUNDS` (5).

use crate::common::World;
use crate::median;
use local_servers::{Qdrant, QdrantOptions, QdrantVersion};
use qdrant_client::qdrant as pb;
use qdrant_client::qdrant::collections_client::CollectionsClient;
use qdrant_client::qdrant::points_client::PointsClient;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc};
use tonic::transport::Channel;

/// The first argument of the processes that this benchmark starts of itself; then come their role, the server's gRPC URL,
/// and what the role needs.
pub const ROLE: &str = "copy-role";

const VECTORS: [&str; 3] = ["content", "emotion", "semantic"];
const SIZE: usize = 384;
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
    peak_kib: u64,
}

/// Runs this benchmark's own binary in a role.
fn role(arguments: &[&str]) -> Cost {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.arg(ROLE).args(arguments).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{arguments:?} failed");
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let [wall, cpu, peak_kib] = numbers[..] else { panic!("{text}") };
    Cost { wall: Duration::from_micros(wall), cpu: Duration::from_micros(cpu), peak_kib }
}

/// In a role: does it and prints microseconds of wall and CPU time, and KiB of peak memory.
pub fn act(arguments: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (wall, cpu) = runtime.block_on(async {
        match arguments[..] {
            ["load", url, collection, points] => load(url, collection, points.parse().unwrap()).await,
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
async fn create(channel: &Channel, collection: &str) {
    let vectors = VECTORS.map(|name| {
        let params = pb::VectorParams {
            size: SIZE as u64,
            distance: pb::Distance::Cosine.into(),
            ..Default::default()
        };
        (name.to_owned(), params)
    });
    let config = pb::vectors_config::Config::ParamsMap(pb::VectorParamsMap { map: vectors.into() });
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
    for (field, kind) in INDEXES {
        let kind = if kind == "keyword" { pb::FieldType::Keyword } else { pb::FieldType::Float };
        let request = pb::CreateFieldIndexCollection {
            collection_name: collection.to_owned(),
            wait: Some(true),
            field_name: field.to_owned(),
            field_type: Some(kind.into()),
            ..Default::default()
        };
        points_client(channel.clone()).create_field_index(request).await.unwrap();
    }
}

/// A point like those of the application, the same for the same id.
fn point(id: u64) -> pb::PointStruct {
    // A multiplicative generator: as random as vectors need to be, and the same everywhere.
    let mut state = id.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut vectors = HashMap::new();
    for name in VECTORS {
        vectors.insert(name.to_owned(), (0..SIZE).map(|_| next()).collect::<Vec<f32>>());
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
    pb::PointStruct {
        id: Some(id.into()),
        payload: payload.map(|(key, value)| (key.to_owned(), value)).into(),
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
async fn load(url: &str, collection: &str, points: u64) -> (Duration, Duration) {
    let channel = channel(url).await;
    create(&channel, collection).await;
    let ids: Vec<u64> = (0..points).collect();
    let requests: Vec<pb::UpsertPoints> =
        ids.chunks(BATCH).map(|ids| upsert(collection, ids.iter().map(|id| point(*id)).collect())).collect();
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
    create(&channel, target).await;
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
    let mut ratios: Vec<f64> =
        ceiling.iter().zip(costs).map(|(a, b)| a.wall.as_secs_f64() / b.wall.as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    let middle = |of: fn(&Cost) -> Duration| median(&mut costs.iter().map(of).collect::<Vec<_>>());
    let peak = median(&mut costs.iter().map(|cost| cost.peak_kib).collect::<Vec<_>>());
    writeln!(
        report,
        "copy: {what}: {:.0} points/s, {:.2} of the ceiling, client CPU {:.2} s, peak {:.0} MiB ({} rounds)",
        rate(points, middle(|cost| cost.wall)),
        ratios[ratios.len() / 2],
        middle(|cost| cost.cpu).as_secs_f64(),
        peak as f64 / 1024.0,
        costs.len()
    )
    .unwrap();
}

/// Runs tandem to its end; its wall time, its CPU time, and the peak of its own memory, read while it runs: what `wait4`
/// tells has the peak of the process that started it in it.
#[expect(clippy::zombie_processes, reason = "wait4 waits for it, because std does not tell the CPU time")]
fn tandem(command: &mut Command) -> Cost {
    let start = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
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
    assert_eq!(status, 0, "{command:?} failed");
    let seconds = |time: libc::timeval| {
        Duration::from_secs(u64::try_from(time.tv_sec).unwrap())
            + Duration::from_micros(u64::try_from(time.tv_usec).unwrap())
    };
    Cost { wall: start.elapsed(), cpu: seconds(usage.ru_utime) + seconds(usage.ru_stime), peak_kib }
}

/// All of it, a line each.
pub fn copy(report: &mut String) {
    let (points, rounds) = (number("TANDEM_BENCH_POINTS", 100_000), number("TANDEM_BENCH_ROUNDS", 5));
    let server =
        Qdrant::start(QdrantOptions { version: QdrantVersion::V1_17_0, ..Default::default() }).unwrap();
    let world = World::on(local_servers::postgres().create_database("copy"), server.with_api_key(None));
    let url = server.grpc_url();
    let drop_collection = |name: &str| {
        server.rest("DELETE", &format!("/collections/{name}"), "").unwrap();
    };
    role(&["load", &url, "source", &points.to_string()]);
    world.output(["snapshot", "create", "source"]).expect(0);
    let count = |name: &str| {
        let path = format!("/collections/{name}/points/count");
        let (_, body) = server.rest("POST", &path, r#"{"exact": true}"#).unwrap();
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["result"]["count"].as_u64().unwrap()
    };
    let (mut ceiling, mut generated, mut restored) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let one = role(&["load", &url, "ceiling", &points.to_string()]);
        drop_collection("ceiling");
        let two = role(&["copy", &url, "source", "generated"]);
        assert_eq!(count("generated"), points as u64);
        drop_collection("generated");
        let three = tandem(&mut world.tandem(["snapshot", "restore", "source", "--into", "restored"]));
        assert_eq!(count("restored"), points as u64);
        drop_collection("restored");
        // The first round warms the server up.
        if round > 0 {
            ceiling.push(one);
            generated.push(two);
            restored.push(three);
        }
    }
    line(report, "ceiling, all points in memory", points, &ceiling, &ceiling);
    line(report, "through the generated structs", points, &ceiling, &generated);
    line(report, "tandem snapshot restore, the whole command", points, &ceiling, &restored);
}
