//! Data pages: the header that all relation files share, and whether a page is sound.
//!
//! Layout: `storage/bufpage.h`. Block sizes are 1 to 32 KiB, a power of two.

mod checksum;
pub mod fold;
pub mod hints;

pub use checksum::checksum;

use crate::Lsn;
use crate::bytes::{u16_at, u32_at};

/// The 24 bytes at the head of each page (`PageHeaderData` without line pointers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageHeader {
    /// Position after the last WAL record that changed the page.
    pub lsn: Lsn,
    /// Checksum as stored; 0 in a cluster without checksums.
    pub checksum: u16,
    /// Flag bits (`PD_*`).
    pub flags: u16,
    /// Bytes from the page's start to its free space.
    pub lower: u16,
    /// Bytes from the page's start to the end of its free space; 0 on a page never initialised.
    pub upper: u16,
    /// Bytes from the page's start to the access method's own part.
    pub special: u16,
    /// Page size and layout version, combined.
    pub pagesize_version: u16,
}

/// Bytes of the header.
pub const HEADER_BYTES: usize = 24;

impl PageHeader {
    /// Reads the header; `None` if there are fewer than [`HEADER_BYTES`] bytes.
    pub fn parse(page: &[u8]) -> Option<Self> {
        if page.len() < HEADER_BYTES {
            return None;
        }
        Some(PageHeader {
            // Two 32-bit halves, the high one first, each in the machine's byte order.
            lsn: Lsn(u64::from(u32_at(page, 0)?) << 32 | u64::from(u32_at(page, 4)?)),
            checksum: u16_at(page, 8)?,
            flags: u16_at(page, 10)?,
            lower: u16_at(page, 12)?,
            upper: u16_at(page, 14)?,
            special: u16_at(page, 16)?,
            pagesize_version: u16_at(page, 18)?,
        })
    }

    /// PostgreSQL's `PageIsNew`: the page was added to the file and never initialised.
    pub fn is_new(&self) -> bool {
        self.upper == 0
    }

    /// The page's size as it says itself, in bytes.
    pub fn page_size(&self) -> u16 {
        self.pagesize_version & 0xFF00
    }

    /// The layout version; 4 since PostgreSQL 8.3.
    pub fn layout_version(&self) -> u8 {
        (self.pagesize_version & 0x00FF) as u8
    }
}

/// The verdict on one page of a cluster with checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageCheck {
    /// Never initialised: it has no checksum.
    New,
    /// The checksum fits.
    Sound,
    /// Changed since the backup began: it may be torn, and recovery writes it whole again.
    AfterStart,
    /// The checksum does not fit. Read the page again before believing it: it may be being written.
    Bad {
        /// What the page says.
        stored: u16,
        /// What its bytes give.
        computed: u16,
    },
}

/// Judges a page by the rule of PostgreSQL's base backup (`verify_page_checksum`).
///
/// `block_number` counts from the start of the relation's fork, not of the file. `start_lsn` is where the
/// backup began; give the last position there is in order to judge every page. A slice that is no page
/// (not a power of two from 1 to 32 KiB) is [`PageCheck::Bad`].
pub fn verify(page: &[u8], block_number: u32, start_lsn: Lsn) -> PageCheck {
    let Some(header) = PageHeader::parse(page) else {
        return PageCheck::Bad { stored: 0, computed: 0 };
    };
    if header.is_new() {
        return PageCheck::New;
    }
    if header.lsn >= start_lsn {
        return PageCheck::AfterStart;
    }
    match checksum(page, block_number) {
        Some(computed) if computed == header.checksum => PageCheck::Sound,
        computed => PageCheck::Bad {
            stored: header.checksum,
            computed: computed.unwrap_or(0),
        },
    }
}

/// Whether every byte is zero.
pub fn is_all_zero(page: &[u8]) -> bool {
    // Blocks let the compiler use wide registers and still stop early.
    let mut blocks = page.chunks_exact(256);
    blocks.all(|block| block.iter().fold(0, |seen, byte| seen | byte) == 0)
        && page.chunks_exact(256).remainder().iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The first page of `pg_class` of a PostgreSQL 15 cluster with checksums.
    const PG_CLASS: &[u8] = include_bytes!("../tests/fixtures/pg_class.15.page");
    const END: Lsn = Lsn(u64::MAX);

    #[test]
    fn a_page_of_a_real_server_is_sound() {
        let header = PageHeader::parse(PG_CLASS).unwrap();
        assert_eq!((header.page_size(), header.layout_version()), (8192, 4));
        assert_eq!(verify(PG_CLASS, 0, END), PageCheck::Sound);
    }

    #[test]
    fn a_page_in_the_wrong_place_is_bad() {
        assert!(matches!(verify(PG_CLASS, 1, END), PageCheck::Bad { .. }));
    }

    #[test]
    fn every_flipped_bit_but_of_the_upper_field_is_bad() {
        for bit in (0..PG_CLASS.len() * 8).step_by(37) {
            let mut page = PG_CLASS.to_vec();
            page[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(verify(&page, 0, END), PageCheck::Bad { .. }), "bit {bit}");
        }
    }

    #[test]
    fn a_page_changed_since_the_start_is_not_judged() {
        let mut page = PG_CLASS.to_vec();
        let lsn = PageHeader::parse(&page).unwrap().lsn;
        page[8000] ^= 1;
        assert_eq!(verify(&page, 0, lsn), PageCheck::AfterStart);
        assert!(matches!(verify(&page, 0, lsn.saturating_add(1)), PageCheck::Bad { .. }));
    }

    #[test]
    fn a_page_never_initialised_is_new() {
        assert_eq!(verify(&[0; 8192], 7, END), PageCheck::New);
    }

    #[test]
    fn a_single_byte_is_found_wherever_it_stands() {
        assert!(is_all_zero(&[]));
        for length in [1, 255, 256, 300, 8192] {
            assert!(is_all_zero(&vec![0; length]));
            for at in [0, length / 2, length - 1] {
                let mut page = vec![0; length];
                page[at] = 1;
                assert!(!is_all_zero(&page), "{at} of {length}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(page: Vec<u8>, block: u32, lsn: u64) {
            let _ = verify(&page, block, Lsn(lsn));
        }
    }
}
