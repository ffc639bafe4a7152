//! Very many increments of random change: old packs fall out of use, and what a restore fetches does not grow with their number.

use std::collections::BTreeSet;

use engine::{
    backup::Wanted,
    repo::manifest::Needed,
    restore::{At, Restored},
};
use pgformat::Major;

use super::{moving::packs, rounds::full_matrix};
use crate::{
    ask::sql,
    scene::{Depth, Scene, options},
};

/// How many times what a fresh full backup takes may be fetched: what a page was, and what it became since. Each frame is fetched
/// once, though a page that changed by chance lies in any of some twenty packs.
const MOST: u64 = 3;
/// Eight rows a page, 6000 pages.
const ROWS: u32 = 48_000;

/// Changes a row on each of a tenth of the pages, other pages in each round.
async fn change(scene: &Scene, round: u32) {
    let change = format!(
        "UPDATE public.hot SET n = n + 1, filler = (SELECT string_agg(md5(id || ' {round} ' || k), '') FROM generate_series(1, 12) AS k)
          WHERE id % 8 = {round} % 8 AND abs(hashint8extended(id / 8, {round}) % 10) = 0"
    );
    sql(&scene.cluster, &change).await;
}

async fn begun() -> Scene {
    let scene = Scene::begin(Major::V15, options(true, &[])).await;
    sql(
        &scene.cluster,
        &format!(
            "CREATE TABLE public.hot (id int, n int, filler text) WITH (fillfactor = 50);
             INSERT INTO public.hot SELECT i, 0, (SELECT string_agg(md5(i || ' ' || k), '') FROM generate_series(1, 12) AS k) FROM generate_series(1, {ROWS}) AS i"
        ),
    )
    .await;
    scene.rows().await;
    scene
}

/// What a restore of that backup fetches.
async fn restored(scene: &Scene, id: &str) -> Restored {
    let mut request = scene.world.request("weighed");
    request.at = At::Backup(id.to_owned());
    let restored = scene.world.restore(&request).await;
    std::fs::remove_dir_all(&request.to).unwrap();
    restored
}

fn sources(needed: &Needed) -> BTreeSet<String> {
    packs(needed).into_iter().map(|(source, _)| source).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_many_increments_of_random_change_few_packs_are_needed_and_old_ones_are_dead() {
    let count = if full_matrix() { 100 } else { 25 };
    let mut scene = begun().await;
    let full = scene.world.backup(&scene.cluster).await.backup.id;
    let (mut last, mut all) = (full.clone(), packs(&scene.manifest(&full).await.needed));
    for round in 1..=count {
        change(&scene, round).await;
        let (summary, increment) = scene.by_wal(1, &format!("increment {round}")).await;
        assert!(increment.stored > 500 && increment.stored < 1500, "{increment:?}");
        last = summary.backup.id;
        all.extend(packs(&scene.manifest(&last).await.needed));
    }
    let rows = scene.rows().await;
    let needed = scene.manifest(&last).await.needed;
    let used = packs(&needed);
    let fresh = scene
        .take(|options| options.wanted = Wanted::Full)
        .await
        .unwrap()
        .backup
        .id;
    let held: u64 = needed.packs.iter().map(|pack| u64::from(pack.size)).sum();
    let (after_all, afresh) = (restored(&scene, &last).await, restored(&scene, &fresh).await);
    println!(
        "{} of {} packs are used, of {} backups: {held} bytes; {} bytes fetched, {} afresh",
        used.len(),
        all.len(),
        sources(&needed).len(),
        after_all.bytes_fetched,
        afresh.bytes_fetched,
    );
    assert!(afresh.bytes_fetched > 8 << 20, "{}", afresh.bytes_fetched);
    assert!(
        held < 3 * afresh.bytes_fetched,
        "{held} bytes in packs that are needed, {} afresh",
        afresh.bytes_fetched
    );
    assert!(sources(&needed).len() < 20, "{:?}", sources(&needed));
    assert!(
        after_all.bytes_fetched < MOST * afresh.bytes_fetched,
        "{} bytes fetched, {} afresh",
        after_all.bytes_fetched,
        afresh.bytes_fetched
    );
    // What was stored first goes too, but for what never changed.
    let dead: Vec<_> = all.difference(&used).collect();
    assert!(dead.len() > used.len(), "{dead:?}");
    scene.brings_back(&last, &rows, Depth::All).await;
    scene.stop_receiving().await;
}
