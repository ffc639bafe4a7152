//! Whether the timeline that goes on has lost what another one has.
//!
//! Who says a moment means what the server had that is there now. If that is lost in a hole, what an older server or a
//! copy had at the same time is another moment: it has to be asked for.

use crate::Error;

use super::{
    Target, Timelines,
    find::{Wanted, refused, told},
};

/// Refusals that mean that what was asked for may have been there.
const LOST: [&str; 3] = ["wal-gap", "wal-missing", "wal-unreadable"];

/// The timeline that goes on, as far as moments were looked for there.
pub(super) struct Leader<'a> {
    timelines: &'a Timelines,
    /// None if all that is here is of copies, or if the user chose.
    tip: Option<u32>,
    lost: Option<Error>,
    /// Whether what was found elsewhere is its own moment too: from before the two parted.
    shared: bool,
}

impl<'a> Leader<'a> {
    /// The newest of `tips` that is no copy's; none if `chosen`.
    pub(super) fn of(timelines: &'a Timelines, tips: &[u32], chosen: Option<u32>) -> Leader<'a> {
        let newest = tips.iter().rev().find(|tip| !timelines.is_beside(**tip));
        Leader {
            timelines,
            tip: newest.copied().filter(|_| chosen.is_none()),
            lost: None,
            shared: false,
        }
    }

    /// Takes note of what was found along the past of `tip`.
    pub(super) fn found(&mut self, tip: u32, wanted: &Wanted, target: &Target) {
        let (Some(leader), Some(end)) = (self.tip, known_by(wanted, target)) else {
            return;
        };
        let last = pgformat::Lsn(end.saturating_sub(1));
        let holder = self.timelines.history(tip).timeline_of(last).0;
        self.shared |= self.timelines.contains(leader, holder, end);
    }

    /// Takes note of a refusal along the past of `tip`; gives it back if it is none of a loss on this timeline.
    pub(super) fn refused(&mut self, tip: u32, error: Error) -> Option<Error> {
        match error {
            Error::Refused { code, .. } if self.tip == Some(tip) && LOST.contains(&code) => {
                self.lost = Some(error);
                None
            }
            error => Some(error),
        }
    }

    /// The refusal, if what was found is another timeline's moment, and this one's may be lost; or if nothing was found.
    pub(super) fn refusal<'t>(self, mut found: impl Iterator<Item = &'t Target>) -> Option<Error> {
        let Some(Error::Refused { code, what, hint }) = self.lost else {
            return None;
        };
        let Some(first) = found.next() else {
            return Some(refused(code, what, hint));
        };
        if self.shared {
            return None;
        }
        let all: Vec<String> = std::iter::once(first).chain(found).map(told).collect();
        Some(refused(
            code,
            format!(
                "{what}. That is the timeline that goes on; another one has its own moment: {}",
                all.join("; ")
            ),
            format!("If that one is meant, say `--timeline {}`. {hint}", first.timeline),
        ))
    }
}

/// Up to where WAL has to be the same for the moment to be: past the record that was looked for, or that is the first left
/// out.
fn known_by(wanted: &Wanted, target: &Target) -> Option<u64> {
    let past = |position: u64| position.saturating_add(1);
    match wanted {
        Wanted::Latest => None,
        Wanted::Lsn(position) => Some(*position),
        Wanted::Time(_) | Wanted::Xid { before: true, .. } => target.after.as_ref().map(|after| past(after.lsn.0)),
        Wanted::Xid { before: false, .. } | Wanted::Point(_) => Some(past(target.record.0)),
    }
}
