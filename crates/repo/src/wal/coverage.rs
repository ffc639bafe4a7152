//! Which WAL is here: stretches without a gap, found from names and, of segments that are not finished, from their runs.

use std::collections::BTreeMap;

use futures::future::try_join_all;

use crate::{Error, Result, names, repository::Repository, store::Listed};

use super::{WalStream, append::follow, newest_mark, run::OpenRun};

/// How many objects are asked for at once.
const PAGE: usize = 10_000;
/// How many open runs are read at once, and how many bytes: of an idle server there are many small ones, and a store may
/// be tens of milliseconds away.
const MOST_READS: usize = 16;
const MOST_BYTES: u64 = 16 << 20;

/// Stretches of WAL without a gap, ascending; each from its first position to before its last.
pub type Coverage = Vec<(u64, u64)>;

/// What of a timeline is here. A listing may lack what was stored a moment ago; where a stretch seems to end, the exact
/// names are asked for. A damaged open run is a hole: one flipped bit must not hide all other WAL.
pub async fn coverage(repository: &Repository, stream: &WalStream) -> Result<Coverage> {
    let mut stretches = Stretches::default();
    for (start, _) in listed(repository, &names::wal_all_done(stream.generation, stream.timeline)).await? {
        stretches.add(start, stream.done_end(start));
    }
    // Open runs: of each segment, follow the chain from its first byte. Finished stretches are known already.
    let all = names::wal_timeline(stream.generation, stream.timeline);
    let mut open = listed(repository, &all).await?;
    open.retain(|(start, _)| stretches.end_from(*start).is_none());
    let ends = ends(repository, stream, &open).await?;
    let mut segments: Vec<u64> = open.iter().map(|(start, _)| stream.segment_of(*start)).collect();
    segments.sort_unstable();
    segments.dedup();
    for segment in segments {
        let mut position = stretches.end_from(segment).unwrap_or(segment);
        while position < stream.segment_end(segment) {
            let end = match ends.get(&position) {
                Some(end) => *end,
                // A listing that shows what came after it may lack it.
                None => match OpenRun::intact(repository, stream, position).await? {
                    Some(run) => run.end(),
                    None => break,
                },
            };
            stretches.add(position, end);
            position = end;
        }
    }
    // Runs that no chain reaches: they cannot be used, and they show that something before them is missing.
    for (start, end) in ends {
        if stretches.end_from(start).is_none() {
            stretches.add(start, end);
        }
    }
    // What a listing did not show yet.
    let reached: Vec<u64> = stretches.0.values().copied().collect();
    for end in reached {
        let further = follow(repository, stream, end).await?;
        if further > end {
            stretches.add(end, further);
        }
    }
    Ok(stretches.0.into_iter().collect())
}

/// Where each of these open runs ends, of which size and first position are given. What is damaged, or went since, ends
/// nowhere.
async fn ends(repository: &Repository, stream: &WalStream, open: &[(u64, u64)]) -> Result<BTreeMap<u64, u64>> {
    let mut ends = BTreeMap::new();
    let mut rest = open;
    while !rest.is_empty() {
        let mut bytes = 0u64;
        let fits = |(_, size): &&(u64, u64)| {
            bytes = bytes.saturating_add(*size);
            bytes <= MOST_BYTES
        };
        // One is read however long it is.
        let count = rest.iter().take(MOST_READS).take_while(fits).count().max(1);
        let (now, later) = rest.split_at(count);
        let reads = now.iter().map(|(start, _)| async move {
            let run = OpenRun::intact(repository, stream, *start).await?;
            Ok::<_, Error>(run.map(|run| (*start, run.end())))
        });
        ends.extend(try_join_all(reads).await?.into_iter().flatten());
        rest = later;
    }
    Ok(ends)
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
    let marked = newest_mark(repository, stream).await?.map_or(0, |mark| mark.position.0);
    let open = listed(repository, &names::wal_timeline(stream.generation, stream.timeline)).await?;
    let last = open.into_iter().max();
    Ok(marked.max(last.map_or(0, |(start, _)| start.saturating_add(1))))
}

/// The positions in the names of runs that begin with `prefix`, and the bytes of their objects.
async fn listed(repository: &Repository, prefix: &str) -> Result<Vec<(u64, u64)>> {
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
        let run = |object: &Listed| Some((of_name(&object.name)?, object.size));
        found.extend(page.iter().filter_map(run));
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
