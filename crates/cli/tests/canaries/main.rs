//! Secrets and what is in tables appear nowhere but where they belong: not on standard output or error, not in JSON,
//! not in the repository, not in the arguments or the environment of any process, not in files the program makes.
//!
//! Every command runs once in order and once into a failure, with everything switched on that makes programs talk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test: panicking is its answer, counts are its report"
)]

mod search;
mod watch;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use engine::{
    pgformat::Major,
    repo::{Repository, keys::Unlock, store::Location},
};
use search::{Canary, seen, seen_below};
use serde_json::Value;
use testkit::{
    clusters::{Options, TestCluster, give_to_server_user},
    sim::Random,
};
use watch::watched;

struct Stage {
    folder: tempfile::TempDir,
    server: TestCluster,
    canaries: Vec<Canary>,
    /// What is a secret only inside the repository: people see it on their screens.
    private: Vec<Canary>,
    found: Vec<String>,
    runs: usize,
}

/// Letters and digits that nobody else has.
fn unique(what: &str) -> String {
    use std::hash::{BuildHasher, Hasher};
    let mut random = Random::new(std::hash::RandomState::new().build_hasher().finish());
    let letters = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
    let drawn = (0..32).map(|_| char::from(letters[random.below(letters.len() as u64) as usize]));
    format!("{what}{}", drawn.collect::<String>())
}

