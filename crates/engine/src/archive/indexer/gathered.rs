//! What the records of one stretch did.

use std::collections::{BTreeMap, BTreeSet};

use pgformat::{
    Lsn,
    control::WalLevel,
    relation::Fork,
    wal::{
        DatabaseChange, Event, Record, RelationLocator, RowChange, ServerEvent, StorageChange, Transaction,
        TransactionKind, event::RM_XACT,
    },
};
use repo::{
    ledger,
    wal::index::{
        Blocks, DroppedDatabase, Ending, EndingKind, Index, Relation, RelationBlocks, RestorePoint, Summary,
        Transactions,
    },
};

use super::touches::Touches;

/// More names than a segment can mean to set are somebody's mistake; the first ones are kept.
const MAX_POINTS: usize = 10_000;

/// What was gathered of one stretch.
#[derive(Default)]
pub(super) struct Gathered {
    summary: Summary,
    endings: Vec<Ending>,
    points: Vec<RestorePoint>,
    touched: Touches,
    dropped: Vec<DroppedDatabase>,
    blocks: BTreeMap<(Relation, u8), Changed>,
    databases: BTreeSet<(u32, u32)>,
    pub(super) broken: Option<String>,
    incomplete: Option<String>,
    pub(super) joined: bool,
    pub(super) unjoined: bool,
    pub(super) leading_told: bool,
    pub(super) last_end: Option<u64>,
}

/// Changed pages of one fork.
#[derive(Default)]
struct Changed {
    limit: Option<u32>,
    blocks: Vec<u32>,
}

/// So many block numbers are kept before they are sorted and made unique.
const MANY_BLOCKS: usize = 1 << 16;

impl Gathered {
    /// Begins a new stretch; `joined` if the walk goes on from the one before.
    pub(super) fn begin(&mut self, joined: bool) {
        self.joined = joined;
    }

    pub(super) fn take(&mut self) -> Index {
        let mut all = std::mem::take(self);
        (self.last_end, self.leading_told) = (all.last_end, all.leading_told);
        let relations = all.blocks.into_iter().map(|((relation, fork), mut changed)| {
            changed.blocks.sort_unstable();
            changed.blocks.dedup();
            RelationBlocks {
                relation,
                fork,
                limit: changed.limit,
                blocks: changed.blocks,
            }
        });
        let relations = relations.collect();
        all.summary.joined = all.joined && !all.unjoined;
        all.summary.broken = all.broken;
        all.summary.incomplete = all.incomplete;
        Index {
            summary: all.summary,
            blocks: Blocks {
                relations,
                databases: all.databases.into_iter().collect(),
            },
            transactions: Transactions {
                endings: all.endings,
                points: all.points,
                touched: all.touched.take(),
                dropped: all.dropped,
            },
        }
    }

    pub(super) fn record(&mut self, record: &Record<'_>) {
        let lsn = |position: Lsn| ledger::Lsn(position.0);
        self.summary.records += 1;
        if self.summary.first.is_none() {
            self.summary.first = Some(lsn(record.lsn));
            self.summary.before = Some(lsn(record.prev));
        }
        self.summary.last = Some(lsn(record.lsn));
        self.summary.end = Some(lsn(record.end));
        self.last_end = Some(record.end.0);
        let taken_apart = record
            .parts()
            .and_then(|parts| parts.event().map(|event| (parts, event)));
        let (parts, event) = match taken_apart {
            Ok(found) => found,
            Err(error) => {
                // Its checksum fits: replay may read it. Which pages it changed is not known.
                self.incomplete.get_or_insert_with(|| error.to_string());
                if record.rmid == RM_XACT {
                    // The end of a transaction that nobody can tell of: no moment behind it can be found.
                    self.broken.get_or_insert_with(|| error.to_string());
                }
                return;
            }
        };
        for block in parts.blocks() {
            let changed = self
                .blocks
                .entry((relation(block.relation), fork(block.fork)))
                .or_default();
            if changed.blocks.last() != Some(&block.block) {
                changed.blocks.push(block.block);
                if changed.blocks.len().is_multiple_of(MANY_BLOCKS) {
                    changed.blocks.sort_unstable();
                    changed.blocks.dedup();
                }
            }
        }
        if record.is_special_relation_update() && matches!(event, Event::Other) {
            let what = format!("the record at {} changes files in a way that is not known", record.lsn);
            self.incomplete.get_or_insert(what);
        }
        self.event(record, event);
    }

