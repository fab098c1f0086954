//! Real servers: shared, one's own, stopped, killed, paused, and ended with their users.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sqlx::Connection;

use local_servers::{PgVersion, Postgres, PostgresOptions, Qdrant, QdrantOptions, QdrantVersion, tls};

#[test]
fn databases_on_the_shared_postgres_are_apart() {
    let pg = local_servers::postgres();
    let (one, two) = (pg.create_database("apart"), pg.create_database("apart"));
    one.execute("create table only_here (id int)");
    assert!(pg.execute(one.name(), "select * from only_here").is_ok());
    assert!(pg.execute(two.name(), "select * from only_here").is_err());
    let name = one.name().to_owned();
    assert!(one.url().ends_with(&format!("/{name}")), "{}", one.url());
    drop(one);
    assert!(pg.execute(&name, "select 1").is_err(), "the database outlived its value");
}

#[test]
fn urls_hold_any_role_password_and_database() {
    let pg = Postgres::start(PostgresOptions::default()).unwrap();
    let (role, password, database) = ("r@l/e %41", "p@:/%25#?& x+'ü", "d b/%?#");
    let quoted = password.replace('\'', "''");
    pg.execute("postgres", &format!("create role \"{role}\" login password '{quoted}'")).unwrap();
    pg.execute("postgres", &format!("create database \"{database}\" owner \"{role}\"")).unwrap();
    pg.execute(database, "select 1").unwrap();
    let url = pg.url_as(role, password, database);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let row: (String, String) = runtime.block_on(async {
        let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
        sqlx::query_as("select current_user::text, current_database()::text")
            .fetch_one(&mut connection)
            .await
            .unwrap()
    });
    assert_eq!(row, (role.to_owned(), database.to_owned()));
}

#[test]
fn a_shared_server_is_one_server_for_all() {
    let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(|| local_servers::postgres().port())).collect();
    let ports: Vec<u16> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert!(ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    let qdrant = Qdrant::shared(QdrantVersion::default()).unwrap();
    assert_eq!(local_servers::qdrant().grpc_port(), qdrant.grpc_port());
}

#[test]
fn postgres_stops_restarts_and_recovers_with_its_data() {
    let mut pg = Postgres::start(PostgresOptions::default()).unwrap();
    let port = pg.port();
    pg.execute("postgres", "create table kept (id int); insert into kept values (1)").unwrap();
    pg.stop().unwrap();
    assert!(pg.execute("postgres", "select 1").is_err());
    pg.restart().unwrap();
    pg.kill9().unwrap();
    assert!(pg.execute("postgres", "select 1").is_err());
    pg.restart().unwrap();
    assert_eq!(pg.port(), port);
    pg.execute("postgres", "do $$ begin assert (select count(*) from kept) = 1; end $$").unwrap();
    assert!(pg.log().contains("automatic recovery in progress"), "{}", pg.log());
}

