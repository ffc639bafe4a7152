//! An SQL session with settings that a backup can rely on.
//!
//! Invariant: `search_path` is empty before the first name is looked up, so that no object of a user's
//! schema is ever called in place of PostgreSQL's (CVE-2018-1058); and no timeout of a role or
//! database ends the session.

use std::{future::Ready, io, time::Duration};

use pgformat::Major;
use secrecy::ExposeSecret;
use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::{
    Client, Config, Row, SimpleQueryMessage,
    tls::{ChannelBinding as Binding, TlsConnect, TlsStream},
    types::ToSql,
};

use crate::{
    Error, Result,
    classify::{connect_error, query_error},
    conninfo::{ChannelBinding, Conninfo, Host, TargetSession, passfile::Lookup},
    hosts::{Opener, first_that_opens},
    transport::{Security, Transport},
};

/// How long a good-bye may take before the connection is cut.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// An open connection for SQL. Dropping it cuts the connection at once: what the server was doing
/// for it is rolled back, and a running backup is aborted there.
pub struct Session {
    client: Client,
    connection: ConnectionTask,
    host: Host,
    server: String,
    conninfo: Conninfo,
    major: Major,
    version_num: u32,
    encrypted: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Session({}, PostgreSQL {})", self.server, self.major)
    }
}

impl Session {
    /// Connects to the first host that is reachable and is what `target_session_attrs` asks for.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Tls`], [`Error::Authentication`], [`Error::UnsupportedVersion`],
    /// [`Error::Pooler`] if a pooler says so itself, [`Error::Server`].
    pub async fn connect(conninfo: &Conninfo) -> Result<Session> {
        first_that_opens(&SessionOpener, conninfo).await
    }

    /// The client, for queries that are not worth a method. Names must be schema-qualified.
    pub fn client(&self) -> &Client {
        &self.client
    }
    /// The host connected to; `conninfo.with_host(session.host())` reaches the same server again.
    pub fn host(&self) -> &Host {
        &self.host
    }
    /// Host and port for messages.
    pub fn server(&self) -> &str {
        &self.server
    }
    /// What it was opened with.
    pub fn conninfo(&self) -> &Conninfo {
        &self.conninfo
    }
    /// The server's major version.
    pub fn major(&self) -> Major {
        self.major
    }
    /// The server's `server_version_num`, such as 150014.
    pub fn version_num(&self) -> u32 {
        self.version_num
    }
    /// Whether TLS is used.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }
    /// Whether the connection is still open as far as this side knows.
    pub fn is_alive(&self) -> bool {
        !self.client.is_closed()
    }

    /// Runs a query. `doing` completes the sentence "could not …".
    pub async fn query(&self, doing: &str, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        self.client
            .query(sql, parameters)
            .await
            .map_err(|error| query_error(error, &self.server, doing))
    }

    /// Runs a query that gives exactly one row.
    pub async fn query_one(&self, doing: &str, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        let mut rows = self.query(doing, sql, parameters).await?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(self.unexpected("not exactly one row")),
        }
    }

    /// Whether the server is a standby, or recovering.
    pub async fn is_in_recovery(&self) -> Result<bool> {
        let sql = "SELECT pg_catalog.pg_is_in_recovery()";
        let row = self.query_one("ask whether the server is a standby", sql, &[]).await?;
        self.cell(&row, 0)
    }

    /// Runs statements without parameters or results.
    pub async fn execute(&self, doing: &str, sql: &str) -> Result<()> {
        self.client
            .batch_execute(sql)
            .await
            .map_err(|error| query_error(error, &self.server, doing))
    }

    pub(crate) fn unexpected(&self, what: impl Into<String>) -> Error {
        Error::Protocol {
            server: self.server.clone(),
            what: what.into(),
        }
    }
}

/// The task that moves bytes for a client; ends with it.
struct ConnectionTask(JoinHandle<()>);

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        // A good-bye alone would wait for the answer to a query that still runs.
        self.0.abort();
    }
}

struct SessionOpener;

impl Opener for SessionOpener {
    type Opened = Session;

    async fn open(&self, conninfo: &Conninfo, host: &Host, security: Security) -> Result<Session> {
        let server = host.to_string();
        let transport = Transport::open(conninfo, host, security).await?;
        let encrypted = transport.is_tls();
        let (password, note) = match conninfo.password_for(host, &[conninfo.dbname()]) {
            Lookup::Found(password) => (Some(password), String::new()),
            Lookup::Absent => (None, String::new()),
            Lookup::Ignored(reason) => (None, reason),
        };
        let mut config = library_config(conninfo, encrypted);
        if let Some(password) = password {
            config.password(password.expose_secret());
        }
        let (client, connection) = config
            .connect_raw(transport, AlreadyConnected)
            .await
            .map_err(|error| connect_error(error, &server, conninfo, &note))?;
        // Errors of the connection reach whoever waits for an answer; an idle session learns it by `is_alive`.
        let connection = ConnectionTask(tokio::spawn(async move { drop(connection.await) }));
        let mut session = Session {
            client,
            connection,
            host: host.clone(),
            server,
            conninfo: conninfo.clone(),
            major: Major::V13,
            version_num: 0,
            encrypted,
        };
        session.settle().await?;
        session.check_target(conninfo.target()).await?;
        Ok(session)
    }
}

