//! A server whose WAL is received for good, as far as engines need it.

use async_trait::async_trait;
use bytes::Bytes;
use pgformat::{
    Lsn, Tli,
    protocol::{SlotName, SystemIdentity},
};

use crate::Result;

use super::{KeptSlot, SourceFacts, WalFeed};

/// Where WAL comes from. Each connection may reach another server of the same cluster.
#[async_trait]
pub trait WalSource: Send + Sync {
    /// Connects anew, to the first host that answers.
    async fn connect(&self) -> Result<Box<dyn WalLink>>;
}

/// Who answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Host and port, for messages.
    pub server: String,
    /// Its cluster, its timeline and how far its WAL is flushed; on a standby, received and replayed.
    pub system: SystemIdentity,
    /// The shape of its WAL.
    pub facts: SourceFacts,
}

/// A connection that waits for a command. Everything goes to the same server.
#[async_trait]
pub trait WalLink: Send {
    /// Who answered.
    fn identity(&self) -> &Identity;
    /// How a slot stands; `None` if there is none.
    async fn slot(&mut self, slot: &SlotName) -> Result<Option<KeptSlot>>;
    /// Makes a physical slot that stays, and holds back WAL from now on.
    async fn create_slot(&mut self, slot: &SlotName) -> Result<()>;
    /// Drops a slot that nobody uses.
    async fn drop_slot(&mut self, slot: &SlotName) -> Result<()>;
    /// The history file of a timeline after the first.
    async fn history(&mut self, timeline: Tli) -> Result<Bytes>;
    /// Streams WAL from `start` on, keeping what `slot` holds back.
    async fn stream(self: Box<Self>, slot: Option<&SlotName>, start: Lsn, timeline: Tli) -> Result<Box<dyn WalFeed>>;
}
