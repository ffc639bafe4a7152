//! A physical replication connection: identity, slots, timeline histories and WAL streams.
//!
//! Own client because tokio-postgres opens no replication connections and knows no CopyBoth.

mod authentication;
mod event;
mod fields;
mod receiving;
mod stream;
mod wire;

use std::collections::BTreeMap;

use bytes::Bytes;
use pgformat::{
    Lsn, Major, Tli,
    protocol::{self, Command, CreatedSlot, NextTimeline, SlotName, SystemIdentity, TimelineHistoryFile},
};
use postgres_protocol::message::frontend;

pub use self::{
    event::WalEvent,
    receiving::{KeptSlot, SourceFacts, slot_state},
    stream::WalStream,
};
use self::{
    fields::{ErrorFields, data_row},
    wire::{Message, Wire},
};
use crate::{
    Error, Result,
    classify::{Purpose, Reported, while_connecting},
    connect::refuse_other_target,
    conninfo::{Conninfo, Host, TargetSession},
    hosts::{Opener, first_that_opens},
    transport::{Security, Transport},
};

/// One row of an answer, NULL as `None`.
type Row = Vec<Option<Bytes>>;

/// No command of the replication protocol answers with more rows.
const MAX_ROWS: usize = 1000;

/// An open replication connection that waits for a command. Dropping it cuts the connection; temporary
/// slots vanish with it.
pub struct Replication {
    wire: Wire,
    host: Host,
    major: Major,
}

impl std::fmt::Debug for Replication {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Replication({}, PostgreSQL {})", self.wire.server, self.major)
    }
}

impl Replication {
    /// Connects to the first host that is reachable and is what `target_session_attrs` asks for.
    ///
    /// # Errors
    /// [`Error::MissingRight`] if the role has not the attribute REPLICATION; otherwise as
    /// [`crate::Session::connect`]. `pg_hba.conf` needs a rule for the database `replication`.
    pub async fn connect(conninfo: &Conninfo) -> Result<Replication> {
        first_that_opens(&ReplicationOpener, conninfo).await
    }

    /// The host connected to.
    pub fn host(&self) -> &Host {
        &self.host
    }
    /// Host and port for messages.
    pub fn server(&self) -> &str {
        &self.wire.server
    }
    /// The server's major version.
    pub fn major(&self) -> Major {
        self.major
    }
    /// Whether TLS is used.
    pub fn is_encrypted(&self) -> bool {
        self.wire.transport().is_tls()
    }

    /// Which cluster this is, its timeline and how far its WAL reaches.
    pub async fn identify_system(&mut self) -> Result<SystemIdentity> {
        let row = self.one_row("identify the system", &Command::identify_system()).await?;
        SystemIdentity::parse(&texts(&row)).map_err(|error| self.wire.protocol(error.to_string()))
    }

    /// The history file of a timeline, byte for byte. Timeline 1 has none ([`Error::Server`], 58P01).
    pub async fn timeline_history(&mut self, timeline: Tli) -> Result<TimelineHistoryFile> {
        let row = self
            .one_row("fetch a timeline's history", &protocol::timeline_history(timeline))
            .await?;
        let columns: Vec<Option<&[u8]>> = row.iter().map(Option::as_deref).collect();
        let file = TimelineHistoryFile::parse(&columns).map_err(|error| self.wire.protocol(error.to_string()))?;
        if file.timeline == timeline {
            Ok(file)
        } else {
            Err(self.wire.protocol(format!(
                "the history of timeline {} instead of {timeline}",
                file.timeline
            )))
        }
    }

    /// Creates a slot that holds WAL back from now on and vanishes with this connection.
    pub async fn create_temporary_slot(&mut self, slot: &SlotName) -> Result<CreatedSlot> {
        let command = protocol::create_temporary_physical_slot(self.major, slot);
        let row = self.one_row("create a replication slot", &command).await?;
        CreatedSlot::parse(&texts(&row)).map_err(|error| self.wire.protocol(error.to_string()))
    }

