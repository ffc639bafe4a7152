use super::*;
use crate::{Error, Lsn, Tli};
use proptest::prelude::*;

fn written(version: Version, files: &[File], ranges: &[WalRange]) -> Vec<u8> {
    let mut writer = ManifestWriter::new(Vec::new(), version).unwrap();
    for file in files {
        writer.file(file).unwrap();
    }
    writer.finish(ranges).unwrap()
}

fn file(path: &[u8]) -> File {
    File {
        path: path.to_vec(),
        size: 23,
        modified: 1_795_169_571,
        checksum: Some(Checksum::crc32c(0x0403_0201)),
    }
}

fn range() -> WalRange {
    WalRange {
        timeline: Tli(1),
        start: Lsn(0x2000028),
        end: Lsn(0x2000138),
    }
}

#[test]
fn a_manifest_has_the_form_that_the_server_gives_it() {
    let content = written(Version::One, &[file(b"PG_VERSION"), file(b"a\xFF\"b")], &[range()]);
    assert_eq!(
        String::from_utf8(content).unwrap(),
        r#"{ "PostgreSQL-Backup-Manifest-Version": 1,
"Files": [
{ "Path": "PG_VERSION", "Size": 23, "Last-Modified": "2026-11-20 10:12:51 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "01020304" },
{ "Encoded-Path": "61ff2262", "Size": 23, "Last-Modified": "2026-11-20 10:12:51 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "01020304" }
],
"WAL-Ranges": [
{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000138" }
],
"Manifest-Checksum": "d88a82414ebc27440689800ea5821ba7a7fc4e4bcdeeac93a052b8d455f8e0da"}
"#
    );
}

#[test]
fn version_two_names_the_cluster() {
    let version = Version::of(crate::Major::V17, u64::MAX);
    let content = written(version, &[], &[]);
    assert!(String::from_utf8_lossy(&content).contains("\"System-Identifier\": 18446744073709551615,\n"));
    assert_eq!(Manifest::parse(&content).unwrap().version, version);
    assert_eq!(Version::of(crate::Major::V16, 7), Version::One);
}

#[test]
fn every_flipped_byte_is_noticed() {
    let content = written(Version::One, &[file(b"PG_VERSION")], &[range()]);
    for at in 0..content.len() {
        let mut wrong = content.clone();
        wrong[at] ^= 0x01;
        assert!(Manifest::parse(&wrong).is_err(), "byte {at}");
        assert!(Manifest::parse(&content[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn what_is_not_known_is_refused() {
    let content = String::from_utf8(written(Version::One, &[file(b"PG_VERSION")], &[range()])).unwrap();
    for (from, to) in [("Version\": 1", "Version\": 3"), ("\"CRC32C\"", "\"MD5\"")] {
        let error = Manifest::parse(&resealed(&content.replace(from, to))).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    }
    for (from, to) in [
        ("Version\": 1", "Version\": 2"),
        ("01020304", "010203"),
        ("2026-11-20", "2026-11-31"),
        ("\"Size\"", "\"Sizes\""),
        ("\"Timeline\": 1", "\"Timeline\": 0"),
        ("0/2000138", "0/2000027"),
        ("\"Path\": \"PG_VERSION\", ", ""),
    ] {
        let error = Manifest::parse(&resealed(&content.replace(from, to))).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{to}: {error}");
    }
}

/// `content` with a last line that fits.
fn resealed(content: &str) -> Vec<u8> {
    let at = content.rfind("\"Manifest-Checksum").unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content.as_bytes()[..at]);
    format!(
        "{}\"Manifest-Checksum\": \"{}\"}}\n",
        &content[..at],
        hex::encode(digest)
    )
    .into_bytes()
}

fn any_file() -> impl Strategy<Value = File> {
    let path = proptest::collection::vec(any::<u8>(), 1..20);
    let checksum = proptest::option::of(any::<[u8; 32]>().prop_map(Checksum::sha256));
    (path, any::<u64>(), 0i64..4_000_000_000, checksum).prop_map(|(path, size, modified, checksum)| File {
        path,
        size,
        modified,
        checksum,
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(files in proptest::collection::vec(any_file(), 0..5), id: u64) {
        let version = Version::Two { system_identifier: id };
        let manifest = Manifest { version, files, wal_ranges: vec![range()] };
        prop_assert_eq!(Manifest::parse(&written(version, &manifest.files, &manifest.wal_ranges)), Ok(manifest));
    }

    #[test]
    fn no_bytes_panic(content: Vec<u8>) {
        let _ = Manifest::parse(&content);
    }

    #[test]
    fn no_sealed_text_panics(text: String) {
        let _ = Manifest::parse(&resealed(&format!("{{\"Files\": [\n{text}\n],\n\"Manifest-Checksum")));
    }
}
