//! Starts a server on a restored directory and waits until it is open.
//!
//! The server runs as the directory's owner, with WAL already in place: it never sees a key of ours. It listens
//! on a socket inside its data directory only; opening it to the network is its owner's decision.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use pgclient::{Binaries, Cluster, cluster::Start as Options};
use pgformat::Major;
use repo::manifest::Facts;
use serde::Serialize;

use crate::{Error, Result, event::Context};

use super::{Plan, Start};

/// A bound for recoveries that replay for very long; a server that fails ends the wait at once.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often somebody's wish to stop is looked for.
const LOOK: Duration = Duration::from_millis(200);
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
/// [`Error::Failed`] with the end of its log if it does not come up. The directory stays as it is: it is whole.
pub(super) async fn start(context: &Context, plan: &Plan, how: &Start) -> Result<Running> {
    let binaries = match &plan.binaries {
        Some(binaries) => binaries.clone(),
        None => find(&plan.manifest.facts, how.binaries.as_deref())?,
    };
    let port = how.port.unwrap_or(PORT);
    let long = plan.to.as_os_str().len() > SOCKET_DIRECTORY_MAX;
    let socket_dir = if long { std::env::temp_dir() } else { plan.to.clone() };
    let log = plan.to.join("lastgood-start.log");
    let run_as = plan.owner.map(|ids| (ids.user, ids.group));
    let options = Options {
        port,
        socket_dir: socket_dir.clone(),
        options: here(&plan.to),
        run_as,
        log: log.clone(),
    };
    let mut cluster = Cluster::start(&binaries, &plan.to, options).map_err(|error| failed(error.to_string()))?;
    match ready(context, &mut cluster, PATIENCE).await {
        Ok(()) => Ok(Running {
            pid: cluster.leave_running(),
            port,
            socket_dir,
            log,
        }),
        Err(Error::Server(pgclient::Error::ServerExited { status, log_tail, .. })) => Err(failed(format!(
            "the server ended with {status} before it was open:\n{}",
            without_bad_advice(&log_tail)
        ))),
        Err(Error::Interrupted) => {
            context.warn(
                "restored-not-started",
                format!(
                    "all files are restored into {0}; the server was stopped while it recovered. Start it again with pg_ctl -D {0} start, or remove the directory",
                    plan.to.display()
                ),
            );
            Err(Error::Interrupted)
        }
        Err(Error::Server(error)) => Err(failed(error.to_string())),
        Err(error) => Err(error),
    }
}

/// The programs of the server's version.
pub(crate) fn find(facts: &Facts, configured: Option<&Path>) -> Result<Binaries> {
    let major = Major::from_server_version_num(facts.postgresql.version_num);
    let major = major.map_err(|error| Error::Refused {
        code: "version-unknown",
        what: error.to_string(),
        hint: "Upgrade lastgood to a version that knows it.".into(),
    })?;
    Ok(Binaries::find(major, configured)?)
}

/// Waits until the server is open, or until somebody asks us to stop.
pub(crate) async fn ready(context: &Context, cluster: &mut Cluster, patience: Duration) -> Result<()> {
    let ready = async { Ok(cluster.wait_ready(patience).await?) };
    let stopped = async {
        loop {
            context.stop.check()?;
            context.runtime.clock.sleep(LOOK).await;
        }
    };
    futures::pin_mut!(ready, stopped);
    futures::future::select(ready, stopped).await.factor_first().0
}

/// Who is let in stands in the restored directory, whatever its configuration says. (That the server runs on this
/// directory and writes no pid file elsewhere, [`Cluster::start`] sees to.)
fn here(root: &Path) -> Vec<(String, String)> {
    let file = |name: &str| root.join(name).display().to_string();
    let settings = [("hba_file", file("pg_hba.conf")), ("ident_file", file("pg_ident.conf"))];
    settings.map(|(name, value)| (name.to_string(), value)).into()
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
