//! The physical replication protocol: commands, the rows that answer them, and messages in a stream.
//!
//! Described in the chapter "Streaming Replication Protocol" of the documentation. Integers here are
//! in network byte order, and times are microseconds since 2000-01-01 UTC.

mod command;
mod rows;

pub use command::{
    Command, SlotName, create_permanent_physical_slot, create_temporary_physical_slot, drop_slot, read_slot,
    start_replication, timeline_history,
};
pub use rows::{CreatedSlot, NextTimeline, SystemIdentity, TimelineHistoryFile};

use crate::Lsn;
use crate::bytes::network_u64_at;
use crate::error::{Error, Result};

/// Microseconds from 1970-01-01 to 2000-01-01, UTC.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// What the server sends inside CopyData while it streams WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamMessage<'a> {
    /// WAL (`w`, XLogData). It may begin and end anywhere, within a record or a page.
    Wal {
        /// Position of the first byte of `bytes`.
        start: Lsn,
        /// How far the server's WAL reached when it sent this.
        server_end: Lsn,
        /// When: microseconds since 1970-01-01 UTC by the server's clock.
        sent_micros: i64,
        /// The WAL.
        bytes: &'a [u8],
    },
    /// A sign of life (`k`).
    Keepalive {
        /// How far the server's WAL reaches.
        server_end: Lsn,
        /// When: microseconds since 1970-01-01 UTC by the server's clock.
        sent_micros: i64,
        /// The server wants a [`StandbyStatus`] now, else it gives up the connection.
        reply_requested: bool,
    },
}

impl<'a> StreamMessage<'a> {
    /// Reads the payload of one CopyData message.
    pub fn parse(payload: &'a [u8]) -> Result<Self> {
        let short = || Error::damaged("a replication message", "it is too short");
        let number = |at| network_u64_at(payload, at).ok_or_else(short);
        let time = |at| number(at).map(|micros| micros.cast_signed().saturating_add(EPOCH_MICROS));
        match payload.first() {
            Some(b'w') => {
                let bytes = payload.get(25..).ok_or_else(short)?;
                let start = Lsn(number(1)?);
                if start.checked_add(bytes.len() as u64).is_none() {
                    return Err(Error::damaged(
                        "a replication message",
                        format!("no WAL lies at {start}"),
                    ));
                }
                Ok(StreamMessage::Wal {
                    start,
                    server_end: Lsn(number(9)?),
                    sent_micros: time(17)?,
                    bytes,
                })
            }
            Some(b'k') => Ok(StreamMessage::Keepalive {
                server_end: Lsn(number(1)?),
                sent_micros: time(9)?,
                reply_requested: *payload.get(17).ok_or_else(short)? != 0,
            }),
            Some(other) => Err(Error::unsupported(
                "a replication message",
                format!("type {:?}", char::from(*other)),
            )),
            None => Err(short()),
        }
    }
}

/// How far we are; sent inside CopyData (`r`).
///
/// The server may recycle WAL before `flushed` as soon as it has read this: say only what is durable
/// in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandbyStatus {
    /// After the last byte received.
    pub written: Lsn,
    /// After the last byte that is durable.
    pub flushed: Lsn,
    /// After the last byte replayed; 0/0 for one that replays nothing.
    pub applied: Lsn,
    /// When: microseconds since 1970-01-01 UTC by our clock.
    pub sent_micros: i64,
    /// Whether the server shall answer at once.
    pub reply: Reply,
}

/// Whether an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// No.
    NotNeeded,
    /// Yes, at once.
    Requested,
}

impl StandbyStatus {
    /// The payload of a CopyData message.
    pub fn encode(&self) -> [u8; 34] {
        let mut payload = [0; 34];
        payload[0] = b'r';
        payload[1..9].copy_from_slice(&self.written.0.to_be_bytes());
        payload[9..17].copy_from_slice(&self.flushed.0.to_be_bytes());
        payload[17..25].copy_from_slice(&self.applied.0.to_be_bytes());
        payload[25..33].copy_from_slice(&self.sent_micros.saturating_sub(EPOCH_MICROS).to_be_bytes());
        payload[33] = u8::from(self.reply == Reply::Requested);
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u8, numbers: &[u64], rest: &[u8]) -> Vec<u8> {
        let numbers = numbers.iter().flat_map(|number| number.to_be_bytes());
        std::iter::once(kind)
            .chain(numbers)
            .chain(rest.iter().copied())
            .collect()
    }

    #[test]
    fn wal_is_taken_with_its_position() {
        let payload = message(b'w', &[0x1_0000_0028, 0x1_0000_0030, 1], b"abc");
        assert_eq!(
            StreamMessage::parse(&payload),
            Ok(StreamMessage::Wal {
                start: Lsn(0x1_0000_0028),
                server_end: Lsn(0x1_0000_0030),
                sent_micros: 946_684_800_000_001,
                bytes: b"abc",
            })
        );
    }

    #[test]
    fn a_keepalive_tells_whether_it_wants_an_answer() {
        for (flag, reply_requested) in [(0, false), (1, true)] {
            let expect = StreamMessage::Keepalive {
                server_end: Lsn(7),
                sent_micros: EPOCH_MICROS,
                reply_requested,
            };
            assert_eq!(StreamMessage::parse(&message(b'k', &[7, 0], &[flag])), Ok(expect));
        }
    }

    #[test]
    fn a_message_cut_short_is_damaged_and_an_unknown_one_refused() {
        for payload in [
            vec![],
            message(b'w', &[1, 2], b""),
            message(b'k', &[1, 2], b""),
            message(b'w', &[u64::MAX, 1, 1], b"ab"),
        ] {
            assert!(
                matches!(StreamMessage::parse(&payload), Err(Error::Damaged { .. })),
                "{payload:?}"
            );
        }
        assert!(matches!(StreamMessage::parse(b"x"), Err(Error::Unsupported { .. })));
    }

    #[test]
    fn a_status_says_the_three_positions_in_order() {
        let status = StandbyStatus {
            written: Lsn(3),
            flushed: Lsn(2),
            applied: Lsn(1),
            sent_micros: EPOCH_MICROS + 9,
            reply: Reply::Requested,
        };
        assert_eq!(status.encode().to_vec(), message(b'r', &[3, 2, 1, 9], &[1]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(payload: Vec<u8>, kind in 0usize..3) {
            let _ = StreamMessage::parse(&payload);
            let typed = [&b"wkx"[kind..=kind], payload.as_slice()].concat();
            let _ = StreamMessage::parse(&typed);
        }
    }
}
