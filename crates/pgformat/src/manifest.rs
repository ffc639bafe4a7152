//! `backup_manifest`: every file of a backup with its size and checksum, and the WAL it needs.
//!
//! Format: `backup/backup_manifest.c` and the chapter "Backup Manifest Format" of the documentation.
//! Version 1 is that of PostgreSQL 13 to 16; version 2, from 17 on, adds the system identifier. The
//! last line holds the SHA-256 of all bytes before it. `pg_verifybackup` of the backup's own major
//! version checks a restored cluster with it.

mod read;
mod write;

pub use read::Manifest;
pub use write::ManifestWriter;

use crate::Major;
use crate::history::Range;

/// The format's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// PostgreSQL 13 to 16.
    One,
    /// PostgreSQL 17 and later.
    Two {
        /// The cluster the backup is of.
        system_identifier: u64,
    },
}

impl Version {
    /// The version that tools of `major` read.
    pub fn of(major: Major, system_identifier: u64) -> Self {
        if major >= Major::V17 {
            Version::Two { system_identifier }
        } else {
            Version::One
        }
    }
}

/// How a file's checksum was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// CRC-32C, PostgreSQL's default here.
    Crc32c,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    const ALL: [Algorithm; 5] = [
        Algorithm::Crc32c,
        Algorithm::Sha224,
        Algorithm::Sha256,
        Algorithm::Sha384,
        Algorithm::Sha512,
    ];

    /// The name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Crc32c => "CRC32C",
            Algorithm::Sha224 => "SHA224",
            Algorithm::Sha256 => "SHA256",
            Algorithm::Sha384 => "SHA384",
            Algorithm::Sha512 => "SHA512",
        }
    }

    /// Bytes of its values.
    pub fn length(self) -> usize {
        match self {
            Algorithm::Crc32c => 4,
            Algorithm::Sha224 => 28,
            Algorithm::Sha256 => 32,
            Algorithm::Sha384 => 48,
            Algorithm::Sha512 => 64,
        }
    }
}

/// A file's checksum.
///
/// Invariant: the value is as long as the algorithm's values are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    algorithm: Algorithm,
    value: Vec<u8>,
}

impl Checksum {
    /// Refuses a value of the wrong length by `None`.
    pub fn new(algorithm: Algorithm, value: Vec<u8>) -> Option<Self> {
        (value.len() == algorithm.length()).then_some(Checksum { algorithm, value })
    }

    /// From a CRC-32C. The manifest holds its bytes in the machine's order, the lowest first.
    pub fn crc32c(value: u32) -> Self {
        Checksum {
            algorithm: Algorithm::Crc32c,
            value: value.to_le_bytes().to_vec(),
        }
    }

    /// From a SHA-256 digest.
    pub fn sha256(value: [u8; 32]) -> Self {
        Checksum {
            algorithm: Algorithm::Sha256,
            value: value.to_vec(),
        }
    }

    /// How it was computed.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its bytes in the manifest's order.
    pub fn value(&self) -> &[u8] {
        &self.value
    }
}

/// One file of the backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Relative to the data directory, through `pg_tblspc/<oid>/` for tablespaces. Any bytes.
    pub path: Vec<u8>,
    /// Bytes.
    pub size: u64,
    /// When it was last changed: seconds since 1970-01-01 UTC.
    pub modified: i64,
    /// Its checksum, if one was taken.
    pub checksum: Option<Checksum>,
}

/// WAL that must be replayed, on one timeline.
pub type WalRange = Range;

#[cfg(test)]
mod tests;
