//! A standby as what a backup is taken from.
//!
//! Alone, it has its own backup: from the redo of its last restartpoint to the `minRecoveryPoint` of the `pg_control` that is
//! copied last. `do_pg_backup_start` and `do_pg_backup_stop`, `access/transam/xlog.c`.

use pgformat::{
    Lsn,
    control::Control,
    label::{BackupLabel, TakenFrom},
};

use crate::{
    Error, Result,
    server::{Started, Stopped},
};

use super::wal::End;

/// Where a backup ends that the server stopped; `last` is the `pg_control` that is in it.
///
/// `not_before` is where the parent ended, if pages were taken from it unread: they may hold changes up to there.
pub(super) fn end(begun: &Started, stopped: &Stopped, last: &Control, not_before: Option<Lsn>) -> Result<End> {
    if !begun.in_recovery {
        return Ok(End::Record(stopped.stop));
    }
    let label = BackupLabel::parse(stopped.backup_label.as_bytes()).map_err(|error| odd(&error.to_string()))?;
    if label.taken_from != TakenFrom::Standby {
        return Err(odd("it says that a primary was backed up"));
    }
    if (label.start_lsn, label.start_timeline) != (begun.start, begun.timeline) {
        return Err(odd(&format!(
            "it begins at {} on timeline {}, the backup at {} on timeline {}",
            label.start_lsn, label.start_timeline, begun.start, begun.timeline
        )));
    }
    // A checkpoint of a server that was shut down is where replay begins behind, and not a record that is replayed.
    let is_replayed = label.checkpoint_lsn > label.start_lsn;
    Ok(End::Consistency {
        reaches: stopped
            .stop
            .max(last.min_recovery_lsn)
            .max(not_before.unwrap_or_default()),
        from: Lsn(label.checkpoint_lsn.0 + u64::from(!is_replayed)),
    })
}

fn odd(what: &str) -> Error {
    Error::Failed {
        code: "label-odd",
        what: format!("the server's backup_label does not fit the backup: {what}"),
        hint: "Take the backup again; name one server in the connection string.".into(),
    }
}
