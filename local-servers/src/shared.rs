//! Servers that all test processes of this machine's user share.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache;
use crate::error::{Context, Error, Result};
use crate::process;

/// How long a shared server outlives its last user.
pub const LINGER: Duration = Duration::from_secs(60);

/// A shared server's description, and the lock that says that it is in use.
pub struct Membership<S> {
    pub state: S,
    _users: File,
}

/// Joins the shared server `name`: the running one if it answers (`alive`), else what `start` starts in the directory
/// it is given, with the file whose lock says that the server is in use.
pub fn join<S: Serialize + DeserializeOwned>(
    name: &str,
    alive: impl Fn(&S) -> bool,
    start: impl FnOnce(&Path, &Path) -> Result<S>,
) -> Result<Membership<S>> {
    if !on_path("flock") {
        return Err(Error::new(
            "the program flock (package util-linux) is not on PATH; shared test servers end by it",
        ));
    }
    cache::subdir("shared")?;
    let home = cache::subdir(&format!("shared/{name}"))?;
    let users_path = home.join("users");
    let users = File::create(&users_path).at("create", &users_path)?;
    // Waits out a keeper that is just ending the server.
    users.lock_shared().at("lock", &users_path)?;
    let _one_starts = cache::lock(&home.join("start.lock"))?;
    let dir = home.join("server");
    let state_path = dir.join("state.json");
    let found: Option<S> = fs::read(&state_path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    if let Some(state) = found {
        if process::lives(&dir, || alive(&state)) {
            return Ok(Membership { state, _users: users });
        }
        // Others were using it: what it said last is all that tells why it ended.
        let _ = fs::rename(dir.join("log"), home.join("ended.log"));
    }
    process::clear(&dir)?;
    process::make_dir(&dir)?;
    let state = start(&dir, &users_path)?;
    let text = serde_json::to_string(&state).context(|| format!("cannot describe {name}"))?;
    process::write_file(&state_path, &text)?;
    Ok(Membership { state, _users: users })
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}
