//! Goes through a data directory in the order of the file table and cuts it into pieces of work.
//!
//! Invariant: paths come out in ascending byte order, each once; nothing is held of a directory but its names.

use std::sync::Arc;

use pgformat::{
    exclude::{self, Entry as What, Verdict},
    relation::{self, Fork, RelationFile},
};

use crate::{
    Error, Result,
    source::{FileKind, Names, Passing, Source, Stat, Step, join},
};

use super::increment::ParentFile;

/// A large relation file is read in parts of this many bytes, by whoever is free. A multiple of what a leaf
/// covers at every block size, so that no leaf lies in two parts.
pub(super) const PART_BYTES: u64 = 64 << 20;
/// Small files are handed out together until they come to this many bytes …
const BATCH_BYTES: u64 = 1 << 20;
/// … or are this many.
const BATCH_FILES: usize = 128;

/// A file to be read.
#[derive(Debug, Clone)]
pub(super) struct FileWork {
    pub(super) path: Vec<u8>,
    pub(super) stat: Stat,
    /// What the name says, if it is a relation's.
    pub(super) relation: Option<RelationFile>,
    /// The file as the parent of an incremental backup has it.
    pub(super) parent: Option<Arc<ParentFile>>,
}

/// One piece of work, in order.
#[derive(Debug)]
pub(super) enum Work {
    /// A directory to be recorded.
    Directory { path: Vec<u8>, stat: Stat },
    /// A link to a tablespace.
    Link { path: Vec<u8>, stat: Stat, target: Vec<u8> },
    /// Whole files, read one after another into shared frames.
    Files(Vec<FileWork>),
    /// A part of a large relation file.
    Part {
        file: FileWork,
        from: u64,
        bytes: u64,
        last: bool,
    },
}

/// Who takes the pieces. Returning an error ends the walk.
pub(super) trait Sink {
    /// Takes the next piece.
    async fn take(&mut self, work: Work) -> Result<()>;
    /// Something was left out that a user should know of.
    fn left_out(&mut self, path: &[u8], why: &str);
}

/// What the walk must know of the cluster's tablespaces.
#[derive(Debug, Clone, Default)]
pub(super) struct Spaces {
    /// The folder in a tablespace that belongs to this cluster; others in it are other clusters'.
    pub(super) version_directory: String,
    /// Locations inside the data directory, relative to it. What is in them comes by way of `pg_tblspc`, and is
    /// not to come twice.
    pub(super) inside: Vec<Vec<u8>>,
    /// Tablespaces that the catalog had when the backup was planned.
    pub(super) known: Vec<u32>,
}

/// Walks the whole data directory.
pub(super) async fn walk(source: &dyn Source, spaces: &Spaces, sink: &mut impl Sink) -> Result<()> {
    let mut walker = Walker {
        source,
        spaces,
        sink,
        batch: Vec::new(),
        batch_bytes: 0,
    };
    let root = walker
        .stat(b"")?
        .ok_or_else(|| unreadable(b"", std::io::ErrorKind::NotFound.into()))?;
    walker
        .sink
        .take(Work::Directory {
            path: Vec::new(),
            stat: root,
        })
        .await?;
    walker.directories().await?;
    walker.flush().await
}

struct Walker<'a, S> {
    source: &'a dyn Source,
    spaces: &'a Spaces,
    sink: &'a mut S,
    batch: Vec<FileWork>,
    batch_bytes: u64,
}

