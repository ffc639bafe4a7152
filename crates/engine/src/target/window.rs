//! To which moments a database can be brought back.

use repo::{
    ledger::Lsn,
    names,
    wal::{Finish, Indexed, WalStream, assemble, newest_mark},
};
use serde::Serialize;

use crate::{
    Error, Result,
    archive::{Indexer, damaged},
    database::Opened,
    event::Context,
    list,
};

use super::{Piece, Timelines, base::Base, scan::is_damage};

/// A segment that is not finished has as many open runs as seconds passed, or fewer.
const MOST_RUNS: usize = 10_000;

/// What can be reached, and what cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Moments that can be reached, by timeline, oldest first.
    pub ranges: Vec<Range>,
    /// Holes in the WAL.
    pub gaps: Vec<Gap>,
}

/// A stretch of moments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Range {
    /// The timeline.
    pub timeline: u32,
    /// The first position, and about when that was: microseconds since 1970-01-01 UTC.
    pub from: Lsn,
    /// The time of it.
    pub from_time: Option<i64>,
    /// The last position.
    pub to: Lsn,
    /// Until when it is known that nothing more was written.
    pub to_time: Option<i64>,
    /// When a receiver was last seen at work: by the server's clock for a mark, by the store's for what was stored.
    pub heard: Option<i64>,
    /// Whether a person said that it is a copy's, and that its parent goes on.
    pub beside: bool,
    /// The backups in it that a recovery can begin with.
    pub backups: Vec<String>,
}

/// WAL that is missing between WAL that is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The timeline.
    pub timeline: u32,
    /// The first position that is missing.
    pub from: Lsn,
    /// The first that is here again.
    pub to: Lsn,
    /// Why, as far as the ledger says.
    pub cause: Option<String>,
    /// Whether somebody archived this timeline without pause, so that a hole is damage. Backups alone leave holes.
    pub archived: bool,
    /// What to do.
    pub advice: String,
}

/// Looks at all backups and all WAL.
///
/// # Errors
/// Those of the repository.
pub async fn window(context: &Context, opened: &Opened) -> Result<Window> {
    let backups = list::backups(opened).await;
    let mut window = Window {
        ranges: Vec::new(),
        gaps: Vec::new(),
    };
    let Some(timelines) = Timelines::of(context, opened, &backups).await? else {
        return Ok(window);
    };
    for (timeline, coverage) in &timelines.coverage {
        context.stop.check()?;
        let stream = timelines.stream(*timeline)?;
        for (number, (_, to)) in coverage.iter().enumerate() {
            if let Some(range) = range(opened, &timelines, &stream, &backups, *to).await? {
                window.ranges.push(range);
            }
            let archived = timelines.is_archived(*timeline, *to);
            let next = match coverage.get(number + 1) {
                Some((next, _)) => Some(*next),
                // What was here and is no more, or cannot be read.
                None => Some(timelines.known_end(*timeline)).filter(|known| archived && known > to),
            };
            if let Some(next) = next {
                window
                    .gaps
                    .push(gap(opened, &stream, &backups, (*to, next), archived).await);
            }
        }
    }
    for timeline in timelines.coverage.keys() {
        let shown = window.ranges.iter().any(|range| range.timeline == *timeline);
        if let Some(name) = timelines.lost_history(*timeline).filter(|_| !shown) {
            let what = format!("{name} is not here, or damaged: nothing leads to the WAL of timeline {timeline}");
            context.warn("history-missing", what);
        }
    }
    for hole in before_children(&timelines, &backups) {
        let stream = timelines.stream(hole.timeline)?;
        let known = |gap: &Gap| gap.timeline == hole.timeline && gap.from.0 == hole.from;
        if !window.gaps.iter().any(known) {
            let archived = timelines.is_archived(hole.timeline, hole.from);
            window
                .gaps
                .push(gap(opened, &stream, &backups, (hole.from, hole.to), archived).await);
        }
    }
    Ok(window)
}

/// WAL that is missing between a timeline's last and the one that goes on from it: neither has a hole of its own.
fn before_children(timelines: &Timelines, backups: &[list::Backup]) -> Vec<Piece> {
    let mut holes = Vec::new();
    for tip in timelines.coverage.keys() {
        let bases = backups
            .iter()
            .rev()
            .filter_map(|backup| Base::of(backup, timelines.generation));
        let mut leading = bases.filter(|base| timelines.contains(*tip, base.timeline, base.stop));
        let path = leading
            .next()
            .and_then(|base| timelines.path(*tip, base.timeline, base.start));
        holes.extend(path.and_then(|path| path.gap));
    }
    holes
}

