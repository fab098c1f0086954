//! Reads the ledgers of other tools.

use super::session::{Session, cell, literal};
use crate::adoption::{self, Foreign};
use crate::error::Result;
use crate::timeline::Settings;

/// How many rows of a ledger are read.
const ROWS: usize = 2000;

/// Finds the ledgers in the managed schemas by their columns, and reads what they name.
///
/// Runs within the caller's transaction; a ledger that may not be read is evidence of less, and no reason to fail.
pub async fn read(session: &mut Session, settings: &Settings) -> Result<Vec<Foreign>> {
    let signatures: Vec<String> = adoption::signatures().map(|columns| literal(&columns)).collect();
    let schemas: Vec<String> = settings.schemas.iter().map(|schema| literal(schema)).collect();
    let sql = format!(
        "select * from (select pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), \
           (select pg_catalog.string_agg(a.attname, ',' order by a.attname) from pg_catalog.pg_attribute a \
             where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns \
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where c.relkind in ('r', 'p') and c.relnatts <= 16 and n.nspname in ({})) found \
         where columns in ({}) order by 1",
        schemas.join(", "),
        signatures.join(", ")
    );
    let rows = session.run("looking for other tools' ledgers", sql).await?;
    let mut tables: Vec<(String, String)> = Vec::with_capacity(rows.len());
    for i in 0..rows.len() {
        tables.push((cell(&rows, i, 0)?, cell(&rows, i, 1)?));
    }
    let mut ledgers = Vec::new();
    for (tool, table) in adoption::identify(&tables) {
        let (text, condition, order) = tool.reading();
        let sql = format!(
            "savepoint ledger; select ({text})::text from {table} where {condition} order by {order} limit {ROWS}; release savepoint ledger"
        );
        let rows = match session.batch(sql).await {
            Ok(rows) => Some((0..rows.len()).map(|i| cell(&rows, i, 0)).collect::<Result<_>>()?),
            Err(failure) if failure.lost => {
                return Err(failure.into_error(&format!("reading {table}")));
            }
            Err(_) => {
                session.run("going back to a savepoint", "rollback to savepoint ledger").await?;
                None
            }
        };
        ledgers.push(Foreign { tool, table, rows });
    }
    Ok(ledgers)
}
