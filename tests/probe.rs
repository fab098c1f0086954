//! The responder on the bot's port: what it answers, and that the bot has the port at once.

mod common;

use common::World;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tandem::postgres::lock::Key;

/// Ends a test that would hang; nothing is measured with it.
const GUARD: Duration = Duration::from_secs(60);

/// The port that the test called `in_the_bot` binds, as the strictest bot would.
const PORT: &str = "TEST_PORT";

#[test]
fn in_the_bot() {
    let Ok(port) = std::env::var(PORT) else { return };
    // The standard library would set SO_REUSEADDR, which not every server does.
    // SAFETY: plain system calls on a descriptor and an address of this block.
    let bound = unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: port.parse::<u16>().unwrap().to_be(),
            sin_addr: libc::in_addr { s_addr: libc::INADDR_ANY },
            sin_zero: [0; 8],
        };
        let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        libc::bind(socket, (&raw const address).cast(), size)
    };
    println!("bound: {bound} {}", std::io::Error::last_os_error());
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Runs a world's tandem with the responder on a free port of this machine.
struct Start {
    child: Child,
    port: u16,
}

impl Start {
    fn new(world: &World, argv: &[&str], env: &[(&str, &str)]) -> Self {
        let port = free_port();
        let child = command(world, port, argv, env).spawn().unwrap();
        let start = Self { child, port };
        let begin = Instant::now();
        while start.connect().is_none() {
            assert!(begin.elapsed() < GUARD, "nothing listens");
            std::thread::sleep(Duration::from_millis(5));
        }
        start
    }

    fn connect(&self) -> Option<TcpStream> {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()
    }

    /// Sends a request, and reads the answer as clients do: as long as it says.
    fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().expect("the responder");
        stream.write_all(request.as_bytes()).unwrap();
        let (mut answer, mut buffer) = (String::new(), [0; 4096]);
        loop {
            let n = stream.read(&mut buffer).unwrap();
            answer += std::str::from_utf8(&buffer[..n]).unwrap();
            let Some((head, body)) = answer.split_once("\r\n\r\n") else { continue };
            let length = head.split("Content-Length: ").nth(1).unwrap().lines().next().unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                return answer;
            }
            assert_ne!(n, 0, "{answer}");
        }
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    fn answers(&self, path: &str, parts: &[&str]) {
        let begin = Instant::now();
        loop {
            let answer = self.get(path);
            if parts.iter().all(|part| answer.contains(part)) {
                return;
            }
            assert!(begin.elapsed() < GUARD, "{parts:?} are not in\n{answer}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the command wrote.
    fn end(mut self) -> String {
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.child.wait().unwrap();
        text
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        // Has ended already, unless the test failed or the process was to be ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(world: &World, port: u16, argv: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = world.tandem(["run", "--"].iter().chain(argv));
    command.env("TANDEM_PROBE", format!("127.0.0.1:{port}")).env(PORT, port.to_string());
    command.envs(env.iter().copied()).stdout(Stdio::piped());
    command
}

#[test]
fn alive_and_not_ready_while_a_store_is_waited_for() {
    let world = World::small();
    let nobody = format!("postgres://127.0.0.1:{}", free_port());
    let start = Start::new(&world, &["true"], &[("DATABASE_URL", &nobody)]);
    start.answers("/livez", &["HTTP/1.1 200 OK", "\"phase\":\"waiting\""]);
    start.answers(
        "/readyz",
        &["HTTP/1.1 503 ", "Retry-After: 5", "application/json", "\"status\":\"not ready\""],
    );
    start.answers("/health", &["HTTP/1.1 503 "]);
    assert!(start.ask("POST /livez HTTP/1.1\r\n\r\n").contains("HTTP/1.1 405 "));
    // A client that sends no end, or too much, is cut off and costs nobody else anything.
    let mut rude = start.connect().unwrap();
    rude.write_all(&[b'x'; 20_000]).unwrap();
    let mut rest = Vec::new();
    let cut_off = rude.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{cut_off:?}");
    start.answers("/livez", &["HTTP/1.1 200 OK"]);
}

#[test]
fn the_bot_has_the_port_at_once_whatever_is_still_connected() {
    let world = World::small();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lock = format!("select pg_advisory_lock({}, {})", 0x7461_6e64, Key::Timeline("demo".into()).hash());
    let holder = runtime.block_on(async {
        let mut connection = PgConnection::connect(&world.db.url()).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut connection).await.unwrap();
        connection
    });
    let me = std::env::current_exe().unwrap();
    let argv = [me.to_str().unwrap(), "--exact", "in_the_bot", "--nocapture"];
    let start = Start::new(&world, &argv, &[]);
    start.answers("/readyz", &["HTTP/1.1 503 ", "\"phase\":\"working\""]);
    for _ in 0..100 {
        start.get("/livez");
    }
    // One that never asks, one in the middle of its request, one that never closes.
    let silent = start.connect().unwrap();
    let mut slow = start.connect().unwrap();
    slow.write_all(b"GET /li").unwrap();
    let mut kept = start.connect().unwrap();
    kept.write_all(b"GET /readyz HTTP/1.1\r\n\r\n").unwrap();
    kept.read_exact(&mut [0; 12]).unwrap();
    runtime.block_on(holder.close()).unwrap();
    let said = start.end();
    assert!(said.contains("bound: 0"), "{said}");
    drop((silent, slow, kept));
}

#[test]
fn a_held_start_says_why() {
    let world = World::small();
    world.db.execute("create table orders (id int primary key)");
    let start = Start::new(&world, &["true"], &[("TANDEM_ON_REFUSAL", "hold")]);
    start.answers(
        "/readyz",
        &["HTTP/1.1 503 ", "Retry-After: 30", "\"phase\":\"held\"", "\"code\":76", "foreign"],
    );
    start.answers("/livez", &["HTTP/1.1 200 OK"]);
}

#[test]
fn a_port_that_is_taken_is_a_wrong_configuration() {
    let world = World::small();
    let before = world.state();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut command = command(&world, taken.local_addr().unwrap().port(), &["true"], &[]);
    let outcome = common::Outcome::new(command.stderr(Stdio::piped()).output().unwrap());
    outcome.expect(78).says(&["TANDEM_PROBE", "tandem cannot listen", "set TANDEM_PROBE to another port"]);
    assert_eq!(world.state(), before);
    // What an operator calls beside the bot has no port of its own.
    let mut migrate = world.tandem(["migrate"]);
    migrate.env("TANDEM_PROBE", taken.local_addr().unwrap().to_string());
    assert!(migrate.status().unwrap().success());
}
