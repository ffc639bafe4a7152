//! Compares a file's pages with those that lie somewhere already, and fetches only what differs.
//!
//! Invariant: after this, every page of the file is one that hashes to what the backup says: found so, or fetched and
//! checked. No frame is fetched of which all pages are there.

use repo::leaf::{self, Extent};

use crate::{Result, pages::Known};

use super::{FileEntry, Handled, Reading};

/// Bytes that are read from a file before what differs in them is fetched.
const PIECE_BYTES: usize = 4 << 20;
/// Bytes that are read and hashed at once: they are still in the processor's cache when they are.
const READ_BYTES: usize = 256 << 10;

/// What comparing came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    /// Pages of which there was one to compare.
    pub(crate) compared: u64,
    /// Pages that differed or were not there.
    pub(crate) written: u64,
    /// Bytes of these.
    pub(crate) written_bytes: u64,
    /// Bytes of frames that were fetched for them.
    pub(crate) fetched_bytes: u64,
}

/// Room that is kept from one file to the next.
#[derive(Default)]
pub(super) struct Room {
    bytes: Vec<u8>,
    known: Vec<Known>,
    wanted: Vec<Wanted>,
    /// What the pages of one run are differences against.
    bases: Vec<Known>,
}

/// A page that differs.
struct Wanted {
    /// Its number among those of its leaf.
    number: usize,
    /// What the page hashes to that is there, if there is a whole one.
    there: Option<[u8; 8]>,
}

/// Where extents of a leaf begin among its pages.
struct Begun {
    extent: Extent,
    first: usize,
}

impl Reading {
    /// Goes through all pages of `entry` in order: `local` fills a buffer from an offset in the file, as far as the file
    /// there goes; `put` is handed what differs. Both see the same file, and no byte of it twice.
    pub(crate) async fn compare(
        &mut self,
        entry: &FileEntry,
        mut local: impl FnMut(&mut [u8], u64) -> Result<usize> + Send,
        mut put: impl FnMut(u64, &[u8]) -> Result<()> + Send,
    ) -> Result<(Handled, Compared)> {
        let (mut handled, mut compared) = (Handled::default(), Compared::default());
        let mut room = std::mem::take(&mut self.room);
        for (number, slot) in entry.leaves.iter().enumerate() {
            let extents = self.extents(entry, number as u64, slot).await?;
            let mut begun = Vec::with_capacity(extents.len());
            room.known.clear();
            for extent in extents {
                let first = room.known.len();
                let packs = self.pages.packs();
                packs.known(extent.pages_at, extent.pages, &mut room.known).await?;
                begun.push(Begun { extent, first });
            }
            let page_size = self.page_size as usize;
            let start = (entry.first_leaf + number as u64) * u64::from(leaf::LEAF_PAGES) * u64::from(self.page_size);
            let end = entry
                .size
                .min(start + room.known.len() as u64 * u64::from(self.page_size));
            let mut at = start;
            while at < end {
                let length = ((end - at) as usize).min(PIECE_BYTES);
                let piece = Piece {
                    entry,
                    leaf: start / u64::from(self.page_size),
                    at,
                    first: ((at - start) / u64::from(self.page_size)) as usize,
                    length,
                    page_size,
                };
                self.piece(
                    &piece,
                    &begun,
                    &mut room,
                    &mut local,
                    &mut put,
                    &mut handled,
                    &mut compared,
                )
                .await?;
                at += length as u64;
            }
        }
        self.room = room;
        compared.fetched_bytes = self.pages.take_fetched();
        Ok((handled, compared))
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one step of the loop above, which keeps all of this"
    )]
    async fn piece(
        &mut self,
        piece: &Piece<'_>,
        begun: &[Begun],
        room: &mut Room,
        local: &mut (impl FnMut(&mut [u8], u64) -> Result<usize> + Send),
        put: &mut (impl FnMut(u64, &[u8]) -> Result<()> + Send),
        handled: &mut Handled,
        compared: &mut Compared,
    ) -> Result<()> {
        let Room {
            bytes,
            known,
            wanted,
            bases,
        } = room;
        if bytes.len() < piece.length {
            bytes.resize(piece.length, 0);
        }
        let bytes = &mut bytes[..piece.length];
        wanted.clear();
        // Up to where the CRC goes. It has to go in order, and what differs is not here yet.
        let mut summed = 0;
        for from in (0..piece.length).step_by(READ_BYTES) {
            let part = &mut bytes[from..piece.length.min(from + READ_BYTES)];
            let there = local(part, piece.at + from as u64)?;
            for (page, content) in part.chunks(piece.page_size).enumerate() {
                let number = piece.first + from / piece.page_size + page;
                let whole = page * piece.page_size + content.len() <= there;
                compared.compared += u64::from(whole);
                let there = whole.then(|| self.pages.hash(content));
                if there != Some(known[number].hash) {
                    wanted.push(Wanted { number, there });
                }
            }
            if wanted.is_empty() {
                handled.crc = crc32c::crc32c_append(handled.crc, part);
                summed += part.len();
            }
        }
        let mut next = 0;
        while let Some(run) = run(wanted, next, known, begun) {
            let first = wanted[next].number;
            let from = (first - piece.first) * piece.page_size;
            let to = piece.length.min(from + run.pages * piece.page_size);
            let Some(begun) = begun.get(run.extent) else {
                return Err(self.misfit(piece.entry, piece.leaf + first as u64, known[first].at));
            };
            let is_made = begun.extent.base.is_some();
            let until = until(&wanted[next..], known);
            self.pages.fetch_wanted(known[first].at, is_made, until).await?;
            bases.clear();
            if let Some(base) = begun.extent.base {
                let packs = self.pages.packs();
                let base = packs.advance(base, (first - begun.first) as u32).await?;
                packs.known(base, run.pages as u32, bases).await?;
            }
            let run = &wanted[next..next + run.pages];
            self.fill(piece, run, known, bases, &mut bytes[from..to]).await?;
            put(piece.at + from as u64, &bytes[from..to])?;
            compared.written += run.len() as u64;
            compared.written_bytes += (to - from) as u64;
            next += run.len();
        }
        handled.crc = crc32c::crc32c_append(handled.crc, &bytes[summed..]);
        handled.bytes += piece.length as u64;
        Ok(())
    }

    /// Brings `room` from what is there to what the backup has of the pages of a run. Where what is there is what a page was
    /// compared with when it was backed up, the difference alone makes the page of it.
    async fn fill(
        &mut self,
        piece: &Piece<'_>,
        run: &[Wanted],
        known: &[Known],
        bases: &[Known],
        room: &mut [u8],
    ) -> Result<()> {
        let page_size = piece.page_size;
        let is_base = |page: usize| bases.get(page).is_some_and(|base| run[page].there == Some(base.hash));
        let mut page = 0;
        while let Some(wanted) = run.get(page) {
            let at = known[wanted.number].at;
            let in_file = piece.leaf + wanted.number as u64;
            let from = page * page_size;
            if is_base(page) {
                let place = room.get_mut(from..from + page_size);
                let Some(place) = place else {
                    return Err(self.misfit(piece.entry, in_file, at));
                };
                let made = self.pages.of_base(at, place).await?;
                place.copy_from_slice(made);
                page += 1;
                continue;
            }
            let pages = (page + 1..run.len()).take_while(|page| !is_base(*page)).count() + 1;
            let to = room.len().min(from + pages * page_size);
            let extent = Extent {
                pages: pages as u32,
                pages_at: at,
                base: bases.get(page).map(|base| base.at),
            };
            let mut filled = from;
            let take = |content: &[u8]| {
                let place = room[..to].get_mut(filled..filled + content.len());
                place.into_iter().for_each(|place| place.copy_from_slice(content));
                filled += content.len();
                Ok(())
            };
            self.pages.read(&extent, take).await?;
            if filled != to {
                return Err(self.misfit(piece.entry, in_file, at));
            }
            page += pages;
        }
        Ok(())
    }
}

