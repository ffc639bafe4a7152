//! Whether what a restore brings has room, on each file system.
//!
//! Invariant: bytes count where they will lie. Another file system may be mounted at any directory that stays; a link within
//! the data directory does not stay where the backup has a directory. What is removed is so before anything is written.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{Result, error::At as _};

use super::refused;

/// Room left over, for what is not counted and so that the server can start at all.
const SPARE: i128 = 64 << 20;

/// Room for the mark that a restore is under way: it is written before anything is removed.
const MARK: i128 = 1 << 20;

/// Bytes that come and go.
#[derive(Debug, Clone, Default)]
pub(super) struct Growth {
    /// By device.
    systems: BTreeMap<u64, System>,
    /// The last directory that was booked to and its device: files of one directory come one after another.
    last: Option<(PathBuf, u64)>,
}

#[derive(Debug, Clone)]
struct System {
    /// The first directory that was met there.
    path: PathBuf,
    bytes: i128,
    /// Whether the data directory or a tablespace begins there: what is not counted lies in these.
    has_root: bool,
}

impl System {
    /// Bytes that must be free. Where nothing comes, nothing is needed: it may be full, or smaller than what is spared elsewhere.
    fn needed(&self) -> u64 {
        let needed = match self.has_root {
            true => (self.bytes + SPARE).max(MARK),
            false if self.bytes > 0 => self.bytes + SPARE,
            false => 0,
        };
        u64::try_from(needed).unwrap_or(u64::MAX)
    }
}

impl Growth {
    /// Books bytes to the file system of the nearest directory to `directory` that is there. `root` is the data directory or
    /// the tablespace that it belongs to, or is.
    pub(super) fn book(&mut self, root: &Path, directory: &Path, bytes: i128) -> Result<()> {
        let device = match &self.last {
            Some((last, device)) if last == directory => *device,
            _ => {
                let (nearest, device) = nearest(root, directory)?;
                self.systems.entry(device).or_insert(System {
                    path: nearest.into(),
                    bytes: 0,
                    has_root: false,
                });
                self.last = Some((directory.into(), device));
                device
            }
        };
        if let Some(system) = self.systems.get_mut(&device) {
            system.bytes += bytes;
            system.has_root |= directory == root;
        }
        Ok(())
    }

    /// Refuses what has no room; bytes free on the fullest file system.
    ///
    /// # Errors
    /// [`crate::Error::Refused`] with the directory that lacks room.
    pub(super) fn check(&self) -> Result<u64> {
        let mut least = u64::MAX;
        for system in self.systems.values() {
            let (path, needed) = (&system.path, system.needed());
            let room = rustix::fs::statvfs(path).at("ask the free space of", path)?;
            let free = room.f_bavail.saturating_mul(room.f_frsize);
            least = least.min(free);
            if free < needed {
                return Err(refused(
                    "no-room",
                    format!(
                        "{} has {free} bytes free and the restore needs {needed}",
                        path.display()
                    ),
                    "Make room there, or restore to another file system.",
                ));
            }
        }
        Ok(least)
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
        // Not where temporary files go: that may be memory too.
        let folder = tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
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
        let found = |growth: &Growth| {
            let systems = growth.systems.values();
            let mut found: Vec<_> = systems.map(|one| (one.path.clone(), one.bytes, one.has_root)).collect();
            found.sort_by_key(|(_, bytes, _)| *bytes);
            found
        };
        assert_eq!(found(&growth), [(root.into(), 31, true), (elsewhere.into(), 70, true)]);
    }

    #[test]
    fn what_is_removed_makes_room_and_what_does_not_grow_needs_none() {
        let needed = |has_root, bytes| {
            let path = PathBuf::new();
            System { path, bytes, has_root }.needed()
        };
        let spare = u64::try_from(SPARE).unwrap();
        assert_eq!(needed(true, 0), spare);
        assert_eq!(needed(true, 5), spare + 5);
        assert_eq!(needed(true, -5), spare - 5);
        assert_eq!(needed(true, -2 * SPARE), 1 << 20);
        assert_eq!(needed(false, 5), spare + 5);
        assert_eq!((needed(false, 0), needed(false, -5)), (0, 0));
    }

    #[test]
    fn too_little_room_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let check = |bytes| {
            let mut growth = Growth::default();
            growth.book(folder.path(), &folder.path().join("new"), bytes).unwrap();
            growth.check()
        };
        assert!(check(1).is_ok());
        assert!(check(i128::from(u64::MAX / 4)).is_err());
    }
}
