//! Connection URLs. Read strictly first, as RFC 3986 has it; else leniently, so that a password pasted without
//! percent-encoding just works.
//!
//! The lenient reading: everything before the last `@` is user and password, divided by the first `:`. A part that
//! holds a character that encoding would have removed, or a `%` that starts no escape, is taken literally; any other
//! is decoded. So `%41` in an otherwise plain password is an `A`: whoever means `%41` writes `%2541`.

use crate::config::postgres::SslMode;
use crate::secret::Secret;
use std::fmt;

/// What a Postgres URL says. What it leaves out is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PostgresUrl {
    /// A name, an address without brackets, or the absolute directory of a Unix socket.
    pub host: Option<String>,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub database: Option<String>,
    pub sslmode: Option<SslMode>,
    pub sslrootcert: Option<String>,
    pub sslcert: Option<String>,
    pub sslkey: Option<String>,
}

/// What a Qdrant URL says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QdrantUrl {
    pub tls: bool,
    pub host: String,
    pub port: Option<u16>,
}

/// What is wrong with a URL, without quoting any of it that could be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlError(String);

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

type Result<T> = std::result::Result<T, UrlError>;

fn error<T>(text: impl Into<String>) -> Result<T> {
    Err(UrlError(text.into()))
}

/// Reads `postgres://user:password@host:port/database?sslmode=…`. SQLAlchemy's `postgresql+driver://` is the same.
pub fn postgres(url: &str) -> Result<PostgresUrl> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return error("is not a URL: it lacks ://");
    };
    let scheme = scheme.to_ascii_lowercase();
    if !matches!(scheme.split('+').next(), Some("postgres" | "postgresql")) {
        return error("does not begin with postgres:// or postgresql://");
    }

    let lenient = rest.rsplit_once('@');
    let userinfo_ends = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (userinfo, place) = match rest[..userinfo_ends].rfind('@') {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => ("", rest),
    };
    // Without user and password in their place an @ further on means that the password holds the / or ? before it.
    let strict = is_encoded(userinfo, ":") && (!userinfo.is_empty() || lenient.is_none());
    let mut read = PostgresUrl::default();
    if strict {
        // Parameters are quoted only where no password can be mistaken for one.
        match read_place(place, rest.matches('@').count() < 2, &mut read) {
            Ok(()) => {
                read_userinfo(userinfo, &mut read)?;
                return Ok(read);
            }
            Err(Misread::Parameter(e)) => return Err(e),
            Err(Misread::Structure(e)) if lenient.is_none() => return Err(e),
            Err(Misread::Structure(_)) => {}
        }
    }
    let (userinfo, place) = lenient.unwrap_or(("", rest));
    let mut read = PostgresUrl::default();
    match read_place(place, false, &mut read) {
        Ok(()) => read_userinfo(userinfo, &mut read)?,
        Err(Misread::Structure(e) | Misread::Parameter(e)) => return Err(e),
    }
    Ok(read)
}

/// Reads `http://host:port`, `https://…`.
pub fn qdrant(url: &str) -> Result<QdrantUrl> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return error("is not a URL: it lacks http:// or https://");
    };
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return error("does not begin with http:// or https://"),
    };
    if rest.contains('@') {
        return error("holds a user or a key; the key belongs into QDRANT_API_KEY");
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return error("has a path or parameters; gRPC knows neither");
    }
    match host_and_port(authority) {
        Some((Some(host), port)) => Ok(QdrantUrl { tls, host, port }),
        _ => error("has no readable host and port"),
    }
}

/// A host as it stands in a variable of its own: a name, an address with or without brackets, or a socket directory.
pub fn host(text: &str) -> Option<String> {
    if text.starts_with('/') || text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Some(text.to_owned());
    }
    match host_and_port(text)? {
        (host, None) => host,
        (_, Some(_)) => None,
    }
}

/// Why the part behind the user and the password could not be read.
enum Misread {
    /// It is no host, port and database: the division was wrong, or the URL is.
    Structure(UrlError),
    /// It is, with a parameter that cannot be honoured.
    Parameter(UrlError),
}

