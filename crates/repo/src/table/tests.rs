use super::*;
use crate::{
    bytes_codec::{Malformed, Reader, put_text, put_varint},
    envelope::{Kind, Pin},
    leaf::{Extent, PageRef},
    names,
    sources::Sources,
    test_folder::{TestFolder, id, owner_only, reaction},
};
use futures::executor::block_on;
use proptest::prelude::*;

const BLOCK: u32 = 8192;

fn directory(path: &str) -> Entry {
    Entry {
        path: path.into(),
        kind: EntryKind::Directory,
        mode: 0o700,
        modified_micros: -5,
    }
}

fn whole(pages: u32, source: u32) -> LeafSlot {
    let pages_at = PageRef {
        source,
        pack: 7,
        frame: 3,
        slot: 1,
    };
    LeafSlot::Inline(Leaf(vec![Extent {
        pages,
        pages_at,
        base: None,
    }]))
}

fn file(path: &str, size: u64, leaves: Vec<LeafSlot>) -> Entry {
    Entry {
        kind: EntryKind::File {
            size,
            relation: size > 0,
            leaves,
        },
        mode: 0o600,
        modified_micros: 1_700_000_000_000_000,
        ..directory(path)
    }
}

fn link(path: &str, target: &str) -> Entry {
    Entry {
        kind: EntryKind::Link { target: target.into() },
        mode: 0o777,
        ..directory(path)
    }
}

fn encoded(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::new();
    entry.encode(&[], &mut out);
    out
}

fn decoded(bytes: &[u8]) -> Result<Entry, Malformed> {
    Entry::decode(&mut Reader::new(bytes), &[], BLOCK, 1)
}

fn write(folder: &TestFolder, entries: &[Entry], sources: &Sources) -> crate::Result<WrittenTable> {
    block_on(async {
        let mut writer = TableWriter::new(&folder.repository, &folder.session, sources.owner(), BLOCK)?;
        for entry in entries {
            writer.push(entry, sources).await?;
        }
        writer.finish(sources).await
    })
}

fn read(folder: &TestFolder, pins: &[Pin], into: &mut Sources) -> crate::Result<Vec<Entry>> {
    block_on(async {
        let mut reader = TableReader::new(&folder.repository, id(0), pins.to_vec(), BLOCK)?;
        let mut entries = Vec::new();
        while let Some(entry) = reader.next(into).await? {
            entries.push(entry);
        }
        Ok(entries)
    })
}

#[test]
fn a_table_reads_back_in_order() {
    let folder = TestFolder::new();
    let mut sources = Sources::new(id(0));
    sources.intern(id(1));
    let at = LeafRef {
        source: 1,
        map: 2,
        frame: 3,
        number: 4,
    };
    let mut entries = vec![
        directory(""),
        directory("base"),
        file("base/1", 0, Vec::new()),
        file("base/2", 8192 * 2048 + 1, vec![LeafSlot::Ref(at), whole(1, 1)]),
    ];
    // Enough for many frames.
    entries.extend((0..40_000).map(|number| file(&format!("base/5/{number:06}"), 9000, vec![whole(2, 0)])));
    entries.push(link("pg_tblspc/16400", "/mnt/fast"));
    let written = write(&folder, &entries, &sources).unwrap();
    assert_eq!(
        (written.counts.files, written.counts.directories, written.counts.links),
        (40_002, 2, 1)
    );

    let mut other = Sources::new(id(9));
    let found = read(&folder, &written.pins, &mut other).unwrap();
    assert_eq!(found.len(), entries.len());
    assert!(
        found
            .iter()
            .zip(&entries)
            .all(|(a, b)| a.path == b.path && a.mode == b.mode)
    );
    let EntryKind::File { leaves, .. } = &found[3].kind else {
        panic!()
    };
    let LeafSlot::Ref(moved) = leaves[0] else { panic!() };
    assert_eq!(
        other.get(moved.source),
        Some(id(1)),
        "a reference names the same backup by any list"
    );
}

#[test]
fn a_table_of_nothing_has_no_object() {
    let folder = TestFolder::new();
    let written = write(&folder, &[], &Sources::new(id(0))).unwrap();
    assert!(written.pins.is_empty());
    assert_eq!(read(&folder, &[], &mut Sources::new(id(0))).unwrap(), []);
}

