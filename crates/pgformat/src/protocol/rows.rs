//! The rows that answer replication commands. Columns come as text, `None` for NULL.

use crate::bytes::decimal;
use crate::error::{Error, Result};
use crate::segment::{SegmentSize, WalFileName};
use crate::{Lsn, Tli};

const WHAT: &str = "the server's answer";

/// The answer to IDENTIFY_SYSTEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemIdentity {
    /// Which cluster it is.
    pub system_identifier: u64,
    /// Its current timeline.
    pub timeline: Tli,
    /// How far its WAL is flushed; on a standby, received and replayed.
    pub flushed: Lsn,
}

impl SystemIdentity {
    /// Columns: systemid, timeline, xlogpos, dbname.
    pub fn parse(row: &[Option<&str>]) -> Result<Self> {
        let identifier = column(row, 0, "systemid")?;
        let plain = identifier.bytes().all(|byte| byte.is_ascii_digit());
        Ok(SystemIdentity {
            system_identifier: identifier
                .parse()
                .ok()
                .filter(|_| plain)
                .ok_or_else(|| wrong("systemid", identifier))?,
            timeline: timeline(row, 1, "timeline")?,
            flushed: position(row, 2, "xlogpos")?,
        })
    }
}

/// The answer at the end of a timeline's WAL, after the server ended the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextTimeline {
    /// The timeline that follows.
    pub timeline: Tli,
    /// Where it begins.
    pub switch: Lsn,
}

impl NextTimeline {
    /// Columns: next_tli, next_tli_startpos.
    pub fn parse(row: &[Option<&str>]) -> Result<Self> {
        Ok(NextTimeline {
            timeline: timeline(row, 0, "next_tli")?,
            switch: position(row, 1, "next_tli_startpos")?,
        })
    }
}

/// The answer to CREATE_REPLICATION_SLOT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedSlot {
    /// Its name.
    pub name: String,
    /// `consistent_point`; 0/0 for physical slots, whose reserved position is the redo position of
    /// the latest checkpoint.
    pub consistent: Lsn,
}

impl CreatedSlot {
    /// Columns: slot_name, consistent_point, snapshot_name, output_plugin.
    pub fn parse(row: &[Option<&str>]) -> Result<Self> {
        let name = column(row, 0, "slot_name")?.to_owned();
        Ok(CreatedSlot {
            name,
            consistent: position(row, 1, "consistent_point")?,
        })
    }
}

/// The answer to TIMELINE_HISTORY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineHistoryFile {
    /// The timeline.
    pub timeline: Tli,
    /// The file, byte for byte.
    pub content: Vec<u8>,
}

impl TimelineHistoryFile {
    /// Columns: filename, content. The content is raw bytes in spite of its declared type.
    pub fn parse(row: &[Option<&[u8]>]) -> Result<Self> {
        let name = row
            .first()
            .copied()
            .flatten()
            .map(String::from_utf8_lossy)
            .ok_or_else(|| missing("filename"))?;
        let content = row
            .get(1)
            .copied()
            .flatten()
            .ok_or_else(|| missing("content"))?
            .to_vec();
        match WalFileName::parse(&name, SegmentSize::DEFAULT) {
            Ok(WalFileName::History(timeline)) => Ok(TimelineHistoryFile { timeline, content }),
            _ => Err(wrong("filename", &name)),
        }
    }
}

fn column<'a>(row: &[Option<&'a str>], at: usize, name: &str) -> Result<&'a str> {
    row.get(at).copied().flatten().ok_or_else(|| missing(name))
}

fn timeline(row: &[Option<&str>], at: usize, name: &str) -> Result<Tli> {
    let text = column(row, at, name)?;
    decimal(text)
        .filter(|tli| *tli > 0)
        .map(Tli)
        .ok_or_else(|| wrong(name, text))
}

fn position(row: &[Option<&str>], at: usize, name: &str) -> Result<Lsn> {
    let text = column(row, at, name)?;
    text.parse().map_err(|_| wrong(name, text))
}

fn missing(name: &str) -> Error {
    Error::damaged(WHAT, format!("column {name} is missing"))
}

fn wrong(name: &str, text: &str) -> Error {
    Error::damaged(WHAT, format!("column {name} is {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_server_is_identified() {
        let row = [Some("7710395582684456831"), Some("10"), Some("0/51CB808"), None];
        let expect = SystemIdentity {
            system_identifier: 7_710_395_582_684_456_831,
            timeline: Tli(10),
            flushed: Lsn(0x51C_B808),
        };
        assert_eq!(SystemIdentity::parse(&row), Ok(expect));
        for wrong in [
            [Some("-1"), Some("1"), Some("0/0")],
            [Some("1"), Some("0"), Some("0/0")],
            [Some("1"), Some("1"), None],
            [Some("+1"), Some("1"), Some("0/0")],
            [Some(""), Some("1"), Some("0/0")],
        ] {
            assert!(SystemIdentity::parse(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_end_of_a_timeline_names_the_next_one() {
        let expect = NextTimeline {
            timeline: Tli(2),
            switch: Lsn(0x5000098),
        };
        assert_eq!(NextTimeline::parse(&[Some("2"), Some("0/5000098")]), Ok(expect));
    }

    #[test]
    fn a_history_file_is_taken_byte_for_byte() {
        let row: [Option<&[u8]>; 2] = [Some(b"0000000A.history"), Some(b"1\t0/1\t\xFF\n")];
        let file = TimelineHistoryFile::parse(&row).unwrap();
        assert_eq!(
            (file.timeline, file.content.as_slice()),
            (Tli(10), b"1\t0/1\t\xFF\n".as_slice())
        );
        assert!(TimelineHistoryFile::parse(&[Some(b"../../x".as_slice()), Some(b"".as_slice())]).is_err());
    }

    proptest! {
        #[test]
        fn no_row_panics(row: Vec<Option<String>>) {
            let row: Vec<Option<&str>> = row.iter().map(Option::as_deref).collect();
            let _ = (SystemIdentity::parse(&row), NextTimeline::parse(&row), CreatedSlot::parse(&row));
            let bytes: Vec<Option<&[u8]>> = row.iter().map(|text| text.map(str::as_bytes)).collect();
            let _ = TimelineHistoryFile::parse(&bytes);
        }
    }
}
