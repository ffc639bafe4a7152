//! What the ledger hears of the WAL that is received.

use pgformat::{Lsn, Tli, history::History};
use repo::{
    ledger::{self, Entry, Severity, State},
    wal::WalStream,
};

use crate::{Error, Result, archive::archived::said, begun, database::Opened, event::Context, server::Identity};

/// Says that the cluster, the timeline and its archiving have begun, where that is news.
pub(super) async fn begin(
    opened: &Opened,
    identity: &Identity,
    history: &History,
    stream: &WalStream,
    position: u64,
) -> Result<()> {
    let timeline = Tli(stream.timeline);
    let facts = &identity.facts;
    let cluster = begun::Cluster {
        generation: identity.system.system_identifier,
        segment_size: facts.segment_size.bytes(),
        block_size: facts.block_size,
        major: facts.major.number(),
    };
    begun::generation(opened, cluster).await?;
    let ranges = history.ranges();
    let at = ranges.iter().position(|range| range.timeline == timeline);
    let parent = at.and_then(|at| at.checked_sub(1)).and_then(|at| ranges.get(at));
    let parent = parent.map(|parent| (parent.timeline.0, ledger::Lsn(parent.end.0)));
    begun::timeline(opened, cluster.generation, timeline.0, parent).await?;
    // Before the first run: of who is killed before a segment is finished, nothing else tells.
    let archives = |state: &State| said(state, stream).is_some_and(|from| from.0 <= position);
    if !opened.with_state(archives).await {
        let entry = Entry::ArchivingBegun {
            generation: cluster.generation.to_string(),
            timeline: timeline.0,
            from: ledger::Lsn(position),
        };
        opened.append(entry).await?;
    }
    Ok(())
}

/// WAL that will never be here.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Gap {
    /// Timeline.
    pub timeline: u32,
    /// The first position that is missing.
    pub from: ledger::Lsn,
    /// The first that is here again.
    pub to: ledger::Lsn,
}

/// Records that WAL from `gap.from` to `gap.to` will never be here, and asks for attention. Before anybody `archived`, there
/// was nothing to be lost: then it is only what backups leave between them.
pub(super) async fn gap(
    context: &Context,
    opened: &Opened,
    generation: u64,
    gap: &Gap,
    cause: &str,
    archived: bool,
) -> Result<()> {
    let (from, to) = (Lsn(gap.from.0), Lsn(gap.to.0));
    opened
        .append(Entry::WalGap {
            generation: generation.to_string(),
            timeline: gap.timeline,
            from: gap.from,
            to: gap.to,
            cause: cause.into(),
        })
        .await?;
    let name = &opened.repository.identity().name;
    if !archived {
        let text = format!(
            "WAL of timeline {} is received from {to} on; the backups that are here end before it. Take a backup of {name} now: from its end on any moment can be reached.",
            gap.timeline
        );
        context.warn("wal-begins", text);
        return Ok(());
    }
    let text = format!(
        "WAL of timeline {} from {from} to {to} is lost: {cause}. Take a backup of {name} now: none before it can be rolled forward past the gap.",
        gap.timeline
    );
    context.warn("wal-gap", text.clone());
    alert(opened, &format!("wal-gap-{}-{:x}", gap.timeline, gap.from.0), text).await;
    Ok(())
}

/// Asks for attention, unless that was done already. What happens to it stops nobody: the error itself is told anyway.
pub(super) async fn alert(opened: &Opened, alert: &str, text: String) {
    let _ = crate::alert::raise(opened, alert, Severity::Critical, text).await;
}

/// Asks for attention to an error that no repetition mends.
pub(super) async fn alert_of(opened: &Opened, error: &Error) {
    let name = match error {
        Error::Repository(repo::Error::TwoServers { .. }) => "two-servers",
        Error::Conflict {
            code: code @ ("server-behind" | "timeline-behind"),
            ..
        } => code,
        _ => return,
    };
    alert(opened, name, error.to_string()).await;
}

/// What an earlier receiver asked attention for is over: new WAL came and is here.
pub(super) async fn clear_alerts(opened: &Opened) {
    for name in ["two-servers", "server-behind", "timeline-behind"] {
        let raised = opened
            .with_state(|state| state.alerts().any(|(known, _)| known == name))
            .await;
        if raised {
            let (alert, by) = (name.to_string(), "wal receive".to_string());
            let _ = opened.append(Entry::AlertCleared { alert, by }).await;
        }
    }
}
