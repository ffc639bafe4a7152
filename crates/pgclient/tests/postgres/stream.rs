use std::{
    fs,
    time::{Duration, Instant},
};

use pgclient::{
    Error, Replication, Session,
    cluster::StopMode,
    replication::{WalEvent, WalStream},
};
use pgformat::{
    Lsn, Tli,
    protocol::SlotName,
    segment::{SegmentName, SegmentSize},
};

use crate::server::Server;

const SIZE: SegmentSize = SegmentSize::DEFAULT;

async fn flushed(session: &Session) -> Lsn {
    let sql = "SELECT pg_current_wal_flush_lsn()::text";
    session
        .query_one("ask", sql, &[])
        .await
        .unwrap()
        .get::<_, String>(0)
        .parse()
        .unwrap()
}

/// WAL for about this many MiB, flushed.
async fn write_wal(session: &Session, mebibytes: u32) {
    // A message's content goes into the WAL as it is.
    let sql = format!(
        "SELECT count(pg_logical_emit_message(false, 't', repeat('x', 1048000))) FROM generate_series(1, {mebibytes}); \
         SELECT pg_switch_wal()"
    );
    session.execute("write WAL", &sql).await.unwrap();
}

/// Bytes of the stream from where it stands to `end`.
async fn read_to(stream: &mut WalStream, end: Lsn) -> Vec<u8> {
    let mut all = Vec::new();
    while stream.received() < end {
        if let WalEvent::Data { bytes, .. } = stream.next().await.unwrap() {
            all.extend_from_slice(&bytes);
        }
    }
    all
}

#[tokio::test]
async fn a_stream_gives_exactly_the_bytes_of_the_segments() {
    let server = Server::new("", &[("wal_keep_size", "512MB")]).await;
    let session = server.session().await;
    let from = SegmentName::holding(Tli(1), flushed(&session).await, SIZE);
    write_wal(&session, 40).await;
    let last = SegmentName::holding(Tli(1), flushed(&session).await, SIZE);
    assert!(last.number >= from.number + 2, "{from:?} {last:?}");

    let mut replication = Replication::connect(&server.admin()).await.unwrap();
    let identity = replication.identify_system().await.unwrap();
    assert_eq!(
        (identity.timeline, identity.flushed >= last.start(SIZE)),
        (Tli(1), true)
    );
    // Not from a segment's beginning, nor a record's.
    let begin = from.start(SIZE).saturating_add(12_345);
    let mut stream = replication.start_physical(None, begin, Tli(1)).await.unwrap();
    let streamed = read_to(&mut stream, last.start(SIZE)).await;
    let mut on_disk = Vec::new();
    for number in from.number..last.number {
        let name = SegmentName { number, ..from }.file_name(SIZE);
        on_disk.extend(fs::read(server.data_dir().join("pg_wal").join(name)).unwrap());
    }
    let length = on_disk.len() - 12_345;
    assert!(
        streamed[..length] == on_disk[12_345..],
        "the stream differs from the files"
    );
}

#[tokio::test]
async fn a_slot_lets_go_of_what_was_acknowledged_and_of_nothing_else() {
    let server = Server::new("", &[("wal_keep_size", "512MB")]).await;
    let session = server.session().await;
    let slot = SlotName::new("lastgood_test").unwrap();
    let mut replication = Replication::connect(&server.admin()).await.unwrap();
    replication.create_temporary_slot(&slot).await.unwrap();
    let restart = async || -> Lsn {
        let sql = "SELECT restart_lsn::text FROM pg_replication_slots";
        session
            .query_one("ask", sql, &[])
            .await
            .unwrap()
            .get::<_, String>(0)
            .parse()
            .unwrap()
    };
    let reserved = restart().await;
    write_wal(&session, 20).await;
    let end = flushed(&session).await;

    let mut stream = replication.start_physical(Some(&slot), reserved, Tli(1)).await.unwrap();
    read_to(&mut stream, end).await;
    let replication = stream.stop().await.unwrap();
    assert_eq!(restart().await, reserved, "nothing was acknowledged");

    let middle = Lsn(reserved.0 + 100_000);
    let mut stream = replication.start_physical(Some(&slot), reserved, Tli(1)).await.unwrap();
    read_to(&mut stream, end).await;
    stream.acknowledge(middle);
    stream.acknowledge(reserved);
    let mut replication = stream.stop().await.unwrap();
    assert_eq!(restart().await, middle);
    replication.drop_slot(&slot).await.unwrap();
}

#[tokio::test]
async fn commits_wait_for_a_stream_only_once_it_acknowledged_something() {
    let server = Server::new("", &[("wal_sender_timeout", "2s"), ("synchronous_standby_names", "*")]).await;
    let session = server.session().await;
    let begin = flushed(&session).await;
    let replication = Replication::connect(&server.admin()).await.unwrap();
    let mut stream = replication.start_physical(None, begin, Tli(1)).await.unwrap();
    let state = async || -> String {
        let sql = "SELECT sync_state FROM pg_stat_replication";
        session.query_one("ask", sql, &[]).await.unwrap().get(0)
    };
    // Four signs of life, each a second after the other: the server has long heard from us by then.
    let mut listen = async |acknowledge: bool| {
        for _ in 0..4 {
            stream.next().await.unwrap();
            if acknowledge {
                stream.acknowledge(stream.received());
            }
        }
    };
    listen(false).await;
    assert_eq!(state().await, "async");
    listen(true).await;
    assert_eq!(state().await, "sync");
}

