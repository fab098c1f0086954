//! The files of `migrations/` → [`Timeline`].

use super::declaration::{self, Declaration, Variables};
use super::{Number, Problem, SqlFile, Timeline, TimelineError, TomlFile, Version};
use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// The file with the settings.
pub(super) const SETTINGS: &str = "tandem.toml";

/// The first line of a SQL file that runs outside of a transaction.
pub(super) const NO_TRANSACTION: &str = "-- tandem:no-transaction";

/// Reads and parses a timeline. `variables` fills `${NAME}` in the TOML of versions and must not tell secrets:
/// what it gives can appear in messages.
///
/// # Errors
/// The first problem, with its place: of files that cannot be read, else in the order of file names.
pub fn load(directory: &Path, variables: Variables) -> Result<Timeline, TimelineError> {
    parse(directory, read_files(directory)?, variables)
}

/// Name and text of all files that belong to the timeline, in no particular order.
///
/// # Errors
/// A directory or file that cannot be read, or that is the other of the two; text that is not UTF-8.
pub fn read_files(directory: &Path) -> Result<Vec<(String, String)>, TimelineError> {
    let in_directory = |error: std::io::Error| {
        let problem = match error.kind() {
            ErrorKind::NotFound => Problem::NoDirectory,
            ErrorKind::NotADirectory => Problem::NotADirectory,
            _ => Problem::Unreadable(error.to_string()),
        };
        TimelineError { path: directory.display().to_string(), position: None, problem }
    };
    let mut files = Vec::new();
    let mut buffer = Vec::with_capacity(64 * 1024);
    for entry in fs::read_dir(directory).map_err(in_directory)? {
        let entry = entry.map_err(in_directory)?;
        let name = entry.file_name();
        let path = entry.path();
        let at = |position, problem| TimelineError { path: path.display().to_string(), position, problem };
        match FileName::parse(&name.to_string_lossy()) {
            Ok(FileName::Other) => continue,
            Ok(_) => {}
            Err(problem) => {
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                return Err(at(None, if is_directory { Problem::DirectoryForFile } else { problem }));
            }
        }
        // A name that is not UTF-8 keeps its replacement characters in messages and in the version's name.
        let name = name.to_string_lossy().into_owned();
        buffer.clear();
        // `take` hides the file, whose own `read_to_end` asks for its size first: a fifth of the time for small files.
        let read = fs::File::open(&path).and_then(|file| file.take(u64::MAX).read_to_end(&mut buffer));
        read.map_err(|error| {
            let problem = match error.kind() {
                ErrorKind::IsADirectory => Problem::DirectoryForFile,
                _ => Problem::Unreadable(error.to_string()),
            };
            at(None, problem)
        })?;
        let text = std::str::from_utf8(&buffer).map_err(|error| {
            // Up to there it is valid, so nothing is replaced before that place.
            let text = String::from_utf8_lossy(&buffer);
            at(Some(super::sql::line_column(&text, error.valid_up_to())), Problem::NotUtf8)
        })?;
        files.push((name, text.to_owned()));
    }
    Ok(files)
}

/// What a file's name says about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FileName<'a> {
    Settings,
    Part {
        number: Number,
        name: &'a str,
        part: Part,
    },
    /// Not of the timeline.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Up,
    Down,
    Toml,
}

/// The longer suffix first: `.sql` alone is sqlx's name for an up without a down.
const SUFFIXES: [(&str, Part); 4] =
    [(".up.sql", Part::Up), (".down.sql", Part::Down), (".sql", Part::Up), (".toml", Part::Toml)];

