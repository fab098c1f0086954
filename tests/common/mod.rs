//! What the tests share: a timeline in a temporary directory, a database and a collection of its own, and the real
//! binary started on them.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod moments;
pub mod points;

use local_servers::{Database, Qdrant, unique_name};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// A directory that is removed with the value.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(unique_name("tandem"));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A Postgres database, a Qdrant collection name and a timeline, all of one test.
pub struct World {
    pub db: Database,
    pub qdrant: Qdrant,
    /// The value of `QDRANT_COLLECTION_NAME`.
    pub collection: String,
    pub migrations: Dir,
    /// What the started process finds in its environment besides `PATH`.
    pub env: Vec<(String, String)>,
}

impl World {
    /// Two versions that change both stores, recorded.
    pub fn small() -> Self {
        static RECORDED: OnceLock<Dir> = OnceLock::new();
        let recorded = RECORDED.get_or_init(|| {
            let world = Self::empty();
            world.small_timeline();
            world.record();
            let copied = Dir::new();
            copy(world.migrations.path(), copied.path());
            copied
        });
        let world = Self::empty();
        copy(recorded.path(), world.migrations.path());
        world
    }

    /// One version, recorded, whose collection is the application's and is declared like this.
    pub fn declaring(toml: &str) -> Self {
        let world = Self::empty();
        world.version(
            "0001_users",
            "create table users (id bigint primary key);\n",
            &format!(
                "compatible_from = 1\n[[collection]]\nmatch = \"${{QDRANT_COLLECTION_NAME}}\"\nensure = [\"${{QDRANT_COLLECTION_NAME}}\"]\n{toml}"
            ),
        );
        world.record();
        world
    }

    /// Another world with the same timeline.
    pub fn sibling(&self) -> Self {
        self.sibling_on(local_servers::qdrant())
    }

    /// The same on a given server.
    pub fn sibling_on(&self, qdrant: Qdrant) -> Self {
        let world = Self::on(local_servers::postgres().create_database("world"), qdrant);
        copy(self.migrations.path(), world.migrations.path());
        world
    }

    /// The application's whole timeline from `migrations/`, with its committed catalogs.
    pub fn whisperengine() -> Self {
        Self::whisperengine_on(local_servers::postgres().create_database("world"))
    }

    /// The same on a given database.
    pub fn whisperengine_on(db: Database) -> Self {
        let world = Self::on(db, local_servers::qdrant());
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations"), world.migrations.path());
        world
    }

    /// The same on a given Qdrant.
    pub fn whisperengine_beside(qdrant: Qdrant) -> Self {
        let world = Self::on(local_servers::postgres().create_database("world"), qdrant);
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations"), world.migrations.path());
        world
    }

    /// No version at all, only `tandem.toml`.
    pub fn empty() -> Self {
        let db = local_servers::postgres().create_database("world");
        Self::on(db, local_servers::qdrant())
    }

    /// The same on given servers.
    pub fn on(db: Database, qdrant: Qdrant) -> Self {
        let migrations = Dir::new();
        migrations.write("tandem.toml", "application = \"demo\"\n");
        let collection = unique_name("memory");
        let mut env = vec![
            ("DATABASE_URL".into(), db.url()),
            ("QDRANT_URL".into(), qdrant.grpc_url()),
            ("QDRANT_PORT".into(), qdrant.http_port().to_string()),
            ("QDRANT_COLLECTION_NAME".into(), collection.clone()),
            ("TANDEM_MIGRATIONS".into(), migrations.path().display().to_string()),
            ("TANDEM_TIMEOUT".into(), "20s".into()),
        ];
        if let Some(key) = qdrant.api_key() {
            env.push(("QDRANT_API_KEY".into(), key.to_owned()));
        }
        Self { db, qdrant, collection, migrations, env }
    }

