//! Turns open runs into finished ones, beside the stream.
//!
//! What is not finished now is finished at the next start, or when the repository is back.
//!
//! Invariant: nothing is stored after the place where a finished run ends before that run is here and was found to be of the
//! same server, or nobody could make it. Somebody else may be storing a segment whole at the same moment, of a clone: the
//! archive is never one's up to there and the other's from there on.

use std::time::Duration;

use futures::future::{Either, select};
use pgformat::wal::Geometry;
use repo::{
    Repository,
    session::Session,
    wal::{Finish, WalStream, assemble, finish_run},
};

use crate::{Error, Result, archive::Indexer, event::Context, workers::watched};

use super::queue::{Job, Queue, Whose};

/// How often a run is tried, and how long is waited between: somewhat longer than a store restarts.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_secs(5);
/// How often is looked whether to stop.
const LOOK: Duration = Duration::from_millis(100);

/// How much of the run before is looked at for the beginning of a record, bytes.
const LOOK_BACK: u64 = 1 << 20;

/// Somebody who finishes runs.
pub(super) struct Finisher {
    queue: Queue,
    ended: async_channel::Receiver<Result<()>>,
}

impl Finisher {
    /// Begins to wait for runs.
    pub(super) fn start(context: &Context, repository: &Repository, session: &Session) -> Finisher {
        let queue = Queue::default();
        let (end, ended) = async_channel::bounded(1);
        let (work, repository, session) = (context.clone(), repository.clone(), session.clone());
        let (told, jobs) = (end.clone(), queue.clone());
        let worker = async move {
            let outcome = finish_all(&work, &repository, &session, &jobs).await;
            // Nobody listens any more if the receiver has failed already.
            let _ = told.send(outcome).await;
        };
        context.runtime.workers.spawn(Box::pin(watched(worker, end)));
        Finisher { queue, ended }
    }

    /// Hands over what is complete from `start` to where a finished run ends. It is done next: the stream waits for it.
    pub(super) fn finish(&self, stream: WalStream, geometry: Geometry, start: u64) {
        self.queue.put_first(Job {
            stream,
            geometry,
            start,
            whose: Whose::Ours,
        });
    }

    /// Hands over what was left, to be done when nothing else is to do; whether there was room for it.
    pub(super) fn finish_left(&self, stream: WalStream, geometry: Geometry, start: u64, whose: Whose) -> bool {
        self.queue.put_last(Job {
            stream,
            geometry,
            start,
            whose,
        })
    }

    /// Waits until the run that begins at `start` is done with, if it was handed over.
    ///
    /// # Errors
    /// As [`Finisher::check`]; [`Error::Interrupted`] if somebody asked to stop and that takes longer than `patience`.
    pub(super) async fn settled(
        &self,
        context: &Context,
        stream: &WalStream,
        start: u64,
        patience: Duration,
    ) -> Result<()> {
        let clock = &context.runtime.clock;
        let mut asked = None;
        loop {
            self.check()?;
            if !self.queue.holds(stream, start) {
                return Ok(());
            }
            let now = clock.monotonic();
            if context.stop.check().is_err() && now >= asked.get_or_insert(now).saturating_add(patience) {
                return Err(Error::Interrupted);
            }
            select(Box::pin(self.queue.fewer()), clock.sleep(LOOK)).await;
        }
    }

    /// Fails if the work found that two servers write one timeline.
    pub(super) fn check(&self) -> Result<()> {
        match self.ended.try_recv() {
            Ok(outcome) => outcome,
            Err(_) => Ok(()),
        }
    }

    /// Whether WAL was found damaged since this was asked last, that the server may still have.
    pub(super) fn lacks_wal(&self) -> bool {
        self.queue.take_lacking()
    }

    /// Lets what is under way be finished, for as long as `patience`. Fails as [`Finisher::check`].
    pub(super) async fn end(self, context: &Context, patience: Duration) -> Result<()> {
        self.queue.close();
        let waited = context.runtime.clock.sleep(patience);
        match select(Box::pin(self.ended.recv()), waited).await {
            Either::Left((Ok(outcome), _)) => outcome,
            // It was told before, or the next start goes on.
            Either::Left((Err(_), _)) | Either::Right(_) => Ok(()),
        }
    }
}

