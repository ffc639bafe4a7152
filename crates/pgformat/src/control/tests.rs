use super::*;
use proptest::prelude::*;

/// The first 512 bytes of `pg_control` of a real cluster of each version.
const REAL: [(Major, &[u8]); 6] = [
    (Major::V13, include_bytes!("../../tests/fixtures/pg_control.13")),
    (Major::V14, include_bytes!("../../tests/fixtures/pg_control.14")),
    (Major::V15, include_bytes!("../../tests/fixtures/pg_control.15")),
    (Major::V16, include_bytes!("../../tests/fixtures/pg_control.16")),
    (Major::V17, include_bytes!("../../tests/fixtures/pg_control.17")),
    (Major::V18, include_bytes!("../../tests/fixtures/pg_control.18")),
];

/// `bytes` with `value` at `at` and a checksum that fits.
fn forged(bytes: &[u8], at: usize, value: u32) -> Vec<u8> {
    let mut forged = bytes.to_vec();
    forged[at..at + 4].copy_from_slice(&value.to_le_bytes());
    let crc = crc32c::crc32c(&forged[..288]);
    forged[288..292].copy_from_slice(&crc.to_le_bytes());
    forged
}

#[test]
fn every_version_is_read() {
    for (major, bytes) in REAL {
        let control = Control::parse(bytes).unwrap();
        assert_eq!(control.major, major);
        assert_eq!(
            (control.block_size, control.wal_block_size, control.blocks_per_segment),
            (8192, 8192, 131_072)
        );
        assert_eq!(
            (
                control.max_connections,
                control.max_wal_senders,
                control.max_locks_per_xact
            ),
            (77, 10, 64)
        );
        assert_eq!(control.wal_level, WalLevel::Replica);
        assert_eq!(
            control.checkpoint.wal_level,
            (major >= Major::V17).then_some(WalLevel::Replica)
        );
        assert_eq!(
            control.wal_segment_size.bytes(),
            if major == Major::V16 { 1 << 20 } else { 16 << 20 }
        );
        assert_eq!(
            control.state,
            if major == Major::V14 {
                State::InProduction
            } else {
                State::ShutDown
            }
        );
        assert_eq!(control.wal_geometry(), Ok(Geometry::standard(control.wal_segment_size)));
        assert!(control.has_checksums());
        assert!(control.checkpoint.full_page_writes);
    }
}

#[test]
fn the_values_are_those_of_pg_controldata() {
    let control = Control::parse(REAL[2].1).unwrap();
    assert_eq!(control.system_identifier, 7_710_395_582_684_456_831);
    assert_eq!(control.checkpoint_lsn.to_string(), "0/51CB808");
    assert_eq!(control.checkpoint.redo.to_string(), "0/51CB808");
    assert_eq!(
        (control.checkpoint.timeline, control.checkpoint.previous_timeline),
        (Tli(1), Tli(1))
    );
    assert_eq!(
        (control.checkpoint.next_xid, control.checkpoint.next_oid),
        (15_113, 16_417)
    );
    assert_eq!(
        (control.checkpoint.oldest_xid, control.checkpoint.oldest_xid_database),
        (716, 1)
    );
    assert_eq!(
        (control.toast_max_chunk_size, control.large_object_block_size),
        (1996, 2048)
    );
    assert_eq!((control.name_length, control.index_max_keys), (64, 32));
    assert_eq!(
        (control.min_recovery_lsn, control.backup_end_required),
        (Lsn::INVALID, false)
    );
}

#[test]
fn every_flipped_bit_is_noticed() {
    for (major, bytes) in REAL {
        let end = if major == Major::V18 { 296 } else { 292 };
        for bit in 0..end * 8 {
            let mut torn = bytes.to_vec();
            torn[bit / 8] ^= 1 << (bit % 8);
            assert!(Control::parse(&torn).is_err(), "bit {bit} of {major}");
        }
    }
}

#[test]
fn a_file_cut_short_is_damaged() {
    for length in 0..292 {
        assert!(
            matches!(Control::parse(&REAL[0].1[..length]), Err(Error::Damaged { .. })),
            "{length}"
        );
    }
}

#[test]
fn an_unknown_format_is_refused_by_name() {
    for (version, word) in [(1201u32, "1201"), (1900, "1900"), (1300u32.swap_bytes(), "big-endian")] {
        let error = Control::parse(&forged(REAL[0].1, 8, version)).unwrap_err();
        assert!(
            matches!(error, Error::Unsupported { .. }) && error.to_string().contains(word),
            "{error}"
        );
    }
    let error = Control::parse(&forged(REAL[0].1, 12, 202_007_200)).unwrap_err();
    assert!(error.to_string().contains("catalog version 202007200"), "{error}");
}

#[test]
fn values_that_no_server_writes_are_damage() {
    for (at, value) in [(16, 7), (172, 3), (216, 0), (216, 65_536), (224, 8191), (228, 1 << 19)] {
        let error = Control::parse(&forged(REAL[0].1, at, value)).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{at} {value}: {error}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = Control::parse(&bytes);
        let _ = Checkpoint::from_record(&bytes, Major::V18);
    }

    #[test]
    fn no_sealed_bytes_panic(at in 0usize..284, value: u32) {
        let _ = Control::parse(&forged(REAL[0].1, at, value));
    }
}
