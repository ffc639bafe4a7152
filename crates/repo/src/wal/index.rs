//! What a finished run of WAL says of the records that end in it (`FORMAT.md` section 11).
//!
//! A record belongs to the run in which it ends. Whoever makes the index of a run knows the beginning of a record that
//! began before it; where it does not, `joined` is false, and who needs that record reads the bytes.

mod blocks;
mod summary;
mod transactions;

pub use blocks::{Blocks, RelationBlocks};
pub use summary::Summary;
pub use transactions::{DroppedDatabase, Ending, EndingKind, RestorePoint, Touched, Transactions};

use crate::bytes_codec::{Malformed, Reader, put_varint};

/// All that is known of one run's records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// The little that most questions need.
    pub summary: Summary,
    /// Which pages were changed.
    pub blocks: Blocks,
    /// What transactions did, and how they ended.
    pub transactions: Transactions,
}

/// A relation as WAL names it (`RelFileLocator`): three oids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Relation {
    /// Its tablespace.
    pub space: u32,
    /// Its database; 0 for shared relations.
    pub database: u32,
    /// Its file's number.
    pub number: u32,
}

impl Relation {
    fn put(self, out: &mut Vec<u8>) {
        put_varint(out, self.space.into());
        put_varint(out, self.database.into());
        put_varint(out, self.number.into());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Relation, Malformed> {
        Ok(Relation {
            space: reader.varint32()?,
            database: reader.varint32()?,
            number: reader.varint32()?,
        })
    }
}

/// Refuses bytes after the last thing.
fn at_end<T>(reader: &Reader<'_>, value: T) -> Result<T, Malformed> {
    match reader.is_empty() {
        true => Ok(value),
        false => Err(Malformed("something follows its end")),
    }
}

#[cfg(test)]
mod tests;
