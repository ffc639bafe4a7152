//! Which host is connected to, and with how much security: one rule for SQL and replication.

use std::{future::Future, io};

use tokio::time::timeout;

use crate::{
    Error, Result,
    conninfo::{Conninfo, Host},
    transport::{Security, attempts},
};

/// Something that can be opened at a host.
pub(crate) trait Opener: Sync {
    type Opened: Send;
    /// Connects and authenticates; bounded by the caller.
    fn open(
        &self,
        conninfo: &Conninfo,
        host: &Host,
        security: Security,
    ) -> impl Future<Output = Result<Self::Opened>> + Send;
}

/// Tries all hosts in order; each within the connect timeout.
///
/// As in libpq a host that cannot be reached leads to the next one, one that refuses us does not:
/// the same password would be refused, or worse accepted, elsewhere.
pub(crate) async fn first_that_opens<O: Opener>(opener: &O, conninfo: &Conninfo) -> Result<O::Opened> {
    let mut failures: Vec<(String, Error)> = Vec::new();
    for host in conninfo.hosts() {
        match open_host(opener, conninfo, host).await {
            Ok(opened) => return Ok(opened),
            Err(error @ (Error::Unreachable { .. } | Error::Tls { .. } | Error::ConnectionLost { .. })) => {
                failures.push((host.to_string(), error));
            }
            Err(error) => return Err(error),
        }
    }
    Err(summary(failures))
}

async fn open_host<O: Opener>(opener: &O, conninfo: &Conninfo, host: &Host) -> Result<O::Opened> {
    let mut first_failure = None;
    for security in attempts(host, conninfo.ssl_mode()) {
        let outcome = match timeout(conninfo.connect_timeout(), opener.open(conninfo, host, *security)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Unreachable {
                server: host.to_string(),
                source: format!("no session within {} seconds", conninfo.connect_timeout().as_secs()).into(),
            }),
        };
        match outcome {
            Ok(opened) => return Ok(opened),
            Err(error) if may_differ_in_security(&error) => first_failure = first_failure.or(Some(error)),
            // The first attempt is the preferred one, so its failure is the one to tell about.
            Err(error) => return Err(first_failure.unwrap_or(error)),
        }
    }
    Err(first_failure.unwrap_or_else(|| unreachable_host(host.to_string(), "no way to connect is left")))
}

/// Whether another `Security` may help: the handshake failed, or `pg_hba.conf` has no rule for this kind
/// of connection. A wrong password is wrong either way and is not sent twice.
fn may_differ_in_security(error: &Error) -> bool {
    match error {
        Error::Tls { .. } => true,
        Error::Authentication { sqlstate, .. } => sqlstate.as_deref() == Some("28000"),
        _ => false,
    }
}

fn summary(mut failures: Vec<(String, Error)>) -> Error {
    match failures.pop() {
        None => unreachable_host("the server".to_owned(), "no host is named"),
        Some((_, only)) if failures.is_empty() => only,
        Some((server, last)) => {
            failures.push((server, last));
            let servers: Vec<_> = failures.iter().map(|(server, _)| server.as_str()).collect();
            let causes: Vec<_> = failures
                .iter()
                .map(|(server, error)| format!("{server}: {}", root_cause(error)))
                .collect();
            Error::Unreachable {
                server: servers.join(", "),
                source: causes.join("; ").into(),
            }
        }
    }
}

/// The innermost cause, which says most.
fn root_cause(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn unreachable_host(server: String, what: &str) -> Error {
    Error::Unreachable {
        server,
        source: io::Error::other(what.to_owned()).into(),
    }
}
