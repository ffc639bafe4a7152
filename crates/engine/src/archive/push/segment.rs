//! One whole segment into the repository.

use std::collections::BTreeSet;

use repo::wal::{DoneDraft, MAX_RUN, finish_run, is_done, open_runs, read_index, read_run};

use crate::{Error, Result};
use repo::wal::Finish as _;

use super::{Writer, file::SegmentFile, turn::Turn};

/// Stores what is missing of the segment. `Ok` promises that another process, opening the repository afresh, reads
/// back these bytes; whether something had to be written is said. It is made ready at once, and stored when its turn
/// comes.
///
/// # Errors
/// [`repo::Error::TwoServers`] if other bytes are stored for it. Nothing is overwritten.
pub(super) async fn store(writer: &Writer, file: &SegmentFile, turn: &Turn) -> Result<bool> {
    let (repository, stream) = (&writer.repository, &file.stream);
    let open = check_open_runs(writer, file).await?;
    let mut indexer = file.indexer()?;
    let mut written = false;
    for start in (file.start..file.end()).step_by(MAX_RUN) {
        let end = stream.done_end(start);
        if let Some(stored) = read_index(repository, stream, start).await? {
            let mut hash = blake3::Hasher::new();
            file.read(start, end, |at, piece| {
                hash.update(piece);
                indexer.bytes(at, piece);
                Ok(())
            })?;
            // What it says of these bytes is stored already.
            indexer.index();
            if hash.finalize().to_hex().as_str() != stored.summary.content {
                return Err(other_bytes(&stream.done_name(start)));
            }
            continue;
        }
        writer.admitted(file).await?;
        let mut draft = DoneDraft::new(repository, writer.session().await?, stream, start)?;
        file.read(start, end, |at, piece| {
            indexer.bytes(at, piece);
            Ok(draft.bytes(piece)?)
        })?;
        let sealed = draft.finish(&indexer.index())?;
        if !written {
            turn.comes().await?;
        }
        sealed.store(repository, stream).await?;
        written = true;
    }
    if open {
        // Only tidying: what stays takes room, and readers take the finished runs.
        let mut indexer = file.indexer()?;
        let session = writer.session().await?;
        for start in (file.start..file.end()).step_by(MAX_RUN) {
            let _ = finish_run(repository, session, stream, start, &mut indexer).await;
        }
    }
    Ok(written)
}

/// Compares the file with what a receiver or a backup has stored of it; whether there is anything. Of a large segment the first
/// parts may be finished, and their open runs gone.
async fn check_open_runs(writer: &Writer, file: &SegmentFile) -> Result<bool> {
    let (repository, stream) = (&writer.repository, &file.stream);
    let mut any = false;
    for part in (file.start..file.end()).step_by(MAX_RUN) {
        if is_done(repository, stream, part).await? {
            // That is what counts, and is compared; a clone may have left others beside it.
            any |= !open_runs(repository, stream, part).await?.is_empty();
            continue;
        }
        let mut left: BTreeSet<u64> = open_runs(repository, stream, part).await?.into_iter().collect();
        while let Some(start) = left.pop_first() {
            any = true;
            let run = match read_run(repository, stream, start).await {
                // The finished run takes its place.
                Err(repo::Error::Damaged { .. }) => continue,
                read => read?,
            };
            let Some(run) = run else { continue };
            // A listing may not show it yet.
            left.extend(Some(run.end()).filter(|end| *end < stream.done_end(start)));
            let mut rest = &run.bytes[..];
            file.read(start, run.end(), |_, piece| {
                let (now, later) = rest.split_at(piece.len().min(rest.len()));
                rest = later;
                match now == piece {
                    true => Ok(()),
                    false => Err(other_bytes(&stream.run_name(start))),
                }
            })?;
        }
    }
    Ok(any)
}

fn other_bytes(name: &str) -> Error {
    let what = format!("{name} holds other WAL than this server has there");
    repo::Error::TwoServers { what }.into()
}
