//! Reads a manifest and believes nothing of it before its own checksum fits.

use aws_lc_rs::digest;
use serde::Deserialize;

use super::{Algorithm, Checksum, File, Version, WalRange};
use crate::error::{Error, Result};
use crate::{Lsn, Tli, utc};

const WHAT: &str = "backup_manifest";

/// A manifest in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The format's version.
    pub version: Version,
    /// The files, in the order of the manifest.
    pub files: Vec<File>,
    /// The WAL from the backup's start to its stop, newest timeline first.
    pub wal_ranges: Vec<WalRange>,
}

impl Manifest {
    /// Reads a whole manifest. A version other than 1 and 2 is [`Error::Unsupported`].
    pub fn parse(content: &[u8]) -> Result<Self> {
        let sealed = sealed_part(content)?;
        let written: Written =
            serde_json::from_slice(content).map_err(|error| damaged(format!("it is no manifest: {error}")))?;
        let found = hex::encode(digest::digest(&digest::SHA256, sealed));
        if !found.eq_ignore_ascii_case(&written.checksum) {
            return Err(damaged("its checksum does not fit"));
        }
        let version = match (written.version, written.system_identifier) {
            (1, None) => Version::One,
            (2, Some(system_identifier)) => Version::Two { system_identifier },
            (1 | 2, _) => return Err(damaged("its version and its system identifier do not go together")),
            (other, _) => return Err(Error::unsupported(WHAT, format!("version {other}; known are 1 and 2"))),
        };
        Ok(Manifest {
            version,
            files: written.files.into_iter().map(file).collect::<Result<_>>()?,
            wal_ranges: written.wal_ranges.into_iter().map(range).collect::<Result<_>>()?,
        })
    }
}

/// Everything before the last line, which holds the checksum.
fn sealed_part(content: &[u8]) -> Result<&[u8]> {
    let Some((b'\n', lines)) = content.split_last() else {
        return Err(damaged("its last line has no end"));
    };
    let newline = lines
        .iter()
        .rposition(|byte| *byte == b'\n')
        .ok_or_else(|| damaged("it has one line only"))?;
    content.get(..=newline).ok_or_else(|| damaged("it has one line only"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "PostgreSQL-Backup-Manifest-Version")]
    version: u32,
    #[serde(rename = "System-Identifier")]
    system_identifier: Option<u64>,
    #[serde(rename = "Files")]
    files: Vec<WrittenFile>,
    #[serde(rename = "WAL-Ranges")]
    wal_ranges: Vec<WrittenRange>,
    #[serde(rename = "Manifest-Checksum")]
    checksum: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct WrittenFile {
    path: Option<String>,
    #[serde(rename = "Encoded-Path")]
    encoded_path: Option<String>,
    size: u64,
    #[serde(rename = "Last-Modified")]
    last_modified: String,
    #[serde(rename = "Checksum-Algorithm")]
    checksum_algorithm: Option<String>,
    checksum: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRange {
    #[serde(rename = "Timeline")]
    timeline: Tli,
    #[serde(rename = "Start-LSN")]
    start: Lsn,
    #[serde(rename = "End-LSN")]
    end: Lsn,
}

fn file(written: WrittenFile) -> Result<File> {
    let path = match (written.path, written.encoded_path) {
        (Some(path), None) => path.into_bytes(),
        (None, Some(path)) => hex::decode(&path).map_err(|_| damaged(format!("{path:?} is no encoded path")))?,
        _ => return Err(damaged("a file has no path, or two")),
    };
    let checksum = match (written.checksum_algorithm, written.checksum) {
        (Some(name), Some(value)) => Some(checksum(&name, &value)?),
        (None, None) => None,
        _ => return Err(damaged("a file has half a checksum")),
    };
    let modified = utc::parse(&written.last_modified)
        .ok_or_else(|| damaged(format!("{:?} is no time of a manifest", written.last_modified)))?;
    Ok(File {
        path,
        size: written.size,
        modified,
        checksum,
    })
}

fn checksum(name: &str, value: &str) -> Result<Checksum> {
    let algorithm = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name);
    let algorithm = algorithm.ok_or_else(|| Error::unsupported(WHAT, format!("checksum algorithm {name:?}")))?;
    let value = hex::decode(value)
        .ok()
        .and_then(|value| Checksum::new(algorithm, value));
    value.ok_or_else(|| damaged(format!("a value is no {name}")))
}

fn range(written: WrittenRange) -> Result<WalRange> {
    if written.timeline == Tli(0) || written.start > written.end {
        return Err(damaged("a WAL range does not exist"));
    }
    Ok(WalRange {
        timeline: written.timeline,
        start: written.start,
        end: written.end,
    })
}

fn damaged(cause: impl Into<String>) -> Error {
    Error::damaged(WHAT, cause)
}
