//! What no file of this tree may be or hold.
#![allow(
    clippy::unwrap_used,
    reason = "a file of the tree that cannot be read fails the test"
)]

use std::{fs, path::PathBuf, process::Command};

/// A file longer than this has a second subject that should have moved out.
const LINES: usize = 450;

/// Names that say nothing of the domain, so that everything ends up there.
const NAMES: &[&str] = &["utils", "util", "common", "types", "helpers", "misc"];

/// Unfinished work, tests that do not run, and paths of somebody's machine.
const PHRASES: &[&str] = &[
    "#[ignore",
    "todo!(",
    "unimplemented!(",
    "dbg!(",
    "/work/main",
    "/work/shared",
    "/tmp/bash",
];

/// The same, as whole words.
const WORDS: &[&str] = &["TODO", "FIXME", "XXX", "HACK", "WIP"];

/// This file names what it forbids.
const SELF: &str = "xtask/tests/files.rs";

fn written() -> Vec<(PathBuf, String)> {
    let files = xtask::files_below(&["crates", "xtask", "scripts", "bench", "docs", "fuzz", ".ci"]).unwrap();
    let top = fs::read_dir(xtask::root())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file());
    files
        .into_iter()
        .chain(top)
        .filter(|path| !path.ends_with(SELF) && !path.ends_with("Cargo.lock"))
        // What is not text (stored repositories of earlier versions, damaged files) is nobody's prose.
        .filter_map(|path| fs::read_to_string(&path).ok().map(|text| (path, text)))
        .collect()
}

fn rust(path: &std::path::Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

#[test]
fn every_source_file_has_one_subject() {
    for (path, text) in written().iter().filter(|(path, _)| rust(path)) {
        let lines = text.lines().count();
        assert!(
            lines <= LINES,
            "{} has {lines} lines; move its second subject out",
            path.display()
        );
    }
}

#[test]
fn modules_are_named_after_what_they_are_about() {
    for (path, _) in written().iter().filter(|(path, _)| rust(path)) {
        let inside = path.strip_prefix(xtask::root()).unwrap().with_extension("");
        for part in inside.components() {
            let part = part.as_os_str().to_string_lossy();
            assert!(
                !NAMES.contains(&part.as_ref()),
                "{}: `{part}` names no subject",
                path.display()
            );
        }
    }
}

#[test]
fn nothing_is_left_unfinished_or_switched_off() {
    for (path, text) in written() {
        for (number, line) in text.lines().enumerate() {
            for phrase in PHRASES {
                assert!(!line.contains(phrase), "{}:{}: {phrase}", path.display(), number + 1);
            }
            let mut words = line.split(|character: char| !character.is_alphanumeric() && character != '_');
            assert!(
                !words.any(|word| WORDS.contains(&word)),
                "{}:{}: {line}",
                path.display(),
                number + 1
            );
        }
    }
}

#[test]
fn every_script_is_one_that_bash_can_read() {
    for (path, text) in written()
        .iter()
        .filter(|(_, text)| text.starts_with("#!/usr/bin/env bash"))
    {
        assert!(
            text.contains("\nset -euo pipefail\n"),
            "{} goes on after an error",
            path.display()
        );
        let read = Command::new("bash").arg("-n").arg(path).output().unwrap();
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    }
}
