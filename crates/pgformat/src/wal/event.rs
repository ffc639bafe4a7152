//! What a record means to someone who looks for what happened.
//!
//! Records of other kinds (of indexes, maps, locks, sequences, extensions) change pages and files only; what they
//! touch is told by [`Parts::blocks`].

use super::parts::Parts;
use super::record::{RM_XLOG, Record};
use super::rows::{self, Rows, Truncate};
use super::server::{self, ServerEvent};
use super::storage::{self, DatabaseChange, StorageChange};
use super::transaction::{self, Assignment, Transaction, TransactionKind};
use crate::error::Result;

/// Resource managers (`access/rmgrlist.h`); their numbers never change.
pub const RM_XACT: u8 = 1;
/// Files of relations.
pub const RM_SMGR: u8 = 2;
/// Databases.
pub const RM_DBASE: u8 = 4;
/// Tables, the rest.
pub const RM_HEAP2: u8 = 9;
/// Tables.
pub const RM_HEAP: u8 = 10;

/// The operation of a heap record or a transaction record; the bit above is a flag
/// (`XLOG_HEAP_OPMASK`, `XLOG_XACT_OPMASK`).
const OPERATION: u8 = 0x70;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A transaction ended or was prepared.
    Transaction(Transaction<'a>),
    /// Subtransactions belong to a transaction.
    Assignment(Assignment<'a>),
    /// Rows of a table changed.
    Rows(Rows),
    /// Tables were truncated; only with `wal_level = logical`.
    Truncate(Truncate<'a>),
    /// A relation's files were made or shortened.
    Storage(StorageChange),
    /// A database's folder was made or removed.
    Database(DatabaseChange<'a>),
    /// The server wrote about itself.
    Server(ServerEvent<'a>),
    /// Nothing of these.
    Other,
}

impl<'a> Record<'a> {
    /// Whether the record may change files other than by its references to pages (`XLR_SPECIAL_REL_UPDATE`): made,
    /// shortened, removed. Where such a record is of a kind that is not known, what it changed is not known.
    pub fn is_special_relation_update(&self) -> bool {
        self.info & 0x01 != 0
    }
}

impl<'a> Parts<'a> {
    /// What the record means. [`crate::Error::Damaged`] if it is not laid out as servers of its version do.
    #[inline]
    pub fn event(&self) -> Result<Event<'a>> {
        self.read_event().ok_or_else(|| self.damaged())
    }

    #[inline]
    fn read_event(&self) -> Option<Event<'a>> {
        let operation = self.record.info & OPERATION;
        Some(match self.record.rmid {
            RM_HEAP => match operation {
                0x00 | 0x10 | 0x20 | 0x40 => Event::Rows(rows::of_heap(self, operation)?),
                0x30 => Event::Truncate(rows::truncate(self)?),
                _ => Event::Other,
            },
            RM_HEAP2 if operation == 0x50 => Event::Rows(rows::inserted_together(self)?),
            RM_XACT => match operation {
                0x00 => self.transaction(TransactionKind::Commit)?,
                0x10 => self.transaction(TransactionKind::Prepare)?,
                0x20 => self.transaction(TransactionKind::Abort)?,
                0x30 => self.transaction(TransactionKind::CommitPrepared)?,
                0x40 => self.transaction(TransactionKind::AbortPrepared)?,
                0x50 => Event::Assignment(transaction::assignment(self)?),
                _ => Event::Other,
            },
            RM_SMGR => storage::storage(self)?.map_or(Event::Other, Event::Storage),
            RM_DBASE => storage::database(self)?.map_or(Event::Other, Event::Database),
            RM_XLOG => server::server(self)?.map_or(Event::Other, Event::Server),
            _ => Event::Other,
        })
    }

    fn transaction(&self, kind: TransactionKind) -> Option<Event<'a>> {
        transaction::transaction(self, kind).map(Event::Transaction)
    }
}

#[cfg(test)]
mod tests;
