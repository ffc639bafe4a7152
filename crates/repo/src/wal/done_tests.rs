use futures::executor::block_on;

use super::{
    tests::{FIRST, SEGMENT, append, assembled, stream, wal},
    *,
};
use crate::{
    Error,
    ledger::Lsn,
    store::Store,
    test_folder::{TestFolder, reaction},
};

/// Knows nothing of WAL; its indexes say where they were asked for.
struct Counting(u64);

impl Finish for Counting {
    fn bytes(&mut self, start: u64, bytes: &[u8]) {
        assert_eq!(self.0, start, "a piece does not follow the one before");
        self.0 += bytes.len() as u64;
    }
    fn index(&mut self) -> index::Index {
        let mut index = index::Index::default();
        index.summary.last = Some(Lsn(self.0));
        index
    }
}

fn finish(folder: &TestFolder, position: u64) -> crate::Result<()> {
    let mut counting = Counting(stream().segment_of(position));
    block_on(finish_run(
        &folder.repository,
        &folder.session,
        &stream(),
        position,
        &mut counting,
    ))
}

fn names(folder: &TestFolder) -> Vec<String> {
    let listed = block_on(folder.repository.store().list_after("wal/", "", 1000)).unwrap();
    listed.into_iter().map(|object| object.name).collect()
}

/// Three open runs of one segment, and one of the next.
fn folder() -> TestFolder {
    let folder = TestFolder::new();
    for pair in [0, 5, 300_000, SEGMENT, SEGMENT + 9].windows(2) {
        append(&folder, FIRST + pair[0], FIRST + pair[1]).unwrap();
    }
    folder
}

#[test]
fn a_finished_segment_replaces_its_open_runs_and_reads_the_same() {
    let folder = folder();
    finish(&folder, FIRST + 77).unwrap();
    let open = stream().run_name(FIRST + SEGMENT);
    assert_eq!(names(&folder), [open, stream().done_name(FIRST)]);
    for (from, to) in [(0, SEGMENT + 9), (3, 4), (299_999, SEGMENT + 1)] {
        let (bytes, done) = assembled(&folder, FIRST + from, FIRST + to);
        done.unwrap();
        assert!(bytes == wal(FIRST + from, FIRST + to), "{from} to {to}");
    }
    let index = block_on(read_index(&folder.repository, &stream(), FIRST + 5))
        .unwrap()
        .unwrap();
    assert_eq!(index.summary.last, Some(Lsn(FIRST + SEGMENT)));
    let content = blake3::hash(&wal(FIRST, FIRST + SEGMENT)).to_hex().to_string();
    assert_eq!(index.summary.content, content);
    let end = block_on(contiguous_end(&folder.repository, &stream(), FIRST)).unwrap();
    assert_eq!(end, FIRST + SEGMENT + 9);
    // Once more, as after a crash before the open runs were removed.
    append(&folder, FIRST, FIRST + 5).unwrap();
    finish(&folder, FIRST).unwrap();
    assert_eq!(names(&folder).len(), 2);
}

#[test]
fn a_segment_with_a_hole_is_not_finished_and_nothing_of_it_goes() {
    let folder = TestFolder::new();
    append(&folder, FIRST, FIRST + 5).unwrap();
    append(&folder, FIRST + 6, FIRST + SEGMENT).unwrap();
    assert_eq!(reaction(finish(&folder, FIRST)), "missing");
    assert_eq!(names(&folder).len(), 2);
}

#[test]
fn a_reader_goes_on_when_a_segment_is_finished_under_its_hands() {
    let folder = folder();
    let mut reading = Assembly::new(&folder.repository, stream(), FIRST, FIRST + SEGMENT);
    let mut bytes = block_on(reading.next()).unwrap().unwrap().bytes.to_vec();
    assert_eq!(bytes.len(), 5);
    finish(&folder, FIRST).unwrap();
    while let Some(run) = block_on(reading.next()).unwrap() {
        assert_eq!(run.start, FIRST + bytes.len() as u64);
        bytes.extend_from_slice(&run.bytes);
    }
    assert!(bytes == wal(FIRST, FIRST + SEGMENT));
}

