//! The repository goes away under load and comes back, as a file server or a disk does that is unmounted.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use engine::repo::wal::is_done;

use crate::world::{MOST_MEMORY_KIB, PATIENCE, World, soaks};

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_was_away_is_received_into_again_and_nothing_acknowledged_meanwhile() {
    let world = World::new().await.with_bank().await;
    let load = world.load(7);
    let mut receiver = world.receive();
    world.goes_on(&mut receiver).await;

    // Segments that take a while to be finished have come whole when the repository goes.
    let session = world.server.session().await;
    let noise = "CREATE TABLE public.noise AS SELECT gen_random_uuid() AS a, gen_random_uuid() AS b
                   FROM pg_catalog.generate_series(1, 300000)";
    for work in [noise, "SELECT pg_catalog.pg_switch_wal()"] {
        session.execute("write WAL", work).await.unwrap();
    }
    session.close().await;
    let told = world.goes_on(&mut receiver).await;
    let (at, away) = (world.path("repository"), world.path("elsewhere"));
    fs::rename(&at, &away).unwrap();
    let gone = Instant::now();
    let lasts = Duration::from_secs(if soaks() { 60 } else { 5 });
    while gone.elapsed() < lasts {
        receiver.is_running();
        let told = world.acknowledged().await;
        world.holds(told, "elsewhere").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(world.flushed().await > told, "nothing was written meanwhile");
    // A directory that was made in its place holds nothing but what was under way when it went.
    if at.exists() {
        println!("{} bytes were under way", bytes_in(&at));
        fs::remove_dir_all(&at).unwrap();
    }
    fs::rename(&away, &at).unwrap();

    world.goes_on(&mut receiver).await;
    is_finished(&world, world.stream.segment_of(told - 1)).await;
    let memory = receiver.memory_kib();
    assert!(memory <= MOST_MEMORY_KIB, "{memory} KiB");
    println!("away for {lasts:?}; {memory} KiB resident at most");
    world.lost_nothing(load, receiver).await;
}

/// Waits until the segment is one finished run: also what could not be done meanwhile is done without a hand.
async fn is_finished(world: &World, segment: u64) {
    let (opened, began) = (world.open().await, Instant::now());
    while !is_done(&opened.repository, &world.stream, segment).await.unwrap() {
        assert!(began.elapsed() < PATIENCE, "the segment at {segment:x} is not finished");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn bytes_in(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let size = |path: std::path::PathBuf| match path.is_dir() {
        true => bytes_in(&path),
        false => fs::metadata(&path).unwrap().len(),
    };
    entries.map(size).sum()
}
