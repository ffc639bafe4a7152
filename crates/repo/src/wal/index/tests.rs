use super::*;
use crate::ledger::Lsn;
use proptest::prelude::*;

fn relation() -> impl Strategy<Value = Relation> {
    (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(space, database, number)| Relation {
        space,
        database,
        number,
    })
}

fn kind() -> impl Strategy<Value = EndingKind> {
    prop_oneof![
        Just(EndingKind::Commit),
        Just(EndingKind::Abort),
        Just(EndingKind::Prepare),
        Just(EndingKind::CommitPrepared),
        Just(EndingKind::AbortPrepared),
    ]
}

fn ending() -> impl Strategy<Value = Ending> {
    let numbers = (
        any::<u64>(),
        any::<u64>(),
        any::<u64>(),
        any::<u32>(),
        any::<i64>(),
        any::<u32>(),
    );
    let lists = (
        prop::collection::vec(any::<u32>(), 0..5),
        prop::collection::vec(relation(), 0..3),
        ".{0,9}",
    );
    (numbers, kind(), lists).prop_map(|((lsn, prev, end, xid, time, database), kind, lists)| Ending {
        lsn: Lsn(lsn),
        prev: Lsn(prev),
        end: Lsn(end),
        kind,
        xid,
        time,
        database,
        subtransactions: lists.0,
        dropped: lists.1,
        name: lists.2,
    })
}

proptest! {
    #[test]
    fn transactions_read_back(
        endings in prop::collection::vec(ending(), 0..6),
        points in prop::collection::vec((any::<u64>(), any::<u64>(), any::<i64>(), ".{0,9}"), 0..3),
        touched in prop::collection::vec((any::<u32>(), relation(), any::<u64>()), 0..6),
    ) {
        let transactions = Transactions {
            endings,
            points: points.into_iter().map(|(lsn, end, time, name)| RestorePoint { lsn: Lsn(lsn), end: Lsn(end), time, name }).collect(),
            touched: touched.iter().map(|(xid, relation, rows)| Touched {
                xid: *xid, relation: *relation, inserted: *rows, updated: 1, deleted: 0,
            }).collect(),
            dropped: touched.iter().map(|(xid, relation, _)| DroppedDatabase {
                lsn: Lsn(7), xid: *xid, space: relation.space, database: relation.database,
            }).collect(),
        };
        prop_assert_eq!(Transactions::decode(&transactions.encode()), Ok(transactions));
    }

    #[test]
    fn blocks_read_back(
        found in prop::collection::btree_map((relation(), 0u8..4), (any::<Option<u32>>(), prop::collection::btree_set(any::<u32>(), 0..9)), 0..5),
        databases in prop::collection::vec(any::<(u32, u32)>(), 0..3),
    ) {
        let relations = found.into_iter().map(|((relation, fork), (limit, blocks))| RelationBlocks {
            relation,
            fork,
            // The largest block number of all is no block.
            limit: limit.map(|limit| limit.min(u32::MAX - 1)),
            blocks: blocks.into_iter().collect(),
        });
        let blocks = Blocks { relations: relations.collect(), databases };
        prop_assert_eq!(Blocks::decode(&blocks.encode()), Ok(blocks));
    }

    #[test]
    fn no_bytes_panic_the_reader_of_an_index(bytes: Vec<u8>) {
        let _ = (Summary::decode(&bytes), Blocks::decode(&bytes), Transactions::decode(&bytes));
    }
}

#[test]
fn a_summary_keeps_its_size_whatever_it_tells() {
    let summary = Summary {
        content: "0".repeat(64),
        broken: Some("é".repeat(5000)),
        incomplete: Some("\u{1}".repeat(5000)),
        ..Summary::default()
    };
    let bytes = summary.encode();
    assert!(bytes.len() <= summary::MAX_SUMMARY, "{}", bytes.len());
    assert!(Summary::decode(&bytes).unwrap().broken.unwrap().starts_with('é'));
}