#[test]
fn a_finished_run_with_other_content_is_never_overwritten() {
    let folder = folder();
    let mut other = wal(FIRST, FIRST + SEGMENT);
    other[9] ^= 1;
    let mut draft = DoneDraft::new(&folder.repository, &folder.session, &stream(), FIRST).unwrap();
    draft.bytes(&other).unwrap();
    let sealing = draft.finish(&index::Index::default()).unwrap();
    block_on(sealing.store(&folder.repository, &stream())).unwrap();
    // The segment reads as it was stored first in this form; its open runs stay, whoever is right.
    let mut draft = DoneDraft::new(&folder.repository, &folder.session, &stream(), FIRST).unwrap();
    draft.bytes(&wal(FIRST, FIRST + SEGMENT)).unwrap();
    let again = draft.finish(&index::Index::default()).unwrap();
    let refused = block_on(again.store(&folder.repository, &stream()));
    assert!(matches!(refused, Err(Error::TwoServers { .. })), "{refused:?}");
    // Also who makes it of the open runs hears of it, whatever is left of them.
    let before = names(&folder);
    for gone in [None, Some(FIRST)] {
        if let Some(gone) = gone {
            block_on(folder.repository.store().delete(&stream().run_name(gone))).unwrap();
        }
        let refused = finish(&folder, FIRST);
        assert!(
            matches!(refused, Err(Error::TwoServers { .. })),
            "{gone:?}: {refused:?}"
        );
    }
    assert_eq!(names(&folder).len(), before.len() - 1, "something went");
}

#[test]
fn what_is_here_is_told_in_stretches() {
    let folder = folder();
    let covered = || block_on(coverage(&folder.repository, &stream())).unwrap();
    assert_eq!(covered(), [(FIRST, FIRST + SEGMENT + 9)]);
    finish(&folder, FIRST).unwrap();
    assert_eq!(covered(), [(FIRST, FIRST + SEGMENT + 9)]);
    append(&folder, FIRST + 3 * SEGMENT, FIRST + 3 * SEGMENT + 1).unwrap();
    append(&folder, FIRST + 4 * SEGMENT + 5, FIRST + 5 * SEGMENT).unwrap();
    assert_eq!(
        covered(),
        [
            (FIRST, FIRST + SEGMENT + 9),
            (FIRST + 3 * SEGMENT, FIRST + 3 * SEGMENT + 1),
            // No chain reaches it: that something is missing before it shows.
            (FIRST + 4 * SEGMENT + 5, FIRST + 5 * SEGMENT)
        ]
    );
    block_on(folder.repository.store().delete(&stream().done_name(FIRST))).unwrap();
    assert_eq!(covered()[0], (FIRST + SEGMENT, FIRST + SEGMENT + 9));
    assert_eq!(reaction(assembled(&folder, FIRST, FIRST + 1).1), "missing");
    assert_eq!(
        block_on(timelines(&folder.repository, stream().generation)).unwrap(),
        [3]
    );
    assert_eq!(block_on(timelines(&folder.repository, 1)).unwrap(), [0; 0]);
}

#[test]
fn every_damage_to_a_finished_run_is_found_before_its_bytes_or_its_index_are_used() {
    let folder = folder();
    finish(&folder, FIRST).unwrap();
    let name = stream().done_name(FIRST);
    let good = block_on(folder.repository.store().get(&name)).unwrap().unwrap();
    for part in 0..64 {
        let mut bytes = good.to_vec();
        let at = bytes.len() * part / 64;
        bytes[at] ^= 4;
        block_on(folder.repository.store().delete(&name)).unwrap();
        block_on(folder.repository.store().put_new(&name, bytes.into())).unwrap();
        assert_eq!(reaction(assembled(&folder, FIRST, FIRST + 1).1), "damaged", "byte {at}");
        // What the index's reader does not look at it does not judge; it never hands out anything else.
        if let Ok(index) = block_on(read_index(&folder.repository, &stream(), FIRST)) {
            assert_eq!(index.unwrap().summary.last, Some(Lsn(FIRST + SEGMENT)), "byte {at}");
        }
    }
}

