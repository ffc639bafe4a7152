//! Whether two versions of a page differ in nothing but hints and the LSN.
//!
//! Where pages have checksums, or hints are logged, a hint may bring all of its page into WAL (`XLOG_FPI_FOR_HINT`). If the page was
//! being written just then, or another session had a hint for it too, it is not given the LSN of that record
//! (`MarkBufferDirtyHint`, `bufmgr.c`); whoever replays the record has it. What else a page holds they have in common: it is a copy.
//! So of two LSNs only that is seen through which is set as a hint and in no other way, and on those pages alone on which it is: what
//! other records change is to be found even if it is little, as the tuples of a page that vacuum froze.

use super::{
    CHECKSUM, DEAD, FLAG_HINTS, FLAGS, HEADER, INDEX_FLAGS, INDEX_SPECIAL, INFOMASK_HIGH, INFOMASK_HINTS,
    LARGEST_CYCLE, LINE_POINTER, NORMAL, PRUNE_XID, TUPLE_HEADER, bounds,
};

/// `pd_lsn`.
const RECORD: std::ops::Range<usize> = 0..8;
/// `HEAP_XMIN_FROZEN` in the high byte of `t_infomask`: both hints of who inserted the tuple, which no hint makes of one.
const FROZEN: u8 = 0x03;
/// `BTP_LEAF`, `BTP_DELETED` and `BTP_HAS_GARBAGE` (`access/nbtree.h`).
const BTREE: Kind = Kind {
    with_entries: 1,
    without: 1 << 2,
    garbage: 1 << 6,
};
/// What hash and GiST pages end with (`HASHO_PAGE_ID`, `access/hash.h`; `GIST_PAGE_ID`, `access/gist.h`).
const HASH_ID: u16 = 0xFF80;
const GIST_ID: u16 = 0xFF81;
/// `LH_OVERFLOW_PAGE` and `LH_BUCKET_PAGE`, `LH_BITMAP_PAGE` and `LH_META_PAGE`, `LH_PAGE_HAS_DEAD_TUPLES`.
const HASH: Kind = Kind {
    with_entries: 1 | 1 << 1,
    without: 1 << 2 | 1 << 3,
    garbage: 1 << 7,
};
/// `F_LEAF`, `F_DELETED` and `F_HAS_GARBAGE`.
const GIST: Kind = Kind {
    with_entries: 1,
    without: 1 << 1,
    garbage: 1 << 4,
};

/// The flags of an index's pages: which of them have entries that a scan may mark as dead, which have something else there, and that
/// there are such.
struct Kind {
    with_entries: u16,
    without: u16,
    garbage: u16,
}

/// Whether `now` is `before` but for hints, and for the LSN of a record that brought one of these into WAL.
pub(super) fn differ_in_logged_hints_only(before: &[u8], now: &[u8]) -> bool {
    unhinted(before).is_some_and(|before| unhinted(now).is_some_and(|now| before == now))
}

/// The page without its hints and its LSN; `None` if it is not one of a heap or one of an index with entries that can be marked.
fn unhinted(page: &[u8]) -> Option<Vec<u8>> {
    let (lower, upper, special) = bounds(page)?;
    let mut unhinted = page.to_vec();
    match page.len() - special {
        0 => tuples(&mut unhinted, lower)?,
        INDEX_SPECIAL => entries(&mut unhinted, lower, special)?,
        _ => return None,
    }
    unhinted.get_mut(RECORD)?.fill(0);
    unhinted.get_mut(CHECKSUM)?.fill(0);
    *unhinted.get_mut(FLAGS)? &= !FLAG_HINTS;
    unhinted.get_mut(PRUNE_XID)?.fill(0);
    // A record leaves out the hole of the page that it brings.
    unhinted.get_mut(lower..upper)?.fill(0);
    Some(unhinted)
}

/// Takes the hints from the tuples of a heap.
fn tuples(page: &mut [u8], lower: usize) -> Option<()> {
    for at in (HEADER..lower).step_by(LINE_POINTER) {
        let value = u32::from_le_bytes(*page.get(at..)?.first_chunk()?);
        let (offset, flags, length) = ((value & 0x7FFF) as usize, value >> 15 & 3, (value >> 17) as usize);
        if flags != NORMAL || length < TUPLE_HEADER {
            continue;
        }
        let told = page.get_mut(offset + INFOMASK_HIGH)?;
        let frozen = *told & FROZEN == FROZEN;
        *told &= !INFOMASK_HINTS;
        if frozen {
            *told |= FROZEN;
        }
    }
    Some(())
}

/// Takes the hints from the entries of an index: which of them lead to nothing.
fn entries(page: &mut [u8], lower: usize, special: usize) -> Option<()> {
    let &[low, high, last_low, last_high] = page.get(special..)?.get(INDEX_FLAGS)? else {
        return None;
    };
    let kind = match u16::from_le_bytes([last_low, last_high]) {
        HASH_ID => HASH,
        GIST_ID => GIST,
        last if last <= LARGEST_CYCLE => BTREE,
        _ => return None,
    };
    let flags = u16::from_le_bytes([low, high]);
    if flags & kind.with_entries == 0 || flags & kind.without != 0 {
        return None;
    }
    let flags = flags & !kind.garbage;
    page.get_mut(special + INDEX_FLAGS.start..)?
        .first_chunk_mut::<2>()?
        .copy_from_slice(&flags.to_le_bytes());
    for at in (HEADER..lower).step_by(LINE_POINTER) {
        let pointer = page.get_mut(at..)?.first_chunk_mut::<4>()?;
        let value = u32::from_le_bytes(*pointer);
        if value >> 15 & 3 == DEAD && value >> 17 > 0 {
            *pointer = (value & !(3 << 15) | NORMAL << 15).to_le_bytes();
        }
    }
    Some(())
}

#[cfg(test)]
mod tests;
