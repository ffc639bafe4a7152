//! Makes a run of WAL durable.

use repo::{
    Repository,
    session::Session,
    wal::{WalStream, append_run, check_finished, is_done, replace_damaged_run},
};

use crate::event::Context;

/// Stores a run, or finds it stored. Another receiver may have finished the segment while we looked at what is under a
/// name: then its open runs are gone, and the finished one has the bytes.
///
/// What is damaged under that name is of use to nobody: the same WAL, sent again, takes its place.
pub(super) async fn store_run(
    context: &Context,
    repository: &Repository,
    session: &Session,
    stream: &WalStream,
    start: u64,
    bytes: &[u8],
) -> repo::Result<u64> {
    let gone = match append_run(repository, session, stream, start, bytes).await {
        Err(error @ (repo::Error::Missing { .. } | repo::Error::Store { transient: false, .. })) => error,
        // One flipped bit must not stop all that comes: the server still has that WAL, and sends it.
        Err(repo::Error::Damaged { name, what }) if name == stream.run_name(start) => {
            context.warn(
                "wal-replaced",
                format!("{name} is damaged: {what}; the server sent its WAL again, which takes its place"),
            );
            return replace_damaged_run(repository, session, stream, start, bytes).await;
        }
        done => return done,
    };
    if !is_done(repository, stream, start).await.unwrap_or(false) {
        return Err(gone);
    }
    check_finished(repository, stream, start, bytes).await?;
    Ok(start.saturating_add(bytes.len() as u64).min(stream.done_end(start)))
}
