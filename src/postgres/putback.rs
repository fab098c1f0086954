//! Putting archived rows back where they came from: what a version took away when a downgrade undoes it, what a downgrade
//! took away when the version is applied again, and what an operator asks for.
//!
//! Each archived row has a digest of the row that the step left in its place. Where that is still the row that is there,
//! nobody has changed it since, and the archived row takes its place. Where it was changed, only what is NULL or a default
//! is filled. A row that is no longer there, although the step left it, was deleted since and stays deleted.
//!
//! All statements are made from catalogs alone, so that they can go into the step's own message.

use super::archive::{self, Direction};
use super::introspect::{self, Exclude};
use super::session::{Session, cell, identifier, literal};
use super::store::Store;
use crate::catalog::render::columns;
use crate::catalog::{Catalog, Column, Detail, Effects, Expected, Kind, ObjectId, effects};
use crate::error::{Error, ExitCode, Result};
use crate::timeline::{Number, Settings, Version};
use serde::Serialize;
use std::collections::BTreeSet;

/// A table as far as its rows are concerned.
struct Shape<'a> {
    /// As SQL names it.
    sql: String,
    /// With values of their own: not generated.
    columns: Vec<(&'a str, &'a Column)>,
    /// What tells rows apart, over columns that are never NULL: the primary key first, then whatever is unique.
    keys: Vec<Vec<String>>,
    foreign: Vec<Foreign>,
}

/// A foreign key, in SQL's words.
struct Foreign {
    own: Vec<String>,
    target: String,
    theirs: Vec<String>,
}

impl<'a> Shape<'a> {
    /// `None` if the catalog does not have the table.
    fn of(catalog: &'a Catalog, schema: &str, relation: &str) -> Option<Self> {
        catalog.objects.get(&ObjectId::relation(Kind::Table, schema, relation))?;
        let parts = catalog
            .objects
            .iter()
            .filter(|(id, _)| id.schema == schema && id.relation == relation)
            .map(|(id, object)| (id.name.as_str(), &object.detail));
        let (mut of, mut primary, mut unique) = (Vec::new(), Vec::new(), Vec::new());
        let mut foreign = Vec::new();
        for (name, detail) in parts {
            match detail {
                Detail::Column(column) if column.generated.is_none() => of.push((name, column)),
                Detail::Constraint(constraint) => {
                    let definition = constraint.definition.as_str();
                    if definition.starts_with("PRIMARY KEY") {
                        primary.push(columns(definition));
                    } else if definition.starts_with("UNIQUE (") {
                        unique.push(columns(definition));
                    } else if let Some((own, target)) = definition
                        .strip_prefix("FOREIGN KEY ")
                        .and_then(|rest| rest.split_once(" REFERENCES "))
                    {
                        let name = target.split('(').next().unwrap_or_default().to_owned();
                        foreign.push(Foreign { own: columns(own), target: name, theirs: columns(target) });
                    }
                }
                Detail::Index(index)
                    if index.definition.starts_with("CREATE UNIQUE INDEX") && !index.invalid =>
                {
                    if let Some((_, keys)) = index.definition.split_once(" USING btree ")
                        && keys.ends_with(')')
                        && !keys.contains(" WHERE ")
                    {
                        unique.push(columns(keys));
                    }
                }
                _ => {}
            }
        }
        let filled = |name: &String| of.iter().any(|(known, column)| *known == name && column.not_null);
        let keys = primary
            .into_iter()
            .chain(unique)
            .map(|key| key.iter().map(|name| unquoted(name)).collect::<Vec<_>>())
            .filter(|key| !key.is_empty() && key.iter().all(filled))
            .collect();
        Some(Self { sql: table(schema, relation), columns: of, keys, foreign })
    }

    fn column(&self, name: &str) -> Option<&'a Column> {
        self.columns.iter().find(|(known, _)| *known == name).map(|(_, column)| *column)
    }

    /// What tells rows apart in both forms of a table.
    fn common_key(&self, other: &Self) -> Option<&Vec<String>> {
        let base = |column: &Column| column.data_type.split('(').next().unwrap_or_default().to_owned();
        self.keys.iter().find(|key| {
            let sorted = |key: &Vec<String>| key.iter().cloned().collect::<BTreeSet<_>>();
            other.keys.iter().any(|theirs| sorted(theirs) == sorted(key))
                && key.iter().all(|name| self.column(name).map(base) == other.column(name).map(base))
        })
    }
}

