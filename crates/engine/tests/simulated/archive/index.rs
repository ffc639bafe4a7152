//! Which index a finished run should have: the one that is made of the server's bytes.

use engine::{
    archive::Indexer,
    pgformat::wal::Geometry,
    repo::wal::{Finish as _, index::Index},
};

use super::{SEGMENT, segment_size};

/// Of `bytes`, which begin at the segment's start `before` and end with the segment at `start`: knowing what lies across
/// the beginning as far as `before` shows it.
pub(crate) fn of(generation: u64, before: u64, bytes: &[u8]) -> Index {
    let geometry = Geometry::new(segment_size(), 8192).unwrap();
    let mut indexer = Indexer::new(geometry, generation, before).unwrap();
    let last = bytes.len() - SEGMENT as usize;
    if last > 0 {
        indexer.bytes(before, &bytes[..last]);
        drop(indexer.index());
    }
    indexer.bytes(before + last as u64, &bytes[last..]);
    let mut index = indexer.index();
    index.summary.content = blake3::hash(&bytes[last..]).to_hex().to_string();
    index
}
