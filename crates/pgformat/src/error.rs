//! What a caller of this crate can act on.

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One variant per reaction of the caller, not one per cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Bytes are not what they must be. Read again if they may have been read while being written,
    /// else never trusted.
    #[error("{what} is damaged: {cause}")]
    Damaged {
        /// The kind of object, as PostgreSQL calls it.
        what: &'static str,
        /// What does not fit.
        cause: String,
    },
    /// Sound as far as can be told, but of a version or kind that this program does not know.
    /// Nothing is guessed.
    #[error("{what} is not supported: {found}")]
    Unsupported {
        /// The kind of object.
        what: &'static str,
        /// What was found and what is supported.
        found: String,
    },
    /// A text, typed or received, is not of the form it must have.
    #[error("{text:?} is not {expected}")]
    Malformed {
        /// The form, with its article.
        expected: &'static str,
        /// The text as given.
        text: String,
    },
}

impl Error {
    /// What the operator can do, as an imperative sentence.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Damaged { .. } => {
                Some("Read it again from another copy; if it is the server's own, check its disk.")
            }
            Error::Unsupported { .. } => {
                Some("Use a version of lastgood that knows it; PostgreSQL 13 to 18 are supported.")
            }
            Error::Malformed { .. } => None,
        }
    }

    pub(crate) fn damaged(what: &'static str, cause: impl Into<String>) -> Self {
        Error::Damaged {
            what,
            cause: cause.into(),
        }
    }

    pub(crate) fn unsupported(what: &'static str, found: impl Into<String>) -> Self {
        Error::Unsupported {
            what,
            found: found.into(),
        }
    }

    pub(crate) fn malformed(expected: &'static str, text: impl Into<String>) -> Self {
        Error::Malformed {
            expected,
            text: text.into(),
        }
    }
}
