//! One stream: what comes is stored, and only then acknowledged.

use std::time::Duration;

use futures::future::{Either, select};
use pgformat::{Lsn, wal::Geometry};
use repo::wal::{Expected, WalStream, is_done};

use crate::{
    Error, Result,
    archive::sealing::{Decision, Part, RUN_BYTES, Sealing},
    event::Event,
    server::{Identity, WalEvent, WalFeed, beside_heartbeats},
};

use super::{
    attend::{Attendant, Ended},
    commits::Follow,
    marks::{Marks, Said},
    record,
    refusals::{Left, check_left, left},
    store::store_run,
};

/// How often is looked whether to stop, and whether a segment's finishing failed.
const LOOK: Duration = Duration::from_millis(100);
/// How long a server says nothing before it is listened to without a pause: longer than it is silent while it is busy,
/// and shorter than a stream takes to ask whether it lives.
const QUIET: Duration = Duration::from_secs(10);
/// How long the server has, at the stop, to say that nothing more was written.
const LAST_WORD: Duration = Duration::from_secs(2);
/// How long a server is let be that does not fall silent enough for a mark.
const NO_MARK: Duration = Duration::from_secs(5);

/// What a stream is about.
pub(super) struct Stretch {
    pub(super) identity: Identity,
    pub(super) stream: WalStream,
    pub(super) geometry: Geometry,
    /// Where the stream begins: what is `known` is here already, from there to `position`, and has to come again.
    pub(super) from: u64,
    pub(super) known: Expected,
    pub(super) position: u64,
    /// Where the timeline was left for another one.
    pub(super) left: Option<Left>,
}

/// A stream under way.
pub(super) struct Follower<'f, 'a> {
    attendant: &'f mut Attendant<'a>,
    stretch: Stretch,
    feed: Box<dyn WalFeed>,
    commits: Follow,
    sealing: Sealing,
    marks: Marks,
    said: Said,
    /// What is not stored yet, and the position of its first byte. It lies ahead of `received` where another receiver's
    /// run has what we are still to receive; that is `expected` to come.
    open: Vec<u8>,
    open_at: u64,
    expected: Expected,
    received: u64,
    /// When the server said something last.
    heard: Duration,
    warned: bool,
    /// Whether alerts that are over were cleared.
    cleared: bool,
}

impl<'f, 'a> Follower<'f, 'a> {
    pub(super) async fn new(
        attendant: &'f mut Attendant<'a>,
        mut stretch: Stretch,
        feed: Box<dyn WalFeed>,
    ) -> Result<Self> {
        let now = attendant.context.runtime.clock.monotonic();
        let options = attendant.options;
        let repository = &attendant.opened.repository;
        let marks = Marks::new(repository, &stretch.stream, options.mark_interval, now).await?;
        let major = stretch.identity.facts.major;
        Ok(Follower {
            commits: Follow::new(stretch.stream, stretch.geometry, major, stretch.from),
            sealing: Sealing::new(options.seal_interval),
            marks,
            said: Said::default(),
            open: Vec::with_capacity(RUN_BYTES),
            open_at: stretch.position,
            expected: std::mem::take(&mut stretch.known),
            received: stretch.from,
            heard: now,
            warned: false,
            cleared: false,
            attendant,
            stretch,
            feed,
        })
    }

    /// Until the timeline ends, somebody asks to stop, or something fails.
    ///
    /// # Errors
    /// [`pgclient::Error::is_wal_removed`] only if nothing came at all.
    pub(super) async fn run(mut self) -> Result<Ended> {
        match self.follow().await {
            // What was recycled while we were slow, another receiver may have: it is looked for anew.
            Err(Error::Server(error)) if error.is_wal_removed() && self.received > self.stretch.from => {
                Ok(Ended::GoesOn)
            }
            ended => ended,
        }
    }

    async fn follow(&mut self) -> Result<Ended> {
        loop {
            self.attendant.finisher.check()?;
            if self.attendant.finisher.lacks_wal() {
                // What rotted since it was stored is asked for again, while the server may still have it.
                self.seal().await?;
                self.attendant.looks_again();
                return Ok(Ended::GoesOn);
            }
            if self.attendant.context.stop.check().is_err() {
                self.stop().await?;
                return Ok(Ended::Stopped);
            }
            let now = self.now();
            if now >= self.marks.due() {
                self.mark().await?;
            }
            let mut until = self.marks.due().max(now);
            match self.sealing.decide(now) {
                Decision::Seal => self.seal().await?,
                Decision::WaitUntil(at) => until = until.min(at),
                Decision::Wait => {}
            }
            let Some(event) = self.next(until).await? else { continue };
            if let Some(ended) = self.take(event).await? {
                return Ok(ended);
            }
        }
    }

    fn now(&self) -> Duration {
        self.attendant.context.runtime.clock.monotonic()
    }

