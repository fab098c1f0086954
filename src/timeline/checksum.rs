//! What a version is recognised by in the ledger.

use super::{Version, declaration, sql};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The rules below. A ledger row keeps the number of those that it was written by, so that they can change.
pub const CHECKSUM_ALGORITHM: i16 = 1;

/// No UTF-8 text contains it.
const SEPARATOR: [u8; 1] = [0xff];

/// The two checksums of a version, hex SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksums {
    /// Over the texts of `up` and the TOML.
    pub raw: String,
    /// Over what they mean: a changed comment, line ending, white space or release label leaves it as it was.
    pub normal: String,
}

impl Version {
    /// Both checksums.
    pub fn checksums(&self) -> Checksums {
        Checksums { raw: self.raw_checksum(), normal: self.normal_checksum() }
    }

    /// The cheap one. Equal means unchanged.
    pub fn raw_checksum(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.up.as_ref().map_or("", |up| &up.text));
        hash.update(SEPARATOR);
        hash.update(self.toml.as_ref().map_or("", |toml| &toml.text));
        hex(hash)
    }

    /// The one to compare when the raw one differs.
    ///
    /// The tokens of `up`, whether it runs in a transaction, and the TOML as JSON with sorted keys.
    pub fn normal_checksum(&self) -> String {
        let mut hash = Sha256::new();
        if let Some(up) = &self.up {
            sql::hash_tokens(&up.text, &mut hash);
            hash.update(if up.transaction { "transaction" } else { "no-transaction" });
        }
        hash.update(SEPARATOR);
        if let Some(toml) = &self.toml {
            // A loaded version's TOML has been parsed before; text that is none counts as it is.
            hash.update(declaration::canonical(&toml.text).unwrap_or_else(|| toml.text.clone()));
        }
        hex(hash)
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every write");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::file::parse;
    use std::path::Path;

    fn version(up: Option<&str>, toml: Option<&str>) -> Version {
        let mut files = vec![("tandem.toml".to_owned(), "application = 'a'".to_owned())];
        files.extend(up.map(|text| ("1_a.up.sql".to_owned(), text.to_owned())));
        files.extend(toml.map(|text| ("1_a.toml".to_owned(), text.to_owned())));
        parse(Path::new("m"), files, &|_| None).unwrap().versions.remove(0)
    }

    const UP: &str =
        "-- Größe\nCREATE TABLE \"T\" (a int DEFAULT -1, b text DEFAULT 'X''y');\nSELECT E'\\n', $$A\nB$$;\n";
    const TOML: &str = "release = \"1.0\"\ncompatible_from = 1\n[data]\nsql = \"select 1\"\n";

    /// Computed once, outside of this program, from the rules of algorithm 1. A ledger holds such values for ever:
    /// whatever changes one needs a new algorithm.
    #[test]
    fn algorithm_1_is_frozen() {
        assert_eq!(CHECKSUM_ALGORITHM, 1);
        let no_transaction = "-- tandem:no-transaction\nvacuum;";
        let table = [
            (
                Some(UP),
                Some(TOML),
                "b382a5d2b2fbb5628d4d95d1e23a75e9071afc0eb67e660d637ca4a4b4c17e08",
                "3a674c8ee45d1a335572e952ac601e02d8789eb978e8a6827a77d45a5e32472c",
            ),
            (
                Some(UP),
                None,
                "f6176c77121d87d259b52a5efd9e6d258dff69757edd0ca5025c52aa62cf8385",
                "83fe24b1eaf1bbe57810a7c29b7b02fead8d6237a2aab28f5156d118d5a2ee5e",
            ),
            (
                None,
                Some(TOML),
                "2e87e52c4448449afd98d2fb33912502ed8d47dd3bcc33870c8c258142bd8a9e",
                "8515b726021014ba89a028048d85118b99cec1e83d7360e1c000eace99dcd3e6",
            ),
            (
                Some(no_transaction),
                None,
                "99bee6e71d125cbc56e756f0d28f18d9c0d6c6c0d20e2f946e409abde690f0d8",
                "a17d2acef5fab32de850bff00652a50ff260416af0a42855eb57c975ef5ee1ff",
            ),
        ];
        for (up, toml, raw, normal) in table {
            let checksums = version(up, toml).checksums();
            assert_eq!((checksums.raw.as_str(), checksums.normal.as_str()), (raw, normal), "{up:?} {toml:?}");
        }
    }

    #[test]
    fn cosmetic_changes_leave_the_normal_checksum() {
        let original = version(Some(UP), Some(TOML));
        let table = [
            (UP.replace('\n', "\r\n"), TOML.replace('\n', "\r\n")),
            (UP.replace("-- Größe\n", "/* other */ "), TOML.replace("1.0", "1.0.0")),
            (UP.replace("CREATE TABLE", "create\n\ttable"), format!("# comment\n{TOML}")),
            (UP.replace("DEFAULT -1", "DEFAULT-1"), TOML.replace("[data]\nsql", "data.sql")),
        ];
        for (up, toml) in table {
            let changed = version(Some(&up), Some(&toml));
            assert_ne!(changed.raw_checksum(), original.raw_checksum(), "{up}\n{toml}");
            assert_eq!(changed.normal_checksum(), original.normal_checksum(), "{up}\n{toml}");
        }
    }

    #[test]
    fn changed_statements_and_declarations_change_the_normal_checksum() {
        let original = version(Some(UP), Some(TOML));
        let table = [
            (UP.replace("\"T\"", "\"t\""), TOML.to_owned()),
            (UP.replace("'X''y'", "'x''y'"), TOML.to_owned()),
            (UP.replace("A\nB", "A\n B"), TOML.to_owned()),
            (UP.replace("-1", "1"), TOML.to_owned()),
            (UP.replace("a int", "aint"), TOML.to_owned()),
            (format!("-- tandem:no-transaction\n{UP}"), TOML.to_owned()),
            (UP.to_owned(), TOML.replace("select 1", "select 2")),
            (UP.to_owned(), TOML.replace("compatible_from = 1", "compatible_from = 2")),
        ];
        for (up, toml) in table {
            let changed = version(Some(&up), Some(&toml));
            assert_ne!(changed.normal_checksum(), original.normal_checksum(), "{up}\n{toml}");
        }
    }

    #[test]
    fn variables_do_not_count() {
        let files = || {
            vec![
                ("tandem.toml".to_owned(), "application = 'a'".to_owned()),
                ("1_a.toml".to_owned(), "[[collection]]\nmatch = '${NAME}'".to_owned()),
            ]
        };
        let with = |value: &'static str| {
            let timeline = parse(Path::new("m"), files(), &|_| Some(value.to_owned())).unwrap();
            timeline.versions[0].checksums()
        };
        assert_eq!(with("one"), with("two"));
    }
}
