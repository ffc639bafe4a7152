//! Frame 2: files that are copied last and kept whole.

use crate::{
    bytes_codec::{Malformed, Reader, put_text, put_varint},
    table::check_path,
};

/// A small file, whole: `backup_label`, `tablespace_map`, `global/pg_control`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    /// Relative to the data directory.
    pub path: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// All its bytes.
    pub content: Vec<u8>,
}

pub(super) fn check(files: &[KeptFile]) -> Result<(), Malformed> {
    for file in files {
        check_path(&file.path)?;
        if file.mode > 0o7777 {
            return Err(Malformed("a kept file has an impossible mode"));
        }
    }
    match files.is_sorted_by(|a, b| a.path < b.path) {
        true => Ok(()),
        false => Err(Malformed("the paths of its kept files do not ascend")),
    }
}

pub(crate) fn encode(files: &[KeptFile]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, files.len() as u64);
    for file in files {
        put_text(&mut out, &file.path);
        put_varint(&mut out, u64::from(file.mode));
        put_text(&mut out, &file.content);
    }
    out
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<KeptFile>, Malformed> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(3)?;
    let mut files = Vec::new();
    for _ in 0..count {
        files.push(KeptFile {
            path: reader.text()?.to_vec(),
            mode: reader.varint32()?,
            content: reader.text()?.to_vec(),
        });
    }
    if !reader.is_empty() {
        return Err(Malformed("its kept files go on where they should end"));
    }
    check(&files)?;
    Ok(files)
}
