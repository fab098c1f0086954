//! Why Postgres did not let us in, and whether it is worth asking again.

use crate::config::{MissingDatabase, PostgresSettings};
use crate::error::{Error, ExitCode};
use crate::wait::Class;
use std::fmt;
use std::io::ErrorKind;

/// A connection that failed. Never holds a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    /// The server's or the system's own words.
    pub message: String,
}

/// What went wrong, as far as it decides what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Nothing listens on the port, or the socket is not there.
    Refused,
    /// The name has no address, or not yet.
    Dns,
    /// No route to the host.
    Unreachable,
    /// The connection broke during the login.
    Lost,
    /// No answer in time.
    TimedOut,
    /// The permissions of a Unix socket keep us out.
    SocketDenied,
    /// TLS was asked of a server that has none.
    NoTls,
    /// The certificate is not trusted or is for another name.
    Certificate,
    /// TLS failed otherwise.
    Tls,
    /// What answers is no Postgres.
    NotPostgres,
    /// Settings that the driver cannot use.
    Settings,
    /// The server's refusal with its SQLSTATE.
    Server { code: String },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Refused => write!(f, "nothing listens ({})", self.message),
            Kind::Dns => write!(f, "the name has no address ({})", self.message),
            Kind::Unreachable => write!(f, "no route to the host ({})", self.message),
            Kind::Lost => write!(f, "the connection broke ({})", self.message),
            Kind::TimedOut => f.write_str("no answer in time"),
            Kind::Server { code } => write!(f, "{} ({code})", self.message),
            _ => f.write_str(&self.message),
        }
    }
}

impl Fault {
    /// No answer in time.
    pub fn timed_out() -> Self {
        Self { kind: Kind::TimedOut, message: String::new() }
    }

    /// Whether the server refused with this SQLSTATE.
    pub fn is_server(&self, sqlstate: &str) -> bool {
        matches!(&self.kind, Kind::Server { code } if code == sqlstate)
    }

    /// The error that this fault is where nobody waits.
    pub fn into_error(self, settings: &PostgresSettings) -> Error {
        match classify(&self, settings, MissingDatabase::Fail) {
            Class::Retry { why, .. } => {
                Error::new(ExitCode::Unreachable, format!("Postgres {settings}: {why}"))
            }
            Class::Grace { error } | Class::Never { error } => error,
        }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(refusal) => Self {
                kind: Kind::Server { code: refusal.code().unwrap_or_default().into_owned() },
                message: refusal.message().to_owned(),
            },
            sqlx::Error::Io(error) => Self { kind: kind_of(&error), message: error.to_string() },
            sqlx::Error::Tls(error) => {
                let message = error.to_string();
                let kind = if message == "server does not support TLS" { Kind::NoTls } else { Kind::Tls };
                Self { kind, message }
            }
            // 0x00 is the driver's reading of a connection closed unanswered, as a port forwarder does while the server
            // behind it is not up; 0x45 is an error of a server that cannot start a process.
            sqlx::Error::Protocol(message)
                if ["SSLRequest: 0x00", "SSLRequest: 0x45"].iter().any(|answer| message.contains(answer)) =>
            {
                Self { kind: Kind::Lost, message: "closed before the login".into() }
            }
            sqlx::Error::Protocol(message) => Self { kind: Kind::NotPostgres, message },
            other => Self { kind: Kind::Settings, message: other.to_string() },
        }
    }
}

fn kind_of(error: &std::io::Error) -> Kind {
    let message = error.to_string();
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::NotFound => Kind::Refused,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable => {
            Kind::Unreachable
        }
        ErrorKind::TimedOut => Kind::TimedOut,
        ErrorKind::PermissionDenied => Kind::SocketDenied,
        // rustls hides in here.
        ErrorKind::InvalidData if message.starts_with("invalid peer certificate") => Kind::Certificate,
        ErrorKind::InvalidData => Kind::Tls,
        // std gives failed look-ups no kind of their own.
        _ if message.starts_with("failed to lookup address") => Kind::Dns,
        _ => Kind::Lost,
    }
}

