//! A server process in its own directory, which ends with whoever started it.
//!
//! The directory is the server's identity: it is in the command line, and the file `pid` in it is written by the
//! process that becomes the server. So a process is known to be this server even after its parent was killed, and
//! across users, for which Linux shows command lines but not open files.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::ops::Deref;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::cache;
use crate::error::{Context, Error, Result};
use crate::port::Port;

/// Longest wait for a server to get ready or to end; the machine may be busy with many.
pub const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(5);

/// How to start a server again and again.
#[derive(Debug, Clone)]
pub struct Launch {
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// The signal by which an operator ends it.
    pub stop: i32,
    /// The signal that ends it at once.
    pub quick_stop: i32,
}

/// A server of one's own; ends with the value. Dereferences to [`Postgres`](crate::Postgres) or
/// [`Qdrant`](crate::Qdrant).
#[derive(Debug)]
pub struct Process<S> {
    pub(crate) server: S,
    pub(crate) instance: Instance,
    pub(crate) ping: fn(&S) -> Result<()>,
    /// Keeps the ports from others while the server is stopped.
    pub(crate) _ports: Vec<Port>,
}

impl<S> Deref for Process<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.server
    }
}

impl<S> Process<S> {
    /// Ends it as an operator would (`pg_ctl stop -m fast`; SIGTERM for Qdrant) and waits. Its files stay.
    pub fn stop(&mut self) -> Result<()> {
        self.instance.stop(self.instance.launch.stop)
    }

    /// Kills all of its processes at once, as a power cut would; the next start recovers.
    pub fn kill9(&mut self) -> Result<()> {
        self.instance.kill()
    }

    /// Starts it again on its ports with its data, stopping it first if it runs, and waits until it is ready.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.launch()?;
        self.wait_ready()
    }

    /// Starts it again without waiting, after [`stop`](Self::stop) or [`kill9`](Self::kill9).
    pub fn launch(&mut self) -> Result<()> {
        self.instance.launch()
    }

    /// Waits until it is ready: the superuser can log in, or `/readyz` says so and the gRPC port accepts.
    ///
    /// # Errors
    /// If the server ended instead; with the end of its log.
    pub fn wait_ready(&mut self) -> Result<()> {
        let (server, ping) = (&self.server, self.ping);
        self.instance.wait_ready(|| ping(server))
    }

    /// Stops all of its processes (SIGSTOP): the kernel still accepts connections, and nothing answers.
    pub fn pause(&self) -> Result<()> {
        self.instance.signal(libc::SIGSTOP, true)
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn cont(&self) -> Result<()> {
        self.instance.signal(libc::SIGCONT, true)
    }

    /// Sends a signal (a number of signal(7)) to the main process: to Postgres SIGTERM for a smart shutdown, SIGHUP to
    /// reload.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.instance.signal(signal, false)
    }

    /// The main process' id while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.instance.child.as_ref().map(pid_of)
    }

    /// Its directory: `data/` (Postgres), `storage/` and `snapshots/` (Qdrant), `log`.
    pub fn dir(&self) -> &Path {
        &self.instance.dir
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.instance.log()
    }
}

/// A server's directory, and its process while it runs.
#[derive(Debug)]
pub struct Instance {
    dir: PathBuf,
    keep: bool,
    launch: Launch,
    child: Option<Child>,
    keeper: Option<Child>,
}

impl Instance {
    /// For this process alone: ends with it. The directory is removed afterwards, unless it is to be kept.
    pub fn private(dir: PathBuf, keep: bool, launch: Launch) -> Result<Instance> {
        let keeper = spawn_keeper(&dir, keep, launch.quick_stop, None)?;
        Ok(Instance { dir, keep, launch, child: None, keeper: Some(keeper) })
    }

    /// For all processes that lock `users`: ends when none has for `linger`.
    pub fn shared(dir: PathBuf, users: &Path, linger: Duration, launch: Launch) -> Result<Instance> {
        spawn_keeper(&dir, false, launch.quick_stop, Some((users, linger)))?;
        Ok(Instance { dir, keep: true, launch, child: None, keeper: None })
    }

