//! Against real servers of PostgreSQL 15 that the tests start and stop themselves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail like tests"
)]

mod authentication;
mod backup;
mod catalog;
mod cluster;
mod server;
mod stream;
