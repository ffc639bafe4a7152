//! Consecutive WAL out of runs.

use crate::{Error, Result, bytes_codec::Malformed, repository::Repository};

use super::{Chain, Run, WalStream, run::OpenRun};

/// Yields the bytes from one position to another, in order, without a gap. Holds one run at a time, and of what is in it
/// one frame.
#[derive(Debug)]
pub struct Assembly {
    repository: Repository,
    stream: WalStream,
    chain: Chain,
    /// The run whose bytes are being yielded.
    open: Option<OpenRun>,
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
            open: None,
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
        loop {
            // Also what lies outside is opened: damage anywhere in a run is damage of the run.
            while let Some(run) = &mut self.open {
                match run.next()? {
                    Some(piece) => {
                        if let Some(wanted) = part(piece, self.from, self.to) {
                            return Ok(Some(wanted));
                        }
                    }
                    None => self.open = None,
                }
            }
            if self.chain.position() >= self.to || self.from >= self.to {
                return Ok(None);
            }
            self.open = Some(self.next_run().await?);
        }
    }

    async fn next_run(&mut self) -> Result<OpenRun> {
        let start = self.chain.position();
        let Some(name) = self.chain.next_name() else {
            return Err(Malformed("no WAL can come after it").of(&self.stream.run_name(start)));
        };
        let Some(run) = OpenRun::read(&self.repository, &self.stream, start).await? else {
            return Err(Error::Missing { name });
        };
        self.chain.found(run.end()).map_err(|what| what.of(&name))?;
        if self.chain.is_complete() && run.end() < u64::MAX {
            self.chain = Chain::of_segment(self.stream, run.end());
        }
        Ok(run)
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
