//! Catalogs and effects as JSON: one object a line, sorted, so that a change of the schema reads well in a diff.

use super::{Catalog, Detail, Effects, Object, ObjectId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An object on its line. Borrowed for writing, owned for reading.
#[derive(Serialize, Deserialize)]
struct Line<Text, Is> {
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    schema: Option<Text>,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    relation: Option<Text>,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    name: Option<Text>,
    #[serde(default, skip_serializing_if = "is_zero")]
    occurrence: u32,
    is: Is,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    comment: Option<Text>,
}

#[derive(Deserialize)]
struct CatalogFile {
    server: u32,
    objects: Vec<Line<String, Detail>>,
}

#[derive(Deserialize)]
struct EffectsFile {
    server: u32,
    added: Vec<Line<String, Detail>>,
    changed: Vec<Line<String, Detail>>,
    removed: Vec<Line<String, super::Kind>>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Catalog {
    /// The whole catalog, to be kept.
    pub fn to_json(&self) -> String {
        let mut text = format!("{{\"server\":{},\"objects\":[", self.server);
        push_lines(&mut text, self.objects.iter().map(|(id, object)| whole(id, object)));
        text.push_str("]}\n");
        text
    }

    /// What [`to_json`](Self::to_json) wrote.
    pub fn from_json(text: &str) -> serde_json::Result<Self> {
        let file: CatalogFile = serde_json::from_str(text)?;
        Ok(Self {
            server: file.server,
            objects: file.objects.into_iter().map(entry).collect::<BTreeMap<_, _>>(),
        })
    }
}

impl Effects {
    /// The effects, to be kept.
    pub fn to_json(&self) -> String {
        let mut text = format!("{{\"server\":{},\n\"added\":[", self.server);
        push_lines(&mut text, self.added.iter().map(|(id, object)| whole(id, object)));
        text.push_str("],\n\"changed\":[");
        push_lines(&mut text, self.changed.iter().map(|(id, object)| whole(id, object)));
        text.push_str("],\n\"removed\":[");
        push_lines(&mut text, self.removed.iter().map(|id| line(id, id.kind, None)));
        text.push_str("]}\n");
        text
    }

    /// What [`to_json`](Self::to_json) wrote.
    pub fn from_json(text: &str) -> serde_json::Result<Self> {
        let file: EffectsFile = serde_json::from_str(text)?;
        Ok(Self {
            server: file.server,
            added: file.added.into_iter().map(entry).collect(),
            changed: file.changed.into_iter().map(entry).collect(),
            removed: file.removed.into_iter().map(|line| line.id(line.is)).collect(),
        })
    }
}

impl<Is> Line<String, Is> {
    fn id(&self, kind: super::Kind) -> ObjectId {
        ObjectId {
            schema: self.schema.clone().unwrap_or_default(),
            relation: self.relation.clone().unwrap_or_default(),
            kind,
            name: self.name.clone().unwrap_or_default(),
            occurrence: self.occurrence,
        }
    }
}

fn entry(line: Line<String, Detail>) -> (ObjectId, Object) {
    (line.id(line.is.kind()), Object { detail: line.is, comment: line.comment })
}

fn whole<'a>(id: &'a ObjectId, object: &'a Object) -> Line<&'a str, &'a Detail> {
    line(id, &object.detail, object.comment.as_deref())
}

fn line<'a, Is>(id: &'a ObjectId, is: Is, comment: Option<&'a str>) -> Line<&'a str, Is> {
    let filled = |text: &'a str| (!text.is_empty()).then_some(text);
    Line {
        schema: filled(&id.schema),
        relation: filled(&id.relation),
        name: filled(&id.name),
        occurrence: id.occurrence,
        is,
        comment,
    }
}

fn push_lines<Is: Serialize>(text: &mut String, lines: impl Iterator<Item = Line<impl Serialize, Is>>) {
    for (at, line) in lines.enumerate() {
        text.push_str(if at == 0 { "\n" } else { ",\n" });
        // Strings, numbers and maps with string keys always have a JSON form.
        text.push_str(&serde_json::to_string(&line).expect("an object has a JSON form"));
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::effects;
    use super::super::effects::tests::any_catalog;
    use super::super::tests::{catalog, column, table};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_object_has_a_line() {
        let text = catalog([table("t"), column("t", "a", "text")]).to_json();
        assert_eq!(
            text,
            "{\"server\":160000,\"objects\":[\n\
             {\"schema\":\"public\",\"relation\":\"t\",\"is\":{\"table\":{}}},\n\
             {\"schema\":\"public\",\"relation\":\"t\",\"name\":\"a\",\"is\":{\"column\":{\"position\":0,\"type\":\"text\"}}}\n\
             ]}\n"
        );
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(a in any_catalog(), b in any_catalog()) {
            prop_assert_eq!(&Catalog::from_json(&a.to_json()).unwrap(), &a);
            let effects = effects(&a, &b);
            prop_assert_eq!(Effects::from_json(&effects.to_json()).unwrap(), effects);
        }
    }
}
