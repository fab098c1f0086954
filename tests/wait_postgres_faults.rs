//! What real Postgres servers and real networks answer to a login, against the table of classes.

use local_servers::proxy::{Action, Direction, Proxy};
use local_servers::{Postgres, PostgresOptions, tls, unique_name};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};
use tandem::cli::Flags;
use tandem::config::{self, Environment, MissingDatabase, PostgresSettings};
use tandem::error::ExitCode;
use tandem::postgres::fault::{Fault, Kind, classify};
use tandem::postgres::{connect, create_database};
use tandem::wait::Class;

const SIGTERM: i32 = 15;

/// The settings that a URL and further variables resolve to.
fn settings(url: &str, further: &[(&str, &str)]) -> PostgresSettings {
    let variables = [&[("DATABASE_URL", url)], further].concat();
    let environment: Environment =
        variables.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let settings = config::resolve(&Flags::default(), &environment).unwrap();
    settings.postgres().unwrap().clone()
}

async fn fault(url: &str) -> Fault {
    let settings = settings(url, &[]);
    connect(&settings).await.err().unwrap_or_else(|| panic!("{settings} let us in"))
}

fn code(fault: &Fault) -> &str {
    match &fault.kind {
        Kind::Server { code } => code,
        other => panic!("the server did not answer: {other:?}"),
    }
}

fn exit_code(fault: &Fault) -> ExitCode {
    match classify(fault, &settings("postgres://u@h/d", &[]), MissingDatabase::Fail) {
        Class::Grace { error } | Class::Never { error } => error.code,
        Class::Retry { .. } => panic!("{fault} would be tried again"),
    }
}

fn is_retried(fault: &Fault) -> bool {
    matches!(classify(fault, &settings("postgres://u@h/d", &[]), MissingDatabase::Fail), Class::Retry { .. })
}

/// The URL of a server with another user.
fn url_as(pg: &Postgres, user: &str, password: &str) -> String {
    pg.url_as(user, password, "postgres")
}

/// A role that can log in with the password `secret`.
fn role(pg: &Postgres) -> String {
    let name = unique_name("role");
    pg.execute("postgres", &format!("create role {name} login password 'secret'")).unwrap();
    name
}

#[tokio::test]
async fn a_port_where_nothing_listens_refuses() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let fault = fault(&format!("postgres://u@127.0.0.1:{port}/d")).await;
    assert_eq!(fault.kind, Kind::Refused);
}

#[tokio::test]
async fn a_socket_that_is_not_there_refuses() {
    assert_eq!(fault("postgres:///d?host=/nonexistent").await.kind, Kind::Refused);
}

#[tokio::test]
async fn a_name_that_nobody_knows_has_no_address() {
    assert_eq!(fault("postgres://u@no-such-host.invalid/d").await.kind, Kind::Dns);
}

#[tokio::test]
async fn rejected_credentials_are_an_authentication_fault() {
    let pg = local_servers::postgres();
    let no_login = unique_name("role");
    pg.execute("postgres", &format!("create role {no_login} nologin password 'secret'")).unwrap();
    for (user, password, sqlstate) in
        [(pg.user(), "wrong", "28P01"), ("nobody_at_all", "secret", "28P01"), (&no_login, "secret", "28000")]
    {
        let fault = fault(&url_as(&pg, user, password)).await;
        assert_eq!(code(&fault), sqlstate, "{user}");
        assert_eq!(exit_code(&fault), ExitCode::Authentication, "{user}");
        assert!(!format!("{fault:?}").contains(password), "{fault:?}");
    }
}

#[tokio::test]
async fn a_user_who_may_not_connect_lacks_a_right() {
    let pg = local_servers::postgres();
    let database = pg.create_database("closed");
    database.execute(&format!("revoke connect on database {} from public", database.name()));
    let fault = fault(&database.url_as(&role(&pg), "secret")).await;
    assert_eq!((code(&fault), exit_code(&fault)), ("42501", ExitCode::Authentication));
}

#[tokio::test]
async fn a_missing_database_can_be_created_by_several_at_once() {
    let pg = local_servers::postgres();
    let name = unique_name("odd \"name");
    let settings = settings(&pg.url("postgres"), &[]).with_database(&name);
    let fault = connect(&settings).await.err().unwrap();
    assert_eq!((code(&fault), exit_code(&fault)), ("3D000", ExitCode::Configuration));

    let (a, b, c) =
        tokio::join!(create_database(&settings), create_database(&settings), create_database(&settings));
    assert_eq!((a, b, c), (Ok(()), Ok(()), Ok(())));
    connect(&settings).await.unwrap().close().await.unwrap();
    pg.execute("postgres", &format!("drop database \"{}\"", name.replace('"', "\"\""))).unwrap();
}

