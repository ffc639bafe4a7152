//! The engine in the simulated world, where servers, stores and clocks do as a seed says. One program for all, as each
//! would hold the engine once more, and be built as long.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test: panicking is its answer, counts are its report"
)]

mod model;

mod archive;
mod crashes;
mod files;
mod receivers;
mod schedules;
