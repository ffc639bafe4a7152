//! What is read before any key is there.

use age::secrecy::ExposeSecret;

use crate::{
    Identity,
    backup_id::BackupId,
    envelope::{Kind, Plain, open_plain, seal_plain},
    keys::{Keyring, Unlock},
    ledger,
    runtime::Rng,
    session::{DatabaseId, Session, SessionId},
};

use super::Target;

/// The object `identity`.
pub(super) const IDENTITY: Target = Target {
    name: "repo_identity",
    seeds: || vec![seal_plain(Kind::Identity, &identity(), b"")],
    run: |bytes| {
        let open = |bytes: &[u8]| open_plain::<Identity>("identity", bytes, Kind::Identity);
        with_hash(bytes).iter().any(|bytes| {
            let Ok(Plain { head, body }) = open(bytes) else {
                return false;
            };
            let again = seal_plain(Kind::Identity, &head, &body);
            assert_eq!(open(&again).unwrap(), Plain { head, body });
            true
        })
    },
    slack: 64 << 10,
};

/// A session's object.
pub(super) const SESSION: Target = Target {
    name: "repo_session",
    seeds: || vec![Session::begin(&keyring(), &Still).unwrap().1],
    run: |bytes| {
        let keyring = keyring();
        let open = |bytes: &Vec<u8>| Session::open(&keyring, SessionId([7; 16]), bytes).is_ok();
        with_hash(bytes).iter().any(open)
    },
    slack: 1 << 20,
};

/// The objects of an epoch: the public half, and one unlocking method's.
pub(super) const UNLOCK: Target = Target {
    name: "repo_unlock",
    seeds: || vec![keyring().wrap(1, &unlock()).unwrap(), keyring().public_bytes()],
    run: |bytes| {
        let (keyring, unlock) = (keyring(), unlock());
        let open = |bytes: &Vec<u8>| {
            let unwrapped = Keyring::unwrap("keys/1/unlock-1", bytes, &unlock);
            unwrapped.is_ok_and(|keyring| keyring.is_some()) || keyring.check_public(bytes).is_ok()
        };
        with_hash(bytes).iter().any(open)
    },
    slack: 1 << 20,
};

/// A key file.
pub(super) const KEY_FILE: Target = Target {
    name: "repo_key_file",
    seeds: || vec![Unlock::generate("shop").0.as_bytes().to_vec()],
    run: |bytes| Unlock::parse_key_file(&String::from_utf8_lossy(bytes)).is_ok(),
    slack: 64 << 10,
};

/// Ids and names.
pub(super) const NAMES: Target = Target {
    name: "repo_names",
    seeds: || vec![b"20231114T221320Z-012xyz".to_vec(), b"ledger/000000000012".to_vec()],
    run: |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let (id, number) = (BackupId::parse(&text), ledger::number(&text));
        assert!(id.is_none_or(|id| id.as_str() == text));
        assert!(number.is_none_or(|number| ledger::name(number) == text));
        id.is_some() || number.is_some() || DatabaseId::parse(&text).is_some()
    },
    slack: 64 << 10,
};

/// As they are, and with a hash at the end that fits.
fn with_hash(bytes: &[u8]) -> [Vec<u8>; 2] {
    let content = &bytes[..bytes.len().saturating_sub(32)];
    let mended = [content, blake3::hash(content).as_bytes()].concat();
    [bytes.to_vec(), mended]
}

fn identity() -> Identity {
    Identity {
        database: DatabaseId([2; 16]).to_string(),
        name: "shop".into(),
        created: 1_700_000_000_000_000,
        features: Vec::new(),
    }
}

/// The same in every process, so that what was found once is found again.
fn key() -> age::x25519::Identity {
    static KEY: std::sync::OnceLock<age::x25519::Identity> = std::sync::OnceLock::new();
    KEY.get_or_init(age::x25519::Identity::generate).clone()
}

fn unlock() -> Unlock {
    Unlock::parse_key_file(key().to_string().expose_secret()).unwrap()
}

fn keyring() -> Keyring {
    static KEYRING: std::sync::OnceLock<Keyring> = std::sync::OnceLock::new();
    KEYRING
        .get_or_init(|| Keyring::generate(DatabaseId([2; 16]), [4; 32], &Still))
        .clone()
}

struct Still;

impl Rng for Still {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}
