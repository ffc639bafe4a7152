//! A search along the past of one timeline.

mod everywhere;

use std::collections::BTreeMap;

use repo::{
    ledger::Lsn,
    wal::{
        index::{Ending, EndingKind},
        newest_mark,
    },
};

use crate::{Error, Result, event::Context};

use super::{
    Moment, Path, Piece, Target, Timelines,
    base::{Base, First},
    find::{Wanted, damaged, no_timeline, refused, shown},
    scan::{Chunk, Place, Scan, Want, last_until},
};

/// So many late ends of transactions are shown.
const MAX_LATER: usize = 10;
/// So many stretches past the target are looked through for them.
const LATER_STRETCHES: u32 = 4;

/// Looks for a moment along the past of one timeline.
pub(super) struct Search<'a> {
    context: &'a Context,
    timelines: &'a Timelines,
    tip: u32,
}

impl<'a> Search<'a> {
    pub(super) fn new(context: &'a Context, timelines: &'a Timelines, tip: u32) -> Search<'a> {
        Search {
            context,
            timelines,
            tip,
        }
    }

    /// All places that `wanted` may mean, each from the backup that is best to begin with.
    pub(super) async fn run(&self, wanted: &Wanted, bases: &[Base]) -> Result<Vec<Target>> {
        let fits = |base: &&Base| self.timelines.contains(self.tip, base.timeline, base.stop);
        let mut bases: Vec<&Base> = bases.iter().filter(fits).collect();
        // The newest first; what failed its verification only if nothing else leads there.
        bases.sort_by_key(|base| (base.failed, std::cmp::Reverse(base.stop)));
        if bases.is_empty() {
            let lost = self.timelines.lost_history(self.tip);
            let lost = lost.map_or(String::new(), |name| format!(": {name} is not here, or damaged"));
            return Err(refused(
                "no-backup-before",
                format!("WAL of timeline {} is here, and no backup leads to it{lost}", self.tip),
                "See `lastgood window` for what can be reached; say `--timeline N` for the newest moment of another timeline.",
            ));
        }
        match wanted {
            Wanted::Latest => {
                let mut first = First::default();
                for base in bases {
                    if let Some(target) = first.of(self.latest(base).await.map(Some))? {
                        return Ok(vec![target]);
                    }
                }
                Ok(first.none()?.into_iter().collect())
            }
            Wanted::Time(moment) => self.time(&bases, *moment).await.map(|target| vec![target]),
            Wanted::Lsn(position) => self.lsn(&bases, *position).await.map(|target| vec![target]),
            Wanted::Xid { xid, before } => self.xid(&bases, *xid, *before).await,
            Wanted::Point(name) => self.point(&bases, name).await,
        }
    }

    fn path(&self, base: &Base) -> Result<Path> {
        let path = self.timelines.path(self.tip, base.timeline, base.start);
        path.ok_or_else(|| no_timeline(Some(self.tip)))
    }

    /// The last record of all. WAL after a gap is not passed over in silence.
    async fn latest(&self, base: &Base) -> Result<Target> {
        let path = self.path(base)?;
        if let Some(gap) = path.gap {
            return Err(self.gap(&path, gap).await);
        }
        if path.more {
            let end = Lsn(path.end());
            self.context.warn(
                "wal-after",
                format!("some WAL lies after {end}, with a hole before it, as a backup leaves it that did not end: it cannot be reached"),
            );
        }
        let last = self.last(&path, base).await?;
        self.around(&path, base, last).await
    }

    /// The last whole record of a path.
    async fn last(&self, path: &Path, base: &Base) -> Result<Place> {
        let last = last_until(self.timelines, path, path.end()).await?;
        let last = last.filter(|last| last.end >= base.stop);
        last.ok_or_else(|| {
            refused(
                "wal-missing",
                format!(
                    "the WAL that the backup {} needs is not all here: it ends at {}",
                    base.id,
                    Lsn(path.end())
                ),
                "Verify that backup; restore an earlier one with --at backup:ID.",
            )
        })
    }

    async fn time(&self, bases: &[&Base], moment: i64) -> Result<Target> {
        // Clocks differ; so a backup that seems to be later is only tried after all others.
        let (likely, unlikely): (Vec<&Base>, Vec<&Base>) = bases.iter().partition(|base| base.started <= moment);
        let mut first = First::default();
        for base in likely.into_iter().chain(unlikely) {
            if let Some(target) = first.of(self.time_from(base, moment).await)? {
                return Ok(target);
            }
        }
        first.none::<Target>()?;
        Err(self.before_all(bases, &format!("the moment {}", shown(moment))))
    }

    /// The target from one backup; `None` if that is of a later moment.
    async fn time_from(&self, base: &Base, moment: i64) -> Result<Option<Target>> {
        let path = self.path(base)?;
        let mut scan = Scan::new(self.context, self.timelines, &path.pieces, Want::Transactions)?;
        let mut seen = Seen::default();
        let mut stopped = None;
        // The moment is not before the backup, if the clocks say so, or a transaction that ended after it began did before
        // the moment.
        let mut begun = base.started <= moment;
        while let Some(chunk) = scan.next().await? {
            for ending in &chunk.transactions.endings {
                // PostgreSQL stops before ends of transactions only (`recoveryStopsBefore`).
                if ending.time > moment && ending.kind != EndingKind::Prepare {
                    // The record before is the one that ends the backup, or a later one, if this begins at or after its end.
                    if ending.lsn.0 < base.stop || !begun {
                        return Ok(None);
                    }
                    let place = Place {
                        record: ending.prev.0,
                        end: ending.lsn.0,
                    };
                    let mut target = self.target(&seen, base, &path, place, Some(ending));
                    target.later = later(&mut scan, &chunk, ending, moment).await?;
                    return Ok(Some(target));
                }
                begun |= ending.time <= moment;
                seen.ending(ending);
            }
            if let Some(broken) = chunk.summary.broken {
                stopped = Some(broken);
                break;
            }
        }
        // Whatever came after it: all that this backup leads to is later.
        if !begun {
            return Ok(None);
        }
        // No transaction ended after the moment: whether none did, or none is here, a mark tells.
        if let Some(what) = stopped {
            return Err(damaged(&what));
        }
        if let Some(gap) = path.gap {
            return Err(self.gap(&path, gap).await);
        }
        let last = self.last(&path, base).await?;
        let mark = newest_mark(&self.timelines.repository, &self.timelines.stream(self.tip)?).await?;
        // What was written since the mark is here as well, and ended nothing after the moment.
        let mark = mark.filter(|mark| mark.position.0 <= path.end());
        let until = mark
            .map(|mark| mark.at)
            .into_iter()
            .chain(seen.last.as_ref().map(|last| last.time))
            .max();
        match until {
            Some(until) if moment <= until => Ok(Some(self.target(&seen, base, &path, last, None))),
            until => Err(refused(
                "time-not-reached",
                format!(
                    "what happened until {} is not known here: the WAL of timeline {} reaches to {}",
                    shown(moment),
                    self.tip,
                    until.map_or(Lsn(path.end()).to_string(), shown)
                ),
                "Say `--at latest` for the last that is here.",
            )),
        }
    }

    async fn lsn(&self, bases: &[&Base], position: u64) -> Result<Target> {
        let mut first = First::default();
        for base in bases.iter().filter(|base| base.stop <= position) {
            if let Some(target) = first.of(self.lsn_from(base, position).await)? {
                return Ok(target);
            }
        }
        first.none::<Target>()?;
        Err(self.before_all(bases, &format!("the position {}", Lsn(position))))
    }

    async fn lsn_from(&self, base: &Base, position: u64) -> Result<Option<Target>> {
        let path = self.path(base)?;
        if position > path.end() {
            if let Some(gap) = path.gap {
                return Err(self.gap(&path, gap).await);
            }
            return Err(refused(
                "lsn-not-reached",
                format!(
                    "the WAL of timeline {} reaches to {}, not to {}",
                    self.tip,
                    Lsn(path.end()),
                    Lsn(position)
                ),
                "Say `--at latest` for the last that is here.",
            ));
        }
        let last = last_until(self.timelines, &path, position).await?;
        match last.filter(|last| last.end >= base.stop) {
            Some(last) => self.around(&path, base, last).await.map(Some),
            None => Ok(None),
        }
    }

    /// What stands around a place that is known.
    async fn around(&self, path: &Path, base: &Base, place: Place) -> Result<Target> {
        let mut scan = Scan::new(self.context, self.timelines, &path.pieces, Want::Transactions)?;
        let mut seen = Seen::default();
        while let Some(ahead) = scan.ahead() {
            let next = match ahead.from < place.end {
                true => scan.next().await?,
                false => scan.next_unneeded().await?,
            };
            let Some(chunk) = next else { break };
            for ending in &chunk.transactions.endings {
                if ending.lsn.0 > place.record {
                    return Ok(self.target(&seen, base, path, place, Some(ending)));
                }
                seen.ending(ending);
            }
            if let Some(broken) = chunk.summary.broken
                && chunk.to <= place.record
            {
                return Err(damaged(&broken));
            }
            // Past the place, one more stretch is enough to tell what comes next.
            if chunk.from > place.end {
                break;
            }
        }
        Ok(self.target(&seen, base, path, place, None))
    }

    /// A record before a timeline parted belongs to its parent; the child has a copy of the segment in which it did, which
    /// serves where the parent's own was never stored.
    fn target(&self, seen: &Seen, base: &Base, path: &Path, place: Place, after: Option<&Ending>) -> Target {
        let owner = self
            .timelines
            .history(self.tip)
            .timeline_of(pgformat::Lsn(place.record))
            .0;
        let of_owner = self.timelines.path(owner, base.timeline, base.start);
        let of_owner = of_owner.filter(|path| path.end() >= place.end);
        let (timeline, pieces) = match of_owner {
            Some(path) => (owner, path.until(place.end)),
            None => (path.timeline_of(place.record), path.until(place.end)),
        };
        Target {
            backup: base.id.clone(),
            timeline,
            record: Lsn(place.record),
            end: Lsn(place.end),
            before: seen.last.clone(),
            after: after.map(told),
            prepared: seen.prepared.values().cloned().collect(),
            later: Vec::new(),
            pieces,
        }
    }

    fn before_all(&self, bases: &[&Base], what: &str) -> Error {
        let first = bases.iter().min_by_key(|base| base.stop);
        let earliest = first.map_or("there is none".into(), |base| {
            format!(
                "the earliest is the end of {} at {} (--at backup:{0})",
                base.id,
                Lsn(base.stop)
            )
        });
        refused(
            "before-first-backup",
            format!(
                "{what} is before the end of every backup of timeline {}; {earliest}",
                self.tip
            ),
            "A backup can only be brought forward, from its end.",
        )
    }

    async fn gap(&self, path: &Path, gap: Piece) -> Error {
        let (timeline, position) = (gap.timeline, gap.from);
        let name = match self.timelines.stream(timeline) {
            Ok(stream) => stream.missing_name(position, gap.to),
            Err(error) => return error,
        };
        let last = last_until(self.timelines, path, path.end()).await.ok().flatten();
        let until = last.map_or("See `lastgood window`.".to_string(), |last| {
            format!(
                "The last moment before the gap is `--at lsn:{}`; `lastgood window` shows what lies behind it.",
                Lsn(last.end)
            )
        });
        refused(
            "wal-gap",
            format!(
                "WAL is missing from {} on timeline {timeline} on, and more was there: {name} is not here, or damaged",
                Lsn(position)
            ),
            until,
        )
    }
}

