//! Goes through all files of a backup's table: one reader of the table, N handlers, results in order.
//!
//! Restoring and checking are the same walk; they differ in what is done with a file's pages. Everything in between
//! is bounded: channels by their length, results out of order by [`WINDOW`].

mod compare;
mod reading;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use async_channel::{Receiver, Sender};
use async_lock::{Semaphore, SemaphoreGuardArc};
use repo::{
    Repository,
    manifest::Manifest,
    map::MapReader,
    table::{Entry, EntryKind, LeafSlot, TableReader},
};

use crate::{
    Result,
    event::{Context, Event},
    pages::{Packs, Pages},
    workers::{died, watched},
};

pub(crate) use compare::Compared;
pub(crate) use reading::Reading;

/// A large file is handled in parts of this many leaves, 64 MiB at 8 KiB a page, by whoever is free.
const PART_LEAVES: usize = 4;
/// Small files are handed out together: their pages share frames.
const BATCH_BYTES: u64 = 1 << 20;
const BATCH_FILES: usize = 128;
/// Pieces of work handed out and not yet taken back in order, per job.
const WINDOW: usize = 24;

/// A file of the table, or a part of one.
#[derive(Debug, Clone)]
pub(crate) struct FileEntry {
    pub(crate) path: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) modified_micros: i64,
    pub(crate) size: u64,
    /// Whether its pages have PostgreSQL's headers.
    pub(crate) relation: bool,
    pub(crate) leaves: Vec<LeafSlot>,
    /// Number of the first of `leaves` within the file.
    pub(crate) first_leaf: u64,
}

/// What was done with a file or a part of one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Handled {
    pub(crate) bytes: u64,
    /// CRC-32C of those bytes.
    pub(crate) crc: u32,
    /// Sealed bytes of frames that were fetched since the file before. Where files are compared, [`Compared`] tells that.
    pub(crate) fetched_bytes: u64,
}

/// One worker's way of handling files.
pub(crate) trait Handler: Send + 'static {
    /// Handles a whole file, or a part of one.
    fn file(&mut self, entry: &FileEntry, whole: bool) -> impl Future<Output = Result<Handled>> + Send;
}

/// The walk.
pub(crate) struct Traverse<'a> {
    pub(crate) context: &'a Context,
    pub(crate) repository: &'a Repository,
    pub(crate) manifest: &'a Manifest,
    pub(crate) jobs: usize,
}

/// Files handled whole, or a part of one.
enum Work {
    Files(Vec<FileEntry>),
    Part { entry: FileEntry, last: bool },
}

enum Outcome {
    Files(Vec<(FileEntry, Handled)>),
    Part {
        entry: FileEntry,
        handled: Handled,
        last: bool,
    },
}

struct Numbered {
    number: u64,
    work: Work,
    window: SemaphoreGuardArc,
}

type Done = Result<(u64, Outcome, SemaphoreGuardArc)>;

