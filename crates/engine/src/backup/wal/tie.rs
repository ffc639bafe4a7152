//! Whose WAL lies before that of the backup.
//!
//! What is stored of the segment that a backup begins in is compared with what the server sends. But where nothing is stored of
//! it, every stretch before it may be of a server that went another way: a clone, or this one before it lost its last writes.
//! Each record says where the one before it begins: the segment's first has to follow on the last that is stored.

use pgformat::{Lsn, wal::Walker};
use repo::{
    Repository,
    wal::{Assembly, Indexed, WalStream},
};

use crate::{Error, Result, event::Context};

use super::{Of, Stretch};

/// The first record of the backup's first segment, and what it has to follow on.
pub(super) struct Tie {
    /// Looks for that record, until it came.
    walker: Option<Walker>,
    /// Where it begins, and the one before it, as it says. None if one lies across the segment's beginning: that is passed over,
    /// and so is what does not read as WAL, which is the business of others.
    first: Option<(Lsn, Lsn)>,
    /// Where the last record begins of what is stored before that segment.
    last: Option<Lsn>,
    of: Of,
}

impl Tie {
    pub(super) fn of(stretch: &Stretch) -> Result<Tie> {
        Ok(Tie {
            walker: Some(stretch.walker(stretch.from())?),
            first: None,
            last: None,
            of: stretch.of,
        })
    }

    /// Whether there is something to follow on, and the first record still has to come.
    pub(super) fn is_open(&self) -> bool {
        self.last.is_some() && self.walker.is_some()
    }

    /// Whether what is stored was not known to its end, and may be now.
    pub(super) fn is_loose(&self) -> bool {
        self.last.is_none() && self.first.is_some()
    }

    /// What is stored before the segment: see [`last_before`].
    ///
    /// # Errors
    /// [`Error::Conflict`] if the first record came, and follows on another one.
    pub(super) fn stored(&mut self, last: Option<Lsn>) -> Result<()> {
        self.last = last;
        self.judge()
    }

    /// Looks at what the server sends, from the segment's start on.
    ///
    /// # Errors
    /// As [`Tie::stored`].
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(walker) = &mut self.walker else {
            return Ok(());
        };
        let mut first = None;
        let fed = walker.feed(bytes, |record| {
            first.get_or_insert((record.lsn, record.prev));
        });
        if first.is_some() && walker.leading().is_empty() {
            self.first = first;
        }
        if first.is_some() || fed.is_err() {
            self.walker = None;
        }
        self.judge()
    }

    /// Two servers whose records had the same sizes to the segment's end are not told apart by that.
    fn judge(&self) -> Result<()> {
        let (Some((lsn, prev)), Some(last)) = (self.first, self.last) else {
            return Ok(());
        };
        if prev == last {
            return Ok(());
        }
        let again = match self.of {
            Of::Primary => "take the backup again",
            // Until its next restartpoint a standby's backups begin where this one did.
            Of::Standby => "run CHECKPOINT on the primary and on it, then take the backup again",
        };
        Err(Error::Conflict {
            code: "two-servers",
            what: format!(
                "two servers claim one identity: the record at {lsn} follows on one at {prev}, and the last that is stored before it begins at {last}"
            ),
            hint: format!(
                "Look which server is right. If it is this one, and lost its last writes, {again}: it reads every page, and what is stored stays as it is. If it is a clone, stop it, or protect it under another name with `lastgood init`."
            ),
        })
    }
}

/// Where the last record begins of what is stored before the segment in which `stretch` begins; `None` if that is not known to
/// its end, or nothing is.
pub(super) async fn last_before(
    context: &Context,
    repository: &Repository,
    stream: WalStream,
    stretch: Stretch,
) -> Result<Option<Lsn>> {
    let last = match by_indexes(repository, stream, &stretch).await {
        Ok(None) => by_bytes(context, repository, stream, &stretch).await,
        last => last,
    };
    match last {
        // Then nobody takes a page unread for what is stored there.
        Err(Error::Repository(repo::Error::Damaged { .. } | repo::Error::Missing { .. })) => Ok(None),
        last => last,
    }
}

/// By the indexes of the segment before, the last first; behind a switch the rest of a segment is empty.
async fn by_indexes(repository: &Repository, stream: WalStream, stretch: &Stretch) -> Result<Option<Lsn>> {
    let mut from = stretch.from().0;
    let segment = from.saturating_sub(stream.segment_size());
    while from > segment {
        from = stream.done_start(from - 1);
        let Some(indexed) = Indexed::open(repository, &stream, from).await? else {
            return Ok(None);
        };
        let summary = indexed.summary().await?;
        if !summary.joined || summary.broken.is_some() {
            return Ok(None);
        }
        if let Some(last) = summary.last {
            return Ok(Some(Lsn(last.0)));
        }
    }
    Ok(None)
}

/// By the bytes, as whoever looks for changed pages reads them where there is no index of use: from further and further back, for
/// a record may be longer than a stretch, and only who saw a switch knows that the zeroes behind it are no damage.
async fn by_bytes(
    context: &Context,
    repository: &Repository,
    stream: WalStream,
    stretch: &Stretch,
) -> Result<Option<Lsn>> {
    let (first, segment) = (stretch.from().0, stream.segment_size());
    let part = first - stream.done_start(first.saturating_sub(1));
    // A switch may lie across the segment's beginning. What is longer still lies across the backup's, too.
    let most = first.min(segment + part);
    let mut back = part;
    while back > 0 && back <= most {
        let mut walker = stretch.walker(Lsn(first - back))?;
        let mut wal = Assembly::new(repository, stream, first - back, first);
        let (mut last, mut broken) = (None, false);
        while let Some(run) = wal.next().await?
            && !broken
        {
            context.stop.check()?;
            broken = walker.feed(&run.bytes, |record| last = Some(record.lsn)).is_err();
        }
        if last.is_some() && !broken {
            return Ok(last);
        }
        back = match back {
            back if back < segment => (back * 4).min(segment),
            back if back < most => most,
            _ => return Ok(None),
        };
    }
    Ok(None)
}