impl<S: Sink> Walker<'_, S> {
    async fn directories(&mut self) -> Result<()> {
        let mut stack = Vec::new();
        stack.extend(self.open(Vec::new())?);
        while let Some(top) = stack.last_mut() {
            let number = match top.step() {
                Some(Step::Record(number)) => number,
                Some(Step::Descend(number)) => {
                    let inner = self.open(top.entry(number).0)?;
                    stack.extend(inner);
                    continue;
                }
                None => {
                    stack.pop();
                    continue;
                }
            };
            if self.is_another_clusters(top, number) {
                continue;
            }
            let (path, kind) = top.entry(number);
            let what = what(&path, kind);
            let verdict = exclude::judge(&path, what);
            if verdict == Verdict::Skip || kind == FileKind::File && is_unlogged(&path, top.names()) {
                continue;
            }
            if what == What::Directory && verdict == Verdict::Keep && !self.spaces.inside.contains(&path) {
                top.look_into(number);
            }
            self.entry(path, kind).await?;
        }
        Ok(())
    }

    fn open(&self, path: Vec<u8>) -> Result<Option<Passing>> {
        Passing::begin(self.source, path.clone()).map_err(|error| unreadable(&path, error))
    }

    /// In a tablespace each cluster has a folder of its own.
    fn is_another_clusters(&self, directory: &Passing, number: usize) -> bool {
        let tablespace = directory.path().strip_prefix(b"pg_tblspc/");
        tablespace.is_some_and(|rest| !rest.contains(&b'/'))
            && directory.names().get(number).0 != self.spaces.version_directory.as_bytes()
    }

    async fn entry(&mut self, path: Vec<u8>, kind: FileKind) -> Result<()> {
        // pg_control is copied last, by hand: see the module `control`.
        if path == b"global/pg_control" {
            return Ok(());
        }
        // A link that leads nowhere has no content to look at: it is judged before.
        if kind == FileKind::Link && path != b"pg_wal" && relation::tablespace_link(&path).is_none() {
            self.sink.left_out(
                &path,
                "it is a symbolic link, which PostgreSQL's own base backup leaves out too",
            );
            return Ok(());
        }
        if kind == FileKind::Link
            && let Some(oid) = relation::tablespace_link(&path)
            && self.spaces.known.contains(&oid)
        {
            check_space(self.source, self.spaces, oid)?;
        }
        let Some(stat) = self.stat(&path)? else { return Ok(()) };
        match kind {
            // A pg_wal that is a link comes back as a directory: its content is not part of a backup anyway.
            _ if path == b"pg_wal" => {
                self.flush().await?;
                self.sink.take(Work::Directory { path, stat }).await
            }
            FileKind::Directory => {
                self.flush().await?;
                self.sink.take(Work::Directory { path, stat }).await
            }
            FileKind::Link => {
                let target = self.source.link(&path).map_err(|error| unreadable(&path, error))?;
                let Some(target) = target else { return Ok(()) };
                if !relation::tablespace_link(&path).is_some_and(|oid| self.spaces.known.contains(&oid)) {
                    return Err(tablespace_made(&String::from_utf8_lossy(&target)));
                }
                self.flush().await?;
                self.sink.take(Work::Link { path, stat, target }).await
            }
            FileKind::File => self.file(path, stat).await,
            FileKind::Special => {
                self.sink.left_out(&path, "it is no regular file");
                Ok(())
            }
        }
    }

    async fn file(&mut self, path: Vec<u8>, stat: Stat) -> Result<()> {
        let relation = relation::classify(&path);
        if relation.is_some() && stat.size > PART_BYTES {
            self.flush().await?;
            let mut from = 0;
            while from < stat.size {
                let bytes = PART_BYTES.min(stat.size - from);
                let file = FileWork {
                    path: path.clone(),
                    stat,
                    relation,
                    parent: None,
                };
                self.sink
                    .take(Work::Part {
                        file,
                        from,
                        bytes,
                        last: from + bytes == stat.size,
                    })
                    .await?;
                from += bytes;
            }
            return Ok(());
        }
        self.batch_bytes += stat.size;
        self.batch.push(FileWork {
            path,
            stat,
            relation,
            parent: None,
        });
        if self.batch_bytes >= BATCH_BYTES || self.batch.len() >= BATCH_FILES {
            self.flush().await
        } else {
            Ok(())
        }
    }

    async fn flush(&mut self) -> Result<()> {
        self.batch_bytes = 0;
        match std::mem::take(&mut self.batch) {
            files if files.is_empty() => Ok(()),
            files => self.sink.take(Work::Files(files)).await,
        }
    }

    fn stat(&self, path: &[u8]) -> Result<Option<Stat>> {
        self.source.stat(path).map_err(|error| unreadable(path, error))
    }
}

/// Links to tablespaces are looked into like directories.
fn what(path: &[u8], kind: FileKind) -> What {
    let linked = kind == FileKind::Link && (path == b"pg_wal" || relation::tablespace_link(path).is_some());
    if kind == FileKind::Directory || linked {
        What::Directory
    } else {
        What::File
    }
}

/// Whoever replays the WAL of its making writes to that very place, which on the source's machine is the source's.
pub(super) fn tablespace_made(location: &str) -> Error {
    Error::Failed {
        code: "tablespace-made",
        what: format!("the tablespace at {location} was made while the backup was being taken"),
        hint: "Take the backup again: it then knows the tablespace, and a restore can put it elsewhere. On a standby that helps after the primary's next checkpoint.".into(),
    }
}

/// Refuses to begin where a tablespace cannot be seen; see [`check_space`].
pub(super) fn check_spaces(source: &dyn Source, spaces: &Spaces) -> Result<()> {
    spaces
        .known
        .iter()
        .try_for_each(|oid| check_space(source, spaces, *oid))
}

/// A path that is gone is a relation that was dropped; a whole tablespace is not dropped while its link is there. It
/// is not mounted here, or this user does not see it, and a backup without it would look whole. Even an empty
/// tablespace has the cluster's own folder.
fn check_space(source: &dyn Source, spaces: &Spaces, oid: u32) -> Result<()> {
    let link = format!("pg_tblspc/{oid}").into_bytes();
    let folder = join(&link, spaces.version_directory.as_bytes());
    // One in place is a directory and no link, or its link may be gone by now: both are for the walk to see.
    let target = || match source.link(&link) {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Ok(None),
        target => target.map_err(|error| unreadable(&link, error)),
    };
    if target()?.is_none()
        || source
            .stat(&folder)
            .map_err(|error| unreadable(&folder, error))?
            .is_some()
    {
        return Ok(());
    }
    // It may have been dropped between the two looks.
    target()?.map_or(Ok(()), |target| {
        Err(Error::Failed {
            code: "tablespace-unreadable",
            what: format!(
                "pg_tblspc/{oid} leads to {}, where {} is not to be seen",
                String::from_utf8_lossy(&target),
                spaces.version_directory
            ),
            hint: "Make the tablespace visible at that very path to whoever runs lastgood (mount it, or give rights to the directories above it), then take the backup again.".into(),
        })
    })
}

/// Forks of unlogged relations stay behind, but for the init fork that the server makes them from.
fn is_unlogged(path: &[u8], names: &Names) -> bool {
    if relation::classify(path).is_none_or(|file| file.fork == Fork::Init) {
        return false;
    }
    let init = relation::init_fork_of(path);
    init.is_some_and(|init| names.contains(init.rsplit('/').next().unwrap_or(&init).as_bytes()))
}

pub(super) fn unreadable(path: &[u8], source: std::io::Error) -> Error {
    let shown = String::from_utf8_lossy(path);
    let path = if path.is_empty() {
        "the data directory".into()
    } else {
        shown.into_owned()
    };
    Error::File {
        operation: "read",
        path,
        source,
    }
}

#[cfg(test)]
mod tests;
