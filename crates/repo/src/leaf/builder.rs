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
    /// The slots after the last extent's last, of its pages and of their bases if it has any; if they are known.
    next: Option<(PageRef, Option<PageRef>)>,
}

/// Slots side by side in one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFrame {
    /// The first.
    pub first: PageRef,
    /// How many slots the frame has in all. After its last one, slot 0 of the next frame goes on; where that is not wanted or
    /// not known, any larger number says so.
    pub frame_slots: u32,
}

impl InFrame {
    fn holds(&self, pages: u32) -> bool {
        let end = self.first.slot.checked_add(pages);
        end.is_some_and(|end| end <= self.frame_slots)
    }

    /// Behind the first `pages`; nothing if there is no such frame.
    pub(super) fn after(&self, pages: u32) -> Option<InFrame> {
        let slot = self.first.slot.checked_add(pages)?;
        let first = match slot == self.frame_slots {
            true => PageRef {
                frame: self.first.frame.checked_add(1)?,
                slot: 0,
                ..self.first
            },
            false => PageRef { slot, ..self.first },
        };
        Some(InFrame { first, ..*self })
    }
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
        self.append(pages, InFrame { first, frame_slots }, None)
    }

    /// Appends `pages` pages whose differences lie side by side in one frame, and the pages that they apply to in another.
    /// They may go over into the next leaf.
    ///
    /// # Errors
    /// One of the frames has not that many slots from there, or no page is given.
    pub fn append_differences(&mut self, pages: u32, differences: InFrame, bases: InFrame) -> Result<(), Malformed> {
        self.append(pages, differences, Some(bases))
    }

    fn append(&mut self, mut pages: u32, at: InFrame, base: Option<InFrame>) -> Result<(), Malformed> {
        if pages == 0 || !at.holds(pages) || base.is_some_and(|base| !base.holds(pages)) {
            return Err(Malformed("a run of pages does not fit its frame"));
        }
        let mut next = Some((at, base));
        while let (Some((at, base)), 1..) = (next, pages) {
            let taken = self.room().min(pages);
            let (pages_at, first_base) = (at.first, base.map(|base| base.first));
            match (self.next == Some((pages_at, first_base)), self.extents.last_mut()) {
                (true, Some(last)) => last.pages += taken,
                _ => self.extents.push(Extent {
                    pages: taken,
                    pages_at,
                    base: first_base,
                }),
            }
            pages -= taken;
            next = match base {
                None => at.after(taken).map(|at| (at, None)),
                Some(base) => at.after(taken).zip(base.after(taken).map(Some)),
            };
            self.next = next.map(|(at, base)| (at.first, base.map(|base| base.first)));
            self.grow(taken);
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
        match (
            self.next == Some((extent.pages_at, extent.base)),
            self.extents.last_mut(),
        ) {
            (true, Some(last)) => last.pages += extent.pages,
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
            self.leaves.push(Leaf(self.extents));
        }
        self.leaves
    }

    fn grow(&mut self, pages: u32) {
        self.pages += pages;
        if self.pages == LEAF_PAGES {
            let extents = std::mem::take(&mut self.extents);
            self.leaves.push(Leaf(extents));
            self.pages = 0;
        }
    }
}
