//! `lastgood wal receive` killed with SIGKILL at random moments under load: every acknowledged byte is in the repository,
//! there is never a gap, and the next start needs no hand.
//!
//! `LASTGOOD_KILLS=200` soaks.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test: panicking is its answer, counts are its report"
)]

use std::{
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
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
        wal::{WalStream, assemble, contiguous_end, coverage},
    },
};
use serde_json::Value;
use testkit::{
    clusters::{Options, TestCluster, bank, give_to_server_user},
    sim::Random,
};

const SIZE: u64 = 16 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
/// Promise 9 of the design, in the numbers of `/proc/<pid>/status`.
const MOST_MEMORY_KIB: u64 = 64 << 10;

struct Deaf;

impl Observer for Deaf {
    fn event(&self, _: Event) {}
}

struct World {
    folder: tempfile::TempDir,
    server: TestCluster,
}

impl World {
    async fn new() -> World {
        let folder = tempfile::Builder::new().prefix("lg-receive-").tempdir().unwrap();
        give_to_server_user(folder.path());
        let conf = ["fsync = on", "wal_keep_size = 4GB", "max_slot_wal_keep_size = 8GB"];
        let options = Options {
            conf: conf.iter().map(ToString::to_string).collect(),
            ..Options::default()
        };
        let world = World {
            folder,
            server: TestCluster::new(Major::V15, options).await,
        };
        let server = format!("shop={}", world.server.conninfo_text());
        let repository = world.path("repository");
        let init = [
            "init",
            "--repository",
            repository.to_str().unwrap(),
            "--database",
            &server,
        ];
        let made = world.command(&init).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        world
    }

