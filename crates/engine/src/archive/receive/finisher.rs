//! Turns complete segments into finished ones, beside the stream.
//!
//! A segment that is not finished now is finished at the next start, or when the repository is back: nothing depends on
//! it but its index.

use std::time::Duration;

use futures::future::{Either, select};
use pgformat::wal::Geometry;
use repo::{
    Repository,
    session::Session,
    wal::{Coverage, WalStream, assemble, finish_segment},
};

use crate::{Result, archive::Indexer, event::Context, workers::watched};

use super::presence;

/// The most segments that may wait. More are left to the next start; a receiver that is so far behind has other
/// sorrows.
const WAITING: usize = 4096;
/// How often a segment is tried, and how long is waited between: somewhat longer than a store restarts.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_secs(5);

/// How much of the segment before is looked at for the beginning of a record, bytes.
const LOOK_BACK: u64 = 1 << 20;

/// One segment.
struct Job {
    stream: WalStream,
    geometry: Geometry,
    segment: u64,
}

/// Somebody who finishes segments.
pub(super) struct Finisher {
    jobs: async_channel::Sender<Job>,
    ended: async_channel::Receiver<Result<()>>,
}

impl Finisher {
    /// Begins to wait for segments.
    pub(super) fn start(context: &Context, repository: &Repository, session: &Session) -> Finisher {
        let (jobs, waiting) = async_channel::bounded(WAITING);
        let (end, ended) = async_channel::bounded(1);
        let (work, repository, session) = (context.clone(), repository.clone(), session.clone());
        let told = end.clone();
        let worker = async move {
            let outcome = finish_all(&work, &repository, &session, &waiting).await;
            // Nobody listens any more if the receiver has failed already.
            let _ = told.send(outcome).await;
        };
        context.runtime.workers.spawn(Box::pin(watched(worker, end)));
        Finisher { jobs, ended }
    }

    /// Hands over the complete segment that begins at `segment`.
    pub(super) fn finish(&self, stream: WalStream, geometry: Geometry, segment: u64) {
        // What finds no place is found again at the next start.
        let _ = self.jobs.try_send(Job {
            stream,
            geometry,
            segment,
        });
    }

    /// Fails if the work found that two servers write one timeline.
    pub(super) fn check(&self) -> Result<()> {
        match self.ended.try_recv() {
            Ok(outcome) => outcome,
            Err(_) => Ok(()),
        }
    }

    /// Lets the segment under way be finished, for as long as `patience`. Fails as [`Finisher::check`].
    pub(super) async fn end(self, context: &Context, patience: Duration) -> Result<()> {
        self.jobs.close();
        let waited = context.runtime.clock.sleep(patience);
        match select(Box::pin(self.ended.recv()), waited).await {
            Either::Left((Ok(outcome), _)) => outcome,
            // It was told before, or the next start goes on.
            Either::Left((Err(_), _)) | Either::Right(_) => Ok(()),
        }
    }
}

async fn finish_all(
    context: &Context,
    repository: &Repository,
    session: &Session,
    jobs: &async_channel::Receiver<Job>,
) -> Result<()> {
    let mut last: Option<(WalStream, Indexer)> = None;
    while let Ok(job) = jobs.recv().await {
        for attempt in 1..=TRIES {
            if context.stop.check().is_err() {
                return Ok(());
            }
            let mut indexer = indexer(repository, &job, last.take()).await?;
            let finished = async {
                presence::check(repository).await?;
                finish_segment(repository, session, &job.stream, job.segment, &mut indexer).await
            };
            match finished.await {
                Ok(()) => {
                    last = Some((job.stream, indexer));
                    break;
                }
                Err(error @ repo::Error::TwoServers { .. }) => return Err(error.into()),
                Err(error)
                    if attempt < TRIES && (error.is_transient() || presence::check(repository).await.is_err()) =>
                {
                    context.runtime.clock.sleep(PAUSE).await;
                }
                Err(error) => {
                    let name = job.stream.done_name(job.segment);
                    let what = format!("{name} could not be made of the WAL that was received: {error}");
                    context.warn("segment-unfinished", what);
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Who makes the index: the one of the segment before goes on, if there is one; else it learns from the repository what
/// lies across the beginning.
async fn indexer(repository: &Repository, job: &Job, last: Option<(WalStream, Indexer)>) -> Result<Indexer> {
    if let Some((stream, indexer)) = last
        && stream == job.stream
        && indexer.position() == job.segment
    {
        return Ok(indexer);
    }
    let size = job.stream.segment_size();
    let mut tail = Vec::new();
    if let Some(before) = job.segment.checked_sub(size.min(LOOK_BACK)) {
        let read = assemble(repository, job.stream, before, job.segment, |_, bytes| {
            tail.extend_from_slice(bytes);
            Ok(())
        });
        if read.await.is_err() {
            // It is not here, or not whole: then nobody knows.
            tail.clear();
        }
    }
    Indexer::after(job.geometry, job.stream.generation, job.segment, |from, to, sink| {
        let first = job.segment.saturating_sub(tail.len() as u64);
        let Some(offset) = from.checked_sub(first) else {
            return false;
        };
        let part = usize::try_from(offset).ok().and_then(|offset| tail.get(offset..));
        part.filter(|_| to == job.segment).map(sink).is_some()
    })
}

/// The segments of a timeline that are complete, by `stretches` of WAL that are here, and of which open runs are left.
pub(super) async fn complete(repository: &Repository, stream: &WalStream, stretches: &Coverage) -> Result<Vec<u64>> {
    let prefix = repo::names::wal_timeline(stream.generation, stream.timeline);
    let (mut after, mut complete) = (String::new(), Vec::new());
    loop {
        let page = repository.store().list_after(&prefix, &after, 1).await?;
        // `done/` comes after every position there can be.
        let Some(segment) = page.first().and_then(|first| segment_of(&prefix, &first.name)) else {
            return Ok(complete);
        };
        let end = stream.segment_end(segment);
        if stretches.iter().any(|(from, to)| *from <= segment && end <= *to) {
            complete.push(segment);
        }
        // To the next segment at once: `0` comes after `/`.
        after = format!("{prefix}{segment:016x}0");
    }
}

fn segment_of(prefix: &str, name: &str) -> Option<u64> {
    let (segment, _) = name.strip_prefix(prefix)?.split_once('/')?;
    u64::from_str_radix(segment, 16).ok().filter(|_| segment.len() == 16)
}
