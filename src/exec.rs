//! Becoming the command: the last thing tandem does, and what is wrong with a command that cannot be executed.

use crate::config::{Environment, OWN_SECRETS};
use crate::error::{Error, ExitCode, Result};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the C libraries look if PATH is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Replaces this process by the command. Returns only if that failed.
///
/// tandem's own secrets leave the environment; all other variables, open standard streams, the working directory and
/// the process id stay. Handled signals return to their default, and descriptors are close-on-exec from birth.
pub fn become_command(argv: &[OsString]) -> Error {
    let Some((program, arguments)) = argv.split_first() else {
        return Error::new(ExitCode::Usage, "no command to become").remedy("tandem run -- CMD ARGS");
    };
    let mut command = Command::new(program);
    command.args(arguments);
    for name in OWN_SECRETS {
        command.env_remove(name);
    }
    explain(program, &command.exec())
}

/// Checks that the command can be executed, before anything is changed for its sake.
///
/// # Errors
/// 127 if it does not exist, 126 if it exists and cannot be executed.
pub fn check(argv: &[OsString], environment: &Environment) -> Result<()> {
    let Some(program) = argv.first() else {
        return Err(Error::new(ExitCode::Usage, "no command to become").remedy("tandem run -- CMD ARGS"));
    };
    let path = environment.get("PATH").map(OsString::as_os_str);
    let Some(file) = find(program, path) else { return Err(not_found(program, path)) };
    obstacle(&file).map_or(Ok(()), |reason| Err(not_executable(program, &file, reason)))
}

/// The file that a name stands for: itself with a slash in it, else the first match in PATH, executable ones first.
fn find(program: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(program)).filter(|file| exists(file));
    }
    if program.is_empty() {
        return None;
    }
    let candidates =
        || std::env::split_paths(path.unwrap_or_default()).map(|directory| directory.join(program));
    let is_candidate = |file: &PathBuf| file.is_file() && is_executable(file);
    candidates().find(is_candidate).or_else(|| candidates().find(|file| file.is_file()))
}

/// A dangling link or an unreadable directory is no file that could be executed.
fn exists(file: &Path) -> bool {
    file.metadata().is_ok() || file.metadata().is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}

/// Why a file that exists cannot be executed, as far as that can be seen without trying.
fn obstacle(file: &Path) -> Option<String> {
    if file.is_dir() {
        return Some("it is a directory".into());
    }
    if !is_executable(file) {
        return Some(format!("it is not executable (chmod +x {})", file.display()));
    }
    let interpreter = interpreter(file).filter(|path| path.is_absolute() && !path.exists())?;
    let is_from_windows = interpreter.as_os_str().as_bytes().ends_with(b"\r");
    let hint = if is_from_windows { " (the file has Windows line endings)" } else { "" };
    Some(format!("its interpreter {interpreter:?} does not exist{hint}"))
}

/// The program that a script's first line names.
fn interpreter(file: &Path) -> Option<PathBuf> {
    let mut start = [0; 256];
    let length = File::open(file).and_then(|mut file| file.read(&mut start)).ok()?;
    let line = start[..length].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let name = line.trim_ascii_start().split(|byte| matches!(byte, b' ' | b'\t')).next()?;
    Some(PathBuf::from(OsStr::from_bytes(name)))
}

/// The reason for an exec that failed.
fn explain(program: &OsStr, error: &io::Error) -> Error {
    let path = std::env::var_os("PATH");
    match find(program, path.as_deref()) {
        None => not_found(program, path.as_deref()),
        Some(file) => not_executable(program, &file, obstacle(&file).unwrap_or_else(|| error.to_string())),
    }
}

fn not_found(program: &OsStr, path: Option<&OsStr>) -> Error {
    let error = Error::new(ExitCode::NotFound, format!("the command {} does not exist", program.display()));
    if program.as_bytes().contains(&b'/') {
        return error.expected("a file of this name in the image");
    }
    error.expected(format!(
        "an executable file of this name in PATH ({})",
        path.unwrap_or(OsStr::new(DEFAULT_PATH)).display()
    ))
}

fn not_executable(program: &OsStr, file: &Path, reason: String) -> Error {
    let place = if program == file.as_os_str() { String::new() } else { format!(" ({})", file.display()) };
    Error::new(
        ExitCode::NotExecutable,
        format!("the command {}{place} cannot be executed: {reason}", program.display()),
    )
}
