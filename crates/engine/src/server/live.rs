//! A real PostgreSQL, through `pgclient`.
//!
//! Invariant: every session of a backup reaches the server that was looked at first. A connection string may name
//! several hosts, and an address may move to another machine between two connections.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use pgclient::{
    BackupSession, Conninfo, Replication, Session,
    backup_session::{Checkpoint, Started, Stopped},
    catalog::{ServerFacts, tables},
    reader::{FileReader, FileSession, Instance},
    replication::{WalEvent, WalStream},
};
use pgformat::{Lsn, Tli, protocol::SlotName};
use repo::{manifest::Relation, runtime::Runtime};

use crate::Result;

use super::{ReservedWal, RunningBackup, Server, WalFeed};

/// The most tables that a manifest lists, the largest of each database first.
const MAX_RELATIONS: usize = 10_000;
/// `configuration_limit_exceeded`: all replication slots are in use.
const NO_FREE_SLOT: &str = "53400";

/// A PostgreSQL server at the end of a connection string.
#[derive(Clone)]
pub struct LiveServer {
    conninfo: Conninfo,
    runtime: Runtime,
    seen: Arc<OnceLock<Seen>>,
    /// The run of the server whose files are read through SQL.
    files: Arc<OnceLock<Instance>>,
}

/// The server that answered first.
struct Seen {
    /// How to reach its host and no other.
    conninfo: Conninfo,
    system_identifier: u64,
    timeline: Tli,
    /// Whether a commit could wait for our stream: then it never says that anything is flushed.
    may_be_waited_for: bool,
    /// Whether the server gives up a slot that holds too much WAL.
    slots_are_limited: bool,
}

impl LiveServer {
    /// Connects where `conninfo` says, anew for each purpose; after the first look always to the same host.
    pub fn new(conninfo: Conninfo, runtime: Runtime) -> LiveServer {
        LiveServer {
            conninfo,
            runtime,
            seen: Arc::default(),
            files: Arc::default(),
        }
    }

    fn conninfo(&self) -> &Conninfo {
        self.seen.get().map_or(&self.conninfo, |seen| &seen.conninfo)
    }

    /// A replication connection to the server that was looked at.
    async fn replication(&self) -> Result<Replication> {
        let mut replication = Replication::connect(self.conninfo()).await?;
        if let Some(seen) = self.seen.get() {
            let found = replication.identify_system().await?;
            same_server(seen, found.system_identifier)?;
            if found.timeline != seen.timeline {
                return Err(other_server(format!(
                    "the server was seen on timeline {}, its WAL is on timeline {}",
                    seen.timeline, found.timeline
                )));
            }
        }
        Ok(replication)
    }
}

impl LiveServer {
    /// Opens connections that read files, all to the same running server.
    pub(crate) async fn files(&self, connections: usize) -> Result<FileReader> {
        let reader = FileReader::connect(self.conninfo(), connections).await?;
        self.same_instance(reader.instance())?;
        Ok(reader)
    }

    /// A session with the server that was looked at.
    pub(crate) async fn session(&self) -> Result<Session> {
        Ok(Session::connect(self.conninfo()).await?)
    }

    /// One more, to the very server that the others read from.
    pub(super) async fn file_session(&self) -> Result<FileSession> {
        let session = FileSession::connect(self.conninfo()).await?;
        self.same_instance(session.instance())?;
        Ok(session)
    }

    fn same_instance(&self, found: Instance) -> Result<()> {
        if let Some(seen) = self.seen.get() {
            same_server(seen, found.system_identifier)?;
        }
        if *self.files.get_or_init(|| found) == found {
            return Ok(());
        }
        Err(other_server("they were not started at the same time".into()))
    }
}

fn same_server(seen: &Seen, system_identifier: u64) -> Result<()> {
    if system_identifier == seen.system_identifier {
        return Ok(());
    }
    Err(other_server(format!(
        "the cluster {} answered first, then the cluster {system_identifier}",
        seen.system_identifier
    )))
}

fn other_server(what: String) -> crate::Error {
    crate::Error::Failed {
        code: "other-server",
        what: format!("two connections did not reach the same server: {what}"),
        hint: "Name one server in the connection string. After a promotion run CHECKPOINT there, then take the backup again.".into(),
    }
}

#[async_trait]
impl Server for LiveServer {
    async fn facts(&self) -> Result<ServerFacts> {
        let session = Session::connect(self.conninfo()).await?;
        let facts = ServerFacts::read(&session).await?;
        // Asked twice, the first answer stays.
        self.seen.get_or_init(|| Seen {
            conninfo: self.conninfo.clone().with_host(session.host()),
            system_identifier: facts.system_identifier,
            timeline: facts.timeline,
            may_be_waited_for: facts.commits_may_wait_for(self.conninfo.application_name()),
            slots_are_limited: facts.max_slot_wal_keep_mebibytes.is_some(),
        });
        session.close().await;
        Ok(facts)
    }

