//! Writing a file table.

use crate::{
    Error, Result,
    backup_id::BackupId,
    bytes_codec::{Malformed, put_text},
    envelope::{Kind, Pin},
    names,
    repository::Repository,
    series::Series,
    session::Session,
    sources::Sources,
};

use super::{Entry, EntryKind, MAX_TABLE_FRAME, TABLE_FRAME};

/// What a table holds, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableCounts {
    /// Files.
    pub files: u64,
    /// Directories, the data directory among them.
    pub directories: u64,
    /// Links to tablespaces.
    pub links: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// A table that is in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenTable {
    /// Its objects, in order of their numbers: what a manifest remembers.
    pub pins: Vec<Pin>,
    /// What it holds.
    pub counts: TableCounts,
}

/// Takes entries in ascending order of their paths.
pub struct TableWriter {
    series: Series,
    block_size: u32,
    counts: TableCounts,
    /// The last path taken, whatever frame it is in.
    last: Option<Vec<u8>>,
    /// The entry being added.
    encoded: Vec<u8>,
    frame: Vec<u8>,
    frame_first: Vec<u8>,
    /// First paths of the frames of the object being written, encoded.
    firsts: Vec<u8>,
}

impl TableWriter {
    /// Begins the table of `backup`. `block_size` is the cluster's, in bytes.
    pub fn new(repository: &Repository, session: &Session, backup: BackupId, block_size: u32) -> Result<TableWriter> {
        Ok(TableWriter {
            series: Series::new(repository, session, Kind::Files, backup, names::files)?,
            block_size,
            counts: TableCounts::default(),
            last: None,
            encoded: Vec::new(),
            frame: Vec::new(),
            frame_first: Vec::new(),
            firsts: Vec::new(),
        })
    }

    /// Adds an entry. Its references are by the numbers of `sources`, which may grow from call to call and
    /// must be the list of this backup.
    ///
    /// # Errors
    /// [`Error::Damaged`] for an entry that a reader would refuse, [`Error::Unsupported`] for one that no
    /// reader of this version could follow. The table is as it was before then.
    pub async fn push(&mut self, entry: &Entry, sources: &Sources) -> Result<()> {
        self.check(entry, sources)?;
        let features = entry.features();
        if !self.series.says(features) {
            self.cut(sources).await?;
            let extra = self.extra(sources);
            self.series.say(features, extra).await?;
        }
        self.encoded.clear();
        let previous = self.last.as_deref().filter(|_| !self.frame.is_empty());
        entry.encode(previous.unwrap_or_default(), &mut self.encoded);
        if !self.frame.is_empty() && self.frame.len() + self.encoded.len() > TABLE_FRAME {
            self.cut(sources).await?;
            self.encoded.clear();
            entry.encode(&[], &mut self.encoded);
        }
        if self.encoded.len() > MAX_TABLE_FRAME {
            return Err(Error::Unsupported {
                name: String::from_utf8_lossy(&entry.path).into_owned(),
                what: "a larger file table".into(),
            });
        }
        if self.frame.is_empty() {
            self.frame_first.clone_from(&entry.path);
        }
        self.frame.extend_from_slice(&self.encoded);
        self.counts.count(entry);
        self.last.get_or_insert_default().clone_from(&entry.path);
        Ok(())
    }

    /// Writes what is left and says what to remember.
    pub async fn finish(mut self, sources: &Sources) -> Result<WrittenTable> {
        self.cut(sources).await?;
        self.close(sources).await?;
        let pins = self.series.written().into_iter().map(|written| written.pin).collect();
        Ok(WrittenTable {
            pins,
            counts: self.counts,
        })
    }

    fn check(&self, entry: &Entry, sources: &Sources) -> Result<()> {
        let refuse = |what| self.series.refuse(what);
        if sources.owner() != self.series.backup() {
            return Err(refuse(Malformed("the list of sources is another backup's")));
        }
        entry.check(self.block_size, sources.count()).map_err(refuse)?;
        if self.last.as_ref().is_some_and(|last| *last >= entry.path) {
            return Err(refuse(Malformed("its paths do not ascend")));
        }
        Ok(())
    }

    /// Seals the frame being filled, in a new object if this one would become too large.
    async fn cut(&mut self, sources: &Sources) -> Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let extra = sources.encoded_length() + self.firsts.len() + self.frame_first.len() + 10;
        if !self.series.has_room(self.frame.len(), extra) {
            self.close(sources).await?;
        }
        self.series.frame(&self.frame)?;
        put_text(&mut self.firsts, &self.frame_first);
        self.frame.clear();
        Ok(())
    }

    async fn close(&mut self, sources: &Sources) -> Result<()> {
        let extra = self.extra(sources);
        self.series.close(extra).await
    }

    /// The directory's own part, of the object being written.
    fn extra(&mut self, sources: &Sources) -> Vec<u8> {
        let mut extra = Vec::with_capacity(sources.encoded_length() + self.firsts.len());
        sources.encode(&mut extra);
        extra.append(&mut self.firsts);
        extra
    }
}

impl TableCounts {
    fn count(&mut self, entry: &Entry) {
        match &entry.kind {
            EntryKind::Directory => self.directories += 1,
            EntryKind::Link { .. } => self.links += 1,
            EntryKind::File { size, .. } => {
                self.files += 1;
                self.bytes = self.bytes.saturating_add(*size);
            }
        }
    }
}

impl std::fmt::Debug for TableWriter {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "TableWriter({}, {:?})", self.series.name(), self.counts)
    }
}
