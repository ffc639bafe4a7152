//! Pages that changed although no WAL tells of it, as the ledger remembers that some were found.
//!
//! Whatever an incremental backup took unread before is in doubt then. The backup that is taken anew reads every page; so
//! the alert stands until that one, or a later one, was restored and checked.

use repo::ledger::{Level, Outcome, Severity, state::Backup};

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

/// Clears the alert if `backup`, which a verification of that level judged so, was committed since it was raised.
///
/// # Errors
/// As [`Opened::append`].
pub(crate) async fn clear(opened: &Opened, backup: &Backup, level: Level, outcome: Outcome) -> Result<()> {
    if (level, outcome) != (Level::Restore, Outcome::Passed) {
        return Ok(());
    }
    let is_since = |(alert, raised): (&str, u64)| alert == CODE && raised < backup.committed;
    if opened.with_state(|state| state.alerts().any(is_since)).await {
        alert::clear(opened, CODE, "verify").await?;
    }
    Ok(())
}
