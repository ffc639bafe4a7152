//! Judges where a restore is to write. Nothing is changed here.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use crate::{Result, error::At as _};

use super::refused;

/// Stands in a target while it is being written: what is found with it is an unfinished restore of ours.
pub(super) const UNFINISHED: &str = "lastgood-restore-unfinished";

/// Refuses a target that is not absent or empty.
pub(super) fn check_empty(path: &Path, what: &str) -> Result<()> {
    let shown = path.display();
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return check_parent(path, what),
        found => found.at("look at", path)?,
    };
    let is_directory = metadata.is_dir() || std::fs::metadata(path).is_ok_and(|target| target.is_dir());
    if !is_directory {
        return Err(refused(
            "target-no-directory",
            format!("{what} {shown} is no directory"),
            "Give a directory that is empty or does not exist.",
        ));
    }
    if let Ok(Some(pid)) = pgclient::cluster::is_running(path) {
        return Err(refused(
            "target-running",
            format!("a PostgreSQL server (process {pid}) is running on {shown}"),
            "Restore into another directory; nothing of the running server is touched.",
        ));
    }
    if path.join(UNFINISHED).exists() {
        return Err(refused(
            "target-unfinished",
            format!("{shown} holds a restore that was cut off before its end"),
            format!("Run the command again with --delta to go on with it; or remove it (rm -r {shown}) first."),
        ));
    }
    if !is_empty_but(path, "lost+found").at("list", path)? {
        return Err(refused(
            "target-not-empty",
            format!("{what} {shown} is not empty"),
            "Restore into an empty or new directory. Onto an older state of this very cluster, add --delta.",
        ));
    }
    Ok(())
}

/// Whether there is nothing in a directory but `known`. A file system's own folder at a mount point is nobody's data.
pub(super) fn is_empty_but(path: &Path, known: &str) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        if name != known && name != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

fn check_parent(path: &Path, what: &str) -> Result<()> {
    match path.parent() {
        Some(parent) if parent.is_dir() => Ok(()),
        _ => Err(refused(
            "target-parent-missing",
            format!("the directory above {what} {} does not exist", path.display()),
            "Make it first, on the file system that shall hold the data.",
        )),
    }
}

/// Where a path leads: absolute, and as far as it exists with all links followed. What is compared and written to
/// afterwards is this path and no other way of saying it.
pub(super) fn settled(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).at("find", path)?;
    if let Ok(real) = path.canonicalize() {
        return Ok(real);
    }
    let path = without_dots(&path);
    let real = path.ancestors().skip(1).find_map(|ancestor| {
        let rest = path.strip_prefix(ancestor).ok()?;
        Some(ancestor.canonicalize().ok()?.join(rest))
    });
    Ok(real.unwrap_or(path))
}

fn without_dots(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean
}

/// Refuses directories of which one lies in another, or that are the same: files would mix.
pub(super) fn check_apart(paths: &[&Path]) -> Result<()> {
    for (number, one) in paths.iter().enumerate() {
        for other in &paths[number + 1..] {
            if one.starts_with(other) || other.starts_with(one) {
                return Err(refused(
                    "targets-overlap",
                    format!("{} and {} lie in one another", one.display(), other.display()),
                    "Give each tablespace a directory of its own outside the data directory, with --tablespace OLD=NEW.",
                ));
            }
        }
    }
    Ok(())
}

/// A path of the repository's, below `root`. The table's reader has refused whatever could lead outside.
pub(super) fn below(root: &Path, path: &[u8]) -> PathBuf {
    root.join(OsStr::from_bytes(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_or_absent_directory_is_fine_and_any_other_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let code = |path: &Path| match check_empty(path, "the target") {
            Ok(()) => "fine",
            Err(crate::Error::Refused { code, .. }) => code,
            Err(other) => panic!("{other}"),
        };
        assert_eq!(code(folder.path()), "fine");
        assert_eq!(code(&folder.path().join("new")), "fine");
        assert_eq!(code(&folder.path().join("not/there")), "target-parent-missing");
        std::fs::write(folder.path().join("file"), "x").unwrap();
        assert_eq!(code(folder.path()), "target-not-empty");
        assert_eq!(code(&folder.path().join("file")), "target-no-directory");
        std::fs::write(folder.path().join(UNFINISHED), "").unwrap();
        assert_eq!(code(folder.path()), "target-unfinished");
    }

    #[test]
    fn a_target_is_compared_by_where_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        assert_eq!(settled(&root.join("link")).unwrap(), root.join("real"));
        assert_eq!(settled(&root.join("link/new")).unwrap(), root.join("real/new"));
        assert_eq!(settled(&root.join("no/../new")).unwrap(), root.join("new"));
        let (one, other) = (
            settled(&root.join("real")).unwrap(),
            settled(&root.join("link/space")).unwrap(),
        );
        assert!(check_apart(&[&one, &other]).is_err());
    }

    #[test]
    fn directories_in_one_another_are_refused() {
        let apart = |paths: &[&str]| check_apart(&paths.iter().map(Path::new).collect::<Vec<_>>()).is_ok();
        assert!(apart(&["/srv/data", "/srv/data2", "/srv/fast"]));
        assert!(!apart(&["/srv/data", "/srv/fast", "/srv/data/space"]));
        assert!(!apart(&["/srv/data", "/srv/data"]));
    }
}
