//! Whether two versions of a page differ in nothing but hints, which a server writes without WAL where pages have no
//! checksums.
//!
//! What PostgreSQL itself takes for hints when it compares pages with what replay makes of them: `access/common/bufmask.c`,
//! `heap_mask` (`heapam.c`), `btree_mask` (`nbtxlog.c`), `hash_mask` (`hash_xlog.c`), `gist_mask` (`gistxlog.c`), `brin_mask`
//! (`brin_xlog.c`). Of these only what is set without WAL: whether all of a page is visible is not. An SP-GiST index's first page,
//! which these never see, has hints as well (`SpGistUpdateMetaPage`, `spgutils.c`).

mod logged;

use super::{PageHeader, is_all_zero};
use crate::Lsn;

/// Bytes of a page's header (`SizeOfPageHeaderData`, `storage/bufpage.h`).
const HEADER: usize = 24;
/// `pd_checksum`.
const CHECKSUM: std::ops::Range<usize> = 8..10;
/// `pd_flags`, of which [`FLAG_HINTS`] are hints.
const FLAGS: usize = 10;
/// `PD_HAS_FREE_LINES` and `PD_PAGE_FULL`.
const FLAG_HINTS: u8 = 0x01 | 0x02;
/// `pd_prune_xid`.
const PRUNE_XID: std::ops::Range<usize> = 20..24;
/// Bytes of a line pointer.
const LINE_POINTER: usize = 4;
/// `lp_flags` of one that is used, and of one that is dead and still has its tuple.
const NORMAL: u32 = 1;
const DEAD: u32 = 3;
/// `t_infomask` in a heap tuple's header, and its high byte's bits that are hints: `HEAP_XMIN_COMMITTED`, `HEAP_XMIN_INVALID`,
/// `HEAP_XMAX_COMMITTED`, `HEAP_XMAX_INVALID`.
const INFOMASK_HIGH: usize = 21;
const INFOMASK_HINTS: u8 = 0x0F;
/// `t_field3` of a heap tuple's header: the number of the command in its transaction, which means nothing to any other, and
/// which WAL does not tell. A standby has another there.
const COMMAND: std::ops::Range<usize> = 8..12;
/// `t_ctid` of a heap tuple's header, the last two bytes of which are a number of a line pointer. An insertion that was not
/// confirmed has a token there (`SpecTokenOffsetNumber`), which WAL does not tell: whoever replays it has the tuple's own place.
const CTID: std::ops::Range<usize> = 12..18;
const TOKEN: u16 = 0xFFFE;
/// The low byte of `t_infomask`, and its bit that says of what kind that number is: `HEAP_COMBOCID`.
const INFOMASK_LOW: usize = 20;
const COMBINED: u8 = 0x20;
/// Tuples begin at multiples of that (`MAXALIGN`). What lies between two is what was there before.
const ALIGNED: usize = 8;
/// Bytes of a heap tuple's header.
const TUPLE_HEADER: usize = 23;
/// Bytes of the special space of B-tree, hash and GiST pages. All three have their flags in its byte 12, and B-tree a cycle
/// of vacuum behind them.
const INDEX_SPECIAL: usize = 16;
const INDEX_FLAGS: std::ops::Range<usize> = 12..16;
/// The largest such cycle (`MAX_BT_CYCLE_ID`, `access/nbtree.h`): what hash and GiST pages have there, to be told by, is larger.
const LARGEST_CYCLE: u16 = 0xFF7F;
/// `BTP_DELETED`, and `BTP_HAS_FULLXID` of pages that version 14 or later deleted. Before, whoever deletes a page leaves on it what
/// was there, and whoever replays that makes an empty one (`_bt_unlink_halfdead_page`, `nbtpage.c`; `btree_xlog_unlink_page`).
const BTREE_DELETED: u16 = 1 << 2;
const BTREE_EMPTIED: u16 = 1 << 8;
/// Bytes of the special space of BRIN and SP-GiST pages. Both end with what tells them.
const SMALL_SPECIAL: usize = 8;
/// `BRIN_PAGETYPE_REGULAR` (`access/brin_page.h`), where its flags lie in the special space, and the one of these that is a hint:
/// `BRIN_EVACUATE_PAGE`.
const BRIN_REGULAR: [u8; 2] = 0xF093u16.to_le_bytes();
const BRIN_FLAGS: usize = 4;
const BRIN_EVACUATE: u8 = 1;
/// `SPGIST_PAGE_ID` and `SPGIST_META` (`access/spgist_private.h`).
const SPGIST: [u8; 2] = 0xFF82u16.to_le_bytes();
const SPGIST_META: u8 = 1;
/// Which pages of an SP-GiST index had room when it was last looked: behind the number that begins the contents of its first page,
/// eight pages and how much.
const SPGIST_ROOM: std::ops::Range<usize> = HEADER + 4..HEADER + 4 + 8 * 8;

