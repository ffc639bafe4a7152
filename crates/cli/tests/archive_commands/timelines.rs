//! Timelines that left another one: what of it has to be here then, and who may still archive it.

use std::{
    fs,
    time::{Duration, Instant},
};

use engine::pgformat::Major;
use testkit::clusters::TestCluster;

use crate::world::{
    KEEP, PATIENCE, World, archived, code, done_segments, marked, segment, set_archive_command, sql, stderr, switch,
    write,
};

const MEBIBYTE: u64 = 1 << 20;

/// The history file of a timeline that left timeline 1 at `at`, pushed by the server as its own.
fn push_history(world: &World, server: &TestCluster, timeline: u32, at: u64) {
    push_way(world, server, timeline, &[(1, at)]);
}

/// The same of one that came by way of several, each with the position where it was left.
fn push_way(world: &World, server: &TestCluster, timeline: u32, way: &[(u32, u64)]) {
    let directory = world.path("histories");
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join(format!("{timeline:08X}.history"));
    let lines = way.iter().map(|(parent, at)| {
        let (high, low) = (at >> 32, at & 0xFFFF_FFFF);
        format!("{parent}\t{high:X}/{low:X}\tno recovery target specified\n")
    });
    fs::write(&path, lines.collect::<String>()).unwrap();
    let pushed = world.push(server, path.to_str().unwrap());
    assert_eq!(code(&pushed), 0, "{}", stderr(&pushed));
}

/// Where the segment of that name begins, of those of one mebibyte.
fn start(name: &str) -> u64 {
    u64::from_str_radix(&name[16..], 16).unwrap() * MEBIBYTE
}