/// What of a timeline can be reached up to `to`, where a stretch of its WAL ends.
async fn range(
    opened: &Opened,
    timelines: &Timelines,
    stream: &WalStream,
    backups: &[list::Backup],
    to: u64,
) -> Result<Option<Range>> {
    let timeline = stream.timeline;
    let (mut from, mut from_time, mut usable) = (u64::MAX, None, Vec::new());
    for backup in backups {
        let Some(base) = Base::of(backup, stream.generation) else {
            continue;
        };
        let (start, stop, own) = (Lsn(base.start), Lsn(base.stop), base.timeline);
        if !timelines.contains(timeline, own, stop.0) {
            continue;
        }
        let path = timelines.path(timeline, own, start.0);
        let reaches = path.is_some_and(|path| {
            let last = path.pieces.last();
            last.is_some_and(|piece| piece.timeline == timeline && piece.to == to && stop.0 <= to)
        });
        if !reaches {
            continue;
        }
        usable.push(backup.id.clone());
        // Before the timeline began, the moments are its parent's.
        let begins = timelines
            .history(timeline)
            .ranges()
            .last()
            .map_or(0, |range| range.start.0);
        let first = stop.0.max(begins);
        if first < from {
            from = first;
            from_time = (stop.0 >= begins).then_some(backup.stopped);
        }
    }
    if usable.is_empty() {
        return Ok(None);
    }
    Ok(Some(Range {
        timeline,
        from: Lsn(from),
        from_time,
        to: Lsn(to),
        to_time: until(opened, timelines, stream, to).await?,
        heard: heard(opened, stream, to).await?,
        beside: timelines.is_beside(timeline),
        backups: usable,
    }))
}

/// When a receiver was last seen at work: its newest mark, or the last that was stored before `to`, by the store's clock. A
/// server that is never idle is never marked as idle. Without any mark nobody receives, and what is archived by the server
/// itself comes when it comes.
async fn heard(opened: &Opened, stream: &WalStream, to: u64) -> Result<Option<i64>> {
    let repository = &opened.repository;
    let Some(mark) = newest_mark(repository, stream).await? else {
        return Ok(None);
    };
    let last = to.saturating_sub(1);
    let segment = names::wal_segment(stream.generation, stream.timeline, stream.segment_of(last));
    let store = repository.store();
    let open = store.list_after(&segment, "", MOST_RUNS).await?;
    let finished = store.head(&stream.done_name(last)).await?;
    let stored = open
        .into_iter()
        .chain(finished)
        .map(|object| object.modified_micros)
        .max();
    Ok(stored.into_iter().chain([mark.at]).max())
}

/// Until when it is known what was written up to `to`: by a mark, or by the last transaction that ended, if that is later.
async fn until(opened: &Opened, timelines: &Timelines, stream: &WalStream, to: u64) -> Result<Option<i64>> {
    let mark = newest_mark(&opened.repository, stream).await?;
    let mark = mark.filter(|mark| mark.position.0 <= to && to - mark.position.0 < stream.segment_size());
    if let Some(mark) = mark.filter(|mark| mark.position.0 == to) {
        return Ok(Some(mark.at));
    }
    let ended = match last_ended(opened, timelines, stream, to).await {
        // All else of the window is known; what is damaged is a hole from now on.
        Err(error) if is_damage(&error) => {
            damaged::remember(opened, &error).await;
            None
        }
        told => told?,
    };
    Ok(mark.map(|mark| mark.at).max(ended))
}

/// When the last transaction ended before `to`, in the run that a finished one holds or will hold, or in the one before.
async fn last_ended(opened: &Opened, timelines: &Timelines, stream: &WalStream, to: u64) -> Result<Option<i64>> {
    let start = stream.done_start(to.saturating_sub(1));
    let before = start.checked_sub(1).map(|last| (stream.done_start(last), start));
    for (from, to) in [Some((start, to)), before].into_iter().flatten() {
        let latest = match Indexed::open(&opened.repository, stream, from).await? {
            Some(run) => run.summary().await?.latest,
            None => match in_open_runs(opened, timelines, stream, (from, to)).await {
                // There a backup's WAL may begin in the middle.
                Err(Error::Repository(repo::Error::Missing { .. })) => None,
                told => told?,
            },
        };
        if latest.is_some() {
            return Ok(latest);
        }
    }
    Ok(None)
}

async fn in_open_runs(
    opened: &Opened,
    timelines: &Timelines,
    stream: &WalStream,
    (from, to): (u64, u64),
) -> Result<Option<i64>> {
    let indexer = Indexer::new(timelines.geometry, timelines.generation, from)?;
    let mut indexer = indexer.of_major(timelines.major);
    assemble(&opened.repository, *stream, from, to, |_, bytes| {
        indexer.feed(bytes);
        Ok(())
    })
    .await?;
    Ok(indexer.index().summary.latest)
}

async fn gap(
    opened: &Opened,
    stream: &WalStream,
    backups: &[list::Backup],
    (from, to): (u64, u64),
    archived: bool,
) -> Gap {
    let generation = stream.generation.to_string();
    let cause = opened
        .with_state(|state| {
            let mut gaps = state.gaps().iter().rev();
            let known = gaps.find(|gap| {
                gap.generation == generation && gap.timeline == stream.timeline && gap.from.0 < to && gap.to.0 > from
            });
            known.map(|gap| gap.cause.clone())
        })
        .await;
    let cause =
        cause.or_else(|| archived.then(|| format!("{} is not here, or damaged", stream.missing_name(from, to))));
    let after = backups.iter().find(|backup| {
        let start = backup.start_lsn.as_deref().and_then(|text| text.parse::<Lsn>().ok());
        backup.timeline == Some(stream.timeline) && start.is_some_and(|start| start.0 >= to)
    });
    let advice = match after {
        Some(backup) => format!("what lies behind it is reached from the backup {}", backup.id),
        None => "take a backup now: what lies behind it can be reached from no backup".into(),
    };
    Gap {
        timeline: stream.timeline,
        from: Lsn(from),
        to: Lsn(to),
        cause,
        archived,
        advice,
    }
}
