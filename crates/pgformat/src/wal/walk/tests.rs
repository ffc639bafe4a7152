use super::*;
use crate::segment::SegmentSize;
use crate::wal::record::{HEADER_BYTES, XlogRecord};
use proptest::prelude::*;

mod made;

use made::Made;

/// Two pages of WAL of a real cluster of each version: in segments of how many MiB, and where they begin.
const REAL: [(Major, u64, u64, &[u8]); 6] = [
    (
        Major::V13,
        16,
        0x123_E000,
        include_bytes!("../../../tests/fixtures/wal.13"),
    ),
    (
        Major::V14,
        16,
        0x138_E000,
        include_bytes!("../../../tests/fixtures/wal.14"),
    ),
    (
        Major::V15,
        16,
        0x121_4000,
        include_bytes!("../../../tests/fixtures/wal.15"),
    ),
    (
        Major::V16,
        1,
        0x3A0_0000,
        include_bytes!("../../../tests/fixtures/wal.16"),
    ),
    (
        Major::V17,
        16,
        0x137_2000,
        include_bytes!("../../../tests/fixtures/wal.17"),
    ),
    (
        Major::V18,
        16,
        0x126_8000,
        include_bytes!("../../../tests/fixtures/wal.18"),
    ),
];

type Seen = Vec<(Lsn, Lsn, Vec<u8>)>;

fn geometry(mebibytes: u64) -> Geometry {
    Geometry::standard(SegmentSize::new(mebibytes << 20).unwrap())
}

fn fed(walker: &mut Walker, bytes: &[u8], piece: usize) -> (Seen, Option<Stop>) {
    let mut seen = Seen::new();
    for piece in bytes.chunks(piece) {
        let fed = walker.feed(piece, |record| {
            seen.push((record.lsn, record.end, record.bytes.to_vec()))
        });
        if let Err(stop) = fed {
            return (seen, Some(stop));
        }
    }
    (seen, None)
}

fn walk(made: &Made) -> (Vec<Lsn>, Option<Stop>) {
    let mut walker = Walker::new(geometry(1), made.start()).unwrap();
    let (seen, stop) = fed(&mut walker, made.bytes(), 1000);
    (seen.into_iter().map(|(lsn, ..)| lsn).collect(), stop)
}

#[test]
fn wal_of_every_version_is_walked_whatever_the_pieces() {
    for (major, mebibytes, start, bytes) in REAL {
        let mut whole = Walker::new(geometry(mebibytes), Lsn(start)).unwrap();
        let (seen, stop) = fed(&mut whole, bytes, bytes.len());
        assert_eq!((stop, whole.major()), (None, Some(major)));
        assert!(
            seen.len() > 3 && !whole.leading().is_empty(),
            "{major}: {} records",
            seen.len()
        );
        for piece in [1, 3, 24, 1000, 8192] {
            let mut walker = Walker::new(geometry(mebibytes), Lsn(start)).unwrap();
            assert_eq!(
                fed(&mut walker, bytes, piece),
                (seen.clone(), None),
                "{major} in pieces of {piece}"
            );
            assert_eq!((walker.tail(), walker.leading()), (whole.tail(), whole.leading()));
        }
    }
}

#[test]
fn damage_never_changes_a_record_that_is_handed_out() {
    for (major, mebibytes, start, bytes) in REAL {
        let sound = fed(
            &mut Walker::new(geometry(mebibytes), Lsn(start)).unwrap(),
            bytes,
            bytes.len(),
        )
        .0;
        for at in (0..bytes.len()).step_by(11) {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << (at % 8);
            let mut walker = Walker::new(geometry(mebibytes), Lsn(start)).unwrap();
            let (seen, stop) = fed(&mut walker, &damaged, bytes.len());
            assert!(sound.starts_with(&seen), "{major}: byte {at}");
            // A last record made longer waits for its end: it is then still open.
            let waits = walker.tail().map(|tail| tail.lsn) == sound.get(seen.len()).map(|(lsn, ..)| *lsn);
            assert!(
                stop.is_some() || seen == sound || waits,
                "{major}: byte {at} lost records in silence"
            );
        }
    }
}