impl FileName<'_> {
    /// Whatever could be meant as a part of the timeline must be named like one, so that nothing is left out silently.
    pub(super) fn parse(file: &str) -> Result<FileName<'_>, Problem> {
        if file == SETTINGS {
            return Ok(FileName::Settings);
        }
        let lower = file.to_ascii_lowercase();
        let meant = file.starts_with(|c: char| c.is_ascii_digit())
            || (!file.starts_with('.') && [".sql", ".toml"].iter().any(|suffix| lower.ends_with(suffix)));
        if !meant {
            return Ok(FileName::Other);
        }
        let (stem, part) = SUFFIXES
            .iter()
            .find_map(|(suffix, part)| Some((file.strip_suffix(suffix)?, *part)))
            .ok_or(Problem::BadName)?;
        let (digits, name) = stem.split_once('_').ok_or(Problem::BadName)?;
        if digits.is_empty() || name.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Problem::BadName);
        }
        match digits.parse::<Number>() {
            Ok(number) if number > 0 => Ok(FileName::Part { number, name, part }),
            Ok(_) => Err(Problem::NumberNotPositive(digits.to_owned())),
            Err(_) => Err(Problem::NumberTooLarge(digits.to_owned())),
        }
    }
}

/// The files that share a number.
struct Files {
    name: String,
    /// The first of them, for messages.
    file: String,
    up: Option<SqlFile>,
    down: Option<SqlFile>,
    toml: Option<TomlFile>,
}

/// Files, as (name, text), → timeline. `directory` is only for the paths in messages.
///
/// # Errors
/// The first problem in the order of file names, with its place.
pub fn parse(
    directory: &Path,
    mut files: Vec<(String, String)>,
    variables: Variables,
) -> Result<Timeline, TimelineError> {
    files.sort_unstable();
    let mut settings = None;
    let mut versions: BTreeMap<Number, Files> = BTreeMap::new();
    for (file, mut text) in files {
        let path = directory.join(&file).display().to_string();
        let at = |problem| TimelineError { path: path.clone(), position: None, problem };
        if text.starts_with('\u{feff}') {
            // The server takes an editor's byte order mark for an identifier.
            text.drain(..'\u{feff}'.len_utf8());
        }
        let (number, name, part) = match FileName::parse(&file).map_err(at)? {
            FileName::Other => continue,
            FileName::Settings => {
                settings = Some(declaration::settings(&path, &text)?);
                continue;
            }
            FileName::Part { number, name, part } => (number, name, part),
        };
        let entry = versions.entry(number).or_insert_with(|| Files {
            name: name.to_owned(),
            file: file.clone(),
            up: None,
            down: None,
            toml: None,
        });
        if entry.name != name {
            let (name, other) = (name.to_owned(), entry.name.clone());
            return Err(at(Problem::TwoNames { number, name, other }));
        }
        let earlier = match part {
            Part::Up => entry.up.as_ref().map(|up| up.path.clone()),
            Part::Down => entry.down.as_ref().map(|down| down.path.clone()),
            Part::Toml => entry.toml.as_ref().map(|toml| toml.path.clone()),
        };
        if let Some(other) = earlier {
            return Err(at(Problem::PartTwice { number, other }));
        }
        match part {
            Part::Up => entry.up = Some(sql_file(path, text)),
            Part::Down => entry.down = Some(sql_file(path, text)),
            Part::Toml => entry.toml = Some(TomlFile { path, text }),
        }
    }
    let at = |file: &str, problem| TimelineError {
        path: directory.join(file).display().to_string(),
        position: None,
        problem,
    };
    let settings = settings.ok_or_else(|| at(SETTINGS, Problem::NoSettings))?;
    if versions.is_empty() {
        return Err(TimelineError {
            path: directory.display().to_string(),
            position: None,
            problem: Problem::NoVersions,
        });
    }
    let versions = versions
        .into_iter()
        .map(|(number, files)| {
            let file = files.file.clone();
            let version = version(number, files, variables)?;
            // What the TOML alone changes can be gone back from too.
            if version.down.is_some() && version.changes_nothing() {
                return Err(at(&file, Problem::DownWithoutUp(number)));
            }
            Ok(version)
        })
        .collect::<Result<_, _>>()?;
    Ok(Timeline { settings, versions })
}

