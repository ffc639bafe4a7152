//! A repository in a temporary folder, a server beside it, and the engine between them.

use std::{path::PathBuf, sync::Arc};

use engine::{
    backup::{self, Level, Options, Summary},
    database::{self, Database, Opened},
    event::{Context, Event, Observer, Stop},
    repo::{keys::Unlock, store::Location},
    restore::{self, At, Onto, Request, Restored},
};
use pgformat::Major;
use std::sync::Mutex;
use testkit::clusters::{Options as ClusterOptions, TestCluster, give_to_server_user};

/// Keeps every warning, for tests that ask what was said.
#[derive(Default)]
pub(crate) struct Heard(pub(crate) Mutex<Vec<Event>>);

impl Observer for Heard {
    fn event(&self, event: Event) {
        if !matches!(event, Event::Progress { .. }) {
            self.0.lock().unwrap().push(event);
        }
    }
}

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) context: Context,
    pub(crate) heard: Arc<Heard>,
    pub(crate) database: Database,
}

/// A cluster that may be backed up: the tests' default of fsync=off is refused.
pub(crate) fn durable() -> ClusterOptions {
    durable_with(&[])
}

/// The same, with more lines of configuration.
pub(crate) fn durable_with(lines: &[&str]) -> ClusterOptions {
    let mut options = ClusterOptions::default();
    options.conf.push("fsync = on".into());
    options.conf.extend(lines.iter().map(ToString::to_string));
    options
}

impl World {
    pub(crate) async fn new() -> World {
        World::with_repository(None).await
    }

    /// With the repository in a directory of the test's choosing, on a small file system for example.
    pub(crate) async fn with_repository(repository: Option<PathBuf>) -> World {
        let folder = tempfile::Builder::new().prefix("lastgood-").tempdir().unwrap();
        give_to_server_user(folder.path());
        let heard = Arc::new(Heard::default());
        let context = Context {
            runtime: testkit::host::runtime(),
            observer: heard.clone(),
            stop: Stop::default(),
        };
        let repository = repository.unwrap_or_else(|| folder.path().join("repository"));
        let location = Location::parse(repository.to_str().unwrap(), std::path::Path::new("/")).unwrap();
        let (_, unlock) = Unlock::generate("shop");
        engine::init::run(&context, &location, "shop", &unlock).await.unwrap();
        let database = Database {
            name: "shop".into(),
            location,
            unlock,
            expected_id: None,
        };
        World {
            folder,
            context,
            heard,
            database,
        }
    }

    pub(crate) async fn open(&self) -> Opened {
        database::open(&self.context, &self.database).await.unwrap()
    }

    pub(crate) fn options(&self, cluster: &TestCluster) -> Options {
        Options {
            label: None,
            level: Level::default(),
            jobs: 2,
            wanted: backup::Wanted::default(),
            rebase: false,
            difference: backup::Difference::default(),
            audit: 1,
            max_rate: None,
            reader: engine::backup::Reader::Local,
            data_directory: Some(cluster.data_dir().to_path_buf()),
            standby: None,
        }
    }

    pub(crate) async fn backup(&self, cluster: &TestCluster) -> Summary {
        let opened = self.open().await;
        backup::run(&self.context, &opened, &cluster.conninfo(), &self.options(cluster))
            .await
            .unwrap()
    }

    pub(crate) fn request(&self, name: &str) -> Request {
        Request {
            at: At::Latest,
            timeline: None,
            to: self.target(name),
            onto: Onto::Empty,
            jobs: 2,
            tablespaces: Vec::new(),
            start: None,
        }
    }

    pub(crate) fn target(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) async fn restore(&self, request: &Request) -> Restored {
        let opened = self.open().await;
        let plan = restore::plan(&self.context, &opened, request).await.unwrap();
        restore::run(&self.context, &opened, request, plan).await.unwrap()
    }

    /// Restores the newest backup and brings up a server on it.
    pub(crate) async fn revive(&self, major: Major, name: &str) -> TestCluster {
        let restored = self.restore(&self.request(name)).await;
        let mut cluster = TestCluster::on(major, &restored.to);
        cluster.start().await;
        cluster
    }
}
