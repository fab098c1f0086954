//! SIGTERM and SIGINT wherever a run can be, and what the command finds when it has taken over.

mod common;

use common::moments::{Copying, Holder, UnreadableYet, nothing_is_left, sleeper, sleeps, until};
use common::{Dir, World};
use local_servers::proxy::{Action, Direction, Proxy};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt as _;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tandem::postgres::lock::Key;

const SIGNALS: [(&str, i32); 2] = [("TERM", 143), ("INT", 130)];

/// A process under way, with what it has written to standard error so far.
struct Running {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        // Whoever runs the tests in the background of a shell has SIGINT ignored, and what they start has too.
        // SAFETY: between fork and exec, signal() takes two numbers and is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGINT, libc::SIG_DFL);
                Ok(())
            });
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, written) = (BufReader::new(child.stderr.take().unwrap()).lines(), log.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *written.lock().unwrap() += &format!("{line}\n");
            }
        });
        Self { child, log }
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has written this.
    #[track_caller]
    fn says(&self, what: &str) {
        until(|| self.log().contains(what), || format!("{what:?} is not in\n{}", self.log()));
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// The exit code, or the negated signal, and standard output.
    #[track_caller]
    fn end(mut self) -> (i32, String) {
        let (child, log, mut status) = (&mut self.child, &self.log, None);
        until(
            || {
                status = child.try_wait().unwrap();
                status.is_some()
            },
            || format!("it does not end\n{}", log.lock().unwrap()),
        );
        let status = status.unwrap();
        let mut output = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        (status.code().or(status.signal().map(|signal| -signal)).unwrap(), output)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Has ended already, unless the test failed.
        let _ = self.child.kill();
    }
}

/// Sends the signal, and holds the end and what is left against what should be.
#[track_caller]
fn ends(world: &World, running: Running, (signal, code): (&str, i32)) {
    running.signal(signal);
    let log = running.log.clone();
    assert_eq!(running.end(), (code, String::new()), "{}", log.lock().unwrap());
    nothing_is_left(world);
}

/// Nothing has been set up yet then but the handlers.
#[test]
fn while_settings_are_read() {
    let mut world = World::small();
    let file = UnreadableYet::new(&world);
    let url = file.path.display().to_string();
    world.env.retain(|(name, _)| name != "DATABASE_URL");
    world.set("DATABASE_URL_FILE", url);
    for signal in SIGNALS {
        let running = Running::start(world.tandem(["run", "--", "echo", "became"]));
        let _opened = file.opened();
        ends(&world, running, signal);
    }
}

#[test]
fn while_waiting() {
    let world = World::small();
    let before = world.state();
    for signal in SIGNALS {
        for (store, variable) in [("Postgres", "DATABASE_URL"), ("Qdrant", "QDRANT_URL")] {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let scheme = if store == "Postgres" { "postgres" } else { "http" };
            let mut command = world.tandem(["run", "--", "echo", "became"]);
            command.env(variable, format!("{scheme}://127.0.0.1:{free}"));
            let running = Running::start(command);
            running.says(&format!("Waiting for {store}"));
            ends(&world, running, signal);
        }
    }
    assert_eq!(world.state(), before);
}

#[test]
fn while_another_instance_holds_the_lock() {
    for signal in SIGNALS {
        let world = World::small();
        let before = world.state();
        let holder = Holder::of(&world, &Key::Timeline("demo".into()));
        let running = Running::start(world.tandem(["run", "--", "echo", "became"]));
        running.says("Waiting for the lock of timeline demo");
        running.signal(signal.0);
        assert_eq!(running.end(), (signal.1, String::new()));
        drop(holder);
        nothing_is_left(&world);
        assert_eq!(world.state(), before);
        world.start(&["true"]).expect(0);
    }
}