/// Flips a bit of an object.
fn damage(folder: &TestFolder, name: &str) {
    let store = folder.repository.store();
    let mut bytes = block_on(store.get(name)).unwrap().unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    block_on(store.delete(name)).unwrap();
    block_on(store.put_new(name, bytes.into())).unwrap();
}

#[test]
fn a_damaged_open_run_is_a_hole_and_hides_nothing_else() {
    let folder = folder();
    let more = [2 * SEGMENT, 2 * SEGMENT + 7, 2 * SEGMENT + 20, 2 * SEGMENT + 30];
    for pair in more.windows(2) {
        append(&folder, FIRST + pair[0], FIRST + pair[1]).unwrap();
    }
    let covered = || block_on(coverage(&folder.repository, &stream())).unwrap();
    let end = |from| block_on(contiguous_end(&folder.repository, &stream(), FIRST + from)).unwrap();
    damage(&folder, &stream().run_name(FIRST + 5));
    assert_eq!(
        covered(),
        [
            (FIRST, FIRST + 5),
            (FIRST + 300_000, FIRST + SEGMENT + 9),
            (FIRST + 2 * SEGMENT, FIRST + 2 * SEGMENT + 30)
        ]
    );
    assert_eq!((end(0), end(SEGMENT)), (FIRST + 5, FIRST + SEGMENT + 9));
    damage(&folder, &stream().run_name(FIRST + 2 * SEGMENT + 20));
    assert_eq!(covered()[2], (FIRST + 2 * SEGMENT, FIRST + 2 * SEGMENT + 20));
    assert_eq!(end(2 * SEGMENT), FIRST + 2 * SEGMENT + 20);
    // Whoever asks for its bytes is told.
    assert_eq!(reaction(assembled(&folder, FIRST, FIRST + 9).1), "damaged");
    // What comes after it in its segment is known to whoever says where that begins.
    let (from, to) = (FIRST + 300_001, FIRST + SEGMENT);
    let known = |run| block_on(Expected::read(&folder.repository, &stream(), run, from, to));
    assert_eq!(known(FIRST + 300_000).unwrap().differs(from, &wal(from, to)), None);
    assert_eq!(
        known(FIRST + 300_000).unwrap().differs(to - 1, &[!wal(to - 1, to)[0]]),
        Some(to - 1)
    );
    assert_eq!(reaction(known(FIRST)), "damaged");
}

/// Segments that are finished in several runs.
fn wide() -> WalStream {
    WalStream::new(stream().generation, 3, 32 << 20).unwrap()
}

