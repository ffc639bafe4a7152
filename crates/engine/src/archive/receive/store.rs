//! Makes a run of WAL durable.

use repo::{
    Repository,
    session::Session,
    wal::{WalStream, append_run, replace_damaged_run},
};

use crate::event::Context;

/// Stores a run, or finds it stored.
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
    match append_run(repository, session, stream, start, bytes).await {
        // One flipped bit must not stop all that comes: the server still has that WAL, and sends it.
        Err(repo::Error::Damaged { name, what }) if name == stream.run_name(start) => {
            context.warn(
                "wal-replaced",
                format!("{name} is damaged: {what}; the server sent its WAL again, which takes its place"),
            );
            replace_damaged_run(repository, session, stream, start, bytes).await
        }
        done => done,
    }
}
