//! Finished packs on their way into the repository, a few at a time beside the reading.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use async_lock::Semaphore;
use repo::{Repository, envelope::Finished, manifest::ObjectRef};

use crate::{Error, Result, workers::died};

/// Packs under way at once. With their 24 MiB each they are the larger part of promise 9's fixed 192 MiB.
const UNDER_WAY: usize = 4;

/// Counts, carries and remembers packs. Clones share everything.
#[derive(Clone)]
pub(super) struct Uploads {
    shared: Arc<Shared>,
}

struct Shared {
    repository: Repository,
    next: AtomicU32,
    /// Packs sent on their way. Fewer than numbers given out: a reader that ends may have nothing in its last.
    sent: AtomicU32,
    permits: Arc<Semaphore>,
    done: Mutex<Done>,
}

#[derive(Default)]
struct Done {
    packs: Vec<ObjectRef>,
    failure: Option<Error>,
}

impl Uploads {
    pub(super) fn new(repository: Repository) -> Uploads {
        let permits = Arc::new(Semaphore::new(UNDER_WAY));
        let shared = Shared {
            repository,
            next: AtomicU32::new(0),
            sent: AtomicU32::new(0),
            permits,
            done: Mutex::default(),
        };
        Uploads {
            shared: Arc::new(shared),
        }
    }

    /// The number of the next pack.
    pub(super) fn next_pack(&self) -> u32 {
        self.shared.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a pack on its way; waits while too many are.
    pub(super) async fn put(&self, number: u32, pack: Finished) -> Result<()> {
        self.check()?;
        let permit = self.shared.permits.acquire_arc().await;
        let shared = self.shared.clone();
        shared.sent.fetch_add(1, Ordering::Relaxed);
        self.shared.repository.runtime().workers.spawn(Box::pin(async move {
            let outcome = shared.repository.put_finished(&pack).await;
            let mut done = shared.lock();
            match outcome {
                Ok(()) => {
                    let size = u32::try_from(pack.bytes.len()).unwrap_or(u32::MAX);
                    done.packs.push(ObjectRef {
                        source: 0,
                        number,
                        size,
                        directory: pack.directory,
                        hash: pack.hash,
                        // Counted where pages come into order.
                        holds: 0,
                        used: 0,
                    });
                }
                Err(error) => {
                    done.failure.get_or_insert(error.into());
                }
            }
            drop(done);
            drop(permit);
        }));
        Ok(())
    }

    /// How many were sent on their way.
    #[cfg(test)]
    pub(super) fn sent(&self) -> usize {
        self.shared.sent.load(Ordering::Relaxed) as usize
    }

    /// The first failure, once.
    pub(super) fn check(&self) -> Result<()> {
        self.shared.lock().failure.take().map_or(Ok(()), Err)
    }

    /// Waits until none is under way any more, whatever came of it: what arrives after a run was said to have failed is nobody's.
    pub(super) async fn settle(&self) {
        let mut permits = Vec::new();
        for _ in 0..UNDER_WAY {
            permits.push(self.shared.permits.acquire().await);
        }
    }

    /// Waits until all have arrived; their references in order of number.
    pub(super) async fn finish(&self) -> Result<Vec<ObjectRef>> {
        self.settle().await;
        self.check()?;
        let mut packs = std::mem::take(&mut self.shared.lock().packs);
        // One that died on its way said nothing; its permit came back all the same.
        if packs.len() != self.shared.sent.load(Ordering::Relaxed) as usize {
            return Err(died());
        }
        packs.sort_by_key(|pack| pack.number);
        Ok(packs)
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Done> {
        // Nobody panics while holding it; if somebody did, what is in it is still whole.
        self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
