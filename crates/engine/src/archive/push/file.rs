//! A segment's file in `pg_wal`, checked to be what its name says.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use pgformat::{
    Lsn, Major, Tli,
    segment::SegmentName,
    wal::{Geometry, WalPageHeader, page::LONG_HEADER_BYTES},
};
use repo::wal::{WAL_FRAME, WalStream};

use crate::{Error, Result, archive::Indexer, error::At as _};

use super::known::Cluster;

/// An open file of a segment.
#[derive(Debug)]
pub(super) struct SegmentFile {
    path: PathBuf,
    file: File,
    /// Cluster, timeline and size of segments.
    pub(super) stream: WalStream,
    /// How the cluster's WAL is divided.
    pub(super) geometry: Geometry,
    /// The version that wrote it.
    pub(super) major: Major,
    /// Position of its first byte.
    pub(super) start: u64,
}

impl SegmentFile {
    /// Opens the file of the segment `name`, 24 hexadecimal digits.
    ///
    /// # Errors
    /// [`Error::Refused`] if its content is that of another segment (recycled or renamed), or it is not whole.
    pub(super) fn open(path: &Path, name: &str) -> Result<SegmentFile> {
        let mut file = File::open(path).at("open", path)?;
        let length = file.metadata().at("look at", path)?.len();
        let mut head = [0; LONG_HEADER_BYTES];
        match file.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(refused(path, "is too short for a segment of WAL".into()));
            }
            read => read.at("read", path)?,
        }
        let header = WalPageHeader::parse(&head).map_err(|error| refused(path, format!("is no WAL: {error}")))?;
        let long = header
            .long
            .ok_or_else(|| refused(path, "does not begin as a segment does".into()))?;
        let size = long.geometry.segment_size();
        let segment = SegmentName::parse(name, size)
            .map_err(|_| refused(path, format!("has no name of a segment of {} bytes", size.bytes())))?;
        if length != size.bytes() {
            return Err(refused(
                path,
                format!("has {length} bytes, where a segment has {}", size.bytes()),
            ));
        }
        let start = segment.start(size);
        if header.address != start {
            return Err(refused(
                path,
                format!("holds the WAL of {}, not of {start}", header.address),
            ));
        }
        // The first segment of a timeline begins with what it takes over from the one before.
        if header.timeline > segment.timeline {
            return Err(refused(path, format!("holds WAL of timeline {}", header.timeline)));
        }
        Ok(SegmentFile {
            path: path.into(),
            file,
            stream: WalStream::new(long.system_identifier, segment.timeline.0, size.bytes())?,
            geometry: long.geometry,
            major: header.major,
            start: start.0,
        })
    }

    /// Who makes its index: the segment before, which as a rule is still there, tells what lies across its beginning.
    pub(super) fn indexer(&self) -> Result<Indexer> {
        let before = self.before();
        Indexer::after(self.geometry, self.stream.generation, self.start, |from, to, sink| {
            let Some(before) = &before else { return false };
            let read = before.read(from, to, |_, piece| {
                sink(piece);
                Ok(())
            });
            read.is_ok()
        })
    }

    /// The segment before on the same timeline, if its file is there.
    fn before(&self) -> Option<SegmentFile> {
        let size = self.geometry.segment_size();
        let start = self.start.checked_sub(size.bytes())?;
        let name = SegmentName::holding(Tli(self.stream.timeline), Lsn(start), size).file_name(size);
        SegmentFile::open(&self.path.with_file_name(&name), &name).ok()
    }

    /// What the ledger has to know of its cluster.
    pub(super) fn cluster(&self, block_size: Option<u32>) -> Cluster {
        Cluster {
            generation: self.stream.generation,
            timeline: self.stream.timeline,
            segment_size: self.stream.segment_size(),
            major: self.major.number(),
            block_size,
        }
    }

    /// The position after its last byte.
    pub(super) fn end(&self) -> u64 {
        self.start.saturating_add(self.stream.segment_size())
    }

    /// Gives `sink` the bytes from `from` to before `to`, piece by piece, each with its position.
    pub(super) fn read(&self, from: u64, to: u64, mut sink: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let mut file = &self.file;
        let offset = from.saturating_sub(self.start);
        file.seek(SeekFrom::Start(offset)).at("read", &self.path)?;
        let mut buffer = vec![0; WAL_FRAME];
        let mut at = from;
        while at < to {
            let length = usize::try_from(to - at).unwrap_or(usize::MAX).min(buffer.len());
            let piece = buffer.get_mut(..length).unwrap_or_default();
            // A file that has become shorter since it was opened is no longer the segment.
            file.read_exact(piece).at("read", &self.path)?;
            sink(at, piece)?;
            at = at.saturating_add(length as u64);
        }
        Ok(())
    }
}

fn refused(path: &Path, what: String) -> Error {
    Error::Refused {
        code: "not-this-segment",
        what: format!("{} {what}", path.display()),
        hint: "Set archive_command to hand over %p, and look who renames or cuts files in pg_wal; nothing was stored."
            .into(),
    }
}
