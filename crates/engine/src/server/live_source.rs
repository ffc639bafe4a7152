//! WAL of a real PostgreSQL, through `pgclient`.

use async_trait::async_trait;
use bytes::Bytes;
use pgclient::{
    Conninfo, Replication, Session,
    replication::{WalStream, slot_state},
};
use pgformat::{Lsn, Tli, protocol::SlotName};

use crate::Result;

use super::{Identity, KeptSlot, SourceFacts, WalEvent, WalFeed, WalLink, WalSource};

/// The servers that a connection string names.
#[derive(Debug, Clone)]
pub struct LiveSource {
    conninfo: Conninfo,
}

impl LiveSource {
    /// All hosts are tried in order, each time.
    pub fn new(conninfo: Conninfo) -> LiveSource {
        LiveSource { conninfo }
    }
}

#[async_trait]
impl WalSource for LiveSource {
    async fn connect(&self) -> Result<Box<dyn WalLink>> {
        let mut replication = Replication::connect(&self.conninfo).await?;
        let system = replication.identify_system().await?;
        let conninfo = self.conninfo.clone().with_host(replication.host());
        let session = Session::connect(&conninfo).await?;
        let facts = SourceFacts::read(&session).await?;
        let identity = Identity {
            server: replication.server().to_string(),
            system,
            facts,
        };
        Ok(Box::new(Link {
            replication,
            session,
            identity,
        }))
    }
}

struct Link {
    replication: Replication,
    session: Session,
    identity: Identity,
}

#[async_trait]
impl WalLink for Link {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    async fn slot(&mut self, slot: &SlotName) -> Result<Option<KeptSlot>> {
        Ok(slot_state(&self.session, slot).await?)
    }

    async fn create_slot(&mut self, slot: &SlotName) -> Result<()> {
        self.replication.create_permanent_slot(slot).await?;
        Ok(())
    }

    async fn drop_slot(&mut self, slot: &SlotName) -> Result<()> {
        Ok(self.replication.drop_slot(slot).await?)
    }

    async fn history(&mut self, timeline: Tli) -> Result<Bytes> {
        Ok(self.replication.timeline_history(timeline).await?.content.into())
    }

    async fn stream(self: Box<Self>, slot: Option<&SlotName>, start: Lsn, timeline: Tli) -> Result<Box<dyn WalFeed>> {
        // A stream lives for months; the session beside it would only take one of the server's connections.
        self.session.close().await;
        let stream = self.replication.start_physical(slot, start, timeline).await?;
        Ok(Box::new(Feed(stream)))
    }
}

struct Feed(WalStream);

#[async_trait]
impl WalFeed for Feed {
    async fn next(&mut self) -> Result<WalEvent> {
        Ok(self.0.next().await?)
    }

    fn acknowledge(&mut self, flushed: Lsn) {
        self.0.acknowledge(flushed);
    }

    async fn heartbeat(&mut self) -> Result<()> {
        Ok(self.0.heartbeat().await?)
    }

    fn ask(&mut self) -> Result<()> {
        Ok(self.0.ask()?)
    }
}
