//! Servers that we start ourselves: throw-away ones for drills, restored ones for recovery.
//!
//! Invariant: no server outlives the [`Cluster`] that started it (unless this program itself is killed).

mod binaries;
mod initdb;
mod pidfile;
mod process;

use std::{
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{MissedTickBehavior, interval};

pub use self::{
    binaries::Binaries,
    initdb::Initdb,
    pidfile::{Status, is_running},
    process::RunAs,
};
use self::{
    pidfile::{PidFile, is_alive},
    process::{cannot_run, children, command, describe, log_tail, open_log},
};
use crate::{Error, Result, conninfo::Conninfo};

/// How often a server is looked at while it starts or stops.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a dropped server may take for its immediate shutdown; it kills its own children after 5 seconds.
const DROP_TIMEOUT: Duration = Duration::from_secs(7);
/// How long children may need to notice that their server is gone; they watch a pipe and need milliseconds.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(10);
/// `sun_path` holds 108 bytes with the closing zero.
const SOCKET_PATH_MAX: usize = 107;

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Start {
    /// Its port; without TCP only a part of the socket's name.
    pub port: u16,
    /// Where its Unix socket is.
    pub socket_dir: PathBuf,
    /// Settings beyond the configuration files, such as `("hot_standby", "off")`. TCP is off unless
    /// `listen_addresses` is among them. The data directory is always the one given, and no external pid file is
    /// written, whatever the configuration says; `hba_file` and `ident_file` are as it says.
    pub options: Vec<(String, String)>,
    /// User and group to run as; must be given if we are root.
    pub run_as: Option<RunAs>,
    /// Where its output goes, appended: a plain file with one name; no link is followed.
    pub log: PathBuf,
}

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Sessions are ended and a checkpoint is written (SIGINT).
    Fast,
    /// At once; the next start recovers (SIGQUIT).
    Immediate,
}

/// A server that we started. Dropping it shuts it down at once; that blocks the thread for up to some seconds, so
/// [`Cluster::stop`] is the way to end it where there is a choice.
#[derive(Debug)]
pub struct Cluster {
    data_dir: PathBuf,
    start: Start,
    log: File,
    child: Child,
    exited: Option<ExitStatus>,
}

impl Cluster {
    /// Starts `postgres` on the directory; does not wait until it is ready.
    ///
    /// # Errors
    /// [`Error::Local`] if a server runs there already, or if the program cannot be run.
    pub fn start(binaries: &Binaries, data_dir: &Path, start: Start) -> Result<Cluster> {
        let local = |doing, path: &Path, source| Error::Local {
            doing,
            path: path.to_owned(),
            source,
        };
        if let Some(pid) = is_running(data_dir)? {
            let source = std::io::Error::other(format!("a server (process {pid}) runs there already"));
            return Err(local("start a server in", data_dir, source));
        }
        let socket = start.socket_dir.join(format!(".s.PGSQL.{}", start.port));
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            let source = std::io::Error::other(format!("a socket's path may have {SOCKET_PATH_MAX} bytes"));
            return Err(local("use as socket", &socket, source));
        }
        let log = open_log(&start.log, start.run_as)?;
        let copy = || log.try_clone().map_err(|source| local("open", &start.log, source));
        let (output, error_output) = (copy()?, copy()?);
        let program = binaries.program("postgres");
        let mut command = command(&program, start.run_as);
        // Its libraries must not find our password file and certificates, as they do in our home.
        command.env("HOME", data_dir);
        command
            .current_dir(data_dir)
            .arg("-D")
            .arg(data_dir)
            .arg("-p")
            .arg(start.port.to_string());
        command.arg("-k").arg(&start.socket_dir);
        // The first of equal settings is overridden by the last, so the caller has the last word.
        command.arg("-c").arg("listen_addresses=");
        for (name, value) in &start.options {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        // A restored configuration may name the directory of the server it was copied from, and a file beside it.
        // Neither is ours to run on or to write, so here we have the last word.
        let mut directory = OsString::from("data_directory=");
        directory.push(data_dir);
        command.arg("-c").arg(directory).arg("-c").arg("external_pid_file=");
        let child = command
            .stdout(output)
            .stderr(error_output)
            .spawn()
            .map_err(|source| cannot_run(&program, source))?;
        Ok(Cluster {
            data_dir: data_dir.to_owned(),
            start,
            log,
            child,
            exited: None,
        })
    }

    /// Waits until the server takes all connections: recovery, if there is any, has ended.
    ///
    /// # Errors
    /// [`Error::ServerExited`] as soon as it ends by itself; [`Error::NotReady`] after `deadline`.
    pub async fn wait_ready(&mut self, deadline: Duration) -> Result<()> {
        self.wait_status(deadline, |status| status == Status::Ready)
            .await
            .map(drop)
    }

