//! How badly a store behaves.

use std::time::Duration;

/// Chances are in a thousand operations of their kind. All of it is within the contract of
/// `repo::Store`: no put is ever torn, no exact name ever lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Longest time an operation takes; zero needs no timer.
    pub latency: Duration,
    /// Reads, listings and writes that fail and are not done.
    pub not_done: u32,
    /// Writes that are done and reported as failed.
    pub answer_lost: u32,
    /// Writes that are reported as failed and done later, whoever has died meanwhile.
    pub delayed: u32,
    /// Longest such delay.
    pub delay: Duration,
    /// Listings that show what was there a while ago.
    pub stale_listing: u32,
    /// How long ago at most.
    pub listing_lag: Duration,
    /// Listings that end early.
    pub short_listing: u32,
    /// Operations that begin a time in which everything fails and nothing is done.
    pub burst: u32,
    /// Longest such time.
    pub burst_time: Duration,
}

impl Faults {
    /// A store that does what it is told, at once.
    pub const NONE: Faults = Faults {
        latency: Duration::ZERO,
        not_done: 0,
        answer_lost: 0,
        delayed: 0,
        delay: Duration::ZERO,
        stale_listing: 0,
        listing_lag: Duration::ZERO,
        short_listing: 0,
        burst: 0,
        burst_time: Duration::ZERO,
    };

    /// A store on a bad day: one write in five has no honest answer.
    pub const ROUGH: Faults = Faults {
        latency: Duration::from_millis(80),
        not_done: 60,
        answer_lost: 80,
        delayed: 80,
        delay: Duration::from_secs(30),
        stale_listing: 200,
        listing_lag: Duration::from_secs(20),
        short_listing: 100,
        burst: 5,
        burst_time: Duration::from_secs(10),
    };
}

/// Where a process dies relative to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The write is not done.
    Before,
    /// The write is done, its answer never seen.
    After,
}
