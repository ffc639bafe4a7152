//! Finished WAL that somebody found damaged. Nobody reads all of it only to show what can be reached; so what a restore
//! stumbles over is remembered in the ledger, and is a hole until it can be read again.

use repo::{
    Repository,
    ledger::Severity,
    wal::{Coverage, WalStream, assemble},
};

use crate::{Error, Result, alert, database::Opened};

/// What the names of these alerts begin with; the object's name follows.
pub(crate) const ALERT: &str = "wal-damaged-";

/// Remembers it, if the error is that. Who may only read cannot, and is told of the damage all the same.
pub(crate) async fn remember(opened: &Opened, error: &Error) {
    let Error::Repository(repo::Error::Damaged { name, what }) = error else {
        return;
    };
    if !name.starts_with("wal/") || !name.contains("/done/") {
        return;
    }
    let alert = format!("{ALERT}{name}");
    if alert::stands(opened, &alert).await {
        return;
    }
    let text = format!(
        "{name} is damaged: {what}. Take a backup now, if none lies behind it; the moments between cannot be reached unless the object comes back from a copy of the repository."
    );
    // The damage itself is the error that is told.
    if opened.begin_session().await.is_ok() {
        let _ = alert::raise(opened, &alert, Severity::Critical, text).await;
    }
}

/// Takes out of `coverage` what is remembered as damaged and still is.
pub(crate) async fn take_out(opened: &Opened, stream: &WalStream, coverage: &mut Coverage) -> Result<()> {
    let prefix = format!(
        "{ALERT}{}",
        repo::names::wal_all_done(stream.generation, stream.timeline)
    );
    let starts: Vec<u64> = opened
        .with_state(|state| {
            let own = state.alerts().filter_map(|(alert, _)| alert.strip_prefix(&prefix));
            let start = |rest: &str| u64::from_str_radix(rest.rsplit('/').next()?, 16).ok();
            own.filter_map(start).collect()
        })
        .await;
    for start in starts {
        let end = stream.done_end(start);
        if is_damaged(&opened.repository, stream, start, end).await? {
            *coverage = without(coverage, start, end);
        }
    }
    Ok(())
}

async fn is_damaged(repository: &Repository, stream: &WalStream, start: u64, end: u64) -> Result<bool> {
    match assemble(repository, *stream, start, end, |_, _| Ok(())).await {
        Ok(_) => Ok(false),
        Err(repo::Error::Damaged { .. } | repo::Error::Missing { .. }) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn without(coverage: &Coverage, from: u64, to: u64) -> Coverage {
    let parts = coverage.iter().flat_map(|(start, end)| {
        let before = (*start, (*end).min(from));
        let after = ((*start).max(to), *end);
        [before, after]
    });
    parts.filter(|(start, end)| start < end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_is_taken_out_of_the_stretch_that_holds_it() {
        let all = vec![(0, 10), (20, 30)];
        assert_eq!(without(&all, 4, 6), [(0, 4), (6, 10), (20, 30)]);
        assert_eq!(without(&all, 0, 10), [(20, 30)]);
        assert_eq!(without(&all, 10, 20), all);
        assert_eq!(without(&all, 8, 24), [(0, 8), (24, 30)]);
    }
}