/// Reads `host:port/database?parameters`.
fn read_place(place: &str, quote: bool, read: &mut PostgresUrl) -> std::result::Result<(), Misread> {
    let structure = |text: &str| Err(Misread::Structure(UrlError(text.to_owned())));
    if place.contains('#') {
        return structure("has a # where only a host, a port and a database may stand");
    }
    let (path, query) = place.split_once('?').unwrap_or((place, ""));
    let (authority, database) = path.split_once('/').unwrap_or((path, ""));
    if authority.contains(',') {
        return structure("names several hosts; tandem connects to one");
    }
    let Some((host, port)) = host_and_port(authority) else {
        return structure("has no readable host and port");
    };
    if database.contains(['@', '/']) {
        return structure("has a / or @ in the name of the database; write %2F or %40");
    }
    (read.host, read.port) = (host, port);
    read.database = Some(decode(database)).filter(|name| !name.is_empty());

    let pairs: Vec<_> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    if !pairs.iter().all(|pair| pair.split_once('=').is_some_and(|(key, _)| is_key(key))) {
        return structure("has parameters that are not of the form name=value");
    }
    // What follows a password parameter may be the rest of a password with an & in it.
    let quote = quote && !pairs.iter().any(|pair| pair.starts_with("password="));
    for (key, value) in pairs.iter().filter_map(|pair| pair.split_once('=')) {
        read_parameter(key, &decode(value), quote, read).map_err(Misread::Parameter)?;
    }
    Ok(())
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

fn read_parameter(key: &str, value: &str, quote: bool, read: &mut PostgresUrl) -> Result<()> {
    let text = Some(value.to_owned()).filter(|text| !text.is_empty());
    match key {
        "host" => match text.as_deref().map(host) {
            Some(None) => return error("has a parameter host that names no host"),
            named => read.host = named.flatten(),
        },
        "port" => match value.parse() {
            Ok(port) => read.port = Some(port),
            Err(_) => return error("has a parameter port that is no port"),
        },
        "user" => read.user = text,
        "password" => read.password = text.map(Secret::new),
        "dbname" => read.database = text,
        "sslmode" | "ssl-mode" => match value.parse() {
            Ok(mode) => read.sslmode = Some(mode),
            Err(()) => return error(format!("has a parameter {key} that is none of {}", SslMode::NAMES)),
        },
        "sslrootcert" => read.sslrootcert = text,
        "sslcert" => read.sslcert = text,
        "sslkey" => read.sslkey = text,
        // Applications set these for themselves; they ask nothing of tandem that it does not do.
        "application_name"
        | "connect_timeout"
        | "keepalives"
        | "keepalives_idle"
        | "keepalives_interval"
        | "keepalives_count"
        | "tcp_user_timeout" => {}
        "gssencmode" | "channel_binding" if matches!(value, "disable" | "prefer") => {}
        "target_session_attrs" if matches!(value, "any" | "read-write" | "primary") => {}
        "gssencmode" | "channel_binding" | "target_session_attrs" => {
            return error(format!("asks for a {key} that tandem does not offer"));
        }
        _ if quote => return error(format!("has the parameter {key}, which tandem does not know")),
        _ => return error("has a parameter that tandem does not know"),
    }
    Ok(())
}

/// Reads `user:password`.
fn read_userinfo(userinfo: &str, read: &mut PostgresUrl) -> Result<()> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let [user, password] =
        [user, password].map(|part| if is_encoded(part, ":") { decode(part) } else { part.into() });
    if !user.is_empty() {
        read.user = Some(user);
    }
    if !password.is_empty() {
        read.password = Some(Secret::new(password));
    }
    Ok(())
}

/// `name:5432`, `[::1]:5432`, `%2Fvar%2Frun%2Fpostgresql`, each with or without the port, or nothing.
fn host_and_port(text: &str) -> Option<(Option<String>, Option<u16>)> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?.parse().ok()?) };
        return Some((Some(address.to_owned()), port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (text, None),
    };
    let decoded = decode(host);
    let readable = decoded.starts_with('/')
        || decoded.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
    readable.then_some((Some(decoded).filter(|name| !name.is_empty()), port))
}

/// Whether a text can be the outcome of percent-encoding: unreserved characters, sub-delimiters, `also`, and escapes.
fn is_encoded(text: &str, also: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || "-._~!$&'()*+,;=%".contains(c) || also.contains(c))
        && unescape(text).is_some()
}

/// The decoded text, or the text itself where it is not well-formed.
fn decode(text: &str) -> String {
    unescape(text).unwrap_or_else(|| text.to_owned())
}

