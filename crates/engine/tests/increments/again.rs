//! Pages that change more than once, and pages that nobody changes any more.

use engine::backup::Difference;
use pgformat::Major;

use crate::{
    act::{sql, write_wal},
    scene::{Depth, Scene, options, rests_on_wal},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_a_difference_becomes_one_again_and_is_known_again() {
    let mut scene = Scene::begin(Major::V15, options(true, &[])).await;
    sql(
        &scene.cluster,
        "CREATE TABLE public.hot (id int, n int, filler text) WITH (fillfactor = 45);
         INSERT INTO public.hot SELECT i, 0, repeat(md5(i::text), 10) FROM generate_series(1, 20000) AS i;
         CREATE TABLE public.cold AS SELECT i, repeat(md5(i::text), 30) AS filler FROM generate_series(1, 8000) AS i",
    )
    .await;
    sql(&scene.cluster, "VACUUM FREEZE public.hot").await;
    scene.rows().await;
    scene.world.backup(&scene.cluster).await;
    let mut new_bytes = Vec::new();
    for round in 1..=4 {
        sql(&scene.cluster, "UPDATE public.hot SET n = n + 1 WHERE id % 19 = 0").await;
        scene.rows().await;
        let (summary, increment) = scene.by_wal(0, &format!("round {round}")).await;
        assert!(increment.stored > 1000, "{increment:?}");
        new_bytes.push(summary.backup.stored);
    }
    // What changed in all rounds together is a few bytes of each page; whole, they are ten times that.
    assert!(new_bytes.iter().all(|bytes| *bytes < 150_000), "{new_bytes:?}");

    scene.stop_receiving().await;
    write_wal(&scene.cluster, 20).await;
    sql(&scene.cluster, "SELECT pg_switch_wal()").await;
    write_wal(&scene.cluster, 1).await;
    let rows = scene.rows().await;
    let (summary, _) = scene.by_hashes().await;
    let increment = summary.increment.unwrap();
    assert!(increment.stored < 100, "{increment:?}");
    scene.brings_back(&summary.backup.id, &rows, Depth::All).await;
}

/// Pages that no two of a frame have.
const APART: u32 = 32;

/// Changes a row in each of a hundred pages, and backs up; bytes that were stored.
async fn hundred_changed(scene: &mut Scene, apart: u32, difference: Difference) -> u64 {
    let update = format!(
        "UPDATE public.wide SET n = n + 1 WHERE ctid = ANY \
         (SELECT ('(' || i * {apart} || ',' || (SELECT max((w.ctid::text::point)[1])::int FROM public.wide w \
                   WHERE w.ctid >= ('(' || i * {apart} || ',0)')::tid AND w.ctid < ('(' || i * {apart} + 1 || ',0)')::tid) || ')')::tid \
          FROM generate_series(0, 99) AS i)"
    );
    sql(&scene.cluster, &update).await;
    let rows = scene.rows().await;
    scene.all_is_here().await;
    let summary = scene.take(|options| options.difference = difference).await.unwrap();
    let increment = rests_on_wal(&summary, "a hundred");
    assert!((100..200).contains(&increment.stored), "{increment:?}");
    scene.brings_back(&summary.backup.id, &rows, Depth::Rows).await;
    summary.backup.stored
}

/// For a page that changed alone in its frame all the frame would be opened. Those that are stored whole for it lie together.
#[tokio::test(flavor = "multi_thread")]
async fn pages_that_change_alone_are_stored_whole_and_become_differences_when_they_change_again() {
    let mut scene = Scene::begin(Major::V15, options(true, &[])).await;
    sql(
        &scene.cluster,
        "CREATE TABLE public.wide (n int, filler text) WITH (fillfactor = 40, autovacuum_enabled = off);
         ALTER TABLE public.wide ALTER COLUMN filler SET STORAGE PLAIN;
         INSERT INTO public.wide SELECT 0, string_agg(md5(i::text || '-' || j::text), '')
         FROM generate_series(1, 3200) AS i, generate_series(1, 90) AS j GROUP BY i",
    )
    .await;
    sql(&scene.cluster, "VACUUM FREEZE public.wide").await;
    scene.rows().await;
    scene.world.backup(&scene.cluster).await;

    let always = hundred_changed(&mut scene, APART, Difference::Always).await;
    let together = hundred_changed(&mut scene, 1, Difference::Auto).await;
    let alone = hundred_changed(&mut scene, APART, Difference::Auto).await;
    let again = hundred_changed(&mut scene, APART, Difference::Auto).await;
    println!("always {always}, together {together}, alone {alone}, again {again}");
    assert!(alone > 2 * always.max(together).max(again));
}
