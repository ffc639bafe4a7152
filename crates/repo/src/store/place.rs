//! Whether a folder is still where it was.
//!
//! A file system that is unmounted leaves an empty directory behind, and a store of files makes directories as it needs
//! them: what is stored there is out of sight once the repository is back, and what is looked up there seems absent.
//!
//! Invariant: once the object that every repository has was seen, nothing counts as durable and nothing as absent while it
//! is not there.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{Error, Result};

/// What every repository has from its first moment to its last.
const ALWAYS: &str = "identity";

/// A database's folder on this machine.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    /// Whether the repository was there: before, it is being made.
    seen: AtomicBool,
}

impl Place {
    /// The place that is `folder` now.
    pub(super) fn new(folder: PathBuf) -> Place {
        let place = Place {
            folder,
            seen: AtomicBool::new(false),
        };
        // Who opens it hears of anything else from what is read.
        let _ = place.check();
        place
    }

    /// Where it is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Fails while the repository is away, which waiting may mend.
    pub(super) fn check(&self) -> Result<()> {
        match std::fs::symlink_metadata(self.folder.join(ALWAYS)) {
            Ok(_) => self.seen.store(true, Ordering::Relaxed),
            // Anything else the operation itself tells.
            Err(error) if is_absent(&error) && self.seen.load(Ordering::Relaxed) => {
                return Err(Error::Store {
                    operation: "find",
                    name: "the repository".into(),
                    transient: true,
                    source: format!(
                        "{ALWAYS} is no longer in {}: is the file system mounted?",
                        self.folder.display()
                    )
                    .into(),
                });
            }
            Err(_) => {}
        }
        Ok(())
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