#[tokio::test]
async fn creating_the_database_without_the_right_says_so() {
    let pg = local_servers::postgres();
    let settings = settings(&url_as(&pg, &role(&pg), "secret"), &[]).with_database(&unique_name("never"));
    let fault = create_database(&settings).await.unwrap_err();
    assert_eq!(code(&fault), "42501");
    assert!(fault.message.contains(&settings.database), "{fault}");
}

#[tokio::test]
async fn a_login_over_the_unix_socket_works() {
    let pg = local_servers::postgres();
    let Some(directory) = pg.socket_dir() else { return };
    let url = format!("postgres://{}@/postgres?host={}&port={}", pg.user(), directory.display(), pg.port());
    let settings = settings(&url, &[("PGPASSWORD", &pg.password())]);
    connect(&settings).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn passwords_with_every_special_character_log_in_escaped_and_as_they_are() {
    let pg = local_servers::postgres();
    let name = unique_name("role");
    let password = "p@ss:w/o%r#d? &[é]'x";
    pg.execute("postgres", &format!("create role {name} login password '{}'", password.replace('\'', "''")))
        .unwrap();
    let escaped: String = password.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let port = pg.port().to_string();
    for settings in [
        settings(&format!("postgres://{name}:{password}@{}:{port}/postgres", pg.host()), &[]),
        settings(&format!("postgres://{name}:{escaped}@{}:{port}/postgres", pg.host()), &[]),
        settings(
            "",
            &[
                ("POSTGRES_HOST", pg.host()),
                ("POSTGRES_PORT", &port),
                ("POSTGRES_USER", &name),
                ("POSTGRES_PASSWORD", password),
                ("POSTGRES_DB", "postgres"),
            ],
        ),
    ] {
        connect(&settings).await.unwrap().close().await.unwrap();
    }
}

#[tokio::test]
async fn tls_is_refused_where_the_server_has_none() {
    let pg = local_servers::postgres();
    let url = pg.url("postgres");
    for mode in ["require", "verify-full"] {
        let fault = fault(&format!("{url}?sslmode={mode}")).await;
        assert_eq!((&fault.kind, exit_code(&fault)), (&Kind::NoTls, ExitCode::Configuration), "{mode}");
    }
    for mode in ["disable", "allow", "prefer"] {
        connect(&settings(&format!("{url}?sslmode={mode}"), &[])).await.unwrap().close().await.unwrap();
    }
}

#[tokio::test]
async fn certificates_are_checked_as_the_mode_asks() {
    let pg = Postgres::start(PostgresOptions { tls: Some(tls::CERTIFICATE), ..Default::default() }).unwrap();
    let authority = pg.dir().join("ca.crt");
    std::fs::write(&authority, tls::AUTHORITY).unwrap();
    let ca = authority.to_str().unwrap();
    let at = |host: &str| pg.url("postgres").replace("@127.0.0.1:", &format!("@{host}:"));
    // Connects to this machine, and no certificate is for it.
    let other_name = at("0.0.0.0");
    for (url, query, expected) in [
        (at("127.0.0.1"), "sslmode=require".to_owned(), None),
        (at("127.0.0.1"), format!("sslmode=verify-full&sslrootcert={ca}"), None),
        (at("localhost"), format!("sslmode=verify-full&sslrootcert={ca}"), None),
        (at("127.0.0.1"), "sslmode=verify-full".to_owned(), Some(Kind::Certificate)),
        (at("127.0.0.1"), "sslmode=verify-ca".to_owned(), Some(Kind::Certificate)),
        (other_name.clone(), format!("sslmode=verify-full&sslrootcert={ca}"), Some(Kind::Certificate)),
        (other_name.clone(), format!("sslmode=verify-ca&sslrootcert={ca}"), None),
        (other_name, "sslmode=require".to_owned(), None),
    ] {
        let outcome = connect(&settings(&format!("{url}?{query}"), &[])).await;
        assert_eq!(outcome.err().map(|fault| fault.kind), expected, "{url}?{query}");
    }
}

#[tokio::test]
async fn allow_and_prefer_give_a_server_the_kind_of_connection_it_insists_on() {
    for (line, refused, accepted) in [
        ("hostnossl all insist 127.0.0.1/32 reject", "disable", &["allow", "prefer", "require"][..]),
        ("hostssl all insist 127.0.0.1/32 reject", "require", &["disable", "allow", "prefer"]),
    ] {
        let options =
            PostgresOptions { tls: Some(tls::CERTIFICATE), hba: vec![line.to_owned()], ..Default::default() };
        let pg = Postgres::start(options).unwrap();
        pg.execute("postgres", "create role insist login password 'secret'").unwrap();
        let url = url_as(&pg, "insist", "secret");
        let fault = fault(&format!("{url}?sslmode={refused}")).await;
        assert_eq!((code(&fault), exit_code(&fault)), ("28000", ExitCode::Authentication), "{line}");
        for mode in accepted {
            let outcome = connect(&settings(&format!("{url}?sslmode={mode}"), &[])).await;
            assert_eq!(outcome.err(), None, "{line}, {mode}");
        }
    }
}

#[tokio::test]
async fn a_full_server_is_tried_again() {
    let conf = ["max_connections = 4", "superuser_reserved_connections = 1", "max_wal_senders = 0"];
    let options = PostgresOptions { conf: conf.map(String::from).to_vec(), ..Default::default() };
    let pg = Postgres::start(options).unwrap();
    let url = url_as(&pg, &role(&pg), "secret");
    let mut open = Vec::new();
    let fault = loop {
        match connect(&settings(&url, &[])).await {
            Ok(connection) => open.push(connection),
            Err(fault) => break fault,
        }
    };
    assert_eq!(code(&fault), "53300");
    assert!(is_retried(&fault));
}

#[tokio::test]
async fn a_server_that_is_shutting_down_is_tried_again() {
    let pg = Postgres::start(PostgresOptions::default()).unwrap();
    let mut open = connect(&settings(&pg.url("postgres"), &[])).await.unwrap();
    pg.signal(SIGTERM).unwrap();
    let fault = loop {
        match connect(&settings(&pg.url("postgres"), &[])).await {
            Ok(early) => early.close().await.unwrap(),
            Err(fault) => break fault,
        }
    };
    assert_eq!(code(&fault), "57P03");
    assert!(fault.message.contains("shutting down") && is_retried(&fault), "{fault}");
    open.execute("select 1").await.unwrap();
}

#[tokio::test]
async fn a_server_that_ends_under_a_session_is_tried_again() {
    let pg = local_servers::postgres();
    let mut session: PgConnection = connect(&settings(&pg.url("postgres"), &[])).await.unwrap();
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut session).await.unwrap();
    pg.execute("postgres", &format!("select pg_terminate_backend({pid})")).unwrap();
    let fault = loop {
        if let Err(error) = session.execute("select 1").await {
            break Fault::from(error);
        }
    };
    assert!(is_retried(&fault), "{fault:?}");
}

