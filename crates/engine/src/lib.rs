//! What LastGood does: backing up, bringing back, proving.
//!
//! Each verb has a plan, which is judged before anything is touched, and a run, which reads like the procedure.
//! Nothing here prints; whoever watches gets [`event::Event`]s. Time, randomness and workers come from outside, so that
//! whole backups run in a simulation.

pub mod archive;
pub mod backup;
mod begun;
pub mod database;
pub mod doctor;
pub mod event;
pub mod init;
pub mod list;
pub mod rate;
pub mod restore;
pub mod server;
pub mod source;
pub mod status;
pub mod target;
pub mod verify;

mod alert;
mod damage;
mod error;
mod pages;
mod traverse;
mod unsound;
mod workers;

pub use error::{Error, Result};
pub use pgclient;
pub use pgformat;
pub use repo;
