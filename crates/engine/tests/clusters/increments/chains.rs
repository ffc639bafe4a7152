//! Many increments, one on the other, under load and random DDL; each of them alone, and moments between them.

use std::fs;

use engine::{database, pgformat::Lsn, restore::At};
use pgformat::Major;
use testkit::{clusters::TestCluster, clusters::row_digests, sim::Random};

use super::{
    by_index::counted,
    ddl,
    load::{self, BOOKS, Load},
    rounds::full_matrix,
};
use crate::{
    ask::value,
    moments::workload::{self as witness, DIGEST, Moment},
    scene::{Depth, Rows, Scene, is_whole, options, roll_back_prepared, stop_and_forget},
};

/// A moment at which nobody was at work.
struct Quiet {
    at: Lsn,
    rows: Rows,
}

/// What is known of the past.
#[derive(Default)]
struct Past {
    /// After each transaction of one session, in order.
    moments: Vec<Moment>,
    quiet: Vec<Quiet>,
}

impl Past {
    /// What the witness's table may be at a position: its last commit before is known, and the next one may be before it too.
    fn witnessed(&self, at: u64) -> Vec<&str> {
        let next = self.moments.partition_point(|moment| moment.lsn.0 <= at);
        let around = self.moments.iter().skip(next.saturating_sub(1)).take(2);
        around.map(|moment| moment.digest.as_str()).collect()
    }
}

fn seed() -> u64 {
    let said = std::env::var("LASTGOOD_SEED").ok().map(|seed| seed.parse().unwrap());
    said.unwrap_or_else(|| u64::from_le_bytes(testkit::host::runtime().random()))
}

/// The load, random DDL and the witness, side by side with something else.
async fn beside<T>(scene: &Scene, rng: &mut Random, past: &mut Past, other: impl Future<Output = T>) -> T {
    let load = Load::start(&scene.cluster.conninfo(), rng.word());
    let (ddl_seed, witness_seed) = (rng.word(), rng.word());
    let under_way = load.wait_for(100);
    let mut ddl_rng = Random::new(ddl_seed);
    let (other, moments, (), ()) = futures::join!(
        other,
        witness::run(&scene.cluster, witness_seed, 25),
        ddl::random(&scene.cluster, &mut ddl_rng, 15),
        under_way
    );
    load.stop().await;
    past.moments.extend(moments);
    other
}

/// All of the server as it is now.
async fn quiet(scene: &Scene) -> Quiet {
    let rows = scene.rows().await;
    let at = value(&scene.cluster, "pg_current_wal_insert_lsn()")
        .await
        .parse()
        .unwrap();
    Quiet { at, rows }
}