#[test]
fn paths_that_leave_the_data_directory_are_refused() {
    let folder = TestFolder::new();
    for path in [
        "/etc/passwd",
        "..",
        "../x",
        "base/../../x",
        "base/..",
        "base/./x",
        ".",
        "base//x",
        "base/",
        "base\0x",
        &"x".repeat(4097),
    ] {
        for entry in [directory(path), file(path, 0, Vec::new()), link(path, "/mnt")] {
            assert!(decoded(&encoded(&entry)).is_err(), "{path:?} was read");
            let written = write(&folder, &[entry], &Sources::new(id(0)));
            assert_eq!(reaction(written), "damaged", "{path:?} was written");
        }
    }
    assert!(decoded(&encoded(&file("", 0, Vec::new()))).is_err());
    assert!(decoded(&encoded(&file("..x/...", 0, Vec::new()))).is_ok());
}

#[test]
fn a_link_stands_only_for_a_tablespace() {
    for (path, target, taken) in [
        ("pg_tblspc/16400", "/mnt/fast", true),
        ("pg_tblspc/4294967295", "relative", true),
        ("base", "/mnt/fast", false),
        ("pg_tblspc", "/mnt/fast", false),
        ("pg_tblspc/016400", "/mnt/fast", false),
        ("pg_tblspc/+1", "/mnt/fast", false),
        ("pg_tblspc/0", "/mnt/fast", false),
        ("pg_tblspc/4294967296", "/mnt/fast", false),
        ("pg_tblspc/16400/x", "/mnt/fast", false),
        ("pg_tblspc/16400", "", false),
        ("pg_tblspc/16400", "/mnt\0", false),
    ] {
        let read = decoded(&encoded(&link(path, target)));
        assert_eq!(read.is_ok(), taken, "{path} to {target:?}");
    }
}

#[test]
fn impossible_modes_flags_and_types_are_refused() {
    for mode in [0o10000, u32::MAX] {
        let entry = Entry { mode, ..directory("a") };
        assert!(decoded(&encoded(&entry)).is_err(), "{mode:o} was taken");
    }
    let mut flags = encoded(&file("a", 0, Vec::new()));
    *flags.last_mut().unwrap() = 2;
    assert!(decoded(&flags).is_err());
    let mut kind = encoded(&directory("a"));
    kind[3] = 3;
    assert!(decoded(&kind).is_err());
}

#[test]
fn a_file_has_the_leaves_its_size_needs() {
    let folder = TestFolder::new();
    for (size, leaves) in [
        (1, Vec::new()),
        (0, vec![whole(1, 0)]),
        (8193, vec![whole(1, 0)]),
        (8192, vec![whole(1, 1)]),
        (8192 * 2048, vec![whole(2047, 0), whole(1, 0)]),
    ] {
        let entry = file("a", size, leaves);
        assert_eq!(
            reaction(write(&folder, &[entry], &Sources::new(id(0)))),
            "damaged",
            "{size}"
        );
    }
    let mut huge = encoded(&file("a", 0, Vec::new()));
    huge.truncate(huge.len() - 2);
    put_varint(&mut huge, u64::MAX);
    huge.push(0);
    assert!(decoded(&huge).is_err(), "a count larger than the input was believed");
}

#[test]
fn a_table_with_differences_of_its_own_says_so_and_is_read_back() {
    let folder = TestFolder::new();
    let at = |slot| PageRef {
        source: 0,
        pack: 0,
        frame: 0,
        slot,
    };
    let leaf = |base| {
        LeafSlot::Inline(Leaf(vec![Extent {
            pages: 1,
            pages_at: at(0),
            base,
        }]))
    };
    let entries = [
        file("a", 8192, vec![leaf(None)]),
        file("ab", 8192, vec![leaf(Some(at(7)))]),
        file("abc", 8192, vec![leaf(None)]),
    ];
    let written = write(&folder, &entries, &Sources::new(id(0))).unwrap();
    let features = |number| {
        let bytes = block_on(folder.repository.store().get(&names::files(&id(0), number)));
        bytes.unwrap().unwrap()[12]
    };
    assert_eq!([features(0), features(1)], [0, 2]);
    assert_eq!(read(&folder, &written.pins, &mut Sources::new(id(0))).unwrap(), entries);
}

#[test]
fn entries_out_of_order_are_not_written() {
    let folder = TestFolder::new();
    for (first, second) in [("b", "a"), ("a", "a"), ("a/b", "a")] {
        let entries = [directory(first), directory(second)];
        assert_eq!(reaction(write(&folder, &entries, &Sources::new(id(0)))), "damaged");
    }
    assert_eq!(
        reaction(write(&folder, &[directory("a"), directory("a-")], &Sources::new(id(0)))),
        "ok"
    );
}

