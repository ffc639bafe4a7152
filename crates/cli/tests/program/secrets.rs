//! What must stay secret, and who may read it.

use super::{code, configured, document, empty, lastgood, stderr, stdout, write_key};

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