/// Asserts what holds at any moment: the books balance, and no index misses a row.
async fn is_sound(server: &TestCluster, what: &str) {
    assert_eq!(value(server, BOOKS).await, "0 0 0", "{what}");
    let (findings, kinds) = counted(server).await;
    assert_eq!(findings, Vec::<String>::new(), "{what}");
    assert_eq!(kinds.len(), 6, "{what}: {kinds:?}");
    is_whole(server, what).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_backup_of_a_long_chain_and_every_moment_between_them_brings_back_what_was_there() {
    let count = if full_matrix() { 30 } else { 6 };
    let seed = seed();
    println!("LASTGOOD_SEED={seed}");
    let mut rng = Random::new(seed);
    let mut scene = Scene::begin(
        Major::V15,
        options(
            rng.chance(500),
            &["track_commit_timestamp = on", "wal_writer_delay = '10s'"],
        ),
    )
    .await;
    load::begin(&scene).await;
    let mut past = Past::default();
    beside(&scene, &mut rng, &mut past, async {}).await;
    past.quiet.push(quiet(&scene).await);
    scene.world.backup(&scene.cluster).await;
    let mut taken = Vec::new();
    for number in 0..count {
        beside(&scene, &mut rng, &mut past, async {}).await;
        past.quiet.push(quiet(&scene).await);
        let what = format!("increment {number}, LASTGOOD_SEED={seed}");
        // Every other one is taken in the midst of all.
        let (summary, _) = match number % 2 {
            1 => beside(&scene, &mut rng, &mut past, scene.by_wal(100, &what)).await,
            _ => scene.by_wal(100, &what).await,
        };
        let rows = (number % 2 == 0).then(|| past.quiet.last().unwrap().rows.clone());
        taken.push((summary.backup.id, rows));
    }
    scene.all_is_here().await;
    for (number, (id, rows)) in taken.iter().enumerate() {
        if full_matrix() || (1..=2).contains(&number) {
            to_its_end(&mut scene, &past, id, rows.as_ref(), seed).await;
        }
    }
    for number in 0..count / 2 {
        to_a_moment(&mut scene, &past, &mut rng, number, seed).await;
    }
    let end = scene.rows().await;
    let (last, _) = scene.by_wal(1, "the last").await;
    alone(&mut scene, &last.backup.id).await;
    scene.brings_back(&last.backup.id, &end, Depth::All).await;
    scene.stop_receiving().await;
}

/// Restores a backup to where it ended.
async fn to_its_end(scene: &mut Scene, past: &Past, id: &str, rows: Option<&Rows>, seed: u64) {
    let what = format!("of backup {id}, LASTGOOD_SEED={seed}");
    let stop = scene.manifest(id).await.facts.stop.lsn.0;
    let server = scene.revive(id).await;
    roll_back_prepared(&server).await;
    let digest = value(&server, DIGEST).await;
    assert!(past.witnessed(stop).contains(&digest.as_str()), "{what}");
    if let Some(rows) = rows {
        assert_eq!(&row_digests(&server.conninfo()).await, rows, "{what}");
    }
    is_sound(&server, &what).await;
    stop_and_forget(server).await;
}

/// Restores to a moment between backups: every other time one at which all rows are known.
async fn to_a_moment(scene: &mut Scene, past: &Past, rng: &mut Random, number: u32, seed: u64) {
    let (at, digest, rows) = if number.is_multiple_of(2) {
        // The first one was before the first backup.
        let quiet = &past.quiet[1 + rng.below(past.quiet.len() as u64 - 1) as usize];
        (At::Lsn(quiet.at), None, Some(&quiet.rows))
    } else {
        let since = past.quiet[1].at;
        let first = past.moments.partition_point(|moment| moment.lsn.0 <= since.0);
        let among = &past.moments[first..];
        let n = rng.below(among.len() as u64) as usize;
        let moment = &among[n];
        let at = match (rng.below(3), among.get(n + 1)) {
            // A server takes the time of a commit before it writes it: another one's, taken a little later, may stand before
            // this one's.
            (1, Some(next)) => At::Time(i64::midpoint(moment.time, next.time)),
            (2, _) => At::Xid(moment.xid),
            _ => At::Lsn(moment.lsn),
        };
        (at, Some(&moment.digest), None)
    };
    let what = format!("{at:?}, LASTGOOD_SEED={seed}");
    println!("{what}");
    let server = scene.revive_at(at).await;
    roll_back_prepared(&server).await;
    if let Some(digest) = digest {
        assert_eq!(&value(&server, DIGEST).await, digest, "{what}");
    }
    if let Some(rows) = rows {
        assert_eq!(&row_digests(&server.conninfo()).await, rows, "{what}");
    }
    is_sound(&server, &what).await;
    stop_and_forget(server).await;
}

/// Takes every other backup's manifest and file table away: what a backup needs of others are their packs and maps.
async fn alone(scene: &mut Scene, id: &str) {
    let repository = scene.world.target("repository/shop");
    for kind in ["backups", "files"] {
        let mut others = 0;
        for entry in fs::read_dir(repository.join(kind)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_str() != Some(id) {
                fs::remove_dir_all(entry.path()).unwrap();
                others += 1;
            }
        }
        assert!(others > 5, "{kind}: {others}");
    }
    let opened = database::open_to_restore(&scene.world.context, &scene.world.database, &At::Backup(id.into())).await;
    assert!(opened.is_ok());
}
