//! WAL received from real servers: under load, stopped and killed, over gaps, promotions and impostors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail their test where it stands"
)]

#[path = "../world/mod.rs"]
mod world;

mod act;
mod damage;
mod gaps;
mod load;
mod moments;
mod refusals;
mod timelines;
