//! Puts a server's WAL into the repository straight from its `pg_wal`, finished segments and the open one: what a
//! receiver that never fails would have left there.

use engine::{
    archive::Indexer,
    pgformat::{Lsn, segment::SegmentName, wal::Geometry},
    repo::wal::{Assembly, DoneDraft, Finish, WalStream, append_run, contiguous_end, is_done, put_history, put_mark},
};
use testkit::clusters::TestCluster;

use crate::{act::value, world::World};

/// Everything up to the server's present position; says where that is.
pub(crate) async fn archive(world: &World, cluster: &TestCluster) -> u64 {
    let opened = world.open().await;
    let session = opened.begin_session().await.unwrap();
    let facts = {
        let session = cluster.session().await;
        let facts = engine::server::ServerFacts::read(&session).await.unwrap();
        session.close().await;
        facts
    };
    // A transaction without a synchronous commit may not be flushed yet.
    let flushed: Lsn = value(cluster, "SELECT pg_catalog.pg_current_wal_flush_lsn()")
        .await
        .parse()
        .unwrap();
    let now: i64 = value(
        cluster,
        "SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint",
    )
    .await
    .parse()
    .unwrap();
    let size = facts.wal_segment_size;
    let (generation, timeline) = (facts.system_identifier, facts.timeline);
    let repository = &opened.repository;
    if timeline.0 > 1 {
        let name = format!("{}.history", timeline.to_hex());
        let content = std::fs::read(cluster.data_dir().join("pg_wal").join(name)).unwrap();
        put_history(repository, &session, generation, timeline.0, &content)
            .await
            .unwrap();
    }
    let stream = WalStream::new(generation, timeline.0, size.bytes()).unwrap();
    let geometry = Geometry::new(size, facts.wal_block_size).unwrap();
    let mut segments: Vec<SegmentName> = std::fs::read_dir(cluster.data_dir().join("pg_wal"))
        .unwrap()
        .filter_map(|entry| SegmentName::parse(entry.unwrap().file_name().to_str()?, size).ok())
        .filter(|name| name.timeline == timeline && name.start(size).0 < flushed.0)
        .collect();
    segments.sort_by_key(|name| name.start(size));
    let mut indexer: Option<Indexer> = None;
    for name in segments {
        let (start, path) = (
            name.start(size).0,
            cluster.data_dir().join("pg_wal").join(name.file_name(size)),
        );
        let bytes = std::fs::read(path).unwrap();
        let end = start + size.bytes();
        if end <= flushed.0 {
            let indexer = match &mut indexer {
                Some(indexer) if indexer.position() == start => indexer,
                other => other.insert(prepared(repository, &stream, geometry, start).await),
            };
            let mut draft = DoneDraft::new(repository, &session, &stream, start).unwrap();
            draft.bytes(&bytes).unwrap();
            indexer.feed(&bytes);
            let index = indexer.index();
            assert_eq!(index.summary.broken, None, "{name:?}");
            if !is_done(repository, &stream, start).await.unwrap() {
                draft.finish(&index).unwrap().store(repository, &stream).await.unwrap();
            }
        } else {
            let from = contiguous_end(repository, &stream, start).await.unwrap().max(start);
            if from < flushed.0 {
                let part = &bytes[(from - start) as usize..(flushed.0 - start) as usize];
                append_run(repository, &session, &stream, from, part).await.unwrap();
            }
        }
    }
    put_mark(repository, &session, &stream, flushed.0, now, None)
        .await
        .unwrap();
    flushed.0
}

/// An indexer that knows the segment before, where that is here.
async fn prepared(
    repository: &engine::repo::Repository,
    stream: &WalStream,
    geometry: Geometry,
    start: u64,
) -> Indexer {
    let before = start - stream.segment_size();
    if !is_done(repository, stream, before).await.unwrap() {
        return Indexer::new(geometry, stream.generation, start).unwrap();
    }
    let mut indexer = Indexer::new(geometry, stream.generation, before).unwrap();
    let mut wal = Assembly::new(repository, *stream, before, start);
    while let Some(run) = wal.next().await.unwrap() {
        indexer.feed(&run.bytes);
    }
    drop(indexer.index());
    indexer
}
