//! A store that is far away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use engine::repo::{
    self,
    store::{Listed, Put, Store},
};

/// Counts requests, and lets all that are made at once begin before any is answered.
pub(crate) struct Far {
    inner: Arc<dyn Store>,
    wait: Duration,
    below: String,
    requests: AtomicUsize,
    under_way: AtomicUsize,
    most: AtomicUsize,
}

impl Far {
    /// Each request for what has a name that begins with `below` takes at least `wait`.
    pub(crate) fn new(inner: Arc<dyn Store>, wait: Duration, below: &str) -> Far {
        Far {
            inner,
            wait,
            below: below.to_owned(),
            requests: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        }
    }

    /// How many requests there were, and how many at once.
    pub(crate) fn counted(&self) -> (usize, usize) {
        (self.requests.load(Ordering::Relaxed), self.most.load(Ordering::Relaxed))
    }

    /// Counts anew.
    pub(crate) fn forget(&self) {
        self.requests.store(0, Ordering::Relaxed);
        self.most.store(0, Ordering::Relaxed);
    }

    async fn request<T>(&self, name: &str, answer: impl Future<Output = T>) -> T {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let now = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        if self.wait.is_zero() || !name.starts_with(&self.below) {
            tokio::task::yield_now().await;
        } else {
            testkit::host::runtime().clock.sleep(self.wait).await;
        }
        let answer = answer.await;
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        answer
    }
}

#[async_trait]
impl Store for Far {
    async fn put_new(&self, name: &str, bytes: Bytes) -> repo::Result<Put> {
        self.request(name, self.inner.put_new(name, bytes)).await
    }
    async fn get(&self, name: &str) -> repo::Result<Option<Bytes>> {
        self.request(name, self.inner.get(name)).await
    }
    async fn get_range(&self, name: &str, offset: u64, length: usize) -> repo::Result<Option<Bytes>> {
        self.request(name, self.inner.get_range(name, offset, length)).await
    }
    async fn head(&self, name: &str) -> repo::Result<Option<Listed>> {
        self.request(name, self.inner.head(name)).await
    }
    async fn list_after(&self, prefix: &str, after: &str, limit: usize) -> repo::Result<Vec<Listed>> {
        self.request(prefix, self.inner.list_after(prefix, after, limit)).await
    }
    async fn delete(&self, name: &str) -> repo::Result<()> {
        self.request(name, self.inner.delete(name)).await
    }
}
