use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use repo::{
    Result as Stored,
    keys::Unlock,
    store::{Listed, Location, Put, Store},
    wal::{append_run, put_mark},
};

use super::*;

const SEGMENT: u64 = 1 << 20;

/// A store in which an object appears as soon as somebody has seen a later one, as it does while WAL is being received.
struct Receiving {
    inner: Arc<dyn Store>,
    late: String,
    later: String,
    arrived: AtomicBool,
}

impl Receiving {
    fn hides(&self, name: &str) -> bool {
        if name == self.later {
            self.arrived.store(true, Ordering::SeqCst);
        }
        name == self.late && !self.arrived.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Store for Receiving {
    async fn put_new(&self, name: &str, bytes: Bytes) -> Stored<Put> {
        self.inner.put_new(name, bytes).await
    }
    async fn get(&self, name: &str) -> Stored<Option<Bytes>> {
        match self.hides(name) {
            true => Ok(None),
            false => self.inner.get(name).await,
        }
    }
    async fn get_range(&self, name: &str, offset: u64, length: usize) -> Stored<Option<Bytes>> {
        match self.hides(name) {
            true => Ok(None),
            false => self.inner.get_range(name, offset, length).await,
        }
    }
    async fn head(&self, name: &str) -> Stored<Option<Listed>> {
        match self.hides(name) {
            true => Ok(None),
            false => self.inner.head(name).await,
        }
    }
    async fn list_after(&self, prefix: &str, after: &str, limit: usize) -> Stored<Vec<Listed>> {
        self.inner.list_after(prefix, after, limit).await
    }
    async fn delete(&self, name: &str) -> Stored<()> {
        self.inner.delete(name).await
    }
}

/// What becomes of the segment at 1 MiB, of which `runs` and the next segment's first are stored, if the one that begins
/// at `late` comes while it is asked for; or never.
async fn check(runs: &[u64], late: u64, comes: bool) -> Result<Found> {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::parse(folder.path().to_str().unwrap(), folder.path()).unwrap();
    let (_, unlock) = Unlock::generate("shop");
    let runtime = testkit::host::runtime();
    let inner: Arc<dyn Store> = location.database("shop", true).unwrap();
    let stream = WalStream::new(7, 1, SEGMENT).unwrap();
    let repository = Repository::create(inner.clone(), runtime.clone(), "shop", &unlock)
        .await
        .unwrap();
    let session = repository.begin_session().await.unwrap();
    let mut starts = runs.to_vec();
    starts.push(2 * SEGMENT);
    for (number, start) in starts.iter().enumerate() {
        let end = starts.get(number + 1).map_or(start + 100, |next| *next);
        let bytes = vec![number as u8; (end - start) as usize];
        append_run(&repository, &session, &stream, *start, &bytes)
            .await
            .unwrap();
    }
    let store = Receiving {
        inner,
        late: stream.run_name(late),
        later: if comes {
            stream.run_name(2 * SEGMENT)
        } else {
            String::new()
        },
        arrived: AtomicBool::new(false),
    };
    let repository = Repository::open(Arc::new(store), runtime, &unlock).await.unwrap();
    let wanted = Wanted {
        stream,
        start: SEGMENT,
        needed: None,
    };
    let to = folder.path().join("RECOVERYXLOG");
    let found = deliver(&repository, &wanted, &to).await;
    assert_eq!(to.exists(), found.is_ok());
    found
}

#[tokio::test]
async fn wal_that_comes_while_it_is_asked_for_is_no_gap() {
    let runs = [SEGMENT, SEGMENT + 5000, SEGMENT + 9000];
    for late in runs {
        let found = check(&runs, late, true).await;
        assert!(matches!(found, Ok(Found::Whole)), "{late:x}: {found:?}");
        let found = check(&runs, late, false).await;
        let gap = matches!(found, Err(crate::Error::Failed { code: "wal-gap", .. }));
        assert!(gap, "{late:x}: {found:?}");
    }
}

#[tokio::test]
async fn wal_that_a_mark_knows_of_is_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::parse(folder.path().to_str().unwrap(), folder.path()).unwrap();
    let (_, unlock) = Unlock::generate("shop");
    let store: Arc<dyn Store> = location.database("shop", true).unwrap();
    let stream = WalStream::new(7, 1, SEGMENT).unwrap();
    let repository = Repository::create(store, testkit::host::runtime(), "shop", &unlock)
        .await
        .unwrap();
    let session = repository.begin_session().await.unwrap();
    append_run(&repository, &session, &stream, SEGMENT, &[1; 5000])
        .await
        .unwrap();
    let wanted = |start| Wanted {
        stream,
        start,
        needed: None,
    };
    let to = folder.path().join("RECOVERYXLOG");
    for (marked, ends_there) in [
        (SEGMENT + 5000, true),
        (SEGMENT + 5001, false),
        (2 * SEGMENT + 100, false),
    ] {
        put_mark(&repository, &session, &stream, marked, 1, None).await.unwrap();
        let tail = deliver(&repository, &wanted(SEGMENT), &to).await;
        assert_eq!(tail.is_ok(), ends_there, "{marked:x}: {tail:?}");
        let next = deliver(&repository, &wanted(2 * SEGMENT), &to).await;
        assert_eq!(next.is_ok(), marked < 2 * SEGMENT, "{marked:x}: {next:?}");
    }
}
