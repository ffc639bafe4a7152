//! Full disks: wherever the room ends, the error says so, nothing is listed, and with room the next run works.
//!
//! A small file system needs the right to mount one: these tests must be run as root, and say so.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use engine::{Error, event::Event, repo, restore};
use pgformat::Major;
use testkit::clusters::{TestCluster, give_to_server_user};

use super::act::{files_below, refusal};
use crate::{
    ask::sql,
    world::{World, durable},
};

/// A file system in memory that holds so much and no more, for as long as this lives.
pub(crate) struct SmallDisk {
    path: PathBuf,
    /// The folder that was made for it.
    _folder: Option<tempfile::TempDir>,
}

impl SmallDisk {
    fn new(kibibytes: u64) -> SmallDisk {
        let folder = tempfile::Builder::new().prefix("lg-small-").tempdir().unwrap();
        SmallDisk::mounted(folder.path().into(), Some(folder), kibibytes)
    }

    /// Mounted at a directory that is there.
    pub(crate) fn at(path: &Path, kibibytes: u64) -> SmallDisk {
        SmallDisk::mounted(path.into(), None, kibibytes)
    }

    fn mounted(path: PathBuf, folder: Option<tempfile::TempDir>, kibibytes: u64) -> SmallDisk {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test mounts a small file system, for which it must be root: run `make test` as root, as CI does"
        );
        let disk = SmallDisk { path, _folder: folder };
        disk.mount(&[&format!("size={kibibytes}k"), "mode=0755"]);
        disk
    }

    pub(crate) fn resize(&self, kibibytes: u64) {
        self.mount(&["remount", &format!("size={kibibytes}k")]);
    }

    fn mount(&self, options: &[&str]) {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options.join(","), "tmpfs"])
            .arg(self.path())
            .status()
            .unwrap();
        assert!(mounted.success(), "the small file system cannot be mounted");
    }

    fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn used_kibibytes(&self) -> u64 {
        let room = rustix::fs::statvfs(self.path()).unwrap();
        (room.f_blocks - room.f_bfree) * room.f_frsize / 1024
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a job that was cut off may still hold a file.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

/// Whether some cause says that there is no room.
fn says_full(error: &Error) -> bool {
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        let text = error.to_string().to_lowercase();
        if text.contains("no space left") || text.contains("storage full") {
            return true;
        }
        next = error.source();
    }
    false
}

