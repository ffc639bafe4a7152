//! `lastgood wal receive` under load, while it, the server, the network and the repository are taken away: every
//! acknowledged byte can be restored, no gap is left unrecorded, and nobody has to lend a hand.
//!
//! `LASTGOOD_KILLS=200` soaks, `LASTGOOD_SEED=17` chooses the moments again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test: panicking is its answer, counts are its report"
)]

#[path = "../chosen/mod.rs"]
mod chosen;

mod away;
mod crashes;
mod network;
mod order;
mod proxy;
mod receiver;
mod receivers;
mod world;
