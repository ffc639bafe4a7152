//! Restores onto what is there already: the outcome is that of a full restore, and only what differs was fetched and written.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileExt, MetadataExt, symlink},
    path::{Path, PathBuf},
};

use engine::{
    event::Event,
    restore::{self, Delta, Onto, Plan, Request, Restored},
};
use pgformat::Major;
use testkit::clusters::{TestCluster, amcheck, give_to_server_user, majors_to_test, row_digests, verifybackup};

use super::act::directory_beside;
use crate::{
    ask::{sql, value},
    world::{World, durable},
};

/// All that can be seen of a path: kind and mode, owner, time where a restore sets it, content.
type Seen = (u32, u32, u32, Option<(i64, i64)>, Vec<u8>);

/// Everything below `root`, no link followed.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let relative = path.strip_prefix(root).unwrap().to_path_buf();
        let made_now = [
            "pg_wal",
            "backup_",
            "tablespace_map",
            "recovery.signal",
            "postgresql.auto.conf",
            "global/pg_control",
        ];
        let timed = metadata.is_file() && !made_now.iter().any(|name| relative.to_string_lossy().starts_with(name));
        let content = if metadata.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else if metadata.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else {
            blake3::hash(&fs::read(&path).unwrap()).as_bytes().to_vec()
        };
        let time = timed.then(|| (metadata.mtime(), metadata.mtime_nsec()));
        found.insert(
            relative,
            (metadata.mode(), metadata.uid(), metadata.gid(), time, content),
        );
    }
    found
}

