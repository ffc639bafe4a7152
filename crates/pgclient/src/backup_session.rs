//! A backup's hold on the server: from `pg_backup_start` to `pg_backup_stop` in one session.
//!
//! Invariant: what [`BackupSession::stop`] returns belongs to the start that this value stands for. Whoever
//! drops the value cuts the connection, and the server aborts the backup (`do_pg_abort_backup`).

use std::time::Duration;

use pgformat::{Lsn, Major, Tli};
use tokio::task::JoinHandle;

use crate::{Error, Result, catalog::grants_for_backup, connect::Session, conninfo::Conninfo, pooler};

/// How often the idle session is used, so that no firewall, load balancer or scale-to-zero forgets it.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// What is asked once a backup has begun.
const BEGUN: &str = "SELECT timeline_id, pg_catalog.pg_is_in_recovery() FROM pg_catalog.pg_control_checkpoint()";

/// A standby's own word for where its backup ends is `minRecoveryPoint`, which moves only when it writes pages.
const REPLAYED: &str =
    "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() END::text";

/// A backup that runs on the server.
pub struct BackupSession {
    session: std::sync::Arc<Session>,
    keepalive: Keepalive,
    process_id: i32,
}

/// What the server said when the backup began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Where recovery will begin: the redo position of the backup's checkpoint, on a standby of its last restartpoint.
    pub start: Lsn,
    /// The timeline of that checkpoint.
    pub timeline: Tli,
    /// Whether the backup is taken from a standby.
    pub in_recovery: bool,
    /// How far WAL was replayed on a standby before it was asked; on a primary, the start. Never before the start.
    pub reached: Lsn,
}

/// What the server said when the backup ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Recovery is consistent from here on; all WAL from start to here must be kept with the backup. On a standby no earlier
    /// than what it had replayed, so that nothing is missing that it showed before.
    pub stop: Lsn,
    /// The file `backup_label`, to be stored with the backup and never written into the source.
    pub backup_label: String,
    /// The file `tablespace_map`; empty if there are no tablespaces.
    pub tablespace_map: String,
}

struct Keepalive(JoinHandle<()>);

impl Drop for Keepalive {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How the checkpoint at a backup's beginning is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpoint {
    /// At once, as fast as the disks allow.
    Fast,
    /// Spread over time like a regular one (`checkpoint_completion_target`); may take minutes.
    Spread,
}

impl BackupSession {
    /// Opens a session and begins a backup; returns when its checkpoint is done.
    ///
    /// # Errors
    /// [`Error::MissingRight`] with the grant for this version, [`Error::Pooler`], and what
    /// [`Session::connect`] returns. On a primary with `wal_level=minimal`, [`Error::Server`] (55000).
    pub async fn start(conninfo: &Conninfo, label: &str, checkpoint: Checkpoint) -> Result<(BackupSession, Started)> {
        let session = Session::connect(conninfo).await?;
        pooler::refuse(&session).await?;
        let process_id = pooler::process_id(&session).await?;
        let sql = if session.major() >= Major::V15 {
            "SELECT pg_catalog.pg_backup_start($1, $2)::text"
        } else {
            // The third argument refuses an exclusive backup, which a crash would leave on the server.
            "SELECT pg_catalog.pg_start_backup($1, $2, false)::text"
        };
        let fast = checkpoint == Checkpoint::Fast;
        // Before, so that the restartpoint is at no earlier checkpoint than the last one that was replayed by then.
        let replayed = replayed(&session).await?;
        let row = session
            .query_one("start a backup", sql, &[&label, &fast])
            .await
            .map_err(|error| missing_right(error, &session))?;
        let start = session.lsn(&row, 0)?;
        let row = session.query_one("read the backup's timeline", BEGUN, &[]).await?;
        let timeline: i32 = session.cell(&row, 0)?;
        let started = Started {
            start,
            timeline: Tli(timeline.cast_unsigned()),
            in_recovery: session.cell(&row, 1)?,
            reached: replayed.unwrap_or(start).max(start),
        };
        let session = std::sync::Arc::new(session);
        let keepalive = Keepalive(tokio::spawn(keep_alive(std::sync::Arc::clone(&session))));
        Ok((
            BackupSession {
                session,
                keepalive,
                process_id,
            },
            started,
        ))
    }

