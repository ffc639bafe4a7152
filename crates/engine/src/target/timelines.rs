//! The timelines of a cluster, how they hang together, and the WAL of each that is here.

use std::collections::{BTreeMap, BTreeSet};

use pgformat::{Lsn, Major, Tli, history::History, segment::SegmentSize, wal::Geometry};
use repo::{
    Repository,
    ledger::State,
    manifest::Postgresql,
    wal::{Coverage, WalStream, coverage, known_end, read_history, timelines},
};

use crate::{
    Error, Result,
    archive::{archived::archived_from, damaged, left},
    database::Opened,
    event::Context,
    list::Backup,
    restore,
};

/// What is known of the cluster's WAL.
pub(crate) struct Timelines {
    pub(crate) repository: Repository,
    /// The cluster's system identifier.
    pub(crate) generation: u64,
    /// The version of the cluster: another one comes with another system identifier (`pg_upgrade`).
    pub(crate) major: Major,
    pub(crate) geometry: Geometry,
    /// The stretches that are here, of each timeline.
    pub(crate) coverage: BTreeMap<u32, Coverage>,
    /// Up to where WAL of each timeline was here for certain.
    known: BTreeMap<u32, u64>,
    /// Timelines whose WAL somebody archived without pause: a hole in it is damage.
    archived: BTreeSet<u32>,
    /// The past of each timeline.
    histories: BTreeMap<u32, History>,
    /// Timelines that left one which goes on, as a person said, and those that come from them.
    beside: BTreeSet<u32>,
}

/// A stretch of one timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) timeline: u32,
    /// First position.
    pub(crate) from: u64,
    /// The position after the last.
    pub(crate) to: u64,
}

/// The WAL from a position to the end of a timeline, as far as it is here without a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) tip: u32,
    pub(crate) pieces: Vec<Piece>,
    /// If it ends before the tip's WAL does: what is missing.
    pub(crate) gap: Option<Piece>,
    /// Whether some WAL lies after it which nobody archived: that of backups, which have holes between them.
    pub(crate) more: bool,
}

impl Path {
    /// The position after the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.pieces.last().map_or(0, |piece| piece.to)
    }

    /// The timeline that holds the byte at `position`.
    pub(crate) fn timeline_of(&self, position: u64) -> u32 {
        let holder = self.pieces.iter().rev().find(|piece| piece.from <= position);
        holder.map_or(self.tip, |piece| piece.timeline)
    }

    /// What of it lies before `end`.
    pub(crate) fn until(&self, end: u64) -> Vec<Piece> {
        let cut = |piece: &Piece| Piece {
            to: piece.to.min(end),
            ..*piece
        };
        let pieces = self.pieces.iter().map(cut);
        pieces.filter(|piece| piece.from < piece.to).collect()
    }
}

