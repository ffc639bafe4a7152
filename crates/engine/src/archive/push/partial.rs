//! The last segment of a timeline that was left (`<segment>.partial`), as far as there is WAL in it.

use pgformat::{Lsn, wal::Walker};
use repo::wal::{Assembly, WAL_FRAME, append_run, contiguous_end, replace_damaged_run};

use crate::{Error, Result};

use super::{Writer, file::SegmentFile};

/// The most that is stored as one run.
const RUN_BYTES: u64 = 4 << 20;
/// The most of one record that is held to find its end; of a longer one nothing is taken. The timeline that left this one
/// brings the whole segment along, up to where it left.
const RECORD_BYTES: usize = 8 << 20;

/// Stores what is missing of the file's whole records, as open runs; whether something was.
pub(super) async fn store(writer: &Writer, file: &SegmentFile) -> Result<bool> {
    let (repository, stream) = (&writer.repository, &file.stream);
    let end = valid_end(file)?;
    let mut at = contiguous_end(repository, stream, file.start)
        .await?
        .min(end)
        .max(file.start);
    check_stored(writer, file, at).await?;
    if at == end {
        return Ok(false);
    }
    // The history that tells where this timeline was left may be here before it.
    if !super::known::follows_known(repository, file).await? {
        writer.known(file.cluster(writer.block_size), None).await?;
    }
    let session = writer.session().await?;
    while at < end {
        let mut bytes = Vec::new();
        let most = file.stream.done_end(at).min(at.saturating_add(RUN_BYTES));
        file.read(at, end.min(most), |_, piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        at = match append_run(repository, session, stream, at, &bytes).await {
            // The server has what was there.
            Err(repo::Error::Damaged { name, .. }) if name == stream.run_name(at) => {
                replace_damaged_run(repository, session, stream, at, &bytes).await?
            }
            appended => appended?,
        };
    }
    Ok(true)
}

/// The position after the last whole record. What follows in the file is what it held before it was recycled, or the
/// beginning of a record that was never finished.
fn valid_end(file: &SegmentFile) -> Result<u64> {
    let odd = |error: pgformat::Error| Error::Failed {
        code: "wal-damaged",
        what: format!("the WAL at {} does not read as it should: {error}", Lsn(file.start)),
        hint: "Report this as a bug.".into(),
    };
    let mut walker = Walker::new(file.geometry, Lsn(file.start)).map_err(odd)?;
    walker = walker.of_major(file.major).of_system(file.stream.generation);
    let (mut stopped, mut ended, mut at) = (None, file.start, file.start);
    while at < file.end() && stopped.is_none() && held(&walker) <= RECORD_BYTES {
        let next = file.end().min(at.saturating_add(WAL_FRAME as u64));
        file.read(at, next, |_, piece| {
            stopped = walker.feed(piece, |record| ended = record.end.0).err();
            Ok(())
        })?;
        at = next;
    }
    let end = match (walker.leading_left(), walker.tail(), stopped) {
        (1.., _, _) => file.start,
        (0, Some(tail), _) => tail.lsn.0,
        (0, None, Some(stop)) => stop.lsn.0,
        (0, None, None) => file.end(),
    };
    // A record that switches segments ends with this one; nothing lies past the file.
    Ok(end.max(ended).min(file.end()))
}

/// Bytes of a record that has not ended yet.
fn held(walker: &Walker) -> usize {
    let open = walker.tail().map_or(0, |tail| tail.bytes.len());
    open.max(walker.leading().len())
}

/// Compares the file with what is stored of its segment, up to `end`.
async fn check_stored(writer: &Writer, file: &SegmentFile, end: u64) -> Result<()> {
    let mut stored = Assembly::new(&writer.repository, file.stream, file.start, end);
    while let Some(run) = stored.next().await? {
        let mut rest = &run.bytes[..];
        file.read(run.start, run.end(), |at, piece| {
            let (now, later) = rest.split_at(piece.len().min(rest.len()));
            rest = later;
            if now == piece {
                return Ok(());
            }
            let what = format!("the repository holds other WAL than this server from {} on", Lsn(at));
            Err(repo::Error::TwoServers { what }.into())
        })?;
    }
    Ok(())
}
