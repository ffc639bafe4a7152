//! What is left of a copy that failed, and of a file that goes while it is read: nothing.

use std::{io, path::PathBuf};

use repo::{BackupId, keys::Unlock, map::MapWriter, sources::Sources, store::Location, table::TableWriter};

use super::*;
use crate::{
    Error,
    backup::{Level, uploads::Uploads},
    database,
    event::{Observer, Stop},
    source::{LocalDirectory, Names, SourceFile, Stat},
};

const PAGE: usize = 8192;

struct Deaf;

impl Observer for Deaf {
    fn event(&self, _: Event) {}
}

/// A data directory of two files, and what copies it.
struct Scene {
    folder: tempfile::TempDir,
    backup: BackupId,
    uploads: Uploads,
    assembler: Assembler,
    copy: Copy,
}

impl Scene {
    async fn new(source: impl FnOnce(PathBuf) -> Arc<dyn Source>) -> Scene {
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
        let assembler = Assembler::new(
            TableWriter::new(&repository, &session, backup, PAGE as u32).unwrap(),
            MapWriter::new(&repository, &session, backup).unwrap(),
            Sources::new(backup),
            None,
            PAGE as u32,
        );
        let uploads = Uploads::new(repository.clone());
        let copy = Copy {
            context: context.clone(),
            source: source(data),
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
        Scene {
            folder,
            backup,
            uploads,
            assembler,
            copy,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_fails_leaves_no_reader_at_work() {
    let mut scene = Scene::new(|data| Arc::new(LocalDirectory::new(data))).await;
    let source = scene.copy.source.clone();
    let lost = || Err(Error::Interrupted);
    let failed = scene.copy.run(&mut scene.assembler, &lost).await;
    assert!(matches!(failed, Err(Error::Interrupted)), "{failed:?}");
    // Every reader, and the walker, has the source.
    assert_eq!(Arc::strong_count(&source), 1);
    scene.uploads.settle().await;
    let packs = || {
        let packs = scene.folder.path().join("repository/shop/packs");
        std::fs::read_dir(packs.join(scene.backup.as_str())).map_or(0, Iterator::count)
    };
    assert_eq!(packs(), scene.uploads.sent());
}

/// A directory in which `b` goes when a MiB of it was read, and is named anew for what follows.
struct Going(LocalDirectory);

struct GoingFile(Box<dyn SourceFile>);

impl Source for Going {
    fn list(&self, path: &[u8]) -> io::Result<Option<Names>> {
        self.0.list(path)
    }
    fn stat(&self, path: &[u8]) -> io::Result<Option<Stat>> {
        self.0.stat(path)
    }
    fn link(&self, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.0.link(path)
    }
    fn open(&self, path: &[u8]) -> io::Result<Option<Box<dyn SourceFile>>> {
        let open = self.0.open(path)?;
        Ok(open.map(|file| match path {
            b"b" => Box::new(GoingFile(file)),
            _ => file,
        }))
    }
}

impl SourceFile for GoingFile {
    fn stat(&self) -> io::Result<Stat> {
        self.0.stat()
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match offset < 1 << 20 {
            true => self.0.read_at(buffer, offset),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_no_relation_that_goes_while_it_is_read_is_not_in_the_backup_rather_than_half_of_it() {
    let mut scene = Scene::new(|data| Arc::new(Going(LocalDirectory::new(data)))).await;
    scene.copy.run(&mut scene.assembler, &|| Ok(())).await.unwrap();
    let assembled = scene.assembler.finish().await.unwrap();
    assert_eq!((assembled.totals.files, assembled.totals.bytes), (1, 2 << 20));
    scene.uploads.settle().await;
}
