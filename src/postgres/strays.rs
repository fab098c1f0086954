//! Rows that a version changes or deletes beside those of the same table that the archive keeps.
//!
//! Where the archive keeps the rows of a condition and not the whole table, the others are counted before the version and again
//! behind it: they must still be there as they were, which the place and the transaction of each row version tell. Nothing is
//! asked behind a version that has touched no row of the table.
//!
//! A table that the version has rewritten has its rows in other places. There the rows that are gone may not be more than those that
//! the archive keeps.

use super::session::{UNDECLARED, literal};
use std::fmt::Write as _;

/// A table of which the archive keeps some rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partly {
    /// As SQL names it.
    pub table: String,
    /// Which rows are kept.
    pub condition: String,
    /// One of its columns is dropped or converted, or it gets one: other rows may be updated.
    pub refilled: bool,
}

/// What stands around a version's own statements.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Strays {
    pub before: String,
    pub after: String,
}

/// The statements that notice such rows; empty if there is no such table.
///
/// A savepoint gives the rows that the version writes a transaction id that is younger than those of all rows before.
pub fn watch(tables: &[Partly]) -> Strays {
    let mut watch = Strays::default();
    for (i, table) in tables.iter().enumerate() {
        watch.before.push_str(&before(i, table));
        watch.after.push_str(&after(i, table.refilled));
    }
    if !tables.is_empty() {
        watch.before.push_str("savepoint tandem_rows;");
        watch.after.insert_str(0, "release savepoint tandem_rows;");
    }
    watch
}

/// The table, its partitions and its children, with their files and the counters of this transaction.
const TREE: &str = "with recursive tree (oid) as (select t union select i.inhrelid from pg_catalog.pg_inherits i join tree on tree.oid = i.inhparent) \
     select pg_catalog.json_object_agg(c.oid, c.relfilenode order by c.oid), \
       coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_inserted(c.oid)), 0), \
       coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_updated(c.oid)), 0), \
       coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid)), 0) \
     into files, inserted, updated, deleted from tree join pg_catalog.pg_class c on c.oid = tree.oid";

fn before(i: usize, table: &Partly) -> String {
    let Partly { table, condition, .. } = table;
    let count = format!(
        "select pg_catalog.count(*) filter (where not is_kept), \
           coalesce(pg_catalog.json_agg(place) filter (where is_kept), '[]'), pg_catalog.min(age) \
         from (select (({condition}\n) is true) as is_kept, pg_catalog.age(kept.xmin) as age, kept.tableoid::text || kept.ctid::text as place from {table} as kept) as counted"
    );
    format!(
        "do $tandem$ declare t oid := pg_catalog.to_regclass({name}); others bigint; places json; youngest integer; files json; \
           inserted numeric; updated numeric; deleted numeric; \
         begin \
           if t is null or not exists (select from pg_catalog.pg_class c where c.oid = t and c.relkind in ('r', 'p')) then \
             perform pg_catalog.set_config('tandem.rows_{i}', '', true); return; \
           end if; \
           execute {count} into others, places, youngest; {TREE}; \
           perform pg_catalog.set_config('tandem.rows_{i}', pg_catalog.json_build_object('table', t, 'others', others, 'kept', places, \
             'files', files, 'inserted', inserted, 'updated', updated, 'deleted', deleted, \
             'youngest', youngest)::text, true); \
         end $tandem$;\n",
        name = literal(table),
        count = literal(&count),
    )
}

fn after(i: usize, refilled: bool) -> String {
    let mut sql = String::new();
    // Rows of a detached partition are where they were.
    let _ = write!(
        sql,
        "do $tandem$ declare s json := nullif(pg_catalog.current_setting('tandem.rows_{i}'), ''); t oid := (s ->> 'table')::oid; \
           others bigint := (s ->> 'others')::bigint; kept bigint := pg_catalog.json_array_length(s -> 'kept'); \
           files json; inserted numeric; updated numeric; deleted numeric; stayed bigint; stayed_kept bigint := 0; there bigint; stray numeric := 0; \
         begin \
           if t is null or not exists (select from pg_catalog.pg_class c where c.oid = t) then return; end if; \
           {TREE}; \
           if exists (select from pg_catalog.json_object_keys(s -> 'files') f where files -> f is null) then return; end if; \
           inserted := inserted - (s ->> 'inserted')::numeric; \
           updated := updated - (s ->> 'updated')::numeric; \
           deleted := deleted - (s ->> 'deleted')::numeric; \
           if files::text <> (s ->> 'files') then \
             execute pg_catalog.format('select pg_catalog.count(*) from %s', t::regclass) into there; \
             stray := others - (there - greatest(inserted, 0)); \
           elsif updated > 0 or deleted > 0 then \
             execute pg_catalog.format('select pg_catalog.count(*) filter (where k.place is null), pg_catalog.count(k.place) from %s r \
               left join (select pg_catalog.json_array_elements_text($1) as place) k on k.place = r.tableoid::text || r.ctid::text \
               where pg_catalog.age(r.xmin) >= $2', t::regclass) into stayed, stayed_kept \
             using s -> 'kept', (s ->> 'youngest')::integer; \
             stray := others - stayed; "
    );
    if refilled {
        // Updates are no loss here: what counts are more deleted rows than the kept ones can be.
        sql.push_str("stray := least(stray, deleted - (kept - stayed_kept)); ");
    }
    let _ = writeln!(
        sql,
        "end if; \
           if stray > 0 then raise exception using errcode = {code}, \
             message = pg_catalog.format('rows were updated or deleted that the archive does not keep: %s.%s (%s beside the %s that it keeps)', \
               (select c.relnamespace::regnamespace from pg_catalog.pg_class c where c.oid = t), \
               (select c.relname from pg_catalog.pg_class c where c.oid = t), stray, kept), \
             hint = 'declare them in the version''s TOML: [[archive]] with table and a where that names all of them'; end if; \
         end $tandem$;",
        code = literal(UNDECLARED),
    );
    sql
}
