//! Turns open runs into finished ones, beside the stream.
//!
//! What is not finished now is finished at the next start, or when the repository is back.
//!
//! Invariant: nothing is stored after the place where a finished run ends before that run is here and was found to be of the
//! same server, or nobody could make it. Somebody else may be storing a segment whole at the same moment, of a clone: the
//! archive is never one's up to there and the other's from there on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::{Either, select};
use pgformat::wal::Geometry;
use repo::{
    Repository,
    session::Session,
    wal::{Coverage, Finish, WalStream, assemble, finish_run},
};

use crate::{Error, Result, archive::Indexer, event::Context, workers::watched};

/// The most runs that may wait. More are left to the next start; a receiver that is so far behind has other
/// sorrows.
const WAITING: usize = 4096;
/// How often a run is tried, and how long is waited between: somewhat longer than a store restarts.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_secs(5);
/// How often is looked whether to stop.
const LOOK: Duration = Duration::from_millis(100);

/// How much of the run before is looked at for the beginning of a record, bytes.
const LOOK_BACK: u64 = 1 << 20;

/// One run, by where it begins.
struct Job {
    stream: WalStream,
    geometry: Geometry,
    start: u64,
    whose: Whose,
}

/// Who stored what is to be finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// This receiver, or one before it: a finished run with other WAL is another server's.
    Ours,
    /// Nobody knows: it was left beside a finished run. With that one the server's WAL is compared where the receiver goes on.
    Left,
}

/// Somebody who finishes runs.
pub(super) struct Finisher {
    jobs: async_channel::Sender<Job>,
    /// How many were handed over and are not done with.
    left: Arc<AtomicUsize>,
    /// Hears of each that is done with.
    fewer: async_channel::Receiver<()>,
    ended: async_channel::Receiver<Result<()>>,
}

impl Finisher {
    /// Begins to wait for runs.
    pub(super) fn start(context: &Context, repository: &Repository, session: &Session) -> Finisher {
        let (jobs, waiting) = async_channel::bounded(WAITING);
        let (end, ended) = async_channel::bounded(1);
        let (tell, fewer) = async_channel::bounded(1);
        let left = Arc::new(AtomicUsize::new(0));
        let (work, repository, session) = (context.clone(), repository.clone(), session.clone());
        let (told, counted) = (end.clone(), left.clone());
        let worker = async move {
            let done = || {
                counted.fetch_sub(1, Ordering::SeqCst);
                // If nobody has heard of the one before yet, that will do.
                let _ = tell.try_send(());
            };
            let outcome = finish_all(&work, &repository, &session, &waiting, done).await;
            // Nobody listens any more if the receiver has failed already.
            let _ = told.send(outcome).await;
        };
        context.runtime.workers.spawn(Box::pin(watched(worker, end)));
        Finisher {
            jobs,
            left,
            fewer,
            ended,
        }
    }

    /// Hands over what is complete from `start` to where a finished run ends.
    pub(super) fn finish(&self, stream: WalStream, geometry: Geometry, start: u64, whose: Whose) {
        self.left.fetch_add(1, Ordering::SeqCst);
        let job = Job {
            stream,
            geometry,
            start,
            whose,
        };
        // What finds no place is found again at the next start.
        if self.jobs.try_send(job).is_err() {
            self.left.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Waits until all that was handed over is done with.
    ///
    /// # Errors
    /// As [`Finisher::check`]; [`Error::Interrupted`] if somebody asked to stop and that takes longer than `patience`.
    pub(super) async fn settled(&self, context: &Context, patience: Duration) -> Result<()> {
        let clock = &context.runtime.clock;
        let mut asked = None;
        loop {
            self.check()?;
            if self.left.load(Ordering::SeqCst) == 0 {
                return Ok(());
            }
            let now = clock.monotonic();
            if context.stop.check().is_err() && now >= asked.get_or_insert(now).saturating_add(patience) {
                return Err(Error::Interrupted);
            }
            if let Either::Left((Err(_), pause)) = select(Box::pin(self.fewer.recv()), clock.sleep(LOOK)).await {
                // Whoever worked has ended, and says why.
                pause.await;
            }
        }
    }

    /// Fails if the work found that two servers write one timeline.
    pub(super) fn check(&self) -> Result<()> {
        match self.ended.try_recv() {
            Ok(outcome) => outcome,
            Err(_) => Ok(()),
        }
    }

    /// Lets what is under way be finished, for as long as `patience`. Fails as [`Finisher::check`].
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
    done: impl Fn(),
) -> Result<()> {
    let mut last: Option<(WalStream, Indexer)> = None;
    while let Ok(job) = jobs.recv().await {
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
                    let name = job.stream.done_name(job.start);
                    let what = format!("{name} could not be made of the WAL that was received: {error}");
                    context.warn("segment-unfinished", what);
                    break;
                }
            }
        }
        done();
    }
    Ok(())
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

/// Where the finished runs of a timeline begin that are complete, by `stretches` of WAL that are here, and of which open runs
/// are left.
pub(super) async fn complete(repository: &Repository, stream: &WalStream, stretches: &Coverage) -> Result<Vec<u64>> {
    let prefix = repo::names::wal_timeline(stream.generation, stream.timeline);
    let (mut after, mut complete) = (String::new(), Vec::new());
    loop {
        let page = repository.store().list_after(&prefix, &after, 1).await?;
        // `done/` comes after every position there can be.
        let Some(open) = page.first().and_then(|first| start_of(&prefix, &first.name)) else {
            return Ok(complete);
        };
        let (start, end) = (stream.done_start(open), stream.done_end(open));
        if stretches.iter().any(|(from, to)| *from <= start && end <= *to) {
            complete.push(start);
        }
        // To the next at once.
        after = stream.run_name(end.saturating_sub(1));
    }
}

fn start_of(prefix: &str, name: &str) -> Option<u64> {
    let (segment, start) = name.strip_prefix(prefix)?.split_once('/')?;
    u64::from_str_radix(start, 16).ok().filter(|_| segment.len() == 16)
}
