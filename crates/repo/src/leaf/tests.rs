use super::*;
use crate::bytes_codec::{Malformed, Reader};
use proptest::prelude::*;

fn at(frame: u32, slot: u32) -> PageRef {
    PageRef {
        source: 0,
        pack: 0,
        frame,
        slot,
    }
}

fn extent(pages: u32, pages_at: PageRef) -> Extent {
    Extent {
        pages,
        pages_at,
        base: None,
    }
}

fn bytes(leaf: &Leaf) -> Vec<u8> {
    let mut out = Vec::new();
    leaf.encode(&mut out);
    out
}

fn decoded(bytes: &[u8], pages: u32, sources: u32) -> Result<Leaf, Malformed> {
    Leaf::decode(&mut Reader::new(bytes), pages, sources)
}

#[test]
fn a_full_backup_needs_one_extent_a_leaf() {
    let mut builder = LeafBuilder::new();
    for frame in 0..70 {
        builder.append_in_frame(32, at(frame, 0), 32).unwrap();
    }
    let leaves = builder.finish();
    assert_eq!(
        leaves,
        [
            Leaf(vec![extent(2048, at(0, 0))]),
            Leaf(vec![extent(6 * 32, at(64, 0))])
        ]
    );
    assert!(bytes(&leaves[0]).len() < 16);
}

#[test]
fn a_run_across_a_leaf_is_cut_at_its_end() {
    let mut builder = LeafBuilder::new();
    for frame in 0..6 {
        builder.append_in_frame(400, at(frame, 5), 405).unwrap();
    }
    let leaves = builder.finish();
    let Leaf(first) = &leaves[0];
    assert_eq!(first.last(), Some(&extent(48, at(5, 5))));
    assert_eq!(leaves[1], Leaf(vec![extent(352, at(5, 53))]));
}

#[test]
fn only_what_continues_is_merged() {
    let mut builder = LeafBuilder::new();
    builder.append_in_frame(3, at(0, 0), 8).unwrap();
    builder.append_in_frame(5, at(0, 3), 8).unwrap();
    builder.append_in_frame(1, at(1, 0), 8).unwrap();
    builder.append_in_frame(1, at(2, 0), 8).unwrap();
    let elsewhere = PageRef { pack: 1, ..at(2, 1) };
    builder.append_in_frame(1, elsewhere, 8).unwrap();
    let expected = vec![extent(9, at(0, 0)), extent(1, at(2, 0)), extent(1, elsewhere)];
    assert_eq!(builder.finish(), [Leaf(expected)]);
}

#[test]
fn an_extent_taken_over_is_not_joined_with_what_may_not_follow() {
    let mut builder = LeafBuilder::new();
    builder.append_extent(extent(40, at(0, 0))).unwrap();
    builder.append_in_frame(1, at(1, 8), 32).unwrap();
    builder.append_extent(extent(3, at(1, 9))).unwrap();
    builder.append_extent(extent(3, at(5, 0))).unwrap();
    // Goes on where the page before the two extents ended, which is not where the last one does.
    builder.append_in_frame(1, at(1, 9), 32).unwrap();
    let expected = vec![
        extent(40, at(0, 0)),
        extent(4, at(1, 8)),
        extent(3, at(5, 0)),
        extent(1, at(1, 9)),
    ];
    assert_eq!(builder.finish(), [Leaf(expected)]);
}

#[test]
fn a_run_that_its_frame_cannot_hold_is_refused() {
    let mut builder = LeafBuilder::new();
    assert!(builder.append_in_frame(9, at(0, 0), 8).is_err());
    assert!(builder.append_in_frame(0, at(0, 0), 8).is_err());
    assert!(builder.append_in_frame(u32::MAX, at(0, 1), 8).is_err());
    assert!(builder.append_extent(extent(2049, at(0, 0))).is_err());
    assert!(builder.finish().is_empty());
}

