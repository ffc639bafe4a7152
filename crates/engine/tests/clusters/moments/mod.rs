//! Going back to any moment: what is there is exactly what was there.

mod archive;
mod beyond;
mod damage;
mod elsewhere;
mod far;
mod quiet;
mod refusals;
mod timelines;
mod ways;
pub(crate) mod workload;

use engine::{
    pgformat::Major,
    restore::{self, At},
};
use testkit::{
    clusters::{Options, TestCluster, majors_to_test},
    sim::Random,
};

use archive::archive;
use workload::{DIGEST, Moment, noise};

use crate::{
    ask::value,
    world::{World, durable_with},
};

/// What keeps all WAL until it was archived.
pub(crate) fn archiving() -> Options {
    durable_with(&[
        "track_commit_timestamp = on",
        "max_prepared_transactions = 5",
        // Nothing goes before it was archived.
        "wal_keep_size = '2GB'",
        "wal_keep_segments = 200",
        "checkpoint_timeout = '30s'",
    ])
}

/// A server of that version; the setting that keeps WAL was renamed in 13.
pub(crate) async fn server(major: Major) -> TestCluster {
    let mut options = archiving();
    options.conf.retain(|line| !line.starts_with("wal_keep_segments"));
    TestCluster::new(major, options).await
}

/// The state that a restore to `at` brings back.
pub(crate) async fn state_at(world: &World, major: Major, at: At, timeline: Option<u32>, name: &str) -> String {
    let mut request = world.request(name);
    request.at = at.clone();
    request.timeline = timeline;
    let opened = world.open().await;
    let plan = restore::plan(&world.context, &opened, &request).await;
    let plan = plan.unwrap_or_else(|error| panic!("{at:?}: {error}"));
    restore::run(&world.context, &opened, &request, plan).await.unwrap();
    let mut restored = TestCluster::on(major, &request.to);
    restored.start().await;
    let digest = value(&restored, DIGEST).await;
    restored.stop().await;
    std::fs::remove_dir_all(&request.to).unwrap();
    digest
}

/// Ways to say the moment after `moments[n]` and before the next one, and what is there then.
fn ways(moments: &[Moment], n: usize, rng: &mut Random) -> (At, String) {
    let (this, next) = (&moments[n], moments.get(n + 1));
    let mut ways = vec![At::Lsn(this.lsn), At::Xid(this.xid)];
    ways.extend(this.subtransaction.map(At::Xid));
    ways.extend(this.point.clone().map(At::Point));
    if let Some(next) = next {
        ways.push(At::BeforeXid(next.xid));
        ways.push(At::Time(next.time - 1));
        // A server takes the time of a commit before it writes it: another one's, taken a little later, may stand before it.
        let between = next.time.abs_diff(this.time);
        let between = between / 2 + rng.below(between.div_ceil(2));
        ways.push(At::Time(this.time + between as i64));
        ways.extend(next.subtransaction.map(At::BeforeXid));
    }
    let chosen = rng.below(ways.len() as u64) as usize;
    (ways.swap_remove(chosen), this.digest.clone())
}

async fn random_moments(major: Major, transactions: usize, restores: usize) {
    let said = std::env::var("LASTGOOD_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed: u64 = said.unwrap_or_else(|| u64::from_le_bytes(testkit::host::runtime().random()));
    let mut rng = Random::new(seed);
    let world = World::new().await;
    let cluster = server(major).await;
    workload::begin(&cluster).await;
    world.backup(&cluster).await;
    let mut moments = Vec::new();
    for part in 0..3 {
        let (seen, ()) = futures::join!(
            workload::run(&cluster, seed ^ part, transactions / 3),
            noise(&cluster, 25)
        );
        moments.extend(seen);
        archive(&world, &cluster).await;
        if part == 1 {
            world.backup(&cluster).await;
        }
    }
    for number in 0..restores {
        let n = rng.below(moments.len() as u64) as usize;
        // A name now and then: few moments have one.
        let named = moments.iter().position(|moment| moment.point.is_some());
        let (at, expected) = match named.filter(|_| number % 10 == 9) {
            Some(named) => (
                At::Point(moments[named].point.clone().unwrap()),
                moments[named].digest.clone(),
            ),
            None => ways(&moments, n, &mut rng),
        };
        let found = state_at(&world, major, at.clone(), None, &format!("moment-{number}")).await;
        assert_eq!(
            found, expected,
            "PostgreSQL {major}, transaction {n}, {at:?}, LASTGOOD_SEED={seed}"
        );
    }
    let last = state_at(&world, major, At::Latest, None, "latest").await;
    assert_eq!(last, moments.last().unwrap().digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_of_fifty_moments_comes_back_exactly() {
    random_moments(Major::V15, 300, 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_of_five_moments_comes_back_exactly_on_every_version() {
    for major in majors_to_test() {
        if major != Major::V15 {
            random_moments(major, 60, 5).await;
        }
    }
}
