//! A server that recovers, and the processes that it starts.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use testkit::{
    clusters::{TestCluster, server_user},
    sim::Random,
};

/// How long a recovery may take to fetch something, or a server to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server, killed with the test at the latest.
pub(super) struct Recovery(Child);

impl Drop for Recovery {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a recovery, with the programs of another server.
pub(super) fn recover(programs: &TestCluster, data: &Path, log: &Path) -> Recovery {
    let mut command = Command::new(programs.binaries().directory().join("postgres"));
    command
        .arg("-D")
        .arg(data)
        .args(["-c", "listen_addresses=", "-c", "logging_collector=off"])
        .arg("-k")
        .arg(programs.folder())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(log).unwrap());
    if let Some((user, group)) = server_user() {
        command.uid(user).gid(group);
    }
    Recovery(command.spawn().unwrap())
}

/// Lets `passed` fetches pass, then kills one at a random moment of its life, which is a few milliseconds. Held still first,
/// it can no longer end by itself. Says whether it came to that before the recovery was at its end.
pub(super) async fn kill_a_fetch(recovery: &mut Recovery, data: &Path, passed: u64, random: &mut Random) -> bool {
    let (began, mut seen) = (Instant::now(), BTreeSet::new());
    loop {
        let ended = recovery.0.try_wait().unwrap();
        assert!(
            ended.is_none(),
            "the recovery ended before a fetch was killed: {ended:?}"
        );
        assert!(began.elapsed() < PATIENCE, "the recovery comes to no end");
        if !data.join("recovery.signal").exists() {
            return false;
        }
        if let Some(fetch) = fetch_of(recovery.0.id())
            && seen.insert(fetch)
            && seen.len() as u64 > passed
        {
            tokio::time::sleep(Duration::from_micros(random.below(3_000))).await;
            signal("STOP", fetch);
            if is_held(fetch) {
                signal("KILL", fetch);
                return true;
            }
        }
        tokio::time::sleep(Duration::from_micros(300)).await;
    }
}

/// The fetch that a server waits for: a child of its startup process, or of the shell between.
fn fetch_of(server: u32) -> Option<u32> {
    let mut generation = vec![server];
    for _ in 0..3 {
        generation = generation.into_iter().flat_map(children).collect();
        if let Some(fetch) = generation
            .iter()
            .find(|process| words(**process).contains("\0wal\0get\0"))
        {
            return Some(*fetch);
        }
    }
    None
}

fn children(process: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// The command line, its words parted by zero bytes; empty for a process that has ended.
fn words(process: u32) -> String {
    let bytes = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The processes with such a command line.
pub(super) fn processes(wanted: impl Fn(&str) -> bool) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|process| wanted(&words(*process))).collect()
}

/// Whether a process stands still. It may have ended instead.
fn is_held(process: u32) -> bool {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        match stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()) {
            Some('T' | 't') => return true,
            None | Some('Z' | 'X') => return false,
            Some(_) => std::thread::yield_now(),
        }
    }
    panic!("{process} neither stops nor ends")
}

/// Waits until nobody fetches ahead into a data directory.
pub(crate) async fn nobody_fetches_ahead(data: &Path) {
    let (began, data) = (Instant::now(), data.to_str().unwrap());
    while !processes(|words| words.contains("\0--ahead\0") && words.contains(data)).is_empty() {
        assert!(began.elapsed() < PATIENCE, "who fetches ahead comes to no end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends a signal to a process that may have ended.
pub(super) fn signal(name: &str, process: u32) {
    let sent = Command::new("kill")
        .args(["-s", name, &process.to_string()])
        .stderr(Stdio::null())
        .status();
    assert!(sent.is_ok(), "kill can be run");
}

/// Waits until the server has given up.
pub(super) async fn ended(recovery: &mut Recovery) {
    let began = Instant::now();
    loop {
        if let Some(status) = recovery.0.try_wait().unwrap() {
            assert!(!status.success(), "{status}");
            return;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "the server goes on though its fetch was killed"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
