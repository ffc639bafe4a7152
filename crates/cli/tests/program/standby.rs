//! A primary that is backed up from its standby's files, and servers that are no standby of it.

use std::path::{Path, PathBuf};

use engine::pgformat::Major;
use serde_json::Value;
use testkit::clusters::{Options, TestCluster, caught_up, give_to_server_user, row_digests, standby_of};

use super::{code, document, lastgood, stderr, stdout};

/// A relation's file that only the standby has: in a backup, it shows whose files were read.
const STRAY: &str = "base/1/99999999";

struct Scene {
    primary: TestCluster,
    standby: TestCluster,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Scene {
        let folder = tempfile::Builder::new().prefix("lg-standby-").tempdir().unwrap();
        give_to_server_user(folder.path());
        let mut primary = server().await;
        execute(
            &primary,
            "CREATE TABLE public.t AS SELECT i FROM generate_series(1, 20000) AS i",
        )
        .await;
        let standby = standby_of(&mut primary, &folder.path().join("standby")).await;
        let stray = standby.data_dir().join(STRAY);
        std::fs::write(&stray, [0; 8192]).unwrap();
        give_to_server_user(&stray);
        let scene = Scene {
            primary,
            standby,
            folder,
        };
        let named = format!("shop={}", scene.primary.conninfo_text());
        let words = ["--repository", "backups", "--config", "lastgood.toml"];
        let made = scene.run(&[&["init", "--database", &named], &words[..]].concat());
        assert_eq!(made["ok"], true, "{made}");
        scene
    }

    /// What the program answers.
    fn run(&self, words: &[&str]) -> Value {
        document(&lastgood(self.folder.path(), &[words, &["--json"]].concat()))
    }

    /// Asserts that what was backed up last is the primary as it is now, with the standby's files.
    async fn brings_back(&self, taken: &Value, to: &str) {
        assert_eq!(taken["ok"], true, "{taken}");
        let rows = row_digests(&self.primary.conninfo()).await;
        let to = self.folder.path().join(to);
        let restored = self.run(&["restore", "shop", "--to", to.to_str().unwrap()]);
        assert_eq!(restored["ok"], true, "{restored}");
        assert_eq!(restored["data"]["backup"], taken["data"]["backup"]["id"], "{restored}");
        assert!(to.join(STRAY).exists(), "the primary's own files were read");
        let mut server = TestCluster::on(Major::V15, &to);
        server.start().await;
        assert_eq!(row_digests(&server.conninfo()).await, rows);
        server.stop().await;
    }

    /// Adds a line to the section of the one database, the last in the file.
    fn configure(&self, line: &str) -> PathBuf {
        let path = self.folder.path().join("lastgood.toml");
        let text = std::fs::read_to_string(&path).unwrap() + line + "\n";
        std::fs::write(&path, text).unwrap();
        path
    }
}

async fn server() -> TestCluster {
    let options = Options {
        conf: vec!["fsync = on".into()],
        ..Options::default()
    };
    TestCluster::new(Major::V15, options).await
}

async fn execute(server: &TestCluster, statement: &str) {
    let session = server.session().await;
    session.execute("prepare the test", statement).await.unwrap();
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_beside_the_primary_is_given_by_flag_or_configuration_and_a_wrong_one_is_refused() {
    let scene = Scene::new().await;
    let theirs = scene.standby.conninfo_text();
    let by_flag = scene.run(&["backup", "shop", "--standby", &theirs]);
    scene.brings_back(&by_flag, "by-flag").await;

    let ours = scene.primary.conninfo_text();
    let mut foreign = server().await;
    let others = foreign.conninfo_text();
    for (standby, exit, error, word) in [
        (ours.as_str(), 4, "no-standby", "not in recovery"),
        (others.as_str(), 4, "foreign-standby", "is of the cluster"),
        ("host=/nowhere user=u dbname=d", 8, "server-unreachable", "/nowhere"),
        ("host=h password=hunter2", 2, "usage", "password"),
        ("no connection string", 2, "connection-string", "connection string"),
    ] {
        let words = ["backup", "shop", "--standby", standby];
        refused(scene.folder.path(), &words, exit, error, word);
    }
    foreign.stop().await;

    let path = scene.configure(&format!("standby = \"{ours}\""));
    refused(
        scene.folder.path(),
        &["backup", "shop"],
        4,
        "no-standby",
        "not in recovery",
    );
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace(&format!("standby = \"{ours}\""), &format!("standby = \"{theirs}\"")),
    )
    .unwrap();
    execute(&scene.primary, "DELETE FROM public.t WHERE i % 7 = 0").await;
    caught_up(&scene.primary, &scene.standby).await;
    let by_key = scene.run(&["backup", "shop", "--incremental"]);
    scene.brings_back(&by_key, "by-key").await;

    // A flag is more than the configuration, as everywhere.
    let words = ["backup", "shop", "--standby", &ours];
    refused(scene.folder.path(), &words, 4, "no-standby", "not in recovery");
    let listed = scene.run(&["list", "shop"]);
    let listed = &listed["data"]["databases"][0]["backups"];
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
}

/// Asserts that the program ends so, and says what is wrong and what to do.
fn refused(folder: &Path, words: &[&str], exit: i32, error: &str, word: &str) {
    let told = lastgood(folder, words);
    assert_eq!(code(&told), exit, "{words:?}: {}{}", stdout(&told), stderr(&told));
    assert!(stderr(&told).contains("try: "), "{words:?}: {}", stderr(&told));
    let told = document(&lastgood(folder, &[words, &["--json"]].concat()));
    let found = &told["error"];
    assert_eq!(
        (&found["code"], &found["exit"]),
        (&error.into(), &exit.into()),
        "{told}"
    );
    assert!(found.to_string().contains(word), "{told}");
    assert!(!told.to_string().contains("hunter2"), "{told}");
}
