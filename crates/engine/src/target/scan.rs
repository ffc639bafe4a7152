//! Goes through WAL by its indexes, which are fetched ahead, and by its bytes where there are none.

use futures::{
    future::BoxFuture,
    stream::{FuturesOrdered, StreamExt},
};
use pgformat::{
    Lsn,
    wal::{Record, Walker},
};
use repo::{
    Repository,
    wal::{
        Assembly, Finish, Indexed, WalStream,
        index::{Blocks, Index, Summary, Transactions},
    },
};

use crate::{Error, Result, archive::Indexer, event::Context};

use super::{Path, Piece, Timelines};

/// What is known of one stretch.
#[derive(Debug)]
pub(super) struct Chunk {
    /// First position, and the one after the last.
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) summary: Summary,
    /// Empty if blocks are wanted.
    pub(super) transactions: Transactions,
    /// Empty if transactions are wanted.
    pub(super) blocks: Blocks,
}

/// What is wanted of each stretch besides the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Transactions,
    Blocks,
}

/// So many indexes are fetched at once. Each takes several requests one after another, and a store may be tens of
/// milliseconds away; 16 MiB of WAL take longer to replay than a sixteenth of that.
const MOST_AHEAD: usize = 16;
/// Transactions are fetched ahead as they lie in the store, and opened when their turn comes; those that take more bytes
/// are fetched only then. So what is ahead takes 16 MiB at most.
const MOST_SEALED: u32 = 1 << 20;

/// An index on its way; `None` if there is none of use.
type Fetch<'a> = BoxFuture<'a, Result<Option<(Indexed, Summary)>>>;

/// Goes along a path, stretch by stretch.
pub(super) struct Scan<'a> {
    context: &'a Context,
    timelines: &'a Timelines,
    /// All of the path. Each begins where a page does, the first of all where a record does.
    stretches: Vec<Piece>,
    /// How many of them were given.
    given: usize,
    /// The indexes of the next ones, in order.
    fetches: FuturesOrdered<Fetch<'a>>,
    /// How many to have under way. It grows: who needs a few reads a few.
    ahead: usize,
    want: Want,
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        context: &'a Context,
        timelines: &'a Timelines,
        pieces: &[Piece],
        want: Want,
    ) -> Result<Scan<'a>> {
        let mut stretches = Vec::new();
        for piece in pieces {
            let stream = timelines.stream(piece.timeline)?;
            let mut from = piece.from;
            while from < piece.to {
                let to = stream.done_end(from).min(piece.to);
                stretches.push(Piece { from, to, ..*piece });
                from = to;
            }
        }
        Ok(Scan {
            context,
            timelines,
            stretches,
            given: 0,
            fetches: FuturesOrdered::new(),
            ahead: 1,
            want,
        })
    }

    /// Where the next stretch lies; `None` at the end of the path.
    pub(super) fn ahead(&self) -> Option<Piece> {
        self.stretches.get(self.given).copied()
    }

    /// The next stretch, past all that is needed: if it is damaged, that is told, and nothing is known of it.
    pub(super) async fn next_unneeded(&mut self) -> Result<Option<Chunk>> {
        match self.next().await {
            Err(error) if is_damage(&error) => {
                let what = format!("{error}; it lies past the moment, which does not need it");
                self.context.warn("wal-damaged", what);
                Ok(None)
            }
            next => next,
        }
    }

    /// The next stretch; `None` at the end of the path, and after an error.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk>> {
        let next = self.step().await;
        if next.is_err() {
            self.stretches.truncate(self.given);
            self.fetches = FuturesOrdered::new();
        }
        next
    }

    async fn step(&mut self) -> Result<Option<Chunk>> {
        self.context.stop.check()?;
        self.fetch_ahead()?;
        let (Some(now), Some(fetched)) = (self.ahead(), self.fetches.next().await) else {
            return Ok(None);
        };
        let (summary, transactions, blocks) = match fetched? {
            Some((indexed, summary)) => match self.want {
                Want::Transactions => (summary, indexed.transactions().await?, Blocks::default()),
                Want::Blocks => (summary, Transactions::default(), indexed.blocks().await?),
            },
            // By its bytes: up to the next finished run, which may have an index.
            None => {
                let before = self.stretches.get(..self.given).unwrap_or_default();
                let index = walk(self.context, self.timelines, before, now).await?;
                (index.summary, index.transactions, index.blocks)
            }
        };
        self.given += 1;
        Ok(Some(Chunk {
            from: now.from,
            to: now.to,
            summary,
            transactions,
            blocks,
        }))
    }

    /// Has the indexes of the next stretches fetched.
    fn fetch_ahead(&mut self) -> Result<()> {
        self.ahead = (self.ahead * 2).min(MOST_AHEAD);
        while self.fetches.len() < self.ahead
            && let Some(stretch) = self.stretches.get(self.given + self.fetches.len())
        {
            let stream = self.timelines.stream(stretch.timeline)?;
            let fetch = fetch(&self.timelines.repository, stream, *stretch, self.want);
            self.fetches.push_back(Box::pin(fetch));
        }
        Ok(())
    }
}

