//! The binary as scripts and people meet it: exit codes, one JSON document, hints, no panic.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod niceness;
mod over_sql;
mod secrets;
mod setup;
mod standby;
mod usage;

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// Runs the program in `folder` with nothing of this machine's environment.
fn lastgood(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lastgood"))
        .args(words)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The one document on standard output.
fn document(output: &Output) -> Value {
    let text = stdout(output);
    assert_eq!(text.lines().count(), 1, "{text}{}", stderr(output));
    serde_json::from_str(&text).unwrap()
}

fn empty() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A configuration whose server and repository are not there, and a key that is.
fn configured() -> tempfile::TempDir {
    let folder = empty();
    let text = "[database.shop]\nrepository = 'backups'\nkey = 'shop.key'\nserver = 'host=/nowhere user=u dbname=d'\n";
    std::fs::write(folder.path().join("lastgood.toml"), text).unwrap();
    write_key(&folder.path().join("shop.key"), 0o600);
    folder
}

/// A key made for this test alone, never used for anything else.
fn write_key(path: &Path, mode: u32) {
    let (text, _) = engine::repo::keys::Unlock::generate("shop");
    std::fs::write(path, text.as_bytes()).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

const COMMANDS: [&[&str]; 7] = [
    &["doctor", "nosuch"],
    &["backup"],
    &["list"],
    &["show", "20261120T143000Z-7f3k9q"],
    &["status"],
    &["restore", "--to", "new"],
    &["verify"],
];
