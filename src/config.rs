//! What is in force, and where each value came from: defaults < file < environment < flags.
//!
//! Resolution is a function of the flags, an environment and a way to read files, so every rule is in a table test.

pub mod postgres;
mod source;
pub mod url;

pub use postgres::{PostgresSettings, SslMode};
pub use source::Environment;

use crate::cli::Flags;
use crate::error::{Error, ExitCode, Result};
use crate::secret::Secret;
use source::{Sources, Value};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};
use tracing::level_filters::LevelFilter;

/// What is done about objects that are missing and can be added from the expected catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Complete {
    /// They are added.
    #[default]
    Auto,
    /// The statements are shown, and a start refuses.
    Plan,
    /// A start refuses.
    Never,
}

/// tandem's own secrets: removed from the environment before the bot takes over. What the bot reads itself stays.
pub const OWN_SECRETS: [&str; 4] = [
    "TANDEM_DATABASE_URL",
    "TANDEM_DATABASE_URL_FILE",
    "TANDEM_QDRANT_API_KEY",
    "TANDEM_QDRANT_API_KEY_FILE",
];

/// The keys of a settings file.
const FILE_KEYS: [&str; 31] = [
    "all_collections",
    "allow_writers",
    "auth_grace",
    "complete",
    "install_beside",
    "lock_timeout",
    "log_format",
    "log_level",
    "migrations",
    "missing_database",
    "on_refusal",
    "postgres.database",
    "postgres.host",
    "postgres.passfile",
    "postgres.password",
    "postgres.port",
    "postgres.sslcert",
    "postgres.sslkey",
    "postgres.sslmode",
    "postgres.sslrootcert",
    "postgres.url",
    "postgres.user",
    "probe",
    "qdrant.api_key",
    "qdrant.grpc_port",
    "qdrant.host",
    "qdrant.port",
    "qdrant.tls",
    "qdrant.url",
    "termination_log",
    "timeout",
];

/// All settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    postgres: Option<PostgresSettings>,
    qdrant: QdrantChoice,
    /// The timeline's directory.
    pub migrations: PathBuf,
    /// How long to wait for the stores; `None` is no limit.
    pub timeout: Option<Duration>,
    /// How long to wait for another instance's lock; `None` is no limit.
    pub lock_timeout: Option<Duration>,
    pub log: LogSettings,
    pub on_refusal: OnRefusal,
    /// Where the responder listens while work is under way.
    pub probe: Option<SocketAddr>,
    /// Whether `match` and `ensure` may be patterns.
    pub all_collections: bool,
    /// Whether applications may go on writing to a collection behind an alias while it is rebuilt.
    pub allow_writers: bool,
    /// Whether a first installation may stand beside objects that nothing explains.
    pub install_beside: bool,
    /// What is done about objects that are missing and can be added.
    pub complete: Complete,
    pub missing_database: MissingDatabase,
    /// How long rejected credentials are tried again; zero fails at once.
    pub auth_grace: Duration,
    /// The file that gets the cause of a failure, if it exists.
    pub termination_log: PathBuf,
    /// Every setting for `tandem config`.
    pub report: Vec<Row>,
}

/// One line of `tandem config`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    pub name: &'static str,
    /// Never a secret: `(set)` stands for one.
    pub value: String,
    pub origin: String,
}

/// What was said about Qdrant.
#[derive(Debug, Clone, PartialEq, Eq)]
enum QdrantChoice {
    Unset,
    /// `QDRANT_URL=none`: this deployment has none.
    None,
    At(QdrantSettings),
}

/// Where Qdrant's gRPC port is and how to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QdrantSettings {
    /// A name or an address without brackets.
    pub host: String,
    /// The gRPC port.
    pub port: u16,
    /// The REST port: snapshots are downloaded and restored through it, which gRPC has no calls for.
    pub rest_port: u16,
    pub tls: bool,
    pub api_key: Option<Secret>,
    /// The variable, flag or file that named the key, for remedies.
    pub api_key_origin: String,
}

