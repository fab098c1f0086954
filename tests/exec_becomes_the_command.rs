//! The hand-over to the command, seen from the command's side.
//!
//! A process can become another one only once, so each case runs in a child: this test binary again, restricted to the
//! test `in_the_child`.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tandem::config::{self, Environment, OWN_SECRETS};
use tandem::error::ExitCode;
use tandem::exec;
use tandem::signal::{self, Stop};

/// The command to become, one argument a line.
const ARGV: &str = "TEST_ARGV";
/// Send this signal to the process before it becomes the command.
const SIGNAL: &str = "TEST_SIGNAL";
/// The same behind the last look.
const LATE_SIGNAL: &str = "TEST_LATE_SIGNAL";

#[test]
fn in_the_child() {
    let Ok(argv) = std::env::var(ARGV) else { return };
    let argv: Vec<OsString> = argv.lines().map(OsString::from).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stop = Stop::install().unwrap();
        if let Ok(signals) = std::env::var(SIGNAL) {
            for (earlier, signal) in signals.lines().enumerate() {
                let me = std::process::id().to_string();
                assert!(Command::new("kill").args(["-s", signal, &me]).status().unwrap().success());
                // The kernel may give the signal to a thread of the test harness that has not run its handler yet, so
                // one look proves nothing here; that nothing but looking turns the runtime does.
                let patience = Instant::now() + Duration::from_secs(20);
                while (earlier > 0 || stop.last_look().await.is_none()) && Instant::now() < patience {
                    stop.last_look().await;
                }
                if let Some(number) = stop.requested() {
                    println!("requested {number}, waited for {}", stop.wait().await);
                }
            }
        }
        signal::end_at_once();
        assert!(std::env::var(SIGNAL).is_ok() || stop.last_look().await.is_none());
    });
    drop(runtime);
    if let Ok(signal) = std::env::var(LATE_SIGNAL) {
        let number = if signal == "TERM" { libc::SIGTERM } else { libc::SIGINT };
        // A signal to the process goes to its first thread if that one takes it. tandem becomes the command in its first
        // thread; here that is the harness's, and exec would end it before it has run its handler.
        // SAFETY: raise() sends the signal to the calling thread, and takes a number.
        assert_eq!(unsafe { libc::raise(number) }, 0);
    }
    let error = exec::become_command(&argv);
    println!("failed: {error}");
    std::process::exit(error.code.code());
}

fn child(argv: &[&str]) -> Command {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "in_the_child", "--nocapture"]).env(ARGV, argv.join("\n"));
    hearing(child)
}

fn hearing(mut child: Command) -> Command {
    // Whoever runs the tests in the background of a shell has SIGINT ignored, and what they start has too.
    // SAFETY: between fork and exec, signal() takes two numbers and is async-signal-safe.
    unsafe {
        child.pre_exec(|| {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            Ok(())
        });
    }
    child
}

fn output(argv: &[&str]) -> (Option<i32>, String) {
    text(child(argv).output().unwrap())
}

