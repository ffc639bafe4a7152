//! Pages that are compared although nothing says that they changed.

use std::{fs, path::PathBuf};

use engine::{
    backup::{self, ChangesBy, Summary, Wanted},
    event::Event,
    repo::ledger::{Level, Outcome},
    restore::At,
    status,
};
use pgformat::page;

use super::{
    damaged_parents::{packs, verified_to},
    fallbacks::{change, flip, in_a_frame, small},
    workload::each,
};
use crate::{
    ask::{sql, until, value},
    halfway::{copying, halfway, stands_still},
    scene::{Depth, Scene, is_whole, rests_on_wal, stop_and_forget},
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
    assert!(increment.why.unwrap().contains("`map-unsound`"));
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

/// The next backup reads every page and brings back the page that was changed by hand.
async fn every_page_is_read(scene: &mut Scene) -> Summary {
    let rows = scene.rows().await;
    let (summary, why) = scene.by_hashes().await;
    assert!(why.contains("`map-unsound`"), "{why}");
    scene.brings_back(&summary.backup.id, &rows, Depth::Rows).await;
    summary
}

/// What it had of other pages is in doubt, whoever looks at it next and whenever.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_backup_of_before_a_finding_none_is_built_by_wal_any_more() {
    let mut scene = begun(false).await;
    by_hand(&mut scene, |page, _, end| page[end - 1] = b'z').await;
    let (context, there, go) = halfway(
        &scene.world.context,
        |event| matches!(event, Event::Warning(warning) if warning.code == "map-unsound"),
    );
    let mut options = scene.world.options(&scene.cluster);
    options.audit = 100;
    let (opened, conninfo) = (scene.world.open().await, scene.cluster.conninfo());
    let cut_off = tokio::spawn(async move { backup::run(&context, &opened, &conninfo, &options).await });
    stands_still(&there).await;
    cut_off.abort();
    drop(go);
    assert!(cut_off.await.unwrap_err().is_cancelled());
    assert_eq!(scene.alerts().await, ["map-unsound"]);
    let anew = every_page_is_read(&mut scene).await;

    // Also when it is known that there is a good one since, and that is lost.
    assert_eq!(
        verified_to(&scene, &anew.backup.id, Level::Restore).await,
        Outcome::Passed
    );
    assert_eq!(scene.alerts().await, Vec::<String>::new());
    for pack in packs(&scene, &anew.backup.id) {
        flip(&pack, in_a_frame);
    }
    assert_eq!(
        verified_to(&scene, &anew.backup.id, Level::Pages).await,
        Outcome::Failed
    );
    every_page_is_read(&mut scene).await;
    change(&scene, 4).await;
    scene.by_wal(100, "since then").await;
    scene.stop_receiving().await;
}

/// These are built without WAL, which comes at the end and has all of their pages.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_in_the_making_is_no_finding() {
    let mut scene = begun(true).await;
    sql(
        &scene.cluster,
        "CREATE FUNCTION public.held(int) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN
            IF $1 IN (3000, 6000) THEN PERFORM pg_catalog.pg_advisory_xact_lock_shared($1); END IF;
            RETURN pg_catalog.md5($1::text) || $1; END'",
    )
    .await;
    let holder = scene.cluster.session().await;
    let hold = "SELECT pg_advisory_lock(3000), pg_advisory_lock(6000)";
    holder.execute("hold", hold).await.unwrap();
    let builder = scene.cluster.session().await;
    let build = builder.execute(
        "build",
        "CREATE INDEX bulk_held ON public.bulk USING spgist (public.held(id))",
    );
    let waits = async |row: &str| {
        let waits =
            format!("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = {row}");
        until("the index is being built", async || {
            value(&scene.cluster, &waits).await == "1"
        })
        .await;
    };
    let taken = async {
        waits("3000").await;
        scene.by_wal(100, "while the index is built").await;
        let go_on = "SELECT pg_advisory_unlock(3000)";
        holder.execute("go on", go_on).await.unwrap();
        waits("6000").await;
        let (child, _) = scene.by_wal(100, "further on").await;
        let let_go = "SELECT pg_advisory_unlock(6000)";
        holder.execute("let go", let_go).await.unwrap();
        child
    };
    let (built, child) = futures::join!(build, taken);
    built.unwrap();
    assert_eq!(scene.alerts().await, Vec::<String>::new());
    let rows = scene.rows().await;
    scene.all_is_here().await;
    // At its own end there is no index yet.
    scene.brings_back(&child.backup.id, &rows, Depth::All).await;
    let server = scene.revive_at(At::Latest).await;
    is_whole(&server, "with the index").await;
    stop_and_forget(server).await;
    let (after, _) = scene.by_wal(100, "after the index").await;
    scene.brings_back(&after.backup.id, &rows, Depth::All).await;
    for session in [holder, builder] {
        session.close().await;
    }
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
    let (context, there, go) = halfway(&scene.world.context, copying);
    let mut options = scene.world.options(&scene.cluster);
    (options.wanted, options.audit, options.jobs) = (Wanted::Incremental, 100, 1);
    options.rebase = rebase;
    let (opened, conninfo) = (scene.world.open().await, scene.cluster.conninfo());
    // A task of its own: it stands still in the middle.
    let taken = tokio::spawn(async move { backup::run(&context, &opened, &conninfo, &options).await });
    stands_still(&there).await;
    each(&scene.cluster, "postgres", &["VACUUM public.bulk", "CHECKPOINT"]).await;
    drop(go);
    let summary = taken.await.unwrap().unwrap();
    scene.adds_up(&summary).await;
    summary
}

/// Where hints are not logged, a page is marked as all visible without a new LSN, so it looks as if it was so before the backup began.
#[tokio::test(flavor = "multi_thread")]
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
#[tokio::test(flavor = "multi_thread")]
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
