//! Time, randomness and threads of this machine, as the engines want them handed in.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use engine::repo::runtime::{Clock, Rng, Runtime, Workers};
use futures::future::BoxFuture;
use tokio::{runtime::Handle, sync::mpsc};

/// The runtime of production, on top of the tokio runtime that `handle` belongs to, and a view of its jobs.
pub(crate) fn runtime(handle: Handle) -> (Runtime, Jobs) {
    let (alive, ended) = mpsc::channel(1);
    let runtime = Runtime {
        clock: Arc::new(SystemClock {
            started: Instant::now(),
        }),
        rng: Arc::new(SystemRandom),
        workers: Arc::new(Threads { handle, alive }),
    };
    (runtime, Jobs { ended })
}

/// The jobs that the runtime was given.
#[derive(Debug)]
pub(crate) struct Jobs {
    ended: mpsc::Receiver<()>,
}

impl Jobs {
    /// Waits until all of them have ended and nobody can start another one, but no longer than `patience`.
    pub(crate) async fn ended(mut self, patience: Duration) {
        // Nothing is ever sent: the channel closes when the last job drops its end.
        drop(tokio::time::timeout(patience, self.ended.recv()).await);
    }
}

struct SystemClock {
    started: Instant,
}

impl Clock for SystemClock {
    fn now_micros(&self) -> i64 {
        jiff::Timestamp::now().as_microsecond()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        // Made when first polled: only then a timer is sure to be at hand.
        Box::pin(async move { tokio::time::sleep(duration).await })
    }
}

struct SystemRandom;

impl Rng for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        // The system's own: what a cryptographic library makes of it first measures the processor's jitter for 40 ms.
        if getrandom::fill(bytes).is_err() {
            // Going on would mean keys that others can guess; there is no other way to stop from here.
            std::process::abort();
        }
    }
}

/// One thread per job: jobs read disks and compress, and would starve each other on shared ones.
struct Threads {
    handle: Handle,
    alive: mpsc::Sender<()>,
}

impl Workers for Threads {
    fn spawn(&self, job: BoxFuture<'static, ()>) {
        let (handle, alive) = (self.handle.clone(), self.alive.clone());
        // Nobody waits for the task itself: who needs its result gave it a channel, which closes with it.
        drop(self.handle.spawn_blocking(move || {
            handle.block_on(job);
            drop(alive);
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_run_beside_their_starter_and_may_sleep_and_block() {
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(1)
            .build()
            .unwrap();
        let (runtime, jobs) = runtime(tokio.handle().clone());
        let clock = Arc::clone(&runtime.clock);
        let (sender, receiver) = std::sync::mpsc::channel();
        runtime.workers.spawn(Box::pin(async move {
            clock.sleep(Duration::from_millis(1)).await;
            sender.send(clock.monotonic()).unwrap();
        }));
        assert!(receiver.recv().unwrap() >= Duration::from_millis(1));
        drop(runtime);
        let patience = Duration::from_secs(600);
        let began = Instant::now();
        tokio.block_on(jobs.ended(patience));
        assert!(began.elapsed() < patience);
    }

    #[test]
    fn random_bytes_differ_from_draw_to_draw() {
        let (runtime, _) = runtime(
            tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap()
                .handle()
                .clone(),
        );
        assert_ne!(runtime.random::<32>(), runtime.random::<32>());
    }
}
