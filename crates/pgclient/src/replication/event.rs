//! What a WAL stream gives.

use bytes::Bytes;
use pgformat::{Lsn, Tli};

/// What comes out of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalEvent {
    /// WAL, beginning exactly where the last one ended.
    Data {
        /// Position of the first byte.
        start: Lsn,
        /// The bytes; they may begin and end anywhere.
        bytes: Bytes,
        /// How far the server's WAL was flushed.
        server_end: Lsn,
        /// When it was sent, by the server's clock: microseconds since 1970-01-01 UTC.
        sent_micros: i64,
    },
    /// Nothing new, but the server lives.
    Keepalive {
        /// How far the server has sent its WAL.
        server_end: Lsn,
        /// When it said so, by its clock: microseconds since 1970-01-01 UTC.
        sent_micros: i64,
        /// Whether it wants to be told at once what is durable here: it has not heard of us for long, or it stops and waits
        /// for that.
        asks: bool,
    },
    /// The timeline ended; WAL goes on elsewhere. Nothing follows this.
    EndOfTimeline {
        /// The timeline that goes on; `None` if the server does not say.
        next: Option<Tli>,
        /// Where the next one begins; the last bytes received may lie beyond it only if the server was
        /// promoted without us.
        switch: Lsn,
    },
}
