//! Servers that went two ways on one timeline: by its history nobody tells them apart.

use std::process::Command;

use engine::{Error, archive::push, backup::Wanted, repo::wal::contiguous_end};
use pgformat::Major;
use testkit::clusters::TestCluster;

use crate::{
    act::{stream_of, value},
    fallbacks::{change, small},
    scene::{Depth, Scene},
};

/// Where the server is, as a position.
async fn position(scene: &Scene) -> u64 {
    let query = "SELECT (pg_current_wal_lsn() - '0/0')::bigint";
    value(&scene.cluster, query).await.parse().unwrap()
}

/// Stores whole segments as `archive_command` does, from the one that holds `from` up to but not including the one that
/// holds `to`.
async fn pushed(scene: &Scene, from: u64, to: u64) {
    let opened = scene.world.open().await;
    for segment in from >> 24..to >> 24 {
        let name = format!("00000001{:08X}{:08X}", segment >> 8, segment & 0xFF);
        let request = push::Request {
            path: scene.cluster.data_dir().join("pg_wal").join(name),
            current: scene.cluster.data_dir().to_owned(),
            jobs: 1,
        };
        push::run(&scene.world.context, &opened.repository, &request)
            .await
            .unwrap();
    }
}

/// Where what is stored ends, from `from` on.
async fn stored_to(scene: &Scene, from: u64) -> u64 {
    let (opened, stream) = (scene.world.open().await, stream_of(&scene.cluster, 1).await);
    contiguous_end(&opened.repository, &stream, from).await.unwrap()
}

/// Its disk, or a replica of it, went back a little, and the WAL of what it did then ends with a segment. A backup begins with one.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_its_last_writes_is_told_from_what_it_was() {
    let mut scene = small(true, &[]).await;
    scene.rows().await;
    scene.world.backup(&scene.cluster).await;
    value(&scene.cluster, "SELECT pg_switch_wal()").await;
    scene.all_is_here().await;
    scene.stop_receiving().await;
    scene.cluster.stop().await;
    let copy = scene.world.target("copy");
    let copied = Command::new("cp")
        .arg("-a")
        .arg(scene.cluster.data_dir())
        .arg(&copy)
        .status();
    assert!(copied.unwrap().success());
    scene.cluster.start().await;
    let begun = position(&scene).await;
    change(&scene, 1).await;
    value(&scene.cluster, "SELECT pg_switch_wal()").await;
    let end = (position(&scene).await >> 24) << 24;
    pushed(&scene, begun, end).await;
    assert_eq!(end, (begun | 0xFF_FFFF) + 1, "what is lost is within one segment");

    scene.cluster.stop().await;
    scene.cluster = TestCluster::on(Major::V15, &copy);
    scene.cluster.start().await;
    // Records of other sizes: each tells where the one before it begins, and nothing else of it.
    change(&scene, 2).await;
    change(&scene, 3).await;
    assert!(position(&scene).await < end);
    assert_eq!(stored_to(&scene, begun).await, end);
    let refused = scene.take(|options| options.wanted = Wanted::Incremental).await;
    let Err(Error::Conflict { code, what, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(code, "two-servers");
    assert!(what.contains("follows on one at"), "{what}");
    // None of its WAL goes on where that of the other ends.
    assert_eq!(stored_to(&scene, begun).await, end);
    let rows = scene.rows().await;
    let (summary, why) = scene.by_hashes().await;
    assert!(why.contains("is not in the repository"), "{why}");
    scene.brings_back(&summary.backup.id, &rows, Depth::Rows).await;
}
