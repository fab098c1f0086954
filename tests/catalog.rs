//! Reading real databases into catalogs, and comparing what different servers and histories make of one schema.

use local_servers::{Database, PgVersion, Postgres};
use sqlx::{Connection, PgConnection};
use std::fs;
use std::path::Path;
use tandem::catalog::{Catalog, Difference, ObjectId, compare};
use tandem::postgres::introspect::{Exclude, introspect};

async fn connect(database: &Database) -> PgConnection {
    PgConnection::connect(&database.url()).await.expect("the test server accepts connections")
}

async fn read(database: &Database) -> Catalog {
    read_schemas(database, &["public"], &["alembic_version"]).await
}

async fn read_schemas(database: &Database, schemas: &[&str], adoption: &[&str]) -> Catalog {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut connection = connect(database).await;
    let exclude = Exclude { ledger_schema: "tandem", adoption_tables: &own(adoption) };
    introspect(&mut connection, &own(schemas), &exclude).await.expect("the catalog can be read")
}

/// The SQL of the WhisperEngine timeline up to a version.
fn whisperengine(upto: i64) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("the timeline is there")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.to_string_lossy().ends_with(".up.sql"))
        .collect();
    files.sort();
    let number = |path: &Path| -> i64 {
        let name = path.file_name().expect("a file").to_string_lossy();
        name.split('_').next().and_then(|number| number.parse().ok()).expect("a number")
    };
    let texts =
        files.iter().filter(|path| number(path) <= upto).map(|path| fs::read_to_string(path).expect("SQL"));
    texts.collect::<Vec<_>>().join("\n")
}

fn names(ids: &[ObjectId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn assert_same(difference: &Difference) {
    assert!(
        difference.is_proof() && difference.extra.is_empty(),
        "{difference}\n{:?}",
        names(&difference.extra)
    );
}

#[tokio::test]
async fn one_schema_is_the_same_catalog_on_every_server() {
    let mut seen: Option<Catalog> = None;
    for version in [PgVersion::V14, PgVersion::V16, PgVersion::V18] {
        let server = Postgres::shared(version).unwrap();
        let database = server.create_database("same");
        database.execute(&whisperengine(i64::MAX));
        let catalog = read(&database).await;
        assert_eq!(catalog.server / 10_000, version.major());
        if let Some(first) = &seen {
            assert_same(&compare(&catalog, first));
            assert_same(&compare(first, &catalog));
            assert_eq!(catalog.digest(), first.digest());
        }
        seen = Some(catalog);
    }
}
