//! Writes the small files that the manifest keeps whole, and those that a restore makes itself.

use std::{
    io::Write as _,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use pgformat::tablespace_map::{self, Tablespace};
use repo::manifest::KeptFile;

use crate::{Error, Result, error::At as _};

use super::{
    copy::{Emitted, emit},
    owner::{self, Ids},
    place::below,
    plan::TablespacePlan,
};

/// The file that makes a directory startable. It is written last of all.
pub(super) const CONTROL: &[u8] = b"global/pg_control";

/// Writes a small file, whole and new, and gives it to its owner.
pub(crate) fn write_new(path: &Path, mode: u32, content: &[u8], owner: Option<Ids>) -> Result<()> {
    let mut file = std::fs::OpenOptions::new();
    let mut file = file
        .write(true)
        .create_new(true)
        .mode(mode & 0o777)
        .open(path)
        .at("create", path)?;
    file.write_all(content).at("write", path)?;
    file.sync_all().at("sync", path)?;
    owner::give_file(&file, path, owner)
}

/// The flag with which an open refuses a symbolic link at the end of its path.
pub(super) fn no_follow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

/// Lists a file of the restore's own making in the emitted manifest.
pub(super) fn list(emitted: &mut Emitted, path: &[u8], content: &[u8], micros: i64) -> Result<()> {
    emit(
        emitted,
        path.to_vec(),
        content.len() as u64,
        micros,
        crc32c::crc32c(content),
    )
}

/// What is to be written for a kept file: as it is, but for the map of tablespaces, which says where they are now.
pub(super) fn content(file: &KeptFile, tablespaces: &[TablespacePlan]) -> Result<Vec<u8>> {
    if file.path != b"tablespace_map" {
        return Ok(file.content.clone());
    }
    let damaged = |error: pgformat::Error| Error::Failed {
        code: "tablespace-map-damaged",
        what: format!("the backup's tablespace_map cannot be read: {error}"),
        hint: "Restore another backup, and report this one.".into(),
    };
    let mut map = tablespace_map::parse(&file.content).map_err(damaged)?;
    for Tablespace { oid, path } in &mut map {
        if let Some(space) = tablespaces.iter().find(|space| space.oid == *oid) {
            *path = std::os::unix::ffi::OsStrExt::as_bytes(space.to.as_os_str()).to_vec();
        }
    }
    Ok(tablespace_map::print(&map))
}

/// All kept files but `pg_control`, into the directory and into the emitted manifest; `pg_control` only into
/// the latter.
pub(super) fn write_kept(
    root: &Path,
    kept: &[KeptFile],
    tablespaces: &[TablespacePlan],
    owner: Option<Ids>,
    micros: i64,
    emitted: &mut Emitted,
) -> Result<()> {
    for file in kept {
        let content = content(file, tablespaces)?;
        list(emitted, &file.path, &content, micros)?;
        if file.path != CONTROL {
            write_new(&below(root, &file.path), file.mode, &content, owner)?;
        }
    }
    Ok(())
}

/// `pg_control`, by a name of its own first, so that it is there whole or not at all.
pub(super) fn write_control(root: &Path, kept: &[KeptFile], owner: Option<Ids>) -> Result<()> {
    let Some(file) = kept.iter().find(|file| file.path == CONTROL) else {
        return Err(Error::Failed {
            code: "manifest-incomplete",
            what: "the backup's manifest holds no pg_control".into(),
            hint: "Restore another backup, and report this one.".into(),
        });
    };
    let path = below(root, CONTROL);
    let staged: PathBuf = path.with_extension("lastgood");
    write_new(&staged, file.mode, &file.content, owner)?;
    std::fs::rename(&staged, &path).at("rename", &staged)?;
    sync_directory(&root.join("global"))
}

/// Makes a directory's names durable.
pub(super) fn sync_directory(path: &Path) -> Result<()> {
    std::fs::File::open(path)
        .and_then(|directory| directory.sync_all())
        .at("sync", path)
}
