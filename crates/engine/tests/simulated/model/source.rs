//! The model as a receiver meets it: a slot, and WAL that is recycled as soon as the slot lets it go.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use engine::{
    Error, Result,
    pgformat::{
        Lsn, Tli,
        protocol::{SlotName, SystemIdentity},
    },
    repo::runtime::Runtime,
    server::{Identity, KeptSlot, SourceFacts, WalEvent, WalFeed, WalLink, WalSource},
};

use super::{Cluster, WAL_SEGMENT_BYTES, wal::FIRST};

const MESSAGE_BYTES: usize = 128 << 10;
const KEEPALIVE: Duration = Duration::from_secs(1);

/// The one slot there is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Slot {
    exists: bool,
    pub(crate) restart: Lsn,
    pub(crate) holder: Option<u64>,
    streams: u64,
}

impl Cluster {
    /// The server's WAL, as one process reaches it.
    pub(crate) fn source(&self, runtime: &Runtime) -> ModelSource {
        ModelSource {
            cluster: self.clone(),
            runtime: runtime.clone(),
        }
    }

    /// A transaction of so many bytes ends; where its WAL ends.
    pub(crate) fn transact(&self, bytes: usize) -> Lsn {
        let mut shared = self.lock();
        shared.wal.load(bytes);
        shared.wal.commit()
    }

    /// How far the server was told that its WAL is durable.
    pub(crate) fn acknowledged(&self) -> Lsn {
        self.lock().slot.restart
    }

    /// Where its WAL ends.
    pub(crate) fn flushed(&self) -> Lsn {
        self.lock().wal.end()
    }

    /// What the server wrote from `from` to `to`.
    pub(crate) fn wal(&self, from: u64, to: u64) -> Vec<u8> {
        self.lock().wal.read(Lsn(from), (to - from) as usize).to_vec()
    }

    /// Whoever streams without a slot finds nothing before `position` any more.
    pub(crate) fn recycle(&self, position: Lsn) {
        let mut shared = self.lock();
        shared.recycled = shared.recycled.max(position);
    }
}

pub(crate) struct ModelSource {
    cluster: Cluster,
    runtime: Runtime,
}

fn lost() -> Error {
    Error::Server(pgclient::Error::ConnectionLost {
        server: "model".into(),
        doing: "stream".into(),
        source: "the model was restarted".into(),
    })
}

fn removed() -> Error {
    Error::Server(pgclient::Error::Server {
        doing: "stream".into(),
        sqlstate: "58P01".into(),
        message: "requested WAL segment has already been removed".into(),
    })
}

#[async_trait]
impl WalSource for ModelSource {
    async fn connect(&self) -> Result<Box<dyn WalLink>> {
        self.runtime.clock.sleep(Duration::from_millis(3)).await;
        let facts = self.cluster.facts();
        let (life, flushed) = {
            let shared = self.cluster.lock();
            (shared.life, shared.wal.end())
        };
        Ok(Box::new(Link {
            cluster: self.cluster.clone(),
            runtime: self.runtime.clone(),
            life,
            identity: Identity {
                server: "model".into(),
                system: SystemIdentity {
                    system_identifier: facts.system_identifier,
                    timeline: facts.timeline,
                    flushed,
                },
                facts: SourceFacts {
                    major: facts.major,
                    segment_size: facts.wal_segment_size,
                    wal_block_size: facts.wal_block_size,
                    block_size: facts.block_size,
                    in_recovery: false,
                    slots_are_unlimited: false,
                },
            },
        }))
    }
}

struct Link {
    cluster: Cluster,
    runtime: Runtime,
    life: u64,
    identity: Identity,
}

#[async_trait]
impl WalLink for Link {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    async fn slot(&mut self, _: &SlotName) -> Result<Option<KeptSlot>> {
        let slot = self.cluster.lock().slot;
        Ok(slot.exists.then_some(KeptSlot {
            physical: true,
            held_by: slot.holder.map(|holder| holder as i32),
            restart: Some(slot.restart),
            lost: false,
        }))
    }

