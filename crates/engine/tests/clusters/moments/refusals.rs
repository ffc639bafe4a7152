//! Moments that cannot be reached, and what is said of them.

use engine::{
    Error,
    pgformat::{Lsn, Major},
    repo::{store::Store as _, wal::WalStream},
    restore::{self, At},
    target,
};

use super::{
    archive::archive,
    damage::forget,
    server, state_at,
    workload::{self, noise},
};
use crate::world::World;

pub(crate) async fn refusal(world: &World, at: At) -> (&'static str, String, String) {
    let mut request = world.request("refused");
    request.at = at;
    let opened = world.open().await;
    match restore::plan(&world.context, &opened, &request).await {
        Err(Error::Refused { code, what, hint }) => (code, what, hint),
        Err(other) => panic!("{other:?}"),
        Ok(plan) => panic!("{:?}: {:?}", request.at, plan.target),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_before_the_first_backup_or_after_the_last_mark_is_refused_in_words() {
    let world = World::new().await;
    let cluster = server(Major::V15).await;
    workload::begin(&cluster).await;
    let before = workload::run(&cluster, 1, 3).await;
    world.backup(&cluster).await;
    let after = workload::run(&cluster, 2, 3).await;
    archive(&world, &cluster).await;
    for at in [At::Time(before[1].time), At::Lsn(before[1].lsn)] {
        let (code, what, _) = refusal(&world, at).await;
        assert!(
            code == "before-first-backup" && what.contains("earliest"),
            "{code}: {what}"
        );
    }
    let (code, what, hint) = refusal(&world, At::Time(after[2].time + 3_600_000_000)).await;
    assert!(code == "time-not-reached" && hint.contains("latest"), "{code}: {what}");
    assert_eq!(refusal(&world, At::Lsn(Lsn(u64::MAX / 4))).await.0, "lsn-not-reached");
    assert_eq!(refusal(&world, At::Xid(4_000_000_000)).await.0, "xid-not-found");
    assert_eq!(
        refusal(&world, At::Point("nobody made it".into())).await.0,
        "point-not-found"
    );
    // The mark reaches past the last commit: nothing more happened until then.
    let quiet = state_at(&world, Major::V15, At::Time(after[2].time + 1), None, "quiet").await;
    assert_eq!(quiet, after[2].digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_in_the_wal_is_named_and_nothing_is_restored_over_it() {
    let world = World::new().await;
    let cluster = server(Major::V15).await;
    workload::begin(&cluster).await;
    world.backup(&cluster).await;
    let first = workload::run(&cluster, 1, 5).await;
    // Several segments.
    for _ in 0..4 {
        noise(&cluster, 5).await;
        crate::ask::value(&cluster, "SELECT pg_catalog.pg_switch_wal()").await;
    }
    let last = workload::run(&cluster, 2, 5).await;
    archive(&world, &cluster).await;
    assert_eq!(
        state_at(&world, Major::V15, At::Latest, None, "whole").await,
        last[4].digest
    );
    let opened = world.open().await;
    let store = opened.repository.store();
    let done = store.list_after("wal/", "", 1000).await.unwrap();
    let done: Vec<String> = done
        .into_iter()
        .map(|object| object.name)
        .filter(|name| name.contains("/done/"))
        .collect();
    assert!(done.len() >= 4, "{done:?}");
    let middle = &done[done.len() / 2];
    let whole = store.get(middle).await.unwrap().unwrap();
    // Missing: refused before anything is written, by its name; what lies before it is still reached.
    store.delete(middle).await.unwrap();
    for at in [
        At::Latest,
        At::Lsn(last[2].lsn),
        At::Time(last[2].time),
        At::Xid(last[2].xid),
        At::BeforeXid(last[2].xid),
    ] {
        let (code, what, hint) = refusal(&world, at.clone()).await;
        assert!(
            code == "wal-gap" && what.contains(middle.as_str()),
            "{at:?}: {code}: {what}"
        );
        assert!(hint.contains("--at lsn:"), "{hint}");
    }
    assert_eq!(
        state_at(&world, Major::V15, At::Xid(first[4].xid), None, "before").await,
        first[4].digest
    );
    let window = target::window(&world.context, &opened).await.unwrap();
    let hole: u64 = u64::from_str_radix(middle.rsplit('/').next().unwrap(), 16).unwrap();
    assert_eq!(window.gaps.len(), 1, "{window:?}");
    assert_eq!(window.gaps[0].from.0, hole);
    // Damaged, at several places, or another's bytes: found before any server is started.
    let neighbour = store.get(&done[done.len() / 2 - 1]).await.unwrap().unwrap();
    let damages = [
        vec![0; whole.len()],
        whole[..whole.len() / 2].to_vec(),
        flipped(&whole, 3),
        flipped(&whole, whole.len() / 3),
        flipped(&whole, whole.len() / 2),
        flipped(&whole, whole.len() - 100),
        flipped(&whole, whole.len() - 1),
        neighbour.to_vec(),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        store.put_new(middle, damage.into()).await.unwrap();
        forget(&world).await;
        let mut request = world.request(&format!("damaged-{number}"));
        request.at = At::Lsn(last[2].lsn);
        let planned = restore::plan(&world.context, &opened, &request).await;
        let error = match planned {
            Err(error) => error,
            Ok(plan) => restore::run(&world.context, &opened, &request, plan)
                .await
                .expect_err("damage passed"),
        };
        assert!(error.to_string().contains(middle.as_str()), "{number}: {error}");
        assert!(
            !request.to.join("PG_VERSION").exists(),
            "{number}: something was left that looks whole"
        );
        store.delete(middle).await.unwrap();
    }
    store.put_new(middle, whole).await.unwrap();
    assert_eq!(
        state_at(&world, Major::V15, At::Lsn(last[2].lsn), None, "mended").await,
        last[2].digest
    );
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 0x10;
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn moments_before_and_after_promotions_come_back_and_those_on_two_branches_are_told_apart() {
    let world = World::new().await;
    let mut cluster = server(Major::V15).await;
    workload::begin(&cluster).await;
    world.backup(&cluster).await;
    let one = workload::run(&cluster, 1, 4).await;
    archive(&world, &cluster).await;
    // A restore of the second moment is promoted to timeline 2, while timeline 1 goes on.
    let mut request = world.request("promoted");
    request.at = At::Xid(one[1].xid);
    world.restore(&request).await;
    let mut promoted = engine_cluster(&request).await;
    let two = workload::run(&promoted, 2, 4).await;
    archive(&world, &promoted).await;
    let lost = workload::run(&cluster, 3, 4).await;
    archive(&world, &cluster).await;
    cluster.stop().await;
    let opened = world.open().await;
    let identifier = opened
        .with_state(|state| state.generations().next().unwrap().to_string())
        .await;
    let generation: u64 = identifier.parse().unwrap();
    let timelines = engine::repo::wal::timelines(&opened.repository, generation)
        .await
        .unwrap();
    assert_eq!(timelines, [1, 2]);
    assert!(WalStream::new(generation, 2, 16 << 20).is_ok());

    let at = |at: At, timeline: Option<u32>, name: &'static str| state_at(&world, Major::V15, at, timeline, name);
    // Before they parted: one moment, whatever timeline is asked.
    assert_eq!(at(At::Xid(one[0].xid), None, "shared").await, one[0].digest);
    assert_eq!(at(At::Time(one[0].time), None, "shared-time").await, one[0].digest);
    // After: each on its own branch.
    assert_eq!(at(At::Time(two[2].time), Some(2), "new").await, two[2].digest);
    assert_eq!(at(At::Lsn(two[1].lsn), Some(2), "new-lsn").await, two[1].digest);
    assert_eq!(at(At::Time(lost[2].time), Some(1), "old").await, lost[2].digest);
    assert_eq!(at(At::Latest, None, "latest").await, two[3].digest);
    assert_eq!(at(At::Latest, Some(1), "latest-old").await, lost[3].digest);
    let (code, what, _) = refusal(&world, At::Time(two[2].time)).await;
    assert!(
        code == "moment-ambiguous" && what.contains("timeline 1") && what.contains("timeline 2"),
        "{code}: {what}"
    );
    // A restore of a restore, with a backup of its own.
    world.backup(&promoted).await;
    let three = workload::run(&promoted, 4, 3).await;
    archive(&world, &promoted).await;
    promoted.stop().await;
    let mut request = world.request("again");
    request.at = At::Xid(three[0].xid);
    request.timeline = Some(2);
    world.restore(&request).await;
    let mut again = engine_cluster(&request).await;
    let four = workload::run(&again, 5, 3).await;
    archive(&world, &again).await;
    again.stop().await;
    assert_eq!(at(At::Latest, None, "third").await, four[2].digest);
    assert_eq!(at(At::Xid(four[1].xid), Some(3), "third-xid").await, four[1].digest);
    assert_eq!(at(At::Xid(three[2].xid), Some(2), "second-xid").await, three[2].digest);
    assert_eq!(at(At::Time(one[0].time), None, "first").await, one[0].digest);
    let window = target::window(&world.context, &world.open().await).await.unwrap();
    let timelines: Vec<u32> = window.ranges.iter().map(|range| range.timeline).collect();
    assert_eq!(timelines, [1, 2, 3], "{window:?}");
}

async fn engine_cluster(request: &restore::Request) -> testkit::clusters::TestCluster {
    let mut cluster = testkit::clusters::TestCluster::on(Major::V15, &request.to);
    cluster.start().await;
    cluster
}
