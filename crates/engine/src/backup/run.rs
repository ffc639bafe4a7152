//! The procedure of a backup.

use std::{sync::Arc, time::Duration};

use pgformat::Lsn;
use repo::{
    BackupId,
    ledger::{BackupKind, Entry, ObjectReference, Summary as Line},
    manifest::{Increment, KeptFile, Kind, Manifest, ObjectRef},
    map::MapWriter,
    session::Session,
    sources::Sources,
    table::TableWriter,
};

use crate::{
    Error, Result,
    database::Opened,
    event::Context,
    list,
    rate::Rate,
    server::{RunningBackup, Server, Started, Stopped},
    workers::{died, watched},
};

use super::{
    Options, Plan, Summary,
    assemble::{Assembled, Assembler, Damage},
    base::{Base, Known, increment, references},
    control,
    copy::Copy,
    facts::{Parts, manifest},
    packer::Place,
    read::{PageError, Rules},
    standby,
    stored::{check_parent, check_stored, check_used},
    uploads::Uploads,
    wal::{End, Keeper, Kept, Of, Stretch},
};

/// One run.
pub(super) struct Work<'a> {
    pub(super) context: &'a Context,
    pub(super) opened: &'a Opened,
    pub(super) server: &'a dyn Server,
    pub(super) plan: &'a Plan,
    pub(super) options: &'a Options,
    pub(super) session: Session,
    pub(super) id: BackupId,
    pub(super) started: i64,
    pub(super) base: Base,
    pub(super) uploads: Uploads,
}

pub(super) struct Done {
    kept: Kept,
    damage: Damage,
    line: Line,
    n: u64,
    increment: Option<Increment>,
    read: u64,
}

/// All that was read, durable in the repository, and not yet a backup.
struct Copied {
    begun: Started,
    kept: Kept,
    packs: Vec<ObjectRef>,
    assembled: Assembled,
    files: Vec<KeptFile>,
    increment: Option<Increment>,
}

impl Copied {
    /// Bytes it added to the repository.
    fn stored(&self) -> u64 {
        self.packs.iter().map(|pack| u64::from(pack.size)).sum::<u64>() + self.assembled.stored()
    }
}

