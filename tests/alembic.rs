//! The real Alembic before and after tandem: what it wrote is adopted, and afterwards it finds nothing to do.

mod common;

use common::{Dir, World};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The releases that the application pins.
const PACKAGES: [&str; 3] = ["alembic==1.14.0", "SQLAlchemy==2.0.36", "psycopg2-binary==2.9.10"];

/// The application's revisions with their parents, as of v1.0.40.
const REVISIONS: [(&str, &[&str]); 29] = [
    ("20251011_baseline_v106", &[]),
    ("c5bc995c619f", &["20251011_baseline_v106"]),
    ("11f9e26c6345", &["c5bc995c619f"]),
    ("1fd48f6d9650", &["11f9e26c6345"]),
    ("2230add_keyword_templates", &["1fd48f6d9650"]),
    ("8b77eda62e71", &["2230add_keyword_templates"]),
    ("7fbfdf63fb76", &["8b77eda62e71"]),
    ("drop_legacy_json", &["7fbfdf63fb76"]),
    ("phase1_2_cleanup", &["drop_legacy_json"]),
    ("drop_legacy_roleplay", &["phase1_2_cleanup"]),
    ("emoji_personality_cols", &["drop_legacy_roleplay"]),
    ("eaae2e8f35f2", &["emoji_personality_cols"]),
    ("5228ee1af938", &["eaae2e8f35f2"]),
    ("5891d5443712", &["5228ee1af938"]),
    ("a1b2c3d4e5f6", &["5891d5443712"]),
    ("336ce8830dfe", &["a1b2c3d4e5f6"]),
    ("20251019_conv_summaries", &["20251011_baseline_v106"]),
    ("b06ced8ecd14", &["336ce8830dfe", "20251019_conv_summaries"]),
    ("a71d62f22c10", &["b06ced8ecd14"]),
    ("27e207ded5a0", &["a71d62f22c10"]),
    ("ab68d77b5088", &["336ce8830dfe", "27e207ded5a0"]),
    ("9c23e4e81011", &["ab68d77b5088"]),
    ("c64001afbd46", &["9c23e4e81011"]),
    ("4628baf741ee", &["c64001afbd46"]),
    ("20251026_emoji_log", &["4628baf741ee"]),
    ("3ec726abae38", &["20251026_emoji_log"]),
    ("06cb86fd8471", &["3ec726abae38"]),
    ("604332ba3c03", &["06cb86fd8471"]),
    ("954245770def", &["604332ba3c03"]),
];

const ENV: &str = "\
import os
from alembic import context
from sqlalchemy import create_engine
with create_engine(os.environ['TEST_URL']).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
";

/// A Python that has Alembic, installed on first use; or why there is none.
fn python() -> Result<PathBuf, String> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("alembic-1.14.0");
    let python = home.join("bin/python");
    let run = |program: &Path, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(()),
            false => Err(common::text(&output)),
        }
    };
    let ready = |python: &Path| run(python, &["-c", "import alembic, psycopg2, sqlalchemy"]);
    if ready(&python).is_err() {
        let home = home.to_string_lossy();
        run(Path::new("python3"), &["-m", "venv", "--clear", &home])?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(&python, &[&install[..], &PACKAGES].concat())?;
        ready(&python)?;
    }
    Ok(python)
}

/// An Alembic environment with those revisions. The last one of each of our versions does what that version does.
fn environment() -> Dir {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let timeline = tandem::timeline::load(&migrations, &|_| None).unwrap();
    let alembic = Dir::new();
    alembic.write(
        "alembic.ini",
        &format!(
            "[alembic]\nscript_location = {0}\nversion_locations = {0}/versions\n",
            alembic.path().display()
        ),
    );
    alembic.write("env.py", ENV);
    alembic.write("script.py.mako", "");
    for (revision, parents) in REVISIONS {
        let is_last = |version: &&tandem::timeline::Version| {
            version.adoption.get("alembic").is_some_and(|ids| ids.last().is_some_and(|id| id == revision))
        };
        let sql = timeline.versions.iter().find(is_last).map_or_else(String::new, |version| {
            format!(
                "{}\n;{}",
                version.up.as_ref().map_or("", |up| &up.text),
                version.data.as_deref().unwrap_or("")
            )
        });
        let mut text = format!("from alembic import op\nrevision = '{revision}'\n");
        let parents: Vec<String> = parents.iter().map(|parent| format!("'{parent}',")).collect();
        let _ = writeln!(text, "down_revision = ({}) or None", parents.concat());
        let sql = alembic.write(&format!("{revision}.sql"), &sql);
        let _ = write!(
            text,
            "def upgrade():\n    sql = open('{}').read()\n    if sql.strip(' ;\\n'):\n        op.get_bind().connection.cursor().execute('set search_path = public;' + sql)\n",
            sql.display()
        );
        alembic.write(&format!("versions/{revision}.py"), &text);
    }
    alembic
}

#[test]
fn what_the_real_alembic_wrote_is_adopted_and_leaves_it_nothing_to_do() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return println!("Alembic cannot be installed, so its own word was not heard: {why}"),
    };
    let environment = environment();
    for (commands, said) in [
        (
            &["upgrade 20251011_baseline_v106"][..],
            "adopted: public.alembic_version (Alembic) names 20251011_baseline_v106",
        ),
        (&["upgrade 336ce8830dfe"], "adopted: public.alembic_version (Alembic) names 336ce8830dfe"),
        // Two rows until the branches are merged.
        (&["upgrade 336ce8830dfe", "upgrade 20251019_conv_summaries"], "20251019_conv_summaries"),
        (&["upgrade 4628baf741ee"], "adopted: public.alembic_version (Alembic) names 4628baf741ee"),
        (&["upgrade heads"], "adopted: public.alembic_version (Alembic) names 954245770def"),
        // What three of the project's documents advise.
        (
            &["upgrade 20251011_baseline_v106", "stamp head"],
            "stale stamp: public.alembic_version (Alembic) names 954245770def",
        ),
        (
            &["upgrade emoji_personality_cols", "stamp base"],
            "adopted: public.alembic_version (Alembic) is empty",
        ),
    ] {
        let mut world = World::whisperengine();
        world.set("QDRANT_URL", "none");
        let alembic = |command: &str| {
            let output = Command::new(&python)
                .args(["-m", "alembic", "--config"])
                .arg(environment.path().join("alembic.ini"))
                .args(command.split(' '))
                .env("TEST_URL", world.db.url().replacen("postgres://", "postgresql://", 1))
                .output()
                .unwrap();
            assert!(output.status.success(), "alembic {command}: {}", common::text(&output));
            String::from_utf8(output.stdout).unwrap()
        };
        commands.iter().for_each(|command| drop(alembic(command)));
        world.start(&["true"]).expect(0).says(&[said]);
        let before = world.state();
        let current = alembic("current");
        assert_eq!(current.lines().collect::<Vec<_>>(), ["954245770def (head)"], "{commands:?}");
        assert!(!alembic("upgrade head").contains("Running upgrade"), "{commands:?}");
        assert_eq!(world.state(), before, "{commands:?}");
        assert_eq!(world.query("select string_agg(version_num, ' ') from alembic_version"), "954245770def");
        world.start(&["true"]).expect(0).says(&["unchanged since their last proof"]);
    }
}
