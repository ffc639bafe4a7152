//! Makes the index of WAL: walks its records, checks each, and notes what it did.

use std::collections::{BTreeMap, BTreeSet};

use pgformat::{
    Lsn, Major,
    control::WalLevel,
    relation::Fork,
    wal::{
        DatabaseChange, Event, Geometry, Record, RelationLocator, RowChange, ServerEvent, StorageChange, Transaction,
        TransactionKind, Walker, event::RM_XACT,
    },
};
use repo::{
    ledger,
    wal::{
        Finish,
        index::{
            Blocks, DroppedDatabase, Ending, EndingKind, Index, Relation, RelationBlocks, RestorePoint, Summary,
            Touched, Transactions,
        },
    },
};

use crate::{Error, Result};

/// More names than a segment can mean to set are somebody's mistake; the first ones are kept.
const MAX_POINTS: usize = 10_000;

/// The longest record that is put together for a stored index, bytes. A server may log one of 1 GiB
/// (`XLogRecordMaxSize`, `access/xlogrecord.h`), and memory must not depend on it. Whoever needs what is in or behind it
/// walks the bytes.
const LONGEST_RECORD: usize = 8 << 20;

/// How far before a segment its walk begins, bytes: a few pages, and a multiple of every size of theirs.
const FIRST_LOOK_BACK: u64 = 64 << 10;

/// Walks over consecutive WAL and makes an index of each stretch.
///
/// Records that it cannot read end the walk, not the work: the index says where and why, and the walk begins again at
/// the next segment.
pub struct Indexer {
    geometry: Geometry,
    generation: u64,
    major: Option<Major>,
    /// Position of the next byte.
    position: u64,
    walker: Option<Walker>,
    /// The longest record that is put together, bytes.
    longest: usize,
    gathered: Gathered,
}

impl std::fmt::Debug for Indexer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Indexer({})", Lsn(self.position))
    }
}

impl Indexer {
    /// Begins at `start`: a segment's first byte, or where a record begins. Given the bytes of the segment before
    /// first, it knows the record that lies across.
    pub fn new(geometry: Geometry, generation: u64, start: u64) -> Result<Indexer> {
        let mut indexer = Indexer {
            geometry,
            generation,
            major: None,
            position: start,
            walker: None,
            longest: usize::MAX,
            gathered: Gathered::default(),
        };
        indexer.walker = Some(indexer.walker(start)?);
        indexer.gathered.begin(true);
        Ok(indexer)
    }

    /// Begins at the segment that starts at `start`, knowing the record that lies across its beginning: `before` hands out
    /// bytes from one position to another, or says that it has not all of them.
    ///
    /// A record of more than 8 MiB ends this walk, up to the next segment: memory stays bounded where indexes are made to be
    /// stored.
    ///
    /// Few records are long. So little is read at first, and more only where a record's beginning is not in it.
    pub fn after(
        geometry: Geometry,
        generation: u64,
        start: u64,
        mut before: impl FnMut(u64, u64, &mut dyn FnMut(&[u8])) -> bool,
    ) -> Result<Indexer> {
        let mut back = FIRST_LOOK_BACK;
        while back <= geometry.segment_size().bytes() && back <= start {
            let mut indexer = Indexer::new(geometry, generation, start - back)?.within(LONGEST_RECORD);
            if !before(start - back, start, &mut |bytes| indexer.feed(bytes)) || indexer.position != start {
                break;
            }
            let knows = indexer.walker.as_ref().is_some_and(|walker| walker.leading_left() == 0);
            if knows {
                drop(indexer.index());
                return Ok(indexer);
            }
            back *= 4;
        }
        Ok(Indexer::new(geometry, generation, start)?.within(LONGEST_RECORD))
    }

    fn within(mut self, longest: usize) -> Indexer {
        self.longest = longest;
        self
    }

    /// Position of the next byte.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Where the last whole record ends.
    pub fn end(&self) -> Option<u64> {
        self.gathered.last_end
    }

    /// The version that wrote the WAL, as soon as a page told it.
    pub fn major(&self) -> Option<Major> {
        self.major
    }

    fn walker(&self, start: u64) -> Result<Walker> {
        let walker = Walker::new(self.geometry, Lsn(start)).map_err(|error| Error::Failed {
            code: "wal-position",
            what: error.to_string(),
            hint: "Report this as a bug.".into(),
        })?;
        Ok(walker.of_system(self.generation))
    }

    /// Takes in the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let segment = self.geometry.segment_size().bytes();
            let room = segment - self.position % segment;
            let (now, later) = rest.split_at(usize::try_from(room).unwrap_or(usize::MAX).min(rest.len()));
            if self.position.is_multiple_of(segment) && self.walker.is_none() {
                // After a stop: once more from here. What lies across the start is lost to this walk.
                self.walker = self.walker(self.position).ok();
                self.gathered.joined = false;
                self.gathered.leading_told = false;
            }
            self.walk(now);
            self.position = self.position.saturating_add(now.len() as u64);
            rest = later;
        }
    }

    fn walk(&mut self, bytes: &[u8]) {
        let Some(walker) = &mut self.walker else {
            return;
        };
        let gathered = &mut self.gathered;
        let walked = walker.feed(bytes, |record| gathered.record(&record));
        if !gathered.leading_told && !walker.leading().is_empty() {
            // The end of a record whose beginning was not seen.
            gathered.unjoined = true;
            gathered.leading_told = walker.leading_left() == 0;
        }
        self.major = walker.major().or(self.major);
        let held = walker.tail().map_or(0, |tail| tail.bytes.len());
        let stopped = match walked {
            Err(stop) => stop.to_string(),
            Ok(()) if held.max(walker.leading().len()) > self.longest => {
                format!("a record is longer than {} bytes", self.longest)
            }
            Ok(()) => return,
        };
        self.gathered.broken.get_or_insert(stopped);
        self.walker = None;
    }
}

impl Finish for Indexer {
    fn bytes(&mut self, start: u64, bytes: &[u8]) {
        if start != self.position {
            // Somebody left something out: what was gathered is of another stretch.
            self.position = start;
            self.walker = self.walker(start).ok();
            self.gathered = Gathered::default();
            self.gathered.begin(false);
        }
        self.feed(bytes);
    }

    fn index(&mut self) -> Index {
        let walking = self.walker.is_some();
        let index = self.gathered.take();
        self.gathered.begin(walking);
        index
    }
}

/// What was gathered of one stretch.
#[derive(Default)]
struct Gathered {
    summary: Summary,
    endings: Vec<Ending>,
    points: Vec<RestorePoint>,
    touched: BTreeMap<(u32, Relation), Touched>,
    dropped: Vec<DroppedDatabase>,
    blocks: BTreeMap<(Relation, u8), Changed>,
    databases: BTreeSet<(u32, u32)>,
    broken: Option<String>,
    incomplete: Option<String>,
    joined: bool,
    unjoined: bool,
    leading_told: bool,
    last_end: Option<u64>,
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
    fn begin(&mut self, joined: bool) {
        self.joined = joined;
    }

    fn take(&mut self) -> Index {
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
                touched: all.touched.into_values().collect(),
                dropped: all.dropped,
            },
        }
    }

    fn record(&mut self, record: &Record<'_>) {
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
                let touched = self.touched.entry((record.xid, relation)).or_insert(Touched {
                    xid: record.xid,
                    relation,
                    ..Touched::default()
                });
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
