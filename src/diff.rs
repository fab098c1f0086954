//! `tandem diff`: what changes between two versions, from the recorded catalogs and the declarations alone.

use crate::catalog::{Catalog, Expected, Kind, ObjectId, effects};
use crate::collection::{self, Schema};
use crate::error::Result;
use crate::operate::{Finding, Takes};
use crate::timeline::{CollectionDeclaration, Number, Timeline};
use crate::upgrade;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What changes from one version to another: `tandem diff --json`.
#[derive(Debug, PartialEq, Serialize)]
pub struct Diff {
    /// 0 is before the first version.
    pub from: Number,
    pub to: Number,
    /// The versions in between, in the direction of the way.
    pub versions: Vec<Between>,
    pub postgres: Objects,
    pub collections: Vec<Collection>,
}

/// A version on the way.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Between {
    pub version: Number,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// It has statements for rows: `[data]`, or rows that its SQL changes as `[[archive]]` says.
    pub changes_rows: bool,
    /// What it does to points, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fills: Vec<String>,
}

/// The objects of Postgres that differ.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Objects {
    pub added: Vec<Named>,
    pub removed: Vec<Named>,
    pub changed: Vec<Changed>,
}

/// A relation with its parts, or a part of a relation that stays.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    pub object: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
    /// `3 columns, 1 index`
    #[serde(skip)]
    counted: String,
}

/// An object that has two forms.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    pub object: String,
    pub from: String,
    pub to: String,
}

/// What becomes of the collections of one declaration.
#[derive(Debug, PartialEq, Serialize)]
pub struct Collection {
    #[serde(rename = "match")]
    pub matching: String,
    pub declared: Declared,
    /// What a collection that was as declared before has to change, held against the oldest server that is supported.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Finding>,
    /// Declared before and not any more, and left as it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undeclared: Vec<String>,
}

/// Whether both versions know the declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Declared {
    /// From now on.
    New,
    /// Before and after.
    Both,
    /// No longer: such collections are left as they are.
    NoLonger,
}

/// The version that `asked` means, or 0 for the beginning.
///
/// # Errors
/// 64 for a version that the timeline does not have.
pub fn version(timeline: &Timeline, asked: &str) -> Result<Number> {
    if asked.trim_start_matches('0').is_empty() && !asked.is_empty() {
        return Ok(0);
    }
    upgrade::resolve(timeline, asked, 0)
}

/// Holds two versions against each other.
pub fn diff(timeline: &Timeline, expected: &Expected, from: Number, to: Number) -> Diff {
    let (least, most) = (from.min(to), from.max(to));
    let mut versions: Vec<Between> = timeline
        .versions
        .iter()
        .filter(|version| version.number > least && version.number <= most)
        .map(|version| Between {
            version: version.number,
            name: version.name.clone(),
            release: version.release.clone(),
            changes_rows: version.data.is_some() || !version.archives.is_empty(),
            fills: version.fills.iter().map(ToString::to_string).collect(),
        })
        .collect();
    if from > to {
        versions.reverse();
    }
    let catalog = |number| expected.catalog_at(number).unwrap_or_default();
    Diff {
        from,
        to,
        versions,
        postgres: objects(&catalog(from), &catalog(to)),
        collections: collections(timeline.collections_at(from), timeline.collections_at(to)),
    }
}

fn objects(before: &Catalog, after: &Catalog) -> Objects {
    let effects = effects(before, after);
    let added: Vec<&ObjectId> = effects.added.iter().map(|(id, _)| id).collect();
    let changed = effects.changed.iter().filter_map(|(id, object)| {
        let old = before.objects.get(id)?;
        let (mut from, mut to) = (old.detail.comparable(), object.detail.comparable());
        if from == to {
            // A name that does not matter, or a comment.
            let comment = |comment: &Option<String>| match comment {
                Some(comment) => format!("comment {comment:?}"),
                None => "no comment".into(),
            };
            (from, to) = (comment(&old.comment), comment(&object.comment));
        }
        (from != to).then(|| Changed { object: id.to_string(), from, to })
    });
    Objects {
        added: grouped(&added),
        removed: grouped(&effects.removed.iter().collect::<Vec<_>>()),
        changed: changed.collect(),
    }
}

