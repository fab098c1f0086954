//! The shipped compose files, unchanged, with either generation of Compose.

use crate::docker::{docker, succeeds};
use crate::images;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A compose file of the repository's root, as one project with volumes of its own; down with the value.
///
/// The quick start has fixed names and ports, so there is one of them at a time; whoever uses it holds the turn.
pub struct Project {
    program: String,
    file: &'static str,
    name: &'static str,
    /// What the user would have in `.env`.
    pub environment: Vec<(&'static str, String)>,
    _turn: MutexGuard<'static, ()>,
}

static QUICKSTART: Mutex<()> = Mutex::new(());
static DEVELOPMENT: Mutex<()> = Mutex::new(());

/// Debian's Compose, 1.29.
pub const V1: &str = "docker-compose";

/// Compose v2, which `tests/containers/engine` fetches.
pub fn v2() -> String {
    std::env::var("TANDEM_TEST_COMPOSE_V2")
        .expect("TANDEM_TEST_COMPOSE_V2, which tests/containers/engine sets")
}

impl Project {
    pub fn quickstart(program: &str) -> Self {
        Self::new(program, "docker-compose.quickstart.yml", "tandem-test-quickstart", &QUICKSTART)
    }

    pub fn development(program: &str) -> Self {
        Self::new(program, "docker-compose.yml", "tandem-test-development", &DEVELOPMENT)
    }

    fn new(program: &str, file: &'static str, name: &'static str, turn: &'static Mutex<()>) -> Self {
        let turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        images::make();
        let project = Self { program: program.into(), file, name, environment: Vec::new(), _turn: turn };
        project.compose(&["down", "--volumes", "--remove-orphans"]);
        project
    }

    #[track_caller]
    pub fn compose(&self, arguments: &[&str]) -> String {
        succeeds(&mut self.command(arguments))
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(images::root())
            .args(["--file", self.file, "--project-name", self.name])
            .args(arguments)
            .envs(images::build_variables())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("DOCKER_BUILDKIT", "0")
            .stdin(Stdio::null());
        command
    }

    /// The names of a service's containers.
    #[track_caller]
    pub fn containers(&self, service: &str) -> Vec<String> {
        let project = format!("label=com.docker.compose.project={}", self.name);
        let service = format!("label=com.docker.compose.service={service}");
        let names =
            docker(&["ps", "--all", "--format", "{{.Names}}", "--filter", &project, "--filter", &service]);
        names.lines().map(str::to_owned).collect()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let output = self.command(&["logs", "--no-color", "--tail", "60"]).output();
            eprintln!(
                "{}",
                output.map_or_else(|e| e.to_string(), |o| String::from_utf8_lossy(&o.stdout).into_owned())
            );
        }
        let _ = self.command(&["down", "--volumes", "--remove-orphans", "--timeout", "3"]).output();
    }
}
