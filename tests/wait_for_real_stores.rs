//! Waiting for servers that come up, go away and change, from the settings to the connection.

use local_servers::{Postgres, PostgresOptions, unique_name};
use sqlx::{Connection, Executor};
use std::cell::Cell;
use std::time::Duration;
use tandem::cli::Flags;
use tandem::config::{self, Environment, Settings};
use tandem::error::{ExitCode, Result};
use tandem::wait::{Class, stores};

/// Settings without Qdrant.
fn settings(variables: &[(&str, &str)]) -> Settings {
    let environment: Environment = [&[("QDRANT_URL", "none")], variables]
        .concat()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    config::resolve(&Flags::default(), &environment).unwrap()
}

async fn wait(settings: &Settings) -> Result<sqlx::postgres::PgConnection> {
    let no_qdrant =
        async |_: &config::QdrantSettings| Err::<(), _>(Class::Retry { why: String::new(), gently: false });
    stores(settings, no_qdrant).await.map(|(connection, _)| connection)
}

#[tokio::test]
async fn a_server_that_is_started_later_is_found_and_the_login_works() {
    let mut pg = Postgres::start(PostgresOptions::default()).unwrap();
    let settings = settings(&[("DATABASE_URL", &pg.url("postgres"))]);
    pg.stop().unwrap();
    let starting = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        pg.launch().unwrap();
    };
    let (session, ()) = tokio::join!(wait(&settings), starting);
    session.unwrap().execute("select 1").await.unwrap();
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_does_not_eat_the_deadline() {
    let pg = Postgres::start(PostgresOptions::default()).unwrap();
    pg.pause().unwrap();
    let settings = settings(&[("DATABASE_URL", &pg.url("postgres")), ("TANDEM_TIMEOUT", "300ms")]);
    let error = wait(&settings).await.unwrap_err();
    pg.cont().unwrap();
    assert_eq!(error.code, ExitCode::Unreachable);
    assert!(error.found.ends_with("no answer yet") && !error.to_string().contains(&pg.password()), "{error}");
}

#[tokio::test]
async fn a_wrong_password_fails_at_once_and_names_the_variable() {
    let pg = local_servers::postgres();
    let port = pg.port().to_string();
    let settings = settings(&[
        ("POSTGRES_HOST", pg.host()),
        ("POSTGRES_PORT", &port),
        ("POSTGRES_PASSWORD", "canary"),
        ("TANDEM_TIMEOUT", "0"),
    ]);
    let error = wait(&settings).await.unwrap_err();
    assert_eq!(error.code, ExitCode::Authentication);
    assert!(error.remedy.as_ref().unwrap().contains("POSTGRES_PASSWORD"), "{error}");
    assert!(!error.to_string().contains("canary"), "{error}");
}

#[tokio::test]
async fn within_the_grace_a_role_may_still_be_created() {
    let pg = local_servers::postgres();
    let role = unique_name("late");
    let url = pg.url_as(&role, "secret", "postgres");
    let settings = settings(&[("DATABASE_URL", &url), ("TANDEM_AUTH_GRACE", "50s")]);
    let creating = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        pg.execute("postgres", &format!("create role {role} login password 'secret'")).unwrap();
    };
    let (session, ()) = tokio::join!(wait(&settings), creating);
    session.unwrap().close().await.unwrap();
    pg.execute("postgres", &format!("drop role {role}")).unwrap();
}

#[tokio::test]
async fn a_missing_database_fails_is_waited_for_or_is_created_as_told() {
    let pg = local_servers::postgres();
    for (policy, somebody_creates) in [("fail", false), ("wait", true), ("create", false)] {
        let name = unique_name("missing");
        let url = pg.url(&name);
        let settings = settings(&[("DATABASE_URL", &url), ("TANDEM_MISSING_DATABASE", policy)]);
        let created = Cell::new(false);
        let creating = async {
            if somebody_creates {
                tokio::time::sleep(Duration::from_millis(200)).await;
                created.set(true);
                pg.execute("postgres", &format!("create database {name}")).unwrap();
            }
        };
        let (outcome, ()) = tokio::join!(wait(&settings), creating);
        match outcome {
            Ok(session) => {
                assert!(policy == "create" || created.get(), "{policy}");
                session.close().await.unwrap();
                pg.execute("postgres", &format!("drop database {name}")).unwrap();
            }
            Err(error) => assert_eq!((policy, error.code), ("fail", ExitCode::Configuration), "{error}"),
        }
    }
}

#[tokio::test]
async fn what_is_not_configured_is_not_waited_for() {
    let error = wait(&settings(&[])).await.unwrap_err();
    assert_eq!(error.code, ExitCode::Configuration);
}
