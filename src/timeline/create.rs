//! `tandem create`: the files of a new version, before anything is written.

use super::file::{FileName, Part, SETTINGS};
use super::{Number, Problem, TimelineError};
use std::fmt::Write as _;
use std::path::Path;

/// Which files a new version begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    All,
    /// `.up.sql` and `.down.sql`.
    Sql,
    /// `.toml`.
    Toml,
}

/// A version that has no files yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    pub number: Number,
    pub name: String,
    /// Name and text.
    pub files: Vec<(String, String)>,
}

/// Numbers of so many digits are times in UTC, `20251011143000`, as sqlx and Rails write them.
const TIME_DIGITS: usize = 14;

/// So many digits has a timeline's first version.
const DIGITS: usize = 4;

/// A file name has at most 255 bytes on every file system that matters.
const NAME_LENGTH: usize = 120;

/// The files of the version after the newest among `names`, numbered as that one is. `seconds` is the time since 1970.
///
/// # Errors
/// A directory without settings, a name that could be meant as a version's and is none, a description without a letter
/// or digit, and a number that does not fit.
pub fn create(
    directory: &Path,
    names: &[String],
    description: &str,
    parts: Parts,
    seconds: u64,
) -> Result<Created, TimelineError> {
    let at = |file: &str, problem| TimelineError {
        path: if file.is_empty() { directory.to_owned() } else { directory.join(file) }.display().to_string(),
        position: None,
        problem,
    };
    if !names.iter().any(|name| name == SETTINGS) {
        return Err(at(SETTINGS, Problem::NoSettings));
    }
    let mut newest: Option<(Number, usize, &str)> = None;
    // The newest version's declaration is the one to copy from.
    let mut declared: Option<(Number, &str)> = None;
    for file in names {
        let name = FileName::parse(file).map_err(|problem| at(file, problem))?;
        let FileName::Part { number, name, part } = name else { continue };
        let digits = file.split('_').next().map_or(0, str::len);
        newest = newest.max(Some((number, digits, name)));
        if part == Part::Toml {
            declared = declared.max(Some((number, file)));
        }
    }
    let next = |number: Number| {
        number.checked_add(1).ok_or_else(|| at("", Problem::NumberTooLarge(format!("after {number}"))))
    };
    let (number, digits) = match newest {
        None => (1, DIGITS),
        // A version from a clock that was ahead stays below.
        Some((number, TIME_DIGITS, _)) => (time_number(seconds).max(next(number)?), TIME_DIGITS),
        Some((number, digits, _)) => (next(number)?, digits),
    };
    let name = slug(description).ok_or_else(|| at("", Problem::NoSlug(description.to_owned())))?;
    let stem = format!("{number:0digits$}_{name}");
    let below = newest.map(|(number, _, _)| number);
    let mut files = Vec::new();
    if parts != Parts::Toml {
        files.push((format!("{stem}.up.sql"), up(description)));
        files.push((format!("{stem}.down.sql"), down(below)));
    }
    if parts != Parts::Sql {
        files.push((format!("{stem}.toml"), toml(below, declared.map(|(_, file)| file))));
    }
    Ok(Created { number, name, files })
}

/// A description as a part of a file's name.
fn slug(description: &str) -> Option<String> {
    let mut slug = String::new();
    for word in description.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        if slug.len() + word.len() >= NAME_LENGTH {
            break;
        }
        let separator = if slug.is_empty() { "" } else { "_" };
        let _ = write!(slug, "{separator}{}", word.to_ascii_lowercase());
    }
    (!slug.is_empty()).then_some(slug)
}

/// `20251011143000` in UTC.
fn time_number(seconds: u64) -> Number {
    let seconds = Number::try_from(seconds).unwrap_or(Number::MAX);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // The Gregorian calendar repeats after 146,097 days; a year that begins in March has its leap day at the end.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + Number::from(month <= 2);
    let date = (year * 100 + month) * 100 + day;
    ((date * 100 + second / 3_600) * 100 + second / 60 % 60) * 100 + second % 60
}

