//! Segments that a server archives, of every size and version.

use engine::{
    pgformat::Major,
    repo::{
        Repository,
        keys::Unlock,
        store::Location,
        wal::{MAX_RUN, WalStream, append_run},
    },
};
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

/// A receiver has stored other WAL of the second part of a segment, the first being finished.
#[tokio::test(flavor = "multi_thread")]
async fn other_wal_in_any_part_of_a_large_segment_is_found_out() {
    let world = World::new();
    let server = world.server(Major::V15, 32, KEEP).await;
    write(&server, 34).await;
    switch(&server).await;
    let first = marked(&server, ".ready")
        .into_iter()
        .find(|name| name.len() == 24)
        .unwrap();
    let push = || world.push(&server, &format!("pg_wal/{first}"));
    assert_eq!(code(&push()), 0);

    let key = std::fs::read_to_string(world.path("shop.key")).unwrap();
    let unlock = Unlock::parse_key_file(&key).unwrap();
    let store = Location::Directory(world.path("repository"))
        .database("shop", false)
        .unwrap();
    let repository = Repository::open(store, testkit::host::runtime(), &unlock)
        .await
        .unwrap();
    let session = repository.begin_session().await.unwrap();
    let number = u64::from_str_radix(&first[16..], 16).unwrap();
    let stored = world.objects("wal").remove(0);
    let mut names = stored
        .iter()
        .skip_while(|part| *part != "wal")
        .map(|part| part.to_str().unwrap());
    let generation = names.nth(1).unwrap().parse().unwrap();
    let stream = WalStream::new(generation, 1, 32 << 20).unwrap();
    let second = number * (32 << 20) + MAX_RUN as u64;
    repository.store().delete(&stream.done_name(second)).await.unwrap();
    let mut bytes = segment(&server, &first)[MAX_RUN..MAX_RUN + 9000].to_vec();
    bytes[8999] ^= 1;
    append_run(&repository, &session, &stream, second, &bytes)
        .await
        .unwrap();
    let refused = push();
    assert_eq!(code(&refused), 1);
    assert!(
        stderr(&refused).contains("holds other WAL than this server has there"),
        "{}",
        stderr(&refused)
    );

    // What a clone leaves beside a finished run is no reason to refuse what that run holds.
    repository.store().delete(&stream.run_name(second)).await.unwrap();
    assert_eq!(code(&push()), 0);
    append_run(&repository, &session, &stream, second, &bytes)
        .await
        .unwrap_err();
    assert!(
        repository
            .store()
            .head(&stream.run_name(second))
            .await
            .unwrap()
            .is_some()
    );
    let again = push();
    assert_eq!(code(&again), 0, "{}", stderr(&again));
}
