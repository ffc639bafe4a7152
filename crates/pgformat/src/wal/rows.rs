//! What records say about rows of tables.
//!
//! Layout: `access/heapam_xlog.h`, the same from 13 to 18 as far as it is read here.

use super::block::RelationLocator;
use super::list::List;
use super::parts::Parts;
use crate::bytes::{Reader, u16_at};

/// Flags of the records.
const INSERT_IS_SPECULATIVE: u8 = 1 << 2;
const DELETE_IS_SUPER: u8 = 1 << 3;
const DELETE_IS_PARTITION_MOVE: u8 = 1 << 4;
const TRUNCATE_CASCADE: u8 = 1;
const TRUNCATE_RESTART_SEQS: u8 = 1 << 1;

/// What was done to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowChange {
    /// Inserted, by `INSERT` or `COPY`; also the new place of a row that an `UPDATE` moved to another partition.
    Insert,
    /// Inserted by `INSERT … ON CONFLICT`; a [`RowChange::TakeBack`] may follow.
    InsertUnlessConflict,
    /// Updated.
    Update,
    /// Updated, without a change to any index.
    HotUpdate,
    /// Deleted.
    Delete,
    /// Gone from this partition because an `UPDATE` moved it to another.
    MoveAway,
    /// The [`RowChange::InsertUnlessConflict`] did meet a conflict (or its out-of-line values are removed with it): that
    /// row never was.
    TakeBack,
}

/// Rows of one table that one record changes. Tables are also the catalogs and those of out-of-line values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// The table, by its files.
    pub relation: RelationLocator,
    /// What was done.
    pub change: RowChange,
    /// How many rows.
    pub count: u16,
}

/// `TRUNCATE`, as it is written with `wal_level = logical` only. Otherwise it is seen by what the commit drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncate<'a> {
    /// Object id of the database.
    pub database: u32,
    /// Object ids of the tables: not their files.
    pub tables: List<'a, u32>,
    /// With `CASCADE`.
    pub cascade: bool,
    /// With `RESTART IDENTITY`.
    pub restart_identity: bool,
}

/// Rows changed by a record of `RM_HEAP_ID`; `operation` is its kind.
#[inline]
pub(super) fn of_heap(parts: &Parts<'_>, operation: u8) -> Option<Rows> {
    let flags = |at: usize| parts.main_data.get(at).copied();
    let change = match operation {
        0x00 if flags(2)? & INSERT_IS_SPECULATIVE != 0 => RowChange::InsertUnlessConflict,
        0x00 => RowChange::Insert,
        0x10 => match flags(7)? {
            flags if flags & DELETE_IS_SUPER != 0 => RowChange::TakeBack,
            flags if flags & DELETE_IS_PARTITION_MOVE != 0 => RowChange::MoveAway,
            _ => RowChange::Delete,
        },
        0x20 => RowChange::Update,
        _ => RowChange::HotUpdate,
    };
    let relation = relation(parts)?;
    Some(Rows {
        relation,
        change,
        count: 1,
    })
}

/// Rows inserted by an `XLOG_HEAP2_MULTI_INSERT`.
pub(super) fn inserted_together(parts: &Parts<'_>) -> Option<Rows> {
    Some(Rows {
        relation: relation(parts)?,
        change: RowChange::Insert,
        count: u16_at(parts.main_data, 2)?,
    })
}

pub(super) fn truncate<'a>(parts: &Parts<'a>) -> Option<Truncate<'a>> {
    let mut reader = Reader(parts.main_data);
    let (database, count, flags) = (reader.u32()?, reader.u32()?, reader.u8()?);
    // Padding.
    reader.take(3)?;
    Some(Truncate {
        database,
        tables: List::read(&mut reader, count)?,
        cascade: flags & TRUNCATE_CASCADE != 0,
        restart_identity: flags & TRUNCATE_RESTART_SEQS != 0,
    })
}

/// The table is that of the page with number 0: the new row's, where there are two.
#[inline]
fn relation(parts: &Parts<'_>) -> Option<RelationLocator> {
    let block = parts.first_block.filter(|block| block.id == 0)?;
    Some(block.relation)
}
