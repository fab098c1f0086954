//! What a version must not do in passing: lose objects that it does not drop, and change or delete rows that nothing keeps.
//!
//! Rows are watched through the server's own counters of this transaction. They are not yet reported ones, so they may hold
//! those of transactions right before: the difference from the beginning of the version counts.

use super::session::{identifier, literal};
use crate::catalog::{Catalog, Detail, Effects, Kind, ObjectId};
use crate::timeline::{Settings, Version};
use std::collections::BTreeSet;

/// The statements before and after those of a version that make the transaction fail if it updates or deletes rows without
/// an `[[archive]]`. Both are empty for the first version, which meets no rows.
///
/// Not undeclared are: rows of tables that the version makes, those that the archive keeps anyway because the table or one of its
/// columns is dropped or converted, and updates of a table that gets a column, which has to be filled.
pub fn watch(settings: &Settings, version: &Version, effects: Option<&Effects>) -> (String, String) {
    let Some(effects) = effects else { return Default::default() };
    let table = |id: &ObjectId| format!("{}.{}", identifier(&id.schema), identifier(&id.relation));
    let mut kept: BTreeSet<String> = version.archives.iter().map(|archive| archive.table.clone()).collect();
    let parts = effects.removed.iter().filter(|id| matches!(id.kind, Kind::Table | Kind::Column));
    kept.extend(parts.map(table));
    let columns = |objects: &[(ObjectId, crate::catalog::Object)]| -> BTreeSet<String> {
        objects.iter().filter(|(id, _)| id.kind == Kind::Column).map(|(id, _)| table(id)).collect()
    };
    let filled = columns(&effects.added);
    // A changed type is among them; a changed default needs no rows.
    kept.extend(columns(&effects.changed));
    let array = |names: &BTreeSet<String>| {
        format!(
            "array[{}]::pg_catalog.text[]",
            names.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ")
        )
    };
    let schemas = settings.schemas.iter().map(|schema| literal(schema)).collect::<Vec<_>>().join(", ");
    let oids = |names: &BTreeSet<String>| {
        format!(
            "(select pg_catalog.json_agg(c.oid::bigint) from pg_catalog.unnest({}) as name join pg_catalog.pg_class c on c.oid = pg_catalog.to_regclass(name))",
            array(names)
        )
    };
    let before = format!(
        "select pg_catalog.set_config('tandem.watched', pg_catalog.json_build_object(\
           'kept', {}, 'filled', {}, \
           'tables', (select pg_catalog.json_object_agg(relid, pg_catalog.json_build_array(n_tup_upd, n_tup_del)) \
                      from pg_catalog.pg_stat_xact_user_tables where schemaname in ({schemas})))::text, true);",
        oids(&kept),
        oids(&filled),
    );
    // A table that was not there before is the version's own. Rows of a partition belong to the partitioned table.
    let after = format!(
        "do $tandem$ declare watched json := pg_catalog.current_setting('tandem.watched')::json; undeclared text; begin \
         select pg_catalog.string_agg(pg_catalog.format('%s (%s updated, %s deleted)', t.name, t.updated, t.deleted), ', ' order by t.name) into undeclared \
         from (select s.schemaname || '.' || s.relname as name, \
                 s.n_tup_upd - (b.counted ->> 0)::bigint as updated, s.n_tup_del - (b.counted ->> 1)::bigint as deleted, \
                 array(select s.relid::bigint union select a::oid::bigint from pg_catalog.pg_partition_ancestors(s.relid) a) as relations \
               from pg_catalog.pg_stat_xact_user_tables s \
               cross join lateral (select watched -> 'tables' -> s.relid::text as counted) b \
               where s.schemaname in ({schemas}) and b.counted is not null) t \
         where (t.updated > 0 or t.deleted > 0) \
           and not exists (select from pg_catalog.json_array_elements_text(coalesce(nullif((watched -> 'kept')::text, 'null'), '[]')::json) k where k::bigint = any (t.relations)) \
           and not (t.deleted = 0 and exists (select from pg_catalog.json_array_elements_text(coalesce(nullif((watched -> 'filled')::text, 'null'), '[]')::json) k where k::bigint = any (t.relations))); \
         if undeclared is not null then raise exception using errcode = 'TD002', \
           message = 'rows were updated or deleted that the archive does not keep: ' || undeclared, \
           hint = 'declare them in the version''s TOML: [[archive]] with table and where'; end if; end $tandem$;"
    );
    (before, after)
}

