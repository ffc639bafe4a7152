//! `wal push` and `wal get` killed at random moments.
//!
//! `LASTGOOD_SEED=17` chooses the moments again.

mod fetches;
mod processes;
mod pushes;

use std::hash::{BuildHasher, Hasher};

use testkit::sim::Random;

/// So many of each 20 kills there are to be; at least one.
fn share(of_twenty: u64) -> u64 {
    let chosen = std::env::var("LASTGOOD_KILLS").ok().and_then(|text| text.parse().ok());
    (chosen.unwrap_or(20u64) * of_twenty).div_ceil(20).max(1)
}

fn random() -> Random {
    let chosen = std::env::var("LASTGOOD_SEED").ok().and_then(|text| text.parse().ok());
    let seed = chosen.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
    println!("replay with LASTGOOD_SEED={seed}");
    Random::new(seed)
}
