//! Finished segments: runs at fixed places, each with an index of the records that end in it.

use std::collections::BTreeSet;

use crate::{
    Error, Result, bytes_codec::Malformed, envelope::Finished, repository::Repository, session::Session, store::Put,
};

use super::{
    Indexed, WAL_FRAME, WalStream, check_finished,
    index::{Index, Summary},
    read_index, read_run,
    run::{BLOCKS, OpenRun, RunDraft, SUMMARY, TRANSACTIONS, WAL},
};
use crate::names;

/// How many open runs are asked for at once.
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
    pub async fn store(&self, repository: &Repository, stream: &WalStream) -> Result<()> {
        let (name, bytes) = (&self.object.name, self.object.bytes.clone());
        if repository.store().put_new(name, bytes).await? == Put::Created {
            return Ok(());
        }
        let stored = read_index(repository, stream, self.start).await?;
        match stored.map(|stored| stored.summary.content) {
            Some(content) if content == self.content => Ok(()),
            Some(_) => Err(other_content(stream, self.start)),
            None => Err(Error::Missing { name: name.clone() }),
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

/// Makes the finished run that holds the byte at `position` of the open runs there, reads it back, and removes them. All of
/// its bytes have to be here. Done twice, it changes nothing.
///
/// # Errors
/// [`Error::TwoServers`] if it is there already and holds other WAL than one of the open runs, [`Error::Missing`] if some of
/// its bytes are not here. Nothing was removed then.
pub async fn finish_run(
    repository: &Repository,
    session: &Session,
    stream: &WalStream,
    position: u64,
    index: &mut (dyn Finish + Send),
) -> Result<()> {
    let start = stream.done_start(position);
    let mut made_of = Vec::new();
    match made_of_open(repository, session, stream, start, index, &mut made_of).await {
        Ok(made) => match store_whole(repository, stream, &made).await {
            // What nobody can read is of no use, and all that it is made of is still here.
            Err(Error::Damaged { name, .. }) if name == made.object.name => {
                repository.store().delete(&name).await?;
                store_whole(repository, stream, &made).await?;
            }
            stored => stored?,
        },
        // Somebody else has finished it meanwhile, or before.
        Err(error @ (Error::Missing { .. } | Error::Damaged { .. })) => {
            made_of.clear();
            if !is_done(repository, stream, start).await? {
                return Err(error);
            }
        }
        Err(error) => return Err(error),
    }
    if made_of.is_empty() {
        read_back(repository, stream, start).await?;
    }
    let open = open_runs(repository, stream, start).await?;
    // What is left of others may be of another server.
    let (_, others): (Vec<u64>, Vec<u64>) = open.iter().partition(|open| made_of.contains(open));
    check_open_runs(repository, stream, &others).await?;
    for open in open {
        repository.store().delete(&stream.run_name(open)).await?;
    }
    Ok(())
}

/// Stores a finished run and reads it back.
async fn store_whole(repository: &Repository, stream: &WalStream, made: &Sealing) -> Result<()> {
    made.store(repository, stream).await?;
    read_back(repository, stream, made.start).await
}

/// The finished run that begins at `start`, made of open runs alone; where these begin is added to `made_of`.
async fn made_of_open(
    repository: &Repository,
    session: &Session,
    stream: &WalStream,
    start: u64,
    index: &mut (dyn Finish + Send),
    made_of: &mut Vec<u64>,
) -> Result<Sealing> {
    let mut draft = DoneDraft::new(repository, session, stream, start)?;
    let mut position = start;
    while position < draft.end() {
        let missing = || Error::Missing {
            name: stream.run_name(position),
        };
        let run = OpenRun::read(repository, stream, position).await?;
        let mut run = run.ok_or_else(missing)?;
        while let Some(piece) = run.next()? {
            draft.bytes(&piece.bytes)?;
            index.bytes(piece.start, &piece.bytes);
        }
        made_of.push(position);
        position = run.end();
    }
    draft.finish(&index.index())
}

/// Checks that open runs, by where they begin, and those that follow on them, hold what the finished one does that takes their
/// place. One that is damaged is of no use to anybody.
///
/// # Errors
/// [`Error::TwoServers`] if one holds other WAL.
pub async fn check_open_runs(repository: &Repository, stream: &WalStream, starts: &[u64]) -> Result<()> {
    let mut left: BTreeSet<u64> = starts.iter().copied().collect();
    while let Some(start) = left.pop_first() {
        match read_run(repository, stream, start).await {
            Ok(Some(open)) => {
                check_finished(repository, stream, start, &open.bytes).await?;
                // A listing may not show it yet.
                left.extend(Some(open.end()).filter(|end| *end < stream.done_end(start)));
            }
            Ok(None) | Err(Error::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
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

/// The open runs that the finished run which holds the byte at `position` replaces, or will, by where they begin, ascending. The
/// first of a chain is always among them; others that were stored a moment ago may not be.
pub async fn open_runs(repository: &Repository, stream: &WalStream, position: u64) -> Result<Vec<u64>> {
    let (segment, start) = (stream.segment_of(position), stream.done_start(position));
    let prefix = names::wal_segment(stream.generation, stream.timeline, segment);
    let of_name = |name: &str| u64::from_str_radix(name.strip_prefix(&prefix)?, 16).ok();
    let mut after = match start == segment {
        true => String::new(),
        false => stream.run_name(start.saturating_sub(1)),
    };
    let mut found = Vec::new();
    // A listing may not show it yet.
    if repository.store().head(&stream.run_name(start)).await?.is_some() {
        found.push(start);
        after = stream.run_name(start);
    }
    loop {
        let page = repository.store().list_after(&prefix, &after, PAGE).await?;
        let open = page.iter().filter_map(|object| of_name(&object.name));
        let open: Vec<u64> = open.take_while(|open| *open < stream.done_end(start)).collect();
        found.extend_from_slice(&open);
        match page.last() {
            Some(last) if open.len() == PAGE => after.clone_from(&last.name),
            _ => return Ok(found),
        }
    }
}