/// `GIN_DELETED` (`access/ginblock.h`), in the last two bytes of a GIN page's special space; all kinds of the others are larger than
/// its flags. What is left on such a page nobody reads, and replay empties it (`gin_mask`, `ginxlog.c`).
const GIN_DELETED: u16 = 1 << 2;
const LARGEST_GIN_FLAGS: u16 = 0x0FFF;
/// Bytes of that space before the flags: the page to the right, and a number of entries.
const GIN_LINKS: usize = 6;
/// `pd_lower` and `pd_upper`.
const BOUNDS: std::ops::Range<usize> = 12..16;
/// `SEQ_MAGIC`, and where `FormData_pg_sequence_data` lies in the one tuple of a sequence (`commands/sequence.c`). WAL says 32 values
/// more than were given out: whoever replays it has these numbers, and whoever wrote it has the last one used (`seq_mask`).
const SEQUENCE: [u8; 4] = 0x1717u32.to_le_bytes();
const SEQUENCE_DATA: std::ops::Range<usize> = 24..41;

/// Whether `now` is `before` but for hints, and for what no WAL tells and nobody reads: the hole between line pointers and tuples,
/// the bytes between tuples, the numbers of commands, what is on deleted pages, and how far a sequence is that is at the same
/// record. Pages that are none are compared byte by byte.
///
/// LSNs are hints only as far as the record of a hint has one.
///
/// An empty page without an LSN is as good as the zeroes that it was made of: whoever made it failed before he wrote WAL about
/// it, and after a crash, or on a standby, there would be zeroes.
pub fn differ_in_hints_only(before: &[u8], now: &[u8]) -> bool {
    match (masked(before), masked(now)) {
        (Some(masked_before), Some(masked_now)) => {
            masked_before == masked_now || logged::differ_in_logged_hints_only(before, now)
        }
        (None, Some(now)) if is_all_zero(before) => is_untouched(&now),
        (Some(before), None) if is_all_zero(now) => is_untouched(&before),
        _ => before == now,
    }
}

/// Whether nothing was ever put on a page and no WAL is about it.
fn is_untouched(page: &[u8]) -> bool {
    PageHeader::parse(page).is_some_and(|header| {
        header.lsn == Lsn(0) && usize::from(header.lower) == HEADER && header.upper == header.special
    })
}

/// `pd_lower`, `pd_upper` and `pd_special` of what is a page.
fn bounds(page: &[u8]) -> Option<(usize, usize, usize)> {
    let header = PageHeader::parse(page)?;
    let (lower, upper, special) = (
        usize::from(header.lower),
        usize::from(header.upper),
        usize::from(header.special),
    );
    let sound = HEADER <= lower && lower <= upper && upper <= special && special <= page.len();
    sound.then_some((lower, upper, special))
}

/// The page without its hints; `None` if it is none.
fn masked(page: &[u8]) -> Option<Vec<u8>> {
    let (lower, upper, special) = bounds(page)?;
    let mut masked = page.to_vec();
    masked.get_mut(CHECKSUM)?.fill(0);
    *masked.get_mut(FLAGS)? &= !FLAG_HINTS;
    masked.get_mut(PRUNE_XID)?.fill(0);
    masked.get_mut(lower..upper)?.fill(0);
    if page.len() - special == SMALL_SPECIAL {
        small_special(&mut masked, special, lower == HEADER + LINE_POINTER)?;
    }
    let is_heap = special == page.len();
    if page.len() - special == INDEX_SPECIAL && is_deleted_btree(masked.get(special..)?) {
        masked.get_mut(BOUNDS)?.fill(0);
        masked.get_mut(HEADER..special)?.fill(0);
    }
    let mut at = HEADER;
    while at + LINE_POINTER <= lower {
        line(&mut masked, at, is_heap)?;
        at += LINE_POINTER;
    }
    if page.len() - special == INDEX_SPECIAL {
        masked.get_mut(special..)?.get_mut(INDEX_FLAGS)?.fill(0);
    }
    Some(masked)
}

