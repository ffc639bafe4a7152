//! What a repository needs of the world besides a store: time, randomness and a place to run work.
//!
//! Production puts tokio and threads behind these, tests a seeded executor with virtual time.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;

/// Time, as wall clock and as a steady measure.
pub trait Clock: Send + Sync {
    /// Microseconds since 1970-01-01 UTC. Used in what people read and for retention, never to order
    /// entries: order is the ledger's.
    fn now_micros(&self) -> i64;
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Randomness fit for keys, salts and ids.
pub trait Rng: Send + Sync {
    /// Fills `bytes` whole.
    fn fill(&self, bytes: &mut [u8]);
}

/// A place where work runs beside its starter.
pub trait Workers: Send + Sync {
    /// Starts `job`. It may block its thread for as long as a disk read or a compression takes.
    /// Who needs its result gives it a channel.
    fn spawn(&self, job: BoxFuture<'static, ()>);
}

/// The three together, cheap to clone and hand on.
#[derive(Clone)]
pub struct Runtime {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// Work beside ours.
    pub workers: Arc<dyn Workers>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Runtime")
    }
}

impl Runtime {
    /// `N` random bytes.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill(&mut bytes);
        bytes
    }
}