    /// Creates a slot that holds WAL back from now on and stays.
    pub async fn create_permanent_slot(&mut self, slot: &SlotName) -> Result<CreatedSlot> {
        let command = protocol::create_permanent_physical_slot(self.major, slot);
        let row = self.one_row("create a replication slot", &command).await?;
        CreatedSlot::parse(&texts(&row)).map_err(|error| self.wire.protocol(error.to_string()))
    }

    /// Drops a slot that nobody uses.
    pub async fn drop_slot(&mut self, slot: &SlotName) -> Result<()> {
        self.rows("drop a replication slot", protocol::drop_slot(slot).as_str())
            .await
            .map(drop)
    }

    /// Streams WAL of `timeline` from `start` on: any position, not only a segment's beginning.
    ///
    /// # Errors
    /// [`Error::Server`] if the server has not that WAL: see [`Error::is_wal_removed`]. It may come only
    /// with the stream's first event.
    pub async fn start_physical(mut self, slot: Option<&SlotName>, start: Lsn, timeline: Tli) -> Result<WalStream> {
        const DOING: &str = "start streaming WAL";
        let command = protocol::start_replication(slot, start, timeline);
        self.wire.enqueue(|out| frontend::query(command.as_str(), out))?;
        let message = self.wire.next(DOING).await?;
        match message.tag {
            b'W' => Ok(WalStream::streaming(self, start)),
            // The timeline ended exactly here: no stream, the next timeline's row at once.
            b'T' => {
                let next = self.next_timeline(message).await?;
                Ok(WalStream::ended(self, start, next))
            }
            b'E' => {
                let error = self.wire.reported(DOING, &message.body);
                Err(self.after_error(error).await)
            }
            _ => Err(self.wire.unexpected(DOING, &message)),
        }
    }

    /// Reads the rest of the answer that tells where the WAL goes on.
    async fn next_timeline(&mut self, first: Message) -> Result<Option<NextTimeline>> {
        let rows = self.collect("learn the next timeline", Some(first)).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        next_timeline_of(&self.wire, row).map(Some)
    }

    async fn one_row(&mut self, doing: &str, command: &Command) -> Result<Row> {
        let mut rows = self.rows(doing, command.as_str()).await?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(self
                .wire
                .protocol(format!("not exactly one row where it was to {doing}"))),
        }
    }

    async fn rows(&mut self, doing: &str, command: &str) -> Result<Vec<Row>> {
        self.wire.enqueue(|out| frontend::query(command, out))?;
        self.collect(doing, None).await
    }

    /// All rows up to ReadyForQuery. After an error the connection is ready again.
    async fn collect(&mut self, doing: &str, first: Option<Message>) -> Result<Vec<Row>> {
        let (mut rows, mut failure, mut pending) = (Vec::new(), None, first);
        loop {
            let message = match pending.take() {
                Some(message) => message,
                None => match self.wire.next(doing).await {
                    Ok(message) => message,
                    // After a FATAL error the server closes: what it said tells more than that it went.
                    Err(Error::ConnectionLost { .. }) if failure.is_some() => return failure.map_or(Ok(rows), Err),
                    Err(error) => return Err(error),
                },
            };
            match message.tag {
                b'T' | b'C' | b'I' => {}
                b'D' if rows.len() < MAX_ROWS => {
                    let row = data_row(&message.body);
                    rows.push(row.ok_or_else(|| self.wire.protocol("a row that does not fit its message"))?);
                }
                b'E' => failure = Some(self.wire.reported(doing, &message.body)),
                b'Z' => return failure.map_or(Ok(rows), Err),
                _ => return Err(self.wire.unexpected(doing, &message)),
            }
            if let Some(lost @ Error::ConnectionLost { .. }) = failure {
                return Err(lost);
            }
        }
    }

    /// Brings the connection back to where it takes commands, unless it is gone anyway.
    async fn after_error(&mut self, error: Error) -> Error {
        if !matches!(error, Error::ConnectionLost { .. }) {
            drop(self.collect("recover from an error", None).await);
        }
        error
    }
}

