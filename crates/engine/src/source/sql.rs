//! A data directory that is read through SQL, where this process cannot see it.
//!
//! A directory is listed with sizes by one question, and what was learnt is kept as long as somebody is within it: so a
//! file costs one question when it is small, and one for each MiB when it is large.
//!
//! SQL shows less than a file system. Permission bits are not to be seen: what the server makes has those of
//! `data_directory_mode`, and other files may be keys, which nobody but their owner may read. Links are followed, but for
//! those of tablespaces, which are known. What is empty is never opened: it may be a pipe.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pgclient::reader::{FileReader, Listed, Stat as Seen};
use pgformat::relation::{classify, tablespace_link};

use super::{FileKind, Names, Source, SourceFile, Stat};

/// Read at once, and so too the most that a question for a small file brings along. PostgreSQL sends a MiB at
/// hundreds of MiB a second; more only costs memory on both sides.
const CHUNK: u32 = 1 << 20;
/// The most files of one directory whose sizes are kept, 24 bytes each; whoever wants to know more of a larger one asks
/// for each file.
const REMEMBERED: usize = 1 << 20;

/// A data directory behind a server.
pub struct SqlDirectory {
    reader: Arc<FileReader>,
    /// The directories being gone through, each within the one before it.
    known: Mutex<Vec<(Vec<u8>, Vec<Known>)>>,
}

/// A file of a listing: who looks for it has its name.
#[derive(Debug, Clone, Copy)]
struct Known {
    name: u64,
    size: u64,
    modified_seconds: u32,
    directory: bool,
}

impl SqlDirectory {
    /// Reads by `reader`.
    pub fn new(reader: FileReader) -> SqlDirectory {
        SqlDirectory {
            reader: Arc::new(reader),
            known: Mutex::default(),
        }
    }

    /// What a listing said of `path`, if it still stands for it.
    fn known(&self, path: &[u8]) -> Option<Seen> {
        let (directory, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], path),
        };
        let known = lock(&self.known);
        let (_, files) = known.iter().find(|(listed, _)| listed == directory)?;
        let name = short(name);
        let at = files.binary_search_by_key(&name, |file| file.name).ok()?;
        let file = files[at];
        Some(Seen {
            directory: file.directory,
            size: file.size,
            modified_seconds: file.modified_seconds.into(),
        })
    }

    fn stat_of(&self, path: &[u8], seen: Seen) -> Stat {
        let mode = match (seen.directory, is_the_servers(path)) {
            (true, _) => self.reader.directory_mode(),
            (false, true) => self.reader.directory_mode() & 0o666,
            (false, false) => 0o600,
        };
        Stat {
            size: seen.size,
            mode,
            modified_micros: seen.modified_seconds.saturating_mul(1_000_000),
        }
    }

    /// In `pg_tblspc` names are links to tablespaces, or the tablespaces themselves where they were made in place.
    fn kind_of_tablespace(&self, name: &[u8]) -> io::Result<FileKind> {
        match tablespace_link([b"pg_tblspc/", name].concat()) {
            Some(oid) if self.reader.tablespace(oid).map_err(failed)?.is_some_and(is_elsewhere) => Ok(FileKind::Link),
            _ => Ok(FileKind::Directory),
        }
    }
}

/// A listing on its way.
#[derive(Default)]
struct Listing {
    names: Names,
    known: Vec<Known>,
    /// Directories; and what leads nowhere now, but may be a link.
    unsure: Vec<Vec<u8>>,
    in_tablespaces: bool,
}

impl Listing {
    fn take(&mut self, listed: Listed<'_>) {
        let name = listed.name;
        if self.in_tablespaces && listed.stat.is_none_or(|stat| stat.directory) {
            self.unsure.push(name.to_vec());
            return;
        }
        // Gone since the directory was read.
        let Some(stat) = listed.stat else { return };
        let kind = match stat.directory {
            true => FileKind::Directory,
            false if is_socket(name) => FileKind::Special,
            false => FileKind::File,
        };
        self.names.push(name, kind);
        if self.known.len() < REMEMBERED {
            self.known.push(Known {
                name: short(name),
                size: stat.size,
                modified_seconds: u32::try_from(stat.modified_seconds).unwrap_or_default(),
                directory: stat.directory,
            });
        }
    }

