use super::*;
use std::collections::BTreeMap;

/// `NAME=value` pairs, with the files that exist.
fn settle(flags: &Flags, variables: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Settings> {
    let environment = variables.iter().map(|(name, value)| (name.to_string(), value.into())).collect();
    let files: BTreeMap<_, _> = files.iter().copied().collect();
    resolve_with(flags, &environment, &|path| {
        let text = files.get(path.to_str().unwrap_or_default());
        text.map(|text| text.to_string()).ok_or_else(|| io::ErrorKind::NotFound.into())
    })
}

fn from_environment(variables: &[(&str, &str)]) -> Settings {
    settle(&Flags::default(), variables, &[]).unwrap_or_else(|e| panic!("{variables:?}: {e}"))
}

/// Connection, password and sslmode.
fn postgres_of(settings: &Settings) -> String {
    let postgres = settings.postgres().unwrap();
    let password = postgres.password.as_ref().map_or("-", Secret::expose);
    format!("{postgres} {password} {}", postgres.sslmode.name())
}

fn qdrant_of(settings: &Settings) -> String {
    let qdrant = settings.qdrant().unwrap();
    qdrant.map_or("none".into(), |q| format!("{q} {}", q.api_key.as_ref().map_or("-", Secret::expose)))
}

fn row<'a>(settings: &'a Settings, name: &str) -> &'a Row {
    settings.report.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no row {name}"))
}

#[test]
fn postgres_is_found_in_each_of_its_sources() {
    for (variables, expected) in [
        (&[("DATABASE_URL", "postgres://u:p@h:1/d")][..], "u@h:1/d p prefer"),
        (
            &[
                ("DATABASE_URL", "postgres://u:p@pooler/d"),
                ("TANDEM_DATABASE_URL", "postgres://o:q@direct/d"),
            ],
            "o@direct:5432/d q prefer",
        ),
        // What describes another connection does not leak into a URL: 5433 is a port on the host, not in the network.
        (
            &[
                ("DATABASE_URL", "postgres://u@h/d"),
                ("POSTGRES_PORT", "5433"),
                ("POSTGRES_PASSWORD", "x"),
                ("PGPORT", "5433"),
            ],
            "u@h:5432/d - prefer",
        ),
        (
            &[
                ("DATABASE_URL", "postgres:///d"),
                ("PGHOST", "h"),
                ("PGPORT", "7"),
                ("PGUSER", "u"),
                ("PGPASSWORD", "p"),
                ("PGSSLMODE", "require"),
            ],
            "u@h:7/d p require",
        ),
        (
            &[
                ("POSTGRES_HOST", "h"),
                ("POSTGRES_PORT", "1"),
                ("POSTGRES_USER", "u"),
                ("POSTGRES_PASSWORD", "p@:/%# ?&x"),
                ("POSTGRES_DB", "d"),
            ],
            "u@h:1/d p@:/%# ?&x prefer",
        ),
        (
            &[
                ("PGHOST", "h"),
                ("PGUSER", "u"),
                ("PGPASSWORD", "p"),
                ("PGDATABASE", "d"),
                ("PGSSLMODE", "disable"),
            ],
            "u@h:5432/d p disable",
        ),
        (&[("POSTGRES_HOST", "a"), ("PGHOST", "b"), ("PGUSER", "u")], "u@a:5432/u - prefer"),
        // The defaults of the postgres image.
        (&[("POSTGRES_HOST", "h")], "postgres@h:5432/postgres - prefer"),
        (&[("POSTGRES_HOST", "[::1]"), ("POSTGRES_PORT", "5433")], "postgres@[::1]:5433/postgres - prefer"),
        (&[("POSTGRES_HOST", "/var/run/postgresql")], "postgres@/var/run/postgresql:5432/postgres - disable"),
        (&[("DATABASE_URL", "postgres:///d?host=/tmp")], "postgres@/tmp:5432/d - disable"),
        // Compose passes empty variables on.
        (
            &[("DATABASE_URL", ""), ("POSTGRES_HOST", "h"), ("POSTGRES_PASSWORD", "")],
            "postgres@h:5432/postgres - prefer",
        ),
        // Kubernetes describes a Service called `postgres`.
        (
            &[("POSTGRES_HOST", "postgres"), ("POSTGRES_PORT", "tcp://10.0.0.1:5432")],
            "postgres@postgres:5432/postgres - prefer",
        ),
    ] {
        assert_eq!(postgres_of(&from_environment(variables)), expected, "{variables:?}");
    }
}

