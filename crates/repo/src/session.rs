//! The key of one writing session, and how it is kept (`FORMAT.md` section 5).

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    Error, Result,
    envelope::{Kind, open_plain, seal_plain},
    keys::Keyring,
    runtime::Rng,
};

/// Which database a folder is for: drawn at `init`, part of every key derivation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DatabaseId(pub [u8; 16]);

impl DatabaseId {
    /// Reads 32 hex digits.
    pub fn parse(text: &str) -> Option<DatabaseId> {
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id).ok()?;
        Some(DatabaseId(id))
    }
}

impl std::fmt::Display for DatabaseId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&hex::encode(self.0))
    }
}

/// Names a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub [u8; 16]);

impl SessionId {
    /// The session that a sealed object was written in, from its header.
    pub fn of(name: &str, header: &[u8]) -> Result<SessionId> {
        let id = header.get(16..32).and_then(|bytes| bytes.first_chunk::<16>());
        id.map(|id| SessionId(*id)).ok_or_else(|| Error::Damaged {
            name: name.into(),
            what: "it is cut off".into(),
        })
    }

    /// The object that holds its key.
    pub fn object(&self) -> String {
        format!("sessions/{self}")
    }
}

impl std::fmt::Display for SessionId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&hex::encode(self.0))
    }
}

/// A session's key. Whoever has it opens all that was written in the session.
#[derive(Clone)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// The database it writes for.
    pub database: DatabaseId,
    /// The key that object keys are derived from.
    pub(crate) key: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Session({})", self.id)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    epoch: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    object: String,
    database: String,
    key: Zeroizing<String>,
}

impl Session {
    /// A new session and the bytes of its object, to be put under [`SessionId::object`].
    pub fn begin(keyring: &Keyring, rng: &dyn Rng) -> Result<(Session, Vec<u8>)> {
        let mut id = SessionId([0; 16]);
        rng.fill(&mut id.0);
        let mut key = Zeroizing::new([0; 32]);
        rng.fill(key.as_mut_slice());
        let content = Content {
            object: id.object(),
            database: keyring.database.to_string(),
            key: Zeroizing::new(hex::encode(key.as_slice())),
        };
        let body = keyring.seal_to_epoch(&content)?;
        let bytes = seal_plain(Kind::Session, &Head { epoch: keyring.epoch }, &body);
        Ok((
            Session {
                id,
                database: keyring.database,
                key,
            },
            bytes,
        ))
    }

    /// Opens the object of session `id`.
    pub fn open(keyring: &Keyring, id: SessionId, bytes: &[u8]) -> Result<Session> {
        let name = id.object();
        let damaged = |what: &str| Error::Damaged {
            name: name.clone(),
            what: what.into(),
        };
        let plain = open_plain::<Head>(&name, bytes, Kind::Session)?;
        if plain.head.epoch != keyring.epoch {
            return Err(Error::WrongKey {
                what: format!("{name} belongs to key epoch {}", plain.head.epoch),
            });
        }
        let content: Content = keyring.open_from_epoch(&name, &plain.body)?;
        if content.object != name || content.database != keyring.database.to_string() {
            return Err(damaged("it is another session's"));
        }
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(content.key.as_bytes(), key.as_mut_slice()).map_err(|_| damaged("it holds no key"))?;
        Ok(Session {
            id,
            database: keyring.database,
            key,
        })
    }
}
