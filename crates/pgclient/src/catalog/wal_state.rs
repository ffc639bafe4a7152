//! How a server's WAL stands: what it keeps, for whom, and what waits to be archived.

use crate::{Error, Result, connect::Session};

/// `insufficient_privilege`.
const NOT_ALLOWED: &str = "42501";

/// What the server keeps and why. What the role may not see is `None`; `pg_monitor` may see all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WalState {
    /// Bytes in `pg_wal` (`pg_ls_waldir`).
    pub wal_bytes: Option<u64>,
    /// Files that wait for `archive_command` (`pg_ls_archive_statusdir`).
    pub waiting: Option<u64>,
    /// Whether `archive_command` is used, and failed the last time.
    pub archiver_fails: Option<bool>,
    /// Physical replication slots.
    pub slots: Vec<Slot>,
}

/// A physical replication slot (`pg_replication_slots`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Whether somebody streams through it now.
    pub active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`; none before it was first used.
    pub wal_status: Option<String>,
    /// Bytes of WAL that the server keeps for it.
    pub held_bytes: u64,
    /// Bytes that may still be written before it is given up; none if there is no limit.
    pub safe_bytes: Option<u64>,
}

impl WalState {
    /// Asks the server.
    pub async fn read(session: &Session) -> Result<WalState> {
        let number = |sql: &'static str| async move { allowed(number(session, sql).await) };
        let archiver = "SELECT CASE WHEN pg_catalog.current_setting('archive_mode') = 'off' THEN NULL \
             ELSE (last_failed_time > coalesce(last_archived_time, '-infinity'))::int END::bigint FROM pg_catalog.pg_stat_archiver";
        Ok(WalState {
            wal_bytes: number("SELECT sum(size)::bigint FROM pg_catalog.pg_ls_waldir()")
                .await?
                .flatten(),
            waiting: number(
                "SELECT count(*)::bigint FROM pg_catalog.pg_ls_archive_statusdir() WHERE name LIKE '%.ready'",
            )
            .await?
            .flatten(),
            archiver_fails: number(archiver).await?.flatten().map(|failed| failed > 0),
            slots: slots(session).await?,
        })
    }
}

async fn slots(session: &Session) -> Result<Vec<Slot>> {
    let sql = "SELECT slot_name::text, active, wal_status, safe_wal_size, \
               greatest(0, (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
               ELSE pg_catalog.pg_current_wal_lsn() END - restart_lsn))::bigint \
               FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical' AND NOT temporary ORDER BY 1";
    let rows = session.query("look at the replication slots", sql, &[]).await?;
    let slot = |row: &tokio_postgres::Row| {
        let bytes = |at: usize| row.try_get::<_, Option<i64>>(at).ok().flatten().map(i64::unsigned_abs);
        Some(Slot {
            name: row.try_get(0).ok()?,
            active: row.try_get(1).ok()?,
            wal_status: row.try_get(2).ok()?,
            safe_bytes: bytes(3),
            held_bytes: bytes(4).unwrap_or(0),
        })
    };
    Ok(rows.iter().filter_map(slot).collect())
}

async fn number(session: &Session, sql: &str) -> Result<Option<u64>> {
    let row = session.query_one("look at its WAL", sql, &[]).await?;
    Ok(row.try_get::<_, Option<i64>>(0).ok().flatten().map(i64::unsigned_abs))
}

/// What the role may not see is not known.
fn allowed<T>(asked: Result<T>) -> Result<Option<T>> {
    match asked {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_refusal(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_refusal(error: &Error) -> bool {
    error.sqlstate() == Some(NOT_ALLOWED)
}
