//! Reads a database into a [`Catalog`].
//!
//! One simple query of several statements: one round trip, rows as they come, nothing written. The settings that decide
//! how the server prints definitions are set for it and restored, whether or not the caller is in a transaction.

use crate::catalog::normal::{normal_constraint, normal_index};
use crate::catalog::{
    Catalog, Column, Composite, Constraint, Detail, Domain, Enum, Extension, Feeds, Function,
    IndexDefinition, Kind, Object, ObjectId, Policy, Range, RowSecurity, Sequence, Table, Trigger, View,
};
use crate::error::{Error, Result};
use crate::postgres::detector::detector_sql;
use crate::postgres::session::Failure;
use crate::timeline::{Settings, Timeline};
use futures_util::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use std::collections::{HashMap, HashSet};

/// What never belongs to an application's catalog.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exclude<'a> {
    /// tandem's own schema.
    pub ledger_schema: &'a str,
    /// Other tools' ledger tables, bare or qualified, with all that belongs to them.
    pub adoption_tables: &'a [String],
}

impl<'a> Exclude<'a> {
    /// What the catalogs of a timeline leave out.
    pub fn of(timeline: &'a Timeline) -> Self {
        let Settings { ledger_schema, adoption_tables, .. } = &timeline.settings;
        Self { ledger_schema, adoption_tables }
    }
}

/// Reads the application's objects in the managed schemas, as this transaction sees them.
///
/// # Errors
/// The connection's or the server's. The caller's transaction, if any, is then aborted as after any failed statement.
pub async fn introspect(
    connection: &mut PgConnection,
    schemas: &[String],
    exclude: &Exclude<'_>,
) -> Result<Catalog> {
    let mut reader = Reader::default();
    reader.rows(connection, statements(schemas, exclude)).await?;
    Ok(reader.finish())
}

/// The same with the change detector, which is asked first: a change in between makes the two disagree later, and never agree
/// wrongly.
///
/// # Errors
/// As [`introspect`].
pub async fn introspect_known(
    connection: &mut PgConnection,
    schemas: &[String],
    exclude: &Exclude<'_>,
) -> Result<Known> {
    let detector = detector_sql(schemas, exclude);
    let sql = format!("SELECT 'detector', ({detector});\n{}", statements(schemas, exclude));
    let mut reader = Reader::default();
    reader.rows(connection, sql).await?;
    let detector = std::mem::take(&mut reader.detector);
    Ok(Known { detector, catalog: reader.finish() })
}

/// A catalog and the change detector that stands for it.
#[derive(Debug, Clone)]
pub struct Known {
    pub detector: String,
    pub catalog: Catalog,
}

fn failed(error: sqlx::Error) -> Error {
    Failure::new(error, 0).into_error("reading the Postgres catalog")
}

/// What decides how definitions are printed, and what would make short queries slow.
const SETTINGS: &[(&str, &str)] = &[
    ("search_path", ""),
    ("datestyle", "ISO, YMD"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("quote_all_identifiers", "off"),
    ("standard_conforming_strings", "on"),
    ("jit", "off"),
    // The joins are written in the order that suits them; searching for a better one takes longer than they do.
    ("join_collapse_limit", "1"),
    ("max_parallel_workers_per_gather", "0"),
    ("plan_cache_mode", "force_generic_plan"),
];

/// All statements, each row led by what it is.
fn statements(schemas: &[String], exclude: &Exclude<'_>) -> String {
    with_settings(&filled(&STATEMENTS.replace("{only}", ""), schemas, exclude))
}

/// Statements between the settings that they rely on and those that were there before.
pub(super) fn with_settings(statements: &str) -> String {
    let settings = |value: &dyn Fn(&str, &str) -> String, target: &str| {
        let calls: Vec<String> = SETTINGS
            .iter()
            .map(|(name, wanted)| {
                format!("pg_catalog.set_config('{target}{name}', {}, true)", value(name, wanted))
            })
            .collect();
        format!("SELECT 'setting', {};\n", calls.join(", "))
    };
    let save = settings(&|name, _| format!("pg_catalog.current_setting('{name}')"), "tandem.saved_");
    let set = settings(&|_, wanted| format!("'{wanted}'"), "");
    let restore = settings(&|name, _| format!("pg_catalog.current_setting('tandem.saved_{name}')"), "");
    format!("{save}{set}{statements}{restore}")
}

/// Statements about the managed schemas and what belongs to them.
pub(super) fn filled(statements: &str, schemas: &[String], exclude: &Exclude<'_>) -> String {
    statements
        .replace("{relation}", RELATION)
        .replace("{adoption}", &not_adopted(exclude, "n", "c"))
        .replace("{owner}", &not_adopted(exclude, "pn", "pc"))
        .replace("{managed}", &managed(schemas, exclude))
}

/// The managed schemas as an array in SQL.
pub(super) fn managed(schemas: &[String], exclude: &Exclude<'_>) -> String {
    name_array(schemas.iter().map(String::as_str).filter(|schema| *schema != exclude.ledger_schema))
}

fn name_array<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.map(literal).collect();
    format!("ARRAY[{}]::pg_catalog.text[]", quoted.join(", "))
}

