//! Goes through what stands in a directory, in the order of the file table.
//!
//! Invariant: paths come in ascending order of their bytes, each once; no link is followed.

use std::path::{Path, PathBuf};

use crate::{
    Result,
    error::At as _,
    source::{FileKind, LocalDirectory, Passing, Step},
};

use super::super::place::{UNFINISHED, below};

/// A file system's own folder at a mount point is nobody's data.
const FOUND: &[u8] = b"lost+found";

/// Something that stands there.
#[derive(Debug, Clone)]
pub(super) struct Here {
    /// Relative to where the walk began.
    pub(super) path: Vec<u8>,
    pub(super) kind: FileKind,
}

/// The walk, a step at a time.
pub(super) struct Walk {
    root: PathBuf,
    source: LocalDirectory,
    /// The only name that is looked at in the root, if not all are.
    only: Option<Vec<u8>>,
    stack: Vec<Passing>,
}

impl Walk {
    /// A walk through `root`, or through what stands in it by the name `only`. A root that is not there holds nothing.
    pub(super) fn new(root: &Path, only: Option<Vec<u8>>) -> Result<Walk> {
        let mut walk = Walk {
            root: root.into(),
            source: LocalDirectory::new(root.into()),
            only,
            stack: Vec::new(),
        };
        walk.open(Vec::new())?;
        Ok(walk)
    }

    fn open(&mut self, path: Vec<u8>) -> Result<()> {
        let passing = Passing::begin(&self.source, path.clone()).at("list", below(&self.root, &path))?;
        self.stack.extend(passing);
        Ok(())
    }

    pub(super) fn next(&mut self) -> Result<Option<Here>> {
        while let Some(top) = self.stack.last_mut() {
            match top.step() {
                None => {
                    self.stack.pop();
                }
                Some(Step::Descend(number)) => {
                    let (path, _) = top.entry(number);
                    self.open(path)?;
                }
                Some(Step::Record(number)) => {
                    let (name, _) = top.names().get(number);
                    let root = top.path().is_empty();
                    let left_out = root && self.only.as_ref().is_some_and(|only| only != name);
                    if name == FOUND || root && name == UNFINISHED.as_bytes() || left_out {
                        continue;
                    }
                    let (path, kind) = top.entry(number);
                    if kind == FileKind::Directory {
                        top.look_into(number);
                    }
                    return Ok(Some(Here { path, kind }));
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_once_in_the_order_of_the_table_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for directory in ["a/b", "a.d", "lost+found", "pg_wal/lost+found"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        for file in ["a/b/c", "a/b.c", "a-b", "lost+found/x", "a.d/x", UNFINISHED] {
            std::fs::write(root.join(file), "").unwrap();
        }
        std::os::unix::fs::symlink(root.join("a"), root.join("z")).unwrap();
        let all = |only: Option<&str>| {
            let mut walk = Walk::new(root, only.map(|only| only.as_bytes().to_vec())).unwrap();
            let mut paths = Vec::new();
            while let Some(here) = walk.next().unwrap() {
                paths.push(String::from_utf8(here.path).unwrap());
            }
            paths
        };
        let found = all(None);
        assert_eq!(
            found,
            ["a", "a-b", "a.d", "a.d/x", "a/b", "a/b.c", "a/b/c", "pg_wal", "z"]
        );
        assert!(found.is_sorted());
        assert_eq!(all(Some("a.d")), ["a.d", "a.d/x"]);
        assert!(Walk::new(&root.join("none"), None).unwrap().next().unwrap().is_none());
    }
}
