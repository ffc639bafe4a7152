use super::*;
use crate::{
    keys::Keyring,
    runtime::Rng,
    session::{DatabaseId, Session},
};

/// Counts up: tests need other bytes each time, not secret ones.
struct Counting(std::sync::atomic::AtomicU64);

impl Rng for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let next = self
                .0
                .fetch_add(0x9e37_79b9_7f4a_7c15, std::sync::atomic::Ordering::Relaxed)
                .to_le_bytes();
            chunk.copy_from_slice(&next[..chunk.len()]);
        }
    }
}

/// Each test generator goes on where the one before began plus one: no two draw the same.
fn rng() -> Counting {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    Counting(std::sync::atomic::AtomicU64::new(
        NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
    ))
}

fn session() -> Session {
    let keyring = Keyring::generate(DatabaseId([7; 16]), [0; 32], &rng());
    Session::begin(&keyring, &rng()).unwrap().0
}

fn object(session: &Session, name: &str) -> Finished {
    let mut draft = Draft::new(session, &rng(), Kind::Pack, 0, name.into(), 0).unwrap();
    draft.frame(b"first frame", 11, Codec::Stored).unwrap();
    let packed = zstd::bulk::compress(&[42; 100_000], 3).unwrap();
    draft.frame(&packed, 100_000, Codec::Zstd).unwrap();
    draft.finish(b"extra".to_vec()).unwrap()
}

fn open(session: &Session, name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let sealed = Sealed::whole(session, Kind::Pack, name, bytes.to_vec().into())?;
    let mut opener = Opener::new()?;
    assert_eq!(sealed.directory.extra, b"extra");
    assert_eq!(sealed.read(&mut opener, 1)?, [42; 100_000]);
    sealed.read(&mut opener, 0)
}

#[test]
fn what_was_sealed_opens_under_its_own_name_only() {
    let session = session();
    let object = object(&session, "packs/a/00000000");
    assert_eq!(
        open(&session, "packs/a/00000000", &object.bytes).unwrap(),
        b"first frame"
    );
    let error = open(&session, "packs/a/00000001", &object.bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "packs/a/00000001 is damaged: it was not written under this name"
    );
    let other = self::session();
    assert!(open(&other, "packs/a/00000000", &object.bytes).is_err());
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let session = session();
    let object = object(&session, "packs/a/00000000");
    for at in 0..object.bytes.len() {
        let mut bytes = object.bytes.to_vec();
        bytes[at] ^= 1 << (at % 8);
        assert!(
            open(&session, "packs/a/00000000", &bytes).is_err(),
            "flip at {at} passed"
        );
        assert!(
            open(&session, "packs/a/00000000", &object.bytes[..at]).is_err(),
            "cut at {at} passed"
        );
    }
}

#[test]
fn a_flip_is_found_by_the_seal_even_where_the_hash_was_made_to_fit() {
    let session = session();
    let object = object(&session, "packs/a/00000000");
    for at in 0..object.bytes.len() - TRAILER {
        let mut bytes = object.bytes.to_vec();
        bytes[at] ^= 0x10;
        let hashed = bytes.len() - 40;
        let hash = *blake3::hash(&bytes[..hashed]).as_bytes();
        bytes[hashed..hashed + 32].copy_from_slice(&hash);
        assert!(
            open(&session, "packs/a/00000000", &bytes).is_err(),
            "forged flip at {at} passed"
        );
    }
}

#[test]
fn an_older_object_of_the_same_name_is_not_the_one_remembered() {
    let session = session();
    let (old, new) = (
        object(&session, "packs/a/00000000"),
        object(&self::session(), "packs/a/00000000"),
    );
    let pin = Pin {
        size: new.bytes.len() as u64,
        hash: new.hash,
    };
    let ends = |bytes: &[u8]| {
        let at = bytes.len() - TRAILER - old.directory as usize;
        (bytes[..HEADER].to_vec(), bytes[at..].to_vec())
    };
    let (start, end) = ends(&old.bytes);
    let error = Sealed::by_ends(&session, Kind::Pack, "packs/a/00000000", &start, &end, &pin).unwrap_err();
    assert_eq!(
        error.to_string(),
        "packs/a/00000000 is damaged: it is not the object that was written here"
    );
}

#[test]
fn two_sealings_of_the_same_bytes_share_no_ciphertext() {
    let session = session();
    let rng = rng();
    let seal = || {
        let mut draft = Draft::new(&session, &rng, Kind::Pack, 0, "packs/a/00000000".into(), 0).unwrap();
        draft.frame(&[0; 4096], 4096, Codec::Stored).unwrap();
        draft.finish(Vec::new()).unwrap().bytes
    };
    let (a, b) = (seal(), seal());
    let blocks = |bytes: &[u8]| {
        bytes[HEADER..HEADER + 4096]
            .chunks(16)
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    let (a, b) = (blocks(&a), blocks(&b));
    assert!(a.iter().all(|block| !b.contains(block)));
    assert!(a.iter().enumerate().all(|(at, block)| !a[at + 1..].contains(block)));
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let session = session();
    let mut bytes = object(&session, "packs/a/00000000").bytes.to_vec();
    bytes[8] = 2;
    let error = open(&session, "packs/a/00000000", &bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "packs/a/00000000 needs repository format 2, which this version of lastgood cannot read"
    );
    bytes[8] = 1;
    bytes[13] = 1;
    assert!(matches!(
        open(&session, "packs/a/00000000", &bytes),
        Err(Error::Unsupported { .. })
    ));
}

#[test]
fn a_plain_object_with_a_flipped_preamble_is_damaged_and_a_newer_one_is_not() {
    let bytes = super::seal_plain(Kind::Identity, &1, b"x");
    let open = |bytes: &[u8]| super::open_plain::<u8>("identity", bytes, Kind::Identity);
    assert_eq!(open(&bytes).unwrap().head, 1);
    for at in [8, 9, 12, 13, 14, 15] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 64;
        assert!(matches!(open(&flipped), Err(Error::Damaged { .. })), "byte {at}");
        let end = flipped.len() - 32;
        let hash = blake3::hash(&flipped[..end]);
        flipped[end..].copy_from_slice(hash.as_bytes());
        assert!(matches!(open(&flipped), Err(Error::Unsupported { .. })), "byte {at}");
        // Another format may end in another way.
        assert!(
            matches!(open(&flipped[..end]), Err(Error::Unsupported { .. })),
            "byte {at}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic_the_opener(bytes: Vec<u8>) {
        let session = session();
        let _ = Sealed::whole(&session, Kind::Pack, "packs/a/00000000", bytes.clone().into());
        let _ = open_plain::<serde_json::Value>("identity", &bytes, Kind::Identity);
        let mut framed = preamble(Kind::Pack, 0).to_vec();
        framed.extend_from_slice(&bytes);
        let _ = Sealed::whole(&session, Kind::Pack, "packs/a/00000000", framed.into());
    }
}