/// A text as a literal in SQL, whatever `standard_conforming_strings` is.
fn literal(text: &str) -> String {
    let escape = if text.contains('\\') { "E" } else { "" };
    format!("{escape}'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The condition that a relation is no other tool's ledger. Names of relations hold no dot unless somebody wants trouble.
fn not_adopted(exclude: &Exclude<'_>, namespace: &str, relation: &str) -> String {
    let conditions: Vec<String> = exclude
        .adoption_tables
        .iter()
        .map(|name| match name.split_once('.') {
            Some((schema, name)) => format!(
                "({namespace}.nspname = {} AND {relation}.relname = {})",
                literal(schema),
                literal(name)
            ),
            None => format!("{relation}.relname = {}", literal(name)),
        })
        .collect();
    if conditions.is_empty() { "true".to_owned() } else { format!("NOT ({})", conditions.join(" OR ")) }
}

/// The condition on a relation `c` in namespace `n`.
const RELATION: &str = "n.nspname = ANY ({managed}) AND {adoption}
    AND c.oid NOT IN (SELECT e.objid FROM pg_depend e
        WHERE e.refclassid = 'pg_extension'::regclass AND e.classid = 'pg_class'::regclass AND e.deptype = 'e')";

/// One section a paragraph. `{only}` narrows those about relations to some.
pub(super) const STATEMENTS: &str = "
SELECT 'server', current_setting('server_version_num');

SELECT 'extension', x.extname, x.extversion, n.nspname, d.description
FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace
LEFT JOIN pg_description d ON d.classoid = 'pg_extension'::regclass AND d.objoid = x.oid AND d.objsubid = 0
WHERE x.extname <> 'plpgsql';

SELECT 'member', quote_ident(n.nspname) || '.', m.name
FROM (
    SELECT p.pronamespace AS namespace, quote_ident(p.proname) AS name
    FROM pg_depend e JOIN pg_proc p ON p.oid = e.objid
    WHERE e.refclassid = 'pg_extension'::regclass AND e.deptype = 'e' AND e.classid = 'pg_proc'::regclass
    UNION ALL SELECT t.typnamespace, quote_ident(t.typname)
    FROM pg_depend e JOIN pg_type t ON t.oid = e.objid
    WHERE e.refclassid = 'pg_extension'::regclass AND e.deptype = 'e' AND e.classid = 'pg_type'::regclass
    UNION ALL SELECT o.opcnamespace, quote_ident(o.opcname)
    FROM pg_depend e JOIN pg_opclass o ON o.oid = e.objid
    WHERE e.refclassid = 'pg_extension'::regclass AND e.deptype = 'e' AND e.classid = 'pg_opclass'::regclass
    UNION ALL SELECT l.collnamespace, quote_ident(l.collname)
    FROM pg_depend e JOIN pg_collation l ON l.oid = e.objid
    WHERE e.refclassid = 'pg_extension'::regclass AND e.deptype = 'e' AND e.classid = 'pg_collation'::regclass
    UNION ALL SELECT r.oprnamespace, r.oprname
    FROM pg_depend e JOIN pg_operator r ON r.oid = e.objid
    WHERE e.refclassid = 'pg_extension'::regclass AND e.deptype = 'e' AND e.classid = 'pg_operator'::regclass
) m JOIN pg_namespace n ON n.oid = m.namespace
WHERE n.nspname <> 'pg_catalog';

SELECT 'sequence', n.nspname, c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname),
    format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle,
    p.deptype, pn.nspname, pc.relname, pa.attname, d.description
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_sequence s ON s.seqrelid = c.oid
LEFT JOIN pg_depend p ON p.classid = 'pg_class'::regclass AND p.objid = c.oid AND p.objsubid = 0
    AND p.refclassid = 'pg_class'::regclass AND p.refobjsubid > 0 AND p.deptype IN ('a', 'i')
LEFT JOIN pg_class pc ON pc.oid = p.refobjid
LEFT JOIN pg_namespace pn ON pn.oid = pc.relnamespace
LEFT JOIN pg_attribute pa ON pa.attrelid = p.refobjid AND pa.attnum = p.refobjsubid
LEFT JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND d.objsubid = 0
WHERE c.relkind = 'S' AND {relation} {only} AND (pc.oid IS NULL OR {owner})
ORDER BY p.deptype DESC NULLS LAST, c.relname;

SELECT 'relation', n.nspname, c.relname, c.relkind, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity,
    CASE c.relkind WHEN 'p' THEN pg_get_partkeydef(c.oid) END,
    CASE WHEN c.relispartition THEN pg_get_expr(c.relpartbound, c.oid) END,
    (SELECT json_agg(quote_ident(pn.nspname) || '.' || quote_ident(pc.relname) ORDER BY i.inhseqno)
        FROM pg_inherits i JOIN pg_class pc ON pc.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = pc.relnamespace
        WHERE i.inhrelid = c.oid),
    array_to_string(c.reloptions, ', '),
    CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END, d.description
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND d.objsubid = 0
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c') AND {relation} {only};

SELECT DISTINCT 'read', n.nspname, c.relname, c.relkind,
    concat_ws('.', quote_ident(rn.nspname), quote_ident(rc.relname), quote_ident(ra.attname)) AS source
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_rewrite r ON r.ev_class = c.oid AND r.rulename = '_RETURN'
JOIN pg_depend p ON p.classid = 'pg_rewrite'::regclass AND p.objid = r.oid AND p.refclassid = 'pg_class'::regclass
    AND p.refobjid <> c.oid
JOIN pg_class rc ON rc.oid = p.refobjid JOIN pg_namespace rn ON rn.oid = rc.relnamespace
LEFT JOIN pg_attribute ra ON ra.attrelid = rc.oid AND ra.attnum = p.refobjsubid AND p.refobjsubid > 0
WHERE c.relkind IN ('v', 'm') AND {relation} {only}
ORDER BY source;

SELECT 'column', n.nspname, c.relname, c.relkind, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod),
    a.attnotnull AND (a.attrelid, a.attnum) NOT IN (SELECT k.conrelid, k.conkey[1] FROM pg_constraint k
        WHERE k.contype = 'n' AND k.conrelid <> 0 AND NOT k.convalidated),
    CASE WHEN a.attgenerated = '' THEN pg_get_expr(f.adbin, 0) ELSE pg_get_expr(f.adbin, f.adrelid) END, a.attgenerated, a.attidentity,
    CASE WHEN a.attcollation <> t.typcollation THEN
        (SELECT quote_ident(ln.nspname) || '.' || quote_ident(l.collname)
            FROM pg_collation l JOIN pg_namespace ln ON ln.oid = l.collnamespace WHERE l.oid = a.attcollation) END,
    d.description, nullif(quote_ident(a.attname), a.attname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
LEFT JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND d.objsubid = a.attnum
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c') AND {relation} {only}
ORDER BY a.attrelid, a.attnum;

SELECT 'constraint', n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid), k.convalidated, d.description
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_description d ON d.classoid = 'pg_constraint'::regclass AND d.objoid = k.oid AND d.objsubid = 0
WHERE k.contype IN ('p', 'u', 'c', 'f', 'x') AND k.conislocal AND {relation} {only}
ORDER BY k.convalidated DESC, k.conname;

