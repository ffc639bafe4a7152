//! Which timeline's WAL is the latest, and whether all of it is here.

use engine::{
    archive::accept::accept,
    pgformat::Major,
    repo::{
        store::Store as _,
        wal::{WalStream, put_mark},
    },
    restore::{self, At},
    target,
};
use testkit::clusters::TestCluster;

use super::{
    archive::{archive, archive_open},
    damage::objects,
    refusals::refusal,
    server, workload,
};
use crate::world::World;

/// The server that a restore to `at` becomes.
pub(crate) async fn promoted(world: &World, at: At) -> TestCluster {
    let mut request = world.request("promoted");
    request.at = at;
    world.restore(&request).await;
    let mut cluster = TestCluster::on(Major::V15, &request.to);
    cluster.start().await;
    cluster
}

/// The timeline that a restore to the latest moment takes.
async fn latest(world: &World, timeline: Option<u32>) -> u32 {
    let mut request = world.request("latest");
    request.timeline = timeline;
    let plan = restore::plan(&world.context, &world.open().await, &request).await;
    plan.unwrap().target_timeline
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_in_the_first_segment_of_a_timeline_is_one_as_soon_as_its_parent_was_archived() {
    let world = World::new().await;
    let mut cluster = server(Major::V15).await;
    workload::begin(&cluster).await;
    world.backup(&cluster).await;
    workload::run(&cluster, 1, 2).await;
    archive(&world, &cluster).await;
    cluster.stop().await;
    let mut promoted = promoted(&world, At::Latest).await;
    workload::run(&promoted, 2, 3).await;
    let runs = archive_open(&world, &promoted, 5).await;
    promoted.stop().await;
    assert_eq!(latest(&world, None).await, 2);

    let opened = world.open().await;
    let store = opened.repository.store();
    let names = objects(&**store).await;
    // What was lost after the last run nobody can tell without a mark: it is only damaged.
    for (number, lost) in [(0, true), (0, false), (2, true), (2, false), (4, false)] {
        let of_run = |name: &&String| {
            let open = name.contains("/00000002/") && !name.contains("/done/");
            open && name.ends_with(&format!("{:016x}", runs[number]))
        };
        let name = names.iter().find(of_run).unwrap();
        let whole = store.get(name).await.unwrap().unwrap();
        store.delete(name).await.unwrap();
        if !lost {
            let mut flipped = whole.to_vec();
            flipped[whole.len() / 2] ^= 0x10;
            store.put_new(name, flipped.into()).await.unwrap();
        }
        let (code, what, _) = refusal(&world, At::Latest).await;
        assert!(
            code == "wal-gap" && what.contains("on timeline 2"),
            "run {number}, lost: {lost}: {code}: {what}"
        );
        let window = target::window(&world.context, &opened).await.unwrap();
        let gap = window.gaps.iter().find(|gap| gap.timeline == 2);
        assert!(
            gap.is_some_and(|gap| gap.archived && gap.from.0 == runs[number]),
            "run {number}, lost: {lost}: {window:?}"
        );
        store.delete(name).await.unwrap();
        store.put_new(name, whole).await.unwrap();
    }
    assert_eq!(latest(&world, None).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_moment_is_that_of_the_timeline_which_goes_on_not_of_a_copy_that_left_it() {
    let world = World::new().await;
    let mut cluster = server(Major::V15).await;
    workload::begin(&cluster).await;
    world.backup(&cluster).await;
    let moments = workload::run(&cluster, 1, 2).await;
    archive(&world, &cluster).await;
    let mut copy = promoted(&world, At::Xid(moments[0].xid)).await;
    workload::run(&copy, 2, 1).await;
    archive(&world, &copy).await;
    copy.stop().await;
    workload::run(&cluster, 3, 1).await;
    archive(&world, &cluster).await;
    cluster.stop().await;
    // Until a person has spoken, the newest timeline is the one that somebody was promoted to.
    assert_eq!(latest(&world, None).await, 2);
    accept(&world.open().await, 1, "a test").await.unwrap();
    assert_eq!(latest(&world, None).await, 1);
    // The copy's is reached by its number.
    assert_eq!(latest(&world, Some(2)).await, 2);
    // A timeline that leaves later is a promotion until somebody says otherwise.
    std::fs::remove_dir_all(world.target("promoted")).unwrap();
    let mut next = promoted(&world, At::Latest).await;
    workload::run(&next, 4, 1).await;
    archive(&world, &next).await;
    next.stop().await;
    assert_eq!(latest(&world, None).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_heard_by_what_it_stores_where_no_pause_lets_it_leave_a_mark() {
    let world = World::new().await;
    let cluster = server(Major::V15).await;
    workload::begin(&cluster).await;
    world.backup(&cluster).await;
    let opened = world.open().await;
    let session = opened.begin_session().await.unwrap();
    let identifier = opened
        .with_state(|state| state.generations().next().unwrap().to_string())
        .await;
    let stream = WalStream::new(identifier.parse().unwrap(), 1, 16 << 20).unwrap();
    let start = target::window(&world.context, &opened).await.unwrap().ranges[0].to;
    let ago = world.context.runtime.clock.now_micros() - 3_600_000_000;
    put_mark(&opened.repository, &session, &stream, start.0, ago, None)
        .await
        .unwrap();
    workload::run(&cluster, 1, 2).await;
    archive_open(&world, &cluster, 2).await;
    let window = target::window(&world.context, &opened).await.unwrap();
    assert!(window.ranges[0].heard.unwrap() > ago + 3_000_000_000, "{window:?}");
}
