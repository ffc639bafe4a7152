//! A limit on bytes per second, shared by all workers.

use std::{sync::Mutex, time::Duration};

use repo::runtime::Runtime;

/// Spends bytes no faster than allowed.
pub struct Rate {
    per_second: Option<u64>,
    runtime: Runtime,
    /// When everything spent so far will have been paid for.
    paid_until: Mutex<Duration>,
}

impl Rate {
    /// A limit, or none.
    pub fn new(per_second: Option<u64>, runtime: Runtime) -> Rate {
        let paid_until = Mutex::new(runtime.clock.monotonic());
        Rate {
            per_second: per_second.filter(|rate| *rate > 0),
            runtime,
            paid_until,
        }
    }

    /// Returns when `bytes` more may have been spent.
    pub async fn spend(&self, bytes: u64) {
        let Some(rate) = self.per_second else { return };
        let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let now = self.runtime.clock.monotonic();
        let wait = {
            let mut paid = self
                .paid_until
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            // Time in which nothing was spent is not saved up.
            *paid = (*paid).max(now) + cost;
            paid.saturating_sub(now)
        };
        self.runtime.clock.sleep(wait).await;
    }
}
