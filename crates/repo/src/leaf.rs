//! Where the pages of a file are: leaves of 2,048 pages, each a list of extents (`FORMAT.md` section 9).
//!
//! Invariant: the extents of a whole leaf cover its pages exactly and in order. It is checked before a leaf is
//! written and after it was read.

mod builder;
mod codec;

pub use builder::{InFrame, LeafBuilder};

use crate::{
    Error, Result,
    envelope::{FEATURE_DIFFERENCES, KNOWN_FEATURES},
    sources::Sources,
};

/// Pages of a leaf; the last leaf of a file may have fewer.
pub const LEAF_PAGES: u32 = 2048;
/// Bit of `FORMAT.md` section 13 that a patched leaf needs.
const FEATURE_PATCH: u32 = 1 << 0;

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

/// Pages of a patched leaf that are elsewhere than its base says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Override {
    /// Pages between the end of the override before and this one.
    pub skipped: u32,
    /// Where the pages are.
    pub extent: Extent,
}

/// Where up to [`LEAF_PAGES`] consecutive pages of one file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaf {
    /// The extents of all its pages.
    Whole(Vec<Extent>),
    /// Another leaf, which is whole, and what differs from it.
    Patch {
        /// The whole leaf.
        base: LeafRef,
        /// In order of their pages.
        overrides: Vec<Override>,
    },
}

impl Leaf {
    /// The feature bits that a reader of this leaf must know.
    pub fn features(&self) -> u32 {
        let of = |extent: &Extent| if extent.base.is_some() { FEATURE_DIFFERENCES } else { 0 };
        match self {
            Leaf::Whole(extents) => extents.iter().fold(0, |bits, extent| bits | of(extent)),
            Leaf::Patch { overrides, .. } => {
                (overrides.iter()).fold(FEATURE_PATCH, |bits, patch| bits | of(&patch.extent))
            }
        }
    }

    /// Refuses a leaf that this version can decode but not follow. `name` is the object it stands in.
    pub(crate) fn require_known(&self, name: &str) -> Result<()> {
        match self.features() & !KNOWN_FEATURES {
            0 => Ok(()),
            unknown => Err(Error::Unsupported {
                name: name.into(),
                what: format!("features {unknown:#x}"),
            }),
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
        let extent = |extent: &mut Extent, each: &mut dyn FnMut(&mut u32)| {
            each(&mut extent.pages_at.source);
            if let Some(base) = &mut extent.base {
                each(&mut base.source);
            }
        };
        match self {
            Leaf::Whole(extents) => extents.iter_mut().for_each(|one| extent(one, &mut each)),
            Leaf::Patch { base, overrides } => {
                each(&mut base.source);
                overrides.iter_mut().for_each(|one| extent(&mut one.extent, &mut each));
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
