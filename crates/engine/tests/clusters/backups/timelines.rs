//! Restores of restores: every recovery ends on a new timeline, and the next backup begins there.

use pgformat::Major;
use testkit::clusters::{TestCluster, majors_to_test, row_digests};

use engine::{list, repo};

use crate::{
    ask::{sql, value},
    world::{World, durable},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_cluster_is_backed_up_and_restored_again_and_again() {
    for major in majors_to_test() {
        let world = World::new().await;
        let mut cluster = TestCluster::new(major, durable()).await;
        sql(&cluster, "CREATE TABLE public.life (timeline int)").await;
        for timeline in 1..=3u32 {
            sql(&cluster, &format!("INSERT INTO public.life VALUES ({timeline})")).await;
            let before = row_digests(&cluster.conninfo()).await;
            let summary = world.backup(&cluster).await;
            assert_eq!(summary.backup.timeline, Some(timeline), "PostgreSQL {major}");
            let opened = world.open().await;
            let detail = list::show(&world.context, &opened, &summary.backup.id).await.unwrap();
            assert_eq!(detail.facts.history.len() as u32, timeline - 1, "PostgreSQL {major}");
            cluster.stop().await;
            cluster = world.revive(major, &format!("life-{timeline}")).await;
            assert_eq!(
                row_digests(&cluster.conninfo()).await,
                before,
                "PostgreSQL {major}, timeline {timeline}"
            );
        }
        let lives = "SELECT pg_catalog.string_agg(timeline::text, ' ' ORDER BY timeline) FROM public.life";
        assert_eq!(value(&cluster, lives).await, "1 2 3");
    }
}

/// Both copies call their new timeline 2 and write other WAL at the same positions.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_copy_on_the_same_timeline_is_told_apart_and_refused() {
    let world = World::new().await;
    let mut source = TestCluster::new(Major::V15, durable()).await;
    sql(&source, "CREATE TABLE public.life (who text)").await;
    world.backup(&source).await;
    source.stop().await;
    let first = world.revive(Major::V15, "first").await;
    sql(&first, "INSERT INTO public.life VALUES ('the first')").await;
    let mut request = world.request("second");
    request.at = engine::restore::At::Backup(world.listed().await[0].clone());
    let second = world.restore(&request).await;
    world.backup(&first).await;
    let mut second = TestCluster::on(Major::V15, &second.to);
    second.start().await;
    sql(&second, "INSERT INTO public.life VALUES ('the second, longer')").await;
    let failed = world
        .try_backup(&second, &world.options(&second))
        .await
        .expect_err("WAL of two servers was mixed");
    let engine::Error::Repository(error @ repo::Error::TwoServers { .. }) = failed else {
        panic!("{failed:?}")
    };
    let what = error.to_string();
    assert!(what.contains("two servers claim one identity"), "{what}");
    assert_eq!(world.listed().await.len(), 2);
    world.assert_no_run_is_open().await;
    drop(first);
    let third = world.revive(Major::V15, "third").await;
    let who = "SELECT pg_catalog.string_agg(who, ',') FROM public.life";
    assert_eq!(value(&third, who).await, "the first");
}
