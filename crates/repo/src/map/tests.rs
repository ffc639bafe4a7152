use super::{reader::find, *};
use crate::{
    leaf::{Extent, Leaf, LeafRef, PageRef},
    manifest::{Needed, ObjectRef},
    names,
    sources::Sources,
    table::LeafSlot,
    test_folder::{TestFolder, id, reaction},
};
use futures::executor::block_on;
use proptest::prelude::*;
use std::sync::Arc;

/// A leaf of one page an extent, each in another pack.
fn scattered(pages: u32, source: u32, seed: u32) -> Leaf {
    let extent = |number: u32| Extent {
        pages: 1,
        pages_at: PageRef {
            source,
            pack: seed.wrapping_add(number.wrapping_mul(2_654_435_761)),
            frame: 0,
            slot: number % 32,
        },
        base: None,
    };
    Leaf((0..pages).map(extent).collect())
}

fn needed(sources: &Sources, maps: &[Written]) -> Arc<Needed> {
    let entry = |(number, map): (u32, &Written)| ObjectRef {
        source: 0,
        number,
        size: map.pin.size as u32,
        directory: map.directory,
        hash: map.pin.hash,
        holds: 1,
        used: 1,
    };
    Arc::new(Needed {
        sources: sources.clone(),
        packs: Vec::new(),
        maps: (0..).zip(maps).map(entry).collect(),
    })
}

#[test]
fn leaves_read_back_in_any_order_and_by_any_list_of_sources() {
    let folder = TestFolder::new();
    let mut sources = Sources::new(id(0));
    sources.intern(id(1));
    block_on(async {
        let mut writer = MapWriter::new(&folder.repository, &folder.session, id(0)).unwrap();
        let mut places = Vec::new();
        for seed in 0..300 {
            let leaf = scattered(100, seed % 2, seed);
            places.push((writer.push(&leaf, 100, &sources).await.unwrap(), leaf));
        }
        let maps = writer.finish(&sources).await.unwrap();
        assert!(places.last().unwrap().0.frame > 1, "it has but one frame");

        let mut reader = MapReader::new(&folder.repository, needed(&sources, &maps)).unwrap();
        for (at, leaf) in places.iter().rev() {
            assert_eq!(&reader.leaf(at, 100, &mut sources).await.unwrap(), leaf);
        }
        // A later backup that refers to this one's leaves numbers the two the other way round.
        let mut later = Sources::new(id(7));
        let source = later.intern(id(1));
        let (at, _) = &places[1];
        let moved = LeafRef {
            source: later.intern(id(0)),
            ..*at
        };
        let leaf = reader.leaf(&moved, 100, &mut later).await.unwrap();
        assert_eq!(leaf, scattered(100, source, 1));
        assert_eq!(reaction(reader.leaf(at, 99, &mut sources).await), "damaged");
        let beyond = LeafRef { number: 9999, ..*at };
        assert_eq!(reaction(reader.leaf(&beyond, 100, &mut sources).await), "damaged");
        let unnamed = LeafRef { map: 9, ..*at };
        assert_eq!(reaction(reader.leaf(&unnamed, 100, &mut sources).await), "damaged");
        let unlisted = LeafRef { source: 9, ..*at };
        assert_eq!(reaction(reader.leaf(&unlisted, 100, &mut sources).await), "damaged");
    });
}

#[test]
fn many_leaves_go_on_in_a_next_object() {
    let folder = TestFolder::new();
    let sources = Sources::new(id(0));
    block_on(async {
        let mut writer = MapWriter::new(&folder.repository, &folder.session, id(0)).unwrap();
        let (mut last, mut seed) = (
            LeafRef {
                source: 0,
                map: 0,
                frame: 0,
                number: 0,
            },
            0,
        );
        while last.map == 0 {
            seed += 1;
            last = writer.push(&scattered(2048, 0, seed), 2048, &sources).await.unwrap();
        }
        let maps = writer.finish(&sources).await.unwrap();
        assert!(maps.len() == 2 && maps[0].pin.size <= 32 << 20);
        let mut reader = MapReader::new(&folder.repository, needed(&sources, &maps)).unwrap();
        let leaf = reader.leaf(&last, 2048, &mut sources.clone()).await.unwrap();
        assert_eq!(leaf, scattered(2048, 0, seed));
    });
}

#[test]
fn a_short_leaf_stands_in_the_table() {
    let folder = TestFolder::new();
    let sources = Sources::new(id(0));
    block_on(async {
        let mut writer = MapWriter::new(&folder.repository, &folder.session, id(0)).unwrap();
        let four = writer.place(scattered(4, 0, 0), 4, &sources).await.unwrap();
        assert_eq!(four, LeafSlot::Inline(scattered(4, 0, 0)));
        let five = writer.place(scattered(5, 0, 0), 5, &sources).await.unwrap();
        assert!(matches!(five, LeafSlot::Ref(_)));
        assert_eq!(reaction(writer.push(&scattered(5, 0, 0), 6, &sources).await), "damaged");
        assert_eq!(reaction(writer.push(&scattered(5, 1, 0), 5, &sources).await), "damaged");
        assert_eq!(
            reaction(writer.push(&scattered(5, 0, 0), 5, &Sources::new(id(1))).await),
            "damaged"
        );
    });
}

/// So that a program that does not know differences says so at the object's head. Other objects stay readable to it.
#[test]
fn only_a_map_with_differences_says_that_its_readers_must_know_them() {
    let folder = TestFolder::new();
    let sources = Sources::new(id(0));
    let plain = scattered(9, 0, 1);
    let mut different = plain.clone();
    let Leaf(extents) = &mut different;
    extents[3].base = Some(extents[0].pages_at);
    block_on(async {
        let mut writer = MapWriter::new(&folder.repository, &folder.session, id(0)).unwrap();
        let mut written = Vec::new();
        for leaf in [&plain, &different, &plain] {
            written.push((writer.push(leaf, 9, &sources).await.unwrap(), leaf));
        }
        let maps = writer.finish(&sources).await.unwrap();
        let mut features = Vec::new();
        for number in 0..maps.len() as u32 {
            let bytes = folder
                .repository
                .store()
                .get(&names::map(&id(0), number))
                .await
                .unwrap();
            features.push(bytes.unwrap()[12]);
        }
        assert_eq!(features, [0, 2]);
        let mut reader = MapReader::new(&folder.repository, needed(&sources, &maps)).unwrap();
        for (at, leaf) in written {
            assert_eq!(reader.leaf(&at, 9, &mut sources.clone()).await.unwrap(), *leaf);
        }
    });
}

proptest! {
    #[test]
    fn no_bytes_panic_a_frame_of_leaves(bytes: Vec<u8>, number in 0u32..20, pages: u32) {
        let _ = find(&bytes, number, pages, 2);
    }
}
