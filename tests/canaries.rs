//! No output ever holds a secret: canaries in every setting that can hold one, every command, level, form and way to
//! fail, and a search through everything that a process wrote.

mod common;

use common::{Dir, World};
use local_servers::{Qdrant, QdrantOptions, unique_name};
use std::net::TcpListener;
use std::process::Output;

/// What makes a canary hard to hide: everything that URLs, TOML, JSON and percent-encoding treat in a way of their own.
const TAIL: &str = "@:/%#?& \"'\\%41é";

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// The commands that end by themselves.
const COMMANDS: [&[&str]; 14] = [
    &["wait"],
    &["plan"],
    &["plan", "--json", "--exit-code"],
    &["status"],
    &["status", "--json"],
    &["verify"],
    &["config"],
    &["config", "--json"],
    &["lint"],
    &["record"],
    &["migrate"],
    &["run", "--", "true"],
    &["adopt"],
    &["version"],
];

/// `canary…` with a number of its own. Every spelling begins alike, so that one search finds them all.
fn canary(n: u32) -> String {
    format!("canary{n}{TAIL}")
}

/// As it stands in a URL.
fn encoded(secret: &str) -> String {
    secret
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// The first place with a canary, or with its tail alone.
fn tells(text: &str) -> Option<&str> {
    let begin = text.find("canary").or_else(|| text.find(&TAIL[..8]))?;
    let before = text.floor_char_boundary(begin.saturating_sub(60));
    Some(&text[before..text.ceil_char_boundary((begin + 60).min(text.len()))])
}

#[track_caller]
fn silent(what: &str, text: &str) {
    if let Some(found) = tells(text) {
        panic!("{what} tells: {found:?}");
    }
}

/// Runs every command at every level in both forms, and searches both streams and the termination file.
fn search(world: &mut World, commands: &[&[&str]], levels: &[&str]) {
    let directory = Dir::new();
    let last_words = directory.write("termination-log", "");
    world.set("TANDEM_TERMINATION_LOG", last_words.display().to_string());
    for (n, level) in levels.iter().enumerate() {
        world.set("TANDEM_LOG_LEVEL", *level);
        for form in ["human", "json"] {
            // Both forms where most is told, and by turns elsewhere.
            if *level != "trace" && (form == "json") == (n % 2 == 0) {
                continue;
            }
            world.set("TANDEM_LOG_FORMAT", form);
            for command in commands {
                let output: Output = world.tandem(*command).output().unwrap();
                let text = common::text(&output);
                silent(&format!("{command:?} at {level}, {form}"), &text);
                silent("the termination log", &std::fs::read_to_string(&last_words).unwrap());
            }
        }
    }
}

#[test]
fn the_search_finds_a_canary() {
    let secret = canary(1);
    for text in [format!("x {secret} y"), encoded(&secret), format!("{secret:?}"), TAIL.to_owned()] {
        assert!(tells(&text).is_some(), "{text}");
    }
    assert_eq!(tells("(set)"), None);
    // And in the output of a real command that is given one where none belongs.
    let world = World::small();
    let output = world.tandem(["nonsense-canary"]).output().unwrap();
    assert!(tells(&common::text(&output)).is_some());
}

/// A world on a Qdrant with a key and a role with a password, both canaries.
fn secretive(qdrant: &Qdrant) -> (World, String) {
    let mut world = World::on(local_servers::postgres().create_database("world"), qdrant.clone());
    world.small_timeline();
    let role = unique_name("owner");
    let password = canary(1).replace('\'', "''");
    world.db.execute(&format!(
        "create role {role} login createdb password '{password}'; grant all on database {} to {role}; grant all on schema public to {role}",
        world.db.name()
    ));
    world.set("DATABASE_URL", world.db.url_as(&role, &canary(1)));
    world.set("QDRANT_API_KEY", canary(2));
    (world, role)
}

fn drop_role(world: &World, role: &str) {
    world
        .db
        .execute(&format!("drop schema if exists tandem cascade; drop owned by {role}; drop role {role}"));
}

#[test]
fn no_command_tells_a_secret_in_success_or_in_failure() {
    // A header cannot hold what is not ASCII.
    let key = canary(2).replace('é', "");
    let server = Qdrant::start(QdrantOptions { api_key: Some(key.clone()), ..Default::default() }).unwrap();
    let (mut world, role) = secretive(&server);
    world.set("QDRANT_API_KEY", key);
    // Secrets that lose against others are secrets all the same.
    world.set("POSTGRES_PASSWORD", canary(3));
    world.set("PGPASSWORD", canary(4));
    world.output(["record"]).expect(0);
    search(&mut world, &COMMANDS, &LEVELS);
    world.output(["verify"]).expect(0);
    let (name, directory) = (world.collection.clone(), Dir::new());
    let to = directory.path().display().to_string();
    let operator: [&[&str]; 8] = [
        &["validate", &name, "--json"],
        &["rebuild", &name, "--dry-run"],
        &["snapshot", "create", &name],
        &["snapshot", "list", &name, "--json"],
        &["snapshot", "download", &name, "--to", &to],
        &["snapshot", "restore", &name, "--into", "copy"],
        &["retained", "list"],
        &["rollback", &name],
    ];
    search(&mut world, &operator, &["trace"]);

    // What was written to the stores.
    for table in ["ledger", "journal", "state", "published"] {
        let rows = world.query(&format!("select string_agg(t::text, ' ') from tandem.{table} t"));
        assert!(!rows.is_empty() || table == "journal", "tandem.{table} is empty");
        silent(table, &rows);
    }
    silent("the collection", &world.collection_info().unwrap().to_string());
    silent(
        "pg_stat_activity",
        &world
            .query("select string_agg(a::text, ' ') from pg_stat_activity a where query not like '%canary%'"),
    );

    // A timeline that puts everything into its messages.
    world.migrations.write(
        "0003_later.toml",
        "[[collection]]\nmatch = \"${QDRANT_API_KEY}${DATABASE_URL}${POSTGRES_PASSWORD}\"\n",
    );
    search(&mut world, &[&["lint"], &["run", "--", "true"]], &["info", "trace"]);
    std::fs::remove_file(world.migrations.path().join("0003_later.toml")).unwrap();

    // Foreign, stale and skewed; with a row, for an empty table would be given its form.
    world.db.execute(
        "insert into users (name) values ('x'); insert into notes (id, user_id) select 1, id from users",
    );
    world.db.execute("alter table notes alter column body type varchar(9)");
    search(&mut world, &COMMANDS, &["info", "trace"]);
    world.output(["run", "--", "true"]).expect(76);
    drop_role(&world, &role);
}

#[test]
fn no_failure_to_connect_tells_a_secret() {
    let mut world = World::small();
    world.set("TANDEM_TIMEOUT", "500ms");
    let connecting: [&[&str]; 4] = [&["wait"], &["status", "--json"], &["run", "--", "true"], &["record"]];
    // Wrong password; a role that does not exist; wrong key.
    let user = world.db.server().user().to_owned();
    for user in [user.as_str(), "nobody_at_all"] {
        world.set("DATABASE_URL", world.db.url_as(user, &canary(1)));
        search(&mut world, &connecting, &["info", "trace", "off"]);
    }
    world.set("DATABASE_URL", world.db.url());
    let server =
        Qdrant::start(QdrantOptions { api_key: Some("sesame".into()), ..Default::default() }).unwrap();
    world.set("QDRANT_URL", server.grpc_url());
    for key in [canary(2), canary(2).replace('é', "")] {
        world.set("QDRANT_API_KEY", key);
        search(&mut world, &connecting, &["info", "trace", "off"]);
    }
    // Unreachable, TLS where there is none, the REST port, another protocol, a missing database.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (pg, secret) = (world.db.server().port(), encoded(&canary(1)));
    for url in [
        format!("postgres://u:{secret}@127.0.0.1:{free}/d"),
        format!("postgres://u:{secret}@no-such-host.invalid/d"),
        format!("postgres://u:{secret}@127.0.0.1:{pg}/d?sslmode=require"),
        format!("postgres://u:{secret}@127.0.0.1:{}/d", server.http_port()),
        world.db.server().url("no_such_database"),
    ] {
        world.set("DATABASE_URL", url);
        search(&mut world, &connecting, &["info", "trace"]);
    }
    for url in
        [server.http_url(), server.grpc_url().replace("http:", "https:"), format!("http://127.0.0.1:{free}")]
    {
        world.set("DATABASE_URL", world.db.url());
        world.set("QDRANT_URL", url);
        search(&mut world, &connecting, &["info", "trace"]);
    }
}

/// Settings that resolve or fail without any store.
const OFFLINE: [&[&str]; 3] = [&["config"], &["config", "--json"], &["wait"]];

#[test]
fn no_setting_tells_the_secret_that_it_holds_by_mistake() {
    let url = format!("postgres://u:{}@127.0.0.1:1/d", encoded(&canary(5)));
    let raw = format!("postgres://u:{}@127.0.0.1:1/d", canary(5));
    let mistakes: Vec<(&str, String)> = [
        "TANDEM_MIGRATIONS",
        "TANDEM_CONFIG",
        "TANDEM_TIMEOUT",
        "TANDEM_LOCK_TIMEOUT",
        "TANDEM_LOG_FORMAT",
        "TANDEM_LOG_LEVEL",
        "TANDEM_ALL_COLLECTIONS",
        "TANDEM_INSTALL_BESIDE",
        "TANDEM_MISSING_DATABASE",
        "TANDEM_AUTH_GRACE",
        "TANDEM_ON_REFUSAL",
        "TANDEM_PROBE",
        "TANDEM_TERMINATION_LOG",
        "QDRANT_URL",
        "QDRANT_HOST",
        "QDRANT_PORT",
        "QDRANT_GRPC_PORT",
        "QDRANT_TLS",
        "POSTGRES_HOST",
        "POSTGRES_PORT",
        "POSTGRES_USER",
        "POSTGRES_DB",
        "POSTGRES_SSLMODE",
        "PGHOST",
        "PGSSLMODE",
        "PGSSLROOTCERT",
        "PGSSLCERT",
        "PGPASSFILE",
    ]
    .into_iter()
    .flat_map(|name| [(name, url.clone()), (name, raw.clone())])
    // The secret itself where the path of its file is expected.
    .chain(
        ["DATABASE_URL_FILE", "TANDEM_DATABASE_URL_FILE", "POSTGRES_PASSWORD_FILE", "PGPASSWORD_FILE"]
            .into_iter()
            .chain(["QDRANT_API_KEY_FILE", "TANDEM_QDRANT_API_KEY_FILE"])
            .flat_map(|name| [(name, canary(6)), (name, format!("/{}", canary(6))), (name, url.clone())]),
    )
    // URLs that are none.
    .chain(["DATABASE_URL", "TANDEM_DATABASE_URL"].into_iter().flat_map(|name| {
        [
            canary(7),
            format!("mysql://u:{}@h/d", canary(7)),
            format!("postgres:/u:{}@h/d", canary(7)),
            format!("postgres://u:{}@h:port/d", canary(7)),
            format!("postgres://u:{}&canary7=x@h:port/d", canary(7)),
            format!("postgres://u@h:1/d?sslmode=canary7{TAIL}"),
            format!("postgres://u@h:1/d?password={}&x", canary(7)),
            format!("postgres://u:a@canary7{TAIL}/x@h@/d"),
        ]
        .map(|value| (name, value))
    }))
    .chain([
        ("QDRANT_URL", format!("http://{}@h:6334", canary(8))),
        ("QDRANT_URL", format!("http://h:6334?api-key={}", canary(8))),
        ("QDRANT_URL", format!("https://h:6334/{}", canary(8))),
    ])
    .collect();
    let mut world = World::small();
    world.env.retain(|(name, _)| name == "TANDEM_MIGRATIONS");
    let env = world.env.clone();
    for (name, value) in mistakes {
        world.env.clone_from(&env);
        world.set("TANDEM_TIMEOUT", "100ms");
        if name.starts_with("POSTGRES") || name.starts_with("PG") {
            world.set("POSTGRES_HOST", "127.0.0.1");
            world.set("POSTGRES_PORT", "1");
        } else if !name.contains("DATABASE_URL") {
            world.set("DATABASE_URL", "postgres://u@127.0.0.1:1/d");
        }
        world.set("QDRANT_URL", "none");
        if name.starts_with("QDRANT") || name.starts_with("TANDEM_QDRANT") {
            world.env.retain(|(name, _)| name != "QDRANT_URL");
            world.set("QDRANT_HOST", "127.0.0.1");
        }
        world.set(name, value.as_str());
        let commands: &[&[&str]] = match name {
            "TANDEM_MIGRATIONS" => &[&["config"], &["config", "--json"], &["lint"], &["run", "--", "true"]],
            _ => &OFFLINE,
        };
        for command in commands {
            let output = world.tandem(*command).output().unwrap();
            silent(&format!("{command:?} with {name}={value}"), &common::text(&output));
        }
    }
}

#[test]
fn no_file_tells_the_secret_that_it_holds() {
    let directory = Dir::new();
    let mut world = World::small();
    world.env.retain(|(name, _)| name == "TANDEM_MIGRATIONS");
    world.set("TANDEM_TIMEOUT", "100ms");
    world.set("POSTGRES_HOST", "127.0.0.1");
    world.set("POSTGRES_PORT", "1");
    world.set("QDRANT_HOST", "127.0.0.1");
    for name in ["POSTGRES_PASSWORD_FILE", "QDRANT_API_KEY_FILE"] {
        let path = directory.write(name, &format!("{}\n", canary(9)));
        world.set(name, path.display().to_string());
    }
    search(&mut world, &OFFLINE, &LEVELS);
    // Both set; a settings file with secrets, well-formed and broken in every way.
    world.set("POSTGRES_PASSWORD", canary(9));
    search(&mut world, &OFFLINE, &["trace"]);
    world.env.retain(|(name, _)| !name.ends_with("_FILE") && name != "POSTGRES_PASSWORD");
    for text in [
        format!("[postgres]\npassword = '''{}'''\n[qdrant]\napi_key = \"canary10\"\n", canary(10)),
        format!("[postgres]\npassword = {}\n", canary(10)),
        format!("[postgres]\npassword = '''{}'''\npassword = 'canary10'\n", canary(10)),
        format!("[postgres]\npasswort = '''{}'''\n", canary(10)),
        "[postgres]\npassword = ['canary10']\n".to_owned(),
        "[postgres]\nurl = 'postgres://u:canary10@h:port/d'\n".to_owned(),
        "[qdrant]\nurl = 'http://canary10@h'\n".to_owned(),
        "canary10\n".to_owned(),
    ] {
        let path = directory.write("settings.toml", &text);
        world.set("TANDEM_CONFIG", path.display().to_string());
        search(&mut world, &OFFLINE, &["trace"]);
    }
}

#[test]
fn no_flag_tells_the_secret_that_it_holds() {
    let world = World::small();
    let url = format!("postgres://u:{}@127.0.0.1:1/d", encoded(&canary(11)));
    let raw = format!("postgres://u:{}@127.0.0.1:1/d", canary(11));
    for url in [&url, &raw] {
        for arguments in [
            &["wait", "--timeout", "100ms", "--database-url", url][..],
            &["config", "--database-url", url],
            &["config", "--json", "--database-url", url],
            &["config", "--qdrant-url", url],
            &["config", "--migrations", url],
            &["lint", "--migrations", url],
            &["config", "--config", url],
            &["wait", "--timeout", url],
            &["wait", "--lock-timeout", url],
            &["wait", "--log-level", url],
            &["wait", "--log-format", url],
            &["wait", url],
            &[url],
            &["--database-urll", url, "wait"],
            &["wait", &format!("--database-urll={url}")],
            &["run", url],
            &["plan", &format!("--json={url}")],
            &["run", url, "--", "true"],
        ] {
            let output = world.tandem(arguments).output().unwrap();
            silent(&format!("{arguments:?}"), &common::text(&output));
        }
    }
}
