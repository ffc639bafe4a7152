//! Lays the WAL from the backup to the target into a restored cluster's `pg_wal`.
//!
//! All of it is assembled and authenticated here, before a server is started: a missing or damaged run ends the
//! restore with its name, not the recovery with an open database.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use pgformat::{
    Lsn, Tli,
    segment::{SegmentName, SegmentSize},
    wal::Geometry,
};
use repo::{
    Repository,
    wal::{Assembly, WalStream, history_timelines, read_history},
};

use crate::{
    Result,
    error::At as _,
    event::{Context, Event},
};

use super::{
    Plan,
    inline::write_new,
    left_out::{LeftOut, Look},
    owner::{self, Ids},
    run::{major, make_directory},
};

/// Writes the segments and history files; returns the bytes of WAL written, and what is not to be written because of what
/// the WAL says.
pub(super) async fn lay(context: &Context, repository: &Repository, plan: &Plan) -> Result<(u64, LeftOut)> {
    let (facts, owner) = (plan.facts(), plan.owner);
    let generation = facts.postgresql.generation;
    let pg_wal = plan.to.join("pg_wal");
    make_directory(&pg_wal, owner)?;
    histories(repository, plan, &pg_wal).await?;
    let odd = |error: pgformat::Error| repo::Error::Damaged {
        name: repo::names::manifest(&facts.backup),
        what: error.to_string(),
    };
    let size = SegmentSize::new(facts.postgresql.segment_size).map_err(odd)?;
    let geometry = Geometry::new(size, facts.postgresql.wal_block_size).map_err(odd)?;
    let mut look = Look::new(geometry, major(facts)?, facts.start.lsn.0).map_err(odd)?;
    let (mut bytes, mut done) = (0, 0);
    let total = plan.wal.iter().map(|piece| piece.to - piece.from).sum();
    for piece in &plan.wal {
        let stream = WalStream::new(generation, piece.timeline, size.bytes())?;
        // From the segment's first byte: its page header says which segment it is.
        let from = stream.segment_of(piece.from);
        let mut assembly = Assembly::new(repository, stream, from, piece.to);
        let mut open: Option<(SegmentName, File, PathBuf)> = None;
        while let Some(run) = assembly.next().await? {
            context.stop.check()?;
            let name = SegmentName::holding(Tli(piece.timeline), Lsn(run.start), size);
            if open.as_ref().is_none_or(|(current, ..)| *current != name) {
                close(open.take())?;
                let (file, path) = create(&pg_wal, name, size, owner)?;
                open = Some((name, file, path));
            }
            if let Some((_, file, path)) = &open {
                file.write_all_at(&run.bytes, size.offset_of(Lsn(run.start)))
                    .at("write", path)?;
                look.feed(run.start, &run.bytes);
                bytes += run.bytes.len() as u64;
                done += run.bytes.len() as u64;
                context.observer.event(Event::Progress { done, total });
            }
        }
        close(open)?;
    }
    Ok((bytes, look.done()))
}

/// The target timeline's history is needed to recover on it. All others are laid out where they are here: by them the
/// server knows which numbers are taken (`findNewestTimeLine`), and gives its own timeline another one.
async fn histories(repository: &Repository, plan: &Plan, pg_wal: &Path) -> Result<()> {
    let (generation, tip) = (plan.facts().postgresql.generation, plan.target_timeline);
    let mut known = history_timelines(repository, generation).await?;
    if tip > 1 && !known.contains(&tip) {
        known.push(tip);
    }
    for timeline in known {
        match read_history(repository, generation, timeline).await {
            Ok(Some(content)) => {
                let path = pg_wal.join(format!("{}.history", Tli(timeline).to_hex()));
                write_new(&path, 0o600, &content, plan.owner)?;
            }
            // Others than the target's are a help, no need.
            Ok(None) | Err(repo::Error::Damaged { .. }) if timeline != tip => {}
            Ok(None) => {
                let name = repo::names::wal_history(generation, timeline);
                return Err(repo::Error::Missing { name }.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A segment of full length, zeroes where nothing was needed.
fn create(pg_wal: &Path, name: SegmentName, size: SegmentSize, owner: Option<Ids>) -> Result<(File, PathBuf)> {
    let path = pg_wal.join(name.file_name(size));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .at("create", &path)?;
    file.set_len(size.bytes()).at("extend", &path)?;
    owner::give_file(&file, &path, owner)?;
    Ok((file, path))
}

fn close(open: Option<(SegmentName, File, PathBuf)>) -> Result<()> {
    match open {
        Some((_, file, path)) => file.sync_all().at("sync", path),
        None => Ok(()),
    }
}