fn write_private(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

impl Stage {
    async fn new() -> Stage {
        let folder = tempfile::Builder::new().prefix("lg-canaries-").tempdir().unwrap();
        give_to_server_user(folder.path());
        let [password, wrong, row, label, passphrase] = ["Password", "Wrong", "Row", "Label", "Phrase"].map(unique);
        let options = Options {
            conf: vec!["fsync = on".into()],
            tcp: true,
            ..Options::default()
        };
        let server = TestCluster::new(Major::V15, options).await;
        let hba = server.data_dir().join("pg_hba.conf");
        let rules = fs::read_to_string(&hba).unwrap();
        let ours = "host all keeper 127.0.0.1/32 scram-sha-256\nhost replication keeper 127.0.0.1/32 scram-sha-256\n";
        fs::write(&hba, format!("{ours}{rules}")).unwrap();
        let session = server.session().await;
        for sql in [
            format!("CREATE ROLE keeper SUPERUSER REPLICATION LOGIN PASSWORD '{password}'"),
            format!("CREATE TABLE public.\"{label}\" AS SELECT i, '{row}' AS text FROM generate_series(1, 300) AS i"),
            "SELECT pg_catalog.pg_reload_conf()".into(),
            "CHECKPOINT".into(),
        ] {
            session.execute("set the stage", &sql).await.unwrap();
        }
        for (name, password) in [("pass", &password), ("wrong-pass", &wrong)] {
            write_private(&folder.path().join(name), &format!("*:*:*:keeper:{password}\n"));
        }
        write_private(&folder.path().join("phrase"), &format!("{passphrase}\n"));
        write_private(&folder.path().join("wrong-phrase"), &unique("NotIt"));
        let canaries = vec![
            Canary::new("the password", password.as_bytes()),
            Canary::new("the wrong password", wrong.as_bytes()),
            Canary::new("the passphrase", passphrase.as_bytes()),
            Canary::new("a row", row.as_bytes()),
        ];
        Stage {
            folder,
            server,
            canaries,
            private: vec![Canary::new("a label and the name of a table", label.as_bytes())],
            found: Vec::new(),
            runs: 0,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_string()
    }

    fn conninfo(&self, passfile: &str) -> String {
        let (port, passfile) = (self.server.port(), self.text(passfile));
        format!("host=127.0.0.1 port={port} user=keeper dbname=postgres sslmode=disable passfile={passfile}")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastgood"));
        command
            .args(words)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env("RUST_LOG", "trace")
            .env("RUST_BACKTRACE", "full")
            .env("LASTGOOD_PROGRESS", "plain")
            .stdin(Stdio::null());
        command
    }

    /// Runs it for people and for programs; the answer for programs.
    fn run(&mut self, words: &[&str], code: i32) -> Value {
        let output = self.look_at(self.command(words), words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", text(&output));
        let json = [words, &["--json"]].concat();
        let output = self.look_at(self.command(&json), &json);
        let document = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str(&document).unwrap_or_else(|_| panic!("{json:?}: {}", text(&output)))
    }

    fn look_at(&mut self, mut command: Command, words: &[&str]) -> Output {
        self.runs += 1;
        let (output, found) = watched(&mut command, &self.canaries);
        self.note(words, found);
        for (bytes, place) in [(&output.stdout, "standard output"), (&output.stderr, "standard error")] {
            self.note(words, seen(&self.canaries, bytes, place));
        }
        output
    }

    fn note(&mut self, words: &[&str], found: Vec<String>) {
        self.found
            .extend(found.into_iter().map(|found| format!("{words:?}: {found}")));
    }

    /// From here on the key's own content must not be seen either.
    async fn learn_keys(&mut self) {
        let text = fs::read_to_string(self.path("shop.key")).unwrap();
        let secret = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap();
        let unlock = Unlock::parse_key_file(&text).unwrap();
        let location = Location::Directory(self.path("repository"));
        let store = location.database("shop", false).unwrap();
        let repository = Repository::open(store, testkit::host::runtime(), &unlock)
            .await
            .unwrap();
        let page_key = repository.keyring().page_key();
        self.canaries.push(Canary::new("the key", secret.as_bytes()));
        self.canaries.push(Canary::new("the page key", page_key.as_slice()));
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_row_is_seen_where_it_does_not_belong() {
    let mut stage = Stage::new().await;
    let label = unique("Words");
    stage.private.push(Canary::new("a label", label.as_bytes()));
    let database = format!("shop={}", stage.conninfo("pass"));
    let repository = stage.text("repository");
    let place = ["--repository", &repository, "--config", "lastgood.toml"];
    stage.run(&[&["init", "--database", &database][..], &place].concat(), 0);
    stage.learn_keys().await;
    every_command(&mut stage, &label);
    failures(&mut stage);
    passphrases(&mut stage, &database);

    // The repository and every file of the program's own making, by all means of hiding that are common.
    let everything: Vec<Canary> = stage.canaries.iter().chain(&stage.private).cloned().collect();
    for name in ["repository", "phrased"] {
        let found = seen_below(&everything, &stage.path(name));
        stage.note(&[name], found);
    }
    for name in ["lastgood.toml", "phrased.toml"] {
        let found = seen_below(&stage.canaries, &stage.path(name));
        stage.note(&[name], found);
    }
    let log = seen_below(&stage.canaries, &stage.server.log());
    let rows_apart: Vec<Canary> = stage
        .canaries
        .iter()
        .filter(|canary| canary.what != "a row")
        .cloned()
        .collect();
    let restored = seen_below(&rows_apart, &stage.path("restored"));
    stage.note(&["the server's log"], log);
    stage.note(&["the restored directory"], restored);
    println!("{} runs, {} canaries", stage.runs, everything.len());
    assert!(stage.runs >= 30, "only {} runs", stage.runs);
    assert_eq!(stage.found, Vec::<String>::new());
}

fn every_command(stage: &mut Stage, label: &str) {
    stage.run(&["doctor"], 0);
    stage.run(&["backup", "--label", label], 0);
    let plain = stage.run(&["backup", "--compress", "none"], 0);
    let id = plain["data"]["backup"]["id"].as_str().unwrap().to_string();
    stage.run(&["list"], 0);
    stage.run(&["show", &id], 0);
    stage.run(&["status"], 0);
    stage.run(&["verify", "--level", "objects"], 0);
    stage.run(&["verify", "--level", "pages"], 0);
    let to = stage.text("restored");
    stage.run(&["restore", "--to", &to, "--plan"], 0);
    servers(stage, &to);
}

/// What brings up servers of its own: they inherit nothing, not even a password that the user has set for himself.
fn servers(stage: &mut Stage, to: &str) {
    let password = fs::read_to_string(stage.path("pass")).unwrap();
    let password = password.trim().rsplit(':').next().unwrap().to_string();
    let port = stage.server.port().wrapping_add(1).max(1025).to_string();
    let words: [&[&str]; 2] = [
        &["verify", "--level", "restore", "--json"],
        &["restore", "--to", to, "--yes", "--start", "--port", &port, "--json"],
    ];
    for words in words {
        let mut command = stage.command(words);
        command.env("PGPASSWORD", &password);
        let canaries = stage.canaries.clone();
        let (output, found) = watched(&mut command, &canaries);
        stage.runs += 1;
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", text(&output));
        // The program's own environment is the user's doing.
        let found = found
            .into_iter()
            .filter(|found| found != "the password is in the environ of lastgood");
        stage.note(words, found.collect());
        stage.note(words, seen(&canaries, &text(&output).into_bytes(), "the output"));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        if let Some(pid) = document["data"]["server"]["pid"].as_u64() {
            stop(pid);
        }
    }
}

/// Ends a server that was left running, and waits until it is gone.
fn stop(pid: u64) {
    assert!(
        Command::new("kill")
            .args(["-INT", &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
    for _ in 0..3000 {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if state.is_empty() || state.contains(") Z ") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the server {pid} does not stop");
}

/// Every command once into the wrong key, the wrong password, a damaged object.
fn failures(stage: &mut Stage) {
    let (other, _) = Unlock::generate("shop");
    write_private(&stage.path("other.key"), &other);
    let to = stage.text("failed");
    let wrong_key: [&[&str]; 5] = [
        &["backup"],
        &["list"],
        &["verify"],
        &["restore", "--to", &to, "--yes"],
        &["show", "20261120T143000Z-7f3k9q"],
    ];
    for words in wrong_key {
        stage.run(&[words, &["--key-file", "other.key"]].concat(), 4);
    }
    let wrong = stage.conninfo("wrong-pass");
    let repository = stage.text("repository");
    let direct = ["--repository", &repository, "--name", "shop", "--key-file", "shop.key"];
    for verb in ["backup", "doctor"] {
        let output = stage.look_at(
            stage.command(&[&[verb, &wrong][..], &direct].concat()),
            &[verb, "wrong password"],
        );
        assert_ne!(output.status.code(), Some(0), "{verb}: {}", text(&output));
    }
    let pack = a_pack(&stage.path("repository/shop/packs"));
    let bytes = fs::read(&pack).unwrap();
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    fs::write(&pack, damaged).unwrap();
    let id = pack
        .parent()
        .unwrap()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_string();
    let at = format!("backup:{id}");
    for words in [
        &["verify", id.as_str()][..],
        &["restore", "--to", &to, "--at", &at, "--yes"],
    ] {
        stage.run(words, 9);
    }
    fs::write(&pack, bytes).unwrap();
}

fn a_pack(packs: &Path) -> PathBuf {
    let backup = fs::read_dir(packs).unwrap().next().unwrap().unwrap().path();
    backup.join("00000000")
}

/// The same for a repository that a passphrase opens.
fn passphrases(stage: &mut Stage, database: &str) {
    let repository = stage.text("phrased");
    let place = [
        "--config",
        "phrased.toml",
        "--repository",
        &repository,
        "--passphrase-file",
        "phrase",
    ];
    let init = [&["init", "--database", database][..], &place].concat();
    let output = stage.look_at(stage.command(&init), &["init with a passphrase"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let backup = ["backup", "--config", "phrased.toml"];
    let output = stage.look_at(stage.command(&backup), &["backup with a passphrase"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let wrong = ["list", "--config", "phrased.toml", "--passphrase-file", "wrong-phrase"];
    let output = stage.look_at(stage.command(&wrong), &["list with a wrong passphrase"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
}

#[test]
fn the_search_finds_what_is_hidden_in_every_form() {
    let secret = b"0123456789abcdef-SECRET";
    let canary = Canary::new("a secret", secret);
    // "x", "xy" and "xyz" before it, in base64.
    for hidden in [
        &b"..0123456789abcdef-SECRET.."[..],
        b"..303132333435363738396162636465662d534543524554..",
        b"..303132333435363738396162636465662D534543524554..",
        b"MDEyMzQ1Njc4OWFiY2RlZi1TRUNSRVQ=",
        b"eDAxMjM0NTY3ODlhYmNkZWYtU0VDUkVU",
        b"eHkwMTIzNDU2Nzg5YWJjZGVmLVNFQ1JFVA==",
        b"eHl6MDEyMzQ1Njc4OWFiY2RlZi1TRUNSRVQ=",
    ] {
        assert!(canary.is_in(hidden), "{}", String::from_utf8_lossy(hidden));
    }
    assert!(!canary.is_in(b"0123456789abcdef-SECRE"));
}

#[test]
fn the_watch_sees_arguments_and_environments_of_children() {
    let argument = unique("Argument");
    let variable = unique("Variable");
    let canaries = [
        Canary::new("an argument", argument.as_bytes()),
        Canary::new("a variable", variable.as_bytes()),
    ];
    let mut command = Command::new("sh");
    command
        .args(["-c", "sleep 0.5; true", &argument])
        .env("SECRET", &variable);
    let (_, found) = watched(&mut command, &canaries);
    assert!(
        found
            .iter()
            .any(|found| found.starts_with("an argument is in the cmdline of")),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|found| found.starts_with("a variable is in the environ of")),
        "{found:?}"
    );
}
