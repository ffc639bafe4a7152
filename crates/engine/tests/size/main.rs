//! Promise 9: a backup takes at most 192 MiB and 32 MiB for each job, whatever the size of the database.
//!
//! The data directories here are made up as they are read: no disk holds three million files or a terabyte for a test.
//! Everything behind them is the product: walk, packer, assembler, table, maps, WAL, manifest, ledger, a repository in
//! a directory. Each measurement has a process of its own, whose high-water mark of resident memory the kernel keeps.
//!
//! `LASTGOOD_FILES` (3,000,000) and `LASTGOOD_APPARENT_GIB` (8; `make soak`: 1024) say how large. Holes are read, hashed,
//! compressed and sealed like anything else: nothing is skipped for them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "helpers of tests"
)]

mod apart;
mod madeup;
mod server;
mod world;

use apart::{Apart, MIB};
use engine::{
    backup::Level,
    list,
    repo::{BackupId, manifest::Manifest},
    verify,
};
use madeup::{Content, MadeUp};
use world::{World, number};

/// Promise 9 of the design.
fn allowed(jobs: usize) -> u64 {
    (192 + 32 * jobs as u64) * MIB
}

/// In one directory, because that is the hardest: a database with a million tables has all their files in one.
///
/// Restoring walks as checking does; it writes in addition, which takes no memory.
#[test]
fn millions_of_files_are_backed_up_listed_and_checked_within_the_promise() {
    let files = number("LASTGOOD_FILES", 3_000_000);
    let apart = Apart::new("millions_of_files_are_backed_up_listed_and_checked_within_the_promise");
    let peak = apart.peak("backup", async |folder| {
        let world = World::new(folder).await;
        let source = MadeUp::files(files, Content::Tiny);
        let backup = world.backup(source, 2, Level::Zstd(3), 0).await.backup;
        assert_eq!(backup.files, files + 1);
    });
    assert!(peak.bytes <= allowed(2), "{peak} to back up {files} files");
    let peak = apart.peak("check", async |folder| checked(folder, files + 1).await);
    assert!(peak.bytes <= allowed(2), "{peak} to check {files} files");
}

/// Packs of pages that compress to almost nothing are mostly directory; a reader keeps many of those at hand.
#[test]
fn a_terabyte_of_holes_is_backed_up_listed_and_checked_within_the_promise() {
    let gibibytes = number("LASTGOOD_APPARENT_GIB", 8);
    let apart = Apart::new("a_terabyte_of_holes_is_backed_up_listed_and_checked_within_the_promise");
    let peak = apart.peak("backup", async |folder| {
        let world = World::new(folder).await;
        let source = MadeUp::segments(gibibytes, Content::Holes);
        let backup = world.backup(source, 2, Level::Zstd(1), 0).await.backup;
        assert_eq!(backup.bytes, (gibibytes << 30) + madeup::VERSION.len() as u64);
    });
    assert!(peak.bytes <= allowed(2), "{peak} to back up {gibibytes} GiB");
    let peak = apart.peak("check", async |folder| checked(folder, gibibytes + 1).await);
    assert!(peak.bytes <= allowed(2), "{peak} to check {gibibytes} GiB");
}

/// What 24 TB of packs come to: no disk of a test has them, so the list is made up.
#[test]
fn a_manifest_that_names_a_million_packs_is_written_and_read_within_the_promise() {
    let apart = Apart::new("a_manifest_that_names_a_million_packs_is_written_and_read_within_the_promise");
    let id = BackupId::new(1_700_000_000_000_000, [1; 6]);
    let peak = apart.peak("write", async |folder| {
        let world = World::new(folder).await;
        let backup = world
            .backup(MadeUp::files(1, Content::Tiny), 1, Level::None, 0)
            .await
            .backup;
        world.commit_with_packs(&backup.id, id, 1_000_000).await;
    });
    assert!(peak.bytes <= allowed(1), "{peak} to write it");
    let peak = apart.peak("read", async |folder| {
        let opened = World::existing(folder).open().await;
        let needed = Manifest::read(&opened.repository, &id, None).await.unwrap().needed;
        assert_eq!(needed.packs.len(), 1_000_000);
    });
    assert!(peak.bytes <= allowed(1), "{peak} to read it");
}

/// Every buffer full at once: pages that do not compress, and a store slower than the readers.
#[test]
fn a_slow_store_makes_packs_wait_within_the_promise() {
    let apart = Apart::new("a_slow_store_makes_packs_wait_within_the_promise");
    for jobs in [1, 2, 8] {
        let peak = apart.peak(&format!("{jobs}-jobs"), async |folder| {
            let folder = folder.join(jobs.to_string());
            std::fs::create_dir(&folder).unwrap();
            let world = World::new(&folder).await;
            let source = MadeUp::file(512 * MIB, Content::Noise);
            world.backup(source, jobs, Level::Zstd(3), 1000).await;
        });
        assert!(peak.bytes <= allowed(jobs), "{peak} with {jobs} jobs");
    }
}

/// A disk that rots everywhere must not take the memory of the host with it, nor be counted as the backup's damage.
#[test]
fn of_a_cluster_damaged_on_every_page_all_is_counted_and_ten_thousand_pages_named() {
    let gibibytes = 1;
    let apart = Apart::new("of_a_cluster_damaged_on_every_page_all_is_counted_and_ten_thousand_pages_named");
    let peak = apart.peak("backup", async |folder| {
        let world = World::new(folder).await;
        let source = MadeUp::segments(gibibytes, Content::Damaged);
        let summary = world.backup(source, 2, Level::Zstd(1), 0).await;
        assert_eq!(summary.page_errors.len(), 10_000);
        assert_eq!(summary.page_errors_total, gibibytes << 17);
        let detail = list::show(&world.context, &world.open().await, &summary.backup.id).await;
        assert_eq!(detail.unwrap().facts.totals.page_errors, gibibytes << 17);
    });
    assert!(peak.bytes <= allowed(2), "{peak} to back it up");
    let peak = apart.peak("check", async |folder| checked(folder, gibibytes + 1).await);
    assert!(peak.bytes <= allowed(2), "{peak} to check it");
}

async fn checked(folder: &std::path::Path, files: u64) {
    let world = World::existing(folder);
    let opened = world.open().await;
    let backups = list::backups(&opened).await;
    assert_eq!((backups.len(), backups[0].files), (1, files));
    list::show(&world.context, &opened, &backups[0].id).await.unwrap();
    let request = verify::Request {
        backup: None,
        level: verify::Level::Pages,
        jobs: 2,
        binaries: None,
        scratch: None,
    };
    let report = verify::run(&world.context, &opened, &request).await.unwrap();
    assert_eq!(report.found, Vec::<String>::new());
    assert_eq!(report.outcome, verify::Outcome::Passed);
    world.plan_restore(&opened).await;
}

/// A made-up directory must not be easier than a real one.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_up_reads_as_a_data_directory_does() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path()).await;
    let source = MadeUp::files(1000, Content::Tiny);
    let summary = world.backup(source, 2, Level::Zstd(3), 0).await;
    assert_eq!((summary.backup.files, summary.page_errors.len()), (1001, 0));
}
