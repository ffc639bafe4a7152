//! The network between receiver and server goes, with and without a word, and what happens to the server meanwhile.

use std::{
    fs,
    time::{Duration, Instant},
};

use engine::{
    pgformat::{
        Lsn, Tli,
        segment::{SegmentName, SegmentSize},
    },
    repo::wal::archived_from,
};

use crate::{
    chosen::{random, share},
    proxy::{Cut, Proxy},
    receiver::Receiver,
    world::{KEEPING, PATIENCE, World, lsn, moment, server, soaks},
};

/// So that a server which was told nothing soon lets go of the slot.
const IMPATIENT: &str = "wal_sender_timeout = '4s'";
/// A server that keeps no WAL but for slots.
const FORGETFUL: [&str; 2] = ["wal_keep_size = 0", "max_slot_wal_keep_size = 4GB"];

async fn behind_proxy(conf: &[&str]) -> (World, Proxy) {
    let conf = [&[IMPATIENT], conf].concat();
    let server = server(&conf).await;
    let proxy = Proxy::before(server.port()).await;
    let world = World::of(server, &proxy.conninfo()).await;
    (world.with_bank().await, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_breaks_at_any_moment_leaves_no_gap() {
    let (mut world, proxy) = behind_proxy(&KEEPING).await;
    let load = world.load(11);
    let mut random = random();
    let mut receiver = world.receive();
    let count = share(3);
    for number in 0..count {
        world.goes_on(&mut receiver).await;
        moment(&mut random, 1000).await;
        match number % 3 {
            0 => proxy.cut(Cut::Reset),
            1 => proxy.cut(Cut::Unheard),
            _ => {
                proxy.close();
                world.server.restart().await;
                proxy.open();
            }
        }
        let told = world.acknowledged().await;
        world.holds(told, "repository").await;
    }
    world.goes_on(&mut receiver).await;
    println!("{count} cuts");
    world.lost_nothing(load, receiver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_falls_silent_is_given_up_and_made_anew() {
    if !soaks() {
        // A receiver listens to silence for a minute and a half.
        return;
    }
    let (world, proxy) = behind_proxy(&KEEPING).await;
    let load = world.load(13);
    let mut receiver = world.receive();
    let told = world.goes_on(&mut receiver).await;
    proxy.cut(Cut::Silence);
    let began = Instant::now();
    world.goes_on(&mut receiver).await;
    assert!(began.elapsed() > Duration::from_secs(30), "it was not silent at all");
    println!("silence from {} on was noticed after {:?}", Lsn(told), began.elapsed());
    world.lost_nothing(load, receiver).await;
}

/// Drops the slot while nobody is connected.
async fn drop_slot(world: &World) {
    let active = "SELECT active FROM pg_replication_slots WHERE slot_name = 'lastgood_shop'";
    let began = Instant::now();
    while world.value(active).await == "true" {
        assert!(began.elapsed() < PATIENCE, "the server holds the slot");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.value("pg_drop_replication_slot('lastgood_shop')").await;
    assert_eq!(world.acknowledged().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_dropped_loses_nothing_that_the_server_still_has() {
    let (world, proxy) = behind_proxy(&KEEPING).await;
    let load = world.load(17);
    let mut receiver = world.receive();
    world.goes_on(&mut receiver).await;
    proxy.close();
    drop_slot(&world).await;
    write(&world).await;
    proxy.open();
    world.goes_on(&mut receiver).await;
    world.lost_nothing(load, receiver).await;
}

/// Ends a segment after some work, and goes on.
async fn write(world: &World) {
    let session = world.server.session().await;
    for work in [
        "CREATE TABLE IF NOT EXISTS public.switched (); DROP TABLE public.switched",
        "SELECT pg_catalog.pg_switch_wal()",
        "CHECKPOINT",
    ] {
        session.execute("write WAL", work).await.unwrap();
    }
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_gave_away_with_a_dropped_slot_is_a_gap_that_the_window_shows() {
    let (world, proxy) = behind_proxy(&FORGETFUL).await;
    let load = world.load(19);
    let mut receiver = world.receive();
    world.goes_on(&mut receiver).await;
    write(&world).await;
    is_archiving(&world, &mut receiver).await;
    let before = load.acknowledged();
    world.goes_on(&mut receiver).await;
    proxy.close();
    drop_slot(&world).await;
    forgets(&world, world.stretches("repository").await[0].1).await;
    // What was being stored when the connection went is stored by now.
    let end = world.stretches("repository").await[0].1;
    proxy.open();
    world.goes_on(&mut receiver).await;

    let [_, (next, _)] = world.stretches("repository").await[..] else {
        panic!("{:x?}", world.stretches("repository").await)
    };
    let window = world.window();
    let gap = &window["gaps"][0];
    let position = |key: &str| lsn(gap[key].as_str().unwrap());
    assert_eq!(window["gaps"].as_array().unwrap().len(), 1, "{window}");
    assert_eq!((position("from"), position("to")), (end, next), "{window}");
    assert_eq!(gap["cause"], "the server no longer had it");
    // The advice is followed; from there on all is well again.
    world.run(&["backup", "shop"]);
    let after = load.stop().await;
    world.goes_on(&mut receiver).await;
    let document = receiver.stop();
    assert_eq!(document["data"]["gaps"].as_array().unwrap().len(), 1, "{document}");
    world.comes_back(&format!("lsn:{}", Lsn(end)), &before).await;
    world.comes_back("latest", &after).await;
}

/// Waits until a segment is finished: then somebody archives, and a hole is a loss.
async fn is_archiving(world: &World, receiver: &mut Receiver) {
    let (opened, began) = (world.open().await, Instant::now());
    while archived_from(&opened.repository, &world.stream)
        .await
        .unwrap()
        .is_none()
    {
        receiver.is_running();
        assert!(began.elapsed() < PATIENCE, "no segment is finished");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes until the server no longer has the segment that holds `position`.
async fn forgets(world: &World, position: u64) {
    let size = SegmentSize::DEFAULT;
    let name = SegmentName::holding(Tli(1), Lsn(position), size).file_name(size);
    let (file, began) = (world.server.data_dir().join("pg_wal").join(name), Instant::now());
    while fs::exists(&file).unwrap() {
        assert!(began.elapsed() < PATIENCE, "the server keeps {}", file.display());
        write(world).await;
    }
}
