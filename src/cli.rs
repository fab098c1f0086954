//! What the user typed, and nothing else: no look-ups, no defaults. [`crate::config`] resolves it.

use crate::error::{Error, ExitCode};
use crate::secret::Secret;
use clap::error::{ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Examples:
  tandem run -- python bot.py            wait, upgrade both stores, become the bot
  tandem plan --exit-code                exit 2 if the stores are behind this image
  tandem verify --wait                   init container: wait until somebody else has migrated
  tandem validate whisperengine_memory   exit 0 if a collection is as declared, 2 if not
  tandem create 'add user settings'      the files of a new version; then tandem lint, tandem record
  tandem snapshot create my_memory       then list, download, restore: tandem snapshot --help
  tandem config                          which settings are in force and where each came from

Settings: defaults < file (--config) < environment < flags.
  Postgres     TANDEM_DATABASE_URL, else DATABASE_URL, else POSTGRES_HOST, _PORT, _USER, _PASSWORD, _DB,
               else PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE, PGSSLROOTCERT
  Qdrant       QDRANT_URL (none = a deployment without Qdrant), else QDRANT_HOST with QDRANT_GRPC_PORT;
               QDRANT_API_KEY, QDRANT_TLS. tandem speaks gRPC: where only the REST port 6333 is named, it uses 6334.
               Snapshots are downloaded and restored through the REST port: QDRANT_PORT, else the one below gRPC's
  tandem       TANDEM_MIGRATIONS, TANDEM_TIMEOUT, TANDEM_LOCK_TIMEOUT, TANDEM_LOG_FORMAT, TANDEM_LOG_LEVEL,
               TANDEM_ALL_COLLECTIONS, TANDEM_ALLOW_WRITERS, TANDEM_INSTALL_BESIDE, TANDEM_COMPLETE (auto, plan, never),
               TANDEM_MISSING_DATABASE (fail, wait, create; only run, migrate, upgrade and adopt create it),
               TANDEM_AUTH_GRACE, TANDEM_CONFIG,
               TANDEM_ON_REFUSAL (exit; hold = run stays up after a failure and looks again every 30 s),
               TANDEM_PROBE (:9090 = until CMD takes over, run answers /livez with 200 and the rest with 503)
  NAME_FILE names a file that holds the value of NAME; NAME and NAME_FILE together are an error.

Exit codes:
    0  both stores are at the target     70  a bug in tandem
    1  a step failed                     75  the lock was not obtained in time
    2  changes pending                   76  refused: foreign, ahead, skewed
   64  usage                             77  authentication, or a right is missing
   65  bad timeline                      78  configuration
   69  a store was unreachable          126, 127  the command cannot be executed, does not exist
  130, 143  stopped by SIGINT, SIGTERM";

/// The command line.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(
    name = "tandem",
    version,
    about = "Waits for Postgres and Qdrant, proves and upgrades both along one timeline, then becomes your bot",
    after_help = AFTER_HELP,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub flags: Flags,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Wait, bring both stores to the target, then become CMD
    Run {
        /// The command to become, after `--`
        #[arg(last = true, required = true, value_name = "CMD")]
        argv: Vec<OsString>,
    },
    /// The same without a command: for a Job or an init container
    Migrate,
    /// The same up to a version: head, +1, a version's number, or a release; never back
    Upgrade {
        /// `+N` counts from where Postgres is
        #[arg(default_value = "head", value_name = "head|+N|NUMBER|RELEASE")]
        target: String,
    },
    /// Go back to an older version in both stores: -1, a version's number, or a release
    ///
    /// One transaction a version: its down.sql, its ledger row removed, and the catalog of the version below proven, or
    /// nothing. What the versions had dropped or converted comes back from the archive, and what goes now is kept there
    /// for the next upgrade. Start the older image afterwards; the newest would upgrade again.
    Downgrade {
        /// `-N` counts back from where Postgres is
        #[arg(value_name = "-N|NUMBER|RELEASE", allow_hyphen_values = true)]
        target: String,
        /// Show what would be done, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Wait until both stores answer, and change nothing
    Wait,
    /// Show what `run` would do
    Plan {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Exit with 2 if there is something to do
        #[arg(long)]
        exit_code: bool,
    },
    /// Show which state each store is in
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the ledger: which versions, since when, how they came, on what evidence
    History {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show, put back or remove what versions dropped, converted, updated or deleted: the rows as they were
    Archive {
        #[command(subcommand)]
        action: ArchiveAction,
    },
    /// Succeed only if both stores are proven to be at the target
    Verify {
        /// Keep looking until they are, or until --timeout
        #[arg(long)]
        wait: bool,
    },
    /// Say that the two stores belong together although their stamps deny it, then do as `migrate`
    ///
    /// For a restored backup or an exchanged volume: collections are compared, completed and stamped anew; a collection
    /// that is gone is created empty. Nothing is deleted.
    Adopt,
    /// Take, list, download and restore snapshots of a collection
    Snapshot {
        #[command(subcommand)]
        action: SnapshotAction,
    },
    /// Hold a collection against its declaration: exit 0 if it is as declared at the head, 2 if not
    ///
    /// Compares the whole configuration and all payload indexes, counts the points exactly, and names the fills that are
    /// due. Needs Qdrant and the timeline, and writes nothing.
    Validate {
        /// A collection or an alias
        collection: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show why a collection needs a rebuild and what it would do
    Rebuild {
        /// A collection or an alias
        collection: String,
        /// Change nothing
        #[arg(long, required = true)]
        dry_run: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List or remove what is kept beside live collections: replaced ones, and snapshots taken before a change
    Retained {
        #[command(subcommand)]
        action: RetainedAction,
    },
    /// Let an alias lead to the collection again that it led to before the last switch
    ///
    /// One call: readers find the one or the other. What it led to is kept in turn, with everything written since. Start the
    /// image that goes with the older version; the newest one would bring it to the head again.
    Rollback {
        /// An alias
        collection: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Tell the ledger that the database is at a version: head, a version's number, or a release
    ///
    /// Only what the catalog proves, as a start does by itself: this is for stamping without starting, or up to a version.
    /// Without proof it takes --unproven and a reason, which the ledger keeps; every later start compares the catalog all the
    /// same, and repairs or refuses what is not there. Runs nothing of the versions and touches no collection.
    Stamp {
        #[arg(value_name = "head|NUMBER|RELEASE")]
        target: String,
        /// Although the catalog does not prove it
        #[arg(long, requires = "reason")]
        unproven: bool,
        /// Why, for whoever reads the history
        #[arg(long, value_name = "TEXT", requires = "unproven", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        reason: Option<String>,
        /// Show what would be written, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the files of a new version, with a commented template
    ///
    /// The number is the next one in the timeline's own style: 0015, or a time where the newest version has one. Prints the
    /// files. Then fill them in, look with tandem lint, and write the expected catalog with tandem record.
    Create {
        /// What the version changes, in a few words; they become its name
        description: String,
        /// Only .up.sql and .down.sql
        #[arg(long, conflicts_with = "toml")]
        sql: bool,
        /// Only .toml, for a version that changes collections or data
        #[arg(long)]
        toml: bool,
    },
    /// Show what changes between two versions in both stores, from the files alone
    ///
    /// Held against the recorded catalogs and the declared collections: objects added, removed and changed, and what each
    /// difference of a collection takes on the oldest supported server.
    Diff {
        /// A version's number, a release, head, or 0 for the beginning
        #[arg(value_name = "NUMBER|RELEASE")]
        from: String,
        /// The same
        #[arg(value_name = "NUMBER|RELEASE", default_value = "head")]
        to: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the expected catalogs of the timeline, using an empty scratch database
    Record,
    /// Check the timeline's files, without any store: errors, and dangers with the safer way
    ///
    /// Errors stop every start and end with 65. Dangers are what can rewrite a table, hold a long lock, or lose what nothing
    /// keeps, and what needs a collection copied or is refused; they are warnings. Whatever the recorded catalogs tell is
    /// taken into account.
    Lint {
        /// End with 65 for warnings too
        #[arg(long)]
        strict: bool,
        /// Only versions above this one, a number or a release: what has been released cannot be changed any more
        #[arg(long, value_name = "VERSION")]
        after: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the settings in force and where each came from; secrets are hidden
    Config {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the version
    Version,
}

impl Command {
    /// May it begin with a database that does not exist? Every other command looks at one, or waits until it is there.
    pub fn installs(&self) -> bool {
        matches!(self, Self::Run { .. } | Self::Migrate | Self::Upgrade { .. } | Self::Adopt)
    }
}

/// What to do with the archive. No start removes anything from it.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ArchiveAction {
    /// List what is kept, by version and table, with counts and sizes
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the rows that are kept of a table, oldest first
    Show {
        /// As `tandem archive list` shows it; the schema may be left out
        table: String,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Put rows back into the table as it is now: those that are missing, and values where there is NULL
    ///
    /// All of it or nothing: a row that has other values by now is named, and nothing changes.
    Restore {
        /// As `tandem archive list` shows it; the schema may be left out
        table: String,
        /// The version that kept them; needed where several did
        #[arg(long, value_name = "NUMBER")]
        version: Option<i64>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove rows for good: those that one version kept of one table
    Drop {
        /// As `tandem archive list` shows it, with its schema
        table: String,
        /// The version that kept them
        #[arg(long, value_name = "NUMBER")]
        version: i64,
        /// How many they are; nothing is removed if they are not exactly as many
        #[arg(long, value_name = "N")]
        rows: i64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What to do with snapshots. They lie on the server, which deletes them with the last volume they are on.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum SnapshotAction {
    /// Take one, and prove that the server lists it whole
    Create {
        /// A collection or an alias
        collection: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List them, oldest first
    List {
        /// A collection or an alias
        collection: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Download one through the REST port, and compare its checksum
    Download {
        /// A collection or an alias
        collection: String,
        /// The newest if not given
        snapshot: Option<String>,
        /// A file that does not exist, or a directory
        #[arg(long, value_name = "PATH", default_value = ".")]
        to: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Restore one as a new collection, never over one that exists
    ///
    /// With --into it becomes that collection. Where COLLECTION is an alias, it becomes a collection of its own, is counted,
    /// and then the alias leads to it; the old one is kept. Where COLLECTION is free, a file becomes it. Aliases are not in
    /// snapshots. The next start brings what was restored to the head.
    Restore {
        /// A collection or an alias
        collection: String,
        /// One that the server keeps for COLLECTION; the newest if not given
        snapshot: Option<String>,
        /// A downloaded file instead
        #[arg(long, value_name = "PATH", conflicts_with = "snapshot")]
        file: Option<PathBuf>,
        /// Its SHA-256, which the server compares first
        #[arg(long, value_name = "HEX", requires = "file")]
        checksum: Option<String>,
        /// The name of the new collection
        #[arg(long, value_name = "NAME")]
        into: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What to do with what is kept. tandem removes nothing of it by itself.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum RetainedAction {
    /// List it, oldest first, with the collection it belongs to
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove one by its exact name
    ///
    /// Only what the journal names, what no alias leads to, and a collection only if the live one has as many points.
    Drop {
        /// As `tandem retained list` shows it
        name: String,
        /// Although the live collection has fewer points
        #[arg(long)]
        fewer: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Flags that every command takes; each overrides the variable in its description.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Flags {
    /// The timeline [TANDEM_MIGRATIONS, default ./migrations]
    #[arg(long, global = true, value_name = "DIR")]
    pub migrations: Option<String>,
    /// postgres://user:password@host:port/database; others can read flags, so prefer [TANDEM_DATABASE_URL]
    #[arg(long, global = true, value_name = "URL", value_parser = secret)]
    pub database_url: Option<Secret>,
    /// http://host:6334, https://host, or none [QDRANT_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub qdrant_url: Option<String>,
    /// How long to wait for both stores: 60s, 2m, 0 for no limit [TANDEM_TIMEOUT, default 60s]
    #[arg(long, global = true, value_name = "TIME")]
    pub timeout: Option<String>,
    /// How long to wait for another instance that is migrating [TANDEM_LOCK_TIMEOUT, default 10m]
    #[arg(long, global = true, value_name = "TIME")]
    pub lock_timeout: Option<String>,
    /// human or json, on standard error [TANDEM_LOG_FORMAT, default human]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// error, warn, info, debug, trace or off [TANDEM_LOG_LEVEL, default info]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// No colour, even on a terminal [NO_COLOR]
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Let `match` and `ensure` be patterns: manage every collection that fits [TANDEM_ALL_COLLECTIONS]
    #[arg(long, global = true)]
    pub all_collections: bool,
    /// Let applications go on writing to a collection behind an alias while it is rebuilt; what they wrote until the switch
    /// is swept up afterwards, and what cannot be decided is named [TANDEM_ALLOW_WRITERS]
    #[arg(long, global = true)]
    pub allow_writers: bool,
    /// Install into a database that holds objects which are neither the application's nor explained
    /// [TANDEM_INSTALL_BESIDE]
    #[arg(long, global = true)]
    pub install_beside: bool,
    /// What to do about missing objects that can be added: auto, plan (show them and refuse) or never
    /// [TANDEM_COMPLETE, default auto]
    #[arg(long, global = true, value_name = "HOW")]
    pub complete: Option<String>,
    /// Settings in TOML [TANDEM_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<String>,
}

/// Why there is nothing to run: help was asked for, or the command line is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declined {
    /// Help or the version, for standard output.
    Help(String),
    /// A usage error with its text, for standard error.
    Usage(String),
}

impl Declined {
    /// The usage error in the form of every other failure: its first paragraph.
    pub fn error(text: &str) -> Error {
        let first: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        let first = first.join(" ");
        Error::new(ExitCode::Usage, first.strip_prefix("error: ").unwrap_or(&first)).remedy("tandem --help")
    }
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

/// Reads a command line; the first argument is the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Declined> {
    Cli::try_parse_from(args).map_err(|error| {
        let mut text = error.to_string();
        // A URL in the wrong place would be quoted with the password in it.
        for (_, value) in error.context() {
            if let ContextValue::String(quoted) = value
                && quoted.contains("://")
            {
                text = text.replace(quoted.as_str(), "(a URL)");
            }
        }
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Declined::Help(text),
            _ => Declined::Usage(text),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &[&str]) -> Result<Cli, Declined> {
        parse(std::iter::once("tandem").chain(line.iter().copied()).map(OsString::from))
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn run_takes_everything_after_the_dashes_as_the_command() {
        let cli = read(&["run", "--timeout", "2m", "--", "bot", "--timeout", "5", "--", "x"]).unwrap();
        assert_eq!(cli.flags.timeout.as_deref(), Some("2m"));
        let argv = ["bot", "--timeout", "5", "--", "x"].map(OsString::from).to_vec();
        assert_eq!(cli.command, Command::Run { argv });
    }

    #[test]
    fn flags_may_stand_before_and_after_the_command() {
        let before = read(&["--migrations", "m", "plan", "--json"]).unwrap();
        let after = read(&["plan", "--json", "--migrations", "m"]).unwrap();
        assert_eq!(before, after);
        assert_eq!(before.command, Command::Plan { json: true, exit_code: false });
    }

    #[test]
    fn wrong_command_lines_are_usage_errors() {
        for line in [
            &[][..],
            &["run"],
            &["run", "--"],
            &["run", "bot"],
            &["nonsense"],
            &["--timeout"],
            &["migrate", "--", "bot"],
            &["plan", "--jsno"],
        ] {
            match read(line) {
                Err(Declined::Usage(text)) => assert!(text.contains("--help"), "{line:?}: {text}"),
                other => panic!("{line:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_url_in_the_wrong_place_is_not_quoted() {
        for line in [
            &["migrate", "postgres://u:canary@h/d"][..],
            &["postgres://u:canary@h/d"],
            &["plan", "--json=postgres://u:canary@h/d"],
            &["--database-urll=postgres://u:canary@h/d", "plan"],
            &["plan", "--database-url", "postgres://u:canary@h/d", "postgres://u:canary@h/d"],
        ] {
            let result = read(line);
            assert!(!format!("{result:?}").contains("canary"), "{result:?}");
            assert!(matches!(result, Err(Declined::Usage(_))));
        }
        let cli = read(&["plan", "--database-url", "postgres://u:canary@h/d"]).unwrap();
        assert!(!format!("{cli:?}").contains("canary"));
    }

    #[test]
    fn help_and_version_are_no_errors() {
        for line in [&["--help"][..], &["-h"], &["run", "--help"], &["--version"]] {
            assert!(matches!(read(line), Err(Declined::Help(_))), "{line:?}");
        }
    }

    #[test]
    fn help_names_every_exit_code_and_every_flag() {
        let Err(Declined::Help(text)) = read(&["--help"]) else { panic!("no help") };
        for code in [0, 1, 2, 64, 65, 69, 70, 75, 76, 77, 78, 126, 127, 130, 143] {
            assert!(text.contains(&code.to_string()), "{code}");
        }
        for flag in
            ["--migrations", "--database-url", "--qdrant-url", "--timeout", "--config", "--all-collections"]
        {
            assert!(text.contains(flag), "{flag}");
        }
    }

    #[test]
    fn the_short_form_of_a_usage_error_is_one_line() {
        let Err(Declined::Usage(text)) = read(&["run"]) else { panic!("no usage error") };
        let error = Declined::error(&text);
        assert_eq!(error.code, ExitCode::Usage);
        assert_eq!(error.found, "the following required arguments were not provided: <CMD>...");
    }
}