fn table(schema: &str, relation: &str) -> String {
    format!("{}.{}", identifier(schema), identifier(relation))
}

fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

/// Are these the same row? `row` is the archived one as SQL, `t` the table.
fn same(key: &[String], row: &str) -> String {
    let one = |name: &String| {
        format!("(pg_catalog.to_json(t.{}) #>> '{{}}') = ({row} ->> {})", identifier(name), literal(name))
    };
    key.iter().map(one).collect::<Vec<_>>().join(" and ")
}

/// What a row is recognised by later. As jsonb, so that the order of columns makes no difference.
const DIGEST: &str = "pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.to_jsonb(t)::text, 'UTF8')), 'hex')";

/// Rows must come back as they were: no trigger of the table fires.
fn silently(table: &str, statements: &str) -> String {
    let name = literal(table);
    format!(
        "set constraints all immediate; do $tandem$ declare g record; again text := ''; begin \
         for g in select tgname, tgenabled from pg_catalog.pg_trigger where tgrelid = {name}::pg_catalog.regclass \
           and not tgisinternal and tgenabled in ('O', 'A') loop \
           execute pg_catalog.format('alter table %s disable trigger %I', {name}, g.tgname); \
           again := again || pg_catalog.format('alter table %s enable %s trigger %I;', {name}, \
             case g.tgenabled when 'A' then 'always' else '' end, g.tgname); \
         end loop; perform pg_catalog.set_config('tandem.triggers', again, true); end $tandem$; \
         {statements} set constraints all immediate; \
         do $tandem$ begin execute pg_catalog.current_setting('tandem.triggers'); end $tandem$;"
    )
}

/// Sets the sequences of a table behind its highest values.
fn sequences(shape: &Shape<'_>) -> String {
    let numbered = shape.columns.iter().filter(|(_, column)| column.serial || column.identity.is_some());
    numbered
        .map(|(name, _)| {
            format!(
                "do $tandem$ declare s text := pg_catalog.pg_get_serial_sequence({}, {}); highest bigint; newest bigint; begin \
                 if s is not null then select pg_catalog.max({}) from {} into highest; \
                 execute 'select last_value from ' || s into newest; \
                 if highest >= newest then perform pg_catalog.setval(s, highest); end if; end if; end $tandem$;",
                literal(&shape.sql),
                literal(name),
                identifier(name),
                shape.sql
            )
        })
        .collect()
}

/// One step along the timeline, up or down, and what is put back behind it.
pub struct Move<'a> {
    pub store: &'a Store,
    pub version: &'a Version,
    pub direction: Direction,
    /// The catalogs before and after the step.
    pub from: &'a Catalog,
    pub to: &'a Catalog,
}

/// The statements of a [`Move`].
pub struct PutBack {
    /// Before the step's own: which archived rows are still what the rows in their place were made of.
    pub before: String,
    /// Behind them: those rows come back.
    pub after: String,
}

