//! The model leaves its timeline: a standby that had received everything takes over, with its slot.

use bytes::Bytes;
use engine::pgformat::{Lsn, Tli};

use super::{Cluster, Shared, wal::Wal};

impl Shared {
    /// The WAL of a timeline, from the first segment on that there ever was.
    pub(super) fn of_timeline(&self, timeline: Tli) -> Option<&Wal> {
        self.past
            .iter()
            .chain([&self.wal])
            .find(|wal| wal.timeline() == timeline.0)
    }

    /// Somebody says that everything from `from` to `to` is durable.
    pub(super) fn hears(&mut self, timeline: Tli, from: Lsn, to: Lsn) {
        let heard = self.heard.entry((timeline.0, from.0)).or_default();
        *heard = to.0.max(*heard);
    }
}

impl Cluster {
    /// All that it was told to be durable: timeline, first position, and up to which one.
    pub(crate) fn heard(&self) -> Vec<(Tli, u64, u64)> {
        let shared = self.lock();
        let heard = shared.heard.iter();
        heard
            .map(|((timeline, from), to)| (Tli(*timeline), *from, *to))
            .collect()
    }

    /// Where the first receiver of a timeline began; none if nobody received any of it.
    pub(crate) fn received_from(&self, timeline: Tli) -> Option<u64> {
        self.lock().received.get(&timeline.0).copied()
    }

    /// From here on it writes the next timeline; where it left the one before. Sessions end.
    pub(crate) fn promote(&self) -> Lsn {
        let switch = {
            let mut shared = self.lock();
            let next = shared.wal.promote();
            let left = std::mem::replace(&mut shared.wal, next);
            let switch = left.end();
            shared.past.push(left);
            switch
        };
        self.restart();
        self.files().checkpoint(switch, self.timeline().0);
        switch
    }

    /// The timeline that it writes.
    pub(crate) fn timeline(&self) -> Tli {
        Tli(self.lock().wal.timeline())
    }

    /// Where a timeline ends: where it was left, or where the server is.
    pub(crate) fn end_of(&self, timeline: Tli) -> Lsn {
        self.lock().of_timeline(timeline).unwrap().end()
    }

    /// What it wrote on a timeline from `from` to `to`. What comes before the timeline began is of the one before.
    pub(crate) fn wal_of(&self, timeline: Tli, from: u64, to: u64) -> Vec<u8> {
        let shared = self.lock();
        let wal = shared.of_timeline(timeline).unwrap();
        wal.read(Lsn(from), (to - from) as usize).to_vec()
    }

    /// Where each timeline was left, the first one first.
    pub(crate) fn switches(&self) -> Vec<Lsn> {
        self.lock().past.iter().map(Wal::end).collect()
    }

    /// A timeline's history file; none of the first and of those that never were.
    pub(crate) fn history(&self, timeline: Tli) -> Option<Bytes> {
        let shared = self.lock();
        let past = shared.past.get(..timeline.0.checked_sub(1)? as usize)?;
        let lines: String = past
            .iter()
            .map(|wal| format!("{}\t{}\tno recovery target specified\n", wal.timeline(), wal.end()))
            .collect();
        (!lines.is_empty()).then(|| lines.into())
    }
}
