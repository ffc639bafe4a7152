//! A standby that has not replayed what its parent has.

use engine::backup::ChangesBy;
use pgformat::{Lsn, Major};

use crate::{
    act::{sql, until, value},
    pair::{From, Pair, position},
    scene::Depth,
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

/// The parent holds pages from after this backup's start, and even after all that the standby has replayed.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_ends_no_earlier_than_the_pages_that_it_takes_unread() {
    let mut pair = Pair::begin(Major::V15, &[]).await;
    pair.change(1).await;
    pair.caught_up().await;
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
    let rows = pair.scene.rows().await;
    let parent = pair.full(From::Primary).await;
    received(&pair).await;
    let (summary, increment) = pair.increment(From::Standby).await;
    assert_eq!(
        (increment.by, increment.why.as_deref()),
        (ChangesBy::Wal, None),
        "{increment:?}"
    );
    let (parent, child) = (
        pair.scene.manifest(&parent.backup.id).await.facts,
        pair.scene.manifest(&summary.backup.id).await.facts,
    );
    let replayed = position(&pair.standby, "pg_last_wal_replay_lsn()").await;
    assert!(child.start.lsn.0 < parent.start.lsn.0, "{child:?} {parent:?}");
    assert!(replayed.0 < parent.start.lsn.0, "{replayed} {parent:?}");
    assert!(child.stop.lsn.0 >= parent.stop.lsn.0, "{child:?} {parent:?}");
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
    assert!(why.contains("the standby has WAL only up to"), "{why}");
    let parent = pair.scene.manifest(&parent.backup.id).await.facts;
    let (_, _, stop) = pair.kept(&summary.backup.id).await;
    assert!(stop.0 < parent.stop.lsn.0, "{stop} {parent:?}");
    pair.scene.brings_back(&summary.backup.id, &rows, Depth::All).await;
    pair.end().await;
}
