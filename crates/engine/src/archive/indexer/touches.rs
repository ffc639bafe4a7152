//! Which transaction changed how many rows of which relation, in little memory.

use std::collections::BTreeMap;

use repo::wal::index::{Relation, Touched};

/// So many are kept in a tree before they join the others. A tree alone takes two and a half times the room: what comes in
/// ascending order leaves its nodes half empty.
const RECENT: usize = 1024;

/// Counts by transaction and relation.
#[derive(Debug, Default)]
pub(super) struct Touches {
    /// In order. What is here is not in `recent`.
    settled: Vec<Touched>,
    recent: BTreeMap<(u32, Relation), Touched>,
}

impl Touches {
    /// The counts of that transaction in that relation.
    pub(super) fn of(&mut self, xid: u32, relation: Relation) -> &mut Touched {
        if self.recent.len() >= RECENT.max(self.settled.len() / 4) {
            self.settle();
        }
        let key = (xid, relation);
        match self.settled.binary_search_by_key(&key, key_of) {
            Ok(found) => &mut self.settled[found],
            Err(_) => self.recent.entry(key).or_insert(Touched {
                xid,
                relation,
                ..Touched::default()
            }),
        }
    }

    /// All of them, in order.
    pub(super) fn take(mut self) -> Vec<Touched> {
        self.settle();
        self.settled
    }

    fn settle(&mut self) {
        self.settled.extend(std::mem::take(&mut self.recent).into_values());
        self.settled.sort_unstable_by_key(key_of);
    }
}

fn key_of(touched: &Touched) -> (u32, Relation) {
    (touched.xid, touched.relation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// It counts what a tree alone counts, in the same order.
        #[test]
        fn nothing_is_counted_twice_or_lost(steps in prop::collection::vec((0u32..3000, 0u32..3), 0..9000)) {
            let mut tree: BTreeMap<(u32, Relation), u64> = BTreeMap::new();
            let mut touches = Touches::default();
            for (xid, number) in steps {
                let relation = Relation { space: 1, database: 2, number };
                *tree.entry((xid, relation)).or_default() += 1;
                touches.of(xid, relation).updated += 1;
            }
            let counted: Vec<_> = touches.take().iter().map(|one| (key_of(one), one.updated)).collect();
            prop_assert_eq!(counted, tree.into_iter().collect::<Vec<_>>());
        }
    }
}
