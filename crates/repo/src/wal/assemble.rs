//! Consecutive WAL out of runs.

use crate::{Error, Result, names, repository::Repository};

use super::{Run, WalStream, run::OpenRun};

/// Yields the bytes from one position to another, in order, without a gap. Holds one run at a time, and of what is in it
/// one frame.
#[derive(Debug)]
pub struct Assembly {
    repository: Repository,
    stream: WalStream,
    /// Where the next run is to begin; none before the first was looked for.
    next: Option<u64>,
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
            next: None,
            open: None,
            from,
            to,
        }
    }

    /// Looks for the first run at `start`, before `from`, where one begins, and not from its segment's beginning on: for
    /// who reads on after a hole.
    pub fn beginning_at(mut self, start: u64) -> Assembly {
        self.next = Some(start);
        self
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
                        // A finished run may begin before what was yielded last.
                        if let Some(wanted) = part(piece, self.from, self.to) {
                            self.from = wanted.end();
                            return Ok(Some(wanted));
                        }
                    }
                    None => self.open = None,
                }
            }
            if self.from >= self.to || self.next.is_some_and(|next| next >= self.to) {
                return Ok(None);
            }
            let run = self.next_run().await?;
            self.next = Some(run.end());
            self.open = Some(run);
        }
    }

    /// The run that holds the next byte. Once a segment is finished its open runs go, also while they are read: then the
    /// finished ones go on.
    async fn next_run(&self) -> Result<OpenRun> {
        // An open run that holds the byte is found from where a finished one would begin, only.
        self.at(self.next.unwrap_or_else(|| self.stream.done_start(self.from)))
            .await
    }

    async fn at(&self, position: u64) -> Result<OpenRun> {
        let at_start = self.stream.done_start(position) == position;
        if at_start && let Some(run) = self.finished(position).await? {
            return Ok(run);
        }
        if let Some(run) = OpenRun::read(&self.repository, &self.stream, position).await? {
            return Ok(run);
        }
        match self.finished(position).await? {
            Some(run) => Ok(run),
            None => Err(self.missing(position).await),
        }
    }

    async fn finished(&self, position: u64) -> Result<Option<OpenRun>> {
        OpenRun::finished(&self.repository, &self.stream, position).await
    }

    /// Either name would do. Where nobody finishes segments, or of this part of one there are open runs, one of those is
    /// missing.
    async fn missing(&self, position: u64) -> Error {
        let stream = &self.stream;
        let at_start = stream.done_start(position) == position;
        let first = async |prefix: String, after: &str| {
            let listed = self.repository.store().list_after(&prefix, after, 1).await;
            listed.ok()?.into_iter().next().map(|object| object.name)
        };
        let finished = names::wal_all_done(stream.generation, stream.timeline);
        let open = names::wal_segment(stream.generation, stream.timeline, stream.segment_of(position));
        let run = stream.run_name(position);
        let end = stream.run_name(stream.done_end(position).saturating_sub(1));
        let is_open = async || first(open, &run).await.is_some_and(|name| name <= end);
        let name = match at_start && first(finished, "").await.is_some() && !is_open().await {
            true => stream.done_name(position),
            false => run,
        };
        Error::Missing { name }
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
