//! The directories of a repository on this machine: made, kept on disk, and rid of what killed writers left.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

/// Only the owner may look into a repository's folder.
const PRIVATE: u32 = 0o700;

/// Makes a directory, and those above it, that only its owner may enter; durable when it returns. One that is
/// there and empty is made private too: `mkdir` by hand before `init` leaves it open to all.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    // What an earlier attempt made and did not sync is new for us, so the directory and the one above always are.
    let existing = path.ancestors().skip(2).find(|ancestor| ancestor.exists());
    DirBuilder::new().recursive(true).mode(PRIVATE).create(path)?;
    if fs::read_dir(path)?.next().is_none() {
        match fs::set_permissions(path, Permissions::from_mode(PRIVATE)) {
            // Another's folder, prepared for us: who may look into it is that one's decision.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            outcome => outcome?,
        }
    }
    for directory in path.ancestors() {
        match sync(directory) {
            // One that was there may be closed to us; whoever made it has seen to it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && directory != path => {}
            outcome => outcome?,
        }
        if Some(directory) == existing {
            break;
        }
    }
    Ok(())
}

/// Makes what another writer put under `name` in `root` as durable as if it were ours: it may have been killed, or
/// be about to be, between naming the file and syncing the directory.
pub(super) fn sync_existing(root: &Path, name: &str) -> io::Result<()> {
    let path = root.join(name);
    for part in path.ancestors() {
        sync(part)?;
        if part == root {
            break;
        }
    }
    Ok(())
}

fn sync(path: &Path) -> io::Result<()> {
    // A relative path ends in the empty one, which is where we are.
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    File::open(path)?.sync_all()
}

/// Removes the unfinished files (`<name>#<n>`) under `root` that were last written before `before_micros`; how many.
///
/// No writer of ours works on one file for long, so an old one is nobody's any more.
pub(super) fn clear_unfinished(root: &Path, before_micros: i64) -> io::Result<u64> {
    let (mut removed, mut waiting) = (0u64, vec![root.to_path_buf()]);
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            // Of the entry itself: links are not followed out of the folder.
            let kind = entry.file_type()?;
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() && entry.file_name().to_str().is_some_and(is_unfinished) {
                let modified = entry.metadata()?.modified()?;
                let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                if i64::try_from(since.as_micros()).unwrap_or(i64::MAX) < before_micros {
                    fs::remove_file(entry.path())?;
                    removed = removed.saturating_add(1);
                }
            }
        }
    }
    Ok(removed)
}

/// Whether the driver calls a file so before it is whole: no object's name has a `#`.
fn is_unfinished(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(name, number)| {
        !name.is_empty() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    })
}
