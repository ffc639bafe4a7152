//! Storing takes time, and the server must not take us for dead meanwhile.

use std::time::Duration;

use futures::{future::Either, pin_mut};
use repo::runtime::Clock;

use crate::{Error, Result};

use super::WalFeed;

/// How often the server hears from us while a run is stored: half of how often a stream that is waited for speaks by itself.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long storing one run, at most 4 MiB, may take. A store that takes longer is as good as gone, and
/// the server must not keep WAL for its sake.
const STORING: Duration = Duration::from_secs(600);

/// Waits for `work`, and meanwhile keeps the server assured that we live: one that hears nothing for
/// `wal_sender_timeout` ends the stream, and with it the backup.
pub(crate) async fn beside_heartbeats<T>(
    clock: &dyn Clock,
    feed: &mut dyn WalFeed,
    work: impl Future<Output = T>,
) -> Result<T> {
    let beats = async {
        for _ in 0..STORING.as_secs() / HEARTBEAT.as_secs() {
            clock.sleep(HEARTBEAT).await;
            feed.heartbeat().await?;
        }
        Err(Error::Failed {
            code: "store-slow",
            what: format!(
                "the repository did not store a run of WAL in {} seconds",
                STORING.as_secs()
            ),
            hint: "Check the repository's disk or network, then run the command again.".into(),
        })
    };
    pin_mut!(work, beats);
    match futures::future::select(work, beats).await {
        Either::Left((done, _)) => Ok(done),
        Either::Right((stopped, _)) => stopped,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::future::BoxFuture;
    use pgformat::Lsn;

    use super::*;
    use crate::server::WalEvent;

    /// A sleep is over as soon as everything else was looked at once.
    struct Sleepless;

    impl Clock for Sleepless {
        fn now_micros(&self) -> i64 {
            0
        }
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            let mut looked = false;
            Box::pin(futures::future::poll_fn(move |context| {
                context.waker().wake_by_ref();
                match std::mem::replace(&mut looked, true) {
                    true => std::task::Poll::Ready(()),
                    false => std::task::Poll::Pending,
                }
            }))
        }
    }

    #[derive(Default)]
    struct Heart(Arc<std::sync::atomic::AtomicUsize>, Option<async_channel::Sender<()>>);

    #[async_trait::async_trait]
    impl WalFeed for Heart {
        async fn next(&mut self) -> Result<WalEvent> {
            Err(Error::Interrupted)
        }
        fn acknowledge(&mut self, _: Lsn) {}
        async fn heartbeat(&mut self) -> Result<()> {
            let beats = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
            if beats == 3
                && let Some(stored) = &self.1
            {
                let _ = stored.try_send(());
            }
            Ok(())
        }
    }

    #[test]
    fn the_server_hears_from_us_while_a_run_is_stored() {
        let (stored, storing) = async_channel::bounded(1);
        let mut feed = Heart(Arc::default(), Some(stored));
        let done = futures::executor::block_on(beside_heartbeats(&Sleepless, &mut feed, storing.recv()));
        assert!(done.unwrap().is_ok());
        assert!(feed.0.load(std::sync::atomic::Ordering::SeqCst) >= 3);
    }

    #[test]
    fn a_store_that_never_answers_is_given_up() {
        let never = futures::future::pending::<()>();
        let ended = futures::executor::block_on(beside_heartbeats(&Sleepless, &mut Heart::default(), never));
        assert!(matches!(ended, Err(Error::Failed { code: "store-slow", .. })));
    }
}
