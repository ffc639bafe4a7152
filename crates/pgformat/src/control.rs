//! `global/pg_control`: the cluster's identity, state and build.
//!
//! Layout: `catalog/pg_control.h` of each branch, on 64-bit little-endian machines. Formats 1300 (13
//! to 16), 1700 (17) and 1800 (18) differ only in the checkpoint's `wal_level` and in one byte before
//! the nonce. The server may be writing while the file is read: read again until the checksum fits.

mod checkpoint;

pub use checkpoint::Checkpoint;

use crate::bytes::{u32_at, u64_at};
use crate::error::{Error, Result};
use crate::segment::SegmentSize;
use crate::wal::Geometry;
use crate::{Lsn, Major, Tli};

/// Physical size of the file in bytes; the rest after the structure is zeros.
pub const FILE_BYTES: usize = 8192;

const WHAT: &str = "pg_control";

/// What the cluster was doing when the file was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Starting for the first time.
    StartingUp,
    /// Shut down cleanly.
    ShutDown,
    /// A standby shut down cleanly.
    ShutDownInRecovery,
    /// Shutting down.
    ShuttingDown,
    /// Recovering from a crash.
    InCrashRecovery,
    /// Recovering from an archive, or a standby.
    InArchiveRecovery,
    /// Running.
    InProduction,
}

/// How much is written to WAL (`wal_level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WalLevel {
    /// Too little for archiving.
    Minimal,
    /// Enough for archiving and standbys.
    Replica,
    /// Enough for logical decoding too.
    Logical,
}

impl WalLevel {
    /// From the number that WAL and `pg_control` hold.
    pub fn from_number(number: u32) -> Option<Self> {
        [WalLevel::Minimal, WalLevel::Replica, WalLevel::Logical]
            .get(usize::try_from(number).ok()?)
            .copied()
    }
}

