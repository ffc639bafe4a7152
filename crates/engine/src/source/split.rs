//! One cluster's files from two servers: those of relations from a standby, all others from its primary.
//!
//! WAL brings a relation's pages from where the standby has them to where they belong. Files that no WAL page by page tells of
//! (transaction status, maps of file numbers, configuration) are those of the server whose backup it is.
//!
//! Invariant: which relation files there are, and how long they are, only the standby says; nothing else of it is seen.

use std::{io, sync::Arc};

use pgformat::relation::classify;

use super::{FileKind, Names, Source, SourceFile, Stat};

/// The data directories of a standby and its primary as one.
pub struct SplitDirectory {
    relations: Arc<dyn Source>,
    others: Arc<dyn Source>,
}

impl SplitDirectory {
    /// Relations from `relations`, which is the standby's directory, and all else from `others`, the primary's.
    pub fn new(relations: Arc<dyn Source>, others: Arc<dyn Source>) -> SplitDirectory {
        SplitDirectory { relations, others }
    }

    fn of(&self, path: &[u8]) -> &dyn Source {
        match classify(path) {
            Some(_) => &*self.relations,
            None => &*self.others,
        }
    }
}

/// Whether relations lie in that directory, or below it.
fn holds_relations(path: &[u8]) -> bool {
    let within = |folder: &[u8]| {
        path.strip_prefix(folder)
            .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    };
    within(b"global") || within(b"base") || within(b"pg_tblspc")
}

/// Whether it is a tablespace, or the cluster's folder in one: both must be where the relations are.
fn is_tablespace(path: &[u8]) -> bool {
    let inside = path.strip_prefix(b"pg_tblspc/");
    inside.is_some_and(|rest| rest.iter().filter(|byte| **byte == b'/').count() < 2)
}

fn is_relation(directory: &[u8], name: &[u8], kind: FileKind) -> bool {
    kind == FileKind::File && classify([directory, b"/", name].concat()).is_some()
}

impl Source for SplitDirectory {
    fn list(&self, path: &[u8]) -> io::Result<Option<Names>> {
        let others = self.others.list(path)?;
        if !holds_relations(path) {
            return Ok(others);
        }
        let relations = self.relations.list(path)?;
        if others.is_none() && relations.is_none() {
            return Ok(None);
        }
        let (others, relations) = (others.unwrap_or_default(), relations.unwrap_or_default());
        let mut names = Names::default();
        for (name, kind) in others.iter() {
            if !is_relation(path, name, kind) {
                names.push(name, kind);
            }
        }
        for (name, kind) in relations.iter() {
            let is_folder = matches!(kind, FileKind::Directory | FileKind::Link) && !others.contains(name);
            if is_folder || is_relation(path, name, kind) {
                names.push(name, kind);
            }
        }
        names.sort();
        Ok(Some(names))
    }

    fn stat(&self, path: &[u8]) -> io::Result<Option<Stat>> {
        if is_tablespace(path) {
            return self.relations.stat(path);
        }
        match self.of(path).stat(path)? {
            // A database that the primary has dropped is still there on the standby, until replay drops it.
            None if holds_relations(path) => self.relations.stat(path),
            found => Ok(found),
        }
    }

    fn link(&self, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
        match self.relations.link(path)? {
            None => self.others.link(path),
            found => Ok(found),
        }
    }

    fn open(&self, path: &[u8]) -> io::Result<Option<Box<dyn SourceFile>>> {
        self.of(path).open(path)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::source::LocalDirectory;

    fn directory(files: &[&str]) -> (tempfile::TempDir, Arc<dyn Source>) {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        let source = Arc::new(LocalDirectory::new(folder.path().to_path_buf()));
        (folder, source)
    }

    fn names(source: &dyn Source, path: &str) -> Vec<String> {
        let names = source.list(path.as_bytes()).unwrap().unwrap();
        let text = |(name, _): (&[u8], FileKind)| String::from_utf8_lossy(name).into_owned();
        names.iter().map(text).collect()
    }

    #[test]
    fn relations_are_the_standbys_and_nothing_else_is() {
        let (_standby, relations) = directory(&[
            "standby.signal",
            "pg_xact/0001",
            "base/5/1259",
            "base/5/1259_vm",
            "base/5/16400",
            "base/5/pg_filenode.map",
            "base/7/1259",
            "base/7/PG_VERSION",
            "global/1262",
            "global/pg_control",
        ]);
        let (_primary, others) = directory(&[
            "postgresql.conf",
            "pg_xact/0000",
            "base/5/1259",
            "base/5/16500",
            "base/5/PG_VERSION",
            "base/8/1259",
            "base/8/PG_VERSION",
            "global/1260",
            "global/pg_control",
        ]);
        let both = SplitDirectory::new(relations, others);
        assert_eq!(names(&both, ""), ["base", "global", "pg_xact", "postgresql.conf"]);
        assert_eq!(names(&both, "pg_xact"), ["0000"]);
        assert_eq!(names(&both, "base"), ["5", "7", "8"]);
        assert_eq!(names(&both, "base/5"), ["1259", "1259_vm", "16400", "PG_VERSION"]);
        assert_eq!(names(&both, "base/7"), ["1259"], "dropped by the primary");
        assert_eq!(names(&both, "base/8"), ["PG_VERSION"], "made by the primary");
        assert_eq!(names(&both, "global"), ["1262", "pg_control"]);
        assert!(both.stat(b"base/7").unwrap().is_some());
        assert!(both.list(b"base/9").unwrap().is_none());
        assert!(both.open(b"base/5/16400").unwrap().is_some());
        assert!(both.open(b"base/5/16500").unwrap().is_none());
    }
}
