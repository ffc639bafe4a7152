//! From what a user said to the record at which recovery ends.

use std::collections::BTreeMap;

use repo::{
    ledger::Lsn,
    wal::{
        index::{Ending, EndingKind},
        newest_mark,
    },
};

use crate::{
    Error, Result,
    event::Context,
    list::{self, Backup},
};

use super::{
    At, Moment, Path, Target, Timelines,
    scan::{Chunk, Place, Scan, last_until},
};

/// So many late ends of transactions are shown.
const MAX_LATER: usize = 10;
/// So many stretches past the target are looked through for them.
const LATER_STRETCHES: u32 = 4;

/// A backup that a recovery may begin with.
#[derive(Debug, Clone)]
struct Base {
    id: String,
    timeline: u32,
    start: u64,
    /// Where the record begins that makes it consistent is before this; nothing earlier can be a target.
    stop: u64,
    started: i64,
    failed: bool,
}

/// What is looked for along one path.
enum Wanted {
    Latest,
    Time(i64),
    Lsn(u64),
    Xid { xid: u32, before: bool },
    Point(String),
}

/// Finds the target of `at` and the backup to begin with.
///
/// # Errors
/// [`Error::Refused`] if there is no such moment, or more than one; or if the WAL that leads there is not all here.
pub(crate) async fn find(
    context: &Context,
    timelines: &Timelines,
    backups: &[Backup],
    at: &At,
    chosen: Option<u32>,
) -> Result<Target> {
    let now = context.runtime.clock.now_micros();
    let wanted = match at {
        At::Latest | At::Backup(_) => Wanted::Latest,
        At::Time(_) | At::Ago(_) => Wanted::Time(at.moment(now).unwrap_or(now)),
        At::Lsn(position) => Wanted::Lsn(position.0),
        At::Xid(xid) => Wanted::Xid {
            xid: *xid,
            before: false,
        },
        At::BeforeXid(xid) => Wanted::Xid {
            xid: *xid,
            before: true,
        },
        At::Point(name) => Wanted::Point(name.clone()),
    };
    let bases: Vec<Base> = backups
        .iter()
        .filter_map(|backup| base(backup, timelines.generation))
        .collect();
    let mut tips: Vec<u32> = timelines.coverage.keys().copied().collect();
    tips.retain(|tip| chosen.is_none_or(|chosen| chosen == *tip));
    if tips.is_empty() {
        return Err(no_timeline(chosen));
    }
    let mut found: BTreeMap<(u32, u64), Target> = BTreeMap::new();
    let mut refusal = None;
    // The newest timeline first: of what is refused, its reason is the one to tell.
    for tip in tips.into_iter().rev() {
        let search = Search {
            context,
            timelines,
            tip,
            wanted: &wanted,
        };
        match search.run(&bases).await {
            Ok(targets) => {
                for target in targets {
                    found.entry((target.timeline, target.record.0)).or_insert(target);
                }
                if matches!(wanted, Wanted::Latest) {
                    break;
                }
            }
            Err(error @ Error::Refused { .. }) => {
                // Of the newest timeline the newest moment is asked: what is missing there is not found elsewhere.
                let ends = matches!(wanted, Wanted::Latest) && !is_without_backup(&error);
                refusal.get_or_insert(error);
                if ends {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    let mut all = found.into_values();
    match (all.next(), all.next()) {
        (Some(target), None) => Ok(target),
        (Some(first), Some(second)) => Err(ambiguous(&wanted, first, second, all)),
        (None, _) => Err(refusal.unwrap_or_else(|| no_timeline(chosen))),
    }
}

const WITHOUT_BACKUP: &str = "no-backup-before";

fn is_without_backup(error: &Error) -> bool {
    matches!(error, Error::Refused { code, .. } if *code == WITHOUT_BACKUP)
}

fn base(backup: &Backup, generation: u64) -> Option<Base> {
    let position = |text: &Option<String>| text.as_deref()?.parse::<Lsn>().ok().map(|lsn| lsn.0);
    if backup.generation.as_deref() != Some(generation.to_string().as_str()) {
        return None;
    }
    Some(Base {
        id: backup.id.clone(),
        timeline: backup.timeline?,
        start: position(&backup.start_lsn)?,
        stop: position(&backup.stop_lsn)?,
        started: backup.started,
        failed: list::failure(backup).is_some(),
    })
}

/// A search along the past of one timeline.
struct Search<'a> {
    context: &'a Context,
    timelines: &'a Timelines,
    tip: u32,
    wanted: &'a Wanted,
}

impl Search<'_> {
    async fn run(&self, bases: &[Base]) -> Result<Vec<Target>> {
        let fits = |base: &&Base| self.timelines.contains(self.tip, base.timeline, base.stop);
        let mut bases: Vec<&Base> = bases.iter().filter(fits).collect();
        // The newest first; what failed its verification only if nothing else is left.
        bases.sort_by_key(|base| (base.failed, std::cmp::Reverse(base.stop)));
        let Some(oldest) = bases.iter().min_by_key(|base| base.start) else {
            return Err(refused(
                WITHOUT_BACKUP,
                format!("no backup leads to timeline {}", self.tip),
                "See `lastgood window` for what can be reached.",
            ));
        };
        match self.wanted {
            Wanted::Latest => Ok(vec![self.latest(bases[0]).await?]),
            Wanted::Time(moment) => self.time(&bases, *moment).await.map(|target| vec![target]),
            Wanted::Lsn(position) => self.lsn(&bases, *position).await.map(|target| vec![target]),
            Wanted::Xid { xid, before } => self.xid(&bases, oldest, *xid, *before).await,
            Wanted::Point(name) => self.point(&bases, oldest, name).await,
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
        for base in likely.into_iter().chain(unlikely) {
            if let Some(target) = self.time_from(base, moment).await? {
                return Ok(target);
            }
        }
        Err(self.before_all(bases, &format!("the moment {}", shown(moment))))
    }

    /// The target from one backup; `None` if that is of a later moment.
    async fn time_from(&self, base: &Base, moment: i64) -> Result<Option<Target>> {
        let path = self.path(base)?;
        let mut scan = Scan::new(self.context, self.timelines, &path);
        let mut seen = Seen::default();
        let mut stopped = None;
        while let Some(chunk) = scan.next().await? {
            for ending in &chunk.transactions.endings {
                if ending.time > moment {
                    // The record before is the one that ends the backup, or a later one, if this begins at or after its end.
                    // And the moment is not before the backup, if some transaction ended between the two, or the clocks say so.
                    if ending.lsn.0 < base.stop || seen.last.is_none() && base.started > moment {
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
                seen.ending(ending);
            }
            if let Some(broken) = chunk.summary.broken {
                stopped = Some(broken);
                break;
            }
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
        let mark = mark.filter(|mark| mark.position.0 >= last.end && mark.position.0 <= path.end());
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
        let Some(base) = bases.iter().find(|base| base.stop <= position) else {
            return Err(self.before_all(bases, &format!("the position {}", Lsn(position))));
        };
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
            Some(last) => self.around(&path, base, last).await,
            None => Err(self.before_all(&[*base], &format!("the position {}", Lsn(position)))),
        }
    }

    async fn xid(&self, bases: &[&Base], oldest: &Base, xid: u32, before: bool) -> Result<Vec<Target>> {
        let path = self.path(oldest)?;
        let mut scan = Scan::new(self.context, self.timelines, &path);
        let mut places = Vec::new();
        while let Some(chunk) = scan.next().await? {
            for ending in &chunk.transactions.endings {
                let is = ending.xid == xid || ending.subtransactions.contains(&xid);
                if is && ending.kind != EndingKind::Prepare {
                    places.push(match before {
                        true => Place {
                            record: ending.prev.0,
                            end: ending.lsn.0,
                        },
                        false => Place {
                            record: ending.lsn.0,
                            end: ending.end.0,
                        },
                    });
                }
            }
            if chunk.summary.broken.is_some() {
                break;
            }
        }
        if places.is_empty() {
            return Err(match path.gap {
                Some(gap) => self.gap(&path, gap).await,
                None => refused(
                    "xid-not-found",
                    format!(
                        "no transaction {xid} ended in the WAL of timeline {} that is here",
                        self.tip
                    ),
                    "See `lastgood window` for what is here.",
                ),
            });
        }
        self.places(bases, places, &format!("the end of transaction {xid}"))
            .await
    }

    async fn point(&self, bases: &[&Base], oldest: &Base, name: &str) -> Result<Vec<Target>> {
        let path = self.path(oldest)?;
        let mut scan = Scan::new(self.context, self.timelines, &path);
        let mut places = Vec::new();
        while let Some(chunk) = scan.next().await? {
            let points = chunk.transactions.points.iter().filter(|point| point.name == name);
            places.extend(points.map(|point| Place {
                record: point.lsn.0,
                end: point.end.0,
            }));
            if chunk.summary.broken.is_some() {
                break;
            }
        }
        if places.is_empty() {
            return Err(match path.gap {
                Some(gap) => self.gap(&path, gap).await,
                None => refused(
                    "point-not-found",
                    format!(
                        "no restore point {name:?} is in the WAL of timeline {} that is here",
                        self.tip
                    ),
                    "Make one with `lastgood point`; see `lastgood window` for what is here.",
                ),
            });
        }
        self.places(bases, places, &format!("the restore point {name:?}")).await
    }

    /// Targets at places that are known, each from the newest backup before it.
    async fn places(&self, bases: &[&Base], places: Vec<Place>, what: &str) -> Result<Vec<Target>> {
        let mut targets = Vec::new();
        for place in places {
            // The record that ends the backup is itself as good a target as any after it.
            let Some(base) = bases.iter().find(|base| base.stop <= place.end) else {
                continue;
            };
            targets.push(self.around(&self.path(base)?, base, place).await?);
        }
        match targets.is_empty() {
            true => Err(self.before_all(bases, what)),
            false => Ok(targets),
        }
    }

    /// What stands around a place that is known.
    async fn around(&self, path: &Path, base: &Base, place: Place) -> Result<Target> {
        let mut scan = Scan::new(self.context, self.timelines, path);
        let mut seen = Seen::default();
        while let Some(chunk) = scan.next().await? {
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

    async fn gap(&self, path: &Path, (timeline, position): (u32, u64)) -> Error {
        let name = match self.timelines.stream(timeline) {
            Ok(stream) if stream.done_start(position) == position => stream.done_name(position),
            Ok(stream) => stream.run_name(position),
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
                "WAL is missing from {} on timeline {timeline} on ({name}), and more comes after it",
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
        let Some(chunk) = scan.next().await? else { break };
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

fn shown(moment: i64) -> String {
    let moment = jiff::Timestamp::from_microsecond(moment).unwrap_or_default();
    moment.strftime("%Y-%m-%d %H:%M:%S%.f UTC").to_string()
}

fn ambiguous(wanted: &Wanted, first: Target, second: Target, rest: impl Iterator<Item = Target>) -> Error {
    let what = match wanted {
        Wanted::Latest => "the latest moment".to_string(),
        Wanted::Time(moment) => shown(*moment),
        Wanted::Lsn(position) => format!("the position {}", Lsn(*position)),
        Wanted::Xid { xid, .. } => format!("transaction {xid}"),
        Wanted::Point(name) => format!("the restore point {name:?}"),
    };
    let told = |target: &Target| {
        let time = target
            .before
            .as_ref()
            .map_or(String::new(), |before| format!(", after {}", shown(before.time)));
        format!("timeline {} at {}{time}", target.timeline, target.end)
    };
    let all = [first, second].into_iter().chain(rest);
    let all: Vec<String> = all.map(|target| told(&target)).collect();
    refused(
        "moment-ambiguous",
        format!("{what} is in more than one place: {}", all.join("; ")),
        "Say which: `--timeline N`, and `--at lsn:X/Y` where one timeline has it twice.",
    )
}

fn no_timeline(timeline: Option<u32>) -> Error {
    let what = match timeline {
        Some(timeline) => format!("no WAL of timeline {timeline} is here"),
        None => "no WAL is here".into(),
    };
    refused("no-timeline", what, "See `lastgood window` for what is here.")
}

fn damaged(what: &str) -> Error {
    refused(
        "wal-unreadable",
        format!("the WAL on the way there cannot be replayed: {what}"),
        "Take a moment before that position.",
    )
}

fn refused(code: &'static str, what: String, hint: impl Into<String>) -> Error {
    Error::Refused {
        code,
        what,
        hint: hint.into(),
    }
}
