//! `tandem record`: the catalog after every version on an empty database, written beside the timeline.

use crate::catalog::{Catalog, Expected};
use crate::error::{Error, ExitCode, Result};
use crate::postgres::apply;
use crate::postgres::introspect::{self, Exclude};
use crate::postgres::session::{Session, identifier};
use crate::timeline::Timeline;
use std::path::{Path, PathBuf};

/// Applies the timeline to a scratch database and reads the catalog after each version.
///
/// `connect` logs in to a database of the same server by name.
pub async fn record<F>(
    session: &mut Session,
    connect: impl FnOnce(String) -> F,
    timeline: &Timeline,
    exclude: &Exclude<'_>,
) -> Result<Vec<(PathBuf, String)>>
where
    F: Future<Output = Result<Session>>,
{
    let name = format!("tandem_record_{}", session.pid().await?);
    session
        .run(
            "creating a scratch database",
            format!("create database {} template template0", identifier(&name)),
        )
        .await
        .map_err(|error| {
            error.remedy(
                "tandem record needs a Postgres where the role may create a database, such as a local one",
            )
        })?;
    let recorded = match connect(name.clone()).await {
        Ok(mut scratch) => catalogs(&mut scratch, timeline, exclude).await,
        Err(error) => Err(error),
    };
    session
        .run("dropping the scratch database", format!("drop database {} with (force)", identifier(&name)))
        .await?;
    let recorded = recorded?;
    let versions =
        timeline.versions.iter().zip(recorded).map(|(version, catalog)| {
            (version.number, version.name.clone(), version.raw_checksum(), catalog)
        });
    let mut expected = Expected::from_catalogs(&timeline.settings.application, versions);
    for (recorded, version) in expected.index.versions.iter_mut().zip(&timeline.versions) {
        recorded.normal = Some(version.normal_checksum());
    }
    Ok(expected.files())
}

async fn catalogs(scratch: &mut Session, timeline: &Timeline, exclude: &Exclude<'_>) -> Result<Vec<Catalog>> {
    let settings = &timeline.settings;
    scratch.establish_contract(&settings.schemas, 0).await?;
    let mut recorded = Vec::new();
    for version in &timeline.versions {
        apply::run_statements(scratch, settings, version).await?;
        if let Some(proof) = &version.proof
            && !apply::holds(scratch, proof).await?
        {
            return Err(Error::new(
                ExitCode::BadTimeline,
                format!(
                    "the [proof] of version {} ({}) is false on the database that its own SQL made",
                    version.number, version.name
                ),
            )
            .expected(proof.trim().to_owned()));
        }
        recorded.push(introspect::introspect(scratch.connection(), &settings.schemas, exclude).await?);
    }
    Ok(recorded)
}

/// Replaces the files of `catalog/`, and removes those that no version needs any more.
pub fn write(directory: &Path, files: &[(PathBuf, String)]) -> Result<()> {
    let failed = |path: &Path, error: std::io::Error| {
        Error::new(ExitCode::Configuration, format!("{}: {error}", path.display()))
            .remedy("make the directory writable for tandem record")
    };
    std::fs::create_dir_all(directory).map_err(|e| failed(directory, e))?;
    for (path, text) in files {
        let path = directory.join(path);
        std::fs::write(&path, text).map_err(|e| failed(&path, e))?;
    }
    for entry in std::fs::read_dir(directory).map_err(|e| failed(directory, e))? {
        let path = entry.map_err(|e| failed(directory, e))?.path();
        let kept = path.extension().is_none_or(|e| e != "json")
            || files.iter().any(|(p, _)| directory.join(p) == path);
        if !kept {
            std::fs::remove_file(&path).map_err(|e| failed(&path, e))?;
        }
    }
    Ok(())
}
