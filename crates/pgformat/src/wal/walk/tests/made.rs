//! Writes WAL as a server does: pages of 8 KiB, segments of 1 MiB, version 15, system identifier 7.

use super::*;

pub(super) struct Made {
    start: Lsn,
    bytes: Vec<u8>,
    prev: Lsn,
}

impl Made {
    pub(super) fn new(start: Lsn) -> Self {
        let mut made = Made {
            start,
            bytes: Vec::new(),
            prev: Lsn(0x1000),
        };
        made.header(0, 0, start);
        made
    }

    pub(super) fn start(&self) -> Lsn {
        self.start
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn position(&self) -> Lsn {
        Lsn(self.start.0 + self.bytes.len() as u64)
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Throws away everything from `end` on; `prev` is the last record that stays.
    pub(super) fn cut(&mut self, end: Lsn, prev: Lsn) {
        self.bytes
            .truncate(usize::try_from(end.bytes_since(self.start)).unwrap());
        self.prev = prev;
    }

    pub(super) fn header(&mut self, flags: u16, remaining: u32, address: Lsn) {
        let long = self.position().0.is_multiple_of(1 << 20);
        self.raw(&0xD110u16.to_le_bytes());
        self.raw(&(flags | if long { 2 } else { 0 }).to_le_bytes());
        self.raw(&1u32.to_le_bytes());
        self.raw(&address.0.to_le_bytes());
        self.raw(&u64::from(remaining).to_le_bytes());
        if long {
            self.raw(&7u64.to_le_bytes());
            self.raw(&(1u32 << 20).to_le_bytes());
            self.raw(&8192u32.to_le_bytes());
        }
    }

    pub(super) fn record(&mut self, rmid: u8, info: u8, body: usize) -> Lsn {
        self.record_of(rmid, info, &vec![0x33; body])
    }

    pub(super) fn record_of(&mut self, rmid: u8, info: u8, body: &[u8]) -> Lsn {
        if self.position().0.is_multiple_of(8192) {
            self.header(0, 0, self.position());
        }
        let lsn = self.position();
        let mut record = vec![0; HEADER_BYTES];
        record[0..4].copy_from_slice(&((HEADER_BYTES + body.len()) as u32).to_le_bytes());
        record[8..16].copy_from_slice(&self.prev.0.to_le_bytes());
        record[16] = info;
        record[17] = rmid;
        let crc = crc32c::crc32c_append(crc32c::crc32c(body), &record[..20]);
        record[20..24].copy_from_slice(&crc.to_le_bytes());
        record.extend_from_slice(body);
        let mut rest = record.as_slice();
        while !rest.is_empty() {
            if self.position().0.is_multiple_of(8192) {
                self.header(1, rest.len() as u32, self.position());
            }
            let room = 8192 - usize::try_from(self.position().0 % 8192).unwrap();
            let (piece, after) = rest.split_at(room.min(rest.len()));
            self.raw(piece);
            rest = after;
        }
        let padded = self.bytes.len().next_multiple_of(8);
        self.bytes.resize(padded, 0);
        self.prev = lsn;
        lsn
    }
}
