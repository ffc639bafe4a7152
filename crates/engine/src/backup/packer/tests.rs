//! The packer's packs, read back by what restores and verifications read them with.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use proptest::prelude::*;
use repo::{
    BackupId, Error as RepositoryError,
    keys::Unlock,
    leaf::{Extent, InFrame, Leaf, LeafBuilder},
    manifest::{Needed, ObjectRef},
    sources::Sources,
    store::{Listed, Location, Put, Store},
};

use super::*;
use crate::{
    Error,
    pages::{Packs, Pages},
};

const PAGE: usize = 8192;

/// Bytes that nothing foretells.
fn noise(seed: u64) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut page);
    page
}

/// `noise(seed)` after a little was done to it.
fn changed(seed: u64) -> Vec<u8> {
    let mut page = noise(seed);
    page[3000..5000].rotate_left(80);
    page[8..16].copy_from_slice(b"changed!");
    page
}

/// Counts the bytes that are read in parts.
struct Counting {
    inner: Arc<dyn Store>,
    read: Arc<AtomicU64>,
}

#[async_trait]
impl Store for Counting {
    async fn put_new(&self, name: &str, bytes: Bytes) -> repo::Result<Put> {
        self.inner.put_new(name, bytes).await
    }
    async fn get(&self, name: &str) -> repo::Result<Option<Bytes>> {
        self.inner.get(name).await
    }
    async fn get_range(&self, name: &str, offset: u64, length: usize) -> repo::Result<Option<Bytes>> {
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        self.inner.get_range(name, offset, length).await
    }
    async fn head(&self, name: &str) -> repo::Result<Option<Listed>> {
        self.inner.head(name).await
    }
    async fn list_after(&self, prefix: &str, after: &str, limit: usize) -> repo::Result<Vec<Listed>> {
        self.inner.list_after(prefix, after, limit).await
    }
    async fn delete(&self, name: &str) -> repo::Result<()> {
        self.inner.delete(name).await
    }
}

struct World {
    repository: Repository,
    read: Arc<AtomicU64>,
    folder: tempfile::TempDir,
    session: Session,
}

impl World {
    async fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::parse(folder.path().to_str().unwrap(), std::path::Path::new("/")).unwrap();
        let read = Arc::new(AtomicU64::new(0));
        let store = Arc::new(Counting {
            inner: location.database("shop", true).unwrap(),
            read: read.clone(),
        });
        let (_, unlock) = Unlock::generate("shop");
        let repository = Repository::create(store, testkit::host::runtime(), "shop", &unlock);
        let repository = repository.await.unwrap();
        let session = repository.begin_session().await.unwrap();
        World {
            repository,
            read,
            folder,
            session,
        }
    }

    fn backup(&self, number: u8) -> Backup {
        let id = BackupId::new(1_700_000_000_000_000, [number, 0, 0, 0, 0, 0]);
        let uploads = Uploads::new(self.repository.clone());
        let place = Place {
            repository: self.repository.clone(),
            session: self.session.clone(),
            backup: id,
            page_size: PAGE,
            level: Level::Zstd(2),
            uploads: uploads.clone(),
        };
        Backup {
            id,
            uploads,
            packer: Packer::new(Arc::new(place)).unwrap(),
        }
    }

    /// Breaks a byte in the middle of the first frame of a pack.
    fn damage(&self, pack: &str) {
        let path = self.folder.path().join("shop").join(pack);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[100] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
}

struct Backup {
    id: BackupId,
    uploads: Uploads,
    packer: Packer,
}

impl Backup {
    /// Stores a page whole: where, and whether its frame ended.
    async fn whole(&mut self, page: &[u8]) -> (PageRef, bool) {
        let (room, first) = self.packer.room().unwrap();
        room[..page.len()].copy_from_slice(page);
        let (pages, closed) = self.packer.take(page.len()).await.unwrap();
        assert_eq!(pages, 1);
        (first, closed)
    }

    async fn finish(self) -> (BackupId, Vec<ObjectRef>) {
        self.packer.finish().await.unwrap();
        (self.id, self.uploads.finish().await.unwrap())
    }
}

fn stored(packs: &[ObjectRef]) -> u64 {
    packs.iter().map(|pack| u64::from(pack.size)).sum()
}

/// What a backup needs of itself and of the one before it, which gets number 1.
fn packs(world: &World, own: (BackupId, Vec<ObjectRef>), parent: (BackupId, Vec<ObjectRef>)) -> Arc<Packs> {
    let mut sources = Sources::new(own.0);
    assert_eq!(sources.intern(parent.0), 1);
    let theirs = parent.1.into_iter().map(|pack| ObjectRef { source: 1, ..pack });
    let needed = Needed {
        sources,
        packs: own.1.into_iter().chain(theirs).collect(),
        maps: Vec::new(),
    };
    Arc::new(Packs::new(world.repository.clone(), Arc::new(needed), PAGE))
}

fn of_parent(at: PageRef) -> PageRef {
    PageRef { source: 1, ..at }
}

