//! Makes the directories of a restore ours while it writes, and gives them to their owner at the end.
//!
//! Invariant: nothing is removed from a directory that does not hold a mark which this very restore made there. Of
//! two restores into one place, the one that comes second finds the mark and touches nothing.

mod mark;
mod onto;

pub(super) use mark::{Mark, Marked, look};
pub(super) use onto::{CONTROL, HIDDEN, is_unfinished};

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use crate::{Result, error::At as _};

use super::{
    Plan,
    inline::{no_follow, write_new},
    owner::{Ids, give_file},
    place::{UNFINISHED, check_empty, is_empty_but},
    refused,
};

/// The directories of a restore, each with our mark in it.
#[derive(Debug, Default)]
pub(super) struct Claim {
    /// The data directory first.
    places: Vec<Claimed>,
    /// Whether it was this very run that took `pg_control` out of the way.
    hid: bool,
}

#[derive(Debug)]
struct Claimed {
    path: PathBuf,
    directory: File,
    /// Mode and owner as they were before us; `None`: it was made by us.
    before: Option<(u32, Ids)>,
    /// Whether the mark is of our making, not one that was found.
    fresh: bool,
    /// The mark, open and locked: nobody else takes up what we are at.
    _lock: File,
}

impl Claim {
    /// Judges all places once more, since the plan may be minutes old, then marks them: the data directory first.
    ///
    /// # Errors
    /// [`crate::Error::Refused`] if a place is not empty any more, or if another restore has begun there. Nothing
    /// is left of what was made here.
    pub(super) fn take(plan: &Plan) -> Result<Claim> {
        let spaces = || plan.tablespaces.iter().map(|space| &*space.to);
        check_empty(&plan.to, "the target")?;
        spaces().try_for_each(|space| check_empty(space, "the tablespace directory"))?;
        let mut claim = Claim::default();
        let content = mark::Mark::of(plan).bytes();
        for place in std::iter::once(&*plan.to).chain(spaces()) {
            if let Err(error) = claim.add(place, &content) {
                claim.give_up();
                return Err(error);
            }
        }
        Ok(claim)
    }

    fn add(&mut self, path: &Path, content: &[u8]) -> Result<()> {
        let made = match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
            made => made.map(|()| true).at("create", path)?,
        };
        let mark = path.join(UNFINISHED);
        match write_new(&mark, 0o600, content, None) {
            Err(crate::Error::File { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(refused(
                    "target-unfinished",
                    format!("another restore has begun to write into {}", path.display()),
                    "Wait for its end, or restore into another directory.",
                ));
            }
            marked => marked.inspect_err(|_| {
                // Half a mark would be taken for another restore's. Best effort, as all cleaning up.
                let _ = std::fs::remove_file(&mark);
                if made {
                    let _ = std::fs::remove_dir(path);
                }
            })?,
        }
        // From here on the place is ours, and ours to clean up.
        let directory = open(path);
        let metadata = directory.and_then(|directory| {
            let metadata = directory.metadata().at("look at", path)?;
            let lock = OpenOptions::new()
                .write(true)
                .custom_flags(no_follow())
                .open(&mark)
                .at("open", &mark)?;
            mark::hold(&lock, path)?;
            Ok((directory, metadata, lock))
        });
        let (directory, metadata, lock) = match metadata {
            Ok(opened) => opened,
            Err(error) => {
                let _ = std::fs::remove_file(&mark);
                return Err(error);
            }
        };
        let before = (!made).then(|| {
            let ids = Ids {
                user: metadata.uid(),
                group: metadata.gid(),
            };
            (metadata.mode() & 0o7777, ids)
        });
        self.places.push(Claimed {
            path: path.into(),
            directory,
            before,
            fresh: true,
            _lock: lock,
        });
        if !is_empty_but(path, UNFINISHED).at("list", path)? {
            // Whatever appeared there is not ours: see `give_up`.
            self.places.pop();
            let _ = std::fs::remove_file(&mark);
            return Err(refused(
                "target-not-empty",
                format!("something was written into {} just now", path.display()),
                "Restore into an empty or new directory; lastgood never overwrites one.",
            ));
        }
        self.keep_others_out()
    }

