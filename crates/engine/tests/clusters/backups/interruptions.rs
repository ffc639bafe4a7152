//! A server that goes away in the middle of a backup: the backup fails in words, nothing is listed, and the next
//! one needs no hand.

use std::{sync::Arc, time::Duration};

use engine::{
    Error,
    backup::{self, Options},
    database,
    pgclient::{self, Conninfo},
};
use pgformat::Major;
use testkit::clusters::TestCluster;

use crate::{
    ask::{comes_to_be, sql, value},
    far::Far,
    world::{World, durable, durable_with},
};

/// A new cluster takes some eight seconds at this rate: whoever waits for all of it has not noticed.
const SLOWLY: u64 = 3 << 20;
const SOON_SECONDS: f64 = 5.0;

fn slow(world: &World, cluster: &TestCluster) -> Options {
    Options {
        max_rate: Some(SLOWLY),
        ..world.options(cluster)
    }
}

/// The same after each interruption: said in words, soon, nothing listed, nothing left open or behind.
async fn assert_failed_and_forgotten(world: &World, cluster: &TestCluster, failed: &Error, seconds: f64) {
    let lost = matches!(
        failed,
        Error::Failed {
            code: "session-lost",
            ..
        }
    ) || matches!(
        failed,
        Error::Server(pgclient::Error::ConnectionLost { .. } | pgclient::Error::Server { .. })
    );
    assert!(lost, "{failed:?}");
    assert!(failed.hint().is_some(), "{failed:?}");
    assert!(seconds < SOON_SECONDS, "it took {seconds} seconds to notice");
    assert_eq!(world.listed().await, Vec::<String>::new());
    world.assert_no_run_is_open().await;
    world.backup(cluster).await;
    assert_eq!(world.listed().await.len(), 1);
    let slots = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots WHERE slot_name LIKE 'lastgood%'";
    comes_to_be(cluster, slots, "0").await;
    world.revive(Major::V15, "restored").await;
}

/// Takes a slow backup, does `meanwhile` in its middle; the error, and how long it took from then on.
async fn interrupted(
    world: &World,
    conninfo: &Conninfo,
    options: &Options,
    meanwhile: impl Future<Output = ()>,
) -> (Error, f64) {
    let clock = &world.context.runtime.clock;
    let since = std::cell::Cell::new(None);
    let timed = async {
        meanwhile.await;
        since.set(Some(clock.monotonic()));
    };
    let failed = world.backup_while(conninfo, options, timed).await.unwrap_err();
    let noticed = clock.monotonic().saturating_sub(since.get().unwrap());
    (failed, noticed.as_secs_f64())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_restarts_in_the_middle_fails_the_backup() {
    let mut source = TestCluster::new(Major::V15, durable()).await;
    let world = World::new().await;
    let (conninfo, options) = (source.conninfo(), slow(&world, &source));
    let (failed, seconds) = interrupted(&world, &conninfo, &options, source.restart()).await;
    assert_failed_and_forgotten(&world, &source, &failed, seconds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_crashes_in_the_middle_fails_the_backup() {
    let mut source = TestCluster::new(Major::V15, durable()).await;
    let world = World::new().await;
    let (conninfo, options) = (source.conninfo(), slow(&world, &source));
    let crash = async {
        source.crash().await;
        source.start().await;
    };
    let (failed, seconds) = interrupted(&world, &conninfo, &options, crash).await;
    assert_failed_and_forgotten(&world, &source, &failed, seconds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_session_or_walsender_fails_the_backup() {
    for whose in ["client backend", "walsender"] {
        let source = TestCluster::new(Major::V15, durable()).await;
        let world = World::new().await;
        let kill = format!(
            "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity
              WHERE backend_type = '{whose}' AND pid <> pg_catalog.pg_backend_pid()"
        );
        let terminate = async { assert_ne!(value(&source, &kill).await, "0", "{whose}") };
        let options = slow(&world, &source);
        let (failed, seconds) = interrupted(&world, &source.conninfo(), &options, terminate).await;
        assert_failed_and_forgotten(&world, &source, &failed, seconds).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_free_replication_slot_a_backup_is_taken_with_a_warning() {
    let source = TestCluster::new(Major::V15, durable_with(&["max_replication_slots = 0"])).await;
    let world = World::new().await;
    world.backup(&source).await;
    let warned = |(code, _): &(String, String)| code == "wal-not-reserved";
    assert!(world.warnings().iter().any(warned), "{:?}", world.warnings());
    world.revive(Major::V15, "restored").await;

    let source = TestCluster::new(Major::V15, durable_with(&["max_replication_slots = 1"])).await;
    sql(
        &source,
        "SELECT pg_catalog.pg_create_physical_replication_slot('taken')",
    )
    .await;
    let world = World::new().await;
    world.backup(&source).await;
    assert!(world.warnings().iter().any(warned), "{:?}", world.warnings());
}

/// Timeouts that a role carries end idle sessions of everybody else, not a backup's.
#[tokio::test(flavor = "multi_thread")]
async fn short_timeouts_of_the_role_do_not_end_a_backup() {
    let source = TestCluster::new(Major::V15, durable_with(&["wal_sender_timeout = 3s"])).await;
    sql(
        &source,
        "ALTER ROLE postgres SET idle_session_timeout = '500ms';
         ALTER ROLE postgres SET statement_timeout = '700ms';
         ALTER ROLE postgres SET idle_in_transaction_session_timeout = '500ms';
         ALTER ROLE postgres SET lock_timeout = '500ms'",
    )
    .await;
    let world = World::new().await;
    let options = Options {
        max_rate: Some(6 << 20),
        ..world.options(&source)
    };
    world.try_backup(&source, &options).await.unwrap();
}

/// Storing a run takes longer than the server waits for a word of ours; meanwhile nothing that it sends is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_far_repository_does_not_make_the_server_take_us_for_dead() {
    let source = TestCluster::new(Major::V15, durable_with(&["wal_sender_timeout = 4s"])).await;
    let world = World::new().await;
    let near = world.database.location.database(&world.database.name, false).unwrap();
    let system = value(&source, "SELECT system_identifier FROM pg_control_system()").await;
    let runs = format!("wal/{system}/00000001/0");
    let far = Arc::new(Far::new(near, Duration::from_secs(6), &runs));
    let opened = database::open_store(&world.context, far, &world.database.unlock).await;
    let options = world.options(&source);
    backup::run(&world.context, &opened.unwrap(), &source.conninfo(), &options)
        .await
        .unwrap();
}
