//! The repository: named, immutable, encrypted objects, and the ledger that says what they mean.
//!
//! This crate knows no PostgreSQL. Every byte it writes is described in `FORMAT.md`.
//! It starts no thread, reads no clock and draws no randomness of its own: all of that comes in
//! through [`runtime`], so that every schedule, fault and crash can be replayed from a seed.
//!
//! Invariant: no object is ever overwritten. All coordination rests on [`Store::put_new`].

pub mod backup_id;
pub mod bytes_codec;
pub mod envelope;
pub mod keys;
pub mod leaf;
pub mod ledger;
pub mod manifest;
pub mod map;
pub mod names;
pub mod pack;
pub mod retry;
pub mod runtime;
pub mod session;
pub mod signed;
pub mod sources;
pub mod store;
pub mod table;
pub mod wal;

mod decimal;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod malformed;
mod repository;
mod series;
#[cfg(test)]
mod test_folder;

pub use backup_id::BackupId;
pub use error::{Error, Result};
pub use repository::{Identity, Repository, read_identity};
pub use store::Store;
