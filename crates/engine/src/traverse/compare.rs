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
    /// Numbers, within `known`, of pages that differ.
    wanted: Vec<usize>,
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
                self.pages.known(&extent, &mut room.known).await?;
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
        piece: &Piece,
        begun: &[Begun],
        room: &mut Room,
        local: &mut (impl FnMut(&mut [u8], u64) -> Result<usize> + Send),
        put: &mut (impl FnMut(u64, &[u8]) -> Result<()> + Send),
        handled: &mut Handled,
        compared: &mut Compared,
    ) -> Result<()> {
        let Room { bytes, known, wanted } = room;
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
                if !whole || known[number].hash != self.pages.hash(content) {
                    wanted.push(number);
                }
            }
            if wanted.is_empty() {
                handled.crc = crc32c::crc32c_append(handled.crc, part);
                summed += part.len();
            }
        }
        let mut next = 0;
        while let Some(run) = run(wanted, next, known, begun) {
            let first = wanted[next];
            self.pages
                .fetch_wanted(
                    known[first].at,
                    begun[run.extent].extent.base.is_some(),
                    until(&wanted[next..], known),
                )
                .await?;
            let base = match begun[run.extent].extent.base {
                Some(base) => Some(self.pages.after(base, (first - begun[run.extent].first) as u32).await?),
                None => None,
            };
            let extent = Extent {
                pages: run.pages as u32,
                pages_at: known[first].at,
                base,
            };
            let from = (first - piece.first) * piece.page_size;
            let to = piece.length.min(from + run.pages * piece.page_size);
            let mut filled = from;
            self.pages
                .read(&extent, |content| {
                    let room = bytes.get_mut(filled..filled + content.len());
                    let room = room.filter(|_| filled + content.len() <= to);
                    let Some(room) = room else {
                        return Err(misfit(&known[first]));
                    };
                    room.copy_from_slice(content);
                    filled += content.len();
                    Ok(())
                })
                .await?;
            if filled != to {
                return Err(misfit(&known[first]));
            }
            put(piece.at + from as u64, &bytes[from..to])?;
            compared.written += run.pages as u64;
            compared.written_bytes += (to - from) as u64;
            next += run.pages;
        }
        handled.crc = crc32c::crc32c_append(handled.crc, &bytes[summed..]);
        handled.bytes += piece.length as u64;
        Ok(())
    }
}

/// Some pages of a leaf.
struct Piece {
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

fn run(wanted: &[usize], next: usize, known: &[Known], begun: &[Begun]) -> Option<Run> {
    let first = *wanted.get(next)?;
    let extent = begun.partition_point(|begun| begun.first <= first).checked_sub(1)?;
    let end = begun.get(extent + 1).map_or(usize::MAX, |begun| begun.first);
    let same = |(number, page): (usize, &usize)| {
        *page == first + number && *page < end && known[*page].at.frame == known[first].at.frame
    };
    let pages = wanted[next..]
        .iter()
        .enumerate()
        .take_while(|one| same((one.0, one.1)))
        .count();
    Some(Run { extent, pages })
}

/// Behind the last frame that follows on the first wanted page's without one between that nobody wants.
fn until(wanted: &[usize], known: &[Known]) -> u32 {
    let at = known[wanted[0]].at;
    let mut until = at.frame + 1;
    for page in wanted {
        let next = known[*page].at;
        if (next.source, next.pack) != (at.source, at.pack) || next.frame > until || next.frame + 1 < until {
            break;
        }
        until = next.frame + 1;
    }
    until
}

fn misfit(known: &Known) -> crate::Error {
    let what = format!(
        "the pages of frame {} of pack {} are not as long as the file has them",
        known.at.frame, known.at.pack
    );
    repo::Error::Damaged {
        name: "a pack".into(),
        what,
    }
    .into()
}
