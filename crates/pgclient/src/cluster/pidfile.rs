//! `postmaster.pid`: what a server says about itself in its data directory.
//!
//! Lines: process id, data directory, start time, port, socket directory, listen address, shared memory,
//! status (`utils/pidfile.h`).

use std::{fs, io, path::Path};

use rustix::process::{Pid, test_kill_process};

use crate::{Error, Result};

/// What the server is ready for (`PM_STATUS_*`; padded with blanks in the file).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Starting or recovering; nobody can connect.
    Starting,
    /// Shutting down.
    Stopping,
    /// Everybody can connect.
    Ready,
    /// A hot standby, or a recovery with `hot_standby=on`: read-only sessions.
    Standby,
    /// Another word, or none yet.
    Unknown,
}

impl std::fmt::Display for Status {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Status::Starting => "starting",
            Status::Stopping => "stopping",
            Status::Ready => "ready",
            Status::Standby => "standby",
            Status::Unknown => "unknown",
        })
    }
}

/// The lines that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: i32,
    pub(super) status: Status,
}

impl PidFile {
    /// `None` if there is none, or if it is being written just now.
    pub(super) fn read(data_dir: &Path) -> Result<Option<PidFile>> {
        let path = data_dir.join("postmaster.pid");
        // Its paths need not be UTF-8.
        match fs::read(&path) {
            Ok(bytes) => Ok(PidFile::parse(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Local {
                doing: "read",
                path,
                source,
            }),
        }
    }

    fn parse(text: &str) -> Option<PidFile> {
        let mut lines = text.lines();
        // A single-user backend writes its process id as a negative number.
        let pid = lines.next()?.trim().parse::<i32>().ok()?.checked_abs()?;
        let status = match lines.nth(6).map(str::trim) {
            Some("starting") => Status::Starting,
            Some("stopping") => Status::Stopping,
            Some("ready") => Status::Ready,
            Some("standby") => Status::Standby,
            _ => Status::Unknown,
        };
        Some(PidFile { pid, status })
    }
}

/// The process of the server that runs on this data directory, if one does; for refusing to write there.
///
/// A file left by a crash names a process that is gone, or by now another program; that is not running.
/// A server on another machine that shares the directory cannot be seen from here.
pub fn is_running(data_dir: &Path) -> Result<Option<i32>> {
    let Some(file) = PidFile::read(data_dir)? else {
        return Ok(None);
    };
    Ok((is_alive(file.pid) && may_be_postgres(file.pid)).then_some(file.pid))
}

pub(super) fn is_alive(pid: i32) -> bool {
    // "Not permitted" means that it exists and is another user's.
    Pid::from_raw(pid).is_some_and(|pid| !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
}

/// Whether the process may be a server: only a readable name of another program says no.
fn may_be_postgres(pid: i32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => name.starts_with("postgres") || name.starts_with("postmaster"),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(i32, Status)>) {
        assert_eq!(
            PidFile::parse(text),
            expected.map(|(pid, status)| PidFile { pid, status }),
            "{text:?}"
        );
    }

    #[test]
    fn the_eighth_line_of_a_pid_file_is_the_status() {
        check(
            "42\n/data\n1700000000\n5432\n/tmp\n\n  5432001  7\nready   \n",
            Some((42, Status::Ready)),
        );
        check(
            "42\n/data\n1700000000\n5432\n/tmp\n\n\nstandby \n",
            Some((42, Status::Standby)),
        );
        check("-7\n/data\n1700000000\n", Some((7, Status::Unknown)));
        check("", None);
        check("x\n", None);
        check("-2147483648\n", None);
    }

    #[test]
    fn a_pid_file_with_paths_in_another_encoding_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let text = b"42\n/d\xe4ta\n1700000000\n5432\n/tmp\n\n\nready   \n";
        fs::write(folder.path().join("postmaster.pid"), text).unwrap();
        let found = PidFile::read(folder.path()).unwrap().unwrap();
        assert_eq!((found.pid, found.status), (42, Status::Ready));
    }

    #[test]
    fn a_pid_file_that_names_another_program_does_not_count_as_running() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(is_running(folder.path()).unwrap(), None);
        // This test is a living process and no server.
        fs::write(
            folder.path().join("postmaster.pid"),
            format!("{}\n", std::process::id()),
        )
        .unwrap();
        assert_eq!(is_running(folder.path()).unwrap(), None);
    }
}