SELECT 'opclass', o.oid, CASE WHEN NOT o.opcdefault THEN
    CASE WHEN n.nspname <> 'pg_catalog' THEN quote_ident(n.nspname) || '.' ELSE '' END || quote_ident(o.opcname) END
FROM pg_opclass o JOIN pg_namespace n ON n.oid = o.opcnamespace JOIN pg_am m ON m.oid = o.opcmethod
WHERE m.amname = 'btree';

SELECT 'index', n.nspname, c.relname, x.relname, i.indisvalid, d.description,
    CASE WHEN m.amname <> 'btree' OR i.indisunique OR i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
            OR x.reloptions IS NOT NULL OR c.relkind <> 'r' OR NOT i.indcollation::oid[] <@ '{0,100}'::oid[]
        THEN pg_get_indexdef(i.indexrelid) END,
    quote_ident(x.relname), quote_ident(n.nspname) || '.' || quote_ident(c.relname),
    i.indnkeyatts, i.indkey, i.indclass, i.indoption
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
LEFT JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = x.oid AND d.objsubid = 0
WHERE NOT x.relispartition AND c.relkind IN ('r', 'p', 'm') AND {relation} {only}
    AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
ORDER BY i.indisvalid DESC, x.relname;

SELECT 'trigger', n.nspname, c.relname, t.tgname, pg_get_triggerdef(t.oid), t.tgenabled, d.description
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_description d ON d.classoid = 'pg_trigger'::regclass AND d.objoid = t.oid AND d.objsubid = 0
WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND {relation} {only};

