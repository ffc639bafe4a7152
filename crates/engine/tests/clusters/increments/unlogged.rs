//! Unlogged relations that are in the making while they are backed up.

use engine::{
    backup,
    event::Event,
    restore::{At, Onto, Request, Restored},
};
use pgformat::{Major, relation::Fork};
use testkit::clusters::{TestCluster, give_to_server_user, majors_to_test, row_digests, verifybackup};

use super::rounds::full_matrix;
use crate::{
    ask::{sql, until, value},
    halfway::{halfway, stands_still},
    scene::{Depth, Scene, is_whole, options, stop_and_forget},
};

/// An index that is built for as long as somebody holds the lock.
const DRAFTS: &str = "CREATE UNLOGGED TABLE public.drafts (id int);
    INSERT INTO public.drafts VALUES (1), (2);
    CREATE FUNCTION public.held(int) RETURNS int IMMUTABLE LANGUAGE plpgsql
        AS 'BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared(7); RETURN $1; END'";
const WAITS: &str = "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)";

/// Path of its main fork, relative to the data directory.
async fn main_of(scene: &Scene, index: &str) -> String {
    value(&scene.cluster, &format!("pg_relation_filepath('{index}')")).await
}

async fn restore(scene: &Scene, name: &str, at: At, onto: Onto) -> Restored {
    let request = Request {
        at,
        onto,
        ..scene.world.request(name)
    };
    scene.world.restore(&request).await
}

/// By PostgreSQL 15's program, which knows manifests of servers before 17.
fn accepted(major: Major, restored: &Restored) {
    if major < Major::V17 {
        verifybackup(&restored.to).unwrap();
    }
}

async fn built_meanwhile(major: Major) {
    let mut scene = Scene::begin(major, options(true, &[])).await;
    sql(
        &scene.cluster,
        "CREATE TABLE public.kept AS SELECT generate_series(1, 1000) AS id",
    )
    .await;
    sql(&scene.cluster, DRAFTS).await;
    let parent = scene.world.backup(&scene.cluster).await;

    let holder = scene.cluster.session().await;
    holder.execute("hold", "SELECT pg_advisory_lock(7)").await.unwrap();
    let builder = scene.cluster.session().await;
    let build = builder.execute("build", "CREATE INDEX drafts_held ON public.drafts (public.held(id))");
    let taken = async {
        until("the index is being built", async || {
            value(&scene.cluster, WAITS).await == "1"
        })
        .await;
        let (child, _) = scene.by_wal(100, "while the index is built").await;
        holder.execute("let go", "SELECT pg_advisory_unlock(7)").await.unwrap();
        child
    };
    let (built, child) = futures::join!(build, taken);
    built.unwrap();
    sql(
        &scene.cluster,
        "DELETE FROM public.drafts; INSERT INTO public.kept VALUES (0)",
    )
    .await;
    let index = main_of(&scene, "public.drafts_held").await;
    assert_eq!(pgformat::relation::classify(&index).unwrap().fork, Fork::Main);
    let rows = scene.rows().await;
    scene.all_is_here().await;
    for session in [holder, builder] {
        session.close().await;
    }

    // At its own end the index is a file that nobody knows; at the server's it is an unlogged relation.
    let early = restore(&scene, "in place", At::Backup(child.backup.id.clone()), Onto::Empty).await;
    assert!(early.to.join(&index).exists());
    accepted(major, &early);
    for (name, onto) in [("new", Onto::Empty), ("in place", Onto::Delta)] {
        let restored = restore(&scene, name, At::Latest, onto).await;
        assert_eq!(restored.backup, child.backup.id, "of {}", parent.backup.id);
        assert!(!restored.to.join(&index).exists(), "{name}");
        accepted(major, &restored);
        give_to_server_user(&restored.to);
        let mut server = TestCluster::on(major, &restored.to);
        server.start().await;
        assert_eq!(row_digests(&server.conninfo()).await, rows, "{name}");
        sql(&server, "INSERT INTO public.drafts VALUES (3)").await;
        is_whole(&server, name).await;
        stop_and_forget(server).await;
    }
    scene.stop_receiving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlogged_index_that_was_being_built_during_a_backup_is_reset_by_the_recovery() {
    let majors = if full_matrix() {
        majors_to_test()
    } else {
        vec![Major::V15]
    };
    for major in majors {
        built_meanwhile(major).await;
    }
}

/// The first record of all that the build writes comes right behind the backup's start.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn an_unlogged_index_that_was_built_before_the_backup_ended_is_reset_by_the_recovery() {
    let mut scene = Scene::begin(Major::V15, options(true, &[])).await;
    sql(&scene.cluster, DRAFTS).await;
    let holder = scene.cluster.session().await;
    holder.execute("hold", "SELECT pg_advisory_lock(7)").await.unwrap();
    let builder = scene.cluster.session().await;
    let build = tokio::spawn(async move {
        let sql = "CREATE INDEX drafts_held ON public.drafts (public.held(id))";
        builder.execute("build", sql).await.unwrap();
        builder
    });
    until("the index is being built", async || {
        value(&scene.cluster, WAITS).await == "1"
    })
    .await;
    let (context, there, go) = halfway(&scene.world.context, |event| {
        matches!(event, Event::Step { step: "stop", .. })
    });
    let (opened, options) = (scene.world.open().await, scene.world.options(&scene.cluster));
    let conninfo = scene.cluster.conninfo();
    let taking = tokio::spawn(async move { backup::run(&context, &opened, &conninfo, &options).await });
    stands_still(&there).await;
    holder.execute("let go", "SELECT pg_advisory_unlock(7)").await.unwrap();
    build.await.unwrap().close().await;
    drop(go);
    let taken = taking.await.unwrap().unwrap();
    holder.close().await;
    sql(&scene.cluster, "DELETE FROM public.drafts").await;
    let rows = scene.rows().await;
    scene.brings_back(&taken.backup.id, &rows, Depth::All).await;
    scene.stop_receiving().await;
}
