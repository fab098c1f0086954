//! Reading a catalog again behind a version of several: what the version touched, and nothing else.
//!
//! A print is a hash over the `ctid` and `xmin` of the rows that make a relation in the server's catalogs, as in the change
//! detector, relation by relation. A relation with the same print is taken as it was read before; the others, and whatever may
//! print differently because of them, are read. What is printed elsewhere by name may not have changed its name: then, and in
//! every other doubt, everything is read. Comments are not watched: they are evidence of nothing.

use super::introspect::{Exclude, Reader, STATEMENTS, filled, introspect, managed, with_settings};
use super::session::{Session, begin_read_only, cell, literal};
use crate::catalog::{Catalog, Detail, Kind, Object, ObjectId};
use crate::error::Result;
use std::collections::{BTreeMap, BTreeSet};

/// The prints of a database, and the names under which its objects are printed elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prints {
    /// Of everything that has no print of its own: types, extensions, operators, other schemas.
    others: String,
    relations: BTreeMap<u32, Print>,
    functions: BTreeMap<u32, Print>,
    sequences: BTreeMap<u32, Owned>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Print {
    /// `relkind` or `prokind`; and whether it prints queries, which show the names of what they read.
    kind: String,
    schema: String,
    name: String,
    hash: String,
}

/// A sequence, which counts among the rows of the relation that owns it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    owner: Option<u32>,
    schema: String,
    name: String,
}

/// What was read behind a version.
#[derive(Debug)]
pub struct Again {
    pub catalog: Catalog,
    pub prints: Prints,
    /// Everything was read.
    pub whole: bool,
}

/// What is to be read again.
#[derive(Debug, PartialEq, Eq, Default)]
struct Touched {
    relations: BTreeSet<u32>,
    gone: BTreeSet<u32>,
    functions: bool,
}

impl Prints {
    fn row(&mut self, rows: &[sqlx::postgres::PgRow], i: usize) -> Result<()> {
        let (what, kind, schema, name, hash): (String, String, String, String, String) =
            (cell(rows, i, 0)?, cell(rows, i, 2)?, cell(rows, i, 3)?, cell(rows, i, 4)?, cell(rows, i, 5)?);
        let oid = cell::<String>(rows, i, 1)?.parse().unwrap_or_default();
        match what.as_str() {
            "others" => self.others = hash,
            "sequence" => {
                self.sequences.insert(oid, Owned { owner: kind.parse().ok(), schema, name });
            }
            what => {
                let prints = if what == "relation" { &mut self.relations } else { &mut self.functions };
                prints.insert(oid, Print { kind, schema, name, hash });
            }
        }
        Ok(())
    }

    /// A sequence that no relation here owns may feed any column.
    fn is_clear(&self) -> bool {
        self.sequences.values().all(|s| s.owner.is_some_and(|owner| self.relations.contains_key(&owner)))
    }

    /// What has changed since; `None` if everything is to be read.
    fn touched(&self, now: &Self) -> Option<Touched> {
        let same_name = |prints: &BTreeMap<u32, Print>, oid: &u32, print: &Print| {
            prints.get(oid).is_none_or(|old| {
                (&old.kind, &old.schema, &old.name) == (&print.kind, &print.schema, &print.name)
            })
        };
        let named = now.relations.iter().all(|(oid, print)| same_name(&self.relations, oid, print))
            && now.functions.iter().all(|(oid, print)| same_name(&self.functions, oid, print))
            && now.sequences.iter().all(|(oid, now)| {
                self.sequences.get(oid).is_none_or(|old| (&old.schema, &old.name) == (&now.schema, &now.name))
            });
        if self.others != now.others || !named || !self.is_clear() || !now.is_clear() {
            return None;
        }
        let mut touched = Touched::default();
        for (oid, print) in &now.relations {
            match self.relations.get(oid) {
                Some(old) if old.hash == print.hash => continue,
                // The names of its attributes are printed elsewhere.
                Some(_) if print.kind == "c" => return None,
                _ => touched.relations.insert(*oid),
            };
        }
        touched.gone =
            self.relations.keys().filter(|oid| !now.relations.contains_key(oid)).copied().collect();
        touched.functions = self.functions != now.functions;
        if touched != Touched::default() {
            let queries = |print: &Print| print.kind.ends_with("queries");
            touched.relations.extend(now.relations.iter().filter(|(_, p)| queries(p)).map(|(oid, _)| *oid));
            touched.functions |= now.functions.values().any(queries);
        }
        Some(touched)
    }
}

