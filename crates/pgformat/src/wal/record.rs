//! One WAL record: its header, its checksum, and the few kinds that steer recovery.

use crate::bytes::{u32_at, u64_at};
use crate::{Lsn, Major};

/// Bytes of a record's header.
pub const HEADER_BYTES: usize = 24;

/// The resource manager of checkpoints, switches and backups (`RM_XLOG_ID`).
pub const RM_XLOG: u8 = 0;

/// The header at the beginning of each record (`XLogRecord`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// Bytes of the whole record, header included, page headers between its parts and padding not.
    pub total_length: u32,
    /// The transaction; 0 if none.
    pub xid: u32,
    /// Where the record before begins.
    pub prev: Lsn,
    /// Kind within the resource manager, in the high half; general flags in the low one.
    pub info: u8,
    /// The resource manager.
    pub rmid: u8,
    /// CRC-32C of everything after the header, then of the header before this field.
    pub crc: u32,
}

impl RecordHeader {
    /// Reads the header; `None` if there are fewer than [`HEADER_BYTES`] bytes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        Some(RecordHeader {
            total_length: u32_at(header, 0)?,
            xid: u32_at(header, 4)?,
            prev: Lsn(u64_at(header, 8)?),
            info: header[16],
            rmid: header[17],
            crc: u32_at(header, 20)?,
        })
    }

    /// Whether `record`, which is the whole of the record with this header, has this checksum.
    pub fn fits(&self, record: &[u8]) -> bool {
        let (Some(header), Some(body)) = (record.get(..20), record.get(HEADER_BYTES..)) else {
            return false;
        };
        crc32c::crc32c_append(crc32c::crc32c(body), header) == self.crc
    }
}

/// The most bytes a record can have: `XLogRecordMaxSize` from 17 on, before that what one
/// allocation of the server can hold.
pub fn longest_record(major: Option<Major>) -> u32 {
    match major {
        Some(major) if major >= Major::V17 => 1020 << 20,
        _ => 0x3FFF_FFFF,
    }
}

/// Whether a server of this version may know such a resource manager: the built-in ones are 0 to 21
/// in all supported versions, extensions have 128 to 255 from 15 on.
pub fn is_resource_manager(rmid: u8, major: Option<Major>) -> bool {
    rmid <= 21 || (rmid >= 128 && major.is_none_or(|major| major >= Major::V15))
}

/// A record whose checksum fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The version that wrote it; `None` if the walk was not told and met no page's head yet.
    pub major: Option<Major>,
    /// Where it begins.
    pub lsn: Lsn,
    /// Where the next one may begin: what PostgreSQL calls the record's end. After a switch this is
    /// the end of the segment.
    pub end: Lsn,
    /// Where the record before begins.
    pub prev: Lsn,
    /// The transaction; 0 if none.
    pub xid: u32,
    /// The resource manager.
    pub rmid: u8,
    /// Kind within the resource manager, in the high half; general flags in the low one.
    pub info: u8,
    /// The whole record, header included, without the headers of the pages it lies on.
    pub bytes: &'a [u8],
}

/// The records of [`RM_XLOG`] that steer recovery. The numbers are the same from 13 to 18
/// (`catalog/pg_control.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XlogRecord {
    /// The server was shut down, or was promoted.
    CheckpointShutdown,
    /// A checkpoint of a running server.
    CheckpointOnline,
    /// The rest of the segment is unused.
    Switch,
    /// A backup from a primary ended: a server restored from it is consistent after this record.
    BackupEnd {
        /// Where that backup began.
        start: Lsn,
    },
    /// A setting that standbys depend on changed, `wal_level` among them.
    ParameterChange,
    /// A name for this position was set.
    RestorePoint,
    /// `full_page_writes` was switched.
    FullPageWritesChange,
    /// A promotion without a checkpoint.
    EndOfRecovery,
    /// The record that began at `overwritten` will never be finished.
    OverwriteContrecord {
        /// Where the unfinished record begins.
        overwritten: Lsn,
    },
    /// Where the checkpoint that follows lets recovery begin; from 17 on.
    CheckpointRedo,
}

