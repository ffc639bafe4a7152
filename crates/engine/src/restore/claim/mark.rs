//! The mark of an unfinished restore: a small file that says what is going on in a directory, locked by who does it.
//!
//! Invariant: of two restores into one directory at most one holds the lock. It ends with its process, however that ends.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{ErrorKind, Read},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::{Result, error::At as _};

use super::super::{Plan, inline::no_follow, owner::Ids, place::UNFINISHED, refused};

/// Longer ones are not ours.
const MARK_MAX: u64 = 16 << 10;

/// What stands in a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::restore) struct Mark {
    /// The backup that was to be restored when the mark was made.
    pub(in crate::restore) backup: String,
    /// The system identifier of its cluster. Marks of older versions do not have it.
    pub(in crate::restore) system: Option<u64>,
    /// To whom the files will belong: while they are written, directories are root's.
    pub(in crate::restore) owner: Option<Ids>,
    /// The data directory: whose tablespaces lie here.
    pub(in crate::restore) to: PathBuf,
}

impl Mark {
    pub(super) fn of(plan: &Plan) -> Mark {
        Mark {
            backup: plan.backup.clone(),
            system: Some(plan.facts().postgresql.generation),
            owner: plan.owner,
            to: plan.to.clone(),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let owner = self
            .owner
            .map(|ids| format!("{}:{}", ids.user, ids.group))
            .unwrap_or_default();
        let system = self
            .system
            .map(|system| format!("system {system}\n"))
            .unwrap_or_default();
        let head = format!("backup {}\n{system}owner {owner}\ndata ", self.backup);
        [head.as_bytes(), self.to.as_os_str().as_bytes(), b"\nwhole\n"].concat()
    }

    /// `None`: it was cut off while it was written, or is not ours.
    fn parse(bytes: &[u8]) -> Option<Mark> {
        let rest = bytes.strip_suffix(b"\nwhole\n")?.strip_prefix(b"backup ")?;
        let (backup, rest) = line(rest)?;
        let (mut owner, mut rest) = line(rest)?;
        let mut system = None;
        if let Some(number) = owner.strip_prefix("system ") {
            system = Some(number.parse().ok()?);
            (owner, rest) = line(rest)?;
        }
        let owner = owner.strip_prefix("owner ")?;
        let owner = match owner.split_once(':') {
            None => None,
            Some((user, group)) => Some(Ids {
                user: user.parse().ok()?,
                group: group.parse().ok()?,
            }),
        };
        let to = rest.strip_prefix(b"data ")?;
        Some(Mark {
            backup: backup.into(),
            system,
            owner,
            to: OsString::from_vec(to.to_vec()).into(),
        })
    }
}

/// A line, and what comes after it.
fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (line, rest) = bytes.split_at_checked(bytes.iter().position(|byte| *byte == b'\n')?)?;
    Some((std::str::from_utf8(line).ok()?, rest.get(1..)?))
}

/// What a directory's mark says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::restore) enum Marked {
    /// There is none.
    No,
    /// There is one, but what stands in it says nothing: its writer died over it.
    Empty,
    /// There is one of ours.
    By(Mark),
}

/// Looks for a mark, and changes nothing.
///
/// # Errors
/// [`crate::Error::Refused`] if a living restore holds it.
pub(in crate::restore) fn look(directory: &Path) -> Result<Marked> {
    let path = directory.join(UNFINISHED);
    let file = match OpenOptions::new().read(true).custom_flags(no_follow()).open(&path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Marked::No),
        file => file.at("open", &path)?,
    };
    hold(&file, directory)?;
    read(file, &path)
}

/// The content of an open mark. Whom another user names in it gets nothing: root gives files to whom it says.
pub(super) fn read(file: File, path: &Path) -> Result<Marked> {
    let metadata = file.metadata().at("look at", path)?;
    if !metadata.is_file() {
        return Ok(Marked::Empty);
    }
    let mut bytes = Vec::new();
    file.take(MARK_MAX).read_to_end(&mut bytes).at("read", path)?;
    let trusted = metadata.uid() == rustix::process::geteuid().as_raw();
    Ok(Mark::parse(&bytes).map_or(Marked::Empty, |mark| {
        Marked::By(Mark {
            owner: mark.owner.filter(|_| trusted),
            ..mark
        })
    }))
}

/// Locks an open mark, for as long as the file is open.
pub(super) fn hold(file: &File, directory: &Path) -> Result<()> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(refused(
            "target-unfinished",
            format!("another restore is writing into {}", directory.display()),
            "Wait for its end, or restore into another directory.",
        )),
        locked => locked.map_err(std::io::Error::from).at("lock the mark in", directory),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_what_it_was_told_and_half_a_mark_says_nothing() {
        let ids = Some(Ids { user: 26, group: 27 });
        for (system, owner) in [(None, None), (None, ids), (Some(7), None), (Some(u64::MAX), ids)] {
            let mark = Mark {
                backup: "20261120T143000Z-7f3k9q".into(),
                system,
                owner,
                to: "/srv/a\nb".into(),
            };
            let bytes = mark.bytes();
            assert_eq!(Mark::parse(&bytes), Some(mark));
            assert!((0..bytes.len()).all(|cut| Mark::parse(&bytes[..cut]).is_none()));
        }
    }

    #[test]
    fn a_mark_is_held_by_one_restore_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(look(folder.path()).unwrap(), Marked::No);
        std::fs::write(folder.path().join(UNFINISHED), "").unwrap();
        assert_eq!(look(folder.path()).unwrap(), Marked::Empty);
        let held = File::open(folder.path().join(UNFINISHED)).unwrap();
        hold(&held, folder.path()).unwrap();
        assert!(look(folder.path()).is_err());
        drop(held);
        assert!(look(folder.path()).is_ok());
    }
}
