//! Which version a catalog looks like: counts for every version at once.

use super::compare::same_major;
use super::{Catalog, Expected, Kind, Object, ObjectId};
use crate::timeline::Number;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How an actual catalog compares with the expected catalog of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resemblance {
    pub number: Number,
    /// Objects that are as expected.
    pub matched: usize,
    pub missing: usize,
    pub different: usize,
    /// Objects that are there and belong to other versions, not to this one.
    pub leftover: usize,
    /// Objects that are there and belong to no version: the user's own. The same for every version.
    pub extra: usize,
}

impl Resemblance {
    /// Whether the catalog has all of this version.
    pub fn is_proof(&self) -> bool {
        self.missing == 0 && self.different == 0
    }

    /// Whether the catalog is this version and no other, the user's own objects aside.
    pub fn is_exact(&self) -> bool {
        self.is_proof() && self.leftover == 0
    }
}

/// Compares with every version in the order of the timeline, in time linear in the catalog and all effects.
pub fn resemble(actual: &Catalog, expected: &Expected) -> Vec<Resemblance> {
    let mut walk = Walk { actual, known: HashMap::new(), matched: 0, missing: 0, different: 0 };
    let mut counts = Vec::with_capacity(expected.index.versions.len());
    let candidates = optional_ids(expected);
    for (at, version) in expected.index.versions.iter().enumerate() {
        if at == 0 {
            for (id, object) in &expected.baseline.objects {
                walk.put(id, object, expected.baseline.server);
            }
        } else if let Some(effects) = expected.effects.get(&version.number) {
            for id in &effects.removed {
                walk.remove(id);
            }
            for (id, object) in effects.added.iter().chain(&effects.changed) {
                walk.put(id, object, effects.server);
            }
        }
        let forgiven =
            candidates.get(&version.number).map_or(0, |ids| walk.forgiven(ids, expected, version.number));
        counts.push((version.number, walk.matched, walk.missing, walk.different, forgiven));
    }
    // Every id that any version has is known now.
    let present = walk.known.values().filter(|known| known.found.is_some()).count();
    let resemblance = |(number, matched, missing, different, forgiven)| Resemblance {
        number,
        matched,
        missing: missing - forgiven,
        different,
        leftover: present - matched - different,
        extra: actual.objects.len() - present,
    };
    counts.into_iter().map(resemblance).collect()
}

/// For each version with `[optional]`, the objects of any version that it covers.
fn optional_ids(expected: &Expected) -> BTreeMap<Number, Vec<(&ObjectId, &Object)>> {
    let mut ids: BTreeMap<Number, Vec<(&ObjectId, &Object)>> = BTreeMap::new();
    if expected.optional.is_empty() {
        return ids;
    }
    let added = expected.effects.values().flat_map(|e| &e.added).map(|(id, object)| (id, object));
    for (id, object) in expected.baseline.objects.iter().chain(added) {
        for (number, _) in expected.optional.iter().filter(|(_, optional)| optional.covers(id, object)) {
            ids.entry(*number).or_default().push((id, object));
        }
    }
    ids
}

/// An object of some version.
struct Known<'a> {
    /// As it is in the actual catalog.
    found: Option<&'a Object>,
    /// In the version that the walk has reached, if it has it.
    state: Option<State>,
}

#[derive(Clone, Copy)]
enum State {
    Matched,
    Missing,
    Different,
}

struct Walk<'a> {
    actual: &'a Catalog,
    known: HashMap<&'a ObjectId, Known<'a>>,
    matched: usize,
    missing: usize,
    different: usize,
}

impl<'a> Walk<'a> {
    fn put(&mut self, id: &'a ObjectId, wanted: &'a Object, server: u32) {
        let actual = self.actual;
        let known =
            self.known.entry(id).or_insert_with(|| Known { found: actual.objects.get(id), state: None });
        let state = match known.found {
            None => State::Missing,
            Some(found) if found.detail.stands_for(&wanted.detail, !same_major(actual.server, server)) => {
                State::Matched
            }
            Some(_) => State::Different,
        };
        let before = known.state.replace(state);
        self.discount(before);
        *self.count(state) += 1;
    }

    fn remove(&mut self, id: &ObjectId) {
        let before = self.known.get_mut(id).and_then(|known| known.state.take());
        self.discount(before);
    }

    /// How many of the missing objects the version's databases may lack: those that are named, and the parts of a named
    /// relation that is missing itself.
    fn forgiven(&self, ids: &[(&ObjectId, &Object)], expected: &Expected, number: Number) -> usize {
        let optional = expected.optional_at(number);
        let missing =
            |id: &ObjectId| matches!(self.known.get(id).and_then(|known| known.state), Some(State::Missing));
        let relation_missing = |id: &ObjectId| {
            [Kind::Table, Kind::View, Kind::MaterializedView]
                .into_iter()
                .any(|kind| missing(&ObjectId::relation(kind, &*id.schema, &*id.relation)))
        };
        let mut distinct = BTreeSet::new();
        ids.iter()
            .filter(|(id, object)| {
                missing(id) && (optional.names(id, object) || relation_missing(id)) && distinct.insert(*id)
            })
            .count()
    }

    fn discount(&mut self, state: Option<State>) {
        if let Some(state) = state {
            *self.count(state) -= 1;
        }
    }

    fn count(&mut self, state: State) -> &mut usize {
        match state {
            State::Matched => &mut self.matched,
            State::Missing => &mut self.missing,
            State::Different => &mut self.different,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::compare;
    use super::super::effects::tests::any_catalog;
    use super::super::tests::{catalog, column, table};
    use super::*;
    use proptest::prelude::*;

    fn expected(catalogs: &[Catalog]) -> Expected {
        let versions = catalogs.iter().zip(1..);
        Expected::from_catalogs(
            "app",
            versions.map(|(catalog, number)| (number, "v".to_owned(), "c".to_owned(), catalog.clone())),
        )
    }

    #[test]
    fn a_version_is_known_by_what_it_added_and_dropped() {
        let one = catalog([table("t"), column("t", "old", "text")]);
        let two = catalog([table("t"), column("t", "new", "text")]);
        let timeline = expected(&[one.clone(), two]);
        let mut actual = one;
        let (id, object) = column("t", "mine", "text");
        actual.insert(id, object);
        let [first, second] = resemble(&actual, &timeline)[..] else { panic!("two versions") };
        assert!(first.is_exact());
        assert_eq!(
            first,
            Resemblance { number: 1, matched: 2, missing: 0, different: 0, leftover: 0, extra: 1 }
        );
        assert_eq!(
            second,
            Resemblance { number: 2, matched: 1, missing: 1, different: 0, leftover: 1, extra: 1 }
        );
    }

    proptest! {
        #[test]
        fn counting_along_the_timeline_equals_comparing_with_each_version(
            actual in any_catalog(),
            catalogs in prop::collection::vec(any_catalog(), 1..6),
        ) {
            for (resemblance, catalog) in resemble(&actual, &expected(&catalogs)).iter().zip(&catalogs) {
                let difference = compare(&actual, catalog);
                prop_assert_eq!(resemblance.is_proof(), difference.is_proof());
                prop_assert_eq!(resemblance.matched + resemblance.missing + resemblance.different, catalog.objects.len());
                let unexpected = actual.objects.keys().filter(|id| !catalog.objects.contains_key(id)).count();
                prop_assert_eq!(resemblance.leftover + resemblance.extra, unexpected);
                prop_assert_eq!(resemblance.is_exact(), difference.is_proof() && resemblance.leftover == 0);
            }
        }
    }
}
