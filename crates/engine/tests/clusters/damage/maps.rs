//! Damaged maps. A full backup of ordinary files has none, so one is made by hand: a file in pieces.

use std::sync::Arc;

use engine::repo::{
    BackupId, Error, Repository, Result,
    envelope::Kind,
    leaf::{Extent, Leaf, LeafRef, PageRef},
    manifest::{Needed, ObjectRef},
    map::{MapReader, MapWriter},
    names,
    sources::Sources,
};

use super::{
    folder::{ALL, Damage, Folder, Target},
    scene::seal_again,
};
use crate::world::World;

const PIECES: u32 = 40;

/// A leaf whose pages lie here and there.
fn scattered(seed: u32) -> Leaf {
    let piece = |number: u32| Extent {
        pages: 1 + number % 3,
        pages_at: PageRef {
            source: 0,
            pack: number % 2,
            frame: (number * 7 + seed) % 90,
            slot: number % 5,
        },
        base: None,
    };
    Leaf((0..PIECES).map(piece).collect())
}

fn pages() -> u32 {
    (0..PIECES).map(|number| 1 + number % 3).sum()
}

/// Writes the map of a backup; its name, and what a manifest and a file table would remember.
async fn write(repository: &Repository, id: BackupId, seed: u32) -> (String, Arc<Needed>, LeafRef) {
    let session = repository.begin_session().await.unwrap();
    let sources = Sources::new(id);
    let mut writer = MapWriter::new(repository, &session, id).unwrap();
    let at = writer.push(&scattered(seed), pages(), &sources).await.unwrap();
    let written = writer.finish(&sources).await.unwrap();
    let map = ObjectRef {
        source: 0,
        number: 0,
        size: u32::try_from(written[0].pin.size).unwrap(),
        directory: written[0].directory,
        hash: written[0].pin.hash,
        holds: 1,
        used: 1,
    };
    let needed = Needed {
        sources,
        packs: Vec::new(),
        maps: vec![map],
    };
    (names::map(&id, 0), Arc::new(needed), at)
}

async fn read(world: &World, needed: &Arc<Needed>, at: &LeafRef) -> Result<Leaf> {
    let store = world.database.location.database("shop", false)?;
    let repository = Repository::open(store, world.context.runtime.clone(), &world.database.unlock).await?;
    let mut sources = needed.sources.clone();
    MapReader::new(&repository, needed.clone())?
        .leaf(at, pages(), &mut sources)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_map_is_found_and_named_before_a_page_is_looked_for() {
    let world = World::new().await;
    let repository = world.open().await.repository;
    let [id, sibling_id] = [1, 2].map(|day| BackupId::new(day * 86_400_000_000, [7; 6]));
    let (name, needed, at) = write(&repository, id, 1).await;
    let (sibling, ..) = write(&repository, sibling_id, 2).await;
    let sealed_again = seal_again(&repository, Kind::Map, &name).await;
    let folder = Folder::remember(&world.folder.path().join("repository/shop"));
    let target = Target {
        class: "map",
        older: Some(folder.bytes(&sibling).to_vec()),
        sealed_again: Some(sealed_again),
        name,
        sibling,
    };
    assert_eq!(read(&world, &needed, &at).await.unwrap(), scattered(1));
    let mut found = 0;
    for damage in ALL {
        assert!(folder.damage(&target, damage));
        match (read(&world, &needed, &at).await, damage) {
            // Read by the ranges that the manifest pins: what lies behind the end is never looked at.
            (Ok(leaf), Damage::Doubled | Damage::Appended) => assert_eq!(leaf, scattered(1)),
            (Err(error @ (Error::Damaged { .. } | Error::Missing { .. })), _) => {
                assert!(error.to_string().contains(&target.name), "{damage:?}: {error}");
                found += 1;
            }
            (other, _) => panic!("{damage:?}: {other:?}"),
        }
        folder.mend();
    }
    assert_eq!(found, ALL.len() - 2);
}
