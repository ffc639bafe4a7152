//! What records say about transactions: how they end, and which are parts of which.
//!
//! Layout: `access/xact.h`; the order of what is optional follows `ParseCommitRecord`, `ParseAbortRecord` and
//! `ParsePrepareRecord` of `access/rmgrdesc/xactdesc.c`.

use super::block::RelationLocator;
use super::list::List;
use super::parts::Parts;
use super::timestamp::unix_microseconds;
use crate::Major;
use crate::bytes::Reader;

/// A second part is there that says which others are (`XLOG_XACT_HAS_INFO`).
const HAS_INFO: u8 = 0x80;

/// Which optional parts are there (`XACT_XINFO_HAS_*`).
const DATABASE: u32 = 1;
const SUBTRANSACTIONS: u32 = 1 << 1;
const RELATIONS: u32 = 1 << 2;
const INVALIDATIONS: u32 = 1 << 3;
const TWO_PHASE: u32 = 1 << 4;
const GID: u32 = 1 << 7;
/// From 15 on.
const STATISTICS: u32 = 1 << 8;

/// Bytes of a cache invalidation message (`SharedInvalidationMessage`).
const INVALIDATION_BYTES: usize = 16;

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionKind {
    /// `COMMIT`.
    Commit,
    /// `ROLLBACK`, or an error.
    Abort,
    /// `PREPARE TRANSACTION`: neither yet.
    Prepare,
    /// `COMMIT PREPARED`.
    CommitPrepared,
    /// `ROLLBACK PREPARED`.
    AbortPrepared,
}

impl TransactionKind {
    /// Whether what the transaction did is to be seen from here on.
    pub fn is_commit(self) -> bool {
        matches!(self, TransactionKind::Commit | TransactionKind::CommitPrepared)
    }
}

/// The record with which a transaction ends or is prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transaction<'a> {
    /// What became of it.
    pub kind: TransactionKind,
    /// The top transaction; for a prepared one that which was prepared. 0 if it had no id: then it changed no row, but may
    /// have dropped files.
    pub xid: u32,
    /// When: microseconds since 1970-01-01 UTC, by the server's clock. Not always ascending.
    pub time: i64,
    /// Object id of the database; often not told.
    pub database: Option<u32>,
    /// Its subtransactions that share its fate. Those rolled back earlier have abort records of their own.
    pub subtransactions: List<'a, u32>,
    /// Relations whose files go with it: for a commit those dropped, truncated or rewritten, for an abort those made. For
    /// [`TransactionKind::Prepare`] those that go if it is committed.
    pub dropped: List<'a, RelationLocator>,
    /// The name under which it was prepared; of `CommitPrepared` and `AbortPrepared` only with `wal_level = logical`.
    pub gid: Option<&'a [u8]>,
}

/// Subtransactions whose top transaction is told before it ends: 64 at a time, on servers that serve standbys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment<'a> {
    /// The top transaction.
    pub top: u32,
    /// Its subtransactions.
    pub subtransactions: List<'a, u32>,
}

/// How a transaction ends, of a record of that resource manager.
pub(super) fn transaction<'a>(parts: &Parts<'a>, kind: TransactionKind) -> Option<Transaction<'a>> {
    let mut reader = Reader(parts.main_data);
    if kind == TransactionKind::Prepare {
        return prepare(parts, &mut reader);
    }
    let mut transaction = Transaction {
        kind,
        xid: parts.record.xid,
        time: unix_microseconds(reader.u64()?),
        database: None,
        subtransactions: List::EMPTY,
        dropped: List::EMPTY,
        gid: None,
    };
    let info = if parts.record.info & HAS_INFO != 0 {
        reader.u32()?
    } else {
        0
    };
    if info & DATABASE != 0 {
        transaction.database = Some(reader.u32()?);
        // Its tablespace.
        reader.take(4)?;
    }
    if info & SUBTRANSACTIONS != 0 {
        let count = reader.u32()?;
        transaction.subtransactions = List::read(&mut reader, count)?;
    }
    if info & RELATIONS != 0 {
        let count = reader.u32()?;
        transaction.dropped = List::read(&mut reader, count)?;
    }
    if info & STATISTICS != 0 && parts.major >= Major::V15 {
        let count = reader.u32()?;
        reader.items(count, statistics_bytes(parts.major))?;
    }
    if info & INVALIDATIONS != 0 && kind.is_commit() {
        let count = reader.u32()?;
        reader.items(count, INVALIDATION_BYTES)?;
    }
    if info & TWO_PHASE != 0 {
        transaction.xid = reader.u32()?;
        if info & GID != 0 {
            transaction.gid = Some(terminated(reader.0)?);
        }
    }
    Some(transaction)
}

/// Which transaction some subtransactions are parts of (`xl_xact_assignment`).
pub(super) fn assignment<'a>(parts: &Parts<'a>) -> Option<Assignment<'a>> {
    let mut reader = Reader(parts.main_data);
    let (top, count) = (reader.u32()?, reader.u32()?);
    Some(Assignment {
        top,
        subtransactions: List::read(&mut reader, count)?,
    })
}

/// `xl_xact_prepare`: the beginning of the state file of a prepared transaction, parts aligned to 8 bytes.
fn prepare<'a>(parts: &Parts<'a>, reader: &mut Reader<'a>) -> Option<Transaction<'a>> {
    // A magic number and the length of the whole.
    reader.take(8)?;
    let (xid, database, time) = (reader.u32()?, reader.u32()?, unix_microseconds(reader.u64()?));
    // The owner.
    reader.take(4)?;
    let (subtransactions, dropped) = (reader.u32()?, reader.u32()?);
    // How many files go if it is rolled back.
    reader.take(4)?;
    if parts.major >= Major::V15 {
        // Statistics to drop at a commit, and at an abort.
        reader.take(8)?;
    }
    // Invalidation messages, and a flag with padding behind it.
    reader.take(6)?;
    let gid_bytes = usize::from(reader.u16()?);
    // Position and time at the replication origin.
    reader.take(16)?;
    let gid = terminated(reader.take(gid_bytes)?)?;
    reader.take(padding(gid_bytes))?;
    let subtransactions = List::read(reader, subtransactions)?;
    reader.take(padding(subtransactions.len().checked_mul(4)?))?;
    Some(Transaction {
        kind: TransactionKind::Prepare,
        xid,
        time,
        database: Some(database),
        subtransactions,
        dropped: List::read(reader, dropped)?,
        gid: Some(gid),
    })
}

/// Bytes from the end of something `length` bytes long to the next multiple of 8 (`MAXALIGN`).
fn padding(length: usize) -> usize {
    length.wrapping_neg() % 8
}

/// Bytes of `xl_xact_stats_item`; 18 made its object ids 64 bits wide.
fn statistics_bytes(major: Major) -> usize {
    if major >= Major::V18 { 16 } else { 12 }
}

/// A text that ends with a zero byte, without it.
fn terminated(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..bytes.iter().position(|byte| *byte == 0)?)
}