/// Columns as text; bytes that are not UTF-8 are no column of such a row.
fn texts(row: &Row) -> Vec<Option<&str>> {
    row.iter()
        .map(|value| value.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()))
        .collect()
}

fn next_timeline_of(wire: &Wire, row: &Row) -> Result<NextTimeline> {
    NextTimeline::parse(&texts(row)).map_err(|error| wire.protocol(error.to_string()))
}

/// The row that follows the end of a timeline's stream.
fn read_next_timeline(wire: &Wire, body: &Bytes) -> Result<NextTimeline> {
    let row = data_row(body).ok_or_else(|| wire.protocol("a row that does not fit its message"))?;
    next_timeline_of(wire, &row)
}

struct ReplicationOpener;

impl Opener for ReplicationOpener {
    type Opened = Replication;

    async fn open(&self, conninfo: &Conninfo, host: &Host, security: Security) -> Result<Replication> {
        let transport = Transport::open(conninfo, host, security).await?;
        let mut wire = Wire::new(transport, host.to_string());
        wire.enqueue(|out| frontend::startup_message(startup_parameters(conninfo), out))?;
        authentication::authenticate(&mut wire, conninfo, host).await?;
        wire.trust();
        let parameters = parameters(&mut wire, conninfo).await?;
        let version = parameters.get("server_version").map(String::as_str).unwrap_or_default();
        let major = major_of(version).ok_or_else(|| Error::UnsupportedVersion {
            server: wire.server.clone(),
            found: version.to_owned(),
        })?;
        let mut replication = Replication {
            wire,
            host: host.clone(),
            major,
        };
        replication.check_target(conninfo.target()).await?;
        Ok(replication)
    }
}

impl Replication {
    /// A walsender has no SQL; a standby's transactions are read-only, and that can be shown.
    async fn check_target(&mut self, target: TargetSession) -> Result<()> {
        if target == TargetSession::Any {
            return Ok(());
        }
        let rows = self
            .rows("ask whether the server is a standby", "SHOW transaction_read_only")
            .await?;
        let read_only = rows
            .first()
            .and_then(|row| row.first().cloned().flatten())
            .is_some_and(|value| *value == *b"on");
        refuse_other_target(&self.wire.server, target, read_only, read_only)
    }
}

fn startup_parameters(conninfo: &Conninfo) -> Vec<(&str, &str)> {
    let mut parameters = vec![
        ("user", conninfo.user()),
        // What physical replication is called in pg_hba.conf.
        ("database", "replication"),
        ("replication", "true"),
        ("application_name", conninfo.application_name()),
        ("client_encoding", "UTF8"),
    ];
    parameters.extend(conninfo.options().map(|options| ("options", options)));
    parameters
}

/// What the server tells between authentication and the first ReadyForQuery.
async fn parameters(wire: &mut Wire, conninfo: &Conninfo) -> Result<BTreeMap<String, String>> {
    const DOING: &str = "begin a replication connection";
    let mut parameters = BTreeMap::new();
    loop {
        match wire.buffered()? {
            None => wire.receive(DOING).await?,
            Some(Message { tag: b'S', body }) => parameters.extend(fields::parameter(&body)),
            Some(Message { tag: b'K' | b'N', .. }) => {}
            Some(Message { tag: b'Z', .. }) => return Ok(parameters),
            Some(Message { tag: b'E', body }) => {
                let error = ErrorFields::parse(&body);
                let reported = Reported {
                    purpose: Purpose::Replication,
                    sqlstate: &error.sqlstate,
                    message: &error.message,
                };
                return Err(while_connecting(&wire.server, conninfo, &reported));
            }
            Some(message) => return Err(wire.unexpected(DOING, &message)),
        }
    }
}

/// From `15.4 (Debian …)` or `18beta1`.
fn major_of(version: &str) -> Option<Major> {
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    Major::from_server_version_num(digits.parse::<u32>().ok()?.checked_mul(10_000)?).ok()
}