    /// Starts the server, without waiting until it is ready.
    pub fn launch(&mut self) -> Result<()> {
        if self.child.is_some() {
            return Err(Error::new(format!("the server in {} runs already", self.dir.display())));
        }
        let mut command = server_command("sh", &self.dir)?;
        command
            .args(["-c", "echo $$ >pid && exec \"$0\" \"$@\""])
            .arg(&self.launch.program)
            .args(&self.launch.args)
            .envs(self.launch.env.iter().map(|(k, v)| (k, v)));
        let child = command.spawn().at("start", &self.launch.program)?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until `ready`, for as long as the process lives.
    pub fn wait_ready(&mut self, mut ready: impl FnMut() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.exited()? {
                return Err(Error::new(format!(
                    "the server ended while starting ({status}). {}",
                    self.log_tail()
                )));
            }
            match ready() {
                Ok(()) => return Ok(()),
                Err(e) if Instant::now() > deadline => {
                    return Err(Error::new(format!(
                        "the server is not ready after {PATIENCE:?}: {e}. {}",
                        self.log_tail()
                    )));
                }
                Err(_) => sleep(POLL),
            }
        }
    }

    /// Leaves a shared server running when the value goes.
    pub fn detach(mut self) {
        self.child = None;
    }

    /// Sends `signal` and waits for the end. Nothing if it does not run.
    pub fn stop(&mut self, signal: i32) -> Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let pid = pid_of(child);
        send(pid, signal);
        // A paused server would never act on it.
        family(pid).into_iter().for_each(|p| send(p, libc::SIGCONT));
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait().context(|| format!("cannot wait for process {pid}"))?.is_none() {
            if Instant::now() > deadline {
                self.kill()?;
                return Err(Error::new(format!(
                    "process {pid} ignored signal {signal} for {PATIENCE:?} and was killed"
                )));
            }
            sleep(POLL);
        }
        self.child = None;
        Ok(())
    }

    /// SIGKILL to the server and its children at once, as a power cut would.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let pid = pid_of(&child);
        // Stopped first, so that it does not replace the children that die before it.
        send(pid, libc::SIGSTOP);
        let children = family(pid);
        children.iter().for_each(|p| send(*p, libc::SIGKILL));
        child.wait().context(|| format!("cannot wait for process {pid}"))?;
        let deadline = Instant::now() + PATIENCE;
        while children.iter().any(|p| running(*p)) && Instant::now() < deadline {
            sleep(POLL);
        }
        release_shared_memory(&self.dir);
        Ok(())
    }

    /// Sends `signal` to the server's process, or with `children` to all of its processes.
    pub fn signal(&self, signal: i32, children: bool) -> Result<()> {
        let pid = pid_of(self.child.as_ref().ok_or_else(|| self.not_running())?);
        if children {
            family(pid).into_iter().for_each(|p| send(p, signal));
        } else {
            send(pid, signal);
        }
        Ok(())
    }

    fn exited(&mut self) -> Result<Option<ExitStatus>> {
        let not_running = self.not_running();
        let child = self.child.as_mut().ok_or(not_running)?;
        let status = child.try_wait().context(|| "cannot ask for the server's exit status".into())?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    fn not_running(&self) -> Error {
        Error::new(format!("the server in {} does not run", self.dir.display()))
    }

    fn log(&self) -> String {
        fs::read(self.dir.join("log"))
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!("Its log ends:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.stop(self.launch.quick_stop).is_err() {
            eprintln!("the test server in {} did not end in order", self.dir.display());
        }
        if let Some(mut keeper) = self.keeper.take() {
            if !self.keep && fs::remove_dir_all(&self.dir).is_err() {
                eprintln!("the test server's directory {} cannot be removed", self.dir.display());
            }
            // A line says that there is nothing left to do. If it is gone, so is its task.
            if keeper.stdin.take().is_some_and(|mut stdin| stdin.write_all(b"done\n").is_ok()) {
                let _ = keeper.wait();
            }
        }
    }
}

