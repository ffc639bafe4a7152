//! Brings files to what the backup says, a page at a time: what is right already is left, the rest is written.
//!
//! Invariant: nothing is written through a link, and nothing into a file that has another name besides.

use std::{
    fs::{File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    Result,
    error::At as _,
    traverse::{Compared, FileEntry, Handled, Handler, Reading},
};

use super::super::{
    copy::{create, finish},
    inline::no_follow,
    left_out::LeftOut,
    owner::Ids,
    place::below,
};

/// What all workers did together.
#[derive(Debug, Default)]
pub(in crate::restore) struct Totals(Mutex<Compared>);

impl Totals {
    fn add(&self, more: Compared) {
        // Whoever panicked while holding it has left whole numbers behind.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.compared += more.compared;
        all.written += more.written;
        all.written_bytes += more.written_bytes;
        all.fetched_bytes += more.fetched_bytes;
    }

    pub(super) fn get(&self) -> Compared {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker's part of a delta restore.
pub(in crate::restore) struct Patcher {
    pub(in crate::restore) root: PathBuf,
    pub(in crate::restore) owner: Option<Ids>,
    pub(in crate::restore) reading: Reading,
    pub(in crate::restore) totals: Arc<Totals>,
    pub(in crate::restore) left_out: Arc<LeftOut>,
}

impl Handler for Patcher {
    async fn file(&mut self, entry: &FileEntry, whole: bool) -> Result<Handled> {
        if self.left_out.has(&entry.path) {
            return self.reading.read(entry, |_, _| Ok(())).await;
        }
        let path = below(&self.root, &entry.path);
        // A file that comes in parts was brought to its length before the first of them.
        let file = if whole {
            ready(&path, entry.size)?
        } else {
            open(&path).at("open", &path)?
        };
        let local = |buffer: &mut [u8], offset| fill(&file, buffer, offset).at("read", &path);
        let put = |offset, bytes: &[u8]| file.write_all_at(bytes, offset).at("write", &path);
        let (handled, compared) = self.reading.compare(entry, local, put).await?;
        self.totals.add(compared);
        if whole {
            settle(&file, &path, entry, self.owner)?;
        }
        Ok(handled)
    }
}

/// Opens a file, or makes it, that has nothing beyond `size`.
pub(in crate::restore) fn ready(path: &Path, size: u64) -> Result<File> {
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return create(path),
        // Not even its owner may write into it.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return anew(path),
        Err(error) => return Err(error).at("open", path),
    };
    let metadata = file.metadata().at("look at", path)?;
    // The other name may be of a cluster that lives: hard links are how pg_upgrade and snapshots save room.
    if metadata.nlink() > 1 {
        return anew(path);
    }
    if metadata.len() > size {
        file.set_len(size).at("cut", path)?;
    }
    Ok(file)
}

fn anew(path: &Path) -> Result<File> {
    std::fs::remove_file(path).at("remove", path)?;
    create(path)
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(no_follow())
        .open(path)
}

/// As [`finish`], for a file that has mostly been right before: what is not changed needs no writing.
pub(in crate::restore) fn settle(file: &File, path: &Path, entry: &FileEntry, owner: Option<Ids>) -> Result<()> {
    let metadata = file.metadata().at("look at", path)?;
    let micros = metadata
        .mtime()
        .saturating_mul(1_000_000)
        .saturating_add(metadata.mtime_nsec() / 1000);
    let whole_micros = metadata.mtime_nsec() % 1000 == 0;
    let owned = owner.is_none_or(|ids| (ids.user, ids.group) == (metadata.uid(), metadata.gid()));
    let right =
        owned && metadata.mode() & 0o7777 == entry.mode & 0o777 && whole_micros && micros == entry.modified_micros;
    if right {
        Ok(())
    } else {
        finish(file, path, entry, owner)
    }
}

fn fill(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_and_one_with_another_name_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("one"), folder.path().join("other"));
        std::fs::write(&path, "0123456789").unwrap();
        drop(ready(&path, 4).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"0123");
        std::fs::hard_link(&path, &other).unwrap();
        drop(ready(&path, 2).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        assert_eq!(std::fs::read(&other).unwrap(), b"0123");
    }

    #[test]
    fn nothing_is_opened_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        std::fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(ready(&link, 0).is_err());
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
    }
}
