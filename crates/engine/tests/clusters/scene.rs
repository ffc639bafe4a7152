//! A server with a receiver beside it, incremental backups of it, and what each of them has to bring back.

use std::collections::BTreeMap;

use engine::{
    backup::{self, ChangesBy, Increment, Options, Summary, Wanted},
    event::Event,
    pgclient::Conninfo,
    repo::{BackupId, manifest::Manifest},
    restore::At,
};
use pgformat::Major;
use testkit::clusters::{
    Options as ClusterOptions, RowDigest, TestCluster, amcheck, give_to_server_user, index_counts, row_digests,
    visibility,
};

use crate::{
    ask::{sql, value},
    receiving::{Receiving, flushed, here, slot, stream_of},
    world::{World, durable_with},
};

/// Rows by table.
pub(crate) type Rows = BTreeMap<String, RowDigest>;

/// A server whose WAL is received, and its repository.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) cluster: TestCluster,
    pub(crate) receiving: Option<Receiving>,
    restores: u32,
}

/// How thoroughly a restored server is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    Rows,
    /// Indexes against tables, and visibility maps against both, too.
    All,
}

/// The lines of configuration that all of them need: nothing of the WAL goes before it is asked for, and nothing is vacuumed that
/// no statement says.
pub(crate) fn options(checksums: bool, lines: &[&str]) -> ClusterOptions {
    let mut all = vec![
        "wal_keep_size = 2GB",
        "max_slot_wal_keep_size = 4GB",
        "autovacuum = off",
    ];
    all.extend(lines);
    ClusterOptions {
        checksums,
        ..durable_with(&all)
    }
}

impl Scene {
    pub(crate) async fn begin(major: Major, options: ClusterOptions) -> Scene {
        let cluster = TestCluster::new(major, options).await;
        let mut scene = Scene {
            world: World::new().await,
            cluster,
            receiving: None,
            restores: 0,
        };
        scene.receive().await;
        scene
    }

    /// Receives from now on; returns when everything that was written is here.
    pub(crate) async fn receive(&mut self) {
        self.receiving = Some(Receiving::start(&self.world, self.cluster.conninfo(), slot()).await);
        self.all_is_here().await;
    }

    pub(crate) async fn all_is_here(&self) {
        // Only what a transaction's end comes after is stored within a second.
        sql(&self.cluster, "SELECT pg_logical_emit_message(true, 't', 'all')").await;
        let timeline = "SELECT timeline_id FROM pg_control_checkpoint()";
        let timeline = value(&self.cluster, timeline).await.parse().unwrap();
        let stream = stream_of(&self.cluster, timeline).await;
        here(&self.world, &stream, flushed(&self.cluster).await).await;
    }

    pub(crate) async fn stop_receiving(&mut self) {
        if let Some(receiving) = self.receiving.take() {
            receiving.stop().await;
        }
    }

    /// A backup with other options than the tests' own.
    pub(crate) async fn take(&self, change: impl FnOnce(&mut Options)) -> engine::Result<Summary> {
        self.take_as(&self.cluster.conninfo(), change).await
    }

    /// The same by a role.
    pub(crate) async fn take_as(&self, role: &Conninfo, change: impl FnOnce(&mut Options)) -> engine::Result<Summary> {
        let mut options = self.world.options(&self.cluster);
        change(&mut options);
        let opened = self.world.open().await;
        let summary = backup::run(&self.world.context, &opened, role, &options).await?;
        self.adds_up(&summary).await;
        Ok(summary)
    }

    /// Asserts that an incremental backup accounts for each of its pages once.
    pub(crate) async fn adds_up(&self, summary: &Summary) {
        let facts = self.manifest(&summary.backup.id).await.facts;
        if let Some(increment) = facts.increment {
            let all = increment.stored + increment.same + increment.kept + increment.moved;
            assert_eq!(all, facts.totals.pages, "{increment:?}");
            assert!(increment.audited <= increment.kept, "{increment:?}");
        }
    }

    /// An incremental backup that rests on the WAL, and what it took from its parent.
    pub(crate) async fn by_wal(&self, audit: u8, what: &str) -> (Summary, Increment) {
        let summary = self
            .take(|options| {
                options.wanted = Wanted::Incremental;
                options.audit = audit;
            })
            .await
            .unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let increment = rests_on_wal(&summary, what);
        if audit == 100 {
            assert_eq!(increment.audited, increment.kept, "{what}");
        }
        (summary, increment)
    }

