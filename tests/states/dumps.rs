//! Loads plain dumps as `pg_dump` writes them, on a server that need not have what they name besides the schema and the rows.

use crate::common::World;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Loads a dump with psql, and fails if a statement does.
pub fn restore(world: &World, path: &Path) {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let psql = local_servers::client_tool("psql").expect("psql, which a dump with rows takes");
    let mut child = Command::new(psql)
        .args(["-q", "-X", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-d", &world.db.url()])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // It closes its input early where a statement fails, and says why itself.
    let _ = std::thread::spawn(move || input.write_all(loadable(&text).as_bytes())).join().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
}

/// The dump without what makes another database, leads to it, or is of a newer version than the server or psql; the roles
/// that it names come first.
fn loadable(text: &str) -> String {
    let (mut body, mut roles, mut rows) = (String::new(), BTreeSet::new(), false);
    for line in text.lines() {
        let of_database =
            ["CREATE", "ALTER", "DROP"].iter().any(|verb| line.starts_with(&format!("{verb} DATABASE ")));
        let of_client = line.starts_with('\\');
        let newer = line.starts_with("SET transaction_timeout ");
        if rows {
            rows = line != "\\.";
        } else if of_database || of_client || newer {
            continue;
        } else {
            rows = line.starts_with("COPY ") && line.ends_with(" FROM stdin;");
            roles.extend(named_roles(line));
        }
        body.push_str(line);
        body.push('\n');
    }
    let made = roles.iter().map(|role| {
        let literal = format!("'{}'", role.replace('\'', "''"));
        format!(
            "select format('create role %I', {literal}) where not exists (select from pg_roles where rolname = {literal}) \\gexec\n"
        )
    });
    made.collect::<String>() + &body
}

/// The roles of one line about ownership or rights.
fn named_roles(line: &str) -> Vec<String> {
    let begins = ["ALTER ", "GRANT ", "REVOKE "].iter().any(|verb| line.starts_with(verb));
    if !begins || !line.ends_with(';') {
        return Vec::new();
    }
    let rights = !line.starts_with("ALTER ") || line.starts_with("ALTER DEFAULT PRIVILEGES ");
    let mut marks = vec![" OWNER TO ", " FOR ROLE "];
    if rights {
        marks.extend([" TO ", " FROM "]);
    }
    let name = |mark: &str| {
        let (_, rest) = line.rsplit_once(mark)?;
        match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').map(|(name, _)| name.to_owned()),
            None => rest.split([' ', ';']).next().map(str::to_owned),
        }
    };
    marks.into_iter().filter_map(name).filter(|name| name != "PUBLIC" && name != "CURRENT_USER").collect()
}
