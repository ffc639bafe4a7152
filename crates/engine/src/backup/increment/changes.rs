//! The pages that WAL changed since the parent began.
//!
//! Pure. The rules and why they suffice: `docs/design/changed-pages.md`. Only main forks are told of: of all others the WAL
//! does not tell every change (the visibility map's, before 17.11 and 18.6), so they are read whole.

use std::collections::{BTreeMap, BTreeSet};

use pgformat::relation::{Fork, RelationFile};
use repo::wal::index::{Blocks, Relation};
use roaring::RoaringBitmap;

/// Above this, bytes, reading every page is no more work than knowing which.
const MOST_MEMORY: usize = 64 << 20;
/// The main fork, as WAL numbers it.
const MAIN: u8 = 0;

/// What changed.
#[derive(Debug, Clone, Default)]
pub(in crate::backup) struct Changes {
    forks: BTreeMap<Relation, Changed>,
    /// Tablespace and database of databases that were made or dropped.
    databases: BTreeSet<(u32, u32)>,
    /// How many stretches were added since the size was looked at.
    added: u32,
}

/// What changed of one main fork.
#[derive(Debug, Clone, Default)]
struct Changed {
    /// From this block on nothing is what it was.
    limit: Option<u32>,
    blocks: RoaringBitmap,
}

/// What changed of one file of a relation.
#[derive(Debug, Clone, Copy)]
pub(in crate::backup) struct OfFile<'a> {
    fork: Option<&'a Changed>,
    /// Number in the fork of the file's first block.
    first: u32,
}

impl Changes {
    /// Adds what one stretch changed; `Some` with why that is too much.
    pub(in crate::backup) fn add(&mut self, blocks: Blocks) -> Option<String> {
        for one in blocks.relations {
            if one.fork != MAIN {
                continue;
            }
            let fork = self.forks.entry(one.relation).or_default();
            if let Some(limit) = one.limit {
                fork.limit = Some(fork.limit.map_or(limit, |before| before.min(limit)));
            }
            // Ascending, as the index's decoder has checked.
            let sorted = RoaringBitmap::from_sorted_iter(one.blocks);
            match sorted {
                Ok(blocks) => fork.blocks |= blocks,
                Err(_) => return Some("an index does not name its blocks in order".into()),
            }
        }
        self.databases.extend(blocks.databases);
        self.added += 1;
        let large = self.added.is_multiple_of(64) && self.memory() > MOST_MEMORY;
        large.then(|| "so many pages changed that reading all is no more work".into())
    }

    fn memory(&self) -> usize {
        self.forks
            .values()
            .map(|fork| fork.blocks.serialized_size() + 128)
            .sum()
    }

    /// What changed of `file`; `None` if that is not known of such a file, which is to be read whole.
    pub(in crate::backup) fn of(&self, file: &RelationFile, blocks_per_segment: u32) -> Option<OfFile<'_>> {
        let known = file.fork == Fork::Main
            && file.temporary_of.is_none()
            && !self.databases.contains(&(file.tablespace, file.database));
        let relation = Relation {
            space: file.tablespace,
            database: file.database,
            number: file.relation,
        };
        let first = file.segment.checked_mul(blocks_per_segment)?;
        known.then(|| OfFile {
            fork: self.forks.get(&relation),
            first,
        })
    }
}

impl OfFile<'_> {
    /// Whether the block `number` of the file may be other than it was.
    pub(in crate::backup) fn has(&self, number: u32) -> bool {
        let Some(fork) = self.fork else { return false };
        let block = self.first.saturating_add(number);
        fork.limit.is_some_and(|limit| block >= limit) || fork.blocks.contains(block)
    }
}

#[cfg(test)]
mod tests {
    use repo::wal::index::RelationBlocks;

    use super::*;

    fn file(fork: Fork, segment: u32, database: u32) -> RelationFile {
        RelationFile {
            tablespace: 1663,
            database,
            relation: 7,
            fork,
            segment,
            temporary_of: None,
        }
    }

    fn blocks(fork: u8, limit: Option<u32>, numbers: &[u32]) -> Blocks {
        let relation = Relation {
            space: 1663,
            database: 5,
            number: 7,
        };
        Blocks {
            relations: vec![RelationBlocks {
                relation,
                fork,
                limit,
                blocks: numbers.to_vec(),
            }],
            databases: vec![(1663, 9)],
        }
    }

    #[test]
    fn a_block_changed_if_a_record_names_it_or_it_lies_past_a_limit() {
        let mut changes = Changes::default();
        assert_eq!(changes.add(blocks(0, None, &[3, 10, 101])), None);
        assert_eq!(changes.add(blocks(0, Some(110), &[4])), None);
        assert_eq!(changes.add(blocks(0, Some(120), &[])), None);
        let main = file(Fork::Main, 0, 5);
        let of = changes.of(&main, 100).unwrap();
        let changed: Vec<u32> = (0..100).filter(|block| of.has(*block)).collect();
        assert_eq!(changed, [3, 4, 10]);
        let second = file(Fork::Main, 1, 5);
        let of = changes.of(&second, 100).unwrap();
        let changed: Vec<u32> = (0..13).filter(|block| of.has(*block)).collect();
        assert_eq!(changed, [1, 10, 11, 12]);
    }

    #[test]
    fn of_other_forks_and_of_databases_made_anew_nothing_is_known() {
        let mut changes = Changes::default();
        changes.add(blocks(2, Some(0), &[1]));
        assert!(changes.of(&file(Fork::VisibilityMap, 0, 5), 100).is_none());
        assert!(changes.of(&file(Fork::FreeSpaceMap, 0, 5), 100).is_none());
        assert!(changes.of(&file(Fork::Init, 0, 5), 100).is_none());
        assert!(changes.of(&file(Fork::Main, 0, 9), 100).is_none());
        let temporary = RelationFile {
            temporary_of: Some(3),
            ..file(Fork::Main, 0, 5)
        };
        assert!(changes.of(&temporary, 100).is_none());
        // What no record names has not changed; the visibility map's limit is not the heap's.
        assert!(!changes.of(&file(Fork::Main, 0, 5), 100).unwrap().has(1));
    }
}