fn sql_file(path: String, text: String) -> SqlFile {
    let transaction = text.lines().next().is_none_or(|line| line.trim_end() != NO_TRANSACTION);
    SqlFile { path, text, transaction }
}

fn version(number: Number, files: Files, variables: Variables) -> Result<Version, TimelineError> {
    let declaration = match &files.toml {
        Some(toml) => declaration::declaration(&toml.path, &toml.text, variables)?,
        None => Declaration::default(),
    };
    Ok(Version {
        number,
        name: files.name,
        release: declaration.release,
        compatible_from: declaration.compatible_from.unwrap_or(number),
        up: files.up,
        down: files.down,
        collections: declaration.collections,
        fills: declaration.fills,
        proof: declaration.proof,
        data: declaration.data,
        archives: declaration.archives,
        optional: declaration.optional,
        adoption: declaration.adoption,
        toml: files.toml,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ExitCode};
    use crate::timeline::{Archive, Check, Fill, FillSource, FillWhat};
    use std::path::PathBuf;

    const SETTINGS_TEXT: &str = "application = 'bot'";

    fn variables(name: &str) -> Option<String> {
        match name {
            "NAME" => Some("memory".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn parse_files(files: &[(&str, &str)]) -> Result<Timeline, TimelineError> {
        let files = files.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect();
        parse(Path::new("m"), files, &variables)
    }

    /// A timeline of one version with this TOML.
    fn parse_toml(toml: &str) -> Result<Version, TimelineError> {
        let timeline = parse_files(&[("tandem.toml", SETTINGS_TEXT), ("1_a.toml", toml)])?;
        Ok(timeline.versions.into_iter().next().unwrap())
    }

    #[test]
    fn files_with_one_number_are_one_version() {
        let timeline = parse_files(&[
            ("20251011143000_late.sql", "select 3;"),
            ("0001_base_v1.0.6.up.sql", "select 1;"),
            ("01_base_v1.0.6.down.sql", "select -1;"),
            ("1_base_v1.0.6.toml", "release = '1.0.6'"),
            ("0002_index.up.sql", "-- tandem:no-transaction\r\nvacuum;"),
            ("tandem.toml", SETTINGS_TEXT),
            ("README.md", "not read"),
        ])
        .unwrap();
        let shown: Vec<_> = timeline
            .versions
            .iter()
            .map(|v| {
                let text = |file: &Option<SqlFile>| file.as_ref().map(|file| file.text.clone());
                (v.number, v.name.as_str(), text(&v.up), text(&v.down), v.release.clone(), v.compatible_from)
            })
            .collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            shown,
            [
                (1, "base_v1.0.6", some("select 1;"), some("select -1;"), some("1.0.6"), 1),
                (2, "index", some("-- tandem:no-transaction\r\nvacuum;"), None, None, 2),
                (20251011143000, "late", some("select 3;"), None, None, 20251011143000),
            ]
        );
        let up = |number| timeline.version(number).unwrap().up.clone().unwrap();
        assert_eq!(up(1).path, "m/0001_base_v1.0.6.up.sql");
        assert!(up(1).transaction && !up(2).transaction);
    }

    #[test]
    fn a_version_that_only_its_toml_describes_may_have_a_down() {
        for toml in [
            "data.sql = 'select 1'",
            "[[collection]]\nmatch = 'a'",
            "[[fill]]\nvector = 'a'\nfrom = { payload = 'b' }",
        ] {
            let files = [("tandem.toml", SETTINGS_TEXT), ("1_a.toml", toml), ("1_a.down.sql", "select 2")];
            let timeline = parse_files(&files).unwrap();
            assert!(timeline.versions[0].down.is_some(), "{toml}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_dropped() {
        let timeline = parse_files(&[
            ("tandem.toml", "\u{feff}application = 'bot'"),
            ("1_a.sql", "\u{feff}-- tandem:no-transaction\nvacuum"),
        ]);
        let up = timeline.unwrap().versions[0].up.clone().unwrap();
        assert!(!up.transaction && up.text.starts_with("--"));
    }

    #[test]
    fn settings_have_defaults_and_all_can_be_written() {
        let settings =
            |text: &str| parse_files(&[("tandem.toml", text), ("1_a.sql", "")]).map(|t| t.settings);
        let defaults = settings("application = 'bot'").unwrap();
        assert_eq!(defaults.application, "bot");
        assert_eq!(defaults.schemas, ["public"]);
        assert_eq!(defaults.ledger_schema, "tandem");
        assert!(defaults.adoption_tables.iter().any(|table| table == "alembic_version"));
        assert!(defaults.adoption_mirror);
        assert_eq!(defaults.check, Check::EachVersion);

        let written = settings(
            "application = 'a'\nschemas = ['b', 'c']\ncatalog_check = 'each-run'\n[ledger]\nschema = 'd'\n\
             [adoption]\ntables = ['e']\nmirror = false",
        )
        .unwrap();
        assert_eq!((written.application.as_str(), written.ledger_schema.as_str()), ("a", "d"));
        assert_eq!(
            (written.schemas.join(" "), written.adoption_tables.join(" ")),
            ("b c".into(), "e".into())
        );
        assert_eq!((written.adoption_mirror, written.check), (false, Check::EachRun));
    }

    #[test]
    fn a_declaration_is_read_whole() {
        let version = parse_toml(
            r#"
            release = "1.0.31"
            compatible_from = 1
            [[collection]]
            match = "${NAME}*"
            ensure = ["${NAME}", "${NAME}_2"]
            [collection.payload_indexes]
            user_id = "keyword"
            [collection.undeclared]
            vectors = "drop"
            [[collection]]
            match = "other"
            ensure = "other"
            [[fill]]
            vector = "semantic"
            from = { vector = "content" }
            [[fill]]
            vector = "emotion"
            from = { payload = "embedding" }
            [proof]
            sql = "select '${NAME}'"
            [data]
            sql = "select 2"
            [[archive]]
            table = "users"
            where = "a is not null"
            [[archive]]
            table = "whole"
            [optional]
            functions = ["f"]
            "#,
        )
        .unwrap();
        assert_eq!((version.release.as_deref(), version.compatible_from), (Some("1.0.31"), 1));
        let collections = version.collections.unwrap();
        assert_eq!(collections.len(), 2);
        assert_eq!(
            (collections[0].matching.as_str(), collections[1].matching.as_str()),
            ("memory*", "other")
        );
        assert_eq!(
            (collections[0].ensure.join(" "), collections[1].ensure.join(" ")),
            ("memory memory_2".into(), "other".into())
        );
        assert!(collections[0].is_pattern() && !collections[1].is_pattern());
        assert!(collections[0].undeclared.drop_vectors && !collections[0].undeclared.drop_payload_indexes);
        assert!(collections[0].schema != collections[1].schema);
        let fill =
            |name: &str, from| Fill { matching: None, what: FillWhat::Vector { name: name.into(), from } };
        assert_eq!(
            version.fills,
            [
                fill("semantic", FillSource::Vector("content".into())),
                fill("emotion", FillSource::Payload("embedding".into())),
            ]
        );
        assert_eq!(version.proof.as_deref(), Some("select '${NAME}'"), "SQL is taken as it is");
        assert_eq!(version.data.as_deref(), Some("select 2"));
        assert_eq!(
            version.archives,
            [
                Archive { table: "users".into(), condition: Some("a is not null".into()) },
                Archive { table: "whole".into(), condition: None },
            ]
        );
        assert_eq!(version.optional["functions"], ["f"]);
    }

    #[test]
    fn variables_expand_as_in_a_shell() {
        let table = [
            ("plain", "plain"),
            ("a_${NAME}_b", "a_memory_b"),
            ("${NAME}${NAME}", "memorymemory"),
            ("${NAME:-x}", "memory"),
            ("${UNSET:-x y}", "x y"),
            ("${EMPTY:-x}", "x"),
            ("a${EMPTY}", "a"),
            ("a${UNSET:-}", "a"),
            ("$${NAME}", "${NAME}"),
            ("$NAME", "$NAME"),
        ];
        for (written, expected) in table {
            let version = parse_toml(&format!("[[collection]]\nmatch = '{written}'")).unwrap();
            assert_eq!(version.collections.unwrap()[0].matching, expected, "{written}");
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        let table = [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("a*", "ab", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("*", "", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "axbxc", true),
            ("a*b*c", "ac", false),
            ("a*a", "a", false),
            ("a*b", "abxb", true),
        ];
        for (pattern, name, expected) in table {
            let version = parse_toml(&format!("[[collection]]\nmatch = '{pattern}'")).unwrap();
            assert_eq!(version.collections.unwrap()[0].matches(name), expected, "{pattern} {name}");
        }
    }

    /// The message with its place, and what resolves it.
    fn refused(files: &[(&str, &str)]) -> String {
        let error = Error::from(parse_files(files).expect_err(&format!("{files:?}")));
        assert_eq!(error.code, ExitCode::BadTimeline);
        error.to_string()
    }

    #[test]
    fn wrong_file_names_are_refused_with_their_place() {
        let table: &[(&[&str], &str)] = &[
            (&["0_a.sql"], "m/0_a.sql: the version number 0 is not positive"),
            (
                &["9223372036854775808_a.sql"],
                "m/9223372036854775808_a.sql: the version number 9223372036854775808 is above 9223372036854775807",
            ),
            (&["1a_b.sql"], "m/1a_b.sql: not the name of a version's file"),
            (&["1.sql"], "m/1.sql: not the name"),
            (&["1_.sql"], "m/1_.sql: not the name"),
            (&["1_a.txt"], "m/1_a.txt: not the name"),
            (&["1_a.up.SQL"], "m/1_a.up.SQL: not the name"),
            (&["1_a.sql~"], "m/1_a.sql~: not the name"),
            (&["-1_a.sql"], "m/-1_a.sql: not the name"),
            (&["seed.sql"], "m/seed.sql: not the name"),
            (&["other.toml"], "m/other.toml: not the name"),
            (&["1_a.sql", "01_b.toml"], "m/1_a.sql: version 1 has two names: a and b"),
            (
                &["1_a.sql", "1_a.up.sql"],
                "m/1_a.up.sql: version 1 has this part a second time, besides m/1_a.sql",
            ),
            (
                &["1_a.up.sql", "01_a.up.sql"],
                "m/1_a.up.sql: version 1 has this part a second time, besides m/01_a.up.sql",
            ),
            (&["1_a.down.sql"], "m/1_a.down.sql: version 1 has a down without an up"),
            (&["1_a.down.sql", "1_a.toml"], "m/1_a.down.sql: version 1 has a down without an up"),
            (&["1_a.sql", "2_b.down.sql"], "m/2_b.down.sql: version 2 has a down without an up"),
            (&[], "m: the timeline has no versions"),
        ];
        for (names, expected) in table {
            let files: Vec<_> =
                names.iter().map(|&name| (name, "")).chain([("tandem.toml", SETTINGS_TEXT)]).collect();
            let message = refused(&files);
            assert!(message.starts_with(expected), "{message}\nis not {expected}");
        }
        for ignored in ["README.md", ".1_a.sql.swp", "catalog", ".gitkeep", "Makefile"] {
            parse_files(&[("tandem.toml", SETTINGS_TEXT), ("1_a.sql", ""), (ignored, "")]).expect(ignored);
        }
    }

    #[test]
    fn wrong_settings_are_refused_with_their_place() {
        let table = [
            (
                "",
                "m/tandem.toml: the key `application` is missing\n  remedy:   write `application = \"<name>\"`",
            ),
            ("application = ''", "m/tandem.toml:1:15: `application` is empty"),
            ("application = 1", "m/tandem.toml:1:15: invalid type: integer `1`, expected a string"),
            ("application = 'a'\nschemas = []", "m/tandem.toml:2:11: `schemas` is empty"),
            ("application = 'a'\n[ledger]\nschema = ''", "m/tandem.toml:3:10: `ledger.schema` is empty"),
            (
                "application = 'a'\n[ledger]\nschema = '${NAME}'",
                "m/tandem.toml:3:10: a variable where a constant is expected",
            ),
            (
                "application = 'a'\n[leger]\n",
                "m/tandem.toml:2:2: unknown key `leger`\n  expected: application, schemas, ledger, adoption, catalog_check\n  remedy:   did you mean `ledger`?",
            ),
            (
                "application = 'a'\ncatalog_check = 'each-runs'",
                "m/tandem.toml:2:17: unknown value `each-runs`\n  expected: each-version, each-run\n  remedy:   did you mean `each-run`?",
            ),
            ("application = ", "m/tandem.toml:1:"),
        ];
        for (toml, expected) in table {
            let message = refused(&[("tandem.toml", toml), ("1_a.sql", "")]);
            assert!(message.starts_with(expected), "{message}\nis not {expected}");
        }
        let missing = refused(&[("1_a.sql", "")]);
        assert!(missing.starts_with("m/tandem.toml: the settings of the timeline are missing"), "{missing}");
        assert!(missing.contains("remedy:   write `application = \"<name>\"`"), "{missing}");
    }

    #[test]
    fn wrong_declarations_are_refused_with_their_place() {
        let table = [
            (
                "relase = '1'",
                "1:1: unknown key `relase`\n  expected: release, compatible_from, collection, fill, proof, data, archive, optional, adoption\n  remedy:   did you mean `release`?",
            ),
            ("zzzzzzzz = '1'", "1:1: unknown key `zzzzzzzz`\n  expected: release"),
            ("release = 1", "1:11: invalid type: integer `1`, expected a string"),
            ("compatible_from = 'a'", "1:19: invalid type: string \"a\", expected i64"),
            ("a = 1\na = 2", "2:1: duplicate key"),
            ("[collection]\nmatch = 'a'", "1:1: `collection` is one table: write [[collection]]"),
            ("[[collection]]\nensure = 'a'", "1:1: missing field `match`"),
            ("[[collection]]\nmatch = ''", "2:9: `match` is empty"),
            ("[[collection]]\nmatch = 1", "2:9: invalid type: integer `1`, expected a string"),
            (
                "[[collection]]\nmatch = 'a'\nensur = 'a'",
                "3:1: unknown key `ensur`\n  expected: match, ensure, undeclared, ",
            ),
            (
                "[[collection]]\nmatch = 'a'\nensure = ['a', 2]",
                "3:16: invalid type: integer `2`, expected a string",
            ),
            (
                "[[collection]]\nmatch = 'a*'\nensure = 'b'",
                "3:10: `ensure` names b, which `match` = a* does not match",
            ),
            ("[[collection]]\nmatch = 'a*'\nensure = 'a*'", "3:10: `ensure` names the pattern a*"),
            (
                "[[collection]]\nmatch = 'a'\n[collection.undeclared]\nvectors = 'kep'",
                "4:11: unknown value `kep`\n  expected: keep, drop\n  remedy:   did you mean `keep`?",
            ),
            (
                "[[collection]]\nmatch = 'a'\n[collection.undeclared]\nvector = 'keep'",
                "4:1: unknown key `vector`\n  expected: vectors, payload_indexes\n  remedy:   did you mean `vectors`?",
            ),
            (
                "[[collection]]\nmatch = 'a'\n[[collection]]\nmatch = 'a*'",
                "3:1: collections named a are declared twice: a* matches them too",
            ),
            (
                "[[collection]]\nmatch = '${UNSET}'",
                "2:9: the variable UNSET is not set\n  remedy:   set UNSET, or give it a default: ${UNSET:-default}",
            ),
            ("[[collection]]\nmatch = '${NAME'", "2:9: `${NAME` is not a variable"),
            ("[[collection]]\nmatch = '${NAME-x}'", "2:9: `${NAME-x}` is not a variable"),
            ("[[collection]]\nmatch = '${EMPTY}'", "2:9: `match` is empty"),
            (
                "[[collection]]\nmatch = 'a'\n[collection.vectors.content]\nsiz = 1",
                "4:1: unknown key `siz`\n  expected: size, ",
            ),
            (
                "[[collection]]\nmatch = 'a'\n[collection.vectors.content]\nsize = 1\ndistance = 'Cosin'",
                "5:12: unknown value `Cosin`\n  expected: Cosine, ",
            ),
            ("[[collection]]\nmatch = 'a'\n[collection.payload_indexes]\nuser = 'keywrd'", "4:8: "),
            ("[[fill]]\nvector = 'a'", "1:1: missing field `from`"),
            (
                "[[fill]]\nvector = 'a'\nfrom = { vectr = 'b' }",
                "3:10: unknown value `vectr`\n  expected: vector, payload\n  remedy:   did you mean `vector`?",
            ),
            ("[proof]\nsq = 'a'", "2:1: unknown key `sq`\n  expected: sql\n  remedy:   did you mean `sql`?"),
            ("[optional]\nfunction = ['a']", "2:1: unknown key `function`"),
            ("[optional]\nfunctions = 'a'", "2:13: invalid type: string \"a\", expected a sequence"),
        ];
        for (toml, expected) in table {
            let message = refused(&[("tandem.toml", SETTINGS_TEXT), ("1_a.toml", toml)]);
            assert!(message.starts_with(&format!("m/1_a.toml:{expected}")), "{message}\nis not {expected}");
        }
    }

    /// A directory of its own that goes with the test.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tandem-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_directory_is_loaded() {
        let directory = Directory::new("load");
        let write = |name: &str, text: &[u8]| fs::write(directory.0.join(name), text).unwrap();
        write("tandem.toml", SETTINGS_TEXT.as_bytes());
        write("1_a.sql", b"select 1");
        write("notes.bin", b"\xff");
        fs::create_dir(directory.0.join("catalog")).unwrap();
        let timeline = load(&directory.0, &|_| None).unwrap();
        let up = timeline.head().unwrap().up.clone().unwrap();
        assert_eq!(
            (up.path, up.text),
            (directory.0.join("1_a.sql").display().to_string(), "select 1".into())
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place() {
        let directory = Directory::new("refused");
        let refused = |path: &Path| load(path, &|_| None).unwrap_err();
        let missing = refused(&directory.0.join("missing"));
        assert_eq!(missing.problem, Problem::NoDirectory);
        assert_eq!(Error::from(missing).code, ExitCode::Configuration);

        let file = directory.0.join("tandem.toml");
        fs::write(&file, SETTINGS_TEXT).unwrap();
        assert_eq!(refused(&file).problem, Problem::NotADirectory);

        for name in ["1_a.sql", "1_a", "2024"] {
            let path = directory.0.join(name);
            fs::create_dir(&path).unwrap();
            let error = refused(&directory.0);
            assert_eq!((error.path, error.problem), (path.display().to_string(), Problem::DirectoryForFile));
            fs::remove_dir(&path).unwrap();
        }

        let latin = directory.0.join("1_a.sql");
        fs::write(&latin, b"select 1;\n-- gr\xfc\xdfe").unwrap();
        let error = refused(&directory.0);
        assert_eq!((error.position, error.problem), (Some((2, 6)), Problem::NotUtf8));
    }
}
