//! Messages of the frontend/backend protocol, framed over a transport.
//!
//! Source: PostgreSQL's documentation, "Frontend/Backend Protocol". Protocol 3.0, which all versions speak.
//!
//! Invariant: reading and writing may be cancelled at any await without losing or repeating a byte; what
//! is half read or half written stays in the buffers.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::backend::Header;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fields::ErrorFields;
use crate::{Error, Result, transport::Transport};

/// No message of a server that has authenticated us is larger: the largest are WAL (16 WAL pages, so at most
/// 1 MiB: `MAX_SEND_SIZE`, walsender.c) and timeline histories (one line per timeline).
pub(super) const MAX_MESSAGE: usize = 16 << 20;
/// What a server may send before it has proven anything (libpq allows 30000 for its errors).
pub(super) const MAX_MESSAGE_UNTRUSTED: usize = 64 << 10;
/// How much is read at once.
const READ_CHUNK: usize = 64 << 10;

/// One message of the server.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) tag: u8,
    pub(super) body: Bytes,
}

/// A connection cut into messages.
pub(super) struct Wire {
    transport: Transport,
    incoming: BytesMut,
    outgoing: BytesMut,
    limit: usize,
    pub(super) server: String,
}

impl Wire {
    pub(super) fn new(transport: Transport, server: String) -> Self {
        Self {
            transport,
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            limit: MAX_MESSAGE_UNTRUSTED,
            server,
        }
    }

    /// From now on the server is trusted with larger messages.
    pub(super) fn trust(&mut self) {
        self.limit = MAX_MESSAGE;
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Puts messages into the queue; [`Self::flush`], or waiting for an answer, sends them.
    pub(super) fn enqueue(&mut self, build: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<()> {
        build(&mut self.outgoing).map_err(|error| self.protocol(format!("a message cannot be built: {error}")))
    }

    /// Sends all that is queued.
    pub(super) async fn flush(&mut self, doing: &str) -> Result<()> {
        let outcome = async {
            while self.outgoing.has_remaining() {
                if self.transport.write_buf(&mut self.outgoing).await? == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
            }
            self.transport.flush().await
        };
        let outcome: io::Result<()> = outcome.await;
        outcome.map_err(|error| self.lost(doing, error))
    }

    /// A message that has arrived whole already.
    pub(super) fn buffered(&mut self) -> Result<Option<Message>> {
        let header = Header::parse(&self.incoming).map_err(|error| self.protocol(error.to_string()))?;
        let Some(header) = header else { return Ok(None) };
        // The length counts itself but not the tag.
        let length = usize::try_from(header.len()).unwrap_or(usize::MAX);
        if length > self.limit {
            return Err(self.protocol(format!(
                "a message of {length} bytes, more than the {} allowed",
                self.limit
            )));
        }
        if self.incoming.len() <= length {
            return Ok(None);
        }
        let mut message = self.incoming.split_to(length.saturating_add(1)).freeze();
        message.advance(5);
        Ok(Some(Message {
            tag: header.tag(),
            body: message,
        }))
    }

    /// Reads what is there, at least one byte.
    pub(super) async fn receive(&mut self, doing: &str) -> Result<()> {
        self.incoming.reserve(READ_CHUNK);
        match self.transport.read_buf(&mut self.incoming).await {
            Ok(0) => Err(self.lost(
                doing,
                io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it"),
            )),
            Ok(_) => Ok(()),
            Err(error) => Err(self.lost(doing, error)),
        }
    }

    /// The next message other than notices and changed parameters, which may come at any time.
    pub(super) async fn next(&mut self, doing: &str) -> Result<Message> {
        self.flush(doing).await?;
        loop {
            match self.buffered()? {
                Some(Message {
                    tag: b'N' | b'S' | b'A',
                    ..
                }) => {}
                Some(message) => return Ok(message),
                None => self.receive(doing).await?,
            }
        }
    }

    /// An ErrorResponse as an error of ours.
    pub(super) fn reported(&self, doing: &str, body: &[u8]) -> Error {
        let fields = ErrorFields::parse(body);
        // Class 57P: the server ends the connection (shutdown, terminated by an administrator).
        if fields.sqlstate.starts_with("57P") {
            return self.lost(doing, io::Error::other(fields.message));
        }
        Error::Server {
            doing: doing.to_owned(),
            sqlstate: fields.sqlstate,
            message: fields.message,
        }
    }

    pub(super) fn lost(&self, doing: &str, source: io::Error) -> Error {
        Error::ConnectionLost {
            server: self.server.clone(),
            doing: doing.to_owned(),
            source: source.into(),
        }
    }

    pub(super) fn protocol(&self, what: impl Into<String>) -> Error {
        Error::Protocol {
            server: self.server.clone(),
            what: what.into(),
        }
    }

    pub(super) fn unexpected(&self, doing: &str, message: &Message) -> Error {
        self.protocol(format!(
            "a message of type {:?} where it was to {doing}",
            char::from(message.tag)
        ))
    }
}