/// A small cluster whose WAL during a backup is of a size that the test knows about.
async fn source() -> TestCluster {
    let source = TestCluster::new(Major::V15, durable()).await;
    sql(
        &source,
        "CREATE TABLE public.noise AS SELECT i, pg_catalog.md5(i::text) || pg_catalog.md5((i * 7)::text) AS word
           FROM pg_catalog.generate_series(1, 20000) AS i",
    )
    .await;
    source
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_fills_up_anywhere_fails_the_backup_and_recovers_with_room() {
    let source = source().await;
    // How much the whole takes, to know where its ends are.
    let disk = SmallDisk::new(256 << 10);
    let measured = World::with_repository(Some(disk.path().join("repository"))).await;
    let empty = disk.used_kibibytes();
    measured.backup(&source).await;
    let whole = disk.used_kibibytes() - empty;
    drop(measured);
    drop(disk);

    // From nothing (the ledger's own entry) to all but the last objects: file table, manifest, commit.
    let mut kibibytes: Vec<u64> = vec![0, 4, 8, whole / 3, whole * 2 / 3];
    kibibytes.extend((0..=48).step_by(4).map(|less| whole.saturating_sub(less)));
    let mut objects = Vec::new();
    for room in kibibytes {
        let disk = SmallDisk::new(256 << 10);
        let world = World::with_repository(Some(disk.path().join("repository"))).await;
        disk.resize(disk.used_kibibytes() + room);
        match world.try_backup(&source, &world.options(&source)).await {
            Ok(_) => assert!(room + 64 >= whole, "{room} of {whole} KiB were enough"),
            Err(error) => {
                assert!(says_full(&error), "{room} of {whole} KiB: {error:?}");
                let hint = error.hint().unwrap_or_else(|| panic!("{room} of {whole} KiB: no hint"));
                assert!(hint.contains("space") || hint.contains("room"), "{hint}");
                objects.push(filled_at(&error));
                disk.resize(256 << 10);
                assert_eq!(world.listed().await, Vec::<String>::new(), "{room} of {whole} KiB");
            }
        }
        disk.resize(256 << 10);
        let before = world.listed().await.len();
        world.backup(&source).await;
        assert_eq!(world.listed().await.len(), before + 1, "{room} of {whole} KiB");
    }
    objects.push(fills_up_with_wal(&source).await);
    objects.push(fills_up_at_the_manifest(&source).await);
    for kind in ["packs", "wal", "backups", "ledger"] {
        assert!(
            objects.iter().any(|name| name == kind),
            "no try filled up at {kind}: {objects:?}"
        );
    }
}

/// The kind of object that there was no room for.
fn filled_at(error: &Error) -> String {
    match error {
        Error::Repository(repo::Error::Store { name, .. }) => name.split('/').next().unwrap_or(name).into(),
        Error::Failed {
            code: "outcome-unknown",
            ..
        } => "ledger".into(),
        other => panic!("{other:?}"),
    }
}

/// WAL is stored while files are still being read: much of it, and little room.
async fn fills_up_with_wal(source: &TestCluster) -> String {
    let disk = SmallDisk::new(256 << 10);
    let world = World::with_repository(Some(disk.path().join("repository"))).await;
    disk.resize(disk.used_kibibytes() + 512);
    let options = engine::backup::Options {
        max_rate: Some(3 << 20),
        ..world.options(source)
    };
    let write = sql(
        source,
        "CREATE TABLE public.late AS SELECT pg_catalog.gen_random_uuid() AS id FROM pg_catalog.generate_series(1, 150000);
         DROP TABLE public.late",
    );
    let error = world
        .backup_while(&source.conninfo(), &options, write)
        .await
        .unwrap_err();
    assert!(says_full(&error), "{error:?}");
    disk.resize(256 << 10);
    assert_eq!(world.listed().await, Vec::<String>::new());
    world.assert_no_run_is_open().await;
    world.backup(source).await;
    filled_at(&error)
}

/// Everything is stored but the manifest: exactly then the last room goes.
async fn fills_up_at_the_manifest(source: &TestCluster) -> String {
    let disk = std::sync::Arc::new(SmallDisk::new(256 << 10));
    let world = World::with_repository(Some(disk.path().join("repository"))).await;
    let small = disk.clone();
    let context = world.watching(move |event| {
        if matches!(event, Event::Step { step: "commit", .. }) {
            small.resize(small.used_kibibytes());
        }
    });
    let opened = world.open().await;
    let (conninfo, options) = (source.conninfo(), world.options(source));
    let backup = engine::backup::run(&context, &opened, &conninfo, &options);
    let error = backup.await.unwrap_err();
    assert!(says_full(&error), "{error:?}");
    disk.resize(256 << 10);
    assert_eq!(world.listed().await, Vec::<String>::new());
    world.backup(source).await;
    filled_at(&error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_with_too_little_room_is_refused_with_both_numbers() {
    let source = source().await;
    let world = World::new().await;
    world.backup(&source).await;
    let disk = SmallDisk::new(32 << 10);
    let opened = world.open().await;
    let mut request = world.request("unused");
    request.to = disk.path().join("data");
    let (code, what, hint) = refusal(restore::plan(&world.context, &opened, &request).await.unwrap_err());
    assert_eq!(code, "no-room");
    assert!(what.contains(&disk.path().display().to_string()), "{what}");
    assert!(hint.contains("room"), "{hint}");
    assert!(files_below(disk.path()).is_empty());
}

/// There was room when it was asked for; somebody else took it.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_fills_up_during_the_restore_is_empty_again_afterwards() {
    let source = source().await;
    let world = World::new().await;
    let kibibytes = world.backup(&source).await.backup.bytes >> 10;
    for (existed, left) in [(false, 2 << 10), (true, kibibytes / 2), (true, kibibytes - 64)] {
        let disk = SmallDisk::new(256 << 10);
        let mut request = world.request("unused");
        request.to = disk.path().join("data");
        if existed {
            fs::create_dir(&request.to).unwrap();
            give_to_server_user(&request.to);
        }
        let opened = world.open().await;
        let plan = restore::plan(&world.context, &opened, &request).await.unwrap();
        disk.resize(disk.used_kibibytes() + left);
        let error = restore::run(&world.context, &opened, &request, plan).await.unwrap_err();
        assert!(says_full(&error), "{error:?}");
        assert!(matches!(error, Error::File { .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("Make room"));
        assert_eq!(
            files_below(disk.path()),
            std::collections::BTreeMap::<PathBuf, u64>::new()
        );
        assert_eq!(request.to.exists(), existed);
        disk.resize(256 << 10);
        world.restore(&request).await;
    }
}