/// The endpoint for the gRPC client, and what logs and errors call it.
impl fmt::Display for QdrantSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    pub format: LogFormat,
    pub level: LevelFilter,
    /// Whether colour is allowed; it is used only on a terminal.
    pub color: bool,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Human,
    /// One JSON object a line.
    Json,
}

/// What to do after a refusal, or another failure that somebody may mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRefusal {
    Exit,
    /// Stay up, not ready, and look again every 30 s.
    Hold,
}

/// What to do if the server does not have the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingDatabase {
    Fail,
    /// Somebody else is about to create it.
    Wait,
    Create,
}

impl Settings {
    /// The Postgres connection, or what is missing for one.
    pub fn postgres(&self) -> Result<&PostgresSettings> {
        self.postgres.as_ref().ok_or_else(|| {
            Error::new(ExitCode::Configuration, "no setting says where Postgres is")
                .expected("DATABASE_URL, POSTGRES_HOST or PGHOST")
                .remedy("set DATABASE_URL=postgres://user:password@host:5432/database, then look at tandem config")
        })
    }

    /// The Qdrant connection, `None` for a deployment without Qdrant, or what is missing.
    pub fn qdrant(&self) -> Result<Option<&QdrantSettings>> {
        match &self.qdrant {
            QdrantChoice::At(settings) => Ok(Some(settings)),
            QdrantChoice::None => Ok(None),
            QdrantChoice::Unset => {
                Err(Error::new(ExitCode::Configuration, "no setting says where Qdrant is")
                    .expected("QDRANT_URL or QDRANT_HOST")
                    .remedy(
                        "set QDRANT_URL=http://host:6334, or QDRANT_URL=none for a deployment without Qdrant",
                    ))
            }
        }
    }

    /// The report for machines: an array of name, value and origin.
    pub fn json(&self) -> Result<String> {
        serde_json::to_string_pretty(&self.report)
            .map_err(|e| Error::new(ExitCode::Bug, format!("the settings could not be written as JSON: {e}")))
    }

    /// The report for people: a table.
    pub fn table(&self) -> String {
        let width = |of: fn(&Row) -> &str, least: &str| {
            self.report.iter().map(|row| of(row).chars().count()).chain([least.len()]).max().unwrap_or(0)
        };
        let (name, value) = (width(|row| row.name, "SETTING"), width(|row| &row.value, "VALUE"));
        let mut table = format!("{:name$}  {:value$}  FROM\n", "SETTING", "VALUE");
        for row in &self.report {
            // Writing to a String cannot fail.
            let _ = writeln!(table, "{:name$}  {:value$}  {}", row.name, row.value, row.origin);
        }
        table
    }
}

/// The process's environment as data. Names that are not UTF-8 are none of ours.
pub fn environment() -> Environment {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect()
}

/// Settles every setting. A wrong flag is 64, anything else that is wrong 78.
pub fn resolve(flags: &Flags, environment: &Environment) -> Result<Settings> {
    resolve_with(flags, environment, &|path| std::fs::read_to_string(path))
}

