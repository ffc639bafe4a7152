//! Servers from which nothing may be taken: each would put two histories into one.

use pgformat::{Lsn, Tli, history::History};
use repo::{
    Repository,
    wal::{read_history, timelines},
};

use crate::{Error, Result, server::Identity};

/// How far past the newest timeline of which WAL is here, histories are looked for.
const LOOK_AHEAD: u32 = 4;

/// Where a timeline was left for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) at: Lsn,
    pub(super) to: Tli,
}

/// Where the timeline that the server writes was left, as far as is known here: past it the server must not be.
pub(super) async fn left(repository: &Repository, identity: &Identity) -> Result<Option<Left>> {
    let (generation, own) = (identity.system.system_identifier, identity.system.timeline);
    let known = timelines(repository, generation).await?;
    let newest = known.last().copied().unwrap_or(own.0).max(own.0);
    let mut found: Option<Left> = None;
    for timeline in own.0.saturating_add(1)..=newest.saturating_add(LOOK_AHEAD) {
        let Some(content) = read_history(repository, generation, timeline).await? else {
            continue;
        };
        let Ok(history) = History::parse(Tli(timeline), &content) else {
            continue;
        };
        for switch in history.switches().iter().filter(|switch| switch.parent == own) {
            if found.is_none_or(|found| switch.at < found.at) {
                found = Some(Left {
                    at: switch.at,
                    to: Tli(timeline),
                });
            }
        }
    }
    Ok(found)
}

/// Refuses a server that went on, past `left`, on a timeline that others have left.
pub(super) fn check_left(identity: &Identity, left: Option<Left>, reached: Lsn) -> Result<()> {
    match left {
        Some(left) if reached > left.at => Err(timeline_behind(identity, left, reached)),
        _ => Ok(()),
    }
}

fn timeline_behind(identity: &Identity, left: Left, reached: Lsn) -> Error {
    let own = identity.system.timeline;
    Error::Conflict {
        code: "timeline-behind",
        what: format!(
            "{} writes timeline {own} at {reached}, but timeline {} went on from {} in its place: two servers write for one cluster",
            identity.server, left.to, left.at
        ),
        hint: "Stop this server: it is an old primary. Rewind it with pg_rewind, or make it a standby of the new one."
            .into(),
    }
}

/// Refuses a server that has less than was received of its timeline up to `position`. One that went to another timeline
/// since it was `seen` is judged by that one.
pub(super) fn check_ahead(identity: &Identity, seen: &Identity, position: Lsn) -> Result<()> {
    let flushed = identity.system.flushed;
    let same = |a: &Identity| (a.system.system_identifier, a.system.timeline);
    if position <= flushed || same(identity) != same(seen) {
        return Ok(());
    }
    let (server, timeline) = (&identity.server, identity.system.timeline);
    if identity.facts.in_recovery {
        return Err(Error::Failed {
            code: "standby-behind",
            what: format!("the standby {server} has WAL up to {flushed}; here it is up to {position}"),
            hint: "Wait until it has caught up, or name the primary in the connection string.".into(),
        });
    }
    Err(Error::Conflict {
        code: "server-behind",
        what: format!(
            "{server} has WAL of timeline {timeline} up to {flushed}; {position} was received of it before: it lost what it had written"
        ),
        hint: "Find out whether it was brought back from a snapshot or lost its disk's last writes. What is here may be more than it has: restore it, or protect the server under another name with `lastgood init`.".into(),
    })
}