SELECT 'policy', n.nspname, c.relname, y.polname, y.polpermissive, y.polcmd,
    (SELECT json_agg(CASE WHEN r = 0 THEN 'public' ELSE pg_get_userbyid(r) END) FROM unnest(y.polroles) r),
    pg_get_expr(y.polqual, y.polrelid), pg_get_expr(y.polwithcheck, y.polrelid), d.description
FROM pg_policy y JOIN pg_class c ON c.oid = y.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_description d ON d.classoid = 'pg_policy'::regclass AND d.objoid = y.oid AND d.objsubid = 0
WHERE {relation} {only};

SELECT 'type', n.nspname, t.typname, t.typtype,
    (SELECT json_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
    CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod)
        WHEN 'r' THEN (SELECT format_type(r.rngsubtype, NULL) FROM pg_range r WHERE r.rngtypid = t.oid) END,
    t.typnotnull, pg_get_expr(t.typdefaultbin, 0),
    CASE t.typtype WHEN 'd' THEN (SELECT json_agg(pg_get_constraintdef(k.oid)) FROM pg_constraint k
            WHERE k.contypid = t.oid AND k.contype = 'c')
        WHEN 'r' THEN (SELECT json_agg(option) FROM pg_range r JOIN pg_type b ON b.oid = r.rngsubtype
            JOIN pg_type u ON u.oid = r.rngmultitypid JOIN pg_namespace un ON un.oid = u.typnamespace
            JOIN pg_opclass o ON o.oid = r.rngsubopc JOIN pg_namespace o_n ON o_n.oid = o.opcnamespace
            LEFT JOIN pg_collation l ON l.oid = r.rngcollation AND l.oid <> b.typcollation
            LEFT JOIN pg_namespace ln ON ln.oid = l.collnamespace,
            LATERAL (VALUES
                ('SUBTYPE_OPCLASS = ' || CASE WHEN NOT o.opcdefault THEN quote_ident(o_n.nspname) || '.' || quote_ident(o.opcname) END),
                ('COLLATION = ' || quote_ident(ln.nspname) || '.' || quote_ident(l.collname)),
                ('SUBTYPE_DIFF = ' || nullif(r.rngsubdiff::text, '-')),
                ('MULTIRANGE_TYPE_NAME = ' || CASE WHEN u.typname <> CASE WHEN t.typname ~ 'range' THEN regexp_replace(t.typname, 'range', 'multirange')
                    ELSE t.typname || '_multirange' END THEN quote_ident(un.nspname) || '.' || quote_ident(u.typname) END)
            ) options (option) WHERE r.rngtypid = t.oid AND option IS NOT NULL) END,
    d.description
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_description d ON d.classoid = 'pg_type'::regclass AND d.objoid = t.oid AND d.objsubid = 0
WHERE t.typtype IN ('e', 'd', 'r') AND n.nspname = ANY ({managed})
    AND t.oid NOT IN (SELECT e.objid FROM pg_depend e
        WHERE e.refclassid = 'pg_extension'::regclass AND e.classid = 'pg_type'::regclass AND e.deptype = 'e');

SELECT 'function', n.nspname, p.proname, oidvectortypes(p.proargtypes), p.prokind, pg_get_function_result(p.oid),
    l.lanname, CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END, d.description
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
LEFT JOIN pg_description d ON d.classoid = 'pg_proc'::regclass AND d.objoid = p.oid AND d.objsubid = 0
WHERE n.nspname = ANY ({managed})
    AND NOT EXISTS (SELECT FROM pg_depend e
        WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.objsubid = 0 AND e.deptype IN ('e', 'i'));
";

/// Turns rows into objects.
#[derive(Default)]
pub(super) struct Reader {
    catalog: Catalog,
    detector: String,
    members: Members,
    /// Column names that are not written as they are → with quotes.
    quoted: HashMap<String, String>,
    /// B-tree operator classes by their OIDs: the name, unless it is some type's default.
    classes: HashMap<String, Option<String>>,
    /// The next value of a sequence, and the column that owns it.
    owned: HashSet<(String, ObjectId)>,
    /// The next value of a sequence that no column owns → the sequence and the columns whose default it is.
    free: HashMap<String, (ObjectId, Vec<ObjectId>)>,
}

/// The names that belong to extensions.
#[derive(Default)]
struct Members {
    /// `public.`
    schemas: Vec<String>,
    /// `public.gin_trgm_ops`
    names: HashSet<String>,
}

/// A row's values by position; the simple protocol sends all of them as text.
struct Values<'r>(&'r PgRow);

