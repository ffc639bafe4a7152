//! What a base backup leaves out.
//!
//! The rule is that of PostgreSQL's own base backup (`backup/basebackup.c`: `excludeDirContents`,
//! `excludeFiles`, `sendDir`), so that what is restored is what `pg_basebackup` would have given. Like
//! there, names are judged at every level. Relations that are unlogged need a look at the disk: see
//! [`crate::relation::init_fork_of`].

use crate::relation;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A directory, or a symbolic link to one.
    Directory,
    /// Anything else.
    File,
}

/// What a backup does with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Take it; look into it if it is a directory.
    Keep,
    /// Keep the directory itself, with its mode, and nothing in it.
    SkipContent,
    /// Leave it out.
    Skip,
}

/// Directories that a restore makes although nothing in them was kept. Servers before 17 do not
/// know `summaries` and are not disturbed by it.
pub const RECREATED_DIRECTORIES: [&str; 2] = ["pg_wal/archive_status", "pg_wal/summaries"];

/// Emptied or rebuilt by the server when it starts, or harmful in another cluster (`pg_replslot`:
/// its slots would hold back WAL for consumers that follow the original).
const EMPTIED: [&[u8]; 7] = [
    b"pg_stat_tmp",
    b"pg_replslot",
    b"pg_dynshmem",
    b"pg_notify",
    b"pg_serial",
    b"pg_snapshots",
    b"pg_subtrans",
];

const LEFT_OUT: [&[u8]; 8] = [
    b"postgresql.auto.conf.tmp",
    b"current_logfiles.tmp",
    b"backup_label",
    b"tablespace_map",
    b"backup_manifest",
    b"postmaster.pid",
    b"postmaster.opts",
    b".DS_Store",
];

const LEFT_OUT_PREFIXES: [&[u8]; 2] = [b"pgsql_tmp", b"pg_internal.init"];

/// Judges the entry at `path`, relative to the data directory. A directory left out is not looked
/// into; the judgement of what it holds says nothing.
pub fn judge(path: impl AsRef<[u8]>, entry: Entry) -> Verdict {
    let path = path.as_ref();
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    if LEFT_OUT.contains(&name) || LEFT_OUT_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Verdict::Skip;
    }
    match entry {
        Entry::Directory if EMPTIED.contains(&name) || path == b"pg_wal" => Verdict::SkipContent,
        Entry::File if relation::classify(path).is_some_and(|file| file.temporary_of.is_some()) => Verdict::Skip,
        _ => Verdict::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(path: &str, entry: Entry, expect: Verdict) {
        assert_eq!(judge(path, entry), expect, "{path}");
    }

    #[test]
    fn directories_that_the_server_refills_are_kept_empty() {
        for path in [
            "pg_wal",
            "pg_replslot",
            "pg_dynshmem",
            "pg_notify",
            "pg_serial",
            "pg_snapshots",
            "pg_stat_tmp",
            "pg_subtrans",
        ] {
            check(path, Entry::Directory, Verdict::SkipContent);
        }
        for path in ["pg_stat", "pg_logical", "pg_xact", "pg_tblspc", "base", "base/5"] {
            check(path, Entry::Directory, Verdict::Keep);
        }
    }

    #[test]
    fn files_of_the_running_server_are_left_out() {
        for path in [
            "postmaster.pid",
            "postmaster.opts",
            "backup_label",
            "tablespace_map",
            "backup_manifest",
            "postgresql.auto.conf.tmp",
            "current_logfiles.tmp",
            "global/pg_internal.init",
            "base/5/pg_internal.init.77",
        ] {
            check(path, Entry::File, Verdict::Skip);
        }
        for path in [
            "postgresql.auto.conf",
            "current_logfiles",
            "backup_label.old",
            "global/pg_control",
            "PG_VERSION",
            "my_backup_label",
            "base/5/16384_init",
        ] {
            check(path, Entry::File, Verdict::Keep);
        }
    }

    #[test]
    fn temporary_files_are_left_out_at_every_level() {
        check("base/pgsql_tmp", Entry::Directory, Verdict::Skip);
        check(
            "pg_tblspc/16400/PG_15_202209061/pgsql_tmp",
            Entry::Directory,
            Verdict::Skip,
        );
        check("base/pgsql_tmp/pgsql_tmp77.0", Entry::File, Verdict::Skip);
        check("base/5/t3_16384", Entry::File, Verdict::Skip);
        check(
            "pg_tblspc/16400/PG_15_202209061/5/t3_16384_fsm",
            Entry::File,
            Verdict::Skip,
        );
        check("global/t3_16384", Entry::File, Verdict::Keep);
        check("t3_16384", Entry::File, Verdict::Keep);
    }

    proptest! {
        #[test]
        fn no_path_panics(path: Vec<u8>) {
            let _ = (judge(&path, Entry::File), judge(&path, Entry::Directory));
        }
    }
}
