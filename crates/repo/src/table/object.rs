//! One object of a table, opened.

use std::sync::Arc;

use crate::{
    Result,
    backup_id::BackupId,
    bytes_codec::{Malformed, Reader},
    envelope::{Opener, Sealed},
    sources::Sources,
};

use super::{Entry, EntryKind, LeafSlot, MAX_TABLE_FRAME, check_path};

/// An object of a table, here whole.
pub(super) struct TableObject {
    sealed: Sealed,
    sources: Arc<Sources>,
    /// The first path of each frame, ascending.
    pub(super) firsts: Vec<Vec<u8>>,
}

impl TableObject {
    /// Reads the directory of `sealed`, an object of `owner`.
    pub(super) fn new(sealed: Sealed, owner: BackupId) -> Result<TableObject> {
        let frames = sealed.directory.frames.len();
        let decoded = decode_extra(&sealed.directory.extra, frames, owner);
        let (sources, firsts) = decoded.map_err(|what| what.of(sealed.name()))?;
        Ok(TableObject {
            sealed,
            sources: Arc::new(sources),
            firsts,
        })
    }

    /// Opens frame `number`.
    pub(super) fn frame(&self, opener: &mut Opener, number: u32) -> Result<TableFrame> {
        let name = self.sealed.name();
        if self.sealed.frame(number)?.raw as usize > MAX_TABLE_FRAME {
            return Err(Malformed("a frame is too large").of(name));
        }
        let first = self.firsts.get(number as usize).cloned().unwrap_or_default();
        let bytes = self.sealed.read(opener, number)?;
        Ok(TableFrame::new(name, bytes, first, self.sources.clone()))
    }
}

pub(crate) fn decode_extra(extra: &[u8], frames: usize, owner: BackupId) -> Result<(Sources, Vec<Vec<u8>>), Malformed> {
    let mut reader = Reader::new(extra);
    let sources = Sources::decode(&mut reader, owner)?;
    let mut firsts: Vec<Vec<u8>> = Vec::new();
    for _ in 0..frames {
        let first = reader.text()?;
        if !first.is_empty() {
            check_path(first)?;
        }
        if firsts.last().is_some_and(|last| last.as_slice() >= first) {
            return Err(Malformed("its paths do not ascend"));
        }
        firsts.push(first.to_vec());
    }
    match (reader.is_empty(), frames) {
        (_, 0) => Err(Malformed("it is without entries")),
        (false, _) => Err(Malformed("its directory goes on where it should end")),
        (true, _) => Ok((sources, firsts)),
    }
}

/// A raw frame, read entry by entry: only one is decoded at a time.
pub(crate) struct TableFrame {
    name: String,
    bytes: Vec<u8>,
    at: usize,
    sources: Arc<Sources>,
    /// What the directory says the first path is, until that was read.
    first: Option<Vec<u8>>,
    previous: Vec<u8>,
}

impl TableFrame {
    /// The raw frame `bytes` of the object `name`; `first` is what the directory says its first path is.
    pub(crate) fn new(name: &str, bytes: Vec<u8>, first: Vec<u8>, sources: Arc<Sources>) -> TableFrame {
        TableFrame {
            name: name.into(),
            bytes,
            at: 0,
            sources,
            first: Some(first),
            previous: Vec::new(),
        }
    }

    /// The next entry, its references numbered by `into`; `None` at the end.
    pub(crate) fn next(&mut self, block_size: u32, into: &mut Sources) -> Result<Option<Entry>> {
        let mut entry = match self.decode(block_size) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(None),
            Err(what) => return Err(what.of(&self.name)),
        };
        if let EntryKind::File { leaves, .. } = &mut entry.kind {
            for leaf in leaves {
                match leaf {
                    LeafSlot::Inline(leaf) => leaf.renumber(&self.sources, into),
                    LeafSlot::Ref(at) => *at = at.renumbered(&self.sources, into),
                }
            }
        }
        Ok(Some(entry))
    }

    fn decode(&mut self, block_size: u32) -> Result<Option<Entry>, Malformed> {
        let mut reader = Reader::new(self.bytes.get(self.at..).unwrap_or_default());
        if reader.is_empty() {
            return match self.first {
                Some(_) => Err(Malformed("a frame is empty")),
                None => Ok(None),
            };
        }
        let entry = Entry::decode(&mut reader, &self.previous, block_size, self.sources.count())?;
        match self.first.take() {
            Some(first) if first != entry.path => return Err(Malformed("a frame begins with another path")),
            None if self.previous >= entry.path => return Err(Malformed("its paths do not ascend")),
            _ => {}
        }
        self.previous.clone_from(&entry.path);
        self.at = self.bytes.len() - reader.rest().len();
        Ok(Some(entry))
    }
}
