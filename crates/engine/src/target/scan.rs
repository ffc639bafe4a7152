//! Goes through WAL by its index, and by its bytes where there is none.

use pgformat::{
    Lsn,
    wal::{Record, Walker},
};
use repo::wal::{
    Assembly, Finish, Indexed,
    index::{Index, Summary, Transactions},
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
    pub(super) transactions: Transactions,
}

/// Goes along a path, stretch by stretch.
pub(super) struct Scan<'a> {
    context: &'a Context,
    timelines: &'a Timelines,
    pieces: std::vec::IntoIter<Piece>,
    /// What is left of the piece at hand.
    rest: Option<Piece>,
    /// The stretches before, the last of which as a rule holds the beginning of a record that lies across.
    before: Vec<Piece>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(context: &'a Context, timelines: &'a Timelines, path: &Path) -> Scan<'a> {
        Scan {
            context,
            timelines,
            pieces: path.pieces.clone().into_iter(),
            rest: None,
            before: Vec::new(),
        }
    }

    /// Where the next stretch lies; `None` at the end of the path.
    pub(super) fn ahead(&self) -> Result<Option<Piece>> {
        let Some(piece) = self.rest.or_else(|| self.pieces.as_slice().first().copied()) else {
            return Ok(None);
        };
        let stream = self.timelines.stream(piece.timeline)?;
        let to = stream.done_end(piece.from).min(piece.to);
        Ok(Some(Piece { to, ..piece }))
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

    /// The next stretch; `None` at the end of the path. After an error it goes on with a later piece, not with a later
    /// stretch.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk>> {
        self.context.stop.check()?;
        let Some(piece) = self.rest.take().or_else(|| self.pieces.next()) else {
            return Ok(None);
        };
        let stream = self.timelines.stream(piece.timeline)?;
        let end = stream.done_end(piece.from).min(piece.to);
        let whole = stream.done_start(piece.from) == piece.from && end == stream.done_end(piece.from);
        let indexed = match whole {
            true => Indexed::open(&self.timelines.repository, &stream, piece.from).await?,
            false => None,
        };
        if let Some(indexed) = indexed {
            let summary = indexed.summary().await?;
            if summary.joined && summary.broken.is_none() {
                let now = Piece { to: end, ..piece };
                self.go_on(piece, now);
                return Ok(Some(Chunk {
                    from: now.from,
                    to: now.to,
                    transactions: indexed.transactions().await?,
                    summary,
                }));
            }
        }
        // By its bytes: up to the next finished run, which may have an index.
        let now = Piece { to: end, ..piece };
        let index = self.walk(now).await?;
        self.go_on(piece, now);
        Ok(Some(Chunk {
            from: now.from,
            to: now.to,
            summary: index.summary,
            transactions: index.transactions,
        }))
    }

    fn go_on(&mut self, piece: Piece, now: Piece) {
        self.before.push(now);
        self.rest = (now.to < piece.to).then_some(Piece { from: now.to, ..piece });
    }

    /// Makes the index of a stretch, after the stretch before it.
    async fn walk(&self, now: Piece) -> Result<Index> {
        let mut back = 1;
        loop {
            // Each stretch begins where a page does, the first of all where a record does.
            let first = self.before.len().saturating_sub(back);
            let before = self.before.get(first..).unwrap_or_default();
            let start = before.first().unwrap_or(&now).from;
            let timelines = self.timelines;
            let indexer = Indexer::new(timelines.geometry, timelines.generation, start)?;
            let mut indexer = indexer.of_major(timelines.major);
            for piece in before {
                self.feed(&mut indexer, *piece).await?;
            }
            drop(indexer.index());
            self.feed(&mut indexer, now).await?;
            let index = indexer.index();
            // A record may be longer than a stretch.
            if index.summary.joined || first == 0 || index.summary.broken.is_some() {
                return Ok(index);
            }
            back *= 4;
        }
    }

    async fn feed(&self, indexer: &mut Indexer, piece: Piece) -> Result<()> {
        let stream = self.timelines.stream(piece.timeline)?;
        let mut wal = Assembly::new(&self.timelines.repository, stream, piece.from, piece.to);
        while let Some(run) = wal.next().await? {
            self.context.stop.check()?;
            indexer.feed(&run.bytes);
        }
        Ok(())
    }
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
