//! Pages that are compared although nothing says that they changed.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use engine::{
    backup::{self, ChangesBy, Summary, Wanted},
    event::Context,
    repo::ledger::{Level, Outcome},
    status,
};
use pgformat::page;

use crate::{
    act::value,
    damaged_parents::verified_to,
    fallbacks::{change, small},
    histories::Waiting,
    scene::{Depth, Scene, rests_on_wal},
    workload::each,
};

const PAGE: usize = 8192;
/// The page that is changed by hand.
const BLOCK: usize = 123;
/// In a page's header: `pd_checksum`, and the first line pointer.
const CHECKSUM: std::ops::Range<usize> = 8..10;
const POINTER: std::ops::Range<usize> = 24..28;
/// The high byte of a tuple's `t_infomask`.
const INFOMASK_HIGH: usize = 21;

/// The table's file, from the data directory.
async fn path(scene: &Scene) -> String {
    value(&scene.cluster, "pg_relation_filepath('public.bulk')").await
}

/// Changes a page of the table while the server is down; `change` is given the page and where its first tuple begins and ends. A
/// checksum that there was is made to fit.
async fn by_hand(scene: &mut Scene, change: impl Fn(&mut [u8], usize, usize)) {
    let path = path(scene).await;
    scene.cluster.stop().await;
    let file: PathBuf = scene.cluster.data_dir().join(path);
    let mut bytes = fs::read(&file).unwrap();
    let page = &mut bytes[BLOCK * PAGE..(BLOCK + 1) * PAGE];
    let pointer = u32::from_le_bytes(page[POINTER].try_into().unwrap());
    let (begin, length) = ((pointer & 0x7FFF) as usize, (pointer >> 17) as usize);
    change(page, begin, begin + length);
    if page[CHECKSUM] != [0, 0] {
        let fits = page::checksum(page, BLOCK as u32).unwrap();
        page[CHECKSUM].copy_from_slice(&fits.to_le_bytes());
    }
    fs::write(&file, bytes).unwrap();
    scene.cluster.start().await;
    scene.all_is_here().await;
}

/// A server with a backup, every tuple of whose table has its hints already.
async fn begun(checksums: bool) -> Scene {
    let scene = small(checksums, &[]).await;
    scene.rows().await;
    scene.world.backup(&scene.cluster).await;
    change(&scene, 1).await;
    scene.by_wal(100, "before anything is changed by hand").await;
    scene
}

