//! `wal push` and `wal get` killed at random moments.
//!
//! `LASTGOOD_SEED=17` chooses the moments again.

mod fetches;
pub(crate) mod processes;
mod pushes;

use crate::chosen::{random, share};
