//! WAL segments: their size, their names, and the other names found in `pg_wal` and in archives.
//!
//! Name rules: `access/xlog_internal.h` (`XLogFileName`, `TLHistoryFileName`, `BackupHistoryFileName`).

use crate::bytes::hex8;
use crate::error::{Error, Result};
use crate::{Lsn, Tli};

/// Bytes of a WAL segment: a power of two from 1 MiB to 1 GiB, fixed by `initdb --wal-segsize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SegmentSize(u32);

impl SegmentSize {
    /// What `initdb` takes if nothing else is said: 16 MiB.
    pub const DEFAULT: SegmentSize = SegmentSize(16 << 20);

    /// Refuses what is no size of a WAL segment.
    pub fn new(bytes: u64) -> Result<Self> {
        match u32::try_from(bytes) {
            Ok(size) if size.is_power_of_two() && (1 << 20..=1 << 30).contains(&size) => Ok(SegmentSize(size)),
            _ => Err(Error::malformed(
                "a WAL segment size (a power of two from 1 MiB to 1 GiB)",
                bytes.to_string(),
            )),
        }
    }

    /// Bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }

    /// Number of the segment that holds the byte at `lsn`.
    pub fn segment_of(self, lsn: Lsn) -> u64 {
        lsn.0 / self.bytes()
    }

    /// Bytes from the start of its segment to `lsn`.
    pub fn offset_of(self, lsn: Lsn) -> u64 {
        lsn.0 % self.bytes()
    }

    /// Segments per 4 GiB: the third part of a name counts up to this.
    fn per_file_id(self) -> u64 {
        (1 << 32) / self.bytes()
    }
}

/// One segment on one timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The timeline.
    pub timeline: Tli,
    /// Segments before it since position 0/0.
    pub number: u64,
}

impl SegmentName {
    /// The segment that holds the byte at `lsn`.
    pub fn holding(timeline: Tli, lsn: Lsn, size: SegmentSize) -> Self {
        SegmentName {
            timeline,
            number: size.segment_of(lsn),
        }
    }

    /// The 24 hexadecimal digits. They depend on the size: the same number has another name in a
    /// cluster of another segment size.
    pub fn file_name(self, size: SegmentSize) -> String {
        let per_id = size.per_file_id();
        format!(
            "{:08X}{:08X}{:08X}",
            self.timeline.0,
            self.number / per_id,
            self.number % per_id
        )
    }

    /// Reads 24 hexadecimal digits; refuses a name that no segment of this size has.
    pub fn parse(text: &str, size: SegmentSize) -> Result<Self> {
        parse_segment(text, size).ok_or_else(|| Error::malformed("the name of a WAL segment of this size", text))
    }

    /// Position of its first byte.
    pub fn start(self, size: SegmentSize) -> Lsn {
        Lsn(self.number.saturating_mul(size.bytes()))
    }

    /// Position after its last byte.
    pub fn end(self, size: SegmentSize) -> Lsn {
        self.start(size).saturating_add(size.bytes())
    }

    /// The segment after it on the same timeline.
    pub fn next(self) -> Self {
        SegmentName {
            timeline: self.timeline,
            number: self.number.saturating_add(1),
        }
    }
}

fn parse_segment(text: &str, size: SegmentSize) -> Option<SegmentName> {
    let timeline = Tli::from_hex(text.get(..8)?).ok()?;
    let id = u64::from(hex8(text.get(8..16)?)?);
    let within = u64::from(hex8(text.get(16..)?)?);
    // Names such as ...000000FF exist with 16 MiB segments and do not with 1 GiB ones.
    (within < size.per_file_id()).then(|| SegmentName {
        timeline,
        number: id * size.per_file_id() + within,
    })
}

/// What a name in `pg_wal`, or one handed to `archive_command`, stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WalFileName {
    /// A whole segment.
    Segment(SegmentName),
    /// `<segment>.partial`: the last, unfinished segment of a timeline that ended there.
    Partial(SegmentName),
    /// `<timeline>.history`: how the timeline came about.
    History(Tli),
    /// `<segment>.<offset>.backup`: written when a backup ends.
    BackupHistory {
        /// Where the backup began.
        segment: SegmentName,
        /// Bytes from the segment's start to the backup's start.
        offset: u32,
    },
}