fn text(output: Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A directory of this test, removed with the value.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tandem-exec-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_command_gets_its_arguments_and_its_exit_code_counts() {
    let (code, text) = output(&["sh", "-c", "printf '[%s]' \"$@\"; exit 42", "sh", "a b", "--", "$x"]);
    assert!(text.contains("[a b][--][$x]"), "{text}");
    assert_eq!(code, Some(42));
}

#[test]
fn the_command_has_the_process_id_that_tandem_had() {
    let child = child(&["sh", "-c", "echo pid=$$"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let (_, text) = text(child.wait_with_output().unwrap());
    assert!(text.contains(&format!("pid={id}\n")), "{text}");
}

#[test]
fn the_command_inherits_clean_signal_state() {
    let (_, text) = output(&["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"]);
    for set in ["SigBlk", "SigIgn", "SigCgt"] {
        let line = text.lines().find(|line| line.starts_with(set)).unwrap_or_else(|| panic!("{text}"));
        // SIGTERM is 15, SIGINT 2, SIGPIPE 13; a container's parent may have left others.
        let bits = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
        for signal in [2, 13, 15] {
            assert_eq!(bits >> (signal - 1) & 1, 0, "{line}");
        }
    }
}

#[test]
fn the_command_inherits_the_standard_streams_and_no_other_descriptor() {
    let (_, text) =
        output(&["sh", "-c", "for fd in /proc/$$/fd/*; do echo \"fd=${fd##*/}=$(readlink $fd)\"; done"]);
    let open: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("fd=")).collect();
    assert!(open.len() >= 3, "{text}");
    let leaked: Vec<_> =
        open.iter().filter(|line| line.contains("socket:") || line.contains("anon_inode:")).collect();
    assert_eq!(leaked, [&""; 0], "{text}");
}

#[test]
fn only_our_own_secrets_leave_the_environment() {
    let kept =
        ["DATABASE_URL", "POSTGRES_PASSWORD", "POSTGRES_PASSWORD_FILE", "QDRANT_API_KEY", "TANDEM_TIMEOUT"];
    let mut child = child(&["env"]);
    for name in OWN_SECRETS.iter().chain(&kept) {
        child.env(name, format!("value of {name}"));
    }
    let (_, text) = text(child.output().unwrap());
    for name in OWN_SECRETS {
        assert!(!text.contains(name), "{text}");
    }
    for name in kept {
        assert!(text.contains(&format!("{name}=value of {name}\n")), "{text}");
    }
}

#[test]
fn a_command_that_cannot_be_executed_says_why_before_and_after() {
    let directory = Directory::new("reasons");
    let plain = directory.file("plain", "#!/bin/sh\n", 0o644);
    let orphan = directory.file("orphan", "#!/no/such/interpreter -x\n", 0o755);
    let windows = directory.file("windows", "#!/bin/sh\r\necho\r\n", 0o755);
    let folder = directory.0.to_str().unwrap().to_owned();
    for (program, code, says) in [
        ("no-such-command", 127, "does not exist"),
        ("/no/such/command", 127, "does not exist"),
        ("", 127, "does not exist"),
        (&folder, 126, "it is a directory"),
        (&plain, 126, "it is not executable (chmod +x"),
        (&orphan, 126, "its interpreter \"/no/such/interpreter\" does not exist"),
        (&windows, 126, "Windows line endings"),
    ] {
        let before = exec::check(&[program.into()], &config::environment()).expect_err(program);
        assert_eq!(before.code.code(), code, "{before}");
        assert!(before.to_string().contains(says), "{before}");
        if !program.is_empty() {
            let (after, text) = output(&[program]);
            assert!(text.contains(says), "{text}");
            assert_eq!(after, Some(code), "{text}");
        }
    }
}

#[test]
fn the_path_is_searched_as_exec_does() {
    let directory = Directory::new("path");
    let inner = directory.0.join("inner");
    std::fs::create_dir_all(inner.join("tool")).unwrap();
    directory.file("tool", "#!/bin/sh\necho found", 0o755);
    directory.file("mine", "not executable", 0o644);
    let check = |program: &str, path: &[&Path]| {
        let path = std::env::join_paths(path).unwrap();
        exec::check(&[program.into()], &Environment::from([("PATH".to_owned(), path)])).map_err(|e| e.code)
    };
    // A directory of the name hides nothing, and a file that cannot be executed is better than none.
    assert_eq!(check("tool", &[&inner, &directory.0]), Ok(()));
    assert_eq!(check("tool", &[&inner]), Err(ExitCode::NotFound));
    assert_eq!(check("mine", &[&directory.0]), Err(ExitCode::NotExecutable));
    assert_eq!(
        exec::check(&["tool".into()], &Environment::new()).map_err(|e| e.code),
        Err(ExitCode::NotFound)
    );
}

#[test]
fn no_command_is_a_usage_error() {
    assert_eq!(exec::check(&[], &Environment::new()).unwrap_err().code, ExitCode::Usage);
}

#[test]
fn a_signal_is_seen_before_exec_forgets_it() {
    for (signal, number) in [("TERM", 15), ("INT", 2)] {
        let (_, text) = text(child(&["echo", "became"]).env(SIGNAL, signal).output().unwrap());
        assert!(text.contains(&format!("requested {number}, waited for {number}")), "{text}");
    }
}

/// Between the last look and exec, where a handler that only takes note of it would have it forgotten by exec.
#[test]
fn a_signal_behind_the_last_look_ends_the_process() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let (ended, text) = text(child(&["echo", "became"]).env(LATE_SIGNAL, signal).output().unwrap());
        assert_eq!(ended, Some(code), "{text}");
        assert!(!text.contains("became"), "{text}");
    }
}

/// In a container the process has the id 1, and there the default is to do nothing.
#[test]
fn a_signal_behind_the_last_look_ends_process_1() {
    const NAMESPACE: [&str; 4] = ["--user", "--map-root-user", "--pid", "--fork"];
    if !Command::new("unshare").args(NAMESPACE).arg("true").output().is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: this system lets nobody make a namespace of process ids");
        return;
    }
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let child = child(&["echo", "became"]);
        let mut first = Command::new("unshare");
        first.args(NAMESPACE).arg(child.get_program()).args(child.get_args());
        first.envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))));
        first.env(LATE_SIGNAL, signal);
        let (ended, text) = text(hearing(first).output().unwrap());
        assert_eq!(ended, Some(code), "{text}");
        assert!(!text.contains("became"), "{text}");
    }
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let output = child(&["echo", "became"]).env(SIGNAL, "INT\nTERM").output().unwrap();
    assert_eq!(output.status.signal(), None);
    let (code, text) = text(output);
    assert_eq!(code, Some(143), "{text}");
    assert!(!text.contains("became"), "{text}");
}