    async fn create_slot(&mut self, _: &SlotName) -> Result<()> {
        let mut shared = self.cluster.lock();
        shared.slot.exists = true;
        // The last checkpoint is a while ago.
        shared.slot.restart = Lsn(FIRST);
        Ok(())
    }

    async fn drop_slot(&mut self, _: &SlotName) -> Result<()> {
        self.cluster.lock().slot = Slot::default();
        Ok(())
    }

    async fn history(&mut self, timeline: Tli) -> Result<Bytes> {
        self.cluster.history(timeline).ok_or_else(removed)
    }

    async fn stream(self: Box<Self>, slot: Option<&SlotName>, start: Lsn, timeline: Tli) -> Result<Box<dyn WalFeed>> {
        self.runtime.clock.sleep(Duration::from_millis(3)).await;
        let mut shared = self.cluster.lock();
        if shared.life != self.life {
            return Err(lost());
        }
        shared.slot.streams += 1;
        let id = shared.slot.streams;
        if slot.is_some() {
            if shared.slot.holder.is_some() {
                return Err(lost());
            }
            shared.slot.holder = Some(id);
        }
        drop(shared);
        Ok(Box::new(Feed {
            cluster: self.cluster.clone(),
            runtime: self.runtime.clone(),
            life: self.life,
            id,
            timeline,
            begun: start,
            position: start,
            through_slot: slot.is_some(),
            keepalive: None,
        }))
    }
}

struct Feed {
    cluster: Cluster,
    runtime: Runtime,
    life: u64,
    id: u64,
    timeline: Tli,
    begun: Lsn,
    position: Lsn,
    through_slot: bool,
    /// When it speaks next though there is nothing new.
    keepalive: Option<Duration>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut shared = self.cluster.lock();
        if shared.slot.holder == Some(self.id) {
            shared.slot.holder = None;
        }
    }
}

#[async_trait]
impl WalFeed for Feed {
    async fn next(&mut self) -> Result<WalEvent> {
        let (bytes, server_end) = {
            let shared = self.cluster.lock();
            if shared.life != self.life {
                return Err(lost());
            }
            // Everything before the segment that the slot holds back is recycled at once.
            let kept = shared.slot.restart.max(shared.recycled).0 / WAL_SEGMENT_BYTES * WAL_SEGMENT_BYTES;
            if self.position.0 < kept {
                return Err(removed());
            }
            let Some(wal) = shared.of_timeline(self.timeline) else {
                return Err(removed());
            };
            let bytes = Bytes::copy_from_slice(wal.read(self.position, MESSAGE_BYTES));
            if bytes.is_empty() && wal.timeline() != shared.wal.timeline() {
                return Ok(WalEvent::EndOfTimeline {
                    next: Some(Tli(self.timeline.0 + 1)),
                    switch: wal.end(),
                });
            }
            (bytes, wal.end())
        };
        let start = self.position;
        if bytes.is_empty() {
            let clock = &self.runtime.clock;
            let due = *self.keepalive.get_or_insert(clock.monotonic() + KEEPALIVE);
            clock.sleep(due.saturating_sub(clock.monotonic())).await;
            self.keepalive = None;
            return Ok(WalEvent::Keepalive {
                server_end: start,
                sent_micros: self.runtime.clock.now_micros(),
                asks: false,
            });
        }
        self.position = Lsn(start.0 + bytes.len() as u64);
        Ok(WalEvent::Data {
            start,
            bytes,
            server_end,
            sent_micros: self.runtime.clock.now_micros(),
        })
    }

    fn acknowledge(&mut self, flushed: Lsn) {
        let mut shared = self.cluster.lock();
        let flushed = flushed.min(self.position);
        shared.hears(self.timeline, self.begun, flushed);
        if self.begun < flushed {
            let first = shared.received.entry(self.timeline.0).or_insert(self.begun.0);
            *first = self.begun.0.min(*first);
        }
        if self.through_slot && shared.life == self.life {
            shared.slot.restart = shared.slot.restart.max(flushed);
        }
    }

    async fn heartbeat(&mut self) -> Result<()> {
        match self.cluster.lock().life == self.life {
            true => Ok(()),
            false => Err(lost()),
        }
    }
}
