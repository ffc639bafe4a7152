//! What a caller of the repository can act on.

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One variant per reaction of the caller, not one per cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Bytes are not what their name, seal or hash says. Never retried, never overwritten. Exit code 9.
    #[error("{name} is damaged: {what}")]
    Damaged {
        /// The object.
        name: String,
        /// What does not fit, in a few words.
        what: String,
    },
    /// An object that must exist does not. Exit code 9 where something refers to it, 6 where a user named it.
    #[error("{name} is missing from the repository")]
    Missing {
        /// The object.
        name: String,
    },
    /// The store did not answer, or not in a way that tells what happened. Retried within bounds. Exit code 8.
    #[error("could not {operation} {name}")]
    Store {
        /// A verb, for the sentence.
        operation: &'static str,
        /// The object.
        name: String,
        /// Whether the same call may succeed later with nothing done about it.
        transient: bool,
        /// What the store said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The key does not open this repository. Exit code 4.
    #[error("the key does not open the repository: {what}")]
    WrongKey {
        /// Why not.
        what: String,
    },
    /// The folder is some other database's, or no repository at all. Exit code 7.
    #[error("not the repository expected: {what}")]
    Foreign {
        /// What was found and what was expected.
        what: String,
    },
    /// Written by a newer program. Nothing is guessed. Exit code 4.
    #[error("{name} needs {what}, which this version of lastgood cannot read")]
    Unsupported {
        /// The object.
        name: String,
        /// Format or feature.
        what: String,
    },
    /// Another writer decided otherwise first; deciding again on the new state may help. Exit code 7.
    #[error("{what}")]
    Conflict {
        /// Who did what.
        what: String,
    },
    /// Two servers write WAL of one cluster and timeline: one is a clone of the other, or was left running at a
    /// failover. No repetition helps. Exit code 7.
    #[error("two servers claim one identity: {what}")]
    TwoServers {
        /// Where they differ.
        what: String,
    },
}

impl Error {
    /// Whether the same call may succeed later, with nothing done about it.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Store { transient: true, .. })
    }

    /// What the operator can do, as an imperative sentence.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Damaged { .. } | Error::Missing { .. } => Some(
                "Copy the object back from another copy of the repository, then run `lastgood verify`; take a new backup now if there is none.",
            ),
            Error::Store { transient: true, .. } => {
                Some("Check that the repository can be reached, then run the command again.")
            }
            Error::Store { .. } => {
                Some("Check the repository's path, rights and free space, then run the command again.")
            }
            Error::WrongKey { .. } => {
                Some("Point `key` (or --key-file) to the key file that `lastgood init` made for this repository.")
            }
            Error::Foreign { .. } => Some("Check --repository and the database's name against `lastgood.toml`."),
            Error::Unsupported { .. } => Some("Upgrade lastgood to a version that knows it."),
            Error::Conflict { .. } => Some("Run the command again; it decides on the new state."),
            Error::TwoServers { .. } => Some(
                "Stop one of the servers, or protect the clone under another name with `lastgood init`. If the WAL that is here is the wrong one's, protect the right one under another name, and take a backup.",
            ),
        }
    }
}