/// Some pages of a leaf.
struct Piece<'a> {
    entry: &'a FileEntry,
    /// Number of the leaf's first page in the file.
    leaf: u64,
    /// Where they lie in the file.
    at: u64,
    /// Number of the first within its leaf.
    first: usize,
    /// Bytes.
    length: usize,
    page_size: usize,
}

/// Wanted pages one after another, in one frame and of one extent.
struct Run {
    extent: usize,
    pages: usize,
}

fn run(wanted: &[Wanted], next: usize, known: &[Known], begun: &[Begun]) -> Option<Run> {
    let first = wanted.get(next)?.number;
    let extent = begun.partition_point(|begun| begun.first <= first).checked_sub(1)?;
    let end = begun.get(extent + 1).map_or(usize::MAX, |begun| begun.first);
    let same = |(index, page): (usize, &Wanted)| {
        page.number == first + index && page.number < end && known[page.number].at.frame == known[first].at.frame
    };
    let pages = wanted[next..]
        .iter()
        .enumerate()
        .take_while(|one| same((one.0, one.1)))
        .count();
    Some(Run { extent, pages })
}

/// Behind the last frame that follows on the first wanted page's without one between that nobody wants.
fn until(wanted: &[Wanted], known: &[Known]) -> u32 {
    let at = known[wanted[0].number].at;
    let mut until = at.frame + 1;
    for page in wanted {
        let next = known[page.number].at;
        if (next.source, next.pack) != (at.source, at.pack) || next.frame > until || next.frame + 1 < until {
            break;
        }
        until = next.frame + 1;
    }
    until
}

#[cfg(test)]
mod tests;
