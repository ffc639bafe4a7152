//! Values that stand one behind another in a record, read when they are asked for: nothing is allocated.

use std::marker::PhantomData;

use super::block::RelationLocator;
use crate::bytes::Reader;

/// What a [`List`] can be of: something that always takes the same number of bytes.
pub trait Item: Copy {
    /// How many.
    const BYTES: usize;
    /// From the front of `bytes`; `None` if there are fewer.
    fn read(bytes: &[u8]) -> Option<Self>;
}

/// A transaction id or an object id.
impl Item for u32 {
    const BYTES: usize = 4;
    fn read(bytes: &[u8]) -> Option<Self> {
        Reader(bytes).u32()
    }
}

impl Item for RelationLocator {
    const BYTES: usize = 12;
    fn read(bytes: &[u8]) -> Option<Self> {
        RelationLocator::read(&mut Reader(bytes))
    }
}

/// A list inside a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List<'a, T> {
    bytes: &'a [u8],
    item: PhantomData<T>,
}

impl<'a, T: Item> List<'a, T> {
    /// A list of nothing.
    pub const EMPTY: List<'static, T> = List {
        bytes: &[],
        item: PhantomData,
    };

    /// `count` of them off the front.
    pub(super) fn read(reader: &mut Reader<'a>, count: u32) -> Option<Self> {
        let bytes = reader.items(count, T::BYTES)?;
        Some(List {
            bytes,
            item: PhantomData,
        })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.bytes.len() / T::BYTES
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// One after another, as they stand in the record.
    pub fn iter(&self) -> impl Iterator<Item = T> + use<'a, T> {
        self.bytes.chunks_exact(T::BYTES).filter_map(T::read)
    }
}
