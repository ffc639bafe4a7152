//! The walk's part between pages: their headers, and what they begin with.

use super::{Cause, Stop, Walker};
use crate::Lsn;
use crate::bytes::u32_at;
use crate::error::Error;
use crate::wal::page::{First, LONG_HEADER_BYTES, WalPageHeader};

impl Walker {
    pub(super) fn gather_header(&mut self, rest: &mut &[u8]) -> Result<(), Stop> {
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
}
