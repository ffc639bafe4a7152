//! Backups taken from standbys: of a standby alone, and of a primary whose files are read on a standby.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail their test where it stands"
)]

#[path = "../receive/act.rs"]
#[allow(dead_code, reason = "the receiver's tests use all of it")]
mod act;
#[path = "../increments/scene.rs"]
#[allow(dead_code, reason = "the tests of increments use all of it")]
mod scene;
#[path = "../world/mod.rs"]
mod world;

mod alone;
mod alternating;
mod beside;
mod halfway;
mod idle;
mod lagging;
mod over_sql;
mod pair;
mod promotions;
mod refusals;
