//! Writes a manifest as files come, without holding them.

use std::io;

use aws_lc_rs::digest;

use super::{File, Version, WalRange};
use crate::utc;

/// A manifest being written: [`ManifestWriter::new`], [`ManifestWriter::file`] for each file in any
/// order, [`ManifestWriter::finish`]. What is written is complete only after `finish`; without it no
/// tool accepts it.
pub struct ManifestWriter<W: io::Write> {
    out: W,
    digest: digest::Context,
    separator: &'static str,
}

impl<W: io::Write> ManifestWriter<W> {
    /// Begins a manifest on `out`. It is written in small pieces: give a buffered writer.
    pub fn new(out: W, version: Version) -> io::Result<Self> {
        let digest = digest::Context::new(&digest::SHA256);
        let mut writer = ManifestWriter {
            out,
            digest,
            separator: "\n",
        };
        match version {
            Version::One => writer.put("{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [")?,
            Version::Two { system_identifier } => writer.put(&format!(
                "{{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": {system_identifier},\n\"Files\": ["
            ))?,
        }
        Ok(writer)
    }

    /// Adds one file.
    pub fn file(&mut self, file: &File) -> io::Result<()> {
        let path = match std::str::from_utf8(&file.path) {
            Ok(path) => format!("\"Path\": {}", serde_json::to_string(path)?),
            Err(_) => format!("\"Encoded-Path\": \"{}\"", hex::encode(&file.path)),
        };
        let checksum = file.checksum.as_ref().map_or(String::new(), |checksum| {
            let (name, value) = (checksum.algorithm().name(), hex::encode(checksum.value()));
            format!(", \"Checksum-Algorithm\": \"{name}\", \"Checksum\": \"{value}\"")
        });
        let line = format!(
            "{}{{ {path}, \"Size\": {}, \"Last-Modified\": \"{}\"{checksum} }}",
            self.separator,
            file.size,
            utc::print(file.modified)
        );
        self.separator = ",\n";
        self.put(&line)
    }

    /// Ends the manifest and gives the writer back, not flushed. `ranges` is the WAL from the backup's
    /// start to its stop; PostgreSQL lists the newest timeline first.
    pub fn finish(mut self, ranges: &[WalRange]) -> io::Result<W> {
        let ranges: Vec<String> = ranges
            .iter()
            .map(|range| {
                let (timeline, start, end) = (range.timeline, range.start, range.end);
                format!("{{ \"Timeline\": {timeline}, \"Start-LSN\": \"{start}\", \"End-LSN\": \"{end}\" }}")
            })
            .collect();
        self.put(&format!("\n],\n\"WAL-Ranges\": [\n{}\n],\n", ranges.join(",\n")))?;
        let value = hex::encode(self.digest.finish());
        self.out
            .write_all(format!("\"Manifest-Checksum\": \"{value}\"}}\n").as_bytes())?;
        Ok(self.out)
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        self.digest.update(text.as_bytes());
        self.out.write_all(text.as_bytes())
    }
}
