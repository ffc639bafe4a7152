//! One segment out of the repository, every byte authenticated before it is used.

use std::path::Path;

use repo::{
    Repository,
    wal::{Assembly, WalStream},
};

use crate::Result;

use super::{gap, later, place::Placed};

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
    /// Nothing, and nothing later that would need it.
    Nothing,
}

/// Puts the segment at `to`, unless there is nothing of it.
///
/// # Errors
/// A gap: WAL of it is missing though later WAL is here, or though a plan or a later timeline needs it.
pub(super) async fn deliver(repository: &Repository, wanted: &Wanted, to: &Path) -> Result<Found> {
    let (stream, end) = (wanted.stream, wanted.end());
    let mut wal = Assembly::new(repository, stream, wanted.start, end);
    let (mut at, mut file) = (wanted.start, None);
    let mut missed = None;
    loop {
        match wal.next().await {
            Ok(Some(piece)) => {
                let file = match &mut file {
                    Some(file) => file,
                    None => file.insert(Placed::begin(to)?),
                };
                file.write(&piece.bytes)?;
                at = piece.end();
            }
            Ok(None) => break,
            Err(repo::Error::Missing { name }) => {
                let Some(because) = later::missed(repository, wanted, at).await? else {
                    break;
                };
                // WAL is stored in order: if what showed that this is missing came just now, this came before it.
                if missed.replace(at) == Some(at) {
                    return Err(gap(&stream, at, &name, because));
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    let Some(mut file) = file else {
        return Ok(Found::Nothing);
    };
    file.fill(end.saturating_sub(at))?;
    file.finish()?;
    Ok(if at == end { Found::Whole } else { Found::Tail })
}

#[cfg(test)]
mod tests;
