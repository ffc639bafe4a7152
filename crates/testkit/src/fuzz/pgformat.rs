//! What PostgreSQL wrote: its files, its WAL, its messages.

#![expect(
    clippy::expect_used,
    reason = "seeds are made in memory, which takes all that is written"
)]

use aws_lc_rs::digest;
use pgformat::{
    Lsn, Major, Tli,
    control::{Checkpoint, Control},
    exclude,
    history::History,
    label::BackupLabel,
    manifest::{Manifest, ManifestWriter, Version},
    page::{self, PageHeader, fold::Folder},
    protocol::{CreatedSlot, NextTimeline, StreamMessage, SystemIdentity, TimelineHistoryFile},
    relation,
    segment::{SegmentSize, WalFileName},
    tablespace_map,
    wal::{Geometry, Walker},
};

use super::Target;

const SLACK: usize = 64 << 10;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "pg_control",
        seeds: controls,
        run: control,
        slack: SLACK,
    },
    Target {
        name: "pg_label",
        seeds: labels,
        run: label,
        slack: SLACK,
    },
    Target {
        name: "pg_tablespace_map",
        seeds: maps,
        run: map,
        slack: SLACK,
    },
    Target {
        name: "pg_manifest",
        seeds: manifests,
        run: manifest,
        slack: SLACK,
    },
    Target {
        name: "pg_history",
        seeds: histories,
        run: history,
        slack: SLACK,
    },
    Target {
        name: "pg_names",
        seeds: names,
        run: name,
        slack: SLACK,
    },
    Target {
        name: "pg_page",
        seeds: pages,
        run: page,
        slack: SLACK,
    },
    Target {
        name: "pg_fold",
        seeds: pages,
        run: fold,
        slack: SLACK,
    },
    Target {
        name: "pg_messages",
        seeds: messages,
        run: message,
        slack: SLACK,
    },
    Target {
        name: "pg_rows",
        seeds: rows,
        run: row,
        slack: SLACK,
    },
    Target {
        name: "pg_wal",
        seeds: wals,
        run: wal,
        slack: SLACK,
    },
    Target {
        name: "pg_records",
        seeds: records,
        run: record,
        slack: SLACK,
    },
];

fn controls() -> Vec<Vec<u8>> {
    let real: [&[u8]; 3] = [
        include_bytes!("../../../pgformat/tests/fixtures/pg_control.15"),
        include_bytes!("../../../pgformat/tests/fixtures/pg_control.17"),
        include_bytes!("../../../pgformat/tests/fixtures/pg_control.18"),
    ];
    real.iter().map(|bytes| bytes[..300].to_vec()).collect()
}

/// As it is, and with each checksum that a version could want.
fn control(bytes: &[u8]) -> bool {
    for major in [Major::V15, Major::V17] {
        let _ = Checkpoint::from_record(bytes, major);
    }
    let mended = |at: usize| {
        let mut bytes = bytes.to_vec();
        let crc = crc32c::crc32c(bytes.get(..at)?).to_le_bytes();
        bytes.get_mut(at..at + 4)?.copy_from_slice(&crc);
        Control::parse(&bytes).ok()
    };
    let parsed = [Control::parse(bytes).ok(), mended(288), mended(292)];
    parsed
        .iter()
        .flatten()
        .filter(|control| control.wal_geometry().is_ok())
        .count()
        > 0
}

fn labels() -> Vec<Vec<u8>> {
    let label = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\n\
                 BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-01-01 10:00:00 UTC\nLABEL: nightly\n\
                 START TIMELINE: 1\n";
    let stop = "STOP TIME: 2026-01-01 10:00:05 UTC\nSTOP TIMELINE: 1\n";
    let history = label.replacen(
        "CHECKPOINT",
        "STOP WAL LOCATION: 0/2000138 (file 000000010000000000000002)\nCHECKPOINT",
        1,
    );
    vec![label.into(), (history + stop).into()]
}

fn label(bytes: &[u8]) -> bool {
    let Ok(label) = BackupLabel::parse(bytes) else {
        return false;
    };
    assert_eq!(BackupLabel::parse(label.print().as_bytes()), Ok(label));
    true
}

fn maps() -> Vec<Vec<u8>> {
    vec![b"16400 /mnt/fast\n16401 /mnt/with\\\\back\\\nslash\n".to_vec()]
}

fn map(bytes: &[u8]) -> bool {
    let Ok(tablespaces) = tablespace_map::parse(bytes) else {
        return false;
    };
    assert_eq!(
        tablespace_map::parse(&tablespace_map::print(&tablespaces)),
        Ok(tablespaces)
    );
    true
}

fn manifests() -> Vec<Vec<u8>> {
    let made = |version| {
        let mut writer = ManifestWriter::new(Vec::new(), version).expect("memory takes it");
        for (path, size) in [("base/5/1259", 8192), ("odd\u{e9}", 0)] {
            let checksum = Some(pgformat::manifest::Checksum::crc32c(7));
            let file = pgformat::manifest::File {
                path: path.into(),
                size,
                modified: 1_700_000_000,
                checksum,
            };
            writer.file(&file).expect("memory takes it");
        }
        let range = pgformat::manifest::WalRange {
            timeline: Tli(1),
            start: Lsn(0x2000028),
            end: Lsn(0x2000138),
        };
        writer.finish(&[range]).expect("memory takes it")
    };
    vec![made(Version::One), made(Version::Two { system_identifier: 7 })]
}

