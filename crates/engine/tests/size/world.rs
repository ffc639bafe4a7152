//! A repository in a directory, and the engine on it.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use engine::{
    Error,
    backup::{self, Level, Options, Plan, Summary},
    database::{self, Opened},
    event::{Context, Event, Observer, Stop},
    init,
    repo::{
        self, BackupId, Store,
        keys::Unlock,
        manifest::{Manifest, ObjectRef, Owner},
        sources::Sources,
        store::{Listed, Location, Put},
    },
    restore,
};
use pgformat::control::Control;

use crate::{
    madeup::{CONTROL, MadeUp, noise},
    server::ModelServer,
};

/// The number in the environment variable `name`, if there is one.
pub fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

struct Deaf;

impl Observer for Deaf {
    fn event(&self, _: Event) {}
}

pub struct World {
    pub context: Context,
    unlock: Unlock,
    location: Location,
    folder: std::path::PathBuf,
}

impl World {
    /// A new repository in `folder`.
    pub async fn new(folder: &Path) -> World {
        let (text, _) = Unlock::generate("shop");
        std::fs::write(folder.join("key"), text.as_bytes()).unwrap();
        let world = World::existing(folder);
        init::run(&world.context, &world.location, "shop", &world.unlock)
            .await
            .unwrap();
        world
    }

    /// The repository that [`World::new`] made in `folder`.
    pub fn existing(folder: &Path) -> World {
        let unlock = Unlock::parse_key_file(&std::fs::read_to_string(folder.join("key")).unwrap()).unwrap();
        let context = Context {
            runtime: testkit::host::runtime(),
            observer: Arc::new(Deaf),
            stop: Stop::default(),
        };
        let location = Location::parse(folder.join("repository").to_str().unwrap(), Path::new("/")).unwrap();
        World {
            context,
            unlock,
            location,
            folder: folder.into(),
        }
    }

    pub async fn open(&self) -> Opened {
        self.open_slowly(0).await
    }

    /// Puts a manifest under the id `as_id`: that of the backup `of`, but with `packs` packs.
    pub async fn commit_with_packs(&self, of: &str, as_id: BackupId, packs: u32) {
        let opened = self.open().await;
        let session = opened.begin_session().await.unwrap();
        let of = BackupId::parse(of).unwrap();
        let mut manifest = Manifest::read(&opened.repository, &of, None).await.unwrap();
        manifest.facts.backup = as_id;
        manifest.needed.sources = Sources::new(as_id);
        let mut hash = [0; 32];
        let pack = |number| {
            noise(u64::from(number), &mut hash);
            ObjectRef {
                source: 0,
                number,
                size: 24 << 20,
                directory: 100_000,
                hash,
                holds: 1,
                used: 1,
            }
        };
        manifest.needed.packs = (0..packs).map(pack).collect();
        let finished = manifest.seal(&opened.repository, &session).unwrap();
        opened.repository.put_finished(&finished).await.unwrap();
    }

    /// Every put takes `millis` more.
    async fn open_slowly(&self, millis: u64) -> Opened {
        let inner = self.location.database("shop", false).unwrap();
        let store = Arc::new(Slow {
            inner,
            wait: Duration::from_millis(millis),
            context: self.context.clone(),
        });
        database::open_store(&self.context, store, &self.unlock).await.unwrap()
    }

    pub async fn backup(&self, source: MadeUp, jobs: usize, level: Level, millis: u64) -> Summary {
        let opened = self.open_slowly(millis).await;
        let control = Control::parse(&CONTROL).unwrap();
        let server = ModelServer::new(control.clone());
        let owner = Owner {
            user: "postgres".into(),
            group: "postgres".into(),
        };
        let plan = Plan::from_parts(Arc::new(source), server.facts_now(), control, owner);
        let options = Options {
            label: None,
            level,
            jobs,
            wanted: backup::Wanted::default(),
            rebase: false,
            difference: backup::Difference::default(),
            audit: 1,
            max_rate: None,
            reader: engine::backup::Reader::Local,
            data_directory: None,
            standby: None,
        };
        backup::run_with(&self.context, &opened, &server, plan, &options)
            .await
            .unwrap()
    }

    /// Plans a restore, which may end at the disk being too small for what was only made up.
    pub async fn plan_restore(&self, opened: &Opened) {
        let request = restore::Request {
            at: restore::At::Latest,
            timeline: None,
            to: self.folder.join("target"),
            onto: restore::Onto::Empty,
            jobs: 2,
            tablespaces: Vec::new(),
            start: None,
        };
        match restore::plan(&self.context, opened, &request).await {
            Ok(_) | Err(Error::Refused { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// A store as far away as one likes. That is the subject here, not a way to wait for something.
struct Slow {
    inner: Arc<dyn Store>,
    wait: Duration,
    context: Context,
}

#[async_trait]
impl Store for Slow {
    async fn put_new(&self, name: &str, bytes: Bytes) -> repo::Result<Put> {
        if !self.wait.is_zero() && name.starts_with("packs/") {
            self.context.runtime.clock.sleep(self.wait).await;
        }
        self.inner.put_new(name, bytes).await
    }
    async fn get(&self, name: &str) -> repo::Result<Option<Bytes>> {
        self.inner.get(name).await
    }
    async fn get_range(&self, name: &str, offset: u64, length: usize) -> repo::Result<Option<Bytes>> {
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