/// Relations with their parts; parts of other relations stand for themselves.
fn grouped(ids: &[&ObjectId]) -> Vec<Named> {
    let place = |id: &ObjectId| (id.schema.clone(), id.relation.clone());
    let mut parts: BTreeMap<(String, String), Vec<&ObjectId>> =
        ids.iter().filter(|id| id.kind.is_relation()).map(|id| (place(id), Vec::new())).collect();
    let mut roots = Vec::new();
    for id in ids {
        match parts.get_mut(&place(id)).filter(|_| id.is_part()) {
            Some(parts) => parts.push(id),
            None => roots.push(*id),
        }
    }
    let of = |id: &ObjectId| match id.kind.is_relation() {
        true => parts.get(&place(id)).map(Vec::as_slice).unwrap_or_default(),
        false => &[],
    };
    let named = |id: &&ObjectId| Named {
        object: id.to_string(),
        parts: of(id).iter().map(ToString::to_string).collect(),
        counted: counted(of(id)),
    };
    roots.iter().map(named).collect()
}

fn collections(before: &[CollectionDeclaration], after: &[CollectionDeclaration]) -> Vec<Collection> {
    let find = |declarations: &[CollectionDeclaration], matching: &str| {
        declarations.iter().position(|declaration| declaration.matching == matching)
    };
    let mut collections = Vec::new();
    for now in after {
        let Some(then) = find(before, &now.matching).map(|i| &before[i]) else {
            collections.push(Collection::whole(&now.matching, Declared::New, &now.schema));
            continue;
        };
        let found = Collection {
            matching: now.matching.clone(),
            declared: Declared::Both,
            differences: collection::between(then, now).iter().map(Finding::from).collect(),
            undeclared: dropped_declarations(then, now),
        };
        if !(found.differences.is_empty() && found.undeclared.is_empty()) {
            collections.push(found);
        }
    }
    for then in before.iter().filter(|then| find(after, &then.matching).is_none()) {
        collections.push(Collection::whole(&then.matching, Declared::NoLonger, &then.schema));
    }
    collections
}

/// What the older declaration says and the newer one does not, unless that has it removed.
fn dropped_declarations(then: &CollectionDeclaration, now: &CollectionDeclaration) -> Vec<String> {
    let (before, after) = (leaves(&then.schema), leaves(&now.schema));
    let removed = |path: &str| {
        let of = |section: &str| path.starts_with(section);
        now.undeclared.drop_vectors && (of("vectors.") || of("sparse_vectors."))
            || now.undeclared.drop_payload_indexes && of("payload_indexes.")
    };
    // Where a whole vector or index is gone, its fields need no line each.
    let gone = before.keys().filter(|path| !after.contains_key(*path) && !removed(path)).map(|path| {
        let mut names = path.splitn(3, '.');
        match (names.next(), names.next()) {
            (Some(section @ ("vectors" | "sparse_vectors" | "payload_indexes")), Some(name))
                if !after.keys().any(|kept| kept.starts_with(&format!("{section}.{name}."))) =>
            {
                format!("{section}.{name}")
            }
            _ => path.clone(),
        }
    });
    let mut gone: Vec<String> = gone.collect();
    gone.dedup();
    gone
}

/// A schema's leaves by their path.
fn leaves(schema: &Schema) -> BTreeMap<String, Value> {
    fn walk(path: &str, value: &Value, leaves: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    walk(&path, value, leaves);
                }
            }
            _ => drop(leaves.insert(path.to_owned(), value.clone())),
        }
    }
    let mut found = BTreeMap::new();
    walk("", &serde_json::to_value(schema).unwrap_or_default(), &mut found);
    found
}

