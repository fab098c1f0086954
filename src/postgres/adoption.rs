//! Reads the ledgers of other tools.

use super::session::{Session, cell, literal};
use crate::adoption::{self, Foreign, Table};
use crate::error::Result;
use crate::timeline::Settings;

/// How many rows of a ledger are read.
const ROWS: usize = 2000;

/// The error of a role that may not, or may not see every row.
const DENIED: &str = "42501";

/// Finds the ledgers in the managed schemas by their columns, and reads what they name.
///
/// Runs within the caller's transaction; a ledger that may not be read is evidence of less, and no reason to fail.
pub async fn read(session: &mut Session, settings: &Settings) -> Result<Vec<Foreign>> {
    let signatures: Vec<String> = adoption::signatures().map(|columns| literal(&columns)).collect();
    let schemas: Vec<String> = settings.schemas.iter().map(|schema| literal(schema)).collect();
    let sql = format!(
        "select n.nspname, c.relname, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), \
           found.columns, found.kinds, \
           exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary), \
           pg_catalog.has_table_privilege(c.oid, 'insert') and pg_catalog.has_table_privilege(c.oid, 'delete') \
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         cross join lateral (select pg_catalog.string_agg(a.attname, ',' order by a.attname) as columns, \
             pg_catalog.string_agg(t.typcategory, '' order by a.attname) as kinds \
           from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid \
           where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as found \
         where c.relkind in ('r', 'p') and c.relnatts <= 16 and n.nspname in ({}) and found.columns in ({}) order by 3",
        schemas.join(", "),
        signatures.join(", ")
    );
    let rows = session.run("looking for other tools' ledgers", sql).await?;
    let mut tables = Vec::with_capacity(rows.len());
    for i in 0..rows.len() {
        tables.push(Table {
            schema: cell(&rows, i, 0)?,
            name: cell(&rows, i, 1)?,
            quoted: cell(&rows, i, 2)?,
            columns: cell(&rows, i, 3)?,
            kinds: cell(&rows, i, 4)?,
            keyed: cell(&rows, i, 5)?,
            writable: cell(&rows, i, 6)?,
        });
    }
    let mut ledgers = Vec::new();
    for (tool, table) in adoption::identify(tables) {
        let Table { quoted: table, writable, .. } = table;
        let (text, condition, order) = tool.reading();
        // Of many rows the newest say most.
        let sql = format!(
            "savepoint ledger; select coalesce(({text})::text, '') from {table} where {condition} \
             order by row({order}) desc limit {ROWS}; release savepoint ledger"
        );
        let rows = match session.batch(sql).await {
            Ok(rows) => Some((0..rows.len()).rev().map(|i| cell(&rows, i, 0)).collect::<Result<_>>()?),
            Err(failure) if failure.code.as_deref() == Some(DENIED) => {
                session.run("going back to a savepoint", "rollback to savepoint ledger").await?;
                None
            }
            Err(failure) => return Err(failure.into_error(&format!("reading {table}"))),
        };
        ledgers.push(Foreign { tool, table, rows, writable });
    }
    Ok(ledgers)
}
