//! The body of a checkpoint record, of which `pg_control` holds a copy.

use super::WalLevel;
use crate::bytes::{u32_at, u64_at};
use crate::error::{Error, Result};
use crate::{Lsn, Tli};

/// A checkpoint (`struct CheckPoint`): where recovery begins and what it begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Recovery replays from here.
    pub redo: Lsn,
    /// The timeline at that moment.
    pub timeline: Tli,
    /// The timeline before, if the record begins a new one; else the same.
    pub previous_timeline: Tli,
    /// `full_page_writes` in force.
    pub full_page_writes: bool,
    /// `wal_level` in force; only PostgreSQL 17 and later say so here.
    pub wal_level: Option<WalLevel>,
    /// Next transaction id, with its epoch in the high half.
    pub next_xid: u64,
    /// Next object id.
    pub next_oid: u32,
    /// Next multi-transaction id.
    pub next_multi: u32,
    /// Next place in the members of multi-transactions.
    pub next_multi_offset: u32,
    /// Oldest transaction id that may be unfrozen in any database.
    pub oldest_xid: u32,
    /// Database that has it.
    pub oldest_xid_database: u32,
    /// When: seconds since 1970-01-01 UTC.
    pub time: i64,
    /// Oldest transaction still running; 0 if not told.
    pub oldest_active_xid: u32,
}

impl Checkpoint {
    /// Reads a record's body; `has_wal_level` holds from PostgreSQL 17 on, where that field took the
    /// place of padding.
    pub(super) fn parse(bytes: &[u8], has_wal_level: bool) -> Result<Self> {
        Self::read(bytes, has_wal_level).ok_or_else(|| Error::damaged("the checkpoint record", "it is too short"))
    }

    /// Reads the body of a checkpoint record in WAL of `major`.
    pub fn from_record(body: &[u8], major: crate::Major) -> Result<Self> {
        Self::parse(body, major >= crate::Major::V17)
    }

    fn read(bytes: &[u8], has_wal_level: bool) -> Option<Self> {
        Some(Checkpoint {
            redo: Lsn(u64_at(bytes, 0)?),
            timeline: Tli(u32_at(bytes, 8)?),
            previous_timeline: Tli(u32_at(bytes, 12)?),
            full_page_writes: *bytes.get(16)? != 0,
            wal_level: if has_wal_level {
                WalLevel::from_number(u32_at(bytes, 20)?)
            } else {
                None
            },
            next_xid: u64_at(bytes, 24)?,
            next_oid: u32_at(bytes, 32)?,
            next_multi: u32_at(bytes, 36)?,
            next_multi_offset: u32_at(bytes, 40)?,
            oldest_xid: u32_at(bytes, 44)?,
            oldest_xid_database: u32_at(bytes, 48)?,
            time: u64_at(bytes, 64)?.cast_signed(),
            oldest_active_xid: u32_at(bytes, 80)?,
        })
    }
}
