//! Rows that a version changes or deletes beside those of the same table that the archive keeps.
//!
//! Where the archive keeps the rows of a condition and not the whole table, the others are counted before the version and again
//! behind it: they must still be there as they were, which the place and the transaction of each row version tell. Nothing is
//! asked behind a version that has touched no row of the table.
//!
//! Where a column comes, goes or is converted, rows may be updated, and a table that the version has rewritten has its rows in other
//! places. There the values of all other columns are summed up, over the whole table and over the rows that the archive does not keep,
//! before the version and behind it. If the first differs, the second must be the same; which rows those are then is told by the
//! primary key. A sum costs two readings of the table, so it is only taken for versions that may write: their words tell, and one that
//! wrote although they did not is rolled back and run once more.

use super::session::{UNDECLARED, UNSUMMED, literal};
use std::fmt::Write as _;

/// A table of which the archive keeps some rows, or none though its columns change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partly {
    /// As SQL names it.
    pub table: String,
    /// Which rows are kept.
    pub condition: Option<String>,
    /// Whether a column of it comes, goes or gets another form.
    pub refilled: bool,
    /// Its columns that the version adds, drops or converts.
    pub touched: Vec<String>,
    /// Those that get another NOT NULL or default: a NULL there may be filled.
    pub filled: Vec<String>,
    /// The archived rows of this version, as `a`: what follows FROM.
    pub archived: String,
}

/// What stands around a version's own statements.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Strays {
    pub before: String,
    pub after: String,
}

/// May this SQL change or delete rows? The server's counters tell in the cases in which its words do not.
pub fn may_write(sql: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    ["update", "delete", "merge", "execute", "call "].iter().any(|word| sql.contains(word))
}

