//! What is not received, and why it is said so at once.

use std::path::{Path, PathBuf};

use pgformat::Major;
use testkit::clusters::TestCluster;

use engine::{Error, repo};

use crate::{
    ask::{sql, value},
    receiving::{Receiving, flushed, here, keeping, slot, stream_of, write_wal},
    world::{World, durable_with},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_could_fill_the_servers_disk_is_made_only_for_who_insists() {
    let cluster = TestCluster::new(Major::V15, durable_with(&["max_slot_wal_keep_size = -1"])).await;
    let world = World::new().await;
    let failed = Receiving::start(&world, cluster.conninfo(), slot()).await.fails().await;
    let Error::Refused { code, hint, .. } = failed else {
        panic!("{failed:?}")
    };
    assert_eq!(code, "slot-unlimited");
    assert!(hint.contains("ALTER SYSTEM SET max_slot_wal_keep_size"), "{hint}");
    assert_eq!(value(&cluster, "SELECT count(*) FROM pg_replication_slots").await, "0");

    let mut insisting = slot();
    insisting.unlimited_slot = true;
    let stream = stream_of(&cluster, 1).await;
    let receiving = Receiving::start(&world, cluster.conninfo(), insisting).await;
    sql(&cluster, "CREATE TABLE public.shop (x int)").await;
    here(&world, &stream, flushed(&cluster).await).await;
    receiving.stop().await;
    // One that is there is used.
    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    sql(&cluster, "CREATE TABLE public.again (x int)").await;
    here(&world, &stream, flushed(&cluster).await).await;
    receiving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_receivers_do_not_share_a_slot() {
    let cluster = TestCluster::new(Major::V15, keeping()).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    let first = Receiving::start(&world, cluster.conninfo(), slot()).await;
    sql(&cluster, "CREATE TABLE public.shop (x int)").await;
    here(&world, &stream, flushed(&cluster).await).await;
    let holder = value(&cluster, "SELECT active_pid FROM pg_replication_slots").await;
    let failed = Receiving::start(&world, cluster.conninfo(), slot()).await.fails().await;
    let Error::Conflict { code, what, .. } = failed else {
        panic!("{failed:?}")
    };
    assert_eq!(code, "slot-in-use");
    assert!(what.contains(&holder), "{what}");
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_receivers_with_slots_of_their_own_store_the_same_wal() {
    let cluster = TestCluster::new(Major::V15, keeping()).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    let other = engine::archive::receive::SlotChoice::named("another").unwrap();
    let first = Receiving::start(&world, cluster.conninfo(), slot()).await;
    let second = Receiving::start(
        &world,
        cluster.conninfo(),
        engine::archive::receive::Options::new(other),
    )
    .await;
    for _ in 0..4 {
        write_wal(&cluster, 9).await;
    }
    here(&world, &stream, flushed(&cluster).await).await;
    for receiving in [first, second] {
        assert_eq!(receiving.warnings(), Vec::<String>::new());
        receiving.stop().await;
    }
    crate::receiving::equals_server(&world, &cluster, &stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_is_refused_before_anything_of_it_is_stored() {
    let world = World::new().await;
    let ours = TestCluster::new(Major::V15, keeping()).await;
    let stream = stream_of(&ours, 1).await;
    let receiving = Receiving::start(&world, ours.conninfo(), slot()).await;
    sql(&ours, "CREATE TABLE public.shop (x int)").await;
    here(&world, &stream, flushed(&ours).await).await;
    receiving.stop().await;
    let foreign = TestCluster::new(Major::V15, keeping()).await;
    let failed = Receiving::start(&world, foreign.conninfo(), slot()).await.fails().await;
    assert!(
        matches!(
            failed,
            Error::Refused {
                code: "foreign-server",
                ..
            }
        ),
        "{failed:?}"
    );
    assert_eq!(value(&foreign, "SELECT count(*) FROM pg_replication_slots").await, "0");
}

/// The cluster as it is when nothing runs.
async fn cold_copy(cluster: &mut TestCluster, to: &Path) -> PathBuf {
    cluster.stop().await;
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(cluster.data_dir())
        .arg(to)
        .status();
    assert!(copied.unwrap().success());
    cluster.start().await;
    to.to_path_buf()
}

/// A server and its clone, what was received of the server, and what becomes of the clone's WAL.
async fn a_clone(mebibytes_more: u32) -> (World, TestCluster, Error) {
    let world = World::new().await;
    let mut cluster = TestCluster::new(Major::V15, keeping()).await;
    let copy = cold_copy(&mut cluster, &world.target("copy")).await;
    let stream = stream_of(&cluster, 1).await;
    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    write_wal(&cluster, 2).await;
    sql(&cluster, "CREATE TABLE public.ours (x int)").await;
    here(&world, &stream, flushed(&cluster).await).await;
    receiving.stop().await;
    let mut clone = TestCluster::on(Major::V15, &copy);
    clone.start().await;
    if mebibytes_more > 0 {
        sql(&clone, "CREATE TABLE public.theirs (name text)").await;
        write_wal(&clone, mebibytes_more).await;
    }
    let failed = Receiving::start(&world, clone.conninfo(), slot()).await.fails().await;
    (world, clone, failed)
}

/// The alerts, each with the number of the ledger's entry that raised it.
async fn alerts(world: &World) -> Vec<(String, u64)> {
    let opened = world.open().await;
    let alerts = opened.with_state(|state| {
        state
            .alerts()
            .map(|(alert, number)| (alert.to_string(), number))
            .collect()
    });
    alerts.await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_what_it_had_written_is_refused_with_an_alert() {
    let (world, _clone, failed) = a_clone(0).await;
    assert!(
        matches!(
            failed,
            Error::Conflict {
                code: "server-behind",
                ..
            }
        ),
        "{failed:?}"
    );
    assert_eq!(alerts(&world).await[0].0, "server-behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_that_went_further_is_told_apart_by_what_it_sends_again() {
    let (world, clone, failed) = a_clone(4).await;
    let Error::Repository(error @ repo::Error::TwoServers { .. }) = failed else {
        panic!("{failed:?}")
    };
    assert!(error.to_string().contains("sends other WAL of timeline 1"), "{error}");
    let raised = alerts(&world).await;
    assert_eq!(raised[0].0, "two-servers");
    // Started again and again by somebody's supervisor, it says no more than that.
    Receiving::start(&world, clone.conninfo(), slot()).await.fails().await;
    assert_eq!(alerts(&world).await, raised);
}
