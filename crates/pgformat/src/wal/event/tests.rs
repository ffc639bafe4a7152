use super::*;
use crate::relation::Fork;
use crate::segment::SegmentSize;
use crate::wal::block::Compression;
use crate::wal::{Geometry, RowChange, WalPageHeader, Walker};
use crate::{Lsn, Major};
use proptest::prelude::*;

/// Two pages of WAL of a real cluster of each version, and in segments of how many MiB.
const REAL: [(Major, u64, &[u8]); 6] = [
    (Major::V13, 16, include_bytes!("../../../tests/fixtures/wal.13")),
    (Major::V14, 16, include_bytes!("../../../tests/fixtures/wal.14")),
    (Major::V15, 16, include_bytes!("../../../tests/fixtures/wal.15")),
    (Major::V16, 1, include_bytes!("../../../tests/fixtures/wal.16")),
    (Major::V17, 16, include_bytes!("../../../tests/fixtures/wal.17")),
    (Major::V18, 16, include_bytes!("../../../tests/fixtures/wal.18")),
];

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// With a record of this body.
fn with<T>(major: Major, rmid: u8, info: u8, body: &[u8], read: impl FnOnce(&Record<'_>) -> T) -> T {
    let bytes = [&[0; 24], body].concat();
    read(&Record {
        major: Some(major),
        lsn: Lsn(0x28),
        end: Lsn(0x100),
        prev: Lsn(0),
        xid: 7,
        rmid,
        info,
        bytes: &bytes,
    })
}

/// With a record that has this main data and refers to page 7 of relation 1663/5/16384.
fn event<T>(major: Major, rmid: u8, info: u8, main: &[u8], read: impl FnOnce(Result<Event<'_>>) -> T) -> T {
    let mut body = vec![0, 0, 0, 0];
    body.extend(numbers(&[1663, 5, 16_384, 7]));
    body.push(254);
    body.extend((main.len() as u32).to_le_bytes());
    body.extend(main);
    with(major, rmid, info, &body, |record| read(record.parts().unwrap().event()))
}

#[test]
fn every_record_of_every_version_is_taken_apart() {
    for (major, mebibytes, bytes) in REAL {
        let geometry = Geometry::standard(SegmentSize::new(mebibytes << 20).unwrap());
        let start = WalPageHeader::parse(bytes).unwrap().address;
        let (mut records, mut pages, mut rows) = (0, 0, 0);
        let mut walker = Walker::new(geometry, start).unwrap();
        let fed = walker.feed(bytes, |record| {
            let parts = record.parts().unwrap();
            assert_eq!(record.main_data(), Some(parts.main_data));
            records += 1;
            pages += parts.blocks().count();
            if let Event::Rows(change) = parts.event().unwrap() {
                rows += u32::from(change.count);
            }
        });
        assert_eq!(fed, Ok(()));
        assert!(
            records > 3 && pages > 0,
            "{major}: {records} records, {pages} pages, {rows} rows"
        );
    }
}

#[test]
fn the_bits_of_an_image_mean_others_from_15_on() {
    // A hole, and the bit for compression up to 14, for "put in place" from 15 on.
    let mut old = vec![0, 0x10, 0, 0, 3, 0, 100, 0, 0x03, 50, 0];
    old.extend(numbers(&[1663, 5, 16_384, 7]));
    old.extend([0xA; 3]);
    let mut new = old.clone();
    new.drain(9..11);
    let image = |major, body: &[u8]| {
        with(major, 0, 0xB0, body, |record| {
            let blocks: Vec<_> = record.blocks().ok()?.collect();
            let image = blocks[0].image?;
            Some((blocks.len(), image.applies, image.compression, image.bytes))
        })
    };
    for major in [Major::V13, Major::V14] {
        assert_eq!(image(major, &old), Some((1, false, Some(Compression::Pglz), 3)));
        assert_eq!(image(major, &new), None);
    }
    for major in [Major::V15, Major::V18] {
        assert_eq!(image(major, &new), Some((1, true, None, 3)));
        assert_eq!(image(major, &old), None);
    }
    for (bits, compression) in [(6, Compression::Pglz), (10, Compression::Lz4), (18, Compression::Zstd)] {
        old[8] = bits | 1;
        assert_eq!(image(Major::V16, &old), Some((1, true, Some(compression), 3)));
    }
}

#[test]
fn references_stand_in_order_and_repeat_the_relation() {
    let mut body = vec![0, 0x62, 2, 0];
    body.extend(numbers(&[1664, 0, 1260, 3]));
    body.extend([2, 0x80, 0, 0]);
    body.extend(numbers(&[4]));
    let honest = [&body[..], &[253, 1, 0, 252, 9, 0, 0, 0, 255, 1, 0xA, 0xA, 0xB]].concat();
    with(Major::V14, 10, 0, &honest, |record| {
        let parts = record.parts().unwrap();
        let blocks: Vec<_> = parts.blocks().collect();
        assert_eq!((blocks[0].fork, blocks[0].will_init), (Fork::VisibilityMap, true));
        assert_eq!(
            (blocks[1].relation.relation, blocks[1].block, blocks[1].fork),
            (1260, 4, Fork::Main)
        );
        assert_eq!(
            (parts.origin, parts.toplevel_xid, parts.main_data),
            (Some(1), Some(9), &[0xB][..])
        );
    });
    // Version 13 knows no top transaction there.
    with(Major::V13, 10, 0, &honest, |record| assert!(record.parts().is_err()));
    for (at, value) in [(0, 2), (0, 33), (1, 0xE2), (1, 0x64), (1, 0x42), (2, 3), (2, 0)] {
        let mut wrong = honest.clone();
        wrong[at] = value;
        with(Major::V14, 10, 0, &wrong, |record| {
            assert!(record.parts().is_err(), "{value} at {at}");
            assert_eq!(record.main_data(), None);
        });
    }
}

#[test]
fn a_record_of_an_unknown_version_is_not_guessed_at() {
    with(Major::V14, 10, 0, &[255, 1, 9], |record| {
        let record = Record { major: None, ..*record };
        assert!(matches!(record.parts(), Err(crate::Error::Unsupported { .. })));
        assert_eq!(record.main_data(), Some(&[9][..]), "what is the same in all versions");
    });
}

#[test]
fn rows_are_counted_by_what_was_done() {
    let check = |rmid, info, main: &[u8], expect| {
        event(Major::V15, rmid, info, main, |event| {
            let Ok(Event::Rows(rows)) = event else {
                panic!("{event:?}")
            };
            assert_eq!(
                (rows.change, rows.count, rows.relation.relation),
                (expect, 1 + u16::from(rmid == 9), 16_384)
            );
        });
    };
    check(10, 0x80, &[1, 0, 0], RowChange::Insert);
    check(10, 0x00, &[1, 0, 4], RowChange::InsertUnlessConflict);
    check(10, 0x10, &[0; 8], RowChange::Delete);
    check(10, 0x10, &[0, 0, 0, 0, 0, 0, 0, 8], RowChange::TakeBack);
    check(10, 0x10, &[0, 0, 0, 0, 0, 0, 0, 16], RowChange::MoveAway);
    check(10, 0xA0, &[0; 14], RowChange::Update);
    check(10, 0x40, &[0; 14], RowChange::HotUpdate);
    check(9, 0xD0, &[0, 0, 2, 0], RowChange::Insert);
    event(Major::V15, 10, 0x10, &[0; 7], |event| assert!(event.is_err()));
}

#[test]
fn databases_are_numbered_anew_from_15_on() {
    let check = |major, kind, expect: &str| {
        event(major, RM_DBASE, kind, &numbers(&[20, 1, 1663, 1664]), |event| {
            let text = format!("{:?}", event.unwrap());
            assert!(text.contains(expect), "{major}, {kind}: {text}");
        });
    };
    for major in Major::ALL {
        check(major, 0x00, "CreateByFileCopy");
        let since_15 = major >= Major::V15;
        check(major, 0x10, if since_15 { "CreateByWalLog" } else { "Drop" });
        check(major, 0x20, if since_15 { "Drop" } else { "Other" });
    }
}

#[test]
fn a_commit_is_read_past_the_statistics_that_it_drops() {
    let after = |statistics: &[u32]| {
        let mut main = numbers(&[0, 0, 0x2 | 0x4 | 0x10 | 0x80 | 0x100, 2, 701, 702, 1, 1663, 5, 16_384]);
        main.extend(numbers(statistics));
        main.extend(numbers(&[700]));
        main.extend(b"gid\0");
        main
    };
    for (major, statistics) in [(Major::V15, &[1, 1, 2, 3][..]), (Major::V18, &[1, 1, 2, 3, 4])] {
        event(major, RM_XACT, 0xB0, &after(statistics), |event| {
            let Ok(Event::Transaction(transaction)) = event else {
                panic!("{event:?}")
            };
            assert_eq!(
                (transaction.kind, transaction.xid),
                (TransactionKind::CommitPrepared, 700)
            );
            assert_eq!(transaction.time, 946_684_800_000_000);
            assert_eq!(transaction.subtransactions.iter().collect::<Vec<_>>(), [701, 702]);
            assert_eq!(
                transaction.dropped.iter().map(|at| at.relation).collect::<Vec<_>>(),
                [16_384]
            );
            assert_eq!(transaction.gid, Some(&b"gid"[..]));
        });
    }
    // More than there is, and fewer than none.
    for count in [u32::MAX, 0x7FFF_FFFF, 1000] {
        event(Major::V15, RM_XACT, 0x80, &numbers(&[0, 0, 2, count, 701]), |event| {
            assert!(event.is_err())
        });
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(body: Vec<u8>, main: Vec<u8>, major in 0usize..6, rmid in 0u8..12, info: u8) {
        let major = Major::ALL[major];
        with(major, rmid, info, &body, |record| {
            if let Ok(parts) = record.parts() {
                let _ = (parts.event(), parts.blocks().count(), record.main_data());
            }
        });
        event(major, rmid, info, &main, |event| {
            if let Ok(Event::Transaction(transaction)) = event {
                let _ = (transaction.subtransactions.iter().count(), transaction.dropped.iter().count());
            }
        });
    }

    #[test]
    fn no_count_of_anything_panics(words in prop::collection::vec(0u32..400, 0..40), major in 0usize..6, info: u8, rmid in 0u8..3) {
        event(Major::ALL[major], rmid, info, &numbers(&words), |event| drop(event));
    }
}
