//! One connection: find out who answers and where to go on, then follow the stream.

use std::collections::BTreeSet;

use pgformat::{Lsn, Tli, history::History, wal::Geometry};
use repo::{
    ledger,
    session::Session,
    wal::{
        Expected, WalStream, check_open_runs, contiguous_end, coverage, is_done, open_runs, put_history, read_history,
        timelines,
    },
};

use crate::{
    Error, Result,
    archive::{
        archived::{archived_from, is_archived_before},
        position::{Here, Place, place},
    },
    backup::check_generation,
    database::Opened,
    event::Context,
    server::{Identity, WalFeed, WalLink, WalSource},
};

use super::{
    Gap, Options, Summary,
    finisher::Finisher,
    follow::{Follower, Stretch},
    patience::{Patience, unless_stopped},
    record,
    refusals::{check_ahead, check_left, left},
    slot,
};

/// How much of what is here has to come again, bytes: two servers that went apart differ from there on in nearly every one.
const COMPARED: u64 = 256 << 10;

/// How a connection ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Somebody asked to stop, and everything is durable.
    Stopped,
    /// There is more to receive, elsewhere.
    GoesOn,
    /// The same, and not a byte had come.
    NothingCame,
}

/// What all connections have in common.
pub(super) struct Attendant<'a> {
    pub(super) context: &'a Context,
    pub(super) opened: &'a Opened,
    pub(super) session: &'a Session,
    pub(super) finisher: &'a Finisher,
    pub(super) options: &'a Options,
    pub(super) summary: &'a mut Summary,
    /// Timelines whose complete segments were handed to the finisher.
    pub(super) looked_at: BTreeSet<u32>,
    /// The beginning of a segment before which the server had nothing to compare any more.
    recycled_before: Option<u64>,
}