/// The content of `pg_control`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Drawn by initdb; equal in all copies of one cluster.
    pub system_identifier: u64,
    /// Format of the file: 1300, 1700 or 1800.
    pub control_version: u32,
    /// Format of the catalogs.
    pub catalog_version: u32,
    /// The major version, told by the catalog version.
    pub major: Major,
    /// What the cluster was doing.
    pub state: State,
    /// When the file was last written: seconds since 1970-01-01 UTC.
    pub time: i64,
    /// Where the latest checkpoint's record begins.
    pub checkpoint_lsn: Lsn,
    /// That record.
    pub checkpoint: Checkpoint,
    /// Recovery must reach this position before the cluster is consistent; 0/0 if none.
    pub min_recovery_lsn: Lsn,
    /// On this timeline; 0 if none.
    pub min_recovery_timeline: Tli,
    /// Start of the backup being recovered from whose end was not reached; 0/0 if none.
    pub backup_start: Lsn,
    /// End of that backup if it was taken from a standby; 0/0 if none.
    pub backup_end: Lsn,
    /// Whether a backup-end record must be seen before the cluster is consistent.
    pub backup_end_required: bool,
    /// `wal_level` in force.
    pub wal_level: WalLevel,
    /// `wal_log_hints` in force.
    pub wal_log_hints: bool,
    /// `max_connections`: a hot standby needs at least as many.
    pub max_connections: u32,
    /// `max_worker_processes`, likewise.
    pub max_worker_processes: u32,
    /// `max_wal_senders`, likewise.
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`, likewise.
    pub max_prepared_xacts: u32,
    /// `max_locks_per_transaction`, likewise.
    pub max_locks_per_xact: u32,
    /// `track_commit_timestamp` in force.
    pub track_commit_timestamp: bool,
    /// Bytes of a data page.
    pub block_size: u32,
    /// Data pages in each file of a large relation.
    pub blocks_per_segment: u32,
    /// Bytes of a WAL page.
    pub wal_block_size: u32,
    /// Bytes of a WAL segment.
    pub wal_segment_size: SegmentSize,
    /// Bytes of a name in the catalogs.
    pub name_length: u32,
    /// Most columns of an index.
    pub index_max_keys: u32,
    /// Bytes of a piece of an out-of-line value.
    pub toast_max_chunk_size: u32,
    /// Bytes of a piece of a large object.
    pub large_object_block_size: u32,
    /// Page checksums: 0 none, 1 the one of [`crate::page`].
    pub data_checksum_version: u32,
}

impl Control {
    /// Reads the file, or as much of its beginning as holds the structure (300 bytes do).
    ///
    /// The checksum is looked at before anything but the version is believed: [`Error::Damaged`] is
    /// also what a read during a write gives.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let control_version = u32_at(bytes, 8).ok_or_else(too_short)?;
        let crc_at = crc_offset(control_version)?;
        let stored = u32_at(bytes, crc_at).ok_or_else(too_short)?;
        let content = bytes.get(..crc_at).ok_or_else(too_short)?;
        if crc32c::crc32c(content) != stored {
            return Err(Error::damaged(WHAT, "its checksum does not fit"));
        }
        parse_sound(content, control_version)
    }

    /// How the cluster's WAL is divided.
    pub fn wal_geometry(&self) -> Result<Geometry> {
        Geometry::new(self.wal_segment_size, self.wal_block_size)
    }

    /// Whether data pages carry checksums.
    pub fn has_checksums(&self) -> bool {
        self.data_checksum_version != 0
    }
}

/// Where the CRC-32C of all bytes before it stands in a control file of that version (`ControlFileData.crc`).
///
/// # Errors
/// A version that is not known, or that of a machine of the other byte order.
pub fn crc_offset(control_version: u32) -> Result<usize> {
    match control_version {
        1300 | 1700 => Ok(288),
        1800 => Ok(292),
        // The same check as the server's: a version of the form 0xNNNN0000 is one of the other byte order.
        other if other % 65_536 == 0 && other != 0 => Err(Error::unsupported(
            WHAT,
            "it was written on a big-endian machine; only little-endian ones are supported",
        )),
        other => Err(Error::unsupported(
            WHAT,
            format!("control version {other}; known are 1300 (PostgreSQL 13 to 16), 1700 (17) and 1800 (18)"),
        )),
    }
}

fn parse_sound(bytes: &[u8], control_version: u32) -> Result<Control> {
    let u32_at = |at| u32_at(bytes, at).ok_or_else(too_short);
    let u64_at = |at| u64_at(bytes, at).ok_or_else(too_short);
    let flag_at = |at: usize| bytes.get(at).map(|byte| *byte != 0).ok_or_else(too_short);
    let catalog_version = u32_at(12)?;
    Ok(Control {
        system_identifier: u64_at(0)?,
        control_version,
        catalog_version,
        major: major(control_version, catalog_version)?,
        state: state(u32_at(16)?)?,
        time: u64_at(24)?.cast_signed(),
        checkpoint_lsn: Lsn(u64_at(32)?),
        checkpoint: Checkpoint::parse(bytes.get(40..).unwrap_or_default(), control_version >= 1700)?,
        min_recovery_lsn: Lsn(u64_at(136)?),
        min_recovery_timeline: Tli(u32_at(144)?),
        backup_start: Lsn(u64_at(152)?),
        backup_end: Lsn(u64_at(160)?),
        backup_end_required: flag_at(168)?,
        wal_level: wal_level(u32_at(172)?)?,
        wal_log_hints: flag_at(176)?,
        max_connections: u32_at(180)?,
        max_worker_processes: u32_at(184)?,
        max_wal_senders: u32_at(188)?,
        max_prepared_xacts: u32_at(192)?,
        max_locks_per_xact: u32_at(196)?,
        track_commit_timestamp: flag_at(200)?,
        block_size: block_size("block size", u32_at(216)?, 32)?,
        blocks_per_segment: u32_at(220)?,
        wal_block_size: block_size("WAL block size", u32_at(224)?, 64)?,
        wal_segment_size: SegmentSize::new(u64::from(u32_at(228)?))
            .map_err(|error| Error::damaged(WHAT, error.to_string()))?,
        name_length: u32_at(232)?,
        index_max_keys: u32_at(236)?,
        toast_max_chunk_size: u32_at(240)?,
        large_object_block_size: u32_at(244)?,
        data_checksum_version: u32_at(252)?,
    })
}

fn major(control_version: u32, catalog_version: u32) -> Result<Major> {
    let family = |major: &Major| match major {
        Major::V17 => 1700,
        Major::V18 => 1800,
        _ => 1300,
    };
    let known = Major::ALL
        .into_iter()
        .find(|major| major.catalog_version() == catalog_version);
    known.filter(|major| family(major) == control_version).ok_or_else(|| {
        Error::unsupported(
            WHAT,
            format!("catalog version {catalog_version} is of no release from 13 to 18"),
        )
    })
}

fn state(number: u32) -> Result<State> {
    Ok(match number {
        0 => State::StartingUp,
        1 => State::ShutDown,
        2 => State::ShutDownInRecovery,
        3 => State::ShuttingDown,
        4 => State::InCrashRecovery,
        5 => State::InArchiveRecovery,
        6 => State::InProduction,
        other => return Err(Error::damaged(WHAT, format!("state {other} does not exist"))),
    })
}

fn wal_level(number: u32) -> Result<WalLevel> {
    WalLevel::from_number(number).ok_or_else(|| Error::damaged(WHAT, format!("wal_level {number} does not exist")))
}

/// Sizes that `configure` allows; every later calculation with them relies on this.
fn block_size(name: &str, bytes: u32, most_kibibytes: u32) -> Result<u32> {
    if bytes.is_power_of_two() && (1024..=most_kibibytes * 1024).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(Error::damaged(
            WHAT,
            format!("a {name} of {bytes} bytes does not exist"),
        ))
    }
}

fn too_short() -> Error {
    Error::damaged(WHAT, "it is too short")
}

#[cfg(test)]
mod tests;
