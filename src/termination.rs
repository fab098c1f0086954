//! The last words: Kubernetes shows what a container wrote to its termination log.

use crate::error::Error;
use std::io::Write;
use std::path::Path;

/// Where the kubelet mounts it. Plain Docker has none.
pub const DEFAULT_PATH: &str = "/dev/termination-log";

/// The kubelet reads no more.
const LIMIT: usize = 4096;

/// Writes the cause as one line, if the file exists. It is opened without creating it, and that it cannot be written
/// is no second failure.
pub fn write(path: &Path, error: &Error) {
    if let Ok(mut file) = std::fs::OpenOptions::new().write(true).truncate(true).open(path) {
        let _ = file.write_all(line(error).as_bytes());
    }
}

/// The error as one line of at most 4096 bytes.
fn line(error: &Error) -> String {
    let mut line = error.to_string().lines().map(str::trim).collect::<Vec<_>>().join("; ");
    line.truncate(line.floor_char_boundary(LIMIT - 1));
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ExitCode;

    #[test]
    fn the_cause_is_one_line_that_fits() {
        let error = Error::new(ExitCode::Unreachable, "no\nanswer").remedy("é".repeat(4000));
        let line = line(&error);
        assert!(line.starts_with("no; answer; remedy:   é"), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.len() <= LIMIT && line.len() > LIMIT - 4, "{}", line.len());
    }

    #[test]
    fn a_file_that_does_not_exist_is_not_created() {
        let path = std::env::temp_dir().join(format!("tandem-termination-{}", std::process::id()));
        let error = Error::new(ExitCode::Bug, "cause");
        write(&path, &error);
        assert!(!path.exists());
        std::fs::write(&path, "an older and longer cause").unwrap();
        write(&path, &error);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "cause\n");
        std::fs::remove_file(&path).unwrap();
    }
}
