//! Leaves that are too long for the file table, in objects of their own (`FORMAT.md` section 9).
//!
//! Invariant: a leaf is handed out only after its extents were found to cover the pages asked for.

mod reader;
mod writer;

pub use crate::series::Written;
pub use reader::MapReader;
pub use writer::MapWriter;

#[cfg(feature = "fuzzing")]
pub(crate) use reader::find;

/// A leaf with at most this many extents stands in the file table itself: a reference would save too little.
pub const LEAF_INLINE_EXTENTS: usize = 4;
/// A frame is cut when it has grown to this, raw. Small, because one leaf may be all that is wanted of it.
pub const MAP_FRAME: usize = 64 << 10;
/// The largest raw frame of a map that a reader accepts.
pub const MAX_MAP_FRAME: usize = 1 << 20;

#[cfg(test)]
mod tests;