impl Work<'_> {
    /// The order is the whole argument: the server keeps WAL before the backup starts; `pg_control` is read
    /// after all other files and before the stop; the manifest is written when all it names is durable; the
    /// ledger's entry comes last.
    pub(super) async fn run(&self) -> Result<Done> {
        let context = self.context;
        if let Some(parent) = self.base.manifest() {
            check_parent(&self.opened.repository, parent).await?;
        }
        context.step("start", "asking the server to begin a backup");
        let reserved = self.server.reserve_wal().await?;
        if let Some(why) = reserved.unprotected() {
            context.warn(
                "wal-not-reserved",
                format!("the server may recycle WAL before it is kept: {why}"),
            );
        }
        let label = format!("lastgood {}", self.id);
        let running = self.server.start_backup(&label).await?;
        let begun = running.started();
        self.check_timeline(&begun)?;
        let (_, first) = control::read(context, &*self.plan.source).await?;
        let facts = &self.plan.facts;
        control::check_begun(&first, facts.system_identifier, facts.data_checksums, &begun)?;
        self.history(begun.timeline).await?;
        let stretch = self.stretch(&begun);
        let feed = reserved.stream(stretch.from(), begun.timeline).await?;
        let (stop_wal, wal_done) = self.keep_wal(stretch, feed)?;

        let known = self.base.known(context, self.opened, &self.plan.facts, &begun).await?;
        // Pages that are taken unread may hold changes up to the parent's end: the backup must not end before.
        let not_before = self.base.manifest().filter(|_| matches!(known, Some(Ok(_))));
        let not_before = not_before.map(|parent| Lsn(parent.facts.stop.lsn.0));
        let following = match &self.plan.beside {
            None => None,
            Some(beside) => {
                let still_good = || still_good(&*running, &wal_done);
                let caught_up = beside.catch_up(context, &begun, facts, &still_good);
                Some((beside, caught_up.await?))
            }
        };
        context.step("copy", "copying files");
        let (assembler, why) = self.copy(&*running, begun.start, &wal_done, known).await?;
        if let Some((beside, since)) = &following {
            beside.check_still(context, &begun, since).await?;
        }
        let (control, last) = control::read(context, &*self.plan.source).await?;
        control::check_ended(&first, &last, &begun)?;
        context.step("stop", "asking the server to end the backup");
        let stopped = running.stop().await?;

        context.step("wal", "waiting for the last WAL");
        let _ = stop_wal.send(standby::end(&begun, &stopped, &last, not_before)?).await;
        let kept = wal_done.recv().await.unwrap_or_else(|_| Err(died()))?;
        let packs = self.uploads.finish().await?;
        let assembled = assembler.finish().await?;
        check_stored(&self.opened.repository, &self.session, self.id, &packs, &assembled).await?;
        let increment = self.base.manifest().map(|_| increment(&assembled.totals.counts, why));
        self.commit(Copied {
            begun,
            kept,
            packs,
            assembled,
            files: kept_files(control, &stopped),
            increment,
        })
        .await
    }

    async fn commit(&self, copied: Copied) -> Result<Done> {
        self.context.step("commit", "writing the manifest");
        let kept = copied.kept;
        let damage = copied.assembled.damage.clone();
        let increment = copied.increment.clone();
        let counts = copied.assembled.totals.counts;
        let pages_read = counts.stored + counts.same + counts.audited + counts.moved;
        let stored = copied.stored();
        let manifest = self.manifest(copied).await?;
        check_used(&self.opened.repository, &manifest.needed).await?;
        let finished = manifest.seal(&self.opened.repository, &self.session)?;
        self.opened.repository.put_finished(&finished).await?;
        let object = ObjectReference {
            object: finished.name.clone(),
            hash: hex::encode(finished.hash),
            size: finished.bytes.len() as u64,
        };
        let line = self.line(&manifest, stored + object.size);
        let entry = Entry::Committed {
            run: self.id.to_string(),
            manifest: object,
            references: references(&manifest),
            summary: line.clone(),
        };
        self.context.stop.check()?;
        let n = self.opened.append(entry).await?;
        Ok(Done {
            kept,
            damage,
            line,
            n,
            increment,
            read: pages_read * u64::from(self.plan.facts.block_size),
        })
    }

    fn stretch(&self, begun: &Started) -> Stretch {
        let facts = &self.plan.facts;
        Stretch {
            generation: facts.system_identifier,
            timeline: begun.timeline,
            segment_size: facts.wal_segment_size,
            wal_block_size: facts.wal_block_size,
            major: facts.major,
            start: begun.start,
            of: match begun.in_recovery {
                true => Of::Standby,
                false => Of::Primary,
            },
        }
    }

    /// A promotion between the first look and the begin makes facts and backup of different histories.
    fn check_timeline(&self, begun: &Started) -> Result<()> {
        let seen = self.plan.facts.timeline;
        if begun.timeline == seen {
            return Ok(());
        }
        Err(Error::Failed {
            code: "timeline-changed",
            what: format!(
                "the server was seen on timeline {seen}, and the backup began on {}: it was promoted meanwhile, or another server answered",
                begun.timeline
            ),
            hint: "Take the backup again. Where it happens again, name one server in the connection string.".into(),
        })
    }

    /// Timelines after the first have a history file, without which nobody finds the way back.
    async fn history(&self, timeline: pgformat::Tli) -> Result<()> {
        if timeline.0 <= 1 {
            return Ok(());
        }
        let content = self.server.history(timeline).await?;
        let generation = self.plan.facts.system_identifier;
        repo::wal::put_history(&self.opened.repository, &self.session, generation, timeline.0, &content).await?;
        Ok(())
    }

    fn keep_wal(&self, stretch: Stretch, feed: Box<dyn crate::server::WalFeed>) -> Result<WalJob> {
        let (stop_in, stop_out) = async_channel::bounded(1);
        let (done_in, done_out) = async_channel::bounded(1);
        let repository = self.opened.repository.clone();
        let keeper = Keeper::new(self.context.clone(), repository, self.session.clone(), stretch, feed)?;
        let watch = done_in.clone();
        let worker = async move {
            let kept = keeper.run(stop_out).await;
            // Nobody listens any more if the backup has failed already.
            let _ = done_in.send(kept).await;
        };
        self.context.runtime.workers.spawn(Box::pin(watched(worker, watch)));
        Ok((stop_in, done_out))
    }

    async fn copy(
        &self,
        running: &dyn RunningBackup,
        start: Lsn,
        wal: &async_channel::Receiver<Result<Kept>>,
        known: Option<Known>,
    ) -> Result<(Assembler, Option<String>)> {
        let (parent, why) = self.base.against(self.context, self.opened, known, self.options)?;
        let facts = &self.plan.facts;
        let repository = self.opened.repository.clone();
        let page_size = facts.block_size as usize;
        let place = Place {
            repository: repository.clone(),
            session: self.session.clone(),
            backup: self.id,
            page_size,
            level: self.options.level,
            uploads: self.uploads.clone(),
        };
        let copy = Copy {
            context: self.context.clone(),
            source: self.plan.source.clone(),
            spaces: self.plan.spaces.clone(),
            rules: Rules {
                page_size,
                blocks_per_segment: facts.relation_segment_blocks,
                checked_before: facts.data_checksums.then_some(start),
                begun: start,
            },
            place: Arc::new(place),
            rate: Arc::new(Rate::new(self.options.max_rate, self.context.runtime.clone())),
            jobs: self.options.jobs,
            expected: facts.databases_bytes(),
            parent,
        };
        let table = TableWriter::new(&repository, &self.session, self.id, facts.block_size)?;
        let map = MapWriter::new(&repository, &self.session, self.id)?;
        let parents = self.base.manifest().map(|parent| parent.needed.sources.clone());
        let mut assembler = Assembler::new(table, map, Sources::new(self.id), parents, facts.block_size);
        let still_good = || still_good(running, wal);
        copy.run(&mut assembler, &still_good).await?;
        still_good()?;
        Ok((assembler, why))
    }

    async fn manifest(&self, copied: Copied) -> Result<Manifest> {
        let (relations, unknown) = self.server.relations(&self.plan.facts).await?;
        if !unknown.is_empty() {
            let names = unknown.join(", ");
            let what = format!("the tables of {names} could not be listed; a verification cannot compare them");
            self.context.warn("tables-unknown", what);
        }
        let history = match copied.begun.timeline.0 {
            0 | 1 => None,
            _ => Some(self.server.history(copied.begun.timeline).await?),
        };
        let stored = copied.stored();
        manifest(Parts {
            id: self.id,
            database: self.opened.repository.identity().database.clone(),
            parent: self
                .base
                .manifest()
                .zip(copied.increment)
                .map(|(parent, increment)| (parent.facts.backup, &parent.needed, increment)),
            label: self.options.label.clone(),
            started: self.started,
            stopped: self.context.runtime.clock.now_micros(),
            plan: self.plan,
            begun: &copied.begun,
            stop: copied.kept.end,
            record: copied.kept.record,
            history,
            stored,
            packs: copied.packs,
            assembled: copied.assembled,
            kept: copied.files,
            relations,
        })
    }

    fn line(&self, manifest: &Manifest, stored: u64) -> Line {
        let facts = &manifest.facts;
        Line {
            kind: match facts.kind {
                Kind::Full => BackupKind::Full,
                Kind::Incremental => BackupKind::Incremental,
            },
            label: facts.label.clone(),
            parent: facts.parent.map(|parent| parent.to_string()),
            started: facts.started,
            stopped: facts.stopped,
            generation: Some(facts.postgresql.generation.to_string()),
            timeline: Some(facts.stop.timeline),
            start_lsn: Some(repo::ledger::Lsn(facts.start.lsn.0)),
            stop_lsn: Some(repo::ledger::Lsn(facts.stop.lsn.0)),
            major: Some(self.plan.facts.major.number()),
            bytes: facts.totals.bytes,
            stored,
            files: facts.totals.files,
            databases: self.plan.facts.databases.len() as u64,
        }
    }

    pub(super) async fn summary(&self, done: Done, took: Duration) -> Result<Summary> {
        let seconds = took.as_secs_f64();
        let damage = &done.damage;
        for error in damage.stored.first.iter().chain(&damage.kept.first) {
            let mut what = format!("page {} of {} does not fit its checksum", error.block, error.path);
            if error.is_kept {
                what.push_str(" on the server's disk; the backup has it whole, as the backup before did");
            }
            self.context.warn("page-damaged", what);
        }
        Ok(Summary {
            backup: list::of_line(&self.id.to_string(), &done.line, done.n),
            increment: done.increment,
            full_because: match &self.base {
                Base::None(why) => Some(why.clone()),
                Base::Parent(_) => None,
            },
            unsound: None,
            bytes_read: done.read,
            seconds,
            bytes_per_second: done.read as f64 / seconds.max(0.001),
            wal_bytes: done.kept.bytes,
            page_errors: named(&damage.stored.first),
            page_errors_total: damage.stored.total,
            rotten_pages: named(&damage.kept.first),
            rotten_pages_total: damage.kept.total,
        })
    }
}

