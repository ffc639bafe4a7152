//! Whose WAL lies before that of the backup.
//!
//! What is stored of the segment that a backup begins in is compared with what the server sends. A backup that begins with a
//! segment has nothing to compare, and every stored stretch before it may be of a server that went another way: a clone, or this
//! one before it lost its last writes. But each record says where the one before it begins.

use pgformat::{Lsn, wal::Record};
use repo::{
    Repository,
    wal::{Indexed, WalStream},
};

use crate::{Error, Result};

/// What the first record of the backup has to follow on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tie {
    /// Where the last record begins of what is stored before the backup's WAL.
    last: Lsn,
}

impl Tie {
    /// To what is stored before `from`, where a segment begins; `None` if that is not known to its end.
    pub(super) async fn to(repository: &Repository, stream: &WalStream, from: Lsn) -> Result<Option<Tie>> {
        let segment = from.0.checked_sub(stream.segment_size());
        let mut from = from.0;
        while Some(from) > segment {
            let summary = async {
                match Indexed::open(repository, stream, from - 1).await? {
                    Some(indexed) => indexed.summary().await.map(Some),
                    None => Ok(None),
                }
            };
            match summary.await {
                Ok(Some(summary)) if summary.broken.is_none() => match summary.last {
                    Some(last) => return Ok(Some(Tie { last: Lsn(last.0) })),
                    // Behind a switch the rest of a segment is empty.
                    None => from = stream.done_start(from - 1),
                },
                // Then nobody takes a page unread for what is stored there.
                Ok(_) | Err(repo::Error::Damaged { .. } | repo::Error::Missing { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Refuses the backup's first record if it follows on another one. Two servers whose records had the same sizes to the end are not
    /// told apart by that.
    ///
    /// # Errors
    /// [`repo::Error::TwoServers`].
    pub(super) fn check(self, record: &Record<'_>) -> Result<()> {
        if record.prev == self.last {
            return Ok(());
        }
        Err(Error::Repository(repo::Error::TwoServers {
            what: format!(
                "the server's record at {} follows on one at {}, and the last that is stored before it begins at {}",
                record.lsn, record.prev, self.last
            ),
        }))
    }
}
