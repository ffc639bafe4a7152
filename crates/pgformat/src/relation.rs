//! Which relation, fork and segment a file of a data directory holds.
//!
//! Naming rules: `common/relpath.c`, `storage/file/reinit.c` (`parse_filename_for_nontemp_relation`)
//! and `storage/file/fd.c` (`looks_like_temp_rel_name`). Paths are relative to the data directory,
//! with `/` between parts and no `./` in front.

use crate::Major;
use crate::bytes::decimal;

/// Object id of the tablespace `pg_default`, whose files are in `base/`.
pub const DEFAULT_TABLESPACE: u32 = 1663;
/// Object id of the tablespace `pg_global`, whose files are in `global/`.
pub const GLOBAL_TABLESPACE: u32 = 1664;

/// One of the files a relation consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fork {
    /// The data.
    Main,
    /// The free space map.
    FreeSpaceMap,
    /// The visibility map.
    VisibilityMap,
    /// What an unlogged relation is reset to after a crash.
    Init,
}

impl Fork {
    /// From the number that WAL holds (`ForkNumber`, `common/relpath.h`).
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Fork::Main,
            1 => Fork::FreeSpaceMap,
            2 => Fork::VisibilityMap,
            3 => Fork::Init,
            _ => return None,
        })
    }
}

/// A relation file's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RelationFile {
    /// Object id of the tablespace.
    pub tablespace: u32,
    /// Object id of the database; 0 for relations shared by all databases.
    pub database: u32,
    /// The relation's file number (`relfilenode`).
    pub relation: u32,
    /// The fork.
    pub fork: Fork,
    /// The segment of the fork, from 0.
    pub segment: u32,
    /// Which session a temporary relation belongs to; `None` for all others.
    pub temporary_of: Option<u32>,
}

impl RelationFile {
    /// Number within the fork of the page at `offset` bytes in this file. `blocks_per_segment` is
    /// `RELSEG_SIZE` of `pg_control`. `None` if no fork can have that block.
    pub fn block_at(&self, offset: u64, block_size: u32, blocks_per_segment: u32) -> Option<u32> {
        let within = offset.checked_div(u64::from(block_size))?;
        if within >= u64::from(blocks_per_segment) {
            return None;
        }
        let before = u64::from(self.segment).checked_mul(u64::from(blocks_per_segment))?;
        u32::try_from(before.checked_add(within)?).ok()
    }
}

/// The relation file at `path`; `None` for every other file. Only the name is judged.
pub fn classify(path: impl AsRef<[u8]>) -> Option<RelationFile> {
    let path = std::str::from_utf8(path.as_ref()).ok()?;
    let (directory, name) = path.rsplit_once('/')?;
    let (tablespace, database) = place(directory)?;
    // Shared relations are never temporary.
    let (temporary_of, name) = match name.strip_prefix('t') {
        Some(rest) if database != 0 => {
            let (backend, rest) = rest.split_once('_')?;
            (Some(decimal(backend)?), rest)
        }
        Some(_) => return None,
        None => (None, name),
    };
    let (name, segment) = match name.split_once('.') {
        Some((name, segment)) => (name, number(segment)?),
        None => (name, 0),
    };
    let (relation, fork) = match name.split_once('_') {
        Some((relation, "fsm")) => (relation, Fork::FreeSpaceMap),
        Some((relation, "vm")) => (relation, Fork::VisibilityMap),
        Some((relation, "init")) => (relation, Fork::Init),
        Some(_) => return None,
        None => (name, Fork::Main),
    };
    Some(RelationFile {
        tablespace,
        database,
        relation: number(relation)?,
        fork,
        segment,
        temporary_of,
    })
}

/// The path whose existence tells that the relation at `path` is unlogged, so that its other forks
/// are left out of a backup. `None` if `path` is an init fork itself, temporary, or no relation.
///
/// Ask at the time the file is copied: a relation becomes logged only by moving to a new file number.
pub fn init_fork_of(path: impl AsRef<[u8]>) -> Option<String> {
    let path = path.as_ref();
    let file = classify(path)?;
    if file.fork == Fork::Init || file.temporary_of.is_some() {
        return None;
    }
    let (directory, _) = std::str::from_utf8(path).ok()?.rsplit_once('/')?;
    Some(format!("{directory}/{}_init", file.relation))
}

/// The tablespace that `path` is the link of: `pg_tblspc/<oid>`, the oid in decimal from 1 and without leading zeros, as
/// PostgreSQL writes it. `None` for every other path, those within a tablespace among them.
pub fn tablespace_link(path: impl AsRef<[u8]>) -> Option<u32> {
    match tablespace_of(path.as_ref())? {
        (oid, None) => Some(oid),
        (_, Some(_)) => None,
    }
}

/// The tablespace that `path` lies within.
pub fn tablespace_around(path: impl AsRef<[u8]>) -> Option<u32> {
    match tablespace_of(path.as_ref())? {
        (oid, Some(_)) => Some(oid),
        (_, None) => None,
    }
}

/// A tablespace, and what of the path is below its link.
fn tablespace_of(path: &[u8]) -> Option<(u32, Option<&[u8]>)> {
    let rest = path.strip_prefix(b"pg_tblspc/")?;
    let (oid, below) = match rest.iter().position(|byte| *byte == b'/') {
        Some(slash) => (rest.get(..slash)?, rest.get(slash + 1..)),
        None => (rest, None),
    };
    Some((number(std::str::from_utf8(oid).ok()?)?, below))
}

/// The one directory of a tablespace that belongs to a cluster of this version: several clusters may
/// share the tablespace's location.
pub fn tablespace_version_directory(major: Major, catalog_version: u32) -> String {
    format!("PG_{major}_{catalog_version}")
}