    /// Waits until read-only connections are taken, by a standby or during recovery.
    pub async fn wait_standby(&mut self, deadline: Duration) -> Result<Status> {
        self.wait_status(deadline, |status| matches!(status, Status::Standby | Status::Ready))
            .await
    }

    async fn wait_status(&mut self, deadline: Duration, wanted: impl Fn(Status) -> bool) -> Result<Status> {
        let began = Instant::now();
        let mut ticks = interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(status) = self.exit_status()? {
                return Err(self.exited(status));
            }
            let status = self.status()?;
            if wanted(status) {
                return Ok(status);
            }
            if began.elapsed() >= deadline {
                return Err(Error::NotReady {
                    data_dir: self.data_dir.clone(),
                    status: status.to_string(),
                    seconds: deadline.as_secs(),
                    log_tail: self.log_tail(),
                });
            }
        }
    }

    /// What the server says it is ready for. A file left by another process says nothing about ours.
    pub fn status(&self) -> Result<Status> {
        let ours = PidFile::read(&self.data_dir)?.filter(|file| file.pid.cast_unsigned() == self.child.id());
        Ok(ours.map_or(Status::Unknown, |file| file.status))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// How to connect through its socket. `user` may be any role that its `pg_hba.conf` lets in.
    pub fn conninfo(&self, user: &str, dbname: &str) -> Result<Conninfo> {
        let text = format!("port={} sslmode=disable", self.start.port);
        let socket_dir = self.start.socket_dir.display().to_string();
        let (user, dbname) = (user.to_owned(), dbname.to_owned());
        // As variables nothing needs quoting, and nothing of the real environment leaks in.
        Conninfo::parse(&text, &move |name| match name {
            "PGHOST" => Some(socket_dir.clone()),
            "PGUSER" => Some(user.clone()),
            "PGDATABASE" => Some(dbname.clone()),
            _ => None,
        })
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log).unwrap_or_else(|error| format!("(the log cannot be read: {error})"))
    }

    /// Stops the server and waits for its end; after `deadline` it is killed.
    ///
    /// # Errors
    /// [`Error::ServerExited`] if it ended otherwise than with success, and [`Error::NotReady`] if it had to be killed.
    pub async fn stop(mut self, mode: StopMode, deadline: Duration) -> Result<()> {
        self.signal(match mode {
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        })?;
        let began = Instant::now();
        let mut ticks = interval(POLL_INTERVAL);
        while began.elapsed() < deadline {
            ticks.tick().await;
            match self.exit_status()? {
                None => {}
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.exited(status)),
            }
        }
        Err(Error::NotReady {
            data_dir: self.data_dir.clone(),
            status: Status::Stopping.to_string(),
            seconds: deadline.as_secs(),
            log_tail: self.log_tail(),
        })
    }

    /// Lets the server run on without us; returns its process id. It is in a process group of its own, and
    /// whoever wants it ended has to say so to the server itself.
    pub fn leave_running(self) -> u32 {
        let pid = self.child.id();
        std::mem::forget(self);
        pid
    }

    /// Kills the server's main process as a crash would. Waits until its children have noticed and ended:
    /// before that no server can start on the directory.
    pub async fn kill_9(mut self) -> Result<()> {
        let children = children(self.child.id());
        self.signal(Signal::KILL)?;
        let waited = self.child.wait();
        self.exited = Some(waited.map_err(|source| cannot_run(&self.data_dir, source))?);
        let began = Instant::now();
        let mut ticks = interval(POLL_INTERVAL);
        while began.elapsed() < ORPHAN_TIMEOUT && children.iter().any(|child| is_alive(*child)) {
            ticks.tick().await;
        }
        Ok(())
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        // Once it is reaped, its number may be another process's.
        if self.exit_status()?.is_some() {
            return Ok(());
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        pid.map_or(Ok(()), |pid| kill_process(pid, signal))
            .map_err(|error| Error::Local {
                doing: "signal the server in",
                path: self.data_dir.clone(),
                source: error.into(),
            })
    }

    fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().map_err(|source| Error::Local {
                doing: "watch the server in",
                path: self.data_dir.clone(),
                source,
            })?;
        }
        Ok(self.exited)
    }

    fn exited(&self, status: ExitStatus) -> Error {
        Error::ServerExited {
            data_dir: self.data_dir.clone(),
            status: describe(status),
            log_tail: self.log_tail(),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.signal(Signal::QUIT).is_ok() {
            let began = Instant::now();
            while began.elapsed() < DROP_TIMEOUT {
                if !matches!(self.exit_status(), Ok(None)) {
                    return;
                }
                std::thread::sleep(POLL_INTERVAL);
            }
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