#[test]
fn while_another_instance_holds_a_collections_lock() {
    for signal in SIGNALS {
        let world = World::small();
        let holder = Holder::of(&world, &Key::Collection(world.collection.clone()));
        let running = Running::start(world.tandem(["run", "--", "echo", "became"]));
        running.says("Waiting for the lock of collection");
        running.signal(signal.0);
        assert_eq!(running.end(), (signal.1, String::new()));
        drop(holder);
        nothing_is_left(&world);
        world.start(&["true"]).expect(0);
        assert_eq!(world.stamp()["version"], 2);
    }
}

#[test]
fn inside_a_transaction() {
    for signal in SIGNALS {
        let world = sleeper();
        let before = world.state();
        let running = Running::start(world.tandem(["run", "--", "echo", "became"]));
        sleeps(&world);
        ends(&world, running, signal);
        assert_eq!(world.state(), before);
        world.db.execute("delete from users");
        world.start(&["true"]).expect(0).says(&["Applied version 3"]);
        assert_eq!(world.query("select count(*)::text from tandem.journal where ended is null"), "0");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let world = sleeper();
    let proxy = Proxy::start((world.db.server().host(), world.db.server().port())).unwrap();
    let mut command = world.tandem(["run", "--", "echo", "became"]);
    command.env("DATABASE_URL", proxy.url(&world.db.url()));
    let running = Running::start(command);
    sleeps(&world);
    // Nothing gets through any more, so the first signal's work on the server cannot succeed.
    proxy.pause();
    running.signal("TERM");
    running.signal("INT");
    let (code, output) = running.end();
    assert!(matches!(code, 130 | 143), "{code}");
    assert_eq!(output, "");
    world.db.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()");
    nothing_is_left(&world);
}

#[test]
fn while_a_call_to_qdrant_hangs() {
    let undisturbed = World::small();
    undisturbed.start(&["true"]).expect(0);
    for signal in SIGNALS {
        let world = World::small();
        let proxy = Proxy::start((world.qdrant.host(), world.qdrant.grpc_port())).unwrap();
        let hangs = Arc::new(AtomicBool::new(false));
        let hook = hangs.clone();
        proxy.on_chunk(move |chunk| {
            // The first request with a vector's name in it creates the collection.
            let creates = chunk.direction == Direction::ToServer
                && chunk.bytes.windows(7).any(|window| window == b"content");
            match creates || hook.load(SeqCst) {
                true => {
                    hook.store(true, SeqCst);
                    Action::Swallow
                }
                false => Action::Forward,
            }
        });
        let mut command = world.tandem(["run", "--", "echo", "became"]);
        command.env("QDRANT_URL", proxy.url(&world.qdrant.grpc_url()));
        let running = Running::start(command);
        until(|| hangs.load(SeqCst), || running.log());
        ends(&world, running, signal);
        world.start(&["true"]).expect(0);
        assert_eq!(world.state(), undisturbed.state());
        assert_eq!(world.query("select count(*)::text from tandem.journal where ended is null"), "0");
    }
}

#[test]
fn while_points_are_copied() {
    for signal in SIGNALS {
        let mut copying = Copying::new();
        let running = Running::start(copying.world.tandem(["run", "--", "echo", "became"]));
        until(|| copying.hangs(), || running.log());
        ends(&copying.world, running, signal);
        copying.is_untouched_and_goes_on();
    }
}

/// From the first instruction, over exec, into the command.
#[test]
fn at_any_moment_of_a_start_at_head() {
    let world = World::small();
    world.start(&["true"]).expect(0);
    let before = world.state();
    let (mut by_tandem, mut by_the_command) = (0, 0);
    for (signal, code) in SIGNALS {
        for delay in (0..).map(|step| Duration::from_micros(1500 * step)) {
            let running = Running::start(world.tandem(["run", "--", "sleep", "600"]));
            std::thread::sleep(delay);
            running.signal(signal);
            let log = running.log.clone();
            let (found, _) = running.end();
            // Without a handler yet, or any more, the signal itself is how the process ended.
            assert!(found == code || found == 128 - code, "{found} after {delay:?}\n{}", log.lock().unwrap());
            if found == code {
                by_tandem += 1;
            } else if log.lock().unwrap().contains("initialization complete") {
                by_the_command += 1;
                if by_the_command % 5 == 0 {
                    break;
                }
            }
        }
    }
    assert!(by_tandem > 0 && by_the_command > 0, "{by_tandem} and {by_the_command}");
    nothing_is_left(&world);
    assert_eq!(world.state(), before);
}

#[test]
fn a_refused_start_can_stay_up_and_goes_on_after_the_mend() {
    let mut world = World::small();
    let directory = Dir::new();
    let words = directory.write("termination-log", "");
    world.set("TANDEM_TERMINATION_LOG", words.display().to_string());
    world.set("TANDEM_ON_REFUSAL", "hold");
    world.db.execute("create table orders (id int primary key)");
    for signal in SIGNALS {
        let running = Running::start(world.tandem(["run", "--", "echo", "became"]));
        running.says("looking again in 30 s");
        nothing_is_left(&world);
        assert!(std::fs::read_to_string(&words).unwrap().contains("foreign"));
        ends(&world, running, signal);
    }
    let running = Running::start(world.tandem(["run", "--", "echo", "became"]));
    running.says("looking again in 30 s");
    world.db.execute("drop table orders");
    assert_eq!(running.end(), (0, "became\n".to_owned()));
    // Only what somebody can mend is held, and only by the command that becomes another one.
    world.db.execute(
        "insert into users (name) values ('x'); insert into notes (id, user_id) select 1, id from users; \
         alter table notes alter column body drop default, alter column body type int using 0",
    );
    world.output(["migrate"]).expect(76);
    world.start(&["no-such-command"]).expect(127);
    world.env.retain(|(name, _)| name != "QDRANT_URL");
    world.start(&["true"]).expect(78);
}

/// What a command can see of itself: arguments, process, directory, signals, descriptors, environment, standard input.
/// A shell that starts another process blocks signals meanwhile, so it reads their masks itself.
const MIRROR: &str = r#"
printf 'arg=%s\n' "$@"; echo "pid=$$"; echo "cwd=$(pwd)"
while read -r line; do case $line in Sig[PBIC]*|ShdPnd*) echo "$line";; esac; done < /proc/$$/status
for fd in /proc/$$/fd/*; do target=$(readlink $fd) && echo "fd=${fd##*/} ${target%%[*}"; done
cat /proc/$$/environ | tr '\0' '\n' | sed 's/^/env /' | sort
sed 's/^/stdin=/'
exit 7
"#;

fn mirrored(mut command: Command) -> (u32, Option<i32>, Vec<String>) {
    let mut child = command
        .args(["sh", "-c", MIRROR, "sh", "a b", "--", "$x", ""])
        .current_dir("/usr")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"for the bot\n").unwrap();
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (id, output.status.code(), text.lines().map(str::to_owned).collect())
}