impl Timelines {
    /// Looks at all WAL of the cluster whose backups these are; `None` without any. How its WAL is laid out, all its backups
    /// agree on: any that can be read will do.
    pub(crate) async fn of(context: &Context, opened: &Opened, backups: &[Backup]) -> Result<Option<Timelines>> {
        let mut refused = None;
        for backup in backups.iter().rev() {
            context.stop.check()?;
            let found = opened.find(Some(&backup.id)).await?;
            match restore::manifest(opened, &found).await {
                Ok(manifest) => {
                    let server = manifest.facts.postgresql;
                    return Timelines::load(context, opened, &server).await.map(Some);
                }
                Err(Error::Repository(error)) if !error.is_transient() => {
                    let what = format!("the manifest of the backup {} cannot be read: {error}", backup.id);
                    context.warn("backup-unreadable", what);
                    refused.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        refused.map_or(Ok(None), |error| Err(error.into()))
    }

    /// Looks at all WAL of the cluster that a backup tells of.
    async fn load(context: &Context, opened: &Opened, server: &Postgresql) -> Result<Timelines> {
        let repository = opened.repository.clone();
        let (generation, segment_size) = (server.generation, server.segment_size);
        let odd = |error: pgformat::Error| Error::Failed {
            code: "wal-geometry",
            what: format!("the cluster's WAL cannot be laid out as a backup of it says: {error}"),
            hint: "Verify the backup; its manifest is odd.".into(),
        };
        let size = SegmentSize::new(segment_size).map_err(odd)?;
        let geometry = Geometry::new(size, server.wal_block_size).map_err(odd)?;
        let major = Major::from_server_version_num(server.version_num).map_err(odd)?;
        let (mut here, mut known) = (BTreeMap::new(), BTreeMap::new());
        let (mut histories, mut archived) = (BTreeMap::new(), BTreeSet::new());
        for timeline in timelines(&repository, generation).await? {
            let stream = WalStream::new(generation, timeline, segment_size)?;
            known.insert(timeline, known_end(&repository, &stream).await?);
            let mut stretches = coverage(&repository, &stream).await?;
            damaged::take_out(opened, &stream, &mut stretches).await?;
            here.insert(timeline, stretches);
            if archived_from(opened, &stream).await?.is_some() {
                archived.insert(timeline);
            }
            match history(&repository, generation, timeline).await {
                Ok(found) => histories.extend(found.map(|history| (timeline, history))),
                // That timeline stands alone then; the others are what they were.
                Err(Error::Repository(error)) if !error.is_transient() => {
                    context.warn("history-unreadable", error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        let beside = opened.with_state(|state| beside(state, generation, &histories)).await;
        Ok(Timelines {
            repository,
            generation,
            major,
            geometry,
            coverage: here,
            known,
            archived,
            histories,
            beside,
        })
    }

    /// The past of `timeline`. One later than the first that has no history file stands alone.
    pub(crate) fn history(&self, timeline: u32) -> History {
        let known = self.histories.get(&timeline).cloned();
        known.unwrap_or_else(|| History::without_past(Tli(timeline)))
    }

    /// The name of the history file of `timeline`, if it has a past that nobody can tell.
    pub(crate) fn lost_history(&self, timeline: u32) -> Option<String> {
        let lost = timeline > 1 && !self.histories.contains_key(&timeline);
        lost.then(|| repo::names::wal_history(self.generation, timeline))
    }

    /// Whether that timeline, or one it comes from, left another that goes on, as a person said: it is a copy's then, and
    /// the cluster's latest moment is not its.
    pub(crate) fn is_beside(&self, timeline: u32) -> bool {
        self.beside.contains(&timeline)
    }

    /// Whether somebody archived that timeline's WAL without pause at `position`: a hole there is damage.
    ///
    /// Whoever archived a timeline goes on with the one that comes from it, and who only pushes leaves nothing that tells so
    /// before the first segment is finished. Further on, a child without a finished segment is one that backups alone know.
    pub(crate) fn is_archived(&self, timeline: u32, position: u64) -> bool {
        let ranges = self.history(timeline).ranges();
        let begins = ranges.last().map_or(0, |own| own.start.0);
        let size = self.segment_size();
        let in_first = position / size == begins / size;
        let of_past = || ranges.iter().any(|range| self.archived.contains(&range.timeline.0));
        self.archived.contains(&timeline) || in_first && of_past()
    }

    pub(crate) fn segment_size(&self) -> u64 {
        self.geometry.segment_size().bytes()
    }

    pub(crate) fn stream(&self, timeline: u32) -> Result<WalStream> {
        Ok(WalStream::new(self.generation, timeline, self.segment_size())?)
    }

    /// Whether `position` of `timeline` lies in the past of `tip`.
    pub(crate) fn contains(&self, tip: u32, timeline: u32, position: u64) -> bool {
        self.history(tip).contains(Tli(timeline), Lsn(position))
    }

    /// The WAL from `start` on `timeline` to the end of `tip`; `None` if `tip` does not come from there.
    ///
    /// A timeline begins with a copy of the segment in which it leaves its parent: so the parent's WAL is needed up to
    /// that segment only.
    pub(crate) fn path(&self, tip: u32, timeline: u32, start: u64) -> Option<Path> {
        let ranges = self.history(tip).path(Tli(timeline), Lsn(start), Lsn(u64::MAX))?;
        let size = self.segment_size();
        let mut path = Path {
            tip,
            pieces: Vec::new(),
            gap: None,
            more: false,
        };
        for (number, range) in ranges.iter().enumerate() {
            let begins = if number == 0 {
                start
            } else {
                range.start.0 - range.start.0 % size
            };
            let next = ranges.get(number + 1);
            let wanted = next.map_or(u64::MAX, |next| next.start.0 - next.start.0 % size);
            let from = begins
                .max(start - start % size)
                .max(if path.pieces.is_empty() { start } else { 0 });
            if from >= wanted {
                continue;
            }
            let reached = self.reaches(range.timeline.0, from);
            if reached > from {
                path.pieces.push(Piece {
                    timeline: range.timeline.0,
                    from,
                    to: reached.min(wanted),
                });
            }
            if reached < wanted {
                let is_tip = range.timeline.0 == tip;
                let missing = reached.max(from);
                path.more = self.after(range.timeline.0, missing);
                let lost = path.more || self.known_end(range.timeline.0) > missing;
                let is_gap = !is_tip || lost && self.is_archived(tip, missing);
                path.gap = is_gap.then(|| Piece {
                    timeline: range.timeline.0,
                    from: missing,
                    to: self.goes_on(range.timeline.0, missing).unwrap_or(wanted).min(wanted),
                });
                break;
            }
        }
        Some(path)
    }

    /// Where the stretch ends that holds the byte at `position`; `position` if none does.
    pub(crate) fn reaches(&self, timeline: u32, position: u64) -> u64 {
        let stretches = self.coverage.get(&timeline).into_iter().flatten();
        let mut holding = stretches.filter(|(from, to)| (*from..*to).contains(&position));
        holding.next().map_or(position, |(_, to)| *to)
    }

    /// Where the next stretch begins after `position`, or up to where WAL is known to have been here.
    fn goes_on(&self, timeline: u32, position: u64) -> Option<u64> {
        let stretches = self.coverage.get(&timeline).into_iter().flatten();
        let next = stretches.map(|(from, _)| *from).find(|from| *from > position);
        next.or_else(|| Some(self.known_end(timeline)).filter(|end| *end > position))
    }

    /// Up to where WAL of `timeline` was here for certain, whether it still is or not.
    pub(crate) fn known_end(&self, timeline: u32) -> u64 {
        self.known.get(&timeline).copied().unwrap_or(0)
    }

    /// Whether any WAL of `timeline` past `position` is here.
    fn after(&self, timeline: u32, position: u64) -> bool {
        let mut stretches = self.coverage.get(&timeline).into_iter().flatten();
        stretches.any(|(_, to)| *to > position)
    }
}

/// Which of these come from a switch of which a person said that the timeline left there goes on.
fn beside(state: &State, generation: u64, histories: &BTreeMap<u32, History>) -> BTreeSet<u32> {
    let is_beside = |history: &History| {
        let ranges = history.ranges();
        let mut steps = ranges.iter().zip(ranges.iter().skip(1));
        steps.any(|(parent, child)| left::is_accepted(state, generation, parent.timeline.0, child.timeline.0))
    };
    let copies = histories.iter().filter(|(_, history)| is_beside(history));
    copies.map(|(timeline, _)| *timeline).collect()
}

/// The history file of a timeline, read.
async fn history(repository: &Repository, generation: u64, timeline: u32) -> Result<Option<History>> {
    let Some(content) = read_history(repository, generation, timeline).await? else {
        return Ok(None);
    };
    let parsed = History::parse(Tli(timeline), &content).map_err(|error| {
        let name = repo::names::wal_history(generation, timeline);
        let what = error.to_string();
        repo::Error::Damaged { name, what }
    })?;
    Ok(Some(parsed))
}