    fn path(&self, name: &str) -> PathBuf {
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

    fn receive(&self) -> Child {
        self.command(&["wal", "receive", "--json"]).spawn().unwrap()
    }

    /// The repository as a reader sees it.
    async fn open(&self) -> Opened {
        let context = Context {
            runtime: testkit::host::runtime(),
            observer: Arc::new(Deaf),
            stop: Stop::default(),
        };
        let key = std::fs::read_to_string(self.path("shop.key")).unwrap();
        let at = self.path("repository");
        let database = Database {
            name: "shop".into(),
            location: Location::parse(at.to_str().unwrap(), self.folder.path()).unwrap(),
            unlock: Unlock::parse_key_file(&key).unwrap(),
            expected_id: None,
        };
        database::open(&context, &database).await.unwrap()
    }

    /// One value, as text; empty for NULL and for no row.
    async fn value(&self, query: &str) -> String {
        let session = self.server.session().await;
        let sql = format!("SELECT ({query})::text");
        let row = session.query_one("ask", &sql, &[]).await.unwrap();
        session.close().await;
        row.get::<_, Option<String>>(0).unwrap_or_default()
    }

    async fn flushed(&self) -> u64 {
        lsn(&self.value("pg_current_wal_flush_lsn()").await)
    }

    async fn stream(&self) -> WalStream {
        let id = self.value("SELECT system_identifier FROM pg_control_system()").await;
        WalStream::new(id.parse::<i64>().unwrap().cast_unsigned(), 1, SIZE).unwrap()
    }

    /// Waits until everything before `position` is durable.
    async fn here(&self, stream: &WalStream, position: u64) {
        let (opened, began) = (self.open().await, Instant::now());
        while contiguous_end(&opened.repository, stream, position - 1).await.unwrap() < position {
            assert!(began.elapsed() < PATIENCE, "{} is not here", Lsn(position));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Everything here is one stretch, and the server's.
    async fn is_whole(&self, stream: &WalStream) -> u64 {
        let opened = self.open().await;
        let stretches = coverage(&opened.repository, stream).await.unwrap();
        let [(from, to)] = stretches[..] else {
            panic!("{stretches:x?}")
        };
        let size = SegmentSize::DEFAULT;
        let compared = assemble(&opened.repository, *stream, from, to, |start, bytes| {
            let name = SegmentName::holding(Tli(1), Lsn(start), size).file_name(size);
            let file = std::fs::read(self.server.data_dir().join("pg_wal").join(name)).unwrap();
            let at = (start % SIZE) as usize;
            assert!(file[at..at + bytes.len()] == *bytes, "other bytes at {}", Lsn(start));
            Ok(())
        });
        compared.await.unwrap();
        to - from
    }
}

fn lsn(text: &str) -> u64 {
    text.parse::<Lsn>().map_or(0, |lsn| lsn.0)
}

fn kills() -> u64 {
    let chosen = std::env::var("LASTGOOD_KILLS").ok().and_then(|text| text.parse().ok());
    chosen.unwrap_or(20)
}

/// Asks a receiver to stop.
fn terminated(child: Child) -> Output {
    let asked = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(asked.success());
    child.wait_with_output().unwrap()
}

/// The most memory that it ever had resident, without the pages of the program's own file: those of a build with debug
/// information say nothing.
fn memory_kib(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let kib = |key: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    kib("VmHWM:").saturating_sub(kib("RssFile:"))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_wal_is_lost_and_no_gap_left_whenever_it_is_killed() {
    let world = World::new().await;
    bank::create(&world.server.session().await, 500).await;
    let load = bank::RunningBank::start(&world.server.conninfo(), 2, 500, 3);
    let stream = world.stream().await;
    let mut random = Random::new(7);
    let acknowledged = "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'lastgood_shop'";
    let (mut streams, count) = (0, kills());
    for number in 0..count {
        let mut child = world.receive();
        let began = Instant::now();
        let before = lsn(&world.value(acknowledged).await);
        // From the first connection on any moment may be the last.
        tokio::time::sleep(Duration::from_micros(random.below(1_500_000))).await;
        if number % 3 == 0 {
            // Sometimes it comes to acknowledge something first.
            while lsn(&world.value(acknowledged).await) <= before && began.elapsed() < PATIENCE {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            streams += 1;
        }
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.code().is_none(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let told = lsn(&world.value(acknowledged).await);
        if told > 0 {
            let opened = world.open().await;
            let stretches = coverage(&opened.repository, &stream).await.unwrap();
            assert!(stretches.len() <= 1, "kill {number}: {stretches:x?}");
            // A slot that was only made holds WAL back from a checkpoint on: nothing was acknowledged with that.
            let end = stretches.first().map_or(u64::MAX, |stretch| stretch.1);
            assert!(
                told <= end,
                "kill {number}: {} is acknowledged, {} is here",
                Lsn(told),
                Lsn(end)
            );
        }
    }
    load.stop().await;
    let child = world.receive();
    world.here(&stream, world.flushed().await).await;
    let output = terminated(child);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = world.is_whole(&stream).await;
    println!(
        "{count} kills, {streams} of them after WAL was acknowledged; {} KiB of WAL",
        bytes >> 10
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_in_order_when_asked_and_stays_small() {
    let world = World::new().await;
    let stream = world.stream().await;
    let child = world.receive();
    let session = world.server.session().await;
    // What does not compress takes the most memory.
    let load =
        "CREATE TABLE public.noise AS SELECT i, gen_random_uuid() AS a, gen_random_uuid() AS b, gen_random_uuid() AS c
                FROM pg_catalog.generate_series(1, 900000) AS i";
    session.execute("write WAL", load).await.unwrap();
    session.close().await;
    let end = world.flushed().await;
    world.here(&stream, end).await;
    let memory = memory_kib(&child);
    let output = terminated(child);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&document["ok"], &document["command"]),
        (&Value::Bool(true), &"wal receive".into())
    );
    let data = &document["data"];
    assert!(lsn(data["position"].as_str().unwrap()) >= end, "{document}");
    assert!(
        data["bytes"].as_u64().unwrap() > 60 << 20 && data["segments"].as_u64().unwrap() >= 4,
        "{document}"
    );
    assert_eq!((&data["gaps"], &data["timeline"]), (&serde_json::json!([]), &1.into()));
    assert!(memory <= MOST_MEMORY_KIB, "{memory} KiB");
    println!("{memory} KiB resident at most");
    world.is_whole(&stream).await;
}
