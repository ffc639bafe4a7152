//! How soon things are here, and what is said when nothing comes.

use std::time::Duration;

use pgformat::Major;
use testkit::clusters::TestCluster;
use tokio::time::Instant;

use engine::repo::wal::newest_mark;

use crate::{
    ask::{sql, until, value},
    receiving::{Receiving, flushed, here, keeping, slot, stream_of, write_wal},
    world::World,
};

/// Twice what a commit may wait and much less than a mark, which comes each minute. How long it takes, `bench/rpo` tells.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_here_soon() {
    let cluster = TestCluster::new(Major::V15, keeping()).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    sql(&cluster, "CREATE TABLE public.shop (x int)").await;
    here(&world, &stream, flushed(&cluster).await).await;
    for number in 0..3 {
        sql(&cluster, &format!("INSERT INTO public.shop VALUES ({number})")).await;
        let (end, committed) = (flushed(&cluster).await, Instant::now());
        here(&world, &stream, end).await;
        assert!(committed.elapsed() < SOON, "{:?}", committed.elapsed());
    }
    receiving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_waits_for_the_receiver_as_a_synchronous_standby() {
    let mut options = keeping();
    options.conf.push("synchronous_standby_names = '*'".into());
    let cluster = TestCluster::new(Major::V15, options).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    let alone = "SET synchronous_commit = local; CREATE TABLE public.shop (x int)";
    sql(&cluster, alone).await;
    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    let session = cluster.session().await;
    for number in 0..3 {
        session
            .execute("insert", &format!("INSERT INTO public.shop VALUES ({number})"))
            .await
            .unwrap();
        // The statement has ended: it was here before.
        let row = session
            .query_one("ask", "SELECT pg_current_wal_flush_lsn()::text", &[])
            .await
            .unwrap();
        let flushed: pgformat::Lsn = row.get::<_, String>(0).parse().unwrap();
        let here = crate::receiving::end_here(&world, &stream).await;
        // What the commit waited for ends with its record; housekeeping may have written after it.
        assert!(here + 8192 >= flushed.0, "{here:x} {flushed}");
    }
    receiving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_is_marked_as_idle() {
    let cluster = TestCluster::new(Major::V15, keeping()).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    let mut options = slot();
    options.mark_interval = Duration::from_millis(500);
    let receiving = Receiving::start(&world, cluster.conninfo(), options).await;
    sql(&cluster, "CREATE TABLE public.shop (x int)").await;
    let (position, began) = (flushed(&cluster).await, micros(&cluster).await);
    until("a mark", || async {
        let opened = world.open().await;
        let mark = newest_mark(&opened.repository, &stream).await.unwrap();
        mark.is_some_and(|mark| mark.position.0 >= position && mark.at > began)
    })
    .await;
    let now = micros(&cluster).await;
    let opened = world.open().await;
    let mark = newest_mark(&opened.repository, &stream).await.unwrap().unwrap();
    assert!(mark.at <= now, "a mark of the future");
    receiving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_stopped_says_how_far_it_came() {
    let cluster = TestCluster::new(Major::V15, keeping()).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    write_wal(&cluster, 2).await;
    here(&world, &stream, flushed(&cluster).await).await;
    let summary = receiving.stop().await;
    let opened = world.open().await;
    let mark = newest_mark(&opened.repository, &stream).await.unwrap();
    assert_eq!(mark.map(|mark| mark.position), summary.position);
}

/// The server's clock.
async fn micros(cluster: &TestCluster) -> i64 {
    let text = value(cluster, "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint").await;
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_without_a_mark_has_one_as_soon_as_the_server_falls_silent() {
    let cluster = TestCluster::new(Major::V15, keeping()).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    let mut options = slot();
    options.mark_interval = Duration::from_secs(3600);
    let receiving = Receiving::start(&world, cluster.conninfo(), options).await;
    until("a mark", || async {
        let opened = world.open().await;
        newest_mark(&opened.repository, &stream).await.unwrap().is_some()
    })
    .await;
    receiving.stop().await;
}

/// Its last record ends no transaction, and it waits until that is durable here.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_does_not_wait_for_the_next_mark() {
    let mut cluster = TestCluster::new(Major::V15, keeping()).await;
    let world = World::new().await;
    let mut options = slot();
    options.mark_interval = Duration::from_secs(3600);
    let receiving = Receiving::start(&world, cluster.conninfo(), options).await;
    let stream = stream_of(&cluster, 1).await;
    until("the first mark", || async {
        let opened = world.open().await;
        newest_mark(&opened.repository, &stream).await.unwrap().is_some()
    })
    .await;
    // From the second segment on its records are known one by one.
    for _ in 0..2 {
        sql(
            &cluster,
            "SELECT pg_switch_wal(); CREATE TABLE IF NOT EXISTS public.shop (x int)",
        )
        .await;
        sql(&cluster, "INSERT INTO public.shop VALUES (1)").await;
        here(&world, &stream, flushed(&cluster).await).await;
    }
    cluster.stop().await;
    cluster.start().await;
    receiving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_point_waits_as_little_as_a_commit_and_the_window_reaches_to_the_last_of_these() {
    let cluster = TestCluster::new(Major::V15, keeping()).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    sql(&cluster, "CREATE TABLE public.shop (x int)").await;
    let mut options = slot();
    options.mark_interval = Duration::from_secs(3600);
    let receiving = Receiving::start(&world, cluster.conninfo(), options).await;
    world.backup(&cluster).await;
    sql(&cluster, "INSERT INTO public.shop VALUES (1)").await;
    here(&world, &stream, flushed(&cluster).await).await;

    sql(&cluster, "SELECT pg_create_restore_point('before_release')").await;
    let (end, set) = (flushed(&cluster).await, Instant::now());
    here(&world, &stream, end).await;
    assert!(set.elapsed() < SOON, "{:?}", set.elapsed());

    // Without a mark, the last transaction tells until when everything is known.
    let before = micros(&cluster).await;
    sql(&cluster, "INSERT INTO public.shop VALUES (2)").await;
    here(&world, &stream, flushed(&cluster).await).await;
    let opened = world.open().await;
    let window = engine::target::window(&world.context, &opened).await.unwrap();
    let until = window.ranges[0].to_time.unwrap();
    assert!((before..=micros(&cluster).await).contains(&until), "{before} {until}");
    assert_eq!(receiving.warnings(), Vec::<String>::new());
    receiving.stop().await;
}