/// What was there before, is not dropped by the versions that ran, and is gone.
///
/// What belongs to a dropped relation goes with it: the archive keeps its rows whole. A constraint or index of another
/// structure and the same name is the same one on a changed column.
pub fn lost(before: &Catalog, after: &Catalog, effects: &[&Effects]) -> Vec<ObjectId> {
    let removed: BTreeSet<&ObjectId> = effects.iter().flat_map(|effects| &effects.removed).collect();
    let relation_removed = |id: &ObjectId| {
        [Kind::Table, Kind::View, Kind::MaterializedView]
            .into_iter()
            .any(|kind| removed.contains(&ObjectId::relation(kind, &*id.schema, &*id.relation)))
    };
    let name = |detail: &Detail| match detail {
        Detail::Constraint(constraint) => Some(constraint.name.clone()),
        Detail::Index(index) => Some(index.name.clone()),
        _ => None,
    };
    let renamed = |id: &ObjectId, detail: &Detail| {
        name(detail).is_some_and(|wanted| {
            after.objects.iter().any(|(other, object)| {
                (other.kind, &other.schema, &other.relation) == (id.kind, &id.schema, &id.relation)
                    && name(&object.detail).as_ref() == Some(&wanted)
            })
        })
    };
    let explained = |id: &ObjectId, detail: &Detail| {
        removed.contains(id) || id.is_part() && relation_removed(id) || renamed(id, detail)
    };
    before
        .objects
        .iter()
        .filter(|(id, object)| !after.objects.contains_key(id) && !explained(id, &object.detail))
        .map(|(id, _)| id.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Column, IndexDefinition, Object, Table, effects};

    fn table(relation: &str) -> (ObjectId, Object) {
        (ObjectId::relation(Kind::Table, "public", relation), Object::new(Detail::Table(Table::default())))
    }

    fn column(relation: &str, name: &str) -> (ObjectId, Object) {
        let detail = Detail::Column(Column { data_type: "text".into(), ..Column::default() });
        (ObjectId::part(Kind::Column, "public", relation, name), Object::new(detail))
    }

    fn index(relation: &str, name: &str, structure: &str) -> (ObjectId, Object) {
        let detail = IndexDefinition { name: name.into(), definition: structure.into(), invalid: false };
        (ObjectId::part(Kind::Index, "public", relation, structure), Object::new(Detail::Index(detail)))
    }

    fn catalog(objects: Vec<(ObjectId, Object)>) -> Catalog {
        Catalog { server: 160_000, objects: objects.into_iter().collect() }
    }

    #[test]
    fn what_no_version_drops_is_missed_when_it_is_gone() {
        let before =
            catalog(vec![table("t"), column("t", "a"), column("t", "b"), table("u"), column("u", "a")]);
        let after = catalog(vec![table("t"), column("t", "b")]);
        let recorded = effects(&before, &catalog(vec![table("t"), column("t", "b"), column("t", "a")]));
        let gone: Vec<String> = lost(&before, &after, &[&recorded]).iter().map(ToString::to_string).collect();
        assert_eq!(gone, ["column t.a"]);
        assert_eq!(lost(&before, &before, &[]), []);
        assert_eq!(lost(&before, &after, &[]).len(), 3);
    }

    #[test]
    fn what_goes_with_its_relation_or_follows_a_renamed_column_is_not_lost() {
        let mine = || column("t", "mine");
        let before =
            catalog(vec![table("t"), column("t", "a"), mine(), table("u"), index("u", "i", "btree(a)")]);
        let after = catalog(vec![table("u"), index("u", "i", "btree(b)")]);
        let dropped = Effects { removed: vec![table("t").0, column("t", "a").0], ..Effects::default() };
        assert_eq!(lost(&before, &after, &[&dropped]), []);
    }
}
