//! By how much each file system will grow.
//!
//! Invariant: bytes count where they will lie. Another file system may be mounted at any directory that stays; a link within
//! the data directory does not stay where the backup has a directory.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{Result, error::At as _};

/// Bytes that come and go.
#[derive(Debug, Clone, Default)]
pub(super) struct Growth {
    /// By device: the first directory that was met there, and its bytes.
    systems: BTreeMap<u64, (PathBuf, i128)>,
    /// The last directory that was booked to and its device: files of one directory come one after another.
    last: Option<(PathBuf, u64)>,
}

impl Growth {
    /// Books bytes to the file system of the nearest directory to `directory` that is there. `root` is the data directory or
    /// the tablespace that it belongs to.
    pub(super) fn book(&mut self, root: &Path, directory: &Path, bytes: i128) -> Result<()> {
        let device = match &self.last {
            Some((last, device)) if last == directory => *device,
            _ => {
                let (nearest, device) = nearest(root, directory)?;
                self.systems.entry(device).or_insert((nearest.into(), 0));
                self.last = Some((directory.into(), device));
                device
            }
        };
        if let Some((_, growth)) = self.systems.get_mut(&device) {
            *growth += bytes;
        }
        Ok(())
    }

    /// For each file system a directory of it, and the bytes that it must have room for.
    pub(super) fn wanted(&self) -> Vec<(&Path, u64)> {
        let bytes = |growth: i128| u64::try_from(growth.max(0)).unwrap_or(u64::MAX);
        let systems = self.systems.values();
        systems.map(|(path, growth)| (&**path, bytes(*growth))).collect()
    }
}

/// The nearest directory and its device. Below `root` none that a link leads to counts, for a directory will take its place.
fn nearest<'a>(root: &Path, directory: &'a Path) -> Result<(&'a Path, u64)> {
    for path in directory.ancestors() {
        let below = path != root && path.starts_with(root);
        let found = if below {
            std::fs::symlink_metadata(path)
        } else {
            std::fs::metadata(path)
        };
        match found {
            Ok(metadata) if metadata.is_dir() => return Ok((path, metadata.dev())),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error).at("look at", path),
        }
    }
    let device = std::fs::metadata("/").at("look at", Path::new("/"))?.dev();
    Ok((Path::new("/"), device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_where_they_will_lie() {
        let folder = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir_in("/dev/shm").unwrap();
        let (root, elsewhere) = (folder.path(), other.path());
        std::fs::create_dir(root.join("base")).unwrap();
        std::os::unix::fs::symlink(elsewhere, root.join("link")).unwrap();
        let mut growth = Growth::default();
        growth.book(root, root, 1).unwrap();
        growth.book(root, &root.join("base"), 2).unwrap();
        growth.book(root, &root.join("base/5"), 4).unwrap();
        growth.book(root, &root.join("link"), 8).unwrap();
        growth.book(root, &root.join("link/5"), 16).unwrap();
        let space = elsewhere.join("space");
        growth.book(&space, &space.join("PG_15_202209061/5"), 100).unwrap();
        growth.book(elsewhere, elsewhere, -30).unwrap();
        let mut wanted = growth.wanted();
        wanted.sort_by_key(|(_, bytes)| *bytes);
        assert_eq!(wanted, [(root, 31), (elsewhere, 70)]);
        growth.book(elsewhere, elsewhere, -100).unwrap();
        assert!(growth.wanted().contains(&(elsewhere, 0)));
    }
}
