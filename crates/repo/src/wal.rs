//! WAL in the repository: runs of bytes, found by walking exact names (`FORMAT.md` section 11).
//!
//! Invariants: the first run of a segment begins at its first byte and every other where one ends, so what is
//! covered is known without a listing; a byte that was stored is never contradicted.
//!
//! A segment is stored twice in its life: in *open* runs as it comes, then, once it is complete, in *finished* ones
//! that begin at fixed places and carry an index. Then the open ones go. Open runs never reach past such a place: between
//! any two finished runs being stored, each part of the segment is in runs of one kind or the other.

mod append;
mod assemble;
mod coverage;
mod done;
mod expected;
mod history;
pub mod index;
mod indexed;
mod mark;
mod run;
mod timelines;

pub use append::{append_run, check_finished, contiguous_end, replace_damaged_run};
pub use assemble::{Assembly, assemble};
pub use coverage::{Coverage, archived_from, coverage, known_end};
pub use done::{DoneDraft, Finish, Sealing, check_open_runs, finish_run, is_done, open_runs};
pub use expected::Expected;
pub use history::{MAX_HISTORY, put_history, read_history};
pub use indexed::{Indexed, read_index};
pub use mark::{Mark, newest_mark, put_mark};
pub use run::{Run, read_run, seal_run};
pub use timelines::{history_timelines, timelines};

#[cfg(feature = "fuzzing")]
pub(crate) use run::OpenRun;

use crate::{Result, bytes_codec::Malformed, names};

/// The longest run, bytes.
pub const MAX_RUN: usize = 16 << 20;
/// Bytes of a frame of WAL, raw; the last may be shorter.
pub const WAL_FRAME: usize = 256 << 10;

/// One timeline of one cluster. All positions below are in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalStream {
    /// The cluster's system identifier.
    pub generation: u64,
    /// The timeline.
    pub timeline: u32,
    /// Bytes of a segment: a power of two.
    segment_size: u64,
}

impl WalStream {
    /// `segment_size` is the cluster's, in bytes.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] if no cluster can have segments of that size (1 MiB to 1 GiB, a power of two).
    pub fn new(generation: u64, timeline: u32, segment_size: u64) -> Result<WalStream> {
        let stream = WalStream {
            generation,
            timeline,
            segment_size,
        };
        match segment_size.is_power_of_two() && (1 << 20..=1 << 30).contains(&segment_size) {
            true => Ok(stream),
            false => Err(Malformed("its WAL segment size is none").of(&names::wal_timeline(generation, timeline))),
        }
    }

    /// Bytes of a segment.
    pub fn segment_size(&self) -> u64 {
        self.segment_size
    }

    /// The first byte of the segment that holds the byte at `position`.
    pub fn segment_of(&self, position: u64) -> u64 {
        position & !(self.segment_size - 1)
    }

    /// The byte after the last of that segment.
    pub fn segment_end(&self, position: u64) -> u64 {
        // The last segment of all ends one byte early: no server comes there.
        self.segment_of(position).saturating_add(self.segment_size)
    }

    /// Where the finished run begins that holds the byte at `position`.
    pub fn done_start(&self, position: u64) -> u64 {
        let segment = self.segment_of(position);
        segment + (position - segment) / MAX_RUN as u64 * MAX_RUN as u64
    }

    /// Where the finished run ends that holds the byte at `position`.
    pub fn done_end(&self, position: u64) -> u64 {
        let end = self.done_start(position).saturating_add(MAX_RUN as u64);
        end.min(self.segment_end(position))
    }

    /// The name of the finished run that holds the byte at `position`.
    pub fn done_name(&self, position: u64) -> String {
        let (segment, start) = (self.segment_of(position), self.done_start(position));
        names::wal_done(self.generation, self.timeline, segment, start)
    }

    /// The name of the open run that begins at `start`.
    pub fn run_name(&self, start: u64) -> String {
        names::wal_run(self.generation, self.timeline, self.segment_of(start), start)
    }

    /// The name of the object that held what is missing from `from` to before `to`, or the first part of it: where all that
    /// is left of a stretch is missing, its finished run.
    pub fn missing_name(&self, from: u64, to: u64) -> String {
        match to >= self.done_end(from) {
            true => self.done_name(from),
            false => self.run_name(from),
        }
    }
}

#[cfg(test)]
mod done_tests;
#[cfg(test)]
mod tests;
