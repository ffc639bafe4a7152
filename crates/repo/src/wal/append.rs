//! Adding to the WAL, and finding where it ends.

use crate::{Error, Result, ledger::Lsn, repository::Repository, session::Session, store::Put};

use super::{WalStream, assemble, is_done, run::OpenRun, seal_run};

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
    let name = object.name;
    let put = repository.store().put_new(&name, object.bytes).await?;
    let end = match put {
        Put::Created => start.saturating_add(bytes.len() as u64),
        Put::Exists => match OpenRun::read(repository, stream, start).await? {
            Some(mut stored) => {
                check_same(stream, &mut stored, start, bytes)?;
                stored.end()
            }
            // Somebody has finished it, and taken it away.
            None if is_done(repository, stream, start).await? => start,
            None => return Err(Error::Missing { name }),
        },
    };
    // Where somebody has finished it meanwhile, that is what is read from now on.
    if is_done(repository, stream, start).await? {
        // Other bytes stay where they are, whoever is right: somebody may have been promised them.
        check_finished(repository, stream, start, bytes).await?;
        if put == Put::Created {
            repository.store().delete(&name).await?;
        }
        let ours = start.saturating_add(bytes.len() as u64);
        return Ok(ours.min(stream.done_end(start)));
    }
    Ok(end)
}

/// Stores `bytes` as the run that begins at `start` in the place of one that is damaged, of which nobody can read anything;
/// then as [`append_run`].
///
/// What was only read wrongly once stays. Whoever else does the same at the same moment has the same bytes: between the
/// removal and the new run nothing is there, so it is looked for at the end.
pub async fn replace_damaged_run(
    repository: &Repository,
    session: &Session,
    stream: &WalStream,
    start: u64,
    bytes: &[u8],
) -> Result<u64> {
    let is_damaged = match OpenRun::read(repository, stream, start).await {
        Ok(Some(mut run)) => matches!(run.check(), Err(Error::Damaged { .. })),
        Err(Error::Damaged { .. }) => true,
        Ok(None) => false,
        Err(error) => return Err(error),
    };
    if is_damaged {
        repository.store().delete(&stream.run_name(start)).await?;
    }
    let end = append_run(repository, session, stream, start, bytes).await?;
    let name = stream.run_name(start);
    match repository.store().head(&name).await?.is_some() || is_done(repository, stream, start).await? {
        true => Ok(end),
        false => append_run(repository, session, stream, start, bytes).await,
    }
}

/// Checks that the finished run that holds the byte at `start` holds `bytes` from there on, as far as it goes.
///
/// # Errors
/// [`Error::TwoServers`] if it holds others, [`Error::Missing`] if it is not here.
pub async fn check_finished(repository: &Repository, stream: &WalStream, start: u64, bytes: &[u8]) -> Result<()> {
    let end = start.saturating_add(bytes.len() as u64).min(stream.done_end(start));
    assemble(repository, *stream, start, end, |position, piece| {
        let offset = usize::try_from(position.saturating_sub(start)).unwrap_or(usize::MAX);
        let ours = bytes.get(offset..).unwrap_or_default();
        match ours.starts_with(piece) {
            true => Ok(()),
            false => Err(Error::TwoServers {
                what: format!(
                    "{} holds other WAL than this server sends, not far from {}",
                    stream.done_name(start),
                    Lsn(position)
                ),
            }),
        }
    })
    .await
}

/// Where the WAL that is here without a gap ends, seen from `from`: the position at which a receiver goes on.
/// Equal to `from` or before it if nothing reaches it. Finished runs are known by their names; every open one from
/// there on is read, and one that is damaged ends what is here.
pub async fn contiguous_end(repository: &Repository, stream: &WalStream, from: u64) -> Result<u64> {
    let position = match is_done(repository, stream, from).await? {
        true => stream.done_end(from),
        false => stream.done_start(from),
    };
    follow(repository, stream, position).await
}

/// The same from where a run ends, or the first of a segment begins.
pub(super) async fn follow(repository: &Repository, stream: &WalStream, mut position: u64) -> Result<u64> {
    let done = |position| is_done(repository, stream, position);
    while position < u64::MAX {
        if stream.done_start(position) == position && done(position).await? {
            position = stream.done_end(position);
            continue;
        }
        let Some(mut run) = OpenRun::intact(repository, stream, position).await? else {
            // Open runs go once their segment is finished: it may have been, since we looked.
            if stream.done_start(position) < position && done(position).await? {
                position = stream.done_end(position);
                continue;
            }
            break;
        };
        match run.check() {
            Ok(()) => position = run.end(),
            // What does not open is not there.
            Err(Error::Damaged { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(position)
}

/// Checks that what is stored from `start` on and `bytes` are equal as far as both go. Everything stored is opened.
pub(super) fn check_same(stream: &WalStream, stored: &mut OpenRun, start: u64, bytes: &[u8]) -> Result<()> {
    let mut theirs = bytes;
    while let Some(piece) = stored.next()? {
        let differs = piece.bytes.iter().zip(theirs).position(|(ours, theirs)| ours != theirs);
        if let Some(offset) = differs {
            return Err(Error::TwoServers {
                what: format!(
                    "{} holds other WAL than this server sends, from {} on",
                    stream.run_name(start),
                    Lsn(piece.start.saturating_add(offset as u64)),
                ),
            });
        }
        theirs = theirs.get(piece.bytes.len()..).unwrap_or_default();
    }
    Ok(())
}
