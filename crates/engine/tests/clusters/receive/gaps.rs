//! WAL that the server no longer has is recorded as missing, and receiving goes on after it.

use pgformat::{Lsn, Major};
use testkit::clusters::{Options as ClusterOptions, TestCluster};

use engine::{
    Error,
    archive::receive::Options,
    repo::{ledger, wal::coverage},
};

use crate::{
    ask::{sql, value},
    receiving::{Receiving, compare, flushed, here, no_slot, nobody_receives, slot, stream_of, write_wal},
    world::{World, durable_with},
};

/// A server that forgets soon.
fn forgetful() -> ClusterOptions {
    ClusterOptions {
        wal_segment_size_mib: 1,
        ..durable_with(&[
            "wal_keep_size = 0",
            "max_slot_wal_keep_size = 2MB",
            "min_wal_size = 2MB",
            "max_wal_size = 4MB",
        ])
    }
}

async fn forget(cluster: &TestCluster) {
    for _ in 0..3 {
        write_wal(cluster, 8).await;
        sql(cluster, "CHECKPOINT").await;
    }
}

async fn a_gap_is_recorded(options: Options, expected: &[&str]) {
    let cluster = TestCluster::new(Major::V15, forgetful()).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    let receiving = Receiving::start(&world, cluster.conninfo(), options.clone()).await;
    sql(&cluster, "CREATE TABLE public.before (x int)").await;
    here(&world, &stream, flushed(&cluster).await).await;
    let before = receiving.stop().await.position.unwrap();
    nobody_receives(&cluster).await;
    forget(&cluster).await;

    let receiving = Receiving::start(&world, cluster.conninfo(), options.clone()).await;
    sql(&cluster, "CREATE TABLE public.after (x int)").await;
    let end = flushed(&cluster).await;
    here(&world, &stream, end).await;
    assert_eq!(receiving.warnings(), expected);
    let gaps = receiving.stop().await.gaps;
    assert_eq!((gaps.len(), gaps[0].timeline, gaps[0].from), (1, 1, before));
    nobody_receives(&cluster).await;

    // Once recorded, it is not stumbled over again.
    let receiving = Receiving::start(&world, cluster.conninfo(), options).await;
    sql(&cluster, "CREATE TABLE public.still (x int)").await;
    here(&world, &stream, flushed(&cluster).await).await;
    assert_eq!(receiving.warnings(), Vec::<String>::new());
    assert_eq!(receiving.stop().await.gaps, vec![]);

    let opened = world.open().await;
    let (recorded, alerts) = opened
        .with_state(|state| {
            let gaps: Vec<(ledger::Lsn, ledger::Lsn)> = state.gaps().iter().map(|gap| (gap.from, gap.to)).collect();
            let alerts: Vec<String> = state.alerts().map(|(alert, _)| alert.to_string()).collect();
            (gaps, alerts)
        })
        .await;
    assert_eq!(recorded, [(before, gaps[0].to)]);
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    let stretches = coverage(&opened.repository, &stream).await.unwrap();
    assert_eq!(stretches.len(), 2, "{stretches:x?}");
    assert_eq!((stretches[0].1, stretches[1].0), (before.0, gaps[0].to.0));
    let (from, to) = stretches[1];
    assert!(compare(&opened, &cluster, &stream, stream.segment_of(to), to).await > 0);
    assert!(from < end && to >= end, "{} {}", Lsn(from), Lsn(to));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_given_up_is_made_again_and_the_gap_recorded() {
    a_gap_is_recorded(slot(), &["slot-lost", "wal-gap"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_given_up_stays_where_a_new_one_would_be_refused() {
    let cluster = TestCluster::new(Major::V15, forgetful()).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    sql(&cluster, "CREATE TABLE public.before (x int)").await;
    here(&world, &stream, flushed(&cluster).await).await;
    receiving.stop().await;
    forget(&cluster).await;
    sql(&cluster, "ALTER SYSTEM SET max_slot_wal_keep_size = -1").await;
    sql(&cluster, "SELECT pg_reload_conf()").await;
    let lost = "SELECT string_agg(wal_status, ',') FROM pg_replication_slots";
    crate::ask::until("the limit is gone", || async {
        value(&cluster, "current_setting('max_slot_wal_keep_size')").await == "-1"
    })
    .await;
    assert_eq!(value(&cluster, lost).await, "lost");
    let failed = Receiving::start(&world, cluster.conninfo(), slot()).await.fails().await;
    assert!(
        matches!(
            failed,
            Error::Refused {
                code: "slot-unlimited",
                ..
            }
        ),
        "{failed:?}"
    );
    assert_eq!(value(&cluster, lost).await, "lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_slot_what_was_recycled_is_a_recorded_gap() {
    a_gap_is_recorded(no_slot(), &["wal-gap"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wal_that_a_slot_holds_is_fetched_though_a_backup_was_taken_meanwhile() {
    let cluster = TestCluster::new(Major::V15, crate::receiving::keeping()).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    write_wal(&cluster, 2).await;
    here(&world, &stream, flushed(&cluster).await).await;
    receiving.stop().await;
    write_wal(&cluster, 40).await;
    sql(&cluster, "SELECT pg_switch_wal()").await;
    world.backup(&cluster).await;
    let opened = world.open().await;
    assert_eq!(coverage(&opened.repository, &stream).await.unwrap().len(), 2);

    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    sql(&cluster, "CREATE TABLE public.after (x int)").await;
    here(&world, &stream, flushed(&cluster).await).await;
    crate::ask::until("one stretch", || async {
        coverage(&opened.repository, &stream).await.unwrap().len() == 1
    })
    .await;
    receiving.stop().await;
    crate::receiving::equals_server(&world, &cluster, &stream).await;
    assert_eq!(value(&cluster, "SELECT count(*) FROM pg_replication_slots").await, "1");
}
