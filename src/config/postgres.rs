//! The Postgres connection in force.

use crate::secret::Secret;
use std::fmt;
use std::str::FromStr;

/// Where Postgres is and how to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresSettings {
    /// A name, an address without brackets, or the absolute directory of a Unix socket.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<Secret>,
    pub database: String,
    pub sslmode: SslMode,
    /// Authorities beside the built-in ones, in PEM.
    pub sslrootcert: Option<Vec<u8>>,
    /// The client's certificate and its key, in PEM.
    pub client: Option<ClientCertificate>,
    /// The variable, flag or file that named the password, for remedies.
    pub password_origin: String,
}

/// A certificate that logs the client in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    pub certificate: Vec<u8>,
    pub key: Secret,
}

impl PostgresSettings {
    /// Whether the connection goes over a Unix socket.
    pub fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// The same server and login, with another database.
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }
}

/// `user@host:port/database`: what logs and errors call this connection.
impl fmt::Display for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, user, database, .. } = self;
        if host.contains(':') {
            write!(f, "{user}@[{host}]:{port}/{database}")
        } else {
            write!(f, "{user}@{host}:{port}/{database}")
        }
    }
}

/// libpq's `sslmode`, with its meanings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SslMode {
    Disable,
    /// Without TLS, and with it only if the server insists.
    Allow,
    /// With TLS, and without it if the server has none.
    #[default]
    Prefer,
    /// With TLS; the certificate is checked only if `sslrootcert` is given.
    Require,
    /// With TLS and a certificate from a known authority.
    VerifyCa,
    /// With TLS and a certificate from a known authority for this host.
    VerifyFull,
}

impl SslMode {
    /// All names, for messages.
    pub const NAMES: &str = "disable, allow, prefer, require, verify-ca, verify-full";

    /// The name that libpq gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl FromStr for SslMode {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        [Self::Disable, Self::Allow, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull]
            .into_iter()
            .find(|mode| mode.name() == name)
            .ok_or(())
    }
}

/// The password that a libpq password file has for a connection: the first line whose fields are equal or `*`.
pub fn password_in(passfile: &str, host: &str, port: u16, database: &str, user: &str) -> Option<Secret> {
    let port = port.to_string();
    passfile.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields_of(line);
        let [a, b, c, d, password] = fields.as_slice() else { return None };
        [(a, host), (b, &port), (c, database), (d, user)]
            .iter()
            .all(|(field, value)| *field == "*" || field == value)
            .then(|| Secret::new(password))
    })
}

/// Divides at `:`; a backslash takes the next character literally.
fn fields_of(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let last = fields.len() - 1;
        match character {
            ':' if last < 4 => fields.push(String::new()),
            '\\' => fields[last].extend(characters.next()),
            other => fields[last].push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_matching_line_of_a_password_file_counts() {
        let file =
            "# h:5432:d:u:commented\nother:5432:d:u:no\nh:5432:*:u:it\\:s\\\\:here\n*:*:*:*:last\nbroken";
        for (host, port, expected) in [("h", 5432, "it:s\\:here"), ("h", 5433, "last"), ("x", 1, "last")] {
            let found = password_in(file, host, port, "d", "u").unwrap();
            assert_eq!(found.expose(), expected);
        }
        assert_eq!(password_in("h:1:d:u:p", "h", 2, "d", "u"), None);
    }

    #[test]
    fn a_connection_is_named_without_its_password() {
        let settings = |host: &str| PostgresSettings {
            host: host.into(),
            port: 5432,
            user: "u".into(),
            password: Some(Secret::new("canary")),
            database: "d".into(),
            sslmode: SslMode::Prefer,
            sslrootcert: None,
            client: None,
            password_origin: "PGPASSWORD".into(),
        };
        assert_eq!(settings("h").to_string(), "u@h:5432/d");
        assert_eq!(settings("::1").to_string(), "u@[::1]:5432/d");
        assert!(!format!("{:?}", settings("h")).contains("canary"));
    }
}