#[test]
fn a_walk_may_begin_at_any_record() {
    let (_, mebibytes, start, bytes) = REAL[2];
    let (seen, _) = fed(
        &mut Walker::new(geometry(mebibytes), Lsn(start)).unwrap(),
        bytes,
        bytes.len(),
    );
    for (number, (lsn, ..)) in seen.iter().enumerate() {
        let from = usize::try_from(lsn.bytes_since(Lsn(start))).unwrap();
        let mut walker = Walker::new(geometry(mebibytes), *lsn).unwrap();
        assert_eq!(fed(&mut walker, &bytes[from..], 500), (seen[number..].to_vec(), None));
    }
}

#[test]
fn a_record_that_links_to_another_than_the_one_before_it_stops_the_walk() {
    let mut made = Made::new(Lsn(0x20_0000));
    let one = made.record(10, 0, 50);
    made.cut(made.position(), Lsn(8));
    let two = made.record(10, 0, 50);
    let cause = Cause::Link {
        found: Lsn(8),
        expected: one,
    };
    assert_eq!(walk(&made), (vec![one], Some(Stop { lsn: two, cause })));
}

#[test]
fn zeros_and_recycled_pages_look_like_the_end() {
    let mut made = Made::new(Lsn(0x20_0000));
    let (one, two) = (made.record(10, 0, 50), made.record(10, 0, 50));
    let end = made.position();
    made.raw(&[0; 64]);
    assert_eq!(
        walk(&made),
        (
            vec![one, two],
            Some(Stop {
                lsn: end,
                cause: Cause::NoRecord
            })
        )
    );

    let mut made = Made::new(Lsn(0x20_0000));
    let long = made.record(10, 0, 8192 - 40 - 24);
    made.raw(&[0; 64]);
    assert_eq!(
        walk(&made),
        (
            vec![long],
            Some(Stop {
                lsn: Lsn(0x20_2000),
                cause: Cause::UnwrittenPage
            })
        )
    );

    let mut made = Made::new(Lsn(0x20_0000));
    let long = made.record(10, 0, 8192 - 40 - 24);
    made.header(0, 0, Lsn(0x10_2000));
    let cause = Cause::RecycledPage {
        address: Lsn(0x10_2000),
    };
    assert_eq!(
        walk(&made),
        (
            vec![long],
            Some(Stop {
                lsn: Lsn(0x20_2000),
                cause
            })
        )
    );
    assert!(walk(&made).1.unwrap().is_end());
}

#[test]
fn after_a_switch_the_rest_of_the_segment_means_nothing() {
    let mut made = Made::new(Lsn(0x20_0000));
    let switch = made.record(0, 0x40, 0);
    made.raw(&vec![
        0x5A;
        usize::try_from(Lsn(0x30_0000).bytes_since(made.position()))
            .unwrap()
    ]);
    let next = made.record(10, 0, 100);
    assert_eq!(walk(&made), (vec![switch, next], None));
    let mut walker = Walker::new(geometry(1), made.start()).unwrap();
    assert_eq!(fed(&mut walker, made.bytes(), 77).0[0].1, Lsn(0x30_0000));
}

#[test]
fn a_record_given_up_is_passed_over_if_the_next_one_says_so() {
    let made = |named: u64, flags: u16| {
        let mut made = Made::new(Lsn(0x20_0000));
        let whole = made.record(10, 0, 50);
        let open = made.record(10, 0, 20_000);
        made.cut(Lsn(0x20_2000), whole);
        made.header(flags, 0, Lsn(0x20_2000));
        let says = made.record_of(
            0,
            0xD0,
            &[&[255, 16][..], &(open.0 + named).to_le_bytes(), &[0; 8]].concat(),
        );
        let after = made.record(10, 0, 50);
        (walk(&made), vec![whole, says, after], open)
    };
    let (walked, records, _) = made(0, 8);
    assert_eq!(walked, (records, None));
    let (walked, _, open) = made(8, 8);
    assert_eq!(walked.1.unwrap().cause, Cause::NotOverwritten { expected: open });
    let (walked, _, open) = made(0, 0);
    assert_eq!(walked.1.unwrap().cause, Cause::Continuation { open: Some(open) });
}

#[test]
fn the_end_of_a_backup_is_recognised() {
    let mut made = Made::new(Lsn(0x20_0000));
    made.record_of(0, 0x50, &[&[255, 8][..], &0x10_0028u64.to_le_bytes()].concat());
    let mut found = None;
    let mut walker = Walker::new(geometry(1), made.start()).unwrap();
    walker.feed(made.bytes(), |record| found = record.xlog()).unwrap();
    assert_eq!(found, Some(XlogRecord::BackupEnd { start: Lsn(0x10_0028) }));
}

