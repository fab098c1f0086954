//! The Docker Engine, through its command line.

pub use crate::common::moments::{GUARD, until};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Everything made here wears it, so that what an interrupted run left can be removed.
pub const LABEL: &str = "tandem-test";

pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    // Its own builder everywhere: what an engine of another age builds with must not decide what is tested.
    command.args(arguments).env("DOCKER_BUILDKIT", "0").stdin(Stdio::null());
    command
}

/// Runs to a good end; standard output without the last line's end.
#[track_caller]
pub fn docker(arguments: &[&str]) -> String {
    succeeds(&mut command(arguments))
}

/// Exit code, and both streams one after the other.
pub fn attempt(arguments: &[&str]) -> (i32, String) {
    let output = command(arguments).output().expect("docker");
    (output.status.code().unwrap_or(-1), both(&output))
}

#[track_caller]
pub fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, both(&output));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Both streams of a container's log.
#[track_caller]
pub fn logs(container: &str) -> String {
    let (code, text) = attempt(&["logs", container]);
    assert_eq!(code, 0, "{text}");
    text
}

/// One field of `docker inspect`, by a Go template.
#[track_caller]
pub fn inspect(container: &str, template: &str) -> String {
    docker(&["inspect", "--format", template, container])
}

pub fn exists(kind: &str, name: &str) -> bool {
    command(&[kind, "inspect", name]).output().expect("docker").status.success()
}

/// The address of a container on its only network.
#[track_caller]
pub fn address(container: &str) -> String {
    inspect(container, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
}

/// Waits until the container's log has this.
#[track_caller]
pub fn says(container: &str, what: &str) {
    until(|| logs(container).contains(what), || format!("{what:?} is not in\n{}", logs(container)));
}

/// GET over HTTP/1.0; `None` while nothing answers.
pub fn get(host: &str, port: u16, path: &str) -> Option<(u16, String)> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect((host, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nhost: {host}\r\n\r\n").ok()?;
    // As far as the answer says, like every real client: the responder leaves the closing to us.
    let mut answer = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let n = stream.read(&mut buffer).ok()?;
        answer.extend_from_slice(&buffer[..n]);
        let text = std::str::from_utf8(&answer).ok()?;
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .to_lowercase()
                .split("content-length: ")
                .nth(1)?
                .lines()
                .next()?
                .parse::<usize>()
                .ok()?;
            if body.len() == length {
                return Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()));
            }
        }
        if n == 0 {
            return None;
        }
    }
}

/// Waits for a 200 and returns its JSON.
#[track_caller]
pub fn ok(host: &str, port: u16, path: &str) -> serde_json::Value {
    let mut body = None;
    until(
        || {
            body = get(host, port, path).filter(|(status, _)| *status == 200).map(|(_, body)| body);
            body.is_some()
        },
        || format!("no 200 for {path}: {:?}", get(host, port, path)),
    );
    serde_json::from_str(&body.unwrap()).unwrap()
}

/// A container that is removed with the value.
pub struct Container(pub String);

impl Container {
    /// `docker run --detach` with these arguments.
    #[track_caller]
    pub fn run(name: &str, arguments: &[&str]) -> Self {
        let container = Self(local_servers::unique_name(name));
        let mut all = vec!["run", "--detach", "--label", LABEL, "--name", &container.0];
        all.extend(arguments);
        docker(&all);
        container
    }

    /// Its exit code when it has ended.
    pub fn wait(&self) -> i32 {
        docker(&["wait", &self.0]).parse().unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.0, attempt(&["logs", &self.0]).1);
        }
        attempt(&["rm", "--force", "--volumes", &self.0]);
    }
}

/// `docker build` with a context of these files and directories under these names.
#[track_caller]
pub fn build(tag: &str, dockerfile: &Path, context: &[(&Path, &str)], arguments: &[&str]) {
    let mut tar = Command::new("tar");
    // Links are followed, or a file's place would have to be in the context too.
    tar.args(["--create", "--dereference", "--numeric-owner"]);
    let files = context.iter().copied().chain([(dockerfile, "Dockerfile")]);
    let mut renames = Vec::new();
    for (path, name) in files {
        let (directory, file) = (path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap());
        tar.arg("--directory").arg(directory).arg(file);
        if file != name {
            renames.push(format!("--transform=s,^{file},{name},"));
        }
    }
    let mut packed = tar.args(renames).stdout(Stdio::piped()).spawn().expect("tar");
    let mut docker = command(&["build", "--quiet", "--tag", tag, "--label", LABEL]);
    docker.args(arguments).arg("-").stdin(packed.stdout.take().unwrap());
    succeeds(&mut docker);
    assert!(packed.wait().unwrap().success());
}