impl<'r> Values<'r> {
    fn get(&self, at: usize) -> sqlx::Result<Option<&'r str>> {
        self.0.try_get_unchecked(at)
    }

    fn text(&self, at: usize) -> sqlx::Result<&'r str> {
        Ok(self.get(at)?.unwrap_or_default())
    }

    fn flag(&self, at: usize) -> sqlx::Result<bool> {
        Ok(self.get(at)? == Some("t"))
    }

    fn number<N: std::str::FromStr>(&self, at: usize) -> sqlx::Result<N> {
        self.text(at)?.parse().map_err(|_| self.unexpected("a number", at))
    }

    fn list(&self, at: usize) -> sqlx::Result<Vec<String>> {
        let text = self.get(at)?.unwrap_or("[]");
        serde_json::from_str(text).map_err(|_| self.unexpected("a list", at))
    }

    fn unexpected(&self, wanted: &str, at: usize) -> sqlx::Error {
        let what = self.text(0).unwrap_or_default();
        sqlx::Error::Protocol(format!("{wanted} expected in value {at} of a {what}"))
    }
}

impl Reader {
    pub(super) async fn rows(&mut self, connection: &mut PgConnection, sql: String) -> Result<()> {
        let mut rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch(connection);
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            self.row(&row).map_err(failed)?;
        }
        Ok(())
    }

    fn row(&mut self, row: &PgRow) -> sqlx::Result<()> {
        let values = Values(row);
        match values.text(0)? {
            "detector" => self.detector = values.text(1)?.to_owned(),
            "server" => self.catalog.server = values.number(1)?,
            "extension" => self.extension(&values)?,
            "member" => self.members.add(values.text(1)?, values.text(2)?),
            "sequence" => self.sequence(&values)?,
            "relation" => self.relation(&values)?,
            "read" => self.read(&values)?,
            "column" => self.column(&values)?,
            "constraint" => self.constraint(&values)?,
            "opclass" => {
                let class = values.get(2)?.map(|class| self.members.unqualify(class));
                self.classes.insert(values.text(1)?.to_owned(), class);
            }
            "index" => self.index(&values)?,
            "trigger" => self.trigger(&values)?,
            "policy" => self.policy(&values)?,
            "type" => self.data_type(&values)?,
            "function" => self.function(&values)?,
            _ => {}
        }
        Ok(())
    }

    /// A sequence that lost its owner, and still feeds one column and no other, is that column's.
    pub(super) fn finish(mut self) -> Catalog {
        let catalog = &mut self.catalog;
        for (id, users) in self.free.into_values() {
            let [user] = users.as_slice() else { continue };
            let Some(Object { detail: Detail::Sequence(sequence), comment }) = catalog.objects.remove(&id)
            else {
                continue;
            };
            if let Some(Detail::Column(column)) =
                catalog.objects.get_mut(user).map(|object| &mut object.detail)
            {
                column.serial = true;
                column.default = None;
            }
            let detail = Detail::Sequence(Sequence { feeds: Feeds::Used, ..sequence });
            catalog.insert(ObjectId { kind: Kind::Sequence, ..user.clone() }, Object { detail, comment });
        }
        self.catalog
    }

    fn insert(&mut self, id: ObjectId, detail: Detail, comment: Option<&str>) {
        self.catalog.insert(id, Object { detail, comment: comment.map(str::to_owned) });
    }

    fn extension(&mut self, values: &Values<'_>) -> sqlx::Result<()> {
        let id = ObjectId::alone(Kind::Extension, "", values.text(1)?);
        let detail = Extension { version: values.text(2)?.to_owned(), schema: values.text(3)?.to_owned() };
        self.insert(id, Detail::Extension(detail), values.get(4)?);
        Ok(())
    }

    fn sequence(&mut self, values: &Values<'_>) -> sqlx::Result<()> {
        let (schema, name) = (values.text(1)?, values.text(2)?);
        let feeds = match values.get(11)? {
            Some("i") => Feeds::Identity,
            Some(_) => Feeds::Owned,
            None => Feeds::Free,
        };
        let qualified = values.text(3)?.replace('\'', "''");
        let default = format!("nextval('{qualified}'::regclass)");
        let id = if feeds == Feeds::Free {
            let id = ObjectId::alone(Kind::Sequence, schema, name);
            self.free.insert(default, (id.clone(), Vec::new()));
            id
        } else {
            let (schema, relation, column) = (values.text(12)?, values.text(13)?, values.text(14)?);
            let id = ObjectId::part(Kind::Column, schema, relation, column);
            self.owned.insert((default, id));
            ObjectId::part(Kind::Sequence, schema, relation, column)
        };
        let detail = Sequence {
            name: name.to_owned(),
            feeds,
            data_type: values.text(4)?.to_owned(),
            start: values.number(5)?,
            increment: values.number(6)?,
            min: values.number(7)?,
            max: values.number(8)?,
            cache: values.number(9)?,
            cycle: values.flag(10)?,
        };
        self.insert(id, Detail::Sequence(detail), values.get(15)?);
        Ok(())
    }

    fn relation(&mut self, values: &Values<'_>) -> sqlx::Result<()> {
        let (schema, name, comment) = (values.text(1)?, values.text(2)?, values.get(12)?);
        let options = values.get(10)?.filter(|options| !options.is_empty()).map(str::to_owned);
        let kind = values.text(3)?;
        let (id, detail) = match kind {
            "c" => {
                let id = ObjectId::alone(Kind::Composite, schema, name);
                (id, Detail::Composite(Composite { attributes: Vec::new() }))
            }
            "v" | "m" => {
                let view = View {
                    columns: Vec::new(),
                    reads: Vec::new(),
                    definition: self.members.unqualify(values.text(11)?),
                    options,
                };
                if kind == "v" {
                    (ObjectId::relation(Kind::View, schema, name), Detail::View(view))
                } else {
                    (ObjectId::relation(Kind::MaterializedView, schema, name), Detail::MaterializedView(view))
                }
            }
            _ => {
                let table = Table {
                    unlogged: values.text(4)? == "u",
                    foreign: kind == "f",
                    partition_key: self.members.unqualify_some(values.get(7)?),
                    partition_bound: self.members.unqualify_some(values.get(8)?),
                    parents: values.list(9)?,
                    options,
                };
                (ObjectId::relation(Kind::Table, schema, name), Detail::Table(table))
            }
        };
        for (at, state) in [(5, "ENABLE ROW LEVEL SECURITY"), (6, "FORCE ROW LEVEL SECURITY")] {
            if values.flag(at)? {
                let id = ObjectId::part(Kind::RowSecurity, schema, name, state);
                self.insert(id, Detail::RowSecurity(RowSecurity {}), None);
            }
        }
        self.insert(id, detail, comment);
        Ok(())
    }

    fn read(&mut self, values: &Values<'_>) -> sqlx::Result<()> {
        let kind = if values.text(3)? == "v" { Kind::View } else { Kind::MaterializedView };
        let id = ObjectId::relation(kind, values.text(1)?, values.text(2)?);
        if let Some(Detail::View(view) | Detail::MaterializedView(view)) = self.detail(&id) {
            view.reads.push(values.text(4)?.to_owned());
        }
        Ok(())
    }

    fn detail(&mut self, id: &ObjectId) -> Option<&mut Detail> {
        self.catalog.objects.get_mut(id).map(|object| &mut object.detail)
    }

    fn column(&mut self, values: &Values<'_>) -> sqlx::Result<()> {
        let (schema, relation, name) = (values.text(1)?, values.text(2)?, values.text(4)?);
        let data_type = self.members.unqualify(values.text(6)?);
        if let Some(quoted) = values.get(13)? {
            self.quoted.insert(name.to_owned(), quoted.to_owned());
        }
        let of = match values.text(3)? {
            "v" => ObjectId::relation(Kind::View, schema, relation),
            "m" => ObjectId::relation(Kind::MaterializedView, schema, relation),
            "c" => ObjectId::alone(Kind::Composite, schema, relation),
            _ => return self.table_column(values, data_type),
        };
        match self.detail(&of) {
            Some(Detail::View(view) | Detail::MaterializedView(view)) => {
                view.columns.push((name.to_owned(), data_type));
            }
            Some(Detail::Composite(composite)) => composite.attributes.push((name.to_owned(), data_type)),
            _ => {}
        }
        Ok(())
    }

    fn table_column(&mut self, values: &Values<'_>, data_type: String) -> sqlx::Result<()> {
        let (schema, relation, name) = (values.text(1)?, values.text(2)?, values.text(4)?);
        let id = ObjectId::part(Kind::Column, schema, relation, name);
        let mut default = self.members.unqualify_some(values.get(8)?);
        let mut serial = false;
        if let Some(next) = default.take_if(|default| default.starts_with("nextval(")) {
            if let Some((_, users)) = self.free.get_mut(&next) {
                users.push(id.clone());
            }
            let key = (next, id.clone());
            serial = self.owned.contains(&key);
            default = if serial { None } else { Some(key.0) };
        }
        let column = Column {
            position: values.number(5)?,
            data_type,
            not_null: values.flag(7)?,
            serial,
            default,
            generated: match values.text(9)? {
                "s" => Some("stored".to_owned()),
                "v" => Some("virtual".to_owned()),
                _ => None,
            },
            identity: match values.text(10)? {
                "a" => Some("always".to_owned()),
                "d" => Some("by default".to_owned()),
                _ => None,
            },
            collation: self.members.unqualify_some(values.get(11)?),
        };
        self.insert(id, Detail::Column(column), values.get(12)?);
        Ok(())
    }

    fn constraint(&mut self, values: &Values<'_>) -> sqlx::Result<()> {
        let definition = self.members.unqualify(values.text(4)?);
        let structure = normal_constraint(&definition);
        let id = ObjectId::part(Kind::Constraint, values.text(1)?, values.text(2)?, structure);
        let detail = Constraint { name: values.text(3)?.to_owned(), definition, not_valid: !values.flag(5)? };
        self.insert(id, Detail::Constraint(detail), values.get(6)?);
        Ok(())
    }

    fn index(&mut self, values: &Values<'_>) -> sqlx::Result<()> {
        let (schema, relation) = (values.text(1)?, values.text(2)?);
        let definition = match values.get(6)? {
            Some(definition) => self.members.unqualify(definition),
            None => self.plain_index(values)?,
        };
        let id = ObjectId::part(Kind::Index, schema, relation, normal_index(&definition));
        let detail =
            IndexDefinition { name: values.text(3)?.to_owned(), definition, invalid: !values.flag(4)? };
        self.insert(id, Detail::Index(detail), values.get(5)?);
        Ok(())
    }

    /// What `pg_get_indexdef` prints for a B-tree over columns. That takes the server ten times as long, and most
    /// indexes are of this sort.
    fn plain_index(&self, values: &Values<'_>) -> sqlx::Result<String> {
        let keys: usize = values.number(9)?;
        let (mut classes, mut options) =
            (values.text(11)?.split_ascii_whitespace(), values.text(12)?.split_ascii_whitespace());
        let mut definition = format!("CREATE INDEX {} ON {} USING btree (", values.text(7)?, values.text(8)?);
        for (at, position) in values.text(10)?.split_ascii_whitespace().enumerate() {
            let (name, column) = self
                .column_at(values.text(1)?, values.text(2)?, position)
                .ok_or_else(|| values.unexpected("a known column", 10))?;
            definition.push_str(match at {
                0 => "",
                _ if at == keys => ") INCLUDE (",
                _ => ", ",
            });
            definition.push_str(self.quoted.get(name).map_or(name, String::as_str));
            if at >= keys {
                continue;
            }
            if column.collation.is_some() {
                definition.push_str(" COLLATE \"default\"");
            }
            if let Some(Some(class)) = classes.next().and_then(|class| self.classes.get(class)) {
                definition.push(' ');
                definition.push_str(class);
            }
            // Bit 0 is DESC, bit 1 NULLS FIRST.
            definition.push_str(match options.next() {
                Some("1") => " DESC NULLS LAST",
                Some("2") => " NULLS FIRST",
                Some("3") => " DESC",
                _ => "",
            });
        }
        definition.push(')');
        Ok(definition)
    }

    /// A table's column by its number.
    fn column_at(&self, schema: &str, relation: &str, position: &str) -> Option<(&str, &Column)> {
        let position: i32 = position.parse().ok()?;
        let first = ObjectId::part(Kind::Column, schema, relation, "");
        let mut columns =
            self.catalog.objects.range(first..).map_while(|(id, object)| match &object.detail {
                Detail::Column(column) if id.relation == relation && id.schema == schema => {
                    Some((id.name.as_str(), column))
                }
                _ => None,
            });
        columns.find(|(_, column)| column.position == position)
    }

    fn trigger(&mut self, values: &Values<'_>) -> sqlx::Result<()> {
        let id = ObjectId::part(Kind::Trigger, values.text(1)?, values.text(2)?, values.text(3)?);
        let detail = Trigger {
            definition: self.members.unqualify(values.text(4)?),
            enabled: values.text(5)?.to_owned(),
        };
        self.insert(id, Detail::Trigger(detail), values.get(6)?);
        Ok(())
    }

    fn policy(&mut self, values: &Values<'_>) -> sqlx::Result<()> {
        let id = ObjectId::part(Kind::Policy, values.text(1)?, values.text(2)?, values.text(3)?);
        let mut roles = values.list(6)?;
        roles.sort();
        let command = match values.text(5)? {
            "r" => "SELECT",
            "a" => "INSERT",
            "w" => "UPDATE",
            "d" => "DELETE",
            _ => "ALL",
        };
        let detail = Policy {
            permissive: values.flag(4)?,
            command: command.to_owned(),
            roles,
            using: self.members.unqualify_some(values.get(7)?),
            check: self.members.unqualify_some(values.get(8)?),
        };
        self.insert(id, Detail::Policy(detail), values.get(9)?);
        Ok(())
    }

    fn data_type(&mut self, values: &Values<'_>) -> sqlx::Result<()> {
        let (kind, detail) = match values.text(3)? {
            "e" => (Kind::Enum, Detail::Enum(Enum { labels: values.list(4)? })),
            "r" => {
                let subtype = self.members.unqualify(values.text(5)?);
                let options = values.list(8)?.iter().map(|option| self.members.unqualify(option)).collect();
                (Kind::Range, Detail::Range(Range { subtype, options }))
            }
            _ => {
                let mut checks: Vec<String> =
                    values.list(8)?.iter().map(|check| self.members.unqualify(check)).collect();
                checks.sort();
                let domain = Domain {
                    data_type: self.members.unqualify(values.text(5)?),
                    not_null: values.flag(6)?,
                    default: self.members.unqualify_some(values.get(7)?),
                    checks,
                };
                (Kind::Domain, Detail::Domain(domain))
            }
        };
        self.insert(ObjectId::alone(kind, values.text(1)?, values.text(2)?), detail, values.get(9)?);
        Ok(())
    }

    fn function(&mut self, values: &Values<'_>) -> sqlx::Result<()> {
        let name = format!("{}({})", values.text(2)?, self.members.unqualify(values.text(3)?));
        let id = ObjectId::alone(Kind::Function, values.text(1)?, name);
        let variety = match values.text(4)? {
            "p" => "procedure",
            "a" => "aggregate",
            "w" => "window",
            _ => "function",
        };
        let detail = Function {
            variety: variety.to_owned(),
            result: self.members.unqualify(values.text(5)?),
            language: values.text(6)?.to_owned(),
            definition: values.text(7)?.to_owned(),
        };
        self.insert(id, Detail::Function(detail), values.get(8)?);
        Ok(())
    }
}

