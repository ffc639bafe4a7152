//! One database's folder, opened with a key.
//!
//! Invariant: what a reader hands out was authenticated, under its own name, in a session of this database.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    envelope::{
        Draft, END_MAGIC, Finished, HEADER, Kind, Pin, Sealed, TRAILER, check_hash, check_preamble, open_plain,
        seal_plain,
    },
    keys::{Keyring, Unlock, max_methods},
    retry::Retrying,
    runtime::Runtime,
    session::{DatabaseId, Session, SessionId},
    store::{Put, Store},
};

/// The plain head of the object `identity`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// 32 hex digits; see [`DatabaseId`].
    pub database: String,
    /// The name the user gave it.
    pub name: String,
    /// When `init` made it, microseconds since 1970-01-01 UTC.
    pub created: i64,
    /// Features that every reader of the folder must know.
    pub features: Vec<String>,
}

/// An open folder. Cheap to clone; clones share the cache of sessions.
#[derive(Clone)]
pub struct Repository {
    store: Arc<dyn Store>,
    bare: Arc<dyn Store>,
    runtime: Runtime,
    keyring: Arc<Keyring>,
    identity: Arc<Identity>,
    sessions: Arc<Mutex<BTreeMap<SessionId, Session>>>,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Repository({}, {:?})", self.identity.name, self.keyring)
    }
}

impl Repository {
    /// Makes the folder of a new database, or finishes making it where an earlier `init` with the same
    /// `unlock` was cut off.
    ///
    /// The order matters: the keyring names the hash of `identity`, the public half is written last, and a
    /// folder without one is unfinished. So after a crash the next `init` continues with what is there.
    ///
    /// # Errors
    /// [`Error::Foreign`] if the folder belongs to a finished repository, [`Error::WrongKey`] if an unfinished
    /// one was begun with another key.
    pub async fn create(store: Arc<dyn Store>, runtime: Runtime, name: &str, unlock: &Unlock) -> Result<Repository> {
        let bare = store;
        let store: Arc<dyn Store> = Arc::new(Retrying::new(bare.clone(), runtime.clone()));
        if store.get(&Keyring::public_object(1)).await?.is_some() {
            return Err(Error::Foreign {
                what: format!("there is a repository for {name} here already"),
            });
        }
        let identity = Identity {
            database: DatabaseId(runtime.random()).to_string(),
            name: name.into(),
            created: runtime.clock.now_micros(),
            features: Vec::new(),
        };
        let ours = seal_plain(Kind::Identity, &identity, &[]);
        store.put_new("identity", ours.into()).await?;
        let (identity, hash) = read_identity(&*store).await?;
        let wrapped = Keyring::unlock_object(1, 1);
        let fresh = Keyring::generate(database_of(&identity)?, hash, &*runtime.rng);
        store.put_new(&wrapped, fresh.wrap(1, unlock)?.into()).await?;
        let bytes = store
            .get(&wrapped)
            .await?
            .ok_or_else(|| Error::Missing { name: wrapped.clone() })?;
        let keyring = Keyring::unwrap(&wrapped, &bytes, unlock)?.ok_or_else(|| Error::WrongKey {
            what: "an unfinished init used another one".into(),
        })?;
        store
            .put_new(&Keyring::public_object(1), keyring.public_bytes().into())
            .await?;
        Repository::assemble([store, bare], runtime, identity, hash, keyring).await
    }

    /// Opens the folder with what the user has.
    pub async fn open(store: Arc<dyn Store>, runtime: Runtime, unlock: &Unlock) -> Result<Repository> {
        let bare = store;
        let store: Arc<dyn Store> = Arc::new(Retrying::new(bare.clone(), runtime.clone()));
        let (identity, hash) = read_identity(&*store).await?;
        let keyring = find_keyring(&*store, unlock).await?;
        Repository::assemble([store, bare], runtime, identity, hash, keyring).await
    }

