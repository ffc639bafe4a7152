//! What the server writes down about itself: checkpoints, settings, names of positions, promotions.
//!
//! Layout: `access/xlog_internal.h` and `catalog/pg_control.h`.

use super::parts::Parts;
use super::timestamp::unix_microseconds;
use crate::bytes::Reader;
use crate::control::{Checkpoint, WalLevel};
use crate::{Lsn, Tli};

/// Bytes of a restore point's name with the zero that ends it (`MAXFNAMELEN`).
const NAME_BYTES: usize = 64;

/// A record of the server about itself. The kinds are those of [`super::record::XlogRecord`], with what they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerEvent<'a> {
    /// A checkpoint.
    Checkpoint {
        /// Written at a shutdown or as the first record after a promotion or a crash: nothing else runs then.
        shutdown: bool,
        /// What it says; the next transaction id and timelines among it.
        checkpoint: Checkpoint,
    },
    /// The position to which the next checkpoint lets recovery go back; from 17 on.
    CheckpointRedo {
        /// `wal_level` in force.
        wal_level: WalLevel,
    },
    /// Settings changed that standbys depend on.
    ParameterChange(Parameters),
    /// `full_page_writes` was switched.
    FullPageWritesChange {
        /// To what.
        on: bool,
    },
    /// `pg_create_restore_point`.
    RestorePoint {
        /// The name; in the encoding of the database where it was called.
        name: &'a [u8],
        /// When: microseconds since 1970-01-01 UTC.
        time: i64,
    },
    /// A promotion without a checkpoint.
    EndOfRecovery {
        /// When: microseconds since 1970-01-01 UTC.
        time: i64,
        /// The timeline that begins.
        timeline: Tli,
        /// The timeline that ended.
        previous_timeline: Tli,
        /// `wal_level` in force, where it is told.
        wal_level: Option<WalLevel>,
    },
    /// A backup from a primary ended.
    BackupEnd {
        /// Where it began.
        start: Lsn,
    },
    /// The rest of the segment is unused.
    Switch,
    /// A record will never be finished.
    OverwriteContrecord {
        /// Where it begins.
        overwritten: Lsn,
        /// When it was found: microseconds since 1970-01-01 UTC.
        time: i64,
    },
}

/// Settings that standbys depend on (`xl_parameter_change`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// `max_connections`.
    pub max_connections: u32,
    /// `max_worker_processes`.
    pub max_worker_processes: u32,
    /// `max_wal_senders`.
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`.
    pub max_prepared_xacts: u32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_xact: u32,
    /// `wal_level`.
    pub wal_level: WalLevel,
    /// `wal_log_hints`.
    pub wal_log_hints: bool,
    /// `track_commit_timestamp`.
    pub track_commit_timestamp: bool,
}

/// `None` if the record is not laid out as servers do, `Some(None)` if it is of another kind.
pub(super) fn server<'a>(parts: &Parts<'a>) -> Option<Option<ServerEvent<'a>>> {
    let mut reader = Reader(parts.main_data);
    Some(Some(match parts.record.kind() {
        kind @ (0x00 | 0x10) => ServerEvent::Checkpoint {
            shutdown: kind == 0,
            checkpoint: Checkpoint::from_record(parts.main_data, parts.major).ok()?,
        },
        0x40 => ServerEvent::Switch,
        0x50 => ServerEvent::BackupEnd {
            start: Lsn(reader.u64()?),
        },
        0x60 => ServerEvent::ParameterChange(parameters(&mut reader)?),
        0x70 => {
            let time = unix_microseconds(reader.u64()?);
            let field = reader.take(NAME_BYTES)?;
            let length = field.iter().position(|byte| *byte == 0)?;
            ServerEvent::RestorePoint {
                name: field.get(..length)?,
                time,
            }
        }
        0x80 => ServerEvent::FullPageWritesChange { on: reader.u8()? != 0 },
        0x90 => ServerEvent::EndOfRecovery {
            time: unix_microseconds(reader.u64()?),
            timeline: Tli(reader.u32()?),
            previous_timeline: Tli(reader.u32()?),
            // Added by 17; its length tells.
            wal_level: reader.u32().and_then(WalLevel::from_number),
        },
        0xD0 => ServerEvent::OverwriteContrecord {
            overwritten: Lsn(reader.u64()?),
            time: unix_microseconds(reader.u64()?),
        },
        0xE0 => ServerEvent::CheckpointRedo {
            wal_level: WalLevel::from_number(reader.u32()?)?,
        },
        _ => return Some(None),
    }))
}

fn parameters(reader: &mut Reader<'_>) -> Option<Parameters> {
    Some(Parameters {
        max_connections: reader.u32()?,
        max_worker_processes: reader.u32()?,
        max_wal_senders: reader.u32()?,
        max_prepared_xacts: reader.u32()?,
        max_locks_per_xact: reader.u32()?,
        wal_level: WalLevel::from_number(reader.u32()?)?,
        wal_log_hints: reader.u8()? != 0,
        track_commit_timestamp: reader.u8()? != 0,
    })
}