fn named(pages: &[PageError]) -> Vec<String> {
    let name = |page: &PageError| format!("{} block {}", page.path, page.block);
    pages.iter().map(name).collect()
}

/// The files that a manifest keeps whole, by path.
fn kept_files(control: Vec<u8>, stopped: &Stopped) -> Vec<KeptFile> {
    let file = |path: &str, content: Vec<u8>| KeptFile {
        path: path.into(),
        mode: 0o600,
        content,
    };
    let mut files = vec![
        file("backup_label", stopped.backup_label.clone().into_bytes()),
        file("global/pg_control", control),
    ];
    if !stopped.tablespace_map.is_empty() {
        files.push(file("tablespace_map", stopped.tablespace_map.clone().into_bytes()));
    }
    files
}

/// A server that goes away during the copy takes the backup with it.
fn still_good(running: &dyn RunningBackup, wal: &async_channel::Receiver<Result<Kept>>) -> Result<()> {
    match wal.try_recv() {
        Ok(ended) => Err(ended.err().unwrap_or_else(died)),
        Err(_) if !running.is_alive() => Err(session_lost()),
        Err(_) => Ok(()),
    }
}

type WalJob = (async_channel::Sender<End>, async_channel::Receiver<Result<Kept>>);

fn session_lost() -> Error {
    Error::Failed {
        code: "session-lost",
        what:
            "the server ended the backup's session while files were copied: it was restarted, or the session was ended"
                .into(),
        hint: "Take the backup again. Where it happens each time, look in the server's log for who ends the session."
            .into(),
    }
}
