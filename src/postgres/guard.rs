//! What a version must not do in passing: lose objects that it does not drop, and change or delete rows that nothing keeps.
//!
//! Updated and deleted rows are watched through the server's own counters of this transaction. They are not yet reported
//! ones, so they may hold those of transactions right before: the difference from the beginning of the version counts.
//!
//! TRUNCATE counts nothing. It sets the counters of its transaction back and gives the table another file, as whatever
//! rewrites a table does. So a table with another file and no more rows than were inserted has been emptied, if it held any.
//! Whether it did is not known behind the version, and asking each table before each version costs too much: a version that
//! meets the case is rolled back and run once more, with these [`Suspects`] looked at first.

use super::archive::Watched;
use super::session::{Check, EMPTIED, Failure, UNDECLARED, UNSUMMED, literal, raise};
use crate::catalog::{Catalog, Detail, Effects, Kind, Object, ObjectId, side_by_side};
use crate::timeline::Settings;
use std::collections::{BTreeSet, HashSet};

/// What watches the rows of one version: expressions for select lists, and what is told which tables.
#[derive(Default)]
pub struct Watch {
    pub look: Option<String>,
    pub kept: Option<Check>,
    pub after: Option<String>,
}

impl Watch {
    /// All that goes before the version's statements.
    pub fn before(&self) -> Vec<Check> {
        self.look.clone().map(|look| Check::select(&[look])).into_iter().chain(self.kept.clone()).collect()
    }
}

/// Lets the next version look at the tables again: behind statements of tandem's own that may have changed rows.
pub const LOOK_AGAIN: &str = "select pg_catalog.set_config('tandem.watched', '', false);";

/// When the tables are looked at in front of a version. What one of a row of versions found holds for the next if it counted
/// nothing: there is nothing then that the server could have reported in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    Always,
    UnlessNothingChanged,
}

/// Tables that a version has emptied if they held rows, by their oids.
#[derive(Debug, Default)]
pub struct Suspects(Vec<u32>);

