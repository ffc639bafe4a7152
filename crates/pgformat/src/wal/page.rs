//! The head of a WAL page, and how pages divide a segment.

use crate::bytes::{u16_at, u32_at, u64_at};
use crate::error::{Error, Result};
use crate::segment::SegmentSize;
use crate::{Lsn, Major, Tli};

const WHAT: &str = "a WAL page header";

/// Bytes of the header of every page but the first of a segment.
pub const SHORT_HEADER_BYTES: usize = 24;
/// Bytes of the header of a segment's first page.
pub const LONG_HEADER_BYTES: usize = 40;

/// The page begins with the rest of a record of the page before (`XLP_FIRST_IS_CONTRECORD`).
const CONTINUES: u16 = 0x0001;
/// The header is the long one (`XLP_LONG_HEADER`).
const LONG: u16 = 0x0002;
/// Everything up to here may go (`XLP_BKP_REMOVABLE`); says nothing about the content.
const REMOVABLE: u16 = 0x0004;
/// The record left open on the page before will never be finished
/// (`XLP_FIRST_IS_OVERWRITE_CONTRECORD`; from 13.5 and 14.1 on).
const OVERWRITES: u16 = 0x0008;

/// How WAL is divided: set when the cluster was made, held by `pg_control` and by each segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    segment_size: SegmentSize,
    page_bytes: u32,
}

impl Geometry {
    /// Refuses a WAL page size that no server is built with (1 to 64 KiB, a power of two).
    pub fn new(segment_size: SegmentSize, page_bytes: u32) -> Result<Self> {
        if page_bytes.is_power_of_two() && (1024..=65_536).contains(&page_bytes) {
            Ok(Geometry {
                segment_size,
                page_bytes,
            })
        } else {
            Err(Error::malformed(
                "a WAL page size (a power of two from 1 to 64 KiB)",
                page_bytes.to_string(),
            ))
        }
    }

    /// WAL pages of 8 KiB, as almost every server is built.
    pub fn standard(segment_size: SegmentSize) -> Self {
        Geometry {
            segment_size,
            page_bytes: 8192,
        }
    }

    /// The size of a segment.
    pub fn segment_size(self) -> SegmentSize {
        self.segment_size
    }

    /// Bytes of a page.
    pub fn page_bytes(self) -> u64 {
        u64::from(self.page_bytes)
    }

    /// Bytes from the start of its page to `lsn`.
    pub(super) fn offset_in_page(self, lsn: Lsn) -> u64 {
        lsn.0 & (self.page_bytes() - 1)
    }

    /// Bytes of the header of the page that begins at `page`.
    pub(super) fn header_bytes(self, page: Lsn) -> usize {
        if self.segment_size.offset_of(page) == 0 {
            LONG_HEADER_BYTES
        } else {
            SHORT_HEADER_BYTES
        }
    }
}

/// The head of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalPageHeader {
    /// The version that wrote it.
    pub major: Major,
    /// The timeline it was written on.
    pub timeline: Tli,
    /// The position of the page's first byte. In a recycled segment it is an older one.
    pub address: Lsn,
    /// Bytes still missing of the record that continues here; 0 if none does.
    pub remaining: u32,
    /// What a record left open on the page before becomes.
    pub first: First,
    /// What the first page of a segment adds.
    pub long: Option<LongHeader>,
}

/// What a page begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// A record.
    Record,
    /// The rest of the record left open on the page before.
    Continuation,
    /// A record that says that the one left open will never be finished.
    Overwrite,
}

/// What the first page of a segment adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongHeader {
    /// The cluster.
    pub system_identifier: u64,
    /// How its WAL is divided.
    pub geometry: Geometry,
}

impl WalPageHeader {
    /// Reads the head of a page. An unknown magic number is [`Error::Unsupported`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let major = Major::from_wal_magic(u16_at(bytes, 0).ok_or_else(too_short)?)?;
        let flags = u16_at(bytes, 2).ok_or_else(too_short)?;
        if flags & !(CONTINUES | LONG | REMOVABLE | OVERWRITES) != 0 {
            return Err(Error::damaged(WHAT, format!("flags {flags:04X} do not exist")));
        }
        let first = match (flags & CONTINUES != 0, flags & OVERWRITES != 0) {
            (false, false) => First::Record,
            (true, false) => First::Continuation,
            (_, true) => First::Overwrite,
        };
        if bytes.len() < SHORT_HEADER_BYTES {
            return Err(too_short());
        }
        Ok(WalPageHeader {
            major,
            timeline: Tli(u32_at(bytes, 4).ok_or_else(too_short)?),
            address: Lsn(u64_at(bytes, 8).ok_or_else(too_short)?),
            remaining: u32_at(bytes, 16).ok_or_else(too_short)?,
            first,
            long: if flags & LONG != 0 { Some(long(bytes)?) } else { None },
        })
    }
}

fn long(bytes: &[u8]) -> Result<LongHeader> {
    let segment_size = u32_at(bytes, 32).ok_or_else(too_short)?;
    let page_bytes = u32_at(bytes, 36).ok_or_else(too_short)?;
    let geometry = SegmentSize::new(u64::from(segment_size)).and_then(|size| Geometry::new(size, page_bytes));
    Ok(LongHeader {
        system_identifier: u64_at(bytes, 24).ok_or_else(too_short)?,
        geometry: geometry.map_err(|error| Error::damaged(WHAT, error.to_string()))?,
    })
}

fn too_short() -> Error {
    Error::damaged(WHAT, "it is too short")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The first pages of a segment.
    const SEGMENT_START: &[u8] = include_bytes!("../../tests/fixtures/wal.16");

    #[test]
    fn the_first_page_of_a_segment_tells_the_cluster_and_the_geometry() {
        let header = WalPageHeader::parse(SEGMENT_START).unwrap();
        assert_eq!(
            (header.major, header.timeline, header.first),
            (Major::V16, Tli(1), First::Continuation)
        );
        let long = header.long.unwrap();
        assert_eq!(long.system_identifier, 7_710_395_607_185_758_121);
        assert_eq!(long.geometry, Geometry::standard(SegmentSize::new(1 << 20).unwrap()));
    }

    #[test]
    fn an_unknown_magic_number_is_refused_by_name() {
        let mut page = SEGMENT_START.to_vec();
        page[0] = 0x1F;
        let error = WalPageHeader::parse(&page).unwrap_err();
        assert!(
            matches!(error, Error::Unsupported { .. }) && error.to_string().contains("D11F"),
            "{error}"
        );
    }

    #[test]
    fn a_header_that_no_server_writes_is_damaged() {
        for (at, value) in [(2, 0x10), (3, 0x01), (35, 0x80), (36, 0x01)] {
            let mut page = SEGMENT_START.to_vec();
            page[at] |= value;
            assert!(
                matches!(WalPageHeader::parse(&page), Err(Error::Damaged { .. })),
                "byte {at}"
            );
        }
        for length in 0..LONG_HEADER_BYTES {
            assert!(WalPageHeader::parse(&SEGMENT_START[..length]).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = WalPageHeader::parse(&bytes);
            let _ = WalPageHeader::parse(&[&[0x10, 0xD1], bytes.as_slice()].concat());
        }
    }
}
