//! One run of WAL.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    bytes_codec::Malformed,
    decimal,
    envelope::{Codec, Draft, Finished, Kind, Opener, SET_ASIDE, Sealed},
    ledger::Lsn,
    repository::Repository,
    series::Packer,
    session::Session,
};

use super::{MAX_RUN, WAL_FRAME, WalStream};

/// Section of a frame: facts.
const FACTS: u8 = 0;
/// Section of a frame: bytes of WAL.
pub(super) const WAL: u8 = 1;
/// Section of a frame: the index's summary, block references and transactions.
pub(super) const SUMMARY: u8 = 2;
pub(super) const BLOCKS: u8 = 3;
pub(super) const TRANSACTIONS: u8 = 4;
/// The last section that this format names.
const LAST_SECTION: u8 = TRANSACTIONS;
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

/// Seals the open run that begins at `start`.
///
/// # Errors
/// [`Error::Damaged`] if `bytes` are none, or reach past the place where the finished run that holds `start` ends.
pub fn seal_run(
    repository: &Repository,
    session: &Session,
    stream: &WalStream,
    start: u64,
    bytes: &[u8],
) -> Result<Finished> {
    let mut draft = RunDraft::new(repository, session, stream, stream.run_name(start), start, bytes.len())?;
    for frame in bytes.chunks(WAL_FRAME) {
        draft.section(WAL, frame)?;
    }
    draft.finish()
}

/// A run that is being sealed, frame by frame.
pub(super) struct RunDraft {
    draft: Draft,
    packer: Packer,
    sections: Vec<u8>,
}

impl RunDraft {
    /// Begins the run `name`, of `length` bytes of WAL.
    pub(super) fn new(
        repository: &Repository,
        session: &Session,
        stream: &WalStream,
        name: String,
        start: u64,
        length: usize,
    ) -> Result<RunDraft> {
        // Past that place, the open run would be lost sight of once the finished one before it is here.
        let most = stream.done_end(start);
        let end = check_extent(most, start, length).map_err(|what| what.of(&name))?;
        let facts = Facts {
            generation: stream.generation,
            timeline: stream.timeline,
            segment_size: stream.segment_size,
            start: Lsn(start),
            end: Lsn(end),
        };
        let json = serde_json::to_vec(&facts).map_err(|_| Malformed("it cannot be said in JSON").of(&name))?;
        // Frames never grow by being packed; small runs, of which there are many, are not moved while they grow.
        let capacity = match length > 4 * WAL_FRAME {
            true => SET_ASIDE,
            false => length.min(WAL_FRAME) + json.len() + (1 << 10),
        };
        let mut draft = repository.draft(session, Kind::Wal, name, capacity)?;
        draft.frame(&json, json.len(), Codec::Stored)?;
        Ok(RunDraft {
            draft,
            packer: Packer::for_wal()?,
            sections: vec![FACTS],
        })
    }

    /// Adds a frame.
    pub(super) fn section(&mut self, section: u8, raw: &[u8]) -> Result<()> {
        self.packer.seal(&mut self.draft, raw)?;
        self.sections.push(section);
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Finished> {
        self.draft.finish(self.sections)
    }
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
    /// The open run that begins at `start`; `None` if there is none.
    pub(super) async fn read(repository: &Repository, stream: &WalStream, start: u64) -> Result<Option<OpenRun>> {
        OpenRun::named(repository, stream, &stream.run_name(start), start).await
    }

    /// The same, and `None` also if it is damaged: for who asks how far the WAL goes that can be used. What else fails
    /// stays an error, so that a store that is away never looks like a hole.
    pub(super) async fn intact(repository: &Repository, stream: &WalStream, start: u64) -> Result<Option<OpenRun>> {
        match OpenRun::read(repository, stream, start).await {
            Err(Error::Damaged { .. }) => Ok(None),
            read => read,
        }
    }

    /// The finished run that holds the byte at `position`; `None` if there is none.
    pub(super) async fn finished(
        repository: &Repository,
        stream: &WalStream,
        position: u64,
    ) -> Result<Option<OpenRun>> {
        let start = stream.done_start(position);
        OpenRun::named(repository, stream, &stream.done_name(position), start).await
    }

    async fn named(repository: &Repository, stream: &WalStream, name: &str, start: u64) -> Result<Option<OpenRun>> {
        let Some(bytes) = repository.store().get(name).await? else {
            return Ok(None);
        };
        let sealed = repository.open_bytes(Kind::Wal, name, bytes).await?;
        OpenRun::new(sealed, stream, start).map(Some)
    }

    pub(crate) fn new(sealed: Sealed, stream: &WalStream, start: u64) -> Result<OpenRun> {
        let mut opener = Opener::new()?;
        check_sections(&sealed)?;
        let facts = sealed.read(&mut opener, 0)?;
        let end = check_facts(&sealed, &facts, stream, start)?;
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

    /// Opens every byte of it.
    pub(super) fn check(&mut self) -> Result<()> {
        while self.next()?.is_some() {}
        Ok(())
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

/// Refuses an object whose frames are not those of a run.
pub(super) fn check_sections(sealed: &Sealed) -> Result<()> {
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
    Ok(())
}

/// Checks that `sealed`, whose frame 0 is `facts`, is the run that begins at `start`; where it ends.
pub(super) fn check_facts(sealed: &Sealed, facts: &[u8], stream: &WalStream, start: u64) -> Result<u64> {
    let name = sealed.name();
    let (sections, frames) = (&sealed.directory.extra, &sealed.directory.frames);
    let facts: Facts = serde_json::from_slice(facts).map_err(|_| Malformed("its facts cannot be read").of(name))?;
    let wal = sections.iter().zip(frames).filter(|(section, _)| **section == WAL);
    let length = wal.map(|(_, frame)| u64::from(frame.raw)).sum::<u64>();
    let length = usize::try_from(length).map_err(|_| Malformed("it is too long").of(name))?;
    let end = check_extent(stream.segment_end(start), start, length).map_err(|what| what.of(name))?;
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

/// The end of a run of `length` bytes from `start`, if one can be so long and reach no further than `most`.
fn check_extent(most: u64, start: u64, length: usize) -> Result<u64, Malformed> {
    let end = start.checked_add(length as u64);
    match end {
        Some(end) if (1..=MAX_RUN).contains(&length) && end <= most => Ok(end),
        _ => Err(Malformed("a run of WAL cannot be so long")),
    }
}
