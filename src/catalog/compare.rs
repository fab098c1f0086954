//! What an actual catalog lacks of an expected one.

use super::feed::fed_as;
use super::normal::subject;
use super::{Catalog, Kind, Object, ObjectId};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The result of a comparison. Everything is sorted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// Expected and not there, the parts of a missing relation included.
    pub missing: Vec<ObjectId>,
    /// There, and not as expected.
    pub different: Vec<Different>,
    /// There and not expected; harmless. The parts of an extra relation are included.
    pub extra: Vec<ObjectId>,
}

/// An object that is there in another form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Different {
    /// As expected.
    pub id: ObjectId,
    /// In words and normal form.
    pub expected: String,
    pub found: String,
}

impl Difference {
    /// Whether the actual catalog has all of the expected one.
    pub fn is_proof(&self) -> bool {
        self.missing.is_empty() && self.different.is_empty()
    }

    /// Missing objects without the parts of missing relations.
    pub fn missing_roots(&self) -> impl Iterator<Item = &ObjectId> {
        roots(&self.missing)
    }

    /// The same as displayed, cut to what a person reads.
    pub fn outline(&self) -> String {
        const SHOWN: usize = 20;
        let text = self.to_string();
        let mut lines: Vec<&str> = text.lines().collect();
        if lines.len() <= SHOWN {
            return text;
        }
        // What is there in another form tells more than what is not there.
        lines.sort_by_key(|line| !line.starts_with("different"));
        format!("{}\nand {} lines more", lines[..SHOWN].join("\n"), lines.len() - SHOWN)
    }

    /// Extra objects without the parts of extra relations.
    pub fn extra_roots(&self) -> impl Iterator<Item = &ObjectId> {
        roots(&self.extra)
    }
}

fn roots(ids: &[ObjectId]) -> impl Iterator<Item = &ObjectId> {
    let relations: BTreeSet<(&str, &str)> = ids
        .iter()
        .filter(|id| id.kind.is_relation())
        .map(|id| (id.schema.as_str(), id.relation.as_str()))
        .collect();
    ids.iter()
        .filter(move |id| !id.is_part() || !relations.contains(&(id.schema.as_str(), id.relation.as_str())))
}

/// Compares what is there with what should be. Linear in both.
///
/// A missing constraint or index beside an extra one over the same columns is reported as different, and so is a
/// relation that is there as another kind.
pub fn compare(actual: &Catalog, expected: &Catalog) -> Difference {
    let difference = compare_as_told(actual, expected);
    if difference.missing.iter().any(|id| id.kind == Kind::Sequence)
        && let Some(told) = fed_as(actual, expected.objects.iter())
    {
        return compare_as_told(&told, expected);
    }
    difference
}

fn compare_as_told(actual: &Catalog, expected: &Catalog) -> Difference {
    let across = !same_major(actual.server, expected.server);
    let mut difference = Difference::default();
    for (id, found, wanted) in side_by_side(actual, expected) {
        match (found, wanted) {
            (None, _) => difference.missing.push(id.clone()),
            (_, None) => difference.extra.push(id.clone()),
            (Some(found), Some(wanted)) if found.detail.stands_for(&wanted.detail, across) => {}
            (Some(found), Some(wanted)) => difference.different.push(Different {
                id: id.clone(),
                expected: wanted.detail.comparable(),
                found: found.detail.comparable(),
            }),
        }
    }
    pair_variants(&mut difference);
    difference
}

/// The objects of two catalogs in one order, without looking any of them up.
pub fn side_by_side<'a>(
    one: &'a Catalog,
    other: &'a Catalog,
) -> impl Iterator<Item = (&'a ObjectId, Option<&'a Object>, Option<&'a Object>)> {
    let (mut ones, mut others) = (one.objects.iter().peekable(), other.objects.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (ones.peek(), others.peek()) {
            (Some((a, _)), Some((b, _))) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        let one = if order.is_le() { ones.next() } else { None };
        let other = if order.is_ge() { others.next() } else { None };
        let id = one.or(other).map(|(id, _)| id)?;
        Some((id, one.map(|(_, object)| object), other.map(|(_, object)| object)))
    })
}

/// Whether two servers, by their `server_version_num`, print alike.
pub(super) fn same_major(a: u32, b: u32) -> bool {
    a / 10_000 == b / 10_000
}

