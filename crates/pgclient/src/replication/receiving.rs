//! What whoever receives WAL for good asks in SQL: the shape of the server's WAL, and how a slot stands.
//!
//! The replication protocol tells neither before version 15, and who holds a slot in none.

use pgformat::{Lsn, Major, protocol::SlotName, segment::SegmentSize};

use crate::{Result, connect::Session};

/// What does not change while a server runs, and what may hold back its WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceFacts {
    /// Major version.
    pub major: Major,
    /// Bytes of a WAL segment.
    pub segment_size: SegmentSize,
    /// Bytes of a WAL page (`wal_block_size`).
    pub wal_block_size: u32,
    /// Bytes of a page (`block_size`).
    pub block_size: u32,
    /// Whether it is a standby, or recovering.
    pub in_recovery: bool,
    /// `max_slot_wal_keep_size` is -1: a slot that nobody reads fills the server's disk.
    pub slots_are_unlimited: bool,
}

impl SourceFacts {
    /// Asks the server.
    pub async fn read(session: &Session) -> Result<SourceFacts> {
        let sql = "SELECT (SELECT setting::pg_catalog.int8 FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size'), \
                   (SELECT setting::pg_catalog.int8 FROM pg_catalog.pg_settings WHERE name = 'wal_block_size'), \
                   (SELECT setting::pg_catalog.int8 FROM pg_catalog.pg_settings WHERE name = 'block_size'), \
                   pg_catalog.pg_is_in_recovery(), \
                   (SELECT setting OPERATOR(pg_catalog.=) '-1' FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size')";
        let row = session.query_one("look at the server's WAL", sql, &[]).await?;
        let number = |at| -> Result<u64> {
            u64::try_from(session.cell::<i64>(&row, at)?).map_err(|_| session.unexpected("a negative size"))
        };
        let small = |at| -> Result<u32> { u32::try_from(number(at)?).map_err(|_| session.unexpected("a huge page")) };
        Ok(SourceFacts {
            major: session.major(),
            segment_size: SegmentSize::new(number(0)?).map_err(|error| session.unexpected(error.to_string()))?,
            wal_block_size: small(1)?,
            block_size: small(2)?,
            in_recovery: session.cell(&row, 3)?,
            slots_are_unlimited: session.cell(&row, 4)?,
        })
    }
}

/// A slot that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptSlot {
    /// Whether it is a physical one; a logical one of that name is somebody else's.
    pub physical: bool,
    /// The server's process that streams through it.
    pub held_by: Option<i32>,
    /// The server keeps WAL from here on; `None` before it was first used, and once it is lost.
    pub restart: Option<Lsn>,
    /// WAL that it should have held back is gone (`wal_status`).
    pub lost: bool,
}

/// How `slot` stands; `None` if there is none.
pub async fn slot_state(session: &Session, slot: &SlotName) -> Result<Option<KeptSlot>> {
    let sql = "SELECT slot_type::text OPERATOR(pg_catalog.=) 'physical', active_pid, restart_lsn::text, \
               COALESCE(wal_status OPERATOR(pg_catalog.=) 'lost', false) \
               FROM pg_catalog.pg_replication_slots WHERE slot_name::text OPERATOR(pg_catalog.=) $1";
    let rows = session
        .query("look at a replication slot", sql, &[&slot.as_str()])
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let restart = match session.cell::<Option<String>>(row, 2)? {
        Some(text) => Some(
            text.parse()
                .map_err(|_| session.unexpected(format!("the position {text}")))?,
        ),
        None => None,
    };
    Ok(Some(KeptSlot {
        physical: session.cell(row, 0)?,
        held_by: session.cell(row, 1)?,
        restart,
        lost: session.cell(row, 3)?,
    }))
}
