//! What these tests do to servers and files, and how they watch a backup.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, mpsc},
};

use engine::{
    Error,
    backup::{self, Options, Summary},
    event::{Context, Event, Observer},
    list,
};
use testkit::clusters::{TestCluster, give_to_server_user};

use crate::world::{Heard, World};

/// An empty directory beside the data directory of `cluster`, the server's own.
pub(crate) fn directory_beside(cluster: &TestCluster, name: &str) -> PathBuf {
    let path = cluster.folder().join(name);
    fs::create_dir(&path).unwrap();
    give_to_server_user(&path);
    path
}

/// Copies a directory with everything about it.
pub(crate) fn copy_directory(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// Everything below `root` but directories, with size: relative paths as the file system has them.
pub(crate) fn files_below(root: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                open.push(entry.path());
            } else {
                let path = entry.path().strip_prefix(root).unwrap().to_path_buf();
                found.insert(path, metadata.len());
            }
        }
    }
    found
}

/// The code, sentence and hint of a refusal; anything else fails the test.
pub(crate) fn refusal(error: Error) -> (&'static str, String, String) {
    match error {
        Error::Refused { code, what, hint } => (code, what, hint),
        other => panic!("not a refusal: {other:?}"),
    }
}

/// The stable word of a failure.
pub(crate) fn failure(error: Error) -> &'static str {
    match error {
        Error::Failed { code, .. } => code,
        other => panic!("not a failure on the way: {other:?}"),
    }
}

impl World {
    /// Every object of the repository, with size.
    pub(crate) fn objects(&self) -> BTreeMap<PathBuf, u64> {
        files_below(&self.repository())
    }

    /// Where the repository is.
    pub(crate) fn repository(&self) -> PathBuf {
        PathBuf::from(self.database.location.to_string())
    }

    /// Ids of what `list` shows.
    pub(crate) async fn listed(&self) -> Vec<String> {
        let opened = self.open().await;
        list::backups(&opened)
            .await
            .into_iter()
            .map(|backup| backup.id)
            .collect()
    }

    /// Asserts that no run stands open in the ledger: each was committed or said to have failed.
    pub(crate) async fn assert_no_run_is_open(&self) {
        let opened = self.open().await;
        let open: Vec<String> = opened
            .with_state(|state| state.open_runs().map(|run| run.id.clone()).collect())
            .await;
        assert_eq!(open, Vec::<String>::new());
    }

    /// A backup that is allowed to fail.
    pub(crate) async fn try_backup(&self, cluster: &TestCluster, options: &Options) -> engine::Result<Summary> {
        let opened = self.open().await;
        backup::run(&self.context, &opened, &cluster.conninfo(), options).await
    }

    /// Codes of the warnings so far.
    pub(crate) fn warnings(&self) -> Vec<(String, String)> {
        let heard = self.heard.0.lock().unwrap();
        let warnings = heard.iter().filter_map(|event| match event {
            Event::Warning(warning) => Some((warning.code.to_string(), warning.message.clone())),
            _ => None,
        });
        warnings.collect()
    }

    /// The world's context, with `act` called at every event besides.
    pub(crate) fn watching(&self, act: impl Fn(&Event) + Send + Sync + 'static) -> Context {
        Context {
            observer: Arc::new(Watching {
                heard: self.heard.clone(),
                act,
            }),
            ..self.context.clone()
        }
    }

    /// Takes a backup, slowly enough that `meanwhile` begins when some of the files are copied and others are
    /// not. However slow the machine is, it is over before the server is asked to end the backup.
    pub(crate) async fn backup_while(
        &self,
        cluster_conninfo: &pgclient::Conninfo,
        options: &Options,
        meanwhile: impl Future<Output = ()>,
    ) -> engine::Result<Summary> {
        let (copying, in_the_middle) = async_channel::bounded::<()>(1);
        let (over, is_over) = mpsc::channel::<()>();
        let is_over = Mutex::new(is_over);
        let context = self.watching(move |event| match event {
            Event::Progress { done, .. } if *done > 0 => {
                let _ = copying.try_send(());
            }
            Event::Step { step: "stop", .. } => {
                // Whatever else this thread had to do, another one does.
                let _ = tokio::task::block_in_place(|| is_over.lock().unwrap().recv());
            }
            _ => {}
        });
        let opened = self.open().await;
        let (conninfo, options) = (cluster_conninfo.clone(), options.clone());
        // A backup that ends early drops the context, and nobody waits for the middle any more.
        let backup = tokio::spawn(async move { backup::run(&context, &opened, &conninfo, &options).await });
        if in_the_middle.recv().await.is_ok() {
            meanwhile.await;
        }
        drop(over);
        backup.await.unwrap()
    }
}

struct Watching<Act> {
    heard: Arc<Heard>,
    act: Act,
}

impl<Act: Fn(&Event) + Send + Sync> Observer for Watching<Act> {
    fn event(&self, event: Event) {
        (self.act)(&event);
        self.heard.event(event);
    }
}