    /// What comes next, if it comes by `until`; looks up now and then. To a server that says nothing it listens without
    /// a pause: the stream takes its time to find that a connection has fallen silent, and would begin anew each time.
    async fn next(&mut self, until: Duration) -> Result<Option<WalEvent>> {
        let (context, finisher) = (self.attendant.context, self.attendant.finisher);
        let clock = &context.runtime.clock;
        let quiet = clock.monotonic().saturating_sub(self.heard) >= QUIET;
        let mut next = self.feed.next();
        loop {
            let patience = clock.sleep(until.saturating_sub(clock.monotonic()).min(LOOK));
            match select(next, patience).await {
                Either::Left((event, _)) => {
                    self.heard = clock.monotonic();
                    return Ok(Some(event?));
                }
                Either::Right(((), waiting)) => next = waiting,
            }
            finisher.check()?;
            if !quiet || clock.monotonic() >= until || context.stop.check().is_err() {
                return Ok(None);
            }
        }
    }

    async fn take(&mut self, event: WalEvent) -> Result<Option<Ended>> {
        match event {
            WalEvent::Keepalive {
                server_end,
                sent_micros,
                asks,
            } => {
                self.said.alive(server_end.0, sent_micros);
                // A server that stops waits until its last record, which ends no transaction, is durable here.
                if asks {
                    self.seal().await?;
                }
                Ok(None)
            }
            WalEvent::EndOfTimeline { .. } => {
                let something = self.received > self.stretch.from;
                self.seal().await?;
                self.tell_server().await;
                Ok(Some(match something {
                    true => Ended::GoesOn,
                    false => Ended::NothingCame,
                }))
            }
            WalEvent::Data {
                start,
                bytes,
                server_end,
                ..
            } => {
                if start.0 != self.received {
                    return Err(odd(start, self.received));
                }
                let end = start.saturating_add(bytes.len() as u64);
                check_left(&self.stretch.identity, self.stretch.left, end)?;
                self.said.data(server_end.0);
                self.store(&bytes, server_end).await
            }
        }
    }

    /// Takes in bytes that came, and makes runs of them as they fill.
    async fn store(&mut self, bytes: &[u8], server_end: Lsn) -> Result<Option<Ended>> {
        let stream = self.stretch.stream;
        let mut rest = bytes;
        while !rest.is_empty() {
            let left = stream.done_end(self.received).saturating_sub(self.received);
            let room = self.sealing.room(left).min(rest.len());
            let (now, later) = rest.split_at(room);
            self.compare(now)?;
            self.walk(now);
            let known = usize::try_from(self.open_at.saturating_sub(self.received)).unwrap_or(usize::MAX);
            self.open.extend_from_slice(now.get(known..).unwrap_or_default());
            self.received = self.received.saturating_add(now.len() as u64);
            if (self.stretch.position..self.stretch.position.saturating_add(now.len() as u64)).contains(&self.received)
            {
                // It is of the same history: what is here already is durable, whoever received it.
                self.feed.acknowledge(Lsn(self.stretch.position));
            }
            rest = later;
            if self.sealing.decide(self.now()) == Decision::Seal {
                self.seal().await?;
            }
            if stream.done_start(self.received) == self.received && self.received > self.stretch.position {
                self.attendant.complete(&self.stretch, self.received);
                self.look_who_left().await?;
                // A backup or another receiver may have been here: what it has needs no second time.
                let done = is_done(&self.attendant.opened.repository, &stream, self.received);
                let clock = &*self.attendant.context.runtime.clock;
                if beside_heartbeats(clock, &mut *self.feed, done).await?? {
                    self.tell_server().await;
                    return Ok(Some(Ended::GoesOn));
                }
            }
        }
        self.attendant.context.observer.event(Event::Progress {
            done: self.attendant.summary.bytes + self.open.len() as u64,
            total: self.attendant.summary.bytes + self.open.len() as u64 + server_end.0.saturating_sub(self.received),
        });
        Ok(None)
    }

    /// A server that has written other WAL than is here is another one, however much it calls itself the same.
    fn compare(&self, bytes: &[u8]) -> Result<()> {
        match self.expected.differs(self.received, bytes) {
            None => Ok(()),
            Some(position) => Err(Error::Repository(repo::Error::TwoServers {
                what: format!(
                    "{} sends other WAL of timeline {} than was received before, from {} on",
                    self.stretch.identity.server,
                    self.stretch.stream.timeline,
                    Lsn(position)
                ),
            })),
        }
    }

    /// Looks for ends of transactions in what is about to be taken in.
    fn walk(&mut self, bytes: &[u8]) {
        let start = self.received;
        let (commits, stopped) = self.commits.take(start, bytes);
        let end = start.saturating_add(bytes.len() as u64);
        let part = match self.stretch.stream.done_start(end) == end {
            true => Part::Ended,
            false => Part::GoesOn,
        };
        self.sealing.took(bytes.len(), commits, part, self.now());
        if let Some(stop) = stopped
            && !std::mem::replace(&mut self.warned, true)
        {
            let server = &self.stretch.identity.server;
            let what = format!(
                "the WAL that {server} sends cannot be followed: {stop}. It is stored as it comes; take a backup, and check the server's disk and memory"
            );
            self.attendant.context.warn("wal-unreadable", what);
        }
    }