/// As it is, and with a checksum that fits.
fn manifest(bytes: &[u8]) -> bool {
    let valid = Manifest::parse(bytes).is_ok();
    let lines = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let last = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let checksum = digest::digest(&digest::SHA256, &bytes[..last]);
    let hex: String = checksum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let end = format!("\"Manifest-Checksum\": \"{hex}\"}}\n");
    Manifest::parse(&[&bytes[..last], end.as_bytes()].concat()).is_ok() || valid
}

fn histories() -> Vec<Vec<u8>> {
    vec![b"1\t0/3000000\tno recovery target specified\n\n2\t0/5000028\tbefore 2026-01-01\n".to_vec()]
}

fn history(bytes: &[u8]) -> bool {
    let read = |tip| {
        let Ok(history) = History::parse(tip, bytes) else {
            return false;
        };
        let ranges = history.ranges();
        assert!(!ranges.is_empty());
        for lsn in [Lsn(0), Lsn(0x3000000), Lsn(u64::MAX)] {
            let timeline = history.timeline_of(lsn);
            let _ = (
                history.contains(timeline, lsn),
                history.path(timeline, lsn, Lsn(u64::MAX)),
            );
        }
        let again = History::parse(tip, history.print().as_bytes());
        assert_eq!(again.map(|again| again.ranges()), Ok(ranges));
        true
    };
    [Tli(3), Tli(u32::MAX)].map(read).contains(&true)
}

