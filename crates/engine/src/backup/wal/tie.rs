//! Whose WAL lies before that of the backup.
//!
//! What is stored of the segment that a backup begins in is compared with what the server sends. But where nothing is stored of
//! it, every stretch before it may be of a server that went another way: a clone, or this one before it lost its last writes.
//! Each record says where the one before it begins: the segment's first has to follow on the last that is stored.

use pgformat::{Lsn, wal::Walker};
use repo::{
    Repository,
    wal::{Assembly, Finish, Indexed, WalStream, index::Summary},
};

use crate::{Error, Result, archive::Indexer};

use super::{Stretch, odd_wal};

/// What the first record of the backup's first segment has to follow on.
pub(super) struct Tie {
    /// Where the last record begins of what is stored before that segment.
    last: Lsn,
    walker: Walker,
}

impl Tie {
    /// To what is stored before the segment in which `stretch` begins; `None` if that is not known to its end, or nothing is.
    pub(super) async fn to(repository: &Repository, stream: &WalStream, stretch: &Stretch) -> Result<Option<Tie>> {
        let first = stretch.from();
        let segment = first.0.checked_sub(stream.segment_size());
        let mut from = first.0;
        while Some(from) > segment {
            let part = stream.done_start(from - 1);
            let summary = match summary(repository, stream, stretch, part, from).await {
                // Then nobody takes a page unread for what is stored there.
                Err(Error::Repository(repo::Error::Damaged { .. } | repo::Error::Missing { .. })) => return Ok(None),
                summary => summary?,
            };
            match summary.last {
                _ if summary.broken.is_some() => return Ok(None),
                Some(last) => {
                    let walker = Walker::new(stretch.geometry()?, first).map_err(odd_wal)?;
                    let walker = walker.of_major(stretch.major).of_system(stretch.generation);
                    let last = Lsn(last.0);
                    return Ok(Some(Tie { last, walker }));
                }
                // Behind a switch the rest of a segment is empty.
                None if summary.joined => from = part,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Looks at what the server sends, from the segment's start on; whether there is no more to look at.
    ///
    /// Two servers whose records had the same sizes to the end are not told apart by that. A record that lies across is passed
    /// over, and so is what does not read as WAL: that is the business of others.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the first record follows on another one.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<bool> {
        let mut first = None;
        let fed = self.walker.feed(bytes, |record| {
            first.get_or_insert((record.lsn, record.prev));
        });
        let Some((lsn, prev)) = first else {
            return Ok(fed.is_err());
        };
        if prev == self.last || !self.walker.leading().is_empty() {
            return Ok(true);
        }
        Err(Error::Conflict {
            code: "two-servers",
            what: format!(
                "two servers claim one identity: the record at {lsn} follows on one at {prev}, and the last that is stored before it begins at {}",
                self.last
            ),
            hint: "Look which server is right. If it is this one, and lost its last writes, take the backup again: it reads every page, and what is stored stays as it is. If it is a clone, stop it, or protect it under another name with `lastgood init`.".into(),
        })
    }
}

/// Of what is stored from `part` to `from`, finished or not.
async fn summary(
    repository: &Repository,
    stream: &WalStream,
    stretch: &Stretch,
    part: u64,
    from: u64,
) -> Result<Summary> {
    if let Some(indexed) = Indexed::open(repository, stream, part).await? {
        return Ok(indexed.summary().await?);
    }
    let indexer = Indexer::new(stretch.geometry()?, stretch.generation, part)?;
    let mut indexer = indexer.of_major(stretch.major);
    let mut wal = Assembly::new(repository, *stream, part, from);
    while let Some(run) = wal.next().await? {
        indexer.feed(&run.bytes);
    }
    Ok(indexer.index().summary)
}
