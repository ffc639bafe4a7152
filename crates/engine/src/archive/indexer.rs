//! Makes the index of WAL: walks its records, checks each, and notes what it did.

mod gathered;
mod touches;

use pgformat::{
    Lsn, Major,
    wal::{Geometry, Walker},
};
use repo::wal::{Finish, index::Index};

use crate::{Error, Result};

use gathered::Gathered;

/// The longest record that is put together for a stored index, bytes. A server may log one of 1 GiB
/// (`XLogRecordMaxSize`, `access/xlogrecord.h`), and memory must not depend on it. Whoever needs what is in or behind it
/// walks the bytes.
const LONGEST_RECORD: usize = 8 << 20;

/// How far before a segment its walk begins, bytes: a few pages, and a multiple of every size of theirs.
const FIRST_LOOK_BACK: u64 = 64 << 10;

/// Walks over consecutive WAL and makes an index of each stretch.
///
/// Records that it cannot read end the walk, not the work: the index says where and why, and the walk begins again at
/// the next segment.
pub struct Indexer {
    geometry: Geometry,
    generation: u64,
    /// The version that writes the WAL, where the caller knows it.
    told: Option<Major>,
    /// The version, as the pages say.
    major: Option<Major>,
    /// Position of the next byte.
    position: u64,
    walker: Option<Walker>,
    /// The longest record that is put together, bytes.
    longest: usize,
    gathered: Gathered,
}

impl std::fmt::Debug for Indexer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Indexer({})", Lsn(self.position))
    }
}

impl Indexer {
    /// Begins at `start`: a segment's first byte, or where a record begins. Given the bytes of the segment before
    /// first, it knows the record that lies across.
    pub fn new(geometry: Geometry, generation: u64, start: u64) -> Result<Indexer> {
        let mut indexer = Indexer {
            geometry,
            generation,
            told: None,
            major: None,
            position: start,
            walker: None,
            longest: usize::MAX,
            gathered: Gathered::default(),
        };
        indexer.walker = Some(indexer.walker(start)?);
        indexer.gathered.begin(true);
        Ok(indexer)
    }

    /// Begins at the segment that starts at `start`, knowing the record that lies across its beginning: `before` hands out
    /// bytes from one position to another, or says that it has not all of them.
    ///
    /// A record of more than 8 MiB ends this walk, up to the next segment: memory stays bounded where indexes are made to be
    /// stored.
    ///
    /// Few records are long. So little is read at first, and more only where a record's beginning is not in it.
    pub fn after(
        geometry: Geometry,
        generation: u64,
        start: u64,
        mut before: impl FnMut(u64, u64, &mut dyn FnMut(&[u8])) -> bool,
    ) -> Result<Indexer> {
        let mut back = FIRST_LOOK_BACK;
        while back <= geometry.segment_size().bytes() && back <= start {
            let mut indexer = Indexer::new(geometry, generation, start - back)?.within(LONGEST_RECORD);
            if !before(start - back, start, &mut |bytes| indexer.feed(bytes)) || indexer.position != start {
                break;
            }
            let knows = indexer.walker.as_ref().is_some_and(|walker| walker.leading_left() == 0);
            if knows {
                drop(indexer.index());
                return Ok(indexer);
            }
            back *= 4;
        }
        Ok(Indexer::new(geometry, generation, start)?.within(LONGEST_RECORD))
    }

    /// Says which version wrote the WAL. Without it, records that stand before the first page's head cannot be read: needed
    /// where the walk does not begin at a page.
    pub fn of_major(mut self, major: Major) -> Indexer {
        self.told = Some(major);
        self.walker = self.walker.map(|walker| walker.of_major(major));
        self
    }

    fn within(mut self, longest: usize) -> Indexer {
        self.longest = longest;
        self
    }

    /// Position of the next byte.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Where the last whole record ends.
    pub fn end(&self) -> Option<u64> {
        self.gathered.last_end
    }

    /// The version that wrote the WAL, as soon as a page told it.
    pub fn major(&self) -> Option<Major> {
        self.major
    }

    fn walker(&self, start: u64) -> Result<Walker> {
        let walker = Walker::new(self.geometry, Lsn(start)).map_err(|error| Error::Failed {
            code: "wal-position",
            what: error.to_string(),
            hint: "Report this as a bug.".into(),
        })?;
        let walker = walker.of_system(self.generation);
        Ok(match self.told {
            Some(major) => walker.of_major(major),
            None => walker,
        })
    }

    /// Takes in the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let segment = self.geometry.segment_size().bytes();
            let room = segment - self.position % segment;
            let (now, later) = rest.split_at(usize::try_from(room).unwrap_or(usize::MAX).min(rest.len()));
            if self.position.is_multiple_of(segment) && self.walker.is_none() {
                // After a stop: once more from here. What lies across the start is lost to this walk.
                self.walker = self.walker(self.position).ok();
                self.gathered.joined = false;
                self.gathered.leading_told = false;
            }
            self.walk(now);
            self.position = self.position.saturating_add(now.len() as u64);
            rest = later;
        }
    }

    fn walk(&mut self, bytes: &[u8]) {
        let Some(walker) = &mut self.walker else {
            return;
        };
        let gathered = &mut self.gathered;
        let walked = walker.feed(bytes, |record| gathered.record(&record));
        if !gathered.leading_told && !walker.leading().is_empty() {
            // The end of a record whose beginning was not seen.
            gathered.unjoined = true;
            gathered.leading_told = walker.leading_left() == 0;
        }
        self.major = walker.major().or(self.major);
        let held = walker.tail().map_or(0, |tail| tail.bytes.len());
        let stopped = match walked {
            Err(stop) => stop.to_string(),
            Ok(()) if held.max(walker.leading().len()) > self.longest => {
                format!("a record is longer than {} bytes", self.longest)
            }
            Ok(()) => return,
        };
        self.gathered.broken.get_or_insert(stopped);
        self.walker = None;
    }
}

impl Finish for Indexer {
    fn bytes(&mut self, start: u64, bytes: &[u8]) {
        if start != self.position {
            // Somebody left something out: what was gathered is of another stretch.
            self.position = start;
            self.walker = self.walker(start).ok();
            self.gathered = Gathered::default();
            self.gathered.begin(false);
        }
        self.feed(bytes);
    }

    fn index(&mut self) -> Index {
        let walking = self.walker.is_some();
        let index = self.gathered.take();
        self.gathered.begin(walking);
        index
    }
}

#[cfg(test)]
mod tests;
