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
//!
//! A sum does not tell which rows are new, nor which of those without a key the archive keeps, nor which values stood in a column whose
//! NULLs are filled. A version that leaves one of these open is rolled back and run once more with the hash of each row noted: all that
//! were noted must be found behind it.

use super::session::{Failure, UNDECLARED, UNSUMMED, UNTOLD, literal};
use std::collections::BTreeSet;

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
    pub touched: BTreeSet<String>,
    /// Those that get another NOT NULL or default: a NULL there may be filled.
    pub filled: BTreeSet<String>,
    /// The archived rows of this version, as `a`: what follows FROM.
    pub archived: String,
}

/// What stands around a version's own statements.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Strays {
    pub before: String,
    pub after: String,
}

/// How closely the rows are looked at, beside being counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Closely {
    /// Their values are summed up.
    pub summed: bool,
    /// The tables of which the hash of each row is noted, by their places among those that are watched.
    noted: BTreeSet<usize>,
}

impl Closely {
    /// As closely as the words of a version call for. The server's counters tell in the cases in which they do not.
    pub fn at<'a>(sql: impl IntoIterator<Item = &'a str>) -> Self {
        Self { summed: sql.into_iter().any(may_write), noted: BTreeSet::new() }
    }

    /// Looks more closely, if that is what a version failed for.
    pub fn closer(&mut self, failure: &Failure) -> bool {
        match failure.code.as_deref() {
            Some(UNSUMMED) => !std::mem::replace(&mut self.summed, true),
            Some(UNTOLD) => failure.message.parse().is_ok_and(|place| self.noted.insert(place)),
            _ => false,
        }
    }
}

/// May this SQL change or delete rows?
fn may_write(sql: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    ["update", "delete", "merge", "execute", "call "].iter().any(|word| sql.contains(word))
}

/// The statements that notice such rows; empty if there is no such table.
///
/// A savepoint gives the rows that the version writes a transaction id that is younger than those of all rows before.
pub fn watch(tables: &[Partly], closely: &Closely) -> Strays {
    let mut watch = Strays::default();
    // Where nothing is kept, the counters tell of all that is deleted.
    let tables = tables.iter().enumerate().filter(|(_, table)| table.condition.is_some() || closely.summed);
    for (i, table) in tables {
        watch.before.push_str(&before(i, table, closely));
        watch.after.push_str(&after(i, table, closely));
    }
    if !watch.before.is_empty() {
        watch.before.push_str("savepoint tandem_rows;");
        watch.after.insert_str(0, "release savepoint tandem_rows;");
    }
    watch
}

/// The table, its partitions and its children, with their files and the counters of this transaction.
const TREE: &str = "
  with recursive tree (oid) as (
    select t union select i.inhrelid from pg_catalog.pg_inherits i join tree on tree.oid = i.inhparent)
  select pg_catalog.json_object_agg(c.oid, c.relfilenode order by c.oid),
      coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_inserted(c.oid)), 0),
      coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_updated(c.oid)), 0),
      coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid)), 0)
    into files, inserted, updated, deleted
    from tree join pg_catalog.pg_class c on c.oid = tree.oid;";

/// Lists of expressions on a row `r`, from `columns`: each has a number, a type and, if it holds NULLs that may be filled, how many
/// values it holds.
///
/// `stays` are the columns that stay as they are. `shape` is the numbers of the others that hold a value. `noted` is what is noted of a
/// row for a shape `d`: all of its columns but the others that are not in there. `held` is whether rows hold as many values in the others.
const LISTS: &str = "
  select pg_catalog.json_agg(pg_catalog.json_build_array(c.number, c.type, c.held) order by c.number),
      coalesce(pg_catalog.string_agg(c.value, ', ' order by c.number) filter (where c.held is null), ''),
      pg_catalog.format('pg_catalog.array_remove(array[%s]::int[], null)', pg_catalog.string_agg(
        pg_catalog.format('case when %s is not null then %s end', c.value, c.number), ', ') filter (where c.held is not null)),
      pg_catalog.concat_ws(', ', pg_catalog.string_agg(case when c.held is null then c.value
        else pg_catalog.format('case when %s = any (d.shape) then %s end', c.number, c.value) end, ', ' order by c.number), 'd.shape'),
      pg_catalog.string_agg(pg_catalog.format('pg_catalog.count(%s) = %s', c.value, c.held), ' and ') filter (where c.held is not null)
    into columns, stays, shape, noted, held
    from (select a.attnum as number, a.atttypid as type, pg_catalog.format('r.%I', a.attname) as value, (e ->> 2)::bigint as held
      from pg_catalog.json_array_elements(columns) e
      join pg_catalog.pg_attribute a on a.attrelid = t and a.attnum = (e ->> 0)::int and not a.attisdropped) c;";

