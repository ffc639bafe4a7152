//! The server that is backed up, as far as engines need it: behind traits, so that a model of PostgreSQL can
//! stand in for it where every schedule and crash is tried.

mod heartbeats;
mod live;
mod live_source;
mod over_sql;
mod source;

pub(crate) use heartbeats::beside_heartbeats;
pub use live::LiveServer;
pub use live_source::LiveSource;
pub use over_sql::SqlServer;
pub use pgclient::{
    backup_session::{Started, Stopped},
    catalog::ServerFacts,
    replication::{KeptSlot, SourceFacts, WalEvent},
};
pub use source::{Identity, WalLink, WalSource};

use async_trait::async_trait;
use bytes::Bytes;
use pgformat::{Lsn, Tli};
use repo::manifest::Relation;

use crate::Result;

/// A server that can be asked and backed up.
#[async_trait]
pub trait Server: Send + Sync {
    /// What it says about itself.
    async fn facts(&self) -> Result<ServerFacts>;
    /// Makes it keep WAL from now on, until what is returned is dropped.
    async fn reserve_wal(&self) -> Result<Box<dyn ReservedWal>>;
    /// Begins a backup. Dropping what is returned aborts it on the server.
    async fn start_backup(&self, label: &str) -> Result<Box<dyn RunningBackup>>;
    /// The history file of a timeline.
    async fn history(&self, timeline: Tli) -> Result<Bytes>;
    /// The tables of all databases that may be asked, with estimates, and the databases that may not.
    async fn relations(&self, facts: &ServerFacts) -> Result<(Vec<Relation>, Vec<String>)>;
}

/// A server that keeps WAL for us.
#[async_trait]
pub trait ReservedWal: Send {
    /// Why WAL is in truth not held back, if it is not.
    fn unprotected(&self) -> Option<&str>;
    /// Streams WAL from `start` on.
    async fn stream(self: Box<Self>, start: Lsn, timeline: Tli) -> Result<Box<dyn WalFeed>>;
}

/// WAL as it comes. `next` may be cancelled without losing anything.
#[async_trait]
pub trait WalFeed: Send {
    /// Waits for what comes next.
    async fn next(&mut self) -> Result<WalEvent>;
    /// Says that everything before `flushed` is durable here.
    fn acknowledge(&mut self, flushed: Lsn);
    /// Says that this side lives, where it is due; for who is busy storing what came. May be cancelled likewise.
    async fn heartbeat(&mut self) -> Result<()>;
    /// Asks the server to say how far its WAL reaches. A server that says so by itself needs no question.
    fn ask(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A backup under way on the server.
#[async_trait]
pub trait RunningBackup: Send + Sync {
    /// Where and when it began.
    fn started(&self) -> Started;
    /// Whether the session that it lives in is open, as far as this side knows.
    fn is_alive(&self) -> bool;
    /// Ends it. Any error means that there is no backup.
    async fn stop(self: Box<Self>) -> Result<Stopped>;
}
