//! A data directory of this machine.

use std::{
    ffi::OsStr,
    fs::{self, File, FileType, Metadata},
    io,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileExt, MetadataExt},
    },
    path::PathBuf,
};

use super::{FileKind, Names, Source, SourceFile, Stat};

/// A data directory, read with the rights of this process.
#[derive(Debug, Clone)]
pub struct LocalDirectory {
    root: PathBuf,
}

impl LocalDirectory {
    /// Reads from `root`.
    pub fn new(root: PathBuf) -> Self {
        LocalDirectory { root }
    }

    fn path(&self, path: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(path))
    }
}

/// A relation that is dropped loses its name at some moment between our listing and our open.
fn gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn kind_of(kind: FileType) -> FileKind {
    match kind {
        kind if kind.is_dir() => FileKind::Directory,
        kind if kind.is_file() => FileKind::File,
        kind if kind.is_symlink() => FileKind::Link,
        _ => FileKind::Special,
    }
}

fn stat_of(metadata: &Metadata) -> Stat {
    Stat {
        size: metadata.len(),
        mode: metadata.mode() & 0o7777,
        modified_micros: metadata
            .mtime()
            .saturating_mul(1_000_000)
            .saturating_add(metadata.mtime_nsec() / 1000),
    }
}

impl Source for LocalDirectory {
    fn list(&self, path: &[u8]) -> io::Result<Option<Names>> {
        let Some(entries) = gone(fs::read_dir(self.path(path)))? else {
            return Ok(None);
        };
        let mut names = Names::default();
        for entry in entries {
            let entry = entry?;
            names.push(entry.file_name().as_bytes(), kind_of(entry.file_type()?));
        }
        names.sort();
        Ok(Some(names))
    }

    fn stat(&self, path: &[u8]) -> io::Result<Option<Stat>> {
        Ok(gone(fs::metadata(self.path(path)))?.map(|metadata| stat_of(&metadata)))
    }

    fn link(&self, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(gone(fs::read_link(self.path(path)))?.map(|target| target.into_os_string().into_vec()))
    }

    fn open(&self, path: &[u8]) -> io::Result<Option<Box<dyn SourceFile>>> {
        Ok(gone(File::open(self.path(path)))?.map(|file| Box::new(LocalFile(file)) as Box<dyn SourceFile>))
    }
}

struct LocalFile(File);

impl SourceFile for LocalFile {
    fn stat(&self) -> io::Result<Stat> {
        Ok(stat_of(&self.0.metadata()?))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}