/// The decoded text, if each `%` starts an escape and the outcome is UTF-8.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// host, port, user, password, database
    fn parts(url: &str) -> [String; 5] {
        let read = postgres(url).unwrap_or_else(|e| panic!("{url} {e}"));
        [
            read.host.unwrap_or_default(),
            read.port.map(|port| port.to_string()).unwrap_or_default(),
            read.user.unwrap_or_default(),
            read.password.map(|secret| secret.expose().to_owned()).unwrap_or_default(),
            read.database.unwrap_or_default(),
        ]
    }

    #[test]
    fn a_postgres_url_is_divided_into_its_parts() {
        for (url, expected) in [
            ("postgres://u:p@h:5433/d", ["h", "5433", "u", "p", "d"]),
            ("postgresql://u:p@h/d", ["h", "", "u", "p", "d"]),
            ("POSTGRESQL+asyncpg://u:p@h/d", ["h", "", "u", "p", "d"]),
            ("postgres://h", ["h", "", "", "", ""]),
            ("postgres://u@h/", ["h", "", "u", "", ""]),
            ("postgres://u:@h:/d", ["h", "", "u", "", "d"]),
            ("postgres:///d", ["", "", "", "", "d"]),
            ("postgres://u:p@[::1]:5433/d", ["::1", "5433", "u", "p", "d"]),
            ("postgres://u:p@[fe80::2]/d", ["fe80::2", "", "u", "p", "d"]),
            ("postgres:///d?host=/var/run/postgresql", ["/var/run/postgresql", "", "", "", "d"]),
            ("postgres://u:p@/d?host=%2Ftmp&port=5433", ["/tmp", "5433", "u", "p", "d"]),
            ("postgres://%2Fvar%2Frun/d", ["/var/run", "", "", "", "d"]),
            ("postgres://?host=h&user=u&password=p%26q&dbname=d", ["h", "", "u", "p&q", "d"]),
            ("postgres://u:p@h/my%20data", ["h", "", "u", "p", "my data"]),
            ("postgres://u:p@h/my data", ["h", "", "u", "p", "my data"]),
            ("postgres://u:p@h_1.svc-x.local/d", ["h_1.svc-x.local", "", "u", "p", "d"]),
        ] {
            assert_eq!(parts(url), expected, "{url}");
        }
    }

    #[test]
    fn passwords_work_escaped_and_as_they_are() {
        for (url, password) in [
            ("postgres://u:p%40ss%3A%2F%25%23%3F%26%20x@h/d", "p@ss:/%#?& x"),
            ("postgres://u:p@ss@h/d", "p@ss"),
            ("postgres://u:p:ss@h/d", "p:ss"),
            ("postgres://u:p/ss@h/d", "p/ss"),
            ("postgres://u:12/34@h/d", "12/34"),
            ("postgres://u:p#ss@h/d", "p#ss"),
            ("postgres://u:p?ss@h/d", "p?ss"),
            ("postgres://u:p?s=s@h/d", "p?s=s"),
            ("postgres://u:p&ss@h/d", "p&ss"),
            ("postgres://u:100%@h/d", "100%"),
            ("postgres://u:%zz@h/d", "%zz"),
            ("postgres://u:%ff@h/d", "%ff"),
            ("postgres://u:p ss@h/d", "p ss"),
            ("postgres://u:@@h/d", "@"),
            ("postgres://u:[x]@h/d", "[x]"),
            ("postgres://u:ünï€@h/d", "ünï€"),
            ("postgres://u:a@b:c/d?e#f g%@h/d", "a@b:c/d?e#f g%"),
            ("postgres://u:a@h2:5433@h/d", "a@h2:5433"),
            // A valid escape in a password that cannot have been escaped is part of the password.
            ("postgres://u:a@%41@h/d", "a@%41"),
            ("postgres://u:%41@h/d", "A"),
        ] {
            assert_eq!(parts(url), ["h", "", "u", password, "d"], "{url}");
        }
    }

    #[test]
    fn a_user_with_a_server_behind_it_works() {
        assert_eq!(parts("postgres://u@server:p@h/d"), ["h", "", "u@server", "p", "d"]);
    }

    #[test]
    fn an_at_sign_in_a_parameter_divides_nothing() {
        let read = postgres("postgres://u:p@h/d?sslrootcert=/a@b&sslmode=verify-full").unwrap();
        assert_eq!(read.host.as_deref(), Some("h"));
        assert_eq!(read.sslrootcert.as_deref(), Some("/a@b"));
        assert_eq!(read.sslmode, Some(SslMode::VerifyFull));
    }

    #[test]
    fn unreadable_postgres_urls_say_why() {
        for (url, says) in [
            ("u:canary@h", "lacks ://"),
            ("mysql://u:canary@h/d", "does not begin with postgres://"),
            ("postgres://u:canary@h:port/d", "no readable host and port"),
            ("postgres://u:canary@h:99999/d", "no readable host and port"),
            ("postgres://u:canary@[::1/d", "no readable host and port"),
            ("postgres://u:canary@::1/d", "no readable host and port"),
            ("postgres://u:canary@a,b/d", "several hosts"),
            ("postgres://u:canary@h/a/b", "in the name of the database"),
            ("postgres://u:canary@h/d#x", "has a #"),
            ("postgres://u:canary@h/d?schema=public", "the parameter schema,"),
            ("postgres://u:canary@h/d?sslmode=on", "none of disable, allow"),
            ("postgres://u:canary@h/d?channel_binding=require", "a channel_binding that"),
            ("postgres://u:canary@h/d?target_session_attrs=standby", "a target_session_attrs that"),
            ("postgres://u:canary@h/d?port=x", "no port"),
            ("postgres://u:canary@h/d?sslmode", "name=value"),
            ("postgres://u:canary", "no readable host and port"),
            // What looks like a parameter is a piece of the password.
            ("postgres://u:x@y?canary=1@h/d", "a parameter that tandem does not know"),
            ("postgres://h/d?password=x&canary=1", "a parameter that tandem does not know"),
        ] {
            let text = postgres(url).expect_err(url).to_string();
            assert!(text.contains(says), "{url}: {text}");
            assert!(!text.contains("canary"), "{text}");
        }
    }

    #[test]
    fn a_qdrant_url_is_divided_into_its_parts() {
        for (url, tls, host, port) in [
            ("http://qdrant:6334", false, "qdrant", Some(6334)),
            ("http://qdrant", false, "qdrant", None),
            ("https://x.cloud.qdrant.io/", true, "x.cloud.qdrant.io", None),
            ("HTTPS://[::1]:443", true, "::1", Some(443)),
        ] {
            assert_eq!(qdrant(url).unwrap(), QdrantUrl { tls, host: host.into(), port }, "{url}");
        }
    }

    #[test]
    fn unreadable_qdrant_urls_say_why() {
        for (url, says) in [
            ("qdrant:6334", "lacks http://"),
            ("grpc://qdrant", "does not begin with http://"),
            ("http://canary@qdrant", "QDRANT_API_KEY"),
            ("http://qdrant/prefix", "a path"),
            ("http://", "no readable host"),
            ("http://:6334", "no readable host"),
            ("http://qdrant:x", "no readable host"),
        ] {
            let text = qdrant(url).expect_err(url).to_string();
            assert!(text.contains(says) && !text.contains("canary"), "{url}: {text}");
        }
    }

    #[test]
    fn a_host_stands_alone_in_its_variable() {
        for (text, expected) in [
            ("db", Some("db")),
            ("::1", Some("::1")),
            ("[::1]", Some("::1")),
            ("/var/run/postgresql", Some("/var/run/postgresql")),
            ("127.0.0.1", Some("127.0.0.1")),
            ("db:5432", None),
            ("postgres://db", None),
            ("a b", None),
        ] {
            assert_eq!(host(text).as_deref(), expected, "{text}");
        }
    }

    fn escaped(text: &str) -> String {
        text.bytes().map(|byte| format!("%{byte:02X}")).collect()
    }

    proptest! {
        #[test]
        fn any_escaped_user_and_password_come_back(user in ".+", password in ".+", database in ".+") {
            let url = format!(
                "postgres://{}:{}@h:1/{}?sslmode=require", escaped(&user), escaped(&password), escaped(&database)
            );
            prop_assert_eq!(parts(&url), ["h", "1", &user, &password, &database]);
        }

        #[test]
        fn any_unescaped_password_comes_back(password in "[ -~é€]{1,24}") {
            // Excluded is what means something else when read strictly: an escape, and host?name=value behind an @.
            prop_assume!(!password.contains('%'));
            prop_assume!(!password.contains('@') || !password.contains('='));
            let url = format!("postgres://u:{password}@h:1/d?sslmode=require");
            prop_assert_eq!(parts(&url), ["h", "1", "u", &password, "d"]);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = (postgres(&text), postgres(&format!("postgres://{text}")), qdrant(&format!("http://{text}")));
        }
    }
}
