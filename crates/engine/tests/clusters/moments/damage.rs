//! Damage to any object of WAL on the way to a moment, over the switch to another timeline.

use engine::{
    Error,
    pgformat::{Lsn, Major},
    repo::{ledger::Entry, store::Store},
    restore::{self, At},
    target,
};
use testkit::clusters::TestCluster;

use super::{
    archive::archive,
    server, state_at,
    workload::{self, noise},
};
use crate::{ask::value, world::World};

const SEGMENT: u64 = 16 << 20;

/// All kinds at every object, or one kind at each in turn.
fn thorough() -> bool {
    std::env::var("LASTGOOD_MATRIX").is_ok_and(|chosen| chosen == "full")
}

/// What may become of an object: nothing, zeros, half of it, another bit, another object's bytes.
fn damages(whole: &[u8], other: &[u8]) -> [Option<Vec<u8>>; 5] {
    let mut flipped = whole.to_vec();
    flipped[whole.len() / 2] ^= 0x10;
    [
        None,
        Some(vec![0; whole.len()]),
        Some(whole[..whole.len() / 2].to_vec()),
        Some(flipped),
        Some(other.to_vec()),
    ]
}

pub(crate) async fn segments(cluster: &TestCluster, count: usize) {
    for _ in 0..count {
        noise(cluster, 5).await;
        value(cluster, "SELECT pg_catalog.pg_switch_wal()").await;
    }
}

/// Clears what is remembered of damage, so that the next is found anew.
pub(crate) async fn forget(world: &World) {
    let opened = world.open().await;
    opened.begin_session().await.unwrap();
    let alerts: Vec<String> = opened
        .with_state(|state| state.alerts().map(|(alert, _)| alert.to_string()).collect())
        .await;
    for alert in alerts.into_iter().filter(|alert| alert.starts_with("wal-damaged-")) {
        let by = "a test".into();
        opened.append(Entry::AlertCleared { alert, by }).await.unwrap();
    }
}

pub(crate) async fn objects(store: &dyn Store) -> Vec<String> {
    let objects = store.list_after("wal/", "", 1000).await.unwrap();
    objects.into_iter().map(|object| object.name).collect()
}

/// The names of the finished segments of a timeline, in order.
pub(crate) async fn finished(world: &World, timeline: u32) -> Vec<String> {
    let opened = world.open().await;
    let mut names = objects(opened.repository.store()).await;
    names.retain(|name| name.contains(&format!("/{timeline:08X}/done/")));
    names
}

/// The name of the finished segment that begins at a position.
pub(crate) async fn beginning_at(world: &World, start: u64) -> String {
    let opened = world.open().await;
    let names = objects(opened.repository.store()).await;
    let mut names = names.into_iter().filter(|name| name.contains("/done/"));
    names.find(|name| name.ends_with(&format!("{start:016x}"))).unwrap()
}

/// Puts zeros in the place of an object.
pub(crate) async fn spoil(store: &dyn Store, name: &str) {
    let whole = store.get(name).await.unwrap().unwrap();
    store.delete(name).await.unwrap();
    store.put_new(name, vec![0; whole.len()].into()).await.unwrap();
}

