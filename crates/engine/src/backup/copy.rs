//! Copies the files: one walker, N readers, one assembler.
//!
//! ```text
//! walk ──work──▶ reader (read, check, hash, compress, seal) ──outcomes──▶ assemble ──▶ file table
//!                   └──packs──▶ uploads
//! ```
//! Everything between them is bounded: channels by their length, pieces out of order by [`WINDOW`].

use std::sync::Arc;

use async_channel::{Receiver, Sender};
use async_lock::{Semaphore, SemaphoreGuardArc};
use repo::table::{Entry, EntryKind};

use crate::{
    Result,
    event::{Context, Event},
    rate::Rate,
    source::Source,
    workers::{died, watched},
};

use super::{
    assemble::{Assembler, Outcome},
    increment::{Known, ParentFiles, Shared},
    packer::{FRAME_BYTES, Packer, Place},
    read::{Reader, Rules},
    walk::{self, Sink, Spaces, Work},
};

/// Pieces of work handed out and not yet in the table, per job. Bounds what waits for its turn.
const WINDOW: usize = 24;

/// What is copied, by how many.
pub(super) struct Copy {
    pub(super) context: Context,
    pub(super) source: Arc<dyn Source>,
    pub(super) spaces: Spaces,
    pub(super) rules: Rules,
    pub(super) place: Arc<Place>,
    pub(super) rate: Arc<Rate>,
    pub(super) jobs: usize,
    /// Bytes in all, as far as the catalog knows; only for progress.
    pub(super) expected: u64,
    /// The parent of an incremental backup.
    pub(super) parent: Option<Parent>,
}

/// What an incremental backup is computed against.
pub(super) struct Parent {
    pub(super) files: ParentFiles,
    pub(super) shared: Arc<Shared>,
}

struct Numbered {
    number: u64,
    work: Work,
    window: SemaphoreGuardArc,
}

/// What workers say.
enum Said {
    /// What came of a piece.
    Piece(u64, Outcome, SemaphoreGuardArc),
    /// A reader has closed its pack and ends.
    Closed,
    /// All was handed out: so many pieces.
    Walked(u64),
}

type Done = Result<Said>;

