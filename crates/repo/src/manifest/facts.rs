//! Frame 0: what was backed up, in JSON.

use serde::{Deserialize, Serialize};

use crate::{backup_id::BackupId, bytes_codec::Malformed, envelope::Pin};

use super::{Ancestor, Postgresql, Start, Stop};

/// Damaged pages that a manifest lists at most; [`Totals::page_errors`] counts all.
pub const MAX_PAGE_ERRORS: usize = 10_000;
/// The longest label, bytes.
const MAX_LABEL: usize = 200;

/// The facts of one backup. Times are microseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Its id, which is also in the manifest's name.
    pub backup: BackupId,
    /// The database's id, 32 hex digits.
    pub database: String,
    /// Whether it was computed against another.
    pub kind: Kind,
    /// The backup it was computed against, if it is incremental.
    pub parent: Option<BackupId>,
    /// How it was, if it is incremental.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub increment: Option<Increment>,
    /// The user's name for it.
    pub label: Option<String>,
    /// When it began.
    pub started: i64,
    /// When it ended.
    pub stopped: i64,
    /// Version of the program that wrote it.
    pub tool: String,
    /// The server.
    pub postgresql: Postgresql,
    /// Where its WAL begins.
    pub start: Start,
    /// Where its WAL ends.
    pub stop: Stop,
    /// The timelines before `stop.timeline`, oldest first; empty on a first timeline.
    pub history: Vec<Ancestor>,
    /// Tablespaces besides the two built in.
    pub tablespaces: Vec<Tablespace>,
    /// Who owned the data directory.
    pub owner: Owner,
    /// Its file table.
    pub objects: TableObjects,
    /// How much it is.
    pub totals: Totals,
    /// Pages whose checksum did not fit, at most [`MAX_PAGE_ERRORS`].
    pub page_errors: Vec<PageError>,
}

/// How a backup was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// All pages were stored.
    Full,
    /// Pages that changed since the parent were stored.
    Incremental,
}

/// How an incremental backup came to know what changed, and what came of it, in pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Increment {
    /// What told the changed pages.
    pub by: ChangesBy,
    /// Why not the WAL, if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Pages read and stored, because they changed.
    pub stored: u64,
    /// Pages read and found to be what the parent has.
    pub same: u64,
    /// Pages not read, because they cannot have changed.
    pub kept: u64,
    /// Of those, pages that were read and compared all the same.
    pub audited: u64,
    /// Pages stored anew, because few of the pages beside them are used any more.
    pub moved: u64,
}

/// What told the changed pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangesBy {
    /// The WAL from the parent's start to this backup's.
    Wal,
    /// The hashes of the parent's pages: every page was read.
    Hashes,
}

/// A tablespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tablespace {
    /// Its oid, the name of its link.
    pub oid: u32,
    /// Its name in SQL.
    pub name: String,
    /// Where it was on the source host.
    pub location: String,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Who owned the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// User name.
    pub user: String,
    /// Group name.
    pub group: String,
}

/// The objects that only this backup has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableObjects {
    /// Objects of the file table, in order of their numbers.
    pub files: Vec<Pinned>,
}

/// A [`Pin`] in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    /// Bytes.
    pub size: u64,
    /// Hash, 64 hex digits.
    pub hash: String,
}

/// How much a backup is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Files.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Pages of the files.
    pub pages: u64,
    /// Packs it needs, its own and others'.
    pub packs: u64,
    /// Bytes of its own objects.
    pub stored: u64,
    /// Damaged pages found.
    pub page_errors: u64,
}

/// A page whose checksum did not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageError {
    /// The file.
    pub path: String,
    /// Number of the block in the file.
    pub block: u64,
}

impl From<&Pin> for Pinned {
    fn from(pin: &Pin) -> Pinned {
        Pinned {
            size: pin.size,
            hash: hex::encode(pin.hash),
        }
    }
}

impl Pinned {
    /// As who opens the object needs it; `None` if the hash is none.
    pub fn pin(&self) -> Option<Pin> {
        let mut hash = [0; 32];
        hex::decode_to_slice(&self.hash, &mut hash).ok()?;
        Some(Pin { size: self.size, hash })
    }
}

impl Facts {
    /// The objects of the file table, as a [`crate::table::TableReader`] needs them.
    pub fn table(&self) -> Vec<Pin> {
        // `check` has refused what is no hash, before writing and after reading.
        self.objects.files.iter().filter_map(Pinned::pin).collect()
    }

    /// Checks what every manifest of backup `id` of the database `database` (32 hex digits) keeps.
    pub(crate) fn check(&self, id: &BackupId, database: &str) -> Result<(), Malformed> {
        self.postgresql.check()?;
        self.check_positions()?;
        let held = [
            (self.backup == *id, "it is another backup's"),
            (self.database == database, "it is another database's"),
            (
                self.parent.is_some() == (self.kind == Kind::Incremental),
                "an incremental backup has a parent, a full one has none",
            ),
            (
                self.increment.is_some() == (self.kind == Kind::Incremental),
                "an incremental backup says how it was computed, a full one does not",
            ),
            (self.parent != Some(*id), "it is its own parent"),
            (
                self.label.as_ref().is_none_or(|label| label.len() <= MAX_LABEL),
                "its label is too long",
            ),
            (self.started <= self.stopped, "it ended before it began"),
            (
                self.objects.files.iter().all(|pinned| pinned.pin().is_some()),
                "a hash of its file table is none",
            ),
            (
                self.page_errors.len() <= MAX_PAGE_ERRORS && self.page_errors.len() as u64 <= self.totals.page_errors,
                "its list of damaged pages is too long",
            ),
        ];
        match held.into_iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(Malformed(what)),
            None => Ok(()),
        }
    }
}
