//! The engine against real servers. One program for all, as each would hold the engine once more, and be built as long.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail their test where it stands, counts and figures are their report"
)]

mod ask;
mod far;
mod halfway;
mod receiving;
mod scene;
mod world;

mod backups;
mod damage;
mod increments;
mod moments;
mod receive;
mod round_trip;
mod standby;
