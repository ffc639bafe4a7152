//! Which WAL is here: stretches without a gap, found from names and, of segments that are not finished, from their runs.

use std::collections::BTreeMap;

use crate::{Error, Result, names, repository::Repository};

use super::{WalStream, newest_mark, run::OpenRun};

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

/// From which position on somebody archived that timeline without pause, as far as what is kept tells: the first finished
/// run, or the beginning of the segment that the first mark lies in. Only who archives leaves these; backups leave holes
/// between them. `None` if there are none: what a receiver said in the ledger counts as well.
pub async fn archived_from(repository: &Repository, stream: &WalStream) -> Result<Option<u64>> {
    let done = names::wal_all_done(stream.generation, stream.timeline);
    let marks = names::wal_marks(stream.generation, stream.timeline);
    let mut first = None;
    for prefix in [done, marks] {
        let page = repository.store().list_after(&prefix, "", 1).await?;
        let position = page.first().and_then(|object| {
            // The segment of a run, or the position of a mark.
            let text = object.name.strip_prefix(&prefix)?.get(..16)?;
            u64::from_str_radix(text, 16).ok()
        });
        let began = position.map(|position| stream.segment_of(position));
        first = first.min(began).or(first).or(began);
    }
    Ok(first)
}

/// Up to which position WAL of that timeline was here for certain, whether it still can be read or not: its newest mark says
/// so, and the name of every open run. What is here now ends there or later, unless something was lost. Ask this first,
/// then for the coverage: WAL may come meanwhile.
pub async fn known_end(repository: &Repository, stream: &WalStream) -> Result<u64> {
    let marked = match newest_mark(repository, stream).await {
        Ok(mark) => mark.map_or(0, |mark| mark.position.0),
        // A mark that cannot be read says nothing; that is no reason to see nothing else.
        Err(Error::Damaged { .. }) => 0,
        Err(error) => return Err(error),
    };
    let open = listed(repository, &names::wal_timeline(stream.generation, stream.timeline)).await?;
    let last = open.into_iter().max();
    Ok(marked.max(last.map_or(0, |start| start.saturating_add(1))))
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
