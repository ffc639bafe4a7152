//! Differences on their way into frames and packs of their own.
//!
//! They have a pack of their own because a frame's number is given away before it is closed: of two open frames of one pack
//! nobody could say which is closed first.

use std::sync::Arc;

use repo::{
    leaf::PageRef,
    pack::{Differ, Form, MAX_SLOTS, Slots},
};

use crate::Result;

use super::{FRAME_BYTES, Place, frames::Frames};

/// Where a difference was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backup) struct Placed {
    pub(in crate::backup) at: PageRef,
    /// Whether it is the last of its frame, so that the next one is slot 0 of the frame after it.
    pub(in crate::backup) closed: bool,
}

/// A frame and a pack being filled with differences.
pub(super) struct Differences {
    differ: Differ,
    page_size: usize,
    page_key: [u8; 32],
    raw: Vec<u8>,
    lengths: Vec<u32>,
    hashes: Vec<[u8; 8]>,
    frames: Frames,
}

impl Differences {
    pub(super) fn new(place: Arc<Place>) -> Result<Differences> {
        Ok(Differences {
            differ: Differ::new(place.page_size)?,
            page_size: place.page_size,
            page_key: *place.repository.keyring().page_key(),
            raw: Vec::with_capacity(FRAME_BYTES),
            lengths: Vec::new(),
            hashes: Vec::new(),
            frames: Frames::new(place, Form::Differences)?,
        })
    }

    /// Stores what turns `base` into `page`, if that is worth it.
    pub(super) async fn push(&mut self, page: &[u8], base: &[u8]) -> Result<Option<Placed>> {
        // The last page of a file may be short, and next time longer: whole it costs next to nothing.
        if page.len() != self.page_size {
            return Ok(None);
        }
        let hash = repo::keys::page_hash(&self.page_key, page);
        let Some(difference) = self.differ.difference(page, base) else {
            return Ok(None);
        };
        let at = self.frames.at(self.lengths.len() as u32)?;
        self.raw.extend_from_slice(difference);
        self.lengths.push(difference.len() as u32);
        self.hashes.push(hash);
        // Differences have much in common with one another, so frames have as many as they may: some 40 KiB.
        let closed = self.lengths.len() >= MAX_SLOTS || self.raw.len() + self.page_size / 2 > FRAME_BYTES;
        if closed {
            self.flush().await?;
        }
        Ok(Some(Placed { at, closed }))
    }

    async fn flush(&mut self) -> Result<()> {
        if self.lengths.is_empty() {
            return Ok(());
        }
        let slots = Slots::Lengths(std::mem::take(&mut self.lengths));
        self.frames.put(&self.raw, &slots, &self.hashes).await?;
        self.hashes.clear();
        self.raw.clear();
        Ok(())
    }

    /// Closes what is open and hands it over.
    pub(super) async fn finish(mut self) -> Result<()> {
        self.flush().await?;
        self.frames.finish().await
    }
}
