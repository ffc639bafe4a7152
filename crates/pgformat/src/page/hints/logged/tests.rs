use super::{
    super::{differ_in_hints_only, tests::page},
    GIST_ID, HASH_ID, INDEX_FLAGS, INFOMASK_HIGH, PRUNE_XID,
};

const TUPLE: usize = 8192 - 40;

/// Whether nothing but hints differs where the LSN does, and something else that `change` makes of the page.
fn of(mut before: Vec<u8>, change: &dyn Fn(&mut [u8])) -> bool {
    before[..8].fill(1);
    let mut now = before.clone();
    now[4] = 9;
    change(&mut now);
    let both = (differ_in_hints_only(&before, &now), differ_in_hints_only(&now, &before));
    assert_eq!(both.0, both.1);
    both.0
}

/// A page of an index with that in the last four bytes.
fn index(flags: u16, last: u16) -> Vec<u8> {
    let mut page = page(16);
    page[8188..8190].copy_from_slice(&flags.to_le_bytes());
    page[8190..].copy_from_slice(&last.to_le_bytes());
    page
}

#[test]
fn of_a_heap_hints_alone() {
    let heap = |told: u8| {
        let mut page = page(0);
        page[TUPLE + INFOMASK_HIGH] = told;
        page
    };
    assert!(of(heap(0), &|_| {}), "the LSN alone");
    assert!(of(heap(0), &|page| page[TUPLE + INFOMASK_HIGH] = 0x09));
    assert!(of(heap(0x02), &|page| page[TUPLE + INFOMASK_HIGH] = 0x06));
    assert!(of(heap(0x03), &|page| page[TUPLE + INFOMASK_HIGH] = 0x0B));
    assert!(of(heap(0), &|page| page[PRUNE_XID].fill(7)));
    assert!(of(heap(0), &|page| page[100] = 9), "the hole");
    for told in [0, 0x01, 0x02] {
        assert!(
            !of(heap(told), &|page| page[TUPLE + INFOMASK_HIGH] = 0x03),
            "it was frozen"
        );
    }
    for at in [TUPLE, TUPLE + 4, TUPLE + 8, TUPLE + 12, TUPLE + 20, TUPLE + 39, 10] {
        assert!(!of(heap(0), &|page| page[at] ^= 0x20), "byte {at}");
    }
    assert!(!of(heap(0), &|page| page[26] ^= 1), "its line pointer");
}

#[test]
fn of_indexes_that_an_entry_is_dead_alone() {
    let dead = |page: &mut [u8]| page[26] |= 1;
    for (flags, last, garbage) in [
        (1, 0, 1 << 6),
        (1, HASH_ID, 1 << 7),
        (2, HASH_ID, 1 << 7),
        (1, GIST_ID, 1 << 4),
    ] {
        let what = format!("{flags} of {last:X}");
        assert!(of(index(flags, last), &dead), "{what}");
        assert!(
            of(index(flags, last), &|page| page[8176 + INDEX_FLAGS.start] |= garbage),
            "{what}"
        );
        for bit in (0..16).map(|bit| 1u16 << bit).filter(|bit| *bit != u16::from(garbage)) {
            let other = |page: &mut [u8]| {
                page[8188] ^= bit as u8;
                page[8189] ^= (bit >> 8) as u8;
            };
            assert!(!of(index(flags, last), &other), "{what}: bit {bit}");
        }
        assert!(!of(index(flags, last), &|page| page[8176] ^= 1), "{what}: a neighbour");
        assert!(!of(index(flags, last), &|page| page[8150] ^= 1), "{what}: an entry");
    }
    assert!(!of(index(1, 0), &|page| page[8190] ^= 1), "a cycle of vacuum");
}

#[test]
fn no_page_without_entries() {
    // A B-tree's first page, an inner and a deleted one; a hash index's bitmap and first page; a deleted one of GiST; nobody's.
    let indexes = [
        (8, 0),
        (0, 0),
        (1 | 4, 0),
        (4, HASH_ID),
        (8, HASH_ID),
        (1 | 2, GIST_ID),
        (0, GIST_ID),
        (1, 0xFF90),
    ];
    for (flags, last) in indexes {
        assert!(!of(index(flags, last), &|_| {}), "{flags} of {last:X}");
    }
    // Nor GIN, BRIN, SP-GiST and sequences, whose hints are not logged so or all in one place.
    assert!(!of(page(8), &|_| {}));
    assert!(
        !of(page(8), &|page| page[100] ^= 1),
        "the map of a BRIN index is in what looks like a hole"
    );
}
