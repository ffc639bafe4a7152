//! What a caller of a PostgreSQL server can act on.
//!
//! Invariant: no variant ever holds a password, nor text of which a password may be a part.

use std::path::PathBuf;

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A cause that is kept whole, for `source()`.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// One variant per reaction of the caller, not one per cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection string, the environment, a service file or a password file does not make sense.
    #[error("{what}")]
    Conninfo {
        /// What is wrong with which keyword; never its value where that may be secret.
        what: String,
    },
    /// No server answers there, or it answers that it cannot take connections yet. May pass by itself.
    #[error("could not connect to {server}")]
    Unreachable {
        /// Host and port.
        server: String,
        /// What the system or the server said.
        source: Cause,
    },
    /// The encrypted connection did not come about: certificate, name, or a server without TLS.
    #[error("could not open an encrypted connection to {server}")]
    Tls {
        /// Host and port.
        server: String,
        /// What TLS said.
        source: Cause,
    },
    /// The server does not accept who we say we are, or we do not accept the server.
    #[error("{server} refused user \"{user}\": {what}")]
    Authentication {
        /// Host and port.
        server: String,
        /// The role.
        user: String,
        /// The reason.
        what: String,
        /// The server's SQLSTATE (28000: no rule of `pg_hba.conf` lets us in; 28P01: wrong password);
        /// `None` if it was this side that refused.
        sqlstate: Option<String>,
    },
    /// The role lacks a right; `grant` gives it.
    #[error("{what}")]
    MissingRight {
        /// Who may not do what, in which database.
        what: String,
        /// SQL for a superuser to run.
        grant: String,
    },
    /// The server is a version that this program does not know. Nothing is guessed.
    #[error("{server} runs PostgreSQL {found}; lastgood knows 13 to 18")]
    UnsupportedVersion {
        /// Host and port.
        server: String,
        /// What it says it is.
        found: String,
    },
    /// A connection pooler stands between us and the server; a backup's session cannot live there.
    #[error("{server} is a connection pooler: {evidence}")]
    Pooler {
        /// Host and port.
        server: String,
        /// How that was seen.
        evidence: String,
        /// Where to connect instead.
        instead: String,
    },
    /// The server answered with an error.
    #[error("could not {doing}: {message} (SQLSTATE {sqlstate})")]
    Server {
        /// What was asked, as a verb for the sentence.
        doing: String,
        /// Five characters; PostgreSQL's documentation, appendix A.
        sqlstate: String,
        /// The server's words.
        message: String,
    },
    /// The connection ended, or nothing came over it any more. What was asked may have happened.
    #[error("lost the connection to {server} while it was to {doing}")]
    ConnectionLost {
        /// Host and port.
        server: String,
        /// What was under way.
        doing: String,
        /// What was seen.
        source: Cause,
    },
    /// The server sent what the protocol does not allow, or what this program refuses to hold.
    #[error("{server} sent what cannot be: {what}")]
    Protocol {
        /// Host and port.
        server: String,
        /// What came.
        what: String,
    },
    /// PostgreSQL's programs of that major version are not on this machine.
    #[error("PostgreSQL {major} is not installed here; searched {}", list(searched))]
    NoBinaries {
        /// The major version wanted.
        major: String,
        /// Where `postgres` was looked for, and what was found instead.
        searched: Vec<String>,
    },
    /// A server that we started has ended by itself.
    #[error("the server in {} ended ({status}); its log ends with:\n{log_tail}", data_dir.display())]
    ServerExited {
        /// Its data directory.
        data_dir: PathBuf,
        /// Exit code or signal.
        status: String,
        /// The last lines of its log.
        log_tail: String,
    },
    /// A server that we started lives but did not become what was waited for in time.
    #[error("the server in {} is still \"{status}\" after {seconds} seconds; its log ends with:\n{log_tail}", data_dir.display())]
    NotReady {
        /// Its data directory.
        data_dir: PathBuf,
        /// The status in `postmaster.pid`.
        status: String,
        /// How long was waited.
        seconds: u64,
        /// The last lines of its log.
        log_tail: String,
    },
    /// A program of PostgreSQL did not do its work.
    #[error("{program} failed ({status}): {output}")]
    Program {
        /// Its name.
        program: String,
        /// Exit code or signal.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// A file or process of this machine could not be used.
    #[error("could not {doing} {}", path.display())]
    Local {
        /// A verb, for the sentence.
        doing: &'static str,
        /// The object.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

fn list(items: &[String]) -> String {
    if items.is_empty() {
        "nothing".to_owned()
    } else {
        items.join(", ")
    }
}

impl Error {
    /// Whether the same call may succeed later, with nothing done about it.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Unreachable { .. } | Error::ConnectionLost { .. } | Error::NotReady { .. } => true,
            // Connection failures, resource shortage, operator intervention; deadlock and serialization failure.
            Error::Server { sqlstate, .. } => {
                matches!(sqlstate.get(..2), Some("08" | "53" | "57")) || matches!(sqlstate.as_str(), "40001" | "40P01")
            }
            _ => false,
        }
    }

    /// The server's SQLSTATE, where it answered with one.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Error::Server { sqlstate, .. }
            | Error::Authentication {
                sqlstate: Some(sqlstate),
                ..
            } => Some(sqlstate),
            _ => None,
        }
    }

    /// Whether the server says that it no longer has the WAL asked for (walsender reports a segment
    /// that was removed as `undefined_file`). Only a new backup closes that gap.
    pub fn is_wal_removed(&self) -> bool {
        self.sqlstate() == Some("58P01")
    }

    /// What the operator can do, as an imperative sentence.
    pub fn hint(&self) -> Option<String> {
        let fixed = match self {
            Error::MissingRight { grant, .. } => return Some(format!("Run as a superuser: {grant}")),
            Error::Pooler { instead, .. } => return Some(instead.clone()),
            Error::Conninfo { .. } => "Correct the connection settings, then run the command again.",
            Error::Unreachable { .. } => {
                "Check that PostgreSQL runs, that host and port are right and that no firewall is in between."
            }
            Error::Tls { .. } => "Check sslmode, sslrootcert and the server's certificate.",
            Error::Authentication { .. } => {
                "Check user and password (PGPASSFILE or ~/.pgpass) and the server's pg_hba.conf."
            }
            Error::UnsupportedVersion { .. } => "Use a version of lastgood that knows this PostgreSQL.",
            Error::ConnectionLost { .. } => "Look into the server's log for the reason, then run the command again.",
            Error::NoBinaries { .. } => {
                "Install that version's server package, or point to its programs with the setting for binaries."
            }
            Error::ServerExited { .. } | Error::NotReady { .. } => "Look into the server's log for the reason.",
            Error::Server { .. } | Error::Protocol { .. } | Error::Program { .. } | Error::Local { .. } => return None,
        };
        Some(fixed.to_owned())
    }
}
