//! An open run that is damaged while nobody receives.

use pgformat::Major;
use testkit::clusters::TestCluster;

use engine::repo::{names, store::Store};

use crate::{
    act::{Receiving, equals_server, flushed, here, keeping, slot, sql, stream_of},
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
    let mut bytes = store.get(name).await.unwrap().unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    store.delete(name).await.unwrap();
    store.put_new(name, bytes.into()).await.unwrap();

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