impl Copy {
    /// Copies everything into packs and hands the files, in order, to `assembler`. Ends when `still_good` says that
    /// the backup is lost: without that, hours of copying would go on for nothing. However it ends, no reader works any more when
    /// it returns.
    pub(super) async fn run(
        mut self,
        assembler: &mut Assembler,
        still_good: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<()> {
        let jobs = self.jobs.max(1);
        let (work_in, work_out) = async_channel::bounded(jobs * 2);
        let (done_in, done_out) = async_channel::bounded(jobs * 4);
        let (files, shared) = self
            .parent
            .take()
            .map_or((None, None), |parent| (Some(parent.files), Some(parent.shared)));
        for _ in 0..jobs {
            let known = shared.clone().map(|shared| Known::new(&self.place.repository, shared));
            let reader = Reader {
                source: self.source.clone(),
                rules: self.rules.clone(),
                rate: self.rate.clone(),
                packer: Packer::new(self.place.clone())?,
                known: known.transpose()?,
                scratch: vec![0; FRAME_BYTES.max(self.place.page_size)],
            };
            let worker = work(self.context.clone(), reader, work_out.clone(), done_in.clone());
            let worker = watched(worker, done_in.clone());
            self.context.runtime.workers.spawn(Box::pin(worker));
        }
        let window = Arc::new(Semaphore::new(WINDOW * jobs));
        let hand = Hand {
            work: work_in,
            done: done_in.clone(),
            window,
            next: 0,
            context: self.context.clone(),
            files,
        };
        let (source, spaces) = (self.source.clone(), self.spaces.clone());
        let walker = watched(hand.walk(source, spaces), done_in.clone());
        self.context.runtime.workers.spawn(Box::pin(walker));
        // Ours would keep the channel open after the workers are gone.
        drop(done_in);
        let copied = self.collect(&done_out, assembler, still_good).await;
        if copied.is_err() {
            ended(work_out, done_out).await;
        }
        copied
    }

    /// Takes what comes of the pieces until all workers have ended, or one thing fails.
    async fn collect(
        &self,
        done_out: &Receiver<Done>,
        assembler: &mut Assembler,
        still_good: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<()> {
        let (mut walked, mut closed) = (None, 0);
        while let Ok(outcome) = done_out.recv().await {
            self.context.stop.check()?;
            still_good()?;
            let (number, outcome, window) = match outcome? {
                Said::Piece(number, outcome, window) => (number, outcome, window),
                Said::Closed => {
                    closed += 1;
                    continue;
                }
                Said::Walked(pieces) => {
                    walked = Some(pieces);
                    continue;
                }
            };
            assembler.take(number, outcome).await?;
            drop(window);
            let total = self.expected.max(assembler.totals.bytes);
            self.context.observer.event(Event::Progress {
                done: assembler.totals.bytes,
                total,
            });
        }
        // The channel closes when all have ended, however they ended.
        if closed != self.jobs.max(1) || walked != Some(assembler.taken()) {
            return Err(died());
        }
        self.place.uploads.check()
    }
}

/// After a failure: takes back what nobody has begun, and waits until walker and readers have ended. A backup that is taken anew
/// needs their memory, and nothing of this one is to come into the repository after it was said to have failed.
async fn ended(work: Receiver<Numbered>, done: Receiver<Done>) {
    work.close();
    while work.try_recv().is_ok() {}
    while done.recv().await.is_ok() {}
}

/// One reader: takes work until there is none, then closes its pack.
async fn work(context: Context, mut reader: Reader, work: Receiver<Numbered>, done: Sender<Done>) {
    while let Ok(Numbered { number, work, window }) = work.recv().await {
        let outcome = match context.stop.check() {
            Ok(()) => piece(&mut reader, work).await,
            Err(error) => Err(error),
        };
        let failed = outcome.is_err();
        if done
            .send(outcome.map(|outcome| Said::Piece(number, outcome, window)))
            .await
            .is_err()
            || failed
        {
            return;
        }
    }
    let closed = reader.packer.finish().await;
    // Whoever listens no longer has failed already.
    let _ = done.send(closed.map(|()| Said::Closed)).await;
}

async fn piece(reader: &mut Reader, work: Work) -> Result<Outcome> {
    match work {
        Work::Directory { path, stat } => {
            let kind = EntryKind::Directory;
            Ok(Outcome::Entry(Entry {
                path,
                mode: stat.mode,
                modified_micros: stat.modified_micros,
                kind,
            }))
        }
        Work::Link { path, stat, target } => {
            let kind = EntryKind::Link { target };
            Ok(Outcome::Entry(Entry {
                path,
                mode: stat.mode,
                modified_micros: stat.modified_micros,
                kind,
            }))
        }
        Work::Files(files) => {
            let mut stored = Vec::with_capacity(files.len());
            for file in files {
                stored.extend(reader.file(file).await?);
            }
            Ok(Outcome::Files(stored))
        }
        Work::Part {
            file,
            from,
            bytes,
            last,
        } => Ok(Outcome::Part(reader.part(file, from, bytes).await?, last)),
    }
}

/// Numbers the pieces and hands them out, no further ahead than the window.
struct Hand {
    work: Sender<Numbered>,
    done: Sender<Done>,
    window: Arc<Semaphore>,
    next: u64,
    context: Context,
    files: Option<ParentFiles>,
}

impl Hand {
    /// Finds what the parent has of each file. The walk comes in the order of its table.
    async fn parents(&mut self, work: &mut Work) -> Result<()> {
        let Some(known) = &mut self.files else { return Ok(()) };
        let files = match work {
            Work::Files(files) => files.as_mut_slice(),
            Work::Part { file, .. } => std::slice::from_mut(file),
            Work::Directory { .. } | Work::Link { .. } => &mut [],
        };
        for file in files {
            file.parent = known.find(&file.path).await?;
        }
        Ok(())
    }

    async fn walk(mut self, source: Arc<dyn Source>, spaces: Spaces) {
        let walked = walk::walk(&*source, &spaces, &mut self).await;
        let _ = self.done.send(walked.map(|()| Said::Walked(self.next))).await;
    }
}

impl Sink for Hand {
    async fn take(&mut self, mut work: Work) -> Result<()> {
        self.context.stop.check()?;
        self.parents(&mut work).await?;
        let window = self.window.acquire_arc().await;
        let number = self.next;
        self.next += 1;
        // Nobody takes work any more only after a failure, which the assembler has heard of.
        self.work
            .send(Numbered { number, work, window })
            .await
            .map_err(|_| died())
    }

    fn left_out(&mut self, path: &[u8], why: &str) {
        let path = String::from_utf8_lossy(path);
        self.context
            .warn("left-out", format!("{path} is not in the backup: {why}"));
    }
}

#[cfg(test)]
mod tests;
