//! What records say about files: of relations, and of whole databases.
//!
//! Layout: `catalog/storage_xlog.h` and `commands/dbcommands_xlog.h`.

use super::block::RelationLocator;
use super::list::List;
use super::parts::Parts;
use crate::Major;
use crate::bytes::Reader;
use crate::relation::Fork;

/// Which forks an `XLOG_SMGR_TRUNCATE` shortens (`SMGR_TRUNCATE_*`).
const HEAP: u32 = 1;
const VISIBILITY_MAP: u32 = 1 << 1;
const FREE_SPACE_MAP: u32 = 1 << 2;

/// Files of a relation made or shortened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageChange {
    /// A fork was made, empty.
    Create {
        /// The relation.
        relation: RelationLocator,
        /// The fork.
        fork: Fork,
    },
    /// Blocks were cut off the end.
    Truncate {
        /// The relation.
        relation: RelationLocator,
        /// How many blocks of the main fork stay. The maps are cut to what is about these.
        blocks: u32,
        /// Which forks.
        forks: TruncatedForks,
    },
}

/// Which forks are shortened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TruncatedForks {
    /// The data.
    pub main: bool,
    /// The visibility map.
    pub visibility_map: bool,
    /// The free space map.
    pub free_space_map: bool,
}

/// A database's folder in a tablespace made or removed. `ALTER DATABASE … SET TABLESPACE` is one made and one removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseChange<'a> {
    /// Copied from another, file by file. WAL holds nothing of the content. Before 15 the only way.
    CreateByFileCopy {
        /// Object id of the new database.
        database: u32,
        /// Where it is.
        tablespace: u32,
        /// Object id of the database it was copied from.
        source_database: u32,
        /// Where that is.
        source_tablespace: u32,
    },
    /// An empty folder; the content follows in WAL, page by page. From 15 on.
    CreateByWalLog {
        /// Object id of the new database.
        database: u32,
        /// Where it is.
        tablespace: u32,
    },
    /// Removed with all that is in it.
    Drop {
        /// Object id of the database.
        database: u32,
        /// Where it was.
        tablespaces: List<'a, u32>,
    },
}

/// `None` if the record is not laid out as servers do, `Some(None)` if its kind says nothing about files.
pub(super) fn storage(parts: &Parts<'_>) -> Option<Option<StorageChange>> {
    let mut reader = Reader(parts.main_data);
    Some(match parts.record.kind() {
        0x10 => Some(StorageChange::Create {
            relation: RelationLocator::read(&mut reader)?,
            fork: Fork::from_number(reader.u32()?)?,
        }),
        0x20 => {
            let (blocks, relation, flags) = (reader.u32()?, RelationLocator::read(&mut reader)?, reader.u32()?);
            let forks = TruncatedForks {
                main: flags & HEAP != 0,
                visibility_map: flags & VISIBILITY_MAP != 0,
                free_space_map: flags & FREE_SPACE_MAP != 0,
            };
            Some(StorageChange::Truncate {
                relation,
                blocks,
                forks,
            })
        }
        _ => None,
    })
}

/// As [`storage`].
pub(super) fn database<'a>(parts: &Parts<'a>) -> Option<Option<DatabaseChange<'a>>> {
    let mut reader = Reader(parts.main_data);
    let kind = parts.record.kind();
    // 15 put a new kind between the two that there were.
    let (by_wal_log, dropped) = if parts.major >= Major::V15 {
        (Some(0x10), 0x20)
    } else {
        (None, 0x10)
    };
    Some(if kind == 0 {
        Some(DatabaseChange::CreateByFileCopy {
            database: reader.u32()?,
            tablespace: reader.u32()?,
            source_database: reader.u32()?,
            source_tablespace: reader.u32()?,
        })
    } else if Some(kind) == by_wal_log {
        Some(DatabaseChange::CreateByWalLog {
            database: reader.u32()?,
            tablespace: reader.u32()?,
        })
    } else if kind == dropped {
        let (database, count) = (reader.u32()?, reader.u32()?);
        Some(DatabaseChange::Drop {
            database,
            tablespaces: List::read(&mut reader, count)?,
        })
    } else {
        None
    })
}
