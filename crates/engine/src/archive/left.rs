//! Timelines that were left for later ones, as the history files that are here tell.
//!
//! Past the position at which its timeline was left, a server goes on only if a person said that both do: somebody may have
//! recovered a copy of the cluster, and let it archive here.

use std::collections::BTreeSet;

use pgformat::{Tli, history::History};
use repo::{
    Repository,
    ledger::State,
    wal::{history_timelines, read_history},
};

use crate::{Result, database::Opened};

/// How many timelines past each that is known are asked for by name: listings may lack what was stored a moment ago, and
/// not every server archived its history.
const LOOK_AHEAD: u32 = 4;

/// A timeline that left another one. Ordered by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Left {
    /// The position after the last byte that it takes from the other.
    pub(super) at: u64,
    /// The one that goes on.
    pub(super) child: u32,
}

/// Who left `timeline` of the cluster `generation`, the first to leave at the front. Those that left one of these tell of
/// it once more, also where its own history is not here.
pub(super) async fn who_left(repository: &Repository, generation: u64, timeline: u32) -> Result<Vec<Left>> {
    let listed: BTreeSet<u32> = history_timelines(repository, generation).await?.into_iter().collect();
    let (mut found, mut absent) = (BTreeSet::new(), 0);
    let mut next = timeline.checked_add(1);
    while let Some(tip) = next {
        let content = match read_history(repository, generation, tip).await {
            // Of one that is damaged nobody knows whom it left: that stops nobody else.
            Err(repo::Error::Damaged { .. }) => None,
            read => read?,
        };
        absent = content.as_ref().map_or(absent + 1, |_| 0);
        found.extend(content.and_then(|content| left_by(Tli(tip), &content, timeline)));
        next = tip.checked_add(1);
        if absent >= LOOK_AHEAD {
            next = next.and_then(|next| listed.range(next..).next().copied());
        }
    }
    Ok(found.into_iter().collect())
}

/// Which timeline on the way to `tip` left `timeline`, and where. A history that cannot be read tells nothing.
fn left_by(tip: Tli, content: &[u8], timeline: u32) -> Option<Left> {
    let ranges = History::parse(tip, content).ok()?.ranges();
    let steps = ranges.iter().zip(ranges.iter().skip(1));
    let mut left = steps.filter(|(parent, _)| parent.timeline.0 == timeline);
    left.next().map(|(parent, child)| Left {
        at: parent.end.0,
        child: child.timeline.0,
    })
}

/// Those of them past whom nobody may go on yet. The ledger is read anew: a person may have spoken a moment ago.
pub(super) async fn not_accepted(repository: &Repository, generation: u64, timeline: u32) -> Result<Vec<Left>> {
    let mut left = who_left(repository, generation, timeline).await?;
    if left.is_empty() {
        return Ok(left);
    }
    let opened = Opened::new(repository.clone()).await?;
    opened
        .with_state(|state| left.retain(|left| !is_accepted(state, generation, timeline, left.child)))
        .await;
    Ok(left)
}

/// The alert about a server that still writes `timeline` though `child` left it. A person who clears it has looked, and
/// says that both go on.
pub(super) fn alert_of(generation: u64, timeline: u32, child: u32) -> String {
    format!("timeline-behind-{generation}-{timeline}-{child}")
}

/// Whether a person said so.
pub(crate) fn is_accepted(state: &State, generation: u64, timeline: u32, child: u32) -> bool {
    state.cleared(&alert_of(generation, timeline, child)).is_some()
}

/// What a person can do about a server that still writes `timeline`, in the repository called `name`.
pub(super) fn hint(timeline: u32, child: u32, name: &str) -> String {
    format!(
        "Stop this server if another was promoted in its place; pg_rewind makes a standby of it. If timeline {child} is only that of a copy which somebody recovered, let the copy archive under another name, and say that this server goes on: `lastgood wal accept {timeline} {name}`."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_left_a_timeline_is_told_by_all_that_come_after_it() {
        let history = b"1\t0/5000098\t\n2\t0/7800000\t\n";
        for (tip, timeline, expected) in [
            (3, 1, Some((0x500_0098, 2))),
            (3, 2, Some((0x780_0000, 3))),
            (3, 3, None),
            (9, 2, Some((0x780_0000, 9))),
        ] {
            let found = left_by(Tli(tip), history, timeline);
            assert_eq!(
                found,
                expected.map(|(at, child)| Left { at, child }),
                "{tip} {timeline}"
            );
        }
        assert_eq!(left_by(Tli(3), b"no history", 1), None);
    }
}