    /// Writes the two versions of [`World::small`].
    pub fn small_timeline(&self) {
        self.version(
            "0001_users",
            "create table users (id bigint generated always as identity primary key, name text not null);\n\
             create index users_name on users (name);\n",
            &collection_toml("1.0.0", "user_id = \"keyword\""),
        );
        self.version(
            "0002_notes",
            "create table notes (\n  id bigint primary key,\n  user_id bigint not null references users (id) on delete cascade,\n  \
             body text default ''\n);\n",
            &collection_toml("1.1.0", "user_id = \"keyword\"\nchannel_id = \"keyword\""),
        );
        self.migrations.write("0002_notes.down.sql", "drop table notes;\n");
    }

    /// Writes `NAME.up.sql` and, unless it is empty, `NAME.toml`.
    pub fn version(&self, name: &str, up: &str, toml: &str) {
        self.migrations.write(&format!("{name}.up.sql"), up);
        if !toml.is_empty() {
            self.migrations.write(&format!("{name}.toml"), toml);
        }
    }

    /// Removes the files of a version and records what is left, as an older image has it.
    pub fn without(&self, name: &str) {
        for entry in std::fs::read_dir(self.migrations.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with(name) {
                std::fs::remove_file(path).unwrap();
            }
        }
        self.record();
    }

    /// Brings the database to the version before this one.
    pub fn start_before(&self, name: &str) {
        let older = Dir::new();
        copy(self.migrations.path(), older.path());
        for entry in std::fs::read_dir(older.path()).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            if file.starts_with(|c: char| c.is_ascii_digit()) && file >= name {
                std::fs::remove_file(path).unwrap();
            }
        }
        let directory = older.path().display().to_string();
        self.output(["record", "--migrations", &directory]).expect(0);
        self.output(["migrate", "--migrations", &directory]).expect(0);
    }

    /// `tandem record`.
    pub fn record(&self) {
        let output = self.tandem(["record"]).output().unwrap();
        assert!(output.status.success(), "record: {}", text(&output));
    }

    /// Makes the recording name the files as they are now, so that what they do can be tried without its catalog.
    pub fn pretend_recorded(&self) {
        let variable = |name: &str| self.env.iter().find(|(k, _)| k == name).map(|(_, value)| value.clone());
        let timeline = tandem::timeline::load(self.migrations.path(), &variable).unwrap();
        let path = self.migrations.path().join("catalog/index.json");
        let mut index: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for recorded in index["versions"].as_array_mut().unwrap() {
            if let Some(version) = timeline.version(recorded["number"].as_i64().unwrap()) {
                recorded["checksum"] = version.raw_checksum().into();
            }
        }
        std::fs::write(path, index.to_string()).unwrap();
    }

    /// The binary with this world's environment and nothing else of ours.
    pub fn tandem<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
        command.args(args).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        command
    }

    /// Runs to the end.
    pub fn output<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Outcome {
        Outcome::new(self.tandem(args).output().unwrap())
    }

    /// `tandem run -- CMD`.
    pub fn start(&self, command: &[&str]) -> Outcome {
        self.output(["run", "--"].iter().chain(command))
    }

    /// Replaces or adds a variable.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.env.retain(|(k, _)| k != name);
        self.env.push((name.to_owned(), value.into()));
    }

    /// One value from the database, as text.
    pub fn query(&self, sql: &str) -> String {
        query(&self.db.url(), sql)
    }

    /// The collection's REST info, or `None` if it does not exist.
    pub fn collection_info(&self) -> Option<serde_json::Value> {
        let (status, body) =
            self.qdrant.rest("GET", &format!("/collections/{}", self.collection), "").unwrap();
        (status == 200).then(|| serde_json::from_str::<serde_json::Value>(&body).unwrap()["result"].clone())
    }

    /// Everything that a run may change, in one comparable text: the application's tables, the ledger without times, and the collection.
    pub fn state(&self) -> String {
        let tables = self.query(
            "select coalesce(string_agg(n.nspname || '.' || c.relname, ' ' order by n.nspname, c.relname), '') from pg_class c \
             join pg_namespace n on n.oid = c.relnamespace where n.nspname in ('public', 'tandem') and c.relkind = 'r'",
        );
        let ledger = if tables.contains("tandem.ledger") {
            self.query("select string_agg(timeline || ' ' || version || ' ' || origin || ' ' || checksum_raw, E'\\n' order by timeline, version) from tandem.ledger")
        } else {
            "no ledger".into()
        };
        let collection = self.collection_info().map(|mut info| {
            // Only what was configured; counters and segments move by themselves, the lineage differs by database.
            if let Some(stamp) = info["config"]["metadata"]["tandem"].as_object_mut() {
                stamp.remove("lineage");
                stamp.remove("epoch");
            }
            // A server that replays its log counts a point of an index again.
            for index in info["payload_schema"].as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
                index.as_object_mut().map(|index| index.remove("points"));
            }
            format!("{}\n{}", info["config"], info["payload_schema"])
        });
        format!("{tables}\n{ledger}\n{}", collection.unwrap_or_else(|| "no collection".into()))
    }

    /// `NAME=VALUE` of the collection's stamp, or null.
    pub fn stamp(&self) -> serde_json::Value {
        self.collection_info().map(|info| info["config"]["metadata"]["tandem"].clone()).unwrap_or_default()
    }
}

