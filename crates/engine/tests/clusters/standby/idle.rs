//! A standby whose last restartpoint is at the checkpoint of a server that was shut down: recovery begins behind that record.

use engine::{Error, backup};
use pgformat::{Major, control::State};
use testkit::clusters::{TestCluster, caught_up, give_to_server_user, row_digests, standby_of};

use crate::{
    ask::sql,
    halfway::hasty,
    scene::{Depth, Scene, options},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_after_a_shutdown_is_brought_back() {
    let mut scene = Scene::begin(Major::V15, options(true, &[])).await;
    scene.stop_receiving().await;
    let standby = standby_of(&mut scene.cluster, &scene.world.target("standby")).await;
    sql(
        &scene.cluster,
        "CREATE TABLE public.after_it AS SELECT i FROM generate_series(1, 100) AS i",
    )
    .await;
    caught_up(&scene.cluster, &standby).await;
    let summary = scene.world.backup(&standby).await;
    let facts = scene.manifest(&summary.backup.id).await.facts;
    assert!(facts.stop.record.0 > facts.start.lsn.0, "{facts:?}");
    let rows = scene.rows().await;
    scene.brings_back(&summary.backup.id, &rows, Depth::All).await;
    let mut standby = standby;
    standby.stop().await;
}

/// A recovery to a record that is not there would end in an error: such a backup is not made, and not waited for for ever.
#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_was_written_after_a_shutdown_it_is_said_what_to_do() {
    let scene = Scene::begin(Major::V15, options(true, &[])).await;
    let mut scene = scene;
    scene.stop_receiving().await;
    scene.cluster.stop().await;
    let signal = scene.cluster.data_dir().join("standby.signal");
    std::fs::write(&signal, "").unwrap();
    give_to_server_user(&signal);
    scene.cluster.start().await;
    let opened = scene.world.open().await;
    // The two minutes that are waited for WAL are time enough to store what there is.
    let (context, options) = (hasty(&scene.world.context, 50), scene.world.options(&scene.cluster));
    let error = backup::run(&context, &opened, &scene.cluster.conninfo(), &options)
        .await
        .unwrap_err();
    let Error::Failed { code, what, hint } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*code, "standby-idle", "{what}");
    assert!(hint.contains("CHECKPOINT on the primary"), "{hint}");
}

/// A server that stands still in recovery is no running standby.
#[tokio::test(flavor = "multi_thread")]
async fn the_directory_of_a_server_that_is_down_is_not_read_for_a_running_one() {
    let mut scene = Scene::begin(Major::V15, options(true, &[])).await;
    scene.stop_receiving().await;
    let mut standby = standby_of(&mut scene.cluster, &scene.world.target("standby")).await;
    sql(&scene.cluster, "CHECKPOINT").await;
    caught_up(&scene.cluster, &standby).await;
    let mut other: TestCluster = standby_of(&mut scene.cluster, &scene.world.target("other")).await;
    caught_up(&scene.cluster, &other).await;
    other.stop().await;
    let opened = scene.world.open().await;
    let options = scene.world.options(&other);
    let error = backup::run(&scene.world.context, &opened, &standby.conninfo(), &options).await;
    let error = error.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Failed {
                code: "other-server",
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("shut down in recovery"), "{error}");
    let control = std::fs::read(other.data_dir().join("global/pg_control")).unwrap();
    let control = pgformat::control::Control::parse(&control).unwrap();
    assert_eq!(control.state, State::ShutDownInRecovery);
    assert!(!row_digests(&standby.conninfo()).await.is_empty());
    standby.stop().await;
}
