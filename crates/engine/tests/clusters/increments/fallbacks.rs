//! Where the WAL does not tell all that changed, every page is read and compared, and it is said why.

use std::process::Command;

use engine::{Error, backup::Wanted};
use pgformat::Major;
use testkit::clusters::{Options, give_to_server_user};

use super::workload::each;
use crate::{
    ask::sql,
    receiving::write_wal,
    scene::{Depth, Scene, options},
};

/// Rows enough that something is kept, and few enough that it takes no time.
pub(crate) async fn small(checksums: bool, lines: &[&str]) -> Scene {
    small_on(options(checksums, lines)).await
}

pub(crate) async fn small_on(options: Options) -> Scene {
    let scene = Scene::begin(Major::V15, options).await;
    sql(
        &scene.cluster,
        "CREATE TABLE public.bulk AS SELECT i AS id, repeat(md5(i::text), 30) AS filler FROM generate_series(1, 8000) AS i",
    )
    .await;
    scene
}

/// Changes some rows of the table.
pub(crate) async fn change(scene: &Scene, number: u32) {
    let change = format!("UPDATE public.bulk SET filler = md5('{number}') WHERE id % 200 = {number}");
    sql(&scene.cluster, &change).await;
}

/// The next backup reads every page for a reason that has these words in it, and brings back what was there; the one after it
/// rests on the WAL again.
pub(crate) async fn falls_back(scene: &mut Scene, words: &str) {
    let rows = scene.rows().await;
    let (summary, why) = scene.by_hashes().await;
    assert!(why.contains(words), "{why}");
    let said = scene.warnings();
    assert!(
        said.iter()
            .any(|(code, what)| code == "all-pages-read" && what.contains(words)),
        "{said:?}"
    );
    assert_eq!(scene.alerts().await, Vec::<String>::new());
    scene.brings_back(&summary.backup.id, &rows, Depth::Rows).await;
    if scene.receiving.is_none() {
        scene.receive().await;
    }
    change(scene, 150).await;
    scene.by_wal(100, "after it").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_in_the_wal_is_no_ground_to_take_a_page_unread() {
    let mut scene = small(true, &[]).await;
    scene.world.backup(&scene.cluster).await;
    change(&scene, 1).await;
    scene.by_wal(100, "before the gap").await;
    scene.stop_receiving().await;
    change(&scene, 2).await;
    write_wal(&scene.cluster, 20).await;
    sql(&scene.cluster, "SELECT pg_switch_wal()").await;
    write_wal(&scene.cluster, 1).await;
    falls_back(&mut scene, "is not in the repository").await;
    scene.stop_receiving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checksums_switched_on_change_pages_of_which_no_wal_tells() {
    let mut scene = small(false, &[]).await;
    scene.world.backup(&scene.cluster).await;
    scene.cluster.stop().await;
    let mut command = Command::new(scene.cluster.binaries().program("pg_checksums"));
    let done = command
        .args(["--enable", "-D"])
        .arg(scene.cluster.data_dir())
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    give_to_server_user(scene.cluster.data_dir());
    scene.cluster.start().await;
    change(&scene, 1).await;
    scene.all_is_here().await;
    let full = scene
        .take(|options| options.wanted = Wanted::Incremental)
        .await
        .unwrap();
    let increment = full.increment.unwrap();
    assert_eq!(
        increment.why.as_deref(),
        Some("page checksums were switched on or off since")
    );
    assert_eq!(increment.kept, 0);
    let rows = scene.rows().await;
    scene.brings_back(&full.backup.id, &rows, Depth::All).await;
    change(&scene, 2).await;
    scene.by_wal(100, "after it").await;
    scene.stop_receiving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_with_minimal_wal_is_read() {
    let mut scene = small(true, &["max_wal_senders = 10"]).await;
    scene.world.backup(&scene.cluster).await;
    scene.stop_receiving().await;
    let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots";
    sql(&scene.cluster, drop).await;
    each(
        &scene.cluster,
        "postgres",
        &[
            "ALTER SYSTEM SET wal_level = 'minimal'",
            "ALTER SYSTEM SET max_wal_senders = 0",
        ],
    )
    .await;
    scene.cluster.restart().await;
    // Its rows are in no WAL: they are flushed at the commit.
    sql(
        &scene.cluster,
        "BEGIN; TRUNCATE public.bulk; INSERT INTO public.bulk SELECT i, repeat(md5('m' || i), 30) FROM generate_series(1, 8000) AS i; COMMIT",
    )
    .await;
    each(
        &scene.cluster,
        "postgres",
        &["ALTER SYSTEM RESET wal_level", "ALTER SYSTEM RESET max_wal_senders"],
    )
    .await;
    scene.cluster.restart().await;
    scene.receive().await;
    falls_back(&mut scene, "wal_level is minimal").await;
    scene.stop_receiving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_nothing_to_build_on_the_backup_is_full_or_refused() {
    let mut scene = small(true, &[]).await;
    let refused = scene.take(|options| options.wanted = Wanted::Incremental).await;
    let Err(Error::Refused { code, what, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(code, "no-parent");
    assert!(what.contains("it is the first"), "{what}");
    let full = scene.take(|_| {}).await.unwrap();
    assert_eq!(full.full_because.as_deref(), Some("it is the first"));
    let asked = scene.take(|options| options.wanted = Wanted::Full).await.unwrap();
    assert_eq!(asked.full_because.as_deref(), Some("it was asked for"));
    assert_eq!(asked.increment, None);

    // A manifest that cannot be read: the backup before it is built on, by the WAL since that one.
    change(&scene, 1).await;
    let repository = scene.world.target("repository/shop");
    let manifest = |id: &str| repository.join("backups").join(id).join("manifest");
    flip(&manifest(&asked.backup.id), |length| length / 2);
    let rows = scene.rows().await;
    let (summary, _) = scene.by_wal(100, "over an unreadable one").await;
    let facts = scene.manifest(&summary.backup.id).await.facts;
    assert_eq!(facts.parent.unwrap().to_string(), full.backup.id);
    scene.brings_back(&summary.backup.id, &rows, Depth::Rows).await;
    let said = scene.warnings();
    assert!(said.iter().any(|(code, _)| code == "backup-unsound"), "{said:?}");

    // None can be read.
    flip(&manifest(&full.backup.id), |length| length / 2);
    flip(&manifest(&summary.backup.id), |length| length / 2);
    let anew = scene.take(|_| {}).await.unwrap();
    let why = anew.full_because.unwrap();
    assert!(
        why.contains(&summary.backup.id) && why.contains("is not built on"),
        "{why}"
    );
    assert_eq!(anew.increment, None);
    scene.stop_receiving().await;
}

/// Flips a bit of a file, where `at` says of its length.
pub(crate) fn flip(path: &std::path::Path, at: impl Fn(usize) -> usize) {
    let mut bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let at = at(bytes.len());
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// A byte of the first frame of an object however small: frames begin at 80, none has less than the 16 bytes of its tag
/// (FORMAT.md, section 3). What two workers make of a small cluster may leave one of them a pack of some 200 bytes.
pub(crate) fn in_a_frame(_length: usize) -> usize {
    90
}

/// A byte of the tag of an object's directory, which stands before the 64 bytes of the trailer.
pub(crate) fn in_the_directory(length: usize) -> usize {
    length - 70
}
