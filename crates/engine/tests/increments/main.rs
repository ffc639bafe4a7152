//! Incremental backups of real servers: nothing that changed is missed, whatever changed it, and each backup restores alone.
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
#[path = "../standby/halfway.rs"]
#[allow(dead_code, reason = "the tests of standbys use all of it")]
mod halfway;
#[path = "../moments/workload.rs"]
#[allow(dead_code, reason = "the tests of moments use all of it")]
mod witness;
#[path = "../world/mod.rs"]
mod world;

mod again;
mod audits;
mod by_index;
mod chains;
mod damaged_parents;
mod ddl;
mod fallbacks;
mod forks;
mod histories;
mod hundred;
mod large;
mod load;
mod moving;
mod over_sql;
mod remembered;
mod rounds;
mod scene;
mod summaries;
mod unlogged;
mod wal_damage;
mod workload;