impl Move<'_> {
    /// The statements that put back what the opposite step kept.
    pub fn put_back(&self) -> PutBack {
        let opposite = self.direction.opposite();
        let kept = archive::tables(self.version, opposite, self.to, &effects(self.to, self.from));
        let mut tables: Vec<(BTreeSet<String>, Option<Shape<'_>>, Shape<'_>)> = kept
            .into_iter()
            .filter_map(|kept| {
                let to = Shape::of(self.to, &kept.schema, &kept.relation)?;
                Some((kept.spellings, Shape::of(self.from, &kept.schema, &kept.relation), to))
            })
            .collect();
        let mut put_back = PutBack { before: String::new(), after: String::new() };
        if self.direction == Direction::Down {
            // What an earlier downgrade kept is older than what this one keeps.
            put_back.before.push_str(&self.relabel("not put back", &self.all(Direction::Down), ""));
        }
        while !tables.is_empty() {
            // Parents before children; what refers to each other in a circle comes in the order of names.
            let waiting: BTreeSet<String> = tables.iter().map(|(_, _, to)| bare(&to.sql)).collect();
            let free = |(_, _, to): &(BTreeSet<String>, Option<Shape<'_>>, Shape<'_>)| {
                to.foreign
                    .iter()
                    .all(|f| bare(&f.target) == bare(&to.sql) || !waiting.contains(&bare(&f.target)))
            };
            let next = tables.iter().position(free).unwrap_or_default();
            let (spellings, from, to) = tables.remove(next);
            put_back.before.push_str(&self.classify(&spellings, from.as_ref(), &to));
            put_back.after.push_str(&self.fill(&spellings, from.as_ref(), &to));
        }
        put_back
    }

    /// The statements that note what the step left in the place of each row that it kept.
    pub fn became(&self, effects: &Effects) -> String {
        archive::tables(self.version, self.direction, self.from, effects)
            .into_iter()
            .filter_map(|kept| {
                let from = Shape::of(self.from, &kept.schema, &kept.relation)?;
                let to = Shape::of(self.to, &kept.schema, &kept.relation)?;
                let key = from.common_key(&to)?;
                Some(format!(
                    "update {}.archive a set became = {DIGEST} from {} t where {} and a.became is null and {};\n",
                    self.store.place().0,
                    to.sql,
                    self.scope(&kept.spellings, self.direction),
                    same(key, "a.row")
                ))
            })
            .collect()
    }

    /// Everything that a direction kept for this version and that was not put back yet.
    fn all(&self, direction: Direction) -> String {
        let key = self.store.place().1;
        format!("a.timeline = {key} and a.version = {} and {}", self.version.number, direction.active())
    }

    fn scope(&self, spellings: &BTreeSet<String>, direction: Direction) -> String {
        let names = spellings.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ");
        format!("{} and a.relation in ({names})", self.all(direction))
    }

    /// `put back by run 7: `, as SQL.
    fn label(&self, words: &str) -> String {
        format!("'{words} by run ' || {} || ': '", self.store.current_epoch())
    }

    fn relabel(&self, words: &str, which: &str, from: &str) -> String {
        format!(
            "update {}.archive a set why = {} || a.why {from} where {which};\n",
            self.store.place().0,
            self.label(words)
        )
    }

    /// Labels the archived rows by what will be done with them.
    fn classify(&self, spellings: &BTreeSet<String>, from: Option<&Shape<'_>>, to: &Shape<'_>) -> String {
        let scope = self.scope(spellings, self.direction.opposite());
        let Some(from) = from else { return self.relabel("put back", &scope, "") };
        let mut sql = String::new();
        if let Some(key) = from.common_key(to) {
            let (same, table) = (same(key, "a.row"), format!("from {} t", from.sql));
            sql.push_str(&self.relabel(
                "put back",
                &format!("{scope} and {same} and a.became = {DIGEST}"),
                &table,
            ));
            sql.push_str(&self.relabel("put back in part", &format!("{scope} and {same}"), &table));
        }
        sql.push_str(&self.relabel("put back", &format!("{scope} and a.became is null"), ""));
        sql.push_str(&self.relabel("not put back", &scope, ""));
        sql
    }

    /// Puts the labelled rows back.
    fn fill(&self, spellings: &BTreeSet<String>, from: Option<&Shape<'_>>, to: &Shape<'_>) -> String {
        let (schema, timeline) = self.store.place();
        let names = spellings.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ");
        let labelled = |words: &[&str]| {
            let any: Vec<String> =
                words.iter().map(|words| format!("a.why like {} || '%'", self.label(words))).collect();
            format!(
                "a.timeline = {timeline} and a.version = {} and a.relation in ({names}) and ({})",
                self.version.number,
                any.join(" or ")
            )
        };
        let key = match from {
            Some(from) => from.common_key(to),
            None => to.keys.first(),
        };
        let settable: Vec<&(&str, &Column)> =
            to.columns.iter().filter(|(_, column)| column.identity.as_deref() != Some("always")).collect();
        let mut sql = String::new();
        let Some(key) = key else {
            // Rows that nothing tells apart can only fill an empty table.
            let entries =
                format!("(select a.row from {schema}.archive a where {}) e", labelled(&["put back"]));
            sql.push_str(&insert(to, &entries, &format!("not exists (select from {} t)", to.sql)));
            return silently(&to.sql, &format!("{sql}{}", sequences(to)));
        };
        // Of a row that was kept for several reasons, one is enough.
        let entries = |words: &[&str]| {
            let keys: Vec<String> = key.iter().map(|name| format!("a.row ->> {}", literal(name))).collect();
            let keys = keys.join(", ");
            format!(
                "(select distinct on ({keys}) a.row from {schema}.archive a where {} order by {keys}, a.id desc) e",
                labelled(words)
            )
        };
        let whole: Vec<(String, String)> =
            settable.iter().map(|(name, _)| (identifier(name), format!("r.{}", identifier(name)))).collect();
        sql.push_str(&update(&to.sql, &whole, &entries(&["put back"]), &same(key, "e.row")));
        if let Some(from) = from {
            let added: Vec<(String, String)> = settable
                .iter()
                .filter(|(name, _)| from.column(name).is_none())
                .map(|(name, column)| (identifier(name), unset(name, column)))
                .collect();
            sql.push_str(&update(&to.sql, &added, &entries(&["put back in part"]), &same(key, "e.row")));
        }
        let missing = format!("not exists (select from {} t where {})", to.sql, same(key, "e.row"));
        sql.push_str(&insert(to, &entries(&["put back", "put back in part"]), &missing));
        let archived = format!("select from {} t where {}", to.sql, same(key, "a.row"));
        sql.push_str(&format!(
            "update {schema}.archive a set why = 'not ' || a.why where {} and not exists ({archived});\n",
            labelled(&["put back", "put back in part"])
        ));
        silently(&to.sql, &format!("{sql}{}", sequences(to)))
    }
}

