//! The receiver beside the story: what `lastgood wal receive` does, in this process.

use std::time::{Duration, Instant};

use engine::{
    archive::receive::{self, Options, SlotChoice, Summary},
    database::Database,
    event::{Context, Stop},
    pgclient::{Conninfo, Session},
    server::LiveSource,
};
use tokio::sync::oneshot;

use crate::{Error, Result, commands::Run};

/// How often the server is asked how far the receiver is.
const LOOK: Duration = Duration::from_millis(10);
/// A receiver that needs longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A receiver at work.
pub(super) struct Stream {
    stop: Stop,
    ended: oneshot::Receiver<engine::Result<Summary>>,
}

impl Stream {
    /// Begins to receive. The slot has no limit: the cluster does not outlive the demo.
    pub(super) fn begin(run: &Run, database: &Database, server: &Conninfo, name: &str) -> Result<Stream> {
        let options = Options {
            unlimited_slot: true,
            ..Options::new(SlotChoice::of_database(name)?)
        };
        let (stop, source) = (Stop::default(), LiveSource::new(server.clone()));
        let context = Context {
            stop: stop.clone(),
            ..run.context.clone()
        };
        let (tell, ended) = oneshot::channel();
        let database = database.clone();
        run.context.runtime.workers.spawn(Box::pin(async move {
            let summary = receive(&context, &database, &source, &options).await;
            // The story may have ended already.
            drop(tell.send(summary));
        }));
        Ok(Stream { stop, ended })
    }

    /// Waits until everything that the server has committed is in the repository; how long that took.
    pub(super) async fn caught_up(&mut self, session: &Session) -> Result<Duration> {
        let began = Instant::now();
        let here = "SELECT coalesce(pg_catalog.bool_or(flush_lsn >= $1::text::pg_catalog.pg_lsn), false) \
                    FROM pg_catalog.pg_stat_replication";
        let row = session
            .query_one(
                "ask for its position",
                "SELECT pg_catalog.pg_current_wal_flush_lsn()::text",
                &[],
            )
            .await?;
        let position: String = row.try_get(0).unwrap_or_default();
        while began.elapsed() < PATIENCE {
            let row = session
                .query_one("ask how far the receiver is", here, &[&position])
                .await?;
            if row.try_get(0).unwrap_or_default() {
                return Ok(began.elapsed());
            }
            if let Ok(ended) = self.ended.try_recv() {
                return Err(match ended {
                    Err(error) => error.into(),
                    Ok(_) => lost("the receiver ended"),
                });
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(lost("the receiver did not catch up within a minute"))
    }

    /// Ends it, as SIGTERM would.
    pub(super) async fn end(self) -> Result<Summary> {
        self.stop.stop();
        match self.ended.await {
            Ok(summary) => Ok(summary?),
            Err(_) => Err(lost("the receiver died")),
        }
    }
}

async fn receive(
    context: &Context,
    database: &Database,
    source: &LiveSource,
    options: &Options,
) -> engine::Result<Summary> {
    match receive::open(context, database).await? {
        Some(opened) => receive::run(context, &opened, source, options).await,
        None => Ok(Summary::default()),
    }
}

fn lost(what: &str) -> Error {
    Error::Engine(engine::Error::Failed {
        code: "demo-stream",
        what: what.into(),
        hint: "Please report this with the output of `lastgood demo --json`.".into(),
    })
}
