//! A server under load, a repository, and what must hold between them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use engine::{
    database::{self, Database, Opened},
    event::{Context, Event, Observer, Stop},
    pgformat::{
        Lsn, Major, Tli,
        segment::{SegmentName, SegmentSize},
    },
    repo::{
        keys::Unlock,
        store::Location,
        wal::{Coverage, WalStream, assemble, contiguous_end, coverage},
    },
};
use serde_json::Value;
use testkit::{
    clusters::{Options, TestCluster, bank, give_to_server_user},
    sim::Random,
};

use crate::{chosen::kills, receiver::Receiver};

const SIZE: u64 = 16 << 20;
/// How long anything may take that is waited for: a receiver waits up to half a minute before it tries again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Promise 9 of the design, in the numbers of `/proc/<pid>/status`.
pub(crate) const MOST_MEMORY_KIB: u64 = 64 << 10;
/// From so many kills on, disturbances last as long as they do in life.
const SOAK: u64 = 200;
/// A server that keeps all its WAL, so that it can be compared, and lets slots hold back as much.
pub(crate) const KEEPING: [&str; 2] = ["wal_keep_size = 4GB", "max_slot_wal_keep_size = 8GB"];
const ACCOUNTS: i32 = 500;

struct Deaf;

impl Observer for Deaf {
    fn event(&self, _: Event) {}
}

pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) server: TestCluster,
    pub(crate) stream: WalStream,
}

/// A server with those settings, reached through its socket and 127.0.0.1.
pub(crate) async fn server(conf: &[&str]) -> TestCluster {
    let durable = ["fsync = on"];
    let options = Options {
        conf: durable.iter().chain(conf).map(ToString::to_string).collect(),
        tcp: true,
        ..Options::default()
    };
    TestCluster::new(Major::V15, options).await
}

impl World {
    pub(crate) async fn new() -> World {
        let server = server(&KEEPING).await;
        let conninfo = server.conninfo_text();
        World::of(server, &conninfo).await
    }

    /// A repository for `server`, which the program reaches by `conninfo`.
    pub(crate) async fn of(server: TestCluster, conninfo: &str) -> World {
        let folder = tempfile::Builder::new().prefix("lg-receive-").tempdir().unwrap();
        give_to_server_user(folder.path());
        let session = server.session().await;
        let id = "SELECT system_identifier FROM pg_catalog.pg_control_system()";
        let id: i64 = session.query_one("ask who it is", id, &[]).await.unwrap().get(0);
        session.close().await;
        let world = World {
            folder,
            server,
            stream: WalStream::new(id.cast_unsigned(), 1, SIZE).unwrap(),
        };
        let repository = world.path("repository");
        let database = format!("shop={conninfo}");
        let repository = repository.to_str().unwrap();
        world.run(&["init", "--repository", repository, "--database", &database]);
        world
    }

    /// With a bank, and a backup of it.
    pub(crate) async fn with_bank(self) -> World {
        bank::create(&self.server.session().await, ACCOUNTS).await;
        self.run(&["backup", "shop"]);
        self
    }

    /// Keeps the bank busy.
    pub(crate) fn load(&self, seed: u64) -> bank::RunningBank {
        bank::RunningBank::start(&self.server.conninfo(), 2, ACCOUNTS, seed)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastgood"));
        command
            .args(words)
            .arg("--config")
            .arg(self.path("lastgood.toml"))
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command that must succeed.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        let output = self.command(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{words:?}: {}\n{said}\nThe server's log:\n{}",
            output.status,
            std::fs::read_to_string(self.server.log()).unwrap_or_default()
        );
        output
    }

    pub(crate) fn receive(&self) -> Receiver {
        Receiver::start(self.command(&["wal", "receive", "--json"]), self.path("receiver.log"))
    }

    /// The repository as a reader sees it.
    pub(crate) async fn open(&self) -> Opened {
        self.open_at(&self.path("repository")).await
    }

    /// The same, where it was moved to.
    async fn open_at(&self, at: &Path) -> Opened {
        let context = Context {
            runtime: testkit::host::runtime(),
            observer: Arc::new(Deaf),
            stop: Stop::default(),
        };
        let key = std::fs::read_to_string(self.path("shop.key")).unwrap();
        let database = Database {
            name: "shop".into(),
            location: Location::parse(at.to_str().unwrap(), self.folder.path()).unwrap(),
            unlock: Unlock::parse_key_file(&key).unwrap(),
            expected_id: None,
        };
        database::open(&context, &database).await.unwrap()
    }

    /// One value, as text; empty for NULL and for no row.
    pub(crate) async fn value(&self, query: &str) -> String {
        let session = self.server.session().await;
        let sql = format!("SELECT ({query})::text");
        let row = session.query_one("ask", &sql, &[]).await.unwrap();
        session.close().await;
        row.get::<_, Option<String>>(0).unwrap_or_default()
    }

