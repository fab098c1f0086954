//! The one error of the edges and the one enum of exit codes.

use std::fmt;

/// What the process ends with. Distinct codes serve a Kubernetes Job's `podFailurePolicy` as well as people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// Both stores are at the target.
    Ok,
    /// A step failed; the stores are where the message says.
    StepFailed,
    /// `plan --exit-code` found changes.
    Pending,
    /// The command line is wrong.
    Usage,
    /// The timeline on disk is malformed or contradicts the ledger.
    BadTimeline,
    /// A store was not reachable before the deadline.
    Unreachable,
    /// A defect of tandem.
    Bug,
    /// The lock was not obtained in time.
    LockTimeout,
    /// What was found is not something that tandem may change: foreign, ahead, skewed.
    Refused,
    /// A store rejects the credentials, or they lack a right.
    Authentication,
    /// The configuration is wrong.
    Configuration,
    /// The command exists and cannot be executed.
    NotExecutable,
    /// The command does not exist.
    NotFound,
    /// Ended by a signal; 128 + its number.
    Signal(i32),
}

impl ExitCode {
    /// The number that the process exits with.
    pub fn code(self) -> i32 {
        match self {
            Self::Ok => 0,
            Self::StepFailed => 1,
            Self::Pending => 2,
            Self::Usage => 64,
            Self::BadTimeline => 65,
            Self::Unreachable => 69,
            Self::Bug => 70,
            Self::LockTimeout => 75,
            Self::Refused => 76,
            Self::Authentication => 77,
            Self::Configuration => 78,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
            Self::Signal(number) => 128 + number,
        }
    }
}

/// A failure as a person needs it: what was found, what was expected, what resolves it.
///
/// Never holds a password or an API key: whoever builds one names hosts, users and databases only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// Decides the exit code.
    pub code: ExitCode,
    /// One sentence: what was found or what failed.
    pub found: String,
    /// What would have been right.
    pub expected: Option<String>,
    /// What to do, as a command where there is one.
    pub remedy: Option<String>,
    /// The connection was lost: looking again may find the work done, so this alone ends nothing.
    pub lost: bool,
}

/// The result of everything that touches the world.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with its exit code and its finding.
    pub fn new(code: ExitCode, found: impl Into<String>) -> Self {
        Self { code, found: found.into(), expected: None, remedy: None, lost: false }
    }

    /// Another run has been at the same meanwhile: looking again may find the work done.
    pub fn overtaken(found: impl Into<String>) -> Self {
        Self { lost: true, ..Self::new(ExitCode::Unreachable, found).remedy("start again") }
    }

    /// Adds what would have been right.
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Adds what to do.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The finding with a prefix that says where it happened.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.found = format!("{place}: {}", self.found);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.found)?;
        if let Some(expected) = &self.expected {
            write!(f, "\n  expected: {expected}")?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "\n  remedy:   {remedy}")?;
        }
        Ok(())
    }
}
