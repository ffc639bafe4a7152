//! Unlocking methods, epochs and the keyring (`FORMAT.md` section 5).
//!
//! Wrapping is age's, version 1, so that the stock `age` program opens what we wrap.

use std::str::FromStr;

use age::secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use crate::{
    Error, Result,
    envelope::{Kind, open_plain, seal_plain},
    runtime::Rng,
    session::DatabaseId,
};

/// The largest scrypt work factor a reader accepts (2^20 blocks, about 1 GiB): a repository that asks for
/// more wants our memory, not our trust.
const MAX_WORK_FACTOR: u8 = 20;
/// The scrypt work factor of what we wrap (2^17 blocks, 128 MiB, about half a second). The library would measure
/// this machine instead, and a busy one would weaken the passphrase for good.
const WORK_FACTOR: u8 = 17;
/// The most unlocking methods that are tried, so that a flood of them costs nobody an evening.
const MAX_METHODS: usize = 20;

/// What the user has: one of the ways to open a repository.
#[derive(Clone)]
pub enum Unlock {
    /// An age X25519 identity, as in the key file that `init` writes.
    KeyFile(age::x25519::Identity),
    /// A passphrase.
    Passphrase(SecretString),
}

impl Unlock {
    /// A new key file: its text, to be written once with mode 0600, and what it unlocks with.
    pub fn generate(database: &str) -> (Zeroizing<String>, Unlock) {
        let identity = age::x25519::Identity::generate();
        let text = Zeroizing::new(format!(
            "# lastgood key for the database {database}. Whoever has this file can read its backups;\n\
             # without it (or another unlocking method) nobody can. Keep a copy away from the repository.\n\
             # public key: {}\n{}\n",
            identity.to_public(),
            identity.to_string().expose_secret()
        ));
        (text, Unlock::KeyFile(identity))
    }

    /// Reads a key file: comments, blank lines, and one `AGE-SECRET-KEY-1…`.
    pub fn parse_key_file(text: &str) -> Result<Unlock> {
        let mut lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Err(Error::WrongKey {
                what: "the key file does not hold exactly one key".into(),
            });
        };
        age::x25519::Identity::from_str(line)
            .map(Unlock::KeyFile)
            .map_err(|_| Error::WrongKey {
                what: "the key file holds no AGE-SECRET-KEY-1 line".into(),
            })
    }

    fn method(&self) -> &'static str {
        match self {
            Unlock::KeyFile(_) => "key-file",
            Unlock::Passphrase(_) => "passphrase",
        }
    }

    fn wrap(&self, content: &[u8]) -> Result<Vec<u8>> {
        let wrapped = match self {
            Unlock::KeyFile(identity) => age::encrypt(&identity.to_public(), content),
            Unlock::Passphrase(passphrase) => {
                let mut recipient = age::scrypt::Recipient::new(passphrase.clone());
                recipient.set_work_factor(WORK_FACTOR);
                age::encrypt(&recipient, content)
            }
        };
        wrapped.map_err(|_| Error::WrongKey {
            what: "the keyring could not be wrapped".into(),
        })
    }

    /// `Ok(None)`: it does not fit.
    fn unwrap(&self, name: &str, body: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let opened = match self {
            Unlock::KeyFile(identity) => age::decrypt(identity, body),
            Unlock::Passphrase(passphrase) => {
                let mut identity = age::scrypt::Identity::new(passphrase.clone());
                identity.set_max_work_factor(MAX_WORK_FACTOR);
                age::decrypt(&identity, body)
            }
        };
        match opened {
            Ok(content) => Ok(Some(Zeroizing::new(content))),
            // Whether the passphrase fits was not tried: it is not the wrong one.
            Err(age::DecryptError::ExcessiveWork { required, .. }) => Err(Error::Unsupported {
                name: name.into(),
                what: format!("the scrypt work factor {required}, more than the {MAX_WORK_FACTOR} allowed"),
            }),
            Err(_) => Ok(None),
        }
    }
}

impl std::fmt::Debug for Unlock {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Unlock({})", self.method())
    }
}

/// What an unlocking method opens: everything that reading and writing need.
#[derive(Clone)]
pub struct Keyring {
    /// The database it belongs to.
    pub database: DatabaseId,
    /// The epoch it opens.
    pub epoch: u32,
    identity: age::x25519::Identity,
    /// Keys the hashes of pages; the same in every epoch.
    pub(crate) page_key: Zeroizing<[u8; 32]>,
    /// Seed of the founding writer's signing key.
    pub(crate) writer_seed: Zeroizing<[u8; 32]>,
    /// Hash of the object `identity` that this keyring was made with.
    pub identity_hash: [u8; 32],
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Keyring(database {}, epoch {})", self.database, self.epoch)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicHead {
    epoch: u32,
    recipient: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnlockHead {
    epoch: u32,
    method: String,
    #[serde(rename = "for")]
    recipient: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    object: String,
    database: String,
    epoch: u32,
    identity: Zeroizing<String>,
    page_key: Zeroizing<String>,
    writer_seed: Zeroizing<String>,
    identity_hash: String,
}

impl Keyring {
    /// The keyring of a new database's first epoch.
    pub fn generate(database: DatabaseId, identity_hash: [u8; 32], rng: &dyn Rng) -> Keyring {
        let (mut page_key, mut writer_seed) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        rng.fill(page_key.as_mut_slice());
        rng.fill(writer_seed.as_mut_slice());
        let identity = age::x25519::Identity::generate();
        Keyring {
            database,
            epoch: 1,
            identity,
            page_key,
            writer_seed,
            identity_hash,
        }
    }

