//! Everything that speaks to a PostgreSQL server, 13 to 18: sessions, catalogs, backups, WAL streams, and
//! servers that we start ourselves.
//!
//! No repository is known here, and nothing is decided about backups: that is the engine's.

pub mod backup_session;
pub mod catalog;
pub mod cluster;
pub mod connect;
pub mod conninfo;
pub mod error;
pub mod point;
pub mod pooler;
pub mod reader;
pub mod replication;

mod classify;
mod hosts;
mod tls;
mod transport;

pub use backup_session::BackupSession;
pub use cluster::{Binaries, Cluster};
pub use connect::Session;
pub use conninfo::Conninfo;
pub use error::{Error, Result};
pub use replication::Replication;
