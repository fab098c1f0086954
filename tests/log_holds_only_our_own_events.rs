//! What is written to standard error, at every level and in both forms, while real drivers work.
//!
//! Logging starts once a process, so each case runs in a child: this test binary again, restricted to `in_the_child`.

use std::process::Command;
use tandem::cli::Flags;
use tandem::config;
use tandem::error::{Error, ExitCode};
use tandem::{event, postgres};

const CASE: &str = "TEST_CASE";

#[tokio::test]
async fn in_the_child() {
    let Ok(case) = std::env::var(CASE) else { return };
    let settings = config::resolve(&Flags::default(), &config::environment()).unwrap();
    event::init(&settings.log);
    match case.as_str() {
        "login" => {
            tracing::info!(target: "tandem::test", settings = ?settings, "ours");
            tracing::error!(target: "sqlx::query", "canary from a driver");
            tracing::error!(target: "tandemonium", "canary from a neighbour");
            let settings = settings.postgres().unwrap();
            let error = postgres::connect(settings).await.unwrap_err().into_error(settings);
            event::failure(&error);
        }
        "failure" => event::failure(
            &Error::new(ExitCode::Refused, "found \"this\"\nand that").expected("another").remedy("do it"),
        ),
        _ => {
            event::install_panic_hook(settings.termination_log.clone());
            // The harness catches panics of its tests; another thread's hook is the process's hook.
            let _ = std::thread::spawn(|| panic!("a defect\nin two lines")).join();
        }
    }
    std::process::exit(0);
}

fn child(case: &str, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "in_the_child", "--nocapture"])
        .env(CASE, case)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn no_level_and_no_form_tells_a_secret() {
    let pg = local_servers::postgres();
    let url = pg.url_as("postgres", "canary@1:/%#?", "postgres");
    for form in ["human", "json"] {
        for level in ["error", "warn", "info", "debug", "trace", "off"] {
            let variables = [
                ("DATABASE_URL", url.as_str()),
                ("QDRANT_HOST", "q"),
                ("QDRANT_API_KEY", "canary2"),
                ("TANDEM_LOG_FORMAT", form),
                ("TANDEM_LOG_LEVEL", level),
            ];
            let (_, log) = child("login", &variables);
            assert!(log.contains("password authentication failed"), "{form} {level}: {log}");
            assert!(!log.contains("canary"), "{form} {level}: {log}");
            let tells_ours = matches!(level, "info" | "debug" | "trace");
            assert_eq!(log.contains("(set)"), tells_ours, "{form} {level}: {log}");
        }
    }
}

#[test]
fn json_is_one_object_a_line_with_the_code_and_the_remedy() {
    let (_, log) = child("failure", &[("TANDEM_LOG_FORMAT", "json")]);
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let [line] = lines.as_slice() else { panic!("{log}") };
    assert_eq!(line["level"], "ERROR");
    assert_eq!(line["message"], "found \"this\"\nand that");
    assert_eq!(
        (&line["code"], &line["expected"], &line["remedy"]),
        (&76.into(), &"another".into(), &"do it".into())
    );
}

#[test]
fn a_human_line_has_no_colour_where_there_is_no_terminal() {
    let (_, log) = child("failure", &[]);
    assert!(log.contains("ERROR") && log.contains("remedy=do it") && !log.contains('\x1b'), "{log:?}");
}

#[test]
fn a_panic_is_one_line_and_exit_code_70() {
    let path = std::env::temp_dir().join(format!("tandem-panic-{}", std::process::id()));
    std::fs::write(&path, "").unwrap();
    let (code, log) = child("panic", &[("TANDEM_TERMINATION_LOG", path.to_str().unwrap())]);
    let last_words = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(code, Some(70), "{log}");
    assert!(
        log.starts_with("tandem: bug in tandem at tests/") && log.ends_with(": a defect in two lines\n"),
        "{log}"
    );
    assert_eq!(log, format!("tandem: {last_words}"));
}
