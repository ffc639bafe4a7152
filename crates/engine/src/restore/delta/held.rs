//! Whether a server works on a directory, with or without a pid file.
//!
//! All processes of a server work in its data directory (`ChangeToDataDir` in `utils/init/miscinit.c`), which the system
//! shows of processes of the same user, and to root of all. A server on another machine, or of another user where we are
//! not root, cannot be seen; but then its files are not ours to write either.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::Result;

use super::super::refused;

/// Refuses a data directory on which a server works, and tablespaces that a server uses which works elsewhere.
pub(super) fn check(to: &Path, spaces: &[&Path]) -> Result<()> {
    if let Ok(Some(pid)) = pgclient::cluster::is_running(to) {
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
    Ok(())
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
    let file = fs::read(to.join("postmaster.pid")).ok()?;
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
    fn a_directory_without_any_server_is_not_held() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("postmaster.pid"),
            "999999999\n/d\n1\n5432\n/tmp\n\n1 1\n",
        )
        .unwrap();
        assert!(check(folder.path(), &[]).is_ok());
    }
}