#[test]
fn a_wide_segment_whose_finishing_was_interrupted_has_no_hole_and_is_finished_later() {
    const MIB: u64 = 1 << 20;
    let folder = TestFolder::new();
    let (repository, session, stream) = (&folder.repository, &folder.session, wide());
    let (first, end) = (FIRST, FIRST + 32 * MIB);
    // A receiver's runs, cut wherever commits came.
    let mut at = first;
    while at < end {
        let to = (at + 5 * MIB + 77).min(end);
        let sealed = block_on(append_run(repository, session, &stream, at, &wal(at, to)));
        match to > stream.done_end(at) {
            // Across the place where a finished run ends nothing is stored.
            true => {
                assert_eq!(reaction(sealed), "damaged");
                let to = stream.done_end(at);
                at = block_on(append_run(repository, session, &stream, at, &wal(at, to))).unwrap();
            }
            false => at = sealed.unwrap(),
        }
    }
    let whole = |when: &str| {
        let covered = block_on(coverage(repository, &stream)).unwrap();
        assert_eq!(covered, [(first, end)], "{when}");
        for from in [0, 15, 16, 30] {
            let from = first + from * MIB;
            assert_eq!(
                block_on(contiguous_end(repository, &stream, from)).unwrap(),
                end,
                "{when}"
            );
            let mut next = from;
            let to = (from + 3 * MIB).min(end);
            let read = assemble(repository, stream, from, to, |start, bytes| {
                assert_eq!(start, next, "{when}");
                assert!(bytes == wal(start, start + bytes.len() as u64), "{when}: {start:x}");
                next += bytes.len() as u64;
                Ok(())
            });
            block_on(read).unwrap();
            assert_eq!(next, to, "{when}");
        }
    };
    whole("before");
    // Killed after the first finished run.
    let mut draft = DoneDraft::new(repository, session, &stream, first).unwrap();
    draft.bytes(&wal(first, first + 16 * MIB)).unwrap();
    let sealing = draft.finish(&index::Index::default()).unwrap();
    block_on(sealing.store(repository, &stream)).unwrap();
    whole("interrupted");
    let mut counting = Counting(first);
    for part in 0..2 {
        block_on(finish_run(
            repository,
            session,
            &stream,
            first + part * 16 * MIB,
            &mut counting,
        ))
        .unwrap();
        whole("finished");
    }
    let done: Vec<String> = (0..2).map(|part| stream.done_name(first + part * 16 * MIB)).collect();
    assert_eq!(names(&folder), done);
}

#[test]
fn a_mark_reads_back_and_the_furthest_one_counts() {
    let folder = TestFolder::new();
    let put = |position, at, replaced| {
        block_on(put_mark(
            &folder.repository,
            &folder.session,
            &stream(),
            position,
            at,
            replaced,
        ))
        .unwrap()
    };
    let newest = || block_on(newest_mark(&folder.repository, &stream())).unwrap();
    assert_eq!(newest(), None);
    let first = put(FIRST, 1_000_000, None);
    assert_eq!(newest(), Some(first));
    let second = put(FIRST, 2_000_000, Some(first));
    assert_eq!(put(FIRST, 2_000_000, Some(first)), second);
    assert_eq!(newest(), Some(second));
    let third = put(FIRST + 1, 1_500_000, None);
    assert_eq!(newest(), Some(third));
    let marks = block_on(folder.repository.store().list_after("marks/", "", 9)).unwrap();
    assert_eq!(marks.len(), 2, "a mark that was replaced is gone");
}

#[test]
fn a_finished_run_that_rotted_is_made_again_while_its_open_runs_are_here() {
    let folder = folder();
    let mut draft = DoneDraft::new(&folder.repository, &folder.session, &stream(), FIRST).unwrap();
    draft.bytes(&wal(FIRST, FIRST + SEGMENT)).unwrap();
    let sealing = draft.finish(&index::Index::default()).unwrap();
    block_on(sealing.store(&folder.repository, &stream())).unwrap();
    let (store, name) = (folder.repository.store(), stream().done_name(FIRST));
    for is_whole in [true, false] {
        let mut bytes = block_on(store.get(&name)).unwrap().unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        block_on(store.delete(&name)).unwrap();
        block_on(store.put_new(&name, bytes.into())).unwrap();
        if is_whole {
            finish(&folder, FIRST).unwrap();
            let (bytes, done) = assembled(&folder, FIRST, FIRST + SEGMENT);
            done.unwrap();
            assert!(bytes == wal(FIRST, FIRST + SEGMENT));
        } else {
            // Nothing is left that it could be made of.
            assert_eq!(reaction(finish(&folder, FIRST)), "damaged");
        }
    }
    assert_eq!(names(&folder).len(), 2);
}
