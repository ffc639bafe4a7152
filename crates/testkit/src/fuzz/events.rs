//! What WAL records say: their parts, and what these mean.
//!
//! The records are made here, so that no checksum keeps mutations from the decoders behind it.

use pgformat::{
    Lsn, Major,
    wal::{DatabaseChange, Event, Record},
};

use super::Target;

const SLACK: usize = 64 << 10;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "pg_record_parts",
        seeds: bodies,
        run: body,
        slack: SLACK,
    },
    Target {
        name: "pg_record_events",
        seeds: events,
        run: event,
        slack: SLACK,
    },
];

/// Input: version, resource manager, kind, then everything behind the record's header.
fn body(bytes: &[u8]) -> bool {
    let [version, rmid, info, body @ ..] = bytes else {
        return false;
    };
    read(*version, *rmid, *info, body)
}

fn bodies() -> Vec<Vec<u8>> {
    // A page with data, one of the same relation with an image that has a hole, one compressed.
    let mut blocks = vec![0, 0x20, 2, 0];
    blocks.extend(numbers(&[1663, 5, 16_384, 7]));
    blocks.extend([1, 0x90, 0, 0, 4, 0, 100, 0, 0x03]);
    blocks.extend(numbers(&[8]));
    blocks.extend([2, 0x91, 0, 0, 3, 0, 100, 0, 0x07, 50, 0]);
    blocks.extend(numbers(&[9]));
    let ends: [&[u8]; 3] = [
        &[253, 1, 0, 252, 9, 0, 0, 0, 255, 3],
        &[255, 3],
        &[253, 1, 0, 254, 3, 0, 0, 0],
    ];
    let mut seeds = Vec::new();
    for (version, end) in [(5, ends[0]), (2, ends[1]), (0, ends[2])] {
        // Before 15 the bits of an image mean others: this one has the two kinds of image that read alike.
        let mut seed = vec![version, 10, 0x00];
        seed.extend(&blocks[..20]);
        match version {
            0 => {
                seed.extend([2, 0x91, 0, 0, 3, 0, 100, 0, 0x07, 50, 0]);
                seed.extend(numbers(&[9]));
                seed.extend(end);
                seed.extend([1, 2, 0xA, 0xB, 0xC, 7, 0, 0]);
            }
            _ => {
                seed.extend(&blocks[20..]);
                seed.extend(end);
                seed.extend([1, 2, 0xA, 0xA, 0xA, 0xA, 0xB, 0xB, 0xB, 7, 0, 0]);
            }
        }
        seeds.push(seed);
    }
    seeds
}

/// Input: version, resource manager, kind, then the main data of a record that refers to one page.
fn event(bytes: &[u8]) -> bool {
    let [version, rmid, info, main @ ..] = bytes else {
        return false;
    };
    let mut body = vec![0, 0, 0, 0];
    body.extend(numbers(&[1663, 5, 16_384, 7]));
    body.push(254);
    body.extend((main.len() as u32).to_le_bytes());
    body.extend(main);
    read(*version, *rmid, *info, &body)
}

fn events() -> Vec<Vec<u8>> {
    let seed = |version: u8, rmid: u8, info: u8, main: &[Vec<u8>]| [vec![version, rmid, info], main.concat()].concat();
    let time = vec![1, 2, 3, 4, 5, 6, 7, 0];
    let commit = [
        time.clone(),
        // Database, subtransactions, relations, invalidations, two phases with a name; statistics too.
        numbers(&[0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x80 | 0x100, 5, 1663]),
        numbers(&[2, 701, 702]),
        numbers(&[1, 1663, 5, 16_384]),
    ];
    let after = [numbers(&[1, 1, 2, 3, 4, 700]), b"gid\0".to_vec()];
    let prepare = [
        numbers(&[0x57F9_4534, 200, 700, 5]),
        time.clone(),
        numbers(&[10, 1, 1, 0]),
        numbers(&[0, 0]),
        numbers(&[0]),
        vec![0, 0, 4, 0],
        vec![0; 16],
        b"gid\0\0\0\0\0".to_vec(),
        numbers(&[701, 0, 1663, 5, 16_384, 0]),
    ];
    vec![
        seed(
            5,
            1,
            0xB0,
            &[commit.concat(), numbers(&[1, 1, 2, 3, 4]), after.concat()],
        ),
        seed(2, 1, 0xB0, &[commit.concat(), numbers(&[1, 1, 2, 3]), after.concat()]),
        seed(2, 1, 0x20, std::slice::from_ref(&time)),
        seed(2, 1, 0x10, &prepare),
        seed(0, 1, 0x50, &[numbers(&[700, 2, 701, 702])]),
        seed(3, 10, 0x00, &[vec![1, 0, 0x04]]),
        seed(3, 10, 0x10, &[numbers(&[700]), vec![1, 0, 0, 0x08]]),
        seed(3, 10, 0x30, &[numbers(&[5, 1, 1, 16_384])]),
        seed(3, 9, 0x50, &[vec![0, 0, 3, 0]]),
        seed(3, 2, 0x11, &[numbers(&[1663, 5, 16_384, 0])]),
        seed(3, 2, 0x21, &[numbers(&[9, 1663, 5, 16_384, 7])]),
        seed(1, 4, 0x01, &[numbers(&[20, 1663, 5, 1663])]),
        seed(1, 4, 0x11, &[numbers(&[20, 1, 1663])]),
        seed(4, 4, 0x11, &[numbers(&[20, 1663])]),
        seed(4, 0, 0x00, &[vec![1; 20], numbers(&[2]), vec![1; 72]]),
        seed(4, 0, 0x60, &[numbers(&[60, 8, 10, 10, 64, 2, 1])]),
        seed(4, 0, 0x70, &[time.clone(), b"before".to_vec(), vec![0; 58]]),
        seed(4, 0, 0x90, &[time.clone(), numbers(&[2, 1, 1, 0])]),
        seed(4, 0, 0xE0, &[numbers(&[2])]),
    ]
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Whether it is a record that a server may have written.
fn read(version: u8, rmid: u8, info: u8, body: &[u8]) -> bool {
    let bytes = [&[0; 24], body].concat();
    let record = Record {
        major: Major::ALL.get(usize::from(version)).copied(),
        lsn: Lsn(0x28),
        end: Lsn(0x100),
        prev: Lsn(0),
        xid: 7,
        rmid,
        info,
        bytes: &bytes,
    };
    let _ = (record.xlog(), record.is_special_relation_update());
    let Ok(parts) = record.parts() else {
        return false;
    };
    assert_eq!(record.main_data(), Some(parts.main_data));
    let blocks: Vec<_> = parts.blocks().collect();
    assert_eq!(blocks.first(), parts.first_block.as_ref());
    assert!(blocks.is_sorted_by(|one, next| one.id < next.id), "{blocks:?}");
    let told: usize = blocks
        .iter()
        .map(|block| usize::from(block.data_bytes) + block.image.map_or(0, |image| usize::from(image.bytes)))
        .sum();
    assert!(told + parts.main_data.len() <= body.len(), "{blocks:?}");
    match parts.event() {
        Ok(Event::Transaction(transaction)) => {
            assert_eq!(
                transaction.subtransactions.iter().count(),
                transaction.subtransactions.len()
            );
            assert_eq!(transaction.dropped.iter().count(), transaction.dropped.len());
            true
        }
        Ok(Event::Database(DatabaseChange::Drop { tablespaces, .. })) => {
            tablespaces.iter().count() == tablespaces.len()
        }
        other => other.is_ok(),
    }
}
