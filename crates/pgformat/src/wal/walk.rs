//! Walks over WAL as its bytes come, and checks every record on the way.
//!
//! Feed consecutive pieces of any size. A record that lies within one page and one piece is handed out
//! where it lies; others are put together first. Nothing is handed out whose checksum, length or link
//! to the record before does not fit. Where the walk stops it stays stopped.

mod cause;

pub use cause::{Cause, Stop};

use super::page::{First, Geometry, LONG_HEADER_BYTES, WalPageHeader};
use super::record::{HEADER_BYTES, Record, RecordHeader, XlogRecord, is_resource_manager, longest_record};
use crate::bytes::u32_at;
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

    /// Says where the last record before the start begins; the first record must link to it.
    pub fn after(mut self, previous: Lsn) -> Self {
        self.last = Some(previous);
        self
    }

    /// Takes over a record left open by an earlier walk that ended where this one begins.
    pub fn continuing(mut self, tail: Tail<'_>) -> Self {
        self.open = Some(tail.lsn);
        self.buffer.extend_from_slice(tail.bytes);
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

    /// Where the last whole record begins.
    pub fn last_record(&self) -> Option<Lsn> {
        self.last
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

    /// At a record's start: hands it out where it lies, or begins to put it together.
    fn begin(&mut self, rest: &mut &[u8], page_left: u64, on_record: &mut impl FnMut(Record<'_>)) -> Result<(), Stop> {
        let lsn = self.position;
        if let Some(total) = u32_at(rest, 0) {
            self.check_length(lsn, total)?;
            let whole = usize::try_from(total).ok().filter(|_| u64::from(total) <= page_left);
            if let Some(record) = whole.and_then(|total| rest.get(..total)) {
                self.take(rest, u64::from(total));
                return self.hand_out(lsn, record, on_record);
            }
        }
        self.open = Some(lsn);
        self.buffer.clear();
        Ok(())
    }

    /// Adds to the record being put together. Its length and its header are checked as soon as they
    /// are there: garbage must not make us gather a gigabyte.
    fn extend_open(
        &mut self,
        lsn: Lsn,
        rest: &mut &[u8],
        page_left: u64,
        on_record: &mut impl FnMut(Record<'_>),
    ) -> Result<(), Stop> {
        let had = self.buffer.len();
        let total = u32_at(&self.buffer, 0);
        let wanted = match total {
            None => 4,
            Some(total) if had < HEADER_BYTES => total.min(HEADER_BYTES as u32),
            Some(total) => total,
        };
        let piece = self.take(rest, page_left.min(u64::from(wanted).saturating_sub(had as u64)));
        self.buffer.extend_from_slice(piece);
        if total.is_none()
            && let Some(total) = u32_at(&self.buffer, 0)
        {
            self.check_length(lsn, total)?;
        }
        if had < HEADER_BYTES
            && let Some(header) = RecordHeader::parse(&self.buffer)
        {
            self.check_header(lsn, &header)?;
        }
        if total.is_some_and(|total| self.buffer.len() as u64 >= u64::from(total)) {
            let buffer = std::mem::take(&mut self.buffer);
            self.open = None;
            let handed = self.hand_out(lsn, &buffer, on_record);
            // The space is used again, unless one huge record would hold it for ever.
            if buffer.capacity() <= 1 << 20 {
                self.buffer = buffer;
                self.buffer.clear();
            }
            return handed;
        }
        Ok(())
    }

    fn hand_out(&mut self, lsn: Lsn, bytes: &[u8], on_record: &mut impl FnMut(Record<'_>)) -> Result<(), Stop> {
        let header = RecordHeader::parse(bytes).ok_or(Stop {
            lsn,
            cause: Cause::Length {
                found: bytes.len() as u32,
            },
        })?;
        self.check_header(lsn, &header)?;
        if !header.fits(bytes) {
            return Err(Stop {
                lsn,
                cause: Cause::Checksum,
            });
        }
        let RecordHeader {
            xid, prev, info, rmid, ..
        } = header;
        let mut record = Record {
            lsn,
            end: aligned(self.position),
            prev,
            xid,
            rmid,
            info,
            bytes,
        };
        if rmid == super::record::RM_XLOG {
            let kind = record.xlog();
            if kind == Some(XlogRecord::Switch) {
                record.end = self.segment_end(record.end);
            }
            if let Some(expected) = self.overwritten
                && kind != Some(XlogRecord::OverwriteContrecord { overwritten: expected })
            {
                return Err(Stop {
                    lsn,
                    cause: Cause::NotOverwritten { expected },
                });
            }
        } else if let Some(expected) = self.overwritten {
            return Err(Stop {
                lsn,
                cause: Cause::NotOverwritten { expected },
            });
        }
        self.overwritten = None;
        self.last = Some(lsn);
        self.skip_until = record.end;
        on_record(record);
        Ok(())
    }

    fn check_length(&self, lsn: Lsn, total: u32) -> Result<(), Stop> {
        match total {
            0 => Err(Stop {
                lsn,
                cause: Cause::NoRecord,
            }),
            found if (found as usize) < HEADER_BYTES || found > longest_record(self.major) => Err(Stop {
                lsn,
                cause: Cause::Length { found },
            }),
            _ => Ok(()),
        }
    }

    fn check_header(&self, lsn: Lsn, header: &RecordHeader) -> Result<(), Stop> {
        if !is_resource_manager(header.rmid, self.major) {
            return Err(Stop {
                lsn,
                cause: Cause::ResourceManager { found: header.rmid },
            });
        }
        match self.last {
            Some(expected) if header.prev != expected => Err(Stop {
                lsn,
                cause: Cause::Link {
                    found: header.prev,
                    expected,
                },
            }),
            None if header.prev >= lsn => Err(Stop {
                lsn,
                cause: Cause::LinkForward { found: header.prev },
            }),
            _ => Ok(()),
        }
    }

    fn gather_header(&mut self, rest: &mut &[u8]) -> Result<(), Stop> {
        let page = Lsn(self.position.0 - self.header_filled as u64);
        let wanted = self.geometry.header_bytes(page);
        let piece = self.take(rest, (wanted - self.header_filled) as u64);
        let filled = self.header_filled + piece.len();
        if let Some(place) = self.header.get_mut(self.header_filled..filled) {
            place.copy_from_slice(piece);
        }
        self.header_filled = filled;
        if filled == wanted {
            self.header_filled = 0;
            let header = self.header;
            self.enter_page(page, header.get(..wanted).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Judges the head of the page at `page`.
    fn enter_page(&mut self, page: Lsn, bytes: &[u8]) -> Result<(), Stop> {
        let stop = |cause| Err(Stop { lsn: page, cause });
        if bytes.iter().all(|byte| *byte == 0) {
            return stop(Cause::UnwrittenPage);
        }
        let header = match WalPageHeader::parse(bytes) {
            Ok(header) => header,
            Err(Error::Unsupported { .. }) => {
                return stop(Cause::Magic {
                    found: u16::from_le_bytes([self.header[0], self.header[1]]),
                });
            }
            Err(_) => return stop(Cause::PageHeader),
        };
        let expected_major = *self.major.get_or_insert(header.major);
        if header.major != expected_major {
            return stop(Cause::Version {
                found: header.major,
                expected: expected_major,
            });
        }
        if header.address < page {
            return stop(Cause::RecycledPage {
                address: header.address,
            });
        }
        if header.address > page {
            return stop(Cause::PageAddress { found: header.address });
        }
        match header.long {
            Some(long) => {
                let expected = *self.system_identifier.get_or_insert(long.system_identifier);
                if long.system_identifier != expected {
                    return stop(Cause::OtherSystem {
                        found: long.system_identifier,
                        expected,
                    });
                }
                // A long header stands at a segment's start only, and every segment's start has one.
                if long.geometry != self.geometry || bytes.len() < LONG_HEADER_BYTES {
                    return stop(Cause::Geometry);
                }
            }
            None if bytes.len() >= LONG_HEADER_BYTES => return stop(Cause::Geometry),
            None => {}
        }
        if self.timeline.is_some_and(|latest| header.timeline < latest) {
            return stop(Cause::TimelineBackwards { found: header.timeline });
        }
        self.timeline = Some(header.timeline);
        self.join(page, &header)
    }

    /// Holds what the page begins with against what the page before left open.
    fn join(&mut self, page: Lsn, header: &WalPageHeader) -> Result<(), Stop> {
        if header.first == First::Overwrite {
            // A walk that began in between did not see what is given up here.
            self.overwritten = self.open.take();
            self.buffer.clear();
            self.leading_left = 0;
            return Ok(());
        }
        let awaited = match self.open {
            Some(_) => u32_at(&self.buffer, 0).map(|total| u64::from(total).saturating_sub(self.buffer.len() as u64)),
            None if self.leading_left > 0 => Some(u64::from(self.leading_left)),
            None => None,
        };
        match (awaited, header.first == First::Continuation) {
            (None, false) => Ok(()),
            (Some(awaited), true) if awaited > 0 && awaited == u64::from(header.remaining) => Ok(()),
            // The walk begins here: how the record began is not known, only how much is left.
            (None, true) if self.last.is_none() && header.remaining > 0 => {
                self.leading_left = header.remaining;
                Ok(())
            }
            _ => Err(Stop {
                lsn: page,
                cause: Cause::Continuation { open: self.open },
            }),
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

    fn segment_end(&self, lsn: Lsn) -> Lsn {
        let size = self.geometry.segment_size();
        match size.offset_of(lsn) {
            0 => lsn,
            offset => lsn.saturating_add(size.bytes() - offset),
        }
    }
}

/// Records begin at multiples of 8 bytes (`MAXALIGN`).
fn aligned(lsn: Lsn) -> Lsn {
    Lsn(lsn.0.saturating_add(7) & !7)
}

#[cfg(test)]
mod tests;
