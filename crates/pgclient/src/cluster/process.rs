//! Runs PostgreSQL's programs: arguments as an array, no shell, a clean environment, never as root.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::{
        fs::chown,
        process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

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

/// Makes the user to run as the owner.
pub(super) fn give(path: &Path, run_as: Option<RunAs>) -> Result<()> {
    let Some((user, group)) = run_as else { return Ok(()) };
    chown(path, Some(user), Some(group)).map_err(|source| Error::Local {
        doing: "change the owner of",
        path: path.to_owned(),
        source,
    })
}

/// The end of a log file, for an error.
pub(super) fn log_tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    let begin = length.saturating_sub(LOG_TAIL_BYTES.saturating_mul(2));
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL_BYTES.saturating_mul(2)).read_to_end(&mut bytes)?;
    Ok(tail(&bytes, usize::try_from(LOG_TAIL_BYTES).unwrap_or(usize::MAX)))
}
