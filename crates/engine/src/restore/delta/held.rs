//! Whether a server works on a directory, with or without a pid file.
//!
//! All processes of a server work in its data directory (`ChangeToDataDir` in `utils/init/miscinit.c`), which the system
//! shows of processes of the same user, and to root of all. What is not seen: a server of another user where we are not
//! root, whose files are not ours to write either; and one on another machine or in another container (of another pid and
//! IPC namespace) that shares the directory, whose files may well be ours to write. That one has a `postmaster.pid`, as a
//! server that crashed has; it ends by itself when the file is gone. So a file that no server here explains is a person's
//! to judge.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::Result;

use super::super::refused;

/// In a data directory while a server works on it, and after a crash.
pub(super) const PID_FILE: &str = "postmaster.pid";

/// Refuses a data directory on which a server works, and tablespaces that a server uses which works elsewhere. Returns what
/// stands in a pid file whose server is not seen.
pub(super) fn check(to: &Path, spaces: &[&Path]) -> Result<Option<String>> {
    if to.exists() && !to.is_dir() {
        // No server works on a file; that it is none of ours is said by others.
        return Ok(None);
    }
    let path = to.join(PID_FILE);
    if let Some(pid) = pgclient::cluster::is_running(to).map_err(|error| unread(&path, &error))? {
        return Err(running(to, &format!("process {pid}")));
    }
    if let Some(segment) = attached(to) {
        return Err(running(to, &format!("it holds the shared memory segment {segment}")));
    }
    for server in servers() {
        if same(&server.directory, to) {
            return Err(running(to, &format!("process {}, without a pid file", server.pid)));
        }
        for space in spaces {
            if uses(&server.directory, space) {
                return Err(running(space, &format!("process {}", server.pid)));
            }
        }
    }
    match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unread(&path, &error)),
        // Its paths need not be UTF-8.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
    }
}

fn unread(path: &Path, error: &dyn std::error::Error) -> crate::Error {
    let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    refused(
        "target-unreadable",
        format!(
            "whether a server runs there cannot be told: {} cannot be read ({why})",
            path.display()
        ),
        "Run the command as the server's user or root; remove the file only if no server works on the directory.",
    )
}

fn running(path: &Path, who: &str) -> crate::Error {
    refused(
        "target-running",
        format!("a PostgreSQL server ({who}) is running on {}", path.display()),
        "Stop it first, or restore into another directory; nothing of the running server was touched.",
    )
}

struct Server {
    pid: u32,
    /// Its data directory, by a name that leads there whatever became of its own.
    directory: PathBuf,
}

fn servers() -> Vec<Server> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let server = |entry: fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        let server = name.contains("postgres") || name.starts_with("postmaster");
        server.then(|| Server {
            pid,
            directory: entry.path().join("cwd"),
        })
    };
    entries.flatten().filter_map(server).collect()
}

/// Whether two paths lead to one directory.
fn same(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// Whether a link of the cluster in `directory` leads to the tablespace `space`.
fn uses(directory: &Path, space: &Path) -> bool {
    let Ok(links) = fs::read_dir(directory.join("pg_tblspc")) else {
        return false;
    };
    links.flatten().any(|link| same(&link.path(), space))
}

/// The shared memory that the pid file names (its seventh line: key and id), if processes are attached to it: a server
/// whose first process was killed. PostgreSQL asks the same (`PGSharedMemoryIsInUse`).
fn attached(to: &Path) -> Option<u64> {
    let file = fs::read(to.join(PID_FILE)).ok()?;
    let text = String::from_utf8_lossy(&file);
    let mut fields = text.lines().nth(6)?.split_whitespace();
    let (key, id): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let segments = fs::read_to_string("/proc/sysvipc/shm").ok()?;
    is_attached(&segments, key, id).then_some(id)
}

/// Columns: key, id, mode, size, creator, last, number attached.
fn is_attached(segments: &str, key: u64, id: u64) -> bool {
    segments.lines().skip(1).any(|line| {
        let fields: Vec<i64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
        let (Some(its_key), Some(its_id), Some(count)) = (fields.first(), fields.get(1), fields.get(6)) else {
            return false;
        };
        // Keys are shown as signed numbers of 32 bits.
        *its_key as u32 == key as u32 && u64::try_from(*its_id) == Ok(id) && *count > 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_counts_while_somebody_is_attached() {
        let segments = "       key      shmid perms                  size  cpid  lpid nattch   uid\n\
                        \x20 5432001          7   600                    56   100   101      6   999\n\
                        \x20-2000000          8   600                    56   100   101      0   999\n";
        assert!(is_attached(segments, 5_432_001, 7));
        assert!(!is_attached(segments, 5_432_002, 7) && !is_attached(segments, 5_432_001, 8));
        assert!(!is_attached(segments, u64::from(-2_000_000_i32 as u32), 8));
    }

    #[test]
    fn a_directory_without_any_server_is_not_held_and_a_pid_file_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check(folder.path(), &[]).unwrap(), None);
        // A number that is nobody's, and one that is another program's here.
        for pid in [999_999_999, std::process::id()] {
            let content = format!("{pid}\n/d\n1\n5432\n/tmp\n\n1 1\n");
            fs::write(folder.path().join(PID_FILE), &content).unwrap();
            assert_eq!(check(folder.path(), &[]).unwrap(), Some(content));
        }
    }

    #[test]
    fn a_pid_file_that_cannot_be_read_is_no_sign_that_nobody_works_there() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(PID_FILE)).unwrap();
        let error = check(folder.path(), &[]).unwrap_err();
        assert!(
            matches!(
                error,
                crate::Error::Refused {
                    code: "target-unreadable",
                    ..
                }
            ),
            "{error}"
        );
    }
}
