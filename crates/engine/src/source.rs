//! Where a backup reads from: a data directory of this machine, or one behind a server, through SQL.
//!
//! Paths are bytes relative to the data directory, with `/` between parts. A path that is gone is no error:
//! relations are dropped while we read.

mod local;
mod order;
mod split;
mod sql;

pub use local::LocalDirectory;
pub(crate) use order::{Passing, Step, join};
pub use split::SplitDirectory;
pub use sql::SqlDirectory;

use std::io;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FileKind {
    /// A directory.
    Directory = 0,
    /// A regular file.
    File = 1,
    /// A symbolic link.
    Link = 2,
    /// Anything else.
    Special = 3,
}

/// What is known of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Last change, microseconds since 1970-01-01 UTC.
    pub modified_micros: i64,
}

/// The names in one directory. A database with a million tables has some three million files in one directory, and
/// promise 9 leaves about 15 bytes for each: so a name takes its own bytes, two for length and kind, four for order.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// For each name two bytes, the kind in the upper two bits and the length in the others, and the name.
    bytes: Vec<u8>,
    /// Where each begins in `bytes`, in the present order.
    starts: Vec<u32>,
}

impl Names {
    /// Adds a name. Those of file systems have at most 255 bytes; all of a directory come to less than 4 GiB.
    pub fn push(&mut self, name: &[u8], kind: FileKind) {
        let start = self.bytes.len() as u32;
        let head = (kind as u16) << KIND_SHIFT | (name.len() as u16 & LENGTH_BITS);
        self.bytes.extend_from_slice(&head.to_le_bytes());
        self.bytes.extend_from_slice(name);
        self.starts.push(start);
    }

    fn entry(&self, start: u32) -> (&[u8], FileKind) {
        let start = start as usize;
        let head = u16::from_le_bytes([self.bytes[start], self.bytes[start + 1]]);
        let kind = match head >> KIND_SHIFT {
            0 => FileKind::Directory,
            1 => FileKind::File,
            2 => FileKind::Link,
            _ => FileKind::Special,
        };
        let name = start + 2;
        (&self.bytes[name..name + usize::from(head & LENGTH_BITS)], kind)
    }

    /// Brings them into byte order.
    pub fn sort(&mut self) {
        let mut starts = std::mem::take(&mut self.starts);
        starts.sort_unstable_by(|a, b| self.entry(*a).0.cmp(self.entry(*b).0));
        self.starts = starts;
    }

    /// Whether the (sorted) names hold `name`.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.starts
            .binary_search_by(|start| self.entry(*start).0.cmp(name))
            .is_ok()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Name `number`, in the present order: below [`Names::len`].
    pub fn get(&self, number: usize) -> (&[u8], FileKind) {
        self.entry(self.starts[number])
    }

    /// The names in their present order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], FileKind)> {
        self.starts.iter().map(|start| self.entry(*start))
    }
}

/// Bits of a name's head that hold its length.
const LENGTH_BITS: u16 = (1 << KIND_SHIFT) - 1;
const KIND_SHIFT: u32 = 14;

/// A data directory that can be read while its server writes.
pub trait Source: Send + Sync {
    /// The names in a directory; the empty path is the data directory itself. `None`: it is gone.
    fn list(&self, path: &[u8]) -> io::Result<Option<Names>>;
    /// What stands at `path`, links followed. `None`: it is gone.
    fn stat(&self, path: &[u8]) -> io::Result<Option<Stat>>;
    /// Where a link points. `None`: it is gone.
    fn link(&self, path: &[u8]) -> io::Result<Option<Vec<u8>>>;
    /// Opens a file. `None`: it is gone.
    fn open(&self, path: &[u8]) -> io::Result<Option<Box<dyn SourceFile>>>;
}

/// An open file of a [`Source`]. It stays readable when its name goes, or ends there if it is a relation's; one of no relation
/// that cannot be read on is not found ([`io::ErrorKind::NotFound`]), and as if it never was there.
pub trait SourceFile: Send + Sync {
    /// What is known of it now.
    fn stat(&self) -> io::Result<Stat>;
    /// Fills `buffer` from `offset` as far as the file goes; returns how far.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}