/// [`resolve`] with a way to read files.
pub fn resolve_with(
    flags: &Flags,
    environment: &Environment,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Settings> {
    let mut sources = Sources { environment, file: Default::default(), read };
    let mut report = Report::default();

    let file = pick(flags.config.as_deref(), "--config", &sources, &["TANDEM_CONFIG"], "")?;
    if let Some(file) = &file {
        let text = sources.read(&file.text, &file.origin)?;
        sources.file = source::read_file(&text, &file.text, &FILE_KEYS)?;
    }
    report.add("config", file.as_ref(), |value| value.text.clone(), "(none)");

    let postgres = resolve_postgres(flags, &sources, &mut report)?;
    let qdrant = resolve_qdrant(flags, &sources, &mut report)?;

    let migrations =
        pick(flags.migrations.as_deref(), "--migrations", &sources, &["TANDEM_MIGRATIONS"], "migrations")?;
    report.add("migrations", migrations.as_ref(), |value| value.text.clone(), "migrations");
    let mut own = |flag: Option<&str>, flag_name: &str, variable: &str, name: &'static str, default: &str| {
        let value = pick(flag, flag_name, &sources, &[variable], name)?;
        report.add(name, value.as_ref(), |value| value.text.clone(), default);
        Ok::<_, Error>(value.unwrap_or_else(|| Value::flag(default, "default")))
    };
    let timeout = own(flags.timeout.as_deref(), "--timeout", "TANDEM_TIMEOUT", "timeout", "60s")?;
    let lock_timeout =
        own(flags.lock_timeout.as_deref(), "--lock-timeout", "TANDEM_LOCK_TIMEOUT", "lock_timeout", "10m")?;
    let log_format =
        own(flags.log_format.as_deref(), "--log-format", "TANDEM_LOG_FORMAT", "log_format", "human")?;
    let log_level = own(flags.log_level.as_deref(), "--log-level", "TANDEM_LOG_LEVEL", "log_level", "info")?;
    let all = flags.all_collections.then_some("true");
    let all_collections =
        own(all, "--all-collections", "TANDEM_ALL_COLLECTIONS", "all_collections", "false")?;
    let writers = flags.allow_writers.then_some("true");
    let allow_writers = own(writers, "--allow-writers", "TANDEM_ALLOW_WRITERS", "allow_writers", "false")?;
    let beside = flags.install_beside.then_some("true");
    let install_beside = own(beside, "--install-beside", "TANDEM_INSTALL_BESIDE", "install_beside", "false")?;
    let complete = own(flags.complete.as_deref(), "--complete", "TANDEM_COMPLETE", "complete", "auto")?;
    let missing_database = own(None, "", "TANDEM_MISSING_DATABASE", "missing_database", "fail")?;
    let auth_grace = own(None, "", "TANDEM_AUTH_GRACE", "auth_grace", "0s")?;
    let on_refusal = own(None, "", "TANDEM_ON_REFUSAL", "on_refusal", "exit")?;
    let probe = own(None, "", "TANDEM_PROBE", "probe", "off")?;
    let termination_log =
        own(None, "", "TANDEM_TERMINATION_LOG", "termination_log", crate::termination::DEFAULT_PATH)?;

    // https://no-color.org: any value but an empty one.
    let color = !flags.no_color && sources.variable("NO_COLOR")?.is_none();
    Ok(Settings {
        postgres,
        qdrant,
        migrations: PathBuf::from(migrations.map_or_else(|| "migrations".into(), |value| value.text)),
        timeout: limit(&timeout)?,
        lock_timeout: limit(&lock_timeout)?,
        log: LogSettings {
            format: choose(&log_format, &[("human", LogFormat::Human), ("json", LogFormat::Json)])?,
            level: choose(
                &log_level,
                &[
                    ("info", LevelFilter::INFO),
                    ("error", LevelFilter::ERROR),
                    ("warn", LevelFilter::WARN),
                    ("debug", LevelFilter::DEBUG),
                    ("trace", LevelFilter::TRACE),
                    ("off", LevelFilter::OFF),
                ],
            )?,
            color,
        },
        on_refusal: choose(&on_refusal, &[("exit", OnRefusal::Exit), ("hold", OnRefusal::Hold)])?,
        probe: probe_address(&probe)?,
        all_collections: boolean(&all_collections)?,
        allow_writers: boolean(&allow_writers)?,
        install_beside: boolean(&install_beside)?,
        complete: choose(
            &complete,
            &[("auto", Complete::Auto), ("plan", Complete::Plan), ("never", Complete::Never)],
        )?,
        missing_database: choose(
            &missing_database,
            &[
                ("fail", MissingDatabase::Fail),
                ("wait", MissingDatabase::Wait),
                ("create", MissingDatabase::Create),
            ],
        )?,
        auth_grace: duration(&auth_grace)?,
        termination_log: termination_log.text.into(),
        report: report.rows,
    })
}