#[test]
fn qdrant_is_found_in_each_of_its_sources() {
    for (variables, expected, port_from) in [
        (&[("QDRANT_URL", "http://q:6334")][..], "http://q:6334 -", "QDRANT_URL"),
        (
            &[("QDRANT_URL", "http://q:6333")],
            "http://q:6334 -",
            "default (QDRANT_URL names the REST port 6333)",
        ),
        (&[("QDRANT_URL", "http://q")], "http://q:6334 -", "default"),
        (&[("QDRANT_URL", "http://q:16334")], "http://q:16334 -", "QDRANT_URL"),
        (&[("QDRANT_URL", "http://q:6333"), ("QDRANT_GRPC_PORT", "7")], "http://q:7 -", "QDRANT_GRPC_PORT"),
        (
            &[("QDRANT_URL", "https://x.cloud.qdrant.io:6333"), ("QDRANT_API_KEY", "k")],
            "https://x.cloud.qdrant.io:6334 k",
            "default (QDRANT_URL names the REST port 6333)",
        ),
        (&[("QDRANT_HOST", "q")], "http://q:6334 -", "default"),
        (
            &[("QDRANT_HOST", "q"), ("QDRANT_PORT", "6333")],
            "http://q:6334 -",
            "default (QDRANT_PORT is the REST port 6333)",
        ),
        (
            &[("QDRANT_HOST", "q"), ("QDRANT_PORT", "6333"), ("QDRANT_GRPC_PORT", "7")],
            "http://q:7 -",
            "QDRANT_GRPC_PORT",
        ),
        (&[("QDRANT_HOST", "::1"), ("QDRANT_TLS", "true")], "https://[::1]:6334 -", "default"),
        (&[("QDRANT_HOST", "q"), ("QDRANT_PORT", "tcp://10.0.0.1:6333")], "http://q:6334 -", "default"),
        (
            &[("QDRANT_HOST", "q"), ("QDRANT_API_KEY", "bot"), ("TANDEM_QDRANT_API_KEY", "own")],
            "http://q:6334 own",
            "default",
        ),
        (&[("QDRANT_URL", "http://q"), ("QDRANT_HOST", "other")], "http://q:6334 -", "default"),
    ] {
        let settings = from_environment(variables);
        assert_eq!(qdrant_of(&settings), expected, "{variables:?}");
        assert_eq!(row(&settings, "qdrant.grpc_port").origin, port_from, "{variables:?}");
    }
    assert_eq!(qdrant_of(&from_environment(&[("QDRANT_URL", "none"), ("QDRANT_HOST", "q")])), "none");
}

#[test]
fn the_rest_port_is_named_or_below_the_grpc_port() {
    for (typed, variables, port, port_from) in [
        (None, &[("QDRANT_URL", "http://q")][..], 6333, "default (below the gRPC port 6334)"),
        (None, &[("QDRANT_URL", "http://q:6333")], 6333, "QDRANT_URL"),
        (None, &[("QDRANT_URL", "http://q:16334")], 16333, "default (below the gRPC port 16334)"),
        (None, &[("QDRANT_URL", "http://q:16334"), ("QDRANT_PORT", "9")], 9, "QDRANT_PORT"),
        (None, &[("QDRANT_HOST", "q"), ("QDRANT_PORT", "9")], 9, "QDRANT_PORT"),
        (None, &[("QDRANT_HOST", "q"), ("QDRANT_GRPC_PORT", "9")], 8, "default (below the gRPC port 9)"),
        (None, &[("QDRANT_URL", "http://q:6333"), ("QDRANT_GRPC_PORT", "9")], 6333, "QDRANT_URL"),
        (Some("http://p:7001"), &[("QDRANT_PORT", "9")], 7000, "default (below the gRPC port 7001)"),
        (Some("http://p:6333"), &[("QDRANT_PORT", "9")], 6333, "--qdrant-url"),
        (Some("http://p"), &[("QDRANT_PORT", "9")], 9, "QDRANT_PORT"),
    ] {
        let flags = Flags { qdrant_url: typed.map(Into::into), ..Default::default() };
        let settings = settle(&flags, variables, &[]).unwrap();
        assert_eq!(settings.qdrant().unwrap().unwrap().rest_port, port, "{typed:?} {variables:?}");
        let row = row(&settings, "qdrant.port");
        assert_eq!((row.value.as_str(), row.origin.as_str()), (port.to_string().as_str(), port_from));
    }
}

