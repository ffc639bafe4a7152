//! One segment out of the repository, every byte authenticated before it is used.

use std::path::Path;

use repo::{
    Repository, names,
    wal::{Assembly, WalStream, is_done},
};

use crate::Result;

use super::{gap, place::Placed};

/// A segment that is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) stream: WalStream,
    /// Position of its first byte.
    pub(super) start: u64,
    /// Before which position all of it must be here, if there is a plan.
    pub(super) needed: Option<u64>,
}

impl Wanted {
    /// The position after its last byte.
    pub(super) fn end(&self) -> u64 {
        self.start.saturating_add(self.stream.segment_size())
    }
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// All of it.
    Whole,
    /// Its beginning: the timeline's WAL ends in it, or what a plan needs does. Zeroes follow.
    Tail,
    /// Nothing, and nothing later on its timeline.
    Nothing,
}

/// Puts the segment at `to`, unless there is nothing of it.
///
/// # Errors
/// A gap: WAL of it is missing though later WAL is here, or though a plan needs it.
pub(super) async fn deliver(repository: &Repository, wanted: &Wanted, to: &Path) -> Result<Found> {
    let (stream, end) = (wanted.stream, wanted.end());
    let mut wal = Assembly::new(repository, stream, wanted.start, end);
    let (mut at, mut file) = (wanted.start, None);
    let missing = loop {
        match wal.next().await {
            Ok(Some(piece)) => {
                let file = match &mut file {
                    Some(file) => file,
                    None => file.insert(Placed::begin(to)?),
                };
                file.write(&piece.bytes)?;
                at = piece.end();
            }
            Ok(None) => break None,
            Err(repo::Error::Missing { name }) => break Some(name),
            Err(error) => return Err(error.into()),
        }
    };
    if let Some(name) = missing {
        let enough = wanted.needed.is_some_and(|needed| at >= needed);
        if !enough && (wanted.needed.is_some() || anything_after(repository, &stream, at).await?) {
            return Err(gap(&stream, at, &name));
        }
    }
    let Some(mut file) = file else {
        return Ok(Found::Nothing);
    };
    file.fill(end.saturating_sub(at))?;
    file.finish()?;
    Ok(if at == end { Found::Whole } else { Found::Tail })
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
