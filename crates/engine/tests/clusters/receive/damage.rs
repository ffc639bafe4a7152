//! What is damaged while nobody receives keeps no receiver from going on.

use pgformat::Major;
use testkit::clusters::TestCluster;

use engine::repo::{
    names,
    store::Store,
    wal::{is_done, newest_mark, put_history, read_history},
};

use crate::{
    ask::{sql, until, value},
    receiving::{
        Receiving, damage, equals_server, flushed, here, keeping, keeping_small, nobody_receives, promote_alone, slot,
        stream_of, write_wal,
    },
    world::World,
};

/// The open runs of a timeline, in order.
async fn open_runs(store: &dyn Store, generation: u64) -> Vec<String> {
    let all = names::wal_timeline(generation, 1);
    let listed = store.list_after(&all, "", 1000).await.unwrap();
    let names = listed.into_iter().map(|object| object.name);
    names.filter(|name| !name.contains("/done/")).collect()
}

async fn is_replaced(chosen: fn(&[String]) -> &String) {
    let cluster = TestCluster::new(Major::V15, keeping()).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    for round in 0..4 {
        sql(&cluster, &format!("CREATE TABLE public.t{round} (x int)")).await;
        here(&world, &stream, flushed(&cluster).await).await;
    }
    receiving.stop().await;

    let opened = world.open().await;
    let store = opened.repository.store();
    let runs = open_runs(store, stream.generation).await;
    let name = chosen(&runs);
    damage(store, name).await;

    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    sql(&cluster, "CREATE TABLE public.after (x int)").await;
    here(&world, &stream, flushed(&cluster).await).await;
    let warnings = receiving.warnings();
    assert!(warnings.iter().any(|code| code == "wal-replaced"), "{warnings:?}");
    assert_eq!(receiving.stop().await.gaps, vec![]);
    equals_server(&world, &cluster, &stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_run_is_replaced_by_what_the_server_still_has() {
    is_replaced(|runs| runs.last().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_the_middle_is_replaced_by_what_the_server_still_has() {
    is_replaced(|runs| &runs[runs.len() - 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_mark_keeps_no_receiver_from_going_on() {
    let cluster = TestCluster::new(Major::V15, keeping_small()).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    sql(&cluster, "CREATE TABLE public.before (x int)").await;
    here(&world, &stream, flushed(&cluster).await).await;
    receiving.stop().await;
    let opened = world.open().await;
    let store = opened.repository.store();
    let marks = store.list_after("marks/", "", 9).await.unwrap();
    damage(store, &marks.last().unwrap().name).await;

    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    sql(&cluster, "CREATE TABLE public.after (x int)").await;
    here(&world, &stream, flushed(&cluster).await).await;
    let position = receiving.stop().await.position;
    let newest = newest_mark(&opened.repository, &stream).await.unwrap();
    assert_eq!(newest.map(|mark| mark.position), position);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_last_finished_run_keeps_no_receiver_from_going_on() {
    let cluster = TestCluster::new(Major::V15, keeping_small()).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    sql(&cluster, "CREATE TABLE public.before (x int)").await;
    sql(&cluster, "SELECT pg_switch_wal()").await;
    let end = stream.segment_end(flushed(&cluster).await - 1);
    here(&world, &stream, end).await;
    let opened = world.open().await;
    until("the segment is finished", || async {
        is_done(&opened.repository, &stream, end - 1).await.unwrap()
    })
    .await;
    assert_eq!(
        receiving.stop().await.position.unwrap().0,
        end,
        "an idle server writes nothing"
    );
    damage(opened.repository.store(), &stream.done_name(end - 1)).await;

    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    sql(&cluster, "CREATE TABLE public.after (x int)").await;
    here(&world, &stream, flushed(&cluster).await).await;
    assert_eq!(receiving.stop().await.gaps, vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_history_is_replaced_by_the_servers_own() {
    let mut cluster = TestCluster::new(Major::V15, keeping_small()).await;
    promote_alone(&mut cluster).await;
    promote_alone_again(&mut cluster).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 3).await;
    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    sql(&cluster, "CREATE TABLE public.before (x int)").await;
    here(&world, &stream, flushed(&cluster).await).await;
    receiving.stop().await;
    nobody_receives(&cluster).await;
    let opened = world.open().await;
    for timeline in [2, 3] {
        let name = names::wal_history(stream.generation, timeline);
        damage(opened.repository.store(), &name).await;
    }

    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    sql(&cluster, "CREATE TABLE public.after (x int)").await;
    here(&world, &stream, flushed(&cluster).await).await;
    assert_eq!(receiving.warnings(), ["history-replaced", "history-replaced"]);
    receiving.stop().await;
    for timeline in [2, 3] {
        let stored = read_history(&opened.repository, stream.generation, timeline).await;
        let file = cluster.data_dir().join(format!("pg_wal/{timeline:08X}.history"));
        assert_eq!(stored.unwrap(), Some(std::fs::read(file).unwrap()));
    }
}

/// The table that tells of a promotion is there once only.
async fn promote_alone_again(cluster: &mut TestCluster) {
    sql(cluster, "DROP TABLE public.after_promotion").await;
    promote_alone(cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_history_of_another_timeline_stops_nobody() {
    let cluster = TestCluster::new(Major::V15, keeping_small()).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    let opened = world.open().await;
    let session = opened.begin_session().await.unwrap();
    let at = value(&cluster, "pg_current_wal_flush_lsn()").await;
    for (timeline, at) in [(2, "0/100"), (3, &at)] {
        let history = format!("1\t{at}\tno recovery target specified\n");
        let stored = put_history(
            &opened.repository,
            &session,
            stream.generation,
            timeline,
            history.as_bytes(),
        );
        stored.await.unwrap();
    }
    let damaged = names::wal_history(stream.generation, 2);
    damage(opened.repository.store(), &damaged).await;

    sql(&cluster, "CREATE TABLE public.after (x int)").await;
    let failed = Receiving::start(&world, cluster.conninfo(), slot()).await.fails().await;
    assert!(failed.to_string().contains("timeline 3 went on"), "{failed:?}");
    // The cluster is known once somebody stores of it.
    world.backup(&cluster).await;
    let opened = world.open().await;
    let accepted = engine::archive::accept::accept(&opened, 1, "a person").await.unwrap();
    assert_eq!(
        accepted.iter().map(|accepted| accepted.timeline).collect::<Vec<_>>(),
        [3]
    );
    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    here(&world, &stream, flushed(&cluster).await).await;
    assert_eq!(receiving.warnings(), Vec::<String>::new());
    receiving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_rots_before_its_segment_is_finished_is_asked_for_again_at_once() {
    let cluster = TestCluster::new(Major::V15, keeping_small()).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    sql(&cluster, "SELECT pg_switch_wal()").await;
    for round in 0..3 {
        sql(&cluster, &format!("CREATE TABLE public.t{round} (x int)")).await;
        here(&world, &stream, flushed(&cluster).await).await;
    }
    let opened = world.open().await;
    let store = opened.repository.store();
    let runs = open_runs(store, stream.generation).await;
    damage(store, &runs[runs.len() - 2]).await;
    let segment = stream.segment_of(flushed(&cluster).await);
    write_wal(&cluster, 2).await;
    until("the segment is finished", || async {
        is_done(&opened.repository, &stream, segment).await.unwrap()
    })
    .await;
    here(&world, &stream, flushed(&cluster).await).await;
    let warnings = receiving.warnings();
    assert!(warnings.iter().any(|code| code == "wal-replaced"), "{warnings:?}");
    assert_eq!(receiving.stop().await.gaps, vec![]);
    equals_server(&world, &cluster, &stream).await;
}
