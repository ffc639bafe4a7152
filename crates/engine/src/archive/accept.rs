//! A person's word that a timeline goes on though others left it.
//!
//! Without it a copy of the cluster that somebody recovered, and that archived its history here, would stop the real
//! server's archiving for ever. Invariant: the word is about the timelines that are known when it is given. One that leaves
//! later may be a promotion, and is asked about anew.

use pgformat::Lsn;
use repo::ledger::{Entry, Severity};
use serde::Serialize;

use crate::{Error, Result, database::Opened};

use super::left::{alert_of, is_accepted, who_left};

/// A timeline that left another one which goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Accepted {
    /// The one that left.
    pub timeline: u32,
    /// Where.
    pub at: repo::ledger::Lsn,
}

/// Writes down that `timeline` goes on beside those that left it; says which. `by` is who says so.
///
/// # Errors
/// [`Error::NotFound`] if nobody left it, or everybody was accepted before.
pub async fn accept(opened: &Opened, timeline: u32, by: &str) -> Result<Vec<Accepted>> {
    let generations: Vec<u64> = opened
        .with_state(|state| state.generations().filter_map(|text| text.parse().ok()).collect())
        .await;
    let mut session = None;
    let mut accepted = Vec::new();
    for generation in generations {
        for left in who_left(&opened.repository, generation, timeline).await? {
            let alert = alert_of(generation, timeline, left.child);
            let known = opened
                .with_state(|state| is_accepted(state, generation, timeline, left.child))
                .await;
            if known {
                continue;
            }
            if session.is_none() {
                session = Some(opened.begin_session().await?);
            }
            // Only an alert that was raised can be cleared; whoever would have raised it may not have come yet.
            let text = format!(
                "timeline {timeline} was left for timeline {} at {}",
                left.child,
                Lsn(left.at)
            );
            crate::alert::raise(opened, &alert, Severity::Warning, text).await?;
            let by = by.to_string();
            opened.append(Entry::AlertCleared { alert, by }).await?;
            accepted.push(Accepted {
                timeline: left.child,
                at: repo::ledger::Lsn(left.at),
            });
        }
    }
    if accepted.is_empty() {
        return Err(Error::NotFound {
            what: format!("no timeline that is known here left timeline {timeline}, but such as were accepted before"),
            hint: "Name the timeline that the server still writes, in decimal: the refusal of `lastgood wal push` tells it."
                .into(),
        });
    }
    Ok(accepted)
}
