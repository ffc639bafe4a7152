//! WAL that piles up at the server, long before its disk is full.

use engine::{doctor, status};
use pgformat::Major;
use testkit::clusters::{Options, TestCluster};

use crate::{
    ask::{sql, value},
    world::{World, durable},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_grows_is_told_by_status_and_doctor() {
    let mut options = Options {
        wal_segment_size_mib: 1,
        ..durable()
    };
    let lines = ["archive_mode = on", "archive_command = 'false'"];
    options.conf.extend(lines.iter().map(ToString::to_string));
    let source = TestCluster::new(Major::V15, options).await;
    let world = World::new().await;
    world.backup(&source).await;
    let opened = world.open().await;
    let told = || async {
        let server = source.conninfo();
        let status = status::of(&world.context, &opened, Some(&server)).await.unwrap();
        status.because.join("\n")
    };
    assert!(!told().await.contains("wait for archive_command"));
    for _ in 0..40 {
        sql(
            &source,
            "SELECT pg_catalog.pg_logical_emit_message(false, 'filler', pg_catalog.repeat('x', 9000))",
        )
        .await;
        value(&source, "SELECT pg_catalog.pg_switch_wal()").await;
    }
    let said = told().await;
    assert!(said.contains("wait for archive_command"), "{said}");
    let options = world.options(&source);
    let report = doctor::examine(
        &world.context,
        Some(&world.database),
        Some(&source.conninfo()),
        &options,
        None,
    )
    .await
    .unwrap();
    let ids: Vec<&str> = report.checks.iter().map(|check| check.id).collect();
    assert!(ids.contains(&"archive-queue"), "{ids:?}");
    // A server that is away is no reason to say nothing.
    let (state, server) = (
        status::of(&world.context, &opened, None).await.unwrap(),
        source.conninfo(),
    );
    drop(source);
    let away = status::of(&world.context, &opened, Some(&server)).await.unwrap();
    assert_eq!((away.state, away.because), (state.state, state.because));
}
