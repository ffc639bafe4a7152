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
    match OpenRun::read(repository, stream, start).await? {
        Some(run) => run.whole().map(Some),
        None => Ok(None),
    }
}

/// A run whose hash and facts were checked. Its bytes are opened a frame at a time: of a long run only what is sealed
/// is in memory whole.
#[derive(Debug)]
pub(crate) struct OpenRun {
    sealed: Sealed,
    opener: Opener,
    start: u64,
    end: u64,
    /// Position of the next byte, and the frame to look at next.
    position: u64,
    frame: u32,
}

impl OpenRun {
    /// The run that begins at `start`; `None` if there is none.
    pub(super) async fn read(repository: &Repository, stream: &WalStream, start: u64) -> Result<Option<OpenRun>> {
        let name = stream.run_name(start);
        let Some(bytes) = repository.store().get(&name).await? else {
            return Ok(None);
        };
        let sealed = repository.open_bytes(Kind::Wal, &name, bytes).await?;
        OpenRun::new(sealed, stream, start).map(Some)
    }

    pub(crate) fn new(sealed: Sealed, stream: &WalStream, start: u64) -> Result<OpenRun> {
        let mut opener = Opener::new()?;
        let end = check_facts(&sealed, &mut opener, stream, start)?;
        Ok(OpenRun {
            sealed,
            opener,
            start,
            end,
            position: start,
            frame: 0,
        })
    }

    /// The position after its last byte.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The next piece of it; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Run>> {
        while let Some(section) = self.sealed.directory.extra.get(self.frame as usize) {
            let (frame, wal) = (self.frame, *section == WAL);
            self.frame += 1;
            if wal {
                let bytes = self.sealed.read(&mut self.opener, frame)?;
                let start = self.position;
                self.position = start.saturating_add(bytes.len() as u64);
                return Ok(Some(Run {
                    start,
                    bytes: bytes.into(),
                }));
            }
        }
        Ok(None)
    }

    /// All of it at once.
    pub(crate) fn whole(mut self) -> Result<Run> {
        // `check_facts` has bounded the length.
        let mut bytes = Vec::with_capacity((self.end - self.start) as usize);
        while let Some(piece) = self.next()? {
            bytes.extend_from_slice(&piece.bytes);
        }
        Ok(Run {
            start: self.start,
            bytes: bytes.into(),
        })
    }
}

/// Checks that `sealed` is the run that begins at `start`; where it ends.
fn check_facts(sealed: &Sealed, opener: &mut Opener, stream: &WalStream, start: u64) -> Result<u64> {
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
    let facts: Facts =
        serde_json::from_slice(&sealed.read(opener, 0)?).map_err(|_| Malformed("its facts cannot be read").of(name))?;
    let wal = sections.iter().zip(frames).filter(|(section, _)| **section == WAL);
    let length = wal.map(|(_, frame)| u64::from(frame.raw)).sum::<u64>();
    let length = usize::try_from(length).map_err(|_| Malformed("it is too long").of(name))?;
    let end = check_extent(stream, start, length).map_err(|what| what.of(name))?;
    let expected = Facts {
        generation: stream.generation,
        timeline: stream.timeline,
        segment_size: stream.segment_size,
        start: Lsn(start),
        end: Lsn(end),
    };
    match facts == expected {
        true => Ok(end),
        false => Err(Malformed("it is another run of WAL than its name says").of(name)),
    }
}

/// The end of a run of `length` bytes from `start`, if one can be so long.
fn check_extent(stream: &WalStream, start: u64, length: usize) -> Result<u64, Malformed> {
    let end = start.checked_add(length as u64);
    match end {
        Some(end) if (1..=MAX_RUN).contains(&length) && end <= stream.segment_end(start) => Ok(end),
        _ => Err(Malformed("a run of WAL cannot be so long")),
    }
}
