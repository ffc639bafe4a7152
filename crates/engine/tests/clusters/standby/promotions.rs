//! What changes in the middle of a backup of a standby.

use engine::Error;
use pgformat::{Lsn, Major};

use super::pair::{From, Pair, position};
use crate::{
    ask::{sql, value},
    halfway::{copying, halfway, stands_still},
    scene::Depth,
};

/// The standby is promoted while its files are copied: there is no backup, and it is said why.
async fn promoted_halfway(from: From) {
    let pair = Pair::begin(Major::V15, &[]).await;
    let (context, there, go) = halfway(&pair.scene.world.context, copying);
    let taking = pair.begin_to_take(&context, from, |options| options.jobs = 1).await;
    {
        stands_still(&there).await;
        sql(&pair.standby, "SELECT pg_promote()").await;
        sql(
            &pair.standby,
            "UPDATE public.bulk SET filler = 'of another timeline' WHERE id % 10 = 0",
        )
        .await;
        sql(&pair.standby, "CHECKPOINT").await;
        drop(go);
    }
    let taken = taking.await.unwrap();
    let error = taken.unwrap_err();
    println!("{error:?}");
    assert!(error.to_string().contains("promoted"), "{error}");
    if from == From::Beside {
        assert!(
            matches!(
                error,
                Error::Failed {
                    code: "standby-promoted",
                    ..
                }
            ),
            "{error:?}"
        );
    }
    let opened = pair.scene.world.open().await;
    assert_eq!(engine::list::backups(&opened).await.len(), 0);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_standby_that_is_promoted_halfway_gives_no_backup() {
    promoted_halfway(From::Standby).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_standby_that_is_promoted_halfway_gives_its_primary_no_backup() {
    promoted_halfway(From::Beside).await;
}

/// Pages that are flushed while others are copied are from after what `pg_control` said at the start.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn the_pg_control_in_a_backup_is_newer_than_every_page_in_it() {
    let mut pair = Pair::begin(Major::V15, &[]).await;
    let (context, there, go) = halfway(&pair.scene.world.context, copying);
    let taking = pair
        .begin_to_take(&context, From::Standby, |options| options.jobs = 1)
        .await;
    let changed = {
        stands_still(&there).await;
        pair.change(1).await;
        let changed = position(&pair.scene.cluster, "pg_current_wal_insert_lsn()").await;
        sql(&pair.scene.cluster, "CHECKPOINT").await;
        pair.caught_up().await;
        // Its buffers are written, and `minRecoveryPoint` moves.
        sql(&pair.standby, "CHECKPOINT").await;
        drop(go);
        changed
    };
    let taken = taking.await.unwrap();
    let id = taken.unwrap().backup.id;
    let (control, label, stop) = pair.kept(&id).await;
    assert!(label.start_lsn < changed, "{label:?} {changed}");
    assert!(control.min_recovery_lsn >= changed, "{control:?} {changed}");
    assert!(stop >= control.min_recovery_lsn, "{control:?} {stop}");
    let rows = pair.scene.rows().await;
    pair.scene.brings_back(&id, &rows, Depth::All).await;
    pair.end().await;
}

/// The server that the standby follows is promoted in its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn a_standby_that_goes_to_another_timeline_halfway_gives_no_backup() {
    let mut pair = Pair::begin(Major::V15, &[]).await;
    // A receiver would keep the primary from stopping until it has all.
    pair.scene.stop_receiving().await;
    let middle = testkit::clusters::standby_of(&mut pair.scene.cluster, &pair.scene.world.target("middle")).await;
    testkit::clusters::caught_up(&pair.scene.cluster, &middle).await;
    pair.caught_up().await;
    let (context, there, go) = halfway(&pair.scene.world.context, copying);
    let taking = pair
        .begin_to_take(&context, From::Standby, |options| options.jobs = 1)
        .await;
    {
        stands_still(&there).await;
        let follow = format!("ALTER SYSTEM SET primary_conninfo = '{}'", middle.conninfo_text());
        sql(&pair.standby, &follow).await;
        sql(&middle, "SELECT pg_promote()").await;
        sql(&middle, "CREATE TABLE public.on_two (i int)").await;
        sql(&pair.standby, "SELECT pg_reload_conf()").await;
        let end: Lsn = position(&middle, "pg_current_wal_flush_lsn()").await;
        crate::ask::until("the standby follows to the next timeline", || async {
            let replayed = value(&pair.standby, "pg_last_wal_replay_lsn()").await;
            replayed.parse::<Lsn>().unwrap() >= end
        })
        .await;
        sql(&pair.standby, "CHECKPOINT").await;
        drop(go);
    }
    let taken = taking.await.unwrap();
    let error = taken.unwrap_err();
    assert!(error.to_string().contains("promoted"), "{error:?}");
    let mut middle = middle;
    middle.stop().await;
    pair.end().await;
}
