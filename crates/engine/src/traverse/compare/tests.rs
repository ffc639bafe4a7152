//! What a pack is called that does not fit the file whose pages it should have.

use std::{path::Path, sync::Arc};

use repo::{
    BackupId, Error as RepositoryError, Repository,
    envelope::Codec,
    keys::Unlock,
    leaf::{Leaf, PageRef},
    manifest::{Needed, ObjectRef},
    map::MapReader,
    names,
    pack::{Form, PackWriter, Slots},
    sources::Sources,
    store::Location,
    table::LeafSlot,
};

use super::*;
use crate::{
    Error,
    pages::{Packs, Pages},
};

const PAGE: usize = 8192;

/// A backup whose one pack has two whole pages and one of 100 bytes, and what reads it.
async fn scene(folder: &Path) -> (Reading, String) {
    let location = Location::parse(folder.to_str().unwrap(), Path::new("/")).unwrap();
    let store = location.database("shop", true).unwrap();
    let (_, unlock) = Unlock::generate("shop");
    let repository = Repository::create(store, testkit::host::runtime(), "shop", &unlock);
    let repository = repository.await.unwrap();
    let session = repository.begin_session().await.unwrap();
    let id = BackupId::new(1_700_000_000_000_000, [1; 6]);
    let name = names::pack(&id, 0);
    let mut pack = PackWriter::new(&repository, &session, name.clone(), Form::Whole).unwrap();
    let raw = vec![7; 2 * PAGE + 100];
    let hashes: Vec<[u8; 8]> = raw
        .chunks(PAGE)
        .map(|page| repository.keyring().page_hash(page))
        .collect();
    let slots = Slots::Lengths(vec![PAGE as u32, PAGE as u32, 100]);
    pack.frame(&raw, raw.len(), Codec::Stored, &slots, &hashes).unwrap();
    let pack = pack.finish().unwrap();
    repository.put_finished(&pack).await.unwrap();
    let sources = Sources::new(id);
    let needed = Needed {
        sources: sources.clone(),
        packs: vec![ObjectRef {
            source: 0,
            number: 0,
            size: pack.bytes.len() as u32,
            directory: pack.directory,
            hash: pack.hash,
            holds: 3,
            used: 3,
        }],
        maps: Vec::new(),
    };
    let needed = Arc::new(needed);
    let maps = MapReader::new(&repository, needed.clone()).unwrap();
    let pages = Pages::new(Arc::new(Packs::new(repository, needed, PAGE))).unwrap();
    (Reading::new(pages, maps, sources, PAGE as u32), name)
}

/// A file of that size whose three pages are the pack's.
fn file(size: usize) -> FileEntry {
    let extent = Extent {
        pages: 3,
        pages_at: PageRef {
            source: 0,
            pack: 0,
            frame: 0,
            slot: 0,
        },
        base: None,
    };
    FileEntry {
        path: b"base/5/16384".to_vec(),
        mode: 0o600,
        modified_micros: 0,
        size: size as u64,
        relation: true,
        leaves: vec![LeafSlot::Inline(Leaf(vec![extent]))],
        first_leaf: 0,
    }
}

fn check(result: Result<u64>, fits: bool, pack: &str, page: &str) {
    match result {
        Ok(bytes) => assert!(fits, "{bytes} bytes were handed out"),
        Err(Error::Repository(RepositoryError::Damaged { name, what })) => {
            assert!(!fits && name == pack, "{name}: {what}");
            assert!(what.contains("base/5/16384 from ") && what.contains(page), "{what}");
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_whose_pages_are_longer_or_shorter_than_the_files_is_named_with_file_and_page() {
    let folder = tempfile::tempdir().unwrap();
    let (mut reading, pack) = scene(folder.path()).await;
    for (size, fits) in [
        (2 * PAGE + 100, true),
        (2 * PAGE + 99, false),
        (2 * PAGE + 101, false),
        (3 * PAGE, false),
    ] {
        let read = reading.read(&file(size), |_, _| Ok(())).await;
        check(read.map(|handled| handled.bytes), fits, &pack, "from page 0 on");
        let nothing = reading.compare(&file(size), |_, _| Ok(0), |_, _| Ok(())).await;
        check(nothing.map(|(handled, _)| handled.bytes), fits, &pack, "from page 0 on");
        // What is there already fits, but for the last page.
        let there = |bytes: &mut [u8], at: u64| {
            bytes.fill(7);
            Ok(bytes.len().min((2 * PAGE).saturating_sub(at as usize)))
        };
        let last = reading.compare(&file(size), there, |_, _| Ok(())).await;
        check(last.map(|(handled, _)| handled.bytes), fits, &pack, "from page 2 on");
    }
}