/// The refusal of a restore to `at`, or of the plan for it; `None` if it went through.
async fn failure(world: &World, at: &At, name: &str) -> Option<Error> {
    let mut request = world.request(name);
    request.at = at.clone();
    let opened = world.open().await;
    let error = match restore::plan(&world.context, &opened, &request).await {
        Err(error) => error,
        Ok(plan) => restore::run(&world.context, &opened, &request, plan).await.err()?,
    };
    let left = request.to.join("PG_VERSION");
    assert!(!left.exists(), "{error}: something was left that looks whole");
    Some(error)
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_any_object_on_the_way_over_a_promotion_stops_the_restore_by_its_name() {
    let world = World::new().await;
    let mut cluster = server(Major::V15).await;
    workload::begin(&cluster).await;
    let start = world.backup(&cluster).await.backup.start_lsn.unwrap();
    let start = start.parse::<Lsn>().unwrap().0 & !(SEGMENT - 1);
    let one = workload::run(&cluster, 1, 3).await;
    segments(&cluster, 2).await;
    let parted = workload::run(&cluster, 2, 3).await;
    archive(&world, &cluster).await;
    cluster.stop().await;
    let mut request = world.request("promoted");
    request.at = At::Xid(parted[1].xid);
    world.restore(&request).await;
    let mut promoted = TestCluster::on(Major::V15, &request.to);
    promoted.start().await;
    segments(&promoted, 2).await;
    let two = workload::run(&promoted, 3, 3).await;
    archive(&world, &promoted).await;
    promoted.stop().await;

    let (last, at) = (&two[2], At::Xid(two[2].xid));
    assert_eq!(
        state_at(&world, Major::V15, at.clone(), None, "whole").await,
        last.digest
    );
    let opened = world.open().await;
    let store = opened.repository.store();
    let names = objects(store).await;
    // The end of timeline 1 is in timeline 2's first segment too; its own copy serves whoever stays on timeline 1.
    let on_the_way = |name: &&String| {
        let position = u64::from_str_radix(name.rsplit('/').next().unwrap(), 16);
        let run = position.is_ok_and(|position| position >= start)
            && (name.contains("/00000002/") || name.contains("/done/"));
        run || name.ends_with(".history")
    };
    let runs: Vec<&String> = names.iter().filter(on_the_way).collect();
    let of = |timeline: &str| runs.iter().filter(|name| name.contains(timeline)).count();
    assert!(of("/00000001/") >= 2 && of("/00000002/") >= 3, "{names:#?}");
    let mut tried = 0;
    for (number, name) in runs.iter().enumerate() {
        let whole = store.get(name).await.unwrap().unwrap();
        let other = runs[(number + 1) % runs.len()];
        let other = store.get(other).await.unwrap().unwrap();
        for (kind, damage) in damages(&whole, &other).into_iter().enumerate() {
            if !thorough() && kind != 0 && kind != 1 + number % 4 {
                continue;
            }
            store.delete(name).await.unwrap();
            if let Some(damage) = damage {
                store.put_new(name, damage.into()).await.unwrap();
            }
            forget(&world).await;
            let error = failure(&world, &at, &format!("damaged-{number}-{kind}")).await;
            let error = error.unwrap_or_else(|| panic!("{name}: damage {kind} passed"));
            let latest = failure(&world, &At::Latest, &format!("latest-{number}-{kind}")).await;
            assert!(
                latest.is_some(),
                "{name}: damage {kind}: a moment before it was taken for the latest"
            );
            let said = error.to_string();
            let segment = name.rsplit('/').nth(1).unwrap();
            assert!(said.contains(name.as_str()), "{name}: damage {kind}: {said}");
            // What a restore found damaged is remembered.
            let seen = world.heard.0.lock().unwrap().len();
            let window = target::window(&world.context, &world.open().await).await.unwrap();
            let warnings = format!("{:?}", world.heard.0.lock().unwrap().split_off(seen));
            let gaps: Vec<&str> = window.gaps.iter().filter_map(|gap| gap.cause.as_deref()).collect();
            let told = gaps.iter().any(|cause| cause.contains(segment)) || warnings.contains(name.as_str());
            assert!(told, "{name}: damage {kind}: {window:?}, {warnings:?}");
            store.delete(name).await.unwrap();
            store.put_new(name, whole.clone()).await.unwrap();
            tried += 1;
        }
    }
    assert!(tried >= 2 * runs.len(), "{tried} of {runs:?}");
    assert_eq!(state_at(&world, Major::V15, at, None, "mended").await, last.digest);
    assert_eq!(
        state_at(&world, Major::V15, At::Xid(one[1].xid), None, "before").await,
        one[1].digest
    );
}
