//! Runs PostgreSQL's programs: arguments as an array, no shell, a clean environment, never as root.

use std::{
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
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

/// How a process ended, for people.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown status".to_owned(),
    }
}

/// The end of a text, whole lines.
pub(super) fn tail(text: &[u8], bytes: usize) -> String {
    let cut = text.get(text.len().saturating_sub(bytes)..).unwrap_or_default();
    let cut = String::from_utf8_lossy(cut);
    let whole = if text.len() > bytes {
        cut.split_once('\n').map_or(&*cut, |(_, rest)| rest)
    } else {
        &*cut
    };
    whole.trim().to_owned()
}
