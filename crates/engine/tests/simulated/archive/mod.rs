//! An archive with everybody at it in the simulated world: receivers, two servers' `wal push`, backups and a promotion, at
//! once, on a store on its worst day, each killed at any moment.
//!
//! Invariant held here: whatever anybody was told to be durable assembles to the server's WAL, what is stored is that WAL
//! and nothing else, and no hole is unrecorded.
//! `LASTGOOD_SEEDS=5000` soaks, `LASTGOOD_SEED=17` replays one.

mod actors;
mod directory;
mod failover;
mod index;
mod judge;
mod push_crashes;
mod rivals;
mod schedules;

use engine::pgformat::segment::SegmentSize;

/// Where the model's WAL begins.
const FIRST: u64 = 0x0600_0000;
/// Bytes of the model's segments.
const SEGMENT: u64 = 1 << 20;

fn segment_size() -> SegmentSize {
    SegmentSize::new(SEGMENT).unwrap()
}