impl Drop for Finisher {
    /// Whoever works ends with the receiver, however that ended.
    fn drop(&mut self) {
        self.queue.close();
    }
}

async fn finish_all(context: &Context, repository: &Repository, session: &Session, queue: &Queue) -> Result<()> {
    let mut last: Option<(WalStream, Indexer)> = None;
    while let Some(job) = queue.next().await {
        for attempt in 1..=TRIES {
            if attempt > 1 && context.stop.check().is_err() {
                return Ok(());
            }
            let mut indexer = indexer(repository, &job, last.take()).await?;
            let finished = finish_run(repository, session, &job.stream, job.start, &mut indexer).await;
            match finished {
                Ok(()) => {
                    last = Some((job.stream, indexer));
                    break;
                }
                Err(error @ repo::Error::TwoServers { .. }) if job.whose == Whose::Ours => return Err(error.into()),
                Err(error) if attempt < TRIES && error.is_transient() => {
                    context.runtime.clock.sleep(PAUSE).await;
                }
                Err(error) => {
                    give_up(context, queue, &job, &error);
                    break;
                }
            }
        }
        queue.done();
    }
    Ok(())
}

/// Says what is not finished, and why.
fn give_up(context: &Context, queue: &Queue, job: &Job, error: &repo::Error) {
    let name = job.stream.done_name(job.start);
    if matches!(error, repo::Error::TwoServers { .. }) {
        let what = format!(
            "beside {name} lie open runs with other WAL, as a clone of the server leaves them: {name} is what is read. See that no clone is received here; then the open runs of that segment may be removed"
        );
        context.warn("wal-beside", what);
        return;
    }
    if matches!(error, repo::Error::Damaged { name: damaged, .. } if *damaged != name) {
        queue.lacks(job);
    }
    let what = format!(
        "{name} could not be made of the WAL that was received: {error}. It is tried again when the receiver starts; until then, what is here is read as it came"
    );
    context.warn("segment-unfinished", what);
}

/// Who makes the index: the one of the run before goes on, if there is one; else it learns from the repository what
/// lies across the beginning.
async fn indexer(repository: &Repository, job: &Job, last: Option<(WalStream, Indexer)>) -> Result<Indexer> {
    if let Some((stream, indexer)) = last
        && stream == job.stream
        && indexer.position() == job.start
    {
        return Ok(indexer);
    }
    let segment = job.stream.segment_of(job.start);
    if segment < job.start {
        // Behind a switch are zeroes, up to the segment's end: only who saw it knows that they are no damage.
        let mut indexer = beginning(repository, job, segment).await?;
        let read = assemble(repository, job.stream, segment, job.start, |_, bytes| {
            indexer.feed(bytes);
            if job.stream.done_start(indexer.position()) == indexer.position() {
                drop(indexer.index());
            }
            Ok(())
        });
        if read.await.is_ok() {
            return Ok(indexer);
        }
    }
    beginning(repository, job, job.start).await
}

/// Begins at `start`, with what lies across it if that is here.
async fn beginning(repository: &Repository, job: &Job, start: u64) -> Result<Indexer> {
    let mut tail = Vec::new();
    if let Some(before) = start.checked_sub(job.stream.segment_size().min(LOOK_BACK)) {
        let read = assemble(repository, job.stream, before, start, |_, bytes| {
            tail.extend_from_slice(bytes);
            Ok(())
        });
        if read.await.is_err() {
            // It is not here, or not whole: then nobody knows.
            tail.clear();
        }
    }
    Indexer::after(job.geometry, job.stream.generation, start, |from, to, sink| {
        let first = start.saturating_sub(tail.len() as u64);
        let Some(offset) = from.checked_sub(first) else {
            return false;
        };
        let part = usize::try_from(offset).ok().and_then(|offset| tail.get(offset..));
        part.filter(|_| to == start).map(sink).is_some()
    })
}
