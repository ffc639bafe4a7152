//! What the fields of entries are made of.
//!
//! Invariant: as the kinds themselves, these never change, but for [`Summary`], which may grow.

use serde::{Deserialize, Serialize};

use super::Lsn;

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A physical backup.
    Backup,
    /// Receiving WAL by streaming replication.
    Receive,
    /// Storing WAL segments handed over by `archive_command`.
    Push,
    /// A logical backup.
    Logical,
}

/// An object, named and pinned down.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectReference {
    /// Name within the database's folder.
    pub object: String,
    /// The hash in the trailer of the object, that is BLAKE3 of all bytes before that field: 64 hexadecimal digits.
    pub hash: String,
    /// Bytes.
    pub size: u64,
}

/// What a backup uses besides its own objects.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct References {
    /// Every backup whose packs or maps it uses, ancestors of ancestors included: nobody follows
    /// references of references.
    pub backups: Vec<String>,
}

/// What kind of backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackupKind {
    /// All pages.
    Full,
    /// Pages changed since the parent.
    Incremental,
    /// Rows.
    Logical,
}

/// What a list of backups shows, so that it need not read manifests. Fields may be added later;
/// unknown ones are ignored, because the rules of the ledger read only the fields of the first version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Full, incremental or logical.
    pub kind: BackupKind,
    /// The user's name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The backup it was computed against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// When it began, microseconds since 1970-01-01 UTC.
    pub started: i64,
    /// When it ended, microseconds since 1970-01-01 UTC.
    pub stopped: i64,
    /// System identifier in decimal; absent for a logical backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// The timeline it ended on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<u32>,
    /// Recovery begins here: WAL from here on is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_lsn: Option<Lsn>,
    /// Recovery must reach this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_lsn: Option<Lsn>,
    /// PostgreSQL's major version; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub major: Option<u32>,
    /// Bytes a restore writes.
    pub bytes: u64,
    /// Bytes it added to the repository.
    pub stored: u64,
    /// Files a restore writes.
    pub files: u64,
    /// Databases in it.
    pub databases: u64,
}

/// What a condemnation covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Condemned {
    /// Everything in the folders of these runs: packs, maps, manifest.
    Runs {
        /// Ids of runs, committed or not.
        runs: Vec<String>,
    },
    /// The objects named in a list that is an object itself.
    List {
        /// The list.
        list: ObjectReference,
        /// Every run in whose folder a listed object lies. Judged as if their folders were condemned whole.
        runs: Vec<String>,
    },
    /// WAL of one timeline that ends at or before `before`.
    Wal {
        /// System identifier in decimal.
        generation: String,
        /// Timeline.
        timeline: u32,
        /// First position that stays.
        before: Lsn,
    },
}

impl Condemned {
    /// The runs whose folders are touched.
    pub fn runs(&self) -> &[String] {
        match self {
            Condemned::Runs { runs } | Condemned::List { runs, .. } => runs,
            Condemned::Wal { .. } => &[],
        }
    }
}

/// How deep a check went; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Objects are there and intact.
    Objects,
    /// Every frame opened, every page checked.
    Pages,
    /// Restored, recovered, queried.
    Restore,
}

/// How a check or a rehearsal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All was looked at and good.
    Passed,
    /// Something is wrong.
    Failed,
    /// Not all was looked at; never counts as a proof.
    Incomplete,
}

/// How urgent an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Look at it this week.
    Notice,
    /// Look at it today.
    Warning,
    /// Look at it now.
    Critical,
}
