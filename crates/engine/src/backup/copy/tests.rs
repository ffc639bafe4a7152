//! What is left of a copy that failed: nothing.

use repo::{BackupId, keys::Unlock, map::MapWriter, sources::Sources, store::Location, table::TableWriter};

use super::*;
use crate::{
    Error,
    backup::{Level, uploads::Uploads},
    database,
    event::{Observer, Stop},
    source::LocalDirectory,
};

const PAGE: usize = 8192;

struct Deaf;

impl Observer for Deaf {
    fn event(&self, _: Event) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_fails_leaves_no_reader_at_work() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    // The first piece is done at once; the second fills packs for a while.
    std::fs::write(data.join("a"), vec![1; 2 << 20]).unwrap();
    let mut noise = vec![0; 48 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    std::fs::write(data.join("b"), noise).unwrap();
    let context = Context {
        runtime: testkit::host::runtime(),
        observer: Arc::new(Deaf),
        stop: Stop::default(),
    };
    let location = Location::parse(folder.path().join("repository").to_str().unwrap(), folder.path()).unwrap();
    let (_, unlock) = Unlock::generate("shop");
    crate::init::run(&context, &location, "shop", &unlock).await.unwrap();
    let store = location.database("shop", false).unwrap();
    let opened = database::open_store(&context, store, &unlock).await.unwrap();
    let (repository, session) = (opened.repository.clone(), opened.begin_session().await.unwrap());
    let backup = BackupId::new(1_700_000_000_000_000, [1; 6]);
    let mut assembler = Assembler::new(
        TableWriter::new(&repository, &session, backup, PAGE as u32).unwrap(),
        MapWriter::new(&repository, &session, backup).unwrap(),
        Sources::new(backup),
        None,
        PAGE as u32,
    );
    let uploads = Uploads::new(repository.clone());
    let source: Arc<dyn Source> = Arc::new(LocalDirectory::new(data));
    let copy = Copy {
        context: context.clone(),
        source: source.clone(),
        spaces: Spaces {
            version_directory: String::new(),
            inside: Vec::new(),
            known: Vec::new(),
        },
        rules: Rules {
            page_size: PAGE,
            blocks_per_segment: 131_072,
            checked_before: None,
            begun: pgformat::Lsn(0),
        },
        place: Arc::new(Place {
            repository,
            session,
            backup,
            page_size: PAGE,
            level: Level::None,
            uploads: uploads.clone(),
        }),
        rate: Arc::new(Rate::new(None, context.runtime.clone())),
        jobs: 2,
        expected: 0,
        parent: None,
    };
    let lost = || Err(Error::Interrupted);
    let failed = copy.run(&mut assembler, &lost).await;
    assert!(matches!(failed, Err(Error::Interrupted)), "{failed:?}");
    // Every reader, and the walker, has the source.
    assert_eq!(Arc::strong_count(&source), 1);
    uploads.settle().await;
    let packs = || {
        let packs = std::fs::read_dir(folder.path().join("repository/shop/packs").join(backup.as_str()));
        packs.map_or(0, Iterator::count)
    };
    assert_eq!(packs(), uploads.sent());
}
