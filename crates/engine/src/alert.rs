//! Asking for attention: an alert stands in the ledger until it is cleared, and one is enough.

use repo::ledger::{Entry, Severity};

use crate::{Result, database::Opened};

/// Whether an alert of that name stands.
pub(crate) async fn stands(opened: &Opened, alert: &str) -> bool {
    opened
        .with_state(|state| state.alerts().any(|(known, _)| known == alert))
        .await
}

/// Raises an alert, unless it stands already. A session has been begun.
///
/// # Errors
/// As [`Opened::append`].
pub(crate) async fn raise(opened: &Opened, alert: &str, severity: Severity, text: String) -> Result<()> {
    if stands(opened, alert).await {
        return Ok(());
    }
    renew(opened, alert, severity, text).await
}

/// Raises an alert, again if it stands already: what was known when it was raised before says nothing of what was found
/// now. It stays one, and counts from its last entry on. A session has been begun.
///
/// # Errors
/// As [`Opened::append`].
pub(crate) async fn renew(opened: &Opened, alert: &str, severity: Severity, text: String) -> Result<()> {
    let alert = alert.to_owned();
    let entry = Entry::AlertRaised { alert, severity, text };
    opened.append(entry).await.map(drop)
}

/// Clears an alert; `by` is who has seen that it is over. A session has been begun.
///
/// # Errors
/// As [`Opened::append`].
pub(crate) async fn clear(opened: &Opened, alert: &str, by: &str) -> Result<()> {
    let (alert, by) = (alert.to_owned(), by.to_owned());
    opened.append(Entry::AlertCleared { alert, by }).await.map(drop)
}
