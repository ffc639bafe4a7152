//! The chain rule by itself: which name comes next.

use crate::bytes_codec::Malformed;

use super::WalStream;

/// Walks the runs of one segment. Whoever reads asks for [`Chain::next_name`], looks whether it exists, and
/// tells [`Chain::found`] where that run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    stream: WalStream,
    segment_end: u64,
    position: u64,
}

impl Chain {
    /// Begins at the first byte of the segment that holds the byte at `position`.
    pub fn of_segment(stream: WalStream, position: u64) -> Chain {
        Chain {
            stream,
            segment_end: stream.segment_end(position),
            position: stream.segment_of(position),
        }
    }

    /// Where what is covered ends.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether the whole segment is covered.
    pub fn is_complete(&self) -> bool {
        self.position == self.segment_end
    }

    /// The name under which the segment goes on; `None` if all of it is covered. If there is no such object,
    /// what is covered ends here.
    pub fn next_name(&self) -> Option<String> {
        (!self.is_complete()).then(|| self.stream.run_name(self.position))
    }

    /// The run under that name ends at `end`.
    ///
    /// # Errors
    /// It cannot: it would be empty or leave its segment.
    pub fn found(&mut self, end: u64) -> Result<(), Malformed> {
        if end <= self.position || end > self.segment_end {
            return Err(Malformed("a run of WAL ends where it cannot"));
        }
        self.position = end;
        Ok(())
    }
}