fn names() -> Vec<Vec<u8>> {
    let names = [
        "base/5/16384_vm.3",
        "base/5/t3_16384",
        "pg_tblspc/16400/PG_15_202209061/5/2619_init",
        "000000010000000A000000FF.00000028.backup",
        "00000002.history",
        "1A/2B3C4D5E",
    ];
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

fn name(bytes: &[u8]) -> bool {
    if let Some(file) = relation::classify(bytes) {
        for offset in [0, 8192, u64::MAX] {
            let _ = (file.block_at(offset, 8192, 131_072), file.block_at(offset, 0, 0));
        }
    }
    let _ = relation::init_fork_of(bytes);
    let _ = (
        exclude::judge(bytes, exclude::Entry::File),
        exclude::judge(bytes, exclude::Entry::Directory),
    );
    let text = String::from_utf8_lossy(bytes);
    let _ = (Tli::from_hex(&text), Major::from_pg_version_file(bytes));
    let lsn = text.parse::<Lsn>();
    assert!(lsn.as_ref().is_ok_and(|lsn| lsn.to_string().parse() == Ok(*lsn)) || lsn.is_err());
    let mut valid = lsn.is_ok() || relation::classify(bytes).is_some();
    for size in [1 << 20, 1 << 30] {
        let Ok(size) = SegmentSize::new(size) else { continue };
        if let Ok(name) = WalFileName::parse(&text, size) {
            assert_eq!(WalFileName::parse(&name.file_name(size), size), Ok(name));
            valid = true;
        }
    }
    valid
}

fn pages() -> Vec<Vec<u8>> {
    vec![
        include_bytes!("../../../pgformat/tests/fixtures/pg_class.15.page").to_vec(),
        vec![0; 8192],
    ]
}

fn page(bytes: &[u8]) -> bool {
    for block in [0, u32::MAX] {
        let _ = page::verify(bytes, block, Lsn(u64::MAX));
        let _ = page::checksum(bytes, block);
    }
    let header = PageHeader::parse(bytes);
    header.is_some_and(|header| header.is_new() || header.page_size() > 0 || header.layout_version() > 0)
}

/// Input: pages in a row, the last of which may be short.
fn fold(bytes: &[u8]) -> bool {
    let mut pages = bytes.to_vec();
    let (mut folder, mut unfolder) = (Folder::default(), Folder::default());
    pages.chunks_mut(8192).for_each(|page| folder.fold(page));
    pages.chunks_mut(8192).for_each(|page| unfolder.unfold(page));
    assert_eq!(pages, bytes, "unfolding undoes folding");
    // What comes from a repository may never have been folded.
    let mut foreign = Folder::default();
    pages.chunks_mut(8192).for_each(|page| foreign.unfold(page));
    true
}

fn messages() -> Vec<Vec<u8>> {
    let mut wal = vec![b'w'];
    wal.extend_from_slice(&[0; 24]);
    wal.extend_from_slice(b"some WAL");
    let mut alive = vec![b'k'];
    alive.extend_from_slice(&[1; 17]);
    vec![wal, alive]
}

fn message(bytes: &[u8]) -> bool {
    let message = StreamMessage::parse(bytes);
    if let Ok(StreamMessage::Wal { start, bytes, .. }) = message {
        assert!(start.checked_add(bytes.len() as u64).is_some());
    }
    message.is_ok()
}

fn rows() -> Vec<Vec<u8>> {
    vec![
        b"7300000000000000001\n1\n0/3000000\n".to_vec(),
        b"2\n0/5000028".to_vec(),
        b"lastgood_backup_1\n0/0\n\n".to_vec(),
        b"00000002.history\n1\t0/3000000\tx".to_vec(),
    ]
}

/// Input: columns, a line each; an empty one is NULL.
fn row(bytes: &[u8]) -> bool {
    let columns: Vec<Option<&[u8]>> = bytes
        .split(|byte| *byte == b'\n')
        .map(|column| (!column.is_empty()).then_some(column))
        .collect();
    let text: Vec<Option<&str>> = columns
        .iter()
        .map(|column| column.and_then(|column| std::str::from_utf8(column).ok()))
        .collect();
    let rows = [
        SystemIdentity::parse(&text).is_ok(),
        NextTimeline::parse(&text).is_ok(),
        CreatedSlot::parse(&text).is_ok(),
        TimelineHistoryFile::parse(&columns).is_ok(),
    ];
    rows.contains(&true)
}

fn wals() -> Vec<Vec<u8>> {
    let real: [&[u8]; 2] = [
        include_bytes!("../../../pgformat/tests/fixtures/wal.15"),
        include_bytes!("../../../pgformat/tests/fixtures/wal.18"),
    ];
    real.iter()
        .map(|bytes| bytes[..bytes.len().min(24 << 10)].to_vec())
        .collect()
}

/// From the first byte of a segment, in pieces.
fn wal(bytes: &[u8]) -> bool {
    // The position is what the first page says of itself: else nothing after its header would ever be looked at.
    let start = bytes
        .get(8..16)
        .and_then(|bytes| bytes.first_chunk())
        .map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let mut records = 0;
    for (size, piece) in [(1u64 << 20, 8192), (16 << 20, 777)] {
        let Ok(size) = SegmentSize::new(size) else { continue };
        let Ok(mut walker) = Walker::new(Geometry::standard(size), Lsn(start)) else {
            continue;
        };
        records += walk(&mut walker, bytes, piece);
    }
    records > 0
}

/// How many records there are.
fn walk(walker: &mut Walker, bytes: &[u8], piece: usize) -> u64 {
    let mut records = 0;
    for piece in bytes.chunks(piece) {
        let before = walker.position();
        let fed = walker.feed(piece, |record| {
            records += 1;
            let _ = (record.xlog(), record.main_data(), record.kind(), record.total_length());
        });
        if fed.is_err() {
            break;
        }
        assert_eq!(walker.position(), Lsn(before.0 + piece.len() as u64));
    }
    let _ = (walker.tail(), walker.leading());
    records
}

fn records() -> Vec<Vec<u8>> {
    let mut end = vec![0, 0x50, 10, 255, 8];
    end.extend_from_slice(&0x5000028u64.to_le_bytes());
    let mut switch = end.clone();
    switch.extend_from_slice(&[0, 0x40, 0]);
    vec![end, switch]
}

/// Input: for each record its resource manager, kind, length and body. They are laid out with checksums that fit, so
/// that what looks at records is reached.
fn record(bytes: &[u8]) -> bool {
    const START: u64 = 5 << 20;
    let mut wal = Vec::new();
    wal.extend_from_slice(&Major::V15.wal_magic().to_le_bytes());
    wal.extend_from_slice(&2u16.to_le_bytes());
    wal.extend_from_slice(&1u32.to_le_bytes());
    wal.extend_from_slice(&START.to_le_bytes());
    wal.extend_from_slice(&0u64.to_le_bytes());
    wal.extend_from_slice(&7u64.to_le_bytes());
    wal.extend_from_slice(&(1u32 << 20).to_le_bytes());
    wal.extend_from_slice(&8192u32.to_le_bytes());
    let (mut rest, mut previous) = (bytes, START - 8);
    while let [rmid, info, length, after @ ..] = rest {
        let (body, after) = after.split_at(usize::from(*length).min(after.len()));
        if wal.len() + 24 + body.len() + 8 > 8192 {
            break;
        }
        let lsn = START + wal.len() as u64;
        let mut header = [0; 24];
        header[..4].copy_from_slice(&(24 + body.len() as u32).to_le_bytes());
        header[8..16].copy_from_slice(&previous.to_le_bytes());
        (header[16], header[17]) = (*info, *rmid);
        let crc = crc32c::crc32c_append(crc32c::crc32c(body), &header[..20]);
        header[20..].copy_from_slice(&crc.to_le_bytes());
        wal.extend_from_slice(&header);
        wal.extend_from_slice(body);
        wal.resize(wal.len().next_multiple_of(8), 0);
        (rest, previous) = (after, lsn);
    }
    let Ok(size) = SegmentSize::new(1 << 20) else {
        return false;
    };
    let Ok(mut walker) = Walker::new(Geometry::standard(size), Lsn(START)) else {
        return false;
    };
    walk(&mut walker, &wal, 8192) > 0
}
