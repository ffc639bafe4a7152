//! Writing a sealed object, frame by frame, in one buffer.

use aws_lc_rs::aead::Aad;
use bytes::Bytes;

use crate::{Error, Result, runtime::Rng, session::Session};

use super::{Codec, Directory, END_MAGIC, Frame, HEADER, Kind, ObjectKey, TAG, TRAILER, nonce, preamble};

/// Set aside for a large object at once, touched only as far as it is filled. The C library gives blocks of more than 32 MiB
/// back to the system when they are freed, whatever else is around them, and keeps no more of others because of them.
pub(crate) const SET_ASIDE: usize = (32 << 20) + (64 << 10);
/// The most that a draft's buffer grows at once, beyond what is needed.
const GROWTH: usize = 1 << 20;

/// A sealed object that is still growing.
pub struct Draft {
    name: String,
    key: ObjectKey,
    header: [u8; HEADER],
    bytes: Vec<u8>,
    frames: Vec<Frame>,
}

/// A sealed object, ready to be put.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// The hash in its trailer: what others refer to it by.
    pub hash: [u8; 32],
    /// Sealed length of its directory.
    pub directory: u32,
}

impl Draft {
    /// Begins the object `name` with a salt of its own, which only readers that know `features` may open.
    /// `capacity` bytes are set aside for it.
    pub fn new(
        session: &Session,
        rng: &dyn Rng,
        kind: Kind,
        features: u32,
        name: String,
        capacity: usize,
    ) -> Result<Draft> {
        let mut salt = [0; 32];
        rng.fill(&mut salt);
        let key = ObjectKey::derive(session, &salt, kind, &name)?;
        let mut header = [0; HEADER];
        header[..16].copy_from_slice(&preamble(kind, features));
        header[16..32].copy_from_slice(&session.id.0);
        header[32..64].copy_from_slice(&salt);
        header[64..].copy_from_slice(&key.check);
        let mut bytes = Vec::with_capacity(capacity.max(HEADER + TRAILER));
        bytes.extend_from_slice(&header);
        Ok(Draft {
            name,
            key,
            header,
            bytes,
            frames: Vec::new(),
        })
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no frame yet.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Frames so far: the number that the next one gets.
    pub fn frames(&self) -> u32 {
        self.frames.len() as u32
    }

    /// Seals a frame whose packed bytes are `packed`, which unpack to `raw` bytes.
    pub fn frame(&mut self, packed: &[u8], raw: usize, codec: Codec) -> Result<u32> {
        let number = self.frames();
        let offset = self.bytes.len() as u64;
        let sealed = self.seal(packed, 0, u64::from(number))?;
        let raw = u32::try_from(raw).map_err(|_| self.too_large())?;
        self.frames.push(Frame {
            offset,
            sealed,
            raw,
            codec,
        });
        Ok(number)
    }

    /// Closes the object. `extra` is the kind's own part of the directory.
    pub fn finish(mut self, extra: Vec<u8>) -> Result<Finished> {
        let directory = Directory {
            frames: std::mem::take(&mut self.frames),
            extra,
        };
        let at = self.bytes.len() as u64;
        let length = self.seal(&directory.encode(), 1, 0)?;
        let total = (self.bytes.len() + TRAILER) as u64;
        self.bytes.extend_from_slice(&at.to_le_bytes());
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes
            .extend_from_slice(&(directory.frames.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&total.to_le_bytes());
        let hash = *blake3::hash(&self.bytes).as_bytes();
        self.bytes.extend_from_slice(&hash);
        self.bytes.extend_from_slice(&END_MAGIC);
        Ok(Finished {
            name: self.name,
            bytes: self.bytes.into(),
            hash,
            directory: length,
        })
    }

    fn seal(&mut self, plain: &[u8], part: u32, number: u64) -> Result<u32> {
        let start = self.bytes.len();
        let needed = plain.len() + TAG;
        if self.bytes.capacity() - start < needed {
            // By bounded steps: doubling would take twice the memory of a large object.
            self.bytes.reserve_exact(needed.max(start.clamp(GROWTH / 16, GROWTH)));
        }
        let sealed = u32::try_from(plain.len() + TAG).map_err(|_| self.too_large())?;
        self.bytes.extend_from_slice(plain);
        let tag = self
            .key
            .aead
            .seal_in_place_separate_tag(nonce(part, number), Aad::from(&self.header), &mut self.bytes[start..])
            .map_err(|_| self.too_large())?;
        self.bytes.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    fn too_large(&self) -> Error {
        Error::Damaged {
            name: self.name.clone(),
            what: "a frame is too large to be sealed".into(),
        }
    }
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Draft({}, {} frames)", self.name, self.frames.len())
    }
}
