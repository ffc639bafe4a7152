//! One run of WAL.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    bytes_codec::Malformed,
    decimal,
    envelope::{Codec, Finished, Kind, Opener, Sealed},
    ledger::Lsn,
    repository::Repository,
    series::Packer,
    session::Session,
};

use super::{MAX_RUN, WAL_FRAME, WalStream};

/// Section of a frame: facts.
const FACTS: u8 = 0;
/// Section of a frame: bytes of WAL.
const WAL: u8 = 1;
/// The last section that this format names; those after [`WAL`] are an index, made from the bytes by who needs
/// it.
const LAST_SECTION: u8 = 6;
/// The largest frame of facts, bytes.
const MAX_FACTS: u32 = 64 << 10;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    #[serde(with = "decimal")]
    generation: u64,
    timeline: u32,
    segment_size: u64,
    start: Lsn,
    end: Lsn,
}

/// Consecutive bytes of WAL inside one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Position of the first byte.
    pub start: u64,
    /// The bytes, at least one.
    pub bytes: Bytes,
}

impl Run {
    /// The position after the last byte.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes.len() as u64)
    }
}

/// Seals the run that begins at `start`.
///
/// # Errors
/// [`Error::Damaged`] if `bytes` are none, more than [`MAX_RUN`], or leave the segment.
pub fn seal_run(
    repository: &Repository,
    session: &Session,
    stream: &WalStream,
    start: u64,
    bytes: &[u8],
) -> Result<Finished> {
    let name = stream.run_name(start);
    let end = check_extent(stream, start, bytes.len()).map_err(|what| what.of(&name))?;
    let facts = Facts {
        generation: stream.generation,
        timeline: stream.timeline,
        segment_size: stream.segment_size,
        start: Lsn(start),
        end: Lsn(end),
    };
    let json = serde_json::to_vec(&facts).map_err(|_| Malformed("it cannot be said in JSON").of(&name))?;
    // Frames never grow by being packed: so the object is never moved while it grows, which would need it twice.
    let capacity = bytes.len() + (bytes.len() / WAL_FRAME + 4) * 64 + json.len() + (1 << 10);
    let mut draft = repository.draft(session, Kind::Wal, name, capacity)?;
    draft.frame(&json, json.len(), Codec::Stored)?;
    let (mut packer, mut sections) = (Packer::new()?, vec![FACTS]);
    for frame in bytes.chunks(WAL_FRAME) {
        packer.seal(&mut draft, frame)?;
        sections.push(WAL);
    }
    draft.finish(sections)
}

/// Reads the run that begins at `start`; `None` if there is none.
///
/// # Errors
/// [`Error::Damaged`] if it is not the run that its name promises, [`Error::Unsupported`] if a later version
/// wrote it.
pub async fn read_run(repository: &Repository, stream: &WalStream, start: u64) -> Result<Option<Run>> {
    let name = stream.run_name(start);
    let Some(bytes) = repository.store().get(&name).await? else {
        return Ok(None);
    };
    let sealed = repository.open_bytes(Kind::Wal, &name, bytes).await?;
    open_run(&sealed, stream, start).map(Some)
}

pub(crate) fn open_run(sealed: &Sealed, stream: &WalStream, start: u64) -> Result<Run> {
    let name = sealed.name();
    let sections = &sealed.directory.extra;
    let frames = &sealed.directory.frames;
    if sections.iter().any(|section| *section > LAST_SECTION) {
        return Err(Error::Unsupported {
            name: name.into(),
            what: "an unknown section of WAL".into(),
        });
    }
    let facts_once = sections.iter().filter(|section| **section == FACTS).count() == 1;
    if sections.len() != frames.len() || sections.first() != Some(&FACTS) || !facts_once {
        return Err(Malformed("its sections are not those of a run of WAL").of(name));
    }
    if frames.first().is_some_and(|facts| facts.raw > MAX_FACTS) {
        return Err(Malformed("its facts are too large").of(name));
    }
    let mut opener = Opener::new()?;
    let facts: Facts = serde_json::from_slice(&sealed.read(&mut opener, 0)?)
        .map_err(|_| Malformed("its facts cannot be read").of(name))?;

    let wal = || {
        (0..)
            .zip(sections.iter().zip(frames))
            .filter(|(_, (section, _))| **section == WAL)
    };
    let length = wal().map(|(_, (_, frame))| u64::from(frame.raw)).sum::<u64>();
    let length = usize::try_from(length).map_err(|_| Malformed("it is too long").of(name))?;
    let end = check_extent(stream, start, length).map_err(|what| what.of(name))?;
    let expected = Facts {
        generation: stream.generation,
        timeline: stream.timeline,
        segment_size: stream.segment_size,
        start: Lsn(start),
        end: Lsn(end),
    };
    if facts != expected {
        return Err(Malformed("it is another run of WAL than its name says").of(name));
    }
    // `check_extent` has bounded the length.
    let mut bytes = Vec::with_capacity(length);
    for (number, _) in wal() {
        bytes.append(&mut sealed.read(&mut opener, number)?);
    }
    Ok(Run {
        start,
        bytes: bytes.into(),
    })
}

/// The end of a run of `length` bytes from `start`, if one can be so long.
fn check_extent(stream: &WalStream, start: u64, length: usize) -> Result<u64, Malformed> {
    let end = start.checked_add(length as u64);
    match end {
        Some(end) if (1..=MAX_RUN).contains(&length) && end <= stream.segment_end(start) => Ok(end),
        _ => Err(Malformed("a run of WAL cannot be so long")),
    }
}
