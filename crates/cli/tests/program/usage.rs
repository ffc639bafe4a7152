//! What is typed and what comes back: help, mistakes, documents, exit codes.

use serde_json::Value;

use super::{COMMANDS, code, configured, document, empty, lastgood, stderr, stdout};

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
        "init",
        "doctor",
        "backup",
        "wal",
        "wal receive",
        "list",
        "show",
        "status",
        "restore",
        "verify",
        "demo",
    ] {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = stdout(&lastgood(folder.path(), &words));
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
        &["wal"],
        &["wal", "receive", "--seal-interval", "soon"],
        &["wal", "receive", "--slot", "a", "--no-slot"],
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
