//! The leaves of one file, new ones and such as the parent has.

use repo::{
    bytes_codec::Malformed,
    leaf::{Extent, LEAF_PAGES, Leaf, LeafBuilder},
    table::LeafSlot,
};

use super::read::Run;

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
