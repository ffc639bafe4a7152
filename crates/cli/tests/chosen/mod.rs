//! What the environment chooses for tests that kill: how often, and at which moments.
#![allow(dead_code, reason = "each test uses its own part")]

use std::{
    hash::{BuildHasher, Hasher},
    time::Duration,
};

use testkit::sim::Random;

/// `LASTGOOD_KILLS`, for a soak; 20.
pub(crate) fn kills() -> u64 {
    let chosen = std::env::var("LASTGOOD_KILLS").ok().and_then(|text| text.parse().ok());
    chosen.unwrap_or(20)
}

/// So many of each 20 kills there are to be; at least one.
pub(crate) fn share(of_twenty: u64) -> u64 {
    (kills() * of_twenty).div_ceil(20).max(1)
}

/// What chooses the moments: `LASTGOOD_SEED` chooses the same ones again.
pub(crate) fn random() -> Random {
    let chosen = std::env::var("LASTGOOD_SEED").ok().and_then(|text| text.parse().ok());
    let seed = chosen.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
    println!("replay with LASTGOOD_SEED={seed}");
    Random::new(seed)
}

/// The time in which runs are killed. How long one takes need not be known, nor stay the same: a death that came too late
/// shortens the time for the next, one that came before the end lengthens it, up to what it was at first.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    now: Duration,
    most: Duration,
}

impl Window {
    pub(crate) fn new(most: Duration) -> Window {
        Window { now: most, most }
    }

    /// A moment in it, each as likely as any other.
    pub(crate) fn moment(self, random: &mut Random) -> Duration {
        Duration::from_micros(random.below((self.now.as_micros() as u64).max(1)))
    }

    /// What was to die at `moment` did so, or was done by then.
    pub(crate) fn learn(&mut self, moment: Duration, in_time: bool) {
        self.now = if in_time {
            self.most.min(self.now + self.now / 4)
        } else {
            self.now.min(moment)
        };
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:?} of {:?}", self.now, self.most)
    }
}