impl Traverse<'_> {
    /// Walks. `other` sees directories and links as they come, before any file in them is handed out, and files
    /// that will come in parts before any of these; `done` sees files in order of path, each once, when all of it
    /// was handled, with whether it came in parts.
    pub(crate) async fn run<H: Handler>(
        &self,
        make: impl Fn(Reading) -> H,
        mut other: impl FnMut(&Entry) -> Result<()>,
        mut done: impl FnMut(&FileEntry, &Handled, bool) -> Result<()>,
    ) -> Result<()> {
        let jobs = self.jobs.max(1);
        let (work_in, work_out) = async_channel::bounded(jobs * 2);
        let (done_in, done_out) = async_channel::bounded(jobs * 4);
        let needed = Arc::new(self.manifest.needed.clone());
        let page_size = self.manifest.facts.postgresql.block_size;
        let packs = Arc::new(Packs::new(self.repository.clone(), needed.clone(), page_size as usize));
        for _ in 0..jobs {
            let pages = Pages::new(packs.clone())?;
            let maps = MapReader::new(self.repository, needed.clone())?;
            let handler = make(Reading::new(pages, maps, needed.sources.clone(), page_size));
            let worker = work(self.context.clone(), handler, work_out.clone(), done_in.clone());
            let worker = watched(worker, done_in.clone());
            self.context.runtime.workers.spawn(Box::pin(worker));
        }
        drop(done_in);
        let window = Arc::new(Semaphore::new(WINDOW * jobs));
        let mut hand = Hand {
            context: self.context,
            work: work_in,
            window,
            next: 0,
            batch: Vec::new(),
            batch_bytes: 0,
        };
        let handed_out = OnceLock::new();
        let handed = async {
            let result = self.table(&mut hand, &mut other).await;
            let _ = handed_out.set(hand.next);
            hand.work.close();
            result
        };
        let mut collector = Collector {
            traverse: self,
            handed_out: &handed_out,
            next: 0,
            waiting: BTreeMap::new(),
            growing: None,
            bytes: 0,
        };
        // One task reads the table and takes outcomes in turn: each waits for the room that the other makes.
        let walked = futures::try_join!(handed, collector.run(done_out.clone(), &mut done));
        if walked.is_err() {
            ended(work_out, done_out).await;
        }
        walked.map(drop)
    }

    async fn table(&self, hand: &mut Hand<'_>, other: &mut impl FnMut(&Entry) -> Result<()>) -> Result<()> {
        let facts = &self.manifest.facts;
        let mut sources = self.manifest.needed.sources.clone();
        let mut table = TableReader::new(
            self.repository,
            facts.backup,
            facts.table(),
            facts.postgresql.block_size,
        )?;
        while let Some(entry) = table.next(&mut sources).await? {
            self.context.stop.check()?;
            let small = matches!(&entry.kind, EntryKind::File { leaves, .. } if leaves.len() <= PART_LEAVES);
            if !small {
                other(&entry)?;
            }
            let EntryKind::File { size, relation, leaves } = entry.kind else {
                continue;
            };
            let Entry {
                path,
                mode,
                modified_micros,
                ..
            } = entry;
            hand.file(FileEntry {
                path,
                mode,
                modified_micros,
                size,
                relation,
                leaves,
                first_leaf: 0,
            })
            .await?;
        }
        hand.flush().await
    }
}

/// After a failure: takes back what nobody has begun, and waits until every handler has ended. Whoever cleans up
/// after the walk must not have files appear behind his back.
async fn ended(work: Receiver<Numbered>, done: Receiver<Done>) {
    work.close();
    while work.try_recv().is_ok() {}
    while done.recv().await.is_ok() {}
}

/// One handler: takes work until there is none.
async fn work<H: Handler>(context: Context, mut handler: H, work: Receiver<Numbered>, done: Sender<Done>) {
    while let Ok(Numbered { number, work, window }) = work.recv().await {
        let outcome = match context.stop.check() {
            Ok(()) => piece(&mut handler, work).await,
            Err(error) => Err(error),
        };
        let failed = outcome.is_err();
        if done
            .send(outcome.map(|outcome| (number, outcome, window)))
            .await
            .is_err()
            || failed
        {
            return;
        }
    }
}

async fn piece<H: Handler>(handler: &mut H, work: Work) -> Result<Outcome> {
    match work {
        Work::Files(files) => {
            let mut handled = Vec::with_capacity(files.len());
            for entry in files {
                let one = handler.file(&entry, true).await?;
                handled.push((entry, one));
            }
            Ok(Outcome::Files(handled))
        }
        Work::Part { entry, last } => {
            let handled = handler.file(&entry, false).await?;
            Ok(Outcome::Part { entry, handled, last })
        }
    }
}

/// Cuts the table into pieces of work.
struct Hand<'a> {
    context: &'a Context,
    work: Sender<Numbered>,
    window: Arc<Semaphore>,
    next: u64,
    batch: Vec<FileEntry>,
    batch_bytes: u64,
}