#[test]
fn a_leaf_that_does_not_cover_its_pages_exactly_is_refused() {
    let leaf = bytes(&Leaf(vec![extent(10, at(0, 0)), extent(5, at(3, 1))]));
    assert!(decoded(&leaf, 15, 1).is_ok());
    for pages in [0, 14, 16, 2048] {
        assert!(decoded(&leaf, pages, 1).is_err(), "it was taken for {pages} pages");
    }
    assert!(decoded(&bytes(&Leaf(Vec::new())), 0, 1).is_err());
    let huge = Leaf(vec![extent(u32::MAX, at(0, 0)), extent(16, at(0, 0))]);
    assert!(decoded(&bytes(&huge), 15, 1).is_err());
    let empty = Leaf(vec![extent(15, at(0, 0)), extent(0, at(0, 0))]);
    assert!(decoded(&bytes(&empty), 15, 1).is_err());
}

#[test]
fn a_reference_to_an_unlisted_source_or_slot_is_refused() {
    let other = PageRef { source: 1, ..at(0, 0) };
    let leaf = bytes(&Leaf(vec![extent(1, other)]));
    assert!(decoded(&leaf, 1, 2).is_ok());
    assert!(decoded(&leaf, 1, 1).is_err());
    assert!(decoded(&bytes(&Leaf(vec![extent(1, at(0, 512))])), 1, 1).is_err());
}

#[test]
fn a_count_larger_than_the_input_is_refused_before_anything_is_allocated() {
    let mut bytes = vec![0];
    crate::bytes_codec::put_varint(&mut bytes, u64::MAX);
    assert!(decoded(&bytes, 1, 1).is_err());
    assert!(decoded(&[0, 100, 1, 0, 0, 0, 0, 0], 100, 1).is_err());
    assert!(decoded(&[2, 0], 1, 1).is_err());
}

#[test]
fn a_leaf_with_differences_says_what_its_readers_must_know() {
    let difference = Extent {
        base: Some(at(0, 7)),
        ..extent(3, at(9, 0))
    };
    for (leaf, features) in [(Leaf(vec![extent(3, at(9, 0))]), 0), (Leaf(vec![difference]), 2)] {
        assert_eq!(decoded(&bytes(&leaf), 3, 1), Ok(leaf.clone()));
        assert_eq!(leaf.features(), features);
    }
}

fn run(first: PageRef, frame_slots: u32) -> InFrame {
    InFrame { first, frame_slots }
}

#[test]
fn differences_are_merged_only_where_they_and_their_bases_continue() {
    let other = PageRef { source: 1, ..at(0, 0) };
    let base = |frame, slot| PageRef { frame, slot, ..other };
    let mut builder = LeafBuilder::new();
    let mut add = |pages, difference, of| {
        builder
            .append_differences(pages, run(difference, 512), run(of, 32))
            .unwrap();
    };
    add(2, at(0, 0), base(7, 29));
    add(1, at(0, 2), base(7, 31));
    add(1, at(0, 3), base(8, 0));
    // A page between them did not change: its base was skipped.
    add(1, at(0, 4), base(8, 2));
    // Whole pages came between the frames of differences.
    add(1, at(5, 0), base(8, 3));
    let expected = [
        (4, at(0, 0), base(7, 29)),
        (1, at(0, 4), base(8, 2)),
        (1, at(5, 0), base(8, 3)),
    ];
    let expected = expected.map(|(pages, pages_at, base)| Extent {
        pages,
        pages_at,
        base: Some(base),
    });
    // The same slots without a base are no differences.
    builder.append_in_frame(1, at(5, 1), 512).unwrap();
    let mut expected = expected.to_vec();
    expected.push(extent(1, at(5, 1)));
    assert!(builder.append_differences(2, run(at(0, 0), 2), run(other, 1)).is_err());
    assert!(builder.append_differences(2, run(at(0, 0), 1), run(other, 2)).is_err());
    assert!(builder.append_differences(0, run(at(0, 0), 2), run(other, 2)).is_err());
    assert_eq!(builder.finish(), [Leaf(expected)]);
}

