//! Keeps the WAL that a backup needs: streams it from the server into the repository while files are copied.
//!
//! Every record is walked and its CRC checked on the way, so that where the backup's end record begins is known
//! from the WAL itself, and a server that sends damaged WAL is noticed now and not on the day of the restore.

mod ending;
#[cfg(test)]
mod tests;
mod tie;

pub(super) use ending::End;

use std::time::Duration;

use futures::{FutureExt, pin_mut, select_biased};
use pgformat::{
    Lsn, Major, Tli,
    segment::SegmentSize,
    wal::{Geometry, Record, Walker, XlogRecord},
};
use repo::{
    Repository,
    session::Session,
    wal::{Expected, WalStream, append_run},
};

use crate::{
    Error, Result,
    event::Context,
    server::{WalEvent, WalFeed, beside_heartbeats},
};

use super::walk::tablespace_made;
use ending::Passed;
use tie::{Tie, last_before};

/// A run is sealed when this much has come together: enough to compress well, little enough to wait in memory.
const RUN_BYTES: usize = 4 << 20;
/// How long the server may send nothing of what it has already written, once the backup was stopped.
const PATIENCE: Duration = Duration::from_secs(120);
/// The resource manager of tablespaces (`access/rmgrlist.h`), and its record of one being made
/// (`commands/tablespace.h`, `XLOG_TBLSPC_CREATE`).
const RM_TBLSPC: u8 = 5;
const TBLSPC_CREATE: u8 = 0x00;

/// Which WAL.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) generation: u64,
    pub(super) timeline: Tli,
    pub(super) segment_size: SegmentSize,
    pub(super) wal_block_size: u32,
    pub(super) major: Major,
    /// Where the backup begins: the start of a record.
    pub(super) start: Lsn,
    /// Whose WAL it is.
    pub(super) of: Of,
}

/// Who was asked for the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Primary,
    Standby,
}

impl Stretch {
    /// Streaming begins with the segment, so that the chain of runs does too.
    pub(super) fn from(&self) -> Lsn {
        Lsn(self.start.0 - self.segment_size.offset_of(self.start))
    }

    fn geometry(&self) -> Result<Geometry> {
        Geometry::new(self.segment_size, self.wal_block_size).map_err(odd_wal)
    }

    fn walker(&self, from: Lsn) -> Result<Walker> {
        let walker = Walker::new(self.geometry()?, from).map_err(odd_wal)?;
        Ok(walker.of_major(self.major).of_system(self.generation))
    }
}

/// What was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// Where the record begins that ends the backup.
    pub(super) record: Lsn,
    /// Where that record ends.
    pub(super) end: Lsn,
    /// Bytes of WAL.
    pub(super) bytes: u64,
}

pub(super) struct Keeper {
    context: Context,
    repository: Repository,
    session: Session,
    stretch: Stretch,
    stream: WalStream,
    feed: Box<dyn WalFeed>,
    walker: Walker,
    /// Unsealed bytes, and the position of the first. It lies ahead of `received` where another writer's run
    /// has what we are still to receive; that is `expected` to come.
    open: Vec<u8>,
    open_at: Lsn,
    expected: Expected,
    received: Lsn,
    /// Whether what lies before the backup's start is durable: who looks for changes waits for that.
    is_begun: bool,
    /// While it is open nothing is stored, as long as it fits into memory.
    tie: Tie,
    end_record: Option<Lsn>,
    /// What was passed of a standby's WAL.
    passed: Option<Passed>,
    kept: Kept,
}

impl Keeper {
    pub(super) fn new(
        context: Context,
        repository: Repository,
        session: Session,
        stretch: Stretch,
        feed: Box<dyn WalFeed>,
    ) -> Result<Keeper> {
        let walker = stretch.walker(stretch.start)?;
        let from = stretch.from();
        let stretch_start = stretch.start;
        let kept = Kept {
            record: Lsn(0),
            end: Lsn(0),
            bytes: 0,
        };
        let stream = WalStream::new(stretch.generation, stretch.timeline.0, stretch.segment_size.bytes())?;
        let open = Vec::with_capacity(RUN_BYTES);
        Ok(Keeper {
            context,
            repository,
            session,
            stretch,
            stream,
            feed,
            walker,
            open,
            open_at: from,
            expected: Expected::default(),
            received: from,
            is_begun: from >= stretch_start,
            tie: Tie::of(&stretch)?,
            end_record: None,
            passed: (stretch.of == Of::Standby).then(Passed::default),
            kept,
        })
    }