    /// An incremental backup that reads every page, and why it does.
    pub(crate) async fn by_hashes(&self) -> (Summary, String) {
        let summary = self.take(|options| options.wanted = Wanted::Incremental).await.unwrap();
        let increment = summary.increment.clone().unwrap();
        println!("{increment:?}");
        assert_eq!((increment.by, increment.kept), (ChangesBy::Hashes, 0));
        assert!(increment.same > 1000, "{increment:?}");
        (summary, increment.why.unwrap())
    }

    pub(crate) async fn rows(&self) -> Rows {
        row_digests(&self.cluster.conninfo()).await
    }

    /// Restores a backup and brings up a server on it. Its files go with `stop_and_forget`.
    pub(crate) async fn revive(&mut self, id: &str) -> TestCluster {
        self.revive_at(At::Backup(id.to_owned())).await
    }

    /// The same for any moment.
    pub(crate) async fn revive_at(&mut self, at: At) -> TestCluster {
        self.restores += 1;
        let mut request = self.world.request(&format!("restored-{}", self.restores));
        request.at = at;
        let space = self.cluster.folder().join("elsewhere");
        let moved = self.world.target(&format!("elsewhere-{}", self.restores));
        if space.exists() {
            request.tablespaces = vec![(space, moved.clone())];
        }
        let restored = self.world.restore(&request).await;
        if moved.exists() {
            give_to_server_user(&moved);
        }
        let mut server = TestCluster::on(self.cluster.major(), &restored.to);
        server.start().await;
        server
    }

    /// Asserts that a backup brings back these rows.
    pub(crate) async fn brings_back(&mut self, id: &str, rows: &Rows, depth: Depth) {
        let server = self.revive(id).await;
        roll_back_prepared(&server).await;
        assert_eq!(&row_digests(&server.conninfo()).await, rows, "of backup {id}");
        if depth == Depth::All {
            is_whole(&server, &format!("of backup {id}")).await;
        }
        stop_and_forget(server).await;
    }

    pub(crate) async fn manifest(&self, id: &str) -> Manifest {
        let opened = self.world.open().await;
        let id = BackupId::parse(id).unwrap();
        Manifest::read(&opened.repository, &id, None).await.unwrap()
    }

    /// Every alert that stands.
    pub(crate) async fn alerts(&self) -> Vec<String> {
        let opened = self.world.open().await;
        opened
            .with_state(|state| state.alerts().map(|(alert, _)| alert.to_owned()).collect())
            .await
    }

    /// Codes and sentences of the warnings so far.
    pub(crate) fn warnings(&self) -> Vec<(String, String)> {
        let heard = self.world.heard.0.lock().unwrap();
        let warnings = heard.iter().filter_map(|event| match event {
            Event::Warning(warning) => Some((warning.code.to_string(), warning.message.clone())),
            _ => None,
        });
        warnings.collect()
    }
}

impl Drop for Scene {
    /// A test that fails says what the receiver had to say.
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(receiving) = &self.receiving
        {
            println!("the receiver warned: {:?}", receiving.warnings());
        }
    }
}

/// Asserts that a backup rests on the WAL; what it took from its parent.
pub(crate) fn rests_on_wal(summary: &Summary, what: &str) -> Increment {
    let increment = summary.increment.clone().unwrap();
    println!(
        "{what}: {increment:?}, {} of {} read",
        summary.bytes_read, summary.backup.bytes
    );
    assert_eq!(summary.unsound, None, "{what}");
    assert_eq!((increment.by, &increment.why), (ChangesBy::Wal, &None), "{what}");
    assert!(increment.kept > 1000, "{what}: {increment:?}");
    increment
}

/// Asserts that PostgreSQL finds nothing wrong with tables, indexes and visibility maps.
pub(crate) async fn is_whole(server: &TestCluster, what: &str) {
    let conninfo = server.conninfo();
    let mut found = amcheck(&conninfo).await;
    found.extend(visibility(&conninfo).await);
    found.extend(index_counts(&conninfo).await);
    assert_eq!(found, Vec::<String>::new(), "{what}");
}

/// What was prepared before the backup is prepared still, and holds its locks.
pub(crate) async fn roll_back_prepared(server: &TestCluster) {
    let session = server.session().await;
    let prepared = "SELECT gid, database::text FROM pg_prepared_xacts";
    for row in session.query("list what is prepared", prepared, &[]).await.unwrap() {
        let (gid, database): (String, String) = (row.get(0), row.get(1));
        let inside = server.session_in(&database).await;
        let roll_back = format!("ROLLBACK PREPARED '{gid}'");
        inside.execute("roll back", &roll_back).await.unwrap();
        inside.close().await;
    }
    session.close().await;
}

/// Stops a restored server and removes its files: they are many.
pub(crate) async fn stop_and_forget(mut server: TestCluster) {
    server.stop().await;
    std::fs::remove_dir_all(server.data_dir()).unwrap();
}
