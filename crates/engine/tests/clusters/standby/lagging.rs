//! A standby that has not replayed what its parent has.

use engine::{backup::ChangesBy, restore::At};
use pgformat::{Lsn, Major};
use testkit::clusters::row_digests;

use super::pair::{From, Pair, position};
use crate::{
    ask::{sql, until, value},
    scene::{Depth, stop_and_forget},
};

/// Waits until the standby has received, not replayed, all that the primary wrote.
async fn received(pair: &Pair) {
    let end = position(&pair.scene.cluster, "pg_current_wal_flush_lsn()").await;
    until("the standby has received it", || async {
        let received = value(&pair.standby, "coalesce(pg_last_wal_receive_lsn(), '0/0')").await;
        received.parse::<Lsn>().unwrap() >= end
    })
    .await;
}

/// The parent holds pages from after all that the standby has replayed, though what it has received goes further.
#[tokio::test(flavor = "multi_thread")]
async fn no_page_is_taken_unread_that_may_be_newer_than_what_the_standby_has_replayed() {
    let mut pair = Pair::begin(Major::V15, &[]).await;
    pair.change(1).await;
    pair.caught_up().await;
    let rows = pair.scene.rows().await;
    sql(&pair.standby, "SELECT pg_wal_replay_pause()").await;
    pair.change(2).await;
    // Other tables, files and forks, of which the standby knows nothing yet.
    for statement in [
        "CREATE TABLE public.late AS SELECT i, md5(i::text) AS word FROM generate_series(1, 3000) AS i",
        "CREATE INDEX ON public.late (word)",
        "DELETE FROM public.late WHERE i > 1500",
        "VACUUM public.late",
    ] {
        sql(&pair.scene.cluster, statement).await;
    }
    let parent = pair.full(From::Primary).await;
    received(&pair).await;
    let (summary, increment) = pair.increment(From::Standby).await;
    assert_eq!((increment.by, increment.kept), (ChangesBy::Hashes, 0));
    let why = increment.why.unwrap();
    assert!(why.contains("the standby has replayed WAL only up to"), "{why}");
    let (parent, child) = (
        pair.scene.manifest(&parent.backup.id).await.facts,
        pair.scene.manifest(&summary.backup.id).await.facts,
    );
    assert!(child.stop.lsn.0 < parent.start.lsn.0, "{child:?} {parent:?}");
    sql(&pair.standby, "SELECT pg_wal_replay_resume()").await;
    pair.scene.brings_back(&summary.backup.id, &rows, Depth::All).await;

    // The next one has that for its parent.
    pair.change(3).await;
    sql(&pair.scene.cluster, "CHECKPOINT").await;
    pair.caught_up().await;
    let rows = pair.scene.rows().await;
    let (next, _) = pair.by_wal(From::Standby).await;
    pair.scene.brings_back(&next.backup.id, &rows, Depth::All).await;
    assert_eq!(pair.scene.alerts().await, Vec::<String>::new());
    pair.end().await;
}

/// An idle server: the standby's last restartpoint is at the checkpoint with which its parent began.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_right_after_its_parent_begins_where_that_did() {
    let mut pair = Pair::begin(Major::V15, &[]).await;
    let parent = pair.full(From::Primary).await;
    pair.caught_up().await;
    let rows = pair.scene.rows().await;
    let (summary, increment) = pair.by_wal(From::Standby).await;
    let (parent, child) = (
        pair.scene.manifest(&parent.backup.id).await.facts,
        pair.scene.manifest(&summary.backup.id).await.facts,
    );
    assert_eq!(child.start.lsn, parent.start.lsn);
    assert!(increment.stored < 300, "{increment:?}");
    pair.scene.brings_back(&summary.backup.id, &rows, Depth::All).await;
    pair.end().await;
}

/// What the parent holds is not even on its way to the standby: no page is taken unread.
#[tokio::test(flavor = "multi_thread")]
async fn where_the_standby_lacks_the_wal_of_the_parent_every_page_is_read() {
    let mut pair = Pair::begin(Major::V15, &[]).await;
    pair.change(1).await;
    pair.caught_up().await;
    let rows = pair.scene.rows().await;
    for statement in ["ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"] {
        sql(&pair.standby, statement).await;
    }
    until("the standby receives no more", || async {
        value(&pair.standby, "SELECT count(*) FROM pg_stat_wal_receiver").await == "0"
    })
    .await;
    pair.change(2).await;
    let parent = pair.full(From::Primary).await;
    let (summary, increment) = pair.increment(From::Standby).await;
    assert_eq!((increment.by, increment.kept), (ChangesBy::Hashes, 0));
    let why = increment.why.unwrap();
    assert!(why.contains("the standby has replayed WAL only up to"), "{why}");
    let parent = pair.scene.manifest(&parent.backup.id).await.facts;
    let (_, _, stop) = pair.kept(&summary.backup.id).await;
    assert!(stop.0 < parent.stop.lsn.0, "{stop} {parent:?}");
    pair.scene.brings_back(&summary.backup.id, &rows, Depth::All).await;
    pair.end().await;
}

/// Replay makes a database as a copy of its template's files, and the parent has these as they became later.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_a_copy_of_what_its_template_was_and_not_of_what_it_became() {
    let mut pair = Pair::begin(Major::V13, &[]).await;
    sql(&pair.scene.cluster, "CREATE DATABASE shape").await;
    in_shape(
        &pair,
        "CREATE TABLE public.t AS SELECT i FROM generate_series(1, 100) AS i",
    )
    .await;
    sql(&pair.scene.cluster, "CHECKPOINT").await;
    pair.caught_up().await;
    sql(&pair.standby, "SELECT pg_wal_replay_pause()").await;
    sql(&pair.scene.cluster, "CREATE DATABASE copied TEMPLATE shape").await;
    in_shape(&pair, "INSERT INTO public.t VALUES (101)").await;
    let (rows, at) = (
        pair.scene.rows().await,
        position(&pair.scene.cluster, "pg_current_wal_flush_lsn()").await,
    );
    pair.full(From::Primary).await;
    received(&pair).await;
    let (summary, _) = pair.increment(From::Standby).await;
    pair.scene.all_is_here().await;
    let copied = "copied/public.t";
    let there = pair.scene.revive(&summary.backup.id).await;
    let found = row_digests(&there.conninfo()).await;
    assert!(
        found.get(copied).is_none_or(|found| *found == rows[copied]),
        "{found:?}"
    );
    stop_and_forget(there).await;
    // Made anew by replay, from that very backup: the parent's end is behind it.
    let there = pair.scene.revive_at(At::Lsn(at)).await;
    assert_eq!(row_digests(&there.conninfo()).await, rows);
    stop_and_forget(there).await;
    sql(&pair.standby, "SELECT pg_wal_replay_resume()").await;
    pair.end().await;
}

async fn in_shape(pair: &Pair, statement: &str) {
    let session = pair.scene.cluster.session_in("shape").await;
    session.execute("do a test's bidding", statement).await.unwrap();
    session.close().await;
}
