//! Everything that can go wrong, with the exit code and the word for programs that belong to it.

use engine::pgclient::Error as Server;
use engine::repo::Error as Repository;

use crate::exit::Exit;

/// Shorthand for this crate's results.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// One variant per reaction.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line does not make sense.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What to type instead.
        hint: String,
    },
    /// The configuration does not make sense.
    #[error("{place}: {what}")]
    Config {
        /// File and line.
        place: String,
        /// What is wrong.
        what: String,
        /// What to write instead.
        hint: Option<String>,
    },
    /// The user said no.
    #[error("declined; nothing was changed")]
    Declined,
    /// The engines.
    #[error(transparent)]
    Engine(#[from] engine::Error),
}

impl From<Repository> for Error {
    fn from(error: Repository) -> Error {
        Error::Engine(error.into())
    }
}

impl From<Server> for Error {
    fn from(error: Server) -> Error {
        Error::Engine(error.into())
    }
}

impl Error {
    /// A mistake on the command line.
    pub(crate) fn usage(what: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::Usage {
            what: what.into(),
            hint: hint.into(),
        }
    }

    /// A condition for starting that does not hold.
    pub(crate) fn refused(code: &'static str, what: impl Into<String>, hint: impl Into<String>) -> Error {
        engine::Error::Refused {
            code,
            what: what.into(),
            hint: hint.into(),
        }
        .into()
    }

    /// Something named that does not exist.
    pub(crate) fn not_found(what: impl Into<String>, hint: impl Into<String>) -> Error {
        engine::Error::NotFound {
            what: what.into(),
            hint: hint.into(),
        }
        .into()
    }

    /// A file that could not be used.
    pub(crate) fn file(operation: &'static str, path: &std::path::Path, source: std::io::Error) -> Error {
        engine::Error::File {
            operation,
            path: path.display().to_string(),
            source,
        }
        .into()
    }

    /// A stable word for programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::Usage { .. } => "usage",
            Error::Config { .. } => "configuration",
            Error::Declined => "declined",
            Error::Engine(error) => engine_code(error),
        }
    }

    /// What the operator can do, as an imperative sentence.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Error::Usage { hint, .. } => Some(hint.clone()),
            Error::Config { hint, .. } => hint.clone(),
            Error::Declined => Some("Run the command again; --yes answers the question beforehand.".into()),
            Error::Engine(error) => error.hint(),
        }
    }

    /// How the program ends; `interrupted` is the answer where a signal was the reason.
    pub(crate) fn exit(&self, interrupted: Exit) -> Exit {
        match self {
            Error::Usage { .. } | Error::Config { .. } => Exit::Usage,
            Error::Declined => Exit::Declined,
            Error::Engine(error) => match error {
                engine::Error::Refused { .. } => Exit::Refused,
                engine::Error::NotFound { .. } => Exit::NotFound,
                engine::Error::File { .. } | engine::Error::Failed { .. } => Exit::Failed,
                engine::Error::Conflict { .. } => Exit::Conflict,
                engine::Error::Unproven { .. } => Exit::Unproven,
                engine::Error::Interrupted => interrupted,
                engine::Error::Repository(error) => repository_exit(error),
                engine::Error::Server(error) => server_exit(error),
            },
        }
    }

    /// What led to it, outermost first.
    pub(crate) fn causes(&self) -> Vec<String> {
        let mut said = self.to_string();
        let mut causes = Vec::new();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            let text = error.to_string();
            // Libraries like to repeat their cause inside their own text.
            if !said.contains(&text) {
                causes.push(text.clone());
            }
            said = text;
            next = error.source();
        }
        causes
    }
}

fn repository_exit(error: &Repository) -> Exit {
    match error {
        // The folder or its identity: that is no damage, there is no repository where one was looked for.
        Repository::Missing { name } if name == "identity" || name.starts_with("the folder ") => Exit::NotFound,
        Repository::Damaged { .. } | Repository::Missing { .. } => Exit::Unproven,
        Repository::Store { transient: true, .. } => Exit::Unreachable,
        Repository::Store { .. } => Exit::Failed,
        Repository::WrongKey { .. } | Repository::Unsupported { .. } => Exit::Refused,
        Repository::Foreign { .. } | Repository::Conflict { .. } | Repository::TwoServers { .. } => Exit::Conflict,
    }
}

