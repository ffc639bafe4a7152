//! Where a backup's WAL begins and ends, and on which timelines.

use serde::{Deserialize, Serialize};

use crate::{bytes_codec::Malformed, ledger::Lsn};

use super::Facts;

/// Where a backup's WAL begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Redo position of the checkpoint that the backup began with.
    pub lsn: Lsn,
    /// Its timeline.
    pub timeline: u32,
}

/// Where a backup's WAL ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// The WAL is needed up to here, exclusive.
    pub lsn: Lsn,
    /// Its timeline.
    pub timeline: u32,
    /// Begin of the record with whose replay the cluster is consistent: the inclusive
    /// `recovery_target_lsn` of a restore to this backup.
    pub record: Lsn,
}

/// A timeline and where it was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ancestor {
    /// The timeline.
    pub timeline: u32,
    /// Where the next one begins.
    pub end: Lsn,
}

/// WAL of one timeline, from `from` to before `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalRange {
    /// The timeline.
    pub timeline: u32,
    /// First byte.
    pub from: Lsn,
    /// The byte after the last.
    pub to: Lsn,
}

impl Facts {
    /// The WAL a restore needs to make the cluster consistent, in order.
    pub fn wal_needed(&self) -> Vec<WalRange> {
        let last = Ancestor {
            timeline: self.stop.timeline,
            end: self.stop.lsn,
        };
        let mut from = self.start.lsn;
        let mut ranges = Vec::new();
        for Ancestor { timeline, end } in self.history.iter().copied().chain([last]) {
            if end > from {
                let to = end.min(self.stop.lsn);
                ranges.push(WalRange { timeline, from, to });
                from = to;
            }
        }
        ranges
    }

    /// Checks that the positions follow one another on one line of timelines.
    pub(super) fn check_positions(&self) -> Result<(), Malformed> {
        let (start, stop) = (&self.start, &self.stop);
        if start.lsn > stop.record || stop.record >= stop.lsn {
            return Err(Malformed("its WAL positions are not in order"));
        }
        match self.history_is_a_line() {
            true => Ok(()),
            false => Err(Malformed("its timelines are not in order")),
        }
    }

    /// Timelines and their ends ascend to `stop.timeline`, and the start lies on the one it names.
    fn history_is_a_line(&self) -> bool {
        let ascend = (self.history).is_sorted_by(|a, b| a.timeline < b.timeline && a.end <= b.end);
        let below = self
            .history
            .last()
            .is_none_or(|last| last.timeline < self.stop.timeline);
        let first = self.wal_needed().first().map(|range| range.timeline);
        ascend && below && first == Some(self.start.timeline)
    }
}
