//! What a verification says of sources that are a little odd and not damaged at all.

use engine::{
    event::Event,
    verify::{self, Level, Outcome},
};
use pgformat::Major;
use testkit::clusters::TestCluster;

use crate::{
    ask::sql,
    world::{World, durable_with},
};

/// A backup of such a source could never be proven if they counted as "not looked at".
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_database_and_an_emptied_table_do_not_keep_a_backup_from_being_proven() {
    // Beside a standby called `*` commits may wait for anybody; these do not.
    let source = TestCluster::new(
        Major::V15,
        durable_with(&[
            "synchronous_standby_names = '*'",
            "synchronous_commit = local",
            "max_slot_wal_keep_size = '64MB'",
            "autovacuum = off",
        ]),
    )
    .await;
    sql(&source, "CREATE DATABASE closed").await;
    sql(
        &source,
        "ALTER DATABASE closed ALLOW_CONNECTIONS false;
         CREATE TABLE public.emptied AS SELECT pg_catalog.generate_series(1, 5000) AS i;
         ANALYZE public.emptied;
         DELETE FROM public.emptied",
    )
    .await;
    let world = World::new().await;
    world.backup(&source).await;
    let opened = world.open().await;
    let request = verify::Request {
        backup: None,
        level: Level::Restore,
        jobs: 2,
        binaries: Some(source.binaries().program("postgres").parent().unwrap().to_path_buf()),
        scratch: None,
    };
    let report = verify::run(&world.context, &opened, &request).await.unwrap();
    assert_eq!(report.outcome, Outcome::Passed, "{report:?}");
    let heard = world.heard.0.lock().unwrap();
    let warned = |wanted: &str| {
        heard
            .iter()
            .any(|event| matches!(event, Event::Warning(warning) if warning.code == wanted))
    };
    assert!(warned("not-read") && warned("rows-differ"), "{heard:?}");
    // A slot that may not move would be given up at the limit: there was none.
    assert!(warned("wal-not-reserved"), "{heard:?}");
}