fn server_exit(error: &Server) -> Exit {
    match error {
        Server::Conninfo { .. } => Exit::Usage,
        Server::Unreachable { .. } | Server::ConnectionLost { .. } => Exit::Unreachable,
        Server::Tls { .. }
        | Server::Authentication { .. }
        | Server::MissingRight { .. }
        | Server::UnsupportedVersion { .. }
        | Server::Pooler { .. }
        | Server::NoBinaries { .. } => Exit::Refused,
        Server::Server { .. } if error.is_transient() => Exit::Unreachable,
        Server::Server { .. }
        | Server::Protocol { .. }
        | Server::ServerExited { .. }
        | Server::NotReady { .. }
        | Server::Program { .. }
        | Server::Local { .. } => Exit::Failed,
    }
}

fn engine_code(error: &engine::Error) -> &'static str {
    match error {
        engine::Error::Refused { code, .. }
        | engine::Error::Failed { code, .. }
        | engine::Error::Conflict { code, .. } => code,
        engine::Error::NotFound { .. } => "not-found",
        engine::Error::File { .. } => "file",
        engine::Error::Unproven { .. } => "unproven",
        engine::Error::Interrupted => "interrupted",
        engine::Error::Repository(error) => match error {
            Repository::Damaged { .. } => "damaged",
            Repository::Missing { .. } => "missing",
            Repository::Store { .. } => "store",
            Repository::WrongKey { .. } => "wrong-key",
            Repository::Foreign { .. } => "foreign-repository",
            Repository::Unsupported { .. } => "unsupported",
            Repository::Conflict { .. } => "conflict",
            Repository::TwoServers { .. } => "two-servers",
        },
        engine::Error::Server(error) => match error {
            Server::Conninfo { .. } => "connection-string",
            Server::Unreachable { .. } => "server-unreachable",
            Server::Tls { .. } => "tls",
            Server::Authentication { .. } => "authentication",
            Server::MissingRight { .. } => "missing-right",
            Server::UnsupportedVersion { .. } => "server-version",
            Server::Pooler { .. } => "pooler",
            Server::Server { .. } => "server",
            Server::ConnectionLost { .. } => "connection-lost",
            Server::Protocol { .. } => "protocol",
            Server::NoBinaries { .. } => "no-binaries",
            Server::ServerExited { .. } => "server-exited",
            Server::NotReady { .. } => "server-not-ready",
            Server::Program { .. } => "program",
            Server::Local { .. } => "local",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: impl Into<Error>, code: &str, exit: u8) {
        let error = error.into();
        assert_eq!(
            (error.code(), error.exit(Exit::Terminated).code()),
            (code, exit),
            "{error}"
        );
    }

    #[test]
    fn every_kind_of_error_has_the_exit_code_that_help_promises() {
        check(Error::usage("x", "y"), "usage", 2);
        check(Error::Declined, "declined", 5);
        check(Error::refused("target-not-empty", "x", "y"), "target-not-empty", 4);
        check(Error::not_found("x", "y"), "not-found", 6);
        check(engine::Error::Interrupted, "interrupted", 143);
        check(
            engine::Error::Unproven {
                what: String::new(),
                hint: String::new(),
            },
            "unproven",
            9,
        );
        check(
            Repository::Damaged {
                name: "a".into(),
                what: "b".into(),
            },
            "damaged",
            9,
        );
        check(
            Repository::Missing {
                name: "packs/a/0".into(),
            },
            "missing",
            9,
        );
        check(
            Repository::Missing {
                name: "identity".into(),
            },
            "missing",
            6,
        );
        check(Repository::WrongKey { what: "a".into() }, "wrong-key", 4);
        check(Repository::Foreign { what: "a".into() }, "foreign-repository", 7);
        let store = |transient| Repository::Store {
            operation: "read",
            name: "a".into(),
            transient,
            source: "b".into(),
        };
        check(store(true), "store", 8);
        check(store(false), "store", 1);
        check(
            Server::Unreachable {
                server: "a".into(),
                source: "b".into(),
            },
            "server-unreachable",
            8,
        );
        check(
            Server::MissingRight {
                what: "a".into(),
                grant: "b".into(),
            },
            "missing-right",
            4,
        );
    }

    #[test]
    fn causes_are_told_once() {
        let source = std::io::Error::other("no route");
        let error = Error::file("read", std::path::Path::new("/x"), source);
        assert_eq!(
            (error.to_string(), error.causes()),
            ("could not read /x".into(), vec!["no route".into()])
        );
    }
}
