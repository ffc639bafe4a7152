//! Directories that are gone through in the order of the file table.
//!
//! Invariant: with each directory looked into when a step says so, paths come in ascending order of their bytes, each once.

use std::io;

use super::{FileKind, Names, Source};

/// A directory that is being gone through: its names, and how far.
pub(crate) struct Passing {
    path: Vec<u8>,
    names: Names,
    next: usize,
    /// Directories among the names that were passed and not yet looked into, the next one last.
    passed: Vec<usize>,
}

/// What to do next in a directory; names are told by their numbers.
pub(crate) enum Step {
    /// Record what stands there.
    Record(usize),
    /// Look into that directory.
    Descend(usize),
}

impl Passing {
    /// Begins in the directory at `path`. `None`: it is gone.
    pub(crate) fn begin(source: &dyn Source, path: Vec<u8>) -> io::Result<Option<Passing>> {
        let names = source.list(&path)?;
        Ok(names.map(|names| Passing {
            path,
            names,
            next: 0,
            passed: Vec::new(),
        }))
    }

    /// A directory's own entry comes at its name, what is in it at its name and a slash: between the two lie names
    /// such as `a.b` beside `a`. All of those begin with its name, so that the directory passed last is always the
    /// first to be looked into.
    pub(crate) fn step(&mut self) -> Option<Step> {
        let following = (self.next < self.names.len()).then(|| self.names.get(self.next).0);
        if let Some(number) = self.passed.last() {
            let inside = self.names.get(*number).0.iter().chain(b"/");
            if following.is_none_or(|following| inside.lt(following)) {
                return self.passed.pop().map(Step::Descend);
            }
        }
        following?;
        self.next += 1;
        Some(Step::Record(self.next - 1))
    }

    /// The name recorded last is a directory's that is to be looked into.
    pub(crate) fn look_into(&mut self, number: usize) {
        self.passed.push(number);
    }

    /// The path of a name, and what stands there.
    pub(crate) fn entry(&self, number: usize) -> (Vec<u8>, FileKind) {
        let (name, kind) = self.names.get(number);
        (join(&self.path, name), kind)
    }

    /// The directory.
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    /// All its names.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }
}

/// The path of what stands in a directory by that name.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        b"" => name.to_vec(),
        directory => [directory, b"/", name].concat(),
    }
}
