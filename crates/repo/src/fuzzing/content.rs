//! What stands behind the seal.
//!
//! What is in its one form is written again and must come out as it was: two readers cannot differ on it then.

use std::sync::Arc;

use crate::{
    bytes_codec::{Malformed, Reader, put_text, put_varint},
    envelope::{Codec, Directory, Frame, HEADER},
    leaf::{Extent, Leaf, LeafRef, PageRef},
    ledger::{self, Record},
    manifest::{Facts, KeptFile, Needed, ObjectRef, decode_kept, encode_kept},
    map, pack,
    sources::Sources,
    table::{self, Entry, EntryKind, LeafSlot, TableFrame},
};

use super::{Target, owner, sources};

const BLOCK: u32 = 8192;

/// The frames of an object. Input: end (a varint) and the directory.
pub(super) const DIRECTORY: Target = Target {
    name: "repo_directory",
    seeds: || {
        let frame = |offset: u64, sealed| Frame {
            offset,
            sealed,
            raw: 9000,
            codec: Codec::Zstd,
        };
        let directory = Directory {
            frames: vec![frame(HEADER as u64, 100), frame(HEADER as u64 + 100, 70_000)],
            extra: b"extra".to_vec(),
        };
        let mut seed = Vec::new();
        put_varint(&mut seed, HEADER as u64 + 70_100);
        seed.extend_from_slice(&directory.encode());
        vec![seed]
    },
    run: |bytes| {
        let mut reader = Reader::new(bytes);
        let Ok(end) = reader.varint() else { return false };
        let frames = Reader::new(reader.rest()).varint().unwrap_or(0) as u32;
        let directory = Directory::decode("it", reader.rest(), frames, end);
        directory.is_ok_and(|directory| same(&directory.encode(), reader.rest()))
    },
    slack: 64 << 10,
};

/// A leaf. Input: its pages (a varint) and the leaf.
pub(super) const LEAF: Target = Target {
    name: "repo_leaf",
    seeds: || {
        let leaf = |leaf: &Leaf| {
            let mut seed = Vec::new();
            put_varint(&mut seed, 48);
            leaf.encode(&mut seed);
            seed
        };
        vec![leaf(&whole()), leaf(&other())]
    },
    run: |bytes| {
        let mut reader = Reader::new(bytes);
        let Ok(pages) = reader.varint32() else { return false };
        let before = reader.rest();
        let Ok(mut leaf) = Leaf::decode(&mut reader, pages, 3) else {
            return false;
        };
        let mut again = Vec::new();
        leaf.encode(&mut again);
        let mut into = Sources::new(owner());
        leaf.renumber(&sources(), &mut into);
        same(&again, &before[..before.len() - reader.rest().len()])
    },
    slack: 64 << 10,
};

/// A frame of a map. Input: number and pages of a leaf (varints), and the frame.
pub(super) const MAP_FRAME: Target = Target {
    name: "repo_map_frame",
    seeds: || {
        let mut seed = vec![1, 48, 2];
        for leaf in [other(), whole()] {
            let mut encoded = Vec::new();
            leaf.encode(&mut encoded);
            put_text(&mut seed, &encoded);
        }
        vec![seed]
    },
    run: |bytes| {
        let mut reader = Reader::new(bytes);
        let (Ok(number), Ok(pages)) = (reader.varint32(), reader.varint32()) else {
            return false;
        };
        map::find(reader.rest(), number, pages, 3).is_ok()
    },
    slack: 64 << 10,
};

/// The directory of an object of a file table. Input: number of frames (a varint) and the kind's part.
pub(super) const TABLE_DIRECTORY: Target = Target {
    name: "repo_table_directory",
    seeds: || {
        let mut seed = vec![2];
        sources().encode(&mut seed);
        put_text(&mut seed, b"");
        put_text(&mut seed, b"base/5/1259");
        vec![seed]
    },
    run: |bytes| {
        let mut reader = Reader::new(bytes);
        let Ok(frames) = reader.varint32() else { return false };
        table::decode_extra(reader.rest(), frames as usize, owner()).is_ok()
    },
    slack: 64 << 10,
};

