//! The continuous archive of WAL: received as it is written, pushed by the server, and fetched for recovery.
//!
//! Invariant: storing never depends on understanding. Bytes that a server sent are kept whatever is in them; what
//! cannot be read of them is said in the index, and found when a target is planned.

pub mod accept;
pub mod get;
pub mod push;
pub mod receive;
pub mod sealing;

pub(crate) mod archived;
pub(crate) mod damaged;
mod here;
mod indexer;
pub(crate) mod left;
mod position;

pub use indexer::Indexer;
