//! The expected catalogs beside the timeline, under `migrations/catalog/`:
//!
//! - `index.json`: the digests of all versions; all that a start at head reads;
//! - `<number>.json`: the catalog of the first version and of the head, in full;
//! - `<number>.effects.json`: what each later version changes.

use super::{Catalog, Difference, Effects, Optional, compare_leniently};
use crate::error::{Error, ExitCode, Result};
use crate::timeline::{Number, Timeline, Version};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// `index.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Index {
    pub application: String,
    /// `server_version_num` of the server that the catalogs were recorded with.
    pub server: u32,
    /// Sorted by number.
    pub versions: Vec<Recorded>,
}

/// A version as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    pub number: Number,
    pub name: String,
    /// The version's raw checksum: another one means that the files changed after recording.
    pub checksum: String,
    /// The version's token-normalised checksum, which tells a changed statement from a changed comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normal: Option<String>,
    /// [`Catalog::digest`] after this version. Equal to that of the version before where it leaves no evidence.
    pub digest: String,
}

/// The expected catalogs of all versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    pub index: Index,
    /// The catalog of the first version.
    pub baseline: Catalog,
    /// Of every later version.
    pub effects: BTreeMap<Number, Effects>,
    /// What real databases of a version may lack; said by the timeline, not by the recording.
    pub optional: BTreeMap<Number, Optional>,
}

impl Recorded {
    /// Is this the version that was recorded? A changed comment or line ending leaves its catalog as it was.
    pub fn is_of(&self, version: &Version) -> bool {
        self.checksum == version.raw_checksum() || self.normal.as_ref() == Some(&version.normal_checksum())
    }
}

impl Index {
    /// Reads `index.json` in the directory.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join("index.json");
        let index: Self = parse(&path, |text| serde_json::from_str(text))?;
        if !index.versions.is_sorted_by(|a, b| a.number < b.number) {
            return Err(unusable(&path, "its versions are not in order"));
        }
        Ok(index)
    }

    /// The entry of a version.
    pub fn version(&self, number: Number) -> Option<&Recorded> {
        self.versions
            .binary_search_by_key(&number, |version| version.number)
            .ok()
            .map(|at| &self.versions[at])
    }

    /// Reads the catalog of the newest version, without those before it.
    pub fn load_head(&self, directory: &Path) -> Result<Catalog> {
        match self.versions.last() {
            Some(head) => parse(&directory.join(full_name(head.number)), Catalog::from_json),
            None => Ok(Catalog::default()),
        }
    }

    fn to_json(&self) -> String {
        let application = serde_json::Value::from(self.application.as_str());
        let versions: Vec<String> = self
            .versions
            .iter()
            // Strings and numbers always have a JSON form.
            .map(|version| serde_json::to_string(version).expect("a version has a JSON form"))
            .collect();
        format!(
            "{{\"application\":{application},\"server\":{},\"versions\":[\n{}\n]}}\n",
            self.server,
            versions.join(",\n")
        )
    }
}

impl Expected {
    /// Reads all files that the index names.
    pub fn load(directory: &Path) -> Result<Self> {
        let index = Index::load(directory)?;
        let baseline = match index.versions.first() {
            Some(first) => parse(&directory.join(full_name(first.number)), Catalog::from_json)?,
            None => Catalog::default(),
        };
        let mut effects = BTreeMap::new();
        for version in index.versions.iter().skip(1) {
            let path = directory.join(effects_name(version.number));
            effects.insert(version.number, parse(&path, Effects::from_json)?);
        }
        Ok(Self { index, baseline, effects, optional: BTreeMap::new() })
    }

    /// From the catalogs that a recording saw, in the order of the timeline: number, name, raw checksum, catalog.
    pub fn from_catalogs(
        application: &str,
        versions: impl IntoIterator<Item = (Number, String, String, Catalog)>,
    ) -> Self {
        let index = Index { application: application.to_owned(), server: 0, versions: Vec::new() };
        let (baseline, effects, optional) = Default::default();
        let mut expected = Self { index, baseline, effects, optional };
        let mut before: Option<Catalog> = None;
        for (number, name, checksum, catalog) in versions {
            let digest = catalog.digest();
            expected.index.versions.push(Recorded { number, name, checksum, normal: None, digest });
            expected.index.server = catalog.server;
            match &before {
                None => expected.baseline = catalog.clone(),
                Some(before) => {
                    expected.effects.insert(number, super::effects(before, &catalog));
                }
            }
            before = Some(catalog);
        }
        expected
    }

    /// The files, with paths relative to the directory. Other JSON files in there are stale.
    pub fn files(&self) -> Vec<(PathBuf, String)> {
        let mut files = vec![(PathBuf::from("index.json"), self.index.to_json())];
        let versions = &self.index.versions;
        if let Some(first) = versions.first() {
            files.push((full_name(first.number), self.baseline.to_json()));
        }
        files.extend(self.effects.iter().map(|(number, effects)| (effects_name(*number), effects.to_json())));
        if let [_, .., head] = versions.as_slice()
            && let Some(catalog) = self.catalog_at(head.number)
        {
            files.push((full_name(head.number), catalog.to_json()));
        }
        files
    }