/// A table's name without quotes, as foreign keys and identifiers can both be written.
fn bare(sql: &str) -> String {
    sql.replace('"', "")
}

/// The archived value where there is none, or only the default.
fn unset(name: &str, column: &Column) -> String {
    let name = identifier(name);
    let default = column.default.as_ref().map_or_else(String::new, |default| {
        format!(" or pg_catalog.to_jsonb(t.{name}) = pg_catalog.to_jsonb(({default})::{})", column.data_type)
    });
    format!("case when t.{name} is null{default} then r.{name} else t.{name} end")
}

fn update(table: &str, values: &[(String, String)], entries: &str, same: &str) -> String {
    if values.is_empty() {
        return String::new();
    }
    let (names, values): (Vec<&str>, Vec<&str>) =
        values.iter().map(|(n, v)| (n.as_str(), v.as_str())).unzip();
    format!(
        "update {table} as t set ({}) = (select {} from pg_catalog.json_populate_record(t, e.row) r) from {entries} where {same};\n",
        names.join(", "),
        values.join(", ")
    )
}

/// Inserts archived rows. One that refers to a row of another table that is gone would have gone with it: it stays archived.
fn insert(to: &Shape<'_>, entries: &str, condition: &str) -> String {
    let names = to.columns.iter().map(|(name, _)| identifier(name)).collect::<Vec<_>>();
    let parents = to.foreign.iter().filter(|foreign| bare(&foreign.target) != bare(&to.sql)).map(|foreign| {
        let null = foreign.own.iter().map(|own| format!("r.{own} is null")).collect::<Vec<_>>().join(" or ");
        let equal =
            foreign.own.iter().zip(&foreign.theirs).map(|(own, theirs)| format!("p.{theirs} = r.{own}"));
        let equal = equal.collect::<Vec<_>>().join(" and ");
        format!(" and ({null} or exists (select from {} p where {equal}))", foreign.target)
    });
    format!(
        "insert into {} ({}) overriding system value select {} from {entries} \
         cross join lateral pg_catalog.json_populate_record(null::{}, e.row) r where {condition}{};\n",
        to.sql,
        names.join(", "),
        names.iter().map(|name| format!("r.{name}")).collect::<Vec<_>>().join(", "),
        to.sql,
        parents.collect::<String>()
    )
}

/// What an operator had put back: `tandem archive restore --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    pub version: Number,
    pub table: String,
    /// Rows that were missing.
    pub inserted: i64,
    /// Rows with columns that were NULL.
    pub filled: i64,
    /// Archived rows, one for each key.
    pub archived: i64,
}

