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
            Leaf::Whole(vec![extent(2048, at(0, 0))]),
            Leaf::Whole(vec![extent(6 * 32, at(64, 0))])
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
    let Leaf::Whole(first) = &leaves[0] else { panic!() };
    assert_eq!(first.last(), Some(&extent(48, at(5, 5))));
    assert_eq!(leaves[1], Leaf::Whole(vec![extent(352, at(5, 53))]));
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
    assert_eq!(builder.finish(), [Leaf::Whole(expected)]);
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
    assert_eq!(builder.finish(), [Leaf::Whole(expected)]);
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
    let leaf = bytes(&Leaf::Whole(vec![extent(10, at(0, 0)), extent(5, at(3, 1))]));
    assert!(decoded(&leaf, 15, 1).is_ok());
    for pages in [0, 14, 16, 2048] {
        assert!(decoded(&leaf, pages, 1).is_err(), "it was taken for {pages} pages");
    }
    assert!(decoded(&bytes(&Leaf::Whole(Vec::new())), 0, 1).is_err());
    let huge = Leaf::Whole(vec![extent(u32::MAX, at(0, 0)), extent(16, at(0, 0))]);
    assert!(decoded(&bytes(&huge), 15, 1).is_err());
    let empty = Leaf::Whole(vec![extent(15, at(0, 0)), extent(0, at(0, 0))]);
    assert!(decoded(&bytes(&empty), 15, 1).is_err());
}

#[test]
fn a_reference_to_an_unlisted_source_or_slot_is_refused() {
    let other = PageRef { source: 1, ..at(0, 0) };
    let leaf = bytes(&Leaf::Whole(vec![extent(1, other)]));
    assert!(decoded(&leaf, 1, 2).is_ok());
    assert!(decoded(&leaf, 1, 1).is_err());
    assert!(decoded(&bytes(&Leaf::Whole(vec![extent(1, at(0, 512))])), 1, 1).is_err());
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
fn what_needs_a_feature_is_decoded_and_refused_by_name() {
    let difference = Extent {
        base: Some(at(0, 7)),
        ..extent(3, at(9, 0))
    };
    let base = LeafRef {
        source: 0,
        map: 1,
        frame: 2,
        number: 3,
    };
    let overrides = vec![Override {
        skipped: 4,
        extent: difference,
    }];
    for (leaf, features) in [
        (Leaf::Whole(vec![difference]), 2),
        (
            Leaf::Patch {
                base,
                overrides: Vec::new(),
            },
            1,
        ),
        (Leaf::Patch { base, overrides }, 3),
    ] {
        let pages = if features == 2 { 3 } else { 7 };
        assert_eq!(decoded(&bytes(&leaf), pages, 1), Ok(leaf.clone()));
        assert_eq!(leaf.features(), features);
        let error = leaf.require_known("maps/x/00000000").unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    }
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