/// Late ends of transactions with an early time: what a user may miss after a recovery to that time.
async fn later(scan: &mut Scan<'_>, chunk: &Chunk, first: &Ending, moment: i64) -> Result<Vec<Moment>> {
    let late = |ending: &&Ending| ending.lsn.0 > first.lsn.0 && ending.time <= moment;
    let mut later: Vec<Moment> = chunk.transactions.endings.iter().filter(late).map(told).collect();
    for _ in 0..LATER_STRETCHES {
        let Some(chunk) = scan.next_unneeded().await? else {
            break;
        };
        later.extend(chunk.transactions.endings.iter().filter(late).map(told));
    }
    later.truncate(MAX_LATER);
    Ok(later)
}

/// What was passed on the way.
#[derive(Default)]
struct Seen {
    last: Option<Moment>,
    prepared: BTreeMap<u32, Moment>,
}

impl Seen {
    fn ending(&mut self, ending: &Ending) {
        match ending.kind {
            EndingKind::Prepare => {
                self.prepared.insert(ending.xid, told(ending));
            }
            EndingKind::CommitPrepared | EndingKind::AbortPrepared => {
                self.prepared.remove(&ending.xid);
            }
            EndingKind::Commit | EndingKind::Abort => {}
        }
        self.last = Some(told(ending));
    }
}

fn told(ending: &Ending) -> Moment {
    Moment {
        xid: ending.xid,
        kind: ending.kind,
        time: ending.time,
        lsn: ending.lsn,
        name: ending.name.clone(),
    }
}