#[test]
fn wal_of_another_cluster_version_or_geometry_stops_the_walk() {
    let mut made = Made::new(Lsn(0x20_0000));
    made.record(10, 0, 50);
    let stop = |walker: Walker| fed(&mut { walker }, made.bytes(), 8192).1.map(|stop| stop.cause);
    let walker = |mebibytes| Walker::new(geometry(mebibytes), made.start()).unwrap();
    assert_eq!(stop(walker(1).of_system(7).of_major(Major::V15)), None);
    assert_eq!(
        stop(walker(1).of_system(8)),
        Some(Cause::OtherSystem { found: 7, expected: 8 })
    );
    let cause = Cause::Version {
        found: Major::V15,
        expected: Major::V14,
    };
    assert_eq!(stop(walker(1).of_major(Major::V14)), Some(cause));
    assert_eq!(stop(walker(2)), Some(Cause::Geometry));
}

#[test]
fn a_length_that_cannot_be_is_refused_before_it_is_gathered() {
    for (major, length, ok) in [
        (Major::V15, 23, false),
        (Major::V15, 0x4000_0000, false),
        (Major::V17, 1021 << 20, false),
        (Major::V15, 1021 << 20, true),
    ] {
        let mut made = Made::new(Lsn(0x20_0000));
        made.record(10, 0, 50);
        let mut bytes = made.bytes().to_vec();
        bytes[0..2].copy_from_slice(&major.wal_magic().to_le_bytes());
        bytes[40..44].copy_from_slice(&u32::to_le_bytes(length));
        let mut walker = Walker::new(geometry(1), made.start()).unwrap();
        let (_, stop) = fed(&mut walker, &bytes, 8192);
        assert_eq!(stop.is_none(), ok, "{length} in {major}: {stop:?}");
    }
}

#[test]
fn a_walk_stopped_stays_stopped() {
    let mut made = Made::new(Lsn(0x20_0000));
    made.raw(&[0; 8]);
    let mut walker = Walker::new(geometry(1), made.start()).unwrap();
    let stop = walker.feed(made.bytes(), |_| {}).unwrap_err();
    assert_eq!(walker.feed(REAL[0].3, |_| panic!("a record after the stop")), Err(stop));
}

#[test]
fn no_walk_begins_where_no_record_can() {
    for (start, ok) in [
        (0x20_0000, true),
        (0x20_0028, true),
        (0x20_2018, true),
        (0x20_0018, false),
        (0x20_2010, false),
        (0x20_0029, false),
        (!7u64, false),
    ] {
        assert_eq!(Walker::new(geometry(1), Lsn(start)).is_ok(), ok, "{start:X}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, start in 0u64..1 << 40, piece in 1usize..50) {
        if let Ok(mut walker) = Walker::new(geometry(1), Lsn(start & !7)) {
            let _ = fed(&mut walker, &bytes, piece);
        }
    }

    #[test]
    fn records_of_any_length_come_back_whole(lengths in proptest::collection::vec(0usize..30_000, 1..12), piece in 1usize..9000) {
        let mut made = Made::new(Lsn(0x20_0000));
        let expect: Vec<Lsn> = lengths.iter().map(|length| made.record(10, 0, *length)).collect();
        let mut walker = Walker::new(geometry(1), made.start()).unwrap();
        let (seen, stop) = fed(&mut walker, made.bytes(), piece);
        prop_assert_eq!(stop, None);
        prop_assert_eq!(seen.iter().map(|(lsn, ..)| *lsn).collect::<Vec<_>>(), expect);
        for (seen, length) in seen.iter().zip(lengths) {
            prop_assert_eq!(seen.2.len(), length + HEADER_BYTES);
        }
    }

    #[test]
    fn bytes_after_a_sound_page_do_not_panic(junk: Vec<u8>, at in 0usize..16_384, piece in 1usize..9000) {
        let (_, mebibytes, start, bytes) = REAL[4];
        let mut bytes = bytes.to_vec();
        for (place, byte) in bytes[at..].iter_mut().zip(junk) {
            *place = byte;
        }
        let _ = fed(&mut Walker::new(geometry(mebibytes), Lsn(start)).unwrap(), &bytes, piece);
    }
}