impl WalFileName {
    /// Reads a file name without directories.
    pub fn parse(text: &str, size: SegmentSize) -> Result<Self> {
        let parsed = match text.split_once('.') {
            None => parse_segment(text, size).map(WalFileName::Segment),
            Some((tli, "history")) => Tli::from_hex(tli).ok().map(WalFileName::History),
            Some((segment, "partial")) => parse_segment(segment, size).map(WalFileName::Partial),
            Some((segment, rest)) => parse_segment(segment, size).and_then(|segment| {
                let offset = hex8(rest.strip_suffix(".backup")?)?;
                (u64::from(offset) < size.bytes()).then_some(WalFileName::BackupHistory { segment, offset })
            }),
        };
        parsed.ok_or_else(|| Error::malformed("the name of a WAL segment, history or backup history file", text))
    }

    /// The name that [`WalFileName::parse`] reads.
    pub fn file_name(self, size: SegmentSize) -> String {
        match self {
            WalFileName::Segment(segment) => segment.file_name(size),
            WalFileName::Partial(segment) => format!("{}.partial", segment.file_name(size)),
            WalFileName::History(timeline) => format!("{:08X}.history", timeline.0),
            WalFileName::BackupHistory { segment, offset } => {
                format!("{}.{offset:08X}.backup", segment.file_name(size))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(mebibytes: u64) -> SegmentSize {
        SegmentSize::new(mebibytes << 20).unwrap()
    }

    fn check(mebibytes: u64, lsn: &str, name: &str) {
        let lsn = lsn.parse().unwrap();
        let segment = SegmentName::holding(Tli(1), lsn, size(mebibytes));
        assert_eq!(segment.file_name(size(mebibytes)), name);
        assert_eq!(SegmentName::parse(name, size(mebibytes)), Ok(segment));
        assert!(segment.start(size(mebibytes)) <= lsn && lsn < segment.end(size(mebibytes)));
    }

    #[test]
    fn names_follow_pg_walfile_name_at_each_size() {
        check(16, "0/1000000", "000000010000000000000001");
        check(16, "0/FFFFFFFF", "0000000100000000000000FF");
        check(16, "1/0", "000000010000000100000000");
        check(1, "0/FFFFFFFF", "000000010000000000000FFF");
        check(64, "2/FFFFFFFF", "00000001000000020000003F");
        check(1024, "2/FFFFFFFF", "000000010000000200000003");
    }

    #[test]
    fn only_powers_of_two_from_one_mebibyte_to_one_gibibyte_are_sizes() {
        for wrong in [0, 1, 1 << 19, (16 << 20) + 1, 48 << 20, 1 << 31, 1 << 32, u64::MAX] {
            assert!(SegmentSize::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_of_another_segment_size_is_refused() {
        assert!(SegmentName::parse("000000010000000000000004", size(1024)).is_err());
        assert!(SegmentName::parse("000000010000000000000100", size(16)).is_err());
    }

    #[test]
    fn every_kind_of_file_in_pg_wal_is_told_apart() {
        let segment = SegmentName {
            timeline: Tli(0x1A),
            number: 3,
        };
        for (name, expect) in [
            ("0000001A0000000000000003", WalFileName::Segment(segment)),
            ("0000001A0000000000000003.partial", WalFileName::Partial(segment)),
            ("0000001A.history", WalFileName::History(Tli(26))),
            (
                "0000001A0000000000000003.00000028.backup",
                WalFileName::BackupHistory { segment, offset: 0x28 },
            ),
        ] {
            assert_eq!(WalFileName::parse(name, SegmentSize::DEFAULT), Ok(expect));
            assert_eq!(expect.file_name(SegmentSize::DEFAULT), name);
        }
        for wrong in [
            "",
            "archive_status",
            "xlogtemp.12",
            "0000001a.history",
            "0000001A0000000000000003.done",
            "0000001A0000000000000003.01000000.backup",
            "RECOVERYXLOG",
            "00000000.history",
            "0000001A000000000000000é",
        ] {
            assert!(WalFileName::parse(wrong, SegmentSize::DEFAULT).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(shift in 0u32..=10, tli in 1u32.., lsn: u64) {
            let size = size(1 << shift);
            let segment = SegmentName::holding(Tli(tli), Lsn(lsn), size);
            prop_assert_eq!(SegmentName::parse(&segment.file_name(size), size), Ok(segment));
        }

        #[test]
        fn no_text_panics(text: String, shift in 0u32..=10) {
            let _ = WalFileName::parse(&text, size(1 << shift));
        }
    }
}
