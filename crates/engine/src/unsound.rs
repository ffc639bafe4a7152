//! Pages that changed although no WAL tells of it, as the ledger remembers that some were found.
//!
//! Whatever an incremental backup took unread before is in doubt then, for ever. Invariant: of a backup that was begun before
//! one was found, no later one is an increment by WAL. So one that was begun since has read every page, or rests on one
//! that has; and the alert stands until such a one was restored and checked.

use repo::{
    BackupId,
    ledger::{Level, Outcome, Severity, state::Backup},
};

use crate::{Result, alert, database::Opened};

/// The code of the error and of the warning, and the name of the alert.
pub(crate) const CODE: &str = "map-unsound";

/// Raises the alert, again if it stands: a backup that was there before says nothing of what was found now.
///
/// # Errors
/// As [`Opened::append`].
pub(crate) async fn remember(opened: &Opened, what: &str) -> Result<()> {
    alert::renew(opened, CODE, Severity::Critical, what.to_owned()).await
}

/// Whether such a page was found since `backup` was begun: then the WAL since that tells too little.
pub(crate) async fn doubts(opened: &Opened, backup: &BackupId) -> bool {
    opened
        .with_state(|state| {
            state
                .raised(CODE)
                .is_some_and(|raised| raised > alert::begun(state, backup.as_str()))
        })
        .await
}

/// Clears the alert if `backup`, which a verification of that level judged so, was begun since it was raised.
///
/// # Errors
/// As [`Opened::append`].
pub(crate) async fn clear(opened: &Opened, backup: &Backup, level: Level, outcome: Outcome) -> Result<()> {
    if (level, outcome) != (Level::Restore, Outcome::Passed) {
        return Ok(());
    }
    let begun = opened.with_state(|state| alert::begun(state, &backup.id)).await;
    alert::clear(opened, CODE, begun, "verify").await
}
