//! Takes a base backup of a running cluster.
//!
//! Invariant: a backup is listed only after everything that restoring it needs is durable: its packs, its file
//! table, its manifest, and every byte of WAL from its start to its end.

mod assemble;
pub(crate) mod begin;
mod control;
mod copy;
mod facts;
mod packer;
mod preflight;
mod read;
mod run;
mod stored;
mod uploads;
mod wal;
mod walk;

pub(crate) use begin::check_generation;

pub(crate) use preflight::judge;
pub use preflight::{Check, Plan, plan};
pub use run::{run, run_with};

use std::path::PathBuf;

use serde::Serialize;

use crate::list::Backup;

/// How hard pages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Level {
    /// Not at all.
    None,
    /// By zstd, 1 to 19.
    Zstd(i32),
}

impl Default for Level {
    /// See `docs/benchmarks.md` for what each level costs.
    fn default() -> Self {
        Level::Zstd(2)
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
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// As `list` shows it.
    pub backup: Backup,
    /// Wall time of the whole run.
    pub seconds: f64,
    /// Bytes read of the data directory per second.
    pub bytes_per_second: f64,
    /// Bytes of WAL kept for it.
    pub wal_bytes: u64,
    /// Pages whose checksum did not fit: damage in the source, stored as it is.
    pub page_errors: Vec<String>,
}
