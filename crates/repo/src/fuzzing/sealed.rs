//! Sealed objects, from their outside and with any inside.

use bytes::Bytes;

use crate::{
    Result,
    bytes_codec::{Malformed, Reader, put_text, put_varint},
    envelope::{Codec, Draft, END_MAGIC, HEADER, Kind, MAX_RAW_FRAME, Opener, Sealed, TRAILER},
    runtime::Rng,
    wal::{MAX_RUN, OpenRun, WalStream},
};

use super::{Target, session};

const NAME: &str = "packs/20231114T221320Z-000000/00000000";

/// An object as it lies in a store, opened whole and by its ends.
pub(super) const ENVELOPE: Target = Target {
    name: "repo_envelope",
    seeds: || {
        let frames = [
            (vec![5; 300], Codec::Stored),
            (zstd::bulk::compress(&[6; 9000], 1).unwrap(), Codec::Zstd),
        ];
        let raw = [300, 9000];
        vec![
            object(Kind::Pack, NAME, &frames, &raw, b"extra".to_vec()).to_vec(),
            object(Kind::Pack, NAME, &[], &[], Vec::new()).to_vec(),
        ]
    },
    run: |bytes| {
        let open = |bytes: &Vec<u8>| {
            let whole = Sealed::whole(&session(), Kind::Pack, NAME, bytes.clone().into());
            let ends = by_ends(bytes);
            assert_eq!(whole.is_ok(), ends, "whole and by its ends");
            whole.is_ok_and(|sealed| read_all(&sealed))
        };
        [bytes.to_vec(), mended(bytes)].iter().any(open)
    },
    slack: MAX_RAW_FRAME,
};

/// Any frames under any directory, honestly sealed. Input: for each frame its codec, raw length and bytes.
pub(super) const FRAMES: Target = Target {
    name: "repo_frames",
    seeds: || {
        let mut seed = vec![2, 0];
        put_varint(&mut seed, 5);
        put_text(&mut seed, b"12345");
        seed.push(1);
        put_varint(&mut seed, 100_000);
        put_text(&mut seed, &zstd::bulk::compress(&[9; 100_000], 3).unwrap());
        vec![seed]
    },
    run: |bytes| {
        let Ok((frames, raw)) = frames(bytes) else { return false };
        let object = object(Kind::Pack, NAME, &frames, &raw, Vec::new());
        Sealed::whole(&session(), Kind::Pack, NAME, object).is_ok_and(|sealed| read_all(&sealed))
    },
    slack: MAX_RAW_FRAME,
};

/// A run of WAL. Input: a text of sections, then frames, each a text.
pub(super) const WAL_RUN: Target = Target {
    name: "repo_wal_run",
    seeds: || {
        let bytes = [1; 4096];
        let mut seed = Vec::new();
        put_text(&mut seed, &[0, 1, 1]);
        put_text(&mut seed, FACTS);
        put_text(&mut seed, &bytes[..3000]);
        put_text(&mut seed, &bytes[3000..]);
        vec![seed]
    },
    run: |bytes| {
        let mut reader = Reader::new(bytes);
        let Ok(sections) = reader.text() else { return false };
        let (mut frames, mut raw) = (Vec::new(), Vec::new());
        while let Ok(frame) = reader.text() {
            frames.push((frame.to_vec(), Codec::Stored));
            raw.push(frame.len());
        }
        let name = stream().run_name(START);
        let object = object(Kind::Wal, &name, &frames, &raw, sections.to_vec());
        let sealed = Sealed::whole(&session(), Kind::Wal, &name, object).unwrap();
        let run = OpenRun::new(sealed, &stream(), START).and_then(OpenRun::whole);
        run.is_ok_and(|run| {
            assert!((1..=MAX_RUN).contains(&run.bytes.len()) && run.start == START);
            true
        })
    },
    slack: 1 << 20,
};

/// A frame's bytes as they are sealed.
type Packed = (Vec<u8>, Codec);

const START: u64 = 0x3000000;
const FACTS: &[u8] =
    br#"{"generation":"7","timeline":1,"segment_size":16777216,"start":"0/3000000","end":"0/3001000"}"#;

fn stream() -> WalStream {
    WalStream::new(7, 1, 16 << 20).unwrap()
}

fn frames(bytes: &[u8]) -> Result<(Vec<Packed>, Vec<usize>), Malformed> {
    let mut reader = Reader::new(bytes);
    let (mut frames, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..reader.count(3)? {
        let codec = if reader.byte()? == 0 {
            Codec::Stored
        } else {
            Codec::Zstd
        };
        raw.push(reader.varint32()? as usize);
        frames.push((reader.text()?.to_vec(), codec));
    }
    Ok((frames, raw))
}

fn object(kind: Kind, name: &str, frames: &[Packed], raw: &[usize], extra: Vec<u8>) -> Bytes {
    let mut draft = Draft::new(&session(), &Still, kind, 0, name.into(), 0).unwrap();
    for ((frame, codec), raw) in frames.iter().zip(raw) {
        draft.frame(frame, *raw, *codec).unwrap();
    }
    draft.finish(extra).unwrap().bytes
}

/// Whether all frames open.
fn read_all(sealed: &Sealed) -> bool {
    let mut opener = Opener::new().unwrap();
    let frames = sealed.directory.frames.len() as u32;
    assert!(sealed.read(&mut opener, frames).is_err(), "a frame after the last");
    let opened = (0..frames).filter(|number| sealed.read(&mut opener, *number).is_ok());
    opened.count() == frames as usize
}

fn by_ends(bytes: &[u8]) -> bool {
    let (Ok(pin), Some(directory)) = (
        crate::envelope::check_hash(NAME, bytes),
        bytes
            .len()
            .checked_sub(TRAILER - 8)
            .and_then(|at| bytes.get(at..at + 4)),
    ) else {
        return false;
    };
    let length = u32::from_le_bytes([directory[0], directory[1], directory[2], directory[3]]) as usize;
    let Some(end) = bytes.len().checked_sub(length + TRAILER) else {
        return false;
    };
    let start = &bytes[..HEADER.min(bytes.len())];
    Sealed::by_ends(&session(), Kind::Pack, NAME, start, &bytes[end..], &pin).is_ok()
}

/// With lengths, hash and end that fit.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= TRAILER {
        let total = bytes.len();
        bytes[total - 48..total - 40].copy_from_slice(&(total as u64).to_le_bytes());
        let hash = *blake3::hash(&bytes[..total - 40]).as_bytes();
        bytes[total - 40..total - 8].copy_from_slice(&hash);
        bytes[total - 8..].copy_from_slice(&END_MAGIC);
    }
    bytes
}

struct Still;

impl Rng for Still {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}