    /// Runs until everything before the position that comes through `stop` is durable.
    pub(super) async fn run(mut self, stop: async_channel::Receiver<End>) -> Result<Kept> {
        let clock = self.context.runtime.clock.clone();
        self.tie_to_stored().await?;
        let mut end = None;
        // Only what brings us nearer to the end renews it: a server that sends keepalives for ever does not.
        let mut advanced = (self.received, clock.monotonic());
        loop {
            self.context.stop.check()?;
            if let Some(end) = end
                && self.has_all(end)
            {
                self.seal().await?;
                // What came late may have been waited for, and used.
                if self.tie.is_loose() {
                    self.tie_to_stored().await?;
                }
                return self.ended(end).await;
            }
            if self.received > advanced.0 || end.is_none() {
                advanced = (self.received, clock.monotonic());
            }
            let waited = clock.monotonic().saturating_sub(advanced.1);
            if let Some(end) = end
                && waited >= PATIENCE
            {
                return Err(too_slow(self.received, end.position()));
            }
            let patience = clock.sleep(PATIENCE.saturating_sub(waited)).fuse();
            let event = {
                let next = self.feed.next().fuse();
                let stopped = next_stop(&stop, end).fuse();
                pin_mut!(next, stopped, patience);
                select_biased! {
                    position = stopped => { end = Some(position?); None }
                    event = next => Some(event?),
                    () = patience => None,
                }
            };
            if let Some(event) = event {
                self.take(event, end).await?;
            }
        }
    }

    async fn tie_to_stored(&mut self) -> Result<()> {
        let clock = &*self.context.runtime.clock;
        let last = last_before(&self.context, &self.repository, self.stream, self.stretch);
        let last = beside_heartbeats(clock, &mut *self.feed, last).await??;
        self.tie.stored(last)
    }

    /// Whether everything that the backup needs has come.
    fn has_all(&self, end: End) -> bool {
        self.received >= end.position()
            && self
                .passed
                .as_ref()
                .is_none_or(|passed| passed.has_reached(end, self.received))
    }

    /// Finds the record that ends the backup. All WAL up to there is durable.
    async fn ended(self, end: End) -> Result<Kept> {
        let (repository, stretch) = (self.repository, self.stretch);
        let found = match self.passed {
            None => self.end_record.map(|record| (record, end.position())),
            Some(passed) => passed.find(&repository, self.stream, &stretch, end).await?,
        };
        let (record, end) = found.ok_or_else(|| no_end_record(stretch.start, end.position()))?;
        Ok(Kept {
            record,
            end,
            ..self.kept
        })
    }

