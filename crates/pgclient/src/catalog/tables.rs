//! The largest tables of a database, for people who look for their data.

use crate::{Result, connect::Session};

/// What kind of relation it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// An ordinary table, partitions included.
    Table,
    /// A materialized view.
    MaterializedView,
}

/// A table of users.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Its oid.
    pub oid: u32,
    /// The number in its file's name.
    pub relfilenode: u32,
    /// Its tablespace's oid; 0 is the database's own.
    pub tablespace: u32,
    /// Table or materialized view.
    pub kind: TableKind,
    /// An estimate: of the last vacuum or analyze, else of the statistics.
    pub estimated_rows: u64,
    /// Bytes with TOAST, maps and without indexes.
    pub bytes: u64,
}

/// How long to wait for tables under `ACCESS EXCLUSIVE` lock (`VACUUM FULL`, `ALTER TABLE`) before their sizes
/// are taken from the catalog instead.
const LOCK_TIMEOUT: &str = "3s";
/// `lock_not_available`.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// What `pg_table_size` takes a lock for.
const MEASURED: &str = "pg_catalog.pg_table_size(c.oid)";
/// Of the last vacuum or analyze: without lock, without free space map.
const ESTIMATED: &str = "(SELECT pg_catalog.sum(p.relpages::bigint)::bigint FROM pg_catalog.pg_class p \
     WHERE p.oid IN (c.oid, c.reltoastrelid)) * pg_catalog.current_setting('block_size')::bigint";

/// The `limit` largest tables of the session's database, largest first. Partitioned tables have no
/// rows of their own and are not listed; their partitions are. A table dropped meanwhile is left out.
///
/// While some table is locked exclusively, all sizes are estimates.
pub async fn tables(session: &Session, limit: u32) -> Result<Vec<Table>> {
    match list(session, limit, MEASURED).await {
        Err(error) if error.sqlstate() == Some(LOCK_NOT_AVAILABLE) => list(session, limit, ESTIMATED).await,
        outcome => outcome,
    }
}

async fn list(session: &Session, limit: u32, size: &str) -> Result<Vec<Table>> {
    let begin = format!("BEGIN READ ONLY; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'");
    session.execute("begin to list the tables", &begin).await?;
    let found = read(session, limit, size).await;
    let ended = session.execute("end listing the tables", "ROLLBACK").await;
    let found = found?;
    ended.map(|()| found)
}

async fn read(session: &Session, limit: u32, size: &str) -> Result<Vec<Table>> {
    let sql = format!(
        "SELECT n.nspname::text, c.relname::text, c.oid, pg_catalog.pg_relation_filenode(c.oid), c.reltablespace, \
         c.relkind::text, CASE WHEN c.reltuples > 0 THEN c.reltuples::float8 \
         ELSE pg_catalog.pg_stat_get_live_tuples(c.oid)::float8 END, s.bytes \
         FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         CROSS JOIN LATERAL (SELECT {size} AS bytes) s \
         WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND s.bytes IS NOT NULL \
         AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') \
         ORDER BY s.bytes DESC, n.nspname, c.relname LIMIT $1"
    );
    let rows = session.query("list the tables", &sql, &[&i64::from(limit)]).await?;
    let mut tables = Vec::with_capacity(rows.len());
    for row in &rows {
        let Some(relfilenode) = session.cell::<Option<u32>>(row, 3)? else {
            continue;
        };
        tables.push(Table {
            schema: session.cell(row, 0)?,
            name: session.cell(row, 1)?,
            oid: session.cell(row, 2)?,
            relfilenode,
            tablespace: session.cell(row, 4)?,
            kind: if session.cell::<String>(row, 5)? == "m" {
                TableKind::MaterializedView
            } else {
                TableKind::Table
            },
            // Truncation is meant: an estimate, never negative by the query.
            estimated_rows: session.cell::<f64>(row, 6)? as u64,
            bytes: u64::try_from(session.cell::<i64>(row, 7)?).unwrap_or(0),
        });
    }
    Ok(tables)
}
