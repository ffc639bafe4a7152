//! From what went wrong on a connection to what a caller can do about it.

use crate::{Error, conninfo::Conninfo};

/// What a connection is for; the server's words are translated, so they do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Sql,
    Replication,
}

/// An error that the server reported, by its SQLSTATE.
pub(crate) struct Reported<'a> {
    pub(crate) purpose: Purpose,
    pub(crate) sqlstate: &'a str,
    pub(crate) message: &'a str,
}

/// An error answer during start-up and authentication.
pub(crate) fn while_connecting(server: &str, conninfo: &Conninfo, reported: &Reported<'_>) -> Error {
    let Reported {
        purpose,
        sqlstate,
        message,
    } = reported;
    match *sqlstate {
        state if state.starts_with("28") => Error::Authentication {
            server: server.to_owned(),
            user: conninfo.user().to_owned(),
            what: (*message).to_owned(),
            sqlstate: Some(state.to_owned()),
        },
        // "cannot_connect_now": starting up, shutting down, in recovery without hot standby.
        "57P03" => Error::Unreachable {
            server: server.to_owned(),
            source: (*message).to_owned().into(),
        },
        // `insufficient_privilege`: without the attribute, or without the right to connect (InitPostgres).
        "42501" => {
            let (role, database) = (identifier(conninfo.user()), identifier(conninfo.dbname()));
            let (act, grant) = match purpose {
                Purpose::Replication => ("replicate".to_owned(), format!("ALTER ROLE {role} REPLICATION;")),
                Purpose::Sql => (
                    format!("connect to {database}"),
                    format!("GRANT CONNECT ON DATABASE {database} TO {role};"),
                ),
            };
            Error::MissingRight {
                what: format!("role {role} may not {act}: {message}"),
                grant,
            }
        }
        // PgBouncer's answer to start-up parameters that a pooled connection cannot have.
        "08P01" if message.contains("unsupported startup parameter") => Error::Pooler {
            server: server.to_owned(),
            evidence: (*message).to_owned(),
            instead: "Connect to PostgreSQL itself, not through PgBouncer.".to_owned(),
        },
        state => Error::Server {
            doing: format!("connect to {server}"),
            sqlstate: state.to_owned(),
            message: (*message).to_owned(),
        },
    }
}

/// What tokio-postgres says while connecting. `password_note` tells why there is no password to send.
pub(crate) fn connect_error(
    error: tokio_postgres::Error,
    server: &str,
    conninfo: &Conninfo,
    password_note: &str,
) -> Error {
    if let Some(reported) = error.as_db_error() {
        let reported = Reported {
            purpose: Purpose::Sql,
            sqlstate: reported.code().code(),
            message: reported.message(),
        };
        return while_connecting(server, conninfo, &reported);
    }
    let cause = std::error::Error::source(&error)
        .map(ToString::to_string)
        .unwrap_or_default();
    let refused = |what: String| Error::Authentication {
        server: server.to_owned(),
        user: conninfo.user().to_owned(),
        what,
        sqlstate: None,
    };
    // The library has no public kinds; these two are its words for what concerns the person.
    match (error.to_string().as_str(), cause.as_str()) {
        ("invalid configuration", "password missing") => refused(no_password(password_note)),
        ("authentication error", _) => refused(cause),
        _ => Error::Unreachable {
            server: server.to_owned(),
            source: error.into(),
        },
    }
}

/// The message for a server that wants a password which is not there.
pub(crate) fn no_password(note: &str) -> String {
    if note.is_empty() {
        "the server wants a password and none is given".to_owned()
    } else {
        format!("the server wants a password and none is given; {note}")
    }
}

/// What tokio-postgres says to a query.
pub(crate) fn query_error(error: tokio_postgres::Error, server: &str, doing: &str) -> Error {
    match error.as_db_error() {
        // Class 57P: the server ended our connection, it did not fail our query.
        Some(reported) if reported.code().code().starts_with("57P") => Error::ConnectionLost {
            server: server.to_owned(),
            doing: doing.to_owned(),
            source: error.into(),
        },
        Some(reported) => Error::Server {
            doing: doing.to_owned(),
            sqlstate: reported.code().code().to_owned(),
            message: reported.message().to_owned(),
        },
        None => Error::ConnectionLost {
            server: server.to_owned(),
            doing: doing.to_owned(),
            source: error.into(),
        },
    }
}

/// A name as SQL needs it: in double quotes.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
