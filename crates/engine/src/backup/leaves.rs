//! The leaves of one file, new ones and such as the parent has.

use repo::{
    bytes_codec::Malformed,
    leaf::{Extent, InFrame, LEAF_PAGES, Leaf, LeafBuilder, PageRef},
    table::LeafSlot,
};

use super::{packer::Placed, read::Run};

/// Takes the pieces of one file in order.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    made: Vec<Made>,
    open: LeafBuilder,
}

/// A leaf to be written, or one that stands somewhere already.
#[derive(Debug)]
pub(super) enum Made {
    New(Leaf),
    Kept(LeafSlot),
}

type Added = Result<(), Malformed>;

impl Leaves {
    /// Appends pages that were stored now.
    pub(super) fn stored(&mut self, run: &Run) -> Added {
        let slots = if run.closed {
            run.first.slot + run.pages
        } else {
            u32::MAX
        };
        self.open.append_in_frame(run.pages, run.first, slots)
    }

    /// Appends a page that is made of another.
    pub(super) fn difference(&mut self, placed: Placed, base: PageRef) -> Added {
        let slots = if placed.closed { placed.at.slot + 1 } else { u32::MAX };
        let differences = InFrame {
            first: placed.at,
            frame_slots: slots,
        };
        // How many slots its frame has is not known here.
        let bases = InFrame {
            first: base,
            frame_slots: u32::MAX,
        };
        self.open.append_differences(1, differences, bases)
    }

    /// Appends pages that the parent has.
    pub(super) fn kept(&mut self, extent: Extent) -> Added {
        self.open.append_extent(extent)
    }

    /// Appends a leaf that the parent has. It must come where a leaf begins.
    pub(super) fn leaf(&mut self, slot: LeafSlot) -> Added {
        if self.open.room() != LEAF_PAGES {
            return Err(Malformed("a leaf begins within another"));
        }
        self.close();
        self.made.push(Made::Kept(slot));
        Ok(())
    }

    /// All of them, in order.
    pub(super) fn finish(mut self) -> Vec<Made> {
        self.close();
        self.made
    }

    fn close(&mut self) {
        let done = std::mem::take(&mut self.open).finish();
        self.made.extend(done.into_iter().map(Made::New));
    }
}
