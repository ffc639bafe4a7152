//! A server for one test: own folder, own socket, gone with the value.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use pgclient::{
    Binaries, Cluster, Conninfo, Session,
    cluster::{Initdb, RunAs, Start, StopMode},
};
use pgformat::Major;
use tempfile::TempDir;

pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    // Dropped in this order: the server ends before its folder goes.
    pub(crate) cluster: Option<Cluster>,
    pub(crate) folder: TempDir,
    pub(crate) binaries: Binaries,
    pub(crate) start: Start,
}

impl Server {
    /// `hba` are lines that come after one for the superuser on the socket.
    pub(crate) async fn new(hba: &str, options: &[(&str, &str)]) -> Server {
        let mut server = Server::prepare(hba, options).await;
        server.start().await;
        server
    }

    pub(crate) async fn prepare(hba: &str, options: &[(&str, &str)]) -> Server {
        let binaries = Binaries::find(Major::V15, None)
            .unwrap_or_else(|error| panic!("these tests need a server of PostgreSQL 15: {error}"));
        let run_as = run_as();
        let folder = tempfile::Builder::new().prefix("lastgood-pgclient-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let socket_dir = folder.path().join("socket");
        fs::create_dir(&socket_dir).unwrap();
        own(&socket_dir, run_as);
        let data_dir = folder.path().join("data");
        Cluster::initdb(
            &binaries,
            &data_dir,
            &Initdb {
                run_as,
                ..Initdb::default()
            },
        )
        .await
        .unwrap();
        let rules = format!("local all postgres trust\nlocal replication postgres trust\n{hba}\n");
        fs::write(data_dir.join("pg_hba.conf"), rules).unwrap();
        let mut all: Vec<(String, String)> = vec![("fsync".to_owned(), "off".to_owned())];
        all.extend(
            options
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let start = Start {
            port: free_port(),
            socket_dir,
            options: all,
            run_as,
            log: folder.path().join("log"),
        };
        Server {
            cluster: None,
            folder,
            binaries,
            start,
        }
    }

    pub(crate) async fn start(&mut self) {
        let mut cluster = Cluster::start(&self.binaries, &self.data_dir(), self.start.clone()).unwrap();
        cluster.wait_ready(LONG).await.unwrap();
        self.cluster = Some(cluster);
    }

    pub(crate) async fn stop(&mut self, mode: StopMode) {
        self.cluster.take().unwrap().stop(mode, LONG).await.unwrap();
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The superuser on the socket.
    pub(crate) fn admin(&self) -> Conninfo {
        self.cluster.as_ref().unwrap().conninfo("postgres", "postgres").unwrap()
    }

    pub(crate) async fn session(&self) -> Session {
        Session::connect(&self.admin()).await.unwrap()
    }

    pub(crate) async fn sql(&self, sql: &str) {
        self.session().await.execute("prepare the test", sql).await.unwrap();
    }

    /// A string for the socket or for TCP on this server's port, without the real environment.
    pub(crate) fn conninfo(&self, text: &str) -> Conninfo {
        let text = text.replace("{socket}", self.start.socket_dir.to_str().unwrap());
        let text = text.replace("{folder}", self.folder.path().to_str().unwrap());
        let text = format!("dbname=postgres port={} {text}", self.start.port);
        let home = |name: &str| (name == "HOME").then(|| "/nonexistent".to_owned());
        Conninfo::parse(&text, &home).unwrap()
    }

    /// A self-signed certificate for `localhost` in the folder; the settings that make the server use it.
    pub(crate) fn certificate(folder: &Path, name: &str, host: &str) {
        let status = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3", "-batch"])
            .args([
                "-subj",
                &format!("/CN={host}"),
                "-addext",
                &format!("subjectAltName=DNS:{host}"),
            ])
            .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")])
            .current_dir(folder)
            .output()
            .expect("these tests need the program openssl");
        assert!(
            status.status.success(),
            "openssl: {}",
            String::from_utf8_lossy(&status.stderr)
        );
        let key = folder.join(format!("{name}.key"));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        own(&key, run_as());
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// PostgreSQL refuses to run as root; then it runs as the user `postgres`.
fn run_as() -> Option<RunAs> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let account = accounts
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("a user \"postgres\"");
    let number = |field| account.split(':').nth(field).unwrap().parse().unwrap();
    Some((number(2), number(3)))
}

fn own(path: &Path, run_as: Option<RunAs>) {
    if let Some((user, group)) = run_as {
        chown(path, Some(user), Some(group)).unwrap();
    }
}
