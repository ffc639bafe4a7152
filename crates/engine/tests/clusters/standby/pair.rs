//! A primary and its standby, a receiver beside the primary, and backups that are taken of either.

use engine::{
    Result,
    backup::{self, ChangesBy, Increment, Options, Summary, Wanted},
    event::Context,
};
use pgformat::{Lsn, Major, control::Control, label::BackupLabel};
use testkit::clusters::{TestCluster, bank, caught_up, standby_of};
use tokio::task::JoinHandle;

use crate::{
    ask::{sql, value},
    scene::{Depth, Scene, options, stop_and_forget},
};

pub(crate) const ACCOUNTS: i32 = 300;

/// The primary is the scene's cluster.
pub(crate) struct Pair {
    pub(crate) scene: Scene,
    pub(crate) standby: TestCluster,
}

/// Whose backup it is, and where the files come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Primary,
    /// The standby's own.
    Standby,
    /// The primary's, from the standby's files.
    Beside,
}

impl Pair {
    /// A bank, and a table of some thousand pages that changes little.
    pub(crate) async fn begin(major: Major, lines: &[&str]) -> Pair {
        let mut scene = Scene::begin(major, options(major != Major::V13, lines)).await;
        let session = scene.cluster.session().await;
        bank::create(&session, ACCOUNTS).await;
        session.close().await;
        let bulk = "CREATE TABLE public.bulk (id int PRIMARY KEY, filler text) WITH (fillfactor = 90);
             INSERT INTO public.bulk SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 9000) AS i;
             VACUUM (FREEZE, ANALYZE) public.bulk";
        for statement in bulk.split(';') {
            sql(&scene.cluster, statement).await;
        }
        scene.stop_receiving().await;
        let standby = standby_of(&mut scene.cluster, &scene.world.target("standby")).await;
        scene.receive().await;
        // Something is replayed, and a restartpoint made.
        sql(&scene.cluster, "CHECKPOINT").await;
        let pair = Pair { scene, standby };
        pair.caught_up().await;
        pair
    }

    pub(crate) async fn caught_up(&self) {
        caught_up(&self.scene.cluster, &self.standby).await;
    }

    /// What the tests' backups are taken with.
    pub(crate) fn options(&self, from: From) -> Options {
        let world = &self.scene.world;
        match from {
            From::Primary => world.options(&self.scene.cluster),
            From::Standby => world.options(&self.standby),
            From::Beside => Options {
                standby: Some(self.standby.conninfo()),
                ..world.options(&self.standby)
            },
        }
    }

    pub(crate) async fn take(&self, from: From, change: impl FnOnce(&mut Options)) -> Result<Summary> {
        self.take_watched(&self.scene.world.context, from, change).await
    }

    pub(crate) async fn take_watched(
        &self,
        context: &Context,
        from: From,
        change: impl FnOnce(&mut Options),
    ) -> Result<Summary> {
        self.begin_to_take(context, from, change).await.await.unwrap()
    }

    /// A task of its own: one that stands still in the middle stops nobody else.
    pub(crate) async fn begin_to_take(
        &self,
        context: &Context,
        from: From,
        change: impl FnOnce(&mut Options),
    ) -> JoinHandle<Result<Summary>> {
        let mut options = self.options(from);
        change(&mut options);
        let conninfo = match from {
            From::Standby => self.standby.conninfo(),
            From::Primary | From::Beside => self.scene.cluster.conninfo(),
        };
        let (context, opened) = (context.clone(), self.scene.world.open().await);
        tokio::spawn(async move { backup::run(&context, &opened, &conninfo, &options).await })
    }

    pub(crate) async fn full(&self, from: From) -> Summary {
        let taken = self.take(from, |options| options.wanted = Wanted::Full).await;
        taken.unwrap_or_else(|error| panic!("full from {from:?}: {error:?}"))
    }

    /// An incremental backup of which every page that was taken unread is compared.
    pub(crate) async fn increment(&self, from: From) -> (Summary, Increment) {
        let taken = self.take(from, |options| {
            options.wanted = Wanted::Incremental;
            options.audit = 100;
        });
        let summary = taken.await.unwrap_or_else(|error| panic!("from {from:?}: {error:?}"));
        let increment = summary.increment.clone().unwrap();
        println!("from {from:?}: {increment:?}, {} stored", summary.backup.stored);
        assert_eq!(summary.unsound, None, "from {from:?}");
        (summary, increment)
    }

    /// One that rests on the WAL.
    pub(crate) async fn by_wal(&self, from: From) -> (Summary, Increment) {
        let (summary, increment) = self.increment(from).await;
        assert_eq!((increment.by, &increment.why), (ChangesBy::Wal, &None), "from {from:?}");
        assert!(increment.kept > 1000, "from {from:?}: {increment:?}");
        assert_eq!(increment.audited, increment.kept, "from {from:?}");
        (summary, increment)
    }

    /// Changes some of the large table, each time other rows.
    pub(crate) async fn change(&self, number: u32) {
        let change = format!("UPDATE public.bulk SET filler = md5('{number}') WHERE id % 100 = {number}");
        sql(&self.scene.cluster, &change).await;
    }

    /// Asserts that a backup which was taken under load brings back a bank whose books are in order.
    pub(crate) async fn books_are_right(&mut self, id: &str) {
        let server = self.scene.revive(id).await;
        let session = server.session().await;
        let books = bank::audit(&session, ACCOUNTS).await;
        session.close().await;
        assert_eq!(books.faults, Vec::<String>::new(), "of {id}");
        assert!(!books.transfers.is_empty(), "of {id}");
        let found = testkit::clusters::amcheck(&server.conninfo()).await;
        assert_eq!(found, Vec::<String>::new(), "of {id}");
        stop_and_forget(server).await;
    }

    /// Takes one more backup, now that nothing writes: it is small, and brings back what is there, and those that were taken under
    /// load bring back a bank whose books are in order. Nothing was found on the way, and everything ends.
    pub(crate) async fn all_come_back(mut self, from: From, under_load: [Summary; 2]) {
        self.change(1).await;
        if from == From::Standby {
            self.caught_up().await;
        }
        let rows = self.scene.rows().await;
        let (quiet, increment) = self.by_wal(from).await;
        assert!(increment.stored < 700, "{increment:?}");
        self.scene.brings_back(&quiet.backup.id, &rows, Depth::All).await;
        for summary in under_load {
            self.books_are_right(&summary.backup.id).await;
        }
        assert_eq!(self.scene.alerts().await, Vec::<String>::new());
        self.end().await;
    }

    /// What `pg_control` and `backup_label` in a backup say, and where the backup ends.
    pub(crate) async fn kept(&self, id: &str) -> (Control, BackupLabel, Lsn) {
        let manifest = self.scene.manifest(id).await;
        let kept = |path: &str| {
            let mut files = manifest.kept.iter();
            files.find(|file| file.path == path.as_bytes()).unwrap().content.clone()
        };
        (
            Control::parse(&kept("global/pg_control")).unwrap(),
            BackupLabel::parse(&kept("backup_label")).unwrap(),
            Lsn(manifest.facts.stop.lsn.0),
        )
    }

    /// Everything goes, the receiver first.
    pub(crate) async fn end(mut self) {
        self.scene.stop_receiving().await;
        self.standby.stop().await;
    }
}

/// Such as `0/3000060`.
pub(crate) async fn position(server: &TestCluster, what: &str) -> Lsn {
    value(server, what).await.parse().unwrap()
}