/// The rows of `tandem config`, in the order in which settings are resolved.
#[derive(Default)]
struct Report {
    rows: Vec<Row>,
}

impl Report {
    fn push(&mut self, name: &'static str, value: impl Into<String>, origin: impl Into<String>) {
        self.rows.push(Row { name, value: value.into(), origin: origin.into() });
    }

    fn add(&mut self, name: &'static str, value: Option<&Value>, show: fn(&Value) -> String, default: &str) {
        match value {
            Some(value) => self.push(name, show(value), &value.origin),
            None => self.push(name, default, "default"),
        }
    }
}

fn pick(
    flag: Option<&str>,
    flag_name: &str,
    sources: &Sources,
    variables: &[&str],
    key: &str,
) -> Result<Option<Value>> {
    match flag {
        Some(text) if !text.is_empty() => Value::flag(text, flag_name).without_url(flag_name).map(Some),
        _ => sources.get(variables, key),
    }
}

/// A URL stands for the whole connection. What it leaves out comes from `PG*`, as with libpq, and never from
/// `POSTGRES_*`, which describe another one; its port comes from `PGPORT` only together with the host.
fn resolve_postgres(
    flags: &Flags,
    sources: &Sources,
    report: &mut Report,
) -> Result<Option<PostgresSettings>> {
    let url = match &flags.database_url {
        Some(secret) if !secret.expose().is_empty() => Some(Value::flag(secret.expose(), "--database-url")),
        _ => sources.get(&["TANDEM_DATABASE_URL", "DATABASE_URL"], "")?,
    };
    let in_file = sources.file.get("postgres.url").filter(|_| url.is_none()).cloned();
    let stands_alone = url.is_some();
    let url = url.or(in_file);
    let read = match &url {
        Some(value) => url::postgres(&value.text).map_err(|e| {
            value.wrong(e).remedy(
                "write postgres://user:password@host:5432/database, percent-encode what is ambiguous, \
                 or use POSTGRES_HOST, POSTGRES_USER and POSTGRES_PASSWORD",
            )
        })?,
        None => url::PostgresUrl::default(),
    };
    let url_origin = url.map_or_else(String::new, |value| value.origin);
    let has_host = read.host.is_some();
    // Ranks one setting's sources. A URL in the file is outranked by variables, like all of the file.
    let field = |own: Option<String>, parts: &str, libpq: &str, key: &str| -> Result<Option<Value>> {
        let own = own.map(|text| Value { text, origin: url_origin.clone(), blame: ExitCode::Configuration });
        if stands_alone {
            return Ok(match own {
                Some(own) => Some(own),
                None if libpq.is_empty() => None,
                None => sources.variable(libpq)?,
            });
        }
        let variables: Vec<&str> = [parts, libpq].into_iter().filter(|name| !name.is_empty()).collect();
        Ok(sources.get(&variables, key)?.or(own))
    };
    let host = field(read.host, "POSTGRES_HOST", "PGHOST", "postgres.host")?;
    let port_variable = if stands_alone && has_host { "" } else { "PGPORT" };
    let port = field(read.port.map(|p| p.to_string()), "POSTGRES_PORT", port_variable, "postgres.port")?;
    let user = field(read.user, "POSTGRES_USER", "PGUSER", "postgres.user")?;
    let own_password = read.password.map(|secret| secret.expose().to_owned());
    let password = field(own_password, "POSTGRES_PASSWORD", "PGPASSWORD", "postgres.password")?;
    let database = field(read.database, "POSTGRES_DB", "PGDATABASE", "postgres.database")?;
    let own_sslmode = read.sslmode.map(|mode| mode.name().to_owned());
    let sslmode = field(own_sslmode, "POSTGRES_SSLMODE", "PGSSLMODE", "postgres.sslmode")?;
    let sslrootcert = field(read.sslrootcert, "", "PGSSLROOTCERT", "postgres.sslrootcert")?;
    let sslcert = field(read.sslcert, "", "PGSSLCERT", "postgres.sslcert")?;
    let sslkey = field(read.sslkey, "", "PGSSLKEY", "postgres.sslkey")?;
    let passfile = field(None, "", "PGPASSFILE", "postgres.passfile")?;

    let Some(host) = host else {
        if stands_alone || user.is_some() || password.is_some() || database.is_some() {
            let from =
                [&user, &password, &database].into_iter().flatten().next().map(|value| value.origin.clone());
            return Err(Error::new(
                ExitCode::Configuration,
                format!("{} is set, and nothing names Postgres' host", from.unwrap_or(url_origin)),
            )
            .expected("POSTGRES_HOST, PGHOST or a URL with a host")
            .remedy("set POSTGRES_HOST, or a socket's directory as in postgres:///database?host=/var/run/postgresql"));
        }
        report.push("postgres", "(unset)", "default");
        return Ok(None);
    };
    let host_name = url::host(&host.text).ok_or_else(|| {
        host.wrong("is not a host name, an address or a socket's directory")
            .remedy("the port belongs into POSTGRES_PORT")
    })?;
    report.push("postgres.host", &host_name, &host.origin);
    let port_number = port.as_ref().map_or(Ok(5432), port_of)?;
    report.push("postgres.port", port_number.to_string(), origin_of(port.as_ref()));
    // The defaults of the postgres image.
    let user_name = user.as_ref().map_or("postgres", |value| &value.text).to_owned();
    report.push("postgres.user", &user_name, origin_of(user.as_ref()));
    let database_name = database.as_ref().map_or(&user_name, |value| &value.text).to_owned();
    let database_origin = database.as_ref().map_or("default (the user's name)", |value| &value.origin);
    report.push("postgres.database", &database_name, database_origin);

    let (password, password_origin) = match (password, passfile) {
        (Some(value), _) => (Some(Secret::new(value.text)), value.origin),
        (None, Some(file)) => {
            let text = sources.read(&file.text, &file.origin)?;
            let found = postgres::password_in(&text, &host_name, port_number, &database_name, &user_name);
            (found, format!("{} ({})", file.origin, file.text))
        }
        (None, None) => (None, "default".into()),
    };
    report.push("postgres.password", if password.is_some() { "(set)" } else { "(unset)" }, &password_origin);

    let mut mode = match &sslmode {
        Some(value) => {
            value.text.parse().map_err(|()| value.wrong(format!("is none of {}", SslMode::NAMES)))?
        }
        None => SslMode::default(),
    };
    let mut mode_origin = origin_of(sslmode.as_ref()).to_owned();
    let is_system = sslrootcert.as_ref().is_some_and(|value| value.text == "system");
    // As libpq has it: with an authority at hand `require` checks, and `system` checks everything.
    if is_system {
        mode = SslMode::VerifyFull;
        mode_origin = "sslrootcert=system".into();
    } else if sslrootcert.is_some() && mode == SslMode::Require {
        mode = SslMode::VerifyCa;
        mode_origin = format!("{mode_origin}: require with sslrootcert");
    }
    if host_name.starts_with('/') {
        mode = SslMode::Disable;
        mode_origin = "a Unix socket has no TLS".into();
    }
    report.push("postgres.sslmode", mode.name(), mode_origin);
    let pem = |value: &Value| sources.read(&value.text, &value.origin).map(String::into_bytes);
    let is_checked = matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull) && !is_system;
    let authority = sslrootcert.as_ref().filter(|_| is_checked).map(pem).transpose()?;
    report.add("postgres.sslrootcert", sslrootcert.as_ref(), |value| value.text.clone(), "(built in)");
    let client = match (&sslcert, &sslkey) {
        (Some(certificate), Some(key)) => Some(postgres::ClientCertificate {
            certificate: pem(certificate)?,
            key: Secret::new(sources.read(&key.text, &key.origin)?),
        }),
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => {
            return Err(one.wrong("is set alone").expected("sslcert and sslkey together"));
        }
    };
    if let (Some(certificate), Some(key)) = (&sslcert, &sslkey) {
        report.push("postgres.sslcert", &certificate.text, &certificate.origin);
        report.push("postgres.sslkey", &key.text, &key.origin);
    }
    Ok(Some(PostgresSettings {
        host: host_name,
        port: port_number,
        user: user_name,
        password,
        database: database_name,
        sslmode: mode,
        sslrootcert: authority,
        client,
        password_origin,
    }))
}

