//! Tells a gap from the end of the WAL: what shows that there must be more than is here.

use repo::{
    Repository, names,
    wal::{WalStream, is_done, known_end},
};

use crate::{
    Result,
    archive::left::{Left, who_left},
};

use super::segment::Wanted;

/// Why the byte at a position must be somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missed {
    /// The plan needs it.
    Planned,
    /// Later WAL of its timeline is here, or was for certain.
    Later,
    /// A later timeline left this one past it.
    Left(Left),
}

/// Why the byte at `at`, which is not here though all of the segment before it is, must be somewhere; `None` if nothing
/// says so.
pub(super) async fn missed(repository: &Repository, wanted: &Wanted, at: u64) -> Result<Option<Missed>> {
    let stream = &wanted.stream;
    if let Some(needed) = wanted.needed {
        return Ok((at < needed).then_some(Missed::Planned));
    }
    if anything_after(repository, stream, at).await? || known_end(repository, stream).await? > at {
        return Ok(Some(Missed::Later));
    }
    // Who left inside a segment has brought its beginning along, so nobody needs it from here unless it is all there is.
    let needs = |left: &Left| match at == wanted.start {
        true => left.at >= wanted.end(),
        false => left.at > at,
    };
    let left = who_left(repository, stream.generation, stream.timeline).await?;
    Ok(left
        .into_iter()
        .filter(needs)
        .max_by_key(|left| left.at)
        .map(Missed::Left))
}

/// Whether WAL of the timeline is here that begins after `at`, where a run is missing. What is likely is asked for by
/// name; a listing that shows something proves it, too.
async fn anything_after(repository: &Repository, stream: &WalStream, at: u64) -> Result<bool> {
    let store = repository.store();
    let next = stream.segment_end(at);
    if is_done(repository, stream, next).await? || store.head(&stream.run_name(next)).await?.is_some() {
        return Ok(true);
    }
    let timeline = names::wal_timeline(stream.generation, stream.timeline);
    let open = store.list_after(&timeline, &stream.run_name(at), 1).await?;
    let done = names::wal_all_done(stream.generation, stream.timeline);
    if open.first().is_some_and(|first| !first.name.starts_with(&done)) {
        return Ok(true);
    }
    let done = store.list_after(&done, &stream.done_name(at), 1).await?;
    Ok(!done.is_empty())
}
