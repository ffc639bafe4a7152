//! WAL as it arrives.
//!
//! Invariants: the bytes of successive [`WalEvent::Data`] are contiguous from the requested start; and the server
//! hears as flushed only what the caller acknowledged.

use std::{io, time::Duration};

use pgformat::{
    Lsn,
    protocol::{NextTimeline, Reply, StandbyStatus, StreamMessage},
};
use postgres_protocol::message::frontend::{self, CopyData};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Replication, WalEvent, read_next_timeline, wire::Message};
use crate::{Error, Result};

/// How often the server hears from us, asked or not: of `wal_sender_timeout`, 60 seconds by default, some leave a few.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);
/// Silence after which we ask the server for an answer. It speaks by itself every half `wal_sender_timeout`.
const SILENCE_ASK: Duration = Duration::from_secs(30);
/// Silence after that question, after which the connection counts as lost, however open it looks.
const SILENCE_LOST: Duration = Duration::from_secs(60);
/// How long the socket is looked at before that verdict.
const SILENCE_LAST_LOOK: Duration = Duration::from_secs(1);
/// How long the end of a stream may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

const DOING: &str = "stream WAL";

/// A running stream. All methods may be cancelled without losing anything.
///
/// Whoever stores what comes must come back to [`WalStream::next`], or call [`WalStream::heartbeat`], more often than
/// `wal_sender_timeout` (60 seconds by default).
pub struct WalStream {
    replication: Replication,
    state: State,
    received: Lsn,
    flushed: Lsn,
    status_due: Instant,
    heard: Instant,
    asked: Option<Instant>,
    next_timeline: Option<NextTimeline>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Streaming,
    /// The server sent CopyDone; our own is queued, the next timeline's row is awaited.
    Ending,
    Ended,
}

impl std::fmt::Debug for WalStream {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "WalStream({}, received {}, flushed {})",
            self.replication.server(),
            self.received,
            self.flushed
        )
    }
}

impl WalStream {
    pub(super) fn streaming(replication: Replication, start: Lsn) -> Self {
        let now = Instant::now();
        // Nothing is claimed as flushed before the caller says so: a slot would let the server drop it.
        let flushed = Lsn::INVALID;
        Self {
            replication,
            state: State::Streaming,
            received: start,
            flushed,
            status_due: now,
            heard: now,
            asked: None,
            next_timeline: None,
        }
    }

    pub(super) fn ended(replication: Replication, start: Lsn, next: Option<NextTimeline>) -> Self {
        Self {
            state: State::Ended,
            next_timeline: next,
            ..Self::streaming(replication, start)
        }
    }

    /// Position after the last byte received.
    pub fn received(&self) -> Lsn {
        self.received
    }

    /// Says that everything before `flushed` is durable; the server may then recycle it. It hears so with
    /// the next call of [`WalStream::next`] or [`WalStream::heartbeat`]. Never goes back.
    pub fn acknowledge(&mut self, flushed: Lsn) {
        // More than was received cannot be durable by this stream's doing.
        let flushed = flushed.min(self.received);
        if flushed > self.flushed {
            self.flushed = flushed;
            self.status_due = Instant::now();
        }
    }

    /// Waits for what comes next, and meanwhile keeps the server assured that we live.
    ///
    /// # Errors
    /// [`Error::ConnectionLost`] also for a server that shuts down or stays silent when asked;
    /// [`Error::Server`] with SQLSTATE; [`Error::Protocol`] if WAL is missing in between.
    pub async fn next(&mut self) -> Result<WalEvent> {
        loop {
            if self.state == State::Ending {
                self.finish().await?;
            }
            if self.state == State::Ended {
                return Ok(self.end_event());
            }
            if let Some(message) = self.replication.wire.buffered()? {
                self.heard = Instant::now();
                self.asked = None;
                if let Some(event) = self.take(message)? {
                    return Ok(event);
                }
                continue;
            }
            self.wait().await?;
        }
    }

    /// Sends our status now if it is due; for callers that are busy for long.
    pub async fn heartbeat(&mut self) -> Result<()> {
        if self.state != State::Streaming {
            return Ok(());
        }
        if Instant::now() >= self.status_due {
            self.enqueue_status(Reply::NotNeeded)?;
        }
        self.replication.wire.flush(DOING).await
    }

    /// Asks the server for a keepalive; it goes out with the next call of [`WalStream::next`] or
    /// [`WalStream::heartbeat`]. One question at a time: while an answer is awaited, this does nothing.
    pub fn ask(&mut self) -> Result<()> {
        if self.state == State::Streaming && self.asked.is_none() {
            self.asked = Some(Instant::now());
            self.enqueue_status(Reply::Requested)?;
        }
        Ok(())
    }

    /// Ends the stream in order and gives the connection back for other commands. What the server had
    /// under way is dropped.
    pub async fn stop(mut self) -> Result<Replication> {
        if self.state == State::Streaming {
            self.enqueue_status(Reply::NotNeeded)?;
            self.end_our_side()?;
        }
        if self.state == State::Ending {
            self.finish().await?;
        }
        Ok(self.replication)
    }

