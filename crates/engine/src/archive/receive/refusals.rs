//! Servers from which nothing may be taken: each would put two histories into one.

use pgformat::Lsn;
use repo::Repository;

pub(super) use crate::archive::left::Left;
use crate::{
    Error, Result,
    archive::left::{hint, not_accepted},
    server::Identity,
};

/// Where the timeline that the server writes was left for another one, as far as is known here: past it the server must
/// not be, unless a person said that both go on.
pub(super) async fn left(repository: &Repository, identity: &Identity) -> Result<Option<Left>> {
    let (generation, own) = (identity.system.system_identifier, identity.system.timeline.0);
    let left = not_accepted(repository, generation, own).await?;
    Ok(left.first().copied())
}

/// Refuses a server that went on, past `left`, on a timeline that others have left.
pub(super) fn check_left(identity: &Identity, left: Option<Left>, reached: Lsn) -> Result<()> {
    match left {
        Some(left) if reached.0 > left.at => Err(timeline_behind(identity, left, reached)),
        _ => Ok(()),
    }
}

fn timeline_behind(identity: &Identity, Left { at, child }: Left, reached: Lsn) -> Error {
    let own = identity.system.timeline;
    Error::Conflict {
        code: "timeline-behind",
        what: format!(
            "{} writes timeline {own} at {reached}, but timeline {child} went on from {} in its place: two servers write for one cluster",
            identity.server,
            Lsn(at)
        ),
        hint: hint(own.0, child, "NAME"),
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
