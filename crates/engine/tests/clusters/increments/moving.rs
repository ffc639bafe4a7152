//! Old packs of which little is used any more are left behind, a little with each backup or all at once.

use std::collections::BTreeSet;

use engine::{
    backup::{ChangesBy, Increment},
    repo::manifest::{Manifest, Needed, ObjectRef},
};
use pgformat::Major;

use crate::{
    ask::sql,
    scene::{Depth, Scene, options},
};

/// Groups of ten pages. A round changes all groups from its own on, and no later one changes that group again: of what it stored, one
/// group stays in use.
async fn change(scene: &Scene, round: u32) {
    let change = format!("UPDATE public.hot SET n = n + 1 WHERE id / 100 % 10 >= {round}");
    sql(&scene.cluster, &change).await;
}

async fn begun() -> Scene {
    let scene = Scene::begin(Major::V15, options(true, &[])).await;
    sql(
        &scene.cluster,
        "CREATE TABLE public.hot (id int, n int, filler text) WITH (fillfactor = 45);
         INSERT INTO public.hot SELECT i, 0, repeat(md5(i::text), 10) FROM generate_series(1, 6000) AS i;
         CREATE TABLE public.cold AS SELECT i, repeat(md5(i::text), 30) AS filler FROM generate_series(1, 16000) AS i",
    )
    .await;
    scene.world.backup(&scene.cluster).await;
    scene
}

/// Each pack that is needed, by the backup whose it is and its number.
pub(crate) fn packs(needed: &Needed) -> BTreeSet<(String, u32)> {
    let name = |source| needed.sources.get(source).unwrap().to_string();
    needed
        .packs
        .iter()
        .map(|pack| (name(pack.source), pack.number))
        .collect()
}

fn is_sparse(pack: &ObjectRef, quarters: u64) -> bool {
    u64::from(pack.used) * 4 < u64::from(pack.holds) * quarters
}

/// The packs of which less than a quarter is used, if all of them together are within the budget of a backup.
fn due(manifest: &Manifest) -> BTreeSet<(String, u32)> {
    let mut needed = manifest.needed.clone();
    needed.packs.retain(|pack| is_sparse(pack, 1));
    let all: u64 = needed.packs.iter().map(|pack| u64::from(pack.used)).sum();
    if all > manifest.facts.totals.pages / 20 {
        needed.packs.clear();
    }
    packs(&needed)
}

async fn increment(scene: &Scene, round: u32) -> (String, Increment) {
    change(scene, round).await;
    let (summary, increment) = scene.by_wal(100, &format!("round {round}")).await;
    (summary.backup.id, increment)
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_of_which_little_is_used_are_left_behind_within_a_twentieth_of_the_database() {
    let mut scene = begun().await;
    let (mut moved, mut left, mut last, mut newest) = (0, 0, BTreeSet::new(), String::new());
    for round in 1..=6 {
        let (id, increment) = increment(&scene, round).await;
        let manifest = scene.manifest(&id).await;
        assert!(increment.moved <= manifest.facts.totals.pages / 20, "{increment:?}");
        let still: Vec<_> = packs(&manifest.needed).intersection(&last).cloned().collect();
        assert!(still.is_empty(), "round {round}: {still:?}");
        left += last.len();
        moved += increment.moved;
        last = due(&manifest);
        newest = id;
    }
    println!("{moved} pages were moved, {left} packs left behind");
    assert!(moved > 50 && left > 2, "{moved} {left}");
    let rows = scene.rows().await;
    scene.brings_back(&newest, &rows, Depth::Rows).await;
    scene.stop_receiving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rebase_a_restore_reads_few_packs() {
    let mut scene = begun().await;
    let mut before = None;
    for round in 1..=4 {
        sql(
            &scene.cluster,
            &format!("UPDATE public.hot SET n = n + 1 WHERE id / 100 % 5 = {round}"),
        )
        .await;
        sql(
            &scene.cluster,
            &format!("UPDATE public.cold SET i = i + 1 WHERE i % 300 = {round}"),
        )
        .await;
        change(&scene, round).await;
        // Hints are set now, and not when the rows are looked at.
        scene.rows().await;
        let (summary, _) = scene.by_wal(1, &format!("round {round}")).await;
        before = Some(scene.manifest(&summary.backup.id).await.needed);
    }
    let before = before.unwrap();
    let rows = scene.rows().await;
    let summary = scene.take(|options| options.rebase = true).await.unwrap();
    let increment = summary.increment.clone().unwrap();
    println!("{increment:?}");
    assert_eq!((increment.by, summary.unsound), (ChangesBy::Wal, None));
    let after = scene.manifest(&summary.backup.id).await.needed;
    let sparse: Vec<_> = after.packs.iter().filter(|pack| is_sparse(pack, 3)).collect();
    assert!(sparse.is_empty(), "{sparse:?}");
    let left: Vec<_> = packs(&before).difference(&packs(&after)).cloned().collect();
    println!(
        "{} packs before, {} after, {left:?} left behind",
        before.packs.len(),
        after.packs.len()
    );
    let sparse = before.packs.iter().filter(|pack| is_sparse(pack, 3)).count();
    // How many there are depends on which of the two workers took what.
    assert!(sparse > 0 && left.len() >= sparse, "{sparse} were sparse");
    // Each of them begins one pack of pages and one of differences at most.
    assert!(after.packs.len() <= before.packs.len() - sparse + 4);
    scene.brings_back(&summary.backup.id, &rows, Depth::Rows).await;
    change(&scene, 7).await;
    scene.by_wal(100, "after a rebase").await;
    scene.stop_receiving().await;
}
