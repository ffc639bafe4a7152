//! Moments before a backup after which nothing happened: what is there is later than what was asked for.

use engine::{
    pgformat::Major,
    repo::store::Store as _,
    restore::{self, At},
};

use super::{
    archive::archive,
    damage::{beginning_at, segments},
    refusals::refusal,
    server,
    workload::{self, text},
};
use crate::world::World;

const SEGMENT: u64 = 16 << 20;

/// Takes a finished segment of timeline 1 away.
async fn lose(world: &World, start: u64) {
    let opened = world.open().await;
    let store = opened.repository.store();
    store.delete(&beginning_at(world, start).await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_before_a_backup_is_not_that_backup_though_nothing_happened_after_it() {
    let world = World::new().await;
    let cluster = server(Major::V15).await;
    workload::begin(&cluster).await;
    let before = workload::run(&cluster, 1, 2).await;
    world.backup(&cluster).await;
    archive(&world, &cluster).await;
    // The mark reaches further than the moment; the only backup is later all the same.
    let (code, what, _) = refusal(&world, At::Time(before[0].time)).await;
    assert_eq!(code, "before-first-backup", "{what}");

    segments(&cluster, 1).await;
    let behind = workload::run(&cluster, 2, 2).await;
    segments(&cluster, 1).await;
    let newer = world.backup(&cluster).await.backup.id;
    archive(&world, &cluster).await;
    let lost = behind[0].lsn.0 / SEGMENT * SEGMENT - SEGMENT;
    lose(&world, lost).await;
    let (code, what, _) = refusal(&world, At::Time(behind[0].time)).await;
    assert_eq!(code, "wal-gap", "{what}");
    // Nor is it if something was prepared there, and ended, after the moment.
    for end in [None, Some("COMMIT PREPARED 'late'")] {
        let session = cluster.session().await;
        let prepare = [
            "BEGIN",
            "INSERT INTO public.noise (filler) VALUES ('late')",
            "PREPARE TRANSACTION 'late'",
        ];
        for sql in end.as_slice().iter().chain(prepare.iter().filter(|_| end.is_none())) {
            session.execute("prepare, or end it", sql).await.unwrap();
        }
        let now = "SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint";
        let now: i64 = text(&session, now).await.parse().unwrap();
        session.close().await;
        archive(&world, &cluster).await;
        lose(&world, lost).await;
        let (code, what, _) = refusal(&world, At::Time(behind[0].time)).await;
        assert_eq!(code, "wal-gap", "{end:?}: {what}");
        // What is after that backup is reached from it.
        let mut request = world.request("after");
        request.at = At::Time(now);
        let plan = restore::plan(&world.context, &world.open().await, &request)
            .await
            .unwrap();
        assert_eq!(plan.backup, newer);
    }
}
