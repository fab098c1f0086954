//! What goes wrong in containers: one readable cause at the end of the log and in the termination message.

use crate::common::Dir;
use crate::docker::{Container, LABEL, docker, inspect, logs, until};
use crate::images::{BOT, MIRROR, QDRANT};
use crate::stores::{API_KEY, PASSWORD, stores};

/// A termination log as the kubelet mounts it: a file that is there and that the container's user may write.
fn termination_log(directory: &Dir) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = directory.write("termination-log", "");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    format!("{}:/dev/termination-log", path.display())
}

/// A timeline whose second version fails on the rows that are there.
fn failing_timeline(directory: &Dir) -> String {
    directory.write("migrations/tandem.toml", "application = \"failing\"\n");
    directory.write("migrations/0001_users.up.sql", "create table users (id int primary key, name text);\n");
    directory.write("migrations/0002_names.up.sql", "alter table users alter name set not null;\n");
    let volume = format!("{}:/migrations", directory.path().join("migrations").display());
    let (_, arguments) = stores().database("scratch");
    let mut record =
        vec!["run", "--rm", "--label", LABEL, "--user", "0", "--entrypoint", "/tandem", "--volume", &volume];
    record.extend(arguments.iter().map(String::as_str));
    record.extend([BOT, "record"]);
    docker(&record);
    volume
}

#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn each_failure_has_one_readable_cause_and_its_exit_code() {
    let stores = stores();
    for (change, code, cause) in [
        ("POSTGRES_PASSWORD=wrong", 77, &["password authentication failed", "POSTGRES_PASSWORD"][..]),
        ("QDRANT_API_KEY=wrong", 77, &["QDRANT_API_KEY"]),
        ("POSTGRES_DB=nowhere", 78, &["nowhere"]),
        ("POSTGRES_HOST=nowhere", 69, &["not ready after 2s", "nowhere"]),
        ("QDRANT_HOST=nowhere", 69, &["not ready after 2s", "nowhere"]),
        ("FOREIGN", 76, &["foreign", "--install-beside"]),
        ("FAILING", 1, &["0002_names", "contains null values"]),
    ] {
        let (database, arguments) = stores.database("failure");
        let directory = Dir::new();
        let log = termination_log(&directory);
        let mut run: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run.extend(["--env", change, "--env", "TANDEM_TIMEOUT=2s", "--volume", &log]);
        let timeline;
        match change {
            "FOREIGN" => {
                stores.postgres.execute(&database, "create table orders (id int primary key)").unwrap()
            }
            "FAILING" => {
                timeline = failing_timeline(&directory);
                let rows =
                    "create table users (id int primary key, name text); insert into users values (1, null)";
                stores.postgres.execute(&database, rows).unwrap();
                run.extend(["--volume", &timeline]);
            }
            _ => {}
        }
        run.push(BOT);
        let container = Container::run("failure", &run);
        assert_eq!(container.wait(), code, "{change}\n{}", logs(&container.0));
        let log = logs(&container.0);
        let message = std::fs::read_to_string(directory.path().join("termination-log")).unwrap();
        let last = log.lines().last().unwrap_or_default();
        for part in cause {
            assert!(last.contains(part), "{change}: {part:?} is not in the last line of\n{log}");
            assert!(
                message.contains(part),
                "{change}: {part:?} is not in the termination message\n{message}"
            );
        }
        assert_eq!(message.matches('\n').count(), 1, "{message}");
        for secret in [PASSWORD, API_KEY] {
            assert!(!log.contains(secret) && !message.contains(secret), "{change}: {secret} is told");
        }
    }
}

#[test]
#[ignore = "needs a Docker Engine: tests/containers/engine"]
fn held_starts_stay_up_and_go_on_by_themselves() {
    let stores = stores();
    let directory = Dir::new();
    let timeline = failing_timeline(&directory);
    let role = local_servers::unique_name("role");
    let sql = format!("create role {role} login superuser password 'old'");
    stores.postgres.execute("postgres", &sql).unwrap();
    let (late, locked) = (local_servers::unique_name("late"), local_servers::unique_name("locked"));
    let qdrant = |aliases: &[&str], key: &str| {
        let key = format!("QDRANT__SERVICE__API_KEY={key}");
        let mut run = vec!["--network", &stores.network, "--env", &key];
        run.extend(aliases.iter().flat_map(|alias| ["--network-alias", alias]));
        run.push(QDRANT);
        Container::run("qdrant", &run)
    };
    let other_key = qdrant(&[&locked], "another-key");
    let user = format!("POSTGRES_USER={role}");
    let (late_host, locked_host) = (format!("QDRANT_HOST={late}"), format!("QDRANT_HOST={locked}"));
    let mut held = Vec::new();
    for (name, changes) in [
        ("password", vec!["--env", &user]),
        ("unreachable", vec!["--env", &late_host]),
        ("key", vec!["--env", &locked_host]),
        ("database", vec![]),
        ("failing", vec!["--volume", &timeline]),
    ] {
        let (database, arguments) = stores.database(name);
        let missing = format!("POSTGRES_DB={database}_late");
        let mut run: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run.extend([
            "--env",
            "TANDEM_ON_REFUSAL=hold",
            "--env",
            "TANDEM_TIMEOUT=2s",
            "--restart",
            "unless-stopped",
        ]);
        run.extend(changes);
        match name {
            "database" => run.extend(["--env", &missing]),
            "failing" => {
                let rows =
                    "create table users (id int primary key, name text); insert into users values (1, null)";
                stores.postgres.execute(&database, rows).unwrap();
            }
            _ => {}
        }
        run.extend([MIRROR, "sleep", "infinity"]);
        held.push((name, database, Container::run(name, &run)));
    }
    for (_, _, container) in &held {
        until(|| logs(&container.0).contains("looking again in 30 s"), || logs(&container.0));
        assert_eq!(inspect(&container.0, "{{.State.Status}} {{.RestartCount}}"), "running 0");
    }
    drop(other_key);
    let _qdrant = qdrant(&[&late, &locked], API_KEY);
    for (name, database, _) in &held {
        match *name {
            "password" => {
                stores
                    .postgres
                    .execute("postgres", &format!("alter role {role} password '{PASSWORD}'"))
                    .unwrap();
            }
            "unreachable" | "key" => {}
            "database" => {
                stores.postgres.execute("postgres", &format!("create database {database}_late")).unwrap();
            }
            _ => stores.postgres.execute(database, "update users set name = 'somebody'").unwrap(),
        }
    }
    for (_, _, container) in &held {
        until(|| logs(&container.0).contains("Database initialization complete"), || logs(&container.0));
        assert_eq!(inspect(&container.0, "{{.State.Status}} {{.RestartCount}}"), "running 0");
    }
}
