//! A data directory of this machine.

use std::{
    ffi::OsStr,
    fs::{self, File, FileType, Metadata},
    io::{self, IoSliceMut},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileExt, MetadataExt},
    },
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::{FileKind, Names, Source, SourceFile, Stat};

/// Read pages that were not in the page cache leave it again (`RWF_DONTCACHE` in `uapi/linux/fs.h`, Linux 6.14). Those that were
/// there stay, which `posix_fadvise` cannot promise.
const DONT_CACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// A data directory, read with the rights of this process.
#[derive(Debug, Clone)]
pub struct LocalDirectory {
    root: PathBuf,
    /// Whether what is read shall not stay in the page cache; no longer once the system was found not to know how.
    passing: Arc<AtomicBool>,
}

impl LocalDirectory {
    /// Reads from `root`.
    pub fn new(root: PathBuf) -> Self {
        LocalDirectory {
            root,
            passing: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Leaves the page cache to the server: whoever reads more than fits into memory would push out what others read again.
    pub fn passing_by(self) -> Self {
        self.passing.store(true, Ordering::Relaxed);
        self
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
        let opened = gone(File::open(self.path(path)))?;
        Ok(opened.map(|file| {
            let passing = self.passing.clone();
            Box::new(LocalFile { file, passing }) as Box<dyn SourceFile>
        }))
    }
}

struct LocalFile {
    file: File,
    passing: Arc<AtomicBool>,
}

impl LocalFile {
    fn read_some(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if !self.passing.load(Ordering::Relaxed) {
            return self.file.read_at(buffer, offset);
        }
        match preadv2(&self.file, &mut [IoSliceMut::new(buffer)], offset, DONT_CACHE) {
            // An older kernel, or a file system that cannot.
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                self.passing.store(false, Ordering::Relaxed);
                self.file.read_at(buffer, offset)
            }
            read => Ok(read?),
        }
    }
}

impl SourceFile for LocalFile {
    fn stat(&self) -> io::Result<Stat> {
        Ok(stat_of(&self.file.metadata()?))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_some(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 4 << 20;

    /// Reads a file that is not in the page cache, and says whether it is after that, where the file system can tell.
    fn stays(directory: &LocalDirectory) -> Option<bool> {
        let file = File::open(directory.path(b"1")).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let open = directory.open(b"1").unwrap().unwrap();
        let mut bytes = vec![0; BYTES];
        assert_eq!(open.read_at(&mut bytes, 0).unwrap(), BYTES);
        assert!(bytes.iter().all(|byte| *byte == 7));
        let mut byte = [0];
        let middle = BYTES as u64 / 2;
        // Nothing that would have to wait for a disk.
        match preadv2(&file, &mut [IoSliceMut::new(&mut byte)], middle, ReadWriteFlags::NOWAIT) {
            Ok(1) => Some(true),
            Err(Errno::AGAIN) => Some(false),
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_passes_by_leaves_nothing_in_the_page_cache() {
        // Where this program is, so on a disk: what lies in memory alone stays there.
        let program = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
        fs::write(folder.path().join("1"), vec![7; BYTES]).unwrap();
        let directory = LocalDirectory::new(folder.path().into());
        let as_ever = stays(&directory);
        let directory = directory.passing_by();
        let stayed = stays(&directory);
        // Where the system cannot do that, it is read as ever.
        let is_known = directory.passing.load(Ordering::Relaxed);
        assert_eq!((as_ever, stayed), (as_ever.map(|_| true), as_ever.map(|_| !is_known)));
    }
}