    fn event(&mut self, record: &Record<'_>, event: Event<'_>) {
        match event {
            Event::Transaction(transaction) => self.ending(record, &transaction),
            Event::Rows(rows) => {
                let relation = relation(rows.relation);
                let touched = self.touched.of(record.xid, relation);
                let count = u64::from(rows.count);
                match rows.change {
                    RowChange::Insert | RowChange::InsertUnlessConflict => touched.inserted += count,
                    RowChange::Update | RowChange::HotUpdate => touched.updated += count,
                    RowChange::Delete | RowChange::MoveAway => touched.deleted += count,
                    // The insertion it takes back was counted.
                    RowChange::TakeBack => touched.inserted = touched.inserted.saturating_sub(count),
                }
            }
            Event::Storage(StorageChange::Create { relation, fork }) => self.limit(relation, fork, 0),
            Event::Storage(StorageChange::Truncate {
                relation,
                blocks,
                forks,
            }) if forks.main => {
                self.limit(relation, Fork::Main, blocks);
            }
            Event::Database(change) => self.database(record, change),
            Event::Server(event) => self.server(record, event),
            Event::Storage(_) | Event::Truncate(_) | Event::Assignment(_) | Event::Other => {}
        }
    }

    fn ending(&mut self, record: &Record<'_>, transaction: &Transaction<'_>) {
        for dropped in transaction.dropped.iter() {
            for fork in [Fork::Main, Fork::FreeSpaceMap, Fork::VisibilityMap, Fork::Init] {
                self.limit(dropped, fork, 0);
            }
        }
        self.summary.endings += 1;
        let (earliest, latest) = (&mut self.summary.earliest, &mut self.summary.latest);
        *earliest = Some(earliest.map_or(transaction.time, |time| time.min(transaction.time)));
        *latest = Some(latest.map_or(transaction.time, |time| time.max(transaction.time)));
        self.endings.push(Ending {
            lsn: ledger::Lsn(record.lsn.0),
            prev: ledger::Lsn(record.prev.0),
            end: ledger::Lsn(record.end.0),
            kind: match transaction.kind {
                TransactionKind::Commit => EndingKind::Commit,
                TransactionKind::Abort => EndingKind::Abort,
                TransactionKind::Prepare => EndingKind::Prepare,
                TransactionKind::CommitPrepared => EndingKind::CommitPrepared,
                TransactionKind::AbortPrepared => EndingKind::AbortPrepared,
            },
            xid: transaction.xid,
            time: transaction.time,
            database: transaction.database.unwrap_or(0),
            subtransactions: transaction.subtransactions.iter().collect(),
            dropped: transaction.dropped.iter().map(relation).collect(),
            name: transaction
                .gid
                .map(|gid| String::from_utf8_lossy(gid).into_owned())
                .unwrap_or_default(),
        });
    }

    fn database(&mut self, record: &Record<'_>, change: DatabaseChange<'_>) {
        match change {
            DatabaseChange::CreateByFileCopy {
                database, tablespace, ..
            }
            | DatabaseChange::CreateByWalLog { database, tablespace } => {
                self.databases.insert((tablespace, database));
            }
            DatabaseChange::Drop { database, tablespaces } => {
                for space in tablespaces.iter() {
                    self.databases.insert((space, database));
                    self.dropped.push(DroppedDatabase {
                        lsn: ledger::Lsn(record.lsn.0),
                        xid: record.xid,
                        space,
                        database,
                    });
                }
            }
        }
    }

    fn server(&mut self, record: &Record<'_>, event: ServerEvent<'_>) {
        let level = match event {
            ServerEvent::RestorePoint { name, time } => {
                if self.points.len() < MAX_POINTS {
                    self.points.push(RestorePoint {
                        lsn: ledger::Lsn(record.lsn.0),
                        end: ledger::Lsn(record.end.0),
                        time,
                        name: String::from_utf8_lossy(name).into_owned(),
                    });
                }
                None
            }
            ServerEvent::ParameterChange(parameters) => Some(parameters.wal_level),
            ServerEvent::CheckpointRedo { wal_level } => Some(wal_level),
            ServerEvent::EndOfRecovery { wal_level, .. } => wal_level,
            _ => None,
        };
        if level == Some(WalLevel::Minimal) {
            let what = format!("from {} on wal_level is minimal", record.lsn);
            self.incomplete.get_or_insert(what);
        }
    }

    /// From that block on nothing of the fork is what it was.
    fn limit(&mut self, locator: RelationLocator, which: Fork, block: u32) {
        let changed = self.blocks.entry((relation(locator), fork(which))).or_default();
        changed.limit = Some(changed.limit.map_or(block, |limit| limit.min(block)));
    }
}

fn relation(locator: RelationLocator) -> Relation {
    Relation {
        space: locator.tablespace,
        database: locator.database,
        number: locator.relation,
    }
}

fn fork(fork: Fork) -> u8 {
    match fork {
        Fork::Main => 0,
        Fork::FreeSpaceMap => 1,
        Fork::VisibilityMap => 2,
        Fork::Init => 3,
    }
}
