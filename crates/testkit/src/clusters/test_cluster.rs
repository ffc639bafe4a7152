//! One server in a folder of its own, gone when it is dropped.
//!
//! Invariant: nothing that runs is shared with any other server of this machine: own folder, own socket in it, own
//! port, own configuration.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, lchown},
    path::{Path, PathBuf},
    time::Duration,
};

use pgclient::{
    Binaries, Cluster, Conninfo, Session,
    cluster::{Initdb, Start, StopMode},
};
use pgformat::Major;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{
    machine::{binaries, server_user},
    template,
};

/// Two cores shared with a whole test run can make a start slow.
const DEADLINE: Duration = Duration::from_secs(120);

/// What a test wants of its server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Data checksums.
    pub checksums: bool,
    /// MiB of a WAL segment: a power of two, 1 to 1024.
    pub wal_segment_size_mib: u32,
    /// More lines of `postgresql.conf`; they override ours.
    pub conf: Vec<String>,
    /// Whether it also listens on 127.0.0.1.
    pub tcp: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            checksums: true,
            wal_segment_size_mib: 16,
            conf: Vec::new(),
            tcp: false,
        }
    }
}

/// A server for one test.
#[derive(Debug)]
pub struct TestCluster {
    // The server ends before its folder goes: fields are dropped in order.
    server: Option<Cluster>,
    folder: TempDir,
    binaries: Binaries,
    data_dir: PathBuf,
    port: u16,
    tcp: bool,
}

impl TestCluster {
    /// A new cluster, started.
    ///
    /// `fsync` is off: no test takes the machine's power away, and a killed server loses nothing by it.
    pub async fn new(major: Major, options: Options) -> TestCluster {
        let mut cluster = TestCluster::without_data(major, options.tcp);
        let how = Initdb {
            data_checksums: options.checksums,
            wal_segment_mebibytes: options.wal_segment_size_mib,
            run_as: server_user(),
            ..Initdb::default()
        };
        template::new_cluster(&cluster.binaries, &cluster.data_dir, &how).await;
        let configuration = cluster.data_dir.join("postgresql.conf");
        let mut text = fs::read_to_string(&configuration).expect("postgresql.conf is there");
        text.push_str("fsync = off\nshared_buffers = 32MB\nmax_connections = 60\nmax_prepared_transactions = 10\n");
        // With a large segment the default of 80 MB would be too small a number of segments to start at all.
        text.push_str(&format!(
            "min_wal_size = {}MB\n",
            options.wal_segment_size_mib.saturating_mul(5)
        ));
        text.push_str(&format!(
            "max_wal_size = {}MB\n",
            options.wal_segment_size_mib.saturating_mul(64).max(1024)
        ));
        for line in &options.conf {
            text.push_str(line);
            text.push('\n');
        }
        fs::write(&configuration, text).expect("postgresql.conf can be written");
        cluster.start().await;
        cluster
    }

    /// A server for a data directory made elsewhere, by a restore for example; not started. The directory
    /// is given to the servers' user and stays when this is dropped.
    pub fn on(major: Major, data_dir: &Path) -> TestCluster {
        give_to_server_user(data_dir);
        let mut cluster = TestCluster::without_data(major, false);
        cluster.data_dir = data_dir.to_owned();
        cluster
    }

    fn without_data(major: Major, tcp: bool) -> TestCluster {
        // A short name: a socket's path has little room.
        let folder = tempfile::Builder::new()
            .prefix("lg-")
            .tempdir()
            .expect("a temporary folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("its mode can be set");
        give_to_server_user(folder.path());
        let data_dir = folder.path().join("data");
        TestCluster {
            server: None,
            binaries: binaries(major),
            data_dir,
            port: free_port(),
            tcp,
            folder,
        }
    }

    /// Starts the server and waits until it takes all connections.
    pub async fn start(&mut self) {
        let listen = if self.tcp { "127.0.0.1" } else { "" };
        let start = Start {
            port: self.port,
            socket_dir: self.folder.path().to_owned(),
            options: vec![("listen_addresses".to_owned(), listen.to_owned())],
            run_as: server_user(),
            log: self.log(),
        };
        let mut server = Cluster::start(&self.binaries, &self.data_dir, start).expect("the server starts");
        server.wait_ready(DEADLINE).await.expect("the server becomes ready");
        self.server = Some(server);
    }

    /// Stops the server in order, with a checkpoint. Nothing happens if it is down.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop(StopMode::Fast, DEADLINE).await.expect("the server stops");
        }
    }

    /// Kills the server with all its processes, without warning. Returns once they are gone, so that it can
    /// be started, or its files looked at.
    ///
    /// Killing the main process alone is not enough: a child that waits for a lock whose holder has ended
    /// notices nothing, and no server can start beside it.
    pub async fn crash(&mut self) {
        let Some(server) = self.server.take() else { return };
        // Held still, it neither starts another child nor mourns those it loses.
        send(server.pid(), Signal::STOP);
        for child in children_of(server.pid()) {
            send(child, Signal::KILL);
        }
        server.kill_9().await.expect("the server can be killed");
    }

    /// Stops and starts the server.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }

    /// How to reach it as superuser, in database `postgres`.
    pub fn conninfo(&self) -> Conninfo {
        Conninfo::parse(&self.conninfo_text(), &|_| None).expect("our own connection string")
    }

    /// The same as text, for a program's command line or configuration.
    pub fn conninfo_text(&self) -> String {
        format!(
            "host={} port={} user=postgres dbname=postgres sslmode=disable",
            self.folder.path().display(),
            self.port
        )
    }

    /// A superuser's session in database `postgres`.
    pub async fn session(&self) -> Session {
        self.session_in("postgres").await
    }

    /// A superuser's session in any database.
    pub async fn session_in(&self, dbname: &str) -> Session {
        Session::connect(&self.conninfo().with_dbname(dbname))
            .await
            .expect("a session with the test's server")
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }
    /// A folder that the server's user can enter, gone with the cluster; holds the socket and `log`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
    /// Its port; of TCP only if that was asked for.
    pub fn port(&self) -> u16 {
        self.port
    }
    /// Its programs.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }
    /// Its version.
    pub fn major(&self) -> Major {
        self.binaries.major()
    }
    /// Process id of its main process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Cluster::pid)
    }
}

/// A port that nobody had a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port on the loopback address");
    listener.local_addr().expect("its number").port()
}

/// Process ids of a process's children.
fn children_of(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Sends a signal; that a process is gone already is no fault.
fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("{signal:?} cannot be sent to process {pid:?}: {error}"),
    }
}

/// Makes the servers' user the owner of a folder and everything in it, where that is not ourselves.
pub fn give_to_server_user(path: &Path) {
    let Some((user, group)) = server_user() else { return };
    lchown(path, Some(user), Some(group)).expect("the owner can be changed");
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("the folder can be read") {
            give_to_server_user(&entry.expect("the folder can be read").path());
        }
    }
}
