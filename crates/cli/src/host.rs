//! Time, randomness and threads of this machine, as the engines want them handed in.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use engine::repo::runtime::{Clock, Rng, Runtime, Workers};
use futures::future::BoxFuture;
use tokio::runtime::Handle;

/// The runtime of production, on top of the tokio runtime that `handle` belongs to.
pub(crate) fn runtime(handle: Handle) -> Runtime {
    Runtime {
        clock: Arc::new(SystemClock {
            started: Instant::now(),
        }),
        rng: Arc::new(SystemRandom),
        workers: Arc::new(Threads { handle }),
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
        if aws_lc_rs::rand::fill(bytes).is_err() {
            // Going on would mean keys that others can guess; there is no other way to stop from here.
            std::process::abort();
        }
    }
}

/// One thread per job: jobs read disks and compress, and would starve each other on shared ones.
struct Threads {
    handle: Handle,
}

impl Workers for Threads {
    fn spawn(&self, job: BoxFuture<'static, ()>) {
        let handle = self.handle.clone();
        // Nobody waits for the task itself: who needs its result gave it a channel, which closes with it.
        drop(self.handle.spawn_blocking(move || handle.block_on(job)));
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
        let runtime = runtime(tokio.handle().clone());
        let clock = Arc::clone(&runtime.clock);
        let (sender, receiver) = std::sync::mpsc::channel();
        runtime.workers.spawn(Box::pin(async move {
            clock.sleep(Duration::from_millis(1)).await;
            sender.send(clock.monotonic()).unwrap();
        }));
        assert!(receiver.recv().unwrap() >= Duration::from_millis(1));
    }

    #[test]
    fn random_bytes_differ_from_draw_to_draw() {
        let runtime = runtime(
            tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap()
                .handle()
                .clone(),
        );
        assert_ne!(runtime.random::<32>(), runtime.random::<32>());
    }
}