    async fn take(&mut self, event: WalEvent, end: Option<End>) -> Result<()> {
        match event {
            WalEvent::Keepalive { .. } => Ok(()),
            WalEvent::EndOfTimeline { .. } => Err(Error::Failed {
                code: "timeline-ended",
                what: format!(
                    "timeline {} ended while the backup ran: the server, or the one that it follows, was promoted",
                    self.stretch.timeline
                ),
                hint: "Take the backup again.".into(),
            }),
            WalEvent::Data { start, bytes, .. } => {
                if start != self.received {
                    return Err(odd_wal(format!(
                        "the server sent {start} where {} comes next",
                        self.received
                    )));
                }
                self.tie.feed(&bytes)?;
                self.walk(start, &bytes, end)?;
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    // No run reaches past where a finished one ends.
                    let left = self.stream.done_end(self.received.0) - self.received.0;
                    let room = (RUN_BYTES - self.open.len()).min(usize::try_from(left).unwrap_or(usize::MAX));
                    let (now, later) = rest.split_at(room.min(rest.len()));
                    self.compare(now)?;
                    let known = usize::try_from(self.open_at.bytes_since(self.received)).unwrap_or(usize::MAX);
                    let known = if self.open_at > self.received {
                        known.min(now.len())
                    } else {
                        0
                    };
                    self.open.extend_from_slice(&now[known..]);
                    self.received = self.received.saturating_add(now.len() as u64);
                    rest = later;
                    let part_full = self.stream.done_start(self.received.0) == self.received.0;
                    let begins = !self.is_begun && self.received >= self.stretch.start && !self.tie.is_open();
                    if part_full || begins || self.open.len() >= RUN_BYTES {
                        self.is_begun |= begins;
                        self.seal().await?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Walks the records. After the backup's end nothing is asked of them any more: the server goes on.
    fn walk(&mut self, start: Lsn, bytes: &[u8], end: Option<End>) -> Result<()> {
        if end.is_some_and(|end| self.walker.position() >= end.position() && self.has_all(end)) {
            return Ok(());
        }
        let before = usize::try_from(self.stretch.start.bytes_since(start)).unwrap_or(usize::MAX);
        let Some(bytes) = bytes.get(if start < self.stretch.start { before } else { 0 }..) else {
            return Ok(());
        };
        let (begun, found, mut made) = (self.stretch.start, &mut self.end_record, None);
        let passed = &mut self.passed;
        self.walker
            .feed(bytes, |record| {
                match passed {
                    Some(passed) => passed.record(&record),
                    None if record.xlog() == Some(XlogRecord::BackupEnd { start: begun }) => {
                        found.get_or_insert(record.lsn);
                    }
                    None => {}
                }
                if end.is_none_or(|end| record.lsn < end.position()) {
                    made = made.take().or_else(|| tablespace_of(&record));
                }
            })
            .map_err(odd_wal)?;
        made.map_or(Ok(()), |location| Err(tablespace_made(&location)))
    }

    /// What another writer stored of these positions has to be what our server sends. Else the backup would be restored
    /// with another server's WAL.
    fn compare(&self, bytes: &[u8]) -> Result<()> {
        match self.expected.differs(self.received.0, bytes) {
            None => Ok(()),
            Some(position) => Err(Error::Repository(repo::Error::TwoServers {
                what: format!(
                    "the server sends other WAL of timeline {} than was stored meanwhile, from {} on",
                    self.stretch.timeline,
                    Lsn(position)
                ),
            })),
        }
    }

    /// Makes the open bytes durable. Another writer may have been there first: what it has, it has.
    async fn seal(&mut self) -> Result<()> {
        let (mut at, mut rest) = (self.open_at.0, &self.open[..]);
        while !rest.is_empty() {
            let clock = &*self.context.runtime.clock;
            let storing = append_run(&self.repository, &self.session, &self.stream, at, rest);
            let end = beside_heartbeats(clock, &mut *self.feed, storing).await??;
            let ours = at.saturating_add(rest.len() as u64);
            if end > ours {
                let surplus = Expected::read(&self.repository, &self.stream, at, ours, end);
                self.expected = beside_heartbeats(clock, &mut *self.feed, surplus).await??;
            }
            let covered = usize::try_from(end - at).unwrap_or(usize::MAX).min(rest.len());
            rest = &rest[covered..];
            at = end;
        }
        self.kept.bytes += self.open.len() as u64;
        self.open.clear();
        self.open_at = Lsn(at.max(self.received.0));
        self.feed.acknowledge(self.received);
        Ok(())
    }
}

/// Where the tablespace lies that the record makes (`xl_tblspc_create_rec`: its oid, then the path). One in place
/// has an empty path: it lies where the data directory does, and harms nobody.
fn tablespace_of(record: &Record<'_>) -> Option<String> {
    if record.rmid != RM_TBLSPC || record.kind() != TBLSPC_CREATE {
        return None;
    }
    let path = record.main_data()?.get(4..)?.split(|byte| *byte == 0).next()?;
    (!path.is_empty()).then(|| String::from_utf8_lossy(path).into_owned())
}

/// The position at which to stop, once; after that, never again. Who starts us drops the channel only when
/// the backup failed.
async fn next_stop(stop: &async_channel::Receiver<End>, known: Option<End>) -> Result<End> {
    if known.is_some() {
        return futures::future::pending().await;
    }
    stop.recv().await.map_err(|_| Error::Interrupted)
}

fn odd_wal(error: impl std::fmt::Display) -> Error {
    Error::Failed {
        code: "wal-damaged",
        what: format!("the server's WAL does not read as it should: {error}"),
        hint: "Take the backup again; if it happens again, check the server's disk and memory.".into(),
    }
}

fn no_end_record(start: Lsn, end: Lsn) -> Error {
    odd_wal(format!("no record before {end} ends the backup begun at {start}"))
}

fn too_slow(received: Lsn, end: Lsn) -> Error {
    if received >= end {
        return Error::Failed {
            code: "standby-idle",
            what: format!(
                "the standby's last restartpoint is at the checkpoint before {end}, and nothing was written after it: a recovery would have nothing to replay"
            ),
            hint: "Run CHECKPOINT on the primary, then take the backup again.".into(),
        };
    }
    Error::Failed {
        code: "wal-late",
        what: format!("the server sent WAL only up to {received}; the backup needs it up to {end}"),
        hint: "Check the server's log for its WAL sender, then take the backup again.".into(),
    }
}
