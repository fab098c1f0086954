//! What a version does to a catalog.

use super::{Catalog, Object, ObjectId};

/// The difference between two catalogs in full: applied to the one it gives the other, names and comments included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effects {
    /// `server_version_num` of the server that described the catalog after them.
    pub server: u32,
    pub added: Vec<(ObjectId, Object)>,
    /// As they are afterwards.
    pub changed: Vec<(ObjectId, Object)>,
    pub removed: Vec<ObjectId>,
}

/// What leads from one catalog to the other.
pub fn effects(before: &Catalog, after: &Catalog) -> Effects {
    let mut effects = Effects { server: after.server, ..Effects::default() };
    for (id, object) in &after.objects {
        match before.objects.get(id) {
            None => effects.added.push((id.clone(), object.clone())),
            Some(old) if old != object => effects.changed.push((id.clone(), object.clone())),
            Some(_) => {}
        }
    }
    effects.removed = before.objects.keys().filter(|id| !after.objects.contains_key(id)).cloned().collect();
    effects
}

impl Effects {
    /// Whether the catalog is the same before and after.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

impl Catalog {
    /// Makes the catalog what it is after a version.
    pub fn apply(&mut self, effects: &Effects) {
        self.server = effects.server;
        for id in &effects.removed {
            self.objects.remove(id);
        }
        for (id, object) in effects.added.iter().chain(&effects.changed) {
            self.objects.insert(id.clone(), object.clone());
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::compare;
    use super::super::tests::{catalog, column, constraint, table};
    use super::*;
    use proptest::prelude::*;

    /// Catalogs over a small world, so that two of them share objects, differ in some and lack others.
    pub fn any_catalog() -> impl Strategy<Value = Catalog> {
        let relation = prop::sample::select(vec!["t", "u", "v"]);
        let object = (relation, 0..8u8).prop_map(|(relation, which)| match which {
            0 => table(relation),
            1 => column(relation, "a", "text"),
            2 => column(relation, "a", "jsonb"),
            3 => column(relation, "b", "integer"),
            4 => constraint(relation, "one", "UNIQUE (a)"),
            5 => constraint(relation, "two", "UNIQUE (a)"),
            6 => constraint(relation, "key", "FOREIGN KEY (b) REFERENCES public.t(b)"),
            _ => constraint(relation, "key", "FOREIGN KEY (b) REFERENCES public.t(b) ON DELETE CASCADE"),
        });
        prop::collection::vec(object, 0..20).prop_map(catalog)
    }

    proptest! {
        #[test]
        fn effects_lead_from_one_catalog_to_the_other(before in any_catalog(), after in any_catalog()) {
            let mut catalog = before.clone();
            let effects = effects(&before, &after);
            catalog.apply(&effects);
            prop_assert_eq!(&catalog, &after);
            prop_assert!(super::effects(&catalog, &after).is_empty());
            prop_assert_eq!(effects.is_empty(), before == after);
        }

        #[test]
        fn equal_digests_are_proof_both_ways(a in any_catalog(), b in any_catalog()) {
            let equal = compare(&a, &b) == compare(&b, &a) && compare(&a, &b).is_proof();
            prop_assert_eq!(a.digest() == b.digest(), equal && compare(&a, &b).extra.is_empty());
            prop_assert!(compare(&a, &a).is_proof());
        }
    }
}