/// Makes a directory that only the server's user and we can read.
pub fn make_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).at("create", dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o700)).at("close", dir)?;
    give(dir)
}

/// Writes a file in a server's directory that only the server's user and we can read.
pub fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).at("write", path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).at("close", path)?;
    give(path)
}

fn give(path: &Path) -> Result<()> {
    match cache::server_user() {
        Some(user) => chown(path, Some(user), Some(user))
            .context(|| format!("cannot give {} to user {user}", path.display())),
        None => Ok(()),
    }
}

/// A command as the server's user, in its directory, logging there, with nothing of our environment but the path.
pub fn server_command(program: impl AsRef<std::ffi::OsStr>, dir: &Path) -> Result<Command> {
    let path = dir.join("log");
    let log = File::options().create(true).append(true).open(&path).at("open", &path)?;
    let again = log.try_clone().at("share", &path)?;
    let mut command = Command::new(program);
    command
        .current_dir(dir)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(again)
        // Ctrl-C is for the tests; the server ends after them.
        .process_group(0);
    if let Some(user) = cache::server_user() {
        command.uid(user).gid(user);
    }
    Ok(command)
}

/// Ends what runs in `dir` and removes it: the rest of a run that died, or of a start that failed.
pub fn clear(dir: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while let Some(pid) = server_in(dir) {
        family(pid).into_iter().for_each(|p| send(p, libc::SIGKILL));
        if Instant::now() > deadline {
            return Err(Error::new(format!("process {pid} in {} cannot be killed", dir.display())));
        }
        sleep(POLL);
    }
    if dir.exists() {
        fs::remove_dir_all(dir).at("remove", dir)?;
    }
    Ok(())
}

/// Frees the System V segment by which Postgres guards its data directory: it survives a kill, but no power cut.
fn release_shared_memory(dir: &Path) {
    // The seventh line has the segment's key and id. A Postgres that ended in order has removed the file.
    let file = fs::read_to_string(dir.join("data/postmaster.pid")).unwrap_or_default();
    let id = file.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    if let Some(id) = id {
        // SAFETY: removing a segment by its id takes no pointer; it fails harmlessly if there is none or it is not ours.
        unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

/// Does the server in `dir` run, and answer in the end? A busy machine may keep it from that for a while, and others use it.
pub fn lives(dir: &Path, answers: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while server_in(dir).is_some_and(running) {
        if answers() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        sleep(POLL);
    }
    false
}

fn server_in(dir: &Path) -> Option<i32> {
    let pid = fs::read_to_string(dir.join("pid")).ok()?.trim().parse().ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    String::from_utf8_lossy(&line).contains(dir.to_str()?).then_some(pid)
}

fn spawn_keeper(dir: &Path, keep: bool, signal: i32, users: Option<(&Path, Duration)>) -> Result<Child> {
    let mut command = Command::new("sh");
    command
        .args(["-c", include_str!("keeper.sh"), "keeper"])
        .env("DIR", dir)
        .env("KEEP", if keep { "1" } else { "" })
        .env("SIGNAL", signal.to_string())
        .env("USERS", users.map_or(Path::new(""), |(file, _)| file))
        .env("LINGER", users.map_or(0, |(_, linger)| linger.as_secs()).to_string())
        .current_dir("/")
        .stdin(if users.is_some() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    command.spawn().context(|| "cannot run sh, which ends the test servers".into())
}

fn pid_of(child: &Child) -> i32 {
    child.id().cast_signed()
}

fn send(pid: i32, signal: i32) {
    // SAFETY: kill takes two numbers and touches no memory. The result says at most that the process is gone.
    unsafe { libc::kill(pid, signal) };
}

/// A process and all that descend from it.
fn family(pid: i32) -> Vec<i32> {
    let parents: Vec<(i32, i32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.1)))
        .collect();
    let mut family = vec![pid];
    let mut next = 0;
    while next < family.len() {
        let of = family[next];
        family.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(child, _)| *child));
        next += 1;
    }
    family
}

fn running(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

/// State and parent of a process, from /proc/PID/stat; what comes before them is a name that may hold anything.
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
