//! Segments that a server archives, of every size and version.

use engine::pgformat::Major;
use testkit::clusters::{bank, majors_to_test};

use crate::world::{
    KEEP, World, archived, code, compare_all, marked, segment, set_archive_command, stderr, switch, write,
};

async fn check(major: Major, mebibytes: u32, segments: u32) {
    let world = World::new();
    let server = world.server(major, mebibytes, &world.archive_command()).await;
    bank::create(&server.session().await, 500).await;
    let load = bank::RunningBank::start(&server.conninfo(), 2, 500, 1);
    load.wait_for(50).await;
    write(&server, mebibytes * (segments - 1)).await;
    load.wait_for(200).await;
    load.stop().await;
    switch(&server).await;
    archived(&server).await;
    let compared = compare_all(&world, &server);
    assert!(compared >= segments as usize, "only {compared} segments were archived");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_archives_under_load_comes_back_byte_for_byte() {
    for (mebibytes, segments) in [(1, 12), (16, 4), (64, 2)] {
        check(Major::V15, mebibytes, segments).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_all_versions_archive() {
    for major in majors_to_test().into_iter().filter(|major| *major != Major::V15) {
        check(major, 1, 4).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_stores_what_waits_and_marks_it_as_done() {
    let world = World::new();
    let server = world.server(Major::V15, 1, KEEP).await;
    write(&server, 12).await;
    switch(&server).await;
    let waiting = marked(&server, ".ready");
    assert!(waiting.len() > 10, "{waiting:?}");
    let first = waiting.first().unwrap();
    let output = world.push(&server, &format!("pg_wal/{first}"));
    assert_eq!((code(&output), stderr(&output)), (0, String::new()));
    // The server marks the one that it asked for itself.
    assert_eq!(marked(&server, ".ready"), std::slice::from_ref(first));
    for name in &waiting {
        let (code, got, said) = world.get(&server, name, &[]);
        assert_eq!(code, 0, "{name}: {said}");
        assert!(got.unwrap() == segment(&server, name));
    }
    set_archive_command(&server, &world.archive_command()).await;
    switch(&server).await;
    archived(&server).await;
    let sessions = world.objects("sessions").len();
    assert!(sessions <= 4, "{sessions} sessions for a handful of calls");
}