/// Masks what BRIN and SP-GiST have for hints, and what replay leaves of GIN's deleted pages and of a sequence.
fn small_special(masked: &mut [u8], special: usize, is_single: bool) -> Option<()> {
    let own = masked.get_mut(special..)?;
    let (told, kind) = (*own.get(BRIN_FLAGS)?, own.last_chunk::<2>()?);
    if *kind == BRIN_REGULAR {
        own[BRIN_FLAGS] = told & !BRIN_EVACUATE;
    } else if *kind == SPGIST && own[0] & SPGIST_META != 0 {
        masked.get_mut(SPGIST_ROOM)?.fill(0);
    } else if own.starts_with(&SEQUENCE) && is_single {
        // A GIN page's special space may begin so too, but it has not one tuple of that very length.
        let first = masked.get(HEADER..HEADER + LINE_POINTER)?;
        let first = u32::from_le_bytes([first[0], first[1], first[2], first[3]]);
        if (first >> 17) as usize == SEQUENCE_DATA.end {
            let tuple = (first & 0x7FFF) as usize;
            masked.get_mut(tuple..)?.get_mut(SEQUENCE_DATA)?.fill(0);
        }
    } else if (0..=LARGEST_GIN_FLAGS).contains(&u16::from_le_bytes(*kind))
        && u16::from_le_bytes(*kind) & GIN_DELETED != 0
    {
        masked.get_mut(BOUNDS)?.fill(0);
        // Where it led too, and how much was on it: all but the flags.
        masked.get_mut(HEADER..special + GIN_LINKS)?.fill(0);
    }
    Some(())
}

/// Whether that is the special space of a B-tree page which was deleted, and still has what was on it or not.
fn is_deleted_btree(own: &[u8]) -> bool {
    let flags = own.get(INDEX_FLAGS).unwrap_or_default();
    let &[low, high, cycle_low, cycle_high] = flags else {
        return false;
    };
    let flags = u16::from_le_bytes([low, high]);
    let is_btree = u16::from_le_bytes([cycle_low, cycle_high]) <= LARGEST_CYCLE;
    is_btree && flags & (BTREE_DELETED | BTREE_EMPTIED) == BTREE_DELETED
}