fn name(timeline: u32, start: u64) -> String {
    format!("{timeline:08X}00000000{:08X}", start / MEBIBYTE)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_timeline_builds_on_is_a_gap_where_it_is_missing() {
    let world = World::new();
    let server = world.server(Major::V15, 1, &world.archive_command()).await;
    write(&server, 3).await;
    switch(&server).await;
    archived(&server).await;
    let missing = start(done_segments(&server).last().unwrap()) + MEBIBYTE;
    let get = |timeline, start| world.get(&server, &name(timeline, start), &[]);
    assert_eq!(get(1, missing).0, 1);
    // A timeline that leaves inside the segment brings its beginning along.
    push_history(&world, &server, 2, missing + MEBIBYTE / 2);
    assert_eq!(get(2, missing).0, 1);
    assert_eq!(get(1, missing).0, 1);
    assert_eq!(get(1, missing - MEBIBYTE).0, 0);
    // One that left later builds on all of it. The history between was never archived.
    push_history(&world, &server, 4, missing + MEBIBYTE + MEBIBYTE / 2);
    let (code, got, said) = get(1, missing);
    assert_eq!((code, got.is_some()), (200, false), "{said}");
    assert!(said.contains("timeline 4 left it at"), "{said}");
    assert_eq!(get(1, missing + MEBIBYTE).0, 1);
    // A plan that ends before knows what it needs.
    let until = format!("1:0/{missing:X}");
    assert_eq!(world.get(&server, &name(1, missing), &["--until", &until]).0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beginning_is_no_end_where_a_later_timeline_left_past_it() {
    let world = World::new();
    let server = world.server(Major::V15, 1, KEEP).await;
    // A segment begins, and something short is written to it: its last record is not its end.
    switch(&server).await;
    sql(&server, "CREATE TABLE public.short ()").await;
    let started = start(marked(&server, ".ready").last().unwrap()) + MEBIBYTE;
    let directory = world.path("forged");
    fs::create_dir_all(&directory).unwrap();
    let partial = directory.join(format!("{}.partial", name(1, started)));
    fs::write(&partial, segment(&server, &name(1, started))).unwrap();
    let pushed = world.push(&server, partial.to_str().unwrap());
    assert_eq!(code(&pushed), 0, "{}", stderr(&pushed));
    let get = || world.get(&server, &name(1, started), &[]);
    let (code, got, said) = get();
    assert_eq!(code, 0, "{said}");
    let got = got.unwrap();
    let length = got.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    assert!(0 < length && length + 8192 < MEBIBYTE, "{length}");
    // Records are padded to eight bytes.
    push_history(&world, &server, 2, started + (length & !7));
    assert_eq!(get().0, 0);
    push_history(&world, &server, 3, started + length + 4096);
    let (code, got, said) = get();
    assert_eq!((code, got.is_some()), (200, false), "{said}");
    assert!(said.contains("timeline 3 left it at"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stray_history_stops_a_server_only_until_a_person_has_looked() {
    let world = World::new();
    let server = world.server(Major::V15, 1, &world.archive_command()).await;
    write(&server, 2).await;
    switch(&server).await;
    archived(&server).await;
    let first = start(&done_segments(&server)[0]);
    let accept = |words: &[&str]| world.run(world.folder.path(), &[&["wal", "accept"], words].concat());
    let nothing = accept(&["1", "shop"]);
    assert_eq!(code(&nothing), 6, "{}", stderr(&nothing));

    // Somebody recovered a copy that archives here, too.
    let left = first + MEBIBYTE + 512;
    push_history(&world, &server, 2, left);
    set_archive_command(&server, KEEP).await;
    write(&server, 2).await;
    switch(&server).await;
    let waiting = marked(&server, ".ready");
    let push = |name: &str| {
        let pushed = world.push(&server, &format!("pg_wal/{name}"));
        (code(&pushed), stderr(&pushed))
    };
    let (refused, said) = push(&waiting[0]);
    assert_eq!(refused, 1, "{said}");
    assert!(said.contains("`lastgood wal accept 1 shop`"), "{said}");

    let accepted = accept(&["1", "shop", "--json"]);
    assert_eq!(code(&accepted), 0, "{}", stderr(&accepted));
    let said: serde_json::Value = serde_json::from_slice(&accepted.stdout).unwrap();
    assert_eq!(said["data"]["accepted"][0]["timeline"], 2, "{said}");
    assert_eq!(push(&waiting[0]), (0, String::new()));
    assert!(world.get(&server, &waiting[0], &[]).1.unwrap() == segment(&server, &waiting[0]));
    assert_eq!(
        code(&accept(&["1", "shop"])),
        6,
        "what was accepted needs no other word"
    );

    // It opens no door to other bytes.
    let other = world.path("forged");
    fs::create_dir_all(&other).unwrap();
    let mut bytes = segment(&server, &waiting[0]);
    bytes[5000] ^= 1;
    fs::write(other.join(&waiting[0]), bytes).unwrap();
    let refused = world.push(&server, other.join(&waiting[0]).to_str().unwrap());
    assert_eq!(code(&refused), 1);
    assert!(
        stderr(&refused).contains("two servers claim one identity"),
        "{}",
        stderr(&refused)
    );
    assert!(world.get(&server, &waiting[0], &[]).1.unwrap() == segment(&server, &waiting[0]));

    // What grows out of that copy is no other question.
    push_way(&world, &server, 3, &[(1, left), (2, left + 4 * MEBIBYTE)]);
    write(&server, 2).await;
    switch(&server).await;
    assert_eq!(push(&marked(&server, ".ready").pop().unwrap()), (0, String::new()));

    // The word was about that timeline. Another one is another question.
    push_history(&world, &server, 4, left + MEBIBYTE);
    write(&server, 2).await;
    switch(&server).await;
    let (refused, said) = push(&marked(&server, ".ready").pop().unwrap());
    assert_eq!(refused, 1, "{said}");
    assert!(said.contains("left for timeline 4"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stray_history_stops_a_receiver_only_until_a_person_has_looked() {
    let world = World::new();
    let server = world.server(Major::V15, 1, &world.archive_command()).await;
    write(&server, 2).await;
    switch(&server).await;
    archived(&server).await;
    set_archive_command(&server, KEEP).await;
    push_history(&world, &server, 2, start(&done_segments(&server)[0]) + MEBIBYTE + 512);
    write(&server, 2).await;
    let (repository, key) = (world.path("repository"), world.path("shop.key"));
    let conninfo = server.conninfo_text();
    let mut words = vec!["wal", "receive", &conninfo, "--no-slot", "--name", "shop"];
    words.extend(["--repository", repository.to_str().unwrap()]);
    words.extend(["--key-file", key.to_str().unwrap()]);
    let before = world.objects("wal");
    let refused = world.run(world.folder.path(), &words);
    assert_eq!(code(&refused), 7, "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("`lastgood wal accept 1 NAME`"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(world.objects("wal"), before);

    let accepted = world.run(world.folder.path(), &["wal", "accept", "1", "shop"]);
    assert_eq!(code(&accepted), 0, "{}", stderr(&accepted));
    let mut receiver = world.command(world.folder.path(), &words).spawn().unwrap();
    let began = Instant::now();
    while world.objects("wal") == before {
        assert_eq!(receiver.try_wait().unwrap(), None, "the receiver was refused");
        assert!(began.elapsed() < PATIENCE, "nothing is received");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    receiver.kill().unwrap();
    receiver.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_record_too_long_to_hold_nothing_is_taken_from_a_partial_segment() {
    let world = World::new();
    let server = world.server(Major::V15, 64, KEEP).await;
    switch(&server).await;
    write(&server, 1).await;
    sql(
        &server,
        "SELECT pg_catalog.pg_logical_emit_message(false, 'long', pg_catalog.repeat('x', 20 << 20))",
    )
    .await;
    switch(&server).await;
    let name = marked(&server, ".ready").pop().unwrap();
    let content = segment(&server, &name);
    let begins = content.windows(64).position(|bytes| bytes == [b'x'; 64]).unwrap();
    let partial = world.path("forged");
    fs::create_dir_all(&partial).unwrap();
    let partial = partial.join(format!("{name}.partial"));
    fs::write(&partial, &content).unwrap();
    let pushed = world.push(&server, partial.to_str().unwrap());
    assert_eq!(code(&pushed), 0, "{}", stderr(&pushed));
    let (code, got, said) = world.get(&server, &name, &[]);
    assert_eq!(code, 0, "{said}");
    let got = got.unwrap();
    assert!(got[..begins - 256] == content[..begins - 256]);
    assert!(
        got[begins..].iter().all(|byte| *byte == 0),
        "the long record was held whole"
    );
}