#[test]
fn the_command_finds_everything_as_if_tandem_had_never_been_there() {
    let mut world = World::small();
    let url = world.db.url();
    world.set("TANDEM_DATABASE_URL", url);
    world.set("DATABASE_URL", "the bot's own");
    world.set("QDRANT_API_KEY", "the bot's own");
    // Started as a fresh pair, then on the fast path.
    for _ in 0..2 {
        let (id, code, with) = mirrored(world.tandem(["run", "--"]));
        let mut plain = Command::new("env");
        plain
            .env_clear()
            .envs(world.tandem(["version"]).get_envs().filter_map(|(name, value)| Some((name, value?))));
        let (plain_id, plain_code, without) = mirrored(plain);
        assert_eq!((code, plain_code), (Some(7), Some(7)), "{with:?}");
        assert!(with.contains(&format!("pid={id}")), "{with:?}");
        assert!(with.contains(&"cwd=/usr".to_owned()) && with.contains(&"stdin=for the bot".to_owned()));
        assert!(with.contains(&"env QDRANT_API_KEY=the bot's own".to_owned()), "{with:?}");
        let own = |line: &&String| line.starts_with("env TANDEM_DATABASE_URL=");
        assert!(without.iter().any(|line| own(&line)) && !with.iter().any(|line| own(&line)), "{with:?}");
        let rest = |lines: &[String], id: u32| -> Vec<String> {
            let own_pid = format!("pid={id}");
            lines.iter().filter(|line| !own(line) && **line != own_pid).cloned().collect()
        };
        assert_eq!(rest(&with, id), rest(&without, plain_id));
    }
}

