//! References of a record to the data pages that it changes.
//!
//! Layout: `XLogRecordBlockHeader` and `XLogRecordBlockImageHeader` of `access/xlogrecord.h`; what is accepted follows
//! `DecodeXLogRecord` of `access/transam/xlogreader.c`.

use crate::Major;
use crate::bytes::Reader;
use crate::relation::Fork;

/// The highest number a reference can have (`XLR_MAX_BLOCK_ID`).
pub(super) const MOST: u8 = 32;

/// Bits of the byte behind a reference's number.
const FORK: u8 = 0x0F;
const HAS_IMAGE: u8 = 0x10;
const HAS_DATA: u8 = 0x20;
const WILL_INIT: u8 = 0x40;
const SAME_RELATION: u8 = 0x80;

/// Bits of an image's header. The others were numbered anew in 15.
const HAS_HOLE: u8 = 0x01;

/// Where the files of a relation are (`RelFileNode`, from 16 on `RelFileLocator`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationLocator {
    /// Object id of the tablespace.
    pub tablespace: u32,
    /// Object id of the database; 0 for relations shared by all databases.
    pub database: u32,
    /// The relation's file number (`relfilenode`): not the relation's object id.
    pub relation: u32,
}

impl RelationLocator {
    #[inline]
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mut parts = Reader(reader.take(12)?);
        Some(RelationLocator {
            tablespace: parts.u32()?,
            database: parts.u32()?,
            relation: parts.u32()?,
        })
    }
}

/// A reference to a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The reference's number in its record: 0 to 32, ascending, not always without gaps.
    pub id: u8,
    /// The relation.
    pub relation: RelationLocator,
    /// The fork.
    pub fork: Fork,
    /// The page's number within the fork.
    pub block: u32,
    /// Replay begins with an empty page, whatever was there (`BKPBLOCK_WILL_INIT`).
    pub will_init: bool,
    /// Bytes of the data that belongs to this reference, without the image.
    pub data_bytes: u16,
    /// The whole page, if the record holds it.
    pub image: Option<Image>,
}

/// A page image in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// Bytes in the record: without the hole, compressed.
    pub bytes: u16,
    /// Replay puts it in place. Otherwise it is there for `wal_consistency_checking` only.
    pub applies: bool,
    /// How it is compressed.
    pub compression: Option<Compression>,
    /// Where the page's middle part of zeros begins that was left out; 0 if nothing was.
    pub hole_offset: u16,
}

/// How a page image is compressed (`wal_compression`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// PostgreSQL's own.
    Pglz,
    /// LZ4, from 15 on.
    Lz4,
    /// Zstandard, from 15 on.
    Zstd,
}

impl Image {
    fn read(reader: &mut Reader<'_>, major: Major) -> Option<Self> {
        let (bytes, hole_offset, info) = (reader.u16()?, reader.u16()?, reader.u8()?);
        let (applies, compression) = if major >= Major::V15 {
            let compression = match info & 0x1C {
                0 => None,
                0x04 => Some(Compression::Pglz),
                0x08 => Some(Compression::Lz4),
                0x10 => Some(Compression::Zstd),
                _ => return None,
            };
            (info & 0x02 != 0, compression)
        } else {
            (info & 0x04 != 0, (info & 0x02 != 0).then_some(Compression::Pglz))
        };
        let has_hole = info & HAS_HOLE != 0;
        // Without compression the hole's length follows from the page's.
        if has_hole && compression.is_some() && reader.u16()? == 0 {
            return None;
        }
        (has_hole == (hole_offset != 0)).then_some(Image {
            bytes,
            applies,
            compression,
            hole_offset,
        })
    }
}

impl Block {
    /// Reads what follows the number `id`; `before` is the reference before.
    #[inline]
    pub(super) fn read(id: u8, reader: &mut Reader<'_>, before: Option<&Block>, major: Major) -> Option<Self> {
        if before.is_some_and(|before| before.id >= id) {
            return None;
        }
        let (flags, data_bytes) = (reader.u8()?, reader.u16()?);
        if (flags & HAS_DATA != 0) != (data_bytes != 0) {
            return None;
        }
        let image = if flags & HAS_IMAGE != 0 {
            Some(Image::read(reader, major)?)
        } else {
            None
        };
        let relation = if flags & SAME_RELATION != 0 {
            before?.relation
        } else {
            RelationLocator::read(reader)?
        };
        Some(Block {
            id,
            relation,
            fork: Fork::from_number(u32::from(flags & FORK))?,
            block: reader.u32()?,
            will_init: flags & WILL_INIT != 0,
            data_bytes,
            image,
        })
    }

    /// Bytes that stand for this reference behind the headers.
    #[inline]
    pub(super) fn payload_bytes(&self) -> usize {
        usize::from(self.data_bytes) + self.image.map_or(0, |image| usize::from(image.bytes))
    }
}