impl Suspects {
    /// Those that a version failed for.
    pub fn of(failure: &Failure) -> Option<Self> {
        let is_it = failure.code.as_deref() == Some(EMPTIED);
        let oids = || failure.message.split(' ').filter_map(|oid| oid.parse().ok()).collect();
        is_it.then(|| Self(oids())).filter(|suspects| !suspects.is_empty())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The statements that keep others from writing to them between the look and the version's own statements.
    pub fn lock(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        format!(
            "do $tandem$ declare t regclass; begin \
             for t in select c.oid from pg_catalog.pg_class c where c.oid = any ({}) loop \
             execute pg_catalog.format('lock table only %s in share mode', t); end loop; end $tandem$;",
            self.array()
        )
    }

    fn array(&self) -> String {
        let oids: Vec<String> = self.0.iter().map(u32::to_string).collect();
        format!("array[{}]::pg_catalog.oid[]", oids.join(", "))
    }
}

/// The statements before and after those of a version that make the transaction fail if it updates, deletes or truncates rows
/// without an `[[archive]]`.
///
/// Not undeclared are: rows of tables that the version makes, those of tables of which the archive keeps some, which
/// [`super::strays`] watches, and updates of a table whose columns change, which have to be filled: of these the other values must have been
/// `summed` up.
pub fn watch(settings: &Settings, watched: &Watched, suspects: &Suspects, look: Look, summed: bool) -> Watch {
    let (some, none): (Vec<_>, Vec<_>) = watched.partly.iter().partition(|table| table.condition.is_some());
    let kept: BTreeSet<&str> =
        watched.whole.iter().chain(some.iter().map(|partly| &partly.table)).map(String::as_str).collect();
    let filled: BTreeSet<&str> = none.iter().map(|partly| partly.table.as_str()).collect();
    let array = |names: &BTreeSet<&str>| {
        format!(
            "array[{}]::pg_catalog.text[]",
            names.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ")
        )
    };
    let oids = |parameter: &str| {
        format!(
            "(select pg_catalog.json_agg(c.oid::bigint) from pg_catalog.unnest({parameter}) as name \
             join pg_catalog.pg_class c on c.oid = pg_catalog.to_regclass(name))"
        )
    };
    // Plain SQL can neither read a table that it is told by name nor leave out what it does not need; ts_stat runs what it is given.
    let run = |sql: &str| format!("(select s.ndoc from pg_catalog.ts_stat({sql}) s)");
    // The rows of a table up to a limit.
    let rows = |limit: &str| {
        let each = format!(
            "pg_catalog.format('select %L::pg_catalog.tsvector from only %s limit %s', 'a', c.oid::regclass, {limit})"
        );
        format!("coalesce({}, 0)", run(&each))
    };
    let [updated, deleted, inserted] = ["updated", "deleted", "inserted"]
        .map(|what| format!("pg_catalog.pg_stat_get_xact_tuples_{what}(c.oid)"));
    // In every schema: a foreign key takes rows of the user's own tables along, wherever those are. Not pg_stat_xact_user_tables:
    // the view joins each table with its indexes, and a version pays for all tables.
    let tables = format!(
        "pg_catalog.pg_class c where c.relkind = 'r' and c.relnamespace in (select n.oid from pg_catalog.pg_namespace n \
         where n.nspname !~ '^pg_' and n.nspname not in ('information_schema', {}))",
        literal(&settings.ledger_schema)
    );
    let suspected = match suspects.is_empty() {
        true => String::new(),
        false => format!(
            "'looked', true, \
             'empty', (select pg_catalog.json_agg(c.oid::bigint) from pg_catalog.pg_class c where c.oid = any ({array}) and {rows} = 0), \
             'inserted', (select pg_catalog.json_object_agg(c.oid, {inserted}) from pg_catalog.pg_class c where c.oid = any ({array})), ",
            array = suspects.array(),
            rows = rows("1"),
        ),
    };
    let again = suspects.is_empty() && look == Look::UnlessNothingChanged;
    // A table's first file has its number.
    let look = format!(
        "pg_catalog.set_config('tandem.watched', (select pg_catalog.json_build_object({suspected}\
           'there', coalesce(pg_catalog.json_agg(c.oid::bigint), '[]'), \
           'files', coalesce(pg_catalog.json_object_agg(c.oid, c.relfilenode) filter (where c.relfilenode <> c.oid), '{{}}'), \
           'counted', pg_catalog.json_object_agg(c.oid, pg_catalog.json_build_array({updated}, {deleted})) filter (where {updated} > 0 or {deleted} > 0)) \
         from {tables})::text, {})",
        !again
    );
    let look = match again {
        true => format!(
            "case when coalesce(pg_catalog.current_setting('tandem.watched', true), '') = '' then {look} end"
        ),
        false => look,
    };
    // By their numbers: the version may give its tables other names.
    let told = || Check {
        types: "(pg_catalog.text[], pg_catalog.text[])".to_owned(),
        text: format!(
            "select pg_catalog.set_config('tandem.kept', pg_catalog.json_build_object('kept', {}, 'filled', {})::text, true)",
            oids("$1"),
            oids("$2"),
        ),
        values: format!("({}, {})", array(&kept), array(&filled)),
    };
    let set = |of: &str, key: &str| {
        format!(
            "array(select e::bigint from pg_catalog.json_array_elements_text(\
             case when pg_catalog.json_typeof({of} -> '{key}') = 'array' then {of} -> '{key}' else '[]' end) e) as {key}"
        )
    };
    let since = |count: &str, at: &str| format!("{count} - coalesce((watched -> {at})::bigint, 0)");
    let touched = |first: &str| {
        format!("c.relkind = 'r' and ({updated} > 0 or {deleted} > 0 or c.relfilenode <> {first})")
    };
    // A table that this transaction made behind the look is the version's own: what makes a table writes its system columns down,
    // and nothing else does. Rows of a partition belong to the partitioned table.
    let changes = format!(
        "with w as (select watched, {there}, {kept}, {filled}, {empty} from (select pg_catalog.current_setting('tandem.watched')::json as watched, \
             coalesce(nullif(pg_catalog.current_setting('tandem.kept', true), ''), '{{}}')::json as declared) s), \
         touched as (select c.oid, c.relnamespace::regnamespace || '.' || c.relname as name, c.relfilenode <> f.was as refiled, \
             {updated_since} as updated, {deleted_since} as deleted, {inserted_since} as inserted, \
             array(select c.oid::bigint union select a::oid::bigint from pg_catalog.pg_partition_ancestors(c.oid) a) as relations \
           from w cross join (select * from {tables}) c \
           cross join lateral (select coalesce((watched -> 'files' ->> c.oid::text)::oid, c.oid) as was) f \
           where {touched} and (c.oid::bigint = any (there) or not exists (select from pg_catalog.pg_attribute a \
             where a.attrelid = c.oid and a.attname = 'tableoid' and pg_catalog.age(a.xmin) between {OLDEST} and 0))), \
         changed as (select c.*, c.refiled and not c.oid::bigint = any (empty) and {rows_left} <= c.inserted as emptied, relations && filled as filled \
           from w cross join touched c where not relations && kept), \
         u as (select pg_catalog.bool_or(updated > 0 and filled) as unsummed, pg_catalog.string_agg(name || case when emptied then ' (emptied)' \
               else pg_catalog.format(' (%s updated, %s deleted)', updated, deleted) end, ', ' order by name) filter (where (not emptied or looked) and is_undeclared) as undeclared, \
             pg_catalog.string_agg(oid::text, ' ') filter (where emptied) as suspects \
           from (select *, emptied or deleted > 0 or updated > 0 and not filled as is_undeclared from changed) changed \
             cross join (select coalesce((watched ->> 'looked')::boolean, false) as looked from w) l) \
         select null::pg_catalog.tsvector from u where case when undeclared is not null then {undeclared} when suspects is not null then {suspects} {unsummed}\
           else pg_catalog.length(pg_catalog.set_config('tandem.watched', '', false)) end > 0",
        OLDEST = -1_000_000,
        there = set("watched", "there"),
        kept = set("declared", "kept"),
        filled = set("declared", "filled"),
        empty = set("watched", "empty"),
        updated_since = since(&updated, "'counted' -> c.oid::text ->> 0"),
        deleted_since = since(&deleted, "'counted' -> c.oid::text ->> 1"),
        inserted_since = since(&inserted, "'inserted' ->> c.oid::text"),
        touched = touched("f.was"),
        rows_left = rows("c.inserted + 1"),
        undeclared = raise(
            UNDECLARED,
            "'rows were updated or deleted that the archive does not keep: ' || undeclared"
        ),
        suspects = raise(EMPTIED, "suspects"),
        unsummed = match summed {
            true => String::new(),
            false => format!("when unsummed then {} ", raise(UNSUMMED, "'rows may be lost ' || unsummed")),
        },
    );
    // Who updates, deletes or truncates holds a lock to the end, and there are fewer of those than tables.
    let after = format!(
        "case when exists (select from pg_catalog.pg_lock_status() l, {tables} and c.oid = l.relation \
           and l.pid = pg_catalog.pg_backend_pid() and l.mode in ('RowExclusiveLock', 'AccessExclusiveLock') and ({updated} > 0 or {deleted} > 0 or c.relfilenode <> c.oid and not c.relfilenode = any (array(\
             select f.value::oid from pg_catalog.json_each_text(pg_catalog.current_setting('tandem.watched')::json -> 'files') f)))) then {} end",
        run(&literal(&changes)),
    );
    let kept = (!(kept.is_empty() && filled.is_empty())).then(told);
    Watch { look: Some(look), kept, after: Some(after) }
}

/// What was there before, is not dropped by the versions that ran, and is gone.
///
/// Columns of a dropped relation go with it: the archive keeps its rows whole. So does whatever else of it the versions know of
/// (`known`), and nothing of somebody's own. A constraint or index of another structure and the same name is the same one on a
/// changed column, unless a version made it. An enum type that is still there may have lost labels that no version has.
pub fn lost(
    before: &Catalog,
    after: &Catalog,
    effects: &[&Effects],
    known: &HashSet<&ObjectId>,
    labels: &HashSet<&str>,
) -> Vec<ObjectId> {
    let removed: BTreeSet<&ObjectId> = effects.iter().flat_map(|effects| &effects.removed).collect();
    let added: BTreeSet<&ObjectId> =
        effects.iter().flat_map(|effects| effects.added.iter().map(|(id, _)| id)).collect();
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
                !added.contains(other)
                    && (other.kind, &other.schema, &other.relation) == (id.kind, &id.schema, &id.relation)
                    && name(&object.detail).as_ref() == Some(&wanted)
            })
        })
    };
    let explained = |id: &ObjectId, detail: &Detail| {
        let own = |id| {
            matches!(detail.kind(), Kind::Index | Kind::Constraint | Kind::Trigger | Kind::Policy)
                && !known.contains(id)
        };
        removed.contains(id) || id.is_part() && relation_removed(id) && !own(id) || renamed(id, detail)
    };
    let unlabelled = |was: &Object, is: &Object| match (&was.detail, &is.detail) {
        (Detail::Enum(was), Detail::Enum(is)) => {
            was.labels.iter().any(|label| !is.labels.contains(label) && !labels.contains(label.as_str()))
        }
        _ => false,
    };
    side_by_side(before, after)
        .filter(|(id, was, is)| match (was, is) {
            (Some(was), None) => !explained(id, &was.detail),
            (Some(was), Some(is)) => unlabelled(was, is),
            (None, _) => false,
        })
        .map(|(id, ..)| id.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Column, IndexDefinition, Table, effects};

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
        let lost = |before, after, effects: &[&Effects]| {
            lost(before, after, effects, &HashSet::new(), &HashSet::new())
        };
        let gone: Vec<String> = lost(&before, &after, &[&recorded]).iter().map(ToString::to_string).collect();
        assert_eq!(gone, ["column t.a"]);
        assert_eq!(lost(&before, &before, &[]), []);
        assert_eq!(lost(&before, &after, &[]).len(), 3);
    }

    #[test]
    fn what_goes_with_its_relation_or_follows_a_renamed_column_is_not_lost_unless_it_is_somebodys_own() {
        let mine = || column("t", "mine");
        let of_t = || index("t", "i", "btree(mine)");
        let before = catalog(vec![
            table("t"),
            column("t", "a"),
            mine(),
            of_t(),
            table("u"),
            index("u", "i", "btree(a)"),
        ]);
        let after = catalog(vec![table("u"), index("u", "i", "btree(b)")]);
        let dropped = Effects { removed: vec![table("t").0, column("t", "a").0], ..Effects::default() };
        let none = HashSet::new();
        assert_eq!(lost(&before, &after, &[&dropped], &HashSet::new(), &none), [of_t().0]);
        assert_eq!(lost(&before, &after, &[&dropped], &HashSet::from([&of_t().0]), &none), []);
    }
}