#[test]
fn qdrant_stops_restarts_and_recovers_with_its_data() {
    let mut qdrant = Qdrant::start(QdrantOptions::default()).unwrap();
    let created =
        qdrant.rest("PUT", "/collections/kept", r#"{"vectors":{"size":4,"distance":"Dot"}}"#).unwrap();
    assert_eq!(created.0, 200, "{}", created.1);
    qdrant.stop().unwrap();
    assert!(qdrant.rest("GET", "/collections", "").is_err());
    qdrant.restart().unwrap();
    qdrant.kill9().unwrap();
    qdrant.restart().unwrap();
    assert_eq!(qdrant.rest("GET", "/collections/kept", "").unwrap().0, 200);
}

#[test]
fn options_reach_the_servers() {
    let pg = Postgres::start(PostgresOptions {
        version: PgVersion::V18,
        durable: true,
        conf: vec!["max_connections = 7".into()],
        hba: vec!["host all stranger all reject".into()],
        tls: Some(tls::CERTIFICATE),
        ..Default::default()
    })
    .unwrap();
    let check = "do $$ begin
        assert current_setting('max_connections') = '7' and current_setting('ssl') = 'on';
        assert current_setting('fsync') = 'on';
        assert current_setting('server_version_num')::int / 10000 = 18;
        assert exists (select from pg_hba_file_rules where auth_method = 'reject');
    end $$";
    pg.execute("postgres", check).unwrap();
    let qdrant = Qdrant::start(QdrantOptions {
        version: QdrantVersion::V1_16_3,
        api_key: Some("sesame".into()),
        env: vec![("QDRANT__SERVICE__READ_ONLY_API_KEY".into(), "look".into())],
        ..Default::default()
    })
    .unwrap();
    assert!(qdrant.rest("GET", "/", "").unwrap().1.contains("1.16.3"));
    assert_eq!(qdrant.rest("GET", "/collections", "").unwrap().0, 200);
    let collection = r#"{"vectors":{"size":4,"distance":"Dot"}}"#;
    for (key, status) in [("wrong", 401), ("look", 403), ("sesame", 200)] {
        let as_key = qdrant.with_api_key(Some(key));
        assert_eq!(as_key.rest("PUT", "/collections/x", collection).unwrap().0, status, "{key}");
    }
    let secure = Qdrant::start(QdrantOptions { tls: Some(tls::CERTIFICATE), ..Default::default() }).unwrap();
    assert!(secure.grpc_url().starts_with("https://"));
}

#[test]
fn a_wrong_setting_fails_with_the_log() {
    let options = PostgresOptions { conf: vec!["no_such_setting = 1".into()], ..Default::default() };
    let error = Postgres::start(options).unwrap_err().to_string();
    assert!(error.contains("no_such_setting"), "{error}");
}

#[test]
fn a_directory_of_ones_own_is_kept_and_resumed() {
    let dir = std::path::Path::new("/var/tmp").join(local_servers::unique_name("tandem_kept"));
    let options = PostgresOptions { dir: Some(dir.clone()), ..Default::default() };
    let first = Postgres::start(options.clone()).unwrap();
    first.execute("postgres", "create table kept (id int)").unwrap();
    drop(first);
    let second = Postgres::start(options).unwrap();
    second.execute("postgres", "select * from kept").unwrap();
    drop(second);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_paused_server_answers_after_it_goes_on() {
    let pg = Postgres::start(PostgresOptions::default()).unwrap();
    pg.pause().unwrap();
    let (done, answered) = mpsc::channel();
    let server = (*pg).clone();
    std::thread::spawn(move || done.send(server.execute("postgres", "select 1")));
    assert!(answered.recv_timeout(Duration::from_millis(300)).is_err(), "a stopped server answered");
    pg.cont().unwrap();
    answered.recv().unwrap().unwrap();
}

#[test]
fn a_server_ends_with_a_killed_parent() {
    const PARENT: &str = "LOCAL_SERVERS_TEST_PARENT";
    if std::env::var_os(PARENT).is_some() {
        // The second process, which the first starts below to kill it.
        let pg = Postgres::start(PostgresOptions::default()).unwrap();
        let qdrant = Qdrant::start(QdrantOptions::default()).unwrap();
        println!("\nstarted {} {}", pg.dir().display(), qdrant.dir().display());
        loop {
            std::thread::park();
        }
    }
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_server_ends_with_a_killed_parent", "--nocapture"])
        .env(PARENT, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let line = lines.map(Result::unwrap).find(|line| line.starts_with("started ")).unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    for dir in line.split(' ').skip(1) {
        let dir = std::path::Path::new(dir);
        let pid =
            std::fs::read_to_string(dir.join("pid")).map(|pid| pid.trim().to_owned()).unwrap_or_default();
        // The directory goes last.
        let begin = Instant::now();
        while dir.exists() {
            assert!(begin.elapsed() < Duration::from_secs(60), "{} is still there", dir.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!line.contains(dir.to_str().unwrap()), "still runs: {line}");
    }
}

#[test]
fn client_programs_are_real_ones() {
    assert_eq!(local_servers::client_tool("no-such-client"), None);
    if let Some(psql) = local_servers::client_tool("psql") {
        let text = std::fs::read(psql).unwrap();
        assert!(text.starts_with(b"\x7fELF"));
    }
}
