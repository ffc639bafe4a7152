//! Real servers of every version, what keeps them busy, and what tells whether a recovered one is right.
//!
//! Everything here panics when it cannot do its part: a test that has no server has not passed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test kit fails its test where it stands"
)]

pub mod bank;
mod digests;
mod machine;
mod oracles;
pub mod sample;
mod standby;
pub mod storm;
mod template;
mod test_cluster;

pub use digests::{RowDigest, row_digests};
pub use machine::{binaries, majors_to_test, server_user};
pub use oracles::{amcheck, checksums, index_counts, verifybackup, visibility};
pub use standby::{caught_up, standby_of};
pub use test_cluster::{Options, TestCluster, give_to_server_user};
