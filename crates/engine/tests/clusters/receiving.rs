//! A receiver beside a test, and the oracle: what is here equals the server's own segments, to the byte.

use std::sync::Arc;

use engine::{
    Error, Result,
    archive::receive::{self, Options, SlotChoice, Summary},
    event::{Context, Event, Stop},
    repo::wal::{WalStream, assemble, contiguous_end, coverage},
    server::LiveSource,
};
use pgclient::Conninfo;
use pgformat::{
    Lsn, Tli,
    segment::{SegmentName, SegmentSize},
};
use testkit::clusters::{Options as ClusterOptions, TestCluster};
use tokio::task::JoinHandle;

use crate::{
    ask::{PATIENCE, sql, until, value},
    world::{Heard, World, durable_with},
};

/// A server that keeps its segments for the comparison, and limits slots.
pub(crate) fn keeping() -> ClusterOptions {
    durable_with(&["wal_keep_size = 2GB", "max_slot_wal_keep_size = 4GB"])
}

/// The same with segments of a MiB.
pub(crate) fn keeping_small() -> ClusterOptions {
    ClusterOptions {
        wal_segment_size_mib: 1,
        ..keeping()
    }
}

/// Waits until the server has noticed that nobody receives any more.
pub(crate) async fn nobody_receives(cluster: &TestCluster) {
    until("the server lets go of the slot", || async {
        value(cluster, "SELECT count(*) FROM pg_replication_slots WHERE active").await == "0"
    })
    .await;
}

/// So many MiB of WAL, flushed.
pub(crate) async fn write_wal(cluster: &TestCluster, mebibytes: u32) {
    let emit = format!(
        "SELECT count(pg_logical_emit_message(false, 't', repeat('x', 1048000))) FROM generate_series(1, {mebibytes})"
    );
    sql(cluster, &emit).await;
    sql(cluster, "SELECT pg_logical_emit_message(true, 't', 'flushed')").await;
}

/// Makes a standby of a server that stands alone, and promotes it: it goes on, on the next timeline.
pub(crate) async fn promote_alone(cluster: &mut TestCluster) {
    cluster.stop().await;
    let signal = cluster.data_dir().join("standby.signal");
    std::fs::write(&signal, "").unwrap();
    testkit::clusters::give_to_server_user(&signal);
    cluster.start().await;
    sql(cluster, "SELECT pg_promote()").await;
    sql(cluster, "CREATE TABLE public.after_promotion (x int)").await;
}

/// Flips a bit in the middle of an object.
pub(crate) async fn damage(store: &dyn engine::repo::store::Store, name: &str) {
    let mut bytes = store.get(name).await.unwrap().unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    store.delete(name).await.unwrap();
    store.put_new(name, bytes.into()).await.unwrap();
}

/// Where the server's WAL ends.
pub(crate) async fn flushed(cluster: &TestCluster) -> u64 {
    let text = value(cluster, "pg_current_wal_flush_lsn()").await;
    text.parse::<Lsn>().unwrap().0
}

/// The cluster's WAL on a timeline.
pub(crate) async fn stream_of(cluster: &TestCluster, timeline: u32) -> WalStream {
    let id = value(cluster, "SELECT system_identifier FROM pg_control_system()").await;
    let size = "SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'";
    let size = value(cluster, size).await.parse().unwrap();
    WalStream::new(id.parse::<i64>().unwrap().cast_unsigned(), timeline, size).unwrap()
}

pub(crate) fn slot() -> Options {
    Options::new(SlotChoice::of_database("shop").unwrap())
}

pub(crate) fn no_slot() -> Options {
    Options::new(SlotChoice::None)
}

/// A receiver under way.
pub(crate) struct Receiving {
    stop: Stop,
    pub(crate) heard: Arc<Heard>,
    ended: JoinHandle<Result<Summary>>,
}

impl Receiving {
    pub(crate) async fn start(world: &World, conninfo: Conninfo, options: Options) -> Receiving {
        let (stop, heard) = (Stop::default(), Arc::new(Heard::default()));
        let context = Context {
            runtime: testkit::host::runtime(),
            observer: heard.clone(),
            stop: stop.clone(),
        };
        let opened = world.open().await;
        let ended = tokio::spawn(async move {
            let source = LiveSource::new(conninfo);
            receive::run(&context, &opened, &source, &options).await
        });
        Receiving { stop, heard, ended }
    }

    pub(crate) async fn stop(self) -> Summary {
        self.stop.stop();
        self.ended().await.unwrap()
    }

    /// Dies where it stands.
    pub(crate) async fn kill(self) {
        self.ended.abort();
        let _ = self.ended.await;
    }

    pub(crate) async fn ended(self) -> Result<Summary> {
        tokio::time::timeout(PATIENCE, self.ended)
            .await
            .expect("it ends")
            .unwrap()
    }

    pub(crate) async fn fails(self) -> Error {
        self.ended().await.expect_err("it was to fail")
    }

    /// The codes of all warnings so far; what they said is in the test's output.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let events = self.heard.0.lock().unwrap();
        let warnings = events.iter().filter_map(|event| match event {
            Event::Warning(warning) => Some((warning.code, &warning.message)),
            _ => None,
        });
        let warnings: Vec<_> = warnings.collect();
        if !warnings.is_empty() {
            println!("{warnings:#?}");
        }
        warnings.iter().map(|(code, _)| (*code).to_string()).collect()
    }
}

/// Where the last stretch of a timeline ends that is here.
pub(crate) async fn end_here(world: &World, stream: &WalStream) -> u64 {
    let opened = world.open().await;
    let stretches = coverage(&opened.repository, stream).await.unwrap();
    stretches.last().map_or(0, |stretch| stretch.1)
}

/// Waits until everything before `position` is durable.
pub(crate) async fn here(world: &World, stream: &WalStream, position: u64) {
    let opened = world.open().await;
    until(&format!("{} is here", Lsn(position)), || async {
        contiguous_end(&opened.repository, stream, position.saturating_sub(1))
            .await
            .unwrap()
            >= position
    })
    .await;
}

/// Compares all that is here of a timeline, without a gap, with the server's files; how many bytes.
pub(crate) async fn equals_server(world: &World, cluster: &TestCluster, stream: &WalStream) -> u64 {
    let opened = world.open().await;
    let stretches = coverage(&opened.repository, stream).await.unwrap();
    let [(from, to)] = stretches[..] else {
        panic!("there is a gap: {stretches:x?}");
    };
    compare(&opened, cluster, stream, from, to).await
}

/// The same for one stretch.
pub(crate) async fn compare(
    opened: &engine::database::Opened,
    cluster: &TestCluster,
    stream: &WalStream,
    from: u64,
    to: u64,
) -> u64 {
    let size = SegmentSize::new(stream.segment_size()).unwrap();
    let pg_wal = cluster.data_dir().join("pg_wal");
    let mut file = (u64::MAX, Vec::new());
    let compared = assemble(&opened.repository, *stream, from, to, |start, bytes| {
        let segment = stream.segment_of(start);
        if file.0 != segment {
            let name = SegmentName::holding(Tli(stream.timeline), Lsn(segment), size).file_name(size);
            file = (
                segment,
                std::fs::read(pg_wal.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}")),
            );
        }
        let at = (start - segment) as usize;
        assert!(file.1[at..at + bytes.len()] == *bytes, "other bytes at {}", Lsn(start));
        Ok(())
    });
    compared.await.unwrap();
    to - from
}