/// The prints that belong to a catalog which the change detector stands for; `None` if that has changed.
pub async fn prints_of(
    session: &mut Session,
    schemas: &[String],
    exclude: &Exclude<'_>,
    detector: &str,
) -> Result<Option<Prints>> {
    session.run("opening a read-only transaction", begin_read_only("pg_catalog")).await?;
    let now = super::detector::read(session, schemas, exclude).await?;
    let prints = prints(session, schemas, exclude).await?;
    session.run("ending the read-only transaction", "commit").await?;
    Ok((now == detector).then_some(prints))
}

/// Reads the catalog behind a version. `before` is what was read last in this run, with its prints.
pub async fn read_again(
    session: &mut Session,
    schemas: &[String],
    exclude: &Exclude<'_>,
    before: Option<(&Prints, &Catalog)>,
) -> Result<Again> {
    // Before the reading: what changes in between is then read once more behind the next version.
    let now = prints(session, schemas, exclude).await?;
    if let Some((old, catalog)) = before
        && let Some(touched) = old.touched(&now)
    {
        let catalog = catalog.clone();
        if let Some(catalog) = read_touched(session, catalog, old, &now, &touched).await? {
            return Ok(Again { catalog, prints: now, whole: false });
        }
    }
    let catalog = introspect(session.connection(), schemas, exclude).await?;
    Ok(Again { catalog, prints: now, whole: true })
}

/// Replaces what was touched; `None` if a column has another name, which may be printed anywhere.
async fn read_touched(
    session: &mut Session,
    mut catalog: Catalog,
    old: &Prints,
    now: &Prints,
    touched: &Touched,
) -> Result<Option<Catalog>> {
    if *touched == Touched::default() {
        return Ok(Some(catalog));
    }
    let replaced: BTreeSet<(&str, &str)> = touched
        .relations
        .iter()
        .chain(&touched.gone)
        .filter_map(|oid| old.relations.get(oid))
        .map(|print| (print.schema.as_str(), print.name.as_str()))
        .collect();
    // One of the same name that was made anew is another relation.
    let altered: BTreeSet<(&str, &str)> = touched
        .relations
        .iter()
        .filter_map(|oid| old.relations.get(oid))
        .map(|print| (print.schema.as_str(), print.name.as_str()))
        .collect();
    let mut columns: BTreeMap<(String, String, i32), String> = BTreeMap::new();
    catalog.objects.retain(|id, object| {
        let relation = match id.kind {
            Kind::Composite => &id.name,
            Kind::Function => return !touched.functions,
            _ => &id.relation,
        };
        let place = (id.schema.as_str(), relation.as_str());
        if let Detail::Column(column) = &object.detail
            && altered.contains(&place)
        {
            columns.insert((id.schema.clone(), id.relation.clone(), column.position), id.name.clone());
        }
        !replaced.contains(&place)
    });
    let sequences =
        now.sequences.iter().filter(|(_, s)| s.owner.is_some_and(|o| touched.relations.contains(&o)));
    let oids: Vec<String> =
        touched.relations.iter().chain(sequences.map(|(oid, _)| oid)).map(ToString::to_string).collect();
    let mut reader = Reader::default();
    let sql: String = sections()
        .filter(|(name, _)| *name != "function" || touched.functions)
        .map(|(name, statement)| match statement.contains("{only}") {
            true => format!("EXECUTE tandem_{name}('{{{}}}');", oids.join(",")),
            false => format!("EXECUTE tandem_{name};"),
        })
        .collect();
    reader.rows(session.connection(), with_settings(&sql)).await?;
    let renamed = |id: &ObjectId, object: &Object| match &object.detail {
        Detail::Column(column) => columns
            .get(&(id.schema.clone(), id.relation.clone(), column.position))
            .is_some_and(|name| *name != id.name),
        _ => false,
    };
    let read = reader.finish();
    if read.objects.iter().any(|(id, object)| renamed(id, object)) {
        return Ok(None);
    }
    catalog.objects.extend(read.objects);
    Ok(Some(catalog))
}

