//! Where binaries and running servers are kept.

use std::env;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::{Context, Error, Result};

/// The directory of this crate's files, made on first use.
pub fn root() -> Result<&'static Path> {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(root) = ROOT.get() {
        return Ok(root);
    }
    let root = make(&place()?)?;
    Ok(ROOT.get_or_init(|| root))
}

/// A directory below [`root`], made if absent.
pub fn subdir(name: &str) -> Result<PathBuf> {
    let dir = root()?.join(name);
    fs::create_dir_all(&dir).at("create", &dir)?;
    // Whatever the umask, servers that run as another user pass through here.
    fs::set_permissions(&dir, Permissions::from_mode(0o755)).at("open up", &dir)?;
    Ok(dir)
}

/// An exclusive lock between processes and threads, held until the file is dropped.
pub fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).at("create", path)?;
    file.lock().at("lock", path)?;
    Ok(file)
}

/// The user that servers run as when this process is root, which Postgres refuses to be: `nobody` on every Linux.
pub fn server_user() -> Option<u32> {
    (effective_uid() == 0).then_some(65534)
}

fn effective_uid() -> u32 {
    fs::metadata("/proc/self").map_or(u32::MAX, |m| m.uid())
}

fn place() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(dir) = set("TANDEM_TEST_CACHE") {
        return Ok(dir);
    }
    if effective_uid() == 0 {
        return Ok("/var/tmp/tandem-servers".into());
    }
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .map(|dir| dir.join("tandem-servers"))
        .ok_or_else(|| Error::new("no place for the test servers: neither HOME nor XDG_CACHE_HOME is set; set TANDEM_TEST_CACHE"))
}

fn make(dir: &Path) -> Result<PathBuf> {
    fs::create_dir_all(dir).context(|| format!("cannot create the test servers' cache {}", dir.display()))?;
    let dir = dir.canonicalize().at("resolve", dir)?;
    let found = fs::metadata(&dir).at("read", &dir)?;
    // Programs are run from here, so nobody else may have put them there.
    if found.uid() != effective_uid() {
        return Err(Error::new(format!(
            "{} belongs to user {}, this is user {}; set TANDEM_TEST_CACHE to a directory of your own",
            dir.display(),
            found.uid(),
            effective_uid()
        )));
    }
    fs::set_permissions(&dir, Permissions::from_mode(0o755)).at("open up", &dir)?;
    if server_user().is_some() {
        for ancestor in dir.ancestors() {
            let mode = fs::metadata(ancestor).at("read", ancestor)?.mode();
            if mode & 0o001 == 0 {
                return Err(Error::new(format!(
                    "root's test servers run as another user, who cannot enter {}; set TANDEM_TEST_CACHE to a directory that all can reach",
                    ancestor.display()
                )));
            }
        }
    }
    Ok(dir)
}