impl Session {
    /// Makes the settings and learns the version.
    async fn settle(&mut self) -> Result<()> {
        // `SHOW` looks nothing up, so that it may stand before the search path is known to be empty.
        let answer = self
            .client
            .simple_query("SET search_path = ''; SHOW server_version_num")
            .await
            .map_err(|error| query_error(error, &self.server, "begin a session"))?;
        let shown = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let shown = shown.ok_or_else(|| self.unexpected("no server_version_num"))?;
        let unsupported = || Error::UnsupportedVersion {
            server: self.server.clone(),
            found: shown.to_owned(),
        };
        self.version_num = shown.parse().map_err(|_| unsupported())?;
        self.major = Major::from_server_version_num(self.version_num).map_err(|_| Error::UnsupportedVersion {
            server: self.server.clone(),
            found: format!("{}.{}", self.version_num / 10_000, self.version_num % 10_000),
        })?;
        let mut settings = "SET statement_timeout = 0; SET lock_timeout = 0; \
            SET idle_in_transaction_session_timeout = 0"
            .to_owned();
        if self.major >= Major::V14 {
            settings.push_str("; SET idle_session_timeout = 0");
        }
        if self.major >= Major::V17 {
            settings.push_str("; SET transaction_timeout = 0");
        }
        self.execute("set the session's timeouts", &settings).await
    }

    async fn check_target(&self, target: TargetSession) -> Result<()> {
        if target == TargetSession::Any {
            return Ok(());
        }
        let sql = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only') = 'on'";
        let row = self.query_one("ask whether the server is a standby", sql, &[]).await?;
        let (standby, read_only): (bool, bool) = (self.cell(&row, 0)?, self.cell(&row, 1)?);
        refuse_other_target(&self.server, target, standby, read_only)
    }

    /// One value of a row, of the type it must have.
    pub(crate) fn cell<'a, T: tokio_postgres::types::FromSql<'a>>(&self, row: &'a Row, column: usize) -> Result<T> {
        row.try_get(column)
            .map_err(|error| self.unexpected(format!("column {column} of an answer: {error}")))
    }

    /// A position that a query gave as text.
    pub(crate) fn lsn(&self, row: &Row, column: usize) -> Result<pgformat::Lsn> {
        let text: String = self.cell(row, column)?;
        text.parse()
            .map_err(|_| self.unexpected(format!("\"{text}\" in the place of a WAL position")))
    }

    /// Ends the session in order; a server that does not take the good-bye is left after a few seconds.
    pub async fn close(self) {
        let Session {
            client, mut connection, ..
        } = self;
        drop(client);
        drop(timeout(CLOSE_TIMEOUT, &mut connection.0).await);
    }
}

/// Whether a server of this kind is what was asked for; otherwise the next host is to be tried.
pub(crate) fn refuse_other_target(server: &str, target: TargetSession, standby: bool, read_only: bool) -> Result<()> {
    let (fits, wanted) = match target {
        TargetSession::Any => (true, "any server"),
        TargetSession::ReadWrite => (!standby && !read_only, "a server that can be written to"),
        TargetSession::ReadOnly => (standby || read_only, "a read-only server"),
        TargetSession::Primary => (!standby, "a primary"),
        TargetSession::Standby => (standby, "a standby"),
    };
    if fits {
        return Ok(());
    }
    Err(Error::Unreachable {
        server: server.to_owned(),
        source: io::Error::other(format!("target_session_attrs asks for {wanted}, which this is not")).into(),
    })
}

fn library_config(conninfo: &Conninfo, encrypted: bool) -> Config {
    let mut config = Config::new();
    config
        .user(conninfo.user())
        .dbname(conninfo.dbname())
        .application_name(conninfo.application_name());
    if let Some(options) = conninfo.options() {
        config.options(options);
    }
    // The transport is encrypted already or not at all; "direct" keeps the library from asking again.
    if encrypted {
        config.ssl_mode(tokio_postgres::config::SslMode::Require);
        config.ssl_negotiation(tokio_postgres::config::SslNegotiation::Direct);
    } else {
        config.ssl_mode(tokio_postgres::config::SslMode::Disable);
    }
    config.channel_binding(match conninfo.channel_binding() {
        ChannelBinding::Disable => tokio_postgres::config::ChannelBinding::Disable,
        ChannelBinding::Prefer => tokio_postgres::config::ChannelBinding::Prefer,
        ChannelBinding::Require => tokio_postgres::config::ChannelBinding::Require,
    });
    config
}

/// Hands a transport that is encrypted already to the library, with what SCRAM is bound to.
struct AlreadyConnected;

impl TlsConnect<Transport> for AlreadyConnected {
    type Stream = Transport;
    type Error = io::Error;
    type Future = Ready<io::Result<Transport>>;

    fn connect(self, transport: Transport) -> Self::Future {
        std::future::ready(Ok(transport))
    }
}

impl TlsStream for Transport {
    fn channel_binding(&self) -> Binding {
        self.end_point()
            .map_or_else(Binding::none, Binding::tls_server_end_point)
    }
}