impl World {
    /// Deletes the collection and all that is named after it, snapshots too: a shared server that kept every shadow would soon have
    /// as many mappings as the kernel allows it (`vm.max_map_count`), and end.
    pub fn drop_collections(&self) {
        let named = |path: &str| {
            // The server may be gone, and the collections with it.
            let Ok((200, answer)) = self.qdrant.rest("GET", path, "") else { return Vec::new() };
            answer
                .split('"')
                .filter(|name| name.contains(&self.collection))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        for name in named("/collections") {
            let snapshots = format!("/collections/{name}/snapshots");
            for snapshot in named(&snapshots) {
                let _ = self.qdrant.rest("DELETE", &format!("{snapshots}/{snapshot}"), "");
            }
            let _ = self.qdrant.rest("DELETE", &format!("/collections/{name}"), "");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.drop_collections();
        }
    }
}

/// One value as text, on any URL.
pub fn query(url: &str, sql: &str) -> String {
    use sqlx::{Connection, Row};
    let (url, sql) = (url.to_owned(), sql.to_owned());
    let read = async move {
        let mut connection = sqlx::PgConnection::connect(&url).await?;
        let row = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).fetch_one(&mut connection).await?;
        let value = row.try_get_unchecked::<Option<String>, _>(0)?.unwrap_or_default();
        connection.close().await?;
        Ok::<_, sqlx::Error>(value)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(read).unwrap()
}

/// The TOML of a version with one collection of one 4-dimensional vector and these payload indexes.
pub fn collection_toml(release: &str, indexes: &str) -> String {
    format!(
        "release = \"{release}\"\ncompatible_from = 1\n\n[[collection]]\nmatch = \"${{QDRANT_COLLECTION_NAME}}\"\n\
         ensure = [\"${{QDRANT_COLLECTION_NAME}}\"]\n\n[collection.vectors.content]\nsize = 4\ndistance = \"Cosine\"\n\
         hnsw_config = {{ m = 24 }}\n\n[collection.payload_indexes]\n{indexes}\n"
    )
}

/// How a process ended.
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn new(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let code = output.status.code().or(output.status.signal().map(|s| -s)).unwrap();
        Self { code, stdout: lossy(&output.stdout), stderr: lossy(&output.stderr) }
    }

    /// Asserts the exit code; the whole output is in the message.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code\nstdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Asserts that standard error contains all of these.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in\n{}", self.stderr);
        }
        self
    }
}

/// Both streams, for messages.
pub fn text(output: &Output) -> String {
    format!("{}\n{}", lossy(&output.stdout), lossy(&output.stderr))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A timeline as the image of a version has it.
pub fn timeline_up_to(timeline: &Path, upto: i64) -> Dir {
    let older = Dir::new();
    copy(timeline, older.path());
    for entry in std::fs::read_dir(older.path()).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let number = file.split('_').next().unwrap_or_default().parse::<i64>();
        if number.is_ok_and(|number| number > upto) {
            std::fs::remove_file(path).unwrap();
        }
    }
    older
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}