async fn a_page_changed_by_hand_is_found(checksums: bool) {
    let mut scene = begun(checksums).await;
    by_hand(&mut scene, |page, _, end| page[end - 1] = b'z').await;
    change(&scene, 2).await;
    let rows = scene.rows().await;
    let summary = scene
        .take(|options| {
            options.wanted = Wanted::Incremental;
            options.audit = 100;
        })
        .await
        .unwrap();
    let unsound = summary.unsound.expect("it was to be found");
    let (path, what) = (path(&scene).await, format!("block {BLOCK} of "));
    assert!(unsound.contains(&what) && unsound.contains(&path), "{unsound}");
    let increment = summary.increment.unwrap();
    assert_eq!((increment.by, increment.kept), (ChangesBy::Hashes, 0));
    assert!(increment.stored < 1000, "{increment:?}");
    assert!(increment.why.unwrap().contains(&what));
    let alerts = scene.alerts().await;
    assert_eq!(alerts, ["map-unsound"]);
    assert!(scene.warnings().iter().any(|(code, _)| code == "map-unsound"));
    let z = "SELECT count(*) FROM public.bulk WHERE filler LIKE '%z'";
    assert_eq!(value(&scene.cluster, z).await, "1");
    scene.brings_back(&summary.backup.id, &rows, Depth::Rows).await;
    // What was found is in the backup now: the next one rests on the WAL.
    change(&scene, 3).await;
    scene.by_wal(100, "after what was found").await;
    scene.stop_receiving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_changed_behind_the_servers_back_is_found_and_taken() {
    a_page_changed_by_hand_is_found(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_page_whose_checksum_fits_is_found_and_taken() {
    a_page_changed_by_hand_is_found(true).await;
}

/// How the database stands, and why.
async fn stands(scene: &Scene) -> (status::State, Vec<String>) {
    let opened = scene.world.open().await;
    let status = status::of(&scene.world.context, &opened, None).await.unwrap();
    (status.state, status.because)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finding_is_told_of_until_a_backup_since_then_was_restored() {
    let mut scene = begun(false).await;
    let mut found = Vec::new();
    for byte in [b'y', b'z'] {
        by_hand(&mut scene, |page, _, end| page[end - 1] = byte).await;
        let summary = scene.take(|options| options.audit = 100).await.unwrap();
        assert!(summary.unsound.is_some());
        assert_eq!(scene.alerts().await, ["map-unsound"]);
        found.push(summary.backup.id);
    }
    // Of what was found after it a backup says nothing, and who restored none of it neither.
    assert_eq!(verified_to(&scene, &found[0], Level::Restore).await, Outcome::Passed);
    assert_eq!(verified_to(&scene, &found[1], Level::Pages).await, Outcome::Passed);
    let (state, because) = stands(&scene).await;
    assert_eq!(state, status::State::AtRisk);
    assert!(
        because.iter().any(|why| why.starts_with("alert map-unsound")),
        "{because:?}"
    );
    assert_eq!(verified_to(&scene, &found[1], Level::Restore).await, Outcome::Passed);
    assert_eq!(scene.alerts().await, Vec::<String>::new());
    assert_eq!(stands(&scene).await, (status::State::Proven, Vec::new()));
    scene.stop_receiving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_are_no_finding() {
    for checksums in [false, true] {
        let mut scene = begun(checksums).await;
        // `HEAP_XMIN_COMMITTED`, which any reader sets again.
        by_hand(&mut scene, |page, begin, _| page[begin + INFOMASK_HIGH] ^= 0x01).await;
        change(&scene, 2).await;
        let rows = scene.rows().await;
        let (summary, _) = scene.by_wal(100, "after hints were changed").await;
        assert_eq!(scene.alerts().await, Vec::<String>::new());
        scene.brings_back(&summary.backup.id, &rows, Depth::Rows).await;
        scene.stop_receiving().await;
    }
}

/// An incremental backup in whose middle the table is vacuumed.
async fn vacuumed_in_its_middle(scene: &Scene, rebase: bool) -> Summary {
    let (begun, middle) = async_channel::bounded(1);
    let (go, go_on) = std::sync::mpsc::channel();
    let context = Context {
        observer: Arc::new(Waiting {
            begun,
            go_on: Mutex::new(go_on),
        }),
        ..scene.world.context.clone()
    };
    let mut options = scene.world.options(&scene.cluster);
    (options.wanted, options.audit, options.jobs) = (Wanted::Incremental, 100, 1);
    options.rebase = rebase;
    let (opened, conninfo) = (scene.world.open().await, scene.cluster.conninfo());
    // A task of its own: it stands still in the middle.
    let taken = tokio::spawn(async move { backup::run(&context, &opened, &conninfo, &options).await });
    middle.recv().await.unwrap();
    each(&scene.cluster, "postgres", &["VACUUM public.bulk", "CHECKPOINT"]).await;
    drop(go);
    let summary = taken.await.unwrap().unwrap();
    scene.adds_up(&summary).await;
    summary
}

/// Where hints are not logged, a page is marked as all visible without a new LSN, so it looks as if it was so before the backup began.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_vacuum_during_a_backup_is_no_finding() {
    let mut scene = begun(false).await;
    let summary = vacuumed_in_its_middle(&scene, false).await;
    let increment = rests_on_wal(&summary, "vacuumed in its middle");
    assert!(
        increment.stored > 500,
        "nothing was marked in its middle: {increment:?}"
    );
    assert_eq!(scene.alerts().await, Vec::<String>::new());
    let rows = scene.rows().await;
    scene.brings_back(&summary.backup.id, &rows, Depth::All).await;
    scene.stop_receiving().await;
}

/// What is stored anew for its pack's sake is told apart from what was marked meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_page_that_a_vacuum_marks_during_a_rebase_is_one_that_changed() {
    let mut scene = small(false, &[]).await;
    each(
        &scene.cluster,
        "postgres",
        &["CREATE TABLE public.gone AS SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 40000) AS i"],
    )
    .await;
    scene.rows().await;
    // All in one pack, of which the next backup uses less than half.
    scene.take(|options| options.jobs = 1).await.unwrap();
    each(&scene.cluster, "postgres", &["DROP TABLE public.gone"]).await;
    scene.by_wal(1, "after a table was dropped").await;
    let summary = vacuumed_in_its_middle(&scene, true).await;
    let increment = summary.increment.clone().unwrap();
    assert_eq!((increment.by, &summary.unsound), (ChangesBy::Wal, &None));
    assert!(increment.stored > 500 && increment.moved > 500, "{increment:?}");
    assert_eq!(scene.alerts().await, Vec::<String>::new());
    let rows = scene.rows().await;
    scene.brings_back(&summary.backup.id, &rows, Depth::All).await;
    scene.stop_receiving().await;
}

/// The disk rots, and the parent has the page whole: then the next backup has it whole too, and the one after that.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_rots_on_the_servers_disk_stays_as_the_parent_has_it() {
    let mut scene = small(true, &[]).await;
    let rows = scene.rows().await;
    scene.world.backup(&scene.cluster).await;
    let path = path(&scene).await;
    scene.cluster.stop().await;
    let file = scene.cluster.data_dir().join(&path);
    let mut bytes = fs::read(&file).unwrap();
    bytes[BLOCK * PAGE + PAGE - 100] ^= 1;
    fs::write(&file, bytes).unwrap();
    scene.cluster.start().await;
    for _ in 0..2 {
        scene.all_is_here().await;
        let (summary, _) = scene.by_wal(100, "rotten").await;
        // Told as what it is: damage of the server's disk, and none of the backup.
        assert_eq!((summary.page_errors.len(), summary.page_errors_total), (0, 0));
        assert_eq!(summary.rotten_pages, [format!("{path} block {BLOCK}")]);
        assert_eq!(summary.rotten_pages_total, 1);
        let facts = scene.manifest(&summary.backup.id).await.facts;
        assert_eq!((facts.totals.page_errors, facts.page_errors.len()), (0, 0));
        scene.brings_back(&summary.backup.id, &rows, Depth::Rows).await;
    }
    scene.stop_receiving().await;
}
