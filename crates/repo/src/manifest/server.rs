//! Facts about the server.

use serde::{Deserialize, Serialize};

use crate::{bytes_codec::Malformed, decimal};

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

impl Postgresql {
    /// Checks the sizes that positions and pages are computed with.
    pub(super) fn check(&self) -> Result<(), Malformed> {
        let block = power(self.block_size.into(), 1 << 10, 32 << 10);
        let wal_block = power(self.wal_block_size.into(), 1 << 10, 64 << 10);
        let segment = power(self.segment_size, 1 << 20, 1 << 30);
        match block && wal_block && segment && self.relation_segment_blocks > 0 {
            true => Ok(()),
            false => Err(Malformed("no server has blocks and segments of these sizes")),
        }
    }
}

fn power(value: u64, least: u64, most: u64) -> bool {
    value.is_power_of_two() && (least..=most).contains(&value)
}
