//! Several ways to a moment: which backup is begun with, and what is done where the first way is closed.

use engine::{
    pgformat::Major,
    repo::{
        ledger::{Entry, Level, Outcome},
        store::Store as _,
    },
    restore::At,
};

use super::{
    archive::archive,
    damage::{beginning_at, objects, segments},
    refusals::refusal,
    server, state_at, workload,
};
use crate::{ask::value, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_behind_a_hole_leads_on_and_a_bad_one_is_taken_only_where_no_other_does() {
    let world = World::new().await;
    let cluster = server(Major::V15).await;
    workload::begin(&cluster).await;
    world.backup(&cluster).await;
    let before = workload::run(&cluster, 1, 3).await;
    segments(&cluster, 3).await;
    let behind = workload::run(&cluster, 2, 3).await;
    let newer = world.backup(&cluster).await.backup.id;
    let after = workload::run(&cluster, 3, 3).await;
    archive(&world, &cluster).await;
    // A segment between the two backups is lost, before what was done last there.
    let opened = world.open().await;
    let store = opened.repository.store();
    let lost = behind[0].lsn.0 / (16 << 20) * (16 << 20) - (16 << 20);
    store.delete(&beginning_at(&world, lost).await).await.unwrap();

    let at = |at: At, name: &'static str| state_at(&world, Major::V15, at, None, name);
    // Behind the hole everything is reached from the backup there, whatever way it is said.
    assert_eq!(at(At::Xid(after[1].xid), "xid").await, after[1].digest);
    assert_eq!(at(At::Time(after[0].time), "time").await, after[0].digest);
    assert_eq!(at(At::Latest, "latest").await, after[2].digest);
    assert_eq!(at(At::Xid(before[2].xid), "before").await, before[2].digest);
    // Between the hole and that backup nothing is.
    for lost in [At::Xid(behind[1].xid), At::Lsn(behind[1].lsn), At::Time(behind[1].time)] {
        let (code, what, _) = refusal(&world, lost.clone()).await;
        assert!(["wal-gap", "xid-not-found"].contains(&code), "{lost:?}: {code}: {what}");
    }
    // A backup that failed its verification is better than none.
    opened.begin_session().await.unwrap();
    opened
        .append(Entry::Verified {
            backup: newer.clone(),
            level: Level::Pages,
            outcome: Outcome::Failed,
            details: None,
            seconds: 1,
            found: vec!["a page".into()],
        })
        .await
        .unwrap();
    assert_eq!(at(At::Latest, "failed").await, after[2].digest);
    let heard = format!("{:?}", world.heard.0.lock().unwrap());
    assert!(heard.contains("backup-failed-verification"), "{heard}");
    // One whose manifest is gone is none; what the other reaches, it still does.
    store.delete(&format!("backups/{newer}/manifest")).await.unwrap();
    assert_eq!(at(At::Time(before[1].time), "without").await, before[1].digest);
    assert_eq!(refusal(&world, At::Latest).await.0, "wal-gap");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_server_takes_a_timeline_that_nobody_has_and_the_newest_one_is_never_left_in_silence() {
    let world = World::new().await;
    let cluster = server(Major::V15).await;
    workload::begin(&cluster).await;
    world.backup(&cluster).await;
    let one = workload::run(&cluster, 1, 3).await;
    archive(&world, &cluster).await;
    let mut request = world.request("second");
    request.at = At::Xid(one[1].xid);
    world.restore(&request).await;
    let mut second = testkit::clusters::TestCluster::on(Major::V15, &request.to);
    second.start().await;
    workload::run(&second, 2, 2).await;
    archive(&world, &second).await;
    second.stop().await;
    // Another one from before it began: 2 is taken.
    let mut request = world.request("third");
    request.at = At::Xid(one[0].xid);
    world.restore(&request).await;
    let mut third = testkit::clusters::TestCluster::on(Major::V15, &request.to);
    third.start().await;
    let timeline = value(
        &third,
        "SELECT pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8)",
    )
    .await;
    assert_eq!(timeline, "00000003");
    third.stop().await;
    // Without its history nothing leads to the newest timeline: that is said, and an older one has to be asked for.
    let opened = world.open().await;
    let store = opened.repository.store();
    let names = objects(&**store).await;
    let history = names.iter().find(|name| name.ends_with("00000002.history")).unwrap();
    store.delete(history).await.unwrap();
    assert_eq!(refusal(&world, At::Latest).await.0, "no-backup-before");
    let old = state_at(&world, Major::V15, At::Latest, Some(1), "old").await;
    assert_eq!(old, one[2].digest);
}
