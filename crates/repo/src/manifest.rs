//! What a backup is (`FORMAT.md` section 7).
//!
//! Invariant: what is sealed passes the same checks as what is read. A manifest that exists and is not
//! committed in the ledger means nothing.

mod facts;
mod kept;
mod needed;
mod positions;
mod seal;
mod server;

pub use facts::{
    ChangesBy, Facts, Increment, Kind, MAX_PAGE_ERRORS, Owner, PageError, Pinned, TableObjects, Tablespace, Totals,
};
pub use kept::KeptFile;
#[cfg(feature = "fuzzing")]
pub(crate) use kept::{decode as decode_kept, encode as encode_kept};
pub use needed::{Needed, ObjectRef};
pub use positions::{Ancestor, Start, Stop, WalRange};
pub use server::{Collation, Postgresql};

use serde::{Deserialize, Serialize};

/// Relations that a manifest lists at most.
pub const MAX_RELATIONS: usize = 10_000;

/// A manifest, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What was backed up, when and how.
    pub facts: Facts,
    /// Packs and maps that a restore needs, this backup's and others'.
    pub needed: Needed,
    /// Files copied last, kept here whole; in ascending order of their paths.
    pub kept: Vec<KeptFile>,
    /// The largest relations when the backup ended, the largest first.
    pub relations: Vec<Relation>,
}

/// A relation as the catalogs listed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relation {
    /// Its database.
    pub database: String,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// PostgreSQL's estimate of its rows; none if it has none.
    pub rows: Option<u64>,
    /// PostgreSQL's estimate of its bytes, with TOAST; 0 where it was never vacuumed nor analyzed.
    pub bytes: u64,
}

#[cfg(test)]
mod tests;