/// Tablespace and database of a directory that holds relations.
pub(crate) fn place(directory: &str) -> Option<(u32, u32)> {
    if directory == "global" {
        return Some((GLOBAL_TABLESPACE, 0));
    }
    if let Some(database) = directory.strip_prefix("base/") {
        return Some((DEFAULT_TABLESPACE, number(database)?));
    }
    let mut parts = directory.strip_prefix("pg_tblspc/")?.split('/');
    let (tablespace, version, database) = (number(parts.next()?)?, parts.next()?, number(parts.next()?)?);
    let (major, catalog) = version.strip_prefix("PG_")?.split_once('_')?;
    let ours = number(major).is_some() && number(catalog).is_some() && parts.next().is_none();
    ours.then_some((tablespace, database))
}

/// A positive number as PostgreSQL writes it: without leading zeros.
fn number(text: &str) -> Option<u32> {
    if text.starts_with('0') { None } else { decimal(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(path: &str, expect: &str) {
        let found = classify(path).map_or("none".to_owned(), |file| {
            let temporary = file
                .temporary_of
                .map_or(String::new(), |backend| format!(" of session {backend}"));
            format!(
                "{}/{}/{} {:?} {}{temporary}",
                file.tablespace, file.database, file.relation, file.fork, file.segment
            )
        });
        assert_eq!(found, expect, "{path}");
    }

    #[test]
    fn relation_files_are_known_by_their_names() {
        check("base/5/16384", "1663/5/16384 Main 0");
        check("base/5/16384.1", "1663/5/16384 Main 1");
        check("base/5/16384_fsm", "1663/5/16384 FreeSpaceMap 0");
        check("base/5/16384_fsm.2", "1663/5/16384 FreeSpaceMap 2");
        check("base/5/16384_vm", "1663/5/16384 VisibilityMap 0");
        check("base/5/16384_init", "1663/5/16384 Init 0");
        check("base/5/t3_16384", "1663/5/16384 Main 0 of session 3");
        check("base/5/t3_16384_vm.1", "1663/5/16384 VisibilityMap 1 of session 3");
        check("global/1262", "1664/0/1262 Main 0");
        check(
            "pg_tblspc/16400/PG_15_202209061/5/16384_vm",
            "16400/5/16384 VisibilityMap 0",
        );
    }

    #[test]
    fn other_files_are_not_taken_for_relations() {
        for path in [
            "16384",
            "PG_VERSION",
            "base/5/PG_VERSION",
            "base/5/pg_filenode.map",
            "base/5/16384.0",
            "base/5/016384",
            "base/5/0",
            "base/5/16384_foo",
            "base/5/16384.",
            "base/5/16384_",
            "base/5/4294967296",
            "base/x/16384",
            "base/5/6/16384",
            "global/pg_control",
            "global/t3_1262",
            "pg_wal/16384",
            "base/5/t_1",
            "pg_tblspc/16400/16384",
            "pg_tblspc/16400/PG_15/5/16384",
            "pg_tblspc/1/PG_15_2/5/6/16384",
            "base/5/+1",
            "base/pgsql_tmp/1",
            "",
        ] {
            check(path, "none");
        }
    }

    #[test]
    fn blocks_are_counted_across_segments() {
        let file = classify("base/5/16384.2").unwrap();
        assert_eq!(file.block_at(0, 8192, 131_072), Some(262_144));
        assert_eq!(file.block_at(8192 * 131_071, 8192, 131_072), Some(393_215));
        assert_eq!(file.block_at(8192 * 131_072, 8192, 131_072), None);
        assert_eq!(file.block_at(0, 0, 131_072), None);
        assert_eq!(classify("base/5/1.4000000").unwrap().block_at(0, 8192, 131_072), None);
    }

    #[test]
    fn an_unlogged_relation_is_told_by_its_init_fork() {
        assert_eq!(init_fork_of("base/5/16384.1").as_deref(), Some("base/5/16384_init"));
        assert_eq!(init_fork_of("base/5/16384_fsm").as_deref(), Some("base/5/16384_init"));
        assert_eq!(init_fork_of("base/5/16384_init"), None);
        assert_eq!(init_fork_of("base/5/t3_16384"), None);
    }

    #[test]
    fn a_tablespace_is_told_by_a_number_as_postgresql_writes_it() {
        for (path, link, around) in [
            (&b"pg_tblspc/16400"[..], Some(16400), None),
            (b"pg_tblspc/4294967295", Some(u32::MAX), None),
            (b"pg_tblspc/16400/PG_15_202209061/5/2619", None, Some(16400)),
            (b"pg_tblspc/16400/\xFF", None, Some(16400)),
            (b"pg_tblspc/+1", None, None),
            (b"pg_tblspc/007", None, None),
            (b"pg_tblspc/007/x", None, None),
            (b"pg_tblspc/0", None, None),
            (b"pg_tblspc/", None, None),
            (b"pg_tblspc//x", None, None),
            (b"pg_tblspc/4294967296", None, None),
            (b"pg_tblspc/1\xFF", None, None),
            (b"pg_tblspc", None, None),
            (b"base/16400", None, None),
        ] {
            let shown = String::from_utf8_lossy(path);
            assert_eq!(
                (tablespace_link(path), tablespace_around(path)),
                (link, around),
                "{shown}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_path_panics(path: Vec<u8>, offset: u64, block: u32, segment: u32) {
            let _ = (classify(&path), tablespace_link(&path), tablespace_around(&path));
            let _ = tablespace_link([b"pg_tblspc/", &*path].concat());
            if let Some(file) = classify(format!("base/1/1.{segment}")) {
                let _ = file.block_at(offset, block, segment);
            }
        }
    }
}