    async fn assemble(
        [store, bare]: [Arc<dyn Store>; 2],
        runtime: Runtime,
        identity: Identity,
        hash: [u8; 32],
        keyring: Keyring,
    ) -> Result<Repository> {
        if keyring.database != database_of(&identity)? || keyring.identity_hash != hash {
            let what = format!(
                "it and the keys in keys/{} were not made for one another",
                keyring.epoch
            );
            return Err(Error::Damaged {
                name: "identity".into(),
                what,
            });
        }
        if let Some(feature) = identity.features.first() {
            return Err(Error::Unsupported {
                name: "identity".into(),
                what: format!("the feature {feature}"),
            });
        }
        let public = Keyring::public_object(keyring.epoch);
        let bytes = store.get(&public).await?.ok_or(Error::Missing { name: public })?;
        keyring.check_public(&bytes)?;
        let (keyring, identity) = (Arc::new(keyring), Arc::new(identity));
        Ok(Repository {
            store,
            bare,
            runtime,
            keyring,
            identity,
            sessions: Arc::default(),
        })
    }

    /// The store, with bounded retries around it.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The store itself, for those who must see each answer: the ledger's append protocol.
    pub fn bare_store(&self) -> &Arc<dyn Store> {
        &self.bare
    }

    /// Time, randomness and workers.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The keys.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Which database this is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Begins a writing session: its key is durable when this returns.
    pub async fn begin_session(&self) -> Result<Session> {
        let (session, bytes) = Session::begin(&self.keyring, &*self.runtime.rng)?;
        self.put(&session.id.object(), bytes.into()).await?;
        self.cache().insert(session.id, session.clone());
        Ok(session)
    }

    /// A draft of a sealed object.
    pub fn draft(&self, session: &Session, kind: Kind, name: String, capacity: usize) -> Result<Draft> {
        self.draft_with(session, kind, 0, name, capacity)
    }

    /// A draft of a sealed object that only readers who know `features` may open.
    pub fn draft_with(
        &self,
        session: &Session,
        kind: Kind,
        features: u32,
        name: String,
        capacity: usize,
    ) -> Result<Draft> {
        Draft::new(session, &*self.runtime.rng, kind, features, name, capacity)
    }

    /// Puts a finished object whose name is ours alone.
    pub async fn put_finished(&self, object: &Finished) -> Result<()> {
        self.put(&object.name, object.bytes.clone()).await
    }

    /// Puts `bytes` under a name that nobody else uses. What is there already must be these very bytes,
    /// from an answer of ours that was lost.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        if self.store.put_new(name, bytes.clone()).await? == Put::Created {
            return Ok(());
        }
        match self.store.get(name).await? {
            Some(found) if found == bytes => Ok(()),
            Some(_) => Err(Error::Conflict {
                what: format!("{name} exists already with other content"),
            }),
            None => Err(Error::Missing { name: name.into() }),
        }
    }

    /// Opens a sealed object, read whole.
    pub async fn open_whole(&self, kind: Kind, name: &str) -> Result<Sealed> {
        let bytes = self
            .store
            .get(name)
            .await?
            .ok_or_else(|| Error::Missing { name: name.into() })?;
        self.open_bytes(kind, name, bytes).await
    }

    /// Opens a sealed object, read whole, that must be the one remembered.
    pub async fn open_pinned(&self, kind: Kind, name: &str, pin: &Pin) -> Result<Sealed> {
        // Before anything is read: what lies there now may be of any size.
        let missing = || Error::Missing { name: name.into() };
        if self.store.head(name).await?.ok_or_else(missing)?.size != pin.size {
            return Err(Error::Damaged {
                name: name.into(),
                what: "it has another size than was written".into(),
            });
        }
        let sealed = self.open_whole(kind, name).await?;
        if sealed.tail.hash != pin.hash || sealed.tail.total != pin.size {
            return Err(Error::Damaged {
                name: name.into(),
                what: "it is not the object that was written here".into(),
            });
        }
        Ok(sealed)
    }

    /// Opens a sealed object from bytes at hand.
    pub async fn open_bytes(&self, kind: Kind, name: &str, bytes: Bytes) -> Result<Sealed> {
        check_whole(kind, name, &bytes)?;
        let session = self.session(name, &bytes).await?;
        Sealed::whole(&session, kind, name, bytes)
    }

    /// Opens a sealed object by its ends alone, in two ranged reads.
    pub async fn open_ranged(&self, kind: Kind, name: &str, pin: &Pin, directory: u32) -> Result<Sealed> {
        let missing = || Error::Missing { name: name.into() };
        let ends = u64::from(directory) + TRAILER as u64;
        let Some(at) = pin.size.checked_sub(ends).filter(|at| *at >= HEADER as u64) else {
            return Err(Error::Damaged {
                name: name.into(),
                what: "its recorded size is impossible".into(),
            });
        };
        let start = self.store.get_range(name, 0, HEADER).await?.ok_or_else(missing)?;
        check_preamble(name, &start, kind)?;
        let end = self
            .store
            .get_range(name, at, ends as usize)
            .await?
            .ok_or_else(missing)?;
        self.open_ends(kind, name, pin, (&start, &end)).await
    }

    /// The same with both ends at hand: `start` begins with the header, and `end` is directory and trailer.
    pub(crate) async fn open_ends(
        &self,
        kind: Kind,
        name: &str,
        pin: &Pin,
        (start, end): (&[u8], &[u8]),
    ) -> Result<Sealed> {
        check_preamble(name, start, kind)?;
        let session = self.session(name, start).await?;
        Sealed::by_ends(&session, kind, name, start, end, pin)
    }

    /// Opens a sealed object from bytes at hand, if the session it was written in is known already:
    /// [`Repository::learn_session`] makes it so.
    pub fn open_known(&self, kind: Kind, name: &str, bytes: Bytes) -> Result<Sealed> {
        check_whole(kind, name, &bytes)?;
        let id = SessionId::of(name, &bytes)?;
        let session = self
            .cache()
            .get(&id)
            .cloned()
            .ok_or_else(|| Error::Missing { name: id.object() })?;
        Sealed::whole(&session, kind, name, bytes)
    }

    /// Fetches the key of the session that wrote the object whose first bytes are `start`.
    pub async fn learn_session(&self, name: &str, start: &[u8]) -> Result<()> {
        self.session(name, start).await.map(drop)
    }

    async fn session(&self, name: &str, start: &[u8]) -> Result<Session> {
        let id = SessionId::of(name, start)?;
        if let Some(session) = self.cache().get(&id) {
            return Ok(session.clone());
        }
        let object = id.object();
        let bytes = self.store.get(&object).await?.ok_or_else(|| {
            // Both are named: either may be the one that is wrong.
            let what = format!("{object}, the key of the session it was written in, is missing from the repository");
            Error::Damaged {
                name: name.into(),
                what,
            }
        })?;
        let session = Session::open(&self.keyring, id, &bytes)?;
        self.cache().insert(id, session.clone());
        Ok(session)
    }

    fn cache(&self) -> MutexGuard<'_, BTreeMap<SessionId, Session>> {
        // Whoever panicked while holding it has left a whole map behind.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an object is comes before whether it is whole: a newer format may have another end and other sessions. But
