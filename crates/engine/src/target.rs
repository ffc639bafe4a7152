//! Finds the record at which a recovery shall end.
//!
//! PostgreSQL compares where a record begins with `recovery_target_lsn`. So a target is always the start of the last
//! record to replay, inclusive: one that is here, whole, with all WAL from the backup to it, and at or after the record
//! that makes the backup consistent. What cannot be reached is refused before anything is written.

mod base;
mod blocks;
mod find;
mod leader;
mod scan;
mod search;
mod timelines;
mod when;
mod window;

pub(crate) use blocks::changed_blocks;
pub(crate) use find::find;
pub(crate) use timelines::{Path, Piece, Timelines};
pub use when::At;
pub use window::{Gap, Range, Window, window};

use repo::{ledger, wal::index::EndingKind};
use serde::Serialize;

/// A record at which to end, and what stands around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// The backup to begin with.
    #[serde(skip)]
    pub backup: String,
    /// The timeline that holds the record.
    pub timeline: u32,
    /// Where the record begins: `recovery_target_lsn`, inclusive.
    pub record: ledger::Lsn,
    /// Up to where WAL is needed.
    pub end: ledger::Lsn,
    /// The last transaction's end that is replayed, if there is one after the backup.
    pub before: Option<Moment>,
    /// The first that is not.
    pub after: Option<Moment>,
    /// Transactions that are prepared at that moment, and stay so until somebody ends them.
    pub prepared: Vec<Moment>,
    /// For a time: ends of transactions that come later in the WAL and carry an earlier time.
    pub later: Vec<Moment>,
    /// The WAL from the backup to there.
    #[serde(skip)]
    pub(crate) pieces: Vec<Piece>,
}

/// How and when a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// The transaction.
    pub xid: u32,
    /// What became of it.
    pub kind: EndingKind,
    /// When, by the server's clock: microseconds since 1970-01-01 UTC.
    pub time: i64,
    /// Where the record begins.
    pub lsn: ledger::Lsn,
    /// Its name, if it was prepared.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}