/// A frame of a file table. Input: its first path (a text), and the frame.
pub(super) const TABLE_FRAME: Target = Target {
    name: "repo_table_frame",
    seeds: || {
        let mut seed = Vec::new();
        put_text(&mut seed, b"");
        seed.extend_from_slice(&encode_all(&entries()));
        vec![seed]
    },
    run: |bytes| {
        let mut reader = Reader::new(bytes);
        let Ok(first) = reader.text() else { return false };
        let mut into = sources();
        let sources = Arc::new(sources());
        let mut frame = TableFrame::new("it", reader.rest().to_vec(), first.to_vec(), sources);
        let mut entries = Vec::new();
        loop {
            match frame.next(BLOCK, &mut into) {
                Ok(Some(entry)) => entries.push(entry),
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        // A path may be written as sharing less with the one before than it could.
        let again = encode_all(&entries);
        again.len() < reader.rest().len() || same(&again, reader.rest())
    },
    slack: 64 << 10,
};

/// Frame 0 of a manifest.
pub(super) const MANIFEST_FACTS: Target = Target {
    name: "repo_manifest_facts",
    seeds: || vec![FACTS.as_bytes().to_vec()],
    run: |bytes| {
        let Ok(facts) = serde_json::from_slice::<Facts>(bytes) else {
            return false;
        };
        if facts.check(&facts.backup, &facts.database).is_err() {
            return false;
        }
        let ranges = facts.wal_needed();
        assert!(ranges.iter().all(|range| range.from < range.to));
        assert_eq!(ranges.first().map(|range| range.from), Some(facts.start.lsn));
        let again = serde_json::to_vec(&facts).unwrap();
        assert_eq!(serde_json::from_slice::<Facts>(&again).unwrap(), facts);
        true
    },
    slack: 64 << 10,
};

/// Frame 1 of a manifest.
pub(super) const MANIFEST_NEEDED: Target = Target {
    name: "repo_manifest_needed",
    seeds: || {
        let object = |source, number| ObjectRef {
            source,
            number,
            size: 24 << 20,
            directory: 4000,
            hash: [8; 32],
            holds: 1,
            used: 1,
        };
        let needed = Needed {
            sources: sources(),
            packs: vec![object(0, 0), object(0, 1), object(2, 0)],
            maps: vec![object(1, 9)],
        };
        vec![needed.encode()]
    },
    run: |bytes| {
        let Ok(needed) = Needed::decode(bytes, &owner()) else {
            return false;
        };
        for pack in &needed.packs {
            let backup = needed.sources.get(pack.source).unwrap();
            assert_eq!(needed.pack(&backup, pack.number), Some(pack));
        }
        same(&needed.encode(), bytes)
    },
    slack: 64 << 10,
};

/// Frame 2 of a manifest.
pub(super) const MANIFEST_KEPT: Target = Target {
    name: "repo_manifest_kept",
    seeds: || {
        let file = |path: &str| KeptFile {
            path: path.into(),
            mode: 0o600,
            content: b"START WAL LOCATION".to_vec(),
        };
        vec![encode_kept(&[file("backup_label"), file("global/pg_control")])]
    },
    run: |bytes| decode_kept(bytes).is_ok_and(|files| same(&encode_kept(&files), bytes)),
    slack: 64 << 10,
};

/// The kind's part of a pack's directory. Input: raw lengths of frames (a varint number of varints), and that part.
pub(super) const PACK_DIRECTORY: Target = Target {
    name: "repo_pack_directory",
    seeds: || {
        let mut seed = Vec::new();
        for number in [2, 16384, 300] {
            put_varint(&mut seed, number);
        }
        seed.extend_from_slice(&[0, 2, 0]);
        seed.extend_from_slice(&[1; 16]);
        seed.extend_from_slice(&[0, 3, 1, 100, 50, 150, 1]);
        seed.extend_from_slice(&[2; 24]);
        let mut differences = vec![1, 160, 1, 1, 2, 1, 90, 70];
        differences.extend_from_slice(&[3; 16]);
        vec![seed, differences]
    },
    run: |bytes| {
        let mut reader = Reader::new(bytes);
        let raw = (|| {
            let count = reader.count(1)?;
            (0..count)
                .map(|_| reader.varint32())
                .collect::<Result<Vec<u32>, Malformed>>()
        })();
        let Ok(raw) = raw else { return false };
        let Ok(frames) = pack::decode_extra(reader.rest(), &raw, BLOCK as usize) else {
            return false;
        };
        for (frame, raw) in frames.iter().zip(raw) {
            for slot in 0..frame.slots.count() {
                let range = frame.slots.range(slot, BLOCK as usize).unwrap();
                assert!(range.start <= range.end && range.end <= raw as usize);
            }
        }
        true
    },
    slack: 64 << 10,
};

/// A slot of a frame of differences. Input: the base page up to where it is zeroes (a text), and the slot.
pub(super) const DIFFERENCE: Target = Target {
    name: "repo_difference",
    seeds: || {
        let (mut page, base) = (vec![0; BLOCK as usize], vec![0; BLOCK as usize]);
        page[100..104].copy_from_slice(b"page");
        let mut differ = pack::Differ::new(BLOCK as usize).unwrap();
        let mut seed = Vec::new();
        put_text(&mut seed, b"");
        seed.extend_from_slice(differ.difference(&page, &base).unwrap());
        vec![seed]
    },
    run: |bytes| {
        let mut reader = Reader::new(bytes);
        let Ok(text) = reader.text() else { return false };
        let (mut page, mut base) = (vec![0; BLOCK as usize], vec![0; BLOCK as usize]);
        let Some(head) = base.get_mut(..text.len()) else {
            return false;
        };
        head.copy_from_slice(text);
        pack::difference::makes_page(&base, reader.rest(), &mut page)
    },
    // zstd's own context and the tables of a dictionary.
    slack: 512 << 10,
};

/// An entry of the ledger, after its signature.
pub(super) const LEDGER_RECORD: Target = Target {
    name: "repo_ledger_record",
    seeds: || {
        vec![
            record(RUN_STARTED),
            record(COMMITTED),
            record(r#"{"kind":"later","required":true}"#),
        ]
    },
    run: |bytes| {
        let Ok(record) = Record::decode(12, bytes) else {
            return false;
        };
        let unknown = matches!(record.entry, ledger::Entry::Unknown { .. });
        // What this version does not know it cannot write either.
        assert!(unknown || Record::decode(12, &record.encode().unwrap()).unwrap() == record);
        true
    },
    slack: 64 << 10,
};

fn record(entry: &str) -> Vec<u8> {
    let (prev, operation) = ("0".repeat(64), "a".repeat(32));
    format!(r#"{{"n":12,"prev":"{prev}","at":5,"writer":"host","operation":"{operation}","entry":{entry}}}"#)
        .into_bytes()
}

const RUN_STARTED: &str = r#"{"kind":"run-started","run":"r","session":"s","what":"receive"}"#;
const COMMITTED: &str = concat!(
    r#"{"kind":"committed","run":"r","manifest":{"object":"backups/r/manifest","hash":"00","size":9},"#,
    r#""references":{"backups":[]},"summary":{"kind":"full","started":1,"stopped":2,"timeline":1,"start_lsn":"0/28","#,
    r#""bytes":3,"stored":4,"files":5,"databases":6}}"#
);
const FACTS: &str = concat!(
    r#"{"backup":"20231114T221320Z-000000","database":"02020202020202020202020202020202","kind":"full","parent":null,"#,
    r#""label":"x","started":1,"stopped":2,"tool":"0.1.0","postgresql":{"version":"15.18","version_num":150018,"#,
    r#""generation":"7300000000000000001","catalog_version":202209061,"control_version":1300,"block_size":8192,"#,
    r#""wal_block_size":8192,"segment_size":16777216,"relation_segment_blocks":131072,"data_checksums":true,"#,
    r#""superuser":"postgres","collations":[{"database":"app","provider":"c","version":null}]},"#,
    r#""start":{"lsn":"1/28","timeline":2},"stop":{"lsn":"1/1000000","timeline":2,"record":"1/100"},"#,
    r#""history":[{"timeline":1,"end":"0/50000000"}],"tablespaces":[],"owner":{"user":"postgres","group":"postgres"},"#,
    r#""objects":{"files":[{"size":5,"hash":"abababababababababababababababababababababababababababababababab"}]},"#,
    r#""totals":{"files":1,"bytes":2,"pages":3,"packs":4,"stored":5,"page_errors":1},"#,
    r#""page_errors":[{"path":"base/5/1259","block":3}]}"#
);

fn same(again: &[u8], bytes: &[u8]) -> bool {
    assert_eq!(again, bytes, "a second encoding of the same");
    true
}

fn encode_all(entries: &[Entry]) -> Vec<u8> {
    let (mut out, mut previous) = (Vec::new(), &[][..]);
    for entry in entries {
        entry.encode(previous, &mut out);
        previous = &entry.path;
    }
    out
}

fn page_at(source: u32, slot: u32) -> PageRef {
    PageRef {
        source,
        pack: 3,
        frame: 70_000,
        slot,
    }
}

fn whole() -> Leaf {
    let extent = |pages, base| Extent {
        pages,
        pages_at: page_at(1, 4),
        base,
    };
    Leaf(vec![extent(32, None), extent(16, Some(page_at(2, 511)))])
}

fn other() -> Leaf {
    Leaf(vec![Extent {
        pages: 48,
        pages_at: page_at(0, 0),
        base: None,
    }])
}

fn entries() -> Vec<Entry> {
    let entry = |path: &str, kind| Entry {
        path: path.into(),
        kind,
        mode: 0o700,
        modified_micros: -5,
    };
    let leaf = Leaf(vec![Extent {
        pages: 1,
        pages_at: page_at(0, 7),
        base: None,
    }]);
    let reference = LeafRef {
        source: 1,
        map: 0,
        frame: 2,
        number: 3,
    };
    let file = |size, leaves| EntryKind::File {
        size,
        relation: true,
        leaves,
    };
    vec![
        entry("", EntryKind::Directory),
        entry("base", EntryKind::Directory),
        entry("base/5/1259", file(100, vec![LeafSlot::Inline(leaf)])),
        entry("base/5/1260", file(8192 * 2048, vec![LeafSlot::Ref(reference)])),
        entry(
            "pg_tblspc/16400",
            EntryKind::Link {
                target: b"/mnt/fast".to_vec(),
            },
        ),
    ]
}