impl Collection {
    fn whole(matching: &str, declared: Declared, schema: &Schema) -> Self {
        let all = || leaves(schema).into_iter();
        let differences = match declared {
            Declared::New => all()
                .map(|(path, value)| Finding {
                    path,
                    difference: value.to_string(),
                    takes: Takes::InPlace,
                    reason: None,
                    remedy: None,
                })
                .collect(),
            Declared::Both | Declared::NoLonger => Vec::new(),
        };
        let undeclared = match declared {
            Declared::NoLonger => all().map(|(path, _)| path).collect(),
            Declared::Both | Declared::New => Vec::new(),
        };
        Self { matching: matching.to_owned(), declared, differences, undeclared }
    }
}

impl Diff {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Between { version, name, release, changes_rows, fills } in &self.versions {
            let verb = if self.from <= self.to { "Version" } else { "Back from version" };
            let release = release.as_ref().map(|release| format!(", release {release}")).unwrap_or_default();
            let rows = if *changes_rows { "; changes rows" } else { "" };
            let _ = writeln!(text, "{verb} {version} ({name}{release}){rows}");
            for fill in fills {
                let _ = writeln!(text, "  {fill}");
            }
        }
        let Objects { added, removed, changed } = &self.postgres;
        let _ = writeln!(
            text,
            "Postgres: {}",
            match added.len() + removed.len() + changed.len() {
                0 => "nothing in the catalog".to_owned(),
                _ => format!("{} added, {} removed, {} changed", added.len(), removed.len(), changed.len()),
            }
        );
        for (sign, named) in [('+', added), ('-', removed)] {
            for Named { object, counted, .. } in named {
                let parts = if counted.is_empty() { String::new() } else { format!(" ({counted})") };
                let _ = writeln!(text, "  {sign} {object}{parts}");
            }
        }
        for Changed { object, from, to } in changed {
            let _ = writeln!(text, "  ~ {object}: {} → {}", outline(from), outline(to));
        }
        if self.collections.is_empty() {
            text.push_str("Collections: nothing\n");
        }
        for collection in &self.collections {
            text.push_str(&collection.text());
        }
        text
    }
}

impl Collection {
    fn text(&self) -> String {
        let mut text = format!("Collections {}: ", self.matching);
        text.push_str(match self.declared {
            Declared::New => "declared from here on\n",
            Declared::Both => "declared otherwise\n",
            Declared::NoLonger => "no longer declared, and left as they are\n",
        });
        for Finding { path, difference, takes, reason, .. } in &self.differences {
            let sign = if self.declared == Declared::New { '+' } else { '~' };
            let reason = reason.as_deref().unwrap_or_default();
            let takes = match takes {
                Takes::InPlace => String::new(),
                Takes::Rebuild => format!(" (needs a rebuild: {reason})"),
                Takes::NewVectors => format!(" (refused while there are points: {reason})"),
                Takes::NewerServer => format!(" ({reason})"),
            };
            let _ = writeln!(text, "  {sign} {path}: {difference}{takes}");
        }
        if self.declared == Declared::Both {
            for path in &self.undeclared {
                let _ = writeln!(text, "  - {path}: no longer declared, and left as it is");
            }
        }
        text
    }
}

fn counted(parts: &[&ObjectId]) -> String {
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    for part in parts {
        *kinds.entry(part.kind).or_default() += 1;
    }
    let kinds = kinds.into_iter().map(|(kind, n)| match (kind, n) {
        (Kind::Index, 2..) => format!("{n} indexes"),
        (Kind::Policy, 2..) => format!("{n} policies"),
        _ => crate::words::count(n, kind.word()),
    });
    kinds.collect::<Vec<_>>().join(", ")
}

