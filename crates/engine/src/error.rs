//! What went wrong, sorted by what whoever called can do about it.

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One variant per reaction.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A condition for starting does not hold. Nothing was changed.
    #[error("{what}")]
    Refused {
        /// A stable word for programs, such as `target-not-empty`.
        code: &'static str,
        /// What was found, with names.
        what: String,
        /// What to do now, as an imperative sentence.
        hint: String,
    },
    /// What the user named does not exist.
    #[error("{what}")]
    NotFound {
        /// What was looked for, and where.
        what: String,
        /// What to do now.
        hint: String,
    },
    /// A file of the data directory, the target or the scratch space could not be read or written.
    #[error("could not {operation} {path}")]
    File {
        /// A verb, for the sentence.
        operation: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The work failed on the way; nothing of it is listed or looks whole.
    #[error("{what}")]
    Failed {
        /// A stable word for programs.
        code: &'static str,
        /// What happened, to which object.
        what: String,
        /// What to do now.
        hint: String,
    },
    /// Another writer or another server is in the way. No repetition helps before somebody looked.
    #[error("{what}")]
    Conflict {
        /// A stable word for programs.
        code: &'static str,
        /// Who is in the way of what.
        what: String,
        /// What to do now.
        hint: String,
    },
    /// What was stored or restored is not what it should be.
    #[error("{what}")]
    Unproven {
        /// What was found.
        what: String,
        /// What to do now.
        hint: String,
    },
    /// Somebody asked us to stop.
    #[error("interrupted")]
    Interrupted,
    /// The repository.
    #[error(transparent)]
    Repository(#[from] repo::Error),
    /// The server.
    #[error(transparent)]
    Server(#[from] pgclient::Error),
}

impl Error {
    /// What the operator can do, as an imperative sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Refused { hint, .. }
            | Error::NotFound { hint, .. }
            | Error::Failed { hint, .. }
            | Error::Conflict { hint, .. }
            | Error::Unproven { hint, .. } => Some(hint.clone()),
            Error::File { source, .. } => Some(file_hint(source)),
            Error::Interrupted => Some("Run the command again; nothing half-done is left listed.".into()),
            Error::Repository(error) => error.hint().map(str::to_string),
            Error::Server(error) => error.hint().map(|hint| hint.to_string()),
        }
    }
}

fn file_hint(error: &std::io::Error) -> String {
    use std::io::ErrorKind::{NotFound, PermissionDenied, QuotaExceeded, StorageFull};
    // A file that was read through SQL.
    if let Some(error) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<pgclient::Error>())
    {
        let otherwise = || "Look into the server's log for the reason, then run the command again.".into();
        return error.hint().unwrap_or_else(otherwise);
    }
    let hint = match error.kind() {
        PermissionDenied => "Run as the operating system user that owns the directory (usually postgres), or as root.",
        StorageFull | QuotaExceeded => "Make room on that file system, then run the command again.",
        NotFound => "Check the path.",
        _ => "Check the disk and the file system's messages, then run the command again.",
    };
    hint.into()
}

/// Attaches path and verb to an error of the file system.
pub(crate) trait At<T> {
    fn at(self, operation: &'static str, path: impl AsRef<std::path::Path>) -> Result<T>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, operation: &'static str, path: impl AsRef<std::path::Path>) -> Result<T> {
        self.map_err(|source| Error::File {
            operation,
            path: path.as_ref().display().to_string(),
            source,
        })
    }
}

impl<T> At<T> for rustix::io::Result<T> {
    fn at(self, operation: &'static str, path: impl AsRef<std::path::Path>) -> Result<T> {
        self.map_err(std::io::Error::from).at(operation, path)
    }
}
