//! What the environment chooses for tests that kill: how often, and at which moments.
#![allow(dead_code, reason = "each test uses its own part")]

use std::hash::{BuildHasher, Hasher};

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
