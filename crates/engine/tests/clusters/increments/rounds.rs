//! Rounds of work, each followed by an incremental backup whose every page that was not read is compared: what the map of changes
//! missed fails the test.

use pgformat::Major;
use testkit::clusters::majors_to_test;

use super::workload::{self, Part, after_the_look, before_the_work, each, work};
use crate::{
    ask::{sql, value},
    receiving::promote_alone,
    scene::{Depth, Scene, options},
};

/// What happens to the server in a round, beside its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Also {
    Nothing,
    /// It is killed in the middle of a transaction.
    Crash,
    /// It is restarted with another `wal_level`.
    Level(&'static str),
    /// It goes on, on the next timeline.
    Promotion,
    /// Full pages in WAL are compressed in another way.
    Compression(&'static str),
}

use Also::{Compression, Crash, Level, Nothing, Promotion};

const SEED: u64 = 20_261_121;

/// Everything, in an order in which each kind stands between others.
const ALL: &[(Part, Also)] = &[
    (Part::Rows, Nothing),
    (Part::Databases, Compression("pglz")),
    (Part::Truncation, Nothing),
    (Part::Random(SEED), Compression("lz4")),
    (Part::Aborts, Crash),
    (Part::Hints, Nothing),
    (Part::Rewrites, Level("logical")),
    (Part::Rows, Compression("zstd")),
    (Part::Databases, Nothing),
    (Part::Random(SEED + 1), Promotion),
    (Part::Truncation, Level("replica")),
    (Part::Rows, Crash),
    (Part::Random(SEED + 2), Nothing),
];

/// What other versions than the one of the whole matrix are asked.
const SMOKE: &[(Part, Also)] = &[
    (Part::Databases, Compression("lz4")),
    (Part::Rows, Crash),
    (Part::Random(SEED + 3), Nothing),
];

async fn also(scene: &mut Scene, also: Also) {
    match also {
        Nothing => {}
        Crash => crash(scene).await,
        Level(level) => {
            sql(&scene.cluster, &format!("ALTER SYSTEM SET wal_level = '{level}'")).await;
            scene.cluster.restart().await;
        }
        Promotion => {
            scene.stop_receiving().await;
            promote_alone(&mut scene.cluster).await;
            each(&scene.cluster, "postgres", &["CHECKPOINT"]).await;
            scene.receive().await;
        }
        Compression(kind) => {
            let kind = of_this_build(scene, kind).await;
            println!("full pages are compressed: {kind}");
            sql(&scene.cluster, &format!("ALTER SYSTEM SET wal_compression = '{kind}'")).await;
            sql(&scene.cluster, "SELECT pg_reload_conf()").await;
        }
    }
}

/// Kills the server in the middle of a transaction that has grown a table again which vacuum cut off. Of that growth no WAL was
/// flushed: what is left of it are zeroes, where the backup before has rows.
async fn crash(scene: &mut Scene) {
    // Recovery must not cut it off again.
    let cut_off = [
        "DELETE FROM public.shrunk WHERE id > 500",
        "VACUUM public.shrunk",
        "CHECKPOINT",
    ];
    each(&scene.cluster, "postgres", &cut_off).await;
    let session = scene.cluster.session().await;
    let open = "BEGIN; INSERT INTO public.shrunk SELECT i, repeat('lost', 50) FROM generate_series(5001, 6500) AS i";
    session.execute("begin what will be lost", open).await.unwrap();
    scene.cluster.crash().await;
    scene.cluster.start().await;
    let zeroes = "SELECT pg_relation_size('public.shrunk') / 8192 > (SELECT max((ctid::text::point)[0]) FROM public.shrunk) + 20";
    assert_eq!(
        value(&scene.cluster, zeroes).await,
        "true",
        "nothing was left of the growth"
    );
}

async fn rounds(major: Major, checksums: bool, rounds: &[(Part, Also)]) {
    let mut scene = Scene::begin(major, options(checksums, &["wal_writer_delay = '10s'"])).await;
    workload::begin(&scene.cluster).await;
    let full = scene.world.backup(&scene.cluster).await;
    assert!(full.increment.is_none());
    let mut taken = vec![(full.backup.id, scene.rows().await)];
    let mut round = 0;
    for (part, beside) in rounds {
        if round > 0 {
            before_the_work(&scene.cluster, round).await;
        }
        round += 1;
        work(&scene.cluster, *part, round).await;
        also(&mut scene, *beside).await;
        // A receiver whose server was away comes back in its own time, and a backup waits some seconds for it and no more.
        if matches!(beside, Level(_) | Crash) {
            scene.all_is_here().await;
        }
        let rows = scene.rows().await;
        after_the_look(&scene.cluster, round).await;
        let what = format!("PostgreSQL {major}, checksums {checksums}, round {round}: {part:?}, {beside:?}");
        let (summary, _) = scene.by_wal(100, &what).await;
        taken.push((summary.backup.id, rows));
    }
    before_the_work(&scene.cluster, round).await;
    // The next backup's map of what all see says so of all pages, and no record names the map's page when that ends for some.
    each(&scene.cluster, "postgres", &["VACUUM public.bulk"]).await;
    scene.by_wal(1, "vacuumed").await;
    sql(
        &scene.cluster,
        "UPDATE public.bulk SET id = -id WHERE id BETWEEN 1 AND 300",
    )
    .await;
    let rows = scene.rows().await;
    let (summary, _) = scene.by_wal(1, "little changed").await;
    assert!(
        summary.bytes_read * 2 < summary.backup.bytes,
        "{} of {}",
        summary.bytes_read,
        summary.backup.bytes
    );
    assert!(
        summary.backup.stored * 5 < summary.backup.bytes,
        "{}",
        summary.backup.stored
    );
    scene.brings_back(&summary.backup.id, &rows, Depth::All).await;
    let (id, rows) = &taken[taken.len() / 2];
    scene.brings_back(id, rows, Depth::Rows).await;
    if full_matrix() {
        for (id, rows) in &taken {
            scene.brings_back(id, rows, Depth::All).await;
        }
    }
    scene.stop_receiving().await;
}

pub(crate) fn full_matrix() -> bool {
    std::env::var("LASTGOOD_MATRIX").is_ok_and(|chosen| chosen == "full")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_missed_with_checksums() {
    rounds(Major::V15, true, ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_missed_without_checksums() {
    rounds(Major::V15, false, ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_missed_on_other_versions() {
    for major in majors_to_test() {
        if major == Major::V15 {
            continue;
        }
        if full_matrix() {
            rounds(major, true, ALL).await;
            rounds(major, false, ALL).await;
        } else {
            rounds(major, major == Major::V18, SMOKE).await;
        }
    }
}

/// Before 15 there was one way to compress, and not every build has every library.
async fn of_this_build(scene: &Scene, kind: &'static str) -> &'static str {
    let knows = format!("SELECT '{kind}' = ANY (enumvals) FROM pg_settings WHERE name = 'wal_compression'");
    match value(&scene.cluster, &knows).await.as_str() {
        "true" => kind,
        _ => {
            assert_ne!(scene.cluster.major(), Major::V15, "Debian's has all of them");
            "on"
        }
    }
}
