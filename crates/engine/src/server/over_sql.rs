//! A server of which nothing is wanted but SQL: its WAL is read as files.
//!
//! Invariant: WAL is read from the running server that the files are read from, and a page is handed on only if it is
//! the one that belongs there. A segment that the server recycled is an error, never a gap.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use pgclient::reader::FileSession;
use pgformat::{
    Lsn, Tli,
    segment::{SegmentName, SegmentSize},
    wal::WalPageHeader,
};
use repo::{
    manifest::Relation,
    runtime::{Clock, Runtime},
};

use crate::{Error, Result};

use super::{LiveServer, ReservedWal, RunningBackup, Server, ServerFacts, WalEvent, WalFeed};

/// Read at once.
const CHUNK: u32 = 1 << 20;
/// How often a server is asked how far its WAL reaches, once all before was read.
const POLL: Duration = Duration::from_millis(200);
/// No history file comes near it: a promotion takes some fifty bytes.
const HISTORY_BYTES: u32 = 1 << 20;

/// A server that is backed up through SQL alone, by a role that needs neither SUPERUSER nor REPLICATION.
#[derive(Clone)]
pub struct SqlServer {
    live: LiveServer,
    clock: Arc<dyn Clock>,
    wal: Wal,
}

/// How a server's WAL is divided.
#[derive(Debug, Clone, Copy)]
struct Wal {
    segment_size: SegmentSize,
    page_bytes: u32,
}

impl SqlServer {
    /// The server `live`, of which `facts` are known.
    pub fn new(live: LiveServer, facts: &ServerFacts, runtime: &Runtime) -> SqlServer {
        SqlServer {
            live,
            clock: runtime.clock.clone(),
            wal: Wal {
                segment_size: facts.wal_segment_size,
                page_bytes: facts.wal_block_size,
            },
        }
    }
}

#[async_trait]
impl Server for SqlServer {
    async fn facts(&self) -> Result<ServerFacts> {
        self.live.facts().await
    }

    /// Nothing can be held back without REPLICATION; what is gone is noticed.
    async fn reserve_wal(&self) -> Result<Box<dyn ReservedWal>> {
        Ok(Box::new(Reserved {
            session: self.live.file_session().await?,
            clock: self.clock.clone(),
            wal: self.wal,
        }))
    }

    async fn start_backup(&self, label: &str) -> Result<Box<dyn RunningBackup>> {
        self.live.start_backup(label).await
    }

    async fn history(&self, timeline: Tli) -> Result<Bytes> {
        let session = self.live.file_session().await?;
        let path = format!("pg_wal/{:08X}.history", timeline.0);
        let opened = session.open(path.as_bytes(), HISTORY_BYTES).await;
        session.close().await;
        let content = opened?.and_then(|file| file.content);
        content.map(Bytes::from).ok_or_else(|| Error::Failed {
            code: "history-missing",
            what: format!("the server has no {path}, which says where its timeline comes from"),
            hint: "Copy it back into pg_wal from the WAL archive, then take the backup again.".into(),
        })
    }

    async fn relations(&self, facts: &ServerFacts) -> Result<(Vec<Relation>, Vec<String>)> {
        self.live.relations(facts).await
    }
}

struct Reserved {
    session: FileSession,
    clock: Arc<dyn Clock>,
    wal: Wal,
}

#[async_trait]
impl ReservedWal for Reserved {
    fn unprotected(&self) -> Option<&str> {
        // Said once, when the backup is planned: see `backup::preflight`.
        None
    }

    async fn stream(self: Box<Self>, start: Lsn, timeline: Tli) -> Result<Box<dyn WalFeed>> {
        Ok(Box::new(Feed {
            session: self.session,
            clock: self.clock,
            wal: self.wal,
            timeline,
            at: start,
            flushed: Lsn(0),
            rested: true,
        }))
    }
}

struct Feed {
    session: FileSession,
    clock: Arc<dyn Clock>,
    wal: Wal,
    timeline: Tli,
    /// The next byte to be handed on.
    at: Lsn,
    /// How far WAL can be read, as last heard.
    flushed: Lsn,
    /// Whether some time has passed since it was asked; else each commit would cost two questions.
    rested: bool,
}

#[async_trait]
impl WalFeed for Feed {
    async fn next(&mut self) -> Result<WalEvent> {
        // Cancelled anywhere, it has moved on nowhere: `at` changes at the end, and `flushed` is only learnt.
        while self.flushed <= self.at {
            if !self.rested {
                self.clock.sleep(POLL).await;
                self.rested = true;
            }
            self.flushed = self.session.flushed().await?;
            self.rested = false;
        }
        let size = self.wal.segment_size;
        let offset = size.offset_of(self.at);
        let left = (size.bytes() - offset).min(self.flushed.bytes_since(self.at));
        let want = u32::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let segment = SegmentName::holding(self.timeline, self.at, size).file_name(size);
        let path = format!("pg_wal/{segment}");
        let read = self.session.read(path.as_bytes(), offset, want).await?;
        let bytes = read.unwrap_or_default();
        if bytes.len() < want as usize || !pages_fit(&bytes, self.at, self.wal.page_bytes) {
            return Err(recycled(&segment));
        }
        let start = self.at;
        self.at = start.saturating_add(bytes.len() as u64);
        Ok(WalEvent::Data {
            start,
            bytes: bytes.into(),
            server_end: self.flushed,
            sent_micros: self.clock.now_micros(),
        })
    }

    fn acknowledge(&mut self, _: Lsn) {}

    async fn heartbeat(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Whether no page that begins in `bytes`, which begin at `start`, says that it is of another position. A segment that
/// is recycled while it is read holds such. What says nothing, such as the zeroes behind a switch of segments, is for
/// the walk over the records to judge.
fn pages_fit(bytes: &[u8], start: Lsn, page_bytes: u32) -> bool {
    let page = u64::from(page_bytes);
    let first = start.0.next_multiple_of(page);
    let mut at = usize::try_from(first - start.0).unwrap_or(usize::MAX);
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= HEAD) {
        let here = start.saturating_add(at as u64);
        if WalPageHeader::parse(rest).is_ok_and(|head| head.address != here) {
            return false;
        }
        at = at.saturating_add(page_bytes as usize);
    }
    true
}

/// Bytes of the longest head of a page.
const HEAD: usize = 40;

fn recycled(segment: &str) -> Error {
    Error::Failed {
        code: "wal-recycled",
        what: format!("the server recycled {segment} before the backup had read it: over SQL nothing holds WAL back"),
        hint: "Set wal_keep_size to more than the server writes while a backup lags behind, such as 2GB, reload, then take the backup again.".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages of a segment of 1 MiB, as a server wrote them.
    const WAL: &[u8] = include_bytes!("../../../pgformat/tests/fixtures/wal.16");

    #[test]
    fn a_page_of_another_position_is_noticed() {
        let start = WalPageHeader::parse(WAL).unwrap().address;
        assert!(pages_fit(WAL, start, 8192));
        // Whoever begins within a page judges the next one.
        assert!(pages_fit(&WAL[100..], start.saturating_add(100), 8192));
        assert!(!pages_fit(WAL, start.saturating_add(1 << 20), 8192));
        assert!(!pages_fit(&WAL[100..], start.saturating_add((1 << 20) + 100), 8192));
        let mut half = WAL.to_vec();
        half.copy_within(..8192, 8192);
        assert!(!pages_fit(&half, start, 8192));
        half[8192..].fill(0);
        assert!(
            pages_fit(&half, start, 8192),
            "behind a switch of segments there are zeroes"
        );
    }
}
