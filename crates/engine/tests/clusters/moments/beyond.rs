//! Damage that a restore does not need to read over is told, and stops nothing.

use engine::{
    Error,
    pgformat::Major,
    repo::store::Store as _,
    restore::{self, At},
    target,
};

use super::{
    archive::archive,
    damage::{beginning_at, forget, objects, segments, spoil},
    server, state_at, workload,
};
use crate::{ask::value, world::World};

const SEGMENT: u64 = 16 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn damage_past_the_moment_or_before_the_backup_that_leads_there_stops_no_restore() {
    let world = World::new().await;
    let cluster = server(Major::V15).await;
    workload::begin(&cluster).await;
    world.backup(&cluster).await;
    let before = workload::run(&cluster, 1, 3).await;
    // Nothing happens in the first one after the moments, so that what comes next is in the one that is damaged.
    value(&cluster, "SELECT pg_catalog.pg_switch_wal()").await;
    segments(&cluster, 2).await;
    world.backup(&cluster).await;
    let after = workload::run(&cluster, 2, 2).await;
    archive(&world, &cluster).await;
    let opened = world.open().await;
    let store = opened.repository.store();
    let damaged = before[2].lsn.0 / SEGMENT * SEGMENT + SEGMENT;
    let damaged = beginning_at(&world, damaged).await;
    spoil(&**store, &damaged).await;
    for (name, at, moment) in [
        ("lsn", At::Lsn(before[2].lsn), &before[2]),
        ("xid", At::Xid(before[2].xid), &before[2]),
        ("time", At::Time(before[1].time), &before[1]),
        ("behind", At::Xid(after[1].xid), &after[1]),
    ] {
        forget(&world).await;
        let heard = world.heard.0.lock().unwrap().len();
        let mut request = world.request(name);
        request.at = at.clone();
        let plan = restore::plan(&world.context, &world.open().await, &request).await;
        assert!(plan.is_ok(), "{name}: {plan:?}");
        let said = format!("{:?}", world.heard.0.lock().unwrap().split_off(heard));
        assert!(said.contains(damaged.as_str()), "{name}: {said}");
        assert_eq!(
            state_at(&world, Major::V15, at, None, name).await,
            moment.digest,
            "{name}"
        );
    }
    // What is nowhere else may be in what cannot be read.
    let mut request = world.request("nowhere");
    request.at = At::Xid(4_000_000_000);
    let error = restore::plan(&world.context, &opened, &request).await.unwrap_err();
    assert!(
        matches!(error, Error::Repository(_)) && error.to_string().contains(damaged.as_str()),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_last_segment_takes_only_its_own_moments_out_of_the_window() {
    let world = World::new().await;
    let cluster = server(Major::V15).await;
    workload::begin(&cluster).await;
    world.backup(&cluster).await;
    segments(&cluster, 2).await;
    archive(&world, &cluster).await;
    let opened = world.open().await;
    let store = opened.repository.store();
    // Of a server that pushes finished segments there are no marks.
    let names = objects(&**store).await;
    let (done, others): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| name.contains("/done/"));
    let marks = store.list_after("marks/", "", 1000).await.unwrap();
    for name in others.into_iter().chain(marks.into_iter().map(|mark| mark.name)) {
        store.delete(&name).await.unwrap();
    }
    let before = target::window(&world.context, &opened).await.unwrap();
    let (last, start) = done
        .iter()
        .map(|name| (name, u64::from_str_radix(name.rsplit('/').next().unwrap(), 16).unwrap()))
        .max_by_key(|(_, start)| *start)
        .unwrap();
    assert_eq!(before.ranges[0].to.0, start + SEGMENT, "{before:?}");
    spoil(&**store, last).await;

    let window = target::window(&world.context, &opened).await.unwrap();
    assert_eq!(window.ranges.len(), 1, "{window:?}");
    assert_eq!(window.ranges[0].to_time, None);
    // It is remembered, and a hole from then on.
    let critical = opened
        .with_state(|state| state.alerts().any(|(alert, _)| alert.contains(last.as_str())))
        .await;
    assert!(critical);
    let window = target::window(&world.context, &opened).await.unwrap();
    assert_eq!(window.ranges[0].to.0, start, "{window:?}");
    assert!(window.ranges[0].to_time.is_some(), "{window:?}");
}
