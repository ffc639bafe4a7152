//! The file table: every file, directory and tablespace link of a backup (`FORMAT.md` section 8).
//!
//! Invariants: paths ascend and none occurs twice; none leaves the data directory, whatever a repository
//! says: a restore may join them to its target without looking again.

mod codec;
mod object;
mod path;
mod reader;
mod writer;

#[cfg(feature = "fuzzing")]
pub(crate) use object::{TableFrame, decode_extra};
pub use path::{MAX_PATH, check_path};
pub use reader::TableReader;
pub use writer::{TableCounts, TableWriter, WrittenTable};

use crate::leaf::{Leaf, LeafRef};

/// A frame is cut before it grows beyond this, raw; an entry larger than that has a frame of its own.
pub const TABLE_FRAME: usize = 256 << 10;
/// The largest raw frame of a table. The leaves of a file of about 4 TB fit at their worst.
pub const MAX_TABLE_FRAME: usize = 16 << 20;
/// The largest object of a table that a reader takes in.
pub const MAX_TABLE_OBJECT: u64 = 64 << 20;

/// One path of the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the data directory, which itself has the empty path; parts divided by `/`. Bytes, not
    /// necessarily UTF-8.
    pub path: Vec<u8>,
    /// What is there.
    pub kind: EntryKind,
    /// Permission bits, at most `0o7777`.
    pub mode: u32,
    /// Microseconds since 1970-01-01 UTC.
    pub modified_micros: i64,
}

impl Entry {
    /// The feature bits that a reader of this entry must know.
    pub(crate) fn features(&self) -> u32 {
        let EntryKind::File { leaves, .. } = &self.kind else {
            return 0;
        };
        leaves.iter().fold(0, |bits, leaf| match leaf {
            LeafSlot::Inline(leaf) => bits | leaf.features(),
            LeafSlot::Ref(_) => bits,
        })
    }
}

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A file.
    File {
        /// Bytes.
        size: u64,
        /// Whether its pages have PostgreSQL's page headers and, if the cluster has them, checksums.
        relation: bool,
        /// Where its pages are: one for each 2,048 pages begun.
        leaves: Vec<LeafSlot>,
    },
    /// A symbolic link to a tablespace; its path is `pg_tblspc/<oid>`.
    Link {
        /// What the link said on the source host. Not checked beyond being a possible target: a restore
        /// decides where a tablespace goes, and must not write through this of its own accord.
        target: Vec<u8>,
    },
}

/// Where one leaf of a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeafSlot {
    /// Here.
    Inline(Leaf),
    /// In a map object.
    Ref(LeafRef),
}

#[cfg(test)]
mod tests;
