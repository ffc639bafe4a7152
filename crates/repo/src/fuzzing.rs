//! What fuzzing calls: every decoder of this crate, given bytes as an attacker or a bad disk would give them.
//!
//! Only with the feature `fuzzing`. What is decoded after it was authenticated is reached here in two ways: by calling
//! the decoder behind the seal, and by sealing the bytes given first. A hash that every object has is mended before a
//! second try, since a mutation would otherwise never get past it.
//!
//! Invariant: none of these panics, and none takes much more memory than its input is long, but for what
//! [`Target::slack`] says.

#![expect(
    clippy::unwrap_used,
    reason = "seeds are made from values of our own; a body that cannot be set up is to be noticed"
)]

mod content;
mod outside;
mod sealed;

use crate::{
    backup_id::BackupId,
    session::{DatabaseId, Session, SessionId},
    sources::Sources,
};

/// One decoder.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, also that of its file for `cargo fuzz`.
    pub name: &'static str,
    /// Valid encodings to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Decodes; returning is passing, whatever is returned. True: some decoder took the input for valid.
    pub run: fn(&[u8]) -> bool,
    /// Bytes that it may take whatever the input: what a frame may unpack to.
    pub slack: usize,
}

/// All decoders of this crate.
pub const TARGETS: &[Target] = &[
    outside::IDENTITY,
    outside::SESSION,
    outside::UNLOCK,
    outside::KEY_FILE,
    outside::NAMES,
    sealed::ENVELOPE,
    sealed::FRAMES,
    sealed::WAL_RUN,
    content::DIRECTORY,
    content::LEAF,
    content::MAP_FRAME,
    content::TABLE_DIRECTORY,
    content::TABLE_FRAME,
    content::MANIFEST_FACTS,
    content::MANIFEST_NEEDED,
    content::MANIFEST_KEPT,
    content::PACK_DIRECTORY,
    content::DIFFERENCE,
    content::LEDGER_RECORD,
];

fn owner() -> BackupId {
    BackupId::new(1_700_000_000_000_000, [0; 6])
}

/// A list of the owner and two more.
fn sources() -> Sources {
    let mut sources = Sources::new(owner());
    for number in 1..3 {
        sources.intern(BackupId::new(1_700_000_000_000_000, [number; 6]));
    }
    sources
}

fn session() -> Session {
    Session {
        id: SessionId([1; 16]),
        database: DatabaseId([2; 16]),
        key: zeroize::Zeroizing::new([3; 32]),
    }
}
