//! Whether the repository is still where it was.
//!
//! A file system that is unmounted leaves an empty directory behind, and a store of files makes directories as it needs
//! them: what is stored there is out of sight once the repository is back, and what is looked up there seems absent.
//!
//! Invariant: nothing counts as durable, and nothing as absent, while the object that every repository has is not there.

use repo::{Error, Repository, Result};

/// What every repository has from its first moment to its last.
const ALWAYS: &str = "identity";

/// Fails while the repository is away, which waiting may mend.
pub(super) async fn check(repository: &Repository) -> Result<()> {
    match repository.store().head(ALWAYS).await? {
        Some(_) => Ok(()),
        None => Err(Error::Store {
            operation: "find",
            name: "the repository".into(),
            transient: true,
            source: "its place is empty: is the file system mounted?".into(),
        }),
    }
}
