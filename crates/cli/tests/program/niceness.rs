//! How much a backup gives way to the server beside it.

use std::{fs, path::Path, process::Command};

use super::{code, empty, lastgood, stderr};

/// What `nice` counts of this process, and so of what it starts.
fn own() -> i32 {
    let said = Command::new("nice").output().unwrap();
    String::from_utf8(said.stdout).unwrap().trim().parse().unwrap()
}

/// What each thread of the program had when it asked for the passphrase; the server is not there, so it came to no more.
fn of_threads(folder: &Path, words: &[&str], exit: i32) -> Vec<i32> {
    let ended = lastgood(folder, words);
    assert_eq!(code(&ended), exit, "{words:?}: {}", stderr(&ended));
    let said = fs::read_to_string(folder.join("niceness")).unwrap();
    fs::remove_file(folder.join("niceness")).unwrap();
    said.lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn every_thread_of_a_backup_is_ten_nicer_than_who_started_it_and_no_other_command_is() {
    let folder = empty();
    fs::write(folder.path().join("phrase"), "a phrase of this test\n").unwrap();
    rustix::fs::chmod(folder.path().join("phrase"), rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let words = ["--repository", "backups", "--config", "lastgood.toml"];
    let more = ["--passphrase-file", "phrase", "--database"];
    let made = lastgood(
        folder.path(),
        &[&["init"], &words[..], &more, &["shop=host=/nowhere user=u dbname=d"]].concat(),
    );
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let path = folder.path().join("lastgood.toml");
    let text = fs::read_to_string(&path).unwrap();
    let line = text.lines().find(|line| line.starts_with("passphrase_file")).unwrap();
    // The nineteenth field; what is before the last bracket may hold spaces (proc(5)).
    let ask = format!(
        r#"passphrase_command = ["sh", "-c", "sed 's/.*) //' /proc/$PPID/task/*/stat | cut -d ' ' -f 17 > {}; cat {}"]"#,
        folder.path().join("niceness").display(),
        folder.path().join("phrase").display()
    );
    fs::write(&path, text.replace(line, &ask)).unwrap();

    let own = own();
    let backup = of_threads(folder.path(), &["backup", "shop"], 8);
    // One thread alone is none of those that read.
    assert!(backup.len() > 1, "{backup:?}");
    assert!(
        backup.iter().all(|nice| *nice == (own + 10).min(19)),
        "{backup:?}, who started it has {own}"
    );
    let list = of_threads(folder.path(), &["list", "shop"], 0);
    assert!(
        list.iter().all(|nice| *nice == own),
        "{list:?}, who started it has {own}"
    );
}
