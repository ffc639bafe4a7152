//! Notices in passing when a transaction ends or a restore point is set, so that its WAL does not wait.
//!
//! Invariant: where the records cannot be followed, every byte counts as a commit. Storing never depends on it.

use pgformat::{
    Lsn, Major,
    wal::{Geometry, Record, Stop, Walker, XlogRecord},
};
use repo::wal::WalStream;

use crate::archive::sealing::Commits;

/// `RM_XACT_ID` (`access/rmgrlist.h`).
const RM_XACT: u8 = 1;
/// `XLOG_XACT_OPMASK` (`access/xact.h`): the upper bit says only that more information follows.
const XACT_OPERATION: u8 = 0x70;
/// Commit, prepare, abort, commit and abort of what was prepared. Assignments and invalidations end nothing.
const XACT_ENDINGS: [u8; 5] = [0x00, 0x10, 0x20, 0x30, 0x40];
/// The longest record that is put together, bytes. A longer one is passed over with the rest of its segment: memory must
/// not depend on what a server logs.
const MAX_RECORD: usize = 4 << 20;

/// A walk over the records as they come.
pub(super) struct Follow {
    stream: WalStream,
    geometry: Geometry,
    major: Major,
    walker: Option<Walker>,
    /// Where the next walk may begin, while there is none.
    from: u64,
}

impl Follow {
    /// From `position` on: records can be told apart from the next page on.
    pub(super) fn new(stream: WalStream, geometry: Geometry, major: Major, position: u64) -> Follow {
        Follow {
            stream,
            geometry,
            major,
            walker: None,
            from: position.next_multiple_of(geometry.page_bytes()),
        }
    }

    /// Looks at the next bytes. Says also if the walk stopped at them.
    pub(super) fn take(&mut self, start: u64, bytes: &[u8]) -> (Commits, Option<Stop>) {
        let before = usize::try_from(self.from.saturating_sub(start)).unwrap_or(usize::MAX);
        let (unknown, known) = match &self.walker {
            Some(_) => (&bytes[..0], bytes),
            None => bytes.split_at(before.min(bytes.len())),
        };
        let mut commits = match unknown.is_empty() {
            true => Commits::None,
            false => Commits::Perhaps,
        };
        if known.is_empty() {
            return (commits, None);
        }
        let walker = match self.walker.take() {
            Some(walker) => Some(walker),
            None => Walker::new(self.geometry, Lsn(self.from)).ok(),
        };
        let Some(mut walker) = walker.map(|walker| walker.of_major(self.major).of_system(self.stream.generation))
        else {
            return (Commits::Perhaps, None);
        };
        let fed = walker.feed(known, |record| {
            if somebody_waits(&record) {
                commits = Commits::Perhaps;
            }
        });
        let held = walker.leading().len() + walker.tail().map_or(0, |tail| tail.bytes.len());
        if fed.is_ok() && held <= MAX_RECORD {
            self.walker = Some(walker);
            return (commits, None);
        }
        let began = std::mem::replace(&mut self.from, self.stream.segment_end(start));
        // Behind a switch are zeroes, up to the segment's end. Who begins among them has not seen it.
        let behind_switch =
            |stop: &Stop| stop.is_end() && stop.lsn == Lsn(began) && self.stream.segment_of(began) < began;
        (Commits::Perhaps, fed.err().filter(|stop| !behind_switch(stop)))
    }
}

fn somebody_waits(record: &Record<'_>) -> bool {
    let ends = record.rmid == RM_XACT && XACT_ENDINGS.contains(&(record.info & XACT_OPERATION));
    ends || record.xlog() == Some(XlogRecord::RestorePoint)
}

#[cfg(test)]
mod tests {
    use pgformat::segment::SegmentSize;

    use super::*;

    #[test]
    fn zeroes_are_no_damage_to_who_begins_among_them_in_the_middle_of_a_segment() {
        const SEGMENT: u64 = 1 << 20;
        let stream = WalStream::new(7, 1, SEGMENT).unwrap();
        let geometry = Geometry::standard(SegmentSize::new(SEGMENT).unwrap());
        let stopped = |position| {
            let mut follow = Follow::new(stream, geometry, Major::V15, position);
            let (commits, stop) = follow.take(position, &[0; 65536]);
            assert_eq!(commits, Commits::Perhaps);
            stop.is_some()
        };
        assert!(!stopped(5 * SEGMENT + 8192 * 3));
        assert!(stopped(5 * SEGMENT));
    }
}
