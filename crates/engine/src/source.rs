//! Where a backup reads from: a data directory, local today.
//!
//! Paths are bytes relative to the data directory, with `/` between parts. A path that is gone is no error:
//! relations are dropped while we read.

mod local;

pub use local::LocalDirectory;

use std::io;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// Anything else.
    Special,
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

/// The names in one directory, in few bytes: a database can have millions of relations.
#[derive(Debug, Clone, Default)]
pub struct Names {
    bytes: Vec<u8>,
    spans: Vec<(u32, u16, FileKind)>,
}

impl Names {
    /// Adds a name. Names of file systems are far shorter than the 64 KiB that fit.
    pub fn push(&mut self, name: &[u8], kind: FileKind) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(name);
        self.spans.push((start, name.len() as u16, kind));
    }

    fn name(&self, span: &(u32, u16, FileKind)) -> &[u8] {
        let start = span.0 as usize;
        &self.bytes[start..start + usize::from(span.1)]
    }

    /// Brings them into byte order.
    pub fn sort(&mut self) {
        let mut spans = std::mem::take(&mut self.spans);
        spans.sort_unstable_by(|a, b| self.name(a).cmp(self.name(b)));
        self.spans = spans;
    }

    /// Whether the (sorted) names hold `name`.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.spans.binary_search_by(|span| self.name(span).cmp(name)).is_ok()
    }

    /// Name `number`, in the present order. Numbers come from [`Names::iter`].
    pub fn get(&self, number: usize) -> (&[u8], FileKind) {
        let span = &self.spans[number];
        (self.name(span), span.2)
    }

    /// The names in their present order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], FileKind)> {
        self.spans.iter().map(|span| (self.name(span), span.2))
    }
}

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

/// An open file of a [`Source`]. It stays readable when its name goes.
pub trait SourceFile: Send + Sync {
    /// What is known of it now.
    fn stat(&self) -> io::Result<Stat>;
    /// Fills `buffer` from `offset` as far as the file goes; returns how far.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}
