//! A repository in a directory that goes away with the test.

use std::{sync::Arc, time::Duration};

use futures::{executor::block_on, future::BoxFuture};

use crate::{
    BackupId, Repository, Result,
    envelope::{Codec, Finished, Kind, Pin},
    keys::Unlock,
    runtime::{Clock, Rng, Runtime, Workers},
    series::pin_of,
    session::Session,
    sources::Sources,
    store::Location,
};

struct Still;
impl Clock for Still {
    fn now_micros(&self) -> i64 {
        1_700_000_000_000_000
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}
impl Rng for Still {
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).unwrap();
    }
}
impl Workers for Still {
    fn spawn(&self, _: BoxFuture<'static, ()>) {}
}

/// An open repository and a session to write in.
pub(crate) struct TestFolder {
    pub(crate) repository: Repository,
    pub(crate) session: Session,
    _folder: tempfile::TempDir,
}

impl TestFolder {
    pub(crate) fn new() -> TestFolder {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::parse(folder.path().to_str().unwrap(), std::path::Path::new("/")).unwrap();
        let store = location.database("shop", true).unwrap();
        let runtime = Runtime {
            clock: Arc::new(Still),
            rng: Arc::new(Still),
            workers: Arc::new(Still),
        };
        let (_, unlock) = Unlock::generate("shop");
        let repository = block_on(Repository::create(store, runtime, "shop", &unlock)).unwrap();
        let session = block_on(repository.begin_session()).unwrap();
        TestFolder {
            repository,
            session,
            _folder: folder,
        }
    }

    /// Puts an object made of these raw frames, whatever they say: what a malicious writer could do.
    pub(crate) fn put_raw(&self, kind: Kind, name: &str, frames: &[&[u8]], extra: Vec<u8>) -> Pin {
        let draft = self.repository.draft(&self.session, kind, name.into(), 0);
        let mut draft = draft.unwrap();
        for frame in frames {
            draft.frame(frame, frame.len(), Codec::Stored).unwrap();
        }
        let finished: Finished = draft.finish(extra).unwrap();
        block_on(self.repository.put_finished(&finished)).unwrap();
        pin_of(&finished)
    }
}

/// Different ids for different numbers.
pub(crate) fn id(number: u8) -> BackupId {
    BackupId::new(1_700_000_000_000_000, [number, 0, 0, 0, 0, 0])
}

/// A list of one owner, encoded.
pub(crate) fn owner_only(owner: BackupId) -> Vec<u8> {
    let mut extra = Vec::new();
    Sources::new(owner).encode(&mut extra);
    extra
}

/// What an error is about, in one word.
pub(crate) fn reaction<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(crate::Error::Damaged { .. }) => "damaged",
        Err(crate::Error::Missing { .. }) => "missing",
        Err(crate::Error::Unsupported { .. }) => "unsupported",
        Err(crate::Error::Conflict { .. }) => "conflict",
        Err(crate::Error::TwoServers { .. }) => "two servers",
        Err(_) => "other",
    }
}