    /// Sorted, and without such as are told apart by their whole names only.
    fn into_known(self) -> Vec<Known> {
        let mut known = self.known;
        known.sort_unstable_by_key(|file| file.name);
        let mut kept: Vec<Known> = Vec::with_capacity(known.len());
        let mut twice = None;
        for file in known {
            if kept.last().is_some_and(|last| last.name == file.name) {
                twice = Some(file.name);
                kept.pop();
            } else if twice != Some(file.name) {
                kept.push(file);
            }
        }
        kept
    }
}

impl Source for SqlDirectory {
    fn list(&self, path: &[u8]) -> io::Result<Option<Names>> {
        let listing = Listing {
            in_tablespaces: path == b"pg_tblspc",
            ..Listing::default()
        };
        let mut listing = self.reader.list(path, listing, Listing::take).map_err(failed)?;
        for name in std::mem::take(&mut listing.unsure) {
            listing.names.push(&name, self.kind_of_tablespace(&name)?);
        }
        if listing.names.is_empty() && self.reader.stat(path).map_err(failed)?.is_none() {
            return Ok(None);
        }
        let mut names = std::mem::take(&mut listing.names);
        names.sort();
        let mut known = lock(&self.known);
        known.retain(|(directory, _)| is_within(path, directory));
        known.push((path.to_vec(), listing.into_known()));
        Ok(Some(names))
    }

    fn stat(&self, path: &[u8]) -> io::Result<Option<Stat>> {
        let seen = match self.known(path) {
            Some(seen) => Some(seen),
            None => self.reader.stat(path).map_err(failed)?,
        };
        Ok(seen.map(|seen| self.stat_of(path, seen)))
    }

    fn link(&self, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let oid = tablespace_link(path).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        match self.reader.tablespace(oid).map_err(failed)? {
            Some(location) if !is_elsewhere(&location) => Err(io::ErrorKind::InvalidInput.into()),
            location => Ok(location),
        }
    }

    fn open(&self, path: &[u8]) -> io::Result<Option<Box<dyn SourceFile>>> {
        let Some(opened) = self.reader.open(path, CHUNK).map_err(failed)? else {
            return Ok(None);
        };
        let ahead = opened.content.map(|bytes| Ahead {
            from: 0,
            ended: bytes.len() < CHUNK as usize,
            bytes,
            taken: 0,
        });
        Ok(Some(Box::new(SqlFile {
            reader: Arc::clone(&self.reader),
            path: path.to_vec(),
            stat: self.stat_of(path, opened.stat),
            ahead: Mutex::new(ahead),
        })))
    }
}

/// A file that is named anew with every question, since no session keeps one open. A relation that goes meanwhile reads as if it
/// ended there, which is what it becomes by replay. Nothing mends any other file: the first part of one that went is
/// nothing that ever was there, and who reads it is told that it is not found.
struct SqlFile {
    reader: Arc<FileReader>,
    path: Vec<u8>,
    stat: Stat,
    ahead: Mutex<Option<Ahead>>,
}

/// What was read and not yet asked for.
struct Ahead {
    /// Where in the file `bytes` begin.
    from: u64,
    bytes: Vec<u8>,
    taken: usize,
    /// Whether the file ended with them.
    ended: bool,
}

impl SqlFile {
    fn read(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let bytes = u32::try_from(bytes).unwrap_or(CHUNK);
        let read = self.reader.read(&self.path, offset, bytes).map_err(failed)?;
        match read {
            None if classify(&self.path).is_none() => Err(io::ErrorKind::NotFound.into()),
            read => Ok(read.unwrap_or_default()),
        }
    }

    /// Reads on from `offset`: `ahead` ends there.
    fn more(&self, offset: u64, bytes: usize) -> io::Result<Ahead> {
        let want = bytes.max(CHUNK as usize);
        let bytes = self.read(offset, want)?;
        Ok(Ahead {
            from: offset,
            ended: bytes.len() < want,
            bytes,
            taken: 0,
        })
    }
}

