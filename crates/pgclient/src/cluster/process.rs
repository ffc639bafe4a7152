//! Runs PostgreSQL's programs: arguments as an array, no shell, a clean environment, never as root.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::{
        fs::{FileExt, MetadataExt, OpenOptionsExt, fchown},
        process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use rustix::fs::OFlags;

use crate::{Error, Result};

/// User and group id to run as.
pub type RunAs = (u32, u32);

/// What is kept of our environment. Everything else, `PG*` and secrets above all, stays here.
const KEPT_VARIABLES: [&str; 4] = ["PATH", "LANG", "HOME", "TZ"];
/// How much of a program's output goes into an error.
const OUTPUT_TAIL_BYTES: usize = 2000;
/// How much of a log goes into an error.
const LOG_TAIL_BYTES: u64 = 4000;

/// A command with a clean environment in its own process group, so that a Ctrl-C in our terminal does not
/// stop a server behind our back.
///
/// With another user the standard library also drops root's supplementary groups.
pub(super) fn command(program: &Path, run_as: Option<RunAs>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null()).process_group(0);
    let kept = |name: &str| KEPT_VARIABLES.contains(&name) || name.starts_with("LC_");
    command.envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(kept)));
    if let Some((user, group)) = run_as {
        command.uid(user).gid(group);
    }
    command
}

/// Runs a program to its end; its output is in the error if it fails.
pub(super) async fn run(program: &Path, arguments: &[String], run_as: Option<RunAs>) -> Result<()> {
    let mut command = command(program, run_as);
    // A directory that every user can enter: programs of PostgreSQL refuse to start where they may not be.
    command.args(arguments).current_dir("/");
    let mut command = tokio::process::Command::from(command);
    let output = command
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| cannot_run(program, source))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(Error::Program {
        program: program.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        status: describe(output.status),
        output: tail(&text, OUTPUT_TAIL_BYTES),
    })
}

pub(super) fn cannot_run(program: &Path, source: io::Error) -> Error {
    Error::Local {
        doing: "run",
        path: program.to_owned(),
        source,
    }
}

/// The processes that this one has started and that live; none where the system does not tell.
pub(super) fn children(pid: u32) -> Vec<i32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

/// How a process ended, for people.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown status".to_owned(),
    }
}

/// The end of a text, whole lines.
fn tail(text: &[u8], bytes: usize) -> String {
    let cut = text.get(text.len().saturating_sub(bytes)..).unwrap_or_default();
    let cut = String::from_utf8_lossy(cut);
    let whole = if text.len() > bytes {
        cut.split_once('\n').map_or(&*cut, |(_, rest)| rest)
    } else {
        &*cut
    };
    whole.trim().to_owned()
}

/// Makes the user to run as the owner of a directory. Nothing is followed on the way: where others may write, a
/// link could lead root to give away any directory of the machine.
pub(super) fn give_directory(path: &Path, run_as: Option<RunAs>) -> Result<()> {
    let Some((user, group)) = run_as else { return Ok(()) };
    let flags = flags(OFlags::NOFOLLOW | OFlags::DIRECTORY);
    let given = OpenOptions::new().read(true).custom_flags(flags).open(path);
    given
        .and_then(|directory| fchown(directory, Some(user), Some(group)))
        .map_err(|source| cannot("change the owner of", path, source))
}

/// Opens a log to append to, makes it if it is absent, and gives it to the user to run as.
///
/// The directory may belong to that user, and we may be root: so no link is followed, nothing but a file with one
/// name is taken, and what is given away is the file that was opened.
pub(super) fn open_log(path: &Path, run_as: Option<RunAs>) -> Result<File> {
    // Without NONBLOCK a pipe put there would hold us until somebody writes into it.
    let log = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
        .open(path);
    let checked = log.and_then(|log| {
        let found = log.metadata()?;
        if !found.is_file() || found.nlink() != 1 {
            return Err(io::Error::other("it is no plain file with one name"));
        }
        if let Some((user, group)) = run_as {
            fchown(&log, Some(user), Some(group))?;
        }
        Ok(log)
    });
    checked.map_err(|source| cannot("open", path, source))
}

fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

fn cannot(doing: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Local {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// The end of a log, for an error: of the file that was opened, whatever its name leads to by now.
pub(super) fn log_tail(log: &File) -> io::Result<String> {
    let most = LOG_TAIL_BYTES.saturating_mul(2);
    let mut at = log.metadata()?.len().saturating_sub(most);
    let mut bytes = vec![0; usize::try_from(most).unwrap_or_default()];
    let mut filled = 0;
    while filled < bytes.len() {
        match log.read_at(&mut bytes[filled..], at)? {
            0 => break,
            got => {
                filled = filled.saturating_add(got);
                at = at.saturating_add(got as u64);
            }
        }
    }
    bytes.truncate(filled);
    Ok(tail(&bytes, usize::try_from(LOG_TAIL_BYTES).unwrap_or(usize::MAX)))
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_log_that_is_a_link_or_has_a_second_name_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("treasure"), b"secret").unwrap();
        symlink(path("treasure"), path("link")).unwrap();
        fs::hard_link(path("treasure"), path("second")).unwrap();
        symlink(path("absent"), path("dangling")).unwrap();
        for name in ["link", "second", "dangling", "."] {
            assert!(open_log(&path(name), None).is_err(), "{name}");
        }
        assert!(!path("absent").exists());
        assert_eq!(fs::read(path("treasure")).unwrap(), b"secret");
    }

    #[test]
    fn the_end_of_a_log_is_that_of_the_file_that_was_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = open_log(&path, None).unwrap();
        assert_eq!(log_tail(&log).unwrap(), "");
        log.write_all(b"LOG: one\nLOG: two\n").unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"another").unwrap();
        assert_eq!(log_tail(&log).unwrap(), "LOG: one\nLOG: two");
    }

    #[test]
    fn a_link_is_never_given_to_another_user() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        symlink(folder.path(), &link).unwrap();
        let own = fs::metadata(folder.path()).unwrap();
        let ids = Some((own.uid(), own.gid()));
        assert!(give_directory(&link, ids).is_err());
        assert!(give_directory(folder.path(), ids).is_ok());
    }
}
