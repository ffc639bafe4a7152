//! What waits to be finished.
//!
//! What the stream waits for comes first, what was left behind it. Nothing waits twice.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pgformat::wal::Geometry;
use repo::wal::WalStream;

/// The most that may wait of what was left.
const WAITING: usize = 4096;

/// One run, by where it begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) stream: WalStream,
    pub(super) geometry: Geometry,
    pub(super) start: u64,
    pub(super) whose: Whose,
}

impl Job {
    fn is(&self, stream: &WalStream, start: u64) -> bool {
        self.stream == *stream && self.start == start
    }
}

/// Who stored what is to be finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// This receiver, or one before it: a finished run with other WAL is another server's.
    Ours,
    /// Nobody knows: it was left beside a finished run. With that one the server's WAL is compared where the receiver goes on.
    Left,
}

/// The jobs of one worker. Clones are one and the same.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    state: Arc<Mutex<State>>,
    /// One message is enough to have somebody look again.
    more: (async_channel::Sender<()>, async_channel::Receiver<()>),
    fewer: (async_channel::Sender<()>, async_channel::Receiver<()>),
}

#[derive(Debug, Default)]
struct State {
    /// What the stream waits for.
    first: Option<Job>,
    waiting: VecDeque<Job>,
    at_work: Option<Job>,
    /// Of which WAL was found damaged: each is told of once.
    damaged: BTreeSet<(u32, u64)>,
    is_lacking: bool,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            state: Arc::default(),
            more: async_channel::bounded(1),
            fewer: async_channel::bounded(1),
        }
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a job before all others, also if it waits already.
    pub(super) fn put_first(&self, job: Job) {
        let mut state = self.state();
        state.waiting.retain(|waiting| !waiting.is(&job.stream, job.start));
        if let Some(before) = state.first.replace(job)
            && !before.is(&job.stream, job.start)
        {
            state.waiting.push_front(before);
        }
        let _ = self.more.0.try_send(());
    }

    /// Puts a job behind all others; whether there was room.
    pub(super) fn put_last(&self, job: Job) -> bool {
        let mut state = self.state();
        let waits = state.waiting.iter().any(|waiting| waiting.is(&job.stream, job.start));
        if !waits && state.waiting.len() >= WAITING {
            return false;
        }
        if !waits {
            state.waiting.push_back(job);
        }
        let _ = self.more.0.try_send(());
        true
    }

    /// Whether that run waits, or is at work.
    pub(super) fn holds(&self, stream: &WalStream, start: u64) -> bool {
        let state = self.state();
        let mut all = state.waiting.iter().chain(&state.first).chain(&state.at_work);
        all.any(|job| job.is(stream, start))
    }

    /// The next job, which is at work from now on; `None` once it was closed.
    pub(super) async fn next(&self) -> Option<Job> {
        loop {
            {
                let mut state = self.state();
                state.at_work = state.first.take().or_else(|| state.waiting.pop_front());
                if state.at_work.is_some() {
                    return state.at_work;
                }
            }
            if self.more.1.recv().await.is_err() && self.state().first.is_none() {
                return None;
            }
        }
    }

    /// The job at work is done with.
    pub(super) fn done(&self) {
        self.state().at_work = None;
        let _ = self.fewer.0.try_send(());
    }

    /// Comes back when a job is done with, or soon after.
    pub(super) async fn fewer(&self) {
        let _ = self.fewer.1.recv().await;
    }

    /// No job comes any more, and those that were left are dropped.
    pub(super) fn close(&self) {
        self.state().waiting.clear();
        self.more.0.close();
    }

    /// WAL of that run is damaged.
    pub(super) fn lacks(&self, job: &Job) {
        let mut state = self.state();
        state.is_lacking |= state.damaged.insert((job.stream.timeline, job.start));
    }

    /// Whether that was said since it was asked last.
    pub(super) fn take_lacking(&self) -> bool {
        std::mem::take(&mut self.state().is_lacking)
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use pgformat::segment::SegmentSize;

    use super::*;

    fn job(start: u64) -> Job {
        Job {
            stream: WalStream::new(7, 1, 1 << 24).unwrap(),
            geometry: Geometry::standard(SegmentSize::DEFAULT),
            start,
            whose: Whose::Ours,
        }
    }

    #[test]
    fn what_the_stream_waits_for_comes_first_and_nothing_twice() {
        let queue = Queue::default();
        for start in [1, 2, 1, 3] {
            assert!(queue.put_last(job(start)));
        }
        queue.put_first(job(3));
        let next = || block_on(queue.next()).map(|job| job.start);
        assert_eq!(next(), Some(3));
        assert!(queue.holds(&job(3).stream, 3) && queue.holds(&job(1).stream, 1));
        queue.done();
        assert!(!queue.holds(&job(3).stream, 3));
        assert_eq!((next(), next()), (Some(1), Some(2)));
        queue.done();
        queue.put_last(job(4));
        queue.put_first(job(5));
        queue.close();
        assert_eq!((next(), next()), (Some(5), None));
    }

    #[test]
    fn damage_is_told_of_once() {
        let queue = Queue::default();
        let told = [1, 1, 2].map(|start| {
            queue.lacks(&job(start));
            queue.take_lacking()
        });
        assert_eq!(told, [true, false, true]);
    }
}
