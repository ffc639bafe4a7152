//! Asking for attention: an alert stands in the ledger until it is cleared, and one is enough.

use repo::ledger::{Entry, Severity, State};

use crate::{Result, database::Opened};

/// Whether an alert of that name stands.
pub(crate) async fn stands(opened: &Opened, alert: &str) -> bool {
    opened
        .with_state(|state| state.alerts().any(|(known, _)| known == alert))
        .await
}

/// The entry that began a backup: of what alerts said later it could not know. One that the ledger does not know began before
/// all that it tells of.
pub(crate) fn begun(state: &State, backup: &str) -> u64 {
    state.run(backup).map_or(0, |run| run.started)
}

/// Raises an alert, unless it stands already. A session has been begun.
///
/// # Errors
/// As [`Opened::append`].
pub(crate) async fn raise(opened: &Opened, alert: &str, severity: Severity, text: String) -> Result<()> {
    raise_unless(opened, alert, severity, text, |_, _| true).await
}

/// Raises an alert, again if it stands already: what was known when it was raised before says nothing of what was found
/// now. It stays one, and counts from its last entry on. A session has been begun.
///
/// # Errors
/// As [`Opened::append`].
pub(crate) async fn renew(opened: &Opened, alert: &str, severity: Severity, text: String) -> Result<()> {
    raise_unless(opened, alert, severity, text, |_, _| false).await
}

/// Raises an alert, unless it stands and the entry that raised it last `says` enough, in the ledger as it is now, not as it was
/// read before. A session has been begun.
///
/// # Errors
/// As [`Opened::append`].
pub(crate) async fn raise_unless(
    opened: &Opened,
    alert: &str,
    severity: Severity,
    text: String,
    says: impl Fn(&State, u64) -> bool + Send + Sync,
) -> Result<()> {
    let is_due = |state: &State| {
        let mut standing = state.alerts();
        !standing.any(|(known, raised)| known == alert && says(state, raised))
    };
    let name = alert.to_owned();
    let entry = Entry::AlertRaised {
        alert: name,
        severity,
        text,
    };
    opened.append_if(entry, is_due).await.map(drop)
}

/// Clears an alert, if it stands and was raised last by the entry `until` or one before it: of what came later, who has seen
/// that it is over knows nothing. `by` is who that is. A session has been begun.
///
/// # Errors
/// As [`Opened::append`].
pub(crate) async fn clear(opened: &Opened, alert: &str, until: u64, by: &str) -> Result<()> {
    let is_over = |state: &State| state.alerts().any(|(known, raised)| known == alert && raised <= until);
    // Nothing is written for what does not stand.
    if !opened.with_state(is_over).await {
        return Ok(());
    }
    let (name, by) = (alert.to_owned(), by.to_owned());
    let entry = Entry::AlertCleared { alert: name, by };
    opened.append_if(entry, is_over).await.map(drop)
}
