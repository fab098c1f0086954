//! The change detector: one text that stays the same while nothing in the managed schemas changes.
//!
//! Every change of a schema writes a new version of some row in the server's own catalogs, with another `ctid` and
//! `xmin`. Hashing those of the rows that matter is many times cheaper than reading what the rows say. After a dump and
//! restore, a `pg_upgrade`, or what rewrites a table or index, the text differs although the schema is the same: then the
//! full comparison decides.
//!
//! What is left out is implied: a default, a parent or a partition bound is also noted in `pg_attribute` or `pg_class`,
//! an index's structure in its `pg_class` row, an array or row type beside what it is of. `VACUUM` and `ANALYZE` update
//! in place.

use super::introspect::{Exclude, managed};
use super::session::{Session, cell};
use crate::error::Result;

/// Asks for it. Its text is the same in every session that looks at the same rows.
pub async fn read(session: &mut Session, schemas: &[String], exclude: &Exclude<'_>) -> Result<String> {
    let sql = detector_sql(schemas, exclude);
    let rows = session.run("reading the change detector", format!("select ({sql})")).await?;
    cell(&rows, 0, 0)
}

/// A query with one row and one text, also good as a scalar subquery.
///
/// Written for a fresh session, where each catalog that is opened costs more than the rows that are read: as few as
/// possible, each in a plain scan or by an index that names the rows.
pub fn detector_sql(schemas: &[String], exclude: &Exclude<'_>) -> String {
    DETECTOR
        .replace("{hash}", "concat(count(*), ':', sum(hash_record_extended(ROW(ctid, xmin), 0)))")
        .replace("{managed}", &managed(schemas, exclude))
}

const DETECTOR: &str = "\
WITH ns AS MATERIALIZED (
    SELECT array_agg(oid) AS oids FROM pg_catalog.pg_namespace WHERE nspname = ANY ({managed})
), rel AS MATERIALIZED (
    SELECT {hash} AS hash,
        array_agg(oid) FILTER (WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'c')) AS tables,
        array_agg(oid) FILTER (WHERE relkind IN ('v', 'm')) AS views,
        array_agg(oid) FILTER (WHERE relkind = 'S') AS sequences
    FROM pg_catalog.pg_class WHERE relnamespace = ANY ((SELECT oids FROM ns)::oid[])
)
SELECT concat_ws(',',
    (SELECT hash FROM rel),
    (SELECT {hash} FROM pg_catalog.pg_attribute WHERE attrelid = ANY ((SELECT tables FROM rel)::oid[]) AND attnum > 0),
    (SELECT {hash} FROM pg_catalog.pg_constraint WHERE connamespace = ANY ((SELECT oids FROM ns)::oid[])),
    (SELECT {hash} FROM pg_catalog.pg_index WHERE NOT indisvalid),
    (SELECT {hash} FROM pg_catalog.pg_proc WHERE pronamespace = ANY ((SELECT oids FROM ns)::oid[]) AND oid >= 16384),
    (SELECT {hash} FROM pg_catalog.pg_trigger
        WHERE NOT tgisinternal AND tgrelid = ANY ((SELECT tables FROM rel)::oid[])),
    (SELECT {hash} FROM pg_catalog.pg_type
        WHERE typnamespace = ANY ((SELECT oids FROM ns)::oid[]) AND typtype IN ('d', 'e', 'r')),
    (SELECT {hash} FROM pg_catalog.pg_enum),
    (SELECT {hash} FROM pg_catalog.pg_rewrite WHERE ev_class = ANY ((SELECT views FROM rel)::oid[])),
    (SELECT {hash} FROM pg_catalog.pg_sequence WHERE seqrelid = ANY ((SELECT sequences FROM rel)::oid[])),
    (SELECT {hash} FROM pg_catalog.pg_extension),
    (SELECT {hash} FROM pg_catalog.pg_policy))";
