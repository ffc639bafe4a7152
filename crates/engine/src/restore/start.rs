//! Starts a server on a restored directory and waits until it is open.
//!
//! The server runs as the directory's owner, with WAL already in place: it never sees a key of ours. It listens
//! on a socket inside its data directory only; opening it to the network is its owner's decision.

use std::{path::PathBuf, time::Duration};

use pgclient::{Binaries, Cluster, cluster::Start as Options};
use pgformat::Major;
use serde::Serialize;

use crate::{Error, Result};

use super::{Plan, Start};

/// A bound for recoveries that replay for very long; a server that fails ends the wait at once.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);
/// What PostgreSQL listens on where nobody says otherwise.
const PORT: u16 = 5432;
/// The longest directory that a socket's path has room for.
const SOCKET_DIRECTORY_MAX: usize = 90;

/// A server that was started and left running.
#[derive(Debug, Clone, Serialize)]
pub struct Running {
    /// Its process.
    pub pid: u32,
    /// Its port, which is part of its socket's name.
    pub port: u16,
    /// Where its socket is.
    pub socket_dir: PathBuf,
    /// Where it logs.
    pub log: PathBuf,
}

/// Starts the server; returns when it takes connections.
///
/// # Errors
/// [`Error::Failed`] with the end of its log if it does not come up. The directory stays as it is.
pub(super) async fn start(plan: &Plan, how: &Start) -> Result<Running> {
    let major = Major::from_server_version_num(plan.manifest.facts.postgresql.version_num);
    let major = major.map_err(|error| failed(error.to_string()))?;
    let binaries = Binaries::find(major, how.binaries.as_deref())?;
    let port = how.port.unwrap_or(PORT);
    let long = plan.to.as_os_str().len() > SOCKET_DIRECTORY_MAX;
    let socket_dir = if long { std::env::temp_dir() } else { plan.to.clone() };
    let log = plan.to.join("lastgood-start.log");
    let run_as = plan.owner.map(|ids| (ids.user, ids.group));
    let options = Options {
        port,
        socket_dir: socket_dir.clone(),
        options: Vec::new(),
        run_as,
        log: log.clone(),
    };
    let mut cluster = Cluster::start(&binaries, &plan.to, options)?;
    match cluster.wait_ready(PATIENCE).await {
        Ok(()) => Ok(Running {
            pid: cluster.leave_running(),
            port,
            socket_dir,
            log,
        }),
        Err(pgclient::Error::ServerExited { status, log_tail, .. }) => Err(failed(format!(
            "the server ended with {status} before it was open:\n{}",
            without_bad_advice(&log_tail)
        ))),
        Err(error) => Err(error.into()),
    }
}

/// PostgreSQL advises to remove `backup_label` where WAL is missing. Whoever follows gets a cluster that starts
/// and is damaged in silence.
pub(crate) fn without_bad_advice(log: &str) -> String {
    let lines = log
        .lines()
        .filter(|line| !(line.contains("HINT") && line.contains("backup_label")));
    let lines = lines.filter(|line| !line.contains("try removing the file"));
    lines.collect::<Vec<_>>().join("\n")
}

fn failed(what: String) -> Error {
    Error::Failed {
        code: "recovery-failed",
        what,
        hint: "Nobody was let in. Read the server's own reason above; the restored directory stays as it is.".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_to_remove_the_backup_label_is_not_passed_on() {
        let log = "FATAL:  could not locate required checkpoint record\n\
                   HINT:  If you are restoring from a backup, touch \"/d/recovery.signal\" and add required recovery options.\n\
                   \tIf you are not restoring from a backup, try removing the file \"/d/backup_label\".\n\
                   LOG:  startup process exited";
        let shown = without_bad_advice(log);
        assert!(!shown.contains("removing") && shown.contains("FATAL") && shown.contains("startup process"));
    }
}
