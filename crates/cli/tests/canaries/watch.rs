//! Looks at every process of the machine while a program runs: its arguments and its environment are no place for a
//! secret, and those of the servers it starts even less.

use std::{
    fs,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::search::{Canary, seen};

/// Short beside the life of any process that is started here.
const PAUSE: Duration = Duration::from_millis(5);

/// Runs `command`; what it printed, and what was seen of `canaries` in processes other than this one meanwhile.
pub(crate) fn watched(command: &mut Command, canaries: &[Canary]) -> (Output, Vec<String>) {
    let over = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (over, canaries) = (over.clone(), canaries.to_vec());
        thread::spawn(move || {
            let mut found = Vec::new();
            while !over.load(Ordering::Relaxed) {
                found.extend(look(&canaries));
                thread::sleep(PAUSE);
            }
            // Once more: a server may have been left running.
            found.extend(look(&canaries));
            found.sort();
            found.dedup();
            found
        })
    };
    let output = command.output().unwrap();
    over.store(true, Ordering::Relaxed);
    (output, watcher.join().unwrap())
}

fn look(canaries: &[Canary]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let is_process = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit());
        if !is_process {
            continue;
        }
        // Processes end while we look.
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(path.join(file)).unwrap_or_default();
            found.extend(seen(canaries, &bytes, &format!("the {file} of {}", name.trim())));
        }
    }
    found
}
