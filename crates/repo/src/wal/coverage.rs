//! Which WAL is here: stretches without a gap, found from names and, of segments that are not finished, from their runs.

use std::collections::BTreeMap;

use crate::{Result, names, repository::Repository};

use super::{WalStream, run::OpenRun};

/// How many objects are asked for at once.
const PAGE: usize = 1000;

/// Stretches of WAL without a gap, ascending; each from its first position to before its last.
pub type Coverage = Vec<(u64, u64)>;

/// What of a timeline is here. A listing may lack what was stored a moment ago; where a stretch seems to end, the exact
/// names are asked for. A damaged open run is a hole: one flipped bit must not hide all other WAL.
pub async fn coverage(repository: &Repository, stream: &WalStream) -> Result<Coverage> {
    let mut stretches = Stretches::default();
    for start in listed(repository, &names::wal_all_done(stream.generation, stream.timeline)).await? {
        stretches.add(start, stream.done_end(start));
    }
    // Open runs: of each segment, follow the chain from its first byte. Finished stretches are known already.
    let all = names::wal_timeline(stream.generation, stream.timeline);
    let open = listed(repository, &all).await?;
    let mut segments: Vec<u64> = open.iter().map(|start| stream.segment_of(*start)).collect();
    segments.sort_unstable();
    segments.dedup();
    for segment in segments {
        let mut position = stretches.end_from(segment).unwrap_or(segment);
        while position < stream.segment_end(segment) {
            let Some(run) = OpenRun::intact(repository, stream, position).await? else {
                break;
            };
            stretches.add(position, run.end());
            position = run.end();
        }
    }
    // Runs that no chain reaches: they cannot be used, and they show that something before them is missing.
    for start in open {
        if stretches.end_from(start).is_none()
            && let Some(run) = OpenRun::intact(repository, stream, start).await?
        {
            stretches.add(start, run.end());
        }
    }
    // What a listing did not show yet.
    let ends: Vec<u64> = stretches.0.values().copied().collect();
    for end in ends {
        let reached = super::contiguous_end(repository, stream, end).await?;
        if reached > end {
            stretches.add(end, reached);
        }
    }
    Ok(stretches.0.into_iter().collect())
}

/// The timelines of a generation of which any WAL is here, ascending.
pub async fn timelines(repository: &Repository, generation: u64) -> Result<Vec<u32>> {
    let prefix = format!("wal/{generation}/");
    let (mut after, mut found) = (String::new(), Vec::new());
    loop {
        let page = repository.store().list_after(&prefix, &after, 1).await?;
        let Some(first) = page.first() else {
            return Ok(found);
        };
        let rest = first.name.strip_prefix(&prefix).unwrap_or_default();
        let (timeline, is_history) = match rest.split_once(['/', '.']) {
            Some((timeline, rest)) => (timeline, rest == "history"),
            None => (rest, false),
        };
        if let Ok(number) = u32::from_str_radix(timeline, 16)
            && !is_history
            && found.last() != Some(&number)
        {
            found.push(number);
        }
        // To the next timeline at once: `.` sorts before `/`, and `0` after it.
        after = match is_history {
            true => first.name.clone(),
            false => format!("{prefix}{timeline}0"),
        };
    }
}

/// Whether somebody archives that timeline without pause, or did: only who does finishes segments and leaves marks. A hole
/// in its WAL is damage then; backups alone leave holes between them.
pub async fn is_archived(repository: &Repository, stream: &WalStream) -> Result<bool> {
    let done = names::wal_all_done(stream.generation, stream.timeline);
    let marks = names::wal_marks(stream.generation, stream.timeline);
    for prefix in [done, marks] {
        if !repository.store().list_after(&prefix, "", 1).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The positions in the names of runs that begin with `prefix`.
async fn listed(repository: &Repository, prefix: &str) -> Result<Vec<u64>> {
    let (mut after, mut found) = (String::new(), Vec::new());
    loop {
        let page = repository.store().list_after(prefix, &after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(found);
        };
        after.clone_from(&last.name);
        // No position is so far out that its name would come after them.
        let finished = |name: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with("done/"));
        let reached = finished(&after);
        let of_name = |name: &str| {
            let (segment, start) = name.strip_prefix(prefix)?.split_once('/')?;
            let hex = |text: &str| u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16);
            hex(segment).and(hex(start))
        };
        found.extend(page.iter().filter_map(|object| of_name(&object.name)));
        if reached {
            return Ok(found);
        }
    }
}

/// Stretches by their first position. They never touch one another.
#[derive(Debug, Default)]
struct Stretches(BTreeMap<u64, u64>);

impl Stretches {
    fn add(&mut self, mut from: u64, mut to: u64) {
        while let Some((start, end)) = self.0.range(..=to).next_back().map(|(a, b)| (*a, *b)) {
            if end < from {
                break;
            }
            from = from.min(start);
            to = to.max(end);
            self.0.remove(&start);
        }
        self.0.insert(from, to);
    }

    /// Where the stretch ends that holds the byte at `position`.
    fn end_from(&self, position: u64) -> Option<u64> {
        let (_, end) = self.0.range(..=position).next_back()?;
        (*end > position).then_some(*end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stretches_hold_exactly_what_was_added(parts in prop::collection::vec((0u64..60, 1u64..9), 0..12)) {
            let mut stretches = Stretches::default();
            let mut bytes = [false; 80];
            for (from, length) in parts {
                stretches.add(from, from + length);
                bytes[from as usize..(from + length) as usize].fill(true);
            }
            let covered = |at: u64| stretches.0.iter().any(|(from, to)| (*from..*to).contains(&at));
            for at in 0..80 {
                prop_assert_eq!(covered(at), bytes[at as usize], "{}", at);
            }
            let mut last = None;
            for (from, to) in &stretches.0 {
                prop_assert!(last.is_none_or(|last| last < *from), "two stretches touch");
                last = Some(*to);
            }
        }
    }
}