    /// Name of the object with the epoch's public half.
    pub fn public_object(epoch: u32) -> String {
        format!("keys/{epoch}/public")
    }

    /// Name of the object of an unlocking method.
    pub fn unlock_object(epoch: u32, number: u32) -> String {
        format!("keys/{epoch}/unlock-{number}")
    }

    /// Bytes of the object with the public half.
    pub fn public_bytes(&self) -> Vec<u8> {
        let head = PublicHead {
            epoch: self.epoch,
            recipient: self.identity.to_public().to_string(),
        };
        seal_plain(Kind::EpochPublic, &head, &[])
    }

    /// Bytes of the object that opens this keyring with `unlock`.
    pub fn wrap(&self, number: u32, unlock: &Unlock) -> Result<Vec<u8>> {
        let content = Content {
            object: Keyring::unlock_object(self.epoch, number),
            database: self.database.to_string(),
            epoch: self.epoch,
            identity: Zeroizing::new(self.identity.to_string().expose_secret().to_string()),
            page_key: Zeroizing::new(hex::encode(self.page_key.as_slice())),
            writer_seed: Zeroizing::new(hex::encode(self.writer_seed.as_slice())),
            identity_hash: hex::encode(self.identity_hash),
        };
        let recipient = match unlock {
            Unlock::KeyFile(identity) => Some(identity.to_public().to_string()),
            Unlock::Passphrase(_) => None,
        };
        let head = UnlockHead {
            epoch: self.epoch,
            method: unlock.method().into(),
            recipient,
        };
        Ok(seal_plain(Kind::EpochUnlock, &head, &unlock.wrap(&to_json(&content))?))
    }

    /// Opens one unlocking object. `Ok(None)`: it is sound, and another method's.
    pub fn unwrap(name: &str, bytes: &[u8], unlock: &Unlock) -> Result<Option<Keyring>> {
        let damaged = |what: &str| Error::Damaged {
            name: name.into(),
            what: what.into(),
        };
        let plain = open_plain::<UnlockHead>(name, bytes, Kind::EpochUnlock)?;
        if plain.head.method != unlock.method() {
            return Ok(None);
        }
        let Some(content) = unlock.unwrap(name, &plain.body)? else {
            return Ok(None);
        };
        let content: Content = serde_json::from_slice(&content).map_err(|_| damaged("its content cannot be read"))?;
        if content.object != name || content.epoch != plain.head.epoch {
            return Err(damaged("it is another unlocking method's"));
        }
        let key = |text: &str| {
            let mut key = Zeroizing::new([0; 32]);
            hex::decode_to_slice(text.as_bytes(), key.as_mut_slice()).map_err(|_| damaged("a key in it is cut off"))?;
            Ok::<_, Error>(key)
        };
        Ok(Some(Keyring {
            database: DatabaseId::parse(&content.database).ok_or_else(|| damaged("it names no database"))?,
            epoch: content.epoch,
            identity: age::x25519::Identity::from_str(&content.identity)
                .map_err(|_| damaged("it holds no identity"))?,
            page_key: key(&content.page_key)?,
            writer_seed: key(&content.writer_seed)?,
            identity_hash: *key(&content.identity_hash)?,
        }))
    }

    /// Checks the epoch's public half against this keyring.
    pub fn check_public(&self, bytes: &[u8]) -> Result<()> {
        let name = Keyring::public_object(self.epoch);
        let head = open_plain::<PublicHead>(&name, bytes, Kind::EpochPublic)?.head;
        if head.epoch != self.epoch || head.recipient != self.identity.to_public().to_string() {
            return Err(Error::Damaged {
                name,
                what: "it is not the public half of this key".into(),
            });
        }
        Ok(())
    }

    /// Keys the hash of a page: its first eight bytes are what packs remember.
    pub fn page_hash(&self, page: &[u8]) -> [u8; 8] {
        page_hash(&self.page_key, page)
    }

    /// The key of page hashes, for work that goes on elsewhere.
    pub fn page_key(&self) -> Zeroizing<[u8; 32]> {
        self.page_key.clone()
    }

    pub(crate) fn seal_to_epoch(&self, content: &impl Serialize) -> Result<Vec<u8>> {
        age::encrypt(&self.identity.to_public(), &to_json(content)).map_err(|_| Error::WrongKey {
            what: "a session could not be sealed".into(),
        })
    }

    pub(crate) fn open_from_epoch<T: DeserializeOwned>(&self, name: &str, body: &[u8]) -> Result<T> {
        let damaged = |what: &str| Error::Damaged {
            name: name.into(),
            what: what.into(),
        };
        let content = age::decrypt(&self.identity, body).map_err(|_| damaged("it was not sealed to this key"))?;
        let content = Zeroizing::new(content);
        serde_json::from_slice(&content).map_err(|_| damaged("its content cannot be read"))
    }
}

/// The first eight bytes of keyed BLAKE3 over a page (`FORMAT.md` section 10).
pub fn page_hash(key: &[u8; 32], page: &[u8]) -> [u8; 8] {
    let mut short = [0; 8];
    short.copy_from_slice(&blake3::keyed_hash(key, page).as_bytes()[..8]);
    short
}

/// The most unlocking methods an epoch may have.
pub(crate) const fn max_methods() -> usize {
    MAX_METHODS
}

fn to_json(content: &impl Serialize) -> Zeroizing<Vec<u8>> {
    // Strings and numbers of ours: there is nothing in them that JSON cannot say.
    Zeroizing::new(serde_json::to_vec(content).unwrap_or_default())
}

#[cfg(test)]
mod tests;