    /// Takes over what each version of the timeline calls optional.
    pub fn permit(mut self, timeline: &Timeline) -> Self {
        self.optional = timeline
            .versions
            .iter()
            .map(|version| (version.number, Optional::new(&version.optional)))
            .filter(|(_, optional)| !optional.is_empty())
            .collect();
        self
    }

    /// What the databases of a version may lack.
    pub fn optional_at(&self, number: Number) -> &Optional {
        static NOTHING: Optional = Optional::NOTHING;
        self.optional.get(&number).unwrap_or(&NOTHING)
    }

    /// What is there, held against a version that was recorded; against nothing if it was not.
    pub fn compare(&self, actual: &Catalog, number: Number) -> Difference {
        compare_leniently(actual, &self.catalog_at(number).unwrap_or_default(), self.optional_at(number))
    }

    /// What was found, with its sequences told as the versions tell them; `None` if it is told so already.
    pub fn told(&self, found: &Catalog) -> Option<Catalog> {
        let later = self.effects.values().flat_map(|effects| effects.added.iter().chain(&effects.changed));
        let all = self.baseline.objects.iter().chain(later.map(|(id, object)| (id, object)));
        super::feed::fed_as(found, all)
    }

    /// The expected catalog after a version of the index.
    pub fn catalog_at(&self, number: Number) -> Option<Catalog> {
        self.index.version(number)?;
        let mut catalog = self.baseline.clone();
        for effects in self.effects.range(..=number).map(|(_, effects)| effects) {
            catalog.apply(effects);
        }
        Some(catalog)
    }
}

fn full_name(number: Number) -> PathBuf {
    PathBuf::from(format!("{number:04}.json"))
}

fn effects_name(number: Number) -> PathBuf {
    PathBuf::from(format!("{number:04}.effects.json"))
}

fn parse<T>(path: &Path, read: impl FnOnce(&str) -> serde_json::Result<T>) -> Result<T> {
    let text = fs::read_to_string(path).map_err(|error| unusable(path, error))?;
    read(&text).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, cause: impl std::fmt::Display) -> Error {
    Error::new(
        ExitCode::BadTimeline,
        format!("the expected catalog {} cannot be used: {cause}", path.display()),
    )
    .expected("the expected catalogs of all versions, as recorded from this timeline")
    .remedy("tandem record")
}

#[cfg(test)]
mod tests {
    use super::super::effects::tests::any_catalog;
    use super::super::tests::{catalog, column, table};
    use super::*;
    use proptest::prelude::*;

    fn expected(catalogs: &[Catalog]) -> Expected {
        let versions = catalogs.iter().zip([1, 2, 20251011143000]);
        Expected::from_catalogs(
            "app",
            versions
                .map(|(catalog, number)| (number, format!("v{number}"), "sum".to_owned(), catalog.clone())),
        )
    }

    fn write(name: &str, expected: &Expected) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("tandem-expected-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for (path, text) in expected.files() {
            fs::write(directory.join(path), text).unwrap();
        }
        directory
    }

    #[test]
    fn what_was_recorded_is_read_back() {
        let catalogs = [
            catalog([table("t")]),
            catalog([table("t"), column("t", "a", "text")]),
            catalog([column("t", "a", "jsonb")]),
        ];
        let expected = expected(&catalogs);
        let directory = write("read-back", &expected);
        assert_eq!(Expected::load(&directory).unwrap(), expected);
        assert_eq!(Index::load(&directory).unwrap(), expected.index);
        assert_eq!(expected.index.load_head(&directory).unwrap(), catalogs[2]);
        let names: Vec<String> =
            expected.files().iter().map(|(path, _)| path.display().to_string()).collect();
        assert_eq!(
            names,
            [
                "index.json",
                "0001.json",
                "0002.effects.json",
                "20251011143000.effects.json",
                "20251011143000.json"
            ]
        );
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn an_unusable_file_is_named_with_the_remedy() {
        let directory = write("unusable", &expected(&[catalog([table("t")]), catalog([])]));
        fs::write(directory.join("0002.effects.json"), "{").unwrap();
        let error = Expected::load(&directory).unwrap_err();
        assert!(error.found.contains("0002.effects.json"), "{error}");
        assert_eq!(error.code, ExitCode::BadTimeline);
        assert_eq!(error.remedy.as_deref(), Some("tandem record"));
        fs::remove_file(directory.join("index.json")).unwrap();
        assert!(Index::load(&directory).unwrap_err().found.contains("index.json"));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_timeline_without_versions_expects_nothing() {
        let expected = expected(&[]);
        let directory = write("empty", &expected);
        assert_eq!(Expected::load(&directory).unwrap(), expected);
        assert_eq!(expected.catalog_at(1), None);
        fs::remove_dir_all(directory).unwrap();
    }

    proptest! {
        #[test]
        fn every_version_can_be_had_again(catalogs in prop::collection::vec(any_catalog(), 1..3)) {
            let expected = expected(&catalogs);
            for (version, catalog) in expected.index.versions.iter().zip(&catalogs) {
                prop_assert_eq!(&expected.catalog_at(version.number).unwrap(), catalog);
                prop_assert_eq!(&version.digest, &catalog.digest());
            }
        }
    }
}
