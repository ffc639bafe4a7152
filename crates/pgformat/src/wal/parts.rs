//! The parts of a record: references to pages, and the data of the record as a whole.
//!
//! Layout: `access/xlogrecord.h`. All headers stand first, then what belongs to each, in the same order; the record's
//! own data is last. Nothing is allocated: references are read again whenever they are asked for.

use super::block::{self, Block};
use super::record::Record;
use crate::bytes::Reader;
use crate::error::{Error, Result};
use crate::{Lsn, Major};

/// Numbers in the place of a reference's that say something else follows (`XLR_BLOCK_ID_*`).
const DATA_SHORT: u8 = 255;
const DATA_LONG: u8 = 254;
const ORIGIN: u8 = 253;
const TOPLEVEL_XID: u8 = 252;

/// A record taken apart. Its headers were checked to the last byte.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The record.
    pub record: Record<'a>,
    /// The version that wrote it.
    pub major: Major,
    /// The reference that stands first; as a rule its number is 0.
    pub first_block: Option<Block>,
    /// What belongs to the record as a whole; what it means, the resource manager knows.
    pub main_data: &'a [u8],
    /// The top transaction of the subtransaction that wrote the record, where it had to be told: from 14 on, with
    /// `wal_level = logical`, once for each subtransaction.
    pub toplevel_xid: Option<u32>,
    /// The replication origin that the change came from.
    pub origin: Option<u16>,
    /// The headers before that of the main data.
    headers: &'a [u8],
}

impl<'a> Record<'a> {
    /// Takes the record apart. [`Error::Damaged`] if it is not laid out as servers of its version do, and
    /// [`Error::Unsupported`] if the walk was not told the version and met no page yet that does.
    #[inline]
    pub fn parts(&self) -> Result<Parts<'a>> {
        let major = self
            .major
            .ok_or_else(|| Error::unsupported("a WAL record", "of an unknown version"))?;
        self.parts_in(major).ok_or_else(|| damaged(self.lsn))
    }

    /// The pages that the record refers to, in order.
    pub fn blocks(&self) -> Result<Blocks<'a>> {
        Ok(self.parts()?.blocks())
    }

    #[inline]
    pub(super) fn parts_in(&self, major: Major) -> Option<Parts<'a>> {
        let body = self.body();
        let mut reader = Reader(body);
        let mut parts = Parts {
            record: *self,
            major,
            first_block: None,
            main_data: &[],
            toplevel_xid: None,
            origin: None,
            headers: body,
        };
        let (mut last, mut payload, mut main) = (None, 0usize, 0usize);
        // The headers end where exactly what they promise is left.
        while reader.0.len() > payload {
            parts.headers = body.get(..body.len() - reader.0.len())?;
            match reader.u8()? {
                id @ 0..=block::MOST => {
                    let block = Block::read(id, &mut reader, last.as_ref(), major)?;
                    payload += block.payload_bytes();
                    parts.first_block = parts.first_block.or(Some(block));
                    last = Some(block);
                }
                DATA_SHORT => {
                    main = usize::from(reader.u8()?);
                    break;
                }
                DATA_LONG => {
                    main = usize::try_from(reader.u32()?).ok()?;
                    break;
                }
                ORIGIN => parts.origin = Some(reader.u16()?),
                TOPLEVEL_XID if major >= Major::V14 => parts.toplevel_xid = Some(reader.u32()?),
                _ => return None,
            }
            parts.headers = body.get(..body.len() - reader.0.len())?;
        }
        if payload.checked_add(main)? != reader.0.len() {
            return None;
        }
        parts.main_data = reader.0.get(payload..)?;
        Some(parts)
    }
}

impl<'a> Parts<'a> {
    /// The pages that the record refers to, in order.
    pub fn blocks(&self) -> Blocks<'a> {
        Blocks {
            headers: Reader(self.headers),
            before: None,
            major: self.major,
        }
    }

    /// What a record is that cannot be read although its checksum fits.
    pub(super) fn damaged(&self) -> Error {
        damaged(self.record.lsn)
    }
}

/// References to pages, one after another.
#[derive(Debug, Clone)]
pub struct Blocks<'a> {
    headers: Reader<'a>,
    before: Option<Block>,
    major: Major,
}

impl Iterator for Blocks<'_> {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        loop {
            match self.headers.u8()? {
                id @ 0..=block::MOST => {
                    self.before = Block::read(id, &mut self.headers, self.before.as_ref(), self.major);
                    return self.before;
                }
                ORIGIN => drop(self.headers.u16()?),
                TOPLEVEL_XID => drop(self.headers.u32()?),
                _ => return None,
            }
        }
    }
}

fn damaged(lsn: Lsn) -> Error {
    Error::damaged(
        "the WAL record",
        format!("its checksum fits, but no server lays out a record like the one at {lsn}"),
    )
}
