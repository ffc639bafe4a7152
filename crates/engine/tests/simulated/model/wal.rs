//! WAL as a server of version 15 writes it: pages, records that go over from one page into the next, checksums.
//!
//! Layout: `access/xlog_internal.h` and `access/xlogrecord.h`.

use engine::pgformat::{Lsn, Major};

use super::WAL_SEGMENT_BYTES;

/// A segment's start, and far above the LSN of every page of the model's relations.
pub(crate) const FIRST: u64 = 0x0600_0000;
const PAGE: u64 = 8192;
const RM_XLOG: u8 = 0;
const RM_XACT: u8 = 1;
/// `XLOG_CHECKPOINT_ONLINE`, `XLOG_NOOP`, `XLOG_BACKUP_END` and `XLOG_END_OF_RECOVERY`.
const CHECKPOINT: u8 = 0x10;
const NOOP: u8 = 0x20;
const BACKUP_END: u8 = 0x50;
const END_OF_RECOVERY: u8 = 0x90;
/// The page begins with the rest of a record; the header is the long one.
const CONTINUES: u16 = 1;
const LONG: u16 = 2;
/// `sizeof(CheckPoint)` in version 15.
const CHECKPOINT_BYTES: usize = 88;

#[derive(Clone)]
pub(crate) struct Wal {
    system_identifier: u64,
    timeline: u32,
    bytes: Vec<u8>,
    last_record: u64,
}

impl Wal {
    pub(crate) fn new(system_identifier: u64) -> Wal {
        Wal {
            system_identifier,
            timeline: 1,
            bytes: Vec::new(),
            last_record: 0,
        }
    }

    /// Ends here, and begins the next timeline with what it has of its last segment.
    pub(crate) fn promote(&mut self) -> Wal {
        self.align();
        let mut next = self.clone();
        next.timeline += 1;
        let mut data = [0; 16];
        data[8..12].copy_from_slice(&next.timeline.to_le_bytes());
        data[12..].copy_from_slice(&self.timeline.to_le_bytes());
        next.record(END_OF_RECOVERY, &data);
        next.align();
        next
    }

    /// The timeline that it is on.
    pub(crate) fn timeline(&self) -> u32 {
        self.timeline
    }

    /// Where the next byte goes.
    pub(crate) fn end(&self) -> Lsn {
        Lsn(FIRST + self.bytes.len() as u64)
    }

    /// What was written from `from` on, at most `most` bytes.
    pub(crate) fn read(&self, from: Lsn, most: usize) -> &[u8] {
        let at = usize::try_from(from.0.saturating_sub(FIRST)).unwrap();
        let rest = self.bytes.get(at..).unwrap_or_default();
        &rest[..rest.len().min(most)]
    }

    /// A checkpoint; where its record begins.
    pub(crate) fn checkpoint(&mut self) -> Lsn {
        self.record(CHECKPOINT, &[0; CHECKPOINT_BYTES])
    }

    /// What other sessions write meanwhile.
    pub(crate) fn load(&mut self, bytes: usize) {
        self.record(NOOP, &vec![0x5A; bytes]);
    }

    /// The record with which the backup begun at `start` ends; where it ends.
    pub(crate) fn backup_end(&mut self, start: Lsn) -> Lsn {
        self.record(BACKUP_END, &start.0.to_le_bytes());
        self.align();
        self.end()
    }

    /// A transaction's commit; where its record ends.
    pub(crate) fn commit(&mut self) -> Lsn {
        self.record_of(RM_XACT, 0, &[0; 8]);
        self.align();
        self.end()
    }

    fn record(&mut self, info: u8, data: &[u8]) -> Lsn {
        self.record_of(RM_XLOG, info, data)
    }

    fn record_of(&mut self, manager: u8, info: u8, data: &[u8]) -> Lsn {
        self.align();
        if self.offset_in_page() == 0 {
            self.page(0);
        }
        let start = self.end();
        let mut body = match u8::try_from(data.len()) {
            Ok(length) => vec![255, length],
            Err(_) => [&[254][..], &(data.len() as u32).to_le_bytes()].concat(),
        };
        body.extend_from_slice(data);
        let mut header = Vec::with_capacity(24);
        header.extend_from_slice(&(24 + body.len() as u32).to_le_bytes());
        header.extend_from_slice(&0u32.to_le_bytes());
        header.extend_from_slice(&self.last_record.to_le_bytes());
        header.extend_from_slice(&[info, manager, 0, 0]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&body), &header);
        header.extend_from_slice(&crc.to_le_bytes());
        header.extend_from_slice(&body);
        let mut rest = &header[..];
        while !rest.is_empty() {
            if self.offset_in_page() == 0 {
                self.page(rest.len() as u32);
            }
            let room = (PAGE - self.offset_in_page()) as usize;
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.bytes.extend_from_slice(now);
            rest = later;
        }
        self.last_record = start.0;
        start
    }

    /// A page's header; `remaining` bytes of a record go on in it.
    fn page(&mut self, remaining: u32) {
        let at = self.end().0;
        let long = at.is_multiple_of(WAL_SEGMENT_BYTES);
        let flags = if remaining > 0 { CONTINUES } else { 0 } | if long { LONG } else { 0 };
        self.bytes.extend_from_slice(&Major::V15.wal_magic().to_le_bytes());
        self.bytes.extend_from_slice(&flags.to_le_bytes());
        self.bytes.extend_from_slice(&self.timeline.to_le_bytes());
        self.bytes.extend_from_slice(&at.to_le_bytes());
        self.bytes.extend_from_slice(&remaining.to_le_bytes());
        self.bytes.extend_from_slice(&0u32.to_le_bytes());
        if long {
            self.bytes.extend_from_slice(&self.system_identifier.to_le_bytes());
            self.bytes.extend_from_slice(&(WAL_SEGMENT_BYTES as u32).to_le_bytes());
            self.bytes.extend_from_slice(&(PAGE as u32).to_le_bytes());
        }
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    fn offset_in_page(&self) -> u64 {
        self.end().0 % PAGE
    }
}
