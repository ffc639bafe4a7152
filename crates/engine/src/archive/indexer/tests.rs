use pgformat::segment::SegmentSize;

use super::*;

/// Two pages of WAL of a real cluster of version 15, and where they begin.
const WAL: &[u8] = include_bytes!("../../../../pgformat/tests/fixtures/wal.15");
const START: u64 = 0x121_4000;

fn geometry() -> Geometry {
    Geometry::standard(SegmentSize::DEFAULT)
}

/// Where each record begins.
fn records() -> Vec<u64> {
    let mut walker = Walker::new(geometry(), Lsn(START)).unwrap();
    let mut records = Vec::new();
    walker.feed(WAL, |record| records.push(record.lsn.0)).unwrap();
    records
}

fn index(start: u64, major: Option<Major>) -> Index {
    let mut indexer = Indexer::new(geometry(), 7, start).unwrap();
    if let Some(major) = major {
        indexer = indexer.of_major(major);
    }
    indexer.feed(&WAL[(start - START) as usize..]);
    indexer.index()
}

#[test]
fn a_walk_may_begin_at_any_record_even_before_a_page_told_the_version() {
    let records = records();
    assert!(records.len() > 20, "{records:x?}");
    for (number, start) in records.iter().enumerate() {
        let summary = index(*start, Some(Major::V15)).summary;
        assert_eq!(
            (summary.records, summary.joined, summary.broken, summary.incomplete),
            ((records.len() - number) as u64, true, None, None),
            "from {start:x}"
        );
    }
}

#[test]
fn what_cannot_be_read_for_want_of_the_version_is_told() {
    let first = records()[0];
    let unknown = index(first, None).summary;
    assert!(unknown.incomplete.is_some(), "{unknown:?}");
}

#[test]
fn wal_of_another_version_ends_the_walk() {
    let broken = index(START, Some(Major::V14)).summary.broken;
    assert!(broken.is_some_and(|cause| cause.contains("15")));
}