fn extents(leaves: LeafBuilder) -> Vec<Extent> {
    let mut all = Vec::new();
    for leaf in leaves.finish() {
        let Leaf(extents) = leaf;
        all.extend(extents);
    }
    all
}

async fn read(packs: &Arc<Packs>, extents: &[Extent]) -> crate::Result<Vec<u8>> {
    let mut pages = Pages::new(packs.clone())?;
    let mut all = Vec::new();
    for extent in extents {
        pages
            .read(extent, |bytes| {
                all.extend_from_slice(bytes);
                Ok(())
            })
            .await?;
    }
    Ok(all)
}

fn named(result: crate::Result<Vec<u8>>, pack: &str) -> String {
    match result.unwrap_err() {
        Error::Repository(RepositoryError::Damaged { name, what }) => {
            assert_eq!(name, pack, "{what}");
            what
        }
        other => panic!("{other}"),
    }
}

/// What becomes of a page of the parent's.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Kept,
    Changed,
    Replaced,
}

/// A file of `fates.len()` pages in a parent, what became of it in a child, and where the child says its pages are.
async fn scene(world: &World, fates: &[Fate]) -> (Arc<Packs>, LeafBuilder, Vec<u8>) {
    let mut parent = world.backup(1);
    let mut bases = Vec::new();
    for number in 0..fates.len() as u64 {
        let (at, _) = parent.whole(&noise(number)).await;
        bases.push(of_parent(at));
    }
    let parent = parent.finish().await;
    let mut child = world.backup(2);
    let (mut leaves, mut expected) = (LeafBuilder::new(), Vec::new());
    for (number, (fate, base)) in fates.iter().zip(bases).enumerate() {
        let page = match fate {
            Fate::Kept => noise(number as u64),
            Fate::Changed => changed(number as u64),
            Fate::Replaced => noise(number as u64 + 1_000_000),
        };
        let run = |first: PageRef, closed: bool| InFrame {
            first,
            frame_slots: if closed { first.slot + 1 } else { u32::MAX },
        };
        match fate {
            Fate::Kept => leaves.append_in_frame(1, base, 32).unwrap(),
            _ => match child.packer.difference(&page, &noise(number as u64)).await.unwrap() {
                Some(Placed { at, closed }) => {
                    let bases = InFrame {
                        first: base,
                        frame_slots: 32,
                    };
                    leaves.append_differences(1, run(at, closed), bases).unwrap();
                }
                None => {
                    assert!(matches!(fate, Fate::Replaced));
                    let (at, closed) = child.whole(&page).await;
                    let at = run(at, closed);
                    leaves.append_in_frame(1, at.first, at.frame_slots).unwrap();
                }
            },
        }
        expected.extend(page);
    }
    let child = child.finish().await;
    (packs(world, child, parent), leaves, expected)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_which_every_page_changed_a_little_is_one_extent_and_reads_back() {
    let world = World::new().await;
    let (packs, leaves, expected) = scene(&world, &[Fate::Changed; 700]).await;
    let extents = extents(leaves);
    assert_eq!((extents.len(), extents[0].pages), (1, 700));
    assert!(read(&packs, &extents).await.unwrap() == expected);
    // In frames of as many slots as there may be, though frames of whole pages have 32.
    assert_eq!(packs.frame_slots(extents[0].pages_at).await.unwrap(), 512);
    assert_eq!(packs.frame_slots(extents[0].base.unwrap()).await.unwrap(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_both_sides_are_read_once_however_pages_of_all_kinds_take_turns() {
    let world = World::new().await;
    let fates = [Fate::Kept, Fate::Changed, Fate::Replaced, Fate::Changed].repeat(160);
    let (packs, leaves, expected) = scene(&world, &fates).await;
    let stored = stored(&packs.needed().packs);
    world.read.store(0, Ordering::Relaxed);
    assert!(read(&packs, &extents(leaves)).await.unwrap() == expected);
    let read = world.read.load(Ordering::Relaxed);
    assert!(read <= stored, "{read} bytes of {stored}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extent_is_cut_anywhere_by_the_directories_of_its_packs() {
    let world = World::new().await;
    let (packs, leaves, expected) = scene(&world, &[Fate::Changed; 600]).await;
    let all = extents(leaves)[0];
    for (from, pages) in [(0, 600), (1, 31), (31, 2), (100, 450), (511, 2), (599, 1)] {
        let part = Extent {
            pages,
            pages_at: packs.advance(all.pages_at, from).await.unwrap(),
            base: Some(packs.advance(all.base.unwrap(), from).await.unwrap()),
        };
        let bytes = from as usize * PAGE..(from + pages) as usize * PAGE;
        assert!(read(&packs, &[part]).await.unwrap() == expected[bytes], "{from}");
    }
    assert!(packs.advance(all.pages_at, 601).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_base_of_a_next_difference_is_handed_out_whole() {
    let world = World::new().await;
    let (packs, leaves, _) = scene(&world, &[Fate::Changed; 70]).await;
    let base = extents(leaves)[0].base.unwrap();
    let mut pages = Pages::new(packs.clone()).unwrap();
    for number in [0, 1, 31, 32, 69] {
        let at = packs.advance(base, number).await.unwrap();
        assert_eq!(pages.base(at).await.unwrap(), noise(u64::from(number)));
    }
    let short = PageRef {
        slot: 9,
        frame: 2,
        ..base
    };
    assert!(pages.base(short).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_a_base_or_a_difference_names_its_pack_and_hands_nothing_out() {
    for damaged in [1, 2] {
        let world = World::new().await;
        let (packs, leaves, _) = scene(&world, &[Fate::Changed; 40]).await;
        let id = BackupId::new(1_700_000_000_000_000, [damaged, 0, 0, 0, 0, 0]);
        let name = repo::names::pack(&id, 0);
        world.damage(&name);
        let extent = extents(leaves)[0];
        let mut pages = Pages::new(packs).unwrap();
        let result = pages
            .read(&extent, |_| panic!("pages of a damaged frame were handed out"))
            .await;
        named(result.map(|()| Vec::new()), &name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_on_another_page_than_its_base_is_found_by_the_hash() {
    let world = World::new().await;
    let (packs, leaves, _) = scene(&world, &[Fate::Changed; 40]).await;
    let own = repo::names::pack(&BackupId::new(1_700_000_000_000_000, [2, 0, 0, 0, 0, 0]), 0);
    let mut extent = extents(leaves)[0];
    extent.pages = 1;
    let base = extent.base.unwrap();
    extent.base = Some(PageRef { slot: 5, ..base });
    let what = named(read(&packs, &[extent]).await, &own);
    assert!(what.contains("difference 0 of frame 0"), "{what}");
    // Differences on differences there are none, nor pages among differences, nor the other way round.
    extent.base = Some(extent.pages_at);
    assert!(named(read(&packs, &[extent]).await, &own).contains("holds differences"));
    extent.base = None;
    assert!(named(read(&packs, &[extent]).await, &own).contains("holds differences"));
    let among_pages = Extent {
        pages_at: base,
        base: Some(base),
        pages: 1,
    };
    let theirs = repo::names::pack(&BackupId::new(1_700_000_000_000_000, [1, 0, 0, 0, 0, 0]), 0);
    assert!(named(read(&packs, &[among_pages]).await, &theirs).contains("holds pages"));
    let behind = Extent {
        pages_at: PageRef {
            slot: 40,
            ..extent.pages_at
        },
        base: Some(base),
        pages: 1,
    };
    assert!(named(read(&packs, &[behind]).await, &own).contains("no slot 40"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_does_not_hash_to_what_was_read_is_not_handed_out() {
    let world = World::new().await;
    let backup = world.backup(1);
    let mut frames = Frames::new(backup.packer.place.clone(), Form::Whole).unwrap();
    let at = frames.at(1).unwrap();
    let hashes = [1, 3].map(|seed| backup.packer.hash(&noise(seed)));
    let raw = [noise(1), noise(2)].concat();
    frames.put(&raw, &Slots::Pages(2), &hashes).await.unwrap();
    frames.finish().await.unwrap();
    let own = backup.finish().await;
    let name = repo::names::pack(&own.0, 0);
    let packs = packs(&world, own, (world.backup(2).id, Vec::new()));
    let extent = |slot, pages| Extent {
        pages,
        pages_at: PageRef { slot, ..at },
        base: None,
    };
    assert_eq!(read(&packs, &[extent(0, 1)]).await.unwrap(), noise(1));
    let what = named(read(&packs, &[extent(0, 2)]).await, &name);
    assert!(what.contains("page 1 of frame 0 does not hash"), "{what}");
    assert!(Pages::new(packs).unwrap().base(at).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_which_most_is_new_and_a_short_one_are_left_to_be_stored_whole() {
    let world = World::new().await;
    let mut backup = world.backup(1);
    let mut difference = async |page: &[u8], base: &[u8]| backup.packer.difference(page, base).await.unwrap();
    assert!(difference(&noise(1), &noise(2)).await.is_none());
    assert!(difference(&changed(1)[..100], &noise(1)[..100]).await.is_none());
    assert!(difference(&changed(1), &noise(1)[..100]).await.is_none());
    let placed = difference(&changed(1), &noise(1)).await.unwrap();
    assert_eq!((placed.at.slot, placed.closed), (0, false));
    let (_, packs) = backup.finish().await;
    assert_eq!(packs.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn pages_kept_changed_and_replaced_in_any_order_read_back(fates in prop::collection::vec(0u8..3, 1..150)) {
        let fates: Vec<Fate> = fates
            .into_iter()
            .map(|fate| [Fate::Kept, Fate::Changed, Fate::Replaced][usize::from(fate)])
            .collect();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let same = runtime.block_on(async {
            let world = World::new().await;
            let (packs, leaves, expected) = scene(&world, &fates).await;
            read(&packs, &extents(leaves)).await.unwrap() == expected
        });
        prop_assert!(same);
    }
}