pub(crate) fn assert_same(found: &BTreeMap<PathBuf, Seen>, expected: &BTreeMap<PathBuf, Seen>) {
    let differ = |(path, seen): (&PathBuf, &Seen)| {
        (found.get(path) != Some(seen)).then(|| format!("{path:?}: {:?} instead of {seen:?}", found.get(path)))
    };
    let mut wrong: Vec<String> = expected.iter().filter_map(differ).collect();
    wrong.extend(
        found
            .keys()
            .filter(|path| !expected.contains_key(*path))
            .map(|path| format!("{path:?} is left")),
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

impl World {
    /// A delta restore: its plan, and what it did.
    pub(crate) async fn delta(&self, request: &Request) -> (Plan, Restored) {
        let request = Request {
            onto: Onto::Delta,
            ..request.clone()
        };
        let opened = self.open().await;
        let plan = restore::plan(&self.context, &opened, &request).await.unwrap();
        self.heard.0.lock().unwrap().clear();
        let restored = restore::run(&self.context, &opened, &request, plan.clone())
            .await
            .unwrap();
        let heard = self.heard.0.lock().unwrap();
        let steps: Vec<&str> = heard
            .iter()
            .filter_map(|event| match event {
                Event::Step { step, .. } => Some(*step),
                _ => None,
            })
            .collect();
        assert_eq!(steps, ["clear", "wal", "compare", "sync"]);
        (plan, restored)
    }
}

/// A cluster with a tablespace and some MiB of rows.
async fn source(major: Major) -> (TestCluster, PathBuf) {
    let source = TestCluster::new(major, durable()).await;
    let space = directory_beside(&source, "space");
    sql(
        &source,
        &format!("CREATE TABLESPACE space LOCATION '{}'", space.display()),
    )
    .await;
    for (name, place) in [("inside", "pg_default"), ("outside", "space")] {
        sql(
            &source,
            &format!(
                "CREATE TABLE public.{name} TABLESPACE {place} AS
                     SELECT i, pg_catalog.md5(i::text) AS word FROM pg_catalog.generate_series(1, 60000) AS i"
            ),
        )
        .await;
        sql(
            &source,
            &format!("CREATE INDEX ON public.{name} (i) TABLESPACE {place}"),
        )
        .await;
    }
    (source, space)
}

fn check_small(delta: &Delta, restored: &Restored, share: u64) {
    assert!(delta.pages_compared > restored.bytes / 8192 * 9 / 10, "{delta:?}");
    assert!(delta.pages_written < delta.pages_compared / share, "{delta:?}");
    assert!(delta.bytes_written < restored.bytes / share, "{delta:?}");
    assert!(delta.bytes_fetched < restored.bytes / share, "{delta:?}");
}

/// Kinds in each other's place, files cut, gone and longer, another cluster's folder in the tablespace, and a file with
/// another name: both of its names.
fn spoil(world: &World, to: &Path, moved: &Path) -> (PathBuf, PathBuf) {
    fs::write(to.join("notes \u{e9}"), "x").unwrap();
    fs::create_dir_all(to.join("base/99999/deep")).unwrap();
    fs::write(to.join("base/99999/deep/1"), "x").unwrap();
    fs::write(world.target("precious"), "untouched").unwrap();
    let version = to.join("base/1/PG_VERSION");
    fs::remove_file(&version).unwrap();
    symlink(world.target("precious"), &version).unwrap();
    let ident = to.join("pg_ident.conf");
    fs::remove_file(&ident).unwrap();
    fs::create_dir(&ident).unwrap();
    fs::write(ident.join("inner"), "x").unwrap();
    fs::remove_dir(to.join("pg_serial")).unwrap();
    fs::write(to.join("pg_serial"), "no directory").unwrap();
    fs::remove_file(to.join("base/1/1255")).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(to.join("base/1/1259"))
        .unwrap()
        .set_len(5000)
        .unwrap();
    fs::create_dir(moved.join("PG_14_202107181")).unwrap();
    fs::write(moved.join("PG_14_202107181/1"), "another cluster's").unwrap();
    let linked = (to.join("base/1/2619"), world.target("other name"));
    fs::hard_link(&linked.0, &linked.1).unwrap();
    fs::write(to.join("base/1/2619"), "of both names").unwrap();
    linked
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_delta_restore_leaves_is_what_a_full_one_makes() {
    let (source, space) = source(Major::V15).await;
    let before = row_digests(&source.conninfo()).await;
    let world = World::new().await;
    world.backup(&source).await;
    drop(source);
    let mut request = world.request("restored");
    let moved = world.target("moved");
    request.tablespaces = vec![(space, moved.clone())];
    let full = world.restore(&request).await;
    let expected = (tree(&full.to), tree(&moved));

    // Nothing has changed but what the restore itself had put into the configuration.
    let (plan, restored) = world.delta(&request).await;
    let delta = restored.delta.unwrap();
    assert!(delta.pages_written <= 1 && delta.bytes_fetched < 512 << 10, "{delta:?}");
    assert_eq!(plan.delta.unwrap().removes, Vec::<PathBuf>::new());
    assert_same(&tree(&full.to), &expected.0);
    assert_same(&tree(&moved), &expected.1);

    let mut server = TestCluster::on(Major::V15, &full.to);
    give_to_server_user(&moved);
    server.start().await;
    for name in ["inside", "outside"] {
        let statements = format!(
            "UPDATE public.{name} SET word = 'changed' WHERE i % 3000 = 0;
             INSERT INTO public.{name} SELECT i, 'new' FROM pg_catalog.generate_series(1, 3000) AS i"
        );
        sql(&server, &statements).await;
    }
    sql(
        &server,
        "CREATE TABLE public.foreign AS SELECT 1 AS one; CREATE UNLOGGED TABLE public.unlogged (i int)",
    )
    .await;
    server.stop().await;
    let linked = spoil(&world, &full.to, &moved);

    let (plan, restored) = world.delta(&request).await;
    let (planned, delta) = (plan.delta.unwrap(), restored.delta.unwrap());
    check_small(&delta, &restored, 5);
    assert!(delta.pages_written > 20, "{delta:?}");
    let removes: Vec<String> = planned.removes.iter().map(|path| path.display().to_string()).collect();
    for name in [
        "notes \u{e9}",
        "base/99999",
        "base/99999/deep/1",
        "base/1/PG_VERSION",
        "pg_ident.conf/inner",
        "pg_serial",
    ] {
        assert!(
            removes.iter().any(|removed| removed == name),
            "{name} is not in {removes:?}"
        );
    }
    let silent = ["backup_manifest", "recovery.signal", "PG_14", "pg_wal/"];
    assert!(
        !removes
            .iter()
            .any(|removed| silent.iter().any(|name| removed.contains(name))),
        "{removes:?}"
    );
    assert!(planned.removes_wal.iter().any(|path| path.starts_with("pg_wal")));
    assert!(delta.removed >= (planned.removes.len() + planned.removes_wal.len()) as u64);

    assert_same(&tree(&full.to), &expected.0);
    assert_eq!(fs::read(moved.join("PG_14_202107181/1")).unwrap(), b"another cluster's");
    fs::remove_dir_all(moved.join("PG_14_202107181")).unwrap();
    assert_same(&tree(&moved), &expected.1);
    assert_eq!(fs::read(world.target("precious")).unwrap(), b"untouched");
    assert_eq!(fs::read(&linked.1).unwrap(), b"of both names");
    verifybackup(&full.to).unwrap();
    let mut server = TestCluster::on(Major::V15, &full.to);
    give_to_server_user(&moved);
    server.start().await;
    assert_eq!(row_digests(&server.conninfo()).await, before);
    assert_eq!(amcheck(&server.conninfo()).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_original_is_brought_back_in_its_place_with_its_tablespace() {
    let (mut source, space) = source(Major::V15).await;
    let before = row_digests(&source.conninfo()).await;
    let world = World::new().await;
    world.backup(&source).await;
    sql(
        &source,
        "UPDATE public.outside SET word = 'lost' WHERE i < 1000; DROP TABLE public.inside",
    )
    .await;
    source.crash().await;
    // pg_wal on a disk of its own: the link goes, what it leads to stays.
    let wal = world.target("wal");
    fs::rename(source.data_dir().join("pg_wal"), &wal).unwrap();
    symlink(&wal, source.data_dir().join("pg_wal")).unwrap();
    let segments = tree(&wal);
    let request = Request {
        to: source.data_dir().to_path_buf(),
        ..world.request("unused")
    };
    let (plan, restored) = world.delta(&request).await;
    assert_eq!(plan.tablespaces[0].to, space);
    let planned = plan.delta.unwrap();
    assert_eq!(planned.pg_wal_link.as_deref(), Some(&*wal));
    assert!(
        planned.removes.contains(&"postmaster.pid".into()) && planned.pid_file.is_some(),
        "{:?}",
        planned.removes
    );
    let delta = restored.delta.unwrap();
    // One of the two tables is gone and comes back whole.
    assert!(
        delta.bytes_fetched < restored.bytes / 3 && delta.pages_written < delta.pages_compared / 2,
        "{delta:?}"
    );
    assert!(
        !fs::symlink_metadata(source.data_dir().join("pg_wal"))
            .unwrap()
            .is_symlink()
    );
    assert_same(&tree(&wal), &segments);
    verifybackup(source.data_dir()).unwrap();
    source.start().await;
    assert_eq!(row_digests(&source.conninfo()).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_restore_that_is_stopped_leaves_no_startable_directory_and_is_gone_on_with() {
    let (source, space) = source(Major::V15).await;
    let world = World::new().await;
    world.backup(&source).await;
    drop(source);
    let mut request = world.request("restored");
    request.tablespaces = vec![(space, world.target("moved"))];
    let full = world.restore(&request).await;
    let expected = (tree(&full.to), tree(&world.target("moved")));
    for stop_at in ["clear", "wal", "compare", "sync"] {
        fs::write(full.to.join("base/1/1259"), "damaged").unwrap();
        let stopping = engine::event::Stop::default();
        let mut context = world.watching({
            let stopping = stopping.clone();
            move |event| {
                if matches!(event, Event::Step { step, .. } if *step == stop_at) {
                    stopping.stop();
                }
            }
        });
        context.stop = stopping;
        let request = Request {
            onto: Onto::Delta,
            ..request.clone()
        };
        let opened = world.open().await;
        let plan = restore::plan(&context, &opened, &request).await.unwrap();
        let ended = restore::run(&context, &opened, &request, plan).await;
        // Once all is laid out, nobody looks whether to stop.
        if stop_at != "sync" {
            assert!(matches!(ended, Err(engine::Error::Interrupted)), "{stop_at}: {ended:?}");
            assert!(!full.to.join("global/pg_control").exists());
            assert!(world.warnings().iter().any(|(code, _)| code == "restore-unfinished"));
            let (plan, _) = world.delta(&request).await;
            assert!(plan.delta.unwrap().resumes, "{stop_at}");
        }
        assert_same(&tree(&full.to), &expected.0);
        assert_same(&tree(&world.target("moved")), &expected.1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delta_restores_work_for_every_version() {
    for major in majors_to_test() {
        let (source, space) = source(major).await;
        let before = row_digests(&source.conninfo()).await;
        let world = World::new().await;
        world.backup(&source).await;
        drop(source);
        let mut request = world.request("restored");
        let moved = world.target("moved");
        request.tablespaces = vec![(space, moved.clone())];
        // Into nothing, it is a full restore that can be gone on with.
        let (plan, restored) = world.delta(&request).await;
        assert!(!plan.delta.unwrap().overwrites());
        assert_eq!(restored.delta.unwrap().pages_compared, 0);
        let expected = tree(&restored.to);
        let mut server = TestCluster::on(major, &restored.to);
        give_to_server_user(&moved);
        server.start().await;
        sql(&server, "UPDATE public.outside SET word = 'changed' WHERE i % 2000 = 0").await;
        assert_ne!(row_digests(&server.conninfo()).await, before);
        server.stop().await;
        let (_, restored) = world.delta(&request).await;
        check_small(&restored.delta.unwrap(), &restored, 5);
        assert_same(&tree(&restored.to), &expected);
        give_to_server_user(&moved);
        server.start().await;
        assert_eq!(row_digests(&server.conninfo()).await, before, "PostgreSQL {major}");
        assert_eq!(
            value(&server, "SELECT pg_catalog.count(*) FROM public.outside").await,
            "60000"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_since_the_backup_before_comes_as_differences_alone() {
    let (source, space) = source(Major::V15).await;
    let world = World::new().await;
    world.backup(&source).await;
    let moved = world.target("moved");
    let mut request = world.request("restored");
    request.tablespaces = vec![(space, moved.clone())];
    world.restore(&request).await;
    sql(
        &source,
        "UPDATE public.inside SET word = 'changed' WHERE i % 50 = 0; CHECKPOINT",
    )
    .await;
    world.backup(&source).await;
    drop(source);
    let (_, restored) = world.delta(&request).await;
    let delta = restored.delta.unwrap();
    assert!(delta.pages_written > 300, "{delta:?}");
    assert!(delta.bytes_fetched < delta.bytes_written / 5, "{delta:?}");
    let expected = (tree(&restored.to), tree(&moved));
    verifybackup(&restored.to).unwrap();

    // What is neither what it was nor what it shall be: the page is made from the repository alone.
    let large = |path: &&PathBuf| fs::metadata(restored.to.join(path)).unwrap().len() > 2 << 20;
    for path in expected.0.keys().filter(|path| path.starts_with("base")).filter(large) {
        let file = fs::OpenOptions::new().write(true).open(restored.to.join(path)).unwrap();
        let pages = file.metadata().unwrap().len() / 8192;
        (0..pages).for_each(|page| file.write_all_at(b"rot", page * 8192 + 100).unwrap());
    }
    let (_, restored) = world.delta(&request).await;
    let delta = restored.delta.unwrap();
    assert!(delta.bytes_fetched > delta.bytes_written / 20, "{delta:?}");
    assert_same(&tree(&restored.to), &expected.0);
    assert_same(&tree(&moved), &expected.1);
}