/// A definition on one line, cut to what a person reads; `--json` has it whole.
fn outline(text: &str) -> String {
    const SHOWN: usize = 100;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::file::{load, parse};
    use std::path::Path;

    fn application() -> (Timeline, Expected) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        (load(&directory, &|_| None).unwrap(), Expected::load(&directory.join("catalog")).unwrap())
    }

    #[test]
    fn what_a_version_does_to_both_stores_is_told() {
        let (timeline, expected) = application();
        let text = diff(&timeline, &expected, 9, 11).text();
        for said in [
            "Version 10 (unban_audit_v1_0_29, release 1.0.29)\n",
            "Version 11 (channel_payload_indexes_v1_0_31, release 1.0.31)\n",
            "Postgres: 4 added, 0 removed, 0 changed\n",
            "  + column banned_users.unban_reason\n",
            "Collections whisperengine_memory: declared otherwise\n",
            "  ~ payload_indexes.channel_id: missing, declared keyword\n",
        ] {
            assert!(text.contains(said), "{said:?} is not in\n{text}");
        }
        let back = diff(&timeline, &expected, 11, 9).text();
        assert!(back.starts_with("Back from version 11 "), "{back}");
        for said in
            ["  - column banned_users.unban_reason\n", "  - payload_indexes.channel_id: no longer declared"]
        {
            assert!(back.contains(said), "{said:?} is not in\n{back}");
        }
        let first = diff(&timeline, &expected, 0, 1);
        assert!(
            first.text().contains("table characters (") && !first.text().contains("+ column"),
            "{}",
            first.text()
        );
        assert_eq!(first.collections[0].declared, Declared::New);
        let converted = diff(&timeline, &expected, 1, 14).text();
        assert!(converted.contains("column universal_users.preferences: text"), "{converted}");
    }

    #[test]
    fn forward_and_back_name_the_same_objects() {
        let (timeline, expected) = application();
        let numbers: Vec<Number> =
            [0].into_iter().chain(timeline.versions.iter().map(|v| v.number)).collect();
        for (i, from) in numbers.iter().enumerate() {
            for to in &numbers[i..] {
                let there = diff(&timeline, &expected, *from, *to);
                let back = diff(&timeline, &expected, *to, *from);
                assert_eq!(there.postgres.added, back.postgres.removed, "{from} {to}");
                assert_eq!(there.postgres.removed, back.postgres.added, "{from} {to}");
                assert_eq!(there.postgres.changed.len(), back.postgres.changed.len());
                assert_eq!(there.versions.len(), back.versions.len());
                if from == to {
                    assert_eq!(there.text(), "Postgres: nothing in the catalog\nCollections: nothing\n");
                }
            }
        }
    }

    #[test]
    fn a_version_is_named_by_number_or_release_and_zero_is_the_beginning() {
        let (timeline, _) = application();
        for (asked, number) in [
            ("0", Some(0)),
            ("0000", Some(0)),
            ("3", Some(3)),
            ("1.0.31", Some(11)),
            ("head", Some(14)),
            ("", None),
            ("99", None),
        ] {
            assert_eq!(version(&timeline, asked).ok(), number, "{asked}");
        }
    }

    #[test]
    fn what_a_collection_would_need_is_told_by_what_it_takes() {
        let declared = |text: &str| {
            let toml = format!("[[collection]]\nmatch = 'm'\n{text}");
            let files = [("tandem.toml", "application = 'a'"), ("1_a.toml", toml.as_str())];
            let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
            parse(Path::new("m"), files, &|_| None).unwrap().versions.remove(0).collections.unwrap()
        };
        let content = "vectors.content = { size = 4, distance = 'Cosine' }\n";
        for (before, after, said) in [
            ("", "hnsw_config.m = 24", "~ hnsw_config.m: not set, declared 24\n"),
            (
                content,
                "vectors.content = { size = 8, distance = 'Cosine' }",
                "refused while there are points",
            ),
            (content, "vectors.content = { size = 4, distance = 'Dot' }", "refused while there are points"),
            (content, &format!("{content}vectors.more.size = 4"), "needs a rebuild"),
            (content, "", "- vectors.content: no longer declared"),
            (
                content,
                "undeclared.vectors = 'drop'",
                "~ vectors.content: there, not declared (needs a rebuild",
            ),
            ("payload_indexes.k = 'keyword'", "payload_indexes.k = 'integer'", "keyword, declared integer\n"),
        ] {
            let found = collections(&declared(before), &declared(after));
            let text: String = found.iter().map(Collection::text).collect();
            assert!(text.contains(said), "{said:?} is not in\n{text}");
        }
        let none = collections(&declared(content), &[]);
        assert_eq!((none[0].declared, none[0].undeclared.len()), (Declared::NoLonger, 2));
        assert_eq!(collections(&declared(content), &declared(content)), []);
    }
}
