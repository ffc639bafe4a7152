//! The index of a finished run, read without the WAL in it.
//!
//! A request may take tens of milliseconds: so what is likely to be asked for next comes with the ends of the object.

use bytes::Bytes;
use futures::future::try_join;

use crate::{
    Result,
    bytes_codec::Malformed,
    envelope::{HEADER, Kind, Opener, Pin, Sealed, TRAILER},
    repository::Repository,
};

use super::{
    WalStream,
    index::{Blocks, Index, Summary, Transactions},
    run::{BLOCKS, SUMMARY, TRANSACTIONS, check_facts, check_sections},
};

/// So much is read of an object's beginning: the header, and the facts of a run.
const START: usize = HEADER + (1 << 10);
/// So much of its end: the directory, and the index where little happened.
const END: usize = 16 << 10;

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
    /// Parts of the object that are here, each with where it begins.
    here: Vec<(u64, Bytes)>,
}

impl Indexed {
    /// The run that holds the byte at `position`; `None` if there is no such run.
    pub async fn open(repository: &Repository, stream: &WalStream, position: u64) -> Result<Option<Indexed>> {
        let name = stream.done_name(position);
        let store = repository.store();
        let Some(listed) = store.head(&name).await? else {
            return Ok(None);
        };
        let size = listed.size;
        if size < (HEADER + TRAILER) as u64 {
            return Err(Malformed("it is cut off").of(&name));
        }
        let most = |length: usize| length.min(usize::try_from(size).unwrap_or(usize::MAX));
        let at = size - most(END) as u64;
        let (start, end) = (
            store.get_range(&name, 0, most(START)),
            store.get_range(&name, at, most(END)),
        );
        let (Some(start), Some(end)) = try_join(start, end).await? else {
            return Ok(None);
        };
        let sealed = open_sealed(repository, &name, size, &start, &end).await?;
        check_sections(&sealed)?;
        let run = Indexed {
            repository: repository.clone(),
            sealed,
            here: vec![(0, start), (at, end)],
        };
        let facts = run.frame(0).await?;
        let end = check_facts(&run.sealed, &facts, stream, stream.done_start(position))?;
        match end == stream.done_end(position) {
            true => Ok(Some(run)),
            false => Err(Malformed("it is no finished run of WAL").of(&name)),
        }
    }

    /// Fetches the transactions and leaves them sealed until they are asked for; nothing if they take more than `most` bytes.
    pub async fn fetch_transactions(&mut self, most: u32) -> Result<()> {
        self.fetch_ahead(TRANSACTIONS, most).await
    }

    /// The same with the block references.
    pub async fn fetch_blocks(&mut self, most: u32) -> Result<()> {
        self.fetch_ahead(BLOCKS, most).await
    }

    async fn fetch_ahead(&mut self, section: u8, most: u32) -> Result<()> {
        let number = self.number(section)?;
        let frame = self.sealed.frame(number)?;
        if frame.sealed <= most && self.at_hand(number)?.is_none() {
            let bytes = self.sealed.fetch(&**self.repository.store(), number, 1).await?;
            self.here.push((frame.offset, bytes));
        }
        Ok(())
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
        let raw = self.frame(self.number(section)?).await?;
        decode(&raw).map_err(|what| what.of(self.sealed.name()))
    }

    /// The frame that holds a part of the index.
    fn number(&self, section: u8) -> Result<u32> {
        let mut sections = self.sealed.directory.extra.iter();
        let number = sections.position(|found| *found == section);
        let number = number.ok_or_else(|| Malformed("it has no index").of(self.sealed.name()))?;
        Ok(number as u32)
    }

    async fn frame(&self, number: u32) -> Result<Vec<u8>> {
        let sealed = match self.at_hand(number)? {
            Some(bytes) => bytes,
            None => self.sealed.fetch(&**self.repository.store(), number, 1).await?,
        };
        let mut out = Vec::new();
        self.sealed.open_frame(&mut Opener::new()?, number, &sealed, &mut out)?;
        Ok(out)
    }

    /// The sealed bytes of a frame, if they are here.
    fn at_hand(&self, number: u32) -> Result<Option<Bytes>> {
        let frame = self.sealed.frame(number)?;
        let within = |(at, bytes): &(u64, Bytes)| {
            let first = usize::try_from(frame.offset.checked_sub(*at)?).ok()?;
            let last = first.checked_add(frame.sealed as usize)?;
            (last <= bytes.len()).then(|| bytes.slice(first..last))
        };
        Ok(self.here.iter().find_map(within))
    }
}

/// Opens an object of `size` bytes of which beginning and end are here. What its trailer says is checked with the directory
/// that it leads to.
async fn open_sealed(repository: &Repository, name: &str, size: u64, start: &[u8], end: &[u8]) -> Result<Sealed> {
    let trailer = end.last_chunk::<TRAILER>().map_or([0; TRAILER], |trailer| *trailer);
    let directory = trailer.get(8..12).and_then(|bytes| bytes.first_chunk::<4>());
    let directory = directory.map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let mut hash = [0; 32];
    hash.copy_from_slice(trailer.get(24..56).unwrap_or(&[0; 32]));
    let pin = Pin { size, hash };
    let ends = (directory as usize).saturating_add(TRAILER);
    let ends = end.len().checked_sub(ends).and_then(|at| end.get(at..));
    match ends.filter(|ends| ends.len() as u64 + HEADER as u64 <= size) {
        Some(ends) => repository.open_ends(Kind::Wal, name, &pin, (start, ends)).await,
        // It is longer than what was read, or impossible.
        None => repository.open_ranged(Kind::Wal, name, &pin, directory).await,
    }
}
