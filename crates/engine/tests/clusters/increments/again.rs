//! Pages that change more than once, and pages that nobody changes any more.

use pgformat::Major;

use crate::{
    ask::sql,
    receiving::write_wal,
    scene::{Depth, Scene, options},
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
