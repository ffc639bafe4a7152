//! Puts a file where the server wants it: whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::{Result, error::At as _};

/// What is between the name that is wanted and the number of the process that writes.
const MARK: &str = ".lastgood-";

/// A file under a temporary name beside its own, removed unless it is finished. It is not synced: servers sync what they
/// keep of it (`KeepFileRestoredFromArchive`).
#[derive(Debug)]
pub(super) struct Placed {
    file: File,
    staged: PathBuf,
    path: PathBuf,
    finished: bool,
}

impl Placed {
    /// Begins the file `path`, for its owner alone. What killed calls left of it goes.
    pub(super) fn begin(path: &Path) -> Result<Placed> {
        remove_abandoned(path);
        let staged = staged(path, std::process::id());
        // Of our own number it can only be from before the machine was started, or the process's number given anew.
        let _ = fs::remove_file(&staged);
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&staged)
            .at("create", &staged)?;
        Ok(Placed {
            file,
            staged,
            path: path.into(),
            finished: false,
        })
    }

    /// Adds bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).at("write", &self.staged)
    }

    /// Adds zeroes. They are written: a server may use the file again for WAL, and must not run out of room in it.
    pub(super) fn fill(&mut self, mut length: u64) -> Result<()> {
        let zeroes = vec![0; 64 << 10];
        while length > 0 {
            let now = usize::try_from(length).unwrap_or(usize::MAX).min(zeroes.len());
            self.write(zeroes.get(..now).unwrap_or_default())?;
            length -= now as u64;
        }
        Ok(())
    }

    /// What the file system says of it.
    pub(super) fn metadata(&self) -> Result<fs::Metadata> {
        self.file.metadata().at("look at", &self.staged)
    }

    /// Gives it its name.
    pub(super) fn finish(self) -> Result<()> {
        let path = self.path.clone();
        self.finish_as(&path)
    }

    /// Gives it a name that was not known when it was begun, in the same directory.
    pub(super) fn finish_as(mut self, path: &Path) -> Result<()> {
        fs::rename(&self.staged, path).at("rename", &self.staged)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if !self.finished {
            // Whoever comes next removes what stays.
            let _ = fs::remove_file(&self.staged);
        }
    }
}

fn staged(path: &Path, process: u32) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!("{MARK}{process}"));
    path.with_file_name(name)
}

/// Removes what calls that were killed left beside `path`.
fn remove_abandoned(path: &Path) {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(std::ffi::OsStr::to_str)) else {
        return;
    };
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let file = entry.file_name();
        let process = file
            .to_str()
            .and_then(|file| file.strip_prefix(name)?.strip_prefix(MARK));
        if let Some(process) = process.and_then(|process| process.parse::<u32>().ok())
            && !Path::new(&format!("/proc/{process}")).exists()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("RECOVERYXLOG");
        let count = || fs::read_dir(folder.path()).unwrap().count();
        let mut file = Placed::begin(&path).unwrap();
        file.write(b"WAL").unwrap();
        drop(file);
        assert_eq!(count(), 0);
        let mut file = Placed::begin(&path).unwrap();
        file.write(b"WAL").unwrap();
        file.fill(100_000).unwrap();
        assert!(!path.exists());
        file.finish().unwrap();
        let content = fs::read(&path).unwrap();
        assert!(content.len() == 100_003 && content.starts_with(b"WAL\0"));
        assert_eq!(count(), 1);
    }

    #[test]
    fn what_a_killed_call_left_goes_with_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("RECOVERYXLOG");
        // Process numbers end long before this one.
        let left = staged(&path, u32::MAX);
        let other = folder.path().join("RECOVERYXLOG.keep");
        for file in [&left, &other] {
            fs::write(file, b"x").unwrap();
        }
        Placed::begin(&path).unwrap().finish().unwrap();
        assert!(!left.exists() && other.exists());
    }
}
