//! Finished WAL whose records nobody looked at: its index says so, and who needs them reads the bytes.

use repo::wal::{
    Finish,
    index::{Index, Summary},
};

/// Makes indexes that say nothing.
pub(super) struct Unindexed;

impl Finish for Unindexed {
    fn bytes(&mut self, _: u64, _: &[u8]) {}

    fn index(&mut self) -> Index {
        let summary = Summary {
            joined: false,
            broken: Some("not read".into()),
            ..Summary::default()
        };
        Index {
            summary,
            ..Index::default()
        }
    }
}
