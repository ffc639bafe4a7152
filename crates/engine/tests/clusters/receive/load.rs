//! Everything the server wrote is here, whatever happens to the receiver and to the server.

use pgformat::Major;
use testkit::clusters::{TestCluster, bank, majors_to_test};

use engine::repo::wal::{DoneDraft, MAX_RUN, assemble, index::Index, is_done};

use crate::{
    ask::{sql, until, value},
    receiving::{Receiving, equals_server, flushed, here, keeping, no_slot, slot, stream_of, write_wal},
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_received_under_load_is_the_servers() {
    for major in majors_to_test() {
        let cluster = TestCluster::new(major, keeping()).await;
        bank::create(&cluster.session().await, 100).await;
        let world = World::new().await;
        let stream = stream_of(&cluster, 1).await;
        let load = bank::RunningBank::start(&cluster.conninfo(), 2, 100, 1);
        let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
        load.wait_for(20).await;
        write_wal(&cluster, 40).await;
        load.wait_for(load.acknowledged().len() + 50).await;
        load.stop().await;
        let end = flushed(&cluster).await;
        here(&world, &stream, end).await;
        assert_eq!(receiving.warnings(), Vec::<String>::new(), "PostgreSQL {major}");
        let summary = receiving.stop().await;
        assert!(summary.segments >= 2 && summary.bytes > 40 << 20, "{summary:?}");
        assert!(equals_server(&world, &cluster, &stream).await >= 40 << 20);
        // Segments are finished while it receives.
        let opened = world.open().await;
        let first = end - (end % stream.segment_size()) - 2 * stream.segment_size();
        assert!(
            is_done(&opened.repository, &stream, first).await.unwrap(),
            "PostgreSQL {major}"
        );
        // The server was told, and keeps no more than it has to.
        let restart =
            "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), restart_lsn) < 1000000 FROM pg_replication_slots";
        assert_eq!(value(&cluster, restart).await, "true", "PostgreSQL {major}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_killed_or_stopped_goes_on_where_it_was() {
    let cluster = TestCluster::new(Major::V15, keeping()).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    for round in 0..6 {
        let options = if round % 3 == 0 { no_slot() } else { slot() };
        let receiving = Receiving::start(&world, cluster.conninfo(), options).await;
        write_wal(&cluster, 3).await;
        let middle = flushed(&cluster).await;
        if round % 2 == 0 {
            here(&world, &stream, middle).await;
            write_wal(&cluster, 7).await;
            receiving.kill().await;
        } else {
            let summary = receiving.stop().await;
            assert_eq!(summary.gaps, vec![]);
        }
        // Nobody receives this.
        write_wal(&cluster, 5).await;
    }
    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    here(&world, &stream, flushed(&cluster).await).await;
    receiving.stop().await;
    assert!(equals_server(&world, &cluster, &stream).await >= 60 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_or_dies_is_waited_for() {
    let mut cluster = TestCluster::new(Major::V15, keeping()).await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    write_wal(&cluster, 3).await;
    here(&world, &stream, flushed(&cluster).await).await;
    cluster.restart().await;
    write_wal(&cluster, 3).await;
    here(&world, &stream, flushed(&cluster).await).await;
    cluster.crash().await;
    cluster.start().await;
    sql(&cluster, "CREATE TABLE public.after (x int)").await;
    here(&world, &stream, flushed(&cluster).await).await;
    assert!(receiving.warnings().iter().all(|code| code == "receive-interrupted"));
    assert!(!receiving.warnings().is_empty());
    receiving.stop().await;
    equals_server(&world, &cluster, &stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_of_any_size_are_received() {
    for mebibytes in [1, 64] {
        let options = testkit::clusters::Options {
            wal_segment_size_mib: mebibytes,
            ..keeping()
        };
        let cluster = TestCluster::new(Major::V15, options).await;
        let world = World::new().await;
        let stream = stream_of(&cluster, 1).await;
        let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
        write_wal(&cluster, mebibytes + 3).await;
        let end = flushed(&cluster).await;
        here(&world, &stream, end).await;
        let summary = receiving.stop().await;
        assert!(summary.segments >= 1, "{mebibytes} MiB: {summary:?}");
        equals_server(&world, &cluster, &stream).await;
    }
}

/// Segments of 64 MiB are finished in four runs. Whoever finishes one may die after the first.
#[tokio::test(flavor = "multi_thread")]
async fn a_wide_segment_whose_finishing_was_interrupted_is_whole_and_gets_finished() {
    const PART: u64 = MAX_RUN as u64;
    let options = testkit::clusters::Options {
        wal_segment_size_mib: 64,
        ..keeping()
    };
    let cluster = TestCluster::new(Major::V15, options).await;
    sql(&cluster, "SELECT pg_switch_wal()").await;
    let world = World::new().await;
    let stream = stream_of(&cluster, 1).await;
    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    // Runs of odd lengths, on both sides of the first part's end.
    for mebibytes in [3, 6, 10] {
        write_wal(&cluster, mebibytes).await;
        here(&world, &stream, flushed(&cluster).await).await;
    }
    receiving.kill().await;
    let segment = stream.segment_of(flushed(&cluster).await);
    let opened = world.open().await;
    let (repository, session) = (&opened.repository, opened.begin_session().await.unwrap());
    let mut draft = DoneDraft::new(repository, &session, &stream, segment).unwrap();
    assemble(repository, stream, segment, segment + PART, |_, bytes| {
        draft.bytes(bytes)
    })
    .await
    .unwrap();
    let sealing = draft.finish(&Index::default()).unwrap();
    sealing.store(repository, &stream).await.unwrap();
    assert!(equals_server(&world, &cluster, &stream).await > PART);

    let receiving = Receiving::start(&world, cluster.conninfo(), slot()).await;
    write_wal(&cluster, 64).await;
    here(&world, &stream, flushed(&cluster).await).await;
    until("the segment is finished", || async {
        is_done(repository, &stream, segment + 3 * PART).await.unwrap()
    })
    .await;
    assert_eq!(receiving.warnings(), Vec::<String>::new());
    assert_eq!(receiving.stop().await.gaps, vec![]);
    equals_server(&world, &cluster, &stream).await;
}
