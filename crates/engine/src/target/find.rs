//! From what a user said to the record at which recovery ends.

use std::collections::BTreeMap;

use repo::ledger::Lsn;

use crate::{Error, Result, event::Context, list::Backup};

use super::{At, Target, Timelines, base::Base, leader::Leader, search::Search};

/// What is looked for along one path.
pub(super) enum Wanted {
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
        .filter_map(|backup| Base::of(backup, timelines.generation))
        .collect();
    let mut tips: Vec<u32> = timelines.coverage.keys().copied().collect();
    tips.retain(|tip| chosen.is_none_or(|chosen| chosen == *tip));
    if tips.is_empty() {
        return Err(no_timeline(chosen));
    }
    // The latest moment is that of the cluster which goes on. What a copy did beside it has to be asked for.
    if matches!(wanted, Wanted::Latest) && chosen.is_none() {
        let copies = shown_list(&tips);
        tips.retain(|tip| !timelines.is_beside(*tip));
        if tips.is_empty() {
            return Err(refused(
                "no-timeline",
                format!(
                    "all WAL that is here is of copies (timeline {copies}) of a cluster that goes on on another timeline, as somebody said with `lastgood wal accept`"
                ),
                "Say `--timeline N` for the latest moment of a copy.",
            ));
        }
    }
    let mut found: BTreeMap<(u32, u64), Target> = BTreeMap::new();
    let mut refusal = None;
    let mut leader = Leader::of(timelines, &tips, chosen);
    // The newest timeline first: of what is refused, its reason is the one to tell.
    for tip in tips.into_iter().rev() {
        match Search::new(context, timelines, tip).run(&wanted, &bases).await {
            Ok(targets) => {
                for target in targets {
                    leader.found(tip, &wanted, &target);
                    found.entry((target.timeline, target.record.0)).or_insert(target);
                }
                if matches!(wanted, Wanted::Latest) {
                    break;
                }
            }
            Err(error @ Error::Refused { .. }) => {
                let error = leader.refused(tip, error);
                refusal = refusal.or(error);
                // The newest moment is the newest timeline's: an older one's is another, and has to be asked for.
                if matches!(wanted, Wanted::Latest) {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(error) = leader.refusal(found.values()) {
        return Err(error);
    }
    let mut all = found.into_values();
    match (all.next(), all.next()) {
        (Some(target), None) => Ok(target),
        (Some(first), Some(second)) => Err(ambiguous(&wanted, first, second, all)),
        (None, _) => Err(refusal.unwrap_or_else(|| no_timeline(chosen))),
    }
}

fn shown_list(timelines: &[u32]) -> String {
    let all: Vec<String> = timelines.iter().map(u32::to_string).collect();
    all.join(", ")
}

pub(super) fn shown(moment: i64) -> String {
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
    let all = [first, second].into_iter().chain(rest);
    let all: Vec<String> = all.map(|target| told(&target)).collect();
    refused(
        "moment-ambiguous",
        format!("{what} is in more than one place: {}", all.join("; ")),
        "Say which: `--timeline N`, and `--at lsn:X/Y` where one timeline has it twice.",
    )
}

/// Where a target is, for people.
pub(super) fn told(target: &Target) -> String {
    let time = target
        .before
        .as_ref()
        .map_or(String::new(), |before| format!(", after {}", shown(before.time)));
    format!("timeline {} at {}{time}", target.timeline, target.end)
}

pub(super) fn no_timeline(timeline: Option<u32>) -> Error {
    let what = match timeline {
        Some(timeline) => format!("no WAL of timeline {timeline} is here"),
        None => "no WAL is here".into(),
    };
    refused("no-timeline", what, "See `lastgood window` for what is here.")
}

pub(super) fn damaged(what: &str) -> Error {
    refused(
        "wal-unreadable",
        format!("the WAL on the way there cannot be replayed: {what}"),
        "Take a moment before that position.",
    )
}

pub(super) fn refused(code: &'static str, what: String, hint: impl Into<String>) -> Error {
    Error::Refused {
        code,
        what,
        hint: hint.into(),
    }
}