impl Hand<'_> {
    async fn file(&mut self, entry: FileEntry) -> Result<()> {
        if entry.leaves.len() <= PART_LEAVES {
            self.batch_bytes += entry.size;
            self.batch.push(entry);
            let full = self.batch_bytes >= BATCH_BYTES || self.batch.len() >= BATCH_FILES;
            return if full { self.flush().await } else { Ok(()) };
        }
        self.flush().await?;
        let parts = entry.leaves.len().div_ceil(PART_LEAVES);
        for (number, leaves) in entry.leaves.chunks(PART_LEAVES).enumerate() {
            let first_leaf = (number * PART_LEAVES) as u64;
            let part = FileEntry {
                leaves: leaves.to_vec(),
                first_leaf,
                path: entry.path.clone(),
                ..entry
            };
            self.send(Work::Part {
                entry: part,
                last: number + 1 == parts,
            })
            .await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        self.batch_bytes = 0;
        match std::mem::take(&mut self.batch) {
            files if files.is_empty() => Ok(()),
            files => self.send(Work::Files(files)).await,
        }
    }

    async fn send(&mut self, work: Work) -> Result<()> {
        self.context.stop.check()?;
        let window = self.window.acquire_arc().await;
        let number = self.next;
        self.next += 1;
        match self.work.send(Numbered { number, work, window }).await {
            Ok(()) => Ok(()),
            // Nobody takes work any more: some worker failed, and the collector is about to say how.
            Err(_) => futures::future::pending().await,
        }
    }
}

/// Brings outcomes back into order.
struct Collector<'a> {
    traverse: &'a Traverse<'a>,
    /// Pieces handed out in all, once that is known.
    handed_out: &'a OnceLock<u64>,
    next: u64,
    waiting: BTreeMap<u64, (Outcome, SemaphoreGuardArc)>,
    growing: Option<Handled>,
    bytes: u64,
}

impl Collector<'_> {
    async fn run(
        &mut self,
        outcomes: Receiver<Done>,
        done: &mut impl FnMut(&FileEntry, &Handled, bool) -> Result<()>,
    ) -> Result<()> {
        while let Ok(outcome) = outcomes.recv().await {
            let (number, outcome, window) = outcome?;
            self.waiting.insert(number, (outcome, window));
            while let Some((outcome, _window)) = self.waiting.remove(&self.next) {
                self.next += 1;
                self.take(outcome, done)?;
            }
            let total = self.traverse.manifest.facts.totals.bytes;
            self.traverse.context.observer.event(Event::Progress {
                done: self.bytes,
                total,
            });
        }
        // All workers have ended. Whether they did what they were given is seen here, not from their silence.
        let all = self.handed_out.get() == Some(&self.next) && self.waiting.is_empty() && self.growing.is_none();
        if all { Ok(()) } else { Err(died()) }
    }

    fn take(
        &mut self,
        outcome: Outcome,
        done: &mut impl FnMut(&FileEntry, &Handled, bool) -> Result<()>,
    ) -> Result<()> {
        let mut whole = |entry: &FileEntry, handled: &Handled, parts: bool| {
            if handled.bytes != entry.size {
                let path = String::from_utf8_lossy(&entry.path);
                let what = format!(
                    "its map gives {} bytes for {path} of {} bytes",
                    handled.bytes, entry.size
                );
                return Err(repo::Error::Damaged {
                    name: "the file table".into(),
                    what,
                }
                .into());
            }
            done(entry, handled, parts)
        };
        match outcome {
            Outcome::Files(files) => {
                for (entry, handled) in files {
                    self.bytes += handled.bytes;
                    whole(&entry, &handled, false)?;
                }
                Ok(())
            }
            Outcome::Part { entry, handled, last } => {
                self.bytes += handled.bytes;
                let so_far = match self.growing.take() {
                    None => handled,
                    Some(before) => Handled {
                        crc: crc32c::crc32c_combine(before.crc, handled.crc, handled.bytes as usize),
                        bytes: before.bytes + handled.bytes,
                        fetched_bytes: before.fetched_bytes + handled.fetched_bytes,
                    },
                };
                if last {
                    return whole(&entry, &so_far, true);
                }
                self.growing = Some(so_far);
                Ok(())
            }
        }
    }
}