#[tokio::test]
async fn an_idle_stream_outlives_the_servers_timeout() {
    let server = Server::new("", &[("wal_sender_timeout", "2s")]).await;
    let begin = flushed(&server.session().await).await;
    let mut stream = Replication::connect(&server.admin())
        .await
        .unwrap()
        .start_physical(None, begin, Tli(1))
        .await
        .unwrap();
    // An idle server speaks each second: five times are more than its timeout.
    let mut keepalives = 0;
    while keepalives < 5 {
        if let WalEvent::Keepalive { .. } = stream.next().await.unwrap() {
            keepalives += 1;
        }
    }
}

#[tokio::test]
async fn a_stream_whose_caller_is_busy_outlives_a_short_timeout() {
    let server = Server::new("", &[("wal_sender_timeout", "4s")]).await;
    let session = server.session().await;
    let begin = flushed(&session).await;
    let replication = Replication::connect(&server.admin()).await.unwrap();
    let mut stream = replication.start_physical(None, begin, Tli(1)).await.unwrap();
    // Twice the timeout: what the server asks for meanwhile is not even read.
    let busy = Instant::now();
    while busy.elapsed() < Duration::from_secs(8) {
        stream.heartbeat().await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    write_wal(&session, 1).await;
    let end = flushed(&session).await;
    assert!(read_to(&mut stream, end).await.len() > 1 << 20);
}

#[tokio::test]
async fn a_server_that_goes_away_ends_the_stream_with_an_error() {
    let mut server = Server::new("", &[]).await;
    for mode in [StopMode::Fast, StopMode::Immediate] {
        let begin = flushed(&server.session().await).await;
        let replication = Replication::connect(&server.admin()).await.unwrap();
        let mut stream = replication.start_physical(None, begin, Tli(1)).await.unwrap();
        let until_error = async {
            loop {
                if let Err(error) = stream.next().await {
                    return error;
                }
            }
        };
        let (error, ()) = tokio::join!(until_error, server.stop(mode));
        assert!(matches!(error, Error::ConnectionLost { .. }), "{mode:?}: {error:?}");
        assert!(error.is_transient());
        server.start().await;
    }
}

#[tokio::test]
async fn wal_that_the_server_has_not_is_an_error_with_its_reason() {
    let server = Server::new("", &[]).await;
    let session = server.session().await;
    for _ in 0..3 {
        write_wal(&session, 1).await;
        session.execute("let WAL be removed", "CHECKPOINT").await.unwrap();
    }
    let refusal = async |start: Lsn| -> Error {
        let replication = Replication::connect(&server.admin()).await.unwrap();
        match replication.start_physical(None, start, Tli(1)).await {
            Err(error) => error,
            Ok(mut stream) => stream.next().await.unwrap_err(),
        }
    };
    let error = refusal(Lsn(1 << 24)).await;
    assert!(error.is_wal_removed(), "{error:?}");
    let error = refusal(Lsn(1 << 40)).await;
    assert!(error.to_string().contains("ahead of the WAL flush position"), "{error}");
}

#[tokio::test]
async fn the_end_of_a_timeline_tells_where_wal_goes_on() {
    let mut server = Server::new("", &[("wal_keep_size", "512MB")]).await;
    let begin = SegmentName::holding(Tli(1), flushed(&server.session().await).await, SIZE).start(SIZE);
    server.stop(StopMode::Fast).await;
    fs::write(server.data_dir().join("standby.signal"), "").unwrap();
    let mut cluster = pgclient::Cluster::start(&server.binaries, &server.data_dir(), server.start.clone()).unwrap();
    cluster.wait_standby(crate::server::LONG).await.unwrap();
    server.cluster = Some(cluster);
    server.sql("SELECT pg_promote(true, 60)").await;
    server
        .cluster
        .as_mut()
        .unwrap()
        .wait_ready(crate::server::LONG)
        .await
        .unwrap();

    let mut replication = Replication::connect(&server.admin()).await.unwrap();
    let history = replication.timeline_history(Tli(2)).await.unwrap();
    assert!(String::from_utf8(history.content).unwrap().starts_with("1\t"));
    let mut stream = replication.start_physical(None, begin, Tli(1)).await.unwrap();
    let (next, switch) = loop {
        if let WalEvent::EndOfTimeline { next, switch } = stream.next().await.unwrap() {
            break (next, switch);
        }
    };
    assert_eq!((next, switch), (Some(Tli(2)), stream.received()));
    // Asked exactly at the end there is no stream, only the same answer.
    let replication = stream.stop().await.unwrap();
    let mut stream = replication.start_physical(None, switch, Tli(1)).await.unwrap();
    assert_eq!(stream.next().await.unwrap(), WalEvent::EndOfTimeline { next, switch });
    let mut replication = stream.stop().await.unwrap();
    assert_eq!(replication.identify_system().await.unwrap().timeline, Tli(2));
}
