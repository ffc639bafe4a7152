//! Takes a base backup of a running cluster.
//!
//! Invariant: a backup is listed only after everything that restoring it needs is durable: its packs, its file
//! table, its manifest, and every byte of WAL from its start to its end.

mod against;
mod assemble;
mod attempt;
mod audit;
mod base;
pub(crate) mod begin;
mod beside;
mod control;
mod copy;
mod facts;
mod increment;
mod leaves;
mod packer;
mod preflight;
mod read;
mod run;
mod standby;
mod stored;
mod uploads;
mod uses;
mod wal;
mod walk;

pub(crate) use begin::check_generation;
pub use increment::Wanted;
pub use repo::manifest::{ChangesBy, Increment};

pub use attempt::{run, run_with};
pub(crate) use preflight::judge;
pub use preflight::{Check, Plan, plan};

use std::path::PathBuf;

use pgclient::Conninfo;
use serde::Serialize;

use crate::list::Backup;

/// How hard pages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Level {
    /// Not at all.
    None,
    /// By zstd, 1 to 19; below 0 are its fast levels.
    Zstd(i32),
}

impl Default for Level {
    /// See `docs/benchmarks.md` for what each level costs.
    fn default() -> Self {
        Level::Zstd(2)
    }
}

/// Whether pages that changed are stored as differences from what they were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difference {
    /// Where the earlier pages are near: they have to be read for it. A directory always is.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Difference {
    fn is_made(self) -> bool {
        self != Difference::Never
    }
}

/// How the files of a server are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reader {
    /// As files of this machine.
    #[default]
    Local,
    /// Through SQL, over as many connections as there are readers, by rights to execute functions alone.
    Sql,
}

/// What a user may choose.
#[derive(Debug, Clone)]
pub struct Options {
    /// A name for people.
    pub label: Option<String>,
    /// Full, or what changed.
    pub wanted: Wanted,
    /// Whether pages of which little else is used beside them are all written anew, and not only some.
    pub rebase: bool,
    /// Whether pages that changed are stored as what turns their earlier version into them.
    pub difference: Difference,
    /// Of the pages that are taken from the parent unread, how many of a hundred are read and compared all the same.
    pub audit: u8,
    /// How hard pages are compressed.
    pub level: Level,
    /// Readers at work side by side.
    pub jobs: usize,
    /// The most bytes to read in a second.
    pub max_rate: Option<u64>,
    /// How the server's files are read.
    pub reader: Reader,
    /// Where the data directory is on this machine; `None`: where the server says. Means nothing through SQL.
    pub data_directory: Option<PathBuf>,
    /// A standby whose relation files are read instead of the primary's. The data directory is then the standby's.
    pub standby: Option<Conninfo>,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// As `list` shows it.
    pub backup: Backup,
    /// What it was computed against and how, if it is incremental.
    pub increment: Option<Increment>,
    /// Why it is full, if it is.
    pub full_because: Option<String>,
    /// What was found where the WAL told too little of what changed: every page was read then, and compared.
    pub unsound: Option<String>,
    /// Bytes of the data directory that were read.
    pub bytes_read: u64,
    /// Wall time of the whole run.
    pub seconds: f64,
    /// Bytes read of the data directory per second.
    pub bytes_per_second: f64,
    /// Bytes of WAL kept for it.
    pub wal_bytes: u64,
    /// Pages whose checksum did not fit: damage in the source, stored as it is. The first of them, see
    /// [`repo::manifest::MAX_PAGE_ERRORS`].
    pub page_errors: Vec<String>,
    /// How many these are in all.
    pub page_errors_total: u64,
    /// Pages that rotted on the server's disk, where they do not fit their checksum, and that the backup has whole, as the
    /// backup before did. The first of them, as many at most.
    pub rotten_pages: Vec<String>,
    /// How many these are in all.
    pub rotten_pages_total: u64,
}