/// Reads a table of these objects, each of these frames, each of these entries; a frame's first path in the
/// directory is that of its first entry.
fn read_raw(objects: &[&[&[&str]]]) -> &'static str {
    let folder = TestFolder::new();
    let mut pins = Vec::new();
    for (number, frames) in (0..).zip(objects) {
        let (mut extra, mut raw) = (owner_only(id(0)), Vec::new());
        for paths in *frames {
            put_text(&mut extra, paths.first().unwrap_or(&"a").as_bytes());
            raw.push(
                paths
                    .iter()
                    .flat_map(|path| encoded(&directory(path)))
                    .collect::<Vec<_>>(),
            );
        }
        let raw: Vec<&[u8]> = raw.iter().map(Vec::as_slice).collect();
        pins.push(folder.put_raw(Kind::Files, &names::files(&id(0), number), &raw, extra));
    }
    reaction(read(&folder, &pins, &mut Sources::new(id(0))))
}

#[test]
fn entries_out_of_order_are_not_read() {
    assert_eq!(read_raw(&[&[&["", "a"], &["b"]], &[&["c"]]]), "ok");
    assert_eq!(read_raw(&[&[&["b", "a"]]]), "damaged");
    assert_eq!(read_raw(&[&[&["a", "a"]]]), "damaged");
    assert_eq!(read_raw(&[&[&["a"], &["a"]]]), "damaged");
    assert_eq!(read_raw(&[&[&["a", "c"], &["b"]]]), "damaged");
    assert_eq!(read_raw(&[&[&["a", "c"]], &[&["b"]]]), "damaged");
    assert_eq!(read_raw(&[&[&["a"]], &[&["a"]]]), "damaged");
    assert_eq!(read_raw(&[&[&["../x"]]]), "damaged");
    assert_eq!(read_raw(&[&[&[]]]), "damaged");
    assert_eq!(read_raw(&[&[]]), "damaged");
}

#[test]
fn a_directory_that_disagrees_with_its_frames_is_refused() {
    let folder = TestFolder::new();
    let entry = encoded(&directory("a"));
    let extras: [&[&[u8]]; 3] = [&[b"b"], &[], &[b"a", b"b"]];
    for (number, firsts) in (0..).zip(extras) {
        let mut extra = owner_only(id(number));
        firsts.iter().for_each(|first| put_text(&mut extra, first));
        let pin = folder.put_raw(Kind::Files, &names::files(&id(number), 0), &[&entry], extra);
        let mut reader = TableReader::new(&folder.repository, id(number), vec![pin], BLOCK).unwrap();
        assert_eq!(reaction(block_on(reader.next(&mut Sources::new(id(0))))), "damaged");
    }
}

#[test]
fn a_table_object_that_was_replaced_or_lost_is_found() {
    let folder = TestFolder::new();
    let mut pins = write(&folder, &[directory("")], &Sources::new(id(0))).unwrap().pins;
    pins.push(pins[0]);
    assert_eq!(reaction(read(&folder, &pins, &mut Sources::new(id(0)))), "missing");
    pins.truncate(1);
    pins[0].hash[0] ^= 1;
    assert_eq!(reaction(read(&folder, &pins, &mut Sources::new(id(0)))), "damaged");
}

proptest! {
    #[test]
    fn no_bytes_panic_an_entry(bytes: Vec<u8>, previous: Vec<u8>) {
        let _ = Entry::decode(&mut Reader::new(&bytes), &previous, BLOCK, 3);
        let mut framed = vec![0, 1, b'a', 1];
        framed.extend_from_slice(&bytes);
        let _ = decoded(&framed);
    }

    #[test]
    fn an_entry_reads_back_whatever_came_before_it(
        path in "[a-zé]{1,9}(/[a-z]{1,9}){0,3}", previous in "[a-zé/]{0,9}", mode in 0u32..=0o7777, time: i64, pages in 1u32..2048,
    ) {
        let entry = Entry { mode, modified_micros: time, ..file(&path, u64::from(pages) * 8192, vec![whole(pages, 0)]) };
        let mut bytes = Vec::new();
        entry.encode(previous.as_bytes(), &mut bytes);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(Entry::decode(&mut reader, previous.as_bytes(), BLOCK, 1), Ok(entry));
        prop_assert!(reader.is_empty());
    }
}
