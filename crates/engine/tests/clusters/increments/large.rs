//! A relation of more than one file: changes in both, cut off across the boundary between them and grown again.

use pgformat::Major;

use super::workload::each;
use crate::{
    ask::{sql, value},
    scene::{Depth, Scene, options},
};

/// Pages of a file of a relation, in every build there is a package of.
const SEGMENT: u64 = 131_072;

/// How many pages the table has in each of its files.
async fn lengths(scene: &Scene) -> (u64, u64) {
    let file = value(&scene.cluster, "pg_relation_filepath('public.large')").await;
    let pages = |end: &str| {
        let path = scene.cluster.data_dir().join(format!("{file}{end}"));
        std::fs::metadata(&path).unwrap().len() / 8192
    };
    (pages(""), pages(".1"))
}

/// One row a page: a gigabyte of file takes little WAL and time.
async fn begun() -> Scene {
    // A page that the background writer has in its hands is one that a vacuum does not cut off.
    let lines = ["wal_compression = on", "bgwriter_lru_maxpages = 0"];
    let scene = Scene::begin(Major::V15, options(true, &lines)).await;
    sql(
        &scene.cluster,
        "CREATE TABLE public.large (id int, filler text) WITH (fillfactor = 10);
         INSERT INTO public.large SELECT i, repeat(md5(i::text), 22) FROM generate_series(1, 140000) AS i",
    )
    .await;
    // What all see is marked now, or the next vacuum would change every page.
    each(&scene.cluster, "postgres", &["VACUUM public.large", "CHECKPOINT"]).await;
    assert_eq!(lengths(&scene).await, (SEGMENT, 140_000 - SEGMENT));
    scene
}

async fn increment(scene: &Scene, what: &str, changed: u64) -> String {
    let (summary, increment) = scene.by_wal(1, what).await;
    let pages = summary.backup.bytes / 8192;
    assert!(
        increment.stored >= changed && increment.stored < changed + 1500,
        "{what}: {increment:?}"
    );
    // What changed, one in a hundred of all others, and what of each file is read whole.
    let most = (changed + pages / 50 + 1500) * 8192;
    assert!(summary.bytes_read < most, "{what}: {} of {most}", summary.bytes_read);
    summary.backup.id
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_on_both_sides_of_a_gigabyte_are_all_that_is_read() {
    let mut scene = begun().await;
    scene.world.backup(&scene.cluster).await;

    sql(
        &scene.cluster,
        "UPDATE public.large SET filler = repeat('y', 700) WHERE id % 100 = 1",
    )
    .await;
    let rows = scene.rows().await;
    let both = (increment(&scene, "changes in both files", 1400).await, rows);

    // Nothing is left of the second file, and less of the first.
    let cut_off = [
        "DELETE FROM public.large WHERE id > 128000",
        "VACUUM public.large",
        "CHECKPOINT",
    ];
    each(&scene.cluster, "postgres", &cut_off).await;
    assert_eq!(lengths(&scene).await, (128_000, 0));
    let rows = scene.rows().await;
    let shorter = (increment(&scene, "cut off", 1280).await, rows);

    let grow =
        "INSERT INTO public.large SELECT i, repeat(md5('again' || i), 22) FROM generate_series(128001, 134000) AS i";
    sql(&scene.cluster, grow).await;
    let rows = scene.rows().await;
    let grown = (increment(&scene, "grown again", 6000).await, rows);

    // Cut off and grown again between two backups, to where it was.
    let cut_off = ["DELETE FROM public.large WHERE id > 130000", "VACUUM public.large"];
    each(&scene.cluster, "postgres", &cut_off).await;
    assert_eq!(lengths(&scene).await, (130_000, 0));
    let grow =
        "INSERT INTO public.large SELECT i, repeat(md5('at last' || i), 22) FROM generate_series(130001, 134000) AS i;
                UPDATE public.large SET filler = repeat('z', 700) WHERE id % 200 = 3";
    sql(&scene.cluster, grow).await;
    assert_eq!(lengths(&scene).await, (SEGMENT, 134_000 - SEGMENT));
    let rows = scene.rows().await;
    let last = (
        increment(&scene, "cut off and grown again", 4000 + 650 + 2000).await,
        rows,
    );

    for (id, rows) in [both, shorter, grown, last] {
        scene.brings_back(&id, &rows, Depth::Rows).await;
    }
    scene.stop_receiving().await;
}
