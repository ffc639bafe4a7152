//! The demo's directory and the server in it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use engine::{
    pgclient::{
        Binaries, Cluster, Conninfo,
        cluster::{Initdb, RunAs, Start, StopMode},
    },
    pgformat::Major,
};

use crate::{Error, Result, args::Demo};

/// A throw-away server on a busy machine needs a few seconds; more means that something is wrong.
const READY: Duration = Duration::from_secs(60);
/// How long a checkpoint of the demo's data may take when the server stops.
const STOP: Duration = Duration::from_secs(120);
/// Newest first: the demo takes the best that is installed.
const VERSIONS: [Major; 6] = [Major::V18, Major::V17, Major::V16, Major::V15, Major::V14, Major::V13];
/// Without TCP the port is only a part of the socket's name, in a directory of our own.
const PORT: u16 = 5432;

/// The temporary directory with everything in it.
#[derive(Debug)]
pub(super) struct Place {
    folder: tempfile::TempDir,
    run_as: Option<RunAs>,
    pub(super) binaries: Binaries,
    source: Option<Cluster>,
    /// Process of the restored server, to be ended at last.
    pub(super) restored: Option<u32>,
}

impl Place {
    /// Makes the directory and finds PostgreSQL's programs.
    pub(super) fn make(args: &Demo) -> Result<Place> {
        let binaries = find_binaries(args.postgres.as_deref())?;
        let run_as = other_user()?;
        // A socket's path may have 107 bytes: a short name leaves them to a deep --scratch.
        let mut builder = tempfile::Builder::new();
        builder.prefix("lastgood-demo-");
        let folder = match &args.scratch {
            Some(scratch) => builder.tempdir_in(scratch),
            None => builder.tempdir(),
        };
        let folder = folder.map_err(|error| Error::file("create", Path::new("a temporary directory"), error))?;
        let place = Place {
            folder,
            run_as,
            binaries,
            source: None,
            restored: None,
        };
        place.give(place.folder.path())?;
        for name in ["socket", "back", "scratch"] {
            let path = place.path(name);
            fs::create_dir(&path).map_err(|error| Error::file("create", &path, error))?;
            place.give(&path)?;
        }
        Ok(place)
    }

    /// A path in the directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn give(&self, path: &Path) -> Result<()> {
        let private = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
        private.map_err(|error| Error::file("protect", path, error))?;
        if let Some((user, group)) = self.run_as {
            chown(path, Some(user), Some(group)).map_err(|error| Error::file("change the owner of", path, error))?;
        }
        Ok(())
    }

    /// Makes the cluster that will be lost, and starts it.
    pub(super) async fn start(&mut self) -> Result<Conninfo> {
        let data = self.path("data");
        Cluster::initdb(
            &self.binaries,
            &data,
            &Initdb {
                run_as: self.run_as,
                ..Initdb::default()
            },
        )
        .await?;
        let options = [
            ("max_wal_senders", "4"),
            ("wal_level", "replica"),
            ("max_wal_size", "2GB"),
        ];
        let start = Start {
            port: PORT,
            socket_dir: self.path("socket"),
            options: options
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            run_as: self.run_as,
            log: self.path("server.log"),
        };
        let cluster = self.source.insert(Cluster::start(&self.binaries, &data, start)?);
        cluster.wait_ready(READY).await?;
        Ok(cluster.conninfo("postgres", "postgres")?)
    }

    /// The bad night: the server dies without a word, and its data directory is gone.
    pub(super) async fn lose(&mut self) -> Result<()> {
        if let Some(cluster) = self.source.take() {
            cluster.kill_9().await?;
        }
        let data = self.path("data");
        // The server's orphans may still be ending and writing their last files: the name goes at once.
        let gone = self.path("lost");
        fs::rename(&data, &gone).map_err(|error| Error::file("rename", &data, error))
    }

    /// Ends what runs and removes the directory.
    pub(super) async fn remove(mut self) -> Result<()> {
        if let Some(cluster) = self.source.take() {
            // What it says on its way out is of no interest: its files go next.
            drop(cluster.stop(StopMode::Immediate, STOP).await);
        }
        if let Some(process) = self.restored.take() {
            end(process).await;
        }
        let path = self.folder.path().to_path_buf();
        self.folder.close().map_err(|error| Error::file("remove", &path, error))
    }
}

/// Ends the restored server, which nobody holds a handle of, and waits for its end.
async fn end(process: u32) {
    use rustix::process::{Pid, Signal, WaitOptions, kill_process, test_kill_process, waitpid};
    let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) else {
        return;
    };
    // It may have ended by itself.
    let _ = kill_process(process, Signal::QUIT);
    let deadline = tokio::time::Instant::now() + READY;
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    while tokio::time::Instant::now() < deadline {
        // Our own child stays a zombie until somebody asks for its end; another's can only be looked for.
        match waitpid(Some(process), WaitOptions::NOHANG) {
            Ok(Some(_)) => return,
            Ok(None) => {}
            Err(_) if test_kill_process(process).is_err() => return,
            Err(_) => {}
        }
        ticks.tick().await;
    }
}

fn find_binaries(configured: Option<&Path>) -> Result<Binaries> {
    let mut searched = Vec::new();
    for major in VERSIONS {
        match Binaries::find(major, configured) {
            Ok(binaries) => return Ok(binaries),
            Err(engine::pgclient::Error::NoBinaries { searched: places, .. }) => searched.extend(places),
            Err(error) => return Err(error.into()),
        }
    }
    searched.sort();
    searched.dedup();
    Err(engine::pgclient::Error::NoBinaries {
        major: "13 to 18".into(),
        searched,
    }
    .into())
}

/// PostgreSQL refuses to run as root: then it runs as the user that its packages make.
fn other_user() -> Result<Option<RunAs>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    match ["postgres", "nobody"].iter().find_map(|name| account(&accounts, name)) {
        Some(ids) => Ok(Some(ids)),
        None => Err(Error::refused(
            "no-user",
            "PostgreSQL does not run as root, and there is no user postgres here",
            "Run the demo as another user.",
        )),
    }
}

/// User and group id of an account, as `passwd` lists it.
fn account(accounts: &str, name: &str) -> Option<RunAs> {
    let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let accounts = "postgresql:x:1:2:::\npostgres:x:105:113:PostgreSQL:/var/lib/postgresql:/bin/bash\nbad:x:a:b\n";
        assert_eq!(account(accounts, "postgres"), Some((105, 113)));
        assert_eq!((account(accounts, "bad"), account(accounts, "none")), (None, None));
    }
}
