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
    let alert = alert.to_owned();
    let entry = Entry::AlertRaised { alert, severity, text };
    opened.append(entry).await.map(drop)
}
