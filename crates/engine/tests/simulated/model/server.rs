//! The model's server: what the engine asks of a PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use engine::{
    Error, Result,
    pgformat::{Lsn, Tli},
    repo::{manifest::Relation, runtime::Runtime},
    server::{ReservedWal, RunningBackup, Server, ServerFacts, Started, Stopped, WalEvent, WalFeed},
};

use super::Cluster;

/// WAL that other sessions write between the start and the end of a backup: enough to cross into the next segment
/// every few backups.
const LOAD_BYTES: usize = 150_000;
/// The most that one message of the stream holds.
const MESSAGE_BYTES: usize = 128 << 10;
/// How often a stream without news says that it lives.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// The server as one process reaches it.
pub(crate) struct ModelServer {
    cluster: Cluster,
    runtime: Runtime,
}

impl ModelServer {
    pub(super) fn new(cluster: Cluster, runtime: Runtime) -> ModelServer {
        ModelServer { cluster, runtime }
    }

    fn session(&self) -> Session {
        Session {
            cluster: self.cluster.clone(),
            runtime: self.runtime.clone(),
            life: self.cluster.lock().life,
        }
    }

    /// The way to the server and back.
    async fn travel(&self) {
        self.runtime.clock.sleep(Duration::from_millis(3)).await;
    }
}

/// A connection; it ends with the server's life.
struct Session {
    cluster: Cluster,
    runtime: Runtime,
    life: u64,
}

impl Session {
    fn is_alive(&self) -> bool {
        self.cluster.lock().life == self.life
    }

    fn check(&self) -> Result<()> {
        if self.is_alive() {
            return Ok(());
        }
        Err(Error::Failed {
            code: "model-restarted",
            what: "the model server was restarted".into(),
            hint: "Take the backup again.".into(),
        })
    }
}

#[async_trait]
impl Server for ModelServer {
    async fn facts(&self) -> Result<ServerFacts> {
        self.travel().await;
        Ok(self.cluster.facts())
    }

    async fn reserve_wal(&self) -> Result<Box<dyn ReservedWal>> {
        self.travel().await;
        Ok(Box::new(Reserved(self.session())))
    }

    async fn start_backup(&self, _: &str) -> Result<Box<dyn RunningBackup>> {
        self.travel().await;
        let session = self.session();
        let (start, timeline) = {
            let mut shared = self.cluster.lock();
            shared.running += 1;
            let start = shared.wal.checkpoint();
            shared.wal.load(LOAD_BYTES);
            let timeline = shared.wal.timeline();
            self.cluster.files().checkpoint(start, timeline);
            (start, Tli(timeline))
        };
        // The value stands for the session from here on: dropping it ends the backup on the server.
        let running = Running {
            session,
            start,
            timeline,
        };
        self.travel().await;
        Ok(Box::new(running))
    }

    async fn history(&self, timeline: Tli) -> Result<Bytes> {
        self.travel().await;
        self.cluster.history(timeline).ok_or_else(|| Error::NotFound {
            what: format!("timeline {timeline} of the model"),
            hint: "Promote the model first.".into(),
        })
    }

    async fn relations(&self, _: &ServerFacts) -> Result<(Vec<Relation>, Vec<String>)> {
        self.travel().await;
        let relation = Relation {
            database: "postgres".into(),
            schema: "public".into(),
            table: "shop".into(),
            rows: Some(70),
            bytes: 70 * 8192,
        };
        Ok((vec![relation], Vec::new()))
    }
}

struct Reserved(Session);

#[async_trait]
impl ReservedWal for Reserved {
    fn unprotected(&self) -> Option<&str> {
        None
    }

    async fn stream(self: Box<Self>, start: Lsn, timeline: Tli) -> Result<Box<dyn WalFeed>> {
        self.0.check()?;
        Ok(Box::new(Feed {
            session: self.0,
            timeline,
            begun: start,
            position: start,
        }))
    }
}

struct Feed {
    session: Session,
    timeline: Tli,
    begun: Lsn,
    position: Lsn,
}

#[async_trait]
impl WalFeed for Feed {
    async fn next(&mut self) -> Result<WalEvent> {
        self.session.check()?;
        let (bytes, server_end) = {
            let shared = self.session.cluster.lock();
            let bytes = Bytes::copy_from_slice(shared.wal.read(self.position, MESSAGE_BYTES));
            (bytes, shared.wal.end())
        };
        if bytes.is_empty() {
            self.session.runtime.clock.sleep(KEEPALIVE).await;
            let sent_micros = self.session.runtime.clock.now_micros();
            return Ok(WalEvent::Keepalive {
                server_end,
                sent_micros,
                asks: false,
            });
        }
        let start = self.position;
        self.position = Lsn(start.0 + bytes.len() as u64);
        Ok(WalEvent::Data {
            start,
            bytes,
            server_end,
            sent_micros: self.session.runtime.clock.now_micros(),
        })
    }

    fn acknowledge(&mut self, flushed: Lsn) {
        let flushed = flushed.min(self.position);
        self.session.cluster.lock().hears(self.timeline, self.begun, flushed);
    }

    async fn heartbeat(&mut self) -> Result<()> {
        self.session.check()
    }
}

struct Running {
    session: Session,
    start: Lsn,
    timeline: Tli,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.session.is_alive() {
            self.session.cluster.lock().running -= 1;
        }
    }
}

#[async_trait]
impl RunningBackup for Running {
    fn started(&self) -> Started {
        Started {
            start: self.start,
            timeline: self.timeline,
            in_recovery: false,
            reached: self.start,
        }
    }

    fn is_alive(&self) -> bool {
        self.session.is_alive()
    }

    async fn stop(self: Box<Self>) -> Result<Stopped> {
        self.session.check()?;
        let start = self.start;
        let stop = self.session.cluster.lock().wal.backup_end(start);
        // The answer takes its time; meanwhile the server writes on.
        self.session.runtime.clock.sleep(Duration::from_millis(3)).await;
        self.session.cluster.lock().wal.load(1000);
        self.session.check()?;
        let label = format!(
            "START WAL LOCATION: {start} (file 000000010000000000000060)\nCHECKPOINT LOCATION: {start}\n\
             BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-11-20 12:00:00 UTC\nLABEL: model\n\
             START TIMELINE: {}\n",
            self.timeline
        );
        Ok(Stopped {
            stop,
            backup_label: label,
            tablespace_map: String::new(),
        })
    }
}