#[test]
fn a_typed_qdrant_url_outranks_a_port_variable_but_not_for_the_rest_port() {
    for (url, port) in [("http://q:7001", 7001), ("http://q:6333", 9), ("http://q", 9)] {
        let flags = Flags { qdrant_url: Some(url.into()), ..Default::default() };
        let settings = settle(&flags, &[("QDRANT_GRPC_PORT", "9")], &[]).unwrap();
        assert_eq!(settings.qdrant().unwrap().unwrap().port, port, "{url}");
    }
}

#[test]
fn what_is_not_configured_is_missed_only_where_it_is_needed() {
    let settings = from_environment(&[]);
    for error in [settings.postgres().unwrap_err(), settings.qdrant().unwrap_err()] {
        assert_eq!(error.code, ExitCode::Configuration);
        assert!(error.remedy.is_some());
    }
}

#[test]
fn flags_outrank_the_environment_outranks_the_file_outranks_defaults() {
    let file = [(
        "t.toml",
        "timeout = 4\n[postgres]\nurl = \"postgres://f:p@file/d\"\n[qdrant]\nurl = \"http://file\"",
    )];
    let settle = |flags: &Flags, variables: &[(&str, &str)]| {
        let settings = super::tests::settle(flags, variables, &file).unwrap();
        let from = |name| row(&settings, name).origin.clone();
        (from("timeout"), from("postgres.host"), from("qdrant.host"))
    };
    let expect = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    let none = Flags::default();
    assert_eq!(settle(&none, &[("DATABASE_URL", "postgres://h"), ("QDRANT_HOST", "q")]).0, "default");

    let with_file = [("TANDEM_CONFIG", "t.toml")];
    let in_file = expect("t.toml (timeout)", "t.toml (postgres.url)", "t.toml (qdrant.url)");
    assert_eq!(settle(&none, &with_file), in_file);
    assert_eq!(settle(&Flags { config: Some("t.toml".into()), ..Default::default() }, &[]), in_file);

    let mut variables = with_file.to_vec();
    variables.extend([("TANDEM_TIMEOUT", "5"), ("POSTGRES_HOST", "env"), ("QDRANT_HOST", "env")]);
    assert_eq!(settle(&none, &variables), expect("TANDEM_TIMEOUT", "POSTGRES_HOST", "QDRANT_HOST"));
    variables.extend([("DATABASE_URL", "postgres://env"), ("QDRANT_URL", "http://env")]);
    assert_eq!(settle(&none, &variables), expect("TANDEM_TIMEOUT", "DATABASE_URL", "QDRANT_URL"));

    let typed = Flags {
        timeout: Some("6s".into()),
        database_url: Some(Secret::new("postgres://typed")),
        qdrant_url: Some("http://typed".into()),
        ..Default::default()
    };
    assert_eq!(settle(&typed, &variables), expect("--timeout", "--database-url", "--qdrant-url"));
}

#[test]
fn every_variable_has_a_file_variant() {
    let files =
        [("/s/url", "postgres://u:p%40@h/d\n"), ("/s/key", "key\r\n"), ("/s/two", "p\n\n"), ("/s/t", "3s")];
    let settings = settle(
        &Flags::default(),
        &[
            ("DATABASE_URL_FILE", "/s/url"),
            ("QDRANT_HOST", "q"),
            ("QDRANT_API_KEY_FILE", "/s/key"),
            ("TANDEM_TIMEOUT_FILE", "/s/t"),
        ],
        &files,
    )
    .unwrap();
    assert_eq!(postgres_of(&settings), "u@h:5432/d p@ prefer");
    assert_eq!(qdrant_of(&settings), "http://q:6334 key");
    assert_eq!(settings.timeout, Some(Duration::from_secs(3)));
    assert_eq!(row(&settings, "qdrant.api_key").origin, "QDRANT_API_KEY_FILE");

    // One trailing newline is the editor's, a second one is the password's.
    let variables = [("POSTGRES_HOST", "h"), ("POSTGRES_PASSWORD_FILE", "/s/two")];
    let settings = settle(&Flags::default(), &variables, &files).unwrap();
    assert_eq!(settings.postgres().unwrap().password, Some(Secret::new("p\n")));
}

#[test]
fn a_password_file_is_used_where_nothing_else_names_the_password() {
    let files = [("/p", "h:5432:d:u:from file\n")];
    let settings =
        settle(&Flags::default(), &[("DATABASE_URL", "postgres://u@h/d"), ("PGPASSFILE", "/p")], &files)
            .unwrap();
    assert_eq!(postgres_of(&settings), "u@h:5432/d from file prefer");
    assert_eq!(row(&settings, "postgres.password").origin, "PGPASSFILE (/p)");
}

