//! The largest tables of a database, for who looks whether all are there.

use crate::{Result, connect::Session};

/// A table or materialized view of users.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// An estimate: of the last vacuum or analyze, else of the statistics.
    pub estimated_rows: u64,
    /// An estimate of its bytes with TOAST and without indexes: of the last vacuum or analyze, 0 before the first.
    pub estimated_bytes: u64,
}

/// The `limit` largest tables of the session's database, largest first. Partitioned tables have no rows of their own and are
/// not listed; their partitions are.
///
/// The catalogs alone are asked: `pg_table_size` looks at each file of each table, which with thousands of tables takes longer
/// than a small backup, and waits for whoever reorganises one.
pub async fn tables(session: &Session, limit: u32) -> Result<Vec<Table>> {
    let sql = "SELECT n.nspname::text, c.relname::text, CASE WHEN c.reltuples > 0 THEN c.reltuples::float8 \
         ELSE pg_catalog.pg_stat_get_live_tuples(c.oid)::float8 END AS tuples, \
         (c.relpages::bigint + coalesce(t.relpages, 0)) * pg_catalog.current_setting('block_size')::bigint AS bytes \
         FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid \
         WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' \
         AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') \
         ORDER BY bytes DESC, tuples DESC, n.nspname, c.relname LIMIT $1";
    let rows = session.query("list the tables", sql, &[&i64::from(limit)]).await?;
    let table = |row| {
        Ok(Table {
            schema: session.cell(row, 0)?,
            name: session.cell(row, 1)?,
            // Truncation is meant: an estimate, never negative by the query.
            estimated_rows: session.cell::<f64>(row, 2)? as u64,
            estimated_bytes: u64::try_from(session.cell::<i64>(row, 3)?).unwrap_or(0),
        })
    };
    rows.iter().map(table).collect()
}