impl<'a> Attendant<'a> {
    pub(super) fn new(
        context: &'a Context,
        opened: &'a Opened,
        session: &'a Session,
        finisher: &'a Finisher,
        options: &'a Options,
        summary: &'a mut Summary,
    ) -> Attendant<'a> {
        Attendant {
            context,
            opened,
            session,
            finisher,
            options,
            summary,
            looked_at: BTreeSet::new(),
            recycled_before: None,
        }
    }

    /// Receives through one connection. Nothing of the server is stored before it was found to belong here.
    pub(super) async fn attend(&mut self, source: &dyn WalSource, patience: &mut Patience) -> Result<Ended> {
        let context = self.context;
        let begun = unless_stopped(context, self.begin(source)).await??;
        let (stretch, feed) = match begun {
            Begun::Streams(stretch, feed) => (*stretch, feed),
            Begun::Again => return Ok(Ended::NothingCame),
        };
        let what = format!(
            "receiving timeline {} from {} on, from {}",
            stretch.stream.timeline,
            Lsn(stretch.position),
            stretch.identity.server
        );
        context.step("receive", what);
        patience.streaming(context.runtime.clock.monotonic());
        let (resume, timeline) = (stretch.position, stretch.stream.timeline);
        let looks_back = stretch.from < stretch.stream.segment_of(resume);
        let follower = Follower::new(self, stretch, feed).await?;
        match follower.run().await {
            Err(Error::Server(error)) if error.is_wal_removed() && looks_back => {
                self.recycled_before = Some(resume);
                Ok(Ended::GoesOn)
            }
            // The server may find out only when it is to send the first byte.
            Err(Error::Server(error)) if error.is_wal_removed() => {
                let mut link = source.connect().await?;
                self.missed(&mut *link, Tli(timeline), resume).await?;
                Ok(Ended::GoesOn)
            }
            ended => ended,
        }
    }

    async fn begin(&mut self, source: &dyn WalSource) -> Result<Begun> {
        let mut link = source.connect().await?;
        let identity = link.identity().clone();
        let generation = identity.system.system_identifier;
        check_generation(self.opened, generation).await?;
        let repository = &self.opened.repository;
        let history = self.history(&mut *link, &identity).await?;
        let left = left(repository, &identity).await?;
        check_left(&identity, left, identity.system.flushed)?;
        let held = slot::hold(self.context, &mut *link, self.options).await?;
        let place = self.place(&identity, &history, held.restart).await?;
        let own = place.timeline == identity.system.timeline;
        if own && Lsn(place.position) > identity.system.flushed {
            // Another receiver may have stored what the server wrote since it was asked.
            let again = source.connect().await?.identity().clone();
            check_ahead(&again, &identity, Lsn(place.position))?;
            return Ok(Begun::Again);
        }
        let stream = shape(&identity, place.timeline)?;
        record::begin(self.opened, &identity, &history, &stream, place.position).await?;
        let geometry = Geometry::new(identity.facts.segment_size, identity.facts.wal_block_size).map_err(unlike)?;
        // Also of the timelines before: who was killed at the end of one left them, and nobody comes by there again.
        for range in history.ranges().iter().filter(|range| range.start < range.end) {
            if range.timeline <= place.timeline {
                self.finish_complete(&shape(&identity, range.timeline)?, geometry)
                    .await?;
            }
        }
        self.finish_before(&stream, geometry, place.position).await?;
        let (from, known) = self.known(&stream, geometry, place.position).await?;
        match link.stream(held.name.as_ref(), Lsn(from), place.timeline).await {
            Ok(feed) => {
                let stretch = Stretch {
                    identity,
                    stream,
                    geometry,
                    from,
                    known,
                    position: place.position,
                    left: left.filter(|_| own),
                };
                Ok(Begun::Streams(Box::new(stretch), feed))
            }
            Err(Error::Server(error)) if error.is_wal_removed() && from < stream.segment_of(place.position) => {
                self.recycled_before = Some(place.position);
                Ok(Begun::Again)
            }
            Err(Error::Server(error)) if error.is_wal_removed() => {
                let mut link = source.connect().await?;
                self.missed(&mut *link, place.timeline, place.position).await?;
                Ok(Begun::Again)
            }
            Err(error) => Err(error),
        }
    }

    /// The server's past. The histories of all its timelines are kept: without them nobody finds the way back.
    async fn history(&self, link: &mut dyn WalLink, identity: &Identity) -> Result<History> {
        let (generation, tip) = (identity.system.system_identifier, identity.system.timeline);
        if tip.0 <= 1 {
            return Ok(History::without_past(tip));
        }
        let repository = &self.opened.repository;
        let content = link.history(tip).await?;
        let history = History::parse(tip, &content).map_err(unlike)?;
        for switch in history.switches().iter().filter(|switch| switch.parent.0 > 1) {
            if self.knows_history(generation, switch.parent).await? {
                continue;
            }
            // A server brought back from a backup may lack those of long ago; its own tells what they told.
            match link.history(switch.parent).await {
                Ok(content) => put_history(repository, self.session, generation, switch.parent.0, &content).await?,
                Err(Error::Server(error)) if error.is_wal_removed() => {}
                Err(error) => return Err(error),
            }
        }
        // Others may have written another one: it is compared.
        self.knows_history(generation, tip).await?;
        put_history(repository, self.session, generation, tip.0, &content).await?;
        Ok(history)
    }

    /// Whether the history of `timeline` is here. One that is damaged is said to be replaced: the server has it too.
    async fn knows_history(&self, generation: u64, timeline: Tli) -> Result<bool> {
        match read_history(&self.opened.repository, generation, timeline.0).await {
            Err(repo::Error::Damaged { name, what }) => {
                let what = format!("{name} is damaged: {what}; the server's own takes its place");
                self.context.warn("history-replaced", what);
                Ok(false)
            }
            read => Ok(read?.is_some()),
        }
    }

    /// Where to go on with this server.
    async fn place(&self, identity: &Identity, history: &History, slot: Option<Lsn>) -> Result<Place> {
        let system = &identity.system;
        let mut here = Vec::new();
        for range in history.ranges().iter().rev().filter(|range| range.start < range.end) {
            let found = self.here(identity, range.timeline).await?;
            if !found.stretches.is_empty() || !found.missing.is_empty() || found.archived.is_some() {
                here.insert(0, found);
            }
            // What the slot holds back may be of a timeline before, though others have stored later ones. And the end of
            // the one that was archived before may be missing.
            let before = here.len() > 1 && here.first().is_some_and(|here: &Here| here.archived.is_some());
            if before && slot.is_none_or(|slot| range.start <= slot) {
                break;
            }
        }
        let backup = self.newest_backup(identity).await;
        let shape = shape(identity, system.timeline)?;
        Ok(place(&shape, history, &here, slot, system.flushed, backup))
    }

    async fn here(&self, identity: &Identity, timeline: Tli) -> Result<Here> {
        let generation = identity.system.system_identifier.to_string();
        let (repository, shape) = (&self.opened.repository, shape(identity, timeline)?);
        let stretches = coverage(repository, &shape).await?;
        let archived = archived_from(self.opened, &shape).await?;
        let missing = self
            .opened
            .with_state(|state| {
                let own = |gap: &&ledger::state::Gap| gap.generation == generation && gap.timeline == timeline.0;
                state
                    .gaps()
                    .iter()
                    .filter(own)
                    .map(|gap| (gap.from.0, gap.to.0))
                    .collect()
            })
            .await;
        Ok(Here {
            timeline,
            stretches,
            missing,
            archived,
        })
    }

    /// The last of what is here before `position`, and where it begins: the server has to send the same. A server keeps
    /// the whole segment that the next byte is in, and of the one before what it has not recycled yet: without that, a
    /// clone that begins with a segment would not be told from the server.
    async fn known(&self, stream: &WalStream, geometry: Geometry, position: u64) -> Result<(u64, Expected)> {
        let repository = &self.opened.repository;
        let segment = match self.recycled_before == Some(position) {
            true => stream.segment_of(position),
            false => stream.segment_of(position.saturating_sub(1)),
        };
        // Open runs beside a finished one may be of another server: then which of both is this one's is looked at from there on.
        let last = stream.done_start(position.saturating_sub(1));
        let beside = match is_done(repository, stream, last).await? {
            true => open_runs(repository, stream, last).await?,
            false => Vec::new(),
        };
        let back = match beside.is_empty() {
            true => position.saturating_sub(COMPARED),
            false => last,
        };
        if last < segment {
            // The server cannot tell any more. If they differ, nobody goes on who may be the wrong one.
            let checked = check_open_runs(repository, stream, &beside).await;
            checked.map_err(|error| undecided(error, stream, last))?;
        }
        let from = (back - back % geometry.page_bytes()).max(segment);
        match Expected::read(repository, stream, stream.done_start(from), from, position).await {
            // There is a hole or damage before it in the segment: what comes after that is known nevertheless.
            Err(repo::Error::Damaged { .. } | repo::Error::Missing { .. }) => {}
            known => return Ok((from, known?)),
        }
        let stretches = coverage(repository, stream).await?;
        let since = stretches.iter().find(|(_, end)| *end == position);
        let since = since.map_or(position, |(start, _)| *start).max(segment);
        let from = from.max(since);
        match Expected::read(repository, stream, since, from, position).await {
            // A finished run counts by its name; if it cannot be read there is nothing to compare.
            Err(repo::Error::Damaged { .. } | repo::Error::Missing { .. }) => Ok((position, Expected::default())),
            known => Ok((from, known?)),
        }
    }

    /// Where the newest backup of the server's timeline begins.
    async fn newest_backup(&self, identity: &Identity) -> Option<Lsn> {
        let generation = identity.system.system_identifier.to_string();
        let timeline = identity.system.timeline.0;
        self.opened
            .with_state(|state| {
                let lines = state.backups().map(|backup| &backup.summary);
                let own = lines
                    .filter(|line| line.generation.as_deref() == Some(&generation) && line.timeline == Some(timeline));
                own.filter_map(|line| line.start_lsn).last().map(|lsn| Lsn(lsn.0))
            })
            .await
    }

    /// Whether any of the cluster's WAL was archived without pause before `from` on `timeline`: then a hole there is a loss,
    /// on a timeline that just began as well.
    async fn archived(&self, identity: &Identity, timeline: Tli, from: u64) -> Result<bool> {
        let generation = identity.system.system_identifier;
        for other in timelines(&self.opened.repository, generation).await? {
            let before = match other == timeline.0 {
                true => from,
                false => u64::MAX,
            };
            if is_archived_before(self.opened, &shape(identity, Tli(other))?, before).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The server no longer has what comes at `from`: that is a gap, up to where it can go on.
    async fn missed(&mut self, link: &mut dyn WalLink, timeline: Tli, from: u64) -> Result<()> {
        let identity = link.identity().clone();
        check_generation(self.opened, identity.system.system_identifier).await?;
        // Another receiver may have it, and told the server so.
        if contiguous_end(&self.opened.repository, &shape(&identity, timeline)?, from).await? > from {
            return Ok(());
        }
        let history = self.history(link, &identity).await?;
        let held = slot::hold(self.context, link, self.options).await?;
        let ranges = history.ranges();
        let range = ranges.iter().find(|range| range.timeline == timeline);
        let shape = shape(&identity, timeline)?;
        let on_tip = timeline == identity.system.timeline;
        let to = match range {
            Some(range) if !on_tip => range.end.0,
            _ => {
                let kept = held.restart.map(|restart| shape.segment_of(restart.0));
                let now = shape.segment_of(identity.system.flushed.0);
                kept.filter(|kept| *kept > from).unwrap_or(now)
            }
        };
        // Where what is here goes on without a hole up to there, only what lies before it is missing.
        let stretches = coverage(&self.opened.repository, &shape).await?;
        let holding = stretches.iter().find(|stretch| (stretch.0..=stretch.1).contains(&to));
        let to = holding.map_or(to, |stretch| stretch.0.min(to));
        if to <= from {
            return Err(Error::Failed {
                code: "wal-removed",
                what: format!(
                    "{} says that it no longer has WAL from {}, and is not past it",
                    identity.server,
                    Lsn(from)
                ),
                hint: "Look into the server's log.".into(),
            });
        }
        let gap = Gap {
            timeline: timeline.0,
            from: ledger::Lsn(from),
            to: ledger::Lsn(to),
        };
        let cause = "the server no longer had it";
        let generation = identity.system.system_identifier;
        let archived = self.archived(&identity, timeline, from).await?;
        record::gap(self.context, self.opened, generation, &gap, cause, archived).await?;
        self.summary.gaps.push(gap);
        Ok(())
    }

    /// Takes note of what became durable.
    pub(super) fn durable(&mut self, bytes: u64, stretch: &Stretch, position: u64) {
        self.summary.bytes = self.summary.bytes.saturating_add(bytes);
        self.summary.timeline = Some(stretch.stream.timeline);
        self.summary.position = Some(ledger::Lsn(position));
    }

    /// What a finished run will hold that ends at `end` is complete.
    pub(super) fn complete(&mut self, stretch: &Stretch, end: u64) {
        let stream = &stretch.stream;
        self.summary.segments += u64::from(stream.segment_of(end) == end);
        let start = stream.done_start(end.saturating_sub(1));
        self.finisher.finish(*stream, stretch.geometry, start);
    }
}

enum Begun {
    Streams(Box<Stretch>, Box<dyn WalFeed>),
    /// Something has changed: the WAL that comes next is gone, which is recorded, or another receiver was quicker.
    Again,
}

fn shape(identity: &Identity, timeline: Tli) -> Result<WalStream> {
    let size = identity.facts.segment_size.bytes();
    Ok(WalStream::new(identity.system.system_identifier, timeline.0, size)?)
}

/// What a person has to decide.
fn undecided(error: repo::Error, stream: &WalStream, start: u64) -> Error {
    match error {
        repo::Error::TwoServers { .. } => Error::Repository(repo::Error::TwoServers {
            what: format!(
                "{} and the open runs from {} on hold different WAL, and this server no longer has it to tell which is its own. If the finished run is, remove those open runs and start again",
                stream.done_name(start),
                stream.run_name(start)
            ),
        }),
        error => error.into(),
    }
}

fn unlike(error: impl std::fmt::Display) -> Error {
    Error::Failed {
        code: "server-odd",
        what: format!("the server says what cannot be: {error}"),
        hint: "Look into the server's log, and check its disk and memory.".into(),
    }
}