#[tokio::test]
async fn a_standby_that_takes_no_sessions_is_starting_up() {
    let mut pg = Postgres::start(PostgresOptions::default()).unwrap();
    pg.stop().unwrap();
    std::fs::write(pg.data_dir().join("standby.signal"), "").unwrap();
    let conf = pg.data_dir().join("tandem.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, text + "hot_standby = off\n").unwrap();
    pg.launch().unwrap();
    let fault = loop {
        match connect(&settings(&pg.url("postgres"), &[])).await {
            Ok(_) => panic!("a server that is starting up was taken for ready"),
            Err(fault) if fault.kind == Kind::Refused => {}
            Err(fault) => break fault,
        }
    };
    assert_eq!(code(&fault), "57P03");
    assert!(is_retried(&fault), "{fault}");
}

#[tokio::test]
async fn after_a_crash_nobody_is_let_in_before_recovery_has_ended() {
    let mut pg = Postgres::start(PostgresOptions::default()).unwrap();
    pg.execute("postgres", "create table proof as select generate_series(1, 300000) as n").unwrap();
    pg.kill9().unwrap();
    pg.launch().unwrap();
    let mut seen = Vec::new();
    let mut session = loop {
        match connect(&settings(&pg.url("postgres"), &[])).await {
            Ok(session) => break session,
            Err(fault) => {
                assert!(is_retried(&fault), "{fault:?}");
                seen.push(fault);
            }
        }
    };
    let count: i64 = sqlx::query_scalar("select count(*) from proof").fetch_one(&mut session).await.unwrap();
    assert_eq!(count, 300_000, "after {seen:?}");
    assert!(!seen.is_empty());
}

#[tokio::test]
async fn a_connection_that_breaks_during_the_login_is_tried_again() {
    let pg = local_servers::postgres();
    let proxy = Proxy::start((pg.host(), pg.port())).unwrap();
    let url = proxy.url(&pg.url("postgres"));
    for lost in 1..=3 {
        proxy.on_chunk(move |chunk| match chunk.direction {
            Direction::ToClient if chunk.number == lost => Action::CutBefore,
            _ => Action::Forward,
        });
        let fault = fault(&url).await;
        assert!(matches!(fault.kind, Kind::Lost) && is_retried(&fault), "{lost}: {fault:?}");
    }
}

#[tokio::test]
async fn an_http_server_is_no_postgres() {
    let qdrant = local_servers::qdrant();
    let fault = fault(&format!("postgres://u:p@{}:{}/d", qdrant.host(), qdrant.http_port())).await;
    assert_eq!((&fault.kind, exit_code(&fault)), (&Kind::NotPostgres, ExitCode::Configuration));
}
