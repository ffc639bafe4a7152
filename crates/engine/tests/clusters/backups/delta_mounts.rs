//! Delta restores onto data directories within which other file systems are mounted.

use std::{
    fs,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use engine::{
    event::Event,
    restore::{self, Onto, Request},
};
use pgformat::Major;
use testkit::clusters::TestCluster;

use super::{
    act::{copy_directory, refusal},
    delta::{assert_same, tree},
    full_disk::SmallDisk,
};
use crate::{
    ask::value,
    world::{World, durable},
};

/// Room that a restore leaves on each file system.
const SPARE_KIBIBYTES: u64 = 64 << 10;

/// A restored cluster whose `base` is a file system of its own.
struct Mounted {
    request: Request,
    base: PathBuf,
    // Unmounted before the folder that it is in goes.
    disk: SmallDisk,
    world: World,
}

impl Mounted {
    async fn begin() -> Mounted {
        let source = TestCluster::new(Major::V15, durable()).await;
        let world = World::new().await;
        world.backup(&source).await;
        let mut request = world.request("restored");
        world.restore(&request).await;
        request.onto = Onto::Delta;
        let (base, aside) = (request.to.join("base"), request.to.with_file_name("aside"));
        fs::rename(&base, &aside).unwrap();
        fs::create_dir(&base).unwrap();
        let disk = SmallDisk::at(&base, 256 << 10);
        copy_directory(&aside.join("."), &base);
        fs::remove_dir_all(aside).unwrap();
        Mounted {
            request,
            base,
            disk,
            world,
        }
    }

    /// What was said of making it durable.
    fn synced(&self) -> Vec<String> {
        let heard = self.world.heard.0.lock().unwrap();
        let said = heard.iter().filter_map(|event| match event {
            Event::Step { step: "sync", what } => Some(what.clone()),
            _ => None,
        });
        said.collect()
    }
}

/// Some file of a relation.
fn some_file(database: &Path) -> PathBuf {
    let files = fs::read_dir(database).unwrap().map(|entry| entry.unwrap().path());
    let large = files.filter(|path| fs::metadata(path).unwrap().len() >= 8 * 8192);
    large.min().unwrap()
}

/// `pg_control` comes back when all else is durable, wherever it lies: after a power cut a server would open on old pages.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_on_a_file_system_mounted_within_is_durable_too() {
    let mounted = Mounted::begin().await;
    let to = mounted.request.to.clone();
    let before = tree(&to);
    let file = some_file(&mounted.base.join("5"));
    let pages = fs::OpenOptions::new().write(true).open(&file).unwrap();
    pages.write_all_at(&[0xA5; 8192], 3 * 8192).unwrap();
    let (plan, restored) = mounted.world.delta(&mounted.request).await;
    assert!(plan.delta.is_some_and(|delta| delta.removes.is_empty()));
    assert_eq!(restored.delta.unwrap().pages_written, 1);
    assert_same(&tree(&to), &before);
    assert_eq!(mounted.synced(), ["making everything durable on 2 file systems"]);
    let mut server = TestCluster::on(Major::V15, &to);
    server.start().await;
    assert_eq!(value(&server, "SELECT 1").await, "1");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_little_room_on_a_file_system_mounted_within_is_refused_before_anything_is_changed() {
    let mounted = Mounted::begin().await;
    let (world, to) = (&mounted.world, &mounted.request.to);
    let full = mounted.disk.used_kibibytes();
    fs::remove_dir_all(mounted.base.join("5")).unwrap();
    let left = mounted.disk.used_kibibytes();
    assert!(full - left > 4 << 10, "{full} {left}");
    mounted.disk.resize(full + SPARE_KIBIBYTES - (1 << 10));
    let before = tree(to);
    let opened = world.open().await;
    let refused = restore::plan(&world.context, &opened, &mounted.request).await;
    let (code, what, _) = refusal(refused.expect_err("it was not refused"));
    assert_eq!(code, "no-room", "{what}");
    assert!(what.starts_with(&*mounted.base.to_string_lossy()), "{what}");
    assert_same(&tree(to), &before);
    mounted.disk.resize(full + SPARE_KIBIBYTES + (1 << 10));
    world.delta(&mounted.request).await;
}

/// A file system that is full of what the restore removes stops nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_system_mounted_within_that_is_emptied_is_no_hindrance() {
    let mounted = Mounted::begin().await;
    let (world, to) = (&mounted.world, &mounted.request.to);
    let before = tree(to);
    let junk = mounted.base.join("5/junk");
    let mut file = fs::File::create(&junk).unwrap();
    let full = std::iter::repeat_with(|| file.write_all(&[0xA5; 1 << 20])).find_map(Result::err);
    assert_eq!(full.unwrap().kind(), std::io::ErrorKind::StorageFull);
    drop(file);
    let (plan, _) = world.delta(&mounted.request).await;
    assert_eq!(plan.delta.unwrap().removes, [PathBuf::from("base/5/junk")]);
    assert_same(&tree(to), &before);
}
