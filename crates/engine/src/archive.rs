//! The continuous archive of WAL: received as it is written, pushed by the server, and fetched for recovery.
//!
//! Invariant: storing never depends on understanding. Bytes that a server sent are kept whatever is in them; what
//! cannot be read of them is said in the index, and found when a target is planned.

pub mod receive;

mod position;
pub mod sealing;
mod unindexed;

use pgformat::wal::Geometry;
use repo::wal::{Finish, WalStream};

/// Who makes the index of the segment that begins at `segment`.
pub(crate) fn indexer_for(_: Geometry, _: &WalStream, _segment: u64) -> Box<dyn Finish + Send> {
    Box::new(unindexed::Unindexed)
}
