//! Objects that real databases of a version may lack: the version's `[optional]`.

use super::{Catalog, Detail, Difference, Kind, Object, ObjectId, compare};
use std::collections::{BTreeMap, BTreeSet};

/// The names of one version's `[optional]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Optional(BTreeMap<String, BTreeSet<String>>);

impl Optional {
    /// Names nothing.
    pub const NOTHING: Self = Self(BTreeMap::new());

    /// From kind (`functions`, `tables`, …) → names, as a version's TOML has them.
    pub fn new(names: &BTreeMap<String, Vec<String>>) -> Self {
        Self(names.iter().map(|(kind, names)| (kind.clone(), names.iter().cloned().collect())).collect())
    }

    /// Names nothing.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(BTreeSet::is_empty)
    }

    /// Does it name this object? A name may carry its schema, that of a part its relation, that of a function its argument
    /// types.
    pub fn names(&self, id: &ObjectId, object: &Object) -> bool {
        let of = |kind: &str| self.0.get(kind);
        match id.kind {
            Kind::Table => of("tables").is_some_and(|names| any(names, &id.schema, &[&id.relation])),
            Kind::View | Kind::MaterializedView => {
                of("views").is_some_and(|names| any(names, &id.schema, &[&id.relation]))
            }
            Kind::Extension => of("extensions").is_some_and(|names| names.contains(&id.name)),
            Kind::Enum => of("enums").is_some_and(|names| any(names, &id.schema, &[&id.name])),
            Kind::Function => {
                let bare = id.name.split('(').next().unwrap_or(&id.name);
                of("functions").is_some_and(|names| any(names, &id.schema, &[bare, &id.name]))
            }
            Kind::Column => of("columns").is_some_and(|names| any(names, &id.schema, &[&part(id, &id.name)])),
            Kind::Constraint | Kind::Index | Kind::Trigger | Kind::Sequence => {
                let kind = match id.kind {
                    Kind::Constraint => "constraints",
                    Kind::Index => "indexes",
                    Kind::Trigger => "triggers",
                    _ => "sequences",
                };
                let name = match &object.detail {
                    Detail::Constraint(constraint) => &constraint.name,
                    Detail::Index(index) => &index.name,
                    Detail::Sequence(sequence) => &sequence.name,
                    _ => &id.name,
                };
                of(kind).is_some_and(|names| any(names, &id.schema, &[name, &part(id, name)]))
            }
            Kind::Domain | Kind::Composite | Kind::Range | Kind::RowSecurity | Kind::Policy => false,
        }
    }

    /// Does it name this object, or the relation that the object is part of?
    pub fn covers(&self, id: &ObjectId, object: &Object) -> bool {
        let whole = |kind| self.names(&ObjectId::relation(kind, &*id.schema, &*id.relation), object);
        self.names(id, object) || id.is_part() && (whole(Kind::Table) || whole(Kind::View))
    }
}

fn part(id: &ObjectId, name: &str) -> String {
    format!("{}.{name}", id.relation)
}

fn any(names: &BTreeSet<String>, schema: &str, candidates: &[&str]) -> bool {
    candidates.iter().any(|name| names.contains(*name) || names.contains(&format!("{schema}.{name}")))
}

/// Compares what is there with what should be, where some of it may be missing: a relation with all of its parts, or a
/// part on its own if it is named on its own.
pub fn compare_leniently(actual: &Catalog, expected: &Catalog, optional: &Optional) -> Difference {
    let mut difference = compare(actual, expected);
    if difference.missing.is_empty() || optional.is_empty() {
        return difference;
    }
    let relations: BTreeSet<(String, String)> = difference
        .missing
        .iter()
        .filter(|id| id.kind.is_relation())
        .map(|id| (id.schema.clone(), id.relation.clone()))
        .collect();
    difference.missing.retain(|id| {
        let Some(object) = expected.objects.get(id) else { return true };
        let whole = id.is_part() && relations.contains(&(id.schema.clone(), id.relation.clone()));
        !(optional.names(id, object) || whole && optional.covers(id, object))
    });
    difference
}

#[cfg(test)]
mod tests {
    use super::super::tests::{catalog, column, constraint, table};
    use super::*;

    fn optional(kind: &str, name: &str) -> Optional {
        Optional::new(&BTreeMap::from([(kind.to_owned(), vec![name.to_owned()])]))
    }

    #[test]
    fn an_optional_table_may_be_missing_whole_and_not_in_part() {
        let expected = catalog([
            table("t"),
            column("t", "a", "text"),
            constraint("t", "t_pkey", "PRIMARY KEY (a)"),
            table("u"),
        ]);
        let optional = optional("tables", "t");
        assert!(compare_leniently(&catalog([table("u")]), &expected, &optional).is_proof());
        assert!(!compare_leniently(&catalog([table("t"), table("u")]), &expected, &optional).is_proof());
        assert!(!compare_leniently(&catalog([table("t")]), &expected, &optional).is_proof());
        let other = catalog([table("t"), column("t", "a", "jsonb"), table("u")]);
        assert!(!compare_leniently(&other, &expected, &optional).is_proof());
    }

    #[test]
    fn a_name_may_say_where_the_object_is() {
        let (id, object) = column("t", "a", "text");
        let expected = catalog([(id, object), constraint("t", "only", "UNIQUE (a)")]);
        let actual = catalog([]);
        for (kind, name, missing) in [
            ("columns", "t.a", 1),
            ("columns", "public.t.a", 1),
            ("columns", "a", 2),
            ("columns", "app.t.a", 2),
            ("constraints", "only", 1),
            ("constraints", "public.t.only", 1),
            ("indexes", "only", 2),
        ] {
            let found = compare_leniently(&actual, &expected, &optional(kind, name));
            assert_eq!(found.missing.len(), missing, "{kind} {name}");
        }
    }
}
