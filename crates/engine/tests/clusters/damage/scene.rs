//! What is damaged: a repository with a backup from each of two timelines, and another one beside it.

use engine::{
    backup::{self, Options},
    database::{self, Database},
    init,
    repo::{
        Repository,
        envelope::{Codec, Kind, Opener},
    },
    restore::{At, Request},
};
use pgformat::Major;
use testkit::clusters::TestCluster;

use super::folder::{Folder, Target};
use crate::world::{World, durable};

pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) folder: Folder,
    /// The backup that is restored: the second, on the second timeline.
    pub(crate) backup: String,
    pub(crate) targets: Vec<Target>,
}

impl Scene {
    pub(crate) async fn new() -> Scene {
        let world = World::new().await;
        let source = TestCluster::new(Major::V15, durable()).await;
        let fill = "CREATE TABLE public.shop AS SELECT i, md5(i::text) AS text FROM generate_series(1, 5000) AS i";
        source.session().await.execute("fill a table", fill).await.unwrap();
        let first = world.backup(&source).await.backup.id;
        drop(source);
        let promoted = world.revive(Major::V15, "promoted").await;
        let second = world.backup(&promoted).await.backup;
        assert_eq!(second.timeline, Some(2));
        let other = other_life(&world, &promoted).await;
        drop(promoted);
        // So that the entry that commits the backup is not the last one.
        let opened = world.open().await;
        verify(&world, &opened, &second.id).await;
        let root = world.folder.path().join("repository");
        let older = Folder::remember(&root.join("other"));
        let folder = Folder::remember(&root.join("shop"));
        let targets = targets(&opened.repository, &folder, &older, [&first, &second.id, &other]).await;
        // Once more: what was sealed again has sessions of its own.
        let folder = Folder::remember(&root.join("shop"));
        Scene {
            world,
            folder,
            backup: second.id,
            targets,
        }
    }

    pub(crate) fn request(&self) -> Request {
        Request {
            at: At::Backup(self.backup.clone()),
            timeline: None,
            ..self.world.request("restored")
        }
    }
}

async fn verify(world: &World, opened: &database::Opened, id: &str) {
    let request = engine::verify::Request {
        backup: Some(id.into()),
        level: engine::repo::ledger::Level::Objects,
        jobs: 2,
        binaries: None,
        scratch: None,
    };
    engine::verify::run(&world.context, opened, &request).await.unwrap();
}

/// A second repository with the same key and the same cluster: its objects have the names of the first's.
async fn other_life(world: &World, cluster: &TestCluster) -> String {
    let database = Database {
        name: "other".into(),
        ..world.database.clone()
    };
    init::run(&world.context, &database.location, "other", &database.unlock)
        .await
        .unwrap();
    let opened = database::open(&world.context, &database).await.unwrap();
    let options = Options {
        label: Some("of another life".into()),
        ..world.options(cluster)
    };
    let done = backup::run(&world.context, &opened, &cluster.conninfo(), &options)
        .await
        .unwrap();
    done.backup.id
}

