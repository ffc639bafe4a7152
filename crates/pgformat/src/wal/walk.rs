//! Walks over WAL as its bytes come, and checks every record on the way.
//!
//! Feed consecutive pieces of any size. A record that lies within one page and one piece is handed out
//! where it lies; others are put together first. Nothing is handed out whose checksum, length or link
//! to the record before does not fit. Where the walk stops it stays stopped.

mod cause;
mod pages;
mod records;

pub use cause::{Cause, Stop};

use super::page::{Geometry, LONG_HEADER_BYTES};
use super::record::Record;
use crate::error::{Error, Result};
use crate::{Lsn, Major, Tli};

/// A record that began and did not end yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail<'a> {
    /// Where it begins.
    pub lsn: Lsn,
    /// Its bytes so far, without page headers.
    pub bytes: &'a [u8],
}

/// A walk over WAL.
///
/// Invariant: `position` is the position of the next byte fed, and every byte before it was taken
/// in exactly once.
#[derive(Debug, Clone)]
pub struct Walker {
    geometry: Geometry,
    position: Lsn,
    major: Option<Major>,
    system_identifier: Option<u64>,
    timeline: Option<Tli>,
    /// Where the last whole record begins.
    last: Option<Lsn>,
    /// Bytes before this position mean nothing: padding, or the rest of a segment after a switch.
    skip_until: Lsn,
    /// The page header being gathered, and how much of it is there.
    header: [u8; LONG_HEADER_BYTES],
    header_filled: usize,
    /// Where the record begins whose bytes so far are in `buffer`.
    open: Option<Lsn>,
    buffer: Vec<u8>,
    /// The end of a record whose beginning was not fed.
    leading: Vec<u8>,
    leading_left: u32,
    /// A record that was given up; the next one must say so.
    overwritten: Option<Lsn>,
    stop: Option<Stop>,
}

impl Walker {
    /// Begins at `start`: where a record begins, or where a page begins. At a page's start the end of
    /// an earlier record is passed over; it is kept in [`Walker::leading`].
    pub fn new(geometry: Geometry, start: Lsn) -> Result<Self> {
        let offset = geometry.offset_in_page(start);
        let page = Lsn(start.0 - offset);
        // The upper half of all positions is refused so that no sum below can pass the last one.
        if !start.0.is_multiple_of(8)
            || (offset != 0 && offset < geometry.header_bytes(page) as u64)
            || start.0 > u64::MAX / 2
        {
            return Err(Error::malformed(
                "a position where a WAL record or page can begin",
                start.to_string(),
            ));
        }
        Ok(Walker {
            geometry,
            position: start,
            major: None,
            system_identifier: None,
            timeline: None,
            last: None,
            skip_until: start,
            header: [0; LONG_HEADER_BYTES],
            header_filled: 0,
            open: None,
            buffer: Vec::new(),
            leading: Vec::new(),
            leading_left: 0,
            overwritten: None,
            stop: None,
        })
    }

    /// Stops at a page of another version. Without it, the first page tells the version.
    pub fn of_major(mut self, major: Major) -> Self {
        self.major = Some(major);
        self
    }

    /// Stops at a segment of another cluster. Without it, the first segment's start tells the cluster.
    pub fn of_system(mut self, system_identifier: u64) -> Self {
        self.system_identifier = Some(system_identifier);
        self
    }

    /// Takes in the next bytes and hands out each record that they complete.
    ///
    /// `Err` is final: the walk stands where valid WAL stops, and every further call gives the same.
    /// [`Stop::is_end`] tells whether it looks like the end of what was written.
    pub fn feed(&mut self, bytes: &[u8], mut on_record: impl FnMut(Record<'_>)) -> Result<(), Stop> {
        if let Some(stop) = self.stop {
            return Err(stop);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Err(stop) = self.step(&mut rest, &mut on_record) {
                self.stop = Some(stop);
                return Err(stop);
            }
        }
        Ok(())
    }

    /// Position of the next byte to feed.
    pub fn position(&self) -> Lsn {
        self.position
    }

    /// The version, as soon as a page told it.
    pub fn major(&self) -> Option<Major> {
        self.major
    }

    /// The cluster, as soon as the start of a segment told it.
    pub fn system_identifier(&self) -> Option<u64> {
        self.system_identifier
    }

    /// The timeline of the latest page.
    pub fn timeline(&self) -> Option<Tli> {
        self.timeline
    }

    /// The record that has begun and not ended.
    pub fn tail(&self) -> Option<Tail<'_>> {
        self.open.map(|lsn| Tail {
            lsn,
            bytes: &self.buffer,
        })
    }

    /// The end of a record that began before the start, without page headers.
    pub fn leading(&self) -> &[u8] {
        &self.leading
    }

    /// Bytes of that record that are still to come.
    pub fn leading_left(&self) -> u32 {
        self.leading_left
    }

    /// Takes in at least one byte, or stops.
    fn step(&mut self, rest: &mut &[u8], on_record: &mut impl FnMut(Record<'_>)) -> Result<(), Stop> {
        if self.position < self.skip_until {
            self.take(rest, self.skip_until.bytes_since(self.position));
            return Ok(());
        }
        let offset = self.geometry.offset_in_page(self.position);
        if offset == 0 || self.header_filled > 0 {
            return self.gather_header(rest);
        }
        let page_left = self.geometry.page_bytes() - offset;
        if self.leading_left > 0 {
            let piece = self.take(rest, page_left.min(u64::from(self.leading_left)));
            self.leading.extend_from_slice(piece);
            self.leading_left -= piece.len() as u32;
            if self.leading_left == 0 {
                self.skip_until = aligned(self.position);
            }
            return Ok(());
        }
        match self.open {
            Some(lsn) => self.extend_open(lsn, rest, page_left, on_record),
            None => self.begin(rest, page_left, on_record),
        }
    }

    /// Takes up to `most` bytes off the front.
    fn take<'a>(&mut self, rest: &mut &'a [u8], most: u64) -> &'a [u8] {
        let length = usize::try_from(most).unwrap_or(usize::MAX).min(rest.len());
        let (piece, after) = rest.split_at(length);
        *rest = after;
        self.position = self.position.saturating_add(length as u64);
        piece
    }
}

/// Records begin at multiples of 8 bytes (`MAXALIGN`).
fn aligned(lsn: Lsn) -> Lsn {
    Lsn(lsn.0.saturating_add(7) & !7)
}

#[cfg(test)]
mod tests;