/// The statements that notice such rows; empty if there is no such table.
///
/// A savepoint gives the rows that the version writes a transaction id that is younger than those of all rows before.
pub fn watch(tables: &[Partly], summed: bool) -> Strays {
    let mut watch = Strays::default();
    // Where nothing is kept, the counters tell of all that is deleted.
    let tables = tables.iter().filter(|table| table.condition.is_some() || summed);
    for (i, table) in tables.enumerate() {
        watch.before.push_str(&before(i, table, summed));
        watch.after.push_str(&after(i, table));
    }
    if !watch.before.is_empty() {
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

/// How many rows there are and what they sum up to, over these columns of `r`; for `format`, whose first argument the columns are.
const SUM: &str = "pg_catalog.json_build_array(pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended(row(%1$s)::text, 0)))";

/// What decides how values are written.
const WRITTEN: &str =
    "array['DateStyle', 'IntervalStyle', 'TimeZone', 'bytea_output', 'extra_float_digits', 'xmlbinary']";

fn before(i: usize, table: &Partly, summed: bool) -> String {
    let Partly { table, condition, touched, filled, refilled, .. } = table;
    let kept = condition.as_deref().unwrap_or("false");
    let count = format!(
        "select pg_catalog.count(*) filter (where not is_kept), \
           coalesce(pg_catalog.json_agg(place) filter (where is_kept), '[]'), pg_catalog.min(age) \
         from (select (({kept}\n) is true) as is_kept, pg_catalog.age(kept.xmin) as age, kept.tableoid::text || kept.ctid::text as place from {table} as kept) as counted"
    );
    let mut sum = String::new();
    if summed {
        let array = |names: &[String]| {
            let names: Vec<String> = names.iter().map(|name| literal(name)).collect();
            format!("array[{}]::pg_catalog.text[]", names.join(", "))
        };
        sum = format!(
            "touched := {touched}; \
             foreach name in array {filled} loop \
               execute pg_catalog.format({has_null}, name) into has_null; \
               if has_null then touched := touched || name; end if; \
             end loop; \
             select pg_catalog.json_agg(pg_catalog.json_build_array(a.attnum, a.atttypid) order by a.attnum), \
                 pg_catalog.string_agg(pg_catalog.format('r.%I', a.attname), ', ' order by a.attnum) into columns, names \
               from pg_catalog.pg_attribute a where a.attrelid = t and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' \
                 and a.attname <> all (touched); \
             select pg_catalog.json_agg(pg_catalog.json_build_array(a.attnum, a.attname)) into key from pg_catalog.pg_index x \
               join pg_catalog.pg_attribute a on a.attrelid = x.indrelid and a.attnum = any (x.indkey) where x.indrelid = t and x.indisprimary \
               having pg_catalog.bool_and(a.attname <> all (touched)); \
             execute pg_catalog.format({sums}, coalesce(names, '')) into summed, apart;",
            touched = array(touched),
            filled = array(filled),
            has_null = literal(&format!(
                "select exists (select from {} where %I is null)",
                table.replace('%', "%%")
            )),
            sums = literal(&format!(
                "select {all}, {others} from (select kept.*, (({kept}\n) is true) as \"tandem kept\" from {table} as kept) r",
                all = SUM,
                others = "pg_catalog.json_build_array(pg_catalog.count(*) filter (where not r.\"tandem kept\"), \
                    pg_catalog.sum(pg_catalog.hashtextextended(row(%1$s)::text, 0)) filter (where not r.\"tandem kept\"))",
                kept = kept.replace('%', "%%"),
                table = table.replace('%', "%%"),
            )),
        );
    }
    // Where nothing is kept, nothing has locked it yet.
    let lock = match (condition, refilled) {
        (None, true) => format!(
            "if pg_catalog.has_table_privilege(t, 'update, delete, truncate') then lock table {table} in access exclusive mode; end if;"
        ),
        _ => String::new(),
    };
    format!(
        "do $tandem$ declare t oid := pg_catalog.to_regclass({name}); others bigint; places json; youngest integer; files json; \
           inserted numeric; updated numeric; deleted numeric; columns json; names text; key json; summed json; apart json; touched text[]; name text; has_null boolean; \
         begin \
           if t is null or not exists (select from pg_catalog.pg_class c where c.oid = t and c.relkind in ('r', 'p')) then \
             perform pg_catalog.set_config('tandem.rows_{i}', '', true); return; \
           end if; {lock} \
           execute {count} into others, places, youngest; {sum} {TREE}; \
           perform pg_catalog.set_config('tandem.rows_{i}', pg_catalog.json_build_object('table', t, 'others', others, 'kept', places, \
             'files', files, 'inserted', inserted, 'updated', updated, 'deleted', deleted, \
             'youngest', youngest, 'columns', columns, 'key', key, 'summed', summed, 'apart', apart, \
             'written', (select pg_catalog.json_object_agg(w, pg_catalog.current_setting(w)) from pg_catalog.unnest({WRITTEN}) w))::text, true); \
         end $tandem$;\n",
        name = literal(table),
        count = literal(&count),
    )
}

fn after(i: usize, table: &Partly) -> String {
    let Partly { refilled, archived, .. } = table;
    let mut sql = String::new();
    // Rows of a detached partition are where they were.
    let _ = write!(
        sql,
        "do $tandem$ declare s json := nullif(pg_catalog.current_setting('tandem.rows_{i}'), ''); t oid := (s ->> 'table')::oid; \
           others bigint := (s ->> 'others')::bigint; kept bigint := pg_catalog.json_array_length(s -> 'kept'); \
           files json; inserted numeric; updated numeric; deleted numeric; stayed bigint; stayed_kept bigint := 0; there bigint; stray numeric := 0; \
           rewritten boolean; columns json; names text; keyed text; summed json; found text; \
         begin \
           if t is null or not exists (select from pg_catalog.pg_class c where c.oid = t) then return; end if; \
           {TREE}; \
           if exists (select from pg_catalog.json_object_keys(s -> 'files') f where files -> f is null) then return; end if; \
           inserted := inserted - (s ->> 'inserted')::numeric; \
           updated := updated - (s ->> 'updated')::numeric; \
           deleted := deleted - (s ->> 'deleted')::numeric; \
           rewritten := files::text <> (s ->> 'files'); \
           if rewritten then \
             execute pg_catalog.format('select pg_catalog.count(*) from %s', t::regclass) into there; \
             stray := others - (there - greatest(inserted, 0)); \
           elsif updated > 0 or deleted > 0 then \
             execute pg_catalog.format('select pg_catalog.count(*) filter (where k.place is null), pg_catalog.count(k.place) from %s r \
               left join (select pg_catalog.json_array_elements_text($1) as place) k on k.place = r.tableoid::text || r.ctid::text \
               where pg_catalog.age(r.xmin) >= $2', t::regclass) into stayed, stayed_kept \
             using s -> 'kept', (s ->> 'youngest')::integer; \
             stray := others - stayed; "
    );
    if *refilled {
        // Updates are told by the values; of the deleted rows no more than the kept ones may be gone.
        sql.push_str("stray := least(stray, deleted - (kept - stayed_kept)); ");
    }
    let told = match refilled {
        true => "updated > 0 or deleted > 0 and rewritten",
        false => "(updated > 0 or deleted > 0) and rewritten",
    };
    let _ = writeln!(
        sql,
        "end if; \
           found := pg_catalog.format('%s beside the %s that it keeps', stray, kept); \
           if stray <= 0 and ({told}) then \
             if s ->> 'summed' is null then raise exception using errcode = {UNSUMMED}, message = 'rows may be lost'; end if; \
             select pg_catalog.json_agg(pg_catalog.json_build_array(a.attnum, a.atttypid) order by a.attnum), \
                 pg_catalog.string_agg(pg_catalog.format('r.%I', a.attname), ', ' order by a.attnum) into columns, names \
               from pg_catalog.pg_attribute a join pg_catalog.json_array_elements(case pg_catalog.json_typeof(s -> 'columns') when 'array' then s -> 'columns' else '[]' end) c on (c ->> 0)::int = a.attnum \
               where a.attrelid = t and not a.attisdropped; \
             if inserted = 0 and columns::text is not distinct from s ->> 'columns' then \
               perform pg_catalog.set_config(w.key, w.value, true) from pg_catalog.json_each_text(s -> 'written') w; \
               execute pg_catalog.format({all}, names, t::regclass) into summed; \
               if summed::text <> s ->> 'summed' and kept > 0 then \
                 select pg_catalog.string_agg(pg_catalog.format('(pg_catalog.to_json(r.%I) #>> ''{{}}'') = (a.row ->> %L)', a.attname, k ->> 1), ' and ') \
                   into keyed from pg_catalog.json_array_elements(case pg_catalog.json_typeof(s -> 'key') when 'array' then s -> 'key' else '[]' end) k join pg_catalog.pg_attribute a on a.attrelid = t and a.attnum = (k ->> 0)::int; \
                 if keyed is not null then execute pg_catalog.format({apart}, names, t::regclass, keyed) into summed; end if; \
                 if keyed is null or summed::text = s ->> 'apart' then summed := s -> 'summed'; end if; \
               end if; \
               if summed::text <> s ->> 'summed' then stray := 1; found := 'values in columns that the version leaves as they are'; end if; \
             end if; \
           end if; \
           if stray > 0 then raise exception using errcode = {code}, \
             message = pg_catalog.format('rows were updated or deleted that the archive does not keep: %s.%s (%s)', \
               (select c.relnamespace::regnamespace from pg_catalog.pg_class c where c.oid = t), \
               (select c.relname from pg_catalog.pg_class c where c.oid = t), found), \
             hint = 'declare them in the version''s TOML: [[archive]] with table and a where that names all of them'; end if; \
         end $tandem$;",
        UNSUMMED = literal(UNSUMMED),
        code = literal(UNDECLARED),
        all = literal(&format!("select {SUM} from %2$s r")),
        apart = literal(&format!(
            "select {SUM} from %2$s r where not exists (select from {} and %3$s)",
            archived.replace('%', "%%")
        )),
    );
    sql
}
