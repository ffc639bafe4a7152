use super::*;

struct Fixed;
impl Rng for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(5);
    }
}

fn keyring() -> Keyring {
    Keyring::generate(DatabaseId([1; 16]), [2; 32], &Fixed)
}

#[test]
fn the_key_file_that_init_writes_opens_the_keyring() {
    let (text, unlock) = Unlock::generate("shop");
    let bytes = keyring().wrap(1, &unlock).unwrap();
    let again = Unlock::parse_key_file(&text).unwrap();
    let opened = Keyring::unwrap("keys/1/unlock-1", &bytes, &again).unwrap().unwrap();
    assert_eq!(
        (opened.database, opened.epoch, *opened.page_key),
        (DatabaseId([1; 16]), 1, [5; 32])
    );
}

#[test]
fn a_passphrase_opens_it_too_and_another_does_not() {
    let phrase = |text: &str| Unlock::Passphrase(SecretString::from(text.to_string()));
    let bytes = keyring().wrap(1, &phrase("correct horse")).unwrap();
    assert!(
        Keyring::unwrap("keys/1/unlock-1", &bytes, &phrase("correct horse"))
            .unwrap()
            .is_some()
    );
    assert!(
        Keyring::unwrap("keys/1/unlock-1", &bytes, &phrase("battery staple"))
            .unwrap()
            .is_none()
    );
}

#[test]
fn an_unlocking_object_under_another_name_is_damage() {
    let (_, unlock) = Unlock::generate("shop");
    let bytes = keyring().wrap(1, &unlock).unwrap();
    assert!(matches!(
        Keyring::unwrap("keys/1/unlock-2", &bytes, &unlock),
        Err(Error::Damaged { .. })
    ));
}

#[test]
fn nothing_that_prints_a_key_shows_it() {
    let (text, unlock) = Unlock::generate("shop");
    let secret = text.lines().last().unwrap().to_string();
    let keyring = keyring();
    let shown = format!("{unlock:?} {keyring:?}");
    assert!(!shown.contains(&secret) && !shown.contains("AGE-SECRET") && !shown.contains("0505"));
    let error = Unlock::parse_key_file("AGE-SECRET-KEY-1BROKEN").unwrap_err();
    assert!(!error.to_string().contains("BROKEN"));
}

#[test]
fn a_passphrase_that_costs_too_much_to_try_is_not_called_wrong() {
    let phrase = Unlock::Passphrase(SecretString::from("correct horse".to_string()));
    let bytes = keyring().wrap(1, &phrase).unwrap();
    // The stanza's line is authenticated only by the passphrase, so anybody can ask for more work.
    let plain = open_plain::<UnlockHead>("keys/1/unlock-1", &bytes, Kind::EpochUnlock).unwrap();
    let header = String::from_utf8_lossy(&plain.body[..200]).into_owned();
    let line = header.lines().nth(1).unwrap().to_string();
    assert!(line.ends_with(" 17"), "{line}");
    let at = header.find(&line).unwrap() + line.len() - 2;
    let mut body = plain.body.to_vec();
    body[at..at + 2].copy_from_slice(b"40");
    let bytes = seal_plain(Kind::EpochUnlock, &plain.head, &body);
    let refused = Keyring::unwrap("keys/1/unlock-1", &bytes, &phrase);
    assert!(matches!(refused, Err(Error::Unsupported { .. })), "{refused:?}");
}
