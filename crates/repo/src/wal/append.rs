//! Adding to the WAL, and finding where it ends.

use crate::{Error, Result, ledger::Lsn, repository::Repository, session::Session, store::Put};

use super::{Chain, Run, WalStream, read_run, seal_run};

/// Stores `bytes` as the run that begins at `start`, and says where the run under that name ends.
///
/// `start` is the first byte of its segment or the end of a run that is there: the chain rule, which the
/// caller keeps. `Ok(end)` promises that everything from `start` to `end` is durable. `end` differs from that
/// of `bytes` if the name was taken, by an earlier attempt of ours or by another receiver of the same WAL; the
/// bytes both have are equal then, and the caller goes on at `end`.
///
/// # Errors
/// [`Error::TwoServers`] if the name holds other bytes: two servers write WAL under one identity. What is stored
/// stays as it is.
pub async fn append_run(
    repository: &Repository,
    session: &Session,
    stream: &WalStream,
    start: u64,
    bytes: &[u8],
) -> Result<u64> {
    let object = seal_run(repository, session, stream, start, bytes)?;
    match repository.store().put_new(&object.name, object.bytes).await? {
        Put::Created => Ok(start.saturating_add(bytes.len() as u64)),
        Put::Exists => {
            let stored = read_run(repository, stream, start).await?;
            let stored = stored.ok_or(Error::Missing { name: object.name })?;
            check_same(stream, &stored, bytes)?;
            Ok(stored.end())
        }
    }
}

/// Where the WAL that is here without a gap ends, seen from `from`: the position at which a receiver goes on.
/// Equal to `from` or before it if nothing reaches it. Reads every run from the segment of `from` on.
pub async fn contiguous_end(repository: &Repository, stream: &WalStream, from: u64) -> Result<u64> {
    let mut chain = Chain::of_segment(*stream, from);
    while let Some(name) = chain.next_name() {
        let Some(run) = read_run(repository, stream, chain.position()).await? else {
            break;
        };
        chain.found(run.end()).map_err(|what| what.of(&name))?;
        if chain.is_complete() && chain.position() < u64::MAX {
            chain = Chain::of_segment(*stream, chain.position());
        }
    }
    Ok(chain.position())
}

fn check_same(stream: &WalStream, stored: &Run, bytes: &[u8]) -> Result<()> {
    let differs = stored.bytes.iter().zip(bytes).position(|(ours, theirs)| ours != theirs);
    match differs {
        None => Ok(()),
        Some(offset) => Err(Error::TwoServers {
            what: format!(
                "{} holds other WAL than this server sends, from {} on",
                stream.run_name(stored.start),
                Lsn(stored.start.saturating_add(offset as u64)),
            ),
        }),
    }
}
