//! Finished segments: runs at fixed places, each with an index of the records that end in it.

use crate::{
    Error, Result,
    bytes_codec::Malformed,
    envelope::{Finished, HEADER, Kind, Opener, Pin, Sealed, TRAILER},
    repository::Repository,
    session::Session,
    store::Put,
};

use super::{
    WAL_FRAME, WalStream, check_finished,
    index::{Blocks, Index, Summary, Transactions},
    read_run,
    run::{BLOCKS, OpenRun, RunDraft, SUMMARY, TRANSACTIONS, WAL, check_facts, check_sections},
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

/// The index of the finished run that holds the byte at `position`; `None` if there is no such run. Reads the ends of
/// the object and its index, not the WAL in it.
pub async fn read_index(repository: &Repository, stream: &WalStream, position: u64) -> Result<Option<Index>> {
    let Some(run) = Indexed::open(repository, stream, position).await? else {
        return Ok(None);
    };
    Ok(Some(Index {
        summary: run.summary().await?,
        blocks: run.blocks().await?,
        transactions: run.transactions().await?,
    }))
}

/// A finished run opened by its ends: its index is read part by part.
#[derive(Debug)]
pub struct Indexed {
    repository: Repository,
    sealed: Sealed,
}

impl Indexed {
    /// The run that holds the byte at `position`; `None` if there is no such run.
    pub async fn open(repository: &Repository, stream: &WalStream, position: u64) -> Result<Option<Indexed>> {
        let name = stream.done_name(position);
        let store = repository.store();
        let Some(listed) = store.head(&name).await? else {
            return Ok(None);
        };
        let Some(at) = listed
            .size
            .checked_sub(TRAILER as u64)
            .filter(|at| *at >= HEADER as u64)
        else {
            return Err(Malformed("it is cut off").of(&name));
        };
        let Some(end) = store.get_range(&name, at, TRAILER).await? else {
            return Ok(None);
        };
        // What the trailer says is checked with the directory that it leads to.
        let directory = end.get(8..12).and_then(|bytes| bytes.first_chunk::<4>());
        let directory = directory.map_or(0, |bytes| u32::from_le_bytes(*bytes));
        let mut hash = [0; 32];
        hash.copy_from_slice(end.get(24..56).unwrap_or(&[0; 32]));
        let pin = Pin {
            size: listed.size,
            hash,
        };
        let sealed = repository.open_ranged(Kind::Wal, &name, &pin, directory).await?;
        check_sections(&sealed)?;
        let run = Indexed {
            repository: repository.clone(),
            sealed,
        };
        let facts = run.frame(0).await?;
        let end = check_facts(&run.sealed, &facts, stream, stream.done_start(position))?;
        match end == stream.done_end(position) {
            true => Ok(Some(run)),
            false => Err(Malformed("it is no finished run of WAL").of(&name)),
        }
    }

    async fn frame(&self, number: u32) -> Result<Vec<u8>> {
        let sealed = self.sealed.fetch(&**self.repository.store(), number, 1).await?;
        let mut out = Vec::new();
        self.sealed.open_frame(&mut Opener::new()?, number, &sealed, &mut out)?;
        Ok(out)
    }

    /// The little that most questions need.
    pub async fn summary(&self) -> Result<Summary> {
        self.decode(SUMMARY, Summary::decode).await
    }

    /// Which pages were changed.
    pub async fn blocks(&self) -> Result<Blocks> {
        self.decode(BLOCKS, Blocks::decode).await
    }

    /// What transactions did, and how they ended.
    pub async fn transactions(&self) -> Result<Transactions> {
        self.decode(TRANSACTIONS, Transactions::decode).await
    }

    async fn decode<T>(&self, section: u8, decode: impl Fn(&[u8]) -> Result<T, Malformed>) -> Result<T> {
        let mut sections = self.sealed.directory.extra.iter();
        let Some(number) = sections.position(|found| *found == section) else {
            return Err(Malformed("it has no index").of(self.sealed.name()));
        };
        let raw = self.frame(number as u32).await?;
        decode(&raw).map_err(|what| what.of(self.sealed.name()))
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
        Ok(made) => made.store(repository, stream).await?,
        // Somebody else has finished it meanwhile, or before.
        Err(error @ (Error::Missing { .. } | Error::Damaged { .. })) => {
            made_of.clear();
            if !is_done(repository, stream, start).await? {
                return Err(error);
            }
        }
        Err(error) => return Err(error),
    }
    read_back(repository, stream, start).await?;
    let open = open_runs(repository, stream, start).await?;
    // What is left of others may be of another server.
    let (_, others): (Vec<u64>, Vec<u64>) = open.iter().partition(|open| made_of.contains(open));
    check_open_runs(repository, stream, &others).await?;
    for open in open {
        repository.store().delete(&stream.run_name(open)).await?;
    }
    Ok(())
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

/// Checks that open runs, by where they begin, hold what the finished one does that takes their place. One that is damaged is
/// of no use to anybody.
///
/// # Errors
/// [`Error::TwoServers`] if one holds other WAL.
pub async fn check_open_runs(repository: &Repository, stream: &WalStream, starts: &[u64]) -> Result<()> {
    for &start in starts {
        match read_run(repository, stream, start).await {
            Ok(Some(open)) => check_finished(repository, stream, start, &open.bytes).await?,
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

/// The open runs that the finished run which holds the byte at `position` replaces, or will, by where they begin.
pub async fn open_runs(repository: &Repository, stream: &WalStream, position: u64) -> Result<Vec<u64>> {
    let (segment, start) = (stream.segment_of(position), stream.done_start(position));
    let prefix = names::wal_segment(stream.generation, stream.timeline, segment);
    let of_name = |name: &str| u64::from_str_radix(name.strip_prefix(&prefix)?, 16).ok();
    let mut after = match start == segment {
        true => String::new(),
        false => stream.run_name(start.saturating_sub(1)),
    };
    let mut found = Vec::new();
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
