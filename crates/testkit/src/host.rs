//! The real world for tests: tokio, threads, the system's clock and randomness.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::future::BoxFuture;
use repo::runtime::{Clock, Rng, Runtime, Workers};

struct Host {
    began: Instant,
    tokio: tokio::runtime::Handle,
}

/// A runtime over the tokio runtime that this is called in.
pub fn runtime() -> Runtime {
    let host = Arc::new(Host {
        began: Instant::now(),
        tokio: tokio::runtime::Handle::current(),
    });
    Runtime {
        clock: host.clone(),
        rng: host.clone(),
        workers: host,
    }
}

impl Clock for Host {
    #[expect(clippy::disallowed_methods, reason = "this is where the clock comes from")]
    fn now_micros(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_micros() as i64)
    }
    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

impl Rng for Host {
    #[expect(clippy::expect_used, reason = "a test kit fails its test where it stands")]
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).expect("the system has randomness");
    }
}

impl Workers for Host {
    fn spawn(&self, job: BoxFuture<'static, ()>) {
        let tokio = self.tokio.clone();
        self.tokio.spawn_blocking(move || tokio.block_on(job));
    }
}