impl SourceFile for SqlFile {
    fn stat(&self) -> io::Result<Stat> {
        Ok(self.stat)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.stat.size == 0 {
            return Ok(0);
        }
        let mut ahead = lock(&self.ahead);
        // Who goes back wants to see again what is there now.
        if ahead
            .as_ref()
            .is_some_and(|ahead| ahead.from + ahead.taken as u64 != offset)
        {
            let bytes = self.read(offset, buffer.len())?;
            let got = bytes.len().min(buffer.len());
            buffer[..got].copy_from_slice(&bytes[..got]);
            return Ok(got);
        }
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset + filled as u64;
            let part = match &mut *ahead {
                Some(part) if part.taken < part.bytes.len() => part,
                Some(part) if part.ended => break,
                empty => empty.insert(self.more(at, buffer.len() - filled)?),
            };
            let rest = &part.bytes[part.taken..];
            let now = rest.len().min(buffer.len() - filled);
            buffer[filled..filled + now].copy_from_slice(&rest[..now]);
            part.taken += now;
            filled += now;
        }
        Ok(filled)
    }
}

fn failed(error: pgclient::Error) -> io::Error {
    io::Error::other(error)
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while holding it has left whole values behind.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name as eight bytes.
fn short(name: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&blake3::hash(name).as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

fn is_within(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty() && !path.is_empty() || path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}

/// One that was made in place is told by its path in the data directory.
fn is_elsewhere(location: impl AsRef<[u8]>) -> bool {
    location.as_ref().starts_with(b"/")
}

/// A server's socket, which it may have in its data directory (`UNIXSOCK_PATH`, `libpq/pqcomm.h`).
fn is_socket(name: &[u8]) -> bool {
    name.starts_with(b".s.PGSQL.") && !name.ends_with(b".lock")
}

/// Whether PostgreSQL itself makes what lies there, with the cluster's mode.
fn is_the_servers(path: &[u8]) -> bool {
    [&b"base/"[..], b"global/", b"pg_"]
        .iter()
        .any(|folder| path.starts_with(folder) && path.contains(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(names: &[(&str, u64)]) -> Listing {
        let mut listing = Listing::default();
        for (name, size) in names {
            let stat = Seen {
                directory: false,
                size: *size,
                modified_seconds: 1,
            };
            listing.take(Listed {
                name: name.as_bytes(),
                stat: Some(stat),
            });
        }
        listing
    }

    #[test]
    fn names_that_cannot_be_told_apart_are_asked_for_again() {
        let mut same = listing(&[("a", 1), ("b", 2), ("c", 3)]);
        let twin = same.known[1].name;
        same.known[0].name = twin;
        same.known.push(Known {
            size: 9,
            ..same.known[0]
        });
        let kept = same.into_known();
        assert_eq!(kept.iter().map(|file| file.size).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn a_socket_is_no_file_and_what_is_gone_has_no_name() {
        let mut found = listing(&[(".s.PGSQL.5432", 0), (".s.PGSQL.5432.lock", 60)]);
        found.take(Listed {
            name: b"gone",
            stat: None,
        });
        let kinds: Vec<_> = found.names.iter().map(|(_, kind)| kind).collect();
        assert_eq!(kinds, [FileKind::Special, FileKind::File]);
    }

    #[test]
    fn keys_in_a_data_directory_are_never_given_to_a_group() {
        let check = |path: &str, servers: bool| assert_eq!(is_the_servers(path.as_bytes()), servers, "{path}");
        check("server.key", false);
        check("pg_hba.conf", false);
        check("certificates/server.key", false);
        check("base/5/1259", true);
        check("pg_tblspc/16400/PG_15_202209061/5/2619", true);
        check("pg_xact/0000", true);
    }

    #[test]
    fn sizes_are_kept_for_the_way_down_to_where_one_is() {
        assert!(is_within(b"base", b"") && is_within(b"base/5", b"") && is_within(b"base/5", b"base"));
        assert!(!is_within(b"base", b"base") && !is_within(b"base5", b"base") && !is_within(b"", b""));
    }
}