    pub(crate) async fn flushed(&self) -> u64 {
        lsn(&self.value("pg_current_wal_flush_lsn()").await)
    }

    /// What the server was told to be durable; 0 if there is no slot.
    pub(crate) async fn acknowledged(&self) -> u64 {
        let slot = "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'lastgood_shop'";
        lsn(&self.value(slot).await)
    }

    /// Waits until the server was told that everything written up to now is durable; up to where.
    pub(crate) async fn goes_on(&self, receiver: &mut Receiver) -> u64 {
        let (written, began) = (self.flushed().await, Instant::now());
        loop {
            receiver.is_running();
            let told = self.acknowledged().await;
            if told >= written {
                return told;
            }
            let (told, written, said) = (Lsn(told), Lsn(written), receiver.said());
            assert!(
                began.elapsed() < PATIENCE,
                "{told} is acknowledged, not {written}\n{said}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The stretches of WAL in the repository, which is `at`.
    pub(crate) async fn stretches(&self, at: &str) -> Coverage {
        let opened = self.open_at(&self.path(at)).await;
        coverage(&opened.repository, &self.stream).await.unwrap()
    }

    /// What was acknowledged is in the repository, in one stretch.
    pub(crate) async fn holds(&self, acknowledged: u64, at: &str) {
        let stretches = self.stretches(at).await;
        let [(_, end)] = stretches[..] else {
            panic!("{stretches:x?}")
        };
        let (told, end) = (Lsn(acknowledged), Lsn(end));
        assert!(told <= end, "{told} is acknowledged, {end} is here");
    }

    /// Waits until everything before `position` is durable.
    pub(crate) async fn here(&self, position: u64) {
        let (opened, began) = (self.open().await, Instant::now());
        while contiguous_end(&opened.repository, &self.stream, position - 1)
            .await
            .unwrap()
            < position
        {
            assert!(began.elapsed() < PATIENCE, "{} is not here", Lsn(position));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Everything here is one stretch, and the server's; how long it is.
    pub(crate) async fn is_whole(&self) -> u64 {
        let stretches = self.stretches("repository").await;
        let [(from, to)] = stretches[..] else {
            panic!("{stretches:x?}")
        };
        let opened = self.open().await;
        let size = SegmentSize::DEFAULT;
        let compared = assemble(&opened.repository, self.stream, from, to, |start, bytes| {
            let name = SegmentName::holding(Tli(1), Lsn(start), size).file_name(size);
            let file = std::fs::read(self.server.data_dir().join("pg_wal").join(name)).unwrap();
            let at = (start % SIZE) as usize;
            assert!(file[at..at + bytes.len()] == *bytes, "other bytes at {}", Lsn(start));
            Ok(())
        });
        compared.await.unwrap();
        to - from
    }

    /// Ends `load` and the receiver, which must have lost nothing; then everything is here and comes back.
    pub(crate) async fn lost_nothing(&self, load: bank::RunningBank, mut receiver: Receiver) {
        let transfers = load.stop().await;
        self.goes_on(&mut receiver).await;
        let document = receiver.stop();
        assert_eq!(document["data"]["gaps"], serde_json::json!([]), "{document}");
        let bytes = self.is_whole().await;
        self.comes_back("latest", &transfers).await;
        println!("{} transfers in {} KiB of WAL", transfers.len(), bytes >> 10);
    }

    /// The moment `at`, restored, has those transfers, and its books are in order.
    pub(crate) async fn comes_back(&self, at: &str, transfers: &BTreeSet<bank::Transfer>) {
        let to = tempfile::tempdir_in(self.folder.path()).unwrap();
        let to = to.path().join("restored");
        self.run(&["restore", "shop", "--at", at, "--to", to.to_str().unwrap(), "--yes"]);
        let mut restored = TestCluster::on(Major::V15, &to);
        // Whoever looks from outside has to be able to enter.
        give_to_server_user(to.parent().unwrap());
        restored.start().await;
        let books = bank::audit(&restored.session().await, ACCOUNTS).await;
        assert_eq!(books.faults, Vec::<String>::new());
        let lost: Vec<_> = transfers.difference(&books.transfers).collect();
        assert!(!transfers.is_empty() && lost.is_empty(), "lost at {at}: {lost:?}");
        restored.stop().await;
    }

    /// What `window` says of the database.
    pub(crate) fn window(&self) -> Value {
        let document: Value = serde_json::from_slice(&self.run(&["window", "--json"]).stdout).unwrap();
        document["data"]["databases"][0].clone()
    }
}

pub(crate) fn lsn(text: &str) -> u64 {
    text.parse::<Lsn>().map_or(0, |lsn| lsn.0)
}

/// Whether there is time for what takes minutes.
pub(crate) fn soaks() -> bool {
    kills() >= SOAK
}

/// Lets the load go on for a moment of at most `millis`, chosen at random.
pub(crate) async fn moment(random: &mut Random, millis: u64) {
    tokio::time::sleep(Duration::from_micros(random.below(millis * 1000))).await;
}
