//! Consecutive WAL out of runs.

use crate::{Error, Result, bytes_codec::Malformed, repository::Repository};

use super::{Chain, Run, WalStream, read_run};

/// Yields the bytes from one position to another, in order, without a gap. Holds one run at a time.
#[derive(Debug)]
pub struct Assembly {
    repository: Repository,
    stream: WalStream,
    chain: Chain,
    from: u64,
    to: u64,
}

impl Assembly {
    /// From `from` to before `to`.
    pub fn new(repository: &Repository, stream: WalStream, from: u64, to: u64) -> Assembly {
        Assembly {
            repository: repository.clone(),
            stream,
            chain: Chain::of_segment(stream, from),
            from,
            to,
        }
    }

    /// The next bytes, inside one segment; `None` when `to` is reached.
    ///
    /// # Errors
    /// [`Error::Missing`] names the run that should come next: the WAL has a gap from the end of what was
    /// yielded. [`Error::Damaged`] and the like concern that run.
    pub async fn next(&mut self) -> Result<Option<Run>> {
        while self.chain.position() < self.to && self.from < self.to {
            let start = self.chain.position();
            let Some(name) = self.chain.next_name() else {
                return Err(Malformed("no WAL can come after it").of(&self.stream.run_name(start)));
            };
            let Some(run) = read_run(&self.repository, &self.stream, start).await? else {
                return Err(Error::Missing { name });
            };
            self.chain.found(run.end()).map_err(|what| what.of(&name))?;
            if self.chain.is_complete() && run.end() < u64::MAX {
                self.chain = Chain::of_segment(self.stream, run.end());
            }
            if let Some(wanted) = part(run, self.from, self.to) {
                return Ok(Some(wanted));
            }
        }
        Ok(None)
    }
}

/// Gives `sink` the bytes from `from` to before `to`, in order, each piece with its position and inside one
/// segment.
///
/// # Errors
/// Those of [`Assembly::next`], and what `sink` says. All bytes before the gap have been given then.
pub async fn assemble(
    repository: &Repository,
    stream: WalStream,
    from: u64,
    to: u64,
    mut sink: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut assembly = Assembly::new(repository, stream, from, to);
    while let Some(run) = assembly.next().await? {
        sink(run.start, &run.bytes)?;
    }
    Ok(())
}

/// What of `run` lies from `from` to before `to`.
fn part(run: Run, from: u64, to: u64) -> Option<Run> {
    let (start, end) = (run.start.max(from), run.end().min(to));
    (start < end).then(|| Run {
        start,
        bytes: run
            .bytes
            .slice((start - run.start) as usize..(end - run.start) as usize),
    })
}
