//! Timelines that were left for later ones, as the history files that are here tell.
//!
//! Past the position at which its timeline was left, a server goes on only if a person said that both do: somebody may have
//! recovered a copy of the cluster, and let it archive here.

use pgformat::{Tli, history::History};
use repo::{Repository, ledger::State, wal::read_history};

use crate::Result;

/// How many timelines in a row may be without a history before no later one is looked for: one that was never archived must
/// not hide those after it.
const LOOK_AHEAD: u32 = 4;

/// A timeline that left another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    /// The one that goes on.
    pub(super) child: u32,
    /// The position after the last byte that it takes from the other.
    pub(super) at: u64,
}

/// Who left `timeline` of the cluster `generation`, in the order of their numbers; later ones by way of others, too.
/// Histories are asked for by name: listings may lack what was stored a moment ago.
pub(super) async fn who_left(repository: &Repository, generation: u64, timeline: u32) -> Result<Vec<Left>> {
    let (mut found, mut absent) = (Vec::new(), 0);
    for child in timeline.saturating_add(1)..u32::MAX {
        let Some(content) = read_history(repository, generation, child).await? else {
            absent += 1;
            if absent == LOOK_AHEAD {
                break;
            }
            continue;
        };
        absent = 0;
        let Ok(history) = History::parse(Tli(child), &content) else {
            continue;
        };
        let range = history.ranges().into_iter().find(|range| range.timeline.0 == timeline);
        found.extend(range.map(|range| Left { child, at: range.end.0 }));
    }
    Ok(found)
}

/// The alert about a server that still writes `timeline` though `child` left it. A person who clears it has looked, and
/// says that both go on.
pub(super) fn alert_of(generation: u64, timeline: u32, child: u32) -> String {
    format!("timeline-behind-{generation}-{timeline}-{child}")
}

/// Whether a person said so.
pub(super) fn is_accepted(state: &State, generation: u64, timeline: u32, child: u32) -> bool {
    state.cleared(&alert_of(generation, timeline, child)).is_some()
}