impl Restored {
    /// For people.
    pub fn text(&self) -> String {
        let rows = |n: i64| crate::words::count(usize::try_from(n).unwrap_or(usize::MAX), "row");
        format!(
            "{}: {} inserted, {} filled, of {} that version {} kept\n",
            self.table,
            rows(self.inserted),
            rows(self.filled),
            rows(self.archived),
            self.version
        )
    }
}

/// Which rows an operator asks for.
pub struct Wanted<'a> {
    /// The schema may be left out.
    pub table: &'a str,
    /// The version that kept them; needed where several did.
    pub version: Option<Number>,
}

/// Puts what a version kept of a table back into the table as it is now, in one transaction under the timeline's lock: rows
/// that are missing by primary key, and values where there is NULL now. Columns that have another type by now are left.
///
/// # Errors
/// 76 with nothing changed if the table does not exist, has no primary key or another one, if a row has another value by
/// now, or if the server refuses a row.
pub async fn restore(
    session: &mut Session,
    store: &Store,
    settings: &Settings,
    exclude: &Exclude<'_>,
    expected: &Expected,
    wanted: &Wanted<'_>,
) -> Result<Restored> {
    session.run("opening the transaction", "begin").await?;
    let restored = restore_in(session, store, settings, exclude, expected, wanted).await;
    match &restored {
        Ok(_) => drop(session.run("committing what was restored", "commit").await?),
        Err(error) if error.lost => {}
        Err(_) => session.rollback().await?,
    }
    restored
}