/// tandem speaks gRPC, and most deployments name only the REST port 6333: there the gRPC port is Qdrant's default,
/// unless `QDRANT_GRPC_PORT` names another. Where only the gRPC port is named, the REST port is the one below it.
fn resolve_qdrant(flags: &Flags, sources: &Sources, report: &mut Report) -> Result<QdrantChoice> {
    const GRPC_PORT: u16 = 6334;
    const REST_PORT: u16 = 6333;

    let url = pick(flags.qdrant_url.as_deref(), "--qdrant-url", sources, &["QDRANT_URL"], "")?;
    let host = sources.get(&["QDRANT_HOST"], "qdrant.host")?;
    // A host in the environment outranks a URL in the file; within one layer a URL outranks a host.
    let host_outranks = sources.variable("QDRANT_HOST")?.is_some();
    let url = url.or_else(|| sources.file.get("qdrant.url").filter(|_| !host_outranks).cloned());
    let (url, host) = match (url, host) {
        (Some(url), _) if url.text.eq_ignore_ascii_case("none") => {
            report.push("qdrant", "none", url.origin);
            return Ok(QdrantChoice::None);
        }
        (Some(url), _) => (Some(url), None),
        (None, Some(host)) if host.text.eq_ignore_ascii_case("none") => {
            return Err(host.wrong("is none").remedy("a deployment without Qdrant says QDRANT_URL=none"));
        }
        (None, Some(host)) => (None, Some(host)),
        (None, None) => {
            report.push("qdrant", "(unset)", "default");
            return Ok(QdrantChoice::Unset);
        }
    };
    let grpc = sources.get(&["QDRANT_GRPC_PORT"], "qdrant.grpc_port")?;
    let rest = sources.get(&["QDRANT_PORT"], "qdrant.port")?;
    let tls = sources.get(&["QDRANT_TLS"], "qdrant.tls")?;
    let key = sources.get(&["TANDEM_QDRANT_API_KEY", "QDRANT_API_KEY"], "qdrant.api_key")?;

    let (host_name, origin, in_url, tls_in_url) = match (&url, &host) {
        (Some(url), _) => {
            let read = url::qdrant(&url.text)
                .map_err(|e| url.wrong(e).remedy("write http://host:6334, https://host:6334 or none"))?;
            (read.host, &url.origin, read.port, Some(read.tls))
        }
        (None, Some(host)) => {
            let name = url::host(&host.text).filter(|name| !name.starts_with('/'));
            let name = name.ok_or_else(|| {
                host.wrong("is not a host name or an address").remedy("a URL belongs into QDRANT_URL")
            })?;
            (name, &host.origin, None, None)
        }
        // Unreachable in effect: the match above leaves one of them.
        (None, None) => return Ok(QdrantChoice::Unset),
    };
    report.push("qdrant.host", &host_name, origin);

    let was_typed = origin == "--qdrant-url";
    let (port, port_origin) = match (in_url, &grpc) {
        (Some(port), _) if was_typed && port != REST_PORT => (port, origin.clone()),
        (_, Some(grpc)) => (port_of(grpc)?, grpc.origin.clone()),
        (Some(REST_PORT), None) => (GRPC_PORT, format!("default ({origin} names the REST port {REST_PORT})")),
        (Some(port), None) => (port, origin.clone()),
        (None, None) => match &rest {
            Some(rest) => {
                (GRPC_PORT, format!("default ({} is the REST port {})", rest.origin, port_of(rest)?))
            }
            None => (GRPC_PORT, "default".into()),
        },
    };
    report.push("qdrant.grpc_port", port.to_string(), port_origin);
    // A typed URL with a port describes another server than QDRANT_PORT does.
    let rest = rest.filter(|_| !(was_typed && in_url.is_some()));
    let (rest_port, rest_port_origin) = match (&rest, in_url) {
        (Some(rest), _) => (port_of(rest)?, rest.origin.clone()),
        (None, Some(REST_PORT)) => (REST_PORT, origin.clone()),
        // Qdrant's own ports are neighbours, and whoever publishes others mostly keeps that.
        (None, _) => (port.saturating_sub(1).max(1), format!("default (below the gRPC port {port})")),
    };
    report.push("qdrant.port", rest_port.to_string(), rest_port_origin);
    let (tls, tls_origin) = match (tls_in_url, &tls) {
        (Some(tls), _) => (tls, origin.clone()),
        (None, Some(value)) => (boolean(value)?, value.origin.clone()),
        (None, None) => (false, "default".into()),
    };
    report.push("qdrant.tls", tls.to_string(), tls_origin);
    report.add("qdrant.api_key", key.as_ref(), |_| "(set)".into(), "(unset)");
    let api_key_origin = key.as_ref().map_or_else(|| "QDRANT_API_KEY".into(), |value| value.origin.clone());
    let api_key = key.map(|value| Secret::new(value.text));
    Ok(QdrantChoice::At(QdrantSettings { host: host_name, port, rest_port, tls, api_key, api_key_origin }))
}

