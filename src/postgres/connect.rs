//! One login.

use super::fault::{Fault, Kind};
use crate::config::{PostgresSettings, SslMode};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

/// Logs in once. The name is resolved afresh.
pub async fn connect(settings: &PostgresSettings) -> Result<PgConnection, Fault> {
    // The driver knows no second try, which `allow` and `prefer` are: a server may insist on TLS, or on none.
    let (first, second) = match settings.sslmode {
        SslMode::Disable => (PgSslMode::Disable, None),
        SslMode::Allow => (PgSslMode::Disable, Some(PgSslMode::Require)),
        SslMode::Prefer => (PgSslMode::Prefer, Some(PgSslMode::Disable)),
        SslMode::Require => (PgSslMode::Require, None),
        SslMode::VerifyCa => (PgSslMode::VerifyCa, None),
        SslMode::VerifyFull => (PgSslMode::VerifyFull, None),
    };
    match (options(settings, first).connect().await.map_err(Fault::from), second) {
        (Err(fault), Some(second)) if fault.is_server("28000") => {
            // The first refusal says more than a second one.
            options(settings, second).connect().await.map_err(|_| fault)
        }
        (outcome, _) => outcome,
    }
}

/// Creates the database that is missing, from the database `postgres` of the same server. That somebody else was
/// faster is no fault.
pub async fn create_database(settings: &PostgresSettings) -> Result<(), Fault> {
    let mut connection = connect(&settings.with_database("postgres")).await?;
    let name = settings.database.replace('"', "\"\"");
    let outcome = connection.execute(AssertSqlSafe(format!("create database \"{name}\""))).await;
    let outcome = outcome.map(drop).map_err(Fault::from);
    // The outcome is known; a connection that does not close in order changes nothing.
    let _ = connection.close().await;
    match outcome {
        // duplicate_database, and the unique index that a race meets first
        Err(fault) if fault.is_server("42P04") || fault.is_server("23505") => Ok(()),
        Err(Fault { kind: Kind::Server { code }, message }) => Err(Fault {
            kind: Kind::Server { code },
            message: format!("creating database {:?}: {message}", settings.database),
        }),
        other => other,
    }
}

/// Only what a login needs: poolers refuse startup parameters that they do not know.
fn options(settings: &PostgresSettings, mode: PgSslMode) -> PgConnectOptions {
    let mut options = PgConnectOptions::new_without_pgpass()
        .port(settings.port)
        .username(&settings.user)
        .database(&settings.database)
        .application_name("tandem")
        .extra_float_digits(None)
        .statement_cache_capacity(0)
        .ssl_mode(mode)
        // Set even if there is none, so that the driver does not look into the environment itself.
        .ssl_root_cert_from_pem(settings.sslrootcert.clone().unwrap_or_default())
        .disable_statement_logging();
    options = match settings.is_socket() {
        true => options.socket(&settings.host),
        false => options.host(&settings.host),
    };
    if let Some(password) = &settings.password {
        options = options.password(password.expose());
    }
    if let Some(client) = &settings.client {
        options = options
            .ssl_client_cert_from_pem(&client.certificate)
            .ssl_client_key_from_pem(client.key.expose());
    }
    options
}
