//! Moments that the timeline which goes on has lost, and another one has.

use engine::{archive::accept::accept, pgformat::Major, repo::store::Store as _, restore::At};

use super::{
    archive::archive,
    damage::{finished, segments},
    refusals::refusal,
    server, state_at,
    timelines::promoted,
    workload,
};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_lost_on_the_timeline_that_goes_on_is_not_taken_from_another_in_silence() {
    let world = World::new().await;
    let mut old_server = server(Major::V15).await;
    workload::begin(&old_server).await;
    world.backup(&old_server).await;
    let shared = workload::run(&old_server, 1, 3).await;
    archive(&world, &old_server).await;
    let mut new_server = promoted(&world, At::Xid(shared[2].xid)).await;
    segments(&new_server, 2).await;
    let new = workload::run(&new_server, 2, 3).await;
    archive(&world, &new_server).await;
    new_server.stop().await;
    segments(&old_server, 3).await;
    let old = workload::run(&old_server, 3, 3).await;
    archive(&world, &old_server).await;
    old_server.stop().await;

    let at = |at: At, timeline, name: &'static str| state_at(&world, Major::V15, at, timeline, name);
    let opened = world.open().await;
    let lost = finished(&world, 2).await;
    opened.repository.store().delete(&lost[1]).await.unwrap();
    for gone in [
        At::Time(new[1].time),
        At::Lsn(old[0].lsn),
        At::Xid(old[1].xid),
        At::BeforeXid(old[2].xid),
    ] {
        let (code, what, hint) = refusal(&world, gone.clone()).await;
        assert!(
            code == "wal-gap" && what.contains("on timeline 2") && hint.contains("--timeline 1"),
            "{gone:?}: {code}: {what}: {hint}"
        );
    }
    assert_eq!(at(At::Time(new[1].time), Some(1), "time").await, shared[2].digest);
    assert_eq!(at(At::Lsn(old[0].lsn), Some(1), "lsn").await, old[0].digest);
    assert_eq!(at(At::Xid(old[1].xid), Some(1), "xid").await, old[1].digest);

    // What was before they parted is both one's, though the newer one's copy of it is lost.
    opened.repository.store().delete(&lost[0]).await.unwrap();
    assert_eq!(
        at(At::Time(shared[1].time), None, "before-time").await,
        shared[1].digest
    );
    assert_eq!(at(At::Lsn(shared[1].lsn), None, "before-lsn").await, shared[1].digest);
    assert_eq!(at(At::Xid(shared[2].xid), None, "before-xid").await, shared[2].digest);
    // This one ends where the old server did something else.
    assert_eq!(refusal(&world, At::Time(shared[2].time)).await.0, "wal-gap");

    // Of a copy nobody expects a moment who does not name it.
    accept(&world.open().await, 1, "a test").await.unwrap();
    assert_eq!(at(At::Time(new[1].time), None, "beside-time").await, shared[2].digest);
    assert_eq!(at(At::Lsn(old[0].lsn), None, "beside-lsn").await, old[0].digest);
}
