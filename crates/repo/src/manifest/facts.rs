//! Frame 0: what was backed up, in JSON.

use serde::{Deserialize, Serialize};

use crate::{backup_id::BackupId, bytes_codec::Malformed, decimal, envelope::Pin, ledger::Lsn};

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

/// The server that was backed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgresql {
    /// As `server_version` says it.
    pub version: String,
    /// As `server_version_num` says it.
    pub version_num: u32,
    /// System identifier.
    #[serde(with = "decimal")]
    pub generation: u64,
    /// Catalog version of `pg_control`.
    pub catalog_version: u32,
    /// Version of `pg_control` itself.
    pub control_version: u32,
    /// `BLCKSZ`, bytes.
    pub block_size: u32,
    /// `XLOG_BLCKSZ`, bytes.
    pub wal_block_size: u32,
    /// Bytes of a WAL segment.
    pub segment_size: u64,
    /// Blocks of a relation segment, `RELSEG_SIZE`.
    pub relation_segment_blocks: u32,
    /// Whether pages carry checksums.
    pub data_checksums: bool,
    /// Name of the bootstrap superuser.
    pub superuser: String,
    /// Collation versions that indexes were built with.
    pub collations: Vec<Collation>,
}

/// The default collation of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collation {
    /// The database.
    pub database: String,
    /// `c` (libc), `i` (ICU) or `b` (builtin), as `pg_database.datlocprovider`.
    pub provider: String,
    /// The library's version for it, if it has one.
    pub version: Option<String>,
}

/// Where a backup's WAL begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Redo position of the checkpoint that the backup began with.
    pub lsn: Lsn,
    /// Its timeline.
    pub timeline: u32,
}

/// Where a backup's WAL ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// The WAL is needed up to here, exclusive.
    pub lsn: Lsn,
    /// Its timeline.
    pub timeline: u32,
    /// Begin of the record with whose replay the cluster is consistent: the inclusive
    /// `recovery_target_lsn` of a restore to this backup.
    pub record: Lsn,
}

/// A timeline and where it was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ancestor {
    /// The timeline.
    pub timeline: u32,
    /// Where the next one begins.
    pub end: Lsn,
}

/// WAL of one timeline, from `from` to before `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalRange {
    /// The timeline.
    pub timeline: u32,
    /// First byte.
    pub from: Lsn,
    /// The byte after the last.
    pub to: Lsn,
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

    /// The WAL a restore needs to make the cluster consistent, in order.
    pub fn wal_needed(&self) -> Vec<WalRange> {
        let last = Ancestor {
            timeline: self.stop.timeline,
            end: self.stop.lsn,
        };
        let mut from = self.start.lsn;
        let mut ranges = Vec::new();
        for Ancestor { timeline, end } in self.history.iter().copied().chain([last]) {
            if end > from {
                let to = end.min(self.stop.lsn);
                ranges.push(WalRange { timeline, from, to });
                from = to;
            }
        }
        ranges
    }

    /// Checks what every manifest of backup `id` of the database `database` (32 hex digits) keeps.
    pub(super) fn check(&self, id: &BackupId, database: &str) -> Result<(), Malformed> {
        let (server, stop) = (&self.postgresql, &self.stop);
        let held = [
            (self.backup == *id, "it is another backup's"),
            (self.database == database, "it is another database's"),
            (
                self.parent.is_some() == (self.kind == Kind::Incremental),
                "an incremental backup has a parent, a full one has none",
            ),
            (self.parent != Some(*id), "it is its own parent"),
            (
                self.label.as_ref().is_none_or(|label| label.len() <= MAX_LABEL),
                "its label is too long",
            ),
            (self.started <= self.stopped, "it ended before it began"),
            (
                power(server.block_size.into(), 1 << 10, 32 << 10),
                "its block size is none",
            ),
            (
                power(server.wal_block_size.into(), 1 << 10, 64 << 10),
                "its WAL block size is none",
            ),
            (
                power(server.segment_size, 1 << 20, 1 << 30),
                "its WAL segment size is none",
            ),
            (server.relation_segment_blocks > 0, "its relation segment size is none"),
            (
                self.start.lsn <= stop.record && stop.record < stop.lsn,
                "its WAL positions are not in order",
            ),
            (self.history_is_a_line(), "its timelines are not in order"),
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

    /// Timelines and their ends ascend to `stop.timeline`, and the start lies on the one it names.
    fn history_is_a_line(&self) -> bool {
        let ascend = (self.history).is_sorted_by(|a, b| a.timeline < b.timeline && a.end <= b.end);
        let below = self
            .history
            .last()
            .is_none_or(|last| last.timeline < self.stop.timeline);
        let first = self.wal_needed().first().map(|range| range.timeline);
        ascend && below && first == Some(self.start.timeline)
    }
}

fn power(value: u64, least: u64, most: u64) -> bool {
    value.is_power_of_two() && (least..=most).contains(&value)
}
