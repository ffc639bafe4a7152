//! At which record a backup ends.
//!
//! A primary writes one that says so. A standby writes nothing: its backup is consistent where replay reaches the
//! `minRecoveryPoint` of the `pg_control` that was copied last, and the record that ends there was passed long before that
//! position is known. So it is looked for once more, from a place that was remembered.

use pgformat::{
    Lsn,
    wal::{Record, Walker},
};
use repo::{Repository, wal::Assembly, wal::WalStream};

use crate::Result;

use super::{Stretch, odd_wal};

/// How far apart the places are that are remembered: with 8 bytes each, a TiB of WAL takes 8 MiB.
const APART: u64 = 1 << 20;

/// Where a backup ends, as far as its server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backup) enum End {
    /// Behind the record that ends it (`XLOG_BACKUP_END`).
    Record(Lsn),
    /// With the first record that reaches a position.
    Consistency {
        /// That position: `minRecoveryPoint`, or later.
        reaches: Lsn,
        /// The record begins here or later. One from which recovery only begins is no target of it.
        from: Lsn,
    },
}

impl End {
    /// Up to where WAL is needed at least.
    pub(super) fn position(self) -> Lsn {
        match self {
            End::Record(end) => end,
            End::Consistency { reaches, .. } => reaches,
        }
    }

    fn is_reached_by(self, start: Lsn, end: Lsn) -> bool {
        match self {
            End::Record(_) => false,
            End::Consistency { reaches, from } => end >= reaches && start >= from,
        }
    }
}

/// The records that were passed, as far as they are remembered.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Where records begin, ascending.
    places: Vec<Lsn>,
    /// Where the last one begins and ends.
    last: Option<(Lsn, Lsn)>,
}

impl Passed {
    pub(super) fn record(&mut self, record: &Record<'_>) {
        self.last = Some((record.lsn, record.end));
        let apart = |place: &Lsn| record.lsn.bytes_since(*place) >= APART;
        if self.places.last().is_none_or(apart) {
            self.places.push(record.lsn);
        }
    }

    /// Whether the record that `end` means was passed, and all up to its end received.
    pub(super) fn has_reached(&self, end: End, received: Lsn) -> bool {
        self.last
            .is_some_and(|(start, ends)| end.is_reached_by(start, ends) && received >= ends)
    }

    /// Where the record begins and ends that `end` means. All of it is in the repository.
    pub(super) async fn find(
        &self,
        repository: &Repository,
        stream: WalStream,
        stretch: &Stretch,
        end: End,
    ) -> Result<Option<(Lsn, Lsn)>> {
        // Whatever ends before a place before that position does not reach it.
        let before = self.places.partition_point(|place| *place < end.position());
        let (Some(place), Some((_, to))) = (self.places.get(before.saturating_sub(1)), self.last) else {
            return Ok(None);
        };
        let mut walker = Walker::new(stretch.geometry()?, *place).map_err(odd_wal)?;
        let mut assembly = Assembly::new(repository, stream, place.0, to.0);
        let mut found = None;
        while let Some(run) = assembly.next().await? {
            let take = |record: Record<'_>| {
                if found.is_none() && end.is_reached_by(record.lsn, record.end) {
                    found = Some((record.lsn, record.end));
                }
            };
            walker.feed(&run.bytes, take).map_err(odd_wal)?;
            if found.is_some() {
                break;
            }
        }
        Ok(found)
    }
}