async fn restore_in(
    session: &mut Session,
    store: &Store,
    settings: &Settings,
    exclude: &Exclude<'_>,
    expected: &Expected,
    wanted: &Wanted<'_>,
) -> Result<Restored> {
    let Wanted { table: asked, version } = *wanted;
    let refused = |found: String| Error::new(ExitCode::Refused, format!("{found}; nothing was changed"));
    let (schema, timeline) = store.place();
    let scope = format!(
        "a.timeline = {timeline} and a.why not like '%downgrade: %' \
         and (a.relation = {asked} or pg_catalog.right(a.relation, pg_catalog.length({asked}) + 1) = '.' || {asked}){}",
        version.map_or_else(String::new, |version| format!(" and a.version = {version}")),
        asked = literal(asked)
    );
    let found = match store.tables_exist(session).await? {
        true => {
            let sql = format!(
                "select a.version, pg_catalog.max(a.relation) from {schema}.archive a where {scope} group by 1 order by 1"
            );
            session.run("reading the archive", sql).await?
        }
        false => Vec::new(),
    };
    let versions = (0..found.len()).map(|i| cell::<Number>(&found, i, 0)).collect::<Result<Vec<_>>>()?;
    let version = match versions.as_slice() {
        [] => {
            return Err(refused(format!("the archive has no rows of {asked}"))
                .remedy("tandem archive list shows what it has"));
        }
        [only] => *only,
        several => {
            let several: Vec<String> = several.iter().map(ToString::to_string).collect();
            return Err(refused(format!("versions {} kept rows of {asked}", several.join(", ")))
                .remedy("say which with --version; tandem archive show has the rows"));
        }
    };
    let relation: String = cell(&found, 0, 1)?;
    let catalog = introspect::introspect(session.connection(), &settings.schemas, exclude).await?;
    let there = archive::find(&catalog, &relation).and_then(|id| {
        let shape = Shape::of(&catalog, &id.schema, &id.relation)?;
        Some((id.clone(), shape))
    });
    let Some((id, shape)) = there else {
        return Err(refused(format!("there is no table {relation} at the present version"))
            .expected("the table that the rows are to be put back into")
            .remedy(format!(
                "tandem downgrade to a version before {version} makes it again with its rows; tandem archive show has them"
            )));
    };
    let before = expected.index.versions.iter().map(|v| v.number).rfind(|number| *number < version);
    let before = before.and_then(|number| expected.catalog_at(number)).unwrap_or_default();
    let then = Shape::of(&before, &id.schema, &id.relation);
    // A column that this timeline did not have then is somebody's own.
    let as_then = |name: &str, column: &Column| {
        then.as_ref().and_then(|then| then.column(name)).is_none_or(|old| old.data_type == column.data_type)
    };
    let Some(key) = shape.keys.first() else {
        return Err(refused(format!("{relation} has no primary key to tell rows by")));
    };
    let same_key = key.iter().all(|name| shape.column(name).is_some_and(|column| as_then(name, column)));
    if !same_key || then.as_ref().is_some_and(|then| !then.keys.contains(key)) {
        return Err(refused(format!("{relation} has another primary key than before version {version}"))
            .remedy("tandem archive show has the rows"));
    }
    let columns: Vec<(&str, &Column)> =
        shape.columns.iter().copied().filter(|(name, column)| as_then(name, column)).collect();
    let keys: Vec<String> = key.iter().map(|name| format!("a.row ->> {}", literal(name))).collect();
    let keys = keys.join(", ");
    let entries = format!(
        "(select distinct on ({keys}) a.row from {schema}.archive a where {scope} and a.version = {version} order by {keys}, a.id desc) e"
    );
    let same = same(key, "e.row");
    let names: Vec<String> = columns.iter().map(|(name, _)| literal(name)).collect();
    let named: Vec<String> = key
        .iter()
        .map(|name| format!("{} || (e.row ->> {})", literal(&format!("{name} = ")), literal(name)))
        .collect();
    let conflicts = format!(
        "select pg_catalog.concat_ws(', ', {}), pg_catalog.count(*) over () from {} t join {entries} on {same} \
         where exists (select from pg_catalog.jsonb_each(pg_catalog.to_jsonb(t)) n join pg_catalog.jsonb_each(e.row::jsonb) o using (key) \
           where key in ({}) and n.value <> 'null' and o.value <> 'null' and n.value <> o.value) order by 1 limit 10",
        named.join(", "),
        shape.sql,
        names.join(", ")
    );
    let rows = session.run("comparing rows with archived ones", conflicts).await?;
    if !rows.is_empty() {
        let all: i64 = cell(&rows, 0, 1)?;
        let shown = (0..rows.len()).map(|i| cell::<String>(&rows, i, 0)).collect::<Result<Vec<_>>>()?;
        let more = if usize::try_from(all).is_ok_and(|all| all > shown.len()) { "; …" } else { "" };
        return Err(refused(format!(
            "{all} of the archived rows are in {relation} with other values: {}{more}",
            shown.join("; ")
        ))
        .expected("rows that are missing, or lack values that the archive has")
        .remedy("tandem archive show has the archived values; change these rows by hand, or leave them as they are"));
    }
    let set: Vec<(String, String)> = columns
        .iter()
        .filter(|(name, column)| {
            column.identity.as_deref() != Some("always") && !key.iter().any(|k| k == name)
        })
        .map(|(name, _)| (identifier(name), format!("coalesce(t.{0}, r.{0})", identifier(name))))
        .collect();
    let lacks: Vec<String> = columns
        .iter()
        .map(|(name, _)| {
            format!("(t.{} is null and e.row ->> {} is not null)", identifier(name), literal(name))
        })
        .collect();
    let updated = update(&shape.sql, &set, &entries, &format!("{same} and ({})", lacks.join(" or ")));
    let only = Shape { columns, foreign: Vec::new(), keys: Vec::new(), sql: shape.sql.clone() };
    let inserted = insert(&only, &entries, &format!("not exists (select from {} t where {same})", shape.sql));
    let counted = |statement: &str| {
        let statement = statement.trim_end().trim_end_matches(';');
        format!("with done as ({statement} returning 1) select pg_catalog.count(*) from done;")
    };
    let filled = if set.is_empty() { "select 0::bigint;".to_owned() } else { counted(&updated) };
    let statements = format!(
        "select pg_catalog.count(*) from {entries}; {filled} {} {}",
        counted(&inserted),
        sequences(&shape)
    );
    match session.batch(silently(&shape.sql, &statements)).await {
        Ok(rows) => Ok(Restored {
            version,
            table: relation,
            archived: cell(&rows, 0, 0)?,
            filled: cell(&rows, 1, 0)?,
            inserted: cell(&rows, 2, 0)?,
        }),
        Err(failure) if failure.lost || failure.code.as_deref() == Some("42501") => {
            Err(failure.into_error("restoring archived rows"))
        }
        Err(failure) => {
            Err(refused(format!("{relation} does not take the archived rows: {}", failure.words())))
        }
    }
}
