//! What can be wrong with a timeline on disk.

use super::Number;
use crate::error::{Error, ExitCode};
use std::fmt;

/// A problem with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TimelineError {
    /// The file or directory as it was opened.
    pub path: String,
    /// Line and column, both from 1, where the problem has a place inside the file.
    pub position: Option<(usize, usize)>,
    pub problem: Problem,
}

impl fmt::Display for TimelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.path, self.problem),
            None => write!(f, "{}: {}", self.path, self.problem),
        }
    }
}

/// The problem itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("the directory of the timeline does not exist")]
    NoDirectory,
    #[error("a file where the directory of the timeline is expected")]
    NotADirectory,
    #[error("cannot be read: {0}")]
    Unreadable(String),
    #[error("a directory where a file is expected")]
    DirectoryForFile,
    #[error("not UTF-8")]
    NotUtf8,
    #[error("not the name of a version's file")]
    BadName,
    #[error("the version number {0} is not positive")]
    NumberNotPositive(String),
    #[error("the version number {0} is above {max}", max = Number::MAX)]
    NumberTooLarge(String),
    #[error("version {number} has two names: {name} and {other}")]
    TwoNames { number: Number, name: String, other: String },
    #[error("version {number} has this part a second time, besides {other}")]
    PartTwice { number: Number, other: String },
    #[error("version {0} has a down without an up")]
    DownWithoutUp(Number),
    #[error("the settings of the timeline are missing")]
    NoSettings,
    #[error("the timeline has no versions")]
    NoVersions,
    #[error("{0}")]
    Toml(String),
    /// An unknown key or an unknown value of a fixed set.
    #[error("unknown {what} `{name}`")]
    Unknown { what: &'static str, name: String, known: Vec<String> },
    #[error("the key `application` is missing")]
    NoApplication,
    #[error("`{0}` is empty")]
    Empty(String),
    #[error("the variable {name} is not set")]
    VariableUnset { name: String },
    #[error("`{0}` is not a variable")]
    BadVariable(String),
    #[error("a variable where a constant is expected")]
    VariableInSettings,
    #[error("`ensure` names {name}, which `match` = {matching} does not match")]
    EnsureNotMatched { name: String, matching: String },
    #[error("`ensure` names the pattern {0}, which cannot be created")]
    EnsurePattern(String),
    #[error("`{0}` has no letter and no digit to name a version by")]
    NoSlug(String),
    #[error("collections named {name} are declared twice: {matching} matches them too")]
    DeclaredTwice { name: String, matching: String },
}

/// What the files of a version are called.
pub(super) const FILE_NAMES: &str = "<number>_<name>.up.sql, <number>_<name>.down.sql, <number>_<name>.toml, or <number>_<name>.sql for an up alone";

impl Problem {
    fn expected(&self) -> Option<String> {
        Some(match self {
            Self::BadName => FILE_NAMES.into(),
            Self::NumberNotPositive(_) | Self::NumberTooLarge(_) => {
                format!("a number from 1 to {}", Number::MAX)
            }
            Self::TwoNames { .. } => {
                "one name for all files of a version, and another number for another version".into()
            }
            Self::NoSettings => "tandem.toml beside the versions".into(),
            Self::NoVersions => format!("at least one version: {FILE_NAMES}"),
            Self::Unknown { known, .. } if !known.is_empty() => known.join(", "),
            Self::BadVariable(_) => "${NAME} or ${NAME:-default}".into(),
            Self::VariableInSettings => "the same settings for every deployment of this timeline".into(),
            _ => return None,
        })
    }

    fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::NoDirectory | Self::NotADirectory => {
                "name the directory that holds tandem.toml".into()
            }
            Self::DirectoryForFile => "replace it by the file, or move it out of the timeline".into(),
            Self::NotUtf8 => "save the file as UTF-8".into(),
            Self::BadName => "rename the file, or move it to a subdirectory if it is not part of the timeline".into(),
            Self::PartTwice { .. } => "keep one of the two files".into(),
            Self::DownWithoutUp(_) => {
                "add the up, or remove the down; a version without SQL of its own may have one if its TOML changes a store".into()
            }
            Self::NoSettings | Self::NoApplication => {
                "write `application = \"<name>\"` into it: the name under which the ledger keeps this timeline".into()
            }
            Self::Unknown { name, known, .. } => format!("did you mean `{}`?", nearest(name, known)?),
            Self::VariableUnset { name } => format!("set {name}, or give it a default: ${{{name}:-default}}"),
            Self::BadVariable(_) => "write $${ for a literal ${".into(),
            Self::VariableInSettings => "write the value itself".into(),
            Self::EnsureNotMatched { .. } => {
                "ensure only names that `match` covers, or declare the collection in a [[collection]] of its own".into()
            }
            Self::EnsurePattern(_) => "ensure the names themselves".into(),
            Self::NoSlug(_) => "say in a few words what the version changes".into(),
            Self::DeclaredTwice { .. } => "let each [[collection]] match other names".into(),
            _ => return None,
        })
    }
}

impl From<TimelineError> for Error {
    fn from(error: TimelineError) -> Self {
        let code = match error.problem {
            Problem::NoDirectory | Problem::NotADirectory => ExitCode::Configuration,
            Problem::NoSlug(_) => ExitCode::Usage,
            _ => ExitCode::BadTimeline,
        };
        let mut result = Error::new(code, error.to_string());
        result.expected = error.problem.expected();
        result.remedy = error.problem.remedy();
        result
    }
}

/// The known name that this one was probably meant to be.
fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (distance(name, candidate), candidate.as_str()))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 2)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The Levenshtein distance without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