/// How many rows there are and what they sum up to, over these columns of `r`; for `format`, whose first argument the columns are.
const SUM: &str = "pg_catalog.json_build_array(pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended(row(%1$s)::text, 0)))";

/// The hash of each row, once for each shape that its values cover; for `format`, whose first arguments are `noted` and `shape`. Rows that
/// are filled still cover the shapes that they had.
const NOTED: &str = "pg_catalog.hashtextextended(row(%1$s)::text, 0)";
const SHAPES: &str =
    "join (select e::int[] as shape from pg_catalog.json_array_elements_text($1) e) d on d.shape <@ %2$s";

/// What decides how values are written.
const WRITTEN: &str =
    "array['DateStyle', 'IntervalStyle', 'TimeZone', 'bytea_output', 'extra_float_digits', 'xmlbinary']";

/// Where rows are noted. It is gone with the transaction.
fn noted_in(i: usize) -> String {
    format!("pg_temp.tandem_rows_{i}")
}

/// For the text of a `format`.
fn plain(sql: &str) -> String {
    sql.replace('%', "%%")
}

/// The rows of a table as `r`, with whether the archive keeps them.
fn told_apart(table: &Partly) -> String {
    let Partly { table, condition, .. } = table;
    let kept = condition.as_deref().unwrap_or("false");
    format!("(select kept.*, (({kept}\n) is true) as \"tandem kept\" from {table} as kept) r")
}

fn before(i: usize, watched: &Partly, closely: &Closely) -> String {
    let Partly { table, condition, refilled, .. } = watched;
    let kept = condition.as_deref().unwrap_or("false");
    // Where nothing is kept, nothing has locked it yet.
    let lock = match (condition, refilled) {
        (None, true) => format!(
            "if pg_catalog.has_table_privilege(t, 'update, delete, truncate') then
    lock table {table} in access exclusive mode;
  end if;"
        ),
        _ => String::new(),
    };
    format!(
        "do $tandem$
declare
  t oid := pg_catalog.to_regclass({name});
  files json; inserted numeric; updated numeric; deleted numeric;
  others bigint; places json; youngest integer;
  filled text[]; values_held bigint[]; columns json; stays text; shape text; noted text; held text;
  key json; summed json; apart json; shapes json;
begin
  if t is null or not exists (select from pg_catalog.pg_class c where c.oid = t and c.relkind in ('r', 'p')) then
    perform pg_catalog.set_config('tandem.rows_{i}', '', true);
    return;
  end if;
  {lock}
  execute {count} into others, places, youngest;
{sum}{note}{TREE}
  perform pg_catalog.set_config('tandem.rows_{i}', pg_catalog.json_build_object(
    'table', t, 'files', files, 'inserted', inserted, 'updated', updated, 'deleted', deleted,
    'others', others, 'kept', places, 'youngest', youngest,
    'columns', columns, 'key', key, 'summed', summed, 'apart', apart, 'shapes', shapes,
    'written', (select pg_catalog.json_object_agg(w, pg_catalog.current_setting(w)) from pg_catalog.unnest({WRITTEN}) w))::text, true);
end $tandem$;\n",
        name = literal(table),
        count = literal(&format!(
            "select pg_catalog.count(*) filter (where not is_kept),
    coalesce(pg_catalog.json_agg(place) filter (where is_kept), '[]'), pg_catalog.min(age)
  from (select (({kept}\n) is true) as is_kept, pg_catalog.age(kept.xmin) as age, kept.tableoid::text || kept.ctid::text as place
    from {table} as kept) as counted"
        )),
        sum = if closely.summed { sum(watched) } else { String::new() },
        note = if closely.noted.contains(&i) { note(i, watched) } else { String::new() },
    )
}