impl Members {
    fn add(&mut self, schema: &str, name: &str) {
        if !self.schemas.iter().any(|known| known == schema) {
            self.schemas.push(schema.to_owned());
        }
        self.names.insert(format!("{schema}{name}"));
    }

    /// Takes the schema off the names that belong to an extension: where one is installed is the database's own choice.
    fn unqualify(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for schema in &self.schemas {
            if text.contains(schema.as_str()) {
                text = self.without(schema, &text);
            }
        }
        text
    }

    fn unqualify_some(&self, text: Option<&str>) -> Option<String> {
        text.map(|text| self.unqualify(text))
    }

    fn without(&self, schema: &str, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(schema) {
            let (before, found) = rest.split_at(at);
            let name = first_name(&found[schema.len()..]);
            let starts =
                !before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.' | '"'));
            out.push_str(before);
            let qualified = &found[..schema.len() + name.len()];
            out.push_str(if starts && self.names.contains(qualified) { name } else { qualified });
            rest = &found[qualified.len()..];
        }
        out.push_str(rest);
        out
    }
}

/// The identifier, quoted or not, or the operator that a text starts with.
fn first_name(text: &str) -> &str {
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
    let end = match text.chars().next() {
        Some('"') => text[1..].find('"').map(|end| end + 2),
        Some(c) if word(c) => text.find(|c| !word(c)),
        _ => text.find(|c: char| c == ')' || c.is_whitespace() || word(c)),
    };
    &text[..end.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Members {
        let mut members = Members::default();
        for (schema, name) in
            [("public.", "gin_trgm_ops"), ("public.", "similarity"), ("public.", "%"), ("ext.", "vector")]
        {
            members.add(schema, name);
        }
        members
    }

    #[test]
    fn only_names_of_extensions_lose_their_schema() {
        for (text, expected) in [
            (
                "CREATE INDEX i ON public.t USING gin (a public.gin_trgm_ops)",
                "CREATE INDEX i ON public.t USING gin (a gin_trgm_ops)",
            ),
            ("public.similarity(a, b)", "similarity(a, b)"),
            ("public.similarity_of(a, b)", "public.similarity_of(a, b)"),
            ("a OPERATOR(public.%) b", "a OPERATOR(%) b"),
            ("a OPERATOR(public.%%) b", "a OPERATOR(public.%%) b"),
            ("ext.vector(3)", "vector(3)"),
            ("my_ext.vector(3)", "my_ext.vector(3)"),
            ("public.t", "public.t"),
        ] {
            assert_eq!(members().unqualify(text), expected);
        }
    }

    #[test]
    fn names_cannot_leave_their_literals() {
        assert_eq!(name_array(["it's", "a\\b"].into_iter()), "ARRAY['it''s', E'a\\\\b']::pg_catalog.text[]");
        assert_eq!(name_array([].into_iter()), "ARRAY[]::pg_catalog.text[]");
    }
}
