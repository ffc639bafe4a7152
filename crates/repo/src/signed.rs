//! Seals and signs the ledger's entries (`FORMAT.md` section 6).
//!
//! A seal says that somebody with a session's key wrote it; whoever holds only the public half of an epoch can
//! make sessions. So each entry is also signed, by a writer who may append it.

use std::sync::Mutex;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{
    Error, Result,
    envelope::{Codec, Kind, Opener},
    ledger::{EntryCodec, MAX_RECORD_BYTES},
    repository::Repository,
    session::Session,
};

const DOMAIN: &[u8] = b"lastgood/ledger/1\0";
const WRITER: usize = 16;
const SIGNATURE: usize = 64;

/// The codec of a repository's ledger. Reads at once; writes after it was given a session.
pub struct SignedEntries {
    repository: Repository,
    key: Ed25519KeyPair,
    session: Mutex<Option<Session>>,
}

impl SignedEntries {
    /// With the founding writer's key, which the keyring holds.
    pub fn new(repository: Repository) -> Result<SignedEntries> {
        let seed = &repository.keyring().writer_seed;
        let key = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|_| Error::WrongKey {
            what: "the writer's key in it is none".into(),
        })?;
        Ok(SignedEntries {
            repository,
            key,
            session: Mutex::new(None),
        })
    }

    /// What the writer is called: 32 hex digits.
    pub fn writer(&self) -> String {
        hex::encode(self.writer_id())
    }

    /// The session in which entries are sealed from now on.
    pub fn write_in(&self, session: Session) {
        *self.session.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(session);
    }

    fn writer_id(&self) -> [u8; WRITER] {
        let mut id = [0; WRITER];
        id.copy_from_slice(&blake3::hash(self.key.public_key().as_ref()).as_bytes()[..WRITER]);
        id
    }

    fn signed(&self, body: &[u8]) -> Vec<u8> {
        [DOMAIN, &self.repository.keyring().database.0, body].concat()
    }
}

impl EntryCodec for SignedEntries {
    fn seal(&self, n: u64, body: &[u8]) -> Result<Bytes> {
        let session = self
            .session
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        let session = session.ok_or_else(|| Error::WrongKey {
            what: "no session was begun to write in".into(),
        })?;
        let signature = self.key.sign(&self.signed(body));
        let frame = [&self.writer_id()[..], signature.as_ref(), body].concat();
        let mut draft = self
            .repository
            .draft(&session, Kind::Ledger, crate::ledger::name(n), frame.len() + 512)?;
        draft.frame(&frame, frame.len(), Codec::Stored)?;
        Ok(draft.finish(Vec::new())?.bytes)
    }

    fn prepare<'a>(&'a self, n: u64, object: &'a Bytes) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            match self.repository.learn_session(&crate::ledger::name(n), object).await {
                // A void entry is alarmed and passed over; who cannot read it for want of a newer version, or of the
                // key, must not take it for one.
                Err(error @ (Error::Store { .. } | Error::Unsupported { .. } | Error::WrongKey { .. })) => Err(error),
                _ => Ok(()),
            }
        })
    }

    fn open(&self, n: u64, object: &Bytes) -> Result<Vec<u8>> {
        let name = crate::ledger::name(n);
        let damaged = |what: &str| Error::Damaged {
            name: name.clone(),
            what: what.into(),
        };
        let sealed = self.repository.open_known(Kind::Ledger, &name, object.clone())?;
        if sealed.frame(0)?.raw as usize > WRITER + SIGNATURE + MAX_RECORD_BYTES {
            return Err(damaged("it is too long for an entry"));
        }
        let frame = sealed.read(&mut Opener::new()?, 0)?;
        let (writer, rest) = frame.split_at_checked(WRITER).ok_or_else(|| damaged("it is cut off"))?;
        let (signature, body) = rest
            .split_at_checked(SIGNATURE)
            .ok_or_else(|| damaged("it is cut off"))?;
        if writer != self.writer_id() {
            return Err(damaged("it is signed by a writer who was never admitted"));
        }
        UnparsedPublicKey::new(&ED25519, self.key.public_key().as_ref())
            .verify(&self.signed(body), signature)
            .map_err(|_| damaged("its signature does not fit"))?;
        Ok(body.to_vec())
    }
}