/// Which columns are to stay as they are, what they sum up to, and by which of them a row is known.
fn sum(watched: &Partly) -> String {
    let Partly { table, touched, filled, .. } = watched;
    let array = |names: &BTreeSet<String>| {
        let names: Vec<String> = names.iter().map(|name| literal(name)).collect();
        format!("array[{}]::pg_catalog.text[]", names.join(", "))
    };
    let held = match filled.is_empty() {
        true => String::new(),
        false => format!(
            "
  filled := {filled};
  execute (select pg_catalog.format({values}, pg_catalog.string_agg(
      pg_catalog.format('nullif(pg_catalog.count(r.%I), pg_catalog.count(*))', f.name), ', ' order by f.place))
    from pg_catalog.unnest(filled) with ordinality f (name, place)) into values_held;",
            filled = array(filled),
            values = literal(&format!("select array[%s]::pg_catalog.int8[] from {} r", plain(table))),
        ),
    };
    format!(
        "{held}
  select pg_catalog.json_agg(pg_catalog.json_build_array(a.attnum, a.atttypid, f.held) order by a.attnum) into columns
    from pg_catalog.pg_attribute a
    left join rows from (pg_catalog.unnest(filled), pg_catalog.unnest(values_held)) f (name, held) on f.name = a.attname
    where a.attrelid = t and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and a.attname <> all ({touched});
{LISTS}
  select pg_catalog.json_agg(pg_catalog.json_build_array(a.attnum, a.attname)) into key
    from pg_catalog.pg_index x join pg_catalog.pg_attribute a on a.attrelid = x.indrelid and a.attnum = any (x.indkey)
    where x.indrelid = t and x.indisprimary
    having pg_catalog.bool_and(a.attname <> all ({touched}));
  execute pg_catalog.format({sums}, stays) into summed, apart;
",
        touched = array(touched),
        sums = literal(&format!(
            "select {SUM}, pg_catalog.json_build_array(pg_catalog.count(*) filter (where not r.\"tandem kept\"),
    pg_catalog.sum(pg_catalog.hashtextextended(row(%1$s)::text, 0)) filter (where not r.\"tandem kept\")) from {}",
            plain(&told_apart(watched))
        )),
    )
}

/// Notes the rows that the archive does not keep. A repair has several versions in one transaction.
fn note(i: usize, watched: &Partly) -> String {
    let rows = noted_in(i);
    format!(
        "
  execute pg_catalog.format({shapes}, shape) into shapes;
  if pg_catalog.to_regclass('{rows}') is not null then drop table {rows}; end if;
  create temporary table {rows} (hash pg_catalog.int8) on commit drop;
  execute pg_catalog.format({insert}, noted, shape) using shapes;
",
        shapes = literal(&format!(
            "select coalesce(pg_catalog.json_agg(distinct (%s)::text), '[]') from {} r",
            plain(&watched.table)
        )),
        insert = literal(&format!(
            "insert into {rows} select {NOTED} from {} {SHAPES} where not r.\"tandem kept\"",
            plain(&told_apart(watched))
        )),
    )
}

fn after(i: usize, watched: &Partly, closely: &Closely) -> String {
    let Partly { refilled, .. } = watched;
    // Updates are told by the values; of the deleted rows no more than the kept ones may be gone.
    let (told, deleted_only) = match refilled {
        true => (
            "updated > 0 or deleted > 0 and rewritten",
            "least(others - stayed, deleted - (kept - stayed_kept))",
        ),
        false => ("(updated > 0 or deleted > 0) and rewritten", "others - stayed"),
    };
    let of_others = "values in columns that the version leaves as they are";
    let (compared, lost) = match closely.noted.contains(&i) {
        true => (
            noted_again(i),
            format!(
                "'{of_others}' || case when held is null then '' else ', or of which it fills the NULLs' end"
            ),
        ),
        false => (summed_again(i, watched), literal(of_others)),
    };
    // Rows of a detached partition are where they were.
    format!(
        "do $tandem$
declare
  s json := nullif(pg_catalog.current_setting('tandem.rows_{i}'), '');
  t oid := (s ->> 'table')::oid;
  others bigint := (s ->> 'others')::bigint;
  kept bigint := pg_catalog.json_array_length(s -> 'kept');
  youngest integer := (s ->> 'youngest')::integer;
  files json; inserted numeric; updated numeric; deleted numeric; rewritten boolean;
  stayed bigint := 0; stayed_kept bigint := 0; there bigint; stray numeric := 0; found text;
  columns json; stays text; shape text; noted text; held text; keyed text; summed json; differs boolean; untold boolean;
begin
  if t is null or not exists (select from pg_catalog.pg_class c where c.oid = t) then return; end if;
{TREE}
  if exists (select from pg_catalog.json_object_keys(s -> 'files') f where files -> f is null) then return; end if;
  inserted := inserted - (s ->> 'inserted')::numeric;
  updated := updated - (s ->> 'updated')::numeric;
  deleted := deleted - (s ->> 'deleted')::numeric;
  rewritten := files::text <> (s ->> 'files');
  if rewritten then
    execute pg_catalog.format('select pg_catalog.count(*) from %s', t::regclass) into there;
    stray := others - (there - greatest(inserted, 0));
  elsif updated > 0 or deleted > 0 then
    execute pg_catalog.format({untouched}, t::regclass) into stayed, stayed_kept using s -> 'kept', youngest;
    stray := {deleted_only};
  end if;
  found := pg_catalog.format('%s beside the %s that it keeps', stray, kept);
  if stray <= 0 and ({told}) and (rewritten or stayed < others) then
    if s ->> 'summed' is null then raise exception using errcode = {UNSUMMED}, message = 'rows may be lost'; end if;
    columns := case pg_catalog.json_typeof(s -> 'columns') when 'array' then s -> 'columns' else '[]' end;
{LISTS}
    if columns::text is not distinct from s ->> 'columns' then
      perform pg_catalog.set_config(w.key, w.value, true) from pg_catalog.json_each_text(s -> 'written') w;
{compared}
      if differs then stray := 1; found := {lost}; end if;
    end if;
  end if;
  if stray > 0 then
    raise exception using errcode = {UNDECLARED},
      message = pg_catalog.format('rows were updated or deleted that the archive does not keep: %s.%s (%s)',
        (select c.relnamespace::regnamespace from pg_catalog.pg_class c where c.oid = t),
        (select c.relname from pg_catalog.pg_class c where c.oid = t), found),
      hint = 'declare them in the version''s TOML: [[archive]] with table and a where that names all of them';
  end if;
end $tandem$;\n",
        UNSUMMED = literal(UNSUMMED),
        UNDECLARED = literal(UNDECLARED),
        untouched = literal(
            "select pg_catalog.count(*) filter (where k.place is null), pg_catalog.count(k.place) from %s r
    left join (select pg_catalog.json_array_elements_text($1) as place) k on k.place = r.tableoid::text || r.ctid::text
    where pg_catalog.age(r.xmin) >= $2"
        ),
    )
}

/// Whether the sums differ. They do not tell where there are new rows; where some are kept that no key tells from the others; and
/// where NULLs are filled, unless each row with another value is as it was.
fn summed_again(i: usize, watched: &Partly) -> String {
    format!(
        "      differs := false;
      untold := inserted <> 0;
      if not untold then
        execute pg_catalog.format({all}, stays, t::regclass) into summed;
        differs := summed::text <> s ->> 'summed' and kept = 0;
        untold := summed::text <> s ->> 'summed' and kept > 0;
      end if;
      if untold and inserted = 0 then
        select pg_catalog.string_agg(pg_catalog.format('(pg_catalog.to_json(r.%I) #>> ''{{}}'') = (a.row ->> %L)', a.attname, k ->> 1), ' and ')
          into keyed
          from pg_catalog.json_array_elements(case pg_catalog.json_typeof(s -> 'key') when 'array' then s -> 'key' else '[]' end) k
          join pg_catalog.pg_attribute a on a.attrelid = t and a.attnum = (k ->> 0)::int;
        if keyed is not null then
          execute pg_catalog.format({apart}, stays, t::regclass, keyed) into summed;
          untold := summed::text <> s ->> 'apart';
        end if;
      end if;
      if held is not null and not differs and not untold then
        untold := rewritten;
        if not rewritten then
          execute pg_catalog.format('select not (%s) from %s r where pg_catalog.age(r.xmin) >= $1', held, t::regclass)
            into untold using youngest;
        end if;
      end if;
      if untold then raise exception using errcode = {UNTOLD}, message = '{i}'; end if;",
        UNTOLD = literal(UNTOLD),
        all = literal(&format!("select {SUM} from %2$s r")),
        apart = literal(&format!(
            "select {SUM} from %2$s r where not exists (select from {} and %3$s)",
            plain(&watched.archived)
        )),
    )
}

/// Whether a row that was noted is not there any more. One that the archive keeps, untouched, does not stand for another.
fn noted_again(i: usize) -> String {
    format!(
        "      execute pg_catalog.format({missing}, noted, shape, t::regclass) into differs
        using s -> 'shapes', youngest, case when rewritten then '[]' else s -> 'kept' end;",
        missing = literal(&format!(
            "select exists (
    select n.hash from {} n except all
    select {NOTED} from %3$s r {SHAPES}
      where not (pg_catalog.age(r.xmin) >= $2 and r.tableoid::text || r.ctid::text in (select pg_catalog.json_array_elements_text($3))))",
            noted_in(i)
        )),
    )
}
