use super::*;
use crate::{
    Error,
    envelope::Kind,
    test_folder::{TestFolder, reaction},
};
use futures::executor::block_on;
use proptest::prelude::*;

pub(super) const SEGMENT: u64 = 1 << 20;
pub(super) const FIRST: u64 = 0x1_0000_0000;

pub(super) fn stream() -> WalStream {
    WalStream::new(7_300_000_000_000_000_001, 3, SEGMENT).unwrap()
}

/// The WAL of the test's server: another byte at every position.
pub(super) fn wal(from: u64, to: u64) -> Vec<u8> {
    (from..to)
        .map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect()
}

pub(super) fn append(folder: &TestFolder, from: u64, to: u64) -> crate::Result<u64> {
    let bytes = wal(from, to);
    block_on(append_run(&folder.repository, &folder.session, &stream(), from, &bytes))
}

pub(super) fn assembled(folder: &TestFolder, from: u64, to: u64) -> (Vec<u8>, crate::Result<()>) {
    let (mut bytes, mut next) = (Vec::new(), from);
    let done = block_on(assemble(&folder.repository, stream(), from, to, |start, piece| {
        assert_eq!(start, next, "a piece does not follow the one before");
        next += piece.len() as u64;
        bytes.extend_from_slice(piece);
        Ok(())
    }));
    (bytes, done)
}

#[test]
fn runs_join_to_the_wal_they_were_cut_from() {
    let folder = TestFolder::new();
    let cuts = [0, 5, 300_000, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 2 * SEGMENT + 700];
    for pair in cuts.windows(2) {
        assert_eq!(
            append(&folder, FIRST + pair[0], FIRST + pair[1]).unwrap(),
            FIRST + pair[1]
        );
    }
    let end = FIRST + 2 * SEGMENT + 700;
    for (from, to) in [
        (0, 700),
        (3, 4),
        (5, 6),
        (200_000, SEGMENT + 2),
        (SEGMENT, 2 * SEGMENT),
        (7, 7),
        (9, 2),
    ] {
        let (from, to) = (FIRST + from, FIRST + to);
        let (bytes, done) = assembled(&folder, from, to);
        done.unwrap();
        assert!(bytes == wal(from, to.max(from)), "{from} to {to}");
    }
    assert_eq!(
        block_on(contiguous_end(&folder.repository, &stream(), FIRST + 9)).unwrap(),
        end
    );
}

#[test]
fn a_gap_is_named_by_the_run_that_should_have_come_next() {
    let folder = TestFolder::new();
    append(&folder, FIRST, FIRST + 100).unwrap();
    append(&folder, FIRST + 200, FIRST + SEGMENT).unwrap();
    let (bytes, done) = assembled(&folder, FIRST + 10, FIRST + 300);
    assert_eq!(bytes.len(), 90);
    let Err(Error::Missing { name }) = done else {
        panic!("{done:?}")
    };
    assert_eq!(
        name,
        "wal/7300000000000000001/00000003/0000000100000000/0000000100000064"
    );
    assert_eq!(
        block_on(contiguous_end(&folder.repository, &stream(), FIRST)).unwrap(),
        FIRST + 100
    );

    let (bytes, done) = assembled(&folder, FIRST + SEGMENT, FIRST + SEGMENT + 1);
    assert_eq!((bytes.len(), reaction(done)), (0, "missing"));
    assert_eq!(
        assembled(&folder, FIRST, FIRST + 100)
            .1
            .map_err(|error| error.to_string()),
        Ok(())
    );
}

#[test]
fn two_receivers_of_the_same_wal_go_on_where_the_longer_run_ends() {
    let folder = TestFolder::new();
    assert_eq!(append(&folder, FIRST, FIRST + 500).unwrap(), FIRST + 500);
    for length in [1, 499, 500, 501, 9000] {
        assert_eq!(
            append(&folder, FIRST, FIRST + length).unwrap(),
            FIRST + 500,
            "{length} bytes"
        );
    }
    assert_eq!(assembled(&folder, FIRST, FIRST + 500).0, wal(FIRST, FIRST + 500));
}

#[test]
fn two_servers_under_one_identity_are_told_apart() {
    let folder = TestFolder::new();
    append(&folder, FIRST, FIRST + 500).unwrap();
    let mut other = wal(FIRST, FIRST + 600);
    other[499] ^= 1;
    let claimed = block_on(append_run(
        &folder.repository,
        &folder.session,
        &stream(),
        FIRST,
        &other,
    ));
    let Err(error @ Error::TwoServers { .. }) = claimed else {
        panic!("{claimed:?}")
    };
    let what = error.to_string();
    assert!(error.hint().unwrap().starts_with("Stop one of the servers"));
    assert!(
        what.starts_with("two servers claim one identity") && what.ends_with("from 1/1F3 on"),
        "{what}"
    );
    assert_eq!(assembled(&folder, FIRST, FIRST + 500).0, wal(FIRST, FIRST + 500));
}

