//! The binary as scripts and people meet it: exit codes, one JSON document, hints, no panic.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

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

#[test]
fn help_lists_the_exit_codes_and_the_commands() {
    let folder = empty();
    let help = lastgood(folder.path(), &["--help"]);
    assert_eq!(code(&help), 0);
    for word in [
        "retry safe?",
        "  9  ",
        " 10  ",
        "130  ",
        "143  ",
        "init",
        "demo",
        "LASTGOOD_*",
    ] {
        assert!(stdout(&help).contains(word), "{word}\n{}", stdout(&help));
    }
    assert!(stdout(&lastgood(folder.path(), &["--version"])).starts_with("lastgood "));
}

#[test]
fn help_of_every_command_fits_eighty_columns() {
    let folder = empty();
    for command in [
        "init", "doctor", "backup", "list", "show", "status", "restore", "verify", "demo",
    ] {
        let help = stdout(&lastgood(folder.path(), &[command, "--help"]));
        assert!(help.contains("Examples:"), "{command}");
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{command}: {line}");
        }
    }
}

#[test]
fn a_mistake_on_the_command_line_ends_with_2_and_says_where_help_is() {
    let folder = empty();
    for words in [
        &[][..],
        &["backupp"],
        &["backup", "--jobs", "0"],
        &["backup", "--jobs", "65"],
        &["backup", "--compress", "20"],
        &["backup", "--max-rate", "quick"],
        &["restore", "shop"],
        &["restore", "shop", "--to", "d", "--at", "yesterday"],
        &["restore", "shop", "--to", "d", "--port", "5433"],
        &["restore", "shop", "--to", "d", "--tablespace", "a=b"],
        &["verify", "--level", "all"],
        &["init", "--database", "host=/tmp"],
        &["list", "--key-file", "a", "--passphrase-file", "b"],
    ] {
        let output = lastgood(folder.path(), words);
        assert_eq!(code(&output), 2, "{words:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty(), "{words:?}");
        assert!(
            stderr(&output).contains("help") || stderr(&output).contains("Usage"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn a_mistake_with_json_is_one_document_too() {
    let folder = empty();
    for words in [
        &["backup", "--jobs", "0", "--json"][..],
        &["--json", "restore"],
        &["--json", "nonsense"],
    ] {
        let output = lastgood(folder.path(), words);
        let document = document(&output);
        assert_eq!((code(&output), &document["ok"]), (2, &Value::Bool(false)));
        assert_eq!(document["error"]["code"], "usage");
        assert!(document["error"]["hint"].as_str().unwrap().contains("--help"));
    }
}

#[test]
fn every_command_without_configuration_says_how_to_begin() {
    let folder = empty();
    for words in COMMANDS {
        let output = lastgood(folder.path(), words);
        assert!([2, 6].contains(&code(&output)), "{words:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains("try: Run `lastgood init`"),
            "{words:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn every_command_that_fails_leaves_one_document_with_code_message_and_hint() {
    for folder in [empty(), configured()] {
        for words in COMMANDS {
            let output = lastgood(folder.path(), &[words, &["--json"]].concat());
            let document = document(&output);
            assert_eq!(
                (&document["ok"], &document["command"]),
                (&Value::Bool(false), &words[0].into())
            );
            for field in ["code", "message", "hint"] {
                assert!(document["error"][field].is_string(), "{words:?}: {document}");
            }
            assert_eq!(document["error"]["exit"], code(&output));
            assert!(document["warnings"].is_array());
        }
    }
}

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

#[test]
fn a_key_that_others_can_read_is_refused_and_nothing_changes() {
    let folder = configured();
    write_key(&folder.path().join("shop.key"), 0o644);
    let output = lastgood(folder.path(), &["list", "--json"]);
    assert_eq!(code(&output), 4);
    assert_eq!(document(&output)["error"]["code"], "key-readable-by-others");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
}

#[test]
fn a_password_on_the_command_line_is_refused_and_never_repeated() {
    let folder = configured();
    for words in [
        &["backup", "postgres://u:hunter2@h/d", "--repository", "r"][..],
        &["doctor", "host=h password=hunter2"],
        &["init", "--database", "shop=host=h password=hunter2"],
        &["init", "--database", "postgres://u:hunter2@h/d"],
        &["list", "shop", "postgres://u:hunter2@h/d"],
        &["backup", "--jobs", "postgres://u:hunter2@h/d"],
        &["show", "postgres://u:hunter2@h/d"],
    ] {
        for more in [&[][..], &["--json"]] {
            let output = lastgood(folder.path(), &[words, more].concat());
            assert!([2, 6].contains(&code(&output)), "{words:?}: {}", stderr(&output));
            assert!(
                !format!("{}{}", stdout(&output), stderr(&output)).contains("hunter2"),
                "{words:?}"
            );
        }
    }
}

#[test]
fn without_a_terminal_nobody_is_asked_for_a_passphrase() {
    let folder = empty();
    std::fs::create_dir_all(folder.path().join("backups/shop")).unwrap();
    std::fs::write(folder.path().join("backups/shop/identity"), "").unwrap();
    let output = lastgood(folder.path(), &["list", "--repository", "backups"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("no key is given"), "{}", stderr(&output));
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

#[test]
fn completions_come_for_every_shell() {
    let folder = empty();
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&lastgood(folder.path(), &["completions", shell])).contains("lastgood"));
    }
    assert!(!stdout(&lastgood(folder.path(), &["--help"])).contains("completions"));
}

#[test]
fn no_argument_makes_the_program_panic() {
    use proptest::prelude::*;
    let folder = configured();
    let word = prop_oneof![
        Just("--at".to_string()),
        Just("--to".to_string()),
        Just("--database".to_string()),
        Just("--max-rate".to_string()),
        Just("--json".to_string()),
        Just("--repository".to_string()),
        Just("host=\u{e9} port=99999".to_string()),
        Just("postgres://[::1".to_string()),
        "[a-z=:/%@'\\\\.0-9-]{0,20}",
        "\\PC{0,12}",
    ];
    let command = prop_oneof![
        Just("backup"),
        Just("list"),
        Just("show"),
        Just("status"),
        Just("restore"),
        Just("verify"),
        Just("completions"),
    ];
    let words = (command, proptest::collection::vec(word, 0..5));
    let config = ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&words, |(command, words)| {
            let mut all = vec![command];
            all.extend(words.iter().map(String::as_str));
            let output = lastgood(folder.path(), &all);
            prop_assert!((0..=10).contains(&code(&output)), "{:?}: {}", all, stderr(&output));
            prop_assert!(!stderr(&output).contains("panicked"), "{:?}: {}", all, stderr(&output));
            Ok(())
        })
        .unwrap();
}
