//! What a backup has and a restore does not write.
//!
//! Of an unlogged relation a backup holds the init fork alone. But an index gets its init fork after it was built
//! (`index_build`, `catalog/index.c`), and a table after its main fork: a backup that was taken in between holds a main fork, and the WAL makes the init
//! fork. At the end of a recovery the server makes main forks of init forks (`ResetUnloggedRelations`,
//! `storage/file/reinit.c`), and dies where there is one already (`copy_file`, `storage/file/copydir.c`).

use std::collections::BTreeSet;

use pgformat::{
    Lsn, Major,
    relation::{self, Fork},
    wal::{Event, Geometry, Record, RelationLocator, StorageChange, Walker, event::RM_SMGR},
};

/// What is not written.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// Relations whose init fork the WAL makes.
    unlogged: BTreeSet<RelationLocator>,
}

impl LeftOut {
    /// Standby and recovery belong to the source's life, not to that of what is restored.
    pub(super) fn of_the_source_alone(path: &[u8]) -> bool {
        matches!(
            path,
            b"standby.signal" | b"recovery.signal" | b"recovery.conf" | b"recovery.done"
        )
    }

    /// Whether the file at `path` is not written.
    pub(super) fn has(&self, path: &[u8]) -> bool {
        Self::of_the_source_alone(path) || self.is_to_be_reset(path)
    }

    /// Whether the server will make the file at `path` from an init fork that comes with the WAL.
    pub(super) fn is_to_be_reset(&self, path: &[u8]) -> bool {
        let file = match self.unlogged.is_empty() {
            true => None,
            false => relation::classify(path),
        };
        file.is_some_and(|file| {
            let locator = RelationLocator {
                tablespace: file.tablespace,
                database: file.database,
                relation: file.relation,
            };
            file.fork != Fork::Init && self.unlogged.contains(&locator)
        })
    }

    fn note(&mut self, record: &Record<'_>) {
        if record.rmid != RM_SMGR {
            return;
        }
        let event = record.parts().and_then(|parts| parts.event());
        if let Ok(Event::Storage(StorageChange::Create { relation, fork })) = event
            && fork == Fork::Init
        {
            self.unlogged.insert(relation);
        }
    }
}

/// Looks through the WAL of a restore while it is laid out.
pub(super) struct Look {
    walker: Walker,
    left_out: LeftOut,
}

impl Look {
    /// From `start`, where a record begins; the first page's header, which tells the version, may lie before.
    pub(super) fn new(geometry: Geometry, major: Major, start: u64) -> Result<Look, pgformat::Error> {
        Ok(Look {
            walker: Walker::new(geometry, Lsn(start))?.of_major(major),
            left_out: LeftOut::default(),
        })
    }

    /// Takes in what lies at `at`; of that, what is next. What no walk gets past, no recovery does.
    pub(super) fn feed(&mut self, at: u64, bytes: &[u8]) {
        let known = usize::try_from(self.walker.position().0.saturating_sub(at)).unwrap_or(usize::MAX);
        let Some(news) = bytes.get(known..) else { return };
        let left_out = &mut self.left_out;
        let _ = self.walker.feed(news, |record| left_out.note(&record));
    }

    pub(super) fn done(self) -> LeftOut {
        self.left_out
    }
}
