//! Parents that are not, or not wholly, in the server's own past.

use engine::{
    backup,
    restore::{self, At},
};
use pgformat::{Lsn, Major};
use testkit::clusters::TestCluster;

use super::fallbacks::{change, small};
use crate::{
    ask::{sql, value},
    halfway::{copying, halfway, stands_still},
    scene::{Depth, Scene},
};

/// Replaces the server by one that went back to `at`, and is received from then on.
async fn go_back(scene: &mut Scene, at: Lsn) {
    scene.all_is_here().await;
    scene.stop_receiving().await;
    scene.cluster.stop().await;
    let mut request = scene.world.request("gone-back");
    request.at = At::Lsn(at);
    let opened = scene.world.open().await;
    let plan = restore::plan(&scene.world.context, &opened, &request).await.unwrap();
    let restored = restore::run(&scene.world.context, &opened, &request, plan)
        .await
        .unwrap();
    let mut server = TestCluster::on(Major::V15, &restored.to);
    server.start().await;
    scene.cluster = server;
    scene.receive().await;
}

async fn position(scene: &Scene) -> Lsn {
    value(&scene.cluster, "pg_current_wal_insert_lsn()")
        .await
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_of_a_future_that_was_left_is_compared_page_by_page() {
    let mut scene = small(true, &[]).await;
    scene.world.backup(&scene.cluster).await;
    change(&scene, 1).await;
    let here = position(&scene).await;
    change(&scene, 2).await;
    scene.by_wal(1, "what will be left").await;
    go_back(&mut scene, here).await;
    change(&scene, 3).await;
    let rows = scene.rows().await;
    let (summary, why) = scene.by_hashes().await;
    assert!(why.contains("does not come from"), "{why}");
    scene.brings_back(&summary.backup.id, &rows, Depth::Rows).await;
    change(&scene, 4).await;
    scene.by_wal(100, "after it").await;
    scene.stop_receiving().await;
}

/// Its pages are of the time between its start, which the server has in its past, and its end, which it has not.
#[tokio::test(flavor = "multi_thread")]
async fn a_parent_during_which_the_history_forked_is_compared_page_by_page() {
    let mut scene = small(true, &[]).await;
    scene.world.backup(&scene.cluster).await;
    let (context, there, go) = halfway(&scene.world.context, copying);
    let mut options = scene.world.options(&scene.cluster);
    options.wanted = backup::Wanted::Full;
    options.jobs = 1;
    let opened = scene.world.open().await;
    let conninfo = scene.cluster.conninfo();
    // A task of its own: it stands still in the middle.
    let parent = tokio::spawn(async move { backup::run(&context, &opened, &conninfo, &options).await });
    stands_still(&there).await;
    let here = position(&scene).await;
    let other = "UPDATE public.bulk SET filler = 'of another future' WHERE id % 10 = 0";
    sql(&scene.cluster, other).await;
    sql(&scene.cluster, "CHECKPOINT").await;
    drop(go);
    let parent = parent.await.unwrap().unwrap();
    let parent = scene.manifest(&parent.backup.id).await.facts;
    assert!(
        parent.start.lsn.0 < here.0 && here.0 < parent.stop.lsn.0,
        "{here} {parent:?}"
    );
    go_back(&mut scene, here).await;
    change(&scene, 3).await;
    let rows = scene.rows().await;
    let (summary, why) = scene.by_hashes().await;
    assert!(why.contains("ended"), "{why}");
    scene.brings_back(&summary.backup.id, &rows, Depth::Rows).await;
    scene.stop_receiving().await;
}