/// One object of every class, and what may take its place.
async fn targets(
    repository: &Repository,
    folder: &Folder,
    older: &Folder,
    [first, second, other]: [&str; 3],
) -> Vec<Target> {
    let one = |start: String| folder.the(move |name| name.starts_with(&start));
    let commits = commits(repository, folder).await;
    let last = folder
        .names()
        .filter(|name| name.starts_with("ledger/"))
        .max()
        .unwrap()
        .to_string();
    let session_of = |folder: &Folder, object: &str| format!("sessions/{}", hex::encode(&folder.bytes(object)[16..32]));
    let manifest = format!("backups/{second}/manifest");
    let session = session_of(folder, &manifest);
    let pack = format!("packs/{second}/00000000");
    let of = |id: &str, name: &str| name.replace(second, id);
    let run = one("wal/".to_string() + &generation(folder) + "/00000002/");
    let history = one("wal/".to_string() + &generation(folder) + "/00000002.history");
    let entry = |class, name, n: u64| (class, name, last.clone(), repo_name(n), Some(Kind::Ledger));
    // Class, object, sibling, name in the other life, kind if it is sealed.
    let rows: Vec<(&'static str, String, String, String, Option<Kind>)> = vec![
        (
            "identity",
            "identity".into(),
            "keys/1/public".into(),
            "identity".into(),
            None,
        ),
        (
            "public key",
            "keys/1/public".into(),
            "keys/1/unlock-1".into(),
            "keys/1/public".into(),
            None,
        ),
        (
            "unlocking method",
            "keys/1/unlock-1".into(),
            "keys/1/public".into(),
            "keys/1/unlock-1".into(),
            None,
        ),
        (
            "session",
            session.clone(),
            session_of(folder, &format!("backups/{first}/manifest")),
            session_of(older, &format!("backups/{other}/manifest")),
            None,
        ),
        entry("first entry", "ledger/000000000001".into(), 1),
        entry("entry of the cluster", "ledger/000000000002".into(), 2),
        entry("entry of another backup", commits[0].clone(), 5),
        entry("entry of this backup", commits[1].clone(), 5),
        (
            "manifest",
            manifest.clone(),
            of(first, &manifest),
            of(other, &manifest),
            Some(Kind::Manifest),
        ),
        (
            "file table",
            format!("files/{second}/00000000"),
            format!("files/{first}/00000000"),
            format!("files/{other}/00000000"),
            Some(Kind::Files),
        ),
        (
            "pack",
            pack.clone(),
            of(first, &pack),
            of(other, &pack),
            Some(Kind::Pack),
        ),
        (
            "run of WAL",
            run.clone(),
            one(format!("wal/{}/00000001/", generation(folder))),
            older.the(|name| name.contains("/00000002/")),
            Some(Kind::Wal),
        ),
        ("history", history.clone(), run, history, Some(Kind::History)),
    ];
    let mut targets = Vec::new();
    for (class, name, sibling, elsewhere, kind) in rows {
        let sealed_again = match kind {
            Some(kind) => Some(seal_again(repository, kind, &name).await),
            None => None,
        };
        let older = Some(older.bytes(&elsewhere).to_vec());
        targets.push(Target {
            class,
            name,
            sibling,
            older,
            sealed_again,
        });
    }
    targets
}

fn generation(folder: &Folder) -> String {
    let history = folder.the(|name| name.ends_with(".history"));
    history.split('/').nth(1).unwrap().to_string()
}

fn repo_name(n: u64) -> String {
    engine::repo::ledger::name(n)
}

/// The entries that commit a backup, in order.
async fn commits(repository: &Repository, folder: &Folder) -> Vec<String> {
    let mut commits = Vec::new();
    for name in folder.names().filter(|name| name.starts_with("ledger/")) {
        let content = frames(repository, Kind::Ledger, name).await.concat();
        if content.windows(11).any(|window| window == b"\"committed\"") {
            commits.push(name.to_string());
        }
    }
    assert_eq!(commits.len(), 2);
    commits
}

async fn frames(repository: &Repository, kind: Kind, name: &str) -> Vec<Vec<u8>> {
    let sealed = repository.open_whole(kind, name).await.unwrap();
    let mut opener = Opener::new().unwrap();
    (0..sealed.tail.frames)
        .map(|frame| sealed.read(&mut opener, frame).unwrap())
        .collect()
}

/// The same frames under the same name, packed as they were, in a session of their own: what somebody who can write
/// could put there. As long as the first, so that only its hash tells; but for packs and WAL, which are packed otherwise.
pub(crate) async fn seal_again(repository: &Repository, kind: Kind, name: &str) -> Vec<u8> {
    let directory = repository.open_whole(kind, name).await.unwrap().directory;
    let session = repository.begin_session().await.unwrap();
    let mut draft = repository.draft(&session, kind, name.to_string(), 0).unwrap();
    let raw = frames(repository, kind, name).await;
    for (frame, as_it_was) in raw.iter().zip(&directory.frames) {
        let packed = match as_it_was.codec {
            Codec::Stored => frame.clone(),
            Codec::Zstd => zstd::bulk::compress(frame, 3).unwrap(),
        };
        draft.frame(&packed, frame.len(), as_it_was.codec).unwrap();
    }
    let sealed = draft.finish(directory.extra).unwrap().bytes.to_vec();
    let before = repository.store().get(name).await.unwrap().unwrap();
    assert!(
        matches!(kind, Kind::Pack | Kind::Wal) || sealed.len() == before.len(),
        "{name}"
    );
    sealed
}
