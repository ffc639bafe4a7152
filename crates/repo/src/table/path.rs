//! Which paths a table may hold.

use crate::bytes_codec::Malformed;

use super::EntryKind;

/// The longest path or link target, bytes: PostgreSQL's own paths end at 1,024, Linux's at 4,096.
pub const MAX_PATH: usize = 4096;

/// Checks that `path` is relative, in its shortest form, and stays below the directory it is joined to.
pub fn check_path(path: &[u8]) -> Result<(), Malformed> {
    if path.len() > MAX_PATH {
        return Err(Malformed("a path is too long"));
    }
    if path.contains(&0) {
        return Err(Malformed("a path holds a NUL byte"));
    }
    if path.starts_with(b"/") {
        return Err(Malformed("a path is absolute"));
    }
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" => return Err(Malformed("a path has an empty part")),
            b"." | b".." => return Err(Malformed("a path steps out of its directory")),
            _ => {}
        }
    }
    Ok(())
}

/// Checks that what `kind` says may stand at `path`.
pub(super) fn check_place(path: &[u8], kind: &EntryKind) -> Result<(), Malformed> {
    match kind {
        EntryKind::Directory if path.is_empty() => Ok(()),
        EntryKind::Link { target } => {
            if !is_tablespace(path) {
                return Err(Malformed("a link stands where no tablespace can be"));
            }
            match target.len() {
                1..=MAX_PATH if !target.contains(&0) => Ok(()),
                _ => Err(Malformed("a link has an impossible target")),
            }
        }
        EntryKind::Directory | EntryKind::File { .. } => check_path(path),
    }
}

/// Whether `path` is `pg_tblspc/<oid>`.
fn is_tablespace(path: &[u8]) -> bool {
    let oid = path
        .strip_prefix(b"pg_tblspc/")
        .and_then(|oid| std::str::from_utf8(oid).ok());
    let number = oid.and_then(|oid| oid.parse::<u32>().ok());
    // Printing it again refuses a sign and leading zeros.
    number.is_some_and(|number| number > 0 && oid == Some(number.to_string().as_str()))
}
