//! Where the pages of a file are: leaves of 2,048 pages, each a list of extents (`FORMAT.md` section 9).
//!
//! Invariant: the extents of a leaf cover its pages exactly and in order. It is checked before a leaf is
//! written and after it was read.

mod builder;
mod codec;

pub use builder::{InFrame, LeafBuilder};

use crate::{envelope::FEATURE_DIFFERENCES, sources::Sources};

/// Pages of a leaf; the last leaf of a file may have fewer.
pub const LEAF_PAGES: u32 = 2048;
/// One slot of a pack. `source` is a number of the [`Sources`] that the reference stands beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageRef {
    /// Whose pack.
    pub source: u32,
    /// Which of its packs.
    pub pack: u32,
    /// Frame of the pack.
    pub frame: u32,
    /// Slot of the frame.
    pub slot: u32,
}

/// Consecutive pages in consecutive slots: after the last slot of a frame comes slot 0 of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// How many pages, at least 1.
    pub pages: u32,
    /// The first page; or the first difference, if there is a base.
    pub pages_at: PageRef,
    /// The first of the whole pages that differences apply to.
    pub base: Option<PageRef>,
}

/// A leaf in a map object. `source` is a number of the [`Sources`] that the reference stands beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeafRef {
    /// Whose map object.
    pub source: u32,
    /// Which of its map objects.
    pub map: u32,
    /// Frame of the object.
    pub frame: u32,
    /// Number within the frame.
    pub number: u32,
}

/// Where up to [`LEAF_PAGES`] consecutive pages of one file are: the extents of all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf(pub Vec<Extent>);

impl Leaf {
    /// The feature bits that a reader of this leaf must know.
    pub fn features(&self) -> u32 {
        match self.0.iter().any(|extent| extent.base.is_some()) {
            true => FEATURE_DIFFERENCES,
            false => 0,
        }
    }

    /// The same leaf, its references renumbered from one list of sources to another. Numbers that `from` does
    /// not have are refused when a leaf is decoded; here they stay as they are.
    pub(crate) fn renumber(&mut self, from: &Sources, into: &mut Sources) {
        let mut each = |source: &mut u32| {
            if let Some(id) = from.get(*source) {
                *source = into.intern(id);
            }
        };
        for extent in &mut self.0 {
            each(&mut extent.pages_at.source);
            if let Some(base) = &mut extent.base {
                each(&mut base.source);
            }
        }
    }
}

impl LeafRef {
    /// The same place, by the numbers of another list of sources.
    pub(crate) fn renumbered(mut self, from: &Sources, into: &mut Sources) -> LeafRef {
        if let Some(id) = from.get(self.source) {
            self.source = into.intern(id);
        }
        self
    }
}

/// How many pages a file of `size` bytes has; the last may be short.
pub fn pages_of(size: u64, block_size: u32) -> u64 {
    size.div_ceil(u64::from(block_size.max(1)))
}

/// How many leaves a file of `size` bytes has.
pub fn leaves_of(size: u64, block_size: u32) -> u64 {
    pages_of(size, block_size).div_ceil(u64::from(LEAF_PAGES))
}

/// How many pages leaf `number` of a file of `size` bytes has; 0 if there is no such leaf.
pub fn pages_of_leaf(size: u64, block_size: u32, number: u64) -> u32 {
    let before = number.saturating_mul(u64::from(LEAF_PAGES));
    let left = pages_of(size, block_size).saturating_sub(before);
    left.min(u64::from(LEAF_PAGES)) as u32
}

#[cfg(test)]
mod tests;
