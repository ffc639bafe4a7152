//! Configuration, repository and key: found, made once, told apart.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{code, configured, document, empty, lastgood, stderr, stdout, write_key};

#[test]
fn a_repository_that_is_not_there_is_not_found() {
    let folder = configured();
    for words in [&["list"][..], &["status"], &["verify"], &["restore", "--to", "new"]] {
        let output = lastgood(folder.path(), words);
        assert_eq!(code(&output), 6, "{words:?}: {}", stderr(&output));
        assert!(!folder.path().join("new").exists());
    }
}

#[test]
fn an_unknown_key_is_refused_with_file_line_and_the_key_that_was_meant() {
    let folder = empty();
    std::fs::write(folder.path().join("lastgood.toml"), "[database.shop]\nrepo = '/srv'\n").unwrap();
    let output = lastgood(folder.path(), &["status"]);
    assert_eq!(code(&output), 2);
    let told = stderr(&output);
    assert!(
        told.contains("lastgood.toml:2: unknown key `repo` in [database.shop]"),
        "{told}"
    );
    assert!(told.contains("try: Write `repository` if that was meant."), "{told}");
}

#[test]
fn the_configuration_is_taken_from_flag_then_variable_then_directory() {
    let folder = empty();
    let broken = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, "wrong").unwrap();
        path
    };
    let (flag, variable) = (broken("flag.toml"), broken("variable.toml"));
    broken("lastgood.toml");
    let run = |words: &[&str], variable: Option<&Path>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastgood"));
        command
            .args(words)
            .current_dir(&folder)
            .env_clear()
            .stdin(Stdio::null());
        command.envs(variable.map(|path| ("LASTGOOD_CONFIG", path)));
        stderr(&command.output().unwrap())
    };
    let words = ["status", "--config", flag.to_str().unwrap()];
    assert!(run(&words, Some(&variable)).contains("flag.toml:1"));
    assert!(run(&["status"], Some(&variable)).contains("variable.toml:1"));
    assert!(run(&["status"], None).contains("/lastgood.toml:1"));
}

/// Words of an `init` that touches nothing outside of its folder.
const INIT: [&str; 7] = [
    "init",
    "--repository",
    "backups",
    "--config",
    "etc/lastgood.toml",
    "--database",
    "shop=host=/nowhere user=u",
];

#[test]
fn init_makes_repository_key_and_configuration_and_can_be_repeated() {
    let folder = empty();
    let made = lastgood(folder.path(), &INIT);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    assert!(
        stdout(&made).contains("Next: lastgood doctor shop"),
        "{}",
        stdout(&made)
    );
    let key = folder.path().join("etc/shop.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let before = (
        std::fs::read(&key).unwrap(),
        std::fs::read(folder.path().join("etc/lastgood.toml")).unwrap(),
    );

    let again = document(&lastgood(folder.path(), &[&INIT[..], &["--json"]].concat()));
    assert_eq!(
        (&again["ok"], &again["data"]["databases"][0]["created"]),
        (&Value::Bool(true), &Value::Bool(false))
    );
    assert_eq!(
        before,
        (
            std::fs::read(&key).unwrap(),
            std::fs::read(folder.path().join("etc/lastgood.toml")).unwrap()
        )
    );

    let list = document(&lastgood(
        folder.path(),
        &["list", "--config", "etc/lastgood.toml", "--json"],
    ));
    assert_eq!(list["data"]["databases"][0]["backups"], serde_json::json!([]));
    let alone = lastgood(
        folder.path(),
        &["list", "--repository", "backups", "--key-file", "etc/shop.key"],
    );
    assert_eq!(code(&alone), 0, "{}", stderr(&alone));
}

#[test]
fn init_cut_off_before_the_configuration_goes_on_with_the_same_key() {
    let folder = empty();
    let made = document(&lastgood(folder.path(), &[&INIT[..], &["--json"]].concat()));
    std::fs::remove_file(folder.path().join("etc/lastgood.toml")).unwrap();
    let again = document(&lastgood(folder.path(), &[&INIT[..], &["--json"]].concat()));
    assert_eq!(made["data"]["databases"][0]["id"], again["data"]["databases"][0]["id"]);
    assert!(folder.path().join("etc/lastgood.toml").exists());
}

#[test]
fn init_makes_no_second_key_for_a_repository_whose_key_is_elsewhere() {
    let folder = empty();
    assert_eq!(code(&lastgood(folder.path(), &INIT)), 0);
    std::fs::rename(folder.path().join("etc"), folder.path().join("moved")).unwrap();
    let output = lastgood(folder.path(), &INIT);
    assert_eq!(code(&output), 7, "{}", stderr(&output));
    assert!(!folder.path().join("etc").exists());
}

#[test]
fn init_does_not_put_the_key_into_the_repository() {
    let folder = empty();
    let output = lastgood(
        folder.path(),
        &[&INIT[..], &["--key-file", "backups/shop.key"]].concat(),
    );
    assert_eq!(code(&output), 4);
    assert!(!folder.path().join("backups").exists());
}

#[test]
fn another_key_and_another_repository_are_told_apart() {
    let folder = empty();
    assert_eq!(code(&lastgood(folder.path(), &INIT)), 0);
    let wrong = folder.path().join("wrong.key");
    write_key(&wrong, 0o600);
    let output = lastgood(
        folder.path(),
        &[
            "list",
            "--config",
            "etc/lastgood.toml",
            "shop",
            "--key-file",
            "wrong.key",
            "--json",
        ],
    );
    assert_eq!(
        (code(&output), &document(&output)["error"]["code"]),
        (4, &"wrong-key".into())
    );

    let path = folder.path().join("etc/lastgood.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let line = text.lines().find(|line| line.starts_with("id = ")).unwrap();
    std::fs::write(&path, text.replace(line, "id = \"00000000000000000000000000000000\"")).unwrap();
    let output = lastgood(folder.path(), &["list", "--config", "etc/lastgood.toml", "--json"]);
    assert_eq!(
        (code(&output), &document(&output)["error"]["code"]),
        (7, &"foreign-repository".into())
    );
}