/// The table of classes.
pub fn classify(fault: &Fault, settings: &PostgresSettings, missing: MissingDatabase) -> Class {
    let retry = |gently| Class::Retry { why: fault.to_string(), gently };
    let error =
        |code, remedy: String| Error::new(code, format!("Postgres {settings}: {fault}")).remedy(remedy);
    let never = |code, remedy: &str| Class::Never { error: error(code, remedy.to_owned()) };
    let Kind::Server { code } = &fault.kind else {
        return match fault.kind {
            Kind::Refused
            | Kind::Dns
            | Kind::Unreachable
            | Kind::Lost
            | Kind::TimedOut
            | Kind::Server { .. } => retry(false),
            Kind::SocketDenied => never(
                ExitCode::Authentication,
                "let this user into the socket's directory, or connect over TCP",
            ),
            Kind::NoTls => never(
                ExitCode::Configuration,
                "switch TLS on in the server, or set sslmode=prefer (PGSSLMODE)",
            ),
            Kind::Certificate => never(
                ExitCode::Configuration,
                "use the host name that the certificate is for, and name its authority's certificate in sslrootcert \
                 (PGSSLROOTCERT)",
            ),
            Kind::Tls => never(ExitCode::Configuration, "check sslmode, sslrootcert, sslcert and sslkey"),
            Kind::NotPostgres => {
                never(ExitCode::Configuration, "is this the port of a Postgres server, usually 5432?")
            }
            Kind::Settings => {
                never(ExitCode::Configuration, "look at the settings in force with tandem config")
            }
        };
    };
    match code.as_str() {
        "28P01" => Class::Grace {
            error: error(
                ExitCode::Authentication,
                match &settings.password {
                    Some(_) => format!("check the user's name and the password in {}", settings.password_origin),
                    None => "no password is set: set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE, or write it into the \
                             URL"
                    .to_owned(),
                },
            ),
        },
        "28000" if fault.message.contains("pg_hba.conf") => Class::Grace {
            error: error(
                ExitCode::Authentication,
                "let this user, address and kind of connection in with a line of pg_hba.conf; where it ends with \
                 no encryption, set sslmode=require (PGSSLMODE)"
                    .to_owned(),
            ),
        },
        _ if code.starts_with("28") => Class::Grace {
            error: error(ExitCode::Authentication, format!("create role {:?} with LOGIN, or name another user", settings.user)),
        },
        "42501" => never(ExitCode::Authentication, "grant the user CONNECT on the database"),
        // A pooler: session state would be lost between two transactions.
        "08P01" if fault.message.contains("unsupported startup parameter") => never(
            ExitCode::Configuration,
            "this is a connection pooler; set TANDEM_DATABASE_URL to the server itself",
        ),
        "3D000" => match missing {
            MissingDatabase::Fail => never(
                ExitCode::Configuration,
                "create the database, or set TANDEM_MISSING_DATABASE to wait (somebody else creates it) or create",
            ),
            // Creating comes before; what is left is a server that lost the database again.
            MissingDatabase::Wait | MissingDatabase::Create => retry(true),
        },
        // Starting up, recovering, shutting down: it will be over soon, and readiness must be noticed at once.
        "57P03" | "57P01" | "57P02" => retry(false),
        // Every further attempt costs the server a process.
        _ if code.starts_with("53") || code.starts_with("08") || code.starts_with("57") || code.starts_with("58") => {
            retry(true)
        }
        _ => never(ExitCode::StepFailed, "read the server's message and its log"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SslMode;
    use crate::secret::Secret;

    fn settings() -> PostgresSettings {
        PostgresSettings {
            host: "h".into(),
            port: 5432,
            user: "u".into(),
            password: Some(Secret::new("canary")),
            database: "d".into(),
            sslmode: SslMode::Prefer,
            sslrootcert: None,
            client: None,
            password_origin: "PGPASSWORD_FILE".into(),
        }
    }

    fn server(code: &str, message: &str) -> Fault {
        Fault { kind: Kind::Server { code: code.into() }, message: message.into() }
    }

    fn system(kind: Kind) -> Fault {
        Fault { kind, message: "as the system has it".into() }
    }

    #[test]
    fn what_passes_by_itself_is_tried_again() {
        for (fault, gently) in [
            (system(Kind::Refused), false),
            (system(Kind::Dns), false),
            (system(Kind::Unreachable), false),
            (system(Kind::Lost), false),
            (Fault::timed_out(), false),
            (server("57P03", "the database system is starting up"), false),
            (server("57P03", "the database system is in recovery mode"), false),
            (server("57P03", "the database system is shutting down"), false),
            (server("57P01", "terminating connection due to administrator command"), false),
            (server("57P02", "terminating connection because of crash of another server process"), false),
            (server("53300", "sorry, too many clients already"), true),
            (server("53200", "out of memory"), true),
            (server("08006", "server login has been failing"), true),
            (server("58000", "could not open file"), true),
        ] {
            let why = fault.to_string();
            assert_eq!(classify(&fault, &settings(), MissingDatabase::Fail), Class::Retry { why, gently });
        }
    }

    #[test]
    fn what_stays_wrong_fails_with_its_code_and_remedy() {
        use ExitCode::{Authentication, Configuration, StepFailed};
        for (fault, code, remedy) in [
            (system(Kind::SocketDenied), Authentication, "socket's directory"),
            (system(Kind::NoTls), Configuration, "sslmode=prefer"),
            (system(Kind::Certificate), Configuration, "sslrootcert"),
            (system(Kind::Tls), Configuration, "sslmode"),
            (system(Kind::NotPostgres), Configuration, "5432"),
            (system(Kind::Settings), Configuration, "tandem config"),
            (server("42501", "permission denied for database"), Authentication, "CONNECT"),
            (server("08P01", "unsupported startup parameter: options"), Configuration, "TANDEM_DATABASE_URL"),
            (server("3D000", "database \"d\" does not exist"), Configuration, "TANDEM_MISSING_DATABASE"),
            (server("XX000", "internal error"), StepFailed, "log"),
        ] {
            match classify(&fault, &settings(), MissingDatabase::Fail) {
                Class::Never { error } => {
                    assert_eq!(error.code, code, "{fault}");
                    assert!(error.remedy.as_ref().unwrap().contains(remedy), "{error}");
                    assert!(error.found.starts_with("Postgres u@h:5432/d: "), "{error}");
                }
                other => panic!("{fault}: {other:?}"),
            }
        }
    }

    #[test]
    fn rejected_credentials_fail_after_the_grace() {
        for (fault, remedy) in [
            (server("28P01", "password authentication failed for user \"u\""), "PGPASSWORD_FILE"),
            (
                server("28000", "no pg_hba.conf entry for host \"::1\", user \"u\", no encryption"),
                "sslmode=require",
            ),
            (server("28000", "role \"u\" does not exist"), "create role \"u\""),
            (server("28000", "role \"u\" is not permitted to log in"), "LOGIN"),
        ] {
            match classify(&fault, &settings(), MissingDatabase::Fail) {
                Class::Grace { error } => {
                    assert_eq!(error.code, ExitCode::Authentication);
                    assert!(error.remedy.as_ref().unwrap().contains(remedy), "{error}");
                    assert!(!format!("{error:?}").contains("canary"));
                }
                other => panic!("{fault}: {other:?}"),
            }
        }
        let without = PostgresSettings { password: None, ..settings() };
        let Class::Grace { error } = classify(&server("28P01", ""), &without, MissingDatabase::Fail) else {
            panic!("no grace")
        };
        assert!(error.remedy.unwrap().contains("no password is set"));
    }

    #[test]
    fn a_request_for_tls_that_is_not_answered_is_no_protocol_fault() {
        for (answer, kind) in [("0x00", Kind::Lost), ("0x45", Kind::Lost), ("0x48", Kind::NotPostgres)] {
            let error =
                sqlx::Error::Protocol(format!("unexpected response from SSLRequest: {answer} (tls:95)"));
            assert_eq!(Fault::from(error).kind, kind, "{answer}");
        }
    }

    #[test]
    fn a_missing_database_can_be_waited_for() {
        let fault = server("3D000", "database \"d\" does not exist");
        for missing in [MissingDatabase::Wait, MissingDatabase::Create] {
            assert!(matches!(classify(&fault, &settings(), missing), Class::Retry { gently: true, .. }));
        }
    }
}
