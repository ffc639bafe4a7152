//! Finds each file's earlier self: both lists ascend by path, so one look at each entry is enough.

use std::sync::Arc;

use repo::{
    Repository,
    manifest::Manifest,
    sources::Sources,
    table::{Entry, EntryKind, LeafSlot, TableReader},
};

use crate::Result;

/// A file as the parent has it. Its references are by the numbers of the parent's manifest.
#[derive(Debug, Clone)]
pub(in crate::backup) struct ParentFile {
    /// Bytes.
    pub(in crate::backup) size: u64,
    pub(in crate::backup) leaves: Vec<LeafSlot>,
}

/// The parent's file table, read along with the walk over the data directory.
pub(in crate::backup) struct ParentFiles {
    table: TableReader,
    sources: Sources,
    /// The entry that was read last; none after the end.
    ahead: Option<Entry>,
    is_begun: bool,
    /// The file that was asked for last, for the next part of it.
    last: Option<(Vec<u8>, Option<Arc<ParentFile>>)>,
}

impl ParentFiles {
    pub(in crate::backup) fn new(repository: &Repository, manifest: &Manifest) -> Result<ParentFiles> {
        let facts = &manifest.facts;
        let table = TableReader::new(repository, facts.backup, facts.table(), facts.postgresql.block_size)?;
        Ok(ParentFiles {
            table,
            sources: manifest.needed.sources.clone(),
            ahead: None,
            is_begun: false,
            last: None,
        })
    }

    /// The file at `path`, if the parent has one there. Paths asked for must ascend; one may be asked for again.
    pub(in crate::backup) async fn find(&mut self, path: &[u8]) -> Result<Option<Arc<ParentFile>>> {
        if let Some((last, file)) = &self.last
            && last == path
        {
            return Ok(file.clone());
        }
        let file = self.read_to(path).await?.map(Arc::new);
        self.last = Some((path.to_vec(), file.clone()));
        Ok(file)
    }

    async fn read_to(&mut self, path: &[u8]) -> Result<Option<ParentFile>> {
        let is_before = |ahead: &Option<Entry>| ahead.as_ref().is_some_and(|entry| entry.path.as_slice() < path);
        while !self.is_begun || is_before(&self.ahead) {
            self.is_begun = true;
            self.ahead = self.table.next(&mut self.sources).await?;
        }
        let Some(entry) = self.ahead.take_if(|entry| entry.path == path) else {
            return Ok(None);
        };
        // The entry is gone; the next look reads on.
        self.is_begun = false;
        Ok(match entry.kind {
            EntryKind::File { size, leaves, .. } => Some(ParentFile { size, leaves }),
            EntryKind::Directory | EntryKind::Link { .. } => None,
        })
    }
}