fn origin_of(value: Option<&Value>) -> &str {
    value.map_or("default", |value| &value.origin)
}

fn port_of(value: &Value) -> Result<u16> {
    match value.text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(value.wrong("is not a port").expected("a number from 1 to 65535")),
    }
}

fn choose<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Result<T> {
    let text = value.text.to_ascii_lowercase();
    choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        value.wrong(format!("is {:?}", value.text)).expected(names.join(", "))
    })
}

fn boolean(value: &Value) -> Result<bool> {
    choose(
        value,
        &[("true", true), ("false", false), ("1", true), ("0", false), ("yes", true), ("no", false)],
    )
}

/// Zero means no limit.
fn limit(value: &Value) -> Result<Option<Duration>> {
    Ok(Some(duration(value)?).filter(|duration| !duration.is_zero()))
}

fn duration(value: &Value) -> Result<Duration> {
    parse_duration(&value.text).ok_or_else(|| {
        value.wrong(format!("is {:?}", value.text)).expected("a time such as 500ms, 60s, 2m, 1h30m or 0")
    })
}

/// `500ms`, `60s`, `2m`, `1h30m`; a bare number is seconds.
fn parse_duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let number: u64 = number.parse().ok()?;
        let part = match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            _ => return None,
        };
        total = total.checked_add(part)?;
        rest = tail;
    }
    Some(total).filter(|_| !text.trim().is_empty())
}

/// `9090`, `:9090`, `0.0.0.0:9090`, `[::]:9090`, or `off`.
fn probe_address(value: &Value) -> Result<Option<SocketAddr>> {
    if value.text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let text = value.text.strip_prefix(':').unwrap_or(&value.text);
    let address = match text.parse::<u16>() {
        Ok(port) => Some(SocketAddr::from(([0, 0, 0, 0], port))),
        Err(_) => text.parse().ok(),
    };
    match address {
        Some(address) => Ok(Some(address)),
        None => Err(value
            .wrong("is not an address to listen on")
            .expected("9090, 127.0.0.1:9090, [::]:9090 or off")),
    }
}

#[cfg(test)]
mod tests;
