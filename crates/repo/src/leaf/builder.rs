//! Makes the leaves of one file from its pages, in order.

use crate::bytes_codec::Malformed;

use super::{Extent, LEAF_PAGES, Leaf, PageRef};

/// Takes the pages of one file in order, merges what continues, and cuts leaves.
#[derive(Debug, Default)]
pub struct LeafBuilder {
    leaves: Vec<Leaf>,
    extents: Vec<Extent>,
    /// Pages in `extents`.
    pages: u32,
    /// The slot after the last extent's last, if it is known.
    next: Option<PageRef>,
}

impl LeafBuilder {
    /// One without pages.
    pub fn new() -> LeafBuilder {
        LeafBuilder::default()
    }

    /// Pages that the leaf being built still takes; never 0.
    pub fn room(&self) -> u32 {
        LEAF_PAGES - self.pages
    }

    /// Appends `pages` pages that lie side by side in one frame of `frame_slots` slots, from `first` on.
    /// They may go over into the next leaf.
    ///
    /// # Errors
    /// The frame has not that many slots from there, or no page is given.
    pub fn append_in_frame(&mut self, pages: u32, first: PageRef, frame_slots: u32) -> Result<(), Malformed> {
        let end = first.slot.checked_add(pages).filter(|end| *end <= frame_slots);
        let (Some(end), 1..) = (end, pages) else {
            return Err(Malformed("a run of pages does not fit its frame"));
        };
        let mut at = first;
        while at.slot < end {
            let taken = self.room().min(end - at.slot);
            match (self.next == Some(at), self.extents.last_mut()) {
                (true, Some(last)) => last.pages += taken,
                _ => self.extents.push(Extent {
                    pages: taken,
                    pages_at: at,
                    base: None,
                }),
            }
            at.slot += taken;
            self.next = Some(at);
            self.grow(taken);
        }
        if end == frame_slots {
            let (frame, slot) = (at.frame.checked_add(1), 0);
            self.next = frame.map(|frame| PageRef { frame, slot, ..at });
        }
        Ok(())
    }

    /// Appends an extent as another leaf has it. It must not go beyond the leaf being built: extents of the
    /// leaf at the same place of an earlier version of the file do not.
    ///
    /// # Errors
    /// It does, or it is empty.
    pub fn append_extent(&mut self, extent: Extent) -> Result<(), Malformed> {
        if extent.pages == 0 || extent.pages > self.room() {
            return Err(Malformed("an extent goes beyond its leaf"));
        }
        match (self.next == Some(extent.pages_at), extent.base, self.extents.last_mut()) {
            (true, None, Some(last)) => last.pages += extent.pages,
            _ => self.extents.push(extent),
        }
        // Without the pack's directory nobody knows how many slots its frames have.
        self.next = None;
        self.grow(extent.pages);
        Ok(())
    }

    /// The leaves of the whole file.
    pub fn finish(mut self) -> Vec<Leaf> {
        if self.pages > 0 {
            self.leaves.push(Leaf::Whole(self.extents));
        }
        self.leaves
    }

    fn grow(&mut self, pages: u32) {
        self.pages += pages;
        if self.pages == LEAF_PAGES {
            let extents = std::mem::take(&mut self.extents);
            self.leaves.push(Leaf::Whole(extents));
            self.pages = 0;
        }
    }
}
