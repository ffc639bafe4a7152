//! The program killed with SIGKILL at random moments of its work, under load: nothing half-done is listed, the server
//! is left as it was, and the next run needs no hand.
//!
//! `LASTGOOD_KILLS=200` soaks, `LASTGOOD_SEED=17` chooses the moments again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test: panicking is its answer, counts are its report"
)]

#[path = "chosen/mod.rs"]
mod chosen;
#[path = "kills/deltas.rs"]
mod deltas;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use engine::pgformat::Major;
use serde_json::Value;
use testkit::{
    clusters::{Options, RowDigest, TestCluster, bank, give_to_server_user, row_digests},
    sim::Random,
};

use chosen::{Window, kills, random};

const ACCOUNTS: i32 = 2000;
/// How long a server may take to notice that a client is gone.
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    folder: tempfile::TempDir,
    server: TestCluster,
    random: Random,
}

/// What a killed run left behind.
enum Ended {
    /// It was quicker than its death.
    Done(Output),
    Killed,
}

impl World {
    async fn new() -> World {
        let folder = tempfile::Builder::new().prefix("lg-kills-").tempdir().unwrap();
        give_to_server_user(folder.path());
        let options = Options {
            conf: vec!["fsync = on".into()],
            ..Options::default()
        };
        World {
            folder,
            server: TestCluster::new(Major::V15, options).await,
            random: random(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, repository: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastgood"));
        command
            .args(words)
            .arg("--config")
            .arg(self.path(&format!("{repository}.toml")))
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn init(&self, repository: &str) -> Command {
        let server = format!("shop={} application_name=under-test", self.server.conninfo_text());
        let at = self.path(repository);
        self.command(
            repository,
            &["init", "--repository", at.to_str().unwrap(), "--database", &server],
        )
    }

    fn run(&self, repository: &str, words: &[&str]) -> Output {
        self.command(repository, words).output().unwrap()
    }

    /// Kills what was started at a moment of `window`.
    async fn killed(&mut self, mut command: Command, window: &mut Window) -> Ended {
        let moment = window.moment(&mut self.random);
        let mut child: Child = command.spawn().unwrap();
        tokio::time::sleep(moment).await;
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let in_time = output.status.code().is_none();
        window.learn(moment, in_time);
        if in_time { Ended::Killed } else { Ended::Done(output) }
    }

    /// The ids of the backups that are listed.
    fn listed(&self, repository: &str) -> Vec<String> {
        let output = self.run(repository, &["list", "--json"]);
        succeeded(&output);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let backups = document["data"]["databases"][0]["backups"].as_array().unwrap();
        backups
            .iter()
            .map(|backup| backup["id"].as_str().unwrap().to_string())
            .collect()
    }

    /// Waits until the server has no session of the program's any more, and no slot.
    async fn server_is_left_alone(&self) {
        let session = self.server.session().await;
        let sql = "SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots),
            (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE application_name = 'under-test')";
        let began = Instant::now();
        loop {
            let row = session.query_one("look for what is left", sql, &[]).await.unwrap();
            let left: (i64, i64) = (row.get(0), row.get(1));
            if left == (0, 0) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "slots and sessions left: {left:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn succeeded(output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
}

/// How long a whole run takes.
fn measured(mut command: Command) -> Duration {
    let began = Instant::now();
    succeeded(&command.output().unwrap());
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_killed_at_any_moment_is_finished_by_the_next() {
    let mut world = World::new().await;
    let mut window = Window::new(measured(world.init("measured")));
    let wanted = kills().div_ceil(4);
    let (mut tried, mut killed) = (0, 0);
    while killed < wanted {
        assert!(
            tried < 20 * wanted,
            "only {killed} of {tried} inits were killed in time"
        );
        let repository = format!("repository-{tried}");
        let command = world.init(&repository);
        match world.killed(command, &mut window).await {
            Ended::Done(output) => succeeded(&output),
            Ended::Killed => killed += 1,
        }
        succeeded(&world.init(&repository).output().unwrap());
        assert_eq!(world.listed(&repository), Vec::<String>::new(), "{repository}");
        if tried == 0 {
            succeeded(&world.run(&repository, &["backup"]));
            assert_eq!(world.listed(&repository).len(), 1, "{repository}");
        }
        tried += 1;
    }
    println!("{killed} of {tried} inits were killed within {window}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_killed_at_any_moment_is_not_listed_and_leaves_the_server_alone() {
    let mut world = World::new().await;
    bank::create(&world.server.session().await, ACCOUNTS).await;
    let load = bank::RunningBank::start(&world.server.conninfo(), 2, ACCOUNTS, 1);
    load.wait_for(20).await;
    succeeded(&world.init("repository").output().unwrap());
    // The quicker of two: deaths that come too late tell nothing.
    let whole = measured(world.command("repository", &["backup"]));
    let mut window = Window::new(whole.min(measured(world.command("repository", &["backup"]))));
    let mut complete = world.listed("repository").len();
    assert_eq!(complete, 2);

    let count = kills();
    let mut killed = 0;
    for number in 0..count {
        let command = world.command("repository", &["backup"]);
        let ended = world.killed(command, &mut window).await;
        let listed = world.listed("repository").len();
        match ended {
            Ended::Done(output) => {
                succeeded(&output);
                assert_eq!(listed, complete + 1, "kill {number}: a finished backup is listed");
            }
            // The entry may have been written when death came: then it is complete, which is proven below.
            Ended::Killed => {
                killed += 1;
                assert!(
                    listed == complete || listed == complete + 1,
                    "kill {number}: {listed} listed"
                );
            }
        }
        complete = listed;
        world.server_is_left_alone().await;
    }
    println!("{killed} of {count} backups were killed within {window}; {complete} are listed");
    assert!(killed >= count / 4, "hardly any backup was killed in time");
    load.stop().await;

    for id in world.listed("repository") {
        succeeded(&world.run("repository", &["verify", &id, "--level", "pages"]));
    }
    let digests = row_digests(&world.server.conninfo()).await;
    succeeded(&world.run("repository", &["backup"]));
    assert_eq!(world.listed("repository").len(), complete + 1);
    world.server_is_left_alone().await;
    let to = world.path("restored");
    restored_equals(&world, &to, &digests).await;
}

async fn restored_equals(world: &World, to: &Path, digests: &BTreeMap<String, RowDigest>) {
    succeeded(&world.run("repository", &["restore", "--to", to.to_str().unwrap(), "--yes"]));
    let mut server = TestCluster::on(Major::V15, to);
    server.start().await;
    assert_eq!(row_digests(&server.conninfo()).await, *digests);
    let books = bank::audit(&server.session().await, ACCOUNTS).await;
    assert_eq!(books.faults, Vec::<String>::new());
}