#[test]
fn certificates_are_read_and_sharpen_the_mode_as_libpq_has_it() {
    let files = [("/ca", "CA"), ("/cert", "CERT"), ("/key", "canary")];
    for (query, mode, authority) in [
        ("sslmode=verify-full&sslrootcert=/ca", SslMode::VerifyFull, Some("CA")),
        ("sslmode=require&sslrootcert=/ca", SslMode::VerifyCa, Some("CA")),
        ("sslmode=require", SslMode::Require, None),
        ("sslmode=prefer&sslrootcert=/absent", SslMode::Prefer, None),
        ("sslrootcert=system", SslMode::VerifyFull, None),
    ] {
        let url = format!("postgres://u@h/d?{query}");
        let settings = settle(&Flags::default(), &[("DATABASE_URL", &url)], &files).unwrap();
        let postgres = settings.postgres().unwrap();
        assert_eq!(postgres.sslmode, mode, "{query}");
        assert_eq!(postgres.sslrootcert.as_deref(), authority.map(str::as_bytes), "{query}");
    }
    let url = [("DATABASE_URL", "postgres://u@h/d?sslcert=/cert&sslkey=/key")];
    let settings = settle(&Flags::default(), &url, &files).unwrap();
    assert_eq!(settings.postgres().unwrap().client.as_ref().unwrap().certificate, b"CERT");
    assert!(!format!("{settings:?}").contains("canary"));
}

