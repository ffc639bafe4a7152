//! The commands of the README's first five minutes, run as they stand there, in their order.
//!
//! Only places are put in: where the README says `/srv`, a temporary folder; where it says `dbname=shop`, a server of
//! this test.

#![allow(clippy::unwrap_used, reason = "what the test stands on fails it when it gives way")]

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use engine::pgformat::Major;
use testkit::clusters::{Options, TestCluster, give_to_server_user, row_digests};

/// Each `$ lastgood …` line of the README's code blocks, as words.
fn commands(readme: &str) -> Vec<Vec<String>> {
    let lines = readme.lines().filter_map(|line| line.strip_prefix("$ lastgood "));
    lines.map(words).collect()
}

/// Splits as a shell does where there is nothing but words and double quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            letter => word.push(letter),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

fn run(folder: &Path, arguments: &[String]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lastgood"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", folder)
        .env("LASTGOOD_CONFIG", folder.join("lastgood.toml"))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_five_minutes_of_the_readme_work_as_written() {
    let readme = include_str!("../../../README.md");
    let folder = tempfile::Builder::new().prefix("lg-readme-").tempdir().unwrap();
    give_to_server_user(folder.path());
    let options = Options {
        conf: vec!["fsync = on".into()],
        ..Options::default()
    };
    let server = TestCluster::new(Major::V15, options).await;
    let session = server.session().await;
    let made = "CREATE TABLE public.orders AS SELECT g AS id, md5(g::text) AS what FROM generate_series(1, 5000) g";
    session.execute("make a table", made).await.unwrap();
    let before = row_digests(&server.conninfo()).await;

    let commands = commands(readme);
    let verbs: Vec<&str> = commands.iter().map(|words| words[0].as_str()).collect();
    assert_eq!(
        verbs,
        ["init", "backup", "verify", "status", "restore"],
        "the README's story"
    );
    let place = folder.path().to_str().unwrap();
    for words in &commands {
        let words: Vec<String> = words
            .iter()
            .map(|word| {
                word.replace("dbname=shop", &server.conninfo_text())
                    .replace("/srv", place)
            })
            .collect();
        let output = run(folder.path(), &words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "lastgood {}: {said}", words.join(" "));
    }

    let mut restored = TestCluster::on(Major::V15, &folder.path().join("shop-restored"));
    let stop = Command::new("/usr/lib/postgresql/15/bin/pg_ctl")
        .args([
            "-D",
            folder.path().join("shop-restored").to_str().unwrap(),
            "-m",
            "fast",
            "-w",
            "stop",
        ])
        .output();
    // Root may not run pg_ctl: then the server is ended by its process id.
    if !stop.is_ok_and(|output| output.status.success()) {
        end_by_pid(&folder.path().join("shop-restored"));
    }
    restored.start().await;
    assert_eq!(row_digests(&restored.conninfo()).await, before);
}

/// Ends the server of a data directory and waits until it is gone.
fn end_by_pid(data: &Path) {
    let file = std::fs::read_to_string(data.join("postmaster.pid")).unwrap();
    let pid: i32 = file.lines().next().unwrap().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let began = std::time::Instant::now();
    while data.join("postmaster.pid").exists() {
        assert!(began.elapsed().as_secs() < 60, "the restored server did not stop");
        std::thread::yield_now();
    }
}