/// Masks one line pointer, or in a heap the tuple that it leads to.
fn line(masked: &mut [u8], at: usize, is_heap: bool) -> Option<()> {
    let pointer = masked.get_mut(at..at + LINE_POINTER)?;
    let value = u32::from_le_bytes([pointer[0], pointer[1], pointer[2], pointer[3]]);
    let (offset, flags, length) = (value & 0x7FFF, value >> 15 & 3, value >> 17);
    if is_heap {
        let tuple = offset as usize..(offset + length) as usize;
        if flags == NORMAL && tuple.len() >= TUPLE_HEADER {
            let tuple = masked.get_mut(tuple)?;
            tuple[COMMAND].fill(0);
            let line = u16::from_le_bytes([tuple[CTID.end - 2], tuple[CTID.end - 1]]);
            // Nobody changes it without the rest of the header.
            if line == TOKEN || usize::from(line) == (at - HEADER) / LINE_POINTER + 1 {
                tuple[CTID].fill(0);
            }
            tuple[INFOMASK_LOW] &= !COMBINED;
            tuple[INFOMASK_HIGH] &= !INFOMASK_HINTS;
        }
    } else if flags == DEAD && length > 0 {
        let normal = value & !(3 << 15) | NORMAL << 15;
        pointer.copy_from_slice(&normal.to_le_bytes());
    }
    let end = (offset + length) as usize;
    if length > 0 && end.next_multiple_of(ALIGNED) <= masked.len() {
        masked[end..end.next_multiple_of(ALIGNED)].fill(0);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A page with one tuple of 40 bytes that ends where its special space of `special` bytes begins.
    pub(super) fn page(special: usize) -> Vec<u8> {
        let mut page = vec![0; 8192];
        let (upper, special) = (8192 - special - 40, 8192 - special);
        page[12..14].copy_from_slice(&28u16.to_le_bytes());
        page[14..16].copy_from_slice(&(upper as u16).to_le_bytes());
        page[16..18].copy_from_slice(&(special as u16).to_le_bytes());
        page[18..20].copy_from_slice(&(8192u16 | 4).to_le_bytes());
        let pointer = upper as u32 | NORMAL << 15 | 40 << 17;
        page[24..28].copy_from_slice(&pointer.to_le_bytes());
        page[upper..special].fill(0x50);
        page
    }

    fn changed(special: usize, change: impl Fn(&mut [u8])) -> bool {
        let before = page(special);
        let mut now = before.clone();
        change(&mut now);
        differ_in_hints_only(&before, &now)
    }

    #[test]
    fn hints_are_seen_through_and_nothing_else_is() {
        let tuple = 8192 - 40;
        assert!(changed(0, |page| page[tuple + INFOMASK_HIGH] ^= 0x0F));
        assert!(!changed(0, |page| page[tuple + INFOMASK_HIGH] ^= 0x10));
        assert!(!changed(0, |page| page[tuple + 30] ^= 1));
        assert!(changed(0, |page| page[tuple + 8..tuple + 12].fill(7)), "its command");
        assert!(
            changed(0, |page| page[tuple + INFOMASK_LOW] ^= 0x20),
            "and of which kind it is"
        );
        assert!(
            !changed(0, |page| page[tuple + INFOMASK_LOW] ^= 0x40),
            "how it is locked"
        );
        assert!(!changed(0, |page| page[tuple + 7] ^= 1), "who deleted it");
        assert!(!changed(0, |page| page[tuple + 12] ^= 1), "what came after it");
        assert!(changed(0, |page| page[FLAGS] ^= 3));
        assert!(
            !changed(0, |page| page[FLAGS] ^= 4),
            "whether all is visible is no hint"
        );
        assert!(changed(0, |page| page[20] = 9));
        assert!(changed(0, |page| page[100] = 9), "the hole");
        assert!(changed(0, |page| page[0] = 9), "the LSN of a hint");
        // An index's entry is marked dead, and its page that it has such.
        assert!(changed(16, |page| {
            page[26] |= 1;
            page[8192 - 4] ^= 0x40;
        }));
        assert!(
            !changed(0, |page| page[26] |= 1),
            "a heap's line pointers change with WAL"
        );
        assert!(!changed(16, |page| page[8192 - 16] ^= 1), "an index page's neighbour");
    }

    #[test]
    fn the_token_of_an_insertion_that_was_not_confirmed_is_seen_through() {
        let leading_to = |line: u16| {
            let mut page = page(0);
            page[8192 - 40..][CTID.start + 4..CTID.end].copy_from_slice(&line.to_le_bytes());
            page
        };
        let (token, own, other) = (leading_to(TOKEN), leading_to(1), leading_to(2));
        assert!(differ_in_hints_only(&token, &own));
        assert!(!differ_in_hints_only(&token, &other));
        assert!(!differ_in_hints_only(&own, &other), "it was updated");
    }

    #[test]
    fn where_an_index_had_room_and_what_it_empties_are_hints() {
        let of = |kind: [u8; 2], flag_at: usize, change: &dyn Fn(&mut [u8])| {
            let mut before = page(8);
            before[8190..].copy_from_slice(&kind);
            before[8184 + flag_at] |= 2;
            let mut now = before.clone();
            change(&mut now);
            differ_in_hints_only(&before, &now)
        };
        assert!(of(BRIN_REGULAR, BRIN_FLAGS, &|page| page[8188] ^= 1));
        assert!(!of(BRIN_REGULAR, BRIN_FLAGS, &|page| page[8188] ^= 2));
        assert!(!of(SPGIST, 0, &|page| page[8188] ^= 1));
        let first = |flags: u8, at: usize| {
            let mut before = page(8);
            before[12..14].copy_from_slice(&96u16.to_le_bytes());
            before[8184] = flags;
            before[8190..].copy_from_slice(&SPGIST);
            let mut now = before.clone();
            now[at] ^= 1;
            differ_in_hints_only(&before, &now)
        };
        let room = SPGIST_ROOM.end - 1;
        assert!(first(SPGIST_META, room));
        assert!(!first(0, room), "of any other page");
        assert!(!first(SPGIST_META, HEADER), "what the page is");
        assert!(!first(SPGIST_META, SPGIST_ROOM.end), "what follows");
    }

    #[test]
    fn a_page_that_was_made_and_never_filled_is_as_good_as_zeroes() {
        let zeroes = vec![0; 8192];
        let mut made = page(16);
        made[12..14].copy_from_slice(&24u16.to_le_bytes());
        made[14..16].copy_from_slice(&(8192u16 - 16).to_le_bytes());
        assert!(differ_in_hints_only(&zeroes, &made));
        assert!(differ_in_hints_only(&made, &zeroes), "what a standby has of it");
        for (one, other) in [(&zeroes, &page(16)), (&page(16), &zeroes)] {
            assert!(!differ_in_hints_only(one, other), "something is on it");
        }
        made[4] = 1;
        for (one, other) in [(&zeroes, &made), (&made, &zeroes)] {
            assert!(!differ_in_hints_only(one, other), "WAL is about it");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(before in prop::collection::vec(any::<u8>(), 0..9000), now in prop::collection::vec(any::<u8>(), 0..9000)) {
            let _ = differ_in_hints_only(&before, &now);
        }

        /// Line pointers that lead anywhere.
        #[test]
        fn no_line_pointers_panic(pointers in prop::collection::vec(any::<u32>(), 1..300), special in prop::sample::select(vec![0usize, 8, 16])) {
            let mut page = page(special);
            let lower = 24 + 4 * pointers.len();
            page[12..14].copy_from_slice(&(lower as u16).to_le_bytes());
            for (number, pointer) in pointers.iter().enumerate() {
                page[24 + 4 * number..28 + 4 * number].copy_from_slice(&pointer.to_le_bytes());
            }
            prop_assert!(differ_in_hints_only(&page, &page.clone()));
        }
    }

    #[test]
    fn what_replay_leaves_of_a_deleted_btree_page_is_seen_through() {
        let special = 8192 - 16;
        let of = |flags: u16, last: u16, change: &dyn Fn(&mut [u8])| {
            let mut before = page(16);
            before[special + 12..special + 14].copy_from_slice(&flags.to_le_bytes());
            before[special + 14..].copy_from_slice(&last.to_le_bytes());
            let mut now = before.clone();
            change(&mut now);
            differ_in_hints_only(&before, &now)
        };
        let emptied = |page: &mut [u8]| {
            page[12..14].copy_from_slice(&24u16.to_le_bytes());
            page[14..16].copy_from_slice(&(special as u16).to_le_bytes());
            page[24..special].fill(0);
        };
        assert!(of(BTREE_DELETED, 0, &emptied));
        assert!(of(BTREE_DELETED | 1, LARGEST_CYCLE, &emptied), "a leaf");
        assert!(!of(1, 0, &emptied), "one that is in use");
        assert!(
            !of(BTREE_DELETED | BTREE_EMPTIED, 0, &emptied),
            "nothing was left on it"
        );
        assert!(!of(BTREE_DELETED, 0xFF80, &emptied), "the bitmap of a hash index");
        assert!(!of(BTREE_DELETED, 0xFF81, &emptied), "a GiST page with garbage");
        assert!(!of(BTREE_DELETED, 0, &|page| page[7] ^= 1), "another record");
        assert!(!of(BTREE_DELETED, 0, &|page| page[special] ^= 1), "its neighbour");
        assert!(
            !of(BTREE_DELETED, 0, &|page| page[special + 8] ^= 1),
            "when it was deleted"
        );
    }

    #[test]
    fn what_replay_leaves_of_deleted_pages_and_sequences_is_seen_through() {
        let (special, upper) = (8192 - 8, 8192 - 48);
        let gin = |page: &mut [u8]| page[special + 6] = GIN_DELETED as u8;
        let of = |kind: &dyn Fn(&mut [u8]), change: &dyn Fn(&mut [u8])| {
            let mut before = page(8);
            kind(&mut before);
            let mut now = before.clone();
            change(&mut now);
            differ_in_hints_only(&before, &now)
        };
        assert!(of(&gin, &|page| page[upper..special].fill(0)));
        assert!(of(&gin, &|page| page[special..special + 6].fill(0xFF)), "where it led");
        assert!(!of(&gin, &|page| page[special + 6] ^= 1), "what it is");
        assert!(!of(&|_| {}, &|page| page[upper..special].fill(0)), "one that is in use");
        let sequence = |page: &mut [u8]| {
            page[special..special + 4].copy_from_slice(&SEQUENCE);
            let tuple = special - 48;
            page[14..16].copy_from_slice(&(tuple as u16).to_le_bytes());
            page[24..28].copy_from_slice(&(tuple as u32 | NORMAL << 15 | 41 << 17).to_le_bytes());
        };
        let tuple = special - 48;
        assert!(of(&sequence, &|page| page[tuple + 24..tuple + 41].fill(9)));
        assert!(!of(&sequence, &|page| page[tuple + 23] ^= 1), "its header");
        assert!(!of(&sequence, &|page| {
            page[7] ^= 1;
            page[tuple + 24] ^= 1;
        }));
        assert!(!of(&gin, &|page| page[7] ^= 1), "another record");
    }
}