/// Where each page is, one by one, by frames of as many slots.
fn one_by_one(leaves: &[Leaf], slots: u32, base_slots: u32) -> Vec<(PageRef, Option<PageRef>)> {
    let step = |at: PageRef, slots| match at.slot + 1 == slots {
        true => PageRef {
            frame: at.frame + 1,
            slot: 0,
            ..at
        },
        false => PageRef {
            slot: at.slot + 1,
            ..at
        },
    };
    let mut all = Vec::new();
    for leaf in leaves {
        let Leaf(extents) = leaf;
        for extent in extents {
            let (mut page, mut base) = (extent.pages_at, extent.base);
            for _ in 0..extent.pages {
                all.push((page, base));
                (page, base) = (step(page, slots), base.map(|base| step(base, base_slots)));
            }
        }
    }
    all
}

#[test]
fn the_last_leaf_and_the_last_page_may_be_short() {
    assert_eq!(leaves_of(0, 8192), 0);
    assert_eq!(pages_of_leaf(0, 8192, 0), 0);
    assert_eq!(pages_of_leaf(1, 8192, 0), 1);
    let size = 8192 * 2049 + 1;
    assert_eq!((leaves_of(size, 8192), pages_of(size, 8192)), (2, 2050));
    let pages = [0, 1, 2, u64::MAX].map(|number| pages_of_leaf(size, 8192, number));
    assert_eq!(pages, [2048, 2, 0, 0]);
}

proptest! {
    #[test]
    fn no_bytes_panic_a_leaf(bytes: Vec<u8>, pages: u32, sources: u32) {
        let _ = decoded(&bytes, pages, sources);
    }

    #[test]
    fn every_page_stays_where_it_was_said_to_be_whole_or_as_a_difference(
        runs in prop::collection::vec((1u32..24, any::<bool>(), any::<bool>(), 0u32..3, 0u32..24, 0u32..24), 1..300),
    ) {
        let (slots, base_slots) = (48, 32);
        let mut builder = LeafBuilder::new();
        let (mut expected, mut next) = (Vec::new(), (at(0, 0), at(0, 0)));
        for (pages, goes_on, whole, frame, slot, base_slot) in runs {
            let (first, base) = match goes_on {
                // The last run's end may leave too little room in its frame.
                true if next.0.slot + pages <= slots && next.1.slot + pages <= base_slots => next,
                _ => (at(frame, slot), at(frame, base_slot.min(base_slots - pages))),
            };
            match whole {
                true => builder.append_in_frame(pages, first, slots).unwrap(),
                false => builder.append_differences(pages, run(first, slots), run(base, base_slots)).unwrap(),
            }
            for page in 0..pages {
                let base = at(base.frame, base.slot + page);
                expected.push((at(first.frame, first.slot + page), (!whole).then_some(base)));
            }
            let after = |at: PageRef, slots| run(at, slots).after(pages).unwrap().first;
            next = (after(first, slots), after(base, base_slots));
        }
        let leaves = builder.finish();
        prop_assert_eq!(one_by_one(&leaves, slots, base_slots), expected);
        for leaf in &leaves[..leaves.len() - 1] {
            prop_assert_eq!(leaf.check(LEAF_PAGES, 1), Ok(()));
        }
    }

    #[test]
    fn what_is_built_covers_its_pages_and_reads_back(
        runs in prop::collection::vec((1u32..40, 0u32..3, 0u32..4, 0u32..8), 1..200),
    ) {
        let mut builder = LeafBuilder::new();
        let mut total = 0u64;
        for (pages, pack, frame, slot) in runs {
            let first = PageRef { source: 0, pack, frame, slot };
            builder.append_in_frame(pages, first, 48).unwrap();
            total += u64::from(pages);
        }
        for (number, leaf) in builder.finish().into_iter().enumerate() {
            let pages = pages_of_leaf(total * 8192, 8192, number as u64);
            prop_assert_eq!(decoded(&bytes(&leaf), pages, 1), Ok(leaf));
        }
    }
}
