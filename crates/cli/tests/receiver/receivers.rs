//! The receiver killed with SIGKILL at random moments.

use std::time::{Duration, Instant};

use engine::pgformat::Lsn;

use crate::{
    chosen::{random, share},
    world::{PATIENCE, World, moment},
};

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_wal_is_lost_and_no_gap_left_whenever_it_is_killed() {
    let world = World::new().await.with_bank().await;
    let load = world.load(3);
    let mut random = random();
    let (mut streams, count) = (0, share(7));
    for number in 0..count {
        let receiver = world.receive();
        let began = Instant::now();
        let before = world.acknowledged().await;
        // From the first connection on any moment may be the last.
        moment(&mut random, 1500).await;
        if number % 3 == 0 {
            // Sometimes it comes to acknowledge something first.
            while world.acknowledged().await <= before && began.elapsed() < PATIENCE {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            streams += 1;
        }
        receiver.kill();
        let told = world.acknowledged().await;
        let stretches = world.stretches("repository").await;
        assert_eq!(stretches.len(), 1, "kill {number}: {stretches:x?}");
        let end = stretches[0].1;
        assert!(
            told <= end,
            "kill {number}: {} is acknowledged, {} is here",
            Lsn(told),
            Lsn(end)
        );
    }
    println!("{count} kills, {streams} of them after WAL was acknowledged");
    let receiver = world.receive();
    world.lost_nothing(load, receiver).await;
}
