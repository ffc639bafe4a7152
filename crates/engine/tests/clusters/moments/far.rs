//! Planning over much WAL in a store where every request takes its time.
//!
//! `LASTGOOD_FAR_MILLISECONDS=30` makes each request take so long, and the WAL ten times as much: that is how
//! `docs/benchmarks.md` has its figures.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use engine::{
    database,
    pgformat::Major,
    repo::{
        self,
        store::{Listed, Put, Store},
    },
    restore::{self, At},
};
use testkit::clusters::TestCluster;

use super::{
    archive::{archive, archive_open},
    archiving,
    damage::finished,
    workload::{self, noise},
};
use crate::world::World;

/// Counts requests, and lets all that are made at once begin before any is answered.
struct Far {
    inner: Arc<dyn Store>,
    wait: Duration,
    requests: AtomicUsize,
    under_way: AtomicUsize,
    most: AtomicUsize,
}

impl Far {
    async fn request<T>(&self, answer: impl Future<Output = T>) -> T {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let now = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        if self.wait.is_zero() {
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
        self.request(self.inner.put_new(name, bytes)).await
    }
    async fn get(&self, name: &str) -> repo::Result<Option<Bytes>> {
        self.request(self.inner.get(name)).await
    }
    async fn get_range(&self, name: &str, offset: u64, length: usize) -> repo::Result<Option<Bytes>> {
        self.request(self.inner.get_range(name, offset, length)).await
    }
    async fn head(&self, name: &str) -> repo::Result<Option<Listed>> {
        self.request(self.inner.head(name)).await
    }
    async fn list_after(&self, prefix: &str, after: &str, limit: usize) -> repo::Result<Vec<Listed>> {
        self.request(self.inner.list_after(prefix, after, limit)).await
    }
    async fn delete(&self, name: &str) -> repo::Result<()> {
        self.request(self.inner.delete(name)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_are_fetched_many_at_a_time_and_none_takes_many_requests() {
    let wait = std::env::var("LASTGOOD_FAR_MILLISECONDS").ok();
    let wait = wait.map(|wait| Duration::from_millis(wait.parse().unwrap()));
    let world = World::new().await;
    let mut options = archiving();
    options.conf.retain(|line| !line.starts_with("wal_keep_segments"));
    options.wal_segment_size_mib = 1;
    let mut cluster = TestCluster::new(Major::V15, options).await;
    workload::begin(&cluster).await;
    world.backup(&cluster).await;
    let first = workload::run(&cluster, 1, 2).await;
    noise(&cluster, if wait.is_some() { 3000 } else { 300 }).await;
    let last = workload::run(&cluster, 2, 2).await;
    archive_open(&world, &cluster, 20).await;
    archive(&world, &cluster).await;
    cluster.stop().await;
    let segments = finished(&world, 1).await.len();
    assert!(segments > 30, "{segments}");

    let location = &world.database.location;
    let far = Arc::new(Far {
        inner: location.database(&world.database.name, false).unwrap(),
        wait: wait.unwrap_or_default(),
        requests: AtomicUsize::new(0),
        under_way: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
    });
    let opened = database::open_store(&world.context, far.clone(), &world.database.unlock).await;
    let (opened, near) = (opened.unwrap(), world.open().await);
    for (name, at, whole) in [
        ("latest", At::Latest, true),
        ("time", At::Time(last[0].time), true),
        ("xid", At::Xid(last[1].xid), true),
        ("lsn", At::Lsn(last[0].lsn), true),
        ("early", At::Lsn(first[0].lsn), false),
    ] {
        let mut request = world.request("never");
        request.at = at;
        far.requests.store(0, Ordering::Relaxed);
        far.most.store(0, Ordering::Relaxed);
        let began = world.context.runtime.clock.monotonic();
        let plan = restore::plan(&world.context, &opened, &request).await.unwrap();
        let took = world.context.runtime.clock.monotonic() - began;
        let (requests, most) = (far.requests.load(Ordering::Relaxed), far.most.load(Ordering::Relaxed));
        println!("{name}: {segments} segments, {requests} requests, {most} at once, {took:?}");
        let plain = restore::plan(&world.context, &near, &request).await.unwrap();
        assert_eq!(plan.target, plain.target, "{name}");
        // A search for a transaction goes over the WAL twice: where it is, and what stands around it.
        let passes = if name == "xid" { 2 } else { 1 };
        match whole {
            true => assert!(
                requests < passes * 4 * segments + 100,
                "{name}: {requests} for {segments}"
            ),
            false => assert!(requests < 100, "{name}: {requests}"),
        }
        // Sixteen open runs, to see what is here; sixteen indexes, of each beginning and end at once.
        let expected = if whole { 17..=32 } else { 16..=16 };
        assert!(expected.contains(&most), "{name}: {most} at once");
    }
}
