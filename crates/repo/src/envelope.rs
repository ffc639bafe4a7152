//! Every object's outside: what is plain, what is sealed, and how damage shows (`FORMAT.md` section 3).
//!
//! Invariants: no byte is handed out before its frame was authenticated under the object's own name;
//! a key seals one object only.

mod directory;
mod plain;
mod read;
mod seal;

pub use directory::{Codec, Directory, Frame};
pub use plain::{Plain, open_plain, seal_plain};
pub use read::{Opener, Pin, Sealed, Tail, check_hash};
pub(crate) use seal::SET_ASIDE;
pub use seal::{Draft, Finished};

use aws_lc_rs::{
    aead::{AES_256_GCM, LessSafeKey, UnboundKey},
    hkdf,
};

use crate::{Error, Result, session::Session};

/// `LASTGOOD`, the first eight bytes of every object.
pub const MAGIC: [u8; 8] = *b"LASTGOOD";
/// The last eight bytes of every sealed object.
pub const END_MAGIC: [u8; 8] = *b"DOOGTSAL";
/// The format this version writes and reads.
pub const FORMAT: u16 = 1;
/// Bytes before the first frame of a sealed object.
pub const HEADER: usize = 80;
/// Bytes after the directory of a sealed object.
pub const TRAILER: usize = 64;
/// Bytes that sealing adds to a frame.
pub const TAG: usize = 16;
/// Required features this version knows (bits of `FORMAT.md` section 13).
pub const KNOWN_FEATURES: u32 = FEATURE_DIFFERENCES | FEATURE_FOLDED;
/// Differences: frames of them in a pack, extents of them in a map or table.
pub const FEATURE_DIFFERENCES: u32 = 1 << 1;
/// Folded pages.
pub const FEATURE_FOLDED: u32 = 1 << 3;
/// The largest frame a reader opens, decompressed.
pub const MAX_RAW_FRAME: usize = 64 << 20;

/// What an object is; the numbers of `FORMAT.md` section 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Kind {
    /// Which database the folder is for.
    Identity = 1,
    /// Public half of an epoch.
    EpochPublic = 2,
    /// Private half of an epoch, wrapped.
    EpochUnlock = 3,
    /// A writing session's key.
    Session = 4,
    /// An entry of the ledger.
    Ledger = 16,
    /// What a backup is.
    Manifest = 32,
    /// A part of a file table.
    Files = 33,
    /// Leaves.
    Map = 34,
    /// Pages.
    Pack = 35,
    /// A run of WAL.
    Wal = 48,
    /// A timeline history file.
    History = 49,
    /// A moment until which nothing more was written.
    Mark = 51,
    /// What a verification found.
    Report = 64,
}

/// The 16 bytes that every object begins with.
pub(crate) fn preamble(kind: Kind, features: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[10..12].copy_from_slice(&(kind as u16).to_le_bytes());
    bytes[12..].copy_from_slice(&features.to_le_bytes());
    bytes
}

/// Refuses what is no object of ours, of another kind, or of a newer format.
pub(crate) fn check_preamble(name: &str, bytes: &[u8], kind: Kind) -> Result<()> {
    let damaged = |what: &str| {
        Err(Error::Damaged {
            name: name.into(),
            what: what.into(),
        })
    };
    let Some(head) = bytes.first_chunk::<16>() else {
        return damaged(if bytes.is_empty() {
            "it is empty"
        } else {
            "it is cut off"
        });
    };
    if head[..8] != MAGIC {
        return damaged("it does not begin like an object of ours");
    }
    let format = u16::from_le_bytes([head[8], head[9]]);
    if format != FORMAT {
        return Err(Error::Unsupported {
            name: name.into(),
            what: format!("repository format {format}"),
        });
    }
    if u16::from_le_bytes([head[10], head[11]]) != kind as u16 {
        return damaged("it is another kind of object");
    }
    let unknown = u32::from_le_bytes([head[12], head[13], head[14], head[15]]) & !KNOWN_FEATURES;
    if unknown != 0 {
        return Err(Error::Unsupported {
            name: name.into(),
            what: format!("features {unknown:#x}"),
        });
    }
    Ok(())
}

/// The key of one object and the check that it is the right one.
pub(crate) struct ObjectKey {
    pub(crate) aead: LessSafeKey,
    pub(crate) check: [u8; 16],
}

struct KeyLength;

impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        48
    }
}

impl ObjectKey {
    pub(crate) fn derive(session: &Session, salt: &[u8; 32], kind: Kind, name: &str) -> Result<Self> {
        let broken = |_| Error::WrongKey {
            what: "the cryptographic library refused to derive a key".into(),
        };
        let kind = (kind as u16).to_le_bytes();
        let info: [&[u8]; 5] = [b"lastgood/object/1", &[0], &kind, &session.database.0, name.as_bytes()];
        let mut derived = zeroize::Zeroizing::new([0; 48]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
            .extract(session.key.as_slice())
            .expand(&info, KeyLength)
            .and_then(|material| material.fill(derived.as_mut_slice()))
            .map_err(broken)?;
        let aead = UnboundKey::new(&AES_256_GCM, &derived[..32]).map_err(broken)?;
        let mut check = [0; 16];
        check.copy_from_slice(&derived[32..]);
        Ok(ObjectKey {
            aead: LessSafeKey::new(aead),
            check,
        })
    }
}

/// Frames count from 0 in part 0; the directory is part 1.
pub(crate) fn nonce(part: u32, number: u64) -> aws_lc_rs::aead::Nonce {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&part.to_le_bytes());
    bytes[4..].copy_from_slice(&number.to_le_bytes());
    aws_lc_rs::aead::Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests;