#[test]
fn a_run_stays_inside_its_segment() {
    let folder = TestFolder::new();
    for (from, to) in [(0, 0), (0, SEGMENT + 1), (SEGMENT - 1, SEGMENT + 1)] {
        assert_eq!(reaction(append(&folder, FIRST + from, FIRST + to)), "damaged");
    }
    assert_eq!(
        append(&folder, FIRST + SEGMENT - 1, FIRST + SEGMENT).unwrap(),
        FIRST + SEGMENT
    );
    let wide = WalStream::new(1, 1, 1 << 30).unwrap();
    let long = vec![0; MAX_RUN + 1];
    let appended = block_on(append_run(&folder.repository, &folder.session, &wide, 0, &long));
    assert_eq!(reaction(appended), "damaged");
    for size in [0, 1, 3 << 20, 1 << 31, 1 << 19] {
        assert!(
            WalStream::new(1, 1, size).is_err(),
            "segments of {size} bytes were taken"
        );
    }
}

#[test]
fn a_run_that_is_not_what_its_name_says_is_refused() {
    let facts = |start: &str, end: &str, more: &str| {
        format!(
            r#"{{"generation":"7300000000000000001","timeline":3,"segment_size":1048576,"start":"{start}","end":"{end}"{more}}}"#
        )
    };
    let good = facts("1/0", "1/4", "");
    for (facts, frames, sections, expected) in [
        (&good, 1, vec![0, 1], "ok"),
        (&good, 2, vec![0, 1, 2], "ok"),
        (&good, 2, vec![0, 1, 1], "damaged"),
        (&good, 1, vec![0, 7], "unsupported"),
        (&good, 1, vec![1, 0], "damaged"),
        (&good, 1, vec![0], "damaged"),
        (&good, 1, vec![0, 2], "damaged"),
        (&good, 1, vec![], "damaged"),
        (&good, 1, vec![0, 0], "damaged"),
        (&facts("1/1", "1/5", ""), 1, vec![0, 1], "damaged"),
        (&facts("1/0", "1/5", ""), 1, vec![0, 1], "damaged"),
        (&facts("1/0", "1/4", r#","more":1"#), 1, vec![0, 1], "damaged"),
        (
            &good.replace("\"timeline\":3", "\"timeline\":4"),
            1,
            vec![0, 1],
            "damaged",
        ),
    ] {
        let folder = TestFolder::new();
        let mut raw: Vec<&[u8]> = vec![facts.as_bytes()];
        raw.extend(std::iter::repeat_n(&b"abcd"[..], frames));
        folder.put_raw(Kind::Wal, &stream().run_name(FIRST), &raw, sections.clone());
        let read = block_on(read_run(&folder.repository, &stream(), FIRST));
        assert_eq!(reaction(read), expected, "{facts} {sections:?}");
    }
}

#[test]
fn a_history_file_is_put_once_and_never_contradicted() {
    let folder = TestFolder::new();
    let put = |bytes: &[u8]| block_on(put_history(&folder.repository, &folder.session, 7, 2, bytes));
    let read = || block_on(read_history(&folder.repository, 7, 2)).unwrap();
    assert_eq!(read(), None);
    put(b"1\t0/3000000\tno recovery target specified\n").unwrap();
    put(b"1\t0/3000000\tno recovery target specified\n").unwrap();
    assert_eq!(
        reaction(put(b"1\t0/4000000\tno recovery target specified\n")),
        "two servers"
    );
    assert_eq!(reaction(put(&vec![b' '; MAX_HISTORY + 1])), "damaged");
    assert_eq!(
        read().as_deref(),
        Some(&b"1\t0/3000000\tno recovery target specified\n"[..])
    );
}

proptest! {
    #[test]
    fn any_cuts_of_a_segment_chain_to_its_end(mut cuts in prop::collection::btree_set(1..SEGMENT, 0..8)) {
        cuts.insert(SEGMENT);
        let folder = FOLDER.with(Clone::clone);
        let number = folder.1.get();
        folder.1.set(number + 1);
        let (segment, mut at) = (number * SEGMENT, number * SEGMENT);
        for cut in cuts {
            at = append(&folder.0, at, segment + cut).unwrap();
        }
        let (bytes, done) = assembled(&folder.0, segment, segment + SEGMENT);
        prop_assert!(done.is_ok() && bytes == wal(segment, segment + SEGMENT));
    }

    #[test]
    fn no_bytes_panic_the_facts_of_a_run(bytes: Vec<u8>, sections: Vec<u8>) {
        let folder = FOLDER.with(Clone::clone);
        let number = folder.1.get();
        folder.1.set(number + 1);
        let start = number * SEGMENT;
        folder.0.put_raw(Kind::Wal, &stream().run_name(start), &[&bytes, b"x"], sections);
        let _ = block_on(read_run(&folder.0.repository, &stream(), start));
    }
}

thread_local! {
    /// One folder for all cases: making one takes longer than a case. With the number of the next name.
    static FOLDER: std::rc::Rc<(TestFolder, std::cell::Cell<u64>)> = std::rc::Rc::new((TestFolder::new(), Default::default()));
}
