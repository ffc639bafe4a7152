//! Finished segments: runs at fixed places, each with an index of the records that end in it.

use crate::{
    Error, Result, bytes_codec::Malformed, envelope::Finished, repository::Repository, session::Session, store::Put,
};

use super::{
    Assembly, Indexed, WAL_FRAME, WalStream,
    index::{Index, Summary},
    read_index,
    run::{BLOCKS, OpenRun, RunDraft, SUMMARY, TRANSACTIONS, WAL},
};
use crate::names;

/// How many open runs of a segment are asked for at once.
const PAGE: usize = 1000;

/// Whether the finished run that holds the byte at `position` is here.
pub async fn is_done(repository: &Repository, stream: &WalStream, position: u64) -> Result<bool> {
    let found = repository.store().head(&stream.done_name(position)).await?;
    Ok(found.is_some())
}

/// Somebody who makes indexes. Given all bytes of a segment in order, it is asked for an index at the end of each run.
pub trait Finish {
    /// Takes in the next bytes.
    fn bytes(&mut self, start: u64, bytes: &[u8]);
    /// What is known of the records that ended since it was asked last. `content` is not its affair.
    fn index(&mut self) -> Index;
}

/// A finished run that is being made.
pub struct DoneDraft {
    draft: RunDraft,
    start: u64,
    end: u64,
    /// What has come and is no whole frame yet.
    open: Vec<u8>,
    taken: u64,
    hash: blake3::Hasher,
}

impl std::fmt::Debug for DoneDraft {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "DoneDraft({} to {})", self.start, self.end)
    }
}

impl DoneDraft {
    /// Begins the run that holds the byte at `position`.
    pub fn new(repository: &Repository, session: &Session, stream: &WalStream, position: u64) -> Result<DoneDraft> {
        let (start, end) = (stream.done_start(position), stream.done_end(position));
        let name = stream.done_name(position);
        let length = usize::try_from(end - start).map_err(|_| Malformed("it is too long").of(&name))?;
        Ok(DoneDraft {
            draft: RunDraft::new(repository, session, stream, name, start, length)?,
            start,
            end,
            open: Vec::with_capacity(WAL_FRAME),
            taken: start,
            hash: blake3::Hasher::new(),
        })
    }

    /// Where it ends.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Takes in the next bytes of its range.
    pub fn bytes(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.taken = self.taken.saturating_add(bytes.len() as u64);
        while !bytes.is_empty() {
            if self.open.is_empty() && bytes.len() >= WAL_FRAME {
                let (frame, rest) = bytes.split_at(WAL_FRAME);
                self.draft.section(WAL, frame)?;
                bytes = rest;
                continue;
            }
            let (now, rest) = bytes.split_at((WAL_FRAME - self.open.len()).min(bytes.len()));
            self.open.extend_from_slice(now);
            bytes = rest;
            if self.open.len() == WAL_FRAME {
                self.draft.section(WAL, &self.open)?;
                self.open.clear();
            }
        }
        Ok(())
    }

    /// Seals it, all its bytes having come.
    pub fn finish(mut self, index: &Index) -> Result<Sealing> {
        if self.taken != self.end {
            return Err(Malformed("its bytes are not all there").of("a finished run of WAL"));
        }
        if !self.open.is_empty() {
            self.draft.section(WAL, &self.open)?;
        }
        let content = self.hash.finalize().to_hex().to_string();
        let summary = Summary {
            content: content.clone(),
            ..index.summary.clone()
        };
        self.draft.section(SUMMARY, &summary.encode())?;
        self.draft.section(BLOCKS, &index.blocks.encode())?;
        self.draft.section(TRANSACTIONS, &index.transactions.encode())?;
        Ok(Sealing {
            object: self.draft.finish()?,
            content,
            start: self.start,
        })
    }
}

/// A finished run, ready to be stored.
#[derive(Debug)]
pub struct Sealing {
    object: Finished,
    content: String,
    start: u64,
}

impl Sealing {
    /// Stores it. If it is here already, its content must be the same.
    ///
    /// # Errors
    /// [`Error::TwoServers`] if other WAL is stored there. What is stored stays as it is.
    pub async fn store(self, repository: &Repository, stream: &WalStream) -> Result<()> {
        if repository.store().put_new(&self.object.name, self.object.bytes).await? == Put::Created {
            return Ok(());
        }
        let stored = read_index(repository, stream, self.start).await?;
        match stored.map(|stored| stored.summary.content) {
            Some(content) if content == self.content => Ok(()),
            Some(_) => Err(other_content(stream, self.start)),
            None => Err(Error::Missing { name: self.object.name }),
        }
    }
}

/// Says that two servers wrote the same stretch of WAL.
fn other_content(stream: &WalStream, position: u64) -> Error {
    Error::TwoServers {
        what: format!(
            "{} holds other WAL than this server has written there",
            stream.done_name(position)
        ),
    }
}

/// Makes finished runs of the whole segment that holds the byte at `position`, reads them back, and removes the open
/// runs that they replace. All of the segment has to be here. Done twice, it changes nothing.
///
/// # Errors
/// [`Error::TwoServers`] if a finished run holds other WAL, [`Error::Missing`] if the segment is not complete. Nothing
/// was removed then.
pub async fn finish_segment(
    repository: &Repository,
    session: &Session,
    stream: &WalStream,
    position: u64,
    index: &mut (dyn Finish + Send),
) -> Result<()> {
    let (segment, end) = (stream.segment_of(position), stream.segment_end(position));
    let mut wal = Assembly::new(repository, *stream, segment, end);
    let mut draft: Option<DoneDraft> = None;
    while let Some(run) = wal.next().await? {
        let (mut at, mut rest) = (run.start, &run.bytes[..]);
        while !rest.is_empty() {
            let current = match &mut draft {
                Some(current) => current,
                None => draft.insert(DoneDraft::new(repository, session, stream, at)?),
            };
            let room = usize::try_from(current.end() - at).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at(room.min(rest.len()));
            current.bytes(now)?;
            index.bytes(at, now);
            at = at.saturating_add(now.len() as u64);
            rest = later;
            if at == current.end()
                && let Some(whole) = draft.take()
            {
                whole.finish(&index.index())?.store(repository, stream).await?;
            }
        }
    }
    for start in (segment..end).step_by(super::MAX_RUN) {
        read_back(repository, stream, start).await?;
    }
    remove_open(repository, stream, segment).await
}

/// Opens every byte of a finished run and compares them with what its index says of them.
async fn read_back(repository: &Repository, stream: &WalStream, position: u64) -> Result<()> {
    let name = stream.done_name(position);
    let missing = || Error::Missing { name: name.clone() };
    let mut run = OpenRun::finished(repository, stream, position)
        .await?
        .ok_or_else(missing)?;
    let mut hash = blake3::Hasher::new();
    while let Some(piece) = run.next()? {
        hash.update(&piece.bytes);
    }
    let index = Indexed::open(repository, stream, position).await?.ok_or_else(missing)?;
    match index.summary().await?.content == hash.finalize().to_hex().as_str() {
        true => Ok(()),
        false => Err(Malformed("its bytes are not what its index says").of(&name)),
    }
}

/// Removes the open runs of a segment that is finished.
async fn remove_open(repository: &Repository, stream: &WalStream, segment: u64) -> Result<()> {
    let prefix = names::wal_segment(stream.generation, stream.timeline, segment);
    let mut after = String::new();
    loop {
        let page = repository.store().list_after(&prefix, &after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after.clone_from(&last.name);
        for open in &page {
            repository.store().delete(&open.name).await?;
        }
    }
}