/// Makes the index of a stretch from its bytes. Of those `before` it, the last as a rule holds the beginning of a record that
/// lies across.
async fn walk(context: &Context, timelines: &Timelines, before: &[Piece], now: Piece) -> Result<Index> {
    let mut back = 1;
    loop {
        let first = before.len().saturating_sub(back);
        let before = before.get(first..).unwrap_or_default();
        let start = before.first().unwrap_or(&now).from;
        let indexer = Indexer::new(timelines.geometry, timelines.generation, start)?;
        let mut indexer = indexer.of_major(timelines.major);
        for piece in before {
            feed(context, timelines, &mut indexer, *piece).await?;
        }
        drop(indexer.index());
        feed(context, timelines, &mut indexer, now).await?;
        let index = indexer.index();
        // A record may be longer than a stretch. And behind a switch are zeroes, up to the segment's end: only who saw it knows
        // that they are no damage.
        let segment = now.from / timelines.segment_size() * timelines.segment_size();
        let settled = match &index.summary.broken {
            Some(_) => start <= segment,
            None => index.summary.joined,
        };
        if settled || first == 0 {
            return Ok(index);
        }
        back *= 4;
    }
}

async fn feed(context: &Context, timelines: &Timelines, indexer: &mut Indexer, piece: Piece) -> Result<()> {
    let stream = timelines.stream(piece.timeline)?;
    let mut wal = Assembly::new(&timelines.repository, stream, piece.from, piece.to);
    while let Some(run) = wal.next().await? {
        context.stop.check()?;
        indexer.feed(&run.bytes);
    }
    Ok(())
}

/// The index of a finished run that lies in `stretch` whole; `None` if there is none, or one that has to be made anew.
async fn fetch(
    repository: &Repository,
    stream: WalStream,
    stretch: Piece,
    want: Want,
) -> Result<Option<(Indexed, Summary)>> {
    let (from, to) = (stretch.from, stretch.to);
    if stream.done_start(from) != from || stream.done_end(from) != to {
        return Ok(None);
    }
    let Some(mut indexed) = Indexed::open(repository, &stream, from).await? else {
        return Ok(None);
    };
    let summary = indexed.summary().await?;
    if !summary.joined || summary.broken.is_some() {
        return Ok(None);
    }
    match want {
        Want::Transactions => indexed.fetch_transactions(MOST_SEALED).await?,
        Want::Blocks => indexed.fetch_blocks(MOST_SEALED).await?,
    }
    Ok(Some((indexed, summary)))
}

/// Whether something is damaged, or went after it was listed.
pub(super) fn is_damage(error: &Error) -> bool {
    matches!(
        error,
        Error::Repository(repo::Error::Damaged { .. } | repo::Error::Missing { .. })
    )
}

/// A record, by where it begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) record: u64,
    pub(super) end: u64,
}

/// The last record of `path` that ends at or before `position`.
pub(super) async fn last_until(timelines: &Timelines, path: &Path, position: u64) -> Result<Option<Place>> {
    let Some(first) = path.pieces.first() else {
        return Ok(None);
    };
    let size = timelines.segment_size();
    let mut back = 0;
    loop {
        // A record begins where the path does; elsewhere only a segment's start is known to be a page's.
        let segment = position.saturating_sub(1) / size * size;
        let start = segment.saturating_sub(back * size).max(first.from);
        let found = last_from(timelines, path, start, position).await?;
        if found.is_some() || start == first.from {
            return Ok(found);
        }
        back = back * 2 + 1;
    }
}

async fn last_from(timelines: &Timelines, path: &Path, start: u64, position: u64) -> Result<Option<Place>> {
    let odd = |error: String| Error::Failed {
        code: "wal-damaged",
        what: error,
        hint: "Take another moment, before that position.".into(),
    };
    let walker = Walker::new(timelines.geometry, Lsn(start)).map_err(|error| odd(error.to_string()))?;
    let mut walker = walker.of_major(timelines.major).of_system(timelines.generation);
    let slack = 2 * timelines.geometry.page_bytes();
    let mut found = None;
    let mut note = |record: Record<'_>| {
        if record.end.0 <= position {
            found = Some(Place {
                record: record.lsn.0,
                end: record.end.0,
            });
        }
    };
    'pieces: for piece in path.until(position) {
        if piece.to <= start {
            continue;
        }
        let stream = timelines.stream(piece.timeline)?;
        let mut wal = Assembly::new(&timelines.repository, stream, piece.from.max(start), piece.to);
        while let Some(run) = wal.next().await? {
            match walker.feed(&run.bytes, &mut note) {
                Ok(()) => {}
                // Nothing was written there yet; far from the end of what is here, that is no end.
                Err(stop) if stop.is_end() && stop.lsn.0.saturating_add(slack) >= path.end().min(position) => {
                    break 'pieces;
                }
                Err(stop) => return Err(odd(stop.to_string())),
            }
        }
    }
    Ok(found)
}
