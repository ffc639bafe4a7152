//! The walk's part within pages: from a record's first byte to handing it out.

use super::{Cause, Stop, Walker, aligned};
use crate::Lsn;
use crate::bytes::u32_at;
use crate::wal::record::{
    HEADER_BYTES, RM_XLOG, Record, RecordHeader, XlogRecord, is_resource_manager, longest_record,
};

impl Walker {
    /// At a record's start: hands it out where it lies, or begins to put it together.
    pub(super) fn begin(
        &mut self,
        rest: &mut &[u8],
        page_left: u64,
        on_record: &mut impl FnMut(Record<'_>),
    ) -> Result<(), Stop> {
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
    pub(super) fn extend_open(
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
            major: self.major,
            lsn,
            end: aligned(self.position),
            prev,
            xid,
            rmid,
            info,
            bytes,
        };
        if rmid == RM_XLOG {
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

    fn segment_end(&self, lsn: Lsn) -> Lsn {
        let size = self.geometry.segment_size();
        match size.offset_of(lsn) {
            0 => lsn,
            offset => lsn.saturating_add(size.bytes() - offset),
        }
    }
}
