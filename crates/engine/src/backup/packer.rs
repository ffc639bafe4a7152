//! Fills frames and packs with pages: the part of a backup that costs time.
//!
//! One packer belongs to one worker; nothing in it is shared but the numbering of packs and the uploads.
//! A page is hashed right after it was read and checked, before anything else of ours touches it.

mod differences;
mod frames;

use std::sync::Arc;

use pgformat::page::fold::Folder;
use repo::{
    BackupId, Repository,
    leaf::PageRef,
    pack::{Form, Slots},
    session::Session,
};

use crate::Result;

use super::{Level, uploads::Uploads};

use differences::Differences;
pub(super) use differences::Placed;
use frames::Frames;

/// Raw bytes of a frame that is full.
pub(super) const FRAME_BYTES: usize = 256 << 10;

/// What all packers of a backup share.
pub(super) struct Place {
    pub(super) repository: Repository,
    pub(super) session: Session,
    pub(super) backup: BackupId,
    pub(super) page_size: usize,
    pub(super) level: Level,
    pub(super) uploads: Uploads,
}

/// A frame and a pack being filled with whole pages, and beside them others with differences, once there are any.
pub(super) struct Packer {
    place: Arc<Place>,
    page_key: [u8; 32],
    raw: Vec<u8>,
    filled: usize,
    lengths: Vec<u32>,
    hashes: Vec<[u8; 8]>,
    frames: Frames,
    differences: Option<Differences>,
}

impl Packer {
    pub(super) fn new(place: Arc<Place>) -> Result<Packer> {
        let page_key = *place.repository.keyring().page_key();
        let form = match place.level {
            Level::None => Form::Whole,
            Level::Zstd(_) => Form::Folded,
        };
        Ok(Packer {
            page_key,
            raw: vec![0; FRAME_BYTES.max(place.page_size)],
            filled: 0,
            lengths: Vec::new(),
            hashes: Vec::new(),
            frames: Frames::new(place.clone(), form)?,
            differences: None,
            place,
        })
    }

    /// What a page hashes to.
    pub(super) fn hash(&self, page: &[u8]) -> [u8; 8] {
        repo::keys::page_hash(&self.page_key, page)
    }

    /// Room in the present frame, a whole number of pages and at least one, and where the first page put
    /// there will be found.
    pub(super) fn room(&mut self) -> Result<(&mut [u8], PageRef)> {
        let first = self.frames.at(self.lengths.len() as u32)?;
        let pages = (self.raw.len() - self.filled) / self.place.page_size;
        let room = &mut self.raw[self.filled..self.filled + pages * self.place.page_size];
        Ok((room, first))
    }

    /// Takes the first `bytes` of the room as pages, the last of which may be short. Returns how many, and
    /// whether the frame ends with them.
    pub(super) async fn take(&mut self, bytes: usize) -> Result<(u32, bool)> {
        let page_size = self.place.page_size;
        let pages = self.raw[self.filled..self.filled + bytes].chunks(page_size);
        let count = pages.len() as u32;
        for page in pages {
            self.lengths.push(page.len() as u32);
            self.hashes.push(repo::keys::page_hash(&self.page_key, page));
        }
        self.filled += bytes;
        let full = self.raw.len() - self.filled < page_size || self.lengths.len() >= repo::pack::MAX_SLOTS;
        if full {
            self.flush().await?;
        }
        Ok((count, full))
    }

    /// Stores what turns `base` into `page`, both as they are or shall be on disk, if that is less than half a page; else
    /// nothing, and the page is to be stored whole. Neither changes what [`Packer::room`] said.
    pub(super) async fn difference(&mut self, page: &[u8], base: &[u8]) -> Result<Option<Placed>> {
        let differences = match &mut self.differences {
            Some(differences) => differences,
            none => none.insert(Differences::new(self.place.clone())?),
        };
        differences.push(page, base).await
    }

    /// Closes the present frame, and the pack if that is full.
    async fn flush(&mut self) -> Result<()> {
        if self.lengths.is_empty() {
            return Ok(());
        }
        if matches!(self.place.level, Level::Zstd(_)) {
            self.fold();
        }
        let page_size = self.place.page_size;
        let uniform = self.lengths.iter().all(|length| *length as usize == page_size);
        let lengths = std::mem::take(&mut self.lengths);
        let slots = if uniform {
            Slots::Pages(lengths.len())
        } else {
            Slots::Lengths(lengths)
        };
        let raw = &self.raw[..self.filled];
        self.frames.put(raw, &slots, &self.hashes).await?;
        self.hashes.clear();
        self.filled = 0;
        Ok(())
    }

    /// Takes out of the pages what they let one foresee. They were hashed before: a reader who unfolds them
    /// otherwise is found out.
    fn fold(&mut self) {
        let mut folder = Folder::default();
        let mut rest = &mut self.raw[..self.filled];
        for length in &self.lengths {
            let (page, later) = rest.split_at_mut(*length as usize);
            if page.len() == self.place.page_size {
                folder.fold(page);
            }
            rest = later;
        }
    }

    /// Closes what is open and hands it over.
    pub(super) async fn finish(mut self) -> Result<()> {
        self.flush().await?;
        self.frames.finish().await?;
        match self.differences {
            Some(differences) => differences.finish().await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