/// The sections of the introspection that are read again.
fn sections() -> impl Iterator<Item = (&'static str, &'static str)> {
    STATEMENTS.split("\n\n").map(str::trim).filter_map(|statement| {
        let name = statement.split('\'').nth(1)?;
        (!matches!(name, "server" | "extension" | "type")).then_some((name, statement.trim_end_matches(';')))
    })
}

/// Takes the prints, with statements that the server plans once for a session.
async fn prints(session: &mut Session, schemas: &[String], exclude: &Exclude<'_>) -> Result<Prints> {
    let rows = session
        .run(
            "looking for prepared statements",
            "select count(*)::text from pg_catalog.pg_prepared_statements where name ~ '^tandem_' and name !~ '^tandem_check_'",
        )
        .await?;
    let prepared: String = cell(&rows, 0, 0)?;
    let mut sql = String::new();
    if prepared != (sections().count() + 1).to_string() {
        // A version may have sent them away, all or some.
        sql.push_str("DEALLOCATE ALL;\n");
        session.forget_prepared();
        for (name, statement) in sections() {
            let parameter = if statement.contains("{only}") { "(oid[])" } else { "" };
            let statement = filled(&statement.replace("{only}", "AND c.oid = ANY ($1)"), schemas, exclude);
            sql.push_str(&format!("PREPARE tandem_{name}{parameter} AS {statement};\n"));
        }
        let statement = PRINTS
            .replace("{hash}", "concat(count(*), ':', bit_xor(hash_record_extended(ROW(ctid, xmin), 0)))")
            .replace("{ledger}", &literal(exclude.ledger_schema))
            .replace("{managed}", &managed(schemas, exclude));
        sql.push_str(&format!("PREPARE tandem_prints AS {statement};\n"));
    }
    sql.push_str("EXECUTE tandem_prints;");
    let rows = session.run("asking what has changed in the catalog", with_settings(&sql)).await?;
    let mut prints = Prints::default();
    for i in 0..rows.len() {
        if cell::<&str>(&rows, i, 0)? != "setting" {
            prints.row(&rows, i)?;
        }
    }
    Ok(prints)
}

