//! `wal push` as `archive_command` and `wal get` as `restore_command`, called by real servers and by hand.
//!
//! `LASTGOOD_KILLS=200` soaks.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test: panicking is its answer, counts are its report"
)]

#[path = "../chosen/mod.rs"]
mod chosen;

mod contract;
mod kills;
mod recoveries;
mod segments;
mod timelines;
mod world;
