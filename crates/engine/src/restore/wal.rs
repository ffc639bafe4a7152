//! Lays the WAL that makes a restored cluster consistent into its `pg_wal`.
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
};
use repo::{
    Repository,
    manifest::Facts,
    wal::{Assembly, WalStream, read_history},
};

use crate::{Result, error::At as _, event::Context};

use super::{
    inline::write_new,
    owner::{self, Ids},
};

/// Writes the segments and history files; returns the bytes of WAL written.
pub(super) async fn lay(
    context: &Context,
    repository: &Repository,
    facts: &Facts,
    root: &Path,
    owner: Option<Ids>,
) -> Result<u64> {
    let generation = facts.postgresql.generation;
    let pg_wal = root.join("pg_wal");
    let mut bytes = 0;
    for timeline in facts
        .history
        .iter()
        .map(|ancestor| ancestor.timeline)
        .chain([facts.stop.timeline])
    {
        if timeline > 1 {
            let name = format!("{}.history", Tli(timeline).to_hex());
            // The tip's history is needed to recover on it; ancestors' files only if they were kept.
            match read_history(repository, generation, timeline).await? {
                Some(content) => write_new(&pg_wal.join(name), 0o600, &content, owner)?,
                None if timeline == facts.stop.timeline => {
                    let name = repo::names::wal_history(generation, timeline);
                    return Err(repo::Error::Missing { name }.into());
                }
                None => {}
            }
        }
    }
    let size = SegmentSize::new(facts.postgresql.segment_size).map_err(|error| repo::Error::Damaged {
        name: repo::names::manifest(&facts.backup),
        what: error.to_string(),
    })?;
    for range in facts.wal_needed() {
        let stream = WalStream::new(generation, range.timeline, size.bytes())?;
        // From the segment's first byte: its page header says which segment it is.
        let from = stream.segment_of(range.from.0);
        let mut assembly = Assembly::new(repository, stream, from, range.to.0);
        let mut open: Option<(SegmentName, File, PathBuf)> = None;
        while let Some(run) = assembly.next().await? {
            context.stop.check()?;
            let name = SegmentName::holding(Tli(range.timeline), Lsn(run.start), size);
            if open.as_ref().is_none_or(|(current, ..)| *current != name) {
                close(open.take())?;
                let (file, path) = create(&pg_wal, name, size, owner)?;
                open = Some((name, file, path));
            }
            if let Some((_, file, path)) = &open {
                file.write_all_at(&run.bytes, size.offset_of(Lsn(run.start)))
                    .at("write", path)?;
                bytes += run.bytes.len() as u64;
            }
        }
        close(open)?;
    }
    Ok(bytes)
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