#[test]
fn what_was_ignored_from_the_beginning_stays_ignored() {
    let world = World::small();
    let command = ["grep", "SigIgn", "/proc/self/status"];
    for (trap, bits) in [("INT", 0x2), ("TERM INT", 0x4002), ("USR1", 0x200)] {
        let under_trap = |inner: &Command| {
            let mut outer = Command::new("sh");
            outer
                .args(["-c", &format!("trap '' {trap}; exec \"$@\""), "sh"])
                .arg(inner.get_program())
                .args(inner.get_args())
                .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
            Running::start(outer).end()
        };
        let plain = under_trap(Command::new(command[0]).args(&command[1..]));
        assert_eq!(under_trap(&world.tandem(["run", "--"].iter().chain(&command))), plain, "{trap}");
        let set = plain.1.trim_start_matches("SigIgn:").trim();
        assert_eq!(u64::from_str_radix(set, 16).unwrap() & bits, bits, "{trap}: {set}");
    }
}

#[test]
fn a_command_that_a_signal_ends_is_the_process_that_it_ends() {
    let world = World::small();
    assert_eq!(world.start(&["sh", "-c", "kill -9 $$"]).code, -9);
    // Neither signal is ignored or caught any more.
    for (signal, number) in [("TERM", 15), ("INT", 2)] {
        let running = Running::start(world.tandem(["run", "--", "sh", "-c", "echo up >&2; exec sleep 600"]));
        running.says("up\n");
        running.signal(signal);
        assert_eq!(running.end().0, -number);
    }
}

#[test]
fn plan_and_verify_tell_by_their_exit_code_what_is_pending() {
    let world = World::small();
    let before = world.state();
    world.output(["plan"]).expect(0);
    world.output(["plan", "--exit-code"]).expect(2);
    world.output(["plan", "--json", "--exit-code"]).expect(2);
    world.output(["verify"]).expect(2).says(&["not at head", "tandem plan", "tandem migrate"]);
    world.output(["status"]).expect(0);
    assert_eq!(world.state(), before);
    world.output(["migrate"]).expect(0);
    let before = world.state();
    for command in [&["plan", "--exit-code"][..], &["verify"], &["verify", "--wait"], &["migrate"]] {
        world.output(command).expect(0);
    }
    assert_eq!(world.state(), before);
}

#[test]
fn verify_waits_until_another_instance_has_migrated() {
    let world = World::small();
    let running = Running::start(world.tandem(["verify", "--wait", "--timeout", "0"]));
    running.says("Waiting until somebody has migrated");
    world.output(["migrate"]).expect(0);
    let (code, output) = running.end();
    assert_eq!(code, 0);
    assert!(output.contains("At head"), "{output}");
    // And it can be stopped, and gives up.
    world.version("0003_later", "create table later (id int primary key);\n", "");
    world.record();
    world.output(["verify", "--wait", "--timeout", "3s"]).expect(2);
    for signal in SIGNALS {
        let running = Running::start(world.tandem(["verify", "--wait", "--timeout", "0"]));
        running.says("Waiting until somebody has migrated");
        ends(&world, running, signal);
    }
}