/// What the change detector hashes as a whole, by relation; and by name what else can be named in a definition.
const PRINTS: &str = "\
WITH ns AS MATERIALIZED (
    SELECT oid, nspname, nspname = ANY ({managed}) AS managed, hash_record_extended(ROW(ctid, xmin), 0) AS hash
    FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', {ledger})
), rel AS MATERIALIZED (
    SELECT c.oid, c.relkind, n.nspname, c.relname, n.managed, hash_record_extended(ROW(c.ctid, c.xmin), 0) AS hash
    FROM pg_class c JOIN ns n ON n.oid = c.relnamespace
), tables AS MATERIALIZED (
    SELECT array_agg(oid) FILTER (WHERE managed) AS own, array_agg(oid) FILTER (WHERE NOT managed) AS beyond
    FROM rel WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
), seq AS MATERIALIZED (
    SELECT x.oid, d.refobjid AS owner, x.nspname, x.relname,
        hash_record_extended(ROW(s.ctid, s.xmin, x.hash, d.refobjid, d.refobjsubid, d.deptype), 0) AS hash
    FROM rel x JOIN pg_sequence s ON s.seqrelid = x.oid
    LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = x.oid AND d.objsubid = 0
        AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
    WHERE x.relkind = 'S' AND x.managed
), part AS (
    SELECT oid AS owner, hash FROM rel WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
    UNION ALL SELECT owner, hash FROM seq
    UNION ALL SELECT attrelid, hash_record_extended(ROW(ctid, xmin), 1) FROM pg_attribute
        WHERE attrelid = ANY ((SELECT own FROM tables)::oid[]) AND attnum > 0
    UNION ALL SELECT conrelid, hash_record_extended(ROW(ctid, xmin), 2) FROM pg_constraint WHERE conrelid <> 0
    UNION ALL SELECT i.indrelid, hash_record_extended(ROW(i.ctid, i.xmin, x.hash), 3)
        FROM rel x JOIN pg_index i ON i.indexrelid = x.oid WHERE x.relkind IN ('i', 'I')
    UNION ALL SELECT tgrelid, hash_record_extended(ROW(ctid, xmin), 4) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT polrelid, hash_record_extended(ROW(ctid, xmin), 5) FROM pg_policy
    UNION ALL SELECT ev_class, hash_record_extended(ROW(ctid, xmin), 6) FROM pg_rewrite
        WHERE ev_class = ANY ((SELECT own FROM tables)::oid[])
), hashed AS (
    SELECT owner, concat(count(*), ':', bit_xor(hash)) AS hash FROM part GROUP BY owner
)
SELECT 'relation', r.oid::text,
    concat(r.relkind, CASE WHEN r.relkind IN ('v', 'm') OR r.oid IN (SELECT polrelid FROM pg_policy) THEN ' queries' END),
    r.nspname::text, r.relname::text, h.hash
FROM rel r JOIN hashed h ON h.owner = r.oid WHERE r.managed AND r.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
UNION ALL SELECT 'sequence', oid::text, coalesce(owner::text, ''), nspname::text, relname::text, '' FROM seq
UNION ALL SELECT 'function', p.oid::text, concat(p.prokind, CASE WHEN p.prosqlbody IS NOT NULL THEN ' queries' END),
    n.nspname::text, p.proname::text, hash_record_extended(ROW(p.ctid, p.xmin), 0)::text
FROM pg_proc p JOIN ns n ON n.oid = p.pronamespace WHERE n.managed AND p.oid >= 16384
UNION ALL SELECT 'others', '0', '', '', '', concat_ws(',',
    (SELECT concat(count(*), ':', bit_xor(hash)) FROM ns),
    (SELECT concat(count(*), ':', bit_xor(hash)) FROM rel WHERE NOT managed),
    (SELECT {hash} FROM pg_attribute WHERE attrelid = ANY ((SELECT beyond FROM tables)::oid[]) AND attnum > 0),
    (SELECT {hash} FROM pg_proc WHERE oid >= 16384 AND pronamespace <> ALL (ARRAY(SELECT oid FROM ns WHERE managed))),
    (SELECT {hash} FROM pg_type WHERE oid >= 16384 AND (typtype IN ('d', 'e', 'r', 'm') OR typtype = 'b' AND typcategory <> 'A')),
    (SELECT {hash} FROM pg_enum),
    (SELECT {hash} FROM pg_constraint WHERE conrelid = 0),
    (SELECT {hash} FROM pg_extension),
    (SELECT {hash} FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'),
    (SELECT {hash} FROM pg_language),
    (SELECT {hash} FROM pg_opclass WHERE oid >= 16384),
    (SELECT {hash} FROM pg_operator WHERE oid >= 16384),
    (SELECT {hash} FROM pg_collation WHERE oid >= 16384),
    (SELECT {hash} FROM pg_ts_config WHERE oid >= 16384))";
