//! PostgreSQL's own formats: what its files, names and replication messages mean, for 13 to 18.
//!
//! Pure: bytes and text in, values out. No I/O, no clock, no randomness, and no input makes it panic.
//! PostgreSQL's versions differ here and nowhere else. Only little-endian clusters are read: a
//! control file or WAL page of another byte order is refused in words.

pub mod control;
pub mod error;
pub mod exclude;
pub mod history;
pub mod label;
pub mod lsn;
pub mod manifest;
pub mod page;
pub mod protocol;
pub mod relation;
pub mod segment;
pub mod tablespace_map;
pub mod timeline;
pub mod version;
pub mod wal;

mod bytes;
mod utc;

pub use error::{Error, Result};
pub use lsn::Lsn;
pub use timeline::Tli;
pub use version::Major;