    /// Makes everything durable that has come, then says so to the server. Another receiver may have been there first:
    /// what it has, it has, and what it has more our server is still to send, the same.
    async fn seal(&mut self) -> Result<()> {
        let (repository, session) = (&self.attendant.opened.repository, self.attendant.session);
        let (mut at, mut rest) = (self.open_at, &self.open[..]);
        while !rest.is_empty() {
            let storing = async {
                let (context, stream) = (self.attendant.context, &self.stretch.stream);
                if stream.done_start(at) == at {
                    let before = stream.done_start(at.saturating_sub(1));
                    let finisher = self.attendant.finisher;
                    finisher.settled(context, stream, before, LAST_WORD).await?;
                }
                Ok::<u64, Error>(store_run(context, repository, session, stream, at, rest).await?)
            };
            let clock = &*self.attendant.context.runtime.clock;
            let end = beside_heartbeats(clock, &mut *self.feed, storing).await??;
            let ours = at.saturating_add(rest.len() as u64);
            if end > ours {
                let surplus = Expected::read(repository, &self.stretch.stream, at, ours, end);
                self.expected = beside_heartbeats(clock, &mut *self.feed, surplus).await??;
            }
            let covered = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            rest = rest.get(covered..).unwrap_or_default();
            at = end;
        }
        let stored = self.open.len() as u64;
        self.attendant.durable(stored, &self.stretch, self.received);
        self.open.clear();
        self.open_at = at.max(self.received);
        self.sealing.sealed();
        self.feed.acknowledge(Lsn(self.received));
        // Not before: a server that is refused again and again would clear and raise the same alert for ever.
        if stored > 0 && !std::mem::replace(&mut self.cleared, true) {
            let clearing = record::clear_alerts(self.attendant.opened);
            beside_heartbeats(&*self.attendant.context.runtime.clock, &mut *self.feed, clearing).await?;
        }
        Ok(())
    }

    /// Whether the server is where WAL is written. A standby may be cut off from that: that it has no more says nothing.
    fn knows_the_end(&self) -> bool {
        !self.stretch.identity.facts.in_recovery
    }

    /// Whether somebody took over since the stream began: the server's past is told at the beginning only.
    async fn look_who_left(&mut self) -> Result<()> {
        let identity = &self.stretch.identity;
        if self.stretch.stream.timeline != identity.system.timeline.0 {
            return Ok(());
        }
        let looking = left(&self.attendant.opened.repository, identity);
        let clock = &*self.attendant.context.runtime.clock;
        self.stretch.left = beside_heartbeats(clock, &mut *self.feed, looking).await??;
        check_left(identity, self.stretch.left, Lsn(self.received))
    }

    /// Says that nothing more was written, if the server is sure of it; else asks.
    async fn mark(&mut self) -> Result<()> {
        self.seal().await?;
        self.look_who_left().await?;
        let now = self.now();
        if !self.knows_the_end() {
            self.marks.later(now, self.attendant.options.mark_interval);
            return Ok(());
        }
        let Some(at) = self.said.nothing_past(self.received) else {
            self.feed.ask()?;
            // The second answer is what counts; a busy server needs no mark.
            self.marks.later(now, NO_MARK.min(self.attendant.options.mark_interval));
            return Ok(());
        };
        let (repository, session) = (&self.attendant.opened.repository, self.attendant.session);
        let mark = (self.received, at);
        let putting = self.marks.put(repository, session, &self.stretch.stream, mark, now);
        beside_heartbeats(&*self.attendant.context.runtime.clock, &mut *self.feed, putting).await??;
        Ok(())
    }

    /// Seals, acknowledges, and if the server falls silent in time, says that this was all.
    async fn stop(&mut self) -> Result<()> {
        self.seal().await?;
        let until = self.now() + LAST_WORD;
        while self.knows_the_end() && self.said.nothing_past(self.received).is_none() && self.now() < until {
            if self.feed.ask().is_err() {
                break;
            }
            match self.next(until).await {
                Err(error @ Error::Repository(repo::Error::TwoServers { .. })) => return Err(error),
                Ok(Some(WalEvent::EndOfTimeline { .. })) | Err(_) => break,
                Ok(Some(event)) => {
                    if self.take(event).await?.is_some() {
                        break;
                    }
                }
                Ok(None) => {}
            }
        }
        self.seal().await?;
        if self.said.nothing_past(self.received).is_some() {
            self.mark().await?;
        }
        self.tell_server().await;
        Ok(())
    }

    /// What was acknowledged goes out now. If it does not arrive, the server only sends more again.
    async fn tell_server(&mut self) {
        let _ = self.feed.heartbeat().await;
    }
}

fn odd(start: Lsn, expected: u64) -> Error {
    Error::Failed {
        code: "wal-out-of-step",
        what: format!("the server sent {start} where {} comes next", Lsn(expected)),
        hint: "Report this as a bug.".into(),
    }
}
