//! A standby is backed up by itself: its primary is not asked.

use pgformat::{Major, control::State, label::TakenFrom};
use testkit::clusters::{bank::RunningBank, majors_to_test, row_digests};

use super::pair::{ACCOUNTS, From, Pair, position};
use crate::{
    ask::{sql, until, value},
    scene::{Depth, stop_and_forget},
};

const SEGMENT: u64 = 16 << 20;

async fn under_load_and_after(major: Major) {
    let pair = Pair::begin(major, &[]).await;
    let bank = RunningBank::start(&pair.scene.cluster.conninfo(), 2, ACCOUNTS, 7);
    bank.wait_for(200).await;
    let full = pair.full(From::Standby).await;
    let (control, label, stop) = pair.kept(&full.backup.id).await;
    assert_eq!(label.taken_from, TakenFrom::Standby);
    assert_eq!(control.state, State::InArchiveRecovery);
    assert!(control.min_recovery_lsn <= stop, "{control:?} {stop}");
    bank.wait_for(400).await;
    sql(&pair.scene.cluster, "CHECKPOINT").await;
    pair.caught_up().await;
    let (under_load, _) = pair.by_wal(From::Standby).await;
    bank.stop().await;
    pair.all_come_back(From::Standby, [full, under_load]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_standby_brings_back_what_it_had_replayed() {
    for major in majors_to_test() {
        under_load_and_after(major).await;
    }
}

/// Nothing writes: what a backup needs must be there already, and neither a switch of segments nor a record that ends it comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_ends_where_a_segment_does_waits_for_nothing() {
    let mut pair = Pair::begin(Major::V15, &[]).await;
    let rows = pair.scene.rows().await;
    let mut ended = None;
    // The primary may write of its own accord in between.
    for _ in 0..10 {
        sql(&pair.scene.cluster, "SELECT pg_switch_wal()").await;
        pair.caught_up().await;
        let summary = pair.full(From::Standby).await;
        let (_, _, stop) = pair.kept(&summary.backup.id).await;
        if stop.0.is_multiple_of(SEGMENT) {
            ended = Some((summary, stop));
            break;
        }
        sql(&pair.scene.cluster, "SELECT pg_logical_emit_message(true, 't', 'x')").await;
    }
    let (summary, stop) = ended.expect("a backup ends at a segment's end");
    assert!(summary.seconds < 60.0, "{}", summary.seconds);
    let manifest = pair.scene.manifest(&summary.backup.id).await.facts;
    assert!(manifest.stop.record.0 < stop.0 && stop.0 - manifest.stop.record.0 <= SEGMENT);
    pair.scene.brings_back(&summary.backup.id, &rows, Depth::All).await;
    let again = pair.full(From::Standby).await;
    pair.scene.brings_back(&again.backup.id, &rows, Depth::Rows).await;
    pair.end().await;
}

/// A standby that lags on purpose is no reason for what comes out of its backup to do so.
#[tokio::test(flavor = "multi_thread")]
async fn what_delays_the_standby_does_not_delay_a_restore() {
    let mut pair = Pair::begin(Major::V15, &[]).await;
    let delay = "ALTER SYSTEM SET recovery_min_apply_delay = '1d'";
    sql(&pair.standby, delay).await;
    pair.change(1).await;
    pair.caught_up().await;
    let rows = pair.scene.rows().await;
    let full = pair.full(From::Standby).await;
    pair.scene.brings_back(&full.backup.id, &rows, Depth::Rows).await;
    // Commits after the backup, which are what would be delayed.
    pair.change(2).await;
    pair.scene.all_is_here().await;
    let rows = pair.scene.rows().await;
    let server = pair.scene.world.revive(Major::V15, "latest").await;
    assert_eq!(row_digests(&server.conninfo()).await, rows);
    stop_and_forget(server).await;
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_receiver_a_standbys_own_stream_is_enough() {
    let mut pair = Pair::begin(Major::V15, &[]).await;
    pair.scene.stop_receiving().await;
    pair.change(1).await;
    pair.caught_up().await;
    let rows = pair.scene.rows().await;
    // The primary writes a record now and then by itself.
    let before = position(&pair.standby, "pg_last_wal_replay_lsn()").await;
    let full = pair.full(From::Standby).await;
    let after = position(&pair.standby, "pg_last_wal_replay_lsn()").await;
    let (_, _, stop) = pair.kept(&full.backup.id).await;
    assert!(
        (before..=after).contains(&stop),
        "{stop:?} is not from {before:?} to {after:?}"
    );
    pair.scene.brings_back(&full.backup.id, &rows, Depth::All).await;
    let slots = "count(*) FROM pg_replication_slots WHERE slot_name LIKE 'lastgood_backup%'";
    until("its slot is gone", || async {
        value(&pair.standby, &format!("SELECT {slots}")).await == "0"
    })
    .await;
    pair.end().await;
}