impl<'a> Record<'a> {
    /// Everything after the header.
    pub fn body(&self) -> &'a [u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// Bytes of the whole record, header included.
    pub fn total_length(&self) -> usize {
        self.bytes.len()
    }

    /// The kind, without the flags that all resource managers share.
    pub fn kind(&self) -> u8 {
        self.info & 0xF0
    }

    /// What the record does to recovery; `None` if nothing of the kind, or if it is not laid out as
    /// servers do.
    pub fn xlog(&self) -> Option<XlogRecord> {
        if self.rmid != RM_XLOG {
            return None;
        }
        let position = || Some(Lsn(u64_at(self.main_data()?, 0)?));
        Some(match self.kind() {
            0x00 => XlogRecord::CheckpointShutdown,
            0x10 => XlogRecord::CheckpointOnline,
            0x40 => XlogRecord::Switch,
            0x50 => XlogRecord::BackupEnd { start: position()? },
            0x60 => XlogRecord::ParameterChange,
            0x70 => XlogRecord::RestorePoint,
            0x80 => XlogRecord::FullPageWritesChange,
            0x90 => XlogRecord::EndOfRecovery,
            0xD0 => XlogRecord::OverwriteContrecord {
                overwritten: position()?,
            },
            0xE0 => XlogRecord::CheckpointRedo,
            _ => return None,
        })
    }

    /// The data that belongs to the record as a whole: empty if it has none, `None` if it is not laid out as servers do.
    /// Of a record with page images the version must be known.
    pub fn main_data(&self) -> Option<&'a [u8]> {
        let parts = match self.major {
            Some(major) => self.parts_in(major)?,
            // Only the header of an image differs from version to version.
            None => {
                let parts = self.parts_in(Major::V18)?;
                if parts.blocks().any(|block| block.image.is_some()) {
                    return None;
                }
                parts
            }
        };
        Some(parts.main_data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(rmid: u8, info: u8, bytes: &[u8]) -> Record<'_> {
        Record {
            major: Some(Major::V15),
            lsn: Lsn(0x28),
            end: Lsn(0x60),
            prev: Lsn(0),
            xid: 0,
            rmid,
            info,
            bytes,
        }
    }

    fn check(body: &[u8], expect: Option<&[u8]>) {
        let bytes = [&[0; HEADER_BYTES], body].concat();
        assert_eq!(record(0, 0, &bytes).main_data(), expect, "{body:?}");
    }

    #[test]
    fn main_data_is_found_behind_every_header() {
        check(&[], Some(&[]));
        check(&[255, 2, 7, 8], Some(&[7, 8]));
        check(&[254, 2, 0, 0, 0, 7, 8], Some(&[7, 8]));
        check(&[253, 1, 2, 252, 1, 2, 3, 4, 255, 1, 9], Some(&[9]));
        for wrong in [
            &[255][..],
            &[255, 3, 7, 8],
            &[255, 1, 7, 8],
            &[254, 1],
            &[253, 1],
            &[0, 1, 2],
            &[33],
            &[251],
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn the_end_of_a_backup_names_its_start() {
        let bytes = [&[0; HEADER_BYTES][..], &[255, 8], &0x0200_0028u64.to_le_bytes()].concat();
        assert_eq!(
            record(0, 0x50, &bytes).xlog(),
            Some(XlogRecord::BackupEnd {
                start: Lsn(0x0200_0028)
            })
        );
        assert_eq!(record(0, 0x50, &bytes[..30]).xlog(), None);
        assert_eq!(record(1, 0x50, &bytes).xlog(), None);
        assert_eq!(record(0, 0x4F, &bytes).xlog(), Some(XlogRecord::Switch));
    }

    #[test]
    fn resource_managers_of_extensions_exist_from_15_on() {
        assert!(is_resource_manager(21, Some(Major::V13)) && !is_resource_manager(22, Some(Major::V18)));
        assert!(is_resource_manager(128, Some(Major::V15)) && !is_resource_manager(128, Some(Major::V14)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, rmid in 0u8..3, info: u8) {
            let record = record(rmid, info, &bytes);
            let _ = (record.body(), record.xlog(), record.main_data());
            if let Some(header) = RecordHeader::parse(&bytes) {
                let _ = header.fits(&bytes);
            }
        }
    }
}
