//! Data directories of new clusters, copied: `initdb` costs more than most tests do with what it makes.
//!
//! Each kind is made once, in `target/templates`, by whoever wants it first. A copy has an identity of its own: another
//! system identifier, in `pg_control` and in the first page of each segment of its WAL.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
};

use pgclient::{Binaries, Cluster, cluster::Initdb};
use pgformat::control::{FILE_BYTES, crc_offset};

use crate::host::runtime;

/// Where the system identifier stands in the long header of a segment's first page (`XLogLongPageHeaderData`).
const SYSTEM_IDENTIFIER_IN_WAL: u64 = 24;

/// Makes a new cluster in `data_dir`, whose parent exists.
pub(super) async fn new_cluster(binaries: &Binaries, data_dir: &Path, how: &Initdb) {
    let template = place(binaries, how);
    if !template.exists() {
        Cluster::initdb(binaries, data_dir, how).await.expect("initdb");
        keep(data_dir, &template);
        return;
    }
    copy(&template, data_dir);
    identify(data_dir);
}

/// Named by all that decides what a new cluster holds: how it is made and the program that makes it.
fn place(binaries: &Binaries, how: &Initdb) -> PathBuf {
    let program = fs::metadata(binaries.program("initdb")).expect("initdb is there");
    let kind = format!("{how:?} {} {}", program.size(), program.mtime());
    let name = format!("{}-{:08x}", binaries.major(), crc32c::crc32c(kind.as_bytes()));
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target/templates")
        .join(name)
}

/// Keeps a copy for others. Whoever is first wins: they are all alike.
fn keep(data_dir: &Path, template: &Path) {
    let folder = template.parent().expect("it has one");
    fs::create_dir_all(folder).expect("a folder for templates");
    let mine = tempfile::tempdir_in(folder).expect("a folder beside it");
    let copied = mine.path().join("data");
    copy(data_dir, &copied);
    match fs::rename(&copied, template) {
        Err(error) if !matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
            panic!("{}: {error}", template.display())
        }
        _ => {}
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .expect("cp runs");
    assert!(copied.success(), "{} cannot be copied", from.display());
}

/// Gives a copy its own system identifier, made of the time and chance as `BootStrapXLOG` does.
fn identify(data_dir: &Path) {
    let runtime = runtime();
    let seconds = u64::try_from(runtime.clock.now_micros()).expect("after 1970") / 1_000_000;
    let chance: [u8; 8] = runtime.random();
    let identifier = seconds << 32 | u64::from_le_bytes(chance) >> 32;

    let path = data_dir.join("global/pg_control");
    let mut control = fs::read(&path).expect("pg_control can be read");
    assert_eq!(control.len(), FILE_BYTES);
    control[..8].copy_from_slice(&identifier.to_le_bytes());
    let version = u32::from_le_bytes(control[8..12].try_into().expect("four bytes"));
    let end = crc_offset(version).expect("a version that is known");
    let checksum = crc32c::crc32c(&control[..end]);
    control[end..end + 4].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&path, control).expect("pg_control can be written");

    for file in fs::read_dir(data_dir.join("pg_wal")).expect("pg_wal can be listed") {
        let path = file.expect("pg_wal can be listed").path();
        if path.is_dir() {
            continue;
        }
        let segment = fs::OpenOptions::new().read(true).write(true).open(&path);
        let segment = segment.expect("a segment can be opened");
        let mut before = [0; 8];
        let read = segment.read_exact_at(&mut before, SYSTEM_IDENTIFIER_IN_WAL);
        read.expect("a segment can be read");
        // What was only laid out for later has no header yet.
        if before != [0; 8] {
            let written = segment.write_all_at(&identifier.to_le_bytes(), SYSTEM_IDENTIFIER_IN_WAL);
            written.expect("a segment can be written");
        }
    }
}