#[test]
fn wrong_settings_name_where_they_came_from() {
    for (variables, says) in [
        (
            &[("POSTGRES_PASSWORD", "canary"), ("POSTGRES_PASSWORD_FILE", "/f"), ("POSTGRES_HOST", "h")][..],
            "both set",
        ),
        (
            &[("POSTGRES_PASSWORD_FILE", "/absent"), ("POSTGRES_HOST", "h")],
            "POSTGRES_PASSWORD_FILE names a file that cannot be read",
        ),
        (&[("POSTGRES_PASSWORD_FILE", "/empty"), ("POSTGRES_HOST", "h")], "/empty is empty"),
        (&[("POSTGRES_PASSWORD", "canary")], "POSTGRES_PASSWORD is set, and nothing names Postgres' host"),
        (&[("DATABASE_URL", "postgres:///d")], "nothing names Postgres' host"),
        (&[("DATABASE_URL", "postgres://u:canary@h:x/d")], "DATABASE_URL has no readable host and port"),
        (&[("DATABASE_URL_FILE", "/url")], "DATABASE_URL_FILE has no readable host and port"),
        (&[("POSTGRES_HOST", "h:5432")], "POSTGRES_HOST is not a host name"),
        (&[("POSTGRES_HOST", "h"), ("POSTGRES_PORT", "x")], "POSTGRES_PORT is not a port"),
        (&[("POSTGRES_HOST", "h"), ("PGSSLMODE", "on")], "PGSSLMODE is none of disable"),
        (&[("POSTGRES_HOST", "h"), ("PGSSLCERT", "/empty")], "PGSSLCERT is set alone"),
        (
            &[("POSTGRES_HOST", "h"), ("PGSSLMODE", "verify-ca"), ("PGSSLROOTCERT", "/absent")],
            "PGSSLROOTCERT: /absent cannot be read",
        ),
        (&[("QDRANT_URL", "qdrant:6333")], "QDRANT_URL is not a URL"),
        (&[("QDRANT_HOST", "q:6334")], "QDRANT_HOST is not a host name"),
        (&[("QDRANT_HOST", "http://q")], "QDRANT_HOST holds a URL, where none belongs"),
        (&[("TANDEM_MIGRATIONS", "postgres://u:canary@h/d")], "TANDEM_MIGRATIONS holds a URL"),
        (&[("QDRANT_HOST", "none")], "QDRANT_HOST is none"),
        (&[("QDRANT_HOST", "q"), ("QDRANT_GRPC_PORT", "0")], "QDRANT_GRPC_PORT is not a port"),
        (&[("QDRANT_HOST", "q"), ("QDRANT_TLS", "maybe")], "QDRANT_TLS is \"maybe\""),
        (&[("TANDEM_TIMEOUT", "soon")], "TANDEM_TIMEOUT is \"soon\""),
        (&[("TANDEM_LOG_LEVEL", "loud")], "TANDEM_LOG_LEVEL is \"loud\""),
        (&[("TANDEM_ON_REFUSAL", "cry")], "TANDEM_ON_REFUSAL is \"cry\""),
        (&[("TANDEM_PROBE", "here")], "TANDEM_PROBE is not an address"),
        (&[("TANDEM_CONFIG", "/absent")], "TANDEM_CONFIG: /absent cannot be read"),
        (&[("TANDEM_CONFIG", "/typo.toml")], "/typo.toml: unknown key postgres.pasword"),
        (&[("TANDEM_CONFIG", "/broken.toml")], "/broken.toml is not TOML: line 1, column"),
        (&[("TANDEM_CONFIG", "/list.toml")], "/list.toml: timeout is not a text"),
        (&[("TANDEM_CONFIG", "/port.toml")], "/port.toml (postgres.port) is not a port"),
    ] {
        let files = [
            ("/empty", "\n"),
            ("/url", "postgres://u:canary@h:x/d"),
            ("/typo.toml", "[postgres]\npasword = \"canary\""),
            ("/broken.toml", "password = \"canary"),
            ("/list.toml", "timeout = [1]"),
            ("/port.toml", "[postgres]\nhost = \"h\"\nport = 99999"),
        ];
        let error = settle(&Flags::default(), variables, &files).expect_err(says);
        let text = error.to_string();
        assert!(text.contains(says), "{variables:?}: {text}");
        assert_eq!(error.code, ExitCode::Configuration, "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn a_wrong_flag_is_a_usage_error() {
    let flags = Flags { timeout: Some("soon".into()), ..Default::default() };
    let error = settle(&flags, &[], &[]).unwrap_err();
    assert_eq!(error.code, ExitCode::Usage);
    assert!(error.found.starts_with("--timeout"), "{error}");
}

#[test]
fn a_variable_that_is_not_utf8_is_named() {
    use std::os::unix::ffi::OsStringExt;
    let value = std::ffi::OsString::from_vec(vec![0xff]);
    let environment = Environment::from([("POSTGRES_HOST".to_owned(), value)]);
    let error = resolve(&Flags::default(), &environment).unwrap_err();
    assert!(error.found.contains("POSTGRES_HOST is not UTF-8"), "{error}");
}

#[test]
fn times_are_read_with_their_units() {
    for (text, expected) in [
        ("60s", Some(60_000)),
        ("2m", Some(120_000)),
        ("500ms", Some(500)),
        ("1h30m", Some(5_400_000)),
        ("90", Some(90_000)),
        ("0", Some(0)),
        ("", None),
        ("s", None),
        ("5 s", None),
        ("5x", None),
        ("-1", None),
        ("5s3", None),
        ("99999999999999999999h", None),
        ("18446744073709551615h", None),
    ] {
        assert_eq!(parse_duration(text).map(|d| d.as_millis()), expected, "{text}");
    }
    assert_eq!(from_environment(&[("TANDEM_TIMEOUT", "0")]).timeout, None);
    assert_eq!(from_environment(&[]).timeout, Some(Duration::from_secs(60)));
}

#[test]
fn the_responder_listens_where_it_is_told() {
    for (text, expected) in [
        ("9090", Some("0.0.0.0:9090")),
        (":9090", Some("0.0.0.0:9090")),
        ("127.0.0.1:9090", Some("127.0.0.1:9090")),
        ("[::]:9090", Some("[::]:9090")),
        ("off", None),
    ] {
        let settings = from_environment(&[("TANDEM_PROBE", text)]);
        assert_eq!(settings.probe.map(|address| address.to_string()).as_deref(), expected, "{text}");
    }
}

#[test]
fn the_report_names_every_key_of_the_file_and_no_secret() {
    let settings = settle(
        &Flags::default(),
        &[
            ("DATABASE_URL", "postgres://u:canary1@h/d?sslcert=/pem&sslkey=/pem"),
            ("QDRANT_HOST", "q"),
            ("QDRANT_API_KEY", "canary2"),
        ],
        &[("/pem", "canary3")],
    )
    .unwrap();
    let (table, json) = (settings.table(), settings.json().unwrap());
    for key in FILE_KEYS {
        let is_shown = !["postgres.url", "postgres.passfile", "qdrant.url"].contains(&key);
        assert_eq!(table.contains(key) && json.contains(key), is_shown, "{key} in\n{table}");
    }
    for text in [&table, &json, &format!("{settings:?}")] {
        assert!(!text.contains("canary"), "{text}");
    }
    assert!(table.contains("(set)"));
}
