//! Runs work in a process of its own and reads its high-water mark, so that no other test disturbs it.
//!
//! The test's binary starts itself once more, asking for the same test alone and naming the work by an environment
//! variable; what runs there does the work, what runs here waits for it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

pub const MIB: u64 = 1 << 20;

/// Which piece of work the process is to do: only in a child.
const WORK: &str = "LASTGOOD_APART_WORK";
/// Where it works.
const FOLDER: &str = "LASTGOOD_APART_FOLDER";

/// The most memory that a piece of work had resident.
#[derive(Debug, Clone, Copy)]
pub struct Peak {
    pub bytes: u64,
}

impl std::fmt::Display for Peak {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} MiB resident at most", self.bytes / MIB)
    }
}

/// The pieces of work of one test, which share a folder.
pub struct Apart {
    test: &'static str,
    folder: Option<tempfile::TempDir>,
}

impl Apart {
    /// Those of the test function `test`.
    pub fn new(test: &'static str) -> Apart {
        let child = std::env::var_os(WORK).is_some();
        let folder = (!child).then(|| tempfile::tempdir().unwrap());
        Apart { test, folder }
    }

    /// Does `work` in a process of its own, in a folder below the test's that all pieces see, and measures it.
    pub fn peak(&self, piece: &str, work: impl AsyncFnOnce(&Path)) -> Peak {
        let Some(folder) = &self.folder else {
            if std::env::var(WORK).unwrap() == piece {
                here(work);
            }
            // Another piece of the same test; nobody looks at what a child says of it.
            return Peak { bytes: 0 };
        };
        let output = Command::new(std::env::current_exe().unwrap())
            .args([self.test, "--exact", "--nocapture", "--test-threads=1"])
            .env(WORK, piece)
            .env(FOLDER, folder.path())
            .output()
            .unwrap();
        let (said, complained) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        let found = said
            .lines()
            .find_map(|line| line.split_once("peak ")?.1.trim().parse().ok());
        let (Some(bytes), true) = (found, output.status.success()) else {
            panic!("{piece}: {said}{complained}");
        };
        let peak = Peak { bytes };
        println!("{}, {piece}: {peak}", self.test);
        peak
    }
}

/// Does the work, says what it took and ends the process.
fn here(work: impl AsyncFnOnce(&Path)) -> ! {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio.block_on(work(&folder));
    println!("peak {}", high_water());
    std::process::exit(0);
}

/// `VmHWM` of this process.
fn high_water() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
