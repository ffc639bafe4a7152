//! Workers that die are heard of.
//!
//! Invariant: work ends in success only if everything that was handed out came back. A worker that panics closes its
//! end of every channel like one that is done; without a word from it, a loss would look like an end.

use std::panic::AssertUnwindSafe;

use async_channel::Sender;
use futures::FutureExt;

use crate::{Error, Result};

/// Runs `worker`; should it panic, whoever listens at `done` is told.
pub(crate) async fn watched<T>(worker: impl Future<Output = ()>, done: Sender<Result<T>>) {
    // Nothing of a worker that panicked is used again, so that nothing of it can be seen half changed.
    if AssertUnwindSafe(worker).catch_unwind().await.is_err() {
        // Whoever listens no longer has failed already.
        let _ = done.send(Err(died())).await;
    }
}

/// A worker ended without having answered for what it was given.
pub(crate) fn died() -> Error {
    Error::Failed {
        code: "worker-died",
        what: "a worker died before its work was done".into(),
        hint: "Run the command again, and report this as a bug with what stands above it.".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_panics_is_an_error_and_no_end() {
        let (done, outcomes) = async_channel::bounded::<Result<()>>(1);
        std::panic::set_hook(Box::new(|_| {}));
        futures::executor::block_on(watched(async { panic!("a bug") }, done));
        drop(std::panic::take_hook());
        let said = futures::executor::block_on(outcomes.recv()).unwrap();
        assert!(matches!(
            said,
            Err(Error::Failed {
                code: "worker-died",
                ..
            })
        ));
        assert!(outcomes.is_closed());
    }
}