/// one that ends like ours and does not hash is damaged, in the very bytes that would make it newer perhaps.
fn check_whole(kind: Kind, name: &str, bytes: &[u8]) -> Result<()> {
    match (check_preamble(name, bytes, kind), check_hash(name, bytes)) {
        (Err(newer @ Error::Unsupported { .. }), Err(damaged)) => {
            Err(if bytes.ends_with(&END_MAGIC) { damaged } else { newer })
        }
        (Err(error), _) => Err(error),
        (Ok(()), hash) => hash.map(drop),
    }
}

/// Reads `identity` and its hash. A folder without one is no repository.
pub async fn read_identity(store: &dyn Store) -> Result<(Identity, [u8; 32])> {
    let bytes = store.get("identity").await?.ok_or(Error::Missing {
        name: "identity".into(),
    })?;
    let identity = open_plain::<Identity>("identity", &bytes, Kind::Identity)?.head;
    Ok((identity, *blake3::hash(&bytes).as_bytes()))
}

fn database_of(identity: &Identity) -> Result<DatabaseId> {
    DatabaseId::parse(&identity.database).ok_or_else(|| Error::Damaged {
        name: "identity".into(),
        what: "it names no database".into(),
    })
}

/// Tries the unlocking methods of the first epoch, in order of number.
async fn find_keyring(store: &dyn Store, unlock: &Unlock) -> Result<Keyring> {
    let mut tried = 0;
    for number in 1..=max_methods() as u32 {
        let name = Keyring::unlock_object(1, number);
        let Some(bytes) = store.get(&name).await? else { break };
        tried += 1;
        if let Some(keyring) = Keyring::unwrap(&name, &bytes, unlock)? {
            return Ok(keyring);
        }
    }
    match tried {
        0 => Err(Error::Missing {
            name: Keyring::unlock_object(1, 1),
        }),
        _ => Err(Error::WrongKey {
            what: format!("none of its {tried} unlocking methods fits"),
        }),
    }
}

#[cfg(test)]
mod tests;