fn up(description: &str) -> String {
    // A line break would end the comment.
    let description = description.split_whitespace().collect::<Vec<_>>().join(" ");
    format!(
        "-- {description}\n\
         --\n\
         -- Runs in one transaction with its ledger row. What it drops or converts is archived first; rows that it updates or\n\
         -- deletes are named in the TOML, [[archive]]. A statement that Postgres forbids in a transaction, such as CREATE INDEX\n\
         -- CONCURRENTLY, gets a version of its own whose first line is `-- tandem:no-transaction`.\n\n"
    )
}

fn down(below: Option<Number>) -> String {
    let below = below.map_or("an empty database".to_owned(), |below| format!("version {below}"));
    format!(
        "-- Leads back to the catalog of {below}, in one transaction. Rows and values that were archived come back by themselves,\n\
         -- and what this drops is archived for the next upgrade.\n\n"
    )
}

fn toml(below: Option<Number>, declared: Option<&str>) -> String {
    let compatible = below.unwrap_or(1);
    let copied = declared.map(|file| format!(" Begin with a copy from {file}.")).unwrap_or_default();
    format!(
        "# The release of the application that needs this version.\n\
         # release = \"1.0.0\"\n\n\
         # The oldest version whose application can still run on this one; without it, only this version's.\n\
         # compatible_from = {compatible}\n\n\
         # Does a database have this version? Needed where the catalog does not show it: data, comments, function bodies.\n\
         # [proof]\n\
         # sql = \"select not exists (select from users where settings is null)\"\n\n\
         # Idempotent statements behind the SQL, which completing the version runs too: seeds, back-fills.\n\
         # [data]\n\
         # sql = \"update users set settings = '{{}}' where settings is null\"\n\n\
         # Rows that this version updates or deletes, kept as they were before.\n\
         # [[archive]]\n\
         # table = \"users\"\n\
         # where = \"settings is null\"\n\n\
         # The whole schema of the collections from this version on, if it changes.{copied}\n\
         # [[collection]]\n\
         # match = \"${{QDRANT_COLLECTION_NAME:-memory}}\"\n\
         # ensure = [\"${{QDRANT_COLLECTION_NAME:-memory}}\"]\n\
         # [collection.vectors.content]\n\
         # size = 384\n\
         # distance = \"Cosine\"\n\
         # [collection.payload_indexes]\n\
         # user_id = \"keyword\"\n\n\
         # What points get where they lack it: a vector from another one, a payload value.\n\
         # [[fill]]\n\
         # vector = \"semantic\"\n\
         # from = {{ vector = \"content\" }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::file::parse;
    use crate::timeline::lint::{Severity, lint};

    /// 2026-11-25 12:00:00 UTC.
    const NOW: u64 = 1_795_608_000;

    fn created(names: &[&str], description: &str, parts: Parts) -> Result<Created, TimelineError> {
        let names: Vec<String> = names.iter().chain(&["tandem.toml"]).map(|&name| name.to_owned()).collect();
        create(Path::new("m"), &names, description, parts, NOW)
    }

    #[test]
    fn a_new_version_is_numbered_as_the_newest_one_is() {
        for (names, expected) in [
            (&[][..], "0001_more"),
            (&["README.md", "catalog"], "0001_more"),
            (&["0001_a.up.sql", "0002_b.toml"], "0003_more"),
            (&["0009_a.up.sql", "0010_b.sql", "0002_c.down.sql"], "0011_more"),
            (&["1_a.sql"], "2_more"),
            (&["9_a.sql"], "10_more"),
            (&["9999_a.sql"], "10000_more"),
            (&["20251011143000_a.sql"], "20261125120000_more"),
            (&["0001_a.sql", "20251011143000_a.sql"], "20261125120000_more"),
            (&["20261125120000_a.sql"], "20261125120001_more"),
            (&["20990101000000_a.sql"], "20990101000001_more"),
        ] {
            let created = created(names, "More", Parts::All).unwrap();
            let files: Vec<&str> = created.files.iter().map(|(name, _)| name.as_str()).collect();
            let wanted = [".up.sql", ".down.sql", ".toml"].map(|suffix| format!("{expected}{suffix}"));
            assert_eq!(files, wanted, "{names:?}");
        }
    }

    #[test]
    fn a_description_becomes_a_name() {
        let long = "x".repeat(60);
        let three = format!("{long} {long} {long}");
        for (description, name) in [
            ("Add user settings", "add_user_settings"),
            ("  --v1.0.41: käse & brot!  ", "v1_0_41_k_se_brot"),
            ("../../etc/passwd", "etc_passwd"),
            ("A\nB\u{0}C", "a_b_c"),
            (&three, &long),
        ] {
            assert_eq!(created(&[], description, Parts::Sql).unwrap().name, name);
        }
        for nothing in ["", "  ", "–", "../.."] {
            let error = created(&[], nothing, Parts::All).unwrap_err();
            assert_eq!(error.problem, Problem::NoSlug(nothing.to_owned()));
        }
    }

    #[test]
    fn what_is_no_timeline_gets_no_version() {
        let none = create(Path::new("m"), &[], "more", Parts::All, NOW).unwrap_err();
        assert_eq!(none.to_string(), "m/tandem.toml: the settings of the timeline are missing");
        let misnamed = created(&["0001_a.sql", "later.sql"], "more", Parts::All).unwrap_err();
        assert_eq!(misnamed.to_string(), "m/later.sql: not the name of a version's file");
        let full = created(&["9223372036854775807_a.sql"], "more", Parts::All).unwrap_err();
        assert_eq!(full.problem, Problem::NumberTooLarge("after 9223372036854775807".into()));
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, number) in [
            (0, 19_700_101_000_000),
            (951_782_400, 20_000_229_000_000),
            (951_868_799, 20_000_229_235_959),
            (4_107_542_399, 21_000_228_235_959),
            (4_107_542_400, 21_000_301_000_000),
            (1_735_689_599, 20_241_231_235_959),
            (NOW, 20_261_125_120_000),
        ] {
            assert_eq!(time_number(seconds), number, "{seconds}");
        }
    }

    /// A template that was not filled in must not run, and what it suggests must be right.
    #[test]
    fn a_template_is_refused_until_it_says_something_and_right_when_its_comments_are_taken_off() {
        let first = ("0001_a.up.sql".to_owned(), "create table users (settings text)".to_owned());
        let settings = ("tandem.toml".to_owned(), "application = 'a'".to_owned());
        for parts in [Parts::All, Parts::Sql, Parts::Toml] {
            let created = created(&["0001_a.up.sql", "0001_a.toml"], "more", parts).unwrap();
            let timeline = |change: &dyn Fn(&str, &str) -> String| {
                let mut files = vec![first.clone(), settings.clone()];
                files.extend(created.files.iter().map(|(name, text)| (name.clone(), change(name, text))));
                parse(Path::new("m"), files, &|_| None).unwrap()
            };
            let problems = |findings: Vec<crate::timeline::lint::Finding>| {
                findings.into_iter().filter(|f| f.severity == Severity::Error).collect::<Vec<_>>()
            };
            let untouched = timeline(&|_, text| text.to_owned());
            assert!(!problems(lint(&untouched, |_| true)).is_empty(), "{parts:?}");
            let filled = timeline(&|name, text| match name.rsplit('.').next() {
                Some("toml") => {
                    let bare = text.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| {
                        let key = line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
                        key || line.starts_with('[')
                    });
                    bare.collect::<Vec<_>>().join("\n").replace(
                        "[[fill]]",
                        "[collection.vectors.semantic]\nsize = 384\ndistance = \"Cosine\"\n[[fill]]",
                    )
                }
                _ if name.ends_with("up.sql") => format!("{text}create table more (a int);\n"),
                _ => format!("{text}drop table more;\n"),
            });
            assert_eq!(problems(lint(&filled, |_| true)), [], "{parts:?}");
            let version = &filled.versions[1];
            assert_eq!(version.down.is_some(), parts != Parts::Toml);
            if parts != Parts::Sql {
                assert!(version.proof.is_some() && version.data.is_some() && version.collections.is_some());
                assert_eq!((version.archives.len(), version.fills.len(), version.compatible_from), (1, 1, 1));
            }
        }
    }
}