    /// One step of waiting: bytes come, or the time to speak has come.
    async fn wait(&mut self) -> Result<()> {
        let now = Instant::now();
        if self
            .asked
            .is_some_and(|asked| now.duration_since(asked) >= SILENCE_LOST)
        {
            // The caller may have been away meanwhile, and the answer lies in the socket.
            return match timeout(SILENCE_LAST_LOOK, self.replication.wire.receive(DOING)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(self.silent(SILENCE_LOST)),
            };
        }
        if self.asked.is_none() && now.duration_since(self.heard) >= SILENCE_ASK {
            self.asked = Some(now);
            self.enqueue_status(Reply::Requested)?;
        } else if now >= self.status_due {
            self.enqueue_status(Reply::NotNeeded)?;
        }
        let wire = &mut self.replication.wire;
        let exchange = async {
            wire.flush(DOING).await?;
            wire.receive(DOING).await
        };
        tokio::select! {
            outcome = exchange => outcome,
            () = sleep_until(self.status_due) => Ok(()),
        }
    }

    /// One message of the stream.
    fn take(&mut self, message: Message) -> Result<Option<WalEvent>> {
        let wire = &self.replication.wire;
        match message.tag {
            b'd' => {}
            b'c' => {
                self.end_our_side()?;
                return Ok(None);
            }
            b'E' => return Err(wire.reported(DOING, &message.body)),
            // A server that shuts down ends the command without ending the stream (walsender.c, WalSndDone).
            b'C' => return Err(wire.lost(DOING, io::Error::other("the server is shutting down"))),
            b'N' | b'S' => return Ok(None),
            _ => return Err(wire.unexpected(DOING, &message)),
        }
        match StreamMessage::parse(&message.body).map_err(|error| wire.protocol(error.to_string()))? {
            StreamMessage::Wal {
                start,
                server_end,
                sent_micros,
                bytes,
            } => {
                if start != self.received {
                    return Err(wire.protocol(format!("WAL from {start} where {} was next", self.received)));
                }
                self.received = start.saturating_add(bytes.len() as u64);
                let bytes = message.body.slice_ref(bytes);
                Ok(Some(WalEvent::Data {
                    start,
                    bytes,
                    server_end,
                    sent_micros,
                }))
            }
            StreamMessage::Keepalive {
                server_end,
                sent_micros,
                reply_requested,
            } => {
                if reply_requested {
                    self.status_due = Instant::now();
                }
                Ok(Some(WalEvent::Keepalive {
                    server_end,
                    sent_micros,
                    asks: reply_requested,
                }))
            }
        }
    }

    fn enqueue_status(&mut self, reply: Reply) -> Result<()> {
        let status = StandbyStatus {
            written: self.received,
            flushed: self.flushed,
            // We replay nothing; pg_receivewal says the same.
            applied: Lsn::INVALID,
            sent_micros: now_micros(),
            reply,
        };
        self.status_due = Instant::now() + STATUS_INTERVAL;
        self.replication.wire.enqueue(|out| {
            CopyData::new(status.encode().as_slice())?.write(out);
            Ok(())
        })
    }

    fn end_our_side(&mut self) -> Result<()> {
        self.state = State::Ending;
        self.replication.wire.enqueue(|out| {
            frontend::copy_done(out);
            Ok(())
        })
    }

    /// Reads what follows the end of the stream, up to where commands are taken again. A cancelled call
    /// is taken up again by the next one.
    async fn finish(&mut self) -> Result<()> {
        let ended = timeout(STOP_TIMEOUT, async {
            loop {
                let wire = &mut self.replication.wire;
                let message = wire.next(DOING).await?;
                match message.tag {
                    b'd' | b'c' | b'T' | b'C' => {}
                    b'D' => self.next_timeline = Some(read_next_timeline(wire, &message.body)?),
                    b'Z' => return Ok(()),
                    b'E' => return Err(wire.reported(DOING, &message.body)),
                    _ => return Err(wire.unexpected(DOING, &message)),
                }
            }
        });
        ended.await.unwrap_or_else(|_| Err(self.silent(STOP_TIMEOUT)))?;
        self.state = State::Ended;
        Ok(())
    }

    fn end_event(&self) -> WalEvent {
        WalEvent::EndOfTimeline {
            next: self.next_timeline.map(|next| next.timeline),
            switch: self.next_timeline.map_or(self.received, |next| next.switch),
        }
    }

    fn silent(&self, duration: Duration) -> Error {
        let what = format!("nothing was heard for {} seconds", duration.as_secs());
        self.replication
            .wire
            .lost(DOING, io::Error::new(io::ErrorKind::TimedOut, what))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the server only shows this time to people; nothing is decided by it"
)]
fn now_micros() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
