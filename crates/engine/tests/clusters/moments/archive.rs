//! Puts a server's WAL into the repository straight from its `pg_wal`, finished segments and the open one: what a
//! receiver that never fails would have left there.

use engine::{
    archive::Indexer,
    pgformat::{Lsn, segment::SegmentName, wal::Geometry},
    repo::{
        Repository,
        session::Session,
        wal::{Assembly, DoneDraft, Finish, WalStream, append_run, contiguous_end, is_done, put_history, put_mark},
    },
    server::ServerFacts,
};
use testkit::clusters::TestCluster;

use crate::{ask::value, world::World};

/// What a server says of itself, where its WAL ends, and when it said so.
struct Present {
    facts: ServerFacts,
    flushed: u64,
    now: i64,
}

async fn present(cluster: &TestCluster) -> Present {
    let session = cluster.session().await;
    let facts = ServerFacts::read(&session).await.unwrap();
    session.close().await;
    // A transaction without a synchronous commit may not be flushed yet.
    let flushed: Lsn = value(cluster, "SELECT pg_catalog.pg_current_wal_flush_lsn()")
        .await
        .parse()
        .unwrap();
    let now = value(
        cluster,
        "SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint",
    )
    .await
    .parse()
    .unwrap();
    Present {
        facts,
        flushed: flushed.0,
        now,
    }
}

async fn store_history(repository: &Repository, session: &Session, cluster: &TestCluster, facts: &ServerFacts) {
    let timeline = facts.timeline;
    if timeline.0 > 1 {
        let name = format!("{}.history", timeline.to_hex());
        let content = std::fs::read(cluster.data_dir().join("pg_wal").join(name)).unwrap();
        put_history(repository, session, facts.system_identifier, timeline.0, &content)
            .await
            .unwrap();
    }
}

/// The segment that the server writes at present, in `parts` runs without a mark: what a receiver leaves that began there a
/// moment ago. Says where the runs begin.
pub(crate) async fn archive_open(world: &World, cluster: &TestCluster, parts: u64) -> Vec<u64> {
    let opened = world.open().await;
    let session = opened.begin_session().await.unwrap();
    let Present { facts, flushed, .. } = present(cluster).await;
    let repository = &opened.repository;
    store_history(repository, &session, cluster, &facts).await;
    let size = facts.wal_segment_size;
    let stream = WalStream::new(facts.system_identifier, facts.timeline.0, size.bytes()).unwrap();
    let segment = stream.segment_of(flushed);
    let name = SegmentName::holding(facts.timeline, Lsn(segment), size).file_name(size);
    let bytes = std::fs::read(cluster.data_dir().join("pg_wal").join(name)).unwrap();
    let length = flushed - segment;
    assert!(length > parts, "{length}");
    let cut = |part: u64| length * part / parts;
    for part in 0..parts {
        let piece = &bytes[cut(part) as usize..cut(part + 1) as usize];
        append_run(repository, &session, &stream, segment + cut(part), piece)
            .await
            .unwrap();
    }
    (0..parts).map(|part| segment + cut(part)).collect()
}

/// Everything up to the server's present position; says where that is.
pub(crate) async fn archive(world: &World, cluster: &TestCluster) -> u64 {
    let opened = world.open().await;
    let session = opened.begin_session().await.unwrap();
    let Present { facts, flushed, now } = present(cluster).await;
    let size = facts.wal_segment_size;
    let (generation, timeline) = (facts.system_identifier, facts.timeline);
    let repository = &opened.repository;
    store_history(repository, &session, cluster, &facts).await;
    let stream = WalStream::new(generation, timeline.0, size.bytes()).unwrap();
    let geometry = Geometry::new(size, facts.wal_block_size).unwrap();
    let mut segments: Vec<SegmentName> = std::fs::read_dir(cluster.data_dir().join("pg_wal"))
        .unwrap()
        .filter_map(|entry| SegmentName::parse(entry.unwrap().file_name().to_str()?, size).ok())
        .filter(|name| name.timeline == timeline && name.start(size).0 < flushed)
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
        if end <= flushed {
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
            if from < flushed {
                let part = &bytes[(from - start) as usize..(flushed - start) as usize];
                append_run(repository, &session, &stream, from, part).await.unwrap();
            }
        }
    }
    put_mark(repository, &session, &stream, flushed, now, None)
        .await
        .unwrap();
    flushed
}

/// An indexer that knows the segment before, where that is here.
async fn prepared(repository: &Repository, stream: &WalStream, geometry: Geometry, start: u64) -> Indexer {
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
