//! The names of a database's objects, all in one place (`FORMAT.md` section 2).

use crate::backup_id::BackupId;

/// What a backup is.
pub fn manifest(backup: &BackupId) -> String {
    format!("backups/{backup}/manifest")
}

/// Part `number` of a backup's file table.
pub fn files(backup: &BackupId, number: u32) -> String {
    format!("files/{backup}/{number:08}")
}

/// Part `number` of a backup's leaves.
pub fn map(backup: &BackupId, number: u32) -> String {
    format!("maps/{backup}/{number:08}")
}

/// A backup's pack `number`.
pub fn pack(backup: &BackupId, number: u32) -> String {
    format!("packs/{backup}/{number:08}")
}

/// What the names of all runs of one timeline begin with.
pub fn wal_timeline(generation: u64, timeline: u32) -> String {
    format!("wal/{generation}/{timeline:08X}/")
}

/// The run of WAL that begins at `start`, in the segment whose first byte is `segment`.
pub fn wal_run(generation: u64, timeline: u32, segment: u64, start: u64) -> String {
    format!("wal/{generation}/{timeline:08X}/{segment:016x}/{start:016x}")
}

/// What the names of all open runs of one segment begin with.
pub fn wal_segment(generation: u64, timeline: u32, segment: u64) -> String {
    format!("wal/{generation}/{timeline:08X}/{segment:016x}/")
}

/// The run of a finished segment that begins at `start`, in the segment whose first byte is `segment`.
pub fn wal_done(generation: u64, timeline: u32, segment: u64, start: u64) -> String {
    format!("wal/{generation}/{timeline:08X}/done/{segment:016x}/{start:016x}")
}

/// What the names of all runs of finished segments of one timeline begin with.
pub fn wal_all_done(generation: u64, timeline: u32) -> String {
    format!("wal/{generation}/{timeline:08X}/done/")
}

/// What the names of all coverage marks of one timeline begin with.
pub fn wal_marks(generation: u64, timeline: u32) -> String {
    format!("marks/{generation}/{timeline:08X}/")
}

/// The mark that nothing came after `position` until `at`, microseconds since 1970-01-01 UTC. Names of one timeline
/// sort by both.
pub fn wal_mark(generation: u64, timeline: u32, position: u64, at: u64) -> String {
    format!("marks/{generation}/{timeline:08X}/{position:016x}-{at:016x}")
}

/// The history file of `timeline`.
pub fn wal_history(generation: u64, timeline: u32) -> String {
    format!("wal/{generation}/{timeline:08X}.history")
}

/// Whether a database's folder may be called so.
pub fn is_database(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 63 && name.bytes().next().is_some_and(good) && name.bytes().all(|b| good(b) || b"._-".contains(&b))
}

/// The most bytes that the object `name` may have (`FORMAT.md` section 2): what is larger is not read.
pub fn largest(name: &str) -> u64 {
    match name.split('/').next().unwrap_or_default() {
        "identity" | "keys" | "sessions" => 1 << 20,
        "ledger" => 2 << 20,
        // A run of 16 MiB that does not compress, its facts, its directory and its ends.
        // In a finished segment an index is added, which in the worst case is about as long.
        "wal" => 48 << 20,
        "marks" => 1 << 20,
        "files" => 64 << 20,
        _ => 1 << 30,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_format() {
        let id = BackupId::new(1_700_000_000_000_000, [0; 6]);
        let names = [
            manifest(&id),
            files(&id, 7),
            map(&id, 0),
            pack(&id, 12_345_678),
            wal_run(7_300_000_000_000_000_000, 26, 0x1_0300_0000, 0x1_0300_0028),
            wal_history(7_300_000_000_000_000_000, 26),
        ];
        assert_eq!(
            names,
            [
                "backups/20231114T221320Z-000000/manifest",
                "files/20231114T221320Z-000000/00000007",
                "maps/20231114T221320Z-000000/00000000",
                "packs/20231114T221320Z-000000/12345678",
                "wal/7300000000000000000/0000001A/0000000103000000/0000000103000028",
                "wal/7300000000000000000/0000001A.history",
            ]
        );
    }
}
