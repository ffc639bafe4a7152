//! Which pages are written anew although they have not changed, because few of the pages in their packs are used any more.
//!
//! Without that a restore would read, after a hundred increments, several times what it writes, and no old pack would ever be of no
//! use to anybody.

use std::collections::BTreeSet;

use repo::manifest::{Needed, ObjectRef};

/// How much of a database one backup writes anew for that, at most: a twentieth.
const BUDGET: u64 = 20;

/// How many quarters of a pack are used at most if what is left of it is written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backup) enum Limit {
    /// One, and within the budget.
    Budget,
    /// Three, and however many there are: after it a restore reads little more than it writes.
    Everything,
}

/// The packs of which the rest is written anew, by source and number. `pages` are those of the parent.
pub(in crate::backup) fn moving(needed: &Needed, pages: u64, limit: Limit) -> BTreeSet<(u32, u32)> {
    let quarters = match limit {
        Limit::Budget => 1,
        Limit::Everything => 3,
    };
    let share = |pack: &ObjectRef| u64::from(pack.used) * 4;
    let mut sparse: Vec<&ObjectRef> = needed
        .packs
        .iter()
        .filter(|pack| share(pack) < u64::from(pack.holds) * quarters)
        .collect();
    // Those first that go with the least work for what they hold.
    sparse.sort_by(|a, b| {
        let (left, right) = (
            u64::from(a.used) * u64::from(b.holds),
            u64::from(b.used) * u64::from(a.holds),
        );
        left.cmp(&right)
            .then_with(|| (a.source, a.number).cmp(&(b.source, b.number)))
    });
    let mut left = match limit {
        Limit::Budget => pages / BUDGET,
        Limit::Everything => u64::MAX,
    };
    // One that is too large for what is left must not hold up all the others.
    let within = sparse.into_iter().filter(|pack| {
        let rest = left.checked_sub(pack.used.into());
        left = rest.unwrap_or(left);
        rest.is_some()
    });
    within.map(|pack| (pack.source, pack.number)).collect()
}

#[cfg(test)]
mod tests {
    use repo::{BackupId, sources::Sources};

    use super::*;

    fn needed(packs: &[(u32, u32)]) -> Needed {
        let packs = packs.iter().zip(0..).map(|((used, holds), number)| ObjectRef {
            source: 0,
            number,
            size: 1,
            directory: 1,
            hash: [0; 32],
            holds: *holds,
            used: *used,
        });
        Needed {
            sources: Sources::new(BackupId::new(0, [0; 6])),
            packs: packs.collect(),
            maps: Vec::new(),
        }
    }

    #[test]
    fn the_emptiest_packs_are_moved_first_and_no_more_than_the_budget_allows() {
        let all = needed(&[(100, 100), (24, 100), (25, 100), (1, 100), (20, 100)]);
        let moved = |pages| {
            let moved = moving(&all, pages, Limit::Budget);
            moved.into_iter().map(|(_, number)| number).collect::<Vec<_>>()
        };
        assert_eq!(moved(20 * 45), [1, 3, 4]);
        assert_eq!(moved(20 * 21), [3, 4]);
        assert_eq!(moved(20), [3]);
        assert_eq!(moved(0), [0; 0]);
        let large = needed(&[(900, 9000), (20, 100)]);
        assert_eq!(
            moving(&large, 20 * 20, Limit::Budget).into_iter().collect::<Vec<_>>(),
            [(0, 1)]
        );
        assert_eq!(moving(&all, 0, Limit::Everything).len(), 4);
    }
}