/// Moves what is missing in one form and extra in another to what is different.
fn pair_variants(difference: &mut Difference) {
    type Place = (String, String, Kind, String);
    let place = |id: &ObjectId| -> Option<Place> {
        let (kind, subject) = match id.kind {
            // A relation has its name for itself, whatever it is.
            kind if kind.is_relation() => (Kind::Table, ""),
            kind @ (Kind::Constraint | Kind::Index) if !id.name.starts_with("CHECK") => {
                (kind, subject(&id.name))
            }
            _ => return None,
        };
        Some((id.schema.clone(), id.relation.clone(), kind, subject.to_owned()))
    };
    if difference.missing.is_empty() || difference.extra.is_empty() {
        return;
    }
    let mut extras: BTreeMap<Place, Vec<&ObjectId>> = BTreeMap::new();
    for id in difference.extra.iter().rev() {
        if let Some(place) = place(id) {
            extras.entry(place).or_default().push(id);
        }
    }
    let mut paired: BTreeSet<ObjectId> = BTreeSet::new();
    for id in &difference.missing {
        let Some(found) = place(id).and_then(|place| extras.get_mut(&place)?.pop()) else { continue };
        let describe = |id: &ObjectId| match id.kind {
            kind if kind.is_relation() => kind.word().to_owned(),
            _ => id.name.clone(),
        };
        difference.different.push(Different {
            id: id.clone(),
            expected: describe(id),
            found: describe(found),
        });
        paired.insert(id.clone());
        paired.insert(found.clone());
    }
    difference.missing.retain(|id| !paired.contains(id));
    difference.extra.retain(|id| !paired.contains(id));
    difference.different.sort_by(|a, b| a.id.cmp(&b.id));
}

/// A list for people: what is missing, what is different, and how much is extra.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_proof() {
            f.write_str("nothing is missing or different")?;
        }
        let mut first = true;
        let mut line = |f: &mut fmt::Formatter<'_>| {
            let separator = if first { "" } else { "\n" };
            first = false;
            f.write_str(separator)
        };
        for id in self.missing_roots() {
            line(f)?;
            write!(f, "missing: {id}")?;
        }
        for Different { id, expected, found } in &self.different {
            line(f)?;
            write!(f, "different: {id}: expected {expected}; found {found}")?;
        }
        match self.extra_roots().count() {
            0 => Ok(()),
            1 => f.write_str("\n1 object more, which is harmless"),
            extra => write!(f, "\n{extra} objects more, which are harmless"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{catalog, column, constraint, table};
    use super::*;
    use crate::catalog::{Detail, View};

    #[test]
    fn a_catalog_proves_itself() {
        let one = catalog([table("t"), column("t", "a", "text"), constraint("t", "p", "PRIMARY KEY (a)")]);
        let difference = compare(&one, &one);
        assert!(difference.is_proof());
        assert_eq!(difference, Difference::default());
    }

    #[test]
    fn what_the_user_added_is_extra_and_no_failure() {
        let expected = catalog([table("t"), column("t", "a", "text")]);
        let actual = catalog([
            table("t"),
            column("t", "a", "text"),
            column("t", "mine", "text"),
            table("u"),
            column("u", "b", "text"),
        ]);
        let difference = compare(&actual, &expected);
        assert!(difference.is_proof());
        assert_eq!(difference.extra.len(), 3);
        let roots: Vec<String> = difference.extra_roots().map(ToString::to_string).collect();
        assert_eq!(roots, ["column t.mine", "table u"]);
        assert_eq!(compare(&expected, &actual).missing.len(), 3);
    }

    #[test]
    fn a_missing_table_stands_for_its_parts() {
        let expected = catalog([table("t"), column("t", "a", "text"), column("u", "b", "text")]);
        let difference = compare(&catalog([]), &expected);
        assert_eq!(difference.missing.len(), 3);
        assert_eq!(difference.to_string(), "missing: table t\nmissing: column u.b");
    }

    #[test]
    fn another_type_is_different() {
        let difference = compare(&catalog([column("t", "a", "text")]), &catalog([column("t", "a", "jsonb")]));
        assert!(!difference.is_proof());
        assert_eq!(difference.to_string(), "different: column t.a: expected jsonb; found text");
    }

    #[test]
    fn another_action_of_a_foreign_key_is_different_and_not_missing() {
        let key = "FOREIGN KEY (a) REFERENCES public.x(id)";
        let expected = catalog([constraint("t", "f", &format!("{key} ON DELETE CASCADE"))]);
        let difference = compare(&catalog([constraint("t", "f", key)]), &expected);
        assert_eq!(
            difference.to_string(),
            format!("different: {key} ON DELETE CASCADE on t: expected {key} ON DELETE CASCADE; found {key}")
        );
        assert!(!difference.is_proof());
        assert!(difference.extra.is_empty());
    }

    #[test]
    fn a_view_in_the_place_of_a_table_is_different() {
        let view = View { columns: vec![], reads: vec![], definition: "SELECT 1".to_owned(), options: None };
        let actual =
            catalog([(ObjectId::relation(Kind::View, "public", "t"), Object::new(Detail::View(view)))]);
        let difference = compare(&actual, &catalog([table("t")]));
        assert_eq!(difference.to_string(), "different: table t: expected table; found view");
    }

    #[test]
    fn true_duplicates_count() {
        let one = || constraint("t", "a", "UNIQUE (a)");
        let two = || constraint("t", "b", "UNIQUE (a)");
        let difference = compare(&catalog([one()]), &catalog([one(), two()]));
        assert_eq!(difference.missing.len(), 1);
        assert!(compare(&catalog([one(), two()]), &catalog([two()])).is_proof());
    }
}