    async fn reserve_wal(&self) -> Result<Box<dyn ReservedWal>> {
        let mut replication = self.replication().await?;
        let silent = self.seen.get().is_none_or(|seen| seen.may_be_waited_for);
        if silent && self.seen.get().is_some_and(|seen| seen.slots_are_limited) {
            // A slot that never moves would be given up in a long backup, and the stream with it.
            let why = "a stream that acknowledges nothing, so that no commit waits for it, would overrun a slot's max_slot_wal_keep_size";
            return Ok(Box::new(Reserved {
                replication,
                slot: None,
                unprotected: Some(why.into()),
                silent,
            }));
        }
        let name = format!("lastgood_backup_{}", hex::encode(self.runtime.random::<6>()));
        let slot = SlotName::new(&name).map_err(|_| crate::Error::Failed {
            code: "slot-name",
            what: format!("{name} is no name for a replication slot"),
            hint: "Report this as a bug.".into(),
        })?;
        match replication.create_temporary_slot(&slot).await {
            Ok(_) => Ok(Box::new(Reserved {
                replication,
                slot: Some(slot),
                unprotected: None,
                silent,
            })),
            Err(error) if error.sqlstate() == Some(NO_FREE_SLOT) => {
                let unprotected = Some(error.to_string());
                // The connection may not survive the error.
                let replication = self.replication().await?;
                Ok(Box::new(Reserved {
                    replication,
                    slot: None,
                    unprotected,
                    silent,
                }))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn start_backup(&self, label: &str) -> Result<Box<dyn RunningBackup>> {
        let (session, started) = BackupSession::start(self.conninfo(), label, Checkpoint::Fast).await?;
        if let Some(seen) = self.seen.get() {
            same_server(seen, session.system_identifier().await?)?;
        }
        if self.files.get().is_some() {
            self.same_instance(Instance::of(session.session()).await?)?;
        }
        Ok(Box::new(Running { session, started }))
    }

    async fn history(&self, timeline: Tli) -> Result<Bytes> {
        let mut replication = self.replication().await?;
        Ok(replication.timeline_history(timeline).await?.content.into())
    }

    async fn relations(&self, facts: &ServerFacts) -> Result<(Vec<Relation>, Vec<String>)> {
        let (mut relations, mut unknown) = (Vec::new(), Vec::new());
        for database in &facts.databases {
            if !database.allows_connections {
                continue;
            }
            match of_database(self.conninfo(), &database.name).await {
                Ok(found) => relations.extend(found),
                Err(_) => unknown.push(database.name.clone()),
            }
        }
        relations.sort_by_key(|relation| std::cmp::Reverse(relation.bytes));
        relations.truncate(MAX_RELATIONS);
        Ok((relations, unknown))
    }
}

async fn of_database(conninfo: &Conninfo, database: &str) -> Result<Vec<Relation>> {
    let session = Session::connect(&conninfo.clone().with_dbname(database)).await?;
    let found = tables(&session, MAX_RELATIONS as u32).await?;
    session.close().await;
    let relation = |table: pgclient::catalog::Table| Relation {
        database: database.into(),
        schema: table.schema,
        table: table.name,
        rows: Some(table.estimated_rows),
        bytes: table.estimated_bytes,
    };
    Ok(found.into_iter().map(relation).collect())
}

struct Reserved {
    replication: Replication,
    slot: Option<SlotName>,
    unprotected: Option<String>,
    silent: bool,
}

#[async_trait]
impl ReservedWal for Reserved {
    fn unprotected(&self) -> Option<&str> {
        self.unprotected.as_deref()
    }

    async fn stream(self: Box<Self>, start: Lsn, timeline: Tli) -> Result<Box<dyn WalFeed>> {
        let stream = self
            .replication
            .start_physical(self.slot.as_ref(), start, timeline)
            .await?;
        Ok(Box::new(Feed {
            stream,
            silent: self.silent,
        }))
    }
}

struct Feed {
    stream: WalStream,
    /// Without a flush position the server takes no stream for a synchronous standby (`SyncRepGetCandidateStandbys`,
    /// syncrep.c): commits wait for whom they waited for before. The price is that the slot holds all WAL of the backup.
    silent: bool,
}

#[async_trait]
impl WalFeed for Feed {
    async fn next(&mut self) -> Result<WalEvent> {
        Ok(self.stream.next().await?)
    }

    fn acknowledge(&mut self, flushed: Lsn) {
        if !self.silent {
            self.stream.acknowledge(flushed);
        }
    }

    async fn heartbeat(&mut self) -> Result<()> {
        Ok(self.stream.heartbeat().await?)
    }
}

struct Running {
    session: BackupSession,
    started: Started,
}

#[async_trait]
impl RunningBackup for Running {
    fn started(&self) -> Started {
        self.started
    }

    fn is_alive(&self) -> bool {
        self.session.is_alive()
    }

    async fn stop(self: Box<Self>) -> Result<Stopped> {
        Ok(self.session.stop().await?)
    }
}