    /// While it is written, nobody but us may enter: whoever can change names in it could lead root's writes
    /// elsewhere.
    fn keep_others_out(&self) -> Result<()> {
        let Some(Claimed { path, directory, .. }) = self.places.last() else {
            return Ok(());
        };
        if rustix::process::geteuid().is_root() {
            fchown(directory, Some(0), Some(0)).at("change the owner of", path)?;
        }
        directory
            .set_permissions(Permissions::from_mode(0o700))
            .at("set the mode of", path)
    }

    /// All is written and durable: gives the directories to their owner, and takes the marks away, that of the data
    /// directory last.
    pub(super) fn hand_over(&self, owner: Option<Ids>) -> Result<()> {
        for Claimed { path, directory, .. } in self.places.iter().rev() {
            give_file(directory, path, owner)?;
        }
        for Claimed { path, directory, .. } in self.places.iter().rev() {
            let mark = path.join(UNFINISHED);
            std::fs::remove_file(&mark).at("remove", &mark)?;
            directory.sync_all().at("sync", path)?;
        }
        Ok(())
    }

    /// Leaves everything as it was found. Best effort: where that fails, the mark tells whoever finds the rest what it
    /// is.
    pub(super) fn give_up(self) {
        // The data directory goes last, and in it the mark.
        for claimed in self.places.iter().rev() {
            if !claimed.path.join(UNFINISHED).exists() || clear(&claimed.path).is_err() {
                continue;
            }
            match claimed.before {
                None => {
                    let _ = std::fs::remove_dir(&claimed.path);
                }
                Some((mode, ids)) => {
                    let _ = fchown(&claimed.directory, Some(ids.user), Some(ids.group));
                    let _ = claimed.directory.set_permissions(Permissions::from_mode(mode));
                }
            }
        }
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(no_follow() | rustix::fs::OFlags::DIRECTORY.bits().cast_signed())
        .open(path)
        .at("open", path)
}

/// Removes what was written into a directory that held nothing but our mark.
fn clear(path: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "lost+found" || name == UNFINISHED {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    std::fs::remove_file(path.join(UNFINISHED))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(places: &[&Path]) -> Result<Claim> {
        let mut claim = Claim::default();
        for place in places {
            if let Err(error) = claim.add(place, b"a backup") {
                claim.give_up();
                return Err(error);
            }
        }
        Ok(claim)
    }

    fn names(path: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(path).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn of_two_restores_into_one_target_the_second_touches_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (data, space) = (folder.path().join("data"), folder.path().join("space"));
        let first = claim(&[&data, &space]).unwrap();
        std::fs::write(data.join("PG_VERSION"), "15").unwrap();
        let other = folder.path().join("other");
        let second = claim(&[&other, &space]);
        assert!(matches!(
            second,
            Err(crate::Error::Refused {
                code: "target-unfinished",
                ..
            })
        ));
        assert!(!other.exists() && data.join("PG_VERSION").exists());
        assert_eq!(names(&space), [UNFINISHED]);
        first.hand_over(None).unwrap();
        assert_eq!((names(&data), names(&space)), (vec!["PG_VERSION".into()], vec![]));
    }

    #[test]
    fn what_somebody_else_wrote_survives_a_claim_that_fails() {
        let folder = tempfile::tempdir().unwrap();
        let theirs = folder.path().join("theirs");
        std::fs::create_dir(&theirs).unwrap();
        std::fs::write(theirs.join("precious"), "x").unwrap();
        let ours = folder.path().join("ours");
        assert!(claim(&[&ours, &theirs]).is_err());
        assert_eq!(names(&theirs), ["precious"]);
        assert!(!ours.exists());
    }

    #[test]
    fn giving_up_leaves_a_directory_as_it_was_found() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o750)).unwrap();
        let claimed = claim(&[folder.path()]).unwrap();
        std::fs::create_dir_all(folder.path().join("base/1")).unwrap();
        claimed.give_up();
        assert_eq!(names(folder.path()), Vec::<String>::new());
        assert_eq!(std::fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o750);
    }
}