    /// The session, for what else must be asked while the backup runs.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Which cluster the session is with.
    pub async fn system_identifier(&self) -> Result<u64> {
        let sql = "SELECT system_identifier FROM pg_catalog.pg_control_system()";
        let row = self.session.query_one("read the system identifier", sql, &[]).await?;
        // SQL has no unsigned integers: the same 64 bits, printed as signed.
        Ok(self.session.cell::<i64>(&row, 0)?.cast_unsigned())
    }

    /// Whether the session is still open as far as this side knows. Once it is not, the backup is lost.
    pub fn is_alive(&self) -> bool {
        self.session.is_alive()
    }

    /// Ends the backup. Does not wait for the server's own archiving: whether all WAL is durable is for
    /// the caller to establish.
    ///
    /// # Errors
    /// Any error means that there is no backup: nothing of it may be published.
    pub async fn stop(self) -> Result<Stopped> {
        let session = &self.session;
        let now = pooler::process_id(session).await?;
        if now != self.process_id {
            return Err(Error::Pooler {
                server: session.server().to_owned(),
                evidence: format!(
                    "the backup was started by process {} and the session is now process {now}",
                    self.process_id
                ),
                instead: "Connect to PostgreSQL itself, or to a pooler in session mode.".to_owned(),
            });
        }
        let replayed = replayed(session).await?.unwrap_or_default();
        let sql = if session.major() >= Major::V15 {
            "SELECT lsn::text, labelfile, spcmapfile FROM pg_catalog.pg_backup_stop(false)"
        } else {
            "SELECT lsn::text, labelfile, spcmapfile FROM pg_catalog.pg_stop_backup(false, false)"
        };
        let row = session
            .query_one("stop the backup", sql, &[])
            .await
            .map_err(|error| missing_right(error, session))?;
        let stopped = Stopped {
            stop: session.lsn(&row, 0)?.max(replayed),
            backup_label: session.cell(&row, 1)?,
            tablespace_map: session.cell::<Option<String>>(&row, 2)?.unwrap_or_default(),
        };
        drop(self.keepalive);
        Ok(stopped)
    }
}

/// How far a standby has replayed; `None` on a primary.
async fn replayed(session: &Session) -> Result<Option<Lsn>> {
    let row = session.query_one("ask how far WAL is replayed", REPLAYED, &[]).await?;
    match session.cell::<Option<String>>(&row, 0)? {
        Some(_) => session.lsn(&row, 0).map(Some),
        None => Ok(None),
    }
}

impl std::fmt::Debug for BackupSession {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "BackupSession({})", self.session.server())
    }
}

/// Uses the session now and then; ends with it.
async fn keep_alive(session: std::sync::Arc<Session>) {
    let mut interval = tokio::time::interval(KEEPALIVE_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        // An error of the server, such as a statement timeout, ends neither session nor backup.
        let asked = session.execute("keep the session alive", "SELECT 1").await;
        if asked.is_err() && !session.is_alive() {
            return;
        }
    }
}

/// `insufficient_privilege` becomes the grant that helps.
fn missing_right(error: Error, session: &Session) -> Error {
    if error.sqlstate() != Some("42501") {
        return error;
    }
    let (role, database) = (session.conninfo().user(), session.conninfo().dbname());
    Error::MissingRight {
        what: format!("role \"{role}\" may not start and stop backups in database \"{database}\""),
        // Function rights are kept per database; that is why the sentence names it.
        grant: grants_for_backup(session.major(), role),
    }
}
