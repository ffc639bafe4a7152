//! A server and its clone under one identity.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use engine::{
    Error, Result,
    archive::receive::Summary,
    database,
    event::Stop,
    repo::{
        self,
        wal::{WalStream, append_run},
    },
};

use super::{SEGMENT, receive, until, until_received};
use crate::model::{
    Cluster,
    world::{World, context},
};

/// A server and its clone wrote the same for a while. What the server's receiver has stored holds that, and more: the
/// clone's receiver finds it stored while the clone writes `then`.
fn a_clone(then: impl FnOnce(&World, &Stop)) -> Result<Summary> {
    let world = World::new(5).initialised();
    let clone = World {
        cluster: Cluster::new(5),
        ..world.clone()
    };
    world.cluster.transact(1000);
    clone.cluster.transact(1000);
    let (process, stop, ended) = (world.sim.process("clone"), Stop::default(), Arc::new(Mutex::new(None)));
    let receiving = receive(
        clone.clone(),
        process.clone(),
        world.store.of(&process),
        stop.clone(),
        true,
    );
    let told = ended.clone();
    process.spawn(async move {
        let done = receiving.await;
        *told.lock().unwrap() = Some(done);
    });
    until_received(&clone);

    let from = world.cluster.flushed();
    assert_eq!(from, clone.cluster.flushed());
    world.cluster.transact(300);
    let to = world.cluster.transact(9000);
    let (other, storing) = (world.sim.process("other"), world.clone());
    let own = other.clone();
    let stored = world.sim.run_one(&other, async move {
        let store = Arc::new(storing.store.of(&own));
        let opened = database::open_store(&context(&own), store, &storing.unlock)
            .await
            .unwrap();
        let session = opened.begin_session().await.unwrap();
        let generation = storing.cluster.files().control().system_identifier;
        let stream = WalStream::new(generation, 1, SEGMENT).unwrap();
        let wal = storing.cluster.wal(from.0, to.0);
        append_run(&opened.repository, &session, &stream, from.0, &wal)
            .await
            .unwrap()
    });
    assert_eq!(stored, Some(to.0));

    then(&clone, &stop);
    until(&world, || ended.lock().unwrap().is_some());
    let ended = ended.lock().unwrap().take();
    ended.unwrap()
}

#[test]
fn what_another_server_wrote_further_is_not_taken_for_the_clones() {
    let refused = a_clone(|clone, _| {
        clone.cluster.transact(300);
        until_received(clone);
        clone.cluster.transact(5000);
    });
    assert!(
        matches!(refused, Err(Error::Repository(repo::Error::TwoServers { .. }))),
        "{refused:?}"
    );
}

#[test]
fn two_servers_are_told_also_to_who_stops_the_receiver() {
    let refused = a_clone(|clone, stop| {
        clone.cluster.transact(300);
        clone.cluster.transact(5000);
        // It has come, and waits to be stored.
        let came = clone.sim.now() + Duration::from_millis(500);
        until(clone, || clone.sim.now() >= came);
        stop.stop();
    });
    assert!(
        matches!(refused, Err(Error::Repository(repo::Error::TwoServers { .. }))),
        "{refused:?}"
    );
}
