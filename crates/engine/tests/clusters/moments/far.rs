//! Planning over much WAL in a store where every request takes its time.
//!
//! `LASTGOOD_FAR_MILLISECONDS=30` makes each request take so long, and the WAL ten times as much: that is how
//! `docs/benchmarks.md` has its figures.

use std::{sync::Arc, time::Duration};

use engine::{
    database,
    pgformat::Major,
    restore::{self, At},
};
use testkit::clusters::TestCluster;

use super::{
    archive::{archive, archive_open},
    archiving,
    damage::finished,
    workload::{self, noise},
};
use crate::{far::Far, world::World};

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
    let near = location.database(&world.database.name, false).unwrap();
    let far = Arc::new(Far::new(near, wait.unwrap_or_default(), ""));
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
        far.forget();
        let began = world.context.runtime.clock.monotonic();
        let plan = restore::plan(&world.context, &opened, &request).await.unwrap();
        let took = world.context.runtime.clock.monotonic() - began;
        let (requests, most) = far.counted();
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
